#include "net/grpc_client_conn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* ---- requests ---- */

void request_list_add(struct request_list *list, struct grpc_request *request)
{
    request->list = list;
    request->prev = list->last;
    request->next = NULL;
    *(list->last ? &list->last->next : &list->first) = request;
    list->last = request;
    list->n++;
}

static void unlink_request(struct grpc_request *request)
{
    struct request_list *list = request->list;

    if (!list)
        return;
    *(request->prev ? &request->prev->next : &list->first) = request->next;
    *(request->next ? &request->next->prev : &list->last) = request->prev;
    list->n--;
    request->list = NULL;
}

void request_free(struct grpc_request *request)
{
    if (!request)
        return;
    if (request->gone)
        *request->gone = true;
    unlink_request(request);
    if (request->conn && request->stream > 0)
        h2_stream_set(request->conn->h2, request->stream, NULL);
    timer_stop(&request->deadline);
    grpc_reader_done(&request->reader);
    grpc_writer_done(&request->writer);
    buf_done(&request->response);
    buf_done(&request->message);
    mem_free(request->path);
    mem_free(request);
}

/* Takes what a callback needs out of the request before that is freed. */
void request_finish(struct grpc_request *request, enum grpc_code code, const char *message)
{
    auto_(buf_done) struct buf response = request->response;
    auto_(buf_done) struct buf text = BUF_MAX(GRPC_MAX_STATUS);
    grpc_done_fn *done = request->done;
    grpc_end_fn *on_end = request->on_end;
    void *user = request->user;

    (void)buf_add(&text, message, MIN(strlen(message), (size_t)GRPC_MAX_STATUS));
    request->response = (struct buf){};
    request_free(request);
    struct grpc_status status = { .code = code, .message = buf_text(&text) };
    if (done)
        done(user, &status, code == GRPC_OK ? buf_span(&response) : (struct span){ .ptr = "" });
    else if (on_end)
        on_end(user, &status);
}

/* For a call that the server has not ended: tells it to stop, too. */
static void abandon(struct grpc_request *request, enum grpc_code code, const char *message)
{
    if (request->conn && request->stream > 0)
        h2_reset(request->conn->h2, request->stream, H2_CANCEL);
    request_finish(request, code, message);
}

static void on_deadline(struct timer *timer, void *user)
{
    abandon(user, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
}

void grpc_request_cancel(struct grpc_request *request)
{
    if (request->conn && request->stream > 0)
        h2_reset(request->conn->h2, request->stream, H2_CANCEL);
    request_free(request);
}

int request_new(struct loop *loop, const struct grpc_call_options *options, struct span message,
                size_t max_message, struct grpc_request **ret, struct err *err)
{
    struct span service, method;

    if (!grpc_path_split(span_of(options->path), &service, &method))
        return err_set(err, EINVAL, "%s: is not /service/method", options->path);
    struct grpc_request *request = mem_alloc(sizeof(*request));
    if (!request)
        return err_no_memory(err);
    request->loop = loop;
    request->wait_for_ready = options->wait_for_ready;
    request->message = BUF_MAX(GRPC_MAX_STATUS);
    grpc_reader_init(&request->reader, max_message);
    request->path = mem_alloc(strlen(options->path) + 1);
    int r =
        request->path ? grpc_writer_add(&request->writer, message, false, err) : err_no_memory(err);
    if (r < 0) {
        request_free(request);
        return r;
    }
    strcpy(request->path, options->path);
    if (options->timeout_ms > 0) {
        timer_start(&request->deadline, loop, options->timeout_ms, on_deadline, request);
        request->deadline_ns = request->deadline.due_ns;
    }
    *ret = request;
    return 0;
}

int request_start(struct grpc_request *request, struct grpc_client_conn *conn, struct err *err)
{
    char timeout[12];
    uint64_t now = loop_now_ns(conn->loop);
    struct h2_header headers[9] = {
        { SPAN(":method"), SPAN("POST") },
        { SPAN(":scheme"), SPAN("http") },
        { SPAN(":path"), span_of(request->path) },
        { SPAN(":authority"), span_of(conn->authority) },
        { SPAN("content-type"), SPAN("application/grpc") },
        { SPAN("user-agent"), span_of(conn->user_agent) },
        { SPAN("te"), SPAN("trailers") },
    };
    size_t n = 7;

    if (conn->lost)
        return err_set(err, EAGAIN, "the connection is lost");
    if (request->deadline_ns > 0) {
        grpc_timeout_print(request->deadline_ns > now ? (int64_t)(request->deadline_ns - now) : 0,
                           timeout);
        headers[n++] = (struct h2_header){ SPAN("grpc-timeout"), span_of(timeout) };
    }
    int32_t stream = h2_submit_request(conn->h2, headers, n, request, err);
    if (stream < 0)
        return stream;
    unlink_request(request);
    request_list_add(&conn->requests, request);
    request->conn = conn;
    request->stream = stream;
    return 0;
}

/* ---- the answer ---- */

static void on_begin(void *user, int32_t stream, void *context)
{
    struct grpc_request *request = context;

    if (request)
        request->n_blocks++;
}

static void on_header(void *user, int32_t stream, void *context, struct span name,
                      struct span value)
{
    struct grpc_request *request = context;
    uint64_t number;

    if (!request)
        return;
    if (span_equal(name, SPAN(":status"))) {
        request->http_status =
            text_to_u64(value, &number) == 0 && number < 1000 ? (unsigned)number : 0;
    } else if (span_equal(name, SPAN("content-type"))) {
        request->is_grpc = grpc_is_content_type(value);
    } else if (span_equal(name, SPAN("grpc-status"))) {
        grpc_code_parse(value, &request->code);
        request->has_status = true;
    } else if (span_equal(name, SPAN("grpc-message"))) {
        buf_reset(&request->message);
        (void)grpc_message_unescape(value, &request->message);
    } else if (span_equal(name, SPAN("grpc-encoding"))) {
        snprintf(request->encoding, sizeof(request->encoding), SPAN_FMT, SPAN_ARG(value));
    }
}

static void on_headers_end(void *user, int32_t stream, void *context, bool end_stream)
{
    struct grpc_request *request = context;
    char text[80];

    if (!request || request->has_status)
        return;
    if (request->http_status >= 100 && request->http_status < 200) {
        request->http_status = 0; /* an interim answer; the real one follows */
    } else if (request->http_status != 200) {
        snprintf(text, sizeof(text), "the server answers with HTTP status %u",
                 request->http_status);
        abandon(request, grpc_code_from_http(request->http_status), text);
    } else if (!request->is_grpc) {
        abandon(request, GRPC_UNKNOWN, "the server's answer is not gRPC");
    }
}

/* A complete message. False when the request is over. */
static bool take_message(struct grpc_request *request)
{
    bool gone = false;

    if (!request->done) {
        if (!request->on_message)
            return true;
        request->gone = &gone;
        request->on_message(request->user, buf_span(&request->reader.payload));
        if (!gone)
            request->gone = NULL;
        return !gone;
    }
    if (request->got_response) {
        abandon(request, GRPC_INTERNAL, "the server answers with more than one message");
        return false;
    }
    request->got_response = true;
    request->response = request->reader.payload;
    request->reader.payload = BUF_MAX(request->response.max);
    return true;
}

static void on_data(void *user, int32_t stream, void *context, struct span bytes)
{
    struct grpc_request *request = context;
    enum grpc_code code;
    struct err err;

    while (request && bytes.len > 0) {
        int r = grpc_reader_feed(&request->reader, &bytes, span_of(request->encoding), &code, &err);
        if (r < 0) {
            abandon(request, code == GRPC_UNIMPLEMENTED ? GRPC_INTERNAL : code, err.text);
            return;
        }
        if (r > 0 && !take_message(request))
            return;
    }
}

static void conclude(struct grpc_request *request)
{
    if (!request->has_status)
        request_finish(request, GRPC_INTERNAL, "the server ends the answer without a status");
    else if (request->code == GRPC_OK && !grpc_reader_between(&request->reader))
        request_finish(request, GRPC_INTERNAL, "the server ends the answer inside a message");
    else if (request->code == GRPC_OK && request->done && !request->got_response)
        request_finish(request, GRPC_INTERNAL, "the server says OK and sends no message");
    else
        request_finish(request, request->code, buf_text(&request->message));
}

static void on_ended(void *user, int32_t stream, void *context)
{
    struct grpc_client_conn *conn = user;
    struct grpc_request *request = context;

    if (!request)
        return;
    /* A server may end a call without having read all of the request. */
    if (!grpc_writer_empty(&request->writer))
        h2_reset(conn->h2, stream, H2_CANCEL);
    conclude(request);
}

static void on_closed(void *user, int32_t stream, void *context, uint32_t error)
{
    struct grpc_request *request = context;
    char text[120];

    if (!request)
        return;
    snprintf(text, sizeof(text), "the server has reset the stream (HTTP/2 error %u)", error);
    request_finish(request, grpc_code_from_h2(error), text);
}

static enum h2_more on_body(void *user, int32_t stream, void *context, char *to, size_t max,
                            size_t *ret_n)
{
    struct grpc_request *request = context;

    if (!request)
        return H2_RESET;
    *ret_n = grpc_writer_take(&request->writer, to, max);
    return grpc_writer_empty(&request->writer) ? H2_END : H2_MORE;
}

static void on_settings(void *user)
{
    struct grpc_client_conn *conn = user;

    if (conn->on_ready)
        conn->on_ready(conn->user);
}

static void on_goaway(void *user, int32_t last_stream, uint32_t error, struct span text)
{
    struct grpc_client_conn *conn = user;

    if (conn->on_goaway)
        conn->on_goaway(conn->user);
}

/* ---- the connection ---- */

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

static char *copy(const char *text)
{
    char *out = mem_alloc(strlen(text) + 1);

    return out ? strcpy(out, text) : NULL;
}

int grpc_client_conn_new(struct loop *loop, const struct grpc_client_options *options,
                         struct grpc_client_conn **ret, struct err *err)
{
    const struct grpc_client_options none = {};
    struct grpc_client_conn *conn = mem_alloc(sizeof(*conn));

    if (!conn)
        return err_no_memory(err);
    options = options ? options : &none;
    conn->loop = loop;
    conn->max_message = options->max_message ? options->max_message : GRPC_MAX_MESSAGE;
    conn->authority = copy(options->authority ? options->authority : "localhost");
    conn->user_agent = copy(options->user_agent ? options->user_agent : "tranche/" TRANCHE_VERSION);
    int r = conn->authority && conn->user_agent
                ? h2_new(H2_CLIENT, NULL, &events, conn, &conn->h2, err)
                : err_no_memory(err);
    if (r < 0) {
        grpc_client_conn_free(conn);
        return r;
    }
    *ret = conn;
    return 0;
}

void grpc_client_conn_free(struct grpc_client_conn *conn)
{
    if (!conn || conn->freed)
        return;
    conn->freed = true;
    while (conn->requests.first)
        request_free(conn->requests.first);
    h2_free(conn->h2);
    mem_free(conn->authority);
    mem_free(conn->user_agent);
    if (conn->busy == 0)
        mem_free(conn);
}

void grpc_client_conn_lost(struct grpc_client_conn *conn, const char *why)
{
    conn->lost = true;
    conn->busy++;
    while (!conn->freed && conn->requests.first)
        request_finish(conn->requests.first, GRPC_UNAVAILABLE, why);
    if (--conn->busy == 0 && conn->freed)
        mem_free(conn);
}

int grpc_client_conn_feed(struct grpc_client_conn *conn, struct span bytes, struct err *err)
{
    return h2_feed(conn->h2, bytes, loop_now_ns(conn->loop), err);
}

struct span grpc_client_conn_output(struct grpc_client_conn *conn)
{
    return h2_output(conn->h2);
}

void grpc_client_conn_sent(struct grpc_client_conn *conn, size_t n)
{
    h2_sent(conn->h2, n);
}

struct h2 *grpc_client_conn_h2(struct grpc_client_conn *conn)
{
    return conn->h2;
}

static int start_here(struct grpc_client_conn *conn, const struct grpc_call_options *options,
                      struct span message, struct grpc_request **ret, struct err *err)
{
    struct grpc_request *request = NULL;
    int r = request_new(conn->loop, options, message, conn->max_message, &request, err);

    if (r < 0)
        return r;
    r = request_start(request, conn, err);
    if (r < 0) {
        request_free(request);
        return r;
    }
    *ret = request;
    return 0;
}

int grpc_client_conn_unary(struct grpc_client_conn *conn, const struct grpc_call_options *options,
                           struct span message, grpc_done_fn *done, void *user,
                           struct grpc_request **ret, struct err *err)
{
    struct grpc_request *request = NULL;
    int r = start_here(conn, options, message, &request, err);

    if (r < 0)
        return r;
    request->done = done;
    request->user = user;
    if (ret)
        *ret = request;
    return 0;
}

int grpc_client_conn_stream(struct grpc_client_conn *conn, const struct grpc_call_options *options,
                            struct span message, grpc_message_fn *on_message, grpc_end_fn *on_end,
                            void *user, struct grpc_request **ret, struct err *err)
{
    struct grpc_request *request = NULL;
    int r = start_here(conn, options, message, &request, err);

    if (r < 0)
        return r;
    request->on_message = on_message;
    request->on_end = on_end;
    request->user = user;
    if (ret)
        *ret = request;
    return 0;
}
