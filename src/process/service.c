/* SPDX-License-Identifier: MIT */
/*
 * service -- what each event does in each state of a service
 *
 * States     DOWN --start--> STARTING --ready--> UP --death--> WAITING --time--> STARTING ...
 *            STARTING, UP --stop--> STOPPING --time--> KILLED --death--> DOWN
 *            UP --death--> DOWN or FAILED, as its restart and deaths_max say
 * Wanted     Whether it is to run is kept apart: so one that is being stopped can be started again, and one that is killed
 *            because it is not ready in time goes the way of a death.
 */
#include "process/supervisor.h"
#include <stdio.h>

static void nr_service_enter(struct nr_service *service, enum naru_service_state state,
                             int64_t due_ns)
{
    service->state = state;
    service->since_ns = nr_os_now_ns();
    service->due_ns = due_ns;
    if (state == NARU_SERVICE_UP)
        service->up_ns = service->since_ns;
}

/* The moment that far from now, of a span that may be for ever. */
static int64_t nr_service_in(int64_t span_ns)
{
    int64_t now_ns = nr_os_now_ns();

    return span_ns < 0 ? 0 : span_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + span_ns;
}

static int64_t nr_service_backoff(const struct nr_service *service)
{
    int64_t pause_ns = service->plan.backoff_ns;

    for (uint32_t i = 1; i < service->deaths_in_row && pause_ns < service->plan.backoff_max_ns; i++)
        pause_ns *= 2;
    return nr_service_in(pause_ns < service->plan.backoff_max_ns ? pause_ns
                                                                 : service->plan.backoff_max_ns);
}

/* After a death or a start that failed. */
static void nr_service_again_or_not(struct nr_service *service)
{
    service->deaths_in_row++;
    if (service->plan.deaths_max && service->deaths_in_row >= service->plan.deaths_max)
        nr_service_enter(service, NARU_SERVICE_FAILED, 0);
    else
        nr_service_enter(service, NARU_SERVICE_WAITING, nr_service_backoff(service));
}

/* -- starting ---------------------------------------------------------------------------------------- */

static void nr_service_let_go(struct nr_service *service)
{
    nr_supervisor_unwatch(service->supervisor, &service->death_watch);
    nr_supervisor_unwatch(service->supervisor, &service->ready_watch);
    naru_child_close(service->child);
    service->child = NULL;
}

static int nr_service_spawn(struct nr_service *service, struct naru_spawn_options *options)
{
    const struct naru_service *plan = &service->plan;
    size_t size_bytes = plan->options ? plan->options->size_bytes : 0;
    int result = 0;

    if (size_bytes > sizeof *options)
        return nr_fail(-EINVAL,
                       "the options of %s are of size %zu, and this library knows %zu bytes",
                       service->name, size_bytes, sizeof *options);
    if (size_bytes)
        memcpy(options, plan->options, size_bytes);
    options->size_bytes = sizeof *options;
    if (plan->prepare)
        result = plan->prepare(plan->context, service->number, options);
    if (result < 0)
        return nr_error_default(result, NR_ORIGIN, "what prepares the service's start has failed");
    return plan->function ? naru_spawn(&service->child, plan->function, plan->context, options)
                          : naru_spawn_program(&service->child, plan->argv, options);
}

int nr_service_begin(struct nr_service *service)
{
    struct naru_spawn_options options = {0};
    struct naru_supervisor *supervisor = service->supervisor;

    nr_error_clear();
    int result = nr_service_spawn(service, &options);
    if (result < 0)
        return result;
    result = nr_supervisor_watch(supervisor, &service->death_watch, naru_child_fd(service->child));
    if (result == 0 && options.readiness)
        result = nr_supervisor_watch(supervisor, &service->ready_watch,
                                     naru_child_ready_fd(service->child));
    if (result < 0) {
        nr_service_let_go(service);
        return nr_fail(result, "can't watch the process of %s: %s", service->name,
                       nr_error_name(result));
    }
    service->is_wanted = true;
    service->is_at_once = false;
    service->tally.starts++;
    if (options.readiness)
        nr_service_enter(
            service, NARU_SERVICE_STARTING,
            service->plan.ready_timeout_ns ? nr_service_in(service->plan.ready_timeout_ns) : 0);
    else
        nr_service_enter(service, NARU_SERVICE_UP, 0);
    return 0;
}

/* -- what is done -------------------------------------------------------------------------------------- */

typedef int nr_service_action(struct nr_service *service, struct naru_service_event *ret);

static int nr_service_start(struct nr_service *service, struct naru_service_event *ret)
{
    (void)ret;
    service->deaths_in_row = 0;
    return nr_service_begin(service);
}

static int nr_service_retry(struct nr_service *service, struct naru_service_event *ret)
{
    int result = nr_service_begin(service);

    ret->happening = NARU_SERVICE_STARTED;
    if (result == 0)
        return 1;
    service->tally.starts_failed++;
    nr_service_again_or_not(service);
    ret->happening = NARU_SERVICE_NOT_STARTED;
    ret->error = result;
    snprintf(ret->death.text, sizeof ret->death.text, "%s", naru_error_text());
    return 1;
}

static int nr_service_stop(struct nr_service *service, struct naru_service_event *ret)
{
    (void)ret;
    service->is_wanted = false;
    nr_service_enter(service, NARU_SERVICE_STOPPING, nr_service_in(service->plan.grace_ns));
    int result = naru_child_signal(service->child, service->plan.stop_signal);
    if (result == 0) /* one that is stopped has to run to take it */
        result = naru_child_signal(service->child, nr_os_signal_continue());
    return result == -ESRCH ? 0 : result; /* dead already, which its pidfd tells */
}

static int nr_service_stop_waiting(struct nr_service *service, struct naru_service_event *ret)
{
    (void)ret;
    service->is_wanted = false;
    nr_service_enter(service, NARU_SERVICE_DOWN, 0);
    return 0;
}

static int nr_service_want(struct nr_service *service, struct naru_service_event *ret)
{
    (void)ret;
    service->is_wanted = service->is_at_once = true;
    return 0;
}

static int nr_service_want_not(struct nr_service *service, struct naru_service_event *ret)
{
    (void)ret;
    service->is_wanted = service->is_at_once = false;
    return 0;
}

/* Not dead, or not ready, in time. */
static int nr_service_kill(struct nr_service *service, struct naru_service_event *ret)
{
    (void)ret;
    naru_child_signal(service->child, NR_OS_SIGKILL);
    nr_service_enter(service, NARU_SERVICE_KILLED, 0);
    return 0;
}

static int nr_service_ready(struct nr_service *service, struct naru_service_event *ret)
{
    nr_service_enter(service, NARU_SERVICE_UP, 0);
    ret->happening = NARU_SERVICE_IS_READY;
    return 1;
}

static void nr_service_count(struct naru_service_stat *tally)
{
    switch (tally->death.cause) {
    case NARU_EXITED:
        tally->ended += tally->death.exit_status == 0;
        tally->failed += tally->death.exit_status != 0;
        break;
    case NARU_KILLED:
        tally->killed++;
        break;
    case NARU_OUT_OF_MEMORY:
        tally->out_of_memory++;
        break;
    case NARU_DEATH_UNKNOWN:
        tally->unknown++;
        break;
    }
}

static int nr_service_died(struct nr_service *service, struct naru_service_event *ret)
{
    struct naru_death *death = &service->tally.death;
    enum naru_restart restart = service->plan.restart;

    death->size_bytes = sizeof *death;
    int result = naru_child_wait(service->child, death, 0);
    if (result < 0)
        return result;
    nr_service_let_go(service);
    nr_service_count(&service->tally);
    bool has_failed = death->cause != NARU_EXITED || death->exit_status != 0;
    bool was_steady = service->state == NARU_SERVICE_UP &&
                      nr_os_now_ns() - service->up_ns >= service->plan.steady_ns;
    if (was_steady || service->is_at_once)
        service->deaths_in_row = 0;
    if (!service->is_wanted)
        nr_service_enter(service, NARU_SERVICE_DOWN, 0);
    else if (service->is_at_once)
        nr_service_enter(service, NARU_SERVICE_WAITING, nr_service_in(0));
    else if (restart == NARU_RESTART_ALWAYS || (restart == NARU_RESTART_ON_FAILURE && has_failed))
        nr_service_again_or_not(service);
    else
        nr_service_enter(service, has_failed ? NARU_SERVICE_FAILED : NARU_SERVICE_DOWN, 0);
    ret->happening = NARU_SERVICE_DIED;
    ret->death = *death;
    return 1;
}

/* -- the table ------------------------------------------------------------------------------------------- */

/* clang-format off */
static nr_service_action *const nr_service_rules[NARU_SERVICE_FAILED + 1][NR_SERVICE_INPUTS] = {
    /*                          START              STOP                     DEATH            READY             TIME */
    [NARU_SERVICE_DOWN]     = {nr_service_start,  NULL,                    NULL,            NULL,             NULL},
    [NARU_SERVICE_STARTING] = {NULL,              nr_service_stop,         nr_service_died, nr_service_ready, nr_service_kill},
    [NARU_SERVICE_UP]       = {NULL,              nr_service_stop,         nr_service_died, NULL,             NULL},
    [NARU_SERVICE_WAITING]  = {nr_service_start,  nr_service_stop_waiting, NULL,            NULL,             nr_service_retry},
    [NARU_SERVICE_STOPPING] = {nr_service_want,   nr_service_want_not,     nr_service_died, NULL,             nr_service_kill},
    [NARU_SERVICE_KILLED]   = {nr_service_want,   nr_service_want_not,     nr_service_died, NULL,             NULL},
    [NARU_SERVICE_FAILED]   = {nr_service_start,  nr_service_stop_waiting, NULL,            NULL,             NULL},
};
/* clang-format on */

int nr_service_on(struct nr_service *service, enum nr_service_input input,
                  struct naru_service_event *ret)
{
    nr_service_action *action = nr_service_rules[service->state][input];
    int pid = service->child ? service->child->pid : 0;

    *ret = (struct naru_service_event){.service = service->number};
    if (!action) { /* nothing is due in a state that waits for nothing */
        service->due_ns = input == NR_SERVICE_TIME ? 0 : service->due_ns;
        return 0;
    }
    int result = action(service, ret);
    ret->state = service->state;
    ret->pid = pid ? pid : service->child ? service->child->pid : 0;
    return result;
}

void nr_service_free(struct nr_service *service)
{
    if (!service)
        return;
    nr_service_let_go(service);
    free(service);
}
