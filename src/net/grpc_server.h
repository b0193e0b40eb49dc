/*
 * A gRPC server: services are tables, calls are answered at once or later from the loop.
 *
 *     static const struct grpc_method methods[] = {
 *         { "/v1beta1.DevicePlugin/Allocate", GRPC_UNARY, on_allocate },
 *         { "/v1beta1.DevicePlugin/ListAndWatch", GRPC_SERVER_STREAM, on_list_and_watch },
 *     };
 *     grpc_server_add(server, methods, ARRAY_LEN(methods), plugin);
 *     grpc_server_listen(server, path, NULL, &err);
 *
 * A call lives until the handler's side ended it (grpc_call_reply, grpc_call_end) or the function
 * given to grpc_call_on_cancel was called; after either, the pointer is dead. Every call must be
 * ended one way or the other. Cancelled means: the client reset the stream or went away, the
 * call's deadline passed (the client is told DEADLINE_EXCEEDED), or the server is stopping.
 *
 * Handlers and cancel functions run on the loop's thread. They may answer any call, and may stop
 * or free the server.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "net/grpc.h"
#include "net/loop.h"
#include "net/sock.h"

struct grpc_server;
struct grpc_call;

enum grpc_kind { GRPC_UNARY, GRPC_SERVER_STREAM };

/* The request (one message; empty is common) stays valid for as long as the call lives. */
typedef void grpc_handler(struct grpc_call *call, struct span request, void *user);

struct grpc_method {
    const char *path; /* "/package.Service/Method" */
    enum grpc_kind kind;
    grpc_handler *handler;
};

/* What a server puts up with. A zero means the default that stands here. */
struct grpc_limits {
    size_t max_message;        /* 4 MiB: a larger request is RESOURCE_EXHAUSTED */
    size_t max_pending;        /* 16 MiB: unfinished requests of one connection together */
    uint32_t max_streams;      /* 100 calls at a time on one connection */
    uint32_t max_header_bytes; /* 16 KiB */
    uint32_t max_connections;  /* 64; above, the longest idle one makes room, or nobody comes in */
    uint32_t preface_timeout_ms; /* 10,000: a peer that connects and does not speak HTTP/2 */
    uint32_t request_timeout_ms; /* 60,000: a request that begins and does not end */
};

/* `limits` may be NULL. */
[[nodiscard]] int grpc_server_new(struct loop *loop, const struct grpc_limits *limits,
                                  struct grpc_server **ret, struct err *err);
/* Breaks everything off, cancelling every call, and removes the socket files that are its own. */
void grpc_server_free(struct grpc_server *server);
DEFINE_FREEP(struct grpc_server, grpc_server_free)

/* The table and its strings outlive the server (they are static, usually); `user` goes to its
 * handlers. Several tables may be added, before or after listening. -EEXIST for a path twice. */
[[nodiscard]] int grpc_server_add(struct grpc_server *server, const struct grpc_method *methods,
                                  size_t n_methods, void *user, struct err *err);

/* `how` as in sock_listen, may be NULL. One server may listen on several paths; listening again
 * on a path makes its socket anew (connections that are open stay). */
[[nodiscard]] int grpc_server_listen(struct grpc_server *server, const char *path,
                                     const struct sock_listen *how, struct err *err);
/* Is the file at this path (one that it listens on) still ours? False when it was removed or
 * replaced, as a starting kubelet removes the sockets in its directory. */
bool grpc_server_owns(const struct grpc_server *server, const char *path);

/*
 * Graceful: stops listening and removes its socket files, tells every client goodbye (GOAWAY), ends
 * streaming calls with status OK (their cancel function is called), and lets unary calls finish
 * for grace_ms before they are cancelled as UNAVAILABLE. Then `stopped` is called, from the loop.
 */
void grpc_server_stop(struct grpc_server *server, uint64_t grace_ms, void (*stopped)(void *user),
                      void *user);

/* Connections and calls that are open now. */
size_t grpc_server_n_connections(const struct grpc_server *server);
size_t grpc_server_n_calls(const struct grpc_server *server);

/* ---- one call ---- */

/* The one answer of a unary call: message, then OK. The payload is copied. Without memory the
 * client gets RESOURCE_EXHAUSTED instead. Ends the call. */
void grpc_call_reply(struct grpc_call *call, struct span message);

/* One message of a streaming call. -EAGAIN when a slow reader has let GRPC_MAX_QUEUE messages
 * pile up, -ENOMEM; the call lives on. */
[[nodiscard]] int grpc_call_send(struct grpc_call *call, struct span message, struct err *err);
/* For streams whose every message says everything (ListAndWatch): a message that was given here
 * and has not begun to leave is replaced, so a slow reader holds at most one old message. */
[[nodiscard]] int grpc_call_send_latest(struct grpc_call *call, struct span message,
                                        struct err *err);

/* Ends the call after what was sent. The text may be NULL (none). */
void grpc_call_end(struct grpc_call *call, enum grpc_code code, const char *message);
/* The same with an err's errno and sentence. */
void grpc_call_fail(struct grpc_call *call, const struct err *err);

typedef void grpc_cancel_fn(struct grpc_call *call, void *user);
void grpc_call_on_cancel(struct grpc_call *call, grpc_cancel_fn *fn, void *user);

/* The caller's own thing at this call; NULL at first. */
void grpc_call_set_data(struct grpc_call *call, void *data);
void *grpc_call_data(const struct grpc_call *call);

/* The process at the other end; NULL where there is no socket (tests). */
const struct sock_peer *grpc_call_peer(const struct grpc_call *call);
const char *grpc_call_path(const struct grpc_call *call);
/* On the loop's clock; 0 when the client set none. */
uint64_t grpc_call_deadline_ns(const struct grpc_call *call);

/*
 * ---- one connection, without a socket ----
 *
 * What the server does for each connection, for tests, recordings and fuzzers: bytes in, bytes
 * out. The server (never told to listen) must outlive it.
 */
struct grpc_server_conn;

[[nodiscard]] int grpc_server_conn_new(struct grpc_server *server, const struct sock_peer *peer,
                                       struct grpc_server_conn **ret, struct err *err);
void grpc_server_conn_free(struct grpc_server_conn *conn); /* cancels its calls */
/* A failure means: write what is left of the output, then close. */
[[nodiscard]] int grpc_server_conn_feed(struct grpc_server_conn *conn, struct span bytes,
                                        struct err *err);
struct span grpc_server_conn_output(struct grpc_server_conn *conn);
void grpc_server_conn_sent(struct grpc_server_conn *conn, size_t n);
bool grpc_server_conn_over(const struct grpc_server_conn *conn);
void grpc_server_conn_drain(struct grpc_server_conn *conn); /* as grpc_server_stop does */
struct h2 *grpc_server_conn_h2(struct grpc_server_conn *conn);
