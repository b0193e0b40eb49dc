#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/h2.h"
#include "wire.h"

/* One session with its story and what it said. */
struct rig {
    struct h2 *h2;
    struct buf in, story, said;
    struct wire_reader reader;
    uint64_t now_ns;
    const char *free_at; /* the event in which to free the session */
    struct span body;    /* what is still to be sent on any stream */
};

static void happened(struct rig *rig, const char *event)
{
    if (rig->free_at && text_equal(rig->free_at, event) && rig->h2) {
        h2_free(rig->h2);
        rig->h2 = NULL;
    }
}

static void on_begin(void *user, int32_t stream, void *context)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "begin %d\n", stream);
    happened(rig, "begin");
}

static void on_header(void *user, int32_t stream, void *context, struct span name,
                      struct span value)
{
    struct rig *rig = user;

    buf_printf(&rig->story, SPAN_FMT "=" SPAN_FMT "\n", SPAN_ARG(name), SPAN_ARG(value));
    happened(rig, "header");
}

static void on_headers_end(void *user, int32_t stream, void *context, bool end_stream)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "headers %d%s\n", stream, end_stream ? " end" : "");
    happened(rig, "headers");
}

static void on_data(void *user, int32_t stream, void *context, struct span bytes)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "data %d " SPAN_FMT "\n", stream, SPAN_ARG(bytes));
    happened(rig, "data");
}

static void on_ended(void *user, int32_t stream, void *context)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "ended %d\n", stream);
    happened(rig, "ended");
}

static void on_closed(void *user, int32_t stream, void *context, uint32_t error)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "closed %d %u\n", stream, error);
    happened(rig, "closed");
}

static enum h2_more on_body(void *user, int32_t stream, void *context, char *to, size_t max,
                            size_t *ret_n)
{
    struct rig *rig = user;

    *ret_n = MIN(max, rig->body.len);
    if (*ret_n > 0)
        memcpy(to, rig->body.ptr, *ret_n);
    rig->body.ptr += *ret_n;
    rig->body.len -= *ret_n;
    happened(rig, "body");
    return rig->body.len > 0 ? H2_MORE : H2_END;
}

static void on_settings(void *user)
{
    struct rig *rig = user;

    buf_add_text(&rig->story, "settings\n");
    happened(rig, "settings");
}

static void on_goaway(void *user, int32_t last, uint32_t error, struct span text)
{
    struct rig *rig = user;

    buf_printf(&rig->story, "goaway %d %u " SPAN_FMT "\n", last, error, SPAN_ARG(text));
}

static const struct h2_events events = {
    .begin = on_begin,
    .header = on_header,
    .headers_end = on_headers_end,
    .data = on_data,
    .ended = on_ended,
    .closed = on_closed,
    .body = on_body,
    .settings = on_settings,
    .goaway = on_goaway,
};

static void open_rig(struct rig *rig, enum h2_role role)
{
    *rig = (struct rig){
        .in = BUF_MAX(MIB(4)),
        .story = BUF_MAX(MIB(1)),
        .said = BUF_MAX(MIB(4)),
        .now_ns = 1,
    };
    wire_reader_init(&rig->reader);
    assert_int_equal(h2_new(role, NULL, &events, rig, &rig->h2, NULL), 0);
}

static void close_rig(struct rig *rig)
{
    h2_free(rig->h2);
    buf_done(&rig->in);
    buf_done(&rig->story);
    buf_done(&rig->said);
    wire_reader_done(&rig->reader);
}

#define auto_rig auto_(close_rig) struct rig

/* Feeds what was put into rig->in. */
static int feed(struct rig *rig, struct err *err)
{
    int r = h2_feed(rig->h2, buf_span(&rig->in), rig->now_ns, err);

    buf_reset(&rig->in);
    return r;
}

/* Reads all output as text. */
static const char *said(struct rig *rig)
{
    struct span bytes;

    buf_reset(&rig->said);
    while ((bytes = h2_output(rig->h2)).len > 0) {
        wire_tell(&rig->reader, bytes, &rig->said);
        h2_sent(rig->h2, bytes.len);
    }
    return buf_text(&rig->said);
}

static void greet(struct rig *rig)
{
    wire_hello(&rig->in);
    assert_int_equal(feed(rig, NULL), 0);
    said(rig);
    buf_reset(&rig->story);
}

/* ---- the beginning ---- */

static void settings_go_out_before_anything_came_in(void **state)
{
    auto_rig server, client;

    open_rig(&server, H2_SERVER);
    assert_string_equal(said(&server), "SETTINGS 3=100 6=16384\n");
    open_rig(&client, H2_CLIENT);
    struct span hello = h2_output(client.h2);
    assert_true(hello.len > 24);
    assert_memory_equal(hello.ptr, wire_preface, 24);
    assert_string_equal(said(&client), "SETTINGS 2=0 6=16384\n");
    assert_false(h2_greeted(client.h2));
}

static void a_socket_path_is_a_fine_authority(void **state)
{
    static const char *const authorities[] = {
        "localhost",
        "/var/lib/kubelet/device-plugins/t.sock",
        "%2Fvar%2Flib%2Fkubelet%2Fdevice-plugins%2Ft.sock",
        "a b\"c",
    };

    for (size_t i = 0; i < ARRAY_LEN(authorities); i++) {
        auto_rig rig;
        const char *const pairs[] = { ":method", "POST", ":authority", authorities[i], NULL };
        char want[128];

        open_rig(&rig, H2_SERVER);
        greet(&rig);
        wire_headers(&rig.in, 1, WIRE_END_HEADERS | WIRE_END_STREAM, pairs);
        assert_int_equal(feed(&rig, NULL), 0);
        snprintf(want, sizeof(want),
                 "begin 1\n:method=POST\n:authority=%s\nheaders 1 end\nended 1\n", authorities[i]);
        assert_string_equal(buf_text(&rig.story), want);
        assert_string_equal(said(&rig), "");
    }
}

static void a_ping_comes_back_with_its_payload(void **state)
{
    auto_rig rig;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_frame(&rig.in, WIRE_PING, 0, 0, SPAN("\2\4\20\20\11\16\7\7"));
    assert_int_equal(feed(&rig, NULL), 0);
    assert_string_equal(said(&rig), "PING ack \2\4\20\20\11\16\7\7\n");
}

static void another_protocol_is_told_from_http2(void **state)
{
    auto_rig rig;
    struct err err;

    open_rig(&rig, H2_SERVER);
    buf_add_text(&rig.in, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_int_equal(feed(&rig, &err), -EPROTO);
    assert_string_equal(err.text, "the peer does not speak HTTP/2");
    assert_non_null(strstr(said(&rig), "GOAWAY last=0 error=1"));
    assert_true(h2_over(rig.h2));
}

static void a_broken_frame_ends_the_connection_with_a_reason(void **state)
{
    auto_rig rig;
    struct err err;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_frame(&rig.in, WIRE_DATA, 0, 5, SPAN("x")); /* on a stream that nobody opened */
    assert_int_equal(feed(&rig, &err), -EPROTO);
    assert_non_null(strstr(err.text, "PROTOCOL_ERROR"));
    assert_string_equal(said(&rig), "GOAWAY last=0 error=1\n");
    assert_true(h2_over(rig.h2));
    wire_frame(&rig.in, WIRE_PING, 0, 0, SPAN("12345678"));
    assert_int_equal(feed(&rig, &err), -EPROTO);
    assert_string_equal(said(&rig), "");
}

/* ---- bodies ---- */

static void an_answer_leaves_as_headers_data_and_trailers_in_one_piece(void **state)
{
    auto_rig rig;
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_request(&rig.in, 1, "/a/b", SPAN(""));
    assert_int_equal(feed(&rig, NULL), 0);
    rig.body = SPAN("hello");
    assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, true, NULL), 0);
    buf_reset(&rig.story);
    buf_reset(&rig.said);
    wire_tell(&rig.reader, h2_output(rig.h2), &rig.said);
    assert_string_equal(buf_text(&rig.said), "HEADERS 1 :status=200\nDATA 1 end len=5\n");
    assert_string_equal(buf_text(&rig.story), "closed 1 0\n");
}

static void a_long_body_waits_for_the_window(void **state)
{
    auto_rig rig;
    auto_(buf_done) struct buf body = BUF_MAX(KIB(200));
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };

    while (body.len < KIB(100))
        buf_add_char(&body, 'x');
    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_request(&rig.in, 1, "/a/b", SPAN(""));
    assert_int_equal(feed(&rig, NULL), 0);
    rig.body = buf_span(&body);
    assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, true, NULL), 0);
    assert_string_equal(said(&rig), "HEADERS 1 :status=200\nDATA 1 len=16384\nDATA 1 len=16384\n"
                                    "DATA 1 len=16384\nDATA 1 len=16383\n");
    wire_frame(&rig.in, WIRE_WINDOW_UPDATE, 0, 0, SPAN("\0\1\0\0"));
    wire_frame(&rig.in, WIRE_SETTINGS, 0, 0, SPAN("\0\4\0\1\377\376")); /* 131,070 per stream */
    assert_int_equal(feed(&rig, NULL), 0);
    assert_string_equal(said(&rig), "SETTINGS ack\nDATA 1 len=16384\nDATA 1 len=16384\n"
                                    "DATA 1 end len=4097\n");
}

static void an_early_answer_tells_the_client_to_stop_sending(void **state)
{
    auto_rig rig;
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };
    const char *const pairs[] = { ":method", "POST", NULL };

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_headers(&rig.in, 1, WIRE_END_HEADERS, pairs);
    assert_int_equal(feed(&rig, NULL), 0);
    assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, false, NULL), 0);
    assert_string_equal(said(&rig), "HEADERS 1 end :status=200\nRST_STREAM 1 error=0\n");
}

static void a_slow_reader_gets_no_more_than_one_write_is_prepared(void **state)
{
    auto_rig rig;
    auto_(buf_done) struct buf body = BUF_MAX(MIB(2));
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };

    while (body.len < MIB(1))
        buf_add(&body, wire_preface, 24);
    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_frame(&rig.in, WIRE_WINDOW_UPDATE, 0, 0, SPAN("\0\377\0\0"));
    wire_frame(&rig.in, WIRE_SETTINGS, 0, 0, SPAN("\0\4\0\377\0\0"));
    wire_request(&rig.in, 1, "/a/b", SPAN(""));
    assert_int_equal(feed(&rig, NULL), 0);
    said(&rig);
    rig.body = buf_span(&body);
    assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, true, NULL), 0);
    for (int i = 0; i < 10; i++)
        assert_true(h2_output(rig.h2).len < KIB(64) + KIB(17));
    h2_sent(rig.h2, 1000);
    assert_true(h2_output(rig.h2).len < KIB(64) + KIB(17));
}

/* ---- what a peer must not do ---- */

struct flood {
    const char *name;
    unsigned type, flags;
    bool on_stream;
    struct span payload;
    int harmless; /* that many are fine */
    int too_many;
};

static const struct flood floods[] = {
    { "ping", WIRE_PING, 0, false, { "12345678", 8 }, 1000, 2100 },
    { "ping ack", WIRE_PING, WIRE_ACK, false, { "12345678", 8 }, 1000, 2100 },
    { "settings", WIRE_SETTINGS, 0, false, { "", 0 }, 100, 250 },
    { "priority", WIRE_PRIORITY, 0, true, { "\0\0\0\0\1", 5 }, 1000, 2100 },
    { "empty data", WIRE_DATA, 0, true, { "", 0 }, 1000, 2100 },
};

static void frames_that_carry_nothing_are_rationed(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(floods); i++) {
        const struct flood *flood = &floods[i];
        const char *const pairs[] = { ":method", "POST", NULL };
        auto_rig rig;
        struct err err;
        int r = 0, sent = 0;

        open_rig(&rig, H2_SERVER);
        greet(&rig);
        wire_headers(&rig.in, 1, WIRE_END_HEADERS, pairs);
        assert_int_equal(feed(&rig, NULL), 0);
        for (; sent < flood->too_many && r == 0; sent++) {
            wire_frame(&rig.in, flood->type, flood->flags, flood->on_stream, flood->payload);
            r = feed(&rig, &err);
            if (r == 0)
                said(&rig);
        }
        if (r != -EPROTO || sent <= flood->harmless)
            fail_msg("%s: %d after %d", flood->name, r, sent);
        assert_non_null(strstr(err.text, "too many frames"));
        assert_non_null(strstr(said(&rig), "error=11"));
    }
}

static void a_patient_peer_may_ping_for_ever(void **state)
{
    auto_rig rig;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    for (int i = 0; i < 20000; i++) {
        rig.now_ns += 1000000;
        wire_frame(&rig.in, WIRE_PING, 0, 0, SPAN("12345678"));
        assert_int_equal(feed(&rig, NULL), 0);
        said(&rig);
    }
}

static void requests_that_are_reset_at_once_are_rationed(void **state)
{
    auto_rig rig;
    struct err err;
    int r = 0, sent = 0;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    for (; sent < 1000 && r == 0; sent++) {
        const char *const pairs[] = { ":method", "POST", NULL };
        wire_headers(&rig.in, (uint32_t)(2 * sent + 1), WIRE_END_HEADERS, pairs);
        wire_frame(&rig.in, WIRE_RST_STREAM, 0, (uint32_t)(2 * sent + 1), SPAN("\0\0\0\10"));
        r = feed(&rig, &err);
        if (r == 0)
            said(&rig);
    }
    assert_int_equal(r, -EPROTO);
    assert_in_range(sent, 100, 400);
}

/* CVE-2025-8671: frames that make us do the resetting. */
static void streams_that_the_peer_makes_us_reset_are_rationed(void **state)
{
    auto_rig rig;
    struct err err;
    int r = 0, sent = 0;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    for (; sent < 1000 && r == 0; sent++) {
        const char *const pairs[] = { ":method", "POST", NULL };
        wire_headers(&rig.in, (uint32_t)(2 * sent + 1), WIRE_END_HEADERS, pairs);
        wire_frame(&rig.in, WIRE_WINDOW_UPDATE, 0, (uint32_t)(2 * sent + 1), SPAN("\0\0\0\0"));
        r = feed(&rig, &err);
        if (r == 0)
            said(&rig);
    }
    assert_int_equal(r, -EPROTO);
    assert_true(sent < 400);
}

static void headers_without_an_end_are_cut_off(void **state)
{
    auto_rig rig;
    struct err err;
    int r, sent = 0;
    auto_(buf_done) struct buf block = BUF_MAX(KIB(1));

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_literal(&block, "a", "b");
    wire_frame(&rig.in, WIRE_HEADERS, 0, 1, buf_span(&block));
    r = feed(&rig, &err);
    for (; sent < 100 && r == 0; sent++) {
        wire_frame(&rig.in, WIRE_CONTINUATION, 0, 1, buf_span(&block));
        r = feed(&rig, &err);
    }
    assert_int_equal(r, -EPROTO);
    assert_true(sent < 20);
}

static void headers_that_are_too_large_are_cut_off(void **state)
{
    auto_rig rig;
    auto_(buf_done) struct buf block = BUF_MAX(KIB(64));
    struct err err;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    /* One entry for the dynamic table, then a reference of one byte to it, many times over. */
    buf_add_text(&block, "\x40\1a\x7e");
    for (int i = 0; i < 126; i++)
        buf_add_char(&block, 'v');
    for (int i = 0; i < 1000; i++)
        buf_add_char(&block, (char)0xbe);
    wire_frame(&rig.in, WIRE_HEADERS, WIRE_END_HEADERS, 1, buf_span(&block));
    assert_int_equal(feed(&rig, &err), -EPROTO);
    assert_non_null(strstr(err.text, "too large"));
    assert_true(rig.story.len < KIB(32));
    assert_non_null(strstr(said(&rig), "error=11"));
}

static void more_streams_than_agreed_are_refused(void **state)
{
    auto_rig rig;
    int r = 0;

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_frame(&rig.in, WIRE_SETTINGS, WIRE_ACK, 0, SPAN(""));
    for (uint32_t i = 0; i < 101 && r == 0; i++) {
        const char *const pairs[] = { ":method", "POST", NULL };
        wire_headers(&rig.in, 2 * i + 1, WIRE_END_HEADERS, pairs);
        r = feed(&rig, NULL);
        if (i < 100) {
            assert_int_equal(r, 0);
            assert_string_equal(said(&rig), "");
        }
    }
    const char *text = said(&rig);
    assert_true(r < 0 || strstr(text, "RST_STREAM 201 error=7"));
    assert_null(strstr(buf_text(&rig.story), "headers 201"));
}

/* ---- the end ---- */

static void goodbye_lets_open_streams_finish_and_takes_no_new_ones(void **state)
{
    auto_rig rig;
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_request(&rig.in, 1, "/a/b", SPAN(""));
    assert_int_equal(feed(&rig, NULL), 0);
    h2_goaway(rig.h2, H2_NO_ERROR, "bye");
    assert_string_equal(said(&rig), "GOAWAY last=1 error=0\n");
    assert_false(h2_over(rig.h2));
    buf_reset(&rig.story);
    wire_request(&rig.in, 3, "/a/b", SPAN(""));
    assert_int_equal(feed(&rig, NULL), 0);
    assert_string_equal(buf_text(&rig.story), "");
    assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, false, NULL), 0);
    assert_string_equal(said(&rig), "HEADERS 1 end :status=200\n");
    assert_true(h2_over(rig.h2));
}

static void the_peers_goodbye_is_passed_on(void **state)
{
    auto_rig rig;

    open_rig(&rig, H2_CLIENT);
    wire_frame(&rig.in, WIRE_SETTINGS, 0, 0, SPAN(""));
    wire_frame(&rig.in, WIRE_GOAWAY, 0, 0, SPAN("\0\0\0\7\0\0\0\2bye"));
    assert_int_equal(feed(&rig, NULL), 0);
    assert_string_equal(buf_text(&rig.story), "settings\ngoaway 7 2 bye\n");
    assert_true(h2_greeted(rig.h2));
}

/* Go names the highest stream id there is. */
static void a_go_clients_farewell_does_not_cost_it_its_answer(void **state)
{
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };
    auto_(buf_done) struct buf in = BUF_MAX(KIB(4));

    wire_hello(&in);
    wire_request(&in, 1, "/a/b", SPAN("x"));
    wire_frame(&in, WIRE_GOAWAY, 0, 0, SPAN("\177\377\377\377\0\0\0\0client transport shutdown"));
    wire_frame(&in, WIRE_PING, 0, 0, SPAN("\7\7\7\7\7\7\7\7"));
    for (size_t cut = 0; cut <= in.len; cut++) {
        auto_rig rig;

        open_rig(&rig, H2_SERVER);
        assert_int_equal(h2_feed(rig.h2, (struct span){ in.ptr, cut }, 1, NULL), 0);
        assert_int_equal(h2_feed(rig.h2, (struct span){ in.ptr + cut, in.len - cut }, 1, NULL), 0);
        assert_non_null(
            strstr(buf_text(&rig.story), "ended 1\ngoaway 0 0 client transport shutdown\n"));
        said(&rig);
        assert_false(h2_over(rig.h2));
        assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, false, NULL), 0);
        assert_string_equal(said(&rig), "HEADERS 1 end :status=200\n");
        assert_true(h2_over(rig.h2));
    }
}

static void any_event_may_free_the_session(void **state)
{
    static const char *const moments[] = { "settings", "begin", "header", "headers",
                                           "data",     "ended", "closed" };

    for (size_t i = 0; i < ARRAY_LEN(moments); i++) {
        auto_rig rig;

        open_rig(&rig, H2_SERVER);
        rig.free_at = moments[i];
        wire_hello(&rig.in);
        wire_request(&rig.in, 1, "/a/b", SPAN("x"));
        wire_request(&rig.in, 3, "/a/b", SPAN("y"));
        wire_frame(&rig.in, WIRE_RST_STREAM, 0, 1, SPAN("\0\0\0\10"));
        assert_int_equal(feed(&rig, NULL), -ECANCELED);
        assert_null(rig.h2);
    }
}

static void the_body_callback_may_free_the_session(void **state)
{
    auto_rig rig;
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };

    open_rig(&rig, H2_SERVER);
    greet(&rig);
    wire_request(&rig.in, 1, "/a/b", SPAN(""));
    assert_int_equal(feed(&rig, NULL), 0);
    rig.body = SPAN("hello");
    rig.free_at = "body";
    assert_int_equal(h2_submit_response(rig.h2, 1, status, 1, true, NULL), 0);
    assert_int_equal(h2_output(rig.h2).len, 0);
    assert_null(rig.h2);
}

static int n_woken;

static void on_wake(void *user)
{
    n_woken++;
}

static void only_what_is_submitted_from_outside_wakes_the_carrier(void **state)
{
    auto_rig rig;

    n_woken = 0;
    open_rig(&rig, H2_SERVER);
    h2_on_wake(rig.h2, on_wake, NULL);
    greet(&rig);
    wire_frame(&rig.in, WIRE_PING, 0, 0, SPAN("12345678"));
    assert_int_equal(feed(&rig, NULL), 0);
    assert_int_equal(n_woken, 0);
    h2_set_window(rig.h2, 131070);
    assert_int_equal(n_woken, 1);
    assert_string_equal(said(&rig), "PING ack 12345678\nSETTINGS 4=131070\n");
}

/* ---- memory ---- */

/* A whole conversation; the result does not matter, only that nothing is forgotten. */
static void converse(void)
{
    struct rig rig = {
        .in = BUF_MAX(MIB(4)),
        .story = BUF_MAX(MIB(1)),
        .said = BUF_MAX(MIB(4)),
        .now_ns = 1,
    };
    const struct h2_header status[] = { { SPAN(":status"), SPAN("200") } };
    struct buf in = BUF_MAX(KIB(4));
    struct h2 *h2 = NULL;
    struct err err;

    rig.body = SPAN("hello");
    wire_hello(&in);
    wire_request(&in, 1, "/a/b", SPAN("x"));
    if (!in.failed && h2_new(H2_SERVER, NULL, &events, &rig, &h2, &err) == 0) {
        if (h2_feed(h2, buf_span(&in), 1, &err) == 0)
            (void)!h2_submit_response(h2, 1, status, 1, true, &err);
        struct span bytes = h2_output(h2);
        h2_sent(h2, bytes.len);
    }
    h2_free(h2);
    buf_done(&in);
    buf_done(&rig.story);
}

static void every_lack_of_memory_is_survived(void **state)
{
    mem_fail_from(0);
    converse();
    unsigned long n = mem_count();
    assert_true(n > 10);
    for (unsigned long i = 1; i <= n; i++) {
        mem_fail_from(i);
        converse();
    }
    mem_fail_from(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_go_out_before_anything_came_in),
        cmocka_unit_test(a_socket_path_is_a_fine_authority),
        cmocka_unit_test(a_ping_comes_back_with_its_payload),
        cmocka_unit_test(another_protocol_is_told_from_http2),
        cmocka_unit_test(a_broken_frame_ends_the_connection_with_a_reason),
        cmocka_unit_test(an_answer_leaves_as_headers_data_and_trailers_in_one_piece),
        cmocka_unit_test(a_long_body_waits_for_the_window),
        cmocka_unit_test(an_early_answer_tells_the_client_to_stop_sending),
        cmocka_unit_test(a_slow_reader_gets_no_more_than_one_write_is_prepared),
        cmocka_unit_test(frames_that_carry_nothing_are_rationed),
        cmocka_unit_test(a_patient_peer_may_ping_for_ever),
        cmocka_unit_test(requests_that_are_reset_at_once_are_rationed),
        cmocka_unit_test(streams_that_the_peer_makes_us_reset_are_rationed),
        cmocka_unit_test(headers_without_an_end_are_cut_off),
        cmocka_unit_test(headers_that_are_too_large_are_cut_off),
        cmocka_unit_test(more_streams_than_agreed_are_refused),
        cmocka_unit_test(goodbye_lets_open_streams_finish_and_takes_no_new_ones),
        cmocka_unit_test(the_peers_goodbye_is_passed_on),
        cmocka_unit_test(a_go_clients_farewell_does_not_cost_it_its_answer),
        cmocka_unit_test(any_event_may_free_the_session),
        cmocka_unit_test(the_body_callback_may_free_the_session),
        cmocka_unit_test(only_what_is_submitted_from_outside_wakes_the_carrier),
        cmocka_unit_test(every_lack_of_memory_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
