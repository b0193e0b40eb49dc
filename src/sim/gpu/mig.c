#include "sim/gpu/mig.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "sim/gpu/event.h"

enum { HOPPER = 9, DATA_CENTRE_MEMORY_SLICES = 8 };

/* Profile enums that the rules below name (spec/nvml §8.1). */
enum { GI_3_SLICE = 2, GI_2_SLICE = 1, GI_1_SLICE = 0, GI_1_SLICE_DOUBLE_MEMORY = 9 };

/* --- who holds what ------------------------------------------------------------------------- */

const struct sim_process *sim_mig_holder(const struct sim_state *state, const struct sim_gpu *gpu,
                                         uint32_t gi, uint32_t ci)
{
    uint32_t index = (uint32_t)(gpu - state->gpus);

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        const struct sim_process *process = &state->processes[i];

        if (!process->exists || process->gpu != index)
            continue;
        if (gi != SIM_NO_INSTANCE && process->gi_id != gi)
            continue;
        /* A monitor that opened the whole GPU instance holds each of its compute instances. */
        if (ci != SIM_NO_INSTANCE && process->ci_id != ci && process->ci_id != SIM_NO_INSTANCE)
            continue;
        return process;
    }
    return NULL;
}

static int err_held(struct err *err, const struct sim_process *process, const char *what)
{
    if (process->name[0])
        return err_set(err, EBUSY, "process %u (%s) still holds %s", process->pid, process->name,
                       what);
    return err_set(err, EBUSY, "process %u still holds %s", process->pid, what);
}

static int err_lost(struct err *err)
{
    return err_set(err, ENODEV, "the GPU is lost");
}

static void mig_changed(struct sim_state *state, struct sim_gpu *gpu)
{
    sim_event_raise(state, gpu, SIM_EVENT_MIG_CONFIG, 0, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
}

/* --- mode ----------------------------------------------------------------------------------- */

static void drop_instances(struct sim_gpu *gpu)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++)
        gpu->instances[i].exists = false;
}

static bool has_instances(const struct sim_gpu *gpu)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        if (gpu->instances[i].exists)
            return true;
    }
    return false;
}

static enum sim_mig_activation mode_wish(struct sim_state *state, struct sim_gpu *gpu,
                                         uint32_t mode)
{
    if (!mode && has_instances(gpu))
        return SIM_MIG_IN_USE;
    gpu->mig_pending = mode;
    if (gpu->mig_current == mode)
        return SIM_MIG_ACTIVE;
    if (sim_mig_holder(state, gpu, SIM_NO_INSTANCE, SIM_NO_INSTANCE))
        return SIM_MIG_IN_USE;
    if (gpu->mig_needs_reset)
        return SIM_MIG_NEEDS_RESET;
    gpu->mig_current = mode;
    return SIM_MIG_ACTIVE;
}

int sim_mig_mode_set(struct sim_state *state, struct sim_gpu *gpu, uint32_t mode,
                     enum sim_mig_activation *ret, struct err *err)
{
    uint32_t was = gpu->mig_current, was_pending = gpu->mig_pending;

    if (!gpu->mig_capable)
        return err_set(err, ENOTSUP, "%s cannot do MIG", gpu->name);
    if (mode > 1)
        return err_set(err, EINVAL, "MIG mode is 0 or 1, not %u", mode);
    if (gpu->lost)
        return err_lost(err);

    *ret = mode_wish(state, gpu, mode);
    if (gpu->mig_current != was || gpu->mig_pending != was_pending)
        mig_changed(state, gpu);
    return 0;
}

/* What a reset and a reboot have in common: the chip starts again. */
static void start_again(struct sim_gpu *gpu)
{
    drop_instances(gpu);
    gpu->reset_required = false;
    gpu->recovery_action = 0;
    gpu->last_xid = 0;
    gpu->remap_pending = false; /* rows are remapped while the memory starts */
    gpu->ecc_enabled = gpu->ecc_pending;
    gpu->ecc_corrected[0] = gpu->ecc_uncorrected[0] = 0;
    gpu->sram_ecc_corrected[0] = gpu->sram_ecc_uncorrected[0] = 0;
}

int sim_gpu_reset(struct sim_state *state, struct sim_gpu *gpu, struct err *err)
{
    const struct sim_process *holder = sim_mig_holder(state, gpu, SIM_NO_INSTANCE, SIM_NO_INSTANCE);

    if (gpu->lost)
        return err_set(err, ENODEV, "the GPU fell off the bus; only a reboot brings it back");
    if (holder)
        return err_held(err, holder, "the GPU, so it cannot be reset");
    start_again(gpu);
    gpu->mig_current = gpu->mig_pending;
    mig_changed(state, gpu);
    return 0;
}

void sim_reboot(struct sim_state *state)
{
    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++)
        state->processes[i].exists = false;
    for (uint32_t i = 0; i < state->n_gpus; i++) {
        struct sim_gpu *gpu = &state->gpus[i];

        start_again(gpu);
        if (!gpu->mig_survives_reboot)
            gpu->mig_pending = 0;
        gpu->mig_current = gpu->mig_pending;
        gpu->lost = gpu->hung = false;
        mig_changed(state, gpu);
    }
}

/* --- GPU instances: profiles and places ----------------------------------------------------- */

int sim_gi_profile_of_id(const struct sim_gpu *gpu, uint32_t id, struct err *err)
{
    /* Every id that some GPU is known to have: spec/mig §1.3. */
    static const uint8_t known[] = { 0, 5, 6, 9, 14, 15, 19, 20, 21, 32, 35, 47, 64, 65, 66, 67 };

    for (int i = 0; i < SIM_MAX_PROFILES; i++) {
        if (gpu->profiles[i].supported && gpu->profiles[i].id == id)
            return i;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (known[i] == id)
            return err_set(err, ENOTSUP, "%s has no GPU instance profile %u", gpu->name, id);
    }
    return err_set(err, EINVAL, "there is no GPU instance profile %u", id);
}

static bool profile_has_start(const struct sim_profile *profile, uint32_t start)
{
    for (uint32_t i = 0; i < profile->n_starts; i++) {
        if (profile->starts[i] == start)
            return true;
    }
    return false;
}

static bool range_free(const struct sim_gpu *gpu, uint32_t start, uint32_t size)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        const struct sim_gpu_instance *gi = &gpu->instances[i];

        if (gi->exists && start < gi->start + gi->size && gi->start < start + size)
            return false;
    }
    return true;
}

/* What the engines that are not part of a slice come to: one number each. */
struct engines {
    uint32_t decoders, encoders, jpegs, ofas, copy;
};

static struct engines engines_of(const struct sim_profile *profile, uint32_t n)
{
    return (struct engines){
        .decoders = n * profile->decoders,
        .encoders = n * profile->encoders,
        .jpegs = n * profile->jpegs,
        .ofas = n * profile->ofas,
        .copy = n * profile->copy_engines,
    };
}

/* What the GPU has: NVML promises each profile max_instances times, so at least that many. */
static struct engines engines_total(const struct sim_gpu *gpu)
{
    struct engines total = {};

    for (size_t i = 0; i < SIM_MAX_PROFILES; i++) {
        const struct sim_profile *profile = &gpu->profiles[i];

        if (!profile->supported)
            continue;
        struct engines all = engines_of(profile, profile->max_instances);
        total.decoders = MAX(total.decoders, all.decoders);
        total.encoders = MAX(total.encoders, all.encoders);
        total.jpegs = MAX(total.jpegs, all.jpegs);
        total.ofas = MAX(total.ofas, all.ofas);
        total.copy = MAX(total.copy, all.copy);
    }
    return total;
}

static void engines_add(struct engines *sum, struct engines more)
{
    sum->decoders += more.decoders;
    sum->encoders += more.encoders;
    sum->jpegs += more.jpegs;
    sum->ofas += more.ofas;
    sum->copy += more.copy;
}

/*
 * Everything but the place: slices, the count of this profile, of instances, and engines. A `+me`
 * twice, or anything with a decoder beside `+me.all`, fails here for want of engines.
 */
static bool budgets_allow(const struct sim_gpu *gpu, uint32_t profile)
{
    const struct sim_profile *wanted = &gpu->profiles[profile];
    struct engines used = engines_of(wanted, 1), total = engines_total(gpu);
    uint32_t slices = wanted->slices, same = 0, all = 0;

    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        const struct sim_gpu_instance *gi = &gpu->instances[i];

        if (!gi->exists)
            continue;
        all++;
        same += gi->profile == profile;
        slices += gpu->profiles[gi->profile].slices;
        engines_add(&used, engines_of(&gpu->profiles[gi->profile], 1));
    }
    return all < SIM_MAX_GPU_INSTANCES && same < wanted->max_instances &&
           slices <= gpu->compute_slices && used.decoders <= total.decoders &&
           used.encoders <= total.encoders && used.jpegs <= total.jpegs &&
           used.ofas <= total.ofas && used.copy <= total.copy;
}

bool sim_gi_fits(const struct sim_gpu *gpu, uint32_t profile, uint32_t start)
{
    const struct sim_profile *wanted = &gpu->profiles[profile];

    return wanted->supported && profile_has_start(wanted, start) &&
           range_free(gpu, start, wanted->size) && budgets_allow(gpu, profile);
}

uint32_t sim_gi_capacity(const struct sim_gpu *gpu, uint32_t profile)
{
    const struct sim_profile *wanted = &gpu->profiles[profile];
    struct sim_gpu scratch = *gpu;
    uint32_t n = 0;

    /* Starts of one profile never overlap, so the order in which they are taken does not matter. */
    for (uint32_t i = 0; i < wanted->n_starts; i++) {
        if (!sim_gi_fits(&scratch, profile, wanted->starts[i]))
            continue;
        for (size_t slot = 0; slot < SIM_MAX_GPU_INSTANCES; slot++) {
            if (scratch.instances[slot].exists)
                continue;
            scratch.instances[slot] = (struct sim_gpu_instance){
                .exists = true,
                .profile = profile,
                .start = wanted->starts[i],
                .size = wanted->size,
            };
            break;
        }
        n++;
    }
    return n;
}

/*
 * The order in which the driver tries the places of GPUs with eight memory slices. It agrees with
 * every transcript of spec/mig §3.3, the GH200's 4, 0, 2 included, and with the counts of §3.4 for
 * it. (spec/nvml §8.5 has 4, 2, 0 for size 2, which two of those transcripts contradict.) The other
 * families go upwards.
 */
static const struct {
    uint32_t size, n, starts[SIM_MAX_PLACEMENTS];
} tried[] = {
    { 1, 7, { 6, 4, 5, 0, 1, 2, 3 } },
    { 2, 4, { 4, 0, 2, 6 } },
    { 4, 2, { 4, 0 } },
};

static uint32_t add_start(const struct sim_profile *profile, uint32_t start, uint32_t n,
                          uint32_t ret_starts[static SIM_MAX_PLACEMENTS])
{
    if (!profile_has_start(profile, start))
        return n;
    for (uint32_t i = 0; i < n; i++) {
        if (ret_starts[i] == start)
            return n;
    }
    ret_starts[n] = start;
    return n + 1;
}

uint32_t sim_gi_starts_tried(const struct sim_state *state, const struct sim_gpu *gpu,
                             uint32_t profile, uint32_t ret_starts[static SIM_MAX_PLACEMENTS])
{
    const struct sim_profile *wanted = &gpu->profiles[profile];
    uint32_t n = 0;

    if (profile == GI_3_SLICE && state->placement_three_slice_at_zero)
        n = add_start(wanted, 0, n, ret_starts);
    for (size_t i = 0; i < ARRAY_LEN(tried); i++) {
        if (gpu->memory_slices != DATA_CENTRE_MEMORY_SLICES || tried[i].size != wanted->size)
            continue;
        for (uint32_t j = 0; j < tried[i].n; j++)
            n = add_start(wanted, tried[i].starts[j], n, ret_starts);
    }
    for (uint32_t i = 0; i < wanted->n_starts; i++)
        n = add_start(wanted, wanted->starts[i], n, ret_starts);
    return n;
}

/*
 * A GPU instance's id is its node in the tree of halves, as a heap counts them: the whole GPU is 0,
 * the halves 1 and 2, the quarters 3 to 6, the eighths 7 to 14 (spec/mig §1.12).
 */
static uint32_t heap_index(const struct sim_gpu *gpu, uint32_t start, uint32_t size)
{
    if (!size || size > gpu->memory_slices)
        return 0;
    return gpu->memory_slices / size - 1 + start / size;
}

/* --- GPU instances: life -------------------------------------------------------------------- */

struct sim_gpu_instance *sim_gi_by_id(struct sim_gpu *gpu, uint32_t id)
{
    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        if (gpu->instances[i].exists && gpu->instances[i].id == id)
            return &gpu->instances[i];
    }
    return NULL;
}

size_t sim_gi_list(struct sim_gpu *gpu, uint32_t profile,
                   struct sim_gpu_instance *ret[static SIM_MAX_GPU_INSTANCES])
{
    size_t n = 0;

    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        struct sim_gpu_instance *gi = &gpu->instances[i];
        size_t at = n;

        if (!gi->exists || (profile != SIM_NO_INSTANCE && gi->profile != profile))
            continue;
        for (; at > 0 && ret[at - 1]->id > gi->id; at--)
            ret[at] = ret[at - 1];
        ret[at] = gi;
        n++;
    }
    return n;
}

static int check_placement(const struct sim_gpu *gpu, uint32_t profile,
                           const struct sim_placement *placement, struct err *err)
{
    const struct sim_profile *wanted = &gpu->profiles[profile];

    if (placement->size != wanted->size || !profile_has_start(wanted, placement->start))
        return err_set(err, EINVAL, "%s cannot be at %u:%u", wanted->name, placement->start,
                       placement->size);
    if (!sim_gi_fits(gpu, profile, placement->start))
        return err_set(err, ENOSPC, "%s does not fit at %u:%u any more", wanted->name,
                       placement->start, placement->size);
    return (int)placement->start;
}

/* The start, or why there is none. */
static int choose_start(const struct sim_state *state, const struct sim_gpu *gpu, uint32_t profile,
                        struct err *err)
{
    uint32_t starts[SIM_MAX_PLACEMENTS];
    uint32_t n = sim_gi_starts_tried(state, gpu, profile, starts);

    for (uint32_t i = 0; i < n; i++) {
        if (sim_gi_fits(gpu, profile, starts[i]))
            return (int)starts[i];
    }
    return err_set(err, ENOSPC, "no place is left for %s", gpu->profiles[profile].name);
}

/* While a GPU is still whole, its first instance rearranges engines that no one may be using:
 * spec/mig §3.6. */
static int check_first(const struct sim_state *state, const struct sim_gpu *gpu, struct err *err)
{
    const struct sim_process *holder = sim_mig_holder(state, gpu, SIM_NO_INSTANCE, SIM_NO_INSTANCE);

    if (holder && !has_instances(gpu))
        return err_held(err, holder, "the GPU, so its first GPU instance cannot be made");
    return 0;
}

int sim_gi_create(struct sim_state *state, struct sim_gpu *gpu, uint32_t profile,
                  const struct sim_placement *placement, struct sim_gpu_instance **ret,
                  struct err *err)
{
    struct sim_gpu_instance *slot = gpu->instances;

    if (gpu->lost)
        return err_lost(err);
    if (!gpu->mig_current)
        return err_set(err, ENOTSUP, "MIG mode is off");
    if (profile >= SIM_MAX_PROFILES || !gpu->profiles[profile].supported)
        return err_set(err, ENOTSUP, "%s has no such GPU instance profile", gpu->name);

    int start = placement ? check_placement(gpu, profile, placement, err)
                          : choose_start(state, gpu, profile, err);
    if (start < 0)
        return start;
    int r = check_first(state, gpu, err);
    if (r < 0)
        return r;

    while (slot->exists) /* what fits leaves a slot free */
        slot++;
    *slot = (struct sim_gpu_instance){
        .id = heap_index(gpu, (uint32_t)start, gpu->profiles[profile].size),
        .profile = profile,
        .start = (uint32_t)start,
        .size = gpu->profiles[profile].size,
        .generation = ++gpu->instance_generation,
    };
    slot->exists = true;
    mig_changed(state, gpu);
    *ret = slot;
    return 0;
}

int sim_gi_destroy(struct sim_state *state, struct sim_gpu *gpu, struct sim_gpu_instance *gi,
                   struct err *err)
{
    const struct sim_process *holder = sim_mig_holder(state, gpu, gi->id, SIM_NO_INSTANCE);
    char what[32];

    snprintf(what, sizeof(what), "GPU instance %u", gi->id);
    if (gpu->lost)
        return err_lost(err);
    if (holder)
        return err_held(err, holder, what);
    for (size_t i = 0; i < SIM_MAX_COMPUTE_INSTANCES; i++) {
        if (gi->compute[i].exists)
            return err_set(err, EBUSY, "compute instance %u is still in %s", gi->compute[i].id,
                           what);
    }
    gi->exists = false;
    mig_changed(state, gpu);
    return 0;
}

/* --- compute instances ---------------------------------------------------------------------- */

/* From Hopper on, the data centre's GPUs cut out of a quarter an instance of half the slices but
 * most of the multiprocessors: 26 of 32 on H100 (spec/mig §1.9). */
static bool has_mini_quarter(const struct sim_gpu *gpu)
{
    return gpu->architecture >= HOPPER && gpu->memory_slices == DATA_CENTRE_MEMORY_SLICES &&
           gpu->profiles[GI_1_SLICE_DOUBLE_MEMORY].supported;
}

/* How many slices a compute profile has that is not REV1; 0: nobody offers it. */
static uint32_t slices_of_ci(uint32_t profile)
{
    static const uint8_t slices[SIM_N_CI_PROFILES] = { 1, 2, 3, 4, 7 };

    return slices[profile];
}

/* A compute instance starts where the next power of two allows it: 3 slices at 0 and 4. */
static uint32_t ci_alignment(uint32_t size)
{
    uint32_t alignment = 1;

    while (alignment < size)
        alignment *= 2;
    return alignment;
}

static void ci_starts(struct sim_ci_profile *profile, uint32_t gi_slices)
{
    uint32_t step = ci_alignment(profile->size);

    for (uint32_t start = 0; start + profile->size <= gi_slices; start += step)
        profile->starts[profile->n_starts++] = start;
    profile->max_instances = profile->n_starts;
}

static bool ci_rev1(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                    struct sim_ci_profile *ret)
{
    if (!has_mini_quarter(gpu) ||
        (gi->profile != GI_2_SLICE && gi->profile != GI_1_SLICE_DOUBLE_MEMORY))
        return false;
    *ret = (struct sim_ci_profile){
        .slices = 1,
        .size = gpu->profiles[gi->profile].slices,
        .multiprocessors = gpu->profiles[GI_1_SLICE_DOUBLE_MEMORY].multiprocessors,
    };
    ci_starts(ret, ret->size);
    return true;
}

int sim_ci_profile_get(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                       uint32_t profile, struct sim_ci_profile *ret, struct err *err)
{
    const struct sim_profile *whole = &gpu->profiles[gi->profile];
    uint32_t per_slice = gpu->profiles[GI_1_SLICE].multiprocessors;

    if (profile >= SIM_N_CI_PROFILES)
        return err_set(err, EINVAL, "there is no compute instance profile %u", profile);
    if (profile == SIM_CI_REV1 && ci_rev1(gpu, gi, ret))
        return 0;

    uint32_t slices = slices_of_ci(profile);
    if (slices == 0 || slices > whole->slices || (slices == 3 && whole->slices == 4))
        return err_set(err, ENOTSUP, "%s has no compute instance profile %u", whole->name, profile);
    *ret = (struct sim_ci_profile){
        .slices = slices,
        .size = slices,
        .multiprocessors = slices == whole->slices ? whole->multiprocessors : slices * per_slice,
    };
    ci_starts(ret, whole->slices);
    return 0;
}

uint32_t sim_ci_whole(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi)
{
    uint32_t slices = gpu->profiles[gi->profile].slices;

    if (gi->profile == GI_1_SLICE_DOUBLE_MEMORY && has_mini_quarter(gpu))
        return SIM_CI_REV1;
    for (uint32_t i = 0; i < SIM_N_CI_PROFILES; i++) {
        if (slices_of_ci(i) == slices)
            return i;
    }
    return 0;
}

static bool ci_range_free(const struct sim_gpu_instance *gi, uint32_t start, uint32_t size)
{
    for (size_t i = 0; i < SIM_MAX_COMPUTE_INSTANCES; i++) {
        const struct sim_compute_instance *ci = &gi->compute[i];

        if (ci->exists && start < ci->start + ci->size && ci->start < start + size)
            return false;
    }
    return true;
}

uint32_t sim_ci_capacity(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                         uint32_t profile)
{
    struct sim_ci_profile wanted;
    uint32_t n = 0;

    if (sim_ci_profile_get(gpu, gi, profile, &wanted, NULL) < 0)
        return 0;
    for (uint32_t i = 0; i < wanted.n_starts; i++)
        n += ci_range_free(gi, wanted.starts[i], wanted.size);
    return n;
}

/* The start for it, or why there is none. */
static int ci_choose_start(const struct sim_gpu_instance *gi, const struct sim_ci_profile *wanted,
                           const struct sim_placement *placement, struct err *err)
{
    bool legal = !placement;

    for (uint32_t i = 0; i < wanted->n_starts; i++) {
        if (placement && (placement->start != wanted->starts[i] || placement->size != wanted->size))
            continue;
        legal = true;
        if (ci_range_free(gi, wanted->starts[i], wanted->size))
            return (int)wanted->starts[i];
    }
    if (!legal)
        return err_set(err, EINVAL, "a compute instance of %u slices cannot be at %u:%u",
                       wanted->size, placement->start, placement->size);
    return err_set(err, ENOSPC, "GPU instance %u has no place left for %u slices", gi->id,
                   wanted->size);
}

int sim_ci_first_fit(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi, uint32_t profile,
                     struct err *err)
{
    struct sim_ci_profile wanted;
    int r = sim_ci_profile_get(gpu, gi, profile, &wanted, err);

    return r < 0 ? r : ci_choose_start(gi, &wanted, NULL, err);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static uint64_t hash(uint64_t seed, const char *text)
{
    for (; *text; text++)
        seed = (seed ^ (unsigned char)*text) * 0x100000001b3ull;
    return mix(seed);
}

/* In the shape of a version 5 UUID. The generation makes it one that was never there before. */
static void make_uuid(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                      struct sim_compute_instance *ci)
{
    char source[128];

    snprintf(source, sizeof(source), "%s/%u/%u/%u", gpu->uuid, gi->id, ci->id, ci->generation);
    uint64_t high = hash(0xcbf29ce484222325ull, source), low = hash(~high, source);

    snprintf(ci->uuid, sizeof(ci->uuid), "MIG-%08x-%04x-5%03x-%04x-%012llx", (uint32_t)(high >> 32),
             (uint32_t)(high >> 16) & 0xffff, (uint32_t)high & 0xfff,
             ((uint32_t)(low >> 48) & 0x3fff) | 0x8000,
             (unsigned long long)(low & 0xffffffffffffull));
}

int sim_ci_create(struct sim_state *state, struct sim_gpu *gpu, struct sim_gpu_instance *gi,
                  uint32_t profile, const struct sim_placement *placement,
                  struct sim_compute_instance **ret, struct err *err)
{
    struct sim_ci_profile wanted;
    uint32_t id = 0;

    if (gpu->lost)
        return err_lost(err);
    int r = sim_ci_profile_get(gpu, gi, profile, &wanted, err);
    if (r < 0)
        return r;
    int start = ci_choose_start(gi, &wanted, placement, err);
    if (start < 0)
        return start;

    while (id < SIM_MAX_COMPUTE_INSTANCES && gi->compute[id].exists)
        id++;
    if (id == SIM_MAX_COMPUTE_INSTANCES)
        return err_set(err, ENOSPC, "GPU instance %u is full", gi->id);
    struct sim_compute_instance *ci = &gi->compute[id];
    *ci = (struct sim_compute_instance){
        .id = id,
        .profile = profile,
        .start = (uint32_t)start,
        .size = wanted.size,
        .multiprocessors = wanted.multiprocessors,
        .generation = ++gpu->instance_generation,
    };
    make_uuid(gpu, gi, ci);
    ci->exists = true;
    sim_state_changed(state);
    *ret = ci;
    return 0;
}

int sim_ci_destroy(struct sim_state *state, struct sim_gpu *gpu, struct sim_gpu_instance *gi,
                   struct sim_compute_instance *ci, struct err *err)
{
    const struct sim_process *holder = sim_mig_holder(state, gpu, gi->id, ci->id);
    char what[64];

    snprintf(what, sizeof(what), "compute instance %u of GPU instance %u", ci->id, gi->id);
    if (gpu->lost)
        return err_lost(err);
    if (holder)
        return err_held(err, holder, what);
    ci->exists = false;
    sim_state_changed(state);
    return 0;
}

struct sim_compute_instance *sim_ci_by_id(struct sim_gpu_instance *gi, uint32_t id)
{
    if (id >= SIM_MAX_COMPUTE_INSTANCES || !gi->compute[id].exists)
        return NULL;
    return &gi->compute[id];
}

/* --- MIG devices ---------------------------------------------------------------------------- */

int sim_mig_device_at(struct sim_gpu *gpu, uint32_t index, struct sim_mig_device *ret)
{
    struct sim_gpu_instance *gis[SIM_MAX_GPU_INSTANCES];
    size_t n = sim_gi_list(gpu, SIM_NO_INSTANCE, gis);

    for (size_t i = 0; i < n; i++) {
        for (uint32_t id = 0; id < SIM_MAX_COMPUTE_INSTANCES; id++) {
            struct sim_compute_instance *ci = &gis[i]->compute[id];

            if (!ci->exists || index-- > 0)
                continue;
            *ret = (struct sim_mig_device){ gpu, gis[i], ci };
            return 0;
        }
    }
    return -ENOENT;
}

int sim_mig_device_by_uuid(struct sim_state *state, const char *uuid, struct sim_mig_device *ret)
{
    for (uint32_t g = 0; g < state->n_gpus; g++) {
        struct sim_gpu *gpu = &state->gpus[g];

        for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
            struct sim_gpu_instance *gi = &gpu->instances[i];

            for (size_t id = 0; gi->exists && id < SIM_MAX_COMPUTE_INSTANCES; id++) {
                struct sim_compute_instance *ci = &gi->compute[id];

                if (!ci->exists || strcasecmp(ci->uuid, uuid) != 0)
                    continue;
                *ret = (struct sim_mig_device){ gpu, gi, ci };
                return 0;
            }
        }
    }
    return -ENOENT;
}

uint32_t sim_mig_device_index(const struct sim_gpu *gpu, const struct sim_gpu_instance *gi,
                              const struct sim_compute_instance *ci)
{
    uint32_t before = 0;

    for (size_t i = 0; i < SIM_MAX_GPU_INSTANCES; i++) {
        const struct sim_gpu_instance *other = &gpu->instances[i];

        if (!other->exists || other->id > gi->id)
            continue;
        for (size_t id = 0; id < SIM_MAX_COMPUTE_INSTANCES; id++)
            before += other->compute[id].exists && (other->id < gi->id || id < ci->id);
    }
    return before;
}

void sim_mig_device_profile(const struct sim_mig_device *device, char ret_name[static 32])
{
    const struct sim_profile *gi = &device->gpu->profiles[device->gi->profile];
    struct sim_ci_profile ci;

    if (sim_ci_profile_get(device->gpu, device->gi, device->ci->profile, &ci, NULL) < 0 ||
        ci.slices == gi->slices)
        snprintf(ret_name, 32, "%s", gi->name);
    else
        snprintf(ret_name, 32, "%uc.%s", ci.slices, gi->name);
}
