/*
 * Facts about a node and its GPUs -> one inventory. Private to gpu/; pure but for the capability
 * minors, which are read once, and only when a GPU has MIG devices.
 *
 * An inventory is a copy: facts may be replaced or freed as soon as it is made.
 */
#pragma once

#include "gpu/facts.h"
#include "gpu/health.h"

struct assembly_gpu {
    const struct gpu_facts *facts; /* NULL: never read */
    const char *problem;           /* why the facts are not of today; NULL: they are */
};

struct assembly {
    int root;
    const struct node_facts *node;
    size_t n_gpus;
    const struct assembly_gpu *gpus; /* by NVML index */
    bool discover_tegra;             /* a GPU may say by its name that this is a Jetson */
    const struct topology *topology; /* NULL: not read, and no links in the inventory */
    const struct ailments *ailments; /* NULL: all are well */
};

/* -ENOMEM. What mig-minors lacks or cannot tell leaves gi_cap_path and ci_cap_path NULL. */
[[nodiscard]] int inventory_assemble(const struct assembly *assembly, struct inventory **ret,
                                     struct err *err);
