/* SPDX-License-Identifier: MIT */
/* tcp_echo server [ADDRESS] | client [ADDRESS [MESSAGE]] -- an echo of whole messages; use two shells */
#include <naru/endpoint.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *who)
{
    return fprintf(stderr, "%s: %s\n", who, naru_error_text()), 1;
}

static int serve(struct naru_endpoint *socket)
{
    char text[1000];
    size_t size_bytes;
    int echoed = 0;

    while (naru_recv(socket, text, sizeof text, &size_bytes, 20 * NARU_SECOND) == 0) {
        if (naru_send(socket, text, size_bytes, 5 * NARU_SECOND) < 0)
            return failed("server");
        printf("server: echoed \"%.*s\"\n", (int)size_bytes, text);
        echoed++;
    }
    printf("server: %s\n", naru_error_text());
    return echoed == 0;
}

static int ask(struct naru_endpoint *socket, const char *text)
{
    char echo[1000];
    size_t size_bytes;

    if (naru_send(socket, text, strlen(text), 5 * NARU_SECOND) < 0 ||
        naru_recv(socket, echo, sizeof echo, &size_bytes, 5 * NARU_SECOND) < 0)
        return failed("client");
    printf("client: \"%s\" came back as \"%.*s\"\n", text, (int)size_bytes, echo);
    return size_bytes != strlen(text) || memcmp(text, echo, size_bytes) != 0;
}

int main(int argc, char **argv)
{
    int is_server = argc > 1 && strcmp(argv[1], "server") == 0;
    struct naru_options options = {.size_bytes = sizeof options,
                                   .create = is_server ? NARU_CREATE : NARU_ATTACH};
    struct naru_endpoint *socket;
    char uri[100];

    snprintf(uri, sizeof uri, "tcp://%s", argc > 2 ? argv[2] : "127.0.0.1:7007");
    if (argc < 2 || naru_open(&socket, uri, NARU_BOTH, &options) < 0)
        return failed(argc < 2 ? "tcp_echo server | client" : argv[1]);
    int wrong = is_server ? serve(socket) : ask(socket, argc > 3 ? argv[3] : "hello over there");
    naru_close(socket);
    return wrong;
}
