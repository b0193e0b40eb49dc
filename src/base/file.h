/*
 * Whole files: read with a ceiling, replaced atomically.
 * Paths are relative to a directory fd (AT_FDCWD for the current one).
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "base/text.h"

/* The content, NUL-terminated (the NUL not counted), in the arena. -ENOENT and friends; -EFBIG
 * above max bytes; the sentence starts with the path. */
[[nodiscard]] int file_read(int dir, const char *path, size_t max, struct arena *arena,
                            struct span *ret, struct err *err);

/* The same for a file of one short line, trailing white space removed. */
[[nodiscard]] int file_read_line(int dir, const char *path, struct arena *arena, char **ret,
                                 struct err *err);

/* Writes beside it, fsyncs, renames over it, fsyncs the directory. A reader sees old or new. */
[[nodiscard]] int file_replace(int dir, const char *path, struct span content, unsigned mode,
                               struct err *err);

/* mkdir -p. */
[[nodiscard]] int file_make_dirs(const char *path, unsigned mode, struct err *err);

/* rm -r, on one file system, never through a symlink. Missing is success. */
int file_remove_tree(const char *path, struct err *err);

bool file_exists(const char *path);
bool file_is_char_device(const char *path);
