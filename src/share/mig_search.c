#include "share/mig_search.h"

#include "share/mig_share.h"

/* ---- the problem ---- */

static bool is_pinned(const struct mig_compute_instance *ci, bool may_stop_pods)
{
    return ci->held_by_process || (ci->holder && !may_stop_pods);
}

/* Where the driver does not tell, the first place that fits is what it takes. */
static uint8_t guess_place(const struct mig_present *present, uint32_t slices, uint32_t size)
{
    uint32_t taken = 0;

    for (size_t i = 0; i < present->n_cis; i++)
        taken |= present->cis[i].mask;
    for (uint32_t start = 0; start < slices; start++) {
        uint32_t mask = mig_mask(&(struct mig_placement){ start, size });
        if (mig_ci_start_legal(slices, start, size) && !(mask & taken))
            return (uint8_t)mask;
    }
    return (uint8_t)((1u << slices) - 1);
}

static struct mig_present_ci present_ci(const struct mig_gpu *gpu,
                                        const struct mig_gi_profile *profile,
                                        const struct mig_present *present,
                                        const struct mig_compute_instance *ci, bool may_stop_pods)
{
    uint32_t slices = MIN(profile->slices, (uint32_t)MIG_MAX_SLICES);
    uint32_t counts_as = mig_ci_profile_slices(ci->ci_profile), all = (1u << slices) - 1;
    uint32_t size = mig_gpu_ci_size(gpu, profile, ci->ci_profile);

    uint32_t mask = mig_mask(&ci->placement) & all;

    if (ci->placement.size == 0)
        mask = guess_place(present, slices, size ? size : counts_as);
    return (struct mig_present_ci){
        .size = (uint8_t)(counts_as <= slices ? counts_as : 0),
        .mask = (uint8_t)(mask ? mask : all),
        .pinned = is_pinned(ci, may_stop_pods),
    };
}

static void present_make(const struct mig_board *board, const struct mig_gpu_instance *gi,
                         bool may_stop_pods, struct mig_present *ret)
{
    *ret = (struct mig_present){
        .profile = mig_board_find(board, gi->gi_profile),
        .mask = mig_mask(&gi->placement),
        .n_cis = gi->n_cis,
    };
    for (size_t i = 0; i < gi->n_cis; i++) {
        ret->cis[i].pinned = is_pinned(&gi->cis[i], may_stop_pods);
        ret->pinned = ret->pinned || ret->cis[i].pinned;
    }
    if (ret->mask == 0) /* beyond any board there is */
        ret->profile = -1;
    if (ret->profile < 0)
        return;
    const struct mig_gi_profile *profile = board->profiles[ret->profile].of;
    for (ret->n_cis = 0; ret->n_cis < gi->n_cis; ret->n_cis++)
        ret->cis[ret->n_cis] =
            present_ci(board->gpu, profile, ret, &gi->cis[ret->n_cis], may_stop_pods);
    ret->whole = ret->n_cis == 1 && ret->cis[0].size == profile->slices;
}

void mig_problem_make(const struct mig_gpu *gpu, const struct mig_board *board, bool may_stop_pods,
                      struct mig_problem *ret)
{
    ret->board = board;
    ret->n_present = gpu->enabled ? MIN(gpu->n_gis, (size_t)MIG_BOARD_MAX_GIS) : 0;
    ret->pinned = 0;
    memset(ret->of_profile, 0, sizeof(ret->of_profile));
    ret->budget = MIG_SEARCH_BUDGET;
    for (size_t i = 0; i < ret->n_present; i++) {
        present_make(board, &gpu->gis[i], may_stop_pods, &ret->present[i]);
        ret->pinned |= (uint32_t)ret->present[i].pinned << i;
        if (ret->present[i].profile >= 0)
            ret->of_profile[ret->present[i].profile] |= (uint8_t)(1u << i);
    }
}

void mig_demand_add(struct mig_demand *demand, const struct mig_board *board, uint32_t profile,
                    uint32_t size, uint32_t count)
{
    uint32_t *n = &demand->of[profile].n[size];

    if (count == 0)
        return;
    if (__builtin_add_overflow(*n, count, n))
        *n = UINT32_MAX;
    demand->wanted |= 1u << profile;
    if (size < board->profiles[profile].slices)
        demand->parts |= 1u << profile;
}

/* ---- places for new instances ---- */

struct placing {
    struct mig_problem *problem;
    size_t n;
    uint8_t profiles[MIG_BOARD_MAX_GIS]; /* the largest first, equal ones side by side */
    uint8_t places[MIG_BOARD_MAX_GIS];
    bool any; /* the first layout will do */
    bool (*found)(void *user, const struct placing *placing, uint32_t used);
    void *user;
};

/* Every set of places once: equal instances in the order of their places. True: stop. */
static bool place_rest(struct placing *placing, size_t at, uint32_t used, size_t first)
{
    if (at == placing->n)
        return placing->found(placing->user, placing, used);
    const struct mig_board_profile *profile =
        &placing->problem->board->profiles[placing->profiles[at]];
    for (size_t i = first; i < profile->n_places; i++) {
        bool same = at + 1 < placing->n && placing->profiles[at + 1] == placing->profiles[at];

        if (profile->places[i] & used)
            continue;
        if (placing->problem->budget == 0)
            return true;
        placing->problem->budget--;
        placing->places[at] = (uint8_t)i;
        if (place_rest(placing, at + 1, used | profile->places[i], same ? i + 1 : 0))
            return true;
    }
    return false;
}

/* ---- one set of instances that stay ---- */

struct trial {
    uint32_t kept, used;
    struct mig_share shares[MIG_MAX_GI_PROFILES]; /* of wanted profiles */
    uint32_t slices, n_kept, ci_slices;
};

/* All of one profile that stay, into the trial; false when they cannot. */
static bool trial_share(struct mig_problem *problem, const struct mig_demand *demand,
                        uint32_t profile, uint32_t kept, struct trial *trial)
{
    struct mig_share *share = &trial->shares[profile];
    uint32_t n_kept = (uint32_t)__builtin_popcount(kept);

    mig_share_make(problem, demand, profile, kept, share);
    trial->n_kept += n_kept;
    trial->slices += n_kept * problem->board->profiles[profile].slices;
    trial->ci_slices += share->kept_slices;
    return share->valid && share->n_new <= MIG_BOARD_MAX_GIS - n_kept;
}

static bool trial_make(struct mig_problem *problem, const struct mig_demand *demand, uint32_t kept,
                       struct trial *ret)
{
    uint32_t known = 0;

    ret->kept = kept;
    ret->used = ret->slices = ret->n_kept = ret->ci_slices = 0;
    for (size_t i = 0; i < problem->n_present; i++)
        if (kept & 1u << i)
            ret->used |= problem->present[i].mask;
    for (uint32_t rest = demand->wanted; rest; rest &= rest - 1) {
        uint32_t profile = (uint32_t)__builtin_ctz(rest);
        uint32_t of_it = problem->of_profile[profile];

        known |= of_it;
        if (!trial_share(problem, demand, profile, kept & of_it, ret))
            return false;
    }
    return (kept & ~known) == 0;
}

/* How many there will be of each profile, and the new ones; false: they cannot be together. */
static bool trial_list(const struct mig_problem *problem, const struct mig_demand *demand,
                       const struct trial *trial, struct mig_counts *counts,
                       struct placing *placing)
{
    const struct mig_board *board = problem->board;
    uint32_t size = 0;

    *counts = (struct mig_counts){};
    placing->n = 0;
    for (size_t i = 0; i < problem->n_present; i++)
        if (trial->kept & 1u << i)
            counts->n[problem->present[i].profile]++;
    for (uint32_t i = 0; i < board->n_profiles; i++) {
        uint8_t profile = board->order[i];
        uint32_t n = demand->wanted & 1u << profile ? trial->shares[profile].n_new : 0;

        if (placing->n + n > MIG_BOARD_MAX_GIS)
            return false;
        counts->n[profile] = (uint8_t)(counts->n[profile] + n);
        size += n * board->profiles[profile].size;
        while (n-- > 0)
            placing->profiles[placing->n++] = profile;
    }
    return size + (uint32_t)__builtin_popcount(trial->used) <= MIG_MAX_MEMORY_SLICES &&
           mig_board_allows(board, counts);
}

static bool found_any(void *user, const struct placing *placing, uint32_t used)
{
    *(bool *)user = true;
    return true;
}

bool mig_search_fits(struct mig_problem *problem, const struct mig_demand *demand)
{
    bool found = false;
    struct placing placing = { .problem = problem, .found = found_any, .user = &found };
    struct mig_counts counts;
    struct trial trial;

    if (!trial_make(problem, demand, problem->pinned, &trial) ||
        !trial_list(problem, demand, &trial, &counts, &placing))
        return false;
    place_rest(&placing, 0, trial.used, 0);
    return found;
}

/* ---- the best of all ---- */

/* The layouts of equally good trials: the one with the most room, then the lowest starts. */
struct contest {
    const struct mig_problem *problem;
    const struct trial *trial;
    uint32_t addable;
    bool found;
    uint32_t kept, capacity;
    size_t n;
    uint8_t profiles[MIG_BOARD_MAX_GIS], places[MIG_BOARD_MAX_GIS];
};

/* By profile, a mask of the starts. */
static void starts_of(const struct mig_problem *problem, uint32_t kept, size_t n,
                      const uint8_t *profiles, const uint8_t *places,
                      uint32_t ret[static MIG_MAX_GI_PROFILES])
{
    memset(ret, 0, MIG_MAX_GI_PROFILES * sizeof(*ret));
    for (size_t i = 0; i < problem->n_present; i++)
        if (kept & 1u << i)
            ret[problem->present[i].profile] |=
                problem->present[i].mask & -problem->present[i].mask;
    for (size_t i = 0; i < n; i++) {
        uint32_t mask = problem->board->profiles[profiles[i]].places[places[i]];
        ret[profiles[i]] |= mask & -mask;
    }
}

static bool starts_lower(const struct contest *contest, const struct placing *placing)
{
    uint32_t these[MIG_MAX_GI_PROFILES], best[MIG_MAX_GI_PROFILES];
    const struct mig_board *board = contest->problem->board;

    starts_of(contest->problem, contest->trial->kept, placing->n, placing->profiles,
              placing->places, these);
    starts_of(contest->problem, contest->kept, contest->n, contest->profiles, contest->places,
              best);
    for (uint32_t i = 0; i < board->n_profiles; i++) {
        uint32_t a = these[board->order[i]], b = best[board->order[i]];
        if (a != b)
            return a & ((a ^ b) & -(a ^ b)); /* the lowest start of only one is of this one */
    }
    return false;
}

static bool found_one(void *user, const struct placing *placing, uint32_t used)
{
    struct contest *contest = user;
    uint32_t capacity = mig_board_capacity(contest->problem->board, contest->addable, used);

    if (contest->found && (capacity < contest->capacity ||
                           (capacity == contest->capacity && !starts_lower(contest, placing))))
        return false;
    contest->found = true;
    contest->capacity = capacity;
    contest->kept = contest->trial->kept;
    contest->n = placing->n;
    memcpy(contest->profiles, placing->profiles, placing->n);
    memcpy(contest->places, placing->places, placing->n);
    return false;
}

static void contest_enter(struct mig_problem *problem, const struct mig_demand *demand,
                          uint32_t kept, struct contest *contest)
{
    struct placing placing = { .problem = problem, .found = found_one, .user = contest };
    struct mig_counts counts;
    struct trial trial;

    if (!trial_make(problem, demand, kept, &trial) ||
        !trial_list(problem, demand, &trial, &counts, &placing))
        return;
    contest->trial = &trial;
    contest->addable = mig_board_addable(problem->board, &counts);
    place_rest(&placing, 0, trial.used, 0);
    contest->trial = NULL;
}

/* Sets of instances that could stay, each with what speaks for it. */
struct sets {
    size_t n;
    struct {
        uint32_t kept, merit; /* 0: out of the race */
    } items[1u << MIG_BOARD_MAX_GIS];
};

static void sets_make(struct mig_problem *problem, const struct mig_demand *demand,
                      struct sets *ret)
{
    uint32_t keepable = 0;
    struct trial trial;

    ret->n = 0;
    for (size_t i = 0; i < problem->n_present; i++)
        if (problem->present[i].profile >= 0 && demand->wanted & 1u << problem->present[i].profile)
            keepable |= 1u << i;
    uint32_t free = keepable & ~problem->pinned, set = free;
    do {
        if (trial_make(problem, demand, set | problem->pinned, &trial)) {
            ret->items[ret->n].kept = trial.kept;
            ret->items[ret->n++].merit =
                (trial.slices << 16 | trial.n_kept << 8 | trial.ci_slices) + 1;
        }
        set = (set - 1) & free;
    } while (set != free);
}

static uint32_t best_merit(const struct sets *sets)
{
    uint32_t best = 0;

    for (size_t i = 0; i < sets->n; i++)
        best = MAX(best, sets->items[i].merit);
    return best;
}

static void target_make(struct mig_problem *problem, const struct mig_demand *demand,
                        const struct contest *contest, struct mig_target *ret)
{
    struct trial trial;

    *ret = (struct mig_target){};
    for (size_t i = 0; i < problem->n_present; i++)
        if (contest->kept & 1u << i)
            ret->gis[ret->n++] = (struct mig_target_gi){
                .present = (int)i,
                .profile = (uint8_t)problem->present[i].profile,
                .mask = problem->present[i].mask,
            };
    for (size_t i = 0; i < contest->n; i++)
        ret->gis[ret->n++] = (struct mig_target_gi){
            .present = -1,
            .profile = contest->profiles[i],
            .mask = problem->board->profiles[contest->profiles[i]].places[contest->places[i]],
        };
    problem->budget = MIG_SEARCH_BUDGET; /* what was found once is found again */
    if (!trial_make(problem, demand, contest->kept, &trial))
        return;
    for (uint32_t rest = demand->wanted; rest; rest &= rest - 1) {
        uint32_t profile = (uint32_t)__builtin_ctz(rest);
        mig_share_fill(problem, demand, profile, &trial.shares[profile], ret);
    }
}

bool mig_search_best(struct mig_problem *problem, const struct mig_demand *demand,
                     struct mig_target *ret)
{
    struct contest contest = { .problem = problem };
    struct sets sets;
    uint32_t merit;

    sets_make(problem, demand, &sets);
    while (!contest.found && (merit = best_merit(&sets)) > 0)
        for (size_t i = 0; i < sets.n; i++)
            if (sets.items[i].merit == merit) {
                contest_enter(problem, demand, sets.items[i].kept, &contest);
                sets.items[i].merit = 0;
            }
    if (contest.found)
        target_make(problem, demand, &contest, ret);
    return contest.found;
}
