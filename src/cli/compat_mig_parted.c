#include "cli/compat_mig_parted.h"

#include <errno.h>
#include <string.h>

#include "cli/compat.h"
#include "cli/mig.h"
#include "share/go_text.h"
#include "share/mig_wish.h"

enum { MAX_DOCUMENT_BYTES = 4 << 20 };

/* ---- NVML ---- */

int parted_start(struct mig_site *site, const char **ret_without, struct err *err)
{
    struct err why = {};

    int r = mig_site_start(site, &why);
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (ret_without && (*ret_without = parted_without_nvml(site)))
        return 0;
    if (r == 0)
        return 0;
    if (r == -ENXIO)
        parted_log(PARTED_WARNING, "the nvidia module is not loaded (modprobe nvidia)");
    return err_set(err, -r, "error initializing NVML: %s",
                   site->library ? why.text : NVML_NO_LIBRARY_TEXT);
}

static int start_and_look(struct mig_site *site, struct err *err)
{
    int r = parted_start(site, NULL, err);

    return r < 0 ? r : mig_site_look(site, false, err);
}

/* ---- configurations ---- */

int parted_config(struct mig_site *site, const struct parted_flags *flags,
                  const struct mig_config **ret, struct err *err)
{
    const char *path = flags->config_file;
    struct mig_config_file *file;
    char words[128];
    struct span text;

    parted_log(PARTED_DEBUG, "parsing config file...");
    int r = mig_file_read(site, path, MIG_CONFIG_MAX_FILE_BYTES, &text, NULL);
    if (r < 0)
        return err_set(err, -r, "error parsing config file: read error: open %s: %s", path,
                       go_error(-r, words));
    r = mig_config_parse(text, text_equal(path, "-") ? "<stdin>" : path, &site->arena, &file, err);
    if (r < 0)
        return r;
    parted_log(PARTED_DEBUG, "selecting specific MIG config...");
    return mig_config_select(file, flags->selected_config, ret, err);
}

/* ---- commands ---- */

static int apply(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    int r = parted_apply(site, flags, err);

    if (r == 0)
        puts("MIG configuration applied successfully");
    return r;
}

static int restore(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    int r = parted_restore(site, flags, err);

    if (r == 0)
        puts("MIG configuration restored successfully");
    return r;
}

static int assert_scopes(struct mig_site *site, const struct parted_flags *flags,
                         const struct mig_config *config, struct err *err)
{
    const char *without;

    int r = parted_start(site, &without, err);
    if (r == 0)
        r = without ? parted_bar0_look(site, err) : mig_site_look(site, false, err);
    if (r < 0)
        return r;
    parted_log(PARTED_DEBUG, "asserting MIG mode configuration...");
    r = mig_config_assert(config, site->node, MIG_ASSERT_NVIDIAS, MIG_SCOPE_MODE_ONLY, &site->arena,
                          err);
    if (r < 0 || flags->mode_only)
        return r;
    if (without)
        return err_set(err, ENOTSUP, "error creating MIG config Manager: %s", without);
    parted_log(PARTED_DEBUG, "asserting MIG device configuration...");
    return mig_config_assert(config, site->node, MIG_ASSERT_NVIDIAS, MIG_SCOPE_ALL, &site->arena,
                             err);
}

static int assert_config(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    const struct mig_config *config;
    struct err why = {};

    int r = parted_config(site, flags, &config, err);
    if (r < 0)
        return r;
    if (flags->valid_only) {
        puts("Selected MIG configuration is valid");
        return 0;
    }
    r = assert_scopes(site, flags, config, &why);
    if (r < 0) {
        parted_log(PARTED_DEBUG, "%s", why.text);
        return err_set(err, ENODATA,
                       "assertion failure: selected configuration not currently applied");
    }
    puts(flags->mode_only ? "Selected MIG mode settings from configuration currently applied"
                          : "Selected MIG configuration currently applied");
    return 0;
}

static enum mig_document_format format_of(const struct parted_flags *flags)
{
    return text_equal(flags->output_format, "json") ? MIG_JSON : MIG_YAML;
}

static int print(const struct buf *text, struct err *err)
{
    if (text->failed)
        return err_no_memory(err);
    fwrite(buf_text(text), 1, text->len, stdout);
    return 0;
}

static int export_node(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MAX_DOCUMENT_BYTES);
    const char *without;

    int r = parted_start(site, &without, err);
    if (r == 0 && without)
        return err_set(err, ENOTSUP, "error creating MIG Config Manager: %s", without);
    if (r == 0)
        r = mig_site_look(site, false, err);
    if (r == 0)
        r = mig_export_write(site->node, flags->config_label, format_of(flags), &text, err);
    return r < 0 ? r : print(&text, err);
}

/* Unlike upstream, which empties the file first, only what could be made takes an old one's place.
 */
static int generate(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    static const char prefix[] = "error generating MIG config: failed to discover MIG profiles";
    auto_(buf_done) struct buf text = BUF_MAX(MAX_DOCUMENT_BYTES);
    const char *path = flags->output_file;
    char words[128];

    int r = start_and_look(site, err);
    if (r < 0)
        return err_wrap(err, r, prefix);
    r = mig_generate_write(site->node, format_of(flags), &text, err);
    if (r < 0)
        return text_starts(err->text, "error generating") ? r : err_wrap(err, r, prefix);
    if (!*path)
        return print(&text, err);
    r = mig_file_write(path, buf_span(&text), 0644, NULL);
    return r == 0 ? 0
                  : err_set(err, -r, "error creating output file: open %s: %s", path,
                            go_error(-r, words));
}

static int checkpoint(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MAX_DOCUMENT_BYTES);
    const char *path = flags->checkpoint_file;
    char words[128];

    int r = start_and_look(site, err);
    if (r == 0)
        r = mig_checkpoint_write(site->node, &text, err);
    if (r < 0)
        return r;
    r = mig_file_write(path, buf_span(&text), 0644, NULL);
    if (r < 0)
        return err_set(err, -r, "error creating checkpoint file: open %s: %s", path,
                       go_error(-r, words));
    puts("MIG configuration checkpointed successfully");
    return 0;
}

typedef int command_fn(struct mig_site *site, const struct parted_flags *flags, struct err *err);

int compat_mig_parted(int argc, char **argv)
{
    static command_fn *const commands[PARTED_N_COMMANDS] = {
        [PARTED_APPLY] = apply,           [PARTED_ASSERT] = assert_config,
        [PARTED_EXPORT] = export_node,    [PARTED_GENERATE] = generate,
        [PARTED_CHECKPOINT] = checkpoint, [PARTED_RESTORE] = restore,
    };
    auto_(mig_site_done) struct mig_site site = MIG_SITE_INIT;
    struct parted_flags flags;
    struct err err = {};
    int status = 0;

    int r = parted_flags_read(argc - 1, argv + 1, &site.arena, &flags, &status, &err);
    if (r == 1)
        return status;
    if (r == 0)
        r = mig_site_place(&site, NULL, &err);
    if (r == 0)
        r = commands[flags.command](&site, &flags, &err);
    if (r == 0)
        return 0;
    parted_log(PARTED_FATAL, "%s", err.text);
    return 1;
}
