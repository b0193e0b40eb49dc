#include "net/h2.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/h2_walk.h"

enum {
    DEFAULT_MAX_STREAMS = 100,
    DEFAULT_HEADER_BYTES = 16 << 10,
    HTTP2_WINDOW = 65535,
    OUTPUT_ENOUGH = 64 << 10,  /* bytes that are prepared at a time */
    OUTPUT_MAX = 512 << 10,    /* with the last frame on top */
    OUTPUT_KEEP = 8 << 10,     /* memory that an idle connection holds on to */
    MAX_CONTINUATIONS = 8,     /* of one header block */
    MAX_WAITING_FRAMES = 2000, /* a peer that asks and does not read */
    HEADER_OVERHEAD = 32,      /* RFC 9113 §6.5.2 */
};

/*
 * Patience: what the peer can have of frames that cost it nothing. A connection begins with all of
 * it, uses it up frame by frame and gets it back with time. A DATA frame of ours brings one back
 * too, because Go answers each with a PING (spec/kubelet-wire §4).
 */
enum {
    PATIENCE = 2000,
    PATIENCE_PER_SECOND = 2000,
    COST_CHEAP = 1,     /* PING, PRIORITY, empty DATA */
    COST_SETTINGS = 10, /* makes us look at every stream, and answer */
    COST_RESET = 10,    /* throws away work that was begun (CVE-2023-44487) */
};

struct h2 {
    nghttp2_session *session; /* owned */
    enum h2_role role;
    const struct h2_events *events;
    void *user;
    void (*wake)(void *user);
    void *wake_user;
    struct buf out;
    size_t out_sent; /* bytes of `out` that are written */
    uint32_t max_header_bytes, header_bytes;
    unsigned continuations;
    int patience;
    uint64_t patience_ns; /* when it was last topped up */
    struct h2_walk walk;  /* a server's */
    unsigned busy;        /* h2_feed or h2_output is on the stack */
    bool freed, greeted, broken;
    uint32_t goodbye; /* while broken: the HTTP/2 error for the peer, */
    struct err why;   /* and the sentence for us */
};

/* ---- what the library asks for ---- */

static void *lib_malloc(size_t size, void *user)
{
    return mem_alloc(size);
}

static void *lib_calloc(size_t n, size_t size, void *user)
{
    size_t bytes;

    return __builtin_mul_overflow(n, size, &bytes) ? NULL : mem_alloc(bytes);
}

static void *lib_realloc(void *old, size_t size, void *user)
{
    return mem_resize(old, size);
}

static void lib_free(void *pointer, void *user)
{
    mem_free(pointer);
}

/* The connection is over; `error` is what the peer is told. */
static void break_off(struct h2 *h2, int code, uint32_t error, const char *why)
{
    if (h2->broken)
        return;
    h2->broken = true;
    h2->goodbye = error;
    err_set(&h2->why, code, "%s", why);
}

static void break_off_flood(struct h2 *h2, const char *why)
{
    break_off(h2, EPROTO, H2_ENHANCE_YOUR_CALM, why);
}

static void break_off_lib(struct h2 *h2, int r)
{
    if (r == NGHTTP2_ERR_NOMEM)
        break_off(h2, ENOMEM, H2_INTERNAL_ERROR, "out of memory");
    else if (r == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
        break_off(h2, EPROTO, H2_PROTOCOL_ERROR, "the peer does not speak HTTP/2");
    else
        break_off(h2, EPROTO, H2_PROTOCOL_ERROR, nghttp2_strerror(r));
}

static bool spend(struct h2 *h2, int cost)
{
    h2->patience -= cost;
    if (h2->patience >= 0)
        return true;
    break_off_flood(h2, "the peer sends too many frames that ask for work and carry nothing");
    return false;
}

static void top_up(struct h2 *h2, uint64_t now_ns)
{
    uint64_t passed_ms = (now_ns - h2->patience_ns) / 1000000;

    if (now_ns < h2->patience_ns || passed_ms == 0)
        return;
    int more = (int)MIN(passed_ms * PATIENCE_PER_SECOND / 1000, (uint64_t)PATIENCE);
    h2->patience = MIN(h2->patience + more, PATIENCE);
    h2->patience_ns = now_ns;
}

static int price(const nghttp2_frame_hd *frame)
{
    switch (frame->type) {
    case NGHTTP2_DATA:
        return frame->length == 0 && !(frame->flags & NGHTTP2_FLAG_END_STREAM) ? COST_CHEAP : 0;
    case NGHTTP2_PING:
    case NGHTTP2_SETTINGS:
        if (frame->flags & NGHTTP2_FLAG_ACK)
            return COST_CHEAP;
        return frame->type == NGHTTP2_PING ? COST_CHEAP : COST_SETTINGS;
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_GOAWAY:
        return COST_RESET;
    case NGHTTP2_HEADERS:
    case NGHTTP2_WINDOW_UPDATE:
    case NGHTTP2_CONTINUATION:
        return 0; /* bounded by streams, by arithmetic, and below */
    default:
        return COST_CHEAP;
    }
}

/* ---- bytes in ---- */

/* What a callback returns to the library: go on, or drop everything. */
static int verdict(const struct h2 *h2)
{
    return h2->freed || h2->broken ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void *context_of(const struct h2 *h2, int32_t stream)
{
    return nghttp2_session_get_stream_user_data(h2->session, stream);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *frame, void *user)
{
    struct h2 *h2 = user;

    h2->continuations = frame->type == NGHTTP2_CONTINUATION ? h2->continuations + 1 : 0;
    if (h2->continuations > MAX_CONTINUATIONS)
        break_off_flood(h2, "the peer's headers do not come to an end");
    else
        spend(h2, price(frame));
    return verdict(h2);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;
    int32_t stream = frame->hd.stream_id;

    h2->header_bytes = 0;
    h2->events->begin(h2->user, stream, context_of(h2, stream));
    return verdict(h2);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct h2 *h2 = user;
    int32_t stream = frame->hd.stream_id;

    if (__builtin_add_overflow(h2->header_bytes, name_len + value_len + HEADER_OVERHEAD,
                               &h2->header_bytes) ||
        h2->header_bytes > h2->max_header_bytes) {
        break_off_flood(h2, "the peer's headers are too large");
        return verdict(h2);
    }
    h2->events->header(h2->user, stream, context_of(h2, stream),
                       (struct span){ (const char *)name, name_len },
                       (struct span){ (const char *)value, value_len });
    return verdict(h2);
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t len, void *user)
{
    struct h2 *h2 = user;

    h2->events->data(h2->user, stream, context_of(h2, stream),
                     (struct span){ (const char *)bytes, len });
    return verdict(h2);
}

static void stream_frame_received(struct h2 *h2, const nghttp2_frame_hd *frame)
{
    bool end = frame->flags & NGHTTP2_FLAG_END_STREAM;
    int32_t stream = frame->stream_id;

    if (frame->type == NGHTTP2_HEADERS)
        h2->events->headers_end(h2->user, stream, context_of(h2, stream), end);
    if (end && !h2->freed)
        h2->events->ended(h2->user, stream, context_of(h2, stream));
}

static void tell_goaway(struct h2 *h2, const nghttp2_goaway *frame)
{
    struct span text = { (const char *)frame->opaque_data, frame->opaque_data_len };

    if (h2->events->goaway)
        h2->events->goaway(h2->user, frame->last_stream_id, frame->error_code, text);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        stream_frame_received(h2, &frame->hd);
        break;
    case NGHTTP2_SETTINGS:
        h2->greeted = true;
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && h2->events->settings)
            h2->events->settings(h2->user);
        break;
    case NGHTTP2_GOAWAY:
        tell_goaway(h2, &frame->goaway);
        break;
    default:
        break;
    }
    return verdict(h2);
}

static int on_closed(nghttp2_session *session, int32_t stream, uint32_t error, void *user)
{
    struct h2 *h2 = user;

    /* Never a failure: versions before 1.55.1 then leak the frame that could not be sent
     * (CVE-2023-35945). */
    if (!h2->freed)
        h2->events->closed(h2->user, stream, context_of(h2, stream), error);
    return 0;
}

/* ---- bytes out ---- */

static ssize_t on_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t max,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2 *h2 = user;
    size_t n = 0;

    if (h2->freed)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    enum h2_more more =
        h2->events->body(h2->user, stream, context_of(h2, stream), (char *)to, max, &n);
    switch (more) {
    case H2_MORE:
        break;
    case H2_WAIT:
        return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
    case H2_TRAILERS:
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        break;
    case H2_END:
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        break;
    case H2_RESET:
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;
    const nghttp2_frame_hd *hd = &frame->hd;
    bool end = (hd->type == NGHTTP2_HEADERS || hd->type == NGHTTP2_DATA) &&
               hd->flags & NGHTTP2_FLAG_END_STREAM;

    if (hd->type == NGHTTP2_DATA)
        h2->patience = MIN(h2->patience + COST_CHEAP, PATIENCE);
    /* A server that has answered does not want the rest of the question (RFC 9113 §8.1). */
    if (end && h2->role == H2_SERVER && !h2_stream_ended(h2, hd->stream_id))
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, hd->stream_id, H2_NO_ERROR);
    if (hd->type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != H2_NO_ERROR &&
        frame->rst_stream.error_code != H2_CANCEL)
        spend(h2, COST_RESET);
    if (hd->type == NGHTTP2_GOAWAY && frame->goaway.error_code != H2_NO_ERROR && !h2->broken) {
        h2->broken = true;
        err_set(&h2->why, EPROTO, "the peer broke the HTTP/2 protocol: %s (%.*s)",
                nghttp2_http2_strerror(frame->goaway.error_code),
                (int)MIN(frame->goaway.opaque_data_len, (size_t)200),
                frame->goaway.opaque_data_len ? (const char *)frame->goaway.opaque_data : "");
    }
    return 0;
}

/* Prepares frames until there is enough for one write. */
static void fill(struct h2 *h2)
{
    const uint8_t *frame;
    ssize_t n = 1;

    while (n > 0 && !h2->freed && h2->out.len - h2->out_sent < OUTPUT_ENOUGH) {
        n = nghttp2_session_mem_send(h2->session, &frame);
        if (n < 0)
            break_off_lib(h2, (int)n);
        if (n > 0 && buf_add(&h2->out, frame, (size_t)n) < 0)
            break_off_lib(h2, NGHTTP2_ERR_NOMEM);
    }
}

static void enter(struct h2 *h2)
{
    h2->busy++;
}

static void really_free(struct h2 *h2);

/* False when a callback freed the session. */
static bool leave(struct h2 *h2)
{
    if (--h2->busy > 0 || !h2->freed)
        return true;
    really_free(h2);
    return false;
}

struct span h2_output(struct h2 *h2)
{
    if (h2->out_sent > 0) {
        buf_consume(&h2->out, h2->out_sent);
        h2->out_sent = 0;
    }
    enter(h2);
    fill(h2);
    if (!leave(h2))
        return (struct span){ .ptr = "" };
    return buf_span(&h2->out);
}

void h2_sent(struct h2 *h2, size_t n)
{
    h2->out_sent += n;
    if (h2->out_sent < h2->out.len)
        return;
    h2->out_sent = 0;
    if (h2->out.cap > OUTPUT_KEEP)
        buf_done(&h2->out);
    else
        buf_reset(&h2->out);
}

/* Gives the bytes to the library: 0 or its error. */
static int receive(struct h2 *h2, struct span bytes)
{
    ssize_t r = 0;

    if (h2->role == H2_CLIENT) {
        r = nghttp2_session_mem_recv(h2->session, (const uint8_t *)bytes.ptr, bytes.len);
    } else {
        struct span piece;
        while (r >= 0 && h2_walk_next(&h2->walk, &bytes, &piece))
            r = nghttp2_session_mem_recv(h2->session, (const uint8_t *)piece.ptr, piece.len);
    }
    return r < 0 ? (int)r : 0;
}

int h2_feed(struct h2 *h2, struct span bytes, uint64_t now_ns, struct err *err)
{
    if (h2->broken)
        return err_set(err, h2->why.code, "%s", h2->why.text);
    top_up(h2, now_ns);
    enter(h2);
    int r = receive(h2, bytes);
    if (!h2->freed && r < 0)
        break_off_lib(h2, r);
    if (!h2->freed && nghttp2_session_get_outbound_queue_size(h2->session) > MAX_WAITING_FRAMES)
        break_off_flood(h2, "the peer asks and does not read the answers");
    if (!h2->freed && h2->broken)
        nghttp2_session_terminate_session(h2->session, h2->goodbye);
    fill(h2); /* also tells whether the library said GOAWAY because of an error */
    if (!leave(h2))
        return -ECANCELED;
    return h2->broken ? err_set(err, h2->why.code, "%s", h2->why.text) : 0;
}

bool h2_over(const struct h2 *h2)
{
    if (h2->out_sent < h2->out.len)
        return false;
    return h2->broken ||
           (!nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session));
}

bool h2_greeted(const struct h2 *h2)
{
    return h2->greeted;
}

/* ---- submitting ---- */

void h2_on_wake(struct h2 *h2, void (*wake)(void *user), void *user)
{
    h2->wake = wake;
    h2->wake_user = user;
}

static void wake(struct h2 *h2)
{
    if (h2->busy == 0 && h2->wake)
        h2->wake(h2->wake_user);
}

void h2_stream_set(struct h2 *h2, int32_t stream, void *context)
{
    nghttp2_session_set_stream_user_data(h2->session, stream, context);
}

bool h2_stream_ended(struct h2 *h2, int32_t stream)
{
    return nghttp2_session_get_stream_remote_close(h2->session, stream) != 0;
}

enum { MAX_HEADERS = 16 };

static size_t translate(const struct h2_header *headers, size_t n, nghttp2_nv out[MAX_HEADERS])
{
    n = MIN(n, (size_t)MAX_HEADERS);
    for (size_t i = 0; i < n; i++)
        out[i] = (nghttp2_nv){
            .name = (uint8_t *)headers[i].name.ptr,
            .namelen = headers[i].name.len,
            .value = (uint8_t *)headers[i].value.ptr,
            .valuelen = headers[i].value.len,
        };
    return n;
}

static int submitted(struct h2 *h2, int r, struct err *err)
{
    wake(h2);
    if (r >= 0)
        return r;
    if (r == NGHTTP2_ERR_NOMEM)
        return err_no_memory(err);
    return err_set(err, EAGAIN, "the HTTP/2 connection takes no more: %s", nghttp2_strerror(r));
}

int32_t h2_submit_request(struct h2 *h2, const struct h2_header *headers, size_t n_headers,
                          void *context, struct err *err)
{
    nghttp2_nv list[MAX_HEADERS];
    nghttp2_data_provider body = { .read_callback = on_body };
    size_t n = translate(headers, n_headers, list);

    return submitted(h2, nghttp2_submit_request(h2->session, NULL, list, n, &body, context), err);
}

int h2_submit_response(struct h2 *h2, int32_t stream, const struct h2_header *headers,
                       size_t n_headers, bool with_body, struct err *err)
{
    nghttp2_nv list[MAX_HEADERS];
    nghttp2_data_provider body = { .read_callback = on_body };
    size_t n = translate(headers, n_headers, list);

    return submitted(
        h2, nghttp2_submit_response(h2->session, stream, list, n, with_body ? &body : NULL), err);
}

int h2_submit_trailers(struct h2 *h2, int32_t stream, const struct h2_header *headers,
                       size_t n_headers, struct err *err)
{
    nghttp2_nv list[MAX_HEADERS];
    size_t n = translate(headers, n_headers, list);

    return submitted(h2, nghttp2_submit_trailer(h2->session, stream, list, n), err);
}

void h2_resume(struct h2 *h2, int32_t stream)
{
    nghttp2_session_resume_data(h2->session, stream);
    wake(h2);
}

void h2_reset(struct h2 *h2, int32_t stream, uint32_t error)
{
    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream, error);
    wake(h2);
}

void h2_goaway(struct h2 *h2, uint32_t error, const char *text)
{
    nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(h2->session), error,
                          (const uint8_t *)text, strlen(text));
    wake(h2);
}

void h2_set_window(struct h2 *h2, uint32_t bytes)
{
    nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, bytes };

    nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, &entry, 1);
    wake(h2);
}

/* ---- life ---- */

static int make_callbacks(nghttp2_session_callbacks **ret)
{
    int r = nghttp2_session_callbacks_new(ret);

    if (r != 0)
        return r;
    nghttp2_session_callbacks_set_on_begin_frame_callback(*ret, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(*ret, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*ret, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*ret, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*ret, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*ret, on_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*ret, on_closed);
    return 0;
}

static int make_session(struct h2 *h2, const nghttp2_session_callbacks *callbacks,
                        const nghttp2_option *option)
{
    nghttp2_mem mem = {
        .malloc = lib_malloc,
        .free = lib_free,
        .calloc = lib_calloc,
        .realloc = lib_realloc,
    };

    return h2->role == H2_SERVER
               ? nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &mem)
               : nghttp2_session_client_new3(&h2->session, callbacks, h2, option, &mem);
}

static int open_session(struct h2 *h2)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int r = make_callbacks(&callbacks);

    if (r == 0)
        r = nghttp2_option_new(&option);
    if (r == 0) {
        nghttp2_option_set_no_http_messaging(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1); /* memory, not priorities */
        r = make_session(h2, callbacks, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return r;
}

static int greet(struct h2 *h2, const struct h2_limits *limits)
{
    uint32_t max_streams = limits->max_streams ? limits->max_streams : DEFAULT_MAX_STREAMS;
    uint32_t window = limits->window_bytes ? limits->window_bytes : HTTP2_WINDOW;
    bool server = h2->role == H2_SERVER;
    nghttp2_settings_entry entries[3];
    size_t n = 0;

    entries[n++] =
        server ? (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams }
               : (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 };
    entries[n++] =
        (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->max_header_bytes };
    if (window != HTTP2_WINDOW)
        entries[n++] = (nghttp2_settings_entry){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window };
    return nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries, n);
}

int h2_new(enum h2_role role, const struct h2_limits *limits, const struct h2_events *events,
           void *user, struct h2 **ret, struct err *err)
{
    const struct h2_limits none = {};
    struct h2 *h2 = mem_alloc(sizeof(*h2));

    if (!h2)
        return err_no_memory(err);
    limits = limits ? limits : &none;
    h2->role = role;
    h2->events = events;
    h2->user = user;
    h2->out = BUF_MAX(OUTPUT_MAX);
    h2->patience = PATIENCE;
    h2->max_header_bytes =
        limits->max_header_bytes ? limits->max_header_bytes : DEFAULT_HEADER_BYTES;
    int r = open_session(h2);
    if (r == 0)
        r = greet(h2, limits);
    if (r != 0) {
        h2_free(h2);
        return err_no_memory(err);
    }
    *ret = h2;
    return 0;
}

static void really_free(struct h2 *h2)
{
    nghttp2_session_del(h2->session);
    buf_done(&h2->out);
    mem_free(h2);
}

void h2_free(struct h2 *h2)
{
    if (!h2)
        return;
    h2->freed = true;
    if (h2->busy == 0)
        really_free(h2);
}
