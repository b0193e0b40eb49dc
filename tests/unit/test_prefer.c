#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fixture.h"
#include "share/partition.h"
#include "share/prefer.h"

/*
 * The test vectors 51 to 61 of spec/device-plugin §10.4 are rows of the tables; a row's number is
 * in its name.
 */

/* The answer as text, or the error's sentence. "*" stands for every device of the resource. */
static const char *ask(struct fixture *f, const char *available, const char *must, int32_t size)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64));
    struct prefer_request request = { .size = size };
    const char **answer;
    size_t n;

    fixture_resources(f);
    const struct resource *resource = &f->set->resources[0];
    if (text_equal(available, "*"))
        available = fixture_ids(f, resource->name);
    request.available = fixture_words(f, available, &request.n_available);
    request.must_include = fixture_words(f, must, &request.n_must_include);
    int r = prefer(resource, f->inventory, &f->config, &request, &f->arena, &answer, &n, &f->err);
    if (r < 0) {
        assert_int_equal(r, -EINVAL);
        return f->err.text;
    }
    for (size_t i = 0; i < n; i++)
        buf_printf(&text, "%s%s", i ? " " : "", answer[i]);
    return arena_strdup(&f->arena, buf_text(&text));
}

static const struct {
    const char *name, *layout;
    uint32_t replicas;
    enum allocation_policy policy;
    const char *available, *must;
    int32_t size;
    const char *answer;
} shared_rows[] = {
    { "51: distributed takes from both", "t4 t4", 4, POLICY_DISTRIBUTED, "*", "", 4,
      "GPU-0::0 GPU-1::0 GPU-0::1 GPU-1::1" },
    { "51: packed fills one", "t4 t4", 4, POLICY_PACKED, "*", "", 4,
      "GPU-0::0 GPU-0::1 GPU-0::2 GPU-0::3" },
    { "52: one from each", "t4 t4", 2, POLICY_DISTRIBUTED, "GPU-0::0 GPU-0::1 GPU-1::1", "", 2,
      "GPU-0::0 GPU-1::1" },
    { "53: both from the GPU that is less taken", "t4 t4", 8, POLICY_DISTRIBUTED,
      "GPU-0::0 GPU-0::1 GPU-0::2 GPU-1::0 GPU-1::1 GPU-1::2 GPU-1::3 GPU-1::4", "", 2,
      "GPU-1::0 GPU-1::1" },
    { "54: packed stays where something is taken", "t4 t4", 4, POLICY_PACKED,
      "GPU-0::1 GPU-0::2 GPU-0::3 GPU-1::0 GPU-1::1 GPU-1::2 GPU-1::3", "", 2,
      "GPU-0::1 GPU-0::2" },
    { "55: packed runs over into the next", "t4 t4", 4, POLICY_PACKED, "*", "", 5,
      "GPU-0::0 GPU-0::1 GPU-0::2 GPU-0::3 GPU-1::0" },
    { "56: what must be included counts as taken", "t4 t4", 2, POLICY_DISTRIBUTED, "*", "GPU-0::0",
      2, "GPU-0::0 GPU-1::0" },
    { "57: more than there are", "t4", 2, POLICY_DISTRIBUTED, "*", "", 5,
      "error getting list of preferred allocation devices: not enough available devices to satisfy "
      "allocation" },
    { "nothing needed gives what must be included", "t4 t4", 2, POLICY_PACKED, "*", "GPU-1::1", 1,
      "GPU-1::1" },
    { "a negative size gives what must be included", "t4 t4", 2, POLICY_PACKED, "*", "GPU-1::1", -3,
      "GPU-1::1" },
    { "ids that nobody knows do not count", "t4", 2, POLICY_DISTRIBUTED, "GPU-9::0 GPU-0::1", "", 1,
      "GPU-0::1" },
    { "an id that is said twice counts once", "t4", 2, POLICY_DISTRIBUTED,
      "GPU-0::1 GPU-0::1 GPU-0::1", "", 2,
      "error getting list of preferred allocation devices: not enough available devices to satisfy "
      "allocation" },
};

static void shared_devices_are_chosen_by_what_is_taken(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(shared_rows); i++) {
        auto_(fixture_done) struct fixture f = {};

        fixture_init(&f, shared_rows[i].layout);
        fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", shared_rows[i].replicas);
        f.config.allocation_policy = shared_rows[i].policy;
        const char *answer =
            ask(&f, shared_rows[i].available, shared_rows[i].must, shared_rows[i].size);
        if (!text_equal(answer, shared_rows[i].answer))
            fail_msg("%s: %s", shared_rows[i].name, answer);
    }
}

/* Boards in pairs on NVLink, and how they hang on the machine's processors. */
static void wire_pairs(struct fixture *f, const char *pairs, size_t half)
{
    fixture_connect(f, TOPOLOGY_SYSTEM);
    fixture_group(f, 0, half - 1, TOPOLOGY_NODE);
    fixture_group(f, half, f->inventory->n_gpus - 1, TOPOLOGY_NODE);
    for (; *pairs; pairs += pairs[2] ? 3 : 2)
        fixture_nvlink(f, (size_t)(pairs[0] - '0'), (size_t)(pairs[1] - '0'), 12);
}

static const struct {
    const char *name, *layout, *pairs;
    size_t half;
    const char *available, *must;
    int32_t size;
    const char *answer;
} whole_rows[] = {
    { "58: a pair", "h100 h100 h100 h100", "01 23", 2, "*", "", 2, "GPU-0 GPU-1" },
    { "58: the pair of what is required", "h100 h100 h100 h100", "01 23", 2, "*", "GPU-2", 2,
      "GPU-2 GPU-3" },
    { "58: the pair that is left", "h100 h100 h100 h100", "01 23", 2, "GPU-1 GPU-2 GPU-3", "", 2,
      "GPU-2 GPU-3" },
    { "58: one", "h100 h100 h100 h100", "01 23", 2, "*", "", 1, "GPU-0" },
    { "58: the one that is required", "h100 h100 h100 h100", "01 23", 2, "*", "GPU-2", 1, "GPU-2" },
    { "58: three", "h100 h100 h100 h100", "01 23", 2, "*", "", 3, "GPU-0 GPU-1 GPU-2" },
    { "58: required ones that are no pair", "h100 h100 h100 h100", "01 23", 2, "*", "GPU-1 GPU-3",
      2, "GPU-1 GPU-3" },
    { "58: all", "h100 h100 h100 h100", "01 23", 2, "*", "", 4, "GPU-0 GPU-1 GPU-2 GPU-3" },
    { "59: a pair", "h100 h100 h100 h100 h100 h100 h100 h100", "02 13 45 67", 4, "*", "", 2,
      "GPU-0 GPU-2" },
    { "59: four", "h100 h100 h100 h100 h100 h100 h100 h100", "02 13 45 67", 4, "*", "", 4,
      "GPU-0 GPU-1 GPU-2 GPU-3" },
    { "59: the pair of what is required", "h100 h100 h100 h100 h100 h100 h100 h100", "02 13 45 67",
      4, "*", "GPU-5", 2, "GPU-4 GPU-5" },
    { "59: a pair among six", "h100 h100 h100 h100 h100 h100 h100 h100", "02 13 45 67", 4,
      "GPU-0 GPU-1 GPU-2 GPU-5 GPU-6 GPU-7", "", 2, "GPU-0 GPU-2" },
    { "60: more than are available", "h100 h100 h100", "01", 2, "*", "", 4, "" },
    { "61: never a set that is not full", "h100 h100 h100 h100 h100", "34", 3, "*", "", 3,
      "GPU-0 GPU-1 GPU-2" },
    { "none wanted", "h100 h100", "01", 1, "*", "", 0, "" },
    { "a negative number wanted", "h100 h100", "01", 1, "*", "", -1, "" },
    { "more required than wanted", "h100 h100 h100", "01", 2, "*", "GPU-0 GPU-1", 1, "" },
    { "what is required is not available", "h100 h100 h100", "01", 2, "GPU-0 GPU-1", "GPU-2", 2,
      "" },
    { "an unknown GPU", "h100 h100", "01", 1, "GPU-0 GPU-9", "", 1,
      "error getting list of preferred allocation devices: unable to retrieve list of available "
      "devices: no device with uuid: GPU-9" },
    { "an unknown required GPU", "h100 h100", "01", 1, "GPU-0 GPU-1", "GPU-9", 1,
      "error getting list of preferred allocation devices: unable to retrieve list of required "
      "devices: no device with uuid: GPU-9" },
};

static void whole_gpus_are_chosen_by_how_they_are_connected(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(whole_rows); i++) {
        auto_(fixture_done) struct fixture f = {};

        fixture_init(&f, whole_rows[i].layout);
        wire_pairs(&f, whole_rows[i].pairs, whole_rows[i].half);
        f.config.allocation_policy = POLICY_PACKED; /* has no say here */
        const char *answer =
            ask(&f, whole_rows[i].available, whole_rows[i].must, whole_rows[i].size);
        if (!text_equal(answer, whole_rows[i].answer))
            fail_msg("%s: %s", whole_rows[i].name, answer);
    }
}

static void mig_devices_are_never_chosen_by_links(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb h100:2x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    fixture_connect(&f, TOPOLOGY_NODE);
    assert_string_equal(ask(&f, "*", "", 2), "MIG-0-0 MIG-0-1");
}

/* A machine larger than any search: an answer all the same, and one of connected GPUs. */
static void thirty_two_gpus_get_a_group_that_is_connected(void **state)
{
    auto_(fixture_done) struct fixture f = {};
    auto_(buf_done) struct buf layout = BUF_MAX(KIB(1));

    for (size_t i = 0; i < 32; i++)
        buf_add_text(&layout, i ? " h100" : "h100");
    fixture_init(&f, buf_text(&layout));
    fixture_connect(&f, TOPOLOGY_SYSTEM);
    for (size_t i = 20; i < 24; i++)
        for (size_t j = 20; j < i; j++)
            fixture_nvlink(&f, i, j, 4);
    assert_string_equal(ask(&f, "*", "", 4), "GPU-20 GPU-21 GPU-22 GPU-23");
    assert_string_equal(ask(&f, "*", "GPU-22", 2), "GPU-20 GPU-22");
}

static void a_hundred_thousand_replicas_get_an_answer(void **state)
{
    auto_(fixture_done) struct fixture f = {};
    struct prefer_request request = { .size = 50000 };
    const char **answer;
    size_t n;

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 50000);
    fixture_resources(&f);
    const struct resource *resource = &f.set->resources[0];
    const char **ids = calloc(resource->n_devices, sizeof(*ids));
    for (size_t i = 0; i < resource->n_devices; i++)
        ids[i] = resource->devices[i].id;
    request.available = ids;
    request.n_available = resource->n_devices;
    assert_int_equal(
        prefer(resource, f.inventory, &f.config, &request, &f.arena, &answer, &n, NULL), 0);
    assert_int_equal(n, 50000);
    assert_string_equal(answer[1], "GPU-1::0");
    free(ids);
}

static void lack_of_memory_is_always_said(void **state)
{
    for (int whole = 0; whole < 2; whole++) {
        int r = -ENOMEM;

        for (unsigned long n = 1; r == -ENOMEM; n++) {
            auto_(fixture_done) struct fixture f = {};
            auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
            const char *ids[] = { whole ? "GPU-0" : "GPU-0::0", whole ? "GPU-1" : "GPU-1::0" };
            struct prefer_request request = { .available = ids, .n_available = 2, .size = 2 };
            const char **answer;
            size_t n_answer;

            fixture_init(&f, "h100 h100");
            fixture_connect(&f, TOPOLOGY_NODE);
            if (!whole)
                fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
            fixture_resources(&f);
            mem_fail_from(n);
            r = prefer(&f.set->resources[0], f.inventory, &f.config, &request, &arena, &answer,
                       &n_answer, NULL);
            mem_fail_from(0);
            assert_true(r == 0 || r == -ENOMEM);
            assert_true(n < 1000);
        }
    }
}

static void the_order_of_the_request_breaks_ties(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4 t4");
    fixture_connect(&f, TOPOLOGY_NODE);
    assert_string_equal(ask(&f, "GPU-3 GPU-1 GPU-0 GPU-2", "", 1), "GPU-3");
    assert_string_equal(ask(&f, "GPU-3 GPU-1 GPU-0 GPU-2", "", 2), "GPU-3 GPU-1");
    assert_string_equal(ask(&f, "GPU-3 GPU-1 GPU-0 GPU-2", "GPU-0", 2), "GPU-0 GPU-2");
    assert_string_equal(ask(&f, "GPU-3 GPU-3 GPU-3 GPU-1", "", 3), ""); /* there are two */
    assert_string_equal(ask(&f, "GPU-3 GPU-3 GPU-3 GPU-1", "", 2), "GPU-3 GPU-1");
}

static void gpus_whose_links_nobody_read_are_all_alike(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4");
    assert_string_equal(ask(&f, "*", "", 2), "GPU-0 GPU-1");
    fixture_connect(&f, 33); /* a level of tomorrow's driver */
    fixture_nvlink(&f, 1, 2, 1);
    assert_string_equal(ask(&f, "*", "", 2), "GPU-1 GPU-2");
}

static void the_nearer_the_common_ancestor_the_better(void **state)
{
    static const uint32_t levels[] = { TOPOLOGY_SYSTEM,   TOPOLOGY_NODE,   TOPOLOGY_HOSTBRIDGE,
                                       TOPOLOGY_MULTIPLE, TOPOLOGY_SINGLE, TOPOLOGY_INTERNAL };

    for (size_t i = 1; i < ARRAY_LEN(levels); i++) {
        auto_(fixture_done) struct fixture f = {};
        fixture_init(&f, "t4 t4 t4");
        fixture_connect(&f, levels[i - 1]);
        fixture_group(&f, 1, 2, levels[i]);
        assert_string_equal(ask(&f, "*", "", 2), "GPU-1 GPU-2");
    }
}

static void nvlinks_beyond_eighteen_do_not_count(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4 t4");
    fixture_connect(&f, TOPOLOGY_NODE);
    fixture_nvlink(&f, 0, 1, 18);
    fixture_nvlink(&f, 2, 3, 36);
    assert_string_equal(ask(&f, "*", "", 2), "GPU-0 GPU-1");
    fixture_nvlink(&f, 0, 1, 17);
    assert_string_equal(ask(&f, "*", "", 2), "GPU-2 GPU-3");
}

/* prefer() finds the GPUs and reads their links; which set is best is for test_partition.c. */
static void the_best_set_of_any_machine_is_found_in_any_order(void **state)
{
    uint32_t seed = 1;

    for (int round = 0; round < 300; round++) {
        auto_(fixture_done) struct fixture f = {};
        struct partition_problem problem = { .n_gpus = 6, .size = 2 + (uint32_t)round % 4 };
        const char *ids[6], **answer;
        size_t order[] = { 0, 1, 2, 3, 4, 5, 6, 7 }, n;
        uint32_t set = 0;

        fixture_init(&f, "t4 t4 t4 t4 t4 t4 t4 t4");
        fixture_connect(&f, TOPOLOGY_SYSTEM);
        for (size_t i = 0; i < 8; i++) {
            seed = seed * 1664525 + 1013904223;
            size_t j = (seed >> 8) % 8, swapped = order[i];
            order[i] = order[j];
            order[j] = swapped;
            for (j = 0; j < 8; j++) { /* not even the same both ways */
                seed = seed * 1664525 + 1013904223;
                f.inventory->gpus[i].links[j].level = 10 * (seed >> 8 & 3);
                f.inventory->gpus[i].links[j].n_nvlinks = seed >> 16 & 1;
            }
        }
        for (size_t i = 0; i < 6; i++) {
            ids[i] = f.inventory->gpus[order[i]].uuid;
            for (size_t j = i + 1; j < 6; j++) {
                const struct gpu_link *link = &f.inventory->gpus[order[i]].links[order[j]];
                problem.score[i][j] = problem.score[j][i] =
                    (int32_t)(60 - link->level + 100 * link->n_nvlinks);
            }
        }
        fixture_resources(&f);
        struct prefer_request request = { .available = ids,
                                          .n_available = 6,
                                          .must_include = ids + round % 6,
                                          .n_must_include = (size_t)round % 2,
                                          .size = (int32_t)problem.size };
        problem.required = round % 2 ? 1u << round % 6 : 0;
        assert_int_equal(partition_best(&problem, &set, NULL), 0);
        assert_int_equal(prefer(&f.set->resources[0], f.inventory, &f.config, &request, &f.arena,
                                &answer, &n, NULL),
                         0);
        assert_int_equal(n, problem.size);
        for (size_t i = 0, at = 0; i < 6; i++)
            if (set >> i & 1)
                assert_string_equal(answer[at++], ids[i]);
    }
}

static void other_platforms_always_distribute(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    f.inventory->platform = PLATFORM_TEGRA;
    f.config.allocation_policy = POLICY_PACKED;
    assert_string_equal(ask(&f, "*", "", 1), "tegra"); /* no GPU struct, no links */
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 3);
    assert_string_equal(ask(&f, "*", "tegra::1", 2), "tegra::1 tegra::0");
    f.inventory->platform = PLATFORM_WSL;
    assert_string_equal(ask(&f, "*", "", 2), "all::0 all::1");
}

static void replicas_among_the_available_are_never_chosen_by_links(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4");
    fixture_connect(&f, TOPOLOGY_SYSTEM);
    fixture_nvlink(&f, 1, 2, 4);
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_select(&f, "0");
    assert_string_equal(ask(&f, "*", "", 2), "GPU-0::0 GPU-1");
    assert_string_equal(ask(&f, "GPU-1 GPU-2", "", 2), "GPU-1 GPU-2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_devices_are_chosen_by_what_is_taken),
        cmocka_unit_test(whole_gpus_are_chosen_by_how_they_are_connected),
        cmocka_unit_test(mig_devices_are_never_chosen_by_links),
        cmocka_unit_test(thirty_two_gpus_get_a_group_that_is_connected),
        cmocka_unit_test(a_hundred_thousand_replicas_get_an_answer),
        cmocka_unit_test(lack_of_memory_is_always_said),
        cmocka_unit_test(the_order_of_the_request_breaks_ties),
        cmocka_unit_test(gpus_whose_links_nobody_read_are_all_alike),
        cmocka_unit_test(the_nearer_the_common_ancestor_the_better),
        cmocka_unit_test(nvlinks_beyond_eighteen_do_not_count),
        cmocka_unit_test(the_best_set_of_any_machine_is_found_in_any_order),
        cmocka_unit_test(other_platforms_always_distribute),
        cmocka_unit_test(replicas_among_the_available_are_never_chosen_by_links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
