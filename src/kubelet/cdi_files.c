#include "kubelet/cdi_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/text.h"

static const char *const library_dirs[] = {
    "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
    "/lib64",     "/lib/x86_64-linux-gnu",     "/lib/aarch64-linux-gnu",
};
static const char *const program_dirs[] = { "/usr/bin", "/usr/sbin", "/bin", "/sbin" };
static const char *const programs[] = {
    "nvidia-smi",
    "nvidia-debugdump",
    "nvidia-persistenced",
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-imex",
    "nvidia-imex-ctl",
};
/* How the loaders of GL, Vulkan, EGL and X find the driver. */
static const char *const configurations[] = {
    "/etc/glvnd/egl_vendor.d/10_nvidia.json",
    "/etc/vulkan/icd.d/nvidia_icd.json",
    "/etc/vulkan/implicit_layer.d/nvidia_layers.json",
    "/usr/share/X11/xorg.conf.d/10-nvidia.conf",
    "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
    "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
    "/usr/share/nvidia/nvoptix.bin",
    "/usr/share/vulkan/icd.d/nvidia_icd.json",
    "/usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
};
static const char *const sockets[] = {
    "/run/nvidia-fabricmanager/socket",
    "/run/nvidia-persistenced/socket",
};

/* ---- looking inside a root ---- */

int cdi_open_in(int root, const char *path, int flags)
{
    struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT };
    int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

    /* Kernels before 5.6, and sandboxes that do not know the call. */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = openat(root, path + strspn(path, "/"), flags | O_CLOEXEC);
    return fd;
}

static bool stat_in(int root, const char *path, struct stat *ret)
{
    auto_close int fd = cdi_open_in(root, path, O_PATH);

    return fd >= 0 && fstat(fd, ret) == 0;
}

void cdi_node_look(int root, const char *path, struct cdi_node *ret)
{
    struct stat st;

    *ret = (struct cdi_node){ .path = path, .exists = stat_in(root, path, &st) };
    if (!ret->exists || !S_ISCHR(st.st_mode))
        return;
    ret->known = true;
    ret->major = major(st.st_rdev);
    ret->minor = minor(st.st_rdev);
    ret->mode = st.st_mode & 0777;
    ret->gid = st.st_gid;
}

/* ---- lists ---- */

static int add(struct arena *arena, struct cdi_paths_list *list, const char *path, struct err *err)
{
    if (!path)
        return err_no_memory(err);
    if (list->n == CDI_MAX_FILES)
        return err_set(err, E2BIG, "more than %d files of one kind below the driver root",
                       CDI_MAX_FILES);
    const char **slot = arena_push(arena, &list->items, &list->n);
    if (!slot)
        return err_no_memory(err);
    *slot = path;
    return 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, and nothing twice. */
static void sort(struct cdi_paths_list *list)
{
    size_t n = 0;

    if (list->n == 0)
        return;
    qsort(list->items, list->n, sizeof(list->items[0]), by_text);
    for (size_t i = 0; i < list->n; i++)
        if (i == 0 || !text_equal(list->items[i], list->items[n - 1]))
            list->items[n++] = list->items[i];
    list->n = n;
}

static int add_existing(int root, struct arena *arena, const char *path,
                        struct cdi_paths_list *list, struct err *err)
{
    struct stat st;

    if (!stat_in(root, path, &st) || S_ISDIR(st.st_mode))
        return 0;
    return add(arena, list, path, err);
}

/* Calls fn for each name in the folder; a missing folder has none. */
typedef int name_fn(void *user, const char *dir, const char *name, struct err *err);

static int each_name(int root, const char *dir, name_fn *fn, void *user, struct err *err)
{
    int fd = cdi_open_in(root, dir, O_RDONLY | O_DIRECTORY), r = 0;
    DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (!entries) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    while (r == 0 && (entry = readdir(entries)))
        if (entry->d_name[0] != '.')
            r = fn(user, dir, entry->d_name, err);
    closedir(entries);
    return r;
}

struct prefix {
    struct arena *arena;
    const char *text;
    struct cdi_paths_list *list;
};

static int add_prefixed(void *user, const char *dir, const char *name, struct err *err)
{
    const struct prefix *prefix = user;

    if (!text_starts(name, prefix->text))
        return 0;
    return add(prefix->arena, prefix->list, arena_printf(prefix->arena, "%s/%s", dir, name), err);
}

int cdi_nodes_list(int root, const char *dir, const char *text, struct arena *arena,
                   struct cdi_paths_list *ret, struct err *err)
{
    struct cdi_paths_list list = {};
    struct prefix prefix = { arena, text, &list };
    int r = each_name(root, dir, add_prefixed, &prefix, err);

    if (r < 0)
        return r;
    sort(&list);
    *ret = list;
    return 0;
}

/* ---- the driver ---- */

struct look {
    int root;
    const char *version;
    struct arena *arena;
    struct cdi_driver *driver;
    bool dir_counts; /* the folder that is looked into had a library */
};

/* "libcuda.so.570.124.06", and nothing of another driver that was left behind. */
static bool is_library(const struct look *look, const char *name)
{
    size_t len = strlen(name), tail = strlen(look->version);

    return len > tail + 4 && text_ends(name, look->version) &&
           strncmp(name + len - tail - 4, ".so.", 4) == 0;
}

static int take_library(void *user, const char *dir, const char *name, struct err *err)
{
    struct look *look = user;
    struct stat st;
    char *path;

    if (!is_library(look, name))
        return 0;
    path = arena_printf(look->arena, "%s/%s", dir, name);
    if (!path)
        return err_no_memory(err);
    if (!stat_in(look->root, path, &st) || !S_ISREG(st.st_mode))
        return 0;
    look->dir_counts = true;
    return add(look->arena, &look->driver->files, path, err);
}

/* Where a link in a folder leads, when that is beside it. */
static bool read_link(int dir, const char *name, char target[static 256])
{
    ssize_t n = readlinkat(dir, name, target, 255);

    if (n <= 0 || n >= 255)
        return false;
    target[n] = '\0';
    return !strchr(target, '/');
}

/* The name a program asks the loader for, libX.so.1, which points at one of our libraries; or the
 * one a compiler asks for, libX.so, which points there in a second step. */
static int take_link(void *user, const char *dir, const char *name, struct err *err)
{
    struct look *look = user;
    auto_close int fd = cdi_open_in(look->root, dir, O_PATH | O_DIRECTORY);
    char target[256], next[256];

    if ((!strstr(name, ".so.") && !text_ends(name, ".so")) || is_library(look, name) || fd < 0 ||
        !read_link(fd, name, target))
        return 0;
    if (!is_library(look, target) &&
        !(text_ends(name, ".so") && read_link(fd, target, next) && is_library(look, next)))
        return 0;
    return add(look->arena, &look->driver->links,
               arena_printf(look->arena, "%s::%s/%s", target, dir, name), err);
}

/* Links that are made whether or not the host has them. */
static int add_usual_links(struct look *look, const char *dir, struct err *err)
{
    static const struct {
        const char *library, *target, *name; /* NULL: the library itself */
    } usual[] = {
        { "libcuda.so", "libcuda.so.1", "libcuda.so" },
        { "libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1", "libnvidia-opticalflow.so" },
        { "libGLX_nvidia.so", NULL, "libGLX_indirect.so.0" },
        { "libnvidia-allocator.so", "../libnvidia-allocator.so.1", "gbm/nvidia-drm_gbm.so" },
        { "libnvidia-vulkan-producer.so", NULL, "libnvidia-vulkan-producer.so" },
    };
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(usual) && r == 0; i++) {
        struct stat st;
        char *file = arena_printf(look->arena, "%s.%s", usual[i].library, look->version);
        char *path = arena_printf(look->arena, "%s/%s", dir, file ? file : "");

        if (!file || !path)
            return err_no_memory(err);
        if (!stat_in(look->root, path, &st))
            continue;
        r = add(look->arena, &look->driver->links,
                arena_printf(look->arena, "%s::%s/%s", usual[i].target ? usual[i].target : file,
                             dir, usual[i].name),
                err);
    }
    return r;
}

/* A folder under two names (/lib64 is usually a link to /usr/lib64) counts once. */
static bool is_new_dir(int root, const char *dir, struct stat *seen, size_t *n_seen)
{
    struct stat st;

    if (!stat_in(root, dir, &st) || !S_ISDIR(st.st_mode))
        return false;
    for (size_t i = 0; i < *n_seen; i++)
        if (seen[i].st_dev == st.st_dev && seen[i].st_ino == st.st_ino)
            return false;
    seen[(*n_seen)++] = st;
    return true;
}

static int take_library_dir(struct look *look, const char *dir, struct err *err)
{
    char *vdpau = arena_printf(look->arena, "%s/vdpau", dir);
    int r = vdpau ? 0 : err_no_memory(err);

    look->dir_counts = false;
    if (r == 0)
        r = each_name(look->root, dir, take_library, look, err);
    if (r == 0 && look->dir_counts) {
        r = add(look->arena, &look->driver->library_dirs, dir, err);
        if (r == 0)
            r = each_name(look->root, dir, take_link, look, err);
        if (r == 0)
            r = add_usual_links(look, dir, err);
    }
    if (r == 0)
        r = each_name(look->root, vdpau, take_library, look, err);
    return r;
}

static int take_libraries(struct look *look, struct err *err)
{
    struct stat seen[ARRAY_LEN(library_dirs)];
    size_t n_seen = 0;
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(library_dirs) && r == 0; i++)
        if (is_new_dir(look->root, library_dirs[i], seen, &n_seen))
            r = take_library_dir(look, library_dirs[i], err);
    return r;
}

static int take_programs(struct look *look, struct err *err)
{
    struct stat seen[ARRAY_LEN(program_dirs)];
    size_t n_seen = 0;
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(program_dirs); i++) {
        if (!is_new_dir(look->root, program_dirs[i], seen, &n_seen))
            continue;
        for (size_t k = 0; k < ARRAY_LEN(programs) && r == 0; k++) {
            char *path = arena_printf(look->arena, "%s/%s", program_dirs[i], programs[k]);

            r = path ? add_existing(look->root, look->arena, path, &look->driver->files, err)
                     : err_no_memory(err);
        }
    }
    return r;
}

static int take_firmware(struct look *look, struct err *err)
{
    struct cdi_paths_list found;
    char *dir = arena_printf(look->arena, "/lib/firmware/nvidia/%s", look->version);
    int r =
        dir ? cdi_nodes_list(look->root, dir, "gsp", look->arena, &found, err) : err_no_memory(err);

    for (size_t i = 0; r == 0 && i < found.n; i++)
        if (text_ends(found.items[i], ".bin"))
            r = add(look->arena, &look->driver->files, found.items[i], err);
    return r;
}

static int take_fixed(struct look *look, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(configurations) && r == 0; i++)
        r = add_existing(look->root, look->arena, configurations[i], &look->driver->files, err);
    for (size_t i = 0; i < ARRAY_LEN(sockets) && r == 0; i++)
        r = add_existing(look->root, look->arena, sockets[i], &look->driver->sockets, err);
    return r;
}

static bool has_library(const struct look *look, const char *name)
{
    for (size_t i = 0; i < look->driver->files.n; i++)
        if (text_ends(look->driver->files.items[i], name))
            return true;
    return false;
}

int cdi_driver_look(const char *driver_root, const char *version, struct arena *arena,
                    struct cdi_driver *ret, struct err *err)
{
    auto_close int root = open(driver_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct cdi_driver driver = {};
    struct look look = { .root = root, .version = version, .arena = arena, .driver = &driver };
    char *cuda = arena_printf(arena, "/libcuda.so.%s", version);
    int r = cuda ? 0 : err_no_memory(err);

    if (r == 0 && root >= 0)
        r = take_libraries(&look, err);
    if (r == 0 && !has_library(&look, cuda))
        return err_set(err, ENOENT, "%s: not found", cuda + 1);
    if (r == 0)
        r = take_programs(&look, err);
    if (r == 0)
        r = take_firmware(&look, err);
    if (r == 0)
        r = take_fixed(&look, err);
    if (r < 0)
        return r;
    sort(&driver.files);
    sort(&driver.library_dirs);
    sort(&driver.links);
    *ret = driver;
    return 0;
}
