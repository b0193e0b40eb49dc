/*
 * The files that tools read beside NVML, as a small file system: DIR/root of a simulated node. The
 * same paths as on a real machine, below that directory: sysfs of the GPUs, DMI, the driver's
 * /proc files with MIG's capabilities, device nodes, driver libraries and firmware (spec/nvml §9,
 * spec/mig §1.11, spec/cdi).
 *
 * tranche and tools with a driver-root option read it where it lies; for all others sim_run (run.h)
 * puts it over the machine's own. Nothing here needs root: without the right to make device nodes
 * they are empty files.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "sim/gpu/state.h"

/* Where DIR/root keeps the driver's libraries. */
#define SIM_ROOT_LIBRARIES "usr/lib/x86_64-linux-gnu"

/* Device numbers, as in DIR/root/proc/devices. */
enum { SIM_MAJOR_NVIDIA = 195, SIM_MAJOR_UVM = 508, SIM_MAJOR_CAPS = 237 };

/*
 * Writes DIR/root anew, from the state (locked by the caller, or not shared yet). The library at
 * `library_path` becomes the node's libnvidia-ml: linked where the file system allows it, else
 * copied. A failure leaves an older root as it was.
 */
[[nodiscard]] int sim_root_create(const char *dir, const struct sim_state *state,
                                  const char *library_path, struct err *err);

/*
 * Brings the capability files and device nodes of a GPU instance and what is in it up to date, or
 * (gi SIM_NO_INSTANCE) those of all the GPU's: call it with the lock held after each change of
 * them. A dozen system calls for one; nothing at all, and success, where there is no DIR/root or
 * the GPU cannot do MIG. What is not shown any more waits in DIR/spare for its return.
 */
[[nodiscard]] int sim_root_update(const char *dir, const struct sim_state *state, uint32_t gpu,
                                  uint32_t gi, struct err *err);

/*
 * Brings what `driver_loaded` and `pci_registers` say up to date: /proc/modules, whom the GPUs'
 * PCI devices belong to, and the files resource0 and reset there, which are left as they are where
 * they are already. What else a driver leaves behind when it goes, stays. Call it with the lock
 * held; nothing at all, and success, where there is no DIR/root.
 *
 * resource0 holds the chip's name at 0 and, of GA100, what MIG's mode is made of: boot complete,
 * the mode as it is now, and none wanted. It does not react: the mode stays until somebody writes
 * what a reset would.
 */
[[nodiscard]] int sim_root_update_node(const char *dir, const struct sim_state *state,
                                       struct err *err);

/* The minor number of an instance's device node, spec/nvml §9: 3 and up in order of GPU minor,
 * GPU instance (0 to 14) and compute instance. `ci` SIM_NO_INSTANCE: the GPU instance's own. */
uint32_t sim_cap_minor(uint32_t gpu_minor, uint32_t gi, uint32_t ci);
/* How many GPUs and GPU instances that numbering has room for. */
enum { SIM_CAP_GPUS = 32, SIM_CAP_INSTANCES = 15 };
