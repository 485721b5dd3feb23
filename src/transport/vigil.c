/* SPDX-License-Identifier: MIT */
#include "transport/vigil.h"
#include "os/guard.h"
#include "os/io.h"
#include "os/process.h"
#include <errno.h>
#include <stdlib.h>

/* What a request's data says: [kind:8 | generation or turn:32 | index:24] */
enum nr_vigil_kind {
    NR_VIGIL_IS_GATE = 1,
    NR_VIGIL_IS_DEATH_WORD,
    NR_VIGIL_IS_STOP_WORD,
    NR_VIGIL_IS_PEER,
    NR_VIGIL_IS_PARTICIPANT,
    NR_VIGIL_IS_TIMER,
};

enum { NR_VIGIL_BATCH = 16 };

static uint64_t nr_vigil_data(enum nr_vigil_kind kind, uint64_t turn, unsigned index)
{
    return (uint64_t)kind << 56 | (turn & 0xffffffff) << 24 | index;
}

static uint64_t nr_vigil_participant(unsigned index, uint64_t word)
{
    return nr_vigil_data(NR_VIGIL_IS_PARTICIPANT, word >> 40, index);
}

int nr_vigil_init(struct nr_vigil *vigil, struct nr_party *party, const uint32_t *death_word,
                  const uint32_t *stop_word)
{
    *vigil = (struct nr_vigil){
        .ring = NR_URING_NULL,
        .party = party,
        .death_word = death_word,
        .stop_word = stop_word,
        .is_guarded = stop_word && nr_os_guard_works(),
    };
    int result = nr_os_uring_init(&vigil->ring, !vigil->is_guarded);
    if (result < 0 || !party)
        return result;
    vigil->watched = calloc(party->table.count, sizeof *vigil->watched);
    if (vigil->watched)
        return 0;
    nr_os_uring_deinit(&vigil->ring);
    return -ENOMEM;
}

void nr_vigil_deinit(struct nr_vigil *vigil)
{
    nr_os_uring_deinit(&vigil->ring);
    free(vigil->watched);
    vigil->watched = NULL;
}

bool nr_vigil_is_mine(const struct nr_vigil *vigil)
{
    return nr_os_uring_is_mine(&vigil->ring) && (!vigil->is_guarded || nr_os_guard_works());
}

/* -- what has come -------------------------------------------------------------------------- */

static int nr_vigil_gate_news(struct nr_vigil *vigil, uint32_t turn)
{
    for (int i = 0; i < NR_VIGIL_GATES; i++)
        if (vigil->gates[i].is_armed && vigil->gates[i].turn == turn) {
            vigil->gates[i].is_armed = false;
            return NR_VIGIL_GATE;
        }
    return 0; /* one that was replaced */
}

static int nr_vigil_participant_news(struct nr_vigil *vigil, unsigned index, uint64_t data,
                                     int result)
{
    uint64_t word = index < vigil->party->table.count ? vigil->watched[index] : 0;

    if (!word || data != nr_vigil_participant(index, word))
        return 0; /* of an entry's last owner */
    vigil->watched[index] = 0;
    vigil->has_looked = false;
    if (result <= 0)
        return 0;
    nr_party_died(vigil->party, index, word);
    return NR_VIGIL_DEAD;
}

static int nr_vigil_collect(struct nr_vigil *vigil)
{
    uint64_t data;
    int result, news = 0;

    while (nr_os_uring_next(&vigil->ring, &data, &result)) {
        switch (data >> 56) {
        case NR_VIGIL_IS_GATE:
            news |= nr_vigil_gate_news(vigil, (uint32_t)(data >> 24));
            break;
        case NR_VIGIL_IS_DEATH_WORD:
            vigil->has_death_word = false;
            news |= result == 0 ? NR_VIGIL_OMEN : 0;
            break;
        case NR_VIGIL_IS_STOP_WORD:
            vigil->has_stop_word = false;
            news |= NR_VIGIL_STOP;
            break;
        case NR_VIGIL_IS_PEER:
            vigil->has_peer = false;
            news |= result > 0 ? NR_VIGIL_DEAD : 0;
            break;
        case NR_VIGIL_IS_PARTICIPANT:
            news |= nr_vigil_participant_news(vigil, data & 0xffffff, data, result);
            break;
        case NR_VIGIL_IS_TIMER:
            vigil->has_timer = false;
            break;
        default: /* a cancellation that found nothing */
            break;
        }
    }
    return news;
}

/* -- what is watched ------------------------------------------------------------------------ */

static int nr_vigil_watch_gate(struct nr_vigil *vigil, const uint32_t *word, uint32_t value)
{
    struct nr_vigil_gate *gate = &vigil->gates[0];
    int result = 0;

    for (int i = 0; i < NR_VIGIL_GATES; i++) {
        if (vigil->gates[i].word == word) {
            gate = &vigil->gates[i];
            break;
        }
        if (!vigil->gates[i].is_armed)
            gate = &vigil->gates[i];
    }
    if (gate->is_armed && gate->word == word && gate->value == value)
        return 0;
    /* Its waker died before it woke; or there are very many gates. If there are news it is most likely this. */
    if (gate->is_armed && !nr_os_uring_has_news(&vigil->ring))
        result = nr_os_uring_cancel(&vigil->ring, nr_vigil_data(NR_VIGIL_IS_GATE, gate->turn, 0));
    *gate = (struct nr_vigil_gate){word, value, ++vigil->turn, true};
    return result < 0 ? result
                      : nr_os_uring_futex(&vigil->ring, word, value,
                                          nr_vigil_data(NR_VIGIL_IS_GATE, gate->turn, 0));
}

/* Hands over the polls and closes the numbers: the requests keep what they poll. */
static int nr_vigil_flush(struct nr_vigil *vigil, int fds[NR_VIGIL_BATCH], unsigned *count)
{
    int result = nr_os_uring_enter(&vigil->ring, NULL);

    while (*count)
        nr_os_close(&fds[--*count]);
    return result;
}

/* Watches an entry's process: 0, or 1 if it turned out to be dead. */
static int nr_vigil_watch_one(struct nr_vigil *vigil, unsigned index, uint64_t word, int *ret_fd)
{
    if (vigil->watched[index])
        nr_os_uring_cancel(&vigil->ring, nr_vigil_participant(index, vigil->watched[index]));
    vigil->watched[index] = 0;
    int fd = nr_party_pidfd(vigil->party, index, word);
    if (fd == -ESRCH) {
        nr_party_died(vigil->party, index, word);
        return 1;
    }
    if (fd < 0 ||
        nr_os_uring_poll(&vigil->ring, fd, NR_READABLE, nr_vigil_participant(index, word)) < 0) {
        vigil->is_blind = true;
        nr_os_close(&fd);
        return 0;
    }
    vigil->watched[index] = word;
    *ret_fd = fd;
    return 0;
}

/* Looks through the table for those that are not watched yet. News, or -errno. */
static int nr_vigil_watch_all(struct nr_vigil *vigil)
{
    struct nr_party *party = vigil->party;
    uint32_t changes = nr_party_changes(party);
    int fds[NR_VIGIL_BATCH], news = 0;
    unsigned count = 0;

    if (vigil->has_looked && changes == vigil->changes)
        return 0;
    vigil->is_blind = false;
    for (unsigned i = 0; i < party->table.count; i++) {
        uint64_t word = nr_party_other(party, i);
        if (!word || word == vigil->watched[i])
            continue;
        fds[count] = -1;
        if (nr_vigil_watch_one(vigil, i, word, &fds[count]))
            news = NR_VIGIL_DEAD;
        count += fds[count] >= 0;
        if (count == NR_VIGIL_BATCH && nr_vigil_flush(vigil, fds, &count) < 0)
            vigil->is_blind = true;
    }
    if (count && nr_vigil_flush(vigil, fds, &count) < 0)
        vigil->is_blind = true;
    vigil->has_looked = !vigil->is_blind;
    vigil->changes = changes;
    return news;
}

static int nr_vigil_watch_word(struct nr_vigil *vigil, bool *has, const uint32_t *word,
                               enum nr_vigil_kind kind)
{
    int result =
        *has || !word ? 0 : nr_os_uring_futex(&vigil->ring, word, 0, nr_vigil_data(kind, 0, 0));

    *has = result == 0;
    return result;
}

static int nr_vigil_arm(struct nr_vigil *vigil, int peer_pidfd)
{
    int result = nr_vigil_watch_word(vigil, &vigil->has_death_word, vigil->death_word,
                                     NR_VIGIL_IS_DEATH_WORD);

    if (result == 0 && !vigil->is_guarded)
        result = nr_vigil_watch_word(vigil, &vigil->has_stop_word, vigil->stop_word,
                                     NR_VIGIL_IS_STOP_WORD);
    if (result == 0 && peer_pidfd >= 0 && !vigil->has_peer) {
        result = nr_os_uring_poll(&vigil->ring, peer_pidfd, NR_READABLE,
                                  nr_vigil_data(NR_VIGIL_IS_PEER, 0, 0));
        vigil->has_peer = result == 0;
    }
    return result < 0 || !vigil->party ? result : nr_vigil_watch_all(vigil);
}

void nr_vigil_look_after(struct nr_vigil *vigil, int64_t after_ns)
{
    if (vigil->has_timer ||
        nr_os_uring_timer(&vigil->ring, after_ns, nr_vigil_data(NR_VIGIL_IS_TIMER, 0, 0)) < 0)
        return;
    vigil->has_timer = true;
    nr_os_uring_enter(&vigil->ring, NULL);
}

int nr_vigil_watch(struct nr_vigil *vigil, const struct nr_gate *gate, uint32_t value,
                   int peer_pidfd, struct nr_deadline *deadline)
{
    int news = nr_vigil_collect(vigil) & ~NR_VIGIL_GATE;
    int result = nr_vigil_arm(vigil, peer_pidfd);

    if (result >= 0)
        news |= result;
    if (result >= 0 && !vigil->is_guarded)
        result = nr_vigil_watch_gate(vigil, nr_gate_address(gate), value);
    if (result < 0)
        return result;
    if (vigil->is_guarded && !news && deadline)
        result = nr_os_uring_sleep(&vigil->ring, (const int *)vigil->stop_word,
                                   nr_gate_address(gate), value, deadline);
    else
        result = nr_os_uring_enter(&vigil->ring, news ? NULL : deadline);
    news |= nr_vigil_collect(vigil);
    if (news || result < 0)
        return news ? news : result;
    /* The kernel says how much it took rather than that the time is over. */
    return deadline && !nr_deadline_is_never(deadline) && nr_deadline_left_ns(deadline) == 0
               ? -ETIMEDOUT
               : 0;
}
