/* MIG's part of the node's files: the one that changes while the node lives. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sim/gpu/root.h"
#include "sim/gpu/tree.h"

enum { FIRST_MINOR = 3, MODE_READABLE = 0444 };

uint32_t sim_cap_minor(uint32_t gpu_minor, uint32_t gi, uint32_t ci)
{
    const uint32_t per_gi = 1 + SIM_MAX_COMPUTE_INSTANCES;
    uint32_t first = FIRST_MINOR + (gpu_minor * SIM_CAP_INSTANCES + gi) * per_gi;

    return ci == SIM_NO_INSTANCE ? first : first + 1 + ci;
}

/* The file that tells a container runtime which device node stands for an instance, and the node.
 */
static void show(struct tree *tree, const char *path, uint32_t minor)
{
    char device[64];

    if (tree_has(tree, path))
        return;
    tree_file(tree, path, MODE_READABLE,
              "DeviceFileMinor: %u\nDeviceFileMode: %d\nDeviceFileModify: 1\n", minor,
              MODE_READABLE);
    snprintf(device, sizeof(device), "dev/nvidia-caps/nvidia-cap%u", minor);
    tree_device(tree, device, MODE_READABLE, SIM_MAJOR_CAPS, minor);
}

static void hide(struct tree *tree, const char *path, uint32_t minor)
{
    char copy[PATH_MAX];
    char *slash;

    if (!tree_has(tree, path))
        return;
    snprintf(copy, sizeof(copy), "%s", path);
    tree_remove(tree, copy);
    slash = strrchr(copy, '/');
    *slash = '\0';
    tree_remove(tree, copy); /* its directory */
    tree_remove(tree, tree_at(tree, "dev/nvidia-caps/nvidia-cap%u", minor));
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
    const char *path = tree_at(tree, "%s/gi%u/access", mig, id);

    if (!gi && !tree_has(tree, path))
        return;
    if (gi)
        show(tree, path, sim_cap_minor(gpu_minor, id, SIM_NO_INSTANCE));
    for (uint32_t ci = 0; ci < SIM_MAX_COMPUTE_INSTANCES; ci++) {
        path = tree_at(tree, "%s/gi%u/ci%u/access", mig, id, ci);
        if (gi && gi->compute[ci].exists)
            show(tree, path, sim_cap_minor(gpu_minor, id, ci));
        else
            hide(tree, path, sim_cap_minor(gpu_minor, id, ci));
    }
    if (!gi)
        hide(tree, tree_at(tree, "%s/gi%u/access", mig, id),
             sim_cap_minor(gpu_minor, id, SIM_NO_INSTANCE));
}

int sim_root_update(const char *dir, const struct sim_state *state, uint32_t gpu, struct err *err)
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
        update_instance(&tree, mig, minor, id, find_gi(&state->gpus[gpu], id));
    return tree_result(&tree, err);
}
