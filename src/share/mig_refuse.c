#include "share/mig_refuse.h"

#include <stdio.h>

#include "base/buf.h"
#include "share/mig_alternative.h"

int mig_refuse(const struct mig_refusing *refusing, enum mig_refusal refusal, struct err *err,
               const char *format, ...)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(16));
    const char *where = refusing->wish->where;
    va_list args;

    va_start(args, format);
    auto_free char *words = NULL;
    int n = vasprintf(&words, format, args);
    va_end(args);
    if (n < 0) {
        words = NULL;
        return err_no_memory(err);
    }
    buf_printf(&text, "%s%sGPU %u: %s", where ? where : "", where ? ": " : "", refusing->gpu->index,
               words);
    refusing->plan->refusal = refusal;
    refusing->plan->n_steps = 0;
    refusing->plan->sentence = arena_strdup(refusing->arena, buf_text(&text));
    return text.failed || !refusing->plan->sentence ? err_no_memory(err) : 0;
}

/* ---- who is in the way ---- */

/* A compute instance that is pinned: which, and in which GPU instance. */
struct held {
    const struct mig_gpu_instance *gi;
    const struct mig_compute_instance *ci;
};

static bool first_pinned(const struct mig_refusing *refusing, size_t present, struct held *ret)
{
    const struct mig_gpu_instance *gi = &refusing->gpu->gis[present];

    for (size_t j = 0; j < refusing->problem->present[present].n_cis; j++) {
        if (!refusing->problem->present[present].cis[j].pinned)
            continue;
        *ret = (struct held){ gi, &gi->cis[j] };
        return true;
    }
    return false;
}

/* "1g.10gb@5 (MIG-…)" */
static void add_held(const struct mig_refusing *refusing, const struct held *held, struct buf *text)
{
    char name[MIG_PROFILE_NAME_MAX];

    mig_device_name(refusing->gpu, held->gi, held->ci, name);
    buf_printf(text, "%s@%u", name, held->gi->placement.start);
    if (held->ci->uuid)
        buf_printf(text, " (%s)", held->ci->uuid);
}

static const char *holder_of(const struct held *held)
{
    return held->ci->holder ? held->ci->holder : "a process";
}

static int set_blocker(const struct mig_refusing *refusing, const struct held *held,
                       struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(4));

    add_held(refusing, held, &text);
    buf_printf(&text, ", held by %s", holder_of(held));
    refusing->plan->blocker = arena_strdup(refusing->arena, buf_text(&text));
    return text.failed || !refusing->plan->blocker ? err_no_memory(err) : 0;
}

/* Those without which the rest of the pinned ones could stay: a mask of present instances. */
static uint32_t find_blockers(const struct mig_refusing *refusing)
{
    struct mig_problem *problem = refusing->problem;
    uint32_t pinned = problem->pinned, blockers = 0;

    if (refusing->missing)
        return refusing->missing;
    problem->pinned = 0;
    for (uint32_t rest = pinned; rest; rest &= rest - 1) {
        uint32_t bit = rest & -rest;

        problem->pinned |= bit;
        if (mig_search_fits(problem, refusing->demand))
            continue;
        problem->pinned &= ~bit;
        blockers |= bit;
    }
    problem->pinned = pinned;
    return blockers ? blockers : pinned;
}

/* ---- what could be ---- */

static void add_alternatives(const struct mig_gpu_plan *plan, struct buf *text)
{
    for (size_t i = 0; i < plan->n_alternatives; i++)
        buf_printf(text, "%s%s", i == 0 ? "" : ", or ", plan->alternatives[i]);
    if (plan->n_alternatives == 0)
        buf_add_text(text, "nothing else");
}

static int find_alternatives(const struct mig_refusing *refusing, bool *ret_whole, struct err *err)
{
    return mig_alternatives_find(refusing->problem, refusing->demand, refusing->arena,
                                 refusing->plan, ret_whole, err);
}

/* Whether what is wanted goes where this is. */
static bool needs_place(const struct mig_refusing *refusing, size_t present, bool all_has_room)
{
    const struct mig_layout *layout = refusing->wish->layout;

    if (refusing->wish->kind != MIG_WISH_LAYOUT)
        return !all_has_room;
    for (size_t i = 0; i < layout->n_gis; i++)
        if (mig_mask(&layout->gis[i].placement) & refusing->problem->present[present].mask)
            return true;
    return false;
}

static int refuse_held(const struct mig_refusing *refusing, struct buf *wish, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(8));
    uint32_t blockers = find_blockers(refusing);
    size_t first = (size_t)__builtin_ctz(blockers);
    struct held held;
    bool whole;

    if (!first_pinned(refusing, first, &held))
        return 0;
    int n_more = __builtin_popcount(blockers) - 1;
    int r = set_blocker(refusing, &held, err);
    if (r >= 0)
        r = find_alternatives(refusing, &whole, err);
    if (r < 0)
        return r;
    /* Where all of it would have room beside what is held, that is just not part of it. */
    bool place = needs_place(refusing, first, whole);
    buf_printf(&text, "%s %s ", buf_text(wish), place ? "needs the place of" : "does not include");
    add_held(refusing, &held, &text);
    buf_printf(&text, ", which %s holds", holder_of(&held));
    if (n_more > 0)
        buf_printf(&text, ", and %s%d more that %s held", place ? "of " : "", n_more,
                   n_more == 1 ? "is" : "are");
    buf_printf(&text, "; with %s staying there would be room for ", n_more > 0 ? "them" : "it");
    add_alternatives(refusing->plan, &text);
    return text.failed ? err_no_memory(err)
                       : mig_refuse(refusing, MIG_REFUSED_HELD, err, "%s", buf_text(&text));
}

static void add_layout(const struct mig_refusing *refusing, struct buf *text)
{
    const struct mig_layout *layout = refusing->wish->layout;

    for (size_t i = 0; i < layout->n_gis; i++) {
        const struct mig_gi_profile *profile =
            mig_gpu_profile(refusing->gpu, layout->gis[i].gi_profile);
        buf_printf(text, "%s%s@%u", i ? " + " : "", profile ? profile->name : "?",
                   layout->gis[i].placement.start);
    }
}

int mig_refuse_demand(const struct mig_refusing *refusing, bool held, const char *why,
                      struct err *err)
{
    auto_(buf_done) struct buf wish = BUF_MAX(KIB(8)), text = BUF_MAX(KIB(8));
    bool whole;

    if (refusing->wish->kind == MIG_WISH_LAYOUT)
        add_layout(refusing, &wish);
    else
        mig_demand_describe(refusing->problem->board, refusing->demand, &wish);
    if (held && wish.len == 0)
        return mig_refuse_clearing(refusing, "it cannot be emptied", err);
    if (held)
        return refuse_held(refusing, &wish, err);
    int r = find_alternatives(refusing, &whole, err);
    if (r < 0)
        return r;
    add_alternatives(refusing->plan, &text);
    if (wish.failed || text.failed)
        return err_no_memory(err);
    if (why)
        return mig_refuse(refusing, MIG_REFUSED_NO_ROOM, err, "%s cannot be: %s", buf_text(&wish),
                          why);
    return mig_refuse(refusing, MIG_REFUSED_NO_ROOM, err,
                      "%s cannot be together on %s; there would be room for %s", buf_text(&wish),
                      refusing->gpu->name, buf_text(&text));
}

int mig_refuse_clearing(const struct mig_refusing *refusing, const char *what, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(4));
    uint32_t pinned = refusing->problem->pinned;
    int n_more = __builtin_popcount(pinned) - 1;
    struct held held;

    if (!pinned || !first_pinned(refusing, (size_t)__builtin_ctz(pinned), &held))
        return 0;
    int r = set_blocker(refusing, &held, err);
    if (r < 0)
        return r;
    add_held(refusing, &held, &text);
    if (n_more > 0)
        return mig_refuse(refusing, MIG_REFUSED_HELD, err,
                          "%s: %s holds %s, and %d more %s held; stop them first", what,
                          holder_of(&held), buf_text(&text), n_more, n_more == 1 ? "is" : "are");
    return mig_refuse(refusing, MIG_REFUSED_HELD, err, "%s: %s holds %s; stop it first", what,
                      holder_of(&held), buf_text(&text));
}
