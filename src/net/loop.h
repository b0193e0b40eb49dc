/*
 * The one loop of a process: its clock, timers, signals and file descriptors that became ready.
 *
 * Everything on a loop happens on the thread that runs it; callbacks never nest. A loop owns its
 * signal watchers and nothing else: stop timers and free loop_fds, workers, servers and clients
 * before loop_free.
 *
 * Time is asked through the loop, so that a test can own it: a loop from loop_new_manual stands
 * still until loop_advance_ms moves it, while sockets, children and threads go on being real.
 *
 * The library underneath (libuv) is visible only inside net/, through net/loop_uv.h.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct loop;

[[nodiscard]] int loop_new(struct loop **ret, struct err *err);
/* For tests: a clock that starts at one second past zero and moves only by loop_advance_ms. */
[[nodiscard]] int loop_new_manual(struct loop **ret, struct err *err);
void loop_free(struct loop *loop);
DEFINE_FREEP(struct loop, loop_free)

/* Runs until loop_stop. A stop that came first, or from a callback, ends the run after the
 * callbacks that are already due. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* One turn without waiting: due timers, ready descriptors, due timers. True when a callback ran,
 * so `while (loop_poll(loop)) {}` runs until all is quiet. */
bool loop_poll(struct loop *loop);
/* The same, but waits up to real_ms of real time (even on a manual clock) for the first thing to
 * become ready: for tests that have a thread or a child at the other end. */
bool loop_wait(struct loop *loop, int real_ms);

/* Monotonic, never 0. */
uint64_t loop_now_ns(const struct loop *loop);
/* Manual clocks only: moves time to each due timer in turn and fires it, then to now + ms; polls
 * descriptors in between. */
void loop_advance_ms(struct loop *loop, uint64_t ms);

/* 32 random bits; the same sequence every time on a manual clock. */
uint32_t loop_random(struct loop *loop);

/*
 * A timer is embedded in the struct that wants to be called, and costs no allocation. One-shot;
 * starting a running timer moves it; the callback may start it again or free what it lies in.
 * Timers fire in order of their time, those of equal time in order of their start.
 * A zero-filled timer is a stopped timer.
 */
struct timer;
typedef void timer_fn(struct timer *timer, void *user);

struct timer {
    struct loop *loop; /* NULL while stopped */
    struct timer *prev, *next;
    uint64_t due_ns, turn;
    timer_fn *fn;
    void *user;
};

void timer_start(struct timer *timer, struct loop *loop, uint64_t delay_ms, timer_fn *fn,
                 void *user);
void timer_start_ns(struct timer *timer, struct loop *loop, uint64_t delay_ns, timer_fn *fn,
                    void *user);
void timer_stop(struct timer *timer); /* also of a stopped one */
static inline bool timer_running(const struct timer *timer)
{
    return timer->loop != NULL;
}

/* Calls fn on the loop's next turn, after the callbacks that are running now have returned.
 * Deferring a deferred timer again does nothing more; timer_stop takes it back. */
static inline void loop_defer(struct loop *loop, struct timer *timer, timer_fn *fn, void *user)
{
    if (!timer_running(timer))
        timer_start_ns(timer, loop, 0, fn, user);
}

/* Calls fn on the loop for every delivery of the signal; NULL gives the signal back. */
typedef void loop_signal_fn(int signum, void *user);
[[nodiscard]] int loop_on_signal(struct loop *loop, int signum, loop_signal_fn *fn, void *user,
                                 struct err *err);

/*
 * Watches a descriptor that the caller owns and keeps open for as long. The callback is told what
 * the descriptor is ready for; errors and hang-ups are reported as readable and writable, for
 * read() and write() to say what is the matter. Level-triggered.
 */
enum { LOOP_READABLE = 1, LOOP_WRITABLE = 2 };
struct loop_fd;
typedef void loop_fd_fn(struct loop_fd *watch, unsigned events, void *user);

[[nodiscard]] int loop_fd_new(struct loop *loop, int fd, unsigned events, loop_fd_fn *fn,
                              void *user, struct loop_fd **ret, struct err *err);
[[nodiscard]] int loop_fd_set(struct loop_fd *watch, unsigned events); /* 0: keep, but be quiet */
/* The callback will not be called again; may be called from inside it. Close the fd afterwards. */
void loop_fd_free(struct loop_fd *watch);

/*
 * How long to wait before the next try: doubles from min_ms to max_ms, and lies between half of
 * that and all of it, chosen by the random bits, so that many nodes do not knock together.
 */
struct backoff {
    uint32_t min_ms, max_ms;
    uint32_t tries; /* since the last success */
};

uint32_t backoff_next_ms(struct backoff *backoff, uint32_t random_bits);
static inline void backoff_reset(struct backoff *backoff)
{
    backoff->tries = 0;
}
