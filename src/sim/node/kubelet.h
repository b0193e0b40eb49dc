/*
 * A stand-in kubelet: the device manager of a node, speaking the real protocol over real sockets
 * (spec/kubelet-device-manager, spec/kubelet-wire). The device plugins it talks to cannot tell.
 *
 * It registers plugins, follows their device lists, and admits pods one at a time: for each
 * container and resource GetPreferredAllocation, then Allocate. Like the real one it keeps what it
 * gave away in a checkpoint in its directory, so that a new stand-in on the same directory is that
 * kubelet restarted.
 *
 * Where it differs on purpose: capacity is told at once and not every ten seconds.
 *
 * Everything happens on the loop's thread. Callbacks may call back.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "net/loop.h"

enum {
    SIM_KUBELET_MAX_RESOURCES = 256,
    SIM_KUBELET_GONE_MS = 5 * 60 * 1000, /* after this a vanished plugin's capacity is zero, too */
    SIM_KUBELET_DIAL_MS = 10 * 1000,
    SIM_KUBELET_PRESTART_MS = 30 * 1000,
};

struct sim_kubelet;

struct sim_kubelet_options {
    const char *dir; /* the device-plugins directory; must exist */
    const char *node_name;
    bool shuffle; /* offer available devices in random order, as Go's maps do */
    /* Called after each change of capacity or allocatable; may be NULL. */
    void (*on_change)(void *user);
    void *user;
};

/* Starting removes every socket in the directory, as a kubelet does, reads the checkpoint and
 * listens on kubelet.sock. A damaged checkpoint is ignored, as a kubelet ignores it. */
[[nodiscard]] int sim_kubelet_new(struct loop *loop, const struct sim_kubelet_options *options,
                                  struct sim_kubelet **ret, struct err *err);
/* Leaves the checkpoint for the next one. Admissions under way get no answer. */
void sim_kubelet_free(struct sim_kubelet *kubelet);
DEFINE_FREEP(struct sim_kubelet, sim_kubelet_free)

const char *sim_kubelet_socket(const struct sim_kubelet *kubelet);

/* One extended resource as the node's status has it. */
struct sim_capacity {
    const char *resource;
    uint32_t capacity, allocatable;
};

/* By name; borrowed until the next change. */
const struct sim_capacity *sim_kubelet_capacity(struct sim_kubelet *kubelet, size_t *ret_n);
/* How many replicas of a physical device are listed ("GPU-…::0" …); 0 when it is not shared. */
uint32_t sim_kubelet_n_replicas(struct sim_kubelet *kubelet, const char *physical_id);
/* How many plugins have registered since the start, refused ones not counted. */
uint32_t sim_kubelet_n_registrations(const struct sim_kubelet *kubelet);
/* Whether each registered plugin has sent its first list. */
bool sim_kubelet_settled(const struct sim_kubelet *kubelet);

struct sim_request {
    const char *resource;
    uint32_t count;
};

struct sim_container {
    const char *name;
    bool init; /* runs before the others; its devices are theirs afterwards */
    size_t n_requests;
    const struct sim_request *requests;
};

struct sim_pod {
    const char *uid, *name, *namespace;
    size_t n_containers; /* init containers first */
    const struct sim_container *containers;
};

/* reason NULL: admitted. Otherwise the pod is Failed: reason and message of its status. */
typedef void sim_admit_fn(void *user, const char *reason, const char *message);

/* The pod is borrowed until the answer. Answers come in order, from the loop. */
[[nodiscard]] int sim_kubelet_admit(struct sim_kubelet *kubelet, const struct sim_pod *pod,
                                    sim_admit_fn *answer, void *user, struct err *err);
/* The pod ended (or failed): its devices are free from the next admission on. */
void sim_kubelet_pod_ended(struct sim_kubelet *kubelet, const char *uid);
/* After a restart: this pod is still running. Entries of pods that nobody claims are freed at the
 * next admission. */
void sim_kubelet_pod_running(struct sim_kubelet *kubelet, const char *uid);

/* What a container holds. */
struct sim_grant {
    const char *pod_uid, *container, *resource;
    size_t n_ids;
    const char *const *ids;
    struct span response; /* the ContainerAllocateResponse, as it came over the wire */
};

/* All grants, in order of allocation: next(kubelet, NULL) is the first; NULL ends. */
const struct sim_grant *sim_kubelet_next_grant(const struct sim_kubelet *kubelet,
                                               const struct sim_grant *after);
