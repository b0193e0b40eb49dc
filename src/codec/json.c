#include "codec/json.h"

#include <errno.h>
#include <math.h>

int json_parse(struct span text, const char *name, size_t max_bytes, json_t **ret, struct err *err)
{
    json_error_t error = {};

    if (text.len > max_bytes)
        return err_set(err, EFBIG, "%s: the text is larger than %zu bytes", name, max_bytes);
    json_t *json =
        json_loadb(text.ptr ? text.ptr : "", text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json && json_error_code(&error) == json_error_out_of_memory)
        return err_wrap(err, err_no_memory(err), "%s", name);
    if (!json)
        return err_set(err, EINVAL, "%s:%d:%d: %s", name, error.line, error.column, error.text);
    *ret = json;
    return 0;
}

/* ---- from a tree ---- */

static json_t *from_number(const struct value *value)
{
    int64_t whole;

    if (value->kind == VALUE_FLOAT && value_to_i64(value, &whole) < 0)
        return json_real(value->number);
    return json_integer(value->kind == VALUE_INT ? value->integer : whole);
}

static json_t *from_value(const struct value *value);

static json_t *from_list(const struct value *value)
{
    auto_(json_decrefp) json_t *list = json_array();

    for (size_t i = 0; i < value->n_items; i++)
        if (json_array_append_new(list, from_value(value->items[i])) < 0)
            return NULL;
    return steal(list);
}

static json_t *from_map(const struct value *value)
{
    auto_(json_decrefp) json_t *map = json_object();

    for (size_t i = 0; i < value->n_entries; i++) {
        const struct value_entry *entry = &value->entries[i];
        if (json_object_set_new(map, entry->key, from_value(entry->value)) < 0)
            return NULL;
    }
    return steal(map);
}

/* NULL when memory runs out, which jansson's setters pass on. */
static json_t *from_value(const struct value *value)
{
    switch (value->kind) {
    case VALUE_BOOL:
        return json_boolean(value->boolean);
    case VALUE_INT:
    case VALUE_FLOAT:
        return from_number(value);
    case VALUE_STRING:
        return json_stringn(value->text.ptr, value->text.len);
    case VALUE_LIST:
        return from_list(value);
    case VALUE_MAP:
        return from_map(value);
    default:
        return json_null();
    }
}

/* The first number that JSON cannot say, or NULL. */
static const struct value *find_unsayable(const struct value *value)
{
    const struct value *found = NULL;

    if (value->kind == VALUE_FLOAT && !isfinite(value->number))
        return value;
    if (value->kind == VALUE_LIST)
        for (size_t i = 0; i < value->n_items && !found; i++)
            found = find_unsayable(value->items[i]);
    if (value->kind == VALUE_MAP)
        for (size_t i = 0; i < value->n_entries && !found; i++)
            found = find_unsayable(value->entries[i].value);
    return found;
}

int json_from_value(const struct value *value, json_t **ret, struct err *err)
{
    const struct value *unsayable = find_unsayable(value);

    if (unsayable)
        return err_set(err, EINVAL, "json: unsupported value: %s",
                       isnan(unsayable->number) ? "NaN"
                       : unsayable->number < 0  ? "-Inf"
                                                : "+Inf");
    json_t *json = from_value(value);
    if (!json)
        return err_no_memory(err);
    *ret = json;
    return 0;
}

/* ---- to text ---- */

static int add_piece(const char *bytes, size_t len, void *buf)
{
    return buf_add(buf, bytes, len);
}

int json_to_text(const json_t *json, unsigned indent, struct buf *ret)
{
    size_t flags = JSON_ENCODE_ANY | (indent ? JSON_INDENT(indent) : JSON_COMPACT);

    if (json_dump_callback(json, add_piece, ret, flags) < 0 && !ret->failed) {
        ret->failed = true;
        return -ENOMEM;
    }
    return ret->failed ? -EFBIG : 0;
}
