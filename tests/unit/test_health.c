#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gpu/health.h"

/* ---- the filter ---- */

static void the_filter_lets_pass_what_the_lists_say(void **state)
{
    static const struct {
        const char *disable, *enable;
        uint64_t xid;
        bool fatal;
        const char *why;
    } cases[] = {
        { NULL, NULL, 79, true, "an error of the GPU" },
        { NULL, NULL, 48, true, "an error of the GPU" },
        { NULL, NULL, 31, false, "an error of an application" },
        { NULL, NULL, 13, false, "an error of an application" },
        { NULL, NULL, 43, false, "an error of an application" },
        { NULL, NULL, 45, false, "an error of an application" },
        { NULL, NULL, 68, false, "an error of an application" },
        { NULL, NULL, 109, false, "an error of an application" },
        { "", "", 79, true, "empty lists" },
        { "79, x ,48", NULL, 79, false, "disabled" },
        { "79, x ,48", NULL, 48, false, "disabled" },
        { "79, x ,48", NULL, 74, true, "not disabled" },
        { NULL, "31", 31, true, "enabled" },
        { NULL, "31", 13, false, "not enabled" },
        { "79", "79", 79, true, "enable wins" },
        { "all", "all", 79, true, "all are enabled" },
        { "all", "all", 31, true, "all are enabled" },
        { NULL, "ALL", 31, true, "in any case" },
        { NULL, "Xids", 31, true, "another word for it" },
        { "xids", NULL, 79, false, "all are disabled" },
        { "48,all", NULL, 79, false, "all, anywhere in the list" },
        { "all", "48", 48, true, "all but one are disabled" },
        { "all", "48", 79, false, "all but one are disabled" },
        { "0", NULL, 79, false, "zero is all" },
        { NULL, "0", 31, true, "zero is all" },
        { "-79,7 9,0x4f", NULL, 79, true, "none of them is a number" },
        { "18446744073709551616", NULL, 79, true, "too large to be a number" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct xid_filter filter;
        xid_filter_parse(cases[i].disable, cases[i].enable, &filter);
        if (xid_filter_is_fatal(&filter, cases[i].xid) != cases[i].fatal)
            fail_msg("disable %s, enable %s, XID %d: %s", cases[i].disable, cases[i].enable,
                     (int)cases[i].xid, cases[i].why);
    }
}

static void nothing_is_watched_only_when_nothing_can_be_fatal(void **state)
{
    static const struct {
        const char *disable, *enable;
        bool watches;
    } cases[] = {
        { NULL, NULL, true },  { "all", NULL, false },  { "all", "", false },
        { "all", "x", false }, { "all", "48", true },   { "all", "all", true },
        { "79", NULL, true },  { "xids", NULL, false },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct xid_filter filter;
        xid_filter_parse(cases[i].disable, cases[i].enable, &filter);
        assert_int_equal(xid_filter_watches(&filter), cases[i].watches);
    }
}

static void words_that_mean_nothing_are_reported(void **state)
{
    struct xid_filter filter;

    xid_filter_parse("79, x ,48", "y,", &filter);
    assert_int_equal(filter.n_ignored, 2);
    assert_true(span_equal(filter.ignored[0], SPAN("x")));
    assert_true(span_equal(filter.ignored[1], SPAN("y")));
}

static void a_list_without_end_fills_the_filter_and_no_more(void **state)
{
    struct xid_filter filter;
    char list[4096] = "";
    size_t len = 0;

    for (int i = 1; i <= 200; i++)
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%d,", i + 1000);
    xid_filter_parse(list, list, &filter);
    assert_int_equal(filter.n_disabled, XID_FILTER_MAX);
    assert_int_equal(filter.n_enabled, XID_FILTER_MAX);
    assert_int_equal(filter.n_ignored, XID_FILTER_MAX_IGNORED);
}

/* ---- who is ill ---- */

static struct mig_device migs[] = {
    { .uuid = "MIG-a", .gi_id = 1, .ci_id = 0 },
    { .uuid = "MIG-b", .gi_id = 1, .ci_id = 1 },
    { .uuid = "MIG-c", .gi_id = 2, .ci_id = 0 },
};
static struct gpu gpus[] = {
    { .uuid = "GPU-0", .mig_enabled = true, .mig_devices = migs, .n_mig_devices = 3 },
    { .uuid = "GPU-1" },
};
static const struct inventory node = { .n_gpus = 2, .gpus = gpus };

static void an_error_of_a_gpu_is_its_own(void **state)
{
    auto_(ailments_done) struct ailments ailments = {};

    assert_int_equal(ailments_add(&ailments, &node, "GPU-1", HEALTH_NO_INSTANCE, HEALTH_NO_INSTANCE,
                                  "XID 79", NULL),
                     1);
    assert_string_equal(ailments_of_gpu(&ailments, "GPU-1"), "XID 79");
    assert_null(ailments_of_gpu(&ailments, "GPU-0"));
    assert_int_equal(ailments_add(&ailments, &node, "GPU-1", HEALTH_NO_INSTANCE, HEALTH_NO_INSTANCE,
                                  "XID 48", NULL),
                     0);
    assert_string_equal(ailments_of_gpu(&ailments, "GPU-1"), "XID 79");
}

static void an_error_of_an_instance_is_that_of_its_devices(void **state)
{
    static const struct {
        uint32_t gi, ci;
        bool ill[3];
    } cases[] = {
        { 1, 0, { true, false, false } },
        { 1, 1, { false, true, false } },
        { 2, 0, { false, false, true } },
        { 1, HEALTH_NO_INSTANCE, { true, true, false } },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(ailments_done) struct ailments ailments = {};
        assert_int_equal(
            ailments_add(&ailments, &node, "GPU-0", cases[i].gi, cases[i].ci, "ill", NULL), 1);
        assert_null(ailments_of_gpu(&ailments, "GPU-0"));
        for (size_t j = 0; j < ARRAY_LEN(migs); j++)
            assert_int_equal(ailments_of_mig(&ailments, "GPU-0", &migs[j]) != NULL,
                             cases[i].ill[j]);
    }
}

static void an_instance_made_anew_is_well(void **state)
{
    auto_(ailments_done) struct ailments ailments = {};
    struct mig_device anew = { .uuid = "MIG-new", .gi_id = 1, .ci_id = 0 };

    assert_int_equal(ailments_add(&ailments, &node, "GPU-0", 1, 0, "ill", NULL), 1);
    assert_non_null(ailments_of_mig(&ailments, "GPU-0", &migs[0]));
    assert_null(ailments_of_mig(&ailments, "GPU-0", &anew));
}

static void an_instance_not_seen_yet_is_found_by_its_ids(void **state)
{
    auto_(ailments_done) struct ailments ailments = {};
    struct mig_device later = { .uuid = "MIG-later", .gi_id = 7, .ci_id = 0 };

    assert_int_equal(ailments_add(&ailments, &node, "GPU-0", 7, 0, "ill", NULL), 1);
    assert_int_equal(ailments_add(&ailments, &node, "GPU-0", 7, 0, "ill", NULL), 0);
    assert_string_equal(ailments_of_mig(&ailments, "GPU-0", &later), "ill");
    assert_null(ailments_of_mig(&ailments, "GPU-1", &later));
    assert_null(ailments_of_mig(&ailments, "GPU-0", &migs[0]));
}

static void clearing_heals_all(void **state)
{
    auto_(ailments_done) struct ailments ailments = {};

    for (int i = 0; i < 20; i++) {
        char uuid[32];
        snprintf(uuid, sizeof(uuid), "GPU-%d", i);
        assert_int_equal(ailments_add(&ailments, NULL, uuid, HEALTH_NO_INSTANCE, HEALTH_NO_INSTANCE,
                                      "ill", NULL),
                         1);
    }
    assert_non_null(ailments_of_gpu(&ailments, "GPU-19"));
    ailments_clear(&ailments);
    for (size_t i = 0; i < ARRAY_LEN(gpus); i++)
        assert_null(ailments_of_gpu(&ailments, gpus[i].uuid));
}

static void lack_of_memory_forgets_nobody(void **state)
{
    auto_(ailments_done) struct ailments ailments = {};

    assert_int_equal(ailments_add(&ailments, &node, "GPU-0", 1, HEALTH_NO_INSTANCE, "ill", NULL),
                     1);
    for (int i = 0; i < 6; i++) {
        char uuid[32];
        snprintf(uuid, sizeof(uuid), "GPU-x%d", i);
        assert_int_equal(ailments_add(&ailments, NULL, uuid, HEALTH_NO_INSTANCE, HEALTH_NO_INSTANCE,
                                      "ill", NULL),
                         1);
    }
    mem_fail_from(1);
    int r =
        ailments_add(&ailments, NULL, "GPU-y", HEALTH_NO_INSTANCE, HEALTH_NO_INSTANCE, "ill", NULL);
    mem_fail_from(0);
    assert_int_equal(r, -ENOMEM);
    assert_non_null(ailments_of_mig(&ailments, "GPU-0", &migs[1]));
    assert_non_null(ailments_of_gpu(&ailments, "GPU-x5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_filter_lets_pass_what_the_lists_say),
        cmocka_unit_test(nothing_is_watched_only_when_nothing_can_be_fatal),
        cmocka_unit_test(words_that_mean_nothing_are_reported),
        cmocka_unit_test(a_list_without_end_fills_the_filter_and_no_more),
        cmocka_unit_test(an_error_of_a_gpu_is_its_own),
        cmocka_unit_test(an_error_of_an_instance_is_that_of_its_devices),
        cmocka_unit_test(an_instance_made_anew_is_well),
        cmocka_unit_test(an_instance_not_seen_yet_is_found_by_its_ids),
        cmocka_unit_test(clearing_heals_all),
        cmocka_unit_test(lack_of_memory_forgets_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
