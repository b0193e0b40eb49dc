/*
 * GPUs for tests that think about MIG: boards of the simulator's catalogue as share/mig_geometry.h
 * sees them, with instances put where a test wants them.
 *
 *     struct mig_node *node = boards(&arena, "2xh100-80gb,1xt4");
 *     board_put(&node->gpus[0], "1g.10gb", 5);
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/arena.h"
#include "share/mig_geometry.h"
#include "sim/gpu/catalogue.h"

enum { NVIDIA_VENDOR = 0x10DE };

static inline void board_profile(struct mig_gpu *gpu, const struct sim_mig_table *table, size_t row,
                                 struct arena *arena)
{
    const struct sim_family_row *from = &table->family->rows[row];
    const struct sim_engines *engines = &table->engines[row];
    struct mig_gi_profile *profile = &gpu->profiles[gpu->n_profiles++];
    char name[MIG_PROFILE_NAME_MAX];
    uint32_t ci = 0;

    while (mig_ci_profile_slices(ci) != from->slices)
        ci++;
    *profile = (struct mig_gi_profile){
        .gi_profile = from->profile,
        .driver_id = from->id,
        .slices = from->slices,
        .max_instances = from->max,
        .memory_mib = table->memory_mib[row],
        .multiprocessors = table->multiprocessors[row],
        .copy_engines = engines->copy,
        .decoders = engines->decoder,
        .encoders = engines->encoder,
        .jpegs = engines->jpeg,
        .ofas = engines->ofa,
        .n_placements = from->n_starts,
    };
    for (size_t i = 0; i < from->n_starts; i++)
        profile->placements[i] = (struct mig_placement){ from->starts[i], from->size };
    assert_int_equal(mig_profile_make(from->profile, ci, profile->memory_mib, gpu->memory_bytes,
                                      &profile->profile, NULL),
                     0);
    mig_profile_name(&profile->profile, name);
    profile->name = arena_strdup(arena, name);
}

static inline int board_compare_profiles(const void *a, const void *b)
{
    const struct mig_gi_profile *x = a, *y = b;

    return (x->gi_profile > y->gi_profile) - (x->gi_profile < y->gi_profile);
}

/* MIG off, empty. */
static inline void board(struct mig_gpu *gpu, const struct sim_model *model, uint32_t index,
                         struct arena *arena)
{
    *gpu = (struct mig_gpu){
        .index = index,
        .uuid = arena_printf(arena, "GPU-%08x-0000-4000-8000-000000000000", index),
        .bus_id = arena_printf(arena, "00000000:%02X:00.0", 0x10 + index),
        .name = model->product,
        .pci_device_id = (uint32_t)model->device_id << 16 | NVIDIA_VENDOR,
        .pci_subsystem_id = (uint32_t)model->subsystem_id << 16 | NVIDIA_VENDOR,
        .memory_bytes = (uint64_t)model->memory_mib * MIB(1),
        .cc_major = model->cc_major,
        .capable = model->mig != NULL,
    };
    if (!model->mig)
        return;
    gpu->memory_slices = model->mig->family->memory_slices;
    gpu->slices = model->mig->family->compute_slices;
    for (size_t i = 0; i < model->mig->family->n_rows; i++)
        board_profile(gpu, model->mig, i, arena);
    qsort(gpu->profiles, gpu->n_profiles, sizeof(*gpu->profiles), board_compare_profiles);
}

static inline struct mig_node *boards(struct arena *arena, const char *text)
{
    struct mig_node *node = arena_new(arena, struct mig_node);
    struct sim_spec spec = {};

    node->driver_version = "570.124.06";
    if (!text[0])
        return node;
    assert_int_equal(sim_spec_parse(text, &spec, NULL), 0);
    node->n_gpus = spec.n_gpus;
    node->gpus = arena_new_array(arena, struct mig_gpu, spec.n_gpus);
    for (uint32_t i = 0; i < spec.n_gpus; i++)
        board(&node->gpus[i], spec.gpus[i], i, arena);
    return node;
}

/* Turns MIG on and puts a GPU instance there, without compute instances. */
static inline struct mig_gpu_instance *board_put_empty(struct mig_gpu *gpu, const char *name,
                                                       uint32_t start)
{
    const struct mig_gi_profile *profile = NULL;
    size_t at = gpu->n_gis;

    for (size_t i = 0; i < gpu->n_profiles; i++)
        if (text_equal(gpu->profiles[i].name, name))
            profile = &gpu->profiles[i];
    assert_non_null(profile);
    gpu->enabled = gpu->pending = true;
    for (; at > 0 && gpu->gis[at - 1].placement.start > start; at--)
        gpu->gis[at] = gpu->gis[at - 1];
    gpu->n_gis++;
    gpu->gis[at] = (struct mig_gpu_instance){
        .id = 20 + start,
        .gi_profile = profile->gi_profile,
        .placement = { start, profile->placements[0].size },
    };
    return &gpu->gis[at];
}

static inline void board_cut(struct mig_gpu_instance *gi, uint32_t ci_profile, uint32_t start)
{
    struct mig_compute_instance *ci = &gi->cis[gi->n_cis];

    *ci = (struct mig_compute_instance){
        .id = (uint32_t)gi->n_cis++,
        .ci_profile = ci_profile,
        .placement = { start, mig_ci_profile_slices(ci_profile) },
    };
}

/* With a compute instance that fills it. */
static inline void board_put(struct mig_gpu *gpu, const char *name, uint32_t start)
{
    struct mig_gpu_instance *gi = board_put_empty(gpu, name, start);

    board_cut(gi, mig_ci_whole(mig_gi_profile_slices(gi->gi_profile)), 0);
}
