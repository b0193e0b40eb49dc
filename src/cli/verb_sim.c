#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/output.h"
#include "cli/selfpath.h"
#include "cli/table.h"
#include "cli/verb_sim.h"
#include "sim/gpu/control.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/root.h"
#include "sim/gpu/run.h"

int verb_sim(int argc, char **argv);

enum { EXIT_FAILED = 1, EXIT_MISUSED = 2 };

/* --- commands on a node ---------------------------------------------------------------------- */

static int act_show(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS], *word = NULL;
    const struct sim_option options[] = { { "-o", &word, NULL }, { "--output", &word, NULL } };
    auto_free struct sim_state *copy = malloc(sizeof(*copy));
    enum output_format format = OUTPUT_TEXT;
    size_t n = 0;

    if (!copy)
        return err_no_memory(err);
    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 0, 0, "show [-o text|json|yaml]", err);
    if (r >= 0 && word)
        r = output_format_parse(word, &format, err);
    if (r < 0)
        return r;
    sim_state_lock(node->state);
    memcpy(copy, node->state, sizeof(*copy));
    sim_state_unlock(node->state);
    if (format == OUTPUT_TEXT)
        return sim_show_text(copy, node->dir, text_equal(argv[0], "show"), stdout, err);

    auto_(json_decrefp) json_t *json = sim_show_json(copy, node->dir);
    return json ? output_print(stdout, format, json, err) : err_no_memory(err);
}

static int act_play(struct sim_node *node, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    size_t n = 0;

    int r = sim_words(argc, argv, NULL, 0, words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 1, 1, "play FILE", err);
    return r < 0 ? r : sim_play(node, words[0], err);
}

/* "list" and "show" read, the others change. */
static const struct sim_command commands[] = {
    { "list", "list [-o text|json|yaml]", "the GPUs of the node",
      "Examples:\n"
      "  tranche sim list\n"
      "  tranche sim list -o json\n",
      act_show, false },
    { "show", "show [-o text|json|yaml]", "GPUs, MIG devices, processes and faults",
      "Examples:\n"
      "  tranche sim show\n"
      "  tranche sim show -o yaml\n",
      act_show, false },
    { "set", "set GPU|all|node KEY=VALUE…", "turn a knob of a GPU or of the node",
      NULL, /* the keys: printed from their table */
      sim_act_set, true },
    { "xid", "xid GPU XID [--gi N [--ci N]]", "raise an Xid event",
      "79 takes the GPU off the bus; 48, 92, 94 and 95 count memory errors, 63 and 64\n"
      "remap rows.\n"
      "GPU may also be the UUID of a MIG device.\n\n"
      "Examples:\n"
      "  tranche sim xid 3 79\n"
      "  tranche sim xid 0 94 --gi 9 --ci 0\n",
      sim_act_xid, true },
    { "process", "process add|remove|list …", "run, end and list processes",
      "  tranche sim " SIM_PROCESS_ADD "\n"
      "  tranche sim process remove PID [--gpu GPU]\n"
      "  tranche sim " SIM_PROCESS_LIST "\n\n"
      "GPU may also be the UUID of a MIG device. Adding a process that is there changes\n"
      "it.\n\n"
      "Examples:\n"
      "  tranche sim process add 0 --pid 4242 --memory 10Gi --sm 80 --name python3\n"
      "  tranche sim process add 1 --gi 9 --memory 2Gi\n"
      "  tranche sim process remove 4242\n",
      sim_act_process, true },
    { "fault", "fault add|clear|list …", "make NVML calls fail or hang",
      "  tranche sim " SIM_FAULT_ADD "\n"
      "  tranche sim fault clear\n"
      "  tranche sim " SIM_FAULT_LIST "\n\n"
      "CALL is an entry point of NVML; a * in it stands for any characters. Without\n"
      "--times the fault stays until it is cleared; --after lets so many calls through\n"
      "first. Without --code a call answers UNKNOWN, or, when it only hangs, goes on\n"
      "after its time.\n\n"
      "Examples:\n"
      "  tranche sim fault add nvmlInit_v2 --code DRIVER_NOT_LOADED --times 3\n"
      "  tranche sim fault add 'nvmlDeviceGetMemoryInfo*' --gpu 2 --hang forever\n"
      "  tranche sim fault add nvmlDeviceCreateGpuInstance --after 4 --code "
      "INSUFFICIENT_RESOURCES\n",
      sim_act_fault, true },
    { "lose", "lose GPU|all", "take a GPU off the bus (Xid 79)",
      "Examples:\n"
      "  tranche sim lose 3\n",
      sim_act_lose, true },
    { "return", "return GPU|all", "bring a lost or hung GPU back",
      "Examples:\n"
      "  tranche sim return 3\n",
      sim_act_return, true },
    { "mig", "mig GPU|all PROFILE[:COUNT],…|on|off", "partition a GPU at once",
      "Sets MIG mode without a reset, replaces all instances and fills them with compute\n"
      "instances. `on` makes no instances, `off` leaves none.\n\n"
      "Examples:\n"
      "  tranche sim mig all 1g.10gb:7\n"
      "  tranche sim mig 0 1g.10gb:2,2g.20gb,3g.40gb\n"
      "  tranche sim mig 0 off\n",
      sim_act_mig, true },
    { "reset", "reset GPU|all", "reset an idle GPU",
      "Examples:\n"
      "  tranche sim reset 0\n",
      sim_act_reset, true },
    { "reboot", "reboot", "reboot the node",
      "MIG mode stays where the board keeps it (Ampere).\n\n"
      "Examples:\n"
      "  tranche sim reboot\n",
      sim_act_reboot, true },
    { "play", "play FILE", "take the steps of a scenario",
      "A scenario is a YAML list. Each step has one command as its key and the command's words as\n"
      "its value; `after` waits before the step.\n\n"
      "  - set: 0 temperature=85 utilization=100\n"
      "  - after: 500ms\n"
      "    xid: 0 79\n"
      "  - after: 2s\n"
      "    return: 0\n\n"
      "Examples:\n"
      "  tranche sim play lost-gpu.yaml\n",
      act_play, false },
};

const struct sim_command *sim_command_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (text_equal(commands[i].name, name))
            return &commands[i];
    }
    return NULL;
}

/* --- commands that make and end nodes -------------------------------------------------------- */

static int make_node(const char *dir, const struct sim_state *content, struct err *err)
{
    char library[PATH_MAX];

    int r = sim_library_path(library, sizeof(library), err);
    if (r >= 0)
        r = file_make_dirs(dir, 0755, err);
    if (r >= 0)
        r = sim_root_create(dir, content, library, err);
    if (r >= 0)
        r = sim_state_publish(dir, content, err);
    return r;
}

static bool has_node(const char *dir)
{
    char path[PATH_MAX];

    return snprintf(path, sizeof(path), "%s/state", dir) < (int)sizeof(path) && file_exists(path);
}

static int create(const char *dir, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS], *gpus = NULL, *seed = NULL;
    auto_free struct sim_state *content = malloc(sizeof(*content));
    struct sim_machine_options machine = {};
    struct sim_spec spec;
    uint32_t seed_number = 0;
    bool force = false;
    size_t n = 0;
    const struct sim_option options[] = {
        { "--gpus", &gpus, NULL },         { "--nvlink", &machine.nvlink, NULL },
        { "--numa", &machine.numa, NULL }, { "--driver", &machine.driver, NULL },
        { "--cuda", &machine.cuda, NULL }, { "--machine", &machine.machine, NULL },
        { "--seed", &seed, NULL },         { "--force", NULL, &force },
    };

    if (!content)
        return err_no_memory(err);
    int r = sim_words(argc, argv, options, ARRAY_LEN(options), words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 0, 0, "create --gpus SPEC", err);
    if (r >= 0 && !gpus)
        r = err_set(err, EINVAL, "--gpus is missing: write for example --gpus 8xh100-80gb");
    if (r >= 0)
        r = sim_word_u32("--seed", seed, &seed_number, err);
    if (r >= 0)
        r = sim_spec_parse(gpus, &spec, err);
    machine.seed = seed_number;
    if (r >= 0)
        r = sim_machine_build(&spec, &machine, content, err);
    if (r >= 0 && !force && has_node(dir))
        r = err_set(err, EEXIST, "%s already holds a simulated node; --force replaces it", dir);
    if (r >= 0)
        r = make_node(dir, content, err);
    if (r < 0)
        return r;
    printf("%s: %u GPU%s, driver %s\n", dir, content->n_gpus, content->n_gpus == 1 ? "" : "s",
           content->driver_version);
    if (!getenv("TRANCHE_SIM"))
        printf("Programs find it with: export TRANCHE_SIM=%s LD_LIBRARY_PATH=%s/root/%s\n", dir,
               dir, SIM_ROOT_LIBRARIES);
    return 0;
}

/* Only what `create` made is removed, and the directory itself if nothing else is in it. */
static int destroy(const char *dir, int argc, char **argv, struct err *err)
{
    const char *words[SIM_MAX_WORDS];
    char path[PATH_MAX];
    size_t n = 0;

    int r = sim_words(argc, argv, NULL, 0, words, &n, err);
    if (r >= 0)
        r = sim_words_expect(n, 0, 0, "destroy", err);
    if (r < 0)
        return r;
    if (!has_node(dir))
        return err_set(err, ENOENT, "%s holds no simulated node", dir);
    sim_state_retire(dir);
    snprintf(path, sizeof(path), "%s/root", dir);
    r = file_remove_tree(path, err);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/state", dir);
    if (unlink(path) < 0)
        return err_set(err, errno, "%s: cannot remove it: %s", path, strerror(errno));
    (void)rmdir(dir);
    return 0;
}

/* Returns the command's exit status; nothing of ours stands between it and the caller. */
static int run(const char *dir, int argc, char **argv, struct err *err)
{
    int first = argc > 1 && text_equal(argv[1], "--") ? 2 : 1;

    if (argc <= first)
        return err_set(err, EINVAL, "say what to run: tranche sim run -- COMMAND…");
    return sim_run(dir, &argv[first], err);
}

static const struct node_command {
    const char *name, *usage, *summary, *help;
    int (*act)(const char *dir, int argc, char **argv, struct err *err);
} node_commands[] = {
    { "create", "create --gpus SPEC [OPTION…]", "make a node of simulated GPUs",
      "  --gpus SPEC       COUNTxMODEL,…: 8xh100-80gb, 4xt4,2xa100-80gb; up to 16 GPUs\n"
      "  --nvlink HOW      none, pairs, mesh, switch, or pairs such as 0-2,1-3;\n"
      "                    as such boards are usually wired when left out\n"
      "  --numa NODES      the NUMA node of each GPU: 0,0,1,1\n"
      "  --driver VERSION  570.124.06 when left out\n"
      "  --cuda VERSION    what the driver brings when left out\n"
      "  --machine NAME    of the DMI table\n"
      "  --seed N          another seed makes other UUIDs and serial numbers\n"
      "  --force           replace a node that is there\n",
      create },
    { "run", "run -- COMMAND…", "run a program on that node",
      "Examples:\n"
      "  tranche sim run -- nvidia-ctk cdi list\n",
      run },
    { "destroy", "destroy", "remove the node",
      "Examples:\n"
      "  tranche sim destroy\n",
      destroy },
};

/* --- help ------------------------------------------------------------------------------------ */

static void help_line(FILE *to, const char *usage, const char *summary)
{
    int width = (int)table_text_width(usage);

    fprintf(to, "  %s%*s %s\n", usage, MAX(36 - width, 0), "", summary);
}

static void help_all(FILE *to)
{
    fprintf(to,
            "Usage: tranche sim [--dir DIR] COMMAND …\n\n"
            "Makes simulated GPUs that NVIDIA's own programs take for real, and drives them.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(node_commands); i++)
        help_line(to, node_commands[i].usage, node_commands[i].summary);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        help_line(to, commands[i].usage, commands[i].summary);
    fprintf(to,
            "\nGPU is an index, a UUID or a PCI bus id. DIR is $TRANCHE_SIM when left out, else\n"
            "tranche-sim-UID in $XDG_RUNTIME_DIR or /tmp.\n"
            "`tranche sim COMMAND --help` says more.\n\n"
            "Examples:\n"
            "  tranche sim create --gpus 8xh100-80gb\n"
            "  tranche sim mig 0 1g.10gb:7\n"
            "  tranche sim xid 3 79\n");
}

static void help_keys(bool node)
{
    const struct sim_key *key;

    for (size_t i = 0; (key = sim_key_at(i)); i++) {
        if (key->node == node)
            printf("  %-24s %s%*s %s\n", key->name, key->unit,
                   MAX(12 - (int)table_text_width(key->unit), 0), "", key->help);
    }
}

static void help_models(void)
{
    size_t n;
    const struct sim_model *models = sim_models(&n);

    printf("\nModels:\n");
    for (size_t i = 0; i < n; i++)
        printf("  %-16s %s\n", models[i].name, models[i].product);
    printf("\nExamples:\n"
           "  tranche sim create --gpus 8xh100-80gb\n"
           "  tranche sim create --dir /tmp/node --gpus 4xt4,2xa100-80gb --driver 550.54.15\n"
           "  tranche sim create --gpus 4xa100-80gb --nvlink pairs --force\n");
}

static bool help_one(const char *name)
{
    const struct sim_command *command = sim_command_find(name);

    for (size_t i = 0; i < ARRAY_LEN(node_commands); i++) {
        if (!text_equal(name, node_commands[i].name))
            continue;
        printf("Usage: tranche sim %s\n\n%s", node_commands[i].usage, node_commands[i].help);
        if (i == 0)
            help_models();
        return true;
    }
    if (!command)
        return false;
    printf("Usage: tranche sim %s\n\n", command->usage);
    if (command->help) {
        printf("%s", command->help);
        return true;
    }
    printf("Keys of a GPU (or of all):\n");
    help_keys(false);
    printf("\nKeys of the node:\n");
    help_keys(true);
    printf("\nExamples:\n"
           "  tranche sim set 0 temperature=85 utilization=100 power=650\n"
           "  tranche sim set all memory-used=10Gi\n"
           "  tranche sim set node driver-loaded=off\n");
    return true;
}

/* --- the verb -------------------------------------------------------------------------------- */

static const char *default_dir(char buffer[static PATH_MAX])
{
    const char *dir = getenv("TRANCHE_SIM"), *run_dir = getenv("XDG_RUNTIME_DIR");

    if (dir && *dir)
        return dir;
    snprintf(buffer, PATH_MAX, "%s/tranche-sim-%u", run_dir && *run_dir ? run_dir : "/tmp",
             (unsigned)getuid());
    return buffer;
}

/* Takes --dir out of the words, wherever it stands before a "--". */
static int take_dir(int *argc, char **argv, const char **ret_dir, struct err *err)
{
    int kept = 0;

    for (int i = 0; i < *argc; i++) {
        if (text_equal(argv[i], "--")) {
            for (; i < *argc; i++)
                argv[kept++] = argv[i];
        } else if (text_equal(argv[i], "--dir")) {
            if (++i == *argc)
                return err_set(err, EINVAL, "--dir needs a value");
            *ret_dir = argv[i];
        } else if (text_starts(argv[i], "--dir=")) {
            *ret_dir = argv[i] + strlen("--dir=");
        } else {
            argv[kept++] = argv[i];
        }
    }
    argv[kept] = NULL; /* or what `run` starts would get the last words twice */
    *argc = kept;
    return 0;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && !text_equal(argv[i], "--"); i++) {
        if (text_equal(argv[i], "--help") || text_equal(argv[i], "-h"))
            return true;
    }
    return false;
}

static int unknown_command(const char *name, struct err *err)
{
    const char *names[ARRAY_LEN(commands) + ARRAY_LEN(node_commands)];
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(node_commands); i++)
        names[n++] = node_commands[i].name;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[n++] = commands[i].name;
    const char *near = text_nearest(name, names, n);
    if (near)
        return err_set(err, EINVAL, "there is no command \"%.40s\"; did you mean \"%s\"?", name,
                       near);
    return err_set(err, EINVAL, "there is no command \"%.40s\"; see tranche sim --help", name);
}

static int act_on_node(const struct sim_command *command, const char *dir, int argc, char **argv,
                       struct err *err)
{
    auto_(sim_state_closep) struct sim_state *state = NULL;

    int r = sim_state_open(dir, &state, err);
    if (r == -ENOENT)
        return err_set(err, ENOENT, "%s holds no simulated node; make one with tranche sim create",
                       dir);
    if (r < 0)
        return r;
    struct sim_node node = { dir, state };
    return command->act(&node, argc, argv, err);
}

static int dispatch(const char *dir, int argc, char **argv, struct err *err)
{
    const struct sim_command *command = sim_command_find(argv[0]);

    for (size_t i = 0; i < ARRAY_LEN(node_commands); i++) {
        if (text_equal(argv[0], node_commands[i].name))
            return node_commands[i].act(dir, argc, argv, err);
    }
    return command ? act_on_node(command, dir, argc, argv, err) : unknown_command(argv[0], err);
}

int verb_sim(int argc, char **argv)
{
    char buffer[PATH_MAX];
    const char *dir = default_dir(buffer);
    struct err err = {};

    int r = take_dir(&argc, argv, &dir, &err);
    bool help = r >= 0 && wants_help(argc, argv);
    if (help && argc > 1 && help_one(argv[1]))
        return 0;
    if (help || (r >= 0 && argc < 2)) {
        help_all(help ? stdout : stderr);
        return help ? 0 : EXIT_MISUSED;
    }
    if (r >= 0)
        r = dispatch(dir, argc - 1, argv + 1, &err);
    if (r >= 0)
        return r;
    output_fail("sim", &err);
    return r == -EINVAL ? EXIT_MISUSED : EXIT_FAILED;
}
