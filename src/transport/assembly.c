/* SPDX-License-Identifier: MIT */
#include "transport/assembly.h"
#include "base/error.h"
#include "os/io.h"
#include "os/process.h"
#include <stdlib.h>
#include <string.h>

struct nr_assembly_partial {
    uint64_t message;
    size_t total_bytes, received_bytes;
    void *data; /* NULL: free entry; behind its total_bytes a bit for each piece that came */
};

struct nr_assembly_sender {
    struct nr_assembly_sender *next;
    uint64_t id;
    int32_t pid;
    struct nr_assembly_partial partials[NR_ASSEMBLY_PARTIALS];
};

static void nr_assembly_free(struct nr_assembly *assembly, struct nr_assembly_sender **place)
{
    struct nr_assembly_sender *sender = *place;

    *place = sender->next;
    assembly->senders_count--;
    for (int i = 0; i < NR_ASSEMBLY_PARTIALS; i++)
        free(sender->partials[i].data);
    free(sender);
}

static struct nr_assembly_sender **nr_assembly_find(struct nr_assembly *assembly, uint64_t id)
{
    struct nr_assembly_sender **place = &assembly->senders;

    while (*place && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

unsigned nr_assembly_forget(struct nr_assembly *assembly)
{
    unsigned count = assembly->senders_count;

    while (assembly->senders)
        nr_assembly_free(assembly, &assembly->senders);
    return count;
}

void nr_assembly_deinit(struct nr_assembly *assembly)
{
    nr_assembly_forget(assembly);
    *assembly = NR_ASSEMBLY_NULL;
}

/* Senders come and go while others keep the pipe open, so that no end-of-file clears the list: drop
   those whose process is gone. A pid that was reused only keeps its entry a little longer. */
static void nr_assembly_sweep(struct nr_assembly *assembly)
{
    struct nr_assembly_sender **place = &assembly->senders;

    while (*place) {
        pid_t pid = (*place)->pid;
        int pidfd = nr_os_pidfd_open(pid);
        if (pidfd == -ESRCH || (pidfd == -ENOSYS && nr_os_process_is_gone(pid, 0)))
            nr_assembly_free(assembly, place);
        else
            place = &(*place)->next;
        nr_os_close(&pidfd);
    }
}

int nr_assembly_hello(struct nr_assembly *assembly, uint64_t sender, int32_t sender_pid)
{
    if (*nr_assembly_find(assembly, sender))
        return 0;
    if (assembly->senders_count && assembly->senders_count % NR_ASSEMBLY_SENDERS_SWEEP == 0)
        nr_assembly_sweep(assembly);
    struct nr_assembly_sender *made = calloc(1, sizeof *made);
    if (!made)
        return nr_fail(-ENOMEM, "no memory to remember a sender");
    made->id = sender;
    made->pid = sender_pid;
    made->next = assembly->senders;
    assembly->senders = made;
    assembly->senders_count++;
    return 0;
}

bool nr_assembly_goodbye(struct nr_assembly *assembly, uint64_t sender)
{
    struct nr_assembly_sender **place = nr_assembly_find(assembly, sender);

    if (!*place)
        return false;
    nr_assembly_free(assembly, place);
    return true;
}

/* The entry of the fragment's message: the one there is, a free one, or the oldest, given up. */
static struct nr_assembly_partial *nr_assembly_partial(struct nr_assembly_sender *sender,
                                                       uint64_t message)
{
    struct nr_assembly_partial *choice = &sender->partials[0];

    for (int i = 0; i < NR_ASSEMBLY_PARTIALS; i++) {
        struct nr_assembly_partial *partial = &sender->partials[i];
        if (partial->data && partial->message == message)
            return partial;
        bool is_better = partial->data ? partial->message < choice->message : true;
        if (choice->data && is_better)
            choice = partial;
    }
    free(choice->data);
    *choice = (struct nr_assembly_partial){.message = message};
    return choice;
}

int nr_assembly_add(struct nr_assembly *assembly, const struct nr_fragment *fragment,
                    void **ret_data)
{
    size_t piece = fragment->offset_bytes / fragment->piece_bytes;

    if (fragment->size_bytes == 0 || fragment->offset_bytes > fragment->total_bytes ||
        fragment->size_bytes > fragment->total_bytes - fragment->offset_bytes)
        return nr_fail(-EBADMSG, "process %d sent a fragment that lies outside of its message",
                       (int)fragment->sender_pid);
    bool is_last = fragment->offset_bytes + fragment->size_bytes == fragment->total_bytes;
    if (fragment->offset_bytes % fragment->piece_bytes ||
        fragment->size_bytes > fragment->piece_bytes ||
        (fragment->size_bytes != fragment->piece_bytes && !is_last))
        return nr_fail(-EBADMSG, "process %d sent a fragment of %zu bytes, and the others have %zu",
                       (int)fragment->sender_pid, fragment->size_bytes, fragment->piece_bytes);
    int result = nr_assembly_hello(assembly, fragment->sender, fragment->sender_pid);
    if (result < 0)
        return result;
    struct nr_assembly_sender *sender = *nr_assembly_find(assembly, fragment->sender);
    struct nr_assembly_partial *partial = nr_assembly_partial(sender, fragment->message);
    if (!partial->data) {
        partial->total_bytes = fragment->total_bytes;
        size_t pieces = (fragment->total_bytes - 1) / fragment->piece_bytes + 1;
        size_t seen_bytes = (pieces + 7) / 8;
        partial->data = malloc(fragment->total_bytes + seen_bytes);
        if (!partial->data)
            return nr_fail(-ENOMEM, "no memory for a message of %zu bytes from process %d",
                           fragment->total_bytes, (int)fragment->sender_pid);
        memset((char *)partial->data + fragment->total_bytes, 0, seen_bytes);
    }
    if (partial->total_bytes != fragment->total_bytes)
        return nr_fail(-EBADMSG, "process %d sent fragments that disagree on their message's size",
                       (int)fragment->sender_pid);
    unsigned char *seen = (unsigned char *)partial->data + partial->total_bytes + piece / 8;
    if (*seen & (1u << piece % 8))
        return nr_fail(-EBADMSG, "process %d sent a fragment twice", (int)fragment->sender_pid);
    *seen |= (unsigned char)(1u << piece % 8);
    memcpy((char *)partial->data + fragment->offset_bytes, fragment->data, fragment->size_bytes);
    partial->received_bytes += fragment->size_bytes;
    if (partial->received_bytes < partial->total_bytes)
        return 0;
    *ret_data = partial->data;
    partial->data = NULL;
    return 1;
}
