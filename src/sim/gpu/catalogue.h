/*
 * The GPUs that can be simulated, one row each: what NVML says about a board of that model before
 * anybody touched it. Rows are constants; numbers come from spec/nvml §8, spec/mig §2 and the
 * boards' public data sheets.
 *
 * MIG rows give memory and multiprocessors per profile; the profile's name is computed from them
 * as NVML's clients compute it (spec/mig §1.6), so that both always agree.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "sim/gpu/state.h"

enum { SIM_MAX_PROFILE_ROWS = 11, SIM_MAX_ALIASES = 6 };

/* The engines that a GPU instance shares among its compute instances. */
struct sim_engines {
    uint8_t copy, decoder, encoder, jpeg, ofa;
};

/* Where the instances of a board may lie: the placement families F8, F4 and F12 of spec/mig §2.1.
 */
struct sim_family {
    uint32_t memory_slices, compute_slices, max_devices;
    size_t n_rows;
    struct sim_family_row {
        uint32_t profile, id, slices, max;
        const char *suffix;
        uint32_t size, n_starts, starts[SIM_MAX_PLACEMENTS];
    } rows[SIM_MAX_PROFILE_ROWS];
};

/* What the family's rows mean on one board, in the same order. */
struct sim_mig_table {
    const struct sim_family *family;
    uint32_t memory_mib[SIM_MAX_PROFILE_ROWS];
    uint32_t multiprocessors[SIM_MAX_PROFILE_ROWS];
    struct sim_engines engines[SIM_MAX_PROFILE_ROWS];
};

/* How boards of a model are wired when nobody says otherwise. */
enum sim_wiring {
    SIM_WIRED_NOT,    /* PCIe boards without bridges */
    SIM_WIRED_MESH,   /* each to each, in groups of up to four; larger boxes in pairs */
    SIM_WIRED_BOX,    /* a mesh below eight boards, NVSwitches from eight on */
    SIM_WIRED_SWITCH, /* always NVSwitches */
};

struct sim_model {
    const char *name; /* "h100-80gb" */
    const char *aliases[SIM_MAX_ALIASES];
    const char *product; /* NVML's name: "NVIDIA H100 80GB HBM3" */
    const char *part_number, *vbios;
    uint16_t device_id, subsystem_id; /* PCI, both of vendor 0x10de */
    uint32_t brand, architecture;
    int32_t cc_major, cc_minor;
    uint32_t memory_mib, reserved_mib, bar1_mib, bus_bits;
    uint32_t multiprocessors, cores_per_multiprocessor;
    struct {
        uint32_t idle, min, max; /* watts; the default limit is the maximum */
    } power;
    struct {
        uint32_t graphics, memory, video, idle; /* MHz */
    } clock;
    uint32_t slowdown_c, shutdown_c;
    bool ecc, hbm; /* hbm: the memory has a thermometer */
    bool gsp, gpm, c2c;
    uint32_t pcie_generation, pcie_width;
    uint32_t n_links, link_version, link_mbps, n_switches;
    enum sim_wiring wiring;
    const struct sim_mig_table *mig; /* NULL: the board cannot do MIG */
};

/* All rows, in order of generation. */
const struct sim_model *sim_models(size_t *ret_n);
/* By name or alias, in any case; NULL when there is none. */
const struct sim_model *sim_model_find(struct span name);

/* "4xt4,2xa100-80gb": what a node holds. A model without a count is one GPU. */
struct sim_spec {
    uint32_t n_gpus; /* 1 … SIM_MAX_GPUS */
    const struct sim_model *gpus[SIM_MAX_GPUS];
};

/* -EINVAL with a sentence that names the part that is wrong, the model that was perhaps meant and
 * all that there are. */
[[nodiscard]] int sim_spec_parse(const char *text, struct sim_spec *ret, struct err *err);

/* Everything that follows from the model alone; what tells one board from the next (UUID, bus id,
 * links, …) is left zero: machine.h gives it that. */
void sim_model_fill(const struct sim_model *model, struct sim_gpu *gpu);

/* The GB in a profile's name, for a memory size and the board's total: spec/mig §1.6. */
uint32_t sim_profile_gb(uint64_t profile_bytes, uint64_t total_bytes);
