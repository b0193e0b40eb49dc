/*
 * Which devices go well together: the answer to GetPreferredAllocation (spec/device-plugin §5).
 *
 * Whole, unshared GPUs are chosen by NVLink and PCIe distance ("aligned", the true optimum of
 * §5.2 among padding-free sets, ties as upstream breaks them); everything else by how many replicas
 * of a GPU are already taken (distributed or packed).
 */
#pragma once

#include "share/resource.h"

struct prefer_request {
    const char *const *available;
    size_t n_available;
    const char *const *must_include;
    size_t n_must_include;
    int32_t size;
};

/*
 * *ret points to ids of the resource's devices, of the inventory's GPUs or of the request, and
 * lives in the arena; *ret_n may be 0, which is a valid answer. -EINVAL with upstream's whole
 * sentence
 * (`error getting list of preferred allocation devices: not enough available devices to satisfy
 * allocation`).
 *
 * Ties go to the device that comes first: in the request for whole GPUs, in the resource otherwise.
 * The work is bounded by the size of the request and of the resource; more than PARTITION_MAX_GPUS
 * whole GPUs at once are no longer searched for the optimum (partition.h).
 */
[[nodiscard]] int prefer(const struct resource *resource, const struct inventory *inventory,
                         const struct config *config, const struct prefer_request *request,
                         struct arena *arena, const char ***ret, size_t *ret_n, struct err *err);
