/* SPDX-License-Identifier: MIT */
#include "fault_scene.h"
#include <string.h>
#include <unistd.h>

struct nr_scene nr_scene;

struct naru_options nr_scene_options(enum naru_create create)
{
    return (struct naru_options){
        .size_bytes = sizeof(struct naru_options),
        .create = create,
        .pattern = nr_scene.kind == NR_SCENE_TOPIC   ? NARU_TOPIC
                   : nr_scene.kind == NR_SCENE_CELL  ? NARU_CELL
                   : nr_scene.kind == NR_SCENE_CALLS ? NARU_CALL
                                                     : NARU_QUEUE,
        .message_size_max_bytes = 64,
        .capacity_messages = nr_scene.kind == NR_SCENE_CELL ? 0 : NR_SCENE_CAPACITY,
        .payload_bytes = nr_scene.kind == NR_SCENE_SLOTS ? 4 * 64 : 0,
        .participants_max = nr_scene.kind == NR_SCENE_PAIR ? 0 : 4,
        .one_to_one = nr_scene.kind == NR_SCENE_BYTES,
    };
}

int nr_scene_open(struct naru_endpoint **ret, enum naru_role role, enum naru_create create)
{
    struct naru_options options = nr_scene_options(create);

    if (nr_scene.kind == NR_SCENE_TOPIC && role == NARU_RECEIVER)
        options.start = NARU_FROM_OLDEST;
    return naru_open(ret, nr_scene.uri, role, &options);
}

void nr_scene_open_both(void)
{
    nr_check_ok(nr_scene_open(&nr_scene.sender, NARU_SENDER, NARU_CREATE_OR_ATTACH));
    nr_check_ok(nr_scene_open(&nr_scene.receiver, NARU_RECEIVER, NARU_CREATE_OR_ATTACH));
}

void nr_scene_close(void)
{
    naru_close(nr_scene.sender);
    naru_close(nr_scene.receiver);
    nr_scene.sender = nr_scene.receiver = NULL;
    unlink(nr_scene.path);
}

int nr_scene_send(const char *text, int64_t timeout_ns)
{
    struct naru_call *call = nr_scene.calls;

    if (nr_scene.kind != NR_SCENE_CALLS)
        return naru_send(nr_scene.sender, text, strlen(text), timeout_ns);
    while (call < nr_scene.calls + NR_SCENE_CAPACITY - 1 && call->internal[0])
        call++;
    struct naru_call again = {
        .size_bytes = sizeof again, .request = text, .request_size_bytes = strlen(text)};
    if (call->internal[0]) /* one more than there may be */
        return naru_call(nr_scene.sender, &again, timeout_ns ? timeout_ns : 1);
    *call = again;
    return naru_call_begin(nr_scene.sender, call, timeout_ns);
}

int nr_scene_recv(char text[64], int64_t timeout_ns)
{
    struct naru_message request;
    size_t size_bytes = 0;

    memset(text, 0, 64);
    if (nr_scene.kind != NR_SCENE_CALLS)
        return naru_recv(nr_scene.receiver, text, 63, &size_bytes, timeout_ns);
    int result = naru_take(nr_scene.receiver, &request, timeout_ns);
    if (result < 0)
        return result;
    memcpy(text, request.data, request.size_bytes);
    return naru_reply(nr_scene.receiver, &request, NULL, 0);
}

/* What was asked before is given up, or answered; and then there is room for as many calls as there may be. */
static void nr_scene_check_calls(void)
{
    char text[64];

    for (int i = 0; i < NR_SCENE_CAPACITY; i++)
        if (nr_scene.calls[i].internal[0])
            nr_check_ok(naru_call_cancel(nr_scene.sender, &nr_scene.calls[i]));
    while (nr_scene_recv(text, 0) == 0)
        ;
    for (int i = 0; i < NR_SCENE_CAPACITY; i++)
        nr_check_ok(nr_scene_send("through", NARU_SECOND));
    for (int i = 0; i < NR_SCENE_CAPACITY; i++) {
        nr_check_ok(nr_scene_recv(text, NARU_SECOND));
        nr_check(strcmp(text, "through") == 0, "\"%s\"", text);
        nr_check_ok(naru_call_end(nr_scene.sender, &nr_scene.calls[i], NARU_SECOND));
    }
}

void nr_scene_check(void)
{
    char text[64];

    if (nr_scene.kind == NR_SCENE_CALLS) {
        nr_scene_check_calls();
        return;
    }
    while (nr_scene_recv(text, 0) == 0)
        ;
    nr_check_ok(nr_scene_send("through", NARU_SECOND));
    nr_check_ok(nr_scene_recv(text, NARU_SECOND));
    nr_check(strcmp(text, "through") == 0, "\"%s\"", text);
}

void nr_scene_check_peers(struct naru_endpoint *endpoint, unsigned expected)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    nr_check_ok(naru_stat(endpoint, &stat));
    nr_check(stat.peers == expected, "%u peers, not %u", stat.peers, expected);
}

void nr_scene_stop_helper(void)
{
    if (nr_scene.helper > 0)
        nr_kit_kill(nr_scene.helper);
    nr_scene.helper = 0;
}
