/*
 * Partitioning a node of eight GPUs, whole processes: `tranche mig` from exec to its end on a
 * simulated node, the most memory it had, and how many NVML calls it made.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "bench/figure.h"

enum { MAX_WORDS = 12 };

static const char config[] = "version: v1\n"
                             "mig-configs:\n"
                             "  seven:\n"
                             "    - {devices: all, mig-enabled: true,\n"
                             "       mig-devices: {1g.10gb: 7}}\n"
                             "  balanced:\n"
                             "    - {devices: all, mig-enabled: true,\n"
                             "       mig-devices: {1g.10gb: 2, 2g.20gb: 1, 3g.40gb: 1}}\n"
                             "  impossible:\n"
                             "    - {devices: all, mig-enabled: true,\n"
                             "       mig-devices: {3g.40gb: 2, 1g.10gb: 1}}\n";

static const struct work {
    const char *name;
    const char *before;           /* what the simulated GPUs are made to look like first */
    const char *words[MAX_WORDS]; /* behind `tranche mig`; FILE is the configuration */
    int wanted;                   /* exit code */
} works[] = {
    { "mig.same", "1g.10gb:7", { "apply", "-f", "FILE", "-c", "seven" }, 0 },
    { "mig.assert", "1g.10gb:7", { "assert", "-f", "FILE", "-c", "seven" }, 0 },
    { "mig.export", "1g.10gb:7", { "export" }, 0 },
    { "mig.from_off", "off", { "apply", "-f", "FILE", "-c", "seven" }, 0 },
    { "mig.change", "1g.10gb:7", { "apply", "-f", "FILE", "-c", "balanced" }, 0 },
    { "mig.impossible", "1g.10gb:7", { "apply", "-f", "FILE", "-c", "impossible" }, 1 },
};

struct node {
    const char *program;
    char dir[64], file[96], sim[96];
};

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static void sim(const struct node *node, const char *words)
{
    char command[512];

    snprintf(command, sizeof(command), "%s sim --dir %s/sim %s >/dev/null", node->program,
             node->dir, words);
    if (system(command) != 0)
        give_up(command);
}

static void prepare(struct node *node)
{
    node->program = getenv("TRANCHE_PROGRAM");
    if (!node->program)
        give_up("TRANCHE_PROGRAM is not set");
    strcpy(node->dir, "/tmp/tranche-mig-XXXXXX");
    if (!mkdtemp(node->dir))
        give_up("no directory");
    snprintf(node->file, sizeof(node->file), "%s/config.yaml", node->dir);
    snprintf(node->sim, sizeof(node->sim), "TRANCHE_SIM=%s/sim", node->dir);
    if (file_replace(AT_FDCWD, node->file, SPAN(config), 0600, NULL) < 0)
        give_up(node->file);
    sim(node, "create --gpus 8xh100-80gb");
}

/* How many NVML calls the node has answered since it was made. */
static double count_calls(const struct node *node)
{
    char command[256], line[256];
    double calls = -1;

    snprintf(command, sizeof(command), "%s sim --dir %s/sim show -o json", node->program,
             node->dir);
    FILE *show = popen(command, "r");
    while (show && fgets(line, sizeof(line), show)) {
        const char *at = strstr(line, "\"calls\":");
        if (at && sscanf(at, "\"calls\": %lf", &calls) == 1)
            break;
    }
    if (!show || pclose(show) < 0 || calls < 0)
        give_up(command);
    return calls;
}

static void run_work(const struct node *node, const struct work *work)
{
    char *argv[MAX_WORDS + 3], path[] = "PATH=/usr/bin:/bin";
    char *env[] = { (char *)node->sim, path, NULL }, before[64];
    struct samples ms = {}, kib = {};
    double calls = 0;
    size_t n = 0;

    argv[n++] = (char *)node->program;
    argv[n++] = (char *)"mig";
    for (size_t i = 0; work->words[i]; i++)
        argv[n++] = (char *)(strcmp(work->words[i], "FILE") == 0 ? node->file : work->words[i]);
    argv[n] = NULL;
    snprintf(before, sizeof(before), "mig all %s", work->before);
    for (size_t left = times_to_run("BENCH_MIG", 51); left > 0; left--) {
        long memory = 0;

        sim(node, before);
        calls = count_calls(node);
        samples_add(&ms, run_program(argv, env, work->wanted, &memory));
        samples_add(&kib, (double)memory);
        calls = count_calls(node) - calls;
    }
    samples_print(&ms, work->name);
    figure_print(calls, "%s.calls", work->name);
    figure_print(samples_quantile(&kib, 1), "%s.rss", work->name);
    samples_done(&ms);
    samples_done(&kib);
}

int main(void)
{
    struct node node = {};

    prepare(&node);
    for (size_t i = 0; i < ARRAY_LEN(works); i++)
        run_work(&node, &works[i]);
    return file_remove_tree(node.dir, NULL) < 0;
}
