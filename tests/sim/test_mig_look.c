/*
 * How GPUs are divided, as NVML tells it: what is there, what could be, who is on it, and how few
 * questions it takes.
 */
#include <fcntl.h>

#include "sim_world.h"

#include "gpu/mig_look.h"
#include "gpu/nvml_table.h"

struct view {
    struct arena arena;
    struct mig_node *node;
    uint64_t calls;
};

static void view_done(struct view *view)
{
    arena_done(&view->arena);
}

/* With processes; `root` is below the world's folder. */
static struct view look(struct world *world, const char *uuid)
{
    struct view view = { .arena = ARENA_MAX(MIB(2)) };
    auto_close int root = open(world->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct mig_look_options options = { .root = root, .holders = true, .uuid = uuid };
    struct err err = {};
    uint64_t before = world->sim->n_calls;

    assert_true(root >= 0);
    assert_int_equal(nvml_init(world->nvml, &err), 0);
    if (mig_look(world->nvml, &options, &view.arena, &view.node, &err) < 0)
        fail_msg("%s", err.text);
    nvml_shutdown(world->nvml);
    view.calls = world->sim->n_calls - before;
    return view;
}

#define auto_view  auto_(view_done) struct view
#define auto_world auto_(world_freep) struct world *
#define WANTS(...)                                                                                 \
    (const struct sim_mig_want[])                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define N_WANTS(...) ARRAY_LEN(WANTS(__VA_ARGS__))

static void world_freep(struct world **world)
{
    world_free(*world);
}

#define CUT(world, gpu, ...) world_partition(world, gpu, WANTS(__VA_ARGS__), N_WANTS(__VA_ARGS__))

static void run_on(struct world *world, uint32_t gpu, uint32_t pid, uint32_t gi, uint32_t ci,
                   uint32_t kind, const char *name)
{
    struct sim_process process = { .pid = pid, .gpu = gpu, .gi_id = gi, .ci_id = ci, .kind = kind };
    struct err err = {};

    snprintf(process.name, sizeof(process.name), "%s", name);
    sim_state_lock(world->sim);
    int r = sim_process_add(world->sim, &process, &err);
    sim_state_unlock(world->sim);
    if (r < 0)
        fail_msg("%s", err.text);
}

static const struct mig_gi_profile *profile_called(const struct mig_gpu *gpu, const char *name)
{
    for (size_t i = 0; i < gpu->n_profiles; i++)
        if (text_equal(gpu->profiles[i].name, name))
            return &gpu->profiles[i];
    fail_msg("no profile %s", name);
    return NULL;
}

/* ---- what could be ---- */

static void profiles_and_their_places_are_those_of_each_board(void **state)
{
    static const struct {
        const char *gpu, *name;
        size_t n_profiles;
        uint32_t memory_slices, slices, gi_profile, driver_id, max;
        size_t n_placements;
        struct mig_placement last;
    } rows[] = {
        { "h100-80gb", "1g.10gb", 7, 8, 7, 0, 19, 7, 7, { 6, 1 } },
        { "h100-80gb", "1g.20gb", 7, 8, 7, 9, 15, 4, 4, { 6, 2 } },
        { "h100-80gb", "7g.80gb", 7, 8, 7, 4, 0, 1, 1, { 0, 8 } },
        { "a100-40gb", "3g.20gb", 7, 8, 7, 2, 9, 2, 2, { 4, 4 } },
        { "a30", "1g.6gb+me", 5, 4, 4, 7, 21, 1, 4, { 3, 1 } },
        { "rtx-pro-6000", "1g.24gb+me.all", 11, 12, 4, 15, 65, 1, 4, { 9, 3 } },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_world world = world_new(rows[i].gpu);
        auto_view view = look(world, NULL);
        const struct mig_gpu *gpu = &view.node->gpus[0];
        const struct mig_gi_profile *profile = profile_called(gpu, rows[i].name);

        assert_null(gpu->problem);
        assert_true(gpu->capable);
        assert_false(gpu->enabled);
        assert_int_equal(gpu->n_profiles, rows[i].n_profiles);
        assert_int_equal(gpu->memory_slices, rows[i].memory_slices);
        assert_int_equal(gpu->slices, rows[i].slices);
        assert_int_equal(profile->gi_profile, rows[i].gi_profile);
        assert_int_equal(profile->driver_id, rows[i].driver_id);
        assert_int_equal(profile->max_instances, rows[i].max);
        assert_int_equal(profile->n_placements, rows[i].n_placements);
        const struct mig_placement *last = &profile->placements[profile->n_placements - 1];
        assert_int_equal(last->start, rows[i].last.start);
        assert_int_equal(last->size, rows[i].last.size);
    }
}

static void wrong_counts_of_a30_are_repaired(void **state)
{
    auto_world world = world_new("a30");

    for (size_t i = 0; i < SIM_MAX_PROFILES; i++)
        world->sim->gpus[0].profiles[i].max_instances = 3;
    auto_view view = look(world, NULL);
    assert_int_equal(profile_called(&view.node->gpus[0], "1g.6gb")->max_instances, 4);
    assert_int_equal(profile_called(&view.node->gpus[0], "2g.12gb")->max_instances, 2);
    assert_int_equal(profile_called(&view.node->gpus[0], "2g.12gb+me")->max_instances, 1);
    assert_int_equal(profile_called(&view.node->gpus[0], "4g.24gb")->max_instances, 1);
}

static void graphics_profile_of_three_slices_is_a_profile(void **state)
{
    auto_world world = world_new("rtx-pro-6000");
    struct sim_gpu *gpu = &world->sim->gpus[0];

    gpu->profiles[17] = gpu->profiles[10];
    gpu->profiles[17].id = 40;
    gpu->profiles[17].slices = 3;
    auto_view view = look(world, NULL);
    const struct mig_gi_profile *profile = profile_called(&view.node->gpus[0], "3g.24gb+gfx");
    assert_int_equal(profile->gi_profile, 17);
    assert_int_equal(profile->profile.c, 3);
    assert_int_equal(profile->profile.attributes, MIG_ATTR_GFX);
}

static nvmlReturn_t (*real_gi_profile_info)(nvmlDevice_t device, uint32_t profile,
                                            struct nvml_gi_profile_info *info);
static const char *new_name;

/* A driver of the future: enum 18 is nothing, 19 a profile, 20 the end. */
static nvmlReturn_t newer_profile_info(nvmlDevice_t device, uint32_t profile,
                                       struct nvml_gi_profile_info *info)
{
    if (profile == 18)
        return NVML_NOT_SUPPORTED;
    nvmlReturn_t code = real_gi_profile_info(device, profile == 19 ? 1 : profile, info);
    if (profile == 19)
        info->id = 14;
    return code;
}

static nvmlReturn_t newer_profile_info_v(nvmlDevice_t device, uint32_t profile,
                                         struct nvml_gi_profile_info_v2 *info)
{
    assert_int_equal(profile, 19);
    assert_int_equal(info->version, 0x02000098);
    if (!new_name)
        return NVML_NOT_SUPPORTED;
    strcpy(info->name, new_name);
    return NVML_SUCCESS;
}

static void profiles_younger_than_we_are_tolerated(void **state)
{
    static const struct {
        const char *told, *name;
    } rows[] = {
        { "MIG 2g.20gb+warp", "2g.20gb+warp" },
        { "MIG 2g.20gb+me.all", "2g.20gb+me.all" },
        { "something else", "2g.20gb" },
        { NULL, "2g.20gb" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_world world = world_new("h100-80gb");
        real_gi_profile_info = world->nvml->gi_profile_info;
        world->nvml->gi_profile_info = newer_profile_info;
        world->nvml->gi_profile_info_v = newer_profile_info_v;
        new_name = rows[i].told;
        auto_view view = look(world, NULL);
        const struct mig_gpu *gpu = &view.node->gpus[0];
        assert_int_equal(gpu->n_profiles, 8);
        assert_int_equal(gpu->profiles[7].gi_profile, 19);
        assert_string_equal(gpu->profiles[7].name, rows[i].name);
        assert_int_equal(gpu->profiles[7].slices, 2);
        assert_int_equal(gpu->profiles[7].profile.c, 2);
    }
}

static void profiles_hidden_while_mig_is_off_are_no_problem(void **state)
{
    auto_world world = world_new("2xh100-80gb,a100-40gb");

    world->sim->mig_profiles_hidden = true; /* as drivers of branch 535 */
    {
        auto_view view = look(world, NULL);
        for (size_t i = 0; i < 3; i++) {
            assert_null(view.node->gpus[i].problem);
            assert_true(view.node->gpus[i].capable);
            assert_int_equal(view.node->gpus[i].n_profiles, 0);
        }
    }
    CUT(world, 1, { "1g.10gb", 2 });
    auto_view view = look(world, NULL);
    assert_int_equal(view.node->gpus[0].n_profiles, 7); /* its sister knows */
    assert_int_equal(view.node->gpus[1].n_profiles, 7);
    assert_int_equal(view.node->gpus[2].n_profiles, 0);
}

/* ---- what is there ---- */

static void instances_are_listed_by_place_with_what_is_in_them(void **state)
{
    auto_world world = world_new("h100-80gb");

    CUT(world, 0, { "1c.3g.40gb", 2 }, { "2g.20gb", 1 }, { "1g.10gb", 1 });
    auto_view view = look(world, NULL);
    const struct mig_gpu *gpu = &view.node->gpus[0];
    static const struct {
        uint32_t gi_profile, n_cis;
    } wanted[] = { { 1, 1 }, { 0, 1 }, { 2, 2 } };

    assert_true(gpu->enabled);
    assert_int_equal(gpu->n_gis, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct mig_gpu_instance *gi = &gpu->gis[i];

        assert_int_equal(gi->gi_profile, wanted[i].gi_profile);
        assert_int_equal(gi->n_cis, wanted[i].n_cis);
        for (size_t j = 0; j < gi->n_cis; j++) {
            struct sim_mig_device device;

            assert_int_equal(sim_mig_device_by_uuid(world->sim, gi->cis[j].uuid, &device), 0);
            assert_int_equal(device.gi->id, gi->id);
            assert_int_equal(device.gi->start, gi->placement.start);
            assert_int_equal(device.gi->size, gi->placement.size);
            assert_int_equal(device.ci->id, gi->cis[j].id);
            assert_int_equal(device.ci->profile, gi->cis[j].ci_profile);
            assert_int_equal(device.ci->start, gi->cis[j].placement.start);
            assert_int_equal(device.ci->size, gi->cis[j].placement.size);
            assert_null(gi->cis[j].holder);
        }
    }
}

static void instances_without_compute_instance_are_seen(void **state)
{
    auto_world world = world_new("h100-80gb");
    struct sim_gpu *gpu = &world->sim->gpus[0];
    struct sim_gpu_instance *gi, *gis[SIM_MAX_GPU_INSTANCES];
    struct sim_compute_instance *ci;

    CUT(world, 0, { "1c.4g.40gb", 4 });
    sim_state_lock(world->sim);
    const struct sim_placement at = { 4, 4 };
    assert_int_equal(sim_gi_create(world->sim, gpu, 2, &at, &gi, NULL), 0);
    /* … and a hole among the compute instances of the other. */
    assert_int_equal(sim_gi_list(gpu, 3, gis), 1);
    assert_non_null(ci = sim_ci_by_id(gis[0], 1));
    assert_int_equal(sim_ci_destroy(world->sim, gpu, gis[0], ci, NULL), 0);
    sim_state_unlock(world->sim);

    auto_view view = look(world, NULL);
    assert_int_equal(view.node->gpus[0].n_gis, 2);
    assert_int_equal(view.node->gpus[0].gis[0].n_cis, 3);
    assert_int_equal(view.node->gpus[0].gis[1].n_cis, 0);
    assert_int_equal(view.node->gpus[0].gis[1].placement.start, 4);
}

static void gpus_stand_in_the_order_of_their_addresses(void **state)
{
    auto_world world = world_new("3xh100-80gb");
    struct sim_gpu *gpus = world->sim->gpus;
    uint32_t bus = gpus[0].pci_bus;

    gpus[0].pci_bus = gpus[2].pci_bus;
    gpus[2].pci_bus = bus;
    gpus[0].pci_domain = 0xffff;
    gpus[1].pci_domain = 0x10000; /* more digits: the last, though "1" comes before "f" */
    auto_view view = look(world, NULL);
    assert_int_equal(view.node->gpus[0].index, 2);
    assert_int_equal(view.node->gpus[1].index, 0);
    assert_int_equal(view.node->gpus[2].index, 1);
}

static void boards_for_screens_are_left_out(void **state)
{
    auto_world world = world_new("2xh100-80gb");

    strcpy(world->sim->gpus[0].name, "NVIDIA DGX Display");
    auto_view view = look(world, NULL);
    assert_int_equal(view.node->n_gpus, 1);
    assert_int_equal(view.node->gpus[0].index, 1);
}

static void one_gpu_alone_can_be_looked_at(void **state)
{
    auto_world world = world_new("3xh100-80gb");
    auto_view view = look(world, world->sim->gpus[1].uuid);

    assert_int_equal(view.node->n_gpus, 1);
    assert_int_equal(view.node->gpus[0].index, 1);
    auto_view nothing = look(world, "GPU-none");
    assert_int_equal(nothing.node->n_gpus, 0);
}

static void gpus_that_cannot_do_mig_say_so(void **state)
{
    auto_world world = world_new("t4,h100-80gb");
    auto_view view = look(world, NULL);

    assert_false(view.node->gpus[0].capable);
    assert_null(view.node->gpus[0].problem);
    assert_true(view.node->gpus[1].capable);
}

/* ---- trouble ---- */

static void a_lost_gpu_is_a_problem_of_its_own(void **state)
{
    auto_world world = world_new("2xh100-80gb");

    sim_state_lock(world->sim);
    sim_lose(world->sim, 0);
    sim_state_unlock(world->sim);
    auto_view view = look(world, NULL);
    assert_int_equal(view.node->n_gpus, 2);
    const struct mig_gpu *lost = &view.node->gpus[view.node->gpus[0].index == 0 ? 0 : 1];
    assert_non_null(strstr(lost->problem, "GPU is lost"));
    assert_false(lost->capable);
    assert_null(view.node->gpus[view.node->gpus[0].index == 0 ? 1 : 0].problem);
}

/* Each call of a look fails for once: the look is made again, or says what it does not know. */
static void one_call_that_fails_for_once_harms_nobody(void **state)
{
    auto_world world = world_new("h100-80gb");
    uint64_t all = UINT64_MAX;

    CUT(world, 0, { "1g.10gb", 3 }, { "1c.3g.40gb", 2 });
    for (uint32_t i = 3; i < all; i++) { /* the first three are the node's: init, version, count */
        world_fault(world, "nvml*", -1, i, 1, NVML_UNKNOWN);
        auto_view view = look(world, NULL);
        world_no_faults(world);
        if (all == UINT64_MAX) {
            auto_view whole = look(world, NULL);
            all = whole.calls - 1; /* the last is shutdown */
        }
        assert_int_equal(view.node->n_gpus, 1);
        if (view.node->gpus[0].problem)
            fail_msg("call %u: %s", i, view.node->gpus[0].problem);
        assert_int_equal(view.node->gpus[0].n_gis, 4);
        assert_int_equal(view.node->gpus[0].n_profiles, 7);
    }
    assert_true(all > 50);
}

static void a_call_that_keeps_failing_is_the_gpus_problem(void **state)
{
    static const char *const calls[] = {
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetGpuInstanceProfileInfo",
        "nvmlDeviceGetGpuInstancePossiblePlacements_v2",
        "nvmlDeviceGetGpuInstances",
        "nvmlGpuInstanceGetInfo",
        "nvmlGpuInstanceGetComputeInstanceById",
        "nvmlComputeInstanceGetInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    };
    auto_world world = world_new("h100-80gb");

    CUT(world, 0, { "1g.10gb", 3 });
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        world_fault(world, calls[i], -1, 0, 0, NVML_UNKNOWN);
        auto_view view = look(world, NULL);
        world_no_faults(world);
        assert_int_equal(view.node->n_gpus, 1);
        if (!view.node->gpus[0].problem || !strstr(view.node->gpus[0].problem, "Unknown Error"))
            fail_msg("%s: %s", calls[i], view.node->gpus[0].problem);
        assert_int_equal(view.node->gpus[0].n_gis, 0);
    }
}

static nvmlReturn_t wild_profile_info(nvmlDevice_t device, uint32_t profile,
                                      struct nvml_gi_profile_info *info)
{
    nvmlReturn_t code = real_gi_profile_info(device, profile, info);

    if (profile == 1)
        info->sliceCount = 0;
    if (profile == 2)
        info->sliceCount = UINT32_MAX;
    return code;
}

static nvmlReturn_t wild_placements(nvmlDevice_t device, uint32_t profile_id,
                                    struct nvml_placement *placements, uint32_t *count)
{
    placements[0] = (struct nvml_placement){ UINT32_MAX, 2 };
    *count = 1;
    return NVML_SUCCESS;
}

static nvmlReturn_t (*real_gi_info)(nvmlGpuInstance_t gi, struct nvml_gi_info *info);
static nvmlReturn_t wild_gi_info(nvmlGpuInstance_t gi, struct nvml_gi_info *info)
{
    nvmlReturn_t code = real_gi_info(gi, info);

    info->placement = (struct nvml_placement){ 31, 2 };
    return code;
}

static nvmlReturn_t (*real_ci_info)(nvmlComputeInstance_t ci, struct nvml_ci_info *info);
static nvmlReturn_t wild_ci_info(nvmlComputeInstance_t ci, struct nvml_ci_info *info)
{
    nvmlReturn_t code = real_ci_info(ci, info);

    info->placement = (struct nvml_placement){ UINT32_MAX, UINT32_MAX };
    return code;
}

static void numbers_that_cannot_be_are_not_believed(void **state)
{
    for (size_t i = 0; i < 4; i++) {
        auto_world world = world_new("h100-80gb");
        CUT(world, 0, { "1g.10gb", 2 });
        real_gi_profile_info = world->nvml->gi_profile_info;
        real_gi_info = world->nvml->gi_info;
        real_ci_info = world->nvml->ci_info;
        if (i == 0)
            world->nvml->gi_profile_info = wild_profile_info;
        if (i == 1)
            world->nvml->gi_placements = wild_placements;
        if (i == 2)
            world->nvml->gi_info = wild_gi_info;
        if (i == 3)
            world->nvml->ci_info = wild_ci_info;
        auto_view view = look(world, NULL);
        const struct mig_gpu *gpu = &view.node->gpus[0];
        assert_int_equal(gpu->problem != NULL, i == 1 || i == 2);
        assert_int_equal(gpu->n_profiles, i == 0 ? 5 : i == 3 ? 7 : 0);
        if (i == 3)
            assert_int_equal(gpu->gis[0].cis[0].placement.size, 0); /* not told */
    }
}

/* ---- who uses it ---- */

static void holders_are_named_where_they_are(void **state)
{
    auto_world world = world_new("2xh100-80gb");
    uint32_t g = 0;

    CUT(world, 0, { "1g.10gb", 7 });
    run_on(world, 0, 4711, 9, 0, 0, "python3"); /* GI 9 is at 2 */
    run_on(world, 0, 4712, 10, 0, 1, "Xorg");
    run_on(world, 0, 4713, 11, 0, 2, "nvidia-cuda-mps-server");
    run_on(world, 1, 4714, SIM_NO_INSTANCE, SIM_NO_INSTANCE, 0, "");
    auto_view view = look(world, NULL);
    const struct mig_gpu *gpu = &view.node->gpus[0];
    static const char *const wanted[] = {
        NULL,
        NULL,
        "process 4711 (python3)",
        "process 4712 (Xorg)",
        "process 4713 (nvidia-cuda-mps-server)",
        NULL,
        NULL,
    };

    assert_null(gpu->holder);
    for (g = 0; g < 7; g++) {
        const struct mig_compute_instance *ci = &gpu->gis[g].cis[0];

        assert_int_equal(ci->held_by_process, wanted[g] != NULL);
        if (wanted[g])
            assert_string_equal(ci->holder, wanted[g]);
        else
            assert_null(ci->holder);
    }
    assert_string_equal(view.node->gpus[1].holder, "process 4714");
}

static void names_of_processes_give_no_orders(void **state)
{
    static const struct {
        const char *comm, *holder;
    } rows[] = {
        { "train\n", "process 77 (train)" },
        { "a\x1b[2Jb\nc", "process 77 (a?[2Jb?c)" },
        { "/usr/bin/python3.11", "process 77 (python3.11)" },
        { "grün", "process 77 (grün)" },
        { "0123456789012345678901234567890ü", "process 77 (0123456789012345678901234567890)" },
        { "  \n", "process 77" },
    };
    auto_world world = world_new("h100-80gb");
    char path[128];

    run_on(world, 0, 77, SIM_NO_INSTANCE, SIM_NO_INSTANCE, 0, "the simulator's word");
    snprintf(path, sizeof(path), "%s/proc/77", world->dir);
    assert_int_equal(file_make_dirs(path, 0755, NULL), 0);
    strcat(path, "/comm");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(file_replace(AT_FDCWD, path, span_of(rows[i].comm), 0644, NULL), 0);
        auto_view view = look(world, NULL);
        assert_string_equal(view.node->gpus[0].holder, rows[i].holder);
    }
}

static nvmlReturn_t (*real_processes)(nvmlDevice_t device, uint32_t *count,
                                      struct nvml_process_info *infos);
static nvmlDevice_t whole_gpu;

/* A driver that tells a GPU's processes to nobody, but a MIG device's to all. */
static nvmlReturn_t shy_processes(nvmlDevice_t device, uint32_t *count,
                                  struct nvml_process_info *infos)
{
    return device == whole_gpu ? NVML_NO_PERMISSION : real_processes(device, count, infos);
}

/* One that tells them without their instances. */
static nvmlReturn_t vague_processes(nvmlDevice_t device, uint32_t *count,
                                    struct nvml_process_info *infos)
{
    nvmlReturn_t code = real_processes(device, count, infos);

    for (uint32_t i = 0; code == NVML_SUCCESS && i < *count; i++)
        infos[i].gpuInstanceId = infos[i].computeInstanceId = NVML_NO_INSTANCE;
    return code;
}

static void drivers_that_tell_only_mig_devices_are_asked_about_those(void **state)
{
    auto_world world = world_new("h100-80gb");
    nvmlReturn_t (*const calls[])(nvmlDevice_t device, uint32_t * count,
                                  struct nvml_process_info * infos) = { shy_processes,
                                                                        vague_processes };

    CUT(world, 0, { "1g.10gb", 7 });
    run_on(world, 0, 4711, 9, 0, 0, "python3");
    real_processes = world->nvml->compute_processes;
    assert_int_equal(nvml_init(world->nvml, NULL), 0);
    assert_int_equal(world->nvml->device_by_index(0, &whole_gpu), NVML_SUCCESS);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        world->nvml->compute_processes = calls[i];
        auto_view view = look(world, NULL);
        for (size_t g = 0; g < 7; g++)
            assert_int_equal(view.node->gpus[0].gis[g].cis[0].held_by_process, g == 2);
    }
    nvml_shutdown(world->nvml);
}

/* A monitor that opened a GPU instance, no compute instance in particular. */
static void who_holds_a_whole_gpu_instance_holds_all_in_it(void **state)
{
    auto_world world = world_new("h100-80gb");

    CUT(world, 0, { "1c.3g.40gb", 2 }, { "1g.10gb", 1 });
    world->sim->processes[0] = (struct sim_process){
        .exists = true, .pid = 99, .gi_id = 2, .ci_id = SIM_NO_INSTANCE, .name = "dcgm"
    };
    auto_view view = look(world, NULL);
    const struct mig_gpu *gpu = &view.node->gpus[0];
    assert_int_equal(gpu->n_gis, 2);
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++)
            assert_int_equal(gpu->gis[i].cis[j].held_by_process, gpu->gis[i].id == 2);
}

static void many_processes_are_all_counted(void **state)
{
    auto_world world = world_new("h100-80gb");

    CUT(world, 0, { "1g.10gb", 7 });
    for (uint32_t i = 0; i < 200; i++)
        run_on(world, 0, 1000 + i, i < 199 ? 7 : 13, 0, 0, "worker");
    auto_view view = look(world, NULL);
    assert_string_equal(view.node->gpus[0].gis[0].cis[0].holder, "process 1000 (worker)");
    assert_string_equal(view.node->gpus[0].gis[6].cis[0].holder, "process 1199 (worker)");
}

/* ---- what it costs ---- */

static void a_look_takes_few_calls(void **state)
{
    static const struct {
        const char *gpus;
        int cut; /* instances each; -1: MIG off */
        uint64_t most;
    } rows[] = {
        { "h100-80gb", -1, 42 },
        { "8xh100-80gb", -1, 112 },
        { "8xh100-80gb", 0, 120 },
        { "8xh100-80gb", 7, 352 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_world world = world_new(rows[i].gpus);
        for (uint32_t g = 0; rows[i].cut >= 0 && g < 8; g++)
            CUT(world, g, { "1g.10gb", (uint32_t)rows[i].cut });
        auto_view view = look(world, NULL);
        print_message("%s, %d instances each: %llu calls, arena %zu KiB\n", rows[i].gpus,
                      rows[i].cut, (unsigned long long)view.calls, view.arena.used >> 10);
        assert_true(view.calls <= rows[i].most);
        assert_true(view.arena.used <= view.node->n_gpus * (size_t)MIG_LOOK_GPU_BYTES + KIB(32));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles_and_their_places_are_those_of_each_board),
        cmocka_unit_test(wrong_counts_of_a30_are_repaired),
        cmocka_unit_test(graphics_profile_of_three_slices_is_a_profile),
        cmocka_unit_test(profiles_younger_than_we_are_tolerated),
        cmocka_unit_test(profiles_hidden_while_mig_is_off_are_no_problem),
        cmocka_unit_test(instances_are_listed_by_place_with_what_is_in_them),
        cmocka_unit_test(instances_without_compute_instance_are_seen),
        cmocka_unit_test(gpus_stand_in_the_order_of_their_addresses),
        cmocka_unit_test(boards_for_screens_are_left_out),
        cmocka_unit_test(one_gpu_alone_can_be_looked_at),
        cmocka_unit_test(gpus_that_cannot_do_mig_say_so),
        cmocka_unit_test(a_lost_gpu_is_a_problem_of_its_own),
        cmocka_unit_test(one_call_that_fails_for_once_harms_nobody),
        cmocka_unit_test(a_call_that_keeps_failing_is_the_gpus_problem),
        cmocka_unit_test(numbers_that_cannot_be_are_not_believed),
        cmocka_unit_test(holders_are_named_where_they_are),
        cmocka_unit_test(names_of_processes_give_no_orders),
        cmocka_unit_test(drivers_that_tell_only_mig_devices_are_asked_about_those),
        cmocka_unit_test(who_holds_a_whole_gpu_instance_holds_all_in_it),
        cmocka_unit_test(many_processes_are_all_counted),
        cmocka_unit_test(a_look_takes_few_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
