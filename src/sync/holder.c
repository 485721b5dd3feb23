/* SPDX-License-Identifier: MIT */
#include "sync/holder.h"

int nr_holder_try(struct nr_holder *holder, struct nr_os_robust_thread *me)
{
    unsigned start = nr_slots_start(me->id, holder->count);
    uint32_t seen;
    int at;

    while ((at = nr_slots_find(holder->slots, holder->count, start)) >= 0) {
        struct nr_hold *slot = &holder->slots->slots[at];
        void *before = nr_os_robust_aim(me, (void *)slot);
        bool is_mine = nr_hold_take(&slot->word, me->id, &seen);
        if (is_mine)
            nr_os_robust_add(me, &holder->mine[at], (void *)slot);
        nr_os_robust_settle(me, before);
        if (is_mine)
            return at;
    }
    return -1;
}

int nr_holder_mine(const struct nr_holder *holder, const struct nr_os_robust_thread *me)
{
    unsigned at = nr_slots_start(me->id, holder->count);

    for (unsigned i = 0; i < holder->count; i++, at = at + 1 == holder->count ? 0 : at + 1) {
        uint32_t seen = atomic_load_explicit(&holder->slots->slots[at].word, memory_order_relaxed);
        if (nr_hold_owner(seen) == me->id && holder->mine[at].entry)
            return (int)at;
    }
    return -1;
}

int nr_holder_give(struct nr_holder *holder, struct nr_os_robust_thread *me, int at)
{
    struct nr_hold *slot = &holder->slots->slots[at];
    void *before = nr_os_robust_aim(me, (void *)slot);
    int result = 0;

    nr_os_robust_remove(&holder->mine[at]);
    if (!nr_hold_leave(&slot->word, false))
        result = nr_os_futex_store_and_wake((uint32_t *)&slot->word, nr_hold_left(false));
    nr_os_robust_settle(me, before);
    return result < 0 ? result : 0;
}

int nr_holder_sleep(struct nr_holder *holder, const uint32_t seen[], struct nr_deadline *deadline)
{
    struct nr_os_futex_word words[NR_SLOTS_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < holder->count; i++)
        if (seen[i])
            words[count++] = (struct nr_os_futex_word){
                .word = (const uint32_t *)&holder->slots->slots[i].word,
                .value = seen[i],
            };
    int result = nr_sleep(words, count, deadline);
    for (unsigned i = 0; i < holder->count && result == NR_SLEEP_LOOK; i++)
        if (seen[i] && nr_os_process_is_missing((pid_t)nr_hold_owner(seen[i])))
            nr_hold_bury(&holder->slots->slots[i].word, seen[i]);
    return result;
}
