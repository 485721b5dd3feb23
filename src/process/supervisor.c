/* SPDX-License-Identifier: MIT */
/*
 * supervisor -- the list of services, and the one descriptor that tells when something is due
 *
 * What       An epoll descriptor over each child's pidfd, the readiness of those that start, and one timer for the nearest
 *            moment that any service waits for. A step takes one of these, and gives it to the service's table.
 */
#include "process/supervisor.h"
#include "os/socket.h"
#include "os/timer.h"
#include <stdio.h>

enum { NR_SUPERVISOR_LIMIT = 4096 };

#define NR_SUPERVISOR_BACKOFF_NS     (100 * NARU_MILLISECOND)
#define NR_SUPERVISOR_BACKOFF_MAX_NS (10 * NARU_SECOND)
#define NR_SUPERVISOR_STEADY_NS      (10 * NARU_SECOND)
#define NR_SUPERVISOR_GRACE_NS       (10 * NARU_SECOND)

static int nr_supervisor_enter(const struct naru_supervisor *supervisor)
{
    nr_error_clear();
    if (!supervisor)
        return nr_fail(-EINVAL, "the supervisor is NULL; did naru_supervisor_open() fail?");
    if (!nr_os_process_is(supervisor->owner))
        return nr_fail(-ECHILD,
                       "the supervisor belongs to the process that opened it, of which this "
                       "one was forked");
    return 0;
}

static struct nr_service *nr_supervisor_find(const struct naru_supervisor *supervisor, int number)
{
    bool is_there = number >= 0 && number < supervisor->services_count;

    return is_there ? supervisor->services[number] : NULL;
}

/* -- descriptors and the clock ------------------------------------------------------------------------ */

int nr_supervisor_watch(struct naru_supervisor *supervisor, struct nr_service_watch *watch, int fd)
{
    int result = nr_os_epoll_watch(supervisor->epoll_fd, fd, NR_READABLE, watch);

    if (result == 0)
        watch->fd = fd;
    return result;
}

/* Also if it will be closed: a forked process may hold a copy, and then it would go on to tell. In a forked process not at
   all: the epoll is the parent's. */
void nr_supervisor_unwatch(struct naru_supervisor *supervisor, struct nr_service_watch *watch)
{
    if (watch->fd >= 0 && nr_os_process_is(supervisor->owner))
        nr_os_epoll_remove(supervisor->epoll_fd, watch->fd);
    watch->fd = -1;
}

static struct nr_service *nr_supervisor_next_due(const struct naru_supervisor *supervisor)
{
    struct nr_service *next = NULL;

    for (int i = 0; i < supervisor->services_count; i++) {
        struct nr_service *service = supervisor->services[i];
        if (service && service->due_ns && (!next || service->due_ns < next->due_ns))
            next = service;
    }
    return next;
}

static int nr_supervisor_arm(struct naru_supervisor *supervisor)
{
    const struct nr_service *next = nr_supervisor_next_due(supervisor);
    int64_t at_ns = next ? next->due_ns : 0;

    if (at_ns == supervisor->armed_ns)
        return 0;
    int result = nr_os_timer_set(supervisor->timer_fd, at_ns);
    if (result < 0)
        return nr_fail(result, "can't set the supervisor's timer: %s", nr_error_name(result));
    supervisor->armed_ns = at_ns;
    return 0;
}

int naru_supervisor_open(struct naru_supervisor **ret)
{
    nr_error_clear();
    if (!ret)
        return nr_fail(-EINVAL, "naru_supervisor_open() needs a place for the supervisor");
    struct naru_supervisor *supervisor = calloc(1, sizeof *supervisor);
    uint64_t owner = nr_os_process_token_new();
    if (!supervisor || !owner) {
        free(supervisor);
        return nr_fail(-ENOMEM, "no memory for a supervisor");
    }
    supervisor->owner = owner;
    supervisor->timer_fd = nr_os_timer_new();
    supervisor->epoll_fd = supervisor->timer_fd < 0 ? supervisor->timer_fd : nr_os_epoll_new();
    int result =
        supervisor->epoll_fd < 0
            ? supervisor->epoll_fd
            : nr_os_epoll_watch(supervisor->epoll_fd, supervisor->timer_fd, NR_READABLE, NULL);
    if (result < 0) {
        naru_supervisor_close(supervisor);
        return nr_fail(result,
                       "no descriptors for a supervisor: %s; close some, or raise `ulimit -n`",
                       nr_error_name(result));
    }
    *ret = supervisor;
    return 0;
}

void naru_supervisor_close(struct naru_supervisor *supervisor)
{
    if (!supervisor)
        return;
    bool is_mine = nr_os_process_is(supervisor->owner);
    for (int i = 0; is_mine && i < supervisor->services_count; i++) /* all die at the same time */
        if (supervisor->services[i] && nr_service_runs(supervisor->services[i]))
            naru_child_signal(supervisor->services[i]->child, NR_OS_SIGKILL);
    for (int i = 0; i < supervisor->services_count; i++)
        nr_service_free(supervisor->services[i]);
    free(supervisor->services);
    nr_os_close(&supervisor->epoll_fd);
    nr_os_close(&supervisor->timer_fd);
    free(supervisor);
}

/* -- services ------------------------------------------------------------------------------------------- */

static int nr_supervisor_check(const struct naru_service *given, struct naru_service *ret)
{
    struct naru_service plan = {.size_bytes = sizeof plan};

    if (!given || given->size_bytes < sizeof(size_t) || given->size_bytes > sizeof plan)
        return nr_fail(-EINVAL, "service.size_bytes is %zu; set it to sizeof(struct naru_service)",
                       given ? given->size_bytes : 0);
    memcpy(&plan, given, given->size_bytes);
    const struct {
        const char *name;
        int64_t value, lowest, highest;
    } ranges[] = {
        {"restart", (int64_t)plan.restart, 0, NARU_RESTART_NEVER},
        {"backoff_ns", plan.backoff_ns, 0, INT64_MAX},
        {"backoff_max_ns", plan.backoff_max_ns, 0, INT64_MAX / 2},
        {"steady_ns", plan.steady_ns, 0, INT64_MAX},
        {"ready_timeout_ns", plan.ready_timeout_ns, 0, INT64_MAX},
        {"grace_ns", plan.grace_ns, NARU_FOREVER, INT64_MAX},
        {"stop_signal", plan.stop_signal, 0, nr_os_signal_last()},
    };
    for (size_t i = 0; i < nr_count_of(ranges); i++)
        if (ranges[i].value < ranges[i].lowest || ranges[i].value > ranges[i].highest)
            return nr_fail(-EINVAL, "the service's %s is %lld; it may be %lld to %lld",
                           ranges[i].name, (long long)ranges[i].value, (long long)ranges[i].lowest,
                           (long long)ranges[i].highest);
    if (!plan.function == !(plan.argv && plan.argv[0]))
        return nr_fail(-EINVAL, "a service is either a function or a program");
    plan.restart = plan.restart ? plan.restart : NARU_RESTART_ALWAYS;
    plan.backoff_ns = plan.backoff_ns ? plan.backoff_ns : NR_SUPERVISOR_BACKOFF_NS;
    plan.backoff_max_ns = plan.backoff_max_ns ? plan.backoff_max_ns : NR_SUPERVISOR_BACKOFF_MAX_NS;
    plan.steady_ns = plan.steady_ns ? plan.steady_ns : NR_SUPERVISOR_STEADY_NS;
    plan.grace_ns = plan.grace_ns ? plan.grace_ns : NR_SUPERVISOR_GRACE_NS;
    plan.stop_signal = plan.stop_signal ? plan.stop_signal : NR_OS_SIGTERM;
    *ret = plan;
    return 0;
}

/* The lowest number that is free; the list has room for it. */
static int nr_supervisor_number(struct naru_supervisor *supervisor)
{
    int count = supervisor->services_count;

    for (int i = 0; i < count; i++)
        if (!supervisor->services[i])
            return i;
    if (count == NR_SUPERVISOR_LIMIT)
        return nr_fail(-ENOSPC, "a supervisor has at most %d services; remove those that are down",
                       NR_SUPERVISOR_LIMIT);
    struct nr_service **services =
        realloc(supervisor->services, ((size_t)count + 1) * sizeof(struct nr_service *));
    if (!services)
        return nr_fail(-ENOMEM, "no memory for another service");
    services[count] = NULL;
    supervisor->services = services;
    supervisor->services_count = count + 1;
    return count;
}

static struct nr_service *nr_supervisor_service(struct naru_supervisor *supervisor, int number,
                                                const struct naru_service *plan)
{
    struct nr_service *service = calloc(1, sizeof *service);

    if (!service)
        return NULL;
    service->supervisor = supervisor;
    service->number = number;
    service->plan = *plan;
    service->state = NARU_SERVICE_DOWN;
    service->since_ns = nr_os_now_ns();
    service->death_watch = (struct nr_service_watch){service, NR_SERVICE_DEATH, -1};
    service->ready_watch = (struct nr_service_watch){service, NR_SERVICE_READY, -1};
    if (plan->name)
        snprintf(service->name, sizeof service->name, "%s", plan->name);
    else
        snprintf(service->name, sizeof service->name, "service %d", number);
    service->plan.name = service->name;
    return service;
}

int naru_supervisor_add(struct naru_supervisor *supervisor, const struct naru_service *given)
{
    struct naru_service plan;
    int result = nr_supervisor_enter(supervisor);

    if (result == 0)
        result = nr_supervisor_check(given, &plan);
    int number = result < 0 ? result : nr_supervisor_number(supervisor);
    if (number < 0)
        return number;
    struct nr_service *service = nr_supervisor_service(supervisor, number, &plan);
    result =
        service ? nr_service_begin(service) : nr_fail(-ENOMEM, "no memory for another service");
    if (result < 0) {
        nr_service_free(service);
        return result;
    }
    supervisor->services[number] = service;
    result = nr_supervisor_arm(supervisor);
    return result < 0 ? result : number;
}

/* -- what users want ------------------------------------------------------------------------------------- */

static int nr_supervisor_get(struct naru_supervisor *supervisor, int number,
                             struct nr_service **ret)
{
    int result = nr_supervisor_enter(supervisor);

    if (result < 0)
        return result;
    *ret = nr_supervisor_find(supervisor, number);
    return *ret ? 0 : nr_fail(-ENOENT, "there is no service %d", number);
}

static int nr_supervisor_tell(struct naru_supervisor *supervisor, int number,
                              enum nr_service_input input)
{
    struct naru_service_event event;
    struct nr_service *service;
    int result = nr_supervisor_get(supervisor, number, &service);

    if (result == 0)
        result = nr_service_on(service, input, &event);
    return result < 0 ? result : nr_supervisor_arm(supervisor);
}

int naru_supervisor_stop(struct naru_supervisor *supervisor, int service)
{
    return nr_supervisor_tell(supervisor, service, NR_SERVICE_STOP);
}

int naru_supervisor_start(struct naru_supervisor *supervisor, int service)
{
    return nr_supervisor_tell(supervisor, service, NR_SERVICE_START);
}

int naru_supervisor_restart(struct naru_supervisor *supervisor, int service)
{
    int result = nr_supervisor_tell(supervisor, service, NR_SERVICE_STOP);

    return result < 0 ? result : nr_supervisor_tell(supervisor, service, NR_SERVICE_START);
}

int naru_supervisor_remove(struct naru_supervisor *supervisor, int number)
{
    struct nr_service *service;
    int result = nr_supervisor_get(supervisor, number, &service);

    if (result < 0)
        return result;
    if (nr_service_runs(service))
        return nr_fail(-EBUSY, "%s runs; stop it, and wait until its death is told", service->name);
    supervisor->services[number] = NULL;
    nr_service_free(service);
    return nr_supervisor_arm(supervisor);
}

int naru_supervisor_signal(struct naru_supervisor *supervisor, int number, int signal_number)
{
    struct nr_service *service;
    int result = nr_supervisor_get(supervisor, number, &service);

    if (result < 0)
        return result;
    if (!nr_service_runs(service))
        return nr_fail(-ESRCH, "%s does not run", service->name);
    return naru_child_signal(service->child, signal_number);
}

/* -- steps ------------------------------------------------------------------------------------------------ */

int naru_supervisor_fd(struct naru_supervisor *supervisor)
{
    int result = nr_supervisor_enter(supervisor);

    return result < 0 ? result : supervisor->epoll_fd;
}

/* The timer, or a service's descriptor, is readable. As nr_service_on(). */
static int nr_supervisor_handle(struct naru_supervisor *supervisor, struct nr_service_watch *watch,
                                struct naru_service_event *ret)
{
    if (watch && watch->input == NR_SERVICE_DEATH && watch->service->ready_watch.fd >= 0)
        watch = &watch->service->ready_watch; /* what it said before it died is told before that */
    if (watch && watch->input == NR_SERVICE_READY) { /* once is enough, also if it closed it */
        int result = naru_child_await_ready(watch->service->child, 0);
        if (result == -EAGAIN) /* it has said something else */
            return 0;
        nr_supervisor_unwatch(supervisor, watch);
        return result == 0 ? nr_service_on(watch->service, NR_SERVICE_READY, ret) : 0;
    }
    if (watch)
        return nr_service_on(watch->service, watch->input, ret);
    struct nr_service *service = nr_supervisor_next_due(supervisor);
    if (service && service->due_ns <= nr_os_now_ns())
        return nr_service_on(service, NR_SERVICE_TIME, ret);
    return 0;
}

/* One thing that is due: 1 and *ret; 0 it is not worth telling; -EAGAIN: nothing is due. */
static int nr_supervisor_do_one(struct naru_supervisor *supervisor, struct naru_service_event *ret)
{
    void *watch;
    int result = nr_os_epoll_take(supervisor->epoll_fd, &watch, 1);

    if (result == 0)
        return -EAGAIN;
    if (result > 0)
        result = nr_supervisor_handle(supervisor, watch, ret);
    int armed = nr_supervisor_arm(supervisor);
    return armed < 0 ? armed : result;
}

static int nr_supervisor_next(struct naru_supervisor *supervisor, struct naru_service_event *ret,
                              struct nr_deadline *deadline)
{
    for (;;) {
        int result = nr_supervisor_do_one(supervisor, ret);
        if (result > 0)
            return 0;
        if (result < 0 && result != -EAGAIN)
            return result;
        if (result == 0)
            continue;
        if (nr_deadline_is_now(deadline))
            return -EAGAIN;
        struct pollfd due = {.fd = supervisor->epoll_fd, .events = POLLIN};
        result = nr_os_poll(&due, 1, deadline);
        if (result == 0)
            return -ETIMEDOUT;
        if (result < 0 && result != -EINTR)
            return result;
    }
}

int naru_supervisor_step(struct naru_supervisor *supervisor, struct naru_service_event *ret,
                         int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct naru_service_event event;
    int result = nr_supervisor_enter(supervisor);

    if (result < 0)
        return result;
    if (!ret || ret->size_bytes < sizeof(size_t) || ret->size_bytes > sizeof event)
        return nr_fail(-EINVAL,
                       "event.size_bytes is %zu; set it to sizeof(struct naru_service_event)",
                       ret ? ret->size_bytes : 0);
    result = nr_supervisor_next(supervisor, &event, &deadline);
    if (result == -EAGAIN || result == -ETIMEDOUT)
        return nr_fail(result, "nothing has happened to the services");
    if (result < 0)
        return nr_error_default(result, NR_ORIGIN, nr_error_name(result));
    event.size_bytes = ret->size_bytes;
    memcpy(ret, &event, ret->size_bytes);
    return 0;
}

int naru_supervisor_stop_all(struct naru_supervisor *supervisor, int64_t timeout_ns)
{
    struct nr_deadline deadline = nr_deadline_in(timeout_ns);
    struct naru_service_event event;
    int result = nr_supervisor_enter(supervisor);

    for (int i = 0; result == 0 && i < supervisor->services_count; i++)
        if (supervisor->services[i])
            result = naru_supervisor_stop(supervisor, i);
    while (result == 0) {
        int running = 0;
        for (int i = 0; i < supervisor->services_count; i++)
            running += supervisor->services[i] && nr_service_runs(supervisor->services[i]);
        if (!running)
            return 0;
        result = nr_supervisor_next(supervisor, &event, &deadline);
    }
    if (result == -EAGAIN || result == -ETIMEDOUT)
        return nr_fail(-ETIMEDOUT,
                       "not all services are down yet; naru_supervisor_close() kills them");
    return nr_error_default(result, NR_ORIGIN, nr_error_name(result));
}

int naru_supervisor_count(struct naru_supervisor *supervisor)
{
    int result = nr_supervisor_enter(supervisor);

    return result < 0 ? result : supervisor->services_count;
}

int naru_supervisor_stat(struct naru_supervisor *supervisor, int number,
                         struct naru_service_stat *stat)
{
    struct nr_service *service;
    int result = nr_supervisor_get(supervisor, number, &service);

    if (result < 0)
        return result;
    if (!stat || stat->size_bytes < sizeof(size_t) || stat->size_bytes > sizeof *stat)
        return nr_fail(-EINVAL,
                       "stat.size_bytes is %zu; set it to sizeof(struct naru_service_stat)",
                       stat ? stat->size_bytes : 0);
    struct naru_service_stat full = service->tally;
    int64_t now_ns = nr_os_now_ns();
    full.size_bytes = stat->size_bytes;
    memcpy(full.name, service->name, sizeof full.name);
    full.state = service->state;
    full.pid = service->child ? service->child->pid : 0;
    full.since_ns = now_ns - service->since_ns;
    if (service->state == NARU_SERVICE_WAITING && service->due_ns > now_ns)
        full.next_start_ns = service->due_ns - now_ns;
    full.deaths_in_row = service->deaths_in_row;
    memcpy(stat, &full, stat->size_bytes);
    return 0;
}
