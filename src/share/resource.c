#include "share/resource.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "share/offer.h"
#include "share/sharing.h"

#define MANAGERS   "failed to construct resource managers: "
#define DEVICE_MAP MANAGERS "error building device map: "
#define CONFIG_MAP DEVICE_MAP "error building device map from config.resources: "

struct builder {
    const struct inventory *inventory;
    const struct config *config;
    struct arena *arena;
    struct resource_set *set;
    size_t n_offers;
    struct offer *offers; /* by GPU, then by MIG device */
};

/* Takes over `text`, which is NULL when memory ran out. */
static int add_warning(struct builder *builder, const char *text, struct err *err)
{
    struct resource_warning *warning =
        text ? arena_push(builder->arena, &builder->set->warnings, &builder->set->n_warnings)
             : NULL;

    if (!warning)
        return err_no_memory(err);
    warning->text = text;
    return 0;
}

static int check_imex(struct builder *builder, struct err *err)
{
    static const char missing[] = "requested IMEX channel channel0 does not exist";
    const char *problem = builder->inventory->imex_problem;

    if (!builder->config->imex_channel0 || builder->inventory->imex_channel0)
        return 0;
    if (!problem)
        problem = missing;
    if (!builder->config->imex_required)
        return add_warning(
            builder,
            arena_printf(builder->arena, "Ignoring requested IMEX channel channel0 (%s)", problem),
            err);
    if (text_equal(problem, missing))
        return err_set(err, EINVAL, "error querying IMEX channels: %s", missing);
    return err_set(err, EINVAL, "error querying IMEX channels: %s (%s)", missing, problem);
}

/* ---- does the hardware go with the strategy? ---- */

/* Without its capability nodes no container could open the device. */
static int check_caps(const struct gpu *gpu, const struct mig_device *mig, struct err *err)
{
    static const char proc[] = "/proc/driver/nvidia/capabilities";

    if (!mig->gi_cap_path)
        return err_set(err, EINVAL,
                       CONFIG_MAP "error building MIG device map: error building Device: error "
                                  "getting device paths: missing MIG GPU instance capability "
                                  "path: %s/gpu%u/mig/gi%u/access",
                       proc, gpu->minor, mig->gi_id);
    if (!mig->ci_cap_path)
        return err_set(err, EINVAL,
                       CONFIG_MAP "error building MIG device map: error building Device: error "
                                  "getting device paths: missing MIG compute instance capability "
                                  "path: %s/gpu%u/mig/gi%u/ci%u/access",
                       proc, gpu->minor, mig->gi_id, mig->ci_id);
    return 0;
}

/* The order of the complaints is upstream's: this one comes before those about the strategy. */
static int check_mig_devices(struct builder *builder, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < builder->n_offers && r == 0; i++)
        if (builder->offers[i].mig)
            r = check_caps(builder->offers[i].gpu, builder->offers[i].mig, err);
    return r;
}

static int warn_nameless(struct builder *builder, const struct gpu *gpu, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < gpu->n_mig_devices && r == 0; i++) {
        const struct mig_device *mig = &gpu->mig_devices[i];
        if (!offer_has_name(builder->config, mig))
            r = add_warning(builder,
                            arena_printf(builder->arena,
                                         "device %u:%u is not offered: MIG profile '%s' does not "
                                         "match any resource patterns",
                                         gpu->index, mig->index, mig->profile),
                            err);
    }
    return r;
}

/* A GPU that is lost shows no MIG devices, which is no reason to withdraw those of the others. */
static int check_empty(struct builder *builder, const struct gpu *gpu, struct err *err)
{
    if (builder->config->mig_strategy == MIG_STRATEGY_SINGLE && gpu->healthy)
        return err_set(err, EINVAL,
                       CONFIG_MAP "invalid MIG configuration: at least one device with "
                                  "migEnabled=true was not configured correctly: error visiting "
                                  "device: device %u has no MIG devices configured",
                       gpu->index);
    return add_warning(
        builder,
        arena_printf(builder->arena, "device %u has no MIG devices configured", gpu->index), err);
}

static int check_gpus(struct builder *builder, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < builder->inventory->n_gpus && r == 0; i++) {
        const struct gpu *gpu = &builder->inventory->gpus[i];
        if (!offer_is_cut(builder->config, gpu))
            continue;
        r = warn_nameless(builder, gpu, err);
        if (r == 0 && gpu->n_mig_devices == 0)
            r = check_empty(builder, gpu, err);
    }
    return r;
}

static int check_uniform(const struct builder *builder, struct err *err)
{
    const struct offer *first = NULL;

    for (size_t i = 0; i < builder->n_offers; i++) {
        const struct offer *offer = &builder->offers[i];
        if (!offer->mig)
            continue;
        if (!first)
            first = offer;
        if (!mig_attributes_equal(&first->mig->attributes, &offer->mig->attributes))
            return err_set(err, EINVAL,
                           CONFIG_MAP "invalid MIG configuration: more than one MIG device type "
                                      "present on node (device %s is %s, device %s is %s)",
                           first->index, first->mig->profile, offer->index, offer->mig->profile);
    }
    return 0;
}

static int check_same_mode(const struct builder *builder, struct err *err)
{
    const struct offer *gpu = NULL, *mig = NULL;

    for (size_t i = 0; i < builder->n_offers; i++) {
        const struct offer *offer = &builder->offers[i];
        if (offer->mig && !mig)
            mig = offer;
        if (!offer->mig && !gpu)
            gpu = offer;
    }
    if (gpu && mig)
        return err_set(err, EINVAL,
                       CONFIG_MAP "all devices on the node must be configured with the same "
                                  "migEnabled value (MIG is on for device %u and off for device "
                                  "%s)",
                       mig->gpu->index, gpu->index);
    return 0;
}

static int check_hardware(struct builder *builder, struct err *err)
{
    if (builder->inventory->platform != PLATFORM_NVML)
        return 0;
    int r = check_mig_devices(builder, err);
    if (r == 0)
        r = check_gpus(builder, err);
    if (r == 0 && builder->config->mig_strategy == MIG_STRATEGY_SINGLE) {
        r = check_uniform(builder, err);
        if (r == 0)
            r = check_same_mode(builder, err);
    }
    return r;
}

/* ---- sharing ---- */

static int share(struct builder *builder, struct err *err)
{
    struct sharing_notes notes;
    int r = sharing_assign(&builder->config->sharing, builder->offers, builder->n_offers,
                           builder->arena, &notes, err);

    if (r == -EINVAL && builder->inventory->platform == PLATFORM_TEGRA)
        return err_wrap(err, r,
                        MANAGERS "error updating device map with replicas from sharing "
                                 "resources");
    if (r == -EINVAL)
        return err_wrap(err, r,
                        DEVICE_MAP "error updating device map with replicas from "
                                   "replicatedResources config");
    for (size_t i = 0; r == 0 && i < notes.n; i++)
        r = add_warning(builder, notes.items[i], err);
    return r;
}

static int check_mps(const struct builder *builder, struct err *err)
{
    if (builder->config->sharing.strategy != SHARING_MPS)
        return 0;
    for (size_t i = 0; i < builder->n_offers; i++) {
        const struct offer *offer = &builder->offers[i];
        if (offer->mig && offer->entry)
            return err_set(err, EINVAL,
                           "failed to create plugin: sharing using MPS is not supported for MIG "
                           "devices (device %s of %s)",
                           offer->index, offer->resource);
    }
    return 0;
}

static int check_number(const struct builder *builder, struct err *err)
{
    uint64_t n = 0;

    for (size_t i = 0; i < builder->n_offers; i++)
        n += sharing_replicas(&builder->offers[i]);
    if (n > RESOURCE_MAX_DEVICES)
        return err_set(err, E2BIG,
                       MANAGERS "%llu devices with all replicas are more than a kubelet can list; "
                                "use fewer replicas",
                       (unsigned long long)n);
    return 0;
}

/* ---- devices and their index ---- */

static struct device device_of(struct builder *builder, const struct offer *offer)
{
    struct device device = {
        .physical_id = offer->id,
        .index = offer->index,
        .gpu = offer->gpu,
        .mig = offer->mig,
        .replicas = sharing_replicas(offer),
        .healthy = (!offer->gpu || offer->gpu->healthy) && (!offer->mig || offer->mig->healthy),
    };

    if (offer->gpu)
        device.paths[device.n_paths++] =
            arena_printf(builder->arena, "/dev/nvidia%u", offer->gpu->minor);
    else if (builder->inventory->platform == PLATFORM_WSL)
        device.paths[device.n_paths++] = "/dev/dxg";
    if (offer->mig) {
        device.paths[device.n_paths++] = offer->mig->gi_cap_path;
        device.paths[device.n_paths++] = offer->mig->ci_cap_path;
    }
    return device;
}

/* One after the other in one piece of memory: there may be a hundred thousand. */
static int write_ids(struct builder *builder, const char *physical_id, struct device *devices,
                     size_t n, struct err *err)
{
    size_t room = strlen(physical_id) + sizeof("::4294967295");
    char *text = arena_array(builder->arena, n, room);

    if (!text)
        return err_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        devices[i].id = text;
        text += snprintf(text, room, "%s::%zu", physical_id, i) + 1;
    }
    return 0;
}

static int fill_group(struct builder *builder, const struct offer *offer, struct resource *resource,
                      size_t first, struct err *err)
{
    struct device device = device_of(builder, offer);
    struct device *devices = &resource->devices[first];

    if (device.n_paths > 0 && !device.paths[0])
        return err_no_memory(err);
    device.id = offer->id;
    device.group = (uint32_t)resource->n_groups;
    for (uint32_t i = 0; i < device.replicas; i++) {
        devices[i] = device;
        devices[i].replica = i;
    }
    resource->groups[resource->n_groups++] = (struct device_group){
        .physical_id = offer->id,
        .first = (uint32_t)first,
        .n = device.replicas,
    };
    return offer->entry ? write_ids(builder, offer->id, devices, device.replicas, err) : 0;
}

static int compare_groups(const void *a, const void *b, void *data)
{
    const struct device_group *groups = data;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    int order = strcmp(groups[x].physical_id, groups[y].physical_id);

    return order ? order : (x > y) - (x < y);
}

static void index_groups(struct resource *resource)
{
    for (size_t i = 0; i < resource->n_groups; i++)
        resource->groups_by_id[i] = (uint32_t)i;
    qsort_r(resource->groups_by_id, resource->n_groups, sizeof(*resource->groups_by_id),
            compare_groups, resource->groups);
}

/* ---- resources ---- */

static const char *endpoint_of(struct arena *arena, const char *name)
{
    const char *slash = strchr(name, '/');

    return arena_printf(arena, "nvidia-%s.sock", slash ? slash + 1 : name);
}

static int allocate_resource(struct builder *builder, size_t n_groups, struct resource *resource,
                             struct err *err)
{
    resource->endpoint = endpoint_of(builder->arena, resource->name);
    resource->devices = arena_new_array(builder->arena, struct device, resource->n_devices);
    resource->groups = arena_new_array(builder->arena, struct device_group, n_groups);
    resource->groups_by_id = arena_new_array(builder->arena, uint32_t, n_groups);
    if (!resource->endpoint || !resource->devices || !resource->groups || !resource->groups_by_id)
        return err_no_memory(err);
    return 0;
}

/* `offers` are those of one name, in order of devices. */
static int build_resource(struct builder *builder, struct offer *const *offers, size_t n_offers,
                          struct err *err)
{
    struct resource *resource =
        arena_push(builder->arena, &builder->set->resources, &builder->set->n_resources);
    size_t first = 0;

    if (!resource)
        return err_no_memory(err);
    *resource =
        (struct resource){ .name = sharing_name(offers[0]), .base_name = offers[0]->resource };
    for (size_t i = 0; i < n_offers; i++) {
        resource->n_devices += sharing_replicas(offers[i]);
        resource->shared |= offers[i]->entry != NULL;
    }
    resource->sharing = resource->shared ? builder->config->sharing.strategy : SHARING_NONE;
    int r = allocate_resource(builder, n_offers, resource, err);
    for (size_t i = 0; i < n_offers && r == 0; i++) {
        r = fill_group(builder, offers[i], resource, first, err);
        first += resource->groups[i].n;
    }
    if (r == 0)
        index_groups(resource);
    return r;
}

/* By name, then in the order in which they were found. */
static int compare_offers(const void *a, const void *b)
{
    const struct offer *x = *(struct offer *const *)a, *y = *(struct offer *const *)b;
    int order = strcmp(sharing_name(x), sharing_name(y));

    return order ? order : (x > y) - (x < y);
}

static int build_resources(struct builder *builder, struct err *err)
{
    struct offer **sorted = arena_new_array(builder->arena, struct offer *, builder->n_offers);
    int r = 0;

    if (!sorted)
        return err_no_memory(err);
    for (size_t i = 0; i < builder->n_offers; i++)
        sorted[i] = &builder->offers[i];
    qsort(sorted, builder->n_offers, sizeof(*sorted), compare_offers);
    for (size_t i = 0, end; i < builder->n_offers && r == 0; i = end) {
        for (end = i + 1; end < builder->n_offers; end++)
            if (!text_equal(sharing_name(sorted[end]), sharing_name(sorted[i])))
                break;
        r = build_resource(builder, &sorted[i], end - i, err);
    }
    return r;
}

int resource_build(const struct inventory *inventory, const struct config *config,
                   struct arena *arena, struct resource_set **ret, struct err *err)
{
    struct builder builder = { .inventory = inventory, .config = config, .arena = arena };

    builder.set = arena_new(arena, struct resource_set);
    if (!builder.set)
        return err_no_memory(err);
    int r = check_imex(&builder, err);
    if (r == 0)
        r = offer_list(inventory, config, arena, &builder.offers, &builder.n_offers, err);
    if (r == 0)
        r = check_hardware(&builder, err);
    if (r == 0)
        r = share(&builder, err);
    if (r == 0)
        r = check_mps(&builder, err);
    if (r == 0)
        r = check_number(&builder, err);
    if (r == 0)
        r = build_resources(&builder, err);
    if (r == 0)
        *ret = builder.set;
    return r;
}

/* ---- questions ---- */

const struct resource *resource_find(const struct resource_set *set, const char *name)
{
    for (size_t i = 0; i < set->n_resources; i++)
        if (text_equal(set->resources[i].name, name))
            return &set->resources[i];
    return NULL;
}

static int compare_id(struct span id, const char *physical_id)
{
    int order = strncmp(physical_id, id.ptr, id.len);

    return order ? -order : physical_id[id.len] ? -1 : 0;
}

static const struct device_group *find_group(const struct resource *resource, struct span id)
{
    size_t low = 0, high = resource->n_groups;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct device_group *group = &resource->groups[resource->groups_by_id[middle]];
        int order = compare_id(id, group->physical_id);
        if (order == 0)
            return group;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct device *resource_device(const struct resource *resource, const char *id)
{
    const char *mark = strstr(id, "::");
    struct span physical = { .ptr = id, .len = mark ? (size_t)(mark - id) : strlen(id) };
    const struct device_group *group = find_group(resource, physical);
    uint64_t replica = 0;

    if (!group || (mark && text_to_u64(span_of(mark + 2), &replica) < 0) || replica >= group->n)
        return NULL;
    const struct device *device = &resource->devices[group->first + replica];
    return text_equal(device->id, id) ? device : NULL;
}
