/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * scoreboard -- what each worker does, in shared memory: a cell for each place of a worker
 *
 * What       A worker writes its cell at each request's begin and end; any process reads all of them. A place
 *            outlives its workers: who takes it over goes on from the counts of who was there before, also if
 *            that one was killed in the middle of writing.
 * Names      shm://httpd-HOST-PORT-INDEX, so that `naru cell` and `naru stat` show them as well; the master's own
 *            is ...-master.
 * Death      Of a worker: its last whole state stands. Of the master: the next one at the same address removes
 *            what is left.
 * Cost       About 0.1 us a request.
 */
#include <naru/endpoint.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    NR_SCORE_LINE_BYTES = 120,
    NR_SCORE_BUCKETS = 128, /* of latency: four to an octave of microseconds */
    NR_SCORE_DEATHS = 8,
    NR_SCORE_CAUSE_BYTES = 96,
    NR_SCORE_NAME_BYTES = 80,
    NR_SCORE_WORKERS_MAX = 1023,
};

enum nr_score_state {
    NR_SCORE_NEVER = 0, /* nobody was here yet */
    NR_SCORE_STARTING,
    NR_SCORE_IDLE,
    NR_SCORE_BUSY,
    NR_SCORE_DRAINING,
    NR_SCORE_ENDED,
};

/* A worker's. Times are of CLOCK_MONOTONIC. */
struct nr_score {
    int32_t pid;
    uint32_t state;                     /* enum nr_score_state */
    uint32_t connections;               /* open now */
    uint32_t processes;                 /* that had this place, so far */
    uint64_t requests, failures, bytes; /* of all of them */
    int64_t since_ns;                   /* its start */
    int64_t begun_ns;                   /* its last request's begin */
    char line[NR_SCORE_LINE_BYTES];     /* the current or last request: "GET /x from 127.0.0.1" */
    uint64_t latency[NR_SCORE_BUCKETS];
};

/* The master's. */
struct nr_score_master {
    int32_t pid;
    uint32_t workers; /* places */
    int64_t since_ns;
    uint64_t restarts;
    uint32_t deaths_count; /* the newest stand in deaths[(deaths_count - 1) % NR_SCORE_DEATHS] */
    uint32_t reloads;
    struct nr_score_death {
        int64_t when_ns;
        int32_t pid;
        uint32_t worker;
        char cause[NR_SCORE_CAUSE_BYTES];
    } deaths[NR_SCORE_DEATHS];
};

struct nr_scoreboard {
    char prefix[NR_SCORE_NAME_BYTES]; /* shm://httpd-HOST-PORT- */
    int workers;
    struct naru_endpoint *writer; /* of one place, or of the master's */
    struct naru_endpoint **readers;
    struct naru_endpoint *master_reader;
    struct nr_score *scores; /* the newest that was read, for each place */
    struct nr_score_master master;
};

/* In the master, before the first worker: removes what an earlier master left, and creates all places. */
int nr_scoreboard_create(struct nr_scoreboard *board, const char *host, int port, int workers);
void nr_scoreboard_remove(struct nr_scoreboard *board);

/* In a new worker: writes the place `index` from now on, and goes on from the counts that its master has read there. */
int nr_scoreboard_take(struct nr_scoreboard *board, int index, struct nr_score *ret_score);
void nr_scoreboard_write(struct nr_scoreboard *board, const struct nr_score *score);
void nr_scoreboard_write_master(struct nr_scoreboard *board);

/* Reads what is new into board->scores and board->master; the other one: of one place. */
int nr_scoreboard_read(struct nr_scoreboard *board);
int nr_scoreboard_read_place(struct nr_scoreboard *board, int index);

/* Gives back what this process has opened. */
void nr_scoreboard_close(struct nr_scoreboard *board);

/* The bucket of a latency, and the upper end of one. */
int nr_score_bucket(int64_t duration_ns);
int64_t nr_score_bucket_us(int bucket);

int64_t nr_score_now_ns(void);
