/*
 * This machine as the verbs that only look see it: options, inventory, and what would be offered.
 *
 *     auto_(node_done) struct node node = NODE_INIT;
 *     r = node_look(&node, argc, argv, &err);      get, describe
 *
 * Works on a machine with a driver and on a simulated node ($TRANCHE_SIM) alike. A GPU that hangs
 * costs a few seconds, and appears as what it is.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "cli/command_line.h"
#include "cli/output.h"
#include "share/inventory.h"
#include "share/label.h"
#include "share/resource.h"

enum { NODE_MAX_ARGUMENTS = 256 };

struct node {
    struct arena arena; /* owns options, resources and labels */
    enum output_format format;
    bool wants_help;
    const char *root; /* --root, or NULL */
    int argc;         /* upstream's flags, which are left */
    const char *argv[NODE_MAX_ARGUMENTS];
    struct command_line line;
    struct inventory *inventory; /* owned */
    const char *library;         /* the file of NVML; NULL where there is none */
};

#define NODE_INIT                                                                                  \
    {                                                                                              \
        .arena = ARENA_MAX(CONFIG_ARENA_BYTES + RESOURCE_ARENA_BYTES)                              \
    }

void node_done(struct node *node);

/* Sorts arguments: -o FORMAT, --root DIR, --help are the verb's own, the rest is upstream's.
 * -EINVAL: misused. */
[[nodiscard]] int node_arguments(struct node *node, int argc, char **argv, struct err *err);

/* What those options mean to the one who reads --help of a verb. */
extern const char node_options_help[];

/* Loads the configuration and looks once. -EINVAL for flags or a file that are wrong; -ENODEV, and
 * a sentence that says what could be tried instead, where there is no driver. Warnings of the
 * configuration are told on stderr. */
[[nodiscard]] int node_look(struct node *node, bool links, struct err *err);

/* -ENODEV: there is no NVML here, `why` as nvml_open says it; with what could be tried instead. */
int node_no_driver(const struct err *why, struct err *err);
/* NVML is there and does not start: whose words these are, and what to look for. Returns r. */
int node_driver_fails(const char *library, int r, const struct err *why, struct err *err);

/* What the kubelet would be offered, and the node's labels (without their timestamp). */
[[nodiscard]] int node_resources(struct node *node, struct resource_set **ret, struct err *err);
[[nodiscard]] int node_labels(struct node *node, struct label_set **ret, struct err *err);

/* ---- as JSON: the caller's to json_decref; NULL without memory ---- */

json_t *node_gpus_json(const struct inventory *inventory);
json_t *node_devices_json(const struct resource_set *set);
json_t *node_resources_json(const struct resource_set *set);
json_t *node_labels_json(const struct label_set *labels);

/* How many of a resource's devices are healthy. */
size_t node_count_healthy(const struct resource *resource);
/* Why a device is unhealthy; NULL while it is healthy. */
const char *node_reason(const struct device *device);
