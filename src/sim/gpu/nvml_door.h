/*
 * The door every simulated NVML call goes through: is the library initialised, is a fault armed
 * for this call, is the GPU there, may this caller do it, and what does the handle mean.
 *
 *     nvmlReturn_t nvmlDeviceGetBrand(nvmlDevice_t device, uint32_t *type)
 *     {
 *         auto_(door_leave) struct door door = {};
 *         nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);
 *         if (r)
 *             return r;
 *         if (!type)
 *             return NVML_INVALID_ARGUMENT;
 *         *type = door.gpu->brand;
 *         return NVML_SUCCESS;
 *     }
 *
 * A handle is not an address. It is a number with the kind of the thing, the GPU's index, the ids
 * of its instances and the generation of the youngest of them, so it is the same for every caller,
 * survives dlclose and dlopen, and a forged or outlived one is INVALID_ARGUMENT, never a crash. The
 * top bits make it an address that no process can map, so that garbage collectors leave it alone.
 *
 * The lock: facts that never change after a node was created and single words are read without it.
 * Whatever walks instances, processes, events or faults, and every write, takes it (DOOR_LOCK); a
 * call on a MIG device, a GPU instance or a compute instance always holds it. door_leave lets go.
 */
#pragma once

#include "base/base.h"
#include "sim/gpu/nvml.h"
#include "sim/gpu/state.h"

enum handle_kind {
    HANDLE_NONE,
    HANDLE_GPU,
    HANDLE_MIG,
    HANDLE_GPU_INSTANCE,
    HANDLE_COMPUTE_INSTANCE,
    HANDLE_EVENT_SET,        /* of this process: gi is its slot */
    HANDLE_SYSTEM_EVENT_SET, /* of this process: gi is its slot */
    HANDLE_GPM_SAMPLE,       /* of this process: gi is its slot */
    HANDLE_N_KINDS,
};

struct handle {
    enum handle_kind kind;
    uint32_t gpu;        /* 0..15 */
    uint32_t gi, ci;     /* 0..255; 0 where the kind has none */
    uint32_t generation; /* its lower 20 bits */
};

void *handle_make(struct handle handle);
/* False unless it has the shape of a handle; says nothing about whether the thing exists. */
bool handle_read(const void *pointer, struct handle *ret);

enum door_flags {
    DOOR_PHYSICAL = 0,        /* a MIG device's handle is INVALID_ARGUMENT */
    DOOR_ANY_DEVICE = 1 << 0, /* a GPU's or a MIG device's handle */
    DOOR_MIG_ONLY = 1 << 1,   /* a GPU's handle is INVALID_ARGUMENT */
    DOOR_LOCK = 1 << 2,       /* hold the lock until door_leave */
    DOOR_ROOT = 1 << 3,       /* NO_PERMISSION without privilege (door_privileged) */
    DOOR_BOARD = 1 << 4,      /* a MIG device's handle is NOT_SUPPORTED: a whole board's business */
};

struct door {
    struct sim_state *state;
    struct sim_gpu *gpu; /* NULL after door_system */
    uint32_t gpu_index;
    struct handle handle;
    struct sim_gpu_instance *gi;     /* of a MIG device, GPU instance or compute instance */
    struct sim_compute_instance *ci; /* of a MIG device or compute instance */
    bool locked;
};

/* Each takes `call`, the entry point's name (__func__), for faults on demand. All return SUCCESS,
 * or the code that the call must answer with; on failure nothing is locked. */
[[nodiscard]] nvmlReturn_t door_system(struct door *door, const char *call, unsigned flags);
[[nodiscard]] nvmlReturn_t door_device(struct door *door, const char *call, nvmlDevice_t device,
                                       unsigned flags);
[[nodiscard]] nvmlReturn_t door_gpu_instance(struct door *door, const char *call,
                                             nvmlGpuInstance_t instance, unsigned flags);
[[nodiscard]] nvmlReturn_t door_compute_instance(struct door *door, const char *call,
                                                 nvmlComputeInstance_t instance, unsigned flags);
/* A GPU that is named by its index: 2 when there is none. */
[[nodiscard]] nvmlReturn_t door_index(struct door *door, const char *call, uint32_t index);
/* The other GPU or MIG device of the same call, which counts once: after door_device and door_leave
 * for the first. */
[[nodiscard]] nvmlReturn_t door_beside(struct door *door, const struct door *first,
                                       nvmlDevice_t device);
void door_leave(struct door *door);

/* nvmlInit and nvmlShutdown: reference-counted, from any thread. */
[[nodiscard]] nvmlReturn_t door_open(const char *call);
[[nodiscard]] nvmlReturn_t door_close(const char *call);

/* Root, or TRANCHE_SIM_PRIVILEGED=1. */
bool door_privileged(void);

/* The mapped node, or NULL before nvmlInit and after the last nvmlShutdown. The mapping itself
 * stays until the library is unloaded, so that a thread inside a call never loses it. */
struct sim_state *door_state(void);

/* Sleeps until somebody calls sim_state_changed, or `timeout_ms` went by (0xffffffff: no limit), if
 * state->wake still is `seen`: read wake before the last look at what is waited for. Call without
 * the lock. */
void door_sleep(struct sim_state *state, uint32_t seen, uint32_t timeout_ms);

nvmlDevice_t door_gpu_handle(uint32_t gpu_index);
nvmlDevice_t door_mig_handle(uint32_t gpu_index, const struct sim_gpu_instance *gi,
                             const struct sim_compute_instance *ci);
nvmlGpuInstance_t door_gi_handle(uint32_t gpu_index, const struct sim_gpu_instance *gi);
nvmlComputeInstance_t door_ci_handle(uint32_t gpu_index, const struct sim_gpu_instance *gi,
                                     const struct sim_compute_instance *ci);

/* Copies a string into a caller's buffer: INVALID_ARGUMENT for none, INSUFFICIENT_SIZE. */
[[nodiscard]] nvmlReturn_t door_text(char *buffer, uint32_t length, const char *text);
