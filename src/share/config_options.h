/*
 * Options and where their values come from: flag, environment, file, default, in this order
 * (spec/device-plugin §2.1). For the files of config only; others read struct config.
 *
 * A setting and all it points to live in the arena of the load.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "codec/value.h"
#include "share/config.h"
#include "share/finding.h"

enum {
    OPTIONS_MAX_ELEMENTS = 1024,  /* of one list; the longest that makes sense has ten */
    OPTIONS_MAX_BYTES = 64 << 10, /* of one value; more than a path or a list of names needs */
};

enum option_id {
#define OPTION(id, ...) OPTION_##id,
#include "share/config_options.def"
    OPTION_N
};

enum option_type {
    TYPE_STRING,
    TYPE_BOOL,
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_DURATION, /* of Go, or `infinite` */
    TYPE_STRINGS,
    TYPE_INTS,
    TYPE_N
};

enum { ON_PLUGIN = 1 << PROGRAM_PLUGIN, ON_DISCOVERY = 1 << PROGRAM_FEATURE_DISCOVERY };
enum { ON_MPS = 1 << PROGRAM_MPS_DAEMON };

struct option {
    enum option_type type;
    unsigned programs; /* ON_… bits: whose flag it is; a file may hold it for all */
    const char *name, *aliases;
    const char *variables, *discovery_variables;
    const char *key; /* in the file, from the top: "flags.plugin.passDeviceSpecs"; or "" */
    const char *initial, *help;
};

extern const struct option options[OPTION_N];

/* The comma-separated variables that the option has in this program. */
const char *option_variables(const struct option *option, enum program program);

enum setting_source { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_FLAG };

struct setting {
    enum setting_source source;
    const char *origin; /* the variable's name; NULL for other sources */
    struct place place; /* in the file; 0:0 for other sources */
    const char *text;   /* TYPE_STRING */
    bool on;            /* TYPE_BOOL */
    int64_t number;     /* TYPE_INT; TYPE_DURATION in ns, INT64_MAX for infinite */
    double real;        /* TYPE_FLOAT */
    size_t n;           /* TYPE_STRINGS, TYPE_INTS */
    const char **texts;
    int64_t *numbers;
};

struct settings {
    struct setting of[OPTION_N];
};

/* Defaults, environment and flags. -EINVAL with upstream's sentence. */
[[nodiscard]] int settings_read(const struct config_input *input, struct arena *arena,
                                struct settings *ret, enum config_request *ret_request,
                                struct err *err);

/*
 * One value as a flag or a variable gives it, into the fields of *setting for its type; elements
 * are added to those it has. -EINVAL with Go's reason (`strconv.ParseBool: parsing "x": invalid
 * syntax`).
 */
[[nodiscard]] int setting_parse(enum option_type type, struct span text, struct arena *arena,
                                struct setting *setting, struct err *err);

/* A duration as files and flags have it: Go's, or `infinite`. */
[[nodiscard]] int option_duration(struct span text, int64_t *ret_ns, struct err *err);
