/* mig_export_write of mig_documents.h: what a node is divided into, as a configuration. */
#include <errno.h>
#include <stdio.h>

#include "share/mig_config_write.h"
#include "share/mig_documents.h"

enum { EXPORT_ARENA_BYTES = 1 << 20 };

struct exporter {
    const struct mig_node *node;
    struct arena *arena;
    struct mig_config config;      /* one entry for each way in which a GPU is divided */
    size_t entry_of[MIG_MAX_GPUS]; /* of each GPU; UNREAD for one that cannot be read */
    size_t n_unread;
    struct err *err;
};

static const size_t UNREAD = SIZE_MAX;

/* ---- one GPU ---- */

static struct mig_config_count *count_of(const struct mig_config_entry *entry, const char *profile)
{
    for (size_t i = 0; i < entry->n_counts; i++)
        if (text_equal(entry->counts[i].profile, profile))
            return &entry->counts[i];
    return NULL;
}

static int count_device(struct exporter *exporter, struct mig_config_entry *entry, const char *name)
{
    struct mig_config_count *count = count_of(entry, name);

    if (!count) {
        count = arena_push(exporter->arena, &entry->counts, &entry->n_counts);
        const char *copy = arena_strdup(exporter->arena, name);
        if (!count || !copy)
            return err_no_memory(exporter->err);
        count->profile = copy;
    }
    count->count++;
    return 0;
}

/* GPU instances without compute instances are no devices, and are lost here as they are upstream.
 */
static int count_devices(struct exporter *exporter, const struct mig_gpu *gpu,
                         struct mig_config_entry *entry)
{
    char name[MIG_PROFILE_NAME_MAX];
    int r = 0;

    entry->mig_enabled = gpu->capable && gpu->enabled;
    for (size_t i = 0; entry->mig_enabled && i < gpu->n_gis; i++)
        for (size_t k = 0; k < gpu->gis[i].n_cis && r == 0; k++) {
            mig_device_name(gpu, &gpu->gis[i], &gpu->gis[i].cis[k], name);
            r = count_device(exporter, entry, name);
        }
    return r;
}

static bool same_division(const struct mig_config_entry *a, const struct mig_config_entry *b)
{
    if (a->mig_enabled != b->mig_enabled || a->n_counts != b->n_counts)
        return false;
    for (size_t i = 0; i < a->n_counts; i++) {
        const struct mig_config_count *other = count_of(b, a->counts[i].profile);
        if (!other || other->count != a->counts[i].count)
            return false;
    }
    return true;
}

/* Finds the entry that the GPU belongs to, or makes one. */
static int place_gpu(struct exporter *exporter, size_t gpu)
{
    struct mig_config *config = &exporter->config;
    struct mig_config_entry own = {};
    size_t e = 0;

    if (exporter->node->gpus[gpu].problem) {
        exporter->n_unread++;
        exporter->entry_of[gpu] = UNREAD;
        return 0;
    }
    int r = count_devices(exporter, &exporter->node->gpus[gpu], &own);
    if (r < 0)
        return r;
    while (e < config->n_entries && !same_division(&config->entries[e], &own))
        e++;
    if (e == config->n_entries) {
        struct mig_config_entry *entry =
            arena_push(exporter->arena, &config->entries, &config->n_entries);
        if (!entry)
            return err_no_memory(exporter->err);
        *entry = own;
    }
    exporter->entry_of[gpu] = e;
    return 0;
}

/* ---- which GPUs an entry is about ---- */

static int compare_filters(const void *a, const void *b)
{
    const struct mig_config_filter *x = a, *y = b;

    return (x->device_id > y->device_id) - (x->device_id < y->device_id);
}

static bool has_filter(const struct mig_config_entry *entry, uint32_t device_id)
{
    for (size_t i = 0; i < entry->n_filters; i++)
        if (entry->filters[i].device_id == device_id)
            return true;
    return false;
}

static int add_filter(struct exporter *exporter, struct mig_config_entry *entry, uint32_t device_id)
{
    if (has_filter(entry, device_id))
        return 0;
    struct mig_config_filter *filter =
        arena_push(exporter->arena, &entry->filters, &entry->n_filters);
    const char *text = arena_printf(exporter->arena, "0x%08X", device_id);
    if (!filter || !text)
        return err_no_memory(exporter->err);
    *filter = (struct mig_config_filter){ .text = text, .valid = true, .device_id = device_id };
    return 0;
}

/* Whether `devices: all` would mean this GPU, too. Of one that cannot be read perhaps not even the
 * kind is known. */
static bool may_be_meant(const struct exporter *exporter, const struct mig_config_entry *entry,
                         size_t gpu)
{
    uint32_t device_id = exporter->node->gpus[gpu].pci_device_id;

    return has_filter(entry, device_id) || (exporter->entry_of[gpu] == UNREAD && device_id == 0);
}

/* The kinds of GPU in the entry, and their indices unless it has all GPUs of these kinds. */
static int list_gpus(struct exporter *exporter, size_t e)
{
    const struct mig_node *node = exporter->node;
    struct mig_config_entry *entry = &exporter->config.entries[e];
    size_t n_of_these_kinds = 0;
    int r = 0;

    for (size_t i = 0; i < node->n_gpus && r == 0; i++) {
        if (exporter->entry_of[i] != e)
            continue;
        int64_t *index = arena_push(exporter->arena, &entry->devices, &entry->n_devices);
        if (!index)
            return err_no_memory(exporter->err);
        *index = (int64_t)i;
        r = add_filter(exporter, entry, node->gpus[i].pci_device_id);
    }
    for (size_t i = 0; i < node->n_gpus; i++)
        n_of_these_kinds += may_be_meant(exporter, entry, i);
    entry->all_devices = n_of_these_kinds == entry->n_devices;
    if (entry->all_devices)
        entry->n_devices = 0;
    qsort(entry->filters, entry->n_filters, sizeof(*entry->filters), compare_filters);
    return r;
}

static bool all_of_one_kind(const struct mig_node *node)
{
    for (size_t i = 1; i < node->n_gpus; i++)
        if (node->gpus[i].pci_device_id != node->gpus[0].pci_device_id)
            return false;
    return true;
}

/* A filter that tells nothing is left out. */
static void drop_filters(struct exporter *exporter)
{
    struct mig_config *config = &exporter->config;
    bool alone = config->n_entries == 1 && exporter->n_unread == 0;

    for (size_t i = 0; i < config->n_entries; i++)
        if (alone || all_of_one_kind(exporter->node))
            config->entries[i].n_filters = 0;
}

int mig_export_write(const struct mig_node *node, const char *label,
                     enum mig_document_format format, struct buf *out, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(EXPORT_ARENA_BYTES);
    struct exporter exporter = { .node = node, .arena = &arena, .err = err };
    struct mig_config_file file = { .n_configs = 1, .configs = &exporter.config };
    int r = 0;

    exporter.config.name = label;
    for (size_t i = 0; i < node->n_gpus && r == 0; i++)
        r = place_gpu(&exporter, i);
    for (size_t i = 0; i < exporter.config.n_entries && r == 0; i++)
        r = list_gpus(&exporter, i);
    if (r < 0)
        return r;
    drop_filters(&exporter);
    return mig_config_write(&file, format, MIG_HAND_EXPORT, out, err);
}
