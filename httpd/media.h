/* SPDX-License-Identifier: MIT */
#pragma once
/* media -- the media type of a file, by the end of its name */

/* "text/html; charset=utf-8"; "application/octet-stream" for what is not known. Never NULL. */
const char *nr_media_type(const char *path);
