/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * film -- worlds without many deaths: one victim is stepped through its operation, and all images of the segment
 *         that it goes through are kept; survivors then settle on each, as if it had been killed there
 *
 * What       The process that brought the channel into its state lives on, and keeps what it has. The victim is dead
 *            when its images are looked at, so the kernel says so; survivors attach to each anew. What the kernel does
 *            at a death itself (waking sleepers) is not in the images: that is for lives (life.h).
 * Pairs      A repairer attached before the victim died. On some of the victim's images it is stepped through a repair
 *            itself, and then killed; survivors settle on each image that it went through.
 * Counts     A point is an instruction before which a kill leaves an image on which survivors have settled.
 */
#include "life.h"

enum { NR_KILL_FRAMES_MOST = 6000, NR_KILL_IMAGE_MOST_BYTES = 32 * 1024 };

struct nr_kill_cinema {
    struct nr_kill_run run;
    struct nr_step_film *victims, *repairers; /* shared */
    int *stage;                               /* shared: what the repairer is told */
    uint64_t points, images;                  /* of victims */
    uint64_t pairs, pair_images;              /* of victims and repairers */
};

void nr_kill_cinema_init(struct nr_kill_cinema *cinema, uint64_t seed, const char *name);
void nr_kill_cinema_deinit(struct nr_kill_cinema *cinema);

/* Is there a film of it? Not of what makes or removes the channel, nor of what is not shared by name. */
bool nr_kill_is_filmed(const struct nr_kill_kind *kind, enum nr_kill_state state,
                       const struct nr_kill_operation *operation);

/* One world: all images of the victim; and on `repairs` of them all those of a repairer. */
void nr_kill_world_film(struct nr_kill_cinema *cinema, const struct nr_kill_kind *kind,
                        enum nr_kill_state state, const struct nr_kill_operation *operation,
                        unsigned repairs);
