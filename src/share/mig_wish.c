#include "share/mig_wish.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* What one entry of the configuration comes to on this node. */
struct reading {
    bool made;      /* its wants are */
    size_t n_wants; /* merged, without those of count 0 */
    struct mig_want *wants;
    const char *where; /* "config.yaml:7:9" */
};

struct wisher {
    const struct mig_config *config;
    const struct mig_node *node;
    enum mig_manners manners;
    enum mig_scope scope;
    struct arena *arena;
    struct reading *readings; /* one for each entry */
    struct mig_wishes *ret;
    struct err *err;
};

/* ---- sentences ---- */

/* Without a file's name a place is just a line; without a line there is only the name. */
static const char *place_text(struct wisher *wisher, struct place place)
{
    const char *file = wisher->config->file;

    if (place.line == 0)
        return file ? file : wisher->config->name;
    return file ? arena_printf(wisher->arena, "%s:%u:%u", file, place.line, place.column)
                : arena_printf(wisher->arena, "line %u", place.line);
}

/* `config.yaml:7:9: the sentence`; returns -code. */
PRINTF(4, 5)
static int refuse(struct wisher *wisher, int code, struct place place, const char *format, ...)
{
    const char *where = place_text(wisher, place);
    char text[700];
    va_list args;

    if (!where)
        return err_no_memory(wisher->err);
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return err_set(wisher->err, code, "%s: %s", where, text);
}

PRINTF(3, 4)
static int warn(struct wisher *wisher, struct place place, const char *format, ...)
{
    struct mig_wishes *ret = wisher->ret;
    const char *where = place_text(wisher, place);
    char text[700];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    const char **slot = arena_push(wisher->arena, &ret->warnings, &ret->n_warnings);
    if (!slot || !where)
        return err_no_memory(wisher->err);
    *slot = arena_printf(wisher->arena, "%s: %s", where, text);
    return *slot ? 0 : err_no_memory(wisher->err);
}

/* What a strict reading refuses, a lenient one only notes. */
#define OVERLOOK(wisher, code, place, ...)                                                         \
    ((wisher)->manners == MIG_STRICT ? refuse((wisher), (code), (place), __VA_ARGS__)              \
                                     : warn((wisher), (place), __VA_ARGS__))

static const char *name_of(const struct mig_gpu *gpu)
{
    return gpu->name ?: "GPU without a name";
}

/* ---- which entry is about which GPU ---- */

static bool matches(const struct wisher *wisher, size_t entry, size_t gpu)
{
    const struct mig_gpu *of = &wisher->node->gpus[gpu];

    return mig_config_matches(&wisher->config->entries[entry], (uint32_t)gpu, of->pci_device_id,
                              of->pci_subsystem_id);
}

/* The last one counts; n_entries: there is none. */
static size_t last_entry(const struct wisher *wisher, size_t gpu)
{
    for (size_t i = wisher->config->n_entries; i > 0; i--)
        if (matches(wisher, i - 1, gpu))
            return i - 1;
    return wisher->config->n_entries;
}

/* Indices that no GPU has. */
static int check_indices(struct wisher *wisher, const struct mig_config_entry *entry)
{
    size_t n = wisher->node->n_gpus;
    int r = 0;

    for (size_t i = 0; i < entry->n_devices && r == 0; i++) {
        if (entry->devices[i] >= 0 && (uint64_t)entry->devices[i] < n)
            continue;
        if (n == 0)
            r = OVERLOOK(wisher, ENODEV, entry->place,
                         "no GPU has the index %" PRId64 "; this node has none", entry->devices[i]);
        else
            r = OVERLOOK(wisher, ENODEV, entry->place,
                         "no GPU has the index %" PRId64 "; this node has 0 to %zu",
                         entry->devices[i], n - 1);
    }
    return r;
}

/* Two entries about one GPU that can do MIG: when they disagree about its mode, upstream changes
 * some GPUs and then always fails (spec/mig §4.3), so this is refused in both manners. */
static int check_agreement(struct wisher *wisher, size_t gpu, size_t last)
{
    const struct mig_config_entry *entries = wisher->config->entries;
    int r = 0;

    for (size_t i = 0; i < last && r == 0; i++) {
        if (!matches(wisher, i, gpu))
            continue;
        if (entries[i].mig_enabled != entries[last].mig_enabled)
            r = refuse(wisher, EINVAL, entries[last].place,
                       "wants MIG %s for GPU %zu, and the entry in line %u wants it %s",
                       entries[last].mig_enabled ? "on" : "off", gpu, entries[i].place.line,
                       entries[i].mig_enabled ? "on" : "off");
        else if (entries[i].mig_enabled && wisher->scope == MIG_SCOPE_ALL)
            r = warn(wisher, entries[i].place, "what line %u says of GPU %zu counts, not this",
                     entries[last].place.line, gpu);
    }
    return r;
}

/* A GPU without MIG: `devices: all` does not mean it, a list of indices does. */
static int check_incapable(struct wisher *wisher, size_t gpu)
{
    const struct mig_gpu *of = &wisher->node->gpus[gpu];
    bool passed_over = false;

    for (size_t i = 0; i < wisher->config->n_entries; i++) {
        const struct mig_config_entry *entry = &wisher->config->entries[i];
        if (!entry->mig_enabled || !matches(wisher, i, gpu))
            continue;
        if (!entry->all_devices)
            return refuse(wisher, ENOTSUP, entry->place,
                          "cannot set MIG mode on non MIG-capable GPU: GPU %zu is a %s", gpu,
                          name_of(of));
        passed_over = true;
    }
    if (!passed_over)
        return 0;
    return warn(wisher, wisher->config->place, "GPU %zu, a %s, cannot do MIG and is left alone",
                gpu, name_of(of));
}

/* ---- what an entry wants ---- */

static int add_want(struct wisher *wisher, struct reading *reading,
                    const struct mig_config_count *count)
{
    for (size_t i = 0; i < reading->n_wants; i++)
        if (mig_profile_equal(&reading->wants[i].profile, &count->parsed)) {
            uint64_t sum = (uint64_t)reading->wants[i].count + count->count;
            reading->wants[i].count = (uint32_t)MIN(sum, (uint64_t)UINT32_MAX);
            return 0;
        }
    if (reading->n_wants == MIG_MAX_WANTS)
        return refuse(wisher, EINVAL, count->place, "more than %d different profiles",
                      MIG_MAX_WANTS);
    struct mig_want *want = arena_push(wisher->arena, &reading->wants, &reading->n_wants);
    if (!want)
        return err_no_memory(wisher->err);
    *want = (struct mig_want){
        .name = count->profile,
        .profile = count->parsed,
        .count = count->count,
    };
    return 0;
}

static bool knows(const struct mig_gpu *gpu, const struct mig_config_count *count, struct err *err)
{
    const struct mig_gi_profile *profile;
    uint32_t ci;

    return mig_gpu_resolve(gpu, &count->parsed, &profile, &ci, err) == 0;
}

/*
 * Whether a profile means something: upstream looks at all GPUs of the node, a strict reading at
 * those that the entry is about. When none of them can be read, nobody knows, and the planner says
 * so. *ret_why: what one of them knows instead.
 */
static bool is_known(const struct wisher *wisher, size_t entry,
                     const struct mig_config_count *count, struct err *ret_why)
{
    bool asked = false;

    for (size_t i = 0; i < wisher->node->n_gpus; i++) {
        const struct mig_gpu *gpu = &wisher->node->gpus[i];
        if (wisher->manners == MIG_STRICT && last_entry(wisher, i) != entry)
            continue;
        if (gpu->problem || !gpu->capable)
            continue;
        if (knows(gpu, count, asked ? NULL : ret_why))
            return true;
        asked = true;
    }
    return !asked;
}

/* The first profile that is wanted and that nobody knows, or NULL. */
static const struct mig_config_count *find_unknown(const struct wisher *wisher, size_t entry,
                                                   struct err *ret_why)
{
    const struct mig_config_entry *from = &wisher->config->entries[entry];

    for (size_t i = 0; i < from->n_counts; i++) {
        const struct mig_config_count *count = &from->counts[i];
        if (count->count == 0)
            continue;
        if (!count->possible) {
            err_set(ret_why, ENOENT, "no GPU has a MIG profile %s", count->profile);
            return count;
        }
        if (!is_known(wisher, entry, count, ret_why))
            return count;
    }
    return NULL;
}

/* Once for each entry, when a GPU that can do MIG wants it. */
static int read_wants(struct wisher *wisher, size_t entry)
{
    const struct mig_config_entry *from = &wisher->config->entries[entry];
    struct reading *reading = &wisher->readings[entry];
    struct err why = {};
    int r = 0;

    if (reading->made)
        return 0;
    reading->made = true;
    const struct mig_config_count *unknown = find_unknown(wisher, entry, &why);
    if (unknown && wisher->manners == MIG_STRICT)
        return refuse(wisher, ENOENT, unknown->place, "%s", why.text);
    if (unknown)
        return warn(wisher, unknown->place, "%s; the GPUs will be emptied", why.text);
    for (size_t i = 0; i < from->n_counts && r == 0; i++)
        if (from->counts[i].count > 0)
            r = add_want(wisher, reading, &from->counts[i]);
    return r;
}

/* ---- one GPU ---- */

static int wish(struct wisher *wisher, size_t gpu, size_t entry)
{
    const struct mig_config_entry *from = &wisher->config->entries[entry];
    struct reading *reading = &wisher->readings[entry];
    struct mig_wish *ret = &wisher->ret->wishes[gpu];
    bool whole = from->mig_enabled && wisher->scope == MIG_SCOPE_ALL;
    int r = whole ? read_wants(wisher, entry) : 0;

    if (r < 0)
        return r;
    reading->where = reading->where ?: place_text(wisher, from->place);
    if (!reading->where)
        return err_no_memory(wisher->err);
    *ret = (struct mig_wish){
        .kind = whole ? MIG_WISH_DEVICES : MIG_WISH_MODE,
        .enabled = from->mig_enabled,
        .n_wants = whole ? reading->n_wants : 0,
        .wants = whole ? reading->wants : NULL,
        .where = reading->where,
    };
    return 0;
}

static int look_at(struct wisher *wisher, size_t gpu)
{
    const struct mig_gpu *of = &wisher->node->gpus[gpu];
    size_t last = last_entry(wisher, gpu);

    if (last == wisher->config->n_entries)
        return 0;
    wisher->ret->n_matched++;
    if (!of->capable && !of->problem)
        return check_incapable(wisher, gpu);
    int r = check_agreement(wisher, gpu, last);
    return r < 0 ? r : wish(wisher, gpu, last);
}

/* ---- the node ---- */

static size_t n_wished(const struct wisher *wisher)
{
    size_t n = 0;

    for (size_t i = 0; i < wisher->node->n_gpus; i++)
        n += wisher->ret->wishes[i].kind != MIG_WISH_NOTHING;
    return n;
}

static bool wants_mig(const struct mig_config *config)
{
    for (size_t i = 0; i < config->n_entries; i++)
        if (config->entries[i].mig_enabled)
            return true;
    return false;
}

static int check_result(struct wisher *wisher)
{
    const struct mig_config *config = wisher->config;

    if (wisher->ret->n_matched == 0)
        return OVERLOOK(wisher, ENODEV, config->place,
                        "no device matches: configuration %s is about none of the %zu GPUs of "
                        "this node",
                        config->name, wisher->node->n_gpus);
    if (n_wished(wisher) == 0 && wants_mig(config))
        return OVERLOOK(wisher, ENOTSUP, config->place,
                        "no GPU that configuration %s is about can do MIG", config->name);
    return 0;
}

int mig_wishes_make(const struct mig_config *config, const struct mig_node *node,
                    enum mig_manners manners, enum mig_scope scope, struct arena *arena,
                    struct mig_wishes *ret, struct err *err)
{
    struct mig_wishes wishes = { .wishes = arena_new_array(arena, struct mig_wish, node->n_gpus) };
    struct wisher wisher = {
        .config = config,
        .node = node,
        .manners = manners,
        .scope = scope,
        .arena = arena,
        .readings = arena_new_array(arena, struct reading, config->n_entries),
        .ret = &wishes,
        .err = err,
    };
    int r = wishes.wishes && wisher.readings ? 0 : err_no_memory(err);

    for (size_t i = 0; i < config->n_entries && r == 0; i++)
        r = check_indices(&wisher, &config->entries[i]);
    for (size_t i = 0; i < node->n_gpus && r == 0; i++)
        r = look_at(&wisher, i);
    if (r == 0)
        r = check_result(&wisher);
    if (r == 0)
        *ret = wishes;
    return r;
}

/* ---- a checkpoint ---- */

static const struct mig_gpu *find_gpu(const struct mig_node *node, const char *uuid)
{
    for (size_t i = 0; i < node->n_gpus; i++)
        if (text_equal(node->gpus[i].uuid, uuid))
            return &node->gpus[i];
    return NULL;
}

int mig_wishes_of_checkpoint(const struct mig_checkpoint *checkpoint, const struct mig_node *node,
                             enum mig_scope scope, struct arena *arena, struct mig_wish **ret,
                             struct err *err)
{
    struct mig_wish *wishes = arena_new_array(arena, struct mig_wish, MAX(node->n_gpus, 1));

    if (!wishes)
        return err_no_memory(err);
    for (size_t i = 0; i < checkpoint->n_gpus; i++) {
        const struct mig_layout *layout = &checkpoint->gpus[i].layout;
        const struct mig_gpu *gpu = find_gpu(node, checkpoint->gpus[i].uuid);

        if (!gpu)
            return err_set(err, ENODEV, "%s", checkpoint->gpus[i].uuid);
        wishes[gpu - node->gpus] =
            scope == MIG_SCOPE_MODE_ONLY
                ? (struct mig_wish){ .kind = MIG_WISH_MODE, .enabled = layout->enabled }
                : (struct mig_wish){ .kind = MIG_WISH_LAYOUT, .layout = layout };
    }
    *ret = wishes;
    return 0;
}
