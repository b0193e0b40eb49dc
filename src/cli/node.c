#include "cli/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "gpu/observe.h"

const char node_options_help[] =
    "  -o, --output FORMAT  text, json or yaml  (default text)\n"
    "      --root DIR       a directory that holds the node's /sys, /proc and /dev,\n"
    "                       and its driver  (default /, or the simulated node of\n"
    "                       $TRANCHE_SIM)\n"
    "  -h, --help\n"
    "\n"
    "All flags and variables of the device plugin are understood, too, such as\n"
    "--config-file FILE and --mig-strategy none|single|mixed (`tranche agent --help`\n"
    "lists them).\n";

void node_done(struct node *node)
{
    inventory_unref(node->inventory);
    arena_done(&node->arena);
}

/* ---- arguments ---- */

/* The value of an option that may be spelled `-o V`, `-oV`, `--output V` or `--output=V`: 1 when
 * the argument is that option. `letter` is 0 for an option without a short form. */
static int take_value(char letter, const char *name, int argc, char **argv, int *at,
                      const char **ret, struct err *err)
{
    const char *argument = argv[*at];
    size_t len = strlen(name);

    if (letter && argument[0] == '-' && argument[1] == letter && argument[2])
        return *ret = argument + 2, 1;
    if (text_starts(argument, "--") && strncmp(argument + 2, name, len) == 0 &&
        argument[2 + len] == '=')
        return *ret = argument + 3 + len, 1;
    bool is_short = letter && argument[0] == '-' && argument[1] == letter;
    if (!is_short && !(text_starts(argument, "--") && text_equal(argument + 2, name)))
        return 0;
    if (*at + 1 >= argc)
        return err_set(err, EINVAL, "%s needs a value", argument);
    *ret = argv[++*at];
    return 1;
}

static int take_argument(struct node *node, int argc, char **argv, int *at, struct err *err)
{
    const char *format = NULL;

    int r = take_value('o', "output", argc, argv, at, &format, err);
    if (r > 0)
        return output_format_parse(format, &node->format, err);
    if (r == 0)
        r = take_value(0, "root", argc, argv, at, &node->root, err);
    if (r != 0)
        return MIN(r, 0);
    if (text_equal(argv[*at], "-h") || text_equal(argv[*at], "--help")) {
        node->wants_help = true;
        return 0;
    }
    if (argv[*at][0] != '-' && (*at == 0 || argv[*at - 1][0] != '-'))
        return err_set(err, EINVAL, "\"%s\" is one word too many", argv[*at]);
    if (node->argc == NODE_MAX_ARGUMENTS)
        return err_set(err, EINVAL, "there are more than %d arguments", NODE_MAX_ARGUMENTS);
    node->argv[node->argc++] = argv[*at];
    return 0;
}

int node_arguments(struct node *node, int argc, char **argv, struct err *err)
{
    for (int at = 0; at < argc; at++) {
        int r = take_argument(node, argc, argv, &at, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- looking ---- */

int node_no_driver(const struct err *why, struct err *err)
{
    const char *simulated = getenv("TRANCHE_SIM");

    if (simulated && *simulated)
        return err_set(err, ENODEV,
                       "there is no simulated node in %s ($TRANCHE_SIM); to make one: "
                       "tranche sim create --gpus 8xh100-80gb --dir %s",
                       simulated, simulated);
    return err_set(err, ENODEV,
                   "there is no NVIDIA driver here (%s); to try it with simulated GPUs: "
                   "tranche sim create --gpus 8xh100-80gb --dir DIR, then TRANCHE_SIM=DIR",
                   why->text);
}

int node_driver_fails(const char *library, int r, const struct err *why, struct err *err)
{
    return err_set(err, -r, "NVIDIA's library %s says: %s%s", library, why->text,
                   r == -ENXIO ? " (is the kernel module loaded? `lsmod | grep nvidia`)" : "");
}

static void tell_warnings(const struct command_line *line)
{
    for (size_t i = 0; i < line->warnings.n; i++) {
        const struct config_warning *warning = &line->warnings.items[i];
        if (warning->place.line)
            fprintf(stderr, "warning: %s:%u:%u: %s\n", line->config->config_file,
                    warning->place.line, warning->place.column, warning->text);
        else
            fprintf(stderr, "warning: %s\n", warning->text);
    }
}

static int look_once(struct node *node, const struct observer_options *options, struct err *err)
{
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    struct err missing = {}, why = {};

    int r = nvml_open(options->scan.driver_root, &nvml, &missing);
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (nvml && !(node->library = arena_strdup(&node->arena, nvml_path(nvml))))
        return err_no_memory(err);
    r = observe_once(nvml, options, &node->inventory, &why);
    if (!nvml && (r == -ENOENT || (r == 0 && node->inventory->platform == PLATFORM_NONE)))
        return node_no_driver(&missing, err);
    if (r >= 0)
        return 0;
    return node->library ? node_driver_fails(node->library, r, &why, err)
                         : err_set(err, -r, "cannot look at the node: %s", why.text);
}

int node_look(struct node *node, bool links, struct err *err)
{
    struct observer_options options = {};

    int r = command_line_load(PROGRAM_PLUGIN, node->argc, node->argv, true, &node->arena,
                              &node->line, NULL, err);
    if (r < 0)
        return r;
    if (node->line.request != CONFIG_RUN)
        return err_set(err, EINVAL, "say `tranche version` for the version");
    tell_warnings(&node->line);
    if (node->root && !file_exists(node->root))
        return err_set(err, ENOENT, "--root %s: there is no such directory", node->root);
    r = scan_options_make(node->line.config, node->root, node->line.config->container_driver_root,
                          &node->arena, &options.scan, err);
    if (r < 0)
        return r;
    options.scan.links = links;
    options.scan.vgpu = true;
    return look_once(node, &options, err);
}

int node_resources(struct node *node, struct resource_set **ret, struct err *err)
{
    return resource_build(node->inventory, node->line.config, &node->arena, ret, err);
}

int node_labels(struct node *node, struct label_set **ret, struct err *err)
{
    return label_build(node->inventory, node->line.config, -1, &node->arena, ret, err);
}

/* ---- JSON ---- */

static json_t *reading_json(struct reading reading)
{
    return reading.known ? json_integer((json_int_t)reading.value) : json_null();
}

static json_t *text_json(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *attributes_json(const struct mig_attributes *attributes)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I}", "multiprocessors",
                     (int)attributes->multiprocessors, "copyEngines", (int)attributes->copy_engines,
                     "decoders", (int)attributes->decoders, "encoders", (int)attributes->encoders,
                     "jpegs", (int)attributes->jpegs, "ofas", (int)attributes->ofas,
                     "gpuInstanceSlices", (int)attributes->gpu_instance_slices,
                     "computeInstanceSlices", (int)attributes->compute_instance_slices, "memoryMiB",
                     (json_int_t)attributes->memory_mib);
}

static json_t *mig_device_json(const struct mig_device *mig)
{
    return json_pack("{s:i, s:s, s:s, s:i, s:i, s:i, s:i, s:o, s:b, s:o, s:o, s:o}", "index",
                     (int)mig->index, "uuid", mig->uuid, "profile", mig->profile, "gpuInstance",
                     (int)mig->gi_id, "computeInstance", (int)mig->ci_id, "start", (int)mig->start,
                     "size", (int)mig->size, "attributes", attributes_json(&mig->attributes),
                     "healthy", mig->healthy, "unhealthyReason", text_json(mig->unhealthy_reason),
                     "gpuInstanceNode", text_json(mig->gi_cap_path), "computeInstanceNode",
                     text_json(mig->ci_cap_path));
}

static json_t *mig_json(const struct gpu *gpu)
{
    auto_(json_decrefp) json_t *devices = json_array(), *profiles = json_array();

    for (size_t i = 0; i < gpu->n_mig_devices; i++)
        if (json_array_append_new(devices, mig_device_json(&gpu->mig_devices[i])) < 0)
            return NULL;
    for (size_t i = 0; i < gpu->n_mig_profiles; i++) {
        const struct mig_profile_info *profile = &gpu->mig_profiles[i];
        if (json_array_append_new(profiles, json_pack("{s:s, s:i, s:i, s:I}", "name", profile->name,
                                                      "id", (int)profile->driver_id, "max",
                                                      (int)profile->max_instances, "memoryMiB",
                                                      (json_int_t)profile->memory_mib)) < 0)
            return NULL;
    }
    return json_pack("{s:b, s:b, s:b, s:O, s:O}", "capable", gpu->mig_capable, "enabled",
                     gpu->mig_enabled, "pending", gpu->mig_pending, "devices", devices, "profiles",
                     profiles);
}

static json_t *links_json(const struct inventory *inventory, const struct gpu *gpu)
{
    auto_(json_decrefp) json_t *links = json_array();

    for (size_t i = 0; gpu->links && i < inventory->n_gpus; i++) {
        const struct gpu_link *link = &gpu->links[i];
        if (&inventory->gpus[i] == gpu)
            continue;
        struct reading level = { .value = link->level, .known = link->known };
        if (json_array_append_new(
                links, json_pack("{s:i, s:o, s:i}", "gpu", (int)inventory->gpus[i].index, "level",
                                 reading_json(level), "nvlinks", (int)link->n_nvlinks)) < 0)
            return NULL;
    }
    return steal(links);
}

static json_t *fabric_json(const struct gpu *gpu)
{
    if (!gpu->fabric.attached)
        return json_null();
    return json_pack("{s:s, s:I}", "cluster", gpu->fabric.cluster_uuid, "clique",
                     (json_int_t)gpu->fabric.clique_id);
}

static json_t *gpu_json(const struct inventory *inventory, const struct gpu *gpu)
{
    char capability[32];

    snprintf(capability, sizeof(capability), "%d.%d", gpu->cc_major, gpu->cc_minor);
    return json_pack("{s:i, s:s, s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o}",
                     "index", (int)gpu->index, "uuid", gpu->uuid, "name", gpu->name, "minor",
                     (int)gpu->minor, "busId", gpu->bus_id, "pciClass",
                     reading_json(gpu->pci_class), "numaNode", reading_json(gpu->numa_node),
                     "memoryBytes", reading_json(gpu->memory_bytes), "computeCapability",
                     gpu->cc_major ? json_string(capability) : json_null(), "fabric",
                     fabric_json(gpu), "mig", mig_json(gpu), "links", links_json(inventory, gpu),
                     "healthy", gpu->healthy, "unhealthyReason", text_json(gpu->unhealthy_reason));
}

json_t *node_gpus_json(const struct inventory *inventory)
{
    auto_(json_decrefp) json_t *gpus = json_array(), *problems = json_array();

    for (size_t i = 0; i < inventory->n_gpus; i++)
        if (json_array_append_new(gpus, gpu_json(inventory, &inventory->gpus[i])) < 0)
            return NULL;
    for (size_t i = 0; i < inventory->n_problems; i++)
        if (json_array_append_new(problems, json_pack("{s:i, s:s}", "index",
                                                      (int)inventory->problems[i].index, "problem",
                                                      inventory->problems[i].text)) < 0)
            return NULL;
    return json_pack("{s:O, s:O}", "gpus", gpus, "unreadable", problems);
}

const char *node_reason(const struct device *device)
{
    if (device->mig && device->mig->unhealthy_reason)
        return device->mig->unhealthy_reason;
    if (device->gpu && device->gpu->unhealthy_reason)
        return device->gpu->unhealthy_reason;
    return device->healthy ? NULL : "unhealthy";
}

static json_t *device_json(const struct resource *resource, const struct device *device)
{
    auto_(json_decrefp) json_t *paths = json_array();
    struct reading numa = device->gpu ? device->gpu->numa_node : (struct reading){};

    for (size_t i = 0; i < device->n_paths; i++)
        if (json_array_append_new(paths, json_string(device->paths[i])) < 0)
            return NULL;
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:i, s:i, s:O, s:o, s:b, s:o}", "resource",
                     resource->name, "id", device->id, "physicalId", device->physical_id, "index",
                     device->index, "gpu", text_json(device->gpu ? device->gpu->uuid : NULL),
                     "profile", text_json(device->mig ? device->mig->profile : NULL), "replica",
                     (int)device->replica, "replicas", (int)device->replicas, "nodes", paths,
                     "numaNode", reading_json(numa), "healthy", device->healthy, "unhealthyReason",
                     text_json(node_reason(device)));
}

json_t *node_devices_json(const struct resource_set *set)
{
    auto_(json_decrefp) json_t *devices = json_array();

    for (size_t i = 0; i < set->n_resources; i++)
        for (size_t j = 0; j < set->resources[i].n_devices; j++)
            if (json_array_append_new(
                    devices, device_json(&set->resources[i], &set->resources[i].devices[j])) < 0)
                return NULL;
    return json_pack("{s:O}", "devices", devices);
}

size_t node_count_healthy(const struct resource *resource)
{
    size_t n = 0;

    for (size_t i = 0; i < resource->n_devices; i++)
        n += resource->devices[i].healthy;
    return n;
}

json_t *node_resources_json(const struct resource_set *set)
{
    auto_(json_decrefp) json_t *resources = json_array();

    for (size_t i = 0; i < set->n_resources; i++) {
        const struct resource *resource = &set->resources[i];
        if (json_array_append_new(
                resources,
                json_pack(
                    "{s:s, s:s, s:I, s:I, s:s, s:s}", "name", resource->name, "baseName",
                    resource->base_name, "devices", (json_int_t)resource->n_devices, "healthy",
                    (json_int_t)node_count_healthy(resource), "sharing",
                    sharing_strategy_names[resource->shared ? resource->sharing : SHARING_NONE],
                    "endpoint", resource->endpoint)) < 0)
            return NULL;
    }
    return json_pack("{s:O}", "resources", resources);
}

json_t *node_labels_json(const struct label_set *labels)
{
    auto_(json_decrefp) json_t *object = json_object();

    for (size_t i = 0; i < labels->n; i++)
        if (json_object_set_new(object, labels->items[i].key, json_string(labels->items[i].value)) <
            0)
            return NULL;
    return json_pack("{s:O}", "labels", object);
}
