/*
 * How the optimum is found.
 *
 *     score of a division  =  what its GPUs could have at best  -  what each set falls short
 *
 * Every GPU gets a price such that no set is worth more than its members' prices; what a set falls
 * short of them is its loss, never negative. The best division is the one that loses least. Good
 * prices make the losses of good sets zero or small, so that a search that may lose little has
 * little to look at. It is allowed nothing at first, then more and more, until it finds something;
 * what it finds first is the optimum, since everything better would have been found before.
 *
 * The GPUs that are left over are a set with a hole, and the hole is treated as one more member
 * (bit n_gpus) with a price of its own: exactly one set of the division has it.
 *
 * All losses are doubled, because a pair's score is split evenly between its two members.
 */
#include "share/partition.h"

#include <assert.h>

#include "base/arena.h"

enum {
    SCRATCH_BYTES = 1 << 20, /* 22880 sets, when nine of sixteen are wanted, take 0.5 MiB */
    FIRST_LOSS = 20,         /* scores are tens, and doubled */
    NEVER = 1 << 29,         /* more than any division can lose */
    PATIENCE = 1 << 20,      /* sets looked at before the search stops being clever */
};

struct set {
    uint32_t members;
    int32_t loss;
};

/* What is known of the GPUs that are left in some state of the search. */
struct memory {
    int32_t loss;    /* of their best division, or NEVER when it is above `allowed` */
    int32_t allowed; /* + 1; 0: nothing is known */
};

struct search {
    const struct partition_problem *problem;
    uint32_t hole;   /* the hole's bit, 0 without one */
    uint32_t n_hole; /* how many GPUs the smaller set lacks */
    size_t n_sets;
    struct set *sets; /* in order: by first member, then by the second, … */
    size_t first_set[PARTITION_MAX_GPUS + 1]; /* of those whose first member is i */
    struct set *cheap; /* those that lose no more than is allowed, in the same order */
    size_t first_cheap[PARTITION_MAX_GPUS + 1];
    struct memory *memories; /* by the GPUs that are left, without the first two */
    int32_t allowed;         /* loss of the whole division in this attempt */
    size_t n_looked_at;
};

/* ---- all sets, in order ---- */

static void add_set(struct search *search, uint32_t members, int32_t score)
{
    uint32_t required = members & search->problem->required;

    /* Those who are required stay together, and not beside a hole. */
    if (required && (required != search->problem->required || members & search->hole))
        return;
    search->sets[search->n_sets++] = (struct set){ .members = members, .loss = -2 * score };
}

/* All sets that begin with these members; gain[i] is what GPU i would add to their score. */
static void extend(struct search *search, uint32_t members, uint32_t n_members, uint32_t next,
                   int32_t score, const int32_t gain[PARTITION_MAX_GPUS])
{
    const struct partition_problem *problem = search->problem;

    for (uint32_t i = next; i < problem->n_gpus; i++) {
        if (n_members + 1 == problem->size) {
            add_set(search, members | 1u << i, score + gain[i]);
            continue;
        }
        int32_t more[PARTITION_MAX_GPUS];
        for (uint32_t j = 0; j < PARTITION_MAX_GPUS; j++)
            more[j] = gain[j] + problem->score[i][j];
        extend(search, members | 1u << i, n_members + 1, i + 1, score + gain[i], more);
    }
    if (search->hole && n_members + search->n_hole == problem->size)
        add_set(search, members | search->hole, score); /* the hole comes after every GPU */
}

static void list_sets(struct search *search)
{
    const struct partition_problem *problem = search->problem;

    for (uint32_t i = 0; i < problem->n_gpus; i++) {
        search->first_set[i] = search->n_sets;
        extend(search, 1u << i, 1, i + 1, 0, problem->score[i]);
    }
    search->first_set[problem->n_gpus] = search->n_sets;
}

/* ---- prices ---- */

/* Twice what a GPU can have at best: the scores of its size - 1 best connections. */
static int32_t first_price(const struct partition_problem *problem, uint32_t gpu)
{
    int32_t scores[PARTITION_MAX_GPUS], price = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < problem->n_gpus; i++) {
        if (i == gpu)
            continue;
        uint32_t at = n++;
        for (; at > 0 && scores[at - 1] < problem->score[gpu][i]; at--)
            scores[at] = scores[at - 1];
        scores[at] = problem->score[gpu][i];
    }
    for (uint32_t i = 0; i + 1 < problem->size; i++)
        price += scores[i];
    return price;
}

static void set_first_prices(struct search *search)
{
    int32_t prices[PARTITION_MAX_GPUS];

    for (uint32_t i = 0; i < search->problem->n_gpus; i++)
        prices[i] = first_price(search->problem, i);
    for (size_t i = 0; i < search->n_sets; i++)
        for (uint32_t rest = search->sets[i].members & ~search->hole; rest; rest &= rest - 1)
            search->sets[i].loss += prices[__builtin_ctz(rest)];
}

/* Lowers a member's price as far as all its sets allow, or a share of that, to leave some to the
 * others. Sets that come after the member as the first cannot have it. */
static void lower_price(struct search *search, uint32_t member, int32_t share)
{
    size_t end = 1u << member == search->hole ? search->n_sets : search->first_set[member + 1];
    int32_t least = NEVER;

    for (size_t i = 0; i < end; i++)
        if (search->sets[i].members >> member & 1)
            least = MIN(least, search->sets[i].loss);
    least = least < NEVER ? least / share : 0;
    for (size_t i = 0; i < end && least > 0; i++)
        if (search->sets[i].members >> member & 1)
            search->sets[i].loss -= least;
}

/* A round in which everybody takes a share, and one in which they take what is left. More rounds
 * cost more than they save. */
static void set_prices(struct search *search)
{
    const struct partition_problem *problem = search->problem;

    set_first_prices(search);
    if (search->hole)
        lower_price(search, problem->n_gpus, 1);
    for (uint32_t i = 0; i < problem->n_gpus; i++)
        lower_price(search, i, (int32_t)problem->size);
    for (uint32_t i = 0; i < problem->n_gpus; i++)
        lower_price(search, i, 1);
}

/* ---- the search ---- */

static void pick_cheap_sets(struct search *search, int32_t allowed)
{
    size_t n = 0;

    for (uint32_t first = 0; first < search->problem->n_gpus; first++) {
        search->first_cheap[first] = n;
        for (size_t i = search->first_set[first]; i < search->first_set[first + 1]; i++)
            if (search->sets[i].loss <= allowed)
                search->cheap[n++] = search->sets[i];
    }
    search->first_cheap[search->problem->n_gpus] = n;
}

/* Sets are in order of their members, so that of two sets the one with the lowest member that the
 * other lacks comes first. */
static bool comes_before(uint32_t a, uint32_t b)
{
    uint32_t differ = a ^ b;

    return a & differ & -differ;
}

/* The loss of these members as one set, NEVER if they are none. A table by members would be faster,
 * but so large that filling it takes longer than all else. */
static int32_t loss_of(const struct search *search, uint32_t members)
{
    uint32_t first = (uint32_t)__builtin_ctz(members);
    size_t low = search->first_set[first], high = search->first_set[first + 1];

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct set *set = &search->sets[middle];
        if (set->members == members)
            return set->loss;
        if (comes_before(set->members, members))
            low = middle + 1;
        else
            high = middle;
    }
    return NEVER;
}

static bool is_one_set(const struct search *search, uint32_t rest)
{
    uint32_t n_hole = rest & search->hole ? search->n_hole : 0;

    return (uint32_t)__builtin_popcount(rest & ~search->hole) + n_hole == search->problem->size;
}

static int32_t divide(struct search *search, uint32_t rest, int32_t allowed, uint32_t *ret_set);

/* Tries the sets in order. Only a strictly better division replaces one found before, so the first
 * of equals stays. */
static int32_t try_sets(struct search *search, uint32_t rest, int32_t allowed, uint32_t *ret_set)
{
    uint32_t first = (uint32_t)__builtin_ctz(rest);
    int32_t best = NEVER;

    search->n_looked_at += search->first_cheap[first + 1] - search->first_cheap[first];
    for (size_t i = search->first_cheap[first]; i < search->first_cheap[first + 1]; i++) {
        const struct set *set = &search->cheap[i];
        if (set->members & ~rest || set->loss > allowed)
            continue;
        int32_t loss = divide(search, rest & ~set->members, allowed - set->loss, NULL);
        if (loss == NEVER)
            continue;
        best = loss + set->loss;
        allowed = best - 1;
        if (ret_set)
            *ret_set = set->members;
        if (best == 0)
            break;
    }
    return best;
}

/*
 * The loss of the best division of `rest`, or NEVER if it is more than allowed; *ret_set is its
 * first set.
 *
 * States without the first two GPUs can be reached in several ways and are remembered. Whether the
 * hole is still open follows from the number of GPUs that are left.
 */
static int32_t divide(struct search *search, uint32_t rest, int32_t allowed, uint32_t *ret_set)
{
    uint32_t gpus = rest & ~search->hole;

    if (is_one_set(search, rest)) {
        if (ret_set)
            *ret_set = rest;
        int32_t loss = loss_of(search, rest);
        return loss <= allowed ? loss : NEVER;
    }
    if (gpus & 3)
        return try_sets(search, rest, allowed, ret_set);

    struct memory *memory = &search->memories[gpus >> 2];
    if (memory->loss == NEVER && memory->allowed > allowed)
        return NEVER;
    if (memory->loss < NEVER && memory->allowed && !ret_set)
        return memory->loss <= allowed ? memory->loss : NEVER;
    /* Looking no further than needed means to look again when more is allowed. Where that happens
     * too often, each state is settled once for the whole attempt. */
    int32_t limit = search->n_looked_at > PATIENCE ? search->allowed : allowed;
    memory->loss = try_sets(search, rest, limit, ret_set);
    memory->allowed = limit + 1;
    return memory->loss <= allowed ? memory->loss : NEVER;
}

/* ---- the answer ---- */

static int32_t score_of(const struct partition_problem *problem, uint32_t members)
{
    int32_t score = 0;

    for (uint32_t a = members; a; a &= a - 1)
        for (uint32_t b = a & (a - 1); b; b &= b - 1)
            score += problem->score[__builtin_ctz(a)][__builtin_ctz(b)];
    return score;
}

/* Walks the best division, which loses `loss`, and keeps the first of its best sets. */
static uint32_t best_set(struct search *search, uint32_t all, int32_t loss)
{
    uint32_t required = search->problem->required, best = 0;
    int32_t best_score = -1;

    for (uint32_t rest = all, set = 0; rest; rest &= ~set) {
        divide(search, rest, loss, &set);
        loss -= loss_of(search, set);
        if (set & search->hole || (set & required) != required)
            continue;
        int32_t score = score_of(search->problem, set);
        if (score > best_score) {
            best_score = score;
            best = set;
        }
    }
    return best;
}

/* n over k. */
static size_t n_choices(size_t n, size_t k)
{
    size_t choices = 1;

    for (size_t i = 1; i <= k; i++)
        choices = choices * (n - k + i) / i;
    return choices;
}

static int prepare(struct search *search, struct arena *scratch)
{
    size_t n_gpus = search->problem->n_gpus, size = search->problem->size;
    size_t n_over = n_gpus % size, n_sets = n_choices(n_gpus, size);

    if (n_over) {
        search->hole = 1u << n_gpus;
        search->n_hole = (uint32_t)(size - n_over);
        n_sets += n_choices(n_gpus, n_over);
    }
    search->sets = arena_new_array(scratch, struct set, n_sets);
    search->cheap = arena_new_array(scratch, struct set, n_sets);
    search->memories = arena_new_array(scratch, struct memory, ((size_t)1 << n_gpus) / 4 + 1);
    return search->sets && search->cheap && search->memories ? 0 : -1;
}

int partition_best(const struct partition_problem *problem, uint32_t *ret_set, struct err *err)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(SCRATCH_BYTES);
    struct search search = { .problem = problem };
    int32_t loss;

    if (problem->size == 1) { /* every GPU is as good as the next */
        *ret_set = problem->required ? problem->required : 1;
        return 0;
    }
    if (prepare(&search, &scratch) < 0)
        return err_no_memory(err);
    uint32_t all = ((1u << problem->n_gpus) - 1) | search.hole;
    list_sets(&search);
    set_prices(&search);
    for (;;) {
        pick_cheap_sets(&search, search.allowed);
        loss = divide(&search, all, search.allowed, NULL);
        if (loss < NEVER)
            break;
        int32_t factor = search.n_looked_at > PATIENCE ? 8 : 2;
        search.allowed = MAX(factor * search.allowed, (int32_t)FIRST_LOSS);
        assert(search.allowed < NEVER); /* there is always a division */
    }
    *ret_set = best_set(&search, all, loss);
    return 0;
}
