/*
 * Growable bytes with a ceiling given at birth.
 *
 *     auto_(buf_done) struct buf text = BUF_MAX(MIB(4));
 *
 * Appending past the ceiling, or without memory, fails with -EFBIG or -ENOMEM, leaves the content
 * as it was and makes the buffer `failed`; later appends fail too. A writer may therefore append
 * freely and look once at the end. The content is always followed by a NUL that is not counted.
 */
#pragma once

#include <stdarg.h>

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"

struct buf {
    char *ptr; /* owned */
    size_t len, cap, max;
    bool failed;
};

#define BUF_MAX(bytes)                                                                             \
    (struct buf)                                                                                   \
    {                                                                                              \
        .max = (bytes)                                                                             \
    }

void buf_done(struct buf *buf);
void buf_reset(struct buf *buf); /* empties, keeps the memory, forgives a failure */

int buf_add(struct buf *buf, const void *bytes, size_t len);
int buf_add_text(struct buf *buf, const char *text);
int buf_add_char(struct buf *buf, char c);
PRINTF(2, 3) int buf_printf(struct buf *buf, const char *format, ...);

/* Reads until end of file: 0, or a read's errno, or -EFBIG past the ceiling. */
[[nodiscard]] int buf_read_all(struct buf *buf, int fd, struct err *err);

/* Drops the first n bytes. */
void buf_consume(struct buf *buf, size_t n);

static inline struct span buf_span(const struct buf *buf)
{
    return (struct span){ .ptr = buf->ptr ? buf->ptr : "", .len = buf->len };
}

/* The content as a string, "" when there is none; borrowed until the next change. */
static inline const char *buf_text(const struct buf *buf)
{
    return buf->ptr ? buf->ptr : "";
}
