#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "gpu/mig_bar0.h"

enum { GA100 = 0x170000a1, GH100 = 0x180000a1, BOOTED = 0x3ff, MODE_ON = 0x8000 };
enum { WANTED_OFF = 0x8000, WANTED_ON = 0xc000 };
enum { AT_MODE = 0x1404, AT_BOOT = 0x118234, AT_WANTED = 0x118f78, BAR0_BYTES = 1 << 24 };

/* ---- what the registers say ---- */

static void the_module_is_the_first_word_of_a_line(void **state)
{
    static const struct {
        const char *modules;
        bool listed;
    } cases[] = {
        { "", false },
        { "nvidia 97120256 2 nvidia_uvm, Live 0x0\n", true },
        { "overlay 1 0 - Live 0x0\nnvidia 97120256 0 - Live 0x0\n", true },
        { "nvidia", true },
        { "nvidia_uvm 1953792 0 - Live 0x0\n", false },
        { "i2c_core 1 1 nvidia Live 0x0\nxnvidia 1 0 - Live 0x0\n", false },
        { "drm 1 2 nvidia nvidia\n nvidia 1\n", false },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (mig_bar0_lists_nvidia(span_of(cases[i].modules)) != cases[i].listed)
            fail_msg("%s", cases[i].modules);
}

static void a_board_is_waited_for_until_it_has_booted(void **state)
{
    static const struct mig_bar0_patience patience = { .limit_ms = 5000, .poll_ms = 100 };
    static const struct {
        uint32_t chip, boot;
        unsigned waited_ms;
        enum mig_bar0_stage stage;
    } cases[] = {
        { GA100, BOOTED, 0, MIG_BAR0_READY },      { GA100, BOOTED, 9000, MIG_BAR0_READY },
        { GA100, 0x1ff, 0, MIG_BAR0_BOOTING },     { GA100, 0, 4900, MIG_BAR0_BOOTING },
        { GA100, 0x7ff, 4900, MIG_BAR0_BOOTING },  { GA100, 0x1ff, 5000, MIG_BAR0_STUCK },
        { GH100, BOOTED, 0, MIG_BAR0_OTHER },      { GH100, 0, 5000, MIG_BAR0_OTHER },
        { 0xffffffff, BOOTED, 0, MIG_BAR0_OTHER }, { 0x170000a2, BOOTED, 0, MIG_BAR0_OTHER },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct mig_bar0_registers registers = { cases[i].chip, cases[i].boot, 0, 0 };
        assert_int_equal(mig_bar0_stage(&registers, cases[i].waited_ms, patience), cases[i].stage);
    }
}

static void a_change_is_two_bits_of_one_register(void **state)
{
    static const struct {
        const char *what;
        uint32_t mode, wanted;
        bool enabled;
        struct mig_bar0_change change;
    } cases[] = {
        { "off, on", 0, 0, true, { true, WANTED_ON, true } },
        { "off, off", 0, 0, false, { false, WANTED_OFF, false } },
        { "on, on", MODE_ON, 0, true, { false, WANTED_ON, false } },
        { "on, off", MODE_ON, 0, false, { true, WANTED_OFF, true } },
        { "the other bits stay", 0x12347fff, 0xabcd2fff, true, { true, 0xabcdefff, true } },
        { "and of another mode", 0x1234ffff, 0xabcdffff, false, { true, 0xabcdbfff, true } },
        { "waits already", 0, WANTED_ON, true, { false, WANTED_ON, true } },
        { "off waits already", MODE_ON, WANTED_OFF, false, { false, WANTED_OFF, true } },
        { "what waits is taken back", 0, WANTED_ON, false, { true, WANTED_OFF, false } },
        { "on stays on", MODE_ON, WANTED_OFF, true, { true, WANTED_ON, false } },
        { "on without being set is no wish", 0, 0x4000, true, { true, WANTED_ON, true } },
        { "in force", MODE_ON, WANTED_ON, true, { false, WANTED_ON, false } },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct mig_bar0_registers registers = { GA100, BOOTED, cases[i].mode,
                                                      cases[i].wanted };
        struct mig_bar0_change change = mig_bar0_decide(&registers, cases[i].enabled);
        if (change.write != cases[i].change.write || change.value != cases[i].change.value ||
            change.reset != cases[i].change.reset)
            fail_msg("%s: write %d, value %x, reset %d", cases[i].what, change.write, change.value,
                     change.reset);
    }
}

static void nothing_is_decided_about_other_chips_or_before_boot(void **state)
{
    static const struct mig_bar0_registers cases[] = { { GH100, BOOTED, 0, 0 },
                                                       { 0xffffffff, BOOTED, MODE_ON, 0 },
                                                       { GA100, 0x1ff, 0, 0 } };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int enabled = 0; enabled < 2; enabled++) {
            struct mig_bar0_change change = mig_bar0_decide(&cases[i], enabled);
            assert_false(change.write);
            assert_false(change.reset);
        }
}

/* ---- boards ---- */

struct site {
    char dir[64];
    int root;
    struct arena arena;
};

static void setup(struct site *site)
{
    *site = (struct site){ .dir = "/tmp/mig-bar0-XXXXXX", .arena = ARENA_MAX(MIB(4)) };
    assert_non_null(mkdtemp(site->dir));
    site->root = open(site->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(site->root >= 0);
}

static void site_done(struct site *site)
{
    file_remove_tree(site->dir, NULL);
    base_close(&site->root);
    arena_done(&site->arena);
}

static const char *at(struct site *site, const char *device, const char *file)
{
    return arena_printf(&site->arena, "%s/sys/bus/pci/devices/%s%s%s", site->dir, device,
                        *file ? "/" : "", file);
}

static void put(struct site *site, const char *device, const char *file, const char *text)
{
    assert_int_equal(file_make_dirs(at(site, device, ""), 0755, NULL), 0);
    FILE *to = fopen(at(site, device, file), "we");
    assert_non_null(to);
    fputs(text, to);
    assert_int_equal(fclose(to), 0);
}

static void set_register(struct site *site, const char *device, off_t where, uint32_t value)
{
    auto_close int fd = open(at(site, device, "resource0"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    uint32_t word = htole32(value);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &word, sizeof(word), where), sizeof(word));
}

static uint32_t get_register(struct site *site, const char *device, off_t where)
{
    auto_close int fd = open(at(site, device, "resource0"), O_RDONLY | O_CLOEXEC);
    uint32_t word;

    assert_int_equal(pread(fd, &word, sizeof(word), where), sizeof(word));
    return le32toh(word);
}

static void put_gpu(struct site *site, const char *device, uint32_t chip, const char *class)
{
    put(site, device, "vendor", "0x10de\n");
    put(site, device, "device", "0x20b0\n");
    put(site, device, "subsystem_vendor", "0x10de\n");
    put(site, device, "subsystem_device", "0x144e\n");
    put(site, device, "class", class);
    put(site, device, "reset", "");
    set_register(site, device, 0, chip);
    set_register(site, device, AT_BOOT, BOOTED);
    assert_int_equal(truncate(at(site, device, "resource0"), BAR0_BYTES), 0);
}

/* No patience: a look at boards that are not ready ends at once. */
static struct mig_node *look(struct site *site)
{
    struct mig_node *node = NULL;
    struct err err = {};

    if (mig_bar0_look(site->root, (struct mig_bar0_patience){}, &site->arena, &node, &err) < 0)
        fail_msg("%s", err.text);
    return node;
}

static char reset_of(struct site *site, const char *device)
{
    auto_close int fd = open(at(site, device, "reset"), O_RDONLY | O_CLOEXEC);
    char c = ' ';

    assert_true(read(fd, &c, 1) >= 0);
    return c;
}

static void gpus_are_nvidias_by_address_without_virtual_functions(void **state)
{
    auto_(site_done) struct site site;

    setup(&site);
    put_gpu(&site, "2000:00:00.0", GA100, "0x030000\n");
    put_gpu(&site, "10000:01:00.0", GA100, "0x030200\n"); /* behind a volume controller */
    put_gpu(&site, "0000:43:00.0", GA100, "0x030200\n");
    put_gpu(&site, "0000:1b:00.0", GH100, "0x030200\n");
    put_gpu(&site, "0000:1b:00.1", GA100, "0x040300\n"); /* its sound */
    put_gpu(&site, "0000:43:00.4", GA100, "0x030200\n");
    put(&site, "0000:43:00.4", "physfn", "");
    put_gpu(&site, "0000:01:00.0", GA100, "0x030000\n");
    put(&site, "0000:01:00.0", "vendor", "0x1a03\n");
    set_register(&site, "2000:00:00.0", AT_MODE, MODE_ON);
    set_register(&site, "0000:43:00.0", AT_WANTED, WANTED_ON);

    const struct mig_node *node = look(&site);
    assert_int_equal(node->n_gpus, 4);
    assert_string_equal(node->gpus[0].bus_id, "0000:1b:00.0");
    assert_string_equal(node->gpus[1].bus_id, "0000:43:00.0");
    assert_string_equal(node->gpus[2].bus_id, "2000:00:00.0");
    assert_string_equal(node->gpus[3].bus_id, "10000:01:00.0");
    assert_false(node->gpus[0].capable);
    assert_true(node->gpus[1].capable && !node->gpus[1].enabled && node->gpus[1].pending);
    assert_true(node->gpus[2].capable && node->gpus[2].enabled && node->gpus[2].pending);
    assert_int_equal(node->gpus[2].index, 2);
    assert_int_equal(node->gpus[1].pci_device_id, 0x20b010de);
    assert_int_equal(node->gpus[1].pci_subsystem_id, 0x144e10de);
    assert_null(node->gpus[0].problem);
}

static void what_is_wrong_with_a_board_is_its_problem_alone(void **state)
{
    auto_(site_done) struct site site;

    setup(&site);
    put_gpu(&site, "0000:01:00.0", GA100, "0x030200\n");
    put_gpu(&site, "0000:02:00.0", GA100, "0x030200\n");
    put_gpu(&site, "0000:03:00.0", GA100, "0x030200\n");
    put_gpu(&site, "0000:04:00.0", GA100, "0x030200\n");
    set_register(&site, "0000:01:00.0", AT_BOOT, 0x1ff);
    assert_int_equal(unlink(at(&site, "0000:02:00.0", "resource0")), 0);
    assert_int_equal(truncate(at(&site, "0000:03:00.0", "resource0"), AT_WANTED), 0);

    const struct mig_node *node = look(&site);
    assert_int_equal(node->n_gpus, 4);
    assert_non_null(strstr(node->gpus[0].problem, "not finished booting"));
    assert_non_null(strstr(node->gpus[1].problem, "no file resource0"));
    assert_non_null(strstr(node->gpus[2].problem, "only 1150840 of the"));
    assert_null(node->gpus[3].problem);
    assert_true(node->gpus[3].capable);
}

static void a_machine_without_a_pci_bus_is_an_error(void **state)
{
    auto_(site_done) struct site site;
    struct mig_node *node = NULL;
    struct err err = {};

    setup(&site);
    assert_int_equal(mig_bar0_look(site.root, MIG_BAR0_PATIENCE, &site.arena, &node, &err),
                     -ENOENT);
    assert_non_null(strstr(err.text, "cannot list /sys/bus/pci/devices"));
}

static void a_mode_is_asked_for_and_its_gpu_reset(void **state)
{
    static const struct mig_wish wishes[] = { { .kind = MIG_WISH_MODE, .enabled = true },
                                              { .kind = MIG_WISH_NOTHING },
                                              { .kind = MIG_WISH_MODE, .enabled = true } };
    static const char *const devices[] = { "0000:01:00.0", "0000:02:00.0", "0000:03:00.0" };
    auto_(site_done) struct site site;

    setup(&site);
    for (size_t i = 0; i < ARRAY_LEN(devices); i++)
        put_gpu(&site, devices[i], i < 2 ? GA100 : GH100, "0x030200\n");
    set_register(&site, devices[0], AT_WANTED, 0x00010002);
    assert_int_equal(mig_bar0_apply(site.root, look(&site), wishes, false, NULL), 0);
    assert_int_equal(get_register(&site, devices[0], AT_WANTED), 0x0001c002);
    assert_int_equal(get_register(&site, devices[1], AT_WANTED), 0);
    assert_int_equal(get_register(&site, devices[2], AT_WANTED), 0);
    assert_int_equal(reset_of(&site, devices[0]), '1');
    assert_int_equal(reset_of(&site, devices[1]), ' ');
    assert_int_equal(reset_of(&site, devices[2]), ' ');
}

static void what_has_changed_since_the_look_is_left_alone(void **state)
{
    static const struct mig_wish wish = { .kind = MIG_WISH_MODE, .enabled = true };
    auto_(site_done) struct site site;

    setup(&site);
    put_gpu(&site, "0000:01:00.0", GA100, "0x030200\n");
    const struct mig_node *node = look(&site);
    set_register(&site, "0000:01:00.0", 0, GH100);
    assert_int_equal(mig_bar0_apply(site.root, node, &wish, false, NULL), 0);
    assert_int_equal(get_register(&site, "0000:01:00.0", AT_WANTED), 0);
    assert_int_equal(reset_of(&site, "0000:01:00.0"), ' ');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_module_is_the_first_word_of_a_line),
        cmocka_unit_test(a_board_is_waited_for_until_it_has_booted),
        cmocka_unit_test(a_change_is_two_bits_of_one_register),
        cmocka_unit_test(nothing_is_decided_about_other_chips_or_before_boot),
        cmocka_unit_test(gpus_are_nvidias_by_address_without_virtual_functions),
        cmocka_unit_test(what_is_wrong_with_a_board_is_its_problem_alone),
        cmocka_unit_test(a_machine_without_a_pci_bus_is_an_error),
        cmocka_unit_test(a_mode_is_asked_for_and_its_gpu_reset),
        cmocka_unit_test(what_has_changed_since_the_look_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
