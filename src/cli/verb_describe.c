/*
 * tranche describe node: everything about this node on one page.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "cli/node.h"
#include "cli/table.h"
#include "cli/verbs.h"

enum { EXIT_MISUSED = 2 };

static const char help_head[] =
    "Usage: tranche describe node [-o FORMAT] [flags]\n"
    "\n"
    "Driver, GPUs, MIG devices, how the GPUs are connected, what the kubelet would be\n"
    "offered, and the node's labels.\n"
    "\n";

static const char help_tail[] =
    "\n"
    "Links between GPUs:  NVn  n NVLinks;  else the nearest thing they share:\n"
    "  PIX  one PCIe switch      PXB   several switches   PHB  a host bridge\n"
    "  NODE a NUMA node          SYS   the machine\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 misused.\n"
    "\n"
    "Examples:\n"
    "  tranche describe node\n"
    "  tranche describe node --mig-strategy mixed -o json\n";

static const char *const platform_names[PLATFORM_N] = { "none", "nvml", "wsl", "tegra" };

/* ---- text ---- */

static void print_title(const char *title)
{
    bool colour = output_colour(stdout);

    printf("\n%s%s%s\n", output_style(colour, STYLE_BOLD), title,
           output_unstyle(colour, STYLE_BOLD));
}

PRINTF(2, 3) static void print_field(const char *name, const char *format, ...)
{
    va_list args;

    printf("  %-14s", name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static void print_reason(const char *reason)
{
    enum output_style style = reason ? STYLE_BAD : STYLE_GOOD;
    bool colour = output_colour(stdout);

    print_field("Health", "%s%s%s", output_style(colour, style), reason ? reason : "healthy",
                output_unstyle(colour, style));
}

static void print_node(const struct node *node)
{
    const struct inventory *inventory = node->inventory;
    bool colour = output_colour(stdout);

    printf("%sNode%s\n", output_style(colour, STYLE_BOLD), output_unstyle(colour, STYLE_BOLD));
    print_field("Machine", "%s", inventory->machine ? inventory->machine : "unknown");
    print_field("Platform", "%s", platform_names[inventory->platform]);
    if (inventory->driver_version)
        print_field("Driver", "%s", inventory->driver_version);
    if (inventory->cuda_version.known)
        print_field("CUDA", "%" PRIu64 ".%" PRIu64, inventory->cuda_version.value / 1000,
                    inventory->cuda_version.value % 1000 / 10);
    if (node->library)
        print_field("Library", "%s", node->library);
    if (inventory->vgpu.present)
        print_field("vGPU host", "driver %s",
                    inventory->vgpu.host_driver_version ? inventory->vgpu.host_driver_version
                                                        : "unknown");
    print_field("GPUs", "%zu", inventory->n_gpus);
}

/* Names of whole profiles: what the GPU could be cut into. */
static void print_profiles(const struct gpu *gpu)
{
    const char *comma = "";

    printf("  %-14s", "Could be");
    for (size_t i = 0; i < gpu->n_mig_profiles; i++) {
        const struct mig_profile_info *profile = &gpu->mig_profiles[i];
        if (!profile->whole)
            continue;
        printf("%s%u × %s", comma, profile->max_instances, profile->name);
        comma = ", ";
    }
    putchar('\n');
}

static int print_mig_devices(const struct gpu *gpu, struct err *err)
{
    auto_(table_done) struct table table =
        TABLE("  MIG", "PROFILE", "UUID", "INSTANCE", "PLACE", "SM", "MEMORY", "HEALTH");

    for (size_t i = 0; i < gpu->n_mig_devices; i++) {
        const struct mig_device *mig = &gpu->mig_devices[i];
        table_printf(&table, "  %u:%u", gpu->index, mig->index);
        table_cell(&table, mig->profile);
        table_cell(&table, mig->uuid);
        table_printf(&table, "%u/%u", mig->gi_id, mig->ci_id);
        table_printf(&table, "%u+%u", mig->start, mig->size);
        table_printf(&table, "%u", mig->attributes.multiprocessors);
        table_printf(&table, "%" PRIu64 " MiB", mig->attributes.memory_mib);
        table_styled(&table, mig->healthy ? STYLE_GOOD : STYLE_BAD, "%s",
                     mig->healthy ? "healthy" : mig->unhealthy_reason);
    }
    return table.n_cells > 0 ? table_print(&table, stdout, err) : 0;
}

static int print_gpu(const struct gpu *gpu, struct err *err)
{
    char title[160];

    snprintf(title, sizeof(title), "GPU %u  %s", gpu->index, gpu->name);
    print_title(title);
    print_field("UUID", "%s", gpu->uuid);
    print_field("PCI", "%s", gpu->bus_id);
    print_field("Node", "/dev/nvidia%u", gpu->minor);
    if (gpu->numa_node.known)
        print_field("NUMA node", "%" PRIu64, gpu->numa_node.value);
    if (gpu->memory_bytes.known)
        print_field("Memory", "%" PRIu64 " MiB", gpu->memory_bytes.value >> 20);
    if (gpu->cc_major)
        print_field("Capability", "%d.%d", gpu->cc_major, gpu->cc_minor);
    if (gpu->fabric.attached)
        print_field("Fabric", "%s.%u", gpu->fabric.cluster_uuid, gpu->fabric.clique_id);
    print_reason(gpu->unhealthy_reason);
    if (!gpu->mig_capable)
        return 0;
    print_field("MIG", "%s%s", gpu->mig_enabled ? "on" : "off",
                gpu->mig_enabled == gpu->mig_pending ? ""
                : gpu->mig_pending                   ? ", on after a reset"
                                                     : ", off after a reset");
    if (gpu->n_mig_profiles > 0)
        print_profiles(gpu);
    return print_mig_devices(gpu, err);
}

static const char *link_word(const struct gpu_link *link, char text[static 16])
{
    if (link->n_nvlinks > 0) {
        snprintf(text, 16, "NV%u", link->n_nvlinks);
        return text;
    }
    if (!link->known)
        return "?";
    switch (link->level) {
    case TOPOLOGY_INTERNAL:
        return "BOARD";
    case TOPOLOGY_SINGLE:
        return "PIX";
    case TOPOLOGY_MULTIPLE:
        return "PXB";
    case TOPOLOGY_HOSTBRIDGE:
        return "PHB";
    case TOPOLOGY_NODE:
        return "NODE";
    case TOPOLOGY_SYSTEM:
        return "SYS";
    default:
        return "?";
    }
}

/* A square, while it fits a table; beyond that -o json has it. */
static int print_links(const struct inventory *inventory, struct err *err)
{
    auto_(table_done) struct table table = TABLE("  ");
    char headers[TABLE_MAX_COLUMNS][16], word[16];

    if (inventory->n_gpus < 2 || inventory->n_gpus >= TABLE_MAX_COLUMNS ||
        !inventory->gpus[0].links)
        return 0;
    print_title("Links");
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        snprintf(headers[i], sizeof(headers[i]), "GPU%u", inventory->gpus[i].index);
        table.headers[table.n_columns++] = headers[i];
    }
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        table_printf(&table, "  GPU%u", inventory->gpus[i].index);
        for (size_t j = 0; j < inventory->n_gpus; j++)
            table_cell(&table, i == j ? "x" : link_word(&inventory->gpus[i].links[j], word));
    }
    return table_print(&table, stdout, err);
}

/* What does not go together is told here and does not hide the rest of the page. */
static int print_resources(struct node *node, struct err *err)
{
    auto_(table_done) struct table table = TABLE("  RESOURCE", "DEVICES", "HEALTHY", "SHARING");
    struct resource_set *set;
    struct err why = {};

    print_title("Resources");
    if (node_resources(node, &set, &why) < 0)
        return printf("  none: %s\n", why.text), 0;
    for (size_t i = 0; i < set->n_resources; i++) {
        const struct resource *resource = &set->resources[i];
        table_printf(&table, "  %s", resource->name);
        table_printf(&table, "%zu", resource->n_devices);
        table_printf(&table, "%zu", node_count_healthy(resource));
        table_cell(&table,
                   sharing_strategy_names[resource->shared ? resource->sharing : SHARING_NONE]);
    }
    int r = table_print(&table, stdout, err);
    for (size_t i = 0; i < set->n_warnings; i++)
        printf("  warning: %s\n", set->warnings[i].text);
    return r;
}

static void print_labels(struct node *node)
{
    struct label_set *labels;
    struct err why = {};

    print_title("Labels");
    if (node_labels(node, &labels, &why) < 0) {
        printf("  none: %s\n", why.text);
        return;
    }
    for (size_t i = 0; i < labels->n; i++)
        printf("  %s=%s\n", labels->items[i].key, labels->items[i].value);
    for (size_t i = 0; i < labels->n_warnings; i++)
        printf("  warning: %s\n", labels->warnings[i]);
}

static int print_page(struct node *node, struct err *err)
{
    const struct inventory *inventory = node->inventory;

    print_node(node);
    for (size_t i = 0; i < inventory->n_gpus; i++) {
        int r = print_gpu(&inventory->gpus[i], err);
        if (r < 0)
            return r;
    }
    if (inventory->n_problems > 0)
        print_title("GPUs that cannot be read");
    for (size_t i = 0; i < inventory->n_problems; i++)
        printf("  GPU %u: %s\n", inventory->problems[i].index, inventory->problems[i].text);
    int r = print_links(inventory, err);
    if (r == 0)
        r = print_resources(node, err);
    if (r < 0)
        return r;
    print_labels(node);
    return fflush(stdout) == 0 ? 0 : err_set(err, errno, "cannot print it: %s", strerror(errno));
}

/* ---- JSON ---- */

/* A part, or why there is none under a name of its own. */
static json_t *part_or_error(json_t *part, const char *name, const struct err *why)
{
    return why->code ? json_pack("{s:s}", name, why->text) : part;
}

static json_t *resources_json(struct node *node)
{
    struct resource_set *set = NULL;
    struct err why = {};
    json_t *part = node_resources(node, &set, &why) < 0 ? NULL : node_resources_json(set);

    return part_or_error(part, "resourcesProblem", &why);
}

static json_t *labels_json(struct node *node)
{
    struct label_set *labels = NULL;
    struct err why = {};
    json_t *part = node_labels(node, &labels, &why) < 0 ? NULL : node_labels_json(labels);

    return part_or_error(part, "labelsProblem", &why);
}

static int print_json(struct node *node, struct err *err)
{
    const struct inventory *inventory = node->inventory;
    auto_(json_decrefp) json_t *page =
        json_pack("{s:s*, s:s, s:s*, s:s*}", "machine", inventory->machine, "platform",
                  platform_names[inventory->platform], "driverVersion", inventory->driver_version,
                  "library", node->library);

    if (page && inventory->cuda_version.known &&
        json_object_set_new(page, "cudaVersion",
                            json_integer((json_int_t)inventory->cuda_version.value)) < 0)
        return err_no_memory(err);
    if (!page || json_object_update_new(page, node_gpus_json(inventory)) < 0 ||
        json_object_update_new(page, resources_json(node)) < 0 ||
        json_object_update_new(page, labels_json(node)) < 0)
        return err_no_memory(err);
    return output_print(stdout, node->format, page, err);
}

/* ---- the verb ---- */

static int print_help(FILE *to, int status)
{
    fprintf(to, "%s%s%s", help_head, node_options_help, help_tail);
    return status;
}

int verb_describe(int argc, char **argv)
{
    auto_(node_done) struct node node = NODE_INIT;
    struct err err = {};

    if (argc < 2)
        return print_help(stderr, EXIT_MISUSED);
    bool named = argv[1][0] != '-';
    int r = named && !text_equal(argv[1], "node")
                ? err_set(&err, EINVAL, "\"%s\" cannot be described: only node can", argv[1])
                : 0;
    if (r == 0)
        r = node_arguments(&node, argc - 1 - named, argv + 1 + named, &err);
    if (r == 0 && node.wants_help)
        return print_help(stdout, 0);
    if (r == 0 && !named)
        r = err_set(&err, EINVAL, "say what to describe: node");
    if (r < 0) {
        output_fail("describe", &err);
        return EXIT_MISUSED;
    }
    r = node_look(&node, true, &err);
    if (r == 0)
        r = node.format == OUTPUT_TEXT ? print_page(&node, &err) : print_json(&node, &err);
    return r < 0 ? output_fail("describe", &err) : 0;
}
