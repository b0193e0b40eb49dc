/*
 * What a node has to offer before anything is shared: each physical device, and the resource it
 * belongs to under the MIG strategy (spec/device-plugin §3, §4.1). Resources and labels are both
 * made of this list, so they cannot disagree about what counts as a device.
 *
 * No judgement yet: whether the hardware goes with the strategy is for resource.c and label.c, each
 * in its own way.
 */
#pragma once

#include "share/config.h"
#include "share/inventory.h"

#define OFFER_GPU_RESOURCE "nvidia.com/gpu"
#define OFFER_MIG_RESOURCE "nvidia.com/mig-" /* and the profile in resource form */

struct offer {
    const char *resource;                /* "nvidia.com/gpu", "nvidia.com/mig-1g.10gb" */
    const char *id;                      /* "GPU-…", "MIG-…"; "all" on WSL, "tegra" on Tegra */
    const char *index;                   /* "0", "0:1" */
    const struct gpu *gpu;               /* NULL on WSL and Tegra */
    const struct mig_device *mig;        /* NULL for a whole GPU */
    const struct shared_resource *entry; /* sharing.h fills it in; NULL: not shared */
};

/* Whether the strategy looks at this GPU's MIG devices instead of at the GPU. */
bool offer_is_cut(const struct config *config, const struct gpu *gpu);

/* Whether a MIG device can be offered: `mixed` has no name for one that is smaller than its GPU
 * instance. */
bool offer_has_name(const struct config *config, const struct mig_device *mig);

/* All offers by GPU, then by MIG device, in the arena. -ENOMEM. */
[[nodiscard]] int offer_list(const struct inventory *inventory, const struct config *config,
                             struct arena *arena, struct offer **ret, size_t *ret_n,
                             struct err *err);
