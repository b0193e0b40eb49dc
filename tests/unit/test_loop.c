#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/loop.h"

/* What happened, in order, one letter each. */
static struct buf story = { .max = 256 };

#define WORD(text) ((char[]){ text })

static int new_loop(void **state)
{
    struct loop *loop;

    buf_reset(&story);
    if (loop_new_manual(&loop, NULL) < 0)
        return -1;
    *state = loop;
    return 0;
}

static int free_loop(void **state)
{
    loop_free(*state);
    buf_done(&story);
    return 0;
}

static void tell(struct timer *timer, void *user)
{
    buf_add_text(&story, user);
}

static void timers_fire_in_order_of_time_then_of_start(void **state)
{
    struct loop *loop = *state;
    struct timer a = {}, b = {}, c = {}, d = {};

    timer_start(&c, loop, 30, tell, WORD("c"));
    timer_start(&a, loop, 10, tell, WORD("a"));
    timer_start(&b, loop, 20, tell, WORD("b"));
    timer_start(&d, loop, 20, tell, WORD("d"));
    loop_advance_ms(loop, 9);
    assert_string_equal(buf_text(&story), "");
    loop_advance_ms(loop, 100);
    assert_string_equal(buf_text(&story), "abdc");
    assert_false(timer_running(&a));
}

static void a_stopped_timer_is_silent_and_a_moved_one_fires_once(void **state)
{
    struct loop *loop = *state;
    struct timer a = {}, b = {};

    timer_start(&a, loop, 10, tell, WORD("a"));
    timer_start(&b, loop, 10, tell, WORD("b"));
    timer_stop(&a);
    timer_stop(&a);
    timer_start(&b, loop, 50, tell, WORD("B"));
    loop_advance_ms(loop, 49);
    assert_string_equal(buf_text(&story), "");
    loop_advance_ms(loop, 1000);
    assert_string_equal(buf_text(&story), "B");
}

struct ticker {
    struct timer timer;
    struct loop *loop;
    uint64_t started_ns;
    int left;
};

static void tick(struct timer *timer, void *user)
{
    struct ticker *ticker = user;

    buf_printf(&story, "%d ", (int)((loop_now_ns(ticker->loop) - ticker->started_ns) / 1000000));
    if (--ticker->left > 0)
        timer_start(timer, ticker->loop, 10, tick, ticker);
}

static void a_callback_may_start_its_timer_again_and_sees_the_time_it_was_due(void **state)
{
    struct ticker ticker = { .loop = *state, .left = 3 };

    ticker.started_ns = loop_now_ns(ticker.loop);
    timer_start(&ticker.timer, ticker.loop, 10, tick, &ticker);
    loop_advance_ms(ticker.loop, 1000);
    assert_string_equal(buf_text(&story), "10 20 30 ");
}

struct pair {
    struct timer first, second;
};

static void stop_the_second(struct timer *timer, void *user)
{
    struct pair *pair = user;

    buf_add_text(&story, "1");
    timer_stop(&pair->second);
}

static void a_callback_may_stop_a_timer_that_is_due_with_it(void **state)
{
    struct pair pair = {};

    timer_start(&pair.first, *state, 5, stop_the_second, &pair);
    timer_start(&pair.second, *state, 5, tell, WORD("2"));
    loop_advance_ms(*state, 5);
    assert_string_equal(buf_text(&story), "1");
}

static void defer_again(struct timer *timer, void *user)
{
    buf_add_text(&story, "x");
    loop_defer(user, timer, defer_again, user);
}

static void a_callback_that_defers_itself_runs_once_a_turn(void **state)
{
    struct loop *loop = *state;
    struct timer timer = {};

    loop_defer(loop, &timer, defer_again, loop);
    loop_defer(loop, &timer, defer_again, loop);
    assert_true(loop_poll(loop));
    assert_true(story.len >= 1 && story.len <= 2); /* poll looks at timers before and after I/O */
    timer_stop(&timer);
    assert_false(loop_poll(loop));
}

static void an_endless_delay_does_not_wrap_around(void **state)
{
    struct timer timer = {};

    timer_start(&timer, *state, UINT64_MAX, tell, WORD("never"));
    loop_advance_ms(*state, 1000000);
    assert_string_equal(buf_text(&story), "");
    timer_stop(&timer);
}

/* ---- descriptors ---- */

struct end {
    int fd;
    struct loop_fd *watch;
    unsigned events;
    bool free_inside;
};

static void on_ready(struct loop_fd *watch, unsigned events, void *user)
{
    struct end *end = user;
    char c;

    end->events |= events;
    if (events & LOOP_READABLE && read(end->fd, &c, 1) == 1)
        buf_add_char(&story, c);
    if (end->free_inside) {
        loop_fd_free(watch);
        end->watch = NULL;
    }
}

static void a_descriptor_reports_what_it_is_ready_for_while_time_stands_still(void **state)
{
    struct loop *loop = *state;
    auto_close int other = -1;
    struct end end = {};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    end.fd = fds[0];
    other = fds[1];
    assert_int_equal(loop_fd_new(loop, end.fd, LOOP_READABLE, on_ready, &end, &end.watch, NULL), 0);
    assert_false(loop_poll(loop));
    assert_int_equal(write(other, "ab", 2), 2);
    while (story.len < 2)
        assert_true(loop_wait(loop, 1000));
    assert_int_equal(end.events, LOOP_READABLE);

    assert_int_equal(loop_fd_set(end.watch, 0), 0);
    assert_int_equal(write(other, "c", 1), 1);
    assert_false(loop_poll(loop));
    end.free_inside = true;
    assert_int_equal(loop_fd_set(end.watch, LOOP_READABLE | LOOP_WRITABLE), 0);
    assert_true(loop_wait(loop, 1000));
    assert_null(end.watch);
    assert_true(end.events & LOOP_WRITABLE);
    close(end.fd);
}

static void a_peer_that_leaves_is_reported_until_the_watch_is_freed(void **state)
{
    struct end end = {};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    end.fd = fds[0];
    assert_int_equal(loop_fd_new(*state, end.fd, LOOP_READABLE, on_ready, &end, &end.watch, NULL),
                     0);
    close(fds[1]);
    for (int i = 0; i < 3; i++) {
        end.events = 0;
        assert_true(loop_wait(*state, 1000));
        assert_true(end.events & LOOP_READABLE);
    }
    loop_fd_free(end.watch);
    close(end.fd);
}

static void a_file_cannot_be_watched_and_the_sentence_says_so(void **state)
{
    struct loop_fd *watch;
    struct err err;

    assert_int_equal(loop_fd_new(*state, 9999, LOOP_READABLE, on_ready, NULL, &watch, &err),
                     -EBADF);
    assert_non_null(strstr(err.text, "9999"));
}

/* ---- signals ---- */

static void on_signal(int signum, void *user)
{
    buf_printf(&story, "%s%d ", (const char *)user, signum == SIGUSR1);
}

static void a_signal_is_delivered_on_the_loop_until_it_is_given_back(void **state)
{
    struct loop *loop = *state;

    assert_int_equal(loop_on_signal(loop, SIGUSR1, on_signal, WORD("a"), NULL), 0);
    raise(SIGUSR1);
    assert_string_equal(buf_text(&story), "");
    while (story.len == 0)
        loop_wait(loop, 1000);
    assert_int_equal(loop_on_signal(loop, SIGUSR1, on_signal, WORD("b"), NULL), 0);
    raise(SIGUSR1);
    while (story.len < 4)
        loop_wait(loop, 1000);
    assert_string_equal(buf_text(&story), "a1 b1 ");
    assert_int_equal(loop_on_signal(loop, SIGUSR1, NULL, NULL, NULL), 0);
    assert_int_equal(loop_on_signal(loop, SIGUSR1, NULL, NULL, NULL), 0);
    struct err err;
    assert_true(loop_on_signal(loop, SIGKILL, on_signal, WORD(""), &err) < 0);
}

/* ---- the real clock ---- */

static void stop_loop(struct timer *timer, void *user)
{
    buf_add_text(&story, "stop");
    loop_stop(user);
}

static void a_real_loop_runs_its_timers_until_it_is_stopped(void **state)
{
    auto_(loop_freep) struct loop *loop = NULL;
    struct timer late = {}, soon = {}, deferred = {};

    assert_int_equal(loop_new(&loop, NULL), 0);
    uint64_t before = loop_now_ns(loop);
    timer_start(&late, loop, 60000, tell, WORD("late"));
    timer_start(&soon, loop, 2, stop_loop, loop);
    loop_defer(loop, &deferred, tell, WORD("deferred "));
    loop_run(loop);
    assert_string_equal(buf_text(&story), "deferred stop");
    assert_true(loop_now_ns(loop) - before >= 2000000);
    timer_stop(&late);
}

/* ---- back-off ---- */

static void the_back_off_doubles_to_its_ceiling_between_half_and_all(void **state)
{
    static const uint32_t whole[] = { 100, 200, 400, 800, 1000, 1000 };
    struct backoff low = { .min_ms = 100, .max_ms = 1000 }, high = low;

    for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
        assert_int_equal(backoff_next_ms(&low, 0), whole[i] / 2);
        assert_int_equal(backoff_next_ms(&high, UINT32_MAX), whole[i]);
    }
    backoff_reset(&high);
    assert_int_equal(backoff_next_ms(&high, UINT32_MAX), 100);
    high.tries = UINT32_MAX;
    assert_int_equal(backoff_next_ms(&high, UINT32_MAX), 1000);
    struct backoff zero = {};
    assert_true(backoff_next_ms(&zero, 7) <= 1);
}

static void random_bits_repeat_on_a_manual_clock(void **state)
{
    auto_(loop_freep) struct loop *other = NULL;

    assert_int_equal(loop_new_manual(&other, NULL), 0);
    uint32_t first = loop_random(other);
    assert_int_equal(loop_random(*state), first);
    assert_int_not_equal(loop_random(*state), first);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, new_loop, free_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(timers_fire_in_order_of_time_then_of_start),
        LOOP_TEST(a_stopped_timer_is_silent_and_a_moved_one_fires_once),
        LOOP_TEST(a_callback_may_start_its_timer_again_and_sees_the_time_it_was_due),
        LOOP_TEST(a_callback_may_stop_a_timer_that_is_due_with_it),
        LOOP_TEST(a_callback_that_defers_itself_runs_once_a_turn),
        LOOP_TEST(an_endless_delay_does_not_wrap_around),
        LOOP_TEST(a_descriptor_reports_what_it_is_ready_for_while_time_stands_still),
        LOOP_TEST(a_peer_that_leaves_is_reported_until_the_watch_is_freed),
        LOOP_TEST(a_file_cannot_be_watched_and_the_sentence_says_so),
        LOOP_TEST(a_signal_is_delivered_on_the_loop_until_it_is_given_back),
        LOOP_TEST(a_real_loop_runs_its_timers_until_it_is_stopped),
        LOOP_TEST(the_back_off_doubles_to_its_ceiling_between_half_and_all),
        LOOP_TEST(random_bits_repeat_on_a_manual_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
