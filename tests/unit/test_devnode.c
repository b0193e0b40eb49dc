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
#include "gpu/devnode.h"

/* A root of our own, removed after each test. */
struct world {
    char dir[64];
    int root;
};

static int build_world(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    strcpy(world->dir, "/tmp/devnode-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_int_equal(devnode_root(world->dir, &world->root, NULL), 0);
    *state = world;
    return 0;
}

static int remove_world(void **state)
{
    struct world *world = *state;

    close(world->root);
    file_remove_tree(world->dir, NULL);
    free(world);
    return 0;
}

static void put(const struct world *world, const char *path, const char *content)
{
    char whole[PATH_MAX], *slash;

    snprintf(whole, sizeof(whole), "%s/%s", world->dir, path);
    slash = strrchr(whole, '/');
    *slash = '\0';
    assert_int_equal(file_make_dirs(whole, 0755, NULL), 0);
    *slash = '/';
    auto_close int fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
}

static void a_bus_id_of_nvml_becomes_a_name_of_sysfs(void **state)
{
    static const struct {
        const char *nvml, *sysfs; /* sysfs NULL: not an address */
    } cases[] = {
        { "00000000:3B:00.0", "0000:3b:00.0" },
        { "0000:AF:1F.7", "0000:af:1f.7" },
        { "00010000:01:00.0", "10000:01:00.0" },
        { "00000001:00:00.0", "0001:00:00.0" },
        { "", NULL },
        { "3b:00.0", NULL },
        { "0000:3b:00", NULL },
        { "0000:3b:00.0x", NULL },
        { " 0000:3b:00.0", NULL },
        { "power", NULL },
        { "../../../etc/passwd", NULL },
    };
    char name[PCI_NAME_SIZE];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(pci_name_from_nvml(cases[i].nvml, name), cases[i].sysfs != NULL);
        assert_string_equal(name, cases[i].sysfs ? cases[i].sysfs : "");
    }
}

static void a_number_that_sysfs_does_not_tell_is_unknown(void **state)
{
    static const struct {
        const char *content; /* NULL: no such file */
        bool known;
        uint64_t value;
    } cases[] = {
        { "0\n", true, 0 },  { "1\n", true, 1 },  { "-1\n", false, 0 }, { "", false, 0 },
        { "x\n", false, 0 }, { "1 2", false, 0 }, { NULL, false, 0 },
    };
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (cases[i].content)
            put(world, "sys/bus/pci/devices/0000:3b:00.0/numa_node", cases[i].content);
        struct reading node =
            devnode_numa_node(world->root, cases[i].content ? "0000:3b:00.0" : "0000:3c:00.0");
        assert_int_equal(node.known, cases[i].known);
        assert_int_equal(node.value, cases[i].value);
    }
    assert_false(devnode_numa_node(world->root, "").known);
}

static void the_pci_class_is_read_in_hexadecimal(void **state)
{
    struct world *world = *state;

    put(world, "sys/bus/pci/devices/0000:3b:00.0/class", "0x030200\n");
    struct reading class = devnode_pci_class(world->root, "0000:3b:00.0");
    assert_true(class.known);
    assert_int_equal(class.value, 0x030200);
}

static void the_machine_name_is_trimmed_and_may_be_missing(void **state)
{
    struct world *world = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    const char *machine = "left over";

    assert_int_equal(devnode_machine(world->root, NULL, &arena, &machine, NULL), 0);
    assert_null(machine);
    put(world, "sys/class/dmi/id/product_name", "  PowerEdge R750xa \n");
    assert_int_equal(devnode_machine(world->root, NULL, &arena, &machine, NULL), 0);
    assert_string_equal(machine, "PowerEdge R750xa");
    put(world, "empty", "\n");
    char path[128];
    snprintf(path, sizeof(path), "%s/empty", world->dir);
    assert_int_equal(devnode_machine(world->root, path, &arena, &machine, NULL), 0);
    assert_string_equal(machine, "");
    assert_int_equal(devnode_machine(world->root, "", &arena, &machine, NULL), 0);
    assert_null(machine);
}

static void only_nodes_that_exist_are_named(void **state)
{
    struct world *world = *state;
    auto_(inventory_unrefp) struct inventory *empty = NULL, *full = NULL;

    assert_int_equal(inventory_new(&empty, NULL), 0);
    assert_int_equal(devnode_read_node(world->root, NULL, empty, NULL), 0);
    assert_int_equal(empty->n_control_nodes, 0);
    assert_false(empty->gdrcopy_nodes || empty->gds_nodes || empty->mofed_nodes);
    assert_false(empty->imex_channel0);
    assert_string_equal(empty->imex_problem, "requested IMEX channel channel0 does not exist");

    put(world, "dev/nvidiactl", "");
    put(world, "dev/nvidia-modeset", "");
    put(world, "dev/nvidia-fs0", "");
    put(world, "dev/gdrdrv", "");
    put(world, "dev/infiniband/uverbs3", "");
    put(world, "dev/nvidia-caps-imex-channels/channel0", "a file");
    assert_int_equal(inventory_new(&full, NULL), 0);
    assert_int_equal(devnode_read_node(world->root, NULL, full, NULL), 0);
    assert_int_equal(full->n_control_nodes, 2);
    assert_string_equal(full->control_nodes[0], "/dev/nvidiactl");
    assert_string_equal(full->control_nodes[1], "/dev/nvidia-modeset");
    assert_true(full->gdrcopy_nodes && full->gds_nodes && full->mofed_nodes);
    assert_false(full->imex_channel0);
    assert_string_equal(full->imex_problem,
                        "/dev/nvidia-caps-imex-channels/channel0 is not a character device");
}

static void nodes_below_a_driver_root_count_but_not_control_nodes(void **state)
{
    struct world *world = *state;
    auto_(inventory_unrefp) struct inventory *inventory = NULL;
    char driver_root[128];

    put(world, "driver/dev/nvidiactl", "");
    put(world, "driver/dev/gdrdrv", "");
    snprintf(driver_root, sizeof(driver_root), "%s/driver", world->dir);
    assert_int_equal(inventory_new(&inventory, NULL), 0);
    assert_int_equal(devnode_read_node(world->root, driver_root, inventory, NULL), 0);
    assert_int_equal(inventory->n_control_nodes, 0);
    assert_true(inventory->gdrcopy_nodes);
}

static void a_capability_without_a_minor_has_no_path(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(4));
    const char *path;

    assert_int_equal(devnode_cap_path(&arena, 12, &path, NULL), 0);
    assert_string_equal(path, "/dev/nvidia-caps/nvidia-cap12");
    assert_int_equal(devnode_cap_path(&arena, 0, &path, NULL), 0);
    assert_null(path);
}

static void a_root_that_is_missing_is_named(void **state)
{
    struct err err = {};
    int fd = -1;

    assert_int_equal(devnode_root("/nonexistent/root", &fd, &err), -ENOENT);
    assert_string_equal(err.text, "cannot open /nonexistent/root: No such file or directory");
    assert_int_equal(fd, -1);
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, build_world, remove_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bus_id_of_nvml_becomes_a_name_of_sysfs),
        IN_WORLD(a_number_that_sysfs_does_not_tell_is_unknown),
        IN_WORLD(the_pci_class_is_read_in_hexadecimal),
        IN_WORLD(the_machine_name_is_trimmed_and_may_be_missing),
        IN_WORLD(only_nodes_that_exist_are_named),
        IN_WORLD(nodes_below_a_driver_root_count_but_not_control_nodes),
        cmocka_unit_test(a_capability_without_a_minor_has_no_path),
        cmocka_unit_test(a_root_that_is_missing_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
