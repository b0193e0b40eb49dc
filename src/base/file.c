#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/buf.h"

enum {
    LINE_LIMIT = 4096,
    NAME_LIMIT = 4096,
    TREE_DEPTH_LIMIT = 128, /* each level holds one directory open */
};

static int fail(struct err *err, const char *path, const char *verb)
{
    int code = errno;

    return err_set(err, code, "%s: cannot %s: %s", path, verb, strerror(code));
}

int file_read(int dir, const char *path, size_t max, struct arena *arena, struct span *ret,
              struct err *err)
{
    auto_(buf_done) struct buf content = BUF_MAX(max);
    auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return fail(err, path, "open");
    int r = buf_read_all(&content, fd, err);
    if (r < 0)
        return err_wrap(err, r, "%s", path);
    char *copy = arena_spandup(arena, buf_span(&content));
    if (!copy)
        return err_wrap(err, err_no_memory(err), "%s", path);
    *ret = (struct span){ .ptr = copy, .len = content.len };
    return 0;
}

int file_read_line(int dir, const char *path, struct arena *arena, char **ret, struct err *err)
{
    struct span content;
    int r = file_read(dir, path, LINE_LIMIT, arena, &content, err);

    if (r < 0)
        return r;
    while (content.len > 0 && strchr(" \t\r\n", content.ptr[content.len - 1]))
        content.len--;
    if (content.len > 0 &&
        (memchr(content.ptr, '\0', content.len) || memchr(content.ptr, '\n', content.len)))
        return err_set(err, EINVAL, "%s: it holds more than one line of text", path);
    char *line = arena_spandup(arena, content);
    if (!line)
        return err_wrap(err, err_no_memory(err), "%s", path);
    *ret = line;
    return 0;
}

/* ---- replacing ---- */

static int write_all(int fd, struct span rest)
{
    while (rest.len > 0) {
        ssize_t n = write(fd, rest.ptr, rest.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        rest = (struct span){ .ptr = rest.ptr + n, .len = rest.len - (size_t)n };
    }
    return 0;
}

/* Writes a new file and makes it last; the caller removes it when that fails. */
static int write_new(int dir, const char *name, struct span content, unsigned mode)
{
    auto_close int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || write_all(fd, content) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0)
        return -1;
    return 0;
}

/* Opens the directory a path is in; *ret_name is the path's last part. */
static int open_parent(int dir, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char parent[NAME_LIMIT];

    *ret_name = slash ? slash + 1 : path;
    if (!slash)
        return openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t len = MAX((size_t)(slash - path), (size_t)1); /* of "/name" it is "/" */
    if (len >= sizeof(parent))
        return errno = ENAMETOOLONG, -1;
    memcpy(parent, path, len);
    parent[len] = '\0';
    return openat(dir, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int file_replace(int dir, const char *path, struct span content, unsigned mode, struct err *err)
{
    const char *name;
    auto_close int parent = open_parent(dir, path, &name);
    char beside[NAME_LIMIT];
    uint64_t random;

    if (parent < 0)
        return fail(err, path, "open its directory");
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return fail(err, path, "make a temporary name");
    int n = snprintf(beside, sizeof(beside), ".%s.%016llx", name, (unsigned long long)random);
    if (n >= (int)sizeof(beside))
        return err_set(err, ENAMETOOLONG, "%s: the name is too long", path);

    if (write_new(parent, beside, content, mode) < 0 ||
        renameat(parent, beside, parent, name) < 0) {
        int r = fail(err, path, "write");
        unlinkat(parent, beside, 0);
        return r;
    }
    return fsync(parent) < 0 ? fail(err, path, "sync its directory") : 0;
}

/* ---- directories ---- */

int file_make_dirs(const char *path, unsigned mode, struct err *err)
{
    char part[NAME_LIMIT];
    struct stat st;
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(part))
        return err_set(err, len ? ENAMETOOLONG : ENOENT, "%s: not a name for a directory", path);
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return fail(err, part, "make the directory");
    }
    if (stat(path, &st) < 0)
        return fail(err, path, "make the directory");
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "%s: it exists and is not a directory", path);
    return 0;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static int remove_entry(int dir, const char *name, dev_t device, unsigned depth, const char *root,
                        struct err *err);

static int remove_content(int parent, const char *name, dev_t device, unsigned depth,
                          const char *root, struct err *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    auto_(close_dir) DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (!dir) {
        int r = fail(err, root, "open a directory in it");
        if (fd >= 0)
            close(fd);
        return r;
    }
    while ((errno = 0, entry = readdir(dir))) {
        if (text_equal(entry->d_name, ".") || text_equal(entry->d_name, ".."))
            continue;
        int r = remove_entry(fd, entry->d_name, device, depth + 1, root, err);
        if (r < 0)
            return r;
    }
    return errno ? fail(err, root, "read a directory in it") : 0;
}

/* Depth of recursion is bounded, because the tree may be somebody else's. */
static int remove_entry(int dir, const char *name, dev_t device, unsigned depth, const char *root,
                        struct err *err)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail(err, root, "look into it");
    if (S_ISDIR(st.st_mode)) {
        if (st.st_dev != device)
            return err_set(err, EXDEV, "%s: cannot remove: another file system is mounted on %s",
                           root, name);
        if (depth > TREE_DEPTH_LIMIT)
            return err_set(err, ELOOP, "%s: cannot remove: more than %d levels deep", root,
                           TREE_DEPTH_LIMIT);
        int r = remove_content(dir, name, device, depth, root, err);
        if (r < 0)
            return r;
    }
    if (unlinkat(dir, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
        return fail(err, root, "remove");
    return 0;
}

int file_remove_tree(const char *path, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : fail(err, path, "look into it");
    return remove_entry(AT_FDCWD, path, st.st_dev, 0, path, err);
}

bool file_exists(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0;
}

bool file_is_char_device(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISCHR(st.st_mode);
}
