/* SPDX-License-Identifier: MIT */
/* forecast -- one process writes a table that others read, and is killed while it does: nobody sees half of one unwarned */
#include <naru/shm.h>
#include <naru/sync.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HOURS = 24, READERS = 3, KILLS = 30 };

static struct weather {
    struct naru_rwlock_state lock;
    volatile long degrees[HOURS]; /* all from one forecast */
    int is_over;
} * weather;

static struct naru_rwlock *lock;

static int failed(void)
{
    fprintf(stderr, "%s\n", naru_error_text());
    return 1;
}

static void forecast(long number)
{
    for (int i = 0; i < HOURS; i++)
        weather->degrees[i] = number;
}

static void write_for_ever(void)
{
    for (long number = 1;; number++) {
        if (naru_rwlock_write(lock, NARU_FOREVER) < 0)
            _exit(failed());
        forecast(number); /* also over what one that died has left */
        naru_rwlock_consistent(lock);
        naru_rwlock_unlock(lock);
    }
}

static int read_for_long(void)
{
    while (!__atomic_load_n(&weather->is_over, __ATOMIC_RELAXED)) {
        int result = naru_rwlock_read(lock, NARU_FOREVER);
        if (result < 0)
            return failed();
        for (int i = 1; i < HOURS && result == 0; i++)
            if (weather->degrees[i] != weather->degrees[0])
                return 1;
        naru_rwlock_unlock(lock);
    }
    return 0;
}

int main(void)
{
    struct naru_shm *segment;
    int status, is_wrong = 0;

    if (naru_shm_open(&segment, "shm://", sizeof *weather, NULL) < 0)
        return failed();
    weather = naru_shm_data(segment);
    if (naru_rwlock_init(&weather->lock) < 0 || naru_rwlock_attach(&lock, &weather->lock) < 0)
        return failed();
    for (int i = 0; i < READERS; i++)
        if (fork() == 0)
            _exit(read_for_long());
    for (int i = 0; i < KILLS; i++) {
        pid_t writer = fork();
        if (writer == 0)
            write_for_ever();
        usleep(2000);
        kill(writer, SIGKILL);
        waitpid(writer, NULL, 0);
    }
    __atomic_store_n(&weather->is_over, 1, __ATOMIC_RELAXED);
    while (wait(&status) > 0)
        is_wrong |= status;
    printf("%d readers lived through %d writers %s\n", READERS, KILLS,
           is_wrong ? "and saw half of a forecast" : "and saw no half of one");
    naru_rwlock_close(lock);
    naru_shm_close(segment);
    return is_wrong != 0;
}
