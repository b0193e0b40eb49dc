/*
 * What happens to the names in one directory (inotify), not below it.
 *
 * A watch looks at the directory it was given, not at its path: when the directory is removed or
 * moved away, WATCH_GONE is the last event and the caller makes a new watch when the path is
 * there again. Looking at the directory after watch_new returned misses nothing: what came before
 * is seen by looking, what comes later by an event.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "net/loop.h"

struct watch;

enum watch_event {
    WATCH_CREATED, /* a name appeared: made, or moved here (a replaced file, too) */
    WATCH_DELETED, /* a name went: removed, or moved away */
    WATCH_WRITTEN, /* a file that was open for writing was closed */
    WATCH_LOST,    /* events were lost because too many came: look at everything again */
    WATCH_GONE,    /* the directory itself is gone; nothing follows */
    WATCH_N_EVENTS,
};

/* name: relative to the directory, "" for WATCH_LOST and WATCH_GONE; borrowed for the call. The
 * callback may free the watch. */
typedef void watch_fn(struct watch *watch, enum watch_event event, const char *name, void *user);

/* -ENOENT, -ENOTDIR, -EMFILE (fs.inotify.max_user_instances), -ENOSPC (max_user_watches). */
[[nodiscard]] int watch_new(struct loop *loop, const char *dir, watch_fn *fn, void *user,
                            struct watch **ret, struct err *err);
void watch_free(struct watch *watch);
DEFINE_FREEP(struct watch, watch_free)
