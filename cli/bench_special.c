/* SPDX-License-Identifier: MIT */
#include "bench_special.h"
#include "crew.h"
#include "output.h"
#include "scratch.h"
#include "stop.h"
#include <errno.h>
#include <naru/endpoint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { NR_BENCH_SPECIAL_OPENS = 1000, NR_BENCH_SPECIAL_KILLS = 100, NR_BENCH_SPECIAL_BYTES = 64 };
#define NR_BENCH_SPECIAL_LIMIT_NS (5 * NARU_SECOND)
#define NR_BENCH_SPECIAL_REST_NS  (5 * NARU_MILLISECOND) /* until all sleep */

struct nr_bench_special {
    struct nr_scratch scratch;
    char uri[NR_SCRATCH_URI_BYTES];
    struct nr_crew crew;
    struct nr_bench_special_shared {
        uint32_t ready;
        int64_t killed_ns;
        pid_t victim;
    } * shared;
    char *reason;
};

static int nr_bench_special_fail(struct nr_bench_special *special, const char *what)
{
    if (nr_stop_signal())
        snprintf(special->reason, BENCH_ERROR_BYTES, "interrupted");
    else
        snprintf(special->reason, BENCH_ERROR_BYTES, "%s: %s", what, naru_error_text());
    return -1;
}

static void nr_bench_special_nap(int64_t duration_ns)
{
    nanosleep(&(struct timespec){duration_ns / NARU_SECOND, duration_ns % NARU_SECOND}, NULL);
}

static int nr_bench_special_attach(struct nr_bench_special *special, struct naru_endpoint **ret,
                                   enum naru_role role, enum naru_create create)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .create = create,
        .message_size_max_bytes = NR_BENCH_SPECIAL_BYTES,
        .capacity_messages = 64,
    };

    return naru_open(ret, special->uri, role, &options);
}

static int nr_bench_special_init(struct nr_bench_special *special, unsigned members,
                                 char reason[BENCH_ERROR_BYTES])
{
    *special = (struct nr_bench_special){.reason = reason};
    nr_scratch_init(&special->scratch);
    special->shared = mmap(NULL, sizeof *special->shared, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (special->shared == MAP_FAILED || nr_crew_init(&special->crew, members) < 0 ||
        nr_scratch_name(&special->scratch, "shm", "special", special->uri) < 0) {
        snprintf(reason, BENCH_ERROR_BYTES, "there is no memory");
        return -1;
    }
    return 0;
}

static void nr_bench_special_deinit(struct nr_bench_special *special)
{
    nr_crew_deinit(&special->crew);
    if (special->shared != MAP_FAILED && special->shared)
        munmap(special->shared, sizeof *special->shared);
    nr_scratch_deinit(&special->scratch);
}

static struct nr_bench_quantiles nr_bench_special_rank(double *values, size_t count)
{
    struct nr_bench_quantiles quantiles;

    quantiles.p50_ns = bench_rank(values, count, 0.50);
    quantiles.p99_ns = bench_rank(values, count, 0.99);
    return quantiles;
}

/* -- opening ---------------------------------------------------------------------------------------- */

static int nr_bench_special_open_once(struct nr_bench_special *special, double *ret_create_ns,
                                      double *ret_attach_ns)
{
    struct naru_endpoint *first, *second;
    int64_t begin_ns = nr_output_now_ns();

    if (nr_bench_special_attach(special, &first, NARU_RECEIVER, NARU_CREATE) < 0)
        return nr_bench_special_fail(special, "creating");
    *ret_create_ns = (double)(nr_output_now_ns() - begin_ns);
    begin_ns = nr_output_now_ns();
    int result = nr_bench_special_attach(special, &second, NARU_SENDER, NARU_ATTACH);
    *ret_attach_ns = (double)(nr_output_now_ns() - begin_ns);
    if (result < 0)
        nr_bench_special_fail(special, "attaching");
    else
        naru_close(second);
    naru_close(first);
    naru_unlink(special->uri);
    return result < 0 ? -1 : 0;
}

int nr_bench_special_open(struct nr_bench_quantiles *ret_create,
                          struct nr_bench_quantiles *ret_attach, char reason[BENCH_ERROR_BYTES])
{
    static double creates_ns[NR_BENCH_SPECIAL_OPENS], attaches_ns[NR_BENCH_SPECIAL_OPENS];
    struct nr_bench_special special;
    int result = nr_bench_special_init(&special, 1, reason);

    for (int i = 0; result == 0 && i < NR_BENCH_SPECIAL_OPENS; i++)
        result = nr_bench_special_open_once(&special, &creates_ns[i], &attaches_ns[i]);
    if (result == 0) {
        *ret_create = nr_bench_special_rank(creates_ns, NR_BENCH_SPECIAL_OPENS);
        *ret_attach = nr_bench_special_rank(attaches_ns, NR_BENCH_SPECIAL_OPENS);
    }
    nr_bench_special_deinit(&special);
    return result;
}

/* -- a death ------------------------------------------------------------------------------------------- */

/* Member 0: takes the message and keeps it. Member 1: waits until all sleep, and kills the first. */
static int nr_bench_special_member(void *context, unsigned index)
{
    struct nr_bench_special *special = context;
    struct naru_endpoint *endpoint;
    struct naru_message message;

    if (index == 1) {
        while (!__atomic_load_n(&special->shared->ready, __ATOMIC_ACQUIRE))
            nr_bench_special_nap(NARU_MILLISECOND / 10);
        nr_bench_special_nap(NR_BENCH_SPECIAL_REST_NS);
        special->shared->killed_ns = nr_output_now_ns();
        return kill(special->shared->victim, SIGKILL) < 0;
    }
    if (nr_bench_special_attach(special, &endpoint, NARU_RECEIVER, NARU_ATTACH) < 0 ||
        naru_take(endpoint, &message, NARU_FOREVER) < 0)
        return 1;
    __atomic_store_n(&special->shared->ready, 1, __ATOMIC_RELEASE);
    for (;;)
        pause();
}

static int nr_bench_special_kill_once(struct nr_bench_special *special,
                                      struct naru_endpoint *endpoint, double *ret_ns)
{
    char data[NR_BENCH_SPECIAL_BYTES] = {0};
    int64_t limit_ns = nr_output_now_ns() + NR_BENCH_SPECIAL_LIMIT_NS;
    int result;

    special->shared->ready = 0;
    special->shared->victim = nr_crew_start(&special->crew, nr_bench_special_member, special);
    if (naru_send(endpoint, data, sizeof data, NARU_FOREVER) < 0)
        return nr_bench_special_fail(special, "sending");
    while (!__atomic_load_n(&special->shared->ready, __ATOMIC_ACQUIRE) &&
           nr_output_now_ns() < limit_ns)
        nr_bench_special_nap(NARU_MILLISECOND / 10);
    nr_crew_start(&special->crew, nr_bench_special_member, special);
    do
        result = naru_recv(endpoint, data, sizeof data, NULL, NR_BENCH_SPECIAL_LIMIT_NS);
    while (result == -EINTR && !nr_stop_signal());
    *ret_ns = (double)(nr_output_now_ns() - special->shared->killed_ns);
    return result < 0 ? nr_bench_special_fail(special, "receiving what the dead one held") : 0;
}

int nr_bench_special_kill(struct nr_bench_quantiles *ret, char reason[BENCH_ERROR_BYTES])
{
    static double times_ns[NR_BENCH_SPECIAL_KILLS];
    struct nr_bench_special special;
    struct naru_endpoint *endpoint = NULL;
    int result = nr_bench_special_init(&special, 2, reason);

    if (result == 0 && nr_bench_special_attach(&special, &endpoint, NARU_BOTH, NARU_CREATE) < 0)
        result = nr_bench_special_fail(&special, "creating");
    for (int i = 0; result == 0 && i < NR_BENCH_SPECIAL_KILLS; i++) {
        result = nr_bench_special_kill_once(&special, endpoint, &times_ns[i]);
        nr_crew_deinit(&special.crew);
        if (result == 0 && nr_crew_init(&special.crew, 2) < 0)
            result = -1;
    }
    if (result == 0)
        *ret = nr_bench_special_rank(times_ns, NR_BENCH_SPECIAL_KILLS);
    naru_close(endpoint);
    nr_bench_special_deinit(&special);
    return result;
}

/* -- nothing to do -------------------------------------------------------------------------------------- */

static int nr_bench_special_sleeper(void *context, unsigned index)
{
    struct nr_bench_special *special = context;
    struct naru_endpoint *endpoint;
    char data[NR_BENCH_SPECIAL_BYTES];

    (void)index;
    if (nr_bench_special_attach(special, &endpoint, NARU_RECEIVER, NARU_ATTACH) < 0)
        return 1;
    __atomic_store_n(&special->shared->ready, 1, __ATOMIC_RELEASE);
    return naru_recv(endpoint, data, sizeof data, NULL, NARU_FOREVER) < 0;
}

int nr_bench_special_idle(double *ret_switches, int64_t duration_ns, char reason[BENCH_ERROR_BYTES])
{
    struct nr_bench_special special;
    struct naru_endpoint *endpoint = NULL;
    int result = nr_bench_special_init(&special, 1, reason);

    if (result == 0 && nr_bench_special_attach(&special, &endpoint, NARU_SENDER, NARU_CREATE) < 0)
        result = nr_bench_special_fail(&special, "creating");
    if (result == 0) {
        pid_t pid = nr_crew_start(&special.crew, nr_bench_special_sleeper, &special);
        for (int i = 0; i < 1000 && !__atomic_load_n(&special.shared->ready, __ATOMIC_ACQUIRE); i++)
            nr_bench_special_nap(NARU_MILLISECOND);
        nr_bench_special_nap(NARU_SECOND / 4);
        double before = bench_duel_switches(pid);
        nr_bench_special_nap(duration_ns);
        *ret_switches = bench_duel_switches(pid) - before;
        nr_crew_reap(&special.crew);
        if (special.crew.alive_count == 0) {
            snprintf(reason, BENCH_ERROR_BYTES, "the sleeper failed");
            result = -1;
        }
    }
    naru_close(endpoint);
    nr_bench_special_deinit(&special);
    return result;
}
