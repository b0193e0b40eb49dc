/*
 * The parts of `tranche sim`: words of a command line, the commands that act on a node, what a node
 * looks like, and scenarios. The work itself is in sim/gpu/control.h, mig.h and root.h; here words
 * become arguments and answers become text.
 *
 * A wrong word is -EINVAL and the verb's exit code 2; what the node refuses is any other code
 * and 1.
 */
#pragma once

#include <stdio.h>

#include "base/base.h"
#include "base/err.h"
#include "cli/output.h"
#include "sim/gpu/state.h"

enum { SIM_MAX_WORDS = 64 };

/* An option and where its value goes; a flag has no value. */
struct sim_option {
    const char *name; /* "--after" */
    const char **value;
    bool *flag;
};

/* Sorts words into options and the rest. "--name value" and "--name=value"; everything after "--"
 * is the rest. Borrowed from argv. */
[[nodiscard]] int sim_words(int argc, char **argv, const struct sim_option *options,
                            size_t n_options, const char *ret_rest[static SIM_MAX_WORDS],
                            size_t *ret_n, struct err *err);
/* A number of the words, with the option's name in the complaint. NULL leaves *ret as it is. */
[[nodiscard]] int sim_word_u32(const char *name, const char *word, uint32_t *ret, struct err *err);

/* -EINVAL with the usage unless min <= n <= max. */
[[nodiscard]] int sim_words_expect(size_t n, size_t min, size_t max, const char *usage,
                                   struct err *err);

/* A word that stands for GPUs, or for one MIG device. */
struct sim_target {
    uint32_t first, n; /* indices */
    uint32_t gi, ci;
};

/* "all", a GPU by index, UUID or bus id: one GPU or all of them. Call with the lock held. */
[[nodiscard]] int sim_target_gpus(struct sim_state *state, const char *word, struct sim_target *ret,
                                  struct err *err);
/* A GPU, one of its instances (the words of --gi and --ci, or NULL), or a MIG device by UUID. */
[[nodiscard]] int sim_target_device(struct sim_state *state, const char *word, const char *gi,
                                    const char *ci, struct sim_target *ret, struct err *err);

/* auto_(sim_unlock) struct sim_state *held = state; */
void sim_unlock(struct sim_state **state);

/* --- commands on a node (verb_sim_act.c, verb_sim_process.c)
 * ------------------------------------------------------ */

/* A node that is open, and where it lies. */
struct sim_node {
    const char *dir;
    struct sim_state *state;
};

struct sim_command {
    const char *name, *usage, *summary, *help;
    /* argv[0] is the command's own name; called without the lock. */
    int (*act)(struct sim_node *node, int argc, char **argv, struct err *err);
    bool steps; /* may stand in a scenario */
};

typedef int sim_act(struct sim_node *node, int argc, char **argv, struct err *err);
sim_act sim_act_set, sim_act_xid, sim_act_lose, sim_act_return, sim_act_reset, sim_act_reboot,
    sim_act_mig, sim_act_process, sim_act_fault;

#define SIM_PROCESS_ADD                                                                            \
    "process add GPU [--pid N] [--memory SIZE] [--sm PCT] [--memory-utilization PCT] "             \
    "[--encoder PCT] [--decoder PCT] [--kind compute|graphics|mps] [--gi N [--ci N]] "             \
    "[--name NAME]"
#define SIM_PROCESS_LIST "process list [-o text|json|yaml]"
#define SIM_FAULT_LIST   "fault list [-o text|json|yaml]"
#define SIM_FAULT_ADD                                                                              \
    "fault add CALL [--code NAME|N] [--hang MS|forever] [--gpu GPU] [--after N] "                  \
    "[--times N]"

/* NULL when there is none. (verb_sim.c) */
const struct sim_command *sim_command_find(const char *name);

/* --- what a node looks like (verb_sim_show.c) ------------------------------------------------- */

/* `all`: MIG devices, processes and faults beside the GPUs. The state is a private copy. */
[[nodiscard]] int sim_show_text(const struct sim_state *state, const char *dir, bool all, FILE *to,
                                struct err *err);
[[nodiscard]] int sim_show_processes(const struct sim_state *state, FILE *to, struct err *err);
[[nodiscard]] int sim_show_faults(const struct sim_state *state, FILE *to, struct err *err);
/* Everything, as one object; NULL without memory. */
json_t *sim_show_json(const struct sim_state *state, const char *dir);

/* --- scenarios (verb_sim_play.c) -------------------------------------------------------------- */

/*
 * Plays a file: a YAML list of steps. A step is a map with one command as its key and the command's
 * words as its value (a string or a list), and perhaps `after`, a time to wait before it; or a bare
 * string, command and words in one. The whole file is read and its commands are looked up before
 * the first step is taken. Errors begin with file:line:col.
 */
[[nodiscard]] int sim_play(struct sim_node *node, const char *path, struct err *err);
