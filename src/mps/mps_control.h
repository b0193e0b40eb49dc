/*
 * One command to an MPS control daemon, sent the way spec/device-plugin §7.3 and §7.5 describe: a
 * run of nvidia-cuda-mps-control with the text on its standard input and nothing in its environment
 * but the daemon's pipe and log folders; the exit status says whether the daemon took it, its
 * output is the answer.
 *
 * The program runs beside the loop and is ended at a deadline, since a daemon that hangs lets its
 * client hang, too.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "net/loop.h"

enum { MPS_CONTROL_DEADLINE_MS = 10000, MPS_CONTROL_OUTPUT_MAX = 64 << 10 };

#define MPS_CONTROL_PROGRAM "nvidia-cuda-mps-control"

/* Harmless, and answered by a daemon that is up. */
#define MPS_COMMAND_CHECK "get_default_active_thread_percentage"

struct mps_control;

/* r: 0 with the answer (trailing white space removed, borrowed for the call), or a negative errno
 * with the sentence in err: `failed to send command to MPS daemon: exit status 1`. The control is
 * over then; the callback may free it. */
typedef void mps_control_fn(void *user, int r, struct span answer, const struct err *err);

/* Folders as this process sees them. The program is looked for in PATH. Failures as in Go's words,
 * which people search for: `failed to start NVIDIA MPS command: exec: "nvidia-cuda-mps-control":
 * executable file not found in $PATH` (-ENOENT); no callback then. */
[[nodiscard]] int mps_control_send(struct loop *loop, const char *pipe_dir, const char *log_dir,
                                   const char *command, mps_control_fn *fn, void *user,
                                   struct mps_control **ret, struct err *err);
/* Ends it if it still runs; no callback any more. */
void mps_control_free(struct mps_control *control);
DEFINE_FREEP(struct mps_control, mps_control_free)
