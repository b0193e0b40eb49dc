/*
 * The real program on a simulated node, with a scripted kubelet at the other end of its sockets.
 * Needs $TRANCHE_PROGRAM, the program under test. Every function fails the test when it cannot do
 * its work.
 */
#pragma once

#include "base/base.h"
#include "net/child.h"
#include "net/loop.h"
#include "support/scripted_kubelet.h"

enum { AGENT_MAX_ENV = 32, AGENT_MAX_ARGS = 16 };

struct agent_process {
    struct loop *loop;
    char dir[64];     /* of its own; removed at the end */
    char sim[96];     /* the simulated node */
    char plugins[96]; /* the kubelet's directory */
    char config[96];  /* a config file, when one was written */
    struct scripted_kubelet kubelet;
    struct child *child; /* owned; NULL while it does not run */
    bool over;
    int status, signum;
    char *out, *errors; /* owned; what it had said when it was over */
    size_t n_env;
    char *env[AGENT_MAX_ENV + 1]; /* owned */
    const char *name;             /* which program it is called as */
};

/* A node of simulated GPUs ("2xh100-80gb"), nothing running yet. */
struct agent_process *agent_process_new(const char *gpus);
/* Ends what still runs; a program that was running must end well. */
void agent_process_free(struct agent_process *agent);

/* A variable said again counts the second time. */
PRINTF(2, 3) void agent_process_env(struct agent_process *agent, const char *format, ...);
/* Writes the config file and names it in CONFIG_FILE. */
void agent_process_config(struct agent_process *agent, const char *text);
/* `tranche sim COMMAND` on its node. */
PRINTF(2, 3) void agent_process_sim(struct agent_process *agent, const char *format, ...);

/* Starts the program as `nvidia-device-plugin` with these arguments (NULL-terminated, or NULL). */
void agent_process_start(struct agent_process *agent, const char *const *args);
void agent_process_signal(struct agent_process *agent, int signum);
/* Waits for the end: the exit code, -signal when it was killed. */
int agent_process_wait(struct agent_process *agent);

/* Starts kubelet and program. */
void agent_process_begin(struct agent_process *agent);

/* Resident memory in bytes. */
size_t agent_process_memory(const struct agent_process *agent);
/* Turns the loop for a while: for what must not happen. */
void agent_process_idle(struct agent_process *agent, uint64_t ms);
