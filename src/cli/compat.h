/*
 * Programs of NVIDIA's that this one stands in for when it is called by their name: with their
 * flags, environment, files and exit codes. argv[0] is the name it was called by.
 */
#pragma once

#include "share/config.h"

int compat_device_plugin(int argc, char **argv);
int compat_gpu_feature_discovery(int argc, char **argv);
int compat_mig_parted(int argc, char **argv); /* nvidia-mig-parted */

/* What upstream's programs print on stdout about a flag or a variable that is wrong: the complaint
 * and their help. Its sentence follows in the log. `name` is what the program calls itself. */
void compat_print_usage(enum program program, const char *name, const char *message);

/* Prints what was asked for instead of a run (help, version): 1. */
int compat_answer(enum program program, const char *name, enum config_request request);
