#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "kubelet/device_plugin.h"
#include "support/scripted_kubelet.h"

#define RESOURCE "example.com/dev"
#define ENDPOINT "example-dev.sock"

struct world {
    struct loop *loop;
    char dir[64];
    struct scripted_kubelet kubelet;
    struct device_plugin *plugin;
    bool stopped;
    unsigned n_allocations;
    char why[256];
};

/* ---- the owner: four devices a, b, c, d; whoever asks for x is refused ---- */

static int on_prefer(void *user, const char *resource, const struct prefer_request *request,
                     struct arena *arena, struct id_list *ret, struct err *err)
{
    if ((size_t)request->size > request->n_available)
        return err_set(err, EINVAL, "not enough available devices to satisfy allocation");
    ret->n = (size_t)request->size;
    ret->items = arena_new_array(arena, const char *, ret->n);
    for (size_t i = 0; ret->items && i < ret->n; i++)
        ret->items[i] = request->available[i];
    return ret->items ? 0 : err_no_memory(err);
}

static int on_allocate(void *user, const char *resource, const struct id_list *ids,
                       struct arena *arena, struct allocation **ret, struct err *err)
{
    struct world *world = user;
    struct allocation *allocation = arena_new(arena, struct allocation);

    assert_string_equal(resource, RESOURCE);
    if (ids->n > 0 && text_equal(ids->items[0], "x"))
        return err_set(err, EINVAL, "unknown device: \"x\" of 100%%");
    world->n_allocations++;
    allocation->n_envs = 1;
    allocation->envs = arena_new_array(arena, struct name_value, 1);
    allocation->envs[0] = (struct name_value){ "ID", ids->n ? ids->items[0] : "" };
    *ret = allocation;
    return 0;
}

static void on_changed(void *user, const char *resource, enum registration_state from,
                       enum registration_state to, const char *why, uint32_t next_try_ms)
{
    struct world *world = user;

    snprintf(world->why, sizeof(world->why), "%s", why);
}

static const struct device_plugin_ops ops = { on_prefer, on_allocate, on_changed };

static void show(struct world *world, size_t n, const char *health_of_a)
{
    static const char *const names[] = { "a", "b", "c", "d" };
    struct listed_device devices[4];
    struct device_list list = { n, devices };

    for (size_t i = 0; i < n; i++)
        devices[i] = (struct listed_device){ .id = names[i], .health = PLUGIN_HEALTHY };
    devices[0].health = health_of_a;
    assert_true(device_plugin_update(world->plugin, &list, NULL) >= 0);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    struct err err = {};

    strcpy(world->dir, "/tmp/tranche-plugin-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_int_equal(loop_new(&world->loop, NULL), 0);
    snprintf(world->kubelet.socket, sizeof(world->kubelet.socket), "%s/kubelet.sock", world->dir);

    const struct device_plugin_spec spec = { .resource = RESOURCE,
                                             .endpoint = ENDPOINT,
                                             .dir = world->dir,
                                             .kubelet_socket = world->kubelet.socket };
    if (device_plugin_new(world->loop, &spec, &ops, world, &world->plugin, &err) < 0)
        fail_msg("%s", err.text);
    show(world, 4, PLUGIN_HEALTHY);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    device_plugin_free(world->plugin);
    scripted_kubelet_stop(&world->kubelet, false);
    loop_free(world->loop);
    file_remove_tree(world->dir, NULL);
    free(world);
    return 0;
}

static struct scripted_plugin *begin(struct world *world)
{
    scripted_kubelet_start(&world->kubelet, world->loop, world->dir);
    device_plugin_start(world->plugin);
    return scripted_kubelet_expect(&world->kubelet, RESOURCE, 4, 4);
}

static bool is_registered(void *user)
{
    struct world *world = user;

    return device_plugin_state(world->plugin) == REGISTRATION_REGISTERED;
}

static void await_registered(struct world *world)
{
    if (!scripted_wait(world->loop, is_registered, world))
        fail_msg("state %s: %s", registration_state_names[device_plugin_state(world->plugin)],
                 world->why);
}

/* ---- tests ---- */

static void the_kubelet_is_told_version_endpoint_and_options(void **state)
{
    struct scripted_plugin *plugin = begin(*state);

    assert_string_equal(plugin->request.version, "v1beta1");
    assert_string_equal(plugin->request.endpoint, ENDPOINT);
    assert_string_equal(plugin->request.resource_name, RESOURCE);
    assert_true(plugin->request.options.preferred_allocation_available);
    assert_false(plugin->request.options.pre_start_required);
    assert_int_equal(plugin->n_lists, 1);
    await_registered(*state);
}

static void every_change_sends_the_whole_list_and_no_change_sends_nothing(void **state)
{
    struct world *world = *state;
    struct scripted_plugin *plugin = begin(world);

    show(world, 4, PLUGIN_UNHEALTHY);
    scripted_kubelet_expect(&world->kubelet, RESOURCE, 4, 3);
    assert_string_equal(plugin->list.items[0].id, "a");
    assert_string_equal(plugin->list.items[0].health, "Unhealthy");
    show(world, 4, PLUGIN_UNHEALTHY);
    show(world, 2, PLUGIN_HEALTHY);
    scripted_kubelet_expect(&world->kubelet, RESOURCE, 2, 2);
    assert_int_equal(plugin->n_lists, 3);
    assert_int_equal(world->kubelet.n_asked, 1);
}

static void options_preference_allocation_and_prestart_are_answered(void **state)
{
    struct world *world = *state;
    struct scripted_plugin *plugin = begin(world);
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(4));
    const char *available[] = { "c", "b", "a" }, *message;
    struct prefer_request item = { .available = available, .n_available = 3, .size = 2 };
    const struct preferred_request request = { 1, &item };
    struct preferred_response preferred;
    struct plugin_options options;
    struct span answer;

    assert_int_equal(
        scripted_call(plugin, PLUGIN_PATH_OPTIONS, (struct span){}, &arena, &answer, NULL),
        GRPC_OK);
    assert_int_equal(plugin_options_decode(answer, &arena, &options, NULL), 0);
    assert_true(options.preferred_allocation_available);
    assert_false(options.pre_start_required);

    preferred_request_encode(&request, &bytes);
    assert_int_equal(
        scripted_call(plugin, PLUGIN_PATH_PREFER, buf_span(&bytes), &arena, &answer, NULL),
        GRPC_OK);
    assert_int_equal(preferred_response_decode(answer, &arena, &preferred, NULL), 0);
    assert_int_equal(preferred.items[0].n, 2);
    assert_string_equal(preferred.items[0].items[1], "b");

    const struct allocation *got =
        scripted_allocate(plugin, (const char *[]){ "b" }, 1, &arena, &message);
    assert_non_null(got);
    assert_string_equal(allocation_env(got, "ID"), "b");

    assert_int_equal(
        scripted_call(plugin, PLUGIN_PATH_PRESTART, SPAN("\n\001b"), &arena, &answer, NULL),
        GRPC_OK);
    assert_int_equal(answer.len, 0);
}

static void a_refusal_travels_as_unknown_with_its_sentence(void **state)
{
    struct scripted_plugin *plugin = begin(*state);
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(4));
    struct prefer_request item = { .size = 3 };
    const struct preferred_request request = { 1, &item };
    const char *message;

    assert_null(scripted_allocate(plugin, (const char *[]){ "x" }, 1, &arena, &message));
    assert_string_equal(message, "unknown device: \"x\" of 100%");

    preferred_request_encode(&request, &bytes);
    assert_int_equal(
        scripted_call(plugin, PLUGIN_PATH_PREFER, buf_span(&bytes), &arena, NULL, &message),
        GRPC_UNKNOWN);
    assert_string_equal(message, "not enough available devices to satisfy allocation");
}

static void bytes_that_are_no_message_are_refused_and_the_next_call_works(void **state)
{
    static const char *const paths[] = { PLUGIN_PATH_PREFER, PLUGIN_PATH_ALLOCATE,
                                         PLUGIN_PATH_PRESTART };
    struct scripted_plugin *plugin = begin(*state);
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const char *message;

    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        assert_int_equal(
            scripted_call(plugin, paths[i], SPAN("\n\377\377garbage"), &arena, NULL, &message),
            GRPC_INTERNAL);
        assert_non_null(strstr(message, "error unmarshalling request"));
    }
    assert_int_equal(scripted_call(plugin, "/v1beta1.DevicePlugin/Nonsense", (struct span){},
                                   &arena, NULL, &message),
                     GRPC_UNIMPLEMENTED);
    assert_string_equal(message, "unknown method Nonsense for service v1beta1.DevicePlugin");
    assert_non_null(scripted_allocate(plugin, (const char *[]){ "a" }, 1, &arena, &message));
}

static void several_streams_all_see_every_list(void **state)
{
    struct world *world = *state;
    struct scripted_plugin *first = begin(world);

    await_registered(world);
    device_plugin_kubelet_created(world->plugin); /* registers once more, the old stream stays */
    await_registered(world);
    struct scripted_plugin *second = scripted_kubelet_expect(&world->kubelet, RESOURCE, 4, 4);
    assert_ptr_not_equal(first, second);
    assert_false(first->ended);
    assert_int_equal(device_plugin_n_streams(world->plugin), 2);
    show(world, 3, PLUGIN_HEALTHY);
    scripted_kubelet_expect(&world->kubelet, RESOURCE, 3, 3);
    while (first->list.n != 3)
        loop_wait(world->loop, 100);
}

static void a_killed_kubelet_finds_the_plugin_again_when_it_is_back(void **state)
{
    struct world *world = *state;

    begin(world);
    await_registered(world);
    scripted_kubelet_stop(&world->kubelet, true); /* its socket file stays behind */
    while (device_plugin_state(world->plugin) != REGISTRATION_WAITING)
        loop_wait(world->loop, 100);
    loop_wait(world->loop, 300);
    assert_non_null(strstr(world->why, "Register failed"));

    scripted_kubelet_start(&world->kubelet, world->loop, world->dir); /* unlinks ours */
    device_plugin_check_socket(world->plugin);
    device_plugin_kubelet_created(world->plugin);
    scripted_kubelet_expect(&world->kubelet, RESOURCE, 4, 4);
    await_registered(world);
}

static void a_removed_socket_comes_back_and_connections_live_on(void **state)
{
    struct world *world = *state;
    struct scripted_plugin *before = begin(world);
    struct stat st;

    await_registered(world);
    assert_int_equal(unlink(device_plugin_socket(world->plugin)), 0);
    device_plugin_check_socket(world->plugin);
    assert_int_equal(stat(device_plugin_socket(world->plugin), &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    await_registered(world);
    assert_int_equal(world->kubelet.n_asked, 2);
    assert_false(before->ended);
}

static void a_socket_that_another_took_over_is_left_to_it(void **state)
{
    struct world *world = *state;
    auto_(device_plugin_freep) struct device_plugin *other = NULL;
    const struct device_plugin_spec spec = {
        .resource = RESOURCE, .endpoint = ENDPOINT, .dir = world->dir, .kubelet_socket = ""
    };

    begin(world);
    await_registered(world);
    assert_int_equal(device_plugin_new(world->loop, &spec, &ops, world, &other, NULL), 0);
    device_plugin_start(other);
    assert_int_equal(device_plugin_state(other), REGISTRATION_ALONE);
    device_plugin_check_socket(world->plugin);
    assert_int_equal(device_plugin_state(world->plugin), REGISTRATION_UNBOUND);
    assert_non_null(strstr(world->why, "another process listens there"));
    device_plugin_check_socket(other);
    assert_int_equal(device_plugin_state(other), REGISTRATION_ALONE);
}

static void a_broken_stream_is_answered_by_a_new_registration(void **state)
{
    struct world *world = *state;
    struct scripted_plugin *plugin = begin(world);

    await_registered(world);
    grpc_request_cancel(steal(plugin->watching));
    while (world->kubelet.n_asked < 2)
        loop_wait(world->loop, 100);
    await_registered(world);
}

static void a_refused_registration_is_tried_again_and_its_reason_kept(void **state)
{
    struct world *world = *state;

    world->kubelet.refuse = "the ResourceName \"plain\" is invalid";
    scripted_kubelet_start(&world->kubelet, world->loop, world->dir);
    device_plugin_start(world->plugin);
    while (world->kubelet.n_asked < 2)
        loop_wait(world->loop, 100);
    assert_non_null(strstr(world->why, "the ResourceName \"plain\" is invalid"));
    world->kubelet.refuse = NULL;
    scripted_kubelet_expect(&world->kubelet, RESOURCE, 4, 4);
}

static void on_stopped(void *user)
{
    struct world *world = user;

    world->stopped = true;
}

static bool is_stopped(void *user)
{
    return ((struct world *)user)->stopped;
}

static void stopping_ends_streams_well_and_leaves_no_socket(void **state)
{
    struct world *world = *state;
    struct scripted_plugin *plugin = begin(world);
    unsigned asked;

    await_registered(world);
    asked = world->kubelet.n_asked;
    device_plugin_stop(world->plugin, on_stopped, world);
    assert_true(scripted_wait(world->loop, is_stopped, world));
    while (!plugin->ended)
        loop_wait(world->loop, 100);
    assert_int_equal(plugin->ended_with, GRPC_OK);
    assert_int_equal(access(device_plugin_socket(world->plugin), F_OK), -1);
    assert_int_equal(world->kubelet.n_asked, asked);
}

static void without_a_kubelet_socket_the_list_can_be_watched_all_the_same(void **state)
{
    struct world *world = *state;
    auto_(device_plugin_freep) struct device_plugin *alone = NULL;
    const struct device_plugin_spec spec = {
        .resource = RESOURCE, .endpoint = "alone.sock", .dir = world->dir, .kubelet_socket = ""
    };

    assert_int_equal(device_plugin_new(world->loop, &spec, &ops, world, &alone, NULL), 0);
    device_plugin_start(alone);
    assert_int_equal(device_plugin_state(alone), REGISTRATION_ALONE);
    assert_int_equal(access(device_plugin_socket(alone), F_OK), 0);
}

static void a_path_that_is_too_long_is_named_with_its_length(void **state)
{
    struct world *world = *state;
    struct device_plugin *plugin = NULL;
    struct err err = {};
    char dir[120] = "/tmp/";

    memset(dir + 5, 'x', 100);
    const struct device_plugin_spec spec = { RESOURCE, ENDPOINT, dir, "" };
    assert_int_equal(device_plugin_new(world->loop, &spec, &ops, world, &plugin, &err),
                     -ENAMETOOLONG);
    assert_non_null(strstr(err.text, "107 bytes long, this one has 122"));
}

static void a_list_that_no_kubelet_could_read_is_refused_and_the_old_one_stays(void **state)
{
    struct world *world = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(32));
    struct scripted_plugin *plugin = begin(world);
    struct device_list list = { 100000, arena_new_array(&arena, struct listed_device, 100000) };
    struct err err = {};

    for (size_t i = 0; i < list.n; i++)
        list.items[i] = (struct listed_device){ .id = arena_printf(&arena, "GPU-%036zu", i),
                                                .health = PLUGIN_HEALTHY };
    assert_int_equal(device_plugin_update(world->plugin, &list, &err), -EMSGSIZE);
    assert_non_null(strstr(err.text, "a list of 100000 devices does not fit"));
    show(world, 3, PLUGIN_HEALTHY);
    scripted_kubelet_expect(&world->kubelet, RESOURCE, 3, 3);
    assert_int_equal(plugin->n_lists, 2);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(the_kubelet_is_told_version_endpoint_and_options),
        CASE(every_change_sends_the_whole_list_and_no_change_sends_nothing),
        CASE(options_preference_allocation_and_prestart_are_answered),
        CASE(a_refusal_travels_as_unknown_with_its_sentence),
        CASE(bytes_that_are_no_message_are_refused_and_the_next_call_works),
        CASE(several_streams_all_see_every_list),
        CASE(a_killed_kubelet_finds_the_plugin_again_when_it_is_back),
        CASE(a_removed_socket_comes_back_and_connections_live_on),
        CASE(a_socket_that_another_took_over_is_left_to_it),
        CASE(a_broken_stream_is_answered_by_a_new_registration),
        CASE(a_refused_registration_is_tried_again_and_its_reason_kept),
        CASE(stopping_ends_streams_well_and_leaves_no_socket),
        CASE(without_a_kubelet_socket_the_list_can_be_watched_all_the_same),
        CASE(a_path_that_is_too_long_is_named_with_its_length),
        CASE(a_list_that_no_kubelet_could_read_is_refused_and_the_old_one_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
