/*
 * A configuration as it was read: file, flags and environment at one moment, with what to say about
 * it. Frozen, shared by reference; a new reading is a new thing, so that the last good one can stay
 * in force as long as it is needed.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "share/config.h"

struct loaded {
    unsigned refs;
    struct arena arena; /* owns all below */
    const struct config *config;
    struct config_warnings warnings;
    bool has_file;
    struct span file; /* its content */
};

/* The sentence of a failure is upstream's, without `error starting plugins: `. */
[[nodiscard]] int loaded_read(const struct config_input *input, bool nvml_found,
                              struct loaded **ret, struct err *err);
struct loaded *loaded_ref(struct loaded *loaded);
void loaded_unref(struct loaded *loaded); /* NULL is fine */
DEFINE_FREEP(struct loaded, loaded_unref)

/* Whether both come from the same file content: flags and environment never change. */
bool loaded_same(const struct loaded *a, const struct loaded *b);
