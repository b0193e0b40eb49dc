/* What a GPU is busy with: memory, engines, processes and samples of the past. */
#include "sim/gpu/nvml_door.h"

#include <string.h>
#include <time.h>

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- memory ---------------------------------------------------------------------------------- */

struct memory {
    uint64_t total, reserved, used; /* used: by processes */
};

/* Of a MIG device: the memory of its GPU instance. */
static void memory_of(const struct door *door, struct memory *ret)
{
    uint32_t gi = door->gi ? door->gi->id : SIM_NO_INSTANCE;

    *ret = (struct memory){
        .total = door->gi ? door->gpu->profiles[door->gi->profile].memory_mib << 20
                          : door->gpu->memory_bytes,
        .reserved = door->gi ? 0 : door->gpu->memory_reserved_bytes,
        .used = sim_gpu_memory_held(door->state, door->gpu_index, gi),
    };
    ret->used = MIN(ret->used, ret->total - ret->reserved);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct nvml_memory *memory)
{
    auto_(door_leave) struct door door = {};
    struct memory now;

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);
    if (r)
        return r;
    if (!memory)
        return NVML_INVALID_ARGUMENT;
    memory_of(&door, &now);
    *memory = (struct nvml_memory){
        .total = now.total,
        .used = now.reserved + now.used,
        .free = now.total - now.reserved - now.used,
    };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct nvml_memory_v2 *memory)
{
    auto_(door_leave) struct door door = {};
    struct memory now;

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);
    if (r)
        return r;
    if (!memory)
        return NVML_INVALID_ARGUMENT;
    if (memory->version != NVML_VERSION(struct nvml_memory_v2, 2))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    memory_of(&door, &now);
    *memory = (struct nvml_memory_v2){
        .version = memory->version,
        .total = now.total,
        .reserved = now.reserved,
        .used = now.used,
        .free = now.total - now.reserved - now.used,
    };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, struct nvml_bar1_memory *bar1Memory)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!bar1Memory)
        return NVML_INVALID_ARGUMENT;
    *bar1Memory = (struct nvml_bar1_memory){
        .bar1Total = door.gpu->bar1_bytes,
        .bar1Used = door.gpu->bar1_used_bytes,
        .bar1Free = door.gpu->bar1_bytes - door.gpu->bar1_used_bytes,
    };
    return NVML_SUCCESS;
}

/* --- engines --------------------------------------------------------------------------------- */

/* Under MIG a whole board's utilization means nothing: GPM has it per instance. */
static nvmlReturn_t enter_for_load(struct door *door, const char *call, nvmlDevice_t device,
                                   struct sim_load *ret)
{
    nvmlReturn_t r = door_device(door, call, device, DOOR_BOARD | DOOR_LOCK);

    if (r)
        return r;
    if (door->gpu->mig_current)
        return NVML_NOT_SUPPORTED;
    sim_gpu_load(door->state, door->gpu_index, SIM_NO_INSTANCE, ret);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device,
                                           struct nvml_utilization *utilization)
{
    auto_(door_leave) struct door door = {};
    struct sim_load load;

    nvmlReturn_t r = enter_for_load(&door, __func__, device, &load);
    if (r)
        return r;
    if (!utilization)
        return NVML_INVALID_ARGUMENT;
    *utilization = (struct nvml_utilization){ load.sm_pct, load.memory_pct };
    return NVML_SUCCESS;
}

enum engine { ENCODER, DECODER, JPEG, OFA };

static nvmlReturn_t engine_utilization(const char *call, nvmlDevice_t device, enum engine engine,
                                       uint32_t *ret_pct, uint32_t *ret_period_us)
{
    enum { SAMPLING_PERIOD_US = 167000 };
    auto_(door_leave) struct door door = {};
    struct sim_load load;

    nvmlReturn_t r = enter_for_load(&door, call, device, &load);
    if (r)
        return r;
    if (!ret_pct || !ret_period_us)
        return NVML_INVALID_ARGUMENT;
    *ret_pct = engine == ENCODER   ? load.encoder_pct
               : engine == DECODER ? load.decoder_pct
               : engine == JPEG    ? load.jpeg_pct
                                   : load.ofa_pct;
    *ret_period_us = SAMPLING_PERIOD_US;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, uint32_t *utilization,
                                             uint32_t *samplingPeriodUs)
{
    return engine_utilization(__func__, device, ENCODER, utilization, samplingPeriodUs);
}

nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, uint32_t *utilization,
                                             uint32_t *samplingPeriodUs)
{
    return engine_utilization(__func__, device, DECODER, utilization, samplingPeriodUs);
}

nvmlReturn_t nvmlDeviceGetJpgUtilization(nvmlDevice_t device, uint32_t *utilization,
                                         uint32_t *samplingPeriodUs)
{
    return engine_utilization(__func__, device, JPEG, utilization, samplingPeriodUs);
}

nvmlReturn_t nvmlDeviceGetOfaUtilization(nvmlDevice_t device, uint32_t *utilization,
                                         uint32_t *samplingPeriodUs)
{
    return engine_utilization(__func__, device, OFA, utilization, samplingPeriodUs);
}

nvmlReturn_t nvmlDeviceGetEncoderStats(nvmlDevice_t device, uint32_t *sessionCount,
                                       uint32_t *averageFps, uint32_t *averageLatency)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!sessionCount || !averageFps || !averageLatency)
        return NVML_INVALID_ARGUMENT;
    *sessionCount = *averageFps = *averageLatency = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetFBCStats(nvmlDevice_t device, struct nvml_fbc_stats *fbcStats)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!fbcStats)
        return NVML_INVALID_ARGUMENT;
    *fbcStats = (struct nvml_fbc_stats){};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDynamicPstatesInfo(nvmlDevice_t device,
                                             struct nvml_dynamic_pstates_info *pDynamicPstatesInfo)
{
    enum { GPU, FRAME_BUFFER, VIDEO };
    auto_(door_leave) struct door door = {};
    struct sim_load load;

    nvmlReturn_t r = enter_for_load(&door, __func__, device, &load);
    if (r)
        return r;
    if (!pDynamicPstatesInfo)
        return NVML_INVALID_ARGUMENT;
    *pDynamicPstatesInfo = (struct nvml_dynamic_pstates_info){
        .flags = 1, /* enabled */
        .utilization = {
            [GPU] = { .bIsPresent = 1, .percentage = load.sm_pct },
            [FRAME_BUFFER] = { .bIsPresent = 1, .percentage = load.memory_pct },
            [VIDEO] = { .bIsPresent = 1,
                        .percentage = MAX(load.encoder_pct, load.decoder_pct) },
        },
    };
    return NVML_SUCCESS;
}

/* --- processes ------------------------------------------------------------------------------- */

/* Does the device (a GPU with all its instances, or one MIG device) run this process? */
static bool runs_on(const struct door *door, const struct sim_process *process)
{
    return process->exists && process->gpu == door->gpu_index &&
           (!door->ci || (process->gi_id == door->gi->id && process->ci_id == door->ci->id));
}

/* The processes of one kind, in order of their slots; any kind when it is NVML_VALUE_UNKNOWN. */
static uint32_t list_processes(const struct door *door, uint32_t kind,
                               const struct sim_process *ret[static SIM_MAX_PROCESSES])
{
    uint32_t n = 0;

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        const struct sim_process *process = &door->state->processes[i];

        if (runs_on(door, process) && (kind == SIM_FOREVER || process->kind == kind))
            ret[n++] = process;
    }
    return n;
}

/* In and out: a count that is too small is answered with the one that is needed. */
static nvmlReturn_t check_room(uint32_t *count, const void *array, uint32_t n)
{
    uint32_t room = array ? *count : 0;

    *count = n;
    return room < n ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t running(const char *call, nvmlDevice_t device, uint32_t kind, uint32_t *count,
                            void *infos, bool short_records)
{
    auto_(door_leave) struct door door = {};
    const struct sim_process *found[SIM_MAX_PROCESSES];

    nvmlReturn_t r = door_device(&door, call, device, DOOR_ANY_DEVICE | DOOR_LOCK);
    if (r)
        return r;
    if (!count || (!infos && *count > 0))
        return NVML_INVALID_ARGUMENT;
    uint32_t n = list_processes(&door, kind, found);
    r = check_room(count, infos, n);
    if (r)
        return r;
    for (uint32_t i = 0; i < n; i++) {
        if (short_records)
            ((struct nvml_process_info_v1 *)infos)[i] =
                (struct nvml_process_info_v1){ found[i]->pid, found[i]->memory_bytes };
        else
            ((struct nvml_process_info *)infos)[i] =
                (struct nvml_process_info){ found[i]->pid, found[i]->memory_bytes, found[i]->gi_id,
                                            found[i]->ci_id };
    }
    return NVML_SUCCESS;
}

#define RUNNING(call, kind)                                                                        \
    nvmlReturn_t call(nvmlDevice_t device, uint32_t *infoCount,                                    \
                      struct nvml_process_info_v1 *infos)                                          \
    {                                                                                              \
        return running(__func__, device, kind, infoCount, infos, true);                            \
    }                                                                                              \
    nvmlReturn_t call##_v2(nvmlDevice_t device, uint32_t *infoCount,                               \
                           struct nvml_process_info *infos)                                        \
    {                                                                                              \
        return running(__func__, device, kind, infoCount, infos, false);                           \
    }                                                                                              \
    nvmlReturn_t call##_v3(nvmlDevice_t device, uint32_t *infoCount,                               \
                           struct nvml_process_info *infos)                                        \
    {                                                                                              \
        return running(__func__, device, kind, infoCount, infos, false);                           \
    }

RUNNING(nvmlDeviceGetComputeRunningProcesses, NVML_PROCESS_COMPUTE)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses, NVML_PROCESS_GRAPHICS)
RUNNING(nvmlDeviceGetMPSComputeRunningProcesses, NVML_PROCESS_MPS)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device,
                                                   struct nvml_process_detail_list *plist)
{
    auto_(door_leave) struct door door = {};
    const struct sim_process *found[SIM_MAX_PROCESSES];

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);
    if (r)
        return r;
    if (!plist)
        return NVML_INVALID_ARGUMENT;
    if (plist->version != NVML_VERSION(struct nvml_process_detail_list, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (plist->mode > NVML_PROCESS_MPS || (!plist->procArray && plist->numProcArrayEntries > 0))
        return NVML_INVALID_ARGUMENT;
    uint32_t n = list_processes(&door, plist->mode, found);
    r = check_room(&plist->numProcArrayEntries, plist->procArray, n);
    for (uint32_t i = 0; !r && i < n; i++)
        plist->procArray[i] = (struct nvml_process_detail){ found[i]->pid, found[i]->memory_bytes,
                                                            found[i]->gi_id, found[i]->ci_id, 0 };
    return r;
}

/* Samples are taken "now", so that there is none newer than a time stamp of the future. */
static nvmlReturn_t enter_for_samples(struct door *door, const char *call, nvmlDevice_t device,
                                      const struct sim_process *ret[static SIM_MAX_PROCESSES],
                                      uint32_t *ret_n)
{
    nvmlReturn_t r = door_device(door, call, device, DOOR_BOARD | DOOR_LOCK);

    if (r)
        return r;
    if (door->gpu->mig_current)
        return NVML_NOT_SUPPORTED;
    *ret_n = list_processes(door, SIM_FOREVER, ret);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                             struct nvml_process_utilization *utilization,
                                             uint32_t *processSamplesCount,
                                             uint64_t lastSeenTimeStamp)
{
    auto_(door_leave) struct door door = {};
    const struct sim_process *found[SIM_MAX_PROCESSES];
    uint64_t now = now_us();
    uint32_t n = 0;

    nvmlReturn_t r = enter_for_samples(&door, __func__, device, found, &n);
    if (r)
        return r;
    if (!processSamplesCount)
        return NVML_INVALID_ARGUMENT;
    if (n == 0 || lastSeenTimeStamp >= now)
        return NVML_NOT_FOUND;
    r = check_room(processSamplesCount, utilization, n);
    for (uint32_t i = 0; !r && i < n; i++)
        utilization[i] = (struct nvml_process_utilization){
            found[i]->pid,         now,
            found[i]->sm_pct,      found[i]->memory_pct,
            found[i]->encoder_pct, found[i]->decoder_pct,
        };
    return r;
}

nvmlReturn_t
nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                      struct nvml_processes_utilization_info *procesesUtilInfo)
{
    auto_(door_leave) struct door door = {};
    const struct sim_process *found[SIM_MAX_PROCESSES];
    struct nvml_processes_utilization_info *info = procesesUtilInfo;
    uint64_t now = now_us();
    uint32_t n = 0;

    nvmlReturn_t r = enter_for_samples(&door, __func__, device, found, &n);
    if (r)
        return r;
    if (!info)
        return NVML_INVALID_ARGUMENT;
    if (info->version != NVML_VERSION(struct nvml_processes_utilization_info, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (n == 0 || info->lastSeenTimeStamp >= now)
        return NVML_NOT_FOUND;
    r = check_room(&info->processSamplesCount, info->procUtilArray, n);
    for (uint32_t i = 0; !r && i < n; i++)
        info->procUtilArray[i] = (struct nvml_process_utilization_info){
            now,
            found[i]->pid,
            found[i]->sm_pct,
            found[i]->memory_pct,
            found[i]->encoder_pct,
            found[i]->decoder_pct,
            found[i]->jpeg_pct,
            found[i]->ofa_pct,
        };
    return r;
}

/* --- samples of the past --------------------------------------------------------------------- */

enum { N_SAMPLES = 120, SAMPLE_PERIOD_US = 100000 };

/* The value of a sampling type (spec/nvml §6); false where the board has none. */
static bool sampled_value(const struct door *door, uint32_t type, uint32_t *ret)
{
    const struct sim_gpu *gpu = door->gpu;
    struct sim_load load;

    sim_gpu_load(door->state, door->gpu_index, SIM_NO_INSTANCE, &load);
    const uint32_t values[] = {
        gpu->power_mw,     load.sm_pct,       load.memory_pct, load.encoder_pct, load.decoder_pct,
        gpu->clock_mhz[1], gpu->clock_mhz[2], gpu->power_mw,   load.jpeg_pct,    load.ofa_pct,
    };
    *ret = values[type];
    return type != 7 || gpu->c2c; /* module power: only where CPU and GPU share a module */
}

/*
 * The driver keeps the last samples in a ring. Here the past is the present: as many samples as the
 * ring would hold that are newer than the caller's time stamp, all with today's value.
 */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, uint32_t type, uint64_t lastSeenTimeStamp,
                                  uint32_t *sampleValType, uint32_t *sampleCount,
                                  struct nvml_sample *samples)
{
    enum { N_TYPES = 10 };
    auto_(door_leave) struct door door = {};
    uint64_t newest = now_us() / SAMPLE_PERIOD_US * SAMPLE_PERIOD_US;
    uint32_t value;

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK);
    if (r)
        return r;
    if (!sampleValType || !sampleCount || type >= N_TYPES)
        return NVML_INVALID_ARGUMENT;
    if (!sampled_value(&door, type, &value) || (door.gpu->mig_current && type != 0))
        return NVML_NOT_SUPPORTED;
    *sampleValType = NVML_VALUE_U32;
    if (!samples) {
        *sampleCount = N_SAMPLES;
        return NVML_SUCCESS;
    }
    uint64_t fresh = lastSeenTimeStamp < newest
                         ? (newest - lastSeenTimeStamp + SAMPLE_PERIOD_US - 1) / SAMPLE_PERIOD_US
                         : 0;
    uint32_t n = (uint32_t)MIN(fresh, (uint64_t)MIN(*sampleCount, (uint32_t)N_SAMPLES));
    if (n == 0)
        return NVML_NOT_FOUND;
    for (uint32_t i = 0; i < n; i++)
        samples[i] = (struct nvml_sample){
            .timeStamp = newest - (uint64_t)(n - 1 - i) * SAMPLE_PERIOD_US,
            .sampleValue = { .uiVal = value },
        };
    *sampleCount = n;
    return NVML_SUCCESS;
}
