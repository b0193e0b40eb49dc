/*
 * Keeps an eye on a node's GPUs, for a program that stays: NVML is asked on one worker per GPU, so
 * that a GPU which hangs holds up nobody else; what changed arrives on the loop as a new inventory.
 *
 *     first scan ──► inventory ──► every interval, and when asked: scan ──► inventory, if it
 * differs XID, ECC, MIG change (NVML's events) ──┘
 *
 * A GPU whose call has not come back within the deadline is reported unhealthy ("NVML has not
 * answered for 5 s") with its last known data, and healed when it answers. The others do not wait
 * for it longer than `patience_ms`: what they said is published then, and what is late follows.
 * A GPU that is lost keeps its last known data, too. A GPU that never said who it is stands among
 * the inventory's problems.
 *
 * XIDs make devices unhealthy until observer_clear_health (health.h). A wait for events that fails
 * makes all devices unhealthy while it lasts.
 *
 * When NVML itself goes (the driver is unloaded), every GPU becomes unhealthy, and NVML is
 * initialised anew at each following scan until it answers.
 *
 * Threads: one for each GPU, one for the node, one for events. With glibc, a program that sets
 * mallopt(M_ARENA_MAX, 1) first keeps them from costing a heap each.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "gpu/health.h"
#include "gpu/nvml.h"
#include "gpu/scan.h"
#include "net/loop.h"
#include "share/inventory.h"

#define OBSERVER_NEVER UINT32_MAX

/* Zero stands for the default. Strings are copied. */
struct observer_options {
    struct scan_options scan;
    uint32_t interval_ms;       /* between scans: 10 s; OBSERVER_NEVER: only when asked */
    uint32_t deadline_ms;       /* of one GPU's scan: 5 s */
    uint32_t patience_ms;       /* how long the first wait for the last: 1 s */
    uint32_t start_deadline_ms; /* of NVML's initialisation, which wakes sleeping GPUs: 60 s */
    bool watch_events;          /* wait for XIDs and other events */
    struct xid_filter xids;     /* which of them make a device unhealthy */
};

enum observer_notice_kind {
    NOTICE_XID,          /* an XID was seen; `fatal` says whether it counts */
    NOTICE_ECC,          /* an ECC event: told, and ignored */
    NOTICE_NOT_WATCHED,  /* the GPU has no events to wait for: it stays healthy whatever happens */
    NOTICE_WATCH_FAILED, /* events cannot be waited for; text says why */
    NOTICE_WATCH_WORKS,  /* …and works again */
    NOTICE_N_KINDS,
};

struct observer_notice {
    enum observer_notice_kind kind;
    const char *gpu; /* UUID; NULL: all, or unknown */
    uint64_t xid;
    uint32_t gi, ci; /* HEALTH_NO_INSTANCE: the whole GPU */
    bool fatal;
    const char *text; /* a sentence, or NULL */
};

/* All are called on the loop's thread, each may be NULL; none may stop the observer. */
struct observer_calls {
    /* A new inventory, different from the one before. Borrowed: inventory_ref to keep it. */
    void (*inventory)(void *user, struct inventory *inventory);
    /* The node could not be read: NVML's own words ("Driver Not Loaded"). It is tried again. */
    void (*failed)(void *user, const struct err *err);
    /* A scan is over, whether or not anything changed or failed. */
    void (*scanned)(void *user);
    void (*notice)(void *user, const struct observer_notice *notice);
};

struct observer;

/* nvml may be NULL where there is no library; a reference is taken. The first scan begins on
 * the loop's next turn. `calls` is copied. -ENOENT: no such root; -ENOMEM, -EAGAIN: no thread. */
[[nodiscard]] int observer_start(struct loop *loop, struct nvml *nvml,
                                 const struct observer_options *options,
                                 const struct observer_calls *calls, void *user,
                                 struct observer **ret, struct err *err);
/* Never waits; a call that hangs is left to its thread. NULL is fine. */
void observer_stop(struct observer *observer);
DEFINE_FREEP(struct observer, observer_stop)

/* Looks again now; during a scan, once more after it. */
void observer_rescan(struct observer *observer);
/* The newest inventory, NULL before the first. Borrowed. */
struct inventory *observer_inventory(const struct observer *observer);
/* Forgets what XIDs have said: every device is as healthy as the next scan finds it. */
void observer_clear_health(struct observer *observer);

/*
 * One complete scan with the same safety, for verbs that look and leave: runs a loop of its own
 * until every GPU has answered or missed the deadline. Fails as `failed` would be told.
 */
[[nodiscard]] int observe_once(struct nvml *nvml, const struct observer_options *options,
                               struct inventory **ret, struct err *err);
