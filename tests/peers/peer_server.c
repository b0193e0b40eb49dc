/*
 * A server of our own for a foreign client: `peer_server SOCKET`. SIGTERM stops it gracefully.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "net/grpc_server.h"

struct peer {
    struct loop *loop;
    struct grpc_server *server;
    int n_cancelled;
};

static void on_echo(struct grpc_call *call, struct span request, void *user)
{
    grpc_call_reply(call, request);
}

static int number_of(struct span request)
{
    uint64_t number = 0;

    return text_to_u64(request, &number) == 0 ? (int)number : 0;
}

static void on_big(struct grpc_call *call, struct span request, void *user)
{
    auto_(buf_done) struct buf big = BUF_MAX(MIB(8));

    for (int i = 0; i < number_of(request); i++)
        buf_add_char(&big, (char)('a' + i % 26));
    grpc_call_reply(call, buf_span(&big));
}

static void on_count(struct grpc_call *call, struct span request, void *user)
{
    char text[16];

    for (int i = 0; i < number_of(request); i++) {
        int n = snprintf(text, sizeof(text), "%d", i);
        if (grpc_call_send(call, (struct span){ text, (size_t)n }, NULL) < 0) {
            grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "you are too slow");
            return;
        }
    }
    grpc_call_end(call, GRPC_OK, NULL);
}

/* "9 the message": the request says how to fail. */
static void on_fail(struct grpc_call *call, struct span request, void *user)
{
    char text[1024];

    snprintf(text, sizeof(text), SPAN_FMT, SPAN_ARG(request));
    grpc_call_end(call, (enum grpc_code)atoi(text), strchr(text, ' ') + 1);
}

static void on_cancel(struct grpc_call *call, void *user)
{
    struct peer *peer = user;

    peer->n_cancelled++;
}

static void on_hold(struct grpc_call *call, struct span request, void *user)
{
    grpc_call_on_cancel(call, on_cancel, user);
}

static void on_watch(struct grpc_call *call, struct span request, void *user)
{
    on_hold(call, request, user);
    (void)!grpc_call_send_latest(call, SPAN("first"), NULL);
}

static void on_fail_after(struct grpc_call *call, struct span request, void *user)
{
    (void)!grpc_call_send(call, SPAN("only"), NULL);
    grpc_call_end(call, GRPC_ABORTED, "in the middle");
}

static void on_cancels(struct grpc_call *call, struct span request, void *user)
{
    struct peer *peer = user;
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", peer->n_cancelled);

    grpc_call_reply(call, (struct span){ text, (size_t)n });
}

static void on_who(struct grpc_call *call, struct span request, void *user)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%d", (int)grpc_call_peer(call)->pid);

    grpc_call_reply(call, (struct span){ text, (size_t)n });
}

struct later {
    struct timer timer;
    struct grpc_call *call;
};

static void answer_now(struct timer *timer, void *user)
{
    struct later *later = user;

    grpc_call_reply(later->call, SPAN("later"));
    free(later);
}

static void forget(struct grpc_call *call, void *user)
{
    struct later *later = user;

    timer_stop(&later->timer);
    free(later);
}

static void on_later(struct grpc_call *call, struct span request, void *user)
{
    struct peer *peer = user;
    struct later *later = calloc(1, sizeof(*later));

    later->call = call;
    grpc_call_on_cancel(call, forget, later);
    timer_start(&later->timer, peer->loop, (uint64_t)number_of(request), answer_now, later);
}

static const struct grpc_method methods[] = {
    { "/peer.Test/Echo", GRPC_UNARY, on_echo },
    { "/peer.Test/Big", GRPC_UNARY, on_big },
    { "/peer.Test/Count", GRPC_SERVER_STREAM, on_count },
    { "/peer.Test/Fail", GRPC_UNARY, on_fail },
    { "/peer.Test/FailAfter", GRPC_SERVER_STREAM, on_fail_after },
    { "/peer.Test/Hold", GRPC_UNARY, on_hold },
    { "/peer.Test/Watch", GRPC_SERVER_STREAM, on_watch },
    { "/peer.Test/Cancels", GRPC_UNARY, on_cancels },
    { "/peer.Test/Who", GRPC_UNARY, on_who },
    { "/peer.Test/Later", GRPC_UNARY, on_later },
};

static void on_stopped(void *user)
{
    struct peer *peer = user;

    loop_stop(peer->loop);
}

static void on_sigterm(int signum, void *user)
{
    struct peer *peer = user;

    grpc_server_stop(peer->server, 5000, on_stopped, peer);
}

static int run(const char *path, struct err *err)
{
    struct peer peer = {};
    int r = loop_new(&peer.loop, err);

    if (r == 0)
        r = grpc_server_new(peer.loop, NULL, &peer.server, err);
    if (r == 0)
        r = grpc_server_add(peer.server, methods, ARRAY_LEN(methods), &peer, err);
    if (r == 0)
        r = loop_on_signal(peer.loop, SIGTERM, on_sigterm, &peer, err);
    if (r == 0)
        r = grpc_server_listen(peer.server, path, NULL, err);
    if (r == 0) {
        puts("ready");
        fflush(stdout);
        loop_run(peer.loop);
    }
    grpc_server_free(peer.server);
    loop_free(peer.loop);
    return r;
}

int main(int argc, char **argv)
{
    struct err err = {};

    if (argc != 2)
        return 2;
    if (run(argv[1], &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return 0;
}
