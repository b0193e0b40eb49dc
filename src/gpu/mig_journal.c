#include "gpu/mig_journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "codec/json.h"

enum { VERSION = 1, UUID_MAX = 95, MAX_CI_PROFILES = 32 };

/* ---- writing ---- */

/* jansson's own "could not": every step of building may lack memory. */
static int add(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static json_t *placement_object(uint32_t profile, const struct mig_placement *at)
{
    return json_pack("{s:I, s:I, s:I}", "profile", (json_int_t)profile, "start",
                     (json_int_t)at->start, "size", (json_int_t)at->size);
}

static json_t *instance_object(const struct mig_placed *placed)
{
    auto_(json_decrefp) json_t *object = placement_object(placed->gi_profile, &placed->placement);
    auto_(json_decrefp) json_t *list = json_array();

    for (size_t i = 0; i < placed->n_cis; i++)
        if (json_array_append_new(
                list, placement_object(placed->cis[i].ci_profile, &placed->cis[i].placement)) < 0)
            return NULL;
    return add(object, "compute", steal(list)) < 0 ? NULL : steal(object);
}

static json_t *layout_object(const struct mig_layout *layout)
{
    auto_(json_decrefp) json_t *object = json_pack("{s:b}", "mig", (int)layout->enabled);
    auto_(json_decrefp) json_t *list = json_array();

    for (size_t i = 0; i < layout->n_gis; i++)
        if (json_array_append_new(list, instance_object(&layout->gis[i])) < 0)
            return NULL;
    return add(object, "instances", steal(list)) < 0 ? NULL : steal(object);
}

static json_t *gpu_object(const struct mig_journal_gpu *gpu)
{
    auto_(json_decrefp) json_t *object =
        json_pack("{s:s, s:I}", "uuid", gpu->uuid, "index", (json_int_t)gpu->index);

    if (add(object, "before", layout_object(&gpu->before)) < 0 ||
        add(object, "after", layout_object(&gpu->after)) < 0)
        return NULL;
    return steal(object);
}

int mig_journal_to_text(const struct mig_journal *journal, struct buf *ret)
{
    auto_(json_decrefp) json_t *object =
        json_pack("{s:i, s:I, s:b}", "version", VERSION, "pid", (json_int_t)journal->pid,
                  "skipReset", (int)journal->skip_reset);
    auto_(json_decrefp) json_t *list = json_array();

    for (size_t i = 0; i < journal->n_gpus; i++)
        if (json_array_append_new(list, gpu_object(&journal->gpus[i])) < 0)
            return -ENOMEM;
    if (add(object, "gpus", steal(list)) < 0)
        return -ENOMEM;
    int r = json_to_text(object, 0, ret);
    return r < 0 ? r : buf_add_char(ret, '\n');
}

/* ---- reading ---- */

static int bad(struct err *err, const char *what)
{
    return err_set(err, EINVAL, "%s: %s", MIG_JOURNAL_FILE, what);
}

static bool read_number(const json_t *object, const char *key, uint32_t max, uint32_t *ret)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > (json_int_t)max)
        return false;
    *ret = (uint32_t)json_integer_value(value);
    return true;
}

static bool read_bool(const json_t *object, const char *key, bool *ret)
{
    const json_t *value = json_object_get(object, key);

    *ret = json_is_true(value);
    return json_is_boolean(value);
}

/* Both kinds of places fit into a mask; the empty one means "not told". */
static bool read_placement(const json_t *object, struct mig_placement *ret)
{
    return read_number(object, "start", MIG_MAX_MEMORY_SLICES, &ret->start) &&
           read_number(object, "size", MIG_MAX_MEMORY_SLICES, &ret->size) &&
           ret->start + ret->size <= MIG_MAX_MEMORY_SLICES;
}

static bool overlap(const struct mig_placement *a, const struct mig_placement *b)
{
    return a->start < b->start + b->size && b->start < a->start + a->size;
}

static int read_compute(const json_t *list, struct mig_placed *placed, struct err *err)
{
    if (!json_is_array(list) || json_array_size(list) > MIG_MAX_COMPUTE_INSTANCES)
        return bad(err, "an instance has no proper list of compute instances");
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct mig_placed_ci *ci = &placed->cis[i];
        const json_t *item = json_array_get(list, i);

        if (!read_number(item, "profile", MAX_CI_PROFILES - 1, &ci->ci_profile) ||
            !read_placement(item, &ci->placement))
            return bad(err, "a compute instance makes no sense");
        for (size_t j = 0; j < i; j++)
            if (overlap(&placed->cis[j].placement, &ci->placement))
                return bad(err, "two compute instances overlap");
    }
    placed->n_cis = json_array_size(list);
    return 0;
}

static int read_instance(const json_t *item, struct mig_layout *layout, struct err *err)
{
    struct mig_placed *placed = &layout->gis[layout->n_gis];

    if (!read_number(item, "profile", MIG_MAX_GI_PROFILES - 1, &placed->gi_profile) ||
        !read_placement(item, &placed->placement) || placed->placement.size == 0)
        return bad(err, "an instance makes no sense");
    if (layout->n_gis > 0) { /* in order of their starts */
        const struct mig_placement *last = &placed[-1].placement;
        if (placed->placement.start < last->start + last->size)
            return bad(err, "two instances overlap, or they are out of order");
    }
    layout->n_gis++;
    return read_compute(json_object_get(item, "compute"), placed, err);
}

static int read_layout(const json_t *object, struct mig_layout *ret, struct err *err)
{
    const json_t *list = json_object_get(object, "instances");

    if (!read_bool(object, "mig", &ret->enabled) || !json_is_array(list) ||
        json_array_size(list) > MIG_MAX_GPU_INSTANCES)
        return bad(err, "a layout has no proper mode or list of instances");
    if (!ret->enabled && json_array_size(list) > 0)
        return bad(err, "a layout has instances with MIG off");
    for (size_t i = 0; i < json_array_size(list); i++) {
        int r = read_instance(json_array_get(list, i), ret, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* It ends up in sentences: letters, digits and "-" are all that a UUID needs. */
static bool is_uuid(const char *text)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";

    return text && *text && strlen(text) <= UUID_MAX && text[strspn(text, letters)] == '\0';
}

static int read_gpu(const json_t *item, struct mig_journal *journal, struct arena *arena,
                    struct err *err)
{
    struct mig_journal_gpu *gpu = &journal->gpus[journal->n_gpus];
    const char *uuid = json_string_value(json_object_get(item, "uuid"));

    if (!is_uuid(uuid) || !read_number(item, "index", UINT32_MAX, &gpu->index))
        return bad(err, "a GPU has no proper UUID or index");
    for (size_t i = 0; i < journal->n_gpus; i++)
        if (text_equal(journal->gpus[i].uuid, uuid))
            return bad(err, "it names a GPU twice");
    gpu->uuid = arena_strdup(arena, uuid);
    if (!gpu->uuid)
        return err_no_memory(err);
    journal->n_gpus++;
    int r = read_layout(json_object_get(item, "before"), &gpu->before, err);
    return r < 0 ? r : read_layout(json_object_get(item, "after"), &gpu->after, err);
}

static int read_gpus(const json_t *list, struct mig_journal *journal, struct arena *arena,
                     struct err *err)
{
    size_t n = json_array_size(list);

    if (n == 0 || n > MIG_MAX_GPUS)
        return bad(err, "it has no proper list of GPUs");
    journal->gpus = arena_new_array(arena, struct mig_journal_gpu, n);
    if (!journal->gpus)
        return err_no_memory(err);
    for (size_t i = 0; i < n; i++) {
        int r = read_gpu(json_array_get(list, i), journal, arena, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int mig_journal_parse(struct span text, struct arena *arena, struct mig_journal **ret,
                      struct err *err)
{
    auto_(json_decrefp) json_t *json = NULL;
    struct mig_journal *journal = arena_new(arena, struct mig_journal);
    uint32_t version;

    if (!journal)
        return err_no_memory(err);
    int r = json_parse(text, MIG_JOURNAL_FILE, MIG_JOURNAL_MAX_BYTES, &json, err);
    if (r < 0)
        return r;
    if (!read_number(json, "version", UINT32_MAX, &version) || version != VERSION)
        return bad(err, "it is of a version that this program does not know");
    if (!read_number(json, "pid", UINT32_MAX, &journal->pid) ||
        !read_bool(json, "skipReset", &journal->skip_reset))
        return bad(err, "it does not say who wrote it");
    r = read_gpus(json_object_get(json, "gpus"), journal, arena, err);
    if (r < 0)
        return r;
    *ret = journal;
    return 0;
}

/* ---- the file ---- */

static void close_folder(DIR **folder)
{
    if (*folder)
        closedir(*folder);
}

/* file_replace writes ".journal.json.<number>" first. */
void mig_journal_clear_away(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    auto_(close_folder) DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    while (folder && (entry = readdir(folder)))
        if (text_starts(entry->d_name, "." MIG_JOURNAL_FILE "."))
            unlinkat(dir, entry->d_name, 0);
    if (!folder && fd >= 0)
        close(fd);
}

int mig_journal_write(int dir, const struct mig_journal *journal, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIG_JOURNAL_MAX_BYTES);

    mig_journal_clear_away(dir);
    if (mig_journal_to_text(journal, &text) < 0)
        return err_no_memory(err);
    return file_replace(dir, MIG_JOURNAL_FILE, buf_span(&text), 0600, err);
}

bool mig_journal_exists(int dir)
{
    struct stat st;

    return fstatat(dir, MIG_JOURNAL_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int mig_journal_read(int dir, struct arena *arena, struct mig_journal **ret, struct err *err)
{
    struct span text;
    int r = file_read(dir, MIG_JOURNAL_FILE, MIG_JOURNAL_MAX_BYTES, arena, &text, err);

    return r < 0 ? r : mig_journal_parse(text, arena, ret, err);
}

int mig_journal_remove(int dir, struct err *err)
{
    if (unlinkat(dir, MIG_JOURNAL_FILE, 0) < 0 || fsync(dir) < 0)
        return err_set(err, errno, "%s: cannot remove: %s", MIG_JOURNAL_FILE, strerror(errno));
    return 0;
}

int mig_journal_set_aside(int dir, struct err *err)
{
    if (renameat(dir, MIG_JOURNAL_FILE, dir, MIG_JOURNAL_BAD) < 0 || fsync(dir) < 0)
        return err_set(err, errno, "%s: cannot keep it aside: %s", MIG_JOURNAL_FILE,
                       strerror(errno));
    return 0;
}
