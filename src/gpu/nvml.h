/*
 * The door to NVML: finds the driver's library, loads it, counts who uses it, and turns its codes
 * into errno and words. Nobody links it, and no NVML type passes this door: other rooms see the
 * structs of share/inventory.h.
 *
 * A struct nvml is shared by reference (nvml_ref, nvml_unref; any thread), because a call that
 * hangs may outlive everybody who wanted its answer. The library is unloaded with the last
 * reference. Between nvml_init and nvml_shutdown, which count, calls may be made from any thread;
 * both may take seconds, so a loop leaves them to a worker.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct nvml;

/* What upstream prints where there is no library at all (spec/device-plugin §2.8). */
#define NVML_NO_LIBRARY_TEXT "ERROR_LIBRARY_NOT_FOUND"

/*
 * Looks for libnvidia-ml.so.1 in the library folders of `driver_root` (spec/device-plugin §2.8,
 * symlinks resolved), then asks the loader. NULL or "": only the loader.
 * -ENOENT: no such library, or one that cannot be loaded; -ELIBBAD: not NVML.
 */
[[nodiscard]] int nvml_open(const char *driver_root, struct nvml **ret, struct err *err);
struct nvml *nvml_ref(struct nvml *nvml);
void nvml_unref(struct nvml *nvml); /* NULL is fine */
DEFINE_FREEP(struct nvml, nvml_unref)

/* The file that was loaded. */
const char *nvml_path(const struct nvml *nvml);

/* The sentence is NVML's own ("Driver Not Loaded"), without anything before it. -ENXIO: no driver;
 * -ELIBBAD: library and driver do not match; others as nvml_errno says. Holds a reference too. */
[[nodiscard]] int nvml_init(struct nvml *nvml, struct err *err);
void nvml_shutdown(struct nvml *nvml);

/* Once initialised: 12 of NVML 12.570.124.06; 0 where it does not tell. Before 11, that is R450,
 * it knows nothing of MIG. */
unsigned nvml_major(const struct nvml *nvml);

/* Ends NVML's session for a while, as for a reset of a GPU, which an open session refuses; the
 * users stay counted. No other thread may be in a call, and nobody calls anything before
 * nvml_resume. All handles are void afterwards. Resuming fails as nvml_init does. */
void nvml_pause(struct nvml *nvml);
[[nodiscard]] int nvml_resume(struct nvml *nvml, struct err *err);

/* For a library in the folders of a driver root, as nvml_open looks: its resolved path in `path`,
 * or -ENOENT. */
[[nodiscard]] int nvml_find_library(const char *driver_root, const char *name, char *path,
                                    size_t size);
