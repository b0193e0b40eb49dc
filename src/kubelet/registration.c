#include "kubelet/registration.h"

#include <assert.h>

const char *const registration_state_names[REGISTRATION_N_STATES] = {
    [REGISTRATION_IDLE] = "idle",
    [REGISTRATION_BINDING] = "binding",
    [REGISTRATION_UNBOUND] = "unbound",
    [REGISTRATION_ALONE] = "alone",
    [REGISTRATION_CALLING] = "calling",
    [REGISTRATION_EARLY] = "early",
    [REGISTRATION_WAITING] = "waiting",
    [REGISTRATION_ACCEPTED] = "accepted",
    [REGISTRATION_REGISTERED] = "registered",
};

/* What to do on the way into a state; the answer is the next event. */
typedef enum registration_event registration_act(struct registration *registration);

static void on_timer(struct timer *timer, void *user)
{
    registration_event(user, REGISTRATION_TIMER);
}

static enum registration_event do_bind(struct registration *registration)
{
    timer_stop(&registration->timer);
    return registration->ops->bind(registration->user);
}

static enum registration_event do_call(struct registration *registration)
{
    timer_stop(&registration->timer);
    return registration->ops->call(registration->user);
}

/* The kubelet is new: what went wrong with the old one says nothing about it. */
static enum registration_event call_afresh(struct registration *registration)
{
    backoff_reset(&registration->backoff);
    return do_call(registration);
}

static enum registration_event bind_afresh(struct registration *registration)
{
    backoff_reset(&registration->backoff);
    return do_bind(registration);
}

static enum registration_event back_off(struct registration *registration)
{
    uint32_t delay_ms = backoff_next_ms(&registration->backoff, loop_random(registration->loop));

    timer_start(&registration->timer, registration->loop, delay_ms, on_timer, registration);
    return REGISTRATION_NOTHING;
}

static enum registration_event await_stream(struct registration *registration)
{
    timer_start(&registration->timer, registration->loop, REGISTRATION_STREAM_WAIT_MS, on_timer,
                registration);
    return REGISTRATION_NOTHING;
}

static enum registration_event rest(struct registration *registration)
{
    timer_stop(&registration->timer);
    backoff_reset(&registration->backoff);
    return REGISTRATION_NOTHING;
}

static enum registration_event close_all(struct registration *registration)
{
    rest(registration);
    registration->ops->close(registration->user);
    return REGISTRATION_NOTHING;
}

static enum registration_event go_on(struct registration *registration)
{
    return REGISTRATION_NOTHING;
}

/*
 * An empty cell means "not now": the event changes nothing. The kubelet's stream comes on another
 * connection than its answer to Register, so either may arrive first; a stream alone (somebody
 * looking on) does not make a registration.
 */
static const struct {
    enum registration_state next;
    registration_act *act;
} rules[REGISTRATION_N_STATES][REGISTRATION_N_EVENTS] = {
    [REGISTRATION_IDLE] = {
        [REGISTRATION_START] = { REGISTRATION_BINDING, bind_afresh },
    },
    [REGISTRATION_BINDING] = {
        [REGISTRATION_BOUND] = { REGISTRATION_CALLING, do_call },
        [REGISTRATION_BOUND_ALONE] = { REGISTRATION_ALONE, rest },
        [REGISTRATION_FAILED] = { REGISTRATION_UNBOUND, back_off },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_UNBOUND] = {
        [REGISTRATION_TIMER] = { REGISTRATION_BINDING, do_bind },
        [REGISTRATION_KUBELET_CREATED] = { REGISTRATION_BINDING, bind_afresh },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_ALONE] = {
        [REGISTRATION_SOCKET_LOST] = { REGISTRATION_BINDING, do_bind },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_CALLING] = {
        [REGISTRATION_SAID_YES] = { REGISTRATION_ACCEPTED, await_stream },
        [REGISTRATION_STREAM_OPENED] = { REGISTRATION_EARLY, go_on },
        [REGISTRATION_FAILED] = { REGISTRATION_WAITING, back_off },
        [REGISTRATION_SOCKET_LOST] = { REGISTRATION_BINDING, do_bind },
        [REGISTRATION_KUBELET_CREATED] = { REGISTRATION_CALLING, call_afresh },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_EARLY] = {
        [REGISTRATION_SAID_YES] = { REGISTRATION_REGISTERED, rest },
        [REGISTRATION_STREAM_ENDED] = { REGISTRATION_CALLING, go_on },
        [REGISTRATION_FAILED] = { REGISTRATION_WAITING, back_off },
        [REGISTRATION_SOCKET_LOST] = { REGISTRATION_BINDING, do_bind },
        [REGISTRATION_KUBELET_CREATED] = { REGISTRATION_CALLING, call_afresh },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_WAITING] = {
        [REGISTRATION_TIMER] = { REGISTRATION_CALLING, do_call },
        [REGISTRATION_SOCKET_LOST] = { REGISTRATION_BINDING, do_bind },
        [REGISTRATION_KUBELET_CREATED] = { REGISTRATION_CALLING, call_afresh },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_ACCEPTED] = {
        [REGISTRATION_STREAM_OPENED] = { REGISTRATION_REGISTERED, rest },
        [REGISTRATION_TIMER] = { REGISTRATION_WAITING, back_off },
        [REGISTRATION_SOCKET_LOST] = { REGISTRATION_BINDING, do_bind },
        [REGISTRATION_KUBELET_CREATED] = { REGISTRATION_CALLING, call_afresh },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
    [REGISTRATION_REGISTERED] = {
        [REGISTRATION_STREAM_ENDED] = { REGISTRATION_WAITING, back_off },
        [REGISTRATION_SOCKET_LOST] = { REGISTRATION_BINDING, bind_afresh },
        [REGISTRATION_KUBELET_CREATED] = { REGISTRATION_CALLING, call_afresh },
        [REGISTRATION_STOP] = { REGISTRATION_IDLE, close_all },
    },
};

void registration_init(struct registration *registration, struct loop *loop,
                       const struct registration_ops *ops, void *user)
{
    *registration = (struct registration){
        .loop = loop,
        .ops = ops,
        .user = user,
        .backoff = { .min_ms = REGISTRATION_RETRY_MIN_MS, .max_ms = REGISTRATION_RETRY_MAX_MS },
    };
}

void registration_done(struct registration *registration)
{
    timer_stop(&registration->timer);
    registration->state = REGISTRATION_IDLE;
}

static uint32_t wait_left_ms(const struct registration *registration)
{
    const struct timer *timer = &registration->timer;
    bool waits =
        registration->state == REGISTRATION_WAITING || registration->state == REGISTRATION_UNBOUND;

    if (!waits || !timer_running(timer))
        return 0;
    uint64_t now = loop_now_ns(registration->loop);
    return timer->due_ns > now ? (uint32_t)((timer->due_ns - now) / 1000000) : 0;
}

void registration_event(struct registration *registration, enum registration_event event)
{
    assert(event < REGISTRATION_N_EVENTS);
    while (event != REGISTRATION_NOTHING) {
        enum registration_state from = registration->state;

        if (!rules[from][event].act)
            return;
        registration->state = rules[from][event].next;
        event = rules[from][event].act(registration);
        if (registration->state != from)
            registration->ops->changed(registration->user, from, registration->state,
                                       wait_left_ms(registration));
    }
}
