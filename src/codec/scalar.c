#include "codec/scalar.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

/* Longer words are never numbers that anyone means. */
enum { NUMBER_LIMIT = 512 };

struct word {
    const char *text;
    struct scalar scalar;
};

#define NOTHING                                                                                    \
    {                                                                                              \
        .kind = VALUE_NULL                                                                         \
    }
#define BOOLEAN(b)                                                                                 \
    {                                                                                              \
        .kind = VALUE_BOOL, .boolean = (b)                                                         \
    }
#define FLOATING(f)                                                                                \
    {                                                                                              \
        .kind = VALUE_FLOAT, .number = (f)                                                         \
    }

static const struct word words[] = {
    { "", NOTHING },
    { "~", NOTHING },
    { "null", NOTHING },
    { "Null", NOTHING },
    { "NULL", NOTHING },
    { "y", BOOLEAN(true) },
    { "Y", BOOLEAN(true) },
    { "yes", BOOLEAN(true) },
    { "Yes", BOOLEAN(true) },
    { "YES", BOOLEAN(true) },
    { "true", BOOLEAN(true) },
    { "True", BOOLEAN(true) },
    { "TRUE", BOOLEAN(true) },
    { "on", BOOLEAN(true) },
    { "On", BOOLEAN(true) },
    { "ON", BOOLEAN(true) },
    { "n", BOOLEAN(false) },
    { "N", BOOLEAN(false) },
    { "no", BOOLEAN(false) },
    { "No", BOOLEAN(false) },
    { "NO", BOOLEAN(false) },
    { "false", BOOLEAN(false) },
    { "False", BOOLEAN(false) },
    { "FALSE", BOOLEAN(false) },
    { "off", BOOLEAN(false) },
    { "Off", BOOLEAN(false) },
    { "OFF", BOOLEAN(false) },
    { ".nan", FLOATING(NAN) },
    { ".NaN", FLOATING(NAN) },
    { ".NAN", FLOATING(NAN) },
    { ".inf", FLOATING(INFINITY) },
    { ".Inf", FLOATING(INFINITY) },
    { ".INF", FLOATING(INFINITY) },
    { "+.inf", FLOATING(INFINITY) },
    { "+.Inf", FLOATING(INFINITY) },
    { "+.INF", FLOATING(INFINITY) },
    { "-.inf", FLOATING(-INFINITY) },
    { "-.Inf", FLOATING(-INFINITY) },
    { "-.INF", FLOATING(-INFINITY) },
};

static bool find_word(struct span text, struct scalar *ret)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (span_equal(text, span_of(words[i].text)))
            return *ret = words[i].scalar, true;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t skip_digits(const char **at)
{
    const char *start = *at;

    while (is_digit(**at))
        ++*at;
    return (size_t)(*at - start);
}

/* [-+]? digits, at most one point among or around them, and an exponent if you like. */
static bool looks_like_float(const char *at)
{
    if (*at == '-' || *at == '+')
        at++;
    size_t n_digits = skip_digits(&at);
    if (*at == '.') {
        at++;
        size_t n_fraction = skip_digits(&at);
        if (n_digits == 0 && n_fraction == 0)
            return false;
        n_digits += n_fraction;
    }
    if (n_digits == 0)
        return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        if (*at == '-' || *at == '+')
            at++;
        if (skip_digits(&at) == 0)
            return false;
    }
    return *at == '\0';
}

/* The program keeps LC_NUMERIC at "C", so that strtod reads what it would anywhere. A number too
 * large for a double is a string in Go, not an infinity. */
static bool read_float(const char *text, struct scalar *ret)
{
    if (!looks_like_float(text))
        return false;
    double number = strtod(text, NULL);
    if (!isfinite(number))
        return false;
    *ret = (struct scalar){ .kind = VALUE_FLOAT, .number = number };
    return true;
}

/* Go drops the underscores of a number first, wherever they stand; but of one that begins with a
 * point it keeps them, and then they may only separate digits. */
static bool underscores_fit(struct span text)
{
    if (text.ptr[0] != '.')
        return true;
    for (size_t i = 1; i < text.len; i++)
        if (text.ptr[i] == '_' &&
            (i + 1 == text.len || !is_digit(text.ptr[i - 1]) || !is_digit(text.ptr[i + 1])))
            return false;
    return true;
}

static bool read_number(struct span text, struct scalar *ret)
{
    char plain[NUMBER_LIMIT];
    struct span digits = { .ptr = plain };
    int64_t integer;
    uint64_t large;

    if (text.len >= sizeof(plain) || !underscores_fit(text))
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] != '_')
            plain[digits.len++] = text.ptr[i];
    plain[digits.len] = '\0';

    if (text_to_i64_any_base(digits, &integer) == 0)
        return *ret = (struct scalar){ .kind = VALUE_INT, .integer = integer }, true;
    if (text_to_u64_any_base(digits, &large) == 0)
        return *ret = (struct scalar){ .kind = VALUE_FLOAT, .number = (double)large }, true;
    return strlen(plain) == digits.len && read_float(plain, ret);
}

struct scalar scalar_read(struct span text)
{
    struct scalar scalar = { .kind = VALUE_STRING };

    if (find_word(text, &scalar))
        return scalar;
    char first = text.ptr[0];
    if (is_digit(first) || first == '-' || first == '+' || first == '.')
        read_number(text, &scalar);
    return scalar;
}

int scalar_read_tagged(struct span tag, struct span text, struct scalar *ret)
{
    static const struct {
        const char *tag;
        enum value_kind kind;
    } kinds[] = {
        { "tag:yaml.org,2002:null", VALUE_NULL },
        { "tag:yaml.org,2002:bool", VALUE_BOOL },
        { "tag:yaml.org,2002:int", VALUE_INT },
        { "tag:yaml.org,2002:float", VALUE_FLOAT },
    };

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!span_equal(tag, span_of(kinds[i].tag)))
            continue;
        struct scalar scalar = scalar_read(text);
        if (scalar.kind == VALUE_INT && kinds[i].kind == VALUE_FLOAT)
            scalar = (struct scalar){ .kind = VALUE_FLOAT, .number = (double)scalar.integer };
        if (scalar.kind != kinds[i].kind)
            return -EINVAL;
        *ret = scalar;
        return 0;
    }
    *ret = (struct scalar){ .kind = VALUE_STRING };
    return 0;
}

/* ---- numbers as Go writes them ---- */

struct decimal {
    bool negative;
    char digits[20]; /* without trailing zeros, at least one */
    int exponent;    /* digits[0].digits[1]… times ten to this */
};

/* The fewest digits that read back as the same number. */
static struct decimal shortest(double number, bool single)
{
    char text[40];
    double back;
    int precision = 0;

    do {
        snprintf(text, sizeof(text), "%.*e", precision, fabs(number));
        back = single ? (double)strtof(text, NULL) : strtod(text, NULL);
    } while (back != fabs(number) && ++precision < 17);

    struct decimal d = { .negative = signbit(number), .digits = { text[0] } };
    const char *e = strchr(text, 'e');
    if (text[1] == '.')
        memcpy(d.digits + 1, text + 2, (size_t)(e - text - 2));
    d.exponent = atoi(e + 1);
    return d;
}

static void write_with_exponent(struct decimal d, char *out)
{
    snprintf(out, SCALAR_NUMBER_SIZE, "%s%c%s%s", d.negative ? "-" : "", d.digits[0],
             d.digits[1] ? "." : "", d.digits + 1);
    size_t len = strlen(out);
    snprintf(out + len, SCALAR_NUMBER_SIZE - len, "e%c%02d", d.exponent < 0 ? '-' : '+',
             abs(d.exponent));
}

static void write_plainly(struct decimal d, char *out)
{
    int n_digits = (int)strlen(d.digits);
    char *at = out;

    if (d.negative)
        *at++ = '-';
    for (int place = MAX(d.exponent, 0); place >= MIN(d.exponent - n_digits + 1, 0); place--) {
        int digit = d.exponent - place;
        if (place == -1)
            *at++ = '.';
        *at++ = digit >= 0 && digit < n_digits ? d.digits[digit] : '0';
    }
    *at = '\0';
}

void scalar_float_text(double number, char ret[SCALAR_NUMBER_SIZE])
{
    ret[0] = '\0';
    if (!isfinite(number))
        return;
    struct decimal d = shortest(number, false);
    if (number == 0 || (d.exponent >= -6 && d.exponent < 21)) {
        write_plainly(d, ret);
        return;
    }
    write_with_exponent(d, ret);
    size_t len = strlen(ret); /* of a small exponent, JSON's encoder drops the zero */
    if (ret[len - 3] == '-' && ret[len - 2] == '0') {
        ret[len - 2] = ret[len - 1];
        ret[len - 1] = '\0';
    }
}

/* Go writes a float key as if it were a float32, in the style of printf's %g. */
static void float_key(double number, char *out)
{
    float narrow = (float)number;

    if (isnan(narrow) || isinf(narrow)) {
        snprintf(out, SCALAR_KEY_SIZE, "%s",
                 isnan(narrow) ? ".nan"
                 : narrow < 0  ? "-.inf"
                               : ".inf");
        return;
    }
    struct decimal d = shortest((double)narrow, true);
    if (narrow == 0 || (d.exponent >= -4 && d.exponent < 6))
        write_plainly(d, out);
    else
        write_with_exponent(d, out);
}

int scalar_key(struct scalar scalar, char ret[SCALAR_KEY_SIZE])
{
    switch (scalar.kind) {
    case VALUE_BOOL:
        snprintf(ret, SCALAR_KEY_SIZE, "%s", scalar.boolean ? "true" : "false");
        return 0;
    case VALUE_INT:
        snprintf(ret, SCALAR_KEY_SIZE, "%" PRId64, scalar.integer);
        return 0;
    case VALUE_FLOAT:
        float_key(scalar.number, ret);
        return 0;
    default:
        return -EINVAL;
    }
}
