/*
 * What a GPU is divided into, and what it could be divided into: the struct that a partition is
 * planned on. gpu/mig_look.c fills it from NVML, gpu/mig_apply.c works on it, everything in share/
 * reads it.
 *
 *     struct mig_node ── struct mig_gpu ── struct mig_gi_profile      what could be made, and where
 *                                      └── struct mig_gpu_instance    what is there, who holds it
 *                                              └── struct mig_compute_instance
 *
 * Unlike an inventory it sees GPU instances that have no compute instance, free placements, and the
 * profiles' driver ids. All strings live in the arena of whoever made the node.
 *
 * Memory slices number the placements of GPU instances (8 on data-centre boards, 4 on A30, 12 on
 * RTX PRO 6000), compute slices those of compute instances within theirs (spec/mig §1.1).
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "share/mig_profile.h"

enum {
    MIG_MAX_GPUS = 64,
    MIG_MAX_MEMORY_SLICES = 32, /* they fit into a mask */
    MIG_MAX_GPU_INSTANCES = 16, /* the driver makes 8 */
    MIG_MAX_COMPUTE_INSTANCES = 8,
    MIG_MAX_GI_PROFILES = 32, /* 18 are known; a newer driver may have more */
    MIG_MAX_PLACEMENTS = 16,  /* of one profile */
};

struct mig_placement {
    uint32_t start, size;
};

/* A profile of GPU instances that this GPU can have. */
struct mig_gi_profile {
    uint32_t gi_profile; /* NVML's enum, spec/mig §1.2 */
    uint32_t driver_id;  /* what creation takes: another number space, §1.3 */
    uint32_t slices;     /* compute slices, G */
    uint32_t max_instances;
    uint64_t memory_mib;
    uint32_t multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    struct mig_profile profile; /* C = G */
    const char *name;           /* canonical: "3g.40gb" */
    size_t n_placements;        /* 0: the driver does not tell; then nothing can be planned on it */
    struct mig_placement placements[MIG_MAX_PLACEMENTS];
};

struct mig_compute_instance {
    uint32_t id;
    uint32_t ci_profile;            /* NVML's enum */
    struct mig_placement placement; /* compute slices; size 0: the driver did not tell */
    const char *uuid;               /* of the MIG device */
    const char *holder;             /* "process 4711 (python3)", "pod team-a/train"; NULL: free */
    bool held_by_process;           /* the driver refuses to destroy it; a pod's hold is our word */
};

struct mig_gpu_instance {
    uint32_t id;
    uint32_t gi_profile;
    struct mig_placement placement;
    size_t n_cis; /* by placement, then id */
    struct mig_compute_instance cis[MIG_MAX_COMPUTE_INSTANCES];
};

struct mig_gpu {
    uint32_t index; /* NVML's */
    const char *uuid, *bus_id, *name;
    uint32_t pci_device_id, pci_subsystem_id; /* device << 16 | vendor */
    uint64_t memory_bytes;
    int cc_major;        /* 8: Ampere, where a change of mode may wait for a reset (§6.2) */
    const char *problem; /* a sentence: why nothing below is known; NULL when it is */

    bool capable;
    bool enabled, pending; /* MIG mode now, and after the next reset */
    const char *holder;    /* a process on the GPU outside all instances, with MIG off; or NULL */
    bool held_by_pod;      /* the holder is only a pod's allocation (mig_node_hold) */
    uint32_t memory_slices, slices; /* of the whole board: the ends of its placements, its largest
                                       profile's compute slices */
    size_t n_profiles;              /* by enum */
    struct mig_gi_profile profiles[MIG_MAX_GI_PROFILES];
    size_t n_gis; /* by start */
    struct mig_gpu_instance gis[MIG_MAX_GPU_INSTANCES];
};

struct mig_node {
    const char *driver_version;
    size_t n_gpus; /* in the order of their PCI addresses: what `devices: [0, 1]` counts */
    struct mig_gpu *gpus;
};

const struct mig_gi_profile *mig_gpu_profile(const struct mig_gpu *gpu, uint32_t gi_profile);
/* By the canonical or, where it means exactly one profile of this GPU, an old name (spec/mig §9.9:
 * 1g.24gb on a GB200 that calls it 1g.23gb). The profile of the GPU instance; *ret_ci is the enum
 * of the compute instance. -ENOENT with a sentence that lists the names this GPU knows. */
[[nodiscard]] int mig_gpu_resolve(const struct mig_gpu *gpu, const struct mig_profile *profile,
                                  const struct mig_gi_profile **ret, uint32_t *ret_ci,
                                  struct err *err);

/* The enum that fills an instance of `slices` (MIG_CI_PROFILES: there is none); how many of one
 * enum fit into an empty instance (spec/mig §1.9, 0: not offered). Of the 26-multiprocessor variant
 * (enum 7) these two know nothing: it depends on the GPU. */
uint32_t mig_ci_whole(uint32_t slices);
uint32_t mig_ci_max(uint32_t slices, uint32_t ci_profile);

/* The same on a certain GPU: from Hopper on, 1g with double memory is filled by enum 7, which is
 * what the driver makes there by itself (spec/mig §1.9). */
uint32_t mig_gpu_ci_whole(const struct mig_gpu *gpu, const struct mig_gi_profile *profile);
/* How many compute slices it takes up, 0: not offered. Enum 7 takes all of a 2g. */
uint32_t mig_gpu_ci_size(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                         uint32_t ci_profile);
/* Compute instances start at multiples of the next power of two. */
bool mig_ci_start_legal(uint32_t slices, uint32_t start, uint32_t size);

/* The MIG device's canonical name: "1c.3g.40gb". */
void mig_device_name(const struct mig_gpu *gpu, const struct mig_gpu_instance *gi,
                     const struct mig_compute_instance *ci, char name[static MIG_PROFILE_NAME_MAX]);

/* Who holds any part of it; NULL: nobody. */
const char *mig_gpu_instance_holder(const struct mig_gpu_instance *gi);

/* Notes that somebody holds the MIG device (or, by its GPU's UUID, the whole GPU). `holder` is
 * borrowed. A process that holds it already stays the holder. False: no such device. */
bool mig_node_hold(struct mig_node *node, const char *uuid, const char *holder);
