#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/grpc.h"

/* ---- status messages ---- */

static void only_what_needs_it_is_escaped_in_a_status_message(void **state)
{
    static const struct {
        const char *plain, *escaped;
    } cases[] = {
        { "", "" },
        { "no such device \"x\" [a, b] {c}", "no such device \"x\" [a, b] {c}" },
        { "100% of ~GPU 0", "100%25 of ~GPU 0" },
        { "two\nlines\ttab\r", "two%0Alines%09tab%0D" },
        { "caf\xc3\xa9", "caf%C3%A9" },
        { "\xe2\x80\xa6", "%E2%80%A6" },
        { "bad \xff\xfe end", "bad %EF%BF%BD%EF%BF%BD end" },
        { "cut \xe2\x80", "cut %EF%BF%BD%EF%BF%BD" },
        { "\x7f\x01", "%7F%01" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(buf_done) struct buf out = BUF_MAX(KIB(1));
        assert_int_equal(grpc_message_escape(span_of(cases[i].plain), &out), 0);
        assert_string_equal(buf_text(&out), cases[i].escaped);
    }
}

static void a_status_message_is_unescaped_leniently(void **state)
{
    static const struct {
        const char *escaped, *plain;
    } cases[] = {
        { "", "" },           { "plain", "plain" },
        { "100%25", "100%" }, { "%e2%80%A6", "\xe2\x80\xa6" },
        { "%", "%" },         { "%4", "%4" },
        { "%zz%41", "%zzA" }, { "%%41", "%A" },
        { "%+1", "%+1" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_(buf_done) struct buf out = BUF_MAX(KIB(1));
        assert_int_equal(grpc_message_unescape(span_of(cases[i].escaped), &out), 0);
        assert_string_equal(buf_text(&out), cases[i].plain);
    }
}

static void a_long_status_message_is_cut_between_characters(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64)), out = BUF_MAX(KIB(64)),
                               back = BUF_MAX(KIB(64));

    assert_int_equal(buf_add_char(&text, 'x'), 0);
    while (text.len < 2 * GRPC_MAX_STATUS)
        assert_int_equal(buf_add_text(&text, "\xc3\xa9"), 0);
    assert_int_equal(grpc_message_escape(buf_span(&text), &out), 0);
    assert_int_equal(grpc_message_unescape(buf_span(&out), &back), 0);
    assert_int_equal(back.len, GRPC_MAX_STATUS - 1); /* 1 + 2 n, and not half a letter more */
    assert_memory_equal(back.ptr, text.ptr, back.len);
}

/* ---- time-outs ---- */

static void a_timeout_is_parsed_in_every_unit(void **state)
{
    static const struct {
        const char *text;
        int r;
        int64_t ns;
    } cases[] = {
        { "29999983u", 0, 29999983000 },
        { "1n", 0, 1 },
        { "0n", 0, 0 },
        { "10m", 0, 10000000 },
        { "5S", 0, 5000000000 },
        { "2M", 0, 120000000000 },
        { "1H", 0, 3600000000000 },
        { "99999999H", 0, INT64_MAX },
        { "", -EINVAL, 0 },
        { "u", -EINVAL, 0 },
        { "5", -EINVAL, 0 },
        { "5s", -EINVAL, 0 },
        { "-5S", -EINVAL, 0 },
        { "+5S", -EINVAL, 0 },
        { " 5S", -EINVAL, 0 },
        { "1.5S", -EINVAL, 0 },
        { "123456789u", -EINVAL, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ns = 0;
        assert_int_equal(grpc_timeout_parse(span_of(cases[i].text), &ns), cases[i].r);
        if (cases[i].r == 0)
            assert_int_equal(ns, cases[i].ns);
    }
}

static void a_timeout_is_printed_in_the_finest_unit_that_fits(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        { 0, "0n" },
        { -7, "0n" },
        { 1, "1n" },
        { 99999999, "99999999n" },
        { 100000000, "100000u" },
        { 100000001, "100001u" },
        { 30000000000, "30000000u" },
        { 100000000000, "100000m" },
        { INT64_MAX, "2562048H" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[12];
        grpc_timeout_print(cases[i].ns, text);
        assert_string_equal(text, cases[i].text);
    }
}

/* ---- codes and paths ---- */

static void codes_have_gos_names(void **state)
{
    assert_string_equal(grpc_code_name(GRPC_OK), "OK");
    assert_string_equal(grpc_code_name(GRPC_CANCELLED), "Canceled");
    assert_string_equal(grpc_code_name(GRPC_UNAUTHENTICATED), "Unauthenticated");
    assert_string_equal(grpc_code_name((enum grpc_code)99), "Unknown");
}

static void a_status_that_is_no_number_up_to_16_is_unknown(void **state)
{
    static const struct {
        const char *text;
        bool known;
        enum grpc_code code;
    } cases[] = {
        { "0", true, GRPC_OK },           { "16", true, GRPC_UNAUTHENTICATED },
        { "17", false, GRPC_UNKNOWN },    { "", false, GRPC_UNKNOWN },
        { "-1", false, GRPC_UNKNOWN },    { "OK", false, GRPC_UNKNOWN },
        { "00000", false, GRPC_UNKNOWN },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum grpc_code code;
        assert_int_equal(grpc_code_parse(span_of(cases[i].text), &code), cases[i].known);
        assert_int_equal(code, cases[i].code);
    }
}

static void every_code_survives_the_way_through_errno(void **state)
{
    for (enum grpc_code code = GRPC_OK; code < GRPC_N_CODES; code++)
        assert_int_equal(grpc_code_from_errno(grpc_code_to_errno(code)), code);
    assert_int_equal(grpc_code_from_errno(ENOTTY), GRPC_UNKNOWN);
    assert_int_equal(grpc_code_from_errno(EINVAL), GRPC_INVALID_ARGUMENT);
    assert_int_equal(grpc_code_from_errno(ENODEV), GRPC_NOT_FOUND);
}

static void foreign_errors_have_the_codes_that_grpc_gives_them(void **state)
{
    static const struct {
        unsigned http;
        enum grpc_code code;
    } statuses[] = {
        { 400, GRPC_INTERNAL },      { 401, GRPC_UNAUTHENTICATED }, { 403, GRPC_PERMISSION_DENIED },
        { 404, GRPC_UNIMPLEMENTED }, { 429, GRPC_UNAVAILABLE },     { 502, GRPC_UNAVAILABLE },
        { 503, GRPC_UNAVAILABLE },   { 504, GRPC_UNAVAILABLE },     { 500, GRPC_UNKNOWN },
        { 200, GRPC_UNKNOWN },
    };
    static const struct {
        uint32_t error;
        enum grpc_code code;
    } resets[] = {
        { 0, GRPC_INTERNAL },
        { 1, GRPC_INTERNAL },
        { 7, GRPC_UNAVAILABLE },
        { 8, GRPC_CANCELLED },
        { 11, GRPC_RESOURCE_EXHAUSTED },
        { 12, GRPC_PERMISSION_DENIED },
    };

    for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
        assert_int_equal(grpc_code_from_http(statuses[i].http), statuses[i].code);
    for (size_t i = 0; i < ARRAY_LEN(resets); i++)
        assert_int_equal(grpc_code_from_h2(resets[i].error), resets[i].code);
}

static void a_path_is_split_at_its_last_slash(void **state)
{
    static const struct {
        const char *path, *service, *method; /* NULL: refused */
    } cases[] = {
        { "/v1beta1.DevicePlugin/Allocate", "v1beta1.DevicePlugin", "Allocate" },
        { "/a/b/c", "a/b", "c" },
        { "/a/", "a", "" },
        { "//", "", "" },
        { "/a", NULL, NULL },
        { "a/b", NULL, NULL },
        { "", NULL, NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct span service, method;
        bool ok = grpc_path_split(span_of(cases[i].path), &service, &method);
        assert_int_equal(ok, cases[i].service != NULL);
        if (!ok)
            continue;
        assert_true(span_equal(service, span_of(cases[i].service)));
        assert_true(span_equal(method, span_of(cases[i].method)));
    }
}

static void grpc_content_types_are_told_from_others(void **state)
{
    assert_true(grpc_is_content_type(SPAN("application/grpc")));
    assert_true(grpc_is_content_type(SPAN("application/grpc+proto")));
    assert_true(grpc_is_content_type(SPAN("application/grpc;charset=utf-8")));
    assert_false(grpc_is_content_type(SPAN("application/grpc-web")));
    assert_false(grpc_is_content_type(SPAN("application/json")));
    assert_false(grpc_is_content_type(SPAN("")));
}

/* ---- messages coming in ---- */

static const char two_messages[] = "\0\0\0\0\3abc"
                                   "\0\0\0\0\0"
                                   "\0\0\0\0\1z";

static void messages_are_found_in_any_pieces(void **state)
{
    const size_t len = sizeof(two_messages) - 1;

    for (size_t step = 1; step <= len; step++) {
        struct grpc_reader reader;
        auto_(buf_done) struct buf seen = BUF_MAX(KIB(1));
        enum grpc_code code;

        grpc_reader_init(&reader, 3);
        for (size_t at = 0; at < len; at += step) {
            struct span piece = { two_messages + at, MIN(step, len - at) };
            while (piece.len > 0) {
                int r = grpc_reader_feed(&reader, &piece, SPAN(""), &code, NULL);
                assert_true(r >= 0);
                if (r > 0) {
                    assert_true(grpc_reader_between(&reader));
                    buf_add(&seen, reader.payload.ptr, reader.payload.len);
                    buf_add_char(&seen, '|');
                }
            }
        }
        assert_string_equal(buf_text(&seen), "abc||z|");
        grpc_reader_done(&reader);
    }
}

static void a_message_that_cannot_be_taken_has_the_right_status(void **state)
{
    static const struct {
        const char *bytes;
        const char *encoding;
        enum grpc_code code;
        const char *text;
    } cases[] = {
        { "\0\0\0\0\x0b", "", GRPC_RESOURCE_EXHAUSTED,
          "grpc: received message larger than max (11 vs. 10)" },
        { "\0\xff\xff\xff\xff", "", GRPC_RESOURCE_EXHAUSTED,
          "grpc: received message larger than max (4294967295 vs. 10)" },
        { "\1\0\0\0\1", "gzip", GRPC_UNIMPLEMENTED,
          "grpc: Decompressor is not installed for grpc-encoding \"gzip\"" },
        { "\1\0\0\0\1", "", GRPC_INTERNAL,
          "grpc: compressed flag set with identity or empty encoding" },
        { "\1\0\0\0\1", "identity", GRPC_INTERNAL,
          "grpc: compressed flag set with identity or empty encoding" },
        { "\2\0\0\0\1", "gzip", GRPC_INTERNAL, "grpc: received unexpected payload format 2" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct grpc_reader reader;
        struct span bytes = { cases[i].bytes, 5 };
        enum grpc_code code = GRPC_OK;
        struct err err;

        grpc_reader_init(&reader, 10);
        assert_true(grpc_reader_feed(&reader, &bytes, span_of(cases[i].encoding), &code, &err) < 0);
        assert_int_equal(code, cases[i].code);
        assert_string_equal(err.text, cases[i].text);
        grpc_reader_done(&reader);
    }
}

static void a_reader_knows_when_it_is_inside_a_message(void **state)
{
    struct grpc_reader reader;
    enum grpc_code code;

    grpc_reader_init(&reader, 10);
    assert_true(grpc_reader_between(&reader));
    struct span bytes = { two_messages, 2 };
    assert_int_equal(grpc_reader_feed(&reader, &bytes, SPAN(""), &code, NULL), 0);
    assert_false(grpc_reader_between(&reader));
    bytes = (struct span){ two_messages + 2, 5 };
    assert_int_equal(grpc_reader_feed(&reader, &bytes, SPAN(""), &code, NULL), 0);
    assert_false(grpc_reader_between(&reader));
    bytes = (struct span){ two_messages + 7, 1 };
    assert_int_equal(grpc_reader_feed(&reader, &bytes, SPAN(""), &code, NULL), 1);
    assert_true(grpc_reader_between(&reader));
    grpc_reader_done(&reader);
}

/* ---- messages going out ---- */

static void drain(struct grpc_writer *writer, size_t step, struct buf *out)
{
    char bytes[64];
    size_t n;

    while ((n = grpc_writer_take(writer, bytes, step)) > 0)
        buf_add(out, bytes, n);
}

static void queued_messages_leave_in_order_in_pieces_of_any_size(void **state)
{
    for (size_t step = 1; step <= sizeof(two_messages); step++) {
        struct grpc_writer writer = {};
        auto_(buf_done) struct buf out = BUF_MAX(KIB(1));

        assert_int_equal(grpc_writer_add(&writer, SPAN("abc"), false, NULL), 0);
        assert_int_equal(grpc_writer_add(&writer, SPAN(""), false, NULL), 0);
        assert_int_equal(grpc_writer_add(&writer, SPAN("z"), false, NULL), 0);
        drain(&writer, step, &out);
        assert_int_equal(out.len, sizeof(two_messages) - 1);
        assert_memory_equal(out.ptr, two_messages, out.len);
        assert_true(grpc_writer_empty(&writer));
        assert_int_equal(writer.n_bytes, 0);
        grpc_writer_done(&writer);
    }
}

static void the_newest_list_replaces_one_that_has_not_begun_to_leave(void **state)
{
    struct grpc_writer writer = {};
    auto_(buf_done) struct buf out = BUF_MAX(KIB(1));
    char first[3];

    assert_int_equal(grpc_writer_add(&writer, SPAN("one"), true, NULL), 0);
    assert_int_equal(grpc_writer_take(&writer, first, sizeof(first)), 3);
    assert_int_equal(grpc_writer_add(&writer, SPAN("two"), true, NULL), 0);
    assert_int_equal(writer.n_messages, 2); /* the first one is on its way */
    assert_int_equal(grpc_writer_add(&writer, SPAN("three"), true, NULL), 0);
    assert_int_equal(writer.n_messages, 2);
    assert_int_equal(grpc_writer_add(&writer, SPAN("kept"), false, NULL), 0);
    assert_int_equal(grpc_writer_add(&writer, SPAN("four"), true, NULL), 0);
    assert_int_equal(writer.n_messages, 4); /* never past a message that says something else */
    drain(&writer, 7, &out);
    assert_int_equal(out.len, 5 - 3 + 3 + 5 + 5 + 5 + 4 + 5 + 4);
    assert_memory_equal(out.ptr + 2 + 3 + 5, "three", 5);
    grpc_writer_done(&writer);
}

static void a_slow_reader_is_noticed(void **state)
{
    struct grpc_writer writer = {};
    struct err err;

    for (int i = 0; i < GRPC_MAX_QUEUE; i++)
        assert_int_equal(grpc_writer_add(&writer, SPAN("x"), i == GRPC_MAX_QUEUE - 1, NULL), 0);
    assert_int_equal(grpc_writer_add(&writer, SPAN("x"), false, &err), -EAGAIN);
    assert_non_null(strstr(err.text, "too slow"));
    assert_int_equal(grpc_writer_add(&writer, SPAN("new"), true, NULL), 0);
    assert_int_equal(writer.n_messages, GRPC_MAX_QUEUE);
    assert_int_equal(
        grpc_writer_add(&writer, (struct span){ "", GRPC_MAX_QUEUE_BYTES }, false, NULL),
        -EMSGSIZE);
    grpc_writer_done(&writer);
}

static void a_message_without_memory_leaves_the_queue_as_it_was(void **state)
{
    struct grpc_writer writer = {};

    assert_int_equal(grpc_writer_add(&writer, SPAN("old"), true, NULL), 0);
    mem_fail_from(1);
    int r = grpc_writer_add(&writer, SPAN("new"), true, NULL);
    mem_fail_from(0);
    assert_int_equal(r, -ENOMEM);
    assert_int_equal(writer.n_messages, 1);
    grpc_writer_done(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_needs_it_is_escaped_in_a_status_message),
        cmocka_unit_test(a_status_message_is_unescaped_leniently),
        cmocka_unit_test(a_long_status_message_is_cut_between_characters),
        cmocka_unit_test(a_timeout_is_parsed_in_every_unit),
        cmocka_unit_test(a_timeout_is_printed_in_the_finest_unit_that_fits),
        cmocka_unit_test(codes_have_gos_names),
        cmocka_unit_test(a_status_that_is_no_number_up_to_16_is_unknown),
        cmocka_unit_test(every_code_survives_the_way_through_errno),
        cmocka_unit_test(foreign_errors_have_the_codes_that_grpc_gives_them),
        cmocka_unit_test(a_path_is_split_at_its_last_slash),
        cmocka_unit_test(grpc_content_types_are_told_from_others),
        cmocka_unit_test(messages_are_found_in_any_pieces),
        cmocka_unit_test(a_message_that_cannot_be_taken_has_the_right_status),
        cmocka_unit_test(a_reader_knows_when_it_is_inside_a_message),
        cmocka_unit_test(queued_messages_leave_in_order_in_pieces_of_any_size),
        cmocka_unit_test(the_newest_list_replaces_one_that_has_not_begun_to_leave),
        cmocka_unit_test(a_slow_reader_is_noticed),
        cmocka_unit_test(a_message_without_memory_leaves_the_queue_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
