/*
 * A plain tree of what a file said, and where it said it.
 *
 * The tree lives in the arena it was read into and never changes. An alias in the file is a second
 * pointer to the same value, so nodes may be shared but never form a circle. Depth and size are
 * bounded by whoever built the tree (see yaml.h), so that a reader may recurse.
 *
 * All lookups accept NULL and a value of another kind, and then find nothing.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/text.h"

enum value_kind {
    VALUE_NULL,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_FLOAT, /* also a whole number that int64 cannot hold */
    VALUE_STRING,
    VALUE_LIST,
    VALUE_MAP,
    VALUE_N_KINDS
};

/* "null", "a boolean", "a number", "a string", "a list", "a map": for "want a list, not a map". */
extern const char *const value_kind_names[VALUE_N_KINDS];

struct place {
    unsigned line, column; /* from 1; 0 where there is no place */
};

struct value_entry {
    const char *key; /* numbers and booleans as text: "16" for 0x10, "true" for yes */
    struct place place;
    struct value *value;
    bool merged; /* came through a merge key */
};

/* A key that was said twice in one map: the value at `second` counts, the one at `first` is lost.
 */
struct value_duplicate {
    const char *key;
    struct place first, second;
};

struct value {
    enum value_kind kind;
    struct place place;
    struct span text; /* a string's content (may hold NULs); another scalar as it was written;
                       * followed by a NUL that is not counted */
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct {
            struct value **items;
            size_t n_items;
        };
        struct {
            struct value_entry *entries; /* in order of the file, each key once */
            struct value_duplicate *duplicates;
            size_t n_entries, n_duplicates;
        };
    };
};

/* NULL when absent. */
const struct value_entry *value_entry(const struct value *map, const char *key);
const struct value *value_get(const struct value *map, const char *key);

/* Keys of Go's structs match in any letter case. Of several spellings the last one in byte order
 * counts ("MIGSTRATEGY" < "migStrategy"), as it does upstream (spec/device-plugin §2.4). */
const struct value_entry *value_entry_nocase(const struct value *map, const char *key);
const struct value *value_get_nocase(const struct value *map, const char *key);

/* A string with just this content. */
bool value_is_text(const struct value *value, const char *text);

/* A whole number, also when it is written as 2.0 or 1e1. -EINVAL: not a whole number;
 * -ERANGE: not within int64. */
[[nodiscard]] int value_to_i64(const struct value *value, int64_t *ret);

/* A number as Go's encoding/json writes it, which is how upstream's sentences name it: 1e1 is
 * "10", 1e21 is "1e+21". "" for what is no finite number. */
enum { VALUE_NUMBER_SIZE = 40 };
void value_number_text(const struct value *value, char ret[VALUE_NUMBER_SIZE]);

/* For builders: leaves of each key the last entry only and notes duplicates. -ENOMEM. */
[[nodiscard]] int value_settle_map(struct value *map, struct arena *arena);
