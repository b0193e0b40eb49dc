#include "share/mig_board.h"

uint32_t mig_mask(const struct mig_placement *place)
{
    uint64_t end = (uint64_t)place->start + place->size;

    if (place->size == 0 || end > MIG_MAX_MEMORY_SLICES)
        return 0;
    return (uint32_t)((UINT64_C(1) << end) - (UINT64_C(1) << place->start));
}

static void add_place(struct mig_board_profile *profile, uint32_t mask)
{
    size_t at = profile->n_places;

    if (mask == 0)
        return;
    /* Lowest bits differ where starts do. */
    for (; at > 0 && (profile->places[at - 1] & -profile->places[at - 1]) > (mask & -mask); at--)
        profile->places[at] = profile->places[at - 1];
    profile->places[at] = mask;
    profile->n_places++;
}

static void add_profile(struct mig_board *board, const struct mig_gi_profile *of)
{
    struct mig_board_profile *profile = &board->profiles[board->n_profiles++];

    *profile = (struct mig_board_profile){
        .of = of,
        .slices = of->slices,
        .max = MIN(of->max_instances, (uint32_t)MIG_MAX_GPU_INSTANCES),
        .engines = { of->copy_engines, of->decoders, of->encoders, of->jpegs, of->ofas },
        .size = of->n_placements ? of->placements[0].size : 0,
    };
    for (size_t i = 0; i < MIN(of->n_placements, (size_t)MIG_MAX_PLACEMENTS); i++)
        add_place(profile, mig_mask(&of->placements[i]));
}

static bool larger(const struct mig_board_profile *a, const struct mig_board_profile *b)
{
    return a->size != b->size ? a->size > b->size : a->slices > b->slices;
}

static void sort(struct mig_board *board)
{
    for (uint32_t i = 0; i < board->n_profiles; i++) {
        uint32_t at = i;
        for (; at > 0 && larger(&board->profiles[i], &board->profiles[board->order[at - 1]]); at--)
            board->order[at] = board->order[at - 1];
        board->order[at] = (uint8_t)i;
    }
}

void mig_board_make(const struct mig_gpu *gpu, struct mig_board *ret)
{
    ret->gpu = gpu;
    ret->slices = gpu->slices;
    ret->n_profiles = 0;
    memset(ret->engines, 0, sizeof(ret->engines));
    for (size_t i = 0; i < MIN(gpu->n_profiles, (size_t)MIG_MAX_GI_PROFILES); i++)
        add_profile(ret, &gpu->profiles[i]);
    /* NVML promises each profile so many times, so at least that much there is (spec/mig §1.10:
     * one JPEG engine on an A100, so one `+me`; with `+me.all` only `-me` is left). */
    for (uint32_t i = 0; i < ret->n_profiles; i++)
        for (size_t e = 0; e < MIG_N_ENGINES; e++)
            ret->engines[e] =
                MAX(ret->engines[e], ret->profiles[i].max * ret->profiles[i].engines[e]);
    sort(ret);
}

int mig_board_find(const struct mig_board *board, uint32_t gi_profile)
{
    for (uint32_t i = 0; i < board->n_profiles; i++)
        if (board->profiles[i].of->gi_profile == gi_profile)
            return (int)i;
    return -1;
}

/* ---- which can be together ---- */

struct sums {
    uint32_t n, slices;
    uint32_t engines[MIG_N_ENGINES];
};

static void add(struct sums *sums, const struct mig_board_profile *profile, uint32_t n)
{
    sums->n += n;
    sums->slices += n * profile->slices;
    for (size_t e = 0; e < MIG_N_ENGINES; e++)
        sums->engines[e] += n * profile->engines[e];
}

static bool within(const struct mig_board *board, const struct sums *sums)
{
    if (sums->n > MIG_BOARD_MAX_GIS || sums->slices > board->slices)
        return false;
    for (size_t e = 0; e < MIG_N_ENGINES; e++)
        if (sums->engines[e] > board->engines[e])
            return false;
    return true;
}

static bool count(const struct mig_board *board, const struct mig_counts *counts, struct sums *sums)
{
    *sums = (struct sums){};
    for (uint32_t i = 0; i < board->n_profiles; i++) {
        if (counts->n[i] > board->profiles[i].max)
            return false;
        if (counts->n[i])
            add(sums, &board->profiles[i], counts->n[i]);
    }
    return true;
}

bool mig_board_allows(const struct mig_board *board, const struct mig_counts *counts)
{
    struct sums sums;

    return count(board, counts, &sums) && within(board, &sums);
}

uint32_t mig_board_addable(const struct mig_board *board, const struct mig_counts *counts)
{
    struct sums sums;
    uint32_t addable = 0;

    if (!count(board, counts, &sums))
        return 0;
    for (uint32_t i = 0; i < board->n_profiles; i++) {
        struct sums more = sums;
        if (counts->n[i] == board->profiles[i].max)
            continue;
        add(&more, &board->profiles[i], 1);
        if (within(board, &more))
            addable |= 1u << i;
    }
    return addable;
}

uint32_t mig_board_capacity(const struct mig_board *board, uint32_t addable, uint32_t used)
{
    uint32_t n = 0;

    for (; addable; addable &= addable - 1) {
        const struct mig_board_profile *profile = &board->profiles[__builtin_ctz(addable)];
        for (size_t i = 0; i < profile->n_places; i++)
            n += !(profile->places[i] & used);
    }
    return n;
}
