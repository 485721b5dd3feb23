/* SPDX-License-Identifier: MIT */
/* frames URI serve [COUNT] -- a server that turns grey pictures into negatives
   frames URI ask           -- asks for one; neither picture is ever copied: each side works on the channel's own memory */
#include <naru/call.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 480, FRAME_BYTES = WIDTH * HEIGHT };

static int serve(struct naru_endpoint *frames, int most)
{
    struct naru_message request;
    void *room;

    while (most-- > 0 && naru_take(frames, &request, 20 * NARU_SECOND) == 0) {
        const unsigned char *from = request.data;
        if (naru_reply_loan(frames, &request, request.size_bytes, &room) < 0)
            return fprintf(stderr, "frames: %s\n", naru_error_text()), 1;
        unsigned char *to = room;
        for (size_t i = 0; i < request.size_bytes; i++)
            to[i] = (unsigned char)(255 - from[i]);
        naru_reply(frames, &request, room, request.size_bytes); /* -EPIPE: whoever asked is gone */
    }
    return 0;
}

static int ask(struct naru_endpoint *frames)
{
    struct naru_message picture;
    struct naru_call call = {.size_bytes = sizeof call, .loan = &picture, .in_place = 1};

    if (naru_loan(frames, FRAME_BYTES, &picture, NARU_SECOND) < 0)
        return fprintf(stderr, "frames: %s\n", naru_error_text()), 1;
    memset(picture.data, 40, FRAME_BYTES); /* a camera would write it there */
    if (naru_call(frames, &call, 10 * NARU_SECOND) < 0) {
        fprintf(stderr, "frames: %s\n", naru_error_text());
        return 1; /* a loan that was not sent ends with the endpoint */
    }
    const unsigned char *negative = call.reply;
    printf("%zu bytes, the first is %d, the last %d\n", call.reply_size_bytes, negative[0],
           negative[call.reply_size_bytes - 1]);
    return naru_call_cancel(frames, &call) < 0; /* the reply is given back */
}

int main(int argc, char **argv)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .pattern = NARU_CALL,
        .message_size_max_bytes = FRAME_BYTES,
        .capacity_messages = 4,
    };
    struct naru_endpoint *frames;
    int serves = argc > 2 && strcmp(argv[2], "serve") == 0;

    if (argc < 3)
        return fprintf(stderr, "frames URI serve [COUNT] | ask\n"), 2;
    if (naru_open(&frames, argv[1], serves ? NARU_RECEIVER : NARU_SENDER, &options) < 0)
        return fprintf(stderr, "frames: %s\n", naru_error_text()), 1;
    int result = serves ? serve(frames, argc > 3 ? atoi(argv[3]) : 1000000) : ask(frames);
    naru_close(frames);
    return result;
}
