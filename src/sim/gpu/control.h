/*
 * The hand on a simulated node: what `tranche sim`, `tranche try` and tests turn and push. Making
 * and breaking GPUs, their load, their processes, and faults for NVML's callers.
 *
 * Everything here works on a mapped state or on one in memory alone. The caller holds the lock.
 * Every change is seen by NVML's callers at once. Failures are sentences about the word that is
 * wrong; nothing is changed then.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "sim/gpu/state.h"

/* A GPU by index, UUID or PCI bus id ("0000:1b:00.0", any case, four or eight digits of domain).
 * -EINVAL with a sentence that names those there are. */
[[nodiscard]] int sim_gpu_find(const struct sim_state *state, const char *word, uint32_t *ret,
                               struct err *err);

/* --- settings: KEY=VALUE ------------------------------------------------------------------ */

/* A thing that can be set on a GPU, or (node) on the whole node. */
struct sim_key {
    const char *name; /* "temperature" */
    const char *unit; /* "°C", "W", "on|off"; for help */
    const char *help;
    bool node;
};

/* All of them, one after the other; NULL after the last. */
const struct sim_key *sim_key_at(size_t i);

/* -EINVAL for a key that does not exist (with the nearest) or a value that cannot be; other codes
 * where the node refuses, as with MIG mode under a running process. */
[[nodiscard]] int sim_set(struct sim_state *state, uint32_t gpu, const char *key, const char *value,
                          struct err *err);
[[nodiscard]] int sim_set_node(struct sim_state *state, const char *key, const char *value,
                               struct err *err);

/* --- events ------------------------------------------------------------------------------- */

/* An Xid, on a whole GPU (SIM_NO_INSTANCE twice) or on one of its instances, which must exist. Xid
 * 79 also loses the GPU; 48, 63, 64, 92, 94 and 95 leave their traces in the memory error counters.
 */
[[nodiscard]] int sim_xid(struct sim_state *state, uint32_t gpu, uint32_t xid, uint32_t gi,
                          uint32_t ci, struct err *err);

/* Falls off the bus with Xid 79, and comes back: found again on the bus, as after a power cycle. */
void sim_lose(struct sim_state *state, uint32_t gpu);
void sim_return(struct sim_state *state, uint32_t gpu);

/* --- processes ---------------------------------------------------------------------------- */

/* Adds, or replaces the one with the same pid on the same GPU or instance. `process->exists` is not
 * looked at. Refuses what could not be: memory that is not free, an instance that does not exist, a
 * whole partitioned GPU, a pid of 0. */
[[nodiscard]] int sim_process_add(struct sim_state *state, const struct sim_process *process,
                                  struct err *err);
/* From one GPU, or (SIM_MAX_GPUS) from all. -ENOENT where it is not. */
[[nodiscard]] int sim_process_remove(struct sim_state *state, uint32_t pid, uint32_t gpu,
                                     struct err *err);

/* --- faults on demand --------------------------------------------------------------------- */

/*
 * Arms one; `armed`, `number` and `struck` are not looked at. The call must be one that the library
 * has, or a pattern with `*` that matches some. -ENOSPC when SIM_MAX_FAULTS are armed already.
 */
[[nodiscard]] int sim_fault_add(struct sim_state *state, const struct sim_fault *fault,
                                struct err *err);
/* Disarms all and wakes those who hang in one; how many there were. */
uint32_t sim_fault_clear(struct sim_state *state);

/* "GPU_IS_LOST", "NVML_ERROR_GPU_IS_LOST", "15". */
[[nodiscard]] int sim_code_parse(const char *word, uint32_t *ret, struct err *err);
/* "GPU_IS_LOST"; "UNKNOWN" for a number that is none. */
const char *sim_code_name(uint32_t code);
