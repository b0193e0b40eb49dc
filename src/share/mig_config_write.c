#include "share/mig_config_write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "codec/json.h"
#include "codec/scalar.h"

/* Pointers for sorting: a file's configurations and one entry's profiles. */
enum { SORT_ARENA_BYTES = 1 << 20 };

/* ---- order of keys ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* What is beyond ASCII is taken for a letter: names are made of nothing else there. */
static bool is_letter(char c)
{
    return (unsigned char)c >= 0x80 || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* Whether the digits right before `at` are more than zeros: then a zero at `at` counts. */
static bool in_number(const char *text, size_t at)
{
    while (at > 0 && is_digit(text[at - 1]))
        if (text[--at] != '0')
            return true;
    return false;
}

static uint64_t read_digits(const char *text, uint64_t begin, size_t *ret_len)
{
    uint64_t number = begin;
    size_t len = 0;

    for (; is_digit(text[len]); len++)
        number = number * 10 + (uint64_t)(text[len] - '0');
    *ret_len = len;
    return number;
}

static int order(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

int mig_config_key_order(const char *a, const char *b)
{
    size_t at = 0, a_len, b_len;

    while (a[at] && a[at] == b[at])
        at++;
    char x = a[at], y = b[at];
    if (!x || !y)
        return order((unsigned char)x, (unsigned char)y);
    if (is_letter(x) || is_letter(y))
        return is_letter(x) && is_letter(y) ? order((unsigned char)x, (unsigned char)y)
                                            : is_letter(x) - is_letter(y);
    bool inside = (x == '0' || y == '0') && in_number(a, at);
    uint64_t n = read_digits(a + at, inside, &a_len), m = read_digits(b + at, inside, &b_len);
    if (n != m)
        return order(n, m);
    return a_len != b_len ? order(a_len, b_len) : order((unsigned char)x, (unsigned char)y);
}

static int config_natural(const void *a, const void *b)
{
    const struct mig_config *const *x = a, *const *y = b;

    return mig_config_key_order((*x)->name, (*y)->name);
}

static int config_bytes(const void *a, const void *b)
{
    const struct mig_config *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static int count_natural(const void *a, const void *b)
{
    const struct mig_config_count *const *x = a, *const *y = b;

    return mig_config_key_order((*x)->profile, (*y)->profile);
}

static int count_bytes(const void *a, const void *b)
{
    const struct mig_config_count *const *x = a, *const *y = b;

    return strcmp((*x)->profile, (*y)->profile);
}

static const struct mig_config_count **sort_counts(const struct mig_config_entry *entry,
                                                   enum mig_document_format format,
                                                   struct arena *arena)
{
    const struct mig_config_count **sorted =
        arena_new_array(arena, const struct mig_config_count *, entry->n_counts);

    for (size_t i = 0; sorted && i < entry->n_counts; i++)
        sorted[i] = &entry->counts[i];
    if (sorted)
        qsort(sorted, entry->n_counts, sizeof(*sorted),
              format == MIG_YAML ? count_natural : count_bytes);
    return sorted;
}

static const struct mig_config **sort_configs(const struct mig_config_file *file,
                                              enum mig_document_format format, struct arena *arena)
{
    const struct mig_config **sorted =
        arena_new_array(arena, const struct mig_config *, file->n_configs);

    for (size_t i = 0; sorted && i < file->n_configs; i++)
        sorted[i] = &file->configs[i];
    if (sorted)
        qsort(sorted, file->n_configs, sizeof(*sorted),
              format == MIG_YAML ? config_natural : config_bytes);
    return sorted;
}

/* ---- YAML ---- */

static bool has_control(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == 0x7F)
            return true;
    return false;
}

/* Words that are no strings to YAML 1.1: numbers, yes, null, 1:30, 2001-01-01. */
static bool reads_as_other(struct span text)
{
    size_t n_timely = 0;

    for (size_t i = 0; i < text.len; i++)
        n_timely += is_digit(text.ptr[i]) || strchr(":-", text.ptr[i]) != NULL;
    bool timely = text.len > 3 && n_timely == text.len && is_digit(text.ptr[0]);
    return timely || scalar_read(text).kind != VALUE_STRING;
}

static bool needs_quotes(struct span text)
{
    char first = text.ptr[0], last = text.ptr[text.len - 1], second = text.ptr[1];

    if (strchr(" ,[]{}#&*!|>'\"%@`", first) || last == ' ' || last == ':')
        return true;
    if (strchr("-?", first) && (second == '\0' || second == ' '))
        return true;
    return text_starts(text.ptr, "---") || text_equal(text.ptr, "...") || strstr(text.ptr, ": ") ||
           strstr(text.ptr, " #");
}

static void add_quoted(struct buf *out, const char *text, char quote)
{
    buf_add_char(out, quote);
    for (; *text; text++) {
        if (quote == '\'' && *text == '\'')
            buf_add_text(out, "''");
        else if (quote == '"' && (*text == '"' || *text == '\\'))
            buf_printf(out, "\\%c", *text);
        else if (quote == '"' && (*text == '\n' || *text == '\t'))
            buf_add_text(out, *text == '\n' ? "\\n" : "\\t");
        else if ((unsigned char)*text < 0x20 || *text == 0x7F)
            buf_printf(out, "\\x%02x", (unsigned char)*text);
        else
            buf_add_char(out, *text);
    }
    buf_add_char(out, quote);
}

/* Only a label that somebody chose can be anything but plain. */
static void add_key(struct buf *out, const char *key)
{
    struct span text = span_of(key);

    if (text.len == 0 || has_control(text) || reads_as_other(text))
        add_quoted(out, key, '"');
    else if (needs_quotes(text))
        add_quoted(out, key, '\'');
    else
        buf_add_text(out, key);
}

static void add_yaml_filters(struct buf *out, const struct mig_config_entry *entry,
                             enum mig_config_hand hand)
{
    bool list = hand == MIG_HAND_GENERATE || entry->n_filters > 1;

    buf_printf(out, "device-filter: %s", list ? "[" : "");
    for (size_t i = 0; i < entry->n_filters; i++)
        buf_printf(out, "%s\"%s\"", i > 0 ? ", " : "", entry->filters[i].text);
    buf_printf(out, "%s\n    ", list ? "]" : "");
}

static void add_yaml_entry(struct buf *out, const struct mig_config_entry *entry,
                           enum mig_config_hand hand, const struct mig_config_count **counts)
{
    buf_add_text(out, "  - ");
    if (entry->n_filters > 0)
        add_yaml_filters(out, entry, hand);
    buf_printf(out, "devices: %s", entry->all_devices ? "all" : "[");
    for (size_t i = 0; i < entry->n_devices; i++)
        buf_printf(out, "%s%" PRId64, i > 0 ? ", " : "", entry->devices[i]);
    buf_printf(out, "%s\n    mig-enabled: %s\n    mig-devices:%s\n", entry->all_devices ? "" : "]",
               entry->mig_enabled ? "true" : "false", entry->n_counts == 0 ? " {}" : "");
    for (size_t i = 0; i < entry->n_counts; i++)
        buf_printf(out, "      %s: %u\n", counts[i]->profile, counts[i]->count);
}

int mig_config_write_yaml(const struct mig_config *config, enum mig_config_hand hand,
                          struct buf *out, struct err *err)
{
    buf_add_text(out, "  ");
    add_key(out, config->name);
    buf_add_text(out, config->n_entries == 0 ? ": []\n" : ":\n");
    for (size_t i = 0; i < config->n_entries; i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(SORT_ARENA_BYTES);
        const struct mig_config_count **counts = sort_counts(&config->entries[i], MIG_YAML, &arena);
        if (!counts)
            return err_no_memory(err);
        add_yaml_entry(out, &config->entries[i], hand, counts);
    }
    return 0;
}

static int write_yaml(const struct mig_config_file *file, enum mig_config_hand hand,
                      struct arena *arena, struct buf *out, struct err *err)
{
    const struct mig_config **configs = sort_configs(file, MIG_YAML, arena);
    int r = configs ? 0 : err_no_memory(err);

    buf_add_text(out, "version: v1\nmig-configs:\n");
    for (size_t i = 0; i < file->n_configs && r == 0; i++)
        r = mig_config_write_yaml(configs[i], hand, out, err);
    return r;
}

/* ---- JSON ---- */

/* All setters of jansson pass a NULL on as a failure, which `failed` gathers. */
static json_t *filters_value(const struct mig_config_entry *entry, enum mig_config_hand hand)
{
    if (hand == MIG_HAND_EXPORT && entry->n_filters == 1)
        return json_string(entry->filters[0].text);
    json_t *list = json_array();
    for (size_t i = 0; i < entry->n_filters; i++)
        json_array_append_new(list, json_string(entry->filters[i].text));
    return list;
}

static json_t *devices_value(const struct mig_config_entry *entry)
{
    if (entry->all_devices)
        return json_string("all");
    json_t *list = json_array();
    for (size_t i = 0; i < entry->n_devices; i++)
        json_array_append_new(list, json_integer(entry->devices[i]));
    return list;
}

static json_t *counts_value(const struct mig_config_entry *entry, enum mig_config_hand hand,
                            struct arena *arena)
{
    const struct mig_config_count **counts = sort_counts(entry, MIG_JSON, arena);

    if (!counts || (hand == MIG_HAND_GENERATE && !entry->mig_enabled))
        return counts ? json_null() : NULL;
    json_t *map = json_object();
    for (size_t i = 0; i < entry->n_counts; i++)
        json_object_set_new(map, counts[i]->profile, json_integer(counts[i]->count));
    return map;
}

static json_t *entry_value(const struct mig_config_entry *entry, enum mig_config_hand hand)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(SORT_ARENA_BYTES);
    auto_(json_decrefp) json_t *value = json_object();
    int failed = 0;

    if (entry->n_filters > 0)
        failed |= json_object_set_new(value, "device-filter", filters_value(entry, hand));
    failed |= json_object_set_new(value, "devices", devices_value(entry));
    failed |= json_object_set_new(value, "mig-enabled", json_boolean(entry->mig_enabled));
    failed |= json_object_set_new(value, "mig-devices", counts_value(entry, hand, &arena));
    return failed ? NULL : steal(value);
}

static json_t *config_value(const struct mig_config *config, enum mig_config_hand hand)
{
    auto_(json_decrefp) json_t *list = json_array();
    int failed = 0;

    for (size_t i = 0; i < config->n_entries; i++)
        failed |= json_array_append_new(list, entry_value(&config->entries[i], hand));
    return failed ? NULL : steal(list);
}

/* Go escapes what HTML would read; in JSON these stand nowhere but in strings. */
static void add_escaped(struct buf *out, struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("<>&", text.ptr[i]))
            buf_printf(out, "\\u%04x", text.ptr[i]);
        else
            buf_add_char(out, text.ptr[i]);
    }
}

static int write_json(const struct mig_config_file *file, enum mig_config_hand hand,
                      struct arena *arena, struct buf *out, struct err *err)
{
    const struct mig_config **sorted = sort_configs(file, MIG_JSON, arena);
    auto_(buf_done) struct buf text = BUF_MAX(out->max);
    auto_(json_decrefp) json_t *configs = json_object();
    auto_(json_decrefp) json_t *root =
        json_pack("{s:s, s:O}", "version", "v1", "mig-configs", configs);
    int failed = sorted && configs && root ? 0 : -1;

    for (size_t i = 0; i < file->n_configs && !failed; i++)
        failed = json_object_set_new(configs, sorted[i]->name, config_value(sorted[i], hand));
    if (failed || json_to_text(root, 2, &text) == -ENOMEM)
        return err_no_memory(err);
    out->failed |= text.failed;
    add_escaped(out, buf_span(&text));
    return 0;
}

int mig_config_write(const struct mig_config_file *file, enum mig_document_format format,
                     enum mig_config_hand hand, struct buf *out, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(SORT_ARENA_BYTES);
    int r = format == MIG_YAML ? write_yaml(file, hand, &arena, out, err)
                               : write_json(file, hand, &arena, out, err);

    if (r == 0 && out->failed)
        return err_set(err, EFBIG, "the configurations are more than %zu bytes", out->max);
    return r;
}
