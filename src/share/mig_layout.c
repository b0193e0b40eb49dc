/* What is there as a layout, and whether that is what is wanted. */
#include "share/mig_plan.h"

static struct mig_placed placed_of(const struct mig_gpu_instance *gi)
{
    struct mig_placed placed = {
        .gi_profile = gi->gi_profile,
        .placement = gi->placement,
        .n_cis = gi->n_cis,
    };

    for (size_t i = 0; i < gi->n_cis; i++)
        placed.cis[i] = (struct mig_placed_ci){
            .ci_profile = gi->cis[i].ci_profile,
            .placement = gi->cis[i].placement,
        };
    return placed;
}

void mig_layout_of(const struct mig_gpu *gpu, struct mig_layout *ret)
{
    *ret = (struct mig_layout){ .enabled = gpu->enabled };
    if (!gpu->enabled)
        return;
    ret->n_gis = gpu->n_gis;
    for (size_t i = 0; i < gpu->n_gis; i++)
        ret->gis[i] = placed_of(&gpu->gis[i]);
}

/* ---- equal ---- */

static bool same_place(const struct mig_placement *a, const struct mig_placement *b)
{
    return a->start == b->start && a->size == b->size;
}

/* Both with a known place (`placed`), or either without. */
static bool ci_matches(const struct mig_placed_ci *a, const struct mig_placed_ci *b, bool placed)
{
    bool both = a->placement.size > 0 && b->placement.size > 0;

    return a->ci_profile == b->ci_profile && both == placed &&
           (!placed || same_place(&a->placement, &b->placement));
}

/* Pairs what pairs; masks of what has a partner. */
static void pair_cis(const struct mig_placed *a, const struct mig_placed *b, bool placed,
                     uint32_t *paired_a, uint32_t *paired_b)
{
    for (size_t i = 0; i < a->n_cis; i++)
        for (size_t j = 0; j < b->n_cis && !(*paired_a & 1u << i); j++) {
            if (*paired_b & 1u << j || !ci_matches(&a->cis[i], &b->cis[j], placed))
                continue;
            *paired_a |= 1u << i;
            *paired_b |= 1u << j;
        }
}

static bool cis_equal(const struct mig_placed *a, const struct mig_placed *b)
{
    uint32_t paired_a = 0, paired_b = 0;

    if (a->n_cis != b->n_cis)
        return false;
    pair_cis(a, b, true, &paired_a, &paired_b);
    pair_cis(a, b, false, &paired_a, &paired_b);
    return paired_a == (1u << a->n_cis) - 1;
}

static const struct mig_placed *find_placed(const struct mig_layout *layout,
                                            const struct mig_placed *like)
{
    for (size_t i = 0; i < layout->n_gis; i++)
        if (layout->gis[i].gi_profile == like->gi_profile &&
            same_place(&layout->gis[i].placement, &like->placement))
            return &layout->gis[i];
    return NULL;
}

bool mig_layout_equal(const struct mig_layout *a, const struct mig_layout *b)
{
    if (a->enabled != b->enabled || a->n_gis != b->n_gis)
        return false;
    /* No two instances are at one place, so what is found once is not needed twice. */
    for (size_t i = 0; i < a->n_gis; i++) {
        const struct mig_placed *other = find_placed(b, &a->gis[i]);
        if (!other || !cis_equal(&a->gis[i], other))
            return false;
    }
    return true;
}

/* ---- met ---- */

static size_t count_devices(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                            uint32_t slices)
{
    size_t n = 0;

    for (size_t i = 0; i < gpu->n_gis; i++)
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++)
            n += gpu->gis[i].gi_profile == profile->gi_profile &&
                 mig_ci_profile_slices(gpu->gis[i].cis[j].ci_profile) == slices;
    return n;
}

/* Two names may mean one profile (1g.5gb and 1c.1g.5gb), so wishes are added up. */
static bool want_met(const struct mig_gpu *gpu, const struct mig_wish *wish, size_t at,
                     uint64_t *ret_n)
{
    const struct mig_gi_profile *profile, *other;
    uint64_t wanted = 0;
    uint32_t ci;

    *ret_n = 0;
    if (wish->wants[at].count == 0)
        return true;
    if (mig_gpu_resolve(gpu, &wish->wants[at].profile, &profile, &ci, NULL) < 0)
        return false;
    for (size_t i = 0; i < wish->n_wants; i++) {
        const struct mig_want *want = &wish->wants[i];
        if (want->profile.c == wish->wants[at].profile.c && want->count > 0 &&
            mig_gpu_resolve(gpu, &want->profile, &other, &ci, NULL) >= 0 && other == profile)
            wanted += want->count;
    }
    *ret_n = wish->wants[at].count;
    return count_devices(gpu, profile, wish->wants[at].profile.c) == wanted;
}

static bool devices_met(const struct mig_gpu *gpu, const struct mig_wish *wish)
{
    uint64_t wanted = 0, there = 0;

    for (size_t i = 0; i < wish->n_wants; i++) {
        uint64_t n;
        if (!want_met(gpu, wish, i, &n))
            return false;
        wanted += n;
    }
    for (size_t i = 0; i < gpu->n_gis; i++)
        there += gpu->gis[i].n_cis;
    return wanted == there;
}

bool mig_wish_met(const struct mig_gpu *gpu, const struct mig_wish *wish)
{
    struct mig_layout layout;

    switch (wish->kind) {
    case MIG_WISH_NOTHING:
        return true;
    case MIG_WISH_MODE:
        return !gpu->problem && gpu->enabled == wish->enabled;
    case MIG_WISH_DEVICES:
        return !gpu->problem && gpu->enabled && devices_met(gpu, wish);
    case MIG_WISH_LAYOUT:
        mig_layout_of(gpu, &layout);
        return !gpu->problem && mig_layout_equal(&layout, wish->layout);
    }
    return false;
}
