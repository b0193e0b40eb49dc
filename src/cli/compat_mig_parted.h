/*
 * nvidia-mig-parted: NVIDIA's partition tool by its flags, environment, files, output and exit
 * codes (spec/mig §4), on tranche's planner. What was asked for (compat_mig_options.c), and the
 * doing (compat_mig_parted.c, compat_mig_apply.c).
 */
#pragma once

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"

enum parted_command {
    PARTED_APPLY,
    PARTED_ASSERT,
    PARTED_EXPORT,
    PARTED_GENERATE,
    PARTED_CHECKPOINT,
    PARTED_RESTORE,
    PARTED_N_COMMANDS,
};

/* Every text is "" where it was not given. */
struct parted_flags {
    enum parted_command command;
    bool debug, skip_reset, mode_only, valid_only;
    const char *config_file, *selected_config, *hooks_file, *checkpoint_file;
    const char *output_format, *output_file, *config_label;
};

/*
 * Reads the command line (argv without the program's name) and the environment. 0: do it. 1: it
 * was answered (help, version), *ret_status is the exit code. -EINVAL: the sentence for the log;
 * complaint and help are printed.
 */
[[nodiscard]] int parted_flags_read(int argc, char **argv, struct arena *arena,
                                    struct parted_flags *ret, int *ret_status, struct err *err);

/* ---- what it says on stderr ---- */

enum parted_level { PARTED_FATAL, PARTED_ERROR, PARTED_WARNING, PARTED_DEBUG };

/* One line as upstream's logger writes it, upstream's sentences with a capital. Debug only once
 * flags with -d were read. */
PRINTF(2, 3) void parted_log(enum parted_level level, const char *format, ...);

/* ---- apply and restore (compat_mig_apply.c) ---- */

struct mig_site;

/* The error's sentence is upstream's, behind `error applying MIG configuration with hooks: `. */
[[nodiscard]] int parted_apply(struct mig_site *site, const struct parted_flags *flags,
                               struct err *err);
[[nodiscard]] int parted_restore(struct mig_site *site, const struct parted_flags *flags,
                                 struct err *err);

/* Reads and selects, as apply and assert do it. */
struct mig_config;
[[nodiscard]] int parted_config(struct mig_site *site, const struct parted_flags *flags,
                                const struct mig_config **ret, struct err *err);
/*
 * Starts NVML, or fails with `error initializing NVML: …`. Whoever can do something without it
 * gives ret_without: NULL there when NVML is what to ask, else why not, in upstream's words.
 */
[[nodiscard]] int parted_start(struct mig_site *site, const char **ret_without, struct err *err);

/* ---- without a driver that knows MIG (compat_mig_bar0.c) ---- */

/* After mig_site_start: NULL, or "nvidia module not loaded" and the like. Where the kernel does not
 * list its modules NVML's word counts. */
const char *parted_without_nvml(struct mig_site *site);

/* mig_site_look by registers: modes and PCI ids are known, nothing else. */
[[nodiscard]] int parted_bar0_look(struct mig_site *site, struct err *err);
