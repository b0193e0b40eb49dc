/*
 * Pods out of manifests: a Pod is one, a Deployment is as many as it has replicas. Also the few
 * helpers with which manifests are read; their complaints begin with file:line:col.
 */
#pragma once

#include "base/err.h"
#include "codec/value.h"
#include "sim/node/objects.h"

[[nodiscard]] int pods_read(struct objects *objects, const struct value *doc, const char *file,
                            const char *kind, struct err *err);

PRINTF(4, 5)
int object_error(const char *file, struct place place, struct err *err, const char *format, ...);
[[nodiscard]] int object_get(const char *file, const struct value *map, const char *key,
                             enum value_kind kind, const struct value **ret, struct err *err);
/* "" when absent; -EINVAL for another kind, and for NUL bytes. */
[[nodiscard]] int object_text(const char *file, const struct value *map, const char *key,
                              const char **ret, struct err *err);
