#include "kubelet/cdi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "codec/json.h"
#include "kubelet/cdi_files.h"

#define IMEX_CHANNEL0 "/dev/nvidia-caps-imex-channels/channel0"
#define CAPS_PREFIX   "/dev/nvidia-caps/nvidia-cap"

enum { MAJOR_NVIDIA = 195 };

/* A set on its way. Lack of memory in any step of JSON shows as `failed`, once. */
struct maker {
    const struct inventory *inventory;
    const struct config *config;
    struct arena *arena;
    int root, driver_root, dev_root; /* fds; dev_root is the one below which /dev is looked for */
    const char *host_dev;            /* what the host calls that */
    const char *host_driver;
    unsigned caps_major; /* 0: unknown */
    struct cdi_driver driver;
    bool failed;
};

/* One specification on its way. */
struct spec {
    struct maker *maker;
    json_t *devices;  /* owned */
    json_t *edits;    /* owned; of the whole specification */
    unsigned version; /* 3, 5, 7: of 0.3.0, 0.5.0, 0.7.0 */
};

static void spec_done(struct spec *spec)
{
    json_decref(spec->devices);
    json_decref(spec->edits);
}

static void need(struct spec *spec, unsigned version)
{
    spec->version = MAX(spec->version, version);
}

/* ---- JSON that remembers a failure ---- */

static void set(struct maker *maker, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) < 0)
        maker->failed = true;
}

static void append(struct maker *maker, json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) < 0)
        maker->failed = true;
}

/* The array under a key, made when first asked for; borrowed. */
static json_t *list_in(struct maker *maker, json_t *object, const char *key)
{
    json_t *list = json_object_get(object, key);

    if (!list) {
        list = json_array();
        set(maker, object, key, list);
    }
    return list;
}

static const char *join(struct maker *maker, const char *root, const char *path)
{
    size_t len = strlen(root);
    const char *joined;

    while (len > 0 && root[len - 1] == '/')
        len--;
    joined = arena_printf(maker->arena, "%.*s%s", (int)len, root, path);
    if (!joined)
        maker->failed = true;
    return joined ? joined : "";
}

/* ---- edits ---- */

/* What upstream leaves out and a runtime then stumbles over: a node that the driver makes later. */
static void guess_numbers(const struct maker *maker, struct cdi_node *node)
{
    unsigned minor;
    char end;

    if (sscanf(node->path, CAPS_PREFIX "%u%c", &minor, &end) == 1 && maker->caps_major) {
        node->known = true;
        node->major = maker->caps_major;
        node->minor = minor;
        node->mode = 0444;
    } else if (sscanf(node->path, "/dev/nvidia%u%c", &minor, &end) == 1) {
        node->known = true;
        node->major = MAJOR_NVIDIA;
        node->minor = minor;
        node->mode = 0666;
    }
}

static void add_group(struct spec *spec, json_t *edits, const struct cdi_node *node)
{
    json_t *gids = list_in(spec->maker, edits, "additionalGids");
    json_t *gid;
    size_t i;

    need(spec, 7);
    json_array_foreach(gids, i, gid) if (json_integer_value(gid) == (json_int_t)node->gid) return;
    append(spec->maker, gids, json_integer(node->gid));
}

static bool has_feature(const struct config *config, const char *flag)
{
    for (size_t i = 0; i < config->n_cdi_feature_flags; i++)
        if (text_equal(config->cdi_feature_flags[i], flag))
            return true;
    return false;
}

/* A node with numbers of its own need not exist when the container starts; one without is looked
 * up then. */
static void add_node(struct spec *spec, json_t *edits, const char *path)
{
    struct maker *maker = spec->maker;
    const char *host_path = join(maker, maker->host_dev, path);
    json_t *object = json_object();
    struct cdi_node node;

    cdi_node_look(maker->dev_root, path, &node);
    bool guessed = !node.exists;
    if (guessed)
        guess_numbers(maker, &node);
    set(maker, object, "path", json_string(path));
    if (!text_equal(host_path, path)) {
        set(maker, object, "hostPath", json_string(host_path));
        need(spec, 5);
    }
    if (guessed && node.known)
        set(maker, object, "type", json_string("c"));
    if (node.known) {
        set(maker, object, "major", json_integer(node.major));
        if (node.minor || guessed)
            set(maker, object, "minor", json_integer(node.minor));
        set(maker, object, "fileMode", json_integer(node.mode));
    }
    set(maker, object, "permissions", json_string("rwm"));
    if (node.known && node.gid) {
        set(maker, object, "gid", json_integer(node.gid));
        if ((node.mode & 06) != 06 &&
            !has_feature(maker->config, "no-additional-gids-for-device-nodes"))
            add_group(spec, edits, &node);
    }
    append(maker, list_in(maker, edits, "deviceNodes"), object);
}

static void add_mount(struct spec *spec, json_t *edits, const char *path, bool is_socket)
{
    static const char *const of_files[] = { "ro", "nosuid", "nodev", "rbind", "rprivate" };
    static const char *const of_sockets[] = { "nosuid", "nodev", "rbind", "rprivate", "noexec" };
    struct maker *maker = spec->maker;
    json_t *object = json_object(), *options = json_array();

    for (size_t i = 0; i < ARRAY_LEN(of_files); i++)
        append(maker, options, json_string(is_socket ? of_sockets[i] : of_files[i]));
    set(maker, object, "hostPath", json_string(join(maker, maker->host_driver, path)));
    set(maker, object, "containerPath", json_string(path));
    set(maker, object, "options", options);
    append(maker, list_in(maker, edits, "mounts"), object);
}

/* ---- hooks ---- */

static bool is_disabled(const struct config *config, const char *hook)
{
    for (size_t i = 0; i < config->n_cdi_disabled_hooks; i++)
        if (text_equal(config->cdi_disabled_hooks[i], hook) ||
            text_equal(config->cdi_disabled_hooks[i], "all"))
            return true;
    return false;
}

/* `flag` stands before each of the values; NULL: the values alone. */
static void add_hook(struct spec *spec, json_t *edits, const char *name, const char *flag,
                     const struct cdi_paths_list *values)
{
    struct maker *maker = spec->maker;
    const char *path = maker->config->cdi_hook_path, *slash = strrchr(path, '/');
    const char *program = slash ? slash + 1 : path;
    json_t *hook, *args;

    if (is_disabled(maker->config, name))
        return;
    hook = json_object();
    args = json_array();
    append(maker, args, json_string(program));
    if (text_equal(program, "nvidia-ctk"))
        append(maker, args, json_string("hook"));
    append(maker, args, json_string(name));
    for (size_t i = 0; values && i < values->n; i++) {
        if (flag)
            append(maker, args, json_string(flag));
        append(maker, args, json_string(values->items[i]));
    }
    set(maker, hook, "hookName", json_string("createContainer"));
    set(maker, hook, "path", json_string(path));
    set(maker, hook, "args", args);
    json_t *env = json_array();
    append(maker, env, json_string("NVIDIA_CTK_DEBUG=false"));
    set(maker, hook, "env", env);
    append(maker, list_in(maker, edits, "hooks"), hook);
}

static void add_driver_hooks(struct spec *spec, json_t *edits)
{
    struct maker *maker = spec->maker;
    const struct cdi_driver *driver = &maker->driver;
    const char *version =
        arena_printf(maker->arena, "--host-driver-version=%s", maker->inventory->driver_version);
    const struct cdi_paths_list one = { 1, &version };

    if (!version) {
        maker->failed = true;
        return;
    }
    if (driver->links.n > 0)
        add_hook(spec, edits, "create-symlinks", "--link", &driver->links);
    add_hook(spec, edits, "enable-cuda-compat", NULL, &one);
    add_hook(spec, edits, "update-ldcache", "--folder", &driver->library_dirs);
    add_hook(spec, edits, "disable-device-node-modification", NULL, NULL);
    add_hook(spec, edits, "update-application-profile", NULL, NULL);
}

/* ---- devices ---- */

/* Takes `edits` over; without any edit there is no device. */
static void add_device(struct spec *spec, const char *name, json_t *edits)
{
    json_t *device;

    if (json_object_size(edits) == 0) {
        json_decref(edits);
        return;
    }
    if (name[0] >= '0' && name[0] <= '9')
        need(spec, 5);
    device = json_object();
    set(spec->maker, device, "name", json_string(name));
    set(spec->maker, device, "containerEdits", edits);
    append(spec->maker, spec->devices, device);
}

/* The nodes of a display driver for the GPU's PCI device, and the links that name them by it. */
static void add_dri(struct spec *spec, json_t *edits, const struct gpu *gpu)
{
    struct maker *maker = spec->maker;
    struct cdi_paths_list found = {}, links = {};
    const char *dir = arena_printf(maker->arena, "/sys/bus/pci/devices/%s/drm", gpu->bus_id);

    if (!dir || cdi_nodes_list(maker->root, dir, "", maker->arena, &found, NULL) < 0) {
        maker->failed = true;
        return;
    }
    for (size_t i = 0; i < found.n; i++) {
        const char *name = strrchr(found.items[i], '/') + 1;
        bool is_card = text_starts(name, "card");
        struct cdi_node node;

        if (!is_card && !text_starts(name, "renderD"))
            continue;
        const char *path = arena_printf(maker->arena, "/dev/dri/%s", name);
        const char *by_path = arena_printf(maker->arena, "/dev/dri/by-path/pci-%s-%s", gpu->bus_id,
                                           is_card ? "card" : "render");
        const char *link = arena_printf(maker->arena, "../%s::%s", name, by_path ? by_path : "");
        const char **slot = arena_push(maker->arena, &links.items, &links.n);
        if (!path || !by_path || !link || !slot) {
            maker->failed = true;
            return;
        }
        cdi_node_look(maker->dev_root, path, &node);
        if (!node.exists) {
            links.n--;
            continue;
        }
        *slot = link;
        add_node(spec, edits, path);
    }
    if (links.n > 0)
        add_hook(spec, edits, "create-symlinks", "--link", &links);
}

static const char *gpu_path(struct maker *maker, const struct gpu *gpu)
{
    const char *path = arena_printf(maker->arena, "/dev/nvidia%u", gpu->minor);

    if (!path)
        maker->failed = true;
    return path ? path : "";
}

static void add_gpu(struct spec *spec, const struct gpu *gpu)
{
    char index[16];
    json_t *edits = json_object();

    snprintf(index, sizeof(index), "%u", gpu->index);
    add_node(spec, edits, gpu_path(spec->maker, gpu));
    add_dri(spec, edits, gpu);
    add_device(spec, spec->maker->config->device_id == DEVICE_ID_INDEX ? index : gpu->uuid, edits);
}

static void add_mig(struct spec *spec, const struct gpu *gpu, const struct mig_device *mig)
{
    char index[32];
    json_t *edits = json_object();

    snprintf(index, sizeof(index), "%u:%u", gpu->index, mig->index);
    add_node(spec, edits, gpu_path(spec->maker, gpu));
    if (mig->gi_cap_path)
        add_node(spec, edits, mig->gi_cap_path);
    if (mig->ci_cap_path)
        add_node(spec, edits, mig->ci_cap_path);
    if (strstr(mig->profile, "gfx"))
        add_dri(spec, edits, gpu);
    add_device(spec, spec->maker->config->device_id == DEVICE_ID_INDEX ? index : mig->uuid, edits);
}

static void add_env(struct spec *spec, json_t *edits)
{
    struct maker *maker = spec->maker;
    auto_(buf_done) struct buf dirs = BUF_MAX(KIB(64));
    json_t *env = list_in(maker, edits, "env");

    buf_add_text(&dirs, "NVIDIA_CTK_LIBCUDA_DIR=");
    for (size_t i = 0; i < maker->driver.library_dirs.n; i++)
        buf_printf(&dirs, "%s%s", i ? ":" : "", maker->driver.library_dirs.items[i]);
    maker->failed |= dirs.failed;
    append(maker, env, json_string(buf_text(&dirs)));
    append(maker, env, json_string("NVIDIA_VISIBLE_DEVICES=void"));
}

static void make_gpus(struct spec *spec)
{
    static const char *const control[] = { "/dev/nvidia-modeset", "/dev/nvidia-uvm",
                                           "/dev/nvidia-uvm-tools", "/dev/nvidiactl" };
    struct maker *maker = spec->maker;
    const struct inventory *inventory = maker->inventory;

    for (size_t i = 0; i < inventory->n_gpus; i++) {
        const struct gpu *gpu = &inventory->gpus[i];

        if (!gpu->mig_enabled || maker->config->mig_strategy == MIG_STRATEGY_NONE)
            add_gpu(spec, gpu);
        for (size_t k = 0; k < gpu->n_mig_devices; k++)
            add_mig(spec, gpu, &gpu->mig_devices[k]);
    }
    add_env(spec, spec->edits);
    for (size_t i = 0; i < ARRAY_LEN(control); i++) {
        struct cdi_node node;

        cdi_node_look(maker->dev_root, control[i], &node);
        if (node.exists)
            add_node(spec, spec->edits, control[i]);
    }
    for (size_t i = 0; i < maker->driver.files.n; i++)
        add_mount(spec, spec->edits, maker->driver.files.items[i], false);
    for (size_t i = 0; i < maker->driver.sockets.n; i++)
        add_mount(spec, spec->edits, maker->driver.sockets.items[i], true);
    add_driver_hooks(spec, spec->edits);
}

static void make_imex(struct spec *spec)
{
    json_t *edits = json_object();

    if (spec->maker->inventory->imex_channel0)
        add_node(spec, edits, IMEX_CHANNEL0);
    add_device(spec, "0", edits);
}

static void add_found_nodes(struct spec *spec, json_t *edits, const char *dir, const char *prefix)
{
    struct cdi_paths_list found = {};

    if (cdi_nodes_list(spec->maker->dev_root, dir, prefix, spec->maker->arena, &found, NULL) < 0)
        spec->maker->failed = true;
    for (size_t i = 0; i < found.n; i++)
        add_node(spec, edits, found.items[i]);
}

static void make_gdrcopy(struct spec *spec)
{
    json_t *edits = json_object();

    add_found_nodes(spec, edits, "/dev", "gdrdrv");
    add_device(spec, "all", edits);
}

static void make_gds(struct spec *spec)
{
    static const char *const mounts[] = { "/run/udev", "/etc/cufile.json" };
    json_t *edits = json_object();

    add_found_nodes(spec, edits, "/dev", "nvidia-fs");
    /* Looked for where the mount will point: a path that is not there would keep the container from
     * starting. */
    for (size_t i = 0; i < ARRAY_LEN(mounts) && json_object_size(edits) > 0; i++) {
        struct cdi_node node;

        cdi_node_look(spec->maker->driver_root, mounts[i], &node);
        if (node.exists)
            add_mount(spec, edits, mounts[i], false);
    }
    add_device(spec, "all", edits);
}

static void make_mofed(struct spec *spec)
{
    json_t *edits = json_object();

    add_found_nodes(spec, edits, "/dev/infiniband", "rdma_cm");
    add_found_nodes(spec, edits, "/dev/infiniband", "uverbs");
    add_device(spec, "all", edits);
}

/* ---- files ---- */

static int finish(struct spec *spec, const char *class, struct cdi_file *ret, struct err *err)
{
    struct maker *maker = spec->maker;
    auto_(json_decrefp) json_t *root = json_object();
    auto_(buf_done) struct buf text = BUF_MAX(CDI_MAX_SPEC_BYTES);
    char version[16], kind[64];

    snprintf(version, sizeof(version), "0.%u.0", spec->version);
    snprintf(kind, sizeof(kind), CDI_VENDOR "/%s", class);
    set(maker, root, "cdiVersion", json_string(version));
    set(maker, root, "kind", json_string(kind));
    set(maker, root, "devices", json_incref(spec->devices));
    if (json_object_size(spec->edits) > 0)
        set(maker, root, "containerEdits", json_incref(spec->edits));
    if (maker->failed || json_to_text(root, 0, &text) < 0)
        return text.failed ? err_set(err, EFBIG, "the CDI specification of %s is too large", class)
                           : err_no_memory(err);
    *ret = (struct cdi_file){
        .name = arena_printf(maker->arena, CDI_VENDOR "-%s.json", class),
        .json = { arena_spandup(maker->arena, buf_span(&text)), text.len },
    };
    return ret->name && ret->json.ptr ? 0 : err_no_memory(err);
}

static int make_class(struct maker *maker, const char *class, void (*make)(struct spec *spec),
                      struct cdi_set *ret, struct err *err)
{
    auto_(spec_done) struct spec spec = {
        .maker = maker, .devices = json_array(), .edits = json_object(), .version = 3
    };

    if (!spec.devices || !spec.edits)
        return err_no_memory(err);
    make(&spec);
    if (json_array_size(spec.devices) == 0 && !maker->failed) {
        ret->empty[ret->n_empty++] = class;
        return 0;
    }
    int r = finish(&spec, class, &ret->files[ret->n], err);
    if (r == 0)
        ret->n++;
    return r;
}

/* "nvidia-caps" in /proc/devices: ` 237 nvidia-caps`. */
static unsigned read_caps_major(int root)
{
    auto_close int fd = cdi_open_in(root, "/proc/devices", O_RDONLY);
    char text[8192];
    struct span rest, line;
    bool more = true;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;

    if (n <= 0)
        return 0;
    rest = (struct span){ text, (size_t)n };
    while (span_split(&rest, '\n', &more, &line)) {
        uint64_t number;
        const char *space;

        line = span_trim(line);
        space = memchr(line.ptr, ' ', line.len);
        if (!space)
            continue;
        struct span first = { line.ptr, (size_t)(space - line.ptr) };
        struct span name = { space + 1, line.len - first.len - 1 };
        if (span_equal(name, SPAN("nvidia-caps")) && text_to_u64(first, &number) == 0)
            return (unsigned)number;
    }
    return 0;
}

/* Where /dev is, and what the host calls it: below the driver root where that has one, and then the
 * host's driver root counts, not its dev root (spec/device-plugin §4.7). */
static int choose_dev_root(struct maker *maker, const struct cdi_places *places, int driver_root)
{
    auto_close int dev = driver_root >= 0 && places->driver_root
                             ? cdi_open_in(driver_root, "/dev", O_PATH | O_DIRECTORY)
                             : -1;

    maker->host_driver = maker->config->driver_root;
    maker->host_dev = dev >= 0 ? maker->config->driver_root : maker->config->dev_root;
    return dev >= 0 ? driver_root : maker->root;
}

static int make_all(struct maker *maker, struct cdi_set *ret, struct err *err)
{
    const struct config *config = maker->config;
    const struct {
        const char *class;
        bool wanted;
        void (*make)(struct spec *spec);
    } classes[CDI_N_CLASSES] = {
        { "gpu", true, make_gpus },
        { "imex-channel", config->imex_channel0 && maker->inventory->imex_channel0, make_imex },
        { "gdrcopy", config->gdrcopy_enabled, make_gdrcopy },
        { "gds", config->gds_enabled, make_gds },
        { "mofed", config->mofed_enabled, make_mofed },
    };
    int r = 0;

    for (size_t i = 0; i < ARRAY_LEN(classes) && r == 0; i++)
        if (classes[i].wanted)
            r = make_class(maker, classes[i].class, classes[i].make, ret, err);
    return r;
}

int cdi_make(const struct inventory *inventory, const struct config *config,
             const struct cdi_places *places, struct arena *arena, struct cdi_set *ret,
             struct err *err)
{
    const char *root = places->root ? places->root : "/";
    const char *driver_root = places->driver_root ? places->driver_root : root;
    auto_close int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    auto_close int driver_fd = open(driver_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct maker maker = {
        .inventory = inventory,
        .config = config,
        .arena = arena,
        .root = root_fd,
        .driver_root = driver_fd < 0 ? root_fd : driver_fd,
    };
    struct cdi_set set = {};
    int r;

    /* A driver that lies in this process's own file system needs no folder of its own. */
    if (driver_fd < 0)
        driver_root = root;
    if (inventory->platform != PLATFORM_NVML || !inventory->driver_version)
        return err_set(err, ENOTSUP, "CDI specifications can be made on NVML-based systems only");
    if (root_fd < 0)
        return err_set(err, errno, "%s: %s", root, strerror(errno));
    r = cdi_driver_look(driver_root, inventory->driver_version, arena, &maker.driver, err);
    if (r == 0) {
        maker.caps_major = read_caps_major(root_fd);
        maker.dev_root = choose_dev_root(&maker, places, driver_fd);
        r = make_all(&maker, &set, err);
    }
    if (r < 0)
        return err_wrap(err, r, "unable to create cdi spec file: failed to get CDI spec");
    *ret = set;
    return 0;
}

static bool is_written(int dir, const struct cdi_file *file)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(2 * CDI_MAX_SPEC_BYTES);
    struct span now;

    return file_read(dir, file->name, CDI_MAX_SPEC_BYTES, &arena, &now, NULL) == 0 &&
           span_equal(now, file->json);
}

int cdi_write(const struct cdi_set *set, const char *dir, struct err *err)
{
    int r = file_make_dirs(dir, 0755, err);

    if (r < 0)
        return r;
    auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno, "%s: %s", dir, strerror(errno));
    for (size_t i = 0; i < set->n && r == 0; i++)
        if (!is_written(fd, &set->files[i]))
            r = file_replace(fd, set->files[i].name, set->files[i].json, 0644, err);
    return r;
}
