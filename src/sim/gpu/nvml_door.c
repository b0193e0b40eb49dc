#include "sim/gpu/nvml_door.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/text.h"

/* --- handles --------------------------------------------------------------------------------- */

/* 16 bits of mark, 4 of kind, 4 of GPU, 12 of GPU instance, 8 of compute instance, 20 of
 * generation. Bits 47 and 63 differ, so it is no address on any x86-64 or arm64 machine. */
static const uint64_t handle_mark = 0x4e56;

void *handle_make(struct handle handle)
{
    uint64_t bits = handle_mark << 48 | (uint64_t)(8 | (handle.kind & 7)) << 44 |
                    (uint64_t)(handle.gpu & 0xf) << 40 | (uint64_t)(handle.gi & 0xfff) << 28 |
                    (uint64_t)(handle.ci & 0xff) << 20 | (handle.generation & 0xfffff);

    return (void *)(uintptr_t)bits;
}

bool handle_read(const void *pointer, struct handle *ret)
{
    uint64_t bits = (uintptr_t)pointer;

    if (bits >> 48 != handle_mark || !(bits >> 47 & 1) || (bits >> 44 & 7) == HANDLE_NONE)
        return false;
    *ret = (struct handle){
        .kind = (enum handle_kind)(bits >> 44 & 7),
        .gpu = bits >> 40 & 0xf,
        .gi = bits >> 28 & 0xfff,
        .ci = bits >> 20 & 0xff,
        .generation = bits & 0xfffff,
    };
    return true;
}

nvmlDevice_t door_gpu_handle(uint32_t gpu_index)
{
    return handle_make((struct handle){ .kind = HANDLE_GPU, .gpu = gpu_index });
}

nvmlDevice_t door_mig_handle(uint32_t gpu_index, const struct sim_gpu_instance *gi,
                             const struct sim_compute_instance *ci)
{
    return handle_make((struct handle){ HANDLE_MIG, gpu_index, gi->id, ci->id, ci->generation });
}

nvmlGpuInstance_t door_gi_handle(uint32_t gpu_index, const struct sim_gpu_instance *gi)
{
    return handle_make(
        (struct handle){ HANDLE_GPU_INSTANCE, gpu_index, gi->id, 0, gi->generation });
}

nvmlComputeInstance_t door_ci_handle(uint32_t gpu_index, const struct sim_gpu_instance *gi,
                                     const struct sim_compute_instance *ci)
{
    return handle_make(
        (struct handle){ HANDLE_COMPUTE_INSTANCE, gpu_index, gi->id, ci->id, ci->generation });
}

/* --- the mapped node ------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock; /* guards all but `state` when it is read by a call */
    struct sim_state *mapped;
    dev_t device;
    ino_t inode;
    unsigned long n_inits;
    struct sim_state *state; /* mapped while n_inits > 0, else NULL */
} session = { .lock = PTHREAD_MUTEX_INITIALIZER };

struct sim_state *door_state(void)
{
    return __atomic_load_n(&session.state, __ATOMIC_ACQUIRE);
}

/*
 * Maps the node, or keeps the mapping when it still is the same file. A mapping of an older file is
 * left in place: a thread may be inside a call on it, and a node is replaced rarely.
 */
static nvmlReturn_t map_node(void)
{
    const char *dir = sim_node_dir();
    struct sim_state *state = NULL;
    char path[PATH_MAX];
    struct stat st;

    if (!dir || snprintf(path, sizeof(path), "%s/state", dir) >= (int)sizeof(path) ||
        stat(path, &st) < 0)
        return NVML_DRIVER_NOT_LOADED;
    if (session.mapped && st.st_dev == session.device && st.st_ino == session.inode)
        return NVML_SUCCESS;

    int r = sim_state_open(dir, &state, NULL);
    if (r < 0)
        return r == -EACCES || r == -EPERM || r == -EROFS ? NVML_NO_PERMISSION
               : r == -EBADMSG                            ? NVML_LIB_RM_VERSION_MISMATCH
                                                          : NVML_DRIVER_NOT_LOADED;
    session.mapped = state;
    session.device = st.st_dev;
    session.inode = st.st_ino;
    return NVML_SUCCESS;
}

[[gnu::destructor]] static void unmap_node(void)
{
    sim_state_close(session.mapped);
    session.mapped = NULL;
}

/* --- faults on demand ------------------------------------------------------------------------ */

void door_sleep(struct sim_state *state, uint32_t seen, uint32_t timeout_ms)
{
    struct timespec limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000000l };

    syscall(SYS_futex, &state->wake, FUTEX_WAIT, seen, timeout_ms == SIM_FOREVER ? NULL : &limit,
            NULL, 0);
}

static uint32_t wake_word(const struct sim_state *state)
{
    return __atomic_load_n(&state->wake, __ATOMIC_ACQUIRE);
}

static bool fault_matches(const struct sim_fault *fault, const char *call, int32_t gpu)
{
    return fault->armed && (fault->times == 0 || fault->struck < fault->times) &&
           (fault->gpu < 0 || fault->gpu == gpu) && text_matches(fault->call, call);
}

static void fault_disarm(struct sim_state *state, struct sim_fault *fault)
{
    fault->armed = false;
    if (state->n_armed > 0)
        state->n_armed--;
    sim_state_changed(state);
}

/* Counts the call against the first fault it matches; true when that fault strikes now. */
static bool fault_take(struct sim_state *state, const char *call, int32_t gpu,
                       struct sim_fault *ret, size_t *ret_slot)
{
    bool struck = false;

    sim_state_lock(state);
    for (size_t i = 0; i < SIM_MAX_FAULTS && !struck; i++) {
        struct sim_fault *fault = &state->faults[i];

        if (!fault_matches(fault, call, gpu))
            continue;
        if (fault->after > 0) {
            fault->after--;
            break;
        }
        fault->struck++;
        *ret = *fault;
        *ret_slot = i;
        struck = true;
        /* A fault that holds its callers until it is disarmed does not disarm itself. */
        if (fault->struck == fault->times && fault->hang_ms != SIM_FOREVER)
            fault_disarm(state, fault);
    }
    sim_state_unlock(state);
    return struck;
}

/* Until the time is over, or the fault in its slot is gone. */
static void fault_hang(struct sim_state *state, const struct sim_fault *fault, size_t slot)
{
    uint64_t end = sim_now_ns() + fault->hang_ms * 1000000ull;

    for (;;) {
        uint32_t seen = wake_word(state);
        uint64_t now = sim_now_ns();

        if (fault->hang_ms == SIM_FOREVER) {
            if (!state->faults[slot].armed || state->faults[slot].number != fault->number)
                return;
            door_sleep(state, seen, SIM_FOREVER);
        } else {
            if (now >= end)
                return;
            door_sleep(state, seen, (uint32_t)((end - now + 999999) / 1000000));
        }
    }
}

static nvmlReturn_t fault_strike(struct sim_state *state, const char *call, int32_t gpu)
{
    struct sim_fault fault;
    size_t slot;

    if (!fault_take(state, call, gpu, &fault, &slot))
        return NVML_SUCCESS;
    if (fault.hang_ms > 0)
        fault_hang(state, &fault, slot);
    return fault.code;
}

/* What any call meets first. gpu is -1 where it concerns no GPU. */
static nvmlReturn_t enter(struct door *door, const char *call, int32_t gpu, unsigned flags)
{
    struct sim_state *state = door_state();

    if (!state)
        return NVML_UNINITIALIZED;
    door->state = state;
    __atomic_fetch_add(&state->n_calls, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&state->n_armed, __ATOMIC_RELAXED) > 0) {
        nvmlReturn_t r = fault_strike(state, call, gpu);
        if (r)
            return r;
    }
    if (!state->driver_loaded)
        return NVML_DRIVER_NOT_LOADED;
    if ((flags & DOOR_ROOT) && !door_privileged())
        return NVML_NO_PERMISSION;
    return NVML_SUCCESS;
}

/* A GPU that hangs keeps its callers, one that is lost sends them away. */
static nvmlReturn_t meet_gpu(struct door *door, uint32_t index)
{
    struct sim_state *state = door->state;

    if (index >= MIN(state->n_gpus, (uint32_t)SIM_MAX_GPUS))
        return NVML_INVALID_ARGUMENT;
    door->gpu = &state->gpus[index];
    door->gpu_index = index;
    for (;;) {
        uint32_t seen = wake_word(state);

        if (!__atomic_load_n(&door->gpu->hung, __ATOMIC_ACQUIRE))
            break;
        door_sleep(state, seen, SIM_FOREVER);
    }
    return door->gpu->lost ? NVML_GPU_IS_LOST : NVML_SUCCESS;
}

static void keep_lock(struct door *door)
{
    sim_state_lock(door->state);
    door->locked = true;
}

void door_leave(struct door *door)
{
    if (door->locked)
        sim_state_unlock(door->state);
    door->locked = false;
}

/* Leaves at once, so that a failed entrance holds nothing. */
static nvmlReturn_t refuse(struct door *door, nvmlReturn_t code)
{
    door_leave(door);
    return code;
}

/* --- looking instances up -------------------------------------------------------------------- */

static bool same_generation(uint32_t generation, const struct handle *handle)
{
    return (generation & 0xfffff) == handle->generation;
}

static struct sim_gpu_instance *find_gi(struct sim_gpu *gpu, uint32_t id)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        if (gpu->instances[i].exists && gpu->instances[i].id == id)
            return &gpu->instances[i];
    }
    return NULL;
}

/* Fills door->gi and door->ci; false when the handle outlived them. Call with the lock held. */
static bool find_instances(struct door *door)
{
    const struct handle *handle = &door->handle;

    door->gi = find_gi(door->gpu, handle->gi);
    if (!door->gi)
        return false;
    if (handle->kind == HANDLE_GPU_INSTANCE)
        return same_generation(door->gi->generation, handle);
    if (handle->ci >= SIM_MAX_COMPUTE_INSTANCES)
        return false;
    door->ci = &door->gi->compute[handle->ci];
    return door->ci->exists && same_generation(door->ci->generation, handle);
}

/* --- the public doors ------------------------------------------------------------------------ */

nvmlReturn_t door_system(struct door *door, const char *call, unsigned flags)
{
    nvmlReturn_t r = enter(door, call, -1, flags);

    if (r)
        return r;
    if (flags & DOOR_LOCK)
        keep_lock(door);
    return NVML_SUCCESS;
}

static bool read_device(struct door *door, nvmlDevice_t device)
{
    return handle_read(device, &door->handle) &&
           (door->handle.kind == HANDLE_GPU || door->handle.kind == HANDLE_MIG);
}

/* The GPU, and for a MIG device its instances, of a handle that read_device accepted. */
static nvmlReturn_t meet_device(struct door *door, unsigned flags)
{
    bool mig = door->handle.kind == HANDLE_MIG;

    nvmlReturn_t r = meet_gpu(door, door->handle.gpu);
    if (r)
        return r;
    if (mig && (flags & DOOR_BOARD))
        return NVML_NOT_SUPPORTED;
    if (mig ? !(flags & (DOOR_ANY_DEVICE | DOOR_MIG_ONLY)) : !!(flags & DOOR_MIG_ONLY))
        return NVML_INVALID_ARGUMENT;
    if (mig || (flags & DOOR_LOCK))
        keep_lock(door);
    if (mig && !find_instances(door))
        return refuse(door, NVML_INVALID_ARGUMENT);
    return NVML_SUCCESS;
}

nvmlReturn_t door_device(struct door *door, const char *call, nvmlDevice_t device, unsigned flags)
{
    bool good = read_device(door, device);

    nvmlReturn_t r = enter(door, call, good ? (int32_t)door->handle.gpu : -1, flags);
    if (r)
        return r;
    return good ? meet_device(door, flags) : NVML_INVALID_ARGUMENT;
}

nvmlReturn_t door_beside(struct door *door, const struct door *first, nvmlDevice_t device)
{
    door->state = first->state;
    return read_device(door, device) ? meet_device(door, DOOR_ANY_DEVICE) : NVML_INVALID_ARGUMENT;
}

static nvmlReturn_t door_instance(struct door *door, const char *call, const void *pointer,
                                  enum handle_kind kind, unsigned flags)
{
    bool good = handle_read(pointer, &door->handle) && door->handle.kind == kind;

    nvmlReturn_t r = enter(door, call, good ? (int32_t)door->handle.gpu : -1, flags);
    if (r)
        return r;
    if (!good)
        return NVML_INVALID_ARGUMENT;
    r = meet_gpu(door, door->handle.gpu);
    if (r)
        return r;
    keep_lock(door);
    return find_instances(door) ? NVML_SUCCESS : refuse(door, NVML_INVALID_ARGUMENT);
}

nvmlReturn_t door_gpu_instance(struct door *door, const char *call, nvmlGpuInstance_t instance,
                               unsigned flags)
{
    return door_instance(door, call, instance, HANDLE_GPU_INSTANCE, flags);
}

nvmlReturn_t door_compute_instance(struct door *door, const char *call,
                                   nvmlComputeInstance_t instance, unsigned flags)
{
    return door_instance(door, call, instance, HANDLE_COMPUTE_INSTANCE, flags);
}

nvmlReturn_t door_index(struct door *door, const char *call, uint32_t index)
{
    nvmlReturn_t r = enter(door, call, index < SIM_MAX_GPUS ? (int32_t)index : -1, 0);

    return r ? r : meet_gpu(door, index);
}

static nvmlReturn_t open_node(void)
{
    pthread_mutex_lock(&session.lock);
    nvmlReturn_t r = session.n_inits > 0 ? NVML_SUCCESS : map_node();
    if (r == NVML_SUCCESS && !session.mapped->driver_loaded)
        r = NVML_DRIVER_NOT_LOADED;
    if (r == NVML_SUCCESS) {
        session.n_inits++;
        __atomic_store_n(&session.state, session.mapped, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&session.lock);
    return r;
}

static void close_node(void)
{
    pthread_mutex_lock(&session.lock);
    if (session.n_inits > 0 && --session.n_inits == 0)
        __atomic_store_n(&session.state, NULL, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&session.lock);
}

/* Faults are kept in the node, so it is opened first and closed again when one strikes. */
nvmlReturn_t door_open(const char *call)
{
    struct door door = {};

    nvmlReturn_t r = open_node();
    if (r)
        return r;
    r = enter(&door, call, -1, 0);
    if (r)
        close_node();
    return r;
}

nvmlReturn_t door_close(const char *call)
{
    struct door door = {};

    nvmlReturn_t r = enter(&door, call, -1, 0);
    /* A driver that is gone must not keep its clients from leaving. */
    if (r && r != NVML_DRIVER_NOT_LOADED)
        return r;
    close_node();
    return NVML_SUCCESS;
}

bool door_privileged(void)
{
    const char *word = getenv("TRANCHE_SIM_PRIVILEGED");

    return geteuid() == 0 || (word && text_equal(word, "1"));
}

nvmlReturn_t door_text(char *buffer, uint32_t length, const char *text)
{
    size_t n = strlen(text) + 1;

    if (!buffer)
        return NVML_INVALID_ARGUMENT;
    if (length < n)
        return NVML_INSUFFICIENT_SIZE;
    memcpy(buffer, text, n);
    return NVML_SUCCESS;
}
