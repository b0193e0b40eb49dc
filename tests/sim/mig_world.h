/*
 * Layouts in few words, for tests that partition simulated GPUs.
 *
 *     "off"                    MIG off
 *     ""                       MIG on, nothing there
 *     "0@5 1@2/0,0 2@4/-"      GPU instance profile (enum) at a start, and what is in it: by itself
 *                              the compute instance that fills it; /0,0 two of enum 0; /- none
 */
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include "sim_world.h"

#include "base/buf.h"
#include "gpu/mig_look.h"
#include "share/mig_plan.h"

static inline void world_freep(struct world **world)
{
    world_free(*world);
}

#define auto_world auto_(world_freep) struct world *

/* What `tranche` sees; the arena is the caller's. */
static inline struct mig_node *world_look(struct world *world, struct arena *arena)
{
    const struct mig_look_options options = { .root = -1, .holders = true };
    struct mig_node *node = NULL;
    struct err err = {};

    if (mig_look(world->nvml, &options, arena, &node, &err) < 0)
        fail_msg("%s", err.text);
    return node;
}

static inline void layout_parse(const struct mig_gpu *gpu, const char *text, struct mig_layout *ret)
{
    *ret = (struct mig_layout){ .enabled = strcmp(text, "off") != 0 };
    for (char *at = (char *)text; ret->enabled && *at;) {
        struct mig_placed *placed = &ret->gis[ret->n_gis++];

        placed->gi_profile = (uint32_t)strtoul(at, &at, 10);
        placed->placement.start = (uint32_t)strtoul(at + 1, &at, 10);
        const struct mig_gi_profile *profile = mig_gpu_profile(gpu, placed->gi_profile);
        assert_non_null(profile);
        placed->placement.size = profile->placements[0].size;
        if (*at == '/' && at[1] == '-') {
            at += 2;
        } else if (*at == '/') {
            uint32_t start = 0;
            while (*at == '/' || *at == ',') {
                struct mig_placed_ci *ci = &placed->cis[placed->n_cis++];
                ci->ci_profile = (uint32_t)strtoul(at + 1, &at, 10);
                ci->placement.start = start;
                ci->placement.size = mig_gpu_ci_size(gpu, profile, ci->ci_profile);
                start += ci->placement.size;
            }
        } else {
            placed->n_cis = 1;
            placed->cis[0].ci_profile = mig_gpu_ci_whole(gpu, profile);
            placed->cis[0].placement.size = profile->slices;
        }
        at += *at == ' ';
    }
}

/* The true state of a GPU in the same words; with `uuids` those of its MIG devices as well. */
static inline void world_picture(struct world *world, uint32_t g, bool uuids, struct buf *ret)
{
    struct sim_gpu *gpu = &world->sim->gpus[g];
    bool first = true;

    if (gpu->mig_current != gpu->mig_pending)
        buf_add_text(ret, "(pending) ");
    if (!gpu->mig_current)
        buf_add_text(ret, "off");
    for (uint32_t start = 0; start < gpu->memory_slices; start++) {
        for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
            const struct sim_gpu_instance *gi = &gpu->instances[i];
            bool any = false, whole = false;

            if (!gi->exists || gi->start != start)
                continue;
            buf_printf(ret, "%s%u@%u", first ? "" : " ", gi->profile, gi->start);
            first = false;
            for (size_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++)
                whole |= gi->compute[j].exists && gi->compute[j].profile == sim_ci_whole(gpu, gi);
            for (uint32_t at = 0; at < SIM_MAX_COMPUTE_INSTANCES; at++) {
                for (size_t j = 0; j < SIM_MAX_COMPUTE_INSTANCES; j++) {
                    const struct sim_compute_instance *ci = &gi->compute[j];
                    if (!ci->exists || ci->start != at)
                        continue;
                    if (!whole)
                        buf_printf(ret, "%c%u", any ? ',' : '/', ci->profile);
                    if (uuids)
                        buf_printf(ret, "[%s]", ci->uuid);
                    any = true;
                }
            }
            if (!any)
                buf_add_text(ret, "/-");
        }
    }
}

/* All GPUs, one after the other with " | " between them. */
static inline void world_pictures(struct world *world, bool uuids, struct buf *ret)
{
    buf_reset(ret);
    for (uint32_t g = 0; g < world->sim->n_gpus; g++) {
        buf_add_text(ret, g ? " | " : "");
        world_picture(world, g, uuids, ret);
    }
}

/* Makes the simulated GPUs so, without asking anybody. */
static inline void world_set(struct world *world, uint32_t g, const char *text)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    struct mig_node *node = world_look(world, &arena);
    struct sim_gpu *gpu = &world->sim->gpus[g];
    struct mig_layout layout;
    struct err err = {};
    int r = 0;

    for (size_t i = 0; i < node->n_gpus; i++)
        if (node->gpus[i].index == g)
            layout_parse(&node->gpus[i], text, &layout);
    sim_state_lock(world->sim);
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
        gpu->instances[i].exists = false;
    gpu->mig_current = gpu->mig_pending = layout.enabled;
    for (size_t i = 0; r == 0 && i < layout.n_gis; i++) {
        const struct mig_placed *placed = &layout.gis[i];
        const struct sim_placement at = { placed->placement.start, placed->placement.size };
        struct sim_gpu_instance *gi;
        r = sim_gi_create(world->sim, gpu, placed->gi_profile, &at, &gi, &err);
        for (size_t j = 0; r == 0 && j < placed->n_cis; j++) {
            const struct sim_placement in = { placed->cis[j].placement.start,
                                              placed->cis[j].placement.size };
            struct sim_compute_instance *ci;
            r = sim_ci_create(world->sim, gpu, gi, placed->cis[j].ci_profile, &in, &ci, &err);
        }
    }
    sim_state_unlock(world->sim);
    if (r < 0)
        fail_msg("%s: %s", text, err.text);
}

static inline void world_run(struct world *world, uint32_t gpu, uint32_t pid, uint32_t gi,
                             const char *name)
{
    struct sim_process process = { .pid = pid, .gpu = gpu, .gi_id = gi, .ci_id = 0 };
    struct err err = {};

    if (gi == SIM_NO_INSTANCE)
        process.ci_id = SIM_NO_INSTANCE;
    snprintf(process.name, sizeof(process.name), "%s", name);
    sim_state_lock(world->sim);
    int r = sim_process_add(world->sim, &process, &err);
    sim_state_unlock(world->sim);
    if (r < 0)
        fail_msg("%s", err.text);
}
