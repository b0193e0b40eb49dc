/*
 * Where this program and the simulated driver's library lie.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

/* The running executable. */
[[nodiscard]] int self_path(char *ret, size_t size, struct err *err);

/* libnvidia-ml.so.1 of the simulator: $TRANCHE_SIM_LIBRARY, else beside the executable (a build
 * folder), else where it is installed. -ENOENT with the places that were looked at. */
[[nodiscard]] int sim_library_path(char *ret, size_t size, struct err *err);
