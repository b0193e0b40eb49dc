/*
 * Which of a ConfigMap's configurations a node uses: the rules of NVIDIA's config-manager
 * (spec/device-plugin §8, spec/operator §3.5), as a pure function. The node's label is read before
 * the first answer, unlike upstream's.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

/* Bits, tried in this order. */
enum config_fallback {
    FALLBACK_NAMED = 1,  /* a file called "default" */
    FALLBACK_SINGLE = 2, /* the only file, if there is exactly one */
    FALLBACK_EMPTY = 4,  /* no configuration at all */
};

/* `label` and `default_name` are "" when not given. *ret is one of `files`, or NULL for the empty
 * configuration. -ENOENT with upstream's sentence (`specified config X does not exist`). */
[[nodiscard]] int config_select(const char *label, const char *default_name,
                                const char *const *files, size_t n_files, unsigned fallbacks,
                                const char **ret, struct err *err);
