/*
 * A simulated node for a test, in a folder of its own, with NVML loaded as the agent loads it.
 * Every function fails the test when it cannot do its work.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "gpu/nvml.h"
#include "sim/gpu/catalogue.h"
#include "sim/gpu/control.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"

struct world {
    char dir[64];
    struct sim_state *sim; /* the node, as everybody sees it */
    struct nvml *nvml;
};

static inline struct world *world_new(const char *spec)
{
    struct world *world = calloc(1, sizeof(*world));
    struct sim_state *content = calloc(1, sizeof(*content));
    static const struct sim_machine_options usual = {};
    struct sim_spec gpus;
    struct err err = {};

    strcpy(world->dir, "/tmp/sim-world-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    if (sim_spec_parse(spec, &gpus, &err) < 0 ||
        sim_machine_build(&gpus, &usual, content, &err) < 0 ||
        sim_state_publish(world->dir, content, &err) < 0 ||
        sim_state_open(world->dir, &world->sim, &err) < 0)
        fail_msg("%s", err.text);
    free(content);
    setenv("TRANCHE_SIM", world->dir, 1);
    if (nvml_open(NULL, &world->nvml, &err) < 0)
        fail_msg("%s", err.text);
    return world;
}

static inline void world_free(struct world *world)
{
    nvml_unref(world->nvml);
    sim_state_close(world->sim);
    file_remove_tree(world->dir, NULL);
    free(world);
}

static inline void world_partition(struct world *world, uint32_t gpu,
                                   const struct sim_mig_want *wants, size_t n)
{
    struct err err = {};

    sim_state_lock(world->sim);
    int r = sim_mig_partition(world->sim, &world->sim->gpus[gpu], wants, n, &err);
    sim_state_unlock(world->sim);
    if (r < 0)
        fail_msg("%s", err.text);
}

/* gpu -1: any; times 0: for ever. */
static inline void world_fault(struct world *world, const char *call, int32_t gpu, uint32_t after,
                               uint32_t times, uint32_t code)
{
    struct sim_fault fault = { .gpu = gpu, .after = after, .times = times, .code = code };
    struct err err = {};

    snprintf(fault.call, sizeof(fault.call), "%s", call);
    sim_state_lock(world->sim);
    int r = sim_fault_add(world->sim, &fault, &err);
    sim_state_unlock(world->sim);
    if (r < 0)
        fail_msg("%s", err.text);
}

static inline void world_no_faults(struct world *world)
{
    sim_state_lock(world->sim);
    sim_fault_clear(world->sim);
    sim_state_unlock(world->sim);
}
