#include "kubelet/messages.h"

#include <errno.h>

#include "kubelet/pb.h"
#include "kubelet/proto/deviceplugin.pb-c.h"
#include "kubelet/proto/pluginregistration.pb-c.h"

/*
 * Encoders build the generated structs in an arena of their own, pointing into the caller's
 * strings, and pack them in one go. Lack of memory at any step shows as out->failed, once.
 */
static void pack(bool built, const ProtobufCMessage *message, struct buf *out)
{
    if (built)
        pb_encode(message, out);
    else
        out->failed = true;
}

static int too_many(struct err *err, const char *what, size_t n, size_t most)
{
    return err_set(err, E2BIG, "%zu %s in one message; at most %zu are taken", n, what, most);
}

/* ---- options, registration ---- */

static V1beta1__DevicePluginOptions options_make(const struct plugin_options *options)
{
    V1beta1__DevicePluginOptions message = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;

    message.pre_start_required = options->pre_start_required;
    message.get_preferred_allocation_available = options->preferred_allocation_available;
    return message;
}

static struct plugin_options options_take(const V1beta1__DevicePluginOptions *message)
{
    if (!message)
        return (struct plugin_options){};
    return (struct plugin_options){
        .pre_start_required = message->pre_start_required,
        .preferred_allocation_available = message->get_preferred_allocation_available,
    };
}

void plugin_options_encode(const struct plugin_options *options, struct buf *out)
{
    V1beta1__DevicePluginOptions message = options_make(options);

    pb_encode(&message.base, out);
}

int plugin_options_decode(struct span bytes, struct arena *arena, struct plugin_options *ret,
                          struct err *err)
{
    V1beta1__DevicePluginOptions *message;
    int r = pb_decode(&v1beta1__device_plugin_options__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    *ret = options_take(message);
    return 0;
}

void register_request_encode(const struct register_request *request, struct buf *out)
{
    V1beta1__DevicePluginOptions options = options_make(&request->options);
    V1beta1__RegisterRequest message = V1BETA1__REGISTER_REQUEST__INIT;

    message.version = (char *)request->version;
    message.endpoint = (char *)request->endpoint;
    message.resource_name = (char *)request->resource_name;
    message.options = &options;
    pb_encode(&message.base, out);
}

int register_request_decode(struct span bytes, struct arena *arena, struct register_request *ret,
                            struct err *err)
{
    V1beta1__RegisterRequest *message;
    int r = pb_decode(&v1beta1__register_request__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    *ret = (struct register_request){
        .version = message->version,
        .endpoint = message->endpoint,
        .resource_name = message->resource_name,
        .options = options_take(message->options),
    };
    return 0;
}

/* ---- the device list ---- */

static bool device_make(struct arena *arena, const struct listed_device *device,
                        V1beta1__Device *message)
{
    V1beta1__TopologyInfo *topology;

    message->id = (char *)device->id;
    message->health = (char *)device->health;
    if (!device->has_topology)
        return true;

    topology = arena_new(arena, V1beta1__TopologyInfo);
    if (!topology)
        return false;
    v1beta1__topology_info__init(topology);
    topology->n_nodes = device->n_numa_nodes;
    topology->nodes = pb_new_list(arena, &v1beta1__numanode__descriptor, device->n_numa_nodes);
    if (!topology->nodes)
        return false;
    /* ID 0 makes an empty node message, which is sent all the same. */
    for (size_t i = 0; i < device->n_numa_nodes; i++)
        topology->nodes[i]->id = device->numa_nodes[i];
    message->topology = topology;
    return true;
}

void device_list_encode(const struct device_list *list, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(MESSAGE_ARENA_BYTES);
    V1beta1__ListAndWatchResponse message = V1BETA1__LIST_AND_WATCH_RESPONSE__INIT;

    message.n_devices = list->n;
    message.devices = pb_new_list(&scratch, &v1beta1__device__descriptor, list->n);
    bool built = message.devices != NULL;
    for (size_t i = 0; built && i < list->n; i++)
        built = device_make(&scratch, &list->items[i], message.devices[i]);
    pack(built, &message.base, out);
}

static int device_take(const V1beta1__Device *message, struct arena *arena,
                       struct listed_device *ret, struct err *err)
{
    const V1beta1__TopologyInfo *topology = message->topology;

    *ret = (struct listed_device){ .id = message->id, .health = message->health };
    if (!topology)
        return 0;
    if (topology->n_nodes > MESSAGE_MAX_ITEMS)
        return too_many(err, "NUMA nodes", topology->n_nodes, MESSAGE_MAX_ITEMS);
    ret->has_topology = true;
    ret->n_numa_nodes = topology->n_nodes;
    ret->numa_nodes = arena_new_array(arena, int64_t, topology->n_nodes);
    if (!ret->numa_nodes)
        return err_no_memory(err);
    for (size_t i = 0; i < topology->n_nodes; i++)
        ret->numa_nodes[i] = topology->nodes[i]->id;
    return 0;
}

int device_list_decode(struct span bytes, struct arena *arena, struct device_list *ret,
                       struct err *err)
{
    V1beta1__ListAndWatchResponse *message;
    int r = pb_decode(&v1beta1__list_and_watch_response__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    if (message->n_devices > MESSAGE_MAX_DEVICES)
        return too_many(err, "devices", message->n_devices, MESSAGE_MAX_DEVICES);
    struct device_list list = { .n = message->n_devices };
    list.items = arena_new_array(arena, struct listed_device, list.n);
    if (!list.items)
        return err_no_memory(err);
    for (size_t i = 0; i < list.n; i++) {
        r = device_take(message->devices[i], arena, &list.items[i], err);
        if (r < 0)
            return r;
    }
    *ret = list;
    return 0;
}

/* ---- preferred allocation ---- */

static int check_ids(size_t n, struct err *err)
{
    return n > MESSAGE_MAX_DEVICES ? too_many(err, "device ids", n, MESSAGE_MAX_DEVICES) : 0;
}

static int check_containers(size_t n, struct err *err)
{
    return n > MESSAGE_MAX_CONTAINERS ? too_many(err, "containers", n, MESSAGE_MAX_CONTAINERS) : 0;
}

void preferred_request_encode(const struct preferred_request *request, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(MESSAGE_ARENA_BYTES);
    V1beta1__PreferredAllocationRequest message = V1BETA1__PREFERRED_ALLOCATION_REQUEST__INIT;

    message.n_container_requests = request->n;
    message.container_requests = pb_new_list(
        &scratch, &v1beta1__container_preferred_allocation_request__descriptor, request->n);
    for (size_t i = 0; message.container_requests && i < request->n; i++) {
        V1beta1__ContainerPreferredAllocationRequest *one = message.container_requests[i];
        const struct prefer_request *item = &request->items[i];

        one->n_available_deviceids = item->n_available;
        one->available_deviceids = (char **)item->available;
        one->n_must_include_deviceids = item->n_must_include;
        one->must_include_deviceids = (char **)item->must_include;
        one->allocation_size = item->size;
    }
    pack(message.container_requests != NULL, &message.base, out);
}

int preferred_request_decode(struct span bytes, struct arena *arena, struct preferred_request *ret,
                             struct err *err)
{
    V1beta1__PreferredAllocationRequest *message;
    int r =
        pb_decode(&v1beta1__preferred_allocation_request__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    struct preferred_request request = { .n = message->n_container_requests };
    r = check_containers(request.n, err);
    if (r < 0)
        return r;
    request.items = arena_new_array(arena, struct prefer_request, request.n);
    if (!request.items)
        return err_no_memory(err);
    for (size_t i = 0; i < request.n; i++) {
        V1beta1__ContainerPreferredAllocationRequest *one = message->container_requests[i];

        r = check_ids(MAX(one->n_available_deviceids, one->n_must_include_deviceids), err);
        if (r < 0)
            return r;
        request.items[i] = (struct prefer_request){
            .available = (const char *const *)one->available_deviceids,
            .n_available = one->n_available_deviceids,
            .must_include = (const char *const *)one->must_include_deviceids,
            .n_must_include = one->n_must_include_deviceids,
            .size = one->allocation_size,
        };
    }
    *ret = request;
    return 0;
}

void preferred_response_encode(const struct preferred_response *response, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(MESSAGE_ARENA_BYTES);
    V1beta1__PreferredAllocationResponse message = V1BETA1__PREFERRED_ALLOCATION_RESPONSE__INIT;

    message.n_container_responses = response->n;
    message.container_responses = pb_new_list(
        &scratch, &v1beta1__container_preferred_allocation_response__descriptor, response->n);
    for (size_t i = 0; message.container_responses && i < response->n; i++) {
        message.container_responses[i]->n_deviceids = response->items[i].n;
        message.container_responses[i]->deviceids = (char **)response->items[i].items;
    }
    pack(message.container_responses != NULL, &message.base, out);
}

int preferred_response_decode(struct span bytes, struct arena *arena,
                              struct preferred_response *ret, struct err *err)
{
    V1beta1__PreferredAllocationResponse *message;
    int r =
        pb_decode(&v1beta1__preferred_allocation_response__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    struct preferred_response response = { .n = message->n_container_responses };
    r = check_containers(response.n, err);
    if (r < 0)
        return r;
    response.items = arena_new_array(arena, struct id_list, response.n);
    if (!response.items)
        return err_no_memory(err);
    for (size_t i = 0; i < response.n; i++) {
        V1beta1__ContainerPreferredAllocationResponse *one = message->container_responses[i];

        r = check_ids(one->n_deviceids, err);
        if (r < 0)
            return r;
        response.items[i] = (struct id_list){ one->n_deviceids, (const char **)one->deviceids };
    }
    *ret = response;
    return 0;
}

/* ---- allocation ---- */

void allocate_request_encode(const struct allocate_request *request, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(MESSAGE_ARENA_BYTES);
    V1beta1__AllocateRequest message = V1BETA1__ALLOCATE_REQUEST__INIT;

    message.n_container_requests = request->n;
    message.container_requests =
        pb_new_list(&scratch, &v1beta1__container_allocate_request__descriptor, request->n);
    for (size_t i = 0; message.container_requests && i < request->n; i++) {
        message.container_requests[i]->n_devices_ids = request->items[i].n;
        message.container_requests[i]->devices_ids = (char **)request->items[i].items;
    }
    pack(message.container_requests != NULL, &message.base, out);
}

int allocate_request_decode(struct span bytes, struct arena *arena, struct allocate_request *ret,
                            struct err *err)
{
    V1beta1__AllocateRequest *message;
    int r = pb_decode(&v1beta1__allocate_request__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    struct allocate_request request = { .n = message->n_container_requests };
    r = check_containers(request.n, err);
    if (r < 0)
        return r;
    request.items = arena_new_array(arena, struct id_list, request.n);
    if (!request.items)
        return err_no_memory(err);
    for (size_t i = 0; i < request.n; i++) {
        V1beta1__ContainerAllocateRequest *one = message->container_requests[i];

        r = check_ids(one->n_devices_ids, err);
        if (r < 0)
            return r;
        request.items[i] = (struct id_list){ one->n_devices_ids, (const char **)one->devices_ids };
    }
    *ret = request;
    return 0;
}

static V1beta1__Entry **entries_make(struct arena *arena, const struct name_value *items, size_t n)
{
    V1beta1__Entry **list = pb_new_list(arena, &v1beta1__entry__descriptor, n);

    for (size_t i = 0; list && i < n; i++) {
        list[i]->key = (char *)items[i].name;
        list[i]->value = (char *)items[i].value;
    }
    return list;
}

static V1beta1__Mount **mounts_make(struct arena *arena, const struct allocation *allocation)
{
    V1beta1__Mount **list = pb_new_list(arena, &v1beta1__mount__descriptor, allocation->n_mounts);

    for (size_t i = 0; list && i < allocation->n_mounts; i++) {
        list[i]->container_path = (char *)allocation->mounts[i].container_path;
        list[i]->host_path = (char *)allocation->mounts[i].host_path;
        list[i]->read_only = allocation->mounts[i].read_only;
    }
    return list;
}

static V1beta1__DeviceSpec **specs_make(struct arena *arena, const struct allocation *allocation)
{
    V1beta1__DeviceSpec **list =
        pb_new_list(arena, &v1beta1__device_spec__descriptor, allocation->n_devices);

    for (size_t i = 0; list && i < allocation->n_devices; i++) {
        list[i]->container_path = (char *)allocation->devices[i].container_path;
        list[i]->host_path = (char *)allocation->devices[i].host_path;
        list[i]->permissions = (char *)allocation->devices[i].permissions;
    }
    return list;
}

static bool allocation_make(struct arena *arena, const struct allocation *allocation,
                            V1beta1__ContainerAllocateResponse *message)
{
    message->n_envs = allocation->n_envs;
    message->envs = entries_make(arena, allocation->envs, allocation->n_envs);
    message->n_mounts = allocation->n_mounts;
    message->mounts = mounts_make(arena, allocation);
    message->n_devices = allocation->n_devices;
    message->devices = specs_make(arena, allocation);
    message->n_annotations = allocation->n_annotations;
    message->annotations = entries_make(arena, allocation->annotations, allocation->n_annotations);
    message->n_cdi_devices = allocation->n_cdi_devices;
    message->cdi_devices =
        pb_new_list(arena, &v1beta1__cdidevice__descriptor, allocation->n_cdi_devices);
    if (!message->envs || !message->mounts || !message->devices || !message->annotations ||
        !message->cdi_devices)
        return false;
    for (size_t i = 0; i < allocation->n_cdi_devices; i++)
        message->cdi_devices[i]->name = (char *)allocation->cdi_devices[i];
    return true;
}

void allocation_encode(const struct allocation *allocation, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(MESSAGE_ARENA_BYTES);
    V1beta1__ContainerAllocateResponse message = V1BETA1__CONTAINER_ALLOCATE_RESPONSE__INIT;

    pack(allocation_make(&scratch, allocation, &message), &message.base, out);
}

void allocate_response_encode(const struct allocate_response *response, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(MESSAGE_ARENA_BYTES);
    V1beta1__AllocateResponse message = V1BETA1__ALLOCATE_RESPONSE__INIT;

    message.n_container_responses = response->n;
    message.container_responses =
        pb_new_list(&scratch, &v1beta1__container_allocate_response__descriptor, response->n);
    bool built = message.container_responses != NULL;
    for (size_t i = 0; built && i < response->n; i++)
        built = allocation_make(&scratch, response->items[i], message.container_responses[i]);
    pack(built, &message.base, out);
}

static struct name_value *entries_take(V1beta1__Entry *const *entries, size_t n,
                                       struct arena *arena)
{
    struct name_value *items = arena_new_array(arena, struct name_value, n);

    for (size_t i = 0; items && i < n; i++)
        items[i] = (struct name_value){ entries[i]->key, entries[i]->value };
    return items;
}

static struct allocation_mount *mounts_take(const V1beta1__ContainerAllocateResponse *message,
                                            struct arena *arena)
{
    struct allocation_mount *items =
        arena_new_array(arena, struct allocation_mount, message->n_mounts);

    for (size_t i = 0; items && i < message->n_mounts; i++)
        items[i] = (struct allocation_mount){
            .container_path = message->mounts[i]->container_path,
            .host_path = message->mounts[i]->host_path,
            .read_only = message->mounts[i]->read_only,
        };
    return items;
}

static struct allocation_device *specs_take(const V1beta1__ContainerAllocateResponse *message,
                                            struct arena *arena)
{
    struct allocation_device *items =
        arena_new_array(arena, struct allocation_device, message->n_devices);

    for (size_t i = 0; items && i < message->n_devices; i++)
        items[i] = (struct allocation_device){
            .container_path = message->devices[i]->container_path,
            .host_path = message->devices[i]->host_path,
            .permissions = message->devices[i]->permissions,
        };
    return items;
}

static int allocation_take(const V1beta1__ContainerAllocateResponse *message, struct arena *arena,
                           struct allocation **ret, struct err *err)
{
    size_t longest = MAX(MAX(message->n_envs, message->n_annotations),
                         MAX(MAX(message->n_mounts, message->n_devices), message->n_cdi_devices));

    if (longest > MESSAGE_MAX_ITEMS)
        return too_many(err, "items of one kind", longest, MESSAGE_MAX_ITEMS);
    struct allocation *allocation = arena_new(arena, struct allocation);
    if (!allocation)
        return err_no_memory(err);
    *allocation = (struct allocation){
        .n_envs = message->n_envs,
        .envs = entries_take(message->envs, message->n_envs, arena),
        .n_mounts = message->n_mounts,
        .mounts = mounts_take(message, arena),
        .n_devices = message->n_devices,
        .devices = specs_take(message, arena),
        .n_annotations = message->n_annotations,
        .annotations = entries_take(message->annotations, message->n_annotations, arena),
        .n_cdi_devices = message->n_cdi_devices,
        .cdi_devices = arena_new_array(arena, const char *, message->n_cdi_devices),
    };
    if (!allocation->envs || !allocation->mounts || !allocation->devices ||
        !allocation->annotations || !allocation->cdi_devices)
        return err_no_memory(err);
    for (size_t i = 0; i < message->n_cdi_devices; i++)
        allocation->cdi_devices[i] = message->cdi_devices[i]->name;
    *ret = allocation;
    return 0;
}

int allocation_decode(struct span bytes, struct arena *arena, struct allocation **ret,
                      struct err *err)
{
    V1beta1__ContainerAllocateResponse *message;
    int r =
        pb_decode(&v1beta1__container_allocate_response__descriptor, bytes, arena, &message, err);

    return r < 0 ? r : allocation_take(message, arena, ret, err);
}

int allocate_response_decode(struct span bytes, struct arena *arena, struct allocate_response *ret,
                             struct err *err)
{
    V1beta1__AllocateResponse *message;
    int r = pb_decode(&v1beta1__allocate_response__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    struct allocate_response response = { .n = message->n_container_responses };
    r = check_containers(response.n, err);
    if (r < 0)
        return r;
    response.items = arena_new_array(arena, struct allocation *, response.n);
    if (!response.items)
        return err_no_memory(err);
    for (size_t i = 0; i < response.n; i++) {
        r = allocation_take(message->container_responses[i], arena, &response.items[i], err);
        if (r < 0)
            return r;
    }
    *ret = response;
    return 0;
}

/* ---- before the start of a container ---- */

void prestart_request_encode(const struct id_list *ids, struct buf *out)
{
    V1beta1__PreStartContainerRequest message = V1BETA1__PRE_START_CONTAINER_REQUEST__INIT;

    message.n_devices_ids = ids->n;
    message.devices_ids = (char **)ids->items;
    pb_encode(&message.base, out);
}

int prestart_request_decode(struct span bytes, struct arena *arena, struct id_list *ret,
                            struct err *err)
{
    V1beta1__PreStartContainerRequest *message;
    int r =
        pb_decode(&v1beta1__pre_start_container_request__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    r = check_ids(message->n_devices_ids, err);
    if (r < 0)
        return r;
    *ret = (struct id_list){ message->n_devices_ids, (const char **)message->devices_ids };
    return 0;
}

/* ---- plugins found by their socket ---- */

void plugin_info_encode(const struct plugin_info *info, struct buf *out)
{
    Pluginregistration__PluginInfo message = PLUGINREGISTRATION__PLUGIN_INFO__INIT;

    message.type = (char *)info->type;
    message.name = (char *)info->name;
    message.endpoint = (char *)info->endpoint;
    message.n_supported_versions = info->versions.n;
    message.supported_versions = (char **)info->versions.items;
    pb_encode(&message.base, out);
}

int plugin_info_decode(struct span bytes, struct arena *arena, struct plugin_info *ret,
                       struct err *err)
{
    Pluginregistration__PluginInfo *message;
    int r = pb_decode(&pluginregistration__plugin_info__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    if (message->n_supported_versions > MESSAGE_MAX_ITEMS)
        return too_many(err, "versions", message->n_supported_versions, MESSAGE_MAX_ITEMS);
    *ret = (struct plugin_info){
        .type = message->type,
        .name = message->name,
        .endpoint = message->endpoint,
        .versions = { message->n_supported_versions, (const char **)message->supported_versions },
    };
    return 0;
}

void registration_status_encode(const struct registration_status *status, struct buf *out)
{
    Pluginregistration__RegistrationStatus message = PLUGINREGISTRATION__REGISTRATION_STATUS__INIT;

    message.plugin_registered = status->registered;
    message.error = (char *)status->error;
    pb_encode(&message.base, out);
}

int registration_status_decode(struct span bytes, struct arena *arena,
                               struct registration_status *ret, struct err *err)
{
    Pluginregistration__RegistrationStatus *message;
    int r = pb_decode(&pluginregistration__registration_status__descriptor, bytes, arena, &message,
                      err);

    if (r < 0)
        return r;
    *ret = (struct registration_status){ .registered = message->plugin_registered,
                                         .error = message->error };
    return 0;
}
