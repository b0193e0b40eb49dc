#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/try.h"
#include "cli/verbs.h"

enum { EXIT_RUNS = 0, EXIT_REFUSED = 1, EXIT_BAD_INPUT = 2, ARENA_BYTES = 256 << 20 };

static const char help[] =
    "Usage: tranche try [--gpus SPEC] [--mig CONFIG] [-f FILE]... [options]\n"
    "\n"
    "Puts a node together in a private directory: simulated GPUs, a stand-in kubelet\n"
    "and the real agent. Applies the objects in FILE as a cluster would, runs the\n"
    "pods, and prints what came of it. Needs no GPU, no cluster and no root, and\n"
    "leaves nothing behind.\n"
    "\n"
    "  --gpus SPEC           the node's GPUs, [Nx]MODEL[,...]: 8xh100-80gb, t4,\n"
    "                        4xa100-40gb,2xl40s  (default h100-80gb)\n"
    "  --nvlink HOW          none, pairs, mesh, switch, or pairs by index: 0-2,1-3\n"
    "  --mig CONFIG          a MIG configuration by name: all-1g.10gb, all-balanced,\n"
    "                        or one from a ConfigMap in FILE (the label\n"
    "                        nvidia.com/mig.config does the same)\n"
    "  --mig-strategy WHICH  none, single or mixed, instead of the ClusterPolicy's\n"
    "  --label KEY=VALUE     a label of the node; may be given again\n"
    "  --taint KEY[=VALUE]:EFFECT\n"
    "                        a taint of the node; may be given again\n"
    "  -f, --filename FILE   ClusterPolicy, ConfigMap, Pod, Deployment or List;\n"
    "                        - is standard input; may be given again\n"
    "  -o, --output FORMAT   text, json or yaml  (default text)\n"
    "  --serve               stay until Ctrl-C, so that the node can be looked at\n"
    "                        and disturbed\n"
    "  -h, --help\n"
    "\n"
    "Exit status: 0 all pods run, 1 a pod was refused, 2 the input is wrong.\n"
    "\n"
    "Examples:\n"
    "  tranche try --gpus 4xt4 -f time-slicing-config.yaml -f deployment.yaml\n"
    "  tranche try --gpus 8xh100-80gb --mig all-balanced -f pod.yaml -o json\n";

enum { OPT_GPUS = 256, OPT_NVLINK, OPT_MIG, OPT_STRATEGY, OPT_LABEL, OPT_TAINT, OPT_SERVE };

static const struct option long_options[] = {
    { "gpus", required_argument, NULL, OPT_GPUS },
    { "nvlink", required_argument, NULL, OPT_NVLINK },
    { "mig", required_argument, NULL, OPT_MIG },
    { "mig-strategy", required_argument, NULL, OPT_STRATEGY },
    { "label", required_argument, NULL, OPT_LABEL },
    { "taint", required_argument, NULL, OPT_TAINT },
    { "filename", required_argument, NULL, 'f' },
    { "output", required_argument, NULL, 'o' },
    { "serve", no_argument, NULL, OPT_SERVE },
    { "help", no_argument, NULL, 'h' },
    {},
};

static int add_label(struct try_options *options, char *text, struct err *err)
{
    char *equals = strchr(text, '=');

    if (!equals || equals == text)
        return err_set(err, EINVAL, "--label %s: want KEY=VALUE", text);
    if (options->n_labels == TRY_MAX_LABELS)
        return err_set(err, EINVAL, "more than %d labels", TRY_MAX_LABELS);
    *equals = '\0';
    if (strlen(equals + 1) > 63)
        return err_set(err, EINVAL, "--label %s: a label's value has at most 63 characters", text);
    options->labels[options->n_labels++] = (struct key_value){ text, equals + 1 };
    return 0;
}

static int add_taint(struct try_options *options, char *text, struct err *err)
{
    static const char *const effects[] = { "NoSchedule", "PreferNoSchedule", "NoExecute" };
    char *colon = strrchr(text, ':'), *equals;
    bool known = false;

    for (size_t i = 0; colon && i < ARRAY_LEN(effects); i++)
        known = known || text_equal(colon + 1, effects[i]);
    if (!known)
        return err_set(
            err, EINVAL,
            "--taint %s: want KEY[=VALUE]:EFFECT with NoSchedule, PreferNoSchedule or NoExecute",
            text);
    if (options->n_taints == TRY_MAX_TAINTS)
        return err_set(err, EINVAL, "more than %d taints", TRY_MAX_TAINTS);
    *colon = '\0';
    equals = strchr(text, '=');
    if (equals)
        *equals = '\0';
    options->taints[options->n_taints++] =
        (struct taint){ text, equals ? equals + 1 : "", colon + 1 };
    return 0;
}

static int set_strategy(struct try_options *options, const char *text, struct err *err)
{
    if (!text_equal(text, "none") && !text_equal(text, "single") && !text_equal(text, "mixed"))
        return err_set(err, EINVAL, "--mig-strategy %s: want none, single or mixed", text);
    options->mig_strategy = text;
    return 0;
}

/* 1: help was asked for. */
static int parse_options(int argc, char **argv, struct try_options *options, struct err *err)
{
    const char *gpus = "h100-80gb";
    int r = 0, option;

    opterr = 0;
    optind = 1;
    while (r == 0 && (option = getopt_long(argc, argv, ":f:o:h", long_options, NULL)) != -1) {
        switch (option) {
        case OPT_GPUS:
            gpus = optarg;
            break;
        case OPT_NVLINK:
            options->machine.nvlink = optarg;
            break;
        case OPT_MIG:
            options->mig = optarg;
            break;
        case OPT_STRATEGY:
            r = set_strategy(options, optarg, err);
            break;
        case OPT_LABEL:
            r = add_label(options, optarg, err);
            break;
        case OPT_TAINT:
            r = add_taint(options, optarg, err);
            break;
        case 'f':
            if (options->n_files == TRY_MAX_FILES)
                return err_set(err, EINVAL, "more than %d files", TRY_MAX_FILES);
            if (!*optarg)
                return err_set(err, EINVAL, "-f wants the name of a file, or - for standard input");
            options->files[options->n_files++] = optarg;
            break;
        case 'o':
            r = output_format_parse(optarg, &options->format, err);
            break;
        case OPT_SERVE:
            options->serve = true;
            break;
        case 'h':
            return 1;
        case ':':
            return err_set(err, EINVAL, "%s wants a value", argv[optind - 1]);
        default:
            return err_set(err, EINVAL, "unknown option %s; tranche try --help lists them all",
                           argv[optind - 1]);
        }
    }
    if (r == 0 && optind < argc)
        r = err_set(err, EINVAL, "unexpected word %s; files are given with -f", argv[optind]);
    if (r == 0)
        r = sim_spec_parse(gpus, &options->gpus, err);
    return r;
}

static int read_file(const char *path, struct arena *arena, struct span *ret, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(OBJECTS_MAX_FILE_BYTES);
    int r;

    if (!text_equal(path, "-"))
        return file_read(AT_FDCWD, path, OBJECTS_MAX_FILE_BYTES, arena, ret, err);
    r = buf_read_all(&text, STDIN_FILENO, err);
    if (r < 0)
        return err_wrap(err, r, "standard input");
    ret->ptr = arena_spandup(arena, buf_span(&text));
    ret->len = text.len;
    return ret->ptr ? 0 : err_no_memory(err);
}

static int read_objects(const struct try_options *options, struct objects *objects, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < options->n_files; i++) {
        struct span text;

        r = read_file(options->files[i], objects->arena, &text, err);
        if (r == 0)
            r = objects_read(objects, text,
                             text_equal(options->files[i], "-") ? "<stdin>" : options->files[i],
                             err);
    }
    return r;
}

/* With what the agent was told, so that `tranche get` tells the same. */
static void say_how_to_reach(const struct try_node *node, const struct try_plan *plan)
{
    fprintf(stderr,
            "Serving until Ctrl-C. In another terminal:\n  export TRANCHE_SIM=%s/sim\n"
            "  tranche sim xid 0 79; tranche get devices",
            node->dir);
    if (plan->mig_strategy)
        fprintf(stderr, " --mig-strategy %s", plan->mig_strategy);
    if (plan->config_text)
        fprintf(stderr, " --config-file %s/config.yaml", node->dir);
    fputc('\n', stderr);
}

static int run(struct try_node *node, const struct try_options *options,
               const struct objects *objects, const struct try_plan *plan, struct err *err)
{
    struct try_pod *pods = arena_new_array(node->arena, struct try_pod, MAX(objects->n_pods, 1));
    int r = pods ? try_node_start(node, options, plan, err) : err_no_memory(err);

    for (size_t i = 0; r == 0 && i < objects->n_pods; i++)
        pods[i].object = &objects->pods[i];
    if (r == 0)
        r = try_node_run_pods(node, options, pods, objects->n_pods, err);
    struct try_report report = { options, objects, plan, node, pods, objects->n_pods };
    if (r == 0)
        r = try_report_print(&report, err);
    if (r < 0)
        return r;
    fflush(stdout);
    if (options->serve) {
        r = try_pods_serve(node, pods, objects->n_pods, err);
        if (r < 0)
            return r;
        say_how_to_reach(node, plan);
        r = try_node_serve(node, err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < objects->n_pods; i++)
        if (pods[i].phase != TRY_RUNNING)
            return EXIT_REFUSED;
    return EXIT_RUNS;
}

int verb_try(int argc, char **argv)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(ARENA_BYTES);
    struct try_options options = {};
    struct objects objects = { .arena = &arena };
    struct try_node node = {};
    struct try_plan plan;
    struct err err = {};
    int r = parse_options(argc, argv, &options, &err);

    /* A reader that goes away (`| head`) must not leave the node behind. */
    signal(SIGPIPE, SIG_IGN);
    if (r == 1) {
        fputs(help, stdout);
        return 0;
    }
    if (r == 0)
        r = read_objects(&options, &objects, &err);
    if (r == 0)
        r = try_node_create(&node, &options, &arena, &err);
    if (r == 0)
        r = try_plan_make(&options, &objects, node.built, &arena, &plan, &err);
    if (r == 0)
        r = run(&node, &options, &objects, &plan, &err);
    try_node_stop(&node);
    if (r >= 0)
        return r;
    if (r == -EINTR)
        return 130;
    fprintf(stderr, "tranche try: %s\n", err.text);
    return EXIT_BAD_INPUT;
}
