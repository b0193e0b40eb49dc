/*
 * A node and a config to decide about, without hardware and without files.
 *
 *     auto_(fixture_done) struct fixture f = {};
 *     fixture_init(&f, "t4 h100:7x1g.10gb");
 *     fixture_share(&f, SHARING_TIME_SLICING, "nvidia.com/gpu", 4);
 *     fixture_resources(&f);
 *
 * A layout has a word for each GPU: a model, and behind a colon its MIG devices, if MIG is on. GPUs
 * are called GPU-0, GPU-1, …; the MIG devices of GPU 1 are MIG-1-0, MIG-1-1, …
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "share/config.h"
#include "share/inventory.h"
#include "share/resource.h"

enum { FIXTURE_MAX_SHARED = 8, FIXTURE_MAX_REFS = 8 };

struct fixture {
    struct inventory *inventory;
    struct config config; /* defaults of the plugin; change at will */
    struct shared_resource shared[FIXTURE_MAX_SHARED];
    struct device_ref refs[FIXTURE_MAX_SHARED][FIXTURE_MAX_REFS];
    struct arena arena; /* for what is built: answers, texts */
    struct err err;
    struct resource_set *set;
};

void fixture_init(struct fixture *f, const char *layout);
void fixture_done(struct fixture *f);

/* ---- hardware ---- */

/* All GPUs hang together at `level`; call before the next two. */
void fixture_connect(struct fixture *f, uint32_t level);
/* The GPUs first … last are nearer to each other. */
void fixture_group(struct fixture *f, size_t first, size_t last, uint32_t level);
void fixture_nvlink(struct fixture *f, size_t a, size_t b, uint32_t n);

/* ---- config ---- */

/* One more shared resource, for all devices. */
struct shared_resource *fixture_share(struct fixture *f, enum sharing_strategy strategy,
                                      const char *name, uint32_t replicas);
/* Its last entry holds only for these: "0 1:2 GPU-…", or the first n devices. */
void fixture_select(struct fixture *f, const char *refs);
void fixture_select_count(struct fixture *f, uint32_t n);

/* ---- results ---- */

/* resource_build, which has to work. */
void fixture_resources(struct fixture *f);
const struct resource *fixture_resource(const struct fixture *f, const char *name);
/* "nvidia.com/gpu=2 nvidia.com/mig-1g.10gb=7", or the error's sentence. */
const char *fixture_summary(struct fixture *f);
/* "GPU-0::0 GPU-0::1". */
const char *fixture_ids(struct fixture *f, const char *resource);
/* "a b c" as an array in the arena. */
const char **fixture_words(struct fixture *f, const char *words, size_t *ret_n);
