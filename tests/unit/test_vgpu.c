#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "gpu/devnode.h"
#include "gpu/vgpu.h"

/* A configuration space whose capability list leads over a power capability at 0x50 to a vendor
 * capability at 0x68 with one unknown record before the versions. */
struct config {
    uint8_t bytes[256];
};

static struct config vgpu_config(void)
{
    static const uint8_t capability[] = { 9, 0, 36, 'V', 'F', 7, 4, 0xaa, 0xbb, 0, 22 };
    struct config config = {};

    config.bytes[0] = 0xde;
    config.bytes[1] = 0x10;
    config.bytes[6] = 0x10;
    config.bytes[0x34] = 0x50;
    config.bytes[0x50] = 1;
    config.bytes[0x51] = 0x68;
    memcpy(config.bytes + 0x68, capability, sizeof(capability));
    memcpy(config.bytes + 0x68 + sizeof(capability), "460.16\0\0\0\0r460_00\0\0\0", 20);
    return config;
}

static int parse(const struct config *config, struct vgpu_record *ret)
{
    return vgpu_parse((struct span){ .ptr = (const char *)config->bytes, .len = 256 }, ret, NULL);
}

static void the_host_driver_is_read_from_the_record(void **state)
{
    struct config config = vgpu_config();
    struct vgpu_record record;

    assert_int_equal(parse(&config, &record), 1);
    assert_string_equal(record.driver_version, "460.16");
    assert_string_equal(record.driver_branch, "r460_00");
}

static void ten_bytes_without_a_nul_are_a_text(void **state)
{
    struct config config = vgpu_config();
    struct vgpu_record record;

    memcpy(config.bytes + 0x68 + 11, "0123456789abcdefghij", 20);
    config.bytes[0x6a] = 31;
    assert_int_equal(parse(&config, &record), 1);
    assert_string_equal(record.driver_version, "0123456789");
    assert_string_equal(record.driver_branch, "abcdefghij");
}

static void another_device_is_no_vgpu(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char *why;
    } cases[] = {
        { 6, 0, "no capability list" },
        { 0x34, 0, "the list is empty" },
        { 0x34, 0xff, "the list begins at the end" },
        { 0x51, 0x50, "the list goes round" },
        { 0x50, 0xff, "the list is broken" },
        { 0x68, 10, "no vendor capability" },
        { 0x6a, 4, "the capability is too short for the mark" },
        { 0x6b, 'W', "another mark" },
        { 0x6c, 'G', "another mark" },
    };
    struct vgpu_record record;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config config = vgpu_config();
        config.bytes[cases[i].at] = cases[i].value;
        if (parse(&config, &record) != 0)
            fail_msg("%s", cases[i].why);
    }
}

static void a_vgpu_without_versions_is_an_error(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char *why;
    } cases[] = {
        { 0x6a, 30, "the capability ends inside the versions" },
        { 0x6e, 0, "a record of no length" },
        { 0x6e, 200, "a record beyond the end" },
        { 0x71, 3, "no record 0, and one beyond the end" },
        { 0x6a, 5, "no records at all" },
    };
    struct vgpu_record record;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct config config = vgpu_config();
        config.bytes[cases[i].at] = cases[i].value;
        if (parse(&config, &record) != -EINVAL)
            fail_msg("%s", cases[i].why);
    }
}

static void an_unprivileged_look_is_not_enough(void **state)
{
    struct config config = vgpu_config();
    struct vgpu_record record;
    struct err err = {};
    struct span half = { .ptr = (const char *)config.bytes, .len = 64 };

    assert_int_equal(vgpu_parse(half, &record, &err), -ENODATA);
    assert_string_equal(err.text, "only 64 of 256 bytes of PCI configuration space can be read: "
                                  "that needs more privileges");
}

/* ---- the bus ---- */

static void put(const char *dir, const char *device, const char *file, const void *bytes,
                size_t len)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/" PCI_DEVICES "/%s", dir, device);
    assert_int_equal(file_make_dirs(path, 0755, NULL), 0);
    strcat(strcat(path, "/"), file);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
}

static void look(const char *dir, struct arena *arena, struct vgpu_info *ret)
{
    auto_close int root = -1;

    assert_int_equal(devnode_root(dir, &root, NULL), 0);
    assert_int_equal(vgpu_scan(root, arena, ret, NULL), 0);
}

static void the_bus_is_searched_for_vgpus_of_nvidia(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    char dir[] = "/tmp/vgpu-XXXXXX";
    struct config plain = {}, first = vgpu_config(), last = vgpu_config();
    struct vgpu_info info;

    assert_non_null(mkdtemp(dir));
    look(dir, &arena, &info);
    assert_false(info.scanned);
    assert_string_equal(info.problem,
                        "cannot list /sys/bus/pci/devices: No such file or directory");

    put(dir, "0000:01:00.0", "vendor", "0x8086\n", 7);
    put(dir, "0000:02:00.0", "vendor", "0x10de\n", 7);
    put(dir, "0000:02:00.0", "config", plain.bytes, 256);
    look(dir, &arena, &info);
    assert_true(info.scanned);
    assert_false(info.present);
    assert_null(info.problem);

    memcpy(last.bytes + 0x68 + 11, "535.99", 6);
    put(dir, "0000:0a:00.0", "vendor", "0x10de\n", 7);
    put(dir, "0000:0a:00.0", "config", last.bytes, 256);
    put(dir, "0000:03:00.0", "vendor", "0x10de\n", 7);
    put(dir, "0000:03:00.0", "config", first.bytes, 256);
    look(dir, &arena, &info);
    assert_true(info.scanned && info.present);
    assert_string_equal(info.host_driver_version, "535.99");

    put(dir, "0000:0b:00.0", "vendor", "0x10de\n", 7);
    put(dir, "0000:0b:00.0", "config", plain.bytes, 64);
    look(dir, &arena, &info);
    assert_false(info.scanned);
    assert_string_equal(info.problem, "0000:0b:00.0: only 64 of 256 bytes of PCI configuration "
                                      "space can be read: that needs more privileges");
    file_remove_tree(dir, NULL);
}

static void a_vgpu_without_versions_is_seen_and_reported(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    char dir[] = "/tmp/vgpu-XXXXXX";
    struct config config = vgpu_config();
    struct vgpu_info info;

    assert_non_null(mkdtemp(dir));
    config.bytes[0x6a] = 5;
    put(dir, "0000:02:00.0", "vendor", "0x10de\n", 7);
    put(dir, "0000:02:00.0", "config", config.bytes, 256);
    look(dir, &arena, &info);
    assert_true(info.scanned && info.present);
    assert_null(info.host_driver_version);
    assert_string_equal(info.problem, "0000:02:00.0: cannot find driver version record in vendor "
                                      "specific capability");
    file_remove_tree(dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_driver_is_read_from_the_record),
        cmocka_unit_test(ten_bytes_without_a_nul_are_a_text),
        cmocka_unit_test(another_device_is_no_vgpu),
        cmocka_unit_test(a_vgpu_without_versions_is_an_error),
        cmocka_unit_test(an_unprivileged_look_is_not_enough),
        cmocka_unit_test(the_bus_is_searched_for_vgpus_of_nvidia),
        cmocka_unit_test(a_vgpu_without_versions_is_seen_and_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
