/* SPDX-License-Identifier: MIT */
/*
 * desk -- each task that was put on a desk is answered once, or is its owner's again: also when the owner takes back what was
 *         not begun, and when the worker dies anywhere; and nobody sleeps beside something to do
 *
 * Owner and worker do what process/pool_*.c do. The rings have two lines, so that both wait for room (and what takes
 * two never finds it beside a small one). A task that is the
 * owner's again is given once more while the worker lives, and is then handed over: another worker would do it.
 */
#include "data/desk.h"
#include "model.h"
#include <errno.h>
#include <string.h>

enum {
    TASKS = 3,
    LINES = 2,
    RING_BYTES = 256, /* two messages that stand apart */
    OWNER = 0,
    WORKER = 1,
    SMALL_BYTES = 8, /* payload: with the header three share a line */
    LINE_BYTES = 24,
    TWO_LINES_BYTES = 64,
    APART_BYTES = 120,
    STAMP = 100,
    /* variants: the size of tasks, and of results */
    TASK_LINE = 1,
    TASK_TWO_LINES = 2,
    TASK_APART = 3,
    TASK_FORM = 3,
    RESULT_LINE = 4,
    RESULT_TWO_LINES = 8,
    RESULT_APART = 12,
    RESULT_FORM = 12,
    TAKES_BACK = 16, /* the owner closes the desk once, when it has the first result */
    RETIRES = 32,    /* the worker, after one task */
};

static char *const memory = model_shared;
static uint32_t *const bell = (void *)(model_shared + MODEL_SHARED_BYTES - 64);

struct queue {
    uint8_t numbers[TASKS], count;
};

static struct {
    struct nr_desk owner, worker;
    /* the owner's */
    struct queue waiting, given;
    uint32_t seen_bell, answered;
    bool is_feeding; /* the last that is given does not stand on the desk yet */
    bool is_closed, owes_resume, has_taken_back, must_wake, has_told_to_quit, is_retiring;
    /* the worker's */
    uint8_t at; /* 1 + the task that it has begun, and not answered */
    int64_t stamped;
    /* the outcome */
    uint8_t begun[TASKS], answers[TASKS], handed_over[TASKS];
} state;

static size_t task_bytes(void)
{
    static const size_t sizes[] = {[0] = SMALL_BYTES,
                                   [TASK_LINE] = LINE_BYTES,
                                   [TASK_TWO_LINES] = TWO_LINES_BYTES,
                                   [TASK_APART] = APART_BYTES};

    return sizes[model_variant() & TASK_FORM];
}

static size_t result_bytes(void)
{
    static const size_t sizes[] = {[0] = SMALL_BYTES,
                                   [RESULT_LINE / 4] = LINE_BYTES,
                                   [RESULT_TWO_LINES / 4] = TWO_LINES_BYTES,
                                   [RESULT_APART / 4] = APART_BYTES};

    return sizes[(model_variant() & RESULT_FORM) / 4];
}

static void init(void)
{
    struct nr_desk *desk = &state.owner;

    nr_desk_attach_of(desk, memory, NR_DESK_OWNER, LINES, RING_BYTES);
    for (unsigned i = 0; i < TASKS; i++)
        state.waiting.numbers[state.waiting.count++] = (uint8_t)i;
    model_name(&desk->shared->turn, 8, "turn");
    model_name(&desk->shared->begun_ns, 8, "begun_ns");
    for (unsigned i = 0; i < 4; i++) {
        model_name(&desk->shared->gates[i].word, 4, "gate[%u].word", i);
        model_name(&desk->shared->gates[i].state, 4, "gate[%u].state", i);
    }
    model_name(desk->out.shared, 64, "tasks: head");
    model_name(desk->in.shared, 64, "results: head");
    for (unsigned i = 0; i < LINES; i++) {
        model_name(desk->out.lines + i * NR_LINE_BYTES, NR_LINE_BYTES, "task line[%u]", i);
        model_name(desk->in.lines + i * NR_LINE_BYTES, NR_LINE_BYTES, "result line[%u]", i);
    }
    model_name(desk->out.bytes, RING_BYTES, "tasks apart");
    model_name(desk->in.bytes, RING_BYTES, "results apart");
    model_name(bell, 4, "bell");
}

static void queue_remove(struct queue *queue, unsigned at)
{
    queue->count--;
    memmove(queue->numbers + at, queue->numbers + at + 1, queue->count - at);
}

static void queue_insert(struct queue *queue, unsigned at, uint8_t number)
{
    memmove(queue->numbers + at + 1, queue->numbers + at, queue->count - at);
    queue->numbers[at] = number;
    queue->count++;
}

static int put(struct nr_desk *desk, uint64_t header, uint64_t value, size_t size_bytes)
{
    uint64_t words[APART_BYTES / 8];

    for (unsigned i = 0; i < APART_BYTES / 8; i++)
        words[i] = value;
    int result = nr_desk_put(desk, header, size_bytes ? words : NULL, size_bytes);
    model_assert(result == 0 || result == -EAGAIN);
    return result;
}

static void check_payload(const struct nr_desk_message *message, uint64_t value, size_t size_bytes)
{
    uint64_t words[APART_BYTES / 8];

    model_assert(message->size_bytes == size_bytes);
    memcpy(words, message->data, size_bytes);
    for (unsigned i = 0; i < size_bytes / 8; i++)
        model_assert(words[i] == value);
}

/* -- the worker ------------------------------------------------------------------------------- */

static void tell(enum nr_desk_gate gate)
{
    if (nr_desk_must_wake(&state.worker, gate))
        model_add_and_wake(bell);
}

static void work_put(uint64_t header, uint64_t value, size_t size_bytes)
{
    struct nr_desk *desk = &state.worker;

    while (put(desk, header, value, size_bytes) < 0) {
        uint32_t word = nr_desk_prepare(desk, NR_DESK_HAS_ROOM);
        if (put(desk, header, value, size_bytes) == 0)
            break;
        model_sleep(nr_desk_gate_address(desk, NR_DESK_HAS_ROOM), word, false);
    }
    state.at = 0;
    tell(NR_DESK_HAS_RESULT);
}

static void work_get(struct nr_desk_message *ret)
{
    struct nr_desk *desk = &state.worker;
    int result;

    while ((result = nr_desk_get(desk, ret)) == -EAGAIN) {
        uint32_t word = nr_desk_prepare(desk, NR_DESK_HAS_TASK);
        if (!nr_desk_may_get(desk))
            model_sleep(nr_desk_gate_address(desk, NR_DESK_HAS_TASK), word, false);
    }
    model_assert(result == 0);
}

/* True: it was begun, and so it was done. */
static bool work_do(uint8_t number)
{
    model_assert(number < TASKS);
    if (!nr_desk_begin(&state.worker)) {
        model_note("throws away", number);
        return false;
    }
    model_note("begins", number);
    state.at = (uint8_t)(number + 1);
    state.begun[number]++;
    nr_desk_stamp(&state.worker, STAMP + number);
    state.stamped = STAMP + number;
    work_put(nr_desk_result_header(NR_DESK_DONE, number, number), 0x1000 + number, result_bytes());
    return true;
}

static void work_all(unsigned me)
{
    struct nr_desk *desk = &state.worker;
    struct nr_desk_message message;

    (void)me;
    nr_desk_attach_of(desk, memory, NR_DESK_WORKER, LINES, RING_BYTES);
    for (;;) {
        work_get(&message);
        enum nr_desk_kind kind = nr_desk_kind(message.header);
        uint8_t number = (uint8_t)nr_desk_task_number(message.header);
        if (kind == NR_DESK_TASK)
            check_payload(&message, number, task_bytes());
        if (nr_desk_done(desk, &message))
            tell(NR_DESK_TAKES_TASK);
        if (kind == NR_DESK_QUIT)
            return;
        if (kind == NR_DESK_RESUME) {
            nr_desk_reopen(desk);
            work_put(nr_desk_result_header(NR_DESK_RESUMED, 0, 0), 0, 0);
        } else {
            model_assert(kind == NR_DESK_TASK);
            if (work_do(number) && (model_variant() & RETIRES))
                break;
        }
    }
    work_put(nr_desk_result_header(NR_DESK_RETIRING, 0, 0), 0, 0);
}

/* -- the owner -------------------------------------------------------------------------------- */

static void wake(enum nr_desk_gate gate)
{
    if (nr_desk_must_wake(&state.owner, gate))
        model_wake(nr_desk_gate_address(&state.owner, gate));
}

/* What was not begun is the owner's again. */
static void take_back(void)
{
    if (state.is_closed)
        return;
    uint32_t kept = nr_desk_close(&state.owner) - state.answered;

    model_note("closes, and leaves", kept);
    while (state.given.count > kept) {
        uint8_t number = state.given.numbers[state.given.count - 1];
        model_assert(state.begun[number] == 0);
        queue_remove(&state.given, state.given.count - 1u);
        queue_insert(&state.waiting, 0, number);
    }
    state.is_feeding = false;
    state.is_closed = state.owes_resume = state.has_taken_back = true;
}

/* With what the desk had no room for. */
static void go_on(void)
{
    if (state.owes_resume && put(&state.owner, NR_DESK_RESUME, 0, 0) == 0) {
        state.owes_resume = false;
        state.must_wake = true;
    }
    if (!state.is_feeding)
        return;
    uint8_t number = state.given.numbers[state.given.count - 1];
    uint64_t header = nr_desk_task_header(NR_DESK_TASK, number, 1, true);
    if (put(&state.owner, header, number, task_bytes()) < 0)
        return;
    state.is_feeding = false;
    state.must_wake = true;
}

static void deal(void)
{
    go_on();
    while (state.waiting.count && !state.is_feeding && !state.is_closed && !state.is_retiring) {
        queue_insert(&state.given, state.given.count, state.waiting.numbers[0]);
        queue_remove(&state.waiting, 0);
        state.is_feeding = true;
        go_on();
    }
    if (state.must_wake)
        wake(NR_DESK_HAS_TASK);
    state.must_wake = false;
}

static void collect_one(const struct nr_desk_message *message)
{
    uint8_t number = state.given.numbers[0];

    switch (nr_desk_kind(message->header)) {
    case NR_DESK_DONE:
        model_assert(state.given.count > (state.is_feeding ? 1 : 0));
        model_assert(nr_desk_result_is_of(message->header, number));
        model_assert(nr_desk_result_code(message->header) == number);
        check_payload(message, 0x1000u + number, result_bytes());
        queue_remove(&state.given, 0);
        state.answered++;
        state.answers[number]++;
        model_note("was answered", number);
        return;
    case NR_DESK_RESUMED:
        model_assert(state.is_closed && !state.owes_resume);
        state.is_closed = false;
        return;
    case NR_DESK_RETIRING:
        take_back();
        state.is_retiring = true;
        return;
    default:
        model_fail("a message that makes no sense");
    }
}

static void collect(void)
{
    struct nr_desk_message message;
    bool frees = false;
    int result;

    while ((result = nr_desk_get(&state.owner, &message)) == 0) {
        collect_one(&message);
        frees |= nr_desk_done(&state.owner, &message);
    }
    model_assert(result == -EAGAIN);
    if (frees)
        wake(NR_DESK_HAS_ROOM);
}

static void bury(void)
{
    collect();
    uint32_t in_task = nr_desk_begun(&state.owner) - state.answered;
    model_note("is gone, in the middle of tasks", in_task);
    model_assert(
        nr_desk_turn_is_sane(&state.owner, state.answered, state.given.count, state.is_closed));
    model_assert(in_task == (state.at ? 1 : 0));
    model_assert(!in_task || state.given.numbers[0] == state.at - 1);
    while (state.given.count) {
        uint8_t number = state.given.numbers[state.given.count - 1];
        queue_remove(&state.given, state.given.count - 1u);
        queue_insert(&state.waiting, 0, number);
    }
    for (; state.waiting.count; queue_remove(&state.waiting, 0))
        state.handed_over[state.waiting.numbers[0]]++;
}

/* True: there is something already. */
static bool prepare(void)
{
    nr_desk_prepare(&state.owner, NR_DESK_HAS_RESULT);
    if (state.is_feeding || state.owes_resume) {
        nr_desk_prepare(&state.owner, NR_DESK_TAKES_TASK);
        go_on(); /* look once more */
        if (state.must_wake)
            wake(NR_DESK_HAS_TASK);
        state.must_wake = false;
    }
    return nr_desk_may_get(&state.owner);
}

static void wait_for_end(void)
{
    while (!model_is_over(WORKER))
        model_pause();
    bury();
}

static void own(unsigned me)
{
    (void)me;
    while (!model_is_dead(WORKER)) {
        collect();
        if (state.is_retiring)
            break;
        if ((model_variant() & TAKES_BACK) && state.answered && !state.has_taken_back)
            take_back();
        deal();
        if (!state.given.count && !state.waiting.count && !state.is_closed &&
            put(&state.owner, NR_DESK_QUIT, 0, 0) == 0) {
            wake(NR_DESK_HAS_TASK);
            break;
        }
        if (prepare())
            continue;
        model_sleep(bell, state.seen_bell, true);
        state.seen_bell = __atomic_load_n(bell, __ATOMIC_RELAXED); /* as eventfd's read */
    }
    wait_for_end();
}

/* -- afterwards ------------------------------------------------------------------------------- */

static void check(void)
{
    const struct nr_desk *desk = &state.owner;
    bool has_died = model_has_died(WORKER);

    for (unsigned i = 0; i < TASKS; i++) {
        model_assert(state.answers[i] + state.handed_over[i] == 1);
        model_assert(state.begun[i] <= 1 && state.answers[i] <= state.begun[i]);
        model_assert(has_died || state.answers[i] == state.begun[i]);
        model_assert(has_died || (model_variant() & RETIRES) || state.answers[i]);
    }
    model_assert(has_died || nr_desk_begun_ns(desk) == state.stamped);
    model_assert((int)nr_desk_begun(desk) == state.begun[0] + state.begun[1] + state.begun[2]);
}

#define SCENARIO_OF(title, switches, stale, deep, ...)                                             \
    {                                                                                              \
        .name = title, .processes = 2, .run = {own, work_all}, .init = init, .check = check,       \
        .state = &state, .state_bytes = sizeof state, .shared_bytes = MODEL_SHARED_BYTES,          \
        .preemptions = (switches), .stale_reads = (stale), .crashes = 1, .may_crash = 1 << WORKER, \
        .is_deep = (deep), .variant = __VA_ARGS__                                                  \
    }
#define SCENARIO(title, ...) SCENARIO_OF(title, 2, 2, false, __VA_ARGS__)

static const struct model_scenario scenarios[] = {
    SCENARIO("small tasks and results", 0),
    SCENARIO("small tasks, results of a line", RESULT_LINE),
    SCENARIO("tasks of a line, small results", TASK_LINE),
    SCENARIO("tasks and results of two lines", TASK_TWO_LINES | RESULT_TWO_LINES),
    SCENARIO("tasks and results apart", TASK_APART | RESULT_APART),
    SCENARIO("small tasks, taken back", TAKES_BACK),
    SCENARIO("tasks of a line, taken back, results apart", TASK_LINE | RESULT_APART | TAKES_BACK),
    SCENARIO("small tasks, the worker retires", RETIRES),
    SCENARIO("tasks of two lines, the worker retires", TASK_TWO_LINES | RETIRES | RESULT_LINE),
    SCENARIO_OF("tasks of a line, taken back, results of a line", 8, 6, true,
                TASK_LINE | RESULT_LINE | TAKES_BACK),
};

const struct model_protocol model_desk = {
    .name = "desk",
    .scenarios = scenarios,
    .scenarios_count = sizeof scenarios / sizeof *scenarios,
};
