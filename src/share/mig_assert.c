/* mig_config_assert of mig_wish.h: is the node what the configuration says? */
#include <errno.h>
#include <stdio.h>

#include "share/mig_wish.h"

/* What a GPU has under one name. */
struct tally {
    struct mig_profile profile;
    uint64_t n;
};

struct tallies {
    size_t n;
    struct tally *items;
};

static bool matches(const struct mig_config_entry *entry, const struct mig_node *node, size_t gpu)
{
    return mig_config_matches(entry, (uint32_t)gpu, node->gpus[gpu].pci_device_id,
                              node->gpus[gpu].pci_subsystem_id);
}

static int differs(struct err *err, const char *reason)
{
    return err_set(err, ENODATA, "%s", reason);
}

/* ---- mode ---- */

static int assert_mode(const struct mig_config_entry *entry, const struct mig_gpu *gpu,
                       enum mig_assertion rule, struct err *err)
{
    bool passed_over = rule == MIG_ASSERT_OURS && entry->all_devices;

    if (gpu->problem)
        return err_set(err, ENODATA, "GPU %u: %s", gpu->index, gpu->problem);
    if (!gpu->capable)
        return entry->mig_enabled && !passed_over
                   ? differs(err, "unable to assert MIG mode enabled on non MIG-capable GPU")
                   : 0;
    if (gpu->enabled != entry->mig_enabled)
        return differs(err, "current mode different than mode being asserted");
    return 0;
}

static int assert_modes(const struct mig_config *config, const struct mig_node *node,
                        enum mig_assertion rule, struct err *err)
{
    size_t n_matched = 0;

    for (size_t i = 0; i < config->n_entries; i++)
        for (size_t k = 0; k < node->n_gpus; k++) {
            if (!matches(&config->entries[i], node, k))
                continue;
            int r = assert_mode(&config->entries[i], &node->gpus[k], rule, err);
            if (r < 0)
                return r;
            n_matched++;
        }
    if (rule == MIG_ASSERT_OURS && n_matched == 0 && node->n_gpus > 0)
        return differs(err, "no GPU matches the specified config");
    return 0;
}

/* ---- MIG devices ---- */

static int add(struct tallies *tallies, const struct mig_profile *profile, uint32_t n,
               struct arena *arena, struct err *err)
{
    for (size_t i = 0; i < tallies->n; i++)
        if (mig_profile_equal(&tallies->items[i].profile, profile)) {
            tallies->items[i].n += n;
            return 0;
        }
    struct tally *tally = arena_push(arena, &tallies->items, &tallies->n);
    if (!tally)
        return err_no_memory(err);
    *tally = (struct tally){ *profile, n };
    return 0;
}

static bool same(const struct tallies *a, const struct tallies *b)
{
    for (size_t i = 0; i < a->n; i++) {
        size_t k = 0;
        while (k < b->n && !mig_profile_equal(&a->items[i].profile, &b->items[k].profile))
            k++;
        if (k == b->n || a->items[i].n != b->items[k].n)
            return false;
    }
    return a->n == b->n;
}

/* By the names of this GPU: 1c.1g.5gb is 1g.5gb, an old name is the new one. 0: it has none that is
 * called so. */
static int tally_wanted(const struct mig_gpu *gpu, const struct mig_config_entry *entry,
                        struct tallies *ret, struct arena *arena, struct err *err)
{
    for (size_t i = 0; i < entry->n_counts; i++) {
        const struct mig_config_count *count = &entry->counts[i];
        const struct mig_gi_profile *found;
        uint32_t ci;
        if (count->count == 0)
            continue;
        if (!count->possible || mig_gpu_resolve(gpu, &count->parsed, &found, &ci, NULL) < 0)
            return 0;
        struct mig_profile profile = found->profile;
        profile.c = count->parsed.c;
        int r = add(ret, &profile, count->count, arena, err);
        if (r < 0)
            return r;
    }
    return 1;
}

/* GPU instances without compute instances are not counted, as upstream does not see them. */
static int tally_present(const struct mig_gpu *gpu, struct tallies *ret, struct arena *arena,
                         struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < gpu->n_gis; i++)
        for (size_t k = 0; k < gpu->gis[i].n_cis && r == 0; k++) {
            const struct mig_gi_profile *found = mig_gpu_profile(gpu, gpu->gis[i].gi_profile);
            struct mig_profile profile = found ? found->profile : (struct mig_profile){};
            profile.c = mig_ci_profile_slices(gpu->gis[i].cis[k].ci_profile);
            r = add(ret, &profile, 1, arena, err);
        }
    return r;
}

/* 1: it has what the entry wants; 0: it has not; -ENOMEM. */
static int has_wanted(const struct mig_gpu *gpu, const struct mig_config_entry *entry,
                      struct arena *arena, struct err *err)
{
    struct tallies wanted = {}, present = {};

    if (gpu->problem || !gpu->capable)
        return !gpu->problem && !entry->mig_enabled;
    if (!entry->mig_enabled)
        return !gpu->enabled;
    int known = tally_wanted(gpu, entry, &wanted, arena, err);
    int r = known > 0 ? tally_present(gpu, &present, arena, err) : known;
    return r < 0 ? r : known > 0 && gpu->enabled && same(&wanted, &present);
}

static const struct mig_config_entry *last_entry(const struct mig_config *config,
                                                 const struct mig_node *node, size_t gpu)
{
    for (size_t i = config->n_entries; i > 0; i--)
        if (matches(&config->entries[i - 1], node, gpu))
            return &config->entries[i - 1];
    return NULL;
}

/* Whether the rule looks at the GPU at all. */
static bool is_asked(const struct mig_gpu *gpu, const struct mig_config_entry *entry,
                     enum mig_assertion rule)
{
    return rule == MIG_ASSERT_NVIDIAS || (entry && (gpu->capable || gpu->problem));
}

static int assert_devices(const struct mig_config *config, const struct mig_node *node,
                          enum mig_assertion rule, struct arena *arena, struct err *err)
{
    for (size_t i = 0; i < node->n_gpus; i++) {
        const struct mig_config_entry *entry = last_entry(config, node, i);
        if (!is_asked(&node->gpus[i], entry, rule))
            continue;
        int r = entry ? has_wanted(&node->gpus[i], entry, arena, err) : 0;
        if (r < 0)
            return r;
        if (r == 0)
            return differs(err, "not all GPUs match the specified config");
    }
    return 0;
}

int mig_config_assert(const struct mig_config *config, const struct mig_node *node,
                      enum mig_assertion rule, enum mig_scope scope, struct arena *arena,
                      struct err *err)
{
    int r = assert_modes(config, node, rule, err);

    if (r == 0 && scope == MIG_SCOPE_ALL)
        r = assert_devices(config, node, rule, arena, err);
    return r;
}
