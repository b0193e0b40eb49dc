/*
 * How the GPUs of a node are divided, from NVML: share/mig_geometry.h's struct, once and
 * synchronously. For verbs and for whoever is about to change it; the agent's watching is
 * observe.h.
 *
 * Costs few calls: profiles and placements are asked once for each kind of board, processes three
 * times for each GPU (compute, graphics, MPS), an empty GPU once, and an instance with the compute
 * instance that fills it four times. Eight H100 with 56 MIG devices: 349 calls; with MIG off: 108.
 *
 * Strings are never NULL, but for holders and problems; of a GPU that cannot be read they may be
 * "". A driver that hides profiles while MIG is off (R535) leaves such a GPU with n_profiles 0 and
 * without a problem, unless another board of its kind has MIG on: turn the mode on, then look
 * again.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "share/mig_geometry.h"

enum {
    /* What a GPU takes of the arena, at most; a node takes 32 KiB besides. */
    MIG_LOOK_GPU_BYTES = 40 << 10,
    MIG_LOOK_MAX_PROCESSES = 4096, /* of one kind on one GPU */
};

struct mig_look_options {
    int root;         /* an open directory: where /proc is, for the names of processes */
    bool holders;     /* ask who uses what */
    const char *uuid; /* only this GPU; NULL: all */
};

/* NVML must be initialised. *ret lives in the arena. A GPU that cannot be read is in it, with its
 * problem; boards that only drive a screen are not. Fails only when the node itself cannot: NVML's
 * own words; -ENOMEM. */
[[nodiscard]] int mig_look(const struct nvml *nvml, const struct mig_look_options *options,
                           struct arena *arena, struct mig_node **ret, struct err *err);
