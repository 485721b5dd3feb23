/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * supervisor -- keeps a set of children running
 *
 * What       A service is a child that is to run: a function or a program, when to start it again, how to stop it.
 *            The supervisor has no thread of its own and never blocks unless asked to: its descriptor is for the caller's own
 *            loop, and naru_supervisor_step() does what is due and tells what has happened.
 * Threads    One thread at a time uses a supervisor.
 * Fork       It belongs to the process that opened it: elsewhere -ECHILD.
 * Death      The services die with the process, unless their options say otherwise (naru/process.h).
 */
#include <naru/process.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_supervisor;

/* When is a child that has died started again? */
enum naru_restart {
    NARU_RESTART_ALWAYS = 1, /* (default) */
    NARU_RESTART_ON_FAILURE, /* unless it ended with exit status 0 */
    NARU_RESTART_NEVER,
};

/* Zero is the default everywhere. What the pointers point to has to last as long as the service, but for `name`. */
struct naru_service {
    size_t size_bytes;              /* sizeof(struct naru_service) */
    const char *name;               /* up to 31 bytes, for texts and naru_supervisor_stat() */
    int (*function)(void *context); /* as for naru_spawn() ... */
    void *context;
    const char *const *argv; /* ... or naru_spawn_program() */
    const struct naru_spawn_options *options;
    /* Called before each start, with a copy of the options to be completed: new ends of pairs, descriptors, limits. A negative
       result is a start that failed. NULL: none. */
    int (*prepare)(void *context, int service, struct naru_spawn_options *options);
    enum naru_restart restart;
    uint32_t deaths_max; /* so many in a row, and it is given up; 0: never */
    int64_t
        backoff_ns; /* the pause before the first restart; doubles with each death in a row; 0: 100 ms */
    int64_t backoff_max_ns; /* and is never longer; 0: 10 s */
    int64_t
        steady_ns; /* after having been up for so long the deaths in a row are forgotten; 0: 10 s */
    int64_t ready_timeout_ns; /* not ready by then: killed, and that is a failure; 0: for ever */
    int64_t grace_ns;         /* from stop_signal to SIGKILL; 0: 10 s; NARU_FOREVER: no SIGKILL */
    int32_t stop_signal;      /* 0: SIGTERM */
    uint32_t reserved0;
    uint64_t reserved[6];
};

enum naru_service_state {
    NARU_SERVICE_DOWN = 1, /* it is not to run: stopped, or ended and not to be started again */
    NARU_SERVICE_STARTING, /* it runs, and is not ready yet */
    NARU_SERVICE_UP,
    NARU_SERVICE_WAITING,  /* to be started again */
    NARU_SERVICE_STOPPING, /* has got its stop signal */
    NARU_SERVICE_KILLED,   /* has got SIGKILL */
    NARU_SERVICE_FAILED,   /* given up */
};

enum naru_happening {
    NARU_SERVICE_STARTED = 1, /* again, after a pause */
    NARU_SERVICE_NOT_STARTED, /* the start failed with `error` and `text`; it will be tried again, unless it is FAILED */
    NARU_SERVICE_IS_READY,
    NARU_SERVICE_DIED, /* `death` tells how, `state` what comes now */
};

struct naru_service_event {
    size_t size_bytes; /* sizeof(struct naru_service_event), set by the caller */
    enum naru_happening happening;
    int32_t service;
    enum naru_service_state state; /* from now on */
    int32_t pid;
    int32_t error; /* NOT_STARTED: -errno */
    uint32_t reserved0;
    struct naru_death death; /* DIED; its text is set for NOT_STARTED, too */
    uint64_t reserved[4];
};

NARU_API int naru_supervisor_open(struct naru_supervisor **ret);

/* Kills what still runs, waits for it, and frees all. NULL is allowed. First naru_supervisor_stop_all() is the kind way. */
NARU_API void naru_supervisor_close(struct naru_supervisor *supervisor);

/*
 * Starts a service, and returns its number (0, 1, ...). When that first start fails, nothing was added.
 * Errors: those of naru_spawn(); -ENOSPC 4,096 services.
 */
NARU_API int naru_supervisor_add(struct naru_supervisor *supervisor,
                                 const struct naru_service *service);

/*
 * stop: sends the stop signal, and SIGKILL when the grace is over; the service is down when its death is told. start:
 * starts one that is down, given up or waiting, at once; one that is being stopped, when it is dead. restart: stops it, and
 * starts it when it is dead. remove: forgets one that is down or given up, and its number becomes free; -EBUSY it runs.
 * signal: sends a signal, such as SIGHUP; -ESRCH it does not run. None of them waits. -ENOENT no such service.
 */
NARU_API int naru_supervisor_stop(struct naru_supervisor *supervisor, int service);
NARU_API int naru_supervisor_start(struct naru_supervisor *supervisor, int service);
NARU_API int naru_supervisor_restart(struct naru_supervisor *supervisor, int service);
NARU_API int naru_supervisor_remove(struct naru_supervisor *supervisor, int service);
NARU_API int naru_supervisor_signal(struct naru_supervisor *supervisor, int service,
                                    int signal_number);

/* Readable when naru_supervisor_step() has something to do. Belongs to the supervisor. */
NARU_API int naru_supervisor_fd(struct naru_supervisor *supervisor);

/*
 * Does what is due, and tells the next thing that has happened in *ret. Waits for it up to the time-out: -EAGAIN
 * (time-out 0) nothing, -ETIMEDOUT. After the descriptor was readable call it with 0 until -EAGAIN.
 */
NARU_API int naru_supervisor_step(struct naru_supervisor *supervisor,
                                  struct naru_service_event *ret, int64_t timeout_ns);

/* Stops all services at once and waits until all are down, at most so long: -ETIMEDOUT. */
NARU_API int naru_supervisor_stop_all(struct naru_supervisor *supervisor, int64_t timeout_ns);

struct naru_service_stat {
    size_t size_bytes; /* sizeof(struct naru_service_stat), set by the caller */
    char name[32];
    enum naru_service_state state;
    int32_t pid;           /* 0: it does not run */
    int64_t since_ns;      /* how long it has been in that state */
    int64_t next_start_ns; /* WAITING: until it is started */
    uint64_t starts;       /* that succeeded */
    uint64_t starts_failed;
    uint64_t ended;  /* exit status 0 */
    uint64_t failed; /* another one */
    uint64_t killed; /* by a signal */
    uint64_t out_of_memory;
    uint64_t unknown;
    uint32_t deaths_in_row; /* without having been up for steady_ns in between */
    uint32_t reserved0;
    struct naru_death death; /* the latest; its cause is 0 if there was none */
    uint64_t reserved[8];
};

/* Fills *stat about a service; -ENOENT. Numbers go from 0 up, with gaps; naru_supervisor_count() is behind the last. */
NARU_API int naru_supervisor_stat(struct naru_supervisor *supervisor, int service,
                                  struct naru_service_stat *stat);
NARU_API int naru_supervisor_count(struct naru_supervisor *supervisor);

#ifdef __cplusplus
}
#endif
