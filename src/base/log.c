#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

/* One value may be this long; what is longer is cut. A line's ceiling leaves room for a dozen. */
enum { VALUE_MAX = 2048, LINE_MAX_BYTES = 128 << 10 };

static enum log_level log_level = LOG_INFO;
static enum log_format log_format = LOG_TEXT;

static const char *const level_names[LOG_N_LEVELS] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

void log_set_level(enum log_level level)
{
    log_level = level;
}

void log_set_format(enum log_format format)
{
    log_format = format;
}

int log_level_from_name(const char *name, enum log_level *ret)
{
    for (size_t i = 0; i < LOG_N_LEVELS; i++)
        if (text_equal(name, level_names[i]))
            return *ret = (enum log_level)i, 0;
    return -EINVAL;
}

static void add_time(struct buf *line)
{
    struct timespec now = {};
    struct tm tm = {};
    char day[32];

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(line, "%s.%03ldZ", day, now.tv_nsec / 1000000);
}

/* The bytes of a character as they are, or escaped where a terminal, a parser of key=value or a
 * parser of JSON could take them for more than text. */
static void add_char(struct buf *line, struct span c, bool json)
{
    unsigned char first = (unsigned char)c.ptr[0];
    bool c1_control = c.len == 2 && first == 0xC2 && (unsigned char)c.ptr[1] < 0xA0;

    if (first == '"' || first == '\\')
        buf_printf(line, "\\%c", first);
    else if (first == '\n')
        buf_add_text(line, "\\n");
    else if (first == '\t')
        buf_add_text(line, "\\t");
    else if (first < 0x20 || first == 0x7f)
        buf_printf(line, json ? "\\u%04x" : "\\x%02x", first);
    else if (c1_control)
        buf_printf(line, "\\u%04x", (unsigned char)c.ptr[1]);
    else
        buf_add(line, c.ptr, c.len);
}

static void add_quoted(struct buf *line, const char *text, bool json)
{
    struct span rest = span_of(text);
    size_t left = VALUE_MAX, n;

    buf_add_char(line, '"');
    for (; rest.len > 0 && left >= 4; rest.ptr += n, rest.len -= n, left -= n) {
        n = text_utf8_char(rest);
        if (n > 0) {
            add_char(line, (struct span){ rest.ptr, n }, json);
            continue;
        }
        n = 1; /* not UTF-8: JSON has no way to say it */
        if (json)
            buf_add_text(line, "\ufffd");
        else
            buf_printf(line, "\\x%02x", (unsigned char)rest.ptr[0]);
    }
    if (rest.len > 0)
        buf_add_text(line, "…");
    buf_add_char(line, '"');
}

/* Nothing a reader of key=value could stumble over: graphic ASCII but for = " \. */
static bool is_plain(const char *text)
{
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("=\"\\", text[i]))
            return false;
    return len > 0 && len < VALUE_MAX;
}

static void add_value(struct buf *line, const struct log_field *field, bool json)
{
    switch (field->type) {
    case LOG_FIELD_INT:
        buf_printf(line, "%" PRId64, field->number);
        break;
    case LOG_FIELD_BOOL:
        buf_add_text(line, field->number ? "true" : "false");
        break;
    case LOG_FIELD_STR:
        if (!field->str)
            buf_add_text(line, "null");
        else if (!json && is_plain(field->str))
            buf_add_text(line, field->str);
        else
            add_quoted(line, field->str, json);
        break;
    }
}

static void add_text_line(struct buf *line, enum log_level level, const char *text,
                          const struct log_field *fields, size_t n_fields)
{
    add_time(line);
    buf_printf(line, " %s %s", level_names[level], text);
    for (size_t i = 0; i < n_fields; i++) {
        buf_printf(line, " %s=", fields[i].name);
        add_value(line, &fields[i], false);
    }
    buf_add_char(line, '\n');
}

static void add_json_line(struct buf *line, enum log_level level, const char *text,
                          const struct log_field *fields, size_t n_fields)
{
    buf_add_text(line, "{\"time\":\"");
    add_time(line);
    buf_printf(line, "\",\"level\":\"%s\",\"msg\":", level_names[level]);
    add_quoted(line, text, true);
    for (size_t i = 0; i < n_fields; i++) {
        buf_add_char(line, ',');
        add_quoted(line, fields[i].name, true);
        buf_add_char(line, ':');
        add_value(line, &fields[i], true);
    }
    buf_add_text(line, "}\n");
}

/* One write, so that lines of several processes on one stderr do not run into each other. */
static void write_line(struct span line)
{
    ssize_t n;

    do {
        n = write(STDERR_FILENO, line.ptr, line.len);
    } while (n < 0 && errno == EINTR);
}

void log_event(enum log_level level, const char *text, const struct log_field *fields,
               size_t n_fields)
{
    auto_(buf_done) struct buf line = BUF_MAX(LINE_MAX_BYTES);
    int saved = errno;

    if (level > log_level)
        return;
    if (log_format == LOG_JSON)
        add_json_line(&line, level, text, fields, n_fields);
    else
        add_text_line(&line, level, text, fields, n_fields);
    /* Without memory for the fields, the sentence alone is better than silence. */
    write_line(line.failed ? span_of(text) : buf_span(&line));
    if (line.failed)
        write_line(SPAN("\n"));
    errno = saved;
}
