/*
 * How a verb answers: as text for a person, or as JSON or YAML for a program.
 *
 * Answers go to stdout, complaints to stderr. Text may be coloured: only on a terminal, never with
 * NO_COLOR set (to anything but the empty string) or TERM=dumb; tables and verbs ask
 * output_colour and pass a style, nobody writes an escape sequence by hand.
 */
#pragma once

#include <stdio.h>

#include "base/base.h"
#include "base/err.h"
#include "codec/json.h"

enum output_format { OUTPUT_TEXT, OUTPUT_JSON, OUTPUT_YAML, OUTPUT_N_FORMATS };

extern const char *const output_format_names[OUTPUT_N_FORMATS]; /* text json yaml */

/* The word after `-o`. -EINVAL with a sentence that lists the formats. */
[[nodiscard]] int output_format_parse(const char *word, enum output_format *ret, struct err *err);

/* Writes a value as JSON (indented, keys in their order) or, for OUTPUT_YAML, as YAML, with a
 * newline at the end. -ENOMEM, or a write's errno. */
[[nodiscard]] int output_print(FILE *to, enum output_format format, const json_t *value,
                               struct err *err);

bool output_is_terminal(FILE *to);
bool output_colour(FILE *to);

enum output_style {
    STYLE_PLAIN,
    STYLE_BOLD,
    STYLE_DIM,
    STYLE_GOOD,
    STYLE_WARN,
    STYLE_BAD,
    OUTPUT_N_STYLES
};

/* The escape sequences around a styled text; both "" for plain text and without colour. */
const char *output_style(bool colour, enum output_style style);
const char *output_unstyle(bool colour, enum output_style style);

/* `tranche get: cannot …` on stderr; returns 1, the exit code of a verb that failed. */
int output_fail(const char *verb, const struct err *err);
