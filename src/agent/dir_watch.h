/*
 * A watch on the directory at a path, through its disappearance: when it is gone, the path is
 * looked at every second, and when a directory is there again the watcher is told WATCH_LOST, which
 * means "look at everything".
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "net/loop.h"
#include "net/watch.h"

enum { DIR_WATCH_RETRY_MS = 1000 };

typedef void dir_watch_fn(void *user, enum watch_event event, const char *name);

/* Embedded in its owner, zero while stopped. */
struct dir_watch {
    struct loop *loop;
    const char *path; /* borrowed */
    dir_watch_fn *fn;
    void *user;
    struct watch *watch; /* owned; NULL while the directory is away */
    struct timer timer;
};

/* Fails as watch_new does when there is no directory to begin with. */
[[nodiscard]] int dir_watch_start(struct dir_watch *dir, struct loop *loop, const char *path,
                                  dir_watch_fn *fn, void *user, struct err *err);
void dir_watch_stop(struct dir_watch *dir);
