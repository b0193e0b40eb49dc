/*
 * The parts of `tranche try`: what was asked for (options, manifests), what a cluster would make of
 * it (plan), the node that was put together for it (node), and what came of it (report).
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "cli/output.h"
#include "net/child.h"
#include "net/grpc_server.h"
#include "net/loop.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"
#include "sim/node/kubelet.h"
#include "sim/node/objects.h"
#include "sim/node/scheduler.h"

enum { TRY_MAX_FILES = 256, TRY_MAX_LABELS = 256, TRY_MAX_TAINTS = 16 };

struct try_options {
    struct sim_spec gpus;
    struct sim_machine_options machine;
    const char *mig;          /* name of a MIG config; NULL: as the labels say */
    const char *mig_strategy; /* overrides the ClusterPolicy; NULL */
    size_t n_labels, n_taints, n_files;
    struct key_value labels[TRY_MAX_LABELS];
    struct taint taints[TRY_MAX_TAINTS];
    const char *files[TRY_MAX_FILES];
    enum output_format format;
    bool serve;
};

/* What MIG is to look like on one GPU; no wants and `enabled` false: off. */
struct try_mig {
    bool wanted; /* this GPU is named by the configuration */
    bool enabled;
    size_t n_wants;
    struct sim_mig_want *wants;
};

/* An MPS control daemon: one for each shared resource. */
struct try_mps {
    const char *resource; /* as advertised */
    unsigned active_thread_pct;
};

/* What the operator and the config-manager would decide for this node. */
struct try_plan {
    const char *mig_strategy; /* for MIG_STRATEGY; NULL: the configuration file's or the default */
    const char *config_map;   /* of the device plugin; NULL: none */
    const char *config_key;   /* which of its entries; NULL: the empty configuration */
    const char *config_text;
    const char *mps_root;
    size_t n_mps;
    struct try_mps *mps;    /* the control daemons that would run */
    const char *mig_config; /* the name in force, or NULL */
    struct try_mig mig[SIM_MAX_GPUS];
    bool plugin, discovery; /* run them at all */
    size_t n_env;
    const struct key_value *env; /* for the device plugin, from the ClusterPolicy */
    size_t n_notes;
    const char **notes; /* sentences: what was assumed */
};

/* Pure but for the state, of which it only reads profiles. -EINVAL with the place. */
[[nodiscard]] int try_plan_make(const struct try_options *options, const struct objects *objects,
                                const struct sim_state *state, struct arena *arena,
                                struct try_plan *ret, struct err *err);

enum try_phase { TRY_PENDING, TRY_RUNNING, TRY_FAILED, TRY_N_PHASES };
extern const char *const try_phase_names[TRY_N_PHASES]; /* Pending Running Failed */

struct try_pod {
    const struct pod_object *object;
    enum try_phase phase;
    const char *reason, *message; /* NULL while there is nothing to say */
};

/* A node put together in a private directory. */
struct try_node {
    char dir[64];                /* removed by try_node_stop */
    const struct try_plan *plan; /* borrowed, once it is started */
    struct loop *loop;
    struct sim_state *built; /* owned; what the node is made of, until it is published */
    struct sim_state *state; /* owned; the published one */
    struct sim_kubelet *kubelet;
    struct child *agent, *discovery;
    bool agent_ready, agent_over, discovery_over;
    int notify_fd;
    struct loop_fd *notify;
    struct arena *arena; /* borrowed */
    size_t n_labels;
    struct key_value *labels; /* of the node, by key */
    struct err problem;       /* why the agent ended, or did not begin */
    struct err discovery_problem;
    struct grpc_server *pod_server; /* owned; while serving */
    const struct try_pod *pods;     /* borrowed, whom it tells about */
    size_t n_pods;
    bool interrupted; /* set on the loop, as all signals are told there */
};

/* Simulated GPUs only, in memory (`built`): enough to plan with. */
[[nodiscard]] int try_node_create(struct try_node *node, const struct try_options *options,
                                  struct arena *arena, struct err *err);
/* Files, partitions, kubelet, feature discovery, agent; returns when the agent is ready. */
[[nodiscard]] int try_node_start(struct try_node *node, const struct try_options *options,
                                 const struct try_plan *plan, struct err *err);
/* Schedules and admits every pod, in order. */
[[nodiscard]] int try_node_run_pods(struct try_node *node, const struct try_options *options,
                                    struct try_pod *pods, size_t n_pods, struct err *err);
/* Answers on the kubelet's pod resources socket, below the simulated node's root, from the loop. */
[[nodiscard]] int try_pods_serve(struct try_node *node, const struct try_pod *pods, size_t n_pods,
                                 struct err *err);
/* Until SIGINT or SIGTERM, which is 0, or until the agent ends. Says on standard error what changes
 * in the eyes of the kubelet. */
[[nodiscard]] int try_node_serve(struct try_node *node, struct err *err);
void try_node_stop(struct try_node *node);

struct try_report {
    const struct try_options *options;
    const struct objects *objects;
    const struct try_plan *plan;
    struct try_node *node;
    const struct try_pod *pods;
    size_t n_pods;
};

[[nodiscard]] int try_report_print(const struct try_report *report, struct err *err);
