/*
 * Field values: one call, many numbers, each with its own code (spec/nvml §7). A row of the table
 * says which field it is, its type, and how to read it; what is not in the table is NOT_SUPPORTED.
 */
#include "sim/gpu/nvml_door.h"

#include <string.h>
#include <time.h>

/* What a reader gets to see; it answers with a code. `scope` is the caller's scopeId. */
struct field {
    const struct sim_state *state;
    const struct sim_gpu *gpu;
    uint32_t id, scope;
    union nvml_value *value;
};

typedef nvmlReturn_t field_reader(const struct field *field);

enum { ALL_LINKS = 0xffffffff, SCOPE_GPU = 0, SCOPE_MODULE = 1 };

static nvmlReturn_t give_u32(const struct field *field, uint32_t value)
{
    field->value->uiVal = value;
    return NVML_SUCCESS;
}

static nvmlReturn_t give_u64(const struct field *field, uint64_t value)
{
    field->value->ullVal = value;
    return NVML_SUCCESS;
}

static nvmlReturn_t give_i32(const struct field *field, int32_t value)
{
    field->value->siVal = value;
    return NVML_SUCCESS;
}

/* --- ECC and memory -------------------------------------------------------------------------- */

static nvmlReturn_t ecc_mode(const struct field *field)
{
    if (!field->gpu->ecc_capable)
        return NVML_NOT_SUPPORTED;
    return give_u32(field, field->id == 1 ? field->gpu->ecc_enabled : field->gpu->ecc_pending);
}

/* 3 single volatile, 4 double volatile, 5 single aggregate, 6 double aggregate. */
static nvmlReturn_t ecc_total(const struct field *field)
{
    const struct sim_gpu *gpu = field->gpu;
    uint32_t counter = field->id >= 5;

    if (!gpu->ecc_enabled)
        return NVML_NOT_SUPPORTED;
    return give_u64(field,
                    field->id % 2 == 1
                        ? gpu->ecc_corrected[counter] + gpu->sram_ecc_corrected[counter]
                        : gpu->ecc_uncorrected[counter] + gpu->sram_ecc_uncorrected[counter]);
}

/* 29 single-bit, 30 double-bit; 31 any pending, 92 and 93 by cause, of which a double bit is one.
 */
static nvmlReturn_t retired_pages(const struct field *field)
{
    const struct sim_gpu *gpu = field->gpu;

    if (gpu->architecture >= NVML_ARCH_AMPERE)
        return NVML_NOT_SUPPORTED;
    if (field->id == 92)
        return give_u64(field, 0);
    return give_u64(field,
                    field->id >= 31 ? gpu->retirement_pending : gpu->retired_pages[field->id - 29]);
}

/* 142 correctable, 143 uncorrectable, 144 pending, 145 failure. */
static nvmlReturn_t remapped_rows(const struct field *field)
{
    const struct sim_gpu *gpu = field->gpu;

    if (gpu->architecture < NVML_ARCH_AMPERE)
        return NVML_NOT_SUPPORTED;
    const uint32_t values[] = { gpu->remapped_correctable, gpu->remapped_uncorrectable,
                                gpu->remap_pending, gpu->remap_failed };
    return give_u32(field, values[field->id - 142]);
}

/* --- NVLink ---------------------------------------------------------------------------------- */

static bool link_is_up(const struct field *field, uint32_t link)
{
    return sim_link_is_up(field->state, field->gpu, link);
}

static uint32_t links_up(const struct field *field)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < SIM_MAX_LINKS; i++)
        n += link_is_up(field, i);
    return n;
}

static nvmlReturn_t link_errors(const struct field *field, uint32_t counter)
{
    uint64_t sum = 0;

    if (field->gpu->n_links == 0)
        return NVML_NOT_SUPPORTED;
    for (uint32_t i = 0; i < MIN(field->gpu->n_links, (uint32_t)SIM_MAX_LINKS); i++)
        sum += field->gpu->links[i].errors[counter];
    return give_u64(field, sum);
}

static nvmlReturn_t link_error_total(const struct field *field)
{
    static const struct {
        uint32_t id, counter;
    } totals[] = { { 38, 2 }, { 45, 3 }, { 52, 0 }, { 59, 1 } };

    for (size_t i = 0; i < ARRAY_LEN(totals); i++) {
        if (totals[i].id == field->id)
            return link_errors(field, totals[i].counter);
    }
    return NVML_NOT_SUPPORTED;
}

/* 161 replay, 162 recovery, 163 CRC: of the link that scopeId names. */
static nvmlReturn_t link_error(const struct field *field)
{
    static const uint8_t counters[] = { 0, 1, 2 };

    if (field->gpu->n_links == 0)
        return NVML_NOT_SUPPORTED;
    if (field->scope >= MIN(field->gpu->n_links, (uint32_t)SIM_MAX_LINKS))
        return NVML_INVALID_ARGUMENT;
    return give_u64(field, field->gpu->links[field->scope].errors[counters[field->id - 161]]);
}

/* 90 the speed all links have in common, 164 that of one. */
static nvmlReturn_t link_speed(const struct field *field)
{
    if (field->gpu->n_links == 0)
        return NVML_NOT_SUPPORTED;
    if (field->id == 164 && field->scope >= field->gpu->n_links)
        return NVML_INVALID_ARGUMENT;
    bool up = field->id == 90 ? links_up(field) > 0 : link_is_up(field, field->scope);
    return give_u32(field, up ? field->gpu->nvlink_mbps : 0);
}

static nvmlReturn_t link_count(const struct field *field)
{
    return give_u32(field, field->gpu->n_links);
}

static nvmlReturn_t link_state(const struct field *field)
{
    if (field->gpu->n_links == 0)
        return NVML_NOT_SUPPORTED;
    if (field->scope >= field->gpu->n_links)
        return NVML_INVALID_ARGUMENT;
    return give_u32(field, link_is_up(field, field->scope));
}

static nvmlReturn_t links_to_switches(const struct field *field)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < SIM_MAX_LINKS; i++)
        n += link_is_up(field, i) && field->gpu->links[i].remote_is_switch;
    return give_u32(field, n);
}

/* 138 TX data, 139 RX data, 140 TX raw, 141 RX raw, in KiB. Raw adds the packet heads: a sixteenth.
 */
static nvmlReturn_t link_throughput(const struct field *field)
{
    uint64_t bytes = field->id % 2 == 0 ? field->gpu->nvlink_tx_bytes : field->gpu->nvlink_rx_bytes;
    uint32_t n = links_up(field);

    if (field->gpu->n_links == 0)
        return NVML_NOT_SUPPORTED;
    if (field->scope != ALL_LINKS && field->scope >= field->gpu->n_links)
        return NVML_INVALID_ARGUMENT;
    if (field->id >= 140)
        bytes += bytes / 16;
    if (field->scope != ALL_LINKS)
        bytes = link_is_up(field, field->scope) ? bytes / n : 0;
    return give_u64(field, bytes / 1024);
}

/* --- power, temperature, time ---------------------------------------------------------------- */

static nvmlReturn_t violation(const struct field *field)
{
    return give_u64(field, field->gpu->violation_ns[field->id - 74]);
}

/* 269 software thermal, 270 hardware thermal, 271 power brake: the policies that count them. */
static nvmlReturn_t throttled(const struct field *field)
{
    return give_u64(field, field->gpu->violation_ns[field->id == 271 ? 3 : 1]);
}

static nvmlReturn_t memory_temperature(const struct field *field)
{
    if (field->gpu->memory_temperature_c == 0)
        return NVML_NOT_SUPPORTED;
    return give_u32(field, field->gpu->memory_temperature_c);
}

static nvmlReturn_t energy(const struct field *field)
{
    return give_u64(field, field->gpu->energy_uj / 1000);
}

/* 185 average over a second, 186 now. A module (scope 1) exists where the GPU shares one with a
 * CPU; memory (scope 2) is not metered apart. */
static nvmlReturn_t power(const struct field *field)
{
    if (field->scope > SCOPE_MODULE || (field->scope == SCOPE_MODULE && !field->gpu->c2c))
        return NVML_NOT_SUPPORTED;
    return give_u32(field, field->gpu->power_mw);
}

static nvmlReturn_t power_limit(const struct field *field)
{
    const struct sim_gpu *gpu = field->gpu;

    switch (field->id) {
    case 187:
        return give_u32(field, gpu->power_min_mw);
    case 188:
        return give_u32(field, gpu->power_max_mw);
    case 189:
        return give_u32(field, gpu->power_default_mw);
    default: /* 190 current, 192 requested */
        return give_u32(field, gpu->power_limit_mw);
    }
}

/* 193 to shutdown, 194 to slowdown, 195 to the memory's limit, 196 to the GPU's. */
static nvmlReturn_t thermal_margin(const struct field *field)
{
    const struct sim_gpu *gpu = field->gpu;
    int32_t now = (int32_t)gpu->temperature_c;

    switch (field->id) {
    case 193:
        return give_i32(field, (int32_t)gpu->shutdown_c - now);
    case 194:
        return give_i32(field, (int32_t)gpu->slowdown_c - now);
    case 195:
        if (gpu->memory_temperature_c == 0)
            return NVML_NOT_SUPPORTED;
        return give_i32(field, (int32_t)gpu->shutdown_c + 3 - (int32_t)gpu->memory_temperature_c);
    default:
        return give_i32(field, (int32_t)gpu->slowdown_c - 2 - now);
    }
}

/* --- PCIe, MIG, health ----------------------------------------------------------------------- */

/* 94 replays, 95 rollovers of that counter. */
static nvmlReturn_t pcie_replays(const struct field *field)
{
    return give_u32(field, field->id == 94 ? field->gpu->pcie_replays : 0);
}

/* 169 and 173..183: error counters of the link, all clean. */
static nvmlReturn_t pcie_errors(const struct field *field)
{
    return give_u32(field, 0);
}

static nvmlReturn_t pcie_bytes(const struct field *field)
{
    return give_u32(field, (uint32_t)(field->id == 197 ? field->gpu->pcie_tx_bytes
                                                       : field->gpu->pcie_rx_bytes));
}

static nvmlReturn_t mig_without_reset(const struct field *field)
{
    return give_u32(field, field->gpu->mig_capable && field->gpu->architecture >= NVML_ARCH_HOPPER);
}

static nvmlReturn_t profiles_without_mig(const struct field *field)
{
    return give_u32(field, field->gpu->mig_capable);
}

static nvmlReturn_t reset_flag(const struct field *field)
{
    return give_u32(field, field->id == 226 && field->gpu->reset_required);
}

static nvmlReturn_t recovery_action(const struct field *field)
{
    return give_u32(field, field->gpu->recovery_action);
}

/* --- the table ------------------------------------------------------------------------------- */

static const struct {
    uint32_t first, last, type;
    field_reader *read;
} fields[] = {
    { 1, 2, NVML_VALUE_U32, ecc_mode },
    { 3, 6, NVML_VALUE_U64, ecc_total },
    { 29, 31, NVML_VALUE_U64, retired_pages },
    { 38, 38, NVML_VALUE_U64, link_error_total },
    { 45, 45, NVML_VALUE_U64, link_error_total },
    { 52, 52, NVML_VALUE_U64, link_error_total },
    { 59, 59, NVML_VALUE_U64, link_error_total },
    { 74, 81, NVML_VALUE_U64, violation },
    { 82, 82, NVML_VALUE_U32, memory_temperature },
    { 83, 83, NVML_VALUE_U64, energy },
    { 90, 90, NVML_VALUE_U32, link_speed },
    { 91, 91, NVML_VALUE_U32, link_count },
    { 92, 93, NVML_VALUE_U64, retired_pages },
    { 94, 95, NVML_VALUE_U32, pcie_replays },
    { 138, 141, NVML_VALUE_U64, link_throughput },
    { 142, 145, NVML_VALUE_U32, remapped_rows },
    { 147, 147, NVML_VALUE_U32, links_to_switches },
    { 161, 163, NVML_VALUE_U64, link_error },
    { 164, 164, NVML_VALUE_U32, link_speed },
    { 165, 165, NVML_VALUE_U32, link_state },
    { 169, 169, NVML_VALUE_U32, pcie_errors },
    { 173, 183, NVML_VALUE_U32, pcie_errors },
    { 184, 184, NVML_VALUE_U32, mig_without_reset },
    { 185, 186, NVML_VALUE_U32, power },
    { 187, 190, NVML_VALUE_U32, power_limit },
    { 191, 191, NVML_VALUE_U64, energy },
    { 192, 192, NVML_VALUE_U32, power_limit },
    { 193, 196, NVML_VALUE_I32, thermal_margin },
    { 197, 198, NVML_VALUE_U32, pcie_bytes },
    { 199, 199, NVML_VALUE_U32, profiles_without_mig },
    { 226, 227, NVML_VALUE_U32, reset_flag },
    { 230, 230, NVML_VALUE_U32, recovery_action },
    { 269, 271, NVML_VALUE_U64, throttled },
};

static void read_field(const struct door *door, struct nvml_field_value *entry)
{
    struct field field = { door->state, door->gpu, entry->fieldId, entry->scopeId, &entry->value };
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    entry->timestamp = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    entry->latencyUsec = 0;
    entry->nvmlReturn = NVML_NOT_SUPPORTED;
    memset(&entry->value, 0, sizeof(entry->value));
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        if (entry->fieldId < fields[i].first || entry->fieldId > fields[i].last)
            continue;
        entry->valueType = fields[i].type;
        entry->nvmlReturn = fields[i].read(&field);
    }
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int32_t valuesCount,
                                      struct nvml_field_value *values)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);

    if (r)
        return r;
    if (!values || valuesCount < 1)
        return NVML_INVALID_ARGUMENT;
    sim_gpu_advance(door.state, door.gpu_index);
    for (int32_t i = 0; i < valuesCount; i++)
        read_field(&door, &values[i]);
    return NVML_SUCCESS;
}

/* Only the error counters of NVLinks can be set back. */
static nvmlReturn_t clear_field(struct sim_gpu *gpu, uint32_t id)
{
    static const struct {
        uint32_t id, counter;
    } clearable[] = {
        { 38, 2 }, { 45, 3 }, { 52, 0 }, { 59, 1 }, { 161, 0 }, { 162, 1 }, { 163, 2 }
    };

    for (size_t i = 0; i < ARRAY_LEN(clearable); i++) {
        if (clearable[i].id != id)
            continue;
        for (uint32_t link = 0; link < SIM_MAX_LINKS; link++)
            gpu->links[link].errors[clearable[i].counter] = 0;
        return gpu->n_links > 0 ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
    }
    return NVML_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceClearFieldValues(nvmlDevice_t device, int32_t valuesCount,
                                        struct nvml_field_value *values)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK);

    if (r)
        return r;
    if (!values || valuesCount < 1)
        return NVML_INVALID_ARGUMENT;
    for (int32_t i = 0; i < valuesCount; i++)
        values[i].nvmlReturn = clear_field(door.gpu, values[i].fieldId);
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}
