/* SPDX-License-Identifier: MIT */
#pragma once
/* status -- the scoreboard as JSON, and the page that shows it live */
#include "http.h"
#include "scoreboard.h"

void nr_status_json(struct nr_scoreboard *board, const char *mode, const char *listen,
                    struct nr_http_answer *answer);
void nr_status_page(struct nr_http_answer *answer);
