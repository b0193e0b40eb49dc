#include "net/watch.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/mem.h"

/* IN_ONLYDIR: a file under the name is a mistake of the caller's. */
#define INTEREST                                                                                   \
    (IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_DELETE_SELF |       \
     IN_MOVE_SELF | IN_ONLYDIR)

struct watch {
    int fd;                /* owned */
    struct loop_fd *ready; /* owned */
    watch_fn *fn;
    void *user;
    bool *freed; /* where a running delivery wants to hear of watch_free */
    bool over;
};

static int translate(uint32_t mask, enum watch_event *ret)
{
    if (mask & IN_Q_OVERFLOW)
        *ret = WATCH_LOST;
    else if (mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED))
        *ret = WATCH_GONE;
    else if (mask & (IN_CREATE | IN_MOVED_TO))
        *ret = WATCH_CREATED;
    else if (mask & (IN_DELETE | IN_MOVED_FROM))
        *ret = WATCH_DELETED;
    else if (mask & IN_CLOSE_WRITE)
        *ret = WATCH_WRITTEN;
    else
        return -ENOENT;
    return 0;
}

/* False when the watch was freed by its callback. */
static bool deliver(struct watch *watch, const struct inotify_event *event)
{
    enum watch_event kind;
    bool freed = false;

    if (watch->over || translate(event->mask, &kind) < 0)
        return true;
    const char *name =
        event->len > 0 && kind != WATCH_GONE && kind != WATCH_LOST ? event->name : "";
    if (kind == WATCH_GONE) {
        watch->over = true;
        (void)loop_fd_set(watch->ready, 0);
    }
    watch->freed = &freed;
    watch->fn(watch, kind, name, watch->user);
    if (!freed)
        watch->freed = NULL;
    return !freed;
}

static void on_ready(struct loop_fd *ready, unsigned events, void *user)
{
    struct watch *watch = user;
    alignas(struct inotify_event) char bytes[4096];
    ssize_t n = read(watch->fd, bytes, sizeof(bytes));

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(bytes + at);
        at += (ssize_t)(sizeof(*event) + event->len);
        if (!deliver(watch, event))
            return;
    }
}

static int explain(int code, const char *dir, struct err *err)
{
    if (code == ENOSPC)
        return err_set(err, code,
                       "%s: cannot watch it: the limit fs.inotify.max_user_watches is "
                       "reached",
                       dir);
    if (code == EMFILE)
        return err_set(err, code,
                       "%s: cannot watch it: the limit fs.inotify.max_user_instances, "
                       "or that of open files, is reached",
                       dir);
    return err_set(err, code, "%s: cannot watch it: %s", dir, strerror(code));
}

int watch_new(struct loop *loop, const char *dir, watch_fn *fn, void *user, struct watch **ret,
              struct err *err)
{
    auto_(watch_freep) struct watch *watch = mem_alloc(sizeof(*watch));

    if (!watch)
        return err_no_memory(err);
    watch->fn = fn;
    watch->user = user;
    watch->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (watch->fd < 0 || inotify_add_watch(watch->fd, dir, INTEREST) < 0)
        return explain(errno, dir, err);
    int r = loop_fd_new(loop, watch->fd, LOOP_READABLE, on_ready, watch, &watch->ready, err);
    if (r < 0)
        return r;
    *ret = steal(watch);
    return 0;
}

void watch_free(struct watch *watch)
{
    if (!watch)
        return;
    if (watch->freed)
        *watch->freed = true;
    loop_fd_free(watch->ready);
    if (watch->fd >= 0)
        close(watch->fd);
    mem_free(watch);
}
