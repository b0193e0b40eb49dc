/*
 * One event, one line, on stderr: a constant sentence and typed fields.
 *
 *     log_warn("mps daemon exited, restarting", F_STR("gpu", uuid), F_INT("status", status));
 *     2026-11-24T08:15:13.042Z warn mps daemon exited, restarting gpu=GPU-… status=1
 *
 * error: someone must act; warn: we coped; info: the state of the node changed; debug: the way
 * there. Only actors log (agent, operator, the daemons they supervise); rooms below return an err.
 * Values that hold anything but plain characters are quoted and escaped; secrets are never fields.
 */
#pragma once

#include "base/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_N_LEVELS };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *name;
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_BOOL } type;
    const char *str;
    int64_t number;
};

#define F_STR(n, v) ((struct log_field){ .name = (n), .type = LOG_FIELD_STR, .str = (v) })
#define F_INT(n, v)                                                                                \
    ((struct log_field){ .name = (n), .type = LOG_FIELD_INT, .number = (int64_t)(v) })
#define F_MS(n, v)   F_INT(n "_ms", v)
#define F_BOOL(n, v) ((struct log_field){ .name = (n), .type = LOG_FIELD_BOOL, .number = (v) })
#define F_ERR(e)     F_STR("error", (e)->text)

#define LOG_FIELDS(...)                                                                            \
    (const struct log_field[]){ __VA_ARGS__ },                                                     \
        sizeof((const struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field)
#define log_error(text, ...) log_event(LOG_ERROR, text, LOG_FIELDS(__VA_ARGS__))
#define log_warn(text, ...)  log_event(LOG_WARN, text, LOG_FIELDS(__VA_ARGS__))
#define log_info(text, ...)  log_event(LOG_INFO, text, LOG_FIELDS(__VA_ARGS__))
#define log_debug(text, ...) log_event(LOG_DEBUG, text, LOG_FIELDS(__VA_ARGS__))

void log_set_level(enum log_level level);
void log_set_format(enum log_format format);
/* "error", "warn", "info", "debug"; -EINVAL for another word. */
[[nodiscard]] int log_level_from_name(const char *name, enum log_level *ret);

void log_event(enum log_level level, const char *text, const struct log_field *fields,
               size_t n_fields);
