#include "share/mig_plan.h"

#include <errno.h>
#include <stdio.h>

#include "share/mig_board.h"
#include "share/mig_goal.h"
#include "share/mig_refuse.h"
#include "share/mig_search.h"

enum { AMPERE = 8 };

/* Everything about one plan while it is made. */
struct making {
    const struct mig_gpu *gpu;
    const struct mig_wish *wish;
    bool may_stop_pods;
    struct arena *arena;
    struct mig_gpu_plan *plan;
    struct mig_board board;
    struct mig_problem problem;
    struct mig_demand demand;
    struct mig_goal goal;
    size_t n_steps;
    struct mig_step steps[MIG_MAX_STEPS];
};

static struct mig_refusing refusing(struct making *making)
{
    return (struct mig_refusing){
        .gpu = making->gpu,
        .wish = making->wish,
        .problem = &making->problem,
        .demand = &making->demand,
        .arena = making->arena,
        .plan = making->plan,
    };
}

/* ---- steps ---- */

static void add_step(struct making *making, struct mig_step step)
{
    making->steps[making->n_steps++] = step;
}

/* On Ampere the mode waits for a reset, unless the driver could do that by itself; only then the
 * reset step does something (spec/mig §6.2). */
static void add_mode(struct making *making, bool on)
{
    const struct mig_gpu *gpu = making->gpu;

    if (gpu->enabled == on && gpu->pending == on)
        return;
    add_step(making, (struct mig_step){ .kind = on ? MIG_STEP_MODE_ON : MIG_STEP_MODE_OFF });
    if (gpu->enabled != on && gpu->cc_major == AMPERE)
        add_step(making, (struct mig_step){ .kind = MIG_STEP_RESET });
}

static struct mig_step gi_step(enum mig_step_kind kind, uint32_t gi_profile,
                               const struct mig_placement *placement)
{
    return (struct mig_step){ .kind = kind, .gi_profile = gi_profile, .gi = *placement };
}

/* Where the goal has this GPU instance, -1: nowhere. */
static int goal_of(const struct mig_goal *goal, size_t present)
{
    for (size_t i = 0; i < goal->after.n_gis; i++)
        if (goal->gi[i] == (int)present)
            return (int)i;
    return -1;
}

static bool ci_stays(const struct mig_goal *goal, int at, size_t ci)
{
    for (size_t i = 0; at >= 0 && i < goal->after.gis[at].n_cis; i++)
        if (goal->ci[at][i] == (int)ci)
            return true;
    return false;
}

static void add_destruction(struct making *making, size_t present)
{
    const struct mig_gpu_instance *gi = &making->gpu->gis[present];
    int at = goal_of(&making->goal, present);

    for (size_t i = 0; i < gi->n_cis; i++) {
        if (ci_stays(&making->goal, at, i))
            continue;
        struct mig_step step = gi_step(MIG_STEP_DESTROY_CI, gi->gi_profile, &gi->placement);
        step.ci_profile = gi->cis[i].ci_profile;
        step.ci = gi->cis[i].placement;
        step.uuid = gi->cis[i].uuid;
        add_step(making, step);
    }
    if (at < 0)
        add_step(making, gi_step(MIG_STEP_DESTROY_GI, gi->gi_profile, &gi->placement));
}

static void add_creation(struct making *making, size_t at)
{
    const struct mig_placed *gi = &making->goal.after.gis[at];

    if (making->goal.gi[at] < 0)
        add_step(making, gi_step(MIG_STEP_CREATE_GI, gi->gi_profile, &gi->placement));
    for (size_t i = 0; i < gi->n_cis; i++) {
        if (making->goal.ci[at][i] >= 0)
            continue;
        struct mig_step step = gi_step(MIG_STEP_CREATE_CI, gi->gi_profile, &gi->placement);
        step.ci_profile = gi->cis[i].ci_profile;
        step.ci = gi->cis[i].placement;
        add_step(making, step);
    }
}

/* ---- what the plan says of itself ---- */

static uint32_t count_profile(const struct mig_layout *layout, uint32_t gi_profile)
{
    uint32_t n = 0;

    for (size_t i = 0; i < layout->n_gis; i++)
        n += layout->gis[i].gi_profile == gi_profile;
    return n;
}

static void count_instances(struct making *making)
{
    const struct mig_goal *goal = &making->goal;
    struct mig_gpu_plan *plan = making->plan;
    size_t n_common = 0;

    for (size_t i = 0; i < goal->after.n_gis; i++) {
        const struct mig_gi_profile *profile =
            mig_gpu_profile(making->gpu, goal->after.gis[i].gi_profile);

        plan->n_created += goal->gi[i] < 0;
        plan->n_kept += goal->gi[i] >= 0;
        if (goal->gi[i] >= 0 && profile)
            plan->kept_slices += profile->slices;
    }
    plan->n_destroyed = plan->before.n_gis - plan->n_kept;
    for (size_t i = 0; i < making->gpu->n_profiles; i++) {
        uint32_t gi_profile = making->gpu->profiles[i].gi_profile;
        n_common +=
            MIN(count_profile(&plan->before, gi_profile), count_profile(&goal->after, gi_profile));
    }
    plan->n_moved = n_common - MIN(n_common, plan->n_kept);
}

/* The goal is set: what goes goes first, then the mode, then what comes. */
static int finish(struct making *making, struct err *err)
{
    struct mig_gpu_plan *plan = making->plan;

    for (size_t i = 0; i < plan->before.n_gis; i++)
        add_destruction(making, i);
    add_mode(making, making->goal.after.enabled);
    for (size_t i = 0; i < making->goal.after.n_gis; i++)
        add_creation(making, i);
    plan->after = making->goal.after;
    count_instances(making);
    if (making->n_steps == 0)
        return 0;
    plan->steps = arena_new_array(making->arena, struct mig_step, making->n_steps);
    if (!plan->steps)
        return err_no_memory(err);
    memcpy(plan->steps, making->steps, making->n_steps * sizeof(*plan->steps));
    plan->n_steps = making->n_steps;
    return 0;
}

/* What is there stays as it is; only the mode may change. */
static int finish_unchanged(struct making *making, bool enabled, struct err *err)
{
    struct mig_goal *goal = &making->goal;

    goal->after = making->plan->before;
    goal->after.enabled = enabled;
    for (size_t i = 0; i < goal->after.n_gis; i++) {
        goal->gi[i] = (int8_t)i;
        for (size_t j = 0; j < goal->after.gis[i].n_cis; j++)
            goal->ci[i][j] = (int8_t)j;
    }
    return finish(making, err);
}

/* ---- refusals before any search ---- */

/* A process on the GPU itself: neither mode nor reset would take. 1: refused. */
static int refuse_mode(struct making *making, bool on, struct err *err)
{
    const struct mig_gpu *gpu = making->gpu;
    struct mig_refusing refusal = refusing(making);

    if (gpu->enabled == on || !gpu->holder || (gpu->held_by_pod && making->may_stop_pods))
        return 0;
    making->plan->blocker = arena_printf(making->arena, "the GPU, held by %s", gpu->holder);
    if (!making->plan->blocker)
        return err_no_memory(err);
    int r = mig_refuse(&refusal, MIG_REFUSED_HELD, err,
                       "MIG mode cannot be switched %s while %s holds the GPU; stop it first",
                       on ? "on" : "off", gpu->holder);
    return r < 0 ? r : 1;
}

static int turn_off(struct making *making, struct err *err)
{
    struct mig_refusing refusal = refusing(making);

    if (making->problem.pinned)
        return mig_refuse_clearing(&refusal, "MIG mode cannot be switched off", err);
    int r = refuse_mode(making, false, err);
    if (r != 0)
        return MIN(r, 0);
    making->goal = (struct mig_goal){};
    return finish(making, err);
}

/* ---- wishes ---- */

static int refuse_unknown(struct making *making, const struct mig_want *want, struct err *err)
{
    const struct mig_gi_profile *profile;
    struct mig_refusing refusal = refusing(making);
    struct err why = {};
    uint32_t ci;

    int r = mig_gpu_resolve(making->gpu, &want->profile, &profile, &ci, &why);
    if (r >= 0) /* known, but nobody knows where it could be */
        return mig_refuse(&refusal, MIG_REFUSED_UNKNOWN, err,
                          "the driver does not tell where %s could be placed", profile->name);
    return mig_refuse(&refusal, MIG_REFUSED_UNKNOWN, err, "%s", why.text);
}

/* Fills the demand. 1: refused. */
static int read_wants(struct making *making, struct err *err)
{
    for (size_t i = 0; i < making->wish->n_wants; i++) {
        const struct mig_want *want = &making->wish->wants[i];
        const struct mig_gi_profile *profile;
        uint32_t ci;

        if (want->count == 0)
            continue;
        if (mig_gpu_resolve(making->gpu, &want->profile, &profile, &ci, NULL) < 0 ||
            profile->n_placements == 0 || profile->slices > MIG_MAX_SLICES) {
            int r = refuse_unknown(making, want, err);
            return r < 0 ? r : 1;
        }
        mig_demand_add(&making->demand, &making->board, (uint32_t)(profile - making->gpu->profiles),
                       want->profile.c, want->count);
    }
    return 0;
}

/* Whether it could be if nobody held anything. */
static bool fits_unpinned(struct making *making)
{
    uint32_t pinned = making->problem.pinned;
    bool fits;

    making->problem.pinned = 0;
    making->problem.budget = MIG_SEARCH_BUDGET;
    fits = mig_search_fits(&making->problem, &making->demand);
    making->problem.pinned = pinned;
    return fits;
}

static int plan_devices(struct making *making, struct err *err)
{
    struct mig_refusing refusal = refusing(making);
    struct mig_target target;
    int r = read_wants(making, err);

    if (r != 0)
        return MIN(r, 0);
    if (mig_wish_met(making->gpu, making->wish))
        return finish_unchanged(making, true, err);
    if (!mig_search_best(&making->problem, &making->demand, &target))
        return mig_refuse_demand(&refusal, making->problem.pinned && fits_unpinned(making), NULL,
                                 err);
    mig_goal_of_target(&making->problem, &target, &making->goal);
    return finish(making, err);
}

static int plan_layout(struct making *making, struct err *err)
{
    struct mig_refusing refusal = refusing(making);
    const struct mig_layout *layout = making->wish->layout;
    struct err why = {};

    mig_goal_demand(&making->board, layout, &making->demand);
    int r = mig_goal_of_layout(&making->problem, layout, &making->goal, &refusal.missing, &why);
    if (r == -ENOENT)
        return mig_refuse(&refusal, MIG_REFUSED_UNKNOWN, err, "%s", why.text);
    if (r < 0)
        return mig_refuse_demand(&refusal, r == -EBUSY, why.text, err);
    return finish(making, err);
}

static bool wants_mode_on(const struct mig_wish *wish)
{
    switch (wish->kind) {
    case MIG_WISH_MODE:
        return wish->enabled;
    case MIG_WISH_LAYOUT:
        return wish->layout->enabled;
    case MIG_WISH_NOTHING:
    case MIG_WISH_DEVICES:
        break;
    }
    return true;
}

static int plan_wish(struct making *making, struct err *err)
{
    struct mig_refusing refusal = refusing(making);
    bool on = wants_mode_on(making->wish);

    if (making->gpu->problem)
        return mig_refuse(&refusal, MIG_REFUSED_UNREADABLE, err, "%s", making->gpu->problem);
    if (!making->gpu->capable && on)
        return mig_refuse(&refusal, MIG_REFUSED_NOT_CAPABLE, err, "%s cannot do MIG",
                          making->gpu->name);
    if (!making->gpu->capable)
        return 0;
    if (making->gpu->n_gis > MIG_BOARD_MAX_GIS)
        return mig_refuse(&refusal, MIG_REFUSED_UNREADABLE, err,
                          "%zu GPU instances, of which no driver makes more than %d",
                          making->gpu->n_gis, MIG_BOARD_MAX_GIS);
    if (!on)
        return turn_off(making, err);
    int r = refuse_mode(making, true, err);
    if (r != 0)
        return MIN(r, 0);
    if (making->wish->kind == MIG_WISH_MODE)
        return finish_unchanged(making, true, err);
    return making->wish->kind == MIG_WISH_DEVICES ? plan_devices(making, err)
                                                  : plan_layout(making, err);
}

int mig_plan_gpu(const struct mig_gpu *gpu, const struct mig_wish *wish, bool may_stop_pods,
                 struct arena *arena, struct mig_gpu_plan *ret, struct err *err)
{
    struct mig_gpu_plan plan = { .gpu = gpu };
    struct making making;

    mig_layout_of(gpu, &plan.before);
    plan.after = plan.before;
    if (wish->kind == MIG_WISH_NOTHING) {
        *ret = plan;
        return 0;
    }
    making.gpu = gpu;
    making.wish = wish;
    making.may_stop_pods = may_stop_pods;
    making.arena = arena;
    making.plan = &plan;
    making.n_steps = 0;
    memset(&making.demand, 0, sizeof(making.demand));
    memset(&making.goal, 0, sizeof(making.goal));
    mig_board_make(gpu, &making.board);
    mig_problem_make(gpu, &making.board, may_stop_pods, &making.problem);
    int r = plan_wish(&making, err);
    if (r < 0)
        return r;
    *ret = plan;
    return 0;
}
