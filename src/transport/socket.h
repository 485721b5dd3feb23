/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * socket -- what unix://, abstract:// and tcp:// share inside
 *
 * What       An endpoint has connections: one when it attached or is the end of a pair, any number when it
 *            listens. socket_open.c opens and closes, socket.c chooses a connection and waits,
 *            socket_listener.c accepts; a family carries messages over one connection: packets (socket_packet.c, SOCK_SEQPACKET) or a stream (socket_stream.c, TCP).
 *            socket_unix.c and socket_tcp.c know addresses; socket_connection.c greets and says farewell.
 * Threads    `lock` guards everything in struct nr_socket and its connections; nobody sleeps with it held.
 *            Who waits for one connection pins it. While a process has one thread, a call may sleep in the
 *            system call itself, without the lock: nobody else is there.
 * Greeting   Each side sends a hello as the first thing on a connection and checks the other's: magic,
 *            version, role, pattern. Nobody has to answer: a message may follow the hello at once.
 * Death      END is the last frame of an endpoint that is closed. A connection that ends without it, or
 *            whose process' pidfd says so, died.
 * Trust      Sizes in frames are checked against message_size_max, and memory grows only as data comes.
 */
#include "os/guard.h"
#include "os/socket.h"
#include "transport/endpoint.h"

enum {
    NR_SOCKET_VERSION = 2,
    NR_SOCKET_FRAME_MAGIC = 0x4e53,
    NR_SOCKET_PATIENCE_NS =
        20 * 1000 * 1000,               /* how long a direct call sleeps before it looks around */
    NR_SOCKET_SERVICE_EVERY = 64,       /* messages between two looks at the listener */
    NR_SOCKET_SERVICE_NS = 1000 * 1000, /* ... or this time, for those who send rarely */
    NR_SOCKET_GREETING_NS =
        200 * 1000 * 1000,         /* an open waits this long for the listener's hello */
    NR_SOCKET_UNGREETED_MAX = 128, /* silent connections a listener keeps */
};

enum nr_socket_kind {
    NR_SOCKET_HELLO = 1,
    NR_SOCKET_MESSAGE,
    NR_SOCKET_END,
    NR_SOCKET_ACKNOWLEDGE, /* tcp: the message is in the hand of a receiving call */
    NR_SOCKET_GO,          /* tcp: it is committed, deliver it */
    NR_SOCKET_CANCEL,      /* it did not happen */
};

struct nr_socket_hello {
    char magic[8]; /* "naru-io" */
    uint32_t version;
    uint8_t role, pattern, acknowledge, refusal; /* refusal: an errno, then nothing follows */
    uint64_t message_size_max_bytes;
    uint32_t pid, zero;
};

/* How a connection came to its end; of those of a listener that are left, the worst is told. */
enum nr_socket_end {
    NR_SOCKET_OPEN = 0,
    NR_SOCKET_ENDED,   /* said END */
    NR_SOCKET_DIED,    /* did not */
    NR_SOCKET_ALIEN,   /* what came first was no hello of ours */
    NR_SOCKET_DAMAGED, /* later something came that is no frame */
    NR_SOCKET_ROLE,    /* senders, or receivers, on both sides */
    NR_SOCKET_PATTERN,
    NR_SOCKET_SIZE,    /* message_size_max differs from what was asked for */
    NR_SOCKET_MODE,    /* so does acknowledge */
    NR_SOCKET_REFUSED, /* the listener does not accept our user */
    NR_SOCKET_OLD,     /* another version of the protocol */
};

struct nr_socket_connection {
    int fd, pidfd; /* pidfd: -1 where the kernel can't tell who it is */
    pid_t pid;
    uid_t uid;
    bool knows_pid, knows_uid;
    bool is_greeted, may_read, process_died;
    bool is_enrolled; /* in epoll_fd */
    bool is_gone;     /* taken off the list, kept for those who pin it */
    enum nr_socket_end end;
    struct nr_socket_hello hello; /* theirs */
    unsigned pins;
    bool turn_taken; /* someone is in the middle of a transaction of several frames */
    unsigned turn_waiters;
    int turn_fd; /* eventfd for those who wait for a turn; -1: nobody ever did */
    int ack_fd; /* eventfd for the thread that waits for an acknowledgement, if another one reads it */
    uint64_t sent; /* messages, the sequence of the latest */

    /* packets: the message whose fragments are coming in */
    size_t packet_max_bytes, packet_latest_bytes;
    uint8_t *partial;
    size_t partial_bytes, partial_capacity_bytes, partial_total_bytes;
    uint64_t partial_sequence;
    int partial_fds[NR_OS_FDS_MAX];
    size_t partial_fds_count;
    bool partial_cut;

    /* stream: bytes that came, and bytes that must go out before anything else */
    uint8_t *in;
    size_t in_capacity_bytes, in_start, in_scanned, in_end;
    uint8_t *rest;
    size_t rest_bytes, rest_sent;
    bool is_writing; /* a frame is on its way out, in pieces: others must not write between them */
    uint64_t acknowledged; /* by the peer: the latest sequence of ours */
};

struct nr_socket;

struct nr_socket_family {
    /* 0: sent. With may_wait false, or when another thread has its turn: -EAGAIN and nothing was sent.
       Without the lock; the connection is pinned. */
    int (*send)(struct nr_socket *s, struct nr_socket_connection *c, const struct nr_out *out,
                struct nr_deadline *deadline, bool may_wait);

    /* The next message of this connection: 0, -EMSGSIZE, -EAGAIN (look at c->end too). Locked, never
       sleeps. With `directly` it may sleep for NR_SOCKET_PATIENCE_NS in the call, and then -EINTR. */
    int (*take)(struct nr_socket *s, struct nr_socket_connection *c, struct nr_in *in,
                bool directly);

    /* Reads what is not a message for recv: hello, end, acknowledgements. Locked. */
    void (*progress)(struct nr_socket *s, struct nr_socket_connection *c);

    /* Something that take() would give is buffered already. Locked. */
    bool (*has_message)(const struct nr_socket_connection *c);

    /* A control frame; stays in the connection's memory if the kernel has no room. */
    int (*put_hello)(struct nr_socket *s, struct nr_socket_connection *c, uint8_t refusal);
    void (*put_end)(struct nr_socket *s, struct nr_socket_connection *c);
};
extern const struct nr_socket_family nr_packet_family, nr_stream_family;

struct nr_socket {
    struct naru_endpoint endpoint;
    const struct nr_socket_family *family;
    struct nr_lock lock;
    struct naru_options asked; /* before the listener's values were known */
    bool is_pair, is_attached;
    int listen_fd;
    int epoll_fd;     /* whatever may let a receive go on; -1: not needed yet */
    int out_epoll_fd; /* whatever may let a send go on */
    int wake_fd;      /* eventfd in epoll_fd: another thread has buffered a message */
    bool is_awake, is_watched;
    bool is_accept_paused; /* no descriptors left: the listener is out of epoll for a while */
    bool says_no_descriptors;
    struct nr_socket_connection **connections;
    unsigned connections_count, connections_capacity, next_in, next_out, until_service;
    int64_t serviced_ns, paused_ns;
    struct nr_socket_connection *latest; /* whose message was received last */
    bool latest_left;
    uint8_t *overflow;       /* packets: what does not fit the user's room */
    enum nr_socket_end left; /* listener: the worst end since there was nobody; attached: the end */
    pid_t left_pid;

    struct nr_os_address address; /* of the listener */
    char path[1024]; /* unix: the file, to be removed at the end if it still is this one */
    uint64_t path_device, path_inode;
    struct nr_socket *next_listener;
};

static inline struct nr_socket *nr_socket_of(struct naru_endpoint *endpoint)
{
    return (struct nr_socket *)endpoint; /* its first member */
}

static inline bool nr_socket_is_stream(const struct nr_socket *s)
{
    return s->family == &nr_stream_family;
}

/* -- socket_connection.c ------------------------------------------------------------------- */

int nr_connection_new(struct nr_socket *s, int fd, struct nr_socket_connection **ret);
void nr_connection_free(struct nr_socket_connection *c);
void nr_connection_pin(struct nr_socket_connection *c);
void nr_connection_unpin(struct nr_socket *s, struct nr_socket_connection *c);
int nr_connection_join(struct nr_socket *s, struct nr_socket_connection *c);

/* A socket in an epoll set costs a callback for each packet, a tenth of a small message. So the only
   connection of an endpoint is not put there until someone has to wait for more than it. */
int nr_connection_enroll_all(struct nr_socket *s);
/* c->end was set: a listener forgets it, an attached endpoint keeps it and ends with it. */
void nr_connection_retire(struct nr_socket *s, struct nr_socket_connection *c);

void nr_connection_fill_hello(const struct nr_socket *s, uint8_t refusal,
                              struct nr_socket_hello *ret);
void nr_connection_greet(struct nr_socket *s, struct nr_socket_connection *c,
                         const struct nr_socket_hello *hello);
/* Fails with the sentence for that end. */
int nr_connection_verdict(const struct nr_socket *s, enum nr_socket_end end, pid_t pid,
                          const struct nr_socket_hello *hello);
bool nr_connection_is_dead(struct nr_socket *s, struct nr_socket_connection *c);

/* Waits on a connection, its process, the interrupt; fd2 (-1: none) is a second descriptor to read. */
int nr_connection_wait(struct nr_socket *s, struct nr_socket_connection *c, unsigned events,
                       int fd2, struct nr_deadline *deadline);

/* A turn: exclusive use of a connection's sending side over several frames. */
int nr_connection_take_turn(struct nr_socket *s, struct nr_socket_connection *c,
                            struct nr_deadline *deadline, bool may_wait);
void nr_connection_give_turn(struct nr_socket *s, struct nr_socket_connection *c);

/* -- socket_unix.c, socket_tcp.c ------------------------------------------------------------ */

/* One attempt to reach a listener, or to become it. -ENOENT nobody is there, -ECONNREFUSED only a dead
   socket's file, -EADDRINUSE someone else has just begun to listen, -EAGAIN the listener is busy. */
int nr_unix_connect(const struct nr_request *request, struct nr_deadline *deadline);
int nr_unix_listen(struct nr_socket *s, const struct nr_request *request,
                   struct nr_deadline *deadline);
int nr_unix_check_uri(const struct nr_uri *uri);
void nr_unix_remove(struct nr_socket *s); /* the file, when the listener is closed */
int nr_unix_unlink(const struct nr_uri *uri);
int nr_unix_watch(
    const struct nr_request *request); /* a descriptor that tells of new names, or -1 */
int nr_tcp_connect(const struct nr_request *request, struct nr_deadline *deadline);
int nr_tcp_listen(struct nr_socket *s, const struct nr_request *request);
int nr_tcp_check_uri(const struct nr_uri *uri);

/* -- socket_listener.c ----------------------------------------------------------------------- */

/* The listeners of this process: an open serves them while it waits, because its thread may be the only
   one that could. */
void nr_socket_listeners_add(struct nr_socket *s);
void nr_socket_listeners_remove(struct nr_socket *s);
void nr_socket_listeners_serve(void);

/* A look at the listener and at all that is ready; never sleeps. Locked. */
void nr_socket_service(struct nr_socket *s);
void nr_socket_service_sometimes(struct nr_socket *s); /* every few messages or milliseconds */

/* Descriptors, made on first need. Locked. */
int nr_socket_need_epoll(struct nr_socket *s);
int nr_socket_need_out_epoll(struct nr_socket *s);
int nr_socket_need_wake(struct nr_socket *s);

/* As nr_endpoint_wait(), for a listener. Not locked. */
int nr_socket_wait_listener(struct nr_socket *s, int fd, struct nr_deadline *deadline);

/* After frames were buffered: tells other threads and naru_fd() that there is something. Locked. */
void nr_socket_tell_buffered(struct nr_socket *s);

/* -- socket.c -------------------------------------------------------------------------------- */

int nr_socket_recv(struct naru_endpoint *endpoint, struct nr_in *in, struct nr_deadline *deadline);
int nr_socket_send(struct naru_endpoint *endpoint, const struct nr_out *out,
                   struct nr_deadline *deadline);
int nr_socket_send_many(struct naru_endpoint *endpoint, const struct naru_message *messages,
                        size_t count, struct nr_deadline *deadline);
