/* SPDX-License-Identifier: MIT */
/*
 * forking -- a process for each connection, as the classic textbook server does it, with limits
 *
 * What       The master accepts, and forks a child that has the connection and nothing else to do; the HTTP
 *            library was set up before the fork, so a child begins at once. A child is at a place of the scoreboard while it lives.
 * Limits     A place is a process. When all are taken, or an address has too many, the client is told 503 by the master
 *            itself, which does not wait for it: a flood of connections makes no more processes.
 * Faults     A fork that fails is a 503. A child that dies takes its connection along, and nothing else.
 */
#include "httpd.h"
#include "output.h"
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <naru/process.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    NR_FORKING_LISTEN,
    NR_FORKING_SIGNALS,
    NR_FORKING_CONTROL,
    NR_FORKING_EVENTS,
    NR_FORKING_LOOK_MS = 100, /* how long a death may stay unseen when no connection comes */
    NR_FORKING_DRAIN_LOOK_MS = 10,
    NR_FORKING_HEAP_BYTES = 256 * 1024, /* that a child need not ask the kernel for any */
};

struct nr_forking_place {
    struct naru_child *child; /* NULL: free */
    pid_t pid;
    struct sockaddr_storage address;
    int next_free; /* a free one's next, or -1 */
};

struct nr_forking {
    struct nr_httpd *httpd;
    struct nr_http *http; /* for the children */
    struct nr_forking_place *places;
    int free; /* the first free place, or -1 */
    int children_count;
    int epoll_fd;
};

/* What a child has to know. */
struct nr_forking_work {
    struct nr_forking *forking;
    int index;
    const struct sockaddr_storage *address;
    socklen_t address_bytes;
};

/* -- the child ----------------------------------------------------------------------------- */

static volatile sig_atomic_t nr_forking_ends;

static void nr_forking_end_soon(int signal_number)
{
    (void)signal_number;
    nr_forking_ends = 1;
}

static int nr_forking_serve(void *context)
{
    struct nr_forking_work *work = context;
    struct nr_service *service = &work->forking->httpd->service;
    sigset_t mine;

    sigemptyset(&mine);
    sigaddset(&mine, SIGTERM);
    sigprocmask(SIG_UNBLOCK, &mine, NULL); /* INT and HUP stay blocked: the master sees to its children */
    if (nr_service_take(service, work->index) < 0) {
        fprintf(stderr, "naru httpd: %s\n", naru_error_text());
        return 1;
    }
    service->http = work->forking->http;
    if (nr_http_add(service->http, work->forking->httpd->listening.fd,
                    (const struct sockaddr *)work->address, work->address_bytes) < 0)
        return 1;
    nr_service_state(service, NR_SCORE_IDLE);
    while (nr_http_connections(service->http)) {
        nr_access_log_flush(&service->log);
        nr_http_wait(service->http);
        if (nr_forking_ends && service->score.state != NR_SCORE_DRAINING) {
            nr_http_drain(service->http);
            nr_service_state(service, NR_SCORE_DRAINING);
        }
    }
    nr_access_log_flush(&service->log);
    nr_service_state(service, NR_SCORE_ENDED);
    return 0;
}

/* -- the master ---------------------------------------------------------------------------- */

/* Politely, and without waiting: who does not take it at once does not get it. */
static void nr_forking_refuse(int fd)
{
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n"
                               "Content-Length: 27\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
                               "503: too many connections\r\n";
    char request[4096];

    (void)!send(fd, busy, sizeof busy - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    /* What was received and not read would turn the answer into a reset. */
    while (recv(fd, request, sizeof request, MSG_DONTWAIT) > 0)
        ;
    close(fd);
}

static bool nr_forking_is_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
                      &((const struct sockaddr_in *)b)->sin_addr, sizeof(struct in_addr)) == 0;
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

static bool nr_forking_has_too_many(const struct nr_forking *forking,
                                    const struct sockaddr_storage *address)
{
    int same = 0;

    for (int i = 0; i < forking->httpd->options.workers; i++)
        same +=
            forking->places[i].child && nr_forking_is_same(&forking->places[i].address, address);
    return same >= forking->httpd->options.connections_address;
}

static int nr_forking_watch(const struct nr_forking *forking, int fd, int what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = what};

    return epoll_ctl(forking->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void nr_forking_spawn(struct nr_forking *forking, int fd,
                             const struct sockaddr_storage *address, socklen_t address_bytes)
{
    struct naru_spawn_fd fds[4];
    size_t fds_count = nr_httpd_handed_down(forking->httpd, fds);
    int index = forking->free;
    struct nr_forking_place *place = &forking->places[index];
    struct nr_forking_work work = {forking, index, address, address_bytes};

    /* The connection stands where the listening socket does here: a low number, as select(2) wants it. */
    for (size_t i = 0; i < fds_count; i++)
        if (fds[i].target == forking->httpd->listening.fd)
            fds[i].fd = fd;
    /* The signals are as a child wants them already (nr_forking_run()): 60 system calls less. */
    struct naru_spawn_options options = {.size_bytes = sizeof options,
                                         .fds = fds,
                                         .fds_count = fds_count,
                                         .keep_signals = true};
    int result = naru_spawn(&place->child, nr_forking_serve, &work, &options);
    if (result < 0) {
        place->child = NULL;
        nr_forking_refuse(fd);
        return;
    }
    close(fd);
    forking->free = place->next_free;
    place->address = *address;
    place->pid = naru_child_pid(place->child);
    forking->children_count++;
}

/* One a turn: meanwhile children have ended, and made room. */
static void nr_forking_accept(struct nr_forking *forking)
{
    struct sockaddr_storage address = {0};
    socklen_t address_bytes = sizeof address;

    int fd = accept4(forking->httpd->listening.fd, (struct sockaddr *)&address, &address_bytes,
                     SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (forking->free < 0 || nr_forking_has_too_many(forking, &address))
        nr_forking_refuse(fd);
    else
        nr_forking_spawn(forking, fd, &address, address_bytes);
}

static void nr_forking_bury(struct nr_forking *forking, int index)
{
    struct nr_forking_place *place = &forking->places[index];
    struct naru_death death = {.size_bytes = sizeof death};

    if (naru_child_wait(place->child, &death, NARU_FOREVER) < 0)
        return;
    if (death.cause != NARU_EXITED || death.exit_status != 0)
        nr_httpd_note_death(forking->httpd, index, death.text, death.pid);
    naru_child_close(place->child);
    place->child = NULL;
    place->next_free = forking->free;
    forking->free = index;
    forking->children_count--;
}

/*
 * All that have died meanwhile. They are looked for before each connection is accepted, instead of being watched: to
 * be woken by each death costs as much as half a fork.
 */
static void nr_forking_bury_all(struct nr_forking *forking)
{
    while (forking->children_count) {
        siginfo_t info = {0};
        int index = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
            return;
        while (index < forking->httpd->options.workers &&
               !(forking->places[index].child && forking->places[index].pid == info.si_pid))
            index++;
        if (index < forking->httpd->options.workers)
            nr_forking_bury(forking, index);
        else
            waitpid(info.si_pid, NULL, 0); /* one that was adopted (PR_SET_CHILD_SUBREAPER) */
    }
}

static void nr_forking_obey(struct nr_forking *forking)
{
    struct nr_service_order order;

    while (naru_recv(forking->httpd->control, &order, sizeof order, NULL, 0) == 0) {
        if (order.worker < 0 || order.worker >= forking->httpd->options.workers)
            continue;
        struct naru_child *child = forking->places[order.worker].child;
        if (child && naru_child_pid(child) == order.pid)
            naru_child_signal(child, SIGTERM);
    }
}

/* True: it is time to end. */
static bool nr_forking_is_told(struct nr_forking *forking)
{
    struct signalfd_siginfo signal;

    while (read(forking->httpd->signal_fd, &signal, sizeof signal) == sizeof signal) {
        if (signal.ssi_signo != SIGHUP)
            return true;
        nr_httpd_reopen_log(forking->httpd); /* each child is a new one anyway */
        forking->httpd->service.board.master.reloads++;
        nr_scoreboard_write_master(&forking->httpd->service.board);
    }
    return false;
}

/* One turn of the loop. True: it is time to end. */
static bool nr_forking_turn(struct nr_forking *forking, int wait_ms)
{
    struct epoll_event events[NR_FORKING_EVENTS];
    bool ends = false;

    int count = epoll_wait(forking->epoll_fd, events, NR_FORKING_EVENTS, wait_ms);
    nr_forking_bury_all(forking); /* before one is accepted: they make room */
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == NR_FORKING_LISTEN)
            nr_forking_accept(forking);
        else if (events[i].data.fd == NR_FORKING_SIGNALS)
            ends |= nr_forking_is_told(forking);
        else
            nr_forking_obey(forking);
    }
    return ends;
}

/* Lets the children end what they have begun, as long as the grace lasts. */
static void nr_forking_drain(struct nr_forking *forking)
{
    int64_t end_ns = nr_score_now_ns() + (int64_t)forking->httpd->options.grace_s * 1000000000;

    epoll_ctl(forking->epoll_fd, EPOLL_CTL_DEL, forking->httpd->listening.fd, NULL);
    nr_listening_close(&forking->httpd->listening);
    for (int i = 0; i < forking->httpd->options.workers; i++)
        if (forking->places[i].child)
            naru_child_signal(forking->places[i].child, SIGTERM);
    while (forking->children_count) {
        if (nr_score_now_ns() >= end_ns || nr_forking_turn(forking, NR_FORKING_DRAIN_LOOK_MS))
            break; /* told twice: at once */
    }
    for (int i = 0; i < forking->httpd->options.workers; i++)
        naru_child_close(forking->places[i].child); /* kills who is left */
}

static int nr_forking_open(struct nr_forking *forking)
{
    struct nr_httpd *httpd = forking->httpd;
    struct nr_http_options options = {
        .listen_fd = -1,
        .connections_max = 1,
        .connections_address_max = 1,
        .idle_s = (unsigned)httpd->options.idle_s,
    };

    forking->places = calloc((size_t)httpd->options.workers, sizeof *forking->places);
    if (!forking->places)
        return -ENOMEM;
    for (int i = 0; i < httpd->options.workers; i++)
        forking->places[i].next_free = i + 1 < httpd->options.workers ? i + 1 : -1;
    nr_service_options(&httpd->service, &options);
    int result = nr_http_open(&forking->http, &options);
    if (result < 0)
        return result;
    forking->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (forking->epoll_fd < 0)
        return -errno;
    result = nr_forking_watch(forking, httpd->listening.fd, NR_FORKING_LISTEN);
    if (result == 0)
        result = nr_forking_watch(forking, httpd->signal_fd, NR_FORKING_SIGNALS);
    if (result == 0)
        result = nr_forking_watch(forking, naru_fd(httpd->control), NR_FORKING_CONTROL);
    nr_forking_obey(forking); /* arms the descriptor */
    return result;
}

int nr_forking_run(struct nr_httpd *httpd)
{
    struct nr_forking forking = {.httpd = httpd, .epoll_fd = -1};
    const struct sigaction action = {.sa_handler = nr_forking_end_soon};

    mallopt(M_TOP_PAD, NR_FORKING_HEAP_BYTES);
    sigaction(SIGTERM, &action, NULL); /* the children's: here TERM is blocked, and read from a descriptor */
    int result = nr_forking_open(&forking);
    if (result == 0) {
        nr_listening_notify("READY=1");
        while (!nr_forking_turn(&forking, forking.children_count ? NR_FORKING_LOOK_MS : -1))
            ;
        nr_listening_notify("STOPPING=1");
        nr_forking_drain(&forking);
    } else {
        nr_output_complain("%s", strerror(-result));
    }
    nr_http_close(forking.http);
    if (forking.epoll_fd >= 0)
        close(forking.epoll_fd);
    free(forking.places);
    return result < 0;
}
