/*
 * The observer on simulated GPUs that hang, get lost, come back, report XIDs and lose their driver.
 */
#include <dlfcn.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "sim_world.h"

#include "gpu/observe.h"

enum { LONG_MS = 8000 }; /* when a test gives up; nothing here takes that long */

struct watcher {
    struct world *world;
    struct loop *loop;
    struct observer *observer;
    struct inventory *now;
    unsigned n_inventories, n_failures, n_scans, n_xids, n_fatal;
    struct err failure;
};

static void on_inventory(void *user, struct inventory *inventory)
{
    struct watcher *watcher = user;

    inventory_unref(watcher->now);
    watcher->now = inventory_ref(inventory);
    watcher->n_inventories++;
}

static void on_failed(void *user, const struct err *err)
{
    struct watcher *watcher = user;

    watcher->failure = *err;
    watcher->n_failures++;
}

static void on_scanned(void *user)
{
    ((struct watcher *)user)->n_scans++;
}

static void on_notice(void *user, const struct observer_notice *notice)
{
    struct watcher *watcher = user;

    watcher->n_xids += notice->kind == NOTICE_XID;
    watcher->n_fatal += notice->fatal;
}

static const struct observer_calls calls = {
    .inventory = on_inventory,
    .failed = on_failed,
    .scanned = on_scanned,
    .notice = on_notice,
};

/* Short times, so that a test is short; no scan that nobody asked for. */
static const struct observer_options usual = {
    .interval_ms = OBSERVER_NEVER,
    .deadline_ms = 300,
    .patience_ms = 60,
    .scan = { .links = true },
    .watch_events = true,
};

static void start(struct watcher *watcher, const char *spec, const struct observer_options *options)
{
    struct err err = {};

    *watcher = (struct watcher){ .world = world_new(spec) };
    if (loop_new(&watcher->loop, &err) < 0)
        fail_msg("%s", err.text);
    if (options && observer_start(watcher->loop, watcher->world->nvml, options, &calls, watcher,
                                  &watcher->observer, &err) < 0)
        fail_msg("%s", err.text);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void raise_xid(struct watcher *watcher, uint32_t gpu, uint32_t xid, uint32_t gi, uint32_t ci)
{
    struct err err = {};

    sim_state_lock(watcher->world->sim);
    int r = sim_xid(watcher->world->sim, gpu, xid, gi, ci, &err);
    sim_state_unlock(watcher->world->sim);
    if (r < 0)
        fail_msg("%s", err.text);
}

static bool nvml_is_loaded(void)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_LAZY | RTLD_NOLOAD);

    if (library)
        dlclose(library);
    return library != NULL;
}

/* The thread that waits for events is left to itself and goes when its wait is over; the library
 * goes with it. An event ends the wait, so that the next test begins with a library of its own. */
static void stop(struct watcher *watcher)
{
    uint64_t end = now_ms() + LONG_MS;

    observer_stop(watcher->observer);
    inventory_unref(watcher->now);
    loop_free(watcher->loop);
    nvml_unref(steal(watcher->world->nvml));
    while (nvml_is_loaded()) {
        assert_true(now_ms() < end);
        raise_xid(watcher, 0, 31, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
        usleep(1000);
    }
    world_free(watcher->world);
}

/* What a reader of a failure wants to know. */
static void print_health(const struct watcher *watcher)
{
    for (size_t i = 0; watcher->now && i < watcher->now->n_gpus; i++)
        print_message("GPU %u: %s\n", watcher->now->gpus[i].index,
                      watcher->now->gpus[i].healthy ? "healthy"
                                                    : watcher->now->gpus[i].unhealthy_reason);
    for (size_t i = 0; watcher->now && i < watcher->now->n_problems; i++)
        print_message("GPU %u: %s\n", watcher->now->problems[i].index,
                      watcher->now->problems[i].text);
}

/* Runs the loop until the condition holds. */
#define UNTIL(watcher, condition)                                                                  \
    do {                                                                                           \
        uint64_t end_ = now_ms() + LONG_MS;                                                        \
        while (!(condition)) {                                                                     \
            if (now_ms() > end_) {                                                                 \
                print_health(watcher);                                                             \
                fail_msg("never: %s", #condition);                                                 \
            }                                                                                      \
            loop_wait((watcher)->loop, 20);                                                        \
        }                                                                                          \
    } while (0)

static void scan_again(struct watcher *watcher)
{
    unsigned before = watcher->n_scans;

    observer_rescan(watcher->observer);
    UNTIL(watcher, watcher->n_scans > before);
}

static void locked(struct watcher *watcher, void (*change)(struct sim_state *sim, uint32_t gpu),
                   uint32_t gpu)
{
    sim_state_lock(watcher->world->sim);
    change(watcher->world->sim, gpu);
    sim_state_changed(watcher->world->sim);
    sim_state_unlock(watcher->world->sim);
}

static void hang(struct sim_state *sim, uint32_t gpu)
{
    sim->gpus[gpu].hung = true;
}

static void release(struct sim_state *sim, uint32_t gpu)
{
    sim->gpus[gpu].hung = false;
}

/* Without the XID that mostly comes with it, which would outlast the loss. */
static void lose(struct sim_state *sim, uint32_t gpu)
{
    sim->gpus[gpu].lost = true;
}

static void unload_driver(struct sim_state *sim, uint32_t gpu)
{
    sim->driver_loaded = false;
}

static void load_driver(struct sim_state *sim, uint32_t gpu)
{
    sim->driver_loaded = true;
}

static const struct gpu *gpu_at(const struct watcher *watcher, uint32_t index)
{
    return inventory_gpu_by_uuid(watcher->now, watcher->world->sim->gpus[index].uuid);
}

/* ---- healthy nodes ---- */

static void the_first_inventory_is_complete(void **state)
{
    struct watcher watcher;

    start(&watcher, "8xh100-80gb", &usual);
    UNTIL(&watcher, watcher.n_scans == 1);
    assert_int_equal(watcher.n_inventories, 1);
    assert_int_equal(watcher.now->n_gpus, 8);
    for (uint32_t i = 0; i < 8; i++) {
        assert_true(watcher.now->gpus[i].healthy);
        for (uint32_t j = 0; j < 8; j++)
            assert_true(i == j || watcher.now->gpus[i].links[j].known);
    }
    assert_ptr_equal(observer_inventory(watcher.observer), watcher.now);
    stop(&watcher);
}

static void an_inventory_is_the_same_as_a_scan_at_once(void **state)
{
    static const struct sim_mig_want wants[] = { { "1g.10gb", 2 }, { "3g.40gb", 1 } };
    auto_(inventory_unrefp) struct inventory *at_once = NULL;
    struct watcher watcher;

    start(&watcher, "4xh100-80gb", NULL);
    world_partition(watcher.world, 2, wants, ARRAY_LEN(wants));
    assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                    &watcher.observer, NULL),
                     0);
    UNTIL(&watcher, watcher.n_scans == 1);
    assert_int_equal(gpu_scan(watcher.world->nvml, &usual.scan, &at_once, NULL), 0);
    assert_true(inventory_equal(watcher.now, at_once));
    stop(&watcher);
}

static void nothing_new_is_not_told(void **state)
{
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", &usual);
    for (unsigned i = 0; i < 5; i++)
        scan_again(&watcher);
    assert_int_equal(watcher.n_inventories, 1);
    stop(&watcher);
}

static void scans_repeat_by_themselves(void **state)
{
    struct observer_options often = usual;
    struct watcher watcher;

    often.interval_ms = 10;
    start(&watcher, "2xh100-80gb", &often);
    UNTIL(&watcher, watcher.n_scans >= 5);
    assert_int_equal(watcher.n_inventories, 1);
    stop(&watcher);
}

static void a_new_partition_is_told(void **state)
{
    static const struct sim_mig_want wants[] = { { "1g.10gb", 7 } };
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", &usual);
    UNTIL(&watcher, watcher.n_scans == 1);
    world_partition(watcher.world, 1, wants, 1);
    scan_again(&watcher);
    assert_int_equal(watcher.n_inventories, 2);
    assert_int_equal(gpu_at(&watcher, 1)->n_mig_devices, 7);
    stop(&watcher);
}

/* ---- GPUs that hang ---- */

static void a_gpu_that_hangs_from_the_start_delays_nobody(void **state)
{
    struct watcher watcher;

    start(&watcher, "4xh100-80gb", NULL);
    locked(&watcher, hang, 2);
    uint64_t before = now_ms();
    assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                    &watcher.observer, NULL),
                     0);
    UNTIL(&watcher, watcher.n_inventories == 1);
    assert_true(now_ms() - before < usual.deadline_ms);
    assert_int_equal(watcher.now->n_gpus, 3);

    UNTIL(&watcher, watcher.n_scans == 1);
    assert_int_equal(watcher.now->n_problems, 1);
    assert_int_equal(watcher.now->problems[0].index, 2);
    assert_string_equal(watcher.now->problems[0].text, "NVML has not answered for 300 ms");

    locked(&watcher, release, 2);
    UNTIL(&watcher, watcher.now->n_gpus == 4);
    assert_true(gpu_at(&watcher, 2)->healthy);
    UNTIL(&watcher, gpu_at(&watcher, 2)->links[0].known);
    stop(&watcher);
}

static void a_gpu_that_hangs_later_keeps_what_was_known(void **state)
{
    struct watcher watcher;

    start(&watcher, "3xh100-80gb", &usual);
    UNTIL(&watcher, watcher.n_scans == 1);
    auto_(inventory_unrefp) struct inventory *well = inventory_ref(watcher.now);

    locked(&watcher, hang, 0);
    scan_again(&watcher);
    const struct gpu *gpu = gpu_at(&watcher, 0);
    assert_false(gpu->healthy);
    assert_string_equal(gpu->unhealthy_reason, "NVML has not answered for 300 ms");
    assert_string_equal(gpu->name, well->gpus[0].name);
    assert_int_equal(gpu->memory_bytes.value, well->gpus[0].memory_bytes.value);
    assert_int_equal(gpu->n_mig_profiles, well->gpus[0].n_mig_profiles);
    assert_true(gpu_at(&watcher, 1)->healthy && gpu_at(&watcher, 2)->healthy);

    /* Scans while it hangs are short, and say the same. */
    unsigned told = watcher.n_inventories;
    uint64_t before = now_ms();
    scan_again(&watcher);
    assert_true(now_ms() - before < usual.deadline_ms);
    assert_int_equal(watcher.n_inventories, told);

    locked(&watcher, release, 0);
    UNTIL(&watcher, inventory_equal(watcher.now, well));
    stop(&watcher);
}

static void an_observer_can_be_stopped_while_a_gpu_hangs(void **state)
{
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", NULL);
    locked(&watcher, hang, 1);
    assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                    &watcher.observer, NULL),
                     0);
    UNTIL(&watcher, watcher.n_inventories == 1);
    observer_stop(steal(watcher.observer));
    locked(&watcher, release, 1); /* its thread comes home to an empty house */
    stop(&watcher);
}

static void a_look_in_passing_survives_a_gpu_that_hangs(void **state)
{
    auto_(inventory_unrefp) struct inventory *inventory = NULL;
    struct watcher watcher;

    start(&watcher, "3xh100-80gb", NULL);
    locked(&watcher, hang, 1);
    assert_int_equal(observe_once(watcher.world->nvml, &usual, &inventory, NULL), 0);
    assert_int_equal(inventory->n_gpus, 2);
    assert_int_equal(inventory->n_problems, 1);
    locked(&watcher, release, 1);
    stop(&watcher);
}

/* ---- GPUs that get lost ---- */

static void a_lost_gpu_keeps_what_was_known_and_can_come_back(void **state)
{
    struct watcher watcher;

    start(&watcher, "3xh100-80gb", &usual);
    UNTIL(&watcher, watcher.n_scans == 1);
    auto_(inventory_unrefp) struct inventory *well = inventory_ref(watcher.now);

    locked(&watcher, lose, 1);
    scan_again(&watcher);
    assert_int_equal(watcher.now->n_gpus, 3);
    const struct gpu *gpu = gpu_at(&watcher, 1);
    assert_false(gpu->healthy);
    assert_non_null(strstr(gpu->unhealthy_reason, "GPU is lost"));
    assert_string_equal(gpu->name, well->gpus[1].name);
    assert_true(gpu_at(&watcher, 0)->healthy);

    locked(&watcher, sim_return, 1);
    scan_again(&watcher);
    assert_true(gpu_at(&watcher, 1)->healthy);
    assert_true(inventory_equal(watcher.now, well));
    stop(&watcher);
}

/* ---- drivers that come and go ---- */

static void no_driver_is_a_failure_in_nvmls_own_words(void **state)
{
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", NULL);
    locked(&watcher, unload_driver, 0);
    assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                    &watcher.observer, NULL),
                     0);
    UNTIL(&watcher, watcher.n_scans == 1);
    assert_int_equal(watcher.n_inventories, 0);
    assert_int_equal(watcher.n_failures, 1);
    assert_string_equal(watcher.failure.text, "Driver Not Loaded");
    assert_int_equal(watcher.failure.code, ENXIO);

    locked(&watcher, load_driver, 0);
    scan_again(&watcher);
    assert_int_equal(watcher.now->n_gpus, 2);
    stop(&watcher);
}

static void a_driver_that_goes_makes_all_gpus_unhealthy_until_it_is_back(void **state)
{
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", &usual);
    UNTIL(&watcher, watcher.n_scans == 1);
    locked(&watcher, unload_driver, 0);
    scan_again(&watcher);
    assert_int_equal(watcher.now->n_gpus, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_false(gpu_at(&watcher, i)->healthy);
        assert_string_equal(gpu_at(&watcher, i)->unhealthy_reason, "Driver Not Loaded");
    }
    assert_true(watcher.n_failures >= 1);

    locked(&watcher, load_driver, 0);
    UNTIL(&watcher, (scan_again(&watcher), gpu_at(&watcher, 0)->healthy));
    assert_true(gpu_at(&watcher, 1)->healthy);
    stop(&watcher);
}

static void without_a_library_the_node_is_empty(void **state)
{
    struct watcher watcher = {};

    assert_int_equal(loop_new(&watcher.loop, NULL), 0);
    assert_int_equal(
        observer_start(watcher.loop, NULL, &usual, &calls, &watcher, &watcher.observer, NULL), 0);
    UNTIL(&watcher, watcher.n_scans == 1);
    assert_int_equal(watcher.now->platform, PLATFORM_NONE);
    assert_int_equal(watcher.now->n_gpus, 0);
    observer_stop(watcher.observer);
    inventory_unref(watcher.now);
    loop_free(watcher.loop);
}

/* ---- events ---- */

/* Until an error that nobody minds is seen: events are watched from here on. */
static void until_watching(struct watcher *watcher, uint32_t gpu)
{
    unsigned seen = watcher->n_xids;

    UNTIL(watcher, (raise_xid(watcher, gpu, 31, SIM_NO_INSTANCE, SIM_NO_INSTANCE),
                    loop_wait(watcher->loop, 20), watcher->n_xids > seen));
}

static void a_fatal_xid_makes_its_gpu_unhealthy_until_health_is_cleared(void **state)
{
    struct watcher watcher;

    start(&watcher, "3xh100-80gb", &usual);
    until_watching(&watcher, 1);
    assert_true(gpu_at(&watcher, 1)->healthy);

    raise_xid(&watcher, 1, 48, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    UNTIL(&watcher, watcher.n_fatal == 1);
    assert_false(gpu_at(&watcher, 1)->healthy);
    assert_string_equal(gpu_at(&watcher, 1)->unhealthy_reason, "XID 48");
    assert_true(gpu_at(&watcher, 0)->healthy && gpu_at(&watcher, 2)->healthy);

    scan_again(&watcher);
    assert_false(gpu_at(&watcher, 1)->healthy);
    observer_clear_health(watcher.observer);
    assert_true(gpu_at(&watcher, 1)->healthy);
    stop(&watcher);
}

static void an_xid_of_an_instance_spares_its_neighbours(void **state)
{
    static const struct sim_mig_want wants[] = { { "1g.10gb", 3 } };
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", NULL);
    world_partition(watcher.world, 0, wants, 1);
    assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                    &watcher.observer, NULL),
                     0);
    until_watching(&watcher, 0);
    const struct mig_device *second = &gpu_at(&watcher, 0)->mig_devices[1];
    raise_xid(&watcher, 0, 94, second->gi_id, second->ci_id);
    UNTIL(&watcher, watcher.n_fatal == 1);
    const struct gpu *gpu = gpu_at(&watcher, 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(gpu->mig_devices[i].healthy && gpu->healthy, i != 1);
    stop(&watcher);
}

static void an_xid_of_the_gpu_concerns_every_instance(void **state)
{
    static const struct sim_mig_want wants[] = { { "1g.10gb", 3 } };
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", NULL);
    world_partition(watcher.world, 0, wants, 1);
    assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                    &watcher.observer, NULL),
                     0);
    until_watching(&watcher, 0);
    raise_xid(&watcher, 0, 95, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    UNTIL(&watcher, watcher.n_fatal == 1);
    assert_false(gpu_at(&watcher, 0)->healthy);
    assert_true(gpu_at(&watcher, 1)->healthy);
    stop(&watcher);
}

static void a_filtered_xid_is_told_and_does_nothing(void **state)
{
    struct observer_options options = usual;
    struct watcher watcher;

    xid_filter_parse("48", NULL, &options.xids);
    start(&watcher, "1xh100-80gb", &options);
    until_watching(&watcher, 0);
    unsigned seen = watcher.n_xids;
    raise_xid(&watcher, 0, 48, SIM_NO_INSTANCE, SIM_NO_INSTANCE);
    UNTIL(&watcher, watcher.n_xids > seen);
    assert_int_equal(watcher.n_fatal, 0);
    assert_true(gpu_at(&watcher, 0)->healthy);
    stop(&watcher);
}

static void a_new_partition_is_noticed_by_its_event(void **state)
{
    static const struct sim_mig_want wants[] = { { "1g.10gb", 7 } };
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", &usual);
    until_watching(&watcher, 0);
    world_partition(watcher.world, 0, wants, 1);
    UNTIL(&watcher, gpu_at(&watcher, 0)->n_mig_devices == 7);
    stop(&watcher);
}

static void while_the_wait_for_events_fails_nothing_is_healthy(void **state)
{
    struct watcher watcher;

    start(&watcher, "2xh100-80gb", &usual);
    until_watching(&watcher, 0);
    world_fault(watcher.world, "nvmlEventSetWait*", -1, 0, 0, 999);
    raise_xid(&watcher, 0, 31, SIM_NO_INSTANCE,
              SIM_NO_INSTANCE); /* ends the wait that is under way */
    UNTIL(&watcher, !gpu_at(&watcher, 0)->healthy);
    assert_string_equal(gpu_at(&watcher, 1)->unhealthy_reason,
                        "cannot wait for events: Unknown Error");
    world_no_faults(watcher.world);
    UNTIL(&watcher, gpu_at(&watcher, 0)->healthy && gpu_at(&watcher, 1)->healthy);
    stop(&watcher);
}

static void a_gpu_that_cannot_be_watched_is_unhealthy_unless_it_has_no_events(void **state)
{
    static const struct {
        uint32_t code;
        bool healthy;
    } cases[] = { { 999, false }, { 3, true } };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct watcher watcher;
        start(&watcher, "2xh100-80gb", NULL);
        world_fault(watcher.world, "nvmlDeviceRegisterEvents", 1, 0, 0, cases[i].code);
        assert_int_equal(observer_start(watcher.loop, watcher.world->nvml, &usual, &calls, &watcher,
                                        &watcher.observer, NULL),
                         0);
        until_watching(&watcher, 0);
        assert_int_equal(gpu_at(&watcher, 1)->healthy, cases[i].healthy);
        assert_true(gpu_at(&watcher, 0)->healthy);
        stop(&watcher);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_inventory_is_complete),
        cmocka_unit_test(an_inventory_is_the_same_as_a_scan_at_once),
        cmocka_unit_test(nothing_new_is_not_told),
        cmocka_unit_test(scans_repeat_by_themselves),
        cmocka_unit_test(a_new_partition_is_told),
        cmocka_unit_test(a_gpu_that_hangs_from_the_start_delays_nobody),
        cmocka_unit_test(a_gpu_that_hangs_later_keeps_what_was_known),
        cmocka_unit_test(an_observer_can_be_stopped_while_a_gpu_hangs),
        cmocka_unit_test(a_look_in_passing_survives_a_gpu_that_hangs),
        cmocka_unit_test(a_lost_gpu_keeps_what_was_known_and_can_come_back),
        cmocka_unit_test(no_driver_is_a_failure_in_nvmls_own_words),
        cmocka_unit_test(a_driver_that_goes_makes_all_gpus_unhealthy_until_it_is_back),
        cmocka_unit_test(without_a_library_the_node_is_empty),
        cmocka_unit_test(a_fatal_xid_makes_its_gpu_unhealthy_until_health_is_cleared),
        cmocka_unit_test(an_xid_of_an_instance_spares_its_neighbours),
        cmocka_unit_test(an_xid_of_the_gpu_concerns_every_instance),
        cmocka_unit_test(a_filtered_xid_is_told_and_does_nothing),
        cmocka_unit_test(a_new_partition_is_noticed_by_its_event),
        cmocka_unit_test(while_the_wait_for_events_fails_nothing_is_healthy),
        cmocka_unit_test(a_gpu_that_cannot_be_watched_is_unhealthy_unless_it_has_no_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
