#include "sim/node/pods.h"

#include <errno.h>
#include <string.h>

#include "sim/node/affinity.h"

/* Parts with dots between them, each of small letters and digits, with hyphens only inside. */
static bool is_subdomain(const char *name)
{
    static const char ends[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    struct span rest = span_of(name), part;
    bool more = true;

    while (span_split(&rest, '.', &more, &part)) {
        if (part.len == 0 || !strchr(ends, part.ptr[0]) || !strchr(ends, part.ptr[part.len - 1]))
            return false;
        for (size_t i = 0; i < part.len; i++)
            if (part.ptr[i] != '-' && !strchr(ends, part.ptr[i]))
                return false;
    }
    return true;
}

/* A count of an extended resource: the API server takes whole numbers only. */
static int read_count(const char *file, const char *resource, const struct value *value,
                      uint32_t *ret, struct err *err)
{
    int64_t milli;

    if ((value->kind != VALUE_INT && value->kind != VALUE_STRING && value->kind != VALUE_FLOAT) ||
        text_to_quantity_milli(value->text, &milli) < 0)
        return object_error(file, value->place, err,
                            "%s: quantities must match the regular expression "
                            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                            resource);
    if (milli < 0)
        return object_error(file, value->place, err, "%s: must be greater than or equal to 0",
                            resource);
    if (milli % 1000 != 0 || milli / 1000 > INT32_MAX)
        return object_error(file, value->place, err, "%s: must be an integer", resource);
    *ret = (uint32_t)(milli / 1000);
    return 0;
}

/* cpu, memory and the like are no business of a device manager. */
static bool is_extended(const char *resource)
{
    return strchr(resource, '/') && !text_starts(resource, "kubernetes.io/");
}

/* limits count; requests must be equal where both are given, and cannot stand alone. */
static int read_requests(struct objects *objects, const char *file, const struct value *container,
                         struct sim_container *ret, struct err *err)
{
    const struct value *resources, *limits, *requests;
    struct sim_request *list = NULL;
    int r = object_get(file, container, "resources", VALUE_MAP, &resources, err);

    if (r == 0)
        r = object_get(file, resources, "limits", VALUE_MAP, &limits, err);
    if (r == 0)
        r = object_get(file, resources, "requests", VALUE_MAP, &requests, err);
    if (r < 0)
        return r;
    for (size_t i = 0; limits && i < limits->n_entries; i++) {
        const struct value_entry *entry = &limits->entries[i];
        const struct value *request = value_get(requests, entry->key);
        uint32_t count, requested;

        if (!is_extended(entry->key))
            continue;
        r = read_count(file, entry->key, entry->value, &count, err);
        if (r == 0 && request)
            r = read_count(file, entry->key, request, &requested, err);
        if (r < 0)
            return r;
        if (request && requested != count)
            return object_error(file, request->place, err, "must be equal to %s limit of %u",
                                entry->key, count);
        struct sim_request *slot = arena_push(objects->arena, &list, &ret->n_requests);
        if (!slot)
            return err_no_memory(err);
        *slot = (struct sim_request){ entry->key, count };
    }
    for (size_t i = 0; requests && i < requests->n_entries; i++)
        if (is_extended(requests->entries[i].key) && !value_get(limits, requests->entries[i].key))
            return object_error(file, requests->entries[i].place, err,
                                "Limit must be set for non overcommitable resources (%s)",
                                requests->entries[i].key);
    ret->requests = list;
    return 0;
}

static int read_containers(struct objects *objects, const char *file, const struct value *spec,
                           const char *key, bool init, struct sim_container *containers,
                           size_t *n_containers, struct err *err)
{
    const struct value *list;
    int r = object_get(file, spec, key, VALUE_LIST, &list, err);

    for (size_t i = 0; r == 0 && list && i < list->n_items; i++) {
        const struct value *item = list->items[i];

        if (item->kind != VALUE_MAP)
            return object_error(file, item->place, err, "a container must be a map, not %s",
                                value_kind_names[item->kind]);
        if (*n_containers == OBJECTS_MAX_CONTAINERS)
            return object_error(file, item->place, err, "more than %d containers",
                                OBJECTS_MAX_CONTAINERS);
        struct sim_container *container = &containers[(*n_containers)++];
        *container = (struct sim_container){ .init = init };
        r = object_text(file, item, "name", &container->name, err);
        if (r == 0 && !*container->name)
            r = object_error(file, item->place, err, "a container needs a name");
        if (r == 0 && (!is_subdomain(container->name) || strchr(container->name, '.') ||
                       strlen(container->name) > 63))
            r = object_error(file, item->place, err,
                             "name: Invalid value: \"%s\": a lowercase RFC 1123 label must consist "
                             "of lower case alphanumeric characters or '-', and must start and end "
                             "with an alphanumeric character",
                             container->name);
        for (size_t other = 0; r == 0 && other + 1 < *n_containers; other++)
            if (text_equal(containers[other].name, container->name))
                r = object_error(file, item->place, err, "two containers are called %s",
                                 container->name);
        if (r == 0)
            r = read_requests(objects, file, item, container, err);
    }
    return r;
}

static int read_selectors(struct objects *objects, const char *file, const struct value *spec,
                          struct pod_object *pod, struct err *err)
{
    const struct value *map;
    int r = object_get(file, spec, "nodeSelector", VALUE_MAP, &map, err);

    for (size_t i = 0; r == 0 && map && i < map->n_entries; i++) {
        struct key_value *slot = arena_push(objects->arena, &pod->selectors, &pod->n_selectors);

        if (!slot)
            return err_no_memory(err);
        slot->key = map->entries[i].key;
        r = object_text(file, map, slot->key, &slot->value, err);
    }
    return r;
}

static int read_tolerations(struct objects *objects, const char *file, const struct value *spec,
                            struct pod_object *pod, struct err *err)
{
    const struct value *list;
    int r = object_get(file, spec, "tolerations", VALUE_LIST, &list, err);

    for (size_t i = 0; r == 0 && list && i < list->n_items; i++) {
        struct toleration *slot =
            arena_push(objects->arena, &pod->tolerations, &pod->n_tolerations);

        if (!slot)
            return err_no_memory(err);
        r = object_text(file, list->items[i], "key", &slot->key, err);
        if (r == 0)
            r = object_text(file, list->items[i], "operator", &slot->op, err);
        if (r == 0)
            r = object_text(file, list->items[i], "value", &slot->value, err);
        if (r == 0)
            r = object_text(file, list->items[i], "effect", &slot->effect, err);
        if (!*slot->op)
            slot->op = "Equal";
    }
    return r;
}

/* Everything but name and uid, which each replica has its own. */
static int read_template(struct objects *objects, const char *file, struct pod_object *pod,
                         struct err *err)
{
    struct sim_container *containers =
        arena_new_array(objects->arena, struct sim_container, OBJECTS_MAX_CONTAINERS);
    size_t n = 0, n_init;
    int r;

    if (!containers)
        return err_no_memory(err);
    r = read_containers(objects, file, pod->spec, "initContainers", true, containers, &n, err);
    n_init = n;
    if (r == 0)
        r = read_containers(objects, file, pod->spec, "containers", false, containers, &n, err);
    if (r == 0 && n == n_init)
        r = object_error(file, pod->spec ? pod->spec->place : pod->place.place, err,
                         "spec.containers is missing: a pod needs at least one container");
    if (r == 0)
        r = read_selectors(objects, file, pod->spec, pod, err);
    if (r == 0)
        r = read_tolerations(objects, file, pod->spec, pod, err);
    if (r == 0)
        r = affinity_read(objects, file, pod, err);
    if (r == 0)
        r = object_text(file, pod->spec, "nodeName", &pod->node_name, err);
    if (r == 0)
        r = object_text(file, pod->metadata, "namespace", &pod->sim.namespace, err);
    if (r < 0)
        return r;
    if (!*pod->sim.namespace)
        pod->sim.namespace = "default";
    pod->sim.containers = containers;
    pod->sim.n_containers = n;
    return 0;
}

/* Kubernetes' own alphabet for generated names, without vowels. The suffix follows from the names
 * and the number, so that the same manifests give the same pods. */
static void name_suffix(const char *text, uint32_t salt, char *suffix, size_t n)
{
    static const char alphabet[] = "bcdfghjklmnpqrstvwxz2456789";
    uint64_t hash = 1469598103934665603ull ^ salt * 0x9e3779b97f4a7c15ull;

    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211ull;
    for (size_t i = 0; i < n; i++) {
        suffix[i] = alphabet[hash % (sizeof(alphabet) - 1)];
        hash = hash / 27 + hash * 31;
    }
    suffix[n] = '\0';
}

static int add_pod(struct objects *objects, const struct pod_object *pod, const char *name,
                   struct err *err)
{
    struct pod_object *slot;

    if (objects->n_pods == OBJECTS_MAX_PODS)
        return object_error(pod->place.file, pod->place.place, err,
                            "more than %d pods: a node runs at most 110", OBJECTS_MAX_PODS);
    slot = arena_push(objects->arena, &objects->pods, &objects->n_pods);
    if (!slot)
        return err_no_memory(err);
    *slot = *pod;
    slot->sim.name = name;
    slot->sim.uid = arena_printf(objects->arena, "7261636e-6365-4000-8000-%012zx", objects->n_pods);
    return slot->sim.uid && name ? 0 : err_no_memory(err);
}

/* The API server refuses a Deployment whose selector does not select its own pods. */
static int check_selector(const char *file, const struct value *spec, const struct value *labels,
                          struct err *err)
{
    const struct value *selector, *match;
    int r = object_get(file, spec, "selector", VALUE_MAP, &selector, err);

    if (r == 0)
        r = object_get(file, selector, "matchLabels", VALUE_MAP, &match, err);
    if (r < 0)
        return r;
    if (!selector)
        return object_error(file, spec->place, err, "spec.selector is missing");
    for (size_t i = 0; match && i < match->n_entries; i++) {
        const struct value *label = value_get(labels, match->entries[i].key);

        if (!label || !span_equal(label->text, match->entries[i].value->text))
            return object_error(file, match->entries[i].place, err,
                                "`selector` does not match template `labels`: %s",
                                match->entries[i].key);
    }
    return 0;
}

static int read_deployment(struct objects *objects, const struct value *doc, const char *file,
                           const char *name, struct err *err)
{
    struct pod_object pod = { .place = { file, doc->place }, .manifest = doc, .owner = name };
    const struct value *spec, *template, *replicas, *labels;
    int64_t n = 1;
    char set[11], suffix[6];
    int r = object_get(file, doc, "spec", VALUE_MAP, &spec, err);

    if (r == 0 && !spec)
        r = object_error(file, doc->place, err, "spec is missing");
    if (r == 0)
        r = object_get(file, spec, "replicas", VALUE_INT, &replicas, err);
    if (r == 0)
        r = object_get(file, spec, "template", VALUE_MAP, &template, err);
    if (r == 0)
        r = object_get(file, template, "metadata", VALUE_MAP, &pod.metadata, err);
    if (r == 0)
        r = object_get(file, template, "spec", VALUE_MAP, &pod.spec, err);
    if (r == 0)
        r = object_get(file, pod.metadata, "labels", VALUE_MAP, &labels, err);
    if (r == 0)
        r = check_selector(file, spec, labels, err);
    if (r == 0)
        r = read_template(objects, file, &pod, err);
    if (r < 0)
        return r;
    if (replicas)
        n = replicas->integer;
    if (n < 0 || n > OBJECTS_MAX_PODS)
        return object_error(file, replicas->place, err, "replicas must be from 0 to %d, not %lld",
                            OBJECTS_MAX_PODS, (long long)n);
    name_suffix(name, 0, set, sizeof(set) - 1);
    for (int64_t i = 0; i < n; i++) {
        name_suffix(name, (uint32_t)i + 1, suffix, sizeof(suffix) - 1);
        r = add_pod(objects, &pod, arena_printf(objects->arena, "%s-%s-%s", name, set, suffix),
                    err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Applied twice under one name, the API server would update; a pod's resources cannot change. */
static int check_unique(const struct objects *objects, const struct pod_object *pod,
                        const char *name, struct err *err)
{
    for (size_t i = 0; i < objects->n_pods; i++)
        if (text_equal(objects->pods[i].sim.name, name) &&
            text_equal(objects->pods[i].sim.namespace, pod->sim.namespace))
            return object_error(pod->place.file, pod->place.place, err,
                                "pod %s is there twice, first at %s:%u:%u", name,
                                objects->pods[i].place.file, objects->pods[i].place.place.line,
                                objects->pods[i].place.place.column);
    return 0;
}

int pods_read(struct objects *objects, const struct value *doc, const char *file, const char *kind,
              struct err *err)
{
    struct pod_object pod = { .place = { file, doc->place }, .manifest = doc };
    const struct value *metadata;
    const char *name;
    int r = object_get(file, doc, "metadata", VALUE_MAP, &metadata, err);

    if (r == 0)
        r = object_text(file, metadata, "name", &name, err);
    if (r < 0)
        return r;
    if (!*name)
        return object_error(file, doc->place, err, "metadata.name is missing");
    if (strlen(name) > 253)
        return object_error(file, doc->place, err,
                            "metadata.name must be no more than 253 characters");
    if (!is_subdomain(name))
        return object_error(file, value_get(metadata, "name")->place, err,
                            "metadata.name: Invalid value: \"%s\": a lowercase RFC 1123 subdomain "
                            "must consist of lower case alphanumeric characters, '-' or '.', and "
                            "must start and end with an alphanumeric character",
                            name);
    if (text_equal(kind, "Deployment"))
        return read_deployment(objects, doc, file, name, err);
    pod.metadata = metadata;
    r = object_get(file, doc, "spec", VALUE_MAP, &pod.spec, err);
    if (r == 0)
        r = read_template(objects, file, &pod, err);
    if (r == 0)
        r = check_unique(objects, &pod, name, err);
    return r < 0 ? r : add_pod(objects, &pod, name, err);
}
