/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * scoreboard -- what each worker does, in shared memory, at a place for each worker
 *
 * What       A worker writes its place at each request's begin and end; any process reads all of them. A place
 *            outlives its workers: who takes it over goes on from the counts of who was there before, also if
 *            that one was killed in the middle of writing.
 * Forms      Named: a cell a place, shm://httpd-HOST-PORT-INDEX, so that `naru cell` and `naru stat` show them as well.
 *            Inherited: one segment without a name; to take a place over costs no system call, which counts where a process
 *            lives for one connection. The master's own is always a cell, ...-master.
 * Ordering   Of an inherited place: the two copies take turns, and the number of the newest is stored behind it [R1]. A
 *            reader that sees the same number before [A1] and behind [A2] its look has a whole copy.
 * Death      Of a worker: its last whole state stands. Of the master: the next one at the same address removes
 *            what is left.
 * Cost       About 0.1 us a request.
 */
#include <naru/endpoint.h>
#include <naru/shm.h>
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

/* One of the inherited form: its worker's to write. */
struct nr_score_place {
    uint64_t newest; /* odd: copies[1] */
    struct nr_score copies[2];
};

struct nr_scoreboard {
    char name[NR_SCORE_NAME_BYTES]; /* httpd-HOST-PORT-: its objects' names begin with it */
    int workers;
    int index;                      /* the place that is ours to write; -1: the master's */
    struct naru_shm *segment;       /* NULL: the named form */
    struct naru_endpoint *writer;   /* of one place, or of the master's */
    struct naru_endpoint **readers; /* of the places */
    struct naru_endpoint *master_reader;
    struct nr_score *scores; /* the newest that was read, for each place */
    struct nr_score_master master;
};

enum nr_scoreboard_form { NR_SCOREBOARD_NAMED, NR_SCOREBOARD_INHERITED };

/* In the master, before the first worker: removes what an earlier master left, and creates all places. */
int nr_scoreboard_create(struct nr_scoreboard *board, const char *host, int port, int workers,
                         enum nr_scoreboard_form form);
void nr_scoreboard_remove(struct nr_scoreboard *board);

/* In a new worker: writes the place `index` from now on, and goes on from the counts that stand there; of a cell, from those
   that its master has read last (nr_scoreboard_read_place()). */
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
