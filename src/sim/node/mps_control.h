/*
 * A stand-in for nvidia-cuda-mps-control as far as a device plugin speaks with it: one command on
 * standard input, an answer on standard output, exit status 0 while a control daemon is up.
 *
 * A daemon of ours is a file called "control" in CUDA_MPS_PIPE_DIRECTORY, which holds its settings;
 * `tranche try` makes it where the real stack would have started the daemon.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define SIM_MPS_CONTROL_NAME "nvidia-cuda-mps-control"

/* "Starts" the daemon of one resource: makes the folder and the file in it. */
[[nodiscard]] int sim_mps_daemon_make(const char *pipe_dir, unsigned active_thread_pct,
                                      struct err *err);

/* The program. */
int sim_mps_control_main(int argc, char **argv);
