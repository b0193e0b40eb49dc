#include <errno.h>
#include <inttypes.h>

#include "codec/json.h"
#include "codec/scalar.h"

/* ---- strings ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* `2001-01-01` and `1:30` are strings to us, but a date and a number to other readers. */
static bool looks_like_time(struct span text)
{
    size_t n_digits = 0, n_timely = 0;

    while (n_digits < text.len && is_digit(text.ptr[n_digits]))
        n_digits++;
    for (size_t i = 0; i < text.len; i++)
        n_timely += is_digit(text.ptr[i]) || strchr(":._+-", text.ptr[i]) != NULL;
    if (n_digits == 4 && text.len > 6 && text.ptr[4] == '-')
        return true;
    return n_timely == text.len && memchr(text.ptr, ':', text.len);
}

/* Whether the string begins with something that means more than itself. */
static bool has_odd_begin(struct span text)
{
    char first = text.ptr[0], second = text.len > 1 ? text.ptr[1] : ' ';

    if (text_starts(text.ptr, "---") || text_starts(text.ptr, "..."))
        return true;
    if (strchr("-?:", first))
        return second == ' ' || first != '-'; /* `--flag` is plain */
    return strchr(" ,[]{}#&*!|>'\"%@`=<", first) != NULL;
}

static bool has_odd_middle(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        char next = i + 1 < text.len ? text.ptr[i + 1] : ' ';
        if (c < 0x20 || c >= 0x7f)
            return true;
        if ((c == ':' && next == ' ') || (c == ' ' && next == '#'))
            return true;
    }
    return text.ptr[text.len - 1] == ' ';
}

static bool is_plain(struct span text)
{
    return scalar_read(text).kind == VALUE_STRING && !has_odd_begin(text) &&
           !has_odd_middle(text) && !looks_like_time(text);
}

/* Characters that YAML's readers refuse, fold or cannot show, by their code point; 0 for others. */
static unsigned needs_escape(const unsigned char *c, size_t len)
{
    unsigned code = len == 2   ? (c[0] & 0x1Fu) << 6 | (c[1] & 0x3Fu)
                    : len == 3 ? (c[0] & 0x0Fu) << 12 | (c[1] & 0x3Fu) << 6 | (c[2] & 0x3Fu)
                               : 0;
    bool refused = (code >= 0x80 && code < 0xA0) || code == 0xFEFF || code >= 0xFFFE;
    bool breaks = code == 0x2028 || code == 0x2029;

    return refused || breaks ? code : 0;
}

static void add_char(struct buf *out, struct span c)
{
    unsigned char first = (unsigned char)c.ptr[0];
    unsigned code = needs_escape((const unsigned char *)c.ptr, c.len);

    if (code)
        buf_printf(out, "\\u%04x", code);
    else if (first == '"' || first == '\\')
        buf_printf(out, "\\%c", first);
    else if (first == '\n')
        buf_add_text(out, "\\n");
    else if (first == '\t')
        buf_add_text(out, "\\t");
    else if (first < 0x20 || first == 0x7f)
        buf_printf(out, "\\x%02x", first);
    else
        buf_add(out, c.ptr, c.len);
}

static void add_string(struct buf *out, struct span text)
{
    size_t len;

    if (is_plain(text)) {
        buf_add(out, text.ptr, text.len);
        return;
    }
    buf_add_char(out, '"');
    for (; (len = text_utf8_char(text)) > 0; text.ptr += len, text.len -= len)
        add_char(out, (struct span){ text.ptr, len });
    buf_add_char(out, '"');
}

/* ---- values ---- */

static void add_scalar(struct buf *out, const json_t *json)
{
    char number[SCALAR_NUMBER_SIZE];

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        buf_add_text(out, "{}");
        break;
    case JSON_ARRAY:
        buf_add_text(out, "[]");
        break;
    case JSON_STRING:
        add_string(out, (struct span){ json_string_value(json), json_string_length(json) });
        break;
    case JSON_INTEGER:
        buf_printf(out, "%" PRId64, (int64_t)json_integer_value(json));
        break;
    case JSON_REAL:
        scalar_float_text(json_real_value(json), number);
        buf_add_text(out, number);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        buf_add_text(out, json_is_true(json) ? "true" : "false");
        break;
    case JSON_NULL:
        buf_add_text(out, "null");
        break;
    }
}

static bool is_block(const json_t *json)
{
    return json_array_size(json) > 0 || json_object_size(json) > 0;
}

static void add_block(struct buf *out, const json_t *json, unsigned indent);

/* Each line of a block but the first begins with the indentation; the first continues a line that
 * the caller has begun ("- ") or indented. */
static void add_list(struct buf *out, const json_t *list, unsigned indent)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        buf_printf(out, "%*s- ", i ? (int)indent : 0, "");
        if (is_block(item)) {
            add_block(out, item, indent + 2);
            continue;
        }
        add_scalar(out, item);
        buf_add_char(out, '\n');
    }
}

static void add_map(struct buf *out, const json_t *map, unsigned indent)
{
    bool first = true;
    const char *key;
    json_t *value;

    /* jansson's iterator wants a map that is not const, but leaves it alone. */
    json_object_foreach((json_t *)map, key, value)
    {
        buf_printf(out, "%*s", first ? 0 : (int)indent, "");
        first = false;
        add_string(out, span_of(key));
        buf_add_char(out, ':');
        if (is_block(value)) {
            /* Like kubectl, a list stands below its key without further indentation. */
            unsigned inner = json_is_array(value) ? indent : indent + 2;
            buf_printf(out, "\n%*s", (int)inner, "");
            add_block(out, value, inner);
            continue;
        }
        buf_add_char(out, ' ');
        add_scalar(out, value);
        buf_add_char(out, '\n');
    }
}

static void add_block(struct buf *out, const json_t *json, unsigned indent)
{
    if (json_is_array(json))
        add_list(out, json, indent);
    else
        add_map(out, json, indent);
}

int json_to_yaml(const json_t *json, struct buf *ret)
{
    if (is_block(json)) {
        add_block(ret, json, 0);
    } else {
        add_scalar(ret, json);
        buf_add_char(ret, '\n');
    }
    return ret->failed ? -EFBIG : 0;
}
