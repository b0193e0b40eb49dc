#include "share/config_validate.h"

#include <inttypes.h>
#include <stdio.h>

const char *const mig_strategy_names[MIG_STRATEGY_N] = {
    [MIG_STRATEGY_NONE] = "none",
    [MIG_STRATEGY_SINGLE] = "single",
    [MIG_STRATEGY_MIXED] = "mixed",
};

const char *const sharing_strategy_names[SHARING_N] = {
    [SHARING_NONE] = "none",
    [SHARING_TIME_SLICING] = "time-slicing",
    [SHARING_MPS] = "mps",
};

const char *const discovery_strategy_names[DISCOVERY_N] = {
    [DISCOVERY_AUTO] = "auto",
    [DISCOVERY_NVML] = "nvml",
    [DISCOVERY_TEGRA] = "tegra",
    [DISCOVERY_VFIO] = "vfio",
};

const char *const device_id_strategy_names[DEVICE_ID_N] = {
    [DEVICE_ID_UUID] = "uuid",
    [DEVICE_ID_INDEX] = "index",
};

const char *const allocation_policy_names[POLICY_N] = {
    [POLICY_DISTRIBUTED] = "distributed",
    [POLICY_PACKED] = "packed",
};

int config_word(const char *word, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        if (text_equal(word, names[i]))
            return (int)i;
    return -1;
}

unsigned config_list_strategy(const char *word)
{
    static const char *const names[] = { "envvar", "volume-mounts", "cdi-annotations", "cdi-cri" };
    int i = config_word(word, names, ARRAY_LEN(names));

    return i < 0 ? 0 : 1u << i;
}

/* ---- complaints ---- */

static const struct setting *setting_of(const struct validation *v, enum option_id id)
{
    return &v->settings->of[id];
}

/* What would be right, and which flag or variable is to blame when it is not the file. */
static const char *advise(const struct validation *v, enum option_id id, const char *want)
{
    const struct setting *setting = setting_of(v, id);

    if (setting->source == FROM_ENVIRONMENT)
        return finding_advice(v->findings, "%s; the variable %s says this", want, setting->origin);
    if (setting->source == FROM_FLAG)
        return finding_advice(v->findings, "%s; the flag --%s says this", want, options[id].name);
    return want;
}

PRINTF(4, 5)
static void refuse(const struct validation *v, enum option_id id, const char *want,
                   const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    finding_add(v->findings, FINDING_INVALID, setting_of(v, id)->place, advise(v, id, want), "%s",
                text);
}

/* ---- the rules ---- */

static void check_list_strategies(const struct validation *v)
{
    static const char want[] = "want envvar, volume-mounts, cdi-annotations or cdi-cri";
    const struct setting *setting = setting_of(v, OPTION_DEVICE_LIST_STRATEGY);

    if (setting->n == 0)
        refuse(v, OPTION_DEVICE_LIST_STRATEGY, want,
               "invalid --device-list-strategy option: no device list strategy specified");
    for (size_t i = 0; i < setting->n; i++)
        if (!config_list_strategy(setting->texts[i]))
            refuse(v, OPTION_DEVICE_LIST_STRATEGY, want,
                   "invalid --device-list-strategy option: invalid strategy: %s",
                   setting->texts[i]);
}

static void check_cdi_needs_nvml(const struct validation *v)
{
    const struct setting *setting = setting_of(v, OPTION_DEVICE_LIST_STRATEGY);
    unsigned strategies = 0;

    for (size_t i = 0; i < setting->n; i++)
        strategies |= config_list_strategy(setting->texts[i]);
    if ((strategies & LIST_ANY_CDI) && !v->nvml_found)
        refuse(v, OPTION_DEVICE_LIST_STRATEGY, "no libnvidia-ml.so.1 was found",
               "CDI --device-list-strategy options are only supported on NVML-based systems");
}

static void check_id_strategy(const struct validation *v)
{
    const char *word = setting_of(v, OPTION_DEVICE_ID_STRATEGY)->text;

    if (config_word(word, device_id_strategy_names, DEVICE_ID_N) < 0)
        refuse(v, OPTION_DEVICE_ID_STRATEGY, "want uuid or index",
               "invalid --device-id-strategy option: %s", word);
}

static void check_allocation_policy(const struct validation *v)
{
    const char *word = setting_of(v, OPTION_ALLOCATION_POLICY)->text;

    if (config_word(word, allocation_policy_names, POLICY_N) < 0)
        refuse(v, OPTION_ALLOCATION_POLICY, "want distributed or packed",
               "invalid --shared-devices-allocation-policy option: %s", word);
}

static void check_mps(const struct validation *v)
{
    if (v->sharing->strategy != SHARING_MPS)
        return;
    if (text_equal(setting_of(v, OPTION_MIG_STRATEGY)->text, "mixed"))
        refuse(v, OPTION_MIG_STRATEGY, "choose none or single, or share by timeSlicing",
               "using --mig-strategy=mixed is not supported with MPS");
    if (setting_of(v, OPTION_MPS_ROOT)->text[0] == '\0' && !v->file_only)
        refuse(v, OPTION_MPS_ROOT, "such as /run/nvidia/mps",
               "using MPS requires --mps-root to be specified");
}

static bool is_discovery(const struct validation *v, const char *word)
{
    int i = config_word(word, discovery_strategy_names, DISCOVERY_N);

    return i >= 0 && (i != DISCOVERY_VFIO || v->program == PROGRAM_FEATURE_DISCOVERY);
}

static void check_discovery(const struct validation *v)
{
    const char *word = setting_of(v, OPTION_DISCOVERY_STRATEGY)->text;

    if (is_discovery(v, word))
        return;
    if (v->file_only && text_equal(word, discovery_strategy_names[DISCOVERY_VFIO]))
        finding_add(v->findings, FINDING_WARNING, setting_of(v, OPTION_DISCOVERY_STRATEGY)->place,
                    NULL, "only feature discovery knows vfio; the device plugin refuses it");
    else
        refuse(v, OPTION_DISCOVERY_STRATEGY, "want auto, nvml or tegra",
               "invalid --device-discovery-strategy option %s", word);
}

static void check_mig_strategy(const struct validation *v)
{
    const char *word = setting_of(v, OPTION_MIG_STRATEGY)->text;

    if (config_word(word, mig_strategy_names, MIG_STRATEGY_N) < 0)
        refuse(v, OPTION_MIG_STRATEGY, "want none, single or mixed", "unknown MIG strategy: %s",
               word);
}

static void check_imex_channels(const struct validation *v)
{
    const struct setting *setting = setting_of(v, OPTION_IMEX_CHANNEL_IDS);
    char list[128] = "";
    size_t len = 0;

    if (setting->n == 0 || (setting->n == 1 && setting->numbers[0] == 0))
        return;
    for (size_t i = 0; i < setting->n && len < sizeof(list) - 24; i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%" PRId64, i > 0 ? " " : "",
                                setting->numbers[i]);
    refuse(v, OPTION_IMEX_CHANNEL_IDS, "there is one channel at most, number 0",
           "invalid IMEX channel IDs: invalid IMEX config: channelIDs must be [] or [0]; found "
           "[%s]",
           list);
}

void config_validate(const struct validation *v)
{
    static void (*const rules[])(const struct validation *) = {
        check_list_strategies,
        check_cdi_needs_nvml,
        check_id_strategy,
        check_allocation_policy,
        check_mps,
        check_discovery,
        check_mig_strategy,
        check_imex_channels,
    };

    if (v->program == PROGRAM_FEATURE_DISCOVERY)
        check_discovery(v);
    for (size_t i = 0; i < ARRAY_LEN(rules) && v->program == PROGRAM_PLUGIN; i++)
        rules[i](v);
}
