#include "gpu/mig_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "base/file.h"
#include "gpu/mig_journal.h"
#include "gpu/mig_look.h"
#include "gpu/mig_worker.h"
#include "gpu/nvml_table.h"

#define LOCK_FILE "lock"

enum { SCRATCH_BYTES = 8 << 20 }; /* a look at 64 GPUs and plans for them */

/* ---- one at a time ---- */

static int err_locked(int fd, const char *state_dir, struct err *err)
{
    char text[16] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    unsigned pid = 0;

    if (n > 0 && sscanf(text, "%u", &pid) == 1)
        return err_set(err, EBUSY, "another change of MIG is under way: process %u has %s/%s", pid,
                       state_dir, LOCK_FILE);
    return err_set(err, EBUSY, "another change of MIG is under way: %s/%s is locked", state_dir,
                   LOCK_FILE);
}

int mig_lock_take(const char *state_dir, struct mig_lock *ret, struct err *err)
{
    auto_close int dir = -1, fd = -1;
    char text[16];

    int r = file_make_dirs(state_dir, 0700, err);
    if (r < 0)
        return r;
    dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        fd = openat(dir, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(err, errno, "%s/%s: cannot open: %s", state_dir, LOCK_FILE, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? err_locked(fd, state_dir, err)
                                    : err_set(err, errno, "%s/%s: cannot lock: %s", state_dir,
                                              LOCK_FILE, strerror(errno));
    /* For the sentence of whoever comes next; the lock holds without it. */
    int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, text, (size_t)n, 0);
    ret->fd = fd;
    fd = -1;
    return 0;
}

void mig_lock_done(struct mig_lock *lock)
{
    base_close(&lock->fd);
    lock->fd = -1;
}

/* ---- a change under way ---- */

struct change {
    struct nvml *nvml;
    const struct mig_apply_options *options;
    struct arena *arena;
    struct mig_outcome *outcome;
    struct mig_lock lock; /* owned; -1 when it is the caller's */
    int dir;              /* the state folder; owned */
    struct mig_ci_ids ids;
    bool skip_reset;
};

static struct change change_of(struct nvml *nvml, const struct mig_apply_options *options,
                               struct arena *arena, struct mig_outcome *outcome)
{
    *outcome = (struct mig_outcome){};
    return (struct change){
        .nvml = nvml,
        .options = options,
        .arena = arena,
        .outcome = outcome,
        .lock = MIG_LOCK_NONE,
        .dir = -1,
        .skip_reset = options->skip_reset,
    };
}

static void change_done(struct change *change)
{
    mig_lock_done(&change->lock);
    base_close(&change->dir);
}

static int change_open(struct change *change, struct err *err)
{
    const char *state_dir = change->options->state_dir;

    base_close(&change->dir);
    change->dir = -1;
    int r = change->options->lock ? 0 : mig_lock_take(state_dir, &change->lock, err);
    if (r < 0)
        return r;
    change->dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return change->dir < 0 ? err_set(err, errno, "%s: cannot open: %s", state_dir, strerror(errno))
                           : 0;
}

/* One GPU's part of it. */
struct job {
    const struct mig_gpu_plan *plan;
    struct mig_worker worker;
    size_t next;  /* step */
    bool waits;   /* for a reset */
    bool touched; /* a step was tried: others' changes seen in time are not */
};

/* ---- what came of it ---- */

static int note_gone(struct change *change, const struct mig_gpu *gpu, const char *uuid)
{
    struct mig_outcome *outcome = change->outcome;

    /* Made by us and taken back: as if it had never been. */
    for (size_t i = 0; i < outcome->n_changes; i++) {
        struct mig_change *known = &outcome->changes[i];

        if (!known->new_uuid || !text_equal(known->new_uuid, uuid))
            continue;
        known->new_uuid = NULL;
        if (!known->old_uuid)
            *known = outcome->changes[--outcome->n_changes];
        return 0;
    }
    for (size_t i = 0; i < gpu->n_gis; i++) {
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++) {
            char name[MIG_PROFILE_NAME_MAX];

            if (!text_equal(gpu->gis[i].cis[j].uuid, uuid))
                continue;
            struct mig_change *item =
                arena_push(change->arena, &outcome->changes, &outcome->n_changes);
            if (!item)
                return -ENOMEM;
            mig_device_name(gpu, &gpu->gis[i], &gpu->gis[i].cis[j], name);
            *item = (struct mig_change){
                .gpu = gpu->index,
                .profile = arena_strdup(change->arena, name),
                .placement = gpu->gis[i].placement,
                .old_uuid = arena_strdup(change->arena, uuid),
            };
            return item->profile && item->old_uuid ? 0 : -ENOMEM;
        }
    }
    return 0;
}

static int note_made(struct change *change, const struct mig_gpu *gpu, const struct mig_step *step,
                     const char *uuid)
{
    const struct mig_gpu_instance gi = { .gi_profile = step->gi_profile, .placement = step->gi };
    const struct mig_compute_instance ci = { .ci_profile = step->ci_profile };
    struct mig_outcome *outcome = change->outcome;
    char name[MIG_PROFILE_NAME_MAX];

    mig_device_name(gpu, &gi, &ci, name);
    for (size_t i = 0; i < outcome->n_changes; i++) {
        struct mig_change *known = &outcome->changes[i];

        if (known->gpu == gpu->index && !known->new_uuid && text_equal(known->profile, name) &&
            known->placement.start == step->gi.start && known->placement.size == step->gi.size)
            return known->new_uuid = uuid, 0;
    }
    struct mig_change *item = arena_push(change->arena, &outcome->changes, &outcome->n_changes);
    if (!item)
        return -ENOMEM;
    *item = (struct mig_change){
        .gpu = gpu->index,
        .profile = arena_strdup(change->arena, name),
        .placement = step->gi,
        .new_uuid = uuid,
    };
    return item->profile ? 0 : -ENOMEM;
}

static int note(struct change *change, const struct mig_gpu *gpu, const struct mig_step *step,
                const struct mig_step_done *done)
{
    if (step->kind == MIG_STEP_DESTROY_CI && step->uuid)
        return note_gone(change, gpu, step->uuid);
    if (step->kind == MIG_STEP_CREATE_CI)
        return note_made(change, gpu, step, done->new_uuid);
    return 0;
}

/* ---- steps ---- */

static int wrap_gpu(const struct job *job, int r, struct err *err)
{
    return err_wrap(err, r, "GPU %u", job->plan->gpu->index);
}

static int run_step(struct change *change, struct job *job, struct err *err)
{
    const struct mig_gpu_plan *plan = job->plan;
    const struct mig_step *step = &plan->steps[job->next];
    struct mig_step_done done;

    int r = mig_worker_step(&job->worker, step, &done, err);
    job->touched |= r != -ESTALE;
    if (r < 0)
        return wrap_gpu(job, r, err);
    job->waits |= done.waits;
    job->next++;
    if (note(change, plan->gpu, step, &done) < 0)
        return err_no_memory(err);
    if (change->options->progress)
        change->options->progress(change->options->user, plan->gpu, step, job->next, plan->n_steps);
    return 0;
}

/* What goes, and the mode. */
static int run_first_half(struct change *change, struct job *job, struct err *err)
{
    while (job->next < job->plan->n_steps && job->plan->steps[job->next].kind < MIG_STEP_RESET) {
        int r = run_step(change, job, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What comes. A reset that the plan foresaw is over, or was not needed. */
static int run_second_half(struct change *change, struct job *job, struct err *err)
{
    if (job->waits) {
        change->outcome->n_pending++;
        return 0;
    }
    while (job->next < job->plan->n_steps) {
        if (job->plan->steps[job->next].kind == MIG_STEP_RESET) {
            job->next++;
            continue;
        }
        int r = run_step(change, job, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- reset ---- */

static int call_reset(struct change *change, const char *const *bus_ids, size_t n, struct err *err)
{
    struct err why = {};

    if (!change->options->reset)
        return err_set(err, ENOTSUP,
                       "GPU %s waits for a reset to take its MIG mode, and nothing here can reset "
                       "it: nvidia-smi -r -i %s",
                       bus_ids[0], bus_ids[0]);
    nvml_pause(change->nvml);
    int r = change->options->reset(change->options->user, bus_ids, n, err);
    int back = nvml_resume(change->nvml, &why);
    if (back < 0)
        return err_set(err, -back, "NVML is gone after the reset of %zu GPUs: %s", n, why.text);
    return r;
}

/* All GPUs whose mode waits, at once: boards of one tray may have to go together. */
static int reset_waiting(struct change *change, struct job *jobs, size_t n, struct err *err)
{
    const char *bus_ids[MIG_MAX_GPUS];
    size_t n_waiting = 0;

    for (size_t i = 0; i < n; i++)
        if (jobs[i].waits && n_waiting < ARRAY_LEN(bus_ids))
            bus_ids[n_waiting++] = jobs[i].plan->gpu->bus_id;
    if (n_waiting == 0 || change->skip_reset)
        return 0;
    int r = call_reset(change, bus_ids, n_waiting, err);
    if (r < 0)
        return r;

    for (size_t i = 0; i < n; i++) {
        bool current = false, pending = false;

        r = mig_worker_find(&jobs[i].worker, err); /* handles are new */
        if (r == 0 && jobs[i].waits)
            r = mig_worker_mode(&jobs[i].worker, &current, &pending, err);
        if (r == 0 && jobs[i].waits && current != jobs[i].plan->after.enabled)
            r = err_set(err, EBUSY, "the reset did not bring its MIG mode into force");
        if (r < 0)
            return wrap_gpu(&jobs[i], r, err);
        jobs[i].waits = false;
    }
    return 0;
}

static bool foresees_reset(const struct job *job)
{
    for (size_t i = 0; i < job->plan->n_steps; i++)
        if (job->plan->steps[i].kind == MIG_STEP_RESET)
            return true;
    return false;
}

static int begin(struct change *change, struct job *job, struct err *err)
{
    int r = mig_worker_find(&job->worker, err);

    return r < 0 ? wrap_gpu(job, r, err) : run_first_half(change, job, err);
}

/* Those that need a reset, together; then the others one by one, so that the fewest are half done
 * when one of them fails. */
static int run_jobs(struct change *change, struct job *jobs, size_t n, struct err *err)
{
    int r = 0;

    change->outcome->n_pending = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        if (foresees_reset(&jobs[i]))
            r = begin(change, &jobs[i], err);
    if (r == 0)
        r = reset_waiting(change, jobs, n, err);
    for (size_t i = 0; r == 0 && i < n; i++)
        if (foresees_reset(&jobs[i]))
            r = run_second_half(change, &jobs[i], err);
    for (size_t i = 0; r == 0 && i < n; i++) {
        if (foresees_reset(&jobs[i]))
            continue;
        r = begin(change, &jobs[i], err);
        if (r == 0)
            r = reset_waiting(change, &jobs[i], 1, err);
        if (r == 0)
            r = run_second_half(change, &jobs[i], err);
    }
    return r;
}

static struct job *make_job(struct change *change, struct job *jobs, size_t *n_jobs,
                            const struct mig_gpu_plan *plan)
{
    struct job *job = &jobs[(*n_jobs)++];

    *job = (struct job){
        .plan = plan,
        .worker = {
            .nvml = change->nvml,
            .gpu = plan->gpu,
            .root = change->options->root,
            .arena = change->arena,
            .ids = &change->ids,
        },
    };
    return job;
}

/* ---- from wherever the GPUs are to the journal's one side or the other ---- */

enum side { BEFORE, AFTER };

/* A lost GPU comes back with a reset or a reboot, which no instance survives (spec/mig §3.7). */
static bool is_lost(const struct change *change, const struct mig_gpu *gpu)
{
    uint32_t current, pending;
    nvmlDevice_t device;

    nvmlReturn_t code = change->nvml->device_by_index(gpu->index, &device);
    if (code == NVML_SUCCESS)
        code = change->nvml->mig_mode(device, &current, &pending);
    return code == NVML_GPU_IS_LOST || code == NVML_RESET_REQUIRED;
}

/* One that is lost does not even tell its UUID: then by its index. */
static const struct mig_gpu *find_gpu(const struct mig_node *node,
                                      const struct mig_journal_gpu *target)
{
    for (size_t i = 0; i < node->n_gpus; i++)
        if (text_equal(node->gpus[i].uuid, target->uuid))
            return &node->gpus[i];
    for (size_t i = 0; i < node->n_gpus; i++)
        if (node->gpus[i].index == target->index && !node->gpus[i].uuid[0])
            return &node->gpus[i];
    return NULL;
}

/* 1: there is a plan; 0: this GPU is left alone, as the outcome's note says. */
static int plan_gpu(struct change *change, const struct mig_node *node,
                    const struct mig_journal_gpu *target, enum side side, struct arena *scratch,
                    struct mig_gpu_plan *ret, struct err *err)
{
    const struct mig_wish wish = {
        .kind = MIG_WISH_LAYOUT,
        .layout = side == AFTER ? &target->after : &target->before,
    };
    const struct mig_gpu *gpu = find_gpu(node, target);

    if (!gpu || (gpu->problem && is_lost(change, gpu))) {
        change->outcome->note = arena_printf(
            change->arena, "%s is %s: what was left undone on it does not matter any more",
            target->uuid, gpu ? "lost" : "not there");
        return change->outcome->note ? 0 : err_no_memory(err);
    }
    if (gpu->problem)
        return err_set(err, EIO, "GPU %u: %s", gpu->index, gpu->problem);
    int r = mig_plan_gpu(gpu, &wish, true, scratch, ret, err);
    if (r < 0)
        return r;
    if (ret->refusal != MIG_REFUSED_NOT)
        return err_set(err, EBUSY, "GPU %u: %s", gpu->index, ret->sentence);
    return 1;
}

/* Drivers that hide profiles while MIG is off (R535), after a reboot that turned it off: without
 * them nothing can be planned. *ret_again: look once more. */
static int reveal_profiles(struct change *change, const struct mig_node *node,
                           const struct mig_journal *journal, enum side side, bool *ret_again,
                           struct err *err)
{
    for (size_t i = 0; i < journal->n_gpus; i++) {
        const struct mig_journal_gpu *target = &journal->gpus[i];
        const struct mig_layout *wanted = side == AFTER ? &target->after : &target->before;
        const struct mig_gpu *gpu = find_gpu(node, target);
        bool waits = false;

        if (!gpu || gpu->problem || gpu->enabled || gpu->n_profiles > 0 || wanted->n_gis == 0)
            continue;
        const struct mig_gpu_plan none = { .gpu = gpu };
        struct job job;
        size_t n = 0;
        make_job(change, &job, &n, &none);
        int r = mig_worker_find(&job.worker, err);
        if (r == 0)
            r = mig_worker_set_mode(&job.worker, true, &waits, err);
        if (r == 0 && waits)
            r = err_set(err, EUCLEAN, "its MIG mode waits for a reset: nvidia-smi -r -i %s",
                        gpu->bus_id);
        if (r < 0)
            return wrap_gpu(&job, r, err);
        *ret_again = true;
    }
    return 0;
}

static int go_to(struct change *change, const struct mig_journal *journal, enum side side,
                 struct err *err)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(SCRATCH_BYTES);
    const struct mig_look_options look = { .root = change->options->root, .holders = true };
    struct mig_gpu_plan *plans = arena_new_array(&scratch, struct mig_gpu_plan, journal->n_gpus);
    struct job *jobs = arena_new_array(&scratch, struct job, journal->n_gpus);
    struct mig_node *node = NULL;
    bool again = false;
    size_t n_jobs = 0;

    if (journal->n_gpus == 0)
        return 0;
    if (!plans || !jobs)
        return err_no_memory(err);
    int r = mig_look(change->nvml, &look, &scratch, &node, err);
    if (r == 0)
        r = reveal_profiles(change, node, journal, side, &again, err);
    if (r == 0 && again)
        r = mig_look(change->nvml, &look, &scratch, &node, err);
    for (size_t i = 0; r >= 0 && i < journal->n_gpus; i++) {
        const struct mig_journal_gpu *target = &journal->gpus[i];

        r = plan_gpu(change, node, target, side, &scratch, &plans[i], err);
        if (r == 1)
            make_job(change, jobs, &n_jobs, &plans[i]);
    }
    return r < 0 ? r : run_jobs(change, jobs, n_jobs, err);
}

/* A journal that cannot be removed is found by the next start, which has nothing to do then. */
static void remove_journal(struct change *change)
{
    struct err why = {};

    if (mig_journal_remove(change->dir, &why) < 0)
        change->outcome->note =
            arena_printf(change->arena, "%s/%s", change->options->state_dir, why.text);
}

/* After a failure. -ENOTRECOVERABLE, and the journal stays, where that fails as well. */
static int go_back(struct change *change, const struct mig_journal *journal, const struct err *why,
                   struct err *err)
{
    struct err again = {};

    int r = go_to(change, journal, BEFORE, &again);
    if (r < 0)
        return err_set(err, ENOTRECOVERABLE,
                       "%s; and it cannot be taken back: %s; %s/%s has both layouts", why->text,
                       again.text, change->options->state_dir, MIG_JOURNAL_FILE);
    change->outcome->undone = true;
    remove_journal(change);
    return 0;
}

/* ---- a plan comes true ---- */

static int write_journal(struct change *change, const struct job *jobs, size_t n,
                         struct mig_journal *journal, struct err *err)
{
    *journal = (struct mig_journal){
        .pid = (uint32_t)getpid(),
        .skip_reset = change->skip_reset,
        .n_gpus = n,
        .gpus = arena_new_array(change->arena, struct mig_journal_gpu, n),
    };
    if (!journal->gpus)
        return err_no_memory(err);
    for (size_t i = 0; i < n; i++)
        journal->gpus[i] = (struct mig_journal_gpu){
            .uuid = jobs[i].plan->gpu->uuid,
            .index = jobs[i].plan->gpu->index,
            .before = jobs[i].plan->before,
            .after = jobs[i].plan->after,
        };
    if (mig_journal_exists(change->dir))
        return err_set(err, EBUSY, "%s/%s: a change of MIG was left unfinished; finish it first",
                       change->options->state_dir, MIG_JOURNAL_FILE);
    int r = mig_journal_write(change->dir, journal, err);
    return r < 0 ? err_wrap(err, r, "%s", change->options->state_dir) : 0;
}

/* Only where something was done there is something to take back: not on a GPU whose turn had not
 * come, nor on one that others have changed meanwhile. The journal on disk keeps all of them. */
static void keep_touched(struct mig_journal *journal, const struct job *jobs, size_t n)
{
    journal->n_gpus = 0;
    for (size_t i = 0; i < n; i++)
        if (jobs[i].touched)
            journal->gpus[journal->n_gpus++] = journal->gpus[i];
}

static int run_plans(struct change *change, struct job *jobs, size_t n, struct err *err)
{
    struct mig_journal journal;
    struct err why = {};

    int r = change_open(change, err);
    if (r == 0)
        r = write_journal(change, jobs, n, &journal, err);
    if (r < 0)
        return r;
    int failure = run_jobs(change, jobs, n, &why);
    if (failure == 0)
        return remove_journal(change), 0;
    keep_touched(&journal, jobs, n);
    r = go_back(change, &journal, &why, err);
    return r < 0 ? r : err_set(err, -failure, "%s; everything is as it was", why.text);
}

int mig_apply(struct nvml *nvml, const struct mig_gpu_plan *plans, size_t n_plans,
              const struct mig_apply_options *options, struct arena *arena, struct mig_outcome *ret,
              struct err *err)
{
    auto_(change_done) struct change change = change_of(nvml, options, arena, ret);
    struct job *jobs = arena_new_array(arena, struct job, n_plans);
    size_t n_jobs = 0;

    if (n_plans > 0 && !jobs)
        return err_no_memory(err);
    for (size_t i = 0; i < n_plans; i++) {
        if (plans[i].refusal != MIG_REFUSED_NOT)
            return err_set(err, EBUSY, "GPU %u: %s", plans[i].gpu->index, plans[i].sentence);
        if (plans[i].n_steps > 0)
            make_job(&change, jobs, &n_jobs, &plans[i]);
    }
    return n_jobs > 0 ? run_plans(&change, jobs, n_jobs, err) : 0;
}

/* ---- what it looks like then ---- */

static struct mig_gpu *gpu_of(struct mig_node *node, const struct mig_gpu *gpu)
{
    for (size_t i = 0; i < node->n_gpus; i++)
        if (&node->gpus[i] == gpu)
            return &node->gpus[i];
    return NULL;
}

/* To one of those of its name at its place that has none yet. */
static void give_uuid(struct mig_gpu *gpu, const struct mig_change *change)
{
    for (size_t i = 0; i < gpu->n_gis; i++) {
        struct mig_gpu_instance *gi = &gpu->gis[i];

        if (gi->placement.start != change->placement.start ||
            gi->placement.size != change->placement.size)
            continue;
        for (size_t j = 0; j < gi->n_cis; j++) {
            char name[MIG_PROFILE_NAME_MAX];

            mig_device_name(gpu, gi, &gi->cis[j], name);
            if (gi->cis[j].uuid || !text_equal(name, change->profile))
                continue;
            gi->cis[j].uuid = change->new_uuid;
            return;
        }
    }
}

int mig_apply_imagine(struct mig_node *node, const struct mig_gpu_plan *plans, size_t n_plans,
                      const struct mig_outcome *outcome, struct err *err)
{
    if (outcome->n_pending > 0)
        return err_set(err, EAGAIN, "%zu GPUs wait for a reset", outcome->n_pending);
    for (size_t i = 0; i < n_plans; i++) {
        struct mig_gpu *gpu = gpu_of(node, plans[i].gpu);

        if (!gpu)
            return err_set(err, EINVAL, "GPU %u of the plan is none of the node's",
                           plans[i].gpu->index);
        for (size_t j = 0; j < plans[i].n_steps; j++) {
            int r = mig_step_imagine(gpu, &plans[i].steps[j], err);
            if (r < 0)
                return r;
        }
        for (size_t j = 0; j < outcome->n_changes; j++)
            if (outcome->changes[j].gpu == gpu->index && outcome->changes[j].new_uuid)
                give_uuid(gpu, &outcome->changes[j]);
    }
    return 0;
}

/* ---- what a killed process left ---- */

static int keep_aside(struct change *change, const char *why, struct err *err)
{
    int r = mig_journal_set_aside(change->dir, err);

    if (r < 0)
        return err_wrap(err, r, "%s", change->options->state_dir);
    change->outcome->note = arena_printf(change->arena, "%s; it is not followed, and kept as %s/%s",
                                         why, change->options->state_dir, MIG_JOURNAL_BAD);
    return change->outcome->note ? 0 : err_no_memory(err);
}

/* Whether any GPU of the journal is one of this machine's. */
static bool is_ours(const struct change *change, const struct mig_journal *journal)
{
    nvmlDevice_t device;

    for (size_t i = 0; i < journal->n_gpus; i++) {
        nvmlReturn_t code = change->nvml->device_by_uuid(journal->gpus[i].uuid, &device);
        /* A driver that cannot be asked so, and any doubt: it is. */
        if (code != NVML_NOT_FOUND && code != NVML_INVALID_ARGUMENT)
            return true;
    }
    return false;
}

/* Forward where that can be, else back. */
static int follow(struct change *change, const struct mig_journal *journal, struct err *err)
{
    struct err why = {};

    change->skip_reset |= journal->skip_reset;
    int r = go_to(change, journal, AFTER, &why);
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (r == 0)
        return remove_journal(change), 1;
    r = go_back(change, journal, &why, err);
    if (r < 0)
        return r;
    change->outcome->note = arena_printf(
        change->arena, "the change of MIG that process %u began could not be finished: %s",
        journal->pid, why.text);
    return change->outcome->note ? 1 : err_no_memory(err);
}

int mig_recover(struct nvml *nvml, const struct mig_apply_options *options, struct arena *arena,
                struct mig_outcome *ret, struct err *err)
{
    auto_(change_done) struct change change = change_of(nvml, options, arena, ret);
    struct mig_journal *journal = NULL;
    struct err why = {};

    change.dir = open(options->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (change.dir < 0 && errno != ENOENT)
        return err_set(err, errno, "%s: cannot open: %s", options->state_dir, strerror(errno));
    if (change.dir < 0 || !mig_journal_exists(change.dir)) {
        if (change.dir >= 0 && options->lock)
            mig_journal_clear_away(change.dir);
        return 0;
    }
    int r = change_open(&change, err);
    if (r < 0)
        return r;
    r = mig_journal_read(change.dir, arena, &journal, &why);
    if (r == -ENOENT) /* whoever was at it has just finished */
        return 0;
    if (r == -EINVAL || r == -EFBIG)
        return keep_aside(&change, why.text, err);
    if (r < 0)
        return err_set(err, -r, "%s/%s", options->state_dir, why.text);
    if (!is_ours(&change, journal))
        return keep_aside(&change, MIG_JOURNAL_FILE ": it is about GPUs that are not here", err);
    return follow(&change, journal, err);
}
