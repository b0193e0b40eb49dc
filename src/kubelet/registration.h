/*
 * The life of one resource's registration with the kubelet: a table of states and events.
 *
 *     idle -> binding -> calling -> accepted -> registered
 *                ^  \       ^ \         |            |
 *                |   unbound|  waiting <+------------+
 *                +------ socket lost -- anywhere ----+
 *
 * What it knows of the kubelet (spec/kubelet-device-manager §1 – §3):
 *   - It never dials again by itself: when its ListAndWatch stream ends, we register again.
 *   - When it starts it unlinks every socket in its directory, then makes kubelet.sock: our socket
 *     is made anew, and the appearance of kubelet.sock cuts any waiting short.
 *   - It may accept a registration before it has dialled (1.20 does, 1.34 dials first): without a
 *     stream within STREAM_WAIT_MS the registration is void.
 *   - After a second registration the end of the first stream ends the second one, too (seen with
 *     1.34): then we register once more.
 * Pods fail while a resource is not registered, so the first tries come quickly and the waiting
 * grows slowly: from 100 ms to 10 s.
 *
 * Pure but for its timer: what it wants done goes out through `ops`, what happened comes in through
 * registration_event. Ops may answer with an event at once. The struct is embedded in its owner's
 * and may not move while it is running.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "net/loop.h"

enum {
    REGISTRATION_STREAM_WAIT_MS = 15000, /* a kubelet gives up dialling after 10 s */
    REGISTRATION_RETRY_MIN_MS = 20, /* pods fail in the gap; a kubelet binds before it listens */
    REGISTRATION_RETRY_MAX_MS = 10000,
};

enum registration_state {
    REGISTRATION_IDLE,       /* not wanted */
    REGISTRATION_BINDING,    /* making the socket; left before anything else happens */
    REGISTRATION_UNBOUND,    /* the socket could not be made; waiting to try again */
    REGISTRATION_ALONE,      /* serving; nobody is told (registration turned off) */
    REGISTRATION_CALLING,    /* Register is under way */
    REGISTRATION_EARLY,      /* … and a list was asked for before it was answered */
    REGISTRATION_WAITING,    /* serving; waiting to call Register (again) */
    REGISTRATION_ACCEPTED,   /* the kubelet said yes; waiting for it to ask for the list */
    REGISTRATION_REGISTERED, /* the kubelet watches our list */
    REGISTRATION_N_STATES,
};

enum registration_event {
    REGISTRATION_NOTHING, /* what an op answers when all went well and more will come */
    REGISTRATION_START,
    REGISTRATION_STOP,
    REGISTRATION_BOUND,           /* the socket listens; Register is next */
    REGISTRATION_BOUND_ALONE,     /* the socket listens; Register is turned off */
    REGISTRATION_SOCKET_LOST,     /* somebody removed or replaced our socket file */
    REGISTRATION_KUBELET_CREATED, /* kubelet.sock appeared */
    REGISTRATION_SAID_YES,        /* Register was answered */
    REGISTRATION_FAILED,          /* making the socket, or Register, failed */
    REGISTRATION_STREAM_OPENED,   /* ListAndWatch was called */
    REGISTRATION_STREAM_ENDED,    /* the newest ListAndWatch stream ended */
    REGISTRATION_TIMER,
    REGISTRATION_N_EVENTS,
};

extern const char *const registration_state_names[REGISTRATION_N_STATES];

struct registration_ops {
    /* Listens, or listens again; the sentence of a failure is the owner's to keep. Answers BOUND,
     * BOUND_ALONE or FAILED. */
    enum registration_event (*bind)(void *user);
    /* Begins Register, breaking off one that is under way. Answers NOTHING, SOCKET_LOST when the
     * socket turns out not to be ours any more, or FAILED. */
    enum registration_event (*call)(void *user);
    /* Breaks off a Register under way, if any; stops listening. */
    void (*close)(void *user);
    /* The state is another one now; next_try_ms is the waiting in states that wait, else 0. */
    void (*changed)(void *user, enum registration_state from, enum registration_state to,
                    uint32_t next_try_ms);
};

struct registration {
    struct loop *loop;
    const struct registration_ops *ops;
    void *user;
    enum registration_state state;
    struct timer timer;
    struct backoff backoff;
};

void registration_init(struct registration *registration, struct loop *loop,
                       const struct registration_ops *ops, void *user);
void registration_event(struct registration *registration, enum registration_event event);
/* Without calling any op: for an owner that goes away. */
void registration_done(struct registration *registration);
