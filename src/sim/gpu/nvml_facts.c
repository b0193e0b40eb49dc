/*
 * The calls that answer with one number out of struct sim_gpu. A row says which call it is, for
 * which handles (nvml_door.h), when the board knows the answer at all (else NOT_SUPPORTED), and
 * what it is; `gpu` is the GPU, `state` the node, `door` the way in.
 *
 * Single words are read without the lock.
 */
#include "sim/gpu/nvml_door.h"

#define FACT(call, type, flags, known, value)                                                      \
    nvmlReturn_t call(nvmlDevice_t device, type *ret)                                              \
    {                                                                                              \
        auto_(door_leave) struct door door = {};                                                   \
        nvmlReturn_t r = door_device(&door, __func__, device, flags);                              \
        UNUSED const struct sim_state *state = door.state;                                         \
        UNUSED const struct sim_gpu *gpu = door.gpu;                                               \
                                                                                                   \
        if (r)                                                                                     \
            return r;                                                                              \
        if (!ret)                                                                                  \
            return NVML_INVALID_ARGUMENT;                                                          \
        if (!(known))                                                                              \
            return NVML_NOT_SUPPORTED;                                                             \
        *ret = (type)(value);                                                                      \
        return NVML_SUCCESS;                                                                       \
    }

#define ANY      DOOR_ANY_DEVICE
#define PHYSICAL DOOR_PHYSICAL
#define BOARD    DOOR_BOARD

/* Identity */
FACT(nvmlDeviceGetMinorNumber, uint32_t, PHYSICAL, true, gpu->minor)
FACT(nvmlDeviceGetBrand, uint32_t, ANY, true, gpu->brand)
FACT(nvmlDeviceGetArchitecture, uint32_t, ANY, true, gpu->architecture)
FACT(nvmlDeviceGetBoardId, uint32_t, ANY, true,
     gpu->pci_domain << 16 | gpu->pci_bus << 8 | gpu->pci_device)
FACT(nvmlDeviceGetMultiGpuBoard, uint32_t, ANY, true, 0)
FACT(nvmlDeviceGetModuleId, uint32_t, ANY, true, door.gpu_index + 1)
FACT(nvmlDeviceGetNumGpuCores, uint32_t, BOARD, true,
     gpu->multiprocessors * gpu->cores_per_multiprocessor)
FACT(nvmlDeviceGetMemoryBusWidth, uint32_t, BOARD, true, gpu->memory_bus_bits)
FACT(nvmlDeviceGetIrqNum, uint32_t, BOARD, true, 128 + door.gpu_index)
FACT(nvmlDeviceGetNumaNodeId, uint32_t, ANY, gpu->numa_node >= 0, gpu->numa_node)
FACT(nvmlDeviceGetVirtualizationMode, uint32_t, ANY, true, gpu->virtualization_mode)
FACT(nvmlDeviceGetDisplayMode, uint32_t, BOARD, true, 0)
FACT(nvmlDeviceGetDisplayActive, uint32_t, BOARD, true, 0)

/* Settings */
FACT(nvmlDeviceGetPersistenceMode, uint32_t, BOARD, true, gpu->persistence)
FACT(nvmlDeviceGetComputeMode, uint32_t, ANY, true, gpu->compute_mode)
FACT(nvmlDeviceGetAccountingMode, uint32_t, ANY, true, 0)

/* Power, temperature, clocks */
FACT(nvmlDeviceGetPowerUsage, uint32_t, BOARD, true, gpu->power_mw)
FACT(nvmlDeviceGetPowerManagementLimit, uint32_t, BOARD, true, gpu->power_limit_mw)
FACT(nvmlDeviceGetPowerManagementDefaultLimit, uint32_t, BOARD, true, gpu->power_default_mw)
FACT(nvmlDeviceGetEnforcedPowerLimit, uint32_t, BOARD, true, gpu->power_limit_mw)
FACT(nvmlDeviceGetNumFans, uint32_t, BOARD, true, 0)
FACT(nvmlDeviceGetFanSpeed, uint32_t, BOARD, false, 0) /* all boards here are cooled passively */
FACT(nvmlDeviceGetPerformanceState, uint32_t, BOARD, true, gpu->performance_state)
FACT(nvmlDeviceGetCurrentClocksEventReasons, uint64_t, BOARD, true, gpu->clock_event_reasons)
FACT(nvmlDeviceGetCurrentClocksThrottleReasons, uint64_t, BOARD, true, gpu->clock_event_reasons)
FACT(nvmlDeviceGetSupportedClocksEventReasons, uint64_t, BOARD, true, 0x1ff)
FACT(nvmlDeviceGetSupportedClocksThrottleReasons, uint64_t, BOARD, true, 0x1ff)

/* Errors */
FACT(nvmlDeviceGetDefaultEccMode, uint32_t, BOARD, gpu->ecc_capable, 1)
FACT(nvmlDeviceGetRetiredPagesPendingStatus, uint32_t, BOARD, gpu->architecture < NVML_ARCH_AMPERE,
     gpu->retirement_pending)

/* PCIe: a speed is in MT/s of one lane, a maximal speed an enum that runs with the generation */
FACT(nvmlDeviceGetPcieReplayCounter, uint32_t, BOARD, true, gpu->pcie_replays)
FACT(nvmlDeviceGetCurrPcieLinkGeneration, uint32_t, BOARD, true, gpu->pcie_generation)
FACT(nvmlDeviceGetCurrPcieLinkWidth, uint32_t, BOARD, true, gpu->pcie_width)
FACT(nvmlDeviceGetMaxPcieLinkGeneration, uint32_t, BOARD, true, gpu->max_pcie_generation)
FACT(nvmlDeviceGetMaxPcieLinkWidth, uint32_t, BOARD, true, gpu->max_pcie_width)
FACT(nvmlDeviceGetGpuMaxPcieLinkGeneration, uint32_t, BOARD, true, gpu->max_pcie_generation)
FACT(nvmlDeviceGetPcieSpeed, uint32_t, BOARD, true,
     gpu->pcie_generation < 3 ? gpu->pcie_generation * 2500 : 1000u << (gpu->pcie_generation & 15))
FACT(nvmlDeviceGetPcieLinkMaxSpeed, uint32_t, BOARD, true, gpu->max_pcie_generation)

/* GPM */
FACT(nvmlGpmQueryIfStreamingEnabled, uint32_t, ANY, gpu->has_gpm, gpu->gpm_streaming)
