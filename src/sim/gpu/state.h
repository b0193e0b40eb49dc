/*
 * A node's GPUs as one memory-mapped file, shared by every process that looks at them.
 *
 * The simulated NVML, `tranche sim` and any number of agents and foreign tools map the same file
 * (DIR/state of a simulated node), so they see one node. Everything in it is plain data at fixed
 * offsets: no pointers. One robust, process-shared mutex guards it: a process killed while it holds
 * the lock leaves the others a lock they can take over (state_lock repairs it).
 *
 * A node is a directory: DIR/state is this file, DIR/root is the file system that tools read beside
 * NVML (sysfs, capability files, device nodes, driver files; root.h).
 *
 * The node in use: $TRANCHE_SIM (a directory), else /run/tranche/sim where that exists.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/err.h"

enum {
    SIM_MAX_GPUS = 16,
    SIM_MAX_LINKS = 18,        /* NVLinks per GPU */
    SIM_MAX_PROFILES = 18,     /* GPU instance profile enums, spec/nvml §8.1 */
    SIM_MAX_GPU_INSTANCES = 8, /* per GPU, spec/mig §1.1 */
    SIM_MAX_COMPUTE_INSTANCES = 8,
    SIM_MAX_PLACEMENTS = 8,
    SIM_MAX_PROCESSES = 256, /* per node */
    SIM_MAX_EVENTS = 256,    /* ring of events that waiting clients have not seen */
    SIM_MAX_FAULTS = 32,
    SIM_N_ACTIVITIES = 14, /* GPM metrics 1..13, spec/nvml §7; 0 is not used */
    SIM_N_VIOLATIONS = 8,  /* performance policies 0..5, then application and base clocks */
    SIM_N_LINK_ERRORS = 5, /* replay, recovery, CRC flit, CRC data, ECC data */
    SIM_STATE_VERSION = 1,
};

#define SIM_NO_INSTANCE 0xffffffffu /* a gi_id or ci_id where there is none */
#define SIM_FOREVER     0xffffffffu

#define SIM_STATE_MAGIC 0x54524e4353494d31ull /* "TRNCSIM1" */

/* One GPU instance profile of a model: what NVML answers for it. */
struct sim_profile {
    bool supported;
    char name[24];          /* "1g.10gb+me" */
    uint32_t id;            /* the driver's profile id, not the enum */
    uint32_t slices;        /* compute slices */
    uint32_t max_instances; /* instanceCount */
    uint32_t multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    uint64_t memory_mib;
    uint32_t n_starts, starts[SIM_MAX_PLACEMENTS], size; /* legal placements, in memory slices */
};

struct sim_compute_instance {
    bool exists;
    uint32_t id, profile; /* the CI profile id equals the enum */
    uint32_t start, size; /* compute slices inside the GPU instance */
    uint32_t multiprocessors;
    uint32_t generation; /* from sim_gpu.instance_generation; part of the UUID and the handles */
    char uuid[48];       /* "MIG-…" of the MIG device this compute instance is */
};

struct sim_gpu_instance {
    bool exists;
    uint32_t id, profile; /* profile: the enum, an index into sim_gpu.profiles */
    uint32_t start, size; /* memory slices */
    uint32_t generation;
    struct sim_compute_instance compute[SIM_MAX_COMPUTE_INSTANCES]; /* at index id */
};

struct sim_link {
    bool active;
    char remote_bus_id[32]; /* of the GPU or NVSwitch at the other end */
    bool remote_is_switch;
    uint64_t errors[SIM_N_LINK_ERRORS];
};

struct sim_gpu {
    char model[32]; /* the catalogue's name: "h100-80gb" */
    char name[96];  /* "NVIDIA H100 80GB HBM3" */
    char uuid[48], serial[30], part_number[32], vbios[32];
    uint32_t minor;
    uint32_t pci_domain, pci_bus, pci_device;
    uint32_t pci_device_id, pci_subsystem_id; /* device << 16 | vendor */
    uint32_t pci_class;                       /* 0x030200 */
    int32_t numa_node;                        /* -1: none */
    uint32_t brand, architecture;
    int32_t cc_major, cc_minor;
    uint64_t memory_bytes, memory_reserved_bytes, bar1_bytes, bar1_used_bytes;
    uint32_t multiprocessors, cores_per_multiprocessor, memory_bus_bits;
    bool has_gsp, has_gpm, c2c; /* GSP firmware, GPM counters, chip-to-chip link to the CPU */
    bool gpm_streaming;

    uint32_t power_mw, power_limit_mw, power_min_mw, power_max_mw, power_default_mw;

    /* Counters grow by rate × time. sim_gpu_advance brings them up to now: call it before a rate
     * changes and before a counter is read. CLOCK_MONOTONIC, the same for all processes. */
    uint64_t advanced_ns;
    uint64_t energy_uj;
    uint64_t nvlink_tx_bytes, nvlink_rx_bytes, pcie_tx_bytes, pcie_rx_bytes;
    uint64_t violation_ns[SIM_N_VIOLATIONS]; /* grow while the clock event reason holds */
    uint64_t activity_pct_ns[SIM_N_ACTIVITIES];
    uint32_t temperature_c, memory_temperature_c, slowdown_c, shutdown_c;
    uint32_t clock_mhz[4], max_clock_mhz[4]; /* graphics, SM, memory, video */
    uint32_t application_clock_mhz[4], min_clock_mhz, idle_clock_mhz;
    uint32_t locked_min_mhz, locked_max_mhz; /* 0: not locked */
    /* The load that no process accounts for: what NVML reports adds the processes' shares. */
    uint32_t utilization_pct, memory_utilization_pct, encoder_pct, decoder_pct, jpeg_pct, ofa_pct;
    uint32_t activity_pct[SIM_N_ACTIVITIES]; /* GPM's finer view; 1, 2 and 10 follow utilization */
    uint32_t performance_state, compute_mode, persistence, virtualization_mode;
    uint64_t clock_event_reasons;
    bool ecc_capable, ecc_enabled, ecc_pending;
    uint64_t ecc_corrected[2], ecc_uncorrected[2];           /* DRAM: volatile, aggregate */
    uint64_t sram_ecc_corrected[2], sram_ecc_uncorrected[2]; /* volatile, aggregate */
    uint32_t retired_pages[2]; /* single-bit, double-bit; before Ampere */
    bool retirement_pending;
    uint32_t remapped_correctable, remapped_uncorrectable;
    bool remap_pending, remap_failed;
    uint32_t pcie_generation, pcie_width, max_pcie_generation, max_pcie_width;
    uint32_t pcie_replays, pcie_tx_kibps, pcie_rx_kibps;
    uint32_t recovery_action;
    uint32_t last_xid;

    uint32_t n_links;
    uint32_t nvlink_version, nvlink_mbps;      /* of one link and direction */
    uint32_t nvlink_tx_kibps, nvlink_rx_kibps; /* all links together */
    struct sim_link links[SIM_MAX_LINKS];

    uint32_t fabric_state; /* 0 not supported … 3 completed */
    uint32_t fabric_status, fabric_clique;
    uint8_t fabric_cluster[16];
    uint32_t addressing_mode; /* 0 none, 1 HMM, 2 ATS; 0xffffffff not supported */

    bool lost; /* fell off the bus: every call answers GPU_IS_LOST */
    bool hung; /* calls on it block until this is false again */

    bool mig_capable, mig_needs_reset, mig_survives_reboot;
    uint32_t mig_current, mig_pending;
    bool reset_required;
    uint32_t instance_generation; /* of the instance made last; grows with each creation */
    uint32_t max_mig_devices, memory_slices, compute_slices;
    struct sim_profile profiles[SIM_MAX_PROFILES];
    struct sim_gpu_instance instances[SIM_MAX_GPU_INSTANCES]; /* any order; listed by id */
};

struct sim_process {
    bool exists;
    uint32_t pid;
    uint32_t gpu;          /* index into gpus */
    uint32_t gi_id, ci_id; /* 0xffffffff: the whole GPU */
    uint32_t kind;         /* 0 compute, 1 graphics, 2 MPS */
    uint64_t memory_bytes;
    uint32_t sm_pct, memory_pct, encoder_pct, decoder_pct, jpeg_pct, ofa_pct;
    char name[64];
};

struct sim_event {
    uint64_t sequence; /* 0: never used; grows by one for each event of the node */
    uint32_t gpu;
    uint64_t type, data;
    uint32_t gi_id, ci_id;
};

/* A fault on demand: the nth matching call fails, or hangs. */
struct sim_fault {
    bool armed;
    uint32_t number;  /* of all faults ever armed: tells it from the next one in its slot */
    char call[64];    /* "nvmlDeviceGetUUID"; a `*` in it stands for any characters */
    int32_t gpu;      /* -1: any */
    uint32_t after;   /* matching calls that still succeed */
    uint32_t times;   /* calls that then fail; 0: all */
    uint32_t struck;  /* calls that it has caught so far */
    uint32_t code;    /* the nvmlReturn_t it answers */
    uint32_t hang_ms; /* sleeps this long first; 0xffffffff: until the fault is disarmed */
};

/* How GPUs reach each other: nvmlGpuTopologyLevel_t, symmetric. */
struct sim_topology {
    uint8_t level[SIM_MAX_GPUS][SIM_MAX_GPUS];
};

struct sim_state {
    uint64_t magic;
    uint32_t version, size; /* SIM_STATE_VERSION, sizeof(struct sim_state) */
    pthread_mutex_t lock;   /* process-shared, robust */
    uint32_t generation;    /* grows with each change that a client may see */
    uint32_t wake;          /* futex word: grows with each change, event, and hang that ends */

    char driver_version[80], nvml_version[80], driver_branch[80];
    int32_t cuda_version; /* 12080 */
    char machine[64];     /* DMI product name */
    uint64_t seed;        /* from which UUIDs, serial numbers and the like were made */
    bool driver_loaded;   /* false also in a file that a newer node has replaced */
    bool placement_three_slice_at_zero; /* 3-slice tries 0 before 4: spec/nvml §8.5 */
    bool mig_profiles_hidden;           /* told only while MIG is on: spec/mig §2.11 */
    bool pci_registers;                 /* the root has resource0 and reset: spec/mig §4.5 */

    uint32_t n_numa_nodes, cpus_per_node;
    uint32_t n_gpus;
    struct sim_gpu gpus[SIM_MAX_GPUS];
    struct sim_topology topology;
    struct sim_process processes[SIM_MAX_PROCESSES];
    uint64_t n_events; /* the sequence number of the newest event */
    struct sim_event events[SIM_MAX_EVENTS];
    struct sim_fault faults[SIM_MAX_FAULTS];
    uint32_t n_armed;  /* faults that are armed: the one word every call looks at */
    uint32_t n_faults; /* ever armed */
    uint64_t n_calls;  /* NVML calls answered so far, all processes */
};

/* Makes an empty node in memory: magic, version, size and a fresh lock; everything else zero. */
void sim_state_init(struct sim_state *state);

/*
 * Puts a copy of `content` at DIR/state in one step: a reader sees the old node or the new one,
 * never half of either. The lock is made anew. Clients of a node that was there before find
 * its driver gone (DRIVER_NOT_LOADED) until they initialise again. DIR must exist.
 */
[[nodiscard]] int sim_state_publish(const char *dir, const struct sim_state *content,
                                    struct err *err);

/* Ends a node for those who have it mapped: they find its driver gone, and nobody hangs in it any
 * more. Nothing happens where there is no node. */
void sim_state_retire(const char *dir);

/*
 * Maps DIR/state, shared and writable. Magic, version and size are checked first, then every count,
 * index and string in it, so that a damaged file is an error ("DIR/state: not a simulated node:
 * …") and never a crash. -ENOENT where there is no node. sim_state_close(NULL) is a no-op.
 */
[[nodiscard]] int sim_state_open(const char *dir, struct sim_state **ret, struct err *err);
void sim_state_close(struct sim_state *state);
DEFINE_FREEP(struct sim_state, sim_state_close)
[[nodiscard]] int sim_state_check(const struct sim_state *state, size_t size, struct err *err);

/* The directory of the node in use, or NULL; static storage. */
const char *sim_node_dir(void);

/* A holder that died leaves its changes as they are: each change here is made so that the words in
 * between are harmless, and counts kept twice (n_armed) are counted again. */
void sim_state_lock(struct sim_state *state);
void sim_state_unlock(struct sim_state *state);
/* Call with the lock held after a change: counts the generation and wakes waiting clients. */
void sim_state_changed(struct sim_state *state);

/* What a GPU, or one of its GPU instances, is busy with: its own load and its processes', in
 * percent and at most 100. Of an instance (not SIM_NO_INSTANCE) only the processes'. Call with the
 * lock. */
struct sim_load {
    uint32_t sm_pct, memory_pct, encoder_pct, decoder_pct, jpeg_pct, ofa_pct;
};
void sim_gpu_load(const struct sim_state *state, uint32_t gpu, uint32_t gi_id,
                  struct sim_load *ret);
/* Memory that processes hold on a GPU, or in one of its GPU instances. Call with the lock held. */
uint64_t sim_gpu_memory_held(const struct sim_state *state, uint32_t gpu, uint32_t gi_id);

/* Whether an NVLink carries anything: it is down at both ends when either end is, and MIG takes a
 * GPU off its links (spec/mig §1.1). Tools take for granted that both ends agree. */
bool sim_link_is_up(const struct sim_state *state, const struct sim_gpu *gpu, uint32_t link);

/* Brings a GPU's counters up to now; call with the lock held. */
void sim_gpu_advance(struct sim_state *state, uint32_t gpu);
uint64_t sim_now_ns(void); /* CLOCK_MONOTONIC */
