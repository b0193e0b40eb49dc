#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codec/scalar.h"
#include "codec/value.h"

static struct value one = { .kind = VALUE_INT, .integer = 1 },
                    two = { .kind = VALUE_INT, .integer = 2 },
                    text = { .kind = VALUE_STRING, .text = { "all", 3 } };

static void lookups_find_the_key_or_nothing(void **state)
{
    struct value_entry entries[] = { { "a", { 1, 1 }, &one, false },
                                     { "b", { 2, 1 }, &two, false } };
    struct value map = { .kind = VALUE_MAP, .entries = entries, .n_entries = 2 };

    assert_ptr_equal(value_get(&map, "b"), &two);
    assert_int_equal(value_entry(&map, "b")->place.line, 2);
    assert_null(value_get(&map, "c"));
    assert_null(value_get(&map, "B"));
    assert_null(value_get(NULL, "a"));
    assert_null(value_get(&one, "a"));
    assert_null(value_get_nocase(NULL, "a"));
    assert_null(value_get_nocase(&text, "a"));
}

static void of_several_spellings_the_last_in_byte_order_counts(void **state)
{
    struct value_entry entries[] = { { "migStrategy", {}, &one, false },
                                     { "MIGSTRATEGY", {}, &two, false } };
    struct value map = { .kind = VALUE_MAP, .entries = entries, .n_entries = 2 };

    assert_ptr_equal(value_get_nocase(&map, "migStrategy"), &one);
    assert_string_equal(value_entry_nocase(&map, "migstrategy")->key, "migStrategy");
    map.entries++;
    map.n_entries = 1;
    assert_ptr_equal(value_get_nocase(&map, "migStrategy"), &two);
}

static void a_text_is_compared_whole(void **state)
{
    assert_true(value_is_text(&text, "all"));
    assert_false(value_is_text(&text, "al"));
    assert_false(value_is_text(&one, "1"));
    assert_false(value_is_text(NULL, ""));
}

static void whole_numbers_may_be_floats(void **state)
{
    static const struct {
        struct value value;
        int r;
        int64_t whole;
    } cases[] = {
        { { .kind = VALUE_INT, .integer = INT64_MIN }, 0, INT64_MIN },
        { { .kind = VALUE_FLOAT, .number = 2.0 }, 0, 2 },
        { { .kind = VALUE_FLOAT, .number = -0x1p63 }, 0, INT64_MIN },
        { { .kind = VALUE_FLOAT, .number = 0x1p63 }, -ERANGE, 0 },
        { { .kind = VALUE_FLOAT, .number = 1e300 }, -ERANGE, 0 },
        { { .kind = VALUE_FLOAT, .number = 2.5 }, -EINVAL, 0 },
        { { .kind = VALUE_FLOAT, .number = NAN }, -EINVAL, 0 },
        { { .kind = VALUE_FLOAT, .number = INFINITY }, -EINVAL, 0 },
        { { .kind = VALUE_STRING, .text = { "2", 1 } }, -EINVAL, 0 },
        { { .kind = VALUE_NULL }, -EINVAL, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t whole = 77;
        assert_int_equal(value_to_i64(&cases[i].value, &whole), cases[i].r);
        assert_true(whole == (cases[i].r < 0 ? 77 : cases[i].whole));
    }
    assert_int_equal(value_to_i64(NULL, &(int64_t){ 0 }), -EINVAL);
}

static void numbers_are_written_as_go_writes_them(void **state)
{
    static const struct {
        double number;
        const char *text;
    } cases[] = {
        { 0, "0" },
        { -0.0, "-0" },
        { 10, "10" },
        { 2.5, "2.5" },
        { -0.1, "-0.1" },
        { 0.000001, "0.000001" },
        { 1e-7, "1e-7" },
        { 1.5e-10, "1.5e-10" },
        { 1e20, "100000000000000000000" },
        { 1e21, "1e+21" },
        { -1.25e300, "-1.25e+300" },
        { 5e-324, "5e-324" },
        { 1.7976931348623157e308, "1.7976931348623157e+308" },
        { 123456789.125, "123456789.125" },
        { 0.30000000000000004, "0.30000000000000004" },
        { INFINITY, "" },
        { NAN, "" },
    };
    char written[VALUE_NUMBER_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct value value = { .kind = VALUE_FLOAT, .number = cases[i].number };
        value_number_text(&value, written);
        assert_string_equal(written, cases[i].text);
    }
    value_number_text(&(struct value){ .kind = VALUE_INT, .integer = INT64_MIN }, written);
    assert_string_equal(written, "-9223372036854775808");
    value_number_text(&text, written);
    assert_string_equal(written, "");
}

static void words_mean_what_go_takes_them_for(void **state)
{
    static const struct {
        const char *word;
        enum value_kind kind;
        double number; /* or the boolean */
    } cases[] = {
        { "", VALUE_NULL, 0 },
        { "~", VALUE_NULL, 0 },
        { "NULL", VALUE_NULL, 0 },
        { "nULL", VALUE_STRING, 0 },
        { "y", VALUE_BOOL, 1 },
        { "Y", VALUE_BOOL, 1 },
        { "On", VALUE_BOOL, 1 },
        { "off", VALUE_BOOL, 0 },
        { "N", VALUE_BOOL, 0 },
        { "yES", VALUE_STRING, 0 },
        { "t", VALUE_STRING, 0 },
        { "10", VALUE_INT, 10 },
        { "+1", VALUE_INT, 1 },
        { "-1", VALUE_INT, -1 },
        { "010", VALUE_INT, 8 },
        { "0o10", VALUE_INT, 8 },
        { "0x3", VALUE_INT, 3 },
        { "-0b11", VALUE_INT, -3 },
        { "1_0", VALUE_INT, 10 },
        { "1__0_", VALUE_INT, 10 },
        { "0x_1", VALUE_INT, 1 },
        { "_1", VALUE_STRING, 0 },
        { "08", VALUE_FLOAT, 8 },
        { "1e1", VALUE_FLOAT, 10 },
        { "1.", VALUE_FLOAT, 1 },
        { ".5", VALUE_FLOAT, .5 },
        { "+.5", VALUE_FLOAT, .5 },
        { ".5_0", VALUE_FLOAT, .5 },
        { "._5", VALUE_STRING, 0 },
        { ".5_", VALUE_STRING, 0 },
        { "1_000.5", VALUE_FLOAT, 1000.5 },
        { "9223372036854775808", VALUE_FLOAT, 0x1p63 },
        { "0xFFFFFFFFFFFFFFFF", VALUE_FLOAT, 0x1p64 },
        { "0x10000000000000000", VALUE_STRING, 0 },
        { "99999999999999999999", VALUE_FLOAT, 1e20 },
        { "1e400", VALUE_STRING, 0 },
        { "1e-400", VALUE_FLOAT, 0 },
        { ".inf", VALUE_FLOAT, INFINITY },
        { "-.Inf", VALUE_FLOAT, -INFINITY },
        { "inf", VALUE_STRING, 0 },
        { "0x1p3", VALUE_STRING, 0 },
        { "nan", VALUE_STRING, 0 },
        { "1:30", VALUE_STRING, 0 },
        { "2001-01-01", VALUE_STRING, 0 },
        { "0o8", VALUE_STRING, 0 },
        { "1.2.3", VALUE_STRING, 0 },
        { "1e", VALUE_STRING, 0 },
        { ".", VALUE_STRING, 0 },
        { "-", VALUE_STRING, 0 },
        { "<<", VALUE_STRING, 0 },
        { "=", VALUE_STRING, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scalar scalar = scalar_read(span_of(cases[i].word));
        double number = scalar.kind == VALUE_BOOL    ? scalar.boolean
                        : scalar.kind == VALUE_INT   ? (double)scalar.integer
                        : scalar.kind == VALUE_FLOAT ? scalar.number
                                                     : 0;
        if (scalar.kind != cases[i].kind || number != cases[i].number)
            fail_msg("\"%s\": kind %d, %g", cases[i].word, scalar.kind, number);
    }
    assert_true(isnan(scalar_read(SPAN(".NaN")).number));
}

static void a_number_of_a_thousand_digits_is_text(void **state)
{
    char digits[1000];

    memset(digits, '1', sizeof(digits));
    assert_int_equal(scalar_read((struct span){ digits, sizeof(digits) }).kind, VALUE_STRING);
    assert_int_equal(scalar_read(SPAN("12\0")).kind, VALUE_STRING);
}

#define YAML_TAG "tag:yaml.org,2002:"

static void a_tag_decides_or_is_wrong(void **state)
{
    static const struct {
        const char *tag, *word;
        int r;
        enum value_kind kind;
    } cases[] = {
        { YAML_TAG "str", "3", 0, VALUE_STRING },
        { YAML_TAG "int", "3", 0, VALUE_INT },
        { YAML_TAG "int", "x", -EINVAL, 0 },
        { YAML_TAG "int", "3.0", -EINVAL, 0 },
        { YAML_TAG "float", "3", 0, VALUE_FLOAT },
        { YAML_TAG "bool", "yes", 0, VALUE_BOOL },
        { YAML_TAG "bool", "1", -EINVAL, 0 },
        { YAML_TAG "null", "~", 0, VALUE_NULL },
        { YAML_TAG "null", "x", -EINVAL, 0 },
        { YAML_TAG "binary", "aGk=", 0, VALUE_STRING },
        { "!", "3", 0, VALUE_STRING },
        { "!mine", "3", 0, VALUE_STRING },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct scalar scalar = {};
        assert_int_equal(scalar_read_tagged(span_of(cases[i].tag), span_of(cases[i].word), &scalar),
                         cases[i].r);
        assert_int_equal(scalar.kind, cases[i].kind);
    }
}

static void keys_are_written_as_go_writes_them(void **state)
{
    static const struct {
        const char *word, *key;
    } cases[] = {
        { "0x10", "16" },         { "-1", "-1" },           { "yes", "true" },
        { "off", "false" },       { "1.5", "1.5" },         { "1e1", "10" },
        { "1.0", "1" },           { "1e10", "1e+10" },      { "12345678.5", "1.2345678e+07" },
        { "0.1", "0.1" },         { "1e-5", "1e-05" },      { "0.0001", "0.0001" },
        { "100000.0", "100000" }, { "1000000.0", "1e+06" }, { ".inf", ".inf" },
        { "-.inf", "-.inf" },     { ".nan", ".nan" },       { "1e300", ".inf" },
    };
    char key[SCALAR_KEY_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(scalar_key(scalar_read(span_of(cases[i].word)), key), 0);
        assert_string_equal(key, cases[i].key);
    }
    assert_int_equal(scalar_key(scalar_read(SPAN("~")), key), -EINVAL);
    assert_int_equal(scalar_key(scalar_read(SPAN("text")), key), -EINVAL);
}

static void settling_keeps_the_last_and_notes_the_others(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct value_entry entries[] = {
        { "b", { 1, 1 }, &one, false }, { "a", { 2, 1 }, &one, true },
        { "b", { 3, 1 }, &one, false }, { "a", { 4, 1 }, &two, false },
        { "b", { 5, 1 }, &two, false }, { "c", { 6, 1 }, &one, false },
    };
    struct value map = { .kind = VALUE_MAP, .entries = entries, .n_entries = ARRAY_LEN(entries) };

    assert_int_equal(value_settle_map(&map, &arena), 0);
    assert_int_equal(map.n_entries, 3);
    assert_string_equal(map.entries[0].key, "a");
    assert_string_equal(map.entries[1].key, "b");
    assert_string_equal(map.entries[2].key, "c");
    assert_ptr_equal(value_get(&map, "a"), &two);
    assert_ptr_equal(value_get(&map, "b"), &two);
    assert_int_equal(map.n_duplicates, 2); /* of b; a was only merged in */
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(map.duplicates[i].key, "b");
        assert_int_equal(map.duplicates[i].second.line, 5);
        assert_int_equal(map.duplicates[i].first.line, i ? 1 : 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups_find_the_key_or_nothing),
        cmocka_unit_test(of_several_spellings_the_last_in_byte_order_counts),
        cmocka_unit_test(a_text_is_compared_whole),
        cmocka_unit_test(whole_numbers_may_be_floats),
        cmocka_unit_test(numbers_are_written_as_go_writes_them),
        cmocka_unit_test(words_mean_what_go_takes_them_for),
        cmocka_unit_test(a_number_of_a_thousand_digits_is_text),
        cmocka_unit_test(a_tag_decides_or_is_wrong),
        cmocka_unit_test(keys_are_written_as_go_writes_them),
        cmocka_unit_test(settling_keeps_the_last_and_notes_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
