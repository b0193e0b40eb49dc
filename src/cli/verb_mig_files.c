/*
 * tranche mig assert, export, checkpoint and generate-config: what a node is, as files.
 */
#include <errno.h>
#include <string.h>

#include "cli/verb_mig.h"
#include "share/mig_wish.h"

enum { MAX_DOCUMENT_BYTES = 4 << 20 };

/* To standard output, with a newline at its end, or in place of a file, as it is. */
static int write_document(const struct mig_request *request, const struct buf *text,
                          struct err *err)
{
    if (text->failed)
        return err_no_memory(err);
    if (request->file && !text_equal(request->file, "-"))
        return mig_file_write(request->file, buf_span(text), 0644, err);
    fwrite(buf_text(text), 1, text->len, stdout);
    if (text->len > 0 && text->ptr[text->len - 1] != '\n')
        putchar('\n');
    return 0;
}

static enum mig_document_format format_of(const struct mig_request *request)
{
    return request->format == OUTPUT_JSON ? MIG_JSON : MIG_YAML;
}

int mig_export(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MAX_DOCUMENT_BYTES);

    int r = mig_site_look(site, false, err);
    if (r == 0)
        r = mig_export_write(site->node, request->label ? request->label : "current",
                             format_of(request), &text, err);
    return r < 0 ? r : write_document(request, &text, err);
}

int mig_generate(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MAX_DOCUMENT_BYTES);
    int r;

    if (request->defaults) {
        r = mig_defaults_write(format_of(request), &text, err);
    } else {
        r = mig_site_open(site, request->root, err);
        if (r == 0)
            r = mig_site_look(site, false, err);
        if (r == 0)
            r = mig_generate_write(site->node, format_of(request), &text, err);
    }
    return r < 0 ? r : write_document(request, &text, err);
}

/* Where `tranche mig restore` looks by itself. Under the lock, or the middle of another's change
 * would be noted after its end. */
static int note_layout(struct mig_site *site, struct err *err)
{
    auto_(mig_lock_done) struct mig_lock lock = MIG_LOCK_NONE;

    int r = mig_lock_take(site->state_dir, &lock, err);
    if (r == 0)
        r = mig_site_look(site, false, err);
    if (r == 0)
        r = mig_site_remember(site, err);
    if (r == 0)
        printf("%s/" MIG_LAST_CHECKPOINT "\n", site->state_dir);
    return r;
}

int mig_checkpoint(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MAX_DOCUMENT_BYTES);
    const char *path = request->file ? request->file : request->name;

    mig_warn_of_change(site);
    if (!path)
        return note_layout(site, err);
    int r = mig_site_look(site, false, err);
    if (r == 0)
        r = mig_checkpoint_write(site->node, &text, err);
    if (r < 0)
        return r;
    if (!text_equal(path, "-"))
        return mig_file_write(path, buf_span(&text), 0600, err);
    puts(buf_text(&text));
    return 0;
}

int mig_assert(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    enum mig_scope scope = request->mode_only ? MIG_SCOPE_MODE_ONLY : MIG_SCOPE_ALL;
    const struct mig_config *config;
    const struct mig_wish *wishes;
    struct mig_choice choice;

    int r = mig_site_look(site, false, err);
    if (r == 0)
        r = mig_choose(site->node, request->gpus, &choice, err);
    if (r == 0)
        r = mig_wanted_config(site, request, &choice, &config, err);
    /* What could not be applied is not asserted either: the same complaints. */
    if (r == 0)
        r = mig_wanted(site, request, &wishes, err);
    if (r < 0)
        return r;
    if (!request->gpus) {
        r = mig_config_assert(config, site->node, MIG_ASSERT_OURS, scope, &site->arena, err);
        if (r != -ENODATA)
            return r;
    }
    for (size_t i = 0; i < site->node->n_gpus; i++)
        if (choice.chosen[i] && !mig_wish_met(&site->node->gpus[i], &wishes[i]))
            return err_set(err, ENODATA,
                           "GPU %u is not divided that way; `tranche mig plan` shows how it is",
                           site->node->gpus[i].index);
    return r;
}
