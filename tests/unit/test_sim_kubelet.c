/* The stand-in kubelet against scripted plugins on real sockets, in one process. What it must do is
 * spec/kubelet-device-manager. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <cmocka.h>

#include "base/file.h"
#include "kubelet/messages.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"
#include "sim/node/kubelet.h"

#define WITH_PREFERENCE ((struct plugin_options){ .preferred_allocation_available = true })

/* A plugin with a fixed list, which notes what it was asked. */
struct plugin {
    struct grpc_server *server;
    struct grpc_call *watch;
    struct plugin_options options;
    const char *ids[8];
    const char *health[8];
    size_t n;
    const char *prefer[8]; /* its answer to GetPreferredAllocation */
    size_t n_prefer;
    const char *fail; /* Allocate and GetPreferredAllocation answer this */
    bool fail_prefer, empty_answer;
    char log[1024]; /* "prefer(a,b;1) allocate(a)" */
};

struct world {
    struct loop *loop;
    struct sim_kubelet *kubelet;
    char dir[64];
    struct plugin plugin;
    bool answered;
    char reason[128], message[512];
};

static void log_ids(struct plugin *plugin, const char *call, const struct id_list *ids,
                    const char *rest)
{
    size_t len = strlen(plugin->log);

    len += (size_t)snprintf(plugin->log + len, sizeof(plugin->log) - len, "%s%s(", len ? " " : "",
                            call);
    for (size_t i = 0; i < ids->n; i++)
        len += (size_t)snprintf(plugin->log + len, sizeof(plugin->log) - len, "%s%s", i ? "," : "",
                                ids->items[i]);
    snprintf(plugin->log + len, sizeof(plugin->log) - len, "%s)", rest);
}

static void send_list(struct plugin *plugin)
{
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(64));
    struct listed_device devices[8];

    for (size_t i = 0; i < plugin->n; i++)
        devices[i] = (struct listed_device){ .id = plugin->ids[i], .health = plugin->health[i] };
    struct device_list list = { plugin->n, devices };
    device_list_encode(&list, &bytes);
    assert_int_equal(grpc_call_send_latest(plugin->watch, buf_span(&bytes), NULL), 0);
}

static void on_watch_end(struct grpc_call *call, void *user)
{
    ((struct plugin *)user)->watch = NULL;
}

static void on_watch(struct grpc_call *call, struct span request, void *user)
{
    struct plugin *plugin = user;

    plugin->watch = call;
    grpc_call_on_cancel(call, on_watch_end, plugin);
    send_list(plugin);
}

static void on_prefer(struct grpc_call *call, struct span bytes, void *user)
{
    struct plugin *plugin = user;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf answer = BUF_MAX(KIB(64));
    struct preferred_request request;
    struct id_list ids = { plugin->n_prefer, plugin->prefer };
    struct preferred_response response = { 1, &ids };
    char rest[64];

    assert_int_equal(preferred_request_decode(bytes, &arena, &request, NULL), 0);
    assert_int_equal(request.n, 1);
    snprintf(rest, sizeof(rest), ";%zu;%d", request.items[0].n_must_include, request.items[0].size);
    struct id_list asked = { request.items[0].n_available,
                             (const char **)request.items[0].available };
    log_ids(plugin, "prefer", &asked, rest);
    if (plugin->fail_prefer) {
        grpc_call_end(call, GRPC_INTERNAL, plugin->fail);
        return;
    }
    preferred_response_encode(&response, &answer);
    grpc_call_reply(call, buf_span(&answer));
}

static void on_allocate(struct grpc_call *call, struct span bytes, void *user)
{
    struct plugin *plugin = user;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf answer = BUF_MAX(KIB(64));
    struct allocate_request request;
    struct name_value env = { "X", "y" };
    struct allocation allocation = { .n_envs = 1, .envs = &env }, *items[] = { &allocation };
    struct allocate_response response = { plugin->empty_answer ? 0 : 1, items };

    assert_int_equal(allocate_request_decode(bytes, &arena, &request, NULL), 0);
    assert_int_equal(request.n, 1);
    log_ids(plugin, "allocate", &request.items[0], "");
    if (plugin->fail) {
        grpc_call_end(call, GRPC_UNKNOWN, plugin->fail);
        return;
    }
    allocate_response_encode(&response, &answer);
    grpc_call_reply(call, buf_span(&answer));
}

static void on_options(struct grpc_call *call, struct span request, void *user)
{
    auto_(buf_done) struct buf answer = BUF_MAX(KIB(1));

    plugin_options_encode(&((struct plugin *)user)->options, &answer);
    grpc_call_reply(call, buf_span(&answer));
}

static void on_prestart(struct grpc_call *call, struct span bytes, void *user)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
    struct id_list ids;

    assert_int_equal(prestart_request_decode(bytes, &arena, &ids, NULL), 0);
    log_ids(user, "prestart", &ids, "");
    grpc_call_reply(call, SPAN(""));
}

static const struct grpc_method methods[] = {
    { PLUGIN_PATH_OPTIONS, GRPC_UNARY, on_options },
    { PLUGIN_PATH_LIST, GRPC_SERVER_STREAM, on_watch },
    { PLUGIN_PATH_PREFER, GRPC_UNARY, on_prefer },
    { PLUGIN_PATH_ALLOCATE, GRPC_UNARY, on_allocate },
    { PLUGIN_PATH_PRESTART, GRPC_UNARY, on_prestart },
};

static void settle(struct world *world)
{
    for (int quiet = 0; quiet < 3;)
        quiet = loop_wait(world->loop, 5) ? 0 : quiet + 1;
}

static void start_kubelet(struct world *world)
{
    struct sim_kubelet_options options = { .dir = world->dir, .node_name = "n" };

    assert_int_equal(sim_kubelet_new(world->loop, &options, &world->kubelet, NULL), 0);
}

static void start_plugin(struct world *world)
{
    struct plugin *plugin = &world->plugin;
    char path[128];

    plugin->n = 4;
    plugin->options = WITH_PREFERENCE;
    for (size_t i = 0; i < 4; i++) {
        plugin->ids[i] = (const char *[]){ "a", "b", "c", "d" }[i];
        plugin->health[i] = PLUGIN_HEALTHY;
    }
    snprintf(path, sizeof(path), "%s/t.sock", world->dir);
    assert_int_equal(grpc_server_new(world->loop, NULL, &plugin->server, NULL), 0);
    assert_int_equal(grpc_server_add(plugin->server, methods, ARRAY_LEN(methods), plugin, NULL), 0);
    assert_int_equal(grpc_server_listen(plugin->server, path, NULL, NULL), 0);
}

struct register_answer {
    bool done;
    enum grpc_code code;
    char message[256];
};

static void on_registered(void *user, const struct grpc_status *status, struct span response)
{
    struct register_answer *answer = user;

    answer->done = true;
    answer->code = status->code;
    snprintf(answer->message, sizeof(answer->message), "%s", status->message);
}

static struct register_answer register_as(struct world *world, const char *version,
                                          const char *resource)
{
    static const struct grpc_call_options call = { .path = PLUGIN_PATH_REGISTER };
    auto_(grpc_client_freep) struct grpc_client *client = NULL;
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(4));
    struct register_request request = { version, "t.sock", resource, {} };
    struct register_answer answer = {};

    register_request_encode(&request, &bytes);
    assert_int_equal(
        grpc_client_new(world->loop, sim_kubelet_socket(world->kubelet), NULL, &client, NULL), 0);
    assert_int_equal(
        grpc_client_unary(client, &call, buf_span(&bytes), on_registered, &answer, NULL, NULL), 0);
    settle(world);
    assert_true(answer.done);
    return answer;
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    snprintf(world->dir, sizeof(world->dir), "/tmp/tranche-kubelet-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_int_equal(loop_new_manual(&world->loop, NULL), 0);
    start_kubelet(world);
    start_plugin(world);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    sim_kubelet_free(world->kubelet);
    grpc_server_free(world->plugin.server);
    loop_free(world->loop);
    assert_int_equal(file_remove_tree(world->dir, NULL), 0);
    free(world);
    return 0;
}

static void register_plugin(struct world *world)
{
    assert_int_equal(register_as(world, "v1beta1", "example.com/dev").code, GRPC_OK);
}

static void on_admitted(void *user, const char *reason, const char *message)
{
    struct world *world = user;

    world->answered = true;
    snprintf(world->reason, sizeof(world->reason), "%s", reason ? reason : "");
    snprintf(world->message, sizeof(world->message), "%s", message ? message : "");
}

static const struct sim_request one = { "example.com/dev", 1 }, two = { "example.com/dev", 2 };
static const struct sim_request five = { "example.com/dev", 5 };

static void admit(struct world *world, const char *uid, const struct sim_container *containers,
                  size_t n)
{
    struct sim_pod pod = { uid, uid, "default", n, containers };

    world->answered = false;
    assert_int_equal(sim_kubelet_admit(world->kubelet, &pod, on_admitted, world, NULL), 0);
    settle(world);
    assert_true(world->answered);
}

static void admit_one(struct world *world, const char *uid, const struct sim_request *request)
{
    struct sim_container container = { "c", false, 1, request };

    admit(world, uid, &container, 1);
}

#define ADMIT(world, uid, ...)                                                                     \
    admit(world, uid, (const struct sim_container[]){ __VA_ARGS__ },                               \
          sizeof((const struct sim_container[]){ __VA_ARGS__ }) / sizeof(struct sim_container))

static void expect_capacity(struct world *world, uint32_t capacity, uint32_t allocatable)
{
    size_t n;
    const struct sim_capacity *lines = sim_kubelet_capacity(world->kubelet, &n);

    assert_int_equal(n, 1);
    assert_string_equal(lines[0].resource, "example.com/dev");
    assert_int_equal(lines[0].capacity, capacity);
    assert_int_equal(lines[0].allocatable, allocatable);
}

static void a_plugin_that_registers_makes_capacity(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    assert_true(sim_kubelet_settled(world->kubelet));
    assert_int_equal(sim_kubelet_n_registrations(world->kubelet), 1);
    expect_capacity(world, 4, 4);
    world->plugin.health[1] = "Weird";
    send_list(&world->plugin);
    settle(world);
    expect_capacity(world, 4, 3);
    world->plugin.n = 0;
    send_list(&world->plugin);
    settle(world);
    expect_capacity(world, 0, 0);
}

static void a_wrong_registration_is_refused_in_the_kubelets_words(void **state)
{
    struct world *world = *state;
    struct register_answer answer = register_as(world, "v1alpha1", "example.com/dev");

    assert_int_equal(answer.code, GRPC_UNKNOWN);
    assert_string_equal(answer.message,
                        "requested API version \"v1alpha1\" is not supported by kubelet. "
                        "Supported version is [\"v1beta1\"]");
    answer = register_as(world, "v1beta1", "plainname");
    assert_string_equal(answer.message, "the ResourceName \"plainname\" is invalid");
    assert_int_equal(register_as(world, "v1beta1", "kubernetes.io/x").code, GRPC_UNKNOWN);
    assert_int_equal(register_as(world, "v1beta1", "requests.x/y").code, GRPC_UNKNOWN);
    assert_int_equal(sim_kubelet_n_registrations(world->kubelet), 0);
}

static void a_container_is_asked_for_and_then_allocated(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    world->plugin.prefer[0] = "c";
    world->plugin.n_prefer = 1;
    admit_one(world, "p1", &one);
    assert_string_equal(world->reason, "");
    assert_string_equal(world->plugin.log, "prefer(a,b,c,d;0;1) allocate(c)");
    const struct sim_grant *grant = sim_kubelet_next_grant(world->kubelet, NULL);
    assert_string_equal(grant->ids[0], "c");
    assert_string_equal(grant->pod_uid, "p1");
    assert_null(sim_kubelet_next_grant(world->kubelet, grant));
}

static void a_plugin_without_preferences_is_not_asked(void **state)
{
    struct world *world = *state;

    world->plugin.options = (struct plugin_options){};
    register_plugin(world);
    admit_one(world, "p1", &two);
    assert_string_equal(world->plugin.log, "allocate(a,b)");
}

static void a_preference_counts_as_far_as_it_is_available(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    world->plugin.prefer[0] = "nonsense";
    world->plugin.prefer[1] = "d";
    world->plugin.n_prefer = 2;
    admit_one(world, "p1", &two);
    assert_string_equal(world->plugin.log, "prefer(a,b,c,d;0;2) allocate(d,a)");
}

static void prestart_is_called_only_for_who_asked_for_it(void **state)
{
    struct world *world = *state;

    world->plugin.options = (struct plugin_options){ .pre_start_required = true };
    register_plugin(world);
    admit_one(world, "p1", &one);
    assert_string_equal(world->plugin.log, "allocate(a) prestart(a)");
}

/* Spec §4: init 2, main 1 → [c,d], [d]; init 1, init 1, main 1, main 1 → [b], [b], [b], [a]. */
static void later_containers_take_over_what_init_containers_held(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    ADMIT(world, "p1", { "i1", true, 1, &one }, { "i2", true, 1, &one }, { "m1", false, 1, &one },
          { "m2", false, 1, &one });
    assert_string_equal(world->reason, "");
    assert_string_equal(world->plugin.log,
                        "prefer(a,b,c,d;0;1) allocate(a) allocate(a) allocate(a) "
                        "prefer(b,c,d;0;1) allocate(b)");
    world->plugin.log[0] = '\0';
    ADMIT(world, "p2", { "i", true, 1, &two }, { "m", false, 1, &one });
    assert_string_equal(world->plugin.log, "prefer(c,d;0;2) allocate(c,d) allocate(c)");
}

static void an_error_of_the_plugin_fails_the_pod(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    world->plugin.fail = "boom happened";
    admit_one(world, "p1", &one);
    assert_string_equal(world->reason, "UnexpectedAdmissionError");
    assert_string_equal(world->message,
                        "Allocate failed due to rpc error: code = Unknown desc = boom happened, "
                        "which is unexpected");
    world->plugin.fail_prefer = true;
    admit_one(world, "p2", &one);
    assert_string_equal(
        world->message,
        "Allocate failed due to device plugin GetPreferredAllocation rpc failed with err: "
        "rpc error: code = Internal desc = boom happened, which is unexpected");
    world->plugin.fail = NULL;
    world->plugin.fail_prefer = false;
    world->plugin.empty_answer = true;
    admit_one(world, "p3", &one);
    assert_non_null(strstr(world->message, "no containers return in allocation response"));
    world->plugin.empty_answer = false;
    for (int i = 0; i < 4; i++) /* nothing of the failures is left */
        admit_one(world, (const char *[]){ "q1", "q2", "q3", "q4" }[i], &one);
    assert_string_equal(world->reason, "");
}

static void too_few_devices_fail_the_pod_with_both_numbers(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    admit_one(world, "p1", &five);
    assert_string_equal(
        world->message,
        "Allocate failed due to requested number of devices unavailable for example.com/dev. "
        "Requested: 5, Available: 4, which is unexpected");
}

static void an_ended_pod_gives_its_devices_back(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    admit_one(world, "p1", &two);
    admit_one(world, "p2", &two);
    admit_one(world, "p3", &one);
    assert_string_equal(world->reason, "UnexpectedAdmissionError");
    sim_kubelet_pod_ended(world->kubelet, "p1");
    admit_one(world, "p4", &two);
    assert_string_equal(world->reason, "");
}

static void a_resource_nobody_offers_is_none_of_its_business(void **state)
{
    struct world *world = *state;

    admit_one(world, "p1", &one);
    assert_string_equal(world->reason, "");
    assert_null(sim_kubelet_next_grant(world->kubelet, NULL));
}

static void a_plugin_that_goes_takes_its_capacity_in_two_steps(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    grpc_server_free(world->plugin.server);
    world->plugin.server = NULL;
    settle(world);
    expect_capacity(world, 4, 0);
    admit_one(world, "p1", &one);
    assert_string_equal(world->reason, "UnexpectedAdmissionError");
    loop_advance_ms(world->loop, SIM_KUBELET_GONE_MS - 1);
    expect_capacity(world, 4, 0);
    loop_advance_ms(world->loop, 2);
    expect_capacity(world, 0, 0);
    start_plugin(world);
    register_plugin(world);
    expect_capacity(world, 4, 4);
}

static void the_newest_registration_answers(void **state)
{
    struct world *world = *state;
    struct grpc_call *first;

    register_plugin(world);
    first = world->plugin.watch;
    world->plugin.n = 2;
    register_plugin(world);
    assert_ptr_not_equal(world->plugin.watch, first);
    expect_capacity(world, 2, 2);
}

static void an_old_stream_that_ends_takes_the_newest_registration_with_it(void **state)
{
    struct world *world = *state;
    struct grpc_call *first;

    register_plugin(world);
    first = world->plugin.watch;
    register_plugin(world);
    grpc_call_end(first, GRPC_OK, NULL);
    settle(world);
    expect_capacity(world, 4, 0);
    assert_null(world->plugin.watch); /* the new plugin can see it */
    admit_one(world, "p1", &one);
    assert_non_null(strstr(world->message, "no healthy devices present"));
    register_plugin(world);
    expect_capacity(world, 4, 4);
}

static void a_plugin_that_cannot_be_dialled_is_refused_after_ten_seconds(void **state)
{
    static const struct grpc_call_options call = { .path = PLUGIN_PATH_REGISTER };
    struct world *world = *state;
    auto_(grpc_client_freep) struct grpc_client *client = NULL;
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(4));
    struct register_request request = { "v1beta1", "nobody.sock", "example.com/dev", {} };
    struct register_answer answer = {};
    size_t n;

    register_request_encode(&request, &bytes);
    assert_int_equal(
        grpc_client_new(world->loop, sim_kubelet_socket(world->kubelet), NULL, &client, NULL), 0);
    assert_int_equal(
        grpc_client_unary(client, &call, buf_span(&bytes), on_registered, &answer, NULL, NULL), 0);
    settle(world);
    assert_false(answer.done);
    for (int i = 0; i < 11; i++) {
        loop_advance_ms(world->loop, 1000);
        settle(world);
    }
    assert_true(answer.done);
    assert_int_equal(answer.code, GRPC_UNKNOWN);
    assert_string_equal(answer.message, "failed to dial device plugin: context deadline exceeded");
    sim_kubelet_capacity(world->kubelet, &n);
    assert_int_equal(n, 0);
    assert_int_equal(sim_kubelet_n_registrations(world->kubelet), 0);
}

static void a_pod_that_comes_again_keeps_its_devices_or_is_turned_away(void **state)
{
    struct world *world = *state;

    register_plugin(world);
    admit_one(world, "p1", &two);
    sim_kubelet_free(world->kubelet);
    start_kubelet(world);
    sim_kubelet_pod_running(world->kubelet, "p1");
    admit_one(world, "p0", &one); /* too early: the plugin is not there */
    assert_string_equal(world->message,
                        "Allocate failed due to no healthy devices present; cannot allocate "
                        "unhealthy devices example.com/dev, which is unexpected");
    grpc_server_free(world->plugin.server);
    start_plugin(world);
    register_plugin(world);
    sim_kubelet_free(world->kubelet);
    start_kubelet(world);
    sim_kubelet_pod_running(world->kubelet, "p1");
    grpc_server_free(world->plugin.server);
    start_plugin(world);
    register_plugin(world);
    world->plugin.log[0] = '\0';
    admit_one(world, "p1", &two);
    assert_string_equal(world->reason, "");
    assert_string_equal(world->plugin.log, "");
    world->plugin.health[0] = PLUGIN_UNHEALTHY;
    send_list(&world->plugin);
    settle(world);
    admit_one(world, "p1", &two);
    assert_string_equal(
        world->message,
        "Allocate failed due to previously allocated devices are no longer healthy; "
        "cannot allocate unhealthy devices example.com/dev, which is unexpected");
}

static void a_restart_keeps_what_running_pods_hold(void **state)
{
    struct world *world = *state;
    struct stat st;
    char path[128];

    register_plugin(world);
    admit_one(world, "p1", &two);
    admit_one(world, "p2", &one);
    sim_kubelet_free(world->kubelet);
    start_kubelet(world);
    snprintf(path, sizeof(path), "%s/t.sock", world->dir);
    assert_int_equal(stat(path, &st), -1); /* every socket was thrown out */
    expect_capacity(world, 0, 0);
    sim_kubelet_pod_running(world->kubelet, "p1");
    admit_one(world, "p0", &one);
    assert_non_null(strstr(world->message, "cannot allocate unhealthy devices example.com/dev"));
    grpc_server_free(world->plugin.server);
    start_plugin(world);
    register_plugin(world);
    world->plugin.log[0] = '\0';
    admit_one(world, "p3", &two); /* p2 is gone, p1 holds a and b */
    assert_string_equal(world->reason, "");
    assert_string_equal(world->plugin.log, "prefer(c,d;0;2) allocate(c,d)");
    assert_string_equal(sim_kubelet_next_grant(world->kubelet, NULL)->pod_uid, "p1");
}

static void a_damaged_checkpoint_means_an_empty_start(void **state)
{
    static const char *const damage[] = {
        "", "{", "[]", "{\"Data\":{},\"Checksum\":1}",
        "{\"Data\":{\"PodDeviceEntries\":null,\"RegisteredDevices\":{}},\"Checksum\":1}"
    };
    struct world *world = *state;
    char path[128];

    register_plugin(world);
    admit_one(world, "p1", &two);
    snprintf(path, sizeof(path), "%s/kubelet_internal_checkpoint", world->dir);
    for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
        sim_kubelet_free(world->kubelet);
        assert_int_equal(file_replace(-100 /* AT_FDCWD */, path, span_of(damage[i]), 0600, NULL),
                         0);
        start_kubelet(world);
        assert_null(sim_kubelet_next_grant(world->kubelet, NULL));
    }
}

/* Written by a kubelet 1.34.4, which knew more than we do about its checksum. */
static void a_real_kubelets_checkpoint_is_understood(void **state)
{
    struct world *world = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    const char *source = getenv("TRANCHE_SOURCE");
    char *file =
        arena_printf(&arena, "%s/tests/data/kubelet/checkpoint-1.34.4.json", source ? source : ".");
    char *path = arena_printf(&arena, "%s/kubelet_internal_checkpoint", world->dir);
    struct span text;
    size_t n;

    assert_int_equal(file_read(-100 /* AT_FDCWD */, file, KIB(64), &arena, &text, NULL), 0);
    sim_kubelet_free(world->kubelet);
    assert_int_equal(file_replace(-100, path, text, 0600, NULL), 0);
    start_kubelet(world);
    const struct sim_grant *grant = sim_kubelet_next_grant(world->kubelet, NULL);
    assert_string_equal(grant->container, "noted");
    assert_int_equal(grant->n_ids, 2);
    assert_string_equal(grant->ids[1], "GPU-a706dd2f-4d19-4e6f-88b4-fda8c892b50e");
    grant = sim_kubelet_next_grant(world->kubelet, grant);
    assert_string_equal(grant->container, "other");
    assert_null(sim_kubelet_next_grant(world->kubelet, grant));
    assert_string_equal(sim_kubelet_capacity(world->kubelet, &n)->resource, "nvidia.com/gpu");

    ((char *)memmem(text.ptr, text.len, "other", 5))[0] = 'O'; /* one letter, and it is damaged */
    sim_kubelet_free(world->kubelet);
    assert_int_equal(file_replace(-100, path, text, 0600, NULL), 0);
    start_kubelet(world);
    assert_null(sim_kubelet_next_grant(world->kubelet, NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_plugin_that_registers_makes_capacity),
        TEST(a_wrong_registration_is_refused_in_the_kubelets_words),
        TEST(a_container_is_asked_for_and_then_allocated),
        TEST(a_plugin_without_preferences_is_not_asked),
        TEST(a_preference_counts_as_far_as_it_is_available),
        TEST(prestart_is_called_only_for_who_asked_for_it),
        TEST(later_containers_take_over_what_init_containers_held),
        TEST(an_error_of_the_plugin_fails_the_pod),
        TEST(too_few_devices_fail_the_pod_with_both_numbers),
        TEST(an_ended_pod_gives_its_devices_back),
        TEST(a_resource_nobody_offers_is_none_of_its_business),
        TEST(a_plugin_that_goes_takes_its_capacity_in_two_steps),
        TEST(the_newest_registration_answers),
        TEST(an_old_stream_that_ends_takes_the_newest_registration_with_it),
        TEST(a_plugin_that_cannot_be_dialled_is_refused_after_ten_seconds),
        TEST(a_pod_that_comes_again_keeps_its_devices_or_is_turned_away),
        TEST(a_restart_keeps_what_running_pods_hold),
        TEST(a_damaged_checkpoint_means_an_empty_start),
        TEST(a_real_kubelets_checkpoint_is_understood),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
