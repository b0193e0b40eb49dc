/*
 * gpu-workload: says what a container was given, as one JSON document on one line, and ends or
 * stays. What a test then compares is what a tenant sees, and not what somebody meant to give.
 *
 *   usage: gpu-workload [--library FILE] [--stay]
 *
 *   environment   the variables that mean something to a GPU program
 *   devices       GPU device nodes below /dev, and what came of opening each for reading and
 *                 writing: "ok", or an errno's name. EPERM: the container was not given it. ENXIO:
 *                 it was, and there is no driver behind it, as on a simulated node
 *   mounts        what is mounted for GPUs, from /proc/self/mountinfo
 *   visible       the names in /var/run/nvidia-container-devices
 *   library       the NVML that was loaded, or why none was
 *   gpus          what that NVML lists, with MIG devices
 *
 * With --stay it ends at SIGTERM or SIGINT, at once and with status 0. Status 2: wrong arguments.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MAX_DEPTH = 3, MAX_LINE = 8192 };

/* ---- JSON ---- */

/* True until the first member of the innermost list or object was written. */
static bool is_first = true;

static void comma(void)
{
    if (!is_first)
        putchar(',');
    is_first = false;
}

static void put_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* A member's name; NULL in a list. */
static void put_name(const char *name)
{
    comma();
    if (!name)
        return;
    put_text(name);
    putchar(':');
}

static void put_member(const char *name, const char *value)
{
    put_name(name);
    if (value)
        put_text(value);
    else
        printf("null");
}

static void put_number(const char *name, unsigned long long value)
{
    put_name(name);
    printf("%llu", value);
}

static void open_with(const char *name, char bracket)
{
    put_name(name);
    putchar(bracket);
    is_first = true;
}

static void close_with(char bracket)
{
    putchar(bracket);
    is_first = false;
}

/* ---- what was given ---- */

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool has_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strstr(text, *words))
            return true;
    return false;
}

static void put_environment(void)
{
    static const char *const prefixes[] = { "NVIDIA_", "CUDA_",  "NCCL_",           "GPU_", "MPS_",
                                            "TRANCHE", "LD_PRE", "LD_LIBRARY_PATH", NULL };

    open_with("environment", '{');
    for (char **item = environ; *item; item++) {
        char *equals = strchr(*item, '=');

        for (size_t i = 0; prefixes[i] && equals; i++) {
            if (!starts(*item, prefixes[i]))
                continue;
            *equals = '\0';
            put_member(*item, equals + 1);
            *equals = '=';
            break;
        }
    }
    close_with('}');
}

static const char *opening(const char *path)
{
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        return strerrorname_np(errno);
    close(fd);
    return "ok";
}

static void put_device(const char *path, const struct stat *st)
{
    bool is_node = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);

    open_with(NULL, '{');
    put_member("path", path);
    put_member("type", S_ISCHR(st->st_mode)   ? "character"
                       : S_ISBLK(st->st_mode) ? "block"
                                              : "file");
    put_number("major", is_node ? major(st->st_rdev) : 0);
    put_number("minor", is_node ? minor(st->st_rdev) : 0);
    put_member("open", opening(path));
    close_with('}');
}

/* By name, or by the numbers of NVIDIA's driver and of display drivers. */
static bool is_gpu_node(const char *path, const struct stat *st)
{
    static const char *const names[] = { "/nvidia", "/dri/", "/gdrdrv", "/infiniband/", NULL };
    enum { MAJOR_NVIDIA = 195, MAJOR_DRM = 226 };

    return has_one_of(path, names) ||
           (S_ISCHR(st->st_mode) &&
            (major(st->st_rdev) == MAJOR_NVIDIA || major(st->st_rdev) == MAJOR_DRM));
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strverscmp((*a)->d_name, (*b)->d_name);
}

static int is_entry(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void put_devices_in(const char *dir, int depth)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_entry, compare_names);

    for (int i = 0; i < n; i++) {
        char path[512];
        struct stat st;

        snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
        free(entries[i]);
        if (lstat(path, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
            put_devices_in(path, depth + 1);
        else if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode) && is_gpu_node(path, &st))
            put_device(path, &st);
    }
    free(entries);
}

static void put_mounts(void)
{
    static const char *const words[] = { "nvidia", "cuda",    ".so.", "/dev/shm",
                                         "/mps",   "tranche", NULL };
    FILE *file = fopen("/proc/self/mountinfo", "re");
    char line[MAX_LINE], source[4096], path[4096], options[512];

    open_with("mounts", '[');
    while (file && fgets(line, sizeof(line), file)) {
        const char *rest = strstr(line, " - ");
        char type[64] = "";

        if (sscanf(line, "%*d %*d %*s %4095s %4095s %511s", source, path, options) != 3 ||
            !has_one_of(path, words))
            continue;
        if (rest)
            sscanf(rest, " - %63s", type);
        open_with(NULL, '{');
        put_member("path", path);
        put_member("source", source);
        put_member("type", type);
        put_member("options", options);
        close_with('}');
    }
    close_with(']');
    if (file)
        fclose(file);
}

static void put_visible(void)
{
    struct dirent **entries = NULL;
    int n = scandir("/var/run/nvidia-container-devices", &entries, is_entry, compare_names);

    open_with("visible", '[');
    for (int i = 0; i < n; i++) {
        put_member(NULL, entries[i]->d_name);
        free(entries[i]);
    }
    close_with(']');
    free(entries);
}

/* ---- NVML ---- */

typedef void *nvml_device;

/* Declared here from its public API: the few calls that answer "what do I see". */
static struct {
    int (*init)(void);
    int (*driver)(char *version, unsigned length);
    int (*count)(unsigned *count);
    int (*handle)(unsigned index, nvml_device *device);
    int (*uuid)(nvml_device device, char *uuid, unsigned length);
    int (*name)(nvml_device device, char *name, unsigned length);
    int (*memory)(nvml_device device, unsigned long long total_free_used[3]);
    int (*mig_mode)(nvml_device device, unsigned *current, unsigned *pending);
    int (*mig_count)(nvml_device device, unsigned *count);
    int (*mig_handle)(nvml_device device, unsigned index, nvml_device *mig);
} nvml;

static bool find_calls(void *library)
{
    const struct {
        const char *name;
        void *call;
    } calls[] = {
        { "nvmlInit_v2", &nvml.init },
        { "nvmlSystemGetDriverVersion", &nvml.driver },
        { "nvmlDeviceGetCount_v2", &nvml.count },
        { "nvmlDeviceGetHandleByIndex_v2", &nvml.handle },
        { "nvmlDeviceGetUUID", &nvml.uuid },
        { "nvmlDeviceGetName", &nvml.name },
        { "nvmlDeviceGetMemoryInfo", &nvml.memory },
        { "nvmlDeviceGetMigMode", &nvml.mig_mode },
        { "nvmlDeviceGetMaxMigDeviceCount", &nvml.mig_count },
        { "nvmlDeviceGetMigDeviceHandleByIndex", &nvml.mig_handle },
    };

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        void *symbol = dlsym(library, calls[i].name);

        if (!symbol)
            return false;
        memcpy(calls[i].call, &symbol, sizeof(symbol));
    }
    return true;
}

/* Where a driver's files were mounted without a hook that makes the usual link to them. */
static void *open_versioned(char *path, size_t size)
{
    static const char *const patterns[] = { "/usr/lib/*-linux-gnu/libnvidia-ml.so.*",
                                            "/usr/lib64/libnvidia-ml.so.*" };
    void *library = NULL;

    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]) && !library; i++) {
        glob_t found = {};

        if (glob(patterns[i], 0, NULL, &found) == 0)
            library = dlopen(found.gl_pathv[0], RTLD_NOW);
        if (library)
            snprintf(path, size, "%s", found.gl_pathv[0]);
        globfree(&found);
    }
    return library;
}

static void put_facts(nvml_device device)
{
    char uuid[96] = "", name[96] = "";
    unsigned long long memory[3] = {};

    nvml.uuid(device, uuid, sizeof(uuid));
    nvml.name(device, name, sizeof(name));
    nvml.memory(device, memory);
    put_member("uuid", uuid);
    put_member("name", name);
    put_number("memoryBytes", memory[0]);
}

static void put_gpu(unsigned index, nvml_device device)
{
    unsigned current = 0, pending, n = 0;
    nvml_device mig;

    open_with(NULL, '{');
    put_number("index", index);
    put_facts(device);
    nvml.mig_mode(device, &current, &pending);
    put_number("migMode", current);
    open_with("migDevices", '[');
    if (current)
        nvml.mig_count(device, &n);
    for (unsigned i = 0; i < n; i++) {
        if (nvml.mig_handle(device, i, &mig) != 0)
            continue;
        open_with(NULL, '{');
        put_facts(mig);
        close_with('}');
    }
    close_with(']');
    close_with('}');
}

static void put_gpus(void *library)
{
    unsigned n = 0;
    nvml_device device;
    bool works = library && find_calls(library) && nvml.init() == 0 && nvml.count(&n) == 0;

    open_with("gpus", '[');
    for (unsigned i = 0; works && i < n; i++)
        if (nvml.handle(i, &device) == 0)
            put_gpu(i, device);
    close_with(']');

    char version[96] = "";
    if (works)
        nvml.driver(version, sizeof(version));
    put_member("driverVersion", works ? version : NULL);
}

static void put_nvml(const char *wanted)
{
    char path[4096];
    void *library = dlopen(wanted ? wanted : "libnvidia-ml.so.1", RTLD_NOW);

    snprintf(path, sizeof(path), "%s", wanted ? wanted : "libnvidia-ml.so.1");
    const char *error = library ? NULL : dlerror();
    if (!library && !wanted && (library = open_versioned(path, sizeof(path))))
        error = NULL;
    open_with("library", '{');
    put_member("path", library ? path : NULL);
    put_member("error", error);
    close_with('}');
    put_gpus(library);
}

/* ---- life ---- */

/* The first process of a container has no default actions for signals, and reaps. */
static void stay(const sigset_t *set)
{
    int number;

    while (sigwait(set, &number) == 0 && number == SIGCHLD)
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
}

int main(int argc, char **argv)
{
    const char *library = NULL;
    bool stays = false;
    sigset_t set;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stay") == 0) {
            stays = true;
        } else if (strcmp(argv[i], "--library") == 0 && i + 1 < argc) {
            library = argv[++i];
        } else {
            fprintf(stderr, "usage: gpu-workload [--library FILE] [--stay]\n");
            return 2;
        }
    }
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);

    putchar('{');
    put_environment();
    open_with("devices", '[');
    put_devices_in("/dev", 1);
    close_with(']');
    put_mounts();
    put_visible();
    put_nvml(library);
    puts("}");
    fflush(stdout);
    if (stays)
        stay(&set);
    return 0;
}
