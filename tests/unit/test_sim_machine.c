#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/gpu/machine.h"

static struct sim_state *build(const char *gpus, struct sim_machine_options options)
{
    struct sim_state *node = malloc(sizeof(*node));
    struct sim_spec spec;
    struct err err = {};

    assert_non_null(node);
    assert_int_equal(sim_spec_parse(gpus, &spec, &err), 0);
    if (sim_machine_build(&spec, &options, node, &err) < 0)
        fail_msg("%s", err.text);
    if (sim_state_check(node, sizeof(*node), &err) < 0)
        fail_msg("%s", err.text);
    return node;
}

static void the_same_seed_makes_the_same_node(void **state)
{
    auto_free struct sim_state *a = build("8xh100", (struct sim_machine_options){ .seed = 7 });
    auto_free struct sim_state *b = build("8xh100", (struct sim_machine_options){ .seed = 7 });
    auto_free struct sim_state *c = build("8xh100", (struct sim_machine_options){ .seed = 8 });

    for (uint32_t i = 0; i < 8; i++) {
        a->gpus[i].advanced_ns = b->gpus[i].advanced_ns = 0;
        assert_memory_equal(&a->gpus[i], &b->gpus[i], sizeof(a->gpus[i]));
        assert_string_not_equal(a->gpus[i].uuid, c->gpus[i].uuid);
        assert_string_not_equal(a->gpus[i].serial, c->gpus[i].serial);
    }
}

static void uuids_differ_and_are_random_uuids_by_their_shape(void **state)
{
    auto_free struct sim_state *node = build("16xt4", (struct sim_machine_options){});

    for (uint32_t i = 0; i < 16; i++) {
        const char *uuid = node->gpus[i].uuid;

        assert_int_equal(strlen(uuid), strlen("GPU-") + 36);
        assert_memory_equal(uuid, "GPU-", 4);
        assert_int_equal(uuid[4 + 14], '4');
        assert_non_null(strchr("89ab", uuid[4 + 19]));
        for (uint32_t j = 0; j < i; j++)
            assert_string_not_equal(uuid, node->gpus[j].uuid);
    }
}

static void gpus_split_between_two_numa_nodes_from_four_on(void **state)
{
    static const struct {
        const char *gpus;
        int32_t nodes[8];
    } cases[] = {
        { "3xt4", { 0, 0, 0 } },
        { "4xt4", { 0, 0, 1, 1 } },
        { "5xt4", { 0, 0, 0, 1, 1 } },
        { "8xt4", { 0, 0, 0, 0, 1, 1, 1, 1 } },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_free struct sim_state *node = build(cases[i].gpus, (struct sim_machine_options){});

        for (uint32_t g = 0; g < node->n_gpus; g++)
            assert_int_equal(node->gpus[g].numa_node, cases[i].nodes[g]);
    }
}

static void no_two_gpus_share_a_bus(void **state)
{
    static const char *const specs[] = { "16xt4", "8xh100", "5xa30", "9xl4", "4xgb200" };

    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        auto_free struct sim_state *node = build(specs[i], (struct sim_machine_options){});

        for (uint32_t a = 0; a < node->n_gpus; a++) {
            for (uint32_t b = 0; b < a; b++)
                assert_false(node->gpus[a].pci_domain == node->gpus[b].pci_domain &&
                             node->gpus[a].pci_bus == node->gpus[b].pci_bus);
        }
    }
}

static void topology_is_symmetric_and_follows_switches_and_numa(void **state)
{
    auto_free struct sim_state *node = build("8xh100", (struct sim_machine_options){});

    for (uint32_t a = 0; a < 8; a++) {
        for (uint32_t b = 0; b < 8; b++) {
            uint8_t level = node->topology.level[a][b];

            assert_int_equal(level, node->topology.level[b][a]);
            assert_int_equal(level, a == b ? 0 : a / 2 == b / 2 ? 10 : a / 4 == b / 4 ? 40 : 50);
        }
    }
}

/* How many links of GPU a end at GPU b. */
static uint32_t links_between(const struct sim_state *node, uint32_t a, uint32_t b)
{
    char bus_id[32];
    uint32_t n = 0;

    snprintf(bus_id, sizeof(bus_id), "%08X:%02X:%02X.0", node->gpus[b].pci_domain,
             node->gpus[b].pci_bus, node->gpus[b].pci_device);
    for (uint32_t i = 0; i < node->gpus[a].n_links; i++) {
        const struct sim_link *link = &node->gpus[a].links[i];

        n += link->active && !link->remote_is_switch && strcmp(link->remote_bus_id, bus_id) == 0;
    }
    return n;
}

static uint32_t links_to_switches(const struct sim_state *node, uint32_t gpu)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < SIM_MAX_LINKS; i++)
        n += node->gpus[gpu].links[i].active && node->gpus[gpu].links[i].remote_is_switch;
    return n;
}

static void a_box_of_eight_hangs_on_switches_with_all_its_links(void **state)
{
    auto_free struct sim_state *h100 = build("8xh100", (struct sim_machine_options){});
    auto_free struct sim_state *a100 = build("8xa100", (struct sim_machine_options){});

    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(links_to_switches(h100, i), 18);
        assert_int_equal(links_to_switches(a100, i), 12);
    }
}

static void pairs_are_joined_by_twelve_links(void **state)
{
    auto_free struct sim_state *pairs =
        build("4xa100", (struct sim_machine_options){ .nvlink = "pairs" });
    auto_free struct sim_state *chosen =
        build("8xa100", (struct sim_machine_options){ .nvlink = "0-2,1-3,4-5,6-7" });

    assert_int_equal(links_between(pairs, 0, 1), 12);
    assert_int_equal(links_between(pairs, 1, 0), 12);
    assert_int_equal(links_between(pairs, 2, 3), 12);
    assert_int_equal(links_between(pairs, 1, 2), 0);
    assert_int_equal(links_between(chosen, 0, 2), 12);
    assert_int_equal(links_between(chosen, 3, 1), 12);
    assert_int_equal(links_between(chosen, 0, 1), 0);
    assert_int_equal(links_between(chosen, 6, 7), 12);
}

static void boards_are_wired_as_they_usually_are(void **state)
{
    auto_free struct sim_state *four = build("4xa100", (struct sim_machine_options){});
    auto_free struct sim_state *t4 = build("2xt4", (struct sim_machine_options){});
    auto_free struct sim_state *mixed = build("2xa100,2xh100", (struct sim_machine_options){});
    auto_free struct sim_state *none =
        build("8xh100", (struct sim_machine_options){ .nvlink = "none" });

    assert_int_equal(links_between(four, 0, 3), 4);
    assert_int_equal(t4->gpus[0].n_links, 0);
    assert_int_equal(links_between(mixed, 0, 1), 12);
    assert_int_equal(links_between(mixed, 1, 2), 0);
    assert_int_equal(links_between(mixed, 2, 3), 18);
    assert_int_equal(links_to_switches(none, 0), 0);
    assert_int_equal(none->gpus[0].n_links, 18);
}

static void a_driver_brings_its_cuda(void **state)
{
    static const struct {
        const char *driver, *cuda;
        int32_t version;
        const char *nvml;
    } cases[] = {
        { NULL, NULL, 12080, "12.570.124.06" }, { "535.104.05", NULL, 12020, "12.535.104.05" },
        { "580.65", NULL, 13000, "13.580.65" }, { "550.54.15", "12.8", 12080, "12.550.54.15" },
        { "390.10", NULL, 11040, "11.390.10" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_free struct sim_state *node = build(
            "t4", (struct sim_machine_options){ .driver = cases[i].driver, .cuda = cases[i].cuda });

        assert_int_equal(node->cuda_version, cases[i].version);
        assert_string_equal(node->nvml_version, cases[i].nvml);
    }
}

static void options_that_are_wrong_are_named(void **state)
{
    static const struct {
        struct sim_machine_options options;
        const char *says;
    } cases[] = {
        { { .driver = "570" }, "driver \"570\" is not a version" },
        { { .driver = "570.x" }, "driver \"570.x\" is not a version" },
        { { .driver = "1.2.3.4" }, "is not a version" },
        { { .cuda = "12" }, "CUDA \"12\" is not a version" },
        { { .nvlink = "ring" }, "NVLink \"ring\" is neither" },
        { { .nvlink = "0-9" }, "a pair joins two different GPUs of 0 to 3" },
        { { .nvlink = "1-1" }, "a pair joins two different GPUs" },
        { { .nvlink = "0-1" }, "a t4 has no NVLinks" },
        { { .numa = "0,0" }, "2 are given for 4 GPUs" },
        { { .numa = "0,0,0,x" }, "each is a number" },
        { { .machine =
                "a name that is so long that no DMI table of any machine would hold it all" },
          "longer than 63 characters" },
    };
    auto_free struct sim_state *node = malloc(sizeof(*node));
    struct sim_spec spec;

    assert_int_equal(sim_spec_parse("4xt4", &spec, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};

        assert_int_equal(sim_machine_build(&spec, &cases[i].options, node, &err), -EINVAL);
        if (!strstr(err.text, cases[i].says))
            fail_msg("wanted \"%s\": %s", cases[i].says, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_makes_the_same_node),
        cmocka_unit_test(uuids_differ_and_are_random_uuids_by_their_shape),
        cmocka_unit_test(gpus_split_between_two_numa_nodes_from_four_on),
        cmocka_unit_test(no_two_gpus_share_a_bus),
        cmocka_unit_test(topology_is_symmetric_and_follows_switches_and_numa),
        cmocka_unit_test(a_box_of_eight_hangs_on_switches_with_all_its_links),
        cmocka_unit_test(pairs_are_joined_by_twelve_links),
        cmocka_unit_test(boards_are_wired_as_they_usually_are),
        cmocka_unit_test(a_driver_brings_its_cuda),
        cmocka_unit_test(options_that_are_wrong_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
