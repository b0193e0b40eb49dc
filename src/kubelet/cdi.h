/*
 * The specification files from which a container runtime learns what a CDI device is
 * (spec/device-plugin §4.7, spec/cdi): k8s.device-plugin.nvidia.com-<class>.json, one for each
 * class of devices that an allocation can name.
 *
 * Made from what is offered at the moment and rewritten, whole and atomically, when that changes,
 * so that a MIG device can be resolved from the moment it is listed. The cdiVersion is the lowest
 * one that the content needs, because an old runtime rejects a newer number.
 *
 * Two of upstream's defects are mended: a GPU in MIG mode under strategy none has a name (D11), and
 * a MIG capability node that is not there yet is written with its numbers instead of left out.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "share/config.h"
#include "share/inventory.h"

#define CDI_VENDOR "k8s.device-plugin.nvidia.com"
#define CDI_DIR    "/var/run/cdi"

enum { CDI_MAX_SPEC_BYTES = 4 << 20, CDI_ARENA_BYTES = 32 << 20, CDI_N_CLASSES = 5 };

/* Where things are, as this process sees them. */
struct cdi_places {
    const char *root; /* /sys and /proc, and /dev where the driver root has none; NULL: "/" */
    const char *driver_root; /* the driver's files; NULL: the root */
};

struct cdi_file {
    const char *name; /* "k8s.device-plugin.nvidia.com-gpu.json" */
    struct span json;
};

struct cdi_set {
    size_t n;
    struct cdi_file files[CDI_N_CLASSES];
    const char *empty[CDI_N_CLASSES]; /* classes that were asked for and have no device */
    size_t n_empty;
};

/*
 * -ENOENT with upstream's sentence when the driver's files are not there (`unable to create cdi
 * spec file: failed to get CDI spec: libcuda.so.570.124.06: not found`); -ENOTSUP on other
 * platforms than NVML's; -EFBIG, -ENOMEM. All in the arena.
 */
[[nodiscard]] int cdi_make(const struct inventory *inventory, const struct config *config,
                           const struct cdi_places *places, struct arena *arena,
                           struct cdi_set *ret, struct err *err);

/* Makes the directory (0755) and replaces the files (0644) whose content is another one. */
[[nodiscard]] int cdi_write(const struct cdi_set *set, const char *dir, struct err *err);
