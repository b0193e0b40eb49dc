/*
 * The best layout for a demand of MIG devices, given what is there and what of it must stay.
 *
 *     present instances ─┐
 *     demand ────────────┼─► which stay, how many of each profile are made new, and where
 *     board ─────────────┘
 *
 * Best means, in this order: most compute slices of GPU instances kept; most of them kept; most
 * compute slices of compute instances in them kept; most (profile, place) pairs left free; lowest
 * starts, the largest profiles first. A GPU instance stays beyond those that the packing needs only
 * for a compute instance in it that stays.
 *
 * All sets of instances that could stay are tried (256 at most, since a driver makes eight), and
 * for those that could be best all places of the new ones. The budget bounds boards that are not of
 * this world; on real ones a small part of it is used.
 */
#pragma once

#include "share/mig_board.h"
#include "share/mig_pack.h"

enum { MIG_SEARCH_BUDGET = 100000 };

struct mig_demand {
    struct mig_sizes of[MIG_MAX_GI_PROFILES]; /* by the board's numbers */
    uint32_t wanted;                          /* a mask of profiles with any */
    uint32_t parts;                           /* of those with devices smaller than the profile */
};

struct mig_present_ci {
    uint8_t size; /* as what it counts in names, 0: nothing anybody could want */
    uint8_t mask; /* the slices that it takes up */
    bool pinned;
};

struct mig_present {
    int profile;   /* the board's number, -1: none that it knows */
    uint32_t mask; /* memory slices */
    bool pinned;   /* a compute instance in it is */
    bool whole;    /* its only compute instance fills it */
    size_t n_cis;
    struct mig_present_ci cis[MIG_MAX_COMPUTE_INSTANCES];
};

struct mig_problem {
    const struct mig_board *board; /* borrowed */
    size_t n_present;
    struct mig_present present[MIG_BOARD_MAX_GIS];
    uint8_t of_profile[MIG_MAX_GI_PROFILES]; /* masks of present ones */
    uint32_t pinned;
    uint32_t budget; /* what is left of it */
};

/* A GPU instance of the best layout. */
struct mig_target_gi {
    int present; /* which one stays; -1: it is new */
    uint8_t profile;
    uint32_t mask;
    size_t n_cis;
    struct mig_target_ci {
        int present; /* of the instance that stays; -1: it is new */
        uint8_t start, size;
    } cis[MIG_MAX_COMPUTE_INSTANCES];
};

struct mig_target {
    size_t n;
    struct mig_target_gi gis[MIG_BOARD_MAX_GIS];
};

/* The GPU has no more than MIG_BOARD_MAX_GIS instances. What only pods hold is not pinned where
 * they may be stopped. */
void mig_problem_make(const struct mig_gpu *gpu, const struct mig_board *board, bool may_stop_pods,
                      struct mig_problem *ret);

void mig_demand_add(struct mig_demand *demand, const struct mig_board *board, uint32_t profile,
                    uint32_t size, uint32_t count);

/* Whether any layout has the demand and what is pinned, and nothing else. */
bool mig_search_fits(struct mig_problem *problem, const struct mig_demand *demand);
/* The best of them; false when there is none. */
bool mig_search_best(struct mig_problem *problem, const struct mig_demand *demand,
                     struct mig_target *ret);
