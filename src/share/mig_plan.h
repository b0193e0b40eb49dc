/*
 * From what a GPU is divided into to what it should be divided into, in the fewest steps: which
 * instances stay, which go, and where new ones are put. Or why not: who is in the way, and which
 * layouts would do. From wherever a plan was left, a plan for its `before` leads back.
 *
 * Of all layouts that have what is wanted, the plan takes the one that keeps every held instance,
 * then the most compute slices of what is there, then the most instances, then the most of the
 * compute instances in them, then leaves room for the most (profile, placement) pairs, then has the
 * lowest starts (spec/mig §9.1). GPU instances with the wanted profile and other compute instances
 * stay; only their compute instances change. Devices that are parts of a GPU instance share as few
 * of those as they can; one more stays where a part in it does. What has the wanted devices already
 * is left alone, GPU instances without compute instances included, which no name counts.
 *
 * Pure and without a clock; microseconds each GPU. Boards unlike any there is are bounded by a
 * budget, at the end of which they are refused.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "share/mig_geometry.h"

enum {
    MIG_MAX_WANTS = 64,
    MIG_MAX_STEPS = 2 * (MIG_MAX_GPU_INSTANCES * (MIG_MAX_COMPUTE_INSTANCES + 1)) + 4,
    MIG_MAX_ALTERNATIVES = 3,
};

/* ---- what is wanted of one GPU ---- */

/* MIG devices by name: `"1g.10gb": 2`. */
struct mig_want {
    const char *name; /* as written, for sentences */
    struct mig_profile profile;
    uint32_t count; /* 0 is no wish at all */
};

/* Exactly this instance at exactly this place: from a checkpoint, a journal, an undo. */
struct mig_placed {
    uint32_t gi_profile; /* enum */
    struct mig_placement placement;
    size_t n_cis;
    struct mig_placed_ci {
        uint32_t ci_profile;
        struct mig_placement placement; /* size 0: wherever it fits */
    } cis[MIG_MAX_COMPUTE_INSTANCES];
};

struct mig_layout {
    bool enabled; /* MIG mode; without it there are no instances */
    size_t n_gis; /* by start */
    struct mig_placed gis[MIG_MAX_GPU_INSTANCES];
};

enum mig_wish_kind {
    MIG_WISH_NOTHING, /* leave this GPU as it is */
    MIG_WISH_MODE,    /* only the mode; instances stay where mode does */
    MIG_WISH_DEVICES, /* mode on, and these MIG devices, wherever they fit best */
    MIG_WISH_LAYOUT,  /* exactly this layout */
};

struct mig_wish {
    enum mig_wish_kind kind;
    bool enabled; /* MIG_WISH_MODE */
    size_t n_wants;
    const struct mig_want *wants;    /* MIG_WISH_DEVICES; none: mode on and empty */
    const struct mig_layout *layout; /* MIG_WISH_LAYOUT */
    const char *where;               /* "config.yaml:7:9", for sentences; or NULL */
};

/* ---- the plan ---- */

enum mig_step_kind {
    MIG_STEP_DESTROY_CI,
    MIG_STEP_DESTROY_GI,
    MIG_STEP_MODE_OFF,
    MIG_STEP_MODE_ON,
    MIG_STEP_RESET, /* Ampere, after a mode: when it is pending by then, reset the GPU, which loses
                       whatever is on it; otherwise nothing is to be done */
    MIG_STEP_CREATE_GI,
    MIG_STEP_CREATE_CI,
    MIG_STEP_N_KINDS,
};

/* Instances are named by where they are: one that is made again has another id and UUID. */
struct mig_step {
    enum mig_step_kind kind;
    uint32_t gi_profile;
    struct mig_placement gi; /* the GPU instance meant, or to be made */
    uint32_t ci_profile;
    struct mig_placement ci; /* the compute instance; size 0: the driver's choice */
    const char *uuid;        /* the MIG device that goes; NULL when one comes */
};

enum mig_refusal {
    MIG_REFUSED_NOT,
    MIG_REFUSED_UNREADABLE,  /* the GPU's problem */
    MIG_REFUSED_NOT_CAPABLE, /* MIG wanted on a GPU without */
    MIG_REFUSED_UNKNOWN,     /* no such profile on this GPU */
    MIG_REFUSED_NO_ROOM,     /* what is wanted can never be together on this GPU */
    MIG_REFUSED_HELD,        /* it could be, were it not for `blocker` */
};

struct mig_gpu_plan {
    const struct mig_gpu *gpu; /* borrowed */
    struct mig_layout before, after;
    size_t n_steps; /* 0: nothing to do */
    struct mig_step *steps;
    size_t n_kept, n_destroyed, n_created; /* GPU instances */
    uint32_t kept_slices;
    /* How many instances common to both layouts had to move: destroyed here, made again there. */
    size_t n_moved;

    enum mig_refusal refusal;
    const char *sentence; /* of the refusal; NULL without */
    const char *blocker;  /* MIG_REFUSED_HELD, the first one: "1g.10gb@5 (MIG-…), held by process
                             4711 (x)" */
    size_t n_alternatives;
    const char *alternatives[MIG_MAX_ALTERNATIVES]; /* nearest first: "2 × 1g.10gb + 1 × 3g.40gb" */
};

/*
 * *ret lives in the arena and borrows the GPU. A refusal is an answer: 0, and the plan says so and
 * has no steps. -ENOMEM.
 *
 * `may_stop_pods`: instances that only a pod's allocation holds may go. What a process holds is
 * never touched.
 */
[[nodiscard]] int mig_plan_gpu(const struct mig_gpu *gpu, const struct mig_wish *wish,
                               bool may_stop_pods, struct arena *arena, struct mig_gpu_plan *ret,
                               struct err *err);

/* What the GPU holds now as a layout (MIG_WISH_LAYOUT takes it back there). */
void mig_layout_of(const struct mig_gpu *gpu, struct mig_layout *ret);
/* Same mode, same GPU instances at the same places, same compute instances in each (places of
 * compute instances count where both are known). */
bool mig_layout_equal(const struct mig_layout *a, const struct mig_layout *b);
/* Whether the GPU already has what is wanted, whatever the places. */
bool mig_wish_met(const struct mig_gpu *gpu, const struct mig_wish *wish);

/* What the GPU looks like after a step: for what is still free, and what came of a change.
 * -ENOTSUP, -EINVAL, -ENOSPC, -ENOENT, -EBUSY as a driver would refuse it; to a driver, what only a
 * pod holds is free. New instances get ids by the driver's rule (spec/mig §1.12) and no UUID. */
[[nodiscard]] int mig_step_imagine(struct mig_gpu *gpu, const struct mig_step *step,
                                   struct err *err);

/* "destroy 1g.10gb at 5 (MIG-…)": one line of a plan. */
void mig_step_describe(const struct mig_gpu *gpu, const struct mig_step *step,
                       char text[static 160]);
