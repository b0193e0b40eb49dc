/*
 * nvidia-mig-parted apply and restore: upstream's order of hooks, assertions and changes (spec/mig
 * §4.4), with plans in place of trying: what stays is not touched, and what cannot be done is said
 * before anything is.
 *
 *     apply-start ─► mode asserted? ─no─► pre-apply-mode ─► modes
 *                          └──yes──► devices asserted? ─no─► pre-apply-config ─► devices
 *                                                     └──► apply-exit
 */
#include <errno.h>
#include <string.h>

#include "cli/compat_mig_parted.h"
#include "cli/mig.h"
#include "gpu/mig_bar0.h"
#include "share/go_text.h"
#include "share/mig_wish.h"

struct change {
    struct mig_site *site;
    const struct parted_flags *flags;
    const struct mig_config *config;         /* apply */
    const struct mig_checkpoint *checkpoint; /* restore */
    struct mig_hooks *hooks;
    const char *variables[6];
    struct mig_lock lock;
    size_t n_plans;
    struct mig_gpu_plan *plans;
    bool looked; /* nothing can have changed since */
};

static void change_done(struct change *change)
{
    mig_lock_done(&change->lock);
}

/* What hooks and steps have done since is seen. */
static int look(struct change *change, struct err *err)
{
    int r = change->looked ? 0 : mig_site_look(change->site, false, err);

    change->looked = r == 0;
    return r;
}

/* ---- what is wanted ---- */

static int wishes_of_checkpoint(struct change *change, enum mig_scope scope,
                                const struct mig_wish **ret, struct err *err)
{
    struct mig_wish *wishes = NULL;

    int r = mig_wishes_of_checkpoint(change->checkpoint, change->site->node, scope,
                                     &change->site->arena, &wishes, err);
    *ret = wishes;
    return r == -ENODEV ? err_wrap(err, r, "error getting device handle: Not Found") : r;
}

static int make_wishes(struct change *change, enum mig_scope scope, bool tell,
                       const struct mig_wish **ret, struct err *err)
{
    struct mig_wishes wishes;

    if (change->checkpoint)
        return wishes_of_checkpoint(change, scope, ret, err);
    int r = mig_wishes_make(change->config, change->site->node, MIG_LENIENT, scope,
                            &change->site->arena, &wishes, err);
    if (r < 0)
        return r;
    for (size_t i = 0; tell && i < wishes.n_warnings; i++)
        parted_log(PARTED_WARNING, "%s", wishes.warnings[i]);
    *ret = wishes.wishes;
    return 0;
}

/* 0: the node is like that already. -ENODATA with the reason. */
static int assert_scope(struct change *change, enum mig_scope scope, struct err *err)
{
    const struct mig_wish *wishes;

    if (change->config)
        return mig_config_assert(change->config, change->site->node, MIG_ASSERT_NVIDIAS, scope,
                                 &change->site->arena, err);
    int r = wishes_of_checkpoint(change, scope, &wishes, err);
    for (size_t i = 0; r == 0 && i < change->site->node->n_gpus; i++)
        if (!mig_wish_met(&change->site->node->gpus[i], &wishes[i]))
            return err_set(err, ENODATA, "GPU %u is not as the checkpoint has it",
                           change->site->node->gpus[i].index);
    return r;
}

/* ---- plans ---- */

/* Holders are processes; what only a pod's allocation holds upstream does not know of. */
static int make_plans(struct change *change, enum mig_scope scope, bool tell, struct err *err)
{
    struct mig_site *site = change->site;
    const struct mig_wish *wishes;

    int r = make_wishes(change, scope, tell, &wishes, err);
    if (r < 0)
        return r;
    if (change->flags->skip_reset)
        mig_site_forgive_holders(site, wishes);
    change->n_plans = 0;
    change->plans = arena_new_array(&site->arena, struct mig_gpu_plan, MAX(site->node->n_gpus, 1));
    if (!change->plans)
        return err_no_memory(err);
    for (size_t i = 0; i < site->node->n_gpus; i++) {
        struct mig_gpu_plan *plan = &change->plans[change->n_plans];

        if (wishes[i].kind == MIG_WISH_NOTHING)
            continue;
        r = mig_plan_gpu(&site->node->gpus[i], &wishes[i], true, &site->arena, plan, err);
        if (r < 0)
            return r;
        if (plan->refusal == MIG_REFUSED_UNREADABLE && tell)
            parted_log(PARTED_WARNING, "left as it is: %s", plan->sentence);
        change->n_plans += plan->refusal != MIG_REFUSED_UNREADABLE;
    }
    return 0;
}

static const struct mig_gpu_plan *refused(const struct change *change)
{
    for (size_t i = 0; i < change->n_plans; i++)
        if (change->plans[i].refusal != MIG_REFUSED_NOT)
            return &change->plans[i];
    return NULL;
}

static int say_refusal(const struct mig_gpu_plan *plan, enum mig_scope scope, struct err *err)
{
    if (plan->refusal == MIG_REFUSED_NOT_CAPABLE)
        return err_set(err, ENOTSUP, "cannot set MIG mode on non MIG-capable GPU: GPU %u",
                       plan->gpu->index);
    if (scope == MIG_SCOPE_MODE_ONLY)
        return err_set(err, EBUSY, "%s", plan->sentence);
    return err_set(err, plan->refusal == MIG_REFUSED_HELD ? EBUSY : ENOSPC,
                   "error setting MIGConfig: error attempting multiple config orderings: all "
                   "orderings failed: %s; nothing was touched",
                   plan->sentence);
}

/* What no hook can help: said before the first change. Who holds what may change with the hooks. */
static int check_first(struct change *change, enum mig_scope scope, struct err *err)
{
    int r = make_plans(change, scope, true, err);

    if (r < 0)
        return r;
    for (size_t i = 0; i < change->n_plans; i++)
        if (change->plans[i].refusal == MIG_REFUSED_NO_ROOM ||
            change->plans[i].refusal == MIG_REFUSED_NOT_CAPABLE)
            return say_refusal(&change->plans[i], scope, err);
    return 0;
}

/* ---- changes ---- */

static int on_reset(void *user, const char *const *bus_ids, size_t n, struct err *err)
{
    return mig_site_reset(((struct change *)user)->site, bus_ids, n, err);
}

static void on_progress(void *user, const struct mig_gpu *gpu, const struct mig_step *step,
                        size_t i, size_t n)
{
    char text[160];

    mig_step_describe(gpu, step, text);
    parted_log(PARTED_DEBUG, "GPU %u: step %zu of %zu: %s", gpu->index, i, n, text);
}

static struct mig_apply_options apply_options(struct change *change)
{
    return (struct mig_apply_options){
        .state_dir = change->site->state_dir,
        .lock = &change->lock,
        .root = change->site->root_fd,
        .skip_reset = change->flags->skip_reset,
        .reset = on_reset,
        .progress = on_progress,
        .user = change,
    };
}

static int apply_plans(struct change *change, enum mig_scope scope, struct err *err)
{
    const struct mig_apply_options options = apply_options(change);
    const struct mig_gpu_plan *no = refused(change);
    struct mig_outcome outcome = {};
    struct err why = {};

    if (no)
        return say_refusal(no, scope, err);
    change->looked = false;
    mig_hold_signals(true);
    int r = mig_apply(change->site->nvml, change->plans, change->n_plans, &options,
                      &change->site->arena, &outcome, &why);
    if (outcome.note)
        parted_log(PARTED_WARNING, "%s", outcome.note);
    if (r == 0)
        return 0;
    if (change->site->reset_status) {
        parted_log(PARTED_ERROR, "%s", why.text);
        return err_set(err, EIO, "error resetting all GPUs: exit status %d",
                       change->site->reset_status);
    }
    if (scope == MIG_SCOPE_MODE_ONLY)
        return err_set(err, -r, "%s", why.text);
    return err_set(err, -r,
                   "error setting MIGConfig: error attempting multiple config orderings: all "
                   "orderings failed: %s",
                   why.text);
}

static int run_hooks(struct change *change, enum mig_hook_point point, struct err *err)
{
    if (change->hooks && change->hooks->n[point] > 0)
        change->looked = false;
    if (point != MIG_HOOK_PRE_APPLY_MODE)
        parted_log(PARTED_DEBUG, "running %s hook", mig_hook_name(point));
    return mig_hooks_run(change->hooks, point, change->variables,
                         change->flags->debug ? stdout : NULL, &change->site->arena, err);
}

/* Mode, or mode and devices: hook, look, plan, change. */
static int change_scope(struct change *change, enum mig_scope scope, struct err *err)
{
    enum mig_hook_point point =
        scope == MIG_SCOPE_MODE_ONLY ? MIG_HOOK_PRE_APPLY_MODE : MIG_HOOK_PRE_APPLY_CONFIG;

    int r = run_hooks(change, point, err);
    if (r == 0)
        r = look(change, err);
    if (r == 0)
        r = make_plans(change, scope, false, err);
    return r < 0 ? r : apply_plans(change, scope, err);
}

/* A mode that waits for a reset: devices have to wait, too. */
static int check_modes(const struct change *change, struct err *err)
{
    for (size_t i = 0; i < change->n_plans; i++) {
        const struct mig_gpu_plan *plan = &change->plans[i];

        if (plan->after.enabled && !plan->gpu->enabled)
            return err_set(err, EBUSY,
                           "unable to apply MIG config with MIG mode disabled: GPU %u%s",
                           plan->gpu->index, plan->gpu->pending ? " waits for a reset" : "");
        if (!plan->after.enabled && plan->gpu->enabled && plan->gpu->capable)
            return err_set(err, EBUSY,
                           "MIG mode is currently enabled, but the configuration specifies it "
                           "should be disabled: GPU %u",
                           plan->gpu->index);
    }
    return 0;
}

static int recover(struct change *change, struct err *err)
{
    const struct mig_apply_options options = apply_options(change);
    struct mig_outcome outcome = {};

    int r = mig_lock_take(change->site->state_dir, &change->lock, err);
    if (r == 0)
        r = mig_site_recover(change->site, &options, &outcome, err);
    if (outcome.note)
        parted_log(PARTED_WARNING, "%s", outcome.note);
    if (r > 0)
        parted_log(PARTED_WARNING, "a change that was interrupted has been %s",
                   outcome.undone ? "taken back" : "finished");
    return MIN(r, 0);
}

static int change_devices(struct change *change, struct err *err)
{
    struct err why = {};

    int r = look(change, err);
    if (r < 0)
        return r;
    parted_log(PARTED_DEBUG, "checking current MIG device configuration...");
    r = assert_scope(change, MIG_SCOPE_ALL, &why);
    if (r == 0)
        return 0;
    if (r != -ENODATA)
        return *err = why, r;
    parted_log(PARTED_DEBUG, "%s", why.text);
    r = make_plans(change, MIG_SCOPE_ALL, false, err);
    if (r == 0)
        r = check_modes(change, err);
    return r < 0 ? r : change_scope(change, MIG_SCOPE_ALL, err);
}

/* ---- modes without a driver ---- */

static int apply_modes_by_registers(struct change *change, struct err *err)
{
    const struct mig_wish *wishes;

    int r = parted_bar0_look(change->site, err);
    if (r == 0)
        r = make_wishes(change, MIG_SCOPE_MODE_ONLY, false, &wishes, err);
    if (r < 0)
        return r;
    mig_hold_signals(true);
    r = mig_bar0_apply(change->site->root_fd, change->site->node, wishes, change->flags->skip_reset,
                       err);
    return r;
}

/* As check_first: a board that cannot be read is not helped by hooks. */
static int check_registers(struct change *change, struct err *err)
{
    const struct mig_node *node = change->site->node;
    const struct mig_wish *wishes;
    bool others = false;

    int r = make_wishes(change, MIG_SCOPE_MODE_ONLY, true, &wishes, err);
    for (size_t i = 0; r == 0 && i < node->n_gpus; i++) {
        const struct mig_gpu *gpu = &node->gpus[i];

        if (gpu->problem && wishes[i].kind != MIG_WISH_NOTHING)
            r = err_set(err, EIO, "GPU %u (%s): %s", gpu->index, gpu->bus_id, gpu->problem);
        others = others || (!gpu->problem && !gpu->capable);
    }
    if (r == 0 && others)
        parted_log(PARTED_WARNING, "without a driver the MIG mode of A100 and A30 only can be "
                                   "read and changed");
    return r;
}

/* Devices need the driver, so that a wish for more than modes fails before anything is touched. */
static int change_by_registers(struct change *change, const char *without, struct err *err)
{
    struct err why = {};

    if (!change->flags->mode_only)
        return err_set(err, ENOTSUP, "error creating MIG config Manager: %s", without);
    int r = mig_lock_take(change->site->state_dir, &change->lock, err);
    if (r == 0)
        r = parted_bar0_look(change->site, err);
    if (r == 0)
        r = check_registers(change, err);
    if (r < 0)
        return r;
    parted_log(PARTED_DEBUG, "checking current MIG mode...");
    r = assert_scope(change, MIG_SCOPE_MODE_ONLY, &why);
    if (r != -ENODATA)
        return r < 0 ? (*err = why, r) : 0;
    parted_log(PARTED_DEBUG, "%s", why.text);
    r = run_hooks(change, MIG_HOOK_PRE_APPLY_MODE, err);
    return r < 0 ? r : apply_modes_by_registers(change, err);
}

/* ---- all of it ---- */

static int change_all(struct change *change, const char **ret_without, struct err *err)
{
    enum mig_scope scope = change->flags->mode_only ? MIG_SCOPE_MODE_ONLY : MIG_SCOPE_ALL;
    struct err why = {};

    /* A checkpoint names GPUs by their UUIDs, which are the driver's. */
    int r = parted_start(change->site, change->config ? ret_without : NULL, err);
    if (r == 0 && *ret_without)
        return change_by_registers(change, *ret_without, err);
    if (r == 0)
        r = recover(change, err);
    if (r == 0)
        r = look(change, err);
    if (r == 0)
        r = check_first(change, scope, err);
    if (r < 0)
        return r;
    parted_log(PARTED_DEBUG, "checking current MIG mode...");
    r = assert_scope(change, MIG_SCOPE_MODE_ONLY, &why);
    if (r == -ENODATA) {
        parted_log(PARTED_DEBUG, "%s", why.text);
        r = change_scope(change, MIG_SCOPE_MODE_ONLY, err);
    } else if (r < 0) {
        *err = why;
    }
    return r < 0 || change->flags->mode_only ? r : change_devices(change, err);
}

/* For `tranche mig restore`; nobody who calls this program waits for it. */
static void remember(struct change *change)
{
    struct err err = {};

    int r = look(change, &err);
    if (r == 0)
        r = mig_site_remember(change->site, &err);
    if (r < 0)
        parted_log(PARTED_DEBUG, "the layout was not noted: %s", err.text);
}

static int with_hooks(struct change *change, struct err *err)
{
    const char *without = NULL;
    struct err late = {};

    int r = run_hooks(change, MIG_HOOK_APPLY_START, err);
    if (r < 0)
        return r;
    r = change_all(change, &without, err);
    if (r == 0 && !without)
        remember(change);
    /* After a change signals are held, so that a Ctrl-C does not come before it. */
    int last = run_hooks(change, MIG_HOOK_APPLY_EXIT, &late);
    mig_hold_signals(false);
    if (last < 0 && r == 0) {
        *err = late;
        return last;
    }
    if (last < 0)
        parted_log(PARTED_ERROR, "%s", late.text);
    return r;
}

/* ---- before the change ---- */

static int read_hooks(struct change *change, struct err *err)
{
    const char *path = change->flags->hooks_file;
    char words[128];
    struct span text;

    if (!*path)
        return 0;
    int r = mig_file_read(change->site, path, MIG_CONFIG_MAX_FILE_BYTES, &text, NULL);
    if (r < 0)
        return err_set(err, -r, "error parsing hooks file: read error: open %s: %s", path,
                       go_error(-r, words));
    return mig_hooks_parse(text, path, &change->site->arena, &change->hooks, err);
}

static int add_variable(struct change *change, size_t *n, const char *name, const char *value,
                        struct err *err)
{
    char *text = arena_printf(&change->site->arena, "MIG_PARTED_%s=%s", name, value);

    change->variables[(*n)++] = text;
    return text ? 0 : err_no_memory(err);
}

static const char *go_bool(bool on)
{
    return on ? "true" : "false";
}

static int run(struct change *change, struct err *err)
{
    int r = read_hooks(change, err);

    if (r < 0)
        return r;
    r = with_hooks(change, err);
    return r < 0 ? err_wrap(err, r, "error applying MIG configuration with hooks") : 0;
}

int parted_apply(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    auto_(
        change_done) struct change change = { .site = site, .flags = flags, .lock = MIG_LOCK_NONE };
    size_t n = 0;

    int r = parted_config(site, flags, &change.config, err);
    if (r == 0)
        r = add_variable(&change, &n, "CONFIG_FILE", flags->config_file, err);
    if (r == 0)
        r = add_variable(&change, &n, "SELECTED_CONFIG", change.config->name, err);
    if (r == 0)
        r = add_variable(&change, &n, "HOOKS_FILE", flags->hooks_file, err);
    if (r == 0)
        r = add_variable(&change, &n, "SKIP_RESET", go_bool(flags->skip_reset), err);
    if (r == 0)
        r = add_variable(&change, &n, "MODE_CHANGE_ONLY", go_bool(flags->mode_only), err);
    return r < 0 ? r : run(&change, err);
}

int parted_restore(struct mig_site *site, const struct parted_flags *flags, struct err *err)
{
    auto_(
        change_done) struct change change = { .site = site, .flags = flags, .lock = MIG_LOCK_NONE };
    struct mig_checkpoint *checkpoint;
    char words[128];
    struct span text;
    size_t n = 0;

    int r = mig_file_read(site, flags->checkpoint_file, MIB(4), &text, NULL);
    if (r < 0)
        return err_set(err, -r, "error parsing checkpoint file: read error: open %s: %s",
                       flags->checkpoint_file, go_error(-r, words));
    r = mig_checkpoint_parse(text, flags->checkpoint_file, &site->arena, &checkpoint, err);
    change.checkpoint = checkpoint;
    if (r == 0)
        r = add_variable(&change, &n, "CHECKPOINT_FILE", flags->checkpoint_file, err);
    if (r == 0)
        r = add_variable(&change, &n, "HOOKS_FILE", flags->hooks_file, err);
    if (r == 0)
        r = add_variable(&change, &n, "MODE_CHANGE_ONLY", go_bool(flags->mode_only), err);
    return r < 0 ? r : run(&change, err);
}
