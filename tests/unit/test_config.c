#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
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

static void add_resources(struct buf *out, const struct sharing *sharing)
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

static void add_texts(struct buf *out, const char *name, const char **texts, size_t n)
{
    buf_printf(out, " %s=", name);
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i > 0 ? "," : "", texts[i]);
}

static void describe(const struct config *c, const struct config_warnings *warnings,
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

static int count_of(const char *const *texts, size_t max)
{
    size_t n = 0;

    while (n < max && texts[n])
        n++;
    return (int)n;
}

static int load(const struct load_case *c, struct arena *arena, struct buf *out, struct err *err)
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

static void check_case(const struct load_case *c)
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

/* ---- the recorded vectors, spec §10.1 ---- */

static void vectors_1_to_20_hold(void **state)
{
    static const struct load_case cases[] = {
        { "1", PLUGIN, TIME_SLICING("{name: nvidia.com/gpu, replicas: 1}"),
          .error = "number of replicas must be >= 2" },
        { "2", PLUGIN, "sharing: {timeSlicing: {renameByDefault: true}}",
          .error = "no resources specified" },
        { "3", PLUGIN, TIME_SLICING("{name: gpu, replicas: 4}"),
          .wants = { "sharing=time-slicing", " [nvidia.com/gpu x4 as - on all] " } },
        { "4", PLUGIN,
          "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, replicas: 4}]}}",
          .wants = { "default-rename=1",
                     " [nvidia.com/gpu x4 as nvidia.com/gpu.shared on all] " } },
        { "5", PLUGIN, TIME_SLICING("{name: gpu, rename: nvidia.com/foo, replicas: 2}"),
          .wants = { " [nvidia.com/gpu x2 as - on all] ",
                     "warning 1:57 Setting the 'rename' field in sharing.timeSlicing.resources is "
                     "not yet supported in the config. Ignoring..." } },
        { "6", PLUGIN, TIME_SLICING("{name: gpu, devices: [0], replicas: 2}"),
          .wants = { " [nvidia.com/gpu x2 as - on all] ",
                     "Customizing the 'devices' field in sharing.timeSlicing.resources is not yet "
                     "supported in the config. Ignoring..." } },
        { "7", PLUGIN, TIME_SLICING("{name: gpu, devices: some, replicas: 2}"),
          .error = "devices set as 'some' but the only valid string input is 'all'" },
        { "8a", PLUGIN, TIME_SLICING("{name: gpu, devices: -2, replicas: 2}"),
          .error = "devices set as '-2' but a count of devices must be > 0" },
        { "8b", PLUGIN, TIME_SLICING("{name: gpu, devices: [MIG-UUID], replicas: 2}"),
          .error = "unsupported type for device in devices list: MIG-UUID, string" },
        { "9", PLUGIN, TIME_SLICING("{name: $bad$, replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/$bad$': [" },
        { "10", PLUGIN,
          "{flags: {migStrategy: mixed}, sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}}",
          .error = "using --mig-strategy=mixed is not supported with MPS" },
        { "11", PLUGIN, "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}",
          .error = "using MPS requires --mps-root to be specified" },
        { "12", PLUGIN,
          "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 10}]}, "
          "mps: {resources: [{name: gpu, replicas: 4}]}}",
          .env = { "MPS_ROOT=/run/nvidia/mps" },
          .wants = { "sharing=mps", " [nvidia.com/gpu x4 as - on all] ", "one-only=1",
                     "sharing.timeSlicing has no effect beside sharing.mps" } },
        { "13", PLUGIN, "version: v2",
          .error = FILE_PREFIX "config.yaml:1:10: unknown version: v2" },
        { "14", PLUGIN, "", .wants = { " mig=none/none fail=1 driver=/ dev=/ " } },
        { "15a", PLUGIN, "flags: {migStrategy: mixed}", .env = { "MIG_STRATEGY=single" },
          .argv = { "--mig-strategy=none" }, .wants = { "mig=none/none" } },
        { "15b", PLUGIN, "flags: {migStrategy: mixed}", .env = { "MIG_STRATEGY=single" },
          .wants = { "mig=single/single" } },
        { "15c", PLUGIN, "flags: {migStrategy: mixed}", .wants = { "mig=mixed/mixed" } },
        { "16a", PLUGIN, IN_PLUGIN("deviceListStrategy: 'envvar,cdi-cri'"),
          .error = "invalid strategy: envvar,cdi-cri" },
        { "16b", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=envvar,cdi-cri" },
          .wants = { " list=9 " } },
        { "16c", PLUGIN, NULL, .argv = { "--device-list-strategy", "envvar,cdi-cri" },
          .wants = { " list=9 " } },
        { "17", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=1" },
          .error = "channelIDs must be [] or [0]; found [1]" },
        { "18a", PLUGIN, "flags: {deviceDiscoveryStrategy: vfio}",
          .error = "invalid --device-discovery-strategy option vfio" },
        { "18b", GFD, "flags: {deviceDiscoveryStrategy: vfio}", .wants = { "discovery=vfio" } },
        { "19a", GFD, NULL, .env = { "GFD_SLEEP_INTERVAL=60" },
          .error = "could not parse \"60\" from environment variable \"GFD_SLEEP_INTERVAL\" as "
                   "value for flag sleep-interval: time: missing unit in duration \"60\"" },
        { "19b", GFD, NULL, .env = { "GFD_SLEEP_INTERVAL=60s" },
          .wants = { "sleep=60000000000 " } },
        { "19c", GFD, NULL, .env = { "GFD_SLEEP_INTERVAL=infinite" },
          .wants = { "sleep=9223372036854775807 " } },
        { "19d", GFD, "flags: {gfd: {sleepInterval: 60}}", .wants = { "sleep=60 " } },
        { "20", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=yes" },
          .error = "could not parse \"yes\" as bool value from environment variable "
                   "\"FAIL_ON_INIT_ERROR\" for flag fail-on-init-error: strconv.ParseBool: parsing "
                   "\"yes\": invalid syntax" },
    };

    CHECK(cases);
}

/* ---- options, §2.1 – §2.3 ---- */

static void defaults_are_upstreams(void **state)
{
    static const struct load_case cases[] = {
        { "all", PLUGIN, NULL,
          .wants = { " mig=none/none fail=1 driver=/ dev=/ ctr=/driver-root gdrcopy=0 gds=0 "
                     "mofed=0 mps= discovery=auto specs=0 list=1 id=0 prefix=cdi.k8s.io/ "
                     "hook=/usr/bin/nvidia-ctk policy=0 imex=0/0 features= hooks= "
                     "socket=/var/lib/kubelet/device-plugins/kubelet.sock file= sharing=none "
                     "default-rename=0 one-only=0 per-device=0 nfd=1 oneshot=0 no-time=0 "
                     "sleep=60000000000 out=/etc/kubernetes/node-feature-discovery/features.d/gfd "
                     "machine=/sys/class/dmi/id/product_name kube= ns=default node= pod= qps=5 "
                     "burst=10 " } },
        { "discovery", GFD, NULL, .wants = { "mig=none/none fail=1", "nfd=1" } },
        { "mps", MPS, NULL, .wants = { "mig=none/none" } },
    };

    CHECK(cases);
}

/* Each option once through each door that it has. */
static void every_option_has_its_flag_variable_and_key(void **state)
{
    static const struct {
        const char *flag, *value, *variable, *key, *want;
        enum program program;
    } rows[] = {
        { "mig-strategy", "single", "MIG_STRATEGY", "flags.migStrategy", "mig=single/", PLUGIN },
        { "mig-strategy", "single", "GFD_MIG_STRATEGY", "flags.migStrategy", "mig=single/", GFD },
        { "mig-strategy", "single", "MIG_STRATEGY", "flags.migStrategy", "mig=single/", MPS },
        { "fail-on-init-error", "false", "FAIL_ON_INIT_ERROR", "flags.failOnInitError", "fail=0",
          PLUGIN },
        { "fail-on-init-error", "false", "GFD_FAIL_ON_INIT_ERROR", "flags.failOnInitError",
          "fail=0", GFD },
        { "driver-root", "/run/x", "NVIDIA_DRIVER_ROOT", "flags.nvidiaDriverRoot",
          "driver=/run/x dev=/run/x", PLUGIN },
        { "nvidia-driver-root", "/run/x", NULL, NULL, "driver=/run/x", PLUGIN },
        { "dev-root", "/run/d", "NVIDIA_DEV_ROOT", "flags.nvidiaDevRoot", "driver=/ dev=/run/d",
          PLUGIN },
        { "nvidia-dev-root", "/run/d", NULL, NULL, "dev=/run/d", PLUGIN },
        { "gdrcopy-enabled", "true", "GDRCOPY_ENABLED", "flags.gdrcopyEnabled", "gdrcopy=1",
          PLUGIN },
        { "gds-enabled", "true", "GDS_ENABLED", "flags.gdsEnabled", "gds=1", PLUGIN },
        { "mofed-enabled", "true", "MOFED_ENABLED", "flags.mofedEnabled", "mofed=1", PLUGIN },
        { "mps-root", "/m", "MPS_ROOT", "flags.mpsRoot", "mps=/m", PLUGIN },
        { "device-discovery-strategy", "tegra", "DEVICE_DISCOVERY_STRATEGY",
          "flags.deviceDiscoveryStrategy", "discovery=tegra", PLUGIN },
        { "device-discovery-strategy", "vfio", "DEVICE_DISCOVERY_STRATEGY",
          "flags.deviceDiscoveryStrategy", "discovery=vfio", GFD },
        { "pass-device-specs", "true", "PASS_DEVICE_SPECS", "flags.plugin.passDeviceSpecs",
          "specs=1", PLUGIN },
        { "device-list-strategy", "volume-mounts", "DEVICE_LIST_STRATEGY",
          "flags.plugin.deviceListStrategy", "list=2", PLUGIN },
        { "device-id-strategy", "index", "DEVICE_ID_STRATEGY", "flags.plugin.deviceIDStrategy",
          "id=1", PLUGIN },
        { "cdi-annotation-prefix", "x/", "CDI_ANNOTATION_PREFIX",
          "flags.plugin.cdiAnnotationPrefix", "prefix=x/", PLUGIN },
        { "nvidia-cdi-hook-path", "/h", "NVIDIA_CDI_HOOK_PATH", "flags.plugin.nvidiaCTKPath",
          "hook=/h", PLUGIN },
        { "nvidia-ctk-path", "/h", "NVIDIA_CTK_PATH", NULL, "hook=/h", PLUGIN },
        { "driver-root-ctr-path", "/c", "DRIVER_ROOT_CTR_PATH", "flags.plugin.containerDriverRoot",
          "ctr=/c", PLUGIN },
        { "container-driver-root", "/c", "CONTAINER_DRIVER_ROOT", NULL, "ctr=/c", GFD },
        { "shared-devices-allocation-policy", "packed", "SHARED_DEVICES_ALLOCATION_POLICY",
          "flags.plugin.sharedDevicesAllocationPolicy", "policy=1", PLUGIN },
        { "imex-channel-ids", "0", "IMEX_CHANNEL_IDS", NULL, "imex=1/0", PLUGIN },
        { "imex-required", "true", "IMEX_REQUIRED", "imex.required", "imex=0/1", PLUGIN },
        { "kubelet-socket", "/k", "KUBELET_SOCKET", NULL, "socket=/k", PLUGIN },
        { "config-file", "/f", "CONFIG_FILE", NULL, "file=/f", PLUGIN },
        { "config-file", "/f", "GFD_CONFIG_FILE", NULL, "file=/f", GFD },
        { "config-file", "/f", "CONFIG_FILE", NULL, "file=/f", MPS },
        { "cdi-feature-flags", "a,b", "CDI_FEATURE_FLAGS", NULL, "features=a,b", PLUGIN },
        { "cdi-disable-hooks", "all", "CDI_DISABLE_HOOKS", NULL, "hooks=all", PLUGIN },
        { "use-node-feature-api", "false", "GFD_USE_NODE_FEATURE_API", "flags.useNodeFeatureAPI",
          "nfd=0", GFD },
        { "use-node-feature-api", "false", "USE_NODE_FEATURE_API", NULL, "nfd=0", GFD },
        { "oneshot", "true", "GFD_ONESHOT", "flags.gfd.oneshot", "oneshot=1", GFD },
        { "no-timestamp", "true", "GFD_NO_TIMESTAMP", "flags.gfd.noTimestamp", "no-time=1", GFD },
        { "sleep-interval", "1m30s", "GFD_SLEEP_INTERVAL", "flags.gfd.sleepInterval",
          "sleep=90000000000", GFD },
        { "output-file", "/o", "GFD_OUTPUT_FILE", "flags.gfd.outputFile", "out=/o", GFD },
        { "output", "/o", NULL, NULL, "out=/o", GFD },
        { "o", "/o", NULL, NULL, "out=/o", GFD },
        { "machine-type-file", "/m", "GFD_MACHINE_TYPE_FILE", "flags.gfd.machineTypeFile",
          "machine=/m", GFD },
        { "kubeconfig", "/k", "KUBECONFIG", NULL, "kube=/k", GFD },
        { "kube-api-qps", "2.5", "KUBE_API_QPS", NULL, "qps=2.5", GFD },
        { "kube-api-burst", "7", "KUBE_API_BURST", NULL, "burst=7", GFD },
        { "namespace", "n", "NAMESPACE", NULL, "ns=n ", GFD },
        { "node-name", "n", "NODE_NAME", NULL, "node=n ", GFD },
        { "pod-name", "n", "POD_NAME", NULL, "pod=n ", GFD },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char flag[128], variable[128] = "", file[128] = "", tail[8] = "", *at = file;
        struct load_case c = { .word = rows[i].flag, .program = rows[i].program };
        c.wants[0] = rows[i].want;

        snprintf(flag, sizeof(flag), "--%s=%s", rows[i].flag, rows[i].value);
        c.argv[0] = flag;
        check_case(&c);
        c.argv[0] = NULL;
        if (rows[i].variable) {
            snprintf(variable, sizeof(variable), "%s=%s", rows[i].variable, rows[i].value);
            c.env[0] = variable;
            check_case(&c);
            c.env[0] = NULL;
        }
        if (!rows[i].key)
            continue;
        struct span rest = span_of(rows[i].key), part;
        for (bool more = true; span_split(&rest, '.', &more, &part);) {
            at +=
                snprintf(at, (size_t)(file + sizeof(file) - at), "{" SPAN_FMT ": ", SPAN_ARG(part));
            strcat(tail, "}");
        }
        snprintf(at, (size_t)(file + sizeof(file) - at), "%s%s", rows[i].value, tail);
        c.file = file;
        check_case(&c);
    }
}

static void precedence_is_flag_environment_file_default(void **state)
{
    static const struct load_case cases[] = {
        { "env over file", PLUGIN, IN_PLUGIN("passDeviceSpecs: true"),
          .env = { "PASS_DEVICE_SPECS=false" }, .wants = { "specs=0" } },
        { "flag over env", PLUGIN, NULL, .env = { "PASS_DEVICE_SPECS=false" },
          .argv = { "--pass-device-specs" }, .wants = { "specs=1" } },
        { "first variable present wins", PLUGIN, NULL,
          .env = { "NVIDIA_CTK_PATH=/b", "NVIDIA_CDI_HOOK_PATH=/a" }, .wants = { "hook=/a " } },
        { "first variable present, empty", PLUGIN, NULL,
          .env = { "NVIDIA_CTK_PATH=/b", "NVIDIA_CDI_HOOK_PATH=" }, .wants = { "hook= " } },
        { "discovery's own variable first", GFD, NULL,
          .env = { "MIG_STRATEGY=mixed", "GFD_MIG_STRATEGY=single" }, .wants = { "mig=single" } },
        { "the plugin does not see it", PLUGIN, NULL, .env = { "GFD_MIG_STRATEGY=single" },
          .wants = { "mig=none" } },
        { "flag list replaces env list", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=cdi-cri" },
          .argv = { "--device-list-strategy=envvar" }, .wants = { " list=1 " } },
        { "a bad file value is an error all the same", PLUGIN, "flags: {failOnInitError: 3}",
          .argv = { "--fail-on-init-error=true" },
          .error = "json: cannot unmarshal number into Go struct field" },
        { "file values of others are kept", MPS, "flags: {mpsRoot: /m}", .wants = { "mps=/m " } },
        { "a variable that begins alike", PLUGIN, NULL, .env = { "MPS_ROOT_X=/a", "MPS_ROO=/b" },
          .wants = { "mps= " } },
    };

    CHECK(cases);
}

static void empty_values_mean_what_their_type_says(void **state)
{
    static const struct load_case cases[] = {
        { "string", PLUGIN, NULL, .env = { "MIG_STRATEGY=" },
          .error = "unable to validate flags: unknown MIG strategy: " },
        { "string over file", PLUGIN, "flags: {nvidiaDriverRoot: /x}",
          .env = { "NVIDIA_DRIVER_ROOT=" }, .wants = { "driver= " } },
        { "bool is false", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=" }, .wants = { "fail=0" } },
        { "duration is ignored", GFD, "flags: {gfd: {sleepInterval: 5s}}",
          .env = { "GFD_SLEEP_INTERVAL=" }, .wants = { "sleep=5000000000 " } },
        { "int is ignored", GFD, NULL, .env = { "KUBE_API_BURST=", "KUBE_API_QPS=" },
          .wants = { "qps=5 burst=10" } },
        { "int list is ignored", PLUGIN, "imex: {channelIDs: [0]}", .env = { "IMEX_CHANNEL_IDS=" },
          .wants = { "imex=1" } },
        { "string list has one empty element", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=" },
          .error = "invalid --device-list-strategy option: invalid strategy: " },
        { "string list ends in a comma", PLUGIN, NULL, .env = { "DEVICE_LIST_STRATEGY=envvar," },
          .error = "invalid strategy: " },
        { "int list ends in a comma", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=0," },
          .error = "could not parse \"0,\" as int slice value from environment variable "
                   "\"IMEX_CHANNEL_IDS\" for flag imex-channel-ids: strconv.ParseInt: parsing "
                   "\"\": invalid syntax" },
        { "int list in a flag", PLUGIN, NULL, .argv = { "--imex-channel-ids=" },
          .error = "invalid value \"\" for flag -imex-channel-ids: strconv.ParseInt: parsing "
                   "\"\": invalid syntax" },
        { "socket", PLUGIN, NULL, .argv = { "--kubelet-socket=" }, .wants = { "socket= " } },
        { "dev root in the file", PLUGIN, "flags: {nvidiaDevRoot: '', nvidiaDriverRoot: /x}",
          .wants = { "dev=/x " } },
    };

    CHECK(cases);
}

static void scalars_and_lists_parse_as_in_go(void **state)
{
    static const struct load_case cases[] = {
        { "t", PLUGIN, NULL, .env = { "GDS_ENABLED=t" }, .wants = { "gds=1" } },
        { "T", PLUGIN, NULL, .env = { "GDS_ENABLED=T" }, .wants = { "gds=1" } },
        { "1", PLUGIN, NULL, .env = { "GDS_ENABLED=1" }, .wants = { "gds=1" } },
        { "True", PLUGIN, NULL, .env = { "GDS_ENABLED=True" }, .wants = { "gds=1" } },
        { "TRUE", PLUGIN, NULL, .env = { "GDS_ENABLED=TRUE" }, .wants = { "gds=1" } },
        { "F", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=F" }, .wants = { "fail=0" } },
        { "False", PLUGIN, NULL, .env = { "FAIL_ON_INIT_ERROR=False" }, .wants = { "fail=0" } },
        { "tRUE", PLUGIN, NULL, .env = { "GDS_ENABLED=tRUE" },
          .error = "could not parse \"tRUE\" as bool value" },
        { "blank", PLUGIN, NULL, .env = { "GDS_ENABLED= true" },
          .error = "could not parse \" true\" as bool value" },
        { "hex", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=0x0" }, .wants = { "imex=1" } },
        { "two", PLUGIN, NULL, .env = { "IMEX_CHANNEL_IDS=0, 010" },
          .error = "channelIDs must be [] or [0]; found [0 8]" },
        { "int", GFD, NULL, .env = { "KUBE_API_BURST=x" },
          .error = "could not parse \"x\" as int value from environment variable "
                   "\"KUBE_API_BURST\" for flag kube-api-burst: strconv.ParseInt: parsing \"x\": "
                   "invalid syntax" },
        { "int range", GFD, NULL, .env = { "KUBE_API_BURST=9223372036854775808" },
          .error = "value out of range" },
        { "float", GFD, NULL, .env = { "KUBE_API_QPS=1.5x" },
          .error = "could not parse \"1.5x\" as float64 value" },
        { "elements are trimmed", PLUGIN, NULL,
          .env = { "DEVICE_LIST_STRATEGY= envvar , cdi-cri " }, .wants = { " list=9 " } },
        { "quoted as in Go", PLUGIN, NULL, .env = { "GDS_ENABLED=a\"\n\x01\xc3\xa9\xff" },
          .error = "could not parse \"a\\\"\\n\\x01\xc3\xa9\\xff\" as bool value" },
    };

    CHECK(cases);
}

static void flags_parse_as_in_go(void **state)
{
    static const struct load_case cases[] = {
        { "one dash", PLUGIN, NULL, .argv = { "-mig-strategy", "mixed" },
          .wants = { "mig=mixed" } },
        { "two dashes", PLUGIN, NULL, .argv = { "--mig-strategy", "mixed" },
          .wants = { "mig=mixed" } },
        { "last one wins", PLUGIN, NULL,
          .argv = { "--mig-strategy=mixed", "--mig-strategy=single" }, .wants = { "mig=single" } },
        { "lists add up", PLUGIN, NULL,
          .argv = { "--device-list-strategy=envvar", "--device-list-strategy", "cdi-cri,cdi-cri",
                    "--cdi-feature-flags=a", "--cdi-feature-flags=b" },
          .wants = { " list=9 ", "features=a,b " } },
        { "a switch takes no word", PLUGIN, NULL, .argv = { "--pass-device-specs", "false" },
          .wants = { "specs=1" } },
        { "a word ends the flags", PLUGIN, NULL,
          .argv = { "--gds-enabled", "word", "--mig-strategy=mixed" },
          .wants = { "gds=1", "mig=none" } },
        { "two dashes end the flags", PLUGIN, NULL, .argv = { "--", "--nonsense" },
          .wants = { "mig=none" } },
        { "a lone dash ends the flags", PLUGIN, NULL, .argv = { "-", "--nonsense" },
          .wants = { "mig=none" } },
        { "a value may look like a flag", PLUGIN, NULL, .argv = { "--mps-root", "--x" },
          .wants = { "mps=--x " } },
        { "a value may hold =", PLUGIN, NULL, .argv = { "--mps-root=a=b" },
          .wants = { "mps=a=b " } },
        { "unknown", PLUGIN, NULL, .argv = { "--nonsense=3" },
          .error = "flag provided but not defined: -nonsense" },
        { "another program's", PLUGIN, NULL, .argv = { "--oneshot" },
          .error = "flag provided but not defined: -oneshot" },
        { "the plugin's in the MPS daemon", MPS, NULL, .argv = { "--mps-root=/m" },
          .error = "flag provided but not defined: -mps-root" },
        { "no value", PLUGIN, NULL, .argv = { "--mig-strategy" },
          .error = "flag needs an argument: -mig-strategy" },
        { "bad switch", PLUGIN, NULL, .argv = { "--gds-enabled=maybe" },
          .error = "invalid boolean value \"maybe\" for -gds-enabled: parse error" },
        { "bad duration", GFD, NULL, .argv = { "--sleep-interval=60" },
          .error = "invalid value \"60\" for flag -sleep-interval: time: missing unit in duration "
                   "\"60\"" },
        { "bad int", GFD, NULL, .argv = { "--kube-api-burst=x" },
          .error = "invalid value \"x\" for flag -kube-api-burst: parse error" },
        { "three dashes", PLUGIN, NULL, .argv = { "---x" }, .error = "bad flag syntax: ---x" },
        { "no name", PLUGIN, NULL, .argv = { "--=x" }, .error = "bad flag syntax: --=x" },
        { "two forms", PLUGIN, NULL, .argv = { "--nvidia-driver-root=/a", "--driver-root=/b" },
          .error = "Cannot use two forms of the same flag: nvidia-driver-root driver-root" },
        { "variables are looked at first", PLUGIN, NULL, .env = { "GDS_ENABLED=x" },
          .argv = { "--nonsense" }, .error = "could not parse \"x\"" },
    };

    CHECK(cases);
}

static void options_alone_say_the_file_and_the_request(void **state)
{
    static const struct {
        const char *argv[3], *env[2];
        enum program program;
        enum config_request request;
        const char *file;
    } cases[] = {
        { {}, {}, PLUGIN, CONFIG_RUN, "" },
        { { "--config-file=/a" }, { "CONFIG_FILE=/b" }, PLUGIN, CONFIG_RUN, "/a" },
        { {}, { "CONFIG_FILE=/b" }, PLUGIN, CONFIG_RUN, "/b" },
        { {}, { "GFD_CONFIG_FILE=/b" }, GFD, CONFIG_RUN, "/b" },
        { { "--help" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "-h" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "help" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "--version" }, {}, PLUGIN, CONFIG_SHOW_VERSION, "" },
        { { "-v" }, {}, MPS, CONFIG_SHOW_VERSION, "" },
        { { "--version", "--help" }, {}, PLUGIN, CONFIG_SHOW_HELP, "" },
        { { "--help=false" }, {}, PLUGIN, CONFIG_RUN, "" },
        { { "word", "--help" }, {}, PLUGIN, CONFIG_RUN, "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct config_input input = { .program = cases[i].program,
                                      .argc = count_of(cases[i].argv, 3),
                                      .argv = cases[i].argv,
                                      .environ = cases[i].env };
        enum config_request request;
        const char *file;
        assert_int_equal(config_options(&input, &arena, &file, &request, NULL), 0);
        assert_int_equal(request, cases[i].request);
        assert_string_equal(file, cases[i].file);
    }
}

static void help_names_every_flag_with_its_variables(void **state)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));

    assert_int_equal(config_help(PROGRAM_FEATURE_DISCOVERY, "gpu-feature-discovery", &out), 0);
    assert_non_null(strstr(buf_text(&out), "gpu-feature-discovery - "));
    assert_non_null(strstr(buf_text(&out), "--output-file, --output, -o value\n"));
    assert_non_null(strstr(buf_text(&out), "(default: none) [$GFD_MIG_STRATEGY] [$MIG_STRATEGY]"));
    assert_null(strstr(buf_text(&out), "--pass-device-specs"));
}

/* ---- the file, §2.4 ---- */

static void words_are_those_of_yaml_1_1(void **state)
{
    static const struct load_case cases[] = {
        { "yes", PLUGIN, IN_PLUGIN("passDeviceSpecs: yes"), .wants = { "specs=1" } },
        { "On", PLUGIN, IN_PLUGIN("passDeviceSpecs: On"), .wants = { "specs=1" } },
        { "n", PLUGIN, "flags: {failOnInitError: n}", .wants = { "fail=0" } },
        { "OFF", PLUGIN, "flags: {failOnInitError: OFF}", .wants = { "fail=0" } },
        { "010", PLUGIN, TIME_SLICING("{name: gpu, replicas: 010}"),
          .wants = { " x8 ", "`010` is read as 8" } },
        { "0o10", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0o10}"), .wants = { " x8 " } },
        { "0x3", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0x3}"), .wants = { " x3 " } },
        { "0b11", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0b11}"), .wants = { " x3 " } },
        { "1_0", PLUGIN, TIME_SLICING("{name: gpu, replicas: 1_0}"), .wants = { " x10 " } },
        { "1e1", PLUGIN, TIME_SLICING("{name: gpu, replicas: 1e1}"), .wants = { " x10 " } },
        { "2.0", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2.0}"), .wants = { " x2 " } },
        { "2.5", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2.5}"),
          .error =
              DECODE_PREFIX "config.yaml:1:59: json: cannot unmarshal number 2.5 into Go value "
                            "of type int" },
        { "1:30", PLUGIN, TIME_SLICING("{name: gpu, replicas: 1:30}"),
          .error = "json: cannot unmarshal string into Go value of type int" },
        { "quoted", PLUGIN, TIME_SLICING("{name: gpu, replicas: '4'}"),
          .error = "json: cannot unmarshal string into Go value of type int" },
        { "quoted bool", PLUGIN, IN_PLUGIN("passDeviceSpecs: 'true'"),
          .error = "json: cannot unmarshal string into Go struct field PluginCommandLineFlags." },
        { "a number as a string", PLUGIN, "flags: {migStrategy: 5}",
          .error = "json: cannot unmarshal number into Go struct field "
                   "Flags.flags.CommandLineFlags.migStrategy of type string" },
        { "unknown keys", PLUGIN, "{foo: 1, 3: 4, true: x, flags: {bar: {}}, sharing: {baz: 1}}",
          .wants = { "mig=none", "unknown key `foo`, ignored" } },
        { "a list as a key", PLUGIN, "{[a]: 1}",
          .error =
              FILE_PREFIX "unmarshal error: error converting YAML to JSON: yaml: config.yaml:" },
        { "a version without quotes", PLUGIN, "version: 1", .error = "unknown version: 1" },
        { "a version of YAML 1.1", PLUGIN, "version: yes", .error = "unknown version: true" },
    };

    CHECK(cases);
}

static void documents_are_read_as_upstream_does(void **state)
{
    static const struct load_case cases[] = {
        { "comments only", PLUGIN, "# nothing\n", .wants = { "mig=none" } },
        { "null", PLUGIN, "null", .wants = { "mig=none" } },
        { "first document only", PLUGIN, "---\n---\nflags: {migStrategy: mixed}\n",
          .wants = { "mig=none" } },
        { "what follows is not even looked at", PLUGIN, "flags: {migStrategy: mixed}\n---\n\tx: [",
          .wants = { "mig=mixed" } },
        { "json", PLUGIN, "{\"flags\": {\"migStrategy\": \"single\"}}", .wants = { "mig=single" } },
        { "anchors and merges", PLUGIN,
          "flags: {plugin: &p {passDeviceSpecs: true}}\nx: &m {migStrategy: mixed}\n"
          "sharing: {timeSlicing: {resources: [&r {name: gpu, replicas: 3}]}}\n",
          .wants = { "specs=1", " x3 " } },
        { "merge key", PLUGIN, "x: &m {migStrategy: mixed}\nflags: {<<: *m}\n",
          .wants = { "mig=mixed" } },
        { "explicit tag", PLUGIN, TIME_SLICING("{name: gpu, replicas: !!int '4'}"),
          .wants = { " x4 " } },
        { "CRLF and BOM", PLUGIN,
          "\xef\xbb\xbf"
          "flags:\r\n  migStrategy: mixed\r\n",
          .wants = { "mig=mixed" } },
        { "duplicate keys", PLUGIN, "flags: {migStrategy: mixed, migStrategy: single}",
          .wants = { "mig=single",
                     "warning 1:9 key `migStrategy` is said again in line 1, and only that one "
                     "counts" } },
        { "tab", PLUGIN, "flags:\n\tmigStrategy: mixed\n",
          .error = "error converting YAML to JSON: yaml: config.yaml:2:" },
        { "control character", PLUGIN, "# \x01\n",
          .error = "error converting YAML to JSON: yaml: " },
        { "invalid UTF-8", PLUGIN, "# \xff\n", .error = "error converting YAML to JSON: yaml: " },
        { "top level list", PLUGIN, "- a",
          .error = "json: cannot unmarshal array into Go value of type v1.Config" },
        { "top level word", PLUGIN, "foo",
          .error = "json: cannot unmarshal string into Go value of type v1.Config" },
        { "a section that is none", PLUGIN, "flags: 3",
          .error =
              "json: cannot unmarshal number into Go struct field Config.flags of type v1.Flags" },
        { "a NUL inside", PLUGIN, "flags: {mpsRoot: \"/a\\0b\"}",
          .error = "a NUL inside a string" },
        { "a NUL in a name", PLUGIN, TIME_SLICING("{name: \"gpu\\0x\", replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/gpu" },
    };

    CHECK(cases);
}

static void keys_of_structs_match_in_any_case_and_inside_sharing_exactly(void **state)
{
    static const struct load_case cases[] = {
        { "any case", PLUGIN, "FLAGS: {MIGstrategy: mixed, Plugin: {PASSDEVICESPECS: true}}",
          .wants = { "mig=mixed", "specs=1" } },
        { "two cases, canonical first", PLUGIN, "flags: {migStrategy: mixed, MIGSTRATEGY: single}",
          .wants = { "mig=mixed", "warning 1:29 `migStrategy` in line 1 is the same key" } },
        { "two cases, canonical last", PLUGIN, "flags: {MIGSTRATEGY: single, migStrategy: mixed}",
          .wants = { "mig=mixed" } },
        { "sharing itself", PLUGIN,
          "Sharing: {TimeSlicing: {resources: [{name: gpu, replicas: 2}]}}",
          .wants = { " [nvidia.com/gpu x2 " } },
        { "Resources", PLUGIN, "sharing: {timeSlicing: {Resources: [{name: gpu, replicas: 2}]}}",
          .error = "no resources specified" },
        { "Name", PLUGIN, TIME_SLICING("{Name: gpu, replicas: 2}"),
          .error = "no resource name specified" },
        { "Replicas", PLUGIN, TIME_SLICING("{name: gpu, Replicas: 2}"),
          .error = "no replicas specified" },
        { "RenameByDefault", PLUGIN,
          "sharing: {timeSlicing: {RenameByDefault: true, resources: [{name: gpu, replicas: 2}]}}",
          .wants = { "default-rename=0" } },
        { "Pattern", PLUGIN, "resources: {GPUS: [{Pattern: '*', name: gpu}]}",
          .error = "resources must have a 'pattern' field set" },
    };

    CHECK(cases);
}

static void null_is_absent_except_inside_an_item(void **state)
{
    static const struct load_case cases[] = {
        { "everything", PLUGIN, "{version: , flags: , sharing: , resources: , imex: }",
          .wants = { "mig=none", "sharing=none" } },
        { "flags", PLUGIN, "flags: {migStrategy: ~, plugin: ~, gfd: ~}", .wants = { "mig=none" } },
        { "list strategy", PLUGIN, IN_PLUGIN("deviceListStrategy: null"), .wants = { " list=1 " } },
        { "fail in mps", PLUGIN,
          "sharing: {mps: {failRequestsGreaterThanOne: , resources: [{name: gpu, replicas: 2}]}}",
          .argv = { "--mps-root=/m" }, .wants = { "one-only=1" } },
        { "mps", PLUGIN, "sharing: {mps: }", .wants = { "sharing=none" } },
        { "timeSlicing", PLUGIN, "sharing: {timeSlicing: }", .error = "no resources specified" },
        { "empty timeSlicing", PLUGIN, "sharing: {timeSlicing: {}}",
          .error = "no resources specified" },
        { "empty mps", PLUGIN, "sharing: {mps: {}}", .error = "no resources specified" },
        { "resources", PLUGIN, "sharing: {timeSlicing: {resources: }}",
          .error = "no resources specified" },
        { "an item", PLUGIN, TIME_SLICING("null"), .error = "no resource name specified" },
        { "name", PLUGIN, TIME_SLICING("{name: , replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/'" },
        { "rename", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, rename: }"),
          .error = "incorrect format for resource name 'nvidia.com/'" },
        { "replicas", PLUGIN, TIME_SLICING("{name: gpu, replicas: }"),
          .error = "number of replicas must be >= 2" },
        { "devices", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: }"),
          .error = "devices set as '' but the only valid string input is 'all'" },
    };

    CHECK(cases);
}

static void list_strategy_is_a_word_or_a_list(void **state)
{
    static const struct load_case cases[] = {
        { "word", PLUGIN, IN_PLUGIN("deviceListStrategy: cdi-cri"), .wants = { " list=8 " } },
        { "list", PLUGIN, IN_PLUGIN("deviceListStrategy: [cdi-annotations, cdi-cri]"),
          .wants = { " list=12 " } },
        { "number", PLUGIN, IN_PLUGIN("deviceListStrategy: 5"),
          .error = "invalid deviceListStrategy: 5" },
        { "map", PLUGIN, IN_PLUGIN("deviceListStrategy: {b: 1, a: [x]}"),
          .error = "invalid deviceListStrategy: {\"a\":[\"x\"],\"b\":1}" },
        { "mixed list", PLUGIN, IN_PLUGIN("deviceListStrategy: [envvar, 1.0]"),
          .error = "invalid deviceListStrategy: [\"envvar\",1]" },
        { "empty list", PLUGIN, IN_PLUGIN("deviceListStrategy: []"),
          .error = "invalid --device-list-strategy option: no device list strategy specified" },
        { "a null element", PLUGIN, IN_PLUGIN("deviceListStrategy: [~]"),
          .error = "invalid --device-list-strategy option: invalid strategy: " },
    };

    CHECK(cases);
}

static void durations_are_gos_or_nanoseconds(void **state)
{
    static const struct load_case cases[] = {
        { "text", GFD, "flags: {gfd: {sleepInterval: 1h}}", .wants = { "sleep=3600000000000 " } },
        { "infinite", GFD, "flags: {gfd: {sleepInterval: infinite}}",
          .wants = { "sleep=9223372036854775807 " } },
        { "number", GFD, "flags: {gfd: {sleepInterval: 1.5e9}}", .wants = { "sleep=1500000000 " } },
        { "quoted number", GFD, "flags: {gfd: {sleepInterval: '60'}}",
          .error = "time: missing unit in duration \"60\"" },
        { "list", GFD, "flags: {gfd: {sleepInterval: [60s]}}", .error = "invalid duration" },
        { "null", GFD, "flags: {gfd: {sleepInterval: ~}}", .wants = { "sleep=60000000000 " } },
    };

    CHECK(cases);
}

static void imex_channels_are_none_or_zero(void **state)
{
    static const struct load_case cases[] = {
        { "none", PLUGIN, "imex: {channelIDs: []}", .wants = { "imex=0/0" } },
        { "zero", PLUGIN, "imex: {channelIDs: [0], required: true}", .wants = { "imex=1/1" } },
        { "two", PLUGIN, "imex: {channelIDs: [0, 1]}",
          .error = "unable to validate flags: config.yaml:1:20: invalid IMEX channel IDs: invalid "
                   "IMEX config: channelIDs must be [] or [0]; found [0 1]" },
        { "word", PLUGIN, "imex: {channelIDs: 0}",
          .error =
              "json: cannot unmarshal number into Go struct field Imex.imex.channelIDs of type "
              "[]int" },
        { "text", PLUGIN, "imex: {channelIDs: [a]}",
          .error =
              "json: cannot unmarshal string into Go struct field Imex.imex.channelIDs of type "
              "int" },
        { "discovery does not mind", GFD, "imex: {channelIDs: [1]}", .wants = { "mig=none" } },
    };

    CHECK(cases);
}

/* ---- the error table of §2.4 ---- */

static void each_mistake_has_upstreams_sentence_and_its_place(void **state)
{
    static const struct load_case cases[] = {
        { "no name", PLUGIN, "sharing:\n  timeSlicing:\n    resources:\n    - replicas: 2\n",
          .error = DECODE_PREFIX "config.yaml:4:7: no resource name specified" },
        { "no replicas", PLUGIN, "sharing:\n  timeSlicing:\n    resources:\n    - name: gpu\n",
          .error = DECODE_PREFIX "config.yaml:4:7: no replicas specified" },
        { "no resources", PLUGIN, "sharing:\n  timeSlicing: {}\n",
          .error = DECODE_PREFIX "config.yaml:2:16: no resources specified" },
        { "timeSlicing left out", PLUGIN, "sharing:\n  timeSlicing:\n",
          .error = DECODE_PREFIX "config.yaml:2:" },
        { "replicas 0", PLUGIN, TIME_SLICING("{name: gpu, replicas: 0}"),
          .error = "config.yaml:1:59: number of replicas must be >= 2" },
        { "replicas -3", PLUGIN, TIME_SLICING("{name: gpu, replicas: -3}"),
          .error = "number of replicas must be >= 2" },
        { "replicas 65537", PLUGIN, TIME_SLICING("{name: gpu, replicas: 65537}"),
          .error = "number of replicas must be <= 65536" },
        { "devices 0", PLUGIN, TIME_SLICING("{name: gpu, devices: 0, replicas: 2}"),
          .error = "devices set as '0' but a count of devices must be > 0" },
        { "devices true", PLUGIN, TIME_SLICING("{name: gpu, devices: true, replicas: 2}"),
          .error = "unrecognized type for devices spec: true" },
        { "devices 1.5", PLUGIN, TIME_SLICING("{name: gpu, devices: 1.5, replicas: 2}"),
          .error = "unrecognized type for devices spec: 1.5" },
        { "devices map", PLUGIN, TIME_SLICING("{name: gpu, devices: {a: b}, replicas: 2}"),
          .error = "unrecognized type for devices spec: {\"a\":\"b\"}" },
        { "element -1", PLUGIN, TIME_SLICING("{name: gpu, devices: [-1], replicas: 2}"),
          .error = "unsupported type for device in devices list: , string" },
        { "element 1.5", PLUGIN, TIME_SLICING("{name: gpu, devices: [1.5], replicas: 2}"),
          .error = "unsupported type for device in devices list: , string" },
        { "element GPU-x", PLUGIN, TIME_SLICING("{name: gpu, devices: [GPU-x], replicas: 2}"),
          .error = "unsupported type for device in devices list: GPU-x, string" },
        { "64 bytes", PLUGIN,
          TIME_SLICING(
              "{name: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyza, replicas: 2}"),
          .error = "fully-qualified resource name must be 63 characters or less: nvidia.com/abc" },
        { "63 bytes", PLUGIN,
          TIME_SLICING("{name: abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz, replicas: 2}"),
          .wants = { " [nvidia.com/abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz x2 " } },
        { "another prefix", PLUGIN, TIME_SLICING("{name: foo.com/x, replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/foo.com/x': [a lowercase RFC "
                   "1123 subdomain must consist of" },
        { "upper case", PLUGIN, TIME_SLICING("{name: GPU, replicas: 2}"),
          .error = "incorrect format for resource name 'nvidia.com/GPU'" },
        { "a plus", PLUGIN, TIME_SLICING("{name: mig-1g.10gb+me, replicas: 2}"),
          .error = "a `+` in a profile is a `.` in its resource name" },
        { "a name that is a boolean", PLUGIN, TIME_SLICING("{name: y, replicas: 2}"),
          .error = "json: cannot unmarshal bool into Go value of type string; write it in quotes" },
        { "a name that is a number", PLUGIN, TIME_SLICING("{name: 5, replicas: 2}"),
          .error = "json: cannot unmarshal number into Go value of type string" },
        { "a bad rename", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, rename: A}"),
          .error = "incorrect format for resource name 'nvidia.com/A'" },
        { "resources is a word", PLUGIN, "sharing: {timeSlicing: {resources: abc}}",
          .error = "json: cannot unmarshal string into Go value of type []v1.ReplicatedResource" },
        { "an item is a word", PLUGIN, TIME_SLICING("abc"),
          .error =
              "json: cannot unmarshal string into Go value of type map[string]json.RawMessage" },
        { "timeSlicing is a word", PLUGIN, "sharing: {timeSlicing: abc}",
          .error =
              "json: cannot unmarshal string into Go value of type map[string]json.RawMessage" },
        { "renameByDefault is a word", PLUGIN,
          "sharing: {timeSlicing: {renameByDefault: maybe, resources: [{name: gpu, replicas: 2}]}}",
          .error = "json: cannot unmarshal string into Go value of type bool" },
        { "no pattern", PLUGIN, "resources: {gpus: [{name: gpu}]}",
          .error = "resources must have a 'pattern' field set" },
        { "no pattern name", PLUGIN, "resources: {mig: [{pattern: '*'}]}",
          .error = "resources must have a 'name' field set" },
        { "gpus is a word", PLUGIN, "resources: {gpus: x}",
          .error = "json: cannot unmarshal string into Go struct field Resources.resources.gpus of "
                   "type []v1.Resource" },
    };

    CHECK(cases);
}

static void the_first_sentence_is_the_one_that_upstream_gives(void **state)
{
    static const struct load_case cases[] = {
        { "keys in byte order, not in the file's", PLUGIN,
          "{sharing: {timeSlicing: {}}, resources: {gpus: [{name: gpu}]}}",
          .error = "resources must have a 'pattern' field set" },
        { "what stops the decoder before a wrong type", PLUGIN,
          "{flags: {failOnInitError: 3}, sharing: {timeSlicing: {}}}",
          .error = "no resources specified" },
        { "the version last", PLUGIN, "{version: v2, flags: {failOnInitError: 3}}",
          .error = "json: cannot unmarshal number" },
        { "name before devices before replicas", PLUGIN,
          TIME_SLICING("{replicas: 1, devices: some, name: A}"), .error = "incorrect format" },
        { "devices before replicas", PLUGIN, TIME_SLICING("{replicas: 1, devices: some, name: a}"),
          .error = "devices set as 'some'" },
        { "mps before timeSlicing", PLUGIN,
          "sharing: {timeSlicing: {}, mps: {resources: [{name: gpu, replicas: 1}]}}",
          .error = "number of replicas" },
        { "the file before validation", PLUGIN, "{version: v2, flags: {migStrategy: x}}",
          .error = "unknown version" },
    };

    CHECK(cases);
}

static void device_references_have_five_forms(void **state)
{
#define UUID "b1028956-cfa2-0990-bf4a-5da9abb51763"
    static const struct load_case cases[] = {
        { "all forms", PLUGIN,
          "sharing: {perDevice: true, timeSlicing: {resources: [{name: gpu, replicas: 2, devices: "
          "[0, '1', 2.0, '3:1', GPU-" UUID ", MIG-" UUID ", MIG-GPU-" UUID "/3/0]}]}}",
          .wants = { " on 0,1,2,3:1,GPU-" UUID ",MIG-" UUID ",MIG-GPU-" UUID "/3/0] " } },
        { "GPU without dashes", PLUGIN,
          TIME_SLICING("{name: gpu, replicas: 2, devices: [GPU-b1028956cfa20990bf4a5da9abb51763]}"),
          .wants = { " x2 " } },
        { "three parts", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: ['0:1:2']}"),
          .error = "unsupported type for device in devices list: 0:1:2, string" },
        { "one id", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: [MIG-GPU-" UUID "/3]}"),
          .error = "unsupported type for device" },
        { "short uuid", PLUGIN,
          TIME_SLICING(
              "{name: gpu, replicas: 2, devices: [GPU-b1028956-cfa2-0990-bf4a-5da9abb5176]}"),
          .error = "unsupported type for device" },
        { "bare uuid", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: [" UUID "]}"),
          .error = "unsupported type for device" },
        { "an empty list", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: []}"),
          .wants = { " on all] " } },
        { "an empty element", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2, devices: [~]}"),
          .wants = { "an empty element of a devices list means GPU 0" } },
    };

    CHECK(cases);
}

/* ---- §2.5, §2.6 ---- */

static void renames_and_devices_are_stripped_with_a_warning(void **state)
{
    static const struct load_case cases[] = {
        { "resources", PLUGIN, "resources: {gpus: [{pattern: '*', name: gpu}]}",
          .wants = { "warning 1:12 Customizing the 'resources' field is not yet supported in the "
                     "config. Ignoring..." } },
        { "a rename beside renameByDefault", PLUGIN,
          "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, rename: x, "
          "replicas: 2}]}}",
          .wants = { " as nvidia.com/gpu.shared on", "Setting the 'rename' field" } },
        { "for mps too", PLUGIN,
          "sharing: {mps: {resources: [{name: gpu, replicas: 2, rename: x, devices: 1}]}}",
          .argv = { "--mps-root=/m" },
          .wants = { " as - on all]", "Setting the 'rename' field in sharing.mps.resources is not",
                     "Customizing the 'devices' field in sharing.mps.resources is not" } },
        { "feature discovery too", GFD, TIME_SLICING("{name: gpu, replicas: 2, rename: x}"),
          .wants = { " as - on all]" } },
    };

    CHECK(cases);
}

static void the_usual_rename_is_no_reason_to_warn(void **state)
{
    static const struct load_case c = {
        .word = "usual",
        .file = "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, rename: "
                "gpu.shared, replicas: 2, devices: all}]}}",
    };
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));

    assert_int_equal(load(&c, &arena, &out, NULL), 0);
    assert_null(strstr(buf_text(&out), "warning"));
}

static void requests_above_one_fail_under_mps_unless_said_otherwise(void **state)
{
#define MPS_WITH(pair) "sharing: {mps: {" pair "resources: [{name: gpu, replicas: 2}]}}"
#define TS_WITH(pair)  "sharing: {timeSlicing: {" pair "resources: [{name: gpu, replicas: 2}]}}"
    static const struct load_case cases[] = {
        { "mps", GFD, MPS_WITH(""), .wants = { "one-only=1" } },
        { "mps false", GFD, MPS_WITH("failRequestsGreaterThanOne: false, "),
          .wants = { "one-only=0" } },
        { "timeSlicing", PLUGIN, TS_WITH(""), .wants = { "one-only=0" } },
        { "timeSlicing true", PLUGIN, TS_WITH("failRequestsGreaterThanOne: true, "),
          .wants = { "one-only=1" } },
    };

    CHECK(cases);
}

static void of_two_entries_for_a_resource_the_larger_counts(void **state)
{
    static const struct load_case cases[] = {
        { "larger last", PLUGIN, TIME_SLICING("{name: gpu, replicas: 2}, {name: gpu, replicas: 5}"),
          .wants = { "per-device=0 [nvidia.com/gpu x5 as - on all] nfd",
                     "nvidia.com/gpu is shared twice, in line 1 too; the larger number of replicas "
                     "counts, 5" } },
        { "larger first", PLUGIN,
          TIME_SLICING("{name: gpu, replicas: 5}, {name: nvidia.com/gpu, replicas: 2}"),
          .wants = { "per-device=0 [nvidia.com/gpu x5 as - on all] nfd", "shared twice" } },
        { "others stay", PLUGIN,
          TIME_SLICING("{name: a, replicas: 5}, {name: b, replicas: 3}, {name: a, replicas: 6}"),
          .wants = { " [nvidia.com/a x6 as - on all] [nvidia.com/b x3 as - on all] nfd" } },
    };

    CHECK(cases);
}

static void per_device_honours_devices_and_renames(void **state)
{
#define PER_DEVICE(items) "sharing: {perDevice: true, timeSlicing: {resources: [" items "]}}"
    static const struct load_case cases[] = {
        { "two entries", PLUGIN,
          PER_DEVICE(
              "{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 5, devices: [1, "
              "'2'], rename: big}"),
          .wants = { "per-device=1 [nvidia.com/gpu x2 as - on 0] [nvidia.com/gpu x5 as "
                     "nvidia.com/big on 1,2] nfd" } },
        { "a count", PLUGIN, PER_DEVICE("{name: gpu, replicas: 2, devices: 3}"),
          .wants = { " on count 3]" } },
        { "with mps", GFD,
          "sharing: {perDevice: yes, mps: {resources: [{name: gpu, replicas: 2, devices: [1]}]}}",
          .wants = { "sharing=mps", " on 1]" } },
        { "overlap", PLUGIN,
          PER_DEVICE(
              "{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 5, devices: [1, "
              "'0']}"),
          .error = "config.yaml:1:132: devices of nvidia.com/gpu are in the entry of line 1 too" },
        { "all beside a list", PLUGIN,
          PER_DEVICE("{name: gpu, replicas: 2}, {name: gpu, replicas: 5, devices: [1]}"),
          .error = "devices of nvidia.com/gpu are in the entry of line 1 too" },
        { "the same in one list", PLUGIN, PER_DEVICE("{name: gpu, replicas: 2, devices: [0, '0']}"),
          .wants = { "this device is in the list already" } },
        { "a MIG device is not its GPU", PLUGIN,
          PER_DEVICE("{name: gpu, replicas: 2, devices: [0]}, {name: gpu, replicas: 5, devices: "
                     "['0:0', '0:1']}"),
          .wants = { " on 0] ", " on 0:0,0:1]" } },
        { "with the usual rename", PLUGIN,
          "sharing: {perDevice: true, timeSlicing: {renameByDefault: true, resources: [{name: gpu, "
          "replicas: 2, rename: own, devices: [0]}, {name: gpu, replicas: 2, devices: [1]}]}}",
          .wants = { " as nvidia.com/own on 0]", " as nvidia.com/gpu.shared on 1]" } },
        { "quoted", PLUGIN, "sharing: {perDevice: 'true'}",
          .error = "json: cannot unmarshal string into Go value of type bool" },
        { "off", PLUGIN,
          "sharing: {perDevice: false, timeSlicing: {resources: [{name: gpu, replicas: 2, devices: "
          "[0]}]}}",
          .wants = { "per-device=0 [nvidia.com/gpu x2 as - on all]" } },
        { "nothing shared", PLUGIN, "sharing: {perDevice: true}",
          .wants = { "sharing.perDevice has no effect without timeSlicing or mps" } },
    };

    CHECK(cases);
}

/* ---- validation, §2.7 ---- */

static void values_are_validated_with_upstreams_sentences(void **state)
{
    static const struct load_case cases[] = {
        { "list", PLUGIN, NULL, .argv = { "--device-list-strategy=x" },
          .error = "unable to validate flags: invalid --device-list-strategy option: invalid "
                   "strategy: x; want envvar, volume-mounts, cdi-annotations or cdi-cri; the flag "
                   "--device-list-strategy says this" },
        { "cdi without nvml", PLUGIN, NULL, .argv = { "--device-list-strategy=cdi-cri" },
          .no_nvml = true,
          .error =
              "unable to validate flags: CDI --device-list-strategy options are only supported "
              "on NVML-based systems" },
        { "envvar without nvml", PLUGIN, NULL, .no_nvml = true, .wants = { "list=1" } },
        { "id", PLUGIN, IN_PLUGIN("deviceIDStrategy: x"),
          .error =
              "unable to validate flags: config.yaml:1:36: invalid --device-id-strategy option: "
              "x" },
        { "policy", PLUGIN, NULL, .env = { "SHARED_DEVICES_ALLOCATION_POLICY=x" },
          .error =
              "unable to validate flags: invalid --shared-devices-allocation-policy option: x; "
              "want distributed or packed; the variable SHARED_DEVICES_ALLOCATION_POLICY says "
              "this" },
        { "mixed", PLUGIN, MPS_WITH(""), .argv = { "--mig-strategy=mixed", "--mps-root=/m" },
          .error =
              "unable to validate flags: using --mig-strategy=mixed is not supported with MPS" },
        { "mps root", PLUGIN, MPS_WITH(""),
          .error = "unable to validate flags: using MPS requires --mps-root to be specified" },
        { "discovery", PLUGIN, NULL, .argv = { "--device-discovery-strategy=x" },
          .error = "unable to validate flags: invalid --device-discovery-strategy option x" },
        { "mig", PLUGIN, NULL, .argv = { "--mig-strategy=x" },
          .error = "unable to validate flags: unknown MIG strategy: x" },
        { "imex", PLUGIN, NULL, .argv = { "--imex-channel-ids=0,1" },
          .error = "unable to validate flags: invalid IMEX channel IDs: invalid IMEX config: "
                   "channelIDs must be [] or [0]; found [0 1]" },
        { "discovery in discovery", GFD, NULL, .argv = { "--device-discovery-strategy=x" },
          .error = "unable to load config: unable to validate flags: invalid "
                   "--device-discovery-strategy option x" },
        { "mig in discovery comes later", GFD, NULL, .argv = { "--mig-strategy=x" },
          .wants = { "mig=none/x " } },
        { "mps in discovery", GFD, MPS_WITH(""), .wants = { "sharing=mps" } },
        { "nothing in the MPS daemon", MPS, "flags: {deviceDiscoveryStrategy: x, migStrategy: yy}",
          .wants = { "mig=none/yy", "discovery=auto" } },
    };

    CHECK(cases);
}

static void validation_keeps_upstreams_order(void **state)
{
    /* Each step mends the first thing that is wrong, and the next one comes up. */
    static const struct {
        const char *mend, *error;
    } steps[] = {
        { NULL, "invalid strategy: x" },
        { "--device-list-strategy=cdi-cri", "only supported on NVML-based systems" },
        { "--device-list-strategy=envvar", "invalid --device-id-strategy option: x" },
        { "--device-id-strategy=uuid", "invalid --shared-devices-allocation-policy option: x" },
        { "--shared-devices-allocation-policy=packed", "using --mig-strategy=mixed is not" },
        { "--mig-strategy=x", "using MPS requires --mps-root" },
        { "--mps-root=/m", "invalid --device-discovery-strategy option x" },
        { "--device-discovery-strategy=nvml", "unknown MIG strategy: x" },
        { "--mig-strategy=single", "invalid IMEX channel IDs" },
        { "--imex-channel-ids=0", NULL },
    };
    static const char *argv[ARRAY_LEN(steps)];
    static const char file_text[] =
        "{flags: {migStrategy: mixed, deviceDiscoveryStrategy: x, plugin: {deviceListStrategy: x, "
        "deviceIDStrategy: x, sharedDevicesAllocationPolicy: x}}, imex: {channelIDs: [1]}, "
        "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}}";
    struct span file = span_of(file_text);
    int argc = 0;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
        struct config *config = NULL;
        struct err err = {};
        /* the strategy of the second step would add to that of the third */
        if (steps[i].mend && i == 2)
            argc--;
        if (steps[i].mend)
            argv[argc++] = steps[i].mend;
        struct config_input input = { .program = PLUGIN, .argc = argc, .argv = argv };
        int r = config_load(&input, &file, "c", false, &arena, &config, NULL, &err);
        if (steps[i].error ? r != -EINVAL || !strstr(err.text, steps[i].error) : r != 0)
            fail_msg("step %zu: %d %s", i, r, err.text);
    }
}

static void a_complete_sentence_reads_like_this(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct span file = SPAN("version: v1\nflags:\n  migStrategy: none\nsharing:\n  timeSlicing:\n"
                            "    resources:\n    - name: nvidia.com/gpu\n      replicas: 1\n");
    struct config_input input = { .program = PLUGIN };
    struct config *config = NULL;
    struct err err = {};

    assert_int_equal(config_load(&input, &file, "config.yaml", true, &arena, &config, NULL, &err),
                     -EINVAL);
    assert_string_equal(err.text,
                        DECODE_PREFIX "config.yaml:8:17: number of replicas must be >= 2; a GPU "
                                      "that is not shared needs no entry");
}

static void an_unreadable_file_has_upstreams_sentence(void **state)
{
    struct err err = {};

    assert_int_equal(config_unreadable(-ENOENT, "/c.yaml", &err), -ENOENT);
    assert_string_equal(err.text,
                        "unable to load config: unable to finalize config: unable to parse "
                        "config file: error opening config file: open /c.yaml: No such "
                        "file or directory");
    assert_int_equal(config_unreadable(-EISDIR, "/c", &err), -EISDIR);
    assert_non_null(strstr(err.text, "error parsing config file: read error: read /c: "));
}

/* ---- limits and memory ---- */

static void limits_are_sentences(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(4));
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    struct config_input input = { .program = PLUGIN };
    struct config *config = NULL;
    struct err err = {};

    buf_add_text(&text, "sharing: {timeSlicing: {resources: [");
    for (int i = 0; i < 300; i++)
        buf_printf(&text, "{name: r%d, replicas: 2}, ", i);
    buf_add_text(&text, "]}}");
    struct span file = buf_span(&text);
    assert_int_equal(config_load(&input, &file, "c", true, &arena, &config, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "300 shared resources, more than 256"));

    buf_reset(&text);
    buf_add_text(&text, "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: [");
    for (int i = 0; i < 1025; i++)
        buf_add_text(&text, "1,");
    buf_add_text(&text, "]}]}}");
    file = buf_span(&text);
    assert_int_equal(config_load(&input, &file, "c", true, &arena, &config, NULL, &err), -EINVAL);
    assert_non_null(strstr(err.text, "a devices list of 1025 elements, more than 1024"));

    buf_reset(&text);
    while (text.len <= CONFIG_MAX_FILE_BYTES)
        buf_add_text(&text, "# a comment that goes on and on and on and on and on and on and on\n");
    file = buf_span(&text);
    assert_true(config_load(&input, &file, "c", true, &arena, &config, NULL, &err) < 0);
    assert_non_null(strstr(err.text, "error converting YAML to JSON: yaml: "));
}

/* ---- lack of memory ---- */

static const struct load_case scarce[] = {
    { "everything", PLUGIN,
      "version: v1\nfoo: 1\nflags: {migStrategy: none, MIGSTRATEGY: x, plugin: "
      "{deviceListStrategy: [envvar, cdi-cri]}, gfd: {sleepInterval: 5s}}\n"
      "resources: {gpus: [{pattern: '*', name: gpu}]}\nimex: {channelIDs: [0]}\n"
      "sharing: {perDevice: true, timeSlicing: {renameByDefault: true, resources: [{name: gpu, "
      "replicas: 010, rename: x, devices: [0, '1:2', GPU-" UUID "]}, {name: gpu, replicas: 2, "
      "devices: [3]}]}, mps: {resources: [{name: gpu, replicas: 2, devices: 3, rename: yy}, "
      "{name: gpu, replicas: 3}]}}\n",
      .env = { "MPS_ROOT=/m" }, .argv = { "--cdi-feature-flags=a,b" },
      .error = "devices of nvidia.com/gpu are in the entry" },
    { "warnings", PLUGIN,
      TIME_SLICING("{name: gpu, replicas: 3, devices: [0]}, {name: gpu, replicas: 2, x: y}"),
      .wants = { " x3 " } },
    { "a wrong type", PLUGIN, IN_PLUGIN("passDeviceSpecs: [{a: b}], deviceListStrategy: {a: b}"),
      .error = "invalid deviceListStrategy" },
    { "a wrong variable", PLUGIN, NULL, .env = { "GDS_ENABLED=x" },
      .error = "could not parse \"x\"" },
    { "a wrong flag", PLUGIN, NULL, .argv = { "--gds-enabled=x" }, .error = "parse error" },
    { "a wrong value", PLUGIN, NULL, .argv = { "--mig-strategy=x" },
      .error = "unknown MIG strategy" },
};

/* One load with the nth allocation of the system failing (0: none), in an arena of that size. */
static int load_scarcely(const struct load_case *c, unsigned long n, size_t arena_bytes)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(arena_bytes);
    struct span file = c->file ? span_of(c->file) : (struct span){};
    const char *env[2] = { c->env[0] };
    struct config_input input = { .program = c->program,
                                  .argc = count_of(c->argv, ARRAY_LEN(c->argv)),
                                  .argv = c->argv,
                                  .environ = env };
    struct config_warnings warnings = {};
    struct config *config = NULL;
    struct err err = {};

    mem_fail_from(n);
    int r = config_load(&input, c->file ? &file : NULL, "config.yaml", true, &arena, &config,
                        &warnings, &err);
    mem_fail_from(0);
    assert_true(r == 0 || !config);
    assert_true(r == 0 || err.code == -r);
    return r;
}

/* Each time one allocation more succeeds, until none is left to fail. */
static void lack_of_memory_is_said_wherever_it_strikes(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(scarce); i++) {
        unsigned long n = 1;
        while (n < 2000 && load_scarcely(&scarce[i], n, CONFIG_ARENA_BYTES) == -ENOMEM)
            n++;
        assert_in_range(n, 2, 1999);
        check_case(&scarce[i]);
    }
}

static void a_full_arena_is_lack_of_memory(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(scarce); i++) {
        size_t bytes = 0;
        while (bytes < MIB(1) && load_scarcely(&scarce[i], 0, bytes) == -ENOMEM)
            bytes += 16;
        assert_in_range(bytes, 16, MIB(1) - 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_1_to_20_hold),
        cmocka_unit_test(defaults_are_upstreams),
        cmocka_unit_test(every_option_has_its_flag_variable_and_key),
        cmocka_unit_test(precedence_is_flag_environment_file_default),
        cmocka_unit_test(empty_values_mean_what_their_type_says),
        cmocka_unit_test(scalars_and_lists_parse_as_in_go),
        cmocka_unit_test(flags_parse_as_in_go),
        cmocka_unit_test(options_alone_say_the_file_and_the_request),
        cmocka_unit_test(help_names_every_flag_with_its_variables),
        cmocka_unit_test(words_are_those_of_yaml_1_1),
        cmocka_unit_test(documents_are_read_as_upstream_does),
        cmocka_unit_test(keys_of_structs_match_in_any_case_and_inside_sharing_exactly),
        cmocka_unit_test(null_is_absent_except_inside_an_item),
        cmocka_unit_test(list_strategy_is_a_word_or_a_list),
        cmocka_unit_test(durations_are_gos_or_nanoseconds),
        cmocka_unit_test(imex_channels_are_none_or_zero),
        cmocka_unit_test(each_mistake_has_upstreams_sentence_and_its_place),
        cmocka_unit_test(the_first_sentence_is_the_one_that_upstream_gives),
        cmocka_unit_test(device_references_have_five_forms),
        cmocka_unit_test(renames_and_devices_are_stripped_with_a_warning),
        cmocka_unit_test(the_usual_rename_is_no_reason_to_warn),
        cmocka_unit_test(requests_above_one_fail_under_mps_unless_said_otherwise),
        cmocka_unit_test(of_two_entries_for_a_resource_the_larger_counts),
        cmocka_unit_test(per_device_honours_devices_and_renames),
        cmocka_unit_test(values_are_validated_with_upstreams_sentences),
        cmocka_unit_test(validation_keeps_upstreams_order),
        cmocka_unit_test(a_complete_sentence_reads_like_this),
        cmocka_unit_test(an_unreadable_file_has_upstreams_sentence),
        cmocka_unit_test(limits_are_sentences),
        cmocka_unit_test(lack_of_memory_is_said_wherever_it_strikes),
        cmocka_unit_test(a_full_arena_is_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
