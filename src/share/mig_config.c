#include "share/mig_config.h"

#include <errno.h>
#include <inttypes.h>

#include "codec/yaml.h"
#include "share/go_text.h"

/* ---- small parts ---- */

static void mismatch(struct findings *findings, const struct value *value, const char *type,
                     const char *advice)
{
    finding_add_text(findings, FINDING_ERROR, value->place, advice,
                     go_json_mismatch(findings->arena, value, type));
}

/* For a value that may be a string or a list and is neither: upstream gives both errors. */
static void double_mismatch(struct findings *findings, const struct value *value, const char *list,
                            const char *element, const char *advice)
{
    const struct value *culprit = value;
    const char *type = list;

    for (size_t i = 0; value->kind == VALUE_LIST && i < value->n_items; i++) {
        const struct value *item = value->items[i];
        int64_t number;
        bool fits = item->kind == VALUE_NULL ||
                    (text_equal(element, "string") ? item->kind == VALUE_STRING
                                                   : value_to_i64(item, &number) == 0);
        if (fits)
            continue;
        culprit = item;
        type = element;
        break;
    }
    const char *first = go_json_mismatch(findings->arena, value, "string");
    const char *second = go_json_mismatch(findings->arena, culprit, type);
    if (!first || !second)
        findings->failed = true;
    else
        finding_add(findings, FINDING_ERROR, culprit->place, advice, "(%s, %s)", first, second);
}

static void *new_list(struct findings *findings, const struct value *list, size_t n, size_t max,
                      size_t size, const char *what)
{
    if (n > max) {
        finding_add(findings, FINDING_ERROR, list->place, NULL, "%zu %s, more than %zu", n, what,
                    max);
        return NULL;
    }
    void *items = arena_array(findings->arena, n, size);
    if (!items)
        findings->failed = true;
    return items;
}

/* A key that may not be there, with the nearest one that may. */
static void refuse_key(struct findings *findings, const struct value_entry *entry,
                       const char *const *known, size_t n_known)
{
    const char *nearest = text_nearest(entry->key, known, n_known);
    const char *advice = nearest ? finding_advice(findings, "did you mean `%s`?", nearest) : NULL;

    finding_add(findings, FINDING_ERROR, entry->place, advice, "unexpected field: %s", entry->key);
}

static void refuse_other_keys(struct findings *findings, const struct value *map,
                              const char *const *known, size_t n_known)
{
    for (size_t i = 0; i < map->n_duplicates; i++)
        finding_add(findings, FINDING_WARNING, map->duplicates[i].first, NULL,
                    "key `%s` is said again in line %u, and only that one counts",
                    map->duplicates[i].key, map->duplicates[i].second.line);
    for (size_t i = 0; i < map->n_entries; i++) {
        bool found = false;
        for (size_t k = 0; k < n_known && !found; k++)
            found = text_equal(map->entries[i].key, known[k]);
        if (!found)
            refuse_key(findings, &map->entries[i], known, n_known);
    }
}

static bool is_map_or_null(struct findings *findings, const struct value *value)
{
    if (value->kind == VALUE_MAP || value->kind == VALUE_NULL)
        return true;
    mismatch(findings, value, "map[string]json.RawMessage", NULL);
    return false;
}

/* ---- device-filter ---- */

static bool parse_id(struct span text, uint32_t *ret)
{
    int64_t id;

    if (text_to_i64_any_base(text, &id) < 0 || id < 0 || id > UINT32_MAX || text.ptr[0] == '+')
        return false;
    *ret = (uint32_t)id;
    return true;
}

static void read_filter(struct findings *findings, const struct value *value,
                        struct mig_config_filter *ret)
{
    struct span text = value->kind == VALUE_STRING ? value->text : SPAN(""), rest = text, part;
    bool more = true;

    *ret = (struct mig_config_filter){ .place = value->place };
    ret->text = arena_spandup(findings->arena, text);
    if (!ret->text)
        findings->failed = true;
    span_split(&rest, ':', &more, &part);
    ret->valid = parse_id(part, &ret->device_id);
    ret->has_subsystem = more;
    if (more && ret->valid)
        ret->valid = parse_id(rest, &ret->subsystem_id);
    if (!ret->valid)
        finding_add(findings, FINDING_WARNING, value->place, "such as 0x233010DE",
                    "device-filter '" SPAN_FMT "' matches no GPU", SPAN_ARG(text));
}

static bool is_list_of_texts(const struct value *list)
{
    for (size_t i = 0; i < list->n_items; i++)
        if (list->items[i]->kind != VALUE_STRING && list->items[i]->kind != VALUE_NULL)
            return false;
    return true;
}

static void read_filters(struct findings *findings, const struct value *value,
                         struct mig_config_entry *entry)
{
    bool list = value->kind == VALUE_LIST && is_list_of_texts(value);
    size_t n = list ? value->n_items : 1;

    if (value->kind == VALUE_NULL || value_is_text(value, ""))
        return;
    if (!list && value->kind != VALUE_STRING) {
        double_mismatch(findings, value, "[]string", "string",
                        "write it in quotes, or it is a number");
        return;
    }
    entry->filters = new_list(findings, value, n, MIG_CONFIG_MAX_LIST, sizeof(*entry->filters),
                              "device filters");
    if (!entry->filters)
        return;
    entry->n_filters = n;
    for (size_t i = 0; i < n; i++)
        read_filter(findings, list ? value->items[i] : value, &entry->filters[i]);
}

/* ---- devices ---- */

static bool is_list_of_numbers(const struct value *list)
{
    int64_t number;

    for (size_t i = 0; i < list->n_items; i++)
        if (list->items[i]->kind != VALUE_NULL && value_to_i64(list->items[i], &number) < 0)
            return false;
    return true;
}

static void read_index(struct findings *findings, const struct value *item,
                       struct mig_config_entry *entry)
{
    int64_t index = 0;

    if (item->kind != VALUE_NULL)
        (void)!value_to_i64(item, &index);
    if (index < 0)
        finding_add(findings, FINDING_WARNING, item->place, NULL, "no GPU has the index %" PRId64,
                    index);
    for (size_t i = 0; i < entry->n_devices; i++)
        if (entry->devices[i] == index) {
            finding_add(findings, FINDING_WARNING, item->place, NULL,
                        "GPU %" PRId64 " is in the list already", index);
            break;
        }
    entry->devices[entry->n_devices++] = index;
}

static void read_devices(struct findings *findings, const struct value *value,
                         struct mig_config_entry *entry)
{
    static const char advice[] = "all, or a list of GPU indices such as [0, 1]";

    if (value->kind == VALUE_STRING || value->kind == VALUE_NULL) {
        struct span text = value->kind == VALUE_STRING ? value->text : SPAN("");
        entry->all_devices = span_equal(text, SPAN("all"));
        if (!entry->all_devices)
            finding_add(findings, FINDING_ERROR, value->place, advice,
                        "invalid string input for 'devices': " SPAN_FMT, SPAN_ARG(text));
        return;
    }
    if (value->kind != VALUE_LIST || !is_list_of_numbers(value)) {
        double_mismatch(findings, value, "[]int", "int", advice);
        return;
    }
    entry->devices = new_list(findings, value, value->n_items, MIG_CONFIG_MAX_LIST,
                              sizeof(*entry->devices), "devices");
    for (size_t i = 0; entry->devices && i < value->n_items; i++)
        read_index(findings, value->items[i], entry);
    if (value->n_items == 0)
        finding_add(findings, FINDING_WARNING, value->place, NULL, "an empty list means no GPU");
}

/* ---- mig-devices ---- */

/* A resource name or label writes a `.` where a profile has a `+`. */
static const char *profile_advice(const char *profile)
{
    if (strstr(profile, "gb."))
        return "the dot before an attribute is for labels; a profile has a `+`, as in 1g.10gb+me";
    return "such as 1g.10gb, 1c.3g.40gb or 1g.10gb+me";
}

/* All counts are numbers: else upstream stops before it looks at a name. */
static bool counts_are_numbers(struct findings *findings, const struct value *map)
{
    bool good = true;
    int64_t count;

    for (size_t i = 0; i < map->n_entries; i++) {
        const struct value *value = map->entries[i].value;
        if (value->kind == VALUE_NULL || value_to_i64(value, &count) == 0)
            continue;
        mismatch(findings, value, "int", "want a whole number, without quotes");
        good = false;
    }
    return good;
}

static void read_count(struct findings *findings, const struct value_entry *from,
                       struct mig_config_count *ret)
{
    struct err why = {};
    int64_t count = 0;
    int r = mig_profile_parse(span_of(from->key), &ret->parsed, &why);

    if (from->value->kind != VALUE_NULL)
        (void)!value_to_i64(from->value, &count);
    findings_number(findings, from->value);
    if (r == -EINVAL)
        finding_add(findings, FINDING_ERROR, from->place, profile_advice(from->key),
                    "error validating values in 'mig-devices' field: invalid format for '%s': %s",
                    from->key, why.text);
    else if (r < 0)
        finding_add(findings, FINDING_WARNING, from->place, NULL, "%s", why.text);
    if (count < 0)
        finding_add(findings, FINDING_ERROR, from->value->place, "want 0 or more",
                    "error validating values in 'mig-devices' field: invalid count for '%" PRId64
                    "': <nil>",
                    count);
    ret->possible = r == 0;
    ret->profile = from->key;
    ret->place = from->place;
    ret->count = (uint32_t)MAX(MIN(count, (int64_t)UINT32_MAX), (int64_t)0);
}

static bool all_zero(const struct mig_config_entry *entry)
{
    for (size_t i = 0; i < entry->n_counts; i++)
        if (entry->counts[i].count > 0)
            return false;
    return entry->n_counts > 0;
}

static void read_counts(struct findings *findings, const struct value *map,
                        struct mig_config_entry *entry)
{
    size_t errors = findings->n_errors;

    if (map->kind == VALUE_NULL)
        return;
    if (map->kind != VALUE_MAP)
        return mismatch(findings, map, "types.MigConfig", "such as \"1g.10gb\": 7");
    for (size_t i = 0; i < map->n_duplicates; i++)
        finding_add(findings, FINDING_WARNING, map->duplicates[i].first, NULL,
                    "`%s` is said again in line %u, and only that one counts",
                    map->duplicates[i].key, map->duplicates[i].second.line);
    if (!counts_are_numbers(findings, map))
        return;
    entry->counts = new_list(findings, map, map->n_entries, MIG_CONFIG_MAX_LIST,
                             sizeof(*entry->counts), "profiles");
    if (!entry->counts)
        return;
    entry->n_counts = map->n_entries;
    for (size_t i = 0; i < map->n_entries; i++)
        read_count(findings, &map->entries[i], &entry->counts[i]);
    if (all_zero(entry) && findings->n_errors == errors)
        finding_add(findings, FINDING_ERROR, map->place, "write mig-devices: {} for none",
                    "error validating values in 'mig-devices' field: all counts for all "
                    "MigProfiles are 0");
}

/* ---- one entry ---- */

static bool read_enabled(struct findings *findings, const struct value *value)
{
    if (value->kind == VALUE_BOOL)
        return value->boolean;
    if (value->kind != VALUE_NULL)
        mismatch(findings, value, "bool", "want true or false, without quotes");
    return false;
}

/* Upstream looks at the keys in no order of its own; here it is the alphabet's. */
static void read_known_keys(struct findings *findings, const struct value *map,
                            struct mig_config_entry *entry)
{
    const struct value *filter = value_get(map, "device-filter");
    const struct value *devices = value_get(map, "devices");
    const struct value *counts = value_get(map, "mig-devices");
    const struct value *enabled = value_get(map, "mig-enabled");

    if (filter)
        read_filters(findings, filter, entry);
    if (devices)
        read_devices(findings, devices, entry);
    if (counts)
        read_counts(findings, counts, entry);
    if (enabled)
        entry->mig_enabled = read_enabled(findings, enabled);
    if (entry->mig_enabled && (!counts || counts->kind == VALUE_NULL))
        finding_add(findings, FINDING_ERROR, map->place, "such as mig-devices: {\"1g.10gb\": 7}",
                    "missing required field 'mig-devices' when 'mig-enabled' is true");
    bool disabled = enabled && !entry->mig_enabled &&
                    (enabled->kind == VALUE_BOOL || enabled->kind == VALUE_NULL);
    if (disabled && entry->n_counts > 0)
        finding_add(findings, FINDING_ERROR, counts->place, NULL,
                    "MIG devices included when 'mig-enabled' is false");
}

static void read_entry(struct findings *findings, const struct value *map,
                       struct mig_config_entry *ret)
{
    static const char *const known[] = { "device-filter", "devices", "mig-devices", "mig-enabled" };
    static const char *const required[] = { "devices", "mig-enabled" };

    *ret = (struct mig_config_entry){ .place = map->place };
    if (!is_map_or_null(findings, map))
        return;
    for (size_t i = 0; i < ARRAY_LEN(required); i++)
        if (!value_get(map, required[i]))
            finding_add(findings, FINDING_ERROR, map->place, NULL, "missing required field: %s",
                        required[i]);
    if (map->kind != VALUE_MAP)
        return;
    refuse_other_keys(findings, map, known, ARRAY_LEN(known));
    read_known_keys(findings, map, ret);
}

/* ---- one configuration ---- */

static bool shares_a_device(const struct mig_config_entry *a, const struct mig_config_entry *b)
{
    if (a->n_filters > 0 || b->n_filters > 0) /* they may be about different kinds of GPU */
        return false;
    if (a->all_devices || b->all_devices)
        return (a->all_devices || a->n_devices > 0) && (b->all_devices || b->n_devices > 0);
    for (size_t i = 0; i < a->n_devices; i++)
        for (size_t k = 0; k < b->n_devices; k++)
            if (a->devices[i] == b->devices[k])
                return true;
    return false;
}

/* Each entry against the one before it: in practice there are two or three. */
static void warn_of_overlap(struct findings *findings, const struct mig_config *config)
{
    for (size_t i = 1; i < config->n_entries; i++) {
        const struct mig_config_entry *a = &config->entries[i - 1], *b = &config->entries[i];
        if (!shares_a_device(a, b))
            continue;
        if (a->mig_enabled != b->mig_enabled)
            finding_add(findings, FINDING_WARNING, b->place, NULL,
                        "this entry and that of line %u want MIG both on and off for one GPU, "
                        "which cannot be applied",
                        a->place.line);
        else if (a->mig_enabled)
            finding_add(findings, FINDING_WARNING, b->place, NULL,
                        "this entry and that of line %u are about one GPU; the later one wins",
                        a->place.line);
    }
}

static void read_config(struct findings *findings, const struct value_entry *from,
                        struct mig_config *ret)
{
    const struct value *list = from->value;

    *ret = (struct mig_config){ .name = from->key, .place = from->place };
    if (list->kind != VALUE_LIST && list->kind != VALUE_NULL) {
        finding_add_text(findings, FINDING_TYPE, list->place, "want a list: begin with a `-`",
                         go_json_mismatch(findings->arena, list, "v1.MigConfigSpecSlice"));
        return;
    }
    if (list->kind == VALUE_NULL || list->n_items == 0) {
        finding_add(findings, FINDING_VERSION, from->place, NULL,
                    "at least one entry in '%s' is required", from->key);
        return;
    }
    ret->entries = new_list(findings, list, list->n_items, MIG_CONFIG_MAX_ENTRIES,
                            sizeof(*ret->entries), "entries");
    if (!ret->entries)
        return;
    ret->n_entries = list->n_items;
    for (size_t i = 0; i < list->n_items; i++)
        read_entry(findings, list->items[i], &ret->entries[i]);
    warn_of_overlap(findings, ret);
}

/* The configurations keep the order of the file, but are checked in that of their names, as
 * upstream does: the first complaint is then upstream's first one. */
static void read_sorted(struct findings *findings, const struct value *map,
                        struct mig_config *configs)
{
    const struct value_entry **sorted = go_sorted_entries(findings->arena, map);

    if (!sorted) {
        findings->failed = true;
        return;
    }
    for (size_t i = 0; i < map->n_entries; i++)
        read_config(findings, sorted[i], &configs[sorted[i] - map->entries]);
}

static void read_configs(struct findings *findings, const struct value_entry *from,
                         struct mig_config_file *ret)
{
    const struct value *map = from->value;

    if (map->kind != VALUE_MAP && map->kind != VALUE_NULL)
        return mismatch(findings, map, "map[string]v1.MigConfigSpecSlice",
                        "want names with entries below them");
    if (map->kind == VALUE_NULL || map->n_entries == 0) {
        finding_add(findings, FINDING_ERROR, from->place, NULL,
                    "at least one entry in 'mig-configs' is required");
        return;
    }
    for (size_t i = 0; i < map->n_duplicates; i++)
        finding_add(findings, FINDING_WARNING, map->duplicates[i].first, NULL,
                    "configuration `%s` is said again in line %u, and only that one counts",
                    map->duplicates[i].key, map->duplicates[i].second.line);
    ret->configs = new_list(findings, map, map->n_entries, MIG_CONFIG_MAX_CONFIGS,
                            sizeof(*ret->configs), "configurations");
    if (!ret->configs)
        return;
    ret->n_configs = map->n_entries;
    read_sorted(findings, map, ret->configs);
}

/* ---- the file ---- */

static void check_version(struct findings *findings, const struct value *root)
{
    const struct value *version = value_get(root, "version");

    if (!version && root->n_entries > 0) {
        finding_add(findings, FINDING_ERROR, root->place, "begin with version: v1",
                    "unable to parse with missing 'version' field");
        return;
    }
    if (version && version->kind != VALUE_STRING && version->kind != VALUE_NULL)
        return mismatch(findings, version, "string", "want v1");
    struct span text = version && version->kind == VALUE_STRING ? version->text : SPAN("");
    if (!span_equal(text, SPAN("v1")))
        finding_add(findings, FINDING_ERROR, version ? version->place : root->place,
                    "v1 is the only one", "unknown version: " SPAN_FMT, SPAN_ARG(text));
}

void mig_config_read(struct findings *findings, const struct value *root,
                     struct mig_config_file *ret)
{
    static const char *const known[] = { "mig-configs", "version" };
    const struct value_entry *configs = value_entry(root, "mig-configs");

    *ret = (struct mig_config_file){};
    if (!is_map_or_null(findings, root) || root->kind == VALUE_NULL)
        return;
    check_version(findings, root);
    if (configs)
        read_configs(findings, configs, ret);
    refuse_other_keys(findings, root, known, ARRAY_LEN(known));
}

/* Reads the text into findings; -ENOMEM, else 0 whatever was found. */
static int read_text(struct span text, struct findings *findings, struct mig_config_file *ret,
                     struct err *err)
{
    static const struct yaml_limits limits = { .bytes = MIG_CONFIG_MAX_FILE_BYTES };
    struct value *root;
    int r = findings_read_yaml(findings, text, &limits, &root, err);

    if (root)
        mig_config_read(findings, root, ret);
    return r < 0 ? r : findings_failed(findings, err);
}

static int name_file(struct mig_config_file *file, const char *name, struct arena *arena,
                     struct err *err)
{
    const char *copy = arena_strdup(arena, name);

    for (size_t i = 0; i < file->n_configs; i++)
        file->configs[i].file = copy;
    return copy ? 0 : err_no_memory(err);
}

int mig_config_parse(struct span text, const char *name, struct arena *arena,
                     struct mig_config_file **ret, struct err *err)
{
    struct findings findings = { .arena = arena };
    struct mig_config_file *file = arena_new(arena, struct mig_config_file);
    enum finding_kind kind;
    int r = file ? read_text(text, &findings, file, err) : err_no_memory(err);

    if (r == 0)
        r = findings_verdict(&findings, name, &kind, err);
    if (r == -EINVAL)
        return err_wrap(err, r, "error parsing config file: unmarshal error: %s",
                        finding_go_context(kind));
    if (r == 0)
        r = name_file(file, name, arena, err);
    if (r == 0)
        *ret = file;
    return r;
}

int mig_config_check(struct span text, struct findings *findings, struct err *err)
{
    struct mig_config_file file = {};
    int r = read_text(text, findings, &file, err);

    if (r < 0)
        return r;
    findings_sort(findings);
    return (int)findings->n_errors;
}

/* ---- using one ---- */

int mig_config_select(const struct mig_config_file *file, const char *name,
                      const struct mig_config **ret, struct err *err)
{
    bool named = name && name[0] != '\0';

    if (!named && file->n_configs == 1)
        return *ret = &file->configs[0], 0;
    if (!named && file->n_configs > 1)
        return err_set(err, ENOENT,
                       "error selecting MIG config: missing required flag 'selected-config' when "
                       "more than one config available");
    for (size_t i = 0; i < file->n_configs; i++)
        if (text_equal(file->configs[i].name, name))
            return *ret = &file->configs[i], 0;
    return err_set(err, ENOENT, "error selecting MIG config: selected mig-config not present: %s",
                   named ? name : "");
}

static bool filter_matches(const struct mig_config_filter *filter, uint32_t device_id,
                           uint32_t subsystem_id)
{
    return filter->valid && filter->device_id == device_id &&
           (!filter->has_subsystem || filter->subsystem_id == subsystem_id);
}

bool mig_config_matches(const struct mig_config_entry *entry, uint32_t index, uint32_t device_id,
                        uint32_t subsystem_id)
{
    bool listed = entry->all_devices, filtered = entry->n_filters == 0;

    for (size_t i = 0; i < entry->n_devices && !listed; i++)
        listed = entry->devices[i] == (int64_t)index;
    for (size_t i = 0; i < entry->n_filters && !filtered; i++)
        filtered = filter_matches(&entry->filters[i], device_id, subsystem_id);
    return listed && filtered;
}
