#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "cli/compat_mig_parted.h"
#include "share/go_text.h"

enum { EXIT_NO_TOPIC = 3, ROOT = PARTED_N_COMMANDS };

#define ON(command) (1u << PARTED_##command)

static const struct flag {
    const char *name;
    char letter;
    const char *variable;
    unsigned commands; /* 0: the program's own, good everywhere */
    bool is_bool;
    size_t offset;
    const char *initial, *help;
} flags[] = {
#define AT(field) offsetof(struct parted_flags, field)
    { "config-file", 'f', "MIG_PARTED_CONFIG_FILE", ON(APPLY) | ON(ASSERT), false, AT(config_file),
      "", "the file with the configurations; - is standard input" },
    { "selected-config", 'c', "MIG_PARTED_SELECTED_CONFIG", ON(APPLY) | ON(ASSERT), false,
      AT(selected_config), "", "which of them; needed when there are several" },
    { "checkpoint-file", 'f', "MIG_PARTED_CHECKPOINT_FILE", ON(CHECKPOINT) | ON(RESTORE), false,
      AT(checkpoint_file), "", "the file with the checkpoint" },
    { "hooks-file", 'k', "MIG_PARTED_HOOKS_FILE", ON(APPLY) | ON(RESTORE), false, AT(hooks_file),
      "", "commands to run before and after" },
    { "skip-reset", 's', "MIG_PARTED_SKIP_RESET", ON(APPLY), true, AT(skip_reset), "",
      "leave a change of mode that needs a reset pending" },
    { "mode-only", 'm', "MIG_PARTED_MODE_CHANGE_ONLY", ON(APPLY) | ON(ASSERT) | ON(RESTORE), true,
      AT(mode_only), "", "only the MIG mode, no MIG devices" },
    { "valid-config", 'a', "MIG_PARTED_VALID_CONFIG", ON(ASSERT), true, AT(valid_only), "",
      "only whether the file is right and has the configuration" },
    { "output-file", 'f', "MIG_PARTED_OUTPUT_FILE", ON(GENERATE), false, AT(output_file), "",
      "where to write  (default: standard output)" },
    { "output-format", 'o', "MIG_PARTED_OUTPUT_FORMAT", ON(EXPORT) | ON(GENERATE), false,
      AT(output_format), "yaml", "json or yaml  (default: \"yaml\")" },
    { "config-label", 'l', "MIG_PARTED_CONFIG_LABEL", ON(EXPORT), false, AT(config_label),
      "current", "the configuration's name  (default: \"current\")" },
    { "debug", 'd', "MIG_PARTED_DEBUG", 0, true, AT(debug), "", "say what is looked at, and why" },
#undef AT
};

static const struct {
    const char *name, *sentence;
} commands[] = {
    [PARTED_APPLY] = { "apply", "divide the GPUs as a configuration says, where they are not yet" },
    [PARTED_ASSERT] = { "assert", "is a configuration in force on this node?" },
    [PARTED_EXPORT] = { "export", "what is in force, as a configuration" },
    [PARTED_GENERATE] = { "generate-config", "configurations from this node's own profiles" },
    [PARTED_CHECKPOINT] = { "checkpoint", "note the MIG state, with all places, in a file" },
    [PARTED_RESTORE] = { "restore", "bring a noted MIG state back" },
};

/* ---- help ---- */

static void print_flags(unsigned command)
{
    printf("\nOPTIONS:\n");
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const struct flag *f = &flags[i];

        if ((command < ROOT) != (f->commands != 0) ||
            (f->commands && !(f->commands >> command & 1)))
            continue;
        printf("   -%c, --%s%s [$%s]\n       %s\n", f->letter, f->name, f->is_bool ? "" : " TEXT",
               f->variable, f->help);
    }
    printf("   -h, --help\n");
    if (command < ROOT)
        printf("   -d, --debug [$MIG_PARTED_DEBUG]\n");
    else
        printf("   -v, --version\n");
}

static void print_root_help(void)
{
    printf("NAME:\n   nvidia-mig-parted - divides the GPUs of a node by MIG (this is tranche)\n"
           "\nUSAGE:\n   nvidia-mig-parted [-d] COMMAND [OPTION...]\n"
           "\nCOMMANDS:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("   %-16s %s\n", commands[i].name, commands[i].sentence);
    printf("   %-16s this text, or a command's\n", "help, h");
    print_flags(ROOT);
}

static void print_help_of_command(enum parted_command command)
{
    printf("NAME:\n   nvidia-mig-parted %s - %s\n"
           "\nUSAGE:\n   nvidia-mig-parted %s [OPTION...]\n",
           commands[command].name, commands[command].sentence, commands[command].name);
    print_flags(command);
    putchar('\n');
    fflush(stdout);
}

static void print_help_of(unsigned command)
{
    if (command < ROOT) {
        print_help_of_command((enum parted_command)command);
        return;
    }
    print_root_help();
    putchar('\n');
    fflush(stdout);
}

/* ---- log ---- */

static bool debug_on;

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("-._/@^+", *text))
            return false;
    return true;
}

void parted_log(enum parted_level level, const char *format, ...)
{
    static const char *const names[] = { "fatal", "error", "warning", "debug" };
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    char text[4096], stamp[40] = "";
    time_t now = time(NULL);
    struct tm tm;
    va_list args;

    if (level == PARTED_DEBUG && !debug_on)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* Upstream's sentences; warnings are ours, and may begin with the name of a file. */
    if (level != PARTED_WARNING)
        text[0] = (char)toupper((unsigned char)text[0]);
    if (localtime_r(&now, &tm)) {
        size_t n = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S%z", &tm);
        /* RFC 3339: Z, or a colon in the zone. */
        if (text_ends(stamp, "+0000"))
            snprintf(stamp + n - 5, sizeof(stamp) - n + 5, "Z");
        else if (n >= 5) {
            memmove(stamp + n - 1, stamp + n - 2, 3);
            stamp[n - 2] = ':';
        }
    }
    const char *quoted = is_plain(text) ? text : go_quote(&arena, span_of(text));
    fflush(stdout);
    fprintf(stderr, "time=\"%s\" level=%s msg=%s\n", stamp, names[level], quoted ? quoted : "");
}

/* ---- words ---- */

struct reading_flags {
    struct arena *arena;
    struct parted_flags *ret;
    unsigned command; /* ROOT until it is known */
    bool given[ARRAY_LEN(flags)];
    bool wants_help, wants_version;
};

static void *field(struct reading_flags *r, const struct flag *flag)
{
    return (char *)r->ret + flag->offset;
}

static const struct flag *find_flag(const struct reading_flags *r, struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const struct flag *f = &flags[i];

        if (f->commands && (r->command == ROOT || !(f->commands >> r->command & 1)))
            continue;
        if (span_equal(name, span_of(f->name)) || (name.len == 1 && name.ptr[0] == f->letter))
            return f;
    }
    return NULL;
}

/* What is wrong with a flag is said twice: here with the help, and in the log. */
PRINTF(3, 4)
static int misused(const struct reading_flags *r, struct err *err, const char *format, ...)
{
    char text[600];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fflush(stdout);
    fprintf(stderr, "Incorrect Usage: %s\n\n", text);
    print_help_of(r->command);
    return err_set(err, EINVAL, "%s", text);
}

static int set_flag(struct reading_flags *r, const struct flag *flag, struct span value,
                    struct err *err)
{
    r->given[flag - flags] = true;
    if (flag->is_bool) {
        bool on;

        if (text_to_bool(value, &on) < 0)
            return misused(r, err, "invalid value \"" SPAN_FMT "\" for flag -%s: parse error",
                           SPAN_ARG(value), flag->name);
        *(bool *)field(r, flag) = on;
        return 0;
    }
    char *text = arena_spandup(r->arena, value);
    if (!text)
        return err_no_memory(err);
    *(const char **)field(r, flag) = text;
    return 0;
}

/* `-mf FILE`: all but the last are booleans. 1: it was such a word. */
static int take_combined(struct reading_flags *r, struct span letters, int argc, char **argv,
                         int *at, struct err *err)
{
    for (size_t i = 0; i < letters.len; i++) {
        const struct flag *flag = find_flag(r, (struct span){ letters.ptr + i, 1 });
        bool help = letters.ptr[i] == 'h';

        if (!help && (!flag || (!flag->is_bool && i + 1 < letters.len)))
            return 0;
    }
    for (size_t i = 0; i < letters.len; i++) {
        const struct flag *flag = find_flag(r, (struct span){ letters.ptr + i, 1 });
        struct span value = SPAN("true");

        if (!flag) {
            r->wants_help = true;
            return 1;
        }
        if (!flag->is_bool) {
            if (*at + 1 >= argc)
                return misused(r, err, "flag needs an argument: %c", letters.ptr[i]);
            value = span_of(argv[++*at]);
        }
        int result = set_flag(r, flag, value, err);
        if (result < 0)
            return result;
    }
    return 1;
}

static int take_flag(struct reading_flags *r, int argc, char **argv, int *at, struct err *err)
{
    const char *word = argv[*at];
    struct span name = span_of(word + (word[1] == '-' ? 2 : 1));
    const char *equals = memchr(name.ptr, '=', name.len);
    struct span value = {};

    if (equals) {
        value = span_of(equals + 1);
        name.len = (size_t)(equals - name.ptr);
    }
    if (span_equal(name, SPAN("help")) || span_equal(name, SPAN("h")))
        return r->wants_help = true, 0;
    if (r->command == ROOT && (span_equal(name, SPAN("version")) || span_equal(name, SPAN("v"))))
        return r->wants_version = true, 0;
    const struct flag *flag = find_flag(r, name);
    if (!flag && word[1] != '-' && !equals && name.len > 1) {
        int result = take_combined(r, name, argc, argv, at, err);
        if (result != 0)
            return MIN(result, 0);
    }
    if (!flag)
        return misused(r, err, "flag provided but not defined: -" SPAN_FMT, SPAN_ARG(name));
    if (flag->is_bool && !equals)
        value = SPAN("true");
    else if (!equals && *at + 1 >= argc)
        return misused(r, err, "flag needs an argument: %s", word);
    else if (!equals)
        value = span_of(argv[++*at]);
    return set_flag(r, flag, value, err);
}

static unsigned find_command(const char *word)
{
    for (unsigned i = 0; i < ROOT; i++)
        if (text_equal(commands[i].name, word))
            return i;
    return ROOT;
}

/* 1: answered. Words that are no flags are ignored, but for the command's own. */
static int read_words(struct reading_flags *r, int argc, char **argv, int *ret_status,
                      struct err *err)
{
    const char *unknown = NULL;
    bool help = false, flags_over = false;

    for (int at = 0; at < argc && !r->wants_help && !r->wants_version; at++) {
        const char *word = argv[at];

        if (!flags_over && text_equal(word, "--")) {
            flags_over = true;
        } else if (!flags_over && word[0] == '-' && word[1]) {
            int result = take_flag(r, argc, argv, &at, err);
            if (result < 0)
                return result;
        } else if (text_equal(word, "help") || text_equal(word, "h")) {
            help = true;
        } else if (r->command == ROOT && !unknown && *word) {
            r->command = find_command(word);
            if (r->command == ROOT)
                unknown = word;
        }
    }
    *ret_status = 0;
    if (r->wants_version) {
        puts("nvidia-mig-parted version " TRANCHE_VERSION);
        return 1;
    }
    if (unknown && !r->wants_help) {
        fprintf(stderr, "No help topic for '%s'\n", unknown);
        *ret_status = EXIT_NO_TOPIC;
        return 1;
    }
    if (help || r->wants_help || r->command == ROOT) {
        print_help_of(r->command);
        return 1;
    }
    return 0;
}

/* ---- environment ---- */

static int read_variable(struct reading_flags *r, const struct flag *flag, struct err *err)
{
    const char *value = getenv(flag->variable);
    bool on = false;

    if (!value)
        return 0;
    if (!flag->is_bool) {
        if (*value)
            *(const char **)field(r, flag) = value;
        return 0;
    }
    if (*value && text_to_bool(span_of(value), &on) < 0)
        return err_set(err, EINVAL,
                       "could not parse \"%s\" as bool value from environment variable \"%s\" for "
                       "flag %s: parse error",
                       value, flag->variable, flag->name);
    *(bool *)field(r, flag) = on;
    return 0;
}

static int read_environment(struct reading_flags *r, bool root_only, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        bool mine = root_only ? flags[i].commands == 0
                              : r->command < ROOT && flags[i].commands >> r->command & 1;
        int result = mine && !r->given[i] ? read_variable(r, &flags[i], err) : 0;

        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- what is missing ---- */

static int missing(const struct parted_flags *ret, const char *what, struct err *err)
{
    print_help_of_command(ret->command);
    return err_set(err, EINVAL, "missing required flags '%s'", what);
}

static int check(const struct parted_flags *ret, struct err *err)
{
    enum parted_command c = ret->command;

    if ((c == PARTED_APPLY || c == PARTED_ASSERT) && !*ret->config_file)
        return missing(ret, "config-file", err);
    if ((c == PARTED_CHECKPOINT || c == PARTED_RESTORE) && !*ret->checkpoint_file)
        return missing(ret, "checkpoint-file", err);
    if ((c == PARTED_EXPORT || c == PARTED_GENERATE) && !text_equal(ret->output_format, "json") &&
        !text_equal(ret->output_format, "yaml")) {
        print_help_of_command(c);
        return err_set(err, EINVAL, "unrecognized 'output-format': %s", ret->output_format);
    }
    return 0;
}

int parted_flags_read(int argc, char **argv, struct arena *arena, struct parted_flags *ret,
                      int *ret_status, struct err *err)
{
    struct reading_flags r = { .arena = arena, .ret = ret, .command = ROOT };

    *ret = (struct parted_flags){};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (!flags[i].is_bool)
            *(const char **)field(&r, &flags[i]) = flags[i].initial;
    int result = read_words(&r, argc, argv, ret_status, err);
    if (result != 0)
        return result;
    ret->command = (enum parted_command)r.command;
    result = read_environment(&r, true, err);
    if (result == 0)
        result = read_environment(&r, false, err);
    debug_on = ret->debug;
    return result < 0 ? result : check(ret, err);
}
