/* The hooks file of mig_documents.h (spec/mig §4.7): what to run before and after a change. */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "codec/yaml.h"
#include "share/go_text.h"
#include "share/mig_documents.h"

static const char *const point_names[MIG_HOOK_N] = {
    [MIG_HOOK_APPLY_START] = "apply-start",
    [MIG_HOOK_PRE_APPLY_MODE] = "pre-apply-mode",
    [MIG_HOOK_PRE_APPLY_CONFIG] = "pre-apply-config",
    [MIG_HOOK_APPLY_EXIT] = "apply-exit",
};

const char *mig_hook_name(enum mig_hook_point point)
{
    return point_names[point];
}

/* ---- small parts ---- */

static void mismatch(struct findings *findings, const struct value *value, const char *field,
                     const char *type, const char *advice)
{
    finding_add_text(findings, FINDING_TYPE, value->place, advice,
                     go_json_field_mismatch(findings->arena, value, field, type));
}

/* A fraction where a string is wanted is written with the digits of a 32 bit float: 1.5, 1e+06. */
static void float_text(double number, char *text, size_t size)
{
    float narrow = (float)number;
    int precision = 1;

    if (!isfinite(narrow)) {
        snprintf(text, size, "%s", isnan(narrow) ? "NaN" : narrow < 0 ? "-Inf" : "+Inf");
        return;
    }
    do
        snprintf(text, size, "%.*e", precision - 1, (double)narrow);
    while (strtof(text, NULL) != narrow && precision++ < 9);
    int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < 6)
        snprintf(text, size, "%.*g", MAX(precision, 6), (double)narrow);
}

/* Upstream's YAML reader makes strings of numbers and booleans where a string is wanted, and null
 * is the empty string. NULL: it is a list or a map, or there is no memory, which is noted. */
static const char *as_text(struct findings *findings, const struct value *value, const char *field)
{
    char number[VALUE_NUMBER_SIZE] = "";
    struct span text = SPAN("");

    switch (value->kind) {
    case VALUE_LIST:
    case VALUE_MAP:
        mismatch(findings, value, field, "string", NULL);
        return NULL;
    case VALUE_STRING:
        text = value->text;
        break;
    case VALUE_BOOL:
        text = value->boolean ? SPAN("true") : SPAN("false");
        break;
    case VALUE_FLOAT:
        float_text(value->number, number, sizeof(number));
        text = span_of(number);
        break;
    default:
        value_number_text(value, number);
        text = span_of(number);
    }
    if (memchr(text.ptr, '\0', text.len)) {
        finding_add(findings, FINDING_OURS, value->place, NULL, "a NUL cannot be in a command");
        return NULL;
    }
    const char *copy = arena_spandup(findings->arena, text);
    findings->failed |= !copy;
    return copy;
}

static const char *text_in(struct findings *findings, const struct value *map, const char *key,
                           const char *field)
{
    const struct value *value = value_get_nocase(map, key);

    return value ? as_text(findings, value, field) : "";
}

/* Room for n strings and the NULL behind them. */
static const char **new_texts(struct findings *findings, const struct value *from, size_t n)
{
    if (n > MIG_HOOKS_MAX_TEXTS) {
        finding_add(findings, FINDING_OURS, from->place, NULL, "%zu of them, more than %d", n,
                    MIG_HOOKS_MAX_TEXTS);
        return NULL;
    }
    const char **texts = arena_new_array(findings->arena, const char *, n + 1);
    findings->failed |= !texts;
    return texts;
}

/* ---- one hook ---- */

static void read_args(struct findings *findings, const struct value *map, struct mig_hook *hook)
{
    const struct value *args = value_get_nocase(map, "args");
    bool list = args && args->kind == VALUE_LIST;

    if (args && !list && args->kind != VALUE_NULL)
        mismatch(findings, args, "HookSpec.hooks.args", "[]string", "want a list of words");
    hook->args = new_texts(findings, map, list ? args->n_items : 0);
    for (size_t i = 0; list && hook->args && i < args->n_items; i++)
        hook->args[i] = as_text(findings, args->items[i], "HookSpec.hooks.args") ?: "";
}

static const char *variable(struct findings *findings, const struct value_entry *entry)
{
    const char *text = as_text(findings, entry->value, "HookSpec.hooks.envs");

    if (!entry->key[0] || strchr(entry->key, '='))
        finding_add(findings, FINDING_WARNING, entry->place, NULL,
                    "`%s` is no name of a variable that a program could look up", entry->key);
    if (!text)
        return "";
    const char *joined = arena_printf(findings->arena, "%s=%s", entry->key, text);
    findings->failed |= !joined;
    return joined ?: "";
}

static void read_envs(struct findings *findings, const struct value *map, struct mig_hook *hook)
{
    const struct value *envs = value_get_nocase(map, "envs");
    bool is_map = envs && envs->kind == VALUE_MAP;

    if (envs && !is_map && envs->kind != VALUE_NULL)
        mismatch(findings, envs, "HookSpec.hooks.envs", "v1.EnvsMap", "want NAME: value");
    hook->envs = new_texts(findings, map, is_map ? envs->n_entries : 0);
    for (size_t i = 0; is_map && hook->envs && i < envs->n_entries; i++)
        hook->envs[i] = variable(findings, &envs->entries[i]);
}

static void read_hook(struct findings *findings, const struct value *map, struct mig_hook *ret)
{
    static const char *const known[] = { "args", "command", "envs", "workdir" };

    *ret = (struct mig_hook){ .command = "" };
    if (map->kind != VALUE_MAP && map->kind != VALUE_NULL)
        return mismatch(findings, map, "Spec.hooks", "v1.HookSpec",
                        "want command: and what to run");
    read_args(findings, map, ret);
    ret->command = text_in(findings, map, "command", "HookSpec.hooks.command") ?: "";
    read_envs(findings, map, ret);
    const char *workdir = text_in(findings, map, "workdir", "HookSpec.hooks.workdir");
    ret->workdir = workdir && workdir[0] ? workdir : NULL;
    findings_keys(findings, map, known, ARRAY_LEN(known), false, NULL);
    if (!ret->command[0] && findings->n_errors == 0)
        finding_add(findings, FINDING_WARNING, map->place, NULL,
                    "a hook without a command fails, and with it whatever it was to precede");
}

/* ---- the hooks ---- */

static enum mig_hook_point find_point(const char *name)
{
    int point = 0;

    while (point < MIG_HOOK_N && !text_equal(point_names[point], name))
        point++;
    return (enum mig_hook_point)point;
}

/* A list under a name that is none of ours is read, too, since upstream refuses it when it is
 * wrong; then it is forgotten. */
static void read_point(struct findings *findings, const struct value_entry *entry,
                       struct mig_hooks *ret)
{
    enum mig_hook_point point = find_point(entry->key);
    const struct value *list = entry->value;

    if (list->kind == VALUE_NULL)
        return;
    if (list->kind != VALUE_LIST)
        return mismatch(findings, list, "Spec.hooks", "[]v1.HookSpec",
                        "want a list: begin with a `-`");
    if (list->n_items > MIG_HOOKS_MAX_HOOKS) {
        finding_add(findings, FINDING_OURS, list->place, NULL, "%zu hooks, more than %d",
                    list->n_items, MIG_HOOKS_MAX_HOOKS);
        return;
    }
    struct mig_hook *hooks = arena_new_array(findings->arena, struct mig_hook, list->n_items);
    findings->failed |= !hooks;
    for (size_t i = 0; hooks && i < list->n_items; i++)
        read_hook(findings, list->items[i], &hooks[i]);
    if (point == MIG_HOOK_N || !hooks)
        return;
    ret->hooks[point] = hooks;
    ret->n[point] = list->n_items;
}

static void read_hooks(struct findings *findings, const struct value *map, struct mig_hooks *ret)
{
    const struct value_entry **sorted = go_sorted_entries(findings->arena, map);

    findings->failed |= !sorted;
    for (size_t i = 0; sorted && i < map->n_entries; i++)
        read_point(findings, sorted[i], ret);
    findings_keys(findings, map, point_names, MIG_HOOK_N, true, NULL);
}

static void read_spec(struct findings *findings, const struct value *root, struct mig_hooks *ret)
{
    static const char *const known[] = { "hooks", "version" };
    const struct value *hooks = value_get_nocase(root, "hooks");

    if (root->kind == VALUE_NULL)
        return;
    if (root->kind != VALUE_MAP)
        return finding_add_mismatch(findings, root, "v1.Spec", "want hooks: and lists below it");
    if (hooks && hooks->kind == VALUE_MAP)
        read_hooks(findings, hooks, ret);
    else if (hooks && hooks->kind != VALUE_NULL)
        mismatch(findings, hooks, "Spec.hooks", "v1.HooksMap", NULL);
    (void)text_in(findings, root, "version", "Spec.version");
    findings_keys(findings, root, known, ARRAY_LEN(known), false, NULL);
}

/* ---- the file ---- */

/* Reads the text into findings; -ENOMEM, else 0 whatever was found. */
static int read_text(struct span text, struct findings *findings, struct mig_hooks *ret,
                     struct err *err)
{
    static const struct yaml_limits limits = { .bytes = MIG_HOOKS_MAX_BYTES };
    struct value *root;
    int r = findings_read_yaml(findings, text, &limits, &root, err);

    if (root)
        read_spec(findings, root, ret);
    return r < 0 ? r : findings_failed(findings, err);
}

int mig_hooks_parse(struct span text, const char *name, struct arena *arena, struct mig_hooks **ret,
                    struct err *err)
{
    struct findings findings = { .arena = arena };
    struct mig_hooks *hooks = arena_new(arena, struct mig_hooks);
    enum finding_kind kind;
    int r = hooks ? read_text(text, &findings, hooks, err) : err_no_memory(err);

    if (r == 0)
        r = findings_verdict(&findings, name, &kind, err);
    if (r == -EINVAL)
        return err_wrap(err, r, "error parsing hooks file: unmarshal error: %s",
                        finding_go_context(kind));
    if (r == 0)
        *ret = hooks;
    return r;
}

int mig_hooks_check(struct span text, struct findings *findings, struct err *err)
{
    struct mig_hooks hooks = {};
    int r = read_text(text, findings, &hooks, err);

    if (r < 0)
        return r;
    findings_sort(findings);
    return (int)findings->n_errors;
}
