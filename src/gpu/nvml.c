#include "gpu/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gpu/nvml_table.h"

enum { RESUME_TRIES = 3 }; /* too much hangs on it to give up at once */

/* The order of spec/device-plugin §2.8. */
static const char *const library_folders[] = {
    "usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu",
    "lib64",     "lib/x86_64-linux-gnu",     "lib/aarch64-linux-gnu",
};

/* A function for each call that a library may lack. */
#define NVML_CALL(member, symbol, need, args)                                                      \
    static nvmlReturn_t absent_##member args                                                       \
    {                                                                                              \
        return NVML_NOT_SUPPORTED;                                                                 \
    }
#include "gpu/nvml_calls.def"

static const struct nvml absent = {
#define NVML_CALL(member, symbol, need, args) .member = absent_##member,
#include "gpu/nvml_calls.def"
};

static const struct symbol {
    const char *name;
    size_t member; /* offset of the pointer in struct nvml */
    enum { REQUIRED, OPTIONAL, OLDER } need;
} symbols[] = {
#define NVML_CALL(member, symbol, need, args) { #symbol, offsetof(struct nvml, member), need },
#define NVML_OLDER(member, symbol)            { #symbol, offsetof(struct nvml, member), OLDER },
#include "gpu/nvml_calls.def"
};

/* Name and errno of each code, spec/nvml §6. None is ENOMEM: that is our own lack of memory. */
static const struct {
    nvmlReturn_t code;
    const char *name;
    int number;
} codes[] = {
    { 1, "ERROR_UNINITIALIZED", EBADFD },
    { 2, "ERROR_INVALID_ARGUMENT", EINVAL },
    { 3, "ERROR_NOT_SUPPORTED", ENOTSUP },
    { 4, "ERROR_NO_PERMISSION", EPERM },
    { 5, "ERROR_ALREADY_INITIALIZED", EALREADY },
    { 6, "ERROR_NOT_FOUND", ENOENT },
    { 7, "ERROR_INSUFFICIENT_SIZE", EOVERFLOW },
    { 8, "ERROR_INSUFFICIENT_POWER", EIO },
    { 9, "ERROR_DRIVER_NOT_LOADED", ENXIO },
    { 10, "ERROR_TIMEOUT", ETIMEDOUT },
    { 11, "ERROR_IRQ_ISSUE", EIO },
    { 12, "ERROR_LIBRARY_NOT_FOUND", ENOENT },
    { 13, "ERROR_FUNCTION_NOT_FOUND", ENOSYS },
    { 14, "ERROR_CORRUPTED_INFOROM", EIO },
    { 15, "ERROR_GPU_IS_LOST", ENODEV },
    { 16, "ERROR_RESET_REQUIRED", EUCLEAN },
    { 17, "ERROR_OPERATING_SYSTEM", EACCES },
    { 18, "ERROR_LIB_RM_VERSION_MISMATCH", ELIBBAD },
    { 19, "ERROR_IN_USE", EBUSY },
    { 20, "ERROR_MEMORY", ENOBUFS },
    { 21, "ERROR_NO_DATA", ENODATA },
    { 22, "ERROR_VGPU_ECC_NOT_SUPPORTED", ENOTSUP },
    { 23, "ERROR_INSUFFICIENT_RESOURCES", ENOSPC },
    { 24, "ERROR_FREQ_NOT_SUPPORTED", ENOTSUP },
    { 25, "ERROR_ARGUMENT_VERSION_MISMATCH", EPROTO },
    { 26, "ERROR_DEPRECATED", ENOSYS },
    { 27, "ERROR_NOT_READY", EAGAIN },
    { 28, "ERROR_GPU_NOT_FOUND", ENODEV },
    { 29, "ERROR_INVALID_STATE", ENOTRECOVERABLE },
    { 30, "ERROR_RESET_TYPE_NOT_SUPPORTED", ENOTSUP },
};

const char *nvml_words(const struct nvml *nvml, nvmlReturn_t code)
{
    const char *text = nvml->error_string ? nvml->error_string(code) : NULL;

    if (text)
        return text;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].code == code)
            return codes[i].name;
    return "ERROR_UNKNOWN";
}

int nvml_errno(nvmlReturn_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].code == code)
            return codes[i].number;
    return EIO;
}

int nvml_fail(const struct nvml *nvml, nvmlReturn_t code, struct err *err, const char *format, ...)
{
    char what[256];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    return err_set(err, nvml_errno(code), "%s: %s", what, nvml_words(nvml, code));
}

int nvml_find_library(const char *driver_root, const char *name, char *path, size_t size)
{
    char candidate[PATH_MAX], resolved[PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(library_folders); i++) {
        int n = snprintf(candidate, sizeof(candidate), "%s/%s/%s", driver_root, library_folders[i],
                         name);
        if (n < 0 || (size_t)n >= sizeof(candidate) || access(candidate, F_OK) < 0)
            continue;
        if (!realpath(candidate, resolved) || strlen(resolved) >= size)
            continue;
        strcpy(path, resolved);
        return 0;
    }
    return -ENOENT;
}

static int bind_symbols(struct nvml *nvml, const char *path, struct err *err)
{
    bool found = false;

    for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
        const struct symbol *symbol = &symbols[i];

        if (symbol->need == OLDER && found)
            continue;
        void *address = dlsym(nvml->library, symbol->name);
        if (!address && symbol->need == REQUIRED)
            return err_set(err, ELIBBAD, "%s has no %s: it is not NVIDIA's management library",
                           path, symbol->name);
        if (address)
            memcpy((char *)nvml + symbol->member, &address, sizeof(address));
        found = address != NULL;
    }

    void *address = dlsym(nvml->library, "nvmlErrorString");
    memcpy(&nvml->error_string, &address, sizeof(address));
    return 0;
}

/* The file behind a library, also where the loader chose it. */
static char *library_file(const struct nvml *nvml, const char *path)
{
    Dl_info info;
    void *address;

    memcpy(&address, &nvml->init, sizeof(address));
    return strdup(dladdr(address, &info) && info.dli_fname ? info.dli_fname : path);
}

int nvml_open(const char *driver_root, struct nvml **ret, struct err *err)
{
    auto_(nvml_unrefp) struct nvml *nvml = malloc(sizeof(*nvml));
    char path[PATH_MAX] = "libnvidia-ml.so.1";

    if (!nvml)
        return err_no_memory(err);
    *nvml = absent;
    nvml->refs = 1;
    pthread_mutex_init(&nvml->lock, NULL);

    if (driver_root && *driver_root &&
        nvml_find_library(driver_root, "libnvidia-ml.so.1", path, sizeof(path)) == 0)
        nvml->library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!nvml->library) {
        strcpy(path, "libnvidia-ml.so.1");
        nvml->library = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    }
    if (!nvml->library)
        return err_set(err, ENOENT, "cannot load NVIDIA's management library: %s", dlerror());

    int r = bind_symbols(nvml, path, err);
    if (r < 0)
        return r;
    nvml->path = library_file(nvml, path);
    if (!nvml->path)
        return err_no_memory(err);
    *ret = steal(nvml);
    return 0;
}

struct nvml *nvml_ref(struct nvml *nvml)
{
    __atomic_add_fetch(&nvml->refs, 1, __ATOMIC_RELAXED);
    return nvml;
}

void nvml_unref(struct nvml *nvml)
{
    if (!nvml || __atomic_sub_fetch(&nvml->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    if (nvml->library)
        dlclose(nvml->library);
    pthread_mutex_destroy(&nvml->lock);
    free(nvml->path);
    free(nvml);
}

const char *nvml_path(const struct nvml *nvml)
{
    return nvml->path;
}

int nvml_init(struct nvml *nvml, struct err *err)
{
    nvmlReturn_t code = NVML_SUCCESS;

    pthread_mutex_lock(&nvml->lock);
    if (nvml->n_inits == 0)
        code = nvml->init();
    if (code == NVML_SUCCESS)
        nvml->n_inits++;
    pthread_mutex_unlock(&nvml->lock);

    if (code != NVML_SUCCESS)
        return err_set(err, nvml_errno(code), "%s", nvml_words(nvml, code));
    nvml_ref(nvml);
    return 0;
}

void nvml_shutdown(struct nvml *nvml)
{
    pthread_mutex_lock(&nvml->lock);
    if (--nvml->n_inits == 0)
        (void)nvml->shutdown();
    pthread_mutex_unlock(&nvml->lock);
    nvml_unref(nvml);
}

unsigned nvml_major(const struct nvml *nvml)
{
    char version[NVML_STRING_SIZE] = "";

    if (nvml->nvml_version(version, sizeof(version)) != NVML_SUCCESS)
        return 0;
    version[sizeof(version) - 1] = '\0';
    return (unsigned)strtoul(version, NULL, 10);
}

void nvml_pause(struct nvml *nvml)
{
    pthread_mutex_lock(&nvml->lock);
    if (nvml->n_inits > 0 && nvml->shutdown() != NVML_SUCCESS)
        (void)nvml->shutdown();
    pthread_mutex_unlock(&nvml->lock);
}

int nvml_resume(struct nvml *nvml, struct err *err)
{
    nvmlReturn_t code = NVML_SUCCESS;

    pthread_mutex_lock(&nvml->lock);
    for (unsigned tries = 0; nvml->n_inits > 0 && tries < RESUME_TRIES; tries++) {
        code = nvml->init();
        if (code == NVML_SUCCESS)
            break;
    }
    pthread_mutex_unlock(&nvml->lock);
    return code == NVML_SUCCESS ? 0 : err_set(err, nvml_errno(code), "%s", nvml_words(nvml, code));
}
