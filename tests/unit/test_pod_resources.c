#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "kubelet/pod_resources.h"
#include "net/grpc_server.h"

#define IDS(...)                                                                                   \
    {                                                                                              \
        sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), (const char *[])                 \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static struct pod_claim claim = { .claim = "c1",
                                  .namespace = "ml",
                                  .driver = "gpu.nvidia.com",
                                  .pool = "node-1",
                                  .device = "gpu-0",
                                  .share = "",
                                  .cdi_names = IDS("k8s.gpu.nvidia.com/device=gpu-0") };
static struct pod_devices devices[] = {
    { "nvidia.com/gpu", IDS("GPU-0::1", "GPU-0::2") },
    { "nvidia.com/gpu", IDS("GPU-1::0") }, /* the same resource on another NUMA node */
};
static struct pod_container containers[] = { { "plain" }, { "busy", 2, 1, devices, &claim } };
static struct pod pods[] = { { "ml", "trainer", 2, containers }, { "kube-system", "dns" } };
static const struct pod_list all = { 2, pods };

struct world {
    struct loop *loop;
    char dir[64], socket[128];
    struct grpc_server *server;
    struct pod_resources *client;
    bool get_is_off, gate_is_off;
    bool answered;
    int r;
    size_t n_pods;
    char text[1024], first_id[64], pod[64], share[16];
};

static void on_list(struct grpc_call *call, struct span request, void *user)
{
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));

    assert_int_equal(request.len, 0);
    pod_list_encode(&all, &out);
    grpc_call_reply(call, buf_span(&out));
}

static void on_get(struct grpc_call *call, struct span request, void *user)
{
    struct world *world = user;
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    auto_(buf_done) struct buf out = BUF_MAX(MIB(1));
    struct pod wanted;

    if (world->get_is_off) {
        grpc_call_end(call, GRPC_UNIMPLEMENTED, "unknown method Get");
        return;
    }
    assert_int_equal(pod_get_request_decode(request, &arena, &wanted, NULL), 0);
    assert_string_equal(wanted.namespace, "ml");
    if (world->gate_is_off) {
        grpc_call_end(call, GRPC_UNKNOWN, "PodResources API Get method disabled");
        return;
    }
    if (text_equal(wanted.name, "gone")) {
        grpc_call_end(call, GRPC_UNKNOWN, "pod gone in namespace ml not found");
        return;
    }
    if (text_equal(wanted.name, "trainer"))
        pod_get_response_encode(&pods[0], &out);
    grpc_call_reply(call, buf_span(&out));
}

static const struct grpc_method methods[] = { { POD_PATH_LIST, GRPC_UNARY, on_list },
                                              { POD_PATH_GET, GRPC_UNARY, on_get } };

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    strcpy(world->dir, "/tmp/tranche-pods-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    snprintf(world->socket, sizeof(world->socket), "%s/kubelet.sock", world->dir);
    assert_int_equal(loop_new(&world->loop, NULL), 0);
    assert_int_equal(grpc_server_new(world->loop, NULL, &world->server, NULL), 0);
    assert_int_equal(grpc_server_add(world->server, methods, 2, world, NULL), 0);
    assert_int_equal(grpc_server_listen(world->server, world->socket, NULL, NULL), 0);
    assert_int_equal(pod_resources_new(world->loop, world->socket, &world->client, NULL), 0);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    pod_resources_free(world->client);
    grpc_server_free(world->server);
    loop_free(world->loop);
    file_remove_tree(world->dir, NULL);
    free(world);
    return 0;
}

static void on_answer(void *user, int r, const struct pod_list *list, const struct err *err)
{
    struct world *world = user;

    world->answered = true;
    world->r = r;
    world->n_pods = list->n;
    snprintf(world->text, sizeof(world->text), "%s", err->text);
    if (list->n == 0)
        return;
    snprintf(world->pod, sizeof(world->pod), "%s/%s", list->items[0].namespace,
             list->items[0].name);
    assert_int_equal(list->items[0].n_containers, 2);
    const struct pod_container *busy = &list->items[0].containers[1];
    assert_int_equal(list->items[0].containers[0].n_devices, 0);
    assert_int_equal(busy->n_devices, 2);
    assert_string_equal(busy->devices[1].resource, "nvidia.com/gpu");
    assert_string_equal(busy->devices[1].ids.items[0], "GPU-1::0");
    snprintf(world->first_id, sizeof(world->first_id), "%s", busy->devices[0].ids.items[0]);
    assert_int_equal(busy->n_claims, 1);
    assert_string_equal(busy->claims[0].device, "gpu-0");
    assert_string_equal(busy->claims[0].cdi_names.items[0], "k8s.gpu.nvidia.com/device=gpu-0");
    assert_non_null(busy->claims[0].share); /* empty, and there all the same */
}

static void await_answer(struct world *world)
{
    for (int i = 0; i < 100 && !world->answered; i++)
        loop_wait(world->loop, 100);
    assert_true(world->answered);
    world->answered = false;
}

static void all_pods_are_listed_with_their_devices_and_claims(void **state)
{
    struct world *world = *state;

    assert_int_equal(pod_resources_list(world->client, on_answer, world, NULL), 0);
    await_answer(world);
    assert_int_equal(world->r, 0);
    assert_int_equal(world->n_pods, 2);
    assert_string_equal(world->pod, "ml/trainer");
    assert_string_equal(world->first_id, "GPU-0::1");
}

static void one_pod_is_got_by_name(void **state)
{
    struct world *world = *state;

    assert_int_equal(pod_resources_get(world->client, "ml", "trainer", on_answer, world, NULL), 0);
    await_answer(world);
    assert_int_equal(world->r, 0);
    assert_int_equal(world->n_pods, 1);

    assert_int_equal(pod_resources_get(world->client, "ml", "nobody", on_answer, world, NULL), 0);
    await_answer(world);
    assert_int_equal(world->r, -ENOENT);
    assert_int_equal(world->n_pods, 0);

    /* As kubelets say it: with an error that has no kind. */
    assert_int_equal(pod_resources_get(world->client, "ml", "gone", on_answer, world, NULL), 0);
    await_answer(world);
    assert_int_equal(world->r, -ENOENT);
}

static void a_kubelet_without_get_says_so(void **state)
{
    struct world *world = *state;

    world->get_is_off = true;
    assert_int_equal(pod_resources_get(world->client, "ml", "trainer", on_answer, world, NULL), 0);
    await_answer(world);
    assert_int_equal(world->r, -ENOSYS);
    assert_string_equal(world->text, "pod resources of the kubelet: unknown method Get");

    world->get_is_off = false;
    world->gate_is_off = true;
    assert_int_equal(pod_resources_get(world->client, "ml", "trainer", on_answer, world, NULL), 0);
    await_answer(world);
    assert_int_equal(world->r, -ENOSYS);
}

static void nobody_listening_is_an_answer_too(void **state)
{
    struct world *world = *state;

    grpc_server_free(world->server);
    world->server = NULL;
    assert_int_equal(pod_resources_list(world->client, on_answer, world, NULL), 0);
    await_answer(world);
    assert_true(world->r < 0);
    assert_non_null(strstr(world->text, world->socket));
}

static void a_client_may_go_with_questions_open(void **state)
{
    struct world *world = *state;

    assert_int_equal(pod_resources_list(world->client, on_answer, world, NULL), 0);
    assert_int_equal(pod_resources_list(world->client, on_answer, world, NULL), 0);
    pod_resources_free(world->client);
    world->client = NULL;
    loop_wait(world->loop, 10);
    assert_false(world->answered);
}

static void fields_about_cpus_and_memory_are_skipped(void **state)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    struct pod_list list;

    /* pod "p" with cpu_ids packed and not, memory, and a container with cpu_ids */
    static const char bytes[] = "\n\032"
                                "\n\001p"
                                "\"\002\001\002"
                                " \003"
                                "*\007\n\003mem\020\001"
                                "\032\006\n\001c\032\001\007";

    assert_int_equal(pod_list_decode(SPAN(bytes), &arena, &list, NULL), 0);
    assert_int_equal(list.n, 1);
    assert_string_equal(list.items[0].name, "p");
    assert_string_equal(list.items[0].containers[0].name, "c");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(all_pods_are_listed_with_their_devices_and_claims),
        CASE(one_pod_is_got_by_name),
        CASE(a_kubelet_without_get_says_so),
        CASE(nobody_listening_is_an_answer_too),
        CASE(a_client_may_go_with_questions_open),
        cmocka_unit_test(fields_about_cpus_and_memory_are_skipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
