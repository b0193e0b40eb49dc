/*
 * NVML and the file system -> inventory (share/inventory.h), once and synchronously: for verbs
 * that look and leave. A program that stays uses observe.h, which is made of the same parts and
 * survives a GPU that hangs.
 *
 * What a scan promises: it reports what the driver said in this very look, or says that it does
 * not know. A GPU that is lost appears unhealthy while it can still be told which GPU it is, and
 * among the inventory's problems when not. Its order is NVML's.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "gpu/nvml.h"
#include "share/config.h"
#include "share/inventory.h"

/* Strings are borrowed for as long as the options are in use. */
struct scan_options {
    const char *root;        /* where /sys, /proc and /dev are; NULL: "/" */
    const char *driver_root; /* the driver's files as this process sees them; NULL: the root */
    const char *machine_type_file; /* devnode_machine's: NULL is DMI's product name */
    enum discovery_strategy discovery;
    bool links; /* topology and NVLinks, for choosing GPUs that go well together */
    bool vgpu;  /* look for a vGPU host's record: needs the right to read PCI config space */
};

/*
 * Options for this process: `root` and both roots below it where the user named one; a simulated
 * node's ($TRANCHE_SIM/root) where that is set; else "/" and `driver_root` (NULL: programs that
 * look nowhere but at "/", as upstream's feature discovery). Links and vGPU are left off. The
 * driver's library is then nvml_open(ret->driver_root)'s. -ENOMEM.
 */
[[nodiscard]] int scan_options_make(const struct config *config, const char *root,
                                    const char *driver_root, struct arena *arena,
                                    struct scan_options *ret, struct err *err);

/*
 * nvml may be NULL where no library was found. Initialises NVML for the duration of the scan, and
 * waits as long as NVML does: observe_once has the same answer in bounded time.
 * Fails as nvml_init does, with NVML's own words; with -ENOENT and NVML_NO_LIBRARY_TEXT when the
 * discovery strategy is nvml and there is none; -ENOTSUP for strategy vfio; -ENOMEM.
 */
[[nodiscard]] int gpu_scan(struct nvml *nvml, const struct scan_options *options,
                           struct inventory **ret, struct err *err);

/*
 * What kind of node this is, before asking any GPU (spec/device-plugin §2.8): PLATFORM_NONE where
 * there is nothing that could be a GPU, so that upstream refuses strategy auto.
 */
[[nodiscard]] int gpu_platform(const struct nvml *nvml, const struct scan_options *options,
                               enum platform *ret, struct err *err);
