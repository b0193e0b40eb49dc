#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cli/table.h"

static char *print(const struct table *table)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    assert_non_null(to);
    assert_int_equal(table_print(table, to, NULL), 0);
    fclose(to);
    return text;
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    auto_(table_done) struct table table = TABLE("NAME", "DEVICES", "SHARING");

    table_cell(&table, "nvidia.com/gpu");
    table_printf(&table, "%d", 16);
    table_cell(&table, "time-slicing");
    table_cell(&table, "x");
    table_printf(&table, "%s", "");
    table_cell(&table, NULL);
    auto_free char *text = print(&table);
    assert_string_equal(text, "NAME             DEVICES   SHARING\n"
                              "nvidia.com/gpu   16        time-slicing\n"
                              "x                -         -\n");
}

static void a_table_without_rows_is_its_header(void **state)
{
    auto_(table_done) struct table table = TABLE("A", "B");

    auto_free char *text = print(&table);
    assert_string_equal(text, "A   B\n");
}

static void a_row_that_is_not_full_ends_its_line(void **state)
{
    auto_(table_done) struct table table = TABLE("A", "B");

    table_cell(&table, "1");
    auto_free char *text = print(&table);
    assert_string_equal(text, "A   B\n1\n");
}

static void width_is_counted_in_columns_of_a_terminal(void **state)
{
    static const struct {
        const char *text;
        size_t width;
    } cases[] = {
        { "", 0 },           { "abc", 3 },  { "é", 1 },     { "e\u0301", 1 }, { "\u6771\u4eac", 4 },
        { "\U0001f600", 2 }, { "\xff", 1 }, { "a\xc3", 2 }, { "\u200b", 0 },  { "Ω…", 2 },
        { "\uff21", 2 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(table_text_width(cases[i].text), cases[i].width);
}

static void wide_characters_do_not_shift_the_next_column(void **state)
{
    auto_(table_done) struct table table = TABLE("A", "B");

    table_cell(&table, "\u6771");
    table_cell(&table, "x");
    table_cell(&table, "abc");
    table_cell(&table, "y");
    auto_free char *text = print(&table);
    assert_string_equal(text, "A     B\n\u6771    x\nabc   y\n");
}

static void a_name_cannot_command_the_terminal(void **state)
{
    auto_(table_done) struct table table = TABLE("A");

    table_cell(&table, "a\033[31mb\nc\td\x7f"
                       "e\xc2\x9b"
                       "31mf\xff"
                       "g");
    auto_free char *text = print(&table);
    assert_string_equal(text, "A\na?[31mb?c?d?e?31mf?g\n");
}

static void colour_is_not_for_files(void **state)
{
    auto_(table_done) struct table table = TABLE("A");

    table_styled(&table, STYLE_BAD, "%s", "unhealthy");
    auto_free char *text = print(&table);
    assert_string_equal(text, "A\nunhealthy\n");
    assert_string_equal(output_style(false, STYLE_BAD), "");
    assert_string_equal(output_style(true, STYLE_BAD), "\033[31m");
    assert_string_equal(output_unstyle(true, STYLE_PLAIN), "");
}

static void a_table_that_ran_out_of_memory_says_so_at_the_end(void **state)
{
    auto_(table_done) struct table table = TABLE("A");
    struct err err = {};

    mem_fail_from(1);
    table_cell(&table, "lost");
    mem_fail_from(0);
    table_cell(&table, "kept");
    assert_int_equal(table_print(&table, stdout, &err), -ENOMEM);
    assert_non_null(strstr(err.text, "cannot lay out the table"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(a_table_without_rows_is_its_header),
        cmocka_unit_test(a_row_that_is_not_full_ends_its_line),
        cmocka_unit_test(width_is_counted_in_columns_of_a_terminal),
        cmocka_unit_test(wide_characters_do_not_shift_the_next_column),
        cmocka_unit_test(a_name_cannot_command_the_terminal),
        cmocka_unit_test(colour_is_not_for_files),
        cmocka_unit_test(a_table_that_ran_out_of_memory_says_so_at_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
