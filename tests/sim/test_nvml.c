/*
 * The door to NVML: which library it opens, what it makes of an old one and of one that is none.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "sim_world.h"

#include "gpu/nvml_table.h"
#include "gpu/scan.h"

#define OLD_DIR "usr/lib/x86_64-linux-gnu"

/* A driver root whose library is a link to `target`. */
static void make_root(char dir[static 32], const char *folder, const char *target)
{
    char path[PATH_MAX];

    strcpy(dir, "/tmp/nvml-root-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/%s", dir, folder);
    assert_int_equal(file_make_dirs(path, 0755, NULL), 0);
    strcat(path, "/libnvidia-ml.so.1");
    assert_int_equal(symlink(target, path), 0);
}

static const char *old_nvml(void)
{
    const char *path = getenv("TRANCHE_OLD_NVML");

    assert_non_null(path);
    return path;
}

static void the_library_below_a_driver_root_comes_first(void **state)
{
    static const char *const folders[] = {
        "usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu",
        "lib64",     "lib/x86_64-linux-gnu",     "lib/aarch64-linux-gnu",
    };
    char dir[32], real[PATH_MAX];

    assert_non_null(realpath(old_nvml(), real));
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        auto_(nvml_unrefp) struct nvml *nvml = NULL;
        make_root(dir, folders[i], old_nvml());
        assert_int_equal(nvml_open(dir, &nvml, NULL), 0);
        assert_string_equal(nvml_path(nvml), real);
        file_remove_tree(dir, NULL);
    }
}

static void without_one_there_the_loader_is_asked(void **state)
{
    static const char *const roots[] = { NULL, "", "/nonexistent" };

    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        auto_(nvml_unrefp) struct nvml *nvml = NULL;
        assert_int_equal(nvml_open(roots[i], &nvml, NULL), 0);
        assert_non_null(strstr(nvml_path(nvml), "libnvidia-ml.so"));
    }
}

static void a_link_to_nowhere_is_passed_over(void **state)
{
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    char dir[32];

    make_root(dir, OLD_DIR, "/nonexistent/libnvidia-ml.so.570");
    assert_int_equal(nvml_open(dir, &nvml, NULL), 0);
    assert_null(strstr(nvml_path(nvml), dir));
    file_remove_tree(dir, NULL);
}

static void another_library_is_refused_by_name(void **state)
{
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    struct err err = {};
    char dir[32];
    Dl_info libc;

    assert_true(dladdr((void *)(uintptr_t)getpid, &libc) != 0);
    make_root(dir, OLD_DIR, libc.dli_fname);
    assert_int_equal(nvml_open(dir, &nvml, &err), -ELIBBAD);
    assert_null(nvml);
    assert_non_null(strstr(err.text, "has no nvmlInit_v2: it is not NVIDIA's management library"));
    file_remove_tree(dir, NULL);
}

static void what_an_old_library_lacks_is_not_supported(void **state)
{
    static const struct scan_options options = { .links = true };
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    auto_(inventory_unrefp) struct inventory *inventory = NULL;
    char dir[32];

    make_root(dir, OLD_DIR, old_nvml());
    assert_int_equal(nvml_open(dir, &nvml, NULL), 0);
    uint32_t current = 7, pending = 7;
    assert_int_equal(nvml->mig_mode(NULL, &current, &pending), NVML_NOT_SUPPORTED);
    assert_int_equal(current, 7);

    assert_int_equal(gpu_scan(nvml, &options, &inventory, NULL), 0);
    assert_string_equal(inventory->driver_version, "390.157");
    assert_false(inventory->cuda_version.known);
    assert_int_equal(inventory->n_gpus, 1);
    const struct gpu *gpu = &inventory->gpus[0];
    assert_true(gpu->healthy);
    assert_string_equal(gpu->name, "Tesla K80");
    assert_int_equal(gpu->minor, 3);
    assert_string_equal(gpu->bus_id, "0000:04:00.0"); /* by the older entry point */
    assert_false(gpu->memory_bytes.known);
    assert_false(gpu->mig_capable);
    assert_int_equal(gpu->n_mig_profiles, 0);
    file_remove_tree(dir, NULL);
}

static void codes_have_words_also_where_the_library_has_none(void **state)
{
    static const struct {
        nvmlReturn_t code;
        const char *name;
        int number;
    } cases[] = {
        { 9, "ERROR_DRIVER_NOT_LOADED", ENXIO },
        { 12, "ERROR_LIBRARY_NOT_FOUND", ENOENT },
        { 15, "ERROR_GPU_IS_LOST", ENODEV },
        { 19, "ERROR_IN_USE", EBUSY },
        { 23, "ERROR_INSUFFICIENT_RESOURCES", ENOSPC },
        { 999, "ERROR_UNKNOWN", EIO },
        { 12345, "ERROR_UNKNOWN", EIO },
    };
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    struct err err = {};
    char dir[32];

    make_root(dir, OLD_DIR, old_nvml());
    assert_int_equal(nvml_open(dir, &nvml, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_string_equal(nvml_words(nvml, cases[i].code), cases[i].name);
        assert_int_equal(nvml_errno(cases[i].code), cases[i].number);
    }
    for (nvmlReturn_t code = 0; code < 1000; code++)
        assert_int_not_equal(nvml_errno(code), ENOMEM);
    assert_int_equal(nvml_fail(nvml, 15, &err, "cannot read the name of GPU %d", 3), -ENODEV);
    assert_string_equal(err.text, "cannot read the name of GPU 3: ERROR_GPU_IS_LOST");
    file_remove_tree(dir, NULL);
}

static void starts_and_stops_are_counted(void **state)
{
    struct world *world = world_new("2xt4");
    struct nvml *nvml = world->nvml;
    uint32_t count = 0;

    assert_int_equal(nvml->device_count(&count), NVML_UNINITIALIZED);
    assert_int_equal(nvml_init(nvml, NULL), 0);
    assert_int_equal(nvml_init(nvml, NULL), 0);
    nvml_shutdown(nvml);
    assert_int_equal(nvml->device_count(&count), NVML_SUCCESS);
    assert_int_equal(count, 2);
    nvml_shutdown(nvml);
    assert_int_equal(nvml->device_count(&count), NVML_UNINITIALIZED);
    world_free(world);
}

static void a_start_that_fails_counts_for_nothing(void **state)
{
    struct world *world = world_new("t4");
    struct err err = {};

    world->sim->driver_loaded = false;
    assert_int_equal(nvml_init(world->nvml, &err), -ENXIO);
    assert_string_equal(err.text, "Driver Not Loaded");
    world->sim->driver_loaded = true;
    assert_int_equal(nvml_init(world->nvml, &err), 0);
    nvml_shutdown(world->nvml);
    world_free(world);
}

static void an_open_start_keeps_the_library(void **state)
{
    struct world *world = world_new("t4");
    struct nvml *nvml = steal(world->nvml);
    uint32_t count = 0;

    assert_int_equal(nvml_init(nvml, NULL), 0);
    nvml_unref(nvml);
    assert_int_equal(nvml->device_count(&count), NVML_SUCCESS);
    nvml_shutdown(nvml);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_library_below_a_driver_root_comes_first),
        cmocka_unit_test(without_one_there_the_loader_is_asked),
        cmocka_unit_test(a_link_to_nowhere_is_passed_over),
        cmocka_unit_test(another_library_is_refused_by_name),
        cmocka_unit_test(what_an_old_library_lacks_is_not_supported),
        cmocka_unit_test(codes_have_words_also_where_the_library_has_none),
        cmocka_unit_test(starts_and_stops_are_counted),
        cmocka_unit_test(a_start_that_fails_counts_for_nothing),
        cmocka_unit_test(an_open_start_keeps_the_library),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
