#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "gpu/mig_minors.h"

static void each_entry_is_found_by_gpu_and_instance(void **state)
{
    struct mig_minors minors;

    mig_minors_parse(SPAN("config 1\n"
                          "monitor 2\n"
                          "gpu0/gi0/access 3\n"
                          "gpu0/gi0/ci0/access 4\n"
                          "gpu0/gi0/ci7/access 11\n"
                          "gpu31/gi14/access 4314\n"
                          "gpu31/gi14/ci7/access 4322\n"),
                     &minors);
    assert_int_equal(mig_minors_gi(&minors, 0, 0), 3);
    assert_int_equal(mig_minors_ci(&minors, 0, 0, 0), 4);
    assert_int_equal(mig_minors_ci(&minors, 0, 0, 7), 11);
    assert_int_equal(mig_minors_gi(&minors, 31, 14), 4314);
    assert_int_equal(mig_minors_ci(&minors, 31, 14, 7), 4322);
    assert_int_equal(mig_minors_gi(&minors, 0, 1), 0);
    assert_int_equal(mig_minors_ci(&minors, 0, 0, 1), 0);
}

static void the_whole_file_of_the_driver_is_read(void **state)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(1));
    struct mig_minors minors;
    uint32_t minor = 3;

    buf_add_text(&text, "config 1\nmonitor 2\n");
    for (int gpu = 0; gpu < 32; gpu++) {
        for (int gi = 0; gi < 15; gi++) {
            buf_printf(&text, "gpu%d/gi%d/access %u\n", gpu, gi, minor++);
            for (int ci = 0; ci < 8; ci++)
                buf_printf(&text, "gpu%d/gi%d/ci%d/access %u\n", gpu, gi, ci, minor++);
        }
    }
    assert_int_equal(minor, 4323);
    mig_minors_parse(buf_span(&text), &minors);

    minor = 3;
    for (uint32_t gpu = 0; gpu < 32; gpu++) {
        for (uint32_t gi = 0; gi < 15; gi++) {
            assert_int_equal(mig_minors_gi(&minors, gpu, gi), minor++);
            for (uint32_t ci = 0; ci < 8; ci++)
                assert_int_equal(mig_minors_ci(&minors, gpu, gi, ci), minor++);
        }
    }
}

static void a_line_of_another_shape_is_no_entry(void **state)
{
    static const char *const lines[] = {
        "",
        "\n",
        "gpu0",
        "gpu0/gi0",
        "gpu0/gi0/access",
        "gpu0/gi0/access ",
        "gpu/gi0/access 3",
        "gpu0/gi/access 3",
        "gpu0/gi0/access x",
        "gpu0/gi0/access 3 ",
        "gpu0/gi0/access 3x",
        "gpu0/gi0/access -3",
        " gpu0/gi0/access 3",
        "gpu64/gi0/access 3",
        "gpu0/gi16/access 3",
        "gpu0/gi0/ci8/access 3",
        "gpu0/gi0/access 65536",
        "gpu0/gi0/access 99999999999999999999",
        "gpu4294967296/gi0/access 3",
        "gpu0/gi0/ci0/access",
    };
    static const struct mig_minors none;
    struct mig_minors minors;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        mig_minors_parse(span_of(lines[i]), &minors);
        assert_memory_equal(&minors, &none, sizeof(none));
    }
}

static void instances_beyond_the_table_have_no_entry(void **state)
{
    struct mig_minors minors;

    memset(&minors, 0xff, sizeof(minors));
    assert_int_equal(mig_minors_gi(&minors, MIG_MINORS_GPUS, 0), 0);
    assert_int_equal(mig_minors_gi(&minors, 0, MIG_MINORS_GIS), 0);
    assert_int_equal(mig_minors_ci(&minors, 0, 0, MIG_MINORS_CIS), 0);
    assert_int_equal(mig_minors_ci(&minors, UINT32_MAX, UINT32_MAX, UINT32_MAX), 0);
}

static void without_the_file_there_are_no_entries(void **state)
{
    auto_close int root = open("/nonexistent", O_PATH | O_CLOEXEC);
    auto_close int tmp = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct mig_minors minors;
    struct err err = {};

    memset(&minors, 0xff, sizeof(minors));
    assert_int_equal(mig_minors_read(tmp, &minors, &err), 0);
    assert_int_equal(mig_minors_gi(&minors, 0, 0), 0);
    assert_int_equal(mig_minors_read(root, &minors, &err), -EBADF);
    assert_string_equal(err.text, "cannot open /proc/driver/nvidia-caps/mig-minors: Bad file "
                                  "descriptor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_entry_is_found_by_gpu_and_instance),
        cmocka_unit_test(the_whole_file_of_the_driver_is_read),
        cmocka_unit_test(a_line_of_another_shape_is_no_entry),
        cmocka_unit_test(instances_beyond_the_table_have_no_entry),
        cmocka_unit_test(without_the_file_there_are_no_entries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
