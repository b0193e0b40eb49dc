/*
 * NVML's calls as typed pointers, from the one list in nvml_calls.def. Private to gpu/.
 *
 * Every pointer can be called: one that the library lacks answers NOT_SUPPORTED and leaves its
 * outputs alone.
 */
#pragma once

#include <pthread.h>

#include "gpu/nvml.h"
#include "gpu/nvml_abi.h"

struct nvml {
#define NVML_CALL(member, symbol, need, args) nvmlReturn_t(*member) args;
#include "gpu/nvml_calls.def"

    const char *(*error_string)(nvmlReturn_t code); /* NULL where the library has none */
    void *library;                                  /* owned; of dlopen */
    char *path;                                     /* owned */
    unsigned refs;                                  /* atomic */
    pthread_mutex_t lock; /* guards n_inits, and is held while the library starts or stops */
    unsigned n_inits;
};

/* NVML's own words for a code ("Not Supported"), else upstream's name for it ("ERROR_UNKNOWN"). */
const char *nvml_words(const struct nvml *nvml, nvmlReturn_t code);

/* A positive errno: EINVAL, ENOTSUP, EPERM, ENOENT, ENXIO (no driver), ETIMEDOUT, ENODEV (the GPU
 * is lost), EUCLEAN (it needs a reset), ELIBBAD, EBUSY, ENOSPC, … EIO for the rest; never ENOMEM,
 * which is our own lack of memory. */
int nvml_errno(nvmlReturn_t code);

/* `cannot read the name of GPU 3: GPU is lost`; returns -nvml_errno(code). */
PRINTF(4, 5)
int nvml_fail(const struct nvml *nvml, nvmlReturn_t code, struct err *err, const char *format, ...);
