#include <errno.h>

#include "codec/yaml.h"
#include "share/config.h"
#include "share/config_file.h"
#include "share/config_validate.h"
#include "share/finding.h"

/* What one load works with. */
struct load {
    const struct config_input *input;
    struct arena *arena;
    struct settings settings;
    struct findings findings;
    struct sharing_file sharing_file;
    struct sharing sharing;
};

/* ---- reading ---- */

static int read_file(struct load *load, struct span text, struct err *err)
{
    static const struct yaml_limits limits = { .bytes = CONFIG_MAX_FILE_BYTES };
    struct value *root;
    int r = findings_read_yaml(&load->findings, text, &limits, &root, err);

    if (root)
        config_file_read(&load->findings, root, &load->settings, &load->sharing_file);
    return r < 0 ? r : findings_failed(&load->findings, err);
}

/* ---- the sentence ---- */

/* Upstream's words from the outermost context down to where the place is put. */
static const char *sentence_prefix(enum finding_kind kind, enum program program)
{
#define IN_FILE                                                                                    \
    "unable to load config: unable to finalize config: unable to parse config file: error "        \
    "parsing "                                                                                     \
    "config file"
    switch (kind) {
    case FINDING_SYNTAX:
        return IN_FILE ": unmarshal error: error converting YAML to JSON: yaml";
    case FINDING_ERROR:
    case FINDING_TYPE:
        return IN_FILE ": unmarshal error: error unmarshaling JSON: while decoding JSON";
    case FINDING_INVALID:
        /* the plugin validates after the load, feature discovery as part of it */
        return program == PROGRAM_PLUGIN ? "unable to validate flags"
                                         : "unable to load config: unable to validate flags";
    default:
        return IN_FILE;
    }
#undef IN_FILE
}

static int first_error(struct load *load, const char *name, struct err *err)
{
    enum finding_kind kind;
    int r = findings_verdict(&load->findings, name, &kind, err);

    return r == -EINVAL ? err_wrap(err, r, "%s", sentence_prefix(kind, load->input->program)) : r;
}

static int hand_out_warnings(const struct load *load, struct config_warnings *ret, struct err *err)
{
    struct config_warnings warnings = {};

    for (size_t i = 0; i < load->findings.n; i++) {
        const struct finding *finding = &load->findings.items[i];
        if (finding->kind != FINDING_WARNING)
            continue;
        struct config_warning *warning = arena_push(load->arena, &warnings.items, &warnings.n);
        if (!warning)
            return err_no_memory(err);
        warning->place = finding->place;
        warning->text = finding_words(load->arena, finding);
        if (!warning->text)
            return err_no_memory(err);
    }
    *ret = warnings;
    return 0;
}

/* ---- settings to struct config ---- */

static const char *text_of(const struct load *load, enum option_id id)
{
    return load->settings.of[id].text;
}

static bool on(const struct load *load, enum option_id id)
{
    return load->settings.of[id].on;
}

/* A word that was not validated for this program, and is none, stands for the first name. */
static unsigned word_of(const struct load *load, enum option_id id, const char *const *names,
                        size_t n_names)
{
    int word = config_word(text_of(load, id), names, n_names);

    return word < 0 ? 0 : (unsigned)word;
}

static unsigned list_strategies(const struct load *load)
{
    const struct setting *setting = &load->settings.of[OPTION_DEVICE_LIST_STRATEGY];
    unsigned strategies = 0;

    for (size_t i = 0; i < setting->n; i++)
        strategies |= config_list_strategy(setting->texts[i]);
    return strategies ? strategies : LIST_ENVVAR;
}

static void fill_common(const struct load *load, struct config *config)
{
    const char *dev_root = text_of(load, OPTION_DEV_ROOT);

    config->mig_strategy = word_of(load, OPTION_MIG_STRATEGY, mig_strategy_names, MIG_STRATEGY_N);
    config->mig_strategy_text = text_of(load, OPTION_MIG_STRATEGY);
    config->fail_on_init_error = on(load, OPTION_FAIL_ON_INIT_ERROR);
    config->driver_root = text_of(load, OPTION_DRIVER_ROOT);
    config->dev_root = dev_root[0] ? dev_root : config->driver_root;
    config->container_driver_root = text_of(load, OPTION_CONTAINER_DRIVER_ROOT);
    config->gdrcopy_enabled = on(load, OPTION_GDRCOPY_ENABLED);
    config->gds_enabled = on(load, OPTION_GDS_ENABLED);
    config->mofed_enabled = on(load, OPTION_MOFED_ENABLED);
    config->mps_root = text_of(load, OPTION_MPS_ROOT);
    config->discovery =
        word_of(load, OPTION_DISCOVERY_STRATEGY, discovery_strategy_names, DISCOVERY_N);
    config->config_file = text_of(load, OPTION_CONFIG_FILE);
    config->sharing = load->sharing;
}

static void fill_plugin(const struct load *load, struct config *config)
{
    const struct setting *flags = &load->settings.of[OPTION_CDI_FEATURE_FLAGS];
    const struct setting *hooks = &load->settings.of[OPTION_CDI_DISABLED_HOOKS];

    config->pass_device_specs = on(load, OPTION_PASS_DEVICE_SPECS);
    config->device_list = list_strategies(load);
    config->device_id =
        word_of(load, OPTION_DEVICE_ID_STRATEGY, device_id_strategy_names, DEVICE_ID_N);
    config->cdi_annotation_prefix = text_of(load, OPTION_CDI_ANNOTATION_PREFIX);
    config->cdi_hook_path = text_of(load, OPTION_CDI_HOOK_PATH);
    config->allocation_policy =
        word_of(load, OPTION_ALLOCATION_POLICY, allocation_policy_names, POLICY_N);
    config->imex_channel0 = load->settings.of[OPTION_IMEX_CHANNEL_IDS].n > 0;
    config->imex_required = on(load, OPTION_IMEX_REQUIRED);
    config->n_cdi_feature_flags = flags->n;
    config->cdi_feature_flags = flags->texts;
    config->n_cdi_disabled_hooks = hooks->n;
    config->cdi_disabled_hooks = hooks->texts;
    config->kubelet_socket = text_of(load, OPTION_KUBELET_SOCKET);
}

static void fill_discovery(const struct load *load, struct config *config)
{
    config->gfd.use_node_feature_api = on(load, OPTION_USE_NODE_FEATURE_API);
    config->gfd.oneshot = on(load, OPTION_ONESHOT);
    config->gfd.no_timestamp = on(load, OPTION_NO_TIMESTAMP);
    config->gfd.sleep_interval_ns = load->settings.of[OPTION_SLEEP_INTERVAL].number;
    config->gfd.output_file = text_of(load, OPTION_OUTPUT_FILE);
    config->gfd.machine_type_file = text_of(load, OPTION_MACHINE_TYPE_FILE);
    config->gfd.kubeconfig = text_of(load, OPTION_KUBECONFIG);
    config->gfd.kube_api_qps = load->settings.of[OPTION_KUBE_API_QPS].real;
    config->gfd.kube_api_burst = load->settings.of[OPTION_KUBE_API_BURST].number;
    config->gfd.namespace = text_of(load, OPTION_NAMESPACE);
    config->gfd.node_name = text_of(load, OPTION_NODE_NAME);
    config->gfd.pod_name = text_of(load, OPTION_POD_NAME);
}

/* ---- all of it ---- */

/* Reads, settles and validates; stops after the step that found an error. */
static int load_settings(struct load *load, const struct span *file, const char *name,
                         bool nvml_found, struct err *err)
{
    int r = file ? read_file(load, *file, err) : 0;

    if (r == 0)
        r = first_error(load, name, err);
    if (r < 0)
        return r;
    config_sharing_settle(&load->findings, &load->sharing_file, &load->sharing);
    r = first_error(load, name, err);
    if (r < 0)
        return r;
    config_validate(&(struct validation){ .findings = &load->findings,
                                          .settings = &load->settings,
                                          .sharing = &load->sharing,
                                          .program = load->input->program,
                                          .nvml_found = nvml_found });
    return first_error(load, name, err);
}

int config_load(const struct config_input *input, const struct span *file, const char *name,
                bool nvml_found, struct arena *arena, struct config **ret,
                struct config_warnings *ret_warnings, struct err *err)
{
    struct load load = { .input = input, .arena = arena, .findings.arena = arena };
    enum config_request request;
    int r = settings_read(input, arena, &load.settings, &request, err);

    if (r == 0)
        r = load_settings(&load, file, name, nvml_found, err);
    if (r < 0)
        return r;
    struct config *config = arena_new(arena, struct config);
    if (!config)
        return err_no_memory(err);
    fill_common(&load, config);
    fill_plugin(&load, config);
    fill_discovery(&load, config);
    r = ret_warnings ? hand_out_warnings(&load, ret_warnings, err) : 0;
    if (r == 0)
        *ret = config;
    return r;
}
