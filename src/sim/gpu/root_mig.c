/* MIG's part of the node's files: the one that changes while the node lives. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "sim/gpu/root.h"
#include "sim/gpu/tree.h"

enum { FIRST_MINOR = 3, MODE_READABLE = 0444 };

uint32_t sim_cap_minor(uint32_t gpu_minor, uint32_t gi, uint32_t ci)
{
    const uint32_t per_gi = 1 + SIM_MAX_COMPUTE_INSTANCES;
    uint32_t first = FIRST_MINOR + (gpu_minor * SIM_CAP_INSTANCES + gi) * per_gi;

    return ci == SIM_NO_INSTANCE ? first : first + 1 + ci;
}

/*
 * What an instance shows depends on its place in the numbering alone. So what is hidden is not
 * removed but put away beside the root, to be taken from there when such an instance comes again: a
 * file system may take a hundred times as long for a new file as for a new name.
 */
#define SPARE "../spare"

static void spare_path(char path[static 64], const char *kind, uint32_t minor)
{
    snprintf(path, 64, SPARE "/%s%u", kind, minor);
}

static bool put_away(struct tree *tree, const char *path, const char *spare)
{
    return tree_move(tree, path, spare) ||
           (mkdirat(tree->fd, SPARE, 0755) == 0 && tree_move(tree, path, spare));
}

/* The folder with the file that tells a container runtime which device node stands for an instance,
 * and the node. */
static void show(struct tree *tree, const char *folder, uint32_t minor)
{
    char access[PATH_MAX], device[64], spare[64];

    snprintf(access, sizeof(access), "%s/access", folder);
    if (tree_has(tree, access))
        return;
    spare_path(spare, "cap", minor);
    if (!tree_move(tree, spare, folder))
        tree_file(tree, access, MODE_READABLE,
                  "DeviceFileMinor: %u\nDeviceFileMode: %d\nDeviceFileModify: 1\n", minor,
                  MODE_READABLE);
    snprintf(device, sizeof(device), "dev/nvidia-caps/nvidia-cap%u", minor);
    spare_path(spare, "node", minor);
    if (!tree_move(tree, spare, device))
        tree_device(tree, device, MODE_READABLE, SIM_MAJOR_CAPS, minor);
}

static void hide(struct tree *tree, const char *folder, uint32_t minor)
{
    char access[PATH_MAX], device[64], spare[64];

    snprintf(access, sizeof(access), "%s/access", folder);
    if (!tree_has(tree, access))
        return;
    spare_path(spare, "cap", minor);
    if (!put_away(tree, folder, spare)) {
        tree_remove(tree, access);
        tree_remove(tree, folder);
    }
    snprintf(device, sizeof(device), "dev/nvidia-caps/nvidia-cap%u", minor);
    spare_path(spare, "node", minor);
    if (!put_away(tree, device, spare))
        tree_remove(tree, device);
}

static const struct sim_gpu_instance *find_gi(const struct sim_gpu *gpu, uint32_t id)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        if (gpu->instances[i].exists && gpu->instances[i].id == id)
            return &gpu->instances[i];
    }
    return NULL;
}

static void update_instance(struct tree *tree, const char *mig, uint32_t gpu_minor, uint32_t id,
                            const struct sim_gpu_instance *gi)
{
    char folder[96], inside[112];

    snprintf(folder, sizeof(folder), "%s/gi%u", mig, id);
    if (gi)
        show(tree, folder, sim_cap_minor(gpu_minor, id, SIM_NO_INSTANCE));
    else if (!tree_has(tree, folder))
        return;
    for (uint32_t ci = 0; ci < SIM_MAX_COMPUTE_INSTANCES; ci++) {
        snprintf(inside, sizeof(inside), "%s/ci%u", folder, ci);
        if (gi && gi->compute[ci].exists)
            show(tree, inside, sim_cap_minor(gpu_minor, id, ci));
        else
            hide(tree, inside, sim_cap_minor(gpu_minor, id, ci));
    }
    if (!gi)
        hide(tree, folder, sim_cap_minor(gpu_minor, id, SIM_NO_INSTANCE));
}

int sim_root_update(const char *dir, const struct sim_state *state, uint32_t gpu, uint32_t gi,
                    struct err *err)
{
    auto_(tree_done) struct tree tree = TREE_NONE;
    uint32_t minor = state->gpus[gpu].minor;
    char root[PATH_MAX], mig[64];

    snprintf(root, sizeof(root), "%s/root", dir);
    snprintf(mig, sizeof(mig), "proc/driver/nvidia/capabilities/gpu%u/mig", minor);
    if (access(root, F_OK) < 0 && errno == ENOENT)
        return 0;
    int r = tree_open(&tree, root, err);
    if (r < 0)
        return r;
    if (!tree_has(&tree, mig))
        return 0;
    for (uint32_t id = 0; id < SIM_CAP_INSTANCES; id++)
        if (gi == SIM_NO_INSTANCE || gi == id)
            update_instance(&tree, mig, minor, id, find_gi(&state->gpus[gpu], id));
    return tree_result(&tree, err);
}
