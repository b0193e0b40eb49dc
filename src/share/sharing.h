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

#include "share/offer.h"

struct sharing_notes {
    size_t n;
    const char **items; /* an entry that came too late to get any device; in the arena */
};

/*
 * Fills in every offer's entry. -EINVAL with upstream's sentence (`unable to get IDs of devices to
 * replicate for 'nvidia.com/gpu' resource: no matching device at index: 3`), also when two entries
 * list the same device. An entry for a resource that no device has is ignored.
 */
[[nodiscard]] int sharing_assign(const struct sharing *sharing, struct offer *offers,
                                 size_t n_offers, struct arena *arena, struct sharing_notes *notes,
                                 struct err *err);

/* Of an offer whose entry is known: under which name it is advertised, and how many times. */
static inline const char *sharing_name(const struct offer *offer)
{
    return offer->entry && offer->entry->rename ? offer->entry->rename : offer->resource;
}

static inline uint32_t sharing_replicas(const struct offer *offer)
{
    return offer->entry ? offer->entry->replicas : 1;
}
