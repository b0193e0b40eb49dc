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

/*
 * timestamp: Unix seconds for nvidia.com/gfd.timestamp, negative for none (as is noTimestamp in the
 * config). A node without GPUs gets only the timestamp and the vGPU labels.
 *
 * -EINVAL with upstream's whole sentence: `error creating labeler: failed to construct version
 * labeler: error getting driver version: Version "1.2.3.4" does not match format "X.Y[.Z]"`,
 * `error creating labeler: error creating sharing labeler: failed to check MPS-capable: MPS sharing
 * is not supported for mig devices`, `… unknown strategy: X`; and for selectors that match nothing.
 *
 * Labels and resources agree: in `single`, MIG devices are of one kind when all their attributes
 * are equal, and a device's replicas are those of the entry that selects it. A product name too
 * long for a label loses the end of the model, not its `-MIG-…` or `-SHARED`.
 */
[[nodiscard]] int label_build(const struct inventory *inventory, const struct config *config,
                              int64_t timestamp, struct arena *arena, struct label_set **ret,
                              struct err *err);

/* Upstream's clean-up of a label value (§9.4); cut at 63 characters, and begins and ends with a
 * letter or digit, so that it is always legal. NULL without memory. */
[[nodiscard]] char *label_sanitise(struct arena *arena, const char *text);
