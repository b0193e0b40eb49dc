#include "gpu/observe_job.h"

#include <string.h>

#include "base/mem.h"
#include "gpu/devnode.h"

enum { SOURCE_ARENA_BYTES = 64 << 10 };

/* ---- the source ---- */

static struct source *source_ref(struct source *source)
{
    __atomic_add_fetch(&source->refs, 1, __ATOMIC_RELAXED);
    return source;
}

void source_unref(struct source *source)
{
    if (!source || __atomic_sub_fetch(&source->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    base_close(&source->root);
    nvml_unref(source->nvml);
    arena_done(&source->arena);
    mem_free(source);
}
DEFINE_FREEP(struct source, source_unref)

static int copy_option(struct arena *arena, const char **text, struct err *err)
{
    if (*text && !(*text = arena_strdup(arena, *text)))
        return err_no_memory(err);
    return 0;
}

int source_new(struct nvml *nvml, const struct scan_options *options, struct source **ret,
               struct err *err)
{
    auto_(source_unrefp) struct source *source = mem_alloc(sizeof(*source));

    if (!source)
        return err_no_memory(err);
    *source = (struct source){
        .refs = 1,
        .arena = ARENA_MAX(SOURCE_ARENA_BYTES),
        .nvml = nvml ? nvml_ref(nvml) : NULL,
        .root = -1,
        .options = *options,
    };
    int r = copy_option(&source->arena, &source->options.root, err);
    if (r == 0)
        r = copy_option(&source->arena, &source->options.driver_root, err);
    if (r == 0)
        r = copy_option(&source->arena, &source->options.machine_type_file, err);
    if (r == 0)
        r = devnode_root(options->root ? options->root : "/", &source->root, err);
    if (r == 0)
        *ret = steal(source);
    return r;
}

/* ---- jobs ---- */

void observe_job_drop(void *arg)
{
    struct observe_job *job = arg;

    node_facts_free(job->node);
    gpu_facts_free(job->gpu);
    mem_free(job->topology);
    if (job->started)
        nvml_shutdown(job->source->nvml);
    source_unref(job->source);
    mem_free(job);
}

struct observe_job *observe_job_new(struct source *source)
{
    struct observe_job *job = mem_alloc(sizeof(*job));

    if (job)
        job->source = source_ref(source);
    return job;
}

/* ---- on threads ---- */

void observe_read_node(void *arg)
{
    struct observe_job *job = arg;
    struct source *source = job->source;

    if (job->start) {
        job->r = nvml_init(source->nvml, &job->err);
        if (job->r < 0)
            return;
        job->started = true;
    }
    job->r = facts_read_node(source->nvml, source->root, &source->options, &job->node, &job->err);
}

void observe_read_gpu(void *arg)
{
    struct observe_job *job = arg;
    struct nvml *nvml = job->source->nvml;

    job->r = nvml_init(nvml, &job->err);
    if (job->r < 0)
        return;
    job->r = facts_read_gpu(nvml, job->source->root, job->index, job->source->options.links,
                            &job->gpu, &job->err);
    nvml_shutdown(nvml);
}

void observe_read_links(void *arg)
{
    struct observe_job *job = arg;
    struct nvml *nvml = job->source->nvml;

    job->topology = mem_alloc(sizeof(*job->topology));
    job->r = job->topology ? nvml_init(nvml, &job->err) : err_no_memory(&job->err);
    if (job->r < 0)
        return;
    topology_read(nvml, job->indices, job->topology);
    nvml_shutdown(nvml);
}
