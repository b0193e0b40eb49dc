/*
 * MIG through the simulated libnvidia-ml.so.1, as partition tools, device plugins and monitors use
 * it: codes, structs of all generations, handles that live and die.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "nvml_bench.h"

#include "base/text.h"
#include "sim/gpu/root.h"

enum { ID_1G = 19, ID_1G_ME = 20, ID_1G_DOUBLE = 15, ID_2G = 14, ID_3G = 9, ID_4G = 5, ID_7G = 0 };
enum { ENUM_1G = 0, ENUM_2G = 1, ENUM_7G = 4, ENUM_GFX_3G = 17, UNTOUCHED = 0xa5 };

static nvmlGpuInstance_t create(struct bench *bench, nvmlDevice_t gpu, uint32_t id)
{
    nvmlGpuInstance_t gi = NULL;

    GOOD(CALL(nvmlDeviceCreateGpuInstance)(gpu, id, &gi));
    return gi;
}

static nvmlComputeInstance_t fill(struct bench *bench, nvmlGpuInstance_t gi, uint32_t profile)
{
    nvmlComputeInstance_t ci = NULL;

    GOOD(CALL(nvmlGpuInstanceCreateComputeInstance)(gi, profile, &ci));
    return ci;
}

static void run_process(struct bench *bench, uint32_t pid, uint32_t gi, uint32_t ci)
{
    sim_state_lock(bench->node);
    bench->node->processes[0] =
        (struct sim_process){ .exists = true, .pid = pid, .gi_id = gi, .ci_id = ci };
    sim_state_unlock(bench->node);
}

static void end_process(struct bench *bench)
{
    sim_state_lock(bench->node);
    bench->node->processes[0].exists = false;
    sim_state_unlock(bench->node);
}

/* --- mode ------------------------------------------------------------------------------------ */

static void mode_answers_as_each_architecture_does(void **test)
{
    static const struct {
        const char *gpu;
        bool busy;
        nvmlReturn_t r;
        uint32_t activation, current, pending;
    } rows[] = {
        { "h100-80gb", false, NVML_SUCCESS, NVML_SUCCESS, 1, 1 },
        { "h100-80gb", true, NVML_SUCCESS, NVML_IN_USE, 0, 1 }, /* P17 */
        { "a100-40gb", true, NVML_SUCCESS, NVML_IN_USE, 0, 1 }, /* P18 */
        { "a100-40gb", false, NVML_SUCCESS, NVML_RESET_REQUIRED, 0, 1 },
        { "t4", false, NVML_NOT_SUPPORTED, UNTOUCHED, 0, 0 }, /* P19 */
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_(bench_freep) struct bench *bench = bench_new(rows[i].gpu);
        nvmlDevice_t gpu = bench_device(bench, 0);
        uint32_t activation = UNTOUCHED, current = 0, pending = 0;

        if (rows[i].busy)
            run_process(bench, 9, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
        assert_int_equal(CALL(nvmlDeviceSetMigMode)(gpu, 1, &activation), rows[i].r);
        assert_int_equal(activation, rows[i].activation);
        assert_int_equal(CALL(nvmlDeviceGetMigMode)(gpu, &current, &pending), rows[i].r);
        assert_int_equal(current, rows[i].current);
        assert_int_equal(pending, rows[i].pending);
    }
}

static void mode_is_kept_while_instances_exist(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0);
    uint32_t activation, current, pending;

    create(bench, gpu, ID_1G); /* P20 */
    GOOD(CALL(nvmlDeviceSetMigMode)(gpu, 0, &activation));
    assert_int_equal(activation, NVML_IN_USE);
    GOOD(CALL(nvmlDeviceGetMigMode)(gpu, &current, &pending));
    assert_int_equal(current, 1);
    assert_int_equal(pending, 1);
    assert_int_equal(CALL(nvmlDeviceSetMigMode)(gpu, 2, &activation), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceSetMigMode)(gpu, 1, NULL), NVML_INVALID_ARGUMENT);
}

static void nothing_can_be_made_while_mig_is_off(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_device(bench, 0), mig;
    nvmlGpuInstance_t gi;
    uint32_t n = 7;

    assert_int_equal(CALL(nvmlDeviceCreateGpuInstance)(gpu, ID_1G, &gi), NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstances)(gpu, ID_1G, &gi, &n), NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceRemainingCapacity)(gpu, ID_1G, &n),
                     NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 0, &mig), NVML_NOT_FOUND);
    GOOD(CALL(nvmlDeviceGetMaxMigDeviceCount)(gpu, &n));
    assert_int_equal(n, 0);
}

static void changes_need_root(void **test)
{
    if (geteuid() != 0)
        skip();

    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0);
    nvmlGpuInstance_t gi = create(bench, gpu, ID_2G), more;
    nvmlComputeInstance_t ci = fill(bench, gi, ENUM_1G), another;
    struct nvml_placement at = { 4, 2 };
    uint32_t word;

    unsetenv("TRANCHE_SIM_PRIVILEGED");
    assert_int_equal(seteuid(65534), 0);
    nvmlReturn_t codes[] = {
        CALL(nvmlDeviceSetMigMode)(gpu, 1, &word),
        CALL(nvmlDeviceCreateGpuInstance)(gpu, ID_1G, &more),
        CALL(nvmlDeviceCreateGpuInstanceWithPlacement)(gpu, ID_2G, &at, &more),
        CALL(nvmlGpuInstanceCreateComputeInstance)(gi, ENUM_1G, &another),
        CALL(nvmlComputeInstanceDestroy)(ci),
        CALL(nvmlGpuInstanceDestroy)(gi),
    };
    word = 7;
    nvmlReturn_t listed = CALL(nvmlDeviceGetGpuInstances)(gpu, ID_1G, &more, &word);
    assert_int_equal(seteuid(0), 0);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        assert_int_equal(codes[i], NVML_NO_PERMISSION);
    assert_int_equal(listed, NVML_SUCCESS);
}

/* --- profiles -------------------------------------------------------------------------------- */

static void profiles_are_told_in_every_generation_and_with_mig_off(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb,rtx-pro-6000,t4");
    nvmlDevice_t gpu = bench_device(bench, 0), pro = bench_device(bench, 1);
    struct nvml_gi_profile_info v1;
    struct nvml_gi_profile_info_v2 v2 = { .version = 0x02000098 };
    struct nvml_gi_profile_info_v3 v3 = { .version = 0x03000098 };

    GOOD(CALL(nvmlDeviceGetGpuInstanceProfileInfo)(gpu, ENUM_7G, &v1));
    assert_int_equal(v1.id, ID_7G);
    assert_int_equal(v1.sliceCount, 7);
    assert_int_equal(v1.instanceCount, 1);
    assert_int_equal(v1.multiprocessorCount, 132);
    assert_int_equal(v1.decoderCount, 7);
    assert_int_equal(v1.ofaCount, 1);
    assert_int_equal(v1.memorySizeMB, 81152);
    assert_int_equal(v1.isP2pSupported, 0);

    GOOD(CALL(nvmlDeviceGetGpuInstanceProfileInfoV)(gpu, ENUM_2G, &v2));
    assert_string_equal(v2.name, "MIG 2g.20gb");
    assert_int_equal(v2.version, 0x02000098);
    assert_int_equal(v2.memorySizeMB, 20096);
    GOOD(CALL(nvmlDeviceGetGpuInstanceProfileInfoV)(gpu, ENUM_2G, &v3));
    assert_string_equal(v3.name, "MIG 2g.20gb");
    assert_int_equal(v3.id, ID_2G);
    assert_int_equal(v3.capabilities, 0);
    GOOD(CALL(nvmlDeviceGetGpuInstanceProfileInfoV)(pro, 10, &v3));
    assert_string_equal(v3.name, "MIG 1g.24gb+gfx");
    assert_int_equal(v3.capabilities, 2);

    v2.version = 0x04000098;
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceProfileInfoV)(gpu, ENUM_2G, &v2),
                     NVML_ARGUMENT_VERSION_MISMATCH);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceProfileInfo)(bench_device(bench, 2), 0, &v1),
                     NVML_NOT_SUPPORTED);
}

/* Drivers of branch 535. */
static void profiles_are_hidden_while_mig_is_off_where_told_so(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_device(bench, 0);
    struct nvml_gi_profile_info v1;
    struct nvml_gi_profile_info_v2 v2 = { .version = 0x02000098 };

    bench->node->mig_profiles_hidden = true;
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceProfileInfo)(gpu, ENUM_1G, &v1),
                     NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceProfileInfoV)(gpu, ENUM_1G, &v2),
                     NVML_NOT_SUPPORTED);
    GOOD(CALL(nvmlDeviceGetGpuInstanceProfileInfo)(bench_mig_device(bench, 0), ENUM_1G, &v1));
}

/* As clients walk them: 0 up to INVALID_ARGUMENT; 17 must look absent. */
static void walk_over_profiles_ends_where_it_should(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb,rtx-pro-6000,a30");
    static const uint32_t wanted[] = { 7, 11, 5 };

    for (uint32_t g = 0; g < ARRAY_LEN(wanted); g++) {
        nvmlDevice_t gpu = bench_device(bench, g);
        uint32_t profile = 0, n = 0;
        nvmlReturn_t r;

        for (;; profile++) {
            struct nvml_gi_profile_info info;

            r = CALL(nvmlDeviceGetGpuInstanceProfileInfo)(gpu, profile, &info);
            if (r != NVML_SUCCESS && r != NVML_NOT_SUPPORTED)
                break;
            n += r == NVML_SUCCESS;
            if (profile == ENUM_GFX_3G)
                assert_int_equal(r, NVML_NOT_SUPPORTED);
            if (r == NVML_SUCCESS)
                assert_true(info.instanceCount >= 1);
        }
        assert_int_equal(r, NVML_INVALID_ARGUMENT);
        assert_int_equal(profile, NVML_N_GI_PROFILES);
        assert_int_equal(n, wanted[g]);
    }
}

static void compute_profiles_of_two_slices_on_hopper(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlGpuInstance_t gi = create(bench, bench_mig_device(bench, 0), ID_2G);
    static const struct {
        uint32_t profile, max, multiprocessors;
        const char *name;
    } rows[] = { { 0, 2, 16, "MIG 1c.2g.20gb" },
                 { 7, 1, 26, "MIG 1c.2g.20gb" },
                 { 1, 1, 32, "MIG 2g.20gb" } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) { /* P22 */
        struct nvml_ci_profile_info v1;
        struct nvml_ci_profile_info_v2 v2 = { .version = 0x02000088 };
        struct nvml_ci_profile_info_v3 v3 = { .version = 0x0300008c };

        GOOD(CALL(nvmlGpuInstanceGetComputeInstanceProfileInfo)(gi, rows[i].profile, 0, &v1));
        assert_int_equal(v1.id, rows[i].profile);
        assert_int_equal(v1.instanceCount, rows[i].max);
        assert_int_equal(v1.multiprocessorCount, rows[i].multiprocessors);
        assert_int_equal(v1.sharedDecoderCount, 2);
        GOOD(CALL(nvmlGpuInstanceGetComputeInstanceProfileInfoV)(gi, rows[i].profile, 0, &v2));
        assert_string_equal(v2.name, rows[i].name);
        assert_int_equal(v2.version, 0x02000088);
        GOOD(CALL(nvmlGpuInstanceGetComputeInstanceProfileInfoV)(gi, rows[i].profile, 0, &v3));
        assert_string_equal(v3.name, rows[i].name);
        assert_int_equal(v3.multiprocessorCount, rows[i].multiprocessors);
        v3.version = 0;
        assert_int_equal(
            CALL(nvmlGpuInstanceGetComputeInstanceProfileInfoV)(gi, rows[i].profile, 0, &v3),
            NVML_ARGUMENT_VERSION_MISMATCH);
    }

    struct nvml_ci_profile_info info;
    assert_int_equal(CALL(nvmlGpuInstanceGetComputeInstanceProfileInfo)(gi, 2, 0, &info),
                     NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlGpuInstanceGetComputeInstanceProfileInfo)(gi, 0, 1, &info),
                     NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlGpuInstanceGetComputeInstanceProfileInfo)(gi, 9, 0, &info),
                     NVML_INVALID_ARGUMENT);
}

static void placements_are_counted_first_and_given_then(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_device(bench, 0);
    struct nvml_placement places[8];
    uint32_t n = 0;

    GOOD(CALL(nvmlDeviceGetGpuInstancePossiblePlacements_v2)(gpu, ID_1G_DOUBLE, NULL, &n));
    assert_int_equal(n, 4);
    GOOD(CALL(nvmlDeviceGetGpuInstancePossiblePlacements_v2)(gpu, ID_1G_DOUBLE, places, &n));
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(places[i].start, 2 * i);
        assert_int_equal(places[i].size, 2);
    }
    n = 3;
    assert_int_equal(
        CALL(nvmlDeviceGetGpuInstancePossiblePlacements_v2)(gpu, ID_1G_DOUBLE, places, &n),
        NVML_INSUFFICIENT_SIZE);
    assert_int_equal(n, 4);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstancePossiblePlacements_v2)(gpu, 65, NULL, &n),
                     NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstancePossiblePlacements_v2)(gpu, 99, NULL, &n),
                     NVML_INVALID_ARGUMENT);

    /* The list says what can ever be, not what is free. */
    create(bench, bench_mig_device(bench, 0), ID_7G);
    GOOD(CALL(nvmlDeviceGetGpuInstancePossiblePlacements)(gpu, ID_1G, NULL, &n));
    assert_int_equal(n, 7);
    GOOD(CALL(nvmlDeviceGetGpuInstanceRemainingCapacity)(gpu, ID_1G, &n));
    assert_int_equal(n, 0);
}

/* --- making and destroying ------------------------------------------------------------------- */

static void seven_instances_are_made_listed_and_destroyed(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("a100-40gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0);
    static const uint32_t starts[] = { 6, 4, 5, 0, 1, 2, 3 }; /* P1 */
    nvmlGpuInstance_t gis[7], none;
    struct nvml_gi_info info;
    uint32_t n = 7, last = 0;

    for (size_t i = 0; i < 7; i++) {
        nvmlGpuInstance_t gi = create(bench, gpu, ID_1G);

        GOOD(CALL(nvmlGpuInstanceGetInfo)(gi, &info));
        assert_int_equal(info.placement.start, starts[i]);
        assert_int_equal(info.placement.size, 1);
        assert_int_equal(info.id, 7 + starts[i]);
        assert_int_equal(info.profileId, ID_1G);
        assert_ptr_equal(info.device, gpu);
        fill(bench, gi, ENUM_1G);
    }
    assert_int_equal(CALL(nvmlDeviceCreateGpuInstance)(gpu, ID_1G, &none),
                     NVML_INSUFFICIENT_RESOURCES);

    GOOD(CALL(nvmlDeviceGetGpuInstances)(gpu, ID_1G, gis, &n));
    assert_int_equal(n, 7);
    for (uint32_t i = 0; i < n; i++) {
        GOOD(CALL(nvmlGpuInstanceGetInfo)(gis[i], &info));
        assert_true(info.id > last);
        last = info.id;
    }
    n = 6;
    assert_int_equal(CALL(nvmlDeviceGetGpuInstances)(gpu, ID_1G, gis, &n), NVML_INSUFFICIENT_SIZE);
    assert_int_equal(n, 7);
    n = 3;
    GOOD(CALL(nvmlDeviceGetGpuInstances)(gpu, ID_2G, gis + 4, &n));
    assert_int_equal(n, 0);

    nvmlComputeInstance_t ci;
    GOOD(CALL(nvmlGpuInstanceGetComputeInstanceById)(gis[0], 0, &ci));
    assert_int_equal(CALL(nvmlGpuInstanceDestroy)(gis[0]), NVML_IN_USE); /* P16 */
    GOOD(CALL(nvmlComputeInstanceDestroy)(ci));
    GOOD(CALL(nvmlGpuInstanceDestroy)(gis[0]));
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceById)(gpu, 7, &none), NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlGpuInstanceDestroy)(gis[0]), NVML_INVALID_ARGUMENT);
}

static void codes_tell_why_an_instance_cannot_be(void **test)
{
    static const struct {
        uint32_t id;
        struct nvml_placement at;
        nvmlReturn_t r;
    } rows[] = {
        { ID_1G, { 7, 1 }, NVML_INVALID_ARGUMENT },
        { ID_2G, { 1, 2 }, NVML_INVALID_ARGUMENT },
        { ID_3G, { 4, 4 }, NVML_INSUFFICIENT_RESOURCES },
        { ID_7G, { 0, 8 }, NVML_INSUFFICIENT_RESOURCES },
        { 47, { 0, 1 }, NVML_NOT_SUPPORTED },
        { 1, { 0, 1 }, NVML_INVALID_ARGUMENT },
        { ID_4G, { 0, 4 }, NVML_SUCCESS },
    };
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0);
    nvmlGpuInstance_t gi;

    create(bench, gpu, ID_3G);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct nvml_placement at = rows[i].at;

        assert_int_equal(CALL(nvmlDeviceCreateGpuInstanceWithPlacement)(gpu, rows[i].id, &at, &gi),
                         rows[i].r);
    }
    assert_int_equal(CALL(nvmlDeviceCreateGpuInstanceWithPlacement)(gpu, ID_1G, NULL, &gi),
                     NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceCreateGpuInstance)(gpu, ID_1G, NULL), NVML_INVALID_ARGUMENT);
}

static void what_a_process_holds_is_in_use(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0);
    nvmlGpuInstance_t gi = create(bench, gpu, ID_1G);
    nvmlComputeInstance_t ci = fill(bench, gi, ENUM_1G);

    run_process(bench, 4711, 13, 0); /* P15 */
    assert_int_equal(CALL(nvmlComputeInstanceDestroy)(ci), NVML_IN_USE);
    assert_int_equal(CALL(nvmlGpuInstanceDestroy)(gi), NVML_IN_USE);
    end_process(bench);
    GOOD(CALL(nvmlComputeInstanceDestroy)(ci));
    GOOD(CALL(nvmlGpuInstanceDestroy)(gi));

    run_process(bench, 4711, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    assert_int_equal(CALL(nvmlDeviceCreateGpuInstance)(gpu, ID_1G, &gi), NVML_IN_USE);
}

static void compute_instances_share_their_gpu_instance(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("a100-40gb");
    nvmlGpuInstance_t gi = create(bench, bench_mig_device(bench, 0), ID_4G);
    nvmlComputeInstance_t cis[4], none;
    struct nvml_placement places[4];
    struct nvml_ci_info info;
    uint32_t n = 4;

    GOOD(CALL(nvmlGpuInstanceGetComputeInstancePossiblePlacements)(gi, 1, places, &n));
    assert_int_equal(n, 2);
    assert_int_equal(places[1].start, 2);
    fill(bench, gi, 0);
    GOOD(CALL(nvmlGpuInstanceGetComputeInstanceRemainingCapacity)(gi, 1, &n));
    assert_int_equal(n, 1);
    GOOD(CALL(nvmlGpuInstanceGetComputeInstanceRemainingCapacity)(gi, 3, &n));
    assert_int_equal(n, 0);
    assert_int_equal(CALL(nvmlGpuInstanceCreateComputeInstance)(gi, 3, &none),
                     NVML_INSUFFICIENT_RESOURCES);
    assert_int_equal(CALL(nvmlGpuInstanceCreateComputeInstance)(gi, 2, &none), NVML_NOT_SUPPORTED);
    assert_int_equal(CALL(nvmlGpuInstanceCreateComputeInstance)(gi, 9, &none),
                     NVML_INVALID_ARGUMENT);
    GOOD(CALL(nvmlGpuInstanceCreateComputeInstanceWithPlacement)(
        gi, 0, &(struct nvml_placement){ 3, 1 }, &cis[0]));
    GOOD(CALL(nvmlComputeInstanceGetInfo_v2)(cis[0], &info));
    assert_int_equal(info.id, 1);
    assert_int_equal(info.placement.start, 3);
    assert_int_equal(CALL(nvmlGpuInstanceCreateComputeInstanceWithPlacement)(
                         gi, 0, &(struct nvml_placement){ 3, 1 }, &none),
                     NVML_INSUFFICIENT_RESOURCES);

    n = 4;
    GOOD(CALL(nvmlGpuInstanceGetComputeInstances)(gi, 0, cis, &n));
    assert_int_equal(n, 2);
    n = 1;
    assert_int_equal(CALL(nvmlGpuInstanceGetComputeInstances)(gi, 0, cis, &n),
                     NVML_INSUFFICIENT_SIZE);
    assert_int_equal(CALL(nvmlGpuInstanceGetComputeInstanceById)(gi, 5, &none), NVML_NOT_FOUND);
}

/* --- MIG devices ----------------------------------------------------------------------------- */

static void devices_are_found_by_index_and_say_what_they_are(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0), mig, parent;
    nvmlGpuInstance_t gi = create(bench, gpu, ID_3G);
    nvmlComputeInstance_t ci = fill(bench, gi, 1);
    struct nvml_device_attributes attributes;
    struct nvml_ci_info info;
    char text[96];
    uint32_t word;

    GOOD(CALL(nvmlDeviceGetMaxMigDeviceCount)(gpu, &word));
    assert_int_equal(word, 7);
    GOOD(CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 0, &mig));
    assert_int_equal(CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 1, &parent), NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 7, &parent),
                     NVML_INVALID_ARGUMENT);
    GOOD(CALL(nvmlComputeInstanceGetInfo_v2)(ci, &info));
    assert_ptr_equal(info.device, mig);
    assert_ptr_equal(info.gpuInstance, gi);
    GOOD(CALL(nvmlDeviceGetGpuInstanceId)(mig, &word));
    assert_int_equal(word, 2);
    GOOD(CALL(nvmlDeviceGetComputeInstanceId)(mig, &word));
    assert_int_equal(word, 0);
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceId)(gpu, &word), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetComputeInstanceId)(gpu, &word), NVML_INVALID_ARGUMENT);

    GOOD(CALL(nvmlDeviceGetAttributes_v2)(mig, &attributes));
    assert_int_equal(attributes.multiprocessorCount, 32);
    assert_int_equal(attributes.sharedCopyEngineCount, 3);
    assert_int_equal(attributes.sharedDecoderCount, 3);
    assert_int_equal(attributes.sharedJpegCount, 3);
    assert_int_equal(attributes.gpuInstanceSliceCount, 3);
    assert_int_equal(attributes.computeInstanceSliceCount, 2);
    assert_int_equal(attributes.memorySizeMB, 40448);
    assert_int_equal(CALL(nvmlDeviceGetAttributes_v2)(gpu, &attributes), NVML_NOT_SUPPORTED);

    GOOD(CALL(nvmlDeviceGetName)(mig, text, sizeof(text)));
    assert_string_equal(text, "NVIDIA H100 80GB HBM3 MIG 2c.3g.40gb");
    GOOD(CALL(nvmlDeviceGetUUID)(mig, text, sizeof(text)));
    assert_true(text_starts(text, "MIG-"));
    GOOD(CALL(nvmlDeviceGetHandleByUUID)(text, &parent));
    assert_ptr_equal(parent, mig);
}

static void unversioned_info_leaves_what_old_callers_have_no_room_for(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlGpuInstance_t gi = create(bench, bench_mig_device(bench, 0), ID_2G);
    nvmlComputeInstance_t ci = fill(bench, gi, ENUM_2G);
    struct nvml_ci_info info;

    memset(&info, UNTOUCHED, sizeof(info));
    GOOD(CALL(nvmlComputeInstanceGetInfo)(ci, &info));
    assert_ptr_equal(info.gpuInstance, gi);
    assert_int_equal(info.profileId, ENUM_2G);
    assert_int_equal(info.placement.start, 0xa5a5a5a5);
    assert_int_equal(info.placement.size, 0xa5a5a5a5);
}

static void scan_skips_what_was_destroyed(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0), mig;
    nvmlComputeInstance_t first = fill(bench, create(bench, gpu, ID_1G), ENUM_1G);
    uint32_t n = 0;

    fill(bench, create(bench, gpu, ID_1G), ENUM_1G);
    fill(bench, create(bench, gpu, ID_1G), ENUM_1G);
    GOOD(CALL(nvmlComputeInstanceDestroy)(first)); /* P21 */
    for (uint32_t i = 0; i < 7; i++) {
        nvmlReturn_t r = CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, i, &mig);

        assert_true(r == NVML_SUCCESS || r == NVML_NOT_FOUND);
        n += r == NVML_SUCCESS;
    }
    assert_int_equal(n, 2);
}

static void handles_die_with_what_they_stand_for(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0), mig, again;
    nvmlGpuInstance_t gi = create(bench, gpu, ID_1G);
    nvmlComputeInstance_t ci = fill(bench, gi, ENUM_1G);
    struct nvml_gi_info info;
    char old[96], text[96];
    uint32_t word;

    GOOD(CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 0, &mig));
    GOOD(CALL(nvmlDeviceGetUUID)(mig, old, sizeof(old)));
    GOOD(CALL(nvmlComputeInstanceDestroy)(ci));
    assert_int_equal(CALL(nvmlDeviceGetGpuInstanceId)(mig, &word), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlComputeInstanceDestroy)(ci), NVML_INVALID_ARGUMENT);

    /* The same place and ids, another thing. */
    fill(bench, gi, ENUM_1G);
    assert_int_equal(CALL(nvmlComputeInstanceDestroy)(ci), NVML_INVALID_ARGUMENT);
    GOOD(CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 0, &again));
    assert_ptr_not_equal(again, mig);
    GOOD(CALL(nvmlDeviceGetUUID)(again, text, sizeof(text)));
    assert_string_not_equal(text, old);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)(old, &mig), NVML_NOT_FOUND);

    assert_int_equal(CALL(nvmlGpuInstanceGetInfo)((nvmlGpuInstance_t)mig, &info),
                     NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlGpuInstanceGetInfo)(NULL, &info), NVML_INVALID_ARGUMENT);
}

static void instances_outlive_the_library_and_are_seen_by_others(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlGpuInstance_t gi = create(bench, bench_mig_device(bench, 0), ID_7G);
    struct nvml_gi_info info;
    int status;

    fill(bench, gi, 4);
    bench_unload(bench);
    bench_load(bench);
    GOOD(CALL(nvmlGpuInstanceGetInfo)(gi, &info));

    pid_t pid = fork();
    if (pid == 0) {
        nvmlDevice_t gpu, mig;
        struct nvml_device_attributes attributes = {};

        dlclose(bench->library);
        bench->library = dlopen(getenv("TRANCHE_NVML"), RTLD_NOW | RTLD_LOCAL);
        bool seen = CALL(nvmlInit_v2)() == NVML_SUCCESS &&
                    CALL(nvmlDeviceGetHandleByIndex_v2)(0, &gpu) == NVML_SUCCESS &&
                    CALL(nvmlDeviceGetMigDeviceHandleByIndex)(gpu, 0, &mig) == NVML_SUCCESS &&
                    CALL(nvmlDeviceGetAttributes_v2)(mig, &attributes) == NVML_SUCCESS &&
                    attributes.multiprocessorCount == 132;
        _exit(seen ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void lost_gpu_answers_so_everywhere(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("h100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 0);
    nvmlGpuInstance_t gi = create(bench, gpu, ID_1G), more;
    uint32_t word, other;

    bench->node->gpus[0].lost = true;
    assert_int_equal(CALL(nvmlDeviceGetMigMode)(gpu, &word, &other), NVML_GPU_IS_LOST);
    assert_int_equal(CALL(nvmlDeviceCreateGpuInstance)(gpu, ID_1G, &more), NVML_GPU_IS_LOST);
    assert_int_equal(CALL(nvmlGpuInstanceDestroy)(gi), NVML_GPU_IS_LOST);
}

/* --- files ----------------------------------------------------------------------------------- */

static bool has_file(const struct bench *bench, const char *path)
{
    char whole[160];

    snprintf(whole, sizeof(whole), "%s/root/%s", bench->dir, path);
    return file_exists(whole);
}

static void capability_files_follow_the_instances(void **test)
{
    auto_(bench_freep) struct bench *bench = bench_new("2xh100-80gb");
    nvmlDevice_t gpu = bench_mig_device(bench, 1);
    struct err err = {};

    if (sim_root_create(bench->dir, bench->node, getenv("TRANCHE_NVML"), &err) < 0)
        fail_msg("%s", err.text);
    nvmlGpuInstance_t gi = create(bench, gpu, ID_3G);
    nvmlComputeInstance_t ci = fill(bench, gi, 2);

    /* 3 + (1 × 15 + 2) × 9 */
    assert_true(has_file(bench, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/access"));
    assert_true(has_file(bench, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci0/access"));
    assert_true(has_file(bench, "dev/nvidia-caps/nvidia-cap156"));
    assert_true(has_file(bench, "dev/nvidia-caps/nvidia-cap157"));

    GOOD(CALL(nvmlComputeInstanceDestroy)(ci));
    assert_false(has_file(bench, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci0"));
    assert_false(has_file(bench, "dev/nvidia-caps/nvidia-cap157"));
    assert_true(has_file(bench, "dev/nvidia-caps/nvidia-cap156"));
    GOOD(CALL(nvmlGpuInstanceDestroy)(gi));
    assert_false(has_file(bench, "proc/driver/nvidia/capabilities/gpu1/mig/gi2"));
    assert_false(has_file(bench, "dev/nvidia-caps/nvidia-cap156"));
    assert_true(has_file(bench, "proc/driver/nvidia/capabilities/gpu1/mig"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mode_answers_as_each_architecture_does),
        cmocka_unit_test(mode_is_kept_while_instances_exist),
        cmocka_unit_test(nothing_can_be_made_while_mig_is_off),
        cmocka_unit_test(changes_need_root),
        cmocka_unit_test(profiles_are_told_in_every_generation_and_with_mig_off),
        cmocka_unit_test(profiles_are_hidden_while_mig_is_off_where_told_so),
        cmocka_unit_test(walk_over_profiles_ends_where_it_should),
        cmocka_unit_test(compute_profiles_of_two_slices_on_hopper),
        cmocka_unit_test(placements_are_counted_first_and_given_then),
        cmocka_unit_test(seven_instances_are_made_listed_and_destroyed),
        cmocka_unit_test(codes_tell_why_an_instance_cannot_be),
        cmocka_unit_test(what_a_process_holds_is_in_use),
        cmocka_unit_test(compute_instances_share_their_gpu_instance),
        cmocka_unit_test(devices_are_found_by_index_and_say_what_they_are),
        cmocka_unit_test(unversioned_info_leaves_what_old_callers_have_no_room_for),
        cmocka_unit_test(scan_skips_what_was_destroyed),
        cmocka_unit_test(handles_die_with_what_they_stand_for),
        cmocka_unit_test(instances_outlive_the_library_and_are_seen_by_others),
        cmocka_unit_test(lost_gpu_answers_so_everywhere),
        cmocka_unit_test(capability_files_follow_the_instances),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
