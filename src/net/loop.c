#include "net/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/random.h>

#include "base/mem.h"
#include "net/loop_uv.h"

#define MS_NS 1000000ull

struct signal_watch {
    uv_signal_t handle;
    struct loop *loop;
    loop_signal_fn *fn;
    void *user;
    struct signal_watch *next;
};

struct loop {
    uv_loop_t uv;
    uv_timer_t alarm;             /* rings when the first timer is due; unused on a manual clock */
    struct timer *first, *last;   /* borrowed; sorted by due_ns */
    struct signal_watch *signals; /* owned */
    struct loop_leftover *leftovers;
    uint64_t turn;        /* rounds of firing timers so far */
    uint64_t n_callbacks; /* that ran so far */
    uint64_t manual_ns;
    uint64_t seed;
    bool manual, firing;
};

struct loop_fd {
    uv_poll_t handle;
    struct loop *loop;
    loop_fd_fn *fn;
    void *user;
    unsigned events;
};

uv_loop_t *loop_uv(struct loop *loop)
{
    return &loop->uv;
}

void loop_count_callback(struct loop *loop)
{
    loop->n_callbacks++;
}

/* ---- clock and timers ---- */

uint64_t loop_now_ns(const struct loop *loop)
{
    return loop->manual ? loop->manual_ns : uv_hrtime();
}

static void on_alarm(uv_timer_t *alarm);

/* Sets the one real timer for the first of ours. */
static void set_alarm(struct loop *loop)
{
    if (loop->manual || loop->firing)
        return;
    if (!loop->first) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    uint64_t now = uv_hrtime(), due = loop->first->due_ns;
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->alarm, on_alarm, due > now ? (due - now + MS_NS - 1) / MS_NS : 0, 0);
}

static void unlink_timer(struct timer *timer)
{
    struct loop *loop = timer->loop;

    *(timer->prev ? &timer->prev->next : &loop->first) = timer->next;
    *(timer->next ? &timer->next->prev : &loop->last) = timer->prev;
    timer->loop = NULL;
    timer->prev = timer->next = NULL;
}

void timer_start_ns(struct timer *timer, struct loop *loop, uint64_t delay_ns, timer_fn *fn,
                    void *user)
{
    timer_stop(timer);
    timer->loop = loop;
    timer->fn = fn;
    timer->user = user;
    timer->turn = loop->turn;
    if (__builtin_add_overflow(loop_now_ns(loop), delay_ns, &timer->due_ns))
        timer->due_ns = UINT64_MAX;

    /* Most new timers are the latest, so look for the place from the end. */
    struct timer *before = loop->last;
    while (before && before->due_ns > timer->due_ns)
        before = before->prev;
    timer->prev = before;
    timer->next = before ? before->next : loop->first;
    *(before ? &before->next : &loop->first) = timer;
    *(timer->next ? &timer->next->prev : &loop->last) = timer;
    if (!before)
        set_alarm(loop);
}

void timer_start(struct timer *timer, struct loop *loop, uint64_t delay_ms, timer_fn *fn,
                 void *user)
{
    uint64_t delay_ns;

    if (__builtin_mul_overflow(delay_ms, MS_NS, &delay_ns))
        delay_ns = UINT64_MAX;
    timer_start_ns(timer, loop, delay_ns, fn, user);
}

void timer_stop(struct timer *timer)
{
    struct loop *loop = timer->loop;

    if (!loop)
        return;
    bool was_first = !timer->prev;
    unlink_timer(timer);
    if (was_first)
        set_alarm(loop);
}

/* Fires what is due and was started before this round: a timer that a callback starts has to wait
 * for the next, so that a callback that defers itself does not lock descriptors out. */
static void fire_due(struct loop *loop)
{
    uint64_t now = loop_now_ns(loop), turn = ++loop->turn;

    loop->firing = true;
    while (loop->first && loop->first->due_ns <= now && loop->first->turn < turn) {
        struct timer *timer = loop->first;
        unlink_timer(timer);
        loop->n_callbacks++;
        timer->fn(timer, timer->user);
    }
    loop->firing = false;
    set_alarm(loop);
}

static void on_alarm(uv_timer_t *alarm)
{
    fire_due(alarm->data);
}

void loop_advance_ms(struct loop *loop, uint64_t ms)
{
    assert(loop->manual);
    uint64_t target = loop->manual_ns + ms * MS_NS;

    for (;;) {
        while (loop_poll(loop)) {
        }
        if (!loop->first || loop->first->due_ns > target)
            break;
        loop->manual_ns = MAX(loop->manual_ns, loop->first->due_ns);
    }
    loop->manual_ns = target;
}

/* ---- life ---- */

static int make(bool manual, struct loop **ret, struct err *err)
{
    struct loop *loop = mem_alloc(sizeof(*loop));

    if (!loop)
        return err_no_memory(err);
    int r = uv_loop_init(&loop->uv);
    if (r < 0) {
        mem_free(loop);
        return err_set(err, -r, "cannot make an event loop: %s", uv_strerror(r));
    }
    uv_timer_init(&loop->uv, &loop->alarm);
    loop->alarm.data = loop;
    loop->manual = manual;
    loop->manual_ns = 1000 * MS_NS;
    *ret = loop;
    return 0;
}

int loop_new(struct loop **ret, struct err *err)
{
    return make(false, ret, err);
}

int loop_new_manual(struct loop **ret, struct err *err)
{
    return make(true, ret, err);
}

static void free_signal(uv_handle_t *handle)
{
    mem_free(container_of((uv_signal_t *)handle, struct signal_watch, handle));
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    assert(!loop->first && "a timer outlives its loop");
    while (loop->leftovers) {
        struct loop_leftover *leftover = loop->leftovers;
        loop_forget(leftover);
        leftover->close(leftover);
    }
    while (loop->signals) {
        struct signal_watch *watch = loop->signals;
        loop->signals = watch->next;
        uv_close((uv_handle_t *)&watch->handle, free_signal);
    }
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    while (uv_run(&loop->uv, UV_RUN_NOWAIT) != 0) {
    }
    int r = uv_loop_close(&loop->uv);
    assert(r == 0 && "a handle outlives its loop");
    (void)r;
    mem_free(loop);
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

bool loop_poll(struct loop *loop)
{
    uint64_t before = loop->n_callbacks;

    fire_due(loop);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
    fire_due(loop);
    return loop->n_callbacks != before;
}

bool loop_wait(struct loop *loop, int real_ms)
{
    if (loop_poll(loop))
        return true;
    int due_ms = loop->manual ? -1 : uv_backend_timeout(&loop->uv);
    struct pollfd backend = { .fd = uv_backend_fd(&loop->uv), .events = POLLIN };
    poll(&backend, 1, due_ms >= 0 ? MIN(due_ms, real_ms) : real_ms);
    return loop_poll(loop);
}

uint32_t loop_random(struct loop *loop)
{
    uint32_t bits = 0;

    if (!loop->manual && getrandom(&bits, sizeof(bits), GRND_NONBLOCK) == sizeof(bits))
        return bits;
    /* Steele's SplitMix64: good enough to spread retries, and the same in every test run. */
    loop->seed += 0x9E3779B97F4A7C15u;
    uint64_t mixed = (loop->seed ^ (loop->seed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)(mixed >> 32);
}

void loop_remember(struct loop *loop, struct loop_leftover *leftover)
{
    leftover->next = loop->leftovers;
    leftover->at = &loop->leftovers;
    if (leftover->next)
        leftover->next->at = &leftover->next;
    loop->leftovers = leftover;
}

void loop_forget(struct loop_leftover *leftover)
{
    if (!leftover->at)
        return;
    *leftover->at = leftover->next;
    if (leftover->next)
        leftover->next->at = leftover->at;
    leftover->at = NULL;
}

/* ---- signals ---- */

static void on_signal(uv_signal_t *handle, int signum)
{
    struct signal_watch *watch = container_of(handle, struct signal_watch, handle);

    watch->loop->n_callbacks++;
    watch->fn(signum, watch->user);
}

static int add_signal(struct loop *loop, int signum, loop_signal_fn *fn, void *user,
                      struct err *err)
{
    struct signal_watch *watch = mem_alloc(sizeof(*watch));

    if (!watch)
        return err_no_memory(err);
    uv_signal_init(&loop->uv, &watch->handle);
    watch->loop = loop;
    watch->fn = fn;
    watch->user = user;
    int r = uv_signal_start(&watch->handle, on_signal, signum);
    if (r < 0) {
        uv_close((uv_handle_t *)&watch->handle, free_signal);
        return err_set(err, -r, "cannot catch signal %d: %s", signum, uv_strerror(r));
    }
    watch->next = loop->signals;
    loop->signals = watch;
    return 0;
}

int loop_on_signal(struct loop *loop, int signum, loop_signal_fn *fn, void *user, struct err *err)
{
    struct signal_watch **at = &loop->signals;

    while (*at && (*at)->handle.signum != signum)
        at = &(*at)->next;
    struct signal_watch *old = *at;
    if (fn && !old)
        return add_signal(loop, signum, fn, user, err);
    if (fn) {
        old->fn = fn;
        old->user = user;
    } else if (old) {
        *at = old->next;
        uv_close((uv_handle_t *)&old->handle, free_signal);
    }
    return 0;
}

/* ---- descriptors ---- */

static void on_fd(uv_poll_t *handle, int status, int events)
{
    struct loop_fd *watch = container_of(handle, struct loop_fd, handle);
    unsigned ready = 0;

    watch->loop->n_callbacks++;
    if (status < 0) {
        /* libuv has stopped looking at a descriptor with an error. The owner learns of it by
         * reading or writing, and that may take more than one call. */
        ready = LOOP_READABLE | LOOP_WRITABLE;
        (void)loop_fd_set(watch, watch->events);
    }
    if (events & UV_READABLE)
        ready |= LOOP_READABLE;
    if (events & UV_WRITABLE)
        ready |= LOOP_WRITABLE;
    watch->fn(watch, ready, watch->user);
}

int loop_fd_new(struct loop *loop, int fd, unsigned events, loop_fd_fn *fn, void *user,
                struct loop_fd **ret, struct err *err)
{
    struct loop_fd *watch = mem_alloc(sizeof(*watch));

    if (!watch)
        return err_no_memory(err);
    int r = uv_poll_init(&loop->uv, &watch->handle, fd);
    if (r < 0) {
        mem_free(watch);
        return err_set(err, -r, "cannot watch descriptor %d: %s", fd, uv_strerror(r));
    }
    watch->loop = loop;
    watch->fn = fn;
    watch->user = user;
    r = loop_fd_set(watch, events);
    if (r < 0) {
        loop_fd_free(watch);
        return err_set(err, -r, "cannot watch descriptor %d: %s", fd, uv_strerror(r));
    }
    *ret = watch;
    return 0;
}

int loop_fd_set(struct loop_fd *watch, unsigned events)
{
    int wanted = 0;

    watch->events = events;
    if (events & LOOP_READABLE)
        wanted |= UV_READABLE;
    if (events & LOOP_WRITABLE)
        wanted |= UV_WRITABLE;
    return wanted ? uv_poll_start(&watch->handle, wanted, on_fd) : uv_poll_stop(&watch->handle);
}

static void free_fd(uv_handle_t *handle)
{
    mem_free(container_of((uv_poll_t *)handle, struct loop_fd, handle));
}

void loop_fd_free(struct loop_fd *watch)
{
    if (watch)
        uv_close((uv_handle_t *)&watch->handle, free_fd);
}

/* ---- back-off ---- */

uint32_t backoff_next_ms(struct backoff *backoff, uint32_t random_bits)
{
    uint64_t delay = MAX(backoff->min_ms, 1u);

    for (uint32_t i = 0; i < backoff->tries && delay < backoff->max_ms; i++)
        delay *= 2;
    delay = MIN(delay, MAX(backoff->max_ms, backoff->min_ms));
    if (backoff->tries < UINT32_MAX)
        backoff->tries++;
    return (uint32_t)(delay - delay / 2 + (uint64_t)random_bits * (delay / 2) / UINT32_MAX);
}
