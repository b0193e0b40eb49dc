#include "share/sharing.h"

#include <errno.h>
#include <stdio.h>

#include "base/text.h"

/* What one call works on. */
struct assignment {
    struct offer *offers;
    size_t n_offers;
    struct arena *arena;
    struct sharing_notes *notes;
};

/* ---- one rule for all devices of a resource ---- */

static const struct shared_resource *largest_entry(const struct sharing *sharing,
                                                   const char *resource)
{
    const struct shared_resource *best = NULL;

    for (size_t i = 0; i < sharing->n_resources; i++) {
        const struct shared_resource *entry = &sharing->resources[i];
        if (text_equal(entry->name, resource) && (!best || entry->replicas > best->replicas))
            best = entry;
    }
    return best;
}

/* ---- each device by the entry that selects it ---- */

static bool is_of(const struct offer *offer, const struct shared_resource *entry)
{
    return text_equal(offer->resource, entry->name);
}

static int take_listed(struct assignment *all, const struct shared_resource *entry,
                       const struct device_ref *ref, struct err *err)
{
    bool by_uuid = ref->kind == DEVICE_REF_UUID;
    char index[24];

    if (ref->kind == DEVICE_REF_GPU_INDEX)
        snprintf(index, sizeof(index), "%u", ref->gpu_index);
    else
        snprintf(index, sizeof(index), "%u:%u", ref->gpu_index, ref->mig_index);
    const char *wanted = by_uuid ? ref->uuid : index;

    for (size_t i = 0; i < all->n_offers; i++) {
        struct offer *offer = &all->offers[i];
        if (!text_equal(by_uuid ? offer->id : offer->index, wanted) || !is_of(offer, entry))
            continue;
        if (offer->entry && offer->entry != entry)
            return err_set(err, EINVAL, "device %s is listed by two entries", wanted);
        offer->entry = entry;
        return 0;
    }
    return err_set(err, EINVAL,
                   by_uuid ? "no matching device with UUID: %s" : "no matching device at index: %s",
                   wanted);
}

static int take_list(struct assignment *all, const struct shared_resource *entry, struct err *err)
{
    for (size_t i = 0; i < entry->devices.n_refs; i++) {
        int r = take_listed(all, entry, &entry->devices.refs[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The first `count` devices of the resource that nobody has yet; returns how many there were. */
static size_t take_free(struct assignment *all, const struct shared_resource *entry, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < all->n_offers && n < count; i++) {
        struct offer *offer = &all->offers[i];
        if (offer->entry || !is_of(offer, entry))
            continue;
        offer->entry = entry;
        n++;
    }
    return n;
}

static int take_count(struct assignment *all, const struct shared_resource *entry, struct err *err)
{
    size_t n = take_free(all, entry, entry->devices.count);

    if (n < entry->devices.count)
        return err_set(err, EINVAL,
                       "requested %u devices to be replicated, but only %zu devices available",
                       entry->devices.count, n);
    return 0;
}

static int take_rest(struct assignment *all, const struct shared_resource *entry, struct err *err)
{
    if (take_free(all, entry, SIZE_MAX) > 0)
        return 0;
    const char **note = arena_push(all->arena, &all->notes->items, &all->notes->n);
    if (!note)
        return err_no_memory(err);
    *note = arena_printf(all->arena,
                         "%u:%u: the entry for %s gets no device: other entries took them all",
                         entry->place.line, entry->place.column, entry->name);
    return *note ? 0 : err_no_memory(err);
}

static bool is_on_node(const struct assignment *all, const struct shared_resource *entry)
{
    for (size_t i = 0; i < all->n_offers; i++)
        if (is_of(&all->offers[i], entry))
            return true;
    return false;
}

static int take(struct assignment *all, const struct shared_resource *entry, struct err *err)
{
    int r;

    if (!is_on_node(all, entry))
        return 0;
    if (entry->devices.kind == SELECT_LIST)
        r = take_list(all, entry, err);
    else if (entry->devices.kind == SELECT_COUNT)
        r = take_count(all, entry, err);
    else
        r = take_rest(all, entry, err);
    if (r == -EINVAL)
        return err_wrap(err, r, "unable to get IDs of devices to replicate for '%s' resource",
                        entry->name);
    return r;
}

int sharing_assign(const struct sharing *sharing, struct offer *offers, size_t n_offers,
                   struct arena *arena, struct sharing_notes *notes, struct err *err)
{
    /* What is said most exactly goes first. */
    static const int kinds[] = { SELECT_LIST, SELECT_COUNT, SELECT_ALL };
    struct assignment all = { offers, n_offers, arena, notes };

    *notes = (struct sharing_notes){};
    for (size_t i = 0; i < n_offers; i++)
        offers[i].entry = sharing->per_device ? NULL : largest_entry(sharing, offers[i].resource);
    if (!sharing->per_device)
        return 0;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        for (size_t i = 0; i < sharing->n_resources; i++) {
            const struct shared_resource *entry = &sharing->resources[i];
            int r = (int)entry->devices.kind == kinds[k] ? take(&all, entry, err) : 0;
            if (r < 0)
                return r;
        }
    }
    return 0;
}
