/*
 * Our client against a foreign server, which the Python side of this test starts and names in
 * PEER_SOCKET. Real time, real sockets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/grpc_client.h"

struct rig {
    struct loop *loop;
    struct grpc_client *client;
    struct buf story, body;
    int n_done, n_messages;
    enum grpc_code code;
    char message[4096];
};

static int set_up(void **state)
{
    static struct rig rig;
    struct grpc_client_options options = { .backoff = { 50, 200 } };

    rig = (struct rig){ .story = BUF_MAX(MIB(8)), .body = BUF_MAX(MIB(8)) };
    *state = &rig;
    options.authority = getenv("PEER_AUTHORITY");
    return loop_new(&rig.loop, NULL) < 0 ||
           grpc_client_new(rig.loop, getenv("PEER_SOCKET"), &options, &rig.client, NULL) < 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    grpc_client_free(rig->client);
    loop_free(rig->loop);
    buf_done(&rig->story);
    buf_done(&rig->body);
    return 0;
}

static void on_end(void *user, const struct grpc_status *status)
{
    struct rig *rig = user;

    rig->n_done++;
    rig->code = status->code;
    snprintf(rig->message, sizeof(rig->message), "%s", status->message);
    loop_stop(rig->loop);
}

static void on_done(void *user, const struct grpc_status *status, struct span response)
{
    struct rig *rig = user;

    buf_reset(&rig->body);
    buf_add(&rig->body, response.ptr, response.len);
    on_end(user, status);
}

static void on_message(void *user, struct span message)
{
    struct rig *rig = user;

    rig->n_messages++;
    buf_printf(&rig->story, SPAN_FMT " ", SPAN_ARG(message));
    if (span_equal(message, SPAN("first")))
        loop_stop(rig->loop);
}

static enum grpc_code ask(struct rig *rig, const char *path, struct span request,
                          uint64_t timeout_ms)
{
    struct grpc_call_options options = { .path = path, .timeout_ms = timeout_ms };

    assert_int_equal(grpc_client_unary(rig->client, &options, request, on_done, rig, NULL, NULL),
                     0);
    loop_run(rig->loop);
    return rig->code;
}

static enum grpc_code watch(struct rig *rig, const char *path, struct span request,
                            struct grpc_request **ret)
{
    struct grpc_call_options options = { .path = path };

    assert_int_equal(
        grpc_client_stream(rig->client, &options, request, on_message, on_end, rig, ret, NULL), 0);
    loop_run(rig->loop);
    return rig->code;
}

static void unary_calls_are_answered(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(ask(rig, "/peer.Test/Echo", SPAN("hello"), 5000), GRPC_OK);
    assert_string_equal(buf_text(&rig->body), "hello");
    assert_int_equal(ask(rig, "/peer.Test/Echo", SPAN(""), 0), GRPC_OK);
    assert_int_equal(rig->body.len, 0);
    assert_string_equal(rig->message, "");
}

static void big_messages_pass_both_ways(void **state)
{
    static const size_t sizes[] = { 16384, 65535, 65536, 142500, 3900000 };
    struct rig *rig = *state;
    auto_(buf_done) struct buf big = BUF_MAX(MIB(8));

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        while (big.len < sizes[i])
            buf_add_char(&big, (char)(big.len * 7));
        assert_int_equal(ask(rig, "/peer.Test/Echo", buf_span(&big), 20000), GRPC_OK);
        assert_int_equal(rig->body.len, big.len);
        assert_memory_equal(rig->body.ptr, big.ptr, big.len);
    }
}

static void messages_above_the_limit_are_refused_on_either_side(void **state)
{
    struct rig *rig = *state;
    auto_(buf_done) struct buf big = BUF_MAX(MIB(8));

    while (big.len < 5000000)
        buf_add_text(&big, "0123456789");
    assert_int_equal(ask(rig, "/peer.Test/Echo", buf_span(&big), 20000), GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(ask(rig, "/peer.Test/Big", SPAN("5000000"), 20000), GRPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(rig->message, "5000000 vs. 4194304"));
    assert_int_equal(ask(rig, "/peer.Test/Echo", SPAN("fine"), 5000), GRPC_OK);
}

static void errors_keep_their_code_and_every_character(void **state)
{
    static const char *const messages[] = {
        "plain",           "100% of [a, b] \"quoted\"",
        "two\nlines\ttab", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x81",
        "%41 is not A",    "~}|{ \\ /",
    };
    struct rig *rig = *state;

    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        char request[128];
        int code = 1 + (int)i * 3 % 16;
        int n = snprintf(request, sizeof(request), "%d %s", code, messages[i]);
        assert_int_equal(ask(rig, "/peer.Test/Fail", (struct span){ request, (size_t)n }, 5000),
                         code);
        assert_string_equal(rig->message, messages[i]);
    }
}

static void an_unknown_method_is_unimplemented(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(ask(rig, "/peer.Test/Nothing", SPAN(""), 5000), GRPC_UNIMPLEMENTED);
}

static void a_stream_brings_every_message_and_then_its_status(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(watch(rig, "/peer.Test/Count", SPAN("5"), NULL), GRPC_OK);
    assert_string_equal(buf_text(&rig->story), "0 1 2 3 4 ");
    assert_int_equal(watch(rig, "/peer.Test/Count", SPAN("20000"), NULL), GRPC_OK);
    assert_int_equal(rig->n_messages, 20005);
    buf_reset(&rig->story);
    assert_int_equal(watch(rig, "/peer.Test/FailAfter", SPAN(""), NULL), GRPC_ABORTED);
    assert_string_equal(buf_text(&rig->story), "only ");
    assert_string_equal(rig->message, "in the middle");
}

static void a_deadline_reaches_the_server(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(ask(rig, "/peer.Test/Hold", SPAN(""), 100), GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(ask(rig, "/peer.Test/Remaining", SPAN(""), 10000), GRPC_OK);
    int left_ms = atoi(buf_text(&rig->body));
    assert_in_range(left_ms, 8000, 10000);
}

static void a_cancelled_stream_reaches_the_server(void **state)
{
    struct rig *rig = *state;
    struct grpc_request *request = NULL;

    watch(rig, "/peer.Test/Watch", SPAN(""), &request);
    assert_string_equal(buf_text(&rig->story), "first ");
    assert_int_equal(rig->n_done, 0);
    grpc_request_cancel(request);
    assert_int_equal(ask(rig, "/peer.Test/WaitForCancel", SPAN(""), 10000), GRPC_OK);
    assert_string_equal(buf_text(&rig->body), "cancelled");
    assert_int_equal(rig->n_done, 1);
}

static void many_calls_share_a_connection(void **state)
{
    struct rig *rig = *state;
    struct grpc_call_options options = { .path = "/peer.Test/Echo", .timeout_ms = 20000 };

    for (int i = 0; i < 300; i++)
        assert_int_equal(
            grpc_client_unary(rig->client, &options, SPAN("x"), on_done, rig, NULL, NULL), 0);
    while (rig->n_done < 300) {
        loop_run(rig->loop);
        assert_int_equal(rig->code, GRPC_OK);
    }
}

/* The server stops while it answers, and comes back on the same path. */
static void a_server_that_goes_away_finishes_its_call_and_is_found_again(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(ask(rig, "/peer.Test/Restart", SPAN(""), 10000), GRPC_OK);
    assert_string_equal(buf_text(&rig->body), "goodbye");
    struct grpc_call_options options = {
        .path = "/peer.Test/Echo",
        .timeout_ms = 10000,
        .wait_for_ready = true,
    };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            grpc_client_unary(rig->client, &options, SPAN("again"), on_done, rig, NULL, NULL), 0);
        loop_run(rig->loop);
        if (rig->code != GRPC_UNAVAILABLE) /* caught by the old server's last moment */
            break;
    }
    assert_int_equal(rig->code, GRPC_OK);
    assert_string_equal(buf_text(&rig->body), "again");
}

#define PEER_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PEER_TEST(unary_calls_are_answered),
        PEER_TEST(big_messages_pass_both_ways),
        PEER_TEST(messages_above_the_limit_are_refused_on_either_side),
        PEER_TEST(errors_keep_their_code_and_every_character),
        PEER_TEST(an_unknown_method_is_unimplemented),
        PEER_TEST(a_stream_brings_every_message_and_then_its_status),
        PEER_TEST(a_deadline_reaches_the_server),
        PEER_TEST(a_cancelled_stream_reaches_the_server),
        PEER_TEST(many_calls_share_a_connection),
        PEER_TEST(a_server_that_goes_away_finishes_its_call_and_is_found_again),
    };

    return getenv("PEER_SOCKET") ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
