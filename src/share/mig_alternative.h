/*
 * What would have room where a demand has none: the sets of MIG devices nearest to it, with
 * everything that is pinned among them. Nearest has most of the wanted devices, then most of their
 * compute slices; what room is left is filled with more of the same.
 */
#pragma once

#include "base/buf.h"
#include "share/mig_plan.h"
#include "share/mig_search.h"

/* "2 × 1g.10gb + 1 × 1c.3g.40gb", by NVML's numbers of the profiles; "" for nothing. */
void mig_demand_describe(const struct mig_board *board, const struct mig_demand *demand,
                         struct buf *text);

/* Writes plan->alternatives. *ret_whole: all of the demand has room beside what is pinned. */
[[nodiscard]] int mig_alternatives_find(struct mig_problem *problem,
                                        const struct mig_demand *demand, struct arena *arena,
                                        struct mig_gpu_plan *plan, bool *ret_whole,
                                        struct err *err);
