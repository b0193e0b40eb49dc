/*
 * Texts as Go's libraries write them, for sentences of upstream that people search their logs for:
 * an errno, a quoted string (%q), a value as compact JSON, and what encoding/json says about a
 * wrong type.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/text.h"
#include "codec/value.h"

enum { GO_JSON_MAX_BYTES = 400 }; /* of a value in a sentence; more is cut and ends in "…" */

/* Go's words for an errno, "no such file or directory": the C library's without the capital.
 * Returns `text`. */
const char *go_error(int code, char text[static 128]);

/* "text" with quotes and Go's escapes; NULL without memory. */
[[nodiscard]] char *go_quote(struct arena *arena, struct span text);

/* Compact JSON with sorted keys, as sigs.k8s.io/yaml makes it of YAML; NULL without memory. */
[[nodiscard]] char *go_json(struct arena *arena, const struct value *value);

/* The entries of a map by key, in byte order: what upstream sees, since its YAML goes through JSON.
 * n_entries of them; NULL without memory. */
[[nodiscard]] const struct value_entry **go_sorted_entries(struct arena *arena,
                                                           const struct value *map);

/* "null", "bool", "number", "string", "array" or "object". */
const char *go_json_kind(const struct value *value);

/* `json: cannot unmarshal number 2.5 into Go value of type int`. NULL without memory. */
[[nodiscard]] char *go_json_mismatch(struct arena *arena, const struct value *value,
                                     const char *type);

/* `json: cannot unmarshal string into Go struct field Imex.imex.required of type bool`. */
[[nodiscard]] char *go_json_field_mismatch(struct arena *arena, const struct value *value,
                                           const char *field, const char *type);
