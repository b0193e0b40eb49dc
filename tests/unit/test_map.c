#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/map.h"
#include "base/mem.h"

static int things[5000];

static void an_empty_map_has_nothing(void **state)
{
    auto_(map_done) struct map map = {};
    size_t at = 0;

    assert_null(map_get(&map, "a"));
    assert_false(map_has(&map, "a"));
    assert_null(map_remove(&map, "a"));
    assert_null(map_next(&map, &at));
}

static void keys_are_copied_and_values_replaced(void **state)
{
    auto_(map_done) struct map map = {};
    char key[] = "gpu";

    assert_int_equal(map_set(&map, key, &things[0]), 0);
    key[0] = 'x';
    assert_ptr_equal(map_get(&map, "gpu"), &things[0]);
    assert_int_equal(map_set(&map, "gpu", &things[1]), 0);
    assert_ptr_equal(map_get(&map, "gpu"), &things[1]);
    assert_int_equal(map.n_live, 1);
    assert_false(map_has(&map, "xpu"));
}

static void a_null_value_is_still_there(void **state)
{
    auto_(map_done) struct map map = {};

    assert_int_equal(map_set(&map, "", NULL), 0);
    assert_true(map_has(&map, ""));
    assert_null(map_get(&map, ""));
}

static void fill(struct map *map)
{
    char key[32];

    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        snprintf(key, sizeof(key), "key-%zu", i);
        assert_int_equal(map_set(map, key, &things[i]), 0);
    }
}

static void many_keys_are_found_in_order_of_insertion(void **state)
{
    auto_(map_done) struct map map = {};
    struct map_entry *entry;
    char key[32];
    size_t n = 0;

    fill(&map);
    for (size_t i = 0; (entry = map_next(&map, &i)); n++) {
        snprintf(key, sizeof(key), "key-%zu", n);
        assert_string_equal(entry->key, key);
        assert_ptr_equal(map_get(&map, key), &things[n]);
    }
    assert_int_equal(n, ARRAY_LEN(things));
}

static void entries_may_be_removed_while_iterating(void **state)
{
    auto_(map_done) struct map map = {};
    struct map_entry *entry;

    fill(&map);
    for (size_t i = 0; (entry = map_next(&map, &i));)
        if (((int *)entry->value - things) % 2 == 0)
            assert_non_null(map_remove(&map, entry->key));
    assert_int_equal(map.n_live, ARRAY_LEN(things) / 2);
    assert_false(map_has(&map, "key-0"));
    assert_ptr_equal(map_get(&map, "key-1"), &things[1]);
    assert_ptr_equal(map_get(&map, "key-4999"), &things[4999]);
    assert_int_equal(map_set(&map, "key-0", &things[0]), 0);
    assert_ptr_equal(map_get(&map, "key-0"), &things[0]);
}

static void removing_and_adding_does_not_grow_the_map(void **state)
{
    auto_(map_done) struct map map = {};

    for (size_t i = 0; i < ARRAY_LEN(things); i++) {
        char key[32];
        snprintf(key, sizeof(key), "key-%zu", i);
        assert_int_equal(map_set(&map, key, &things[i]), 0);
        assert_ptr_equal(map_remove(&map, key), &things[i]);
        assert_false(map_has(&map, key));
    }
    assert_true(map.cap <= 16);
}

static void every_lack_of_memory_is_reported_and_harmless(void **state)
{
    bool failed = true;

    for (unsigned long nth = 1; failed; nth++) {
        auto_(map_done) struct map map = {};
        char key[32];
        size_t n = 0;

        failed = false;
        mem_fail_from(nth);
        while (n < 100 && !failed) {
            snprintf(key, sizeof(key), "key-%zu", n);
            if (map_set(&map, key, &things[n]) == 0)
                n++;
            else
                failed = true;
        }
        mem_fail_from(0);
        assert_int_equal(map.n_live, n);
        if (failed) /* the map still works */
            assert_int_equal(map_set(&map, key, &things[n]), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_nothing),
        cmocka_unit_test(keys_are_copied_and_values_replaced),
        cmocka_unit_test(a_null_value_is_still_there),
        cmocka_unit_test(many_keys_are_found_in_order_of_insertion),
        cmocka_unit_test(entries_may_be_removed_while_iterating),
        cmocka_unit_test(removing_and_adding_does_not_grow_the_map),
        cmocka_unit_test(every_lack_of_memory_is_reported_and_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
