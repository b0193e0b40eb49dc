#include "gpu/scan.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "gpu/assemble.h"
#include "gpu/devnode.h"
#include "gpu/facts.h"

/* ---- where to look ---- */

/* DIR/root of the simulated node in use; NULL when there is none, or it has no files of its own. */
static int simulated_root(struct arena *arena, const char **ret, struct err *err)
{
    const char *dir = getenv("TRANCHE_SIM");

    *ret = NULL;
    if (!dir || !*dir)
        return 0;
    char *root = arena_printf(arena, "%s/root", dir);
    if (!root)
        return err_no_memory(err);
    if (file_exists(root))
        *ret = root;
    return 0;
}

int scan_options_make(const struct config *config, const char *root, const char *driver_root,
                      struct arena *arena, struct scan_options *ret, struct err *err)
{
    const char *machine = config->gfd.machine_type_file, *simulated = NULL;

    int r = root ? 0 : simulated_root(arena, &simulated, err);
    if (r < 0)
        return r;
    if (!root)
        root = simulated;
    *ret = (struct scan_options){
        .root = root,
        .driver_root = root ? root : driver_root,
        .machine_type_file = machine && text_equal(machine, "/" MACHINE_FILE) ? NULL : machine,
        .discovery = config->discovery,
    };
    return 0;
}

/* ---- once, here and now ---- */

static void shutdown_nvml(struct nvml **nvml)
{
    if (*nvml)
        nvml_shutdown(*nvml);
}

/* Everything a scan holds, so that every way out lets go of it. */
struct scan {
    int root;
    struct node_facts *node;
    struct gpu_facts *facts[INVENTORY_MAX_GPUS];
    struct assembly_gpu gpus[INVENTORY_MAX_GPUS];
    struct topology *topology;
};

static void scan_done(struct scan *scan)
{
    base_close(&scan->root);
    node_facts_free(scan->node);
    for (size_t i = 0; i < ARRAY_LEN(scan->facts); i++)
        gpu_facts_free(scan->facts[i]);
    mem_free(scan->topology);
}

static int read_gpus(struct scan *scan, const struct nvml *nvml, bool links, uint64_t *ret_usable,
                     struct err *err)
{
    for (uint32_t i = 0; i < scan->node->n_gpus; i++) {
        int r = facts_read_gpu(nvml, scan->root, i, links, &scan->facts[i], err);
        if (r < 0)
            return r;
        scan->gpus[i] =
            (struct assembly_gpu){ .facts = scan->facts[i], .problem = scan->facts[i]->problem };
        if (scan->facts[i]->depth == FACTS_COMPLETE)
            *ret_usable |= UINT64_C(1) << i;
    }
    return 0;
}

static int scan_all(struct scan *scan, const struct nvml *nvml, const struct scan_options *options,
                    struct inventory **ret, struct err *err)
{
    uint64_t usable = 0;

    int r = facts_read_node(nvml, scan->root, options, &scan->node, err);
    if (r == 0)
        r = read_gpus(scan, nvml, options->links, &usable, err);
    if (r < 0)
        return r;
    if (options->links && usable) {
        scan->topology = mem_alloc(sizeof(*scan->topology));
        if (!scan->topology)
            return err_no_memory(err);
        topology_read(nvml, usable, scan->topology);
    }
    return inventory_assemble(
        &(struct assembly){
            .root = scan->root,
            .node = scan->node,
            .n_gpus = scan->node->n_gpus,
            .gpus = scan->gpus,
            .discover_tegra = options->discovery == DISCOVERY_AUTO,
            .topology = scan->topology,
        },
        ret, err);
}

int gpu_scan(struct nvml *nvml, const struct scan_options *options, struct inventory **ret,
             struct err *err)
{
    auto_(shutdown_nvml) struct nvml *started = NULL;
    auto_(scan_done) struct scan scan = { .root = -1 };

    int r = devnode_root(options->root ? options->root : "/", &scan.root, err);
    if (r == 0 && nvml)
        r = nvml_init(nvml, err);
    if (r < 0)
        return r;
    started = nvml;
    return scan_all(&scan, nvml, options, ret, err);
}
