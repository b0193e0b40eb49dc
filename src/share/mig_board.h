/*
 * What a search over layouts asks all the time, with the answers prepared: profiles by number,
 * their places as masks of memory slices, and what of the board is shared by everything on it.
 *
 * Whether GPU instances can be together has two halves (spec/mig §3.1). Which they are: compute
 * slices, the most of one profile, engines, the driver's eight. Where they are: one mask each, none
 * of which overlap. The first does not depend on places and the second on nothing else, so a search
 * asks the first once and then only looks at masks.
 */
#pragma once

#include "share/mig_geometry.h"

enum { MIG_BOARD_MAX_GIS = 8, MIG_N_ENGINES = 5, MIG_MAX_SLICES = 8 };

struct mig_board_profile {
    const struct mig_gi_profile *of;
    uint32_t slices, max;
    uint32_t engines[MIG_N_ENGINES];
    uint32_t size; /* memory slices, of its first place */
    size_t n_places;
    uint32_t places[MIG_MAX_PLACEMENTS]; /* masks, the lowest start first */
};

struct mig_board {
    const struct mig_gpu *gpu; /* borrowed, as are the profiles */
    uint32_t slices;
    uint32_t engines[MIG_N_ENGINES]; /* what there is of each kind */
    uint32_t n_profiles;
    struct mig_board_profile profiles[MIG_MAX_GI_PROFILES];
    uint8_t order[MIG_MAX_GI_PROFILES]; /* profiles, the largest first */
};

/* How many GPU instances of each profile. */
struct mig_counts {
    uint8_t n[MIG_MAX_GI_PROFILES];
};

void mig_board_make(const struct mig_gpu *gpu, struct mig_board *ret);

/* Its number, or -1. */
int mig_board_find(const struct mig_board *board, uint32_t gi_profile);

/* Whether so many can be together, wherever they are. */
bool mig_board_allows(const struct mig_board *board, const struct mig_counts *counts);
/* A mask of the profiles of which one more could be beside them. */
uint32_t mig_board_addable(const struct mig_board *board, const struct mig_counts *counts);
/* How many (profile, place) pairs of these profiles are free. */
uint32_t mig_board_capacity(const struct mig_board *board, uint32_t addable, uint32_t used);

/* A mask of memory or compute slices; 0 where it would leave the 32 that fit. */
uint32_t mig_mask(const struct mig_placement *place);
