/*
 * Between grpc_server.c (listening, accepting, stopping) and grpc_server_conn.c (what is said on
 * one connection).
 */
#pragma once

#include "net/grpc_server.h"
#include "net/h2.h"
#include "net/pump.h"

struct grpc_route {
    const struct grpc_method *method; /* borrowed, outlives the server */
    void *user;
};

struct grpc_server_conn {
    struct grpc_server *server; /* borrowed; gone when `freed` */
    struct loop *loop;
    struct grpc_limits limits;
    struct h2 *h2; /* owned */
    struct sock_peer peer;
    bool has_peer;
    struct grpc_call *calls; /* owned */
    size_t n_calls;
    size_t pending_bytes; /* of requests that are not complete */
    unsigned busy;        /* users of the call list that are on the stack */
    bool freed, draining;

    /* What grpc_server.c keeps here; nothing of it is used on a connection without a socket. */
    struct pump *pump; /* owned */
    struct timer preface;
    uint64_t quiet_ns; /* when the last call ended */
    struct grpc_server_conn *prev, *next;
};

struct loop *grpc_server_loop(const struct grpc_server *server);
const struct grpc_limits *grpc_server_limits(const struct grpc_server *server); /* no zeroes */

/* The route of a path, or NULL; then *ret_known says whether its service exists at all. */
const struct grpc_route *grpc_server_find(const struct grpc_server *server, struct span path,
                                          bool *ret_known);

/* Cancels the unary calls that are still open, telling the client UNAVAILABLE. */
void grpc_server_conn_cancel(struct grpc_server_conn *conn);
