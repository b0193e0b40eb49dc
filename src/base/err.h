/*
 * A code for the program and a sentence for a person.
 *
 * A function that can fail returns zero or more on success and a negative errno on failure; its
 * last parameter is a struct err on the caller's stack, which may be NULL ("I do not care why").
 * On success the err is untouched. The lowest level names the thing (err_set), each level above
 * adds where it was going (err_wrap), so the outermost context comes first and the cause last:
 *
 *     step 2 of 3 on GPU-8a1f…: cannot remove GPU instance 4: process 3121 still holds it
 *
 * An err has no destructor. A sentence that does not fit is cut and ends in "…"; what a terminal
 * would obey in the words of others is a "?" in it (text_make_harmless), so it is one line.
 */
#pragma once

#include <stdarg.h>

#include "base/base.h"

struct err {
    int code;        /* an errno, positive; 0 while nothing has gone wrong */
    char text[1024]; /* outermost context first, cause last; never a trailing newline */
};

/* Both return -code (err_wrap: its r), so that `return err_set(err, EINVAL, "…")` reads well. */
PRINTF(3, 4) int err_set(struct err *err, int code, const char *format, ...);
PRINTF(3, 4) int err_wrap(struct err *err, int r, const char *format, ...);

/* err_set for lack of memory: -ENOMEM. */
int err_no_memory(struct err *err);
