#include "cli/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OUTPUT_MAX_BYTES = 256 << 20, OUTPUT_INDENT = 2 };

const char *const output_format_names[OUTPUT_N_FORMATS] = { "text", "json", "yaml" };

int output_format_parse(const char *word, enum output_format *ret, struct err *err)
{
    for (size_t i = 0; i < OUTPUT_N_FORMATS; i++) {
        if (text_equal(word, output_format_names[i])) {
            *ret = (enum output_format)i;
            return 0;
        }
    }
    const char *near = text_nearest(word, output_format_names, OUTPUT_N_FORMATS);
    return err_set(err, EINVAL, "there is no output format \"%s\": %s%s%suse text, json or yaml",
                   word, near ? "did you mean " : "", near ? near : "", near ? "? " : "");
}

int output_print(FILE *to, enum output_format format, const json_t *value, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(OUTPUT_MAX_BYTES);

    int r = format == OUTPUT_YAML ? json_to_yaml(value, &text)
                                  : json_to_text(value, OUTPUT_INDENT, &text);
    if (r == 0 && format != OUTPUT_YAML)
        r = buf_add_char(&text, '\n');
    if (r < 0)
        return err_set(err, -r, "cannot print it: %s", strerror(-r));
    if (fwrite(text.ptr, 1, text.len, to) != text.len || fflush(to) != 0)
        return err_set(err, errno, "cannot print it: %s", strerror(errno));
    return 0;
}

/* ---- colour ---- */

bool output_is_terminal(FILE *to)
{
    return isatty(fileno(to)) == 1;
}

bool output_colour(FILE *to)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    if ((no_color && *no_color) || !term || text_equal(term, "dumb"))
        return false;
    return output_is_terminal(to);
}

const char *output_style(bool colour, enum output_style style)
{
    static const char *const sequences[OUTPUT_N_STYLES] = {
        [STYLE_PLAIN] = "",        [STYLE_BOLD] = "\033[1m",  [STYLE_DIM] = "\033[2m",
        [STYLE_GOOD] = "\033[32m", [STYLE_WARN] = "\033[33m", [STYLE_BAD] = "\033[31m",
    };

    return colour ? sequences[style] : "";
}

const char *output_unstyle(bool colour, enum output_style style)
{
    return colour && style != STYLE_PLAIN ? "\033[0m" : "";
}

int output_fail(const char *verb, const struct err *err)
{
    fflush(stdout);
    fprintf(stderr, "tranche %s: %s\n", verb, err->text);
    return 1;
}
