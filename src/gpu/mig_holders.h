/*
 * Which processes use a GPU, written into the struct that a look fills. Private to gpu/.
 *
 * The driver tells all processes of a GPU with MIG at once, with their instances, to whoever has
 * the right to know; others it tells about one MIG device at a time. Both are tried. What a process
 * calls itself is its own choice, so the name is cut and made harmless.
 */
#pragma once

#include "gpu/nvml.h"
#include "gpu/nvml_abi.h"
#include "share/mig_geometry.h"

struct mig_holders_query {
    const struct nvml *nvml;
    int root; /* where /proc is */
    nvmlDevice_t device;
    /* The MIG devices of gpu->gis, in its order. */
    const nvmlDevice_t (*mig)[MIG_MAX_COMPUTE_INSTANCES];
    struct arena *arena;
};

/* Fills the holders of the GPU and its instances. *ret_code is what NVML could not tell for, else
 * SUCCESS; a missing right to know is no failure: nobody is known then. -ENOMEM. */
[[nodiscard]] int mig_holders_read(const struct mig_holders_query *query, struct mig_gpu *gpu,
                                   nvmlReturn_t *ret_code, struct err *err);
