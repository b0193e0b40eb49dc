/*
 * Which sharing entry holds for which device (spec/device-plugin §2.4 – §2.6): the one place that
 * reads a config's shared resources, so that resources and labels cannot disagree.
 *
 * Ordinarily an entry holds for every device of the resource it names; of several entries for one
 * resource the one with the most replicas counts. With sharing.per_device an entry holds for what
 * its `devices:` select among the devices that no other entry took: first the entries that list
 * devices, then those that count them, then those for all, each kind in the order of the file.
 */
#pragma once

#include "share/config.h"

struct sharing_device {
    const char *resource; /* "nvidia.com/gpu" */
    const char *id, *index;
    const struct shared_resource *entry; /* filled in; NULL: not shared */
};

struct sharing_notes {
    size_t n;
    const char **items; /* an entry that came too late to get any device; in the arena */
};

/*
 * Fills in every device's entry. -EINVAL with upstream's sentence (`unable to get IDs of devices to
 * replicate for 'nvidia.com/gpu' resource: no matching device at index: 3`), also when two entries
 * list the same device. An entry for a resource that no device has is ignored.
 */
[[nodiscard]] int sharing_assign(const struct sharing *sharing, struct sharing_device *devices,
                                 size_t n_devices, struct arena *arena, struct sharing_notes *notes,
                                 struct err *err);

/* Under which name a device with this entry (or none: NULL) is advertised. */
static inline const char *sharing_name(const struct shared_resource *entry, const char *resource)
{
    return entry && entry->rename ? entry->rename : resource;
}
