/*
 * All labels of a node, whole process: how long gpu-feature-discovery --oneshot takes from exec to
 * its end, and the most memory it had. The floor is a program that does nothing (/bin/true).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "bench/figure.h"

enum { MIN_LABELS = 26 };

struct labels {
    char dir[64], program[128], output[128], flag[160], sim[128];
};

static void give_up(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void check_labels(const struct labels *labels)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(1));
    auto_close int fd = open(labels->output, O_RDONLY | O_CLOEXEC);
    size_t n = 0;

    if (fd < 0 || buf_read_all(&text, fd, NULL) < 0)
        give_up("no labels were written");
    for (size_t i = 0; i < text.len; i++)
        n += buf_text(&text)[i] == '\n';
    if (n < MIN_LABELS)
        give_up("labels are missing");
    unlink(labels->output);
}

static void measure(struct labels *labels, const char *name, char *const *argv, char *const *env,
                    bool checked)
{
    struct samples ms = {}, kib = {};

    for (size_t n = times_to_run("BENCH_LABELS", 101); n > 0; n--) {
        long memory = 0;

        samples_add(&ms, run_program(argv, env, 0, &memory));
        samples_add(&kib, (double)memory);
        if (checked)
            check_labels(labels);
    }
    samples_print(&ms, name);
    figure_print(samples_quantile(&kib, 0.5), "%s.rss", name);
    samples_done(&ms);
    samples_done(&kib);
}

static void prepare(struct labels *labels, const char *program)
{
    char command[512];

    strcpy(labels->dir, "/tmp/tranche-labels-XXXXXX");
    if (!mkdtemp(labels->dir))
        give_up("no directory");
    snprintf(labels->program, sizeof(labels->program), "%s/gpu-feature-discovery", labels->dir);
    snprintf(labels->output, sizeof(labels->output), "%s/labels", labels->dir);
    snprintf(labels->flag, sizeof(labels->flag), "--output-file=%s", labels->output);
    snprintf(labels->sim, sizeof(labels->sim), "TRANCHE_SIM=%s/sim", labels->dir);
    snprintf(command, sizeof(command), "%s sim create --dir %s/sim --gpus 8xh100-80gb >/dev/null",
             program, labels->dir);
    if (symlink(program, labels->program) < 0 || system(command) != 0)
        give_up(command);
}

int main(void)
{
    char oneshot[] = "--oneshot", file_only[] = "--use-node-feature-api=false";
    char path[] = "PATH=/usr/bin:/bin", nothing[] = "/bin/true";
    const char *program = getenv("TRANCHE_PROGRAM");
    struct labels labels = {};

    if (!program)
        give_up("TRANCHE_PROGRAM is not set");
    prepare(&labels, program);
    char *argv[] = { labels.program, oneshot, file_only, labels.flag, NULL };
    char *env[] = { labels.sim, path, NULL }, *idle[] = { nothing, NULL };
    measure(&labels, "labels", argv, env, true);
    measure(&labels, "floor.exec", idle, env, false);
    return file_remove_tree(labels.dir, NULL) < 0;
}
