/*
 * inventory + config -> node labels: every label of GPU feature discovery
 * (spec/device-plugin §9.3 – §9.6). Where upstream's answer is random on a node with several GPU
 * models, ours is the GPU with the lowest index.
 */
#pragma once

#include "share/config.h"
#include "share/inventory.h"

struct label {
    const char *key; /* "nvidia.com/gpu.count" */
    const char *value;
};

struct label_set {
    size_t n;
    struct label *items; /* by key */
    size_t n_warnings;
    const char **warnings;
};

/* timestamp: Unix seconds for nvidia.com/gfd.timestamp, negative for none. An inventory with
 * platform PLATFORM_NONE gives only the timestamp and the vGPU labels. */
[[nodiscard]] int label_build(const struct inventory *inventory, const struct config *config,
                              int64_t timestamp, struct arena *arena, struct label_set **ret,
                              struct err *err);

/* Upstream's clean-up of a label value (§9.4), cut at 63 characters so that it stays legal. */
[[nodiscard]] char *label_sanitise(struct arena *arena, const char *text);
