/* SPDX-License-Identifier: MIT */
/*
 * prefork -- a supervised set of workers at one listening socket
 *
 * What       The master holds the socket, and accepts nothing. Each worker is a service of a supervisor
 *            (naru/supervisor.h) at a place of the scoreboard; one that dies is started again at the same place.
 * Reload     There is one place more than workers. A new worker starts at the free one; when it is ready the
 *            old one is told to drain, and when that has ended its place is the free one. So at each moment all workers accept.
 * Faults     A worker that can't be started is tried again, with pauses; the others go on.
 */
#include "httpd.h"
#include "output.h"
#include "worker.h"
#include <errno.h>
#include <naru/supervisor.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct nr_prefork_place {
    struct nr_prefork *prefork;
    int index;
    int service;     /* -1: free */
    unsigned reload; /* the reload that it belongs to */
    bool is_ending;  /* replaced, and told to drain */
    bool is_ordered; /* a worker has passed on the order to stop it */
};

struct nr_prefork {
    struct nr_httpd *httpd;
    struct naru_supervisor *supervisor;
    struct nr_prefork_place *places;   /* workers + 1 */
    struct nr_prefork_place *incoming; /* a reload's new worker, not ready yet */
    unsigned reload;
    int ready_count; /* workers that have been ready at least once */
    struct naru_spawn_fd fds[4];
    int epoll_fd;
};

static int nr_prefork_places(const struct nr_prefork *prefork)
{
    return prefork->httpd->options.workers + 1;
}

static int nr_prefork_work(void *context)
{
    struct nr_prefork_place *place = context;

    return nr_worker_run(place->prefork->httpd, place->index);
}

/* Before each start: the log may be another one by now, and the counts go on. */
static int nr_prefork_prepare(void *context, int service, struct naru_spawn_options *options)
{
    struct nr_prefork_place *place = context;

    (void)service;
    nr_scoreboard_read_place(&place->prefork->httpd->service.board, place->index);
    options->fds = place->prefork->fds;
    options->fds_count = nr_httpd_handed_down(place->prefork->httpd, place->prefork->fds);
    return 0;
}

static int nr_prefork_add(struct nr_prefork_place *place)
{
    static const struct naru_spawn_options options = {.size_bytes = sizeof options,
                                                      .readiness = NARU_READY_BY_LINE};
    const struct nr_httpd *httpd = place->prefork->httpd;
    char name[32];
    struct naru_service service = {
        .size_bytes = sizeof service,
        .name = name,
        .function = nr_prefork_work,
        .context = place,
        .options = &options,
        .prepare = nr_prefork_prepare,
        .backoff_ns = 10 * NARU_MILLISECOND,
        .backoff_max_ns = NARU_SECOND,
        .steady_ns = 500 * NARU_MILLISECOND,
        .ready_timeout_ns = 10 * NARU_SECOND,
        .grace_ns = httpd->options.grace_s ? httpd->options.grace_s * NARU_SECOND : 1,
    };

    snprintf(name, sizeof name, "worker-%d", place->index);
    int result = naru_supervisor_add(place->prefork->supervisor, &service);
    if (result < 0)
        return result;
    place->service = result;
    place->reload = place->prefork->reload;
    place->is_ending = false;
    return 0;
}

static struct nr_prefork_place *nr_prefork_find(struct nr_prefork *prefork, int service)
{
    for (int i = 0; i < nr_prefork_places(prefork); i++)
        if (prefork->places[i].service == service)
            return &prefork->places[i];
    return NULL;
}

/* -- reload -------------------------------------------------------------------------------- */

/* The next old worker gets a successor; with none left the reload is over. */
static void nr_prefork_go_on(struct nr_prefork *prefork)
{
    struct nr_prefork_place *free = nr_prefork_find(prefork, -1);
    bool has_old = false;

    if (prefork->incoming || !free)
        return;
    for (int i = 0; i < nr_prefork_places(prefork); i++)
        has_old |= prefork->places[i].service >= 0 && !prefork->places[i].is_ending &&
                   prefork->places[i].reload != prefork->reload;
    if (!has_old)
        return;
    int result = nr_prefork_add(free);
    if (result == 0)
        prefork->incoming = free;
    else
        nr_output_complain("a new worker could not be started, the old ones go on: %s",
                           naru_error_text());
}

static void nr_prefork_begin_reload(struct nr_prefork *prefork)
{
    struct nr_scoreboard *board = &prefork->httpd->service.board;

    nr_listening_notify("RELOADING=1");
    nr_httpd_reopen_log(prefork->httpd);
    prefork->reload++;
    board->master.reloads++;
    nr_scoreboard_write_master(board);
    nr_prefork_go_on(prefork);
}

/* A successor is ready: one old worker may go. */
static void nr_prefork_relieve(struct nr_prefork *prefork)
{
    prefork->incoming = NULL;
    for (int i = 0; i < nr_prefork_places(prefork); i++) {
        struct nr_prefork_place *place = &prefork->places[i];
        if (place->service < 0 || place->is_ending || place->reload == prefork->reload)
            continue;
        place->is_ending = true;
        naru_supervisor_stop(prefork->supervisor, place->service);
        return;
    }
}

/* -- what happens -------------------------------------------------------------------------- */

static void nr_prefork_died(struct nr_prefork *prefork, struct nr_prefork_place *place,
                            const struct naru_service_event *event)
{
    if (!place->is_ending) {
        nr_httpd_note_death(prefork->httpd, place->index,
                            place->is_ordered ? "stopped over HTTP" : event->death.text,
                            event->pid);
        place->is_ordered = false;
        return;
    }
    naru_supervisor_remove(prefork->supervisor, place->service);
    place->service = -1;
    nr_prefork_go_on(prefork);
    if (!prefork->incoming)
        nr_listening_notify("READY=1");
}

static void nr_prefork_look(struct nr_prefork *prefork)
{
    struct naru_service_event event = {.size_bytes = sizeof event};

    while (naru_supervisor_step(prefork->supervisor, &event, 0) == 0) {
        struct nr_prefork_place *place = nr_prefork_find(prefork, event.service);
        if (!place)
            continue;
        switch (event.happening) {
        case NARU_SERVICE_STARTED:
            prefork->httpd->service.board.master.restarts++;
            nr_scoreboard_write_master(&prefork->httpd->service.board);
            break;
        case NARU_SERVICE_NOT_STARTED:
            nr_output_complain("worker %d: %s", place->index, event.death.text);
            break;
        case NARU_SERVICE_IS_READY:
            if (place == prefork->incoming)
                nr_prefork_relieve(prefork);
            else if (prefork->ready_count < prefork->httpd->options.workers &&
                     ++prefork->ready_count == prefork->httpd->options.workers)
                nr_listening_notify("READY=1");
            break;
        case NARU_SERVICE_DIED:
            nr_prefork_died(prefork, place, &event);
            break;
        }
    }
}

static void nr_prefork_obey(struct nr_prefork *prefork)
{
    struct nr_service_order order;

    while (naru_recv(prefork->httpd->control, &order, sizeof order, NULL, 0) == 0) {
        struct naru_service_stat stat = {.size_bytes = sizeof stat};
        if (order.worker < 0 || order.worker >= nr_prefork_places(prefork))
            continue;
        int service = prefork->places[order.worker].service;
        if (service >= 0 && naru_supervisor_stat(prefork->supervisor, service, &stat) == 0 &&
            stat.pid == order.pid)
            prefork->places[order.worker].is_ordered =
                naru_supervisor_restart(prefork->supervisor, service) == 0;
    }
}

/* True: it is time to end. */
static bool nr_prefork_is_told(struct nr_prefork *prefork)
{
    struct signalfd_siginfo signal;

    while (read(prefork->httpd->signal_fd, &signal, sizeof signal) == sizeof signal) {
        if (signal.ssi_signo != SIGHUP)
            return true;
        nr_prefork_begin_reload(prefork);
    }
    return false;
}

/* -- running ------------------------------------------------------------------------------- */

static int nr_prefork_open(struct nr_prefork *prefork)
{
    struct nr_httpd *httpd = prefork->httpd;
    struct epoll_event event = {.events = EPOLLIN};

    prefork->places = calloc((size_t)nr_prefork_places(prefork), sizeof *prefork->places);
    if (!prefork->places)
        return -ENOMEM;
    for (int i = 0; i < nr_prefork_places(prefork); i++)
        prefork->places[i] =
            (struct nr_prefork_place){.prefork = prefork, .index = i, .service = -1};
    prefork->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int result = prefork->epoll_fd < 0 ? -errno : naru_supervisor_open(&prefork->supervisor);
    const int watched[] = {httpd->signal_fd, result < 0 ? -1 : naru_fd(httpd->control),
                           result < 0 ? -1 : naru_supervisor_fd(prefork->supervisor)};
    for (int i = 0; i < 3 && result == 0; i++)
        if (epoll_ctl(prefork->epoll_fd, EPOLL_CTL_ADD, watched[i], &event) < 0)
            result = -errno;
    for (int i = 0; i < httpd->options.workers && result == 0; i++)
        result = nr_prefork_add(&prefork->places[i]);
    return result;
}

/* The order is that of how it is armed: look at all, then sleep. */
static void nr_prefork_serve(struct nr_prefork *prefork)
{
    struct epoll_event events[3];

    do {
        nr_prefork_obey(prefork);
        nr_prefork_look(prefork);
        epoll_wait(prefork->epoll_fd, events, 3, -1);
    } while (!nr_prefork_is_told(prefork));
}

int nr_prefork_run(struct nr_httpd *httpd)
{
    struct nr_prefork prefork = {.httpd = httpd, .epoll_fd = -1};

    int result = nr_prefork_open(&prefork);
    if (result < 0) {
        nr_output_complain("the workers could not be started: %s", naru_error_text());
    } else {
        nr_prefork_serve(&prefork);
        nr_listening_notify("STOPPING=1");
        nr_listening_close(&httpd->listening);
        naru_supervisor_stop_all(prefork.supervisor, (httpd->options.grace_s + 1) * NARU_SECOND);
    }
    naru_supervisor_close(prefork.supervisor);
    if (prefork.epoll_fd >= 0)
        close(prefork.epoll_fd);
    free(prefork.places);
    return result < 0;
}
