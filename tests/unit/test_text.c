#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"

static void starts_and_ends(void **state)
{
    assert_true(text_starts("nvidia.com/gpu", "nvidia.com/"));
    assert_false(text_starts("nvidia", "nvidia.com/"));
    assert_true(text_starts("", ""));
    assert_true(text_ends("gpu.shared", ".shared"));
    assert_false(text_ends("shared", ".shared"));
}

static void trim_takes_blanks_off_both_ends(void **state)
{
    assert_true(span_equal(span_trim(SPAN(" \t a b\r\n")), SPAN("a b")));
    assert_int_equal(span_trim(SPAN(" \n ")).len, 0);
    assert_int_equal(span_trim((struct span){}).len, 0);
}

static void split_gives_every_part(void **state)
{
    static const struct {
        const char *text;
        const char *parts[5];
    } cases[] = {
        { "", { "" } },
        { "a", { "a" } },
        { "a,b", { "a", "b" } },
        { ",", { "", "" } },
        { "a,,b,", { "a", "", "b", "" } },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span rest = span_of(cases[i].text), part;
        bool more = true;
        size_t n = 0;
        while (span_split(&rest, ',', &more, &part)) {
            assert_non_null(cases[i].parts[n]);
            assert_true(span_equal(part, span_of(cases[i].parts[n])));
            n++;
        }
        assert_null(cases[i].parts[n]);
    }
}

static void u64_is_decimal_digits_and_nothing_else(void **state)
{
    static const struct {
        const char *text;
        int r;
        uint64_t value;
    } cases[] = {
        { "0", 0, 0 },
        { "007", 0, 7 },
        { "18446744073709551615", 0, UINT64_MAX },
        { "18446744073709551616", -ERANGE, 0 },
        { "99999999999999999999999", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "+1", -EINVAL, 0 },
        { "-1", -EINVAL, 0 },
        { " 1", -EINVAL, 0 },
        { "1 ", -EINVAL, 0 },
        { "1_0", -EINVAL, 0 },
        { "0x1", -EINVAL, 0 },
        { "1a", -EINVAL, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint64_t value = 12345;
        assert_int_equal(text_to_u64(span_of(cases[i].text), &value), cases[i].r);
        assert_int_equal(value, cases[i].r < 0 ? 12345 : cases[i].value);
    }
}

struct i64_case {
    const char *text;
    int r;
    int64_t value;
};

static void check_i64(int (*parse)(struct span, int64_t *), const struct i64_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value = 12345;
        int r = parse(span_of(cases[i].text), &value);
        if (r != cases[i].r || value != (r < 0 ? 12345 : cases[i].value))
            fail_msg("\"%s\": %d, %lld", cases[i].text, r, (long long)value);
    }
}

static void i64_is_decimal_with_an_optional_sign(void **state)
{
    static const struct i64_case cases[] = {
        { "0", 0, 0 },
        { "-0", 0, 0 },
        { "+12", 0, 12 },
        { "-12", 0, -12 },
        { "9223372036854775807", 0, INT64_MAX },
        { "9223372036854775808", -ERANGE, 0 },
        { "-9223372036854775808", 0, INT64_MIN },
        { "-9223372036854775809", -ERANGE, 0 },
        { "", -EINVAL, 0 },
        { "-", -EINVAL, 0 },
        { "--1", -EINVAL, 0 },
        { "1.0", -EINVAL, 0 },
    };

    check_i64(text_to_i64, cases, ARRAY_LEN(cases));
}

static void any_base_follows_go(void **state)
{
    static const struct i64_case cases[] = {
        { "10", 0, 10 },
        { "010", 0, 8 },
        { "0o10", 0, 8 },
        { "0O17", 0, 15 },
        { "0x1F", 0, 31 },
        { "-0xff", 0, -255 },
        { "0b11", 0, 3 },
        { "1_000", 0, 1000 },
        { "0x_1", 0, 1 },
        { "0_7", 0, 7 },
        { "0", 0, 0 },
        { "00", 0, 0 },
        { "0x8000000000000000", -ERANGE, 0 },
        { "-0x8000000000000000", 0, INT64_MIN },
        { "1__0", -EINVAL, 0 },
        { "_1", -EINVAL, 0 },
        { "1_", -EINVAL, 0 },
        { "09", -EINVAL, 0 },
        { "0x", -EINVAL, 0 },
        { "0x_", -EINVAL, 0 },
        { "0b12", -EINVAL, 0 },
        { "", -EINVAL, 0 },
        { "+", -EINVAL, 0 },
        { "1e3", -EINVAL, 0 },
    };

    check_i64(text_to_i64_any_base, cases, ARRAY_LEN(cases));
}

static void u64_of_any_base_has_no_sign(void **state)
{
    uint64_t value = 7;

    assert_int_equal(text_to_u64_any_base(SPAN("0xFFFFFFFFFFFFFFFF"), &value), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(text_to_u64_any_base(SPAN("0x10000000000000000"), &value), -ERANGE);
    assert_int_equal(text_to_u64_any_base(SPAN("+1"), &value), -EINVAL);
    assert_int_equal(text_to_u64_any_base(SPAN(""), &value), -EINVAL);
    assert_true(value == UINT64_MAX);
}

static void bool_is_gos_twelve_words(void **state)
{
    static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
    static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };
    static const char *const neither[] = { "", "yes", "on", "tRUE", "2", "true " };
    bool value;

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        value = false;
        assert_int_equal(text_to_bool(span_of(yes[i]), &value), 0);
        assert_true(value);
        assert_int_equal(text_to_bool(span_of(no[i]), &value), 0);
        assert_false(value);
        assert_int_equal(text_to_bool(span_of(neither[i]), &value), -EINVAL);
    }
}

static void durations_follow_go(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        { "0", 0 },
        { "-0", 0 },
        { "90s", 90000000000 },
        { "1m30s", 90000000000 },
        { "1.5h", 5400000000000 },
        { "-1.5h", -5400000000000 },
        { "+5s", 5000000000 },
        { ".5s", 500000000 },
        { "5.s", 5000000000 },
        { "1h1m1s1ms1us1ns", 3661001001001 },
        { "1\u00b5s", 1000 },
        { "1\u03bcs", 1000 },
        { "0.3333333333333333333h", 1200000000000 },
        { "0.100000000000000000000h", 360000000000 },
        { "9223372036854775807ns", INT64_MAX },
        { "9223372036.854775807s", INT64_MAX },
        { "-9223372036854775808ns", INT64_MIN },
        { "9007199254.740993s", 9007199254740993000 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};
        int64_t ns = 1;
        int r = text_to_duration_ns(span_of(cases[i].text), &ns, &err);
        if (r < 0 || ns != cases[i].ns)
            fail_msg("%s: %d, %lld (%s)", cases[i].text, r, (long long)ns, err.text);
    }
}

static void bad_durations_get_gos_sentences(void **state)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        { "60", "time: missing unit in duration \"60\"" },
        { "x", "time: invalid duration \"x\"" },
        { "", "time: invalid duration \"\"" },
        { "-", "time: invalid duration \"-\"" },
        { ".s", "time: invalid duration \".s\"" },
        { "1x", "time: unknown unit \"x\" in duration \"1x\"" },
        { "1 s", "time: unknown unit \" s\" in duration \"1 s\"" },
        { "1m60", "time: missing unit in duration \"1m60\"" },
        { "1s-1s", "time: unknown unit \"s-\" in duration \"1s-1s\"" },
        { "9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\"" },
        { "9223372036854775808s", "time: invalid duration \"9223372036854775808s\"" },
        { "3000000h", "time: invalid duration \"3000000h\"" },
        { "1\"\\", "time: unknown unit \"\\\"\\\\\" in duration \"1\\\"\\\\\"" },
        { "1\u00e9\n", "time: unknown unit \"\\xc3\\xa9\\x0a\" in duration \"1\\xc3\\xa9\\x0a\"" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};
        int64_t ns = 77;
        assert_int_equal(text_to_duration_ns(span_of(cases[i].text), &ns, &err), -EINVAL);
        assert_string_equal(err.text, cases[i].sentence);
        assert_int_equal(ns, 77);
    }
}

static void a_long_bad_duration_fits_the_sentence(void **state)
{
    char text[5000];
    struct err err = {};
    int64_t ns;

    memset(text, '\x01', sizeof(text));
    text[0] = '1';
    assert_int_equal(text_to_duration_ns((struct span){ text, sizeof(text) }, &ns, &err), -EINVAL);
}

static void quantities_are_in_thousandths(void **state)
{
    static const struct i64_case cases[] = {
        { "3", 0, 3000 },
        { "0", 0, 0 },
        { "500m", 0, 500 },
        { "10Gi", 0, (int64_t)10 * 1024 * 1024 * 1024 * 1000 },
        { "1Ki", 0, 1024000 },
        { "1k", 0, 1000000 },
        { "1e3", 0, 1000000 },
        { "1E3", 0, 1000000 },
        { "1E-3", 0, 1 },
        { "1e+2", 0, 100000 },
        { "1.5", 0, 1500 },
        { "0.5Ki", 0, 512000 },
        { ".5", 0, 500 },
        { "5.", 0, 5000 },
        { "-2", 0, -2000 },
        { "+2", 0, 2000 },
        { "1u", 0, 1 }, /* rounded away from zero */
        { "1n", 0, 1 },
        { "-1n", 0, -1 },
        { "1.0001", 0, 1001 },
        { "0.00000000000000000000000000000000000001", 0, 1 },
        { "0000000000000000000000000000000000000001", 0, 1000 },
        { "1.00000000000000000000000000000000000001", 0, 1001 },
        { "9223372036854775.807", 0, INT64_MAX },
        { "9223372036854775.808", -ERANGE, 0 },
        { "1E", -ERANGE, 0 },
        { "1P", 0, 1000000000000000000 },
        { "1Ei", -ERANGE, 0 },
        { "0Ei", 0, 0 },
        { "1e100000", -ERANGE, 0 },
        { "0e100000", 0, 0 },
        { "1e-100000", 0, 1 },
        { "", -EINVAL, 0 },
        { ".", -EINVAL, 0 },
        { "Gi", -EINVAL, 0 },
        { "1.2.3", -EINVAL, 0 },
        { "1 Gi", -EINVAL, 0 },
        { "1gi", -EINVAL, 0 },
        { "1e", -EINVAL, 0 },
        { "1K", -EINVAL, 0 },
        { "--1", -EINVAL, 0 },
    };

    check_i64(text_to_quantity_milli, cases, ARRAY_LEN(cases));
}

static void a_star_matches_any_run(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        { "", "", true },           { "", "a", false },      { "*", "", true },
        { "*", "abc", true },       { "a*c", "abbc", true }, { "a*c", "ac", true },
        { "a*c", "acb", false },    { "*b*", "abc", true },  { "*A100*", "NVIDIA A100-SXM4", true },
        { "**", "x", true },        { "a*a", "a", false },   { "*aab", "aaaab", true },
        { "A100", "A100 ", false }, { "a?c", "abc", false }, { "[a]", "a", false },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (text_matches(cases[i].pattern, cases[i].text) != cases[i].matches)
            fail_msg("%s against %s", cases[i].pattern, cases[i].text);
}

static void utf8_ends_at_the_first_broken_sequence(void **state)
{
    static const struct {
        struct span text;
        size_t valid;
    } cases[] = {
        { SPAN(""), 0 },
        { SPAN("abc"), 3 },
        { SPAN("a\u00e9\u20ac\U0001F600"), 10 },
        { SPAN("a\0b"), 3 },
        { SPAN("a\x80"), 1 },
        { SPAN("a\xC3"), 1 },
        { SPAN("a\xC0\xAF"), 1 },         /* overlong */
        { SPAN("a\xE0\x80\x80"), 1 },     /* overlong */
        { SPAN("a\xF0\x80\x80\x80"), 1 }, /* overlong */
        { SPAN("a\xED\xA0\x80"), 1 },     /* surrogate */
        { SPAN("a\xF4\x90\x80\x80"), 1 }, /* above U+10FFFF */
        { SPAN("\xF4\x8F\xBF\xBF\xEF\xBF\xBF"), 7 },
        { SPAN("a\xFF"), 1 },
        { SPAN("\xE2\x82z"), 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(text_utf8_prefix(cases[i].text), cases[i].valid);
}

static void the_nearest_word_is_near(void **state)
{
    static const char *const words[] = { "migStrategy", "resources", "replicas", "rename", "mps" };
    static const struct {
        const char *text, *nearest;
    } cases[] = {
        { "migStrategie", "migStrategy" },
        { "MIGSTRATEGY", "migStrategy" },
        { "replcias", "replicas" },
        { "resource", "resources" },
        { "msp", "mps" },
        { "xyz", NULL },
        { "", NULL },
        { "somethingquitedifferent", NULL },
    };
    char long_word[200] = {};

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *nearest = text_nearest(cases[i].text, words, ARRAY_LEN(words));
        if (cases[i].nearest)
            assert_string_equal(nearest, cases[i].nearest);
        else
            assert_null(nearest);
    }
    memset(long_word, 'r', sizeof(long_word) - 1);
    assert_null(text_nearest(long_word, words, ARRAY_LEN(words)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_and_ends),
        cmocka_unit_test(trim_takes_blanks_off_both_ends),
        cmocka_unit_test(split_gives_every_part),
        cmocka_unit_test(u64_is_decimal_digits_and_nothing_else),
        cmocka_unit_test(i64_is_decimal_with_an_optional_sign),
        cmocka_unit_test(any_base_follows_go),
        cmocka_unit_test(u64_of_any_base_has_no_sign),
        cmocka_unit_test(bool_is_gos_twelve_words),
        cmocka_unit_test(durations_follow_go),
        cmocka_unit_test(bad_durations_get_gos_sentences),
        cmocka_unit_test(a_long_bad_duration_fits_the_sentence),
        cmocka_unit_test(quantities_are_in_thousandths),
        cmocka_unit_test(a_star_matches_any_run),
        cmocka_unit_test(utf8_ends_at_the_first_broken_sequence),
        cmocka_unit_test(the_nearest_word_is_near),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
