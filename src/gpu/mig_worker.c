#include "gpu/mig_worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gpu/mig_look.h"
#include "gpu/nvml_table.h"

enum { LOOK_ARENA_BYTES = 1 << 20, UUID_TRIES = 2, AMPERE = 8 };

static bool same_place(const struct mig_placement *a, const struct mig_placement *b)
{
    return a->start == b->start && a->size == b->size;
}

/* ---- who is in the way ---- */

static const char *holder_at(const struct mig_gpu *gpu, const struct mig_step *step)
{
    const char *anybody = gpu->holder;

    for (size_t i = 0; i < gpu->n_gis; i++) {
        const char *holder = mig_gpu_instance_holder(&gpu->gis[i]);

        if (holder && same_place(&gpu->gis[i].placement, &step->gi))
            return holder;
        if (!anybody)
            anybody = holder;
    }
    return step->kind == MIG_STEP_DESTROY_CI || step->kind == MIG_STEP_DESTROY_GI ? NULL : anybody;
}

/* NVML only says that somebody is. Its list of processes does not have everybody: a monitor or the
 * persistence daemon keeps a GPU busy as well (spec/mig §6.2). */
static int explain_in_use(const struct mig_worker *worker, const struct mig_step *step, int r,
                          struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(LOOK_ARENA_BYTES);
    const struct mig_look_options options = {
        .root = worker->root,
        .holders = true,
        .uuid = worker->gpu->uuid,
    };
    struct mig_node *node = NULL;
    const char *holder = NULL;

    if (!err || mig_look(worker->nvml, &options, &arena, &node, NULL) < 0)
        return r;
    if (node->n_gpus == 1)
        holder = holder_at(&node->gpus[0], step);
    size_t len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s",
             holder ? holder
                    : "no process that NVML knows of; a monitor (DCGM), nvidia-persistenced or a "
                      "display may keep it open");
    return r;
}

PRINTF(5, 6)
static int refuse(const struct mig_worker *worker, const struct mig_step *step, nvmlReturn_t code,
                  struct err *err, const char *format, ...)
{
    char what[200];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    int r = nvml_fail(worker->nvml, code, err, "%s", what);
    return code == NVML_IN_USE ? explain_in_use(worker, step, r, err) : r;
}

static int refuse_step(const struct mig_worker *worker, const struct mig_step *step,
                       nvmlReturn_t code, struct err *err)
{
    char text[160];

    mig_step_describe(worker->gpu, step, text);
    return refuse(worker, step, code, err, "cannot %s", text);
}

static int err_changed(const struct mig_worker *worker, const struct mig_step *step,
                       struct err *err)
{
    char text[160];

    mig_step_describe(worker->gpu, step, text);
    return err_set(err, ESTALE, "cannot %s: somebody else has changed the GPU meanwhile", text);
}

/* ---- finding ---- */

int mig_worker_find(struct mig_worker *worker, struct err *err)
{
    const struct nvml *nvml = worker->nvml;
    char uuid[NVML_STRING_SIZE] = "";

    worker->n_made = 0;
    nvmlReturn_t code = nvml->device_by_uuid(worker->gpu->uuid, &worker->device);
    if (code == NVML_NOT_SUPPORTED || code == NVML_FUNCTION_NOT_FOUND) {
        code = nvml->device_by_index(worker->gpu->index, &worker->device);
        if (code == NVML_SUCCESS)
            code = nvml->uuid(worker->device, uuid, sizeof(uuid));
        if (code == NVML_SUCCESS && strncmp(uuid, worker->gpu->uuid, sizeof(uuid)) != 0)
            code = NVML_NOT_FOUND;
    }
    return code == NVML_SUCCESS ? 0
                                : nvml_fail(nvml, code, err, "cannot reach %s", worker->gpu->uuid);
}

static const struct mig_gpu_instance *find_gi(const struct mig_worker *worker,
                                              const struct mig_step *step)
{
    for (size_t i = 0; i < worker->gpu->n_gis; i++)
        if (same_place(&worker->gpu->gis[i].placement, &step->gi) &&
            worker->gpu->gis[i].gi_profile == step->gi_profile)
            return &worker->gpu->gis[i];
    return NULL;
}

static const struct mig_compute_instance *find_ci(const struct mig_gpu_instance *gi,
                                                  const struct mig_step *step)
{
    for (size_t i = 0; i < gi->n_cis; i++) {
        const struct mig_compute_instance *ci = &gi->cis[i];

        if (step->uuid ? text_equal(step->uuid, ci->uuid)
                       : ci->ci_profile == step->ci_profile &&
                             (step->ci.size == 0 || same_place(&ci->placement, &step->ci)))
            return ci;
    }
    return NULL;
}

/* The instance that was seen, if it still is that one. */
static int reach_gi(const struct mig_worker *worker, const struct mig_step *step,
                    const struct mig_gpu_instance *gi, nvmlGpuInstance_t *ret, struct err *err)
{
    const struct mig_gi_profile *profile = mig_gpu_profile(worker->gpu, gi->gi_profile);
    struct nvml_gi_info info = {};

    nvmlReturn_t code = worker->nvml->gi_by_id(worker->device, gi->id, ret);
    if (code == NVML_SUCCESS)
        code = worker->nvml->gi_info(*ret, &info);
    if (code == NVML_NOT_FOUND)
        return err_changed(worker, step, err);
    if (code != NVML_SUCCESS)
        return refuse_step(worker, step, code, err);
    if (info.placement.start != gi->placement.start || info.placement.size != gi->placement.size ||
        !profile || info.profileId != profile->driver_id)
        return err_changed(worker, step, err);
    return 0;
}

/* Where a compute instance is to be made. */
static int reach_parent(const struct mig_worker *worker, const struct mig_step *step,
                        nvmlGpuInstance_t *ret, struct err *err)
{
    for (size_t i = 0; i < worker->n_made; i++)
        if (same_place(&worker->made[i].place, &step->gi))
            return *ret = worker->made[i].handle, 0;
    const struct mig_gpu_instance *gi = find_gi(worker, step);
    return gi ? reach_gi(worker, step, gi, ret, err) : err_changed(worker, step, err);
}

/* ---- what goes ---- */

static int destroy_ci(struct mig_worker *worker, const struct mig_step *step, struct err *err)
{
    const struct mig_gpu_instance *gi = find_gi(worker, step);
    const struct mig_compute_instance *ci = gi ? find_ci(gi, step) : NULL;
    nvmlGpuInstance_t parent = NULL;
    nvmlComputeInstance_t handle = NULL;
    struct nvml_ci_info info = {};
    char uuid[NVML_STRING_SIZE] = "";

    if (!ci)
        return err_changed(worker, step, err);
    int r = reach_gi(worker, step, gi, &parent, err);
    if (r < 0)
        return r;
    nvmlReturn_t code = worker->nvml->ci_by_id(parent, ci->id, &handle);
    if (code == NVML_NOT_FOUND)
        return err_changed(worker, step, err);
    if (code == NVML_SUCCESS)
        code = worker->nvml->ci_info(handle, &info);
    if (code == NVML_SUCCESS)
        code = worker->nvml->uuid(info.device, uuid, sizeof(uuid));
    if (code != NVML_SUCCESS)
        return refuse_step(worker, step, code, err);
    if (strncmp(uuid, ci->uuid, sizeof(uuid)) != 0)
        return err_changed(worker, step, err);
    code = worker->nvml->ci_destroy(handle);
    return code == NVML_SUCCESS ? 0 : refuse_step(worker, step, code, err);
}

static int destroy_gi(struct mig_worker *worker, const struct mig_step *step, struct err *err)
{
    const struct mig_gpu_instance *gi = find_gi(worker, step);
    nvmlGpuInstance_t handle = NULL;

    if (!gi)
        return err_changed(worker, step, err);
    int r = reach_gi(worker, step, gi, &handle, err);
    if (r < 0)
        return r;
    nvmlReturn_t code = worker->nvml->gi_destroy(handle);
    return code == NVML_SUCCESS ? 0 : refuse_step(worker, step, code, err);
}

/* ---- the mode ---- */

int mig_worker_mode(struct mig_worker *worker, bool *ret_current, bool *ret_pending,
                    struct err *err)
{
    uint32_t current = 0, pending = 0;
    nvmlReturn_t code = worker->nvml->mig_mode(worker->device, &current, &pending);

    if (code != NVML_SUCCESS)
        return nvml_fail(worker->nvml, code, err, "cannot read the MIG mode");
    *ret_current = current == NVML_MIG_ENABLED;
    *ret_pending = pending == NVML_MIG_ENABLED;
    return 0;
}

/* The call's success says only that the wish was understood. What came of it is in `activation`
 * and, since drivers differ in that, in the mode afterwards (spec/mig §6.2). */
int mig_worker_set_mode(struct mig_worker *worker, bool enabled, bool *ret_waits, struct err *err)
{
    const struct mig_step step = { .kind = enabled ? MIG_STEP_MODE_ON : MIG_STEP_MODE_OFF };
    nvmlReturn_t activation = NVML_SUCCESS;
    bool current, pending;

    nvmlReturn_t code = worker->nvml->mig_mode_set(worker->device, enabled, &activation);
    if (code != NVML_SUCCESS)
        return refuse_step(worker, &step, code, err);
    int r = mig_worker_find(worker, err); /* the driver may have taken the GPU away and back */
    if (r == 0)
        r = mig_worker_mode(worker, &current, &pending, err);
    if (r < 0)
        return r;
    *ret_waits = false;
    if (current == enabled && pending == enabled)
        return 0;
    /* Ampere says "in use" for a mere monitor, too, and takes the mode with the next reset. */
    *ret_waits =
        pending == enabled && (activation != NVML_IN_USE || worker->gpu->cc_major == AMPERE);
    if (activation == NVML_SUCCESS)
        activation = NVML_RESET_REQUIRED;
    return *ret_waits ? 0 : refuse_step(worker, &step, activation, err);
}

/* ---- what comes ---- */

static int remember(struct mig_worker *worker, const struct mig_step *step,
                    nvmlGpuInstance_t handle)
{
    assert(worker->n_made < ARRAY_LEN(worker->made)); /* a plan has no more places */
    worker->made[worker->n_made].place = step->gi;
    worker->made[worker->n_made++].handle = handle;
    return 0;
}

/* Where the driver cannot be told the place: its own choices until one is right. */
static int create_gi_by_choice(struct mig_worker *worker, const struct mig_step *step,
                               uint32_t driver_id, nvmlGpuInstance_t *ret, struct err *err)
{
    const struct nvml *nvml = worker->nvml;
    nvmlGpuInstance_t wrong[MIG_MAX_GPU_INSTANCES];
    size_t n = 0;
    bool found = false;
    nvmlReturn_t code = NVML_SUCCESS;

    while (!found && n < ARRAY_LEN(wrong)) {
        struct nvml_gi_info info = {};
        code = nvml->gi_create(worker->device, driver_id, ret);
        if (code != NVML_SUCCESS)
            break;
        wrong[n++] = *ret; /* until it is known to be right */
        code = nvml->gi_info(*ret, &info);
        if (code != NVML_SUCCESS)
            break;
        found = info.placement.start == step->gi.start && info.placement.size == step->gi.size;
    }
    n -= found;
    while (n > 0) {
        nvmlReturn_t gone = nvml->gi_destroy(wrong[--n]);
        if (gone != NVML_SUCCESS)
            return refuse_step(worker, step, gone, err);
    }
    return found ? 0 : refuse_step(worker, step, code, err);
}

static int create_gi(struct mig_worker *worker, const struct mig_step *step, struct err *err)
{
    const struct mig_gi_profile *profile = mig_gpu_profile(worker->gpu, step->gi_profile);
    const struct nvml_placement place = { step->gi.start, step->gi.size };
    nvmlGpuInstance_t handle = NULL;

    if (!profile)
        return refuse_step(worker, step, NVML_NOT_SUPPORTED, err);
    nvmlReturn_t code =
        worker->nvml->gi_create_at(worker->device, profile->driver_id, &place, &handle);
    if (code == NVML_NOT_SUPPORTED || code == NVML_FUNCTION_NOT_FOUND) {
        int r = create_gi_by_choice(worker, step, profile->driver_id, &handle, err);
        return r < 0 ? r : remember(worker, step, handle);
    }
    return code == NVML_SUCCESS ? remember(worker, step, handle)
                                : refuse_step(worker, step, code, err);
}

/* Usually the enum itself (spec/mig §1.3), but only the driver knows. */
static nvmlReturn_t ci_driver_id(struct mig_worker *worker, nvmlGpuInstance_t parent,
                                 const struct mig_step *step, uint32_t *ret)
{
    struct mig_ci_ids *ids = worker->ids;
    struct nvml_ci_profile_info info = {};
    uint32_t board = worker->gpu->pci_device_id;

    for (size_t i = 0; i < ids->n; i++)
        if (ids->known[i].board == board && ids->known[i].gi_profile == step->gi_profile &&
            ids->known[i].ci_profile == step->ci_profile)
            return *ret = ids->known[i].id, NVML_SUCCESS;
    nvmlReturn_t code = worker->nvml->ci_profile_info(parent, step->ci_profile, 0, &info);
    if (code != NVML_SUCCESS)
        return code;
    if (ids->n < ARRAY_LEN(ids->known)) {
        ids->known[ids->n].board = board;
        ids->known[ids->n].gi_profile = step->gi_profile;
        ids->known[ids->n].ci_profile = step->ci_profile;
        ids->known[ids->n++].id = info.id;
    }
    return *ret = info.id, NVML_SUCCESS;
}

/* As create_gi_by_choice. A driver so old that it does not tell places either is believed. */
static nvmlReturn_t create_ci_by_choice(struct mig_worker *worker, const struct mig_step *step,
                                        nvmlGpuInstance_t parent, uint32_t id,
                                        nvmlComputeInstance_t *ret)
{
    const struct nvml *nvml = worker->nvml;
    nvmlComputeInstance_t wrong[MIG_MAX_COMPUTE_INSTANCES];
    size_t n = 0;
    bool found = false;
    nvmlReturn_t code = NVML_SUCCESS;

    while (!found && n < ARRAY_LEN(wrong)) {
        struct nvml_ci_info info = {};
        code = nvml->ci_create(parent, id, ret);
        if (code != NVML_SUCCESS)
            break;
        wrong[n++] = *ret;
        if (step->ci.size == 0) {
            found = true;
            break;
        }
        code = nvml->ci_info(*ret, &info);
        if (code != NVML_SUCCESS)
            break;
        found = info.placement.size == 0 ||
                (info.placement.start == step->ci.start && info.placement.size == step->ci.size);
    }
    n -= found;
    while (n > 0) {
        nvmlReturn_t gone = nvml->ci_destroy(wrong[--n]);
        if (gone != NVML_SUCCESS)
            return gone;
    }
    return found ? NVML_SUCCESS : code == NVML_SUCCESS ? NVML_INSUFFICIENT_RESOURCES : code;
}

/* A device that was made but does not say its name is no reason to take it back. */
static const char *read_uuid(const struct mig_worker *worker, nvmlComputeInstance_t handle)
{
    for (unsigned tries = 0; tries < UUID_TRIES; tries++) {
        struct nvml_ci_info info = {};
        char uuid[NVML_STRING_SIZE] = "";

        if (worker->nvml->ci_info(handle, &info) != NVML_SUCCESS ||
            worker->nvml->uuid(info.device, uuid, sizeof(uuid)) != NVML_SUCCESS)
            continue;
        uuid[sizeof(uuid) - 1] = '\0';
        text_make_harmless(uuid);
        return arena_strdup(worker->arena, uuid);
    }
    return "";
}

static int create_ci(struct mig_worker *worker, const struct mig_step *step,
                     struct mig_step_done *ret, struct err *err)
{
    const struct nvml_placement place = { step->ci.start, step->ci.size };
    nvmlGpuInstance_t parent = NULL;
    nvmlComputeInstance_t handle = NULL;
    nvmlReturn_t code = NVML_NOT_SUPPORTED;
    uint32_t id = 0;

    int r = reach_parent(worker, step, &parent, err);
    if (r < 0)
        return r;
    nvmlReturn_t known = ci_driver_id(worker, parent, step, &id);
    if (known != NVML_SUCCESS)
        return refuse_step(worker, step, known, err);
    if (place.size > 0)
        code = worker->nvml->ci_create_at(parent, id, &place, &handle);
    if (code == NVML_NOT_SUPPORTED || code == NVML_FUNCTION_NOT_FOUND)
        code = create_ci_by_choice(worker, step, parent, id, &handle);
    if (code != NVML_SUCCESS)
        return refuse_step(worker, step, code, err);
    ret->new_uuid = read_uuid(worker, handle);
    return ret->new_uuid ? 0 : err_no_memory(err);
}

int mig_worker_step(struct mig_worker *worker, const struct mig_step *step,
                    struct mig_step_done *ret, struct err *err)
{
    *ret = (struct mig_step_done){};
    switch (step->kind) {
    case MIG_STEP_DESTROY_CI:
        return destroy_ci(worker, step, err);
    case MIG_STEP_DESTROY_GI:
        return destroy_gi(worker, step, err);
    case MIG_STEP_MODE_OFF:
    case MIG_STEP_MODE_ON:
        return mig_worker_set_mode(worker, step->kind == MIG_STEP_MODE_ON, &ret->waits, err);
    case MIG_STEP_CREATE_GI:
        return create_gi(worker, step, err);
    case MIG_STEP_CREATE_CI:
        return create_ci(worker, step, ret, err);
    default:
        return err_set(err, EINVAL, "no such step");
    }
}
