/*
 * Memory that is freed all at once: a decoded request, a built inventory, a parsed config.
 *
 *     auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4));
 *     char *name = arena_printf(&arena, "gpu%u", minor);
 *
 * Every arena states its ceiling at birth. All functions return NULL when the ceiling is reached
 * or memory runs out; what an arena gives out is zeroed and aligned for any type.
 */
#pragma once

#include <stdarg.h>

#include "base/base.h"
#include "base/text.h"

struct arena_block;

struct arena {
    struct arena_block *block; /* owned; newest first */
    size_t used, max;          /* bytes taken from the system, and the most they may be */
};

#define ARENA_MAX(bytes)                                                                           \
    (struct arena)                                                                                 \
    {                                                                                              \
        .max = (bytes)                                                                             \
    }

void arena_done(struct arena *arena);

[[nodiscard]] void *arena_alloc(struct arena *arena, size_t size);
[[nodiscard]] void *arena_array(struct arena *arena, size_t n, size_t size);
[[nodiscard]] char *arena_strdup(struct arena *arena, const char *text);
[[nodiscard]] char *arena_spandup(struct arena *arena, struct span span);
[[nodiscard]] PRINTF(2, 3) char *arena_printf(struct arena *arena, const char *format, ...);

#define arena_new(arena, type)          ((type *)arena_alloc((arena), sizeof(type)))
#define arena_new_array(arena, type, n) ((type *)arena_array((arena), (n), sizeof(type)))

/*
 * Room for one more element at the end of an array that lives in the arena: grows `*items`
 * (capacity doubles, old copies stay in the arena) and returns the new, zeroed element or NULL.
 */
#define arena_push(arena, items, n_items)                                                          \
    ((typeof(*(items)))arena_push_item((arena), (void **)(items), (n_items), sizeof(**(items))))

[[nodiscard]] void *arena_push_item(struct arena *arena, void **items, size_t *n_items,
                                    size_t size);
