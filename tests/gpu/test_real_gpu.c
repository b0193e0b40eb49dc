/*
 * The simulator against the card: what the scan sees on the real GPUs of this machine, and what the
 * simulator's catalogue says of boards of that name. Looks only; changes nothing. Exits 77 where
 * there is no driver.
 */
#include <stdio.h>
#include <string.h>

#include "gpu/nvml.h"
#include "gpu/scan.h"
#include "sim/gpu/machine.h"

enum { SKIPPED = 77 };

static int n_differences;

static void compare(const struct gpu *gpu, const char *what, uint64_t real, uint64_t simulated)
{
    if (real == simulated)
        return;
    printf("%s: %s is %llu on the card, %llu in the simulator\n", gpu->name, what,
           (unsigned long long)real, (unsigned long long)simulated);
    n_differences++;
}

static const struct sim_model *model_of(const struct gpu *gpu)
{
    size_t n;
    const struct sim_model *models = sim_models(&n);

    for (size_t i = 0; i < n; i++)
        if (text_equal(models[i].product, gpu->name))
            return &models[i];
    return NULL;
}

static const struct sim_profile *profile_of(const struct sim_gpu *gpu, const char *name)
{
    for (size_t i = 0; i < SIM_MAX_PROFILES; i++)
        if (gpu->profiles[i].supported && text_equal(gpu->profiles[i].name, name))
            return &gpu->profiles[i];
    return NULL;
}

static void compare_profiles(const struct gpu *gpu, const struct sim_gpu *simulated)
{
    for (size_t i = 0; i < gpu->n_mig_profiles; i++) {
        const struct mig_profile_info *real = &gpu->mig_profiles[i];
        const struct sim_profile *profile = real->whole ? profile_of(simulated, real->name) : NULL;

        if (!real->whole)
            continue;
        if (!profile) {
            printf("%s: profile %s is not in the simulator\n", gpu->name, real->name);
            n_differences++;
            continue;
        }
        compare(gpu, real->name, real->driver_id, profile->id);
        compare(gpu, "its most instances", real->max_instances, profile->max_instances);
        /* Sizes shift by up to 256 MiB between driver branches: spec/nvml §8.2. */
        if (real->memory_mib > profile->memory_mib + 256 ||
            profile->memory_mib > real->memory_mib + 256)
            compare(gpu, "its memory in MiB", real->memory_mib, profile->memory_mib);
    }
}

static void compare_gpu(const struct gpu *gpu)
{
    const struct sim_model *model = model_of(gpu);
    struct sim_gpu simulated = {};

    if (!model) {
        printf("%s: the simulator has no such board\n", gpu->name);
        n_differences++;
        return;
    }
    sim_model_fill(model, &simulated);
    compare(gpu, "memory in MiB", gpu->memory_bytes.value >> 20, simulated.memory_bytes >> 20);
    compare(gpu, "compute capability (major)", (uint64_t)gpu->cc_major,
            (uint64_t)simulated.cc_major);
    compare(gpu, "compute capability (minor)", (uint64_t)gpu->cc_minor,
            (uint64_t)simulated.cc_minor);
    compare(gpu, "PCI id", gpu->pci_device_id, simulated.pci_device_id);
    compare(gpu, "MIG capability", gpu->mig_capable, simulated.mig_capable);
    if (gpu->pci_class.known)
        compare(gpu, "PCI class", gpu->pci_class.value, simulated.pci_class);
    compare_profiles(gpu, &simulated);
}

int main(void)
{
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    auto_(inventory_unrefp) struct inventory *inventory = NULL;
    struct scan_options options = { .links = true };
    struct err err = {};
    int r = nvml_open(NULL, &nvml, &err);

    if (r == 0)
        r = gpu_scan(nvml, &options, &inventory, &err);
    if (r < 0 || inventory->n_gpus == 0) {
        printf("skipped: no GPU here (%s)\n", r < 0 ? err.text : "the driver sees none");
        return SKIPPED;
    }
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        printf("GPU %zu: %s, driver %s\n", i, inventory->gpus[i].name, inventory->driver_version);
        compare_gpu(&inventory->gpus[i]);
    }
    printf("%d differences\n", n_differences);
    return n_differences > 0;
}
