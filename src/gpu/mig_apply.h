/*
 * Makes a plan (share/mig_plan.h) true, or leaves everything as it was.
 *
 *     journal: before, after ──► steps ──► all done: journal removed
 *                                  └── one fails ──► every GPU back to before; journal removed
 *
 * The journal (mig_journal.h) holds, for each GPU of the plan, the layout before and the layout
 * wanted; it is on disk before the first step and is removed after the last. Since a layout names
 * instances by their places, whoever finds a journal can look at the GPU and plan from wherever it
 * was left: mig_recover finishes it or, where that cannot be, takes it back. Undoing after a
 * failure is the same road.
 *
 * Order: on GPUs whose mode may wait for a reset (Ampere) what goes, and the mode; then one reset
 * for those that wait; then what comes there; then the other GPUs, one by one. Steps on a GPU that
 * is not in the plan do not happen. Instances that the plan keeps are not touched by a call, and
 * one that is to go is destroyed only while it has the UUID that the plan saw.
 *
 * One change at a time: mig_lock_take. Whoever plans takes the lock, recovers, looks, plans and
 * applies under it, so that nothing changes between the look and the steps.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "share/mig_plan.h"

#define MIG_STATE_DIR "/var/lib/tranche/mig" /* below the root, as the journal's default */

/* ---- one at a time ---- */

struct mig_lock {
    int fd;
};
#define MIG_LOCK_NONE                                                                              \
    (struct mig_lock)                                                                              \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Of a state folder, which is made where it is missing (mode 0700). -EBUSY when another process is
 * at it, which the sentence names by its pid; -EROFS and the like. */
[[nodiscard]] int mig_lock_take(const char *state_dir, struct mig_lock *ret, struct err *err);
void mig_lock_done(struct mig_lock *lock);

/* ---- what came of it ---- */

/* What happened to a MIG device; names and UUIDs for people and for whoever remembers UUIDs. */
struct mig_change {
    uint32_t gpu;                   /* NVML's index */
    const char *profile;            /* "1g.10gb" */
    struct mig_placement placement; /* of its GPU instance */
    const char *old_uuid;           /* NULL: it is new */
    const char *new_uuid;           /* NULL: it is gone; "": the driver did not tell */
};

struct mig_outcome {
    size_t n_changes;
    struct mig_change *changes; /* after a recovery: what the recovery itself did */
    size_t n_pending;           /* GPUs whose mode waits for a reset: skip_reset */
    bool undone;      /* something failed and everything is as it was, but for UUIDs in `changes` */
    const char *note; /* a sentence for the log, as about a journal that was kept aside; or NULL */
};

struct mig_apply_options {
    const char *state_dir; /* where journal and lock are; made when it is not there, mode 0700 */
    const struct mig_lock *lock; /* of state_dir, held by the caller; NULL: taken for the call */
    int root; /* an open directory: where /proc is, for the names of processes in the way */
    bool skip_reset;
    /*
     * Resets GPUs by bus id (NVML cannot): nvidia-smi -r -i …; NULL: a reset is refused. While it
     * runs NVML is shut down, as an open session would be in its way, so no other thread may be in
     * a call then.
     */
    int (*reset)(void *user, const char *const *bus_ids, size_t n, struct err *err);
    /* Called after each step that was done, the i-th (from 1) of n on its GPU, also while undoing;
     * may be NULL. */
    void (*progress)(void *user, const struct mig_gpu *gpu, const struct mig_step *step, size_t i,
                     size_t n);
    void *user;
};

/* What both functions take of the arena, but for the strings of changes. */
enum { MIG_APPLY_ARENA_BYTES = 1 << 20 };

/*
 * NVML must be initialised. Plans without steps are fine. Where a GPU fails, it goes back, and so
 * do those that had their turn; one that others have changed since the look is left as it is. With
 * skip_reset a GPU whose mode waits is counted and gets nothing more: no failure.
 *
 * Errors: the driver's refusal, as `GPU 2: cannot create 3g.40gb at 4: In use by another client;
 * everything is as it was`; -EBUSY when another change is under way (with its pid), when a journal
 * is left over (mig_recover first), or when somebody is in the way; -EROFS and the like for the
 * journal; -ENOTRECOVERABLE when undoing failed as well: the journal stays, and the sentence says
 * what is where. *ret is filled in any case.
 */
[[nodiscard]] int mig_apply(struct nvml *nvml, const struct mig_gpu_plan *plans, size_t n_plans,
                            const struct mig_apply_options *options, struct arena *arena,
                            struct mig_outcome *ret, struct err *err);

/*
 * What the node is after a successful mig_apply, without asking it: its GPUs as the steps left
 * them, with the UUIDs of what was made. Changes `node`, which is the one that the plans were made
 * on; the new ids are a guess by the driver's rule. -EAGAIN: modes wait for a reset, so look;
 * others when the steps do not fit the node.
 */
[[nodiscard]] int mig_apply_imagine(struct mig_node *node, const struct mig_gpu_plan *plans,
                                    size_t n_plans, const struct mig_outcome *outcome,
                                    struct err *err);

/* Nothing to do without a journal: 0. 1: a change was finished, or (ret->undone) taken back.
 * Errors as mig_apply. A journal that cannot be read, or that is about none of this node's GPUs, is
 * kept aside (`journal.json.bad`), named in ret->note, and not followed: 0. */
[[nodiscard]] int mig_recover(struct nvml *nvml, const struct mig_apply_options *options,
                              struct arena *arena, struct mig_outcome *ret, struct err *err);
