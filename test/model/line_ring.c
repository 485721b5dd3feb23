/* SPDX-License-Identifier: MIT */
/*
 * line_ring -- from one to one: all that was committed arrives in order, once unless flagged or lost with a receiver, also when
 *              the sender or the receiver dies and another one takes its seat
 *
 * Messages of each form: several in a line, one in a line or in two, and apart. More of them than there are
 * lines. Sitting down and leaving is what transport/shm_bytes.c does.
 */
#include "data/line_batch.h"
#include "data/line_short.h"
#include "model.h"
#include <errno.h>
#include <string.h>

enum {
    MESSAGES_MOST = 5,
    SENDERS = 2,
    OBSERVER = MODEL_PROCESSES,
    SIZE_MOST = 128,
    /* variants */
    SMALL = 0,
    TYPED = 1,
    TWO_LINES = 2,
    APART = 3,
    LOANED = 4,
    RUN = 5,
    FORM = 7,
    AT_MOST_ONCE = 8,
    ONE_SENDER = 16,
    SHORT_WAY = 32,
    BATCH = 64, /* three at a time, so that it goes on in the next line; two are received */
};

static struct nr_line_ring_shared *const shared = (void *)model_shared;

static struct {
    struct nr_line_ring rings[MODEL_PROCESSES + 1];
    bool is_committed[SENDERS][MESSAGES_MOST];
    uint8_t deliveries[SENDERS][MESSAGES_MOST], unflagged[SENDERS][MESSAGES_MOST];
    uint8_t is_released[SENDERS][MESSAGES_MOST];
    uint8_t next[SENDERS]; /* the order, of those that are not flagged */
    uint8_t lost;
} state;

static unsigned senders_count(void)
{
    return model_variant() & ONE_SENDER ? 1 : 2;
}

static void init(void)
{
    static const uint32_t lines[] = {
        [SMALL] = 2, [TYPED] = 2, [TWO_LINES] = 4, [APART] = 2, [LOANED] = 2, [RUN] = 8};

    for (unsigned i = 0; i <= OBSERVER; i++) {
        state.rings[i] = (struct nr_line_ring){
            .lines_count = lines[model_variant() & FORM],
            .bytes_count = (model_variant() & FORM) == LOANED ? 128 : 256, /* two messages */
            .at_most_once = model_variant() & AT_MOST_ONCE,
        };
        nr_line_ring_attach(&state.rings[i], model_shared);
    }
    model_name(&shared->head, 8, "head");
    model_name(&shared->taking, 8, "taking");
    model_name(&shared->sender, 8, "sender's seat");
    model_name(&shared->receiver, 8, "receiver's seat");
    for (unsigned i = 0; i < state.rings[0].lines_count; i++) {
        model_name(state.rings[0].lines + i * NR_LINE_BYTES, NR_LINE_BYTES, "line[%u]", i);
        model_name(state.rings[0].lines + i * NR_LINE_BYTES, 8, "line[%u].stamp", i);
    }
    model_name(state.rings[0].bytes, state.rings[0].bytes_count, "bytes");
}

/* -- seats ------------------------------------------------------------------------------------ */

static void repair(unsigned me, unsigned dead)
{
    (void)me;
    nr_seat_clear(&shared->receiver, dead, true);
    nr_seat_clear(&shared->sender, dead, true);
}

static void sit(unsigned me, bool as_sender)
{
    while (nr_seat_claim(as_sender ? &shared->sender : &shared->receiver, me) < 0)
        if (!model_repair_dead(me, repair))
            model_pause();
    int result = nr_line_ring_sit(&state.rings[me], as_sender);
    model_assert(result >= 0 && (!as_sender || result == 0));
    state.lost = (uint8_t)(state.lost + result);
    model_note(as_sender ? "is the sender" : "is the receiver", me);
}

static void stand_up(unsigned me, bool as_sender)
{
    model_assert(nr_seat_clear(as_sender ? &shared->sender : &shared->receiver, me, false));
}

/* -- sending ---------------------------------------------------------------------------------- */

static uint32_t size_of(void)
{
    static const uint32_t sizes[] = {
        [SMALL] = 24, [TYPED] = 16, [TWO_LINES] = 72, [APART] = 120, [LOANED] = 16, [RUN] = 32};

    return sizes[model_variant() & FORM];
}

static int64_t type_of(void)
{
    return (model_variant() & FORM) == TYPED ? 5 : 0;
}

/* The value stands in each eight bytes. */
static void write_payload(char *to, uint64_t value, uint32_t size_bytes)
{
    uint64_t words[SIZE_MOST / 8];

    for (unsigned i = 0; i < SIZE_MOST / 8; i++)
        words[i] = value;
    memcpy(to, words, size_bytes);
}

static bool wait_for_room(unsigned me)
{
    bool is_alone = true;

    for (unsigned i = senders_count(); i < model_processes(); i++)
        is_alone = is_alone && model_is_over(i);
    if (model_repair_dead(me, repair))
        return true;
    if (!is_alone)
        model_pause();
    return !is_alone;
}

static bool send_one(unsigned me, uint64_t value)
{
    struct nr_line_ring *ring = &state.rings[me];
    uint32_t size_bytes = size_of();
    struct nr_line_room room = {0};
    char payload[SIZE_MOST];
    int result;

    write_payload(payload, value, size_bytes);
    if (model_variant() & SHORT_WAY && nr_line_put(ring, payload, size_bytes))
        return true;
    do {
        if ((model_variant() & FORM) == LOANED)
            result = nr_line_reserve_apart(ring, size_bytes, &room.first);
        else
            result = nr_line_reserve(ring, size_bytes, type_of(), &room);
        model_assert(result == 0 || result == -EAGAIN);
    } while (result < 0 && wait_for_room(me));
    if (result < 0)
        return false;
    if ((model_variant() & FORM) == LOANED)
        room.first_bytes = size_bytes;
    write_payload(room.first, value, room.first_bytes);
    if (room.second)
        write_payload(room.second, value, size_bytes - room.first_bytes);
    if ((model_variant() & FORM) == LOANED)
        nr_line_publish_apart(ring, size_bytes, type_of());
    else
        nr_line_publish(ring, size_bytes, type_of());
    return true;
}

/* So many that a line is used again: of the small ones two share a line. */
static unsigned messages_of(unsigned me)
{
    const unsigned shared_line = ONE_SENDER | SMALL;

    return (model_variant() & (ONE_SENDER | FORM | AT_MOST_ONCE)) == shared_line ? 5 : 3 - me;
}

/* How many of `most` went. */
static unsigned send_batch(unsigned me, uint64_t value, unsigned most)
{
    struct nr_line_ring *ring = &state.rings[me];
    struct nr_line_writing writing = nr_line_write_begin(ring);
    char payload[SIZE_MOST];
    struct nr_line_run run;
    unsigned i;

    if ((model_variant() & FORM) == RUN) {
        if (!nr_line_run_begin(ring, &run, size_of()))
            return 0;
        for (run.count = most, i = most; i-- > 0;) {
            write_payload(payload, value + i, size_of());
            nr_line_run_write(ring, &run, i, payload);
        }
        nr_line_run_publish(ring, &run);
        return most;
    }
    for (i = 0; i < most; i++) {
        write_payload(payload, value + i, size_of());
        if (!nr_line_write(ring, &writing, payload, size_of()))
            break;
    }
    nr_line_write_end(ring, &writing);
    return i;
}

static void send_all(unsigned me)
{
    unsigned left = messages_of(me), number = 0;

    sit(me, true);
    while (left) {
        uint64_t value = 0x100 * (me + 1) + number;
        unsigned sent = model_variant() & BATCH ? send_batch(me, value, left < 3 ? left : 3) : 0;
        if (sent == 0)
            sent = send_one(me, value);
        if (sent == 0)
            break;
        for (left -= sent; sent; sent--) {
            state.is_committed[me][number] = true;
            model_note("committed", 0x100 * (me + 1) + number++);
        }
    }
    stand_up(me, true);
}

/* -- receiving -------------------------------------------------------------------------------- */

static bool has_receiver_died(void)
{
    for (unsigned i = senders_count(); i < MODEL_PROCESSES; i++)
        if (model_has_died(i))
            return true;
    return false;
}

static void delivered(const struct nr_line_record *record, uint64_t value)
{
    unsigned sender = (unsigned)(value >> 8) - 1, number = value & 0xff;

    model_note(record->is_redelivered ? "got again" : "got", value);
    model_assert(sender < SENDERS && number < MESSAGES_MOST);
    model_assert(!state.is_released[sender][number]);
    state.deliveries[sender][number]++;
    if (record->is_redelivered) {
        model_assert(has_receiver_died());
        return;
    }
    model_assert(state.unflagged[sender][number]++ == 0);
    model_assert(number >= state.next[sender]);
    state.next[sender] = (uint8_t)(number + 1);
}

/* Up to two; how many. They are nobody's before the end. */
static unsigned receive_batch(unsigned me)
{
    struct nr_line_ring *ring = &state.rings[me];
    struct nr_line_reading reading = nr_line_read_begin(ring);
    uint64_t words[2][SIZE_MOST / 8];
    struct nr_line_run run;
    unsigned count = 0;

    if ((model_variant() & FORM) == RUN) {
        if (!nr_line_run_find(ring, &run))
            return 0;
        model_assert(run.size_bytes == size_of());
        while (count < 2 && run.index < run.count)
            nr_line_run_read(ring, &run, words[count++]);
        nr_line_run_end(ring, &run);
    } else {
        while (count < 2 && nr_line_read(ring, &reading, words[count], size_of()) > 0)
            count++;
        nr_line_read_end(ring, &reading);
    }
    for (unsigned i = 0; i < count; i++) {
        for (unsigned j = 1; j < size_of() / 8; j++)
            model_assert(words[i][j] == words[i][0]);
        delivered(&(struct nr_line_record){0}, words[i][0]);
        state.is_released[(words[i][0] >> 8) - 1][words[i][0] & 0xff] = true;
    }
    return count;
}

static int receive(unsigned me)
{
    struct nr_line_ring *ring = &state.rings[me];
    struct nr_line_record record;
    uint64_t words[SIZE_MOST / 8];
    bool frees;

    if (model_variant() & BATCH && receive_batch(me))
        return 0;

    if (model_variant() & SHORT_WAY &&
        nr_line_get(ring, words, size_of(), &frees) == (int)size_of()) {
        for (unsigned i = 1; i < size_of() / 8; i++)
            model_assert(words[i] == words[0]);
        delivered(&(struct nr_line_record){0}, words[0]);
        state.is_released[(words[0] >> 8) - 1][words[0] & 0xff] = true;
        return 0;
    }
    int result = nr_line_peek(ring, &record);
    model_assert(result == 0 || result == -EAGAIN);
    if (result < 0)
        return result;
    model_assert(record.size_bytes == size_of() && record.type == type_of());
    nr_line_copy(&record, words);
    for (unsigned i = 1; i < record.size_bytes / 8; i++)
        model_assert(words[i] == words[0]);
    nr_line_taking(ring, &record);
    delivered(&record, words[0]);
    nr_line_release(ring, &record);
    state.is_released[(words[0] >> 8) - 1][words[0] & 0xff] = true;
    return 0;
}

/* `most` messages, or until the senders are over and nothing is left. */
static void receive_some(unsigned me, unsigned most)
{
    sit(me, false);
    while (most) {
        bool is_last = true;
        for (unsigned i = 0; i < senders_count(); i++)
            is_last = is_last && model_is_over(i);
        if (receive(me) == 0)
            most--;
        else if (model_repair_dead(me, repair))
            continue;
        else if (is_last)
            break;
        else
            model_pause();
    }
    stand_up(me, false);
}

static void receive_all(unsigned me)
{
    receive_some(me, 100);
}
static void receive_two(unsigned me)
{
    receive_some(me, 2);
}

/* -- afterwards ------------------------------------------------------------------------------- */

static void check(void)
{
    struct nr_line_ring *ring = &state.rings[OBSERVER];
    unsigned missing = 0;

    model_repair_dead(OBSERVER, repair);
    model_assert(!(shared->sender & NR_SEAT_HOLDER) && !(shared->receiver & NR_SEAT_HOLDER));
    sit(OBSERVER, false);
    while (receive(OBSERVER) == 0)
        ;
    for (unsigned i = 0; i < SENDERS; i++)
        for (unsigned j = 0; j < MESSAGES_MOST; j++) {
            missing += state.is_committed[i][j] && !state.deliveries[i][j];
            if (model_variant() & AT_MOST_ONCE)
                model_assert(state.deliveries[i][j] <= 1);
        }
    if (!(model_variant() & AT_MOST_ONCE))
        model_assert(missing == 0 && state.lost == 0);
    model_assert(missing <= state.lost && (!state.lost || has_receiver_died()));
    model_assert(!nr_line_may_peek(ring));

    /* It takes as many as an empty one, twice around. */
    memset(&state.is_committed, 0, sizeof state.is_committed);
    struct nr_line_ring *sender = &state.rings[0];
    sender->line = sender->index = 0;
    sit(0, true);
    for (unsigned i = 0; i < 2 * sender->lines_count + 2; i++) {
        struct nr_line_record record;
        model_assert(send_one(0, 0x300));
        model_assert(nr_line_may_peek(ring));
        model_assert(nr_line_peek(ring, &record) == 0 &&
                     *(const uint64_t *)(const void *)record.first == 0x300);
        nr_line_release(ring, &record);
        model_assert(nr_line_peek(ring, &record) == -EAGAIN);
    }
}

#define SCENARIO(title, ...)                                                                       \
    {                                                                                              \
        .name = title, .processes = 3, .init = init, .check = check, .state = &state,              \
        .state_bytes = sizeof state, .shared_bytes = sizeof *shared + 8 * NR_LINE_BYTES + 256,     \
        .preemptions = 2, .stale_reads = 2, .crashes = 1, .may_crash = 7, __VA_ARGS__              \
    }
#define SENDERS_CHANGE   .run = {send_all, send_all, receive_all}
#define RECEIVERS_CHANGE .run = {send_all, receive_two, receive_all}

static const struct model_scenario scenarios[] = {
    SCENARIO("small, two senders", SENDERS_CHANGE, .variant = SMALL),
    SCENARIO("small, two receivers", RECEIVERS_CHANGE, .variant = SMALL | ONE_SENDER),
    SCENARIO("small, two receivers, at most once", RECEIVERS_CHANGE,
             .variant = SMALL | ONE_SENDER | AT_MOST_ONCE),
    SCENARIO("typed, two senders", SENDERS_CHANGE, .variant = TYPED),
    SCENARIO("typed, two receivers", RECEIVERS_CHANGE, .variant = TYPED | ONE_SENDER),
    SCENARIO("two lines, two senders", SENDERS_CHANGE, .variant = TWO_LINES),
    SCENARIO("two lines, two receivers", RECEIVERS_CHANGE, .variant = TWO_LINES | ONE_SENDER),
    SCENARIO("apart, two senders", SENDERS_CHANGE, .variant = APART),
    SCENARIO("apart, two receivers, at most once", RECEIVERS_CHANGE,
             .variant = APART | ONE_SENDER | AT_MOST_ONCE),
    SCENARIO("loaned, two senders", SENDERS_CHANGE, .variant = LOANED),
    SCENARIO("small by the short way, two senders", SENDERS_CHANGE, .variant = SMALL | SHORT_WAY),
    SCENARIO("small by the short way, two receivers", RECEIVERS_CHANGE,
             .variant = SMALL | SHORT_WAY | ONE_SENDER),
    SCENARIO("small by the short way, two receivers, at most once", RECEIVERS_CHANGE,
             .variant = SMALL | SHORT_WAY | ONE_SENDER | AT_MOST_ONCE),
    SCENARIO("two lines by the short way, two senders", SENDERS_CHANGE,
             .variant = TWO_LINES | SHORT_WAY),
    SCENARIO("two lines by the short way, two receivers", RECEIVERS_CHANGE,
             .variant = TWO_LINES | SHORT_WAY | ONE_SENDER),
    SCENARIO("apart by the short way, two receivers", RECEIVERS_CHANGE,
             .variant = APART | SHORT_WAY | ONE_SENDER),
};

static const struct model_scenario scenarios_batch[] = {
    SCENARIO("small, two senders", SENDERS_CHANGE, .variant = SMALL | BATCH),
    SCENARIO("small, two receivers", RECEIVERS_CHANGE, .variant = SMALL | BATCH | ONE_SENDER),
    SCENARIO("small, two receivers, at most once", RECEIVERS_CHANGE,
             .variant = SMALL | BATCH | ONE_SENDER | AT_MOST_ONCE),
    SCENARIO("runs, two senders", SENDERS_CHANGE, .variant = RUN | BATCH),
    SCENARIO("runs, two receivers", RECEIVERS_CHANGE, .variant = RUN | BATCH | ONE_SENDER),
    SCENARIO("runs, two receivers, at most once", RECEIVERS_CHANGE,
             .variant = RUN | BATCH | ONE_SENDER | AT_MOST_ONCE),
};

#define PROTOCOL(title, list)                                                                      \
    {                                                                                              \
        .name = title, .scenarios = list, .scenarios_count = sizeof list / sizeof *list            \
    }
const struct model_protocol model_line_ring = PROTOCOL("line_ring", scenarios);
const struct model_protocol model_line_batch = PROTOCOL("line_batch", scenarios_batch);
