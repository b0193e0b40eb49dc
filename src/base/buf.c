#include "base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { BUF_SMALLEST = 64, READ_STEP = 4096 };

void buf_done(struct buf *buf)
{
    mem_free(buf->ptr);
    buf->ptr = NULL;
    buf->len = buf->cap = 0;
}

void buf_reset(struct buf *buf)
{
    buf->failed = false;
    buf->len = 0;
    if (buf->ptr)
        buf->ptr[0] = '\0';
}

static int fail(struct buf *buf, int code)
{
    buf->failed = true;
    return -code;
}

/* Makes room for `more` bytes and the NUL behind them. */
static int reserve(struct buf *buf, size_t more)
{
    size_t need;

    if (buf->failed || more > buf->max - buf->len)
        return fail(buf, EFBIG);
    if (__builtin_add_overflow(buf->len + 1, more, &need))
        return fail(buf, EFBIG);
    if (need <= buf->cap)
        return 0;

    size_t cap = MAX(need, MAX(buf->cap * 2, (size_t)BUF_SMALLEST));
    if (cap > buf->max)
        cap = MAX(need, buf->max);
    char *ptr = mem_resize(buf->ptr, cap);
    if (!ptr)
        return fail(buf, ENOMEM);
    ptr[buf->len] = '\0';
    buf->ptr = ptr;
    buf->cap = cap;
    return 0;
}

static void grow_by(struct buf *buf, size_t n)
{
    buf->len += n;
    buf->ptr[buf->len] = '\0';
}

int buf_add(struct buf *buf, const void *bytes, size_t len)
{
    int r = reserve(buf, len);

    if (r < 0)
        return r;
    if (len > 0)
        memcpy(buf->ptr + buf->len, bytes, len);
    grow_by(buf, len);
    return 0;
}

int buf_add_text(struct buf *buf, const char *text)
{
    return buf_add(buf, text, strlen(text));
}

int buf_add_char(struct buf *buf, char c)
{
    return buf_add(buf, &c, 1);
}

int buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    int r = n < 0 ? fail(buf, EINVAL) : reserve(buf, (size_t)n);
    if (r == 0) {
        vsnprintf(buf->ptr + buf->len, (size_t)n + 1, format, again);
        grow_by(buf, (size_t)n);
    }
    va_end(again);
    return r;
}

static ssize_t read_again(int fd, void *bytes, size_t len)
{
    ssize_t n;

    do {
        n = read(fd, bytes, len);
    } while (n < 0 && errno == EINTR);
    return n;
}

/* One read, at the end of the content: what read(2) returns, or a negative errno. At the ceiling
 * it looks for one byte more, so that content of just the greatest size is still accepted. */
static ssize_t read_step(struct buf *buf, int fd)
{
    size_t room = MIN(buf->max - buf->len, (size_t)READ_STEP);
    char beyond;
    ssize_t n;

    if (room == 0) {
        n = read_again(fd, &beyond, 1);
        return n > 0 ? -EFBIG : n < 0 ? -errno : 0;
    }
    int r = reserve(buf, room);
    if (r < 0)
        return r;
    n = read_again(fd, buf->ptr + buf->len, MAX(room, buf->cap - buf->len - 1));
    if (n < 0)
        return -errno;
    grow_by(buf, (size_t)n);
    return n;
}

int buf_read_all(struct buf *buf, int fd, struct err *err)
{
    size_t before = buf->len;
    ssize_t n;

    do {
        n = read_step(buf, fd);
    } while (n > 0);
    if (n == 0)
        return 0;

    buf->len = before;
    if (buf->ptr)
        buf->ptr[before] = '\0';
    buf->failed = true;
    if (n == -EFBIG)
        return err_set(err, EFBIG, "it is larger than %zu bytes", buf->max);
    return err_set(err, (int)-n, "cannot read it: %s", strerror((int)-n));
}

void buf_consume(struct buf *buf, size_t n)
{
    if (n == 0 || !buf->ptr)
        return;
    n = MIN(n, buf->len);
    memmove(buf->ptr, buf->ptr + n, buf->len - n + 1);
    buf->len -= n;
}
