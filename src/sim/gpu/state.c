#include "sim/gpu/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/text.h"

enum { NSEC_PER_SEC = 1000000000, MIN_STEP_NS = 1000000 };

static void lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

void sim_state_init(struct sim_state *state)
{
    memset(state, 0, sizeof(*state));
    state->magic = SIM_STATE_MAGIC;
    state->version = SIM_STATE_VERSION;
    state->size = sizeof(*state);
    lock_init(&state->lock);
}

/* --- checking ------------------------------------------------------------------------------- */

#define CHECK_TEXT(field, err) check_text((field), sizeof(field), #field, err)

static int check_text(const char *text, size_t size, const char *name, struct err *err)
{
    if (memchr(text, '\0', size))
        return 0;
    return err_set(err, EBADMSG, "%s has no end", name);
}

static int check_limit(uint64_t value, uint64_t limit, const char *name, struct err *err)
{
    if (value <= limit)
        return 0;
    return err_set(err, EBADMSG, "%s is %llu, above %llu", name, (unsigned long long)value,
                   (unsigned long long)limit);
}

/* A bool of a damaged file may hold any byte, and reading such a bool is undefined. */
static int check_bools(const bool *const *flags, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char byte;

        memcpy(&byte, flags[i], 1);
        if (byte > 1)
            return err_set(err, EBADMSG, "a flag is neither true nor false");
    }
    return 0;
}

#define CHECK_BOOLS(err, ...)                                                                      \
    check_bools((const bool *const[]){ __VA_ARGS__ },                                              \
                ARRAY_LEN(((const bool *const[]){ __VA_ARGS__ })), err)

static int check_profile(const struct sim_profile *profile, struct err *err)
{
    int r = CHECK_BOOLS(err, &profile->supported);

    if (r >= 0)
        r = CHECK_TEXT(profile->name, err);
    if (r >= 0)
        r = check_limit(profile->n_starts, SIM_MAX_PLACEMENTS, "number of placements", err);
    for (uint32_t i = 0; r >= 0 && i < profile->n_starts; i++)
        r = check_limit(profile->starts[i], 255, "placement start", err);
    if (r >= 0)
        r = check_limit(profile->size, 255, "placement size", err);
    if (r >= 0)
        r = check_limit(profile->slices, SIM_MAX_COMPUTE_INSTANCES, "profile slices", err);
    if (r >= 0)
        r = check_limit(profile->max_instances, SIM_MAX_GPU_INSTANCES, "instance count", err);
    /* Clients make an array of this length and look at its first element. */
    if (r >= 0 && profile->supported && profile->max_instances == 0)
        r = err_set(err, EBADMSG, "profile %.20s allows no instance", profile->name);
    return r;
}

static int check_compute_instance(const struct sim_compute_instance *ci, struct err *err)
{
    int r = CHECK_BOOLS(err, &ci->exists);

    if (r >= 0)
        r = CHECK_TEXT(ci->uuid, err);
    if (r >= 0)
        r = check_limit(ci->id, SIM_MAX_COMPUTE_INSTANCES - 1, "compute instance id", err);
    if (r >= 0)
        r = check_limit(ci->profile, 255, "compute instance profile", err);
    if (r >= 0)
        r = check_limit(ci->start, 255, "compute instance start", err);
    if (r >= 0)
        r = check_limit(ci->size, 255, "compute instance size", err);
    return r;
}

static int check_gpu_instance(const struct sim_gpu_instance *gi, struct err *err)
{
    int r = CHECK_BOOLS(err, &gi->exists);

    if (r >= 0)
        r = check_limit(gi->id, 255, "GPU instance id", err);
    if (r >= 0)
        r = check_limit(gi->profile, SIM_MAX_PROFILES - 1, "GPU instance profile", err);
    if (r >= 0)
        r = check_limit(gi->start, 255, "GPU instance start", err);
    if (r >= 0)
        r = check_limit(gi->size, 255, "GPU instance size", err);
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(gi->compute); i++)
        r = check_compute_instance(&gi->compute[i], err);
    return r;
}

static int check_gpu_texts(const struct sim_gpu *gpu, struct err *err)
{
    int r = CHECK_TEXT(gpu->model, err);

    if (r >= 0)
        r = CHECK_TEXT(gpu->name, err);
    if (r >= 0)
        r = CHECK_TEXT(gpu->uuid, err);
    if (r >= 0)
        r = CHECK_TEXT(gpu->serial, err);
    if (r >= 0)
        r = CHECK_TEXT(gpu->part_number, err);
    if (r >= 0)
        r = CHECK_TEXT(gpu->vbios, err);
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(gpu->links); i++)
        r = CHECK_TEXT(gpu->links[i].remote_bus_id, err);
    return r;
}

static int check_gpu_flags(const struct sim_gpu *gpu, struct err *err)
{
    int r = CHECK_BOOLS(err, &gpu->has_gsp, &gpu->has_gpm, &gpu->c2c, &gpu->gpm_streaming,
                        &gpu->ecc_capable, &gpu->ecc_enabled, &gpu->ecc_pending,
                        &gpu->retirement_pending, &gpu->remap_pending, &gpu->remap_failed,
                        &gpu->lost, &gpu->hung, &gpu->mig_capable, &gpu->mig_needs_reset,
                        &gpu->mig_survives_reboot, &gpu->reset_required);

    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(gpu->links); i++)
        r = CHECK_BOOLS(err, &gpu->links[i].active, &gpu->links[i].remote_is_switch);
    return r;
}

/* Numbers that are subtracted from each other, or of which a client makes something as long. */
static int check_gpu_readings(const struct sim_gpu *gpu, struct err *err)
{
    const uint32_t degrees[] = { gpu->temperature_c, gpu->memory_temperature_c, gpu->slowdown_c,
                                 gpu->shutdown_c };
    int r = 0;

    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(degrees); i++)
        r = check_limit(degrees[i], 1000, "a temperature", err);
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(gpu->max_clock_mhz); i++)
        r = check_limit(gpu->max_clock_mhz[i], 100000, "a clock", err);
    return r;
}

static int check_gpu(const struct sim_gpu *gpu, struct err *err)
{
    int r = check_gpu_texts(gpu, err);

    if (r >= 0)
        r = check_gpu_readings(gpu, err);

    if (r >= 0)
        r = check_gpu_flags(gpu, err);
    if (r >= 0)
        r = check_limit(gpu->n_links, SIM_MAX_LINKS, "number of NVLinks", err);
    if (r >= 0)
        r = check_limit(gpu->memory_bytes, 1ull << 48, "memory size", err);
    if (r >= 0)
        r = check_limit(gpu->memory_reserved_bytes, gpu->memory_bytes, "reserved memory", err);
    if (r >= 0)
        r = check_limit(gpu->bar1_used_bytes, gpu->bar1_bytes, "BAR1 memory in use", err);
    if (r >= 0)
        r = check_limit(gpu->mig_current, 1, "MIG mode", err);
    if (r >= 0)
        r = check_limit(gpu->mig_pending, 1, "pending MIG mode", err);
    if (r >= 0)
        r = check_limit(gpu->max_mig_devices, SIM_MAX_GPU_INSTANCES * SIM_MAX_COMPUTE_INSTANCES,
                        "number of MIG devices", err);
    if (r >= 0)
        r = check_limit(gpu->memory_slices, 32, "number of memory slices", err);
    if (r >= 0)
        r = check_limit(gpu->compute_slices, 32, "number of compute slices", err);
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(gpu->profiles); i++)
        r = check_profile(&gpu->profiles[i], err);
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(gpu->instances); i++)
        r = check_gpu_instance(&gpu->instances[i], err);
    return r;
}

static int check_processes(const struct sim_state *state, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(state->processes); i++) {
        const struct sim_process *process = &state->processes[i];

        r = CHECK_BOOLS(err, &process->exists);
        if (r >= 0)
            r = CHECK_TEXT(process->name, err);
        if (r >= 0 && process->exists && process->gpu >= state->n_gpus)
            r = err_set(err, EBADMSG, "process %u is on GPU %u of %u", process->pid, process->gpu,
                        state->n_gpus);
        if (r >= 0)
            r = check_limit(process->memory_bytes, 1ull << 48, "memory of a process", err);
    }
    return r;
}

static int check_node(const struct sim_state *state, struct err *err)
{
    int r = CHECK_TEXT(state->driver_version, err);

    if (r >= 0)
        r = CHECK_TEXT(state->nvml_version, err);
    if (r >= 0)
        r = CHECK_TEXT(state->driver_branch, err);
    if (r >= 0)
        r = CHECK_TEXT(state->machine, err);
    if (r >= 0)
        r = CHECK_BOOLS(err, &state->driver_loaded, &state->placement_three_slice_at_zero,
                        &state->mig_profiles_hidden, &state->pci_registers);
    if (r >= 0)
        r = check_limit(state->n_numa_nodes, 64, "number of NUMA nodes", err);
    if (r >= 0)
        r = check_limit(state->cpus_per_node, 1024, "CPUs of a NUMA node", err);
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(state->faults); i++) {
        r = CHECK_BOOLS(err, &state->faults[i].armed);
        if (r >= 0)
            r = CHECK_TEXT(state->faults[i].call, err);
    }
    return r;
}

int sim_state_check(const struct sim_state *state, size_t size, struct err *err)
{
    if (size < sizeof(*state))
        return err_set(err, EBADMSG, "%zu bytes are too few", size);
    if (state->magic != SIM_STATE_MAGIC)
        return err_set(err, EBADMSG, "it does not start like one");
    if (state->version != SIM_STATE_VERSION || state->size != sizeof(*state) ||
        size != sizeof(*state))
        return err_set(err, EBADMSG, "it is of another version (%u, %u bytes)", state->version,
                       state->size);
    if (state->n_gpus > SIM_MAX_GPUS)
        return err_set(err, EBADMSG, "it has %u GPUs, above %d", state->n_gpus, SIM_MAX_GPUS);

    int r = check_node(state, err);
    if (r < 0)
        return r;
    for (uint32_t i = 0; i < state->n_gpus; i++) {
        r = check_gpu(&state->gpus[i], err);
        if (r < 0)
            return err_wrap(err, r, "GPU %u", i);
    }
    return check_processes(state, err);
}

/* --- files ---------------------------------------------------------------------------------- */

static int state_path(char *path, size_t size, const char *dir, const char *name, struct err *err)
{
    int n = snprintf(path, size, "%s/%s", dir, name);

    if (n < 0 || (size_t)n >= size)
        return err_set(err, ENAMETOOLONG, "%.200s…: the path is too long", dir);
    return 0;
}

static int map_file(int fd, size_t size, struct sim_state **ret)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        return -errno;
    *ret = memory;
    return 0;
}

int sim_state_open(const char *dir, struct sim_state **ret, struct err *err)
{
    char path[PATH_MAX];
    int r = state_path(path, sizeof(path), dir, "state", err);
    if (r < 0)
        return r;

    auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno, "%s: cannot open the simulated node: %s", path, strerror(errno));

    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size != sizeof(struct sim_state))
        return err_set(err, EBADMSG, "%s: not a simulated node: %lld bytes instead of %zu", path,
                       (long long)st.st_size, sizeof(struct sim_state));

    auto_(sim_state_closep) struct sim_state *state = NULL;
    r = map_file(fd, sizeof(*state), &state);
    if (r < 0)
        return err_set(err, -r, "%s: cannot map it: %s", path, strerror(-r));
    r = sim_state_check(state, sizeof(*state), err);
    if (r < 0)
        return err_wrap(err, r, "%s: not a simulated node", path);
    *ret = steal(state);
    return 0;
}

void sim_state_close(struct sim_state *state)
{
    if (state)
        munmap(state, sizeof(*state));
}

void sim_state_retire(const char *dir)
{
    auto_(sim_state_closep) struct sim_state *old = NULL;

    if (sim_state_open(dir, &old, NULL) < 0)
        return;
    sim_state_lock(old);
    old->driver_loaded = false;
    for (uint32_t i = 0; i < old->n_gpus; i++)
        old->gpus[i].hung = false;
    memset(old->faults, 0, sizeof(old->faults));
    old->n_armed = 0;
    sim_state_changed(old);
    sim_state_unlock(old);
}

static int write_new(const char *path, const struct sim_state *content, struct err *err)
{
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    auto_(sim_state_closep) struct sim_state *state = NULL;

    if (fd < 0)
        return err_set(err, errno, "%s: cannot create it: %s", path, strerror(errno));
    /* The library runs as any user of the node, as the driver's device files allow. */
    if (fchmod(fd, 0666) < 0 || ftruncate(fd, sizeof(*content)) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    int r = posix_fallocate(fd, 0, sizeof(*content));
    if (r != 0)
        return err_set(err, r, "%s: no room for it: %s", path, strerror(r));
    r = map_file(fd, sizeof(*content), &state);
    if (r < 0)
        return err_set(err, -r, "%s: cannot map it: %s", path, strerror(-r));
    memcpy(state, content, sizeof(*state));
    lock_init(&state->lock);
    return 0;
}

int sim_state_publish(const char *dir, const struct sim_state *content, struct err *err)
{
    char fresh[PATH_MAX], path[PATH_MAX], name[64];

    int r = sim_state_check(content, sizeof(*content), err);
    if (r < 0)
        return r;
    snprintf(name, sizeof(name), "state.new.%d", (int)getpid());
    r = state_path(fresh, sizeof(fresh), dir, name, err);
    if (r >= 0)
        r = state_path(path, sizeof(path), dir, "state", err);
    if (r < 0)
        return r;

    r = write_new(fresh, content, err);
    if (r < 0) {
        unlink(fresh);
        return r;
    }
    sim_state_retire(dir);
    if (rename(fresh, path) < 0) {
        r = err_set(err, errno, "%s: cannot put the node in place: %s", path, strerror(errno));
        unlink(fresh);
    }
    return r;
}

const char *sim_node_dir(void)
{
    static const char *const usual = "/run/tranche/sim";
    const char *dir = getenv("TRANCHE_SIM");

    if (dir && *dir)
        return dir;
    return access(usual, F_OK) == 0 ? usual : NULL;
}

/* --- the lock ------------------------------------------------------------------------------- */

void sim_state_lock(struct sim_state *state)
{
    if (pthread_mutex_lock(&state->lock) != EOWNERDEAD)
        return;
    pthread_mutex_consistent(&state->lock);
    state->n_armed = 0;
    for (size_t i = 0; i < ARRAY_LEN(state->faults); i++)
        state->n_armed += state->faults[i].armed;
}

void sim_state_unlock(struct sim_state *state)
{
    pthread_mutex_unlock(&state->lock);
}

void sim_state_changed(struct sim_state *state)
{
    state->generation++;
    __atomic_fetch_add(&state->wake, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &state->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* --- counters ------------------------------------------------------------------------------- */

uint64_t sim_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* kib_per_second × ns, in bytes, without losing the small parts of long spans. */
static uint64_t bytes_over(uint32_t kib_per_second, uint64_t ns)
{
    return (uint64_t)((unsigned __int128)kib_per_second * 1024 * ns / NSEC_PER_SEC);
}

static bool concerns(const struct sim_process *process, uint32_t gpu, uint32_t gi_id)
{
    return process->exists && process->gpu == gpu &&
           (gi_id == SIM_NO_INSTANCE || process->gi_id == gi_id);
}

void sim_gpu_load(const struct sim_state *state, uint32_t gpu, uint32_t gi_id, struct sim_load *ret)
{
    const struct sim_gpu *own = &state->gpus[gpu];
    uint64_t sum[6] = {};

    if (gi_id == SIM_NO_INSTANCE) {
        sum[0] = own->utilization_pct;
        sum[1] = own->memory_utilization_pct;
        sum[2] = own->encoder_pct;
        sum[3] = own->decoder_pct;
        sum[4] = own->jpeg_pct;
        sum[5] = own->ofa_pct;
    }
    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        const struct sim_process *process = &state->processes[i];

        if (!concerns(process, gpu, gi_id))
            continue;
        sum[0] += process->sm_pct;
        sum[1] += process->memory_pct;
        sum[2] += process->encoder_pct;
        sum[3] += process->decoder_pct;
        sum[4] += process->jpeg_pct;
        sum[5] += process->ofa_pct;
    }
    for (size_t i = 0; i < ARRAY_LEN(sum); i++)
        sum[i] = MIN(sum[i], 100ull);
    *ret = (struct sim_load){ (uint32_t)sum[0], (uint32_t)sum[1], (uint32_t)sum[2],
                              (uint32_t)sum[3], (uint32_t)sum[4], (uint32_t)sum[5] };
}

uint64_t sim_gpu_memory_held(const struct sim_state *state, uint32_t gpu, uint32_t gi_id)
{
    uint64_t held = 0;

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        if (concerns(&state->processes[i], gpu, gi_id))
            held += state->processes[i].memory_bytes;
    }
    return held;
}

static void advance_activities(const struct sim_state *state, uint32_t index, struct sim_gpu *gpu,
                               uint64_t ns)
{
    struct sim_load load;

    sim_gpu_load(state, index, SIM_NO_INSTANCE, &load);
    /* Graphics engine, SM and DRAM activity are the load itself (GPM metrics 1, 2 and 10). */
    gpu->activity_pct[1] = gpu->activity_pct[2] = load.sm_pct;
    gpu->activity_pct[10] = load.memory_pct;
    for (size_t i = 0; i < SIM_N_ACTIVITIES; i++)
        gpu->activity_pct_ns[i] += gpu->activity_pct[i] * ns;
}

static void advance_violations(struct sim_gpu *gpu, uint64_t ns)
{
    /* The clock event reason (spec/nvml §6) under which each policy counts. */
    static const uint64_t reasons[SIM_N_VIOLATIONS] = {
        [0] = 0x4,         /* power: the software power cap */
        [1] = 0x20 | 0x40, /* thermal */
        [2] = 0x10,        /* sync boost */
        [3] = 0x80,        /* board limit: the power brake */
        [4] = 0x1,         /* low utilization: idle */
        [5] = 0x8,         /* reliability: the hardware slowdown */
        [6] = 0x2,         /* application clocks */
        [7] = 0x2,         /* base clocks */
    };

    for (size_t i = 0; i < SIM_N_VIOLATIONS; i++) {
        if (gpu->clock_event_reasons & reasons[i])
            gpu->violation_ns[i] += ns;
    }
}

/* ---- NVLink ---- */

static uint32_t links_of(const struct sim_gpu *gpu)
{
    return MIN(gpu->n_links, (uint32_t)SIM_MAX_LINKS);
}

/* As NVML writes a place on the bus. */
static void write_bus_id(const struct sim_gpu *gpu, char text[static 32])
{
    snprintf(text, 32, "%08X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus, gpu->pci_device);
}

static const struct sim_gpu *find_by_bus_id(const struct sim_state *state, const char *bus_id)
{
    char text[32];

    for (uint32_t i = 0; i < MIN(state->n_gpus, (uint32_t)SIM_MAX_GPUS); i++) {
        write_bus_id(&state->gpus[i], text);
        if (text_equal(text, bus_id))
            return &state->gpus[i];
    }
    return NULL;
}

/* The nth of our links to a GPU is wired to the nth of its links to us. */
static bool other_end_is_up(const struct sim_gpu *gpu, uint32_t link, const struct sim_gpu *peer)
{
    const char *to = gpu->links[link].remote_bus_id;
    uint32_t nth = 0;
    char us[32];

    if (peer->mig_current || peer->lost)
        return false;
    for (uint32_t i = 0; i < link; i++)
        nth += text_equal(gpu->links[i].remote_bus_id, to);
    write_bus_id(gpu, us);
    for (uint32_t i = 0; i < links_of(peer); i++)
        if (text_equal(peer->links[i].remote_bus_id, us) && nth-- == 0)
            return peer->links[i].active;
    return false;
}

bool sim_link_is_up(const struct sim_state *state, const struct sim_gpu *gpu, uint32_t link)
{
    if (link >= links_of(gpu) || !gpu->links[link].active || gpu->mig_current)
        return false;
    if (gpu->links[link].remote_is_switch)
        return true;

    const struct sim_gpu *peer = find_by_bus_id(state, gpu->links[link].remote_bus_id);
    return peer && other_end_is_up(gpu, link, peer);
}

void sim_gpu_advance(struct sim_state *state, uint32_t index)
{
    struct sim_gpu *gpu = &state->gpus[index];
    uint64_t now = sim_now_ns();
    /* A file that outlived a restart of the machine has a stamp from the future. */
    uint64_t ns = now > gpu->advanced_ns ? now - gpu->advanced_ns : 0;

    /* Somebody who asks all the time must not round every step down to nothing. */
    if (ns < MIN_STEP_NS && now >= gpu->advanced_ns)
        return;
    gpu->advanced_ns = now;
    gpu->energy_uj += (uint64_t)((unsigned __int128)gpu->power_mw * ns / 1000000);
    gpu->nvlink_tx_bytes += bytes_over(gpu->nvlink_tx_kibps, ns);
    gpu->nvlink_rx_bytes += bytes_over(gpu->nvlink_rx_kibps, ns);
    gpu->pcie_tx_bytes += bytes_over(gpu->pcie_tx_kibps, ns);
    gpu->pcie_rx_bytes += bytes_over(gpu->pcie_rx_kibps, ns);
    advance_activities(state, index, gpu, ns);
    advance_violations(gpu, ns);
}
