#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "gpu/devnode.h"
#include "gpu/facts.h"
#include "gpu/nvml_table.h"
#include "gpu/vgpu.h"

/* ---- the platform: spec/device-plugin §2.8 ---- */

/* The loader looks in a hundred places for what it does not find, and finds the same every time. */
static bool loader_has_dxcore(void)
{
    static enum { UNKNOWN, PRESENT, ABSENT } answer; /* atomic */

    if (__atomic_load_n(&answer, __ATOMIC_RELAXED) == UNKNOWN) {
        void *library = dlopen("libdxcore.so", RTLD_LAZY | RTLD_LOCAL);
        if (library)
            dlclose(library);
        __atomic_store_n(&answer, library ? PRESENT : ABSENT, __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&answer, __ATOMIC_RELAXED) == PRESENT;
}

/* WSL's bridge to the GPUs of Windows. */
static bool has_dxcore(const char *driver_root)
{
    char path[PATH_MAX];

    return (driver_root &&
            nvml_find_library(driver_root, "libdxcore.so", path, sizeof(path)) == 0) ||
           loader_has_dxcore();
}

/* Jetson's files; a root other than "/" is looked at instead of it. */
static bool has_tegra_files(const struct scan_options *options)
{
    const char *place = options->driver_root ? options->driver_root : options->root;
    auto_close int root = open(place ? place : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char family[64];
    struct stat status;

    if (root < 0)
        return false;
    if (fstatat(root, "etc/nv_tegra_release", &status, 0) == 0)
        return true;
    return devnode_read(root, "sys/devices/soc0/family", family, sizeof(family)) > 0 &&
           strncasecmp(family, "tegra", strlen("tegra")) == 0;
}

bool facts_is_tegra_name(const char *gpu_name)
{
    return strstr(gpu_name, "(nvgpu)") || strstr(gpu_name, "NVIDIA Thor");
}

int gpu_platform(const struct nvml *nvml, const struct scan_options *options, enum platform *ret,
                 struct err *err)
{
    switch (options->discovery) {
    case DISCOVERY_NVML:
        if (!nvml)
            return err_set(err, ENOENT, NVML_NO_LIBRARY_TEXT);
        return *ret = PLATFORM_NVML, 0;
    case DISCOVERY_TEGRA:
        return *ret = PLATFORM_TEGRA, 0;
    case DISCOVERY_VFIO:
        return err_set(err, ENOTSUP,
                       "device discovery strategy vfio is not supported: give GPUs that belong to "
                       "vfio-pci to virtual machines by another way, or use auto, nvml or tegra");
    default:
        break;
    }
    if (has_dxcore(options->driver_root))
        *ret = PLATFORM_WSL;
    else if (nvml)
        *ret = PLATFORM_NVML;
    else
        *ret = has_tegra_files(options) ? PLATFORM_TEGRA : PLATFORM_NONE;
    return 0;
}

/* ---- what NVML says about the node ---- */

/* Makes `call` once more, and again, while it stumbles. */
#define PATIENTLY(call)                                                                            \
    ({                                                                                             \
        nvmlReturn_t code_ = (call);                                                               \
        for (unsigned tries_ = 1; facts_may_retry(code_) && tries_ < FACTS_TRIES; tries_++)        \
            code_ = (call);                                                                        \
        code_;                                                                                     \
    })

static int read_versions(const struct nvml *nvml, struct inventory *inventory, struct err *err)
{
    char version[NVML_STRING_SIZE] = "";
    int32_t cuda = 0;

    nvmlReturn_t code = PATIENTLY(nvml->driver_version(version, sizeof(version)));
    if (code != NVML_SUCCESS)
        return err_set(err, nvml_errno(code), "%s", nvml_words(nvml, code));
    version[sizeof(version) - 1] = '\0';
    struct span text = { .ptr = version, .len = text_utf8_prefix(span_of(version)) };
    inventory->driver_version = arena_spandup(&inventory->arena, text);
    if (!inventory->driver_version)
        return err_no_memory(err);
    if (PATIENTLY(nvml->cuda_version(&cuda)) == NVML_SUCCESS && cuda > 0)
        inventory->cuda_version = READING((uint64_t)cuda);
    return 0;
}

static int count_gpus(const struct nvml *nvml, uint32_t *ret, struct err *err)
{
    nvmlReturn_t code = PATIENTLY(nvml->device_count(ret));

    if (code != NVML_SUCCESS)
        return err_set(err, nvml_errno(code), "%s", nvml_words(nvml, code));
    *ret = MIN(*ret, (uint32_t)INVENTORY_MAX_GPUS);
    return 0;
}

/* ---- all of it ---- */

void node_facts_free(struct node_facts *facts)
{
    if (!facts)
        return;
    inventory_unref(facts->inventory);
    mem_free(facts);
}

int facts_read_node(const struct nvml *nvml, int root, const struct scan_options *options,
                    struct node_facts **ret, struct err *err)
{
    auto_(node_facts_freep) struct node_facts *facts = mem_alloc(sizeof(*facts));

    if (!facts)
        return err_no_memory(err);
    int r = inventory_new(&facts->inventory, err);
    if (r < 0)
        return r;
    struct inventory *inventory = facts->inventory;
    r = gpu_platform(nvml, options, &inventory->platform, err);
    if (r == 0 && nvml)
        r = count_gpus(nvml, &facts->n_gpus, err);
    if (r == 0 && nvml)
        r = read_versions(nvml, inventory, err);
    if (r == 0)
        r = devnode_machine(root, options->machine_type_file, &inventory->arena,
                            &inventory->machine, err);
    if (r == 0)
        r = devnode_read_node(root, options->driver_root, inventory, err);
    if (r == 0 && options->vgpu)
        r = vgpu_scan(root, &inventory->arena, &inventory->vgpu, err);
    if (r < 0)
        return r;
    *ret = steal(facts);
    return 0;
}

void topology_read(const struct nvml *nvml, uint64_t indices, struct topology *ret)
{
    nvmlDevice_t devices[INVENTORY_MAX_GPUS] = {};

    memset(ret, 0xff, sizeof(*ret)); /* TOPOLOGY_UNKNOWN */
    for (uint32_t i = 0; i < INVENTORY_MAX_GPUS; i++) {
        if (!(indices >> i & 1) || nvml->device_by_index(i, &devices[i]) != NVML_SUCCESS)
            continue;
        for (uint32_t j = 0; j < i; j++) {
            uint32_t level;
            if (!devices[j] ||
                PATIENTLY(nvml->common_ancestor(devices[j], devices[i], &level)) != NVML_SUCCESS)
                continue;
            ret->level[i][j] = ret->level[j][i] = (uint16_t)MIN(level, TOPOLOGY_UNKNOWN - 1u);
        }
    }
}
