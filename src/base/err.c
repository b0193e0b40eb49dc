#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const char ellipsis[] = "…";

/* Ends a text that was cut at `size` bytes with an ellipsis, never inside a UTF-8 character. */
static void mark_cut(char *text, size_t size)
{
    size_t end = size - sizeof(ellipsis);

    while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--;
    memcpy(text + end, ellipsis, sizeof(ellipsis));
}

int err_set(struct err *err, int code, const char *format, ...)
{
    va_list args;

    if (!err)
        return -code;
    err->code = code;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    if (n >= (int)sizeof(err->text))
        mark_cut(err->text, sizeof(err->text));
    text_make_harmless(err->text);
    return -code;
}

int err_wrap(struct err *err, int r, const char *format, ...)
{
    char context[sizeof(err->text)], whole[2 * sizeof(err->text) + 2];
    va_list args;

    if (!err)
        return r;
    va_start(args, format);
    vsnprintf(context, sizeof(context), format, args);
    va_end(args);
    int n = snprintf(whole, sizeof(whole), "%s: %s", context, err->text);
    memcpy(err->text, whole, MIN((size_t)n + 1, sizeof(err->text)));
    if (n >= (int)sizeof(err->text))
        mark_cut(err->text, sizeof(err->text));
    text_make_harmless(err->text);
    err->code = -r;
    return r;
}

int err_no_memory(struct err *err)
{
    return err_set(err, ENOMEM, "out of memory");
}
