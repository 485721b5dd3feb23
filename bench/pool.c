/* SPDX-License-Identifier: MIT */
/*
 * bench-pool -- a pool beside a bare loop of fork and pipes, and how many short tasks it does
 *
 *     bench-pool [ROUNDS [MIB]]
 *
 * What       The sum of 1..10000 in ten parts, by ten processes: forked one by one, each with a pipe (bare); forked, told to
 *            begin and told to end by a futex (the least that workers which stay can cost); by a pool that is made,
 *            used and freed; by one that is there. With MIB so much memory is touched first, and the pool's workers are
 *            forked by a zygote. Then tasks without work, by 2 workers. Round by round in turns; medians.
 */
#include <errno.h>
#include <linux/futex.h>
#include <naru/pool.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PARTS = 10,
    TERMS = 1000,
    TASKS = 500000,
    BATCH = 256,
    ROUNDS_MOST = 99,
    WARM = 20,
    MOST = 4096
};

struct range {
    long from, to;
};

static struct naru_zygote *zygote;

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static long add(struct range range)
{
    long sum = 0;

    for (long i = range.from; i <= range.to; i++) {
        sum += i;
        __asm__ volatile("" : "+r"(sum));
    }
    return sum;
}

static struct range range_of(int part)
{
    return (struct range){part * TERMS + 1L, (part + 1L) * TERMS};
}

static void check(long sum)
{
    if (sum == 50005000)
        return;
    fprintf(stderr, "the sum is %ld: %s\n", sum, naru_error_text());
    exit(1);
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, naru_error_text()[0] ? naru_error_text() : strerror(errno));
    exit(1);
}

/* -- bare ---------------------------------------------------------------------------------------- */

static double bare(void)
{
    double start_us = now_us();
    pid_t pids[PARTS];
    int fds[PARTS];
    long sum = 0;

    for (int i = 0; i < PARTS; i++) {
        int ends[2];
        if (pipe(ends) < 0 || (pids[i] = fork()) < 0)
            fail("fork");
        if (pids[i] == 0) {
            long part = add(range_of(i));
            _exit(write(ends[1], &part, sizeof part) != sizeof part);
        }
        close(ends[1]);
        fds[i] = ends[0];
    }
    for (int i = 0; i < PARTS; i++) {
        long part = 0;
        if (read(fds[i], &part, sizeof part) != sizeof part)
            fail("read");
        sum += part;
        close(fds[i]);
        waitpid(pids[i], NULL, 0);
    }
    check(sum);
    return now_us() - start_us;
}

/* -- the least ----------------------------------------------------------------------------------- */

struct word {
    _Alignas(64) int value;
    int is_done;
    long part;
};

static void await(int *word, int value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
        syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void tell(int *word, int value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static double least(void)
{
    static struct word *words;
    pid_t pids[PARTS];
    long sum = 0;

    if (!words)
        words = mmap(NULL, sizeof *words * PARTS, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    memset(words, 0, sizeof *words * PARTS);
    double start_us = now_us();
    for (int i = 0; i < PARTS; i++) {
        if ((pids[i] = fork()) < 0)
            fail("fork");
        if (pids[i] == 0) {
            await(&words[i].value, 0);
            words[i].part = add(range_of(i));
            tell(&words[i].is_done, 1);
            await(&words[i].value, 1);
            _exit(0);
        }
    }
    for (int i = 0; i < PARTS; i++)
        tell(&words[i].value, 1);
    for (int i = 0; i < PARTS; i++) {
        await(&words[i].is_done, 0);
        sum += words[i].part;
    }
    for (int i = 0; i < PARTS; i++)
        tell(&words[i].value, 2);
    for (int i = 0; i < PARTS; i++)
        waitpid(pids[i], NULL, 0);
    check(sum);
    return now_us() - start_us;
}

/* -- the pool ------------------------------------------------------------------------------------ */

static int add_range(struct naru_pool_task *task, void *context)
{
    struct range range;

    (void)context;
    memcpy(&range, task->data, sizeof range);
    long part = add(range);
    return naru_pool_reply(task, &part, sizeof part);
}

static struct naru_pool *make(naru_pool_work *work, uint32_t workers_count)
{
    struct naru_spawn_options spawn = {.size_bytes = sizeof spawn, .zygote = zygote};
    struct naru_pool_options options = {.size_bytes = sizeof options,
                                        .workers_count = workers_count,
                                        .spawn = zygote ? &spawn : NULL};
    struct naru_pool *pool;

    if (naru_pool_new(&pool, work, NULL, &options) < 0)
        fail("naru_pool_new");
    return pool;
}

static void map(struct naru_pool *pool)
{
    struct range ranges[PARTS];
    long parts[PARTS], sum = 0;
    const struct naru_pool_array items = {ranges, sizeof ranges[0], PARTS};
    const struct naru_pool_array results = {parts, sizeof parts[0], PARTS};

    for (int i = 0; i < PARTS; i++)
        ranges[i] = range_of(i);
    if (naru_pool_map(pool, &items, &results, NARU_FOREVER) != 0)
        fail("naru_pool_map");
    for (int i = 0; i < PARTS; i++)
        sum += parts[i];
    check(sum);
}

static double cold(void)
{
    double start_us = now_us();
    struct naru_pool *pool = make(add_range, PARTS);

    map(pool);
    naru_pool_free(pool);
    return now_us() - start_us;
}

static double warm(void)
{
    struct naru_pool *pool = make(add_range, PARTS);

    map(pool);
    double start_us = now_us();
    for (int i = 0; i < WARM; i++)
        map(pool);
    double each_us = (now_us() - start_us) / WARM;
    naru_pool_free(pool);
    return each_us;
}

/* -- short tasks --------------------------------------------------------------------------------- */

static int nothing(struct naru_pool_task *task, void *context)
{
    (void)task;
    (void)context;
    return 0;
}

/* One by one: millions a second. */
static double singly(void)
{
    struct naru_pool *pool = make(nothing, 2);
    struct naru_pool_result result;
    long answered = 0, submitted = 0;
    double start_us = now_us();

    while (answered < TASKS) {
        for (int i = 0; i < BATCH && submitted < TASKS && submitted - answered < MOST;
             i++, submitted++)
            if (naru_pool_submit(pool, NULL, 0, NULL, NARU_FOREVER) < 0)
                fail("naru_pool_submit");
        bool waits = submitted == TASKS || submitted - answered >= MOST;
        while (naru_pool_next(pool, &result, waits ? NARU_FOREVER : 0) == 0) {
            answered++;
            waits = false;
        }
    }
    double rate = (double)answered / (now_us() - start_us);
    naru_pool_free(pool);
    return rate;
}

static double in_batches(void)
{
    static struct naru_pool_input inputs[BATCH];
    static struct naru_pool_result results[BATCH];
    struct naru_pool *pool = make(nothing, 2);
    long answered = 0, submitted = 0;
    double start_us = now_us();

    while (answered < TASKS) {
        bool goes_on = submitted < TASKS && submitted - answered < MOST;
        if (goes_on)
            submitted += naru_pool_submit_many(pool, inputs, BATCH, NULL, NARU_FOREVER);
        int count = naru_pool_next_many(pool, results, BATCH, goes_on ? 0 : NARU_FOREVER);
        if (count < 0 && count != -EAGAIN)
            fail("naru_pool_next_many");
        answered += count > 0 ? count : 0;
    }
    double rate = (double)answered / (now_us() - start_us);
    naru_pool_free(pool);
    return rate;
}

/* ------------------------------------------------------------------------------------------------ */

static const struct contestant {
    const char *name;
    double (*run)(void);
    const char *unit;
} contestants[] = {
    {"bare loop of fork and pipes", bare, "us"}, {"the least for workers that stay", least, "us"},
    {"pool: made, used, freed", cold, "us"},     {"pool: used", warm, "us"},
    {"empty tasks, one by one", singly, "M/s"},  {"empty tasks, 256 at once", in_batches, "M/s"},
};
enum { CONTESTANTS = sizeof contestants / sizeof contestants[0] };

static int compare(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    static double times[CONTESTANTS][ROUNDS_MOST];
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    size_t touched_bytes = argc > 2 ? (size_t)atol(argv[2]) << 20 : 0;

    if (rounds < 1 || rounds > ROUNDS_MOST)
        rounds = 5;
    if (touched_bytes && naru_zygote_open(&zygote) < 0)
        fail("naru_zygote_open");
    if (touched_bytes) {
        char *touched = mmap(NULL, touched_bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (touched == MAP_FAILED)
            fail("mmap");
        madvise(touched, touched_bytes, MADV_NOHUGEPAGE); /* as memory is that came bit by bit */
        memset(touched, 1, touched_bytes);
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < CONTESTANTS; i++)
            times[i][round] = contestants[i].run();
    for (int i = 0; i < CONTESTANTS; i++) {
        qsort(times[i], (size_t)rounds, sizeof times[i][0], compare);
        printf("%-34s %9.2f %s", contestants[i].name, times[i][rounds / 2], contestants[i].unit);
        if (i > 0 && strcmp(contestants[i].unit, "us") == 0)
            printf("  %5.2f of bare", times[i][rounds / 2] / times[0][rounds / 2]);
        putchar('\n');
    }
    naru_zygote_close(zygote);
    return 0;
}
