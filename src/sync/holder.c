/* SPDX-License-Identifier: MIT */
#include "sync/holder.h"

int nr_holder_try_others(struct nr_holder *holder, struct nr_os_robust_thread *me)
{
    unsigned start = nr_slots_start(me->id, holder->count);
    int at;

    while ((at = nr_slots_find(holder->slots, holder->count, start)) >= 0)
        if (nr_holder_take(holder, me, (unsigned)at))
            return at;
    return -1;
}

int nr_holder_mine_others(const struct nr_holder *holder, const struct nr_os_robust_thread *me)
{
    for (unsigned at = 0; at < holder->count; at++)
        if (nr_holder_has(holder, me, at))
            return (int)at;
    return -1;
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
