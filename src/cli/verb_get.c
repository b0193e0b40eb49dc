/*
 * tranche get gpus|devices|resources|labels: what is on this node, and what would be offered.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cli/node.h"
#include "cli/table.h"
#include "cli/verbs.h"

enum { EXIT_MISUSED = 2 };

static const char help_head[] =
    "Usage: tranche get gpus|devices|resources|labels [-o FORMAT] [flags]\n"
    "\n"
    "  gpus       the GPUs of this node and their MIG devices\n"
    "  devices    every device that the kubelet would be offered, with its id\n"
    "  resources  the extended resources that they make up\n"
    "  labels     the node's labels, without nvidia.com/gfd.timestamp\n"
    "\n";

static const char help_tail[] = "\n"
                                "Exit status: 0 done, 1 failed, 2 misused.\n"
                                "\n"
                                "Examples:\n"
                                "  tranche get gpus\n"
                                "  tranche get devices --mig-strategy mixed\n"
                                "  tranche get resources --config-file time-slicing.yaml -o yaml\n"
                                "  tranche sim create --gpus 8xh100-80gb --dir /tmp/node && \\\n"
                                "      TRANCHE_SIM=/tmp/node tranche get labels\n";

/* ---- gpus ---- */

static void add_memory(struct table *table, struct reading bytes)
{
    if (bytes.known)
        table_printf(table, "%" PRIu64 " MiB", bytes.value >> 20);
    else
        table_cell(table, NULL);
}

static void add_number(struct table *table, struct reading reading)
{
    if (reading.known)
        table_printf(table, "%" PRIu64, reading.value);
    else
        table_cell(table, NULL);
}

static void add_health(struct table *table, const char *reason)
{
    table_styled(table, reason ? STYLE_BAD : STYLE_GOOD, "%s", reason ? reason : "healthy");
}

static void add_mig_mode(struct table *table, const struct gpu *gpu)
{
    static const char *const words[2][2] = { { "off", "off, on after a reset" },
                                             { "on, off after a reset", "on" } };

    table_cell(table, gpu->mig_capable ? words[gpu->mig_enabled][gpu->mig_pending] : NULL);
}

static void add_gpu(struct table *table, const struct gpu *gpu)
{
    table_printf(table, "%u", gpu->index);
    table_cell(table, gpu->name);
    table_cell(table, gpu->uuid);
    add_memory(table, gpu->memory_bytes);
    add_mig_mode(table, gpu);
    add_number(table, gpu->numa_node);
    table_cell(table, gpu->bus_id);
    add_health(table, gpu->unhealthy_reason);

    for (size_t i = 0; i < gpu->n_mig_devices; i++) {
        const struct mig_device *mig = &gpu->mig_devices[i];
        table_printf(table, "%u:%u", gpu->index, mig->index);
        table_printf(table, "  MIG %s", mig->profile);
        table_cell(table, mig->uuid);
        table_printf(table, "%" PRIu64 " MiB", mig->attributes.memory_mib);
        table_printf(table, "instance %u/%u", mig->gi_id, mig->ci_id);
        table_cell(table, NULL);
        table_cell(table, NULL);
        add_health(table, gpu->unhealthy_reason ? gpu->unhealthy_reason : mig->unhealthy_reason);
    }
}

static int print_gpus(struct node *node, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("GPU", "NAME", "UUID", "MEMORY", "MIG", "NUMA", "BUS ID", "HEALTH");
    const struct inventory *inventory = node->inventory;

    for (size_t i = 0; i < inventory->n_gpus; i++)
        add_gpu(&table, &inventory->gpus[i]);
    for (size_t i = 0; i < inventory->n_problems; i++) {
        table_printf(&table, "%u", inventory->problems[i].index);
        for (size_t j = 0; j < table.n_columns - 2; j++)
            table_cell(&table, NULL);
        table_styled(&table, STYLE_BAD, "%s", inventory->problems[i].text);
    }
    return table_print(&table, stdout, err);
}

static int get_gpus(struct node *node, json_t **ret, struct err *err)
{
    if (node->format == OUTPUT_TEXT)
        return print_gpus(node, err);
    *ret = node_gpus_json(node->inventory);
    return 0;
}

/* ---- devices ---- */

static int print_devices(const struct resource_set *set, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("RESOURCE", "DEVICE", "INDEX", "PROFILE", "NUMA", "HEALTH");

    for (size_t i = 0; i < set->n_resources; i++) {
        for (size_t j = 0; j < set->resources[i].n_devices; j++) {
            const struct device *device = &set->resources[i].devices[j];
            table_cell(&table, set->resources[i].name);
            table_cell(&table, device->id);
            table_cell(&table, device->index);
            table_cell(&table, device->mig ? device->mig->profile : NULL);
            add_number(&table, device->gpu ? device->gpu->numa_node : (struct reading){});
            add_health(&table, node_reason(device));
        }
    }
    return table_print(&table, stdout, err);
}

static void tell_resource_warnings(const struct resource_set *set)
{
    for (size_t i = 0; i < set->n_warnings; i++)
        fprintf(stderr, "warning: %s\n", set->warnings[i].text);
}

static int get_devices(struct node *node, json_t **ret, struct err *err)
{
    struct resource_set *set;

    int r = node_resources(node, &set, err);
    if (r < 0)
        return r;
    tell_resource_warnings(set);
    if (node->format == OUTPUT_TEXT)
        return print_devices(set, err);
    *ret = node_devices_json(set);
    return 0;
}

/* ---- resources ---- */

static int print_resources(const struct resource_set *set, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("RESOURCE", "DEVICES", "HEALTHY", "SHARING", "REPLICAS");

    for (size_t i = 0; i < set->n_resources; i++) {
        const struct resource *resource = &set->resources[i];
        size_t healthy = node_count_healthy(resource);
        table_cell(&table, resource->name);
        table_printf(&table, "%zu", resource->n_devices);
        table_styled(&table, healthy < resource->n_devices ? STYLE_BAD : STYLE_GOOD, "%zu",
                     healthy);
        table_cell(&table,
                   sharing_strategy_names[resource->shared ? resource->sharing : SHARING_NONE]);
        table_printf(&table, "%u", resource->n_devices ? resource->devices[0].replicas : 0);
    }
    return table_print(&table, stdout, err);
}

static int get_resources(struct node *node, json_t **ret, struct err *err)
{
    struct resource_set *set;

    int r = node_resources(node, &set, err);
    if (r < 0)
        return r;
    tell_resource_warnings(set);
    if (node->format == OUTPUT_TEXT)
        return print_resources(set, err);
    *ret = node_resources_json(set);
    return 0;
}

/* ---- labels ---- */

static int print_labels(const struct label_set *labels, struct err *err)
{
    auto_(table_done) struct table table = TABLE("LABEL", "VALUE");

    for (size_t i = 0; i < labels->n; i++) {
        table_cell(&table, labels->items[i].key);
        table_cell(&table, labels->items[i].value);
    }
    return table_print(&table, stdout, err);
}

static int get_labels(struct node *node, json_t **ret, struct err *err)
{
    struct label_set *labels;

    int r = node_labels(node, &labels, err);
    if (r < 0)
        return r;
    if (node->inventory->vgpu.problem)
        fprintf(stderr, "warning: %s\n", node->inventory->vgpu.problem);
    for (size_t i = 0; i < labels->n_warnings; i++)
        fprintf(stderr, "warning: %s\n", labels->warnings[i]);
    if (node->format == OUTPUT_TEXT)
        return print_labels(labels, err);
    *ret = node_labels_json(labels);
    return 0;
}

/* ---- the verb ---- */

static const struct thing {
    const char *name, *one;                                       /* "gpus", "gpu" */
    int (*get)(struct node *node, json_t **ret, struct err *err); /* prints, or *ret is to be */
} things[] = {
    { "gpus", "gpu", get_gpus },
    { "devices", "device", get_devices },
    { "resources", "resource", get_resources },
    { "labels", "label", get_labels },
};

static int find_thing(const char *word, const struct thing **ret, struct err *err)
{
    const char *names[ARRAY_LEN(things)];

    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        names[i] = things[i].name;
        if (text_equal(word, things[i].name) || text_equal(word, things[i].one))
            return *ret = &things[i], 0;
    }
    const char *nearest = text_nearest(word, names, ARRAY_LEN(names));
    return err_set(err, EINVAL,
                   "there is no \"%s\" to get, but gpus, devices, resources and labels%s%s%s", word,
                   nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
}

static int print_help(FILE *to, int status)
{
    fprintf(to, "%s%s%s", help_head, node_options_help, help_tail);
    return status;
}

static int look_and_print(struct node *node, const struct thing *thing, struct err *err)
{
    auto_(json_decrefp) json_t *value = NULL;

    int r = node_look(node, thing->get == get_gpus && node->format != OUTPUT_TEXT, err);
    if (r == 0)
        r = thing->get(node, &value, err);
    if (r < 0 || node->format == OUTPUT_TEXT)
        return r;
    if (!value)
        return err_no_memory(err);
    return output_print(stdout, node->format, value, err);
}

int verb_get(int argc, char **argv)
{
    auto_(node_done) struct node node = NODE_INIT;
    const struct thing *thing = NULL;
    struct err err = {};

    if (argc < 2)
        return print_help(stderr, EXIT_MISUSED);
    bool named = argv[1][0] != '-';
    int r = named ? find_thing(argv[1], &thing, &err) : 0;
    if (r == 0)
        r = node_arguments(&node, argc - 1 - named, argv + 1 + named, &err);
    if (r == 0 && node.wants_help)
        return print_help(stdout, 0);
    if (r == 0 && !thing)
        r = err_set(&err, EINVAL, "say what to get: gpus, devices, resources or labels");
    if (r < 0) {
        output_fail("get", &err);
        return EXIT_MISUSED;
    }
    return look_and_print(&node, thing, &err) < 0 ? output_fail("get", &err) : 0;
}
