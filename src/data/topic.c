/* SPDX-License-Identifier: MIT */
/*
 * Contents   words - sizes - looking around - chunks - publishing - joining - receiving - repair
 *
 * Joining    [J1], [J2]. A subscriber stores its cursor, counts itself in `joins`, and then finds that position t is not
 *            claimed. Whoever claims a position behind t has seen t claimed, so its look at `joins` comes after
 *            that of the subscriber at t, and sees it. So only who claims t itself may not know of the
 *            subscriber, and that uses again the slot of t - slots_count, which is older than t - capacity: the
 *            oldest that a subscriber may begin with. Who has seen it in `joins` knows its cursor by that.
 *            Seq_cst are the count, the look at t, a claim, and a publisher's look at `joins`: else the subscriber
 *            could miss the claim, and who has made it the subscriber.
 * Horizon    [W1], [W2]. Overwriting: who writes over the message of p has raised the horizon beyond p + slots_count, then
 *            claimed the slot, and only then stores, or frees the chunk of p. So a reader that has seen a byte of
 *            what came then, in the slot or in that chunk, finds the horizon that far, and the claim. While the horizon
 *            is not that far nobody has; it goes up once in a quarter of a lap, so a look at it costs nothing.
 */
#include "data/topic.h"
#include "data/words.h"
#include <assert.h>
#include <errno.h>

static_assert(sizeof(struct nr_topic_slot) == NR_TOPIC_HEADER_BYTES, "payload begins there");
static_assert(sizeof(struct nr_topic_cursor) == 64, "a line of its own");

/* -- words ------------------------------------------------------------------------------------ */

enum { NR_TOPIC_READY = 1, NR_TOPIC_SKIP };                 /* of a slot; a word of 0: never used */
enum { NR_TOPIC_FREE = 0, NR_TOPIC_LOANED, NR_TOPIC_KEPT }; /* of a chunk; FREE is the word 0 */

static uint64_t nr_topic_word(uint64_t position, unsigned state, uint32_t owner)
{
    return ((position + 1) << 16) | ((uint64_t)state << 12) | owner;
}
/* 1 + the position, so also the position behind it; 0: none */
static uint64_t nr_topic_word_end(uint64_t word)
{
    return word >> 16;
}
static unsigned nr_topic_word_state(uint64_t word)
{
    return (unsigned)(word >> 12) & 15;
}
static uint32_t nr_topic_word_owner(uint64_t word)
{
    return (uint32_t)word & 4095;
}

/* A loaned chunk has no position. */
static uint64_t nr_topic_loaned(uint32_t owner)
{
    return nr_topic_word(UINT64_MAX, NR_TOPIC_LOANED, owner);
}

static bool nr_topic_change(_Atomic uint64_t *place, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(place, &from, to, memory_order_seq_cst,
                                                   memory_order_relaxed);
}

/* -- sizes ------------------------------------------------------------------------------------ */

static size_t nr_topic_words_bytes(uint32_t count)
{
    return (count * sizeof(uint64_t) + 63) & ~(size_t)63;
}

size_t nr_topic_bytes(const struct nr_topic *sizes)
{
    return sizeof(struct nr_topic_shared) + sizes->cursors_count * sizeof(struct nr_topic_cursor) +
           nr_topic_words_bytes(sizes->slots_count) +
           (size_t)sizes->slots_count * sizes->slot_bytes +
           nr_topic_words_bytes(sizes->chunks_count) + sizes->chunks_count * sizes->chunk_bytes;
}

void nr_topic_attach(struct nr_topic *topic, void *memory)
{
    topic->shared = memory;
    topic->cursors = (struct nr_topic_cursor *)(void *)(topic->shared + 1);
    topic->claims = (_Atomic uint64_t *)(void *)(topic->cursors + topic->cursors_count);
    topic->slots = (char *)topic->claims + nr_topic_words_bytes(topic->slots_count);
    topic->chunk_words =
        (_Atomic uint64_t *)(void *)(topic->slots + (size_t)topic->slots_count * topic->slot_bytes);
    topic->chunks = (char *)topic->chunk_words + nr_topic_words_bytes(topic->chunks_count);
    topic->reciprocal = UINT64_MAX / topic->slots_count + 1;
    atomic_init(&topic->chunk_hint, 0);
    atomic_init(&topic->checked_joins, UINT64_MAX);
    atomic_flag_clear(&topic->is_measuring);
}

/* position % slots_count. The quotient by the reciprocal is right or one too large. */
static uint64_t nr_topic_index(const struct nr_topic *topic, uint64_t position)
{
    uint64_t quotient = (uint64_t)((unsigned __int128)position * topic->reciprocal >> 64);
    uint64_t index = position - quotient * topic->slots_count;

    return index < topic->slots_count ? index : index + topic->slots_count;
}

static struct nr_topic_slot *nr_topic_at(const struct nr_topic *topic, uint64_t position)
{
    return (struct nr_topic_slot *)(void *)(topic->slots +
                                            nr_topic_index(topic, position) * topic->slot_bytes);
}

static _Atomic uint64_t *nr_topic_claim_at(const struct nr_topic *topic, uint64_t position)
{
    return &topic->claims[nr_topic_index(topic, position)];
}

/* Others would have had to go around several times for a walk to take longer. */
static uint32_t nr_topic_steps(const struct nr_topic *topic)
{
    return 8 * topic->slots_count + 64;
}

/* -- looking around --------------------------------------------------------------------------- */

uint64_t nr_topic_tail(const struct nr_topic *topic)
{
    uint64_t position = atomic_load_explicit(&topic->shared->tail, memory_order_acquire);

    for (uint32_t left = nr_topic_steps(topic); left; left--) {
        uint64_t end = nr_topic_word_end(
            atomic_load_explicit(nr_topic_claim_at(topic, position), memory_order_seq_cst));
        if (end <= position)
            break;
        position = end;
    }
    return position;
}

uint64_t nr_topic_slowest(const struct nr_topic *topic, uint32_t *ret_index)
{
    uint32_t end = atomic_load_explicit(&topic->shared->cursors_end, memory_order_relaxed);
    uint64_t slowest = UINT64_MAX;

    *ret_index = NR_TOPIC_NOBODY;
    for (uint32_t i = 0; i < end && i < topic->cursors_count; i++) {
        /* [A2]: what a subscriber has passed it has also read. */
        uint64_t position =
            atomic_load_explicit(&topic->cursors[i].position, memory_order_acquire) - 1;
        if (position < slowest) { /* 0, nobody, became UINT64_MAX */
            slowest = position;
            *ret_index = i;
        }
    }
    return slowest;
}

static uint64_t nr_topic_oldest(const struct nr_topic *topic, uint64_t tail)
{
    uint32_t capacity = topic->slots_count - 1;

    return tail > capacity ? tail - capacity : 0;
}

/* -- chunks ----------------------------------------------------------------------------------- */

_Atomic uint64_t *nr_topic_chunk(const struct nr_topic *topic, uint32_t chunk)
{
    return (_Atomic uint64_t *)(void *)(topic->chunks + chunk * topic->chunk_bytes);
}

uint32_t nr_topic_loan(struct nr_topic *topic)
{
    uint32_t hint = atomic_load_explicit(&topic->chunk_hint, memory_order_relaxed);

    for (uint32_t i = 0; i < topic->chunks_count; i++) {
        uint32_t index = (hint + i) % topic->chunks_count;
        _Atomic uint64_t *word = &topic->chunk_words[index];
        if (atomic_load_explicit(word, memory_order_relaxed) != NR_TOPIC_FREE ||
            !nr_topic_change(word, NR_TOPIC_FREE, nr_topic_loaned(topic->me)))
            continue;
        atomic_store_explicit(&topic->chunk_hint, (index + 1) % topic->chunks_count,
                              memory_order_relaxed);
        nr_words_fence_write(); /* [W1]: the slot that had it was claimed before it was freed */
        return index;
    }
    return NR_TOPIC_NO_CHUNK;
}

/* A plain store: nobody but the repairer of a dead owner takes it away. */
void nr_topic_unloan(struct nr_topic *topic, uint32_t chunk)
{
    atomic_store_explicit(&topic->chunk_words[chunk], NR_TOPIC_FREE, memory_order_release);
}

/* Frees the chunk that a slot names, if it is kept for just that position. */
static bool nr_topic_unkeep(struct nr_topic *topic, const struct nr_topic_slot *slot,
                            uint64_t position)
{
    uint32_t chunk = atomic_load_explicit(&slot->chunk, memory_order_relaxed) - 1;

    if (chunk >= topic->chunks_count ||
        !nr_topic_change(&topic->chunk_words[chunk], nr_topic_word(position, NR_TOPIC_KEPT, 0),
                         NR_TOPIC_FREE))
        return false;
    atomic_store_explicit(&topic->chunk_hint, chunk, memory_order_relaxed);
    return true;
}

/* -- publishing ------------------------------------------------------------------------------- */

/* Measures how far the subscribers let one publish. Of several threads one notes it, the others just know. */
static uint64_t nr_topic_measure(struct nr_topic *topic, uint32_t *ret_blocker)
{
    bool notes = !atomic_flag_test_and_set_explicit(&topic->is_measuring, memory_order_acquire);
    uint64_t joins = atomic_load_explicit(&topic->shared->joins, memory_order_acquire);
    uint64_t slowest = nr_topic_slowest(topic, ret_blocker);
    uint64_t limit = slowest == UINT64_MAX ? slowest : slowest + topic->slots_count - 1;

    if (notes) {
        atomic_store_explicit(&topic->limit, limit, memory_order_relaxed);
        atomic_store_explicit(&topic->checked_joins, joins, memory_order_release);
        atomic_flag_clear_explicit(&topic->is_measuring, memory_order_release);
    }
    return limit;
}

static bool nr_topic_has_room(struct nr_topic *topic, uint64_t position, uint32_t *ret_blocker)
{
    if (!topic->cursors_count)
        return true;
    uint64_t joins = atomic_load_explicit(&topic->shared->joins, memory_order_seq_cst); /* [J2] */
    if (atomic_load_explicit(&topic->checked_joins, memory_order_acquire) == joins &&
        position < atomic_load_explicit(&topic->limit, memory_order_relaxed))
        return true;
    return position < nr_topic_measure(topic, ret_blocker);
}

/* [W1]. Before the claim: when who has made it dies, a repairer frees the last lap's chunk. Relaxed: what is behind the
   claim carries it. False: somebody else has changed it, so look again, as long as steps are left. */
static bool nr_topic_raise(struct nr_topic *topic, uint64_t position)
{
    uint64_t seen = atomic_load_explicit(&topic->shared->horizon, memory_order_relaxed);

    return seen > position || atomic_compare_exchange_strong_explicit(
                                  &topic->shared->horizon, &seen,
                                  position + 1 + topic->slots_count / 4, memory_order_relaxed,
                                  memory_order_relaxed);
}

int nr_topic_claim(struct nr_topic *topic, struct nr_topic_claim *ret, uint32_t *ret_blocker)
{
    uint64_t position = atomic_load_explicit(&topic->shared->tail, memory_order_acquire);

    *ret_blocker = NR_TOPIC_NOBODY;
    for (uint32_t left = nr_topic_steps(topic); left; left--) {
        struct nr_topic_slot *slot = nr_topic_at(topic, position);
        _Atomic uint64_t *claim = nr_topic_claim_at(topic, position);
        uint64_t claimed = atomic_load_explicit(claim, memory_order_acquire); /* [J2] */
        uint64_t end = nr_topic_word_end(claimed);

        if (end > position) { /* claimed, up to there */
            position = end;
            continue;
        }
        if (end + topic->slots_count != position + 1 && (end || position >= topic->slots_count))
            return -EBADMSG;
        if (nr_topic_word_end(atomic_load_explicit(&slot->word, memory_order_acquire)) < end) {
            *ret_blocker = nr_topic_word_owner(claimed); /* a whole lap behind */
            return -EBUSY;
        }
        if (!nr_topic_has_room(topic, position, ret_blocker))
            return -EAGAIN;
        if (!topic->cursors_count && !nr_topic_raise(topic, position))
            continue;
        if (!nr_topic_change(claim, claimed, nr_topic_word(position, 0, topic->me)))
            continue;
        if (atomic_load_explicit(&topic->shared->tail, memory_order_relaxed) <= position)
            atomic_store_explicit(&topic->shared->tail, position + 1, memory_order_release);
        nr_words_fence_write(); /* [W1]: who reads a byte of what follows finds the claim */
        *ret = (struct nr_topic_claim){.slot = slot, .position = position};
        return 0;
    }
    return -EAGAIN;
}

bool nr_topic_publish(struct nr_topic *topic, const struct nr_topic_claim *claim, uint32_t chunk,
                      const struct nr_topic_label *label)
{
    struct nr_topic_slot *slot = claim->slot;

    /* The last lap's chunk, before its name is overwritten; in the first lap there is none. */
    bool is_freed = nr_topic_unkeep(topic, slot, claim->position - topic->slots_count);
    atomic_store_explicit(&slot->size_bytes, label->size_bytes, memory_order_relaxed);
    atomic_store_explicit(&slot->sender_pid, label->sender_pid, memory_order_relaxed);
    atomic_store_explicit(&slot->type, label->type, memory_order_relaxed);
    atomic_store_explicit(&slot->chunk, chunk + 1, memory_order_relaxed);
    if (chunk != NR_TOPIC_NO_CHUNK)
        atomic_store_explicit(&topic->chunk_words[chunk],
                              nr_topic_word(claim->position, NR_TOPIC_KEPT, 0),
                              memory_order_relaxed);
    /* A plain store: only a dead owner's slot is ever taken away. [R1]: without release a subscriber could
       read the payload of the last lap. */
    atomic_store_explicit(&slot->word, nr_topic_word(claim->position, NR_TOPIC_READY, 0),
                          memory_order_release);
    return is_freed;
}

static bool nr_topic_may_loan(const struct nr_topic *topic)
{
    for (uint32_t i = 0; i < topic->chunks_count; i++)
        if (atomic_load_explicit(&topic->chunk_words[i], memory_order_relaxed) == NR_TOPIC_FREE)
            return true;
    return false;
}

/* A slot that somebody is in the middle of counts as room: when it is published only subscribers are woken. */
bool nr_topic_may_claim(struct nr_topic *topic, bool needs_chunk)
{
    uint32_t slowest;

    return nr_topic_has_room(topic, nr_topic_tail(topic), &slowest) &&
           (!needs_chunk || nr_topic_may_loan(topic));
}

void nr_topic_drop(struct nr_topic *topic)
{
    atomic_fetch_add_explicit(&topic->shared->dropped, 1, memory_order_relaxed);
}

/* -- joining ---------------------------------------------------------------------------------- */

/* The position of the last message but `count`, among those from `oldest` on. */
static uint64_t nr_topic_back(const struct nr_topic *topic, uint64_t oldest, uint64_t tail,
                              uint64_t count)
{
    while (tail > oldest && count) {
        uint64_t word =
            atomic_load_explicit(&nr_topic_at(topic, --tail)->word, memory_order_relaxed);
        count -= word != nr_topic_word(tail, NR_TOPIC_SKIP, 0);
    }
    return tail;
}

static void nr_topic_show_cursor(struct nr_topic *topic, uint64_t position)
{
    uint32_t end = atomic_load_explicit(&topic->shared->cursors_end, memory_order_relaxed);

    while (end <= topic->me &&
           !atomic_compare_exchange_weak_explicit(&topic->shared->cursors_end, &end, topic->me + 1,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    /* [R2]: also of who had this index before. */
    atomic_store_explicit(&topic->cursors[topic->me].position, position + 1, memory_order_release);
    atomic_fetch_add_explicit(&topic->shared->joins, 1, memory_order_seq_cst); /* [J1] */
}

void nr_topic_join(struct nr_topic *topic, struct nr_topic_reader *ret, enum nr_topic_start start,
                   uint64_t count)
{
    uint64_t tail = nr_topic_tail(topic);

    *ret = (struct nr_topic_reader){.dropped = nr_topic_dropped(topic)};
    if (topic
            ->cursors_count) { /* first a cursor that keeps what we may want, then look what that is */
        nr_topic_show_cursor(topic, start == NR_TOPIC_NOW ? tail : nr_topic_oldest(topic, tail));
        tail = nr_topic_tail(topic); /* [J1] */
    }
    uint64_t oldest = nr_topic_oldest(topic, tail);
    ret->next = start == NR_TOPIC_NOW      ? tail
                : start == NR_TOPIC_OLDEST ? oldest
                                           : nr_topic_back(topic, oldest, tail, count);
    ret->cursor = ret->next;
    if (topic->cursors_count)
        atomic_store_explicit(&topic->cursors[topic->me].position, ret->cursor + 1,
                              memory_order_release);
}

void nr_topic_leave(struct nr_topic *topic)
{
    if (topic->cursors_count)
        atomic_store_explicit(&topic->cursors[topic->me].position, 0, memory_order_release);
}

/* -- receiving -------------------------------------------------------------------------------- */

/* Nothing stands at `position`. Is somebody in the middle of it? */
static int nr_topic_nothing(const struct nr_topic *topic, uint64_t position, uint32_t *ret_blocker)
{
    if (!ret_blocker)
        return -EAGAIN;
    uint64_t claimed =
        atomic_load_explicit(nr_topic_claim_at(topic, position), memory_order_relaxed);
    if (nr_topic_word_end(claimed) <= position)
        return -EAGAIN;
    *ret_blocker = nr_topic_word_owner(claimed);
    return -EBUSY;
}

int nr_topic_peek(const struct nr_topic *topic, uint64_t position, struct nr_topic_message *ret,
                  uint32_t *ret_blocker)
{
    const struct nr_topic_slot *slot = nr_topic_at(topic, position);
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_acquire); /* [A1] */
    uint64_t end = nr_topic_word_end(word);

    if (end <= position)
        return nr_topic_nothing(topic, position, ret_blocker);
    if (end > position + 1)
        return -EOVERFLOW;
    if (nr_topic_word_state(word) == NR_TOPIC_SKIP)
        return -ENOMSG;
    uint32_t chunk = atomic_load_explicit(&slot->chunk, memory_order_relaxed) - 1;
    *ret = (struct nr_topic_message){
        .position = position,
        .payload = slot->payload,
        .label = {.size_bytes = atomic_load_explicit(&slot->size_bytes, memory_order_relaxed),
                  .sender_pid = atomic_load_explicit(&slot->sender_pid, memory_order_relaxed),
                  .type = atomic_load_explicit(&slot->type, memory_order_relaxed)},
    };
    if (chunk == NR_TOPIC_NO_CHUNK)
        return ret->label.size_bytes <= nr_topic_inline_bytes(topic) ? 0 : -EBADMSG;
    if (chunk >= topic->chunks_count || ret->label.size_bytes > topic->chunk_bytes)
        return -EBADMSG;
    ret->payload = nr_topic_chunk(topic, chunk);
    return 0;
}

/* Publishers change the claims' lines with each message: these are looked at only if the horizon is that far. */
bool nr_topic_is_intact(const struct nr_topic *topic, const struct nr_topic_message *message)
{
    nr_words_fence_read(); /* [W2] */
    if (atomic_load_explicit(&topic->shared->horizon, memory_order_relaxed) <=
        message->position + topic->slots_count)
        return true;
    return nr_topic_word_end(atomic_load_explicit(nr_topic_claim_at(topic, message->position),
                                                  memory_order_relaxed)) == message->position + 1;
}

int nr_topic_next(struct nr_topic *topic, struct nr_topic_reader *reader,
                  struct nr_topic_message *ret, uint32_t *ret_blocker)
{
    uint64_t position =
        reader->again ? reader->cursor + (uint64_t)__builtin_ctzll(reader->again) : reader->next;

    if (position - reader->cursor >= NR_TOPIC_HELD_MOST)
        return -ENOBUFS;
    int result = nr_topic_peek(topic, position, ret, ret_blocker);
    ret->position = position;
    if (result == 0)
        ret->deliveries = reader->deliveries[position % NR_TOPIC_HELD_MOST] + 1u;
    return result;
}

void nr_topic_take(struct nr_topic_reader *reader, const struct nr_topic_message *message)
{
    uint8_t *deliveries = &reader->deliveries[message->position % NR_TOPIC_HELD_MOST];

    if (message->position == reader->next)
        reader->next++;
    else
        reader->again &= ~((uint64_t)1 << (message->position - reader->cursor));
    *deliveries += *deliveries < UINT8_MAX;
}

void nr_topic_done(struct nr_topic *topic, struct nr_topic_reader *reader, uint64_t position)
{
    reader->deliveries[position % NR_TOPIC_HELD_MOST] = 0;
    reader->done |= (uint64_t)1 << (position - reader->cursor);
    if (!(reader->done & 1))
        return;
    do {
        reader->done >>= 1;
        reader->again >>= 1;
        reader->cursor++;
    } while (reader->done & 1);
    /* [R2]: our reads are done. */
    atomic_store_explicit(&topic->cursors[topic->me].position, reader->cursor + 1,
                          memory_order_release);
}

void nr_topic_give_back(struct nr_topic_reader *reader, uint64_t position)
{
    reader->again |= (uint64_t)1 << (position - reader->cursor);
}

void nr_topic_catch_up(const struct nr_topic *topic, struct nr_topic_reader *reader, unsigned times)
{
    uint64_t tail = nr_topic_tail(topic), capacity = topic->slots_count - 1;
    uint64_t younger = times * (capacity / 4 + 1);
    uint64_t next = nr_topic_oldest(topic, tail) + (younger < capacity ? younger : capacity - 1);

    next = next < tail ? next : tail;
    if (next <= reader->next) /* the tail's hint made no sense */
        next = reader->next + 1;
    reader->lost += next - reader->next;
    reader->next = next;
}

bool nr_topic_is_there(const struct nr_topic *topic, uint64_t position)
{
    return nr_topic_word_end(atomic_load_explicit(&nr_topic_at(topic, position)->word,
                                                  memory_order_relaxed)) > position;
}

bool nr_topic_may_read(const struct nr_topic *topic, const struct nr_topic_reader *reader)
{
    return reader->again || nr_topic_is_there(topic, reader->next);
}

/* -- repair ----------------------------------------------------------------------------------- */

/* The dead one had claimed this slot, and not published it. What it had begun goes: the last lap's chunk may still be
   kept, or the new one be kept already. Each is named by its position, so a repairer that comes late frees nothing
   else; nor does it change the word, which never comes again. */
static void nr_topic_repair_slot(struct nr_topic *topic, uint64_t index, uint32_t dead)
{
    struct nr_topic_slot *slot = nr_topic_at(topic, index);
    uint64_t claimed = atomic_load_explicit(&topic->claims[index], memory_order_relaxed);
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    uint64_t position = nr_topic_word_end(claimed) - 1;

    if (nr_topic_word_owner(claimed) != dead ||
        nr_topic_word_end(word) >= nr_topic_word_end(claimed))
        return;
    nr_topic_unkeep(topic, slot, position);
    nr_topic_unkeep(topic, slot, position - topic->slots_count); /* in the first lap: of no chunk */
    nr_topic_change(&slot->word, word, nr_topic_word(position, NR_TOPIC_SKIP, 0));
}

void nr_topic_repair(struct nr_topic *topic, uint32_t dead)
{
    for (uint32_t i = 0; i < topic->slots_count; i++)
        nr_topic_repair_slot(topic, i, dead);
    for (uint32_t i = 0; i < topic->chunks_count; i++)
        nr_topic_change(&topic->chunk_words[i], nr_topic_loaned(dead), NR_TOPIC_FREE);
    if (dead < topic->cursors_count)
        atomic_store_explicit(&topic->cursors[dead].position, 0, memory_order_release);
}
