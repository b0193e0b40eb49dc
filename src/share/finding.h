/*
 * What is wrong in a file, as a list: every reader of a file in this room notes what it finds and
 * goes on, so that one pass serves both the agent, which needs the first error, and `tranche
 * check`, which wants them all.
 *
 *     finding_add(&findings, FINDING_ERROR, item->place, "want 2 or more",
 *                 "number of replicas must be >= 2");
 *
 * A sentence is upstream's own where upstream has one; the advice is ours and follows it behind a
 * semicolon. All texts live in the arena. Without memory `failed` is set and later findings are
 * dropped; the reader looks once, at the end (findings_failed).
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "codec/value.h"
#include "codec/yaml.h"

enum {
    FINDINGS_MAX_ERRORS = 200, /* nobody reads on; a hostile file could have a million */
    FINDINGS_MAX_WARNINGS = 200,
};

/* In rising order of precedence for the one sentence that stops a load: Go's decoder remembers a
 * wrong type and goes on, but stops at what a type's own decoder refuses. The version is looked at
 * when all else was right, our own additions after that, and option values last. */
enum finding_kind {
    FINDING_WARNING,
    FINDING_INVALID, /* an option's value */
    FINDING_OURS,    /* a rule of an additive key */
    FINDING_VERSION,
    FINDING_TYPE,
    FINDING_ERROR,
    FINDING_SYNTAX, /* not YAML */
    FINDING_N_KINDS
};

struct finding {
    enum finding_kind kind;
    struct place place; /* 0:0: about the whole file, or not about a file */
    const char *text;
    const char *advice; /* what would be right, or NULL */
};

struct findings {
    struct arena *arena; /* borrowed */
    struct finding *items;
    size_t n;
    size_t n_errors, n_warnings, n_left_out;
    bool failed;          /* an allocation was */
    const char *go_field; /* what upstream calls the value that is read by a decoder of its own:
                           * "Sharing.sharing.mps"; NULL outside of such */
};

PRINTF(5, 6)
void finding_add(struct findings *findings, enum finding_kind kind, struct place place,
                 const char *advice, const char *format, ...);

/* The advice for finding_add; "" when there is no memory (which is noted). */
PRINTF(2, 3) const char *finding_advice(struct findings *findings, const char *format, ...);

/* Notes a sentence that was made elsewhere; NULL means that making it took too much memory. */
void finding_add_text(struct findings *findings, enum finding_kind kind, struct place place,
                      const char *advice, const char *text);

/* An error: the value is not of this Go type, as encoding/json says it. */
void finding_add_mismatch(struct findings *findings, const struct value *value, const char *type,
                          const char *advice);

/* `text; advice`, and the same behind `name:line:col: ` where there is a place. NULL without
 * memory. */
[[nodiscard]] char *finding_words(struct arena *arena, const struct finding *finding);
[[nodiscard]] char *finding_sentence(struct arena *arena, const struct finding *finding,
                                     const char *name);

/* By place, and of one place in the order they were found. */
void findings_sort(struct findings *findings);

/* -ENOMEM when an allocation failed on the way. */
[[nodiscard]] int findings_failed(const struct findings *findings, struct err *err);

/* Reads YAML into the findings' arena. *ret is NULL where it is none, which is noted. -ENOMEM. */
[[nodiscard]] int findings_read_yaml(struct findings *findings, struct span text,
                                     const struct yaml_limits *limits, struct value **ret,
                                     struct err *err);

/* 0 when nothing stops a load; -EINVAL with the sentence of what does, and its kind; -ENOMEM. */
[[nodiscard]] int findings_verdict(const struct findings *findings, const char *name,
                                   enum finding_kind *ret_kind, struct err *err);
/* What upstream says before such a sentence: `error converting YAML to JSON: yaml` and the like. */
const char *finding_go_context(enum finding_kind kind);

/* ---- what many readers notice ---- */

/* Warns of keys that `known` does not list, naming the nearest one, and of keys that are said
 * twice. Keys match in any letter case unless `exact`. `section_of` (or NULL) tells where a key
 * belongs that is known elsewhere. */
void findings_keys(struct findings *findings, const struct value *map, const char *const *known,
                   size_t n_known, bool exact, const char *(*section_of)(const char *key));

/* Warns of a whole number that is written so that a person reads another one: `010` is 8. */
void findings_number(struct findings *findings, const struct value *value);
