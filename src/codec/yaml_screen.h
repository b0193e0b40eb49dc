/*
 * What libfyaml never gets to see. Debian 12 carries version 0.7.12, which takes control
 * characters and broken UTF-8 in silence, and has faults that some texts set off; the screen turns
 * these away. For yaml.c.
 */
#pragma once

#include "codec/yaml.h"

/* Takes a byte order mark off the front of *text and looks at every character. */
[[nodiscard]] int yaml_screen(struct span *text, const struct yaml_limits *limits,
                              struct yaml_fault *fault);

/* Whether only blanks and comments stand from byte `at` to the end or to a line that begins with
 * --- or ... . libfyaml takes a document for ended where something follows that can be no part of
 * it, and would leave the rest unread. */
[[nodiscard]] int yaml_screen_rest(struct span text, size_t at, struct yaml_fault *fault);

PRINTF(4, 5)
int yaml_fault_set(struct yaml_fault *fault, struct place place, int code, const char *format, ...);
