#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kubelet/registration.h"

/* An owner that notes what it was told to do, and answers as the test wants. */
struct owner {
    struct loop *loop;
    struct registration registration;
    enum registration_event bind_answer, call_answer;
    int n_binds, n_calls, n_closes, n_changes;
    uint32_t next_try_ms;
};

static enum registration_event on_bind(void *user)
{
    struct owner *owner = user;

    owner->n_binds++;
    return owner->bind_answer;
}

static enum registration_event on_call(void *user)
{
    struct owner *owner = user;
    enum registration_event answer = owner->call_answer;

    owner->n_calls++;
    if (answer == REGISTRATION_SOCKET_LOST) /* once: the bind that follows repairs it */
        owner->call_answer = REGISTRATION_NOTHING;
    return answer;
}

static void on_close(void *user)
{
    struct owner *owner = user;

    owner->n_closes++;
}

static void on_changed(void *user, enum registration_state from, enum registration_state to,
                       uint32_t next_try_ms)
{
    struct owner *owner = user;

    assert_int_not_equal(from, to);
    owner->n_changes++;
    owner->next_try_ms = next_try_ms;
}

static const struct registration_ops ops = { on_bind, on_call, on_close, on_changed };

static int set_up(void **state)
{
    static struct owner owner;

    owner = (struct owner){ .bind_answer = REGISTRATION_BOUND };
    if (loop_new_manual(&owner.loop, NULL) < 0)
        return -1;
    registration_init(&owner.registration, owner.loop, &ops, &owner);
    *state = &owner;
    return 0;
}

static int tear_down(void **state)
{
    struct owner *owner = *state;

    registration_done(&owner->registration);
    loop_free(owner->loop);
    return 0;
}

static void tell(struct owner *owner, enum registration_event event)
{
    registration_event(&owner->registration, event);
}

static void assert_state(const struct owner *owner, enum registration_state state)
{
    assert_string_equal(registration_state_names[owner->registration.state],
                        registration_state_names[state]);
}

static void register_fully(struct owner *owner)
{
    tell(owner, REGISTRATION_START);
    tell(owner, REGISTRATION_SAID_YES);
    tell(owner, REGISTRATION_STREAM_OPENED);
    assert_state(owner, REGISTRATION_REGISTERED);
}

static void a_resource_is_served_then_registered_then_watched(void **state)
{
    struct owner *owner = *state;

    assert_state(owner, REGISTRATION_IDLE);
    tell(owner, REGISTRATION_START);
    assert_state(owner, REGISTRATION_CALLING);
    assert_int_equal(owner->n_binds, 1);
    assert_int_equal(owner->n_calls, 1);
    tell(owner, REGISTRATION_SAID_YES);
    assert_state(owner, REGISTRATION_ACCEPTED);
    tell(owner, REGISTRATION_STREAM_OPENED);
    assert_state(owner, REGISTRATION_REGISTERED);
    loop_advance_ms(owner->loop, 24 * 3600 * 1000);
    assert_int_equal(owner->n_calls, 1);
}

static void a_stream_that_comes_before_the_answer_counts(void **state)
{
    struct owner *owner = *state;

    tell(owner, REGISTRATION_START);
    tell(owner, REGISTRATION_STREAM_OPENED);
    assert_state(owner, REGISTRATION_EARLY);
    tell(owner, REGISTRATION_SAID_YES);
    assert_state(owner, REGISTRATION_REGISTERED);
}

static void a_stream_of_an_onlooker_does_not_make_a_refused_registration_good(void **state)
{
    struct owner *owner = *state;

    tell(owner, REGISTRATION_START);
    tell(owner, REGISTRATION_STREAM_OPENED);
    tell(owner, REGISTRATION_FAILED);
    assert_state(owner, REGISTRATION_WAITING);
    loop_advance_ms(owner->loop, REGISTRATION_RETRY_MAX_MS);
    assert_true(owner->n_calls >= 2);
}

static void an_unreachable_kubelet_is_tried_quickly_at_first_and_then_less_often(void **state)
{
    struct owner *owner = *state;
    int after_a_second, after_an_hour;

    owner->call_answer = REGISTRATION_FAILED;
    tell(owner, REGISTRATION_START);
    assert_state(owner, REGISTRATION_WAITING);
    assert_in_range(owner->next_try_ms, REGISTRATION_RETRY_MIN_MS / 2, REGISTRATION_RETRY_MIN_MS);
    loop_advance_ms(owner->loop, 1000);
    after_a_second = owner->n_calls;
    assert_in_range(after_a_second, 3, 8);
    loop_advance_ms(owner->loop, 3600 * 1000);
    after_an_hour = owner->n_calls - after_a_second;
    assert_in_range(after_an_hour, 3600 / (REGISTRATION_RETRY_MAX_MS / 1000), 2 * 3600 / 10 + 10);
    assert_int_equal(owner->n_binds, 1);
}

static void a_kubelet_that_appears_ends_the_waiting_at_once(void **state)
{
    struct owner *owner = *state;

    owner->call_answer = REGISTRATION_FAILED;
    tell(owner, REGISTRATION_START);
    loop_advance_ms(owner->loop, 3600 * 1000);
    owner->call_answer = REGISTRATION_NOTHING;
    int before = owner->n_calls;
    tell(owner, REGISTRATION_KUBELET_CREATED);
    assert_state(owner, REGISTRATION_CALLING);
    assert_int_equal(owner->n_calls, before + 1);

    /* and what went wrong with the old one is forgotten */
    tell(owner, REGISTRATION_FAILED);
    assert_in_range(owner->next_try_ms, REGISTRATION_RETRY_MIN_MS / 2, REGISTRATION_RETRY_MIN_MS);
}

static void a_registration_nobody_followed_up_is_made_again(void **state)
{
    struct owner *owner = *state;

    tell(owner, REGISTRATION_START);
    tell(owner, REGISTRATION_SAID_YES);
    loop_advance_ms(owner->loop, REGISTRATION_STREAM_WAIT_MS - 1);
    assert_int_equal(owner->n_calls, 1);
    loop_advance_ms(owner->loop, 1 + REGISTRATION_RETRY_MIN_MS);
    assert_int_equal(owner->n_calls, 2);
    assert_state(owner, REGISTRATION_CALLING);
}

static void a_broken_stream_means_registering_again(void **state)
{
    struct owner *owner = *state;

    register_fully(owner);
    tell(owner, REGISTRATION_STREAM_ENDED);
    assert_state(owner, REGISTRATION_WAITING);
    loop_advance_ms(owner->loop, REGISTRATION_RETRY_MIN_MS);
    assert_int_equal(owner->n_calls, 2);
    assert_int_equal(owner->n_binds, 1);
}

static void a_restarted_kubelet_is_told_whatever_the_state(void **state)
{
    struct owner *owner = *state;

    register_fully(owner);
    tell(owner, REGISTRATION_KUBELET_CREATED);
    assert_state(owner, REGISTRATION_CALLING);
    tell(owner, REGISTRATION_KUBELET_CREATED); /* twice in a row: the newest counts */
    assert_int_equal(owner->n_calls, 3);
    tell(owner, REGISTRATION_SAID_YES);
    tell(owner, REGISTRATION_KUBELET_CREATED);
    assert_state(owner, REGISTRATION_CALLING);
    assert_int_equal(owner->n_calls, 4);
}

static void a_removed_socket_is_made_again_and_told_about(void **state)
{
    struct owner *owner = *state;

    register_fully(owner);
    tell(owner, REGISTRATION_SOCKET_LOST);
    assert_state(owner, REGISTRATION_CALLING);
    assert_int_equal(owner->n_binds, 2);
    assert_int_equal(owner->n_calls, 2);
}

static void a_socket_lost_unnoticed_is_noticed_before_registering(void **state)
{
    struct owner *owner = *state;

    register_fully(owner);
    owner->call_answer = REGISTRATION_SOCKET_LOST;
    tell(owner, REGISTRATION_KUBELET_CREATED);
    assert_state(owner, REGISTRATION_CALLING);
    assert_int_equal(owner->n_binds, 2);
    assert_int_equal(owner->n_calls, 3);
}

static void a_socket_that_cannot_be_made_is_tried_again(void **state)
{
    struct owner *owner = *state;

    owner->bind_answer = REGISTRATION_FAILED;
    tell(owner, REGISTRATION_START);
    assert_state(owner, REGISTRATION_UNBOUND);
    assert_int_equal(owner->n_calls, 0);
    loop_advance_ms(owner->loop, 1000);
    assert_true(owner->n_binds > 2);
    owner->bind_answer = REGISTRATION_BOUND;
    loop_advance_ms(owner->loop, REGISTRATION_RETRY_MAX_MS);
    assert_state(owner, REGISTRATION_CALLING);
}

static void without_a_kubelet_socket_it_serves_alone(void **state)
{
    struct owner *owner = *state;

    owner->bind_answer = REGISTRATION_BOUND_ALONE;
    tell(owner, REGISTRATION_START);
    assert_state(owner, REGISTRATION_ALONE);
    tell(owner, REGISTRATION_STREAM_OPENED);
    tell(owner, REGISTRATION_STREAM_ENDED);
    tell(owner, REGISTRATION_KUBELET_CREATED);
    assert_state(owner, REGISTRATION_ALONE);
    tell(owner, REGISTRATION_SOCKET_LOST);
    assert_state(owner, REGISTRATION_ALONE);
    assert_int_equal(owner->n_binds, 2);
    assert_int_equal(owner->n_calls, 0);
}

/* From every state that can be reached, stop leads home and nothing rings afterwards. */
static void stopping_ends_everything_from_every_state(void **state)
{
    static const struct {
        const char *where;
        enum registration_event bind, call;
        enum registration_event events[4];
        enum registration_state reached;
    } cases[] = {
        { "unbound", REGISTRATION_FAILED, 0, { REGISTRATION_START }, REGISTRATION_UNBOUND },
        { "alone", REGISTRATION_BOUND_ALONE, 0, { REGISTRATION_START }, REGISTRATION_ALONE },
        { "calling", REGISTRATION_BOUND, 0, { REGISTRATION_START }, REGISTRATION_CALLING },
        { "early",
          REGISTRATION_BOUND,
          0,
          { REGISTRATION_START, REGISTRATION_STREAM_OPENED },
          REGISTRATION_EARLY },
        { "waiting",
          REGISTRATION_BOUND,
          REGISTRATION_FAILED,
          { REGISTRATION_START },
          REGISTRATION_WAITING },
        { "accepted",
          REGISTRATION_BOUND,
          0,
          { REGISTRATION_START, REGISTRATION_SAID_YES },
          REGISTRATION_ACCEPTED },
        { "registered",
          REGISTRATION_BOUND,
          0,
          { REGISTRATION_START, REGISTRATION_SAID_YES, REGISTRATION_STREAM_OPENED },
          REGISTRATION_REGISTERED },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct owner *owner = *state;
        int n;

        owner->bind_answer = cases[i].bind;
        owner->call_answer = cases[i].call;
        for (size_t k = 0; k < 4 && cases[i].events[k]; k++)
            tell(owner, cases[i].events[k]);
        assert_state(owner, cases[i].reached);
        owner->n_closes = 0;
        tell(owner, REGISTRATION_STOP);
        assert_state(owner, REGISTRATION_IDLE);
        assert_int_equal(owner->n_closes, 1);
        n = owner->n_binds + owner->n_calls;
        loop_advance_ms(owner->loop, 3600 * 1000);
        tell(owner, REGISTRATION_SAID_YES);
        tell(owner, REGISTRATION_KUBELET_CREATED);
        tell(owner, REGISTRATION_STREAM_ENDED);
        assert_state(owner, REGISTRATION_IDLE);
        assert_int_equal(owner->n_binds + owner->n_calls, n);
    }
}

static void every_event_in_every_state_leaves_a_state_with_a_way_on(void **state)
{
    struct owner *owner = *state;
    uint32_t random = 12345;

    for (int i = 0; i < 100000; i++) {
        random = random * 1664525u + 1013904223u;
        owner->bind_answer = random & 0x100 ? REGISTRATION_BOUND : REGISTRATION_FAILED;
        owner->call_answer = random & 0x200 ? REGISTRATION_NOTHING : REGISTRATION_FAILED;
        tell(owner, 1 + (random >> 16) % (REGISTRATION_N_EVENTS - 1));
        assert_int_not_equal(owner->registration.state, REGISTRATION_BINDING);
        if (owner->registration.state == REGISTRATION_WAITING ||
            owner->registration.state == REGISTRATION_UNBOUND ||
            owner->registration.state == REGISTRATION_ACCEPTED)
            assert_true(timer_running(&owner->registration.timer));
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_resource_is_served_then_registered_then_watched),
        CASE(a_stream_that_comes_before_the_answer_counts),
        CASE(a_stream_of_an_onlooker_does_not_make_a_refused_registration_good),
        CASE(an_unreachable_kubelet_is_tried_quickly_at_first_and_then_less_often),
        CASE(a_kubelet_that_appears_ends_the_waiting_at_once),
        CASE(a_registration_nobody_followed_up_is_made_again),
        CASE(a_broken_stream_means_registering_again),
        CASE(a_restarted_kubelet_is_told_whatever_the_state),
        CASE(a_removed_socket_is_made_again_and_told_about),
        CASE(a_socket_lost_unnoticed_is_noticed_before_registering),
        CASE(a_socket_that_cannot_be_made_is_tried_again),
        CASE(without_a_kubelet_socket_it_serves_alone),
        CASE(stopping_ends_everything_from_every_state),
        CASE(every_event_in_every_state_leaves_a_state_with_a_way_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
