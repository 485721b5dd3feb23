/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * process -- start a child process, hand channels to it, wait for it, and know how it died
 *
 * What       A child is a function in a forked process, or a program. It gets the descriptors and pair ends
 *            that are named, default signals, and what else the options say; and it dies with its parent.
 * Parent     "The parent dies" means the process. That the thread which spawned has ended means nothing.
 * Descriptor naru_child_fd() is the child's pidfd: readable when it is dead, for the caller's own epoll loop.
 * SIGCHLD    Nothing of it is the library's. Only the library's own children are waited for, each by its pidfd. The
 *            program may handle or ignore SIGCHLD and wait for any child (wait(2)); see naru_child_wait().
 * Threads    All functions are thread-safe, but naru_child_close() excludes the others on the same child.
 * Fork       A handle belongs to the process that spawned: elsewhere -ECHILD.
 * Kernel     Needs pidfd_open(2) and waitid(P_PIDFD): Linux 5.4; -ENOSYS where they are refused (valgrind 3.19).
 */
#include <naru/endpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_child;
struct naru_zygote;

/* A descriptor to hand down: `fd` here is `target` in the child. */
struct naru_spawn_fd {
    int32_t fd, target;
};

#define NARU_UNLIMITED UINT64_MAX

/* A limit of setrlimit(2): `resource` is RLIMIT_NOFILE or another. */
struct naru_spawn_limit {
    int32_t resource;
    uint32_t reserved;
    uint64_t soft, hard; /* NARU_UNLIMITED */
};

/* How a child tells that it is ready. */
enum naru_readiness {
    NARU_READY_AT_ONCE = 0, /* it counts as ready when it runs */
    NARU_READY_BY_LINE =
        1, /* it calls naru_ready(), or writes a newline to the descriptor in its NARU_READY_FD */
    NARU_READY_BY_NOTIFY =
        2, /* READY=1 to the socket in its NOTIFY_SOCKET (sd_notify(3), naru_ready()); programs only */
};

/*
 * Options. Zero is the default everywhere, so start with
 *     struct naru_spawn_options options = {.size_bytes = sizeof options};
 */
struct naru_spawn_options {
    size_t size_bytes; /* sizeof(struct naru_spawn_options) */
    const struct naru_spawn_fd
        *fds;         /* besides 0, 1 and 2, which are inherited unless they are targets here */
    size_t fds_count; /* all other descriptors are closed in the child */
    struct naru_endpoint *const *ends; /* ends of pairs, which become the child's; functions only */
    size_t ends_count;
    struct naru_endpoint *const
        *channels; /* where to look, at its death, for what it held; see naru_death */
    size_t channels_count;
    const struct naru_spawn_limit *limits;
    size_t limits_count;
    const uint32_t *cpus; /* the processors that it may run on; none: as the caller */
    size_t cpus_count;
    const char *const
        *environment;      /* "NAME=value" ..., NULL; default: the caller's; programs only */
    const char *directory; /* its working directory; default: the caller's */
    int32_t nice;          /* added to the caller's */
    enum naru_readiness readiness;
    uint32_t keep_fds;        /* 1: inherits the caller's descriptors as fork(2) does */
    uint32_t keep_signals;    /* 1: the caller's signal mask and dispositions */
    uint32_t survives_parent; /* 1: goes on when the parent dies */
    int32_t death_signal;     /* what it gets when the parent dies; default SIGKILL */
    uint32_t own_group; /* 1: leads a process group, which is signalled and ended as a whole */
    uint32_t reserved0;
    struct naru_zygote *zygote; /* who forks; default: the caller; functions only */
    size_t context_size_bytes;  /* with a zygote: so much of *context is copied to the child */
    uint64_t reserved[6];
};

/*
 * Runs function(context) in a forked child, which ends with what it returns as its exit status (0..255).
 * The child has the memory of the caller as it was, the named descriptors, and the named ends, which
 * naru_pair_assign() has made its own; its death is seen by the other end from the first moment. Other endpoints of the
 * caller are not the child's, and their descriptors are closed: it must not touch or close them. What stdio had
 * buffered is dropped in the child; when the function returns, stdout and stderr are flushed, and no atexit(3) handlers
 * run. Returns when the child is set up, and `function` about to begin. A caller that is not its process's first thread
 * has the fork made by a thread of the library: `function` then runs on a stack of its own (8 MiB, or the limit).
 * Errors: -EINVAL an option; -EBADF a descriptor is not open; -EAGAIN the limit of processes (RLIMIT_NPROC, cgroup)
 * is reached; -ENOMEM; -EMFILE, -ENFILE; -ECHILD an endpoint is not the caller's; -ENOENT, -ENOTDIR, -EACCES the
 * directory; -EPERM a limit or nice value needs privilege; -ESRCH it was killed before it ran; -ENOSYS no pidfds.
 */
NARU_API int naru_spawn(struct naru_child **ret, int (*function)(void *context), void *context,
                        const struct naru_spawn_options *options);

/*
 * Runs a program: argv[0] is looked for in PATH if it has no slash; NULL ends argv. The parent's memory is neither
 * copied nor marked: it costs the same however large the parent is. Returns when the program has been loaded.
 * Errors: as above, and -ENOENT no such program, -EACCES, -ENOEXEC, -E2BIG, ...: no child is left then.
 */
NARU_API int naru_spawn_program(struct naru_child **ret, const char *const *argv,
                                const struct naru_spawn_options *options);

/*
 * A zygote is a process that is forked early and forks for its maker later: what that costs depends on the zygote's
 * size, not on how large its maker has become. Open it while the process is small, and give it in options->zygote. The child
 * then has the memory, working directory and environment of the process as it was when the zygote was opened: `function` has to be in it,
 * `context` is copied (up to 64 KiB, context_size_bytes; else NULL), descriptors are handed down (up to 250), but no ends of pairs:
 * open channels by name, or pipe://N by number. The zygote dies with its maker, and its children with it. A child's
 * handle may outlive naru_zygote_close(), but the child does not: it is killed. Errors of open: those of naru_spawn(). If the
 * zygote was killed, naru_spawn() gives -EOWNERDEAD; open another one. Thread-safe, but for close.
 */
NARU_API int naru_zygote_open(struct naru_zygote **ret);
NARU_API void naru_zygote_close(struct naru_zygote *zygote);

enum naru_death_cause {
    NARU_EXITED = 1,    /* by itself: exit_status */
    NARU_KILLED,        /* by signal_number */
    NARU_OUT_OF_MEMORY, /* by the kernel, for lack of memory: SIGKILL, and there is evidence */
    NARU_DEATH_UNKNOWN, /* it is dead, and how can't be known any more */
};

struct naru_death {
    size_t size_bytes; /* sizeof(struct naru_death), set by the caller */
    enum naru_death_cause cause;
    int32_t pid;
    int32_t exit_status;        /* 0..255; -1 if it did not exit */
    int32_t signal_number;      /* 0 if no signal killed it */
    uint32_t core_dumped;       /* 1: yes */
    uint32_t was_asked;         /* 1: naru_child_signal() has sent it a signal before */
    int64_t user_ns, system_ns; /* processor time, with that of its own children; -1 unknown */
    int64_t resident_max_bytes; /* the most memory it had at once; -1 unknown */
    uint64_t held_messages,
        loans;      /* what it had in hand in options->channels; 0 where that is not known */
    char text[192]; /* all this as a sentence */
    uint64_t reserved[8];
};

/*
 * Waits until the child is dead, and tells how it died in *ret (which may be NULL). Every call tells the same.
 * Errors: -EAGAIN it lives (time-out 0), -ETIMEDOUT.
 * If the program itself has waited for that child, or ignores SIGCHLD, the kernel still tells the cause from Linux 6.15
 * on; before that it is NARU_DEATH_UNKNOWN.
 */
NARU_API int naru_child_wait(struct naru_child *child, struct naru_death *ret, int64_t timeout_ns);

/* The child's pidfd: readable when it is dead. Belongs to the handle: do not read or close it. */
NARU_API int naru_child_fd(struct naru_child *child);

/* Its pid. It names the child, and no other process, until naru_child_wait() has told of its death. */
NARU_API int naru_child_pid(struct naru_child *child);

/* Sends it (own_group: its group) a signal; 0 only asks whether it lives. -ESRCH it is dead. */
NARU_API int naru_child_signal(struct naru_child *child, int signal_number);

/*
 * Waits until the child has said that it is ready. -EAGAIN (time-out 0), -ETIMEDOUT not yet; -EOWNERDEAD it
 * died, or -EPIPE gave its descriptor up, without a word. naru_child_ready_fd() is readable when this would not
 * wait; -EOPNOTSUPP without options->readiness.
 */
NARU_API int naru_child_await_ready(struct naru_child *child, int64_t timeout_ns);
NARU_API int naru_child_ready_fd(struct naru_child *child);

/*
 * Frees the handle. A child that still lives is killed (SIGKILL) and waited for, unless it survives its
 * parent: that one goes on. NULL is allowed.
 */
NARU_API void naru_child_close(struct naru_child *child);

/*
 * In the child: says that it is ready, to naru_spawn()'s caller, to whatever started this program with a descriptor in
 * NARU_READY_FD, or to a service manager that gave NOTIFY_SOCKET (sd_notify(3)). Returns 1 if somebody was told, 0 if
 * nobody asked (any more). Errors: those of write(2) and send(2).
 */
NARU_API int naru_ready(void);

#ifdef __cplusplus
}
#endif
