#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

/* stderr is one end of a datagram pair, so that a second write would be a second message. */
static int ends[2], real_stderr;
static char line[128 << 10];

static int redirect(void **state)
{
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends) < 0)
        return -1;
    int size = 1 << 20;
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    real_stderr = dup(STDERR_FILENO);
    return dup2(ends[0], STDERR_FILENO) < 0 ? -1 : 0;
}

static int restore(void **state)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(ends[0]);
    close(ends[1]);
    log_set_level(LOG_INFO);
    log_set_format(LOG_TEXT);
    return 0;
}

static const char *next_message(void)
{
    ssize_t n = recv(ends[1], line, sizeof(line) - 1, 0);

    if (n < 0)
        return NULL;
    line[n] = '\0';
    return line;
}

/* The message without its time, which must look like one. */
static const char *without_time(const char *message)
{
    static const char shape[] = "0000-00-00T00:00:00.000Z ";

    assert_non_null(message);
    for (size_t i = 0; shape[i]; i++) {
        if (shape[i] == '0')
            assert_true(isdigit((unsigned char)message[i]));
        else
            assert_int_equal(message[i], shape[i]);
    }
    return message + strlen(shape);
}

static void one_event_is_one_line_in_one_write(void **state)
{
    log_warn("mps daemon exited, restarting", F_STR("gpu", "GPU-8a1f"), F_INT("status", -1),
             F_MS("delay", 250), F_BOOL("again", true));
    assert_string_equal(
        without_time(next_message()),
        "warn mps daemon exited, restarting gpu=GPU-8a1f status=-1 delay_ms=250 again=true\n");
    assert_null(next_message());
}

static void an_event_may_have_no_fields(void **state)
{
    log_error("the door is shut");
    assert_string_equal(without_time(next_message()), "error the door is shut\n");
}

static void what_is_not_plain_is_quoted(void **state)
{
    static const struct {
        const char *value, *shown;
    } cases[] = {
        { "nvidia.com/gpu", "v=nvidia.com/gpu\n" },
        { "", "v=\"\"\n" },
        { "a b", "v=\"a b\"\n" },
        { "a=b", "v=\"a=b\"\n" },
        { "say \"hi\" \\", "v=\"say \\\"hi\\\" \\\\\"\n" },
        { "x\ny\tz\x1b[31m\x7f", "v=\"x\\ny\\tz\\x1b[31m\\x7f\"\n" },
        { "\u00e9\u20ac", "v=\"\u00e9\u20ac\"\n" },
        { "\xC2\x9B"
          "31m",
          "v=\"\\u009b31m\"\n" },
        { "a\xFFz", "v=\"a\\xffz\"\n" },
        { NULL, "v=null\n" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        log_info("seen", F_STR("v", cases[i].value));
        const char *text = without_time(next_message());
        assert_true(text_starts(text, "info seen "));
        assert_string_equal(text + strlen("info seen "), cases[i].shown);
    }
}

static void json_says_the_same_to_a_json_parser(void **state)
{
    static const char hostile[] = "a\"b\\c\nd\x01\x7f\xFF\u00e9\xC2\x85";

    log_set_format(LOG_JSON);
    log_info("seen \"it\"", F_STR("v", hostile), F_INT("n", INT64_MIN), F_BOOL("no", false),
             F_STR("none", NULL));
    json_auto_t *root = json_loads(next_message(), 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(root, "msg")), "seen \"it\"");
    assert_string_equal(json_string_value(json_object_get(root, "v")),
                        "a\"b\\c\nd\x01\x7f\ufffd\u00e9\xC2\x85");
    assert_true(json_integer_value(json_object_get(root, "n")) == INT64_MIN);
    assert_true(json_is_false(json_object_get(root, "no")));
    assert_true(json_is_null(json_object_get(root, "none")));
    assert_int_equal(strlen(json_string_value(json_object_get(root, "time"))), 24);
}

static void a_long_value_is_cut_and_the_line_stays_whole(void **state)
{
    static char value[100000];

    memset(value, '\x01', sizeof(value) - 1);
    log_set_format(LOG_JSON);
    log_info("seen", F_STR("v", value), F_INT("after", 1));
    json_auto_t *root = json_loads(next_message(), 0, NULL);
    assert_non_null(root);
    assert_true(text_ends(json_string_value(json_object_get(root, "v")), "…"));
    assert_int_equal(json_integer_value(json_object_get(root, "after")), 1);
}

static void below_the_level_is_silence(void **state)
{
    log_debug("not heard");
    assert_null(next_message());
    log_set_level(LOG_DEBUG);
    log_debug("heard");
    assert_string_equal(without_time(next_message()), "debug heard\n");
    log_set_level(LOG_ERROR);
    log_warn("not heard");
    assert_null(next_message());
}

static void levels_have_names(void **state)
{
    enum log_level level = LOG_ERROR;

    assert_int_equal(log_level_from_name("debug", &level), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_from_name("Debug", &level), -EINVAL);
    assert_int_equal(level, LOG_DEBUG);
}

static void without_memory_the_sentence_is_still_said(void **state)
{
    mem_fail_from(1);
    log_error("all is lost", F_INT("n", 1));
    mem_fail_from(0);
    assert_string_equal(next_message(), "all is lost");
}

static void errno_survives_a_log_line(void **state)
{
    errno = EBUSY;
    log_info("seen");
    assert_int_equal(errno, EBUSY);
}

#define REDIRECTED(test) cmocka_unit_test_setup_teardown(test, redirect, restore)

int main(void)
{
    const struct CMUnitTest tests[] = {
        REDIRECTED(one_event_is_one_line_in_one_write),
        REDIRECTED(an_event_may_have_no_fields),
        REDIRECTED(what_is_not_plain_is_quoted),
        REDIRECTED(json_says_the_same_to_a_json_parser),
        REDIRECTED(a_long_value_is_cut_and_the_line_stays_whole),
        REDIRECTED(below_the_level_is_silence),
        REDIRECTED(levels_have_names),
        REDIRECTED(without_memory_the_sentence_is_still_said),
        REDIRECTED(errno_survives_a_log_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
