#include "agent/view.h"

#include "base/mem.h"
#include "base/text.h"

int view_new(struct loaded *loaded, struct inventory *inventory, struct view **ret, struct err *err)
{
    auto_(view_freep) struct view *view = mem_alloc(sizeof(*view));

    if (!view)
        return err_no_memory(err);
    *view = (struct view){
        .arena = ARENA_MAX(RESOURCE_ARENA_BYTES),
        .loaded = loaded_ref(loaded),
        .inventory = inventory_ref(inventory),
    };
    int r = resource_build(inventory, loaded->config, &view->arena, &view->set, err);
    if (r < 0)
        return r;
    *ret = steal(view);
    return 0;
}

void view_free(struct view *view)
{
    if (!view)
        return;
    inventory_unref(view->newest);
    inventory_unref(view->inventory);
    loaded_unref(view->loaded);
    arena_done(&view->arena);
    mem_free(view);
}

void view_outdate(struct view *view, struct inventory *newest)
{
    struct inventory *old = view->newest;

    view->newest = newest ? inventory_ref(newest) : NULL;
    inventory_unref(old);
}

static bool mig_is_there(const struct gpu *gpu, const char *uuid)
{
    for (size_t i = 0; i < gpu->n_mig_devices; i++)
        if (text_equal(gpu->mig_devices[i].uuid, uuid))
            return gpu->mig_devices[i].healthy;
    return false;
}

static bool still_there(const struct inventory *newest, const struct device *device)
{
    const struct gpu *gpu;

    if (!newest || !device->gpu)
        return true;
    gpu = inventory_gpu_by_uuid(newest, device->gpu->uuid);
    if (!gpu || !gpu->healthy || gpu->mig_enabled != device->gpu->mig_enabled)
        return false;
    return !device->mig || mig_is_there(gpu, device->mig->uuid);
}

static int list_device(const struct view *view, const struct device *device, struct arena *arena,
                       struct listed_device *ret, struct err *err)
{
    bool healthy = device->healthy && still_there(view->newest, device);

    *ret = (struct listed_device){ .id = device->id,
                                   .health = healthy ? PLUGIN_HEALTHY : PLUGIN_UNHEALTHY };
    if (!device->gpu || !device->gpu->numa_node.known)
        return 0;
    ret->has_topology = true;
    ret->n_numa_nodes = 1;
    ret->numa_nodes = arena_new(arena, int64_t);
    if (!ret->numa_nodes)
        return err_no_memory(err);
    ret->numa_nodes[0] = (int64_t)device->gpu->numa_node.value;
    return 0;
}

int view_list(const struct view *view, const struct resource *resource, struct arena *arena,
              struct device_list *ret, struct err *err)
{
    struct device_list list = { .n = resource->n_devices };
    int r = 0;

    list.items = arena_new_array(arena, struct listed_device, list.n);
    if (!list.items)
        return err_no_memory(err);
    for (size_t i = 0; i < list.n && r == 0; i++)
        r = list_device(view, &resource->devices[i], arena, &list.items[i], err);
    if (r == 0)
        *ret = list;
    return r;
}
