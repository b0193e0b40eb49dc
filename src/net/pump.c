#include "net/pump.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"

/* 16 KiB is the largest frame that anyone sends us; eight of them before others have a turn. */
enum { READ_BYTES = 16 << 10, READS_PER_TURN = 8 };

struct pump {
    struct loop *loop;
    int fd;                /* owned */
    struct h2 *h2;         /* borrowed */
    struct loop_fd *ready; /* owned */
    struct timer soon;     /* flush on the next turn, or report the end */
    pump_closed_fn *closed;
    void *user;
    bool stuck; /* the socket takes no more for now */
    bool over;  /* closed() is due, or was called */
    bool freed; /* by a callback, while busy */
    unsigned busy;
    char why[200];
};

static void finish(struct timer *timer, void *user)
{
    struct pump *pump = user;

    pump->closed(pump->user, pump->why);
}

/* Not at once: whoever caused the end may still be on the stack. */
static void end(struct pump *pump, const char *why)
{
    if (pump->over)
        return;
    pump->over = true;
    snprintf(pump->why, sizeof(pump->why), "%.*s", (int)sizeof(pump->why) - 1, why);
    (void)loop_fd_set(pump->ready, 0);
    timer_stop(&pump->soon);
    loop_defer(pump->loop, &pump->soon, finish, pump);
}

static void set_stuck(struct pump *pump, bool stuck)
{
    if (pump->stuck == stuck)
        return;
    pump->stuck = stuck;
    (void)loop_fd_set(pump->ready, LOOP_READABLE | (stuck ? LOOP_WRITABLE : 0));
}

/* Writes until there is nothing more or the socket is full: 0, or the errno of the socket. */
static int write_out(struct pump *pump)
{
    for (;;) {
        struct span bytes = h2_output(pump->h2);
        if (pump->freed || bytes.len == 0)
            return 0;
        ssize_t n = send(pump->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        h2_sent(pump->h2, (size_t)n);
    }
}

static void flush(struct pump *pump)
{
    int r = write_out(pump);

    if (pump->freed || pump->over)
        return;
    if (r < 0 && r != -EAGAIN) {
        /* What the peer said before it left is still to be read, and says more than EPIPE. */
        if (r != -EPIPE && r != -ECONNRESET)
            end(pump, strerror(-r));
        return;
    }
    set_stuck(pump, r == -EAGAIN);
    if (h2_over(pump->h2))
        end(pump, "");
}

static void leave(struct pump *pump)
{
    if (--pump->busy == 0 && pump->freed)
        mem_free(pump);
}

static void flush_soon(struct timer *timer, void *user)
{
    struct pump *pump = user;

    pump->busy++;
    flush(pump);
    leave(pump);
}

static void on_wake(void *user)
{
    struct pump *pump = user;

    if (!pump->over)
        loop_defer(pump->loop, &pump->soon, flush_soon, pump);
}

/* True when there may be more to read in this turn. */
static bool read_once(struct pump *pump)
{
    char bytes[READ_BYTES];
    struct err err = {};
    ssize_t n = recv(pump->fd, bytes, sizeof(bytes), 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end(pump, n < 0 && errno != ECONNRESET ? strerror(errno) : "");
        return false;
    }
    int r = h2_feed(pump->h2, (struct span){ bytes, (size_t)n }, loop_now_ns(pump->loop), &err);
    if (pump->freed)
        return false;
    if (r < 0) {
        (void)write_out(pump);
        if (!pump->freed)
            end(pump, err.text);
        return false;
    }
    return (size_t)n == sizeof(bytes);
}

static void on_ready(struct loop_fd *ready, unsigned events, void *user)
{
    struct pump *pump = user;
    int turns = READS_PER_TURN;

    pump->busy++;
    if (events & LOOP_READABLE)
        while (read_once(pump) && !pump->over && --turns > 0) {
        }
    if (!pump->freed && !pump->over)
        flush(pump);
    leave(pump);
}

int pump_new(struct loop *loop, int fd, struct h2 *h2, pump_closed_fn *closed, void *user,
             struct pump **ret, struct err *err)
{
    struct pump *pump = mem_alloc(sizeof(*pump));

    if (!pump) {
        close(fd);
        return err_no_memory(err);
    }
    *pump = (struct pump){ .loop = loop, .fd = fd, .h2 = h2, .closed = closed, .user = user };
    int r = loop_fd_new(loop, fd, LOOP_READABLE, on_ready, pump, &pump->ready, err);
    if (r < 0) {
        pump_free(pump, false);
        return r;
    }
    h2_on_wake(h2, on_wake, pump);
    loop_defer(loop, &pump->soon, flush_soon, pump);
    *ret = pump;
    return 0;
}

void pump_free(struct pump *pump, bool flush_first)
{
    if (!pump || pump->freed)
        return;
    pump->busy++;
    if (flush_first && pump->busy == 1 && !pump->over)
        (void)write_out(pump);
    if (!pump->freed) {
        pump->freed = true;
        timer_stop(&pump->soon);
        h2_on_wake(pump->h2, NULL, NULL);
        loop_fd_free(pump->ready);
        close(pump->fd);
    }
    leave(pump);
}

int pump_fd(const struct pump *pump)
{
    return pump->fd;
}
