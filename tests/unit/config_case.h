/*
 * Loads of a configuration as rows of a table: what is given, and what comes of it.
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "share/config.h"

#define PLUGIN PROGRAM_PLUGIN
#define GFD    PROGRAM_FEATURE_DISCOVERY
#define MPS    PROGRAM_MPS_DAEMON

#define FILE_PREFIX                                                                                \
    "unable to load config: unable to finalize config: unable to parse config file: error "        \
    "parsing "                                                                                     \
    "config file: "
#define DECODE_PREFIX FILE_PREFIX "unmarshal error: error unmarshaling JSON: while decoding JSON: "

/* One load: what is given, and a part of the error or parts of the config's description. */
struct load_case {
    const char *word; /* for the reader of a failure */
    enum program program;
    const char *file; /* NULL: none */
    const char *env[4];
    const char *argv[6];
    bool no_nvml;
    const char *error;    /* NULL: it loads */
    const char *wants[4]; /* parts of the description, warnings included */
};

/* ---- a config as one line of text ---- */

static inline void add_resources(struct buf *out, const struct sharing *sharing)
{
    for (size_t i = 0; i < sharing->n_resources; i++) {
        const struct shared_resource *resource = &sharing->resources[i];
        buf_printf(out, " [%s x%u as %s on ", resource->name, resource->replicas,
                   resource->rename ? resource->rename : "-");
        if (resource->devices.kind == SELECT_ALL)
            buf_add_text(out, "all");
        else if (resource->devices.kind == SELECT_COUNT)
            buf_printf(out, "count %u", resource->devices.count);
        for (size_t k = 0; k < resource->devices.n_refs; k++) {
            const struct device_ref *ref = &resource->devices.refs[k];
            buf_add_text(out, k > 0 ? "," : "");
            if (ref->kind == DEVICE_REF_UUID)
                buf_add_text(out, ref->uuid);
            else if (ref->kind == DEVICE_REF_GPU_INDEX)
                buf_printf(out, "%u", ref->gpu_index);
            else
                buf_printf(out, "%u:%u", ref->gpu_index, ref->mig_index);
        }
        buf_add_text(out, "]");
    }
}

static inline void add_texts(struct buf *out, const char *name, const char **texts, size_t n)
{
    buf_printf(out, " %s=", name);
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i > 0 ? "," : "", texts[i]);
}

static inline void describe(const struct config *c, const struct config_warnings *warnings,
                            struct buf *out)
{
    buf_printf(out, " mig=%s/%s fail=%d driver=%s dev=%s ctr=%s gdrcopy=%d gds=%d mofed=%d mps=%s",
               mig_strategy_names[c->mig_strategy], c->mig_strategy_text, c->fail_on_init_error,
               c->driver_root, c->dev_root, c->container_driver_root, c->gdrcopy_enabled,
               c->gds_enabled, c->mofed_enabled, c->mps_root);
    buf_printf(out, " discovery=%s specs=%d list=%u id=%d prefix=%s hook=%s policy=%d imex=%d/%d",
               discovery_strategy_names[c->discovery], c->pass_device_specs, c->device_list,
               c->device_id, c->cdi_annotation_prefix, c->cdi_hook_path, c->allocation_policy,
               c->imex_channel0, c->imex_required);
    add_texts(out, "features", c->cdi_feature_flags, c->n_cdi_feature_flags);
    add_texts(out, "hooks", c->cdi_disabled_hooks, c->n_cdi_disabled_hooks);
    buf_printf(out, " socket=%s file=%s", c->kubelet_socket, c->config_file);
    buf_printf(out, " sharing=%s default-rename=%d one-only=%d per-device=%d",
               sharing_strategy_names[c->sharing.strategy], c->sharing.rename_by_default,
               c->sharing.fail_requests_greater_than_one, c->sharing.per_device);
    add_resources(out, &c->sharing);
    buf_printf(out, " nfd=%d oneshot=%d no-time=%d sleep=%lld out=%s machine=%s",
               c->gfd.use_node_feature_api, c->gfd.oneshot, c->gfd.no_timestamp,
               (long long)c->gfd.sleep_interval_ns, c->gfd.output_file, c->gfd.machine_type_file);
    buf_printf(out, " kube=%s ns=%s node=%s pod=%s qps=%g burst=%lld ", c->gfd.kubeconfig,
               c->gfd.namespace, c->gfd.node_name, c->gfd.pod_name, c->gfd.kube_api_qps,
               (long long)c->gfd.kube_api_burst);
    for (size_t i = 0; i < warnings->n; i++)
        buf_printf(out, "\nwarning %u:%u %s", warnings->items[i].place.line,
                   warnings->items[i].place.column, warnings->items[i].text);
}

/* ---- running cases ---- */

static inline int count_of(const char *const *texts, size_t max)
{
    size_t n = 0;

    while (n < max && texts[n])
        n++;
    return (int)n;
}

static inline int load(const struct load_case *c, struct arena *arena, struct buf *out,
                       struct err *err)
{
    struct span file = c->file ? span_of(c->file) : (struct span){};
    const char *env[ARRAY_LEN(c->env) + 1] = {};
    struct config_input input = { .program = c->program,
                                  .argc = count_of(c->argv, ARRAY_LEN(c->argv)),
                                  .argv = c->argv,
                                  .environ = env };
    struct config_warnings warnings = {};
    struct config *config = NULL;

    memcpy(env, c->env, sizeof(c->env));
    int r = config_load(&input, c->file ? &file : NULL, "config.yaml", !c->no_nvml, arena, &config,
                        &warnings, err);
    if (r == 0)
        describe(config, &warnings, out);
    else
        assert_null(config);
    return r;
}

static inline void check_case(const struct load_case *c)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct err err = {};
    int r = load(c, &arena, &out, &err);

    if (c->error && (r != -EINVAL || err.code != EINVAL || !strstr(err.text, c->error)))
        fail_msg("%s: wanted \"%s\", got %d \"%s\"", c->word, c->error, r, err.text);
    if (!c->error && r != 0)
        fail_msg("%s: did not load: %s", c->word, err.text);
    for (size_t i = 0; i < ARRAY_LEN(c->wants) && c->wants[i]; i++)
        if (!strstr(buf_text(&out), c->wants[i]))
            fail_msg("%s: wanted \"%s\" in%s", c->word, c->wants[i], buf_text(&out));
}

#define CHECK(cases)                                                                               \
    for (size_t i_ = 0; i_ < ARRAY_LEN(cases); i_++)                                               \
    check_case(&(cases)[i_])

#define TIME_SLICING(items) "sharing: {timeSlicing: {resources: [" items "]}}"
#define IN_PLUGIN(pair)     "flags: {plugin: {" pair "}}"
