/*
 * Every change from one layout to another, planned and then walked in the simulated driver. What is
 * best is found here a second time, by looking at all layouts there are; how much of it can be kept
 * at most is also known from a program that has nothing to do with this one (spec/mig §9.1).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mig_boards.h"
#include "share/mig_plan.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"

enum { MAX_PAIRS = 64, MAX_LAYOUTS = 800, MAX_SETS = 96, MAX_KINDS = 6 };

/* Profile enums by what they are called. */
enum { G1 = 0, G2 = 1, G3 = 2, G4 = 3, G7 = 4, G1_ME = 7, G2_ME = 8, G1_DOUBLE = 9, END = 99 };

struct family {
    const char *board;
    uint32_t kinds[MAX_KINDS + 1]; /* enums, then END */
    uint32_t n_layouts, n_sets;    /* not counting the empty one */
    /* spec/mig §9.1's table, from top to bottom. */
    uint32_t pairs, some_kept, some_common, kept_slices, old_slices;
    double mean_ratio; /* of kept slices, per cent */
    uint32_t survivors, common, some_moved;
};

/* One place of one profile, a bit in a layout. */
struct pair {
    uint32_t profile, start, size, slices;
};

struct layout {
    uint64_t pairs;
    size_t set;
    uint32_t capacity; /* pairs of all the board's profiles that could still be made */
};

struct set {
    uint8_t n[MAX_KINDS];
};

struct world {
    const struct family *family;
    size_t n_kinds, n_pairs, n_layouts, n_sets;
    struct pair pairs[MAX_PAIRS];
    struct layout layouts[MAX_LAYOUTS]; /* [0] is empty */
    struct set sets[MAX_SETS];
    struct arena arena; /* of the node */
    struct mig_node *node;
    struct sim_state *state;
    struct sim_gpu *sim; /* the first of it */
};

/* ---- all layouts, by the simulated driver's rules ---- */

static size_t set_index(struct world *world, const struct set *set)
{
    for (size_t i = 0; i < world->n_sets; i++)
        if (memcmp(&world->sets[i], set, sizeof(*set)) == 0)
            return i;
    assert_true(world->n_sets < MAX_SETS);
    world->sets[world->n_sets] = *set;
    return world->n_sets++;
}

static uint32_t sim_capacity(struct sim_gpu *gpu)
{
    uint32_t n = 0;

    for (uint32_t profile = 0; profile < SIM_MAX_PROFILES; profile++)
        for (uint32_t i = 0;
             gpu->profiles[profile].supported && i < gpu->profiles[profile].n_starts; i++)
            n += sim_gi_fits(gpu, profile, gpu->profiles[profile].starts[i]);
    return n;
}

static void list_layouts(struct world *world, size_t first, uint64_t pairs, struct set set)
{
    assert_true(world->n_layouts < MAX_LAYOUTS);
    world->layouts[world->n_layouts++] = (struct layout){
        .pairs = pairs,
        .set = set_index(world, &set),
        .capacity = sim_capacity(world->sim),
    };
    for (size_t i = first; i < world->n_pairs; i++) {
        const struct pair *pair = &world->pairs[i];
        struct sim_gpu_instance *slot = world->sim->instances;
        struct set more = set;

        if (!sim_gi_fits(world->sim, pair->profile, pair->start))
            continue;
        while (slot->exists)
            slot++;
        *slot = (struct sim_gpu_instance){
            .exists = true, .profile = pair->profile, .start = pair->start, .size = pair->size
        };
        for (size_t k = 0; k < world->n_kinds; k++)
            more.n[k] = (uint8_t)(more.n[k] + (world->family->kinds[k] == pair->profile));
        list_layouts(world, i + 1, pairs | UINT64_C(1) << i, more);
        slot->exists = false;
    }
}

static void world_make(struct world *world, const struct family *family)
{
    struct sim_spec spec;

    *world = (struct world){ .family = family, .arena = ARENA_MAX(MIB(1)) };
    world->node = boards(&world->arena, family->board);
    world->state = calloc(1, sizeof(*world->state));
    assert_int_equal(sim_spec_parse(family->board, &spec, NULL), 0);
    assert_int_equal(sim_machine_build(&spec, &(struct sim_machine_options){}, world->state, NULL),
                     0);
    world->sim = &world->state->gpus[0];
    world->sim->mig_current = world->sim->mig_pending = 1;
    for (; family->kinds[world->n_kinds] != END; world->n_kinds++) {
        const struct sim_profile *profile = &world->sim->profiles[family->kinds[world->n_kinds]];

        for (uint32_t i = 0; i < profile->n_starts; i++)
            world->pairs[world->n_pairs++] =
                (struct pair){ family->kinds[world->n_kinds], profile->starts[i], profile->size,
                               profile->slices };
    }
    list_layouts(world, 0, 0, (struct set){});
    assert_int_equal(world->n_layouts, family->n_layouts + 1);
    assert_int_equal(world->n_sets, family->n_sets + 1);
}

static void world_done(struct world *world)
{
    free(world->state);
    arena_done(&world->arena);
}

/* ---- a layout on the board, and on the simulated one ---- */

static void lay_out(const struct world *world, const struct layout *layout, struct mig_gpu *gpu)
{
    static char uuids[MAX_PAIRS][32];

    *gpu = world->node->gpus[0];
    gpu->enabled = gpu->pending = true;
    for (size_t i = 0; i < world->n_pairs; i++) {
        const struct pair *pair = &world->pairs[i];

        if (!(layout->pairs & UINT64_C(1) << i))
            continue;
        board_put(gpu, mig_gpu_profile(gpu, pair->profile)->name, pair->start);
        snprintf(uuids[i], sizeof(uuids[i]), "MIG-%zu", i);
        for (size_t j = 0; j < gpu->n_gis; j++)
            if (!gpu->gis[j].cis[0].uuid)
                gpu->gis[j].cis[0].uuid = uuids[i];
    }
}

static struct sim_gpu_instance *sim_gi(struct sim_gpu *sim, const struct mig_step *step)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
        if (sim->instances[i].exists && sim->instances[i].profile == step->gi_profile &&
            sim->instances[i].start == step->gi.start)
            return &sim->instances[i];
    return NULL;
}

static struct sim_compute_instance *sim_ci(struct sim_gpu_instance *gi, const struct mig_step *step)
{
    for (size_t i = 0; gi && i < SIM_MAX_COMPUTE_INSTANCES; i++)
        if (gi->compute[i].exists && gi->compute[i].profile == step->ci_profile &&
            gi->compute[i].start == step->ci.start)
            return &gi->compute[i];
    return NULL;
}

/* One step through the rules of the simulated driver. */
static int walk(struct world *world, const struct mig_step *step, struct err *err)
{
    struct sim_gpu *sim = world->sim;
    struct sim_gpu_instance *gi = sim_gi(sim, step);
    struct sim_placement at = { step->gi.start, step->gi.size };
    struct sim_placement ci_at = { step->ci.start, step->ci.size };
    struct sim_compute_instance *ci;
    enum sim_mig_activation activation;

    switch (step->kind) {
    case MIG_STEP_DESTROY_CI:
        ci = sim_ci(gi, step);
        return ci ? sim_ci_destroy(world->state, sim, gi, ci, err) : -ENOENT;
    case MIG_STEP_DESTROY_GI:
        return gi ? sim_gi_destroy(world->state, sim, gi, err) : -ENOENT;
    case MIG_STEP_CREATE_GI:
        return sim_gi_create(world->state, sim, step->gi_profile, &at, &gi, err);
    case MIG_STEP_CREATE_CI:
        if (!gi)
            return -ENOENT;
        return sim_ci_create(world->state, sim, gi, step->ci_profile, step->ci.size ? &ci_at : NULL,
                             &ci, err);
    case MIG_STEP_MODE_ON:
    case MIG_STEP_MODE_OFF: {
        int r =
            sim_mig_mode_set(world->state, sim, step->kind == MIG_STEP_MODE_ON, &activation, err);
        return r >= 0 && activation == SIM_MIG_IN_USE ? -EBUSY : r;
    }
    case MIG_STEP_RESET:
        return sim->mig_current == sim->mig_pending ? 0 : sim_gpu_reset(world->state, sim, err);
    case MIG_STEP_N_KINDS:
        break;
    }
    return -EINVAL;
}

static int by_start(const void *a, const void *b)
{
    const struct mig_placed *x = a, *y = b;

    return (x->placement.start > y->placement.start) - (x->placement.start < y->placement.start);
}

/* The simulated board as a layout; *ret_ids: the GPU instances' ids, by start. */
static void sim_layout(struct sim_gpu *sim, struct mig_layout *ret, uint64_t *ret_ids)
{
    *ret = (struct mig_layout){ .enabled = sim->mig_current };
    *ret_ids = 0;
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        const struct sim_gpu_instance *gi = &sim->instances[i];
        struct mig_placed *placed = &ret->gis[ret->n_gis];

        if (!gi->exists)
            continue;
        ret->n_gis++;
        *placed =
            (struct mig_placed){ .gi_profile = gi->profile, .placement = { gi->start, gi->size } };
        *ret_ids |= UINT64_C(1) << gi->id;
        for (size_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++)
            if (gi->compute[j].exists)
                placed->cis[placed->n_cis++] =
                    (struct mig_placed_ci){ gi->compute[j].profile,
                                            { gi->compute[j].start, gi->compute[j].size } };
    }
    qsort(ret->gis, ret->n_gis, sizeof(ret->gis[0]), by_start);
}

/* What is imagined is what the simulated driver has. */
static void assert_same(struct world *world, const struct mig_gpu *gpu)
{
    struct mig_layout there, imagined;
    uint64_t ids = 0, sim_ids;

    sim_layout(world->sim, &there, &sim_ids);
    mig_layout_of(gpu, &imagined);
    for (size_t i = 0; i < gpu->n_gis; i++)
        ids |= UINT64_C(1) << gpu->gis[i].id;
    assert_true(mig_layout_equal(&there, &imagined));
    assert_int_equal(gpu->pending, world->sim->mig_pending);
    assert_int_equal(ids, sim_ids);
}

static void assert_layout(struct world *world, const struct mig_layout *wanted)
{
    struct mig_layout there;
    uint64_t ids;

    sim_layout(world->sim, &there, &ids);
    assert_true(mig_layout_equal(&there, wanted));
}

/* Puts the board's present state into the simulated one. */
static void sim_set(struct world *world, struct mig_gpu *gpu)
{
    struct sim_gpu *sim = world->sim;

    memset(sim->instances, 0, sizeof(sim->instances));
    memset(world->state->processes, 0, sizeof(world->state->processes));
    sim->mig_current = 1;
    for (size_t i = 0; i < gpu->n_gis; i++) {
        struct mig_gpu_instance *gi = &gpu->gis[i];
        struct mig_step step = { .kind = MIG_STEP_CREATE_GI,
                                 .gi_profile = gi->gi_profile,
                                 .gi = gi->placement };
        assert_int_equal(walk(world, &step, NULL), 0);
        gi->id = sim_gi(sim, &step)->id;
        step.kind = MIG_STEP_CREATE_CI;
        for (size_t j = 0; j < gi->n_cis; j++) {
            step.ci_profile = gi->cis[j].ci_profile;
            step.ci = gi->cis[j].placement;
            assert_int_equal(walk(world, &step, NULL), 0);
            gi->cis[j].id = sim_ci(sim_gi(sim, &step), &step)->id;
        }
    }
    sim->mig_current = gpu->enabled;
    sim->mig_pending = gpu->pending;
}

/* Step by step, on the simulated GPU and in thought. */
static void replay(struct world *world, const struct mig_gpu *old, const struct mig_gpu_plan *plan)
{
    static struct mig_gpu gpu;
    struct err err = {};

    gpu = *old;
    sim_set(world, &gpu);
    for (size_t i = 0; i < plan->n_steps; i++) {
        if (walk(world, &plan->steps[i], &err) < 0)
            fail_msg("step %zu: %s", i, err.text);
        assert_int_equal(mig_step_imagine(&gpu, &plan->steps[i], NULL), 0);
        assert_same(world, &gpu);
    }
    assert_layout(world, &plan->after);
}

/* From wherever the plan is left, a plan for what there was leads back to just that. */
static void turn_back(struct world *world, const struct mig_gpu *old,
                      const struct mig_gpu_plan *plan)
{
    static struct mig_gpu gpu;
    struct mig_wish wish = { .kind = MIG_WISH_LAYOUT, .layout = &plan->before };

    for (size_t n = 1; n <= plan->n_steps; n++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
        struct mig_gpu_plan back;

        gpu = *old;
        sim_set(world, &gpu);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(walk(world, &plan->steps[i], NULL), 0);
            assert_int_equal(mig_step_imagine(&gpu, &plan->steps[i], NULL), 0);
        }
        assert_int_equal(mig_plan_gpu(&gpu, &wish, false, &arena, &back, NULL), 0);
        assert_int_equal(back.refusal, MIG_REFUSED_NOT);
        for (size_t i = 0; i < back.n_steps; i++)
            assert_int_equal(walk(world, &back.steps[i], NULL), 0);
        assert_layout(world, &plan->before);
        assert_int_equal(world->sim->mig_pending, old->pending);
    }
}

/* ---- wishes ---- */

struct order {
    size_t n;
    struct mig_want wants[MAX_KINDS];
    struct mig_wish wish;
};

static void order_set(const struct world *world, size_t set, struct order *ret)
{
    ret->n = 0;
    for (size_t k = 0; k < world->n_kinds; k++) {
        const struct mig_gi_profile *profile =
            mig_gpu_profile(&world->node->gpus[0], world->family->kinds[k]);
        ret->wants[ret->n++] =
            (struct mig_want){ profile->name, profile->profile, world->sets[set].n[k] };
    }
    ret->wish =
        (struct mig_wish){ .kind = MIG_WISH_DEVICES, .n_wants = ret->n, .wants = ret->wants };
}

static int plan_it(const struct mig_gpu *gpu, const struct mig_wish *wish, struct arena *arena,
                   struct mig_gpu_plan *ret)
{
    struct err err = {};

    return mig_plan_gpu(gpu, wish, false, arena, ret, &err);
}

/* ---- the best, found by looking at everything ---- */

static uint32_t slices_of(const struct world *world, uint64_t pairs)
{
    uint32_t n = 0;

    for (; pairs; pairs &= pairs - 1)
        n += world->pairs[__builtin_ctzll(pairs)].slices;
    return n;
}

static uint64_t pairs_of(const struct world *world, const struct mig_layout *layout)
{
    uint64_t pairs = 0;

    for (size_t i = 0; i < layout->n_gis; i++)
        for (size_t j = 0; j < world->n_pairs; j++)
            if (world->pairs[j].profile == layout->gis[i].gi_profile &&
                world->pairs[j].start == layout->gis[i].placement.start)
                pairs |= UINT64_C(1) << j;
    return pairs;
}

static uint64_t merit(const struct world *world, uint64_t old, const struct layout *layout)
{
    uint64_t kept = old & layout->pairs;

    return (uint64_t)slices_of(world, kept) << 40 | (uint64_t)__builtin_popcountll(kept) << 32 |
           layout->capacity;
}

/* Of the layouts with this multiset and all of `held`, the greatest merit; false: there is none. */
static bool best_merit(const struct world *world, uint64_t old, size_t set, uint64_t held,
                       uint64_t *ret)
{
    bool found = false;

    *ret = 0;
    for (size_t i = 0; i < world->n_layouts; i++) {
        const struct layout *layout = &world->layouts[i];
        if (layout->set != set || (held & ~layout->pairs))
            continue;
        found = true;
        *ret = MAX(*ret, merit(world, old, layout));
    }
    return found;
}

/* The largest profiles first, then by start: -1 when the starts of `a` come first. */
static int compare_starts(const struct world *world, uint64_t a, uint64_t b)
{
    for (uint32_t size = 16; size > 0; size--)
        for (uint32_t slices = 8; slices > 0; slices--)
            for (size_t i = 0; i < world->n_pairs; i++) {
                uint64_t bit = UINT64_C(1) << i;
                if (world->pairs[i].size == size && world->pairs[i].slices == slices &&
                    (a & bit) != (b & bit))
                    return a & bit ? -1 : 1;
            }
    return 0;
}

/* Of layouts that are equally good, nobody's starts are lower. */
static bool is_lowest(const struct world *world, uint64_t old, uint64_t held,
                      const struct layout *layout)
{
    uint64_t best = merit(world, old, layout);

    for (size_t i = 0; i < world->n_layouts; i++) {
        const struct layout *other = &world->layouts[i];
        if (other->set == layout->set && !(held & ~other->pairs) &&
            merit(world, old, other) == best &&
            compare_starts(world, other->pairs, layout->pairs) < 0)
            return false;
    }
    return true;
}

static const struct layout *find_layout(const struct world *world, uint64_t pairs)
{
    for (size_t i = 0; i < world->n_layouts; i++)
        if (world->layouts[i].pairs == pairs)
            return &world->layouts[i];
    return NULL;
}

static size_t common(const struct world *world, size_t a, size_t b)
{
    size_t n = 0;

    for (size_t k = 0; k < world->n_kinds; k++)
        n += MIN(world->sets[a].n[k], world->sets[b].n[k]);
    return n;
}

static bool touches(const struct mig_gpu_plan *plan, const struct pair *pair)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].gi.size > 0 && plan->steps[i].gi_profile == pair->profile &&
            plan->steps[i].gi.start == pair->start)
            return true;
    return false;
}

/* As good as can be, and it touches nothing that it keeps. */
static void assert_best(const struct world *world, const struct layout *old, size_t set,
                        uint64_t held, const struct mig_gpu_plan *plan)
{
    uint64_t best, after = pairs_of(world, &plan->after), kept = after & old->pairs;
    const struct layout *layout = find_layout(world, after);
    size_t n_destroyed = (size_t)__builtin_popcountll(old->pairs & ~after);
    size_t n_created = (size_t)__builtin_popcountll(after & ~old->pairs);

    assert_int_equal(plan->refusal, MIG_REFUSED_NOT);
    assert_true(best_merit(world, old->pairs, set, held, &best));
    assert_non_null(layout);
    assert_int_equal(layout->set, set);
    assert_int_equal(merit(world, old->pairs, layout), best);
    assert_true(is_lowest(world, old->pairs, held, layout));
    assert_int_equal(plan->n_kept, __builtin_popcountll(kept));
    assert_int_equal(plan->kept_slices, slices_of(world, kept));
    assert_int_equal(plan->n_destroyed, n_destroyed);
    assert_int_equal(plan->n_created, n_created);
    assert_int_equal(plan->n_moved, common(world, old->set, set) - plan->n_kept);
    assert_int_equal(plan->n_steps, 2 * (n_destroyed + n_created));
    for (size_t i = 0; i < world->n_pairs; i++)
        if (kept & UINT64_C(1) << i)
            assert_false(touches(plan, &world->pairs[i]));
}

/* ---- the tests ---- */

static const struct family families[] = {
    { "h100-80gb",
      { G1, G2, G3, G4, G7, END },
      297,
      37,
      10692,
      7538,
      8156,
      17122,
      46224,
      38.51,
      14055,
      16126,
      1719 },
    { "h100-80gb",
      { G1, G1_DOUBLE, G2, G3, G4, G7, END },
      722,
      77,
      54872,
      40876,
      43797,
      85864,
      235904,
      37.45,
      74306,
      84359,
      8551 },
    { "a30", { G1, G2, G4, END }, 25, 9, 200, 126, 126, 199, 512, 42.71, 172, 176, 4 },
    { "rtx-pro-6000", { G1, G2, G4, END }, 25, 9, 200, 126, 126, 199, 512, 42.71, 172, 176, 4 },
    { "a30",
      { G1, G1_ME, G2, G2_ME, G4, END },
      75,
      19,
      1350,
      863,
      863,
      1305,
      3672,
      36.92,
      1161,
      1197,
      36 },
};

static void walk_family(const struct family *family)
{
    struct family seen = *family;
    static struct world world;
    static struct mig_gpu gpu;
    struct order order;
    double ratios = 0;

    world_make(&world, family);
    seen.pairs = seen.some_kept = seen.some_common = seen.kept_slices = seen.old_slices = 0;
    seen.survivors = seen.common = seen.some_moved = 0;
    for (size_t i = 1; i < world.n_layouts; i++) {
        const struct layout *old = &world.layouts[i];

        lay_out(&world, old, &gpu);
        for (size_t set = 0; set < world.n_sets; set++) {
            auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
            struct mig_gpu_plan plan;
            size_t n_common = common(&world, old->set, set);

            if (set == old->set || set == world.layouts[0].set)
                continue;
            order_set(&world, set, &order);
            assert_int_equal(plan_it(&gpu, &order.wish, &arena, &plan), 0);
            assert_best(&world, old, set, 0, &plan);
            replay(&world, &gpu, &plan);
            if (family == families || seen.pairs % 8 == 0)
                turn_back(&world, &gpu, &plan);
            seen.pairs++;
            seen.some_kept += plan.n_kept > 0;
            seen.some_common += n_common > 0;
            seen.kept_slices += plan.kept_slices;
            seen.old_slices += slices_of(&world, old->pairs);
            ratios += (double)plan.kept_slices / slices_of(&world, old->pairs);
            seen.survivors += (uint32_t)plan.n_kept;
            seen.common += (uint32_t)n_common;
            seen.some_moved += plan.n_moved > 0;
        }
    }
    assert_int_equal(seen.pairs, family->pairs);
    assert_int_equal(seen.some_kept, family->some_kept);
    assert_int_equal(seen.some_common, family->some_common);
    assert_int_equal(seen.kept_slices, family->kept_slices);
    assert_int_equal(seen.old_slices, family->old_slices);
    assert_float_equal(100 * ratios / seen.pairs, family->mean_ratio, 0.005);
    assert_int_equal(seen.survivors, family->survivors);
    assert_int_equal(seen.common, family->common);
    assert_int_equal(seen.some_moved, family->some_moved);
    world_done(&world);
}

static void every_change_of_eight_slices_keeps_as_much_as_can_be_kept(void **test)
{
    walk_family(&families[0]);
}

static void so_does_every_change_with_double_memory(void **test)
{
    walk_family(&families[1]);
}

static void so_does_every_change_of_four_and_of_twelve_slices(void **test)
{
    walk_family(&families[2]);
    walk_family(&families[3]);
}

static void so_does_every_change_with_media_engines(void **test)
{
    walk_family(&families[4]);
}

/* Holds one instance of each layout in turn. */
static void hold_one(struct world *world, const struct layout *old, size_t held,
                     struct mig_gpu *gpu, size_t counts[2])
{
    const struct pair *pair = &world->pairs[held];
    struct order order;

    lay_out(world, old, gpu);
    for (size_t i = 0; i < gpu->n_gis; i++)
        if (gpu->gis[i].gi_profile == pair->profile && gpu->gis[i].placement.start == pair->start) {
            gpu->gis[i].cis[0].holder = "process 4711 (python3)";
            gpu->gis[i].cis[0].held_by_process = true;
        }
    for (size_t set = 0; set < world->n_sets; set++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
        struct mig_gpu_plan plan;
        uint64_t best;
        bool can_be = best_merit(world, old->pairs, set, UINT64_C(1) << held, &best);

        order_set(world, set, &order);
        assert_int_equal(plan_it(gpu, &order.wish, &arena, &plan), 0);
        assert_int_equal(plan.refusal, can_be ? MIG_REFUSED_NOT : MIG_REFUSED_HELD);
        counts[can_be]++;
        if (!can_be) {
            assert_int_equal(plan.n_steps, 0);
            assert_non_null(strstr(plan.sentence, "process 4711 (python3)"));
            assert_non_null(strstr(plan.blocker, "process 4711 (python3)"));
            continue;
        }
        if (set != old->set)
            assert_best(world, old, set, UINT64_C(1) << held, &plan);
        assert_false(touches(&plan, pair));
    }
}

static void whoever_holds_an_instance_keeps_it_and_all_else_that_can_be(void **test)
{
    static struct world world;
    static struct mig_gpu gpu;
    size_t counts[2] = {};

    world_make(&world, &families[0]);
    for (size_t i = 1; i < world.n_layouts; i++)
        for (size_t held = 0; held < world.n_pairs; held++)
            if (world.layouts[i].pairs & UINT64_C(1) << held)
                hold_one(&world, &world.layouts[i], held, &gpu, counts);
    assert_true(counts[0] > 1000 && counts[1] > 1000);
    world_done(&world);
}

/* An empty plan for what is there, and a way from anything to nothing and to MIG off. */
static void what_is_there_needs_no_plan_and_everything_can_go(void **test)
{
    static struct world world;
    static struct mig_gpu gpu;
    struct order order;

    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        world_make(&world, &families[f]);
        for (size_t i = 0; i < world.n_layouts; i++) {
            auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
            struct mig_gpu_plan plan;
            struct mig_layout layout;
            struct mig_wish exactly = { .kind = MIG_WISH_LAYOUT, .layout = &layout };
            struct mig_wish off = { .kind = MIG_WISH_MODE };

            lay_out(&world, &world.layouts[i], &gpu);
            order_set(&world, world.layouts[i].set, &order);
            assert_true(mig_wish_met(&gpu, &order.wish));
            assert_int_equal(plan_it(&gpu, &order.wish, &arena, &plan), 0);
            assert_int_equal(plan.n_steps, 0);
            mig_layout_of(&gpu, &layout);
            assert_int_equal(plan_it(&gpu, &exactly, &arena, &plan), 0);
            assert_int_equal(plan.n_steps, 0);
            assert_int_equal(plan.n_kept, layout.n_gis);
            assert_int_equal(plan_it(&gpu, &off, &arena, &plan), 0);
            assert_int_equal(plan.n_steps, 2 * layout.n_gis + 1 + (gpu.cc_major == 8));
            replay(&world, &gpu, &plan);
            turn_back(&world, &gpu, &plan);
        }
        world_done(&world);
    }
}

/* From one exact layout to another, and back through the plan of the way back. */
static void exact_layouts_are_reached_from_anywhere(void **test)
{
    static struct world world;
    static struct mig_gpu gpu, other;

    world_make(&world, &families[4]);
    for (size_t i = 0; i < world.n_layouts; i++)
        for (size_t j = 0; j < world.n_layouts; j++) {
            auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
            struct mig_gpu_plan plan;
            struct mig_layout layout;
            struct mig_wish exactly = { .kind = MIG_WISH_LAYOUT, .layout = &layout };

            lay_out(&world, &world.layouts[i], &gpu);
            lay_out(&world, &world.layouts[j], &other);
            mig_layout_of(&other, &layout);
            assert_int_equal(plan_it(&gpu, &exactly, &arena, &plan), 0);
            assert_int_equal(plan.refusal, MIG_REFUSED_NOT);
            assert_int_equal(plan.n_kept,
                             __builtin_popcountll(world.layouts[i].pairs & world.layouts[j].pairs));
            replay(&world, &gpu, &plan);
            assert_layout(&world, &layout);
        }
    world_done(&world);
}

/* Wishes for parts: the simulated driver, which tries all layouts, finds room for just the same. */
static void parts_have_room_exactly_where_the_simulated_driver_finds_it(void **test)
{
    static const struct {
        const char *name;
        uint32_t n;
    } parts[] = { { "1c.3g.20gb", 8 }, { "2c.3g.20gb", 4 }, { "3g.20gb", 3 },
                  { "1c.2g.10gb", 7 }, { "2g.10gb", 3 },    { "1g.5gb", 5 } };
    static const struct family family = { "a100-40gb", { END }, 0, 0 };
    static struct world world;
    static struct mig_gpu gpu;
    size_t counts[2] = {};

    world_make(&world, &family);
    for (size_t code = 0; code < 8 * 4 * 3 * 7 * 3 * 5; code++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
        struct mig_want wants[ARRAY_LEN(parts)];
        struct sim_mig_want sim_wants[ARRAY_LEN(parts)];
        struct mig_wish wish = { .kind = MIG_WISH_DEVICES,
                                 .n_wants = ARRAY_LEN(wants),
                                 .wants = wants };
        struct mig_gpu_plan plan;
        size_t rest = code;

        for (size_t i = 0; i < ARRAY_LEN(parts); rest /= parts[i++].n) {
            wants[i] =
                (struct mig_want){ .name = parts[i].name, .count = (uint32_t)(rest % parts[i].n) };
            assert_int_equal(mig_profile_parse(span_of(parts[i].name), &wants[i].profile, NULL), 0);
            sim_wants[i] = (struct sim_mig_want){ parts[i].name, wants[i].count };
        }
        lay_out(&world, &world.layouts[0], &gpu);
        assert_int_equal(plan_it(&gpu, &wish, &arena, &plan), 0);
        bool room =
            sim_mig_partition(world.state, world.sim, sim_wants, ARRAY_LEN(wants), NULL) >= 0;
        assert_int_equal(plan.refusal, room ? MIG_REFUSED_NOT : MIG_REFUSED_NO_ROOM);
        counts[room]++;
        if (room)
            replay(&world, &gpu, &plan);
    }
    assert_true(counts[0] > 1000 && counts[1] > 100);
    world_done(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_of_eight_slices_keeps_as_much_as_can_be_kept),
        cmocka_unit_test(so_does_every_change_with_double_memory),
        cmocka_unit_test(so_does_every_change_of_four_and_of_twelve_slices),
        cmocka_unit_test(so_does_every_change_with_media_engines),
        cmocka_unit_test(whoever_holds_an_instance_keeps_it_and_all_else_that_can_be),
        cmocka_unit_test(what_is_there_needs_no_plan_and_everything_can_go),
        cmocka_unit_test(exact_layouts_are_reached_from_anywhere),
        cmocka_unit_test(parts_have_room_exactly_where_the_simulated_driver_finds_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
