/* SPDX-License-Identifier: MIT */
/* unix_echo [PATH] -- a server behind a unix socket sends back whatever a client says, in capitals */
#include <ctype.h>
#include <naru/endpoint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int client(const char *uri)
{
    static const char *const words[] = {"one", "",
                                        "two and three"}; /* an empty message is one, too */
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_ATTACH};
    struct naru_endpoint *socket;
    char echo[64];
    size_t size_bytes;

    if (naru_open(&socket, uri, NARU_BOTH, &options) < 0) /* waits for the server, if need be */
        goto failed;
    for (int i = 0; i < 3; i++) {
        if (naru_send(socket, words[i], strlen(words[i]), 5 * NARU_SECOND) < 0 ||
            naru_recv(socket, echo, sizeof echo, &size_bytes, 5 * NARU_SECOND) < 0)
            goto failed;
        printf("client: \"%s\" came back as \"%.*s\"\n", words[i], (int)size_bytes, echo);
        if (size_bytes != strlen(words[i]) || strncasecmp(echo, words[i], size_bytes) != 0)
            return 1;
    }
    fflush(stdout);
    naru_close(socket);
    return 0;
failed:
    fprintf(stderr, "client: %s\n", naru_error_text());
    return 1;
}

int main(int argc, char **argv)
{
    struct naru_options options = {.size_bytes = sizeof options, .create = NARU_CREATE};
    struct naru_endpoint *socket;
    char uri[128], text[64];
    size_t size_bytes;
    int result, echoed = 0, status = 1;

    snprintf(uri, sizeof uri, "unix://%s", argc > 1 ? argv[1] : "/tmp/naru-example-echo");
    if (fork() == 0)
        _exit(client(uri));
    if (naru_open(&socket, uri, NARU_BOTH, &options) < 0) /* who creates it, listens */
        return fprintf(stderr, "server: %s\n", naru_error_text()), 1;
    while ((result = naru_recv(socket, text, sizeof text, &size_bytes, 5 * NARU_SECOND)) == 0) {
        for (size_t i = 0; i < size_bytes; i++)
            text[i] = (char)toupper((unsigned char)text[i]);
        if (naru_send(socket, text, size_bytes, 5 * NARU_SECOND) < 0)
            break;
        echoed++;
    }
    printf("server: echoed %d messages, then: %s\n", echoed,
           naru_error_text()); /* -EPIPE: it left */
    naru_close(socket);
    wait(&status);
    return echoed != 3 || status != 0;
}
