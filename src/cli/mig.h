/*
 * MIG on the command line: the parts that `tranche mig` (verb_mig*.c) and the program
 * nvidia-mig-parted (compat_mig_parted*.c) have in common.
 *
 *     auto_(mig_site_done) struct mig_site site = MIG_SITE_INIT;
 *     r = mig_site_open(&site, root, &err);
 *     r = mig_site_look(&site, true, &err);               as often as something may have changed
 *
 * A site is a node with a driver, or a simulated one ($TRANCHE_SIM): where its files are, NVML
 * started, and how its GPUs were divided when it was last looked at.
 */
#pragma once

#include <stdio.h>

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "gpu/mig_apply.h"
#include "gpu/nvml.h"
#include "net/child.h"
#include "share/mig_config.h"
#include "share/mig_documents.h"
#include "share/mig_geometry.h"
#include "share/mig_plan.h"

enum {
    MIG_SITE_ARENA_BYTES = 64 << 20, /* a configuration takes up to half */
    MIG_SITE_LOOK_BYTES = 8 << 20,   /* 64 GPUs take under 2 MiB */
    MIG_LOOK_DEADLINE_MS = 10000,
    MIG_PODS_DEADLINE_MS = 2000,
    MIG_RESET_DEADLINE_MS = 5 * 60 * 1000, /* nvidia-smi waits for the GPU; minutes were seen */
};

#define MIG_LAST_CHECKPOINT "last.json" /* in the state directory: the layout after an apply */

/* What is known about which pod holds what. */
enum mig_pods {
    MIG_PODS_NOT_ASKED,
    MIG_PODS_NO_KUBELET, /* nobody serves pod resources on this node */
    MIG_PODS_KNOWN,
    MIG_PODS_UNKNOWN, /* there is a kubelet, and it does not say */
};

struct mig_site {
    struct arena arena; /* owns all texts, nodes and plans */
    const char *root;   /* "" is this machine */
    bool simulated;
    const char *state_dir;       /* journal, lock and last checkpoint */
    int root_fd;                 /* owned */
    struct nvml *nvml;           /* owned, started */
    const char *library;         /* its file; NULL where there is none */
    struct mig_node *node;       /* the last look */
    struct mig_site_look *looks; /* owned: all of them, as plans borrow from them */
    bool hangs;                  /* NVML has not answered: it is left alone */
    enum mig_pods pods;
    const char *pods_problem; /* MIG_PODS_UNKNOWN: a sentence */
    int reset_status;         /* exit status of a nvidia-smi -r that failed; 0: none did */
    struct span input;        /* standard input, once it was read: it can be asked for again */
};

#define MIG_SITE_INIT                                                                              \
    (struct mig_site)                                                                              \
    {                                                                                              \
        .arena = ARENA_MAX(MIG_SITE_ARENA_BYTES), .root_fd = -1                                    \
    }

void mig_site_done(struct mig_site *site);

/* Where files are, without a driver. root NULL: the simulated node's, else this machine. */
[[nodiscard]] int mig_site_place(struct mig_site *site, const char *root, struct err *err);
/* mig_site_place first. The sentence is NVML's alone, or why there is none (site->library NULL). */
[[nodiscard]] int mig_site_start(struct mig_site *site, struct err *err);
/* Both, with a sentence for a person. */
[[nodiscard]] int mig_site_open(struct mig_site *site, const char *root, struct err *err);

/* Looks anew; what was looked at before stays valid. `pods`: ask the kubelet, too, whose silence
 * is no error here. -ETIMEDOUT when NVML hangs: nothing may be asked of it any more. */
[[nodiscard]] int mig_site_look(struct mig_site *site, bool pods, struct err *err);

/* mig_apply_options.reset, with the site as its user: nvidia-smi -r. */
int mig_site_reset(void *site, const char *const *bus_ids, size_t n, struct err *err);

/* A note on stderr when a change is under way, or was interrupted: its journal is there. */
void mig_warn_of_change(const struct mig_site *site);
/* mig_recover, once a look has shown that no GPU hangs: -ETIMEDOUT as mig_site_look. */
[[nodiscard]] int mig_site_recover(struct mig_site *site, const struct mig_apply_options *options,
                                   struct mig_outcome *ret, struct err *err);

/* The last look without the GPUs that could not be read; of them only those `chosen` (NULL: all).
 */
[[nodiscard]] int mig_site_readable(struct mig_site *site, const bool *chosen,
                                    const struct mig_node **ret, struct err *err);

/* Of the last look: a wish for the mode that may wait for a reset disturbs nobody on the GPU. */
void mig_site_forgive_holders(struct mig_site *site, const struct mig_wish *wishes);

/* Notes the layout of the last look as the one to come back to after a reboot. */
[[nodiscard]] int mig_site_remember(struct mig_site *site, struct err *err);

/* ---- files (`-` is standard input or output) ---- */

[[nodiscard]] int mig_file_read(struct mig_site *site, const char *path, size_t max,
                                struct span *ret, struct err *err);
/* In place of a file, or of the one that a link leads to. What is no file, as /dev/stdout or a
 * pipe, is written to. Not for `-`. */
[[nodiscard]] int mig_file_write(const char *path, struct span text, unsigned mode,
                                 struct err *err);

/* ---- children ---- */

/* SIGINT, SIGTERM and SIGHUP wait while they are held, and SIGPIPE is ignored: Ctrl-C in the middle
 * of a change, or a reader that goes away, would leave a half-divided node to whoever comes next.
 * A child that runs meanwhile does not hear of them. */
void mig_hold_signals(bool hold);

/* Runs it to its end and passes SIGINT, SIGTERM and SIGHUP on to it. *ret_out and *ret_err, its
 * output, live in the arena. -ENOENT and the like where it cannot be run. */
[[nodiscard]] int mig_run_child(const struct child_spec *spec, struct arena *arena,
                                struct child_exit *ret, struct err *err);
/* "exit status 3", "signal: killed": Go's words for the end of a process that failed. */
const char *mig_exit_words(const struct child_exit *exit, char text[static 64]);

/*
 * Runs the hooks of a point one after the other; the first failure ends it. `variables`
 * (NULL-terminated) win over a hook's own. `show`: where what they print goes; NULL: nowhere.
 * The sentence is `error running HOOK hook: …` in upstream's words.
 */
[[nodiscard]] int mig_hooks_run(const struct mig_hooks *hooks, enum mig_hook_point point,
                                const char *const *variables, FILE *show, struct arena *arena,
                                struct err *err);
