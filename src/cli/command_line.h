/*
 * The configuration of a run: flags, environment and config file put together, for every verb and
 * compatible program that takes upstream's options (share/config.h does the thinking).
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "share/config.h"

struct command_line {
    enum config_request request; /* anything but CONFIG_RUN: the rest is not filled */
    struct config *config;
    struct config_warnings warnings;
};

/*
 * argv: flags only, without the program's name. All that is filled lives in the arena, which should
 * be able to hold CONFIG_ARENA_BYTES. The sentence is upstream's; *ret_usage (may be NULL) says
 * whether flags or environment are to blame, so that upstream would print its help.
 */
[[nodiscard]] int command_line_load(enum program program, int argc, const char *const *argv,
                                    bool nvml_found, struct arena *arena, struct command_line *ret,
                                    bool *ret_usage, struct err *err);
