#include <setjmp.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/mem.h"

static void memory_is_zeroed_and_aligned(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    for (size_t size = 0; size < 300; size += 7) {
        unsigned char *bytes = arena_alloc(&arena, size);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % alignof(max_align_t), 0);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(bytes[i], 0);
        memset(bytes, 0xff, size);
    }
}

static void things_do_not_overlap(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    uint32_t *numbers[2000];

    for (uint32_t i = 0; i < ARRAY_LEN(numbers); i++) {
        numbers[i] = arena_new(&arena, uint32_t);
        assert_non_null(numbers[i]);
        *numbers[i] = i;
    }
    for (uint32_t i = 0; i < ARRAY_LEN(numbers); i++)
        assert_int_equal(*numbers[i], i);
}

static void a_tiny_arena_stays_tiny(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));

    assert_non_null(arena_strdup(&arena, "GPU-0"));
    assert_true(arena.used <= KIB(4));
}

static void the_ceiling_holds(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(10));
    size_t n = 0;

    while (arena_alloc(&arena, 100))
        n++;
    assert_true(arena.used <= KIB(10));
    assert_true(n >= 80); /* and most of what was allowed could be used */
    assert_null(arena_alloc(&arena, KIB(11)));
}

static void a_ceiling_below_the_first_block_works(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(256);

    assert_non_null(arena_alloc(&arena, 100));
    assert_null(arena_alloc(&arena, 200));
}

static void sizes_that_overflow_are_refused(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(SIZE_MAX);

    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - sizeof(max_align_t)));
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
}

static void a_large_thing_gets_its_own_block(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));

    assert_non_null(arena_alloc(&arena, 1));
    unsigned char *large = arena_alloc(&arena, MIB(1));
    assert_non_null(large);
    memset(large, 1, MIB(1));
}

static void texts_are_copied(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    assert_string_equal(arena_strdup(&arena, "all"), "all");
    assert_string_equal(arena_spandup(&arena, (struct span){ "gpu.shared", 3 }), "gpu");
    assert_string_equal(arena_spandup(&arena, (struct span){}), "");
    assert_string_equal(arena_printf(&arena, "gpu%u-%s", 7u, "a"), "gpu7-a");
}

static void push_grows_a_list(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    struct pair {
        size_t a, b;
    } *pairs = NULL;
    size_t n_pairs = 0;

    for (size_t i = 0; i < 1000; i++) {
        struct pair *pair = arena_push(&arena, &pairs, &n_pairs);
        assert_non_null(pair);
        assert_int_equal(n_pairs, i + 1);
        assert_int_equal(pair->a + pair->b, 0);
        *pair = (struct pair){ .a = i, .b = 2 * i };
    }
    for (size_t i = 0; i < n_pairs; i++)
        assert_int_equal(pairs[i].a * 2, pairs[i].b);
    assert_int_equal(pairs[999].a, 999);
}

static void push_that_fails_leaves_the_list_as_it_was(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(4));
    uint64_t *numbers = NULL, *item;
    size_t n = 0;

    while ((item = arena_push(&arena, &numbers, &n)))
        *item = n;
    assert_true(n > 4);
    assert_int_equal(numbers[n - 1], n);
}

static void lack_of_memory_is_null(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    mem_fail_from(1);
    void *refused = arena_alloc(&arena, 1);
    mem_fail_from(0);
    assert_null(refused);
    assert_int_equal(arena.used, 0);
    assert_non_null(arena_alloc(&arena, 1));
}

static void done_makes_it_empty_and_usable(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(8));

    assert_non_null(arena_alloc(&arena, KIB(6)));
    arena_done(&arena);
    assert_int_equal(arena.used, 0);
    assert_non_null(arena_alloc(&arena, KIB(6)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(things_do_not_overlap),
        cmocka_unit_test(a_tiny_arena_stays_tiny),
        cmocka_unit_test(the_ceiling_holds),
        cmocka_unit_test(a_ceiling_below_the_first_block_works),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(a_large_thing_gets_its_own_block),
        cmocka_unit_test(texts_are_copied),
        cmocka_unit_test(push_grows_a_list),
        cmocka_unit_test(push_that_fails_leaves_the_list_as_it_was),
        cmocka_unit_test(lack_of_memory_is_null),
        cmocka_unit_test(done_makes_it_empty_and_usable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
