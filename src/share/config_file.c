#include "share/config_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "share/go_text.h"
#include "share/key_path.h"

/* What the readers of one file share. */
struct reading_file {
    struct findings *findings;
    struct settings *settings;
    struct sharing_file *sharing;
};

/* ---- option values ---- */

static bool wrong_type(struct reading_file *file, const struct value *value, const char *field,
                       const char *type, const char *advice)
{
    finding_add_text(file->findings, FINDING_TYPE, value->place, advice,
                     go_json_field_mismatch(file->findings->arena, value, field, type));
    return false;
}

static bool out_of_memory(struct reading_file *file)
{
    file->findings->failed = true;
    return false;
}

/* As a C string: a NUL inside would hide what comes after it. NULL when it is none. */
static const char *copy_text(struct reading_file *file, const struct value *value)
{
    const char *copy = arena_spandup(file->findings->arena, value->text);

    if (!copy)
        return out_of_memory(file), NULL;
    if (strlen(copy) == value->text.len)
        return copy;
    finding_add(file->findings, FINDING_TYPE, value->place, NULL, "a NUL inside a string");
    return NULL;
}

static bool read_string(struct reading_file *file, const struct value *value, const char *field,
                        struct setting *setting)
{
    if (value->kind != VALUE_STRING)
        return wrong_type(file, value, field, "string", "write it in quotes");
    setting->text = copy_text(file, value);
    return setting->text;
}

static bool read_bool(struct reading_file *file, const struct value *value, const char *field,
                      struct setting *setting)
{
    if (value->kind != VALUE_BOOL)
        return wrong_type(file, value, field, "bool", "want true or false, without quotes");
    setting->on = value->boolean;
    return true;
}

/* Nanoseconds when it is a number; Go drops the fraction. */
static bool read_duration(struct reading_file *file, const struct value *value,
                          struct setting *setting)
{
    struct err why = {};

    if (value->kind == VALUE_INT)
        return setting->number = value->integer, true;
    if (value->kind == VALUE_FLOAT && fabs(value->number) < 0x1p63)
        return setting->number = (int64_t)value->number, true;
    if (value->kind != VALUE_STRING)
        err_set(&why, EINVAL, "invalid duration");
    else if (option_duration(value->text, &setting->number, &why) == 0)
        return true;
    finding_add(file->findings, FINDING_ERROR, value->place, "such as 60s, 1m30s or infinite", "%s",
                why.text);
    return false;
}

static bool read_text_list(struct reading_file *file, struct value *const *items, size_t n,
                           struct setting *setting)
{
    if (n > OPTIONS_MAX_ELEMENTS)
        return false;
    setting->texts = arena_new_array(file->findings->arena, const char *, n);
    if (!setting->texts)
        return out_of_memory(file);
    for (size_t i = 0; i < n; i++) {
        if (items[i]->kind != VALUE_STRING && items[i]->kind != VALUE_NULL)
            return false;
        setting->texts[i] = items[i]->kind == VALUE_NULL ? "" : copy_text(file, items[i]);
        if (!setting->texts[i])
            return false;
    }
    setting->n = n;
    return true;
}

/* One strategy, or a list of them; a comma does not part two, unlike in a flag. */
static bool read_strings(struct reading_file *file, struct value *value, struct setting *setting)
{
    bool list = value->kind == VALUE_LIST;

    if (read_text_list(file, list ? value->items : &value, list ? value->n_items : 1, setting))
        return true;
    const char *raw = go_json(file->findings->arena, value);
    finding_add(file->findings, FINDING_ERROR, value->place, "want one strategy or a list of them",
                "invalid deviceListStrategy: %s", raw ? raw : "");
    return false;
}

static bool read_ints(struct reading_file *file, const struct value *value, const char *field,
                      struct setting *setting)
{
    bool good = true;

    if (value->kind != VALUE_LIST || value->n_items > OPTIONS_MAX_ELEMENTS)
        return wrong_type(file, value, field, "[]int", "want a list of numbers, such as [0]");
    setting->n = value->n_items;
    setting->numbers = arena_new_array(file->findings->arena, int64_t, value->n_items);
    if (!setting->numbers)
        return out_of_memory(file);
    for (size_t i = 0; i < value->n_items; i++) {
        const struct value *item = value->items[i];
        if (item->kind != VALUE_NULL && value_to_i64(item, &setting->numbers[i]) < 0)
            good = wrong_type(file, item, field, "int", "want a whole number");
        findings_number(file->findings, item);
    }
    return good;
}

static bool read_typed(struct reading_file *file, const struct option *option, struct value *value,
                       const char *field, struct setting *setting)
{
    switch (option->type) {
    case TYPE_BOOL:
        return read_bool(file, value, field, setting);
    case TYPE_DURATION:
        return read_duration(file, value, setting);
    case TYPE_STRINGS:
        return read_strings(file, value, setting);
    case TYPE_INTS:
        return read_ints(file, value, field, setting);
    default:
        return read_string(file, value, field, setting);
    }
}

/* A null is as good as no key. `owner` is where Go sees the field. */
static void read_option(struct reading_file *file, const struct option *option, struct value *value,
                        const char *owner)
{
    struct setting read = { .source = FROM_FILE, .place = value->place };
    struct setting *setting = &file->settings->of[option - options];
    bool open = setting->source == FROM_DEFAULT || setting->source == FROM_FILE;
    char field[128];

    if (value->kind == VALUE_NULL)
        return;
    snprintf(field, sizeof(field), "%s.%s", owner, strrchr(option->key, '.') + 1);
    if (read_typed(file, option, value, field, &read) && open)
        *setting = read;
}

/* ---- sections ---- */

typedef void read_section(struct reading_file *file, const struct value *value);

/* A Go struct of upstream's. */
struct section {
    const char *path;   /* in the file */
    const char *type;   /* Go's name of it */
    const char *self;   /* itself as a field, in Go's sentences */
    const char *owner;  /* of its fields, there */
    read_section *read; /* NULL: its options and sections are all it has */
};

static read_section read_resources, read_sharing;

static const struct section sections[] = {
    { "flags", "v1.Flags", "Config.flags", "Flags.flags.CommandLineFlags", NULL },
    { "flags.gfd", "v1.GFDCommandLineFlags", "Flags.flags.CommandLineFlags.gfd",
      "GFDCommandLineFlags.flags.CommandLineFlags.gfd", NULL },
    { "flags.plugin", "v1.PluginCommandLineFlags", "Flags.flags.CommandLineFlags.plugin",
      "PluginCommandLineFlags.flags.CommandLineFlags.plugin", NULL },
    { "imex", "v1.Imex", "Config.imex", "Imex.imex", NULL },
    { "resources", "v1.Resources", "Config.resources", "Resources.resources", read_resources },
    { "sharing", "v1.Sharing", "Config.sharing", "Sharing.sharing", read_sharing },
};

enum { MAX_FIELDS = OPTION_N + ARRAY_LEN(sections) };

/* A key of a section: an option, or a section inside it. */
struct field {
    const char *name;
    const struct option *option;
    const struct section *section;
    const struct value_entry *seen;
};

static size_t list_fields(const char *path, struct field fields[MAX_FIELDS])
{
    const char *leaf;
    size_t n = 0;

    for (size_t i = 0; i < OPTION_N; i++)
        if (options[i].key[0] && (leaf = key_leaf_under(options[i].key, path)))
            fields[n++] = (struct field){ .name = leaf, .option = &options[i] };
    for (size_t i = 0; i < ARRAY_LEN(sections); i++)
        if ((leaf = key_leaf_under(sections[i].path, path)))
            fields[n++] = (struct field){ .name = leaf, .section = &sections[i] };
    return n;
}

static struct field *find_field(struct field *fields, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(fields[i].name, key) == 0)
            return &fields[i];
    return NULL;
}

static void note_spelling(struct reading_file *file, struct field *field,
                          const struct value_entry *entry)
{
    if (field->seen)
        finding_add(file->findings, FINDING_WARNING, field->seen->place, NULL,
                    "`%s` in line %u is the same key and the one that counts", entry->key,
                    entry->place.line);
    field->seen = entry;
}

static void read_struct(struct reading_file *file, const struct section *section,
                        const struct value *value);

/* Of two spellings of a key the one that sorts last counts. */
static void read_fields(struct reading_file *file, const struct value *map, struct field *fields,
                        size_t n, const char *owner)
{
    const struct value_entry **sorted = go_sorted_entries(file->findings->arena, map);

    if (!sorted)
        out_of_memory(file);
    for (size_t i = 0; sorted && i < map->n_entries; i++) {
        struct field *field = find_field(fields, n, sorted[i]->key);
        if (!field)
            continue;
        note_spelling(file, field, sorted[i]);
        if (field->option)
            read_option(file, field->option, sorted[i]->value, owner);
        else
            read_struct(file, field->section, sorted[i]->value);
    }
}

static void warn_of_keys(struct reading_file *file, const struct value *map,
                         const struct field *fields, size_t n)
{
    const char *known[MAX_FIELDS + 1];

    for (size_t i = 0; i < n; i++)
        known[i] = fields[i].name;
    findings_keys(file->findings, map, known, n, false, config_file_section_of);
}

static void read_struct(struct reading_file *file, const struct section *section,
                        const struct value *value)
{
    struct field fields[MAX_FIELDS];

    if (value->kind == VALUE_NULL)
        return;
    if (value->kind != VALUE_MAP) {
        wrong_type(file, value, section->self, section->type, "want keys and values below it");
        return;
    }
    if (section->read) {
        section->read(file, value);
        return;
    }
    size_t n = list_fields(section->path, fields);
    warn_of_keys(file, value, fields, n);
    read_fields(file, value, fields, n, section->owner);
}

/* ---- resources: checked, then without effect ---- */

static void read_pattern(struct reading_file *file, const struct value *item)
{
    static const char *const known[] = { "name", "pattern" };
    struct findings *findings = file->findings;
    const struct value *pattern = value_get(item, "pattern"), *name = value_get(item, "name");

    if (item->kind != VALUE_MAP && item->kind != VALUE_NULL) {
        finding_add_mismatch(findings, item, "map[string]json.RawMessage", NULL);
        return;
    }
    findings_keys(findings, item, known, ARRAY_LEN(known), true, NULL);
    if (!pattern)
        finding_add(findings, FINDING_ERROR, item->place, NULL,
                    "resources must have a 'pattern' field set");
    if (!name)
        finding_add(findings, FINDING_ERROR, item->place, NULL,
                    "resources must have a 'name' field set");
    if (pattern && pattern->kind != VALUE_STRING && pattern->kind != VALUE_NULL)
        finding_add_mismatch(findings, pattern, "v1.ResourcePattern", "write it in quotes");
    if (name)
        (void)!config_resource_name(findings, name);
}

static size_t read_patterns(struct reading_file *file, const struct value *list, const char *field)
{
    if (!list || list->kind == VALUE_NULL)
        return 0;
    if (list->kind != VALUE_LIST) {
        wrong_type(file, list, field, "[]v1.Resource", "want a list: begin with a `-`");
        return 0;
    }
    file->findings->go_field = field;
    for (size_t i = 0; i < list->n_items; i++)
        read_pattern(file, list->items[i]);
    file->findings->go_field = NULL;
    return list->n_items;
}

static void read_resources(struct reading_file *file, const struct value *map)
{
    static const char *const known[] = { "gpus", "mig" };

    findings_keys(file->findings, map, known, ARRAY_LEN(known), false, config_file_section_of);
    size_t n = read_patterns(file, value_get_nocase(map, "gpus"), "Resources.resources.gpus");
    n += read_patterns(file, value_get_nocase(map, "mig"), "Resources.resources.mig");
    if (n > 0)
        finding_add(file->findings, FINDING_WARNING, map->place,
                    "resources are named nvidia.com/gpu and nvidia.com/mig-<profile>",
                    "Customizing the 'resources' field is not yet supported in the config. "
                    "Ignoring...");
}

static void read_sharing(struct reading_file *file, const struct value *map)
{
    static const char *const known[] = { "mps", "perDevice", "timeSlicing" };

    findings_keys(file->findings, map, known, ARRAY_LEN(known), false, config_file_section_of);
    config_sharing_read(file->findings, map, file->sharing);
}

/* ---- the whole file ---- */

/* The one string of upstream's structs that its YAML library turns numbers and booleans into. */
static void check_version(struct reading_file *file, const struct value *version)
{
    if (!version || version->kind == VALUE_NULL || value_is_text(version, ""))
        return;
    if (version->kind == VALUE_LIST || version->kind == VALUE_MAP) {
        wrong_type(file, version, "Config.version", "string", "want v1");
        return;
    }
    const char *text = version->kind == VALUE_STRING ? copy_text(file, version)
                                                     : go_json(file->findings->arena, version);
    if (text && !text_equal(text, "v1"))
        finding_add(file->findings, FINDING_VERSION, version->place, "v1 is the only one",
                    "unknown version: %s", text);
}

const char *config_file_section_of(const char *key)
{
    static const struct {
        const char *key, *section;
    } others[] = {
        { "timeSlicing", "sharing" },
        { "mps", "sharing" },
        { "perDevice", "sharing" },
        { "renameByDefault", "sharing.timeSlicing" },
        { "replicas", "an item of sharing.timeSlicing.resources" },
        { "failRequestsGreaterThanOne", "sharing.timeSlicing" },
    };

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcasecmp(key, others[i].key) == 0)
            return others[i].section;
    for (size_t i = 0; i < OPTION_N; i++) {
        const char *dot = strrchr(options[i].key, '.');
        if (!dot || strcasecmp(dot + 1, key) != 0)
            continue;
        for (size_t k = 0; k < ARRAY_LEN(sections); k++)
            if (key_leaf_under(options[i].key, sections[k].path))
                return sections[k].path;
    }
    return NULL;
}

void config_file_read(struct findings *findings, const struct value *root,
                      struct settings *settings, struct sharing_file *ret_sharing)
{
    struct reading_file file = { findings, settings, ret_sharing };
    struct field fields[MAX_FIELDS];

    *ret_sharing = (struct sharing_file){};
    if (root->kind == VALUE_NULL)
        return;
    if (root->kind != VALUE_MAP) {
        finding_add_mismatch(findings, root, "v1.Config", "want keys such as version: v1");
        return;
    }
    size_t n = list_fields("", fields);
    fields[n++] = (struct field){ .name = "version" };
    warn_of_keys(&file, root, fields, n);
    read_fields(&file, root, fields, n - 1, "Config");
    check_version(&file, value_get_nocase(root, "version"));
}
