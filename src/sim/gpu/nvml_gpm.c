/*
 * GPM: metrics as the difference of two samples of counters (Hopper and later).
 *
 * A sample belongs to the process that took it and holds a GPU's counters at that moment. An
 * instance of a partitioned GPU has no counters of its own; its sample holds what its processes
 * did at that moment, and a metric is the mean of both moments.
 */
#include "sim/gpu/mig.h"
#include "sim/gpu/nvml_door.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SAMPLES = 1024 };

struct sample {
    bool used, taken;
    uint32_t generation;
    uint32_t gpu, gi; /* gi: SIM_NO_INSTANCE for a whole GPU */
    uint64_t taken_ns;
    uint64_t activity_pct_ns[SIM_N_ACTIVITIES];
    uint64_t pcie_tx, pcie_rx, nvlink_tx, nvlink_rx; /* bytes */
    uint32_t n_links;
    struct sim_load load;
};

static struct {
    pthread_mutex_t lock;
    struct sample samples[MAX_SAMPLES];
} shelf = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The sample of a handle, or NULL. Call with the shelf's lock held. */
static struct sample *sample_of(nvmlGpmSample_t pointer)
{
    struct handle handle;

    if (!handle_read(pointer, &handle) || handle.kind != HANDLE_GPM_SAMPLE ||
        handle.gi >= MAX_SAMPLES)
        return NULL;
    struct sample *sample = &shelf.samples[handle.gi];
    return sample->used && (sample->generation & 0xfffff) == handle.generation ? sample : NULL;
}

static void shelf_unlock(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}

#define HOLD_SHELF()                                                                               \
    auto_(shelf_unlock) UNUSED pthread_mutex_t *held_ = &shelf.lock;                               \
    pthread_mutex_lock(held_)

nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *gpmSample)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    if (!gpmSample)
        return NVML_INVALID_ARGUMENT;
    HOLD_SHELF();
    for (uint32_t i = 0; i < MAX_SAMPLES; i++) {
        struct sample *sample = &shelf.samples[i];

        if (sample->used)
            continue;
        *sample = (struct sample){ .used = true, .generation = sample->generation + 1 };
        *gpmSample = handle_make((struct handle){
            .kind = HANDLE_GPM_SAMPLE, .gi = i, .generation = sample->generation });
        return NVML_SUCCESS;
    }
    return NVML_MEMORY;
}

nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t gpmSample)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    HOLD_SHELF();
    struct sample *sample = sample_of(gpmSample);
    if (!sample)
        return NVML_INVALID_ARGUMENT;
    sample->used = false;
    return NVML_SUCCESS;
}

/* --- taking samples -------------------------------------------------------------------------- */

static nvmlReturn_t take(struct door *door, uint32_t gi, nvmlGpmSample_t pointer)
{
    struct sim_gpu *gpu = door->gpu;

    if (!gpu->has_gpm)
        return NVML_NOT_SUPPORTED;
    HOLD_SHELF();
    struct sample *sample = sample_of(pointer);
    if (!sample)
        return NVML_INVALID_ARGUMENT;
    sim_gpu_advance(door->state, door->gpu_index);
    sample->taken = true;
    sample->gpu = door->gpu_index;
    sample->gi = gi;
    sample->taken_ns = gpu->advanced_ns;
    sample->pcie_tx = gpu->pcie_tx_bytes;
    sample->pcie_rx = gpu->pcie_rx_bytes;
    sample->nvlink_tx = gpu->nvlink_tx_bytes;
    sample->nvlink_rx = gpu->nvlink_rx_bytes;
    sample->n_links = 0;
    for (uint32_t i = 0; i < SIM_MAX_LINKS; i++)
        sample->n_links += sim_link_is_up(door->state, gpu, i);
    memcpy(sample->activity_pct_ns, gpu->activity_pct_ns, sizeof(sample->activity_pct_ns));
    sim_gpu_load(door->state, door->gpu_index, gi, &sample->load);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t gpmSample)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);

    return r ? r : take(&door, door.gi ? door.gi->id : SIM_NO_INSTANCE, gpmSample);
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, uint32_t gpuInstanceId,
                                 nvmlGpmSample_t gpmSample)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_LOCK);

    if (r)
        return r;
    if (!door.gpu->mig_current)
        return NVML_NOT_SUPPORTED;
    if (!sim_gi_by_id(door.gpu, gpuInstanceId))
        return NVML_INVALID_ARGUMENT;
    return take(&door, gpuInstanceId, gpmSample);
}

/* --- metrics --------------------------------------------------------------------------------- */

/* Percent, from counters where there are some, else the mean of both moments. */
static double activity(const struct sample *a, const struct sample *b, uint32_t id)
{
    double ns = (double)(b->taken_ns - a->taken_ns);

    if (a->gi == SIM_NO_INSTANCE)
        return (double)(b->activity_pct_ns[id] - a->activity_pct_ns[id]) / ns;
    if (id <= 2)
        return (a->load.sm_pct + b->load.sm_pct) / 2.0;
    if (id == 10)
        return (a->load.memory_pct + b->load.memory_pct) / 2.0;
    return 0;
}

static double mib_per_second(const struct sample *a, const struct sample *b, uint64_t bytes)
{
    return (double)bytes / (1 << 20) / ((double)(b->taken_ns - a->taken_ns) / 1e9);
}

/* The value of a metric (spec/nvml §7): its code, as each entry has its own. */
static nvmlReturn_t metric_value(const struct sample *a, const struct sample *b, uint32_t id,
                                 double *ret)
{
    enum { FIRST_LINK = 62 };
    bool whole = a->gi == SIM_NO_INSTANCE;

    if (id >= 1 && id < SIM_N_ACTIVITIES)
        *ret = activity(a, b, id);
    else if (id == 20 || id == 21)
        *ret = mib_per_second(a, b, id == 20 ? b->pcie_tx - a->pcie_tx : b->pcie_rx - a->pcie_rx);
    else if (id >= 30 && id <= 37)
        *ret = (a->load.decoder_pct + b->load.decoder_pct) / 2.0;
    else if (id >= 40 && id <= 47)
        *ret = (a->load.jpeg_pct + b->load.jpeg_pct) / 2.0;
    else if (id == 50 || id == 51)
        *ret = (a->load.ofa_pct + b->load.ofa_pct) / 2.0;
    else if (whole && (id == 60 || id == 61))
        *ret = mib_per_second(a, b,
                              id == 60 ? b->nvlink_rx - a->nvlink_rx : b->nvlink_tx - a->nvlink_tx);
    else if (whole && id >= FIRST_LINK && id < FIRST_LINK + 2 * b->n_links)
        *ret = mib_per_second(
            a, b,
            (id % 2 == 0 ? b->nvlink_rx - a->nvlink_rx : b->nvlink_tx - a->nvlink_tx) / b->n_links);
    else
        return NVML_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

static void metric_name(struct nvml_gpm_metric *metric)
{
    static const char *const activities[SIM_N_ACTIVITIES] = {
        NULL,
        "Graphics Utilization",
        "SM Utilization",
        "SM Occupancy",
        "Integer Utilization",
        "Tensor",
        "DFMA Tensor",
        "HMMA Tensor",
        "DMMA Tensor",
        "IMMA Tensor",
        "DRAM Bandwidth",
        "FP64",
        "FP32",
        "FP16",
    };
    uint32_t id = metric->metricId;
    const char *name = id < SIM_N_ACTIVITIES  ? activities[id]
                       : id == 20             ? "PCIe TX"
                       : id == 21             ? "PCIe RX"
                       : id >= 30 && id <= 37 ? "NVDEC"
                       : id >= 40 && id <= 47 ? "NVJPG"
                       : id == 50 || id == 51 ? "NVOFA"
                       : id >= 60 && id < 60 + 2 * (1 + SIM_MAX_LINKS)
                           ? (id % 2 == 0 ? "NVLink RX" : "NVLink TX")
                           : NULL;
    bool rate = id == 20 || id == 21 || id >= 60;

    metric->metricInfo.shortName = metric->metricInfo.longName = name;
    metric->metricInfo.unit = name ? (rate ? "MiB/s" : "%") : NULL;
}

nvmlReturn_t nvmlGpmMetricsGet(struct nvml_gpm_metrics_get *metricsGet)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    if (!metricsGet)
        return NVML_INVALID_ARGUMENT;
    if (metricsGet->version != NVML_GPM_VERSION)
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (metricsGet->numMetrics == 0 || metricsGet->numMetrics > ARRAY_LEN(metricsGet->metrics))
        return NVML_INVALID_ARGUMENT;
    HOLD_SHELF();
    const struct sample *a = sample_of(metricsGet->sample1), *b = sample_of(metricsGet->sample2);
    if (!a || !b || !a->taken || !b->taken || a->gpu != b->gpu || a->gi != b->gi ||
        b->taken_ns <= a->taken_ns)
        return NVML_INVALID_ARGUMENT;
    for (uint32_t i = 0; i < metricsGet->numMetrics; i++) {
        struct nvml_gpm_metric *metric = &metricsGet->metrics[i];

        metric->value = 0;
        metric->nvmlReturn = metric_value(a, b, metric->metricId, &metric->value);
        metric_name(metric);
    }
    return NVML_SUCCESS;
}

/* --- support --------------------------------------------------------------------------------- */

nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, struct nvml_gpm_support *gpmSupport)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!gpmSupport)
        return NVML_INVALID_ARGUMENT;
    if (gpmSupport->version != NVML_GPM_VERSION)
        return NVML_ARGUMENT_VERSION_MISMATCH;
    gpmSupport->isSupportedDevice = door.gpu->has_gpm;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpmSetStreamingEnabled(nvmlDevice_t device, uint32_t state)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);

    if (r)
        return r;
    if (state > 1)
        return NVML_INVALID_ARGUMENT;
    if (!door.gpu->has_gpm)
        return NVML_NOT_SUPPORTED;
    door.gpu->gpm_streaming = state;
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}
