/*
 * What a word of YAML means: the rules of YAML 1.1 as Go's yaml library (v2) reads them, because
 * that is what upstream's files were written against (spec/device-plugin §2.4).
 *
 *     yes → true   010 → 8   0o10 → 8   1_000 → 1000   1e1 → 10.0   08 → 8.0   1:30 → "1:30"
 */
#pragma once

#include "base/base.h"
#include "base/text.h"
#include "codec/value.h"

struct scalar {
    enum value_kind kind; /* never a list or a map */
    union {
        bool boolean;
        int64_t integer;
        double number;
    };
};

/* A word without quotes and without a tag. */
struct scalar scalar_read(struct span text);

/* A word under a tag, such as "tag:yaml.org,2002:int" or "!mine", quoted or not. Tags that are not
 * YAML's own mean a string. -EINVAL: the word is none of that type. A !!binary stays as written. */
[[nodiscard]] int scalar_read_tagged(struct span tag, struct span text, struct scalar *ret);

/* The key that Go makes of a boolean or a number: "true" of yes, "16" of 0x10. -EINVAL for null,
 * which cannot be a key, and for a string, whose own text is the key. */
enum { SCALAR_KEY_SIZE = VALUE_NUMBER_SIZE };
[[nodiscard]] int scalar_key(struct scalar scalar, char ret[SCALAR_KEY_SIZE]);

/* Go's shortest text that reads back as the same number; "" for infinities and not-a-number. */
enum { SCALAR_NUMBER_SIZE = VALUE_NUMBER_SIZE };
void scalar_float_text(double number, char ret[SCALAR_NUMBER_SIZE]);
