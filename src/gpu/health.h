/*
 * Which errors make a device unhealthy, and which devices they make so. Pure: events come from
 * event_watch.h, inventories from the observer, which lays the ailments over what it publishes.
 *
 * The XID filter is upstream's (spec/device-plugin §6.1) with two of its defects mended: an error
 * on a GPU concerns every device on it (D1), and DP_DISABLE_HEALTHCHECKS=all can be combined with
 * single XIDs in DP_ENABLE_HEALTHCHECKS (D3). As upstream, what is unhealthy stays so until the
 * ailments are cleared, which a change of configuration or a restart does (D2).
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "share/inventory.h"

/* ---- the filter ---- */

enum { XID_FILTER_MAX = 64, XID_FILTER_MAX_IGNORED = 8 };

struct xid_filter {
    bool disable_all, enable_all;
    size_t n_disabled, n_enabled;
    uint64_t disabled[XID_FILTER_MAX], enabled[XID_FILTER_MAX];
    size_t n_ignored; /* words that are neither numbers nor known: someone should be told */
    struct span ignored[XID_FILTER_MAX_IGNORED]; /* borrowed from the two texts */
};

/* The values of DP_DISABLE_HEALTHCHECKS and DP_ENABLE_HEALTHCHECKS; NULL where not set. */
void xid_filter_parse(const char *disable, const char *enable, struct xid_filter *ret);

/* Whether any XID at all can make a device unhealthy; if not there is nothing to watch. */
bool xid_filter_watches(const struct xid_filter *filter);
bool xid_filter_is_fatal(const struct xid_filter *filter, uint64_t xid);

/* ---- who is ill ---- */

#define HEALTH_NO_INSTANCE 0xffffffffu /* as NVML says that an event is not about an instance */

enum { AILMENTS_MAX = 4096, AILMENT_UUID_SIZE = 96, AILMENT_REASON_SIZE = 160 };

struct ailment {
    char gpu[AILMENT_UUID_SIZE];
    char mig[AILMENT_UUID_SIZE]; /* "": of the whole GPU, or of an instance not seen yet */
    uint32_t gi, ci;             /* HEALTH_NO_INSTANCE: any */
    char reason[AILMENT_REASON_SIZE];
};

struct ailments {
    struct ailment *items; /* owned */
    size_t n, cap;
};

void ailments_done(struct ailments *ailments);
void ailments_clear(struct ailments *ailments);

/*
 * Notes that the GPU (gi and ci HEALTH_NO_INSTANCE), or the MIG devices of one of its instances,
 * fell ill. Devices are remembered by UUID, so that an instance made anew in the same place is
 * well; `now` (may be NULL) tells which they are. A device that is ill already keeps its first
 * reason. 1: something was noted; 0: nothing new; -ENOMEM; -ENOSPC beyond AILMENTS_MAX.
 */
[[nodiscard]] int ailments_add(struct ailments *ailments, const struct inventory *now,
                               const char *gpu, uint32_t gi, uint32_t ci, const char *reason,
                               struct err *err);

/* The reason, or NULL when well. */
const char *ailments_of_gpu(const struct ailments *ailments, const char *gpu);
const char *ailments_of_mig(const struct ailments *ailments, const char *gpu,
                            const struct mig_device *mig);
