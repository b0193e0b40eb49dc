#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/try.h"
#include "codec/yaml.h"
#include "share/config.h"
#include "share/config_select.h"
#include "share/finding.h"
#include "share/mig_config.h"

#define LABEL_PLUGIN_CONFIG "nvidia.com/device-plugin.config"
#define LABEL_MIG_CONFIG    "nvidia.com/mig.config"
#define DEFAULT_MIG_MAP     "default-mig-parted-config"
#define MIG_MAP_KEY         "config.yaml"

struct planner {
    const struct try_options *options;
    const struct objects *objects;
    const struct cluster_policy_object *policy; /* NULL without one */
    const struct sim_state *state;
    struct arena *arena;
    struct try_plan *plan;
};

PRINTF(3, 4)
static int note(struct planner *p, struct err *err, const char *format, ...)
{
    const char **slot = arena_push(p->arena, &p->plan->notes, &p->plan->n_notes);
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    text_make_harmless(text);
    if (!slot || !(*slot = arena_strdup(p->arena, text)))
        return err_no_memory(err);
    return 0;
}

static const char *label(const struct try_options *options, const char *key)
{
    for (size_t i = options->n_labels; i > 0; i--)
        if (text_equal(options->labels[i - 1].key, key))
            return options->labels[i - 1].value;
    return "";
}

/* ---- the device plugin's configuration ---- */

/* An entry's text as a map, or NULL where it is none: not every ConfigMap is about GPUs. */
static const struct value *parsed(struct planner *p, const struct config_map_entry *entry)
{
    struct value *root;

    if (yaml_parse(span_of(entry->text), entry->key, NULL, p->arena, &root, NULL) < 0)
        return NULL;
    return root->kind == VALUE_MAP ? root : NULL;
}

static bool has_mig_configs(struct planner *p, const struct config_map_object *map)
{
    for (size_t i = 0; i < map->n_data; i++)
        if (value_get(parsed(p, &map->data[i]), "mig-configs"))
            return true;
    return false;
}

static bool is_plugin_config(struct planner *p, const struct config_map_object *map)
{
    static const char *const keys[] = { "version", "flags", "sharing", "resources", "imex" };

    if (has_mig_configs(p, map))
        return false;
    for (size_t i = 0; i < map->n_data; i++)
        for (size_t k = 0; k < ARRAY_LEN(keys); k++)
            if (value_get_nocase(parsed(p, &map->data[i]), keys[k]))
                return true;
    return false;
}

/* The ConfigMap that the ClusterPolicy names; without a policy the one that can be meant. */
static int find_config_map(struct planner *p, const struct config_map_object **ret, struct err *err)
{
    const struct config_map_object *found = NULL;

    *ret = NULL;
    if (p->policy && *p->policy->plugin_config_map) {
        *ret = objects_config_map(p->objects, p->policy->plugin_config_map);
        if (!*ret)
            return err_set(err, EINVAL,
                           "%s:%u:%u: ClusterPolicy %s names ConfigMap %s in "
                           "spec.devicePlugin.config.name, which was not given with -f",
                           p->policy->place.file, p->policy->place.place.line,
                           p->policy->place.place.column, p->policy->name,
                           p->policy->plugin_config_map);
        return 0;
    }
    for (size_t i = 0; i < p->objects->n_config_maps; i++) {
        const struct config_map_object *map = &p->objects->config_maps[i];

        if (!is_plugin_config(p, map))
            continue;
        if (p->policy) {
            int r = note(p, err,
                         "ConfigMap %s is not in use: spec.devicePlugin.config.name of "
                         "ClusterPolicy %s does not name it",
                         map->name, p->policy->name);
            if (r < 0)
                return r;
            continue;
        }
        if (found && !text_equal(found->name, map->name))
            return err_set(err, EINVAL,
                           "ConfigMaps %s and %s could both be the device plugin's: give a "
                           "ClusterPolicy with spec.devicePlugin.config.name",
                           found->name, map->name);
        found = map;
    }
    *ret = found;
    return found ? note(p, err,
                        "no ClusterPolicy given: ConfigMap %s is taken for the device "
                        "plugin's configuration",
                        found->name)
                 : 0;
}

/* What the file says in vain, in the words of `tranche check`; a mistake is the device plugin's to
 * say. */
static int note_warnings(struct planner *p, struct err *err)
{
    struct findings found = { .arena = p->arena };
    int r = 0, errors = config_check(span_of(p->plan->config_text), &found, err);

    if (errors < 0)
        return errors;
    for (size_t i = 0; errors == 0 && r == 0 && i < found.n; i++) {
        const char *words = finding_words(p->arena, &found.items[i]);

        r = words ? note(p, err, "ConfigMap %s, key %s:%u:%u: %s", p->plan->config_map,
                         p->plan->config_key, found.items[i].place.line,
                         found.items[i].place.column, words)
                  : err_no_memory(err);
    }
    return r;
}

static int select_plugin_config(struct planner *p, struct err *err)
{
    const struct config_map_object *map;
    const char *name = label(p->options, LABEL_PLUGIN_CONFIG);
    int r = find_config_map(p, &map, err);

    if (r < 0)
        return r;
    if (!map) {
        if (*name)
            return note(p, err,
                        "label " LABEL_PLUGIN_CONFIG "=%s has no effect: no ConfigMap is in "
                        "use",
                        name);
        return 0;
    }
    const char **keys = arena_new_array(p->arena, const char *, MAX(map->n_data, 1));
    if (!keys)
        return err_no_memory(err);
    for (size_t i = 0; i < map->n_data; i++)
        keys[i] = map->data[i].key;
    /* The operator falls back to the empty configuration, the chart to a file that stands alone. */
    r = config_select(name, p->policy ? p->policy->plugin_config_default : "", keys, map->n_data,
                      p->policy ? FALLBACK_EMPTY : FALLBACK_NAMED | FALLBACK_SINGLE,
                      &p->plan->config_key, err);
    if (r < 0)
        return err_wrap(err, r, "ConfigMap %s", map->name);
    p->plan->config_map = map->name;
    if (!p->plan->config_key)
        return note(p, err,
                    "ConfigMap %s: neither label " LABEL_PLUGIN_CONFIG " nor "
                    "spec.devicePlugin.config.default chooses a configuration, so none is in "
                    "force",
                    map->name);
    p->plan->config_text = config_map_text(map, p->plan->config_key);
    return note_warnings(p, err);
}

static const char *strategy_in_file(struct planner *p)
{
    struct value *root;

    if (!p->plan->config_text ||
        yaml_parse(span_of(p->plan->config_text), "config", NULL, p->arena, &root, NULL) < 0)
        return NULL;
    const struct value *strategy = value_get_nocase(value_get_nocase(root, "flags"), "migStrategy");
    return strategy && strategy->kind == VALUE_STRING ? strategy->text.ptr : NULL;
}

static int add_daemon(struct planner *p, const char *resource, unsigned thread_pct, struct err *err)
{
    struct try_mps *slot = NULL;

    for (size_t i = 0; i < p->plan->n_mps; i++)
        if (text_equal(p->plan->mps[i].resource, resource))
            slot = &p->plan->mps[i];
    if (!slot) {
        slot = arena_push(p->arena, &p->plan->mps, &p->plan->n_mps);
        if (!slot)
            return err_no_memory(err);
        *slot = (struct try_mps){ resource, thread_pct };
    }
    slot->active_thread_pct = MIN(slot->active_thread_pct, thread_pct);
    return 0;
}

/* The daemons that the MPS DaemonSet would start for this configuration (spec/device-plugin §7.3):
 * one for each name that is advertised. */
static int plan_mps(struct planner *p, struct err *err)
{
    /* A folder is there, and where MIG forbids MPS that is the device plugin's to say, too. */
    static const char *const environment[] = { "MPS_ROOT=/", "MIG_STRATEGY=none", NULL };
    struct config_input input = { .program = PROGRAM_PLUGIN, .environ = environment };
    struct span text = span_of(p->plan->config_text ?: "");
    struct config_warnings warnings;
    struct config *config;
    int r = config_load(&input, &text, "config", true, p->arena, &config, &warnings, NULL);

    if (r == -ENOMEM)
        return err_no_memory(err);
    if (r < 0 || config->sharing.strategy != SHARING_MPS)
        return 0; /* what is wrong with the file, as well */
    for (size_t i = 0; r == 0 && i < config->sharing.n_resources; i++) {
        const struct shared_resource *shared = &config->sharing.resources[i];

        r = add_daemon(p, shared->rename ?: shared->name, 100 / shared->replicas, err);
    }
    return r;
}

static int select_strategy(struct planner *p, struct err *err)
{
    if (p->options->mig_strategy) {
        p->plan->mig_strategy = p->options->mig_strategy;
    } else if (p->policy && *p->policy->mig_strategy) {
        p->plan->mig_strategy = p->policy->mig_strategy;
    } else if (!p->policy && p->plan->mig_config && !strategy_in_file(p)) {
        p->plan->mig_strategy = "mixed";
        return note(p, err,
                    "no ClusterPolicy given: MIG strategy mixed (--mig-strategy changes it)");
    }
    return 0;
}

/* ---- MIG ---- */

static bool is_plain(const struct sim_profile *profile)
{
    return profile->supported && !strpbrk(profile->name, "+-");
}

static int want(struct planner *p, struct try_mig *mig, const char *profile, uint32_t count,
                struct err *err)
{
    struct sim_mig_want *slot = arena_push(p->arena, &mig->wants, &mig->n_wants);

    if (!slot)
        return err_no_memory(err);
    *slot = (struct sim_mig_want){ profile, count };
    return 0;
}

/* Of the profiles with that many slices and no attributes, the one of which most fit. */
static const struct sim_profile *plain_profile(const struct sim_gpu *gpu, uint32_t slices)
{
    const struct sim_profile *best = NULL;

    for (size_t i = 0; i < SIM_MAX_PROFILES; i++)
        if (is_plain(&gpu->profiles[i]) && gpu->profiles[i].slices == slices &&
            (!best || gpu->profiles[i].max_instances > best->max_instances))
            best = &gpu->profiles[i];
    return best;
}

/* all-balanced, spec/mig §4.10. */
static int want_balanced(struct planner *p, const struct sim_gpu *gpu, struct try_mig *mig,
                         struct err *err)
{
    static const struct {
        uint32_t slices, count;
    } parts[] = { { 1, 2 }, { 2, 1 }, { 3, 1 } };
    size_t n = gpu->compute_slices == 7 ? 3 : gpu->compute_slices == 4 ? 2 : 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < n; i++) {
        const struct sim_profile *profile = plain_profile(gpu, parts[i].slices);

        if (profile)
            r = want(p, mig, profile->name, parts[i].count, err);
    }
    mig->wanted = mig->n_wants > 0;
    return r;
}

/* all-1g.10gb, all-1g.24gb.me.all: as many of one profile as fit. */
static int want_all(struct planner *p, const struct sim_gpu *gpu, const char *profile,
                    struct try_mig *mig, struct err *err)
{
    for (size_t i = 0; i < SIM_MAX_PROFILES; i++) {
        char form[MIG_PROFILE_NAME_MAX];

        if (!gpu->profiles[i].supported)
            continue;
        mig_profile_resource_form(gpu->profiles[i].name, form);
        if (!text_equal(form, profile))
            continue;
        mig->wanted = true;
        return want(p, mig, gpu->profiles[i].name, gpu->profiles[i].max_instances, err);
    }
    return 0;
}

static int plan_builtin(struct planner *p, const char *name, struct err *err)
{
    bool any = false, known = text_equal(name, "all-disabled") || text_equal(name, "all-enabled");
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < p->state->n_gpus; i++) {
        const struct sim_gpu *gpu = &p->state->gpus[i];
        struct try_mig *mig = &p->plan->mig[i];

        if (!gpu->mig_capable)
            continue;
        mig->enabled = !text_equal(name, "all-disabled");
        if (known)
            mig->wanted = true;
        else if (text_equal(name, "all-balanced"))
            r = want_balanced(p, gpu, mig, err);
        else if (text_starts(name, "all-"))
            r = want_all(p, gpu, name + strlen("all-"), mig, err);
        any = any || mig->wanted;
    }
    if (r < 0 || any || text_equal(name, "all-disabled"))
        return r;

    auto_(buf_done) struct buf there = BUF_MAX(KIB(4));
    for (size_t i = 0; i < SIM_MAX_PROFILES; i++) {
        char form[MIG_PROFILE_NAME_MAX];

        if (!p->state->gpus[0].profiles[i].supported)
            continue;
        mig_profile_resource_form(p->state->gpus[0].profiles[i].name, form);
        buf_printf(&there, ", all-%s", form);
    }
    if (there.len == 0)
        return err_set(err, EINVAL, "MIG config %s: no GPU of this node can do MIG", name);
    return err_set(err, EINVAL,
                   "MIG config %s: no GPU of this node has such profiles; there are all-disabled, "
                   "all-enabled, all-balanced%s, and what a ConfigMap with mig-configs defines",
                   name, buf_text(&there));
}

static int plan_entry(struct planner *p, const struct mig_config_entry *entry, uint32_t index,
                      bool *any, struct err *err)
{
    const struct sim_gpu *gpu = &p->state->gpus[index];
    struct try_mig *mig = &p->plan->mig[index];
    int r = 0;

    if (!mig_config_matches(entry, index, gpu->pci_device_id, gpu->pci_subsystem_id))
        return 0;
    *any = true;
    if (!gpu->mig_capable) {
        if (entry->mig_enabled && !entry->all_devices)
            return err_set(err, EINVAL, "cannot set MIG mode on non MIG-capable GPU %u (%s)", index,
                           gpu->name);
        return 0;
    }
    *mig = (struct try_mig){ .wanted = true, .enabled = entry->mig_enabled };
    for (size_t i = 0; r == 0 && i < entry->n_counts; i++)
        if (entry->counts[i].count > 0)
            r = want(p, mig, entry->counts[i].profile, entry->counts[i].count, err);
    return r;
}

static int plan_config(struct planner *p, const struct mig_config *config, struct err *err)
{
    int r = 0;

    for (size_t e = 0; r == 0 && e < config->n_entries; e++) {
        bool any = false;

        for (uint32_t i = 0; r == 0 && i < p->state->n_gpus; i++)
            r = plan_entry(p, &config->entries[e], i, &any, err);
        if (r == 0 && !any)
            r = note(p, err, "MIG config %s: entry %zu is for no GPU of this node", config->name,
                     e + 1);
    }
    return r;
}

/* The configuration of that name in a ConfigMap; NULL when it has none. */
static int find_in_map(struct planner *p, const struct config_map_object *map, const char *name,
                       const struct mig_config **ret, struct err *err)
{
    const char *text = config_map_text(map, MIG_MAP_KEY);
    struct mig_config_file *file;

    *ret = NULL;
    if (!text)
        return err_set(err, EINVAL, "%s:%u:%u: ConfigMap %s has no key " MIG_MAP_KEY,
                       map->place.file, map->place.place.line, map->place.place.column, map->name);
    const char *place = arena_printf(p->arena, "ConfigMap %s, key " MIG_MAP_KEY, map->name);
    int r =
        place ? mig_config_parse(span_of(text), place, p->arena, &file, err) : err_no_memory(err);
    if (r < 0)
        return r;
    if (mig_config_select(file, name, ret, NULL) < 0)
        *ret = NULL;
    return 0;
}

static int plan_mig(struct planner *p, const char *name, struct err *err)
{
    const char *wanted_map = p->policy ? p->policy->mig_config_map : "";
    const struct config_map_object *map =
        *wanted_map ? objects_config_map(p->objects, wanted_map) : NULL;
    const struct mig_config *config;
    int r;

    if (*wanted_map && !map && !text_equal(wanted_map, DEFAULT_MIG_MAP))
        return err_set(
            err, EINVAL,
            "%s:%u:%u: ClusterPolicy %s names ConfigMap %s in spec.migManager.config.name, "
            "which was not given with -f",
            p->policy->place.file, p->policy->place.place.line, p->policy->place.place.column,
            p->policy->name, wanted_map);
    if (map) {
        r = find_in_map(p, map, name, &config, err);
        if (r == 0 && !config)
            r = err_set(err, EINVAL, "ConfigMap %s: selected mig-config not present: %s", map->name,
                        name);
        return r < 0 ? r : plan_config(p, config, err);
    }
    for (size_t i = p->objects->n_config_maps; i > 0; i--) {
        const struct config_map_object *other = &p->objects->config_maps[i - 1];

        if (!has_mig_configs(p, other))
            continue;
        r = find_in_map(p, other, name, &config, err);
        if (r < 0)
            return r;
        if (!config)
            continue;
        if (p->policy)
            return err_set(
                err, EINVAL,
                "MIG config %s is defined in ConfigMap %s, but ClusterPolicy %s does not name "
                "that in spec.migManager.config.name",
                name, other->name, p->policy->name);
        return plan_config(p, config, err);
    }
    return plan_builtin(p, name, err);
}

int try_plan_make(const struct try_options *options, const struct objects *objects,
                  const struct sim_state *state, struct arena *arena, struct try_plan *ret,
                  struct err *err)
{
    struct planner p = {
        .options = options, .objects = objects, .state = state, .arena = arena, .plan = ret
    };
    const char *mig = options->mig ? options->mig : label(options, LABEL_MIG_CONFIG);
    int r = 0;

    *ret = (struct try_plan){ .plugin = true, .discovery = true, .mps_root = "/run/nvidia/mps" };
    if (objects->n_policies > 0) {
        p.policy = &objects->policies[objects->n_policies - 1];
        ret->plugin = p.policy->plugin_enabled;
        ret->discovery = p.policy->discovery_enabled;
        ret->env = p.policy->plugin_env;
        ret->n_env = p.policy->n_plugin_env;
        if (*p.policy->mps_root)
            ret->mps_root = p.policy->mps_root;
    }
    if (*mig) {
        ret->mig_config = mig;
        r = plan_mig(&p, mig, err);
    }
    if (r == 0)
        r = select_plugin_config(&p, err);
    if (r == 0)
        r = plan_mps(&p, err);
    if (r == 0)
        r = select_strategy(&p, err);
    return r;
}
