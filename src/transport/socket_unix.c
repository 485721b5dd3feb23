/* SPDX-License-Identifier: MIT */
/*
 * socket_unix -- names of unix sockets: unix:///path is a file, abstract://name is none
 *
 * Dead files A killed listener leaves its socket's file. It is proven dead when connect(2) is refused: the
 *            kernel refuses a socket file only if no socket listens behind it. Between that proof and the
 *            replacement another process might put its own live socket there, so both happen under an
 *            exclusive flock of the directory, which every Naru listener takes to appear and to go.
 * Appearing  The socket is bound under the name ".NAME.naru-new", gets its mode, listens, and only then is
 *            renamed to NAME: whoever sees NAME can connect. Where there was no file the rename does
 *            not replace, so a file of another program is never lost.
 * Death      Killed in between: the file ".NAME.naru-new" stays, which the next listener removes (under the
 *            lock there can be only one at work). The kernel drops the lock.
 * Trust      The peer's user is the one the kernel names (SO_PEERCRED), in both directions.
 */
#include "base/cleanup.h"
#include "os/process.h"
#include "transport/socket.h"
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NR_UNIX_PATH_BYTES = sizeof(((struct sockaddr_un *)0)->sun_path) };

static bool nr_unix_is_abstract(const struct nr_uri *uri)
{
    return strcmp(uri->scheme, "abstract") == 0;
}

int nr_unix_check_uri(const struct nr_uri *uri)
{
    size_t length = strlen(uri->rest);

    if (!nr_unix_is_abstract(uri))
        return nr_uri_check_path(uri);
    int result = nr_uri_check_name(uri);
    if (result == 0 && length > NR_UNIX_PATH_BYTES - 1)
        return nr_fail(-EINVAL,
                       "abstract://%.40s...: the name has %zu characters, and the kernel takes "
                       "at most %d; choose a shorter one",
                       uri->rest, length, NR_UNIX_PATH_BYTES - 1);
    return result;
}

/* A path that may be longer than the 107 bytes of a socket address goes through its directory. */
struct nr_unix_place {
    struct nr_os_address address;
    int directory_fd;
};
#define NR_UNIX_PLACE_NULL ((struct nr_unix_place){.directory_fd = -1})

static void nr_unix_place_deinit(struct nr_unix_place *place)
{
    nr_os_close(&place->directory_fd);
}
#define nr_unix_cleanup_place __attribute__((cleanup(nr_unix_place_deinit)))

static void nr_unix_directory(const char *path, char *ret, size_t size)
{
    size_t length = (size_t)(strrchr(path, '/') - path);

    snprintf(ret, size, "%.*s", length ? (int)length : 1, length ? path : "/");
}

static int nr_unix_place_path(struct nr_unix_place *place, const char *path)
{
    struct sockaddr_un *local = &place->address.local;
    char directory[NR_URI_REST_BYTES];
    int length;

    *place = NR_UNIX_PLACE_NULL;
    local->sun_family = AF_UNIX;
    if (strlen(path) < sizeof local->sun_path) {
        length = snprintf(local->sun_path, sizeof local->sun_path, "%s", path);
    } else {
        nr_unix_directory(path, directory, sizeof directory);
        place->directory_fd = nr_os_open(directory, O_PATH | O_DIRECTORY, 0);
        if (place->directory_fd < 0)
            return place->directory_fd;
        length = snprintf(local->sun_path, sizeof local->sun_path, "/proc/self/fd/%d%s",
                          place->directory_fd, strrchr(path, '/'));
        if ((size_t)length >= sizeof local->sun_path)
            return nr_fail(-ENAMETOOLONG,
                           "%s: the name of a socket's file has at most about %d "
                           "characters; choose a shorter one",
                           path, NR_UNIX_PATH_BYTES - 40);
    }
    place->address.size_bytes =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length + 1);
    return 0;
}

static int nr_unix_place_of(struct nr_unix_place *place, const struct nr_uri *uri)
{
    struct sockaddr_un *local = &place->address.local;
    size_t length = strlen(uri->rest);

    if (!nr_unix_is_abstract(uri))
        return nr_unix_place_path(place, uri->rest);
    *place = NR_UNIX_PLACE_NULL;
    local->sun_family = AF_UNIX;
    memcpy(local->sun_path + 1, uri->rest, length); /* a zero byte first, and none at the end */
    place->address.size_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    return 0;
}

static int nr_unix_no_socket(int error)
{
    return nr_fail(error, "can't make a socket: %s; close descriptors, or raise `ulimit -n`",
                   nr_error_name(error));
}

/* -- reaching a listener --------------------------------------------------------------------- */

static int nr_unix_explain_connect(const struct nr_request *request, int error)
{
    const char *text = request->text;
    char directory[NR_URI_REST_BYTES];
    struct stat status;

    if (error == -ECONNREFUSED && nr_unix_is_abstract(&request->uri))
        return nr_fail(-ENOENT, "%s: nobody listens there; start the other side", text);
    if (error == -ECONNREFUSED || error == -ENOTSOCK) {
        if (nr_os_stat(request->uri.rest, &status) == 0 && !S_ISSOCK(status.st_mode) &&
            !S_ISLNK(status.st_mode))
            return nr_fail(-EBADMSG,
                           "%s: there is a file that is no socket; choose another path, or "
                           "remove it",
                           text);
        return nr_fail(-ECONNREFUSED,
                       "%s: the socket's file is there, but its listener is dead; start "
                       "one, which replaces the file",
                       text);
    }
    if (error == -ENOENT) {
        nr_unix_directory(request->uri.rest, directory, sizeof directory);
        if (nr_os_stat(directory, &status) < 0)
            return nr_fail(-ENOTDIR, "%s: there is no directory %s; make it", text, directory);
        return nr_fail(-ENOENT, "%s: nobody listens there; start the other side", text);
    }
    if (error == -EPROTOTYPE)
        return nr_fail(-EPROTO,
                       "%s: the socket there is of another kind (stream or datagram), so it is "
                       "another program's; choose another path",
                       text);
    if (error == -EACCES || error == -EPERM)
        return nr_fail(-EACCES,
                       "%s: no permission to connect; its listener grants it with "
                       "options.file_mode",
                       text);
    if (error == -EAGAIN)
        return error;
    return nr_fail(error, "connecting to %s: %s", text, nr_error_name(error));
}

int nr_unix_connect(const struct nr_request *request, struct nr_deadline *deadline)
{
    nr_unix_cleanup_place struct nr_unix_place place = NR_UNIX_PLACE_NULL;
    nr_cleanup_close int fd = nr_os_socket_new(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK);
    pid_t pid;
    uid_t uid;

    (void)deadline;
    if (fd < 0)
        return nr_unix_no_socket(fd);
    int result = nr_unix_place_of(&place, &request->uri);
    if (result == 0)
        result = nr_os_socket_connect(fd, &place.address);
    if (result < 0)
        return result == -ENAMETOOLONG ? result : nr_unix_explain_connect(request, result);
    result = nr_os_socket_peer(fd, &pid, &uid);
    if (result == 0 && !request->options.peer_uid_any && uid != nr_os_uid() && uid != 0)
        return nr_fail(-EACCES,
                       "%s: its listener (process %d) runs as user %u, not as %u or root; set "
                       "options.peer_uid_any = 1 to trust it",
                       request->text, (int)pid, (unsigned)uid, (unsigned)nr_os_uid());
    result = nr_os_nonblocking(fd, 0);
    return result < 0 ? result : nr_steal_fd(&fd);
}

/* -- becoming the listener --------------------------------------------------------------------- */

struct nr_unix_lock {
    int fd;
};

static void nr_unix_lock_give(struct nr_unix_lock *lock)
{
    if (lock->fd >= 0)
        nr_os_flock(lock->fd,
                    false); /* at once: a forked child may have a copy of the descriptor */
    nr_os_close(&lock->fd);
}
#define nr_unix_cleanup_lock __attribute__((cleanup(nr_unix_lock_give)))

static int nr_unix_lock_take(struct nr_unix_lock *lock, const char *path,
                             struct nr_deadline *deadline)
{
    char directory[NR_URI_REST_BYTES];
    int64_t pause_ns = 100000;

    nr_unix_directory(path, directory, sizeof directory);
    lock->fd = nr_os_open(directory, O_RDONLY | O_DIRECTORY, 0);
    if (lock->fd < 0)
        return nr_fail(lock->fd,
                       "%s: can't open the directory: %s; it must exist, and be readable for "
                       "whoever listens",
                       directory, nr_error_name(lock->fd));
    int result;
    while ((result = nr_os_flock(lock->fd, true)) == -EWOULDBLOCK) {
        if (nr_deadline_left_ns(deadline) == 0)
            return nr_fail(-EBUSY,
                           "%s: another process keeps the directory locked (flock); see "
                           "`lslocks`",
                           directory);
        struct nr_deadline pause = nr_deadline_in(pause_ns);
        nr_os_poll(NULL, 0, &pause);
        pause_ns = pause_ns < 50000000 ? 2 * pause_ns : 50000000;
    }
    return result < 0 ? nr_fail(result, "%s: can't lock the directory: %s", directory,
                                nr_error_name(result))
                      : 0;
}

/* Under the lock. 1: there is a dead socket's file; 0: there is nothing; -EADDRINUSE, -EBADMSG. */
static int nr_unix_examine(const struct nr_request *request)
{
    struct stat status;

    int result = nr_os_stat(request->uri.rest, &status);
    if (result == -ENOENT)
        return 0;
    if (result < 0)
        return nr_fail(result, "%s: %s", request->text, nr_error_name(result));
    if (!S_ISSOCK(status.st_mode))
        return nr_fail(-EBADMSG,
                       "%s: there is a file that is no socket; choose another path, or remove "
                       "it",
                       request->text);
    int fd = nr_unix_connect(request, NULL);
    if (fd == -ECONNREFUSED)
        return 1;
    if (fd == -ENOENT)
        return 0;
    if (fd >= 0 || fd == -EAGAIN) {
        nr_os_close(&fd);
        return -EADDRINUSE;
    }
    return fd;
}

static int nr_unix_publish(struct nr_socket *s, const struct nr_request *request, int fd,
                           const char *fresh, bool may_replace)
{
    nr_unix_cleanup_place struct nr_unix_place place = NR_UNIX_PLACE_NULL;
    struct stat status;

    nr_os_unlink(fresh); /* of one that was killed in here */
    int result = nr_unix_place_path(&place, fresh);
    if (result == 0)
        result = nr_os_socket_bind(fd, &place.address);
    if (result < 0)
        return result == -ENAMETOOLONG ? result
                                       : nr_fail(result, "%s: can't make the socket's file: %s",
                                                 request->text, nr_error_name(result));
    result = nr_os_chmod(fresh, request->options.file_mode);
    if (result == 0)
        result = nr_os_socket_listen(fd);
    if (result == 0)
        result = nr_os_stat(fresh, &status);
    if (result == 0)
        result = nr_os_rename(fresh, request->uri.rest, may_replace);
    if (result < 0) {
        nr_os_unlink(fresh);
        return result == -EEXIST ? -EADDRINUSE
                                 : nr_fail(result, "%s: can't name the socket's file: %s",
                                           request->text, nr_error_name(result));
    }
    snprintf(s->path, sizeof s->path, "%s", request->uri.rest);
    s->path_device = status.st_dev;
    s->path_inode = status.st_ino;
    return 0;
}

static int nr_unix_listen_path(struct nr_socket *s, const struct nr_request *request, int fd,
                               struct nr_deadline *deadline)
{
    nr_unix_cleanup_lock struct nr_unix_lock lock = {-1};
    const char *path = request->uri.rest;
    const char *name = strrchr(path, '/') + 1;
    char fresh[NR_URI_REST_BYTES + 16];

    int result = nr_unix_lock_take(&lock, path, deadline);
    if (result == 0)
        result = nr_unix_examine(request);
    if (result < 0)
        return result;
    snprintf(fresh, sizeof fresh, "%.*s.%s.naru-new", (int)(name - path), path, name);
    return nr_unix_publish(s, request, fd, fresh, result == 1);
}

int nr_unix_listen(struct nr_socket *s, const struct nr_request *request,
                   struct nr_deadline *deadline)
{
    nr_unix_cleanup_place struct nr_unix_place place = NR_UNIX_PLACE_NULL;
    nr_cleanup_close int fd = nr_os_socket_new(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK);
    int result;

    if (fd < 0)
        return nr_unix_no_socket(fd);
    if (nr_unix_is_abstract(&request->uri)) {
        nr_unix_place_of(&place, &request->uri);
        result = nr_os_socket_bind(fd, &place.address);
        if (result == 0)
            result = nr_os_socket_listen(fd);
        if (result < 0 && result != -EADDRINUSE)
            nr_fail(result, "%s: can't listen: %s", request->text, nr_error_name(result));
    } else {
        result = nr_unix_listen_path(s, request, fd, deadline);
    }
    if (result < 0)
        return result;
    s->listen_fd = nr_steal_fd(&fd);
    return 0;
}

/* Only if the file still is this endpoint's, and nobody is about to replace it. */
void nr_unix_remove(struct nr_socket *s)
{
    nr_unix_cleanup_lock struct nr_unix_lock lock = {-1};
    struct nr_deadline deadline = nr_deadline_in(100000000);
    struct stat status;

    if (!s->path[0] || nr_unix_lock_take(&lock, s->path, &deadline) < 0)
        return;
    if (nr_os_stat(s->path, &status) == 0 && status.st_dev == s->path_device &&
        status.st_ino == s->path_inode)
        nr_os_unlink(s->path);
    s->path[0] = '\0';
}

int nr_unix_unlink(const struct nr_uri *uri)
{
    nr_unix_cleanup_lock struct nr_unix_lock lock = {-1};
    struct nr_deadline deadline = nr_deadline_in(NARU_SECOND);
    struct stat status;

    int result = nr_unix_check_uri(uri);
    if (result < 0)
        return result;
    if (nr_unix_is_abstract(uri))
        return nr_fail(-EOPNOTSUPP,
                       "abstract://%s: such a name is no file, and goes with its listener; "
                       "there is nothing to remove",
                       uri->rest);
    result = nr_os_stat(uri->rest, &status);
    if (result < 0)
        return nr_fail(result == -ENOTDIR ? -ENOENT : result,
                       "unix://%s: %s; there is nothing to remove", uri->rest,
                       nr_error_name(result));
    if (!S_ISSOCK(status.st_mode))
        return nr_fail(-EBADMSG, "unix://%s is a file that is no socket, and was left alone",
                       uri->rest);
    result = nr_unix_lock_take(&lock, uri->rest, &deadline);
    if (result == 0)
        result = nr_os_unlink(uri->rest);
    return result < 0
               ? nr_fail(result, "unix://%s: can't remove it: %s", uri->rest, nr_error_name(result))
               : 0;
}

int nr_unix_watch(const struct nr_request *request)
{
    char directory[NR_URI_REST_BYTES];

    if (nr_unix_is_abstract(&request->uri))
        return -1;
    nr_unix_directory(request->uri.rest, directory, sizeof directory);
    return nr_os_watch_new(directory);
}
