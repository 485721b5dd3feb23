/* SPDX-License-Identifier: MIT */
#pragma once
/* status_page -- the text of status_page.html, made a part of the program by scripts/embed */
#include <stddef.h>

extern const char nr_status_page_html[];
extern const size_t nr_status_page_html_bytes;
