#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "cli/picture.h"
#include "cli/table.h"
#include "cli/try.h"
#include "kubelet/messages.h"

#define ALLOCATION_ANNOTATION "tranche.dev/allocation"
#define DEVICES_ANNOTATION    "tranche.dev/devices"
#define NODE_NAME             "try"

enum { MAX_CELLS = 256, DEFAULT_WIDTH = 100 };

/* ---- who holds what ---- */

/* The pod that holds a device of this physical id and replica ("GPU-…::3", or without replica). */
static const char *holder_of(const struct try_report *report, const char *id)
{
    for (const struct sim_grant *g = sim_kubelet_next_grant(report->node->kubelet, NULL); g;
         g = sim_kubelet_next_grant(report->node->kubelet, g))
        for (size_t i = 0; i < g->n_ids; i++) {
            if (!text_equal(g->ids[i], id))
                continue;
            for (size_t p = 0; p < report->n_pods; p++)
                if (text_equal(report->pods[p].object->sim.uid, g->pod_uid) &&
                    report->pods[p].phase == TRY_RUNNING)
                    return report->pods[p].object->sim.name;
        }
    return NULL;
}

/* ---- the container's answer as JSON ---- */

static json_t *pairs_json(const struct name_value *pairs, size_t n)
{
    json_t *object = json_object();

    for (size_t i = 0; i < n; i++)
        json_object_set_new(object, pairs[i].name, json_string(pairs[i].value));
    return object;
}

/* Of lists: what is not there yet. */
static void merge_list(json_t *into, const char *name, json_t *list)
{
    json_t *section = json_object_get(into, name), *item, *other;
    size_t i, k;

    if (!section)
        json_object_set_new(into, name, section = json_array());
    json_array_foreach(list, i, item)
    {
        bool known = false;

        json_array_foreach(section, k, other) known = known || json_equal(item, other);
        if (!known)
            json_array_append(section, item);
    }
    json_decref(list);
}

static void merge_pairs(json_t *into, const char *name, const struct name_value *pairs, size_t n)
{
    auto_(json_decrefp) json_t *object = pairs_json(pairs, n);
    json_t *section = json_object_get(into, name);

    if (!section)
        json_object_set_new(into, name, section = json_object());
    json_object_update_missing(section, object);
}

/* Adds one answer to what the container has. Of what two resources set, a kubelet takes the first,
 * in an order that is chance; here it is the order of allocation. */
static void merge_allocation(json_t *into, const struct allocation *a)
{
    json_t *mounts = json_array(), *devices = json_array(), *cdi_devices = json_array();

    for (size_t i = 0; i < a->n_mounts; i++)
        json_array_append_new(mounts, json_pack("{s:s, s:s, s:b}", "container_path",
                                                a->mounts[i].container_path, "host_path",
                                                a->mounts[i].host_path, "read_only",
                                                a->mounts[i].read_only));
    for (size_t i = 0; i < a->n_devices; i++)
        json_array_append_new(devices, json_pack("{s:s, s:s, s:s}", "container_path",
                                                 a->devices[i].container_path, "host_path",
                                                 a->devices[i].host_path, "permissions",
                                                 a->devices[i].permissions));
    for (size_t i = 0; i < a->n_cdi_devices; i++)
        json_array_append_new(cdi_devices, json_pack("{s:s}", "name", a->cdi_devices[i]));
    if (a->n_envs > 0)
        merge_pairs(into, "envs", a->envs, a->n_envs);
    if (a->n_annotations > 0)
        merge_pairs(into, "annotations", a->annotations, a->n_annotations);
    struct {
        const char *name;
        json_t *list;
    } lists[] = { { "mounts", mounts }, { "devices", devices }, { "cdi_devices", cdi_devices } };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        if (json_array_size(lists[i].list) > 0)
            merge_list(into, lists[i].name, lists[i].list);
        else
            json_decref(lists[i].list);
}

/* {container: ContainerAllocateResponse}, and {container: {resource: [ids]}}. */
static void add_grants(const struct try_report *report, const char *uid, json_t *allocations,
                       json_t *devices)
{
    for (const struct sim_grant *g = sim_kubelet_next_grant(report->node->kubelet, NULL); g;
         g = sim_kubelet_next_grant(report->node->kubelet, g)) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
        struct allocation *allocation;
        json_t *answer, *held, *ids;

        if (!text_equal(g->pod_uid, uid) ||
            allocation_decode(g->response, &arena, &allocation, NULL) < 0)
            continue;
        answer = json_object_get(allocations, g->container);
        if (!answer)
            json_object_set_new(allocations, g->container, answer = json_object());
        merge_allocation(answer, allocation);
        held = json_object_get(devices, g->container);
        if (!held)
            json_object_set_new(devices, g->container, held = json_object());
        json_object_set_new(held, g->resource, ids = json_array());
        for (size_t i = 0; i < g->n_ids; i++)
            json_array_append_new(ids, json_string(g->ids[i]));
    }
}

/* ---- objects ---- */

static void set_compact(json_t *annotations, const char *key, const json_t *value)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(16));

    if (json_object_size(value) > 0 && json_to_text(value, 0, &text) >= 0)
        json_object_set_new(annotations, key, json_string(buf_text(&text)));
}

/* A copy of a part of the manifest, or an empty object. */
static json_t *copied(const struct value *value)
{
    json_t *json = NULL;

    return value && json_from_value(value, &json, NULL) == 0 ? json : json_object();
}

static json_t *conditions_json(const struct try_pod *pod)
{
    bool scheduled = pod->phase != TRY_PENDING;
    json_t *condition =
        json_pack("{s:s, s:s}", "type", "PodScheduled", "status", scheduled ? "True" : "False");

    if (!scheduled) {
        json_object_set_new(condition, "reason",
                            json_string(pod->reason ? pod->reason : "Unschedulable"));
        json_object_set_new(condition, "message", json_string(pod->message ? pod->message : ""));
    }
    return json_pack("[o]", condition);
}

static json_t *pod_json(const struct try_report *report, const struct try_pod *pod)
{
    const struct pod_object *object = pod->object;
    json_t *metadata = copied(object->metadata), *spec = copied(object->spec);
    json_t *annotations = json_object_get(metadata, "annotations");
    auto_(json_decrefp) json_t *allocations = json_object(), *devices = json_object();
    json_t *status = json_pack("{s:s, s:o}", "phase", try_phase_names[pod->phase], "conditions",
                               conditions_json(pod));

    json_object_set_new(metadata, "name", json_string(object->sim.name));
    json_object_set_new(metadata, "namespace", json_string(object->sim.namespace));
    json_object_set_new(metadata, "uid", json_string(object->sim.uid));
    if (object->owner)
        json_object_set_new(metadata, "ownerReferences",
                            json_pack("[{s:s, s:s, s:s, s:b}]", "apiVersion", "apps/v1", "kind",
                                      "ReplicaSet", "name", object->owner, "controller", 1));
    if (pod->phase != TRY_PENDING)
        json_object_set_new(spec, "nodeName", json_string(NODE_NAME));
    if (pod->phase == TRY_FAILED) {
        json_object_set_new(status, "reason", json_string(pod->reason));
        json_object_set_new(status, "message", json_string(pod->message));
    }
    if (pod->phase == TRY_RUNNING) {
        add_grants(report, object->sim.uid, allocations, devices);
        if (!json_is_object(annotations))
            json_object_set_new(metadata, "annotations", annotations = json_object());
        set_compact(annotations, ALLOCATION_ANNOTATION, allocations);
        set_compact(annotations, DEVICES_ANNOTATION, devices);
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "apiVersion", "v1", "kind", "Pod", "metadata",
                     metadata, "spec", spec, "status", status);
}

static json_t *event_json(const struct try_pod *pod, size_t n)
{
    const struct sim_pod *sim = &pod->object->sim;
    bool running = pod->phase == TRY_RUNNING, pending = pod->phase == TRY_PENDING;
    const char *reason = running ? "Started" : pending ? "FailedScheduling" : pod->reason;
    const char *message = running ? "Started container" : pod->message ? pod->message : "";
    char name[300];

    /* The event has the kubelet's own words, without what the pod's status puts before them. */
    if (pod->phase == TRY_FAILED && text_starts(message, "Pod was rejected: "))
        message += strlen("Pod was rejected: ");
    snprintf(name, sizeof(name), "%s.%zx", sim->name, n);
    return json_pack(
        "{s:s, s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s, s:s, s:s}, s:s, s:s, s:s, s:i, s:{s:s}}",
        "apiVersion", "v1", "kind", "Event", "metadata", "name", name, "namespace", sim->namespace,
        "involvedObject", "apiVersion", "v1", "kind", "Pod", "name", sim->name, "namespace",
        sim->namespace, "uid", sim->uid, "reason", reason, "message", message, "type",
        running ? "Normal" : "Warning", "count", 1, "source", "component",
        pending ? "default-scheduler" : "kubelet");
}

static void set_count(json_t *object, const char *key, uint32_t count)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", count);
    json_object_set_new(object, key, json_string(text));
}

static json_t *node_json(const struct try_report *report)
{
    json_t *labels = json_object(), *taints = json_array();
    json_t *capacity = json_object(), *allocatable = json_object();
    size_t n;
    const struct sim_capacity *lines = sim_kubelet_capacity(report->node->kubelet, &n);

    for (size_t i = 0; i < report->node->n_labels; i++)
        json_object_set_new(labels, report->node->labels[i].key,
                            json_string(report->node->labels[i].value));
    for (size_t i = 0; i < report->options->n_taints; i++) {
        const struct taint *taint = &report->options->taints[i];

        json_array_append_new(taints, json_pack("{s:s, s:s, s:s}", "key", taint->key, "value",
                                                taint->value, "effect", taint->effect));
    }
    for (size_t i = 0; i < n; i++) {
        set_count(capacity, lines[i].resource, lines[i].capacity);
        set_count(allocatable, lines[i].resource, lines[i].allocatable);
    }
    set_count(capacity, "pods", 110);
    set_count(allocatable, "pods", 110);
    json_t *spec = json_array_size(taints) > 0 ? json_pack("{s:o}", "taints", taints)
                                               : (json_decref(taints), json_object());
    return json_pack("{s:s, s:s, s:{s:s, s:o}, s:o, s:{s:o, s:o, s:[{s:s, s:s}]}}", "apiVersion",
                     "v1", "kind", "Node", "metadata", "name", NODE_NAME, "labels", labels, "spec",
                     spec, "status", "capacity", capacity, "allocatable", allocatable, "conditions",
                     "type", "Ready", "status", "True");
}

/* ---- GPUs: cells for the picture, objects for JSON ---- */

struct gpu_cells {
    uint32_t units;
    size_t n;
    struct picture_cell cells[MAX_CELLS];
};

static void add_cell(struct gpu_cells *cells, struct picture_cell cell)
{
    if (cells->n < MAX_CELLS)
        cells->cells[cells->n++] = cell;
}

static uint32_t replicas_of(const struct try_report *report, const char *physical)
{
    return sim_kubelet_n_replicas(report->node->kubelet, physical);
}

/* The cells of one device: one for each replica, side by side in its place. */
static void add_device(const struct try_report *report, struct gpu_cells *cells,
                       const char *physical, const char *title, uint32_t start, uint32_t span)
{
    uint32_t replicas = replicas_of(report, physical);

    if (replicas == 0) {
        add_cell(cells, (struct picture_cell){ start, span, title, holder_of(report, physical),
                                               true, true });
        return;
    }
    for (uint32_t i = 0; i < replicas; i++) {
        const char *id = arena_printf(report->node->arena, "%s::%u", physical, i);
        const char *name = arena_printf(report->node->arena, "%s%s%u", title, *title ? " " : "", i);

        if (!id || !name)
            return;
        add_cell(cells, (struct picture_cell){ start + i * span, span, name, holder_of(report, id),
                                               true, true });
    }
}

static int by_start(const void *a, const void *b)
{
    const struct picture_cell *left = a, *right = b;

    return left->start < right->start ? -1 : left->start > right->start;
}

/* A MIG device in the place of its GPU instance; of a shared one, how many replicas are taken. */
static void mig_cells(const struct try_report *report, struct sim_gpu *gpu, struct gpu_cells *cells)
{
    struct sim_mig_device device;

    cells->units = gpu->memory_slices;
    for (uint32_t i = 0; sim_mig_device_at(gpu, i, &device) == 0; i++) {
        char name[32];
        const char *holder = holder_of(report, device.ci->uuid);

        sim_mig_device_profile(&device, name);
        const char *title = arena_strdup(report->node->arena, name);
        uint32_t replicas = replicas_of(report, device.ci->uuid), held = 0;
        for (uint32_t k = 0; k < replicas; k++) {
            char id[80];

            snprintf(id, sizeof(id), "%s::%u", device.ci->uuid, k);
            held += holder_of(report, id) != NULL;
        }
        if (replicas > 0)
            holder = arena_printf(report->node->arena, "%u of %u", held, replicas);
        if (title)
            add_cell(cells, (struct picture_cell){ device.gi->start, device.gi->size, title, holder,
                                                   true, true });
    }
    qsort(cells->cells, cells->n, sizeof(cells->cells[0]), by_start);
}

static void gpu_cells(const struct try_report *report, struct sim_gpu *gpu, struct gpu_cells *cells)
{
    struct sim_mig_device device;

    *cells = (struct gpu_cells){};
    if (gpu->mig_current && sim_mig_device_at(gpu, 0, &device) == 0) {
        mig_cells(report, gpu, cells);
        return;
    }
    uint32_t replicas = replicas_of(report, gpu->uuid);
    cells->units = MAX(replicas, 1);
    add_device(report, cells, gpu->uuid,
               replicas > 0       ? "replica"
               : gpu->mig_current ? "MIG, empty"
                                  : "whole GPU",
               0, 1);
}

static json_t *device_json(const struct try_report *report, const char *uuid, const char *profile)
{
    uint32_t replicas = replicas_of(report, uuid);
    json_t *holders = json_array(), *device;

    for (uint32_t i = 0; i < MAX(replicas, 1); i++) {
        char id[80];
        const char *pod;

        snprintf(id, sizeof(id), replicas > 0 ? "%s::%u" : "%s", uuid, i);
        pod = holder_of(report, id);
        if (pod)
            json_array_append_new(holders, json_pack("{s:s, s:s}", "id", id, "pod", pod));
    }
    device = json_pack("{s:s, s:I, s:o}", "uuid", uuid, "replicas", (json_int_t)MAX(replicas, 1),
                       "holders", holders);
    if (profile)
        json_object_set_new(device, "profile", json_string(profile));
    return device;
}

static json_t *gpu_json(const struct try_report *report, struct sim_gpu *gpu, uint32_t index)
{
    json_t *mig = json_array(), *json;
    struct sim_mig_device device;

    for (uint32_t i = 0; gpu->mig_current && sim_mig_device_at(gpu, i, &device) == 0; i++) {
        char name[32];
        json_t *item;

        sim_mig_device_profile(&device, name);
        item = device_json(report, device.ci->uuid, name);
        json_object_set_new(item, "index", json_integer(i));
        json_object_set_new(item, "placement",
                            json_pack("{s:I, s:I}", "start", (json_int_t)device.gi->start, "size",
                                      (json_int_t)device.gi->size));
        json_array_append_new(mig, item);
    }
    json = device_json(report, gpu->uuid, NULL);
    json_object_set_new(json, "index", json_integer(index));
    json_object_set_new(json, "model", json_string(gpu->model));
    json_object_set_new(json, "name", json_string(gpu->name));
    json_object_set_new(json, "memoryMiB", json_integer((json_int_t)(gpu->memory_bytes >> 20)));
    json_object_set_new(json, "numaNode",
                        gpu->numa_node < 0 ? json_null() : json_integer(gpu->numa_node));
    json_object_set_new(json, "migEnabled", json_boolean(gpu->mig_current));
    json_object_set_new(json, "migDevices", mig);
    return json;
}

static int print_json(const struct try_report *report, struct err *err)
{
    json_t *pods = json_array(), *events = json_array(), *gpus = json_array();

    for (size_t i = 0; i < report->n_pods; i++) {
        json_array_append_new(pods, pod_json(report, &report->pods[i]));
        json_array_append_new(events, event_json(&report->pods[i], i + 1));
    }
    for (uint32_t i = 0; i < report->node->state->n_gpus; i++)
        json_array_append_new(gpus, gpu_json(report, &report->node->state->gpus[i], i));
    auto_(json_decrefp) json_t *all = json_pack("{s:o, s:o, s:o, s:o}", "node", node_json(report),
                                                "pods", pods, "events", events, "gpus", gpus);
    return all ? output_print(stdout, report->options->format, all, err) : err_no_memory(err);
}

/* ---- text ---- */

static void heading(const char *text, bool colour)
{
    printf("\n%s%s%s\n", output_style(colour, STYLE_BOLD), text,
           output_unstyle(colour, STYLE_BOLD));
}

static void print_gpus(const struct try_report *report, bool colour)
{
    struct winsize size = {};
    struct picture_style style = { .boxes = output_is_terminal(stdout),
                                   .colour = colour,
                                   .width = DEFAULT_WIDTH };
    struct gpu_cells *cells = arena_new(report->node->arena, struct gpu_cells);

    if (!cells)
        return;
    if (output_is_terminal(stdout) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
        size.ws_col > 0)
        style.width = MIN(size.ws_col, 160);
    for (uint32_t i = 0; i < report->node->state->n_gpus; i++) {
        struct sim_gpu *gpu = &report->node->state->gpus[i];
        char text[192];

        gpu_cells(report, gpu, cells);
        snprintf(text, sizeof(text), "GPU %u  %s  %.1f GiB%s", i, gpu->name,
                 (double)gpu->memory_bytes / (1 << 30), gpu->mig_current ? "  MIG" : "");
        struct picture_gpu picture = { text, cells->units, cells->n, cells->cells };
        picture_print(stdout, &picture, &style);
    }
}

static int print_capacity(const struct try_report *report, bool colour, struct err *err)
{
    auto_(table_done) struct table table = TABLE("RESOURCE", "CAPACITY", "ALLOCATABLE", "IN USE");
    size_t n;
    const struct sim_capacity *lines = sim_kubelet_capacity(report->node->kubelet, &n);

    heading("Node capacity", colour);
    for (size_t i = 0; i < n; i++) {
        uint32_t used = 0;

        for (size_t p = 0; p < report->n_pods; p++)
            if (report->pods[p].phase == TRY_RUNNING)
                used += pod_request(&report->pods[p].object->sim, lines[i].resource);
        table_cell(&table, lines[i].resource);
        table_printf(&table, "%u", lines[i].capacity);
        table_printf(&table, "%u", lines[i].allocatable);
        table_printf(&table, "%u", used);
    }
    if (n == 0) {
        puts("no GPU resources");
        return 0;
    }
    return table_print(&table, stdout, err);
}

static int print_labels(const struct try_report *report, bool colour, struct err *err)
{
    auto_(table_done) struct table table = TABLE("LABEL", "VALUE");

    heading("Node labels", colour);
    for (size_t i = 0; i < report->node->n_labels; i++) {
        table_cell(&table, report->node->labels[i].key);
        table_cell(&table, report->node->labels[i].value);
    }
    return table_print(&table, stdout, err);
}

/* "nvidia.com/gpu: GPU-…::3", one line for each thing a pod holds. */
static size_t add_pod_rows(const struct try_report *report, const struct try_pod *pod,
                           struct table *table)
{
    size_t rows = 0;

    for (const struct sim_grant *g = sim_kubelet_next_grant(report->node->kubelet, NULL); g;
         g = sim_kubelet_next_grant(report->node->kubelet, g)) {
        if (!text_equal(g->pod_uid, pod->object->sim.uid) || pod->phase != TRY_RUNNING)
            continue;
        for (size_t i = 0; i < g->n_ids; i++, rows++) {
            table_cell(table, rows == 0 ? pod->object->sim.name : " ");
            if (rows == 0)
                table_styled(table, STYLE_GOOD, "%s", try_phase_names[pod->phase]);
            else
                table_cell(table, " ");
            table_cell(table, g->container);
            table_cell(table, g->resource);
            table_cell(table, g->ids[i]);
        }
    }
    return rows;
}

/* The scheduler's sentence without its afterword, which says nothing here. */
static void print_refusal(const struct try_pod *pod)
{
    const char *message = pod->message ? pod->message : "";
    const char *end = strstr(message, SCHEDULER_AFTERWORD);

    printf("%s: %s%s%.*s\n", pod->object->sim.name, pod->reason ? pod->reason : "",
           pod->reason ? ": " : "", (int)(end ? (size_t)(end - message) : strlen(message)),
           message);
}

static int print_pods(const struct try_report *report, bool colour, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("POD", "STATUS", "CONTAINER", "RESOURCE", "DEVICE");
    size_t refused = 0;

    if (report->n_pods == 0)
        return 0;
    heading("Pods", colour);
    for (size_t i = 0; i < report->n_pods; i++) {
        const struct try_pod *pod = &report->pods[i];

        if (add_pod_rows(report, pod, &table) > 0)
            continue;
        table_cell(&table, pod->object->sim.name);
        table_styled(&table, pod->phase == TRY_RUNNING ? STYLE_GOOD : STYLE_BAD, "%s",
                     try_phase_names[pod->phase]);
        table_cell(&table, "");
        table_cell(&table, "");
        table_cell(&table, "");
        refused += pod->phase != TRY_RUNNING;
    }
    int r = table_print(&table, stdout, err);
    if (r < 0 || refused == 0)
        return r;
    heading("Refused", colour);
    for (size_t i = 0; i < report->n_pods; i++) {
        const struct try_pod *pod = &report->pods[i];

        if (pod->phase != TRY_RUNNING)
            print_refusal(pod);
    }
    return 0;
}

int try_report_print(const struct try_report *report, struct err *err)
{
    bool colour = output_colour(stdout);

    for (size_t i = 0; i < report->plan->n_notes; i++)
        fprintf(stderr, "note: %s\n", report->plan->notes[i]);
    for (size_t i = 0; i < report->objects->n_notes; i++)
        fprintf(stderr, "note: %s\n", report->objects->notes[i]);
    if (report->options->format != OUTPUT_TEXT)
        return print_json(report, err);
    print_gpus(report, colour);
    int r = print_capacity(report, colour, err);
    if (r == 0)
        r = print_pods(report, colour, err);
    return r < 0 ? r : print_labels(report, colour, err);
}
