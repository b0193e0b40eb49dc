/*
 * NVML's MIG calls: mode, MIG devices, GPU instances, compute instances. The rules are mig.c's;
 * here they get NVML's codes, structs and handles. Quirks that clients rely on: spec/nvml §2.
 *
 * Listing and asking needs no privilege, as the driver's mig/monitor capability is open to all;
 * every change needs root.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/gpu/mig.h"
#include "sim/gpu/nvml_door.h"
#include "sim/gpu/root.h"

enum { FIRST_GFX = 10, LAST_GFX = 12, CAPABILITY_GFX = 2 };

static nvmlReturn_t code_of(int r)
{
    switch (r) {
    case -EINVAL:
        return NVML_INVALID_ARGUMENT;
    case -ENOTSUP:
        return NVML_NOT_SUPPORTED;
    case -ENOENT:
        return NVML_NOT_FOUND;
    case -ENOSPC:
        return NVML_INSUFFICIENT_RESOURCES;
    case -EBUSY:
        return NVML_IN_USE;
    case -ENODEV:
        return NVML_GPU_IS_LOST;
    default:
        return r < 0 ? NVML_UNKNOWN : NVML_SUCCESS;
    }
}

/* The capability files follow each change; a node without them, or one whose files this user may
 * not write, is none the worse for it. */
static void update_files(const struct door *door, uint32_t gi)
{
    const char *dir = sim_node_dir();

    if (dir)
        (void)!sim_root_update(dir, door->state, door->gpu_index, gi, NULL);
}

/* A call on a GPU that must be able to do MIG. */
static nvmlReturn_t door_mig_gpu(struct door *door, const char *call, nvmlDevice_t device,
                                 unsigned flags)
{
    nvmlReturn_t r = door_device(door, call, device, flags);

    if (r)
        return r;
    return door->gpu->mig_capable ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

/* … and has it switched on. Holds the lock. */
static nvmlReturn_t door_mig_enabled(struct door *door, const char *call, nvmlDevice_t device,
                                     unsigned flags)
{
    nvmlReturn_t r = door_mig_gpu(door, call, device, flags | DOOR_LOCK);

    if (r)
        return r;
    return door->gpu->mig_current ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

/* --- mode ------------------------------------------------------------------------------------ */

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, uint32_t *currentMode, uint32_t *pendingMode)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_mig_gpu(&door, __func__, device, DOOR_LOCK);

    if (r)
        return r;
    if (!currentMode || !pendingMode)
        return NVML_INVALID_ARGUMENT;
    *currentMode = door.gpu->mig_current;
    *pendingMode = door.gpu->mig_pending;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, uint32_t mode, uint32_t *activationStatus)
{
    static const uint32_t codes[] = {
        [SIM_MIG_ACTIVE] = NVML_SUCCESS,
        [SIM_MIG_IN_USE] = NVML_IN_USE,
        [SIM_MIG_NEEDS_RESET] = NVML_RESET_REQUIRED,
    };
    auto_(door_leave) struct door door = {};
    enum sim_mig_activation activation;

    nvmlReturn_t r = door_mig_gpu(&door, __func__, device, DOOR_LOCK | DOOR_ROOT);
    if (r)
        return r;
    if (!activationStatus)
        return NVML_INVALID_ARGUMENT;
    r = code_of(sim_mig_mode_set(door.state, door.gpu, mode, &activation, NULL));
    if (r)
        return r;
    *activationStatus = codes[activation];
    return NVML_SUCCESS;
}

/* --- MIG devices ----------------------------------------------------------------------------- */

/* How many there can be: none while MIG is off. */
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_LOCK);

    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    *count = door.gpu->mig_capable && door.gpu->mig_current ? door.gpu->max_mig_devices : 0;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, uint32_t index,
                                                 nvmlDevice_t *migDevice)
{
    auto_(door_leave) struct door door = {};
    struct sim_mig_device mig;

    nvmlReturn_t r = door_mig_gpu(&door, __func__, device, DOOR_LOCK);
    if (r)
        return r;
    if (!migDevice || index >= door.gpu->max_mig_devices)
        return NVML_INVALID_ARGUMENT;
    if (!door.gpu->mig_current || sim_mig_device_at(door.gpu, index, &mig) < 0)
        return NVML_NOT_FOUND;
    *migDevice = door_mig_handle(door.gpu_index, mig.gi, mig.ci);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, uint32_t *id)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_MIG_ONLY);

    if (r)
        return r;
    if (!id)
        return NVML_INVALID_ARGUMENT;
    *id = door.gi->id;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, uint32_t *id)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_MIG_ONLY);

    if (r)
        return r;
    if (!id)
        return NVML_INVALID_ARGUMENT;
    *id = door.ci->id;
    return NVML_SUCCESS;
}

static uint32_t ci_slices(const struct door *door, const struct sim_compute_instance *ci)
{
    struct sim_ci_profile profile;

    if (sim_ci_profile_get(door->gpu, door->gi, ci->profile, &profile, NULL) < 0)
        return ci->size;
    return profile.slices;
}

static nvmlReturn_t device_attributes(const char *call, nvmlDevice_t device,
                                      struct nvml_device_attributes *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, call, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!door.ci)
        return NVML_NOT_SUPPORTED;
    if (!ret)
        return NVML_INVALID_ARGUMENT;

    const struct sim_profile *profile = &door.gpu->profiles[door.gi->profile];

    *ret = (struct nvml_device_attributes){
        .multiprocessorCount = door.ci->multiprocessors,
        .sharedCopyEngineCount = profile->copy_engines,
        .sharedDecoderCount = profile->decoders,
        .sharedEncoderCount = profile->encoders,
        .sharedJpegCount = profile->jpegs,
        .sharedOfaCount = profile->ofas,
        .gpuInstanceSliceCount = profile->slices,
        .computeInstanceSliceCount = ci_slices(&door, door.ci),
        .memorySizeMB = profile->memory_mib,
    };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device,
                                        struct nvml_device_attributes *attributes)
{
    return device_attributes(__func__, device, attributes);
}

nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, struct nvml_device_attributes *attributes)
{
    return device_attributes(__func__, device, attributes);
}

/* --- GPU instance profiles: with MIG off, too, but for older drivers -------------------------- */

static nvmlReturn_t find_gi_profile(const struct door *door, uint32_t profile,
                                    const struct sim_profile **ret)
{
    if (profile >= NVML_N_GI_PROFILES)
        return NVML_INVALID_ARGUMENT;
    if (door->state->mig_profiles_hidden && !door->gpu->mig_current)
        return NVML_NOT_SUPPORTED;
    *ret = &door->gpu->profiles[profile];
    return (*ret)->supported ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, uint32_t profile,
                                                 struct nvml_gi_profile_info *info)
{
    auto_(door_leave) struct door door = {};
    const struct sim_profile *found;

    nvmlReturn_t r = door_mig_gpu(&door, __func__, device, DOOR_PHYSICAL);
    if (r)
        return r;
    if (!info)
        return NVML_INVALID_ARGUMENT;
    r = find_gi_profile(&door, profile, &found);
    if (r)
        return r;
    *info = (struct nvml_gi_profile_info){
        .id = found->id,
        .isP2pSupported = 0, /* no board has it: spec/mig §2.1 */
        .sliceCount = found->slices,
        .instanceCount = found->max_instances,
        .multiprocessorCount = found->multiprocessors,
        .copyEngineCount = found->copy_engines,
        .decoderCount = found->decoders,
        .encoderCount = found->encoders,
        .jpegCount = found->jpegs,
        .ofaCount = found->ofas,
        .memorySizeMB = found->memory_mib,
    };
    return NVML_SUCCESS;
}

static void fill_gi_info_v2(const struct sim_profile *profile, struct nvml_gi_profile_info_v2 *info)
{
    *info = (struct nvml_gi_profile_info_v2){
        .version = info->version,
        .id = profile->id,
        .sliceCount = profile->slices,
        .instanceCount = profile->max_instances,
        .multiprocessorCount = profile->multiprocessors,
        .copyEngineCount = profile->copy_engines,
        .decoderCount = profile->decoders,
        .encoderCount = profile->encoders,
        .jpegCount = profile->jpegs,
        .ofaCount = profile->ofas,
        .memorySizeMB = profile->memory_mib,
    };
    snprintf(info->name, sizeof(info->name), "MIG %s", profile->name);
}

static void fill_gi_info_v3(const struct sim_profile *profile, bool graphics,
                            struct nvml_gi_profile_info_v3 *info)
{
    *info = (struct nvml_gi_profile_info_v3){
        .version = info->version,
        .id = profile->id,
        .sliceCount = profile->slices,
        .instanceCount = profile->max_instances,
        .multiprocessorCount = profile->multiprocessors,
        .copyEngineCount = profile->copy_engines,
        .decoderCount = profile->decoders,
        .encoderCount = profile->encoders,
        .jpegCount = profile->jpegs,
        .ofaCount = profile->ofas,
        .memorySizeMB = profile->memory_mib,
        .capabilities = graphics ? CAPABILITY_GFX : 0,
    };
    snprintf(info->name, sizeof(info->name), "MIG %s", profile->name);
}

nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, uint32_t profile, void *info)
{
    auto_(door_leave) struct door door = {};
    const struct sim_profile *found;

    nvmlReturn_t r = door_mig_gpu(&door, __func__, device, DOOR_PHYSICAL);
    if (r)
        return r;
    if (!info)
        return NVML_INVALID_ARGUMENT;

    uint32_t version = *(const uint32_t *)info;
    bool v2 = version == NVML_VERSION(struct nvml_gi_profile_info_v2, 2);

    if (!v2 && version != NVML_VERSION(struct nvml_gi_profile_info_v3, 3))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    r = find_gi_profile(&door, profile, &found);
    if (r)
        return r;
    if (v2)
        fill_gi_info_v2(found, info);
    else
        fill_gi_info_v3(found, profile >= FIRST_GFX && profile <= LAST_GFX, info);
    return NVML_SUCCESS;
}

/* Copies starts of one size. Without an array only their number is told. */
static nvmlReturn_t give_placements(const uint32_t *starts, uint32_t n, uint32_t size,
                                    struct nvml_placement *placements, uint32_t *count)
{
    uint32_t room = *count;

    *count = n;
    if (!placements)
        return NVML_SUCCESS;
    if (room < n)
        return NVML_INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < n; i++)
        placements[i] = (struct nvml_placement){ starts[i], size };
    return NVML_SUCCESS;
}

static nvmlReturn_t gi_placements(const char *call, nvmlDevice_t device, uint32_t profile_id,
                                  struct nvml_placement *placements, uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_mig_gpu(&door, call, device, DOOR_PHYSICAL);

    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    int profile = sim_gi_profile_of_id(door.gpu, profile_id, NULL);
    if (profile < 0)
        return code_of(profile);
    const struct sim_profile *found = &door.gpu->profiles[profile];
    return give_placements(found->starts, found->n_starts, found->size, placements, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, uint32_t profileId,
                                                           struct nvml_placement *placements,
                                                           uint32_t *count)
{
    return gi_placements(__func__, device, profileId, placements, count);
}

nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, uint32_t profileId,
                                                        struct nvml_placement *placements,
                                                        uint32_t *count)
{
    return gi_placements(__func__, device, profileId, placements, count);
}

/* --- GPU instances --------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, uint32_t profileId,
                                                       uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_mig_enabled(&door, __func__, device, DOOR_PHYSICAL);

    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    int profile = sim_gi_profile_of_id(door.gpu, profileId, NULL);
    if (profile < 0)
        return code_of(profile);
    *count = sim_gi_capacity(door.gpu, (uint32_t)profile);
    return NVML_SUCCESS;
}

static nvmlReturn_t create_gi(struct door *door, uint32_t profile_id,
                              const struct sim_placement *placement, nvmlGpuInstance_t *ret)
{
    struct sim_gpu_instance *gi;

    if (!ret)
        return NVML_INVALID_ARGUMENT;
    int r = sim_gi_profile_of_id(door->gpu, profile_id, NULL);
    if (r >= 0)
        r = sim_gi_create(door->state, door->gpu, (uint32_t)r, placement, &gi, NULL);
    if (r < 0)
        return code_of(r);
    update_files(door, gi->id);
    *ret = door_gi_handle(door->gpu_index, gi);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, uint32_t profileId,
                                         nvmlGpuInstance_t *gpuInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_mig_enabled(&door, __func__, device, DOOR_ROOT);

    return r ? r : create_gi(&door, profileId, NULL, gpuInstance);
}

nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, uint32_t profileId,
                                                      struct nvml_placement *placement,
                                                      nvmlGpuInstance_t *gpuInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_mig_enabled(&door, __func__, device, DOOR_ROOT);

    if (r)
        return r;
    if (!placement)
        return NVML_INVALID_ARGUMENT;
    struct sim_placement at = { placement->start, placement->size };
    return create_gi(&door, profileId, &at, gpuInstance);
}

nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t gpuInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, DOOR_ROOT);

    if (r)
        return r;
    r = code_of(sim_gi_destroy(door.state, door.gpu, door.gi, NULL));
    if (r == NVML_SUCCESS)
        update_files(&door, door.handle.gi);
    return r;
}

/* `count` comes in as the array's length and goes out as how many there are. */
nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, uint32_t profileId,
                                       nvmlGpuInstance_t *gpuInstances, uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    struct sim_gpu_instance *found[SIM_MAX_GPU_INSTANCES];

    nvmlReturn_t r = door_mig_enabled(&door, __func__, device, DOOR_PHYSICAL);
    if (r)
        return r;
    if (!gpuInstances || !count)
        return NVML_INVALID_ARGUMENT;
    int profile = sim_gi_profile_of_id(door.gpu, profileId, NULL);
    if (profile < 0)
        return code_of(profile);

    size_t n = sim_gi_list(door.gpu, (uint32_t)profile, found);
    uint32_t room = *count;

    *count = (uint32_t)n;
    if (n > room)
        return NVML_INSUFFICIENT_SIZE;
    for (size_t i = 0; i < n; i++)
        gpuInstances[i] = door_gi_handle(door.gpu_index, found[i]);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, uint32_t id,
                                          nvmlGpuInstance_t *gpuInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_mig_enabled(&door, __func__, device, DOOR_PHYSICAL);

    if (r)
        return r;
    if (!gpuInstance)
        return NVML_INVALID_ARGUMENT;
    const struct sim_gpu_instance *gi = sim_gi_by_id(door.gpu, id);
    if (!gi)
        return NVML_NOT_FOUND;
    *gpuInstance = door_gi_handle(door.gpu_index, gi);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t gpuInstance, struct nvml_gi_info *info)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);

    if (r)
        return r;
    if (!info)
        return NVML_INVALID_ARGUMENT;
    *info = (struct nvml_gi_info){
        .device = door_gpu_handle(door.gpu_index),
        .id = door.gi->id,
        .profileId = door.gpu->profiles[door.gi->profile].id,
        .placement = { door.gi->start, door.gi->size },
    };
    return NVML_SUCCESS;
}

/* --- compute instance profiles --------------------------------------------------------------- */

/* Everything a profile's info says, in the layout with a name; the others are cut from it. */
static nvmlReturn_t ci_profile_info(const struct door *door, uint32_t profile, uint32_t engines,
                                    struct nvml_ci_profile_info_v3 *ret)
{
    const struct sim_profile *gi = &door->gpu->profiles[door->gi->profile];
    struct sim_ci_profile found;

    int r = sim_ci_profile_get(door->gpu, door->gi, profile, &found, NULL);
    if (r < 0)
        return code_of(r);
    if (engines != 0) /* all compute instances share the engines of their GPU instance */
        return NVML_NOT_SUPPORTED;
    *ret = (struct nvml_ci_profile_info_v3){
        .version = ret->version,
        .id = profile,
        .sliceCount = found.slices,
        .instanceCount = found.max_instances,
        .multiprocessorCount = found.multiprocessors,
        .sharedCopyEngineCount = gi->copy_engines,
        .sharedDecoderCount = gi->decoders,
        .sharedEncoderCount = gi->encoders,
        .sharedJpegCount = gi->jpegs,
        .sharedOfaCount = gi->ofas,
    };
    if (found.slices == gi->slices)
        snprintf(ret->name, sizeof(ret->name), "MIG %s", gi->name);
    else
        snprintf(ret->name, sizeof(ret->name), "MIG %uc.%s", found.slices, gi->name);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t gpuInstance,
                                                          uint32_t profile, uint32_t engProfile,
                                                          struct nvml_ci_profile_info *info)
{
    auto_(door_leave) struct door door = {};
    struct nvml_ci_profile_info_v3 found = {};

    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);
    if (r)
        return r;
    if (!info)
        return NVML_INVALID_ARGUMENT;
    r = ci_profile_info(&door, profile, engProfile, &found);
    if (r)
        return r;
    *info = (struct nvml_ci_profile_info){
        .id = found.id,
        .sliceCount = found.sliceCount,
        .instanceCount = found.instanceCount,
        .multiprocessorCount = found.multiprocessorCount,
        .sharedCopyEngineCount = found.sharedCopyEngineCount,
        .sharedDecoderCount = found.sharedDecoderCount,
        .sharedEncoderCount = found.sharedEncoderCount,
        .sharedJpegCount = found.sharedJpegCount,
        .sharedOfaCount = found.sharedOfaCount,
    };
    return NVML_SUCCESS;
}

/* v2 is v3 without the capabilities at its end. */
static_assert(offsetof(struct nvml_ci_profile_info_v3, capabilities) ==
              sizeof(struct nvml_ci_profile_info_v2));

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t gpuInstance,
                                                           uint32_t profile, uint32_t engProfile,
                                                           void *info)
{
    auto_(door_leave) struct door door = {};
    struct nvml_ci_profile_info_v3 found = {};

    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);
    if (r)
        return r;
    if (!info)
        return NVML_INVALID_ARGUMENT;

    found.version = *(const uint32_t *)info;
    if (found.version != NVML_VERSION(struct nvml_ci_profile_info_v2, 2) &&
        found.version != NVML_VERSION(struct nvml_ci_profile_info_v3, 3))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    r = ci_profile_info(&door, profile, engProfile, &found);
    if (r)
        return r;
    memcpy(info, &found, found.version & 0xffffff);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t gpuInstance,
                                                                 uint32_t profileId,
                                                                 struct nvml_placement *placements,
                                                                 uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    struct sim_ci_profile profile;

    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);
    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    r = code_of(sim_ci_profile_get(door.gpu, door.gi, profileId, &profile, NULL));
    if (r)
        return r;
    return give_placements(profile.starts, profile.n_starts, profile.size, placements, count);
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t gpuInstance,
                                                                uint32_t profileId, uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    struct sim_ci_profile profile;

    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);
    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    r = code_of(sim_ci_profile_get(door.gpu, door.gi, profileId, &profile, NULL));
    if (r)
        return r;
    *count = sim_ci_capacity(door.gpu, door.gi, profileId);
    return NVML_SUCCESS;
}

/* --- compute instances ----------------------------------------------------------------------- */

static nvmlReturn_t create_ci(struct door *door, uint32_t profile_id,
                              const struct sim_placement *placement, nvmlComputeInstance_t *ret)
{
    struct sim_compute_instance *ci;

    if (!ret)
        return NVML_INVALID_ARGUMENT;
    int r = sim_ci_create(door->state, door->gpu, door->gi, profile_id, placement, &ci, NULL);
    if (r < 0)
        return code_of(r);
    update_files(door, door->gi->id);
    *ret = door_ci_handle(door->gpu_index, door->gi, ci);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t gpuInstance, uint32_t profileId,
                                                  nvmlComputeInstance_t *computeInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, DOOR_ROOT);

    return r ? r : create_ci(&door, profileId, NULL, computeInstance);
}

nvmlReturn_t
nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t gpuInstance, uint32_t profileId,
                                                  struct nvml_placement *placement,
                                                  nvmlComputeInstance_t *computeInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, DOOR_ROOT);

    if (r)
        return r;
    if (!placement)
        return NVML_INVALID_ARGUMENT;
    struct sim_placement at = { placement->start, placement->size };
    return create_ci(&door, profileId, &at, computeInstance);
}

nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t computeInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_compute_instance(&door, __func__, computeInstance, DOOR_ROOT);

    if (r)
        return r;
    r = code_of(sim_ci_destroy(door.state, door.gpu, door.gi, door.ci, NULL));
    if (r == NVML_SUCCESS)
        update_files(&door, door.handle.gi);
    return r;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t gpuInstance, uint32_t profileId,
                                                nvmlComputeInstance_t *computeInstances,
                                                uint32_t *count)
{
    auto_(door_leave) struct door door = {};
    nvmlComputeInstance_t found[SIM_MAX_COMPUTE_INSTANCES];
    struct sim_ci_profile profile;
    uint32_t n = 0;

    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);
    if (r)
        return r;
    if (!computeInstances || !count)
        return NVML_INVALID_ARGUMENT;
    r = code_of(sim_ci_profile_get(door.gpu, door.gi, profileId, &profile, NULL));
    if (r)
        return r;

    for (uint32_t id = 0; id < SIM_MAX_COMPUTE_INSTANCES; id++) {
        const struct sim_compute_instance *ci = &door.gi->compute[id];

        if (ci->exists && ci->profile == profileId)
            found[n++] = door_ci_handle(door.gpu_index, door.gi, ci);
    }
    uint32_t room = *count;

    *count = n;
    if (n > room)
        return NVML_INSUFFICIENT_SIZE;
    memcpy(computeInstances, found, n * sizeof(found[0]));
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t gpuInstance, uint32_t id,
                                                   nvmlComputeInstance_t *computeInstance)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_gpu_instance(&door, __func__, gpuInstance, 0);

    if (r)
        return r;
    if (!computeInstance)
        return NVML_INVALID_ARGUMENT;
    const struct sim_compute_instance *ci = sim_ci_by_id(door.gi, id);
    if (!ci)
        return NVML_NOT_FOUND;
    *computeInstance = door_ci_handle(door.gpu_index, door.gi, ci);
    return NVML_SUCCESS;
}

/* The first `size` bytes: callers of the unversioned entry point have a struct without placement.
 */
static nvmlReturn_t ci_info(const char *call, nvmlComputeInstance_t instance, size_t size,
                            struct nvml_ci_info *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_compute_instance(&door, call, instance, 0);

    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;

    struct nvml_ci_info info = {
        .device = door_mig_handle(door.gpu_index, door.gi, door.ci),
        .gpuInstance = door_gi_handle(door.gpu_index, door.gi),
        .id = door.ci->id,
        .profileId = door.ci->profile,
        .placement = { door.ci->start, door.ci->size },
    };
    memcpy(ret, &info, size);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t computeInstance,
                                           struct nvml_ci_info *info)
{
    return ci_info(__func__, computeInstance, sizeof(*info), info);
}

nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t computeInstance,
                                        struct nvml_ci_info *info)
{
    return ci_info(__func__, computeInstance, offsetof(struct nvml_ci_info, placement), info);
}
