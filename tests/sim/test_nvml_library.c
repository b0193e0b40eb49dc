/*
 * Drives libnvidia-ml.so.1 as a client does: dlopen, dlsym, handles, buffers, several threads and
 * processes. The library is the one that TRANCHE_NVML names; nm must be there to list its names.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/text.h"
#include "sim/gpu/control.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"
#include "sim/gpu/nvml.h"

enum { GPUS = 8, NOBODY = 65534 };

/* A node, seen from behind (node) and from the front (library). */
struct bench {
    char dir[64];
    struct sim_state *node; /* owned */
    void *library;          /* owned */
};

static void *symbol(struct bench *bench, const char *name)
{
    void *found = dlsym(bench->library, name);

    if (!found)
        fail_msg("%s is not exported", name);
    return found;
}

/* The entry point with its type from the one list of calls. */
#define CALL(name) ((typeof(&name))symbol(bench, #name))

static void library_open(struct bench *bench)
{
    bench->library = dlopen(getenv("TRANCHE_NVML"), RTLD_NOW | RTLD_LOCAL);
    if (!bench->library)
        fail_msg("%s", dlerror());
}

static void library_close(struct bench *bench)
{
    assert_int_equal(dlclose(bench->library), 0);
    bench->library = NULL;
}

static void node_make(struct bench *bench, const char *gpus)
{
    struct sim_machine_options options = { .seed = 5 };
    auto_free struct sim_state *content = malloc(sizeof(*content));
    struct sim_spec spec;
    struct err err = {};

    assert_non_null(content);
    assert_int_equal(sim_spec_parse(gpus, &spec, NULL), 0);
    assert_int_equal(sim_machine_build(&spec, &options, content, NULL), 0);
    sim_state_close(steal(bench->node));
    if (sim_state_publish(bench->dir, content, &err) < 0 ||
        sim_state_open(bench->dir, &bench->node, &err) < 0)
        fail_msg("%s", err.text);
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    assert_non_null(bench);
    *state = bench;
    snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-nvml-XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    assert_int_equal(chmod(bench->dir, 0755), 0);
    setenv("TRANCHE_SIM", bench->dir, 1);
    unsetenv("TRANCHE_SIM_PRIVILEGED");
    node_make(bench, "8xh100");
    library_open(bench);
    return 0;
}

static int set_up_ready(void **state)
{
    struct bench *bench;

    set_up(state);
    bench = *state;
    return (int)CALL(nvmlInit_v2)();
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    if (bench->library)
        dlclose(bench->library);
    sim_state_close(bench->node);
    int r = file_remove_tree(bench->dir, NULL);
    free(bench);
    return r;
}

#define COLD(name)  cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define READY(name) cmocka_unit_test_setup_teardown(name, set_up_ready, tear_down)

static nvmlDevice_t device(struct bench *bench, uint32_t index)
{
    nvmlDevice_t found = NULL;

    assert_int_equal(CALL(nvmlDeviceGetHandleByIndex_v2)(index, &found), NVML_SUCCESS);
    return found;
}

/* --- names ----------------------------------------------------------------------------------- */

static const char *const names[] = {
    "nvmlErrorString",
#define NVML_CALL(name, parameters) #name,
#define NVML_REFUSED(name)          #name,
#include "sim/gpu/nvml_calls.def"
#undef NVML_CALL
#undef NVML_REFUSED
};

static void every_name_of_the_list_is_exported(void **state)
{
    struct bench *bench = *state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        symbol(bench, names[i]);
}

static void nothing_but_the_list_is_exported(void **state)
{
    char command[512], line[256], name[200];
    size_t n = 0;

    snprintf(command, sizeof(command), "nm -D --defined-only '%s'", getenv("TRANCHE_NVML"));
    FILE *nm = popen(command, "r");
    assert_non_null(nm);
    while (fgets(line, sizeof(line), nm)) {
        bool known = false;

        assert_int_equal(sscanf(line, "%*s %*s %199s", name), 1);
        for (size_t i = 0; i < ARRAY_LEN(names) && !known; i++)
            known = text_equal(names[i], name);
        if (!known)
            fail_msg("%s is exported", name);
        n++;
    }
    assert_int_equal(pclose(nm), 0);
    assert_int_equal(n, ARRAY_LEN(names));
}

/* --- coming and going ------------------------------------------------------------------------ */

static void nothing_works_before_init_but_error_texts(void **state)
{
    struct bench *bench = *state;
    uint32_t count;

    assert_int_equal(CALL(nvmlDeviceGetCount_v2)(&count), NVML_UNINITIALIZED);
    assert_int_equal(CALL(nvmlShutdown)(), NVML_UNINITIALIZED);
    assert_int_equal(CALL(nvmlDeviceGetName)(NULL, NULL, 0), NVML_UNINITIALIZED);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)("GPU-x", NULL), NVML_UNINITIALIZED);
    assert_string_equal(CALL(nvmlErrorString)(NVML_GPU_IS_LOST), "GPU is lost");
    assert_string_equal(CALL(nvmlErrorString)(12345), "Unknown Error");
}

static void everything_that_is_not_simulated_refuses(void **state)
{
    struct bench *bench = *state;
    static const char *const refused[] = {
#define NVML_CALL(name, parameters)
#define NVML_REFUSED(name) #name,
#include "sim/gpu/nvml_calls.def"
#undef NVML_CALL
#undef NVML_REFUSED
    };

    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        nvmlReturn_t (*call)(void) = (nvmlReturn_t(*)(void))symbol(bench, refused[i]);

        assert_int_equal(call(), NVML_UNINITIALIZED);
    }
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_SUCCESS);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        nvmlReturn_t (*call)(void) = (nvmlReturn_t(*)(void))symbol(bench, refused[i]);

        assert_int_equal(call(), NVML_NOT_SUPPORTED);
    }
}

static void init_and_shutdown_are_counted(void **state)
{
    struct bench *bench = *state;
    uint32_t count;

    assert_int_equal(CALL(nvmlInit_v2)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlInit)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlInitWithFlags)(0xff), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlShutdown)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlShutdown)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceGetCount_v2)(&count), NVML_SUCCESS);
    assert_int_equal(count, GPUS);
    assert_int_equal(CALL(nvmlShutdown)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlShutdown)(), NVML_UNINITIALIZED);
    assert_int_equal(CALL(nvmlDeviceGetCount_v2)(&count), NVML_UNINITIALIZED);
}

static void without_a_node_there_is_no_driver(void **state)
{
    struct bench *bench = *state;

    setenv("TRANCHE_SIM", "/nonexistent", 1);
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_DRIVER_NOT_LOADED);
    setenv("TRANCHE_SIM", bench->dir, 1);
    bench->node->driver_loaded = false;
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_DRIVER_NOT_LOADED);
    bench->node->driver_loaded = true;
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_SUCCESS);
}

static void a_damaged_node_is_a_driver_of_another_version(void **state)
{
    struct bench *bench = *state;

    bench->node->version = 99;
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_LIB_RM_VERSION_MISMATCH);
}

static void a_new_node_is_seen_after_the_next_init(void **state)
{
    struct bench *bench = *state;
    uint32_t count;

    node_make(bench, "2xt4");
    assert_int_equal(CALL(nvmlDeviceGetCount_v2)(&count), NVML_DRIVER_NOT_LOADED);
    assert_int_equal(CALL(nvmlShutdown)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceGetCount_v2)(&count), NVML_SUCCESS);
    assert_int_equal(count, 2);
}

/* --- handles --------------------------------------------------------------------------------- */

static void a_handle_is_the_same_however_and_whenever_it_is_found(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t first = device(bench, 3), found = NULL;
    char uuid[NVML_UUID_SIZE], serial[30];
    struct nvml_pci_info pci;

    assert_int_equal(CALL(nvmlDeviceGetUUID)(first, uuid, sizeof(uuid)), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceGetSerial)(first, serial, sizeof(serial)), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceGetPciInfo_v3)(first, &pci), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)(uuid, &found), NVML_SUCCESS);
    assert_ptr_equal(found, first);
    assert_int_equal(CALL(nvmlDeviceGetHandleBySerial)(serial, &found), NVML_SUCCESS);
    assert_ptr_equal(found, first);
    assert_int_equal(CALL(nvmlDeviceGetHandleByPciBusId_v2)(pci.busId, &found), NVML_SUCCESS);
    assert_ptr_equal(found, first);
    assert_int_equal(CALL(nvmlDeviceGetHandleByPciBusId_v2)(pci.busIdLegacy, &found), NVML_SUCCESS);
    assert_ptr_equal(found, first);

    assert_int_equal(CALL(nvmlShutdown)(), NVML_SUCCESS);
    library_close(bench);
    library_open(bench);
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_SUCCESS);
    assert_ptr_equal(device(bench, 3), first);
    assert_int_equal(CALL(nvmlDeviceGetSerial)(first, serial, sizeof(serial)), NVML_SUCCESS);
}

static void a_forged_handle_is_an_invalid_argument(void **state)
{
    struct bench *bench = *state;
    uintptr_t good = (uintptr_t)device(bench, 7);
    uint32_t number = 0;

    for (int bit = 0; bit < 64; bit++) {
        nvmlDevice_t forged = (nvmlDevice_t)(good ^ (uintptr_t)1 << bit);
        nvmlReturn_t r = CALL(nvmlDeviceGetBrand)(forged, &number);

        /* Bits 40 to 43 are the index; the lower ones do not matter to a whole GPU. */
        if (bit >= 40 && bit <= 42)
            assert_int_equal(r, NVML_SUCCESS);
        else if (bit >= 43)
            assert_int_equal(r, NVML_INVALID_ARGUMENT);
    }
    assert_int_equal(CALL(nvmlDeviceGetBrand)(NULL, &number), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetBrand)((nvmlDevice_t)bench, &number), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetBrand)((nvmlDevice_t)UINTPTR_MAX, &number),
                     NVML_INVALID_ARGUMENT);
}

static void what_is_not_there_is_not_found(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t found = NULL;

    assert_int_equal(CALL(nvmlDeviceGetHandleByIndex_v2)(GPUS, &found), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetHandleByIndex_v2)(0xffffffff, &found),
                     NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)("GPU-no", &found), NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)("MIG-no", &found), NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlDeviceGetHandleByPciBusId_v2)("0000:ff:00.0", &found),
                     NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlDeviceGetHandleByPciBusId_v2)("rubbish", &found), NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)(NULL, &found), NVML_INVALID_ARGUMENT);
    assert_null(found);
}

static void a_binary_uuid_finds_what_its_text_finds(void **state)
{
    struct bench *bench = *state;
    struct nvml_uuid uuid = { .version = NVML_VERSION(struct nvml_uuid, 1), .type = 2 };
    const char *text = bench->node->gpus[6].uuid + strlen("GPU-");
    nvmlDevice_t found = NULL;
    size_t n = 0;

    for (const char *c = text; *c; c += 2) {
        unsigned byte;

        c += *c == '-';
        assert_int_equal(sscanf(c, "%2x", &byte), 1);
        uuid.value.bytes[n++] = (uint8_t)byte;
    }
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUIDV)(&uuid, &found), NVML_SUCCESS);
    assert_ptr_equal(found, device(bench, 6));
    uuid.type = 1;
    memcpy(uuid.value.str, bench->node->gpus[2].uuid, sizeof(uuid.value.str));
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUIDV)(&uuid, &found), NVML_SUCCESS);
    assert_ptr_equal(found, device(bench, 2));
    uuid.type = 3;
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUIDV)(&uuid, &found), NVML_INVALID_ARGUMENT);
    uuid.version++;
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUIDV)(&uuid, &found),
                     NVML_ARGUMENT_VERSION_MISMATCH);
}

static void a_mig_handle_dies_with_its_instance(void **state)
{
    struct bench *bench = *state;
    struct sim_mig_want want = { "1g.10gb", 7 };
    struct sim_gpu *gpu = &bench->node->gpus[0];
    char uuid[NVML_UUID_SIZE], name[NVML_NAME_SIZE];
    struct sim_mig_device mig;
    struct nvml_memory memory;
    nvmlDevice_t found = NULL, parent = NULL;
    uint32_t number;

    sim_state_lock(bench->node);
    assert_int_equal(sim_mig_partition(bench->node, gpu, &want, 1, NULL), 0);
    assert_int_equal(sim_mig_device_at(gpu, 2, &mig), 0);
    snprintf(uuid, sizeof(uuid), "%s", mig.ci->uuid);
    sim_state_unlock(bench->node);

    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)(uuid, &found), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceIsMigDeviceHandle)(found, &number), NVML_SUCCESS);
    assert_int_equal(number, 1);
    assert_int_equal(CALL(nvmlDeviceGetName)(found, name, sizeof(name)), NVML_SUCCESS);
    assert_string_equal(name, "NVIDIA H100 80GB HBM3 MIG 1g.10gb");
    assert_int_equal(CALL(nvmlDeviceGetIndex)(found, &number), NVML_SUCCESS);
    assert_int_equal(number, 2);
    assert_int_equal(CALL(nvmlDeviceGetMemoryInfo)(found, &memory), NVML_SUCCESS);
    assert_int_equal(memory.total, 9984ull << 20);
    assert_int_equal(CALL(nvmlDeviceGetDeviceHandleFromMigDeviceHandle)(found, &parent),
                     NVML_SUCCESS);
    assert_ptr_equal(parent, device(bench, 0));
    assert_int_equal(CALL(nvmlDeviceGetDeviceHandleFromMigDeviceHandle)(parent, &parent),
                     NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetMinorNumber)(found, &number), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetPowerUsage)(found, &number), NVML_NOT_SUPPORTED);

    sim_state_lock(bench->node);
    assert_int_equal(sim_mig_clear(bench->node, gpu, NULL), 0);
    assert_int_equal(sim_mig_partition(bench->node, gpu, &want, 1, NULL), 0);
    sim_state_unlock(bench->node);
    assert_int_equal(CALL(nvmlDeviceGetName)(found, name, sizeof(name)), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetHandleByUUID)(uuid, &found), NVML_NOT_FOUND);
}

/* --- arguments ------------------------------------------------------------------------------- */

static void a_short_buffer_is_told_and_left_alone(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t gpu = device(bench, 0);
    char text[96] = "kept";

    assert_int_equal(CALL(nvmlDeviceGetName)(gpu, text, 21), NVML_INSUFFICIENT_SIZE);
    assert_string_equal(text, "kept");
    assert_int_equal(CALL(nvmlDeviceGetName)(gpu, text, 22), NVML_SUCCESS);
    assert_string_equal(text, "NVIDIA H100 80GB HBM3");
    assert_int_equal(CALL(nvmlDeviceGetUUID)(gpu, text, 40), NVML_INSUFFICIENT_SIZE);
    assert_int_equal(CALL(nvmlSystemGetDriverVersion)(text, 3), NVML_INSUFFICIENT_SIZE);
    assert_int_equal(CALL(nvmlDeviceGetName)(gpu, NULL, 96), NVML_INVALID_ARGUMENT);
}

static void a_version_word_that_is_not_known_is_refused(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t gpu = device(bench, 0);
    struct nvml_memory_v2 memory = { .version = NVML_VERSION(struct nvml_memory_v2, 2) };
    struct nvml_fabric_info_v3 fabric = { .version = NVML_VERSION(struct nvml_fabric_info_v2, 2),
                                          .healthSummary = 77 };
    struct nvml_addressing_mode mode = { .version = 0x01000008 };

    assert_int_equal(memory.version, 0x02000028);
    assert_int_equal(CALL(nvmlDeviceGetMemoryInfo_v2)(gpu, &memory), NVML_SUCCESS);
    assert_int_equal(memory.total, 81559ull << 20);
    assert_int_equal(memory.reserved + memory.used + memory.free, memory.total);
    memory.version = 0x01000028;
    assert_int_equal(CALL(nvmlDeviceGetMemoryInfo_v2)(gpu, &memory),
                     NVML_ARGUMENT_VERSION_MISMATCH);

    assert_int_equal(CALL(nvmlDeviceGetGpuFabricInfoV)(gpu, &fabric), NVML_SUCCESS);
    assert_int_equal(fabric.state, 3);
    assert_int_equal(fabric.healthSummary, 77); /* beyond the end of the second generation */
    fabric.version = 0x03000028;
    assert_int_equal(CALL(nvmlDeviceGetGpuFabricInfoV)(gpu, &fabric), NVML_SUCCESS);
    assert_int_equal(fabric.healthSummary, 0);
    fabric.version = 0x04000028;
    assert_int_equal(CALL(nvmlDeviceGetGpuFabricInfoV)(gpu, &fabric),
                     NVML_ARGUMENT_VERSION_MISMATCH);

    assert_int_equal(CALL(nvmlDeviceGetAddressingMode)(gpu, &mode), NVML_SUCCESS);
    mode.version = 0;
    assert_int_equal(CALL(nvmlDeviceGetAddressingMode)(gpu, &mode), NVML_ARGUMENT_VERSION_MISMATCH);
}

static void pci_facts_are_written_as_the_driver_writes_them(void **state)
{
    struct bench *bench = *state;
    struct nvml_pci_info pci, remote;
    uint32_t active, level;

    assert_int_equal(CALL(nvmlDeviceGetPciInfo)(device(bench, 0), &pci), NVML_SUCCESS);
    assert_string_equal(pci.busId, "00000000:1B:00.0");
    assert_string_equal(pci.busIdLegacy, "0000:1B:00.0");
    assert_int_equal(pci.pciDeviceId, 0x233010de);

    assert_int_equal(CALL(nvmlDeviceGetNvLinkState)(device(bench, 0), 17, &active), NVML_SUCCESS);
    assert_int_equal(active, 1);
    assert_int_equal(CALL(nvmlDeviceGetNvLinkState)(device(bench, 0), 18, &active),
                     NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlDeviceGetNvLinkRemotePciInfo_v2)(device(bench, 0), 0, &remote),
                     NVML_SUCCESS);
    assert_string_equal(remote.busId, "00000000:05:00.0");
    assert_int_equal(
        CALL(nvmlDeviceGetTopologyCommonAncestor)(device(bench, 0), device(bench, 7), &level),
        NVML_SUCCESS);
    assert_int_equal(level, 50);
    assert_int_equal(CALL(nvmlDeviceGetTopologyCommonAncestor)(device(bench, 0), NULL, &level),
                     NVML_INVALID_ARGUMENT);
}

static void processes_are_listed_with_room_and_counted_without(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t gpu = device(bench, 1);
    struct nvml_process_info infos[2] = {};
    struct nvml_process_info_v1 old[2] = {};
    struct nvml_memory memory;
    uint32_t count = 0;
    char name[64];

    assert_int_equal(CALL(nvmlDeviceGetComputeRunningProcesses_v3)(gpu, &count, NULL),
                     NVML_SUCCESS);
    for (uint32_t pid = 100; pid < 102; pid++) {
        struct sim_process process = { .pid = pid,
                                       .gpu = 1,
                                       .gi_id = SIM_NO_INSTANCE,
                                       .ci_id = SIM_NO_INSTANCE,
                                       .memory_bytes = 1ull << 30,
                                       .name = "python3" };

        assert_int_equal(sim_process_add(bench->node, &process, NULL), 0);
    }
    assert_int_equal(CALL(nvmlDeviceGetComputeRunningProcesses_v3)(gpu, &count, NULL),
                     NVML_INSUFFICIENT_SIZE);
    assert_int_equal(count, 2);
    assert_int_equal(CALL(nvmlDeviceGetComputeRunningProcesses_v3)(gpu, &count, infos),
                     NVML_SUCCESS);
    assert_int_equal(infos[1].pid, 101);
    assert_int_equal(infos[1].gpuInstanceId, NVML_NO_INSTANCE);
    assert_int_equal(CALL(nvmlDeviceGetComputeRunningProcesses)(gpu, &count, old), NVML_SUCCESS);
    assert_int_equal(old[1].usedGpuMemory, 1ull << 30);
    assert_int_equal(CALL(nvmlDeviceGetGraphicsRunningProcesses_v3)(gpu, &count, infos),
                     NVML_SUCCESS);
    assert_int_equal(count, 0);
    assert_int_equal(CALL(nvmlSystemGetProcessName)(100, name, sizeof(name)), NVML_SUCCESS);
    assert_string_equal(name, "python3");
    assert_int_equal(CALL(nvmlSystemGetProcessName)(1, name, sizeof(name)), NVML_NOT_FOUND);
    assert_int_equal(CALL(nvmlDeviceGetMemoryInfo)(gpu, &memory), NVML_SUCCESS);
    assert_int_equal(memory.used, (2ull << 30) + (551ull << 20));
}

static void fields_have_codes_of_their_own(void **state)
{
    struct bench *bench = *state;
    struct nvml_field_value values[] = {
        { .fieldId = 186 },
        { .fieldId = 91 },
        { .fieldId = 9999 },
        { .fieldId = 185, .scopeId = 2 },
        { .fieldId = 165, .scopeId = 40 },
        { .fieldId = 184 },
        { .fieldId = 193 },
    };

    assert_int_equal(sim_set(bench->node, 0, "power", "432", NULL), 0);
    assert_int_equal(
        CALL(nvmlDeviceGetFieldValues)(device(bench, 0), (int32_t)ARRAY_LEN(values), values),
        NVML_SUCCESS);
    assert_int_equal(values[0].nvmlReturn, NVML_SUCCESS);
    assert_int_equal(values[0].value.uiVal, 432000);
    assert_int_equal(values[0].valueType, NVML_VALUE_U32);
    assert_true(values[0].timestamp > 1600000000000000);
    assert_int_equal(values[1].value.uiVal, 18);
    assert_int_equal(values[2].nvmlReturn, NVML_NOT_SUPPORTED);
    assert_int_equal(values[3].nvmlReturn, NVML_NOT_SUPPORTED);
    assert_int_equal(values[4].nvmlReturn, NVML_INVALID_ARGUMENT);
    assert_int_equal(values[5].value.uiVal, 1);
    assert_int_equal(values[6].value.siVal, 92 - 32);
    assert_int_equal(CALL(nvmlDeviceGetFieldValues)(device(bench, 0), 0, values),
                     NVML_INVALID_ARGUMENT);
}

static void gpm_metrics_are_what_happened_between_two_samples(void **state)
{
    struct bench *bench = *state;
    auto_free struct nvml_gpm_metrics_get *get = calloc(1, sizeof(*get));
    nvmlDevice_t gpu = device(bench, 0);
    nvmlGpmSample_t stale;

    assert_non_null(get);
    get->version = 1;
    get->numMetrics = 3;
    get->metrics[0].metricId = 2;
    get->metrics[1].metricId = 20;
    get->metrics[2].metricId = 300;
    assert_int_equal(CALL(nvmlGpmSampleAlloc)(&get->sample1), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlGpmSampleAlloc)(&get->sample2), NVML_SUCCESS);
    assert_int_equal(sim_set(bench->node, 0, "utilization", "60", NULL), 0);
    assert_int_equal(sim_set(bench->node, 0, "pcie-tx", "2048", NULL), 0);
    assert_int_equal(CALL(nvmlGpmSampleGet)(gpu, get->sample1), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlGpmMetricsGet)(get), NVML_INVALID_ARGUMENT); /* one sample only */
    /* Counters advance in steps of a millisecond. */
    while (sim_now_ns() < bench->node->gpus[0].advanced_ns + 2000000)
        sched_yield();
    assert_int_equal(CALL(nvmlGpmSampleGet)(gpu, get->sample2), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlGpmMetricsGet)(get), NVML_SUCCESS);
    assert_true(get->metrics[0].value > 59.9 && get->metrics[0].value < 60.1);
    assert_true(get->metrics[1].value > 1.9 && get->metrics[1].value < 2.1);
    assert_string_equal(get->metrics[1].metricInfo.unit, "MiB/s");
    assert_int_equal(get->metrics[2].nvmlReturn, NVML_NOT_SUPPORTED);

    stale = get->sample1;
    assert_int_equal(CALL(nvmlGpmSampleFree)(stale), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlGpmSampleFree)(stale), NVML_INVALID_ARGUMENT);
    assert_int_equal(CALL(nvmlGpmSampleGet)(gpu, stale), NVML_INVALID_ARGUMENT);
}

/* --- permission ------------------------------------------------------------------------------ */

/* Runs as nobody: the code of a setter, with and without leave. */
static int as_nobody(struct bench *bench, const char *privileged)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (privileged)
            setenv("TRANCHE_SIM_PRIVILEGED", privileged, 1);
        if (geteuid() == 0 && setuid(NOBODY) < 0)
            _exit(99);
        _exit((int)CALL(nvmlDeviceSetPersistenceMode)(device(bench, 0), 0));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void setters_are_for_root_or_those_who_are_given_leave(void **state)
{
    struct bench *bench = *state;

    assert_int_equal(as_nobody(bench, NULL), NVML_NO_PERMISSION);
    assert_int_equal(bench->node->gpus[0].persistence, 1);
    assert_int_equal(as_nobody(bench, "1"), NVML_SUCCESS);
    assert_int_equal(bench->node->gpus[0].persistence, 0);
}

/* --- faults ---------------------------------------------------------------------------------- */

static void a_lost_gpu_answers_lost_and_the_others_do_not_notice(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t lost = device(bench, 2), found;
    uint32_t number;
    char uuid[96];

    sim_state_lock(bench->node);
    sim_lose(bench->node, 2);
    sim_state_unlock(bench->node);
    assert_int_equal(CALL(nvmlDeviceGetTemperature)(lost, 0, &number), NVML_GPU_IS_LOST);
    assert_int_equal(CALL(nvmlDeviceGetUUID)(lost, uuid, sizeof(uuid)), NVML_GPU_IS_LOST);
    assert_int_equal(CALL(nvmlDeviceGetHandleByIndex_v2)(2, &found), NVML_GPU_IS_LOST);
    assert_int_equal(CALL(nvmlDeviceGetTopologyCommonAncestor)(device(bench, 0), lost, &number),
                     NVML_GPU_IS_LOST);
    assert_int_equal(CALL(nvmlDeviceGetTemperature)(device(bench, 3), 0, &number), NVML_SUCCESS);
    assert_int_equal(CALL(nvmlDeviceGetCount_v2)(&number), NVML_SUCCESS);
    assert_int_equal(number, GPUS);
    sim_return(bench->node, 2);
    assert_int_equal(CALL(nvmlDeviceGetTemperature)(lost, 0, &number), NVML_SUCCESS);
}

static void the_nth_call_fails_as_often_as_it_was_told(void **state)
{
    struct bench *bench = *state;
    struct sim_fault fault = {
        .call = "nvmlDeviceGetTemp*", .gpu = 1, .after = 2, .times = 2, .code = NVML_UNKNOWN
    };
    static const nvmlReturn_t want[] = { 0, 0, NVML_UNKNOWN, NVML_UNKNOWN, 0, 0 };
    uint32_t number;

    assert_int_equal(sim_fault_add(bench->node, &fault, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_int_equal(CALL(nvmlDeviceGetTemperature)(device(bench, 0), 0, &number), 0);
        assert_int_equal(CALL(nvmlDeviceGetTemperature)(device(bench, 1), 0, &number), want[i]);
    }
    assert_int_equal(bench->node->n_armed, 0);
}

static void a_fault_without_end_ends_when_it_is_cleared(void **state)
{
    struct bench *bench = *state;
    struct sim_fault fault = { .call = "nvmlInit*", .gpu = -1, .code = NVML_TIMEOUT };

    assert_int_equal(sim_fault_add(bench->node, &fault, NULL), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(CALL(nvmlInit_v2)(), NVML_TIMEOUT);
    assert_int_equal(sim_fault_clear(bench->node), 1);
    assert_int_equal(CALL(nvmlInit_v2)(), NVML_SUCCESS);
}

/* A call in a thread of its own, so that it may hang. */
struct hanging {
    struct bench *bench;
    nvmlDevice_t device;
    pthread_t thread;
    uint64_t took_ns;
    nvmlReturn_t answer;
};

static void *hang(void *argument)
{
    struct hanging *hanging = argument;
    struct bench *bench = hanging->bench;
    uint64_t start = sim_now_ns();
    uint32_t number;

    hanging->answer = CALL(nvmlDeviceGetPowerUsage)(hanging->device, &number);
    hanging->took_ns = sim_now_ns() - start;
    return NULL;
}

static void hang_start(struct hanging *hanging)
{
    uint64_t calls = hanging->bench->node->n_calls;

    assert_int_equal(pthread_create(&hanging->thread, NULL, hang, hanging), 0);
    /* It hangs once it has been counted: that comes before anything that waits. */
    while (__atomic_load_n(&hanging->bench->node->n_calls, __ATOMIC_RELAXED) == calls)
        sched_yield();
}

static void a_hung_gpu_holds_its_callers_and_only_those(void **state)
{
    struct bench *bench = *state;
    struct hanging hanging = { .bench = bench, .device = device(bench, 4) };
    uint32_t number;

    assert_int_equal(sim_set(bench->node, 4, "hung", "on", NULL), 0);
    hang_start(&hanging);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(CALL(nvmlDeviceGetPowerUsage)(device(bench, 5), &number), NVML_SUCCESS);
    assert_int_equal(pthread_tryjoin_np(hanging.thread, NULL), EBUSY);
    assert_int_equal(sim_set(bench->node, 4, "hung", "off", NULL), 0);
    assert_int_equal(pthread_join(hanging.thread, NULL), 0);
    assert_int_equal(hanging.answer, NVML_SUCCESS);
}

static void a_call_that_hangs_for_ever_is_freed_by_clearing_the_fault(void **state)
{
    struct bench *bench = *state;
    struct hanging hanging = { .bench = bench, .device = device(bench, 4) };
    struct sim_fault fault = { .call = "nvmlDeviceGetPowerUsage",
                               .gpu = 4,
                               .times = 1,
                               .code = NVML_GPU_IS_LOST,
                               .hang_ms = SIM_FOREVER };
    uint32_t number;

    assert_int_equal(sim_fault_add(bench->node, &fault, NULL), 0);
    hang_start(&hanging);
    while (__atomic_load_n(&bench->node->faults[0].struck, __ATOMIC_RELAXED) == 0)
        sched_yield();
    /* It struck once and was told to: the next call gets through. */
    assert_int_equal(CALL(nvmlDeviceGetPowerUsage)(hanging.device, &number), NVML_SUCCESS);
    assert_int_equal(pthread_tryjoin_np(hanging.thread, NULL), EBUSY);
    sim_state_lock(bench->node);
    sim_fault_clear(bench->node);
    /* The same slot, armed again at once, must not catch it a second time. */
    assert_int_equal(sim_fault_add(bench->node, &fault, NULL), 0);
    sim_state_unlock(bench->node);
    assert_int_equal(pthread_join(hanging.thread, NULL), 0);
    assert_int_equal(hanging.answer, NVML_GPU_IS_LOST);
}

static void a_call_that_hangs_a_while_goes_on_by_itself(void **state)
{
    struct bench *bench = *state;
    struct hanging hanging = { .bench = bench, .device = device(bench, 4) };
    struct sim_fault fault = {
        .call = "nvmlDeviceGetPowerUsage", .gpu = -1, .times = 1, .hang_ms = 30
    };

    assert_int_equal(sim_fault_add(bench->node, &fault, NULL), 0);
    hang_start(&hanging);
    assert_int_equal(pthread_join(hanging.thread, NULL), 0);
    assert_int_equal(hanging.answer, NVML_SUCCESS);
    assert_true(hanging.took_ns >= 30000000);
}

/* --- many at once ---------------------------------------------------------------------------- */

struct hammer {
    struct bench *bench;
    pthread_t thread;
    uint32_t number;
    bool good;
};

static void *hammer(void *argument)
{
    struct hammer *self = argument;
    struct bench *bench = self->bench;
    nvmlDevice_t gpu = device(bench, self->number % GPUS);
    struct sim_process process = { .pid = 1000 + self->number,
                                   .gpu = self->number % GPUS,
                                   .gi_id = SIM_NO_INSTANCE,
                                   .ci_id = SIM_NO_INSTANCE };
    bool good = true;

    for (int i = 0; i < 2000 && good; i++) {
        struct nvml_memory memory;
        uint32_t number;

        process.memory_bytes = (uint64_t)(i % 70) << 30;
        sim_state_lock(bench->node);
        good = sim_process_add(bench->node, &process, NULL) >= 0;
        sim_state_unlock(bench->node);
        good = good && CALL(nvmlDeviceGetMemoryInfo)(gpu, &memory) == NVML_SUCCESS &&
               memory.used == process.memory_bytes + (551ull << 20) &&
               memory.used + memory.free == memory.total &&
               CALL(nvmlDeviceSetComputeMode)(gpu, i % 2 ? 0 : 3) == NVML_SUCCESS &&
               CALL(nvmlDeviceGetComputeMode)(gpu, &number) == NVML_SUCCESS &&
               number == (i % 2 ? 0 : 3) && CALL(nvmlInit_v2)() == NVML_SUCCESS &&
               CALL(nvmlShutdown)() == NVML_SUCCESS;
    }
    self->good = good;
    return NULL;
}

static void eight_threads_do_not_get_into_each_others_way(void **state)
{
    struct bench *bench = *state;
    struct hammer hammers[GPUS];

    setenv("TRANCHE_SIM_PRIVILEGED", "1", 1);
    for (uint32_t i = 0; i < GPUS; i++) {
        hammers[i] = (struct hammer){ .bench = bench, .number = i };
        assert_int_equal(pthread_create(&hammers[i].thread, NULL, hammer, &hammers[i]), 0);
    }
    for (uint32_t i = 0; i < GPUS; i++) {
        assert_int_equal(pthread_join(hammers[i].thread, NULL), 0);
        assert_true(hammers[i].good);
    }
}

static void a_client_killed_in_the_middle_harms_nobody(void **state)
{
    struct bench *bench = *state;
    nvmlDevice_t gpu = device(bench, 0);

    for (int i = 0; i < 30; i++) {
        uint64_t calls = bench->node->n_calls;
        struct nvml_memory memory;
        pid_t child = fork();

        assert_true(child >= 0);
        for (; child == 0;)
            (void)CALL(nvmlDeviceGetMemoryInfo)(gpu, &memory);
        while (__atomic_load_n(&bench->node->n_calls, __ATOMIC_RELAXED) < calls + 100)
            sched_yield();
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_int_equal(CALL(nvmlDeviceGetMemoryInfo)(gpu, &memory), NVML_SUCCESS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        COLD(every_name_of_the_list_is_exported),
        COLD(nothing_but_the_list_is_exported),
        COLD(nothing_works_before_init_but_error_texts),
        COLD(everything_that_is_not_simulated_refuses),
        COLD(init_and_shutdown_are_counted),
        COLD(without_a_node_there_is_no_driver),
        COLD(a_damaged_node_is_a_driver_of_another_version),
        READY(a_new_node_is_seen_after_the_next_init),
        READY(a_handle_is_the_same_however_and_whenever_it_is_found),
        READY(a_forged_handle_is_an_invalid_argument),
        READY(what_is_not_there_is_not_found),
        READY(a_binary_uuid_finds_what_its_text_finds),
        READY(a_mig_handle_dies_with_its_instance),
        READY(a_short_buffer_is_told_and_left_alone),
        READY(a_version_word_that_is_not_known_is_refused),
        READY(pci_facts_are_written_as_the_driver_writes_them),
        READY(processes_are_listed_with_room_and_counted_without),
        READY(fields_have_codes_of_their_own),
        READY(gpm_metrics_are_what_happened_between_two_samples),
        READY(setters_are_for_root_or_those_who_are_given_leave),
        READY(a_lost_gpu_answers_lost_and_the_others_do_not_notice),
        READY(the_nth_call_fails_as_often_as_it_was_told),
        READY(a_fault_without_end_ends_when_it_is_cleared),
        READY(a_hung_gpu_holds_its_callers_and_only_those),
        READY(a_call_that_hangs_for_ever_is_freed_by_clearing_the_fault),
        READY(a_call_that_hangs_a_while_goes_on_by_itself),
        READY(eight_threads_do_not_get_into_each_others_way),
        READY(a_client_killed_in_the_middle_harms_nobody),
    };

    if (!getenv("TRANCHE_NVML")) {
        fprintf(stderr, "TRANCHE_NVML does not name a library\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
