/*
 * What it takes to decide where the MIG instances of one GPU go: every change from a layout to
 * another multiset of a family of boards (spec/mig §9.1), and every one of them that somebody
 * forbids who holds an instance. In µs for a plan, the quickest of three times: that a machine does
 * something else in between is not the planner's doing.
 *
 *     $BENCH_MIG_FAMILY   only this one's plans, without the clock, BENCH_MIG_ROUNDS times:
 *                         for counting instructions
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/figure.h"
#include "share/mig_plan.h"
#include "unit/mig_boards.h"

enum { MAX_LAYOUTS = 2400, MAX_KINDS = 8, MAX_SETS = 160, TIMES = 3, END = 99 };

static const struct family {
    const char *name, *board;
    uint32_t kinds[MAX_KINDS]; /* profile enums, then END */
    bool held;                 /* the first instance of each layout is */
} families[] = {
    { "mig_plan.f8", "h100-80gb", { 0, 1, 2, 3, 4, END }, false },
    { "mig_plan.f8_double", "h100-80gb", { 0, 1, 2, 3, 4, 9, END }, false },
    { "mig_plan.f8_all", "h100-80gb", { 0, 1, 2, 3, 4, 7, 9, END }, false },
    { "mig_plan.f4", "a30", { 0, 1, 3, 7, 8, END }, false },
    { "mig_plan.f12", "rtx-pro-6000", { 0, 1, 3, END }, false },
    { "mig_plan.held", "h100-80gb", { 0, 1, 2, 3, 4, END }, true },
};

struct set {
    uint8_t n[MAX_KINDS];
};

struct layout {
    struct mig_layout layout;
    struct set set;
};

struct list {
    const struct family *family;
    size_t n_kinds, n, n_sets;
    struct layout layouts[MAX_LAYOUTS];
    struct set sets[MAX_SETS];
};

static void add_set(struct list *list, const struct set *set)
{
    for (size_t i = 0; i < list->n_sets; i++)
        if (memcmp(&list->sets[i], set, sizeof(*set)) == 0)
            return;
    if (list->n_sets < MAX_SETS)
        list->sets[list->n_sets++] = *set;
}

/* All layouts with what is there and more of the kinds from `kind` and `place` on. */
static void enumerate(struct list *list, const struct mig_gpu *gpu, size_t kind, size_t place,
                      struct set set)
{
    if (list->n == MAX_LAYOUTS)
        return;
    mig_layout_of(gpu, &list->layouts[list->n].layout);
    list->layouts[list->n++].set = set;
    add_set(list, &set);
    for (; kind < list->n_kinds; kind++, place = 0) {
        const struct mig_gi_profile *profile = mig_gpu_profile(gpu, list->family->kinds[kind]);

        for (; place < profile->n_placements; place++) {
            struct mig_gpu more = *gpu;
            struct set with = set;
            struct mig_step step = { .kind = MIG_STEP_CREATE_GI,
                                     .gi_profile = profile->gi_profile,
                                     .gi = profile->placements[place] };

            if (mig_step_imagine(&more, &step, NULL) < 0)
                continue;
            step.kind = MIG_STEP_CREATE_CI;
            step.ci_profile = mig_gpu_ci_whole(gpu, profile);
            if (mig_step_imagine(&more, &step, NULL) < 0)
                abort();
            with.n[kind]++;
            enumerate(list, &more, kind, place + 1, with);
        }
    }
}

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void lay_out(const struct mig_layout *layout, bool held, struct mig_gpu *gpu)
{
    gpu->enabled = gpu->pending = true;
    gpu->n_gis = 0;
    for (size_t i = 0; i < layout->n_gis; i++)
        board_put(gpu, mig_gpu_profile(gpu, layout->gis[i].gi_profile)->name,
                  layout->gis[i].placement.start);
    if (held) {
        gpu->gis[0].cis[0].holder = "process 4711 (python3)";
        gpu->gis[0].cis[0].held_by_process = true;
    }
}

static double plan_once(const struct mig_gpu *gpu, const struct mig_wish *wish,
                        enum mig_refusal *ret)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    struct mig_gpu_plan plan;
    double start = now_us();

    if (mig_plan_gpu(gpu, wish, false, &arena, &plan, NULL) < 0)
        abort();
    *ret = plan.refusal;
    return now_us() - start;
}

/* With NULL nothing is measured: the plan is only made. */
static void plan_set(const struct list *list, const struct mig_gpu *gpu, const struct set *set,
                     struct samples *samples)
{
    struct mig_want wants[MAX_KINDS];
    struct mig_wish wish = { .kind = MIG_WISH_DEVICES, .n_wants = list->n_kinds, .wants = wants };
    enum mig_refusal refusal;

    for (size_t k = 0; k < list->n_kinds; k++) {
        const struct mig_gi_profile *profile = mig_gpu_profile(gpu, list->family->kinds[k]);
        wants[k] = (struct mig_want){ profile->name, profile->profile, set->n[k] };
    }
    double best = plan_once(gpu, &wish, &refusal);
    for (size_t i = 1; samples && i < TIMES; i++) {
        double again = plan_once(gpu, &wish, &refusal);
        best = MIN(best, again);
    }
    if (samples && (!list->family->held || refusal == MIG_REFUSED_HELD))
        samples_add(samples, best);
}

/* From each layout to each other multiset; how many plans that were. */
static size_t plan_all(const struct list *list, struct mig_gpu *gpu, struct samples *samples)
{
    size_t n = 0;

    for (size_t i = 1; i < list->n; i++) {
        lay_out(&list->layouts[i].layout, list->family->held, gpu);
        for (size_t j = 1; j < list->n_sets; j++) {
            if (memcmp(&list->sets[j], &list->layouts[i].set, sizeof(struct set)) == 0)
                continue;
            plan_set(list, gpu, &list->sets[j], samples);
            n++;
        }
    }
    return n;
}

static void run_family(const struct family *family, size_t n_counted)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    static struct list list;
    struct samples samples = {};
    struct mig_gpu gpu = boards(&arena, family->board)->gpus[0];

    list.n = list.n_sets = 0;
    list.family = family;
    for (list.n_kinds = 0; family->kinds[list.n_kinds] != END;)
        list.n_kinds++;
    gpu.enabled = gpu.pending = true;
    enumerate(&list, &gpu, 0, 0, (struct set){});
    if (n_counted > 0) {
        size_t n = 0;
        for (size_t i = 0; i < n_counted; i++)
            n += plan_all(&list, &gpu, NULL);
        figure_print((double)n, "%s.plans", family->name);
        return;
    }
    plan_all(&list, &gpu, &samples);
    samples_print(&samples, family->name);
    figure_print(samples_quantile(&samples, 1), "%s.max", family->name);
    samples_done(&samples);
}

int main(void)
{
    const char *only = getenv("BENCH_MIG_FAMILY");
    size_t n_counted = only ? times_to_run("BENCH_MIG_ROUNDS", 1) : 0;

    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (!only || text_equal(only, families[i].name))
            run_family(&families[i], n_counted);
}
