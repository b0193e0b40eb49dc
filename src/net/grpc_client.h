/*
 * A gRPC client of one unix socket path: several calls on one connection, made when first needed.
 *
 * Callbacks come from the loop, never from inside the function that started the call. A call is
 * over when its `done` or `on_end` was called; its pointer is dead then. Callbacks may start and
 * cancel calls and free the client.
 *
 * A connection counts as made when the server's SETTINGS have arrived. When it cannot be made or
 * is lost, calls on it fail with UNAVAILABLE (their number may be retried by the caller: nothing
 * is sent twice here), the next call connects anew, not before the back-off allows.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "net/grpc.h"
#include "net/loop.h"
#include "net/sock.h"

struct grpc_client;
struct grpc_request;

enum grpc_client_state {
    GRPC_CLIENT_IDLE,       /* not connected, nobody asked */
    GRPC_CLIENT_CONNECTING, /* waiting for the server's SETTINGS */
    GRPC_CLIENT_READY,
    GRPC_CLIENT_BACKOFF, /* failed or lost; trying again after a while */
    GRPC_CLIENT_N_STATES,
};

/* Why it changed: the sentence of a failure, or "" . */
typedef void grpc_client_state_fn(struct grpc_client *client, enum grpc_client_state state,
                                  const char *why, void *user);

/* A zero (NULL) means the default that stands here. */
struct grpc_client_options {
    const char *authority;          /* "localhost", as current kubelets set it */
    const char *user_agent;         /* "tranche/<version>" */
    size_t max_message;             /* 4 MiB: a larger answer is RESOURCE_EXHAUSTED */
    uint32_t connect_timeout_ms;    /* 10,000: from connect to the server's SETTINGS */
    struct backoff backoff;         /* 200 ms to 30 s */
    bool keep_connected;            /* connect at once, and again after every loss */
    grpc_client_state_fn *on_state; /* optional */
    void *user;                     /* for on_state */
};

/* The path is copied; it need not exist yet. `options` may be NULL. */
[[nodiscard]] int grpc_client_new(struct loop *loop, const char *path,
                                  const struct grpc_client_options *options,
                                  struct grpc_client **ret, struct err *err);
/* Closes at once with a GOAWAY if it fits; calls that are open get no callback any more. */
void grpc_client_free(struct grpc_client *client);
DEFINE_FREEP(struct grpc_client, grpc_client_free)

enum grpc_client_state grpc_client_state(const struct grpc_client *client);
/* The process that listens; false while not connected. */
bool grpc_client_peer(const struct grpc_client *client, struct sock_peer *ret);
/* Connect now if idle; forget a back-off. For a caller who saw the socket file appear. */
void grpc_client_connect(struct grpc_client *client);

/* status->code GRPC_OK: the response (borrowed for the call). Otherwise it is empty. */
typedef void grpc_done_fn(void *user, const struct grpc_status *status, struct span response);
typedef void grpc_message_fn(void *user, struct span message);
typedef void grpc_end_fn(void *user, const struct grpc_status *status);

struct grpc_call_options {
    const char *path;    /* "/v1beta1.Registration/Register"; copied */
    uint64_t timeout_ms; /* 0: none, and no grpc-timeout header. Covers connecting */
    bool wait_for_ready; /* go on waiting through failed connections until the deadline */
};

/* The request is copied. -EINVAL for a path without two slashes, -ENOMEM, -EAGAIN above 1,000
 * open calls; no callback then. *ret may be NULL when nobody will cancel. */
[[nodiscard]] int grpc_client_unary(struct grpc_client *client,
                                    const struct grpc_call_options *options, struct span request,
                                    grpc_done_fn *done, void *user, struct grpc_request **ret,
                                    struct err *err);
[[nodiscard]] int grpc_client_stream(struct grpc_client *client,
                                     const struct grpc_call_options *options, struct span request,
                                     grpc_message_fn *on_message, grpc_end_fn *on_end, void *user,
                                     struct grpc_request **ret, struct err *err);
/* Resets the stream; no callback any more. */
void grpc_request_cancel(struct grpc_request *request);

/*
 * ---- one connection, without a socket ----
 *
 * For tests, recordings and fuzzers: calls in, bytes out, bytes in, answers out.
 */
struct grpc_client_conn;

[[nodiscard]] int grpc_client_conn_new(struct loop *loop, const struct grpc_client_options *options,
                                       struct grpc_client_conn **ret, struct err *err);
/* Open calls get no callback. */
void grpc_client_conn_free(struct grpc_client_conn *conn);
[[nodiscard]] int grpc_client_conn_feed(struct grpc_client_conn *conn, struct span bytes,
                                        struct err *err);
/* The peer will say nothing more (end of file): what is open fails with UNAVAILABLE. */
void grpc_client_conn_lost(struct grpc_client_conn *conn, const char *why);
struct span grpc_client_conn_output(struct grpc_client_conn *conn);
void grpc_client_conn_sent(struct grpc_client_conn *conn, size_t n);
struct h2 *grpc_client_conn_h2(struct grpc_client_conn *conn);

[[nodiscard]] int grpc_client_conn_unary(struct grpc_client_conn *conn,
                                         const struct grpc_call_options *options,
                                         struct span request, grpc_done_fn *done, void *user,
                                         struct grpc_request **ret, struct err *err);
[[nodiscard]] int grpc_client_conn_stream(struct grpc_client_conn *conn,
                                          const struct grpc_call_options *options,
                                          struct span request, grpc_message_fn *on_message,
                                          grpc_end_fn *on_end, void *user,
                                          struct grpc_request **ret, struct err *err);
