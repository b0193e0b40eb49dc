/*
 * A simulated node in a folder of its own, seen from behind (node) and, as a client sees it, from
 * the front: the library that TRANCHE_NVML names, loaded and initialised. One for each test.
 */
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"
#include "sim/gpu/nvml.h"

struct bench {
    char dir[64];
    struct sim_state *node; /* owned */
    void *library;          /* owned */
};

static inline void *bench_symbol(const struct bench *bench, const char *name)
{
    void *found = dlsym(bench->library, name);

    if (!found)
        fail_msg("%s is not exported", name);
    return found;
}

/* The entry point with its type from the one list of calls. */
#define CALL(name) ((typeof(&name))bench_symbol(bench, #name))
#define GOOD(call) assert_int_equal((call), NVML_SUCCESS)

static inline void bench_node(struct bench *bench, const char *gpus)
{
    auto_free struct sim_state *content = malloc(sizeof(*content));
    static const struct sim_machine_options options = { .seed = 11 };
    struct sim_spec spec;
    struct err err = {};

    assert_non_null(content);
    if (sim_spec_parse(gpus, &spec, &err) < 0 ||
        sim_machine_build(&spec, &options, content, &err) < 0 ||
        sim_state_publish(bench->dir, content, &err) < 0 ||
        sim_state_open(bench->dir, &bench->node, &err) < 0)
        fail_msg("%s", err.text);
}

static inline void bench_load(struct bench *bench)
{
    bench->library = dlopen(getenv("TRANCHE_NVML"), RTLD_NOW | RTLD_LOCAL);
    if (!bench->library)
        fail_msg("%s", dlerror());
    GOOD(CALL(nvmlInit_v2)());
}

static inline struct bench *bench_new(const char *gpus)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    assert_non_null(bench);
    snprintf(bench->dir, sizeof(bench->dir), "/tmp/nvml-bench-XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    assert_int_equal(chmod(bench->dir, 0755), 0);
    setenv("TRANCHE_SIM", bench->dir, 1);
    setenv("TRANCHE_SIM_PRIVILEGED", "1", 1);
    bench_node(bench, gpus);
    bench_load(bench);
    return bench;
}

static inline void bench_unload(struct bench *bench)
{
    GOOD(CALL(nvmlShutdown)());
    assert_int_equal(dlclose(bench->library), 0);
    bench->library = NULL;
}

static inline void bench_free(struct bench *bench)
{
    bench_unload(bench);
    sim_state_close(bench->node);
    file_remove_tree(bench->dir, NULL);
    free(bench);
}
DEFINE_FREEP(struct bench, bench_free)

static inline nvmlDevice_t bench_device(struct bench *bench, uint32_t index)
{
    nvmlDevice_t found = NULL;

    GOOD(CALL(nvmlDeviceGetHandleByIndex_v2)(index, &found));
    return found;
}

/* MIG on, at once, whatever the architecture. */
static inline nvmlDevice_t bench_mig_device(struct bench *bench, uint32_t index)
{
    sim_state_lock(bench->node);
    bench->node->gpus[index].mig_current = bench->node->gpus[index].mig_pending = 1;
    sim_state_changed(bench->node);
    sim_state_unlock(bench->node);
    return bench_device(bench, index);
}
