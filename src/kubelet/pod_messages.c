#include "kubelet/pod_messages.h"

#include <errno.h>

#include "kubelet/pb.h"
#include "kubelet/proto/podresources.pb-c.h"

/* ---- making ---- */

static bool claim_make(struct arena *arena, const struct pod_claim *claim,
                       V1__DynamicResource *message)
{
    V1__ClaimResource **list = pb_new_list(arena, &v1__claim_resource__descriptor, 1);
    V1__CDIDevice **names = pb_new_list(arena, &v1__cdidevice__descriptor, claim->cdi_names.n);

    if (!list || !names)
        return false;
    for (size_t i = 0; i < claim->cdi_names.n; i++)
        names[i]->name = (char *)claim->cdi_names.items[i];
    list[0]->n_cdi_devices = claim->cdi_names.n;
    list[0]->cdi_devices = names;
    list[0]->driver_name = (char *)claim->driver;
    list[0]->pool_name = (char *)claim->pool;
    list[0]->device_name = (char *)claim->device;
    list[0]->share_id = (char *)claim->share;
    message->claim_name = (char *)claim->claim;
    message->claim_namespace = (char *)claim->namespace;
    message->n_claim_resources = 1;
    message->claim_resources = list;
    return true;
}

static bool container_make(struct arena *arena, const struct pod_container *container,
                           V1__ContainerResources *message)
{
    message->name = (char *)container->name;
    message->n_devices = container->n_devices;
    message->devices = pb_new_list(arena, &v1__container_devices__descriptor, container->n_devices);
    message->n_dynamic_resources = container->n_claims;
    message->dynamic_resources =
        pb_new_list(arena, &v1__dynamic_resource__descriptor, container->n_claims);
    if (!message->devices || !message->dynamic_resources)
        return false;
    for (size_t i = 0; i < container->n_devices; i++) {
        message->devices[i]->resource_name = (char *)container->devices[i].resource;
        message->devices[i]->n_device_ids = container->devices[i].ids.n;
        message->devices[i]->device_ids = (char **)container->devices[i].ids.items;
    }
    for (size_t i = 0; i < container->n_claims; i++)
        if (!claim_make(arena, &container->claims[i], message->dynamic_resources[i]))
            return false;
    return true;
}

static bool pod_make(struct arena *arena, const struct pod *pod, V1__PodResources *message)
{
    message->name = (char *)pod->name;
    message->namespace_ = (char *)pod->namespace;
    message->n_containers = pod->n_containers;
    message->containers =
        pb_new_list(arena, &v1__container_resources__descriptor, pod->n_containers);
    bool built = message->containers != NULL;
    for (size_t i = 0; built && i < pod->n_containers; i++)
        built = container_make(arena, &pod->containers[i], message->containers[i]);
    return built;
}

static void pack(bool built, const ProtobufCMessage *message, struct buf *out)
{
    if (built)
        pb_encode(message, out);
    else
        out->failed = true;
}

void pod_list_encode(const struct pod_list *list, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(POD_ARENA_BYTES);
    V1__ListPodResourcesResponse message = V1__LIST_POD_RESOURCES_RESPONSE__INIT;

    message.n_pod_resources = list->n;
    message.pod_resources = pb_new_list(&scratch, &v1__pod_resources__descriptor, list->n);
    bool built = message.pod_resources != NULL;
    for (size_t i = 0; built && i < list->n; i++)
        built = pod_make(&scratch, &list->items[i], message.pod_resources[i]);
    pack(built, &message.base, out);
}

void pod_get_request_encode(const char *namespace, const char *name, struct buf *out)
{
    V1__GetPodResourcesRequest message = V1__GET_POD_RESOURCES_REQUEST__INIT;

    message.pod_name = (char *)name;
    message.pod_namespace = (char *)namespace;
    pb_encode(&message.base, out);
}

void pod_get_response_encode(const struct pod *pod, struct buf *out)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(POD_ARENA_BYTES);
    V1__GetPodResourcesResponse message = V1__GET_POD_RESOURCES_RESPONSE__INIT;
    V1__PodResources one = V1__POD_RESOURCES__INIT;

    message.pod_resources = &one;
    pack(pod_make(&scratch, pod, &one), &message.base, out);
}

/* ---- taking ---- */

static const char *text(const char *maybe)
{
    return maybe ? maybe : "";
}

static int check_count(size_t n, struct err *err)
{
    return n <= MESSAGE_MAX_DEVICES ? 0
                                    : err_set(err, E2BIG,
                                              "%zu items in one list of a pod; at most "
                                              "%d are taken",
                                              n, MESSAGE_MAX_DEVICES);
}

static int claim_take(const V1__DynamicResource *claim, const V1__ClaimResource *device,
                      struct arena *arena, struct pod_claim *ret, struct err *err)
{
    const char **names = arena_new_array(arena, const char *, device->n_cdi_devices);

    if (!names)
        return err_no_memory(err);
    for (size_t i = 0; i < device->n_cdi_devices; i++)
        names[i] = text(device->cdi_devices[i]->name);
    *ret = (struct pod_claim){
        .claim = text(claim->claim_name),
        .namespace = text(claim->claim_namespace),
        .driver = text(device->driver_name),
        .pool = text(device->pool_name),
        .device = text(device->device_name),
        .share = device->share_id,
        .cdi_names = { device->n_cdi_devices, names },
    };
    return 0;
}

/* A claim may bring several devices; ours is a flat list. */
static int claims_take(const V1__ContainerResources *message, struct arena *arena,
                       struct pod_container *ret, struct err *err)
{
    for (size_t i = 0; i < message->n_dynamic_resources; i++) {
        const V1__DynamicResource *claim = message->dynamic_resources[i];

        for (size_t k = 0; k < claim->n_claim_resources; k++) {
            struct pod_claim *slot = arena_push(arena, &ret->claims, &ret->n_claims);
            if (!slot)
                return err_no_memory(err);
            int r = claim_take(claim, claim->claim_resources[k], arena, slot, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int container_take(const V1__ContainerResources *message, struct arena *arena,
                          struct pod_container *ret, struct err *err)
{
    int r = check_count(MAX(message->n_devices, message->n_dynamic_resources), err);

    if (r < 0)
        return r;
    *ret = (struct pod_container){ .name = text(message->name), .n_devices = message->n_devices };
    ret->devices = arena_new_array(arena, struct pod_devices, message->n_devices);
    if (!ret->devices)
        return err_no_memory(err);
    for (size_t i = 0; i < message->n_devices; i++)
        ret->devices[i] = (struct pod_devices){
            .resource = text(message->devices[i]->resource_name),
            .ids = { message->devices[i]->n_device_ids,
                     (const char **)message->devices[i]->device_ids },
        };
    return claims_take(message, arena, ret, err);
}

static int pod_take(const V1__PodResources *message, struct arena *arena, struct pod *ret,
                    struct err *err)
{
    int r = check_count(message->n_containers, err);

    if (r < 0)
        return r;
    *ret = (struct pod){
        .namespace = text(message->namespace_),
        .name = text(message->name),
        .n_containers = message->n_containers,
        .containers = arena_new_array(arena, struct pod_container, message->n_containers),
    };
    if (!ret->containers)
        return err_no_memory(err);
    for (size_t i = 0; i < message->n_containers && r == 0; i++)
        r = container_take(message->containers[i], arena, &ret->containers[i], err);
    return r;
}

int pod_list_decode(struct span bytes, struct arena *arena, struct pod_list *ret, struct err *err)
{
    V1__ListPodResourcesResponse *message;
    int r = pb_decode(&v1__list_pod_resources_response__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    if (message->n_pod_resources > POD_MAX_PODS)
        return err_set(err, E2BIG, "%zu pods on one node; at most %d are taken",
                       message->n_pod_resources, POD_MAX_PODS);
    struct pod_list list = { .n = message->n_pod_resources };
    list.items = arena_new_array(arena, struct pod, list.n);
    if (!list.items)
        return err_no_memory(err);
    for (size_t i = 0; i < list.n; i++) {
        r = pod_take(message->pod_resources[i], arena, &list.items[i], err);
        if (r < 0)
            return r;
    }
    *ret = list;
    return 0;
}

int pod_get_request_decode(struct span bytes, struct arena *arena, struct pod *ret, struct err *err)
{
    V1__GetPodResourcesRequest *message;
    int r = pb_decode(&v1__get_pod_resources_request__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    *ret =
        (struct pod){ .namespace = text(message->pod_namespace), .name = text(message->pod_name) };
    return 0;
}

int pod_get_response_decode(struct span bytes, struct arena *arena, struct pod *ret,
                            struct err *err)
{
    V1__GetPodResourcesResponse *message;
    int r = pb_decode(&v1__get_pod_resources_response__descriptor, bytes, arena, &message, err);

    if (r < 0)
        return r;
    if (!message->pod_resources)
        return err_set(err, ENOENT, "the kubelet knows no such pod");
    return pod_take(message->pod_resources, arena, ret, err);
}
