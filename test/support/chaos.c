/* SPDX-License-Identifier: MIT */
#include "chaos.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Survives all of them. */
static struct nr_chaos_shared {
    unsigned long progress;
    int is_inside[NR_CHAOS_WORKERS_MOST + 1]; /* the last: of who is no worker */
} * nr_chaos_shared;

static int nr_chaos_me = NR_CHAOS_WORKERS_MOST;

void nr_chaos_init(void)
{
    nr_chaos_shared = nr_kit_shared(sizeof *nr_chaos_shared);
}

/* -- for workers ------------------------------------------------------------------------------- */

void nr_chaos_progress(void)
{
    nr_kit_add(&nr_chaos_shared->progress, 1);
}

void nr_chaos_enter(void)
{
    nr_kit_set(&nr_chaos_shared->is_inside[nr_chaos_me], 1);
}

int nr_chaos_come_out(int result)
{
    nr_kit_set(&nr_chaos_shared->is_inside[nr_chaos_me], 0);
    return result;
}

/* -- chance ------------------------------------------------------------------------------------ */

uint64_t nr_chaos_seed(void)
{
    const char *text = getenv("NARU_SEED");

    return text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
}

uint64_t nr_chaos_any(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15u;

    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

int64_t nr_chaos_share_ns(int default_s, int shares)
{
    const char *budget = getenv("NARU_BUDGET_S");

    return (int64_t)((budget ? atof(budget) : default_s) / shares * NARU_SECOND);
}

/* -- the supervisor ---------------------------------------------------------------------------- */

struct nr_chaos_watch {
    unsigned long seen;
    int64_t since_ns;
};

static pid_t nr_chaos_start(const struct nr_chaos *chaos, int worker)
{
    pid_t pid = nr_kit_fork();

    if (pid > 0)
        return pid;
    nr_chaos_me = worker;
    chaos->live(worker);
    _exit(1);
}

static void nr_chaos_kill(struct nr_chaos *chaos, pid_t pid, int worker)
{
    int status = -1;

    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0)
        ;
    nr_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "worker %d ended by itself: %x",
             worker, status);
    chaos->kills++;
    chaos->kills_of[worker]++;
    chaos->kills_inside += (unsigned long)nr_kit_get(&nr_chaos_shared->is_inside[worker]);
    nr_kit_set(&nr_chaos_shared->is_inside[worker], 0);
}

/* Between two looks, when nobody is stopped: something must go on. */
static void nr_chaos_look(struct nr_chaos *chaos, struct nr_chaos_watch *watch, bool is_restart)
{
    unsigned long now = nr_kit_get(&nr_chaos_shared->progress);
    int64_t now_ns = nr_kit_now_ns();

    if (is_restart || now != watch->seen)
        watch->since_ns = now_ns;
    watch->seen = now;
    if (now_ns - watch->since_ns > chaos->longest_stall_ns)
        chaos->longest_stall_ns = now_ns - watch->since_ns;
    nr_check(now_ns - watch->since_ns < NR_CHAOS_STALL_MOST_S * NARU_SECOND * nr_kit_slowness(),
             "nothing has moved for %d s", NR_CHAOS_STALL_MOST_S * nr_kit_slowness());
}

/* True: the worker is stopped and goes on. */
static bool nr_chaos_stop(struct nr_chaos *chaos, pid_t pid, uint64_t by)
{
    kill(pid, SIGSTOP);
    chaos->stops++;
    nanosleep(&(struct timespec){.tv_nsec = (long)((by >> 20) % 6000000)}, NULL);
    if (!(by >> 60 & 1))
        return false; /* it is killed while it is stopped */
    kill(pid, SIGCONT);
    return true;
}

void nr_chaos_run(struct nr_chaos *chaos, uint64_t seed, int64_t duration_ns)
{
    pid_t pids[NR_CHAOS_WORKERS_MOST];
    struct nr_chaos_watch watch = {0};
    uint64_t random = seed;

    for (int i = 0; i < chaos->workers; i++)
        pids[i] = nr_chaos_start(chaos, i);
    nr_chaos_look(chaos, &watch, true);
    for (int64_t end = nr_kit_now_ns() + duration_ns; nr_kit_now_ns() < end;) {
        uint64_t by = nr_chaos_any(&random);
        int worker = (int)(by % (unsigned)chaos->workers);
        bool stops = (by >> 40) % 4 == 0;
        nanosleep(&(struct timespec){.tv_nsec = (long)((by >> 8) % 3000000)}, NULL);
        nr_chaos_look(chaos, &watch, false);
        bool goes_on = stops && nr_chaos_stop(chaos, pids[worker], by);
        if (stops)
            nr_chaos_look(chaos, &watch, true);
        if (goes_on)
            continue;
        nr_chaos_kill(chaos, pids[worker], worker);
        pids[worker] = nr_chaos_start(chaos, worker);
    }
    for (int i = chaos->workers; i-- > 0;) { /* the others go on for a moment, without it */
        nr_chaos_kill(chaos, pids[i], i);
        nr_kit_sleep_ms(5);
    }
}

void nr_chaos_check(const struct nr_chaos *chaos)
{
    unsigned long enough = nr_kit_slowness() > 1 ? 10 : 40;

    nr_check(chaos->kills > enough && chaos->kills_inside > enough / 10 &&
                 nr_kit_get(&nr_chaos_shared->progress) > 10 * enough,
             "too little happened: %lu kills, %lu inside a call", chaos->kills,
             chaos->kills_inside);
    nr_check(chaos->stops > 0, "nobody was stopped");
}
