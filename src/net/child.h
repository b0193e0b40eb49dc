/*
 * A child process and the end of it.
 *
 * The child gets its own session, /dev/null or the given bytes on stdin, and pipes for stdout and
 * stderr, whose first output_max bytes each are kept; what comes after is read and thrown away, so
 * that a talkative child never blocks. The exit is reported once, on the loop, even when a
 * grandchild still holds the pipes (a daemon that went to the background).
 */
#pragma once

#include <sys/types.h>

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "net/loop.h"

struct child;

struct child_spec {
    const char *const
        *argv;              /* NULL-terminated; argv[0] is searched in PATH unless it has a slash */
    const char *const *env; /* NULL-terminated "NAME=value"; NULL: ours */
    const char *dir;        /* where it starts; NULL: where we are */
    struct span input;      /* for stdin; copied; at most 1 MiB */
    size_t output_max;      /* bytes kept of each of stdout and stderr; 0 means 64 KiB */
    uint64_t deadline_ms;   /* 0: none. At the deadline SIGTERM, after grace_ms SIGKILL */
    uint64_t grace_ms;      /* 0 means 2000 */
};

struct child_exit {
    int status;           /* exit code, when signum is 0 */
    int signum;           /* the signal that ended it, or 0 */
    bool timed_out;       /* we ended it at its deadline */
    bool cut;             /* output went on beyond output_max */
    struct span out, err; /* borrowed until child_free */
};

/* After this call the child is over; the callback may child_free it. */
typedef void child_fn(struct child *child, const struct child_exit *exit, void *user);

/* -ENOENT, -EACCES, … when argv[0] cannot be run: no child then, and no callback. */
[[nodiscard]] int child_spawn(struct loop *loop, const struct child_spec *spec, child_fn *fn,
                              void *user, struct child **ret, struct err *err);
pid_t child_pid(const struct child *child); /* 0 once it is over */
/* To the child and everything in its session's process group; nothing once it is over. */
void child_signal(struct child *child, int signum);
/* Kills (SIGKILL) what still runs; no callback any more. The zombie is reaped by the loop. */
void child_free(struct child *child);
DEFINE_FREEP(struct child, child_free)
