#include "gpu/vgpu.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "gpu/devnode.h"

enum {
    NVIDIA_VENDOR = 0x10de,
    PCI_CONFIG_BYTES = 256, /* what the classic capability list lives in */
    PCI_CONFIG_MAX_BYTES = 4096,
    PCI_MAX_DEVICES = 1 << 14,

    PCI_STATUS = 6,
    PCI_STATUS_HAS_CAPABILITIES = 0x10,
    PCI_CAPABILITIES = 0x34,
    PCI_CAPABILITY_VENDOR = 9,
    PCI_CAPABILITY_NONE = 0xff,
    VGPU_FIRST_RECORD = 5, /* after id, next, length, 'V', 'F' */
    VGPU_TEXT = 10,        /* bytes of each of the two texts in the version record */
};

/* The vendor-specific capability: id, next, length, then its own bytes. Empty when there is none.
 */
static struct span vendor_capability(struct span config)
{
    const uint8_t *bytes = (const uint8_t *)config.ptr;
    bool seen[PCI_CONFIG_BYTES] = {};

    if (!(bytes[PCI_STATUS] & PCI_STATUS_HAS_CAPABILITIES))
        return (struct span){};
    for (unsigned at = bytes[PCI_CAPABILITIES]; at > 0 && at + 3 <= PCI_CONFIG_BYTES && !seen[at];
         at = bytes[at + 1]) {
        seen[at] = true;
        if (bytes[at] == PCI_CAPABILITY_NONE)
            break;
        if (bytes[at] == PCI_CAPABILITY_VENDOR)
            return (struct span){ .ptr = config.ptr + at,
                                  .len = MIN((size_t)bytes[at + 2], config.len - at) };
    }
    return (struct span){};
}

/* Up to the first NUL, and only what is text. */
static void copy_text(char text[static VGPU_TEXT + 1], const char *bytes)
{
    struct span span = { .ptr = bytes, .len = strnlen(bytes, VGPU_TEXT) };

    span.len = text_utf8_prefix(span);
    memcpy(text, span.ptr, span.len);
    text[span.len] = '\0';
}

int vgpu_parse(struct span config, struct vgpu_record *ret, struct err *err)
{
    if (config.len < PCI_CONFIG_BYTES)
        return err_set(err, ENODATA,
                       "only %zu of %d bytes of PCI configuration space can be read: that needs "
                       "more privileges",
                       config.len, PCI_CONFIG_BYTES);
    struct span capability = vendor_capability(config);
    const uint8_t *bytes = (const uint8_t *)capability.ptr;
    if (capability.len < VGPU_FIRST_RECORD || bytes[3] != 'V' || bytes[4] != 'F')
        return 0;

    /* Records are id, length, content; the one with id 0 holds the versions. A length of 0 would
     * lead nowhere. */
    size_t at = VGPU_FIRST_RECORD;
    while (at + 2 <= capability.len && bytes[at] != 0 && bytes[at + 1] != 0)
        at += bytes[at + 1];
    if (at + 2 + 2 * VGPU_TEXT > capability.len || bytes[at] != 0)
        return err_set(err, EINVAL,
                       "cannot find driver version record in vendor specific capability");
    copy_text(ret->driver_version, capability.ptr + at + 2);
    copy_text(ret->driver_branch, capability.ptr + at + 2 + VGPU_TEXT);
    return 1;
}

static int keep_vgpu(const struct vgpu_record *record, struct arena *arena, struct vgpu_info *ret,
                     struct err *err)
{
    ret->present = true;
    ret->host_driver_version = arena_strdup(arena, record->driver_version);
    ret->host_driver_branch = arena_strdup(arena, record->driver_branch);
    return ret->host_driver_version && ret->host_driver_branch ? 0 : err_no_memory(err);
}

static int keep_problem(const char *device, const struct err *why, struct arena *arena,
                        struct vgpu_info *ret, struct err *err)
{
    ret->problem = arena_printf(arena, "%s: %s", device, why->text);
    return ret->problem ? 0 : err_no_memory(err);
}

/* Whether a directory entry is the address of one of NVIDIA's PCI devices; `name` gets it. */
static bool is_nvidia(int root, const char *entry, char name[static PCI_NAME_SIZE])
{
    if (!pci_name_from_nvml(entry, name))
        return false;
    struct reading vendor = devnode_pci_number(root, name, "vendor");
    return vendor.known && vendor.value == NVIDIA_VENDOR;
}

/* One device; `best` is the highest address of a vGPU so far. */
static int look_for_vgpu(int root, const char *name, char best[static PCI_NAME_SIZE],
                         struct arena *arena, struct vgpu_info *ret, struct err *err)
{
    char path[sizeof(PCI_DEVICES) + PCI_NAME_SIZE + 32], config[PCI_CONFIG_MAX_BYTES + 1];
    struct vgpu_record record;
    struct err why = {};

    snprintf(path, sizeof(path), PCI_DEVICES "/%s/config", name);
    ssize_t n = devnode_read(root, path, config, sizeof(config));
    int r = n < 0 ? err_set(&why, (int)-n, "cannot read its PCI configuration space: %s",
                            strerror((int)-n))
                  : vgpu_parse((struct span){ .ptr = config, .len = (size_t)n }, &record, &why);
    if (r == 0)
        return 0;
    if (r < 0) {
        ret->present |= r == -EINVAL;
        ret->scanned &= r == -EINVAL;
        return keep_problem(name, &why, arena, ret, err);
    }
    if (strcmp(name, best) < 0)
        return 0;
    snprintf(best, PCI_NAME_SIZE, "%s", name);
    return keep_vgpu(&record, arena, ret, err);
}

int vgpu_scan(int root, struct arena *arena, struct vgpu_info *ret, struct err *err)
{
    int fd = openat(root, PCI_DEVICES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *devices = fd >= 0 ? fdopendir(fd) : NULL;
    char name[PCI_NAME_SIZE], best[PCI_NAME_SIZE] = "";
    int r = 0;

    *ret = (struct vgpu_info){};
    if (!devices) {
        ret->problem = arena_printf(arena, "cannot list /" PCI_DEVICES ": %s", strerror(errno));
        return ret->problem ? 0 : err_no_memory(err);
    }
    ret->scanned = true;
    struct dirent *entry;
    for (unsigned n = 0; r == 0 && n < PCI_MAX_DEVICES && (entry = readdir(devices)); n++)
        if (is_nvidia(root, entry->d_name, name))
            r = look_for_vgpu(root, name, best, arena, ret, err);
    closedir(devices);
    return r;
}
