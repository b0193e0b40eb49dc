/* The library and the node: coming and going, versions, and what belongs to no GPU. */
#include "base/text.h"
#include "sim/gpu/nvml_door.h"

#include <stdio.h>

/* --- coming and going ------------------------------------------------------------------------ */

nvmlReturn_t nvmlInit_v2(void)
{
    return door_open(__func__);
}

nvmlReturn_t nvmlInit(void)
{
    return door_open(__func__);
}

/* Nothing is attached and no node is too empty, so that none of the flags makes a difference. */
nvmlReturn_t nvmlInitWithFlags(uint32_t flags)
{
    return door_open(__func__);
}

nvmlReturn_t nvmlShutdown(void)
{
    return door_close(__func__);
}

const char *nvmlErrorString(nvmlReturn_t result)
{
    static const char *const texts[] = {
        [NVML_SUCCESS] = "Success",
        [NVML_UNINITIALIZED] = "Uninitialized",
        [NVML_INVALID_ARGUMENT] = "Invalid Argument",
        [NVML_NOT_SUPPORTED] = "Not Supported",
        [NVML_NO_PERMISSION] = "Insufficient Permissions",
        [NVML_ALREADY_INITIALIZED] = "Already Initialized",
        [NVML_NOT_FOUND] = "Not Found",
        [NVML_INSUFFICIENT_SIZE] = "Insufficient Size",
        [NVML_INSUFFICIENT_POWER] = "Insufficient External Power",
        [NVML_DRIVER_NOT_LOADED] = "Driver Not Loaded",
        [NVML_TIMEOUT] = "Timeout",
        [NVML_IRQ_ISSUE] = "Interrupt Request Issue",
        [NVML_LIBRARY_NOT_FOUND] = "NVML Shared Library Not Found",
        [NVML_FUNCTION_NOT_FOUND] = "Function Not Found",
        [NVML_CORRUPTED_INFOROM] = "Corrupted infoROM",
        [NVML_GPU_IS_LOST] = "GPU is lost",
        [NVML_RESET_REQUIRED] = "GPU requires reset",
        [NVML_OPERATING_SYSTEM] = "GPU access blocked by the operating system",
        [NVML_LIB_RM_VERSION_MISMATCH] = "Driver/library version mismatch",
        [NVML_IN_USE] = "In use by another client",
        [NVML_MEMORY] = "Insufficient Memory",
        [NVML_NO_DATA] = "No data",
        [NVML_VGPU_ECC_NOT_SUPPORTED] = "vGPU operation not supported with ECC enabled",
        [NVML_INSUFFICIENT_RESOURCES] = "Insufficient Resources",
        [NVML_FREQ_NOT_SUPPORTED] = "Requested frequency is not supported",
        [NVML_ARGUMENT_VERSION_MISMATCH] = "Argument version mismatch",
        [NVML_DEPRECATED] = "Deprecated",
        [NVML_NOT_READY] = "System is not ready",
        [NVML_GPU_NOT_FOUND] = "No GPUs were found",
        [NVML_INVALID_STATE] = "Invalid state",
        [NVML_RESET_TYPE_NOT_SUPPORTED] = "Reset type not supported",
    };

    return result < ARRAY_LEN(texts) && texts[result] ? texts[result] : "Unknown Error";
}

/* --- versions -------------------------------------------------------------------------------- */

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    return r ? r : door_text(version, length, door.state->driver_version);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    return r ? r : door_text(version, length, door.state->nvml_version);
}

static nvmlReturn_t cuda_version(const char *call, int32_t *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, call, 0);

    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;
    *ret = door.state->cuda_version;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int32_t *cudaDriverVersion)
{
    return cuda_version(__func__, cudaDriverVersion);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int32_t *cudaDriverVersion)
{
    return cuda_version(__func__, cudaDriverVersion);
}

nvmlReturn_t nvmlSystemGetDriverBranch(struct nvml_driver_branch_info *branchInfo, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    if (!branchInfo)
        return NVML_INVALID_ARGUMENT;
    if (branchInfo->version != NVML_VERSION(struct nvml_driver_branch_info, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    return door_text(branchInfo->branch, MIN(length, (uint32_t)sizeof(branchInfo->branch)),
                     door.state->driver_branch);
}

/* --- the node -------------------------------------------------------------------------------- */

nvmlReturn_t nvmlSystemGetProcessName(uint32_t pid, char *name, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, DOOR_LOCK);

    if (r)
        return r;
    if (!name || length == 0)
        return NVML_INVALID_ARGUMENT;
    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        const struct sim_process *process = &door.state->processes[i];

        if (process->exists && process->pid == pid) {
            snprintf(name, length, "%s", process->name); /* the driver cuts long names, too */
            return NVML_SUCCESS;
        }
    }
    return NVML_NOT_FOUND;
}

/* Confidential computing is off, and says so. */
nvmlReturn_t nvmlSystemGetConfComputeState(struct nvml_conf_compute_state *state)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    if (!state)
        return NVML_INVALID_ARGUMENT;
    *state = (struct nvml_conf_compute_state){};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemGetConfComputeSettings(struct nvml_conf_compute_settings *settings)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, __func__, 0);

    if (r)
        return r;
    if (!settings)
        return NVML_INVALID_ARGUMENT;
    if (settings->version != NVML_VERSION(struct nvml_conf_compute_settings, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    *settings = (struct nvml_conf_compute_settings){ .version = settings->version };
    return NVML_SUCCESS;
}

static nvmlReturn_t no_such_things(const char *call, uint32_t *ret_count)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, call, 0);

    if (r)
        return r;
    if (!ret_count)
        return NVML_INVALID_ARGUMENT;
    *ret_count = 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGetExcludedDeviceCount(uint32_t *deviceCount)
{
    return no_such_things(__func__, deviceCount);
}

nvmlReturn_t nvmlUnitGetCount(uint32_t *unitCount)
{
    return no_such_things(__func__, unitCount);
}
