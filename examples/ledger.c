/* SPDX-License-Identifier: MIT */
/* ledger -- processes move money between accounts under a mutex, are killed while they do, and none is lost */
#include <naru/shm.h>
#include <naru/sync.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ACCOUNTS = 4, CLERKS = 3, EACH = 1000, KILLS = 50 };

static struct ledger {
    struct naru_mutex_state guard;
    long balance[ACCOUNTS];
    /* What is about to be done, so that who takes over from a dead clerk can undo it. */
    long from, to, from_before, to_before;
    int is_open;
    long moves, repairs;
} * ledger;

static struct naru_mutex *guard;

static int failed(void)
{
    fprintf(stderr, "%s\n", naru_error_text());
    return 1;
}

static int lock(void)
{
    int result = naru_mutex_lock(guard, NARU_FOREVER);

    if (result != NARU_OWNER_DIED)
        return result;
    if (ledger->is_open) { /* it died in the middle */
        ledger->balance[ledger->from] = ledger->from_before;
        ledger->balance[ledger->to] = ledger->to_before;
        ledger->is_open = 0;
        ledger->repairs++;
    }
    return naru_mutex_consistent(guard);
}

/* volatile: the order of these matters to who finds them half done. */
static void move(long from, long to, long amount)
{
    volatile struct ledger *it = ledger;

    it->from = from;
    it->to = to;
    it->from_before = it->balance[from];
    it->to_before = it->balance[to];
    it->is_open = 1;
    it->balance[from] -= amount;
    for (int i = 0; i < 200; i++) /* a long way to the other account */
        it->moves++;
    it->moves -= 199;
    it->balance[to] += amount;
    it->is_open = 0;
}

static void clerk(unsigned seed)
{
    for (;;) {
        long from = rand_r(&seed) % ACCOUNTS, to = (from + 1 + rand_r(&seed) % 3) % ACCOUNTS;
        if (lock() < 0)
            _exit(failed());
        move(from, to, rand_r(&seed) % 10);
        naru_mutex_unlock(guard);
    }
}

static pid_t hire(unsigned seed)
{
    pid_t pid = fork();

    if (pid == 0)
        clerk(seed);
    return pid;
}

int main(void)
{
    struct naru_shm *segment;
    pid_t clerks[CLERKS];
    long sum = 0;

    if (naru_shm_open(&segment, "shm://", sizeof *ledger, NULL) < 0)
        return failed();
    ledger = naru_shm_data(segment);
    if (naru_mutex_init(&ledger->guard) < 0 || naru_mutex_attach(&guard, &ledger->guard) < 0)
        return failed();
    for (int i = 0; i < ACCOUNTS; i++)
        ledger->balance[i] = EACH;
    for (unsigned i = 0; i < CLERKS; i++)
        clerks[i] = hire(i);
    for (unsigned i = 0; i < KILLS + CLERKS; i++) {
        usleep(2000);
        kill(clerks[i % CLERKS], SIGKILL);
        waitpid(clerks[i % CLERKS], NULL, 0);
        if (i < KILLS)
            clerks[i % CLERKS] = hire(i + CLERKS);
    }
    if (lock() < 0)
        return failed();
    for (int i = 0; i < ACCOUNTS; i++)
        sum += ledger->balance[i];
    printf("%d clerks killed, %s, and the sum is %ld\n", KILLS + CLERKS,
           ledger->repairs ? "some in the middle" : "none in the middle", sum);
    naru_mutex_unlock(guard);
    naru_mutex_close(guard);
    naru_shm_close(segment);
    return sum != ACCOUNTS * EACH;
}
