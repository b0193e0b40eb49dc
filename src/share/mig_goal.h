/*
 * Where a plan goes: a layout, and which of its instances are there already. The steps between are
 * a matter of reading it.
 */
#pragma once

#include "share/mig_plan.h"
#include "share/mig_search.h"

struct mig_goal {
    struct mig_layout after;
    /* Which instance of the GPU each one is, -1: new. */
    int8_t gi[MIG_MAX_GPU_INSTANCES];
    int8_t ci[MIG_MAX_GPU_INSTANCES][MIG_MAX_COMPUTE_INSTANCES];
};

/* What was found for a demand, in the driver's words. */
void mig_goal_of_target(const struct mig_problem *problem, const struct mig_target *target,
                        struct mig_goal *ret);

/*
 * Exactly this layout, with what is there already. Errors say what cannot be: -ENOENT an unknown
 * profile, -ENOSPC a place that there is not or that two want; -EBUSY: what is pinned is not in it,
 * and *ret_missing is a mask of the present instances of which that is so.
 */
[[nodiscard]] int mig_goal_of_layout(const struct mig_problem *problem,
                                     const struct mig_layout *layout, struct mig_goal *ret,
                                     uint32_t *ret_missing, struct err *err);

/* The demand of a layout, for those who look for something near it. */
void mig_goal_demand(const struct mig_board *board, const struct mig_layout *layout,
                     struct mig_demand *ret);
