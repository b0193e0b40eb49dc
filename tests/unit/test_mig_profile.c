#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "share/mig_profile.h"

/* N1 … N9 of spec/mig §7.1, and what else NVML can say. */
static const struct {
    const char *what;
    uint32_t gi, ci;
    uint64_t memory_mib, total_mib;
    const char *name;
} made[] = {
    { "N1", 0, 0, 4864, 40960, "1g.5gb" },
    { "N2: double memory is in the number only", 9, 0, 9856, 40960, "1g.10gb" },
    { "N3: the same name of another enum", 0, 0, 9856, 81920, "1g.10gb" },
    { "N4: 70.5 rounds up", 2, 2, 71168, 143771, "3g.71gb" },
    { "N5: 22.5 rounds up", 0, 0, 22528, 183359, "1g.23gb" },
    { "N6", 15, 0, 24187, 97887, "1g.24gb+me.all" },
    { "N7", 13, 0, 24187, 97887, "1g.24gb-me" },
    { "N8", 4, 0, 81152, 81559, "1c.7g.80gb" },
    { "N9: upstream gives up here", 17, 2, 24187, 97887, "3g.24gb+gfx" },
    { "31: an eighth of an H200", 0, 0, 16384, 143771, "1g.18gb" },
    { "A100-40, media extensions", 7, 0, 4864, 40960, "1g.5gb+me" },
    { "A30, a quarter", 0, 0, 5952, 24576, "1g.6gb" },
    { "A30, half with media extensions", 8, 1, 11968, 24576, "2g.12gb+me" },
    { "graphics", 10, 0, 24187, 97887, "1g.24gb+gfx" },
    { "graphics, half", 11, 1, 48512, 97887, "2g.48gb+gfx" },
    { "graphics, all", 12, 3, 97280, 97887, "4g.96gb+gfx" },
    { "no media, two slices", 14, 1, 48512, 97887, "2g.48gb-me" },
    { "all media, two slices", 16, 1, 48512, 97887, "2g.48gb+me.all" },
    { "the mini-quarter counts as one", 1, 7, 19968, 81559, "1c.2g.20gb" },
    { "seven of NVL", 4, 8, 94208, 95830, "7g.94gb" },
    { "the reserved sizes", 5, 5, 81920, 81920, "8g.80gb" },
    { "the reserved sizes", 6, 6, 61440, 81920, "6g.60gb" },
};

static void names_are_computed_bit_by_bit(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        struct mig_profile profile;
        char name[MIG_PROFILE_NAME_MAX];
        assert_int_equal(mig_profile_make(made[i].gi, made[i].ci, made[i].memory_mib,
                                          made[i].total_mib << 20, &profile, NULL),
                         0);
        mig_profile_name(&profile, name);
        if (!text_equal(name, made[i].name))
            fail_msg("%s: %s, not %s", made[i].what, name, made[i].name);
    }
}

/* The table of spec/mig §1.6: names for the parts of a board of T GiB. */
static void the_number_follows_the_size_that_the_driver_reports(void **state)
{
    static const struct {
        uint64_t total_gib;
        uint32_t gb[4]; /* 1/8, 2/8, 4/8, 8/8 */
    } boards[] = {
        { 24, { 3, 6, 12, 24 } },     { 40, { 5, 10, 20, 40 } },     { 80, { 10, 20, 40, 80 } },
        { 94, { 12, 24, 47, 94 } },   { 96, { 12, 24, 48, 96 } },    { 141, { 18, 35, 71, 141 } },
        { 144, { 18, 36, 72, 144 } }, { 180, { 23, 45, 90, 180 } },  { 186, { 23, 47, 93, 186 } },
        { 189, { 24, 47, 95, 189 } }, { 269, { 34, 67, 135, 269 } }, { 278, { 35, 70, 139, 278 } },
    };

    for (size_t i = 0; i < ARRAY_LEN(boards); i++) {
        for (unsigned part = 0; part < 4; part++) {
            /* A little less than the whole GiB, as drivers report it. */
            uint64_t total = (boards[i].total_gib << 30) - MIB(300);
            uint64_t mib = (total >> 20) / 8 * (1u << part) - 100;
            struct mig_profile profile;
            assert_int_equal(mig_profile_make(0, 0, mib, total, &profile, NULL), 0);
            assert_int_equal(profile.gb, boards[i].gb[part]);
        }
    }
}

static void unknown_enums_are_refused_in_upstreams_words(void **state)
{
    struct mig_profile profile;
    struct err err;

    assert_int_equal(mig_profile_make(18, 0, 1, 1, &profile, &err), -EINVAL);
    assert_string_equal(err.text, "invalid GPU Instance Profile ID: 18");
    assert_int_equal(mig_profile_make(0, 9, 1, 1, &profile, &err), -EINVAL);
    assert_string_equal(err.text, "invalid Compute Instance Profile ID: 9");
    assert_int_equal(mig_profile_make(0, 0, 1, 0, &profile, &err), -EINVAL);
    assert_int_equal(mig_profile_make(0, 0, UINT64_MAX, 1, &profile, &err), -EINVAL);
    assert_int_equal(mig_gi_profile_slices(18), 0);
    assert_int_equal(mig_ci_profile_slices(9), 0);
}

/* N10, and spec/mig §1.7. */
static const struct {
    const char *name;
    int r;
} parsed[] = {
    { "1g.5gb", 0 },
    { "1c.3g.20gb", 0 },
    { "1g.5gb+me,gfx", 0 },
    { "1g.24gb+me.all", 0 },
    { "1g.24gb-me", 0 },
    { "0g.0gb", 0 },
    { "01g.05gb", 0 },
    { "2c.1g.5gb", 0 },
    { "1g.5gb+foo", -ENOENT },
    { "1g.5gb-gfx", -ENOENT },
    { "1g.5gb+ME", -ENOENT },
    { "99999999999g.5gb", -ENOENT },
    { "1g.99999999999999999999999gb", -ENOENT },
    { "", -EINVAL },
    { "1g.5gb+me,me", -EINVAL },
    { "1g.5gb+foo,me,foo", -EINVAL },
    { "1g.5gb+me-gfx", -EINVAL },
    { "1g.5gb-me+gfx", -EINVAL },
    { "1g.5gb+", -EINVAL },
    { "1g.5gb-", -EINVAL },
    { "1g.5gb+me,", -EINVAL },
    { "1g.5gb+,me", -EINVAL },
    { "1g5gb", -EINVAL },
    { "1g.5gb.me", -EINVAL },
    { "1c.1g.5gb.me", -EINVAL },
    { "1g.5gb+1x", -EINVAL },
    { "1g.5gb+.me", -EINVAL },
    { "1g.5gb+me.", -EINVAL },
    { "1g.5gb+m_e", -EINVAL },
    { "1g.5gb+me+gfx", -EINVAL },
    { "1g.5gb+me, gfx", -EINVAL },
    { " 1g.5gb", -EINVAL },
    { "1g.5gb ", -EINVAL },
    { "1g. 5gb", -EINVAL },
    { "g.gb", -EINVAL },
    { "1g.5", -EINVAL },
    { "1.5gb", -EINVAL },
    { "0x1g.5gb", -EINVAL },
    { "1_0g.5gb", -EINVAL },
    { "3g.1c.20gb", -EINVAL },
    { "+me", -EINVAL },
    { "-1g.5gb", -EINVAL },
    { "1g.5gb+aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", -EINVAL },
};

static void names_are_parsed_as_strictly_as_upstream_does(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(parsed); i++) {
        struct mig_profile profile;
        struct err err = {};
        int r = mig_profile_parse(span_of(parsed[i].name), &profile, &err);
        if (r != parsed[i].r)
            fail_msg("'%s': %d (%s), not %d", parsed[i].name, r, err.text, parsed[i].r);
        assert_int_equal(err.code, -r);
    }
}

static void a_name_may_hold_any_bytes(void **state)
{
    struct mig_profile profile;

    assert_int_equal(mig_profile_parse(SPAN("1g.5gb\0"), &profile, NULL), -EINVAL);
    assert_int_equal(mig_profile_parse(SPAN("1g.5gb+m\0e"), &profile, NULL), -EINVAL);
    assert_int_equal(mig_profile_parse((struct span){ "1g.5gb+me", 6 }, &profile, NULL), 0);
    assert_int_equal(profile.attributes, 0);
}

static void a_made_name_parses_to_what_it_was_made_of(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        struct mig_profile profile, again;
        char name[MIG_PROFILE_NAME_MAX];
        assert_int_equal(mig_profile_make(made[i].gi, made[i].ci, made[i].memory_mib,
                                          made[i].total_mib << 20, &profile, NULL),
                         0);
        mig_profile_name(&profile, name);
        assert_int_equal(mig_profile_parse(span_of(name), &again, NULL), 0);
        assert_true(mig_profile_equal(&profile, &again));
    }
}

static void the_order_of_attributes_and_a_needless_c_do_not_matter(void **state)
{
    struct mig_profile a, b;

    assert_int_equal(mig_profile_parse(SPAN("1g.5gb+me,gfx"), &a, NULL), 0);
    assert_int_equal(mig_profile_parse(SPAN("1c.1g.5gb+gfx,me"), &b, NULL), 0);
    assert_true(mig_profile_equal(&a, &b));
    assert_int_equal(mig_profile_parse(SPAN("1g.5gb-me"), &b, NULL), 0);
    assert_false(mig_profile_equal(&a, &b));
}

/* N11 */
static void labels_and_resources_have_dots_for_plus_signs(void **state)
{
    static const char *const forms[][2] = {
        { "1g.24gb+me.all", "1g.24gb.me.all" },
        { "1g.24gb-me", "1g.24gb-me" },
        { "1c.3g.20gb", "1c.3g.20gb" },
        { "1g.10gb+me", "1g.10gb.me" },
    };

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        char form[MIG_PROFILE_NAME_MAX];
        mig_profile_resource_form(forms[i][0], form);
        assert_string_equal(form, forms[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_computed_bit_by_bit),
        cmocka_unit_test(the_number_follows_the_size_that_the_driver_reports),
        cmocka_unit_test(unknown_enums_are_refused_in_upstreams_words),
        cmocka_unit_test(names_are_parsed_as_strictly_as_upstream_does),
        cmocka_unit_test(a_name_may_hold_any_bytes),
        cmocka_unit_test(a_made_name_parses_to_what_it_was_made_of),
        cmocka_unit_test(the_order_of_attributes_and_a_needless_c_do_not_matter),
        cmocka_unit_test(labels_and_resources_have_dots_for_plus_signs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
