#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim/gpu/catalogue.h"

/* --- profiles -------------------------------------------------------------------------------- */

/* Which profiles a board has, by enum, as spec/nvml §8.2 and spec/mig §2 name them. */
static const struct {
    const char *model, *names[SIM_MAX_PROFILES];
} boards[] = {
    { "t4", {} },
    { "v100", {} },
    { "l4", {} },
    { "l40s", {} },
    { "a30",
      { [0] = "1g.6gb", [7] = "1g.6gb+me", [1] = "2g.12gb", [8] = "2g.12gb+me", [3] = "4g.24gb" } },
    { "a100-40gb",
      { [0] = "1g.5gb",
        [7] = "1g.5gb+me",
        [9] = "1g.10gb",
        [1] = "2g.10gb",
        [2] = "3g.20gb",
        [3] = "4g.20gb",
        [4] = "7g.40gb" } },
    { "a100-80gb",
      { [0] = "1g.10gb",
        [7] = "1g.10gb+me",
        [9] = "1g.20gb",
        [1] = "2g.20gb",
        [2] = "3g.40gb",
        [3] = "4g.40gb",
        [4] = "7g.80gb" } },
    { "h100-80gb",
      { [0] = "1g.10gb",
        [7] = "1g.10gb+me",
        [9] = "1g.20gb",
        [1] = "2g.20gb",
        [2] = "3g.40gb",
        [3] = "4g.40gb",
        [4] = "7g.80gb" } },
    { "h100-pcie",
      { [0] = "1g.10gb",
        [7] = "1g.10gb+me",
        [9] = "1g.20gb",
        [1] = "2g.20gb",
        [2] = "3g.40gb",
        [3] = "4g.40gb",
        [4] = "7g.80gb" } },
    { "h100-nvl",
      { [0] = "1g.12gb",
        [7] = "1g.12gb+me",
        [9] = "1g.24gb",
        [1] = "2g.24gb",
        [2] = "3g.47gb",
        [3] = "4g.47gb",
        [4] = "7g.94gb" } },
    { "h200",
      { [0] = "1g.18gb",
        [7] = "1g.18gb+me",
        [9] = "1g.35gb",
        [1] = "2g.35gb",
        [2] = "3g.71gb",
        [3] = "4g.71gb",
        [4] = "7g.141gb" } },
    { "gh200",
      { [0] = "1g.12gb",
        [7] = "1g.12gb+me",
        [9] = "1g.24gb",
        [1] = "2g.24gb",
        [2] = "3g.48gb",
        [3] = "4g.48gb",
        [4] = "7g.96gb" } },
    { "b200",
      { [0] = "1g.23gb",
        [7] = "1g.23gb+me",
        [9] = "1g.45gb",
        [1] = "2g.45gb",
        [2] = "3g.90gb",
        [3] = "4g.90gb",
        [4] = "7g.180gb" } },
    { "gb200",
      { [0] = "1g.23gb",
        [7] = "1g.23gb+me",
        [9] = "1g.47gb",
        [1] = "2g.47gb",
        [2] = "3g.93gb",
        [3] = "4g.93gb",
        [4] = "7g.186gb" } },
    { "rtx-pro-6000",
      { [0] = "1g.24gb",
        [7] = "1g.24gb+me",
        [10] = "1g.24gb+gfx",
        [15] = "1g.24gb+me.all",
        [13] = "1g.24gb-me",
        [1] = "2g.48gb",
        [11] = "2g.48gb+gfx",
        [16] = "2g.48gb+me.all",
        [14] = "2g.48gb-me",
        [3] = "4g.96gb",
        [12] = "4g.96gb+gfx" } },
};

static void every_board_has_the_profiles_that_are_known_of_it(void **state)
{
    size_t n;

    sim_models(&n);
    assert_int_equal(n, ARRAY_LEN(boards)); /* a new board needs a row here */
    for (size_t i = 0; i < ARRAY_LEN(boards); i++) {
        const struct sim_model *model = sim_model_find(span_of(boards[i].model));
        struct sim_gpu gpu;

        assert_non_null(model);
        assert_string_equal(model->name, boards[i].model);
        sim_model_fill(model, &gpu);
        for (size_t p = 0; p < SIM_MAX_PROFILES; p++) {
            assert_int_equal(gpu.profiles[p].supported, boards[i].names[p] != NULL);
            if (boards[i].names[p])
                assert_string_equal(gpu.profiles[p].name, boards[i].names[p]);
        }
        assert_false(gpu.profiles[17].supported); /* spec/nvml §8.1: clients abort on it */
    }
}

static void no_board_promises_more_than_it_has(void **state)
{
    size_t n;
    const struct sim_model *models = sim_models(&n);

    for (size_t i = 0; i < n; i++) {
        struct sim_gpu gpu;

        sim_model_fill(&models[i], &gpu);
        for (size_t p = 0; p < SIM_MAX_PROFILES; p++) {
            const struct sim_profile *profile = &gpu.profiles[p];

            if (!profile->supported)
                continue;
            assert_true(profile->max_instances >= 1);
            assert_true(profile->max_instances * profile->slices <= gpu.compute_slices);
            assert_true(profile->max_instances * (profile->memory_mib << 20) <= gpu.memory_bytes);
            assert_true(profile->max_instances * profile->multiprocessors <= gpu.multiprocessors);
            for (uint32_t s = 0; s < profile->n_starts; s++)
                assert_true(profile->starts[s] + profile->size <= gpu.memory_slices);
        }
    }
}

static void only_ampere_keeps_its_mig_mode_and_needs_a_reset(void **state)
{
    size_t n;
    const struct sim_model *models = sim_models(&n);

    for (size_t i = 0; i < n; i++) {
        struct sim_gpu gpu;

        sim_model_fill(&models[i], &gpu);
        bool ampere = gpu.mig_capable && gpu.architecture == 7;
        assert_int_equal(gpu.mig_survives_reboot, ampere);
        assert_int_equal(gpu.mig_needs_reset, ampere);
    }
}

static void the_gb_of_a_name_round_as_the_clients_round(void **state)
{
    /* spec/mig §1.6: T in GiB, eighths, GB. */
    static const struct {
        uint64_t total_gib, eighths;
        uint32_t gb;
    } cases[] = {
        { 24, 2, 6 },   { 40, 1, 5 },   { 80, 1, 10 },  { 94, 1, 12 },   { 94, 4, 47 },
        { 141, 1, 18 }, { 141, 2, 35 }, { 141, 4, 71 }, { 180, 1, 23 },  { 186, 1, 23 },
        { 186, 2, 47 }, { 189, 1, 24 }, { 189, 4, 95 }, { 269, 4, 135 }, { 278, 2, 70 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t total = cases[i].total_gib << 30;
        uint64_t bytes = total / 8 * cases[i].eighths - 1;

        assert_int_equal(sim_profile_gb(bytes, total), cases[i].gb);
    }
}

/* --- names and lists ------------------------------------------------------------------------- */

static void a_model_answers_to_its_aliases_in_any_case(void **state)
{
    static const char *const pairs[][2] = {
        { "h100", "h100-80gb" },
        { "H100-80", "h100-80gb" },
        { "h100-SXM", "h100-80gb" },
        { "a100", "a100-40gb" },
        { "A100-80", "a100-80gb" },
        { "h100-80gb-pcie", "h100-pcie" },
        { "h100-nvl-94gb", "h100-nvl" },
        { "gh200-96gb", "gh200" },
        { "rtx-pro-6000-blackwell", "rtx-pro-6000" },
        { "Tesla-T4", "t4" },
    };

    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        const struct sim_model *model = sim_model_find(span_of(pairs[i][0]));

        assert_non_null(model);
        assert_string_equal(model->name, pairs[i][1]);
    }
    assert_null(sim_model_find(SPAN("h1000")));
    assert_null(sim_model_find(SPAN("")));
}

static void a_list_of_boards_becomes_gpus_in_its_order(void **state)
{
    static const struct {
        const char *text;
        uint32_t n;
        const char *first, *last;
    } cases[] = {
        { "8xh100-80gb", 8, "h100-80gb", "h100-80gb" },
        { "4xt4,2xa100-80gb", 6, "t4", "a100-80gb" },
        { " 1 x t4 ", 0, NULL, NULL },
        { "t4", 1, "t4", "t4" },
        { "l4, 2xL40S", 3, "l4", "l40s" },
        { "16xt4", 16, "t4", "t4" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sim_spec spec;
        struct err err = {};
        int r = sim_spec_parse(cases[i].text, &spec, &err);

        if (cases[i].n == 0) {
            assert_int_equal(r, -EINVAL);
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(spec.n_gpus, cases[i].n);
        assert_string_equal(spec.gpus[0]->name, cases[i].first);
        assert_string_equal(spec.gpus[spec.n_gpus - 1]->name, cases[i].last);
    }
}

static void a_list_that_is_wrong_says_what_would_be_right(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "8xh100-80gb" },
        { "   ", "8xh100-80gb" },
        { "8xh1000", "did you mean \"h100" },
        { "8xh1000", "Known models: v100, t4, a30" },
        { "tesla", "there is no GPU model \"tesla\"" },
        { "0xt4", "1 to 16 GPUs" },
        { "17xt4", "1 to 16 GPUs" },
        { "99999999999999999999xt4", "1 to 16 GPUs" },
        { "8xt4,9xt4", "at most 16 GPUs" },
        { "t4,", "nothing between two commas" },
        { ",t4", "nothing between two commas" },
        { "4x", "there is no GPU model" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sim_spec spec = { .n_gpus = 77 };
        struct err err = {};

        assert_int_equal(sim_spec_parse(cases[i].text, &spec, &err), -EINVAL);
        if (!strstr(err.text, cases[i].says))
            fail_msg("\"%s\": %s", cases[i].text, err.text);
        assert_int_equal(spec.n_gpus, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_board_has_the_profiles_that_are_known_of_it),
        cmocka_unit_test(no_board_promises_more_than_it_has),
        cmocka_unit_test(only_ampere_keeps_its_mig_mode_and_needs_a_reset),
        cmocka_unit_test(the_gb_of_a_name_round_as_the_clients_round),
        cmocka_unit_test(a_model_answers_to_its_aliases_in_any_case),
        cmocka_unit_test(a_list_of_boards_becomes_gpus_in_its_order),
        cmocka_unit_test(a_list_that_is_wrong_says_what_would_be_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
