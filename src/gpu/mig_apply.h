/*
 * Makes a plan (share/mig_plan.h) true, or leaves everything as it was.
 *
 *     journal: before, after ──► steps, GPU by GPU ──► all done: journal removed
 *                                     └── one fails ──► undo this GPU's steps, then the other GPUs'
 *
 * The journal holds, for each GPU of the plan, the layout before and the layout wanted; it is on
 * disk before the first step and is removed after the last. Since a layout names instances by their
 * places, whoever finds a journal can look at the GPU and plan from wherever it was left:
 * mig_recover finishes it or, where that is refused, takes it back. One change at a time: the
 * journal's folder has a lock, and who holds it is named.
 *
 * Steps on a GPU that is not in the plan do not happen. Instances that the plan keeps are not
 * touched by a call.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "share/mig_plan.h"

#define MIG_STATE_DIR "/var/lib/tranche/mig" /* below the root, as the journal's default */

/* What happened to a MIG device; names and UUIDs for people and for whoever remembers UUIDs. */
struct mig_change {
    uint32_t gpu;        /* NVML's index */
    const char *profile; /* "1g.10gb" */
    struct mig_placement placement;
    const char *old_uuid; /* NULL: it is new */
    const char *new_uuid; /* NULL: it is gone */
};

struct mig_outcome {
    size_t n_changes;
    struct mig_change *changes;
    size_t n_pending; /* GPUs whose mode waits for a reset (skip_reset, or the reset failed) */
    bool undone;      /* something failed and everything is as it was, but for UUIDs in `changes` */
};

struct mig_apply_options {
    const char *state_dir; /* where journal and lock are; made when it is not there, mode 0700 */
    bool skip_reset;
    /* Resets GPUs by bus id (NVML cannot): nvidia-smi -r -i …; NULL: a reset is refused. */
    int (*reset)(void *user, const char *const *bus_ids, size_t n, struct err *err);
    /* Called after each step, for progress; may be NULL. */
    void (*progress)(void *user, const struct mig_gpu *gpu, const struct mig_step *step, size_t i,
                     size_t n);
    void *user;
};

/*
 * NVML must be initialised. Plans without steps are fine. Where a GPU fails, its own steps and
 * those of GPUs before it are undone. Errors: the driver's refusal, as `GPU 2: cannot create
 * 3g.40gb at 4: In use by another client; everything is as it was`; -EBUSY when another change is
 * under way (with its pid) or a journal is left over (mig_recover first); -EROFS and the like for
 * the journal; -ENOTRECOVERABLE when undoing failed as well: the journal stays, and the sentence
 * says what is where.
 */
[[nodiscard]] int mig_apply(const struct nvml *nvml, const struct mig_gpu_plan *plans,
                            size_t n_plans, const struct mig_apply_options *options,
                            struct arena *arena, struct mig_outcome *ret, struct err *err);

/* Nothing to do without a journal: 0. 1: a change was finished, or (ret->undone) taken back.
 * Errors as mig_apply. A journal that cannot be read is kept aside (`.bad`) and named. */
[[nodiscard]] int mig_recover(const struct nvml *nvml, const struct mig_apply_options *options,
                              struct arena *arena, struct mig_outcome *ret, struct err *err);
