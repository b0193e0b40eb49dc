#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

static int file_of(size_t size)
{
    int fd = memfd_create("content", MFD_CLOEXEC);
    char bytes[1000];

    memset(bytes, 'x', sizeof(bytes));
    for (size_t left = size; left > 0; left -= MIN(left, sizeof(bytes)))
        assert_true(write(fd, bytes, MIN(left, sizeof(bytes))) > 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void appended_bytes_are_followed_by_a_nul(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(KIB(1));

    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf_add_text(&buf, "gpu"), 0);
    assert_int_equal(buf_add_char(&buf, '-'), 0);
    assert_int_equal(buf_printf(&buf, "%d/%s", 12, "a"), 0);
    assert_int_equal(buf_add(&buf, "\0z", 2), 0);
    assert_int_equal(buf.len, 10);
    assert_memory_equal(buf.ptr, "gpu-12/a\0z", 11);
}

static void the_ceiling_is_reached_but_not_passed(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(100);

    for (int i = 0; i < 100; i++)
        assert_int_equal(buf_add_char(&buf, 'a'), 0);
    assert_int_equal(buf_add_char(&buf, 'b'), -EFBIG);
    assert_int_equal(buf.len, 100);
    assert_int_equal(strlen(buf_text(&buf)), 100);
    assert_null(strchr(buf_text(&buf), 'b'));
}

static void after_a_failure_everything_fails_until_reset(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(4);

    assert_int_equal(buf_add_text(&buf, "ab"), 0);
    assert_int_equal(buf_printf(&buf, "%s", "cdefg"), -EFBIG);
    assert_true(buf.failed);
    assert_string_equal(buf_text(&buf), "ab");
    assert_true(buf_add_char(&buf, 'c') < 0);
    buf_reset(&buf);
    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf_add_text(&buf, "cdef"), 0);
}

static void lack_of_memory_keeps_the_content(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(KIB(64));

    assert_int_equal(buf_add_text(&buf, "kept"), 0);
    mem_fail_from(1);
    int r = buf_printf(&buf, "%5000d", 1);
    mem_fail_from(0);
    assert_int_equal(r, -ENOMEM);
    assert_string_equal(buf_text(&buf), "kept");
}

static void read_all_takes_everything_up_to_the_ceiling(void **state)
{
    static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 10000 };

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        auto_(buf_done) struct buf buf = BUF_MAX(10000);
        auto_close int fd = file_of(sizes[i]);
        assert_int_equal(buf_read_all(&buf, fd, NULL), 0);
        assert_int_equal(buf.len, sizes[i]);
        assert_int_equal(strlen(buf_text(&buf)), sizes[i]);
    }
}

static void read_all_refuses_one_byte_too_many(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(10002);
    auto_close int fd = file_of(10001);
    struct err err = {};

    assert_int_equal(buf_add_text(&buf, "ab"), 0);
    assert_int_equal(buf_read_all(&buf, fd, &err), -EFBIG);
    assert_string_equal(err.text, "it is larger than 10002 bytes");
    assert_string_equal(buf_text(&buf), "ab");
    assert_true(buf.failed);
}

static void read_all_reports_why_it_cannot_read(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(100);
    struct err err = {};

    assert_int_equal(buf_read_all(&buf, -1, &err), -EBADF);
    assert_int_equal(err.code, EBADF);
}

static void consume_drops_from_the_front(void **state)
{
    auto_(buf_done) struct buf buf = BUF_MAX(100);

    buf_consume(&buf, 5);
    assert_int_equal(buf_add_text(&buf, "abcdef"), 0);
    buf_consume(&buf, 0);
    buf_consume(&buf, 2);
    assert_string_equal(buf_text(&buf), "cdef");
    buf_consume(&buf, 100);
    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_bytes_are_followed_by_a_nul),
        cmocka_unit_test(the_ceiling_is_reached_but_not_passed),
        cmocka_unit_test(after_a_failure_everything_fails_until_reset),
        cmocka_unit_test(lack_of_memory_keeps_the_content),
        cmocka_unit_test(read_all_takes_everything_up_to_the_ceiling),
        cmocka_unit_test(read_all_refuses_one_byte_too_many),
        cmocka_unit_test(read_all_reports_why_it_cannot_read),
        cmocka_unit_test(consume_drops_from_the_front),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
