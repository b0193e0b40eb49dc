#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "fixture.h"

/*
 * The numbers before a colon are those of the test vectors in spec/device-plugin §10.2:
 *
 *     3 4 6 21-29 30 31    the_resources_follow_hardware_and_strategy
 *     26 30 4              names_sockets_and_ids_are_those_of_upstream
 *     32                   the_numa_node_is_the_gpus
 *     50                   a_missing_imex_channel_stops_only_those_who_require_it
 */

#define MAP "failed to construct resource managers: error building device map: "

#define NONE   MIG_STRATEGY_NONE
#define SINGLE MIG_STRATEGY_SINGLE
#define MIXED  MIG_STRATEGY_MIXED

static const struct {
    const char *what, *layout;
    enum mig_strategy strategy;
    const char *shared; /* name of a resource, time-sliced … */
    uint32_t replicas;
    const char *wanted; /* what is offered, or how the complaint ends */
} cases[] = {
    { "two whole GPUs", "t4 t4", NONE, NULL, 0, "nvidia.com/gpu=2" },
    { "no GPU", "", MIXED, NULL, 0, "" },
    { "3: GPUs that are shared", "t4 t4", NONE, "nvidia.com/gpu", 4, "nvidia.com/gpu=8" },
    { "a shared resource that the node lacks", "t4", NONE, "nvidia.com/mig-1g.10gb", 4,
      "nvidia.com/gpu=1" },
    { "21: eight H100 in sevenths", /* … */
      "h100:7x1g.10gb h100:7x1g.10gb h100:7x1g.10gb h100:7x1g.10gb h100:7x1g.10gb h100:7x1g.10gb "
      "h100:7x1g.10gb h100:7x1g.10gb",
      SINGLE, NULL, 0, "nvidia.com/gpu=56" },
    { "22: MIG on and off under single", "h100:7x1g.10gb h100", SINGLE, NULL, 0,
      MAP "error building device map from config.resources: all devices on the node must be "
          "configured with the same migEnabled value (MIG is on for device 0 and off for device "
          "1)" },
    { "23: MIG on and off under mixed", "h100:7x1g.10gb h100", MIXED, NULL, 0,
      "nvidia.com/gpu=1 nvidia.com/mig-1g.10gb=7" },
    { "24: two kinds under single", "h100:1x3g.40gb,1x4g.40gb", SINGLE, NULL, 0,
      MAP "error building device map from config.resources: invalid MIG configuration: more than "
          "one MIG device type present on node (device 0:0 is 3g.40gb, device 0:1 is 4g.40gb)" },
    { "media extensions make another kind", "h100:1x1g.10gb h100:1x1g.10gb+me", SINGLE, NULL, 0,
      MAP "error building device map from config.resources: invalid MIG configuration: more than "
          "one MIG device type present on node (device 0:0 is 1g.10gb, device 1:0 is "
          "1g.10gb+me)" },
    { "25: MIG on and empty under single", "h100:", SINGLE, NULL, 0,
      MAP "error building device map from config.resources: invalid MIG configuration: at least "
          "one device with migEnabled=true was not configured correctly: error visiting device: "
          "device 0 has no MIG devices configured" },
    { "25: MIG on and empty under mixed", "h100:", MIXED, NULL, 0, "" },
    { "emptiness is complained about before kinds and modes",
      "t4 h100:1x3g.40gb,1x4g.40gb h100:", SINGLE, NULL, 0,
      MAP "error building device map from config.resources: invalid MIG configuration: at least "
          "one device with migEnabled=true was not configured correctly: error visiting device: "
          "device 2 has no MIG devices configured" },
    { "kinds are complained about before modes", "t4 h100:1x3g.40gb,1x4g.40gb", SINGLE, NULL, 0,
      MAP "error building device map from config.resources: invalid MIG configuration: more than "
          "one MIG device type present on node (device 1:0 is 3g.40gb, device 1:1 is 4g.40gb)" },
    { "MIG off everywhere under single", "h100 h100", SINGLE, NULL, 0, "nvidia.com/gpu=2" },
    { "MIG off everywhere under mixed", "h100 h100", MIXED, NULL, 0, "nvidia.com/gpu=2" },
    { "26: media extensions under mixed", "h100:1x1g.10gb+me", MIXED, NULL, 0,
      "nvidia.com/mig-1g.10gb.me=1" },
    { "27: with and without media engines", "rtxpro:1x1g.24gb,2x1g.24gb-me", MIXED, NULL, 0,
      "nvidia.com/mig-1g.24gb=1 nvidia.com/mig-1g.24gb-me=2" },
    { "all media engines", "rtxpro:1x1g.24gb+me.all", MIXED, NULL, 0,
      "nvidia.com/mig-1g.24gb.me.all=1" },
    { "28: a part of a GPU instance is left out of mixed, not fatal", /* D10 */
      "h100:1x1c.3g.40gb,1x1g.10gb", MIXED, NULL, 0, "nvidia.com/mig-1g.10gb=1" },
    { "a part of a GPU instance under single", "h100:2x1c.3g.40gb", SINGLE, NULL, 0,
      "nvidia.com/gpu=2" },
    { "29: MIG on under none", "h100:7x1g.10gb", NONE, NULL, 0, "nvidia.com/gpu=1" },
    { "30: shared MIG devices", "h100:2x1g.10gb", MIXED, "nvidia.com/mig-1g.10gb", 3,
      "nvidia.com/mig-1g.10gb=6" },
    { "31: H200", "h200:1x1g.18gb,1x3g.71gb", MIXED, NULL, 0,
      "nvidia.com/mig-1g.18gb=1 nvidia.com/mig-3g.71gb=1" },
    { "MIG devices shared as GPUs", "h100:7x1g.10gb", SINGLE, "nvidia.com/gpu", 4,
      "nvidia.com/gpu=28" },
    { "the article's node", "h100:2x1g.10gb,1x2g.20gb,1x3g.40gb", MIXED, NULL, 0,
      "nvidia.com/mig-1g.10gb=2 nvidia.com/mig-2g.20gb=1 nvidia.com/mig-3g.40gb=1" },
};

static void the_resources_follow_hardware_and_strategy(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(fixture_done) struct fixture f = {};
        fixture_init(&f, cases[i].layout);
        f.config.mig_strategy = cases[i].strategy;
        if (cases[i].shared)
            fixture_share(&f, SHARING_TIME_SLICING, cases[i].shared, cases[i].replicas);
        const char *summary = fixture_summary(&f);
        if (!text_equal(summary, cases[i].wanted))
            fail_msg("%s:\n  %s\nnot\n  %s", cases[i].what, summary, cases[i].wanted);
    }
}

static void names_sockets_and_ids_are_those_of_upstream(void **state)
{
    static const struct {
        const char *what, *layout, *shared, *rename, *name, *base, *endpoint, *ids;
    } rows[] = {
        { "plain", "t4 t4", NULL, NULL, "nvidia.com/gpu", "nvidia.com/gpu", "nvidia-gpu.sock",
          "GPU-0 GPU-1" },
        { "4: renamed", "t4", "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/gpu.shared",
          "nvidia.com/gpu", "nvidia-gpu.shared.sock", "GPU-0::0 GPU-0::1 GPU-0::2" },
        { "26: media extensions", "h100:1x1g.10gb+me", NULL, NULL, "nvidia.com/mig-1g.10gb.me",
          "nvidia.com/mig-1g.10gb.me", "nvidia-mig-1g.10gb.me.sock", "MIG-0-0" },
        { "30: shared MIG devices", "h100:2x1g.10gb", "nvidia.com/mig-1g.10gb", NULL,
          "nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb", "nvidia-mig-1g.10gb.sock",
          "MIG-0-0::0 MIG-0-0::1 MIG-0-0::2 MIG-0-1::0 MIG-0-1::1 MIG-0-1::2" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_(fixture_done) struct fixture f = {};
        fixture_init(&f, rows[i].layout);
        f.config.mig_strategy = MIXED;
        if (rows[i].shared)
            fixture_share(&f, SHARING_TIME_SLICING, rows[i].shared, 3)->rename = rows[i].rename;
        fixture_resources(&f);
        assert_int_equal(f.set->n_resources, 1);
        assert_string_equal(f.set->resources[0].name, rows[i].name);
        assert_string_equal(f.set->resources[0].base_name, rows[i].base);
        assert_string_equal(f.set->resources[0].endpoint, rows[i].endpoint);
        assert_string_equal(fixture_ids(&f, rows[i].name), rows[i].ids);
        assert_int_equal(f.set->resources[0].shared, rows[i].shared != NULL);
        assert_int_equal(f.set->resources[0].sharing,
                         rows[i].shared ? SHARING_TIME_SLICING : SHARING_NONE);
    }
}

static void a_device_says_where_it_is(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 h100:2x1g.10gb");
    f.config.mig_strategy = MIXED;
    f.inventory->gpus[1].minor = 5;
    f.inventory->gpus[1].mig_devices[1].index = 3; /* slots may have gaps */
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 2);
    fixture_resources(&f);

    const struct device *gpu = &fixture_resource(&f, "nvidia.com/gpu")->devices[0];
    assert_string_equal(gpu->index, "0");
    assert_int_equal(gpu->n_paths, 1);
    assert_string_equal(gpu->paths[0], "/dev/nvidia0");
    assert_null(gpu->mig);
    assert_int_equal(gpu->replicas, 1);

    const struct device *mig = &fixture_resource(&f, "nvidia.com/mig-1g.10gb")->devices[3];
    assert_string_equal(mig->id, "MIG-1-1::1");
    assert_string_equal(mig->physical_id, "MIG-1-1");
    assert_string_equal(mig->index, "1:3");
    assert_ptr_equal(mig->gpu, &f.inventory->gpus[1]);
    assert_ptr_equal(mig->mig, &f.inventory->gpus[1].mig_devices[1]);
    assert_int_equal(mig->replica, 1);
    assert_int_equal(mig->replicas, 2);
    assert_int_equal(mig->n_paths, 3);
    assert_string_equal(mig->paths[0], "/dev/nvidia5");
    assert_string_equal(mig->paths[1], f.inventory->gpus[1].mig_devices[1].gi_cap_path);
    assert_string_equal(mig->paths[2], f.inventory->gpus[1].mig_devices[1].ci_cap_path);
}

static void the_numa_node_is_the_gpus(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    f.inventory->gpus[0].numa_node = READING(0);
    fixture_resources(&f);
    const struct resource *resource = fixture_resource(&f, "nvidia.com/gpu");
    assert_true(resource->devices[0].gpu->numa_node.known); /* 32: node 0 is a node */
    assert_int_equal(resource->devices[0].gpu->numa_node.value, 0);
    assert_false(resource->devices[1].gpu->numa_node.known);
}

static void what_is_on_a_sick_gpu_is_unhealthy(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb h100:1x1g.10gb");
    f.config.mig_strategy = SINGLE;
    f.inventory->gpus[0].healthy = false;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_resources(&f);
    const struct resource *resource = fixture_resource(&f, "nvidia.com/gpu");
    for (size_t i = 0; i < resource->n_devices; i++)
        assert_int_equal(resource->devices[i].healthy, i >= 4);
}

static void a_sick_mig_device_leaves_the_others_alone(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb");
    f.config.mig_strategy = SINGLE;
    f.inventory->gpus[0].mig_devices[1].healthy = false;
    fixture_resources(&f);
    const struct resource *resource = fixture_resource(&f, "nvidia.com/gpu");
    assert_true(resource->devices[0].healthy);
    assert_false(resource->devices[1].healthy);
}

static void a_lost_gpu_without_mig_devices_does_not_stop_the_others(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb h100:");
    f.config.mig_strategy = SINGLE;
    f.inventory->gpus[1].healthy = false;
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=2");
    assert_int_equal(f.set->n_warnings, 1);
    assert_string_equal(f.set->warnings[0].text, "device 1 has no MIG devices configured");
}

static void what_is_left_out_is_warned_about(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100: h100:1x1g.10gb,1x1c.3g.40gb");
    f.config.mig_strategy = MIXED;
    fixture_resources(&f);
    assert_int_equal(f.set->n_warnings, 2);
    assert_string_equal(f.set->warnings[0].text, "device 0 has no MIG devices configured");
    assert_string_equal(f.set->warnings[1].text,
                        "device 1:1 is not offered: MIG profile '1c.3g.40gb' does not match any "
                        "resource patterns");
}

static void a_mig_device_without_capability_nodes_is_an_error(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:1x1g.10gb");
    f.config.mig_strategy = MIXED;
    f.inventory->gpus[0].minor = 3;
    f.inventory->gpus[0].mig_devices[0].ci_cap_path = NULL;
    assert_non_null(strstr(fixture_summary(&f),
                           "missing MIG compute instance capability path: "
                           "/proc/driver/nvidia/capabilities/gpu3/mig/gi1/ci0/access"));
    f.inventory->gpus[0].mig_devices[0].gi_cap_path = NULL;
    assert_non_null(strstr(fixture_summary(&f),
                           "missing MIG GPU instance capability path: "
                           "/proc/driver/nvidia/capabilities/gpu3/mig/gi1/access"));
    f.config.mig_strategy = NONE; /* where nobody looks at it, nobody misses it */
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=1");
}

static void other_platforms_offer_one_device(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    f.inventory->platform = PLATFORM_WSL;
    fixture_resources(&f);
    const struct device *device = fixture_resource(&f, "nvidia.com/gpu")->devices;
    assert_string_equal(fixture_ids(&f, "nvidia.com/gpu"), "all");
    assert_string_equal(device->index, "all");
    assert_int_equal(device->n_paths, 1);
    assert_string_equal(device->paths[0], "/dev/dxg");
    assert_null(device->gpu);
    assert_true(device->healthy);

    f.inventory->platform = PLATFORM_TEGRA;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_resources(&f);
    device = fixture_resource(&f, "nvidia.com/gpu")->devices;
    assert_string_equal(fixture_ids(&f, "nvidia.com/gpu"), "tegra::0 tegra::1");
    assert_string_equal(device->index, "0");
    assert_int_equal(device->n_paths, 0);

    f.inventory->platform = PLATFORM_NONE;
    assert_string_equal(fixture_summary(&f), "");
}

static void of_two_entries_for_a_resource_the_larger_counts(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 5);
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 3);
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=5");
}

/* ---- each device by its own entry ---- */

static void selected_devices_are_shared_and_the_rest_is_not(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2)->rename = "nvidia.com/gpu.shared";
    fixture_select(&f, "1");
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=2 nvidia.com/gpu.shared=2");
    assert_string_equal(fixture_ids(&f, "nvidia.com/gpu"), "GPU-0 GPU-2");
    assert_string_equal(fixture_ids(&f, "nvidia.com/gpu.shared"), "GPU-1::0 GPU-1::1");
    assert_false(fixture_resource(&f, "nvidia.com/gpu")->shared);
    assert_true(fixture_resource(&f, "nvidia.com/gpu.shared")->shared);
}

static void without_a_new_name_shared_and_unshared_devices_are_one_resource(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_select(&f, "GPU-1");
    fixture_resources(&f);
    assert_string_equal(fixture_ids(&f, "nvidia.com/gpu"), "GPU-0 GPU-1::0 GPU-1::1");
    assert_true(f.set->resources[0].shared);
    assert_int_equal(f.set->resources[0].devices[0].replicas, 1);
    assert_int_equal(f.set->resources[0].devices[1].replicas, 2);
}

static void gpus_may_differ_in_replicas_and_names(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4 t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 10); /* what the others leave */
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_select_count(&f, 2);
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4)->rename = "nvidia.com/gpu.small";
    fixture_select(&f, "0 GPU-3 0");
    fixture_resources(&f);
    assert_string_equal(fixture_ids(&f, "nvidia.com/gpu.small"),
                        "GPU-0::0 GPU-0::1 GPU-0::2 GPU-0::3 GPU-3::0 GPU-3::1 GPU-3::2 GPU-3::3");
    assert_string_equal(
        fixture_ids(&f, "nvidia.com/gpu"),
        "GPU-1::0 GPU-1::1 GPU-2::0 GPU-2::1 GPU-4::0 GPU-4::1 GPU-4::2 GPU-4::3 GPU-4::4 "
        "GPU-4::5 GPU-4::6 GPU-4::7 GPU-4::8 GPU-4::9");
    assert_int_equal(f.set->n_warnings, 0);
}

static void two_resources_may_be_renamed_into_one(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 h100:2x1g.10gb t4");
    f.config.mig_strategy = MIXED;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2)->rename = "nvidia.com/any";
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 2)->rename = "nvidia.com/any";
    fixture_select(&f, "1:0");
    fixture_resources(&f);
    assert_string_equal(fixture_ids(&f, "nvidia.com/any"),
                        "GPU-0::0 GPU-0::1 MIG-1-0::0 MIG-1-0::1 GPU-2::0 GPU-2::1");
    assert_string_equal(fixture_ids(&f, "nvidia.com/mig-1g.10gb"), "MIG-1-1");
}

static void mig_devices_are_selected_by_both_indices(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:3x1g.10gb,1x3g.40gb h100:1x1g.10gb");
    f.config.mig_strategy = MIXED;
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 2);
    fixture_select(&f, "0:1 MIG-1-0");
    fixture_resources(&f);
    assert_string_equal(fixture_ids(&f, "nvidia.com/mig-1g.10gb"),
                        "MIG-0-0 MIG-0-1::0 MIG-0-1::1 MIG-0-2 MIG-1-0::0 MIG-1-0::1");
    assert_string_equal(fixture_ids(&f, "nvidia.com/mig-3g.40gb"), "MIG-0-3");
}

static void selectors_that_match_nothing_are_errors(void **state)
{
    static const struct {
        const char *refs; /* NULL: three devices */
        const char *wanted;
    } rows[] = {
        { "0 7", "no matching device at index: 7" },
        { "0:1", "no matching device at index: 0:1" },
        { "GPU-9", "no matching device with UUID: GPU-9" },
        { NULL, "requested 3 devices to be replicated, but only 2 devices available" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_(fixture_done) struct fixture f = {};
        char wanted[400];
        fixture_init(&f, "t4 t4");
        fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
        if (rows[i].refs)
            fixture_select(&f, rows[i].refs);
        else
            fixture_select_count(&f, 3);
        snprintf(wanted, sizeof(wanted),
                 MAP "error updating device map with replicas from replicatedResources config: "
                     "unable to get IDs of devices to replicate for 'nvidia.com/gpu' resource: %s",
                 rows[i].wanted);
        assert_string_equal(fixture_summary(&f), wanted);
    }
}

static void a_selector_for_a_resource_that_the_node_lacks_is_ignored(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 2);
    fixture_select(&f, "0:0");
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=1");
}

static void a_device_cannot_be_listed_twice(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
    fixture_select(&f, "0");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4);
    fixture_select(&f, "GPU-0");
    assert_non_null(strstr(fixture_summary(&f), "device GPU-0 is listed by two entries"));
}

static void an_entry_that_comes_too_late_is_warned_about(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4);
    fixture_select(&f, "0");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 8)->place = (struct place){ 12, 5 };
    fixture_resources(&f);
    assert_int_equal(f.set->resources[0].n_devices, 4);
    assert_int_equal(f.set->n_warnings, 1);
    assert_string_equal(
        f.set->warnings[0].text,
        "12:5: the entry for nvidia.com/gpu gets no device: other entries took them all");
}

/* ---- MPS, IMEX, limits ---- */

static void mps_and_mig_do_not_go_together(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100:2x1g.10gb");
    f.config.mig_strategy = SINGLE;
    fixture_share(&f, SHARING_MPS, "nvidia.com/gpu", 2);
    assert_string_equal(fixture_summary(&f),
                        "failed to create plugin: sharing using MPS is not supported for MIG "
                        "devices (device 0:0 of nvidia.com/gpu)");
}

static void mps_on_some_gpus_leaves_mig_on_others_alone(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 h100:2x1g.10gb");
    f.config.mig_strategy = MIXED;
    fixture_share(&f, SHARING_MPS, "nvidia.com/gpu", 2);
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=2 nvidia.com/mig-1g.10gb=2");
    assert_int_equal(fixture_resource(&f, "nvidia.com/gpu")->sharing, SHARING_MPS);
    assert_int_equal(fixture_resource(&f, "nvidia.com/mig-1g.10gb")->sharing, SHARING_NONE);
}

static void a_missing_imex_channel_stops_only_those_who_require_it(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    f.config.imex_channel0 = true;
    fixture_resources(&f);
    assert_int_equal(f.set->n_warnings, 1);
    assert_string_equal(f.set->warnings[0].text,
                        "Ignoring requested IMEX channel channel0 (requested IMEX channel "
                        "channel0 does not exist)");
    f.config.imex_required = true; /* 50 */
    assert_string_equal(
        fixture_summary(&f),
        "error querying IMEX channels: requested IMEX channel channel0 does not exist");
    f.inventory->imex_problem = "/dev/x is not a character device";
    assert_string_equal(fixture_summary(&f),
                        "error querying IMEX channels: requested IMEX channel channel0 does not "
                        "exist (/dev/x is not a character device)");
    f.inventory->imex_channel0 = true;
    assert_string_equal(fixture_summary(&f), "nvidia.com/gpu=1");
    assert_int_equal(f.set->n_warnings, 0);
}

static void more_devices_than_a_kubelet_can_list_are_refused(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", CONFIG_MAX_REPLICAS);
    assert_int_equal(resource_build(f.inventory, &f.config, &f.arena, &f.set, &f.err), -E2BIG);
    assert_non_null(strstr(f.err.text, "196608 devices"));
    f.inventory->n_gpus = 2;
    fixture_resources(&f);
    assert_int_equal(f.set->resources[0].n_devices, RESOURCE_MAX_DEVICES);
}

/* ---- questions ---- */

static void every_device_is_found_and_nothing_else(void **state)
{
    static const char *const strangers[] = {
        "",           "::",        "GPU-1",     "GPU-1::",           "GPU-1::20",
        "GPU-1::01",  "GPU-1::+1", "GPU-1:: 1", "GPU-1::1::1",       "GPU-1::1x",
        "GPU-11::20", "GPU-12::0", "GPU-0::0",  "gpu-1::0",          "GPU-1:1",
        "GPU-1::-1",  "GPU",       "MIG-1-0",   "GPU-1::4294967296", "GPU-1::18446744073709551616",
    };
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4 t4 t4 t4 t4 t4 t4 t4 t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 20);
    fixture_select(&f, "1 2 11");
    fixture_resources(&f);
    const struct resource *resource = &f.set->resources[0];
    assert_int_equal(resource->n_devices, 9 + 3 * 20);
    for (size_t i = 0; i < resource->n_devices; i++)
        assert_ptr_equal(resource_device(resource, resource->devices[i].id), &resource->devices[i]);
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++)
        if (resource_device(resource, strangers[i]))
            fail_msg("'%s' was found", strangers[i]);
}

static void groups_are_the_physical_devices(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 3);
    fixture_select(&f, "1");
    fixture_resources(&f);
    const struct resource *resource = &f.set->resources[0];
    assert_int_equal(resource->n_groups, 3);
    assert_int_equal(resource->groups[1].first, 1);
    assert_int_equal(resource->groups[1].n, 3);
    assert_string_equal(resource->groups[2].physical_id, "GPU-2");
    for (size_t i = 0; i < resource->n_devices; i++) {
        const struct device_group *group = &resource->groups[resource->devices[i].group];
        assert_true(i >= group->first && i < group->first + group->n);
        assert_int_equal(i - group->first, resource->devices[i].replica);
    }
}

static void a_resource_that_is_not_there_is_not_found(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4");
    fixture_resources(&f);
    assert_null(resource_find(f.set, "nvidia.com/gpu.shared"));
    assert_non_null(resource_find(f.set, "nvidia.com/gpu"));
}

static void lack_of_memory_is_always_said(void **state)
{
    int r = -ENOMEM;

    for (unsigned long n = 1; r == -ENOMEM; n++) {
        auto_(fixture_done) struct fixture f = {};
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
        struct resource_set *set = NULL;
        struct err err = {};

        fixture_init(&f, "t4 t4 h100:2x1g.10gb,1x1c.3g.40gb h100:");
        f.config.mig_strategy = MIXED;
        f.config.imex_channel0 = true;
        fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/mig-1g.10gb", 900);
        fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4)->rename = "nvidia.com/some";
        fixture_select(&f, "0 1");
        fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 2);
        mem_fail_from(n);
        r = resource_build(f.inventory, &f.config, &arena, &set, &err);
        mem_fail_from(0);
        assert_true(r == 0 || r == -ENOMEM);
        assert_int_equal(set != NULL, r == 0);
        assert_int_equal(err.code, -r);
        assert_true(n < 10000);
    }
}

static void a_full_arena_is_lack_of_memory(void **state)
{
    auto_(fixture_done) struct fixture f = {};
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    fixture_init(&f, "t4");
    fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", CONFIG_MAX_REPLICAS);
    assert_int_equal(resource_build(f.inventory, &f.config, &arena, &f.set, &f.err), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_resources_follow_hardware_and_strategy),
        cmocka_unit_test(names_sockets_and_ids_are_those_of_upstream),
        cmocka_unit_test(a_device_says_where_it_is),
        cmocka_unit_test(the_numa_node_is_the_gpus),
        cmocka_unit_test(what_is_on_a_sick_gpu_is_unhealthy),
        cmocka_unit_test(a_sick_mig_device_leaves_the_others_alone),
        cmocka_unit_test(a_lost_gpu_without_mig_devices_does_not_stop_the_others),
        cmocka_unit_test(what_is_left_out_is_warned_about),
        cmocka_unit_test(a_mig_device_without_capability_nodes_is_an_error),
        cmocka_unit_test(other_platforms_offer_one_device),
        cmocka_unit_test(of_two_entries_for_a_resource_the_larger_counts),
        cmocka_unit_test(selected_devices_are_shared_and_the_rest_is_not),
        cmocka_unit_test(without_a_new_name_shared_and_unshared_devices_are_one_resource),
        cmocka_unit_test(gpus_may_differ_in_replicas_and_names),
        cmocka_unit_test(two_resources_may_be_renamed_into_one),
        cmocka_unit_test(mig_devices_are_selected_by_both_indices),
        cmocka_unit_test(selectors_that_match_nothing_are_errors),
        cmocka_unit_test(a_selector_for_a_resource_that_the_node_lacks_is_ignored),
        cmocka_unit_test(a_device_cannot_be_listed_twice),
        cmocka_unit_test(an_entry_that_comes_too_late_is_warned_about),
        cmocka_unit_test(mps_and_mig_do_not_go_together),
        cmocka_unit_test(mps_on_some_gpus_leaves_mig_on_others_alone),
        cmocka_unit_test(a_missing_imex_channel_stops_only_those_who_require_it),
        cmocka_unit_test(more_devices_than_a_kubelet_can_list_are_refused),
        cmocka_unit_test(every_device_is_found_and_nothing_else),
        cmocka_unit_test(groups_are_the_physical_devices),
        cmocka_unit_test(a_resource_that_is_not_there_is_not_found),
        cmocka_unit_test(lack_of_memory_is_always_said),
        cmocka_unit_test(a_full_arena_is_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
