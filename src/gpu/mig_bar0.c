#include "gpu/mig_bar0.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "gpu/devnode.h"

/* spec/mig §4.5 */
enum {
    REG_CHIP = 0,
    REG_MODE = 0x1404,
    REG_BOOT = 0x118234,
    REG_WANTED = 0x118f78,
    MAP_BYTES = 0x119000, /* whole pages up to the last of them */

    CHIP_GA100 = 0x170000a1,
    BOOT_COMPLETE = 0x3ff,
    MODE_ENABLED = 1 << 15,
    WANTED_SET = 1 << 15, /* the other bit counts */
    WANTED_ENABLED = 1 << 14,
    WANTED_BITS = WANTED_SET | WANTED_ENABLED,

    NVIDIA_VENDOR = 0x10de,
    PCI_MAX_DEVICES = 1 << 14,
    PCI_PATH_SIZE = sizeof(PCI_DEVICES) + PCI_NAME_SIZE + 32,
};

bool mig_bar0_lists_nvidia(struct span modules)
{
    struct span rest = modules, line, name;
    bool more = true;

    while (span_split(&rest, '\n', &more, &line)) {
        bool fields = true;

        if (span_split(&line, ' ', &fields, &name) && span_equal(name, span_of("nvidia")))
            return true;
    }
    return false;
}

/* ---- what the registers say ---- */

enum mig_bar0_stage mig_bar0_stage(const struct mig_bar0_registers *registers, unsigned waited_ms,
                                   struct mig_bar0_patience patience)
{
    if (registers->chip != CHIP_GA100)
        return MIG_BAR0_OTHER;
    if (registers->boot == BOOT_COMPLETE)
        return MIG_BAR0_READY;
    return waited_ms < patience.limit_ms ? MIG_BAR0_BOOTING : MIG_BAR0_STUCK;
}

static bool is_ready(const struct mig_bar0_registers *registers)
{
    return mig_bar0_stage(registers, 0, (struct mig_bar0_patience){}) == MIG_BAR0_READY;
}

bool mig_bar0_enabled(const struct mig_bar0_registers *registers)
{
    return registers->mode & MODE_ENABLED;
}

bool mig_bar0_pending(const struct mig_bar0_registers *registers)
{
    return registers->wanted & WANTED_SET ? (registers->wanted & WANTED_ENABLED) != 0
                                          : mig_bar0_enabled(registers);
}

struct mig_bar0_change mig_bar0_decide(const struct mig_bar0_registers *registers, bool enabled)
{
    uint32_t bits = enabled ? WANTED_SET | WANTED_ENABLED : WANTED_SET;

    if (!is_ready(registers))
        return (struct mig_bar0_change){};
    return (struct mig_bar0_change){
        .write = mig_bar0_pending(registers) != enabled,
        .value = (registers->wanted & ~(uint32_t)WANTED_BITS) | bits,
        .reset = mig_bar0_enabled(registers) != enabled,
    };
}

/* ---- a board's registers ---- */

struct bar0 {
    volatile uint32_t *words; /* owned mapping; little-endian */
};

static void bar0_done(struct bar0 *bar0)
{
    if (bar0->words)
        munmap((void *)(uintptr_t)bar0->words, MAP_BYTES);
    bar0->words = NULL;
}

static uint32_t load(const struct bar0 *bar0, size_t at)
{
    return le32toh(bar0->words[at / 4]);
}

static void store(struct bar0 *bar0, size_t at, uint32_t value)
{
    bar0->words[at / 4] = htole32(value);
}

static void path_of(const char *pci_name, const char *file, char ret[static PCI_PATH_SIZE])
{
    snprintf(ret, PCI_PATH_SIZE, PCI_DEVICES "/%s/%s", pci_name, file);
}

/* The kernel lets registers be mapped, not read() and written. */
static int bar0_map(int root, const char *pci_name, bool writable, struct bar0 *ret,
                    struct err *err)
{
    char path[PCI_PATH_SIZE];
    struct stat status = {};

    path_of(pci_name, "resource0", path);
    auto_close int fd = openat(root, path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ENOENT, "it has no file resource0, where its registers would be");
    if (fd < 0 || fstat(fd, &status) < 0)
        return err_set(err, errno, "cannot open resource0 %s: %s",
                       writable ? "for writing" : "for reading", strerror(errno));
    if (status.st_size < MAP_BYTES)
        return err_set(err, ENODATA, "its file resource0 has only %lld of the %d bytes needed",
                       (long long)status.st_size, MAP_BYTES);
    void *words =
        mmap(NULL, MAP_BYTES, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED)
        return err_set(err, errno, "cannot map resource0: %s", strerror(errno));
    bar0_done(ret);
    ret->words = words;
    return 0;
}

/* Of another chip nothing but its name: what lies at the other places there, nobody knows. */
static struct mig_bar0_registers bar0_read(const struct bar0 *bar0)
{
    struct mig_bar0_registers registers = { .chip = load(bar0, REG_CHIP) };

    if (registers.chip != CHIP_GA100)
        return registers;
    registers.boot = load(bar0, REG_BOOT);
    registers.mode = load(bar0, REG_MODE);
    registers.wanted = load(bar0, REG_WANTED);
    return registers;
}

/* ---- looking ---- */

struct look {
    int root;
    struct mig_bar0_patience patience;
    unsigned waited_ms;
    struct arena *arena;
    struct mig_node *node;
};

static bool is_gpu(int root, const char *pci_name)
{
    struct reading vendor = devnode_pci_number(root, pci_name, "vendor");
    struct reading class = devnode_pci_class(root, pci_name);
    char path[PCI_PATH_SIZE];
    struct stat status;

    path_of(pci_name, "physfn", path);
    return vendor.known && vendor.value == NVIDIA_VENDOR && class.known &&
           (class.value >> 8 == 0x0300 || class.value >> 8 == 0x0302) &&
           fstatat(root, path, &status, AT_SYMLINK_NOFOLLOW) < 0;
}

static uint32_t pci_pair(int root, const char *pci_name, const char *device, const char *vendor)
{
    struct reading high = devnode_pci_number(root, pci_name, device);
    struct reading low = devnode_pci_number(root, pci_name, vendor);

    return high.known && low.known ? (uint32_t)(high.value << 16 | (low.value & 0xffff)) : 0;
}

static int add_gpu(struct look *look, const char *pci_name, struct err *err)
{
    if (look->node->n_gpus == MIG_MAX_GPUS)
        return err_set(err, E2BIG, "there are more than %d GPUs", MIG_MAX_GPUS);
    struct mig_gpu *gpu = arena_push(look->arena, &look->node->gpus, &look->node->n_gpus);
    if (!gpu)
        return err_no_memory(err);
    *gpu = (struct mig_gpu){
        .uuid = "",
        .bus_id = arena_strdup(look->arena, pci_name),
        .pci_device_id = pci_pair(look->root, pci_name, "device", "vendor"),
        .pci_subsystem_id = pci_pair(look->root, pci_name, "subsystem_device", "subsystem_vendor"),
    };
    gpu->name = arena_printf(look->arena, "%04x:%04x board", gpu->pci_device_id & 0xffff,
                             gpu->pci_device_id >> 16);
    return gpu->bus_id && gpu->name ? 0 : err_no_memory(err);
}

static int list_gpus(struct look *look, struct err *err)
{
    int fd = openat(look->root, PCI_DEVICES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *devices = fd >= 0 ? fdopendir(fd) : NULL;
    char name[PCI_NAME_SIZE];
    struct dirent *entry;
    int r = 0;

    if (!devices) {
        r = err_set(err, errno, "cannot list /" PCI_DEVICES ": %s", strerror(errno));
        base_close(&fd);
        return r;
    }
    for (unsigned n = 0; r == 0 && n < PCI_MAX_DEVICES && (entry = readdir(devices)); n++)
        if (pci_name_from_nvml(entry->d_name, name) && is_gpu(look->root, name))
            r = add_gpu(look, name, err);
    closedir(devices);
    return r;
}

static int by_address(const void *a, const void *b)
{
    const struct mig_gpu *x = a, *y = b;
    size_t x_len = strlen(x->bus_id), y_len = strlen(y->bus_id);

    if (x_len != y_len) /* the domain has more digits */
        return x_len < y_len ? -1 : 1;
    return strcmp(x->bus_id, y->bus_id);
}

static void wait_a_little(struct look *look)
{
    const struct timespec pause = { .tv_nsec = look->patience.poll_ms * 1000000L };

    nanosleep(&pause, NULL);
    look->waited_ms += MAX(look->patience.poll_ms, 1u);
}

static int read_mode(struct look *look, struct mig_gpu *gpu, struct err *err)
{
    auto_(bar0_done) struct bar0 bar0 = {};

    int r = bar0_map(look->root, gpu->bus_id, false, &bar0, err);
    if (r < 0)
        return r;
    for (;;) {
        struct mig_bar0_registers registers = bar0_read(&bar0);

        switch (mig_bar0_stage(&registers, look->waited_ms, look->patience)) {
        case MIG_BAR0_OTHER:
            return 0;
        case MIG_BAR0_BOOTING:
            wait_a_little(look);
            break;
        case MIG_BAR0_STUCK:
            return err_set(err, ETIMEDOUT, "it has not finished booting within %u ms",
                           look->patience.limit_ms);
        case MIG_BAR0_READY:
            gpu->capable = true;
            gpu->enabled = mig_bar0_enabled(&registers);
            gpu->pending = mig_bar0_pending(&registers);
            return 0;
        }
    }
}

int mig_bar0_look(int root, struct mig_bar0_patience patience, struct arena *arena,
                  struct mig_node **ret, struct err *err)
{
    struct look look = {
        .root = root,
        .patience = patience,
        .arena = arena,
        .node = arena_new(arena, struct mig_node),
    };

    if (!look.node)
        return err_no_memory(err);
    look.node->driver_version = "";
    int r = list_gpus(&look, err);
    if (r < 0)
        return r;
    if (look.node->n_gpus > 0)
        qsort(look.node->gpus, look.node->n_gpus, sizeof(look.node->gpus[0]), by_address);
    for (size_t i = 0; i < look.node->n_gpus; i++) {
        struct mig_gpu *gpu = &look.node->gpus[i];
        struct err why = {};

        gpu->index = (uint32_t)i;
        if (read_mode(&look, gpu, &why) < 0 && !(gpu->problem = arena_strdup(arena, why.text)))
            return err_no_memory(err);
    }
    *ret = look.node;
    return 0;
}

/* ---- changing ---- */

/* One GPU that is not yet as it should be. */
struct job {
    const struct mig_gpu *gpu;
    bool enabled;
    struct mig_bar0_change change;
    struct bar0 bar0; /* writable where a write is due */
    int reset;        /* owned; open where a reset is due */
    bool written;
    uint32_t before; /* the register of the wanted mode, where written */
};

struct work {
    int root;
    bool skip_reset;
    size_t n;
    struct job jobs[MIG_MAX_GPUS];
};

static void work_done(struct work *work)
{
    for (size_t i = 0; i < work->n; i++) {
        bar0_done(&work->jobs[i].bar0);
        base_close(&work->jobs[i].reset);
    }
}

static int of_gpu(const struct mig_gpu *gpu, int r, struct err *err)
{
    return r < 0 ? err_wrap(err, r, "GPU %u (%s)", gpu->index, gpu->bus_id) : r;
}

/* Whoever has it, be it for a virtual machine, counts on nobody resetting it. */
static int check_unbound(int root, const char *pci_name, struct err *err)
{
    char path[PCI_PATH_SIZE], target[256];

    path_of(pci_name, "driver", path);
    ssize_t n = readlinkat(root, path, target, sizeof(target) - 1);
    if (n < 0)
        return 0;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    return err_set(err, EBUSY, "the driver %s has it, so its registers are left alone",
                   slash ? slash + 1 : target);
}

static int open_reset(int root, struct job *job, struct err *err)
{
    char path[PCI_PATH_SIZE];

    path_of(job->gpu->bus_id, "reset", path);
    job->reset = openat(root, path, O_WRONLY | O_CLOEXEC);
    if (job->reset >= 0)
        return 0;
    if (errno == ENOENT)
        return err_set(err, ENOENT, "it has no file reset, so only a reboot can bring a new mode");
    return err_set(err, errno, "cannot open its file reset: %s", strerror(errno));
}

static int prepare(struct work *work, struct job *job, struct err *err)
{
    int r = check_unbound(work->root, job->gpu->bus_id, err);

    if (r == 0 && job->change.reset && !work->skip_reset)
        r = open_reset(work->root, job, err);
    if (r == 0 && job->change.write)
        r = bar0_map(work->root, job->gpu->bus_id, true, &job->bar0, err);
    return r;
}

static int add_job(struct work *work, const struct mig_gpu *gpu, bool enabled, struct err *err)
{
    struct job *job = &work->jobs[work->n];

    if (gpu->problem)
        return err_set(err, EIO, "%s", gpu->problem);
    if (!gpu->capable)
        return 0;
    *job = (struct job){ .gpu = gpu, .enabled = enabled, .reset = -1 };
    work->n++;
    int r = bar0_map(work->root, gpu->bus_id, false, &job->bar0, err);
    if (r < 0)
        return r;
    const struct mig_bar0_registers registers = bar0_read(&job->bar0);
    job->change = mig_bar0_decide(&registers, enabled);
    return job->change.write || job->change.reset ? prepare(work, job, err) : 0;
}

/* Looks once more, as hooks and time have passed since. */
static int write_mode(struct job *job, struct err *err)
{
    const struct mig_bar0_registers before = bar0_read(&job->bar0);

    if (!is_ready(&before))
        return err_set(err, EBUSY, "its registers are not what they were a moment ago");
    job->change = mig_bar0_decide(&before, job->enabled);
    if (!job->change.write)
        return 0;
    job->before = before.wanted;
    job->written = true;
    store(&job->bar0, REG_WANTED, job->change.value);
    const struct mig_bar0_registers after = bar0_read(&job->bar0);
    if (mig_bar0_pending(&after) != job->enabled)
        return err_set(err, EIO, "its register does not keep the new mode");
    return 0;
}

static void take_back(struct work *work)
{
    for (size_t i = 0; i < work->n; i++) {
        struct job *job = &work->jobs[i];

        if (job->written)
            store(&job->bar0, REG_WANTED,
                  (load(&job->bar0, REG_WANTED) & ~(uint32_t)WANTED_BITS) |
                      (job->before & WANTED_BITS));
    }
}

static int write_modes(struct work *work, struct err *err)
{
    for (size_t i = 0; i < work->n; i++) {
        struct job *job = &work->jobs[i];
        int r = job->change.write ? of_gpu(job->gpu, write_mode(job, err), err) : 0;

        if (r < 0) {
            take_back(work);
            return r;
        }
    }
    return 0;
}

/* The kernel waits for it to end. */
static int reset_gpus(struct work *work, struct err *err)
{
    for (size_t i = 0; i < work->n; i++) {
        const struct job *job = &work->jobs[i];
        ssize_t n = job->reset >= 0 ? write(job->reset, "1", 1) : 1;

        if (n != 1) {
            int code = n < 0 ? errno : EIO;
            return err_set(err, code, "error resetting all GPUs: GPU %u (%s): %s", job->gpu->index,
                           job->gpu->bus_id, strerror(code));
        }
    }
    return 0;
}

int mig_bar0_apply(int root, const struct mig_node *node, const struct mig_wish *wishes,
                   bool skip_reset, struct err *err)
{
    auto_(work_done) struct work work = { .root = root, .skip_reset = skip_reset };
    int r = 0;

    for (size_t i = 0; r == 0 && i < node->n_gpus; i++)
        if (wishes[i].kind == MIG_WISH_MODE)
            r = of_gpu(&node->gpus[i], add_job(&work, &node->gpus[i], wishes[i].enabled, err), err);
    if (r == 0)
        r = write_modes(&work, err);
    return r < 0 ? r : reset_gpus(&work, err);
}
