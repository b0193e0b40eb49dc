/*
 * The kubelet's answer to "which pod holds which device" as our own structs and as bytes, in both
 * directions (spec/kubelet-protos §5). Rules of decoding and encoding: kubelet/messages.h. What the
 * answer says about CPUs, memory and NUMA nodes is skipped.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "kubelet/messages.h"

enum {
    POD_MESSAGE_MAX_BYTES = 16 << 20, /* what a kubelet sends at most */
    POD_ARENA_BYTES = 96 << 20,       /* a message of that size, decoded */
    POD_MAX_PODS = 1 << 14,           /* a node runs hundreds */
};

#define POD_PATH_LIST "/v1.PodResourcesLister/List"
#define POD_PATH_GET  "/v1.PodResourcesLister/Get"

/* Devices of one resource; a resource may come several times, once for each NUMA node. */
struct pod_devices {
    const char *resource; /* "nvidia.com/gpu" */
    struct id_list ids;   /* as the plugin listed them: "GPU-…::3" */
};

/* A device that a resource claim brought (DRA). */
struct pod_claim {
    const char *claim, *namespace;
    const char *driver, *pool, *device;
    const char *share; /* NULL where the device is not shared */
    struct id_list cdi_names;
};

struct pod_container {
    const char *name;
    size_t n_devices, n_claims;
    struct pod_devices *devices;
    struct pod_claim *claims;
};

struct pod {
    const char *namespace, *name;
    size_t n_containers;
    struct pod_container *containers;
};

struct pod_list {
    size_t n;
    struct pod *items;
};

/* ListPodResourcesResponse; its request is the empty message. */
void pod_list_encode(const struct pod_list *list, struct buf *out);
[[nodiscard]] int pod_list_decode(struct span bytes, struct arena *arena, struct pod_list *ret,
                                  struct err *err);

/* GetPodResourcesRequest, of which the decoded pod has only the names. */
void pod_get_request_encode(const char *namespace, const char *name, struct buf *out);
[[nodiscard]] int pod_get_request_decode(struct span bytes, struct arena *arena, struct pod *ret,
                                         struct err *err);

/* GetPodResourcesResponse. -ENOENT when there is no pod in it. */
void pod_get_response_encode(const struct pod *pod, struct buf *out);
[[nodiscard]] int pod_get_response_decode(struct span bytes, struct arena *arena, struct pod *ret,
                                          struct err *err);
