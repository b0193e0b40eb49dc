#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/file.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"
#include "sim/gpu/root.h"

/* A node whose files lie in a folder of its own; the library is any file. */
struct site {
    char dir[64], library[80];
    struct sim_state *state;
    struct arena arena;
};

static struct site *site_new(const char *gpus)
{
    static const struct sim_machine_options options = { .machine = "DGX H100",
                                                        .driver = "570.124.06" };
    struct site *site = calloc(1, sizeof(*site));
    struct sim_spec spec;
    struct err err = {};

    site->state = calloc(1, sizeof(*site->state));
    site->arena = ARENA_MAX(MIB(4));
    strcpy(site->dir, "/tmp/sim-root-XXXXXX");
    assert_non_null(mkdtemp(site->dir));
    snprintf(site->library, sizeof(site->library), "%s/library", site->dir);
    FILE *library = fopen(site->library, "we");
    assert_non_null(library);
    fputs("the library", library);
    fclose(library);
    if (sim_spec_parse(gpus, &spec, &err) < 0 ||
        sim_machine_build(&spec, &options, site->state, &err) < 0)
        fail_msg("%s", err.text);
    return site;
}

static void site_free(struct site *site)
{
    file_remove_tree(site->dir, NULL);
    arena_done(&site->arena);
    free(site->state);
    free(site);
}
DEFINE_FREEP(struct site, site_free)

static void create_root(struct site *site)
{
    struct err err = {};

    if (sim_root_create(site->dir, site->state, site->library, &err) < 0)
        fail_msg("%s", err.text);
}

static const char *root_path(struct site *site, const char *path)
{
    return arena_printf(&site->arena, "%s/root/%s", site->dir, path);
}

static struct span content(struct site *site, const char *path)
{
    struct span text = {};
    struct err err = {};

    if (file_read(AT_FDCWD, root_path(site, path), MIB(1), &site->arena, &text, &err) < 0)
        fail_msg("%s", err.text);
    return text;
}

static bool has(struct site *site, const char *path)
{
    struct stat st;

    return lstat(root_path(site, path), &st) == 0;
}

static void partition(struct site *site, uint32_t gpu, const char *profile, uint32_t count)
{
    struct sim_mig_want want = { profile, count };
    struct err err = {};

    if (sim_mig_partition(site->state, &site->state->gpus[gpu], &want, 1, &err) < 0)
        fail_msg("%s", err.text);
}

/* --- what tools read ------------------------------------------------------------------------- */

static void files_say_what_the_state_says(void **test)
{
    static const struct {
        const char *path, *text;
    } rows[] = {
        { "sys/bus/pci/devices/0000:1b:00.0/vendor", "0x10de\n" },
        { "sys/bus/pci/devices/0000:1b:00.0/device", "0x2330\n" },
        { "sys/bus/pci/devices/0000:1b:00.0/class", "0x030200\n" },
        { "sys/bus/pci/devices/0000:1b:00.0/subsystem_vendor", "0x10de\n" },
        { "sys/bus/pci/devices/0000:1b:00.0/subsystem_device", "0x16c1\n" },
        { "sys/bus/pci/devices/0000:1b:00.0/numa_node", "0\n" },
        { "sys/bus/pci/devices/0000:9d:00.0/numa_node", "1\n" },
        { "sys/class/dmi/id/product_name", "DGX H100\n" },
        { "sys/module/nvidia/version", "570.124.06\n" },
        { "proc/driver/nvidia/capabilities/mig/config",
          "DeviceFileMinor: 1\nDeviceFileMode: 256\nDeviceFileModify: 1\n" },
        { "proc/driver/nvidia/capabilities/mig/monitor",
          "DeviceFileMinor: 2\nDeviceFileMode: 292\nDeviceFileModify: 1\n" },
        { "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1", "the library" },
        { "usr/lib/x86_64-linux-gnu/libnvidia-ml.so", "the library" },
        { "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.570.124.06", "the library" },
    };
    static const char *const exist[] = {
        "usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06",
        "usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "usr/lib/x86_64-linux-gnu/libnvidia-nvvm.so.4",
        "usr/bin/nvidia-smi",
        "usr/bin/nvidia-cuda-mps-control",
        "lib/firmware/nvidia/570.124.06/gsp_ga10x.bin",
        "dev/nvidia7",
        "dev/nvidiactl",
        "dev/nvidia-uvm",
        "dev/nvidia-uvm-tools",
        "dev/nvidia-modeset",
        "dev/nvidia-caps/nvidia-cap1",
        "dev/nvidia-caps/nvidia-cap2",
        "proc/driver/nvidia/gpus/0000:1b:00.0/information",
        "proc/driver/nvidia/capabilities/gpu7/mig",
    };
    auto_(site_freep) struct site *site = site_new("8xh100-80gb");

    create_root(site);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!span_equal(content(site, rows[i].path), span_of(rows[i].text)))
            fail_msg("%s: " SPAN_FMT, rows[i].path, SPAN_ARG(content(site, rows[i].path)));
    }
    for (size_t i = 0; i < ARRAY_LEN(exist); i++) {
        if (!has(site, exist[i]))
            fail_msg("%s is missing", exist[i]);
    }
    assert_false(has(site, "dev/nvidia8"));
}

static void minors_are_numbered_as_the_driver_numbers_them(void **test)
{
    static const struct {
        const char *line;
        uint32_t gpu, gi, ci, minor;
    } rows[] = {
        { "gpu0/gi0/access 3\n", 0, 0, SIM_NO_INSTANCE, 3 },
        { "gpu0/gi0/ci0/access 4\n", 0, 0, 0, 4 },
        { "gpu0/gi0/ci7/access 11\n", 0, 0, 7, 11 },
        { "gpu0/gi1/access 12\n", 0, 1, SIM_NO_INSTANCE, 12 },
        { "gpu0/gi14/access 129\n", 0, 14, SIM_NO_INSTANCE, 129 },
        { "gpu1/gi0/access 138\n", 1, 0, SIM_NO_INSTANCE, 138 },
        { "gpu31/gi14/ci7/access 4322\n", 31, 14, 7, 4322 },
    };
    auto_(site_freep) struct site *site = site_new("t4");
    size_t n = 0;

    create_root(site);
    struct span text = content(site, "proc/driver/nvidia-caps/mig-minors");
    for (size_t i = 0; i < text.len; i++)
        n += text.ptr[i] == '\n';
    assert_int_equal(n, 4322);
    assert_true(text_starts(text.ptr, "config 1\nmonitor 2\ngpu0/gi0/access 3\n"));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_non_null(strstr(text.ptr, rows[i].line));
        assert_int_equal(sim_cap_minor(rows[i].gpu, rows[i].gi, rows[i].ci), rows[i].minor);
    }
}

static void configuration_space_has_a_chain_of_capabilities_that_ends(void **test)
{
    auto_(site_freep) struct site *site = site_new("a100-40gb");
    uint8_t at, seen = 0;

    create_root(site);
    struct span config = content(site, "sys/bus/pci/devices/0000:1b:00.0/config");
    const uint8_t *bytes = (const uint8_t *)config.ptr;
    assert_int_equal(config.len, 256);
    assert_memory_equal(bytes, "\xde\x10\xb0\x20", 4);
    assert_true(bytes[6] & 0x10);
    assert_memory_equal(bytes + 9, "\x00\x02\x03", 3); /* class 0x030200, from its end */
    for (at = bytes[0x34]; at && seen < 48; at = bytes[at + 1], seen++)
        assert_int_not_equal(bytes[at], 9); /* no vendor's record: this is no vGPU */
    assert_int_equal(at, 0);
    assert_in_range(seen, 1, 10);
}

static void resource_has_thirteen_lines_with_the_memory_of_the_board(void **test)
{
    auto_(site_freep) struct site *site = site_new("2xh100-80gb");
    struct span rest, line;
    bool more = true;
    size_t n = 0;

    create_root(site);
    rest = content(site, "sys/bus/pci/devices/0000:43:00.0/resource");
    while (span_split(&rest, '\n', &more, &line)) {
        unsigned long long start, end, flags;

        if (line.len == 0)
            continue;
        assert_int_equal(sscanf(line.ptr, "0x%16llx 0x%16llx 0x%16llx", &start, &end, &flags), 3);
        if (n == 0)
            assert_int_equal(end - start + 1, MIB(16));
        if (n == 1)
            assert_int_equal(end - start + 1, site->state->gpus[1].bar1_bytes);
        n++;
    }
    assert_int_equal(n, 13);
}

static void devices_are_links_to_their_place_below_a_root_complex(void **test)
{
    auto_(site_freep) struct site *site = site_new("4xh100-80gb");
    char at[PATH_MAX], twin[PATH_MAX], other[PATH_MAX], driver[PATH_MAX];

    create_root(site);
    assert_non_null(realpath(root_path(site, "sys/bus/pci/devices/0000:1b:00.0"), at));
    assert_non_null(realpath(root_path(site, "sys/bus/pci/devices/0000:43:00.0"), twin));
    assert_non_null(realpath(root_path(site, "sys/bus/pci/devices/0000:9d:00.0"), other));
    assert_string_equal(strstr(at, "/sys/"), "/sys/devices/pci0000:1a/0000:1a:01.0/0000:1b:00.0");
    assert_string_equal(strstr(twin, "/sys/"), "/sys/devices/pci0000:1a/0000:1a:01.0/0000:43:00.0");
    assert_string_equal(strstr(other, "/sys/"),
                        "/sys/devices/pci0000:9c/0000:9c:01.0/0000:9d:00.0");
    assert_non_null(realpath(root_path(site, "sys/bus/pci/devices/0000:1b:00.0/driver"), driver));
    assert_string_equal(strrchr(driver, '/'), "/nvidia");
    assert_non_null(realpath(root_path(site, "sys/bus/pci/drivers/nvidia/0000:1b:00.0"), driver));
    assert_string_equal(driver, at);
}

static void device_nodes_carry_the_numbers_of_proc_devices(void **test)
{
    auto_(site_freep) struct site *site = site_new("2xh100-80gb");
    struct stat st;

    create_root(site);
    struct span devices = content(site, "proc/devices");
    assert_non_null(strstr(devices.ptr, "195 nvidia\n"));
    assert_non_null(strstr(devices.ptr, "237 nvidia-caps\n"));
    assert_non_null(strstr(devices.ptr, "508 nvidia-uvm\n"));
    assert_non_null(strstr(content(site, "proc/modules").ptr, "\nnvidia "));
    if (!file_is_char_device(root_path(site, "dev/nvidia1")))
        return; /* not allowed to make any here */
    assert_int_equal(stat(root_path(site, "dev/nvidia1"), &st), 0);
    assert_int_equal(st.st_rdev, 195 << 8 | 1);
    assert_int_equal(stat(root_path(site, "dev/nvidiactl"), &st), 0);
    assert_int_equal(st.st_rdev, 195 << 8 | 255);
    assert_int_equal(stat(root_path(site, "dev/nvidia-caps/nvidia-cap2"), &st), 0);
    assert_int_equal(st.st_rdev, 237 << 8 | 2);
}

static void node_without_a_driver_has_no_trace_of_one(void **test)
{
    auto_(site_freep) struct site *site = site_new("h100-80gb");

    site->state->driver_loaded = false;
    create_root(site);
    assert_true(has(site, "sys/bus/pci/devices/0000:1b:00.0/vendor"));
    assert_false(has(site, "sys/bus/pci/devices/0000:1b:00.0/driver"));
    assert_false(has(site, "proc/driver/nvidia"));
    assert_false(has(site, "dev/nvidia0"));
    assert_null(strstr(content(site, "proc/modules").ptr, "nvidia"));
    assert_null(strstr(content(site, "proc/devices").ptr, "nvidia"));
}

static void driver_that_goes_lets_go_of_its_gpus(void **test)
{
    auto_(site_freep) struct site *site = site_new("2xh100-80gb");
    const char *driver = "sys/bus/pci/devices/0000:1b:00.0/driver";

    assert_int_equal(sim_root_update_node(site->dir, site->state, NULL), 0); /* no root yet */
    create_root(site);
    site->state->driver_loaded = false;
    assert_int_equal(sim_root_update_node(site->dir, site->state, NULL), 0);
    assert_null(strstr(content(site, "proc/modules").ptr, "nvidia"));
    assert_false(has(site, driver));
    site->state->driver_loaded = true;
    assert_int_equal(sim_root_update_node(site->dir, site->state, NULL), 0);
    assert_non_null(strstr(content(site, "proc/modules").ptr, "\nnvidia "));
    assert_true(has(site, driver));
}

static uint32_t word_at(struct site *site, const char *path, off_t at)
{
    auto_close int fd = open(root_path(site, path), O_RDWR | O_CLOEXEC);
    uint8_t bytes[4];

    assert_int_equal(pread(fd, bytes, sizeof(bytes), at), sizeof(bytes));
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void registers_are_there_only_where_wanted(void **test)
{
    static const char a100[] = "sys/bus/pci/devices/0000:1b:00.0/resource0";
    static const char h100[] = "sys/bus/pci/devices/0000:43:00.0/resource0";
    auto_(site_freep) struct site *site = site_new("a100-40gb,h100-80gb");
    struct stat st;

    create_root(site);
    assert_false(has(site, a100));
    site->state->pci_registers = true;
    site->state->gpus[0].mig_current = 1;
    assert_int_equal(sim_root_update_node(site->dir, site->state, NULL), 0);
    assert_int_equal(word_at(site, a100, 0), 0x170000a1);
    assert_int_equal(word_at(site, a100, 0x118234), 0x3ff);
    assert_int_equal(word_at(site, a100, 0x1404), 0x8000);
    assert_int_equal(word_at(site, h100, 0), 0x180000a1);
    assert_int_equal(word_at(site, h100, 0x1404), 0);
    assert_true(has(site, "sys/bus/pci/devices/0000:43:00.0/reset"));
    assert_int_equal(stat(root_path(site, a100), &st), 0);
    assert_int_equal(st.st_size, MIB(16));
    assert_true(st.st_blocks * 512 < (off_t)MIB(1));

    site->state->gpus[0].mig_current = 0;
    assert_int_equal(sim_root_update_node(site->dir, site->state, NULL), 0);
    assert_int_equal(word_at(site, a100, 0x1404), 0x8000); /* what is there stays */
    site->state->pci_registers = false;
    assert_int_equal(sim_root_update_node(site->dir, site->state, NULL), 0);
    assert_false(has(site, a100));
    assert_false(has(site, "sys/bus/pci/devices/0000:1b:00.0/reset"));
}

/* --- MIG ------------------------------------------------------------------------------------- */

static void capabilities_are_those_of_the_instances(void **test)
{
    auto_(site_freep) struct site *site = site_new("2xh100-80gb,t4");
    struct err err = {};

    partition(site, 1, "3g.40gb", 1);
    create_root(site);
    assert_memory_equal(
        content(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci0/access").ptr,
        "DeviceFileMinor: 157\nDeviceFileMode: 292\nDeviceFileModify: 1\n", 61);
    assert_true(has(site, "dev/nvidia-caps/nvidia-cap156"));
    assert_true(has(site, "dev/nvidia-caps/nvidia-cap157"));
    assert_false(has(site, "proc/driver/nvidia/capabilities/gpu2/mig"));

    partition(site, 1, "1c.4g.40gb", 2);
    assert_int_equal(sim_root_update(site->dir, site->state, 1, SIM_NO_INSTANCE, &err), 0);
    assert_false(has(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi2"));
    assert_false(has(site, "dev/nvidia-caps/nvidia-cap156"));
    assert_true(has(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi1/access"));
    assert_true(has(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi1/ci1/access"));
    assert_false(has(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi1/ci2"));
    assert_int_equal(sim_root_update(site->dir, site->state, 2, SIM_NO_INSTANCE, &err), 0);
}

/* Put away and taken from there: what a reader sees is the same. */
static void capabilities_come_back_with_their_instances(void **test)
{
    auto_(site_freep) struct site *site = site_new("2xh100-80gb");
    const char *gi = "proc/driver/nvidia/capabilities/gpu1/mig/gi2";

    create_root(site);
    for (size_t i = 0; i < 3; i++) {
        partition(site, 1, "3g.40gb", 1);
        assert_int_equal(sim_root_update(site->dir, site->state, 1, 2, NULL), 0);
        assert_memory_equal(
            content(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/access").ptr,
            "DeviceFileMinor: 156\nDeviceFileMode: 292\nDeviceFileModify: 1\n", 61);
        assert_true(has(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci0/access"));
        assert_false(has(site, "proc/driver/nvidia/capabilities/gpu1/mig/gi2/ci1"));
        assert_true(has(site, "dev/nvidia-caps/nvidia-cap156"));
        assert_true(has(site, "dev/nvidia-caps/nvidia-cap157"));
        assert_int_equal(sim_mig_clear(site->state, &site->state->gpus[1], NULL), 0);
        assert_int_equal(sim_root_update(site->dir, site->state, 1, 2, NULL), 0);
        assert_false(has(site, gi));
        assert_false(has(site, "dev/nvidia-caps/nvidia-cap156"));
        assert_false(has(site, "dev/nvidia-caps/nvidia-cap157"));
        assert_true(has(site, "../spare/cap156/access"));
    }
    create_root(site);
    assert_false(has(site, "../spare"));
}

static void update_without_files_is_no_failure(void **test)
{
    auto_(site_freep) struct site *site = site_new("h100-80gb");

    partition(site, 0, "1g.10gb", 7);
    assert_int_equal(sim_root_update(site->dir, site->state, 0, SIM_NO_INSTANCE, NULL), 0);
    assert_false(has(site, ""));
}

/* --- making it ------------------------------------------------------------------------------- */

static void new_root_replaces_the_old_one_whole(void **test)
{
    auto_(site_freep) struct site *site = site_new("8xh100-80gb");
    struct sim_spec spec;

    create_root(site);
    assert_int_equal(sim_spec_parse("t4", &spec, NULL), 0);
    assert_int_equal(sim_machine_build(&spec, &(struct sim_machine_options){}, site->state, NULL),
                     0);
    create_root(site);
    assert_false(has(site, "dev/nvidia1"));
    assert_memory_equal(content(site, "sys/bus/pci/devices/0000:1b:00.0/device").ptr, "0x1eb8", 6);
}

static void failure_leaves_the_old_root_and_says_what_is_wrong(void **test)
{
    auto_(site_freep) struct site *site = site_new("h100-80gb");
    struct err err = {};

    create_root(site);
    assert_int_equal(sim_root_create(site->dir, site->state, "/nowhere/lib.so", &err), -ENOENT);
    assert_string_equal(err.text, "/nowhere/lib.so: No such file or directory");
    assert_true(has(site, "dev/nvidia0"));
    assert_int_equal(sim_root_create("/nowhere", site->state, site->library, &err), -ENOENT);
    assert_true(text_starts(err.text, "/nowhere/root.new."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_say_what_the_state_says),
        cmocka_unit_test(minors_are_numbered_as_the_driver_numbers_them),
        cmocka_unit_test(configuration_space_has_a_chain_of_capabilities_that_ends),
        cmocka_unit_test(resource_has_thirteen_lines_with_the_memory_of_the_board),
        cmocka_unit_test(devices_are_links_to_their_place_below_a_root_complex),
        cmocka_unit_test(device_nodes_carry_the_numbers_of_proc_devices),
        cmocka_unit_test(node_without_a_driver_has_no_trace_of_one),
        cmocka_unit_test(driver_that_goes_lets_go_of_its_gpus),
        cmocka_unit_test(registers_are_there_only_where_wanted),
        cmocka_unit_test(capabilities_are_those_of_the_instances),
        cmocka_unit_test(capabilities_come_back_with_their_instances),
        cmocka_unit_test(update_without_files_is_no_failure),
        cmocka_unit_test(new_root_replaces_the_old_one_whole),
        cmocka_unit_test(failure_leaves_the_old_root_and_says_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
