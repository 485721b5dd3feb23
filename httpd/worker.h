/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * worker -- a prefork worker: accepts at the shared socket, and answers until it is told to end
 *
 * What       One loop over the HTTP library and the signals. TERM drains: it accepts no more, ends what it
 *            has begun, lets each connection have one more answer for a second, and exits with 0. INT and HUP are the
 *            master's business.
 */
#include "httpd.h"

/* The exit status. */
int nr_worker_run(struct nr_httpd *httpd, int index);
