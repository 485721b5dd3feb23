/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * signal -- send, await, receive, handle, ignore and block signals; see what the kernel keeps of them
 *
 * Sets       A set of signals is a uint64_t, as in /proc: signal n is bit n - 1. NARU_SIGNAL_BIT(SIGTERM) |
 *            NARU_SIGNAL_BIT(SIGINT) is a set of two, NARU_SIGNAL_ALL all that a program may decide about.
 * Queued     A real-time signal queues as often as it is sent, oldest first, with its value. Any other signal
 *            is pending or it is not: what is sent while it is pending is lost, with its value.
 * Order      Of several pending signals the lowest number comes first, what is meant for the thread before
 *            what is meant for the process.
 * Handlers   The library installs none by itself: naru_signal_handle() is the caller's own wish.
 * Messages   signal:// carries values like messages, waits for room, and never kills: naru_open().
 */
#include <naru/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NARU_SIGNAL_BIT(number) ((uint64_t)1 << ((number)-1))
#define NARU_SIGNAL_ALL         UINT64_MAX /* without SIGKILL, SIGSTOP and those that libc keeps */

/* -- the table ----------------------------------------------------------------------------- */

/* What a signal does to a process that neither handles nor ignores it. */
enum naru_signal_action {
    NARU_SIGNAL_ENDS = 1,
    NARU_SIGNAL_DUMPS,  /* ends it, with a core dump where the system writes them */
    NARU_SIGNAL_PASSES, /* nothing */
    NARU_SIGNAL_STOPS,
    NARU_SIGNAL_CONTINUES,
};

struct naru_signal_row {
    const char *name;    /* "SIGINT", "SIGRTMIN+3" */
    const char *alias;   /* "SIGIOT" for SIGABRT; NULL: none */
    const char *meaning; /* "interrupt from the keyboard, Ctrl-C" */
    int32_t number;
    enum naru_signal_action action;
    uint8_t is_fixed;     /* SIGKILL, SIGSTOP: can't be handled, ignored or blocked */
    uint8_t is_real_time; /* queues */
    uint8_t is_libcs;     /* kept by libc for its threads; leave it alone */
    uint8_t reserved[5];
};

/* The row of a signal; numbers run from 1 to 64. The texts are static. -EINVAL: no such signal.
   Thread-safe; async-signal-safe. */
NARU_API int naru_signal_describe(int number, struct naru_signal_row *ret);

/* The number behind "SIGTERM", "term", "15", "RTMIN+3" or "SIGRTMAX-1"; 0 for "0". -EINVAL. */
NARU_API int naru_signal_number(const char *text);

/* -- sending ------------------------------------------------------------------------------- */

/*
 * A process that signals go to. It holds a pidfd, so that a later process with the same pid gets nothing; the pid
 * has to be the right one only at this call. (A child that its parent has not waited for keeps its pid.) Where a
 * sandbox refuses pidfds, pid and start time are compared before each send. -ESRCH; -EINVAL; -EMFILE, ... Who may
 * not signal it learns so from the send. Thread-safe; stays usable after fork.
 */
struct naru_signal_target;
NARU_API int naru_signal_target_open(struct naru_signal_target **ret, int64_t pid);
NARU_API void naru_signal_target_close(struct naru_signal_target *target);

/*
 * Sends, as kill(2) and sigqueue(3) do. Never blocks. Number 0 sends nothing and tells whether it could. -ESRCH: the
 * process is dead (a zombie is dead); -EPERM: it is another user's; -EINVAL: no such signal; -EAGAIN, only for a
 * real-time signal: RLIMIT_SIGPENDING of them are pending for its user. Neither looks at what the process does with
 * the signal. Thread-safe; not async-signal-safe.
 */
NARU_API int naru_signal_send(struct naru_signal_target *target, int number);
NARU_API int naru_signal_send_value(struct naru_signal_target *target, int number, uint64_t value);

/* -- a signal that came -------------------------------------------------------------------- */

enum naru_signal_field {
    NARU_SIGNAL_KNOWS_SENDER = 1 << 0,
    NARU_SIGNAL_KNOWS_VALUE = 1 << 1,
    NARU_SIGNAL_KNOWS_STATUS = 1 << 2,
    NARU_SIGNAL_KNOWS_ADDRESS = 1 << 3,
};

struct naru_signal {
    int32_t number;
    int32_t code;         /* si_code of sigaction(2): how it arose */
    uint32_t known;       /* enum naru_signal_field: which of these are known */
    int32_t sender_pid;   /* as the sender says, if it came with a value; SIGCHLD: the child */
    uint32_t sender_uid;  /* likewise */
    int32_t status;       /* SIGCHLD: exit status, or signal */
    uint64_t value;       /* of naru_signal_send_value(), sigqueue(3), a timer or a queue */
    uint64_t address;     /* SIGSEGV, SIGBUS, ...: where the fault is */
    uint64_t reserved[4]; /* zero */
};

/* -- what this process does with a signal --------------------------------------------------- */

/*
 * Handlers, for all threads. The handler runs in the thread that the kernel chooses; meanwhile that thread blocks
 * all of `set`, so that several pending signals come one after the other, lowest number first. Interrupted system calls
 * go on (SA_RESTART), errno is kept, an alternate stack is used if there is one. In it only async-signal-safe
 * functions may be called; of Naru's: naru_interrupt(), naru_signal_interrupt(), naru_signal_describe().
 * Ignored signals are gone for good; SIGCHLD ignored means that children can't be waited for.
 * -EINVAL: SIGKILL, SIGSTOP, one of libc's, or no handler. Thread-safe.
 */
NARU_API int naru_signal_handle(uint64_t set, void (*handler)(const struct naru_signal *signal));
NARU_API int naru_signal_ignore(uint64_t set);
NARU_API int naru_signal_default(uint64_t set);

/*
 * Blocks signals for the calling thread and those that it will start: they stay pending. *ret_changed (may be NULL)
 * are those of `set` that were not blocked before, so naru_signal_unblock(*ret_changed) undoes it. Unblocking lets
 * what is pending arrive before it returns. Faults (SIGSEGV, ...) end a process that blocks them. -EINVAL as above.
 */
NARU_API int naru_signal_block(uint64_t set, uint64_t *ret_changed);
NARU_API int naru_signal_unblock(uint64_t set);

/* -- receiving ----------------------------------------------------------------------------- */

/*
 * Waits for one of the signals, takes it, and returns its number; *ret (may be NULL) is the rest. The calling thread
 * must block all of `set` (-EPERM), and so should the others, lest one of them gets it. -EAGAIN: none is pending,
 * with a time-out of 0; -ETIMEDOUT; -EINVAL: an empty set, SIGKILL, ... Other signals, handled, do not end the wait.
 */
NARU_API int naru_signal_wait(uint64_t set, struct naru_signal *ret, int64_t timeout_ns);

/*
 * The same for an event loop. Opens only when all threads of the process block all of `set` (-EPERM names one that
 * does not). naru_signal_fd() is readable while one of them may be taken; it is the receiver's own, don't read it.
 * -EINTR: after naru_signal_interrupt(), which ends one wait and is async-signal-safe. A receiver belongs to the
 * process that opened it (-ECHILD in a forked child). Any thread may receive; close excludes all.
 */
struct naru_signal_receiver;
NARU_API int naru_signal_receiver_open(struct naru_signal_receiver **ret, uint64_t set);
NARU_API int naru_signal_recv(struct naru_signal_receiver *receiver, struct naru_signal *ret,
                              int64_t timeout_ns);
NARU_API int naru_signal_fd(struct naru_signal_receiver *receiver);
NARU_API int naru_signal_interrupt(struct naru_signal_receiver *receiver);
NARU_API void naru_signal_receiver_close(struct naru_signal_receiver *receiver);

/* -- what the kernel keeps for a process ---------------------------------------------------- */

struct naru_signal_state {
    int64_t pid;
    char name[64];       /* of the program, without a path; any bytes */
    uint64_t pending;    /* for the process: whichever thread unblocks it first gets it */
    uint64_t ignored;    /* by all threads */
    uint64_t caught;     /* handled, in all threads */
    uint64_t queued;     /* signals pending for all processes of its user ... */
    uint64_t queued_max; /* ... and how many may be: RLIMIT_SIGPENDING; UINT64_MAX: any number */
    uint32_t threads_count;
    char run_state; /* 'R', 'S', 'T' stopped, 'Z' zombie, ...: proc_pid_status(5) */
    uint8_t reserved0[3];
    uint64_t reserved[4]; /* zero */
};

struct naru_signal_thread {
    int64_t thread_id;
    char name[64];
    uint64_t pending; /* for this thread only */
    uint64_t blocked;
    char run_state;
    uint8_t
        is_awaiting; /* it sleeps in naru_signal_wait() or its like: what it waits for is not in `blocked` */
    uint8_t reserved0[6];
    uint64_t reserved[4]; /* zero */
};

/* Any process that /proc shows. -ESRCH: no such process; -EACCES: /proc hides it; -ENOENT: there is no /proc. */
NARU_API int naru_signal_look(int64_t pid, struct naru_signal_state *ret);

/* Its threads, the first one first. Returns how many there are, and fills in as many as there is room for. */
NARU_API int naru_signal_look_threads(int64_t pid, struct naru_signal_thread *threads,
                                      size_t capacity);

#ifdef __cplusplus
}
#endif
