#include "share/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/yaml.h"
#include "share/config.h"
#include "share/mig_config.h"
#include "share/mig_documents.h"
#include "share/policy_check.h"

static const struct yaml_limits limits = { .bytes = MANIFEST_MAX_BYTES,
                                           .nodes = MANIFEST_MAX_NODES };

struct checker {
    struct span text; /* of the whole file */
    size_t *lines;    /* where each of its lines begins */
    size_t n_lines;
    struct findings *findings;
    struct manifest *manifest;
    const struct value **maps;     /* the ConfigMaps of the file */
    const struct value **policies; /* its ClusterPolicies */
    size_t n_maps, n_policies;
    struct err *err;
};

/* ---- what was recognised ---- */

PRINTF(3, 4)
static void add_subject(struct checker *checker, struct place place, const char *format, ...)
{
    struct arena *arena = checker->findings->arena;
    struct manifest *manifest = checker->manifest;
    char text[512];
    va_list args;

    if (manifest->n_subjects >= MANIFEST_MAX_SUBJECTS)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct manifest_subject *subject =
        arena_push(arena, &manifest->subjects, &manifest->n_subjects);
    char *what = subject ? arena_strdup(arena, text) : NULL;
    if (!what) {
        checker->findings->failed = true;
        manifest->n_subjects = 0;
        return;
    }
    *subject = (struct manifest_subject){ place, what };
}

static void remember(struct checker *checker, const struct value ***list, size_t *n,
                     const struct value *value)
{
    const struct value **slot = arena_push(checker->findings->arena, list, n);

    if (slot)
        *slot = value;
    else
        checker->findings->failed = true;
}

/* ---- places of an inner text in the outer one ---- */

static int index_lines(struct checker *checker)
{
    struct span rest = checker->text, line;

    for (size_t i = 0; i < rest.len; i++)
        checker->n_lines += rest.ptr[i] == '\n';
    checker->n_lines++;
    checker->lines = arena_new_array(checker->findings->arena, size_t, checker->n_lines);
    if (!checker->lines)
        return err_no_memory(checker->err);
    size_t n = 0;
    for (bool more = true; span_split(&rest, '\n', &more, &line);)
        checker->lines[n++] = (size_t)(line.ptr - checker->text.ptr);
    return 0;
}

static struct span without_return(struct span line)
{
    if (line.len > 0 && line.ptr[line.len - 1] == '\r')
        line.len--;
    return line;
}

/* Line `number`, from 1, of the file; false when there are not so many. */
static bool file_line(const struct checker *checker, size_t number, struct span *ret)
{
    if (number == 0 || number > checker->n_lines)
        return false;
    size_t begin = checker->lines[number - 1];
    size_t end = number < checker->n_lines ? checker->lines[number] - 1 : checker->text.len;
    *ret = without_return((struct span){ .ptr = checker->text.ptr + begin, .len = end - begin });
    return true;
}

/* The same of a text without an index. */
static bool text_line(struct span text, size_t number, struct span *ret)
{
    bool more = text.len > 0;

    for (size_t i = 1; span_split(&text, '\n', &more, ret); i++) {
        if (i < number)
            continue;
        *ret = without_return(*ret);
        return true;
    }
    return false;
}

/* The first line of a text that says something. */
static bool first_saying_line(struct span text, size_t *ret_number, struct span *ret)
{
    bool more = text.len > 0;

    for (*ret_number = 1; span_split(&text, '\n', &more, ret); ++*ret_number) {
        *ret = without_return(*ret);
        if (span_trim(*ret).len > 0)
            return true;
    }
    return false;
}

/* Whether `outer` is `inner` behind blanks; *ret_indent says behind how many. */
static bool is_indented(struct span outer, struct span inner, size_t *ret_indent)
{
    if (outer.len < inner.len)
        return false;
    size_t indent = outer.len - inner.len;
    for (size_t i = 0; i < indent; i++)
        if (outer.ptr[i] != ' ')
            return false;
    *ret_indent = indent;
    return inner.len == 0 || memcmp(outer.ptr + indent, inner.ptr, inner.len) == 0;
}

/* A text inside the file: the block that holds it, and where the block's first line stands. */
struct inner {
    const char *key;
    const struct value *value;
    size_t first_line; /* of the block in the file; 0: its lines do not stand there as they are */
};

/* Where the block begins: the first of its lines that says something is looked for from the line
 * of the value on. (The place of a block is its first line, or the line before.) */
static size_t find_block(const struct checker *checker, const struct value *value)
{
    size_t number, indent;
    struct span line, outer;

    if (!first_saying_line(value->text, &number, &line))
        return 0;
    for (size_t at = value->place.line; at <= value->place.line + number; at++)
        if (at >= number && file_line(checker, at, &outer) && is_indented(outer, line, &indent))
            return at - number + 1;
    return 0;
}

/* The place in the file, when the line stands there; else that of the value. */
static bool outer_place(const struct checker *checker, const struct inner *inner,
                        struct place place, struct place *ret)
{
    size_t number = inner->first_line + place.line - 1, indent;
    struct span line, outer;

    *ret = inner->value->place;
    if (inner->first_line == 0 || place.line == 0)
        return false;
    if (!text_line(inner->value->text, place.line, &line) || !file_line(checker, number, &outer) ||
        !is_indented(outer, line, &indent))
        return false;
    *ret = (struct place){ (unsigned)number, place.column + (unsigned)indent };
    return true;
}

/* Takes over what was found in an inner text. */
static void adopt(struct checker *checker, const struct inner *inner, const struct findings *from)
{
    for (size_t i = 0; i < from->n; i++) {
        const struct finding *finding = &from->items[i];
        struct place place;
        if (outer_place(checker, inner, finding->place, &place) || finding->place.line == 0)
            finding_add_text(checker->findings, finding->kind, place, finding->advice,
                             finding->text);
        else
            finding_add(checker->findings, finding->kind, place, finding->advice,
                        "in `%s`, line %u, column %u: %s", inner->key, finding->place.line,
                        finding->place.column, finding->text);
    }
    checker->findings->n_left_out += from->n_left_out;
    checker->findings->failed |= from->failed;
}

/* ---- ConfigMap ---- */

enum text_kind { TEXT_OTHER, TEXT_PLUGIN, TEXT_MIG, TEXT_HOOKS, TEXT_CHECKPOINT };

static bool has_any_key(const struct value *map, const char *const *keys, size_t n_keys)
{
    for (size_t i = 0; i < n_keys; i++)
        if (value_get_nocase(map, keys[i]))
            return true;
    return false;
}

static enum text_kind kind_of_tree(const struct value *root)
{
    static const char *const keys[] = { "flags", "sharing", "timeSlicing", "mps", "imex" };

    if (value_get(root, "mig-configs"))
        return TEXT_MIG;
    if (has_any_key(root, keys, ARRAY_LEN(keys)))
        return TEXT_PLUGIN;
    if (value_get_nocase(root, "hooks"))
        return TEXT_HOOKS;
    if (value_get_nocase(root, "MigState"))
        return TEXT_CHECKPOINT;
    /* a version and nothing else is the empty configuration */
    return root->kind == VALUE_MAP && root->n_entries == 1 && value_get(root, "version")
               ? TEXT_PLUGIN
               : TEXT_OTHER;
}

/* A text that is no YAML may still be recognised by a line that begins with one of the keys. */
static enum text_kind kind_of_broken(struct span text)
{
    static const struct {
        struct span word;
        enum text_kind kind;
    } words[] = {
        { SPAN("mig-configs:"), TEXT_MIG },
        { SPAN("sharing:"), TEXT_PLUGIN },
        { SPAN("flags:"), TEXT_PLUGIN },
        { SPAN("hooks:"), TEXT_HOOKS },
    };
    struct span line;

    for (bool more = true; span_split(&text, '\n', &more, &line);)
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (line.len >= words[i].word.len &&
                memcmp(line.ptr, words[i].word.ptr, words[i].word.len) == 0)
                return words[i].kind;
    return TEXT_OTHER;
}

static enum text_kind kind_of_text(struct checker *checker, struct span text)
{
    struct yaml_fault fault = {};
    struct value *root = NULL;
    int r = yaml_read(text, NULL, checker->findings->arena, &root, &fault);

    if (r == -ENOMEM)
        checker->findings->failed = true;
    return r < 0 ? kind_of_broken(text) : kind_of_tree(root);
}

static const char *const kind_names[] = {
    [TEXT_PLUGIN] = "device plugin configuration",
    [TEXT_MIG] = "MIG configurations",
    [TEXT_HOOKS] = "MIG hooks",
    [TEXT_CHECKPOINT] = "MIG checkpoint",
};

static int check_text(enum text_kind kind, struct span text, struct findings *findings,
                      struct err *err)
{
    switch (kind) {
    case TEXT_MIG:
        return mig_config_check(text, findings, err);
    case TEXT_HOOKS:
        return mig_hooks_check(text, findings, err);
    case TEXT_CHECKPOINT:
        return mig_checkpoint_check(text, findings, err);
    default:
        return config_check(text, findings, err);
    }
}

/* A node chooses an entry by a label, and so its name has to be a label's value. */
static bool is_label_value(const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool inside = i > 0 && i + 1 < len && (c == '-' || c == '_' || c == '.');
        if (!alnum && !inside)
            return false;
    }
    return len > 0 && len <= 63;
}

static int check_entry(struct checker *checker, const char *map_name,
                       const struct value_entry *entry)
{
    struct findings inner_findings = { .arena = checker->findings->arena };
    struct inner inner = { .key = entry->key, .value = entry->value };

    if (entry->value->kind != VALUE_STRING) {
        finding_add(
            checker->findings, FINDING_ERROR, entry->value->place,
            finding_advice(checker->findings, "write `%s: |` and the text below it", entry->key),
            "`data.%s` is %s, want a string", entry->key, value_kind_names[entry->value->kind]);
        return 0;
    }
    enum text_kind kind = kind_of_text(checker, entry->value->text);
    if (kind == TEXT_OTHER)
        return 0;
    add_subject(checker, entry->place, "ConfigMap %s, entry %s: %s", map_name, entry->key,
                kind_names[kind]);
    if (kind == TEXT_PLUGIN && !is_label_value(entry->key))
        finding_add(checker->findings, FINDING_WARNING, entry->place, NULL,
                    "no node can choose `%s` by its label", entry->key);
    inner.first_line = find_block(checker, entry->value);
    int r = check_text(kind, entry->value->text, &inner_findings, checker->err);
    if (r >= 0)
        adopt(checker, &inner, &inner_findings);
    return MIN(r, 0);
}

static const char *object_name(const struct value *object)
{
    const struct value *name = value_get(value_get(object, "metadata"), "name");

    return name && name->kind == VALUE_STRING ? name->text.ptr : "(no name)";
}

static int check_config_map(struct checker *checker, const struct value *map)
{
    const struct value *data = value_get(map, "data");
    int r = 0;

    remember(checker, &checker->maps, &checker->n_maps, map);
    if (data && data->kind != VALUE_MAP && data->kind != VALUE_NULL)
        finding_add(checker->findings, FINDING_ERROR, data->place, NULL, "`data` is %s, want a map",
                    value_kind_names[data->kind]);
    if (!data || data->kind != VALUE_MAP)
        return 0;
    for (size_t i = 0; i < data->n_duplicates; i++)
        finding_add(checker->findings, FINDING_WARNING, data->duplicates[i].first, NULL,
                    "`%s` is said again in line %u, and only that one counts",
                    data->duplicates[i].key, data->duplicates[i].second.line);
    for (size_t i = 0; i < data->n_entries && r == 0; i++)
        r = check_entry(checker, object_name(map), &data->entries[i]);
    return r;
}

/* ---- ClusterPolicy ---- */

static void check_policy(struct checker *checker, const struct value *policy)
{
    const struct value *spec = value_get(policy, "spec");
    const struct value *version = value_get(policy, "apiVersion");

    add_subject(checker, policy->place, "ClusterPolicy %s", object_name(policy));
    remember(checker, &checker->policies, &checker->n_policies, policy);
    if (!value_is_text(version, "nvidia.com/v1"))
        finding_add(checker->findings, FINDING_ERROR, version ? version->place : policy->place,
                    NULL, "a ClusterPolicy has apiVersion: nvidia.com/v1");
    if (spec && spec->kind == VALUE_MAP)
        policy_check(checker->findings, spec);
    else
        finding_add(checker->findings, FINDING_ERROR, spec ? spec->place : policy->place, NULL,
                    "a ClusterPolicy needs a map `spec`");
}

static const struct value *find_map(const struct checker *checker, struct span name)
{
    for (size_t i = 0; i < checker->n_maps; i++)
        if (span_equal(span_of(object_name(checker->maps[i])), name))
            return checker->maps[i];
    return NULL;
}

/* Whether the ConfigMap that a policy names, if the file has it, has the entry. */
static void check_reference(struct checker *checker, const struct value *name,
                            const struct value *key, const char *fixed_key)
{
    if (!name || name->kind != VALUE_STRING || name->text.len == 0)
        return;
    const struct value *map = find_map(checker, name->text);
    const struct value *blamed = fixed_key ? name : key;
    if (!map || !blamed || blamed->kind != VALUE_STRING || blamed->text.len == 0)
        return;
    const char *wanted = fixed_key ? fixed_key : key->text.ptr;
    if (!value_get(value_get(map, "data"), wanted))
        finding_add(checker->findings, FINDING_ERROR, blamed->place, NULL,
                    "ConfigMap " SPAN_FMT " of line %u has no entry `%s`", SPAN_ARG(name->text),
                    map->place.line, wanted);
}

static void check_references(struct checker *checker)
{
    for (size_t i = 0; i < checker->n_policies; i++) {
        const struct value *spec = value_get(checker->policies[i], "spec");
        const struct value *plugin = value_get(value_get(spec, "devicePlugin"), "config");
        const struct value *mig = value_get(value_get(spec, "migManager"), "config");
        check_reference(checker, value_get(plugin, "name"), value_get(plugin, "default"), NULL);
        check_reference(checker, value_get(mig, "name"), NULL, "config.yaml");
    }
}

/* ---- objects ---- */

static bool is_object(const struct value *value)
{
    return value_get(value, "kind") || value_get(value, "apiVersion");
}

static int check_object(struct checker *checker, const struct value *object, int depth);

static int check_items(struct checker *checker, const struct value *items, int depth)
{
    int r = 0;

    if (depth >= MANIFEST_MAX_DEPTH) {
        finding_add(checker->findings, FINDING_ERROR, items->place, NULL,
                    "Lists inside each other, more than %d", MANIFEST_MAX_DEPTH);
        return 0;
    }
    for (size_t i = 0; i < items->n_items && r == 0; i++)
        r = check_object(checker, items->items[i], depth + 1);
    return r;
}

static int check_object(struct checker *checker, const struct value *object, int depth)
{
    const struct value *kind = value_get(object, "kind"), *items = value_get(object, "items");

    if (object->kind == VALUE_NULL)
        return 0;
    if (!is_object(object)) {
        finding_add(checker->findings, FINDING_ERROR, object->place, NULL,
                    "a Kubernetes object has apiVersion and kind");
        return 0;
    }
    if (!kind || kind->kind != VALUE_STRING) {
        finding_add(checker->findings, FINDING_ERROR, kind ? kind->place : object->place, NULL,
                    "a Kubernetes object needs a kind");
        return 0;
    }
    if (!value_get(object, "apiVersion"))
        finding_add(checker->findings, FINDING_ERROR, object->place, NULL,
                    "a Kubernetes object needs an apiVersion");
    if (items && items->kind == VALUE_LIST && text_ends(kind->text.ptr, "List"))
        return check_items(checker, items, depth);
    if (value_is_text(kind, "ConfigMap"))
        return check_config_map(checker, object);
    if (value_is_text(kind, "ClusterPolicy"))
        check_policy(checker, object);
    return 0;
}

static int check_objects(struct checker *checker)
{
    struct yaml_fault fault = {};
    struct value **documents = NULL;
    size_t n = 0;
    int r = yaml_read_all(checker->text, &limits, checker->findings->arena, &documents, &n, &fault);

    if (r == -ENOMEM)
        return err_no_memory(checker->err);
    if (r < 0) {
        finding_add(checker->findings, FINDING_SYNTAX, fault.place, NULL, "%s", fault.text);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        r = check_object(checker, documents[i], 0);
        if (r < 0)
            return r;
    }
    check_references(checker);
    return 0;
}

/* ---- the file ---- */

static bool holds_objects(struct value *const *documents, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (documents[i]->kind != VALUE_NULL)
            return is_object(documents[i]);
    return false;
}

/* A manifest may begin with an empty document; a configuration is the first one, and what follows
 * need not even be YAML. */
static int look_at(struct checker *checker, bool *ret_objects, enum text_kind *ret_kind)
{
    struct arena *arena = checker->findings->arena;
    struct yaml_fault fault = {};
    struct value *first = NULL, **documents = NULL;
    size_t n = 0;
    int r = yaml_read(checker->text, &limits, arena, &first, &fault);

    if (r == -ENOMEM)
        return err_no_memory(checker->err);
    if (r < 0) {
        finding_add(checker->findings, FINDING_SYNTAX, fault.place, NULL, "%s", fault.text);
        return -EINVAL;
    }
    *ret_objects = is_object(first);
    *ret_kind = kind_of_tree(first);
    if (first->kind != VALUE_NULL)
        return 0;
    r = yaml_read_all(checker->text, &limits, arena, &documents, &n, &fault);
    if (r == 0)
        *ret_objects = holds_objects(documents, n);
    return r == -ENOMEM ? err_no_memory(checker->err) : 0;
}

int manifest_check(struct span text, struct findings *findings, struct manifest *ret,
                   struct err *err)
{
    struct checker checker = { .text = text, .findings = findings, .manifest = ret, .err = err };
    enum text_kind kind = TEXT_OTHER;
    bool objects = false;

    *ret = (struct manifest){};
    int r = look_at(&checker, &objects, &kind);
    if (r == 0 && objects)
        r = index_lines(&checker);
    if (r == 0 && objects) {
        r = check_objects(&checker);
    } else if (r == 0) {
        kind = kind == TEXT_OTHER ? TEXT_PLUGIN : kind;
        add_subject(&checker, (struct place){ 1, 1 }, "%s", kind_names[kind]);
        r = check_text(kind, text, findings, err);
    }
    if (r == -ENOMEM)
        return r;
    findings_sort(findings);
    r = findings_failed(findings, err);
    return r < 0 ? r : (int)findings->n_errors;
}
