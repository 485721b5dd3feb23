/* SPDX-License-Identifier: MIT */
/* httpd -- naru httpd: hands over to the program naru-httpd, which stands beside this one (httpd/) */
#include "command.h"
#include "httpd_help.h"
#include "output.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* As it is installed, and as it is built. */
static const char *const nr_httpd_places[] = {"naru-httpd", "../httpd/naru-httpd"};

static int nr_httpd_run(int argc, char **argv)
{
    char here[4096], path[4200];

    (void)argc;
    ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
    here[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(here, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < sizeof nr_httpd_places / sizeof nr_httpd_places[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", here, nr_httpd_places[i]);
        execv(path, argv);
        if (errno != ENOENT && errno != ENOTDIR)
            break;
    }
    nr_output_complain("%s: %s; it belongs beside `naru`", path, strerror(errno));
    return NR_EXIT_FAILURE;
}

const struct nr_command nr_httpd_command = {
    .name = "httpd",
    .summary = "a web server that forks: files, and what its workers do, live",
    .help = nr_httpd_help,
    .run = nr_httpd_run,
};
