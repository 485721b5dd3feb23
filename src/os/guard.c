/* SPDX-License-Identifier: MIT */
#include "os/guard.h"
#include "os/sanitizer.h"
#include <errno.h>
#include <sys/single_threaded.h>

/* The thread sanitizer runs signal handlers only from calls that it knows, so not from this one. */
#if defined(__x86_64__) && defined(__GLIBC__) && __GLIBC_PREREQ(2, 35) && !NR_OS_HAS_TSAN
#include <sys/rseq.h>

bool nr_os_guard_works(void)
{
    return __libc_single_threaded && __rseq_size > 0;
}

/*
 * 1: to 2: is the sequence; it ends behind the syscall instruction, so that a signal that comes when
 * the call is over (or interrupted for good) does not abort it. 4: is where the kernel continues after
 * an abort; the signature in front of it is what glibc registered. The kernel leaves the argument
 * registers alone, so the abort only has to arm the sequence again.
 */
/* A sanitizer's call between two of the loads below would overwrite the registers already loaded. */
__attribute__((no_sanitize("thread", "address", "undefined"))) long
nr_os_guarded_call(const int *raised, long number, const long arguments[6])
{
    struct rseq *area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    /* First all loads, then the registers: a sanitizer makes a call of each load. */
    long v0 = arguments[0], v1 = arguments[1], v2 = arguments[2], v3 = arguments[3];
    long v4 = arguments[4], v5 = arguments[5];
    register long result __asm__("rax");
    register long a0 __asm__("rdi") = v0;
    register long a1 __asm__("rsi") = v1;
    register long a2 __asm__("rdx") = v2;
    register long a3 __asm__("r10") = v3;
    register long a4 __asm__("r8") = v4;
    register long a5 __asm__("r9") = v5;

    __asm__ volatile(".pushsection __rseq_cs, \"aw\"\n\t"
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
                     "movq %[number], %%rax\n\t"
                     "syscall\n"
                     "2:\n\t"
                     "jmp 7f\n\t"
                     ".pushsection __rseq_abort, \"ax\"\n\t"
                     ".byte 0x0f, 0xb9, 0x3d\n\t"
                     ".long %c[signature]\n"
                     "4:\n\t"
                     "jmp 5b\n\t"
                     ".popsection\n"
                     "6:\n\t"
                     "movq %[interrupted], %%rax\n"
                     "7:\n\t"
                     "movq $0, %[armed]\n\t"
                     : "=&a"(result), [armed] "=m"(area->rseq_cs)
                     : [raised] "m"(*(volatile const int *)raised), [number] "r"(number), "r"(a0),
                       "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), [signature] "i"(RSEQ_SIG),
                       [interrupted] "i"(-EINTR)
                     : "rcx", "r11", "memory", "cc");
    return result;
}

#else /* the checks and the wait go through poll instead */

bool nr_os_guard_works(void)
{
    return false;
}

long nr_os_guarded_call(const int *raised, long number, const long arguments[6])
{
    (void)raised, (void)number, (void)arguments;
    return -ENOSYS;
}

#endif
