/* One step of a plan: what comes of it, and how it reads. */
#include <errno.h>
#include <stdio.h>

#include "share/mig_board.h"
#include "share/mig_plan.h"

enum { AMPERE = 8 };

/* ---- in thought ---- */

static struct mig_gpu_instance *find_gi(struct mig_gpu *gpu, const struct mig_step *step)
{
    for (size_t i = 0; i < gpu->n_gis; i++)
        if (gpu->gis[i].gi_profile == step->gi_profile &&
            gpu->gis[i].placement.start == step->gi.start &&
            gpu->gis[i].placement.size == step->gi.size)
            return &gpu->gis[i];
    return NULL;
}

static bool is_ci(const struct mig_compute_instance *ci, const struct mig_step *step)
{
    if (ci->ci_profile != step->ci_profile)
        return false;
    if (ci->placement.size > 0 && step->ci.size > 0)
        return ci->placement.start == step->ci.start && ci->placement.size == step->ci.size;
    return !step->uuid || !ci->uuid || text_equal(step->uuid, ci->uuid);
}

static bool overlap(const struct mig_placement *a, const struct mig_placement *b)
{
    return a->start < b->start + b->size && b->start < a->start + a->size;
}

static int err_nothing(const struct mig_step *step, struct err *err)
{
    return err_set(err, ENOENT, "there is no GPU instance of profile %u at %u", step->gi_profile,
                   step->gi.start);
}

static int destroy_ci(struct mig_gpu *gpu, const struct mig_step *step, struct err *err)
{
    struct mig_gpu_instance *gi = find_gi(gpu, step);
    size_t at = 0;

    if (!gi)
        return err_nothing(step, err);
    while (at < gi->n_cis && !is_ci(&gi->cis[at], step))
        at++;
    if (at == gi->n_cis)
        return err_set(err, ENOENT, "there is no such compute instance");
    if (gi->cis[at].held_by_process)
        return err_set(err, EBUSY, "%s holds it", gi->cis[at].holder);
    memmove(&gi->cis[at], &gi->cis[at + 1], (--gi->n_cis - at) * sizeof(gi->cis[0]));
    return 0;
}

static int destroy_gi(struct mig_gpu *gpu, const struct mig_step *step, struct err *err)
{
    struct mig_gpu_instance *gi = find_gi(gpu, step);

    if (!gi)
        return err_nothing(step, err);
    if (gi->n_cis > 0)
        return err_set(err, EBUSY, "a compute instance is still in it");
    size_t at = (size_t)(gi - gpu->gis);
    memmove(gi, gi + 1, (--gpu->n_gis - at) * sizeof(*gi));
    return 0;
}

static bool has_placement(const struct mig_gi_profile *profile, const struct mig_placement *place)
{
    for (size_t i = 0; i < profile->n_placements; i++)
        if (profile->placements[i].start == place->start &&
            profile->placements[i].size == place->size)
            return true;
    return false;
}

/* A GPU instance's id is its node in the tree of halves (spec/mig §1.12). */
static uint32_t heap_index(const struct mig_gpu *gpu, const struct mig_placement *place)
{
    return gpu->memory_slices / place->size - 1 + place->start / place->size;
}

/* Of slices, engines and the number of instances: spec/mig §3.1. */
static bool has_budget(const struct mig_gpu *gpu, uint32_t gi_profile)
{
    struct mig_counts counts = {};
    struct mig_board board;

    mig_board_make(gpu, &board);
    counts.n[mig_board_find(&board, gi_profile)]++;
    for (size_t i = 0; i < gpu->n_gis; i++) {
        int profile = mig_board_find(&board, gpu->gis[i].gi_profile);
        if (profile >= 0)
            counts.n[profile]++;
    }
    return gpu->n_gis < MIG_BOARD_MAX_GIS && mig_board_allows(&board, &counts);
}

static int create_gi(struct mig_gpu *gpu, const struct mig_step *step, struct err *err)
{
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, step->gi_profile);
    size_t at = 0;

    if (!gpu->enabled || !profile)
        return err_set(err, ENOTSUP, gpu->enabled ? "no such profile" : "MIG mode is off");
    if (!has_placement(profile, &step->gi) || step->gi.size == 0)
        return err_set(err, EINVAL, "%s cannot be at %u", profile->name, step->gi.start);
    for (size_t i = 0; i < gpu->n_gis; i++)
        if (overlap(&gpu->gis[i].placement, &step->gi))
            return err_set(err, ENOSPC, "%u is taken", step->gi.start);
    if (!has_budget(gpu, step->gi_profile))
        return err_set(err, ENOSPC, "nothing is left for %s", profile->name);
    if (gpu->holder && !gpu->held_by_pod && gpu->n_gis == 0)
        return err_set(err, EBUSY, "%s holds the GPU", gpu->holder);
    while (at < gpu->n_gis && gpu->gis[at].placement.start < step->gi.start)
        at++;
    memmove(&gpu->gis[at + 1], &gpu->gis[at], (gpu->n_gis++ - at) * sizeof(gpu->gis[0]));
    gpu->gis[at] = (struct mig_gpu_instance){
        .id = heap_index(gpu, &step->gi),
        .gi_profile = step->gi_profile,
        .placement = step->gi,
    };
    return 0;
}

static bool ci_fits(const struct mig_gpu_instance *gi, const struct mig_placement *place)
{
    for (size_t i = 0; i < gi->n_cis; i++)
        if (overlap(&gi->cis[i].placement, place))
            return false;
    return true;
}

/* The start, or why there is none. */
static int choose_ci_start(const struct mig_gpu_instance *gi, uint32_t slices,
                           const struct mig_step *step, uint32_t size, struct err *err)
{
    if (step->ci.size > 0 &&
        (step->ci.size != size || !mig_ci_start_legal(slices, step->ci.start, size)))
        return err_set(err, EINVAL, "a compute instance of %u slices cannot be at %u", size,
                       step->ci.start);
    for (uint32_t start = 0; start < slices; start++) {
        struct mig_placement place = { start, size };
        if ((step->ci.size == 0 || step->ci.start == start) &&
            mig_ci_start_legal(slices, start, size) && ci_fits(gi, &place))
            return (int)start;
    }
    return err_set(err, ENOSPC, "no place is left for %u slices", size);
}

static uint32_t free_ci_id(const struct mig_gpu_instance *gi)
{
    uint32_t id = 0;

    for (size_t i = 0; i < gi->n_cis; i++)
        if (gi->cis[i].id == id) {
            id++;
            i = (size_t)-1;
        }
    return id;
}

static int create_ci(struct mig_gpu *gpu, const struct mig_step *step, struct err *err)
{
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, step->gi_profile);
    struct mig_gpu_instance *gi = find_gi(gpu, step);
    size_t at = 0;

    if (!gi || !profile)
        return err_nothing(step, err);
    uint32_t size = mig_gpu_ci_size(gpu, profile, step->ci_profile);
    if (size == 0)
        return err_set(err, ENOTSUP, "%s has no such compute instances", profile->name);
    int start = choose_ci_start(gi, profile->slices, step, size, err);
    if (start < 0)
        return start;
    if (gi->n_cis == MIG_MAX_COMPUTE_INSTANCES)
        return err_set(err, ENOSPC, "it is full");
    uint32_t id = free_ci_id(gi);
    while (at < gi->n_cis && gi->cis[at].placement.start < (uint32_t)start)
        at++;
    memmove(&gi->cis[at + 1], &gi->cis[at], (gi->n_cis++ - at) * sizeof(gi->cis[0]));
    gi->cis[at] = (struct mig_compute_instance){
        .id = id,
        .ci_profile = step->ci_profile,
        .placement = { (uint32_t)start, size },
    };
    return 0;
}

/* On Ampere the mode waits for a reset; where the driver does that by itself, the reset step finds
 * nothing to do, and what comes of both steps is the same. */
static int set_mode(struct mig_gpu *gpu, bool on, struct err *err)
{
    if (!gpu->capable)
        return err_set(err, ENOTSUP, "%s cannot do MIG", gpu->name);
    if (!on && gpu->n_gis > 0)
        return err_set(err, EBUSY, "GPU instances are left");
    if (gpu->enabled != on && gpu->holder && !gpu->held_by_pod)
        return err_set(err, EBUSY, "%s holds the GPU", gpu->holder);
    gpu->pending = on;
    if (gpu->cc_major != AMPERE)
        gpu->enabled = on;
    return 0;
}

static int reset(struct mig_gpu *gpu, struct err *err)
{
    if (gpu->pending == gpu->enabled)
        return 0;
    if (gpu->holder && !gpu->held_by_pod)
        return err_set(err, EBUSY, "%s holds the GPU", gpu->holder);
    for (size_t i = 0; i < gpu->n_gis; i++)
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++)
            if (gpu->gis[i].cis[j].held_by_process)
                return err_set(err, EBUSY, "%s holds the GPU", gpu->gis[i].cis[j].holder);
    gpu->enabled = gpu->pending;
    gpu->n_gis = 0;
    return 0;
}

int mig_step_imagine(struct mig_gpu *gpu, const struct mig_step *step, struct err *err)
{
    switch (step->kind) {
    case MIG_STEP_DESTROY_CI:
        return destroy_ci(gpu, step, err);
    case MIG_STEP_DESTROY_GI:
        return destroy_gi(gpu, step, err);
    case MIG_STEP_MODE_OFF:
    case MIG_STEP_MODE_ON:
        return set_mode(gpu, step->kind == MIG_STEP_MODE_ON, err);
    case MIG_STEP_RESET:
        return reset(gpu, err);
    case MIG_STEP_CREATE_GI:
        return create_gi(gpu, step, err);
    case MIG_STEP_CREATE_CI:
        return create_ci(gpu, step, err);
    case MIG_STEP_N_KINDS:
        break;
    }
    return err_set(err, EINVAL, "no such step");
}

/* ---- in words ---- */

static bool is_mode(const struct mig_step *step)
{
    return step->kind == MIG_STEP_MODE_OFF || step->kind == MIG_STEP_MODE_ON;
}

/* "1c.3g.40gb at 4", and where in it a compute instance is that is not all of it: "at 4, slice 2".
 */
static void describe_place(const struct mig_gpu *gpu, const struct mig_step *step,
                           char text[static 96])
{
    const struct mig_gpu_instance gi = { .gi_profile = step->gi_profile };
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, step->gi_profile);
    bool of_ci = step->kind == MIG_STEP_DESTROY_CI || step->kind == MIG_STEP_CREATE_CI;
    struct mig_compute_instance ci = { .ci_profile = step->ci_profile };
    char name[MIG_PROFILE_NAME_MAX], slice[24] = "";

    if (!of_ci && profile)
        ci.ci_profile = mig_ci_whole(profile->slices);
    mig_device_name(gpu, &gi, &ci, name);
    if (of_ci && profile && step->ci.size > 0 && step->ci.size < profile->slices)
        snprintf(slice, sizeof(slice), ", slice %u", step->ci.start);
    snprintf(text, 96, "%s at %u%s", name, step->gi.start, slice);
}

void mig_step_describe(const struct mig_gpu *gpu, const struct mig_step *step,
                       char text[static 160])
{
    static const char *const verbs[MIG_STEP_N_KINDS] = {
        [MIG_STEP_DESTROY_CI] = "destroy",
        [MIG_STEP_DESTROY_GI] = "destroy GPU instance",
        [MIG_STEP_MODE_OFF] = "switch MIG mode off",
        [MIG_STEP_MODE_ON] = "switch MIG mode on",
        [MIG_STEP_RESET] = "reset the GPU if the mode waits for it",
        [MIG_STEP_CREATE_GI] = "create GPU instance",
        [MIG_STEP_CREATE_CI] = "create",
    };
    char place[96];

    if (is_mode(step) || step->kind == MIG_STEP_RESET) {
        snprintf(text, 160, "%s", verbs[step->kind]);
        return;
    }
    describe_place(gpu, step, place);
    snprintf(text, 160, "%s %s%s%s%s", verbs[step->kind], place, step->uuid ? " (" : "",
             step->uuid ? step->uuid : "", step->uuid ? ")" : "");
}
