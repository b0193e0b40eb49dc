/*
 * YAML from outside: a config file, a ConfigMap, a file for kubectl. Whatever is accepted can be
 * written out again and then says the same.
 */
#include <stdint.h>

#include "base/buf.h"
#include "codec/json.h"
#include "codec/yaml.h"

static bool has_long_key(const json_t *json)
{
    const char *key;
    json_t *value;
    size_t i;
    bool found = false;

    json_object_foreach((json_t *)json, key, value) found =
        found || strlen(key) >= 1000 || has_long_key(value);
    json_array_foreach(json, i, value) found = found || has_long_key(value);
    return found;
}

static void check_round_trip(const struct value *value)
{
    static const struct yaml_limits limits = { .bytes = MIB(16) };
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(128));
    auto_(buf_done) struct buf text = BUF_MAX(MIB(16));
    auto_(json_decrefp) json_t *json = NULL, *back = NULL;
    struct value *again;

    if (json_from_value(value, &json, NULL) < 0 || has_long_key(json) ||
        json_to_yaml(json, &text) < 0)
        return;
    if (yaml_parse(buf_span(&text), "again", &limits, &arena, &again, NULL) < 0 ||
        json_from_value(again, &back, NULL) < 0 || !json_equal(json, back))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct span text = { (const char *)data, size };
    struct value *first, **all;
    size_t n;
    struct err err = {};

    if (yaml_parse(text, "first", NULL, &arena, &first, &err) == 0)
        check_round_trip(first);
    else if (!text_starts(err.text, "first:"))
        abort();
    if (yaml_parse_all(text, "all", NULL, &arena, &all, &n, &err) == 0)
        for (size_t i = 0; i < n; i++)
            check_round_trip(all[i]);
    return 0;
}
