/*
 * inventory + config -> resources: which extended resources this node offers, and their devices
 * (spec/device-plugin §3, §4.1, §4.2).
 *
 * A resource set is built into an arena, points into the inventory and the config it was built
 * from, and must not outlive them. Order is deterministic: resources by name, devices by GPU index,
 * MIG index, replica.
 */
#pragma once

#include "share/config.h"
#include "share/inventory.h"

enum {
    RESOURCE_MAX_DEVICES = 1 << 17, /* per node, replicas counted */
    RESOURCE_MAX_PATHS = 3,
    RESOURCE_ARENA_BYTES = 48 << 20, /* what a set of that many devices needs, and room */
};

struct device {
    const char *id;               /* what the kubelet sees: "GPU-…", "MIG-…", "GPU-…::3" */
    const char *physical_id;      /* without the replica */
    const char *index;            /* "0", or "0:1" for a MIG device */
    const struct gpu *gpu;        /* NULL on WSL and Tegra */
    const struct mig_device *mig; /* NULL for a whole GPU */
    uint32_t replica;             /* 0 … replicas-1 */
    uint32_t replicas;            /* of its physical device in this resource; 1 when not shared */
    size_t n_paths;
    const char *paths[RESOURCE_MAX_PATHS]; /* /dev/nvidia0, then the capability nodes */
    bool healthy;                          /* of the device itself and of the GPU it is on */
    uint32_t group;                        /* which of the resource's groups it is in */
};

/* The replicas of one physical device: a run of the resource's devices, in order of replica. */
struct device_group {
    const char *physical_id;
    uint32_t first, n;
};

struct resource {
    const char *name;      /* "nvidia.com/gpu.shared" */
    const char *base_name; /* before a rename: "nvidia.com/gpu" */
    const char *endpoint;  /* "nvidia-gpu.shared.sock" */
    size_t n_devices;
    struct device *devices;
    bool shared;                   /* some device has replicas */
    enum sharing_strategy sharing; /* how, when shared */
    size_t n_groups;
    struct device_group *groups; /* in order of devices */
    uint32_t *groups_by_id;      /* their positions, in order of physical_id: for resource_device */
};

struct resource_warning {
    const char *text;
};

struct resource_set {
    size_t n_resources;
    struct resource *resources;
    size_t n_warnings;
    struct resource_warning *warnings;
};

/*
 * -EINVAL with upstream's sentence when the hardware and the strategy do not go together
 * (`… all devices on the node must be configured with the same migEnabled value`), including the
 * prefix from `failed to construct resource managers: …` on. What upstream checks elsewhere keeps
 * the prefix it has there: `failed to create plugin: sharing using MPS is not supported for MIG
 * devices`, `error querying IMEX channels: requested IMEX channel channel0 does not exist`. Behind
 * upstream's words, in brackets, stands which device is meant.
 *
 * Kinder than upstream: a compute instance smaller than its GPU instance is left out of `mixed`
 * with a warning instead of stopping the node, and so is an unhealthy GPU that shows no MIG
 * devices.
 *
 * With sharing.per_device, each device follows the entry that selects it (sharing.h) and the rest
 * of a resource stays unshared under its own name.
 */
[[nodiscard]] int resource_build(const struct inventory *inventory, const struct config *config,
                                 struct arena *arena, struct resource_set **ret, struct err *err);

const struct resource *resource_find(const struct resource_set *set, const char *name);
/* NULL when there is none. A binary search among the physical devices: no walk over replicas. */
const struct device *resource_device(const struct resource *resource, const char *id);
