/*
 * What a node has: GPUs, their MIG devices, how they are connected, and the few facts of the node
 * that decisions depend on. These are the structs of the house: gpu/scan.c fills them from NVML and
 * the file system, everything in share/ reads them, nobody edits them.
 *
 * An inventory and all it points to live in one arena. It is frozen when complete, shared with
 * inventory_ref, and replaced rather than edited, so a reader never sees half a GPU.
 *
 * A reading that the driver refused stays unknown: it is never exported as zero.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"

enum {
    INVENTORY_MAX_GPUS = 64,         /* NVML itself stops at 32; a ceiling for hostile answers */
    INVENTORY_MAX_MIG_DEVICES = 64,  /* per GPU; 8 GPU instances × 8 compute instances */
    INVENTORY_MAX_PROFILES = 64,     /* per GPU */
    INVENTORY_ARENA_BYTES = 8 << 20, /* 64 GPUs with everything take under 1 MiB */
};

struct reading {
    uint64_t value;
    bool known;
};

#define READING(v) ((struct reading){ .value = (v), .known = true })

/* nvmlDeviceAttributes_t of a MIG device: SMs of the compute instance, the rest of the GPU
 * instance. */
struct mig_attributes {
    uint32_t multiprocessors;
    uint32_t copy_engines, decoders, encoders, jpegs, ofas;
    uint32_t gpu_instance_slices, compute_instance_slices;
    uint64_t memory_mib;
};

struct mig_device {
    const char *uuid; /* "MIG-…" */
    uint32_t index;   /* NVML's slot on the parent; gaps are possible */
    uint32_t gi_id, ci_id;
    uint32_t gi_profile, ci_profile; /* the enums of spec/mig §1.2, not the driver's profile ids */
    uint32_t start, size;            /* placement of the GPU instance in memory slices */
    const char *profile;             /* canonical name, spec/mig §1.5: "1g.10gb", "1c.3g.40gb" */
    bool whole;                      /* the compute instance spans its GPU instance (C = G) */
    struct mig_attributes attributes;
    const char *gi_cap_path, *ci_cap_path; /* "/dev/nvidia-caps/nvidia-cap12"; NULL: no entry in
                                              mig-minors for it */
    bool healthy;                 /* by itself; it is usable when its GPU is healthy, too */
    const char *unhealthy_reason; /* a sentence; NULL while healthy */
};

/* A profile the GPU could create, from NVML; also with MIG mode off where the driver tells. */
struct mig_profile_info {
    uint32_t gi_profile, ci_profile; /* enums */
    uint32_t driver_id;              /* the number `nvidia-smi mig -cgi` takes */
    const char *name;                /* canonical */
    bool whole;                      /* C = G */
    uint32_t max_instances;
    uint64_t memory_mib;
};

enum nvml_topology_level { /* nvmlGpuTopologyLevel_t */
                           TOPOLOGY_INTERNAL = 0,
                           TOPOLOGY_SINGLE = 10,
                           TOPOLOGY_MULTIPLE = 20,
                           TOPOLOGY_HOSTBRIDGE = 30,
                           TOPOLOGY_NODE = 40,
                           TOPOLOGY_SYSTEM = 50,
};

/* From one GPU to another. */
struct gpu_link {
    bool known;         /* the driver told the common ancestor */
    uint32_t level;     /* enum nvml_topology_level, or what else the driver said */
    uint32_t n_nvlinks; /* active NVLinks whose other end is that GPU */
};

struct gpu_fabric {
    bool attached; /* state completed, status success, cluster UUID not zero */
    char cluster_uuid[40];
    uint32_t clique_id;
};

struct gpu {
    const char *uuid;                         /* "GPU-…" */
    uint32_t index;                           /* NVML's */
    uint32_t minor;                           /* N of /dev/nvidiaN */
    const char *name;                         /* "NVIDIA H100 80GB HBM3" */
    const char *bus_id;                       /* sysfs form: "0000:3b:00.0" */
    uint32_t pci_device_id, pci_subsystem_id; /* device << 16 | vendor */
    struct reading pci_class;                 /* 0x030200; unknown when sysfs has no such device */
    struct reading numa_node;                 /* unknown: none */
    struct reading memory_bytes;              /* total */
    int cc_major, cc_minor;                   /* compute capability; 0.0 unknown */
    struct gpu_fabric fabric;

    bool mig_capable;
    bool mig_enabled, mig_pending; /* current mode, and the mode after the next reset */
    size_t n_mig_devices, n_mig_profiles;
    struct mig_device *mig_devices;        /* by index */
    struct mig_profile_info *mig_profiles; /* in the order of spec/mig §1.8 */

    struct gpu_link *links; /* n_gpus of them, own entry unused; NULL: topology not read */

    bool healthy;
    const char *unhealthy_reason; /* a sentence; NULL while healthy */
};

/* A vGPU guest's host driver, from PCI configuration space (spec/device-plugin §9.6). */
struct vgpu_info {
    bool scanned; /* PCI scan succeeded: the labels may be emitted */
    bool present;
    const char *host_driver_version, *host_driver_branch; /* NULL unless present */
    const char *problem; /* a sentence: why it was not scanned, or what the record lacks; or NULL */
};

/* A GPU that NVML counts but cannot name: it is not among the GPUs. */
struct gpu_problem {
    uint32_t index;
    const char *text; /* a sentence */
};

enum platform { PLATFORM_NONE, PLATFORM_NVML, PLATFORM_WSL, PLATFORM_TEGRA, PLATFORM_N };

struct inventory {
    unsigned refs;
    struct arena arena; /* owns all below */
    enum platform platform;
    const char *driver_version;  /* "550.90.07"; NULL without a driver */
    struct reading cuda_version; /* NVML's number: 12040 is 12.4 */
    const char *machine;         /* DMI product name, trimmed; NULL: unreadable */
    struct vgpu_info vgpu;
    size_t n_gpus;
    struct gpu *gpus; /* by index; "DGX Display" boards are left out */
    size_t n_problems;
    struct gpu_problem *problems; /* by index */

    /* Which of the node's optional device files exist, as the agent sees them. */
    size_t n_control_nodes;
    const char *const *control_nodes; /* of /dev/nvidiactl, /dev/nvidia-uvm, -uvm-tools, -modeset */
    bool imex_channel0;               /* a character device */
    const char *imex_problem;         /* why not, for the sentence; NULL when it is there */
    bool gdrcopy_nodes, gds_nodes, mofed_nodes;
};

/* An empty inventory with one reference. */
[[nodiscard]] int inventory_new(struct inventory **ret, struct err *err);
struct inventory *inventory_ref(struct inventory *inventory);
void inventory_unref(struct inventory *inventory); /* NULL is fine */
DEFINE_FREEP(struct inventory, inventory_unref)

const struct gpu *inventory_gpu_by_uuid(const struct inventory *inventory, const char *uuid);

/* Whether the whole record is the same: what makes two MIG devices of one kind. */
bool mig_attributes_equal(const struct mig_attributes *a, const struct mig_attributes *b);

/* Whether two inventories describe the same hardware state (health included): nothing to do. */
bool inventory_equal(const struct inventory *a, const struct inventory *b);
