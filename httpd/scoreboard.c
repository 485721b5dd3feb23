/* SPDX-License-Identifier: MIT */
#include "scoreboard.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    NR_SCORE_URI_BYTES = NR_SCORE_NAME_BYTES + 16,
    NR_SCORE_VISITORS = 16, /* others who look, beside the workers */
    NR_SCORE_LOOKS = 100,
};

int64_t nr_score_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Below 4 us each has its own; from there on the two bits behind the first one count. */
int nr_score_bucket(int64_t duration_ns)
{
    uint64_t us = duration_ns > 0 ? (uint64_t)duration_ns / 1000 : 0;

    if (us < 4)
        return (int)us;
    int octave = 63 - __builtin_clzll(us);
    int bucket = (octave - 1) * 4 + (int)(us >> (octave - 2) & 3);
    return bucket < NR_SCORE_BUCKETS ? bucket : NR_SCORE_BUCKETS - 1;
}

int64_t nr_score_bucket_us(int bucket)
{
    if (bucket < 4)
        return bucket + 1;
    return (int64_t)(bucket % 4 + 5) << (bucket / 4 - 1);
}

static const char *nr_scoreboard_uri(const struct nr_scoreboard *board, int index,
                                     char uri[NR_SCORE_URI_BYTES])
{
    if (index < 0)
        snprintf(uri, NR_SCORE_URI_BYTES, "shm://%smaster", board->name);
    else
        snprintf(uri, NR_SCORE_URI_BYTES, "shm://%s%d", board->name, index);
    return uri;
}

static int nr_scoreboard_open(struct naru_endpoint **ret, const struct nr_scoreboard *board,
                              int index, enum naru_role role)
{
    struct naru_options options = {
        .size_bytes = sizeof options,
        .pattern = NARU_CELL,
        .create = role == NARU_SENDER ? NARU_CREATE_OR_ATTACH : NARU_ATTACH,
        .message_size_max_bytes =
            index < 0 ? sizeof(struct nr_score_master) : sizeof(struct nr_score),
        .participants_max = (uint32_t)board->workers + NR_SCORE_VISITORS,
    };
    char uri[NR_SCORE_URI_BYTES];

    return naru_open(ret, nr_scoreboard_uri(board, index, uri), role, &options);
}

static void nr_scoreboard_unlink(const struct nr_scoreboard *board)
{
    char uri[NR_SCORE_URI_BYTES];

    for (int i = -1; i < board->workers; i++)
        naru_unlink(nr_scoreboard_uri(board, i, uri));
}

/* -- the inherited form ---------------------------------------------------------------------- */

static struct nr_score_place *nr_scoreboard_place(const struct nr_scoreboard *board, int index)
{
    return (struct nr_score_place *)naru_shm_data(board->segment) + index;
}

static int nr_scoreboard_create_segment(struct nr_scoreboard *board)
{
    static const struct naru_options options = {.size_bytes = sizeof options,
                                                .create = NARU_CREATE};

    return naru_shm_open(&board->segment, "shm://",
                         (size_t)board->workers * sizeof(struct nr_score_place), &options);
}

static void nr_scoreboard_put(struct nr_score_place *place, const struct nr_score *score)
{
    uint64_t next = place->newest + 1;

    place->copies[next % 2] = *score;
    /* [R1] With [A1]: who sees the number sees the copy. */
    __atomic_store_n(&place->newest, next, __ATOMIC_RELEASE);
}

static void nr_scoreboard_get(const struct nr_score_place *place, struct nr_score *ret)
{
    /* Who is overtaken so often gets half of one: good enough to be looked at, and no writer waits for it. */
    for (int i = 0; i < NR_SCORE_LOOKS; i++) {
        uint64_t before = __atomic_load_n(&place->newest, __ATOMIC_ACQUIRE); /* [A1] */
        *ret = place->copies[before % 2];
        /* [A2] Behind the copy: without it the number could be the older of the two. */
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&place->newest, __ATOMIC_RELAXED) == before)
            break;
    }
    ret->line[NR_SCORE_LINE_BYTES - 1] = '\0';
}

/* -- both forms ------------------------------------------------------------------------------ */

static int nr_scoreboard_create_cells(struct nr_scoreboard *board)
{
    struct nr_score never = {.state = NR_SCORE_NEVER};

    for (int i = 0; i < board->workers; i++) {
        int result = nr_scoreboard_open(&board->writer, board, i, NARU_SENDER);
        if (result < 0)
            return result;
        nr_scoreboard_write(board, &never);
        naru_close(board->writer);
        board->writer = NULL;
    }
    return 0;
}

int nr_scoreboard_create(struct nr_scoreboard *board, const char *host, int port, int workers,
                         enum nr_scoreboard_form form)
{
    char name[NR_SCORE_NAME_BYTES - 32];

    snprintf(name, sizeof name, "%s", host);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '.')
            *c = '_';
    *board = (struct nr_scoreboard){.workers = workers, .index = -1};
    snprintf(board->name, sizeof board->name, "httpd-%s-%d-", name, port);
    board->readers = calloc((size_t)workers, sizeof(struct naru_endpoint *));
    board->scores = calloc((size_t)workers, sizeof *board->scores);
    if (!board->readers || !board->scores)
        return -ENOMEM;
    nr_scoreboard_unlink(board);
    int result = form == NR_SCOREBOARD_INHERITED ? nr_scoreboard_create_segment(board)
                                                 : nr_scoreboard_create_cells(board);
    if (result < 0)
        return result;
    board->master = (struct nr_score_master){
        .pid = getpid(), .workers = (uint32_t)workers, .since_ns = nr_score_now_ns()};
    result = nr_scoreboard_open(&board->writer, board, -1, NARU_SENDER);
    if (result == 0)
        nr_scoreboard_write_master(board);
    return result;
}

static void nr_scoreboard_let_go(struct nr_scoreboard *board)
{
    naru_close(board->writer);
    naru_close(board->master_reader);
    board->writer = board->master_reader = NULL;
    for (int i = 0; board->readers && i < board->workers; i++) {
        naru_close(board->readers[i]);
        board->readers[i] = NULL;
    }
}

void nr_scoreboard_close(struct nr_scoreboard *board)
{
    nr_scoreboard_let_go(board);
    naru_shm_close(board->segment);
    free(board->readers);
    free(board->scores);
    *board = (struct nr_scoreboard){0};
}

void nr_scoreboard_remove(struct nr_scoreboard *board)
{
    nr_scoreboard_unlink(board);
    nr_scoreboard_close(board);
}

int nr_scoreboard_take(struct nr_scoreboard *board, int index, struct nr_score *ret_score)
{
    struct nr_score score = board->scores[index];
    int result = 0;

    if (board->segment)
        nr_scoreboard_get(nr_scoreboard_place(board, index), &score);
    score.pid = getpid();
    score.state = NR_SCORE_STARTING;
    score.connections = 0;
    score.processes++;
    score.since_ns = nr_score_now_ns();
    score.begun_ns = 0;
    score.line[0] = '\0';
    /* The master's endpoints are not ours, and their descriptors are closed already (naru_spawn()). */
    board->writer = board->master_reader = NULL;
    board->index = index;
    if (!board->segment) {
        memset(board->readers, 0, (size_t)board->workers * sizeof(struct naru_endpoint *));
        result = nr_scoreboard_open(&board->writer, board, index, NARU_SENDER);
    }
    if (result < 0)
        return result;
    nr_scoreboard_write(board, &score);
    *ret_score = score;
    return 0;
}

void nr_scoreboard_write(struct nr_scoreboard *board, const struct nr_score *score)
{
    if (board->segment)
        nr_scoreboard_put(nr_scoreboard_place(board, board->index), score);
    else
        naru_send(board->writer, score, sizeof *score, 0);
}

void nr_scoreboard_write_master(struct nr_scoreboard *board)
{
    naru_send(board->writer, &board->master, sizeof board->master, 0);
}

/* -EAGAIN: nothing newer; what was read before still holds. */
static int nr_scoreboard_read_one(struct nr_scoreboard *board, int index,
                                  struct naru_endpoint **reader, void *into, size_t size_bytes)
{
    int result = *reader ? 0 : nr_scoreboard_open(reader, board, index, NARU_RECEIVER);

    if (result == 0)
        result = naru_recv(*reader, into, size_bytes, NULL, 0);
    return result == -EAGAIN ? 0 : result;
}

int nr_scoreboard_read_place(struct nr_scoreboard *board, int index)
{
    if (board->segment) {
        nr_scoreboard_get(nr_scoreboard_place(board, index), &board->scores[index]);
        return 0;
    }
    return nr_scoreboard_read_one(board, index, &board->readers[index], &board->scores[index],
                                  sizeof board->scores[index]);
}

int nr_scoreboard_read(struct nr_scoreboard *board)
{
    int result = nr_scoreboard_read_one(board, -1, &board->master_reader, &board->master,
                                        sizeof board->master);

    for (int i = 0; i < board->workers && result == 0; i++)
        result = nr_scoreboard_read_place(board, i);
    return result;
}
