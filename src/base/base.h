/*
 * The words every room uses: cleanup at the end of a scope, handing a thing on, and a few sums.
 *
 * auto_free, auto_close and auto_(x_done) need an initial value; `*ret = steal(thing)` hands a
 * thing on so that its scope no longer frees it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_LEN(a)       (sizeof(a) / sizeof((a)[0]))
#define KIB(n)             ((size_t)(n) << 10)
#define MIB(n)             ((size_t)(n) << 20)
#define MIN(a, b)          ((a) < (b) ? (a) : (b))
#define MAX(a, b)          ((a) > (b) ? (a) : (b))
#define UNUSED             [[maybe_unused]]
#define PRINTF(fmt, first) [[gnu::format(printf, fmt, first)]]

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* The value of `thing`, which is NULL afterwards. */
#define steal(thing)                                                                               \
    ({                                                                                             \
        typeof(thing) stolen_ = (thing);                                                           \
        (thing) = NULL;                                                                            \
        stolen_;                                                                                   \
    })

/* auto_(buf_done) struct buf b = …: runs buf_done(&b) when the scope ends. */
#define auto_(done) [[gnu::cleanup(done)]]
#define auto_free   auto_(base_free)
#define auto_close  auto_(base_close)

/* Gives `name`p(type **) for a free function that takes the pointer: auto_(json_freep). */
#define DEFINE_FREEP(type, free_fn)                                                                \
    static inline void free_fn##p(type **thing)                                                    \
    {                                                                                              \
        free_fn(*thing);                                                                           \
        *thing = NULL;                                                                             \
    }

static inline void base_free(void *pointer)
{
    free(*(void **)pointer);
}

static inline void base_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
