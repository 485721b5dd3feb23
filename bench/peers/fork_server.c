/* SPDX-License-Identifier: MIT */
/* fork_server PORT FILE -- the bare loop that `naru httpd --mode fork` is measured against: accept, fork, write FILE, exit */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static char answer[1 << 20], request[4096];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    if (argc != 3)
        return 2;
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    int file = open(argv[2], O_RDONLY);
    ssize_t size = file < 0 ? -1 : read(file, answer + 512, sizeof answer - 512);
    if (size < 0)
        return 1;
    int head = snprintf(answer, 512, "HTTP/1.1 200 OK\r\nContent-Length: %zd\r\nConnection: close\r\n\r\n",
                        size);
    for (ssize_t i = 0; i < size; i++)
        answer[head + i] = answer[512 + i];
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 511) < 0)
        return 1;
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        if (fork() == 0) {
            (void)!read(connection, request, sizeof request);
            (void)!write(connection, answer, (size_t)(head + size));
            _exit(0);
        }
        close(connection);
    }
}
