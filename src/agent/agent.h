/*
 * The node daemon: one loop that looks, decides, makes it so, and remembers.
 *
 *     observer (NVML, events) ──► inventory ─┐
 *     file, flags, environment ──► loaded ───┴─► view ──► plugins ──► kubelet
 *
 * Level-triggered: every road leads through agent_decide with what is known now, and there is no
 * other path for a restart, an edited file or a changed GPU.
 *
 * A configuration that cannot be read, or does not fit the hardware, ends the process only while
 * nothing is offered yet, with upstream's sentence (`error starting plugins: …`); later, the last
 * good one stays in force. A node that changes into something that no configuration fits keeps
 * what it offers, with the devices that are gone marked unhealthy.
 *
 * Signals: HUP reads the configuration again and forgets what made devices unhealthy; INT, TERM and
 * QUIT withdraw everything and end the run.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "share/config.h"

/* Borrowed for the run. */
struct agent_options {
    struct config_input input; /* flags and environment of the program */
    const char *root;          /* where /sys, /proc and /dev are; NULL: where the process is */
    const char *mps_root;      /* the folder of MPS daemons as this process sees it: "/mps" */
    const char *cdi_dir;       /* for CDI specifications; NULL: /var/run/cdi of the root */
    const char *notify_socket; /* told READY=1 when all that can be done is done; may be NULL */
};

#define AGENT_PLUGIN_DIR "/var/lib/kubelet/device-plugins"
#define AGENT_MPS_ROOT   "/mps"

/* Runs until a signal ends it: 0, or a negative errno with the sentence that was logged. */
[[nodiscard]] int agent_run(const struct agent_options *options, struct err *err);
