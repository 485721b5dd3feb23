/* SPDX-License-Identifier: MIT */
/* sysv_receiver [KEY] -- reads what sysv_sender put into the System V queue 1234, and removes the queue */
#include <naru/endpoint.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct naru_endpoint *queue;
    int64_t type = 0, expected = 1;
    char uri[64], text[256] = "";

    snprintf(uri, sizeof uri, "sysv://%s", argc > 1 ? argv[1] : "1234");
    if (naru_open(&queue, uri, NARU_RECEIVER, NULL) < 0) {
        fprintf(stderr, "%s\n", naru_error_text());
        return 1;
    }
    while (strcmp(text, "that is all") != 0) {
        struct naru_message message = {.data = text, .capacity_bytes = sizeof text - 1};
        if (naru_recv_many(queue, &message, 1, 10 * NARU_SECOND) < 0) {
            fprintf(stderr, "%s\n", naru_error_text());
            return 1;
        }
        text[message.size_bytes] = '\0';
        type = message.type;
        printf("got of type %lld: %s\n", (long long)type, text);
        if (type != expected++)
            return 1;
    }
    naru_close(queue);
    return naru_unlink(uri) < 0 || type != 3;
}
