#include "share/inventory.h"

#include <string.h>

#include "base/mem.h"
#include "base/text.h"

int inventory_new(struct inventory **ret, struct err *err)
{
    struct inventory *inventory = mem_alloc(sizeof(*inventory));

    if (!inventory)
        return err_no_memory(err);
    inventory->refs = 1;
    inventory->arena = ARENA_MAX(INVENTORY_ARENA_BYTES);
    *ret = inventory;
    return 0;
}

struct inventory *inventory_ref(struct inventory *inventory)
{
    inventory->refs++;
    return inventory;
}

void inventory_unref(struct inventory *inventory)
{
    if (!inventory || --inventory->refs > 0)
        return;
    arena_done(&inventory->arena);
    mem_free(inventory);
}

const struct gpu *inventory_gpu_by_uuid(const struct inventory *inventory, const char *uuid)
{
    for (size_t i = 0; i < inventory->n_gpus; i++)
        if (text_equal(inventory->gpus[i].uuid, uuid))
            return &inventory->gpus[i];
    return NULL;
}

/* ---- the same hardware in the same state? ---- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? text_equal(a, b) : a == b;
}

static bool same_reading(struct reading a, struct reading b)
{
    return a.known == b.known && (!a.known || a.value == b.value);
}

bool mig_attributes_equal(const struct mig_attributes *a, const struct mig_attributes *b)
{
    return a->multiprocessors == b->multiprocessors && a->copy_engines == b->copy_engines &&
           a->decoders == b->decoders && a->encoders == b->encoders && a->jpegs == b->jpegs &&
           a->ofas == b->ofas && a->gpu_instance_slices == b->gpu_instance_slices &&
           a->compute_instance_slices == b->compute_instance_slices &&
           a->memory_mib == b->memory_mib;
}

static bool same_mig_device(const struct mig_device *a, const struct mig_device *b)
{
    return same_text(a->uuid, b->uuid) && a->index == b->index && a->gi_id == b->gi_id &&
           a->ci_id == b->ci_id && a->gi_profile == b->gi_profile &&
           a->ci_profile == b->ci_profile && a->start == b->start && a->size == b->size &&
           same_text(a->profile, b->profile) && a->whole == b->whole &&
           mig_attributes_equal(&a->attributes, &b->attributes) &&
           same_text(a->gi_cap_path, b->gi_cap_path) && same_text(a->ci_cap_path, b->ci_cap_path) &&
           a->healthy == b->healthy && same_text(a->unhealthy_reason, b->unhealthy_reason);
}

static bool same_mig_profile(const struct mig_profile_info *a, const struct mig_profile_info *b)
{
    return a->gi_profile == b->gi_profile && a->ci_profile == b->ci_profile &&
           a->driver_id == b->driver_id && same_text(a->name, b->name) && a->whole == b->whole &&
           a->max_instances == b->max_instances && a->memory_mib == b->memory_mib;
}

static bool same_mig(const struct gpu *a, const struct gpu *b)
{
    if (a->mig_capable != b->mig_capable || a->mig_enabled != b->mig_enabled ||
        a->mig_pending != b->mig_pending || a->n_mig_devices != b->n_mig_devices ||
        a->n_mig_profiles != b->n_mig_profiles)
        return false;
    for (size_t i = 0; i < a->n_mig_devices; i++)
        if (!same_mig_device(&a->mig_devices[i], &b->mig_devices[i]))
            return false;
    for (size_t i = 0; i < a->n_mig_profiles; i++)
        if (!same_mig_profile(&a->mig_profiles[i], &b->mig_profiles[i]))
            return false;
    return true;
}

static bool same_fabric(const struct gpu_fabric *a, const struct gpu_fabric *b)
{
    if (a->attached != b->attached)
        return false;
    return !a->attached ||
           (text_equal(a->cluster_uuid, b->cluster_uuid) && a->clique_id == b->clique_id);
}

static bool same_links(const struct gpu *a, const struct gpu *b, size_t n_gpus)
{
    if (!a->links || !b->links)
        return a->links == b->links;
    for (size_t i = 0; i < n_gpus; i++) {
        const struct gpu_link *x = &a->links[i], *y = &b->links[i];
        if (x->known != y->known || (x->known && x->level != y->level) ||
            x->n_nvlinks != y->n_nvlinks)
            return false;
    }
    return true;
}

static bool same_gpu(const struct gpu *a, const struct gpu *b, size_t n_gpus)
{
    return same_text(a->uuid, b->uuid) && a->index == b->index && a->minor == b->minor &&
           same_text(a->name, b->name) && same_text(a->bus_id, b->bus_id) &&
           a->pci_device_id == b->pci_device_id && a->pci_subsystem_id == b->pci_subsystem_id &&
           same_reading(a->pci_class, b->pci_class) && same_reading(a->numa_node, b->numa_node) &&
           same_reading(a->memory_bytes, b->memory_bytes) && a->cc_major == b->cc_major &&
           a->cc_minor == b->cc_minor && same_fabric(&a->fabric, &b->fabric) && same_mig(a, b) &&
           same_links(a, b, n_gpus) && a->healthy == b->healthy &&
           same_text(a->unhealthy_reason, b->unhealthy_reason);
}

static bool same_gpus(const struct inventory *a, const struct inventory *b)
{
    if (a->n_gpus != b->n_gpus || a->n_problems != b->n_problems)
        return false;
    for (size_t i = 0; i < a->n_gpus; i++)
        if (!same_gpu(&a->gpus[i], &b->gpus[i], a->n_gpus))
            return false;
    for (size_t i = 0; i < a->n_problems; i++)
        if (a->problems[i].index != b->problems[i].index ||
            !same_text(a->problems[i].text, b->problems[i].text))
            return false;
    return true;
}

static bool same_vgpu(const struct vgpu_info *a, const struct vgpu_info *b)
{
    return a->scanned == b->scanned && a->present == b->present &&
           same_text(a->host_driver_version, b->host_driver_version) &&
           same_text(a->host_driver_branch, b->host_driver_branch) &&
           same_text(a->problem, b->problem);
}

static bool same_device_files(const struct inventory *a, const struct inventory *b)
{
    if (a->n_control_nodes != b->n_control_nodes || a->imex_channel0 != b->imex_channel0 ||
        !same_text(a->imex_problem, b->imex_problem) || a->gdrcopy_nodes != b->gdrcopy_nodes ||
        a->gds_nodes != b->gds_nodes || a->mofed_nodes != b->mofed_nodes)
        return false;
    for (size_t i = 0; i < a->n_control_nodes; i++)
        if (!same_text(a->control_nodes[i], b->control_nodes[i]))
            return false;
    return true;
}

bool inventory_equal(const struct inventory *a, const struct inventory *b)
{
    if (a == b)
        return true;
    return a->platform == b->platform && same_text(a->driver_version, b->driver_version) &&
           same_reading(a->cuda_version, b->cuda_version) && same_text(a->machine, b->machine) &&
           same_vgpu(&a->vgpu, &b->vgpu) && same_gpus(a, b) && same_device_files(a, b);
}
