#include "codec/value.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "codec/scalar.h"

const char *const value_kind_names[VALUE_N_KINDS] = {
    [VALUE_NULL] = "null",      [VALUE_BOOL] = "a boolean",  [VALUE_INT] = "a number",
    [VALUE_FLOAT] = "a number", [VALUE_STRING] = "a string", [VALUE_LIST] = "a list",
    [VALUE_MAP] = "a map",
};

const struct value_entry *value_entry(const struct value *map, const char *key)
{
    if (!map || map->kind != VALUE_MAP)
        return NULL;
    for (size_t i = 0; i < map->n_entries; i++)
        if (text_equal(map->entries[i].key, key))
            return &map->entries[i];
    return NULL;
}

const struct value *value_get(const struct value *map, const char *key)
{
    const struct value_entry *entry = value_entry(map, key);

    return entry ? entry->value : NULL;
}

const struct value_entry *value_entry_nocase(const struct value *map, const char *key)
{
    const struct value_entry *found = NULL;

    if (!map || map->kind != VALUE_MAP)
        return NULL;
    for (size_t i = 0; i < map->n_entries; i++) {
        const struct value_entry *entry = &map->entries[i];
        if (strcasecmp(entry->key, key) == 0 && (!found || strcmp(entry->key, found->key) > 0))
            found = entry;
    }
    return found;
}

const struct value *value_get_nocase(const struct value *map, const char *key)
{
    const struct value_entry *entry = value_entry_nocase(map, key);

    return entry ? entry->value : NULL;
}

bool value_is_text(const struct value *value, const char *text)
{
    return value && value->kind == VALUE_STRING && span_equal(value->text, span_of(text));
}

int value_to_i64(const struct value *value, int64_t *ret)
{
    if (!value)
        return -EINVAL;
    if (value->kind == VALUE_INT)
        return *ret = value->integer, 0;
    if (value->kind != VALUE_FLOAT || !isfinite(value->number))
        return -EINVAL;
    if (value->number < -0x1p63 || value->number >= 0x1p63)
        return -ERANGE; /* without a fraction: numbers of this size have none */
    int64_t whole = (int64_t)value->number;
    if ((double)whole != value->number)
        return -EINVAL;
    *ret = whole;
    return 0;
}

void value_number_text(const struct value *value, char ret[VALUE_NUMBER_SIZE])
{
    ret[0] = '\0';
    if (value->kind == VALUE_INT)
        snprintf(ret, VALUE_NUMBER_SIZE, "%" PRId64, value->integer);
    else if (value->kind == VALUE_FLOAT)
        scalar_float_text(value->number, ret);
}

/* ---- settling a map ---- */

/* By key; of one key, in order of the file, since the entries stand in one array. */
static int compare_entries(const void *a, const void *b)
{
    const struct value_entry *x = *(struct value_entry *const *)a;
    const struct value_entry *y = *(struct value_entry *const *)b;
    int order = strcmp(x->key, y->key);

    return order ? order : (x > y) - (x < y);
}

static int note_duplicate(struct value *map, const struct value_entry *lost,
                          const struct value_entry *kept, struct arena *arena)
{
    struct value_duplicate *duplicate;

    if (lost->merged) /* overriding what was merged in is what merging is for */
        return 0;
    duplicate = arena_push(arena, &map->duplicates, &map->n_duplicates);
    if (!duplicate)
        return -ENOMEM;
    *duplicate = (struct value_duplicate){ lost->key, lost->place, kept->place };
    return 0;
}

/* Takes the key off each entry that a later one overrides. `sorted` holds all entries by key. */
static int drop_overridden(struct value *map, struct value_entry **sorted, struct arena *arena)
{
    for (size_t i = map->n_entries - 1; i > 0; i--) {
        struct value_entry *kept = sorted[i], *lost = sorted[i - 1];
        if (!text_equal(lost->key, kept->key))
            continue;
        if (note_duplicate(map, lost, kept, arena) < 0)
            return -ENOMEM;
        sorted[i - 1] = kept; /* so that a third one is compared with the one that counts */
        lost->value = NULL;
    }
    return 0;
}

int value_settle_map(struct value *map, struct arena *arena)
{
    size_t n = 0;

    if (map->n_entries < 2)
        return 0;
    struct value_entry **sorted = mem_alloc(map->n_entries * sizeof(*sorted));
    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < map->n_entries; i++)
        sorted[i] = &map->entries[i];
    qsort(sorted, map->n_entries, sizeof(*sorted), compare_entries);
    int r = drop_overridden(map, sorted, arena);
    mem_free(sorted);
    if (r < 0)
        return r;
    for (size_t i = 0; i < map->n_entries; i++)
        if (map->entries[i].value)
            map->entries[n++] = map->entries[i];
    map->n_entries = n;
    return 0;
}
