/*
 * The files that belong to a GPU beside NVML: sysfs, device nodes, the machine's name
 * (spec/nvml §9, spec/device-plugin §4.1, §4.6, §4.7).
 *
 * Everything is read below a root that the caller holds open (devnode_root), so that a simulated
 * node, or the host seen from a container, can be looked at the same way. Files come from outside:
 * all have a ceiling, and what makes no sense is taken as not being there, never guessed at.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "share/inventory.h"

/* A directory fd for "/" or a prefix; *ret is the caller's to close. */
[[nodiscard]] int devnode_root(const char *root, int *ret, struct err *err);

/* Any of NVML's spellings ("00000000:3B:00.0", "0000:3b:00.0") in that of sysfs: "0000:3b:00.0".
 * False, and "" in `name`, when it is no PCI address. */
enum { PCI_NAME_SIZE = 24 };
bool pci_name_from_nvml(const char *bus_id, char name[static PCI_NAME_SIZE]);

/* At most size - 1 bytes of a file, NUL-terminated: their number, or a negative errno. */
[[nodiscard]] ssize_t devnode_read(int dir, const char *path, char *content, size_t size);

/* A file of a PCI device that holds a number; unknown when it does not. */
#define PCI_DEVICES "sys/bus/pci/devices"
struct reading devnode_pci_number(int root, const char *pci_name, const char *file);
/* Of a PCI device by its sysfs name. Unknown: unreadable, not a number, or (NUMA) negative. */
struct reading devnode_numa_node(int root, const char *pci_name);
struct reading devnode_pci_class(int root, const char *pci_name);

/* "/dev/nvidia-caps/nvidia-cap12"; NULL for minor 0. -ENOMEM only. */
[[nodiscard]] int devnode_cap_path(struct arena *arena, uint32_t minor, const char **ret,
                                   struct err *err);

/*
 * Which optional nodes the inventory's fields speak of exist. Looked for below <driver root>/dev
 * where that is a directory (spec/device-plugin §2.8), and below the root; control nodes only
 * there. driver_root may be NULL or "".
 */
[[nodiscard]] int devnode_read_node(int root, const char *driver_root, struct inventory *inventory,
                                    struct err *err);

/* DMI's product name, below the root. */
#define MACHINE_FILE "sys/class/dmi/id/product_name"

/*
 * The trimmed content of the machine-type file in the arena, NULL when it cannot be read. A NULL
 * `file` is DMI's product name below the root; a path of the user's own is taken as it stands, and
 * "" is no file.
 */
[[nodiscard]] int devnode_machine(int root, const char *file, struct arena *arena, const char **ret,
                                  struct err *err);
