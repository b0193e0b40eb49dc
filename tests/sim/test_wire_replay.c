/*
 * Recorded conversations of real kubelets and plugins, said again to our own two sides: what the
 * client wrote goes to our server, what the server wrote to our client, whole, cut in two at every
 * place, byte by byte and in the pieces and at the times of the recording. What our side
 * understood, and how our server answers, must be what an independent reader of frames finds in the
 * recording.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../unit/wire.h"
#include "base/arena.h"
#include "base/file.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"
#include "net/h2.h"

enum { MAX_CALLS = 64, MAX_EVENTS = 256, SMALL_FILE = 4096, CUTS_OF_LARGE_FILE = 2000 };

/* ---- a recording, understood independently ---- */

/* What one side said on one stream. */
struct half {
    struct buf head, body, trailers; /* header lists as lines; raw DATA */
    bool ended;
    size_t head_end; /* offset behind its first HEADERS frame */
};

struct side {
    struct half halves[MAX_CALLS]; /* of stream 2 i + 1 */
    uint32_t windows[8];           /* INITIAL_WINDOW_SIZE of the SETTINGS after the first */
    unsigned n_settings;
};

struct event {
    double at_s;
    bool from_client;
    size_t offset, len;
};

struct recording {
    struct arena arena;
    struct span c2s, s2c;
    struct side client, server;
    struct event events[MAX_EVENTS];
    size_t n_events, n_calls;
};

static void side_done(struct side *side)
{
    for (size_t i = 0; i < MAX_CALLS; i++) {
        buf_done(&side->halves[i].head);
        buf_done(&side->halves[i].body);
        buf_done(&side->halves[i].trailers);
    }
}

static void note_headers(struct half *half, const struct wire_seen *seen, size_t offset)
{
    struct buf *out = half->head.len == 0 ? &half->head : &half->trailers;

    if (half->head.len == 0)
        half->head_end = offset;
    for (size_t i = 0; i < seen->n_headers; i++)
        buf_printf(out, SPAN_FMT "=" SPAN_FMT "\n", SPAN_ARG(seen->headers[i].name),
                   SPAN_ARG(seen->headers[i].value));
}

static void note_settings(struct side *side, const struct wire_seen *seen)
{
    if (seen->flags & WIRE_ACK)
        return;
    if (side->n_settings > 0) {
        assert_true(side->n_settings < ARRAY_LEN(side->windows));
        assert_int_equal(seen->payload.len, 6);
        side->windows[side->n_settings - 1] = wire_get(seen->payload.ptr + 2, 4);
    }
    side->n_settings++;
}

static void understand(struct span bytes, struct side *side)
{
    const char *start = bytes.ptr;
    struct wire_reader reader;
    struct wire_seen seen;

    *side = (struct side){};
    for (size_t i = 0; i < MAX_CALLS; i++)
        side->halves[i] = (struct half){
            .head = BUF_MAX(KIB(64)),
            .body = BUF_MAX(MIB(8)),
            .trailers = BUF_MAX(KIB(64)),
        };
    wire_reader_init(&reader);
    while (wire_read(&reader, &bytes, &seen)) {
        struct half *half = &side->halves[seen.stream / 2];
        assert_true(seen.stream / 2 < MAX_CALLS);
        if (seen.type == WIRE_HEADERS)
            note_headers(half, &seen, (size_t)(bytes.ptr - start));
        else if (seen.type == WIRE_DATA)
            assert_int_equal(buf_add(&half->body, seen.payload.ptr, seen.payload.len), 0);
        else if (seen.type == WIRE_SETTINGS)
            note_settings(side, &seen);
        if (seen.type <= WIRE_HEADERS && seen.flags & WIRE_END_STREAM)
            half->ended = true;
    }
    wire_reader_done(&reader);
}

static void read_timeline(struct recording *rec, struct span text)
{
    struct span line;
    bool more = true;

    while (span_split(&text, '\n', &more, &line)) {
        char copy[128], direction[8];
        struct event *event = &rec->events[rec->n_events];
        snprintf(copy, sizeof(copy), SPAN_FMT, SPAN_ARG(line));
        if (sscanf(copy, "%lf %7s %zu %zu", &event->at_s, direction, &event->offset, &event->len) !=
            4)
            continue;
        event->from_client = text_equal(direction, "c2s");
        assert_true(++rec->n_events < MAX_EVENTS);
    }
}

static int read_part(struct recording *rec, const char *name, const char *part, struct span *ret)
{
    const char *source = getenv("TRANCHE_SOURCE"), *shared = getenv("TRANCHE_SHARED");
    char path[512];

    source = source ? source : ".";
    snprintf(path, sizeof(path), "%s/tests/data/kubelet-wire/%s.%s", source, name, part);
    if (file_read(AT_FDCWD, path, MIB(4), &rec->arena, ret, NULL) == 0)
        return 0;
    if (shared)
        snprintf(path, sizeof(path), "%s/data/kubelet-wire/%s.%s", shared, name, part);
    else
        snprintf(path, sizeof(path), "%s/../shared/data/kubelet-wire/%s.%s", source, name, part);
    return file_read(AT_FDCWD, path, MIB(4), &rec->arena, ret, NULL);
}

/* False when the recording is not at hand. */
static bool open_recording(struct recording *rec, const char *name)
{
    struct span timeline;

    *rec = (struct recording){ .arena = ARENA_MAX(MIB(8)) };
    if (read_part(rec, name, "c2s.bin", &rec->c2s) < 0 ||
        read_part(rec, name, "s2c.bin", &rec->s2c) < 0 ||
        read_part(rec, name, "timeline", &timeline) < 0)
        return false;
    understand(rec->c2s, &rec->client);
    understand(rec->s2c, &rec->server);
    read_timeline(rec, timeline);
    while (rec->client.halves[rec->n_calls].head.len > 0)
        rec->n_calls++;
    assert_true(rec->n_calls > 0 && rec->n_events > 0);
    return true;
}

static void close_recording(struct recording *rec)
{
    side_done(&rec->client);
    side_done(&rec->server);
    arena_done(&rec->arena);
}

/* The value of a header in a list of lines, or NULL. */
static const char *header(const struct buf *lines, const char *name, char *out, size_t size)
{
    const char *at = buf_text(lines);
    size_t len = strlen(name);

    for (; *at; at = strchr(at, '\n') + 1)
        if (strncmp(at, name, len) == 0 && at[len] == '=') {
            snprintf(out, size, "%.*s", (int)strcspn(at + len + 1, "\n"), at + len + 1);
            return out;
        }
    return NULL;
}

static const char *status_of(const struct half *half, const char *name, char *out, size_t size)
{
    const char *value = header(&half->trailers, name, out, size);

    return value ? value : header(&half->head, name, out, size);
}

/* ---- our server listens to a recorded client ---- */

struct stage {
    struct loop *loop;
    const struct recording *rec;
    struct grpc_server *server;
    struct grpc_server_conn *server_conn;
    struct grpc_client_conn *client_conn;
    struct buf output; /* of our server */
    size_t n_handled, next_call;
    struct account {
        struct buf messages;
        char status[512];
    } accounts[MAX_CALLS]; /* of our client */
};

/* The body that a list of messages makes on the wire. */
static void add_message(struct buf *body, struct span message)
{
    wire_number(body, 0, 1);
    wire_number(body, (uint32_t)message.len, 4);
    buf_add(body, message.ptr, message.len);
}

static bool next_message(struct span *body, struct span *ret)
{
    if (body->len == 0)
        return false;
    size_t len = wire_get(body->ptr + 1, 4);
    *ret = (struct span){ body->ptr + 5, len };
    *body = (struct span){ body->ptr + 5 + len, body->len - 5 - len };
    return true;
}

/* The next recorded call that has a handler with us. */
static size_t next_served(struct stage *stage)
{
    char code[8];
    size_t i = stage->n_handled;

    while (text_equal(status_of(&stage->rec->server.halves[i], "grpc-status", code, 8) ?: "", "12"))
        i++;
    stage->n_handled = i + 1;
    return i;
}

static void on_stream_cancelled(struct grpc_call *call, void *user)
{
}

/* Answers as the recorded server did. */
static void on_call(struct grpc_call *call, struct span request, void *user)
{
    struct stage *stage = user;
    size_t i = next_served(stage);
    const struct half *asked = &stage->rec->client.halves[i];
    const struct half *answer = &stage->rec->server.halves[i];
    struct span body = buf_span(&answer->body), message = {};
    char text[512], code[8];

    assert_string_equal(header(&asked->head, ":path", text, sizeof(text)), grpc_call_path(call));
    assert_int_equal(grpc_call_deadline_ns(call) > 0,
                     header(&asked->head, "grpc-timeout", text, sizeof(text)) != NULL);
    assert_int_equal(request.len, asked->body.len - 5);
    assert_memory_equal(request.ptr, asked->body.ptr + 5, request.len);

    grpc_call_on_cancel(call, on_stream_cancelled, NULL);
    if (!strstr(grpc_call_path(call), "ListAndWatch")) {
        if (next_message(&body, &message)) {
            grpc_call_reply(call, message);
            return;
        }
    }
    while (next_message(&body, &message))
        assert_int_equal(grpc_call_send(call, message, NULL), 0);
    if (answer->ended)
        grpc_call_end(call,
                      (enum grpc_code)atoi(status_of(answer, "grpc-status", code, sizeof(code))),
                      status_of(answer, "grpc-message", text, sizeof(text)));
}

static const struct grpc_method methods[] = {
    { "/v1beta1.Registration/Register", GRPC_UNARY, on_call },
    { "/v1beta1.DevicePlugin/GetDevicePluginOptions", GRPC_UNARY, on_call },
    { "/v1beta1.DevicePlugin/ListAndWatch", GRPC_SERVER_STREAM, on_call },
    { "/v1beta1.DevicePlugin/GetPreferredAllocation", GRPC_UNARY, on_call },
    { "/v1beta1.DevicePlugin/Allocate", GRPC_UNARY, on_call },
    { "/v1beta1.DevicePlugin/PreStartContainer", GRPC_UNARY, on_call },
};

static void take_output(struct stage *stage)
{
    struct span bytes;

    while ((bytes = grpc_server_conn_output(stage->server_conn)).len > 0) {
        buf_add(&stage->output, bytes.ptr, bytes.len);
        grpc_server_conn_sent(stage->server_conn, bytes.len);
    }
}

static void stage_open(struct stage *stage, const struct recording *rec)
{
    *stage = (struct stage){ .rec = rec, .output = BUF_MAX(MIB(4)) };
    assert_int_equal(loop_new_manual(&stage->loop, NULL), 0);
    assert_int_equal(grpc_server_new(stage->loop, NULL, &stage->server, NULL), 0);
    assert_int_equal(grpc_server_add(stage->server, methods, ARRAY_LEN(methods), stage, NULL), 0);
    for (size_t i = 0; i < MAX_CALLS; i++)
        stage->accounts[i].messages = BUF_MAX(MIB(4));
}

static void stage_close(struct stage *stage)
{
    grpc_server_conn_free(stage->server_conn);
    grpc_client_conn_free(stage->client_conn);
    grpc_server_free(stage->server);
    for (size_t i = 0; i < MAX_CALLS; i++)
        buf_done(&stage->accounts[i].messages);
    buf_done(&stage->output);
    loop_free(stage->loop);
}

/* The recorded client acknowledges SETTINGS that the recorded server sent later on; whoever has not
 * sent them has to take that for an attack. */
static void begin_server(struct stage *stage)
{
    const struct side *server = &stage->rec->server;

    assert_int_equal(grpc_server_conn_new(stage->server, NULL, &stage->server_conn, NULL), 0);
    for (unsigned i = 1; i < server->n_settings; i++)
        h2_set_window(grpc_server_conn_h2(stage->server_conn), server->windows[i - 1]);
    take_output(stage);
}

/* At most as much as a socket gives at a time: the recorded peer counted on answers in between. */
static void feed_server(struct stage *stage, size_t from, size_t to)
{
    struct err err = {};

    do {
        struct span piece = { stage->rec->c2s.ptr + from, MIN(to - from, KIB(16)) };
        if (grpc_server_conn_feed(stage->server_conn, piece, &err) < 0)
            fail_msg("at %zu: %s", from, err.text);
        take_output(stage);
        from += piece.len;
    } while (from < to);
}

static void check_half(const struct half *ours, const struct half *theirs)
{
    assert_string_equal(buf_text(&ours->head), buf_text(&theirs->head));
    assert_int_equal(ours->body.len, theirs->body.len);
    assert_memory_equal(buf_text(&ours->body), buf_text(&theirs->body), ours->body.len);
    assert_string_equal(buf_text(&ours->trailers), buf_text(&theirs->trailers));
    assert_int_equal(ours->ended, theirs->ended);
}

static void check_answers(struct stage *stage)
{
    struct side ours;

    understand(buf_span(&stage->output), &ours);
    for (size_t i = 0; i < stage->rec->n_calls; i++)
        check_half(&ours.halves[i], &stage->rec->server.halves[i]);
    side_done(&ours);
}

/* ---- our client listens to a recorded server ---- */

struct seat {
    struct stage *stage;
    size_t call;
};

static struct seat seats[MAX_CALLS];

static void on_message(void *user, struct span message)
{
    struct seat *seat = user;

    add_message(&seat->stage->accounts[seat->call].messages, message);
}

static void on_end(void *user, const struct grpc_status *status)
{
    struct seat *seat = user;
    struct account *account = &seat->stage->accounts[seat->call];

    snprintf(account->status, sizeof(account->status), "%d %s", (int)status->code, status->message);
}

static void on_done(void *user, const struct grpc_status *status, struct span response)
{
    if (status->code == GRPC_OK)
        on_message(user, response);
    on_end(user, status);
}

/* Makes the next call as the recorded client did. */
static void make_call(struct stage *stage)
{
    size_t i = stage->next_call++;
    const struct half *asked = &stage->rec->client.halves[i];
    struct span message = { asked->body.ptr + 5, asked->body.len - 5 };
    char path[128], timeout[16];
    int64_t timeout_ns = 0;

    seats[i] = (struct seat){ stage, i };
    if (header(&asked->head, "grpc-timeout", timeout, sizeof(timeout)))
        assert_int_equal(grpc_timeout_parse(span_of(timeout), &timeout_ns), 0);
    struct grpc_call_options options = {
        .path = header(&asked->head, ":path", path, sizeof(path)),
        .timeout_ms = (uint64_t)(timeout_ns + 999999) / 1000000,
    };
    int r = strstr(path, "ListAndWatch")
                ? grpc_client_conn_stream(stage->client_conn, &options, message, on_message, on_end,
                                          &seats[i], NULL, NULL)
                : grpc_client_conn_unary(stage->client_conn, &options, message, on_done, &seats[i],
                                         NULL, NULL);
    assert_int_equal(r, 0);
}

static void throw_output_away(struct stage *stage)
{
    struct span bytes;

    while ((bytes = grpc_client_conn_output(stage->client_conn)).len > 0)
        grpc_client_conn_sent(stage->client_conn, bytes.len);
}

static void begin_client(struct stage *stage)
{
    const struct side *client = &stage->rec->client;
    char authority[128];
    struct grpc_client_options options = {
        .authority = header(&client->halves[0].head, ":authority", authority, sizeof(authority)),
    };

    assert_int_equal(grpc_client_conn_new(stage->loop, &options, &stage->client_conn, NULL), 0);
    for (unsigned i = 1; i < client->n_settings; i++)
        h2_set_window(grpc_client_conn_h2(stage->client_conn), client->windows[i - 1]);
    throw_output_away(stage);
}

static void make_all_calls(struct stage *stage)
{
    while (stage->next_call < stage->rec->n_calls)
        make_call(stage);
    throw_output_away(stage);
}

static void feed_client(struct stage *stage, size_t from, size_t to)
{
    struct err err = {};

    do {
        struct span piece = { stage->rec->s2c.ptr + from, MIN(to - from, KIB(16)) };
        if (grpc_client_conn_feed(stage->client_conn, piece, &err) < 0)
            fail_msg("at %zu: %s", from, err.text);
        throw_output_away(stage);
        from += piece.len;
    } while (from < to);
}

static void check_accounts(struct stage *stage)
{
    grpc_client_conn_lost(stage->client_conn, "end of the recording");
    for (size_t i = 0; i < stage->rec->n_calls; i++) {
        const struct half *theirs = &stage->rec->server.halves[i];
        const struct account *ours = &stage->accounts[i];
        char code[8], message[400] = "", want[512];
        assert_int_equal(ours->messages.len, theirs->body.len);
        assert_memory_equal(buf_text(&ours->messages), buf_text(&theirs->body), theirs->body.len);
        if (theirs->ended)
            snprintf(want, sizeof(want), "%s %s", status_of(theirs, "grpc-status", code, 8),
                     status_of(theirs, "grpc-message", message, sizeof(message)));
        else
            snprintf(want, sizeof(want), "14 end of the recording");
        assert_string_equal(ours->status, want);
    }
}

/* ---- ways to say it again ---- */

static void replay_in_two(const struct recording *rec, bool to_server, size_t cut)
{
    size_t len = to_server ? rec->c2s.len : rec->s2c.len;
    struct stage stage;

    stage_open(&stage, rec);
    if (to_server) {
        begin_server(&stage);
        feed_server(&stage, 0, cut);
        feed_server(&stage, cut, len);
        check_answers(&stage);
    } else {
        begin_client(&stage);
        make_all_calls(&stage);
        feed_client(&stage, 0, cut);
        feed_client(&stage, cut, len);
        check_accounts(&stage);
    }
    stage_close(&stage);
}

static void replay_cut_everywhere(const struct recording *rec, bool to_server)
{
    size_t len = to_server ? rec->c2s.len : rec->s2c.len;

    if (len < SMALL_FILE) {
        for (size_t cut = 0; cut <= len; cut++)
            replay_in_two(rec, to_server, cut);
        return;
    }
    for (size_t i = 0; i <= CUTS_OF_LARGE_FILE; i++)
        replay_in_two(rec, to_server, i * len / CUTS_OF_LARGE_FILE);
}

static void replay_byte_by_byte(const struct recording *rec)
{
    struct stage stage;

    stage_open(&stage, rec);
    begin_server(&stage);
    for (size_t at = 0; at < rec->c2s.len; at++)
        feed_server(&stage, at, at + 1);
    check_answers(&stage);
    begin_client(&stage);
    make_all_calls(&stage);
    for (size_t at = 0; at < rec->s2c.len; at++)
        feed_client(&stage, at, at + 1);
    check_accounts(&stage);
    stage_close(&stage);
}

/* Each side hears the other's pieces when they were written; our client calls when theirs did. */
static void replay_in_time(const struct recording *rec)
{
    struct stage stage;
    uint64_t now_ms = 0;

    stage_open(&stage, rec);
    begin_server(&stage);
    begin_client(&stage);
    for (size_t i = 0; i < rec->n_events; i++) {
        const struct event *event = &rec->events[i];
        size_t end = event->offset + event->len;
        uint64_t at_ms = (uint64_t)(event->at_s * 1000);
        loop_advance_ms(stage.loop, at_ms - now_ms);
        now_ms = at_ms;
        if (!event->from_client) {
            feed_client(&stage, event->offset, end);
            continue;
        }
        while (stage.next_call < rec->n_calls &&
               rec->client.halves[stage.next_call].head_end <= end)
            make_call(&stage);
        throw_output_away(&stage);
        feed_server(&stage, event->offset, end);
    }
    take_output(&stage);
    check_answers(&stage);
    check_accounts(&stage);
    stage_close(&stage);
}

static void replay(const char *name)
{
    static struct recording rec; /* large */
    bool at_hand = open_recording(&rec, name);

    if (at_hand) {
        replay_in_two(&rec, true, rec.c2s.len);
        replay_in_two(&rec, false, rec.s2c.len);
        replay_in_time(&rec);
        replay_byte_by_byte(&rec);
        replay_cut_everywhere(&rec, true);
        replay_cut_everywhere(&rec, false);
    }
    close_recording(&rec);
    if (!at_hand)
        skip();
}

#define REPLAY(function, name)                                                                     \
    static void function(void **state)                                                             \
    {                                                                                              \
        replay(name);                                                                              \
    }

REPLAY(a_plugin_registers_with_kubelet_1_20, "k120-register")
REPLAY(kubelet_1_20_refuses_a_registration, "k120-register-refused")
REPLAY(kubelet_1_20_allocates_and_is_refused, "k120-plugin-allocate")
REPLAY(kubelet_1_20_watches_a_changing_list, "k120-plugin-updates")
REPLAY(kubelet_1_20_calls_before_a_container_starts, "k120-plugin-prestart")
REPLAY(kubelet_1_20_reads_2500_devices, "k120-plugin-2500-devices")
REPLAY(a_plugin_registers_with_a_current_server, "cur-register")
REPLAY(a_current_client_calls_everything, "cur-plugin-localhost")
REPLAY(a_current_client_escapes_its_authority, "cur-plugin-escaped")
REPLAY(a_current_client_moves_2500_devices_both_ways, "cur-plugin-2500-devices")
REPLAY(nvidias_plugin_registers, "cur-nvidia-register")
REPLAY(nvidias_plugin_serves_a_current_client, "cur-nvidia-plugin")

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plugin_registers_with_kubelet_1_20),
        cmocka_unit_test(kubelet_1_20_refuses_a_registration),
        cmocka_unit_test(kubelet_1_20_allocates_and_is_refused),
        cmocka_unit_test(kubelet_1_20_watches_a_changing_list),
        cmocka_unit_test(kubelet_1_20_calls_before_a_container_starts),
        cmocka_unit_test(kubelet_1_20_reads_2500_devices),
        cmocka_unit_test(a_plugin_registers_with_a_current_server),
        cmocka_unit_test(a_current_client_calls_everything),
        cmocka_unit_test(a_current_client_escapes_its_authority),
        cmocka_unit_test(a_current_client_moves_2500_devices_both_ways),
        cmocka_unit_test(nvidias_plugin_registers),
        cmocka_unit_test(nvidias_plugin_serves_a_current_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
