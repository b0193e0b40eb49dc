/*
 * `tranche agent`, and the same under the name of NVIDIA's device plugin: reads what is ours to
 * read, shows help, and hands the rest to the agent.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "base/arena.h"
#include "base/log.h"
#include "cli/compat.h"
#include "cli/verbs.h"

enum { EXIT_MISUSED = 2, MAX_ARGUMENTS = 1024 };

/* The options that upstream does not have; under its name they are variables only. */
enum { OWN_ROOT, OWN_CDI_ROOT, OWN_LOG_LEVEL, OWN_LOG_FORMAT, OWN_N };
static const struct {
    const char *flag, *variable, *help;
} own_options[OWN_N] = {
    [OWN_ROOT] = { "root", "TRANCHE_ROOT", "where the node's /sys, /proc and /dev are" },
    [OWN_CDI_ROOT] = { "cdi-root", "TRANCHE_CDI_ROOT",
                       "where CDI specifications are written (default: /var/run/cdi of the root)" },
    [OWN_LOG_LEVEL] = { "log-level", "TRANCHE_LOG_LEVEL", "error, warn, info or debug" },
    [OWN_LOG_FORMAT] = { "log-format", "TRANCHE_LOG_FORMAT", "text or json" },
};

struct command {
    const char *name; /* of the program, for its help */
    const char *own[OWN_N];
    int argc; /* what is left: upstream's flags */
    const char *argv[MAX_ARGUMENTS];
    struct agent_options options;
};

/* ---- our own options ---- */

/* `--root=DIR` and `--root DIR`, with one dash or two: 1 when *arg was one and *ret is its value,
 * which may have been the next argument. */
static int match_own(const char *flag, int argc, char **argv, int *at, const char **ret,
                     struct err *err)
{
    const char *arg = argv[*at] + strspn(argv[*at], "-");
    size_t n_dashes = (size_t)(arg - argv[*at]), len = strlen(flag);

    if (n_dashes < 1 || n_dashes > 2 || strncmp(arg, flag, len) != 0)
        return 0;
    if (arg[len] == '=') {
        *ret = arg + len + 1;
        return 1;
    }
    if (arg[len])
        return 0;
    if (*at + 1 >= argc)
        return err_set(err, EINVAL, "flag needs an argument: -%s", flag);
    *ret = argv[++*at];
    return 1;
}

static int take_one(struct command *command, int argc, char **argv, int *at, struct err *err)
{
    for (size_t i = 0; i < OWN_N; i++) {
        int r = match_own(own_options[i].flag, argc, argv, at, &command->own[i], err);

        if (r != 0)
            return r;
    }
    if (command->argc == MAX_ARGUMENTS)
        return err_set(err, E2BIG, "more than %d arguments", MAX_ARGUMENTS);
    command->argv[command->argc++] = argv[*at];
    return 0;
}

/* Takes our options out of the arguments. */
static int take_flags(struct command *command, int argc, char **argv, struct err *err)
{
    for (int at = 1; at < argc; at++) {
        int r = take_one(command, argc, argv, &at, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int keep_flags(struct command *command, int argc, char **argv, struct err *err)
{
    if (argc - 1 > MAX_ARGUMENTS)
        return err_set(err, E2BIG, "more than %d arguments", MAX_ARGUMENTS);
    for (int i = 1; i < argc; i++)
        command->argv[command->argc++] = argv[i];
    return 0;
}

static int set_up_log(const struct command *command, struct err *err)
{
    const char *level = command->own[OWN_LOG_LEVEL], *format = command->own[OWN_LOG_FORMAT];
    enum log_level parsed = LOG_INFO;

    if (level && level[0] && log_level_from_name(level, &parsed) < 0)
        return err_set(err, EINVAL, "log level \"%s\" is none of error, warn, info, debug", level);
    if (format && format[0] && !text_equal(format, "text") && !text_equal(format, "json"))
        return err_set(err, EINVAL, "log format \"%s\" is neither text nor json", format);
    log_set_level(parsed);
    log_set_format(format && text_equal(format, "json") ? LOG_JSON : LOG_TEXT);
    return 0;
}

/* ---- running ---- */

static void print_own_help(void)
{
    for (size_t i = 0; i < OWN_N; i++)
        printf("   --%s value\n        %s [$%s]\n", own_options[i].flag, own_options[i].help,
               own_options[i].variable);
    fflush(stdout);
}

static int run(struct command *command, bool with_own)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    enum config_request request = CONFIG_RUN;
    const char *file;
    struct err err = {};
    int r = config_options(&command->options.input, &arena, &file, &request, &err);

    if (r < 0)
        compat_print_usage(PROGRAM_PLUGIN, command->name, err.text);
    else if (request != CONFIG_RUN)
        compat_answer(PROGRAM_PLUGIN, command->name, request);
    if (with_own && (r < 0 || request == CONFIG_SHOW_HELP))
        print_own_help();
    arena_done(&arena);
    if (r == 0 && request == CONFIG_RUN)
        r = agent_run(&command->options, &err);
    if (r < 0)
        log_event(LOG_ERROR, err.text, NULL, 0);
    return r < 0 ? 1 : 0;
}

static int prepare(struct command *command, struct err *err)
{
    for (size_t i = 0; i < OWN_N; i++)
        if (!command->own[i])
            command->own[i] = getenv(own_options[i].variable);

    const char *cdi_root = command->own[OWN_CDI_ROOT];
    const char *root = command->own[OWN_ROOT], *mps_root = getenv("TRANCHE_MPS_ROOT");
    command->options = (struct agent_options){
        .input = { .program = PROGRAM_PLUGIN,
                   .argc = command->argc,
                   .argv = command->argv,
                   .environ = (const char *const *)environ },
        .root = root && root[0] ? root : NULL,
        .mps_root = mps_root && mps_root[0] ? mps_root : AGENT_MPS_ROOT,
        .cdi_dir = cdi_root && cdi_root[0] ? cdi_root : NULL,
        .notify_socket = getenv("NOTIFY_SOCKET"),
    };
    return set_up_log(command, err);
}

int verb_agent(int argc, char **argv)
{
    struct command command = { .name = "tranche agent" };
    struct err err = {};

    if (take_flags(&command, argc, argv, &err) < 0 || prepare(&command, &err) < 0) {
        fprintf(stderr, "tranche agent: %s\n", err.text);
        return EXIT_MISUSED;
    }
    return run(&command, true);
}

int compat_device_plugin(int argc, char **argv)
{
    struct command command = { .name = "nvidia-device-plugin" };
    struct err err = {};

    if (keep_flags(&command, argc, argv, &err) < 0 || prepare(&command, &err) < 0) {
        log_event(LOG_ERROR, err.text, NULL, 0);
        return 1;
    }
    return run(&command, false);
}
