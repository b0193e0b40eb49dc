#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "share/partition.h"

/* A small generator, the same everywhere, so that a failure can be seen again. */
static uint32_t seed;

static uint32_t draw(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

/* ---- the definition, word for word: every division there is (spec/device-plugin §5.2) ---- */

enum { PADDING = -1, MOST = 2 * PARTITION_MAX_GPUS };

struct enumeration {
    const struct partition_problem *problem;
    int n_padding;
    int n_sets;
    int sets[MOST][PARTITION_MAX_GPUS];
    bool found;
    int32_t best_score;
    int n_best;
    int best[MOST][PARTITION_MAX_GPUS];
};

static int32_t set_score(const struct enumeration *e, const int *set)
{
    int32_t score = 0;

    for (uint32_t i = 0; i < e->problem->size; i++)
        for (uint32_t j = i + 1; j < e->problem->size; j++)
            if (set[i] != PADDING && set[j] != PADDING)
                score += e->problem->score[set[i]][set[j]];
    return score;
}

static bool set_serves(const struct enumeration *e, const int *set)
{
    uint32_t members = 0;

    for (uint32_t i = 0; i < e->problem->size; i++) {
        if (set[i] == PADDING)
            return false;
        members |= 1u << set[i];
    }
    return (members & e->problem->required) == e->problem->required;
}

static void judge(struct enumeration *e)
{
    int32_t score = 0;
    bool serves = false;

    for (int i = 0; i < e->n_sets; i++) {
        score += set_score(e, e->sets[i]);
        serves |= set_serves(e, e->sets[i]);
    }
    if (!serves || (e->found && score <= e->best_score))
        return;
    e->found = true;
    e->best_score = score;
    e->n_best = e->n_sets;
    memcpy(e->best, e->sets, sizeof(e->best));
}

static void choose(struct enumeration *e, const int *left, int n_left, int *set, int n_set,
                   int from);

static void divide(struct enumeration *e, const int *left, int n_left)
{
    int set[PARTITION_MAX_GPUS];

    if (n_left == 0) {
        judge(e);
        return;
    }
    set[0] = left[0];
    choose(e, left, n_left, set, 1, 1);
}

/* The set is full: it has no padding or all of it, and the rest is divided. */
static void close_set(struct enumeration *e, const int *left, int n_left, const int *set)
{
    int rest[MOST], n_rest = 0, n_padding = 0;
    int size = (int)e->problem->size;

    for (int i = 0; i < size; i++)
        n_padding += set[i] == PADDING;
    if (n_padding != 0 && n_padding != e->n_padding)
        return;
    for (int i = 0, j = 0; i < n_left; i++) {
        if (j < size && left[i] == set[j])
            j++;
        else
            rest[n_rest++] = left[i];
    }
    memcpy(e->sets[e->n_sets++], set, (size_t)size * sizeof(*set));
    divide(e, rest, n_rest);
    e->n_sets--;
}

static void choose(struct enumeration *e, const int *left, int n_left, int *set, int n_set,
                   int from)
{
    if (n_set == (int)e->problem->size) {
        close_set(e, left, n_left, set);
        return;
    }
    for (int i = from; i < n_left; i++) {
        set[n_set] = left[i];
        choose(e, left, n_left, set, n_set + 1, i + 1);
    }
}

static uint32_t by_definition(const struct partition_problem *problem)
{
    struct enumeration e = { .problem = problem };
    int left[MOST], n_left = 0;
    uint32_t best = 0;
    int32_t best_score = -1;

    for (uint32_t i = 0; i < problem->n_gpus; i++)
        left[n_left++] = (int)i;
    for (; n_left % (int)problem->size != 0; e.n_padding++)
        left[n_left++] = PADDING;
    divide(&e, left, n_left);
    for (int i = 0; i < e.n_best; i++) {
        int32_t score = set_score(&e, e.best[i]);
        if (!set_serves(&e, e.best[i]) || score <= best_score)
            continue;
        best_score = score;
        best = 0;
        for (uint32_t j = 0; j < problem->size; j++)
            best |= 1u << e.best[i][j];
    }
    return best;
}

/* ---- topologies ---- */

static int32_t random_score(int kind, uint32_t i, uint32_t j, uint32_t n)
{
    int32_t score = (i / 4 == j / 4) ? 20 : 10;

    switch (kind) {
    case 0: /* everybody alike */
        return 50;
    case 1: /* two sockets */
        return score;
    case 2: /* pairs with NVLink */
        return score + (i / 2 == j / 2 ? 1200 : 0);
    case 3: /* the common ancestor is anywhere */
        return 10 * (int32_t)(1 + draw(6));
    case 4: /* and some NVLinks */
        return 10 * (int32_t)(1 + draw(6)) + (draw(4) ? 0 : 100 * (int32_t)draw(19));
    case 5: /* few values: many ties */
        return 10 * (int32_t)draw(2);
    case 6: /* a ring of NVLinks */
        return score + ((i + 1) % n == j || (j + 1) % n == i ? 100 : 0);
    case 7: /* nothing is known */
        return 0;
    default: /* NVLinks between random pairs */
        return score + (draw(3) ? 0 : 200);
    }
}

enum { N_KINDS = 9 };

static void connect(struct partition_problem *problem, int kind)
{
    for (uint32_t i = 0; i < problem->n_gpus; i++)
        for (uint32_t j = i + 1; j < problem->n_gpus; j++)
            problem->score[i][j] = problem->score[j][i] = random_score(kind, i, j, problem->n_gpus);
}

/* ---- tests ---- */

static void check(const struct partition_problem *problem, uint32_t wanted, const char *what)
{
    uint32_t set = 0;

    assert_int_equal(partition_best(problem, &set, NULL), 0);
    if (set != wanted)
        fail_msg("%s: %u of %u GPUs, required %#x: %#x, not %#x", what, problem->size,
                 problem->n_gpus, problem->required, set, wanted);
}

static void the_answer_is_that_of_the_definition(void **state)
{
    for (seed = 1; seed < 700; seed++) {
        for (int kind = 0; kind < N_KINDS; kind++) {
            uint32_t start = seed;
            struct partition_problem problem = { .n_gpus = 1 + draw(9) };
            problem.size = 1 + draw(problem.n_gpus);
            for (uint32_t i = draw(problem.size + 1); i > 0 && draw(3); i--)
                problem.required |= 1u << draw(problem.n_gpus);
            connect(&problem, kind);
            if (problem.size > 1)
                check(&problem, by_definition(&problem), "random");
            seed = start;
        }
    }
}

static void ties_are_broken_as_the_enumeration_does(void **state)
{
    for (uint32_t n = 2; n <= 9; n++) {
        for (uint32_t size = 2; size <= n; size++) {
            for (int kind = 0; kind < 3; kind++) {
                struct partition_problem problem = { .n_gpus = n, .size = size };
                connect(&problem, kind);
                check(&problem, by_definition(&problem), "regular");
                for (uint32_t i = 0; i < n; i++) {
                    problem.required = 1u << i;
                    check(&problem, by_definition(&problem), "regular, one required");
                }
            }
        }
    }
}

/* ---- up to sixteen: the same definition, by plain recursion over what is left ---- */

struct plain {
    const struct partition_problem *problem;
    int32_t known[1 << PARTITION_MAX_GPUS]; /* best score of these GPUs + 1; 0: not looked at */
    uint32_t first[1 << PARTITION_MAX_GPUS];
};

static int32_t mask_score(const struct partition_problem *problem, uint32_t mask)
{
    int32_t score = 0;

    for (uint32_t i = 0; i < problem->n_gpus; i++)
        for (uint32_t j = i + 1; j < problem->n_gpus; j++)
            if (mask >> i & 1 && mask >> j & 1)
                score += problem->score[i][j];
    return score;
}

static int32_t plain_best(struct plain *plain, uint32_t rest);

/* `set` grows by GPUs above `from`, in order; smaller sets come last, as padding does. */
static void plain_grow(struct plain *plain, uint32_t rest, uint32_t set, uint32_t from)
{
    const struct partition_problem *problem = plain->problem;
    uint32_t size = (uint32_t)__builtin_popcount(set), n_rest = (uint32_t)__builtin_popcount(rest);
    uint32_t over = n_rest % problem->size;

    for (uint32_t i = from; size < problem->size && i < problem->n_gpus; i++)
        if (rest >> i & 1)
            plain_grow(plain, rest, set | 1u << i, i + 1);
    if (size != problem->size && !(over && size == over))
        return;
    uint32_t required = set & problem->required;
    if (required && (required != problem->required || size < problem->size))
        return;
    int32_t others = plain_best(plain, rest & ~set);
    if (others < 0 || mask_score(problem, set) + others + 1 <= plain->known[rest])
        return;
    plain->known[rest] = mask_score(problem, set) + others + 1;
    plain->first[rest] = set;
}

static int32_t plain_best(struct plain *plain, uint32_t rest)
{
    if (rest == 0)
        return 0;
    if (!plain->first[rest] && plain->known[rest] == 0) {
        uint32_t lead = (uint32_t)__builtin_ctz(rest);
        plain->first[rest] = UINT32_MAX; /* looked at */
        plain_grow(plain, rest, 1u << lead, lead + 1);
    }
    return plain->known[rest] - 1;
}

static uint32_t by_recursion(const struct partition_problem *problem)
{
    static struct plain plain;
    uint32_t best = 0;
    int32_t best_score = -1;

    memset(&plain, 0, sizeof(plain));
    plain.problem = problem;
    plain_best(&plain, (1u << problem->n_gpus) - 1);
    for (uint32_t rest = (1u << problem->n_gpus) - 1; rest;) {
        plain_best(&plain, rest);
        uint32_t set = plain.first[rest];
        rest &= ~set;
        if ((uint32_t)__builtin_popcount(set) < problem->size ||
            (set & problem->required) != problem->required)
            continue;
        if (mask_score(problem, set) > best_score) {
            best_score = mask_score(problem, set);
            best = set;
        }
    }
    return best;
}

static void both_oracles_agree(void **state)
{
    for (seed = 1; seed < 100; seed++) {
        uint32_t start = seed;
        struct partition_problem problem = { .n_gpus = 2 + draw(8) };
        problem.size = 2 + draw(problem.n_gpus - 1);
        problem.required = draw(2) ? 1u << draw(problem.n_gpus) : 0;
        connect(&problem, (int)draw(N_KINDS));
        assert_int_equal(by_recursion(&problem), by_definition(&problem));
        seed = start;
    }
}

static void the_answer_is_right_for_sixteen_gpus(void **state)
{
    static const struct {
        uint32_t n, size;
    } sizes[] = { { 16, 2 }, { 16, 4 }, { 16, 3 }, { 16, 8 }, { 15, 4 },  { 14, 4 }, { 13, 5 },
                  { 16, 5 }, { 16, 6 }, { 12, 4 }, { 11, 3 }, { 16, 15 }, { 12, 7 } };

    seed = 7;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (int kind = 1; kind < N_KINDS; kind += 2) {
            struct partition_problem problem = { .n_gpus = sizes[i].n, .size = sizes[i].size };
            connect(&problem, kind);
            check(&problem, by_recursion(&problem), "large");
            problem.required = 1u << draw(problem.n_gpus) | 1u << draw(problem.n_gpus);
            check(&problem, by_recursion(&problem), "large, required");
        }
    }
}

static void the_answer_is_right_for_many_small_sets(void **state)
{
    for (uint32_t start = 1; start < 400; start++) {
        seed = start;
        struct partition_problem problem = { .n_gpus = 8 + draw(5), .size = 2 + draw(2) };
        problem.required = draw(2) ? 1u << draw(problem.n_gpus) : 0;
        connect(&problem, 3 + (int)draw(N_KINDS - 3));
        check(&problem, by_recursion(&problem), "many sets");
    }
}

static void lack_of_memory_is_reported(void **state)
{
    struct partition_problem problem = { .n_gpus = 8, .size = 4 };
    struct err err = {};
    uint32_t set = 77;
    int r;

    for (unsigned long nth = 1;; nth++) {
        mem_fail_from(nth);
        r = partition_best(&problem, &set, &err);
        mem_fail_from(0);
        if (r == 0)
            break;
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(set, 77);
    }
    assert_int_equal(set, 0xf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_that_of_the_definition),
        cmocka_unit_test(ties_are_broken_as_the_enumeration_does),
        cmocka_unit_test(both_oracles_agree),
        cmocka_unit_test(the_answer_is_right_for_sixteen_gpus),
        cmocka_unit_test(the_answer_is_right_for_many_small_sets),
        cmocka_unit_test(lack_of_memory_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
