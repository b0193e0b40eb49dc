#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mig_boards.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"

enum { NONE = 99, REV1 = 7, NVL = 8 };

static const char *const models[] = { "a30",        "a100-40gb", "a100-80gb", "h100-80gb",
                                      "h200-141gb", "b200",      "gb200",     "rtx-pro-6000" };

static struct mig_gpu *one(struct arena *arena, const char *model)
{
    return &boards(arena, model)->gpus[0];
}

static void names_mean_what_this_gpu_calls_so(void **test)
{
    static const struct {
        const char *board, *name;
        uint32_t gi_profile, ci_profile;
    } rows[] = {
        { "a100-40gb", "1g.5gb", 0, 0 },
        { "a100-40gb", "1c.1g.5gb", 0, 0 },
        { "a100-40gb", "01g.05gb", 0, 0 },
        { "a100-40gb", "02g.010gb", 1, 1 },
        { "a100-40gb", "1g.5gb+me", 7, 0 },
        { "a100-40gb", "3g.20gb", 2, 2 },
        { "a100-40gb", "2c.3g.20gb", 2, 1 },
        { "a100-40gb", "7g.40gb", 4, 4 },
        { "a100-40gb", "4c.7g.40gb", 4, 3 },
        /* T27: one name, another profile. */
        { "a100-40gb", "1g.10gb", 9, 0 },
        { "a100-80gb", "1g.10gb", 0, 0 },
        /* Double memory is filled by the variant with most multiprocessors, where there is one. */
        { "h100-80gb", "1g.20gb", 9, REV1 },
        { "h100-80gb", "1g.10gb", 0, 0 },
        { "a30", "2g.12gb+me", 8, 1 },
        { "rtx-pro-6000", "1g.24gb", 0, 0 },
        { "rtx-pro-6000", "1g.24gb-me", 13, 0 },
        { "rtx-pro-6000", "1g.24gb+me.all", 15, 0 },
        { "rtx-pro-6000", "4g.96gb+gfx", 12, 3 },
        /* What a GB200 called its profiles when its driver counted 189 GiB. */
        { "gb200", "1g.23gb", 0, 0 },
        { "gb200", "1g.24gb", 0, 0 },
        { "gb200", "1g.24gb+me", 7, 0 },
        { "gb200", "1g.47gb", 9, REV1 },
        { "gb200", "3g.95gb", 2, 2 },
        { "gb200", "1c.4g.95gb", 3, 0 },
        { "gb200", "7g.189gb", 4, 4 },
        { "gb200", "7g.188gb", NONE, 0 },
        { "h100-80gb", "1g.24gb", NONE, 0 },
        { "a100-40gb", "1g.20gb", NONE, 0 },
        { "a100-40gb", "2g.5gb", NONE, 0 },
        { "a100-40gb", "1g.5gb+gfx", NONE, 0 },
        { "a100-40gb", "3c.4g.20gb", NONE, 0 },
        { "a100-40gb", "5c.7g.40gb", NONE, 0 },
        { "a100-40gb", "4c.3g.20gb", NONE, 0 },
        { "a100-40gb", "0c.3g.20gb", NONE, 0 },
        { "a100-40gb", "2c.1g.5gb", NONE, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
        struct mig_gpu *gpu = one(&arena, rows[i].board);
        const struct mig_gi_profile *found = NULL;
        struct mig_profile profile;
        struct err err = {};
        uint32_t ci = 77;

        assert_int_equal(mig_profile_parse(span_of(rows[i].name), &profile, NULL), 0);
        int r = mig_gpu_resolve(gpu, &profile, &found, &ci, &err);
        if (r != (rows[i].gi_profile == NONE ? -ENOENT : 0))
            fail_msg("%s: %d %s", rows[i].name, r, err.text);
        if (r < 0)
            continue;
        assert_int_equal(found->gi_profile, rows[i].gi_profile);
        assert_int_equal(ci, rows[i].ci_profile);
    }
}

static void unknown_names_are_answered_with_those_that_are_known(void **test)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    struct mig_gpu *gpu = one(&arena, "a30");
    const struct mig_gi_profile *found;
    struct err err = {};
    uint32_t ci;

    assert_int_equal(mig_gpu_resolve(gpu, &(struct mig_profile){ 1, 1, 10, 0 }, &found, &ci, &err),
                     -ENOENT);
    assert_string_equal(err.text, "NVIDIA A30 has no MIG profile 1g.10gb; it has 1g.6gb, 2g.12gb, "
                                  "4g.24gb, 1g.6gb+me, 2g.12gb+me");
    assert_int_equal(mig_gpu_resolve(gpu, &(struct mig_profile){ 3, 4, 24, 0 }, &found, &ci, &err),
                     -ENOENT);
    assert_string_equal(err.text, "4g.24gb has no compute instances of 3 slices; it has "
                                  "1c.4g.24gb, 2c.4g.24gb, 4g.24gb");
    gpu->n_profiles = 0;
    assert_int_equal(mig_gpu_resolve(gpu, &(struct mig_profile){ 1, 1, 10, 0 }, &found, &ci, &err),
                     -ENOENT);
    assert_string_equal(err.text, "NVIDIA A30 has no MIG profile 1g.10gb: the driver tells of none "
                                  "while MIG mode is off");
}

/* spec/mig §1.9's table. */
static void instances_are_cut_as_the_driver_cuts_them(void **test)
{
    static const struct {
        uint32_t slices, whole, max[MIG_CI_PROFILES];
    } rows[] = {
        { 1, 0, { 1 } },
        { 2, 1, { 2, 1 } },
        { 3, 2, { 3, 1, 1 } },
        { 4, 3, { 4, 2, 0, 1 } },
        { 7, 4, { 7, 3, 2, 1, 1 } },
        { 5, MIG_CI_PROFILES, { 5, 2, 1 } },
        { 0, MIG_CI_PROFILES, {} },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(mig_ci_whole(rows[i].slices), rows[i].whole);
        for (uint32_t ci = 0; ci < MIG_CI_PROFILES + 2; ci++)
            assert_int_equal(mig_ci_max(rows[i].slices, ci),
                             ci < MIG_CI_PROFILES ? rows[i].max[ci] : 0);
    }
}

/* Sizes, starts and what fills an instance: every profile of every board. */
static void compute_instances_agree_with_the_simulated_driver(void **test)
{
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
        auto_free struct sim_state *state = calloc(1, sizeof(*state));
        struct mig_gpu *gpu = one(&arena, models[m]);
        struct sim_spec spec;

        assert_int_equal(sim_spec_parse(models[m], &spec, NULL), 0);
        assert_int_equal(sim_machine_build(&spec, &(struct sim_machine_options){}, state, NULL), 0);
        for (size_t i = 0; i < gpu->n_profiles; i++) {
            const struct mig_gi_profile *profile = &gpu->profiles[i];
            struct sim_gpu_instance gi = { .profile = profile->gi_profile };

            assert_int_equal(mig_gpu_ci_whole(gpu, profile), sim_ci_whole(&state->gpus[0], &gi));
            for (uint32_t ci = 0; ci < MIG_CI_PROFILES; ci++) {
                struct sim_ci_profile wanted = {};
                uint32_t n_starts = 0;

                (void)!sim_ci_profile_get(&state->gpus[0], &gi, ci, &wanted, NULL);
                assert_int_equal(mig_gpu_ci_size(gpu, profile, ci), wanted.size);
                for (uint32_t start = 0; start < 10; start++)
                    n_starts += mig_ci_start_legal(profile->slices, start, wanted.size);
                assert_int_equal(n_starts, wanted.n_starts);
                for (uint32_t s = 0; s < wanted.n_starts; s++)
                    assert_true(mig_ci_start_legal(profile->slices, wanted.starts[s], wanted.size));
            }
        }
    }
}

static void devices_are_named_by_both_their_instances(void **test)
{
    static const struct {
        uint32_t gi_profile, ci_profile;
        const char *name;
    } rows[] = {
        { 0, 0, "1g.10gb" },   { 2, 2, "3g.40gb" },    { 2, 0, "1c.3g.40gb" },
        { 9, 0, "1g.20gb" },   { 9, REV1, "1g.20gb" }, { 1, REV1, "1c.2g.20gb" },
        { 4, NVL, "7g.80gb" }, { 7, 0, "1g.10gb+me" }, { 40, 0, "profile 40" },
    };
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    struct mig_gpu *gpu = one(&arena, "h100-80gb");

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct mig_gpu_instance gi = { .gi_profile = rows[i].gi_profile };
        struct mig_compute_instance ci = { .ci_profile = rows[i].ci_profile };
        char name[MIG_PROFILE_NAME_MAX];

        mig_device_name(gpu, &gi, &ci, name);
        assert_string_equal(name, rows[i].name);
    }
    assert_null(mig_gpu_profile(gpu, 13));
    assert_string_equal(mig_gpu_profile(gpu, 9)->name, "1g.20gb");
}

static void pods_hold_what_no_process_holds(void **test)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    struct mig_node *node = boards(&arena, "2xh100-80gb");
    struct mig_gpu *gpu = &node->gpus[1];

    board_put(gpu, "1g.10gb", 0);
    board_put(gpu, "3g.40gb", 4);
    gpu->gis[0].cis[0].uuid = "MIG-a";
    gpu->gis[1].cis[0].uuid = "MIG-b";
    gpu->gis[1].cis[0].holder = "process 7";
    gpu->gis[1].cis[0].held_by_process = true;
    assert_null(mig_gpu_instance_holder(&gpu->gis[0]));
    assert_true(mig_node_hold(node, "MIG-a", "pod x/y"));
    assert_true(mig_node_hold(node, "MIG-b", "pod x/z"));
    assert_false(mig_node_hold(node, "MIG-c", "pod x/y"));
    assert_string_equal(mig_gpu_instance_holder(&gpu->gis[0]), "pod x/y");
    assert_string_equal(mig_gpu_instance_holder(&gpu->gis[1]), "process 7");
    assert_false(gpu->gis[0].cis[0].held_by_process);

    node->gpus[0].holder = "process 8";
    assert_true(mig_node_hold(node, node->gpus[0].uuid, "pod x/w"));
    assert_string_equal(node->gpus[0].holder, "process 8");
    assert_false(node->gpus[0].held_by_pod);
    assert_true(mig_node_hold(node, gpu->uuid, "pod x/w"));
    assert_string_equal(gpu->holder, "pod x/w");
    assert_true(gpu->held_by_pod);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_mean_what_this_gpu_calls_so),
        cmocka_unit_test(unknown_names_are_answered_with_those_that_are_known),
        cmocka_unit_test(instances_are_cut_as_the_driver_cuts_them),
        cmocka_unit_test(compute_instances_agree_with_the_simulated_driver),
        cmocka_unit_test(devices_are_named_by_both_their_instances),
        cmocka_unit_test(pods_hold_what_no_process_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
