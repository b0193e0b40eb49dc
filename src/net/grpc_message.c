/* Messages in a byte stream: the second half of net/grpc.h. */
#include "net/grpc.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

/* ---- coming in ---- */

void grpc_reader_init(struct grpc_reader *reader, size_t max_message)
{
    *reader = (struct grpc_reader){ .payload = BUF_MAX(max_message) };
}

void grpc_reader_done(struct grpc_reader *reader)
{
    buf_done(&reader->payload);
}

static int check_prefix(struct grpc_reader *reader, struct span encoding, enum grpc_code *ret_code,
                        struct err *err)
{
    bool named = encoding.len > 0 && !span_equal(encoding, SPAN("identity"));

    if (reader->prefix[0] == 1 && named) {
        *ret_code = GRPC_UNIMPLEMENTED;
        return err_set(err, EPROTO,
                       "grpc: Decompressor is not installed for grpc-encoding \"" SPAN_FMT "\"",
                       SPAN_ARG(encoding));
    }
    if (reader->prefix[0] == 1) {
        *ret_code = GRPC_INTERNAL;
        return err_set(err, EPROTO, "grpc: compressed flag set with identity or empty encoding");
    }
    if (reader->prefix[0] != 0) {
        *ret_code = GRPC_INTERNAL;
        return err_set(err, EPROTO, "grpc: received unexpected payload format %u",
                       reader->prefix[0]);
    }
    if (reader->wanted > reader->payload.max) {
        *ret_code = GRPC_RESOURCE_EXHAUSTED;
        return err_set(err, EMSGSIZE, "grpc: received message larger than max (%u vs. %zu)",
                       reader->wanted, reader->payload.max);
    }
    return 0;
}

static void take(struct span *bytes, size_t n)
{
    bytes->ptr += n;
    bytes->len -= n;
}

static int feed_prefix(struct grpc_reader *reader, struct span *bytes, struct span encoding,
                       enum grpc_code *ret_code, struct err *err)
{
    size_t n = MIN(bytes->len, (size_t)(GRPC_PREFIX_BYTES - reader->n_prefix));
    const uint8_t *p = reader->prefix;

    memcpy(reader->prefix + reader->n_prefix, bytes->ptr, n);
    reader->n_prefix += (uint8_t)n;
    take(bytes, n);
    if (reader->n_prefix < GRPC_PREFIX_BYTES)
        return 0;
    reader->wanted = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
    return check_prefix(reader, encoding, ret_code, err);
}

int grpc_reader_feed(struct grpc_reader *reader, struct span *bytes, struct span encoding,
                     enum grpc_code *ret_code, struct err *err)
{
    if (bytes->len == 0)
        return 0;
    if (reader->complete) {
        buf_reset(&reader->payload);
        reader->n_prefix = 0;
        reader->complete = false;
    }
    if (reader->n_prefix < GRPC_PREFIX_BYTES) {
        int r = feed_prefix(reader, bytes, encoding, ret_code, err);
        if (r < 0 || reader->n_prefix < GRPC_PREFIX_BYTES)
            return r;
    }
    size_t n = MIN(bytes->len, reader->wanted - reader->payload.len);
    if (n > 0 && buf_add(&reader->payload, bytes->ptr, n) < 0) {
        *ret_code = GRPC_RESOURCE_EXHAUSTED;
        return err_set(err, ENOMEM, "grpc: out of memory for a message of %u bytes",
                       reader->wanted);
    }
    take(bytes, n);
    reader->complete = reader->payload.len == reader->wanted;
    return reader->complete;
}

bool grpc_reader_between(const struct grpc_reader *reader)
{
    return reader->complete || reader->n_prefix == 0;
}

/* ---- going out ---- */

struct grpc_out_message {
    struct grpc_out_message *next;
    size_t len;       /* prefix included */
    bool replaceable; /* by the next of its kind */
    char bytes[];
};

void grpc_writer_done(struct grpc_writer *writer)
{
    while (writer->first) {
        struct grpc_out_message *message = writer->first;
        writer->first = message->next;
        mem_free(message);
    }
    *writer = (struct grpc_writer){};
}

/* The newest message, if a replacement may take its place. */
static struct grpc_out_message *replaceable(const struct grpc_writer *writer)
{
    struct grpc_out_message *last = writer->last;

    if (!last || !last->replaceable || (last == writer->first && writer->sent > 0))
        return NULL;
    return last;
}

static void unlink_last(struct grpc_writer *writer)
{
    struct grpc_out_message **at = &writer->first, *before = NULL, *last = writer->last;

    while (*at != last) {
        before = *at;
        at = &before->next;
    }
    *at = NULL;
    writer->last = before;
    writer->n_messages--;
    writer->n_bytes -= last->len;
    mem_free(last);
}

static struct grpc_out_message *new_message(struct span payload, bool replace)
{
    struct grpc_out_message *message =
        mem_alloc(sizeof(*message) + GRPC_PREFIX_BYTES + payload.len);

    if (!message)
        return NULL;
    message->len = GRPC_PREFIX_BYTES + payload.len;
    message->replaceable = replace;
    message->bytes[1] = (char)(payload.len >> 24);
    message->bytes[2] = (char)(payload.len >> 16);
    message->bytes[3] = (char)(payload.len >> 8);
    message->bytes[4] = (char)payload.len;
    if (payload.len > 0)
        memcpy(message->bytes + GRPC_PREFIX_BYTES, payload.ptr, payload.len);
    return message;
}

int grpc_writer_add(struct grpc_writer *writer, struct span payload, bool replace, struct err *err)
{
    struct grpc_out_message *old = replace ? replaceable(writer) : NULL;
    size_t n_bytes = writer->n_bytes - (old ? old->len : 0);

    if (payload.len > GRPC_MAX_QUEUE_BYTES - GRPC_PREFIX_BYTES)
        return err_set(err, EMSGSIZE, "a message of %zu bytes is too large to send", payload.len);
    if (writer->n_messages - (old != NULL) >= GRPC_MAX_QUEUE ||
        n_bytes + GRPC_PREFIX_BYTES + payload.len > GRPC_MAX_QUEUE_BYTES)
        return err_set(err, EAGAIN, "the reader is too slow: %zu messages (%zu bytes) wait for it",
                       writer->n_messages, writer->n_bytes);
    struct grpc_out_message *message = new_message(payload, replace);
    if (!message)
        return err_no_memory(err);

    if (old)
        unlink_last(writer);
    *(writer->last ? &writer->last->next : &writer->first) = message;
    writer->last = message;
    writer->n_messages++;
    writer->n_bytes += message->len;
    return 0;
}

static void drop_first(struct grpc_writer *writer)
{
    struct grpc_out_message *first = writer->first;

    writer->first = first->next;
    if (!writer->first)
        writer->last = NULL;
    writer->n_messages--;
    writer->n_bytes -= first->len;
    writer->sent = 0;
    mem_free(first);
}

size_t grpc_writer_take(struct grpc_writer *writer, char *to, size_t max)
{
    size_t taken = 0;

    while (writer->first && taken < max) {
        struct grpc_out_message *first = writer->first;
        size_t n = MIN(max - taken, first->len - writer->sent);
        memcpy(to + taken, first->bytes + writer->sent, n);
        taken += n;
        writer->sent += n;
        if (writer->sent == first->len)
            drop_first(writer);
    }
    return taken;
}
