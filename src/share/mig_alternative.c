#include "share/mig_alternative.h"

enum { MAX_ITEMS = 48, TRIES = 4000 };

/* Devices of one kind. */
struct item {
    uint8_t profile, size;
    uint32_t wanted;
    uint32_t held; /* at least so many, whatever is wanted */
    uint32_t most; /* that have room beside what is held */
};

struct candidate {
    uint32_t n_wanted, slices; /* of the wanted ones */
    uint32_t n[MAX_ITEMS];
};

struct search {
    struct mig_problem *problem;
    size_t n_items;
    struct item items[MAX_ITEMS]; /* the largest first */
    size_t n_best;
    struct candidate best[MIG_MAX_ALTERNATIVES];
    uint32_t tries;
};

/* ---- words ---- */

void mig_demand_describe(const struct mig_board *board, const struct mig_demand *demand,
                         struct buf *text)
{
    for (uint32_t i = 0; i < board->n_profiles; i++)
        for (uint32_t size = 1; size <= MIG_MAX_SLICES; size++) {
            struct mig_profile profile = board->profiles[i].of->profile;
            char name[MIG_PROFILE_NAME_MAX];

            if (demand->of[i].n[size] == 0)
                continue;
            profile.c = size;
            profile.g = board->profiles[i].slices;
            mig_profile_name(&profile, name);
            buf_printf(text, "%s%u × %s", text->len ? " + " : "", demand->of[i].n[size], name);
        }
}

/* ---- items ---- */

static void count_held(const struct mig_problem *problem, struct mig_demand *ret)
{
    for (size_t i = 0; i < problem->n_present; i++)
        for (size_t j = 0; j < problem->present[i].n_cis; j++)
            if (problem->present[i].profile >= 0 && problem->present[i].cis[j].pinned &&
                problem->present[i].cis[j].size > 0)
                mig_demand_add(ret, problem->board, (uint32_t)problem->present[i].profile,
                               problem->present[i].cis[j].size, 1);
}

static void list_items(struct search *search, const struct mig_demand *demand)
{
    const struct mig_board *board = search->problem->board;
    struct mig_demand held = {};

    count_held(search->problem, &held);
    for (uint32_t i = 0; i < board->n_profiles; i++)
        for (uint32_t size = MIG_MAX_SLICES; size > 0; size--) {
            uint8_t profile = board->order[i];
            struct item item = {
                .profile = profile,
                .size = (uint8_t)size,
                .wanted = demand->of[profile].n[size],
                .held = held.of[profile].n[size],
            };
            if ((item.wanted > 0 || item.held > 0) && search->n_items < MAX_ITEMS)
                search->items[search->n_items++] = item;
        }
}

static bool fits(struct search *search, const uint32_t *n)
{
    struct mig_demand demand = {};

    if (search->tries == 0)
        return false;
    search->tries--;
    for (size_t i = 0; i < search->n_items; i++)
        mig_demand_add(&demand, search->problem->board, search->items[i].profile,
                       search->items[i].size, n[i]);
    return mig_search_fits(search->problem, &demand);
}

/* So many more of one item as there is room for. */
static void fill(struct search *search, uint32_t *n, size_t item, uint32_t limit)
{
    while (n[item] < limit) {
        n[item]++;
        if (fits(search, n))
            continue;
        n[item]--;
        return;
    }
}

static void only_held(const struct search *search, uint32_t *n)
{
    for (size_t i = 0; i < search->n_items; i++)
        n[i] = search->items[i].held;
}

/* ---- the nearest ---- */

static bool is_part_of(const struct search *search, const uint32_t *n,
                       const struct candidate *candidate)
{
    for (size_t i = 0; i < search->n_items; i++)
        if (n[i] > candidate->n[i])
            return false;
    return true;
}

static bool nearer(const struct candidate *a, const struct candidate *b)
{
    return a->n_wanted != b->n_wanted ? a->n_wanted > b->n_wanted : a->slices > b->slices;
}

static void enter(struct search *search, const uint32_t *n)
{
    struct candidate candidate = {};
    size_t at = search->n_best;

    for (size_t i = 0; i < search->n_best; i++)
        if (is_part_of(search, n, &search->best[i]))
            return;
    for (size_t i = 0; i < search->n_items; i++) {
        uint32_t wanted = MIN(n[i], search->items[i].wanted);
        candidate.n[i] = n[i];
        candidate.n_wanted += wanted;
        candidate.slices += wanted * search->items[i].size;
    }
    for (; at > 0 && nearer(&candidate, &search->best[at - 1]); at--)
        if (at < MIG_MAX_ALTERNATIVES)
            search->best[at] = search->best[at - 1];
    if (at == MIG_MAX_ALTERNATIVES)
        return;
    search->best[at] = candidate;
    search->n_best = MIN(search->n_best + 1, (size_t)MIG_MAX_ALTERNATIVES);
}

/* Whether those from `at` on could still bring it among the nearest. */
static bool hopeful(const struct search *search, const uint32_t *n, size_t at)
{
    uint32_t most = 0;

    if (search->n_best < MIG_MAX_ALTERNATIVES)
        return true;
    for (size_t i = 0; i < search->n_items; i++)
        most += MIN(i < at ? n[i] : search->items[i].most, search->items[i].wanted);
    return most >= search->best[MIG_MAX_ALTERNATIVES - 1].n_wanted;
}

/* From many to few, so that a set comes before its parts. What is not decided yet stands at what is
 * held; where that does not fit, more does not either. */
static void descend(struct search *search, uint32_t *n, size_t at)
{
    if (at == search->n_items) {
        enter(search, n);
        return;
    }
    uint32_t held = search->items[at].held;
    for (uint32_t count = MAX(search->items[at].most, held);; count--) {
        n[at] = count;
        if (search->tries > 0 && hopeful(search, n, at + 1) && (count == held || fits(search, n)))
            descend(search, n, at + 1);
        if (count == held)
            break;
    }
}

static void find_nearest(struct search *search)
{
    uint32_t n[MAX_ITEMS];

    only_held(search, n);
    for (size_t i = 0; i < search->n_items; i++) {
        fill(search, n, i, MAX(search->items[i].wanted, search->items[i].held));
        search->items[i].most = n[i];
        n[i] = search->items[i].held;
    }
    descend(search, n, 0);
}

/* ---- what is left of the room ---- */

/* With none of the wanted ones, the profiles that everybody knows. */
static void offer_others(struct search *search, struct candidate *candidate)
{
    const struct mig_board *board = search->problem->board;

    for (uint32_t i = 0; i < board->n_profiles && search->n_items < MAX_ITEMS; i++) {
        const struct mig_board_profile *profile = &board->profiles[board->order[i]];
        if (profile->of->profile.attributes || profile->slices > MIG_MAX_SLICES ||
            mig_gpu_ci_whole(board->gpu, profile->of) == MIG_CI_PROFILES)
            continue;
        candidate->n[search->n_items] = 0;
        search->items[search->n_items] =
            (struct item){ .profile = board->order[i], .size = (uint8_t)profile->slices };
        fill(search, candidate->n, search->n_items++, MIG_BOARD_MAX_GIS);
    }
}

static void fill_up(struct search *search, struct candidate *candidate, uint64_t n_wished)
{
    if (candidate->n_wanted == n_wished)
        return; /* all that was asked for is there */
    if (candidate->n_wanted == 0) {
        offer_others(search, candidate);
        return;
    }
    for (size_t i = 0; i < search->n_items; i++)
        if (search->items[i].wanted > 0)
            fill(search, candidate->n, i, MIG_BOARD_MAX_GIS * MIG_MAX_SLICES);
}

static int describe(const struct search *search, const struct candidate *candidate,
                    struct arena *arena, const char **ret, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(4));
    struct mig_demand demand = {};

    for (size_t i = 0; i < search->n_items; i++)
        mig_demand_add(&demand, search->problem->board, search->items[i].profile,
                       search->items[i].size, candidate->n[i]);
    mig_demand_describe(search->problem->board, &demand, &text);
    *ret = arena_strdup(arena, buf_text(&text));
    return text.failed || !*ret ? err_no_memory(err) : 0;
}

static bool told(const struct mig_gpu_plan *plan, const char *alternative)
{
    for (size_t i = 0; i < plan->n_alternatives; i++)
        if (text_equal(plan->alternatives[i], alternative))
            return true;
    return alternative[0] == '\0';
}

int mig_alternatives_find(struct mig_problem *problem, const struct mig_demand *demand,
                          struct arena *arena, struct mig_gpu_plan *plan, bool *ret_whole,
                          struct err *err)
{
    struct search search = { .problem = problem, .tries = TRIES };
    uint64_t n_wished = 0;

    problem->budget = MIG_SEARCH_BUDGET;
    list_items(&search, demand);
    for (size_t i = 0; i < search.n_items; i++)
        n_wished += search.items[i].wanted;
    find_nearest(&search);
    search.tries = TRIES / 4;
    problem->budget = MAX(problem->budget, (uint32_t)MIG_SEARCH_BUDGET / 4);
    *ret_whole = search.n_best > 0 && search.best[0].n_wanted == n_wished;
    plan->n_alternatives = 0;
    for (size_t i = 0; i < search.n_best; i++) {
        size_t n_items = search.n_items;
        const char *text;

        fill_up(&search, &search.best[i], n_wished);
        int r = describe(&search, &search.best[i], arena, &text, err);
        if (r < 0)
            return r;
        search.n_items = n_items;
        if (!told(plan, text))
            plan->alternatives[plan->n_alternatives++] = text;
    }
    return 0;
}
