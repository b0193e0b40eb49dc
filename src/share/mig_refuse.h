/*
 * Why a plan cannot be, in words: who is in the way, and what could be instead.
 */
#pragma once

#include "share/mig_plan.h"
#include "share/mig_search.h"

struct mig_refusing {
    const struct mig_gpu *gpu;
    const struct mig_wish *wish;
    struct mig_problem *problem;
    const struct mig_demand *demand; /* of the wish, also where it is a layout */
    uint32_t missing; /* of a layout: present instances that are pinned and not in it */
    struct arena *arena;
    struct mig_gpu_plan *plan; /* gets the refusal, its sentence, blocker and alternatives */
};

/* The sentence, after the place in a file and the GPU's number. 0 or -ENOMEM. */
[[nodiscard]] PRINTF(4, 5) int mig_refuse(const struct mig_refusing *refusing,
                                          enum mig_refusal refusal, struct err *err,
                                          const char *format, ...);

/* What is wanted cannot be: NO_ROOM, or HELD where it could be without what is pinned.
 * `why` may be NULL: then they are too many. */
[[nodiscard]] int mig_refuse_demand(const struct mig_refusing *refusing, bool held, const char *why,
                                    struct err *err);

/* Everything must go, and somebody holds something: `what` is "MIG mode cannot be switched off". */
[[nodiscard]] int mig_refuse_clearing(const struct mig_refusing *refusing, const char *what,
                                      struct err *err);
