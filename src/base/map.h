/*
 * A hash map from strings to pointers. Keys are copied and owned by the map, values are the
 * caller's. Iteration is in order of insertion, so that output never depends on hashing.
 */
#pragma once

#include "base/base.h"

struct map_entry {
    char *key; /* owned; NULL where an entry was removed */
    void *value;
    uint32_t hash;
};

struct map {
    struct map_entry *entries; /* owned; in order of insertion */
    uint32_t *slots;           /* owned; index into entries + 1, 0 is free */
    size_t n_entries, n_live, cap;
};

void map_done(struct map *map);

void *map_get(const struct map *map, const char *key); /* NULL when absent */
bool map_has(const struct map *map, const char *key);
/* Adds or replaces: 0 or -ENOMEM. */
[[nodiscard]] int map_set(struct map *map, const char *key, void *value);
void *map_remove(struct map *map, const char *key); /* the value, or NULL */

/* for (size_t i = 0; (entry = map_next(&map, &i)); ) */
struct map_entry *map_next(const struct map *map, size_t *position);
