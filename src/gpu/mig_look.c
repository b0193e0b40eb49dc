#include "gpu/mig_look.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gpu/devnode.h"
#include "gpu/facts.h"
#include "gpu/mig_holders.h"
#include "gpu/nvml_table.h"

enum {
    LOOK_TRIES = 3, /* an instance may go away between its listing and its reading */
    KNOWN_CI_PROFILES = 64,
    PCI_VENDOR_BITS = 16,
    A30 = 0x20b7,
};

/* One look at the node. */
struct look {
    const struct nvml *nvml;
    const struct mig_look_options *options;
    struct arena *arena;
    struct mig_node *node;
    /* Which enum a compute instance's profile id is: asked once for each kind of GPU instance. */
    size_t n_known;
    struct {
        uint32_t board, gi_profile, id, ci_profile;
    } known[KNOWN_CI_PROFILES];
};

/* One GPU while it is read. */
struct reader {
    struct look *look;
    nvmlDevice_t device;
    struct mig_gpu *gpu;
    bool stumbled; /* a call failed that need not fail again */
    bool display, other;
    nvmlDevice_t mig[MIG_MAX_GPU_INSTANCES][MIG_MAX_COMPUTE_INSTANCES]; /* as gpu->gis */
};

PRINTF(4, 5)
static int fail(struct reader *reader, nvmlReturn_t code, struct err *err, const char *format, ...)
{
    char what[128];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    reader->stumbled |= facts_may_retry(code);
    return nvml_fail(reader->look->nvml, code, err, "%s", what);
}

static const char *keep_text(struct look *look, char *text)
{
    text_make_harmless(text);
    return arena_strdup(look->arena, text);
}

/* ---- who it is ---- */

static int read_text(struct reader *reader,
                     nvmlReturn_t (*call)(nvmlDevice_t device, char *text, uint32_t length),
                     nvmlDevice_t device, const char *what, const char **ret, struct err *err)
{
    char text[NVML_STRING_SIZE] = "";
    nvmlReturn_t code = call(device, text, sizeof(text));

    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read its %s", what);
    text[sizeof(text) - 1] = '\0';
    *ret = keep_text(reader->look, text);
    return *ret ? 0 : err_no_memory(err);
}

static int read_pci(struct reader *reader, struct err *err)
{
    struct nvml_pci_info pci = {};
    char name[PCI_NAME_SIZE];

    nvmlReturn_t code = reader->look->nvml->pci_info(reader->device, &pci);
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read its PCI address");
    pci.busId[sizeof(pci.busId) - 1] = '\0';
    if (!pci_name_from_nvml(pci.busId, name))
        return err_set(err, EPROTO, "its PCI address \"%s\" is none", pci.busId);
    reader->gpu->pci_device_id = pci.pciDeviceId;
    reader->gpu->pci_subsystem_id = pci.pciSubSystemId;
    reader->gpu->bus_id = arena_strdup(reader->look->arena, name);
    return reader->gpu->bus_id ? 0 : err_no_memory(err);
}

static int read_identity(struct reader *reader, struct err *err)
{
    const struct nvml *nvml = reader->look->nvml;
    const char *only = reader->look->options->uuid;
    struct mig_gpu *gpu = reader->gpu;

    nvmlReturn_t code = nvml->device_by_index(gpu->index, &reader->device);
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot reach it");
    int r = read_text(reader, nvml->uuid, reader->device, "UUID", &gpu->uuid, err);
    if (r < 0)
        return r;
    reader->other = only && !text_equal(only, gpu->uuid);
    if (reader->other)
        return 0;
    r = read_text(reader, nvml->name, reader->device, "name", &gpu->name, err);
    if (r < 0)
        return r;
    reader->display = facts_is_display_name(gpu->name);
    return reader->display ? 0 : read_pci(reader, err);
}

static int read_mode(struct reader *reader, struct err *err)
{
    const struct nvml *nvml = reader->look->nvml;
    struct mig_gpu *gpu = reader->gpu;
    uint32_t current = 0, pending = 0;

    nvmlReturn_t code = nvml->mig_mode(reader->device, &current, &pending);
    if (code == NVML_NOT_SUPPORTED || code == NVML_FUNCTION_NOT_FOUND)
        return 0;
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read its MIG mode");
    gpu->capable = true;
    gpu->enabled = current == NVML_MIG_ENABLED;
    gpu->pending = pending == NVML_MIG_ENABLED;
    return 0;
}

static int read_abilities(struct reader *reader, struct err *err)
{
    const struct nvml *nvml = reader->look->nvml;
    struct nvml_memory memory = {};
    int32_t major = 0, minor = 0;

    int r = read_mode(reader, err);
    if (r < 0 || !reader->gpu->capable)
        return r;
    nvmlReturn_t code = nvml->memory(reader->device, &memory);
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read its memory size");
    if (memory.total == 0)
        return err_set(err, ENODATA, "cannot name its MIG profiles without its memory size");
    reader->gpu->memory_bytes = memory.total;
    if (nvml->compute_capability(reader->device, &major, &minor) == NVML_SUCCESS)
        reader->gpu->cc_major = major;
    return 0;
}

/* ---- what could be made ---- */

/* The numbers that NVML gives for A30 are wrong: spec/mig §2.3. */
static void repair_a30(struct mig_gi_profile *profile)
{
    static const struct {
        uint8_t gi_profile, max;
    } rows[] = { { 0, 4 }, { 7, 1 }, { 1, 2 }, { 8, 1 }, { 3, 1 } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].gi_profile == profile->gi_profile)
            profile->max_instances = rows[i].max;
}

/* A profile that is younger than we are: the driver's own name for it, else one of its numbers. */
static void name_unknown(struct reader *reader, struct mig_gi_profile *profile,
                         char name[static MIG_PROFILE_NAME_MAX])
{
    struct nvml_gi_profile_info_v2 info = { .version = NVML_VERSION(info, 2) };
    struct mig_profile parsed;

    profile->profile.c = profile->profile.g = profile->slices;
    mig_profile_name(&profile->profile, name);
    if (reader->look->nvml->gi_profile_info_v(reader->device, profile->gi_profile, &info) !=
        NVML_SUCCESS)
        return;
    info.name[sizeof(info.name) - 1] = '\0';
    const char *told = text_starts(info.name, "MIG ") ? info.name + 4 : info.name;
    int r = mig_profile_parse(span_of(told), &parsed, NULL);
    if (r == 0)
        profile->profile = parsed;
    if (r == 0 || r == -ENOENT) /* in proper form (and length), with an attribute new to us */
        strcpy(name, told);
}

static int name_profile(struct reader *reader, struct mig_gi_profile *profile, struct err *err)
{
    /* The enum of 7-slice compute instances and its like is not needed: C = G is set below. */
    uint32_t known = profile->gi_profile < MIG_GI_PROFILES ? profile->gi_profile : 0;
    char name[MIG_PROFILE_NAME_MAX];

    int r = mig_profile_make(known, 0, profile->memory_mib, reader->gpu->memory_bytes,
                             &profile->profile, err);
    if (r < 0)
        return r;
    profile->profile.c = profile->profile.g;
    if (known == profile->gi_profile)
        mig_profile_name(&profile->profile, name);
    else
        name_unknown(reader, profile, name);
    profile->name = arena_strdup(reader->look->arena, name);
    return profile->name ? 0 : err_no_memory(err);
}

static int read_placements(struct reader *reader, struct mig_gi_profile *profile, struct err *err)
{
    struct nvml_placement places[MIG_MAX_PLACEMENTS] = {};
    uint32_t n = ARRAY_LEN(places);

    nvmlReturn_t code =
        reader->look->nvml->gi_placements(reader->device, profile->driver_id, places, &n);
    if (code == NVML_NOT_SUPPORTED || code == NVML_INSUFFICIENT_SIZE)
        return 0; /* then nothing can be planned on it */
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read where %s may be", profile->name);
    for (uint32_t i = 0; i < MIN(n, (uint32_t)ARRAY_LEN(places)); i++) {
        if (places[i].size == 0 || places[i].size > MIG_MAX_MEMORY_SLICES ||
            places[i].start > MIG_MAX_MEMORY_SLICES - places[i].size)
            return err_set(err, EPROTO, "%s cannot be at %u:%u", profile->name, places[i].start,
                           places[i].size);
        profile->placements[profile->n_placements++] =
            (struct mig_placement){ places[i].start, places[i].size };
    }
    return 0;
}

static int add_profile(struct reader *reader, uint32_t gi_profile,
                       const struct nvml_gi_profile_info *info, struct err *err)
{
    struct mig_gpu *gpu = reader->gpu;
    struct mig_gi_profile *profile = &gpu->profiles[gpu->n_profiles];

    *profile = (struct mig_gi_profile){
        .gi_profile = gi_profile,
        .driver_id = info->id,
        .slices = info->sliceCount,
        .max_instances = info->instanceCount,
        .memory_mib = info->memorySizeMB,
        .multiprocessors = info->multiprocessorCount,
        .copy_engines = info->copyEngineCount,
        .decoders = info->decoderCount,
        .encoders = info->encoderCount,
        .jpegs = info->jpegCount,
        .ofas = info->ofaCount,
    };
    if (gpu->pci_device_id >> PCI_VENDOR_BITS == A30)
        repair_a30(profile);
    int r = name_profile(reader, profile, err);
    if (r == 0)
        r = read_placements(reader, profile, err);
    if (r < 0)
        return r;
    gpu->n_profiles++;
    return 0;
}

/* Known enums that this GPU has not are NOT_SUPPORTED or INVALID_ARGUMENT; beyond them the first
 * INVALID_ARGUMENT is the end (spec/mig §6.3). */
static int ask_profiles(struct reader *reader, struct err *err)
{
    for (uint32_t i = 0; i < MIG_MAX_GI_PROFILES; i++) {
        struct nvml_gi_profile_info info = {};
        nvmlReturn_t code = reader->look->nvml->gi_profile_info(reader->device, i, &info);

        if (code == NVML_INVALID_ARGUMENT && i >= MIG_GI_PROFILES)
            break;
        if (code == NVML_NOT_SUPPORTED || code == NVML_INVALID_ARGUMENT)
            continue;
        if (code != NVML_SUCCESS)
            return fail(reader, code, err, "cannot read its MIG profile %u", i);
        if (info.sliceCount == 0 || info.sliceCount > MIG_MAX_MEMORY_SLICES)
            continue; /* nothing that could be counted with */
        int r = add_profile(reader, i, &info, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool same_kind(const struct mig_gpu *a, const struct mig_gpu *b)
{
    return a->pci_device_id == b->pci_device_id && a->pci_subsystem_id == b->pci_subsystem_id &&
           a->memory_bytes == b->memory_bytes && text_equal(a->name, b->name);
}

static void measure(struct mig_gpu *gpu)
{
    gpu->memory_slices = gpu->slices = 0;
    for (size_t i = 0; i < gpu->n_profiles; i++) {
        const struct mig_gi_profile *profile = &gpu->profiles[i];

        gpu->slices = MAX(gpu->slices, profile->slices);
        for (size_t j = 0; j < profile->n_placements; j++)
            gpu->memory_slices =
                MAX(gpu->memory_slices, profile->placements[j].start + profile->placements[j].size);
    }
}

/* From a board of the same kind that has told them; false when there is none. */
static bool borrow_profiles(const struct mig_node *node, struct mig_gpu *gpu)
{
    for (size_t i = 0; i < node->n_gpus; i++) {
        const struct mig_gpu *kin = &node->gpus[i];

        if (kin == gpu || kin->n_profiles == 0 || !same_kind(kin, gpu))
            continue;
        memcpy(gpu->profiles, kin->profiles, kin->n_profiles * sizeof(kin->profiles[0]));
        gpu->n_profiles = kin->n_profiles;
        measure(gpu);
        return true;
    }
    return false;
}

static int read_profiles(struct reader *reader, struct err *err)
{
    struct mig_gpu *gpu = reader->gpu;

    if (borrow_profiles(reader->look->node, gpu))
        return 0;
    int r = ask_profiles(reader, err);
    if (r < 0)
        return r;
    if (gpu->enabled && gpu->n_profiles == 0)
        return err_set(err, ENOTSUP, "its driver tells no MIG profiles");
    measure(gpu);
    return 0;
}

/* ---- what is there ---- */

/* The enum of a compute instance's profile id: usually the same number (spec/mig §1.3). */
static int ci_profile_of(struct reader *reader, nvmlGpuInstance_t gi, uint32_t gi_profile,
                         uint32_t id, uint32_t *ret, struct err *err)
{
    struct look *look = reader->look;
    uint32_t board = reader->gpu->pci_device_id;

    for (size_t i = 0; i < look->n_known; i++)
        if (look->known[i].board == board && look->known[i].gi_profile == gi_profile &&
            look->known[i].id == id)
            return *ret = look->known[i].ci_profile, 0;
    for (uint32_t i = 0; i < MIG_CI_PROFILES; i++) {
        struct nvml_ci_profile_info info = {};
        uint32_t profile = (id + i) % MIG_CI_PROFILES;
        nvmlReturn_t code = look->nvml->ci_profile_info(gi, profile, 0, &info);

        if (code != NVML_SUCCESS && code != NVML_NOT_SUPPORTED && code != NVML_INVALID_ARGUMENT)
            return fail(reader, code, err, "cannot read compute instance profile %u", profile);
        if (code != NVML_SUCCESS || info.id != id)
            continue;
        if (look->n_known < KNOWN_CI_PROFILES) {
            look->known[look->n_known].board = board;
            look->known[look->n_known].gi_profile = gi_profile;
            look->known[look->n_known].id = id;
            look->known[look->n_known++].ci_profile = profile;
        }
        return *ret = profile, 0;
    }
    reader->stumbled = true; /* an instance that is gone answers so, too */
    return err_set(err, EPROTO, "a compute instance has profile %u, which NVML does not list", id);
}

/* *ret_slices: how many compute slices it takes. */
static int read_ci(struct reader *reader, nvmlGpuInstance_t handle, nvmlComputeInstance_t instance,
                   struct mig_gpu_instance *gi, uint32_t *ret_slices, struct err *err)
{
    struct mig_compute_instance *ci = &gi->cis[gi->n_cis];
    struct nvml_ci_info info = {};

    nvmlReturn_t code = reader->look->nvml->ci_info(instance, &info);
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read a compute instance of GPU instance %u", gi->id);
    *ci = (struct mig_compute_instance){ .id = info.id };
    if (info.placement.size <= MIG_MAX_MEMORY_SLICES &&
        info.placement.start <= MIG_MAX_MEMORY_SLICES - info.placement.size)
        ci->placement = (struct mig_placement){ info.placement.start, info.placement.size };
    int r = ci_profile_of(reader, handle, gi->gi_profile, info.profileId, &ci->ci_profile, err);
    if (r == 0)
        r = read_text(reader, reader->look->nvml->uuid, info.device, "MIG device's UUID", &ci->uuid,
                      err);
    if (r < 0)
        return r;
    reader->mig[gi - reader->gpu->gis][gi->n_cis++] = info.device;
    *ret_slices = ci->placement.size ? ci->placement.size : mig_ci_profile_slices(ci->ci_profile);
    return 0;
}

/* By id, until no slice is left: the usual one that fills its GPU instance costs one question. */
static int read_cis(struct reader *reader, nvmlGpuInstance_t handle, uint32_t slices,
                    struct mig_gpu_instance *gi, struct err *err)
{
    uint32_t used = 0;

    for (uint32_t id = 0; id < MIG_MAX_COMPUTE_INSTANCES && used < slices; id++) {
        nvmlComputeInstance_t instance = NULL;
        nvmlReturn_t code = reader->look->nvml->ci_by_id(handle, id, &instance);
        uint32_t taken = 0;

        if (code == NVML_NOT_FOUND)
            continue;
        if (code != NVML_SUCCESS)
            return fail(reader, code, err, "cannot list the compute instances of GPU instance %u",
                        gi->id);
        int r = read_ci(reader, handle, instance, gi, &taken, err);
        if (r < 0)
            return r;
        used += taken;
    }
    return 0;
}

static int read_gi(struct reader *reader, const struct mig_gi_profile *profile,
                   nvmlGpuInstance_t handle, struct err *err)
{
    struct mig_gpu *gpu = reader->gpu;
    struct nvml_gi_info info = {};

    if (gpu->n_gis == MIG_MAX_GPU_INSTANCES)
        return err_set(err, E2BIG, "it has more than %d GPU instances", MIG_MAX_GPU_INSTANCES);
    nvmlReturn_t code = reader->look->nvml->gi_info(handle, &info);
    if (code != NVML_SUCCESS)
        return fail(reader, code, err, "cannot read a GPU instance");
    if (info.placement.size == 0 || info.placement.size > MIG_MAX_MEMORY_SLICES ||
        info.placement.start > MIG_MAX_MEMORY_SLICES - info.placement.size)
        return err_set(err, EPROTO, "its GPU instance %u cannot be at %u:%u", info.id,
                       info.placement.start, info.placement.size);
    struct mig_gpu_instance *gi = &gpu->gis[gpu->n_gis++];
    *gi = (struct mig_gpu_instance){
        .id = info.id,
        .gi_profile = profile->gi_profile,
        .placement = { info.placement.start, info.placement.size },
    };
    return read_cis(reader, handle, profile->slices, gi, err);
}

/* If the largest instance of all fits, there is none: one question instead of one for each profile.
 */
static bool is_empty(struct reader *reader)
{
    const struct mig_gpu *gpu = reader->gpu;
    uint32_t n = 0;

    for (size_t i = 0; i < gpu->n_profiles; i++) {
        const struct mig_gi_profile *profile = &gpu->profiles[i];

        if (profile->n_placements == 1 && profile->placements[0].size == gpu->memory_slices)
            return reader->look->nvml->gi_capacity(reader->device, profile->driver_id, &n) ==
                       NVML_SUCCESS &&
                   n > 0;
    }
    return false;
}

static bool is_full(const struct mig_gpu *gpu)
{
    uint32_t memory = 0;

    for (size_t i = 0; i < gpu->n_gis; i++)
        memory += gpu->gis[i].placement.size;
    return memory >= gpu->memory_slices && gpu->memory_slices > 0;
}

static int read_instances(struct reader *reader, struct err *err)
{
    struct mig_gpu *gpu = reader->gpu;
    uint32_t slices = 0;

    if (!gpu->enabled || is_empty(reader))
        return 0;
    for (size_t i = 0; i < gpu->n_profiles && slices < gpu->slices && !is_full(gpu); i++) {
        const struct mig_gi_profile *profile = &gpu->profiles[i];
        nvmlGpuInstance_t handles[MIG_MAX_GPU_INSTANCES] = {};
        uint32_t n = ARRAY_LEN(handles);

        nvmlReturn_t code =
            reader->look->nvml->gi_list(reader->device, profile->driver_id, handles, &n);
        if (code != NVML_SUCCESS)
            return fail(reader, code, err, "cannot list its GPU instances of profile %s",
                        profile->name);
        for (uint32_t j = 0; j < MIN(n, (uint32_t)ARRAY_LEN(handles)); j++) {
            int r = read_gi(reader, profile, handles[j], err);
            if (r < 0)
                return r;
            slices += profile->slices;
        }
    }
    return 0;
}

/* ---- who uses it ---- */

static int read_holders(struct reader *reader, struct err *err)
{
    const struct mig_holders_query query = {
        .nvml = reader->look->nvml,
        .root = reader->look->options->root,
        .device = reader->device,
        .mig = reader->mig,
        .arena = reader->look->arena,
    };
    nvmlReturn_t code;

    if (!reader->look->options->holders)
        return 0;
    int r = mig_holders_read(&query, reader->gpu, &code, err);
    if (r < 0)
        return r;
    return code == NVML_SUCCESS ? 0 : fail(reader, code, err, "cannot list its processes");
}

/* ---- all of it ---- */

static int by_place(const struct mig_placement *a, uint32_t a_id, const struct mig_placement *b,
                    uint32_t b_id)
{
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    return a_id < b_id ? -1 : a_id > b_id;
}

static int compare_gis(const void *a, const void *b)
{
    const struct mig_gpu_instance *x = a, *y = b;

    return by_place(&x->placement, x->id, &y->placement, y->id);
}

static int compare_cis(const void *a, const void *b)
{
    const struct mig_compute_instance *x = a, *y = b;

    return by_place(&x->placement, x->id, &y->placement, y->id);
}

static void sort_instances(struct mig_gpu *gpu)
{
    for (size_t i = 0; i < gpu->n_gis; i++)
        qsort(gpu->gis[i].cis, gpu->gis[i].n_cis, sizeof(gpu->gis[i].cis[0]), compare_cis);
    qsort(gpu->gis, gpu->n_gis, sizeof(gpu->gis[0]), compare_gis);
}

static int read_once(struct reader *reader, struct err *err)
{
    int r = read_identity(reader, err);

    if (r < 0 || reader->other || reader->display)
        return r;
    r = read_abilities(reader, err);
    if (r == 0 && reader->gpu->capable)
        r = read_profiles(reader, err);
    if (r == 0 && reader->gpu->capable)
        r = read_instances(reader, err);
    if (r == 0 && reader->gpu->capable)
        r = read_holders(reader, err);
    if (r == 0)
        sort_instances(reader->gpu);
    return r;
}

/* A GPU with a problem keeps who it is, nothing else. */
static int keep_problem(struct look *look, struct mig_gpu *gpu, struct err *why)
{
    const char *problem = arena_strdup(look->arena, why->text);

    *gpu = (struct mig_gpu){
        .index = gpu->index,
        .uuid = gpu->uuid,
        .bus_id = gpu->bus_id,
        .name = gpu->name,
        .pci_device_id = gpu->pci_device_id,
        .pci_subsystem_id = gpu->pci_subsystem_id,
        .problem = problem,
    };
    return problem ? 0 : -ENOMEM;
}

/* 0: it is in the node. 1: it does not belong there. */
static int read_gpu(struct look *look, uint32_t index, struct mig_gpu *gpu, struct err *err)
{
    for (unsigned tries = 1;; tries++) {
        struct reader reader = { .look = look, .gpu = gpu };
        struct err why = {};

        *gpu = (struct mig_gpu){ .index = index, .uuid = "", .bus_id = "", .name = "" };
        int r = read_once(&reader, &why);
        if (r == -ENOMEM)
            return err_no_memory(err);
        if (reader.other || reader.display)
            return 1;
        if (r < 0 && reader.stumbled && tries < LOOK_TRIES)
            continue;
        if (r < 0 && keep_problem(look, gpu, &why) < 0)
            return err_no_memory(err);
        return 0;
    }
}

/* Those without an address come last. */
static int compare_gpus(const void *a, const void *b)
{
    const struct mig_gpu *x = a, *y = b;
    size_t x_len = strlen(x->bus_id), y_len = strlen(y->bus_id);

    if (!x_len || !y_len)
        return x_len == y_len ? (x->index < y->index ? -1 : 1) : x_len ? -1 : 1;
    if (x_len != y_len) /* the domain has more digits */
        return x_len < y_len ? -1 : 1;
    return strcmp(x->bus_id, y->bus_id);
}

static int read_node(struct look *look, struct err *err)
{
    const struct nvml *nvml = look->nvml;
    char version[NVML_STRING_SIZE] = "";
    uint32_t n = 0;

    nvmlReturn_t code = nvml->driver_version(version, sizeof(version));
    if (code == NVML_SUCCESS)
        code = nvml->device_count(&n);
    if (code != NVML_SUCCESS)
        return err_set(err, nvml_errno(code), "%s", nvml_words(nvml, code));
    version[sizeof(version) - 1] = '\0';
    look->node->driver_version = keep_text(look, version);
    n = MIN(n, (uint32_t)MIG_MAX_GPUS);
    look->node->gpus = arena_new_array(look->arena, struct mig_gpu, MAX(n, 1u));
    if (!look->node->driver_version || !look->node->gpus)
        return err_no_memory(err);

    for (uint32_t i = 0; i < n; i++) {
        int r = read_gpu(look, i, &look->node->gpus[look->node->n_gpus], err);
        if (r < 0)
            return r;
        look->node->n_gpus += r == 0;
    }
    return 0;
}

int mig_look(const struct nvml *nvml, const struct mig_look_options *options, struct arena *arena,
             struct mig_node **ret, struct err *err)
{
    struct look look = {
        .nvml = nvml,
        .options = options,
        .arena = arena,
        .node = arena_new(arena, struct mig_node),
    };

    if (!look.node)
        return err_no_memory(err);
    int r = read_node(&look, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < look.node->n_gpus; i++) {
        struct mig_gpu *gpu = &look.node->gpus[i];

        if (gpu->capable && gpu->n_profiles == 0)
            borrow_profiles(look.node, gpu);
    }
    qsort(look.node->gpus, look.node->n_gpus, sizeof(look.node->gpus[0]), compare_gpus);
    *ret = look.node;
    return 0;
}
