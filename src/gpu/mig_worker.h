/*
 * Single steps of a plan on one GPU, against NVML. Private to gpu/; mig_apply.h puts them in order,
 * on paper, and takes them back.
 *
 * A worker works on the GPU as it was looked at. It finds what a step means by its place, and makes
 * sure before it destroys anything that it still is what was seen: the same instance at the same
 * place, the MIG device with the same UUID.
 *
 * Drivers before 510 choose the place of an instance themselves. There the worker makes instances
 * until one lies where the plan wants it and destroys the others again.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "gpu/nvml_abi.h"
#include "share/mig_plan.h"

/* The driver's ids of compute instance profiles, asked once for each kind of GPU instance. */
struct mig_ci_ids {
    size_t n;
    struct {
        uint32_t board, gi_profile, ci_profile, id;
    } known[32];
};

struct mig_worker {
    const struct nvml *nvml;
    const struct mig_gpu *gpu; /* borrowed */
    int root;                  /* where /proc is, for the names of those in the way */
    struct arena *arena;       /* for UUIDs */
    struct mig_ci_ids *ids;    /* borrowed, shared by all workers of a change */
    nvmlDevice_t device;
    size_t n_made; /* GPU instances made by this worker */
    struct {
        struct mig_placement place;
        nvmlGpuInstance_t handle;
    } made[MIG_MAX_GPU_INSTANCES];
};

/* What a step did. */
struct mig_step_done {
    bool waits;           /* a mode was asked for that comes into force with the next reset */
    const char *new_uuid; /* of the MIG device made; "" where the driver would not tell */
};

/* Finds the GPU by its UUID, also after a reset. Begins with `*worker` zero but for what is
 * borrowed. */
[[nodiscard]] int mig_worker_find(struct mig_worker *worker, struct err *err);

/* MIG_STEP_RESET is nobody's here: -EINVAL. Fails as the driver does: `cannot create 3g.40gb at 4:
 * In use by another client: process 4711 (python3)`. A mode that is not in force after all and
 * waits for no reset (somebody uses the GPU) is a failure, and stays pending. */
[[nodiscard]] int mig_worker_step(struct mig_worker *worker, const struct mig_step *step,
                                  struct mig_step_done *ret, struct err *err);

/* Whether MIG mode is on, and whether it will be after a reset. */
[[nodiscard]] int mig_worker_mode(struct mig_worker *worker, bool *ret_current, bool *ret_pending,
                                  struct err *err);
[[nodiscard]] int mig_worker_set_mode(struct mig_worker *worker, bool enabled, bool *ret_waits,
                                      struct err *err);
