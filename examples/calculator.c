/* SPDX-License-Identifier: MIT */
/* calculator [URI [COUNT]] -- a server: answers "12 * 3" with "36", COUNT times, or until nobody asks for 20 seconds.
   Start several: each request goes to one, and what one had in hand when it died goes to another. */
#include <naru/call.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text of the result, or NULL: not understood. */
static const char *calculate(const char *text, char result[32])
{
    double a, b;
    char sign;

    if (sscanf(text, "%lf %c %lf", &a, &sign, &b) != 3 || !strchr("+-*/", sign))
        return NULL;
    a = sign == '+' ? a + b : sign == '-' ? a - b : sign == '*' ? a * b : a / b;
    snprintf(result, 32, "%g", a);
    return result;
}

int main(int argc, char **argv)
{
    struct naru_options options = {.size_bytes = sizeof options, .pattern = NARU_CALL};
    struct naru_endpoint *sums;
    struct naru_message request;
    int answered = 0, most = argc > 2 ? atoi(argv[2]) : 1000000;

    if (naru_open(&sums, argc > 1 ? argv[1] : "shm://sums", NARU_RECEIVER, &options) < 0) {
        fprintf(stderr, "calculator: %s\n", naru_error_text());
        return 1;
    }
    while (answered < most && naru_take(sums, &request, 20 * NARU_SECOND) == 0) {
        static const char complaint[] = "not of the form 12 * 3";
        char text[64], result[32];
        snprintf(text, sizeof text, "%.*s", (int)request.size_bytes, (const char *)request.data);
        const char *answer = calculate(text, result);
        /* -EPIPE: whoever asked has given up, or is gone. */
        if (answer)
            naru_reply(sums, &request, answer, strlen(answer));
        else
            naru_reply_error(sums, &request, 1, complaint, strlen(complaint));
        answered++;
    }
    printf("calculator: %d answered\n", answered);
    naru_close(sums);
    return 0;
}
