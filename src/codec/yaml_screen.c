#include "codec/yaml_screen.h"

#include <errno.h>
#include <stdio.h>

/* Directives (%YAML, %TAG), and blank lines between those of a scalar, cost libfyaml time by the
 * square of their number. */
enum { DIRECTIVES_LIMIT = 64, BLANK_LINES_LIMIT = 1000 };

int yaml_fault_set(struct yaml_fault *fault, struct place place, int code, const char *format, ...)
{
    va_list args;

    fault->place = place;
    va_start(args, format);
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    return -code;
}

struct cursor {
    struct span rest;
    struct place place;
};

static void step(struct cursor *cursor, size_t len)
{
    char c = cursor->rest.ptr[0];

    cursor->rest = (struct span){ cursor->rest.ptr + len, cursor->rest.len - len };
    cursor->place.column++;
    if (c == '\n' || (c == '\r' && (cursor->rest.len == 0 || cursor->rest.ptr[0] != '\n')))
        cursor->place = (struct place){ cursor->place.line + 1, 1 };
}

/* The code point of a character that is valid UTF-8. */
static unsigned code_point(const char *bytes, size_t len)
{
    const unsigned char *c = (const unsigned char *)bytes;
    unsigned code = len == 1 ? c[0] : c[0] & (0xFFu >> (len + 1));

    for (size_t i = 1; i < len; i++)
        code = code << 6 | (c[i] & 0x3Fu);
    return code;
}

/* The characters that Go's reader takes. */
static bool is_allowed(unsigned code)
{
    if (code < 0x20)
        return code == '\t' || code == '\n' || code == '\r';
    if (code >= 0x7F && code < 0xA0)
        return code == 0x85;
    return code != 0xFFFE && code != 0xFFFF;
}

/* Line breaks in YAML 1.1, characters like any other in 1.2. */
static bool is_old_break(unsigned code)
{
    return code == 0x85 || code == 0x2028 || code == 0x2029;
}

static bool begins_with(struct span text, struct span prefix)
{
    return text.len >= prefix.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0;
}

/* libfyaml steps over a directive it does not know, and over the text below it. A version it reads
 * without a look at the size of the numbers. */
static bool is_directive(struct span line)
{
    if (begins_with(line, SPAN("%TAG ")))
        return true;
    if (!begins_with(line, SPAN("%YAML 1.1")) && !begins_with(line, SPAN("%YAML 1.2")))
        return false;
    return line.len == strlen("%YAML 1.1") || strchr(" \t\r\n", line.ptr[strlen("%YAML 1.1")]);
}

static int screen_directive(struct cursor cursor, size_t n_directives, struct yaml_fault *fault)
{
    if (!is_directive(cursor.rest))
        return yaml_fault_set(fault, cursor.place, EINVAL,
                              "a line cannot begin with %% unless it is %%YAML 1.1 or a %%TAG; "
                              "quote or indent it");
    if (n_directives > DIRECTIVES_LIMIT)
        return yaml_fault_set(fault, cursor.place, EFBIG, "more than %d lines begin with %%",
                              DIRECTIVES_LIMIT);
    return 0;
}

static int screen_character(struct cursor cursor, size_t len, struct yaml_fault *fault)
{
    if (len == 0)
        return yaml_fault_set(fault, cursor.place, EINVAL, "the byte 0x%02x is not UTF-8",
                              (unsigned char)cursor.rest.ptr[0]);
    unsigned code = code_point(cursor.rest.ptr, len);
    if (!is_allowed(code))
        return yaml_fault_set(fault, cursor.place, EINVAL,
                              "the control character U+%04X is not allowed", code);
    return 0;
}

/* Counts the blank lines in a row, character by character. */
struct blank_lines {
    size_t n;
    bool said; /* something, in the line so far */
};

static int screen_blank_lines(struct blank_lines *blank, struct cursor cursor,
                              struct yaml_fault *fault)
{
    char c = cursor.rest.ptr[0];

    if (c == '\n') {
        blank->n = blank->said ? 0 : blank->n + 1;
        blank->said = false;
    } else if (c != ' ' && c != '\t' && c != '\r') {
        blank->said = true;
    }
    if (blank->n > BLANK_LINES_LIMIT)
        return yaml_fault_set(fault, cursor.place, EFBIG, "more than %d blank lines in a row",
                              BLANK_LINES_LIMIT);
    return 0;
}

static int screen_text(struct cursor cursor, struct yaml_fault *fault)
{
    size_t len, n_directives = 0, n_old_breaks = 0;
    struct blank_lines blank = {};
    int r = 0;

    for (; cursor.rest.len > 0; step(&cursor, len)) {
        len = text_utf8_char(cursor.rest);
        r = screen_character(cursor, len, fault);
        if (r == 0 && cursor.rest.ptr[0] == '%' && cursor.place.column == 1)
            r = screen_directive(cursor, ++n_directives, fault);
        if (r == 0)
            r = screen_blank_lines(&blank, cursor, fault);
        if (r < 0)
            return r;
        n_old_breaks += is_old_break(code_point(cursor.rest.ptr, len));
        /* `%YAML 1.1` makes libfyaml fold these breaks, and then it gets the length wrong. */
        if (n_directives && n_old_breaks)
            return yaml_fault_set(fault, cursor.place, EINVAL,
                                  "lines that begin with %% and one of the characters U+0085, "
                                  "U+2028, U+2029 cannot be in one text");
    }
    return 0;
}

int yaml_screen(struct span *text, const struct yaml_limits *limits, struct yaml_fault *fault)
{
    if (text->len > limits->bytes)
        return yaml_fault_set(fault, (struct place){}, EFBIG, "the text is larger than %zu bytes",
                              limits->bytes);
    if (begins_with(*text, SPAN("\xEF\xBB\xBF")))
        *text = (struct span){ text->ptr + 3, text->len - 3 };
    return screen_text((struct cursor){ *text, { 1, 1 } }, fault);
}

static bool begins_document(struct cursor cursor)
{
    return cursor.place.column == 1 &&
           (begins_with(cursor.rest, SPAN("---")) || begins_with(cursor.rest, SPAN("...")));
}

int yaml_screen_rest(struct span text, size_t at, struct yaml_fault *fault)
{
    struct cursor cursor = { text, { 1, 1 } };
    bool in_comment = false;

    while (cursor.rest.len > 0 && text.len - cursor.rest.len < at)
        step(&cursor, 1);
    for (; cursor.rest.len > 0; step(&cursor, 1)) {
        char c = cursor.rest.ptr[0];
        if (c == '#')
            in_comment = true;
        else if (c == '\n' || c == '\r')
            in_comment = false;
        else if (!in_comment && begins_document(cursor))
            return 0;
        else if (!in_comment && c != ' ' && c != '\t')
            return yaml_fault_set(fault, cursor.place, EINVAL,
                                  "the document ends before this, which is no part of it");
    }
    return 0;
}
