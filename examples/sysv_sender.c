/* SPDX-License-Identifier: MIT */
/*
 * sysv_sender [KEY] -- puts three messages into the System V queue 1234, where sysv_receiver finds them
 *
 * The queue is an ordinary one: `ipcs -q` shows it, and any program that uses msgrcv(2) can read it.
 */
#include <naru/endpoint.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const char *const texts[] = {"milk", "bread", "that is all"};
    struct naru_endpoint *queue;
    char uri[64];

    snprintf(uri, sizeof uri, "sysv://%s", argc > 1 ? argv[1] : "1234");
    if (naru_open(&queue, uri, NARU_SENDER, NULL) < 0) { /* made, if it is not there */
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        struct iovec part = {(void *)texts[i], strlen(texts[i])};
        struct naru_message attributes = {.type =
                                              i + 1}; /* a System V message has a type, 1 or more */
        if (naru_sendv(queue, &part, 1, &attributes, 5 * NARU_SECOND) < 0) {
            fprintf(stderr, "%s\n", naru_error_text());
            return 1;
        }
        printf("sent of type %d: %s\n", i + 1, texts[i]);
    }
    naru_close(queue);
    return 0;
}
