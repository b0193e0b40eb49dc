/*
 * A pod's required node affinity: `spec.affinity.nodeAffinity`, as far as it is a condition. Of its
 * terms one must hold; a term holds when all its expressions do, and one without any never does.
 */
#pragma once

#include "sim/node/objects.h"

struct affinity_expression {
    const char *key, *op; /* In, NotIn, Exists, DoesNotExist, Gt or Lt */
    size_t n_values;
    const char **values;
};

struct affinity_term {
    size_t n;
    struct affinity_expression *expressions;
};

/* -EINVAL with the API server's words for what it refuses. */
[[nodiscard]] int affinity_read(struct objects *objects, const char *file, struct pod_object *pod,
                                struct err *err);

/* True when the pod asks for nothing. */
bool affinity_matches(const struct pod_object *pod, const struct key_value *labels,
                      size_t n_labels);
