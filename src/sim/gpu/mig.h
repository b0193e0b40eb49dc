/*
 * The driver's half of MIG on a simulated GPU: mode, GPU instances, compute instances, and the MIG
 * devices that come of them. Plain rules over struct sim_state; the simulated NVML, `tranche sim`
 * and `tranche try` all act through them, so none can bring a GPU into a state the others refuse.
 *
 * The caller holds the state's lock, except for the questions that are marked static: they read
 * only what never changes after the GPU was made. Instances are pointers into the state, good
 * until the lock is released or the instance destroyed. Every change is counted
 * (sim_state_changed); changes of mode and of GPU instances also raise a MIG configuration event.
 *
 * What an error's number means (nvml_mig_calls.c turns it into NVML's code):
 *   -EINVAL   no such profile, start or mode anywhere; or a placement that is never legal
 *   -ENOTSUP  this GPU cannot do MIG, MIG is off, or the profile is not for this GPU or instance
 *   -ENOSPC   nothing free that would do (NVML: INSUFFICIENT_RESOURCES)
 *   -EBUSY    somebody or something holds it; the sentence says who
 *   -ENODEV   the GPU is lost
 *
 * Rules: spec/mig §1.9, §1.10, §3, §6; spec/nvml §8.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "sim/gpu/state.h"

enum { SIM_N_CI_PROFILES = 9, SIM_CI_REV1 = 7 };

/* Mode */

enum sim_mig_activation {
    SIM_MIG_ACTIVE,      /* in force */
    SIM_MIG_IN_USE,      /* a process holds the GPU, or instances are left: see sim_mig_mode_set */
    SIM_MIG_NEEDS_RESET, /* waits for sim_gpu_reset or sim_reboot */
};

/*
 * Asks for MIG mode on or off. Success means that the wish was understood; *ret says what became of
 * it. With clients on the GPU it is pending until a reset, or until it is set again on an idle GPU.
 * Turning MIG off while GPU instances exist changes nothing, not even the pending mode. An idle GPU
 * changes at once, but for one with mig_needs_reset (Ampere), which waits for sim_gpu_reset.
 */
[[nodiscard]] int sim_mig_mode_set(struct sim_state *state, struct sim_gpu *gpu, uint32_t mode,
                                   enum sim_mig_activation *ret, struct err *err);

/* nvidia-smi --gpu-reset: instances are lost, the pending mode comes into force, volatile error
 * counts start again. -EBUSY with processes on it, -ENODEV when it fell off the bus. */
[[nodiscard]] int sim_gpu_reset(struct sim_state *state, struct sim_gpu *gpu, struct err *err);

/* The whole node: every process and instance is gone, lost and hung GPUs are back. MIG mode is kept
 * where the board stores it (mig_survives_reboot: Ampere), otherwise off. */
void sim_reboot(struct sim_state *state);

/* GPU instances. `profile` is NVML's enum, an index into gpu->profiles. */

struct sim_placement {
    uint32_t start, size;
};

/* Static. The enum of a driver's profile id: -EINVAL for an id no GPU has, -ENOTSUP for one that
 * only others have. */
[[nodiscard]] int sim_gi_profile_of_id(const struct sim_gpu *gpu, uint32_t id, struct err *err);

/* Could one be made at `start` now, whatever the mode? Placement, slices, count and engines. */
bool sim_gi_fits(const struct sim_gpu *gpu, uint32_t profile, uint32_t start);
/* How many more of it could be made now. */
uint32_t sim_gi_capacity(const struct sim_gpu *gpu, uint32_t profile);
/* Static. All starts of a profile in the order in which the driver tries them; how many. */
uint32_t sim_gi_starts_tried(const struct sim_state *state, const struct sim_gpu *gpu,
                             uint32_t profile, uint32_t ret_starts[static SIM_MAX_PLACEMENTS]);

/* Without a placement the driver's own choice. The first one needs a GPU without processes. */
[[nodiscard]] int sim_gi_create(struct sim_state *state, struct sim_gpu *gpu, uint32_t profile,
                                const struct sim_placement *placement,
                                struct sim_gpu_instance **ret, struct err *err);
[[nodiscard]] int sim_gi_destroy(struct sim_state *state, struct sim_gpu *gpu,
                                 struct sim_gpu_instance *gi, struct err *err);

struct sim_gpu_instance *sim_gi_by_id(struct sim_gpu *gpu, uint32_t id); /* or NULL */
/* By id, those of one profile or (SIM_NO_INSTANCE) all of them; how many. */
size_t sim_gi_list(struct sim_gpu *gpu, uint32_t profile,
                   struct sim_gpu_instance *ret[static SIM_MAX_GPU_INSTANCES]);

/* Compute instances. `profile` is NVML's enum and the driver's id at once. */

struct sim_ci_profile {
    uint32_t slices;        /* what it counts as */
    uint32_t size;          /* compute slices it takes up; two for the 26 SM profile inside 2g */
    uint32_t max_instances; /* in an empty GPU instance */
    uint32_t multiprocessors;
    uint32_t n_starts, starts[SIM_MAX_PLACEMENTS];
};

/* -EINVAL beyond the last enum, -ENOTSUP when this GPU instance does not offer it. */
[[nodiscard]] int sim_ci_profile_get(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                                     uint32_t profile, struct sim_ci_profile *ret, struct err *err);
/* The profile that fills the whole GPU instance. */
uint32_t sim_ci_whole(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi);
uint32_t sim_ci_capacity(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                         uint32_t profile);
/* Where the next one would start, or -ENOSPC and what sim_ci_profile_get may fail with. */
[[nodiscard]] int sim_ci_first_fit(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                                   uint32_t profile, struct err *err);

/* First fit without a placement. The new MIG device gets a UUID that no other ever had. */
[[nodiscard]] int sim_ci_create(struct sim_state *state, struct sim_gpu *gpu,
                                struct sim_gpu_instance *gi, uint32_t profile,
                                const struct sim_placement *placement,
                                struct sim_compute_instance **ret, struct err *err);
[[nodiscard]] int sim_ci_destroy(struct sim_state *state, struct sim_gpu *gpu,
                                 struct sim_gpu_instance *gi, struct sim_compute_instance *ci,
                                 struct err *err);

struct sim_compute_instance *sim_ci_by_id(struct sim_gpu_instance *gi, uint32_t id); /* or NULL */

/* MIG devices: the pairs (GI, CI) in order of their ids; the index is the position among them. */

struct sim_mig_device {
    struct sim_gpu *gpu;
    struct sim_gpu_instance *gi;
    struct sim_compute_instance *ci;
};

/* -ENOENT when there is none. */
[[nodiscard]] int sim_mig_device_at(struct sim_gpu *gpu, uint32_t index,
                                    struct sim_mig_device *ret);
[[nodiscard]] int sim_mig_device_by_uuid(struct sim_state *state, const char *uuid,
                                         struct sim_mig_device *ret);
/* Of an existing one. */
uint32_t sim_mig_device_index(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                              const struct sim_compute_instance *ci);
/* "1g.10gb", or "1c.3g.40gb" where the compute instance is smaller than the GPU instance. */
void sim_mig_device_profile(const struct sim_mig_device *device, char ret_name[static 32]);

/*
 * The process that keeps this from being destroyed, or NULL. With ci SIM_NO_INSTANCE: anyone inside
 * the GPU instance; with both: anyone on the GPU.
 */
const struct sim_process *sim_mig_holder(const struct sim_state *state, const struct sim_gpu *gpu,
                                         uint32_t gi, uint32_t ci);

/* Whole partitions (mig_partition.c) */

struct sim_mig_want {
    const char *profile; /* "1g.10gb", "1g.10gb+me", "1c.3g.40gb" */
    uint32_t count;      /* MIG devices */
};

/*
 * Makes a GPU look like this at once, whatever it was: MIG on, no other instances, GPU instances on
 * a legal layout (every one is tried, the driver's favourite first), compute instances that fill
 * them or, for names such as 1c.3g.40gb, share them. No wants: MIG on and empty. Needs no reset.
 * Nothing is touched unless all of it fits: -ENOSPC and a sentence that names what does not fit
 * and what would; -EINVAL for a name that this GPU does not know; -EBUSY with the holder.
 */
[[nodiscard]] int sim_mig_partition(struct sim_state *state, struct sim_gpu *gpu,
                                    const struct sim_mig_want *wants, size_t n_wants,
                                    struct err *err);

/* Destroys all instances, or none: -EBUSY with the holder. */
[[nodiscard]] int sim_mig_clear(struct sim_state *state, struct sim_gpu *gpu, struct err *err);
