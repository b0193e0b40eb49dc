#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "net/grpc_server.h"
#include "net/h2.h"
#include "wire.h"

#define REPLY(stream, len)                                                                         \
    "HEADERS " #stream " :status=200 content-type=application/grpc\nDATA " #stream " len=" #len    \
    "\nHEADERS " #stream " end grpc-status=0 grpc-message=\n"
#define REFUSAL(stream, code, text)                                                                \
    "HEADERS " #stream " end :status=200 content-type=application/grpc grpc-status=" #code         \
    " grpc-message=" text "\n"

/* A server, and one connection without a socket. */
struct rig {
    struct loop *loop;
    struct grpc_server *server;
    struct grpc_server_conn *conn;
    struct wire_reader reader;
    struct buf in, said, story;
    struct grpc_call *call; /* the last one that was not answered at once */
    bool free_server_on_cancel, free_server_in_handler;
    char dir[64], path[96];
};

/* ---- handlers ---- */

static void on_echo(struct grpc_call *call, struct span request, void *user)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "echo " SPAN_FMT "\n", SPAN_ARG(request));
    if (rig->free_server_in_handler) {
        rig->conn = NULL;
        grpc_server_free(steal(rig->server));
        return;
    }
    grpc_call_reply(call, request);
}

static void on_cancel(struct grpc_call *call, void *user)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "cancelled %s\n", grpc_call_path(call));
    rig->call = NULL;
    /* Too late for an answer, but no harm in trying. */
    grpc_call_reply(call, SPAN("late"));
    assert_int_equal(grpc_call_send(call, SPAN("late"), NULL), -ECANCELED);
    if (rig->free_server_on_cancel)
        grpc_server_free(steal(rig->server));
}

static void on_later(struct grpc_call *call, struct span request, void *user)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "later " SPAN_FMT "\n", SPAN_ARG(request));
    grpc_call_set_data(call, rig);
    grpc_call_on_cancel(call, on_cancel, grpc_call_data(call));
    rig->call = call;
}

static void on_fail(struct grpc_call *call, struct span request, void *user)
{
    struct err err;

    err_set(&err, ENODEV, "no device \"%s\": 100%% gone", "x");
    grpc_call_fail(call, &err);
}

static const struct grpc_method methods[] = {
    { "/t.Test/Echo", GRPC_UNARY, on_echo },
    { "/t.Test/Later", GRPC_UNARY, on_later },
    { "/t.Test/Fail", GRPC_UNARY, on_fail },
    { "/t.Test/Watch", GRPC_SERVER_STREAM, on_later },
};

/* ---- the rig ---- */

static int set_up(void **state)
{
    static struct rig rig;
    struct grpc_limits limits = { .max_message = 1000, .max_pending = 1500, .max_connections = 3 };

    rig = (struct rig){ .in = BUF_MAX(MIB(4)), .said = BUF_MAX(MIB(4)), .story = BUF_MAX(MIB(1)) };
    *state = &rig;
    if (loop_new_manual(&rig.loop, NULL) < 0 ||
        grpc_server_new(rig.loop, &limits, &rig.server, NULL) < 0 ||
        grpc_server_add(rig.server, methods, ARRAY_LEN(methods), &rig, NULL) < 0)
        return -1;
    strcpy(rig.dir, "/tmp/tranche-server-XXXXXX");
    if (!mkdtemp(rig.dir))
        return -1;
    snprintf(rig.path, sizeof(rig.path), "%s/s.sock", rig.dir);
    wire_reader_init(&rig.reader);
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    grpc_server_conn_free(rig->conn);
    grpc_server_free(rig->server);
    loop_free(rig->loop);
    wire_reader_done(&rig->reader);
    buf_done(&rig->in);
    buf_done(&rig->said);
    buf_done(&rig->story);
    return file_remove_tree(rig->dir, NULL);
}

static const char *said(struct rig *rig)
{
    struct span bytes;

    buf_reset(&rig->said);
    while ((bytes = grpc_server_conn_output(rig->conn)).len > 0) {
        wire_tell(&rig->reader, bytes, &rig->said);
        grpc_server_conn_sent(rig->conn, bytes.len);
    }
    return buf_text(&rig->said);
}

static void feed(struct rig *rig)
{
    assert_int_equal(grpc_server_conn_feed(rig->conn, buf_span(&rig->in), NULL), 0);
    buf_reset(&rig->in);
}

static void greet(struct rig *rig)
{
    assert_int_equal(grpc_server_conn_new(rig->server, NULL, &rig->conn, NULL), 0);
    wire_hello(&rig->in);
    feed(rig);
    said(rig);
}

static const char *ask(struct rig *rig, uint32_t stream, const char *path, const char *message)
{
    wire_request(&rig->in, stream, path, span_of(message));
    feed(rig);
    return said(rig);
}

static const char *ask_with(struct rig *rig, const char *const *pairs, struct span body)
{
    wire_headers(&rig->in, 1, WIRE_END_HEADERS, pairs);
    wire_frame(&rig->in, WIRE_DATA, WIRE_END_STREAM, 1, body);
    feed(rig);
    return said(rig);
}

/* ---- answers ---- */

static void a_unary_answer_looks_as_recorded(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    assert_string_equal(ask(rig, 1, "/t.Test/Echo", "hi"), REPLY(1, 7));
    assert_string_equal(ask(rig, 3, "/t.Test/Echo", ""), REPLY(3, 5));
    assert_string_equal(buf_text(&rig->story), "echo hi\necho \n");
}

static void an_error_is_one_frame_with_its_text_escaped_where_needed(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    assert_string_equal(ask(rig, 1, "/t.Test/Fail", ""),
                        REFUSAL(1, 5, "no device \"x\": 100%25 gone"));
}

static void unknown_methods_and_services_are_named(void **state)
{
    static const struct {
        const char *path, *answer;
    } cases[] = {
        { "/t.Test/Nope", REFUSAL(1, 12, "unknown method Nope for service t.Test") },
        { "/t.Other/Echo", REFUSAL(1, 12, "unknown service t.Other") },
        { "/t.Test/", REFUSAL(1, 12, "unknown method  for service t.Test") },
        { "/t.Tes/Echo", REFUSAL(1, 12, "unknown service t.Tes") },
        { "Echo", REFUSAL(1, 12, "malformed method name: \"Echo\"") },
        { "/Echo", REFUSAL(1, 12, "malformed method name: \"/Echo\"") },
        { "/t.Test/Echo/x", REFUSAL(1, 12, "unknown service t.Test/Echo") },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig *rig = *state;
        greet(rig);
        assert_string_equal(ask(rig, 1, cases[i].path, ""), cases[i].answer);
        grpc_server_conn_free(steal(rig->conn));
        wire_reader_done(&rig->reader);
        wire_reader_init(&rig->reader);
    }
}

static void an_answer_may_come_later(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    assert_string_equal(ask(rig, 1, "/t.Test/Later", "q"), "");
    assert_string_equal(ask(rig, 3, "/t.Test/Echo", "z"), REPLY(3, 6));
    grpc_call_reply(rig->call, SPAN("answer"));
    assert_string_equal(said(rig), REPLY(1, 11));
    assert_string_equal(buf_text(&rig->story), "later q\necho z\n");
}

static void a_stream_sends_messages_and_ends_with_trailers(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    assert_string_equal(ask(rig, 1, "/t.Test/Watch", ""), "");
    assert_int_equal(grpc_call_send(rig->call, SPAN("one"), NULL), 0);
    assert_string_equal(said(rig), "HEADERS 1 :status=200 content-type=application/grpc\n"
                                   "DATA 1 len=8\n");
    assert_int_equal(grpc_call_send(rig->call, SPAN("two"), NULL), 0);
    assert_int_equal(grpc_call_send(rig->call, SPAN(""), NULL), 0);
    assert_string_equal(said(rig), "DATA 1 len=13\n");
    grpc_call_end(rig->call, GRPC_OK, NULL);
    assert_string_equal(said(rig), "HEADERS 1 end grpc-status=0 grpc-message=\n");
    assert_string_equal(buf_text(&rig->story), "later \n"); /* ended by us: not cancelled */
}

static void what_was_sent_before_an_end_still_arrives(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    ask(rig, 1, "/t.Test/Watch", "");
    assert_int_equal(grpc_call_send(rig->call, SPAN("one"), NULL), 0);
    grpc_call_end(rig->call, GRPC_DATA_LOSS, "gone");
    assert_string_equal(said(rig),
                        "HEADERS 1 :status=200 content-type=application/grpc\n"
                        "DATA 1 len=8\nHEADERS 1 end grpc-status=15 grpc-message=gone\n");
}

static void a_slow_reader_gets_the_newest_list(void **state)
{
    struct rig *rig = *state;
    auto_(buf_done) struct buf list = BUF_MAX(KIB(200));

    greet(rig);
    ask(rig, 1, "/t.Test/Watch", "");
    while (list.len < KIB(100))
        buf_add_char(&list, 'd');
    assert_int_equal(grpc_call_send_latest(rig->call, buf_span(&list), NULL), 0);
    said(rig); /* as much as the window allows */
    for (int i = 0; i < 50; i++)
        assert_int_equal(grpc_call_send_latest(rig->call, SPAN("newer"), NULL), 0);
    wire_frame(&rig->in, WIRE_WINDOW_UPDATE, 0, 0, SPAN("\0\2\0\0"));
    wire_frame(&rig->in, WIRE_WINDOW_UPDATE, 0, 1, SPAN("\0\2\0\0"));
    feed(rig);
    /* 5 + 102,400 - 65,535 of the old list, and one newer list of 10 */
    assert_string_equal(said(rig), "DATA 1 len=16384\nDATA 1 len=16384\nDATA 1 len=4112\n");
    for (int i = 0; i < GRPC_MAX_QUEUE; i++)
        assert_int_equal(grpc_call_send(rig->call, SPAN("x"), NULL), 0);
    assert_int_equal(grpc_call_send(rig->call, SPAN("x"), NULL), -EAGAIN);
}

/* ---- requests that are wrong ---- */

static void requests_that_are_not_grpc_are_answered_in_http(void **state)
{
    static const struct {
        const char *pairs[16];
        const char *answer;
    } cases[] = {
        { { ":method", "POST", ":scheme", "http", ":path", "/t.Test/Echo", "content-type",
            "application/json", NULL },
          "HEADERS 1 end :status=415 content-type=application/grpc grpc-status=3 grpc-message="
          "the content-type of a gRPC request is application/grpc\n" },
        { { ":method", "POST", ":scheme", "http", ":path", "/t.Test/Echo", NULL },
          "HEADERS 1 end :status=415 content-type=application/grpc grpc-status=3 grpc-message="
          "the content-type of a gRPC request is application/grpc\n" },
        { { ":method", "GET", ":scheme", "http", ":path", "/t.Test/Echo", "content-type",
            "application/grpc", NULL },
          "HEADERS 1 end :status=405 content-type=application/grpc grpc-status=13 grpc-message="
          "a gRPC request is a POST\n" },
        { { ":method", "POST", ":scheme", "http", ":path", "/t.Test/Echo", "content-type",
            "application/grpc", "grpc-timeout", "soon", NULL },
          "HEADERS 1 end :status=400 content-type=application/grpc grpc-status=13 grpc-message="
          "malformed grpc-timeout\n" },
        { { ":method", "POST", ":path", "/t.Test/Echo", "content-type", "application/grpc", NULL },
          "RST_STREAM 1 error=1\n" },
        { { ":method", "POST", ":scheme", "http", "content-type", "application/grpc", NULL },
          "RST_STREAM 1 error=1\n" },
        { { ":method", "POST", ":scheme", "http", ":path", "/a/b", ":path", "/t.Test/Echo", NULL },
          "RST_STREAM 1 error=1\n" },
        { { ":method", "POST", ":scheme", "http", "te", "trailers", ":path", "/a/b", NULL },
          "RST_STREAM 1 error=1\n" },
        { { ":method", "POST", ":scheme", "http", ":path", "/a/b", ":status", "200", NULL },
          "RST_STREAM 1 error=1\n" },
        { { ":method", "POST", ":scheme", "http", ":path", "/a/b", "connection", "close", NULL },
          "RST_STREAM 1 error=1\n" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig *rig = *state;
        greet(rig);
        assert_string_equal(ask_with(rig, cases[i].pairs, SPAN("\0\0\0\0\0")), cases[i].answer);
        grpc_server_conn_free(steal(rig->conn));
        wire_reader_done(&rig->reader);
        wire_reader_init(&rig->reader);
        assert_string_equal(buf_text(&rig->story), "");
    }
}

static void bodies_that_are_not_one_plain_message_are_refused(void **state)
{
    static const struct {
        const char *encoding;
        struct span body;
        const char *answer;
    } cases[] = {
        { "gzip",
          { "\1\0\0\0\3abc", 8 },
          "HEADERS 1 end :status=200 content-type=application/grpc grpc-status=12 grpc-message="
          "grpc: Decompressor is not installed for grpc-encoding \"gzip\" "
          "grpc-accept-encoding=identity\n" },
        { "gzip", { "\0\0\0\0\3abc", 8 }, REPLY(1, 8) },
        { "identity",
          { "\1\0\0\0\3abc", 8 },
          REFUSAL(1, 13, "grpc: compressed flag set with identity or empty encoding") },
        { "identity", { "", 0 }, REFUSAL(1, 13, "the request has no message") },
        { "identity",
          { "\0\0\0\0\3ab", 7 },
          REFUSAL(1, 13, "the request ends inside its message") },
        { "identity",
          { "\0\0\0\0\0\0\0\0\0\0", 10 },
          REFUSAL(1, 13, "the request has more than one message") },
        { "identity",
          { "\0\0\0\3\351", 5 },
          REFUSAL(1, 8, "grpc: received message larger than max (1001 vs. 1000)") },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig *rig = *state;
        const char *const pairs[] = { ":method",
                                      "POST",
                                      ":scheme",
                                      "http",
                                      ":path",
                                      "/t.Test/Echo",
                                      "content-type",
                                      "application/grpc+proto",
                                      "grpc-encoding",
                                      cases[i].encoding,
                                      NULL };
        greet(rig);
        const char *text = ask_with(rig, pairs, cases[i].body);
        assert_string_equal(text, cases[i].answer);
        grpc_server_conn_free(steal(rig->conn));
        wire_reader_done(&rig->reader);
        wire_reader_init(&rig->reader);
    }
}

static void a_request_that_is_too_large_is_refused_before_it_has_arrived(void **state)
{
    struct rig *rig = *state;
    const char *const pairs[] = { ":method", "POST",         ":scheme",      "http",
                                  ":path",   "/t.Test/Echo", "content-type", "application/grpc",
                                  NULL };

    greet(rig);
    wire_headers(&rig->in, 1, WIRE_END_HEADERS, pairs);
    wire_frame(&rig->in, WIRE_DATA, 0, 1, SPAN("\0\1\0\0\0hello"));
    feed(rig);
    assert_string_equal(
        said(rig),
        REFUSAL(
            1, 8,
            "grpc: received message larger than max (16777216 vs. 1000)") "RST_STREAM 1 error=0\n");
    assert_string_equal(ask(rig, 3, "/t.Test/Echo", "still here"), REPLY(3, 15));
}

static void unfinished_requests_of_one_connection_are_limited_together(void **state)
{
    struct rig *rig = *state;
    const char *const pairs[] = { ":method", "POST",         ":scheme",      "http",
                                  ":path",   "/t.Test/Echo", "content-type", "application/grpc",
                                  NULL };
    char body[5 + 800] = "\0\0\0\3\350"; /* 800 of 1,000 bytes */

    greet(rig);
    for (uint32_t stream = 1; stream <= 3; stream += 2) {
        wire_headers(&rig->in, stream, WIRE_END_HEADERS, pairs);
        wire_frame(&rig->in, WIRE_DATA, 0, stream, (struct span){ body, sizeof(body) });
    }
    feed(rig);
    const char *text = said(rig);
    assert_null(strstr(text, "HEADERS 1"));
    assert_non_null(strstr(text, "HEADERS 3 end :status=200 content-type=application/grpc "
                                 "grpc-status=8"));
    wire_frame(&rig->in, WIRE_RST_STREAM, 0, 1, SPAN("\0\0\0\10"));
    feed(rig);
    wire_headers(&rig->in, 5, WIRE_END_HEADERS, pairs);
    wire_frame(&rig->in, WIRE_DATA, 0, 5, (struct span){ body, sizeof(body) });
    feed(rig);
    assert_null(strstr(said(rig), "HEADERS 5")); /* room again */
}

/* ---- cancellation ---- */

static void a_reset_cancels_the_call(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    ask(rig, 1, "/t.Test/Later", "");
    wire_frame(&rig->in, WIRE_RST_STREAM, 0, 1, SPAN("\0\0\0\10"));
    feed(rig);
    assert_string_equal(buf_text(&rig->story), "later \ncancelled /t.Test/Later\n");
    assert_string_equal(said(rig), "");
}

static void a_deadline_cancels_the_call_and_tells_the_client(void **state)
{
    struct rig *rig = *state;
    const char *const pairs[] = { ":method",
                                  "POST",
                                  ":scheme",
                                  "http",
                                  ":path",
                                  "/t.Test/Later",
                                  "content-type",
                                  "application/grpc",
                                  "grpc-timeout",
                                  "50m",
                                  NULL };

    greet(rig);
    uint64_t now = loop_now_ns(rig->loop);
    assert_string_equal(ask_with(rig, pairs, SPAN("\0\0\0\0\0")), "");
    assert_int_equal(grpc_call_deadline_ns(rig->call), now + 50000000);
    loop_advance_ms(rig->loop, 49);
    assert_string_equal(said(rig), "");
    loop_advance_ms(rig->loop, 1);
    assert_string_equal(said(rig), REFUSAL(1, 4, "context deadline exceeded"));
    assert_string_equal(buf_text(&rig->story), "later \ncancelled /t.Test/Later\n");
}

static void an_answer_in_time_stops_the_deadline(void **state)
{
    struct rig *rig = *state;
    const char *const pairs[] = { ":method",
                                  "POST",
                                  ":scheme",
                                  "http",
                                  ":path",
                                  "/t.Test/Later",
                                  "content-type",
                                  "application/grpc",
                                  "grpc-timeout",
                                  "50m",
                                  NULL };

    greet(rig);
    ask_with(rig, pairs, SPAN("\0\0\0\0\0"));
    grpc_call_reply(rig->call, SPAN(""));
    assert_string_equal(said(rig), REPLY(1, 5));
    loop_advance_ms(rig->loop, 1000);
    assert_string_equal(said(rig), "");
    assert_string_equal(buf_text(&rig->story), "later \n");
}

static void a_request_that_begins_and_does_not_end_is_given_up(void **state)
{
    struct rig *rig = *state;
    const char *const pairs[] = { ":method", "POST",         ":scheme",      "http",
                                  ":path",   "/t.Test/Echo", "content-type", "application/grpc",
                                  NULL };

    greet(rig);
    wire_headers(&rig->in, 1, WIRE_END_HEADERS, pairs);
    feed(rig);
    loop_advance_ms(rig->loop, 60000);
    assert_non_null(strstr(said(rig), "grpc-status=4"));
}

static void a_lost_connection_cancels_its_calls(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    ask(rig, 1, "/t.Test/Later", "");
    ask(rig, 3, "/t.Test/Watch", "");
    grpc_server_conn_free(steal(rig->conn));
    assert_string_equal(buf_text(&rig->story), "later \nlater \ncancelled /t.Test/Watch\n"
                                               "cancelled /t.Test/Later\n");
}

/* ---- stopping ---- */

static void draining_ends_streams_finishes_unary_calls_and_takes_no_more(void **state)
{
    struct rig *rig = *state;

    greet(rig);
    ask(rig, 1, "/t.Test/Watch", "");
    ask(rig, 3, "/t.Test/Later", "");
    struct grpc_call *unary = rig->call;
    buf_reset(&rig->story);
    grpc_server_conn_drain(rig->conn);
    assert_string_equal(buf_text(&rig->story), "cancelled /t.Test/Watch\n");
    assert_string_equal(said(rig), "GOAWAY last=3 error=0\n" REFUSAL(1, 0, ""));
    assert_false(grpc_server_conn_over(rig->conn));
    assert_string_equal(ask(rig, 5, "/t.Test/Echo", "x"), "");
    grpc_call_reply(unary, SPAN("x"));
    assert_string_equal(said(rig), REPLY(3, 6));
    assert_true(grpc_server_conn_over(rig->conn));
}

/* ---- with sockets ---- */

static void settle(struct rig *rig)
{
    while (loop_poll(rig->loop)) {
    }
}

/* A client that speaks in frames, on a real connection. */
static int dial(struct rig *rig, bool hello)
{
    int fd;

    assert_int_equal(sock_connect(rig->path, &fd, NULL), 0);
    if (hello) {
        wire_hello(&rig->in);
        assert_int_equal(write(fd, rig->in.ptr, rig->in.len), rig->in.len);
        buf_reset(&rig->in);
    }
    settle(rig);
    return fd;
}

static const char *hear(struct rig *rig, int fd)
{
    char bytes[KIB(16)];
    ssize_t n;

    settle(rig);
    buf_reset(&rig->said);
    wire_reader_done(&rig->reader);
    wire_reader_init(&rig->reader);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        wire_tell(&rig->reader, (struct span){ bytes, (size_t)n }, &rig->said);
    if (n == 0 || errno != EAGAIN)
        buf_add_text(&rig->said, "closed");
    return buf_text(&rig->said);
}

static void ask_on(struct rig *rig, int fd, uint32_t stream, const char *path)
{
    wire_request(&rig->in, stream, path, SPAN("x"));
    assert_int_equal(write(fd, rig->in.ptr, rig->in.len), rig->in.len);
    buf_reset(&rig->in);
}

static void listen_on(struct rig *rig)
{
    assert_int_equal(grpc_server_listen(rig->server, rig->path, NULL, NULL), 0);
}

static void settings_go_out_on_accept_and_the_caller_is_known(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    auto_close int fd = dial(rig, false);
    assert_string_equal(hear(rig, fd), "SETTINGS 3=100 6=16384\n");
    wire_hello(&rig->in);
    ask_on(rig, fd, 1, "/t.Test/Later");
    settle(rig);
    assert_non_null(grpc_call_peer(rig->call));
    assert_int_equal(grpc_call_peer(rig->call)->pid, getpid());
    grpc_call_reply(rig->call, SPAN(""));
    const char *text = hear(rig, fd);
    assert_non_null(strstr(text, REPLY(1, 5)));
    assert_int_equal(grpc_server_n_connections(rig->server), 1);
}

static void a_peer_without_http2_is_dropped_after_a_while(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    auto_close int mute = dial(rig, false), good = dial(rig, true);
    hear(rig, mute);
    loop_advance_ms(rig->loop, 9999);
    assert_string_equal(hear(rig, mute), "");
    loop_advance_ms(rig->loop, 1);
    assert_string_equal(hear(rig, mute), "closed");
    assert_null(strstr(hear(rig, good), "closed"));
}

static void a_client_that_leaves_cancels_its_calls(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    int fd = dial(rig, true);
    ask_on(rig, fd, 1, "/t.Test/Watch");
    settle(rig);
    assert_int_equal(grpc_server_n_calls(rig->server), 1);
    close(fd);
    settle(rig);
    assert_string_equal(buf_text(&rig->story), "later x\ncancelled /t.Test/Watch\n");
    assert_int_equal(grpc_server_n_connections(rig->server), 0);
}

static void a_peer_that_breaks_the_protocol_is_told_and_dropped(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    auto_close int fd = dial(rig, true);
    ask_on(rig, fd, 1, "/t.Test/Watch");
    settle(rig);
    hear(rig, fd);
    assert_int_equal(write(fd, "\0\0\1\0\0\0\0\0\0x", 10), 10); /* DATA on stream 0 */
    assert_string_equal(hear(rig, fd), "GOAWAY last=1 error=1\nclosed");
    assert_string_equal(buf_text(&rig->story), "later x\ncancelled /t.Test/Watch\n");
}

static void what_a_full_socket_does_not_take_is_kept_for_the_reader(void **state)
{
    struct rig *rig = *state;
    auto_(buf_done) struct buf list = BUF_MAX(MIB(4)), heard = BUF_MAX(MIB(8));
    char bytes[5000];

    listen_on(rig);
    auto_close int fd = dial(rig, true);
    wire_frame(&rig->in, WIRE_SETTINGS, 0, 0, SPAN("\0\4\0\377\0\0"));
    wire_frame(&rig->in, WIRE_WINDOW_UPDATE, 0, 0, SPAN("\0\377\0\0"));
    ask_on(rig, fd, 1, "/t.Test/Watch");
    settle(rig);
    while (list.len < MIB(2))
        buf_printf(&list, "%zu ", list.len);
    assert_int_equal(grpc_call_send(rig->call, buf_span(&list), NULL), 0);
    settle(rig);
    ask_on(rig, fd, 3, "/t.Test/Echo"); /* it goes on listening */
    settle(rig);
    assert_non_null(strstr(buf_text(&rig->story), "echo x\n"));
    grpc_call_end(rig->call, GRPC_OK, NULL);
    for (ssize_t n; (n = read(fd, bytes, sizeof(bytes))) > 0; settle(rig))
        assert_int_equal(buf_add(&heard, bytes, (size_t)n), 0);

    struct span rest = buf_span(&heard);
    struct wire_seen seen;
    size_t len = 0;
    while (wire_read(&rig->reader, &rest, &seen))
        if (seen.type == WIRE_DATA && seen.stream == 1)
            len += seen.payload.len;
    assert_int_equal(len, 5 + list.len);
    assert_int_equal(rest.len, 0);
    assert_int_equal(seen.type, WIRE_HEADERS);
    assert_int_equal(seen.stream, 1);
    assert_int_equal(seen.flags & WIRE_END_STREAM, WIRE_END_STREAM);
}

static void without_descriptors_accepting_pauses_and_goes_on(void **state)
{
    struct rig *rig = *state;
    struct rlimit before, none;
    int fd;

    listen_on(rig);
    assert_int_equal(sock_connect(rig->path, &fd, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){ .rlim_cur = 3, .rlim_max = before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    settle(rig); /* would spin for ever */
    assert_int_equal(grpc_server_n_connections(rig->server), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    loop_advance_ms(rig->loop, 1000);
    assert_int_equal(grpc_server_n_connections(rig->server), 1);
    close(fd);
}

static void the_idlest_connection_makes_room_for_a_new_one(void **state)
{
    struct rig *rig = *state;

    listen_on(rig); /* three connections at most */
    auto_close int busy = dial(rig, true);
    ask_on(rig, busy, 1, "/t.Test/Watch");
    settle(rig);
    loop_advance_ms(rig->loop, 10);
    auto_close int idle = dial(rig, true);
    loop_advance_ms(rig->loop, 10);
    auto_close int later = dial(rig, true);
    auto_close int fourth = dial(rig, true);
    const char *text = hear(rig, idle);
    assert_non_null(strstr(text, "GOAWAY last=0 error=0\nclosed"));
    assert_null(strstr(hear(rig, fourth), "closed"));
    assert_null(strstr(hear(rig, busy), "closed"));
    assert_null(strstr(hear(rig, later), "closed"));
    ask_on(rig, later, 1, "/t.Test/Watch");
    ask_on(rig, fourth, 1, "/t.Test/Watch");
    settle(rig);
    auto_close int fifth = dial(rig, true);
    assert_string_equal(hear(rig, fifth), "closed"); /* everyone is busy */
}

static void count(void *user)
{
    ++*(int *)user;
}

static void stopping_is_reported_when_the_last_connection_is_gone(void **state)
{
    struct rig *rig = *state;
    int stopped = 0;

    listen_on(rig);
    auto_close int fd = dial(rig, true);
    ask_on(rig, fd, 1, "/t.Test/Later");
    settle(rig);
    hear(rig, fd);
    grpc_server_stop(rig->server, 1000, count, &stopped);
    assert_false(file_exists(rig->path));
    assert_string_equal(hear(rig, fd), "GOAWAY last=1 error=0\n");
    assert_int_equal(stopped, 0);
    grpc_call_reply(rig->call, SPAN(""));
    assert_string_equal(hear(rig, fd), REPLY(1, 5) "closed");
    assert_int_equal(stopped, 1);
    loop_advance_ms(rig->loop, 10000);
    assert_int_equal(stopped, 1);
}

static void stopping_does_not_wait_for_ever(void **state)
{
    struct rig *rig = *state;
    int stopped = 0;

    listen_on(rig);
    auto_close int fd = dial(rig, true);
    ask_on(rig, fd, 1, "/t.Test/Later");
    settle(rig);
    hear(rig, fd);
    grpc_server_stop(rig->server, 1000, count, &stopped);
    loop_advance_ms(rig->loop, 1000);
    assert_string_equal(
        hear(rig, fd), "GOAWAY last=1 error=0\n" REFUSAL(1, 14, "the server is stopping") "closed");
    assert_int_equal(stopped, 1);
    assert_string_equal(buf_text(&rig->story), "later x\ncancelled /t.Test/Later\n");
}

static void a_stop_without_connections_is_reported_at_once(void **state)
{
    struct rig *rig = *state;
    int stopped = 0;

    listen_on(rig);
    grpc_server_stop(rig->server, 1000, count, &stopped);
    assert_int_equal(stopped, 0); /* from the loop, not from inside */
    settle(rig);
    assert_int_equal(stopped, 1);
}

static void a_socket_file_that_was_replaced_is_not_ours(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    assert_true(grpc_server_owns(rig->server, rig->path));
    assert_false(grpc_server_owns(rig->server, "/elsewhere"));
    assert_int_equal(unlink(rig->path), 0);
    assert_false(grpc_server_owns(rig->server, rig->path));
    listen_on(rig);
    assert_true(grpc_server_owns(rig->server, rig->path));
    auto_close int fd = dial(rig, true);
    assert_non_null(strstr(hear(rig, fd), "SETTINGS"));
}

static void handlers_may_free_the_server(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    auto_close int fd = dial(rig, true);
    rig->free_server_in_handler = true;
    ask_on(rig, fd, 1, "/t.Test/Echo");
    ask_on(rig, fd, 3, "/t.Test/Echo");
    assert_non_null(strstr(hear(rig, fd), "closed"));
    assert_null(rig->server);
    assert_string_equal(buf_text(&rig->story), "echo x\n");
}

static void cancel_functions_may_free_the_server(void **state)
{
    struct rig *rig = *state;

    listen_on(rig);
    int fd = dial(rig, true);
    auto_close int other = dial(rig, true);
    ask_on(rig, fd, 1, "/t.Test/Watch");
    ask_on(rig, fd, 3, "/t.Test/Later");
    ask_on(rig, other, 1, "/t.Test/Later");
    settle(rig);
    rig->free_server_on_cancel = true;
    buf_reset(&rig->story);
    close(fd);
    settle(rig);
    assert_null(rig->server);
    assert_int_equal(rig->story.len, 3 * strlen("cancelled /t.Test/Later\n"));
}

static void a_stop_may_be_ended_by_freeing_the_server(void **state)
{
    struct rig *rig = *state;
    int stopped = 0;

    listen_on(rig);
    auto_close int fd = dial(rig, true);
    ask_on(rig, fd, 1, "/t.Test/Watch");
    settle(rig);
    rig->free_server_on_cancel = true;
    grpc_server_stop(rig->server, 1000, count, &stopped);
    settle(rig);
    assert_null(rig->server);
    assert_int_equal(stopped, 0);
}

static void the_same_path_cannot_be_served_twice(void **state)
{
    struct rig *rig = *state;
    struct err err;

    assert_int_equal(grpc_server_add(rig->server, methods, 1, NULL, &err), -EEXIST);
    assert_string_equal(err.text, "/t.Test/Echo is served already");
}

/* ---- memory ---- */

static void every_lack_of_memory_is_survived(void **state)
{
    struct rig *rig = *state;
    auto_(buf_done) struct buf in = BUF_MAX(KIB(4));

    wire_hello(&in);
    wire_request(&in, 1, "/t.Test/Echo", SPAN("hello"));
    wire_request(&in, 3, "/t.Test/Fail", SPAN("hello"));
    wire_request(&in, 5, "/t.Test/Nope", SPAN("hello"));
    for (unsigned long i = 0, n = 1; i <= n; i++) {
        struct grpc_server_conn *conn = NULL;
        struct err err;

        mem_fail_from(i);
        if (grpc_server_conn_new(rig->server, NULL, &conn, &err) == 0) {
            (void)!grpc_server_conn_feed(conn, buf_span(&in), &err);
            grpc_server_conn_sent(conn, grpc_server_conn_output(conn).len);
            grpc_server_conn_free(conn);
        }
        if (i == 0)
            n = mem_count();
        mem_fail_from(0);
        buf_reset(&rig->story);
    }
}

#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(a_unary_answer_looks_as_recorded),
        SERVER_TEST(an_error_is_one_frame_with_its_text_escaped_where_needed),
        SERVER_TEST(unknown_methods_and_services_are_named),
        SERVER_TEST(an_answer_may_come_later),
        SERVER_TEST(a_stream_sends_messages_and_ends_with_trailers),
        SERVER_TEST(what_was_sent_before_an_end_still_arrives),
        SERVER_TEST(a_slow_reader_gets_the_newest_list),
        SERVER_TEST(requests_that_are_not_grpc_are_answered_in_http),
        SERVER_TEST(bodies_that_are_not_one_plain_message_are_refused),
        SERVER_TEST(a_request_that_is_too_large_is_refused_before_it_has_arrived),
        SERVER_TEST(unfinished_requests_of_one_connection_are_limited_together),
        SERVER_TEST(a_reset_cancels_the_call),
        SERVER_TEST(a_deadline_cancels_the_call_and_tells_the_client),
        SERVER_TEST(an_answer_in_time_stops_the_deadline),
        SERVER_TEST(a_request_that_begins_and_does_not_end_is_given_up),
        SERVER_TEST(a_lost_connection_cancels_its_calls),
        SERVER_TEST(draining_ends_streams_finishes_unary_calls_and_takes_no_more),
        SERVER_TEST(settings_go_out_on_accept_and_the_caller_is_known),
        SERVER_TEST(a_peer_without_http2_is_dropped_after_a_while),
        SERVER_TEST(a_client_that_leaves_cancels_its_calls),
        SERVER_TEST(a_peer_that_breaks_the_protocol_is_told_and_dropped),
        SERVER_TEST(what_a_full_socket_does_not_take_is_kept_for_the_reader),
        SERVER_TEST(without_descriptors_accepting_pauses_and_goes_on),
        SERVER_TEST(the_idlest_connection_makes_room_for_a_new_one),
        SERVER_TEST(stopping_is_reported_when_the_last_connection_is_gone),
        SERVER_TEST(stopping_does_not_wait_for_ever),
        SERVER_TEST(a_stop_without_connections_is_reported_at_once),
        SERVER_TEST(a_socket_file_that_was_replaced_is_not_ours),
        SERVER_TEST(handlers_may_free_the_server),
        SERVER_TEST(cancel_functions_may_free_the_server),
        SERVER_TEST(a_stop_may_be_ended_by_freeing_the_server),
        SERVER_TEST(the_same_path_cannot_be_served_twice),
        SERVER_TEST(every_lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
