/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * guard -- a system call that starts only if a flag is not raised
 *
 * What       A thread that blocks in read(2) itself, rather than in poll(2) first, saves a system call
 *            a message. But a signal handler that raises a flag between the check and the call would
 *            come too late, and one installed with SA_RESTART would never be seen. Here the check and
 *            the system call instruction are one restartable sequence (rseq(2)): a signal anywhere
 *            before the call has begun, or while the kernel is about to restart it, goes back to the
 *            check.
 * Word       A second condition, for calls that io_uring disturbs to say that a request has completed: a word in
 *            memory still has its value. Whatever runs before the call is restarted may change that.
 * When       Only in a process with one thread: then nobody but a signal handler of that thread can
 *            raise the flag. With more threads, or without rseq, nr_os_guard_works() is false and the
 *            caller polls the interrupt's descriptor as well.
 * Inline     What a kernel entry leaves of the return stack is wrong on CPUs that guard it, so each return
 *            behind a system call is mispredicted, at 10 ns and more. So the way back to the user is short:
 *            this is inlined, and those between are (nr_flat).
 * Source     P. Turner, M. Desnoyers, "Restartable sequences"; here its abort serves as the test
 *            that a cancellation point does by comparing addresses in musl.
 */
#include "os/sanitizer.h"
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/single_threaded.h>

/* A sanitizer's call between the loads and the system call would overwrite registers already loaded. */
#if NR_OS_HAS_SANITIZER
#define NR_OS_GUARD                                                                                \
    static __attribute__((noinline, unused, no_sanitize("thread", "address", "undefined")))
#else
#define NR_OS_GUARD static inline __attribute__((always_inline))
#endif

/* The thread sanitizer runs signal handlers only from calls that it knows, so not from this one. */
#if defined(__x86_64__) && defined(__GLIBC__) && __GLIBC_PREREQ(2, 35) && !NR_OS_HAS_TSAN
#include <sys/rseq.h>

enum { NR_OS_GUARD_TRIES = 8 };

static inline bool nr_os_guard_works(void)
{
    return __libc_single_threaded && __rseq_size > 0;
}

/*
 * The result of the raw system call (-errno on failure), or -EINTR if *raised is not 0 or *word not `value`.
 *
 * 1: to 2: is the sequence; it ends behind the syscall instruction, so that a signal that comes when
 * the call is over (or interrupted for good) does not abort it. 4: is where the kernel continues after
 * an abort; the signature in front of it is what glibc registered. The kernel leaves the argument
 * registers alone, so the abort only has to arm the sequence again. Under a debugger that steps it never comes to an
 * end: after some aborts the caller is to look for itself, also by -EINTR.
 */
NR_OS_GUARD long nr_os_guarded_call_while(const int *raised, const uint32_t *word, uint32_t value,
                                          long number, const long arguments[6])
{
    struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    /* First all loads, then the registers: a sanitizer makes a call of each load. */
    long v0 = arguments[0], v1 = arguments[1], v2 = arguments[2], v3 = arguments[3];
    long v4 = arguments[4], v5 = arguments[5];
    unsigned tries = NR_OS_GUARD_TRIES;
    register long result __asm__("rax");
    register long a0 __asm__("rdi") = v0;
    register long a1 __asm__("rsi") = v1;
    register long a2 __asm__("rdx") = v2;
    register long a3 __asm__("r10") = v3;
    register long a4 __asm__("r8") = v4;
    register long a5 __asm__("r9") = v5;

    __asm__ volatile(
        ".pushsection __rseq_cs, \"aw\"\n\t"
        ".balign 32\n"
        "3:\n\t"
        ".long 0, 0\n\t"
        ".quad 1f, 2f - 1f, 4f\n\t"
        ".popsection\n"
        "5:\n\t"
        "leaq 3b(%%rip), %%rax\n\t"
        "movq %%rax, %[armed]\n"
        "1:\n\t"
        "cmpl $0, %[raised]\n\t"
        "jne 6f\n\t"
        "movl %[value], %%eax\n\t"
        "cmpl %%eax, %[word]\n\t"
        "jne 6f\n\t"
        "movq %[number], %%rax\n\t"
        "syscall\n"
        "2:\n\t"
        "jmp 7f\n\t"
        ".pushsection __rseq_abort, \"ax\"\n\t"
        ".byte 0x0f, 0xb9, 0x3d\n\t"
        ".long %c[signature]\n"
        "4:\n\t"
        "decl %[tries]\n\t"
        "jnz 5b\n\t"
        "jmp 6f\n\t"
        ".popsection\n"
        "6:\n\t"
        "movq %[interrupted], %%rax\n"
        "7:\n\t"
        "movq $0, %[armed]\n\t"
        : "=&a"(result), [armed] "=m"(area->rseq_cs), [tries] "+m"(tries)
        : [raised] "m"(*(volatile const int *)raised), [word] "m"(*(volatile const uint32_t *)word),
          [value] "rm"(value), [number] "rm"(number), "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(a4),
          "r"(a5), [signature] "i"(RSEQ_SIG), [interrupted] "i"(-EINTR)
        : "rcx", "r11", "memory", "cc");
    return result;
}

#else /* the checks and the wait go through poll instead */

static inline bool nr_os_guard_works(void)
{
    return false;
}

static inline long nr_os_guarded_call_while(const int *raised, const uint32_t *word, uint32_t value,
                                            long number, const long arguments[6])
{
    (void)raised, (void)word, (void)value, (void)number, (void)arguments;
    return -ENOSYS;
}

#endif

NR_OS_GUARD long nr_os_guarded_call(const int *raised, long number, const long arguments[6])
{
    const uint32_t *word = (const uint32_t *)raised;

    return nr_os_guarded_call_while(raised, word, 0, number, arguments);
}
