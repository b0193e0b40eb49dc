#include "sim/gpu/control.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/buf.h"
#include "base/text.h"
#include "sim/gpu/event.h"
#include "sim/gpu/mig.h"

/* --- which GPU ------------------------------------------------------------------------------- */

static bool same_place(const struct sim_gpu *gpu, const char *word)
{
    unsigned domain, bus, device, function = 0;
    int end = 0;

    if (sscanf(word, "%8x:%2x:%2x%n", &domain, &bus, &device, &end) != 3)
        return false;
    if (word[end] != '\0' && sscanf(word + end, ".%1x", &function) != 1)
        return false;
    return domain == gpu->pci_domain && bus == gpu->pci_bus && device == gpu->pci_device &&
           function == 0;
}

int sim_gpu_find(const struct sim_state *state, const char *word, uint32_t *ret, struct err *err)
{
    uint64_t index;

    if (text_to_u64(span_of(word), &index) >= 0 && index < state->n_gpus) {
        *ret = (uint32_t)index;
        return 0;
    }
    for (uint32_t i = 0; i < state->n_gpus; i++) {
        if (strcasecmp(state->gpus[i].uuid, word) == 0 || same_place(&state->gpus[i], word)) {
            *ret = i;
            return 0;
        }
    }
    if (state->n_gpus == 0)
        return err_set(err, EINVAL, "there is no GPU \"%.80s\": the node has none", word);
    return err_set(err, EINVAL,
                   "there is no GPU \"%.80s\": say an index from 0 to %u, a UUID or a PCI bus id",
                   word, state->n_gpus - 1);
}

/* --- events ---------------------------------------------------------------------------------- */

static int check_instance(struct sim_gpu *gpu, uint32_t gi, uint32_t ci, struct err *err)
{
    struct sim_gpu_instance *instance = gi == SIM_NO_INSTANCE ? NULL : sim_gi_by_id(gpu, gi);

    if (gi == SIM_NO_INSTANCE && ci != SIM_NO_INSTANCE)
        return err_set(err, EINVAL, "a compute instance needs its GPU instance");
    if (gi != SIM_NO_INSTANCE && !instance)
        return err_set(err, EINVAL, "%s has no GPU instance %u", gpu->uuid, gi);
    if (ci != SIM_NO_INSTANCE && !sim_ci_by_id(instance, ci))
        return err_set(err, EINVAL, "GPU instance %u of %s has no compute instance %u", gi,
                       gpu->uuid, ci);
    return 0;
}

/* What an Xid leaves behind besides its event. */
static void leave_traces(struct sim_gpu *gpu, uint32_t xid)
{
    enum { DOUBLE_BIT = 48, REMAPPED = 63, REMAP_FAILED = 64, SINGLE_BITS = 92 };
    enum { CONTAINED = 94, UNCONTAINED = 95, ACTION_RESET = 1 };

    if (xid == SINGLE_BITS) {
        gpu->ecc_corrected[0]++;
        gpu->ecc_corrected[1]++;
    }
    if (xid == DOUBLE_BIT || xid == CONTAINED || xid == UNCONTAINED) {
        gpu->ecc_uncorrected[0]++;
        gpu->ecc_uncorrected[1]++;
    }
    if (xid == REMAPPED) {
        gpu->remapped_uncorrectable++;
        gpu->remap_pending = true;
    }
    if (xid == REMAP_FAILED)
        gpu->remap_failed = true;
    if (xid == DOUBLE_BIT || xid == UNCONTAINED || xid == REMAP_FAILED)
        gpu->recovery_action = ACTION_RESET;
}

int sim_xid(struct sim_state *state, uint32_t index, uint32_t xid, uint32_t gi, uint32_t ci,
            struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[index];

    int r = check_instance(gpu, gi, ci, err);
    if (r < 0)
        return r;
    if (xid == SIM_XID_FELL_OFF_BUS) {
        sim_lose(state, index);
        return 0;
    }
    leave_traces(gpu, xid);
    sim_event_raise(state, gpu, SIM_EVENT_XID, xid, gi, ci);
    return 0;
}

void sim_lose(struct sim_state *state, uint32_t index)
{
    struct sim_gpu *gpu = &state->gpus[index];

    sim_gpu_advance(state, index);
    if (gpu->lost)
        return;
    sim_event_gpu_lost(state, gpu);
}

void sim_return(struct sim_state *state, uint32_t index)
{
    struct sim_gpu *gpu = &state->gpus[index];

    sim_gpu_advance(state, index);
    gpu->lost = gpu->hung = false;
    gpu->recovery_action = 0;
    sim_state_changed(state);
}

/* --- processes ------------------------------------------------------------------------------- */

static struct sim_process *process_find(struct sim_state *state, const struct sim_process *like)
{
    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        struct sim_process *process = &state->processes[i];

        if (process->exists && process->pid == like->pid && process->gpu == like->gpu &&
            process->gi_id == like->gi_id && process->ci_id == like->ci_id)
            return process;
    }
    return NULL;
}

static struct sim_process *process_slot(struct sim_state *state)
{
    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        if (!state->processes[i].exists)
            return &state->processes[i];
    }
    return NULL;
}

/* Is there memory left for it, on the GPU or in the GPU instance it runs on? */
static int check_memory(struct sim_state *state, const struct sim_process *process,
                        const struct sim_process *old, struct err *err)
{
    struct sim_gpu *gpu = &state->gpus[process->gpu];
    uint64_t total = gpu->memory_bytes - gpu->memory_reserved_bytes;
    uint64_t held = sim_gpu_memory_held(state, process->gpu, process->gi_id);

    if (process->gi_id != SIM_NO_INSTANCE)
        total = gpu->profiles[sim_gi_by_id(gpu, process->gi_id)->profile].memory_mib << 20;
    held -= old ? old->memory_bytes : 0;
    if (process->memory_bytes <= total && held <= total - process->memory_bytes)
        return 0;
    return err_set(err, ENOMEM, "%llu MiB are more than the %llu MiB that are free on %s",
                   (unsigned long long)(process->memory_bytes >> 20),
                   (unsigned long long)(held < total ? (total - held) >> 20 : 0), gpu->uuid);
}

static int check_process(struct sim_state *state, const struct sim_process *process,
                         const struct sim_process *old, struct err *err)
{
    if (process->gpu >= state->n_gpus)
        return err_set(err, EINVAL, "there is no GPU %u", process->gpu);

    struct sim_gpu *gpu = &state->gpus[process->gpu];
    const uint32_t shares[] = { process->sm_pct,      process->memory_pct, process->encoder_pct,
                                process->decoder_pct, process->jpeg_pct,   process->ofa_pct };

    if (process->pid == 0)
        return err_set(err, EINVAL, "a process id is at least 1");
    if (process->kind > 2)
        return err_set(err, EINVAL, "a process is of kind compute, graphics or mps");
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        if (shares[i] > 100)
            return err_set(err, EINVAL, "a share of %u %% is above 100 %%", shares[i]);
    }
    if (gpu->lost)
        return err_set(err, ENODEV, "%s is lost", gpu->uuid);
    if (gpu->mig_current && process->gi_id == SIM_NO_INSTANCE)
        return err_set(err, EINVAL,
                       "%s is partitioned: a process runs on one of its instances (--gi, --ci)",
                       gpu->uuid);
    int r = check_instance(gpu, process->gi_id, process->ci_id, err);
    return r < 0 ? r : check_memory(state, process, old, err);
}

int sim_process_add(struct sim_state *state, const struct sim_process *process, struct err *err)
{
    struct sim_process *slot = process_find(state, process);

    int r = check_process(state, process, slot, err);
    if (r < 0)
        return r;
    if (!slot)
        slot = process_slot(state);
    if (!slot)
        return err_set(err, ENOSPC, "the node already runs %d processes", SIM_MAX_PROCESSES);
    sim_gpu_advance(state, process->gpu);
    slot->exists = false; /* nobody who takes the lock over finds half a process */
    struct sim_process added = *process;
    added.exists = false;
    added.name[sizeof(added.name) - 1] = '\0';
    *slot = added;
    slot->exists = true;
    sim_state_changed(state);
    return 0;
}

int sim_process_remove(struct sim_state *state, uint32_t pid, uint32_t gpu, struct err *err)
{
    bool found = false;

    for (size_t i = 0; i < SIM_MAX_PROCESSES; i++) {
        struct sim_process *process = &state->processes[i];

        if (!process->exists || process->pid != pid || (gpu != SIM_MAX_GPUS && process->gpu != gpu))
            continue;
        sim_gpu_advance(state, process->gpu);
        process->exists = false;
        found = true;
    }
    if (!found)
        return err_set(err, ENOENT, "no process %u runs %s", pid,
                       gpu == SIM_MAX_GPUS ? "on this node" : "on this GPU");
    sim_state_changed(state);
    return 0;
}

/* --- faults ---------------------------------------------------------------------------------- */

static const char *const calls[] = {
#define NVML_CALL(name, parameters) #name,
#define NVML_REFUSED(name)          #name,
#include "sim/gpu/nvml_calls.def"
#undef NVML_CALL
#undef NVML_REFUSED
};

static int check_call(const char *call, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        if (text_matches(call, calls[i]))
            return 0;
    }
    if (strchr(call, '*'))
        return err_set(err, EINVAL, "no NVML call matches \"%.63s\"", call);

    const char *near = text_nearest(call, calls, ARRAY_LEN(calls));
    if (near)
        return err_set(err, EINVAL, "there is no NVML call \"%.63s\"; did you mean \"%s\"?", call,
                       near);
    return err_set(err, EINVAL, "there is no NVML call \"%.63s\"", call);
}

int sim_fault_add(struct sim_state *state, const struct sim_fault *fault, struct err *err)
{
    int r = check_call(fault->call, err);

    if (r < 0)
        return r;
    if (fault->gpu >= 0 && (uint32_t)fault->gpu >= state->n_gpus)
        return err_set(err, EINVAL, "there is no GPU %d", fault->gpu);
    if (fault->code == 0 && fault->hang_ms == 0)
        return err_set(err, EINVAL,
                       "a fault that neither fails nor hangs is none: give it a code, "
                       "or a time to hang");
    for (size_t i = 0; i < SIM_MAX_FAULTS; i++) {
        struct sim_fault *slot = &state->faults[i];

        if (slot->armed)
            continue;
        *slot = *fault;
        slot->armed = false;
        slot->struck = 0;
        slot->number = ++state->n_faults;
        slot->armed = true;
        state->n_armed++;
        sim_state_changed(state);
        return 0;
    }
    return err_set(err, ENOSPC, "%d faults are armed already", SIM_MAX_FAULTS);
}

uint32_t sim_fault_clear(struct sim_state *state)
{
    uint32_t n = 0;

    for (size_t i = 0; i < SIM_MAX_FAULTS; i++) {
        n += state->faults[i].armed;
        state->faults[i].armed = false;
    }
    state->n_armed = 0;
    sim_state_changed(state);
    return n;
}

/* Names of spec/nvml §6, by number. */
static const char *const code_names[] = {
    "SUCCESS",
    "UNINITIALIZED",
    "INVALID_ARGUMENT",
    "NOT_SUPPORTED",
    "NO_PERMISSION",
    "ALREADY_INITIALIZED",
    "NOT_FOUND",
    "INSUFFICIENT_SIZE",
    "INSUFFICIENT_POWER",
    "DRIVER_NOT_LOADED",
    "TIMEOUT",
    "IRQ_ISSUE",
    "LIBRARY_NOT_FOUND",
    "FUNCTION_NOT_FOUND",
    "CORRUPTED_INFOROM",
    "GPU_IS_LOST",
    "RESET_REQUIRED",
    "OPERATING_SYSTEM",
    "LIB_RM_VERSION_MISMATCH",
    "IN_USE",
    "MEMORY",
    "NO_DATA",
    "VGPU_ECC_NOT_SUPPORTED",
    "INSUFFICIENT_RESOURCES",
    "FREQ_NOT_SUPPORTED",
    "ARGUMENT_VERSION_MISMATCH",
    "DEPRECATED",
    "NOT_READY",
    "GPU_NOT_FOUND",
    "INVALID_STATE",
    "RESET_TYPE_NOT_SUPPORTED",
};

enum { CODE_UNKNOWN = 999 };

const char *sim_code_name(uint32_t code)
{
    return code < ARRAY_LEN(code_names) ? code_names[code] : "UNKNOWN";
}

int sim_code_parse(const char *word, uint32_t *ret, struct err *err)
{
    static const char *const prefixes[] = { "NVML_ERROR_", "NVML_", "ERROR_" };
    const char *name = word;
    uint64_t number;

    if (text_to_u64(span_of(word), &number) >= 0) {
        if (number >= ARRAY_LEN(code_names) && number != CODE_UNKNOWN)
            return err_set(err, EINVAL, "NVML has no code %s", word);
        *ret = (uint32_t)number;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (strncasecmp(word, prefixes[i], strlen(prefixes[i])) == 0) {
            name = word + strlen(prefixes[i]);
            break;
        }
    }
    if (strcasecmp(name, "UNKNOWN") == 0) {
        *ret = CODE_UNKNOWN;
        return 0;
    }
    for (uint32_t i = 0; i < ARRAY_LEN(code_names); i++) {
        if (strcasecmp(name, code_names[i]) == 0) {
            *ret = i;
            return 0;
        }
    }

    char upper[64];
    snprintf(upper, sizeof(upper), "%s", name);
    for (char *c = upper; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    const char *near = text_nearest(upper, code_names, ARRAY_LEN(code_names));
    if (near)
        return err_set(err, EINVAL, "NVML has no code \"%.60s\"; did you mean %s?", word, near);
    return err_set(err, EINVAL, "NVML has no code \"%.60s\"", word);
}
