#include "agent/dir_watch.h"

static void on_event(struct watch *watch, enum watch_event event, const char *name, void *user);

static void look_again(struct timer *timer, void *user)
{
    struct dir_watch *dir = user;

    if (watch_new(dir->loop, dir->path, on_event, dir, &dir->watch, NULL) < 0)
        timer_start(&dir->timer, dir->loop, DIR_WATCH_RETRY_MS, look_again, dir);
    else
        dir->fn(dir->user, WATCH_LOST, "");
}

static void on_event(struct watch *watch, enum watch_event event, const char *name, void *user)
{
    struct dir_watch *dir = user;

    if (event == WATCH_GONE) {
        watch_free(steal(dir->watch));
        timer_start(&dir->timer, dir->loop, DIR_WATCH_RETRY_MS, look_again, dir);
    }
    dir->fn(dir->user, event, name);
}

int dir_watch_start(struct dir_watch *dir, struct loop *loop, const char *path, dir_watch_fn *fn,
                    void *user, struct err *err)
{
    *dir = (struct dir_watch){ .loop = loop, .path = path, .fn = fn, .user = user };
    return watch_new(loop, path, on_event, dir, &dir->watch, err);
}

void dir_watch_stop(struct dir_watch *dir)
{
    timer_stop(&dir->timer);
    watch_free(steal(dir->watch));
}
