/*
 * One HTTP/2 connection as bytes in, bytes out (nghttp2 underneath). Nothing here knows about
 * sockets or gRPC, so tests, recordings and fuzzers drive it directly.
 *
 *     bytes from the peer -> h2_feed -> callbacks      requests, data, ends
 *     h2_submit_…         -> h2_output -> bytes for the peer, h2_sent when they are written
 *
 * The HTTP rules that nghttp2 would enforce are switched off, because kubelet 1.20 sends a socket
 * path with slashes as `:authority`; the caller looks at the headers itself. What is bounded
 * here: the size of header lists, the number of CONTINUATION frames, the frames that wait to be
 * sent, and the rate of frames that cost the peer nothing (PING, SETTINGS, PRIORITY, empty DATA,
 * RST_STREAM, and whatever makes us reset a stream).
 *
 * Callbacks run inside h2_feed and h2_output. They may submit anything, and may call h2_free,
 * which ends the callbacks at once; they must not call h2_feed or h2_output.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"

struct h2;

struct h2_header {
    struct span name, value;
};

/* How the body of a stream goes on. */
enum h2_more {
    H2_MORE,     /* more can be had at once */
    H2_WAIT,     /* nothing more now: call h2_resume when there is */
    H2_TRAILERS, /* that was the last; its trailers have been submitted just now */
    H2_END,      /* that was the last, and ends the stream */
    H2_RESET,    /* give the stream up */
};

/* `stream`: the id. `context`: what h2_stream_set gave that stream, NULL before. */
struct h2_events {
    /* A header block begins: a request (server), or an answer or trailers (client). */
    void (*begin)(void *user, int32_t stream, void *context);
    void (*header)(void *user, int32_t stream, void *context, struct span name, struct span value);
    void (*headers_end)(void *user, int32_t stream, void *context, bool end_stream);
    void (*data)(void *user, int32_t stream, void *context, struct span bytes);
    /* The peer has said all it has to say on this stream (after headers_end or data). */
    void (*ended)(void *user, int32_t stream, void *context);
    /* The stream is gone; error is the HTTP/2 code, 0 when both sides ended it. */
    void (*closed)(void *user, int32_t stream, void *context, uint32_t error);
    /* Body to send: write at most max bytes to `to`, say how many, and how it goes on. */
    enum h2_more (*body)(void *user, int32_t stream, void *context, char *to, size_t max,
                         size_t *ret_n);
    void (*settings)(void *user); /* the peer's SETTINGS arrived */
    void (*goaway)(void *user, int32_t last_stream, uint32_t error, struct span text);
};

struct h2_limits {
    uint32_t max_streams;      /* concurrent ones that the peer may open; 0 means 100 */
    uint32_t max_header_bytes; /* of one list, as HTTP/2 counts (name + value + 32); 0: 16 KiB.
                                * A longer one ends the connection */
    uint32_t window_bytes;     /* per stream; 0 means 65,535, HTTP/2's own */
};

enum h2_role { H2_SERVER, H2_CLIENT };

/* The first SETTINGS (and a client's preface) are in the output at once, without waiting for the
 * peer: a Go client sends no request before it has them. `events` outlives the session. */
[[nodiscard]] int h2_new(enum h2_role role, const struct h2_limits *limits,
                         const struct h2_events *events, void *user, struct h2 **ret,
                         struct err *err);
void h2_free(struct h2 *h2); /* no callbacks */

/* -EPROTO when the peer broke the protocol or flooded us, -ENOMEM: the connection is over; write
 * what h2_output still has (a GOAWAY that says why) and close. -ECANCELED when a callback freed the
 * session, which is gone then. now_ns is the clock of the flood limits. */
[[nodiscard]] int h2_feed(struct h2 *h2, struct span bytes, uint64_t now_ns, struct err *err);

/* Bytes for the peer, as many as are ready and fit 64 KiB; empty when there are none. Valid until
 * the next call. h2_sent says how many were written. */
struct span h2_output(struct h2 *h2);
void h2_sent(struct h2 *h2, size_t n);
/* Called when something was submitted outside of h2_feed and h2_output, so that whoever carries
 * the bytes comes and asks for output; must not call h2_output itself. */
void h2_on_wake(struct h2 *h2, void (*wake)(void *user), void *user);
/* True when nothing can come any more: both sides said goodbye, all streams are done. */
bool h2_over(const struct h2 *h2);
/* The peer's first SETTINGS are here: it does speak HTTP/2. */
bool h2_greeted(const struct h2 *h2);

void h2_stream_set(struct h2 *h2, int32_t stream, void *context);
/* True when the peer has ended its side of the stream. */
bool h2_stream_ended(struct h2 *h2, int32_t stream);

/* The id of the new stream, or -ENOMEM, or -EAGAIN when ids have run out or the peer says goodbye.
 * The body is asked for through events->body. */
[[nodiscard]] int32_t h2_submit_request(struct h2 *h2, const struct h2_header *headers,
                                        size_t n_headers, void *context, struct err *err);
/* Header lists are copied; with_body false ends the stream. */
[[nodiscard]] int h2_submit_response(struct h2 *h2, int32_t stream, const struct h2_header *headers,
                                     size_t n_headers, bool with_body, struct err *err);
/* After the body; ends the stream. */
[[nodiscard]] int h2_submit_trailers(struct h2 *h2, int32_t stream, const struct h2_header *headers,
                                     size_t n_headers, struct err *err);
void h2_resume(struct h2 *h2, int32_t stream);
void h2_reset(struct h2 *h2, int32_t stream, uint32_t error);

/* No new streams from the peer; those that are open go on. */
void h2_goaway(struct h2 *h2, uint32_t error, const char *text);
/* Changes the window for all streams of the peer with a SETTINGS frame. */
void h2_set_window(struct h2 *h2, uint32_t bytes);

/* RFC 9113 §7 */
enum {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_FLOW_CONTROL_ERROR = 3,
    H2_STREAM_CLOSED = 5,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_ENHANCE_YOUR_CALM = 11,
    H2_INADEQUATE_SECURITY = 12,
};
