/*
 * What the kubelet and a device plugin say to each other, as our own structs and as bytes
 * (spec/kubelet-protos §1, §4). Both directions of every message, because the stand-in kubelet and
 * the tests speak the other side. The types of the generated protobuf code end here.
 *
 *     X_decode(bytes, arena, &x, err)   everything in x lives in the arena
 *     X_encode(&x, out)                 appends to out; look at out->failed once at the end
 *
 * Decoding accepts what a proto3 reader accepts: fields in any order, unknown fields skipped,
 * packed and unpacked numbers, the last of a repeated scalar wins. Strings are never NULL; a NUL
 * byte inside one ends it. Failures: -EBADMSG for bytes that are no such message, -E2BIG above a
 * ceiling below, -ENOMEM when the arena is full.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "share/allocate.h"
#include "share/prefer.h"

enum {
    MESSAGE_MAX_BYTES = 4 << 20,    /* what a Go peer takes */
    MESSAGE_MAX_DEVICES = 1 << 17,  /* as many as a resource may have */
    MESSAGE_MAX_CONTAINERS = 1024,  /* a kubelet asks for one at a time */
    MESSAGE_MAX_ITEMS = 1 << 16,    /* of any other list: mounts, variables, NUMA nodes */
    MESSAGE_ARENA_BYTES = 48 << 20, /* a message of 4 MiB made of the shortest ids */
};

#define PLUGIN_API_VERSION   "v1beta1"
#define PLUGIN_HEALTHY       "Healthy"
#define PLUGIN_UNHEALTHY     "Unhealthy"
#define PLUGIN_PATH_REGISTER "/v1beta1.Registration/Register"
#define PLUGIN_PATH_OPTIONS  "/v1beta1.DevicePlugin/GetDevicePluginOptions"
#define PLUGIN_PATH_LIST     "/v1beta1.DevicePlugin/ListAndWatch"
#define PLUGIN_PATH_PREFER   "/v1beta1.DevicePlugin/GetPreferredAllocation"
#define PLUGIN_PATH_ALLOCATE "/v1beta1.DevicePlugin/Allocate"
#define PLUGIN_PATH_PRESTART "/v1beta1.DevicePlugin/PreStartContainer"
#define REGISTRY_PATH_INFO   "/pluginregistration.Registration/GetInfo"
#define REGISTRY_PATH_STATUS "/pluginregistration.Registration/NotifyRegistrationStatus"

struct id_list {
    size_t n;
    const char **items;
};

/* DevicePluginOptions */
struct plugin_options {
    bool pre_start_required, preferred_allocation_available;
};

void plugin_options_encode(const struct plugin_options *options, struct buf *out);
[[nodiscard]] int plugin_options_decode(struct span bytes, struct arena *arena,
                                        struct plugin_options *ret, struct err *err);

/* RegisterRequest; its answer is the empty message. */
struct register_request {
    const char *version;       /* "v1beta1" */
    const char *endpoint;      /* the socket's file name, not a path */
    const char *resource_name; /* "nvidia.com/gpu" */
    struct plugin_options options;
};

void register_request_encode(const struct register_request *request, struct buf *out);
[[nodiscard]] int register_request_decode(struct span bytes, struct arena *arena,
                                          struct register_request *ret, struct err *err);

/* ListAndWatchResponse: always the complete list. */
struct listed_device {
    const char *id;
    const char *health; /* "Healthy"; every other word counts as unhealthy */
    bool has_topology;  /* node 0 is a node: topology with ID 0 is not "no topology" */
    size_t n_numa_nodes;
    int64_t *numa_nodes;
};

struct device_list {
    size_t n;
    struct listed_device *items;
};

void device_list_encode(const struct device_list *list, struct buf *out);
[[nodiscard]] int device_list_decode(struct span bytes, struct arena *arena,
                                     struct device_list *ret, struct err *err);

/* PreferredAllocationRequest and its response: one id list for each container. */
struct preferred_request {
    size_t n;
    struct prefer_request *items;
};

struct preferred_response {
    size_t n;
    struct id_list *items;
};

void preferred_request_encode(const struct preferred_request *request, struct buf *out);
[[nodiscard]] int preferred_request_decode(struct span bytes, struct arena *arena,
                                           struct preferred_request *ret, struct err *err);
void preferred_response_encode(const struct preferred_response *response, struct buf *out);
[[nodiscard]] int preferred_response_decode(struct span bytes, struct arena *arena,
                                            struct preferred_response *ret, struct err *err);

/* AllocateRequest and its response: one allocation for each container. */
struct allocate_request {
    size_t n;
    struct id_list *items;
};

struct allocate_response {
    size_t n;
    struct allocation **items;
};

void allocate_request_encode(const struct allocate_request *request, struct buf *out);
[[nodiscard]] int allocate_request_decode(struct span bytes, struct arena *arena,
                                          struct allocate_request *ret, struct err *err);
void allocate_response_encode(const struct allocate_response *response, struct buf *out);
[[nodiscard]] int allocate_response_decode(struct span bytes, struct arena *arena,
                                           struct allocate_response *ret, struct err *err);

/* ContainerAllocateResponse alone, which a kubelet keeps (in base64) in its checkpoint. */
void allocation_encode(const struct allocation *allocation, struct buf *out);
[[nodiscard]] int allocation_decode(struct span bytes, struct arena *arena, struct allocation **ret,
                                    struct err *err);

/* PreStartContainerRequest; its answer is the empty message. */
void prestart_request_encode(const struct id_list *ids, struct buf *out);
[[nodiscard]] int prestart_request_decode(struct span bytes, struct arena *arena,
                                          struct id_list *ret, struct err *err);

/* The other way to be found: pluginregistration.PluginInfo and RegistrationStatus. */
struct plugin_info {
    const char *type;     /* "DevicePlugin", "DRAPlugin" */
    const char *name;     /* resource or driver name */
    const char *endpoint; /* absolute path of the service's socket; "": the same socket */
    struct id_list versions;
};

struct registration_status {
    bool registered;
    const char *error;
};

void plugin_info_encode(const struct plugin_info *info, struct buf *out);
[[nodiscard]] int plugin_info_decode(struct span bytes, struct arena *arena,
                                     struct plugin_info *ret, struct err *err);
void registration_status_encode(const struct registration_status *status, struct buf *out);
[[nodiscard]] int registration_status_decode(struct span bytes, struct arena *arena,
                                             struct registration_status *ret, struct err *err);
