#include "gpu/mig_holders.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/devnode.h"
#include "gpu/mig_look.h"
#include "gpu/nvml_table.h"

enum { NAME_SIZE = 33, USUAL_PROCESSES = 64, KINDS = 3 };

/* The processes of one kind on one device. */
struct process_list {
    uint32_t n;
    struct nvml_process_info *items; /* `usual`, or more: owned */
    struct nvml_process_info usual[USUAL_PROCESSES];
};

static void process_list_done(struct process_list *list)
{
    if (list->items != list->usual)
        mem_free(list->items);
}

typedef nvmlReturn_t list_call(nvmlDevice_t device, uint32_t *count,
                               struct nvml_process_info *infos);

/* Processes come while they are counted: room for some more than were told. */
static int list_processes(list_call *call, nvmlDevice_t device, struct process_list *ret,
                          nvmlReturn_t *ret_code, struct err *err)
{
    ret->items = ret->usual;
    ret->n = USUAL_PROCESSES;
    *ret_code = call(device, &ret->n, ret->items);
    if (*ret_code != NVML_INSUFFICIENT_SIZE)
        return 0;

    uint32_t room = MIN(ret->n, (uint32_t)MIG_LOOK_MAX_PROCESSES) + USUAL_PROCESSES;
    struct nvml_process_info *items = mem_alloc(room * sizeof(*items));
    if (!items)
        return err_no_memory(err);
    ret->items = items;
    ret->n = room;
    *ret_code = call(device, &ret->n, items);
    return 0;
}

/* ---- what a process is called ---- */

/* Without the folders of a path: NVML may tell the whole command. */
static void keep_name(const char *text, char name[static NAME_SIZE])
{
    struct span span = span_trim(span_of(text));

    for (size_t i = span.len; i > 0; i--) {
        if (span.ptr[i - 1] == '/' && i < span.len) {
            span = (struct span){ .ptr = span.ptr + i, .len = span.len - i };
            break;
        }
    }
    if (span.len >= NAME_SIZE) { /* between two characters */
        span.len = NAME_SIZE - 1;
        while (span.len > 0 && (span.ptr[span.len] & 0xc0) == 0x80)
            span.len--;
    }
    snprintf(name, NAME_SIZE, SPAN_FMT, SPAN_ARG(span));
    text_make_harmless(name);
}

static void process_name(const struct mig_holders_query *query, uint32_t pid,
                         char name[static NAME_SIZE])
{
    char path[32], text[1024] = "";

    name[0] = '\0';
    snprintf(path, sizeof(path), "proc/%u/comm", pid);
    if (devnode_read(query->root, path, text, sizeof(text)) <= 0 &&
        query->nvml->process_name(pid, text, sizeof(text)) != NVML_SUCCESS)
        return;
    text[sizeof(text) - 1] = '\0';
    keep_name(text, name);
}

static const char *holder_text(const struct mig_holders_query *query, uint32_t pid)
{
    char name[NAME_SIZE];

    process_name(query, pid, name);
    return name[0] ? arena_printf(query->arena, "process %u (%s)", pid, name)
                   : arena_printf(query->arena, "process %u", pid);
}

/* ---- who holds what ---- */

static int hold_ci(const struct mig_holders_query *query, struct mig_compute_instance *ci,
                   uint32_t pid, struct err *err)
{
    if (ci->held_by_process)
        return 0;
    ci->holder = holder_text(query, pid);
    ci->held_by_process = true;
    return ci->holder ? 0 : err_no_memory(err);
}

/* A monitor that opened a whole GPU instance (no compute instance) holds all in it. */
static int hold(const struct mig_holders_query *query, struct mig_gpu *gpu,
                const struct nvml_process_info *process, struct err *err)
{
    if (!gpu->enabled) {
        if (!gpu->holder && !(gpu->holder = holder_text(query, process->pid)))
            return err_no_memory(err);
        return 0;
    }
    for (size_t i = 0; i < gpu->n_gis; i++) {
        struct mig_gpu_instance *gi = &gpu->gis[i];

        for (size_t j = 0; gi->id == process->gpuInstanceId && j < gi->n_cis; j++) {
            if (process->computeInstanceId != NVML_NO_INSTANCE &&
                process->computeInstanceId != gi->cis[j].id)
                continue;
            int r = hold_ci(query, &gi->cis[j], process->pid, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* One device, one kind. *homeless: a process of a GPU with MIG whose instance was not told. */
static int read_kind(const struct mig_holders_query *query, list_call *call, nvmlDevice_t device,
                     struct mig_gpu *gpu, const struct nvml_process_info *place, bool *homeless,
                     nvmlReturn_t *ret_code, struct err *err)
{
    auto_(process_list_done) struct process_list list = { .items = list.usual };

    int r = list_processes(call, device, &list, ret_code, err);
    if (r < 0 || *ret_code != NVML_SUCCESS)
        return r;
    for (uint32_t i = 0; i < list.n; i++) {
        struct nvml_process_info process = list.items[i];

        if (place) {
            process.gpuInstanceId = place->gpuInstanceId;
            process.computeInstanceId = place->computeInstanceId;
        }
        *homeless |= gpu->enabled && process.gpuInstanceId == NVML_NO_INSTANCE;
        r = hold(query, gpu, &process, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static bool means_ask_elsewhere(nvmlReturn_t code)
{
    return code == NVML_NO_PERMISSION || code == NVML_NOT_SUPPORTED;
}

/* Each MIG device by itself. */
static int read_devices(const struct mig_holders_query *query, list_call *call, struct mig_gpu *gpu,
                        nvmlReturn_t *ret_code, struct err *err)
{
    bool homeless = false; /* here everybody has a home */

    for (size_t i = 0; i < gpu->n_gis; i++) {
        for (size_t j = 0; j < gpu->gis[i].n_cis; j++) {
            const struct nvml_process_info place = {
                .gpuInstanceId = gpu->gis[i].id,
                .computeInstanceId = gpu->gis[i].cis[j].id,
            };
            int r = read_kind(query, call, query->mig[i][j], gpu, &place, &homeless, ret_code, err);
            if (r < 0 || (*ret_code != NVML_SUCCESS && !means_ask_elsewhere(*ret_code)))
                return r;
        }
    }
    *ret_code = NVML_SUCCESS;
    return 0;
}

int mig_holders_read(const struct mig_holders_query *query, struct mig_gpu *gpu,
                     nvmlReturn_t *ret_code, struct err *err)
{
    list_call *const calls[KINDS] = {
        query->nvml->compute_processes,
        query->nvml->graphics_processes,
        query->nvml->mps_processes,
    };

    for (size_t i = 0; i < KINDS; i++) {
        bool homeless = false;
        int r = read_kind(query, calls[i], query->device, gpu, NULL, &homeless, ret_code, err);

        if (r == 0 && gpu->enabled && (homeless || means_ask_elsewhere(*ret_code)))
            r = read_devices(query, calls[i], gpu, ret_code, err);
        if (means_ask_elsewhere(*ret_code))
            *ret_code = NVML_SUCCESS;
        if (r < 0)
            return r;
        if (*ret_code != NVML_SUCCESS)
            return 0;
    }
    return 0;
}
