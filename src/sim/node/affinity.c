#include "sim/node/affinity.h"

#include "base/text.h"
#include "sim/node/pods.h"

#define REQUIRED  "requiredDuringSchedulingIgnoredDuringExecution"
#define NAME_KEY  "metadata.name"
#define NODE_NAME "kubernetes.io/hostname" /* the one node's name is its host's, too */

/* ---- reading ---- */

static bool is_either(const struct affinity_expression *e, const char *a, const char *b)
{
    return text_equal(e->op, a) || text_equal(e->op, b);
}

static int check(const char *file, struct place place, const struct affinity_expression *e,
                 struct err *err)
{
    const char *wrong = NULL;

    if (is_either(e, "In", "NotIn"))
        wrong = e->n_values == 0 ? "must be specified when `operator` is 'In' or 'NotIn'" : NULL;
    else if (is_either(e, "Exists", "DoesNotExist"))
        wrong = e->n_values > 0
                    ? "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    : NULL;
    else if (is_either(e, "Gt", "Lt"))
        wrong = e->n_values != 1 ? "must be specified single value when `operator` is 'Lt' or 'Gt'"
                                 : NULL;
    else
        return object_error(file, place, err,
                            "operator: Invalid value: \"%s\": not a valid selector operator",
                            e->op);
    return wrong ? object_error(file, place, err, "values: %s", wrong) : 0;
}

static int read_values(struct objects *objects, const char *file, const struct value *item,
                       struct affinity_expression *e, struct err *err)
{
    const struct value *list;
    int r = object_get(file, item, "values", VALUE_LIST, &list, err);

    for (size_t i = 0; r == 0 && list && i < list->n_items; i++) {
        const char **slot = arena_push(objects->arena, &e->values, &e->n_values);

        if (!slot)
            return err_no_memory(err);
        if (list->items[i]->kind != VALUE_STRING)
            return object_error(file, list->items[i]->place, err,
                                "a value must be a string, not %s",
                                value_kind_names[list->items[i]->kind]);
        *slot = list->items[i]->text.ptr;
    }
    return r;
}

static int read_expressions(struct objects *objects, const char *file, const struct value *map,
                            const char *section, struct affinity_term *term, struct err *err)
{
    const struct value *list;
    int r = object_get(file, map, section, VALUE_LIST, &list, err);

    for (size_t i = 0; r == 0 && list && i < list->n_items; i++) {
        const struct value *item = list->items[i];
        struct affinity_expression *e = arena_push(objects->arena, &term->expressions, &term->n);

        if (!e)
            return err_no_memory(err);
        r = object_text(file, item, "key", &e->key, err);
        if (r == 0)
            r = object_text(file, item, "operator", &e->op, err);
        if (r == 0)
            r = read_values(objects, file, item, e, err);
        if (r == 0)
            r = check(file, item->place, e, err);
        if (r == 0 && text_equal(section, "matchFields")) {
            if (!text_equal(e->key, NAME_KEY))
                return object_error(file, item->place, err,
                                    "key: Invalid value: \"%s\": not a valid field selector key",
                                    e->key);
            e->key = NODE_NAME;
        }
    }
    return r;
}

int affinity_read(struct objects *objects, const char *file, struct pod_object *pod,
                  struct err *err)
{
    const struct value *map = pod->spec, *terms = NULL;
    int r = object_get(file, map, "affinity", VALUE_MAP, &map, err);

    if (r == 0)
        r = object_get(file, map, "nodeAffinity", VALUE_MAP, &map, err);
    if (r == 0)
        r = object_get(file, map, REQUIRED, VALUE_MAP, &map, err);
    if (r < 0 || !map)
        return r;
    r = object_get(file, map, "nodeSelectorTerms", VALUE_LIST, &terms, err);
    if (r == 0 && (!terms || terms->n_items == 0))
        return object_error(file, map->place, err,
                            "nodeSelectorTerms: Required value: must have at least one node "
                            "selector term");
    for (size_t i = 0; r == 0 && i < terms->n_items; i++) {
        struct affinity_term *term = arena_push(objects->arena, &pod->affinity, &pod->n_affinity);

        if (!term)
            return err_no_memory(err);
        r = read_expressions(objects, file, terms->items[i], "matchExpressions", term, err);
        if (r == 0)
            r = read_expressions(objects, file, terms->items[i], "matchFields", term, err);
    }
    return r;
}

/* ---- matching ---- */

static const char *label_of(const struct key_value *labels, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (text_equal(labels[i].key, key))
            return labels[i].value;
    return NULL;
}

static bool is_one_of(const struct affinity_expression *e, const char *value)
{
    for (size_t i = 0; value && i < e->n_values; i++)
        if (text_equal(e->values[i], value))
            return true;
    return false;
}

static bool compares(const struct affinity_expression *e, const char *value)
{
    int64_t left, right;

    if (!value || text_to_i64(span_of(value), &left) < 0 ||
        text_to_i64(span_of(e->values[0]), &right) < 0)
        return false;
    return text_equal(e->op, "Gt") ? left > right : left < right;
}

static bool holds(const struct affinity_expression *e, const char *value)
{
    if (is_either(e, "Exists", "DoesNotExist"))
        return (value != NULL) == text_equal(e->op, "Exists");
    if (is_either(e, "In", "NotIn"))
        return is_one_of(e, value) == text_equal(e->op, "In");
    return compares(e, value);
}

bool affinity_matches(const struct pod_object *pod, const struct key_value *labels, size_t n_labels)
{
    for (size_t t = 0; t < pod->n_affinity; t++) {
        const struct affinity_term *term = &pod->affinity[t];
        bool all = term->n > 0;

        for (size_t i = 0; i < term->n; i++)
            all = all && holds(&term->expressions[i],
                               label_of(labels, n_labels, term->expressions[i].key));
        if (all)
            return true;
    }
    return pod->n_affinity == 0;
}
