/* mig_generate_write of mig_documents.h: the configurations that the GPUs of this node can have,
 * as their driver tells (spec/mig §4.10). */
#include <errno.h>
#include <stdio.h>

#include "share/mig_config_write.h"
#include "share/mig_documents.h"

enum { GENERATE_ARENA_BYTES = 4 << 20, A30_DEVICE_ID = 0x20B710DE };

#define PREFIX "error generating MIG config: failed to discover MIG profiles: "

/* A way to divide a kind of GPU: `max` instances of one profile. */
struct offer {
    const char *name;
    uint32_t slices, max;
    bool plain; /* no attributes: it takes part in all-balanced */
};

/* GPUs of one PCI device id; the first one that was found speaks for all. */
struct kind {
    uint32_t device_id;
    size_t n_offers;
    struct offer offers[MIG_MAX_GI_PROFILES];
};

struct generator {
    struct arena *arena;
    size_t n_kinds;
    struct kind *kinds; /* by device id */
    struct mig_config_file file;
    bool failed; /* for memory */
};

/* ---- what the GPUs offer ---- */

/* The driver counts wrong on an A30 (spec/mig §2.3). */
static const struct offer a30_offers[] = {
    { "1g.6gb", 1, 4, true },      { "1g.6gb+me", 1, 1, false }, { "2g.12gb", 2, 2, true },
    { "2g.12gb+me", 2, 1, false }, { "4g.24gb", 4, 1, true },
};

static bool has_offer(const struct kind *kind, const char *name)
{
    for (size_t i = 0; i < kind->n_offers; i++)
        if (text_equal(kind->offers[i].name, name))
            return true;
    return false;
}

static void list_offers(struct kind *kind, const struct mig_gpu *gpu)
{
    if (gpu->pci_device_id == A30_DEVICE_ID) {
        memcpy(kind->offers, a30_offers, sizeof(a30_offers));
        kind->n_offers = ARRAY_LEN(a30_offers);
        return;
    }
    for (size_t i = 0; i < gpu->n_profiles; i++) {
        const struct mig_gi_profile *profile = &gpu->profiles[i];
        if (!has_offer(kind, profile->name))
            kind->offers[kind->n_offers++] =
                (struct offer){ profile->name, profile->slices, profile->max_instances,
                                profile->profile.attributes == 0 };
    }
}

static bool has_kind(const struct generator *generator, uint32_t device_id)
{
    for (size_t i = 0; i < generator->n_kinds; i++)
        if (generator->kinds[i].device_id == device_id)
            return true;
    return false;
}

static int compare_kinds(const void *a, const void *b)
{
    const struct kind *x = a, *y = b;

    return (x->device_id > y->device_id) - (x->device_id < y->device_id);
}

static int discover(struct generator *generator, const struct mig_node *node, struct err *err)
{
    size_t n_capable = 0;

    generator->kinds = arena_new_array(generator->arena, struct kind, node->n_gpus);
    if (!generator->kinds)
        return err_no_memory(err);
    for (size_t i = 0; i < node->n_gpus; i++) {
        const struct mig_gpu *gpu = &node->gpus[i];
        struct kind *kind = &generator->kinds[generator->n_kinds];
        if (gpu->problem)
            return err_set(err, EIO, PREFIX "error getting device handle for index '%u': %s",
                           gpu->index, gpu->problem);
        n_capable += gpu->capable;
        if (!gpu->capable || has_kind(generator, gpu->pci_device_id))
            continue;
        kind->device_id = gpu->pci_device_id;
        list_offers(kind, gpu);
        generator->n_kinds += kind->n_offers > 0;
    }
    if (n_capable == 0)
        return err_set(err, ENODEV, PREFIX "no MIG-capable devices found on the system");
    if (generator->n_kinds == 0)
        return err_set(err, ENODATA, PREFIX "no MIG profiles discovered for MIG-capable GPUs");
    qsort(generator->kinds, generator->n_kinds, sizeof(*generator->kinds), compare_kinds);
    return 0;
}

/* ---- the configurations ---- */

static void *hold(struct generator *generator, void *thing)
{
    generator->failed |= !thing;
    return thing;
}

static struct mig_config *add_config(struct generator *generator, const char *name)
{
    struct mig_config_file *file = &generator->file;
    struct mig_config *config =
        hold(generator, arena_push(generator->arena, &file->configs, &file->n_configs));

    if (config)
        config->name = name;
    return config;
}

static struct mig_config_entry *add_entry(struct generator *generator, struct mig_config *config,
                                          bool mig_enabled)
{
    struct mig_config_entry *entry =
        hold(generator, arena_push(generator->arena, &config->entries, &config->n_entries));

    if (entry)
        *entry = (struct mig_config_entry){ .all_devices = true, .mig_enabled = mig_enabled };
    return entry;
}

static void add_count(struct generator *generator, struct mig_config_entry *entry,
                      const char *profile, uint32_t n)
{
    struct mig_config_count *count =
        hold(generator, arena_push(generator->arena, &entry->counts, &entry->n_counts));

    if (count)
        *count = (struct mig_config_count){ .profile = profile, .count = n };
}

/* With one kind of GPU there is nothing to tell apart. */
static void add_filter(struct generator *generator, struct mig_config_entry *entry,
                       uint32_t device_id)
{
    if (generator->n_kinds == 1)
        return;
    struct mig_config_filter *filter =
        hold(generator, arena_push(generator->arena, &entry->filters, &entry->n_filters));
    if (filter)
        filter->text = hold(generator, arena_printf(generator->arena, "0x%08X", device_id));
}

static uint32_t max_of(const struct kind *kind, const char *profile)
{
    for (size_t i = 0; i < kind->n_offers; i++)
        if (text_equal(kind->offers[i].name, profile))
            return kind->offers[i].max;
    return 0;
}

/* The smallest count above `above` that a kind has of it; 0: none. */
static uint32_t next_max(const struct generator *generator, const char *profile, uint32_t above)
{
    uint32_t next = 0;

    for (size_t i = 0; i < generator->n_kinds; i++) {
        uint32_t max = max_of(&generator->kinds[i], profile);
        if (max > above && (next == 0 || max < next))
            next = max;
    }
    return next;
}

static bool is_done(const struct generator *generator, const char *name)
{
    for (size_t i = 0; i < generator->file.n_configs; i++)
        if (text_equal(generator->file.configs[i].name, name))
            return true;
    return false;
}

/* all-PROFILE: as many as fit, an entry for each number of them. */
static void add_full(struct generator *generator, const char *profile)
{
    char form[MIG_PROFILE_NAME_MAX];

    mig_profile_resource_form(profile, form);
    const char *name = hold(generator, arena_printf(generator->arena, "all-%s", form));
    if (!name || is_done(generator, name))
        return;
    struct mig_config *config = add_config(generator, name);
    uint32_t max = 0;
    while (config && (max = next_max(generator, profile, max)) > 0) {
        struct mig_config_entry *entry = add_entry(generator, config, true);
        for (size_t i = 0; entry && i < generator->n_kinds; i++)
            if (max_of(&generator->kinds[i], profile) == max)
                add_filter(generator, entry, generator->kinds[i].device_id);
        if (entry)
            add_count(generator, entry, profile, max);
    }
}

/* The plain profile of so many slices of which most fit: 1g.10gb, not 1g.20gb. */
static const struct offer *plain_offer(const struct kind *kind, uint32_t slices)
{
    const struct offer *best = NULL;

    for (size_t i = 0; i < kind->n_offers; i++) {
        const struct offer *offer = &kind->offers[i];
        if (offer->plain && offer->slices == slices && (!best || offer->max > best->max))
            best = offer;
    }
    return best;
}

/* Instances of 1, 2 and 3 slices that fill boards of seven and of four; other boards have no
 * balanced division. */
static bool balance(const struct kind *kind, uint32_t ret_counts[4])
{
    uint32_t slices = 0;

    for (size_t i = 0; i < kind->n_offers; i++)
        if (kind->offers[i].plain)
            slices = MAX(slices, kind->offers[i].slices);
    ret_counts[1] = 2;
    ret_counts[2] = 1;
    ret_counts[3] = slices == 7;
    for (uint32_t g = 1; g <= 3; g++)
        if (ret_counts[g] > 0 && !plain_offer(kind, g))
            return false;
    return slices == 7 || slices == 4;
}

static void add_balanced(struct generator *generator)
{
    struct mig_config *config = NULL;
    uint32_t counts[4];

    for (size_t i = 0; i < generator->n_kinds; i++) {
        const struct kind *kind = &generator->kinds[i];
        if (!balance(kind, counts))
            continue;
        config = config ?: add_config(generator, "all-balanced");
        struct mig_config_entry *entry = config ? add_entry(generator, config, true) : NULL;
        if (!entry)
            return;
        add_filter(generator, entry, kind->device_id);
        for (uint32_t g = 1; g <= 3; g++)
            if (counts[g] > 0)
                add_count(generator, entry, plain_offer(kind, g)->name, counts[g]);
    }
}

static void add_empty(struct generator *generator, const char *name, bool mig_enabled)
{
    struct mig_config *config = add_config(generator, name);

    if (config)
        add_entry(generator, config, mig_enabled);
}

int mig_generate_write(const struct mig_node *node, enum mig_document_format format,
                       struct buf *out, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(GENERATE_ARENA_BYTES);
    struct generator generator = { .arena = &arena };
    int r = discover(&generator, node, err);

    if (r < 0)
        return r;
    add_empty(&generator, "all-disabled", false);
    add_empty(&generator, "all-enabled", true);
    add_balanced(&generator);
    for (size_t i = 0; i < generator.n_kinds; i++)
        for (size_t k = 0; k < generator.kinds[i].n_offers; k++)
            add_full(&generator, generator.kinds[i].offers[k].name);
    if (generator.failed)
        return err_no_memory(err);
    return mig_config_write(&generator.file, format, MIG_HAND_GENERATE, out, err);
}
