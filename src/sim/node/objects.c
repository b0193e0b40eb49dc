#include "sim/node/objects.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/yaml.h"
#include "sim/node/pods.h"

/* ---- complaints ---- */

int object_error(const char *file, struct place place, struct err *err, const char *format, ...)
{
    char text[sizeof(err->text)];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return err_set(err, EINVAL, "%s:%u:%u: %s", file, place.line, place.column, text);
}

/* The value at a key if it is of the kind wanted; a missing or null one is success and NULL. */
int object_get(const char *file, const struct value *map, const char *key, enum value_kind kind,
               const struct value **ret, struct err *err)
{
    const struct value *value = value_get(map, key);

    *ret = NULL;
    if (!value || value->kind == VALUE_NULL)
        return 0;
    if (value->kind != kind)
        return object_error(file, value->place, err, "%s must be %s, not %s", key,
                            value_kind_names[kind], value_kind_names[value->kind]);
    *ret = value;
    return 0;
}

int object_text(const char *file, const struct value *map, const char *key, const char **ret,
                struct err *err)
{
    const struct value *value;
    int r = object_get(file, map, key, VALUE_STRING, &value, err);

    *ret = value ? value->text.ptr : "";
    if (r == 0 && value && memchr(value->text.ptr, '\0', value->text.len))
        return object_error(file, value->place, err, "%s must not contain NUL bytes", key);
    return r;
}

/* A chain of maps: "spec", "migManager", "config". */
static int get_map(const char *file, const struct value *map, const char *const *path, size_t n,
                   const struct value **ret, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++)
        r = object_get(file, map, path[i], VALUE_MAP, &map, err);
    *ret = map;
    return r;
}

static int get_text_at(const char *file, const struct value *map, const char *const *path, size_t n,
                       const char **ret, struct err *err)
{
    const struct value *inner;
    int r = get_map(file, map, path, n - 1, &inner, err);

    return r < 0 ? r : object_text(file, inner, path[n - 1], ret, err);
}

#define TEXT_AT(file, map, ret, err, ...)                                                          \
    get_text_at(file, map, (const char *const[]){ __VA_ARGS__ },                                   \
                ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })), ret, err)

/* ---- ConfigMap ---- */

static int read_config_map(struct objects *objects, const struct value *doc, const char *file,
                           struct err *err)
{
    struct config_map_object *map =
        arena_push(objects->arena, &objects->config_maps, &objects->n_config_maps);
    const struct value *data;

    if (!map)
        return err_no_memory(err);
    map->place = (struct object_place){ file, doc->place };
    int r = TEXT_AT(file, doc, &map->name, err, "metadata", "name");
    if (r == 0)
        r = TEXT_AT(file, doc, &map->namespace, err, "metadata", "namespace");
    if (r == 0)
        r = object_get(file, doc, "data", VALUE_MAP, &data, err);
    if (r < 0)
        return r;
    if (!data)
        return 0;
    map->data = arena_new_array(objects->arena, struct config_map_entry, MAX(data->n_entries, 1));
    if (!map->data)
        return err_no_memory(err);
    for (size_t i = 0; i < data->n_entries; i++) {
        const struct value_entry *entry = &data->entries[i];
        struct config_map_entry *item = &map->data[map->n_data++];

        if (entry->value->kind != VALUE_STRING)
            return object_error(file, entry->value->place, err,
                                "data.%s must be a string (write it as a block: `%s: |`), not %s",
                                entry->key, entry->key, value_kind_names[entry->value->kind]);
        *item =
            (struct config_map_entry){ entry->key, entry->value->text.ptr, entry->value->place };
    }
    return 0;
}

const struct config_map_object *objects_config_map(const struct objects *objects, const char *name)
{
    /* The last one applied counts, as with kubectl apply. */
    for (size_t i = objects->n_config_maps; i > 0; i--)
        if (text_equal(objects->config_maps[i - 1].name, name))
            return &objects->config_maps[i - 1];
    return NULL;
}

const char *config_map_text(const struct config_map_object *map, const char *key)
{
    for (size_t i = 0; i < map->n_data; i++)
        if (text_equal(map->data[i].key, key))
            return map->data[i].text;
    return NULL;
}

/* ---- ClusterPolicy ---- */

static int get_enabled(const char *file, const struct value *spec, const char *operand, bool *ret,
                       struct err *err)
{
    const struct value *part, *enabled = NULL;
    int r = object_get(file, spec, operand, VALUE_MAP, &part, err);

    if (r == 0)
        r = object_get(file, part, "enabled", VALUE_BOOL, &enabled, err);
    *ret = !enabled || enabled->boolean;
    return r;
}

static int read_env(struct objects *objects, const char *file, const struct value *spec,
                    struct cluster_policy_object *policy, struct err *err)
{
    const struct value *plugin, *list;
    int r = object_get(file, spec, "devicePlugin", VALUE_MAP, &plugin, err);

    if (r == 0)
        r = object_get(file, plugin, "env", VALUE_LIST, &list, err);
    for (size_t i = 0; r == 0 && list && i < list->n_items; i++) {
        struct key_value *variable =
            arena_push(objects->arena, &policy->plugin_env, &policy->n_plugin_env);

        if (!variable)
            return err_no_memory(err);
        if (policy->n_plugin_env > OBJECTS_MAX_ITEMS)
            return object_error(file, list->place, err, "more than %d variables",
                                OBJECTS_MAX_ITEMS);
        r = object_text(file, list->items[i], "name", &variable->key, err);
        if (r == 0)
            r = object_text(file, list->items[i], "value", &variable->value, err);
    }
    return r;
}

static int read_policy(struct objects *objects, const struct value *doc, const char *file,
                       struct err *err)
{
    static const char *const strategies[] = { "", "none", "single", "mixed" };
    struct cluster_policy_object *policy =
        arena_push(objects->arena, &objects->policies, &objects->n_policies);
    const struct value *spec;
    bool known = false;

    if (!policy)
        return err_no_memory(err);
    policy->place = (struct object_place){ file, doc->place };
    int r = TEXT_AT(file, doc, &policy->name, err, "metadata", "name");
    if (r == 0)
        r = object_get(file, doc, "spec", VALUE_MAP, &spec, err);
    if (r == 0)
        r = TEXT_AT(file, spec, &policy->mig_strategy, err, "mig", "strategy");
    if (r == 0)
        r = TEXT_AT(file, spec, &policy->mig_config_map, err, "migManager", "config", "name");
    if (r == 0)
        r = TEXT_AT(file, spec, &policy->plugin_config_map, err, "devicePlugin", "config", "name");
    if (r == 0)
        r = TEXT_AT(file, spec, &policy->plugin_config_default, err, "devicePlugin", "config",
                    "default");
    if (r == 0)
        r = TEXT_AT(file, spec, &policy->mps_root, err, "devicePlugin", "mps", "root");
    if (r == 0)
        r = get_enabled(file, spec, "devicePlugin", &policy->plugin_enabled, err);
    if (r == 0)
        r = get_enabled(file, spec, "gfd", &policy->discovery_enabled, err);
    if (r == 0)
        r = read_env(objects, file, spec, policy, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < ARRAY_LEN(strategies); i++)
        known = known || text_equal(policy->mig_strategy, strategies[i]);
    if (!known)
        return object_error(file, value_get(value_get(spec, "mig"), "strategy")->place, err,
                            "spec.mig.strategy: Unsupported value: \"%s\": supported values: "
                            "\"none\", \"single\", \"mixed\"",
                            policy->mig_strategy);
    return 0;
}

/* ---- any object ---- */

static int note(struct objects *objects, const char *file, const struct value *doc,
                const char *kind, struct err *err)
{
    const char **slot = arena_push(objects->arena, &objects->notes, &objects->n_notes);
    const char *name = "";
    struct err ignored;
    char *text;

    if (!slot)
        return err_no_memory(err);
    if (TEXT_AT(file, doc, &name, &ignored, "metadata", "name") < 0)
        name = "";
    text = arena_printf(objects->arena,
                        "%s:%u:%u: %s %s is left alone: a simulated node runs "
                        "ClusterPolicy, ConfigMap, Pod and Deployment",
                        file, doc->place.line, doc->place.column, kind, name);
    if (!text)
        return err_no_memory(err);
    text_make_harmless(text);
    *slot = text;
    return 0;
}

static int read_object(struct objects *objects, const struct value *doc, const char *file,
                       unsigned depth, struct err *err)
{
    const char *kind, *version;
    const struct value *items;

    if (doc->kind == VALUE_NULL)
        return 0;
    if (doc->kind != VALUE_MAP)
        return object_error(file, doc->place, err,
                            "a Kubernetes object is a map with apiVersion and "
                            "kind, not %s",
                            value_kind_names[doc->kind]);
    int r = object_text(file, doc, "kind", &kind, err);
    if (r == 0)
        r = object_text(file, doc, "apiVersion", &version, err);
    if (r < 0)
        return r;
    if (!*kind || !*version)
        return object_error(file, doc->place, err,
                            "%s is missing: a Kubernetes object begins with "
                            "apiVersion and kind",
                            *kind ? "apiVersion" : "kind");
    if (text_ends(kind, "List")) {
        if (depth > 0)
            return object_error(file, doc->place, err, "a List inside a List");
        r = object_get(file, doc, "items", VALUE_LIST, &items, err);
        for (size_t i = 0; r == 0 && items && i < items->n_items; i++)
            r = read_object(objects, items->items[i], file, depth + 1, err);
        return r;
    }
    if (text_equal(kind, "ConfigMap"))
        return read_config_map(objects, doc, file, err);
    if (text_equal(kind, "ClusterPolicy"))
        return read_policy(objects, doc, file, err);
    if (text_equal(kind, "Pod") || text_equal(kind, "Deployment"))
        return pods_read(objects, doc, file, kind, err);
    return note(objects, file, doc, kind, err);
}

int objects_read(struct objects *objects, struct span text, const char *file, struct err *err)
{
    struct value **docs;
    size_t n_docs;
    int r = yaml_parse_all(text, file, NULL, objects->arena, &docs, &n_docs, err);

    for (size_t i = 0; r == 0 && i < n_docs; i++)
        r = read_object(objects, docs[i], file, 0, err);
    return r;
}
