#include "share/allocate.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/text.h"

#define CDI_VENDOR      "k8s.device-plugin.nvidia.com/"
#define VISIBLE_DEVICES "NVIDIA_VISIBLE_DEVICES"
#define MOUNTED_LIST    "/var/run/nvidia-container-devices"
#define IMEX_CHANNEL0   "/dev/nvidia-caps-imex-channels/channel0"

/* Room for the names of all devices in one variable or annotation. */
enum { LIST_MAX_BYTES = 16 << 20 };

/* One request on its way to an answer. */
struct answer {
    const struct resource *resource;
    const struct inventory *inventory;
    const struct config *config;
    struct arena *arena;
    struct allocation *allocation;
    size_t n_devices;
    const struct device **devices; /* one for each physical device, in order of the request */
    bool imex;
    bool failed; /* no memory: looked at once, at the end */
};

/* ---- the request ---- */

static int check_request(const struct resource *resource, const struct config *config,
                         const char *const *ids, size_t n_ids, struct err *err)
{
    bool replicas = false;

    for (size_t i = 0; i < n_ids; i++) {
        if (!resource_device(resource, ids[i]))
            return err_set(err, EINVAL,
                           "invalid allocation request for \"%s\": invalid request: unknown "
                           "device: %s",
                           resource->name, ids[i]);
        replicas |= strstr(ids[i], "::") != NULL;
    }
    if (config->sharing.strategy != SHARING_NONE && replicas && n_ids > 1 &&
        config->sharing.fail_requests_greater_than_one)
        return err_set(err, EINVAL,
                       "invalid allocation request for \"%s\": invalid request: maximum request "
                       "size for shared resources is 1; found %zu",
                       resource->name, n_ids);
    return 0;
}

/* Two replicas of a device are one device for the container. */
static int find_devices(struct answer *answer, const char *const *ids, size_t n_ids)
{
    const struct resource *resource = answer->resource;
    bool *seen = arena_new_array(answer->arena, bool, resource->n_groups);

    answer->devices = arena_new_array(answer->arena, const struct device *, n_ids);
    if (!seen || !answer->devices)
        return -ENOMEM;
    for (size_t i = 0; i < n_ids; i++) {
        const struct device *device = resource_device(resource, ids[i]);
        if (!seen[device->group])
            answer->devices[answer->n_devices++] = device;
        seen[device->group] = true;
    }
    return 0;
}

/* The device's name for the container runtime. */
static const char *runtime_id(const struct answer *answer, const struct device *device)
{
    return answer->config->device_id == DEVICE_ID_INDEX ? device->index : device->physical_id;
}

/* ---- building blocks ---- */

static void set_env(struct answer *answer, const char *name, const char *value)
{
    struct allocation *allocation = answer->allocation;

    for (size_t i = 0; i < allocation->n_envs; i++) {
        if (text_equal(allocation->envs[i].name, name)) {
            allocation->envs[i].value = value;
            answer->failed |= !value;
            return;
        }
    }
    struct name_value *env = arena_push(answer->arena, &allocation->envs, &allocation->n_envs);
    answer->failed |= !env || !value;
    if (env)
        *env = (struct name_value){ .name = name, .value = value };
}

static void add_mount(struct answer *answer, const char *host_path, const char *container_path)
{
    struct allocation *allocation = answer->allocation;
    struct allocation_mount *mount =
        arena_push(answer->arena, &allocation->mounts, &allocation->n_mounts);

    answer->failed |= !mount || !host_path || !container_path;
    if (mount)
        *mount =
            (struct allocation_mount){ .host_path = host_path, .container_path = container_path };
}

/* Takes the last element off a path that is being written; the root stays. */
static void go_up(char *path, size_t *len)
{
    while (*len > 0 && path[--*len] != '/')
        ;
}

/* `path` below `root`, without doubled slashes, "." and "..", as Go's filepath.Join writes it. */
static const char *join(struct answer *answer, const char *root, const char *path)
{
    struct span parts[] = { span_of(root), span_of(path) }, part;
    char *text = arena_alloc(answer->arena, parts[0].len + parts[1].len + 3);
    size_t len = 0;

    if (!text)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        bool more = true;
        while (span_split(&parts[i], '/', &more, &part)) {
            if (part.len == 0 || span_equal(part, SPAN(".")))
                continue;
            if (span_equal(part, SPAN(".."))) {
                go_up(text, &len);
                continue;
            }
            text[len++] = '/';
            memcpy(text + len, part.ptr, part.len);
            len += part.len;
        }
    }
    text[len] = '\0';
    return len ? text : "/";
}

/* The devices' names with a comma between them. */
static const char *list_of(struct answer *answer, const char *const *names, size_t n_names)
{
    auto_(buf_done) struct buf list = BUF_MAX(LIST_MAX_BYTES);

    for (size_t i = 0; i < n_names; i++) {
        if (i > 0)
            buf_add_char(&list, ',');
        buf_add_text(&list, names[i]);
    }
    return list.failed ? NULL : arena_spandup(answer->arena, buf_span(&list));
}

/* ---- the steps, in upstream's order (spec/device-plugin §4.5) ---- */

static void add_cdi_name(struct answer *answer, const char *class, const char *id)
{
    struct allocation *allocation = answer->allocation;
    const char **name =
        arena_push(answer->arena, &allocation->cdi_devices, &allocation->n_cdi_devices);

    if (name)
        *name = arena_printf(answer->arena, CDI_VENDOR "%s=%s", class, id);
    answer->failed |= !name || !*name;
}

static void add_cdi_names(struct answer *answer)
{
    const struct config *config = answer->config;
    const struct inventory *inventory = answer->inventory;

    for (size_t i = 0; i < answer->n_devices; i++)
        add_cdi_name(answer, "gpu", runtime_id(answer, answer->devices[i]));
    if (answer->imex)
        add_cdi_name(answer, "imex-channel", "0");
    if (config->gdrcopy_enabled && inventory->gdrcopy_nodes)
        add_cdi_name(answer, "gdrcopy", "all");
    if (config->gds_enabled && inventory->gds_nodes)
        add_cdi_name(answer, "gds", "all");
    if (config->mofed_enabled && inventory->mofed_nodes)
        add_cdi_name(answer, "mofed", "all");
}

static void add_annotation(struct answer *answer, const char *uuid4)
{
    struct allocation *allocation = answer->allocation;
    struct name_value *annotation =
        arena_push(answer->arena, &allocation->annotations, &allocation->n_annotations);

    if (annotation)
        *annotation = (struct name_value){
            .name = arena_printf(answer->arena, "%snvidia-device-plugin_%s",
                                 answer->config->cdi_annotation_prefix, uuid4),
            .value = list_of(answer, allocation->cdi_devices, allocation->n_cdi_devices),
        };
    answer->failed |= !annotation || !annotation->name || !annotation->value;
}

static void answer_cdi(struct answer *answer, const char *uuid4)
{
    struct allocation *allocation = answer->allocation;

    if (!(answer->config->device_list & LIST_ANY_CDI))
        return;
    add_cdi_names(answer);
    if (answer->config->device_list & LIST_CDI_ANNOTATIONS && allocation->n_cdi_devices > 0 &&
        !answer->failed)
        add_annotation(answer, uuid4);
    if (!(answer->config->device_list & LIST_CDI_CRI))
        allocation->n_cdi_devices = 0;
}

/* The rest of a resource that is shared per device is not behind the daemon. */
static bool is_behind_mps(const struct answer *answer)
{
    bool shared = answer->n_devices == 0;

    for (size_t i = 0; i < answer->n_devices && !shared; i++)
        shared = answer->devices[i]->replicas > 1;
    return shared && answer->resource->sharing == SHARING_MPS;
}

static void answer_mps(struct answer *answer)
{
    const char *name = answer->resource->name, *root = answer->config->mps_root;

    if (!is_behind_mps(answer))
        return;
    const char *pipe = arena_printf(answer->arena, "%s/pipe", name);
    if (!pipe) {
        answer->failed = true;
        return;
    }
    const char *container_pipe = join(answer, "/mps", pipe);
    set_env(answer, "CUDA_MPS_PIPE_DIRECTORY", container_pipe);
    add_mount(answer, join(answer, root, pipe), container_pipe);
    add_mount(answer, join(answer, root, "shm"), "/dev/shm");
}

static void answer_extras(struct answer *answer)
{
    if (answer->config->gdrcopy_enabled)
        set_env(answer, "NVIDIA_GDRCOPY", "enabled");
    if (answer->config->gds_enabled)
        set_env(answer, "NVIDIA_GDS", "enabled");
    if (answer->config->mofed_enabled)
        set_env(answer, "NVIDIA_MOFED", "enabled");
}

static void answer_envvar(struct answer *answer)
{
    const char **names = arena_new_array(answer->arena, const char *, answer->n_devices);

    if (!(answer->config->device_list & LIST_ENVVAR))
        return;
    for (size_t i = 0; names && i < answer->n_devices; i++)
        names[i] = runtime_id(answer, answer->devices[i]);
    set_env(answer, VISIBLE_DEVICES, names ? list_of(answer, names, answer->n_devices) : NULL);
    if (answer->imex)
        set_env(answer, "NVIDIA_IMEX_CHANNELS", "0");
}

static void answer_volume_mounts(struct answer *answer)
{
    if (!(answer->config->device_list & LIST_VOLUME_MOUNTS))
        return;
    set_env(answer, VISIBLE_DEVICES, MOUNTED_LIST);
    for (size_t i = 0; i < answer->n_devices; i++)
        add_mount(answer, "/dev/null",
                  arena_printf(answer->arena, MOUNTED_LIST "/%s",
                               runtime_id(answer, answer->devices[i])));
    if (answer->imex)
        add_mount(answer, "/dev/null", MOUNTED_LIST "/imex/0");
}

/* ---- device nodes ---- */

/* Each node once: MIG devices share their GPU's, compute instances their GPU instance's. */
static void add_node(struct answer *answer, struct map *seen, const char *path)
{
    struct allocation *allocation = answer->allocation;

    if (map_has(seen, path))
        return;
    struct allocation_device *node =
        arena_push(answer->arena, &allocation->devices, &allocation->n_devices);
    if (node)
        *node = (struct allocation_device){
            .container_path = path,
            .host_path = join(answer, answer->config->dev_root, path),
            .permissions = "rw",
        };
    answer->failed |= !node || !node->host_path || map_set(seen, path, NULL) < 0;
}

static bool has_control_node(const struct inventory *inventory, const char *path)
{
    for (size_t i = 0; i < inventory->n_control_nodes; i++)
        if (text_equal(inventory->control_nodes[i], path))
            return true;
    return false;
}

static void answer_nodes(struct answer *answer)
{
    static const char *const control_nodes[] = { "/dev/nvidiactl", "/dev/nvidia-uvm",
                                                 "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset" };
    auto_(map_done) struct map seen = {};

    if (!answer->config->pass_device_specs)
        return;
    if (answer->inventory->platform == PLATFORM_NVML)
        for (size_t i = 0; i < ARRAY_LEN(control_nodes); i++)
            if (has_control_node(answer->inventory, control_nodes[i]))
                add_node(answer, &seen, control_nodes[i]);
    for (size_t i = 0; i < answer->n_devices; i++)
        for (size_t j = 0; j < answer->devices[i]->n_paths; j++)
            add_node(answer, &seen, answer->devices[i]->paths[j]);
    if (answer->imex)
        add_node(answer, &seen, IMEX_CHANNEL0);
}

/* ---- all of it ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct name_value *)a)->name, ((const struct name_value *)b)->name);
}

int allocate(const struct resource *resource, const struct inventory *inventory,
             const struct config *config, const char *const *ids, size_t n_ids, const char *uuid4,
             struct arena *arena, struct allocation **ret, struct err *err)
{
    struct answer answer = {
        .resource = resource,
        .inventory = inventory,
        .config = config,
        .arena = arena,
        .imex = config->imex_channel0 && inventory->imex_channel0,
    };
    int r = check_request(resource, config, ids, n_ids, err);

    if (r < 0)
        return r;
    answer.allocation = arena_new(arena, struct allocation);
    if (!answer.allocation || find_devices(&answer, ids, n_ids) < 0)
        return err_no_memory(err);
    answer_cdi(&answer, uuid4);
    answer_mps(&answer);
    answer_extras(&answer);
    if (config->device_list & ~(unsigned)LIST_ANY_CDI) {
        answer_envvar(&answer);
        answer_volume_mounts(&answer);
        answer_nodes(&answer);
    }
    if (answer.failed)
        return err_no_memory(err);
    if (answer.allocation->n_envs > 1)
        qsort(answer.allocation->envs, answer.allocation->n_envs, sizeof(*answer.allocation->envs),
              compare_names);
    *ret = answer.allocation;
    return 0;
}
