/*
 * Which pods fit on the one node: extended resources, node selectors, node affinity, taints. A pure
 * function in the words of the Kubernetes scheduler (`0/1 nodes are available: 1 Insufficient
 * nvidia.com/gpu.`).
 */
#pragma once

#include "base/buf.h"
#include "base/map.h"
#include "sim/node/kubelet.h"
#include "sim/node/objects.h"

struct taint {
    const char *key, *value, *effect; /* NoSchedule, PreferNoSchedule, NoExecute */
};

struct node_view {
    size_t n_labels, n_taints, n_capacity;
    const struct key_value *labels;
    const struct taint *taints;
    const struct sim_capacity *capacity;
};

/* How much of each resource a pod needs at once: the sum of its containers, or its largest init
 * container where that is more. */
uint32_t pod_request(const struct sim_pod *pod, const char *resource);

/* What the scheduler's sentence goes on with after its reasons: that nobody else could make room
 * either, which nobody asked. */
#define SCHEDULER_AFTERWORD " no new claims to deallocate, preemption: "

/* True when the pod fits beside the pods that already run there; otherwise `why` has the
 * scheduler's sentence, whole. */
bool scheduler_fits(const struct node_view *node, const struct pod_object *pod,
                    const struct pod_object *const *running, size_t n_running, struct buf *why);
