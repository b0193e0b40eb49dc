/*
 * tranche mig plan, apply and restore: from what is wanted to a plan, and from the plan to GPUs.
 *
 *     finish what was left over ─► look ─► plan ─► hooks ─► look, plan again ─► apply ─► remember
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "cli/table.h"
#include "cli/verb_mig.h"

enum { PROGRESS_AFTER_MS = 1000 };

struct change {
    struct mig_site *site;
    const struct mig_request *request;
    struct mig_hooks *hooks; /* NULL without a file */
    size_t n_plans;          /* of the GPUs about which something is wanted */
    struct mig_gpu_plan *plans;
    size_t n_steps, n_refused, n_held; /* of all plans; held: refused for a holder */
    uint64_t started_ms, told_ms;
    struct mig_lock lock; /* from the recovery to the end */
    /* Of the node's: MIG mode was turned on to see their profiles. */
    size_t n_revealed;
    bool revealed[MIG_MAX_GPUS];
};

#define CHANGE_INIT(site_, request_)                                                               \
    (struct change)                                                                                \
    {                                                                                              \
        .site = (site_), .request = (request_), .lock = MIG_LOCK_NONE                              \
    }

static void change_done(struct change *change)
{
    mig_lock_done(&change->lock);
}

/* ---- planning ---- */

static int count_plans(struct change *change, struct err *err)
{
    change->n_steps = change->n_refused = change->n_held = 0;
    if (change->n_plans == 0)
        return err_set(err, ENODEV, "what is wanted is about none of %s",
                       change->request->gpus ? "these GPUs" : "this node's GPUs");
    for (size_t i = 0; i < change->n_plans; i++) {
        change->n_steps += change->plans[i].n_steps;
        change->n_refused += change->plans[i].refusal != MIG_REFUSED_NOT;
        change->n_held += change->plans[i].refusal == MIG_REFUSED_HELD;
    }
    return 0;
}

/* On the last look. */
static int plan_wishes(struct change *change, struct err *err)
{
    struct mig_site *site = change->site;
    const struct mig_wish *wishes;

    int r = mig_wanted(site, change->request, &wishes, err);
    if (r < 0)
        return r;
    if (change->request->skip_reset)
        mig_site_forgive_holders(site, wishes);
    change->n_plans = 0;
    change->plans = arena_new_array(&site->arena, struct mig_gpu_plan, MAX(site->node->n_gpus, 1));
    if (!change->plans)
        return err_no_memory(err);
    for (size_t i = 0; i < site->node->n_gpus; i++) {
        if (wishes[i].kind == MIG_WISH_NOTHING)
            continue;
        r = mig_plan_gpu(&site->node->gpus[i], &wishes[i], change->request->take_from_pods,
                         &site->arena, &change->plans[change->n_plans++], err);
        if (r < 0)
            return r;
    }
    return count_plans(change, err);
}

static int make_plans(struct change *change, struct err *err)
{
    int r = mig_site_look(change->site, true, err);

    return r < 0 ? r : plan_wishes(change, err);
}

/* A kubelet that does not say who holds what may have given away just what would go. */
static int check_pods(const struct change *change, struct err *err)
{
    size_t destroyed = 0;

    for (size_t i = 0; i < change->n_plans; i++)
        destroyed += change->plans[i].n_destroyed;
    if (change->site->pods != MIG_PODS_UNKNOWN)
        return 0;
    if (destroyed == 0 || change->request->take_from_pods) {
        fprintf(stderr, "warning: which pods hold what is not known: %s\n",
                change->site->pods_problem);
        return 0;
    }
    return err_set(err, EBUSY,
                   "%zu GPU instance%s would go, and whether pods hold %s is not known: %s; "
                   "--take-from-pods goes on all the same",
                   destroyed, destroyed == 1 ? "" : "s", destroyed == 1 ? "it" : "them",
                   change->site->pods_problem);
}

/* ---- saying it ---- */

static bool same_holders(const struct mig_gpu_plan *a, const struct mig_gpu_plan *b)
{
    for (size_t i = 0; i < a->gpu->n_gis; i++)
        if (mig_gpu_instance_holder(&a->gpu->gis[i]) || mig_gpu_instance_holder(&b->gpu->gis[i]))
            return false;
    return !a->gpu->holder && !b->gpu->holder;
}

static bool is_same(const struct mig_gpu_plan *a, const struct mig_gpu_plan *b)
{
    return text_equal(a->gpu->name, b->gpu->name) && a->n_steps == b->n_steps &&
           a->refusal == MIG_REFUSED_NOT && b->refusal == MIG_REFUSED_NOT &&
           mig_layout_equal(&a->before, &b->before) && mig_layout_equal(&a->after, &b->after) &&
           same_holders(a, b);
}

/* GPUs that have the same before them, next to each other: how many. */
static size_t n_same(const struct change *change, size_t from)
{
    size_t n = 1;

    while (from + n < change->n_plans && is_same(&change->plans[from], &change->plans[from + n]))
        n++;
    return n;
}

static void print_group(const struct change *change, size_t from, size_t n,
                        const struct mig_look_style *style)
{
    const struct mig_gpu_plan *plan = &change->plans[from];
    char heading[256], last[32] = "";

    mig_heading(plan->gpu, heading);
    if (n > 1)
        snprintf(last, sizeof(last), "-%u", change->plans[from + n - 1].gpu->index);
    printf("%sGPU %u%s%s%s%s\n", output_style(style->colour, STYLE_BOLD), plan->gpu->index, last,
           heading + strcspn(heading + 4, " ") + 4, output_unstyle(style->colour, STYLE_BOLD),
           plan->n_steps == 0 ? ": nothing to do" : "");
    if (plan->n_steps == 0)
        return;
    mig_draw_gpu(stdout, plan->gpu, style);
    mig_print_fates(stdout, plan,
                    change->request->wide ? MIG_UUIDS_ALL
                    : n == 1              ? MIG_UUIDS_TOUCHED
                                          : MIG_UUIDS_NONE,
                    style);
    mig_draw_after(stdout, plan, style);
}

struct verbs {
    const char *kept[2], *gone[2], *made[2]; /* of one, of several */
};

/* "MIG mode on: 2 GPUs." */
static bool print_modes(const struct change *change, enum mig_step_kind kind, const char *word,
                        bool first)
{
    size_t n = 0;

    for (size_t i = 0; i < change->n_plans; i++)
        n += mig_plan_has(&change->plans[i], kind);
    if (n > 0)
        printf("%sMIG mode %s: %zu GPU%s.", first ? "" : " ", word, n, n == 1 ? "" : "s");
    return n > 0;
}

static void print_totals(const struct change *change, bool done)
{
    static const struct verbs words[2] = {
        { { "stays", "stay" }, { "goes", "go" }, { "comes", "come" } },
        { { "kept", "kept" }, { "removed", "removed" }, { "made", "made" } },
    };
    const struct verbs *w = &words[done];
    size_t kept = 0, gone = 0, made = 0, moved = 0;

    for (size_t i = 0; i < change->n_plans; i++) {
        kept += change->plans[i].n_kept;
        gone += change->plans[i].n_destroyed;
        made += change->plans[i].n_created;
        moved += change->plans[i].n_moved;
    }
    bool modes = print_modes(change, MIG_STEP_MODE_ON, "on", true);
    modes = print_modes(change, MIG_STEP_MODE_OFF, "off", !modes) || modes;
    if (!modes || kept + gone + made > 0)
        printf("%s%zu GPU instance%s %s, %zu %s, %zu %s", modes ? " " : "", kept,
               kept == 1 ? "" : "s", w->kept[kept != 1], gone, w->gone[gone != 1], made,
               w->made[made != 1]);
    if (moved > 0)
        printf(" (%zu only to another place)", moved);
    puts(!modes || kept + gone + made > 0 ? "." : "");
}

static void print_plan(const struct change *change)
{
    struct mig_look_style style = mig_style_of(stdout);

    for (size_t i = 0, n; i < change->n_plans; i += n) {
        n = n_same(change, i);
        print_group(change, i, n, &style);
    }
    if (change->n_steps == 0)
        puts("Nothing to do.");
    else
        print_totals(change, false);
}

/* Refused for the same reason as a GPU before it: nothing but its number would be new. */
static bool is_repeated(const struct change *change, size_t at)
{
    const struct mig_gpu_plan *plan = &change->plans[at];

    for (size_t i = 0; i < at && !plan->blocker; i++)
        if (change->plans[i].refusal == plan->refusal && !change->plans[i].blocker &&
            text_equal(change->plans[i].gpu->name, plan->gpu->name))
            return true;
    return false;
}

static void print_refusals(const struct change *change)
{
    size_t n_repeated = 0;

    for (size_t i = 0; i < change->n_plans; i++) {
        const struct mig_gpu_plan *plan = &change->plans[i];

        if (plan->refusal == MIG_REFUSED_NOT)
            continue;
        if (is_repeated(change, i))
            n_repeated++;
        else
            fprintf(stderr, "tranche mig %s: %s\n", change->request->command, plan->sentence);
    }
    if (n_repeated > 0)
        fprintf(stderr, "The same goes for %zu more GPU%s.\n", n_repeated,
                n_repeated == 1 ? "" : "s");
    fputs("Nothing was touched.\n", stderr);
}

static json_t *changes_json(const struct mig_outcome *outcome)
{
    json_t *list = json_array();

    for (size_t i = 0; i < outcome->n_changes; i++) {
        const struct mig_change *c = &outcome->changes[i];

        json_array_append_new(
            list,
            json_pack("{s:i, s:s, s:i, s:i, s:o, s:o}", "gpu", (int)c->gpu, "profile", c->profile,
                      "start", (int)c->placement.start, "size", (int)c->placement.size, "oldUuid",
                      c->old_uuid ? json_string(c->old_uuid) : json_null(), "newUuid",
                      c->new_uuid ? json_string(c->new_uuid) : json_null()));
    }
    return list;
}

/* The plan, and with an outcome what became of it. */
static int print_json(const struct change *change, const struct mig_outcome *outcome,
                      struct err *err)
{
    json_t *gpus = json_array();

    for (size_t i = 0; i < change->n_plans; i++)
        json_array_append_new(gpus, mig_plan_json(&change->plans[i]));
    auto_(json_decrefp) json_t *json = json_pack("{s:b, s:b, s:o}", "changes", change->n_steps > 0,
                                                 "refused", change->n_refused > 0, "gpus", gpus);
    if (json && outcome)
        json_object_update_new(json, json_pack("{s:b, s:o, s:i}", "applied", !outcome->undone,
                                               "devices", changes_json(outcome), "pending",
                                               (int)outcome->n_pending));
    return json ? output_print(stdout, change->request->format, json, err) : err_no_memory(err);
}

static int by_place(const void *a, const void *b)
{
    const struct mig_change *left = a, *right = b;

    if (left->gpu != right->gpu)
        return left->gpu < right->gpu ? -1 : 1;
    if (left->placement.start != right->placement.start)
        return left->placement.start < right->placement.start ? -1 : 1;
    return (left->new_uuid != NULL) - (right->new_uuid != NULL);
}

/* Which MIG devices are gone, and which have come, by their UUIDs. */
static void print_changes(const struct mig_outcome *outcome, FILE *to)
{
    uint32_t gpu = UINT32_MAX;

    if (outcome->n_changes > 1)
        qsort(outcome->changes, outcome->n_changes, sizeof(outcome->changes[0]), by_place);
    for (size_t i = 0; i < outcome->n_changes; i++) {
        const struct mig_change *c = &outcome->changes[i];
        const char *uuid = c->new_uuid ? c->new_uuid : c->old_uuid;

        if (c->gpu != gpu)
            fprintf(to, "GPU %u\n", gpu = c->gpu);
        if (c->old_uuid && c->new_uuid)
            fprintf(to, "  ~ %s@%u  %s is now %s\n", c->profile, c->placement.start, c->old_uuid,
                    c->new_uuid);
        else
            fprintf(to, "  %c %s@%u%s%s\n", c->new_uuid ? '+' : '-', c->profile, c->placement.start,
                    uuid && *uuid ? "  " : "", uuid ? uuid : "");
    }
}

/* ---- doing it ---- */

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* What is quick needs no word; what is not gets one a second. */
static void on_progress(void *user, const struct mig_gpu *gpu, const struct mig_step *step,
                        size_t i, size_t n)
{
    struct change *change = user;
    uint64_t now = now_ms();
    char text[160];

    if (now - change->started_ms < PROGRESS_AFTER_MS || now - change->told_ms < PROGRESS_AFTER_MS)
        return;
    change->told_ms = now;
    mig_step_describe(gpu, step, text);
    fprintf(stderr, "step %zu of %zu: GPU %u: %s\n", i, n, gpu->index, text);
}

static int on_reset(void *user, const char *const *bus_ids, size_t n, struct err *err)
{
    return mig_site_reset(((struct change *)user)->site, bus_ids, n, err);
}

static struct mig_apply_options apply_options(struct change *change)
{
    return (struct mig_apply_options){
        .state_dir = change->site->state_dir,
        .lock = &change->lock,
        .root = change->site->root_fd,
        .skip_reset = change->request->skip_reset,
        .reset = on_reset,
        .progress = on_progress,
        .user = change,
    };
}

static int recover(struct change *change, struct err *err)
{
    const struct mig_apply_options options = apply_options(change);
    struct mig_outcome outcome = {};

    int r = mig_site_recover(change->site, &options, &outcome, err);
    if (outcome.note)
        fprintf(stderr, "warning: %s\n", outcome.note);
    if (r <= 0)
        return r < 0 ? err_wrap(err, r, "cannot finish a change that was interrupted") : 0;
    fprintf(stderr, "A change that was interrupted has been %s.\n",
            outcome.undone ? "taken back" : "finished");
    print_changes(&outcome, stderr);
    return 1;
}

static int apply_plans(struct change *change, struct mig_outcome *outcome, struct err *err)
{
    const struct mig_apply_options options = apply_options(change);

    change->started_ms = now_ms();
    int r = mig_apply(change->site->nvml, change->plans, change->n_plans, &options,
                      &change->site->arena, outcome, err);
    if (r < 0 && outcome->n_changes > 0)
        print_changes(outcome, stderr);
    if (outcome->note)
        fprintf(stderr, "warning: %s\n", outcome->note);
    return r;
}

/* ---- drivers that hide profiles while MIG is off ---- */

static int set_mode(struct change *change, const bool *which, bool on, struct err *err)
{
    const struct mig_apply_options options = apply_options(change);
    const struct mig_wish wish = { .kind = MIG_WISH_MODE, .enabled = on };
    struct mig_site *site = change->site;
    struct mig_gpu_plan *plans =
        arena_new_array(&site->arena, struct mig_gpu_plan, MAX(site->node->n_gpus, 1));
    struct mig_outcome outcome;
    size_t n = 0;
    int r = plans ? 0 : err_no_memory(err);

    for (size_t i = 0; r == 0 && i < site->node->n_gpus; i++)
        if (which[i])
            r = mig_plan_gpu(&site->node->gpus[i], &wish, change->request->take_from_pods,
                             &site->arena, &plans[n++], err);
    if (r < 0 || n == 0)
        return r;
    return mig_apply(site->nvml, plans, n, &options, &site->arena, &outcome, err);
}

static bool must_reveal(const struct change *change)
{
    return !change->request->mode_only && mig_node_hides_profiles(change->site->node);
}

/* Nothing can be planned before the mode is on: turns it on where it is wanted, and looks again.
 * Signals are held from here to the end, as no journal knows of the mode. */
static int reveal_profiles(struct change *change, struct err *err)
{
    struct mig_request request = *change->request;
    const struct mig_node *node = change->site->node;
    const struct mig_wish *wishes;

    request.mode_only = true;
    int r = mig_wanted(change->site, &request, &wishes, err);
    for (size_t i = 0; r == 0 && i < node->n_gpus; i++) {
        change->revealed[i] = mig_hides_profiles(&node->gpus[i]) &&
                              wishes[i].kind == MIG_WISH_MODE && wishes[i].enabled;
        change->n_revealed += change->revealed[i];
    }
    mig_hold_signals(true);
    if (r == 0)
        r = set_mode(change, change->revealed, true, err);
    if (r == 0)
        r = mig_site_look(change->site, true, err);
    return r;
}

/* After a refusal everything is to be as it was. A GPU that hangs would keep us, too. */
static void hide_profiles_again(struct change *change)
{
    struct err err = {};

    if (change->n_revealed == 0)
        return;
    change->n_revealed = 0;
    int r = change->site->hangs ? err_set(&err, ETIMEDOUT, "NVML does not answer")
                                : mig_site_look(change->site, true, &err);
    if (r == 0)
        r = set_mode(change, change->revealed, false, &err);
    if (r < 0)
        fprintf(stderr, "warning: MIG mode stays on: %s\n", err.text);
}

/* The layout to come back to; that it could not be noted is no reason to say the change failed.
 * Nobody else changes anything under the lock, so what the steps did need not be looked at. */
static void remember(struct change *change, const struct mig_outcome *outcome)
{
    struct mig_site *site = change->site;
    struct err err = {};

    int r = mig_apply_imagine(site->node, change->plans, change->n_plans, outcome, &err);
    if (r < 0)
        r = mig_site_look(site, false, &err);
    if (r == 0)
        r = mig_site_remember(site, &err);
    if (r < 0)
        fprintf(stderr, "warning: `tranche mig restore` will not know this layout: %s\n", err.text);
}

static int tell_outcome(const struct change *change, const struct mig_outcome *outcome,
                        struct err *err)
{
    if (change->request->format != OUTPUT_TEXT)
        return print_json(change, outcome, err);
    print_changes(outcome, stdout);
    if (change->n_steps == 0)
        puts("Nothing to do: the GPUs are divided that way already.");
    else
        print_totals(change, true);
    if (outcome->n_pending > 0)
        printf("%zu GPU%s for a reset before the MIG mode is what it should be.\n",
               outcome->n_pending, outcome->n_pending == 1 ? " waits" : "s wait");
    return 0;
}

static int apply_now(struct change *change, struct err *err)
{
    struct mig_outcome outcome = {};

    int r = check_pods(change, err);
    if (r < 0)
        return r;
    mig_hold_signals(true);
    r = apply_plans(change, &outcome, err);
    if (r == 0) {
        change->n_revealed = 0;
        r = tell_outcome(change, &outcome, err);
        fflush(stdout);
        remember(change, &outcome);
    }
    return r;
}

/* ---- with hooks ---- */

static int read_hooks(struct change *change, struct err *err)
{
    const char *path = change->request->hooks;
    struct span text;

    if (!path)
        return 0;
    int r = mig_file_read(change->site, path, MIG_CONFIG_MAX_FILE_BYTES, &text, err);
    return r < 0 ? r : mig_hooks_parse(text, path, &change->site->arena, &change->hooks, err);
}

/* The names that hooks of NVIDIA's tool know. */
static int hook_variables(struct change *change, const char *ret[static 6], struct err *err)
{
    const struct mig_request *request = change->request;
    const char *name = request->config ? request->config : request->name;
    struct arena *arena = &change->site->arena;
    bool restores = text_equal(request->command, "restore");

    ret[0] = arena_printf(arena, "MIG_PARTED_%s_FILE=%s", restores ? "CHECKPOINT" : "CONFIG",
                          request->file      ? request->file
                          : restores && name ? name
                                             : "");
    ret[1] = arena_printf(arena, "MIG_PARTED_SELECTED_CONFIG=%s", restores || !name ? "" : name);
    ret[2] = arena_printf(arena, "MIG_PARTED_HOOKS_FILE=%s", request->hooks);
    ret[3] = request->skip_reset ? "MIG_PARTED_SKIP_RESET=true" : "MIG_PARTED_SKIP_RESET=false";
    ret[4] = request->mode_only ? "MIG_PARTED_MODE_CHANGE_ONLY=true"
                                : "MIG_PARTED_MODE_CHANGE_ONLY=false";
    ret[5] = NULL;
    return ret[0] && ret[1] && ret[2] ? 0 : err_no_memory(err);
}

static bool changes_mode(const struct change *change)
{
    for (size_t i = 0; i < change->n_plans; i++)
        if (mig_plan_has(&change->plans[i], MIG_STEP_MODE_ON) ||
            mig_plan_has(&change->plans[i], MIG_STEP_MODE_OFF))
            return true;
    return false;
}

static int refuse(const struct change *change)
{
    print_refusals(change);
    return MIG_EXIT_FAILED;
}

/* Hooks stop who uses the GPUs: who holds what is another matter after them. */
static int between_hooks(struct change *change, const char *const *variables, struct err *err)
{
    struct arena *arena = &change->site->arena;
    bool hidden = must_reveal(change);
    int r = 0;

    if (hidden || changes_mode(change))
        r = mig_hooks_run(change->hooks, MIG_HOOK_PRE_APPLY_MODE, variables, stderr, arena, err);
    if (r == 0 && hidden)
        r = mig_site_look(change->site, true, err);
    if (r == 0 && hidden)
        r = reveal_profiles(change, err);
    if (r == 0 && hidden)
        r = plan_wishes(change, err);
    bool steps = change->n_steps > 0 || change->n_refused > 0;
    if (r == 0 && steps && !change->request->mode_only)
        r = mig_hooks_run(change->hooks, MIG_HOOK_PRE_APPLY_CONFIG, variables, stderr, arena, err);
    if (r == 0)
        r = make_plans(change, err);
    if (r < 0)
        return r;
    return change->n_refused > 0 ? refuse(change) : apply_now(change, err);
}

static int apply_with_hooks(struct change *change, struct err *err)
{
    struct arena *arena = &change->site->arena;
    const char *variables[6];
    struct err late = {};

    int r = hook_variables(change, variables, err);
    if (r == 0)
        r = mig_hooks_run(change->hooks, MIG_HOOK_APPLY_START, variables, stderr, arena, err);
    if (r < 0)
        return r;
    r = between_hooks(change, variables, err);
    if (r != 0) /* before the last hook lets others at the GPUs again */
        hide_profiles_again(change);
    /* After a change it runs with signals held, so that a Ctrl-C does not come before it. */
    int last = mig_hooks_run(change->hooks, MIG_HOOK_APPLY_EXIT, variables, stderr, arena, &late);
    if (last < 0 && r == 0) {
        *err = late;
        return last;
    }
    if (last < 0)
        fprintf(stderr, "warning: %s\n", late.text);
    return r;
}

/* ---- the commands ---- */

static int say_plan(const struct change *change, struct err *err)
{
    int r = 0;

    if (change->request->format != OUTPUT_TEXT)
        r = print_json(change, NULL, err);
    else if (change->n_refused == 0)
        print_plan(change);
    if (r < 0)
        return r;
    if (change->n_refused > 0)
        return refuse(change);
    r = check_pods(change, err);
    if (r < 0 || change->n_steps == 0)
        return r;
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set(err, EIO, "cannot write the plan to standard output");
    return MIG_EXIT_DIFFERS;
}

static int act_on_look(struct change *change, struct err *err)
{
    bool hidden = must_reveal(change);
    int r = 0;

    if (hidden && change->hooks) /* they come before the mode */
        return apply_with_hooks(change, err);
    if (hidden)
        r = reveal_profiles(change, err);
    if (r == 0)
        r = plan_wishes(change, err);
    if (r < 0)
        return r;
    if (change->n_refused > (change->hooks ? change->n_held : 0))
        return refuse(change);
    return change->hooks ? apply_with_hooks(change, err) : apply_now(change, err);
}

/* Under the lock: nobody else changes anything between the look and the last step. */
static int act(struct change *change, struct err *err)
{
    int r = mig_lock_take(change->site->state_dir, &change->lock, err);

    if (r == 0)
        r = recover(change, err);
    if (r >= 0)
        r = mig_site_look(change->site, true, err);
    if (r == 0)
        r = act_on_look(change, err);
    if (r != 0)
        hide_profiles_again(change);
    mig_hold_signals(false);
    return r;
}

int mig_change(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    auto_(change_done) struct change change = CHANGE_INIT(site, request);

    if (text_equal(request->command, "plan") || request->dry_run) {
        mig_warn_of_change(site);
        int r = make_plans(&change, err);
        return r < 0 ? r : say_plan(&change, err);
    }
    int r = read_hooks(&change, err);
    return r < 0 ? r : act(&change, err);
}

int mig_recover_left(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    auto_(change_done) struct change change = CHANGE_INIT(site, request);

    int r = mig_lock_take(site->state_dir, &change.lock, err);
    if (r == 0)
        r = recover(&change, err);
    if (r == 0)
        puts("Nothing to do: no change was interrupted.");
    return MIN(r, 0);
}
