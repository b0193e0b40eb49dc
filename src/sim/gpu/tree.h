/*
 * Writing many small files below one directory: each word does its part and remembers the first
 * failure, so that a writer goes straight through and looks once at the end.
 *
 *     auto_(tree_done) struct tree tree = TREE_NONE;
 *     int r = tree_open(&tree, dir, err);
 *     if (r < 0)
 *         return r;
 *     tree_file(&tree, tree_at(&tree, "gpu%u/uuid", i), 0444, "%s\n", uuid);
 *     return tree_result(&tree, err);
 *
 * Directories above a file are made as needed. What is there already is replaced.
 */
#pragma once

#include <errno.h>
#include <limits.h>

#include "base/base.h"
#include "base/err.h"

struct tree {
    int fd; /* owned */
    int r;  /* the first failure, a negative errno */
    char path[PATH_MAX], failed[PATH_MAX];
};

#define TREE_NONE                                                                                  \
    (struct tree)                                                                                  \
    {                                                                                              \
        .fd = -EBADF                                                                               \
    }

[[nodiscard]] int tree_open(struct tree *tree, const char *dir, struct err *err);
void tree_done(struct tree *tree);
[[nodiscard]] int tree_result(const struct tree *tree, struct err *err);

/* A formatted path, good until the next one. */
PRINTF(2, 3) const char *tree_at(struct tree *tree, const char *format, ...);

PRINTF(4, 5)
void tree_file(struct tree *tree, const char *path, unsigned mode, const char *format, ...);
void tree_bytes(struct tree *tree, const char *path, unsigned mode, const void *bytes, size_t n);
/* A sparse file of n bytes, zero but for these 32-bit little-endian words. */
struct tree_word {
    uint32_t at, value;
};
void tree_words(struct tree *tree, const char *path, unsigned mode, size_t n,
                const struct tree_word *words, size_t n_words);
void tree_dir(struct tree *tree, const char *path);
void tree_link(struct tree *tree, const char *path, const char *target);
/* A character device where this process may make one, else an empty file. */
void tree_device(struct tree *tree, const char *path, unsigned mode, unsigned major,
                 unsigned minor);
/* A file or an empty directory; that it is missing is fine. */
void tree_remove(struct tree *tree, const char *path);
bool tree_has(const struct tree *tree, const char *path);
/* A rename to where nothing is; false, and no failure, when it cannot be. */
bool tree_move(struct tree *tree, const char *from, const char *to);
