/*
 * Kubernetes objects as people write them: manifests read into the few structs that a one-node
 * cluster needs. Accepted are ClusterPolicy (nvidia.com/v1), ConfigMap, Pod, Deployment and List,
 * several documents per file; other kinds are noted and left alone, so that a whole application's
 * YAML can be given.
 *
 * What a cluster's API server would refuse is refused here in one sentence with its place:
 * `pod.yaml:14:31: …`. Everything lives in the arena; a pod keeps its manifest for the answer.
 */
#pragma once

#include "base/arena.h"
#include "base/err.h"
#include "codec/value.h"
#include "sim/node/kubelet.h"

enum {
    OBJECTS_MAX_FILE_BYTES = 4 << 20,
    OBJECTS_MAX_PODS = 1000, /* a node runs 110; more are asked for only by mistake */
    OBJECTS_MAX_CONTAINERS = 64,
    OBJECTS_MAX_ITEMS = 1024, /* of any other list */
};

struct object_place {
    const char *file;
    struct place place;
};

struct key_value {
    const char *key, *value;
};

struct affinity_term;

struct toleration {
    const char *key, *op, *value, *effect; /* "" when not given; op "Exists" or "Equal" */
};

/* A pod to be run. `sim` is what the kubelet admits. */
struct pod_object {
    struct object_place place;
    const struct value *manifest;        /* the Pod, or the Deployment it comes from */
    const struct value *metadata, *spec; /* of the pod (or of the template) */
    const char *owner;                   /* Deployment's name, or NULL */
    const char *node_name;               /* bound directly; "" for the scheduler to decide */
    size_t n_selectors, n_tolerations, n_affinity;
    struct key_value *selectors;
    struct toleration *tolerations;
    struct affinity_term *affinity; /* affinity.h */
    struct sim_pod sim;             /* name and uid included */
};

struct config_map_object {
    struct object_place place;
    const char *name, *namespace;
    size_t n_data;
    struct config_map_entry {
        const char *key, *text;
        struct place place; /* of the text's first line */
    } * data;
};

struct cluster_policy_object {
    struct object_place place;
    const char *name;
    const char *mig_strategy;          /* spec.mig.strategy, "" when not given */
    const char *mig_config_map;        /* spec.migManager.config.name */
    const char *plugin_config_map;     /* spec.devicePlugin.config.name */
    const char *plugin_config_default; /* spec.devicePlugin.config.default */
    const char *mps_root;              /* spec.devicePlugin.mps.root */
    bool plugin_enabled, discovery_enabled;
    size_t n_plugin_env;
    struct key_value *plugin_env; /* spec.devicePlugin.env */
};

struct objects {
    struct arena *arena; /* borrowed */
    size_t n_pods, n_config_maps, n_policies, n_notes;
    struct pod_object *pods;
    struct config_map_object *config_maps;
    struct cluster_policy_object *policies;
    const char **notes; /* sentences about what was left alone */
};

/* Reads one file's text and adds what it holds. -EINVAL with a sentence that starts with the
 * place; *objects may then hold a part of the file and should not be used. */
[[nodiscard]] int objects_read(struct objects *objects, struct span text, const char *file,
                               struct err *err);

const struct config_map_object *objects_config_map(const struct objects *objects, const char *name);
const char *config_map_text(const struct config_map_object *map, const char *key);
