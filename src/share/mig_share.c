#include "share/mig_share.h"

/* The bins of one profile: present instances that stay, in the order in which they are filled. */
struct bins {
    uint32_t slices;
    size_t n_kept, n; /* with new ones behind them */
    uint8_t present[MIG_MAX_BINS];
    uint8_t free[MIG_MAX_BINS];
    struct mig_sizes left; /* what is still to be put somewhere */
};

static uint8_t all_slices(uint32_t slices)
{
    return (uint8_t)((1u << slices) - 1);
}

/* ---- whole devices only ---- */

static void share_of_wholes(const struct mig_problem *problem, uint32_t slices, uint32_t wanted,
                            uint32_t kept, struct mig_share *ret)
{
    uint32_t n_kept = (uint32_t)__builtin_popcount(kept);

    if (n_kept > wanted)
        return;
    for (uint32_t rest = kept; rest; rest &= rest - 1) {
        int i = __builtin_ctz(rest);
        const struct mig_present *present = &problem->present[i];

        if (present->pinned && !present->whole)
            return;
        if (present->whole) {
            ret->kept_cis[i] = 1;
            ret->kept_slices += slices;
        }
    }
    ret->n_new = wanted - n_kept;
    ret->valid = true;
}

/* ---- parts ---- */

/* The bins when these compute instances stay; false when one of them is not wanted. */
static bool bins_make(const struct mig_problem *problem, const struct mig_sizes *wanted,
                      uint32_t slices, uint32_t kept, const uint8_t *kept_cis, struct bins *ret)
{
    *ret = (struct bins){ .slices = slices, .left = *wanted };
    /* Those with something in them first: they are filled before another is opened. */
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t rest = kept; rest; rest &= rest - 1) {
            int i = __builtin_ctz(rest);
            const struct mig_present *present = &problem->present[i];
            uint8_t free = all_slices(slices);

            if ((kept_cis[i] == 0) != (pass == 1))
                continue;
            for (uint32_t cis = kept_cis[i]; cis; cis &= cis - 1) {
                const struct mig_present_ci *ci = &present->cis[__builtin_ctz(cis)];
                if (ci->size == 0 || ret->left.n[ci->size] == 0)
                    return false;
                ret->left.n[ci->size]--;
                free &= (uint8_t)~ci->mask;
            }
            ret->present[ret->n] = (uint8_t)i;
            ret->free[ret->n++] = free;
        }
    ret->n_kept = ret->n;
    return true;
}

static bool bins_pack(struct mig_problem *problem, struct bins *bins, size_t n_new,
                      struct mig_packing *ret)
{
    bins->n = bins->n_kept;
    while (bins->n < bins->n_kept + n_new)
        bins->free[bins->n++] = all_slices(bins->slices);
    return mig_pack(bins->slices, &bins->left, bins->free, bins->n, &problem->budget, ret);
}

static void pinned_cis(const struct mig_problem *problem, uint32_t kept, uint8_t *ret)
{
    for (uint32_t rest = kept; rest; rest &= rest - 1) {
        int i = __builtin_ctz(rest);
        for (size_t j = 0; j < problem->present[i].n_cis; j++)
            ret[i] |= (uint8_t)(problem->present[i].cis[j].pinned << j);
    }
}

/* The choice of compute instances that stay: the most slices with which the rest still fits. */
struct choice {
    struct mig_problem *problem;
    const struct mig_sizes *wanted;
    uint32_t slices, kept, n_new;
    size_t n;
    struct {
        uint8_t gi, ci, size;
    } items[MIG_BOARD_MAX_GIS * MIG_MAX_COMPUTE_INSTANCES]; /* the largest first */
    uint8_t cis[MIG_BOARD_MAX_GIS];
    uint32_t best_slices;
    uint8_t best[MIG_BOARD_MAX_GIS];
};

static void choice_add(struct choice *choice, uint8_t gi, uint8_t ci, uint8_t size)
{
    size_t at = choice->n++;

    for (; at > 0 && choice->items[at - 1].size < size; at--)
        choice->items[at] = choice->items[at - 1];
    choice->items[at].gi = gi;
    choice->items[at].ci = ci;
    choice->items[at].size = size;
}

static void choice_list(struct choice *choice)
{
    for (uint32_t rest = choice->kept; rest; rest &= rest - 1) {
        uint8_t i = (uint8_t)__builtin_ctz(rest);
        const struct mig_present *present = &choice->problem->present[i];

        for (size_t j = 0; j < present->n_cis; j++)
            if (!present->cis[j].pinned && present->cis[j].size > 0 &&
                choice->wanted->n[present->cis[j].size] > 0)
                choice_add(choice, i, (uint8_t)j, present->cis[j].size);
    }
}

static void choose(struct choice *choice, size_t at, uint32_t kept_slices, uint32_t rest_slices)
{
    struct bins bins;

    if (choice->problem->budget == 0 || kept_slices + rest_slices <= choice->best_slices)
        return;
    choice->problem->budget--;
    if (at == choice->n) {
        if (!bins_make(choice->problem, choice->wanted, choice->slices, choice->kept, choice->cis,
                       &bins) ||
            !bins_pack(choice->problem, &bins, choice->n_new, NULL))
            return;
        choice->best_slices = kept_slices;
        memcpy(choice->best, choice->cis, sizeof(choice->best));
        return;
    }
    uint8_t size = choice->items[at].size, gi = choice->items[at].gi;
    uint8_t bit = (uint8_t)(1u << choice->items[at].ci);
    choice->cis[gi] |= bit;
    choose(choice, at + 1, kept_slices + size, rest_slices - size);
    choice->cis[gi] &= (uint8_t)~bit;
    choose(choice, at + 1, kept_slices, rest_slices - size);
}

/* An instance without a compute instance that stays must be needed for others. */
static bool needed(struct mig_problem *problem, const struct mig_sizes *wanted, uint32_t slices,
                   uint32_t kept, const struct mig_share *share)
{
    for (uint32_t rest = kept; rest; rest &= rest - 1) {
        uint32_t bit = rest & -rest;
        struct bins bins;

        if (share->kept_cis[__builtin_ctz(bit)])
            continue;
        if (bins_make(problem, wanted, slices, kept & ~bit, share->kept_cis, &bins) &&
            bins_pack(problem, &bins, share->n_new, NULL))
            return false;
    }
    return true;
}

static bool fewest_new(struct mig_problem *problem, struct bins *bins, uint32_t *ret)
{
    for (uint32_t n = 0; bins->n_kept + n <= MIG_MAX_BINS; n++)
        if (bins_pack(problem, bins, n, NULL)) {
            *ret = n;
            return true;
        }
    return false;
}

static void share_of_parts(struct mig_problem *problem, const struct mig_sizes *wanted,
                           uint32_t slices, uint32_t kept, struct mig_share *ret)
{
    struct choice choice = {
        .problem = problem,
        .wanted = wanted,
        .slices = slices,
        .kept = kept,
    };
    struct bins bins;
    uint32_t rest = 0;

    pinned_cis(problem, kept, choice.cis);
    memcpy(choice.best, choice.cis, sizeof(choice.best));
    if (!bins_make(problem, wanted, slices, kept, choice.cis, &bins) ||
        !fewest_new(problem, &bins, &choice.n_new))
        return;
    choice_list(&choice);
    for (size_t i = 0; i < choice.n; i++)
        rest += choice.items[i].size;
    choose(&choice, 0, 0, rest);

    ret->n_new = choice.n_new;
    ret->kept_slices = choice.best_slices;
    memcpy(ret->kept_cis, choice.best, sizeof(ret->kept_cis));
    ret->valid = needed(problem, wanted, slices, kept, ret);
}

void mig_share_make(struct mig_problem *problem, const struct mig_demand *demand, uint32_t profile,
                    uint32_t kept, struct mig_share *ret)
{
    const struct mig_sizes *wanted = &demand->of[profile];
    uint32_t slices = problem->board->profiles[profile].slices;

    *ret = (struct mig_share){};
    if (demand->parts & 1u << profile)
        share_of_parts(problem, wanted, slices, kept, ret);
    else
        share_of_wholes(problem, slices, wanted->n[slices], kept, ret);
}

/* ---- into the target ---- */

static void add_ci(struct mig_target_gi *gi, int present, uint32_t start, uint32_t size)
{
    if (gi->n_cis == MIG_MAX_COMPUTE_INSTANCES)
        return;
    gi->cis[gi->n_cis++] = (struct mig_target_ci){
        .present = present,
        .start = (uint8_t)start,
        .size = (uint8_t)size,
    };
}

/* The target's n-th new GPU instance of the profile, or the one that stays. */
static struct mig_target_gi *find_bin(struct mig_target *target, const struct bins *bins,
                                      uint32_t profile, size_t bin)
{
    size_t nth = bin - bins->n_kept;

    for (size_t i = 0; i < target->n; i++) {
        struct mig_target_gi *gi = &target->gis[i];

        if (bin < bins->n_kept ? gi->present == bins->present[bin]
                               : gi->present < 0 && gi->profile == profile && nth-- == 0)
            return gi;
    }
    return NULL;
}

static void fill_kept(const struct mig_problem *problem, const struct mig_share *share,
                      struct mig_target_gi *gi)
{
    const struct mig_present *present = &problem->present[gi->present];

    for (uint32_t cis = share->kept_cis[gi->present]; cis; cis &= cis - 1) {
        int j = __builtin_ctz(cis);
        add_ci(gi, j, (uint32_t)__builtin_ctz(present->cis[j].mask), present->cis[j].size);
    }
}

void mig_share_fill(struct mig_problem *problem, const struct mig_demand *demand, uint32_t profile,
                    const struct mig_share *share, struct mig_target *target)
{
    uint32_t slices = problem->board->profiles[profile].slices, kept = 0;
    struct mig_packing packing = {};
    struct bins bins;

    for (size_t i = 0; i < target->n; i++)
        if (target->gis[i].profile == profile && target->gis[i].present >= 0) {
            kept |= 1u << target->gis[i].present;
            fill_kept(problem, share, &target->gis[i]);
        }
    /* What the share was made of fits again. */
    if (!bins_make(problem, &demand->of[profile], slices, kept, share->kept_cis, &bins) ||
        !bins_pack(problem, &bins, share->n_new, &packing))
        return;
    for (size_t i = 0; i < packing.n; i++) {
        struct mig_target_gi *gi = find_bin(target, &bins, profile, packing.items[i].bin);
        if (gi)
            add_ci(gi, -1, packing.items[i].start, packing.items[i].size);
    }
}
