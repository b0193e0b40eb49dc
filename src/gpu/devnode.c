#include "gpu/devnode.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"

enum {
    SMALL_FILE_MAX_BYTES = 256, /* one number, one short line */
    MACHINE_MAX_BYTES = 4096,
};

#define IMEX_CHANNEL0 "/dev/nvidia-caps-imex-channels/channel0"

int devnode_root(const char *root, int *ret, struct err *err)
{
    int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno, "cannot open %s: %s", root, strerror(errno));
    *ret = fd;
    return 0;
}

/* ---- small files ---- */

ssize_t devnode_read(int dir, const char *path, char *content, size_t size)
{
    auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;

    if (fd < 0)
        return -errno;
    while (len < size - 1) {
        ssize_t n = read(fd, content + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    content[len] = '\0';
    return (ssize_t)len;
}

static struct reading read_number(int dir, const char *path)
{
    char content[SMALL_FILE_MAX_BYTES];
    ssize_t n = devnode_read(dir, path, content, sizeof(content));
    int64_t value;

    if (n < 0)
        return (struct reading){};
    struct span text = span_trim((struct span){ .ptr = content, .len = (size_t)n });
    if (text_to_i64_any_base(text, &value) < 0 || value < 0)
        return (struct reading){};
    return READING((uint64_t)value);
}

struct reading devnode_pci_number(int root, const char *pci_name, const char *file)
{
    char path[sizeof(PCI_DEVICES) + PCI_NAME_SIZE + 32];

    if (!*pci_name)
        return (struct reading){};
    snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", pci_name, file);
    return read_number(root, path);
}

struct reading devnode_numa_node(int root, const char *pci_name)
{
    return devnode_pci_number(root, pci_name, "numa_node");
}

struct reading devnode_pci_class(int root, const char *pci_name)
{
    return devnode_pci_number(root, pci_name, "class");
}

bool pci_name_from_nvml(const char *bus_id, char name[static PCI_NAME_SIZE])
{
    unsigned domain, bus, device, function;
    int end = 0;

    name[0] = '\0';
    if (!isxdigit((unsigned char)bus_id[0]) ||
        sscanf(bus_id, "%8x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &end) != 4 ||
        bus_id[end])
        return false;
    snprintf(name, PCI_NAME_SIZE, "%04x:%02x:%02x.%x", domain, bus, device, function);
    return true;
}

int devnode_machine(int root, const char *file, struct arena *arena, const char **ret,
                    struct err *err)
{
    char content[MACHINE_MAX_BYTES];

    *ret = NULL;
    ssize_t n = file ? (*file ? devnode_read(AT_FDCWD, file, content, sizeof(content)) : -ENOENT)
                     : devnode_read(root, MACHINE_FILE, content, sizeof(content));
    if (n < 0)
        return 0;
    struct span text = span_trim((struct span){ .ptr = content, .len = (size_t)n });
    text.len = text_utf8_prefix(text);
    *ret = arena_spandup(arena, text);
    return *ret ? 0 : err_no_memory(err);
}

int devnode_cap_path(struct arena *arena, uint32_t minor, const char **ret, struct err *err)
{
    *ret = NULL;
    if (minor == 0)
        return 0;
    *ret = arena_printf(arena, "/dev/nvidia-caps/nvidia-cap%u", minor);
    return *ret ? 0 : err_no_memory(err);
}

/* ---- device nodes of the node ---- */

static const char *const control_nodes[] = { "/dev/nvidiactl", "/dev/nvidia-uvm",
                                             "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset" };

/* Where device nodes are looked for, in this order. */
struct dev_places {
    int fds[2];
    size_t n;
};

static bool find_node(const struct dev_places *places, const char *path, struct stat *ret)
{
    for (size_t i = 0; i < places->n; i++)
        if (fstatat(places->fds[i], path + 1, ret, 0) == 0)
            return true;
    return false;
}

/* Whether a directory has a name that begins with `prefix`. */
static bool find_prefix(const struct dev_places *places, const char *dir, const char *prefix)
{
    bool found = false;

    for (size_t i = 0; i < places->n && !found; i++) {
        int fd = openat(places->fds[i], dir + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
        if (!entries)
            continue;
        for (struct dirent *entry; !found && (entry = readdir(entries));)
            found = text_starts(entry->d_name, prefix);
        closedir(entries);
    }
    return found;
}

static int read_imex(const struct dev_places *places, struct inventory *inventory, struct err *err)
{
    struct stat status;
    char *problem;

    if (!find_node(places, IMEX_CHANNEL0, &status))
        problem = arena_strdup(&inventory->arena, "requested IMEX channel channel0 does not exist");
    else if (!S_ISCHR(status.st_mode))
        problem = arena_strdup(&inventory->arena, IMEX_CHANNEL0 " is not a character device");
    else
        return inventory->imex_channel0 = true, 0;
    inventory->imex_problem = problem;
    return problem ? 0 : err_no_memory(err);
}

int devnode_read_node(int root, const char *driver_root, struct inventory *inventory,
                      struct err *err)
{
    const char **found = arena_new_array(&inventory->arena, const char *, ARRAY_LEN(control_nodes));
    auto_close int driver = -1;
    struct dev_places places = {};
    struct stat status;

    if (!found)
        return err_no_memory(err);
    inventory->control_nodes = found;
    for (size_t i = 0; i < ARRAY_LEN(control_nodes); i++)
        if (fstatat(root, control_nodes[i] + 1, &status, 0) == 0)
            found[inventory->n_control_nodes++] = control_nodes[i];

    if (driver_root && *driver_root)
        driver = open(driver_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (driver >= 0 && fstatat(driver, "dev", &status, 0) == 0 && S_ISDIR(status.st_mode))
        places.fds[places.n++] = driver;
    places.fds[places.n++] = root;

    /* CDI specifications name what is below the first place: what lies elsewhere cannot be given.
     */
    const struct dev_places first = { .fds = { places.fds[0] }, .n = 1 };
    inventory->gdrcopy_nodes = find_node(&first, "/dev/gdrdrv", &status);
    inventory->gds_nodes = find_prefix(&first, "/dev", "nvidia-fs");
    inventory->mofed_nodes = find_node(&first, "/dev/infiniband/rdma_cm", &status) ||
                             find_prefix(&first, "/dev/infiniband", "uverbs");
    return read_imex(&places, inventory, err);
}
