/*
 * How the GPUs of a node are divided, from NVML: share/mig_geometry.h's struct, once and
 * synchronously. For verbs and for whoever is about to change it; the agent's watching is
 * observe.h.
 *
 * Costs few calls: profiles and placements are asked once for each kind of board, and processes
 * once for each GPU. Instances are listed profile by profile, as NVML wants it.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "share/mig_geometry.h"

struct mig_look_options {
    int root;         /* an open directory: where /proc and /sys are, for the names of processes */
    bool holders;     /* ask who uses what */
    const char *uuid; /* only this GPU; NULL: all */
};

/* NVML must be initialised. *ret lives in the arena. A GPU that cannot be read is in it, with its
 * problem. Fails only when the node itself cannot: NVML's own words; -ENOMEM. */
[[nodiscard]] int mig_look(const struct nvml *nvml, const struct mig_look_options *options,
                           struct arena *arena, struct mig_node **ret, struct err *err);
