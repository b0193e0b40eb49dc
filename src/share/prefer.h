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
 * *ret points into the resource's devices' ids (or the request's must_include ids) and lives in the
 * arena; *ret_n may be 0, which is a valid answer. -EINVAL with upstream's sentence
 * (`not enough available devices to satisfy allocation`).
 */
[[nodiscard]] int prefer(const struct resource *resource, const struct inventory *inventory,
                         const struct config *config, const struct prefer_request *request,
                         struct arena *arena, const char ***ret, size_t *ret_n, struct err *err);
