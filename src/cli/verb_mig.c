/*
 * tranche mig: divide the GPUs of this node, without Kubernetes.
 */
#include "cli/verb_mig.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "cli/verbs.h"

enum {
    OPT_DEVICES = 256,
    OPT_GPU,
    OPT_DRY_RUN,
    OPT_PODS,
    OPT_ROOT,
    OPT_DEFAULT,
};

static const struct option long_options[] = {
    { "file", required_argument, NULL, 'f' },
    { "config", required_argument, NULL, 'c' },
    { "devices", required_argument, NULL, OPT_DEVICES },
    { "gpu", required_argument, NULL, OPT_GPU },
    { "hooks", required_argument, NULL, 'k' },
    { "dry-run", no_argument, NULL, OPT_DRY_RUN },
    { "take-from-pods", no_argument, NULL, OPT_PODS },
    { "mode-only", no_argument, NULL, 'm' },
    { "skip-reset", no_argument, NULL, 's' },
    { "output", required_argument, NULL, 'o' },
    { "label", required_argument, NULL, 'l' },
    { "default", no_argument, NULL, OPT_DEFAULT },
    { "root", required_argument, NULL, OPT_ROOT },
    { "help", no_argument, NULL, 'h' },
    {},
};

#define HELP_SELECTION                                                                             \
    "  CONFIG               a configuration by name. Without -f it is one that this\n"             \
    "                       node's own profiles make up: all-1g.10gb, all-balanced,\n"             \
    "                       all-disabled, ... (`generate-config` prints them)\n"                   \
    "  -f, --file FILE      a mig-configs file; - is standard input\n"                             \
    "  -c, --config CONFIG  the same as the bare word\n"                                           \
    "      --devices LIST   MIG devices instead: 1g.10gb=2,3g.40gb\n"                              \
    "      --gpu LIST       only these GPUs, by index, UUID or PCI address\n"                      \
    "  -m, --mode-only      only MIG mode, not what is in it\n"

#define HELP_CHANGE                                                                                \
    "      --take-from-pods instances that pods hold may go, and so they may when the\n"           \
    "                       kubelet does not say who holds what. One that a running\n"             \
    "                       process uses never goes\n"

#define HELP_ACT                                                                                   \
    "  -k, --hooks FILE     commands to run before and after, as NVIDIA's hooks file\n"            \
    "                       has them\n"                                                            \
    "  -s, --skip-reset     leave a change of mode that needs a reset pending\n"                   \
    "      --dry-run        only say what would happen, as `plan` does\n"

#define HELP_ROOT                                                                                  \
    "      --root DIR       a directory that holds the node's /proc and /var, and its\n"           \
    "                       driver  (default /, or the simulated node of\n"                        \
    "                       $TRANCHE_SIM)\n"

#define HELP_OUTPUT(formats) "  -o, --output FORMAT  " formats "  (default text)\n"

static const struct command {
    const char *name, *usage, *sentence;
    mig_command *run;
    const char *options; /* which of the long options it has, by name */
    bool word;           /* takes one */
    bool without_site;   /* opens it by itself, or needs none */
    const char *help;
} commands[] = {
    { "list", "list [--gpu LIST] [-o FORMAT]", "what the GPUs are divided into, and who holds it",
      mig_list, " gpu output root ", false, false,
      "      --gpu LIST       only these GPUs, by index, UUID or PCI address\n" HELP_OUTPUT(
          "text, wide, json or yaml") HELP_ROOT "\n"
                                                "Exit status: 0 done, 1 failed, 2 misused.\n"
                                                "\n"
                                                "Examples:\n"
                                                "  tranche mig list\n"
                                                "  tranche mig list --gpu 0,3 -o json\n" },
    { "plan", "plan CONFIG|-f FILE|--devices LIST [OPTION...]", "what `apply` would do", mig_change,
      " file config devices gpu mode-only take-from-pods output root ", true, false,
      "Says which instances stay, go and come, and who would lose one. Of all layouts\n"
      "that have what is wanted it takes the one that keeps most of what is there.\n"
      "Touches nothing.\n"
      "\n" HELP_SELECTION HELP_CHANGE HELP_OUTPUT("text, wide, json or yaml") HELP_ROOT
      "\n"
      "Exit status: 0 nothing to do, 3 something to do, 1 it cannot be done or failed,\n"
      "2 misused.\n"
      "\n"
      "Examples:\n"
      "  tranche mig plan all-balanced\n"
      "  tranche mig plan --devices 1g.10gb=2,3g.40gb --gpu 0\n" },
    { "apply", "apply CONFIG|-f FILE|--devices LIST [OPTION...]",
      "divide the GPUs that way, and touch nothing else", mig_change,
      " file config devices gpu mode-only take-from-pods hooks skip-reset dry-run output root ",
      true, false,
      "All of it or nothing: what cannot be done is refused before anything is touched,\n"
      "and what fails on the way is taken back. A change that was interrupted is\n"
      "finished first. The layout that comes of it is noted for `restore`.\n"
      "\n" HELP_SELECTION HELP_CHANGE HELP_ACT HELP_OUTPUT("text, json or yaml") HELP_ROOT
      "\n"
      "Exit status: 0 done, or nothing to do; 1 refused or failed; 2 misused; with\n"
      "--dry-run those of `plan`.\n"
      "\n"
      "Examples:\n"
      "  tranche mig apply all-1g.10gb\n"
      "  tranche mig apply -f config.yaml -c training --gpu 4,5,6,7\n" },
    { "assert", "assert CONFIG|-f FILE|--devices LIST [OPTION...]",
      "are the GPUs divided that way?", mig_assert, " file config devices gpu mode-only root ",
      true, false,
      HELP_SELECTION HELP_ROOT
      "\n"
      "Exit status: 0 yes, 1 no, or it cannot be told; 2 misused.\n"
      "\n"
      "Examples:\n"
      "  tranche mig assert all-1g.10gb || tranche mig apply all-1g.10gb\n" },
    { "export", "export [-f FILE] [-l NAME] [-o yaml|json]",
      "what the GPUs are divided into, as a mig-configs file", mig_export,
      " file label output root ", false, false,
      "  -f, --file FILE      where to write it  (default standard output)\n"
      "  -l, --label NAME     the configuration's name  (default current)\n"
      "  -o, --output FORMAT  yaml or json  (default yaml)\n" HELP_ROOT "\n"
      "Exit status: 0 done, 1 failed, 2 misused.\n"
      "\n"
      "Examples:\n"
      "  tranche mig export -l training > config.yaml\n" },
    { "checkpoint", "checkpoint [FILE]", "note the layout with all places, for `restore`",
      mig_checkpoint, " file root ", true, false,
      "  FILE, -f FILE        where; - is standard output  (default\n"
      "                       " MIG_STATE_DIR "/" MIG_LAST_CHECKPOINT ")\n" HELP_ROOT "\n"
      "Exit status: 0 done, 1 failed, 2 misused.\n"
      "\n"
      "Examples:\n"
      "  tranche mig checkpoint before-the-upgrade.json\n" },
    { "restore", "restore [FILE] [OPTION...]", "divide the GPUs as they were noted", mig_change,
      " file gpu mode-only take-from-pods hooks skip-reset dry-run output root ", true, false,
      "From Hopper on a GPU forgets its MIG mode and instances with each reboot.\n"
      "Without FILE what the last `apply` or `checkpoint` noted is brought back. GPUs\n"
      "that the file does not name are left as they are.\n"
      "\n"
      "  FILE, -f FILE        what `checkpoint` wrote; - is standard input  (default\n"
      "                       " MIG_STATE_DIR "/" MIG_LAST_CHECKPOINT ")\n"
      "      --gpu LIST       only these GPUs, by index, UUID or PCI address\n"
      "  -m, --mode-only      only MIG mode, not what is in it\n" HELP_CHANGE HELP_ACT HELP_OUTPUT(
          "text, json or yaml") HELP_ROOT
      "\n"
      "Exit status: as `apply`.\n"
      "\n"
      "Examples:\n"
      "  tranche mig restore\n"
      "  tranche mig restore before-the-upgrade.json --dry-run\n" },
    { "recover", "recover", "finish or take back a change that was interrupted", mig_recover_left,
      " root ", false, false,
      "`apply` and `restore` do so by themselves.\n"
      "\n" HELP_ROOT "\n"
      "Exit status: 0 done, or nothing to do; 1 failed; 2 misused.\n"
      "\n"
      "Examples:\n"
      "  tranche mig recover\n" },
    { "generate-config", "generate-config [--default] [-f FILE] [-o yaml|json]",
      "the configurations that this node's profiles make up", mig_generate,
      " file default output root ", false, true,
      "      --default        those of all boards that are known, without asking the\n"
      "                       driver\n"
      "  -f, --file FILE      where to write them  (default standard output)\n"
      "  -o, --output FORMAT  yaml or json  (default yaml)\n" HELP_ROOT "\n"
      "Exit status: 0 done, 1 failed, 2 misused.\n"
      "\n"
      "Examples:\n"
      "  tranche mig generate-config\n"
      "  tranche mig generate-config --default -f config.yaml\n" },
};

/* ---- help ---- */

static int print_help(FILE *to, int status)
{
    fputs("Usage: tranche mig COMMAND [arguments]\n"
          "\n"
          "Divides the GPUs of this node by MIG. Instances that can stay are not touched,\n"
          "and one that somebody uses never goes.\n"
          "\n",
          to);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(to, "  %-16s %s\n", commands[i].name, commands[i].sentence);
    fputs("\n"
          "`tranche mig COMMAND --help` says more.\n"
          "\n"
          "Examples:\n"
          "  tranche mig list\n"
          "  tranche mig plan all-balanced\n"
          "  tranche mig apply --devices 1g.10gb=2,3g.40gb --gpu 0\n",
          to);
    return status;
}

static int print_command_help(const struct command *command)
{
    printf("Usage: tranche mig %s\n\n%s", command->usage, command->help);
    return 0;
}

/* ---- words ---- */

static const struct command *find_command(const char *name, struct err *err)
{
    const char *names[ARRAY_LEN(commands)];

    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        names[i] = commands[i].name;
        if (text_equal(name, names[i]))
            return &commands[i];
    }
    const char *nearest = text_nearest(name, names, ARRAY_LEN(names));
    if (nearest)
        err_set(err, EINVAL, "there is no command \"%s\"; did you mean \"%s\"?", name, nearest);
    else
        err_set(err, EINVAL, "there is no command \"%s\"; `tranche mig --help` has them all", name);
    return NULL;
}

static bool has_option(const struct command *command, int value)
{
    char word[32] = "";

    for (size_t i = 0; long_options[i].name; i++)
        if (long_options[i].val == value)
            snprintf(word, sizeof(word), " %s ", long_options[i].name);
    return strstr(command->options, word) != NULL;
}

static int read_format(const char *word, struct mig_request *request, struct err *err)
{
    request->wide = text_equal(word, "wide");
    return request->wide ? 0 : output_format_parse(word, &request->format, err);
}

static int take_option(int option, struct mig_request *request, struct err *err)
{
    switch (option) {
    case 'f':
        request->file = optarg;
        break;
    case 'c':
        request->config = optarg;
        break;
    case OPT_DEVICES:
        request->devices = optarg;
        break;
    case OPT_GPU:
        request->gpus = optarg;
        break;
    case 'k':
        request->hooks = optarg;
        break;
    case OPT_DRY_RUN:
        request->dry_run = true;
        break;
    case OPT_PODS:
        request->take_from_pods = true;
        break;
    case 'm':
        request->mode_only = true;
        break;
    case 's':
        request->skip_reset = true;
        break;
    case 'o':
        return read_format(optarg, request, err);
    case 'l':
        request->label = optarg;
        break;
    case OPT_DEFAULT:
        request->defaults = true;
        break;
    case OPT_ROOT:
        request->root = optarg;
        break;
    default:
        break;
    }
    return 0;
}

/* What cannot stand together. */
static int check_request(const struct command *command, const struct mig_request *request,
                         struct err *err)
{
    bool selects = has_option(command, 'c');
    int named = (request->name != NULL) + (request->config != NULL);

    if (named > 1 && selects)
        return err_set(err, EINVAL, "two configurations: %s and %s", request->name,
                       request->config);
    if (request->devices && (named > 0 || request->file))
        return err_set(err, EINVAL,
                       "--devices says all there is to say: no file and no "
                       "configuration beside it");
    if (request->devices && request->mode_only)
        return err_set(err, EINVAL, "--devices with --mode-only asks for nothing");
    if (selects && named == 0 && !request->devices && !request->file)
        return err_set(err, EINVAL,
                       "say what is wanted: a configuration by name, such as all-balanced, "
                       "--devices or -f");
    if (!selects && request->name && request->file)
        return err_set(err, EINVAL, "two files: %s and %s", request->name, request->file);
    if (request->wide && !request->dry_run && !text_equal(command->name, "plan") &&
        !text_equal(command->name, "list"))
        return err_set(err, EINVAL, "-o wide is for `list` and `plan`");
    if (request->skip_reset && !request->mode_only)
        return err_set(err, EINVAL,
                       "--skip-reset goes with --mode-only: what is made needs the "
                       "mode to be on");
    return request->devices ? mig_check_devices(request->devices, err) : 0;
}

/* 1: help was asked for. */
static int read_request(const struct command *command, int argc, char **argv,
                        struct mig_request *request, struct err *err)
{
    int option, r = 0;

    request->command = command->name;
    opterr = 0;
    optind = 1;
    while (r == 0 &&
           (option = getopt_long(argc, argv, ":f:c:k:mso:l:h", long_options, NULL)) != -1) {
        const char *word = argv[optind - 1 - (optarg == argv[optind - 1])]; /* not its value */

        if (option == 'h')
            return 1;
        if (option == ':')
            return err_set(err, EINVAL, "%s wants a value", word);
        if (option == '?' || !has_option(command, option))
            return err_set(err, EINVAL,
                           "there is no such option here: %s; `tranche mig %s --help` "
                           "has them all",
                           word, command->name);
        r = take_option(option, request, err);
    }
    if (r == 0 && optind < argc && command->word)
        request->name = argv[optind++];
    if (r == 0 && optind < argc)
        r = err_set(err, EINVAL, "\"%s\" is one word too many", argv[optind]);
    return r < 0 ? r : check_request(command, request, err);
}

/* ---- the verb ---- */

static int fail(const struct command *command, int status, const struct err *err)
{
    fflush(stdout);
    fprintf(stderr, "tranche mig%s%s: %s\n", command ? " " : "", command ? command->name : "",
            err->text);
    return status;
}

static int run(const struct command *command, const struct mig_request *request)
{
    auto_(mig_site_done) struct mig_site site = MIG_SITE_INIT;
    struct err err = {};

    int r = command->without_site ? 0 : mig_site_open(&site, request->root, &err);
    if (r == 0)
        r = command->run(&site, request, &err);
    if ((r == -EPERM || r == -EACCES) && geteuid() != 0)
        fprintf(stderr, "tranche mig %s: it takes root to do this\n", command->name);
    return r < 0 ? fail(command, MIG_EXIT_FAILED, &err) : r;
}

int verb_mig(int argc, char **argv)
{
    const struct command *command;
    struct mig_request request = {};
    struct err err = {};

    if (argc < 2)
        return print_help(stderr, MIG_EXIT_MISUSED);
    if (text_equal(argv[1], "--help") || text_equal(argv[1], "-h") || text_equal(argv[1], "help"))
        return print_help(stdout, 0);
    command = find_command(argv[1], &err);
    if (!command)
        return fail(NULL, MIG_EXIT_MISUSED, &err);
    int r = read_request(command, argc - 1, argv + 1, &request, &err);
    if (r == 1)
        return print_command_help(command);
    if (r < 0)
        return fail(command, MIG_EXIT_MISUSED, &err);
    return run(command, &request);
}
