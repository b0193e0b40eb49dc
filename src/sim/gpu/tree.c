#include "sim/gpu/tree.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { MAX_TEXT = 4096 };

int tree_open(struct tree *tree, const char *dir, struct err *err)
{
    tree->r = 0;
    tree->fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (tree->fd < 0)
        return err_set(err, errno, "%s: %s", dir, strerror(errno));
    return 0;
}

void tree_done(struct tree *tree)
{
    base_close(&tree->fd);
    tree->fd = -EBADF;
}

int tree_result(const struct tree *tree, struct err *err)
{
    if (tree->r < 0)
        return err_set(err, -tree->r, "cannot write %s: %s", tree->failed, strerror(-tree->r));
    return 0;
}

static void fail(struct tree *tree, const char *path)
{
    if (tree->r < 0)
        return;
    tree->r = -errno;
    snprintf(tree->failed, sizeof(tree->failed), "%s", path);
}

const char *tree_at(struct tree *tree, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(tree->path, sizeof(tree->path), format, args);
    va_end(args);
    return tree->path;
}

static int make_dirs_above(struct tree *tree, const char *path)
{
    char part[PATH_MAX];

    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
        if (mkdirat(tree->fd, part, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

static int open_fresh(struct tree *tree, const char *path)
{
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    int fd = openat(tree->fd, path, flags, 0600);

    if (fd < 0 && errno == EEXIST) {
        unlinkat(tree->fd, path, 0);
        fd = openat(tree->fd, path, flags, 0600);
    }
    if (fd < 0 && errno == ENOENT && make_dirs_above(tree, path) >= 0)
        fd = openat(tree->fd, path, flags, 0600);
    return fd;
}

void tree_bytes(struct tree *tree, const char *path, unsigned mode, const void *bytes, size_t n)
{
    if (tree->r < 0)
        return;

    auto_close int fd = open_fresh(tree, path);
    ssize_t written = fd < 0 ? -1 : write(fd, bytes, n);

    if (written >= 0 && (size_t)written < n)
        errno = ENOSPC;
    if (written < 0 || (size_t)written < n || fchmod(fd, mode) < 0)
        fail(tree, path);
}

void tree_file(struct tree *tree, const char *path, unsigned mode, const char *format, ...)
{
    char text[MAX_TEXT];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    tree_bytes(tree, path, mode, text, MIN((size_t)n, sizeof(text) - 1));
}

void tree_words(struct tree *tree, const char *path, unsigned mode, size_t n,
                const struct tree_word *words, size_t n_words)
{
    if (tree->r < 0)
        return;

    auto_close int fd = open_fresh(tree, path);
    bool ok = fd >= 0 && ftruncate(fd, (off_t)n) == 0 && fchmod(fd, mode) == 0;

    for (size_t i = 0; ok && i < n_words; i++) {
        uint32_t value = htole32(words[i].value);
        ok = pwrite(fd, &value, sizeof(value), words[i].at) == sizeof(value);
    }
    if (!ok)
        fail(tree, path);
}

void tree_dir(struct tree *tree, const char *path)
{
    if (tree->r >= 0 &&
        (make_dirs_above(tree, path) < 0 || (mkdirat(tree->fd, path, 0755) < 0 && errno != EEXIST)))
        fail(tree, path);
}

void tree_link(struct tree *tree, const char *path, const char *target)
{
    if (tree->r < 0)
        return;
    unlinkat(tree->fd, path, 0);
    if (make_dirs_above(tree, path) < 0 || symlinkat(target, tree->fd, path) < 0)
        fail(tree, path);
}

void tree_device(struct tree *tree, const char *path, unsigned mode, unsigned major, unsigned minor)
{
    if (tree->r < 0)
        return;
    unlinkat(tree->fd, path, 0);
    if (make_dirs_above(tree, path) < 0) {
        fail(tree, path);
        return;
    }
    if (mknodat(tree->fd, path, S_IFCHR | mode, makedev(major, minor)) < 0)
        tree_bytes(tree, path, mode, "", 0);
    else if (fchmodat(tree->fd, path, mode, 0) < 0)
        fail(tree, path);
}

void tree_remove(struct tree *tree, const char *path)
{
    if (tree->r >= 0 && unlinkat(tree->fd, path, 0) < 0 && errno != ENOENT &&
        unlinkat(tree->fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
        fail(tree, path);
}

bool tree_has(const struct tree *tree, const char *path)
{
    return faccessat(tree->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool tree_move(struct tree *tree, const char *from, const char *to)
{
    return tree->r >= 0 && renameat(tree->fd, from, tree->fd, to) == 0;
}
