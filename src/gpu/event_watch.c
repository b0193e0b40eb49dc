#include "gpu/event_watch.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/health.h"
#include "gpu/nvml_table.h"
#include "share/inventory.h"

enum {
    EVENTS_AT_ONCE = 16,
    WAIT_GRACE_MS = 10000, /* a wait that has not come back by then hangs */
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 10000,

    /* The first line is upstream's (spec/device-plugin §6); the second tells us when to look again
     * instead of at the next interval. */
    WANTED_TYPES = NVML_EVENT_XID | NVML_EVENT_DOUBLE_BIT_ECC | NVML_EVENT_SINGLE_BIT_ECC |
                   NVML_EVENT_MIG_CONFIG | NVML_EVENT_GPU_UNAVAILABLE | NVML_EVENT_RECOVERY_ACTION,
};

/* ---- what threads share ---- */

/* The set lives as long as a call may use it; it keeps NVML initialised. */
struct event_set {
    unsigned refs; /* atomic */
    struct nvml *nvml;
    nvmlEventSet_t set; /* NULL before it was made */
};

static struct event_set *set_ref(struct event_set *set)
{
    __atomic_add_fetch(&set->refs, 1, __ATOMIC_RELAXED);
    return set;
}

static void set_unref(struct event_set *set)
{
    if (__atomic_sub_fetch(&set->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (set->set)
        (void)set->nvml->event_set_free(set->set);
    nvml_shutdown(set->nvml);
    mem_free(set);
}

/* One call on a worker's thread, and what it brought back. */
struct watched_gpu;

struct event_job {
    struct event_set *set;   /* a reference */
    struct watched_gpu *gpu; /* the one to register; NULL once the watch is gone */
    uint32_t index;          /* its index */
    nvmlDevice_t device;
    uint32_t wait_ms; /* for the first event */
    int r;
    struct err err;
    size_t n_events;
    struct nvml_event_data events[EVENTS_AT_ONCE];
};

static void drop_job(void *arg)
{
    struct event_job *job = arg;

    set_unref(job->set);
    mem_free(job);
}

/* ---- on threads ---- */

static void create_set(void *arg)
{
    struct event_job *job = arg;
    const struct nvml *nvml = job->set->nvml;

    if (job->set->set) /* the watch lost patience before NVML had answered */
        return;
    nvmlReturn_t code = nvml->event_set_create(&job->set->set);
    if (code != NVML_SUCCESS)
        job->r = nvml_fail(nvml, code, &job->err, "cannot make an event set");
}

static void register_gpu(void *arg)
{
    struct event_job *job = arg;
    const struct nvml *nvml = job->set->nvml;
    uint64_t types = 0;

    nvmlReturn_t code = nvml->device_by_index(job->index, &job->device);
    if (code == NVML_SUCCESS)
        code = nvml->event_types(job->device, &types);
    types &= WANTED_TYPES;
    if (code == NVML_SUCCESS)
        code = types ? nvml->event_register(job->device, types, job->set->set) : NVML_NOT_SUPPORTED;
    if (code != NVML_SUCCESS)
        job->r = nvml_fail(nvml, code, &job->err, "cannot watch it for errors");
}

/* The first event within the time, and what else is there by then. */
static void wait_for_events(void *arg)
{
    struct event_job *job = arg;
    const struct nvml *nvml = job->set->nvml;
    uint32_t timeout_ms = job->wait_ms;

    for (job->n_events = 0; job->n_events < EVENTS_AT_ONCE; job->n_events++) {
        struct nvml_event_data *event = &job->events[job->n_events];
        event->gpuInstanceId = event->computeInstanceId = NVML_NO_INSTANCE;
        nvmlReturn_t code = nvml->event_wait(job->set->set, event, timeout_ms);
        if (code == NVML_TIMEOUT)
            return;
        if (code != NVML_SUCCESS) {
            job->r = nvml_fail(nvml, code, &job->err, "cannot wait for events");
            return;
        }
        timeout_ms = 0;
    }
}

/* ---- on the loop ---- */

enum gpu_watch { GPU_UNWATCHED, GPU_WANTED, GPU_REGISTERING, GPU_WATCHED };

struct watched_gpu {
    struct event_watch *watch;
    enum gpu_watch state;
    struct worker *worker;
    struct event_job *job;
    nvmlDevice_t device; /* as events name it */
};

struct event_watch {
    struct loop *loop;
    uint32_t deadline_ms;
    struct event_watch_calls calls;
    void *user;
    struct worker *worker;
    struct event_set *set;
    bool set_made, busy; /* busy: a call is on the watch's own thread */
    bool given_up;       /* this NVML has no event sets */
    struct event_job *job;
    unsigned n_registering, n_watched;
    bool failing;
    struct backoff backoff;
    struct timer pause;
    struct watched_gpu gpus[INVENTORY_MAX_GPUS];
};

static void step(struct event_watch *watch);

static struct event_job *job_new(struct event_watch *watch)
{
    struct event_job *job = mem_alloc(sizeof(*job));

    if (job)
        job->set = set_ref(watch->set);
    return job;
}

static void on_pause_over(struct timer *timer, void *user)
{
    step(user);
}

static void pause_after(struct event_watch *watch, const struct err *err)
{
    timer_start(&watch->pause, watch->loop,
                backoff_next_ms(&watch->backoff, loop_random(watch->loop)), on_pause_over, watch);
    if (watch->set_made) {
        watch->failing = true;
        watch->calls.waiting(watch->user, err);
    } else {
        watch->given_up = err->code == ENOTSUP;
        watch->calls.unavailable(watch->user, err);
    }
}

static void went_well(struct event_watch *watch)
{
    backoff_reset(&watch->backoff);
    if (watch->failing) {
        watch->failing = false;
        watch->calls.waiting(watch->user, NULL);
    }
}

static uint32_t index_of(const struct event_watch *watch, nvmlDevice_t device)
{
    for (uint32_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        if (watch->gpus[i].state == GPU_WATCHED && watch->gpus[i].device == device)
            return i;
    return EVENT_UNKNOWN_GPU;
}

static void report(struct event_watch *watch, const struct event_job *job)
{
    for (size_t i = 0; i < job->n_events; i++) {
        const struct nvml_event_data *data = &job->events[i];
        const struct gpu_event event = {
            .index = index_of(watch, data->device),
            .type = data->eventType,
            .data = data->eventData,
            .gi = data->gpuInstanceId,
            .ci = data->computeInstanceId,
        };
        watch->calls.event(watch->user, &event);
    }
}

/* The end of a call on the watch's own thread: a set was made, or a wait is over. */
static void on_call_done(void *user, int r)
{
    struct event_watch *watch = user;
    struct event_job *job = steal(watch->job);

    watch->busy = false;
    if (r < 0) { /* the worker calls step when the call comes back */
        struct err err = {};
        err_set(&err, ETIMEDOUT, "NVML's wait for events has not come back");
        watch->failing = true;
        watch->calls.waiting(watch->user, &err);
        return;
    }
    if (job->r < 0) {
        pause_after(watch, &job->err);
    } else {
        watch->set_made = true;
        went_well(watch);
    }
    report(watch, job);
    drop_job(job);
    step(watch);
}

static void on_return(void *user)
{
    step(user);
}

static void run(struct event_watch *watch, worker_fn *call)
{
    struct err err = {};

    watch->job = job_new(watch);
    if (watch->job) /* whether a wait that failed works again is soon seen */
        watch->job->wait_ms = watch->failing ? 0 : EVENT_WAIT_MS;
    int r = watch->job ? worker_submit(watch->worker, call, watch->job, on_call_done, watch,
                                       drop_job, EVENT_WAIT_MS + WAIT_GRACE_MS, &err)
                       : err_no_memory(&err);
    if (r < 0) {
        if (watch->job)
            drop_job(steal(watch->job));
        pause_after(watch, &err);
        return;
    }
    watch->busy = true;
}

/* ---- registration ---- */

static void on_registered(void *user, int r)
{
    struct event_job *job = user;
    struct watched_gpu *gpu = job->gpu;
    struct err err = {};

    if (!gpu) {
        if (r == 0)
            drop_job(job);
        return;
    }
    struct event_watch *watch = gpu->watch;
    watch->n_registering--;
    gpu->job = NULL;
    if (r < 0) {
        gpu->state = GPU_UNWATCHED;
        err_set(&err, ETIMEDOUT, "NVML has not answered");
        watch->calls.registered(watch->user, job->index, r, &err);
    } else {
        /* One that is refused counts as watched, so that it is not asked about for ever. */
        gpu->state = GPU_WATCHED;
        gpu->device = job->device;
        watch->n_watched += job->r == 0;
        watch->calls.registered(watch->user, job->index, job->r, job->r < 0 ? &job->err : NULL);
        drop_job(job);
    }
    step(watch);
}

static void start_registering(struct event_watch *watch, struct watched_gpu *gpu)
{
    struct event_job *job = job_new(watch);

    gpu->state = GPU_UNWATCHED;
    if (!job)
        return;
    job->gpu = gpu;
    job->index = (uint32_t)(gpu - watch->gpus);
    if (worker_submit(gpu->worker, register_gpu, job, on_registered, job, drop_job,
                      watch->deadline_ms, NULL) < 0) {
        drop_job(job);
        return;
    }
    gpu->job = job;
    gpu->state = GPU_REGISTERING;
    watch->n_registering++;
}

/* What to do next: make the set, then register, then wait; one after the other. */
static void step(struct event_watch *watch)
{
    if (watch->busy || watch->given_up || watch->n_registering > 0 ||
        timer_running(&watch->pause) || worker_stuck(watch->worker))
        return;
    bool wanted = false;
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        wanted |= watch->gpus[i].state == GPU_WANTED;
    if (!watch->set_made) {
        if (wanted)
            run(watch, create_set);
        return;
    }
    for (size_t i = 0; wanted && i < INVENTORY_MAX_GPUS; i++)
        if (watch->gpus[i].state == GPU_WANTED)
            start_registering(watch, &watch->gpus[i]);
    if (watch->n_registering == 0 && watch->n_watched > 0)
        run(watch, wait_for_events);
}

void event_watch_register(struct event_watch *watch, uint32_t index, struct worker *worker)
{
    struct watched_gpu *gpu = &watch->gpus[index];

    if (gpu->state != GPU_UNWATCHED)
        return;
    gpu->state = GPU_WANTED;
    gpu->worker = worker;
    step(watch);
}

void event_watch_forget(struct event_watch *watch, uint32_t index)
{
    struct watched_gpu *gpu = &watch->gpus[index];

    if (gpu->state == GPU_WATCHED || gpu->state == GPU_WANTED)
        gpu->state = GPU_UNWATCHED;
}

bool event_watch_settled(const struct event_watch *watch)
{
    if (watch->given_up || timer_running(&watch->pause) || worker_stuck(watch->worker))
        return true;
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        if (watch->gpus[i].state == GPU_WANTED || watch->gpus[i].state == GPU_REGISTERING)
            return false;
    return true;
}

/* ---- life ---- */

int event_watch_new(struct loop *loop, struct nvml *nvml, uint32_t deadline_ms,
                    const struct event_watch_calls *calls, void *user, struct event_watch **ret,
                    struct err *err)
{
    auto_free struct event_watch *watch = mem_alloc(sizeof(*watch));
    struct event_set *set = mem_alloc(sizeof(*set));

    int r = watch && set ? nvml_init(nvml, err) : err_no_memory(err);
    if (r < 0) {
        mem_free(set);
        return r;
    }
    *set = (struct event_set){ .refs = 1, .nvml = nvml };
    *watch = (struct event_watch){
        .loop = loop,
        .deadline_ms = deadline_ms,
        .calls = *calls,
        .user = user,
        .set = set,
        .backoff = { .min_ms = BACKOFF_MIN_MS, .max_ms = BACKOFF_MAX_MS },
    };
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        watch->gpus[i].watch = watch;
    r = worker_new(loop, "gpu-events", &watch->worker, err);
    if (r < 0) {
        set_unref(set);
        return r;
    }
    worker_on_return(watch->worker, on_return, watch);
    *ret = steal(watch);
    return 0;
}

void event_watch_free(struct event_watch *watch)
{
    if (!watch)
        return;
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        if (watch->gpus[i].job)
            watch->gpus[i].job->gpu = NULL;
    timer_stop(&watch->pause);
    worker_free(watch->worker);
    set_unref(watch->set);
    mem_free(watch);
}
