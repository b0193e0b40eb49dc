/*
 * Compute instances into GPU instances of one profile: `1c.3g.40gb: 3` is one 3g with three 1c, the
 * fourth needs a second 3g (spec/mig §1.9). A GPU instance is a bin with free compute slices; whole
 * devices take an empty bin, parts start at multiples of the next power of two.
 */
#pragma once

#include "share/mig_board.h"

enum { MIG_MAX_BINS = MIG_BOARD_MAX_GIS };

/* How many devices of each size in compute slices; 0 is not used. */
struct mig_sizes {
    uint32_t n[MIG_MAX_SLICES + 1];
};

/* A compute instance that was put somewhere. */
struct mig_packed {
    uint8_t bin, start, size;
};

struct mig_packing {
    size_t n;
    struct mig_packed items[MIG_MAX_BINS * MIG_MAX_SLICES];
};

/*
 * Whether all fit; where, in *ret (may be NULL). `free` are the bins' free slices, in the order in
 * which they are filled. Exact: larger devices are tried at all places, of those with two and one
 * slices any place is as good as another. Gives up (false) when *budget is used up, which no
 * board's sizes come near.
 */
bool mig_pack(uint32_t slices, const struct mig_sizes *sizes, const uint8_t *free, size_t n_bins,
              uint32_t *budget, struct mig_packing *ret);
