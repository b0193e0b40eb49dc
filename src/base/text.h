/*
 * Text from outside has a length, not a terminator: a span points into somebody else's bytes.
 * The parsers here are strict: the whole text is the value, or it is not a value.
 */
#pragma once

#include <string.h>

#include "base/base.h"
#include "base/err.h"

struct span {
    const char *ptr;
    size_t len;
};

#define SPAN(literal)  ((struct span){ .ptr = (literal), .len = sizeof(literal) - 1 })
#define SPAN_FMT       "%.*s"
#define SPAN_ARG(span) (int)(span).len, (span).ptr

static inline struct span span_of(const char *text)
{
    return (struct span){ .ptr = text, .len = text ? strlen(text) : 0 };
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool text_equal(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

bool text_starts(const char *text, const char *prefix);
bool text_ends(const char *text, const char *suffix);

struct span span_trim(struct span span); /* without leading and trailing blanks */

/* Takes the part before the next `separator` off `rest`; false when rest is used up. An empty
 * text has one empty part, as in Go's strings.Split. Start with `bool more = true`. */
bool span_split(struct span *rest, char separator, bool *more, struct span *ret_part);

/* 0 or -EINVAL / -ERANGE; *ret is written only on success. Decimal digits only, no sign for u64. */
[[nodiscard]] int text_to_u64(struct span text, uint64_t *ret);
[[nodiscard]] int text_to_i64(struct span text, int64_t *ret);

/* Go's integers with base detection (0x, 0o, 0b, leading 0, underscores between digits). */
[[nodiscard]] int text_to_i64_any_base(struct span text, int64_t *ret);
[[nodiscard]] int text_to_u64_any_base(struct span text, uint64_t *ret);

/* Go's strconv.ParseBool: 1 t T true TRUE True 0 f F false FALSE False. */
[[nodiscard]] int text_to_bool(struct span text, bool *ret);

/* Go's time.ParseDuration ("90s", "1m30s", "1.5h") to nanoseconds. On failure err holds Go's own
 * sentence: `time: missing unit in duration "60"`. */
[[nodiscard]] int text_to_duration_ns(struct span text, int64_t *ret, struct err *err);

/* A Kubernetes quantity ("3", "10Gi", "500m", "1e3") in thousandths. -EINVAL, -ERANGE. */
[[nodiscard]] int text_to_quantity_milli(struct span text, int64_t *ret);

/* `*` stands for any run of characters, everything else for itself, anchored at both ends. */
bool text_matches(const char *pattern, const char *text);

/* The length of the longest prefix that is valid UTF-8; equals len when all of it is. */
size_t text_utf8_prefix(struct span text);

/* The length in bytes of the UTF-8 character that text begins with; 0 when it is none. */
size_t text_utf8_char(struct span text);

/* What a terminal would obey becomes a `?`, in place: controls and line ends, marks that turn the
 * direction of writing, and bytes that are no UTF-8. For words of others on their way to a person.
 */
void text_make_harmless(char *text);

/* The known word nearest to `text` (small edit distance), or NULL: for "did you mean". */
const char *text_nearest(const char *text, const char *const *words, size_t n_words);
