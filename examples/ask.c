/* SPDX-License-Identifier: MIT */
/* ask URI QUESTION... -- a client: all questions at once, then the answers in order; see calculator.c */
#include <errno.h>
#include <naru/call.h>
#include <stdio.h>
#include <string.h>

enum { QUESTIONS_MOST = 16 };

int main(int argc, char **argv)
{
    struct naru_options options = {.size_bytes = sizeof options, .pattern = NARU_CALL};
    struct naru_call calls[QUESTIONS_MOST] = {0};
    char answers[QUESTIONS_MOST][64];
    struct naru_endpoint *server;
    int wrong = 0, count = argc - 2;

    if (count < 1 || count > QUESTIONS_MOST)
        return fprintf(stderr, "ask URI QUESTION...\n"), 2;
    if (naru_open(&server, argv[1], NARU_SENDER, &options) < 0)
        return fprintf(stderr, "ask: %s\n", naru_error_text()), 1;
    for (int i = 0; i < count; i++) {
        calls[i] = (struct naru_call){
            .size_bytes = sizeof calls[i],
            .request = argv[i + 2],
            .request_size_bytes = strlen(argv[i + 2]),
            .reply = answers[i],
            .reply_capacity_bytes = sizeof answers[i],
        };
        if (naru_call_begin(server, &calls[i], NARU_SECOND) < 0)
            wrong = fprintf(stderr, "ask: %s\n", naru_error_text());
    }
    for (int i = 0; i < count && !wrong; i++) {
        int result = naru_call_end(server, &calls[i], 10 * NARU_SECOND);
        int length = (int)calls[i].reply_size_bytes;
        if (result == 0)
            printf("%s = %.*s\n", argv[i + 2], length, answers[i]);
        else if (result == -EREMOTEIO)
            printf("%s: error %d: %.*s\n", argv[i + 2], (int)calls[i].error, length, answers[i]);
        else
            wrong = fprintf(stderr, "ask: %s\n", naru_error_text());
    }
    naru_close(server);
    return wrong ? 1 : 0;
}
