/* SPDX-License-Identifier: MIT */
/* mq_pair -- naru_pair() for mq://: two queues without a name, and the page that tells of an end */
#include "transport/mq.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/random.h"
#include <stdio.h>

static int nr_mq_anonymous(const struct nr_request *request, const struct nr_os_mq_sizes *sizes)
{
    char name[NR_MQ_NAME_BYTES];

    for (;;) {
        snprintf(name, sizeof name, "/naru-pair-%d-%llx", (int)nr_os_pid(),
                 (unsigned long long)nr_os_random());
        int fd = nr_os_mq_create(name, true, true, 0600, sizes);
        if (fd >= 0)
            nr_os_mq_unlink(name);
        if (fd != -EEXIST)
            return fd < 0 ? nr_mq_fail_open(request->text, fd, sizes) : fd;
    }
}

/* What a side sleeps on: `fd` with `events`, or the other side's end. */
static int nr_mq_wait_fd(int fd, unsigned events, int ended_fd)
{
    int epoll_fd = nr_os_epoll_new();

    if (epoll_fd < 0)
        return epoll_fd;
    int result = nr_os_epoll_add(epoll_fd, fd, events);
    if (result == 0)
        result = nr_os_epoll_add(epoll_fd, ended_fd, NR_READABLE);
    if (result == 0)
        return epoll_fd;
    nr_os_close(&epoll_fd);
    return result;
}

static int nr_mq_pair_end(struct nr_mq *mq, int side, const int queue_fds[2],
                          const int ended_fds[2])
{
    mq->side = side;
    mq->receive_fd = nr_os_duplicate(queue_fds[side]);
    mq->send_fd = nr_os_duplicate(queue_fds[!side]);
    mq->ended_fd[0] = nr_os_duplicate(ended_fds[0]);
    mq->ended_fd[1] = nr_os_duplicate(ended_fds[1]);
    if (mq->receive_fd < 0 || mq->send_fd < 0 || mq->ended_fd[0] < 0 || mq->ended_fd[1] < 0)
        return -EMFILE;
    mq->wait_fd[0] = nr_mq_wait_fd(mq->receive_fd, NR_READABLE, mq->ended_fd[!side]);
    mq->wait_fd[1] = nr_mq_wait_fd(mq->send_fd, NR_WRITABLE, mq->ended_fd[!side]);
    return mq->wait_fd[0] < 0 || mq->wait_fd[1] < 0 ? -EMFILE : 0;
}

static int nr_mq_pair_link(struct nr_mq *ends[2])
{
    struct nr_mq_link *link = calloc(1, sizeof *link);
    void *page;

    if (!link || nr_os_memory_map_anonymous(sizeof(struct nr_mq_page), &page) < 0) {
        free(link);
        return nr_fail(-ENOMEM, "no memory for a pair of mq://");
    }
    *link = (struct nr_mq_link){.references = 2, .page = page};
    ends[0]->link = ends[1]->link = link;
    return 0;
}

static int nr_mq_pair_build(struct nr_mq *ends[2], const struct nr_request *request)
{
    struct nr_os_mq_sizes sizes = nr_mq_sizes_wanted(&request->options);
    nr_cleanup_close int queue_0 = nr_mq_anonymous(request, &sizes);
    nr_cleanup_close int queue_1 = queue_0 < 0 ? queue_0 : nr_mq_anonymous(request, &sizes);
    if (queue_1 < 0)
        return queue_1;
    nr_cleanup_close int ended_0 = nr_os_eventfd();
    nr_cleanup_close int ended_1 = nr_os_eventfd();
    int result = nr_mq_pair_link(ends);
    for (int side = 0; side < 2 && result == 0; side++) {
        result = nr_mq_settle(request, queue_0, ends[side]);
        if (result == 0)
            result = nr_mq_pair_end(ends[side], side, (int[]){queue_0, queue_1},
                                    (int[]){ended_0, ended_1});
    }
    if (result == -EMFILE)
        return nr_fail(result,
                       "%s: a pair takes twelve descriptors, and there are not enough left; "
                       "close some, or raise `ulimit -n`",
                       request->text);
    return result;
}

unsigned nr_mq_descriptors_held(struct naru_endpoint *endpoint, int *ret[NR_ENDPOINT_FDS_MAX])
{
    struct nr_mq *mq = nr_mq_of(endpoint);

    ret[0] = &mq->receive_fd;
    ret[1] = &mq->send_fd;
    for (int i = 0; i < 2; i++) {
        ret[2 + i] = &mq->ended_fd[i];
        ret[4 + i] = &mq->wait_fd[i];
    }
    return 6;
}

int nr_mq_pair(struct naru_endpoint *ret[2], const struct nr_request *request)
{
    struct nr_mq *ends[2] = {0};

    int result = nr_kernel_queue_refuse(request, 0);
    for (int i = 0; i < 2 && result == 0; i++)
        result = nr_mq_new(&ends[i], request);
    if (result == 0)
        result = nr_mq_pair_build(ends, request);
    for (int i = 0; i < 2; i++) {
        if (result == 0) {
            ret[i] = &ends[i]->endpoint;
        } else if (ends[i]) {
            nr_mq_release(&ends[i]->endpoint);
            nr_endpoint_free(&ends[i]->endpoint);
        }
    }
    return result;
}
