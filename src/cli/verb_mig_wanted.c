#include <ctype.h>
#include <errno.h>
#include <strings.h>

#include "cli/verb_mig.h"
#include "share/mig_wish.h"

enum { MAX_LIST_BYTES = 4096 };

/* ---- which GPUs ---- */

static bool is_gpu(const struct mig_gpu *gpu, struct span word)
{
    uint64_t index;

    if (text_to_u64(word, &index) == 0)
        return index == gpu->index;
    return span_equal(word, span_of(gpu->uuid)) ||
           (word.len == strlen(gpu->bus_id) && strncasecmp(word.ptr, gpu->bus_id, word.len) == 0);
}

int mig_choose(const struct mig_node *node, const char *words, struct mig_choice *ret,
               struct err *err)
{
    struct span rest = span_of(words), word;
    bool more = words != NULL;

    *ret = (struct mig_choice){};
    for (size_t i = 0; !words && i < node->n_gpus; i++)
        ret->chosen[i] = true;
    while (span_split(&rest, ',', &more, &word)) {
        bool found = false;

        for (size_t i = 0; i < node->n_gpus; i++)
            if (is_gpu(&node->gpus[i], span_trim(word)))
                found = ret->chosen[i] = true;
        if (!found)
            return err_set(err, ENODEV,
                           "there is no GPU \"" SPAN_FMT "\"; `tranche mig list` has them all",
                           SPAN_ARG(word));
    }
    return 0;
}

/* ---- --devices 1g.10gb=2,3g.40gb ---- */

static int read_count(struct arena *arena, struct span word, struct mig_config_count *ret,
                      struct err *err)
{
    size_t cut = 0;
    uint64_t count = 1;

    while (cut < word.len && word.ptr[cut] != '=' && word.ptr[cut] != ':')
        cut++;
    struct span name = { word.ptr, cut };
    if (cut < word.len &&
        (text_to_u64((struct span){ word.ptr + cut + 1, word.len - cut - 1 }, &count) < 0 ||
         count > UINT32_MAX))
        return err_set(err, EINVAL, "--devices: \"" SPAN_FMT "\" is not PROFILE=COUNT",
                       SPAN_ARG(word));
    *ret = (struct mig_config_count){ .profile = arena_spandup(arena, name),
                                      .count = (uint32_t)count };
    if (!ret->profile)
        return err_no_memory(err);
    int r = mig_profile_parse(name, &ret->parsed, err);
    ret->possible = r == 0;
    if (r == -ENOENT)
        return 0; /* a word for whoever knows the GPUs */
    return r < 0 ? err_wrap(err, -EINVAL, "--devices") : 0;
}

static int read_devices(struct arena *arena, const char *words, struct mig_config_entry *entry,
                        struct err *err)
{
    struct span rest = span_of(words), word;
    bool more = true;

    while (span_split(&rest, ',', &more, &word)) {
        struct mig_config_count *count = arena_push(arena, &entry->counts, &entry->n_counts);
        if (!count)
            return err_no_memory(err);
        int r = read_count(arena, span_trim(word), count, err);
        if (r < 0)
            return r;
        for (size_t i = 0; i + 1 < entry->n_counts; i++)
            if (text_equal(entry->counts[i].profile, count->profile))
                return err_set(err, EINVAL, "--devices: %s is said twice", count->profile);
    }
    return 0;
}

/* Of all GPUs only those that can do MIG are meant; one that was named is meant whatever it is. */
static int config_of_devices(struct mig_site *site, const struct mig_request *request,
                             const struct mig_choice *choice, const struct mig_config **ret,
                             struct err *err)
{
    struct mig_config *config = arena_new(&site->arena, struct mig_config);
    struct mig_config_entry *entry = arena_new(&site->arena, struct mig_config_entry);

    if (!config || !entry)
        return err_no_memory(err);
    *config = (struct mig_config){
        .name = "--devices", .file = "--devices", .n_entries = 1, .entries = entry
    };
    entry->mig_enabled = true;
    entry->all_devices = !request->gpus;
    for (size_t i = 0; request->gpus && i < site->node->n_gpus; i++) {
        if (!choice->chosen[i])
            continue;
        int64_t *index = arena_push(&site->arena, &entry->devices, &entry->n_devices);
        if (!index)
            return err_no_memory(err);
        *index = (int64_t)i;
    }
    *ret = config;
    return read_devices(&site->arena, request->devices, entry, err);
}

int mig_check_devices(const char *words, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct mig_config_entry entry = {};

    return read_devices(&arena, words, &entry, err);
}

/* ---- a named configuration ---- */

static int unknown_config(const struct mig_config_file *file, const char *name, bool generated,
                          struct err *err)
{
    char list[MAX_LIST_BYTES];
    const char *names[MIG_CONFIG_MAX_CONFIGS];
    size_t n = 0;

    list[0] = '\0';
    for (size_t i = 0; i < file->n_configs && i < ARRAY_LEN(names); i++) {
        names[i] = file->configs[i].name;
        if (n < sizeof(list))
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    if (file->n_configs == 0)
        return err_set(err, ENOENT, "the file has no configurations");
    if (!name)
        return err_set(err, EINVAL, "say which configuration: %s", list);
    const char *nearest = text_nearest(name, names, file->n_configs);
    if (nearest)
        return err_set(err, ENOENT, "there is no configuration \"%s\"; did you mean %s? %s: %s",
                       name, nearest, generated ? "This node has" : "The file has", list);
    return err_set(err, ENOENT, "there is no configuration \"%s\"; %s: %s", name,
                   generated ? "this node has" : "the file has", list);
}

static int select_config(const struct mig_config_file *file, const struct mig_request *request,
                         bool generated, const struct mig_config **ret, struct err *err)
{
    const char *name = request->config ? request->config : request->name;

    if (!name && (generated || file->n_configs != 1))
        return unknown_config(file, NULL, generated, err);
    return mig_config_select(file, name, ret, NULL) == 0
               ? 0
               : unknown_config(file, name, generated, err);
}

static int parse_and_select(struct mig_site *site, const struct mig_request *request,
                            struct span text, const char *file_name, const struct mig_config **ret,
                            struct err *err)
{
    struct mig_config_file *file;

    int r = mig_config_parse(text, file_name, &site->arena, &file, err);
    return r < 0 ? r : select_config(file, request, !request->file, ret, err);
}

/* A text that nobody has seen has no places to be named; its configuration has a name. */
static int without_places(struct mig_site *site, const struct mig_config **config, struct err *err)
{
    struct mig_config *copy = arena_new(&site->arena, struct mig_config);
    struct mig_config_entry *entries =
        arena_new_array(&site->arena, struct mig_config_entry, (*config)->n_entries);

    if (!copy || !entries)
        return err_no_memory(err);
    *copy = **config;
    copy->file = copy->name;
    copy->place = (struct place){};
    for (size_t i = 0; i < copy->n_entries; i++) {
        entries[i] = copy->entries[i];
        entries[i].place = (struct place){};
        for (size_t k = 0; k < entries[i].n_counts; k++)
            entries[i].counts[k].place = (struct place){};
    }
    copy->entries = entries;
    *config = copy;
    return 0;
}

static int config_of_file(struct mig_site *site, const struct mig_request *request,
                          const struct mig_config **ret, struct err *err)
{
    const char *name = text_equal(request->file, "-") ? "<stdin>" : request->file;
    struct span text;

    int r = mig_file_read(site, request->file, MIG_CONFIG_MAX_FILE_BYTES, &text, err);
    return r < 0 ? r : parse_and_select(site, request, text, name, ret, err);
}

/* Those that the node's own profiles make up: all-1g.10gb, all-balanced, all-disabled. Where a
 * driver hides its profiles (R535 while MIG is off) the names of the default file have to do. */
static int config_of_node(struct mig_site *site, const struct mig_request *request,
                          const struct mig_choice *choice, const struct mig_config **ret,
                          struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIG_CONFIG_MAX_FILE_BYTES);
    const struct mig_node *node;

    int r = mig_site_readable(site, choice->chosen, &node, err);
    if (r == 0)
        r = mig_generate_write(node, MIG_YAML, &text, err);
    if (r == -ENODEV)
        return err_set(err, ENODEV, "%s can do MIG",
                       request->gpus ? "none of these GPUs" : "no GPU of this node");
    if (r == -ENODATA)
        r = mig_defaults_write(MIG_YAML, &text, err);
    if (r < 0)
        return r;
    struct span kept = { arena_spandup(&site->arena, buf_span(&text)), text.len };
    if (!kept.ptr)
        return err_no_memory(err);
    r = parse_and_select(site, request, kept, "the node's own configurations", ret, err);
    return r < 0 ? r : without_places(site, ret, err);
}

int mig_wanted_config(struct mig_site *site, const struct mig_request *request,
                      const struct mig_choice *choice, const struct mig_config **ret,
                      struct err *err)
{
    if (request->devices)
        return config_of_devices(site, request, choice, ret, err);
    return request->file ? config_of_file(site, request, ret, err)
                         : config_of_node(site, request, choice, ret, err);
}

/* Names in it are those of a file. */
static void warn(struct mig_site *site, const char *sentence)
{
    char *text = arena_strdup(&site->arena, sentence);

    if (!text)
        return;
    text_make_harmless(text);
    fprintf(stderr, "warning: %s\n", text);
}

bool mig_hides_profiles(const struct mig_gpu *gpu)
{
    return gpu->capable && !gpu->enabled && !gpu->problem && gpu->n_profiles == 0;
}

bool mig_node_hides_profiles(const struct mig_node *node)
{
    for (size_t i = 0; i < node->n_gpus; i++)
        if (mig_hides_profiles(&node->gpus[i]))
            return true;
    return false;
}

static int wishes_of_config(struct mig_site *site, const struct mig_request *request,
                            const struct mig_choice *choice, struct mig_wish **ret, struct err *err)
{
    enum mig_scope scope = request->mode_only ? MIG_SCOPE_MODE_ONLY : MIG_SCOPE_ALL;
    const struct mig_config *config;
    struct mig_wishes wishes;

    int r = mig_wanted_config(site, request, choice, &config, err);
    if (r == 0)
        r = mig_wishes_make(config, site->node, MIG_STRICT, scope, &site->arena, &wishes, err);
    if (r == -ENOENT && mig_node_hides_profiles(site->node))
        return err_set(err, ENOENT, "%.400s; `apply` turns it on and plans then", err->text);
    if (r < 0)
        return r;
    /* That `all` means those that can do MIG is no news about a list of our own making. */
    for (size_t i = 0; request->file && i < wishes.n_warnings; i++)
        warn(site, wishes.warnings[i]);
    *ret = wishes.wishes;
    return 0;
}

/* ---- a checkpoint ---- */

static int wishes_of_checkpoint(struct mig_site *site, const struct mig_request *request,
                                struct mig_wish **ret, struct err *err)
{
    enum mig_scope scope = request->mode_only ? MIG_SCOPE_MODE_ONLY : MIG_SCOPE_ALL;
    const char *path = request->file ? request->file : request->name;
    struct mig_checkpoint *checkpoint;
    struct err why = {};
    struct span text;

    if (!path)
        path = arena_printf(&site->arena, "%s/" MIG_LAST_CHECKPOINT, site->state_dir);
    if (!path)
        return err_no_memory(err);
    int r = mig_file_read(site, path, MIB(4), &text, err);
    if (r == -ENOENT && !request->file && !request->name)
        return err_set(err, ENOENT,
                       "%s is not there: no `tranche mig apply` has succeeded on this node yet",
                       path);
    if (r == 0)
        r = mig_checkpoint_parse(text, text_equal(path, "-") ? "<stdin>" : path, &site->arena,
                                 &checkpoint, err);
    if (r < 0)
        return r;
    r = mig_wishes_of_checkpoint(checkpoint, site->node, scope, &site->arena, ret, &why);
    return r == -ENODEV ? err_set(err, ENODEV, "%s is about %s, which this node does not have",
                                  path, why.text)
           : r < 0      ? err_no_memory(err)
                        : 0;
}

int mig_wanted(struct mig_site *site, const struct mig_request *request,
               const struct mig_wish **ret, struct err *err)
{
    struct mig_choice choice;
    struct mig_wish *wishes = NULL;

    int r = mig_choose(site->node, request->gpus, &choice, err);
    if (r < 0)
        return r;
    r = text_equal(request->command, "restore")
            ? wishes_of_checkpoint(site, request, &wishes, err)
            : wishes_of_config(site, request, &choice, &wishes, err);
    for (size_t i = 0; r == 0 && i < site->node->n_gpus; i++)
        if (!choice.chosen[i])
            wishes[i] = (struct mig_wish){ .kind = MIG_WISH_NOTHING };
    if (r == 0)
        *ret = wishes;
    return r;
}
