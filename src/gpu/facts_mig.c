#include <errno.h>
#include <string.h>

#include "gpu/facts.h"
#include "gpu/nvml_table.h"
#include "share/mig_profile.h"

/* The GPU instance profiles that this GPU has, by enum. */
struct gi_profiles {
    bool known[MIG_GI_PROFILES];
    struct nvml_gi_profile_info info[MIG_GI_PROFILES];
};

/* Asks for each profile once. Enums that this GPU has not are NOT_SUPPORTED or INVALID_ARGUMENT. */
static int read_gi_profiles(struct facts_reader *reader, struct gi_profiles *ret, struct err *err)
{
    for (uint32_t i = 0; i < MIG_GI_PROFILES; i++) {
        nvmlReturn_t code = reader->nvml->gi_profile_info(reader->device, i, &ret->info[i]);
        ret->known[i] = code == NVML_SUCCESS;
        if (code == NVML_INVALID_ARGUMENT || facts_note(reader, code) || code == NVML_NOT_SUPPORTED)
            continue;
        return nvml_fail(reader->nvml, code, err, "cannot read its MIG profile %u", i);
    }
    return 0;
}

/* ---- what it could be cut into ---- */

static bool has_profile(const struct gpu *gpu, const char *name)
{
    for (size_t i = 0; i < gpu->n_mig_profiles; i++)
        if (text_equal(gpu->mig_profiles[i].name, name))
            return true;
    return false;
}

/* One pair of enums, unless a pair before it has the same name: the first one wins. */
static int add_profile(struct facts_reader *reader, const struct nvml_gi_profile_info *info,
                       uint32_t gi, uint32_t ci, struct err *err)
{
    struct gpu_facts *facts = reader->facts;
    struct gpu *gpu = &facts->gpu;
    struct mig_profile profile;
    char name[MIG_PROFILE_NAME_MAX];

    int r = mig_profile_make(gi, ci, info->memorySizeMB, gpu->memory_bytes.value, &profile, err);
    if (r < 0)
        return r;
    mig_profile_name(&profile, name);
    if (has_profile(gpu, name) || gpu->n_mig_profiles >= INVENTORY_MAX_PROFILES)
        return 0;
    struct mig_profile_info *item =
        arena_push(&facts->arena, &gpu->mig_profiles, &gpu->n_mig_profiles);
    if (!item)
        return err_no_memory(err);
    *item = (struct mig_profile_info){
        .gi_profile = gi,
        .ci_profile = ci,
        .driver_id = info->id,
        .name = facts_text(reader, name),
        .whole = profile.c == profile.g,
        .max_instances = info->instanceCount * (profile.g / profile.c),
        .memory_mib = info->memorySizeMB,
    };
    return item->name ? 0 : err_no_memory(err);
}

/* Pairs in the order of spec/mig §1.8. Whether a compute instance profile exists is guessed there,
 * because NVML can only be asked about a GPU instance that exists. */
static int list_profiles(struct facts_reader *reader, const struct gi_profiles *profiles,
                         struct err *err)
{
    for (uint32_t gi = 0; gi < MIG_GI_PROFILES; gi++) {
        uint32_t g = mig_gi_profile_slices(gi);
        for (uint32_t ci = 0; profiles->known[gi] && ci < MIG_CI_PROFILES; ci++) {
            uint32_t c = mig_ci_profile_slices(ci);
            if (c == 0 || c > g || (c < g && 2 * c > g + 1))
                continue;
            int r = add_profile(reader, &profiles->info[gi], gi, ci, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* ---- what it is cut into ---- */

/* The GPU instance that was looked at last: several compute instances may share it. */
struct gi_seen {
    nvmlGpuInstance_t gi;
    struct nvml_gi_info info;
    uint32_t profile; /* the enum */
};

static int find_gi(struct facts_reader *reader, const struct gi_profiles *profiles, uint32_t id,
                   struct gi_seen *seen, struct err *err)
{
    const struct nvml *nvml = reader->nvml;

    if (seen->gi && seen->info.id == id)
        return 0;
    seen->gi = NULL;
    nvmlGpuInstance_t gi = NULL;
    nvmlReturn_t code = nvml->gi_by_id(reader->device, id, &gi);
    if (facts_note(reader, code))
        code = nvml->gi_info(gi, &seen->info);
    if (!facts_note(reader, code))
        return nvml_fail(nvml, code, err, "cannot read its GPU instance %u", id);

    for (uint32_t i = 0; i < MIG_GI_PROFILES; i++) {
        if (profiles->known[i] && profiles->info[i].id == seen->info.profileId) {
            seen->gi = gi;
            seen->profile = i;
            return 0;
        }
    }
    return err_set(err, EPROTO, "its GPU instance %u has profile %u, which NVML does not list", id,
                   seen->info.profileId);
}

/* The enum whose profile id is the instance's. Today both are the same number (spec/mig §1.3), so
 * the first question usually is the last. */
static int find_ci_profile(struct facts_reader *reader, nvmlGpuInstance_t gi, uint32_t id,
                           uint32_t *ret, struct err *err)
{
    struct nvml_ci_profile_info info;

    for (uint32_t i = 0; i < MIG_CI_PROFILES; i++) {
        uint32_t profile = (id + i) % MIG_CI_PROFILES;
        nvmlReturn_t code = reader->nvml->ci_profile_info(gi, profile, 0, &info);
        if (code == NVML_SUCCESS && info.id == id)
            return *ret = profile, 0;
        if (code != NVML_SUCCESS && code != NVML_INVALID_ARGUMENT && !facts_note(reader, code) &&
            code != NVML_NOT_SUPPORTED)
            return nvml_fail(reader->nvml, code, err, "cannot read compute instance profile %u",
                             profile);
    }
    return err_set(err, EPROTO, "a compute instance has profile %u, which NVML does not list", id);
}

static int read_ci(struct facts_reader *reader, nvmlGpuInstance_t gi, struct mig_device *mig,
                   struct err *err)
{
    const struct nvml *nvml = reader->nvml;
    struct nvml_ci_info info = {};
    nvmlComputeInstance_t ci = NULL;

    nvmlReturn_t code = nvml->ci_by_id(gi, mig->ci_id, &ci);
    if (facts_note(reader, code))
        code = nvml->ci_info(ci, &info);
    if (!facts_note(reader, code))
        return nvml_fail(nvml, code, err, "cannot read compute instance %u of GPU instance %u",
                         mig->ci_id, mig->gi_id);
    return find_ci_profile(reader, gi, info.profileId, &mig->ci_profile, err);
}

/* What the handle of a MIG device says about itself. */
static int read_handle(struct facts_reader *reader, nvmlDevice_t device, struct mig_device *mig,
                       struct err *err)
{
    const struct nvml *nvml = reader->nvml;
    struct nvml_device_attributes attributes = {};
    char uuid[NVML_STRING_SIZE] = "";

    nvmlReturn_t code = nvml->uuid(device, uuid, sizeof(uuid));
    if (facts_note(reader, code))
        code = nvml->mig_gi_id(device, &mig->gi_id);
    if (facts_note(reader, code))
        code = nvml->mig_ci_id(device, &mig->ci_id);
    if (facts_note(reader, code))
        code = nvml->mig_attributes(device, &attributes);
    if (!facts_note(reader, code))
        return nvml_fail(nvml, code, err, "cannot read its MIG device %u", mig->index);

    uuid[sizeof(uuid) - 1] = '\0';
    mig->uuid = facts_text(reader, uuid);
    mig->attributes = (struct mig_attributes){
        .multiprocessors = attributes.multiprocessorCount,
        .copy_engines = attributes.sharedCopyEngineCount,
        .decoders = attributes.sharedDecoderCount,
        .encoders = attributes.sharedEncoderCount,
        .jpegs = attributes.sharedJpegCount,
        .ofas = attributes.sharedOfaCount,
        .gpu_instance_slices = attributes.gpuInstanceSliceCount,
        .compute_instance_slices = attributes.computeInstanceSliceCount,
        .memory_mib = attributes.memorySizeMB,
    };
    return mig->uuid ? 0 : err_no_memory(err);
}

/* As the device plugin names it: with the device's own memory size, not the profile's. */
static int name_device(struct facts_reader *reader, struct mig_device *mig, struct err *err)
{
    struct mig_profile profile;
    char name[MIG_PROFILE_NAME_MAX];

    int r = mig_profile_make(mig->gi_profile, mig->ci_profile, mig->attributes.memory_mib,
                             reader->facts->gpu.memory_bytes.value, &profile, err);
    if (r < 0)
        return err_wrap(err, r, "its MIG device %u", mig->index);
    mig_profile_name(&profile, name);
    mig->whole = profile.c == profile.g;
    mig->profile = facts_text(reader, name);
    return mig->profile ? 0 : err_no_memory(err);
}

static int read_device(struct facts_reader *reader, const struct gi_profiles *profiles,
                       uint32_t index, nvmlDevice_t device, struct gi_seen *seen, struct err *err)
{
    struct gpu_facts *facts = reader->facts;
    struct mig_device *mig =
        arena_push(&facts->arena, &facts->gpu.mig_devices, &facts->gpu.n_mig_devices);

    if (!mig)
        return err_no_memory(err);
    mig->index = index;
    int r = read_handle(reader, device, mig, err);
    if (r == 0)
        r = find_gi(reader, profiles, mig->gi_id, seen, err);
    if (r < 0)
        return r;
    mig->gi_profile = seen->profile;
    mig->start = seen->info.placement.start;
    mig->size = seen->info.placement.size;
    r = read_ci(reader, seen->gi, mig, err);
    if (r < 0)
        return r;
    return name_device(reader, mig, err);
}

/* Slots may be empty: NOT_FOUND or INVALID_ARGUMENT (spec/nvml §2). */
static int read_devices(struct facts_reader *reader, const struct gi_profiles *profiles,
                        struct err *err)
{
    const struct nvml *nvml = reader->nvml;
    struct gi_seen seen = {};
    uint32_t n = 0;

    nvmlReturn_t code = nvml->mig_max_devices(reader->device, &n);
    if (!facts_note(reader, code))
        return nvml_fail(nvml, code, err, "cannot count its MIG devices");
    for (uint32_t i = 0; i < MIN(n, (uint32_t)INVENTORY_MAX_MIG_DEVICES); i++) {
        nvmlDevice_t device = NULL;
        code = nvml->mig_device_by_index(reader->device, i, &device);
        if (code == NVML_NOT_FOUND || code == NVML_INVALID_ARGUMENT)
            continue;
        if (!facts_note(reader, code))
            return nvml_fail(nvml, code, err, "cannot reach its MIG device %u", i);
        int r = read_device(reader, profiles, i, device, &seen, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- both ---- */

int facts_read_mig(struct facts_reader *reader, struct err *err)
{
    struct gpu *gpu = &reader->facts->gpu;
    struct gi_profiles profiles = {};
    uint32_t current = 0, pending = 0;

    nvmlReturn_t code = reader->nvml->mig_mode(reader->device, &current, &pending);
    if (code == NVML_NOT_SUPPORTED || code == NVML_FUNCTION_NOT_FOUND)
        return 0;
    if (!facts_note(reader, code))
        return nvml_fail(reader->nvml, code, err, "cannot read its MIG mode");
    gpu->mig_capable = true;
    gpu->mig_enabled = current == NVML_MIG_ENABLED;
    gpu->mig_pending = pending == NVML_MIG_ENABLED;
    if (!gpu->memory_bytes.known || gpu->memory_bytes.value == 0)
        return gpu->mig_enabled
                   ? err_set(err, ENODATA, "cannot name its MIG devices without its memory size")
                   : 0;

    int r = read_gi_profiles(reader, &profiles, err);
    if (r < 0) /* with MIG off they are a service of newer drivers only */
        return gpu->mig_enabled ? r : 0;
    r = list_profiles(reader, &profiles, err);
    if (r < 0)
        return r;
    return gpu->mig_enabled ? read_devices(reader, &profiles, err) : 0;
}
