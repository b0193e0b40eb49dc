#include "share/config_sharing.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "share/config_device_ref.h"
#include "share/config_file.h"
#include "share/go_text.h"

#define PREFIX "nvidia.com/"

enum { RESOURCE_NAME_MAX = 63 };

/* ---- resource names ---- */

static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_dns_label(struct span label)
{
    if (label.len == 0 || !is_lower_alnum(label.ptr[0]) ||
        !is_lower_alnum(label.ptr[label.len - 1]))
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_lower_alnum(label.ptr[i]) && label.ptr[i] != '-')
            return false;
    return true;
}

static bool is_dns_subdomain(struct span text)
{
    struct span label;

    for (bool more = true; span_split(&text, '.', &more, &label);)
        if (!is_dns_label(label))
            return false;
    return true;
}

/* Kubernetes' own words for a name that is no subdomain. */
static const char subdomain_rule[] =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

static const char *name_advice(struct span name)
{
    if (memchr(name.ptr, '+', name.len))
        return "a `+` in a profile is a `.` in its resource name: mig-1g.10gb.me";
    return "such as " PREFIX "gpu or " PREFIX "mig-1g.10gb";
}

const char *config_resource_name(struct findings *findings, const struct value *value)
{
    struct span text = value->kind == VALUE_STRING ? value->text : SPAN("");

    if (value->kind != VALUE_STRING && value->kind != VALUE_NULL) {
        finding_add_mismatch(findings, value, "string", "write it in quotes");
        return NULL;
    }
    if (text.len >= strlen(PREFIX) && memcmp(text.ptr, PREFIX, strlen(PREFIX)) == 0)
        text = (struct span){ .ptr = text.ptr + strlen(PREFIX), .len = text.len - strlen(PREFIX) };
    char *name = arena_printf(findings->arena, PREFIX SPAN_FMT, SPAN_ARG(text));
    if (!name) {
        findings->failed = true;
        return NULL;
    }
    if (strlen(PREFIX) + text.len > RESOURCE_NAME_MAX) {
        finding_add(findings, FINDING_ERROR, value->place, NULL,
                    "fully-qualified resource name must be %d characters or less: %s",
                    RESOURCE_NAME_MAX, name);
        return NULL;
    }
    if (!is_dns_subdomain(text)) {
        finding_add(findings, FINDING_ERROR, value->place, name_advice(text),
                    "incorrect format for resource name '%s': [%s]", name, subdomain_rule);
        return NULL;
    }
    return name;
}

/* ---- devices ---- */

static const char devices_advice[] = "all, a count, or a list such as [0, \"1:0\", GPU-…]";

/* An element that is not a reference: upstream names it when it is a string, and its type as the
 * variable it did not fit. */
static void refuse_ref(struct findings *findings, const struct value *item)
{
    struct span text = item->kind == VALUE_STRING ? item->text : SPAN("");

    finding_add(findings, FINDING_ERROR, item->place,
                "want a GPU's index, \"<gpu>:<mig>\", or a complete UUID with GPU- or MIG-",
                "unsupported type for device in devices list: " SPAN_FMT ", string",
                SPAN_ARG(text));
}

static void read_ref(struct findings *findings, const struct value *item, struct device_ref *ret)
{
    int64_t index = 0;

    ret->place = item->place;
    if (item->kind == VALUE_STRING) {
        int r = device_ref_read(item->text, findings->arena, ret);
        if (r == -ENOMEM)
            findings->failed = true;
        if (r < 0)
            refuse_ref(findings, item);
        return;
    }
    if (item->kind == VALUE_NULL)
        finding_add(findings, FINDING_WARNING, item->place, NULL,
                    "an empty element of a devices list means GPU 0");
    else if (value_to_i64(item, &index) < 0 || index < 0)
        return refuse_ref(findings, item);
    ret->kind = DEVICE_REF_GPU_INDEX;
    ret->gpu_index = (uint32_t)MIN(index, (int64_t)UINT32_MAX);
}

static void read_refs(struct findings *findings, const struct value *list,
                      struct device_selector *ret)
{
    if (list->n_items > CONFIG_MAX_DEVICE_REFS) {
        finding_add(findings, FINDING_ERROR, list->place, NULL,
                    "a devices list of %zu elements, more than %d", list->n_items,
                    CONFIG_MAX_DEVICE_REFS);
        return;
    }
    struct device_ref *refs = arena_new_array(findings->arena, struct device_ref, list->n_items);
    if (!refs) {
        findings->failed = true;
        return;
    }
    for (size_t i = 0; i < list->n_items; i++)
        read_ref(findings, list->items[i], &refs[i]);
    *ret = (struct device_selector){ .kind = SELECT_LIST, .n_refs = list->n_items, .refs = refs };
}

static void read_devices(struct findings *findings, const struct value *value,
                         struct device_selector *ret)
{
    int64_t count;

    *ret = (struct device_selector){ .kind = SELECT_ALL };
    if (value_is_text(value, "all"))
        return;
    if (value->kind == VALUE_LIST)
        return read_refs(findings, value, ret);
    if (value->kind == VALUE_STRING || value->kind == VALUE_NULL) {
        struct span text = value->kind == VALUE_STRING ? value->text : SPAN("");
        finding_add(findings, FINDING_ERROR, value->place, devices_advice,
                    "devices set as '" SPAN_FMT "' but the only valid string input is 'all'",
                    SPAN_ARG(text));
        return;
    }
    if (value_to_i64(value, &count) < 0) {
        const char *raw = go_json(findings->arena, value);
        finding_add(findings, FINDING_ERROR, value->place, devices_advice,
                    "unrecognized type for devices spec: %s", raw ? raw : "");
        return;
    }
    if (count <= 0) {
        finding_add(findings, FINDING_ERROR, value->place, devices_advice,
                    "devices set as '%" PRId64 "' but a count of devices must be > 0", count);
        return;
    }
    *ret = (struct device_selector){ .kind = SELECT_COUNT,
                                     .count = (uint32_t)MIN(count, (int64_t)UINT32_MAX) };
}

/* ---- one resource ---- */

static uint32_t read_replicas(struct findings *findings, const struct value *value)
{
    int64_t replicas = 0;

    if (value->kind != VALUE_NULL && value_to_i64(value, &replicas) < 0) {
        const char *advice = value->kind == VALUE_STRING ? "write the number without quotes"
                                                         : "want a whole number, 2 or more";
        finding_add_mismatch(findings, value, "int", advice);
        return 0;
    }
    findings_number(findings, value);
    if (replicas < 2)
        finding_add(findings, FINDING_ERROR, value->place,
                    "a GPU that is not shared needs no entry", "number of replicas must be >= 2");
    else if (replicas > CONFIG_MAX_REPLICAS)
        finding_add(findings, FINDING_ERROR, value->place, NULL,
                    "number of replicas must be <= %d, as many as the kubelet can take",
                    CONFIG_MAX_REPLICAS);
    return (uint32_t)MAX(MIN(replicas, (int64_t)CONFIG_MAX_REPLICAS), (int64_t)0);
}

/* Checks that a value is a map, or null where upstream takes that for an empty one. */
static bool is_object(struct findings *findings, const struct value *value)
{
    if (value->kind == VALUE_MAP || value->kind == VALUE_NULL)
        return true;
    finding_add_mismatch(findings, value, "map[string]json.RawMessage", NULL);
    return false;
}

/* Keys inside here are matched exactly, and a key with a null is a key that is there. */
static void read_item(struct findings *findings, const struct value *map, struct sharing_item *ret)
{
    static const char *const known[] = { "name", "devices", "replicas", "rename" };
    const struct value *name = value_get(map, "name"), *devices = value_get(map, "devices");
    const struct value *replicas = value_get(map, "replicas"), *rename = value_get(map, "rename");

    if (!is_object(findings, map))
        return;
    findings_keys(findings, map, known, ARRAY_LEN(known), true, config_file_section_of);
    *ret = (struct sharing_item){ .resource.place = map->place };
    if (name)
        ret->resource.name = config_resource_name(findings, name);
    else
        finding_add(findings, FINDING_ERROR, map->place, "such as name: " PREFIX "gpu",
                    "no resource name specified");
    if (devices) {
        ret->devices = devices->place;
        read_devices(findings, devices, &ret->resource.devices);
    }
    if (replicas)
        ret->resource.replicas = read_replicas(findings, replicas);
    else
        finding_add(findings, FINDING_ERROR, map->place, "such as replicas: 4",
                    "no replicas specified");
    if (rename) {
        ret->rename = rename->place;
        ret->resource.rename = config_resource_name(findings, rename);
    }
}

/* ---- timeSlicing and mps ---- */

static bool read_switch(struct findings *findings, const struct value *value)
{
    if (!value || value->kind == VALUE_NULL)
        return false;
    if (value->kind == VALUE_BOOL)
        return value->boolean;
    finding_add_mismatch(findings, value, "bool", "want true or false, without quotes");
    return false;
}

static void read_items(struct findings *findings, const struct value *list,
                       struct sharing_list *ret)
{
    if (list->n_items > CONFIG_MAX_SHARED_RESOURCES) {
        finding_add(findings, FINDING_ERROR, list->place, NULL,
                    "%zu shared resources, more than %d", list->n_items,
                    CONFIG_MAX_SHARED_RESOURCES);
        return;
    }
    ret->items = arena_new_array(findings->arena, struct sharing_item, list->n_items);
    if (!ret->items) {
        findings->failed = true;
        return;
    }
    ret->n_items = list->n_items;
    for (size_t i = 0; i < list->n_items; i++)
        read_item(findings, list->items[i], &ret->items[i]);
}

static void read_list(struct findings *findings, const char *key, const struct value *map,
                      struct sharing_list *ret)
{
    static const char *const known[] = { "failRequestsGreaterThanOne", "renameByDefault",
                                         "resources" };
    const struct value *fail = value_get(map, "failRequestsGreaterThanOne");
    const struct value *resources = value_get(map, "resources");

    *ret = (struct sharing_list){ .present = true, .place = map->place };
    if (!is_object(findings, map))
        return;
    findings_keys(findings, map, known, ARRAY_LEN(known), true, config_file_section_of);
    ret->rename_by_default = read_switch(findings, value_get(map, "renameByDefault"));
    ret->fail = read_switch(findings, fail);
    ret->fail_given = fail && fail->kind != VALUE_NULL;
    if (resources && resources->kind != VALUE_LIST && resources->kind != VALUE_NULL)
        finding_add_mismatch(findings, resources, "[]v1.ReplicatedResource",
                             "want a list: begin with a `-`");
    else if (!resources || resources->kind == VALUE_NULL || resources->n_items == 0)
        finding_add(findings, FINDING_ERROR, resources ? resources->place : map->place,
                    finding_advice(findings, "leave `%s` out to share nothing this way", key),
                    "no resources specified");
    else
        read_items(findings, resources, ret);
}

/* The place of a value, or of its key when the value was left out. */
static struct value placed(const struct value_entry *entry)
{
    struct value value = *entry->value;

    if (value.place.line == 0)
        value.place = entry->place;
    return value;
}

void config_sharing_read(struct findings *findings, const struct value *map,
                         struct sharing_file *ret)
{
    const struct value_entry *mps = value_entry_nocase(map, "mps");
    const struct value_entry *time_slicing = value_entry_nocase(map, "timeSlicing");
    const struct value_entry *per_device = value_entry_nocase(map, "perDevice");

    if (mps && mps->value->kind != VALUE_NULL) {
        struct value value = placed(mps);
        findings->go_field = "Sharing.sharing.mps";
        read_list(findings, "mps", &value, &ret->mps);
        findings->go_field = NULL;
    }
    if (per_device && per_device->value->kind != VALUE_NULL) {
        ret->per_device = read_switch(findings, per_device->value);
        ret->per_device_place = per_device->value->place;
    }
    if (time_slicing) {
        struct value value = placed(time_slicing);
        findings->go_field = "Sharing.sharing.timeSlicing";
        read_list(findings, "timeSlicing", &value, &ret->time_slicing);
        findings->go_field = NULL;
    }
}
