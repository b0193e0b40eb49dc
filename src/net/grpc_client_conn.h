/*
 * Between grpc_client.c (connecting, trying again) and grpc_client_conn.c (what is said on one
 * connection).
 */
#pragma once

#include "net/grpc_client.h"
#include "net/h2.h"

struct request_list {
    struct grpc_request *first, *last;
    size_t n;
};

struct grpc_client_conn {
    struct loop *loop;            /* borrowed */
    struct h2 *h2;                /* owned */
    char *authority, *user_agent; /* owned */
    size_t max_message;
    struct request_list requests;  /* owned; they are on streams */
    void (*on_ready)(void *user);  /* the server's SETTINGS are here */
    void (*on_goaway)(void *user); /* no new calls on this connection */
    void *user;
    bool lost, freed;
    unsigned busy; /* grpc_client_conn_lost is on the stack */
};

struct grpc_request {
    struct request_list *list; /* where it is linked in; NULL in none */
    struct grpc_request *prev, *next;
    struct loop *loop;
    struct grpc_client_conn *conn; /* NULL while it waits for one */
    int32_t stream;
    char *path; /* owned */
    bool wait_for_ready;
    uint64_t deadline_ns; /* 0: none */
    struct timer deadline;
    struct grpc_writer writer;

    grpc_done_fn *done; /* of a unary call */
    grpc_message_fn *on_message;
    grpc_end_fn *on_end; /* of a streaming one */
    void *user;

    struct grpc_reader reader;
    struct buf response; /* of a unary call, once it is complete */
    bool got_response;
    unsigned n_blocks; /* of headers that have begun */
    unsigned http_status;
    bool is_grpc; /* the content-type says so */
    bool has_status;
    enum grpc_code code;
    struct buf message; /* of the status, unescaped */
    char encoding[32];
    bool *gone; /* where a loop on the stack wants to hear of its end */
};

void request_list_add(struct request_list *list, struct grpc_request *request);

/* A request that is nowhere yet. */
[[nodiscard]] int request_new(struct loop *loop, const struct grpc_call_options *options,
                              struct span message, size_t max_message, struct grpc_request **ret,
                              struct err *err);
/* Puts it on a stream of the connection; fails as h2_submit_request does. */
[[nodiscard]] int request_start(struct grpc_request *request, struct grpc_client_conn *conn,
                                struct err *err);
/* Ends it with a callback, or without one. The callback comes last: afterwards neither the
 * request nor its connection may be touched. */
void request_finish(struct grpc_request *request, enum grpc_code code, const char *message);
void request_free(struct grpc_request *request);
