/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * supervisor -- the inside: a supervisor is a list of services, and a service is a state in a table of state and event
 *
 * service.c     the table: what each event does in each state
 * supervisor.c  the list, the descriptors, the clock, and the public functions
 */
#include "process/process.h"
#include <naru/supervisor.h>

enum nr_service_input {
    NR_SERVICE_START, /* somebody wants it to run */
    NR_SERVICE_STOP,  /* ... and not to run */
    NR_SERVICE_DEATH,
    NR_SERVICE_READY,
    NR_SERVICE_TIME, /* what it was waiting for is due */
    NR_SERVICE_INPUTS
};

/* What a descriptor in the epoll tells. */
struct nr_service_watch {
    struct nr_service *service;
    enum nr_service_input input;
    int fd; /* -1: is not watched */
};

struct nr_service {
    struct naru_supervisor *supervisor;
    int number;
    struct naru_service plan; /* with its defaults */
    char name[32];
    enum naru_service_state state;
    int64_t since_ns, due_ns; /* 0: nothing is due */
    int64_t up_ns;            /* since when it was up, the last time */
    bool is_wanted;
    bool is_at_once; /* when it is dead it is started without a pause */
    struct naru_child *child;
    struct nr_service_watch death_watch, ready_watch;
    uint32_t deaths_in_row;
    struct naru_service_stat tally; /* its counts and the latest death */
};

struct naru_supervisor {
    uint64_t owner;
    int epoll_fd, timer_fd;
    int64_t armed_ns; /* what the timer is set to */
    struct nr_service **services;
    int services_count; /* with gaps */
};

/* Starts a service that is DOWN. 0, or -errno and it stays so. */
int nr_service_begin(struct nr_service *service);

/* What `input` does now: 1 and *ret is what has happened; 0; -errno for NR_SERVICE_START and NR_SERVICE_STOP. */
int nr_service_on(struct nr_service *service, enum nr_service_input input,
                  struct naru_service_event *ret);

/* Ends it in whatever state. */
void nr_service_free(struct nr_service *service);

static inline bool nr_service_runs(const struct nr_service *service)
{
    return service->child != NULL;
}

int nr_supervisor_watch(struct naru_supervisor *supervisor, struct nr_service_watch *watch, int fd);
void nr_supervisor_unwatch(struct naru_supervisor *supervisor, struct nr_service_watch *watch);
