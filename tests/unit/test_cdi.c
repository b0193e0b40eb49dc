#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "codec/json.h"
#include "fixture.h"
#include "kubelet/cdi.h"

#define LIB "usr/lib/x86_64-linux-gnu"

struct world {
    char dir[64];
    struct fixture f;
    struct arena arena;
    struct cdi_places places;
    struct cdi_set set;
    json_t *gpu; /* the gpu class, parsed */
    struct err err;
};

/* A path below the world's folder, made with its parents. */
static void put(const struct world *world, const char *path, const char *content)
{
    char full[256], dir[256];

    snprintf(full, sizeof(full), "%s/%s", world->dir, path);
    snprintf(dir, sizeof(dir), "%s", full);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(file_make_dirs(dir, 0700, NULL), 0);
    assert_int_equal(file_replace(AT_FDCWD, full, span_of(content), 0600, NULL), 0);
}

static void put_link(const struct world *world, const char *path, const char *target)
{
    char full[256];

    snprintf(full, sizeof(full), "%s/%s", world->dir, path);
    assert_int_equal(symlink(target, full), 0);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    strcpy(world->dir, "/tmp/tranche-cdi-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    world->arena = ARENA_MAX(CDI_ARENA_BYTES);
    world->places = (struct cdi_places){ .root = world->dir, .driver_root = world->dir };
    put(world, LIB "/libcuda.so.1.2.3", "x");
    put(world, LIB "/libnvidia-ml.so.1.2.3", "x");
    put(world, LIB "/libcuda.so.1.2.2", "of another driver");
    put_link(world, LIB "/libcuda.so.1", "libcuda.so.1.2.3");
    put(world, "dev/nvidia0", "");
    put(world, "dev/nvidiactl", "");
    put(world, "dev/nvidia-uvm", "");
    fixture_init(&world->f, "h100 h100:2x1g.10gb");
    world->f.inventory->driver_version = "1.2.3";
    world->f.config.driver_root = world->f.config.dev_root = "/";
    world->f.config.cdi_hook_path = "/usr/bin/nvidia-ctk";
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    json_decref(world->gpu);
    fixture_done(&world->f);
    arena_done(&world->arena);
    file_remove_tree(world->dir, NULL);
    free(world);
    return 0;
}

static int try_make(struct world *world)
{
    world->set = (struct cdi_set){};
    return cdi_make(world->f.inventory, &world->f.config, &world->places, &world->arena,
                    &world->set, &world->err);
}

static const struct cdi_file *find_file(const struct world *world, const char *class)
{
    char name[96];

    snprintf(name, sizeof(name), CDI_VENDOR "-%s.json", class);
    for (size_t i = 0; i < world->set.n; i++)
        if (text_equal(world->set.files[i].name, name))
            return &world->set.files[i];
    return NULL;
}

static json_t *parse(const struct world *world, const char *class)
{
    const struct cdi_file *file = find_file(world, class);
    json_t *json = NULL;

    assert_non_null(file);
    assert_int_equal(json_parse(file->json, class, CDI_MAX_SPEC_BYTES, &json, NULL), 0);
    return json;
}

static void make(struct world *world)
{
    if (try_make(world) < 0)
        fail_msg("%s", world->err.text);
    json_decref(world->gpu);
    world->gpu = parse(world, "gpu");
}

static json_t *device(json_t *spec, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(spec, "devices"), i,
                       item) if (text_equal(json_string_value(json_object_get(item, "name")),
                                            name)) return json_object_get(item, "containerEdits");
    return NULL;
}

static json_t *node(json_t *edits, const char *path)
{
    json_t *item;
    size_t i;

    json_array_foreach(
        json_object_get(edits, "deviceNodes"), i,
        item) if (text_equal(json_string_value(json_object_get(item, "path")), path)) return item;
    return NULL;
}

static json_t *mount(json_t *edits, const char *path)
{
    json_t *item;
    size_t i;

    json_array_foreach(
        json_object_get(edits, "mounts"), i,
        item) if (text_equal(json_string_value(json_object_get(item, "containerPath")),
                             path)) return item;
    return NULL;
}

/* The arguments of a hook after its name, as one text; NULL where there is no such hook. */
static const char *hook(struct world *world, json_t *edits, const char *name)
{
    json_t *item, *word;
    size_t i, k;

    json_array_foreach(json_object_get(edits, "hooks"), i, item)
    {
        const char *text = "";
        bool found = false;

        json_array_foreach(json_object_get(item, "args"), k, word)
        {
            if (found)
                text = arena_printf(&world->arena, "%s %s", text, json_string_value(word));
            found |= text_equal(json_string_value(word), name);
        }
        if (found)
            return text;
    }
    return NULL;
}

static const char *text_of(json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* ---- tests ---- */

static void every_gpu_and_mig_device_has_a_name_and_its_nodes(void **state)
{
    struct world *world = *state;
    struct mig_device *mig = &world->f.inventory->gpus[1].mig_devices[1];

    world->f.config.mig_strategy = MIG_STRATEGY_MIXED;
    mig->gi_cap_path = "/dev/nvidia-caps/nvidia-cap66";
    mig->ci_cap_path = "/dev/nvidia-caps/nvidia-cap67";
    make(world);
    assert_string_equal(text_of(world->gpu, "kind"), "k8s.device-plugin.nvidia.com/gpu");
    assert_int_equal(json_array_size(json_object_get(world->gpu, "devices")), 3);
    assert_non_null(node(device(world->gpu, "GPU-0"), "/dev/nvidia0"));
    json_t *edits = device(world->gpu, "MIG-1-1");
    assert_non_null(node(edits, "/dev/nvidia1"));
    assert_non_null(node(edits, "/dev/nvidia-caps/nvidia-cap66"));
    assert_non_null(node(edits, "/dev/nvidia-caps/nvidia-cap67"));
    assert_null(device(world->gpu, "GPU-1"));
}

/* D11 of spec/device-plugin §12. */
static void a_gpu_in_mig_mode_that_is_offered_whole_has_a_name_too(void **state)
{
    struct world *world = *state;

    make(world);
    assert_non_null(device(world->gpu, "GPU-1"));
}

static void a_container_gets_the_control_nodes_that_exist(void **state)
{
    struct world *world = *state;

    make(world);
    json_t *edits = json_object_get(world->gpu, "containerEdits");
    assert_int_equal(json_array_size(json_object_get(edits, "deviceNodes")), 2);
    assert_non_null(node(edits, "/dev/nvidia-uvm"));
    assert_non_null(node(edits, "/dev/nvidiactl"));
    assert_string_equal(text_of(node(edits, "/dev/nvidiactl"), "permissions"), "rwm");
    json_t *env = json_object_get(edits, "env");
    assert_string_equal(json_string_value(json_array_get(env, 0)), "NVIDIA_CTK_LIBCUDA_DIR=/" LIB);
    assert_string_equal(json_string_value(json_array_get(env, 1)), "NVIDIA_VISIBLE_DEVICES=void");
}

static void libraries_of_this_driver_are_mounted_and_no_others(void **state)
{
    struct world *world = *state;

    put(world, LIB "/vdpau/libvdpau_nvidia.so.1.2.3", "x");
    put(world, "usr/bin/nvidia-smi", "x");
    put(world, "lib/firmware/nvidia/1.2.3/gsp_ga10x.bin", "x");
    put(world, "run/nvidia-persistenced/socket", "x");
    make(world);
    json_t *edits = json_object_get(world->gpu, "containerEdits");
    json_t *cuda = mount(edits, "/" LIB "/libcuda.so.1.2.3");
    assert_non_null(cuda);
    assert_string_equal(text_of(cuda, "hostPath"), "/" LIB "/libcuda.so.1.2.3");
    assert_int_equal(json_array_size(json_object_get(cuda, "options")), 5);
    assert_string_equal(json_string_value(json_array_get(json_object_get(cuda, "options"), 0)),
                        "ro");
    assert_null(mount(edits, "/" LIB "/libcuda.so.1.2.2"));
    assert_null(mount(edits, "/" LIB "/libcuda.so.1"));
    assert_non_null(mount(edits, "/" LIB "/vdpau/libvdpau_nvidia.so.1.2.3"));
    assert_non_null(mount(edits, "/usr/bin/nvidia-smi"));
    assert_non_null(mount(edits, "/lib/firmware/nvidia/1.2.3/gsp_ga10x.bin"));
    json_t *socket = mount(edits, "/run/nvidia-persistenced/socket");
    assert_string_equal(json_string_value(json_array_get(json_object_get(socket, "options"), 0)),
                        "nosuid");
}

static void links_that_programs_ask_for_are_made_by_a_hook(void **state)
{
    struct world *world = *state;

    put_link(world, LIB "/libnvidia-ml.so.1", "libnvidia-ml.so.1.2.3");
    put_link(world, LIB "/libnvidia-ml.so", "libnvidia-ml.so.1");
    put_link(world, LIB "/libother.so.1", "libother.so.1.2.4");
    put_link(world, LIB "/libother.so", "libother.so.1");
    put(world, LIB "/libnvidia-allocator.so.1.2.3", "x");
    make(world);
    json_t *edits = json_object_get(world->gpu, "containerEdits");
    assert_string_equal(hook(world, edits, "create-symlinks"),
                        " --link ../libnvidia-allocator.so.1::/" LIB "/gbm/nvidia-drm_gbm.so"
                        " --link libcuda.so.1.2.3::/" LIB "/libcuda.so.1"
                        " --link libcuda.so.1::/" LIB "/libcuda.so"
                        " --link libnvidia-ml.so.1.2.3::/" LIB "/libnvidia-ml.so.1"
                        " --link libnvidia-ml.so.1::/" LIB "/libnvidia-ml.so");
    assert_string_equal(hook(world, edits, "update-ldcache"), " --folder /" LIB);
    assert_string_equal(hook(world, edits, "enable-cuda-compat"), " --host-driver-version=1.2.3");
}

static void hooks_can_be_left_out_and_called_by_another_name(void **state)
{
    static const char *disabled[] = { "enable-cuda-compat" }, *all[] = { "all" };
    struct world *world = *state;

    world->f.config.cdi_hook_path = "/usr/bin/nvidia-cdi-hook";
    world->f.config.cdi_disabled_hooks = disabled;
    world->f.config.n_cdi_disabled_hooks = 1;
    make(world);
    json_t *edits = json_object_get(world->gpu, "containerEdits");
    assert_null(hook(world, edits, "enable-cuda-compat"));
    json_t *first = json_array_get(json_object_get(edits, "hooks"), 0);
    json_t *args = json_object_get(first, "args");
    assert_string_equal(json_string_value(json_array_get(args, 0)), "nvidia-cdi-hook");
    assert_string_equal(json_string_value(json_array_get(args, 1)), "create-symlinks");

    world->f.config.cdi_disabled_hooks = all;
    make(world);
    assert_null(json_object_get(json_object_get(world->gpu, "containerEdits"), "hooks"));
}

/* spec/cdi §1.2: an old runtime refuses a number that is higher than it knows. */
static void the_version_is_the_lowest_that_the_content_needs(void **state)
{
    struct world *world = *state;

    make(world);
    assert_string_equal(text_of(world->gpu, "cdiVersion"), "0.3.0");
    world->f.config.device_id = DEVICE_ID_INDEX;
    make(world);
    assert_string_equal(text_of(world->gpu, "cdiVersion"), "0.5.0");
    assert_non_null(device(world->gpu, "0"));
    assert_non_null(device(world->gpu, "1:0"));
    world->f.config.device_id = DEVICE_ID_UUID;
    world->f.config.driver_root = world->f.config.dev_root = "/run/nvidia/driver";
    make(world);
    assert_string_equal(text_of(world->gpu, "cdiVersion"), "0.5.0");
}

static void a_driver_container_shows_in_host_paths_only(void **state)
{
    struct world *world = *state;

    world->f.config.driver_root = "/run/nvidia/driver";
    world->f.config.dev_root = "/elsewhere"; /* without effect where the driver root has a /dev */
    make(world);
    json_t *edits = json_object_get(world->gpu, "containerEdits");
    assert_string_equal(text_of(mount(edits, "/" LIB "/libcuda.so.1.2.3"), "hostPath"),
                        "/run/nvidia/driver/" LIB "/libcuda.so.1.2.3");
    assert_string_equal(text_of(node(edits, "/dev/nvidiactl"), "hostPath"),
                        "/run/nvidia/driver/dev/nvidiactl");
}

static void a_driver_root_without_dev_leaves_nodes_to_the_dev_root(void **state)
{
    struct world *world = *state;
    char driver[128];

    snprintf(driver, sizeof(driver), "%s/driver", world->dir);
    put(world, "driver/usr/lib64/libcuda.so.1.2.3", "x");
    put_link(world, "driver/lib64", "/usr/lib64"); /* absolute, and inside the root all the same */
    world->places.driver_root = driver;
    world->f.config.driver_root = "/opt/driver";
    world->f.config.dev_root = "/opt/dev";
    make(world);
    json_t *edits = json_object_get(world->gpu, "containerEdits");
    assert_string_equal(text_of(node(edits, "/dev/nvidiactl"), "hostPath"),
                        "/opt/dev/dev/nvidiactl");
    assert_string_equal(text_of(mount(edits, "/usr/lib64/libcuda.so.1.2.3"), "hostPath"),
                        "/opt/driver/usr/lib64/libcuda.so.1.2.3");
    assert_int_equal(json_array_size(json_object_get(edits, "mounts")), 1);
}

static void a_capability_node_that_is_not_there_yet_has_its_numbers(void **state)
{
    struct world *world = *state;
    struct mig_device *mig = &world->f.inventory->gpus[1].mig_devices[0];

    put(world, "proc/devices", "Character devices:\n  1 mem\n237 nvidia-caps\n\nBlock devices:\n");
    mig->gi_cap_path = "/dev/nvidia-caps/nvidia-cap66";
    mig->ci_cap_path = "/dev/nvidia-caps/nvidia-cap67";
    make(world);
    json_t *cap = node(device(world->gpu, "MIG-1-0"), "/dev/nvidia-caps/nvidia-cap66");
    assert_string_equal(text_of(cap, "type"), "c");
    assert_int_equal(json_integer_value(json_object_get(cap, "major")), 237);
    assert_int_equal(json_integer_value(json_object_get(cap, "minor")), 66);
}

static void display_nodes_of_a_gpu_come_with_their_links(void **state)
{
    struct world *world = *state;
    char path[128];

    world->f.inventory->gpus[0].bus_id = "0000:3b:00.0";
    snprintf(path, sizeof(path), "sys/bus/pci/devices/0000:3b:00.0/drm/card1/x");
    put(world, path, "");
    snprintf(path, sizeof(path), "sys/bus/pci/devices/0000:3b:00.0/drm/renderD129/x");
    put(world, path, "");
    put(world, "dev/dri/card1", "");
    put(world, "dev/dri/renderD129", "");
    make(world);
    json_t *edits = device(world->gpu, "GPU-0");
    assert_non_null(node(edits, "/dev/dri/card1"));
    assert_non_null(node(edits, "/dev/dri/renderD129"));
    assert_string_equal(hook(world, edits, "create-symlinks"),
                        " --link ../card1::/dev/dri/by-path/pci-0000:3b:00.0-card"
                        " --link ../renderD129::/dev/dri/by-path/pci-0000:3b:00.0-render");
}

static void other_classes_have_files_of_their_own_where_there_are_nodes(void **state)
{
    struct world *world = *state;

    world->f.config.gds_enabled = world->f.config.mofed_enabled = true;
    world->f.config.gdrcopy_enabled = true;
    world->f.config.imex_channel0 = world->f.inventory->imex_channel0 = true;
    put(world, "dev/nvidia-fs0", "");
    put(world, "dev/infiniband/uverbs0", "");
    put(world, "dev/infiniband/rdma_cm", "");
    put(world, "run/udev/x", "");
    make(world);
    assert_int_equal(world->set.n, 4);
    assert_int_equal(world->set.n_empty, 1);
    assert_string_equal(world->set.empty[0], "gdrcopy");

    auto_(json_decrefp) json_t *gds = parse(world, "gds"), *mofed = parse(world, "mofed"),
                               *imex = parse(world, "imex-channel");
    assert_non_null(node(device(gds, "all"), "/dev/nvidia-fs0"));
    assert_non_null(mount(device(gds, "all"), "/run/udev"));
    assert_null(mount(device(gds, "all"), "/etc/cufile.json")); /* not there */
    assert_non_null(node(device(mofed, "all"), "/dev/infiniband/uverbs0"));
    assert_non_null(node(device(mofed, "all"), "/dev/infiniband/rdma_cm"));
    assert_non_null(node(device(imex, "0"), "/dev/nvidia-caps-imex-channels/channel0"));
    assert_string_equal(text_of(imex, "cdiVersion"), "0.5.0");
    assert_null(json_object_get(mofed, "containerEdits"));
}

static void without_the_drivers_library_nothing_can_be_made(void **state)
{
    struct world *world = *state;

    world->f.inventory->driver_version = "9.9.9";
    assert_int_equal(try_make(world), -ENOENT);
    assert_string_equal(world->err.text, "unable to create cdi spec file: failed to get CDI spec: "
                                         "libcuda.so.9.9.9: not found");
    world->f.inventory->platform = PLATFORM_WSL;
    assert_int_equal(try_make(world), -ENOTSUP);
}

static void files_are_written_when_they_differ_and_only_then(void **state)
{
    struct world *world = *state;
    char dir[128], path[256];
    struct stat first, second, third;

    snprintf(dir, sizeof(dir), "%s/var/run/cdi", world->dir);
    snprintf(path, sizeof(path), "%s/" CDI_VENDOR "-gpu.json", dir);
    make(world);
    assert_int_equal(cdi_write(&world->set, dir, NULL), 0);
    assert_int_equal(stat(path, &first), 0);
    assert_int_equal(first.st_mode & 0777, 0644);
    assert_int_equal(cdi_write(&world->set, dir, NULL), 0);
    assert_int_equal(stat(path, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);

    world->f.config.device_id = DEVICE_ID_INDEX;
    make(world);
    assert_int_equal(cdi_write(&world->set, dir, NULL), 0);
    assert_int_equal(stat(path, &third), 0);
    assert_int_not_equal(second.st_ctim.tv_nsec, third.st_ctim.tv_nsec);
    assert_int_equal(third.st_size, (off_t)find_file(world, "gpu")->json.len);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(every_gpu_and_mig_device_has_a_name_and_its_nodes),
        CASE(a_gpu_in_mig_mode_that_is_offered_whole_has_a_name_too),
        CASE(a_container_gets_the_control_nodes_that_exist),
        CASE(libraries_of_this_driver_are_mounted_and_no_others),
        CASE(links_that_programs_ask_for_are_made_by_a_hook),
        CASE(hooks_can_be_left_out_and_called_by_another_name),
        CASE(the_version_is_the_lowest_that_the_content_needs),
        CASE(a_driver_container_shows_in_host_paths_only),
        CASE(a_driver_root_without_dev_leaves_nodes_to_the_dev_root),
        CASE(a_capability_node_that_is_not_there_yet_has_its_numbers),
        CASE(display_nodes_of_a_gpu_come_with_their_links),
        CASE(other_classes_have_files_of_their_own_where_there_are_nodes),
        CASE(without_the_drivers_library_nothing_can_be_made),
        CASE(files_are_written_when_they_differ_and_only_then),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
