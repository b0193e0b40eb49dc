/*
 * Strange bytes on a gRPC connection, from either side.
 *
 * The first byte says whether our server or our client hears them, and whether they are raw or a
 * script: a script is turned into frames with right lengths, mixed with what happens around a
 * connection (time passes, a handler answers, a caller gives up, the other end reads or does not).
 * The second byte says in how large pieces they come.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"
#include "net/h2.h"

enum { FOR_CLIENT = 1, SCRIPT = 2, MAX_OPEN = 8 };

struct scene {
    struct loop *loop;
    struct grpc_server *server;
    struct grpc_server_conn *server_conn;
    struct grpc_client_conn *client_conn;
    struct grpc_call *open[MAX_OPEN];        /* calls that wait for an answer */
    struct grpc_request *requests[MAX_OPEN]; /* ours that wait for one */
    size_t piece;
    bool over;
};

/* ---- the server's side ---- */

static void on_echo(struct grpc_call *call, struct span request, void *user)
{
    grpc_call_reply(call, request);
}

static void on_cancel(struct grpc_call *call, void *user)
{
    struct grpc_call **seat = user;

    assert(*seat == call);
    *seat = NULL;
}

static void on_hold(struct grpc_call *call, struct span request, void *user)
{
    struct scene *scene = user;

    for (size_t i = 0; i < MAX_OPEN; i++) {
        if (scene->open[i])
            continue;
        scene->open[i] = call;
        grpc_call_on_cancel(call, on_cancel, &scene->open[i]);
        return;
    }
    grpc_call_end(call, GRPC_UNAVAILABLE, "100% full");
}

static const struct grpc_method methods[] = {
    { "/t.T/E", GRPC_UNARY, on_echo },
    { "/t.T/H", GRPC_UNARY, on_hold },
    { "/t.T/W", GRPC_SERVER_STREAM, on_hold },
    { "/v1beta1.DevicePlugin/Allocate", GRPC_UNARY, on_echo },
    { "/v1beta1.DevicePlugin/ListAndWatch", GRPC_SERVER_STREAM, on_hold },
    { "/v1beta1.Registration/Register", GRPC_UNARY, on_hold },
};

static void answer(struct scene *scene, uint8_t how)
{
    struct grpc_call *call = scene->open[how % MAX_OPEN];

    if (!call)
        return;
    if (how & 0x80) {
        (void)!grpc_call_send_latest(call, SPAN("a list of devices"), NULL);
        return;
    }
    scene->open[how % MAX_OPEN] = NULL;
    if (how & 0x40)
        grpc_call_end(call, GRPC_ABORTED, "caf\xc3\xa9 \xff");
    else
        grpc_call_reply(call, SPAN("fine"));
}

/* ---- the client's side ---- */

struct seat {
    struct scene *scene;
    size_t i;
};

static struct seat seats[MAX_OPEN];

static void on_message(void *user, struct span message)
{
    struct seat *seat = user;

    if (message.len == 7)
        grpc_request_cancel(steal(seat->scene->requests[seat->i]));
}

static void on_end(void *user, const struct grpc_status *status)
{
    struct seat *seat = user;

    assert(status->message);
    seat->scene->requests[seat->i] = NULL;
}

static void on_done(void *user, const struct grpc_status *status, struct span response)
{
    on_end(user, status);
}

static void ask(struct scene *scene, size_t i, bool stream)
{
    struct grpc_call_options options = { .path = "/t.T/E", .timeout_ms = i % 2 ? 0 : 5000 };
    struct grpc_request **at = &scene->requests[i];

    if (*at)
        return;
    seats[i] = (struct seat){ scene, i };
    if (stream)
        (void)!grpc_client_conn_stream(scene->client_conn, &options, SPAN("q"), on_message, on_end,
                                       &seats[i], at, NULL);
    else
        (void)!grpc_client_conn_unary(scene->client_conn, &options, SPAN("q"), on_done, &seats[i],
                                      at, NULL);
}

/* ---- the connection ---- */

static void read_output(struct scene *scene)
{
    struct span bytes;

    for (int i = 0; i < 64; i++) {
        bytes = scene->server_conn ? grpc_server_conn_output(scene->server_conn)
                                   : grpc_client_conn_output(scene->client_conn);
        if (bytes.len == 0)
            return;
        if (scene->server_conn)
            grpc_server_conn_sent(scene->server_conn, bytes.len);
        else
            grpc_client_conn_sent(scene->client_conn, bytes.len);
    }
}

static void feed(struct scene *scene, struct span bytes)
{
    while (bytes.len > 0 && !scene->over) {
        struct span piece = { bytes.ptr, MIN(bytes.len, scene->piece) };
        struct err err = {};
        int r = scene->server_conn ? grpc_server_conn_feed(scene->server_conn, piece, &err)
                                   : grpc_client_conn_feed(scene->client_conn, piece, &err);
        scene->over = r < 0;
        assert(r == 0 || err.text[0]);
        bytes = (struct span){ bytes.ptr + piece.len, bytes.len - piece.len };
    }
}

static void act(struct scene *scene, uint8_t what, uint8_t how)
{
    switch (what % 6) {
    case 0:
        read_output(scene);
        break;
    case 1:
        loop_advance_ms(scene->loop, how * 100);
        break;
    case 2:
        if (scene->server_conn)
            answer(scene, how);
        else
            ask(scene, how % MAX_OPEN, how & 0x80);
        break;
    case 3:
        if (scene->client_conn && scene->requests[how % MAX_OPEN])
            grpc_request_cancel(steal(scene->requests[how % MAX_OPEN]));
        break;
    case 4:
        if (scene->server_conn && how == 0)
            grpc_server_conn_drain(scene->server_conn);
        break;
    case 5:
        scene->piece = how ? how : 100000;
        break;
    }
}

/* type, flags, stream, length, payload; or, above 0x80, something that happens. */
static void run_script(struct scene *scene, struct span bytes)
{
    while (bytes.len >= 4 && !scene->over) {
        const uint8_t *p = (const uint8_t *)bytes.ptr;
        if (p[0] >= 0x80) {
            act(scene, p[0], p[1]);
            bytes = (struct span){ bytes.ptr + 2, bytes.len - 2 };
            continue;
        }
        size_t len = MIN((size_t)p[3], bytes.len - 4);
        char frame[9 + 255] = {
            0, 0, (char)len, (char)(p[0] % 11), (char)p[1], 0, 0, 0, (char)p[2],
        };
        memcpy(frame + 9, p + 4, len);
        feed(scene, (struct span){ frame, 9 + len });
        bytes = (struct span){ bytes.ptr + 4 + len, bytes.len - 4 - len };
    }
}

static void open_scene(struct scene *scene, bool for_client)
{
    static struct loop *loop; /* one for all: making it takes longer than a run */
    struct grpc_limits limits = { .max_message = 4096, .max_pending = 8192 };

    if (!loop && loop_new_manual(&loop, NULL) < 0)
        abort();
    scene->loop = loop;
    if (grpc_server_new(scene->loop, &limits, &scene->server, NULL) < 0 ||
        grpc_server_add(scene->server, methods, ARRAY_LEN(methods), scene, NULL) < 0)
        abort();
    int r = for_client ? grpc_client_conn_new(scene->loop, NULL, &scene->client_conn, NULL)
                       : grpc_server_conn_new(scene->server, NULL, &scene->server_conn, NULL);
    if (r < 0)
        abort();
    for (size_t i = 0; for_client && i < MAX_OPEN / 2; i++)
        ask(scene, i, i % 2);
    read_output(scene);
}

static void close_scene(struct scene *scene)
{
    read_output(scene);
    if (scene->client_conn)
        grpc_client_conn_lost(scene->client_conn, "the end");
    for (size_t i = 0; i < MAX_OPEN; i++)
        assert(!scene->requests[i]);
    grpc_client_conn_free(scene->client_conn);
    grpc_server_conn_free(scene->server_conn);
    for (size_t i = 0; i < MAX_OPEN; i++)
        assert(!scene->open[i]);
    grpc_server_free(scene->server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct scene scene = {};

    if (size < 2)
        return 0;
    struct span bytes = { (const char *)data + 2, size - 2 };
    open_scene(&scene, data[0] & FOR_CLIENT);
    scene.piece = data[1] ? data[1] : 100000;
    if (!(data[0] & SCRIPT)) {
        feed(&scene, bytes);
    } else {
        struct span greeting = { hello, sizeof(hello) - 1 };
        if (data[0] & FOR_CLIENT)
            greeting = (struct span){ hello + 24, 9 };
        feed(&scene, greeting);
        run_script(&scene, bytes);
    }
    close_scene(&scene);
    return 0;
}
