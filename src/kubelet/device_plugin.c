#include "kubelet/device_plugin.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"

/* One ListAndWatch call that is open. */
struct stream {
    struct device_plugin *plugin;
    struct grpc_call *call;
    struct stream *next; /* older */
};

struct device_plugin {
    struct loop *loop;
    const struct device_plugin_ops *ops;
    void *user;
    struct arena arena; /* owns the strings */
    const char *resource, *endpoint, *kubelet_socket, *socket;

    struct grpc_server *server; /* owned */
    struct grpc_client *caller; /* owned; the connection of a Register under way */
    struct registration registration;
    struct stream *streams; /* owned; newest first */
    struct buf list;        /* the message that shows all devices */
    bool was_bound;         /* our socket listened once: it is not ours to take over again */
    bool stopping;
    struct err why; /* the last failure */
};

/* ---- what the kubelet asks ---- */

/* As grpc-go answers bytes that are no message. */
static void refuse_bytes(struct grpc_call *call, struct err *err)
{
    err_wrap(err, -EBADMSG, "grpc: error unmarshalling request");
    grpc_call_end(call, GRPC_INTERNAL, err->text);
}

static void reply(struct grpc_call *call, const struct buf *message)
{
    if (message->failed)
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "the answer does not fit into a message");
    else
        grpc_call_reply(call, buf_span(message));
}

static void on_options(struct grpc_call *call, struct span request, void *user)
{
    const struct plugin_options options = { .preferred_allocation_available = true };
    auto_(buf_done) struct buf out = BUF_MAX(KIB(1));

    plugin_options_encode(&options, &out);
    reply(call, &out);
}

static void on_stream_over(struct grpc_call *call, void *user)
{
    struct stream *stream = user;
    struct device_plugin *plugin = stream->plugin;
    bool newest = plugin->streams == stream;
    struct stream **at = &plugin->streams;

    while (*at != stream)
        at = &(*at)->next;
    *at = stream->next;
    mem_free(stream);
    if (newest && !plugin->stopping) {
        err_set(&plugin->why, EPIPE, "the kubelet does not watch the list any more");
        registration_event(&plugin->registration, REGISTRATION_STREAM_ENDED);
    }
}

static void on_list(struct grpc_call *call, struct span request, void *user)
{
    struct device_plugin *plugin = user;
    struct stream *stream = mem_alloc(sizeof(*stream));
    struct err err = {};

    if (!stream) {
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory for another stream");
        return;
    }
    if (grpc_call_send_latest(call, buf_span(&plugin->list), &err) < 0) {
        mem_free(stream);
        grpc_call_fail(call, &err);
        return;
    }
    *stream = (struct stream){ .plugin = plugin, .call = call, .next = plugin->streams };
    plugin->streams = stream;
    grpc_call_on_cancel(call, on_stream_over, stream);
    registration_event(&plugin->registration, REGISTRATION_STREAM_OPENED);
}

/* One answer for each container that the request names. */
static int prefer_each(struct device_plugin *plugin, const struct preferred_request *request,
                       struct arena *arena, struct preferred_response *ret, struct err *err)
{
    ret->n = request->n;
    ret->items = arena_new_array(arena, struct id_list, request->n);
    if (!ret->items)
        return err_no_memory(err);
    for (size_t i = 0; i < request->n; i++) {
        int r = plugin->ops->prefer(plugin->user, plugin->resource, &request->items[i], arena,
                                    &ret->items[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static void on_prefer(struct grpc_call *call, struct span bytes, void *user)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    auto_(buf_done) struct buf out = BUF_MAX(MESSAGE_MAX_BYTES);
    struct preferred_request request;
    struct preferred_response response = {};
    struct err err = {};

    if (preferred_request_decode(bytes, &arena, &request, &err) < 0) {
        refuse_bytes(call, &err);
        return;
    }
    if (prefer_each(user, &request, &arena, &response, &err) < 0) {
        grpc_call_end(call, GRPC_UNKNOWN, err.text);
        return;
    }
    preferred_response_encode(&response, &out);
    reply(call, &out);
}

static int allocate_each(struct device_plugin *plugin, const struct allocate_request *request,
                         struct arena *arena, struct allocate_response *ret, struct err *err)
{
    ret->n = request->n;
    ret->items = arena_new_array(arena, struct allocation *, request->n);
    if (!ret->items)
        return err_no_memory(err);
    for (size_t i = 0; i < request->n; i++) {
        int r = plugin->ops->allocate(plugin->user, plugin->resource, &request->items[i], arena,
                                      &ret->items[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static void on_allocate(struct grpc_call *call, struct span bytes, void *user)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    auto_(buf_done) struct buf out = BUF_MAX(MESSAGE_MAX_BYTES);
    struct allocate_request request;
    struct allocate_response response = {};
    struct err err = {};

    if (allocate_request_decode(bytes, &arena, &request, &err) < 0) {
        refuse_bytes(call, &err);
        return;
    }
    if (allocate_each(user, &request, &arena, &response, &err) < 0) {
        grpc_call_end(call, GRPC_UNKNOWN, err.text);
        return;
    }
    allocate_response_encode(&response, &out);
    reply(call, &out);
}

/* Not asked for (pre_start_required is false), and harmless. */
static void on_prestart(struct grpc_call *call, struct span bytes, void *user)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    struct id_list ids;
    struct err err = {};

    if (prestart_request_decode(bytes, &arena, &ids, &err) < 0)
        refuse_bytes(call, &err);
    else
        grpc_call_reply(call, (struct span){});
}

static const struct grpc_method methods[] = {
    { PLUGIN_PATH_OPTIONS, GRPC_UNARY, on_options },
    { PLUGIN_PATH_LIST, GRPC_SERVER_STREAM, on_list },
    { PLUGIN_PATH_PREFER, GRPC_UNARY, on_prefer },
    { PLUGIN_PATH_ALLOCATE, GRPC_UNARY, on_allocate },
    { PLUGIN_PATH_PRESTART, GRPC_UNARY, on_prestart },
};

/* ---- what the registration wants done ---- */

static enum registration_event do_bind(void *user)
{
    struct device_plugin *plugin = user;
    const struct sock_listen how = { .replace_live = !plugin->was_bound };

    if (grpc_server_listen(plugin->server, plugin->socket, &how, &plugin->why) < 0)
        return REGISTRATION_FAILED;
    plugin->was_bound = true;
    return plugin->kubelet_socket[0] ? REGISTRATION_BOUND : REGISTRATION_BOUND_ALONE;
}

static void break_call(struct device_plugin *plugin)
{
    grpc_client_free(steal(plugin->caller));
}

static void on_registered(void *user, const struct grpc_status *status, struct span response)
{
    struct device_plugin *plugin = user;
    bool accepted = status->code == GRPC_OK;

    if (accepted)
        plugin->why = (struct err){};
    else
        err_set(&plugin->why, grpc_code_to_errno(status->code), "Register failed: %s",
                status->message);
    break_call(plugin);
    registration_event(&plugin->registration,
                       accepted ? REGISTRATION_SAID_YES : REGISTRATION_FAILED);
}

static int send_register(struct device_plugin *plugin, struct err *err)
{
    const struct register_request request = {
        .version = PLUGIN_API_VERSION,
        .endpoint = plugin->endpoint,
        .resource_name = plugin->resource,
        .options = { .preferred_allocation_available = true },
    };
    const struct grpc_call_options options = { .path = PLUGIN_PATH_REGISTER,
                                               .timeout_ms = DEVICE_PLUGIN_CALL_MS };
    auto_(buf_done) struct buf bytes = BUF_MAX(KIB(4));

    register_request_encode(&request, &bytes);
    if (bytes.failed)
        return err_no_memory(err);
    break_call(plugin);
    /* A connection of its own for each try, as upstream: nothing of a kubelet that went away is
     * left over. */
    int r = grpc_client_new(plugin->loop, plugin->kubelet_socket, NULL, &plugin->caller, err);
    if (r < 0)
        return r;
    return grpc_client_unary(plugin->caller, &options, buf_span(&bytes), on_registered, plugin,
                             NULL, err);
}

static enum registration_event do_call(void *user)
{
    struct device_plugin *plugin = user;

    if (!grpc_server_owns(plugin->server, plugin->socket))
        return REGISTRATION_SOCKET_LOST;
    if (send_register(plugin, &plugin->why) < 0) {
        break_call(plugin);
        return REGISTRATION_FAILED;
    }
    return REGISTRATION_NOTHING;
}

static void do_close(void *user)
{
    break_call(user);
}

static void on_changed(void *user, enum registration_state from, enum registration_state to,
                       uint32_t next_try_ms)
{
    struct device_plugin *plugin = user;

    if (plugin->ops->changed)
        plugin->ops->changed(plugin->user, plugin->resource, from, to, plugin->why.text,
                             next_try_ms);
}

static const struct registration_ops registration_ops = { do_bind, do_call, do_close, on_changed };

/* ---- life ---- */

static int copy_spec(struct device_plugin *plugin, const struct device_plugin_spec *spec,
                     struct err *err)
{
    plugin->resource = arena_strdup(&plugin->arena, spec->resource);
    plugin->endpoint = arena_strdup(&plugin->arena, spec->endpoint);
    plugin->kubelet_socket = arena_strdup(&plugin->arena, spec->kubelet_socket);
    plugin->socket = arena_printf(&plugin->arena, "%s/%s", spec->dir, spec->endpoint);
    if (!plugin->resource || !plugin->endpoint || !plugin->kubelet_socket || !plugin->socket)
        return err_no_memory(err);
    if (strlen(plugin->socket) > SOCK_MAX_PATH)
        return err_set(err, ENAMETOOLONG,
                       "%s: a socket's path can be %d bytes long, this one has %zu", plugin->socket,
                       SOCK_MAX_PATH, strlen(plugin->socket));
    return 0;
}

int device_plugin_new(struct loop *loop, const struct device_plugin_spec *spec,
                      const struct device_plugin_ops *ops, void *user, struct device_plugin **ret,
                      struct err *err)
{
    auto_(device_plugin_freep) struct device_plugin *plugin = mem_alloc(sizeof(*plugin));

    if (!plugin)
        return err_no_memory(err);
    *plugin = (struct device_plugin){
        .loop = loop,
        .ops = ops,
        .user = user,
        .arena = ARENA_MAX(KIB(64)),
        .list = BUF_MAX(MESSAGE_MAX_BYTES),
    };
    registration_init(&plugin->registration, loop, &registration_ops, plugin);
    int r = copy_spec(plugin, spec, err);
    if (r == 0)
        r = grpc_server_new(loop, NULL, &plugin->server, err);
    if (r == 0)
        r = grpc_server_add(plugin->server, methods, ARRAY_LEN(methods), plugin, err);
    if (r < 0)
        return r;
    *ret = steal(plugin);
    return 0;
}

void device_plugin_free(struct device_plugin *plugin)
{
    if (!plugin)
        return;
    plugin->stopping = true;
    registration_done(&plugin->registration);
    break_call(plugin);
    grpc_server_free(plugin->server); /* cancels the streams, which free themselves */
    buf_done(&plugin->list);
    arena_done(&plugin->arena);
    mem_free(plugin);
}

int device_plugin_update(struct device_plugin *plugin, const struct device_list *list,
                         struct err *err)
{
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);

    device_list_encode(list, &bytes);
    if (bytes.failed)
        return err_set(err, EMSGSIZE,
                       "%s: a list of %zu devices does not fit into the %d bytes "
                       "that a kubelet reads; use fewer replicas",
                       plugin->resource, list->n, MESSAGE_MAX_BYTES);
    if (span_equal(buf_span(&bytes), buf_span(&plugin->list)))
        return 0;

    struct buf old = plugin->list;
    plugin->list = bytes;
    bytes = old;
    /* A stream that cannot take the list has lost its reader or its memory, and will end. */
    for (struct stream *stream = plugin->streams; stream; stream = stream->next)
        (void)!grpc_call_send_latest(stream->call, buf_span(&plugin->list), NULL);
    return 1;
}

void device_plugin_start(struct device_plugin *plugin)
{
    registration_event(&plugin->registration, REGISTRATION_START);
}

void device_plugin_stop(struct device_plugin *plugin, void (*stopped)(void *user), void *user)
{
    plugin->stopping = true;
    registration_event(&plugin->registration, REGISTRATION_STOP);
    grpc_server_stop(plugin->server, DEVICE_PLUGIN_GRACE_MS, stopped, user);
}

void device_plugin_kubelet_created(struct device_plugin *plugin)
{
    registration_event(&plugin->registration, REGISTRATION_KUBELET_CREATED);
}

void device_plugin_check_socket(struct device_plugin *plugin)
{
    enum registration_state state = plugin->registration.state;

    if (state == REGISTRATION_IDLE || state == REGISTRATION_UNBOUND)
        return;
    if (grpc_server_owns(plugin->server, plugin->socket))
        return;
    err_set(&plugin->why, ENOENT, "%s: the socket was removed or replaced", plugin->socket);
    registration_event(&plugin->registration, REGISTRATION_SOCKET_LOST);
}

const char *device_plugin_socket(const struct device_plugin *plugin)
{
    return plugin->socket;
}

enum registration_state device_plugin_state(const struct device_plugin *plugin)
{
    return plugin->registration.state;
}

size_t device_plugin_n_streams(const struct device_plugin *plugin)
{
    size_t n = 0;

    for (const struct stream *stream = plugin->streams; stream; stream = stream->next)
        n++;
    return n;
}
