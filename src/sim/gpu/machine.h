/*
 * A whole node from a list of boards: identities, PCI places, NUMA nodes, NVLinks, topology,
 * driver. The same list and the same seed give the same node, on every machine.
 *
 * Places: GPUs keep the order of the list. With four or more, the first half (rounded up) hangs on
 * NUMA node 0 and the rest on node 1; SXM boards share a PCI switch in twos. Minor numbers equal
 * indices.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "sim/gpu/catalogue.h"
#include "sim/gpu/state.h"

/* Nothing set is a usable choice everywhere: NULL and 0 mean the usual value. */
struct sim_machine_options {
    /* "none", "pairs" (neighbours, 12 links each), "mesh", "switch", or pairs by index such as
     * "0-2,1-3"; NULL: as the boards are usually wired. */
    const char *nvlink;
    const char *numa;    /* "0,0,0,1,1": each GPU's NUMA node, -1 for none */
    const char *driver;  /* "570.124.06" */
    const char *cuda;    /* "12.8"; NULL: what that driver brings */
    const char *machine; /* DMI product name */
    uint64_t seed;
};

/* -EINVAL with a sentence about the option that is wrong. Fills all of *ret, lock included. */
[[nodiscard]] int sim_machine_build(const struct sim_spec *spec,
                                    const struct sim_machine_options *options,
                                    struct sim_state *ret, struct err *err);

/* "GPU-xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx" for the n-th thing of a node; `prefix` is "GPU-". */
void sim_uuid_make(uint64_t seed, uint64_t n, const char *prefix, char ret[static 48]);
