/*
 * Running a program on a simulated node: it sees the node's GPUs where a real machine has them.
 *
 * The program gets a mount namespace of its own (and, for a user who is not root, a user namespace
 * in which he is), so nobody else sees anything of it and nothing is left behind. In it:
 *
 *     /sys/bus/pci, /sys/devices/pci…, /sys/module/nvidia,
 *     /sys/class/dmi/id/product_name, /proc/driver/nvidia,
 *     /proc/driver/nvidia-caps, /proc/devices, /proc/modules,
 *     /dev/nvidia…, the driver's libraries and programs       are DIR/root's
 *     /run/tranche/sim                                        is DIR
 *
 * Its environment gains TRANCHE_SIM and a place in LD_LIBRARY_PATH. /proc/modules is left out on a
 * kernel without modules. What the program writes elsewhere is written on the machine; new files
 * directly in /dev or /run are its own.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

/*
 * Runs argv (found through PATH) on the node of `dir` and waits for it: its exit status, or 128
 * and the number of the signal that ended it. Signals that end a program are passed on to it while
 * it runs. -ENOENT without DIR/root or program, -EPERM where namespaces are not allowed.
 */
[[nodiscard]] int sim_run(const char *dir, char *const argv[], struct err *err);
