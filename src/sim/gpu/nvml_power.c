/* Power, energy, temperature and clocks; and the settings that only root may change. */
#include "sim/gpu/nvml_door.h"

#include <time.h>

/* --- settings -------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, uint32_t mode)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK | DOOR_ROOT);

    if (r)
        return r;
    if (mode > 1)
        return NVML_INVALID_ARGUMENT;
    door.gpu->persistence = mode;
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetComputeMode(nvmlDevice_t device, uint32_t mode)
{
    enum { EXCLUSIVE_THREAD = 1, N_MODES = 4 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK | DOOR_ROOT);

    if (r)
        return r;
    if (mode >= N_MODES)
        return NVML_INVALID_ARGUMENT;
    if (mode == EXCLUSIVE_THREAD) /* gone since CUDA 8 */
        return NVML_NOT_SUPPORTED;
    door.gpu->compute_mode = mode;
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, uint32_t limit)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK | DOOR_ROOT);

    if (r)
        return r;
    if (limit < door.gpu->power_min_mw || limit > door.gpu->power_max_mw)
        return NVML_INVALID_ARGUMENT;
    sim_gpu_advance(door.state, door.gpu_index);
    door.gpu->power_limit_mw = limit;
    door.gpu->power_mw = MIN(door.gpu->power_mw, limit);
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetGpuLockedClocks(nvmlDevice_t device, uint32_t minGpuClockMHz,
                                          uint32_t maxGpuClockMHz)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK | DOOR_ROOT);

    if (r)
        return r;
    if (minGpuClockMHz > maxGpuClockMHz || maxGpuClockMHz == 0)
        return NVML_INVALID_ARGUMENT;
    door.gpu->locked_min_mhz = minGpuClockMHz;
    door.gpu->locked_max_mhz = maxGpuClockMHz;
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceResetGpuLockedClocks(nvmlDevice_t device)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK | DOOR_ROOT);

    if (r)
        return r;
    door.gpu->locked_min_mhz = door.gpu->locked_max_mhz = 0;
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}

/* --- power ----------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, uint32_t *minLimit,
                                                          uint32_t *maxLimit)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!minLimit || !maxLimit)
        return NVML_INVALID_ARGUMENT;
    *minLimit = door.gpu->power_min_mw;
    *maxLimit = door.gpu->power_max_mw;
    return NVML_SUCCESS;
}

/* Since the driver was loaded; Volta was the first to count. */
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, uint64_t *energy)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK);

    if (r)
        return r;
    if (!energy)
        return NVML_INVALID_ARGUMENT;
    sim_gpu_advance(door.state, door.gpu_index);
    *energy = door.gpu->energy_uj / 1000;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetViolationStatus(nvmlDevice_t device, uint32_t perfPolicyType,
                                          struct nvml_violation_time *violTime)
{
    auto_(door_leave) struct door door = {};
    /* Policies 0..5, then 10 and 11. */
    uint32_t slot = perfPolicyType <= 5                            ? perfPolicyType
                    : perfPolicyType == 10 || perfPolicyType == 11 ? perfPolicyType - 4
                                                                   : SIM_N_VIOLATIONS;
    struct timespec now;

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK);
    if (r)
        return r;
    if (!violTime || slot >= SIM_N_VIOLATIONS)
        return NVML_INVALID_ARGUMENT;
    sim_gpu_advance(door.state, door.gpu_index);
    clock_gettime(CLOCK_REALTIME, &now);
    *violTime = (struct nvml_violation_time){
        .referenceTime = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000,
        .violationTime = door.gpu->violation_ns[slot],
    };
    return NVML_SUCCESS;
}

/* --- temperature ----------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, uint32_t sensorType, uint32_t *temp)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!temp || sensorType != 0)
        return NVML_INVALID_ARGUMENT;
    *temp = door.gpu->temperature_c;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct nvml_temperature *temperature)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!temperature)
        return NVML_INVALID_ARGUMENT;
    if (temperature->version != NVML_VERSION(struct nvml_temperature, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensorType != 0)
        return NVML_INVALID_ARGUMENT;
    temperature->temperature = (int32_t)door.gpu->temperature_c;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, uint32_t thresholdType,
                                               uint32_t *temp)
{
    enum { SHUTDOWN, SLOWDOWN, MEMORY_MAX, GPU_MAX, N_THRESHOLDS = 8 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!temp || thresholdType >= N_THRESHOLDS)
        return NVML_INVALID_ARGUMENT;
    if (thresholdType > GPU_MAX) /* acoustics: no fans */
        return NVML_NOT_SUPPORTED;
    if (thresholdType == MEMORY_MAX && door.gpu->memory_temperature_c == 0)
        return NVML_NOT_SUPPORTED;
    *temp = thresholdType == SHUTDOWN     ? door.gpu->shutdown_c
            : thresholdType == MEMORY_MAX ? door.gpu->shutdown_c + 3
            : thresholdType == GPU_MAX    ? door.gpu->slowdown_c - 2
                                          : door.gpu->slowdown_c;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t device,
                                            struct nvml_margin_temperature *marginTempInfo)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!marginTempInfo)
        return NVML_INVALID_ARGUMENT;
    if (marginTempInfo->version != NVML_VERSION(struct nvml_margin_temperature, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (door.gpu->architecture < NVML_ARCH_ADA)
        return NVML_NOT_SUPPORTED;
    marginTempInfo->marginTemperature =
        (int32_t)door.gpu->slowdown_c - (int32_t)door.gpu->temperature_c;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetThermalSettings(nvmlDevice_t device, uint32_t sensorIndex,
                                          struct nvml_thermal_settings *pThermalSettings)
{
    enum { CONTROLLER_GPU_INTERNAL = 1, TARGET_GPU = 1, ALL_SENSORS = 15 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!pThermalSettings || (sensorIndex > 0 && sensorIndex != ALL_SENSORS))
        return NVML_INVALID_ARGUMENT;
    *pThermalSettings = (struct nvml_thermal_settings){
        .count = 1,
        .sensor[0] = {
            .controller = CONTROLLER_GPU_INTERNAL,
            .defaultMinTemp = -40,
            .defaultMaxTemp = 127,
            .currentTemp = (int32_t)door.gpu->temperature_c,
            .target = TARGET_GPU,
        },
    };
    return NVML_SUCCESS;
}

/* Boards without fans: every fan index is one too many. */
nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t device, uint32_t fan, uint32_t *speed)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    return speed ? NVML_NOT_SUPPORTED : NVML_INVALID_ARGUMENT;
}

/* --- clocks ---------------------------------------------------------------------------------- */

/* Locked clocks hold for the graphics and the SM clock. */
static uint32_t current_clock(const struct sim_gpu *gpu, uint32_t type)
{
    uint32_t clock = gpu->clock_mhz[type];

    if (type > NVML_CLOCK_SM || gpu->locked_max_mhz == 0)
        return clock;
    clock = MAX(clock, gpu->locked_min_mhz);
    return MIN(MIN(clock, gpu->locked_max_mhz), gpu->max_clock_mhz[type]);
}

enum clock_kind { CLOCK_NOW, CLOCK_TARGET, CLOCK_DEFAULT, CLOCK_BOOST_MAX, N_CLOCK_KINDS };

static nvmlReturn_t clock_of(const char *call, nvmlDevice_t device, uint32_t type, uint32_t kind,
                             uint32_t *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, call, device, DOOR_BOARD);

    if (r)
        return r;
    if (!ret || type >= NVML_N_CLOCKS || kind >= N_CLOCK_KINDS)
        return NVML_INVALID_ARGUMENT;
    if (kind != CLOCK_NOW && kind != CLOCK_BOOST_MAX && type == NVML_CLOCK_VIDEO)
        return NVML_NOT_SUPPORTED;
    *ret = kind == CLOCK_NOW      ? current_clock(door.gpu, type)
           : kind == CLOCK_TARGET ? door.gpu->application_clock_mhz[type]
                                  : door.gpu->max_clock_mhz[type];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, uint32_t type, uint32_t *clock)
{
    return clock_of(__func__, device, type, CLOCK_NOW, clock);
}

nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, uint32_t type, uint32_t *clock)
{
    return clock_of(__func__, device, type, CLOCK_BOOST_MAX, clock);
}

nvmlReturn_t nvmlDeviceGetClock(nvmlDevice_t device, uint32_t clockType, uint32_t clockId,
                                uint32_t *clockMHz)
{
    return clock_of(__func__, device, clockType, clockId, clockMHz);
}

nvmlReturn_t nvmlDeviceGetApplicationsClock(nvmlDevice_t device, uint32_t clockType,
                                            uint32_t *clockMHz)
{
    return clock_of(__func__, device, clockType, CLOCK_TARGET, clockMHz);
}

nvmlReturn_t nvmlDeviceGetDefaultApplicationsClock(nvmlDevice_t device, uint32_t clockType,
                                                   uint32_t *clockMHz)
{
    return clock_of(__func__, device, clockType, CLOCK_DEFAULT, clockMHz);
}

/* One memory clock, and graphics clocks in steps from the highest down to idle. */
nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, uint32_t *count,
                                                uint32_t *clocksMHz)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    bool room = clocksMHz && *count >= 1;
    *count = 1;
    if (!room)
        return NVML_INSUFFICIENT_SIZE;
    clocksMHz[0] = door.gpu->max_clock_mhz[NVML_CLOCK_MEM];
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, uint32_t memoryClockMHz,
                                                  uint32_t *count, uint32_t *clocksMHz)
{
    enum { STEP_MHZ = 15, MAX_STEPS = 1024 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    if (memoryClockMHz != door.gpu->max_clock_mhz[NVML_CLOCK_MEM])
        return NVML_NOT_FOUND;

    uint32_t max = door.gpu->max_clock_mhz[NVML_CLOCK_GRAPHICS];
    uint32_t min = MIN(door.gpu->min_clock_mhz, max);
    uint32_t n = MIN((max - min) / STEP_MHZ + 1, (uint32_t)MAX_STEPS);
    uint32_t room = clocksMHz ? *count : 0;
    *count = n;
    if (room < n)
        return NVML_INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < n; i++)
        clocksMHz[i] = max - i * STEP_MHZ;
    return NVML_SUCCESS;
}
