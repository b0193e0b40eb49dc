#include "share/mig_geometry.h"

#include <errno.h>
#include <stdio.h>

#include "base/buf.h"

/* Enums that the rules below name (spec/mig §1.2). */
enum { GI_2_SLICE = 1, GI_1_SLICE_DOUBLE_MEMORY = 9, CI_1_SLICE_REV1 = 7, CI_7_SLICE_NVL = 8 };
enum { HOPPER = 9, DATA_CENTRE_MEMORY_SLICES = 8 };

const struct mig_gi_profile *mig_gpu_profile(const struct mig_gpu *gpu, uint32_t gi_profile)
{
    for (size_t i = 0; i < gpu->n_profiles; i++)
        if (gpu->profiles[i].gi_profile == gi_profile)
            return &gpu->profiles[i];
    return NULL;
}

/* ---- compute instances ---- */

uint32_t mig_ci_whole(uint32_t slices)
{
    for (uint32_t i = 0; i < CI_1_SLICE_REV1; i++)
        if (mig_ci_profile_slices(i) == slices)
            return i;
    return MIG_CI_PROFILES;
}

/* A compute instance starts where the next power of two allows it: three slices at 0 and 4. */
static uint32_t alignment(uint32_t size)
{
    uint32_t step = 1;

    while (step < size)
        step *= 2;
    return step;
}

/* How many aligned places of `size` there are. */
static uint32_t places(uint32_t slices, uint32_t size)
{
    return size == 0 || size > slices ? 0 : (slices - size) / alignment(size) + 1;
}

uint32_t mig_ci_max(uint32_t slices, uint32_t ci_profile)
{
    uint32_t size = mig_ci_profile_slices(ci_profile);

    if (ci_profile >= CI_1_SLICE_REV1 || (size < slices && 2 * size > slices + 1))
        return 0;
    return places(slices, size);
}

/* From Hopper on, the data centre's GPUs can give one compute instance of a quarter most of its
 * multiprocessors while it counts as one slice: 26 of 32 on H100 (spec/mig §1.9). */
static bool has_mini_quarter(const struct mig_gpu *gpu, const struct mig_gi_profile *profile)
{
    return gpu->cc_major >= HOPPER && gpu->memory_slices == DATA_CENTRE_MEMORY_SLICES &&
           mig_gpu_profile(gpu, GI_1_SLICE_DOUBLE_MEMORY) &&
           (profile->gi_profile == GI_2_SLICE || profile->gi_profile == GI_1_SLICE_DOUBLE_MEMORY);
}

uint32_t mig_gpu_ci_whole(const struct mig_gpu *gpu, const struct mig_gi_profile *profile)
{
    if (profile->gi_profile == GI_1_SLICE_DOUBLE_MEMORY && has_mini_quarter(gpu, profile))
        return CI_1_SLICE_REV1;
    return mig_ci_whole(profile->slices);
}

uint32_t mig_gpu_ci_size(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                         uint32_t ci_profile)
{
    if (ci_profile == CI_1_SLICE_REV1)
        return has_mini_quarter(gpu, profile) ? profile->slices : 0;
    return mig_ci_max(profile->slices, ci_profile) ? mig_ci_profile_slices(ci_profile) : 0;
}

bool mig_ci_start_legal(uint32_t slices, uint32_t start, uint32_t size)
{
    return size > 0 && size <= slices && start <= slices - size && start % alignment(size) == 0;
}

/* ---- names ---- */

/*
 * The memory that a driver reported for a board, in GiB rounded up, where it has changed: names
 * are made of it, so the same profile has had several (spec/mig §1.6).
 */
static const struct {
    uint16_t device;
    uint16_t gib[2];
} totals[] = {
    { 0x2941, { 189, 186 } }, /* GB200 */
};

/* What the profile was called when the driver reported this many GiB. */
static struct mig_profile renamed(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                                  uint64_t gib)
{
    struct mig_profile now = profile->profile;
    uint64_t mib = gpu->memory_bytes / MIB(1);
    uint64_t eighths = mib ? (profile->memory_mib * 8 + mib - 1) / mib : 0;

    now.gb = (uint32_t)((eighths * gib * 2 + 8) / 16); /* halves go up */
    return now;
}

static bool was_called(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                       const struct mig_profile *name)
{
    for (size_t i = 0; i < ARRAY_LEN(totals); i++) {
        if (gpu->pci_device_id >> 16 != totals[i].device)
            continue;
        for (size_t j = 0; j < ARRAY_LEN(totals[i].gib); j++) {
            struct mig_profile old = renamed(gpu, profile, totals[i].gib[j]);
            if (mig_profile_equal(&old, name))
                return true;
        }
    }
    return false;
}

/* The one with this name, or the only one that had it; `whole` is the name with C = G. */
static const struct mig_gi_profile *find_named(const struct mig_gpu *gpu,
                                               const struct mig_profile *whole)
{
    const struct mig_gi_profile *found = NULL;

    for (size_t i = 0; i < gpu->n_profiles; i++)
        if (mig_profile_equal(&gpu->profiles[i].profile, whole))
            return &gpu->profiles[i];
    for (size_t i = 0; i < gpu->n_profiles; i++) {
        if (!was_called(gpu, &gpu->profiles[i], whole))
            continue;
        if (found)
            return NULL;
        found = &gpu->profiles[i];
    }
    return found;
}

static int err_unknown(const struct mig_gpu *gpu, const struct mig_profile *profile,
                       struct err *err)
{
    auto_(buf_done) struct buf all = BUF_MAX(KIB(4));
    char name[MIG_PROFILE_NAME_MAX];

    mig_profile_name(profile, name);
    if (gpu->n_profiles == 0)
        return err_set(err, ENOENT, "%s has no MIG profile %s: the driver tells of none%s",
                       gpu->name, name, gpu->enabled ? "" : " while MIG mode is off");
    for (size_t i = 0; i < gpu->n_profiles; i++)
        buf_printf(&all, "%s%s", i ? ", " : "", gpu->profiles[i].name);
    return err_set(err, ENOENT, "%s has no MIG profile %s; it has %s", gpu->name, name,
                   buf_text(&all));
}

/* Into what an instance of this many slices can be cut: "1c.3g.40gb, 2c.3g.40gb, 3g.40gb". */
static int err_cannot_cut(const struct mig_gi_profile *gi, const struct mig_profile *profile,
                          struct err *err)
{
    auto_(buf_done) struct buf all = BUF_MAX(KIB(1));

    for (uint32_t c = 1; c < gi->slices; c++)
        if (mig_ci_max(gi->slices, mig_ci_whole(c)))
            buf_printf(&all, "%uc.%s, ", c, gi->name);
    return err_set(err, ENOENT, "%s has no compute instances of %u slices; it has %s%s", gi->name,
                   profile->c, buf_text(&all), profile->c == profile->g ? "no other" : gi->name);
}

int mig_gpu_resolve(const struct mig_gpu *gpu, const struct mig_profile *profile,
                    const struct mig_gi_profile **ret, uint32_t *ret_ci, struct err *err)
{
    struct mig_profile whole = *profile;

    whole.c = whole.g;
    const struct mig_gi_profile *gi = find_named(gpu, &whole);
    if (!gi)
        return err_unknown(gpu, profile, err);
    uint32_t ci = profile->c == profile->g ? mig_gpu_ci_whole(gpu, gi) : mig_ci_whole(profile->c);
    if (!mig_gpu_ci_size(gpu, gi, ci))
        return err_cannot_cut(gi, profile, err);
    *ret = gi;
    *ret_ci = ci;
    return 0;
}

void mig_device_name(const struct mig_gpu *gpu, const struct mig_gpu_instance *gi,
                     const struct mig_compute_instance *ci, char name[static MIG_PROFILE_NAME_MAX])
{
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, gi->gi_profile);

    if (!profile) {
        snprintf(name, MIG_PROFILE_NAME_MAX, "profile %u", gi->gi_profile);
        return;
    }
    struct mig_profile named = profile->profile;
    named.c = mig_ci_profile_slices(ci->ci_profile);
    mig_profile_name(&named, name);
}

/* ---- who holds what ---- */

const char *mig_gpu_instance_holder(const struct mig_gpu_instance *gi)
{
    for (size_t i = 0; i < gi->n_cis; i++)
        if (gi->cis[i].holder)
            return gi->cis[i].holder;
    return NULL;
}

static bool is_named(const char *uuid, const char *wanted)
{
    return uuid && text_equal(uuid, wanted);
}

static void hold(const char **slot, bool is_process, const char *holder)
{
    if (!*slot || !is_process)
        *slot = holder;
}

static bool gpu_hold(struct mig_gpu *gpu, const char *uuid, const char *holder)
{
    if (is_named(gpu->uuid, uuid)) {
        bool is_process = gpu->holder && !gpu->held_by_pod;
        hold(&gpu->holder, is_process, holder);
        gpu->held_by_pod = !is_process;
        return true;
    }
    for (size_t i = 0; i < gpu->n_gis; i++)
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++) {
            struct mig_compute_instance *ci = &gpu->gis[i].cis[j];
            if (!is_named(ci->uuid, uuid))
                continue;
            hold(&ci->holder, ci->held_by_process, holder);
            return true;
        }
    return false;
}

bool mig_node_hold(struct mig_node *node, const char *uuid, const char *holder)
{
    for (size_t i = 0; i < node->n_gpus; i++)
        if (gpu_hold(&node->gpus[i], uuid, holder))
            return true;
    return false;
}
