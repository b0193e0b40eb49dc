#include "base/arena.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* The first block is small so that an arena for one name stays small; each next one doubles, up
 * to a size where the cost of asking the system no longer shows. */
enum { BLOCK_FIRST = 4 << 10, BLOCK_LARGEST = 256 << 10 };

struct arena_block {
    struct arena_block *next; /* owned */
    size_t size, used;        /* of bytes[] */
    max_align_t bytes[];
};

void arena_done(struct arena *arena)
{
    struct arena_block *block = arena->block;

    while (block) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    arena->block = NULL;
    arena->used = 0;
}

/* How many bytes to ask the system for, so that `size` bytes fit: 0 when the ceiling forbids it. */
static size_t block_size(const struct arena *arena, size_t size)
{
    size_t left = arena->max - arena->used;
    size_t need, usual = BLOCK_FIRST;

    if (__builtin_add_overflow(size, sizeof(struct arena_block), &need) || need > left)
        return 0;
    if (arena->block)
        usual = MIN(2 * (arena->block->size + sizeof(struct arena_block)), (size_t)BLOCK_LARGEST);
    return MIN(MAX(need, usual), left);
}

static struct arena_block *add_block(struct arena *arena, size_t size)
{
    size_t whole = block_size(arena, size);
    struct arena_block *block = whole ? mem_alloc(whole) : NULL;

    if (!block)
        return NULL;
    block->size = whole - sizeof(*block);
    block->next = arena->block;
    arena->block = block;
    arena->used += whole;
    return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    struct arena_block *block = arena->block;
    size_t rounded;

    /* Even an empty thing gets an address of its own. */
    if (__builtin_add_overflow(MAX(size, (size_t)1), alignof(max_align_t) - 1, &rounded))
        return NULL;
    rounded -= rounded % alignof(max_align_t);
    if (!block || block->size - block->used < rounded)
        block = add_block(arena, rounded);
    if (!block)
        return NULL;
    void *ret = (char *)block->bytes + block->used;
    block->used += rounded;
    return ret;
}

void *arena_array(struct arena *arena, size_t n, size_t size)
{
    size_t whole;

    return __builtin_mul_overflow(n, size, &whole) ? NULL : arena_alloc(arena, whole);
}

char *arena_spandup(struct arena *arena, struct span span)
{
    char *copy = span.len < SIZE_MAX ? arena_alloc(arena, span.len + 1) : NULL;

    if (copy && span.len > 0)
        memcpy(copy, span.ptr, span.len);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_spandup(arena, span_of(text));
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;

    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = n >= 0 ? arena_alloc(arena, (size_t)n + 1) : NULL;
    if (text)
        vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

/* There is no capacity to look at: an array that only grows here is full when it holds no
 * element yet, or 4, 8, 16, … of them. */
static bool is_full(size_t n_items)
{
    return n_items == 0 || (n_items >= 4 && (n_items & (n_items - 1)) == 0);
}

void *arena_push_item(struct arena *arena, void **items, size_t *n_items, size_t size)
{
    size_t n = *n_items;

    if (is_full(n)) {
        size_t cap = n ? n : 2;
        void *grown = __builtin_mul_overflow(cap, 2, &cap) ? NULL : arena_array(arena, cap, size);
        if (!grown)
            return NULL;
        if (n)
            memcpy(grown, *items, n * size);
        *items = grown;
    }
    *n_items = n + 1;
    return (char *)*items + n * size;
}
