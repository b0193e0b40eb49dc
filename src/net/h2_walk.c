#include "net/h2_walk.h"

#include <string.h>

enum { PREFACE_BYTES = 24, HEAD_BYTES = 9, GOAWAY = 7, LAST_STREAM_BYTES = 4 };

/* How many of the next bytes are the number to be replaced. */
static size_t in_last_stream(const struct h2_walk *walk)
{
    if (walk->n_head < HEAD_BYTES || walk->head[3] != GOAWAY)
        return 0;
    uint32_t end = MIN(walk->payload_len, (uint32_t)LAST_STREAM_BYTES);
    return walk->payload_at < end ? end - walk->payload_at : 0;
}

static size_t pass_payload(struct h2_walk *walk, size_t n)
{
    n = MIN(n, walk->payload_len - walk->payload_at);
    walk->payload_at += (uint32_t)n;
    if (walk->payload_at == walk->payload_len)
        walk->n_head = 0;
    return n;
}

static void end_head(struct h2_walk *walk)
{
    walk->payload_at = 0;
    walk->payload_len =
        (uint32_t)walk->head[0] << 16 | (uint32_t)walk->head[1] << 8 | walk->head[2];
    if (walk->payload_len == 0)
        walk->n_head = 0;
}

/* Steps over what belongs together at the front of the bytes: how many there were. */
static size_t step(struct h2_walk *walk, struct span bytes)
{
    size_t n;

    if (walk->n_preface < PREFACE_BYTES) {
        n = MIN(bytes.len, (size_t)PREFACE_BYTES - walk->n_preface);
        walk->n_preface += (unsigned)n;
        return n;
    }
    if (walk->n_head == HEAD_BYTES)
        return pass_payload(walk, bytes.len);
    n = MIN(bytes.len, (size_t)HEAD_BYTES - walk->n_head);
    memcpy(walk->head + walk->n_head, bytes.ptr, n);
    walk->n_head += (unsigned)n;
    if (walk->n_head == HEAD_BYTES)
        end_head(walk);
    return n;
}

bool h2_walk_next(struct h2_walk *walk, struct span *bytes, struct span *ret_piece)
{
    static const char zeroes[LAST_STREAM_BYTES];
    size_t n = 0;

    if (bytes->len == 0)
        return false;
    size_t wrong = MIN(in_last_stream(walk), bytes->len);
    if (wrong > 0) {
        n = pass_payload(walk, wrong);
        *ret_piece = (struct span){ zeroes, n };
    } else {
        while (n < bytes->len && in_last_stream(walk) == 0)
            n += step(walk, (struct span){ bytes->ptr + n, bytes->len - n });
        *ret_piece = (struct span){ bytes->ptr, n };
    }
    *bytes = (struct span){ bytes->ptr + n, bytes->len - n };
    return true;
}
