#include "share/config_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "share/go_text.h"

const struct option options[OPTION_N] = {
#define OPTION(id, kind, on, flag, other, env, discovery_env, path, value, sentence)               \
    [OPTION_##id] = { .type = TYPE_##kind,                                                         \
                      .programs = (on),                                                            \
                      .name = (flag),                                                              \
                      .aliases = (other),                                                          \
                      .variables = (env),                                                          \
                      .discovery_variables = (discovery_env),                                      \
                      .key = (path),                                                               \
                      .initial = (value),                                                          \
                      .help = (sentence) },
#include "share/config_options.def"
};

const char *option_variables(const struct option *option, enum program program)
{
    bool own = program == PROGRAM_FEATURE_DISCOVERY && option->discovery_variables[0] != '\0';

    return own ? option->discovery_variables : option->variables;
}

/* Name number `at` of an option, its own name being number 0; empty when there are no more. */
static struct span option_form(const struct option *option, unsigned at)
{
    struct span rest = span_of(option->aliases), part = {};
    bool more = rest.len > 0;

    if (at == 0)
        return span_of(option->name);
    for (; at > 0; at--)
        if (!span_split(&rest, ',', &more, &part))
            return (struct span){};
    return part;
}

/* ---- values ---- */

/* `strconv.ParseInt: parsing "x": invalid syntax` */
static int bad_syntax(const char *function, struct span text, int r, struct arena *arena,
                      struct err *err)
{
    const char *quoted = go_quote(arena, text);

    if (!quoted)
        return err_no_memory(err);
    return err_set(err, EINVAL, "strconv.%s: parsing %s: %s", function, quoted,
                   r == -ERANGE ? "value out of range" : "invalid syntax");
}

int option_duration(struct span text, int64_t *ret_ns, struct err *err)
{
    if (!span_equal(text, SPAN("infinite")))
        return text_to_duration_ns(text, ret_ns, err);
    *ret_ns = INT64_MAX;
    return 0;
}

static int parse_real(struct span text, struct arena *arena, double *ret, struct err *err)
{
    char *copy = arena_spandup(arena, text), *end = NULL;

    if (!copy)
        return err_no_memory(err);
    errno = 0;
    double real = strtod(copy, &end);
    if (text.len == 0 || isspace((unsigned char)copy[0]) || end != copy + text.len)
        return bad_syntax("ParseFloat", text, -EINVAL, arena, err);
    *ret = real;
    return 0;
}

static int too_many(struct err *err)
{
    return err_set(err, EINVAL, "more than %d elements", OPTIONS_MAX_ELEMENTS);
}

static int parse_strings(struct span text, struct arena *arena, struct setting *setting,
                         struct err *err)
{
    struct span part;

    for (bool more = true; span_split(&text, ',', &more, &part);) {
        if (setting->n >= OPTIONS_MAX_ELEMENTS)
            return too_many(err);
        char *element = arena_spandup(arena, span_trim(part));
        const char **slot = element ? arena_push(arena, &setting->texts, &setting->n) : NULL;
        if (!slot)
            return err_no_memory(err);
        *slot = element;
    }
    return 0;
}

static int parse_ints(struct span text, struct arena *arena, struct setting *setting,
                      struct err *err)
{
    struct span part;

    for (bool more = true; span_split(&text, ',', &more, &part);) {
        int64_t number;
        int r = text_to_i64_any_base(span_trim(part), &number);
        if (r < 0)
            return bad_syntax("ParseInt", span_trim(part), r, arena, err);
        if (setting->n >= OPTIONS_MAX_ELEMENTS)
            return too_many(err);
        int64_t *slot = arena_push(arena, &setting->numbers, &setting->n);
        if (!slot)
            return err_no_memory(err);
        *slot = number;
    }
    return 0;
}

int setting_parse(enum option_type type, struct span text, struct arena *arena,
                  struct setting *setting, struct err *err)
{
    int r;

    if (text.len > OPTIONS_MAX_BYTES)
        return err_set(err, EINVAL, "longer than %d bytes", OPTIONS_MAX_BYTES);
    switch (type) {
    case TYPE_BOOL:
        r = text_to_bool(text, &setting->on);
        return r < 0 ? bad_syntax("ParseBool", text, r, arena, err) : 0;
    case TYPE_INT:
        r = text_to_i64_any_base(text, &setting->number);
        return r < 0 ? bad_syntax("ParseInt", text, r, arena, err) : 0;
    case TYPE_FLOAT:
        return parse_real(text, arena, &setting->real, err);
    case TYPE_DURATION:
        return option_duration(text, &setting->number, err);
    case TYPE_STRINGS:
        return parse_strings(text, arena, setting, err);
    case TYPE_INTS:
        return parse_ints(text, arena, setting, err);
    default:
        setting->text = arena_spandup(arena, text);
        return setting->text ? 0 : err_no_memory(err);
    }
}

static int set_default(const struct option *option, struct arena *arena, struct setting *setting,
                       struct err *err)
{
    bool empty_list = option->type == TYPE_STRINGS || option->type == TYPE_INTS;

    *setting = (struct setting){ .source = FROM_DEFAULT };
    if (empty_list && option->initial[0] == '\0')
        return 0;
    return setting_parse(option->type, span_of(option->initial), arena, setting, err);
}

/* ---- environment ---- */

static const char *variable_value(const char *const *variables, struct span name)
{
    for (; variables && *variables; variables++)
        if (strncmp(*variables, name.ptr, name.len) == 0 && (*variables)[name.len] == '=')
            return *variables + name.len + 1;
    return NULL;
}

/* Upstream words a variable that does not parse in one way per type. */
static int bad_variable(const struct option *option, const char *variable, struct span value,
                        struct arena *arena, struct err *err)
{
    static const char *const types[TYPE_N] = {
        [TYPE_STRING] = "string",        [TYPE_BOOL] = "bool",   [TYPE_INT] = "int",
        [TYPE_FLOAT] = "float64",        [TYPE_DURATION] = NULL, [TYPE_INTS] = "int slice",
        [TYPE_STRINGS] = "string slice",
    };
    const char *quoted = go_quote(arena, value);

    if (!quoted)
        return err_no_memory(err);
    if (!types[option->type])
        return err_wrap(err, -EINVAL,
                        "could not parse %s from environment variable \"%s\" as value for flag %s",
                        quoted, variable, option->name);
    return err_wrap(err, -EINVAL,
                    "could not parse %s as %s value from environment variable \"%s\" for flag %s",
                    quoted, types[option->type], variable, option->name);
}

/* What an empty variable says differs by type: strings are empty, a bool is false, a list of
 * strings has one empty element, and the rest are as if the variable were missing. */
static bool empty_is_ignored(enum option_type type)
{
    return type == TYPE_INT || type == TYPE_FLOAT || type == TYPE_DURATION || type == TYPE_INTS;
}

static int read_variable(const struct option *option, struct span name, const char *value,
                         struct arena *arena, struct setting *setting, struct err *err)
{
    struct setting read = { .source = FROM_ENVIRONMENT, .origin = arena_spandup(arena, name) };
    struct span text = span_of(value);

    if (!read.origin)
        return err_no_memory(err);
    if (text.len == 0 && empty_is_ignored(option->type))
        return 0;
    if (text.len > 0 || option->type != TYPE_BOOL) {
        int r = setting_parse(option->type, text, arena, &read, err);
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            return bad_variable(option, read.origin, text, arena, err);
    }
    *setting = read;
    return 0;
}

static int read_environment(const struct config_input *input, const struct option *option,
                            struct arena *arena, struct setting *setting, struct err *err)
{
    struct span rest = span_of(option_variables(option, input->program)), name;

    for (bool more = rest.len > 0; span_split(&rest, ',', &more, &name);) {
        const char *value = variable_value(input->environ, name);
        if (value)
            return read_variable(option, name, value, arena, setting, err);
    }
    return 0;
}

/* ---- flags ---- */

/* A walk along the arguments, by the rules of Go's flag package. */
struct flag_walk {
    const struct config_input *input;
    struct arena *arena;
    struct settings *settings;
    int next;                 /* argument */
    unsigned forms[OPTION_N]; /* bits: under which of its names an option was given */
    bool help, version;
    struct err *err;
};

/* One flag as it stands there: -name, --name, --name=value. */
struct flag_text {
    struct span name, value;
    bool has_value;
};

/* The option in the program, or NULL; *ret_form says under which of its names. */
static const struct option *find_option(enum program program, struct span name, unsigned *ret_form)
{
    for (size_t i = 0; i < OPTION_N; i++) {
        struct span form;
        if (!(options[i].programs & (1u << program)))
            continue;
        for (unsigned at = 0; (form = option_form(&options[i], at)).len > 0; at++)
            if (span_equal(form, name))
                return *ret_form = at, &options[i];
    }
    return NULL;
}

/* Words that end the walk: anything without a dash, a lone dash, or "--". */
static bool is_flag(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0' && !text_equal(argument, "--");
}

static int split_flag(const char *argument, struct flag_text *ret, struct err *err)
{
    struct span name = span_of(argument + (argument[1] == '-' ? 2 : 1));
    const char *equals = name.len > 0 ? memchr(name.ptr, '=', name.len) : NULL;

    if (name.len == 0 || name.ptr[0] == '-' || equals == name.ptr)
        return err_set(err, EINVAL, "bad flag syntax: %s", argument);
    *ret = (struct flag_text){ .name = name, .has_value = equals };
    if (equals) {
        ret->name.len = (size_t)(equals - name.ptr);
        ret->value = span_of(equals + 1);
    }
    return 0;
}

static int bad_flag(struct flag_walk *walk, const struct option *option,
                    const struct flag_text *flag, const char *reason)
{
    static const char sentence[] = "invalid %svalue %s for %s-" SPAN_FMT ": %s";
    const char *quoted = go_quote(walk->arena, flag->value);
    bool boolean = !option || option->type == TYPE_BOOL;

    if (!quoted)
        return err_no_memory(walk->err);
    return err_set(walk->err, EINVAL, sentence, boolean ? "boolean " : "", quoted,
                   boolean ? "" : "flag ", SPAN_ARG(flag->name), reason);
}

/* --help and --version are switches that are no options. */
static int take_request(struct flag_walk *walk, const struct flag_text *flag, bool *ret)
{
    *ret = true;
    if (flag->has_value && text_to_bool(flag->value, ret) < 0)
        return bad_flag(walk, NULL, flag, "parse error");
    return 0;
}

/* The value may be the next argument, except for a switch. */
static int take_value(struct flag_walk *walk, const struct option *option, struct flag_text *flag)
{
    if (flag->has_value)
        return 0;
    if (option->type == TYPE_BOOL)
        flag->value = SPAN("true");
    else if (walk->next < walk->input->argc)
        flag->value = span_of(walk->input->argv[walk->next++]);
    else
        return err_set(walk->err, EINVAL, "flag needs an argument: -" SPAN_FMT,
                       SPAN_ARG(flag->name));
    return 0;
}

/* Go's own flag types hide the reason, the library's keep it. */
static bool hides_reason(enum option_type type)
{
    return type == TYPE_BOOL || type == TYPE_INT || type == TYPE_FLOAT;
}

static int store_flag(struct flag_walk *walk, const struct option *option,
                      const struct flag_text *flag)
{
    struct setting *setting = &walk->settings->of[option - options];
    bool repeated_list =
        setting->source == FROM_FLAG && (option->type == TYPE_STRINGS || option->type == TYPE_INTS);
    struct err why = {};

    if (!repeated_list)
        *setting = (struct setting){ .source = FROM_FLAG };
    int r = setting_parse(option->type, flag->value, walk->arena, setting, &why);
    if (r == -ENOMEM)
        return err_no_memory(walk->err);
    if (r < 0)
        return bad_flag(walk, option, flag, hides_reason(option->type) ? "parse error" : why.text);
    return 0;
}

/* An option may be repeated, but only under one of its names. */
static int check_forms(const struct flag_walk *walk)
{
    for (size_t i = 0; i < OPTION_N; i++) {
        unsigned forms = walk->forms[i];
        if ((forms & (forms - 1)) == 0)
            continue;
        struct span first = option_form(&options[i], (unsigned)__builtin_ctz(forms));
        forms &= forms - 1;
        struct span second = option_form(&options[i], (unsigned)__builtin_ctz(forms));
        return err_set(walk->err, EINVAL,
                       "Cannot use two forms of the same flag: " SPAN_FMT " " SPAN_FMT,
                       SPAN_ARG(second), SPAN_ARG(first));
    }
    return 0;
}

static int read_flag(struct flag_walk *walk)
{
    struct flag_text flag = {};
    int r = split_flag(walk->input->argv[walk->next++], &flag, walk->err);

    if (r < 0)
        return r;
    if (span_equal(flag.name, SPAN("help")) || span_equal(flag.name, SPAN("h")))
        return take_request(walk, &flag, &walk->help);
    if (span_equal(flag.name, SPAN("version")) || span_equal(flag.name, SPAN("v")))
        return take_request(walk, &flag, &walk->version);
    unsigned form;
    const struct option *option = find_option(walk->input->program, flag.name, &form);
    if (!option)
        return err_set(walk->err, EINVAL, "flag provided but not defined: -" SPAN_FMT,
                       SPAN_ARG(flag.name));
    walk->forms[option - options] |= 1u << form;
    r = take_value(walk, option, &flag);
    return r < 0 ? r : store_flag(walk, option, &flag);
}

/* The first word that is no flag ends the flags, and it and what follows mean nothing; except that
 * the library gives every program a command `help`. */
static int read_flags(struct flag_walk *walk)
{
    const struct config_input *input = walk->input;

    while (walk->next < input->argc && is_flag(input->argv[walk->next])) {
        int r = read_flag(walk);
        if (r < 0)
            return r;
    }
    if (walk->next < input->argc)
        walk->help |=
            text_equal(input->argv[walk->next], "help") || text_equal(input->argv[walk->next], "h");
    return check_forms(walk);
}

int settings_read(const struct config_input *input, struct arena *arena, struct settings *ret,
                  enum config_request *ret_request, struct err *err)
{
    struct flag_walk walk = { .input = input, .arena = arena, .settings = ret, .err = err };
    int r = 0;

    for (size_t i = 0; i < OPTION_N && r == 0; i++) {
        r = set_default(&options[i], arena, &ret->of[i], err);
        if (r == 0 && (options[i].programs & (1u << input->program)))
            r = read_environment(input, &options[i], arena, &ret->of[i], err);
    }
    if (r == 0)
        r = read_flags(&walk);
    if (r < 0)
        return r;
    *ret_request = walk.help ? CONFIG_SHOW_HELP : walk.version ? CONFIG_SHOW_VERSION : CONFIG_RUN;
    return 0;
}

int config_options(const struct config_input *input, struct arena *arena, const char **ret_file,
                   enum config_request *ret_request, struct err *err)
{
    struct settings settings;
    enum config_request request;
    int r = settings_read(input, arena, &settings, &request, err);

    if (r < 0)
        return r;
    *ret_file = settings.of[OPTION_CONFIG_FILE].text;
    *ret_request = request;
    return 0;
}
