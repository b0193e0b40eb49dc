#include "net/grpc_server_conn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_PATH_BYTES = 512, MAX_ENCODING = 32 };

enum call_state {
    CALL_HEADERS, /* the request's headers are coming in */
    CALL_BODY,    /* its message is coming in */
    CALL_OPEN,    /* the handler has it */
    CALL_ENDING,  /* answered; what was said is on its way out */
    CALL_GONE,    /* cancelled; nothing can be said any more */
};

/* Which headers were seen, and what was wrong with them. */
enum {
    SAW_METHOD = 1,
    SAW_SCHEME = 2,
    SAW_PATH = 4,
    SAW_AUTHORITY = 8,
    SAW_CONTENT_TYPE = 16,
    SAW_REGULAR = 32, /* a header without a colon: no pseudo-header may follow */
    BAD_REQUEST = 64, /* not HTTP/2 as it should be */
    BAD_METHOD = 128,
    BAD_CONTENT_TYPE = 256,
    BAD_TIMEOUT = 512,
    BAD_PATH = 1024,
};

struct grpc_call {
    struct grpc_server_conn *conn;
    struct grpc_call *prev, *next;
    const struct grpc_route *route;
    int32_t stream;
    enum call_state state;
    unsigned seen;
    char *path; /* owned */
    char encoding[MAX_ENCODING];
    int64_t timeout_ns; /* -1 without grpc-timeout */
    uint64_t deadline_ns;
    struct timer deadline;
    struct grpc_reader reader;
    struct grpc_writer writer;
    bool headers_sent;
    enum grpc_code code; /* of the trailers, when ending */
    struct buf message;  /* the same, escaped */
    grpc_cancel_fn *cancel;
    void *cancel_user;
    void *data;
};

/* ---- ending a call ---- */

static void finish_reading(struct grpc_call *call)
{
    if (call->state == CALL_BODY)
        call->conn->pending_bytes -= call->reader.payload.len;
}

static size_t status_headers(struct grpc_call *call, struct h2_header out[2], char code[4])
{
    snprintf(code, 4, "%d", (int)call->code);
    out[0] = (struct h2_header){ SPAN("grpc-status"), span_of(code) };
    out[1] = (struct h2_header){ SPAN("grpc-message"), buf_span(&call->message) };
    return 2;
}

static const struct h2_header answer_headers[] = {
    { SPAN(":status"), SPAN("200") },
    { SPAN("content-type"), SPAN("application/grpc") },
};

static void give_up(struct grpc_call *call)
{
    h2_reset(call->conn->h2, call->stream, H2_INTERNAL_ERROR);
}

/* An answer in one HEADERS frame, for a call that has sent nothing. */
static void send_trailers_only(struct grpc_call *call, const char *http_status)
{
    struct h2_header headers[6];
    char code[4];
    size_t n = ARRAY_LEN(answer_headers);

    memcpy(headers, answer_headers, sizeof(answer_headers));
    headers[0].value = span_of(http_status);
    n += status_headers(call, headers + n, code);
    if (call->code == GRPC_UNIMPLEMENTED && call->encoding[0])
        headers[n++] = (struct h2_header){ SPAN("grpc-accept-encoding"), SPAN("identity") };
    if (h2_submit_response(call->conn->h2, call->stream, headers, n, false, NULL) < 0)
        give_up(call);
}

static void end_with_http(struct grpc_call *call, enum grpc_code code, const char *message,
                          const char *http_status)
{
    finish_reading(call);
    call->state = CALL_ENDING;
    call->code = code;
    if (grpc_message_escape(span_of(message), &call->message) < 0)
        buf_done(&call->message);
    if (call->headers_sent)
        h2_resume(call->conn->h2, call->stream);
    else
        send_trailers_only(call, http_status);
}

static void end(struct grpc_call *call, enum grpc_code code, const char *message)
{
    end_with_http(call, code, message, "200");
}

PRINTF(3, 4)
static void end_format(struct grpc_call *call, enum grpc_code code, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    end(call, code, text);
}

/* Tells the handler that its call is over. The last thing to do with a call and its connection,
 * unless the connection is held: the handler may free everything. */
static void tell_cancelled(struct grpc_call *call)
{
    grpc_cancel_fn *cancel = call->cancel;

    call->cancel = NULL;
    if (cancel)
        cancel(call, call->cancel_user);
}

static void cancel_with(struct grpc_call *call, enum grpc_code code, const char *message)
{
    bool open = call->state == CALL_OPEN;

    end(call, code, message);
    if (open)
        tell_cancelled(call);
}

/* The client is not there any more, there is nobody to answer. */
static void vanish(struct grpc_call *call)
{
    bool open = call->state == CALL_OPEN;

    finish_reading(call);
    call->state = CALL_GONE;
    if (open)
        tell_cancelled(call);
}

static void on_deadline(struct timer *timer, void *user)
{
    struct grpc_call *call = user;

    if (call->state == CALL_ENDING)
        h2_reset(call->conn->h2, call->stream, H2_CANCEL);
    else
        cancel_with(call, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
}

/* ---- life of a call ---- */

static void call_free(struct grpc_call *call)
{
    struct grpc_server_conn *conn = call->conn;

    finish_reading(call);
    *(call->prev ? &call->prev->next : &conn->calls) = call->next;
    if (call->next)
        call->next->prev = call->prev;
    conn->n_calls--;
    conn->quiet_ns = loop_now_ns(conn->loop);
    timer_stop(&call->deadline);
    grpc_reader_done(&call->reader);
    grpc_writer_done(&call->writer);
    buf_done(&call->message);
    mem_free(call->path);
    mem_free(call);
}

static struct grpc_call *call_new(struct grpc_server_conn *conn, int32_t stream)
{
    struct grpc_call *call = mem_alloc(sizeof(*call));

    if (!call)
        return NULL;
    call->conn = conn;
    call->stream = stream;
    call->timeout_ns = -1;
    call->message = BUF_MAX(3 * GRPC_MAX_STATUS);
    grpc_reader_init(&call->reader, conn->limits.max_message);
    call->next = conn->calls;
    if (call->next)
        call->next->prev = call;
    conn->calls = call;
    conn->n_calls++;
    /* Until the client's own deadline is known, this one holds: nobody begins a request and
     * leaves it at that. */
    timer_start(&call->deadline, conn->loop, conn->limits.request_timeout_ms, on_deadline, call);
    return call;
}

static void really_free(struct grpc_server_conn *conn);

/* The end of a use of the call list (conn->busy++). */
static void leave(struct grpc_server_conn *conn)
{
    if (--conn->busy == 0 && conn->freed)
        really_free(conn);
}

/* ---- the request ---- */

static void see_pseudo(struct grpc_call *call, unsigned what)
{
    if (call->seen & (what | SAW_REGULAR))
        call->seen |= BAD_REQUEST;
    call->seen |= what;
}

static void take_path(struct grpc_call *call, struct span value)
{
    see_pseudo(call, SAW_PATH);
    if (call->path)
        return;
    call->path = value.len <= MAX_PATH_BYTES ? mem_alloc(value.len + 1) : NULL;
    if (!call->path)
        call->seen |= BAD_PATH;
    else if (value.len > 0)
        memcpy(call->path, value.ptr, value.len);
}

static void take_pseudo(struct grpc_call *call, struct span name, struct span value)
{
    if (span_equal(name, SPAN(":method"))) {
        see_pseudo(call, SAW_METHOD);
        if (!span_equal(value, SPAN("POST")))
            call->seen |= BAD_METHOD;
    } else if (span_equal(name, SPAN(":path"))) {
        take_path(call, value);
    } else if (span_equal(name, SPAN(":scheme"))) {
        see_pseudo(call, SAW_SCHEME);
    } else if (span_equal(name, SPAN(":authority"))) {
        /* A host, a raw socket path or an escaped one: all are fine (spec/kubelet-wire §2). */
        see_pseudo(call, SAW_AUTHORITY);
    } else {
        call->seen |= BAD_REQUEST;
    }
}

static void take_regular(struct grpc_call *call, struct span name, struct span value)
{
    call->seen |= SAW_REGULAR;
    if (span_equal(name, SPAN("content-type"))) {
        call->seen |= SAW_CONTENT_TYPE | (grpc_is_content_type(value) ? 0 : BAD_CONTENT_TYPE);
    } else if (span_equal(name, SPAN("grpc-timeout"))) {
        if (grpc_timeout_parse(value, &call->timeout_ns) < 0)
            call->seen |= BAD_TIMEOUT;
    } else if (span_equal(name, SPAN("grpc-encoding"))) {
        snprintf(call->encoding, sizeof(call->encoding), SPAN_FMT, SPAN_ARG(value));
    } else if (span_equal(name, SPAN("connection"))) {
        call->seen |= BAD_REQUEST;
    }
}

static void on_header(void *user, int32_t stream, void *context, struct span name,
                      struct span value)
{
    struct grpc_call *call = context;

    if (!call || call->state != CALL_HEADERS)
        return; /* trailers of a request mean nothing in gRPC */
    if (name.len > 0 && name.ptr[0] == ':')
        take_pseudo(call, name, value);
    else
        take_regular(call, name, value);
}

static void on_begin(void *user, int32_t stream, void *context)
{
    struct grpc_server_conn *conn = user;

    if (context)
        return;
    struct grpc_call *call = call_new(conn, stream);
    if (call)
        h2_stream_set(conn->h2, stream, call);
    else
        h2_reset(conn->h2, stream, H2_REFUSED_STREAM);
}

static void end_unknown(struct grpc_call *call, bool known_service)
{
    struct span service, method;

    if (!grpc_path_split(span_of(call->path), &service, &method))
        end_format(call, GRPC_UNIMPLEMENTED, "malformed method name: \"%s\"", call->path);
    else if (known_service)
        end_format(call, GRPC_UNIMPLEMENTED, "unknown method " SPAN_FMT " for service " SPAN_FMT,
                   SPAN_ARG(method), SPAN_ARG(service));
    else
        end_format(call, GRPC_UNIMPLEMENTED, "unknown service " SPAN_FMT, SPAN_ARG(service));
}

static void set_deadline(struct grpc_call *call)
{
    struct loop *loop = call->conn->loop;

    if (call->timeout_ns < 0)
        return;
    if (__builtin_add_overflow(loop_now_ns(loop), (uint64_t)call->timeout_ns, &call->deadline_ns))
        call->deadline_ns = UINT64_MAX;
    timer_start_ns(&call->deadline, loop, (uint64_t)call->timeout_ns, on_deadline, call);
}

/* Looks at the complete headers; what cannot be served is answered at once. */
static void judge(struct grpc_call *call)
{
    const unsigned needed = SAW_METHOD | SAW_SCHEME | SAW_PATH;
    bool known = false;

    call->state = CALL_BODY;
    if (call->conn->draining) {
        end(call, GRPC_UNAVAILABLE, "the server is stopping");
    } else if (call->seen & BAD_REQUEST || (call->seen & needed) != needed) {
        h2_reset(call->conn->h2, call->stream, H2_PROTOCOL_ERROR);
    } else if (call->seen & BAD_METHOD) {
        end_with_http(call, GRPC_INTERNAL, "a gRPC request is a POST", "405");
    } else if (call->seen & BAD_CONTENT_TYPE || !(call->seen & SAW_CONTENT_TYPE)) {
        end_with_http(call, GRPC_INVALID_ARGUMENT,
                      "the content-type of a gRPC request is application/grpc", "415");
    } else if (call->seen & BAD_TIMEOUT) {
        end_with_http(call, GRPC_INTERNAL, "malformed grpc-timeout", "400");
    } else if (call->seen & BAD_PATH) {
        end(call, GRPC_UNIMPLEMENTED, "the method name is too long");
    } else {
        call->route = grpc_server_find(call->conn->server, span_of(call->path), &known);
        if (call->route)
            set_deadline(call);
        else
            end_unknown(call, known);
    }
}

static void on_headers_end(void *user, int32_t stream, void *context, bool end_stream)
{
    struct grpc_call *call = context;

    if (call && call->state == CALL_HEADERS)
        judge(call);
}

static void on_data(void *user, int32_t stream, void *context, struct span bytes)
{
    struct grpc_server_conn *conn = user;
    struct grpc_call *call = context;
    enum grpc_code code;
    struct err err;

    if (!call || call->state != CALL_BODY || bytes.len == 0)
        return;
    if (call->reader.complete) {
        end(call, GRPC_INTERNAL, "the request has more than one message");
        return;
    }
    size_t before = call->reader.payload.len;
    int r = grpc_reader_feed(&call->reader, &bytes, span_of(call->encoding), &code, &err);
    conn->pending_bytes += call->reader.payload.len - before;
    if (r < 0)
        end(call, code, err.text);
    else if (bytes.len > 0)
        end(call, GRPC_INTERNAL, "the request has more than one message");
    else if (conn->pending_bytes > conn->limits.max_pending)
        end(call, GRPC_RESOURCE_EXHAUSTED,
            "the unfinished requests of this connection are too large together");
}

static void on_ended(void *user, int32_t stream, void *context)
{
    struct grpc_call *call = context;

    if (!call || call->state != CALL_BODY)
        return;
    if (!call->reader.complete) {
        end(call, GRPC_INTERNAL,
            call->reader.n_prefix > 0 ? "the request ends inside its message"
                                      : "the request has no message");
        return;
    }
    finish_reading(call);
    call->state = CALL_OPEN;
    if (call->timeout_ns < 0)
        timer_stop(&call->deadline);
    call->route->method->handler(call, buf_span(&call->reader.payload), call->route->user);
}

static void on_closed(void *user, int32_t stream, void *context, uint32_t error)
{
    struct grpc_server_conn *conn = user;
    struct grpc_call *call = context;

    if (!call)
        return;
    h2_stream_set(conn->h2, stream, NULL);
    conn->busy++;
    vanish(call);
    call_free(call);
    leave(conn);
}

/* ---- the answer ---- */

static enum h2_more on_body(void *user, int32_t stream, void *context, char *to, size_t max,
                            size_t *ret_n)
{
    struct grpc_server_conn *conn = user;
    struct grpc_call *call = context;
    struct h2_header trailers[2];
    char code[4];

    if (!call)
        return H2_RESET;
    *ret_n = grpc_writer_take(&call->writer, to, max);
    if (!grpc_writer_empty(&call->writer))
        return H2_MORE;
    if (call->state != CALL_ENDING)
        return H2_WAIT;
    size_t n = status_headers(call, trailers, code);
    return h2_submit_trailers(conn->h2, stream, trailers, n, NULL) < 0 ? H2_RESET : H2_TRAILERS;
}

static void send_headers(struct grpc_call *call)
{
    if (call->headers_sent) {
        h2_resume(call->conn->h2, call->stream);
        return;
    }
    call->headers_sent = true;
    if (h2_submit_response(call->conn->h2, call->stream, answer_headers, ARRAY_LEN(answer_headers),
                           true, NULL) < 0)
        give_up(call);
}

void grpc_call_reply(struct grpc_call *call, struct span message)
{
    struct err err;

    if (call->state != CALL_OPEN)
        return;
    if (grpc_writer_add(&call->writer, message, false, &err) < 0) {
        end(call, GRPC_RESOURCE_EXHAUSTED, err.text);
        return;
    }
    call->state = CALL_ENDING;
    call->code = GRPC_OK;
    send_headers(call);
}

static int send(struct grpc_call *call, struct span message, bool latest, struct err *err)
{
    if (call->state != CALL_OPEN)
        return err_set(err, ECANCELED, "the call is over");
    int r = grpc_writer_add(&call->writer, message, latest, err);
    if (r < 0)
        return r;
    send_headers(call);
    return 0;
}

int grpc_call_send(struct grpc_call *call, struct span message, struct err *err)
{
    return send(call, message, false, err);
}

int grpc_call_send_latest(struct grpc_call *call, struct span message, struct err *err)
{
    return send(call, message, true, err);
}

void grpc_call_end(struct grpc_call *call, enum grpc_code code, const char *message)
{
    if (call->state == CALL_OPEN)
        end(call, code, message ? message : "");
}

void grpc_call_fail(struct grpc_call *call, const struct err *err)
{
    grpc_call_end(call, grpc_code_from_errno(err->code), err->text);
}

void grpc_call_on_cancel(struct grpc_call *call, grpc_cancel_fn *fn, void *user)
{
    call->cancel = fn;
    call->cancel_user = user;
}

void grpc_call_set_data(struct grpc_call *call, void *data)
{
    call->data = data;
}

void *grpc_call_data(const struct grpc_call *call)
{
    return call->data;
}

const struct sock_peer *grpc_call_peer(const struct grpc_call *call)
{
    return call->conn->has_peer ? &call->conn->peer : NULL;
}

const char *grpc_call_path(const struct grpc_call *call)
{
    return call->path;
}

uint64_t grpc_call_deadline_ns(const struct grpc_call *call)
{
    return call->deadline_ns;
}

/* ---- the connection ---- */

static void on_settings(void *user)
{
    struct grpc_server_conn *conn = user;

    timer_stop(&conn->preface);
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
};

int grpc_server_conn_new(struct grpc_server *server, const struct sock_peer *peer,
                         struct grpc_server_conn **ret, struct err *err)
{
    struct grpc_server_conn *conn = mem_alloc(sizeof(*conn));

    if (!conn)
        return err_no_memory(err);
    conn->server = server;
    conn->loop = grpc_server_loop(server);
    conn->limits = *grpc_server_limits(server);
    conn->has_peer = peer != NULL;
    if (peer)
        conn->peer = *peer;
    conn->quiet_ns = loop_now_ns(conn->loop);
    struct h2_limits limits = {
        .max_streams = conn->limits.max_streams,
        .max_header_bytes = conn->limits.max_header_bytes,
    };
    int r = h2_new(H2_SERVER, &limits, &events, conn, &conn->h2, err);
    if (r < 0) {
        mem_free(conn);
        return r;
    }
    *ret = conn;
    return 0;
}

/* The first call of a kind that somebody has to be told about. */
static struct grpc_call *find_open(const struct grpc_server_conn *conn, bool unary_too)
{
    for (struct grpc_call *call = conn->calls; call; call = call->next)
        if (call->state == CALL_OPEN &&
            (unary_too || call->route->method->kind == GRPC_SERVER_STREAM))
            return call;
    return NULL;
}

void grpc_server_conn_drain(struct grpc_server_conn *conn)
{
    struct grpc_call *call;

    if (conn->draining)
        return;
    conn->draining = true;
    h2_goaway(conn->h2, H2_NO_ERROR, "the server is stopping");
    conn->busy++;
    while (!conn->freed && (call = find_open(conn, false)))
        cancel_with(call, GRPC_OK, "");
    leave(conn);
}

void grpc_server_conn_cancel(struct grpc_server_conn *conn)
{
    struct grpc_call *call;

    conn->busy++;
    while (!conn->freed && (call = find_open(conn, true)))
        cancel_with(call, GRPC_UNAVAILABLE, "the server is stopping");
    leave(conn);
}

static void really_free(struct grpc_server_conn *conn)
{
    while (conn->calls)
        call_free(conn->calls);
    h2_free(conn->h2);
    mem_free(conn);
}

/* Handlers hear of the end at once, whoever may still be on the stack; memory goes later. */
void grpc_server_conn_free(struct grpc_server_conn *conn)
{
    struct grpc_call *call;

    if (!conn || conn->freed)
        return;
    conn->freed = true;
    timer_stop(&conn->preface);
    conn->busy++;
    while ((call = find_open(conn, true)))
        vanish(call);
    leave(conn);
}

int grpc_server_conn_feed(struct grpc_server_conn *conn, struct span bytes, struct err *err)
{
    return h2_feed(conn->h2, bytes, loop_now_ns(conn->loop), err);
}

struct span grpc_server_conn_output(struct grpc_server_conn *conn)
{
    return h2_output(conn->h2);
}

void grpc_server_conn_sent(struct grpc_server_conn *conn, size_t n)
{
    h2_sent(conn->h2, n);
}

bool grpc_server_conn_over(const struct grpc_server_conn *conn)
{
    return h2_over(conn->h2);
}

struct h2 *grpc_server_conn_h2(struct grpc_server_conn *conn)
{
    return conn->h2;
}
