/* SPDX-License-Identifier: MIT */
#include "world.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *nr_kill_state_name(enum nr_kill_state state)
{
    static const char *const names[NR_KILL_STATES] = {
        [NR_KILL_EMPTY] = "empty",     [NR_KILL_ONE] = "one",         [NR_KILL_HALF] = "half full",
        [NR_KILL_FULL] = "full",       [NR_KILL_HELD] = "held",       [NR_KILL_LOANS] = "loans out",
        [NR_KILL_ORPHANS] = "orphans", [NR_KILL_WRAPPED] = "wrapped", [NR_KILL_UNSWEPT] = "unswept",
    };

    return names[state];
}

/* `name` is one of the words "a|b|c". */
static bool nr_kill_has_word(const char *words, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = words; (at = strstr(at, name)); at += length)
        if ((at == words || at[-1] == '|') && (at[length] == '\0' || at[length] == '|'))
            return true;
    return false;
}

bool nr_kill_is_world(const struct nr_kill_kind *kind, enum nr_kill_state state,
                      const struct nr_kill_operation *operation)
{
    unsigned states = kind->states & operation->states;

    if (!(states & (1u << state)))
        return false;
    if (operation->kinds)
        return nr_kill_has_word(operation->kinds, kind->name);
    if (kind->options.pattern == NARU_CALL && !operation->is_for_calls)
        return false;
    return kind->is_named || !operation->is_alone;
}

/* xorshift64* */
uint32_t nr_kill_random(uint64_t *random, uint32_t below)
{
    uint64_t x = *random ? *random : 88172645463325252u;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *random = x;
    return (uint32_t)((x * 2685821657736338717u) >> 33) % below;
}

void nr_kill_fail(const struct nr_kill_world *world, const char *file, int line, const char *format,
                  ...)
{
    char text[900];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    nr_kit_fail(file, line, "%s, %s, %s at %ld (%s): %s", world->kind->name,
                nr_kill_state_name(world->state), world->operation->name, world->point,
                world->ledger->is_done ? "it had returned" : "it had not returned", text);
}

int nr_kill_check_ok(const struct nr_kill_world *world, const char *file, int line,
                     const char *call, int result)
{
    if (result < 0)
        nr_kill_fail(world, file, line, "%s gave %s: \"%s\"", call, strerrorname_np(-result),
                     naru_error_text());
    return result;
}

size_t nr_kill_size(const struct nr_kill_world *world, unsigned index)
{
    return world->kind->sizes[index % 2];
}

struct naru_endpoint *nr_kill_open(struct nr_kill_world *world, enum naru_role role)
{
    struct naru_endpoint *endpoint = NULL;

    nr_kill_ok(world, naru_open(&endpoint, world->uri, role, &world->kind->options));
    return endpoint;
}

int nr_kill_send(struct nr_kill_world *world, struct naru_endpoint *endpoint,
                 enum nr_kill_maker maker, unsigned index)
{
    char room[NR_KILL_ROOM_BYTES];
    size_t size_bytes = nr_kill_size(world, index);

    nr_payload_fill(room, size_bytes, maker, index);
    return naru_send(endpoint, room, size_bytes, 0);
}

unsigned nr_kill_read(struct nr_kill_world *world, const struct naru_message *message)
{
    struct nr_payload_stamp stamp;

    nr_kill_check(world,
                  nr_payload_read(message->data, message->size_bytes, &stamp) &&
                      stamp.sender == NR_KILL_CAST && stamp.index < world->ledger->made,
                  "%zu bytes", message->size_bytes);
    return stamp.index;
}

void nr_kill_in_hand(struct nr_kill_world *world, const struct naru_message *message,
                     enum nr_kill_place place)
{
    if (nr_kill_is_dealt(world))
        world->ledger->place[nr_kill_read(world, message)] = (unsigned char)place;
}

/* It was in nobody's hand, and comes behind one that was sent later. */
static bool nr_kill_is_late(const struct nr_kill_world *world,
                            const struct nr_kill_arrivals *arrivals, unsigned index)
{
    const struct nr_kill_ledger *ledger = world->ledger;

    if (arrivals->flagged[index] || ledger->place[index] != NR_KILL_QUEUED)
        return false;
    for (unsigned i = index + 1; i < ledger->made; i++)
        if (arrivals->count[i] && !arrivals->flagged[i] && ledger->place[i] == NR_KILL_QUEUED)
            return true;
    return false;
}

void nr_kill_arrive(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals,
                    const struct naru_message *message)
{
    struct nr_payload_stamp stamp;

    nr_kill_check(world, nr_payload_read(message->data, message->size_bytes, &stamp),
                  "a message of %zu bytes is torn", message->size_bytes);
    switch (stamp.sender) {
    case NR_KILL_CAST:
        nr_kill_check(world, stamp.index < world->ledger->made, "message %u", stamp.index);
        nr_kill_check(world, arrivals->count[stamp.index]++ == 0, "message %u came twice",
                      stamp.index);
        arrivals->flagged[stamp.index] = (message->flags & NARU_REDELIVERED) != 0;
        arrivals->disorder += nr_kill_is_late(world, arrivals, stamp.index);
        break;
    case NR_KILL_VICTIM:
        nr_kill_check(world, stamp.index == arrivals->victims, "the victim's %u came after %u",
                      stamp.index, arrivals->victims);
        arrivals->victims++;
        break;
    default:
        nr_kill_check(world, stamp.sender == NR_KILL_AFTER, "from %u", stamp.sender);
        nr_kill_check(world, stamp.index == arrivals->after, "the survivors' %u came after %u",
                      stamp.index, arrivals->after);
        arrivals->after++;
    }
}

void nr_kill_open_ends(struct nr_kill_world *world)
{
    if (!world->receiver)
        world->receiver = nr_kill_open(world, NARU_RECEIVER);
    if (!world->sender)
        world->sender = nr_kill_open(world, NARU_SENDER);
}

void nr_kill_meanwhile(struct nr_kill_world *world, struct nr_kill_arrivals *arrivals,
                       nr_kill_going_on *go_on, unsigned newcomer)
{
    struct naru_stat stat = {.size_bytes = sizeof stat};

    switch (nr_kill_random(&world->random, 6)) {
    case 0: /* nobody, at first: they go on */
    case 1:
        go_on(world, arrivals);
        break;
    case 2: /* someone new */
        if (newcomer && !world->operation->removes)
            naru_close(nr_kill_open(world, (enum naru_role)newcomer));
        break;
    case 3:
        nr_kill_ok(world, naru_stat(world->sender, &stat));
        break;
    default:
        nr_kill_ok(world, naru_stat(world->receiver, &stat));
    }
}

static void nr_kill_judge_sent(struct nr_kill_world *world, const struct nr_kill_arrivals *arrivals)
{
    const struct nr_kill_ledger *ledger = world->ledger;
    const struct nr_kill_operation *operation = world->operation;
    unsigned most = operation->effect == NR_KILL_SENDS ? operation->count : 0;

    nr_kill_check(world, arrivals->victims <= most, "%u messages of the victim came",
                  arrivals->victims);
    if (!ledger->is_done || !most)
        return;
    /* naru_send() and naru_commit() return 0 for their one message. */
    unsigned sent = ledger->result < 0 ? 0 : most == 1 ? 1 : (unsigned)ledger->result;
    nr_kill_check(world, arrivals->victims == sent, "%u messages of the victim came, it sent %u",
                  arrivals->victims, sent);
}

/* What is true of the message that was in the victim's hand as the operation began. */
static void nr_kill_judge_hand(struct nr_kill_world *world, bool came, bool flagged,
                               unsigned *lost_least, unsigned *lost_most)
{
    const struct naru_options *options = &world->kind->options;
    bool is_most_once = options->delivery == NARU_AT_MOST_ONCE;
    enum nr_kill_effect effect = world->operation->effect;
    bool is_acked = effect == NR_KILL_ACKS && world->ledger->is_done;
    bool repeats = options->one_to_one && !is_most_once;

    if (came) {
        nr_kill_check(world, flagged, "the message in the victim's hand came unflagged");
        nr_kill_check(world, !is_acked || repeats, "the message that was acknowledged came again");
        nr_kill_check(world, !is_most_once || effect == NR_KILL_GIVES_BACK,
                      "at most once, and the message in the victim's hand came again");
        return;
    }
    nr_kill_check(world, effect == NR_KILL_ACKS || is_most_once,
                  "the message in the victim's hand is lost");
    *lost_least += effect != NR_KILL_ACKS;
    *lost_most += !is_acked;
}

/* All of the message stands in the victim's room: it had been handed over. */
static bool nr_kill_was_handed_over(const struct nr_kill_world *world, unsigned index)
{
    size_t size_bytes = nr_kill_size(world, index);

    for (unsigned i = 0; i < world->operation->count; i++)
        if (nr_payload_is_whole(world->ledger->room[i], size_bytes, NR_KILL_CAST, index))
            return true;
    return false;
}

/* Those of the cast's messages that a victim which receives has taken with it, without having had them. */
static unsigned nr_kill_vanished(const struct nr_kill_world *world,
                                 const struct nr_kill_arrivals *arrivals)
{
    unsigned vanished = 0;

    for (unsigned i = 0; i < world->ledger->made; i++) {
        unsigned char place = world->ledger->place[i];
        bool was_there =
            place == NR_KILL_QUEUED || place == NR_KILL_RETURNED || place == NR_KILL_REQUEUED;
        vanished += was_there && !arrivals->count[i] && !nr_kill_was_handed_over(world, i);
    }
    return vanished;
}

unsigned nr_kill_judge(struct nr_kill_world *world, const struct nr_kill_arrivals *arrivals,
                       unsigned *ret_most)
{
    const struct nr_kill_ledger *ledger = world->ledger;
    const struct naru_options *options = &world->kind->options;
    enum nr_kill_effect effect =
        nr_kill_is_topic(world) && world->operation->effect != NR_KILL_SENDS
            ? NR_KILL_NOTHING
            : world->operation->effect;
    bool is_most_once = options->delivery == NARU_AT_MOST_ONCE;
    bool overwrites = options->when_full == NARU_OVERWRITE_OLDEST && effect == NR_KILL_SENDS;
    /* A topic keeps for later only what fits. */
    bool displaces = world->is_film && nr_kill_is_topic(world) && effect == NR_KILL_SENDS;
    /* How many the operation may have touched, and whether they may be gone. */
    unsigned touched = overwrites || displaces ? world->operation->count
                       : effect == NR_KILL_RECEIVES || effect == NR_KILL_TAKES
                           ? world->operation->count
                           : 0;
    bool may_go = effect != NR_KILL_TAKES || is_most_once;
    unsigned missing = 0, strange = 0, least = 0, most = ledger->dead;

    nr_kill_judge_sent(world, arrivals);
    for (unsigned i = 0; i < ledger->made; i++) {
        bool came = arrivals->count[i], flagged = arrivals->flagged[i];
        switch ((enum nr_kill_place)ledger->place[i]) {
        case NR_KILL_QUEUED:
        case NR_KILL_RETURNED:
            missing += !came;
            strange += flagged;
            break;
        case NR_KILL_REQUEUED:
            missing += !came;
            nr_kill_check(world, !came || flagged, "message %u came unflagged", i);
            break;
        case NR_KILL_WITH_OTHERS:
            nr_kill_check(world, !came, "message %u came, though a survivor has it", i);
            break;
        case NR_KILL_IN_DEAD_HAND:
            nr_kill_check(world, came != is_most_once || touched, "message %u, in a dead hand, %s",
                          i, came ? "came" : "is lost");
            nr_kill_check(world, !came || flagged, "message %u came unflagged", i);
            least += is_most_once;
            missing += !is_most_once && !came;
            break;
        case NR_KILL_IN_VICTIMS_HAND:
            nr_kill_judge_hand(world, came, flagged, &least, &most);
            break;
        }
    }
    nr_kill_check(world, strange + arrivals->disorder <= touched,
                  "%u messages came flagged, and %u out of order", strange, arrivals->disorder);
    nr_kill_check(world, missing <= (may_go ? touched : 0), "%u messages are lost", missing);
    if (ledger->is_done && (effect == NR_KILL_RECEIVES || effect == NR_KILL_TAKES)) {
        bool repeats = options->one_to_one && !is_most_once;
        bool is_kept = effect == NR_KILL_TAKES && !is_most_once;
        for (unsigned i = 0; i < ledger->got_count; i++) {
            bool came = arrivals->count[ledger->got[i]];
            nr_kill_check(world, came ? is_kept || repeats : !is_kept,
                          "message %u, which the victim had, %s", ledger->got[i],
                          came ? "came again" : "is lost");
            nr_kill_check(world, !came || arrivals->flagged[ledger->got[i]],
                          "message %u, which the victim had, came unflagged", ledger->got[i]);
        }
        nr_kill_check(world, missing <= ledger->got_count, "%u messages are lost", missing);
    }
    if (effect == NR_KILL_RECEIVES) {
        unsigned vanished = nr_kill_vanished(world, arrivals);
        nr_kill_check(world, !vanished || is_most_once,
                      "%u messages are gone, and the victim did not have them", vanished);
        least += vanished;
    }
    if (!displaces && (overwrites || effect == NR_KILL_TAKES))
        least += missing;
    world->progress = arrivals->victims + (is_most_once ? 0 : missing);
    *ret_most = least + most + missing;
    return least;
}
