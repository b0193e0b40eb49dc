/*
 * A node's file with strange bytes in it: it is refused, or everything that looks at it works.
 *
 * The input is a list of patches on a good node of four boards: three bytes of offset, one of
 * length, and the bytes themselves. What the check accepts is put in place of a live node and read
 * through NVML's entry points and through the functions behind `tranche sim`.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sim/gpu/control.h"
#include "sim/gpu/event.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"
#include "sim/gpu/nvml.h"

static struct sim_state *live, *good, *scratch;

static void make_node(void)
{
    static char dir[] = "/tmp/fuzz-sim-state-XXXXXX";
    struct sim_machine_options options = { .seed = 1 };
    struct sim_mig_want want[] = { { "1g.10gb", 2 }, { "3g.40gb", 1 } };
    struct sim_process process = { .pid = 7,
                                   .gpu = 1,
                                   .gi_id = SIM_NO_INSTANCE,
                                   .ci_id = SIM_NO_INSTANCE,
                                   .memory_bytes = 1 << 30 };
    struct sim_spec spec;

    good = malloc(sizeof(*good));
    scratch = malloc(sizeof(*scratch));
    if (!good || !scratch || !mkdtemp(dir))
        abort();
    if (sim_spec_parse("2xh100,rtx-pro-6000,t4", &spec, NULL) < 0 ||
        sim_machine_build(&spec, &options, good, NULL) < 0 ||
        sim_mig_partition(good, &good->gpus[0], want, 2, NULL) < 0 ||
        sim_process_add(good, &process, NULL) < 0 || sim_state_publish(dir, good, NULL) < 0 ||
        sim_state_open(dir, &live, NULL) < 0)
        abort();
    setenv("TRANCHE_SIM", dir, 1);
    setenv("TRANCHE_SIM_PRIVILEGED", "1", 1);
    if (nvmlInit_v2() != NVML_SUCCESS)
        abort();
    /* The mapping holds the file; nothing is left behind when the fuzzer is stopped. */
    char path[64];
    snprintf(path, sizeof(path), "%s/state", dir);
    unlink(path);
    rmdir(dir);
}

static void patch(const uint8_t *data, size_t size)
{
    while (size > 4) {
        size_t offset = (size_t)(data[0] | data[1] << 8 | data[2] << 16) % sizeof(*scratch);
        size_t n = data[3];

        data += 4;
        size -= 4;
        n = MIN(MIN(n, size), sizeof(*scratch) - offset);
        memcpy((char *)scratch + offset, data, n);
        data += n;
        size -= n;
    }
}

static void read_device(nvmlDevice_t device)
{
    struct nvml_memory memory;
    struct nvml_memory_v2 memory2 = { .version = NVML_VERSION(struct nvml_memory_v2, 2) };
    struct nvml_field_value fields[] = { { .fieldId = 83 },  { .fieldId = 138, .scopeId = ~0u },
                                         { .fieldId = 139 }, { .fieldId = 165, .scopeId = 17 },
                                         { .fieldId = 193 }, { .fieldId = 163, .scopeId = 3 } };
    struct nvml_process_info infos[SIM_MAX_PROCESSES];
    struct nvml_pci_info pci;
    struct nvml_utilization utilization;
    unsigned long cpus[4];
    char text[160];
    uint32_t n = ARRAY_LEN(infos), clocks[1024], count = ARRAY_LEN(clocks);

    (void)nvmlDeviceGetName(device, text, sizeof(text));
    (void)nvmlDeviceGetUUID(device, text, sizeof(text));
    (void)nvmlDeviceGetInforomImageVersion(device, text, sizeof(text));
    (void)nvmlDeviceGetIndex(device, &n);
    if (nvmlDeviceGetMemoryInfo(device, &memory) == NVML_SUCCESS)
        assert(memory.used + memory.free == memory.total);
    (void)nvmlDeviceGetMemoryInfo_v2(device, &memory2);
    (void)nvmlDeviceGetUtilizationRates(device, &utilization);
    n = ARRAY_LEN(infos);
    (void)nvmlDeviceGetComputeRunningProcesses_v3(device, &n, infos);
    (void)nvmlDeviceGetFieldValues(device, ARRAY_LEN(fields), fields);
    (void)nvmlDeviceGetCpuAffinity(device, ARRAY_LEN(cpus), cpus);
    for (uint32_t link = 0; link < 20; link++)
        (void)nvmlDeviceGetNvLinkRemotePciInfo_v2(device, link, &pci);
    (void)nvmlDeviceGetMaxClockInfo(device, NVML_CLOCK_MEM, &n);
    (void)nvmlDeviceGetSupportedGraphicsClocks(device, n, &count, clocks);
    (void)nvmlDeviceGetTopologyCommonAncestor(device, device, &n);
}

static void read_events(void)
{
    const struct sim_event *event;
    uint64_t seen = live->n_events > SIM_MAX_EVENTS ? live->n_events - SIM_MAX_EVENTS : 0;

    for (int i = 0; i < SIM_MAX_EVENTS && (event = sim_event_next(live, seen)); i++)
        seen++;
}

static void turn_knobs(uint32_t gpu)
{
    struct sim_mig_want want = { "1g.24gb", 3 };
    struct sim_mig_device device;

    (void)sim_set(live, gpu, "temperature", "70", NULL);
    (void)sim_set(live, gpu, "memory-used", "1Gi", NULL);
    (void)sim_xid(live, gpu, 48, 1, 0, NULL);
    for (uint32_t i = 0; i < 4; i++) {
        if (sim_mig_device_at(&live->gpus[gpu], i, &device) == 0) {
            char name[32];

            sim_mig_device_profile(&device, name);
        }
    }
    (void)sim_mig_clear(live, &live->gpus[gpu], NULL);
    (void)sim_mig_partition(live, &live->gpus[gpu], &want, 1, NULL);
    (void)sim_gpu_reset(live, &live->gpus[gpu], NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!live)
        make_node();
    memcpy(scratch, good, sizeof(*scratch));
    patch(data, size);
    if (sim_state_check(scratch, sizeof(*scratch), NULL) < 0)
        return 0;

    /* The lock is libc's; what hangs on purpose would hang here for ever. */
    memcpy(&scratch->lock, &live->lock, sizeof(scratch->lock));
    memcpy(live, scratch, sizeof(*live));
    memset(live->faults, 0, sizeof(live->faults));
    live->n_armed = 0;
    live->driver_loaded = true;
    for (uint32_t i = 0; i < live->n_gpus; i++)
        live->gpus[i].hung = false;

    nvmlDevice_t device;
    for (uint32_t i = 0; i < live->n_gpus; i++) {
        if (nvmlDeviceGetHandleByIndex_v2(i, &device) == NVML_SUCCESS)
            read_device(device);
        for (size_t gi = 0; gi < SIM_MAX_GPU_INSTANCES; gi++) {
            const char *uuid = live->gpus[i].instances[gi].compute[0].uuid;

            if (nvmlDeviceGetHandleByUUID(uuid, &device) == NVML_SUCCESS)
                read_device(device);
        }
    }
    read_events();
    for (uint32_t i = 0; i < live->n_gpus; i++)
        turn_knobs(i);
    sim_reboot(live);
    if (sim_state_check(live, sizeof(*live), NULL) < 0)
        abort();
    return 0;
}
