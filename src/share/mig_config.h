/*
 * Named MIG configurations: the `mig-configs` file of NVIDIA's partition tool and MIG manager
 * (spec/mig §4.3), which says how GPUs are to be divided, and does not yet know any GPU.
 *
 *     mig-configs:
 *       all-balanced:                       struct mig_config
 *         - devices: all                    struct mig_config_entry
 *           mig-enabled: true
 *           mig-devices: {"1g.10gb": 2}     struct mig_config_count
 *
 * Nothing is checked against hardware: profiles and filters may fit no GPU. All lives in the arena
 * of the parse. Of two keys that are the same the last one counts; every configuration of a file
 * is checked, not only the one that will be used.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "base/text.h"
#include "codec/value.h"
#include "share/finding.h"
#include "share/mig_profile.h"

enum {
    MIG_CONFIG_MAX_FILE_BYTES = 1 << 20, /* a ConfigMap cannot be larger */
    MIG_CONFIG_ARENA_BYTES = 32 << 20,
    MIG_CONFIG_MAX_CONFIGS = 4096, /* the default file has about 120 */
    MIG_CONFIG_MAX_ENTRIES = 256,  /* of one configuration; one per kind of GPU is usual */
    MIG_CONFIG_MAX_LIST = 1024,    /* devices, filters or profiles of one entry */
};

struct mig_config_count {
    const char *profile;       /* as written: "1g.10gb", "1c.3g.40gb", "1g.24gb+me.all" */
    uint32_t count;            /* may be 0 */
    bool possible;             /* false: in proper form, but no GPU can have it (`1g.10gb+foo`) */
    struct mig_profile parsed; /* when possible */
    struct place place;
};

/* `device-filter: 0x233010DE`: device << 16 | vendor, perhaps with `:` and the same of the board.
 */
struct mig_config_filter {
    const char *text;
    bool valid, has_subsystem; /* a filter that is not valid matches nothing, silently */
    uint32_t device_id, subsystem_id;
    struct place place;
};

struct mig_config_entry {
    bool all_devices;
    size_t n_devices;
    int64_t *devices; /* GPU indices in order of PCI address; may repeat or be negative */
    bool mig_enabled;
    size_t n_filters; /* 0: every kind of GPU */
    struct mig_config_filter *filters;
    size_t n_counts;
    struct mig_config_count *counts;
    struct place place;
};

struct mig_config {
    const char *name;
    const char *file; /* as given to mig_config_parse, for sentences; NULL from mig_config_read */
    size_t n_entries; /* at least 1 */
    struct mig_config_entry *entries;
    struct place place;
};

struct mig_config_file {
    size_t n_configs; /* 0 for an empty file, and for one with a version only */
    struct mig_config *configs;
};

/*
 * -EINVAL with upstream's sentence from `error parsing config file: ` on, `name:line:col: ` where
 * the words for the mistake begin, and what would be right behind a semicolon:
 *
 *     error parsing config file: unmarshal error: error unmarshaling JSON: while decoding JSON:
 *     config.yaml:5:7: missing required field: devices
 *
 * -ENOMEM.
 */
[[nodiscard]] int mig_config_parse(struct span text, const char *name, struct arena *arena,
                                   struct mig_config_file **ret, struct err *err);

/* `name` "" or NULL: the only one. -ENOENT with `error selecting MIG config: …`. */
[[nodiscard]] int mig_config_select(const struct mig_config_file *file, const char *name,
                                    const struct mig_config **ret, struct err *err);

/* Whether the entry is about that GPU: by its index and, if it has a filter, by its ids. */
bool mig_config_matches(const struct mig_config_entry *entry, uint32_t index, uint32_t device_id,
                        uint32_t subsystem_id);

/* For `tranche check`, as config_check: every mistake; the number of errors, or -ENOMEM. */
[[nodiscard]] int mig_config_check(struct span text, struct findings *findings, struct err *err);

/* Reads a tree; what is wrong goes to the findings, and only without errors is *ret complete. */
void mig_config_read(struct findings *findings, const struct value *root,
                     struct mig_config_file *ret);
