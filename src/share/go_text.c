#include "share/go_text.h"

#include <stdio.h>
#include <string.h>

enum { SORTED_MAX_BYTES = 16 << 20 }; /* pointers to the entries of the largest map there is */

static const char *const kinds[VALUE_N_KINDS] = {
    [VALUE_NULL] = "null",    [VALUE_BOOL] = "bool",     [VALUE_INT] = "number",
    [VALUE_FLOAT] = "number", [VALUE_STRING] = "string", [VALUE_LIST] = "array",
    [VALUE_MAP] = "object",
};

const char *go_json_kind(const struct value *value)
{
    return kinds[value->kind];
}

const char *go_error(int code, char text[static 128])
{
    snprintf(text, 128, "%s", strerror(code));
    if (text[0] >= 'A' && text[0] <= 'Z')
        text[0] = (char)(text[0] | 0x20);
    return text;
}

/* ---- order ---- */

static int compare_keys(const void *a, const void *b)
{
    return strcmp((*(const struct value_entry *const *)a)->key,
                  (*(const struct value_entry *const *)b)->key);
}

const struct value_entry **go_sorted_entries(struct arena *arena, const struct value *map)
{
    const struct value_entry **sorted =
        arena_new_array(arena, const struct value_entry *, map->n_entries);

    for (size_t i = 0; sorted && i < map->n_entries; i++)
        sorted[i] = &map->entries[i];
    if (sorted)
        qsort(sorted, map->n_entries, sizeof(*sorted), compare_keys);
    return sorted;
}

/* ---- quoting ---- */

static void add_quoted_char(struct buf *out, char c)
{
    static const char plain[] = "\a\b\f\n\r\t\v\\\"", letters[] = "abfnrtv\\\"";
    const char *at = c ? strchr(plain, c) : NULL;

    if (at)
        buf_printf(out, "\\%c", letters[at - plain]);
    else if ((unsigned char)c < 0x20 || (unsigned char)c >= 0x7F)
        buf_printf(out, "\\x%02x", (unsigned char)c);
    else
        buf_add_char(out, c);
}

char *go_quote(struct arena *arena, struct span text)
{
    auto_(buf_done) struct buf out = BUF_MAX(4 * text.len + 3);

    buf_add_char(&out, '"');
    for (struct span rest = text; rest.len > 0;) {
        size_t step = text_utf8_char(rest);
        if (step > 1)
            buf_add(&out, rest.ptr, step);
        else
            add_quoted_char(&out, rest.ptr[0]);
        step = MAX(step, (size_t)1);
        rest = (struct span){ .ptr = rest.ptr + step, .len = rest.len - step };
    }
    buf_add_char(&out, '"');
    return out.failed ? NULL : arena_spandup(arena, buf_span(&out));
}

/* ---- JSON ---- */

/* encoding/json escapes <, > and & too, so that the text may stand in HTML. */
static void add_json_string(struct buf *out, struct span text)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else if (c == '\n' || c == '\r' || c == '\t')
            buf_printf(out, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (c < 0x20 || c == '<' || c == '>' || c == '&')
            buf_printf(out, "\\u%04x", c);
        else
            buf_add_char(out, (char)c);
    }
    buf_add_char(out, '"');
}

static void add_json(struct buf *out, const struct value *value);

static void add_json_map(struct buf *out, const struct value *map)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(SORTED_MAX_BYTES);
    const struct value_entry **sorted = go_sorted_entries(&arena, map);

    out->failed |= !sorted;
    buf_add_char(out, '{');
    for (size_t i = 0; i < map->n_entries && !out->failed; i++) {
        if (i > 0)
            buf_add_char(out, ',');
        add_json_string(out, span_of(sorted[i]->key));
        buf_add_char(out, ':');
        add_json(out, sorted[i]->value);
    }
    buf_add_char(out, '}');
}

static void add_json_list(struct buf *out, const struct value *list)
{
    buf_add_char(out, '[');
    for (size_t i = 0; i < list->n_items && !out->failed; i++) {
        if (i > 0)
            buf_add_char(out, ',');
        add_json(out, list->items[i]);
    }
    buf_add_char(out, ']');
}

static void add_json(struct buf *out, const struct value *value)
{
    char number[VALUE_NUMBER_SIZE];

    switch (value->kind) {
    case VALUE_BOOL:
        buf_add_text(out, value->boolean ? "true" : "false");
        break;
    case VALUE_INT:
    case VALUE_FLOAT:
        value_number_text(value, number);
        buf_add_text(out, number);
        break;
    case VALUE_STRING:
        add_json_string(out, value->text);
        break;
    case VALUE_LIST:
        add_json_list(out, value);
        break;
    case VALUE_MAP:
        add_json_map(out, value);
        break;
    default:
        buf_add_text(out, "null");
    }
}

char *go_json(struct arena *arena, const struct value *value)
{
    auto_(buf_done) struct buf out = BUF_MAX(GO_JSON_MAX_BYTES);

    add_json(&out, value);
    if (!out.failed)
        return arena_spandup(arena, buf_span(&out));
    struct span head = { .ptr = buf_text(&out), .len = out.len };
    head.len = text_utf8_prefix(head);
    return arena_printf(arena, SPAN_FMT "…", SPAN_ARG(head));
}

/* ---- wrong types ---- */

/* A number is named where it has the right kind and the wrong size or a fraction. */
static const char *number_part(const struct value *value, const char *type,
                               char number[VALUE_NUMBER_SIZE])
{
    bool whole = text_equal(type, "int") || text_equal(type, "uint") ||
                 text_equal(type, "uint32") || text_equal(type, "mig.Mode");
    bool names_it = (value->kind == VALUE_INT || value->kind == VALUE_FLOAT) && whole;

    number[0] = '\0';
    if (names_it)
        value_number_text(value, number);
    return number[0] ? " " : "";
}

char *go_json_mismatch(struct arena *arena, const struct value *value, const char *type)
{
    char number[VALUE_NUMBER_SIZE];
    const char *blank = number_part(value, type, number);

    return arena_printf(arena, "json: cannot unmarshal %s%s%s into Go value of type %s",
                        go_json_kind(value), blank, number, type);
}

char *go_json_field_mismatch(struct arena *arena, const struct value *value, const char *field,
                             const char *type)
{
    char number[VALUE_NUMBER_SIZE];
    const char *blank = number_part(value, type, number);

    return arena_printf(arena, "json: cannot unmarshal %s%s%s into Go struct field %s of type %s",
                        go_json_kind(value), blank, number, field, type);
}
