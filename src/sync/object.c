/* SPDX-License-Identifier: MIT */
#include "sync/object.h"
#include "base/error.h"
#include "os/process.h"
#include <assert.h>
#include <string.h>

enum { NR_OBJECT_VERSION_MASK = 0xff };

struct nr_object_head {
    uint32_t word;
    _Atomic uint32_t magic;
    uint64_t home;
};
static_assert(offsetof(struct nr_object_head, magic) == 4 &&
                  offsetof(struct nr_object_head, home) == 8,
              "the layout is shared between processes");

struct nr_object_new {
    const struct nr_object_kind *kind;
    const void *argument;
};

/* The magic comes last: who sees it sees a whole object. */
static void nr_object_write(void *memory, const void *argument)
{
    const struct nr_object_new *new = argument;
    struct nr_object_head *head = memory;

    memset(memory, 0, new->kind->size_bytes);
    if (new->kind->has_home)
        head->home = nr_os_pid_home();
    if (new->kind->write)
        new->kind->write(memory, new->argument);
    atomic_store_explicit(&head->magic, new->kind->magic, memory_order_release);
}

static int nr_object_check_home(const struct nr_object_kind *kind, uint64_t home, const char *name)
{
    uint64_t here = nr_os_pid_home();

    if (!home || !here || home == here)
        return 0;
    return nr_fail(
        -EXDEV,
        "%s is a %s made in another PID namespace, or before the machine was started; it names "
        "threads that are others here: remove it, and make it anew",
        name, kind->name);
}

static int nr_object_check(const struct nr_object_kind *kind, const void *state, size_t size_bytes,
                           const char *name)
{
    const struct nr_object_head *head = state;
    uint32_t magic = 0;

    if (size_bytes == kind->size_bytes)
        magic = atomic_load_explicit(&head->magic, memory_order_acquire);
    if (magic == kind->magic)
        return kind->has_home ? nr_object_check_home(kind, head->home, name) : 0;
    if ((magic | NR_OBJECT_VERSION_MASK) == (kind->magic | NR_OBJECT_VERSION_MASK))
        return nr_fail(
            -EPROTO,
            "%s is a %s of layout '%c', and naru %s knows '%c'; use the library it was made "
            "with, or remove it and make it anew",
            name, kind->name, (int)(magic & NR_OBJECT_VERSION_MASK), naru_version(),
            (int)(kind->magic & NR_OBJECT_VERSION_MASK));
    return nr_fail(-EBADMSG,
                   "%s is no %s of Naru's; give another name, or memory that naru_%s_init() has "
                   "prepared",
                   name, kind->name, kind->name);
}

int nr_object_open(struct nr_object *ret, const struct nr_object_kind *kind, const char *name,
                   const void *argument, const struct naru_options *options)
{
    const struct nr_object_new new = {.kind = kind, .argument = argument};
    struct nr_named named = {
        .kind = kind->name,
        .text = name,
        .size_bytes = kind->size_bytes,
        .init = nr_object_write,
        .argument = &new,
    };
    struct nr_named_memory mapping;

    int result = nr_named_options(&named, options);
    if (result == 0)
        result = nr_named_path(&named, name, kind->suffix);
    if (result == 0)
        result = nr_named_open(&mapping, &named);
    if (result < 0)
        return result;
    result = nr_object_check(kind, mapping.memory, mapping.size_bytes, named.path);
    if (result < 0) {
        nr_named_deinit(&mapping);
        return result;
    }
    *ret = (struct nr_object){.state = mapping.memory, .mapping = mapping};
    return 0;
}

static int nr_object_check_place(const struct nr_object_kind *kind, const void *state)
{
    if (state && (uintptr_t)state % kind->alignment_bytes == 0)
        return 0;
    return nr_fail(-EINVAL, "a %s can't stand at %p; give memory aligned to %zu bytes", kind->name,
                   state, kind->alignment_bytes);
}

int nr_object_init(void *state, const struct nr_object_kind *kind, const void *argument)
{
    const struct nr_object_new new = {.kind = kind, .argument = argument};
    int result = nr_object_check_place(kind, state);

    if (result == 0)
        nr_object_write(state, &new);
    return result;
}

int nr_object_attach(struct nr_object *ret, const struct nr_object_kind *kind, void *state)
{
    int result = nr_object_check_place(kind, state);

    if (result == 0)
        result = nr_object_check(kind, state, kind->size_bytes, "the memory given");
    if (result == 0)
        *ret = (struct nr_object){.state = state};
    return result;
}

void nr_object_close(struct nr_object *object)
{
    nr_named_deinit(&object->mapping);
    object->state = NULL;
}

int nr_object_unlink(const struct nr_object_kind *kind, const char *name)
{
    struct nr_named named = {.kind = kind->name, .text = name, .create = NARU_ATTACH};
    struct nr_named_memory mapping;

    if (!name)
        return nr_fail(-EINVAL, "naru_%s_unlink() needs a name", kind->name);
    int result = nr_named_path(&named, name, kind->suffix);
    if (result == 0)
        result = nr_named_open(&mapping, &named);
    if (result < 0)
        return result;
    result = nr_object_check(kind, mapping.memory, mapping.size_bytes, named.path);
    nr_named_deinit(&mapping);
    if (result == -EPROTO || result == -EXDEV) /* of another version or home, but of this kind */
        result = 0;
    return result < 0 ? result : nr_named_unlink(&named);
}

int nr_object_refuse(const struct nr_object_kind *kind)
{
    return nr_fail(-EINVAL, "the %s is NULL; did naru_%s_open() fail?", kind->name, kind->name);
}

int nr_object_no_list(const struct nr_object_kind *kind, int error)
{
    if (error == -EOPNOTSUPP)
        return nr_fail(
            error,
            "this thread has no robust list as glibc keeps it on 64 bits, so nobody would notice if it died "
            "with the %s; use threads of pthread_create() and children of fork()",
            kind->name);
    return nr_fail(error, "can't tell this process from its parent: %s", nr_error_name(error));
}

int nr_object_no_descriptor(const struct nr_object_kind *kind, int error)
{
    return nr_fail(error, "no descriptor for the %s: %s; close some, or raise `ulimit -n`",
                   kind->name, nr_error_name(error));
}

int nr_object_failed(const struct nr_object_kind *kind, const char *what, int error)
{
    return nr_fail(error, "can't %s the %s: %s", what, kind->name, nr_error_name(error));
}
