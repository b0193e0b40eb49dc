#include "gpu/observe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/assemble.h"
#include "gpu/event_watch.h"
#include "gpu/facts.h"
#include "gpu/nvml_abi.h"
#include "gpu/observe_job.h"
#include "net/worker.h"

enum {
    DEFAULT_INTERVAL_MS = 10000,
    DEFAULT_DEADLINE_MS = 5000,
    DEFAULT_PATIENCE_MS = 1000,
    DEFAULT_START_DEADLINE_MS = 60000,
};

/* ---- the observer ---- */

struct slot { /* one GPU, by NVML index */
    struct observer *observer;
    struct worker *worker; /* NULL before its first scan */
    struct observe_job *job;
    struct gpu_facts *facts; /* the best we have: the last complete ones, else an identity */
    const char *problem;     /* NULL, or why the facts are not of today: borrowed from last_word */
    bool linked;             /* the topology knows this GPU */
    char last_word[256];
    char watch_problem[256]; /* "" unless it cannot be watched for errors */
};

struct observer {
    struct loop *loop;
    struct source *source;
    struct observer_options options;
    struct observer_calls calls;
    void *user;

    struct worker *worker; /* for the node */
    bool session;          /* this observer has initialised NVML, and owes a shutdown */
    struct node_facts *node;
    uint32_t n_slots;
    struct slot slots[INVENTORY_MAX_GPUS];

    struct worker *link_worker; /* NULL unless links are being read, or hang */
    struct observe_job *link_job;
    struct topology *topology;
    bool links_failed; /* not in this scan any more */

    bool scanning, again;
    bool hurried; /* patience is over: publish what is there */
    struct observe_job *node_job;
    unsigned n_pending; /* GPUs that have not answered in this scan */
    struct timer interval, patience;

    struct event_watch *events;
    struct ailments ailments;
    char wait_problem[256]; /* "" while the wait for events works */

    struct inventory *current;
    struct err node_problem; /* the driver went away; code 0: it is there */
};

static void start_scan(struct observer *observer);

static uint32_t or_default(uint32_t value, uint32_t usual)
{
    return value ? value : usual;
}

/* ---- publishing ---- */

/* The reason that a GPU is unhealthy beside what XIDs have said. */
static const char *problem_of(const struct observer *observer, const struct slot *slot)
{
    if (observer->node_problem.code)
        return observer->node_problem.text;
    if (slot->problem)
        return slot->problem;
    if (slot->watch_problem[0])
        return slot->watch_problem;
    return observer->wait_problem[0] ? observer->wait_problem : NULL;
}

static void publish(struct observer *observer)
{
    struct assembly_gpu gpus[INVENTORY_MAX_GPUS] = {};
    struct inventory *inventory;
    struct err err = {};

    if (!observer->node)
        return;
    for (uint32_t i = 0; i < observer->n_slots; i++)
        gpus[i] = (struct assembly_gpu){ .facts = observer->slots[i].facts,
                                         .problem = problem_of(observer, &observer->slots[i]) };
    int r = inventory_assemble(
        &(struct assembly){
            .root = observer->source->root,
            .node = observer->node,
            .n_gpus = observer->n_slots,
            .gpus = gpus,
            .discover_tegra = observer->source->options.discovery == DISCOVERY_AUTO,
            .topology = observer->topology,
            .ailments = &observer->ailments,
        },
        &inventory, &err);
    if (r < 0) {
        if (observer->calls.failed)
            observer->calls.failed(observer->user, &err);
        return;
    }
    if (observer->current && inventory_equal(observer->current, inventory)) {
        inventory_unref(inventory);
        return;
    }
    inventory_unref(observer->current);
    observer->current = inventory;
    if (observer->calls.inventory)
        observer->calls.inventory(observer->user, inventory);
}

/* What is known is seen in another light. The first inventory waits for the first scan. */
static void republish(struct observer *observer)
{
    if (observer->current)
        publish(observer);
}

/* ---- the end of a scan ---- */

static void on_interval(struct timer *timer, void *user)
{
    start_scan(user);
}

static void watch_gpus(struct observer *observer);

static void finish_scan(struct observer *observer)
{
    uint32_t interval_ms = or_default(observer->options.interval_ms, DEFAULT_INTERVAL_MS);

    observer->scanning = false;
    watch_gpus(observer);
    if (observer->again)
        interval_ms = 0;
    if (interval_ms != OBSERVER_NEVER)
        timer_start(&observer->interval, observer->loop, interval_ms, on_interval, observer);
    if (observer->calls.scanned)
        observer->calls.scanned(observer->user);
}

/* ---- links: read when a GPU is there that the topology does not know ---- */

static bool links_wanted(const struct observer *observer, uint64_t *ret_indices)
{
    bool wanted = false;

    *ret_indices = 0;
    for (uint32_t i = 0; i < observer->n_slots; i++) {
        const struct slot *slot = &observer->slots[i];
        if (slot->problem || !slot->facts || slot->facts->depth != FACTS_COMPLETE)
            continue;
        *ret_indices |= UINT64_C(1) << i;
        wanted |= !slot->linked;
    }
    return wanted && observer->source->options.links;
}

static void settle(struct observer *observer);

static void keep_topology(struct observer *observer, struct observe_job *job)
{
    mem_free(observer->topology);
    observer->topology = steal(job->topology);
    for (uint32_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        observer->slots[i].linked = job->indices >> i & 1;
}

static void on_links_read(void *user, int r)
{
    struct observer *observer = user;
    struct observe_job *job = steal(observer->link_job);

    observer->links_failed = r < 0 || job->r < 0;
    if (r == 0) {
        if (job->r == 0)
            keep_topology(observer, job);
        observe_job_drop(job);
        worker_free(steal(observer->link_worker)); /* not needed again for a long time */
    }
    settle(observer);
}

/* False when it is on its way; links that cannot be read stay unknown until the next scan. */
static bool links_are_there(struct observer *observer)
{
    uint64_t indices;

    if (observer->link_job)
        return false;
    if (observer->links_failed || !links_wanted(observer, &indices))
        return true;
    if (!observer->link_worker &&
        worker_new(observer->loop, "gpu-links", &observer->link_worker, NULL) < 0)
        return true;
    struct observe_job *job = observe_job_new(observer->source);
    if (!job)
        return true;
    job->indices = indices;
    if (worker_submit(observer->link_worker, observe_read_links, job, on_links_read, observer,
                      observe_job_drop,
                      or_default(observer->options.deadline_ms, DEFAULT_DEADLINE_MS), NULL) < 0) {
        observe_job_drop(job);
        return true;
    }
    observer->link_job = job;
    return false;
}

/* What happens to a GPU after it was first shown is not missed: the first inventory waits until
 * its events are watched. */
static bool may_be_shown(struct observer *observer)
{
    if (observer->current || observer->hurried)
        return true;
    watch_gpus(observer);
    return !observer->events || event_watch_settled(observer->events);
}

/* Publishes as soon as it makes sense, and ends the scan when all have answered. */
static void settle(struct observer *observer)
{
    if (observer->node_job || (observer->n_pending > 0 && !observer->hurried))
        return;
    if (!links_are_there(observer) || !may_be_shown(observer))
        return;
    publish(observer);
    if (observer->scanning && observer->n_pending == 0) {
        timer_stop(&observer->patience);
        finish_scan(observer);
    }
}

static void on_patience(struct timer *timer, void *user)
{
    struct observer *observer = user;

    observer->hurried = true;
    settle(observer);
}

/* ---- GPUs ---- */

/* A GPU in trouble is registered for events again when it is well: a reset forgets that. */
PRINTF(2, 3) static void set_problem(struct slot *slot, const char *format, ...)
{
    struct observer *observer = slot->observer;
    va_list args;

    va_start(args, format);
    vsnprintf(slot->last_word, sizeof(slot->last_word), format, args);
    va_end(args);
    slot->problem = slot->last_word;
    if (observer->events)
        event_watch_forget(observer->events, (uint32_t)(slot - observer->slots));
}

static void set_late(struct slot *slot)
{
    uint32_t ms = or_default(slot->observer->options.deadline_ms, DEFAULT_DEADLINE_MS);

    if (ms % 1000 == 0)
        set_problem(slot, "NVML has not answered for %u s", ms / 1000);
    else
        set_problem(slot, "NVML has not answered for %u ms", ms);
}

/* What never changes on one GPU stays known when the driver refuses to say it for once. */
static void carry_over(const struct gpu *from, struct gpu *to)
{
    if (!to->memory_bytes.known)
        to->memory_bytes = from->memory_bytes;
    if (!to->pci_class.known)
        to->pci_class = from->pci_class;
    if (to->cc_major == 0) {
        to->cc_major = from->cc_major;
        to->cc_minor = from->cc_minor;
    }
}

/* The newest facts replace the old ones, unless they say less about the same GPU. */
static void keep_facts(struct slot *slot, struct gpu_facts *facts)
{
    struct gpu_facts *old = slot->facts;
    bool same = old && old->depth != FACTS_NOTHING && facts->depth != FACTS_NOTHING &&
                !old->display && !facts->display && text_equal(old->gpu.uuid, facts->gpu.uuid);

    if (facts->depth == FACTS_COMPLETE)
        slot->problem = NULL;
    else
        set_problem(slot, "%s", facts->problem);
    if (facts->depth == FACTS_NOTHING || (same && facts->depth < old->depth)) {
        gpu_facts_free(facts);
        return;
    }
    if (same) {
        carry_over(&old->gpu, &facts->gpu);
    } else {
        slot->linked = false;
        if (slot->observer->events)
            event_watch_forget(slot->observer->events, facts->index);
    }
    gpu_facts_free(old);
    slot->facts = facts;
}

static void on_gpu_read(void *user, int r)
{
    struct slot *slot = user;
    struct observer *observer = slot->observer;
    struct observe_job *job = steal(slot->job);

    if (r < 0) {
        set_late(slot);
    } else {
        if (job->r < 0)
            set_problem(slot, "%s", job->err.text);
        else
            keep_facts(slot, steal(job->gpu));
        observe_job_drop(job);
    }
    observer->n_pending--;
    settle(observer);
}

static void on_gpu_returned(void *user)
{
    observer_rescan(((struct slot *)user)->observer);
}

static int ask_gpu(struct slot *slot, struct err *err)
{
    struct observer *observer = slot->observer;
    uint32_t index = (uint32_t)(slot - observer->slots);
    char name[16];

    if (!slot->worker) {
        snprintf(name, sizeof(name), "gpu-%u", index);
        int r = worker_new(observer->loop, name, &slot->worker, err);
        if (r < 0)
            return r;
        worker_on_return(slot->worker, on_gpu_returned, slot);
    }
    struct observe_job *job = observe_job_new(observer->source);
    if (!job)
        return err_no_memory(err);
    job->index = index;
    int r = worker_submit(slot->worker, observe_read_gpu, job, on_gpu_read, slot, observe_job_drop,
                          or_default(observer->options.deadline_ms, DEFAULT_DEADLINE_MS), err);
    if (r < 0) {
        observe_job_drop(job);
        return r;
    }
    slot->job = job;
    return 0;
}

static void ask_gpus(struct observer *observer)
{
    for (uint32_t i = 0; i < observer->n_slots; i++) {
        struct slot *slot = &observer->slots[i];
        struct err err = {};

        if (slot->worker && worker_stuck(slot->worker))
            set_late(slot);
        else if (ask_gpu(slot, &err) < 0)
            set_problem(slot, "%s", err.text);
        else
            observer->n_pending++;
    }
    if (observer->n_pending > 0)
        timer_start(&observer->patience, observer->loop,
                    or_default(observer->options.patience_ms, DEFAULT_PATIENCE_MS), on_patience,
                    observer);
    settle(observer);
}

/* ---- the node ---- */

static void forget_slots_from(struct observer *observer, uint32_t first)
{
    for (uint32_t i = first; i < observer->n_slots; i++) {
        struct slot *slot = &observer->slots[i];
        gpu_facts_free(steal(slot->facts));
        slot->problem = NULL;
        slot->watch_problem[0] = '\0';
        slot->linked = false;
        if (observer->events)
            event_watch_forget(observer->events, i);
    }
}

/* NVML is let go of, so that the next scan finds what there is then. */
static void end_session(struct observer *observer)
{
    event_watch_free(steal(observer->events));
    observer->wait_problem[0] = '\0';
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        observer->slots[i].watch_problem[0] = '\0';
    if (observer->session)
        nvml_shutdown(observer->source->nvml);
    observer->session = false;
}

/* The driver is gone, or was replaced: what the library still answers is of no use. */
static bool ends_session(int r)
{
    return r == -ENXIO || r == -EBADFD || r == -ELIBBAD;
}

static void fail_scan(struct observer *observer, const struct err *err)
{
    observer->node_problem = *err;
    publish(observer);
    if (observer->calls.failed)
        observer->calls.failed(observer->user, err);
    finish_scan(observer);
}

static void keep_node(struct observer *observer, struct observe_job *job)
{
    forget_slots_from(observer, job->node->n_gpus);
    observer->n_slots = job->node->n_gpus;
    node_facts_free(observer->node);
    observer->node = steal(job->node);
    observer->node_problem.code = 0;
}

static void on_node_read(void *user, int r)
{
    struct observer *observer = user;
    struct observe_job *job = steal(observer->node_job);
    struct err err = {};

    if (r < 0) {
        err_set(&err, ETIMEDOUT, "NVML has not answered");
        fail_scan(observer, &err);
        return;
    }
    if (job->r == 0) {
        observer->session |= job->started;
        job->started = false;
        keep_node(observer, job);
        observe_job_drop(job);
        ask_gpus(observer);
        return;
    }
    err = job->err;
    if (ends_session(job->r))
        end_session(observer);
    observe_job_drop(job);
    fail_scan(observer, &err);
}

static void on_node_returned(void *user)
{
    observer_rescan(user);
}

static void start_scan(struct observer *observer)
{
    struct observe_job *job = observe_job_new(observer->source);
    struct err err = {};

    timer_stop(&observer->interval);
    observer->scanning = true;
    observer->again = observer->hurried = observer->links_failed = false;
    int r = job ? 0 : err_no_memory(&err);
    if (r == 0) {
        job->start = observer->source->nvml && !observer->session;
        uint32_t deadline_ms =
            job->start ? or_default(observer->options.start_deadline_ms, DEFAULT_START_DEADLINE_MS)
                       : or_default(observer->options.deadline_ms, DEFAULT_DEADLINE_MS);
        r = worker_submit(observer->worker, observe_read_node, job, on_node_read, observer,
                          observe_job_drop, deadline_ms, &err);
    }
    if (r < 0) {
        if (job)
            observe_job_drop(job);
        if (r == -EBUSY)
            err_set(&err, ETIMEDOUT, "NVML has not answered");
        fail_scan(observer, &err);
        return;
    }
    observer->node_job = job;
}

void observer_rescan(struct observer *observer)
{
    if (observer->scanning)
        observer->again = true;
    else
        timer_start(&observer->interval, observer->loop, 0, on_interval, observer);
}

/* ---- events ---- */

static void notice(struct observer *observer, const struct observer_notice *what)
{
    if (observer->calls.notice)
        observer->calls.notice(observer->user, what);
}

static const char *uuid_of(const struct observer *observer, uint32_t index)
{
    const struct gpu_facts *facts = index < observer->n_slots ? observer->slots[index].facts : NULL;

    return facts && facts->depth != FACTS_NOTHING ? facts->gpu.uuid : NULL;
}

/* Lack of memory or room for one more ailment leaves the GPU as it is: the event was told. */
static void make_ill(struct observer *observer, uint32_t index, uint32_t gi, uint32_t ci,
                     const char *reason)
{
    const char *uuid = uuid_of(observer, index);

    if (uuid &&
        ailments_add(&observer->ailments, observer->current, uuid, gi, ci, reason, NULL) < 0)
        notice(observer, &(struct observer_notice){ .kind = NOTICE_WATCH_FAILED,
                                                    .gpu = uuid,
                                                    .text = "too many devices are unhealthy" });
}

static void on_xid(struct observer *observer, const struct gpu_event *event)
{
    bool fatal = xid_filter_is_fatal(&observer->options.xids, event->data);
    char reason[64];

    notice(observer, &(struct observer_notice){ .kind = NOTICE_XID,
                                                .gpu = uuid_of(observer, event->index),
                                                .xid = event->data,
                                                .gi = event->gi,
                                                .ci = event->ci,
                                                .fatal = fatal });
    if (!fatal)
        return;
    snprintf(reason, sizeof(reason), "XID %" PRIu64, event->data);
    if (event->index != EVENT_UNKNOWN_GPU)
        make_ill(observer, event->index, event->gi, event->ci, reason);
    for (uint32_t i = 0; event->index == EVENT_UNKNOWN_GPU && i < observer->n_slots; i++)
        make_ill(observer, i, HEALTH_NO_INSTANCE, HEALTH_NO_INSTANCE, reason);
    republish(observer);
}

static void on_event(void *user, const struct gpu_event *event)
{
    struct observer *observer = user;

    switch (event->type) {
    case NVML_EVENT_XID:
        on_xid(observer, event);
        break;
    case NVML_EVENT_SINGLE_BIT_ECC:
    case NVML_EVENT_DOUBLE_BIT_ECC:
        notice(observer, &(struct observer_notice){ .kind = NOTICE_ECC,
                                                    .gpu = uuid_of(observer, event->index),
                                                    .gi = event->gi,
                                                    .ci = event->ci });
        return;
    default:
        break;
    }
    observer_rescan(observer); /* what NVML says about the GPU may be different now */
}

/* Failures that a scan sees, too, and that end when the GPU is well again. */
static bool is_the_scans_business(int r)
{
    return r == -ETIMEDOUT || r == -ENODEV || r == -EUCLEAN;
}

/* A GPU that cannot be watched is not to be trusted, until the try after a later scan succeeds; one
 * that has no events to watch for is as healthy as scans find it. */
static void on_registered(void *user, uint32_t index, int r, const struct err *err)
{
    struct observer *observer = user;
    struct slot *slot = &observer->slots[index];
    bool refused = err && r != -ENOTSUP && !is_the_scans_business(r);
    char problem[sizeof(slot->watch_problem)];

    if (r == -ENOTSUP)
        notice(observer, &(struct observer_notice){ .kind = NOTICE_NOT_WATCHED,
                                                    .gpu = uuid_of(observer, index),
                                                    .gi = HEALTH_NO_INSTANCE,
                                                    .ci = HEALTH_NO_INSTANCE,
                                                    .text = err->text });
    else if (err)
        event_watch_forget(observer->events, index);
    snprintf(problem, sizeof(problem), "%.200s", refused ? err->text : "");
    if (!text_equal(slot->watch_problem, problem)) {
        memcpy(slot->watch_problem, problem, sizeof(problem));
        republish(observer);
    }
    if (!observer->current)
        settle(observer);
}

/* That a GPU is lost is no reason to mistrust the others: the scan finds out which one. */
static void on_waiting(void *user, const struct err *err)
{
    struct observer *observer = user;

    notice(observer,
           &(struct observer_notice){ .kind = err ? NOTICE_WATCH_FAILED : NOTICE_WATCH_WORKS,
                                      .gi = HEALTH_NO_INSTANCE,
                                      .ci = HEALTH_NO_INSTANCE,
                                      .text = err ? err->text : NULL });
    snprintf(observer->wait_problem, sizeof(observer->wait_problem), "%.200s",
             err && err->code != ENODEV ? err->text : "");
    republish(observer);
    observer_rescan(observer);
}

/* As upstream, GPUs that cannot be watched stay as healthy as scans find them. */
static void tell_unavailable(struct observer *observer, const struct err *err)
{
    notice(observer, &(struct observer_notice){ .kind = NOTICE_WATCH_FAILED,
                                                .gi = HEALTH_NO_INSTANCE,
                                                .ci = HEALTH_NO_INSTANCE,
                                                .text = err->text });
}

static void on_unavailable(void *user, const struct err *err)
{
    struct observer *observer = user;

    tell_unavailable(observer, err);
    if (!observer->current)
        settle(observer);
}

static const struct event_watch_calls event_calls = {
    .event = on_event,
    .registered = on_registered,
    .waiting = on_waiting,
    .unavailable = on_unavailable,
};

/* Watches every GPU that has answered; those that do not are asked again after a later scan. */
static void watch_gpus(struct observer *observer)
{
    uint32_t deadline_ms = or_default(observer->options.deadline_ms, DEFAULT_DEADLINE_MS);
    struct err err = {};

    if (!observer->options.watch_events || !observer->session ||
        !xid_filter_watches(&observer->options.xids))
        return;
    if (!observer->events && event_watch_new(observer->loop, observer->source->nvml, deadline_ms,
                                             &event_calls, observer, &observer->events, &err) < 0) {
        tell_unavailable(observer, &err);
        return;
    }
    for (uint32_t i = 0; i < observer->n_slots; i++) {
        const struct slot *slot = &observer->slots[i];
        if (!slot->problem && slot->facts && !slot->facts->display)
            event_watch_register(observer->events, i, slot->worker);
    }
}

/* ---- life ---- */

struct inventory *observer_inventory(const struct observer *observer)
{
    return observer->current;
}

void observer_clear_health(struct observer *observer)
{
    ailments_clear(&observer->ailments);
    republish(observer);
    observer_rescan(observer);
}

int observer_start(struct loop *loop, struct nvml *nvml, const struct observer_options *options,
                   const struct observer_calls *calls, void *user, struct observer **ret,
                   struct err *err)
{
    auto_(observer_stopp) struct observer *observer = mem_alloc(sizeof(*observer));

    if (!observer)
        return err_no_memory(err);
    observer->loop = loop;
    observer->options = *options;
    observer->calls = *calls;
    observer->user = user;
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++)
        observer->slots[i].observer = observer;
    int r = source_new(nvml, &options->scan, &observer->source, err);
    if (r == 0)
        r = worker_new(loop, "gpu-node", &observer->worker, err);
    if (r < 0)
        return r;
    worker_on_return(observer->worker, on_node_returned, observer);
    observer_rescan(observer); /* not here and now: a callback could come before *ret is set */
    *ret = steal(observer);
    return 0;
}

void observer_stop(struct observer *observer)
{
    if (!observer)
        return;
    timer_stop(&observer->interval);
    timer_stop(&observer->patience);
    end_session(observer); /* its registrations are jobs of the workers below */
    worker_free(observer->worker);
    worker_free(observer->link_worker);
    for (size_t i = 0; i < INVENTORY_MAX_GPUS; i++) {
        worker_free(observer->slots[i].worker);
        gpu_facts_free(observer->slots[i].facts);
    }
    source_unref(observer->source);
    node_facts_free(observer->node);
    mem_free(observer->topology);
    ailments_done(&observer->ailments);
    inventory_unref(observer->current);
    mem_free(observer);
}

/* ---- once ---- */

struct once {
    struct loop *loop;
    struct err failure;
};

static void on_once_failed(void *user, const struct err *err)
{
    ((struct once *)user)->failure = *err;
}

static void on_once_scanned(void *user)
{
    loop_stop(((struct once *)user)->loop);
}

int observe_once(struct nvml *nvml, const struct observer_options *options, struct inventory **ret,
                 struct err *err)
{
    static const struct observer_calls calls = {
        .failed = on_once_failed,
        .scanned = on_once_scanned,
    };
    auto_(loop_freep) struct loop *loop = NULL;
    auto_(observer_stopp) struct observer *observer = NULL;
    struct observer_options once_options = *options;

    int r = loop_new(&loop, err);
    if (r < 0)
        return r;
    struct once once = { .loop = loop };
    once_options.interval_ms = OBSERVER_NEVER;
    once_options.watch_events = false;
    r = observer_start(loop, nvml, &once_options, &calls, &once, &observer, err);
    if (r < 0)
        return r;
    loop_run(loop);
    if (once.failure.code)
        return err_set(err, once.failure.code, "%s", once.failure.text);
    *ret = inventory_ref(observer_inventory(observer));
    return 0;
}
