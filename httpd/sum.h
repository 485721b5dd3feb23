/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * sum -- GET /sum?from=1&to=10000&workers=10: the worked case of the library, over HTTP
 *
 * What       The range is split over a pool of processes (naru/pool.h), and the parts are added. Bounded: 16
 *            workers, 1e9 numbers, 10 s; the answer is JSON.
 * Blocking   The worker that answers does nothing else meanwhile, for 10 s at most: its other connections wait, other workers accept.
 */
#include "http.h"

void nr_sum_answer(const struct nr_http_request *request, struct nr_http_answer *answer);
