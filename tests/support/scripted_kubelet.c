#include "support/scripted_kubelet.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/mem.h"

/* ---- following a plugin ---- */

static void on_list(void *user, struct span message)
{
    struct scripted_plugin *plugin = user;
    struct err err = {};

    arena_done(&plugin->list_arena);
    if (device_list_decode(message, &plugin->list_arena, &plugin->list, &err) < 0)
        fail_msg("a list that is none: %s", err.text);
    plugin->n_lists++;
}

static void on_list_end(void *user, const struct grpc_status *status)
{
    struct scripted_plugin *plugin = user;

    plugin->watching = NULL;
    plugin->ended = true;
    plugin->ended_with = status->code;
}

static void dial(struct scripted_plugin *plugin)
{
    struct scripted_kubelet *kubelet = plugin->kubelet;
    const struct grpc_client_options how = { .authority = kubelet->authority };
    const struct grpc_call_options call = { .path = PLUGIN_PATH_LIST, .timeout_ms = 0 };
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", kubelet->dir, plugin->request.endpoint);
    assert_int_equal(grpc_client_new(kubelet->loop, path, &how, &plugin->client, NULL), 0);
    assert_int_equal(grpc_client_stream(plugin->client, &call, (struct span){}, on_list,
                                        on_list_end, plugin, &plugin->watching, NULL),
                     0);
}

static void plugin_free(struct scripted_plugin *plugin)
{
    grpc_client_free(plugin->client);
    arena_done(&plugin->list_arena);
    arena_done(&plugin->arena);
    mem_free(plugin);
}

/* ---- registration ---- */

static void on_register(struct grpc_call *call, struct span bytes, void *user)
{
    struct scripted_kubelet *kubelet = user;
    struct err err = {};

    kubelet->n_asked++;
    if (kubelet->hang)
        return;
    if (kubelet->refuse) {
        grpc_call_end(call, GRPC_UNKNOWN, kubelet->refuse);
        return;
    }
    assert_true(kubelet->n_plugins < SCRIPTED_MAX_PLUGINS);
    struct scripted_plugin *plugin = mem_alloc(sizeof(*plugin));
    plugin->kubelet = kubelet;
    plugin->arena = ARENA_MAX(KIB(64));
    plugin->list_arena = ARENA_MAX(SCRIPTED_ARENA_BYTES);
    /* Strings of the decoded request point into the arena, so the bytes may go. */
    if (register_request_decode(bytes, &plugin->arena, &plugin->request, &err) < 0)
        fail_msg("a registration that is none: %s", err.text);
    kubelet->plugins[kubelet->n_plugins++] = plugin;
    grpc_call_reply(call, (struct span){});
    if (!kubelet->ignore)
        dial(plugin);
}

static const struct grpc_method methods[] = { { PLUGIN_PATH_REGISTER, GRPC_UNARY, on_register } };

static void remove_sockets(const char *dir)
{
    DIR *entries = opendir(dir);
    struct dirent *entry;
    struct stat st;
    char path[512];

    assert_non_null(entries);
    while ((entry = readdir(entries))) {
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
            unlink(path);
    }
    closedir(entries);
}

void scripted_kubelet_start(struct scripted_kubelet *kubelet, struct loop *loop, const char *dir)
{
    struct err err = {};

    assert_null(kubelet->server);
    kubelet->loop = loop;
    snprintf(kubelet->dir, sizeof(kubelet->dir), "%s", dir);
    snprintf(kubelet->socket, sizeof(kubelet->socket), "%s/kubelet.sock", dir);
    remove_sockets(dir);
    assert_int_equal(grpc_server_new(loop, NULL, &kubelet->server, NULL), 0);
    assert_int_equal(grpc_server_add(kubelet->server, methods, ARRAY_LEN(methods), kubelet, NULL),
                     0);
    if (grpc_server_listen(kubelet->server, kubelet->socket, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

void scripted_kubelet_forget(struct scripted_kubelet *kubelet)
{
    for (size_t i = 0; i < kubelet->n_plugins; i++)
        plugin_free(kubelet->plugins[i]);
    kubelet->n_plugins = 0;
    kubelet->n_asked = 0;
}

void scripted_kubelet_stop(struct scripted_kubelet *kubelet, bool leave_file)
{
    char aside[128];

    if (!kubelet->server)
        return;
    /* The server removes only the file that is its own: out of its sight it stays. */
    snprintf(aside, sizeof(aside), "%s.old", kubelet->socket);
    if (leave_file)
        assert_int_equal(rename(kubelet->socket, aside), 0);
    grpc_server_free(steal(kubelet->server));
    if (leave_file)
        assert_int_equal(rename(aside, kubelet->socket), 0);
    scripted_kubelet_forget(kubelet);
}

/* ---- asking ---- */

struct scripted_plugin *scripted_kubelet_plugin(struct scripted_kubelet *kubelet,
                                                const char *resource)
{
    for (size_t i = kubelet->n_plugins; i-- > 0;)
        if (text_equal(kubelet->plugins[i]->request.resource_name, resource))
            return kubelet->plugins[i];
    return NULL;
}

bool scripted_wait(struct loop *loop, bool (*true_now)(void *user), void *user)
{
    uint64_t end = loop_now_ns(loop) + SCRIPTED_WAIT_MS * 1000000ull;

    while (!true_now(user)) {
        if (loop_now_ns(loop) > end)
            return false;
        loop_wait(loop, 50);
    }
    return true;
}

struct expected {
    struct scripted_kubelet *kubelet;
    const char *resource;
    size_t n_devices, n_healthy;
};

static size_t count_healthy(const struct device_list *list)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++)
        n += text_equal(list->items[i].health, PLUGIN_HEALTHY);
    return n;
}

static bool as_expected(void *user)
{
    const struct expected *expected = user;
    const struct scripted_plugin *plugin =
        scripted_kubelet_plugin(expected->kubelet, expected->resource);

    return plugin && plugin->n_lists > 0 && plugin->list.n == expected->n_devices &&
           count_healthy(&plugin->list) == expected->n_healthy;
}

struct scripted_plugin *scripted_kubelet_expect(struct scripted_kubelet *kubelet,
                                                const char *resource, size_t n_devices,
                                                size_t n_healthy)
{
    struct expected expected = { kubelet, resource, n_devices, n_healthy };

    if (!scripted_wait(kubelet->loop, as_expected, &expected)) {
        const struct scripted_plugin *plugin = scripted_kubelet_plugin(kubelet, resource);

        fail_msg("%s: wanted %zu devices, %zu of them healthy; %s with %zu, %zu", resource,
                 n_devices, n_healthy, plugin ? "registered" : "never registered",
                 plugin ? plugin->list.n : 0, plugin ? count_healthy(&plugin->list) : 0);
    }
    return scripted_kubelet_plugin(kubelet, resource);
}

struct answer {
    struct arena *arena;
    bool done;
    enum grpc_code code;
    const char *message;
    struct span response;
};

static void on_answer(void *user, const struct grpc_status *status, struct span response)
{
    struct answer *answer = user;

    answer->done = true;
    answer->code = status->code;
    answer->message = arena_strdup(answer->arena, status->message);
    answer->response = (struct span){ arena_spandup(answer->arena, response), response.len };
}

static bool is_answered(void *user)
{
    return ((struct answer *)user)->done;
}

enum grpc_code scripted_call(struct scripted_plugin *plugin, const char *path, struct span request,
                             struct arena *arena, struct span *ret_response,
                             const char **ret_message)
{
    const struct grpc_call_options call = { .path = path, .timeout_ms = SCRIPTED_WAIT_MS };
    struct answer answer = { .arena = arena };

    assert_int_equal(
        grpc_client_unary(plugin->client, &call, request, on_answer, &answer, NULL, NULL), 0);
    assert_true(scripted_wait(plugin->kubelet->loop, is_answered, &answer));
    if (ret_response)
        *ret_response = answer.response;
    if (ret_message)
        *ret_message = answer.message;
    return answer.code;
}

const struct allocation *scripted_allocate(struct scripted_plugin *plugin, const char *const *ids,
                                           size_t n_ids, struct arena *arena,
                                           const char **ret_message)
{
    struct id_list one = { n_ids, (const char **)ids };
    const struct allocate_request request = { 1, &one };
    auto_(buf_done) struct buf bytes = BUF_MAX(MIB(1));
    struct allocate_response response;
    struct span answer;

    allocate_request_encode(&request, &bytes);
    if (scripted_call(plugin, PLUGIN_PATH_ALLOCATE, buf_span(&bytes), arena, &answer,
                      ret_message) != GRPC_OK)
        return NULL;
    assert_int_equal(allocate_response_decode(answer, arena, &response, NULL), 0);
    assert_int_equal(response.n, 1);
    return response.items[0];
}

const char *allocation_env(const struct allocation *allocation, const char *name)
{
    for (size_t i = 0; i < allocation->n_envs; i++)
        if (text_equal(allocation->envs[i].name, name))
            return allocation->envs[i].value;
    return NULL;
}
