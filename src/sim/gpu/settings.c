/* The settings of control.h: one table from a key to the word of the state behind it. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/text.h"
#include "sim/gpu/control.h"
#include "sim/gpu/mig.h"

enum kind {
    NUMBER,   /* a u32 with limits */
    NUMBER64, /* a u64 without */
    WATTS,    /* a u32 of milliwatts */
    SWITCH,   /* a bool */
    SWITCH32, /* a u32 that is 0 or 1 */
    SPECIAL,  /* a function */
};

typedef int setter(struct sim_state *state, uint32_t gpu, const char *value, struct err *err);

/* --- values ---------------------------------------------------------------------------------- */

static int read_switch(const char *value, bool *ret, struct err *err)
{
    static const struct {
        const char *word;
        bool on;
    } words[] = { { "on", true },  { "off", false },  { "true", true },    { "false", false },
                  { "yes", true }, { "no", false },   { "1", true },       { "0", false },
                  { "up", true },  { "down", false }, { "enabled", true }, { "disabled", false } };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (strcasecmp(value, words[i].word) == 0) {
            *ret = words[i].on;
            return 0;
        }
    }
    return err_set(err, EINVAL, "\"%.40s\" is neither on nor off", value);
}

/* Decimal, or hexadecimal with 0x, for masks. */
static int read_number(const char *value, uint64_t min, uint64_t max, uint64_t *ret,
                       struct err *err)
{
    int64_t number = -1;

    if (text_to_i64_any_base(span_of(value), &number) < 0 || number < 0)
        return err_set(err, EINVAL, "\"%.40s\" is not a number", value);
    if ((uint64_t)number < min || (uint64_t)number > max)
        return err_set(err, EINVAL, "%.40s is not between %llu and %llu", value,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = (uint64_t)number;
    return 0;
}

/* "10Gi", "10GiB", "512M": bytes. */
static int read_bytes(const char *value, uint64_t *ret, struct err *err)
{
    struct span text = span_of(value);
    int64_t milli;

    if (text.len > 1 && text.ptr[text.len - 1] == 'B')
        text.len--;
    if (text_to_quantity_milli(text, &milli) < 0 || milli < 0)
        return err_set(err, EINVAL, "\"%.40s\" is not an amount of memory such as 10Gi", value);
    *ret = (uint64_t)milli / 1000;
    return 0;
}

/* "350", "350.5", "350W". */
static int read_watts(const char *value, uint32_t *ret_mw, struct err *err)
{
    struct span text = span_of(value);
    int64_t milli;

    if (text.len > 1 && (text.ptr[text.len - 1] | 0x20) == 'w')
        text.len--;
    if (text_to_quantity_milli(text, &milli) < 0 || milli < 0 || milli > 10000000)
        return err_set(err, EINVAL, "\"%.40s\" is not a power in watts", value);
    *ret_mw = (uint32_t)milli;
    return 0;
}

/* --- settings that are more than a word ------------------------------------------------------ */

/* Memory always belongs to somebody: to a process whose id no real one can have. */
static int set_memory_used(struct sim_state *state, uint32_t gpu, const char *value,
                           struct err *err)
{
    enum { FIRST_PID_THAT_IS_NONE = 4194304 };
    struct sim_process process = {
        .pid = FIRST_PID_THAT_IS_NONE + gpu,
        .gpu = gpu,
        .gi_id = SIM_NO_INSTANCE,
        .ci_id = SIM_NO_INSTANCE,
        .name = "memory-used",
    };

    int r = read_bytes(value, &process.memory_bytes, err);
    if (r < 0)
        return r;
    if (process.memory_bytes > 0)
        return sim_process_add(state, &process, err);
    r = sim_process_remove(state, process.pid, gpu, NULL);
    return r == -ENOENT ? 0 : r;
}

static int set_power_limit(struct sim_state *state, uint32_t index, const char *value,
                           struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[index];
    uint32_t limit;

    int r = read_watts(value, &limit, err);
    if (r < 0)
        return r;
    if (limit < gpu->power_min_mw || limit > gpu->power_max_mw)
        return err_set(err, EINVAL, "%.40s W is not between %u and %u W", value,
                       gpu->power_min_mw / 1000, gpu->power_max_mw / 1000);
    gpu->power_limit_mw = limit;
    return 0;
}

static int set_ecc(struct sim_state *state, uint32_t index, const char *value, struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[index];
    bool on;

    int r = read_switch(value, &on, err);
    if (r < 0)
        return r;
    if (on && !gpu->ecc_capable)
        return err_set(err, ENOTSUP, "%s has no ECC", gpu->name);
    gpu->ecc_enabled = gpu->ecc_pending = on;
    return 0;
}

/* The graphics and the SM clock run together. */
static int set_graphics_clock(struct sim_state *state, uint32_t index, const char *value,
                              struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[index];
    uint64_t mhz;

    int r = read_number(value, 0, 10000, &mhz, err);
    if (r < 0)
        return r;
    gpu->clock_mhz[0] = gpu->clock_mhz[1] = (uint32_t)mhz;
    return 0;
}

static int set_compute_mode(struct sim_state *state, uint32_t index, const char *value,
                            struct err *err)
{
    static const struct {
        const char *word;
        uint32_t mode;
    } modes[] = { { "default", 0 }, { "prohibited", 2 }, { "exclusive-process", 3 } };

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        if (text_equal(value, modes[i].word)) {
            state->gpus[index].compute_mode = modes[i].mode;
            return 0;
        }
    }
    return err_set(err, EINVAL,
                   "\"%.40s\" is no compute mode: default, prohibited or exclusive-process", value);
}

static int set_mig_mode(struct sim_state *state, uint32_t index, const char *value, struct err *err)
{
    enum sim_mig_activation activation;
    bool on;

    int r = read_switch(value, &on, err);
    if (r < 0)
        return r;
    r = sim_mig_mode_set(state, &state->gpus[index], on, &activation, err);
    if (r < 0)
        return r;
    if (activation == SIM_MIG_IN_USE && state->gpus[index].mig_pending != (uint32_t)on)
        return err_set(err, EBUSY, "%s still has GPU instances", state->gpus[index].uuid);
    return 0;
}

static int set_fabric_cluster(struct sim_state *state, uint32_t index, const char *value,
                              struct err *err)
{
    uint8_t bytes[16] = {};
    size_t digits = 0;

    for (const char *c = value; *c; c++) {
        if (*c == '-')
            continue;
        if (!isxdigit((unsigned char)*c) || digits == 32) {
            digits = 0;
            break;
        }
        unsigned digit = *c <= '9' ? (unsigned)(*c - '0') : (unsigned)((*c | 0x20) - 'a' + 10);
        bytes[digits / 2] = (uint8_t)(bytes[digits / 2] << 4 | digit);
        digits++;
    }
    if (digits != 32)
        return err_set(err, EINVAL, "\"%.60s\" is not a UUID", value);
    memcpy(state->gpus[index].fabric_cluster, bytes, sizeof(bytes));
    return 0;
}

/* A link by number: "3:down", "3:up". */
static int set_nvlink(struct sim_state *state, uint32_t index, const char *value, struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[index];
    struct span rest = span_of(value), number = {}, word = {};
    bool more = true, on;
    char text[16];
    uint64_t link;

    if (!span_split(&rest, ':', &more, &number) || !span_split(&rest, ':', &more, &word) || more ||
        text_to_u64(number, &link) < 0)
        return err_set(err, EINVAL, "\"%.40s\" is not a link and its state, such as 3:down", value);
    if (link >= gpu->n_links)
        return err_set(err, EINVAL, "%s has %u NVLinks", gpu->name, gpu->n_links);
    snprintf(text, sizeof(text), SPAN_FMT, (int)MIN(word.len, sizeof(text) - 1), word.ptr);
    int r = read_switch(text, &on, err);
    if (r < 0)
        return r;
    if (on && !gpu->links[link].remote_bus_id[0])
        return err_set(err, EINVAL, "NVLink %llu of %s leads nowhere", (unsigned long long)link,
                       gpu->uuid);
    gpu->links[link].active = on;
    return 0;
}

static int set_lost(struct sim_state *state, uint32_t index, const char *value, struct err *err)
{
    bool lost;

    int r = read_switch(value, &lost, err);
    if (r < 0)
        return r;
    if (lost)
        sim_lose(state, index);
    else
        sim_return(state, index);
    return 0;
}

/* Both what the counter shows since the driver was loaded and what the board keeps. */
static int set_ecc_pair(uint64_t counters[2], const char *value, struct err *err)
{
    uint64_t n;

    int r = read_number(value, 0, INT64_MAX, &n, err);
    if (r < 0)
        return r;
    counters[1] += n > counters[0] ? n - counters[0] : 0;
    counters[0] = n;
    return 0;
}

#define ECC_SETTER(name, field)                                                                    \
    static int name(struct sim_state *state, uint32_t index, const char *value, struct err *err)   \
    {                                                                                              \
        return set_ecc_pair(state->gpus[index].field, value, err);                                 \
    }
ECC_SETTER(set_ecc_corrected, ecc_corrected)
ECC_SETTER(set_ecc_uncorrected, ecc_uncorrected)
ECC_SETTER(set_sram_ecc_corrected, sram_ecc_corrected)
ECC_SETTER(set_sram_ecc_uncorrected, sram_ecc_uncorrected)

static int set_all_link_errors(struct sim_state *state, uint32_t index, const char *value,
                               struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[index];
    uint64_t n;

    int r = read_number(value, 0, UINT32_MAX, &n, err);
    for (uint32_t link = 0; r >= 0 && link < gpu->n_links; link++) {
        for (size_t i = 0; i < SIM_N_LINK_ERRORS; i++)
            gpu->links[link].errors[i] = n;
    }
    return r;
}

/* --- settings of the node -------------------------------------------------------------------- */

static int set_driver_loaded(struct sim_state *state, uint32_t gpu, const char *value,
                             struct err *err)
{
    return read_switch(value, &state->driver_loaded, err);
}

static int set_three_slice(struct sim_state *state, uint32_t gpu, const char *value,
                           struct err *err)
{
    return read_switch(value, &state->placement_three_slice_at_zero, err);
}

static int set_profiles_hidden(struct sim_state *state, uint32_t gpu, const char *value,
                               struct err *err)
{
    return read_switch(value, &state->mig_profiles_hidden, err);
}

static int set_pci_registers(struct sim_state *state, uint32_t gpu, const char *value,
                             struct err *err)
{
    return read_switch(value, &state->pci_registers, err);
}

/* --- the table ------------------------------------------------------------------------------- */

#define AT(field) offsetof(struct sim_gpu, field)

struct setting {
    struct sim_key key;
    enum kind kind;
    size_t offset;
    uint64_t min, max;
    setter *set;
};

#define NUM(name, unit, help, field, min, max)                                                     \
    {                                                                                              \
        { name, unit, help }, NUMBER, AT(field), min, max, NULL,                                   \
    }
#define ON_OFF(name, help, field)                                                                  \
    {                                                                                              \
        { name, "on|off", help }, SWITCH, AT(field), .set = NULL,                                  \
    }
#define OWN(name, unit, help, set)                                                                 \
    {                                                                                              \
        { name, unit, help, false }, SPECIAL, 0, 0, 0, set,                                        \
    }

#define NODE(name, unit, help, set)                                                                \
    {                                                                                              \
        { name, unit, help, true }, SPECIAL, 0, 0, 0, set,                                         \
    }

static const struct setting settings[] = {
    NUM("utilization", "%", "busy without any process", utilization_pct, 0, 100),
    NUM("memory-utilization", "%", "memory bandwidth in use without any process",
        memory_utilization_pct, 0, 100),
    NUM("encoder", "%", "video encoders", encoder_pct, 0, 100),
    NUM("decoder", "%", "video decoders", decoder_pct, 0, 100),
    NUM("jpeg", "%", "JPEG engines", jpeg_pct, 0, 100),
    NUM("ofa", "%", "optical flow", ofa_pct, 0, 100),
    OWN("memory-used", "bytes", "held by a process made for it; 0 removes it", set_memory_used),
    NUM("sm-occupancy", "%", "GPM: warps on the SMs", activity_pct[3], 0, 100),
    NUM("integer-active", "%", "GPM: integer pipe", activity_pct[4], 0, 100),
    NUM("tensor-active", "%", "GPM: any tensor pipe", activity_pct[5], 0, 100),
    NUM("fp64-active", "%", "GPM: FP64 pipe", activity_pct[11], 0, 100),
    NUM("fp32-active", "%", "GPM: FP32 pipe", activity_pct[12], 0, 100),
    NUM("fp16-active", "%", "GPM: FP16 pipe", activity_pct[13], 0, 100),

    { { "power", "W", "drawn now" }, WATTS, AT(power_mw) },
    OWN("power-limit", "W", "within the board's limits", set_power_limit),
    NUM("temperature", "°C", "of the GPU", temperature_c, 0, 200),
    NUM("memory-temperature", "°C", "of the memory; 0: no thermometer", memory_temperature_c, 0,
        200),
    OWN("clock-graphics", "MHz", "and of the SMs", set_graphics_clock),
    NUM("clock-memory", "MHz", "of the memory", clock_mhz[2], 0, 20000),
    NUM("clock-video", "MHz", "of the video engines", clock_mhz[3], 0, 10000),
    { { "clock-reasons", "mask", "why clocks are low: 0x1 idle, 0x4 power cap, 0x20 thermal, …" },
      NUMBER64,
      AT(clock_event_reasons) },
    NUM("pstate", "0-15", "performance state", performance_state, 0, 15),
    OWN("compute-mode", "word", "default, prohibited or exclusive-process", set_compute_mode),
    { { "persistence", "on|off", "persistence mode" }, SWITCH32, AT(persistence) },

    OWN("ecc", "on|off", "ECC mode, at once", set_ecc),
    OWN("ecc-corrected", "count", "DRAM errors since the driver was loaded", set_ecc_corrected),
    OWN("ecc-uncorrected", "count", "DRAM errors since the driver was loaded", set_ecc_uncorrected),
    OWN("sram-ecc-corrected", "count", "SRAM errors since the driver was loaded",
        set_sram_ecc_corrected),
    OWN("sram-ecc-uncorrected", "count", "SRAM errors since the driver was loaded",
        set_sram_ecc_uncorrected),
    NUM("remapped-correctable", "rows", "from Ampere on", remapped_correctable, 0, 10000),
    NUM("remapped-uncorrectable", "rows", "from Ampere on", remapped_uncorrectable, 0, 10000),
    ON_OFF("remap-pending", "a row waits for a reset", remap_pending),
    ON_OFF("remap-failed", "no spare row was left", remap_failed),
    NUM("retired-single-bit", "pages", "before Ampere", retired_pages[0], 0, 64),
    NUM("retired-double-bit", "pages", "before Ampere", retired_pages[1], 0, 64),
    ON_OFF("retirement-pending", "a page waits for a reboot", retirement_pending),
    NUM("recovery-action", "0-5", "none, reset, reboot, drain P2P, drain and reset, IMEX",
        recovery_action, 0, 5),
    ON_OFF("reset-required", "NVML reports that a reset is due", reset_required),

    NUM("pcie-generation", "1-7", "of the link now", pcie_generation, 1, 7),
    NUM("pcie-width", "lanes", "of the link now", pcie_width, 1, 32),
    NUM("pcie-replays", "count", "packets that were sent again", pcie_replays, 0, UINT32_MAX),
    NUM("pcie-tx", "KiB/s", "sent", pcie_tx_kibps, 0, UINT32_MAX),
    NUM("pcie-rx", "KiB/s", "received", pcie_rx_kibps, 0, UINT32_MAX),
    OWN("nvlink", "N:up|N:down", "one NVLink", set_nvlink),
    NUM("nvlink-tx", "KiB/s", "sent over all NVLinks", nvlink_tx_kibps, 0, UINT32_MAX),
    NUM("nvlink-rx", "KiB/s", "received over all NVLinks", nvlink_rx_kibps, 0, UINT32_MAX),
    OWN("nvlink-errors", "count", "of each kind on each NVLink", set_all_link_errors),
    NUM("fabric-state", "0-3", "not supported, not started, in progress, completed", fabric_state,
        0, 3),
    NUM("fabric-status", "code", "NVML's code for the fabric", fabric_status, 0, 999),
    NUM("fabric-clique", "id", "within the cluster", fabric_clique, 0, UINT32_MAX),
    OWN("fabric-cluster", "UUID", "of boxes joined by NVLink", set_fabric_cluster),
    NUM("addressing-mode", "0-2", "none, HMM, ATS", addressing_mode, 0, 2),
    NUM("virtualization-mode", "0-4", "bare metal, passthrough, vGPU, host", virtualization_mode, 0,
        4),

    OWN("mig-mode", "on|off", "as the driver switches it", set_mig_mode),
    ON_OFF("mig-needs-reset", "a new MIG mode waits for a reset", mig_needs_reset),
    ON_OFF("mig-survives-reboot", "the board keeps its MIG mode", mig_survives_reboot),
    OWN("lost", "on|off", "off the bus: calls answer GPU_IS_LOST", set_lost),
    ON_OFF("hung", "calls on it do not return", hung),

    NODE("driver-loaded", "on|off", "off: nvmlInit answers DRIVER_NOT_LOADED", set_driver_loaded),
    NODE("three-slice-at-zero", "on|off", "3g instances try memory slice 0 first", set_three_slice),
    NODE("mig-profiles-hidden", "on|off", "MIG profiles are told only while MIG is on (R535)",
         set_profiles_hidden),
    NODE("pci-registers", "on|off", "sysfs has resource0 with MIG's registers, and reset",
         set_pci_registers),
};

const struct sim_key *sim_key_at(size_t i)
{
    return i < ARRAY_LEN(settings) ? &settings[i].key : NULL;
}

static int find_setting(const char *key, bool node, const struct setting **ret, struct err *err)
{
    const char *names[ARRAY_LEN(settings)];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (settings[i].key.node != node)
            continue;
        names[n++] = settings[i].key.name;
        if (text_equal(settings[i].key.name, key)) {
            *ret = &settings[i];
            return 0;
        }
    }
    const char *near = text_nearest(key, names, n);
    if (near)
        return err_set(err, EINVAL, "a %s has no setting \"%.40s\"; did you mean \"%s\"?",
                       node ? "node" : "GPU", key, near);
    return err_set(err, EINVAL, "a %s has no setting \"%.40s\"", node ? "node" : "GPU", key);
}

static int apply_setting(struct sim_state *state, uint32_t gpu, const struct setting *setting,
                         const char *value, struct err *err)
{
    void *word = (char *)&state->gpus[gpu] + setting->offset;
    uint64_t number = 0;
    bool on = false;
    int r = 0;

    switch (setting->kind) {
    case NUMBER:
        r = read_number(value, setting->min, setting->max, &number, err);
        if (r >= 0)
            *(uint32_t *)word = (uint32_t)number;
        return r;
    case NUMBER64:
        r = read_number(value, 0, INT64_MAX, &number, err);
        if (r >= 0)
            *(uint64_t *)word = number;
        return r;
    case WATTS:
        return read_watts(value, word, err);
    case SWITCH:
        return read_switch(value, word, err);
    case SWITCH32:
        r = read_switch(value, &on, err);
        if (r >= 0)
            *(uint32_t *)word = on;
        return r;
    case SPECIAL:
        return setting->set(state, gpu, value, err);
    }
    return -EINVAL;
}

int sim_set(struct sim_state *state, uint32_t gpu, const char *key, const char *value,
            struct err *err)
{
    const struct setting *setting = NULL;

    int r = find_setting(key, false, &setting, err);
    if (r < 0)
        return r;
    sim_gpu_advance(state, gpu);
    r = apply_setting(state, gpu, setting, value, err);
    if (r < 0)
        return err_wrap(err, r, "%s", key);
    sim_state_changed(state);
    return 0;
}

int sim_set_node(struct sim_state *state, const char *key, const char *value, struct err *err)
{
    const struct setting *setting = NULL;

    int r = find_setting(key, true, &setting, err);
    if (r < 0)
        return r;
    r = setting->set(state, 0, value, err);
    if (r < 0)
        return err_wrap(err, r, "%s", key);
    sim_state_changed(state);
    return 0;
}
