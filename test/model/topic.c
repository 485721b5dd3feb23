/* SPDX-License-Identifier: MIT */
/*
 * topic -- each committed message comes to each subscriber, whole and in order, or is counted as lost where that is the
 *          contract; nothing leaks, whoever dies where
 *
 * Publishers and subscribers do what transport/shm_topic*.c does. More messages than slots.
 */
#include "data/topic.h"
#include "data/words.h"
#include "model.h"
#include <errno.h>
#include <string.h>

enum {
    CHUNKS_SPARE = 2,
    OBSERVER = MODEL_PROCESSES, /* who looks afterwards */
    GONE = 3,                   /* who has died before the others begin */
    SLOTS_MOST = 3,
    WORDS = 2,
    /* variants */
    IN_CHUNKS = 1,
    OVERWRITING = 2,
    TWO_PUBLISHERS = 4,
    LATE = 8,          /* subscribers come meanwhile */
    NONE_BEFORE = 16,  /* and what they may see is sent meanwhile as well */
    ONE_MORE = 32,     /* message; so a chunk is used again */
    AFTER_DEATH = 128, /* GONE has claimed the slot of the first message, which has a chunk */
    THREADS = 64,      /* the publishers are threads of one process: they share a handle */
    SHARED_BYTES =
        sizeof(struct nr_topic_shared) + (3 + 1 + SLOTS_MOST + 1 + SLOTS_MOST + CHUNKS_SPARE) * 64,
};

static struct nr_topic_shared *const shared = (void *)model_shared;

static struct {
    struct nr_topic topics[MODEL_PROCESSES + 1];
    struct nr_topic_reader readers[MODEL_PROCESSES + 1];
    uint8_t committed[2], begun[2];
    uint8_t next[MODEL_PROCESSES + 1][2]; /* to be seen of each publisher, plus one; 0: any */
    uint8_t received[MODEL_PROCESSES + 1];
} state;

static struct nr_topic *topic_of(unsigned me)
{
    return (model_variant() & THREADS) && me < 2 ? (void *)(model_shared + SHARED_BYTES)
                                                 : &state.topics[me];
}

static unsigned publishers(void)
{
    return model_variant() & TWO_PUBLISHERS ? 2 : 1;
}

/* More is to be seen where nobody waits for anybody, and with less in a message. */
static unsigned slots(void)
{
    return (model_variant() & (OVERWRITING | IN_CHUNKS)) == OVERWRITING ? SLOTS_MOST : 2;
}

/* Those who are subscribed have it before them when the others begin, so that these need to send one less. */
static unsigned messages_before(void)
{
    return slots() == 2 && (publishers() == 2 || (model_variant() & (LATE | NONE_BEFORE)) == LATE);
}

static unsigned chunks(void)
{
    return model_variant() & IN_CHUNKS ? slots() + CHUNKS_SPARE : 0;
}

/* More than there are slots, in all with those before. */
static unsigned messages(void)
{
    unsigned more = model_variant() & ONE_MORE ? 1 : 0;

    if (publishers() == 1)
        return slots() + 1 - messages_before() + more;
    return (messages_before() ? 1 : 2) + more;
}

static bool publish_one(unsigned me, uint64_t value);

static void init(void)
{
    for (unsigned i = 0; i <= OBSERVER; i++) {
        *topic_of(i) = (struct nr_topic){
            .slots_count = slots(),
            .slot_bytes = 64,
            .chunks_count = chunks(),
            .chunk_bytes = 64,
            .cursors_count = model_variant() & OVERWRITING ? 0 : 3,
            .me = i,
        };
        nr_topic_attach(topic_of(i), model_shared);
    }
    const struct nr_topic *topic = topic_of(0);
    model_name(&shared->tail, 8, "tail");
    model_name(&shared->joins, 8, "joins");
    for (unsigned i = 0; i < topic->cursors_count; i++)
        model_name(&topic->cursors[i].position, 8, "cursor[%u]", i);
    for (unsigned i = 0; i < slots(); i++) {
        struct nr_topic_slot *slot = (void *)(topic->slots + i * topic->slot_bytes);
        model_name(&topic->claims[i], 8, "claim[%u]", i);
        model_name(slot, topic->slot_bytes, "slot[%u]", i);
        model_name(&slot->word, 8, "slot[%u].word", i);
        model_name(&slot->chunk, 4, "slot[%u].chunk", i);
        model_name(slot->payload, 8 * WORDS, "slot[%u].payload", i);
    }
    for (unsigned i = 0; i < chunks(); i++) {
        model_name(&topic->chunk_words[i], 8, "chunk[%u].word", i);
        model_name(nr_topic_chunk(topic, i), 8 * WORDS, "chunk[%u].payload", i);
    }
    for (unsigned i = model_variant() & LATE ? 2 : publishers();
         i < model_processes() && !((model_variant() & LATE) && publishers() == 2); i++)
        nr_topic_join(topic_of(i), &state.readers[i], NR_TOPIC_NOW, 0);
    for (unsigned i = 0; i < messages_before(); i++)
        publish_one(OBSERVER, 0);
    if (model_variant() & AFTER_DEATH) {
        struct nr_topic_claim claim;
        uint32_t blocker;
        publish_one(OBSERVER, 0);
        model_assert(nr_topic_loan(topic_of(GONE)) != NR_TOPIC_NO_CHUNK);
        model_assert(nr_topic_claim(topic_of(GONE), &claim, &blocker) == 0);
        model_assert(claim.position == slots());
    }
}

static void repair(unsigned me, unsigned dead)
{
    nr_topic_repair(topic_of(me), dead);
}

/* -- publishing ------------------------------------------------------------------------------- */

static bool is_alone(unsigned me)
{
    for (unsigned i = 0; i < model_processes(); i++)
        if (i != me && !model_is_over(i))
            return false;
    return true;
}

/* Threads that wait would wake each other for ever, by what they note: they give up. */
static bool claim(unsigned me, struct nr_topic_claim *ret)
{
    for (;;) {
        bool was_alone = is_alone(me);
        uint32_t blocker;
        int result = nr_topic_claim(topic_of(me), ret, &blocker);
        if (result == 0)
            return true;
        model_assert(result == -EAGAIN || result == -EBUSY);
        model_assert(result == -EBUSY || !(model_variant() & OVERWRITING));
        if (model_repair_dead(me, repair))
            continue;
        if (model_variant() & THREADS)
            return false;
        model_assert(!was_alone); /* full, and nobody is there who could receive */
        model_pause();
    }
}

static void write_chunk(_Atomic uint64_t *chunk, const uint64_t words[WORDS])
{
    if (model_variant() & OVERWRITING)
        nr_words_store(chunk, words, WORDS * sizeof *words);
    else
        memcpy((void *)chunk, words, WORDS * sizeof *words);
}

static bool publish_one(unsigned me, uint64_t value)
{
    struct nr_topic *topic = topic_of(me);
    const struct nr_topic_label label = {.size_bytes = 8 * WORDS, .type = (int64_t)value};
    const uint64_t words[WORDS] = {value, value};
    uint32_t chunk = NR_TOPIC_NO_CHUNK;
    struct nr_topic_claim mine;

    if (model_variant() & IN_CHUNKS) {
        while ((chunk = nr_topic_loan(topic)) == NR_TOPIC_NO_CHUNK)
            if (!model_repair_dead(me, repair))
                model_pause();
        write_chunk(nr_topic_chunk(topic, chunk), words);
    }
    if (!claim(me, &mine))
        return false;
    model_note("claimed position", mine.position);
    if (chunk == NR_TOPIC_NO_CHUNK)
        nr_words_store(mine.slot->payload, words, sizeof words);
    nr_topic_publish(topic, &mine, chunk, &label);
    return true;
}

static void publish_all(unsigned me)
{
    for (unsigned i = 1; i <= messages(); i++) {
        uint64_t value = 0x100 * (me + 1) + i;
        state.begun[me] = (uint8_t)i;
        if (!publish_one(me, value))
            return;
        state.committed[me] = (uint8_t)i;
        model_note("committed", value);
    }
}

/* -- receiving -------------------------------------------------------------------------------- */

static void accept(unsigned me, const struct nr_topic_message *message, const uint64_t *words)
{
    uint64_t value = words[0];
    unsigned publisher = (unsigned)(value >> 8) - 1, number = value & 0xff;
    uint8_t *next = &state.next[me][publisher & 1];

    model_note("got", value);
    state.received[me]++;
    for (unsigned i = 0; i < WORDS; i++)
        model_assert(words[i] == value);
    if (value == 0) /* from before */
        return;
    model_assert(publisher < publishers() && number <= state.begun[publisher]);
    model_assert(message->label.size_bytes == 8 * WORDS && message->label.type == (int64_t)value);
    if (model_variant() & OVERWRITING)
        model_assert(number >= *next);
    else if (model_variant() & LATE)
        model_assert(number == *next || *next == 0);
    else
        model_assert(number == (*next ? *next : 1));
    *next = (uint8_t)(number + 1);
}

static int receive_lossless(unsigned me)
{
    struct nr_topic_reader *reader = &state.readers[me];
    struct nr_topic_message message;
    uint64_t words[WORDS];
    uint32_t blocker;
    int result = nr_topic_next(topic_of(me), reader, &message, &blocker);

    model_assert(result == 0 || result == -EAGAIN || result == -EBUSY || result == -ENOMSG);
    if (result == 0) {
        memcpy(words, (const void *)message.payload, sizeof words);
        accept(me, &message, words);
    }
    if (result == 0 || result == -ENOMSG) {
        nr_topic_take(reader, &message);
        nr_topic_done(topic_of(me), reader, message.position);
        return 0;
    }
    return result;
}

static int receive_overwriting(unsigned me)
{
    struct nr_topic_reader *reader = &state.readers[me];
    struct nr_topic_message message;
    uint64_t words[WORDS];
    uint32_t blocker;
    int result = nr_topic_peek(topic_of(me), reader->next, &message, &blocker);

    if (result == 0 || result == -EBADMSG) {
        if (result == 0)
            nr_words_load(words, message.payload, sizeof words);
        bool is_intact = nr_topic_is_intact(topic_of(me), &message);
        model_assert(!is_intact || result == 0);
        if (!is_intact)
            result = -EOVERFLOW;
    }
    if (result == -EOVERFLOW) {
        nr_topic_catch_up(topic_of(me), reader, 0);
        return 0;
    }
    if (result == 0)
        accept(me, &message, words);
    if (result == 0 || result == -ENOMSG)
        reader->next++;
    return result == -ENOMSG ? 0 : result;
}

static int receive(unsigned me)
{
    return model_variant() & OVERWRITING ? receive_overwriting(me) : receive_lossless(me);
}

static void receive_all(unsigned me)
{
    for (;;) {
        bool is_last = model_is_over(0) && (publishers() == 1 || model_is_over(1));
        if (receive(me) == 0)
            continue;
        if (model_repair_dead(me, repair))
            continue;
        if (is_last)
            break;
        model_pause();
    }
    if (!(model_variant() & (OVERWRITING | LATE)))
        for (unsigned i = 0; i < publishers(); i++)
            model_assert(state.next[me][i] > state.committed[i] || !state.committed[i]);
    /* What was overtaken may have been a slot that was skipped. */
    if (model_variant() & OVERWRITING) {
        uint64_t all = messages_before() + state.committed[0] + state.committed[1];
        uint64_t begun = messages_before() + state.begun[0] + state.begun[1];
        uint64_t told = state.received[me] + state.readers[me].lost;
        model_assert(told >= all && told <= begun);
    }
    nr_topic_leave(topic_of(me));
}

static void join_now(unsigned me)
{
    nr_topic_join(topic_of(me), &state.readers[me], NR_TOPIC_NOW, 0);
    receive_all(me);
}

/* Begins with the oldest, or the one before the last: what was kept then is kept for it. */
static void join_oldest(unsigned me)
{
    nr_topic_join(topic_of(me), &state.readers[me], me & 1 ? NR_TOPIC_OLDEST : NR_TOPIC_LAST, 1);
    receive_all(me);
}

/* Takes one message, leaves with it in its hand, and comes again. */
static void come_again(unsigned me)
{
    struct nr_topic_message message;
    uint64_t words[WORDS];
    uint32_t blocker;

    nr_topic_join(topic_of(me), &state.readers[me], NR_TOPIC_OLDEST, 0);
    bool is_last = model_is_over(0);
    int result = nr_topic_next(topic_of(me), &state.readers[me], &message, &blocker);
    while (result < 0 && !is_last) {
        model_pause();
        is_last = model_is_over(0);
        result = nr_topic_next(topic_of(me), &state.readers[me], &message, &blocker);
    }
    model_assert(result == 0 || result == -EAGAIN || result == -EBUSY);
    if (result == 0) {
        memcpy(words, (const void *)message.payload, sizeof words);
        accept(me, &message, words);
    }
    nr_topic_leave(topic_of(me));
    state.next[me][0] = 0;
    join_now(me);
}

/* Repairs what is left of GONE, perhaps later than others, and publishes where that was. */
static void repair_and_publish(unsigned me)
{
    nr_topic_repair(topic_of(me), GONE);
    publish_all(me);
}

/* Writes into a chunk, and does not send it. */
static void give_back(unsigned me)
{
    static const uint64_t words[WORDS] = {0x1000, 0x1000}; /* nobody's */
    uint32_t chunk = nr_topic_loan(topic_of(me));

    write_chunk(nr_topic_chunk(topic_of(me), chunk), words);
    nr_topic_unloan(topic_of(me), chunk);
}

/* Writes into a chunk that the dead one's slot had kept, which somebody may be reading still. */
static void repair_and_give_back(unsigned me)
{
    while (!model_is_over(0))
        model_pause();
    model_repair_dead(me, repair);
    give_back(me);
}

/* Only repairs: others may see what it has done without having seen the death. */
static void only_repair(unsigned me)
{
    while (!model_is_over(0) || !model_is_over(2))
        if (!model_repair_dead(me, repair))
            model_pause();
}

/* -- afterwards ------------------------------------------------------------------------------- */

static void check(void)
{
    struct nr_topic *topic = topic_of(OBSERVER);
    struct nr_topic_message message;
    unsigned kept = 0, lent = 0;
    uint32_t blocker;

    model_repair_dead(OBSERVER, repair);
    if (model_variant() & AFTER_DEATH)
        repair(OBSERVER, GONE);
    uint64_t tail = nr_topic_tail(topic);
    for (uint64_t i = tail > slots() ? tail - slots() : 0; i < tail; i++) {
        int result = nr_topic_peek(topic, i, &message, &blocker);
        model_assert(result == 0 || result == -ENOMSG);
        kept += result == 0 && (const char *)message.payload >= topic->chunks;
    }
    while (nr_topic_loan(topic) != NR_TOPIC_NO_CHUNK)
        lent++;
    model_assert(kept + lent == chunks());
    nr_topic_repair(topic, OBSERVER);
    model_assert(nr_topic_slowest(topic, &blocker) == UINT64_MAX);
    for (unsigned i = 0; i < 2 * slots(); i++) {
        struct nr_topic_claim claim;
        model_assert(nr_topic_claim(topic, &claim, &blocker) == 0 && claim.position == tail + i);
        nr_topic_publish(topic, &claim, nr_topic_loan(topic), &(struct nr_topic_label){0});
    }
    for (lent = 0; nr_topic_loan(topic) != NR_TOPIC_NO_CHUNK;)
        lent++;
    model_assert(lent == (chunks() ? CHUNKS_SPARE : 0));
}

#define SCENARIO_OF(title, count, switches, stale, deaths, ...)                                    \
    {                                                                                              \
        .name = title, .processes = (count), .init = init, .check = check, .state = &state,        \
        .state_bytes = sizeof state, .shared_bytes = SHARED_BYTES + sizeof(struct nr_topic),       \
        .preemptions = (switches), .stale_reads = (stale), .crashes = (deaths),                    \
        .may_crash = (deaths) ? 7 : 0, __VA_ARGS__                                                 \
    }
#define SCENARIO(title, ...) SCENARIO_OF(title, 3, 2, 2, 1, __VA_ARGS__)

#define ONE_TO_TWO .run = {publish_all, receive_all, receive_all}, .symmetric = 6
#define TWO_TO_ONE                                                                                 \
    .run = {publish_all, publish_all, receive_all}, .symmetric = 3, .variant = TWO_PUBLISHERS

static const struct model_scenario scenarios[] = {
    SCENARIO("one publisher, two subscribers", ONE_TO_TWO),
    SCENARIO("two publishers, one subscriber", TWO_TO_ONE),
};

static const struct model_scenario scenarios_late[] = {
    SCENARIO("one publisher, two subscribers, one comes late",
             .run = {publish_all, join_now, receive_all}, .variant = LATE),
    SCENARIO("one publisher, two subscribers, one comes late and begins with the oldest",
             .run = {publish_all, join_oldest, receive_all}, .variant = LATE),
    SCENARIO_OF("one publisher, one subscriber that comes late", 2, 4, 2, 0,
                .run = {publish_all, join_now}, .variant = LATE | NONE_BEFORE),
    SCENARIO_OF("one publisher, one subscriber that comes late and begins with the oldest", 2, 3, 3,
                0, .run = {publish_all, join_oldest}, .variant = LATE | NONE_BEFORE),
    SCENARIO_OF("two threads that publish, one subscriber that comes late", 3, 2, 2, 0,
                .run = {publish_all, publish_all, join_oldest}, .symmetric = 3,
                .variant = LATE | TWO_PUBLISHERS | THREADS | ONE_MORE),
    SCENARIO("two publishers, one subscriber that comes late",
             .run = {publish_all, publish_all, join_oldest}, .symmetric = 3,
             .variant = LATE | TWO_PUBLISHERS),
};

static const struct model_scenario scenarios_chunks[] = {
    SCENARIO_OF("one publisher, one subscriber, a chunk that is used again", 2, 2, 2, 1,
                .run = {publish_all, receive_all}, .variant = IN_CHUNKS | ONE_MORE),
    SCENARIO_OF("one publisher, one subscriber that leaves and comes again", 2, 2, 2, 0,
                .run = {publish_all, come_again},
                .variant = IN_CHUNKS | ONE_MORE | LATE | NONE_BEFORE),
    SCENARIO_OF("one publisher, one that gives its chunk back", 2, 2, 2, 1,
                .run = {publish_all, give_back}, .variant = IN_CHUNKS | LATE | NONE_BEFORE),
    SCENARIO("one publisher, one that repairs, one subscriber, a chunk that is used again",
             .run = {publish_all, only_repair, receive_all},
             .variant = IN_CHUNKS | LATE | ONE_MORE),
    SCENARIO_OF("two repairers that publish", 2, 2, 2, 1,
                .run = {repair_and_publish, repair_and_publish}, .symmetric = 3,
                .variant = IN_CHUNKS | TWO_PUBLISHERS | LATE | AFTER_DEATH | ONE_MORE),
    SCENARIO("one publisher, two subscribers", ONE_TO_TWO, .variant = IN_CHUNKS),
    SCENARIO("two publishers, one subscriber", TWO_TO_ONE | IN_CHUNKS),
};

static const struct model_scenario scenarios_overwriting[] = {
    SCENARIO("one publisher, two subscribers", ONE_TO_TWO, .variant = OVERWRITING),
    SCENARIO("two publishers, one subscriber", TWO_TO_ONE | OVERWRITING),
    SCENARIO_OF("one publisher, one subscriber, a chunk that is used again", 2, 2, 2, 1,
                .run = {publish_all, receive_all}, .variant = OVERWRITING | IN_CHUNKS | ONE_MORE),
    SCENARIO_OF("one publisher, one that gives its chunk back, one subscriber", 3, 2, 2, 0,
                .run = {publish_all, give_back, receive_all}, .variant = OVERWRITING | IN_CHUNKS),
    SCENARIO("one publisher, one that repairs and writes into what was kept, one subscriber",
             .run = {publish_all, repair_and_give_back, receive_all},
             .variant = OVERWRITING | IN_CHUNKS),
    SCENARIO("one publisher, two subscribers, chunks", ONE_TO_TWO,
             .variant = OVERWRITING | IN_CHUNKS),
    SCENARIO("two publishers, one subscriber, chunks", TWO_TO_ONE | OVERWRITING | IN_CHUNKS),
};

#define PROTOCOL(title, list)                                                                      \
    {                                                                                              \
        .name = title, .scenarios = list, .scenarios_count = sizeof list / sizeof *list            \
    }
const struct model_protocol model_topic = PROTOCOL("topic", scenarios);
const struct model_protocol model_topic_chunks = PROTOCOL("topic_chunks", scenarios_chunks);
const struct model_protocol model_topic_late = PROTOCOL("topic_late", scenarios_late);
const struct model_protocol model_topic_overwriting =
    PROTOCOL("topic_overwriting", scenarios_overwriting);
