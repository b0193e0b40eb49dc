#include "share/mig_goal.h"

#include <errno.h>
#include <stdio.h>

/* ---- sorting ---- */

static void swap_gis(struct mig_goal *goal, size_t a, size_t b)
{
    struct mig_placed gi = goal->after.gis[a];
    int8_t present = goal->gi[a], cis[MIG_MAX_COMPUTE_INSTANCES];

    memcpy(cis, goal->ci[a], sizeof(cis));
    goal->after.gis[a] = goal->after.gis[b];
    goal->gi[a] = goal->gi[b];
    memcpy(goal->ci[a], goal->ci[b], sizeof(cis));
    goal->after.gis[b] = gi;
    goal->gi[b] = present;
    memcpy(goal->ci[b], cis, sizeof(cis));
}

static void sort_gis(struct mig_goal *goal)
{
    for (size_t i = 1; i < goal->after.n_gis; i++)
        for (size_t at = i; at > 0 && goal->after.gis[at - 1].placement.start >
                                          goal->after.gis[at].placement.start;
             at--)
            swap_gis(goal, at - 1, at);
}

/* Puts a compute instance where its start belongs. */
static void add_ci(struct mig_goal *goal, size_t gi, const struct mig_placed_ci *ci, int present)
{
    struct mig_placed *placed = &goal->after.gis[gi];
    size_t at = placed->n_cis++;

    for (; at > 0 && placed->cis[at - 1].placement.start > ci->placement.start; at--) {
        placed->cis[at] = placed->cis[at - 1];
        goal->ci[gi][at] = goal->ci[gi][at - 1];
    }
    placed->cis[at] = *ci;
    goal->ci[gi][at] = (int8_t)present;
}

/* One whose place the driver did not tell: next to it no places can be named. */
static bool has_unplaced(const struct mig_gpu_instance *gi)
{
    for (size_t i = 0; i < gi->n_cis; i++)
        if (gi->cis[i].placement.size == 0)
            return true;
    return false;
}

/* ---- from what was found ---- */

static void add_target_ci(const struct mig_problem *problem, const struct mig_target_gi *from,
                          const struct mig_target_ci *ci, struct mig_goal *goal, size_t at)
{
    const struct mig_gpu *gpu = problem->board->gpu;
    const struct mig_gi_profile *profile = problem->board->profiles[from->profile].of;
    struct mig_placed_ci placed;

    if (ci->present >= 0) {
        const struct mig_compute_instance *there = &gpu->gis[from->present].cis[ci->present];
        placed = (struct mig_placed_ci){ there->ci_profile, there->placement };
    } else {
        placed = (struct mig_placed_ci){
            .ci_profile = ci->size == profile->slices ? mig_gpu_ci_whole(gpu, profile)
                                                      : mig_ci_whole(ci->size),
            .placement = { ci->start, ci->size },
        };
        if (from->present >= 0 && has_unplaced(&gpu->gis[from->present]))
            placed.placement = (struct mig_placement){};
    }
    add_ci(goal, at, &placed, ci->present);
}

void mig_goal_of_target(const struct mig_problem *problem, const struct mig_target *target,
                        struct mig_goal *ret)
{
    *ret = (struct mig_goal){ .after = { .enabled = true, .n_gis = target->n } };
    for (size_t i = 0; i < target->n; i++) {
        const struct mig_target_gi *from = &target->gis[i];

        ret->gi[i] = (int8_t)from->present;
        ret->after.gis[i] = (struct mig_placed){
            .gi_profile = problem->board->profiles[from->profile].of->gi_profile,
            .placement = { (uint32_t)__builtin_ctz(from->mask),
                           (uint32_t)__builtin_popcount(from->mask) },
        };
        for (size_t j = 0; j < from->n_cis; j++)
            add_target_ci(problem, from, &from->cis[j], ret, i);
    }
    sort_gis(ret);
}

/* ---- from a layout: GPU instances ---- */

static int check_place(const struct mig_board_profile *profile, const struct mig_placed *placed,
                       uint32_t *used, struct err *err)
{
    uint32_t mask = mig_mask(&placed->placement);
    bool legal = false;

    for (size_t i = 0; i < profile->n_places; i++)
        legal = legal || (mask && profile->places[i] == mask);
    if (!legal)
        return err_set(err, ENOSPC, "no %s can be at %u", profile->of->name,
                       placed->placement.start);
    if (*used & mask)
        return err_set(err, ENOSPC, "%s at %u and another are in one place", profile->of->name,
                       placed->placement.start);
    *used |= mask;
    return 0;
}

static int check_layout(const struct mig_board *board, const struct mig_layout *layout,
                        struct err *err)
{
    struct mig_counts counts = {};
    uint32_t used = 0;

    if (layout->n_gis > MIG_BOARD_MAX_GIS)
        return err_set(err, ENOSPC, "a GPU has at most %d GPU instances, not %zu",
                       MIG_BOARD_MAX_GIS, layout->n_gis);
    for (size_t i = 0; i < layout->n_gis; i++) {
        int profile = mig_board_find(board, layout->gis[i].gi_profile);

        if (profile < 0)
            return err_set(err, ENOENT, "%s has no GPU instance profile %u", board->gpu->name,
                           layout->gis[i].gi_profile);
        int r = check_place(&board->profiles[profile], &layout->gis[i], &used, err);
        if (r < 0)
            return r;
        counts.n[profile]++;
    }
    if (!mig_board_allows(board, &counts))
        return err_set(err, ENOSPC,
                       "that is more than the GPU's slices and engines are enough for");
    return 0;
}

static int find_present(const struct mig_gpu *gpu, const struct mig_placed *placed)
{
    for (size_t i = 0; gpu->enabled && i < gpu->n_gis; i++)
        if (gpu->gis[i].gi_profile == placed->gi_profile &&
            gpu->gis[i].placement.start == placed->placement.start)
            return (int)i;
    return -1;
}

/* ---- from a layout: compute instances ---- */

/* Of one GPU instance: which of those that are there each wanted one is, -1 none. */
struct match {
    int present[MIG_MAX_COMPUTE_INSTANCES];
    uint32_t taken;
};

static bool same(const struct mig_placed_ci *wanted, const struct mig_compute_instance *there,
                 bool exact)
{
    bool both = wanted->placement.size > 0 && there->placement.size > 0;

    return wanted->ci_profile == there->ci_profile && both == exact &&
           (!exact || (wanted->placement.start == there->placement.start &&
                       wanted->placement.size == there->placement.size));
}

static void match_cis(const struct mig_placed *placed, const struct mig_gpu_instance *gi,
                      bool exact, struct match *match)
{
    for (size_t i = 0; i < placed->n_cis; i++)
        for (size_t j = 0; j < gi->n_cis && match->present[i] < 0; j++)
            if (!(match->taken & 1u << j) && same(&placed->cis[i], &gi->cis[j], exact)) {
                match->present[i] = (int)j;
                match->taken |= 1u << j;
            }
}

/* The compute instances of one GPU instance while they are given places. */
struct places {
    const struct mig_gpu *gpu;
    const struct mig_gi_profile *profile;
    uint8_t free;          /* slices */
    struct mig_sizes left; /* of those that may be anywhere */
};

static int take_slices(struct places *places, uint32_t mask, struct err *err)
{
    if ((places->free & mask) != mask)
        return err_set(err, ENOSPC, "two compute instances in %s are in one place",
                       places->profile->name);
    places->free &= (uint8_t)~mask;
    return 0;
}

/* A new one, where it is told to be or (later) where it fits. */
static int place_new(struct places *places, const struct mig_placed_ci *ci, struct err *err)
{
    uint32_t size = mig_gpu_ci_size(places->gpu, places->profile, ci->ci_profile);

    if (size == 0)
        return err_set(err, ENOENT, "%s has no compute instance profile %u", places->profile->name,
                       ci->ci_profile);
    if (ci->placement.size == 0) {
        places->left.n[size]++;
        return 0;
    }
    if (ci->placement.size != size ||
        !mig_ci_start_legal(places->profile->slices, ci->placement.start, size))
        return err_set(err, ENOSPC, "no compute instance of %u slices can be at %u of %s", size,
                       ci->placement.start, places->profile->name);
    return take_slices(places, mig_mask(&ci->placement), err);
}

/* Those that may be anywhere, into what is left. */
static int place_rest(struct places *places, const struct match *match, struct mig_placed_ci *cis,
                      size_t n_cis, struct err *err)
{
    struct mig_packing packing = {};
    uint32_t budget = MIG_SEARCH_BUDGET;

    if (!mig_pack(places->profile->slices, &places->left, &places->free, 1, &budget, &packing))
        return err_set(err, ENOSPC, "the compute instances wanted in %s do not fit into it",
                       places->profile->name);
    for (size_t i = 0; i < n_cis; i++)
        for (size_t j = 0; j < packing.n && match->present[i] < 0 && cis[i].placement.size == 0;
             j++) {
            struct mig_packed *item = &packing.items[j];
            if (item->size != mig_gpu_ci_size(places->gpu, places->profile, cis[i].ci_profile))
                continue;
            cis[i].placement = (struct mig_placement){ item->start, item->size };
            item->size = 0; /* taken */
        }
    return 0;
}

static int place_cis(const struct mig_problem *problem, const struct mig_placed *placed,
                     const struct mig_gi_profile *profile, const struct mig_present *present,
                     const struct match *match, struct mig_placed_ci *ret, struct err *err)
{
    struct places places = {
        .gpu = problem->board->gpu,
        .profile = profile,
        .free = (uint8_t)((1u << MIN(profile->slices, (uint32_t)MIG_MAX_SLICES)) - 1),
    };

    for (size_t i = 0; i < placed->n_cis; i++) {
        int r = match->present[i] >= 0
                    ? take_slices(&places, present->cis[match->present[i]].mask, err)
                    : place_new(&places, &placed->cis[i], err);
        if (r < 0)
            return r;
        ret[i] = placed->cis[i];
    }
    return place_rest(&places, match, ret, placed->n_cis, err);
}

static int add_placed(const struct mig_problem *problem, const struct mig_placed *placed,
                      struct mig_goal *goal, size_t at, struct err *err)
{
    const struct mig_gpu *gpu = problem->board->gpu;
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, placed->gi_profile);
    int there = find_present(gpu, placed);
    const struct mig_gpu_instance *gi = there >= 0 ? &gpu->gis[there] : NULL;
    const struct mig_present *present = there >= 0 ? &problem->present[there] : NULL;
    struct mig_placed_ci cis[MIG_MAX_COMPUTE_INSTANCES];
    struct match exact, match;

    memset(exact.present, -1, sizeof(exact.present));
    exact.taken = 0;
    if (gi)
        match_cis(placed, gi, true, &exact);
    match = exact;
    if (gi)
        match_cis(placed, gi, false, &match);
    /* One without a place may be in the way of one with a place; then it is made anew. */
    int r = place_cis(problem, placed, profile, present, &match, cis, NULL);
    if (r < 0) {
        match = exact;
        r = place_cis(problem, placed, profile, present, &match, cis, err);
    }
    if (r < 0)
        return r;
    goal->gi[at] = (int8_t)there;
    goal->after.gis[at] =
        (struct mig_placed){ .gi_profile = placed->gi_profile, .placement = placed->placement };
    for (size_t i = 0; i < placed->n_cis; i++) {
        if (match.present[i] >= 0)
            cis[i].placement = gi->cis[match.present[i]].placement;
        else if (gi && has_unplaced(gi))
            cis[i].placement = (struct mig_placement){};
        add_ci(goal, at, &cis[i], match.present[i]);
    }
    return 0;
}

/* Present instances of which something pinned is not in it: a mask. */
static uint32_t find_missing(const struct mig_problem *problem, const struct mig_goal *goal)
{
    uint32_t kept[MIG_BOARD_MAX_GIS] = {}, missing = 0;

    for (size_t i = 0; i < goal->after.n_gis; i++)
        for (size_t j = 0; goal->gi[i] >= 0 && j < goal->after.gis[i].n_cis; j++)
            if (goal->ci[i][j] >= 0)
                kept[goal->gi[i]] |= 1u << goal->ci[i][j];
    for (size_t i = 0; i < problem->n_present; i++)
        for (size_t j = 0; j < problem->present[i].n_cis; j++)
            if (problem->present[i].cis[j].pinned && !(kept[i] & 1u << j))
                missing |= 1u << i;
    return missing;
}

int mig_goal_of_layout(const struct mig_problem *problem, const struct mig_layout *layout,
                       struct mig_goal *ret, uint32_t *ret_missing, struct err *err)
{
    struct mig_goal goal = { .after = { .enabled = true, .n_gis = layout->n_gis } };
    int r = check_layout(problem->board, layout, err);

    for (size_t i = 0; r >= 0 && i < layout->n_gis; i++)
        r = add_placed(problem, &layout->gis[i], &goal, i, err);
    if (r < 0)
        return r;
    sort_gis(&goal);
    *ret_missing = find_missing(problem, &goal);
    if (*ret_missing)
        return err_set(err, EBUSY, "somebody holds what is not in it");
    *ret = goal;
    return 0;
}

void mig_goal_demand(const struct mig_board *board, const struct mig_layout *layout,
                     struct mig_demand *ret)
{
    *ret = (struct mig_demand){};
    for (size_t i = 0; i < layout->n_gis; i++) {
        int profile = mig_board_find(board, layout->gis[i].gi_profile);

        for (size_t j = 0; profile >= 0 && j < layout->gis[i].n_cis; j++) {
            uint32_t size = mig_ci_profile_slices(layout->gis[i].cis[j].ci_profile);
            if (size > 0 && size <= board->profiles[profile].slices && size <= MIG_MAX_SLICES)
                mig_demand_add(ret, board, (uint32_t)profile, size, 1);
        }
    }
}
