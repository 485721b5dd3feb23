/* SPDX-License-Identifier: MIT */
/*
 * Contents   which call gives which errors - the handler
 */
#include "faults.h"
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* -- which call gives which errors ----------------------------------------------------------- */

const int nr_faults_errors[] = {EINTR,  EAGAIN, ENOMEM, EMFILE, ENFILE, ENOSPC,
                                EACCES, EPERM,  ENOSYS, EINVAL, EIO,    0};

/* What their manual pages say, and what a sandbox answers (EPERM, ENOSYS) to those that are new or special. None
   for those that can't fail with good arguments. */
static const struct {
    long number;
    const char *name;
    int errors[8];
} calls[] = {
#ifdef SYS_open /* newer processors have only the calls that follow */
    {SYS_open, "open", {EINTR, ENOMEM, EMFILE, ENFILE, EACCES, EPERM}},
    {SYS_mkdir, "mkdir", {ENOMEM, ENOSPC, EACCES, EPERM}},
    {SYS_unlink, "unlink", {ENOMEM, EACCES, EPERM, EIO}},
    {SYS_poll, "poll", {EINTR, ENOMEM}},
#endif
    {SYS_openat, "openat", {EINTR, ENOMEM, EMFILE, ENFILE, ENOSPC, EACCES, EPERM}},
    {SYS_close, "close", {EINTR, EIO}},
    {SYS_mmap, "mmap", {ENOMEM, EAGAIN, EACCES, EPERM}},
    {SYS_munmap, "munmap", {ENOMEM}},
    {SYS_mprotect, "mprotect", {ENOMEM, EACCES}},
    {SYS_madvise, "madvise", {EAGAIN, EINVAL, ENOMEM}},
    {SYS_fallocate, "fallocate", {EINTR, ENOSPC, ENOMEM, EPERM, EIO}},
    {SYS_fstat, "fstat", {ENOMEM}},
    {SYS_newfstatat, "newfstatat", {ENOMEM, EACCES}},
    {SYS_fstatfs, "fstatfs", {EINTR, ENOMEM, ENOSYS}},
    {SYS_linkat, "linkat", {ENOMEM, ENOSPC, EACCES, EPERM, EIO}},
    {SYS_fchmod, "fchmod", {EPERM, EIO}},
    {SYS_fcntl, "fcntl", {EPERM, EINVAL}},
    {SYS_read, "read", {EINTR, EAGAIN, EIO}},
    {SYS_pread64, "pread", {EINTR, EIO}},
    {SYS_write, "write", {EINTR, EAGAIN}},
    {SYS_ppoll, "ppoll", {EINTR, ENOMEM}},
    {SYS_memfd_create, "memfd_create", {ENOMEM, EMFILE, ENFILE, EPERM, ENOSYS}},
    {434, "pidfd_open", {ENOMEM, EMFILE, ENFILE, EPERM, ENOSYS}},
    {SYS_eventfd2, "eventfd2", {ENOMEM, EMFILE, ENFILE}},
    {SYS_epoll_create1, "epoll_create1", {ENOMEM, EMFILE, ENFILE}},
    {SYS_epoll_ctl, "epoll_ctl", {ENOMEM, ENOSPC}},
    {449, "futex_waitv", {EINTR, EAGAIN, ENOMEM, EPERM, ENOSYS}},
    {425, "io_uring_setup", {ENOMEM, EMFILE, ENFILE, EPERM, ENOSYS}},
    {426, "io_uring_enter", {EINTR, EAGAIN, ENOMEM}},
    {427, "io_uring_register", {EINTR, ENOMEM, EPERM, EINVAL}},
    {SYS_socketpair, "socketpair", {ENOMEM, EMFILE, ENFILE}},
    {SYS_pipe2, "pipe2", {ENOMEM, EMFILE, ENFILE}},
    {SYS_clone, "clone", {EAGAIN, ENOMEM}},
    {435, "clone3", {EAGAIN, ENOMEM}},
    {SYS_getrandom, "getrandom", {EINTR, EAGAIN, ENOSYS}},
    {SYS_membarrier, "membarrier", {EPERM, ENOSYS, EINVAL}},
    {SYS_prlimit64, "prlimit64", {EPERM}},
    {SYS_get_robust_list, "get_robust_list", {EPERM, ENOSYS}},
};

bool nr_faults_gives(struct nr_fault_call call, int error, const char **ret_name)
{
    *ret_name = "another call";
    if (call.number ==
        SYS_futex) { /* waking can't fail; libc gives up on what it does not expect */
        long command = call.operation & FUTEX_CMD_MASK;
        *ret_name = "futex";
        return (command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET) &&
               (error == EINTR || error == EAGAIN);
    }
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (calls[i].number != call.number)
            continue;
        *ret_name = calls[i].name;
        for (const int *one = calls[i].errors; *one; one++)
            if (*one == error)
                return true;
    }
    return false;
}

/* -- the handler ----------------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <ucontext.h>

enum { SET_USER_DISPATCH = 59, DISPATCH_ON = 1, ALLOW = 0, BLOCK = 1, RESTORER = 0x04000000 };

static volatile char selector = ALLOW; /* of the thread that began */
static struct nr_fault *current;

/* The only instructions whose system calls the kernel lets through at all times. */
long nr_faults_call(long number, const long arguments[6]);
void nr_faults_restorer(void);
extern char nr_faults_gate_begin[], nr_faults_gate_end[];
__asm__(".text\n"
        ".balign 64\n"
        "nr_faults_gate_begin:\n"
        "nr_faults_call:\n"
        "    mov %rdi, %rax\n"
        "    mov %rsi, %r11\n"
        "    mov 0(%r11), %rdi\n"
        "    mov 8(%r11), %rsi\n"
        "    mov 16(%r11), %rdx\n"
        "    mov 24(%r11), %r10\n"
        "    mov 32(%r11), %r8\n"
        "    mov 40(%r11), %r9\n"
        "    syscall\n"
        "    ret\n"
        "nr_faults_restorer:\n"
        "    mov $15, %rax\n" /* rt_sigreturn */
        "    syscall\n"
        ".balign 64\n"
        "nr_faults_gate_end:\n");

/* The mask is the one that the handler returns to. SIGSYS stays out of it: the kernel would end the process. */
static long change_mask(ucontext_t *context, const long arguments[6])
{
    uint64_t *mask = (uint64_t *)(void *)&context->uc_sigmask, before = *mask;
    const uint64_t *set = (const uint64_t *)arguments[1];

    if (set && arguments[0] == SIG_BLOCK)
        *mask |= *set;
    else if (set && arguments[0] == SIG_UNBLOCK)
        *mask &= ~*set;
    else if (set)
        *mask = *set;
    *mask &= ~((uint64_t)1 << (SIGSYS - 1));
    if (arguments[2])
        *(uint64_t *)arguments[2] = before;
    return 0;
}

static void on_call(int signal_number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    long number = info->si_syscall, operation = registers[REG_RSI];
    long arguments[6] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                         registers[REG_R10], registers[REG_R8],  registers[REG_R9]};

    (void)signal_number;
    selector = ALLOW;
    bool is_it = ++current->calls == current->at;
    if (current->calls <= NR_FAULTS_TRACE)
        current->trace[current->calls - 1] = (struct nr_fault_call){number, operation};
    if (is_it)
        current->is_made = nr_faults_gives((struct nr_fault_call){number, operation},
                                           current->error, &current->name);
    if (is_it && current->is_made) {
        if (number == SYS_close)
            nr_faults_call(number, arguments);
        registers[REG_RAX] = -current->error;
    } else if (number == SYS_clone || number == 435) { /* has to be made on its own stack */
        registers[REG_RIP] -= 2;
        registers[REG_RAX] = number;
        return;
    } else if (number == SYS_rt_sigprocmask) {
        registers[REG_RAX] = change_mask(context, arguments);
    } else {
        registers[REG_RAX] = nr_faults_call(number, arguments);
    }
    selector = BLOCK;
}

static bool install(void)
{
    const struct {
        void (*handler)(int, siginfo_t *, void *);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask;
    } action = {on_call, SA_SIGINFO | SA_NODEFER | RESTORER, nr_faults_restorer, 0};

    return syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, sizeof action.mask) == 0 &&
           prctl(SET_USER_DISPATCH, DISPATCH_ON, nr_faults_gate_begin,
                 (unsigned long)(nr_faults_gate_end - nr_faults_gate_begin), &selector) == 0;
}

bool nr_faults_are_possible(const char **ret_why)
{
    const char *wrapper = getenv("NARU_TEST_WRAPPER");

    *ret_why = "this kernel has no Syscall User Dispatch (Linux 5.11)";
    if (getenv("NARU_SANITIZED") || (wrapper && *wrapper))
        *ret_why = "sanitizers and valgrind make system calls of their own";
    else if (install())
        return true;
    return false;
}

void nr_faults_begin(struct nr_fault *fault)
{
    fault->calls = 0;
    fault->is_made = false;
    current = fault;
    if (!install()) /* a forked child's is off again */
        abort();
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    selector = BLOCK;
}

void nr_faults_end(void)
{
    selector = ALLOW;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#else

bool nr_faults_are_possible(const char **ret_why)
{
    *ret_why = "it is made for x86-64";
    return false;
}
void nr_faults_begin(struct nr_fault *fault)
{
    (void)fault;
    abort();
}
void nr_faults_end(void)
{
}

#endif
