/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * shm -- a plain segment of shared memory, used like a variable
 *
 * What       Bytes at an address in several processes, and nothing else: no header, so that programs
 *            that know nothing of Naru can share it. Order between processes is the caller's affair
 *            (naru/sync.h); for messages use shm:// with naru/endpoint.h.
 * Memory     All of it is reserved when it is created: a full /dev/shm is -ENOSPC here, never SIGBUS
 *            later. A file that another program truncates afterwards is outside this promise.
 * Threads    The functions are thread-safe for different handles. The mapping is inherited by fork.
 */
#include <naru/endpoint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct naru_shm;

/*
 * Opens or creates (options->create, file_mode) a segment and maps it for reading and writing:
 *   shm://name     a POSIX segment among this user's objects
 *   shm:///path    the file at that path; shm:///dev/shm/x is what shm_open("/x") opens
 *   sysv://key     a System V segment by its key (decimal, 0x hexadecimal) or, as sysv:///path,
 *                  by ftok(path, 'n'); the path must exist
 *   shm://         anonymous: shared with children by fork, gone with the last of them
 * `size_bytes` is needed to create; 0 when attaching takes what is there, another value must not be
 * larger than what is there (-EINVAL names both). A new segment is all zeros. Errors: -ENOENT,
 * -EEXIST, -EACCES, -ENOSPC, -ENOMEM, -EINVAL; -EBADMSG the path is no regular file;
 * -EPROTONOSUPPORT another scheme; -EOPNOTSUPP an option other than create and file_mode.
 */
NARU_API int naru_shm_open(struct naru_shm **ret, const char *uri, size_t size_bytes,
                           const struct naru_options *options);

/* The memory and its size, valid until naru_shm_close(). */
NARU_API void *naru_shm_data(const struct naru_shm *segment);
NARU_API size_t naru_shm_size(const struct naru_shm *segment);

/* 1 if this call of naru_shm_open() made it, 0 if it was there. */
NARU_API int naru_shm_created(const struct naru_shm *segment);

NARU_API void naru_shm_close(struct naru_shm *segment);

/* Removes the name; open segments go on until they are closed. -ENOENT, -EACCES, -EBADMSG. */
NARU_API int naru_shm_unlink(const char *uri);

#ifdef __cplusplus
}
#endif
