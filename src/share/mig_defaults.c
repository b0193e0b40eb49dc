/* mig_defaults_write of mig_documents.h: the configurations that every node knows by name. */
#include <errno.h>
#include <stdio.h>

#include "share/mig_config_write.h"
#include "share/mig_documents.h"

enum { MAX_FILTERS = 8, DEFAULTS_ARENA_BYTES = 1 << 20 };

enum row_kind { ROW_BOARDS, ROW_FULL, ROW_BALANCED };

static const struct row {
    enum row_kind kind;
    const char *comment;
    struct {
        const char *profile; /* NULL: no more */
        uint32_t count;
    } counts[3];
    const char *filters[MAX_FILTERS + 1]; /* none: all boards */
} rows[] = {
#define MIG_BOARDS(text)          { .kind = ROW_BOARDS, .comment = text },
#define MIG_FULL(name, many, ...) { ROW_FULL, NULL, { { name, many } }, { __VA_ARGS__ } },
#define MIG_BALANCED(small, medium, large, ...)                                                    \
    { ROW_BALANCED, NULL, { { small, 2 }, { medium, 1 }, { large, 1 } }, { __VA_ARGS__ } },
#include "share/mig_defaults.def"
#undef MIG_BOARDS
#undef MIG_FULL
#undef MIG_BALANCED
};

static const char head[] =
    "# The MIG configurations that a node knows by name. `nvidia-mig-parted apply -f FILE -c "
    "NAME`\n"
    "# and `tranche mig apply` take one of them; so does the node label nvidia.com/mig.config.\n"
    "#\n"
    "# all-PROFILE divides a GPU into as many instances of that profile as fit. Names are those "
    "of\n"
    "# NVIDIA's own file. A configuration with device filters is about these boards only; "
    "without,\n"
    "# about every GPU of the node, whether or not it knows the profile.\n"
    "version: v1\n"
    "mig-configs:\n";

/* ---- rows to configurations ---- */

struct maker {
    struct arena *arena;
    struct mig_config_file file;
    const struct row *before; /* the comment row that stands above the next configuration */
    const struct row **above; /* of each configuration: that row, or NULL */
    size_t n_above;
    bool failed; /* for memory */
};

static void *hold(struct maker *maker, void *thing)
{
    maker->failed |= !thing;
    return thing;
}

static struct mig_config *config_named(struct maker *maker, const char *name)
{
    struct mig_config_file *file = &maker->file;

    for (size_t i = 0; i < file->n_configs; i++)
        if (text_equal(file->configs[i].name, name))
            return &file->configs[i];
    struct mig_config *config =
        hold(maker, arena_push(maker->arena, &file->configs, &file->n_configs));
    const struct row **above =
        hold(maker, arena_push(maker->arena, &maker->above, &maker->n_above));
    if (!config || !above)
        return NULL;
    config->name = name;
    *above = steal(maker->before);
    return config;
}

static void add_entry(struct maker *maker, const char *name, bool mig_enabled,
                      const struct row *row)
{
    struct mig_config *config = name ? config_named(maker, name) : NULL;
    struct mig_config_entry *entry =
        config ? hold(maker, arena_push(maker->arena, &config->entries, &config->n_entries)) : NULL;

    if (!entry)
        return;
    *entry = (struct mig_config_entry){ .all_devices = true, .mig_enabled = mig_enabled };
    for (size_t i = 0; row && i < ARRAY_LEN(row->counts) && row->counts[i].profile; i++) {
        struct mig_config_count *count =
            hold(maker, arena_push(maker->arena, &entry->counts, &entry->n_counts));
        if (count)
            *count = (struct mig_config_count){ .profile = row->counts[i].profile,
                                                .count = row->counts[i].count };
    }
    for (size_t i = 0; row && row->filters[i]; i++) {
        struct mig_config_filter *filter =
            hold(maker, arena_push(maker->arena, &entry->filters, &entry->n_filters));
        if (filter)
            *filter = (struct mig_config_filter){ .text = row->filters[i] };
    }
}

static void add_row(struct maker *maker, const struct row *row)
{
    char form[MIG_PROFILE_NAME_MAX];

    switch (row->kind) {
    case ROW_BOARDS:
        maker->before = row;
        break;
    case ROW_FULL:
        mig_profile_resource_form(row->counts[0].profile, form);
        add_entry(maker, hold(maker, arena_printf(maker->arena, "all-%s", form)), true, row);
        break;
    case ROW_BALANCED:
        add_entry(maker, "all-balanced", true, row);
        break;
    }
}

/* ---- the file ---- */

static int write_yaml(const struct maker *maker, struct buf *out, struct err *err)
{
    int r = 0;

    buf_add_text(out, head);
    for (size_t i = 0; i < maker->file.n_configs && r == 0; i++) {
        if (maker->above[i])
            buf_printf(out, "\n  # %s.\n", maker->above[i]->comment);
        r = mig_config_write_yaml(&maker->file.configs[i], MIG_HAND_GENERATE, out, err);
    }
    if (r == 0 && out->failed)
        return err_set(err, EFBIG, "the configurations are more than %zu bytes", out->max);
    return r;
}

int mig_defaults_write(enum mig_document_format format, struct buf *out, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(DEFAULTS_ARENA_BYTES);
    struct maker maker = { .arena = &arena };

    add_entry(&maker, "all-disabled", false, NULL);
    add_entry(&maker, "all-enabled", true, NULL);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        add_row(&maker, &rows[i]);
    if (maker.failed)
        return err_no_memory(err);
    return format == MIG_YAML ? write_yaml(&maker, out, err)
                              : mig_config_write(&maker.file, format, MIG_HAND_GENERATE, out, err);
}
