/*
 * The program: a table of verbs, and the names of other programs that it answers to.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/base.h"
#include "base/text.h"
#include "cli/compat.h"
#include "cli/verbs.h"
#include "sim/node/mps_control.h"

enum { EXIT_FAILED = 1, EXIT_MISUSED = 2 };

static const struct verb {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *sentence;
} verbs[] = {
    { "agent", verb_agent, "offer the node's GPUs to the kubelet" },
    { "check", verb_check, "say what is wrong in a configuration, and where" },
    { "describe", verb_describe, "all about this node on one page" },
    { "get", verb_get, "list GPUs, devices, resources or labels of this node" },
    { "mig", verb_mig, "divide the GPUs of this node by MIG" },
    { "sim", verb_sim, "make simulated GPUs, look at them and disturb them" },
    { "try", verb_try, "see what your manifests come to on a simulated node" },
};

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    bool stand_in; /* only for simulated nodes: not a program that anybody should install */
} programs[] = {
    { "nvidia-device-plugin", compat_device_plugin, false },
    { "gpu-feature-discovery", compat_gpu_feature_discovery, false },
    { "nvidia-mig-parted", compat_mig_parted, false },
    { SIM_MPS_CONTROL_NAME, sim_mps_control_main, true },
};

static void print_help(FILE *to)
{
    fprintf(to, "tranche shares the GPUs of a Kubernetes node between those who need a part.\n"
                "\n"
                "Usage: tranche VERB [arguments]\n"
                "\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].sentence);
    fprintf(to, "\n"
                "  tranche VERB --help    what a verb takes\n"
                "  tranche --version      which tranche this is\n"
                "\n"
                "Called by another program's name it behaves as that program:\n");
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (!programs[i].stand_in)
            fprintf(to, "  %s\n", programs[i].name);
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (text_equal(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

static int unknown_verb(const char *name)
{
    const char *names[ARRAY_LEN(verbs)], *nearest;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        names[i] = verbs[i].name;
    nearest = text_nearest(name, names, ARRAY_LEN(names));
    fprintf(stderr, "tranche: there is no verb \"%s\"", name);
    if (nearest)
        fprintf(stderr, "; did you mean \"%s\"?\n", nearest);
    else
        fprintf(stderr, "; `tranche help` lists them\n");
    return EXIT_MISUSED;
}

static int unexpected_word(const char *word)
{
    fprintf(stderr, "tranche: unexpected word \"%s\"; `tranche help` says how it is used\n", word);
    return EXIT_MISUSED;
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c)
{
    return text_equal(word, a) || text_equal(word, b) || text_equal(word, c);
}

/* `tranche help VERB` is `tranche VERB --help`. */
static int help(int argc, char **argv)
{
    const struct verb *verb = argc > 1 ? find_verb(argv[1]) : NULL;
    char flag[] = "--help", *args[] = { argc > 1 ? argv[1] : NULL, flag, NULL };

    if (argc > 1 && !verb)
        return unknown_verb(argv[1]);
    if (argc > 2)
        return unexpected_word(argv[2]);
    if (verb)
        return verb->run(2, args);
    print_help(stdout);
    return 0;
}

static int run_verb(int argc, char **argv)
{
    const struct verb *verb;

    if (argc < 2) {
        print_help(stderr);
        return EXIT_MISUSED;
    }
    if (is_one_of(argv[1], "help", "--help", "-h"))
        return help(argc - 1, argv + 1);
    if (is_one_of(argv[1], "version", "--version", "-v")) {
        if (argc > 2)
            return unexpected_word(argv[2]);
        puts("tranche " TRANCHE_VERSION);
        return 0;
    }
    verb = find_verb(argv[1]);
    return verb ? verb->run(argc - 1, argv + 1) : unknown_verb(argv[1]);
}

/* A heap for each of the few threads would cost more than they ever use. And what is large goes
 * back to the system when it is freed: left to itself, glibc raises both thresholds after the first
 * long message, and keeps megabytes from then on. */
static void set_up_heap(void)
{
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, KIB(128));
    mallopt(M_TRIM_THRESHOLD, KIB(64));
}

/* A standard stream that the caller closed would lend its number to the first file that is opened,
 * a socket perhaps. /dev/null the wrong way round keeps the place, and answers EBADF as before. */
static void hold_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            _exit(EXIT_FAILED);
}

/* A process with this variable, which names the process that started it, is of no use without that
 * one, and ends with it however that one ends. Its own children are none of its business. */
static void end_with_parent(void)
{
    const char *parent = getenv("TRANCHE_PARENT");
    uint64_t pid;

    if (!parent)
        return;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (text_to_u64(span_of(parent), &pid) < 0 || pid != (uint64_t)getppid())
        raise(SIGTERM);
    unsetenv("TRANCHE_PARENT");
}

/* What was printed may still be in the buffer, and the disk full. */
static int finish(const char *name, int status)
{
    errno = EIO; /* what an earlier write failed with is not known any more */
    if ((fflush(stdout) == 0 && !ferror(stdout)) || status != 0)
        return status;
    fprintf(stderr, "%s: cannot write to standard output: %s\n", name, strerror(errno));
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "tranche";

    hold_standard_streams();
    end_with_parent();
    set_up_heap();
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (text_equal(programs[i].name, name))
            return finish(name, programs[i].run(argc, argv));
    return finish("tranche", run_verb(argc, argv));
}
