/*
 * request + resource -> what the container gets (spec/device-plugin §4.3 – §4.6).
 * Pure: the caller supplies the one random thing, the UUID in a CDI annotation's key.
 */
#pragma once

#include "share/resource.h"

struct name_value {
    const char *name, *value;
};

struct allocation_mount {
    const char *container_path, *host_path;
    bool read_only;
};

struct allocation_device {
    const char *container_path, *host_path, *permissions;
};

struct allocation {
    size_t n_envs, n_mounts, n_devices, n_annotations, n_cdi_devices;
    struct name_value *envs; /* by name */
    struct allocation_mount *mounts;
    struct allocation_device *devices;
    struct name_value *annotations;
    const char **cdi_devices;
};

/*
 * One container's request. -EINVAL with upstream's sentence
 * (`invalid allocation request for "nvidia.com/gpu": invalid request: unknown device: GPU-x`).
 * uuid4 is used only with cdi-annotations. An empty request is fine and gets no devices.
 *
 * What a container gets for MPS goes with shared devices only, so that the unshared rest of a
 * resource (sharing.per_device) stays clear of the daemon. A device node is passed once, however
 * many replicas of its device were asked for.
 */
[[nodiscard]] int allocate(const struct resource *resource, const struct inventory *inventory,
                           const struct config *config, const char *const *ids, size_t n_ids,
                           const char *uuid4, struct arena *arena, struct allocation **ret,
                           struct err *err);
