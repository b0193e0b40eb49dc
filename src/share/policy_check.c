#include "share/policy_check.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "share/key_path.h"

enum field_type {
    FIELD_OBJECT,
    FIELD_CLOSED,
    FIELD_BOOL,
    FIELD_TEXT,
    FIELD_WORD,
    FIELD_NUMBER,
    FIELD_PORTION, /* 3 or "25%" */
    FIELD_TEXTS,
    FIELD_LIST,
    FIELD_MAP,
    FIELD_ENV,
    FIELD_N_TYPES
};

struct field {
    const char *path;
    enum field_type type;
    const char *words;
};

static const struct field fields[] = {
#define FIELD(path, type, words) { path, FIELD_##type, words },
#include "share/policy_fields.def"
};

static const char *const wanted[FIELD_N_TYPES] = {
    [FIELD_OBJECT] = "a map",
    [FIELD_CLOSED] = "a map",
    [FIELD_BOOL] = "true or false",
    [FIELD_TEXT] = "a string",
    [FIELD_WORD] = "a string",
    [FIELD_NUMBER] = "a whole number",
    [FIELD_PORTION] = "a whole number or a percentage such as \"25%\"",
    [FIELD_TEXTS] = "a list of strings",
    [FIELD_LIST] = "a list",
    [FIELD_MAP] = "a map",
    [FIELD_ENV] = "a list of names and values",
};

enum { MAX_MEMBERS = 64, MAX_WORDS = 8 };

/* ---- values ---- */

static bool has_type(const struct field *field, const struct value *value)
{
    int64_t number;

    switch (field->type) {
    case FIELD_BOOL:
        return value->kind == VALUE_BOOL;
    case FIELD_TEXT:
    case FIELD_WORD:
        return value->kind == VALUE_STRING;
    case FIELD_NUMBER:
        return value_to_i64(value, &number) == 0;
    case FIELD_PORTION:
        return value->kind == VALUE_STRING || value_to_i64(value, &number) == 0;
    case FIELD_TEXTS:
    case FIELD_LIST:
    case FIELD_ENV:
        return value->kind == VALUE_LIST;
    default:
        return value->kind == VALUE_MAP;
    }
}

static const char *type_advice(const struct field *field, const struct value *value)
{
    if (field->type == FIELD_BOOL && value->kind == VALUE_STRING)
        return "write it without quotes";
    if (wanted[field->type] == wanted[FIELD_TEXT] && value->kind < VALUE_STRING)
        return "write it in quotes";
    return NULL;
}

static void check_texts(struct findings *findings, const struct field *field,
                        const struct value *list)
{
    for (size_t i = 0; i < list->n_items; i++)
        if (list->items[i]->kind != VALUE_STRING)
            finding_add(findings, FINDING_ERROR, list->items[i]->place, "write it in quotes",
                        "`spec.%s` wants strings, this is %s", field->path,
                        value_kind_names[list->items[i]->kind]);
}

/* Kubernetes takes no number or boolean for a variable's value, however natural it looks. */
static void check_env(struct findings *findings, const struct field *field,
                      const struct value *list)
{
    static const char *const known[] = { "name", "value" };

    for (size_t i = 0; i < list->n_items; i++) {
        const struct value *item = list->items[i];
        const struct value *name = value_get(item, "name"), *value = value_get(item, "value");
        if (!name || name->kind != VALUE_STRING)
            finding_add(findings, FINDING_ERROR, item->place, "such as {name: X, value: \"y\"}",
                        "`spec.%s` wants a name in each item", field->path);
        if (value && value->kind != VALUE_STRING && value->kind != VALUE_NULL)
            finding_add(findings, FINDING_ERROR, value->place, "write it in quotes",
                        "the value of a variable in `spec.%s` is %s, want a string", field->path,
                        value_kind_names[value->kind]);
        findings_keys(findings, item, known, ARRAY_LEN(known), true, NULL);
    }
}

static void check_word(struct findings *findings, const struct field *field,
                       const struct value *value)
{
    auto_(buf_done) struct buf list = BUF_MAX(256);
    const char *words[MAX_WORDS], *nearest;
    struct span rest = span_of(field->words), part;
    size_t n = 0;

    for (bool more = true; n < MAX_WORDS && span_split(&rest, ',', &more, &part); n++) {
        if (span_equal(value->text, part))
            return;
        words[n] = arena_spandup(findings->arena, part);
        if (!words[n] ||
            buf_printf(&list, "%s\"" SPAN_FMT "\"", n > 0 ? ", " : "", SPAN_ARG(part)) < 0) {
            findings->failed = true;
            return;
        }
    }
    nearest = text_nearest(value->text.ptr, words, n);
    const char *advice =
        nearest && nearest[0] ? finding_advice(findings, "did you mean %s?", nearest) : NULL;
    finding_add(findings, FINDING_ERROR, value->place, advice,
                "`spec.%s` is \"" SPAN_FMT "\", want one of %s", field->path, SPAN_ARG(value->text),
                buf_text(&list));
}

static void check_field(struct findings *findings, const struct field *field,
                        const struct value *value)
{
    if (value->kind == VALUE_NULL)
        return;
    if (!has_type(field, value)) {
        finding_add(findings, FINDING_ERROR, value->place, type_advice(field, value),
                    "`spec.%s` is %s, want %s", field->path, value_kind_names[value->kind],
                    wanted[field->type]);
        return;
    }
    if (field->type == FIELD_WORD)
        check_word(findings, field, value);
    else if (field->type == FIELD_TEXTS)
        check_texts(findings, field, value);
    else if (field->type == FIELD_ENV)
        check_env(findings, field, value);
}

/* ---- members ---- */

/* In an object with more members than are listed, only a near miss is worth a word. */
static void check_members(struct findings *findings, const char *parent, const struct value *map,
                          bool closed)
{
    const char *known[MAX_MEMBERS], *member;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(fields) && n < MAX_MEMBERS; i++)
        if ((member = key_leaf_under(fields[i].path, parent)))
            known[n++] = member;
    if (closed || map->n_duplicates > 0) {
        findings_keys(findings, map, known, n, true, NULL);
        return;
    }
    for (size_t i = 0; i < map->n_entries; i++) {
        const char *nearest = text_nearest(map->entries[i].key, known, n);
        if (nearest && !text_equal(nearest, map->entries[i].key))
            finding_add(findings, FINDING_WARNING, map->entries[i].place, NULL,
                        "unknown key `%s`, did you mean `%s`?", map->entries[i].key, nearest);
    }
}

static const struct value *look_up(const struct value *map, const char *path)
{
    struct span rest = span_of(path), part;
    char key[64];

    for (bool more = true; map && span_split(&rest, '.', &more, &part);) {
        snprintf(key, sizeof(key), SPAN_FMT, SPAN_ARG(part));
        map = value_get(map, key);
    }
    return map;
}

void policy_check(struct findings *findings, const struct value *spec)
{
    check_members(findings, "", spec, true);
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const struct field *field = &fields[i];
        const struct value *value = look_up(spec, field->path);
        if (!value)
            continue;
        check_field(findings, field, value);
        if ((field->type == FIELD_OBJECT || field->type == FIELD_CLOSED) &&
            value->kind == VALUE_MAP)
            check_members(findings, field->path, value, field->type == FIELD_CLOSED);
    }
}
