/* SPDX-License-Identifier: MIT */
#include "os/robust.h"
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

_Thread_local struct nr_os_robust_thread nr_os_robust_thread
    __attribute__((tls_model("initial-exec")));

enum { NR_ROBUST_PI = 1 }; /* in a link: of a mutex that inherits priority */

/* The C library's entries are two pointers, of which the list links the second. */
static void **nr_os_robust_before(void *link)
{
    return (void **)(void *)((char *)link - sizeof(void *));
}

/* Our two, in front of what the C library has: it puts its own in front of them, or finds them at its end. */
static void nr_os_robust_enlist(struct nr_os_robust_thread *me, struct robust_list_head *head)
{
    void **list = (void **)(void *)&head->list.next;
    void *others = *list;

    me->first.entry = &me->first_entry;
    me->last.entry = &me->last_entry;
    me->first.before = me->last.after = NULL;
    me->first.after = &me->last;
    me->last.before = &me->first;
    me->first_entry.word = me->last_entry.word = 0; /* held by nobody: the kernel goes past */
    me->first_entry.before = (void *)list;
    me->first_entry.next = &me->last_entry.next;
    me->last_entry.before = &me->first_entry.next;
    me->last_entry.next = others;
    *nr_os_robust_before((void *)((uintptr_t)others & ~(uintptr_t)NR_ROBUST_PI)) =
        &me->last_entry.next;
    nr_os_robust_point(list, &me->first_entry.next);
}

int nr_os_robust_prepare(void)
{
    struct nr_os_robust_thread *me = &nr_os_robust_thread;
    struct robust_list_head *head;
    size_t size_bytes;
    uint64_t token = nr_os_process_token_new();

    if (!token)
        return -ENOMEM;
    if (nr_os_process_is(me->token))
        return 0;
    if (syscall(SYS_get_robust_list, 0, &head, &size_bytes) < 0 || !head ||
        head->futex_offset != -NR_OS_ROBUST_DISTANCE)
        return -EOPNOTSUPP;
    me->id = (uint32_t)gettid();
    me->pending = (void **)(void *)&head->list_op_pending;
    nr_os_robust_enlist(me, head);
    me->token = token;
    return 0;
}
