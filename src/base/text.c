#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

bool text_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *text, const char *suffix)
{
    size_t len = strlen(text), tail = strlen(suffix);

    return len >= tail && memcmp(text + len - tail, suffix, tail) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static struct span after(struct span span, size_t n)
{
    return (struct span){ .ptr = span.ptr + n, .len = span.len - n };
}

struct span span_trim(struct span span)
{
    while (span.len > 0 && is_blank(span.ptr[0]))
        span = after(span, 1);
    while (span.len > 0 && is_blank(span.ptr[span.len - 1]))
        span.len--;
    return span;
}

bool span_split(struct span *rest, char separator, bool *more, struct span *ret_part)
{
    if (!*more)
        return false;
    const char *at = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    *more = at != NULL;
    *ret_part = *rest;
    if (at) {
        ret_part->len = (size_t)(at - rest->ptr);
        *rest = after(*rest, ret_part->len + 1);
    } else {
        *rest = (struct span){ .ptr = rest->ptr + rest->len };
    }
    return true;
}

/* ---- whole numbers ---- */

static int digit_value(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

/* All of `digits` in that base. An underscore is a digit of no value: see underscores_fit. */
static int digits_to_u64(struct span digits, unsigned base, uint64_t *ret)
{
    uint64_t value = 0;
    bool overflow = false, any = false;

    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] == '_')
            continue;
        int digit = digit_value(digits.ptr[i]);
        if (digit >= (int)base)
            return -EINVAL;
        any = true;
        overflow |= __builtin_mul_overflow(value, base, &value);
        overflow |= __builtin_add_overflow(value, (unsigned)digit, &value);
    }
    if (!any)
        return -EINVAL;
    if (overflow)
        return -ERANGE;
    *ret = value;
    return 0;
}

static int sign_value(uint64_t magnitude, bool negative, int64_t *ret)
{
    if (magnitude > (uint64_t)INT64_MAX + negative)
        return -ERANGE;
    *ret = (int64_t)(negative ? -magnitude : magnitude);
    return 0;
}

/* Takes a leading + or - off. */
static bool take_sign(struct span *text)
{
    bool negative = text->len > 0 && text->ptr[0] == '-';

    if (negative || (text->len > 0 && text->ptr[0] == '+'))
        *text = after(*text, 1);
    return negative;
}

int text_to_u64(struct span text, uint64_t *ret)
{
    if (text.len > 0 && memchr(text.ptr, '_', text.len))
        return -EINVAL;
    return digits_to_u64(text, 10, ret);
}

int text_to_i64(struct span text, int64_t *ret)
{
    bool negative = take_sign(&text);
    uint64_t magnitude;
    int r = text_to_u64(text, &magnitude);

    return r < 0 ? r : sign_value(magnitude, negative, ret);
}

/* Takes Go's base prefix off and says which base it means. */
static unsigned take_base(struct span *text)
{
    if (text->len < 2 || text->ptr[0] != '0')
        return 10;
    unsigned base;
    switch (text->ptr[1] | 0x20) {
    case 'x':
        base = 16;
        break;
    case 'o':
        base = 8;
        break;
    case 'b':
        base = 2;
        break;
    default:
        *text = after(*text, 1);
        return 8;
    }
    *text = after(*text, 2);
    return base;
}

/* Underscores stand one at a time between digits; a base prefix counts as a digit before them. */
static bool underscores_fit(struct span digits, bool prefixed)
{
    bool digit_before = prefixed;

    for (size_t i = 0; i < digits.len; i++) {
        if (digits.ptr[i] == '_' && !digit_before)
            return false;
        digit_before = digits.ptr[i] != '_';
    }
    return digit_before;
}

int text_to_u64_any_base(struct span text, uint64_t *ret)
{
    struct span digits = text;
    unsigned base = take_base(&digits);

    if (!underscores_fit(digits, digits.len != text.len))
        return -EINVAL;
    return digits_to_u64(digits, base, ret);
}

int text_to_i64_any_base(struct span text, int64_t *ret)
{
    bool negative = take_sign(&text);
    uint64_t magnitude;
    int r = text_to_u64_any_base(text, &magnitude);

    return r < 0 ? r : sign_value(magnitude, negative, ret);
}

int text_to_bool(struct span text, bool *ret)
{
    static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
    static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (span_equal(text, span_of(yes[i])))
            return *ret = true, 0;
        if (span_equal(text, span_of(no[i])))
            return *ret = false, 0;
    }
    return -EINVAL;
}

/* ---- durations: the algorithm, limits and sentences of Go's time.ParseDuration ---- */

static const uint64_t DURATION_LIMIT = (uint64_t)1 << 63;

/* Go's quoting: bytes that are not printable ASCII as \x.., quotes and backslashes escaped. */
static void quote(struct span text, char *out, size_t size)
{
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < text.len && n + 6 < size; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < ' ' || c >= 0x80) {
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            out[n++] = '\\';
        out[n++] = (char)c;
    }
    out[n++] = '"';
    out[n] = '\0';
}

static int bad_duration(struct err *err, struct span whole, const char *what)
{
    char quoted[512];

    quote(whole, quoted, sizeof(quoted));
    return err_set(err, EINVAL, "time: %s duration %s", what, quoted);
}

static int bad_duration_unit(struct err *err, struct span whole, struct span unit)
{
    char quoted[512], quoted_unit[128];

    quote(whole, quoted, sizeof(quoted));
    quote(unit, quoted_unit, sizeof(quoted_unit));
    return err_set(err, EINVAL, "time: unknown unit %s in duration %s", quoted_unit, quoted);
}

static uint64_t duration_unit(struct span unit)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        { "ns", 1 },         { "us", 1000 },      { "\u00b5s", 1000 }, /* micro sign */
        { "\u03bcs", 1000 },                                           /* Greek mu */
        { "ms", 1000000 },   { "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 },
    };

    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (span_equal(unit, span_of(units[i].name)))
            return units[i].ns;
    return 0;
}

struct decimal {
    uint64_t whole, fraction;
    double scale; /* fraction / scale is the part after the point */
};

/* Takes "12", "12.5", ".5" or "12." off; -EINVAL when there is no digit or too many. */
static int take_decimal(struct span *text, struct decimal *ret)
{
    struct decimal d = { .scale = 1 };
    size_t n_digits = 0;
    bool full = false;

    for (; text->len > 0 && is_digit(text->ptr[0]); *text = after(*text, 1), n_digits++) {
        if (d.whole > DURATION_LIMIT / 10)
            return -EINVAL;
        d.whole = d.whole * 10 + (uint64_t)(text->ptr[0] - '0');
        if (d.whole > DURATION_LIMIT)
            return -EINVAL;
    }
    if (text->len > 0 && text->ptr[0] == '.') {
        *text = after(*text, 1);
        for (; text->len > 0 && is_digit(text->ptr[0]); *text = after(*text, 1), n_digits++) {
            full = full || d.fraction > (DURATION_LIMIT - 1) / 10;
            if (full)
                continue; /* finer than anything that counts */
            d.fraction = d.fraction * 10 + (uint64_t)(text->ptr[0] - '0');
            d.scale *= 10;
        }
    }
    *ret = d;
    return n_digits ? 0 : -EINVAL;
}

static struct span take_unit(struct span *text)
{
    struct span unit = *text;

    unit.len = 0;
    while (unit.len < text->len && text->ptr[unit.len] != '.' && !is_digit(text->ptr[unit.len]))
        unit.len++;
    *text = after(*text, unit.len);
    return unit;
}

/* Adds that many units to *sum; -ERANGE beyond what a duration holds. */
static int add_units(uint64_t *sum, struct decimal d, uint64_t unit)
{
    if (d.whole > DURATION_LIMIT / unit)
        return -ERANGE;
    uint64_t ns = d.whole * unit;
    if (d.fraction > 0)
        ns += (uint64_t)((double)d.fraction * ((double)unit / d.scale));
    if (ns > DURATION_LIMIT)
        return -ERANGE;
    *sum += ns;
    return *sum > DURATION_LIMIT ? -ERANGE : 0;
}

int text_to_duration_ns(struct span text, int64_t *ret, struct err *err)
{
    struct span rest = text;
    bool negative = take_sign(&rest);
    struct decimal d;
    uint64_t sum = 0;

    if (span_equal(rest, SPAN("0")))
        return *ret = 0, 0;
    if (rest.len == 0)
        return bad_duration(err, text, "invalid");
    while (rest.len > 0) {
        if (take_decimal(&rest, &d) < 0)
            return bad_duration(err, text, "invalid");
        struct span unit = take_unit(&rest);
        if (unit.len == 0)
            return bad_duration(err, text, "missing unit in");
        uint64_t ns = duration_unit(unit);
        if (ns == 0)
            return bad_duration_unit(err, text, unit);
        if (add_units(&sum, d, ns) < 0)
            return bad_duration(err, text, "invalid");
    }
    if (sign_value(sum, negative, ret) < 0)
        return bad_duration(err, text, "invalid");
    return 0;
}

/* ---- Kubernetes quantities ---- */

/* Digits beyond these cannot matter: the result has to fit 63 bits. */
#define MANTISSA_LIMIT ((unsigned __int128)1000000000000000000u)

struct quantity {
    unsigned __int128 mantissa;
    int exponent10, exponent2;
    bool inexact; /* something below the last digit was dropped; quantities round away from zero */
};

static void add_digit(struct quantity *q, char digit, bool fraction)
{
    if (q->mantissa >= MANTISSA_LIMIT) {
        q->inexact |= digit != '0';
        q->exponent10 += !fraction;
        return;
    }
    q->mantissa = q->mantissa * 10 + (unsigned)(digit - '0');
    q->exponent10 -= fraction;
}

static int take_quantity_digits(struct span *text, struct quantity *q)
{
    bool fraction = false, any = false;

    for (; text->len > 0; *text = after(*text, 1)) {
        char c = text->ptr[0];
        if (c == '.' && !fraction) {
            fraction = true;
        } else if (is_digit(c)) {
            add_digit(q, c, fraction);
            any = true;
        } else {
            break;
        }
    }
    return any ? 0 : -EINVAL;
}

static int add_suffix(struct span suffix, struct quantity *q)
{
    static const struct {
        const char *name;
        int exponent10, exponent2;
    } suffixes[] = {
        { "", 0, 0 },    { "n", -9, 0 },  { "u", -6, 0 },  { "m", -3, 0 },
        { "k", 3, 0 },   { "M", 6, 0 },   { "G", 9, 0 },   { "T", 12, 0 },
        { "P", 15, 0 },  { "E", 18, 0 },  { "Ki", 0, 10 }, { "Mi", 0, 20 },
        { "Gi", 0, 30 }, { "Ti", 0, 40 }, { "Pi", 0, 50 }, { "Ei", 0, 60 },
    };
    int64_t exponent;

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        if (!span_equal(suffix, span_of(suffixes[i].name)))
            continue;
        q->exponent10 += suffixes[i].exponent10;
        q->exponent2 = suffixes[i].exponent2;
        return 0;
    }
    if ((suffix.ptr[0] | 0x20) != 'e')
        return -EINVAL;
    int r = text_to_i64(after(suffix, 1), &exponent);
    if (r < 0)
        return r;
    q->exponent10 += (int)MAX(MIN(exponent, 1000), -1000);
    return 0;
}

/* mantissa * 2^exponent2 * 10^exponent10, rounded away from zero. */
static int quantity_magnitude(struct quantity q, uint64_t *ret)
{
    unsigned __int128 value = q.mantissa;

    if (value == 0)
        return *ret = 0, 0;
    for (; q.exponent2 > 0; q.exponent2--)
        if (__builtin_mul_overflow(value, 2, &value))
            return -ERANGE;
    for (; q.exponent10 > 0; q.exponent10--)
        if (__builtin_mul_overflow(value, 10, &value))
            return -ERANGE;
    for (; q.exponent10 < 0 && value > 0; q.exponent10++) {
        q.inexact |= value % 10 != 0;
        value /= 10;
    }
    value += q.inexact;
    if (value > UINT64_MAX)
        return -ERANGE;
    *ret = (uint64_t)value;
    return 0;
}

int text_to_quantity_milli(struct span text, int64_t *ret)
{
    struct quantity q = { .exponent10 = 3 };
    bool negative = take_sign(&text);
    uint64_t magnitude = 0;
    int r = take_quantity_digits(&text, &q);

    if (r == 0)
        r = add_suffix(text, &q);
    if (r == 0)
        r = quantity_magnitude(q, &magnitude);
    return r < 0 ? r : sign_value(magnitude, negative, ret);
}

/* ---- patterns, encodings, spelling ---- */

bool text_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *retry = NULL;

    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (*pattern == *text) {
            pattern++, text++;
        } else if (star) {
            pattern = star + 1; /* let the last star take one character more */
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static size_t utf8_length(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xC2) /* a continuation, or an overlong form of ASCII */
        return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
}

size_t text_utf8_char(struct span text)
{
    const unsigned char *at = (const unsigned char *)text.ptr;
    size_t len = text.len > 0 ? utf8_length(at[0]) : 0;

    if (len == 0 || len > text.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    bool overlong = (at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xF0 && at[1] < 0x90);
    bool surrogate = at[0] == 0xED && at[1] >= 0xA0;
    bool too_high = at[0] == 0xF4 && at[1] >= 0x90;
    return overlong || surrogate || too_high ? 0 : len;
}

size_t text_utf8_prefix(struct span text)
{
    struct span rest = text;
    size_t step;

    while ((step = text_utf8_char(rest)) > 0)
        rest = after(rest, step);
    return text.len - rest.len;
}

/* Of a character of `len` bytes: C0 and C1, U+202A to U+202E, U+2066 to U+2069. */
static bool is_obeyed(const unsigned char *at, size_t len)
{
    if (len == 1)
        return at[0] < 0x20 || at[0] == 0x7F;
    if (len == 2)
        return at[0] == 0xC2 && at[1] < 0xA0;
    return len == 3 && at[0] == 0xE2 &&
           ((at[1] == 0x80 && at[2] >= 0xAA && at[2] <= 0xAE) ||
            (at[1] == 0x81 && at[2] >= 0xA6 && at[2] <= 0xA9));
}

void text_make_harmless(char *text)
{
    struct span rest = span_of(text);
    char *end = text;

    while (rest.len > 0) {
        size_t len = text_utf8_char(rest);

        if (len == 0 || is_obeyed((const unsigned char *)rest.ptr, len)) {
            *end++ = '?';
        } else {
            memmove(end, rest.ptr, len);
            end += len;
        }
        rest = after(rest, MAX(len, (size_t)1));
    }
    *end = '\0';
}

enum { WORD_MAX = 63 };

/* Edits (insert, delete, replace, swap two neighbours) that turn a into b; case does not count. */
static size_t edit_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *before = rows[0], *last = rows[1], *row = rows[2];

    for (size_t j = 0; j <= n_b; j++)
        last[j] = j;
    for (size_t i = 1; i <= n_a; i++) {
        row[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            row[j] = MIN(last[j - 1] + (x != y), MIN(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]))
                row[j] = MIN(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = last, last = row, row = oldest;
    }
    return last[n_b];
}

const char *text_nearest(const char *text, const char *const *words, size_t n_words)
{
    size_t len = strlen(text), best = MAX(len / 3, (size_t)1) + 1;
    const char *nearest = NULL;

    if (len == 0 || len > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n_words; i++) {
        size_t n_word = strlen(words[i]);
        size_t distance = n_word <= WORD_MAX ? edit_distance(text, len, words[i], n_word) : best;
        if (distance < best) {
            best = distance;
            nearest = words[i];
        }
    }
    return nearest;
}
