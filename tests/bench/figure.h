/*
 * What the benchmarks have in common: they measure, and print one figure a line (`NAME VALUE`) for
 * tools/bench to put into its table. A benchmark that cannot do its work ends the program.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

/* Measurements of one thing. */
struct samples {
    size_t n, room;
    double *items; /* owned */
};

void samples_add(struct samples *samples, double value);
void samples_done(struct samples *samples);
/* The value below which this part of all samples lies: 0 is the best, 0.5 the median. */
double samples_quantile(struct samples *samples, double part);
/* Prints NAME.p50, NAME.p99, NAME.best and NAME.n. */
void samples_print(struct samples *samples, const char *name);

/*
 * A process's memory as the kernel counts it. Private is what would be free if the process ended:
 * anonymous memory, and pages of files that nobody else has mapped at the moment. Part of both is
 * the simulated driver: its library and the node's state, which a real node has not.
 */
struct memory {
    long rss_kib, pss_kib, private_kib, anonymous_kib;
    long simulated_rss_kib, simulated_private_kib;
};

/* `node` is the simulated node's directory. */
struct memory memory_read(pid_t pid, const char *node);
void memory_print(const struct memory *memory, const char *name);

/* How many entries /proc/PID/WHAT has: "fd" or "task". */
size_t count_entries(pid_t pid, const char *what);

PRINTF(2, 3) void figure_print(double value, const char *name, ...);
/* Of the environment, or the default: how many times a thing is done. */
size_t times_to_run(const char *variable, size_t usual);

double now_ms(void);
/* Runs a program to its end without output: the milliseconds it took, and the most memory it had.
 * An end with another exit code than `wanted` ends the benchmark. */
double run_program(char *const *argv, char *const *env, int wanted, long *ret_kib);
