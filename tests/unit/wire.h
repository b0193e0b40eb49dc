/*
 * HTTP/2 frames by hand, for tests that want to know what is really on the wire: a writer of
 * frames, good and bad, and a reader that shares nothing with src/net but the HPACK tables of
 * nghttp2. Include after cmocka.h.
 */
#pragma once

#include <nghttp2/nghttp2.h>
#include <string.h>

#include "base/buf.h"

enum {
    WIRE_DATA = 0,
    WIRE_HEADERS = 1,
    WIRE_PRIORITY = 2,
    WIRE_RST_STREAM = 3,
    WIRE_SETTINGS = 4,
    WIRE_PUSH_PROMISE = 5,
    WIRE_PING = 6,
    WIRE_GOAWAY = 7,
    WIRE_WINDOW_UPDATE = 8,
    WIRE_CONTINUATION = 9,

    WIRE_ACK = 1,
    WIRE_END_STREAM = 1,
    WIRE_END_HEADERS = 4,

    WIRE_MAX_HEADERS = 32,
};

static const char wire_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* ---- writing ---- */

UNUSED static void wire_number(struct buf *out, uint32_t number, unsigned bytes)
{
    while (bytes-- > 0)
        buf_add_char(out, (char)(number >> 8 * bytes));
}

UNUSED static void wire_frame(struct buf *out, unsigned type, unsigned flags, uint32_t stream,
                              struct span payload)
{
    wire_number(out, (uint32_t)payload.len, 3);
    wire_number(out, type, 1);
    wire_number(out, flags, 1);
    wire_number(out, stream, 4);
    buf_add(out, payload.ptr ? payload.ptr : "", payload.len);
}

/* The way a client begins: preface and empty SETTINGS. */
UNUSED static void wire_hello(struct buf *out)
{
    buf_add_text(out, wire_preface);
    wire_frame(out, WIRE_SETTINGS, 0, 0, (struct span){});
}

/* A literal that leaves the dynamic table alone; name and value shorter than 127 bytes. */
UNUSED static void wire_literal(struct buf *block, const char *name, const char *value)
{
    wire_number(block, 0, 1);
    wire_number(block, (uint32_t)strlen(name), 1);
    buf_add_text(block, name);
    wire_number(block, (uint32_t)strlen(value), 1);
    buf_add_text(block, value);
}

/* Pairs of name and value, ending with a NULL. */
UNUSED static void wire_headers(struct buf *out, uint32_t stream, unsigned flags,
                                const char *const *pairs)
{
    auto_(buf_done) struct buf block = BUF_MAX(KIB(64));

    for (; *pairs; pairs += 2)
        wire_literal(&block, pairs[0], pairs[1]);
    wire_frame(out, WIRE_HEADERS, flags, stream, buf_span(&block));
}

/* A request for a path, with one message. */
UNUSED static void wire_request(struct buf *out, uint32_t stream, const char *path,
                                struct span message)
{
    const char *const pairs[] = {
        ":method",   "POST",         ":scheme",          "http", ":path",    path, ":authority",
        "localhost", "content-type", "application/grpc", "te",   "trailers", NULL
    };
    auto_(buf_done) struct buf body = BUF_MAX(MIB(1));

    wire_headers(out, stream, WIRE_END_HEADERS, pairs);
    wire_number(&body, 0, 1);
    wire_number(&body, (uint32_t)message.len, 4);
    buf_add(&body, message.ptr, message.len);
    wire_frame(out, WIRE_DATA, WIRE_END_STREAM, stream, buf_span(&body));
}

/* ---- reading ---- */

struct wire_header {
    struct span name, value; /* in the reader's memory, until its next frame */
};

struct wire_seen {
    unsigned type, flags;
    uint32_t stream;
    struct span payload;
    struct wire_header headers[WIRE_MAX_HEADERS];
    size_t n_headers;
};

struct wire_reader {
    nghttp2_hd_inflater *inflater;
    struct buf text; /* decoded headers */
};

UNUSED static void wire_reader_init(struct wire_reader *reader)
{
    reader->text = BUF_MAX(MIB(1));
    assert_int_equal(nghttp2_hd_inflate_new(&reader->inflater), 0);
}

UNUSED static void wire_reader_done(struct wire_reader *reader)
{
    nghttp2_hd_inflate_del(reader->inflater);
    buf_done(&reader->text);
}

static uint32_t wire_get(const char *bytes, unsigned n)
{
    uint32_t number = 0;

    while (n-- > 0)
        number = number << 8 | (uint8_t)*bytes++;
    return number;
}

static void wire_inflate(struct wire_reader *reader, struct wire_seen *seen)
{
    size_t at[WIRE_MAX_HEADERS][2], lens[WIRE_MAX_HEADERS][2];
    const uint8_t *in = (const uint8_t *)seen->payload.ptr;
    size_t left = seen->payload.len;
    int flags = 0;

    buf_reset(&reader->text);
    while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
        nghttp2_nv nv;
        ssize_t n = nghttp2_hd_inflate_hd2(reader->inflater, &nv, &flags, in, left, 1);
        assert_true(n >= 0);
        in += n;
        left -= (size_t)n;
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT))
            continue;
        assert_true(seen->n_headers < WIRE_MAX_HEADERS);
        at[seen->n_headers][0] = reader->text.len;
        lens[seen->n_headers][0] = nv.namelen;
        buf_add(&reader->text, nv.name, nv.namelen);
        at[seen->n_headers][1] = reader->text.len;
        lens[seen->n_headers][1] = nv.valuelen;
        buf_add(&reader->text, nv.value, nv.valuelen);
        seen->n_headers++;
    }
    nghttp2_hd_inflate_end_headers(reader->inflater);
    for (size_t i = 0; i < seen->n_headers; i++)
        seen->headers[i] = (struct wire_header){
            { reader->text.ptr + at[i][0], lens[i][0] },
            { reader->text.ptr + at[i][1], lens[i][1] },
        };
}

/* Takes one frame (or the preface, silently) off the front; false when there is none. */
UNUSED static bool wire_read(struct wire_reader *reader, struct span *bytes, struct wire_seen *ret)
{
    size_t preface = sizeof(wire_preface) - 1;

    if (bytes->len >= preface && memcmp(bytes->ptr, wire_preface, preface) == 0)
        *bytes = (struct span){ bytes->ptr + preface, bytes->len - preface };
    if (bytes->len < 9)
        return false;
    size_t len = wire_get(bytes->ptr, 3);
    if (bytes->len < 9 + len)
        return false;
    *ret = (struct wire_seen){
        .type = (uint8_t)bytes->ptr[3],
        .flags = (uint8_t)bytes->ptr[4],
        .stream = wire_get(bytes->ptr + 5, 4),
        .payload = { bytes->ptr + 9, len },
    };
    *bytes = (struct span){ bytes->ptr + 9 + len, bytes->len - 9 - len };
    if (ret->type == WIRE_HEADERS) {
        assert_true(ret->flags & WIRE_END_HEADERS);
        wire_inflate(reader, ret);
    }
    return true;
}

static void wire_tell_one(const struct wire_seen *seen, struct buf *out)
{
    const char *p = seen->payload.ptr;
    const char *end = seen->flags & WIRE_END_STREAM ? " end" : "";
    const char *ack = seen->flags & WIRE_ACK ? " ack" : "";

    switch (seen->type) {
    case WIRE_DATA:
        buf_printf(out, "DATA %u%s len=%zu", seen->stream, end, seen->payload.len);
        break;
    case WIRE_HEADERS:
        buf_printf(out, "HEADERS %u%s", seen->stream, end);
        for (size_t i = 0; i < seen->n_headers; i++)
            buf_printf(out, " " SPAN_FMT "=" SPAN_FMT, SPAN_ARG(seen->headers[i].name),
                       SPAN_ARG(seen->headers[i].value));
        break;
    case WIRE_RST_STREAM:
        buf_printf(out, "RST_STREAM %u error=%u", seen->stream, wire_get(p, 4));
        break;
    case WIRE_SETTINGS:
        buf_printf(out, "SETTINGS%s", ack);
        for (size_t i = 0; i + 6 <= seen->payload.len; i += 6)
            buf_printf(out, " %u=%u", wire_get(p + i, 2), wire_get(p + i + 2, 4));
        break;
    case WIRE_PING:
        buf_printf(out, "PING%s " SPAN_FMT, ack, SPAN_ARG(seen->payload));
        break;
    case WIRE_GOAWAY:
        buf_printf(out, "GOAWAY last=%u error=%u", wire_get(p, 4), wire_get(p + 4, 4));
        break;
    case WIRE_WINDOW_UPDATE:
        buf_printf(out, "WINDOW_UPDATE %u", seen->stream);
        break;
    default:
        buf_printf(out, "type %u", seen->type);
        break;
    }
    buf_add_char(out, '\n');
}

/* Every frame as one line of text. */
UNUSED static void wire_tell(struct wire_reader *reader, struct span bytes, struct buf *out)
{
    struct wire_seen seen;

    while (wire_read(reader, &bytes, &seen))
        wire_tell_one(&seen, out);
    if (bytes.len > 0)
        buf_printf(out, "and %zu bytes\n", bytes.len);
}
