/*
 * A thin door around jansson: JSON in, JSON and YAML out.
 *
 *     auto_(json_decrefp) json_t *json = NULL;
 *     r = json_parse(text, "claims.json", MIB(4), &json, err);
 *
 * jansson's own functions serve for looking into a json_t and for building one. What is handed out
 * is the caller's to json_decref.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "codec/value.h"

/* One JSON value of any kind; of a key that is said twice, the last one counts. -EFBIG above
 * max_bytes; -EINVAL with `name:line:col: what is wrong`, also for more than 2,000 levels. */
[[nodiscard]] int json_parse(struct span text, const char *name, size_t max_bytes, json_t **ret,
                             struct err *err);

/* A tree as Go's converter from YAML makes it: aliases repeated, whole numbers without a point.
 * -EINVAL in Go's words for infinities and not-a-number, which JSON cannot say; -ENOMEM. */
[[nodiscard]] int json_from_value(const struct value *value, json_t **ret, struct err *err);

/* Appends the text, without a newline at its end: on one line when indent is 0. Keys stay in their
 * order. 0, or the buf's failure. */
[[nodiscard]] int json_to_text(const json_t *json, unsigned indent, struct buf *ret);

/* Appends YAML in block style as kubectl prints it, with a newline at its end. Strings that a
 * reader of YAML 1.1 or 1.2 could take for something else are quoted. Keys must be shorter than
 * 1,000 bytes, which is what a reader of YAML takes for a key. 0, or the buf's failure. */
[[nodiscard]] int json_to_yaml(const json_t *json, struct buf *ret);
