#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"
#include "net/h2.h"
#include "wire.h"

/* A client with a story. The other end is our own server, or frames by hand. */
struct rig {
    struct loop *loop;
    struct grpc_server *server;
    struct grpc_client *client;
    struct grpc_client_conn *conn;
    struct wire_reader reader;
    struct buf story, in, said;
    struct grpc_call *call; /* open on the server's side */
    struct grpc_request *request;
    bool free_client_in_callback, cancel_in_callback, ask_again;
    char dir[64], path[96];
};

/* ---- the server's side ---- */

static void on_echo(struct grpc_call *call, struct span request, void *user)
{
    grpc_call_reply(call, request);
}

static void on_refuse(struct grpc_call *call, struct span request, void *user)
{
    grpc_call_end(call, GRPC_FAILED_PRECONDITION, "not now: 100% busy\n\xe2\x80\xa6");
}

static void on_cancel(struct grpc_call *call, void *user)
{
    struct rig *rig = user;

    buf_add_text(&rig->story, "server cancelled\n");
    rig->call = NULL;
}

static void on_hold(struct grpc_call *call, struct span request, void *user)
{
    struct rig *rig = user;

    grpc_call_on_cancel(call, on_cancel, rig);
    rig->call = call;
}

static const struct grpc_method methods[] = {
    { "/t.Test/Echo", GRPC_UNARY, on_echo },
    { "/t.Test/Refuse", GRPC_UNARY, on_refuse },
    { "/t.Test/Hold", GRPC_UNARY, on_hold },
    { "/t.Test/Watch", GRPC_SERVER_STREAM, on_hold },
};

static void start_server(struct rig *rig)
{
    assert_int_equal(grpc_server_new(rig->loop, NULL, &rig->server, NULL), 0);
    assert_int_equal(grpc_server_add(rig->server, methods, ARRAY_LEN(methods), rig, NULL), 0);
    assert_int_equal(grpc_server_listen(rig->server, rig->path, NULL, NULL), 0);
}

/* ---- the client's side ---- */

static void ask(struct rig *rig, const char *path, const char *text, uint64_t timeout_ms,
                bool wait_for_ready);

static void on_done(void *user, const struct grpc_status *status, struct span response)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "done %s \"%s\" " SPAN_FMT "\n", grpc_code_name(status->code),
               status->message, SPAN_ARG(response));
    if (rig->free_client_in_callback)
        grpc_client_free(steal(rig->client));
    if (rig->ask_again) {
        rig->ask_again = false;
        ask(rig, "/t.Test/Echo", "again", 0, false);
    }
}

static void on_message(void *user, struct span message)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "message " SPAN_FMT "\n", SPAN_ARG(message));
    if (rig->cancel_in_callback)
        grpc_request_cancel(steal(rig->request));
    if (rig->free_client_in_callback)
        grpc_client_free(steal(rig->client));
}

static void on_end(void *user, const struct grpc_status *status)
{
    on_done(user, status, SPAN(""));
}

static void on_state(struct grpc_client *client, enum grpc_client_state state, const char *why,
                     void *user)
{
    static const char *const names[] = { "idle", "connecting", "ready", "backoff" };
    struct rig *rig = user;

    buf_printf(&rig->story, "(%s)\n", names[state]);
}

static void ask(struct rig *rig, const char *path, const char *text, uint64_t timeout_ms,
                bool wait_for_ready)
{
    struct grpc_call_options options = {
        .path = path,
        .timeout_ms = timeout_ms,
        .wait_for_ready = wait_for_ready,
    };

    assert_int_equal(
        grpc_client_unary(rig->client, &options, span_of(text), on_done, rig, &rig->request, NULL),
        0);
}

static void ask_stream(struct rig *rig)
{
    struct grpc_call_options options = { .path = "/t.Test/Watch" };

    assert_int_equal(grpc_client_stream(rig->client, &options, SPAN(""), on_message, on_end, rig,
                                        &rig->request, NULL),
                     0);
}

static void new_client(struct rig *rig, struct grpc_client_options options)
{
    options.on_state = on_state;
    options.user = rig;
    assert_int_equal(grpc_client_new(rig->loop, rig->path, &options, &rig->client, NULL), 0);
}

static void settle(struct rig *rig)
{
    while (loop_poll(rig->loop)) {
    }
}

/* What happened since the last look. */
static const char *story(struct rig *rig)
{
    settle(rig);
    buf_reset(&rig->said);
    buf_add_text(&rig->said, buf_text(&rig->story));
    buf_reset(&rig->story);
    return buf_text(&rig->said);
}

static int set_up(void **state)
{
    static struct rig rig;

    rig = (struct rig){ .story = BUF_MAX(MIB(1)), .in = BUF_MAX(MIB(8)), .said = BUF_MAX(MIB(8)) };
    *state = &rig;
    strcpy(rig.dir, "/tmp/tranche-client-XXXXXX");
    if (!mkdtemp(rig.dir) || loop_new_manual(&rig.loop, NULL) < 0)
        return -1;
    snprintf(rig.path, sizeof(rig.path), "%s/s.sock", rig.dir);
    wire_reader_init(&rig.reader);
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    grpc_client_free(rig->client);
    grpc_client_conn_free(rig->conn);
    settle(rig);
    grpc_server_free(rig->server);
    loop_free(rig->loop);
    wire_reader_done(&rig->reader);
    buf_done(&rig->story);
    buf_done(&rig->in);
    buf_done(&rig->said);
    return file_remove_tree(rig->dir, NULL);
}

/* ---- against our own server ---- */

static void the_first_call_connects_and_later_ones_share_the_connection(void **state)
{
    struct rig *rig = *state;
    struct sock_peer peer;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    settle(rig);
    assert_int_equal(grpc_client_state(rig->client), GRPC_CLIENT_IDLE);
    ask(rig, "/t.Test/Echo", "one", 1000, false);
    ask(rig, "/t.Test/Echo", "two", 0, false);
    assert_string_equal(buf_text(&rig->story), ""); /* nothing from inside */
    assert_string_equal(story(rig), "(connecting)\n(ready)\ndone OK \"\" one\ndone OK \"\" two\n");
    ask(rig, "/t.Test/Echo", "three", 0, false);
    assert_string_equal(story(rig), "done OK \"\" three\n");
    assert_int_equal(grpc_server_n_connections(rig->server), 1);
    assert_true(grpc_client_peer(rig->client, &peer));
    assert_int_equal(peer.pid, getpid());
}

static void statuses_and_their_sentences_come_through(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask(rig, "/t.Test/Refuse", "", 0, false);
    assert_string_equal(story(rig),
                        "(connecting)\n(ready)\n"
                        "done FailedPrecondition \"not now: 100% busy\n\xe2\x80\xa6\" \n");
    ask(rig, "/t.Test/None", "", 0, false);
    assert_string_equal(story(rig),
                        "done Unimplemented \"unknown method None for service t.Test\" \n");
}

static void a_stream_brings_messages_and_its_end(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask_stream(rig);
    story(rig);
    assert_int_equal(grpc_call_send(rig->call, SPAN("a"), NULL), 0);
    assert_int_equal(grpc_call_send(rig->call, SPAN(""), NULL), 0);
    assert_string_equal(story(rig), "message a\nmessage \n");
    grpc_call_end(rig->call, GRPC_OK, NULL);
    assert_string_equal(story(rig), "done OK \"\" \n");
}

static void big_messages_pass_both_ways(void **state)
{
    struct rig *rig = *state;
    auto_(buf_done) struct buf big = BUF_MAX(MIB(8));

    while (big.len < 3900000)
        buf_printf(&big, "%zu,", big.len);
    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    rig->story.max = MIB(8);
    ask(rig, "/t.Test/Echo", buf_text(&big), 0, false);
    settle(rig);
    const char *answer = strstr(buf_text(&rig->story), "done OK \"\" ");
    assert_non_null(answer);
    assert_int_equal(strlen(answer), strlen("done OK \"\" \n") + big.len);
    assert_memory_equal(answer + strlen("done OK \"\" "), big.ptr, big.len);
    buf_reset(&rig->story);

    while (big.len < MIB(5))
        buf_printf(&big, "%zu,", big.len);
    ask(rig, "/t.Test/Echo", buf_text(&big), 0, false);
    assert_non_null(strstr(story(rig), "done ResourceExhausted \"grpc: received message larger"));
    ask(rig, "/t.Test/Echo", "still fine", 0, false);
    assert_string_equal(story(rig), "done OK \"\" still fine\n");
}

static void an_answer_above_the_clients_limit_is_refused(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){ .max_message = 4 });
    ask(rig, "/t.Test/Echo", "12345", 0, false);
    assert_non_null(strstr(story(rig), "done ResourceExhausted \"grpc: received message larger "
                                       "than max (5 vs. 4)\" \n"));
}

static void a_deadline_ends_the_call_on_both_sides(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask(rig, "/t.Test/Hold", "", 100, false);
    settle(rig);
    assert_int_equal(grpc_call_deadline_ns(rig->call), loop_now_ns(rig->loop) + 100000000);
    story(rig);
    loop_advance_ms(rig->loop, 100);
    const char *text = story(rig);
    assert_non_null(strstr(text, "done DeadlineExceeded \"context deadline exceeded\" \n"));
    assert_non_null(strstr(text, "server cancelled\n"));
}

static void a_cancelled_call_is_silent_and_the_server_knows(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask(rig, "/t.Test/Hold", "", 0, false);
    story(rig);
    grpc_request_cancel(rig->request);
    assert_string_equal(story(rig), "server cancelled\n");
    ask(rig, "/t.Test/Hold", "", 0, false);
    grpc_request_cancel(rig->request); /* before it has left */
    assert_string_equal(story(rig), "");
    ask(rig, "/t.Test/Echo", "x", 0, false);
    assert_string_equal(story(rig), "done OK \"\" x\n");
}

static void a_call_may_be_cancelled_before_there_is_a_connection(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask(rig, "/t.Test/Echo", "x", 0, false);
    grpc_request_cancel(rig->request);
    assert_string_equal(story(rig), "(connecting)\n(ready)\n");
}

static void more_calls_than_the_server_takes_at_a_time_wait_their_turn(void **state)
{
    struct rig *rig = *state;
    size_t n_done = 0;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    for (int i = 0; i < 250; i++)
        ask(rig, "/t.Test/Echo", "x", 0, false);
    for (const char *at = story(rig); (at = strstr(at, "done OK")); at++)
        n_done++;
    assert_int_equal(n_done, 250);
    for (int i = 0; i < 1000; i++)
        ask(rig, "/t.Test/Hold", "x", 0, false);
    struct grpc_call_options options = { .path = "/t.Test/Echo" };
    assert_int_equal(grpc_client_unary(rig->client, &options, SPAN(""), on_done, rig, NULL, NULL),
                     -EAGAIN);
}

/* ---- connections that fail ---- */

static void without_a_server_calls_fail_or_wait_as_they_wish(void **state)
{
    struct rig *rig = *state;
    char want[256];

    new_client(rig, (struct grpc_client_options){ .backoff = { 100, 1000 } });
    ask(rig, "/t.Test/Echo", "impatient", 0, false);
    ask(rig, "/t.Test/Echo", "patient", 0, true);
    ask(rig, "/t.Test/Echo", "until", 60, true);
    snprintf(want, sizeof(want),
             "(backoff)\ndone Unavailable \"%s: cannot connect: No such file "
             "or directory\" \n",
             rig->path);
    assert_string_equal(story(rig), want);
    ask(rig, "/t.Test/Echo", "impatient", 0, false); /* not even tried before the delay is over */
    assert_string_equal(story(rig), strchr(want, '\n') + 1);
    loop_advance_ms(rig->loop, 5000);
    assert_string_equal(story(rig), "done DeadlineExceeded \"context deadline exceeded\" \n");
    start_server(rig);
    loop_advance_ms(rig->loop, 1000);
    assert_string_equal(story(rig), "(connecting)\n(ready)\ndone OK \"\" patient\n");
}

static void a_back_off_that_nobody_waits_for_ends_in_idleness(void **state)
{
    struct rig *rig = *state;

    new_client(rig, (struct grpc_client_options){});
    ask(rig, "/t.Test/Echo", "x", 0, false);
    story(rig);
    loop_advance_ms(rig->loop, 1000);
    assert_string_equal(story(rig), "(idle)\n");
}

static void somebody_who_saw_the_socket_can_cut_the_back_off_short(void **state)
{
    struct rig *rig = *state;

    new_client(rig, (struct grpc_client_options){ .keep_connected = true });
    assert_string_equal(story(rig), "(backoff)\n");
    loop_advance_ms(rig->loop, 100000);
    assert_string_equal(story(rig), "");
    start_server(rig);
    assert_string_equal(story(rig), "");
    grpc_client_connect(rig->client);
    assert_string_equal(story(rig), "(connecting)\n(ready)\n");
}

static void a_server_that_does_not_greet_is_no_server(void **state)
{
    struct rig *rig = *state;
    auto_close int listener = -1;

    assert_int_equal(sock_listen(rig->path, NULL, &listener, NULL, NULL), 0);
    new_client(rig, (struct grpc_client_options){ .connect_timeout_ms = 500 });
    ask(rig, "/t.Test/Echo", "x", 0, false);
    assert_string_equal(story(rig), "(connecting)\n");
    loop_advance_ms(rig->loop, 500);
    const char *text = story(rig);
    assert_non_null(strstr(text, "(backoff)\ndone Unavailable"));
    assert_non_null(strstr(text, "has not greeted within 500 ms"));
}

static void a_lost_connection_fails_its_calls_and_is_made_again(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask_stream(rig);
    ask(rig, "/t.Test/Hold", "", 0, false);
    story(rig);
    grpc_server_free(steal(rig->server));
    const char *text = story(rig);
    assert_non_null(strstr(text, "(idle)\ndone Unavailable"));
    assert_non_null(strstr(strstr(text, "done") + 1, "done Unavailable"));
    start_server(rig);
    ask(rig, "/t.Test/Echo", "x", 0, false);
    assert_string_equal(story(rig), "(connecting)\n(ready)\ndone OK \"\" x\n");
}

static void a_client_that_keeps_connected_comes_back_by_itself(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){ .keep_connected = true });
    assert_string_equal(story(rig), "(connecting)\n(ready)\n");
    grpc_server_free(steal(rig->server));
    assert_string_equal(story(rig), "(backoff)\n");
    start_server(rig);
    loop_advance_ms(rig->loop, 200);
    assert_string_equal(story(rig), "(connecting)\n(ready)\n");
}

static void nothing(void *user)
{
}

static void after_goodbye_open_calls_finish_and_new_ones_go_elsewhere(void **state)
{
    struct rig *rig = *state;
    struct grpc_server *old;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask(rig, "/t.Test/Hold", "", 0, false);
    story(rig);
    old = rig->server;
    struct grpc_call *unary = rig->call;
    grpc_server_stop(old, 1000, nothing, NULL);
    assert_string_equal(story(rig), "(idle)\n");
    start_server(rig);
    ask(rig, "/t.Test/Echo", "new", 0, false);
    assert_string_equal(story(rig), "(connecting)\n(ready)\ndone OK \"\" new\n");
    grpc_call_reply(unary, SPAN("old"));
    assert_string_equal(story(rig), "done OK \"\" old\n");
    assert_int_equal(grpc_server_n_connections(old), 0);
    grpc_server_free(old);
}

static void calls_on_servers_that_go_away_and_never_finish_are_given_up(void **state)
{
    struct rig *rig = *state;
    struct grpc_server *old[5];

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        ask(rig, "/t.Test/Hold", "", 0, false);
        const char *text = story(rig);
        /* Three old connections and a new one are kept. */
        assert_int_equal(strstr(text, "did not finish this call") != NULL, i == 4);
        old[i] = rig->server;
        grpc_server_stop(old[i], 100000, nothing, NULL);
        story(rig);
        start_server(rig);
    }
    for (size_t i = 0; i < ARRAY_LEN(old); i++)
        grpc_server_free(old[i]);
}

/* ---- callbacks that do things ---- */

static void callbacks_may_cancel_ask_and_free(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    rig->ask_again = true;
    ask(rig, "/t.Test/Echo", "first", 0, false);
    assert_non_null(strstr(story(rig), "done OK \"\" first\ndone OK \"\" again\n"));

    ask_stream(rig);
    story(rig);
    rig->cancel_in_callback = true;
    assert_int_equal(grpc_call_send(rig->call, SPAN("1"), NULL), 0);
    assert_int_equal(grpc_call_send(rig->call, SPAN("2"), NULL), 0);
    assert_string_equal(story(rig), "message 1\nserver cancelled\n");
    rig->cancel_in_callback = false;

    ask_stream(rig);
    ask(rig, "/t.Test/Hold", "", 0, false);
    story(rig);
    rig->free_client_in_callback = true;
    grpc_call_reply(rig->call, SPAN(""));
    const char *text = story(rig);
    assert_non_null(strstr(text, "done OK"));
    assert_non_null(strstr(text, "server cancelled"));
    assert_null(rig->client);
}

static void a_lost_connection_may_lead_to_freeing_the_client(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    for (int i = 0; i < 3; i++)
        ask(rig, "/t.Test/Hold", "", 0, false);
    story(rig);
    rig->free_client_in_callback = true;
    grpc_server_free(steal(rig->server));
    const char *text = story(rig);
    assert_non_null(strstr(text, "done Unavailable"));
    assert_null(strstr(strstr(text, "done") + 1, "done")); /* no callback after the free */
    assert_null(rig->client);
}

static void freeing_says_goodbye_to_the_server(void **state)
{
    struct rig *rig = *state;

    start_server(rig);
    new_client(rig, (struct grpc_client_options){});
    ask_stream(rig);
    story(rig);
    grpc_client_free(steal(rig->client));
    assert_string_equal(story(rig), "server cancelled\n");
    assert_int_equal(grpc_server_n_connections(rig->server), 0);
}

static void a_path_that_is_no_method_is_refused(void **state)
{
    struct rig *rig = *state;
    struct grpc_call_options options = { .path = "Register" };
    struct err err;

    new_client(rig, (struct grpc_client_options){});
    assert_int_equal(grpc_client_unary(rig->client, &options, SPAN(""), on_done, rig, NULL, &err),
                     -EINVAL);
    assert_string_equal(err.text, "Register: is not /service/method");
}

/* ---- answers by hand ---- */

static const char *conn_said(struct rig *rig)
{
    struct span bytes;

    buf_reset(&rig->said);
    while ((bytes = grpc_client_conn_output(rig->conn)).len > 0) {
        wire_tell(&rig->reader, bytes, &rig->said);
        grpc_client_conn_sent(rig->conn, bytes.len);
    }
    return buf_text(&rig->said);
}

static void requests_look_as_recorded(void **state)
{
    struct rig *rig = *state;
    struct grpc_client_options options = { .authority = "/var/lib/kubelet/device-plugins/t.sock",
                                           .user_agent = "kubelet/1" };
    struct grpc_call_options call = { .path = "/v1beta1.DevicePlugin/PreStartContainer",
                                      .timeout_ms = 30000 };

    assert_int_equal(grpc_client_conn_new(rig->loop, &options, &rig->conn, NULL), 0);
    assert_string_equal(conn_said(rig), "SETTINGS 2=0 6=16384\n");
    assert_int_equal(
        grpc_client_conn_unary(rig->conn, &call, SPAN("\12\1a"), on_done, rig, NULL, NULL), 0);
    assert_string_equal(conn_said(rig),
                        "HEADERS 1 :method=POST :scheme=http "
                        ":path=/v1beta1.DevicePlugin/PreStartContainer "
                        ":authority=/var/lib/kubelet/device-plugins/t.sock "
                        "content-type=application/grpc user-agent=kubelet/1 te=trailers "
                        "grpc-timeout=30000000u\nDATA 1 end len=8\n");
}

struct part {
    unsigned type, flags;
    const char *pairs[8];
    struct span body;
};

static void strange_answers_become_statuses(void **state)
{
    static const struct {
        struct part parts[3];
        const char *story;
    } cases[] = {
        { { { WIRE_HEADERS, 5, { ":status", "503", NULL } } },
          "done Unavailable \"the server answers with HTTP status 503\" \n" },
        { { { WIRE_HEADERS, 5, { ":status", "200", "content-type", "text/html", NULL } } },
          "done Unknown \"the server's answer is not gRPC\" \n" },
        { { { WIRE_HEADERS, 5, { ":status", "200", "content-type", "application/grpc", NULL } } },
          "done Internal \"the server ends the answer without a status\" \n" },
        { { { WIRE_HEADERS,
              5,
              { ":status", "200", "content-type", "application/grpc", "grpc-status", "0",
                NULL } } },
          "done Internal \"the server says OK and sends no message\" \n" },
        { { { WIRE_HEADERS,
              5,
              { ":status", "415", "grpc-status", "3", "grpc-message", "a%25b", NULL } } },
          "done InvalidArgument \"a%b\" \n" },
        { { { WIRE_HEADERS, 5, { ":status", "200", "grpc-status", "99", NULL } } },
          "done Unknown \"\" \n" },
        { { { WIRE_HEADERS, 4, { ":status", "103", NULL } },
            { WIRE_HEADERS,
              5,
              { ":status", "200", "content-type", "application/grpc", "grpc-status", "7",
                NULL } } },
          "done PermissionDenied \"\" \n" },
        { { { WIRE_RST_STREAM, 0, { NULL }, { "\0\0\0\7", 4 } } },
          "done Unavailable \"the server has reset the stream (HTTP/2 error 7)\" \n" },
        { { { WIRE_RST_STREAM, 0, { NULL }, { "\0\0\0\10", 4 } } },
          "done Canceled \"the server has reset the stream (HTTP/2 error 8)\" \n" },
        { { { WIRE_HEADERS, 4, { ":status", "200", "content-type", "application/grpc", NULL } },
            { WIRE_DATA, 0, { NULL }, { "\0\0\0\0\1a\0\0\0\0\1b", 12 } } },
          "done Internal \"the server answers with more than one message\" \n" },
        { { { WIRE_HEADERS, 4, { ":status", "200", "content-type", "application/grpc", NULL } },
            { WIRE_DATA, 0, { NULL }, { "\0\0\0\0\2a", 6 } },
            { WIRE_HEADERS, 5, { "grpc-status", "0", NULL } } },
          "done Internal \"the server ends the answer inside a message\" \n" },
        { { { WIRE_HEADERS,
              4,
              { ":status", "200", "content-type", "application/grpc", "grpc-encoding", "gzip",
                NULL } },
            { WIRE_DATA, 0, { NULL }, { "\1\0\0\0\1a", 6 } } },
          "done Internal \"grpc: Decompressor is not installed for grpc-encoding \"gzip\"\" \n" },
        { { { WIRE_HEADERS, 4, { ":status", "200", "content-type", "application/grpc", NULL } },
            { WIRE_DATA, 0, { NULL }, { "\0\0\0\0\1a", 6 } },
            { WIRE_HEADERS, 5, { "grpc-status", "0", "grpc-message", "", NULL } } },
          "done OK \"\" a\n" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rig *rig = *state;
        struct grpc_call_options call = { .path = "/a/b" };

        assert_int_equal(grpc_client_conn_new(rig->loop, NULL, &rig->conn, NULL), 0);
        assert_int_equal(
            grpc_client_conn_unary(rig->conn, &call, SPAN(""), on_done, rig, NULL, NULL), 0);
        grpc_client_conn_sent(rig->conn, grpc_client_conn_output(rig->conn).len);
        wire_frame(&rig->in, WIRE_SETTINGS, 0, 0, SPAN(""));
        for (size_t j = 0; j < ARRAY_LEN(cases[i].parts); j++) {
            const struct part *part = &cases[i].parts[j];
            if (part->pairs[0])
                wire_headers(&rig->in, 1, part->flags, part->pairs);
            else if (part->body.len > 0)
                wire_frame(&rig->in, part->type, part->flags, 1, part->body);
        }
        assert_int_equal(grpc_client_conn_feed(rig->conn, buf_span(&rig->in), NULL), 0);
        assert_string_equal(buf_text(&rig->story), cases[i].story);
        buf_reset(&rig->in);
        buf_reset(&rig->story);
        grpc_client_conn_free(steal(rig->conn));
    }
}

static void a_goodbye_fails_the_calls_that_the_server_has_not_seen(void **state)
{
    struct rig *rig = *state;
    struct grpc_call_options call = { .path = "/a/b" };

    assert_int_equal(grpc_client_conn_new(rig->loop, NULL, &rig->conn, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            grpc_client_conn_unary(rig->conn, &call, SPAN(""), on_done, rig, NULL, NULL), 0);
    grpc_client_conn_sent(rig->conn, grpc_client_conn_output(rig->conn).len);
    wire_frame(&rig->in, WIRE_SETTINGS, 0, 0, SPAN(""));
    wire_frame(&rig->in, WIRE_GOAWAY, 0, 0, SPAN("\0\0\0\1\0\0\0\0"));
    assert_int_equal(grpc_client_conn_feed(rig->conn, buf_span(&rig->in), NULL), 0);
    assert_string_equal(buf_text(&rig->story),
                        "done Unavailable \"the server has reset the stream (HTTP/2 error 7)\" \n");
    assert_true(grpc_client_conn_unary(rig->conn, &call, SPAN(""), on_done, rig, NULL, NULL) < 0 ||
                strstr(conn_said(rig), "HEADERS") == NULL);
    grpc_client_conn_lost(rig->conn, "gone");
    assert_non_null(strstr(buf_text(&rig->story), "done Unavailable \"gone\" \n"));
}

static void every_lack_of_memory_is_survived(void **state)
{
    struct rig *rig = *state;
    struct grpc_call_options call = { .path = "/a/b", .timeout_ms = 100 };
    const char *const head[] = { ":status", "200", "content-type", "application/grpc", NULL };
    const char *const trailers[] = { "grpc-status", "0", "grpc-message", "fine%20", NULL };

    wire_frame(&rig->in, WIRE_SETTINGS, 0, 0, SPAN(""));
    wire_headers(&rig->in, 1, WIRE_END_HEADERS, head);
    wire_frame(&rig->in, WIRE_DATA, 0, 1, SPAN("\0\0\0\0\1a"));
    wire_headers(&rig->in, 1, WIRE_END_HEADERS | WIRE_END_STREAM, trailers);
    for (unsigned long i = 0, n = 1; i <= n; i++) {
        struct grpc_client_conn *conn = NULL;
        struct err err;

        mem_fail_from(i);
        if (grpc_client_conn_new(rig->loop, NULL, &conn, &err) == 0) {
            (void)!grpc_client_conn_unary(conn, &call, SPAN("x"), on_done, rig, NULL, &err);
            grpc_client_conn_sent(conn, grpc_client_conn_output(conn).len);
            (void)!grpc_client_conn_feed(conn, buf_span(&rig->in), &err);
            grpc_client_conn_lost(conn, "lost");
            grpc_client_conn_free(conn);
        }
        if (i == 0)
            n = mem_count();
        mem_fail_from(0);
        buf_reset(&rig->story);
    }
}

#define CLIENT_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLIENT_TEST(the_first_call_connects_and_later_ones_share_the_connection),
        CLIENT_TEST(statuses_and_their_sentences_come_through),
        CLIENT_TEST(a_stream_brings_messages_and_its_end),
        CLIENT_TEST(big_messages_pass_both_ways),
        CLIENT_TEST(an_answer_above_the_clients_limit_is_refused),
        CLIENT_TEST(a_deadline_ends_the_call_on_both_sides),
        CLIENT_TEST(a_cancelled_call_is_silent_and_the_server_knows),
        CLIENT_TEST(a_call_may_be_cancelled_before_there_is_a_connection),
        CLIENT_TEST(more_calls_than_the_server_takes_at_a_time_wait_their_turn),
        CLIENT_TEST(without_a_server_calls_fail_or_wait_as_they_wish),
        CLIENT_TEST(a_back_off_that_nobody_waits_for_ends_in_idleness),
        CLIENT_TEST(somebody_who_saw_the_socket_can_cut_the_back_off_short),
        CLIENT_TEST(a_server_that_does_not_greet_is_no_server),
        CLIENT_TEST(a_lost_connection_fails_its_calls_and_is_made_again),
        CLIENT_TEST(a_client_that_keeps_connected_comes_back_by_itself),
        CLIENT_TEST(after_goodbye_open_calls_finish_and_new_ones_go_elsewhere),
        CLIENT_TEST(calls_on_servers_that_go_away_and_never_finish_are_given_up),
        CLIENT_TEST(callbacks_may_cancel_ask_and_free),
        CLIENT_TEST(a_lost_connection_may_lead_to_freeing_the_client),
        CLIENT_TEST(freeing_says_goodbye_to_the_server),
        CLIENT_TEST(a_path_that_is_no_method_is_refused),
        CLIENT_TEST(requests_look_as_recorded),
        CLIENT_TEST(strange_answers_become_statuses),
        CLIENT_TEST(a_goodbye_fails_the_calls_that_the_server_has_not_seen),
        CLIENT_TEST(every_lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
