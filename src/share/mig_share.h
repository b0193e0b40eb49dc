/*
 * One profile's part of a search: of the instances of it that are there some stay, so many more are
 * needed, and of the compute instances in those that stay so many can stay, too.
 */
#pragma once

#include "share/mig_search.h"

struct mig_share {
    bool valid; /* exactly these can stay, and none of them in vain */
    uint32_t n_new;
    uint32_t kept_slices;                /* of compute instances */
    uint8_t kept_cis[MIG_BOARD_MAX_GIS]; /* masks, by present instance */
};

/* `kept`: a mask of present instances of this profile. */
void mig_share_make(struct mig_problem *problem, const struct mig_demand *demand, uint32_t profile,
                    uint32_t kept, struct mig_share *ret);

/* Compute instances into the target's GPU instances of this profile: those that stay and, from
 * where they are free, new ones. */
void mig_share_fill(struct mig_problem *problem, const struct mig_demand *demand, uint32_t profile,
                    const struct mig_share *share, struct mig_target *target);
