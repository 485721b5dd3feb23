/* SPDX-License-Identifier: MIT */
#include "os/process.h"
#include "os/lock.h"
#include "os/random.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { NR_PIDFS_MAGIC = 0x50494446, NR_PF_EXITING = 4 };

uint64_t *nr_os_process_page;
static uint64_t nr_os_process_latest;

pid_t nr_os_pid(void)
{
    return getpid();
}

uid_t nr_os_uid(void)
{
    return geteuid();
}

unsigned nr_os_cpus(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    return count < 1 ? 1 : (unsigned)count;
}

int nr_os_cpu(unsigned index)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) < 0 || CPU_COUNT(&set) == 0)
        return -1;
    unsigned nth = index % (unsigned)CPU_COUNT(&set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set) && nth-- == 0)
            return cpu;
    return -1;
}

uint64_t nr_os_resident_bytes(void)
{
    char text[64];
    unsigned long long size_pages, resident_pages;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    if (sscanf(text, "%llu %llu", &size_pages, &resident_pages) != 2)
        return 0;
    return resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The page reads 0 in a forked child; the counter goes on, so no ancestor ever had the new number. */
uint64_t nr_os_process_token_new(void)
{
    uint64_t *page = __atomic_load_n(&nr_os_process_page, __ATOMIC_ACQUIRE);

    if (!page) {
        size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        uint64_t *made =
            mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (made == MAP_FAILED)
            return 0;
        if (madvise(made, page_bytes, MADV_WIPEONFORK) < 0 ||
            !__atomic_compare_exchange_n(&nr_os_process_page, &page, made, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE))
            munmap(made, page_bytes);
        else
            page = made;
        if (!page)
            return 0;
    }
    /* Without a look before: in a new child that would be another fault. */
    uint64_t token = 0, next = __atomic_add_fetch(&nr_os_process_latest, 1, __ATOMIC_ACQ_REL);
    if (__atomic_compare_exchange_n(page, &token, next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        token = next;
    return token;
}

uint64_t nr_os_process_image(void)
{
    static uint64_t image;
    uint64_t none = 0;

    if (!__atomic_load_n(&image, __ATOMIC_RELAXED))
        __atomic_compare_exchange_n(&image, &none, nr_os_random(), false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    return __atomic_load_n(&image, __ATOMIC_RELAXED);
}

int nr_os_pidfd_open(pid_t pid)
{
    static bool is_refused; /* a filter can't be taken off again */

    if (nr_flag_get(&is_refused))
        return -ENOSYS;
    long fd = syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0)
        return (int)fd;
    if (!nr_os_is_refused(-errno))
        return -errno;
    nr_flag_set(&is_refused, true);
    return -ENOSYS;
}

bool nr_os_pidfd_is_dead(int pidfd)
{
    struct pollfd poll_one = {.fd = pidfd, .events = POLLIN};
    int ready;

    do
        ready = poll(&poll_one, 1, 0);
    while (ready < 0 && errno == EINTR);
    return ready > 0 && (poll_one.revents & (POLLIN | POLLHUP));
}

/* What /proc/PID/stat says; false when it says nothing. */
struct nr_os_process_look {
    char state;
    uint64_t flags;
    unsigned threads_count;
    uint64_t start_time;
};

static bool nr_os_process_look(pid_t pid, struct nr_os_process_look *ret)
{
    char path[32], text[1024];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return false;
    text[size] = '\0';
    const char *field = strrchr(text, ')'); /* the name in field 2 may hold anything, also ')' */
    for (int number = 3; number <= 22; number++) {
        field = field ? strchr(field + 1, ' ') : NULL;
        if (!field)
            return false;
        if (number == 3)
            ret->state = field[1];
        if (number == 9)
            ret->flags = strtoull(field + 1, NULL, 10);
        if (number == 20)
            ret->threads_count = (unsigned)strtoul(field + 1, NULL, 10);
    }
    ret->start_time = strtoull(field + 1, NULL, 10);
    return true;
}

uint64_t nr_os_process_start_time(pid_t pid)
{
    struct nr_os_process_look look;

    return nr_os_process_look(pid, &look) ? look.start_time : 0;
}

bool nr_os_process_is_missing(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

bool nr_os_process_is_gone(pid_t pid, uint64_t start_time)
{
    struct nr_os_process_look look;

    if (nr_os_process_is_missing(pid))
        return true;
    if (!nr_os_process_look(pid, &look))
        return false;
    if (start_time && look.start_time != start_time)
        return true;
    /* A first thread that has ended while others go on is a zombie, too, but the process lives. */
    return (look.state == 'Z' || look.state == 'X') && look.threads_count <= 1;
}

bool nr_os_process_is_exiting(pid_t pid)
{
    struct nr_os_process_look look;

    return nr_os_process_look(pid, &look) && look.flags & NR_PF_EXITING;
}

unsigned nr_os_process_threads(void)
{
    struct nr_os_process_look look;

    return nr_os_process_look(getpid(), &look) ? look.threads_count : 0;
}

bool nr_os_process_is_asleep(pid_t pid)
{
    struct nr_os_process_look look;

    return nr_os_process_look(pid, &look) && look.state == 'S';
}

bool nr_os_process_is_stopped(pid_t pid)
{
    struct nr_os_process_look look;

    return nr_os_process_look(pid, &look) && (look.state == 'T' || look.state == 't');
}

uint64_t nr_os_pidfd_identity(int pidfd, pid_t pid)
{
    struct statfs file_system;
    struct stat status;
    int result;

    do
        result = fstatfs(pidfd, &file_system);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return 0;
    if (file_system.f_type != NR_PIDFS_MAGIC)
        return nr_os_process_start_time(pid);
    return fstat(pidfd, &status) < 0 ? 0 : status.st_ino;
}

bool nr_os_pidfd_is_other(int pidfd, pid_t pid, uint64_t identity)
{
    uint64_t now = identity ? nr_os_pidfd_identity(pidfd, pid) : 0;

    return now && now != identity;
}

uint64_t nr_os_pid_namespace(void)
{
    struct stat status;

    return stat("/proc/self/ns/pid", &status) < 0 ? 0 : status.st_ino;
}

uint64_t nr_os_pid_home(void)
{
    uint64_t home = nr_os_pid_namespace();
    char boot[64];
    int fd = home ? open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0)
        return 0;
    ssize_t size = read(fd, boot, sizeof boot);
    close(fd);
    for (ssize_t i = 0; i < size; i++) /* FNV-1a */
        home = (home ^ (unsigned char)boot[i]) * UINT64_C(0x100000001b3);
    return size > 0 ? home : 0;
}
