/*
 * The questions that the observer has asked on other threads, and their answers. Private to gpu/.
 *
 * A job is handed to a worker (net/worker.h) with one of the functions that ask, and dropped with
 * observe_job_drop by whoever owns it then. Jobs hold references to the source of all facts, since
 * a call that hangs outlives the observer.
 */
#pragma once

#include "gpu/facts.h"
#include "gpu/nvml.h"
#include "gpu/scan.h"

struct source {
    unsigned refs; /* atomic */
    struct arena arena;
    struct nvml *nvml; /* a reference, or NULL */
    int root;
    struct scan_options options; /* strings in the arena */
};

/* -ENOENT and friends when there is no such root. */
[[nodiscard]] int source_new(struct nvml *nvml, const struct scan_options *options,
                             struct source **ret, struct err *err);
void source_unref(struct source *source); /* NULL is fine */

struct observe_job {
    struct source *source; /* a reference */
    bool start;            /* the node: initialise NVML and leave it so… */
    bool started;          /* …which happened, and nobody has taken over the shutdown yet */
    uint32_t index;        /* the GPU */
    uint64_t indices;      /* the GPUs whose links are wanted, by bit */
    int r;                 /* the answer: 0 and one of the facts, or what went wrong */
    struct err err;
    struct node_facts *node;
    struct gpu_facts *gpu;
    struct topology *topology;
};

struct observe_job *observe_job_new(struct source *source); /* NULL without memory */
void observe_job_drop(void *job);

/* On a worker's thread. */
void observe_read_node(void *job);
void observe_read_gpu(void *job);
void observe_read_links(void *job);
