/*
 * Boards, partitions and wishes of all kinds: a plan leads to what was wanted, touches nothing that
 * somebody holds, and from wherever it is left another leads back; or it is refused with a
 * sentence.
 *
 * Every byte is a decision, and there is no input without a meaning. The first one chooses a board:
 * one of the three families there are (spec/mig §2.1), or one made of the bytes that follow.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "share/mig_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth, const char *what)
{
    if (truth)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

struct dice {
    const uint8_t *data;
    size_t size;
};

static uint32_t roll(struct dice *dice, uint32_t sides)
{
    if (dice->size == 0)
        return 0;
    dice->size--;
    return *dice->data++ % sides;
}

/* ---- boards ---- */

struct row {
    uint8_t gi_profile, max, size, n, starts[7];
    uint8_t jpegs; /* one kind of engine is enough to run out of */
};

static const struct {
    uint32_t memory_slices, slices, device;
    int cc_major;
    struct row rows[12];
} families[] = {
    { 8,
      7,
      0x2330,
      9,
      { { 0, 7, 1, 7, { 0, 1, 2, 3, 4, 5, 6 }, 0 },
        { 1, 3, 2, 3, { 0, 2, 4 }, 0 },
        { 2, 2, 4, 2, { 0, 4 }, 0 },
        { 3, 1, 4, 1, { 0 }, 0 },
        { 4, 1, 8, 1, { 0 }, 1 },
        { 7, 1, 1, 7, { 0, 1, 2, 3, 4, 5, 6 }, 1 },
        { 9, 4, 2, 4, { 0, 2, 4, 6 }, 0 } } },
    { 4,
      4,
      0x20b7,
      8,
      { { 0, 4, 1, 4, { 0, 1, 2, 3 }, 0 },
        { 1, 2, 2, 2, { 0, 2 }, 0 },
        { 3, 1, 4, 1, { 0 }, 1 },
        { 7, 1, 1, 4, { 0, 1, 2, 3 }, 1 },
        { 8, 1, 2, 2, { 0, 2 }, 1 } } },
    { 12,
      4,
      0x2bb5,
      12,
      { { 0, 4, 3, 4, { 0, 3, 6, 9 }, 1 },
        { 1, 2, 6, 2, { 0, 6 }, 2 },
        { 3, 1, 12, 1, { 0 }, 4 },
        { 13, 4, 3, 4, { 0, 3, 6, 9 }, 0 },
        { 14, 2, 6, 2, { 0, 6 }, 0 },
        { 15, 1, 3, 4, { 0, 3, 6, 9 }, 4 } } },
};

static void name_profile(struct mig_gi_profile *profile, uint32_t gb)
{
    static char names[MIG_MAX_GI_PROFILES][MIG_PROFILE_NAME_MAX];
    static size_t n;
    uint32_t known = profile->gi_profile < MIG_GI_PROFILES ? profile->gi_profile : 0;
    struct mig_profile made = {};

    (void)!mig_profile_make(known, 0, 1024, (uint64_t)1 << 40, &made, NULL);
    profile->profile = (struct mig_profile){
        .c = profile->slices, .g = profile->slices, .gb = gb, .attributes = made.attributes
    };
    n = (n + 1) % MIG_MAX_GI_PROFILES;
    mig_profile_name(&profile->profile, names[n]);
    profile->name = names[n];
}

static void known_board(size_t family, struct mig_gpu *gpu)
{
    gpu->memory_slices = families[family].memory_slices;
    gpu->slices = families[family].slices;
    gpu->cc_major = families[family].cc_major;
    gpu->pci_device_id = families[family].device << 16;
    for (const struct row *row = families[family].rows; row->max; row++) {
        struct mig_gi_profile *profile = &gpu->profiles[gpu->n_profiles++];

        *profile = (struct mig_gi_profile){
            .gi_profile = row->gi_profile,
            .slices = mig_gi_profile_slices(row->gi_profile),
            .max_instances = row->max,
            .jpegs = row->jpegs,
            .n_placements = row->n,
        };
        name_profile(profile, 10u * row->size);
        for (size_t i = 0; i < row->n; i++)
            profile->placements[i] = (struct mig_placement){ row->starts[i], row->size };
    }
}

static void strange_board(struct dice *dice, struct mig_gpu *gpu)
{
    gpu->memory_slices = roll(dice, 2) ? 1 + roll(dice, 32) : 8;
    gpu->slices = roll(dice, 256);
    gpu->cc_major = (int)(8 + roll(dice, 3));
    gpu->n_profiles = roll(dice, MIG_MAX_GI_PROFILES + 1);
    for (uint32_t i = 0; i < gpu->n_profiles; i++) {
        struct mig_gi_profile *profile = &gpu->profiles[i];

        *profile = (struct mig_gi_profile){
            .gi_profile = i,
            .slices = roll(dice, 10),
            .max_instances = roll(dice, 256) * 77777777u,
            .decoders = roll(dice, 4),
            .jpegs = roll(dice, 3),
            .n_placements = roll(dice, MIG_MAX_PLACEMENTS + 1),
        };
        name_profile(profile, 1 + i);
        uint32_t size = roll(dice, 9), start = roll(dice, 40);
        for (size_t j = 0; j < profile->n_placements; j++) {
            profile->placements[j] = (struct mig_placement){ start, size };
            start += 1 + roll(dice, 4);
        }
    }
}

/* ---- what is there ---- */

static void some_instance(struct dice *dice, struct mig_gpu *gpu)
{
    const struct mig_gi_profile *profile;
    struct mig_step step = { .kind = MIG_STEP_CREATE_GI };

    if (gpu->n_profiles == 0)
        return;
    profile = &gpu->profiles[roll(dice, (uint32_t)gpu->n_profiles)];
    if (profile->n_placements == 0)
        return;
    step.gi_profile = profile->gi_profile;
    step.gi = profile->placements[roll(dice, (uint32_t)profile->n_placements)];
    if (mig_step_imagine(gpu, &step, NULL) < 0)
        return;
    step.kind = MIG_STEP_CREATE_CI;
    for (uint32_t n = roll(dice, 4); n > 0; n--) {
        step.ci_profile = roll(dice, 2) ? mig_gpu_ci_whole(gpu, profile) : roll(dice, 9);
        (void)!mig_step_imagine(gpu, &step, NULL);
    }
}

static void some_holders(struct dice *dice, struct mig_gpu *gpu)
{
    static char uuids[64][16];
    size_t n = 0;

    for (size_t i = 0; i < gpu->n_gis; i++)
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++) {
            struct mig_compute_instance *ci = &gpu->gis[i].cis[j];
            uint32_t what = roll(dice, 16);

            snprintf(uuids[n], sizeof(uuids[n]), "MIG-%zu", n);
            ci->uuid = uuids[n++ % 64];
            ci->held_by_process = what == 1;
            ci->holder = what == 1 ? "process 1" : what == 2 ? "pod a/b" : NULL;
        }
}

static void make_gpu(struct dice *dice, struct mig_gpu *gpu)
{
    uint32_t board = roll(dice, 4);

    *gpu = (struct mig_gpu){ .name = "board", .uuid = "GPU-0", .capable = true };
    if (board < ARRAY_LEN(families))
        known_board(board, gpu);
    else
        strange_board(dice, gpu);
    gpu->memory_bytes = 80 * MIB(1024);
    gpu->enabled = gpu->pending = true;
    for (uint32_t n = roll(dice, 9); n > 0; n--)
        some_instance(dice, gpu);
    some_holders(dice, gpu);
    switch (roll(dice, 16)) {
    case 1:
        gpu->enabled = gpu->pending = false;
        gpu->n_gis = 0;
        break;
    case 2:
        gpu->pending = false;
        break;
    case 3:
        gpu->enabled = false;
        gpu->n_gis = 0;
        break;
    case 4:
        gpu->capable = gpu->enabled = gpu->pending = false;
        gpu->n_gis = 0;
        break;
    case 5: /* an instance that no profile explains */
        if (gpu->n_gis > 0)
            gpu->gis[0].gi_profile = 50;
        break;
    }
}

/* ---- what is wanted ---- */

static void some_wants(struct dice *dice, const struct mig_gpu *gpu, struct mig_want *wants,
                       struct mig_wish *wish)
{
    wish->wants = wants;
    wish->n_wants = roll(dice, roll(dice, 8) ? 6 : MIG_MAX_WANTS + 1);
    for (size_t i = 0; i < wish->n_wants; i++) {
        struct mig_want *want = &wants[i];

        *want = (struct mig_want){ .name = "name", .count = roll(dice, 9) };
        if (want->count == 8)
            want->count = 5000;
        want->profile = (struct mig_profile){ 1, 1, roll(dice, 256), 0 };
        if (gpu->n_profiles > 0)
            want->profile = gpu->profiles[want->profile.gb % gpu->n_profiles].profile;
        if (roll(dice, 3) == 1)
            want->profile.c = roll(dice, 8);
    }
}

/* The layout of another board of the kind, sometimes spoilt. */
static void some_layout(struct dice *dice, const struct mig_gpu *gpu, struct mig_layout *layout)
{
    static struct mig_gpu other;

    other = *gpu;
    other.enabled = roll(dice, 8) != 1;
    other.n_gis = 0;
    for (uint32_t n = roll(dice, 9); n > 0; n--)
        some_instance(dice, &other);
    mig_layout_of(&other, layout);
    for (size_t i = 0; i < layout->n_gis; i++)
        for (size_t j = 0; j < layout->gis[i].n_cis; j++)
            if (roll(dice, 3) == 1)
                layout->gis[i].cis[j].placement = (struct mig_placement){};
    if (layout->n_gis > 0 && roll(dice, 8) == 1)
        layout->gis[0].placement.start = roll(dice, 256) * 16777216u;
    if (layout->n_gis > 0 && roll(dice, 8) == 1)
        layout->gis[0].cis[0].placement = (struct mig_placement){ roll(dice, 9), roll(dice, 9) };
    if (layout->enabled && roll(dice, 16) == 1)
        layout->n_gis = MIG_MAX_GPU_INSTANCES;
}

/* ---- what must be true ---- */

static bool has_device(const struct mig_gpu *gpu, const char *uuid)
{
    for (size_t i = 0; i < gpu->n_gis; i++)
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++)
            if (gpu->gis[i].cis[j].uuid && text_equal(gpu->gis[i].cis[j].uuid, uuid))
                return true;
    return false;
}

/* Process or, where pods stay, pod. */
static bool is_held(const struct mig_compute_instance *ci, bool may_stop_pods)
{
    return ci->held_by_process || (ci->holder && !may_stop_pods);
}

static void walk(struct mig_gpu *gpu, const struct mig_gpu_plan *plan, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct err err = {};

        if (mig_step_imagine(gpu, &plan->steps[i], &err) >= 0)
            continue;
        fprintf(stderr, "step %zu: %s\n", i, err.text);
        abort();
    }
}

static void check_held(const struct mig_gpu *before, const struct mig_gpu *after,
                       bool may_stop_pods)
{
    for (size_t i = 0; i < before->n_gis; i++)
        for (size_t j = 0; j < before->gis[i].n_cis; j++) {
            const struct mig_compute_instance *ci = &before->gis[i].cis[j];
            must(!is_held(ci, may_stop_pods) || has_device(after, ci->uuid), "a holder lost it");
        }
}

/* From half way, for nothing else than what was. */
static void check_way_back(const struct mig_gpu *gpu, const struct mig_gpu_plan *plan, size_t n,
                           struct arena *arena)
{
    static struct mig_gpu half;
    struct mig_wish wish = { .kind = MIG_WISH_LAYOUT, .layout = &plan->before };
    struct mig_layout layout;
    struct mig_gpu_plan back;

    half = *gpu;
    walk(&half, plan, n);
    must(mig_plan_gpu(&half, &wish, false, arena, &back, NULL) >= 0, "no memory for the way back");
    if (back.refusal) {
        /* What no profile explains could be taken away, but not be made. */
        must(back.refusal == MIG_REFUSED_UNKNOWN || back.refusal == MIG_REFUSED_NO_ROOM,
             back.sentence);
        return;
    }
    walk(&half, &back, back.n_steps);
    mig_layout_of(&half, &layout);
    must(mig_layout_equal(&layout, &plan->before), "the way back leads elsewhere");
}

static void check_plan(const struct mig_gpu *gpu, const struct mig_wish *wish, bool may_stop_pods,
                       const struct mig_gpu_plan *plan, struct arena *arena, size_t half)
{
    static struct mig_gpu after;
    struct mig_layout layout;
    char line[160];

    if (plan->refusal) {
        must(plan->n_steps == 0 && plan->sentence && plan->sentence[0], "refused without a word");
        must((plan->refusal == MIG_REFUSED_HELD) == (plan->blocker != NULL), "no blocker");
        return;
    }
    after = *gpu;
    for (size_t i = 0; i < plan->n_steps; i++)
        mig_step_describe(gpu, &plan->steps[i], line);
    walk(&after, plan, plan->n_steps);
    mig_layout_of(&after, &layout);
    must(mig_layout_equal(&layout, &plan->after), "it leads elsewhere than it says");
    must(!gpu->capable || mig_wish_met(&after, wish), "it leads elsewhere than it should");
    check_held(gpu, &after, may_stop_pods);
    must(plan->n_kept + plan->n_destroyed == plan->before.n_gis, "instances are lost");
    must(plan->n_kept + plan->n_created == plan->after.n_gis, "instances come from nowhere");
    if (plan->n_steps > 0)
        check_way_back(gpu, plan, half % (plan->n_steps + 1), arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct dice dice = { data, size };
    static struct mig_gpu gpu;
    struct mig_want wants[MIG_MAX_WANTS];
    struct mig_layout layout;
    struct mig_gpu_plan plan;

    make_gpu(&dice, &gpu);
    bool may_stop_pods = roll(&dice, 2), enabled = roll(&dice, 4) != 1;
    size_t half = roll(&dice, 256);
    struct mig_wish wish = { .kind = MIG_WISH_DEVICES, .enabled = enabled, .layout = &layout };
    uint32_t kind = roll(&dice, 8);
    if (kind == 1)
        wish.kind = MIG_WISH_MODE;
    if (kind == 2 || kind == 3)
        wish.kind = MIG_WISH_LAYOUT;
    some_layout(&dice, &gpu, &layout);
    some_wants(&dice, &gpu, wants, &wish);
    must(mig_plan_gpu(&gpu, &wish, may_stop_pods, &arena, &plan, NULL) >= 0, "no memory");
    check_plan(&gpu, &wish, may_stop_pods, &plan, &arena, half);
    return 0;
}
