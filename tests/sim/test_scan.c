/*
 * The scan against simulated GPUs, through the built libnvidia-ml.so.1 as a driver's would be
 * loaded (LD_LIBRARY_PATH). What the simulator's state says is the truth; a scan may know less than
 * that, but never something else.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "gpu/scan.h"
#include "sim/gpu/catalogue.h"
#include "sim/gpu/control.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"

#include "sim_world.h"

static const struct scan_options with_links = { .links = true };

/* ---- what is true ---- */

static const struct sim_gpu *truth(const struct world *world, uint32_t index)
{
    return &world->sim->gpus[index];
}

static void bus_id(const struct sim_gpu *gpu, char text[static 32])
{
    snprintf(text, 32, "%04x:%02x:%02x.0", gpu->pci_domain, gpu->pci_bus, gpu->pci_device);
}

static void check_identity(const struct gpu *gpu, const struct sim_gpu *sim)
{
    char where[32];

    bus_id(sim, where);
    assert_string_equal(gpu->uuid, sim->uuid);
    assert_string_equal(gpu->name, sim->name);
    assert_int_equal(gpu->minor, sim->minor);
    assert_string_equal(gpu->bus_id, where);
    assert_int_equal(gpu->pci_device_id, sim->pci_device_id);
    assert_int_equal(gpu->pci_subsystem_id, sim->pci_subsystem_id);
}

/* Known readings are right; an unknown one claims nothing. */
static void check_readings(const struct gpu *gpu, const struct sim_gpu *sim)
{
    if (gpu->memory_bytes.known)
        assert_int_equal(gpu->memory_bytes.value, sim->memory_bytes);
    if (gpu->cc_major) {
        assert_int_equal(gpu->cc_major, sim->cc_major);
        assert_int_equal(gpu->cc_minor, sim->cc_minor);
    }
    if (gpu->fabric.attached)
        assert_int_equal(sim->fabric_state, 3);
}

static size_t count_devices(const struct sim_gpu *sim)
{
    size_t n = 0;

    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
        for (size_t j = 0; sim->instances[i].exists && j < SIM_MAX_COMPUTE_INSTANCES; j++)
            n += sim->instances[i].compute[j].exists;
    return n;
}

static void check_mig_device(const struct mig_device *mig, const struct sim_gpu *sim)
{
    const struct sim_gpu_instance *gi = sim_gi_by_id((struct sim_gpu *)sim, mig->gi_id);
    assert_non_null(gi);
    const struct sim_compute_instance *ci = sim_ci_by_id((struct sim_gpu_instance *)gi, mig->ci_id);
    assert_non_null(ci);
    struct sim_mig_device device = {
        .gpu = (struct sim_gpu *)sim,
        .gi = (struct sim_gpu_instance *)gi,
        .ci = (struct sim_compute_instance *)ci,
    };
    char name[32];

    sim_mig_device_profile(&device, name);
    assert_string_equal(mig->uuid, ci->uuid);
    assert_string_equal(mig->profile, name);
    assert_int_equal(mig->gi_profile, gi->profile);
    assert_int_equal(mig->ci_profile, ci->profile);
    assert_int_equal(mig->start, gi->start);
    assert_int_equal(mig->size, gi->size);
    assert_int_equal(mig->index, sim_mig_device_index(sim, gi, ci));
    assert_int_equal(mig->attributes.multiprocessors, ci->multiprocessors);
    assert_int_equal(mig->attributes.memory_mib, sim->profiles[gi->profile].memory_mib);
    assert_int_equal(mig->attributes.gpu_instance_slices, sim->profiles[gi->profile].slices);
}

/* A driver that answers NOT_SUPPORTED to the question of MIG mode says "I cannot do MIG". */
static bool deny_mig;

static void check_mig(const struct gpu *gpu, const struct sim_gpu *sim)
{
    if (!gpu->mig_capable && sim->mig_capable && deny_mig)
        return;
    assert_int_equal(gpu->mig_capable, sim->mig_capable);
    assert_int_equal(gpu->mig_enabled, sim->mig_current);
    assert_int_equal(gpu->mig_pending, sim->mig_pending);
    assert_int_equal(gpu->n_mig_devices, count_devices(sim));
    for (size_t i = 0; i < gpu->n_mig_devices; i++)
        check_mig_device(&gpu->mig_devices[i], sim);
}

static void check_gpu(const struct gpu *gpu, const struct sim_gpu *sim)
{
    check_identity(gpu, sim);
    check_readings(gpu, sim);
    if (gpu->healthy)
        check_mig(gpu, sim);
    else
        assert_non_null(gpu->unhealthy_reason);
}

/* Whole GPUs' profiles are the catalogue's, by name and in the order of the enums. */
static void check_profiles(const struct gpu *gpu, const struct sim_gpu *sim)
{
    size_t at = 0;

    for (uint32_t i = 0; i < SIM_MAX_PROFILES; i++) {
        if (!sim->profiles[i].supported)
            continue;
        while (at < gpu->n_mig_profiles && !gpu->mig_profiles[at].whole)
            at++;
        assert_true(at < gpu->n_mig_profiles);
        const struct mig_profile_info *profile = &gpu->mig_profiles[at++];
        assert_string_equal(profile->name, sim->profiles[i].name);
        assert_int_equal(profile->gi_profile, i);
        assert_int_equal(profile->driver_id, sim->profiles[i].id);
        assert_int_equal(profile->max_instances, sim->profiles[i].max_instances);
        assert_int_equal(profile->memory_mib, sim->profiles[i].memory_mib);
    }
}

static struct inventory *scan(struct world *world, const struct scan_options *options)
{
    struct inventory *inventory = NULL;
    struct err err = {};

    if (gpu_scan(world->nvml, options, &inventory, &err) < 0)
        fail_msg("%s", err.text);
    return inventory;
}

/* ---- healthy nodes ---- */

static void every_model_is_read_as_the_catalogue_has_it(void **state)
{
    size_t n_models;
    const struct sim_model *models = sim_models(&n_models);

    for (size_t m = 0; m < n_models; m++) {
        char spec[64];
        snprintf(spec, sizeof(spec), "3x%s", models[m].name);
        struct world *world = world_new(spec);
        auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);

        assert_int_equal(inventory->platform, PLATFORM_NVML);
        assert_string_equal(inventory->driver_version, world->sim->driver_version);
        assert_int_equal(inventory->cuda_version.value, world->sim->cuda_version);
        assert_int_equal(inventory->n_gpus, 3);
        assert_int_equal(inventory->n_problems, 0);
        for (uint32_t i = 0; i < 3; i++) {
            const struct gpu *gpu = &inventory->gpus[i];
            assert_int_equal(gpu->index, i);
            assert_true(gpu->healthy);
            assert_true(gpu->memory_bytes.known);
            assert_int_equal(gpu->cc_major, models[m].cc_major);
            check_gpu(gpu, truth(world, i));
            check_profiles(gpu, truth(world, i));
        }
        world_free(world);
    }
}

static void links_are_those_of_the_machine(void **state)
{
    struct world *world = world_new("4xa100-40gb");
    auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);

    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t j = 0; j < 4; j++) {
            const struct gpu_link *link = &inventory->gpus[i].links[j];
            uint32_t n = 0;
            char where[32];
            if (i == j)
                continue;
            bus_id(truth(world, j), where);
            for (uint32_t k = 0; k < truth(world, i)->n_links; k++)
                n += truth(world, i)->links[k].active &&
                     strcasestr(truth(world, i)->links[k].remote_bus_id, where + 5) != NULL;
            assert_true(link->known);
            assert_int_equal(link->level, world->sim->topology.level[i][j]);
            assert_int_equal(link->n_nvlinks, n);
        }
    }
    world_free(world);
}

static void links_are_not_asked_for_in_vain(void **state)
{
    static const struct scan_options without = {};
    struct world *world = world_new("2xh100-80gb");
    auto_(inventory_unrefp) struct inventory *inventory = scan(world, &without);

    assert_null(inventory->gpus[0].links);
    world_free(world);
}

static void mig_devices_are_read_with_profile_and_place(void **state)
{
    static const struct {
        const char *spec;
        size_t n_wants;
        struct sim_mig_want wants[4];
    } cases[] = {
        { "h100-80gb", 1, { { "1g.10gb", 7 } } },
        { "h100-80gb", 3, { { "1g.10gb", 2 }, { "2g.20gb", 1 }, { "3g.40gb", 1 } } },
        { "h100-80gb", 2, { { "1c.3g.40gb", 2 }, { "1g.10gb+me", 1 } } },
        { "h100-80gb", 1, { { "1g.20gb", 4 } } },
        { "a100-40gb", 2, { { "1c.7g.40gb", 3 }, { "2c.7g.40gb", 1 } } },
        { "a30-24gb", 1, { { "1g.6gb", 4 } } },
        { "h100-80gb", 0, {} },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world *world = world_new(cases[i].spec);
        world_partition(world, 0, cases[i].wants, cases[i].n_wants);
        auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);

        assert_true(inventory->gpus[0].mig_enabled);
        check_gpu(&inventory->gpus[0], truth(world, 0));
        for (size_t j = 0; j < inventory->gpus[0].n_mig_devices; j++)
            assert_true(inventory->gpus[0].mig_devices[j].healthy);
        world_free(world);
    }
}

static void a_screen_board_is_left_out_and_the_others_keep_their_index(void **state)
{
    struct world *world = world_new("3xa100-40gb");

    strcpy(world->sim->gpus[1].name, "NVIDIA DGX Display");
    auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);
    assert_int_equal(inventory->n_gpus, 2);
    assert_int_equal(inventory->n_problems, 0);
    assert_int_equal(inventory->gpus[0].index, 0);
    assert_int_equal(inventory->gpus[1].index, 2);
    assert_string_equal(inventory->gpus[1].uuid, truth(world, 2)->uuid);
    assert_int_equal(inventory->gpus[0].links[1].level, world->sim->topology.level[0][2]);
    world_free(world);
}

static void a_second_scan_is_equal_to_the_first(void **state)
{
    struct world *world = world_new("8xh100-80gb");
    auto_(inventory_unrefp) struct inventory *one = scan(world, &with_links);
    auto_(inventory_unrefp) struct inventory *two = scan(world, &with_links);

    assert_true(inventory_equal(one, two));
    world_free(world);
}

/* ---- nodes in trouble ---- */

static void without_a_driver_nvml_says_so_itself(void **state)
{
    struct world *world = world_new("2xh100-80gb");
    auto_(inventory_unrefp) struct inventory *inventory = NULL;
    struct err err = {};

    world->sim->driver_loaded = false;
    assert_int_equal(gpu_scan(world->nvml, &with_links, &inventory, &err), -ENXIO);
    assert_string_equal(err.text, "Driver Not Loaded");
    assert_null(inventory);
    world_free(world);
}

static void without_a_library_there_are_no_gpus(void **state)
{
    static const struct scan_options insisting = { .discovery = DISCOVERY_NVML };
    auto_(inventory_unrefp) struct inventory *inventory = NULL, *none = NULL;
    struct err err = {};

    assert_int_equal(gpu_scan(NULL, &with_links, &inventory, &err), 0);
    assert_int_equal(inventory->platform, PLATFORM_NONE);
    assert_int_equal(inventory->n_gpus, 0);
    assert_null(inventory->driver_version);
    assert_int_equal(gpu_scan(NULL, &insisting, &none, &err), -ENOENT);
    assert_string_equal(err.text, "ERROR_LIBRARY_NOT_FOUND");
}

static void a_lost_gpu_is_a_problem_and_the_others_are_well(void **state)
{
    struct world *world = world_new("3xh100-80gb");

    sim_state_lock(world->sim);
    sim_lose(world->sim, 1);
    sim_state_unlock(world->sim);
    auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);
    assert_int_equal(inventory->n_gpus, 2);
    assert_int_equal(inventory->n_problems, 1);
    assert_int_equal(inventory->problems[0].index, 1);
    assert_non_null(strstr(inventory->problems[0].text, "GPU is lost"));
    for (size_t i = 0; i < 2; i++) {
        assert_true(inventory->gpus[i].healthy);
        check_gpu(&inventory->gpus[i], truth(world, inventory->gpus[i].index));
    }
    world_free(world);
}

static void a_gpu_that_is_lost_on_the_way_is_named_and_unhealthy(void **state)
{
    struct world *world = world_new("2xh100-80gb");

    world_fault(world, "nvmlDeviceGetMigMode", 1, 0, 0, 15);
    auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);
    assert_int_equal(inventory->n_gpus, 2);
    assert_true(inventory->gpus[0].healthy);
    assert_false(inventory->gpus[1].healthy);
    assert_string_equal(inventory->gpus[1].unhealthy_reason,
                        "cannot read its MIG mode: GPU is lost");
    check_identity(&inventory->gpus[1], truth(world, 1));
    world_free(world);
}

static void lack_of_memory_is_said_wherever_it_strikes(void **state)
{
    static const struct sim_mig_want wants[] = { { "1g.10gb", 2 }, { "3g.40gb", 1 } };
    static const struct scan_options all = { .links = true, .vgpu = true };
    struct world *world = world_new("2xh100-80gb");
    unsigned long n = 0;
    int r;

    world_partition(world, 1, wants, ARRAY_LEN(wants));
    do {
        auto_(inventory_unrefp) struct inventory *inventory = NULL;
        struct err err = {};
        mem_fail_from(++n);
        r = gpu_scan(world->nvml, &all, &inventory, &err);
        mem_fail_from(0);
        if (r < 0) {
            assert_int_equal(r, -ENOMEM);
            assert_null(inventory);
        }
    } while (r < 0);
    assert_true(n > 10);
    world_free(world);
}

/* ---- every call fails ---- */

static const char *const calls[] = {
#define NVML_CALL(member, symbol, need, args) #symbol,
#include "gpu/nvml_calls.def"
};

/* GPU by GPU: who is listed is who he says, and what is said of him is true. */
static void check_inventory(const struct world *world, const struct inventory *inventory,
                            const struct inventory *whole)
{
    size_t at = 0;

    assert_int_equal(inventory->n_gpus + inventory->n_problems, world->sim->n_gpus);
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        const struct gpu *gpu = &inventory->gpus[i];
        while (at < world->sim->n_gpus && at < gpu->index)
            at++;
        check_gpu(gpu, truth(world, gpu->index));
        for (size_t j = 0; gpu->links && j < inventory->n_gpus; j++) {
            const struct gpu *peer = &inventory->gpus[j];
            if (i != j && gpu->links[j].known)
                assert_int_equal(gpu->links[j].level,
                                 world->sim->topology.level[gpu->index][peer->index]);
            if (i != j)
                assert_true(gpu->links[j].n_nvlinks <=
                            whole->gpus[gpu->index].links[peer->index].n_nvlinks);
        }
    }
    for (size_t i = 0; i < inventory->n_problems; i++)
        assert_non_null(inventory->problems[i].text);
}

static void check_faulty_scan(struct world *world, const char *call, uint32_t code, uint32_t after,
                              uint32_t times, const struct inventory *whole)
{
    auto_(inventory_unrefp) struct inventory *faulty = NULL;
    struct err err = {};

    deny_mig = code == 3 && text_equal(call, "nvmlDeviceGetMigMode");
    world_fault(world, call, -1, after, times, code);
    int r = gpu_scan(world->nvml, &with_links, &faulty, &err);
    world_no_faults(world);
    if (r < 0)
        assert_true(err.text[0] != '\0' && err.code == -r && !faulty);
    else
        check_inventory(world, faulty, whole);

    auto_(inventory_unrefp) struct inventory *after_it = scan(world, &with_links);
    assert_true(inventory_equal(after_it, whole));
}

static void a_call_that_fails_makes_nothing_up(void **state)
{
    static const uint32_t codes[] = { 3, 15, 999 };
    static const struct sim_mig_want balanced[] = { { "1g.10gb", 2 },
                                                    { "2g.20gb", 1 },
                                                    { "1c.3g.40gb", 3 } };
    struct world *world = world_new("2xh100-80gb,a100-40gb");

    world_partition(world, 1, balanced, ARRAY_LEN(balanced));
    auto_(inventory_unrefp) struct inventory *whole = scan(world, &with_links);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        for (size_t j = 0; j < ARRAY_LEN(codes); j++) {
            check_faulty_scan(world, calls[i], codes[j], 0, 0, whole);
            for (uint32_t after = 0; after < 12; after++)
                check_faulty_scan(world, calls[i], codes[j], after, 1, whole);
        }
    }
    world_free(world);
}

/* A failure that does not come again is not even seen. */
static void a_call_that_fails_once_is_made_again(void **state)
{
    static const struct sim_mig_want sevenfold[] = { { "1g.10gb", 7 } };
    struct world *world = world_new("2xh100-80gb");

    world_partition(world, 0, sevenfold, 1);
    auto_(inventory_unrefp) struct inventory *whole = scan(world, &with_links);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        if (strstr(calls[i], "Init") || strstr(calls[i], "Event"))
            continue;
        world_fault(world, calls[i], -1, 1, 1, 999);
        auto_(inventory_unrefp) struct inventory *inventory = scan(world, &with_links);
        world_no_faults(world);
        if (!inventory_equal(inventory, whole))
            fail_msg("%s", calls[i]);
    }
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_is_read_as_the_catalogue_has_it),
        cmocka_unit_test(links_are_those_of_the_machine),
        cmocka_unit_test(links_are_not_asked_for_in_vain),
        cmocka_unit_test(mig_devices_are_read_with_profile_and_place),
        cmocka_unit_test(a_screen_board_is_left_out_and_the_others_keep_their_index),
        cmocka_unit_test(a_second_scan_is_equal_to_the_first),
        cmocka_unit_test(without_a_driver_nvml_says_so_itself),
        cmocka_unit_test(without_a_library_there_are_no_gpus),
        cmocka_unit_test(a_lost_gpu_is_a_problem_and_the_others_are_well),
        cmocka_unit_test(a_gpu_that_is_lost_on_the_way_is_named_and_unhealthy),
        cmocka_unit_test(lack_of_memory_is_said_wherever_it_strikes),
        cmocka_unit_test(a_call_that_fails_makes_nothing_up),
        cmocka_unit_test(a_call_that_fails_once_is_made_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
