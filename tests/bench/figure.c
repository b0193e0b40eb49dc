#include "bench/figure.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

void samples_add(struct samples *samples, double value)
{
    if (samples->n == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 1024;
        samples->items = realloc(samples->items, samples->room * sizeof(double));
        if (!samples->items)
            give_up("samples");
    }
    samples->items[samples->n++] = value;
}

void samples_done(struct samples *samples)
{
    free(samples->items);
    *samples = (struct samples){};
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double samples_quantile(struct samples *samples, double part)
{
    if (samples->n == 0)
        return 0;
    qsort(samples->items, samples->n, sizeof(double), by_value);
    return samples->items[MIN((size_t)((double)samples->n * part), samples->n - 1)];
}

void figure_print(double value, const char *name, ...)
{
    va_list args;

    va_start(args, name);
    vprintf(name, args);
    va_end(args);
    printf(" %.3f\n", value);
    fflush(stdout);
}

void samples_print(struct samples *samples, const char *name)
{
    figure_print(samples_quantile(samples, 0.5), "%s.p50", name);
    figure_print(samples_quantile(samples, 0.99), "%s.p99", name);
    figure_print(samples_quantile(samples, 0), "%s.best", name);
    figure_print((double)samples->n, "%s.n", name);
}

static void add_mapping_line(struct memory *memory, const char *line, bool simulated)
{
    long n;

    if (sscanf(line, "Rss: %ld", &n) == 1) {
        memory->rss_kib += n;
        memory->simulated_rss_kib += simulated ? n : 0;
    } else if (sscanf(line, "Pss: %ld", &n) == 1) {
        memory->pss_kib += n;
    } else if (sscanf(line, "Anonymous: %ld", &n) == 1) {
        memory->anonymous_kib += n;
    } else if (sscanf(line, "Private_Clean: %ld", &n) == 1 ||
               sscanf(line, "Private_Dirty: %ld", &n) == 1) {
        memory->private_kib += n;
        memory->simulated_private_kib += simulated ? n : 0;
    }
}

struct memory memory_read(pid_t pid, const char *node)
{
    struct memory memory = {};
    char path[64], line[512];
    bool simulated = false;

    snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        give_up(path);
    while (fgets(line, sizeof(line), file)) {
        unsigned long from, to;

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            simulated = strstr(line, node) != NULL;
        else
            add_mapping_line(&memory, line, simulated);
    }
    fclose(file);
    return memory;
}

void memory_print(const struct memory *memory, const char *name)
{
    figure_print((double)memory->rss_kib, "%s.rss", name);
    figure_print((double)memory->pss_kib, "%s.pss", name);
    figure_print((double)memory->private_kib, "%s.private", name);
    figure_print((double)memory->anonymous_kib, "%s.anonymous", name);
    figure_print((double)memory->simulated_rss_kib, "%s.simulated_rss", name);
    figure_print((double)memory->simulated_private_kib, "%s.simulated_private", name);
}

size_t count_entries(pid_t pid, const char *what)
{
    char path[64];
    size_t n = 0;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    DIR *entries = opendir(path);
    if (!entries)
        give_up(path);
    while (readdir(entries))
        n++;
    closedir(entries);
    return n - 2; /* "." and ".." */
}

size_t times_to_run(const char *variable, size_t usual)
{
    const char *text = getenv(variable);
    size_t n = text ? strtoul(text, NULL, 10) : 0;

    return n ? n : usual;
}

double now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

double run_program(char *const *argv, char *const *env, int wanted, long *ret_kib)
{
    posix_spawn_file_actions_t quiet;
    struct rusage usage;
    int status = -1;
    pid_t pid;

    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    double begin = now_ms();
    if (posix_spawn(&pid, argv[0], &quiet, NULL, argv, env) != 0 ||
        wait4(pid, &status, 0, &usage) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != wanted) {
        fprintf(stderr, "%s: ended with status %#x\n", argv[0], (unsigned)status);
        exit(1);
    }
    double took = now_ms() - begin;
    posix_spawn_file_actions_destroy(&quiet);
    *ret_kib = usage.ru_maxrss;
    return took;
}
