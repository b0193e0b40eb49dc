#include <inttypes.h>

#include "cli/table.h"
#include "cli/verb_sim.h"
#include "sim/gpu/control.h"
#include "sim/gpu/mig.h"

static const char *const process_kinds[] = { "compute", "graphics", "mps" };

static const char *process_kind(const struct sim_process *process)
{
    return process->kind < ARRAY_LEN(process_kinds) ? process_kinds[process->kind] : "?";
}

static uint64_t mib(uint64_t bytes)
{
    return bytes >> 20;
}

static void bus_id(const struct sim_gpu *gpu, char ret[static 32])
{
    snprintf(ret, 32, "%08X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus, gpu->pci_device);
}

/* "off", "on", "off→on" while a change waits, "-" where there is no MIG. */
static const char *mig_mode(const struct sim_gpu *gpu)
{
    static const char *const modes[2][2] = { { "off", "off→on" }, { "on→off", "on" } };

    return gpu->mig_capable ? modes[gpu->mig_current & 1][gpu->mig_pending & 1] : "-";
}

/* One word about a GPU's health. */
static const char *health(const struct sim_gpu *gpu, char ret[static 32])
{
    if (gpu->lost)
        return "lost";
    if (gpu->hung)
        return "hung";
    if (gpu->reset_required)
        return "needs reset";
    if (gpu->last_xid == 0)
        return "ok";
    snprintf(ret, 32, "xid %u", gpu->last_xid);
    return ret;
}

/* --- tables ---------------------------------------------------------------------------------- */

static int show_gpus(const struct sim_state *state, FILE *to, struct err *err)
{
    auto_(table_done) struct table table = TABLE("GPU", "MODEL", "BUS ID", "NUMA", "MEMORY MIB",
                                                 "UTIL", "POWER W", "TEMP", "MIG", "STATE");

    for (uint32_t i = 0; i < state->n_gpus; i++) {
        const struct sim_gpu *gpu = &state->gpus[i];
        struct sim_load load;
        char bus[32], word[32];

        sim_gpu_load(state, i, SIM_NO_INSTANCE, &load);
        bus_id(gpu, bus);
        table_printf(&table, "%u", i);
        table_cell(&table, gpu->model);
        table_cell(&table, bus);
        table_printf(&table, "%d", gpu->numa_node);
        table_printf(&table, "%" PRIu64 "/%" PRIu64,
                     mib(sim_gpu_memory_held(state, i, SIM_NO_INSTANCE)), mib(gpu->memory_bytes));
        table_printf(&table, "%u%%", load.sm_pct);
        table_printf(&table, "%u/%u", gpu->power_mw / 1000, gpu->power_limit_mw / 1000);
        table_printf(&table, "%u°C", gpu->temperature_c);
        table_cell(&table, mig_mode(gpu));
        table_styled(&table,
                     gpu->lost || gpu->hung ? STYLE_BAD
                     : gpu->last_xid        ? STYLE_WARN
                                            : STYLE_GOOD,
                     "%s", health(gpu, word));
    }
    return table_print(&table, to, err);
}

static int show_mig_devices(struct sim_state *state, FILE *to, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("GPU", "MIG", "PROFILE", "GI", "CI", "PLACE", "MEMORY MIB", "UUID");
    bool any = false;

    for (uint32_t i = 0; i < state->n_gpus; i++) {
        struct sim_mig_device device;

        for (uint32_t index = 0; sim_mig_device_at(&state->gpus[i], index, &device) == 0; index++) {
            char profile[32];

            any = true;
            sim_mig_device_profile(&device, profile);
            table_printf(&table, "%u", i);
            table_printf(&table, "%u", index);
            table_cell(&table, profile);
            table_printf(&table, "%u", device.gi->id);
            table_printf(&table, "%u", device.ci->id);
            table_printf(&table, "%u:%u", device.gi->start, device.gi->size);
            table_printf(&table, "%" PRIu64 "/%" PRIu64,
                         mib(sim_gpu_memory_held(state, i, device.gi->id)),
                         device.gpu->profiles[device.gi->profile].memory_mib);
            table_cell(&table, device.ci->uuid);
        }
    }
    if (!any)
        return 0;
    fputc('\n', to);
    return table_print(&table, to, err);
}

/* The number of an instance, or nothing. */
static void instance_cell(struct table *table, uint32_t id)
{
    if (id == SIM_NO_INSTANCE)
        table_cell(table, NULL);
    else
        table_printf(table, "%u", id);
}

int sim_show_processes(const struct sim_state *state, FILE *to, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("PID", "GPU", "GI", "CI", "KIND", "MEMORY MIB", "SM", "NAME");

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        const struct sim_process *process = &state->processes[i];

        if (!process->exists)
            continue;
        table_printf(&table, "%u", process->pid);
        table_printf(&table, "%u", process->gpu);
        instance_cell(&table, process->gi_id);
        instance_cell(&table, process->ci_id);
        table_cell(&table, process_kind(process));
        table_printf(&table, "%" PRIu64, mib(process->memory_bytes));
        table_printf(&table, "%u%%", process->sm_pct);
        table_cell(&table, process->name);
    }
    return table_print(&table, to, err);
}

int sim_show_faults(const struct sim_state *state, FILE *to, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("CALL", "GPU", "AFTER", "TIMES", "STRUCK", "CODE", "HANGS");

    for (size_t i = 0; i < SIM_MAX_FAULTS; i++) {
        const struct sim_fault *fault = &state->faults[i];

        if (!fault->armed)
            continue;
        table_cell(&table, fault->call);
        if (fault->gpu < 0)
            table_cell(&table, "any");
        else
            table_printf(&table, "%d", fault->gpu);
        table_printf(&table, "%u", fault->after);
        if (fault->times == 0)
            table_cell(&table, "all");
        else
            table_printf(&table, "%u", fault->times);
        table_printf(&table, "%u", fault->struck);
        table_cell(&table, sim_code_name(fault->code));
        if (fault->hang_ms == SIM_FOREVER)
            table_cell(&table, "forever");
        else if (fault->hang_ms > 0)
            table_printf(&table, "%u ms", fault->hang_ms);
        else
            table_cell(&table, NULL);
    }
    return table_print(&table, to, err);
}

static size_t count_processes(const struct sim_state *state)
{
    size_t n = 0;

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++)
        n += state->processes[i].exists;
    return n;
}

int sim_show_text(const struct sim_state *state, const char *dir, bool all, FILE *to,
                  struct err *err)
{
    auto_free struct sim_state *copy = malloc(sizeof(*copy));

    if (!copy)
        return err_no_memory(err);
    memcpy(copy, state, sizeof(*copy));
    if (all)
        fprintf(to, "%s: %s, driver %s (%s), CUDA %d.%d\n\n", dir, state->machine,
                state->driver_version, state->driver_loaded ? "loaded" : "not loaded",
                state->cuda_version / 1000, state->cuda_version % 1000 / 10);
    int r = show_gpus(state, to, err);
    if (r >= 0 && all)
        r = show_mig_devices(copy, to, err);
    if (r >= 0 && all && count_processes(state) > 0) {
        fputc('\n', to);
        r = sim_show_processes(state, to, err);
    }
    if (r >= 0 && all && state->n_armed > 0) {
        fputc('\n', to);
        r = sim_show_faults(state, to, err);
    }
    return r;
}

/* --- JSON ------------------------------------------------------------------------------------ */

/* NULL for an instance that there is not. */
static json_t *json_instance(uint32_t id)
{
    return id == SIM_NO_INSTANCE ? json_null() : json_integer(id);
}

static json_t *json_mig_devices(struct sim_state *state, uint32_t index)
{
    json_t *list = json_array();
    struct sim_mig_device device;

    for (uint32_t i = 0; sim_mig_device_at(&state->gpus[index], i, &device) == 0; i++) {
        char profile[32];

        sim_mig_device_profile(&device, profile);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:I, s:I}", "uuid", device.ci->uuid,
                            "profile", profile, "gpuInstance", (int)device.gi->id,
                            "computeInstance", (int)device.ci->id, "start", (int)device.gi->start,
                            "size", (int)device.gi->size, "memoryMiB",
                            (json_int_t)device.gpu->profiles[device.gi->profile].memory_mib,
                            "memoryUsedMiB",
                            (json_int_t)mib(sim_gpu_memory_held(state, index, device.gi->id))));
    }
    return list;
}

static json_t *json_gpu(struct sim_state *state, uint32_t index)
{
    const struct sim_gpu *gpu = &state->gpus[index];
    struct sim_load load;
    char bus[32], word[32];
    uint32_t links = 0;

    for (uint32_t i = 0; i < gpu->n_links && i < SIM_MAX_LINKS; i++)
        links += gpu->links[i].active;
    sim_gpu_load(state, index, SIM_NO_INSTANCE, &load);
    bus_id(gpu, bus);
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:i, s:f, s:f, s:i, s:i, s:s, "
                     "s:b, s:b, s:b, "
                     "s:b, s:b, s:o}",
                     "index", (int)index, "model", gpu->model, "name", gpu->name, "uuid", gpu->uuid,
                     "serial", gpu->serial, "busId", bus, "numaNode", (int)gpu->numa_node,
                     "memoryMiB", (json_int_t)mib(gpu->memory_bytes), "memoryUsedMiB",
                     (json_int_t)mib(sim_gpu_memory_held(state, index, SIM_NO_INSTANCE)),
                     "utilizationPercent", (int)load.sm_pct, "powerWatts", gpu->power_mw / 1000.0,
                     "powerLimitWatts", gpu->power_limit_mw / 1000.0, "temperatureCelsius",
                     (int)gpu->temperature_c, "nvlinks", (int)links, "state", health(gpu, word),
                     "lost", (int)gpu->lost, "hung", (int)gpu->hung, "migCapable",
                     (int)gpu->mig_capable, "migEnabled", (int)gpu->mig_current, "migPending",
                     (int)gpu->mig_pending, "migDevices", json_mig_devices(state, index));
}

static json_t *json_processes(const struct sim_state *state)
{
    json_t *list = json_array();

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        const struct sim_process *process = &state->processes[i];

        if (process->exists)
            json_array_append_new(
                list, json_pack("{s:I, s:i, s:o, s:o, s:s, s:I, s:i, s:s}", "pid",
                                (json_int_t)process->pid, "gpu", (int)process->gpu, "gpuInstance",
                                json_instance(process->gi_id), "computeInstance",
                                json_instance(process->ci_id), "kind", process_kind(process),
                                "memoryMiB", (json_int_t)mib(process->memory_bytes), "smPercent",
                                (int)process->sm_pct, "name", process->name));
    }
    return list;
}

static json_t *json_faults(const struct sim_state *state)
{
    json_t *list = json_array();

    for (size_t i = 0; i < SIM_MAX_FAULTS; i++) {
        const struct sim_fault *fault = &state->faults[i];

        if (fault->armed)
            json_array_append_new(
                list,
                json_pack("{s:s, s:o, s:I, s:I, s:I, s:I, s:s, s:o}", "call", fault->call, "gpu",
                          fault->gpu < 0 ? json_null() : json_integer(fault->gpu), "after",
                          (json_int_t)fault->after, "times", (json_int_t)fault->times, "struck",
                          (json_int_t)fault->struck, "code", (json_int_t)fault->code, "codeName",
                          sim_code_name(fault->code), "hangMs",
                          fault->hang_ms == SIM_FOREVER ? json_string("forever")
                                                        : json_integer(fault->hang_ms)));
    }
    return list;
}

json_t *sim_show_json(const struct sim_state *state, const char *dir)
{
    auto_free struct sim_state *copy = malloc(sizeof(*copy));
    json_t *gpus = copy ? json_array() : NULL;
    char cuda[32];

    if (!gpus)
        return NULL;
    memcpy(copy, state, sizeof(*copy));
    for (uint32_t i = 0; i < state->n_gpus; i++)
        json_array_append_new(gpus, json_gpu(copy, i));
    snprintf(cuda, sizeof(cuda), "%d.%d", state->cuda_version / 1000,
             state->cuda_version % 1000 / 10);
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:o, s:o, s:o}", "directory", dir, "machine",
                     state->machine, "driver", state->driver_version, "cuda", cuda, "driverLoaded",
                     (int)state->driver_loaded, "calls", (json_int_t)state->n_calls, "gpus", gpus,
                     "processes", json_processes(state), "faults", json_faults(state));
}
