/* SPDX-License-Identifier: MIT */
#include "worker.h"
#include <errno.h>
#include <naru/process.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* 1: it shall end. */
static bool nr_worker_is_told(int signal_fd)
{
    struct signalfd_siginfo signal;

    while (read(signal_fd, &signal, sizeof signal) == sizeof signal)
        if (signal.ssi_signo == SIGTERM)
            return true;
    return false;
}

static int nr_worker_watch(int http_fd, int signal_fd)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};

    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, http_fd, &event) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, signal_fd, &event) < 0)
        return -errno;
    return epoll_fd;
}

static void nr_worker_serve(struct nr_service *service, int epoll_fd, int signal_fd)
{
    bool drains = false;

    for (;;) {
        struct epoll_event events[2];
        int wait_ms = nr_http_step(service->http);
        if (drains && nr_http_connections(service->http) == 0)
            return;
        if (service->score.connections != nr_http_connections(service->http))
            nr_service_state(service, service->score.state);
        epoll_wait(epoll_fd, events, 2, wait_ms);
        if (!drains && nr_worker_is_told(signal_fd)) {
            drains = true;
            nr_http_drain(service->http);
            nr_service_state(service, NR_SCORE_DRAINING);
        }
    }
}

int nr_worker_run(struct nr_httpd *httpd, int index)
{
    struct nr_service *service = &httpd->service;
    struct nr_http_options options = {
        .listen_fd = httpd->listening.fd,
        .connections_max = (unsigned)httpd->options.connections,
        .connections_address_max = (unsigned)httpd->options.connections_address,
        .idle_s = (unsigned)httpd->options.idle_s,
    };

    int signal_fd = nr_httpd_signals();
    if (signal_fd < 0 || nr_service_take(service, index) < 0) {
        fprintf(stderr, "naru httpd: worker %d: %s\n", index, naru_error_text());
        return 1;
    }
    nr_service_options(service, &options);
    int result = nr_http_open(&service->http, &options);
    int epoll_fd = result < 0 ? result : nr_worker_watch(nr_http_fd(service->http), signal_fd);
    if (epoll_fd < 0) {
        fprintf(stderr, "naru httpd: worker %d: %s\n", index, strerror(-epoll_fd));
        return 1;
    }
    nr_service_state(service, NR_SCORE_IDLE);
    naru_ready();
    nr_worker_serve(service, epoll_fd, signal_fd);
    nr_service_state(service, NR_SCORE_ENDED);
    naru_close(service->board.writer);
    return 0;
}
