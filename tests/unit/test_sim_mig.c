#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "sim/gpu/catalogue.h"
#include "sim/gpu/event.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"

/* Profile enums by what they are called. */
enum {
    G1 = 0,
    G2 = 1,
    G3 = 2,
    G4 = 3,
    G7 = 4,
    G1_ME = 7,
    G2_ME = 8,
    G1_DOUBLE = 9,
    G1_ALL_ME = 15
};

enum { NONE = -1, END = 99 };

static struct sim_state *node(const char *gpus)
{
    struct sim_state *state = calloc(1, sizeof(*state));
    struct sim_spec spec;
    struct err err = {};

    assert_non_null(state);
    if (sim_spec_parse(gpus, &spec, &err) < 0 ||
        sim_machine_build(&spec, &(struct sim_machine_options){}, state, &err) < 0)
        fail_msg("%s", err.text);
    return state;
}

/* The same with MIG on everywhere. */
static struct sim_state *mig_node(const char *gpus)
{
    struct sim_state *state = node(gpus);

    for (uint32_t i = 0; i < state->n_gpus; i++)
        state->gpus[i].mig_current = state->gpus[i].mig_pending = 1;
    return state;
}

static struct sim_gpu_instance *create(struct sim_state *state, uint32_t profile, int start)
{
    struct sim_gpu *gpu = &state->gpus[0];
    struct sim_placement at = { (uint32_t)start, gpu->profiles[profile].size };
    struct sim_gpu_instance *gi = NULL;
    struct err err = {};

    if (sim_gi_create(state, gpu, profile, start == NONE ? NULL : &at, &gi, &err) < 0)
        fail_msg("%s", err.text);
    return gi;
}

static struct sim_compute_instance *fill(struct sim_state *state, struct sim_gpu_instance *gi)
{
    struct sim_compute_instance *ci = NULL;
    struct err err = {};

    if (sim_ci_create(state, &state->gpus[0], gi, sim_ci_whole(&state->gpus[0], gi), NULL, &ci,
                      &err) < 0)
        fail_msg("%s", err.text);
    return ci;
}

static void run_process(struct sim_state *state, uint32_t pid, uint32_t gi, uint32_t ci)
{
    struct sim_process *process = state->processes;

    while (process->exists)
        process++;
    *process = (struct sim_process){
        .exists = true,
        .pid = pid,
        .gi_id = gi,
        .ci_id = ci,
        .name = "train",
    };
}

/* --- the driver's own choice of places ------------------------------------------------------- */

/* spec/mig §3.3, §7.2: a start, or NONE where the driver answers INSUFFICIENT_RESOURCES. */
static const struct {
    const char *what, *gpu;
    int ids[9], starts[9];
} transcripts[] = {
    { "P1", "a100-40gb", { 19, 19, 19, 19, 19, 19, 19, 19, END }, { 6, 4, 5, 0, 1, 2, 3, NONE } },
    { "7 × 1g", "h100-80gb", { 19, 19, 19, 19, 19, 19, 19, END }, { 6, 4, 5, 0, 1, 2, 3 } },
    { "7 × 1g", "h100-nvl", { 19, 19, 19, 19, 19, 19, 19, END }, { 6, 4, 5, 0, 1, 2, 3 } },
    { "P2", "a100-40gb", { 9, 19, 14, 19, END }, { 4, 0, 2, 1 } },
    { "2g first", "a100-40gb", { 14, 19, 19, 19, 19, 19, END }, { 4, 6, 0, 1, 2, 3 } },
    { "up to 4g", "a100-40gb", { 19, 14, 5, END }, { 6, 4, 0 } },
    { "balanced", "a100-40gb", { 9, 14, 19, 19, END }, { 4, 0, 2, 3 } },
    { "P3", "a100-40gb", { 19, 19, 14, 9, END }, { 6, 4, 0, NONE } },
    { "P9", "a100-40gb", { 5, 9, END }, { 0, 4 } },
    { "P10", "rtx-pro-6000", { 14, 14, 14, 14, 14, END }, { 0, 3, 6, 9, NONE } },
    { "P11", "rtx-pro-6000", { 5, 14, 14, END }, { 0, 6, 9 } },
    { "P13", "a30", { 14, 14, 14, 14, 21, END }, { 0, 1, 2, 3, NONE } },
    { "double memory", "gh200-96gb", { 15, 15, 15, 15, END }, { 4, 0, 2, 6 } },
    { "whole", "h100-80gb", { 0, 19, END }, { 0, NONE } },
};

static void driver_chooses_the_places_seen_on_hardware(void **test)
{
    for (size_t i = 0; i < ARRAY_LEN(transcripts); i++) {
        auto_free struct sim_state *state = mig_node(transcripts[i].gpu);
        struct sim_gpu *gpu = &state->gpus[0];

        for (size_t n = 0; transcripts[i].ids[n] != END; n++) {
            struct sim_gpu_instance *gi = NULL;
            int profile = sim_gi_profile_of_id(gpu, (uint32_t)transcripts[i].ids[n], NULL);

            assert_true(profile >= 0);
            int r = sim_gi_create(state, gpu, (uint32_t)profile, NULL, &gi, NULL);
            int start = r < 0 ? NONE : (int)gi->start;
            if (start != transcripts[i].starts[n] || (r < 0 && r != -ENOSPC))
                fail_msg("%s on %s: instance %zu at %d, not %d", transcripts[i].what,
                         transcripts[i].gpu, n, start, transcripts[i].starts[n]);
        }
    }
}

static void three_slices_go_to_zero_first_when_told_so(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");

    state->placement_three_slice_at_zero = true;
    assert_int_equal(create(state, G3, NONE)->start, 0);
    assert_int_equal(create(state, G1, NONE)->start, 6);
}

/* spec/mig §1.12. */
static void instance_ids_are_places_in_the_tree_of_halves(void **test)
{
    static const struct {
        const char *gpu;
        uint32_t profile, start, id;
    } rows[] = {
        { "h100-80gb", G7, 0, 0 },
        { "h100-80gb", G4, 0, 1 },
        { "h100-80gb", G3, 0, 1 },
        { "h100-80gb", G3, 4, 2 },
        { "h100-80gb", G2, 0, 3 },
        { "h100-80gb", G2, 4, 5 },
        { "h100-80gb", G1_DOUBLE, 6, 6 },
        { "h100-80gb", G1, 0, 7 },
        { "h100-80gb", G1, 6, 13 },
        { "a30", G4, 0, 0 },
        { "a30", G2, 2, 2 },
        { "a30", G1, 0, 3 },
        { "a30", G1, 3, 6 },
        { "rtx-pro-6000", G4, 0, 0 },
        { "rtx-pro-6000", G2, 6, 2 },
        { "rtx-pro-6000", G1, 9, 6 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct sim_state *state = mig_node(rows[i].gpu);

        assert_int_equal(create(state, rows[i].profile, (int)rows[i].start)->id, rows[i].id);
    }
}

/* --- counting everything --------------------------------------------------------------------- */

enum { MAX_MULTISETS = 256 };

struct multiset {
    uint8_t count[SIM_MAX_PROFILES];
};

struct census {
    const uint32_t *profiles;
    size_t n_profiles;
    size_t layouts, stuck, n_sets, maximal;
    struct multiset sets[MAX_MULTISETS];
};

static void census_note(struct census *census, const struct sim_gpu *gpu)
{
    struct multiset set = {};

    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
        set.count[gpu->instances[i].profile] += gpu->instances[i].exists;
    for (size_t i = 0; i < census->n_sets; i++) {
        if (memcmp(&census->sets[i], &set, sizeof(set)) == 0)
            return;
    }
    assert_true(census->n_sets < MAX_MULTISETS);
    census->sets[census->n_sets++] = set;
}

/* Each layout once: its instances in order of their starts. */
static void census_walk(struct census *census, struct sim_gpu *gpu, size_t depth, int last)
{
    bool stuck = true;

    census->layouts++;
    census_note(census, gpu);
    for (size_t p = 0; p < census->n_profiles; p++) {
        const struct sim_profile *profile = &gpu->profiles[census->profiles[p]];

        for (uint32_t i = 0; i < profile->n_starts; i++) {
            if (!sim_gi_fits(gpu, census->profiles[p], profile->starts[i]))
                continue;
            stuck = false;
            if ((int)profile->starts[i] <= last)
                continue;
            gpu->instances[depth] = (struct sim_gpu_instance){
                .exists = true,
                .profile = census->profiles[p],
                .start = profile->starts[i],
                .size = profile->size,
            };
            census_walk(census, gpu, depth + 1, (int)profile->starts[i]);
            gpu->instances[depth].exists = false;
        }
    }
    census->stuck += stuck;
}

static bool includes(const struct multiset *big, const struct multiset *small)
{
    for (size_t i = 0; i < SIM_MAX_PROFILES; i++) {
        if (big->count[i] < small->count[i])
            return false;
    }
    return memcmp(big, small, sizeof(*big)) != 0;
}

static void census_take(struct census *census, struct sim_gpu *gpu)
{
    census_walk(census, gpu, 0, -1);
    for (size_t i = 0; i < census->n_sets; i++) {
        bool maximal = true;

        for (size_t j = 0; j < census->n_sets; j++)
            maximal = maximal && !includes(&census->sets[j], &census->sets[i]);
        census->maximal += maximal;
    }
}

/* spec/mig §3.2. */
static const struct {
    const char *what;
    uint32_t memory_slices, profiles[8];
    size_t n_profiles, layouts, sets, stuck, maximal;
} counts[] = {
    { "F8", 8, { G1, G2, G3, G4, G7 }, 5, 298, 38, 19, 12 },
    { "F8 with double memory", 8, { G1, G2, G3, G4, G7, G1_DOUBLE }, 6, 723, 78, 78, 28 },
    { "F8 with +me", 8, { G1, G2, G3, G4, G7, G1_DOUBLE, G1_ME }, 7, 2319, 128, 239, 44 },
    { "F4", 4, { G1, G2, G4 }, 3, 26, 10, 5, 4 },
    { "F4 with +me", 4, { G1, G2, G4, G1_ME, G2_ME }, 5, 76, 20, 17, 8 },
    { "F12", 12, { G1, G2, G4 }, 3, 26, 10, 5, 4 },
};

static void every_board_allows_exactly_the_layouts_of_its_family(void **test)
{
    size_t n_models, checked = 0;
    const struct sim_model *models = sim_models(&n_models);

    for (size_t m = 0; m < n_models; m++) {
        if (!models[m].mig)
            continue;
        auto_free struct sim_state *state = mig_node(models[m].name);
        struct sim_gpu *gpu = &state->gpus[0];

        for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
            auto_free struct census *census = calloc(1, sizeof(*census));

            if (gpu->memory_slices != counts[i].memory_slices)
                continue;
            census->profiles = counts[i].profiles;
            census->n_profiles = counts[i].n_profiles;
            census_take(census, gpu);
            if (census->layouts != counts[i].layouts || census->n_sets != counts[i].sets ||
                census->stuck != counts[i].stuck || census->maximal != counts[i].maximal)
                fail_msg("%s, %s: %zu layouts, %zu multisets, %zu stuck, %zu maximal",
                         models[m].name, counts[i].what, census->layouts, census->n_sets,
                         census->stuck, census->maximal);
            checked++;
        }
    }
    assert_true(checked >= 3 * 3 + 2 + 1); /* at least three F8 boards, the A30 and the RTX PRO */
}

/* Creates in this order, the driver choosing; true when all of them found a place. */
static bool order_works(const struct sim_state *fresh, struct sim_state *state,
                        const uint32_t *order, size_t n)
{
    struct sim_gpu_instance *gi;

    state->gpus[0] = fresh->gpus[0];
    for (size_t i = 0; i < n; i++) {
        if (sim_gi_create(state, &state->gpus[0], order[i], NULL, &gi, NULL) < 0)
            return false;
    }
    return true;
}

struct orders {
    size_t n, good;
};

static void try_orders(const struct sim_state *fresh, struct sim_state *state,
                       struct multiset *left, uint32_t *order, size_t n, struct orders *orders)
{
    bool any = false;

    for (uint32_t p = 0; p < SIM_MAX_PROFILES; p++) {
        if (left->count[p] == 0)
            continue;
        any = true;
        left->count[p]--;
        order[n] = p;
        try_orders(fresh, state, left, order, n + 1, orders);
        left->count[p]++;
    }
    if (any)
        return;
    orders->n++;
    orders->good += order_works(fresh, state, order, n);
}

/* spec/mig §3.4, for the preference 4, 0, 2, 6 of the double-memory profile. */
static void order_of_creation_matters_as_often_as_it_should(void **test)
{
    static const struct {
        uint32_t profiles[6];
        size_t n_profiles, dependent, unreachable;
    } rows[] = {
        { { G1, G2, G3, G4, G7 }, 5, 3, 0 },
        { { G1, G2, G3, G4, G7, G1_DOUBLE }, 6, 11, 7 },
    };
    auto_free struct sim_state *fresh = mig_node("h100-80gb"), *state = mig_node("h100-80gb");

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct census *census = calloc(1, sizeof(*census));
        size_t dependent = 0, unreachable = 0;

        census->profiles = rows[i].profiles;
        census->n_profiles = rows[i].n_profiles;
        state->gpus[0] = fresh->gpus[0];
        census_take(census, &state->gpus[0]);
        for (size_t s = 0; s < census->n_sets; s++) {
            uint32_t order[SIM_MAX_GPU_INSTANCES];
            struct orders orders = {};

            try_orders(fresh, state, &census->sets[s], order, 0, &orders);
            dependent += orders.good > 0 && orders.good < orders.n;
            unreachable += orders.good == 0;
        }
        assert_int_equal(dependent, rows[i].dependent);
        assert_int_equal(unreachable, rows[i].unreachable);
    }
}

/* --- GPU instances --------------------------------------------------------------------------- */

static void capacity_counts_what_still_fits(void **test)
{
    static const struct {
        const char *what, *gpu;
        struct {
            uint32_t profile, start;
        } have[3];
        size_t n_have;
        uint32_t asked, capacity;
    } rows[] = {
        { "P5", "h100-80gb", { { G3, 0 } }, 1, G1, 3 },
        { "P5", "h100-80gb", { { G3, 0 } }, 1, G2, 1 },
        { "P5", "h100-80gb", { { G3, 0 } }, 1, G3, 1 },
        { "P5", "h100-80gb", { { G3, 0 } }, 1, G4, 0 },
        { "P5", "h100-80gb", { { G3, 0 } }, 1, G1_DOUBLE, 2 },
        { "P6", "h100-80gb", { { G3, 4 } }, 1, G1, 4 },
        { "P7", "a100-40gb", { { G1_ME, 6 } }, 1, G1_ME, 0 },
        { "P7", "a100-40gb", { { G1_ME, 6 } }, 1, G7, 0 },
        { "P8", "a100-40gb", { { G3, 0 }, { G3, 4 } }, 2, G1, 0 },
        { "empty", "a100-40gb", {}, 0, G1, 7 },
        { "empty", "a30", {}, 0, G1_ME, 1 },
        { "shared JPEG", "a30", { { G1_ME, 0 } }, 1, G2_ME, 0 },
        { "shared JPEG", "a30", { { G1_ME, 0 } }, 1, G2, 1 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct sim_state *state = mig_node(rows[i].gpu);

        for (size_t j = 0; j < rows[i].n_have; j++)
            create(state, rows[i].have[j].profile, (int)rows[i].have[j].start);
        uint32_t capacity = sim_gi_capacity(&state->gpus[0], rows[i].asked);
        if (capacity != rows[i].capacity)
            fail_msg("%s: room for %u of %s", rows[i].what, capacity,
                     state->gpus[0].profiles[rows[i].asked].name);
    }
}

static void place_can_be_chosen_where_the_driver_would_run_into_a_wall(void **test)
{
    auto_free struct sim_state *state = mig_node("a100-40gb");

    create(state, G3, 4); /* P4 */
    create(state, G2, 0);
    create(state, G1, 2);
    create(state, G1, 3);

    auto_free struct sim_state *other = mig_node("h100-80gb");
    create(other, G1_DOUBLE, 0); /* P14 */
    create(other, G1_DOUBLE, 2);
    create(other, G2, 4);
    create(other, G1_DOUBLE, 6);
}

static void wrong_places_and_profiles_are_told_apart(void **test)
{
    static const struct {
        uint32_t profile;
        struct sim_placement at;
        int r;
    } rows[] = {
        { G1, { 7, 1 }, -EINVAL }, /* the eighth memory slice has no compute slice */
        { G2, { 1, 2 }, -EINVAL }, /* not aligned */
        { G1, { 0, 2 }, -EINVAL }, /* another size */
        { G3, { 4, 4 }, -ENOSPC }, /* taken */
        { G7, { 0, 8 }, -ENOSPC },  { G1_ALL_ME, { 0, 1 }, -ENOTSUP }, /* not on this board */
        { 18, { 0, 1 }, -ENOTSUP }, { G2, { 0, 2 }, 0 },
    };
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu_instance *gi;
    struct err err = {};

    create(state, G3, 4);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(
            sim_gi_create(state, &state->gpus[0], rows[i].profile, &rows[i].at, &gi, &err),
            rows[i].r);
    assert_int_equal(sim_gi_profile_of_id(&state->gpus[0], 19, &err), G1);
    assert_int_equal(sim_gi_profile_of_id(&state->gpus[0], 47, &err), -ENOTSUP);
    assert_int_equal(sim_gi_profile_of_id(&state->gpus[0], 1, &err), -EINVAL);
}

static void all_media_engines_leave_none_for_others(void **test)
{
    auto_free struct sim_state *state = mig_node("rtx-pro-6000");
    struct sim_gpu *gpu = &state->gpus[0];
    struct sim_gpu_instance *gi;

    create(state, G1_ALL_ME, 0); /* P12 */
    assert_int_equal(
        sim_gi_create(state, gpu, (uint32_t)sim_gi_profile_of_id(gpu, 14, NULL), NULL, &gi, NULL),
        -ENOSPC);
    assert_int_equal(
        sim_gi_create(state, gpu, (uint32_t)sim_gi_profile_of_id(gpu, 67, NULL), NULL, &gi, NULL),
        0);
    assert_int_equal(gi->start, 3);
}

/* On the real boards one limit often hides another; here each stands alone. */
static void each_limit_binds_on_its_own(void **test)
{
    static const size_t engines[] = {
        offsetof(struct sim_profile, copy_engines), offsetof(struct sim_profile, decoders),
        offsetof(struct sim_profile, encoders),     offsetof(struct sim_profile, jpegs),
        offsetof(struct sim_profile, ofas),
    };
    auto_free struct sim_state *fresh = mig_node("h100-80gb"), *state = mig_node("h100-80gb");
    struct sim_gpu *gpu = &state->gpus[0];

    gpu->profiles[G1].max_instances = 2;
    assert_int_equal(sim_gi_capacity(gpu, G1), 2);
    *gpu = fresh->gpus[0];
    gpu->compute_slices = 3;
    assert_int_equal(sim_gi_capacity(gpu, G1), 3);

    /* Of 60 engines, promised as twice 30, one profile takes 50. */
    for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
        *gpu = fresh->gpus[0];
        *(uint32_t *)((char *)&gpu->profiles[G3] + engines[i]) = 30;
        *(uint32_t *)((char *)&gpu->profiles[G4] + engines[i]) = 50;
        assert_int_equal(sim_gi_capacity(gpu, G3), 2);
        create(state, G4, 0);
        assert_int_equal(sim_gi_capacity(gpu, G3), 0);
        assert_int_equal(sim_gi_capacity(gpu, G1), 3);
    }
}

static void nothing_is_created_while_mig_is_off(void **test)
{
    auto_free struct sim_state *state = node("h100-80gb");
    struct sim_gpu_instance *gi;

    assert_int_equal(sim_gi_create(state, &state->gpus[0], G1, NULL, &gi, NULL), -ENOTSUP);
    assert_int_equal(sim_gi_capacity(&state->gpus[0], G1), 7);
}

static void first_instance_needs_a_gpu_without_clients(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu_instance *gi;
    struct err err = {};

    run_process(state, 41, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    assert_int_equal(sim_gi_create(state, &state->gpus[0], G1, NULL, &gi, &err), -EBUSY);
    assert_string_equal(err.text, "process 41 (train) still holds the GPU, so its first GPU "
                                  "instance cannot be made");

    state->processes[0].exists = false;
    create(state, G1, 0);
    run_process(state, 42, 7, 0);
    create(state, G1, 1); /* later ones do not care */
}

static void what_is_held_stays_and_the_holder_is_named(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu *gpu = &state->gpus[0];
    struct sim_gpu_instance *gi = create(state, G1, 0), *other = create(state, G1, 1);
    struct sim_compute_instance *ci = fill(state, gi), *other_ci = fill(state, other);
    struct err err = {};

    run_process(state, 3121, gi->id, ci->id); /* P15 */
    assert_int_equal(sim_ci_destroy(state, gpu, gi, ci, &err), -EBUSY);
    assert_string_equal(err.text,
                        "process 3121 (train) still holds compute instance 0 of GPU instance 7");
    assert_int_equal(sim_gi_destroy(state, gpu, gi, &err), -EBUSY);
    assert_string_equal(err.text, "process 3121 (train) still holds GPU instance 7");
    assert_int_equal(sim_mig_holder(state, gpu, gi->id, SIM_NO_INSTANCE)->pid, 3121);
    assert_null(sim_mig_holder(state, gpu, other->id, SIM_NO_INSTANCE));

    assert_int_equal(sim_gi_destroy(state, gpu, other, &err), -EBUSY); /* P16 */
    assert_string_equal(err.text, "compute instance 0 is still in GPU instance 8");
    assert_int_equal(sim_ci_destroy(state, gpu, other, other_ci, &err), 0);
    assert_int_equal(sim_gi_destroy(state, gpu, other, &err), 0);
    assert_null(sim_gi_by_id(gpu, 8));
}

static void monitor_inside_an_instance_holds_its_compute_instances_too(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu_instance *gi = create(state, G2, 0);
    struct sim_compute_instance *ci = fill(state, gi);

    run_process(state, 7, gi->id, SIM_NO_INSTANCE);
    assert_int_equal(sim_ci_destroy(state, &state->gpus[0], gi, ci, NULL), -EBUSY);
}

/* --- compute instances ----------------------------------------------------------------------- */

/* spec/mig §1.9 and P22: which profiles, how many of each, multiprocessors of one. */
static void compute_profiles_are_those_of_the_driver(void **test)
{
    static const struct {
        const char *gpu;
        uint32_t gi, ci, max, multiprocessors; /* max 0: not offered */
    } rows[] = {
        { "a100-40gb", G1, 0, 1, 14 },
        { "a100-40gb", G1, 7, 0, 0 },
        { "a100-40gb", G1, 1, 0, 0 },
        { "a100-40gb", G2, 0, 2, 14 },
        { "a100-40gb", G2, 1, 1, 28 },
        { "a100-40gb", G2, 7, 0, 0 },
        { "a100-40gb", G3, 0, 3, 14 },
        { "a100-40gb", G3, 1, 1, 28 },
        { "a100-40gb", G3, 2, 1, 42 },
        { "a100-40gb", G4, 0, 4, 14 },
        { "a100-40gb", G4, 1, 2, 28 },
        { "a100-40gb", G4, 2, 0, 0 },
        { "a100-40gb", G4, 3, 1, 56 },
        { "a100-40gb", G7, 0, 7, 14 },
        { "a100-40gb", G7, 1, 3, 28 },
        { "a100-40gb", G7, 2, 2, 42 },
        { "a100-40gb", G7, 3, 1, 56 },
        { "a100-40gb", G7, 4, 1, 98 },
        { "a100-40gb", G1_DOUBLE, 0, 1, 14 },
        { "a100-40gb", G1_DOUBLE, 7, 0, 0 },
        { "h100-80gb", G2, 0, 2, 16 },
        { "h100-80gb", G2, 7, 1, 26 },
        { "h100-80gb", G2, 1, 1, 32 },
        { "h100-80gb", G1, 7, 0, 0 },
        { "h100-80gb", G1_DOUBLE, 7, 1, 26 },
        { "h100-80gb", G1_DOUBLE, 0, 1, 26 },
        { "h100-80gb", G3, 2, 1, 60 },
        { "h100-80gb", G7, 4, 1, 132 },
        { "h100-80gb", G7, 5, 0, 0 },
        { "h100-80gb", G7, 6, 0, 0 },
        { "h100-80gb", G7, 8, 0, 0 },
        { "rtx-pro-6000", G2, 0, 2, 46 },
        { "rtx-pro-6000", G2, 1, 1, 94 },
        { "rtx-pro-6000", G2, 7, 0, 0 },
        { "b200", G2, 7, 1, 30 },
        { "a30", G4, 3, 1, 56 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct sim_state *state = mig_node(rows[i].gpu);
        struct sim_gpu_instance *gi = create(state, rows[i].gi, NONE);
        struct sim_ci_profile profile = {};
        int r = sim_ci_profile_get(&state->gpus[0], gi, rows[i].ci, &profile, NULL);

        if (r != (rows[i].max ? 0 : -ENOTSUP) || profile.max_instances != rows[i].max ||
            profile.multiprocessors != rows[i].multiprocessors)
            fail_msg("%s, GI %u, CI %u: %d, %u times %u multiprocessors", rows[i].gpu, rows[i].gi,
                     rows[i].ci, r, profile.max_instances, profile.multiprocessors);
        assert_int_equal(sim_ci_profile_get(&state->gpus[0], gi, SIM_N_CI_PROFILES, &profile, NULL),
                         -EINVAL);
        assert_int_equal(sim_ci_capacity(&state->gpus[0], gi, rows[i].ci), rows[i].max);
    }
}

static void compute_instances_take_the_first_place_that_fits(void **test)
{
    auto_free struct sim_state *state = mig_node("a100-40gb");
    struct sim_gpu *gpu = &state->gpus[0];
    struct sim_gpu_instance *gi = create(state, G7, NONE);
    struct sim_compute_instance *one, *three, *two, *none;

    assert_int_equal(sim_ci_create(state, gpu, gi, 0, NULL, &one, NULL), 0);
    assert_int_equal(sim_ci_create(state, gpu, gi, 2, NULL, &three, NULL), 0);
    assert_int_equal(sim_ci_create(state, gpu, gi, 1, NULL, &two, NULL), 0);
    assert_int_equal(one->start, 0);
    assert_int_equal(three->start, 4);
    assert_int_equal(two->start, 2);
    assert_int_equal(one->id, 0);
    assert_int_equal(three->id, 1);
    assert_int_equal(two->id, 2);
    assert_int_equal(sim_ci_create(state, gpu, gi, 1, NULL, &none, NULL), -ENOSPC);
    assert_int_equal(sim_ci_capacity(gpu, gi, 0), 1);

    assert_int_equal(sim_ci_destroy(state, gpu, gi, three, NULL), 0);
    assert_int_equal(sim_ci_create(state, gpu, gi, 0, &(struct sim_placement){ 5, 1 }, &one, NULL),
                     0);
    assert_int_equal(one->id, 1); /* the lowest that is free */
    assert_int_equal(sim_ci_create(state, gpu, gi, 0, &(struct sim_placement){ 5, 1 }, &none, NULL),
                     -ENOSPC);
    assert_int_equal(sim_ci_create(state, gpu, gi, 0, &(struct sim_placement){ 7, 1 }, &none, NULL),
                     -EINVAL);
    assert_int_equal(sim_ci_create(state, gpu, gi, 1, &(struct sim_placement){ 1, 2 }, &none, NULL),
                     -EINVAL);
    assert_int_equal(sim_ci_create(state, gpu, gi, 3, NULL, &none, NULL), -ENOSPC);
}

static bool is_uuid(const char *text)
{
    static const char shape[] = "MIG-xxxxxxxx-xxxx-Vxxx-Rxxx-xxxxxxxxxxxx";

    if (strlen(text) != strlen(shape))
        return false;
    for (size_t i = 0; shape[i]; i++) {
        const char *allowed = shape[i] == 'x'   ? "0123456789abcdef"
                              : shape[i] == 'V' ? "12345"
                              : shape[i] == 'R' ? "89ab"
                                                : (char[]){ shape[i], '\0' };
        if (!strchr(allowed, text[i]))
            return false;
    }
    return true;
}

static void uuid_lives_as_long_as_its_device_and_never_comes_back(void **test)
{
    auto_free struct sim_state *state = mig_node("8xh100-80gb");
    struct sim_mig_want wants[] = { { "1g.10gb", 7 } };
    struct sim_mig_device device;
    char seen[2 * 56][48];
    size_t n_seen = 0;

    for (int round = 0; round < 2; round++) {
        for (uint32_t g = 0; g < state->n_gpus; g++) {
            assert_int_equal(sim_mig_partition(state, &state->gpus[g], wants, 1, NULL), 0);
            for (uint32_t i = 0; i < 7; i++) {
                assert_int_equal(sim_mig_device_at(&state->gpus[g], i, &device), 0);
                assert_true(is_uuid(device.ci->uuid));
                for (size_t s = 0; s < n_seen; s++)
                    assert_string_not_equal(seen[s], device.ci->uuid);
                strcpy(seen[n_seen++], device.ci->uuid);
                assert_int_equal(sim_mig_device_by_uuid(state, device.ci->uuid, &device), 0);
                assert_ptr_equal(device.gpu, &state->gpus[g]);
                assert_int_equal(sim_mig_device_index(device.gpu, device.gi, device.ci), i);
            }
        }
    }
    assert_int_equal(sim_mig_device_by_uuid(state, seen[0], &device), -ENOENT);
    assert_int_equal(sim_mig_device_by_uuid(state, seen[56], &device), 0);

    /* A neighbour that comes and goes does not touch it. */
    struct sim_gpu_instance *other = sim_gi_by_id(device.gpu, 13);
    assert_int_equal(sim_ci_destroy(state, device.gpu, other, &other->compute[0], NULL), 0);
    assert_int_equal(sim_gi_destroy(state, device.gpu, other, NULL), 0);
    assert_int_equal(sim_mig_device_by_uuid(state, seen[56], &device), 0);
}

static void devices_are_counted_by_instance_ids(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu *gpu = &state->gpus[0];
    struct sim_gpu_instance *high = create(state, G1, 6), *low = create(state, G3, 0);
    struct sim_compute_instance *a, *b, *c, *d;
    struct sim_mig_device device;

    create(state, G1, 4); /* without a compute instance it is no device */
    c = fill(state, high);
    assert_int_equal(sim_ci_create(state, gpu, low, 0, NULL, &a, NULL), 0);
    assert_int_equal(sim_ci_create(state, gpu, low, 0, NULL, &b, NULL), 0);
    assert_int_equal(sim_ci_create(state, gpu, low, 0, NULL, &d, NULL), 0);
    assert_int_equal(sim_mig_device_at(gpu, 0, &device), 0);
    assert_ptr_equal(device.ci, a);
    assert_int_equal(sim_mig_device_at(gpu, 3, &device), 0);
    assert_ptr_equal(device.ci, c);
    assert_int_equal(sim_mig_device_at(gpu, 4, &device), -ENOENT);
    assert_int_equal(sim_mig_device_index(gpu, low, b), 1);

    assert_int_equal(sim_ci_destroy(state, gpu, low, a, NULL), 0); /* P21 */
    assert_int_equal(sim_mig_device_at(gpu, 2, &device), 0);
    assert_int_equal(sim_mig_device_at(gpu, 3, &device), -ENOENT);
}

/* --- mode ------------------------------------------------------------------------------------ */

enum client { IDLE, BUSY };

static void mode_takes_effect_as_the_architecture_lets_it(void **test)
{
    static const struct {
        const char *what, *gpu;
        enum client client;
        enum sim_mig_activation activation;
        uint32_t current, pending, after_reset;
    } rows[] = {
        { "at once", "h100-80gb", IDLE, SIM_MIG_ACTIVE, 1, 1, 1 },
        { "P17", "h100-80gb", BUSY, SIM_MIG_IN_USE, 0, 1, 1 },
        { "P18", "a100-40gb", BUSY, SIM_MIG_IN_USE, 0, 1, 1 },
        { "T11", "a100-40gb", IDLE, SIM_MIG_NEEDS_RESET, 0, 1, 1 },
        { "Blackwell", "b200", IDLE, SIM_MIG_ACTIVE, 1, 1, 1 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct sim_state *state = node(rows[i].gpu);
        struct sim_gpu *gpu = &state->gpus[0];
        enum sim_mig_activation activation;

        if (rows[i].client == BUSY)
            run_process(state, 9, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
        assert_int_equal(sim_mig_mode_set(state, gpu, 1, &activation, NULL), 0);
        assert_int_equal(activation, rows[i].activation);
        assert_int_equal(gpu->mig_current, rows[i].current);
        assert_int_equal(gpu->mig_pending, rows[i].pending);
        if (rows[i].client == BUSY) {
            struct err err = {};

            assert_int_equal(sim_gpu_reset(state, gpu, &err), -EBUSY);
            assert_string_equal(err.text,
                                "process 9 (train) still holds the GPU, so it cannot be reset");
            state->processes[0].exists = false;
        }
        assert_int_equal(sim_gpu_reset(state, gpu, NULL), 0);
        assert_int_equal(gpu->mig_current, rows[i].after_reset);
    }
}

static void ampere_without_need_of_a_reset_changes_at_once(void **test)
{
    auto_free struct sim_state *state = node("a100-40gb");
    enum sim_mig_activation activation;

    state->gpus[0].mig_needs_reset = false;
    assert_int_equal(sim_mig_mode_set(state, &state->gpus[0], 1, &activation, NULL), 0);
    assert_int_equal(activation, SIM_MIG_ACTIVE);
    assert_int_equal(state->gpus[0].mig_current, 1);
}

static void mode_stays_while_instances_exist(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu *gpu = &state->gpus[0];
    enum sim_mig_activation activation;

    create(state, G1, NONE); /* P20 */
    assert_int_equal(sim_mig_mode_set(state, gpu, 0, &activation, NULL), 0);
    assert_int_equal(activation, SIM_MIG_IN_USE);
    assert_int_equal(gpu->mig_current, 1);
    assert_int_equal(gpu->mig_pending, 1);

    assert_int_equal(sim_mig_clear(state, gpu, NULL), 0);
    assert_int_equal(sim_mig_mode_set(state, gpu, 0, &activation, NULL), 0);
    assert_int_equal(activation, SIM_MIG_ACTIVE);
    assert_int_equal(gpu->mig_current, 0);
}

static void setting_the_present_mode_takes_a_pending_one_back(void **test)
{
    auto_free struct sim_state *state = node("a100-40gb");
    struct sim_gpu *gpu = &state->gpus[0];
    enum sim_mig_activation activation;

    assert_int_equal(sim_mig_mode_set(state, gpu, 1, &activation, NULL), 0);
    assert_int_equal(gpu->mig_pending, 1);
    assert_int_equal(sim_mig_mode_set(state, gpu, 0, &activation, NULL), 0);
    assert_int_equal(activation, SIM_MIG_ACTIVE);
    assert_int_equal(gpu->mig_pending, 0);
}

static void mode_is_refused_where_there_is_none(void **test)
{
    auto_free struct sim_state *state = node("t4,h100-80gb");
    enum sim_mig_activation activation;
    struct err err = {};

    assert_int_equal(sim_mig_mode_set(state, &state->gpus[0], 1, &activation, &err), -ENOTSUP);
    assert_string_equal(err.text, "Tesla T4 cannot do MIG");
    assert_int_equal(sim_mig_mode_set(state, &state->gpus[1], 2, &activation, &err), -EINVAL);
    state->gpus[1].lost = true;
    assert_int_equal(sim_mig_mode_set(state, &state->gpus[1], 1, &activation, &err), -ENODEV);
}

static void reboot_keeps_the_mode_on_ampere_alone(void **test)
{
    auto_free struct sim_state *state = mig_node("a100-40gb,h100-80gb");
    struct sim_mig_want wants[] = { { "3g.20gb", 1 } };

    assert_int_equal(sim_mig_partition(state, &state->gpus[0], wants, 1, NULL), 0);
    wants[0].profile = "3g.40gb";
    assert_int_equal(sim_mig_partition(state, &state->gpus[1], wants, 1, NULL), 0);
    run_process(state, 5, 2, 0);
    state->gpus[1].lost = true;
    sim_reboot(state);

    struct sim_mig_device device;
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(sim_mig_device_at(&state->gpus[i], 0, &device), -ENOENT);
    assert_int_equal(state->gpus[0].mig_current, 1);
    assert_int_equal(state->gpus[1].mig_current, 0);
    assert_int_equal(state->gpus[1].mig_pending, 0);
    assert_false(state->gpus[1].lost);
    assert_null(sim_mig_holder(state, &state->gpus[0], SIM_NO_INSTANCE, SIM_NO_INSTANCE));
}

static void pending_mode_of_ampere_comes_into_force_with_a_reboot(void **test)
{
    auto_free struct sim_state *state = node("a100-40gb");
    enum sim_mig_activation activation;

    assert_int_equal(sim_mig_mode_set(state, &state->gpus[0], 1, &activation, NULL), 0);
    sim_reboot(state);
    assert_int_equal(state->gpus[0].mig_current, 1);
}

/* --- whole partitions ------------------------------------------------------------------------ */

static void assert_layout(struct sim_gpu *gpu, const char *wanted)
{
    struct sim_gpu_instance *gis[SIM_MAX_GPU_INSTANCES];
    size_t n = sim_gi_list(gpu, SIM_NO_INSTANCE, gis);
    char text[512] = "";

    for (size_t i = 0; i < n; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s@%u", i ? " " : "",
                 gpu->profiles[gis[i]->profile].name, gis[i]->start);
        for (size_t c = 0; c < SIM_MAX_COMPUTE_INSTANCES; c++) {
            struct sim_mig_device device = { gpu, gis[i], &gis[i]->compute[c] };
            char name[32];

            if (!device.ci->exists)
                continue;
            sim_mig_device_profile(&device, name);
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", c ? "," : ":", name);
        }
    }
    assert_string_equal(text, wanted);
}

static void partition_finds_a_layout(void **test)
{
    static const struct {
        const char *gpu;
        struct sim_mig_want wants[4];
        const char *layout;
    } rows[] = {
        { "h100-80gb",
          { { "1g.10gb", 2 }, { "2g.20gb", 1 }, { "3g.40gb", 1 } },
          "3g.40gb@4:3g.40gb 2g.20gb@0:2g.20gb 1g.10gb@2:1g.10gb 1g.10gb@3:1g.10gb" },
        /* T6: legal, and out of the driver's own reach. */
        { "a100-40gb",
          { { "1g.5gb", 2 }, { "1g.10gb", 3 } },
          "1g.10gb@0:1g.10gb 1g.10gb@4:1g.10gb 1g.10gb@6:1g.10gb 1g.5gb@2:1g.5gb 1g.5gb@3:1g.5gb" },
        { "a100-40gb", { { "1c.3g.20gb", 3 } }, "3g.20gb@4:1c.3g.20gb,1c.3g.20gb,1c.3g.20gb" },
        { "a100-40gb",
          { { "1c.3g.20gb", 4 } },
          "3g.20gb@0:1c.3g.20gb 3g.20gb@4:1c.3g.20gb,1c.3g.20gb,1c.3g.20gb" },
        { "a100-40gb",
          { { "1c.3g.20gb", 1 }, { "2c.3g.20gb", 1 }, { "3g.20gb", 1 } },
          "3g.20gb@0:2c.3g.20gb,1c.3g.20gb 3g.20gb@4:3g.20gb" },
        { "h100-80gb", { { "1c.7g.80gb", 1 } }, "7g.80gb@0:1c.7g.80gb" }, /* N8 */
        { "a100-40gb", { { "1c.1g.5gb", 1 } }, "1g.5gb@6:1g.5gb" },
        { "h100-80gb",
          { { "1g.10gb+me", 1 }, { "1g.20gb", 1 } },
          "1g.20gb@4:1g.20gb 1g.10gb+me@6:1g.10gb+me" },
        { "a30",
          { { "2g.12gb", 1 }, { "1g.6gb", 2 } },
          "2g.12gb@0:2g.12gb 1g.6gb@2:1g.6gb 1g.6gb@3:1g.6gb" },
        { "rtx-pro-6000",
          { { "1g.24gb+me.all", 1 }, { "2g.48gb-me", 1 } },
          "2g.48gb-me@0:2g.48gb-me 1g.24gb+me.all@6:1g.24gb+me.all" },
        { "h100-80gb", {}, "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct sim_state *state = node(rows[i].gpu);
        size_t n = 0;
        struct err err = {};

        while (n < ARRAY_LEN(rows[i].wants) && rows[i].wants[n].profile)
            n++;
        /* Over an older layout, to see that it goes. */
        state->gpus[0].mig_current = 1;
        fill(state, create(state, G1, 0));
        if (sim_mig_partition(state, &state->gpus[0], rows[i].wants, n, &err) < 0)
            fail_msg("%s", err.text);
        assert_int_equal(state->gpus[0].mig_current, 1);
        assert_layout(&state->gpus[0], rows[i].layout);
    }
}

static void partition_that_cannot_be_says_what_does_not_fit(void **test)
{
    static const struct {
        const char *gpu;
        struct sim_mig_want wants[3];
        int r;
        const char *text;
    } rows[] = {
        { "h100-80gb",
          { { "3g.40gb", 2 }, { "1g.10gb", 1 } },
          -ENOSPC,
          "1 × 1g.10gb + 2 × 3g.40gb do not fit on NVIDIA H100 80GB HBM3: beside 2 × 3g.40gb there "
          "is no room for 1 × 1g.10gb; there would be for nothing" },
        { "h100-80gb",
          { { "4g.40gb", 1 }, { "2g.20gb", 2 } },
          -ENOSPC,
          "2 × 2g.20gb + 1 × 4g.40gb do not fit on NVIDIA H100 80GB HBM3: beside 1 × 2g.20gb + 1 × "
          "4g.40gb there is no room for 1 × 2g.20gb; there would be for 1 × 1g.10gb or 1 × "
          "1g.10gb+me or 1 × 1g.20gb" },
        { "h100-80gb",
          { { "1g.10gb", 8 } },
          -ENOSPC,
          "8 × 1g.10gb do not fit on NVIDIA H100 80GB HBM3, which has at most 7 MIG devices" },
        { "h100-80gb",
          { { "1g.5gb", 1 } },
          -EINVAL,
          "NVIDIA H100 80GB HBM3 has no MIG profile \"1g.5gb\"; it has 1g.10gb, 2g.20gb, 3g.40gb, "
          "4g.40gb, 7g.80gb, 1g.10gb+me, 1g.20gb" },
        { "h100-80gb",
          { { "5c.7g.80gb", 1 } },
          -EINVAL,
          "7g.80gb cannot be cut into parts of 5 slices" },
        { "h100-80gb",
          { { "1g.10gb", 5 }, { "1c.3g.40gb", 6 } },
          -ENOSPC,
          "5 × 1g.10gb + 2 × 3g.40gb do not fit on NVIDIA H100 80GB HBM3: beside 2 × 3g.40gb there "
          "is no room for 5 × 1g.10gb; there would be for nothing" },
        { "t4", { { "1g.10gb", 1 } }, -ENOTSUP, "Tesla T4 cannot do MIG" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free struct sim_state *state = node(rows[i].gpu);
        size_t n = 0;
        struct err err = {};

        while (n < ARRAY_LEN(rows[i].wants) && rows[i].wants[n].profile)
            n++;
        assert_int_equal(sim_mig_partition(state, &state->gpus[0], rows[i].wants, n, &err),
                         rows[i].r);
        assert_string_equal(err.text, rows[i].text);
        assert_int_equal(state->gpus[0].mig_current, 0); /* untouched */
    }
}

static void partition_leaves_a_gpu_alone_that_somebody_uses(void **test)
{
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_mig_want wants[] = { { "7g.80gb", 1 } };
    struct err err = {};

    fill(state, create(state, G1, 0));
    run_process(state, 77, 7, 0);
    assert_int_equal(sim_mig_partition(state, &state->gpus[0], wants, 1, &err), -EBUSY);
    assert_string_equal(err.text, "process 77 (train) still holds the GPU");
    assert_layout(&state->gpus[0], "1g.10gb@0:1g.10gb");
}

/* Every multiset that has a legal layout is found, every other refused: against the census. */
static void partition_succeeds_exactly_where_a_layout_exists(void **test)
{
    static const uint32_t profiles[] = { G1, G2, G3, G4, G7, G1_DOUBLE };
    auto_free struct census *census = calloc(1, sizeof(*census));
    auto_free struct sim_state *state = mig_node("h100-80gb");
    struct sim_gpu *gpu = &state->gpus[0];
    size_t legal = 0, n_max[] = { 4, 3, 2, 1, 1, 3 };

    census->profiles = profiles;
    census->n_profiles = ARRAY_LEN(profiles);
    census_take(census, gpu);
    for (size_t code = 0; code < 5 * 4 * 3 * 2 * 2 * 4; code++) {
        struct sim_mig_want wants[ARRAY_LEN(profiles)];
        struct multiset set = {};
        size_t rest = code;
        bool known = false;

        for (size_t i = 0; i < ARRAY_LEN(profiles); i++) {
            wants[i].profile = gpu->profiles[profiles[i]].name;
            wants[i].count = (uint32_t)(rest % (n_max[i] + 1));
            rest /= n_max[i] + 1;
            set.count[profiles[i]] = (uint8_t)wants[i].count;
        }
        for (size_t i = 0; i < census->n_sets; i++)
            known = known || memcmp(&census->sets[i], &set, sizeof(set)) == 0;
        int r = sim_mig_partition(state, gpu, wants, ARRAY_LEN(wants), NULL);
        assert_int_equal(r, known ? 0 : -ENOSPC);
        legal += known;
    }
    assert_in_range(legal, 30, census->n_sets);
}

/* --- names ----------------------------------------------------------------------------------- */

/* spec/mig §7.1, N1–N7. */
static void names_are_computed_as_clients_compute_them(void **test)
{
    static const struct {
        uint64_t profile_mib, total_mib;
        uint32_t gb;
    } rows[] = {
        { 4864, 40960, 5 },    { 9856, 40960, 10 },  { 9856, 81920, 10 },  { 71168, 143771, 71 },
        { 22528, 183359, 23 }, { 24187, 97887, 24 }, { 81152, 81559, 80 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(sim_profile_gb(rows[i].profile_mib << 20, rows[i].total_mib << 20),
                         rows[i].gb);
}

/* --- everything at random -------------------------------------------------------------------- */

static uint32_t dice(uint64_t *seed, uint32_t sides)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*seed >> 33) % sides;
}

static void assert_sound(const struct sim_gpu *gpu)
{
    uint32_t slices = 0, same[SIM_MAX_PROFILES] = {}, units = 0;

    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        const struct sim_gpu_instance *gi = &gpu->instances[i];
        uint32_t taken = 0, mask = ((1u << gi->size) - 1) << gi->start;

        if (!gi->exists)
            continue;
        assert_int_equal(units & mask, 0);
        units |= mask;
        slices += gpu->profiles[gi->profile].slices;
        assert_true(++same[gi->profile] <= gpu->profiles[gi->profile].max_instances);
        for (size_t c = 0; c < SIM_MAX_COMPUTE_INSTANCES; c++) {
            const struct sim_compute_instance *ci = &gi->compute[c];
            uint32_t ci_mask = ((1u << ci->size) - 1) << ci->start;

            if (!ci->exists)
                continue;
            assert_int_equal(taken & ci_mask, 0);
            taken |= ci_mask;
            assert_true(ci->start + ci->size <= gpu->profiles[gi->profile].slices);
        }
    }
    assert_true(units < 1u << gpu->memory_slices);
    assert_true(slices <= gpu->compute_slices);
}

static void random_step(struct sim_state *state, uint64_t *seed)
{
    struct sim_gpu *gpu = &state->gpus[0];
    struct sim_gpu_instance *gi = &gpu->instances[dice(seed, SIM_MAX_GPU_INSTANCES)], *made;
    struct sim_compute_instance *ci;
    uint32_t profile = dice(seed, SIM_MAX_PROFILES), ci_profile = dice(seed, SIM_N_CI_PROFILES);

    switch (dice(seed, 4)) {
    case 0:
        if (gpu->profiles[profile].supported) {
            bool room = sim_gi_capacity(gpu, profile) > 0;
            int r = sim_gi_create(state, gpu, profile, NULL, &made, NULL);

            assert_int_equal(r, room ? 0 : -ENOSPC);
        }
        break;
    case 1:
        if (gi->exists) {
            bool room = sim_ci_capacity(gpu, gi, ci_profile) > 0;
            int r = sim_ci_create(state, gpu, gi, ci_profile, NULL, &ci, NULL);

            assert_int_equal(r >= 0, room);
        }
        break;
    case 2:
        if (gi->exists)
            (void)!sim_gi_destroy(state, gpu, gi, NULL);
        break;
    default:
        ci = &gi->compute[dice(seed, SIM_MAX_COMPUTE_INSTANCES)];
        if (gi->exists && ci->exists)
            assert_int_equal(sim_ci_destroy(state, gpu, gi, ci, NULL), 0);
    }
}

static void no_sequence_of_calls_breaks_a_rule(void **test)
{
    static const char *const gpus[] = { "a100-40gb", "h100-80gb", "b200", "a30", "rtx-pro-6000" };

    for (size_t i = 0; i < ARRAY_LEN(gpus); i++) {
        auto_free struct sim_state *state = mig_node(gpus[i]);
        uint64_t seed = i + 1;

        for (int step = 0; step < 4000; step++) {
            random_step(state, &seed);
            assert_sound(&state->gpus[0]);
        }
        assert_int_equal(sim_state_check(state, sizeof(*state), NULL), 0);
    }
}

/* --- events ---------------------------------------------------------------------------------- */

static void reader_sees_each_event_once_and_loses_only_the_oldest(void **test)
{
    auto_free struct sim_state *state = node("2xh100-80gb");
    const struct sim_event *event;
    uint64_t cursor = 0;

    assert_null(sim_event_next(state, cursor));
    for (uint64_t i = 1; i <= SIM_MAX_EVENTS + 10; i++)
        sim_event_raise(state, &state->gpus[1], SIM_EVENT_XID, i, 3, 4);
    for (uint64_t i = 11; i <= SIM_MAX_EVENTS + 10; i++) {
        event = sim_event_next(state, cursor);
        assert_non_null(event);
        assert_int_equal(event->data, i);
        assert_int_equal(event->gpu, 1);
        assert_int_equal(event->gi_id, 3);
        cursor = event->sequence;
    }
    assert_null(sim_event_next(state, cursor));
    assert_int_equal(state->gpus[1].last_xid, SIM_MAX_EVENTS + 10);

    sim_event_gpu_lost(state, &state->gpus[0]);
    assert_true(state->gpus[0].lost);
    assert_int_equal(sim_event_next(state, cursor)->data, 79);
}

static void changes_of_the_partition_are_announced(void **test)
{
    auto_free struct sim_state *state = node("h100-80gb");
    enum sim_mig_activation activation;
    uint32_t before = state->wake;

    assert_int_equal(sim_mig_mode_set(state, &state->gpus[0], 1, &activation, NULL), 0);
    assert_int_equal(sim_event_next(state, 0)->type, SIM_EVENT_MIG_CONFIG);
    assert_int_not_equal(state->wake, before);
    create(state, G1, NONE);
    assert_int_equal(state->n_events, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(driver_chooses_the_places_seen_on_hardware),
        cmocka_unit_test(three_slices_go_to_zero_first_when_told_so),
        cmocka_unit_test(instance_ids_are_places_in_the_tree_of_halves),
        cmocka_unit_test(every_board_allows_exactly_the_layouts_of_its_family),
        cmocka_unit_test(order_of_creation_matters_as_often_as_it_should),
        cmocka_unit_test(capacity_counts_what_still_fits),
        cmocka_unit_test(place_can_be_chosen_where_the_driver_would_run_into_a_wall),
        cmocka_unit_test(wrong_places_and_profiles_are_told_apart),
        cmocka_unit_test(all_media_engines_leave_none_for_others),
        cmocka_unit_test(each_limit_binds_on_its_own),
        cmocka_unit_test(nothing_is_created_while_mig_is_off),
        cmocka_unit_test(first_instance_needs_a_gpu_without_clients),
        cmocka_unit_test(what_is_held_stays_and_the_holder_is_named),
        cmocka_unit_test(monitor_inside_an_instance_holds_its_compute_instances_too),
        cmocka_unit_test(compute_profiles_are_those_of_the_driver),
        cmocka_unit_test(compute_instances_take_the_first_place_that_fits),
        cmocka_unit_test(uuid_lives_as_long_as_its_device_and_never_comes_back),
        cmocka_unit_test(devices_are_counted_by_instance_ids),
        cmocka_unit_test(mode_takes_effect_as_the_architecture_lets_it),
        cmocka_unit_test(ampere_without_need_of_a_reset_changes_at_once),
        cmocka_unit_test(mode_stays_while_instances_exist),
        cmocka_unit_test(setting_the_present_mode_takes_a_pending_one_back),
        cmocka_unit_test(mode_is_refused_where_there_is_none),
        cmocka_unit_test(reboot_keeps_the_mode_on_ampere_alone),
        cmocka_unit_test(pending_mode_of_ampere_comes_into_force_with_a_reboot),
        cmocka_unit_test(partition_finds_a_layout),
        cmocka_unit_test(partition_that_cannot_be_says_what_does_not_fit),
        cmocka_unit_test(partition_leaves_a_gpu_alone_that_somebody_uses),
        cmocka_unit_test(partition_succeeds_exactly_where_a_layout_exists),
        cmocka_unit_test(names_are_computed_as_clients_compute_them),
        cmocka_unit_test(no_sequence_of_calls_breaks_a_rule),
        cmocka_unit_test(reader_sees_each_event_once_and_loses_only_the_oldest),
        cmocka_unit_test(changes_of_the_partition_are_announced),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
