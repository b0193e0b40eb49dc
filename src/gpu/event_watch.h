/*
 * Waits for what NVML reports about all GPUs, on one event set and a thread of its own. Private to
 * gpu/: the observer owns it and decides what an event means (health.h).
 *
 * GPUs are registered each on its own worker, because the call may hang with its GPU, and only
 * while nobody waits on the set. A wait lasts at most EVENT_WAIT_MS, so that is how long a GPU
 * which appears later may stay unwatched. Errors of the wait back off.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "net/loop.h"
#include "net/worker.h"

enum { EVENT_WAIT_MS = 5000, EVENT_UNKNOWN_GPU = 0xffffffffu };

struct gpu_event {
    uint32_t index;  /* NVML's, or EVENT_UNKNOWN_GPU */
    uint64_t type;   /* one bit of NVML_EVENT_… */
    uint64_t data;   /* the XID */
    uint32_t gi, ci; /* HEALTH_NO_INSTANCE: the whole GPU */
};

/* All on the loop's thread. None may free the watch. */
struct event_watch_calls {
    void (*event)(void *user, const struct gpu_event *event);
    /* The end of a registration: err NULL when it is watched. -ENOTSUP: it has no events to
     * watch for; -ETIMEDOUT: the call hangs, register it again when it is back. */
    void (*registered)(void *user, uint32_t index, int r, const struct err *err);
    /* The wait fails (err), or works again (NULL). */
    void (*waiting)(void *user, const struct err *err);
    /* There is no event set to wait on, now or (-ENOTSUP) ever: nobody is watched. */
    void (*unavailable)(void *user, const struct err *err);
};

struct event_watch;

/* `calls` is copied; deadline_ms is for the call that registers a GPU. NVML must stay initialised;
 * the watch holds it so for calls that hang. */
[[nodiscard]] int event_watch_new(struct loop *loop, struct nvml *nvml, uint32_t deadline_ms,
                                  const struct event_watch_calls *calls, void *user,
                                  struct event_watch **ret, struct err *err);
void event_watch_free(struct event_watch *watch); /* NULL is fine; never waits */

/* Asks for the GPU to be watched; `worker` is the GPU's own and outlives the watch. Asking again
 * for a GPU that is watched, or about to be, does nothing. */
void event_watch_register(struct event_watch *watch, uint32_t index, struct worker *worker);
/* The GPU there is another one now, or its call hung: a later register asks anew. */
void event_watch_forget(struct event_watch *watch, uint32_t index);
/* Whether every GPU that was asked for is watched or known not to be: false while a registration is
 * on its way, true while there is no event set to register with. */
bool event_watch_settled(const struct event_watch *watch);
