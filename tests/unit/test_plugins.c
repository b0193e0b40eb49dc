/* View and plugins together: what the kubelet sees while one set of resources follows another. */
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

#include "agent/plugins.h"
#include "agent/view.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "fixture.h"
#include "support/scripted_kubelet.h"

#define GPU    "nvidia.com/gpu"
#define SHARED "nvidia.com/gpu.shared"
#define MIG_1G "nvidia.com/mig-1g.10gb"

struct world {
    struct loop *loop;
    char dir[64], socket[128];
    struct scripted_kubelet kubelet;
    struct plugins *plugins;
    unsigned n_changes;
    bool stopped;
};

static void on_changed(void *user)
{
    ((struct world *)user)->n_changes++;
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    log_set_level(LOG_ERROR);
    strcpy(world->dir, "/tmp/tranche-plugins-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    snprintf(world->socket, sizeof(world->socket), "%s/kubelet.sock", world->dir);
    assert_int_equal(loop_new(&world->loop, NULL), 0);
    const struct plugins_options options = { .dir = world->dir,
                                             .kubelet_socket = world->socket,
                                             .mps_root = world->dir,
                                             .changed = on_changed,
                                             .user = world };
    assert_int_equal(plugins_new(world->loop, &options, &world->plugins, NULL), 0);
    scripted_kubelet_start(&world->kubelet, world->loop, world->dir);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    plugins_free(world->plugins);
    scripted_kubelet_stop(&world->kubelet, false);
    loop_free(world->loop);
    file_remove_tree(world->dir, NULL);
    free(world);
    return 0;
}

/* The config is the fixture's, which outlives the view. */
static struct view *make_view(struct fixture *f)
{
    struct loaded *loaded = mem_alloc(sizeof(*loaded));
    struct view *view = NULL;
    struct err err = {};

    *loaded = (struct loaded){ .refs = 1, .arena = ARENA_MAX(KIB(64)), .config = &f->config };
    if (view_new(loaded, f->inventory, &view, &err) < 0)
        fail_msg("%s", err.text);
    loaded_unref(loaded);
    return view;
}

static void show(struct world *world, struct fixture *f)
{
    plugins_show(world->plugins, make_view(f));
}

static bool is_settled(void *user)
{
    return plugins_settled(((struct world *)user)->plugins);
}

static bool has_ended(void *user)
{
    return ((struct scripted_plugin *)user)->ended;
}

static void each_resource_has_a_server_of_its_own(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100 h100:7x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    show(world, &f);
    assert_false(plugins_settled(world->plugins));
    scripted_kubelet_expect(&world->kubelet, GPU, 1, 1);
    scripted_kubelet_expect(&world->kubelet, MIG_1G, 7, 7);
    assert_true(scripted_wait(world->loop, is_settled, world));
    assert_string_equal(plugins_state(world->plugins, MIG_1G), "registered");
    assert_null(plugins_state(world->plugins, SHARED));
    assert_true(world->n_changes > 0);
}

static void what_stays_never_blinks(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture before = {}, after = {};

    fixture_init(&before, "h100 h100:7x1g.10gb");
    before.config.mig_strategy = MIG_STRATEGY_MIXED;
    show(world, &before);
    struct scripted_plugin *gpu = scripted_kubelet_expect(&world->kubelet, GPU, 1, 1);
    struct scripted_plugin *mig = scripted_kubelet_expect(&world->kubelet, MIG_1G, 7, 7);

    fixture_init(&after, "h100 h100");
    after.config.mig_strategy = MIG_STRATEGY_MIXED;
    show(world, &after);
    scripted_kubelet_expect(&world->kubelet, GPU, 2, 2);
    assert_true(scripted_wait(world->loop, has_ended, mig));
    assert_int_equal(mig->ended_with, GRPC_OK);
    assert_false(gpu->ended);
    assert_int_equal(world->kubelet.n_asked, 2);
    assert_null(plugins_state(world->plugins, MIG_1G));
}

static void the_same_again_sends_nothing(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100 h100");
    show(world, &f);
    struct scripted_plugin *gpu = scripted_kubelet_expect(&world->kubelet, GPU, 2, 2);
    show(world, &f);
    plugins_refresh(world->plugins);
    loop_wait(world->loop, 50);
    assert_int_equal(gpu->n_lists, 1);
    assert_int_equal(world->kubelet.n_asked, 1);
}

static void a_resource_that_returns_while_it_leaves_is_served_anew(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture some = {}, none = {};

    fixture_init(&some, "h100");
    fixture_init(&none, "");
    show(world, &some);
    struct scripted_plugin *first = scripted_kubelet_expect(&world->kubelet, GPU, 1, 1);
    for (int i = 0; i < 5; i++) {
        show(world, &none);
        show(world, &some);
    }
    assert_true(scripted_wait(world->loop, has_ended, first));
    while (scripted_kubelet_plugin(&world->kubelet, GPU) == first)
        loop_wait(world->loop, 50);
    scripted_kubelet_expect(&world->kubelet, GPU, 1, 1);
    assert_true(scripted_wait(world->loop, is_settled, world));
    loop_wait(world->loop, 50);
    assert_false(scripted_kubelet_plugin(&world->kubelet, GPU)->ended);
    char path[160];
    snprintf(path, sizeof(path), "%s/nvidia-gpu.sock", world->dir);
    assert_int_equal(access(path, F_OK), 0);
}

static void an_unhealthy_gpu_shows_in_all_its_replicas(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {}, ill = {};

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, GPU, 3);
    show(world, &f);
    scripted_kubelet_expect(&world->kubelet, GPU, 6, 6);
    fixture_init(&ill, "t4 t4");
    fixture_share(&ill, SHARING_TIME_SLICING, GPU, 3);
    ill.inventory->gpus[1].healthy = false;
    show(world, &ill);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&world->kubelet, GPU, 6, 3);
    for (size_t i = 0; i < 6; i++) {
        bool second = strncmp(plugin->list.items[i].id, "GPU-1::", 7) == 0;

        assert_string_equal(plugin->list.items[i].health,
                            second ? PLUGIN_UNHEALTHY : PLUGIN_HEALTHY);
    }
}

static void an_outdated_view_shows_what_is_gone_as_unhealthy(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {}, now = {};

    fixture_init(&f, "h100:7x1g.10gb h100:7x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_SINGLE;
    show(world, &f);
    scripted_kubelet_expect(&world->kubelet, GPU, 14, 14);

    fixture_init(&now, "h100:7x1g.10gb h100:3x1g.10gb");
    view_outdate(plugins_view(world->plugins), now.inventory);
    plugins_refresh(world->plugins);
    scripted_kubelet_expect(&world->kubelet, GPU, 14, 10);

    auto_(fixture_done) struct fixture off = {};
    fixture_init(&off, "h100:7x1g.10gb h100");
    view_outdate(plugins_view(world->plugins), off.inventory);
    plugins_refresh(world->plugins);
    scripted_kubelet_expect(&world->kubelet, GPU, 14, 7);
    view_outdate(plugins_view(world->plugins), NULL);
    plugins_refresh(world->plugins);
    scripted_kubelet_expect(&world->kubelet, GPU, 14, 14);
}

static void allocation_and_preference_answer_from_what_is_shown(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {}, more = {};
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(4));
    const char *message = "", *available[] = { "GPU-0::0", "GPU-0::1", "GPU-1::1" };
    struct prefer_request item = { .available = available, .n_available = 3, .size = 2 };
    const struct preferred_request request = { 1, &item };
    struct preferred_response preferred;
    struct span answer;

    fixture_init(&f, "t4 t4");
    fixture_share(&f, SHARING_TIME_SLICING, GPU, 2);
    show(world, &f);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&world->kubelet, GPU, 4, 4);
    preferred_request_encode(&request, &bytes);
    assert_int_equal(
        scripted_call(plugin, PLUGIN_PATH_PREFER, buf_span(&bytes), &arena, &answer, NULL),
        GRPC_OK);
    assert_int_equal(preferred_response_decode(answer, &arena, &preferred, NULL), 0);
    assert_int_equal(preferred.items[0].n, 2);
    assert_int_not_equal(preferred.items[0].items[0][4], preferred.items[0].items[1][4]);
    assert_null(scripted_allocate(plugin, (const char *[]){ "GPU-0::2" }, 1, &arena, &message));
    assert_non_null(strstr(message, "unknown device: GPU-0::2"));

    fixture_init(&more, "t4 t4");
    fixture_share(&more, SHARING_TIME_SLICING, GPU, 3);
    show(world, &more);
    assert_non_null(scripted_allocate(plugin, (const char *[]){ "GPU-0::2" }, 1, &arena, &message));
}

static void cdi_annotations_have_a_new_key_each_time(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {};
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const char *message, *id[] = { "GPU-0" };

    fixture_init(&f, "t4");
    f.config.device_list = LIST_CDI_ANNOTATIONS;
    show(world, &f);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&world->kubelet, GPU, 1, 1);
    const struct allocation *first = scripted_allocate(plugin, id, 1, &arena, &message);
    const struct allocation *second = scripted_allocate(plugin, id, 1, &arena, &message);
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal(first->n_annotations, 1);
    const char *uuid = strrchr(first->annotations[0].name, '_') + 1;
    assert_int_equal(strlen(uuid), 36);
    assert_int_equal(uuid[14], '4');
    assert_non_null(strchr("89ab", uuid[19]));
    assert_string_not_equal(first->annotations[0].name, second->annotations[0].name);
}

static void numa_node_zero_is_told_and_no_node_is_not(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    f.inventory->gpus[0].numa_node = READING(0);
    f.inventory->gpus[1].numa_node = (struct reading){};
    show(world, &f);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&world->kubelet, GPU, 2, 2);
    assert_true(plugin->list.items[0].has_topology);
    assert_int_equal(plugin->list.items[0].n_numa_nodes, 1);
    assert_int_equal(plugin->list.items[0].numa_nodes[0], 0);
    assert_false(plugin->list.items[1].has_topology);
}

static void on_stopped(void *user)
{
    ((struct world *)user)->stopped = true;
}

static bool is_stopped(void *user)
{
    return ((struct world *)user)->stopped;
}

static void stopping_withdraws_everything(void **state)
{
    struct world *world = *state;
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "h100 h100:7x1g.10gb");
    f.config.mig_strategy = MIG_STRATEGY_MIXED;
    show(world, &f);
    struct scripted_plugin *gpu = scripted_kubelet_expect(&world->kubelet, GPU, 1, 1);
    struct scripted_plugin *mig = scripted_kubelet_expect(&world->kubelet, MIG_1G, 7, 7);
    plugins_stop(world->plugins, on_stopped, world);
    assert_true(scripted_wait(world->loop, is_stopped, world));
    assert_true(scripted_wait(world->loop, has_ended, gpu));
    assert_true(scripted_wait(world->loop, has_ended, mig));
    assert_int_equal(gpu->ended_with, GRPC_OK);
    assert_null(plugins_state(world->plugins, GPU));
}

static void stopping_nothing_is_reported_too(void **state)
{
    struct world *world = *state;

    plugins_stop(world->plugins, on_stopped, world);
    assert_true(scripted_wait(world->loop, is_stopped, world));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(each_resource_has_a_server_of_its_own),
        CASE(what_stays_never_blinks),
        CASE(the_same_again_sends_nothing),
        CASE(a_resource_that_returns_while_it_leaves_is_served_anew),
        CASE(an_unhealthy_gpu_shows_in_all_its_replicas),
        CASE(an_outdated_view_shows_what_is_gone_as_unhealthy),
        CASE(allocation_and_preference_answer_from_what_is_shown),
        CASE(cdi_annotations_have_a_new_key_each_time),
        CASE(numa_node_zero_is_told_and_no_node_is_not),
        CASE(stopping_withdraws_everything),
        CASE(stopping_nothing_is_reported_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
