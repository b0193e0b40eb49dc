#include "share/config_sharing.h"

#include <string.h>

#include "share/config_device_ref.h"

static const char per_device_advice[] = "`sharing.perDevice: true` honours it";

/* Upstream reads renames and devices, checks them, and then does without them. */
static void strip(struct findings *findings, const char *key, const struct sharing_item *item,
                  bool rename_by_default, struct shared_resource *resource)
{
    bool renames = item->resource.rename && !rename_by_default;

    if (item->resource.rename && rename_by_default) {
        struct span name = span_of(item->resource.name), rename = span_of(item->resource.rename);
        renames = rename.len != name.len + strlen(".shared") ||
                  memcmp(rename.ptr, name.ptr, name.len) != 0 ||
                  !text_ends(item->resource.rename, ".shared");
    }
    if (renames)
        finding_add(findings, FINDING_WARNING, item->rename, per_device_advice,
                    "Setting the 'rename' field in sharing.%s.resources is not yet supported in "
                    "the config. Ignoring...",
                    key);
    if (resource->devices.kind != SELECT_ALL)
        finding_add(findings, FINDING_WARNING, item->devices, per_device_advice,
                    "Customizing the 'devices' field in sharing.%s.resources is not yet supported "
                    "in the config. Ignoring...",
                    key);
    resource->rename = NULL;
    resource->devices = (struct device_selector){ .kind = SELECT_ALL };
}

static void warn_of_empty_list(struct findings *findings, const struct sharing_item *item)
{
    if (item->resource.devices.kind == SELECT_LIST && item->resource.devices.n_refs == 0)
        finding_add(findings, FINDING_WARNING, item->devices, NULL,
                    "an empty devices list shares nothing");
}

static struct shared_resource settle_item(struct findings *findings, const char *key,
                                          const struct sharing_list *list,
                                          const struct sharing_item *item, bool per_device)
{
    struct shared_resource resource = item->resource;

    if (per_device)
        warn_of_empty_list(findings, item);
    else
        strip(findings, key, item, list->rename_by_default, &resource);
    if (list->rename_by_default && !resource.rename) {
        resource.rename = arena_printf(findings->arena, "%s.shared", resource.name);
        if (!resource.rename)
            findings->failed = true;
    }
    return resource;
}

/* The first reference of `b` that `a` has too; with `all` or a count in one of them, any device
 * may be meant twice. */
static bool overlap(const struct device_selector *a, const struct device_selector *b,
                    struct place *ret)
{
    if (a->kind != SELECT_LIST || b->kind != SELECT_LIST)
        return true;
    for (size_t i = 0; i < b->n_refs; i++) {
        for (size_t k = 0; k < a->n_refs; k++) {
            if (!device_ref_equal(&a->refs[k], &b->refs[i]))
                continue;
            *ret = b->refs[i].place;
            return true;
        }
    }
    return false;
}

static struct shared_resource *find_earlier(const struct sharing *sharing, size_t from,
                                            const char *name)
{
    for (size_t i = from; i < sharing->n_resources; i++)
        if (text_equal(sharing->resources[i].name, name))
            return &sharing->resources[i];
    return NULL;
}

/* Upstream's plugin lets the larger of two entries win and its labels name the first one; here it
 * is the larger one for all. */
static void merge_duplicate(struct findings *findings, struct shared_resource *earlier,
                            const struct shared_resource *later)
{
    const struct shared_resource *winner = later->replicas > earlier->replicas ? later : earlier;

    finding_add(findings, FINDING_WARNING, later->place,
                "give each resource one entry, or set `sharing.perDevice: true` and list devices",
                "%s is shared twice, in line %u too; the larger number of replicas counts, %u",
                later->name, earlier->place.line, winner->replicas);
    if (winner == later) {
        earlier->replicas = later->replicas;
        earlier->place = later->place;
    }
}

/* Looks the new resource up among the ones before it; false: it was merged into one of them. */
static bool stands_alone(struct findings *findings, const struct shared_resource *resource,
                         bool per_device, struct sharing *sharing)
{
    struct shared_resource *earlier = find_earlier(sharing, 0, resource->name);

    if (!earlier)
        return true;
    if (!per_device) {
        merge_duplicate(findings, earlier, resource);
        return false;
    }
    for (; earlier; earlier = find_earlier(sharing, (size_t)(earlier - sharing->resources) + 1,
                                           resource->name)) {
        struct place place = resource->place;
        if (overlap(&earlier->devices, &resource->devices, &place))
            finding_add(findings, FINDING_OURS, place,
                        "name each device in one entry only; `all` or a count goes with no other "
                        "entry of its resource",
                        "devices of %s are in the entry of line %u too", resource->name,
                        earlier->place.line);
    }
    return true;
}

static void warn_of_repeated_refs(struct findings *findings, const struct device_selector *devices)
{
    for (size_t i = 0; i < devices->n_refs; i++)
        for (size_t k = 0; k < i; k++)
            if (device_ref_equal(&devices->refs[k], &devices->refs[i]))
                finding_add(findings, FINDING_WARNING, devices->refs[i].place, NULL,
                            "this device is in the list already");
}

/* Each list is short enough already; together they are what is compared with each other. */
static bool too_many_refs(struct findings *findings, const struct sharing_list *list)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n_items; i++)
        n += list->items[i].resource.devices.n_refs;
    if (n > CONFIG_MAX_DEVICE_REFS)
        finding_add(findings, FINDING_OURS, list->place, NULL,
                    "devices lists of %zu elements in all, more than %d", n,
                    CONFIG_MAX_DEVICE_REFS);
    return n > CONFIG_MAX_DEVICE_REFS;
}

static void settle_list(struct findings *findings, const char *key, const struct sharing_list *list,
                        bool per_device, struct sharing *ret)
{
    if (per_device && too_many_refs(findings, list))
        return;
    ret->resources = arena_new_array(findings->arena, struct shared_resource, list->n_items);
    if (!ret->resources) {
        findings->failed = true;
        return;
    }
    for (size_t i = 0; i < list->n_items; i++) {
        if (!list->items[i].resource.name) /* reading said so already */
            continue;
        struct shared_resource resource =
            settle_item(findings, key, list, &list->items[i], per_device);
        if (per_device)
            warn_of_repeated_refs(findings, &resource.devices);
        if (stands_alone(findings, &resource, per_device, ret))
            ret->resources[ret->n_resources++] = resource;
    }
}

void config_sharing_settle(struct findings *findings, const struct sharing_file *file,
                           struct sharing *ret)
{
    const struct sharing_list *list = file->mps.present ? &file->mps : &file->time_slicing;
    struct sharing unused = {};

    *ret = (struct sharing){
        .strategy = file->mps.present            ? SHARING_MPS
                    : file->time_slicing.present ? SHARING_TIME_SLICING
                                                 : SHARING_NONE,
        .rename_by_default = list->rename_by_default,
        .fail_requests_greater_than_one = list->fail_given ? list->fail : file->mps.present,
        .per_device = file->per_device,
    };
    if (file->mps.present && file->time_slicing.present) {
        finding_add(findings, FINDING_WARNING, file->time_slicing.place,
                    "remove one of the two; a resource is shared by MPS or by time-slicing",
                    "sharing.timeSlicing has no effect beside sharing.mps");
        settle_list(findings, "timeSlicing", &file->time_slicing, file->per_device, &unused);
    }
    if (list->present)
        settle_list(findings, file->mps.present ? "mps" : "timeSlicing", list, file->per_device,
                    ret);
    if (file->per_device && !list->present)
        finding_add(findings, FINDING_WARNING, file->per_device_place, NULL,
                    "sharing.perDevice has no effect without timeSlicing or mps");
}
