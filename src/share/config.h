/*
 * What the operator asked for: the version-v1 file of NVIDIA's device plugin, its flags and its
 * environment (spec/device-plugin §2), plus our own additive keys.
 *
 *     file + environment + flags  --config_load-->  struct config   (typed, complete, validated)
 *
 * Precedence per option: flag, environment, file, default. A config lives in the arena it was
 * loaded into and never changes. Sentences for users carry file:line:col where a file is to blame;
 * upstream's own words are kept inside them, since people and operators grep for them.
 *
 * config_load has no side effects: the caller reads files and the environment.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "codec/value.h"

enum {
    CONFIG_MAX_FILE_BYTES = 1 << 20, /* a ConfigMap cannot be larger */
    CONFIG_ARENA_BYTES = 32 << 20,   /* the tree of a 1 MiB file of the densest kind */
    CONFIG_MAX_SHARED_RESOURCES = 256,
    CONFIG_MAX_DEVICE_REFS = 1024, /* of one file with perDevice; of one list without */
    CONFIG_MAX_REPLICAS = 1 << 16, /* what a kubelet can list in one 4 MiB message */
};

enum mig_strategy { MIG_STRATEGY_NONE, MIG_STRATEGY_SINGLE, MIG_STRATEGY_MIXED, MIG_STRATEGY_N };
enum sharing_strategy { SHARING_NONE, SHARING_TIME_SLICING, SHARING_MPS, SHARING_N };
enum device_id_strategy { DEVICE_ID_UUID, DEVICE_ID_INDEX, DEVICE_ID_N };
enum allocation_policy { POLICY_DISTRIBUTED, POLICY_PACKED, POLICY_N };
enum discovery_strategy {
    DISCOVERY_AUTO,
    DISCOVERY_NVML,
    DISCOVERY_TEGRA,
    DISCOVERY_VFIO,
    DISCOVERY_N
};

/* Bits: several may be asked for. */
enum device_list_strategy {
    LIST_ENVVAR = 1,
    LIST_VOLUME_MOUNTS = 2,
    LIST_CDI_ANNOTATIONS = 4,
    LIST_CDI_CRI = 8,
    LIST_ANY_CDI = LIST_CDI_ANNOTATIONS | LIST_CDI_CRI,
};

extern const char *const mig_strategy_names[MIG_STRATEGY_N]; /* none single mixed */
extern const char *const sharing_strategy_names[SHARING_N];  /* none time-slicing mps */
extern const char *const discovery_strategy_names[DISCOVERY_N];

/* `devices:` of a shared resource. Honoured only with sharing.perDevice (additive). */
struct device_ref {
    enum { DEVICE_REF_GPU_INDEX, DEVICE_REF_MIG_INDEX, DEVICE_REF_UUID } kind;
    uint32_t gpu_index, mig_index;
    const char *uuid; /* GPU-…, MIG-…, MIG-GPU-…/gi/ci */
    struct place place;
};

struct device_selector {
    enum { SELECT_ALL, SELECT_COUNT, SELECT_LIST } kind;
    uint32_t count;
    size_t n_refs;
    struct device_ref *refs;
};

struct shared_resource {
    const char *name;   /* "nvidia.com/gpu", "nvidia.com/mig-1g.10gb": always with the prefix */
    const char *rename; /* full name to advertise it under, or NULL */
    uint32_t replicas;  /* >= 2 */
    struct device_selector devices;
    struct place place; /* of the list item, for complaints */
};

struct sharing {
    enum sharing_strategy strategy; /* the one in force; mps wins over timeSlicing */
    bool rename_by_default;
    bool fail_requests_greater_than_one;
    bool per_device; /* sharing.perDevice: honour devices: and rename: per entry */
    size_t n_resources;
    struct shared_resource *resources;
};

enum program { PROGRAM_PLUGIN, PROGRAM_FEATURE_DISCOVERY, PROGRAM_MPS_DAEMON, PROGRAM_N };

struct config {
    enum mig_strategy mig_strategy;
    const char *mig_strategy_text; /* as given: feature discovery complains about it late */
    bool fail_on_init_error;
    const char *driver_root;           /* nvidiaDriverRoot, on the host */
    const char *dev_root;              /* nvidiaDevRoot; never empty: falls back to driver_root */
    const char *container_driver_root; /* where this process sees the driver root */
    bool gdrcopy_enabled, gds_enabled, mofed_enabled;
    const char *mps_root; /* host path, "" when not given */
    enum discovery_strategy discovery;

    bool pass_device_specs;
    unsigned device_list; /* enum device_list_strategy bits, never 0 */
    enum device_id_strategy device_id;
    const char *cdi_annotation_prefix;
    const char *cdi_hook_path;
    enum allocation_policy allocation_policy;
    bool imex_channel0, imex_required;
    size_t n_cdi_feature_flags, n_cdi_disabled_hooks;
    const char **cdi_feature_flags, **cdi_disabled_hooks;

    const char *kubelet_socket; /* "" turns registration off */
    const char *config_file;    /* "" when none */

    struct sharing sharing;

    struct { /* feature discovery */
        bool use_node_feature_api, oneshot, no_timestamp;
        int64_t sleep_interval_ns; /* INT64_MAX: infinite */
        const char *output_file, *machine_type_file;
        const char *kubeconfig, *namespace, *node_name, *pod_name;
        double kube_api_qps;
        int64_t kube_api_burst;
    } gfd;
};

struct config_input {
    enum program program;
    int argc; /* flags, without the program's name; may be 0 */
    const char *const *argv;
    const char *const *environ; /* "NAME=value" …, NULL-terminated; NULL: empty */
};

/* A sentence that does not stop the load: a stripped rename, an unreferenced selector, a duplicate
 * key, mps shadowing timeSlicing. Place 0:0 when no file line is to blame. */
struct config_warning {
    struct place place;
    const char *text;
};

struct config_warnings {
    size_t n;
    struct config_warning *items; /* in the arena of the load */
};

/* What the command line asked for besides options. */
enum config_request { CONFIG_RUN, CONFIG_SHOW_HELP, CONFIG_SHOW_VERSION };

/*
 * Step one: flags and environment only. *ret_file is the config file to read ("" for none) and
 * *ret_request says whether only help or the version is wanted. -EINVAL with upstream's sentence
 * (`flag provided but not defined: -x`, `could not parse "yes" as bool value from environment
 * variable "FAIL_ON_INIT_ERROR" for flag fail-on-init-error: …`), which upstream prints behind
 * `Incorrect Usage: ` above its help.
 */
[[nodiscard]] int config_options(const struct config_input *input, struct arena *arena,
                                 const char **ret_file, enum config_request *ret_request,
                                 struct err *err);

/* The help text of a program, which calls itself `name`: every flag, its variables, its default.
 * 0, or the buf's failure. */
[[nodiscard]] int config_help(enum program program, const char *name, struct buf *ret);

/* The config file could not be read: makes upstream's sentence of `r`, the negative errno of it.
 * Returns r. */
int config_unreadable(int r, const char *path, struct err *err);

/*
 * Step two: everything. `file` is the content of the config file (NULL: none), `name` what to call
 * it in complaints. `nvml_found` feeds the rule about cdi-* strategies (§2.7).
 *
 * -EINVAL with upstream's complete sentence for the program, without `error starting plugins: `,
 * which the agent adds. The place stands where upstream's own words for the mistake begin, what
 * would be right may follow them:
 *
 *     unable to load config: unable to finalize config: unable to parse config file: error parsing
 *     config file: unmarshal error: error unmarshaling JSON: while decoding JSON:
 *     config.yaml:9:23: number of replicas must be >= 2; a GPU that is not shared needs no entry
 *
 * -ENOMEM when memory or the arena's ceiling (CONFIG_ARENA_BYTES is enough) is reached.
 */
[[nodiscard]] int config_load(const struct config_input *input, const struct span *file,
                              const char *name, bool nvml_found, struct arena *arena,
                              struct config **ret, struct config_warnings *ret_warnings,
                              struct err *err);

/*
 * For `tranche check`: only the file, as the device plugin would read it, every mistake and not
 * just the first, in order of place. Warnings are what the file says in vain or probably does not
 * mean. The findings (share/finding.h) begin with nothing but their arena. Returns the number of
 * errors (0: the file is good), or -ENOMEM.
 */
struct findings;

[[nodiscard]] int config_check(struct span file, struct findings *findings, struct err *err);
