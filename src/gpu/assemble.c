#include "gpu/assemble.h"

#include <errno.h>
#include <string.h>

#include "gpu/devnode.h"
#include "gpu/mig_minors.h"

/* Copies go through here: the first that finds no room is remembered, and asked about once. */
struct copier {
    struct arena *arena;
    bool failed;
};

static const char *copy_text(struct copier *copier, const char *text)
{
    const char *copy = text ? arena_strdup(copier->arena, text) : NULL;

    copier->failed |= text && !copy;
    return copy;
}

static void *copy_array(struct copier *copier, const void *items, size_t n, size_t size)
{
    void *copy = n > 0 ? arena_array(copier->arena, n, size) : NULL;

    copier->failed |= n > 0 && !copy;
    if (copy)
        memcpy(copy, items, n * size);
    return copy;
}

/* ---- the node ---- */

static void copy_node(struct copier *copier, const struct inventory *from, struct inventory *to)
{
    to->platform = from->platform;
    to->driver_version = copy_text(copier, from->driver_version);
    to->cuda_version = from->cuda_version;
    to->machine = copy_text(copier, from->machine);
    to->vgpu = from->vgpu;
    to->vgpu.host_driver_version = copy_text(copier, from->vgpu.host_driver_version);
    to->vgpu.host_driver_branch = copy_text(copier, from->vgpu.host_driver_branch);
    to->vgpu.problem = copy_text(copier, from->vgpu.problem);
    to->n_control_nodes = from->n_control_nodes;
    const char **nodes = copy_array(copier, from->control_nodes, from->n_control_nodes,
                                    sizeof(*from->control_nodes));
    for (size_t i = 0; nodes && i < from->n_control_nodes; i++)
        nodes[i] = copy_text(copier, from->control_nodes[i]);
    to->control_nodes = nodes;
    to->imex_channel0 = from->imex_channel0;
    to->imex_problem = copy_text(copier, from->imex_problem);
    to->gdrcopy_nodes = from->gdrcopy_nodes;
    to->gds_nodes = from->gds_nodes;
    to->mofed_nodes = from->mofed_nodes;
}

/* ---- one GPU ---- */

static void copy_mig_devices(struct copier *copier, const struct gpu *from, struct gpu *to)
{
    to->mig_devices =
        copy_array(copier, from->mig_devices, from->n_mig_devices, sizeof(*from->mig_devices));
    if (!to->mig_devices)
        to->n_mig_devices = 0;
    for (size_t i = 0; i < to->n_mig_devices; i++) {
        to->mig_devices[i].uuid = copy_text(copier, from->mig_devices[i].uuid);
        to->mig_devices[i].profile = copy_text(copier, from->mig_devices[i].profile);
    }
}

static void copy_mig_profiles(struct copier *copier, const struct gpu *from, struct gpu *to)
{
    to->mig_profiles =
        copy_array(copier, from->mig_profiles, from->n_mig_profiles, sizeof(*from->mig_profiles));
    if (!to->mig_profiles)
        to->n_mig_profiles = 0;
    for (size_t i = 0; i < to->n_mig_profiles; i++)
        to->mig_profiles[i].name = copy_text(copier, from->mig_profiles[i].name);
}

static void copy_gpu(struct copier *copier, const struct gpu *from, struct gpu *to)
{
    *to = *from;
    to->uuid = copy_text(copier, from->uuid);
    to->name = copy_text(copier, from->name);
    to->bus_id = copy_text(copier, from->bus_id);
    copy_mig_devices(copier, from, to);
    copy_mig_profiles(copier, from, to);
}

static void set_health(struct copier *copier, const char *problem, const struct ailments *ailments,
                       struct gpu *gpu)
{
    const char *reason = problem;

    if (!reason && ailments)
        reason = ailments_of_gpu(ailments, gpu->uuid);
    gpu->healthy = !reason;
    gpu->unhealthy_reason = copy_text(copier, reason);
    for (size_t i = 0; i < gpu->n_mig_devices; i++) {
        struct mig_device *mig = &gpu->mig_devices[i];
        reason = ailments ? ailments_of_mig(ailments, gpu->uuid, mig) : NULL;
        mig->healthy = !reason;
        mig->unhealthy_reason = copy_text(copier, reason);
    }
}

static int set_cap_paths(struct arena *arena, const struct mig_minors *minors, struct gpu *gpu,
                         struct err *err)
{
    for (size_t i = 0; i < gpu->n_mig_devices; i++) {
        struct mig_device *mig = &gpu->mig_devices[i];
        int r = devnode_cap_path(arena, mig_minors_gi(minors, gpu->minor, mig->gi_id),
                                 &mig->gi_cap_path, err);
        if (r == 0)
            r = devnode_cap_path(arena, mig_minors_ci(minors, gpu->minor, mig->gi_id, mig->ci_id),
                                 &mig->ci_cap_path, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- links ---- */

/* NVLinks whose other end is `to`. Both ends tell, the sender's word counts. */
static uint32_t count_nvlinks(const struct gpu_facts *from, const struct gpu *to)
{
    uint32_t n = 0;

    for (size_t i = 0; i < from->n_nvlinks; i++)
        n += text_equal(from->nvlinks[i], to->bus_id);
    return n;
}

static void set_links(struct copier *copier, const struct assembly *assembly,
                      struct inventory *inventory, struct gpu *gpu)
{
    gpu->links = arena_new_array(copier->arena, struct gpu_link, inventory->n_gpus);
    if (!gpu->links) {
        copier->failed = true;
        return;
    }
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        const struct gpu *peer = &inventory->gpus[i];
        if (peer == gpu)
            continue;
        uint16_t level = assembly->topology->level[gpu->index][peer->index];
        gpu->links[i] = (struct gpu_link){
            .known = level != TOPOLOGY_UNKNOWN,
            .level = level != TOPOLOGY_UNKNOWN ? level : 0,
            .n_nvlinks = count_nvlinks(assembly->gpus[gpu->index].facts, peer),
        };
    }
}

/* ---- all of it ---- */

static bool is_listed(const struct assembly_gpu *gpu)
{
    return gpu->facts && gpu->facts->depth != FACTS_NOTHING && !gpu->facts->display;
}

static void add_problem(struct copier *copier, struct inventory *inventory, uint32_t index,
                        const char *text)
{
    inventory->problems[inventory->n_problems++] =
        (struct gpu_problem){ .index = index, .text = copy_text(copier, text) };
}

static int add_gpus(struct copier *copier, const struct assembly *assembly,
                    struct inventory *inventory, struct err *err)
{
    struct arena *arena = copier->arena;

    if (assembly->n_gpus == 0)
        return 0;
    inventory->gpus = arena_new_array(arena, struct gpu, assembly->n_gpus);
    inventory->problems = arena_new_array(arena, struct gpu_problem, assembly->n_gpus);
    if (!inventory->gpus || !inventory->problems)
        return err_no_memory(err);

    for (uint32_t i = 0; i < assembly->n_gpus; i++) {
        const struct assembly_gpu *item = &assembly->gpus[i];
        if (!is_listed(item)) {
            if (item->problem)
                add_problem(copier, inventory, i, item->problem);
            continue;
        }
        struct gpu *gpu = &inventory->gpus[inventory->n_gpus++];
        copy_gpu(copier, &item->facts->gpu, gpu);
        if (!copier->failed)
            set_health(copier, item->problem, assembly->ailments, gpu);
        if (facts_is_tegra_name(item->facts->gpu.name) && inventory->platform == PLATFORM_NVML &&
            assembly->discover_tegra)
            inventory->platform = PLATFORM_TEGRA;
    }
    for (size_t i = 0; assembly->topology && !copier->failed && i < inventory->n_gpus; i++)
        set_links(copier, assembly, inventory, &inventory->gpus[i]);
    return copier->failed ? err_no_memory(err) : 0;
}

static bool has_mig_devices(const struct inventory *inventory)
{
    for (size_t i = 0; i < inventory->n_gpus; i++)
        if (inventory->gpus[i].n_mig_devices > 0)
            return true;
    return false;
}

/* The file cannot be read: every device lacks its capability nodes, which resource_build says. */
static int add_cap_paths(const struct assembly *assembly, struct inventory *inventory,
                         struct err *err)
{
    struct mig_minors minors;

    if (!has_mig_devices(inventory))
        return 0;
    if (mig_minors_read(assembly->root, &minors, NULL) < 0)
        minors = (struct mig_minors){};
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        int r = set_cap_paths(&inventory->arena, &minors, &inventory->gpus[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

int inventory_assemble(const struct assembly *assembly, struct inventory **ret, struct err *err)
{
    auto_(inventory_unrefp) struct inventory *inventory = NULL;

    int r = inventory_new(&inventory, err);
    if (r < 0)
        return r;
    struct copier copier = { .arena = &inventory->arena };
    copy_node(&copier, assembly->node->inventory, inventory);
    if (copier.failed)
        return err_no_memory(err);
    r = add_gpus(&copier, assembly, inventory, err);
    if (r == 0)
        r = add_cap_paths(assembly, inventory, err);
    if (r < 0)
        return r;
    *ret = steal(inventory);
    return 0;
}
