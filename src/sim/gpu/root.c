#include "sim/gpu/root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "sim/gpu/tree.h"

enum { TOPOLOGY_SWITCH = 10, VENDOR_NVIDIA = 0x10de };

/* Space for a PCI function's name, "0000:1b:00.0". */
enum { BDF_SIZE = 32 };

static void gpu_bdf(const struct sim_gpu *gpu, char ret[static BDF_SIZE])
{
    snprintf(ret, BDF_SIZE, "%04x:%02x:%02x.0", gpu->pci_domain, gpu->pci_bus, gpu->pci_device);
}

/* --- sysfs ----------------------------------------------------------------------------------- */

static void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value);
    put16(at + 2, value >> 16);
}

/* The configuration space: header and a chain of power management, MSI and PCI Express. */
static void pci_config(const struct sim_gpu *gpu, uint8_t ret[static 256])
{
    enum { STATUS = 6, CLASS = 8, SUBSYSTEM = 0x2c, CHAIN = 0x34 };
    enum { POWER = 0x60, MSI = 0x68, EXPRESS = 0x78 };

    memset(ret, 0, 256);
    put32(ret, gpu->pci_device_id >> 16 << 16 | VENDOR_NVIDIA);
    put16(ret, VENDOR_NVIDIA);
    put16(ret + 2, gpu->pci_device_id >> 16);
    put16(ret + 4, 0x0406);      /* memory, bus master, no legacy interrupt */
    put16(ret + STATUS, 0x0010); /* there is a chain */
    put32(ret + CLASS, gpu->pci_class << 8 | 0xa1);
    put16(ret + SUBSYSTEM, gpu->pci_subsystem_id & 0xffff);
    put16(ret + SUBSYSTEM + 2, gpu->pci_subsystem_id >> 16);
    ret[CHAIN] = POWER;
    memcpy(ret + POWER, (uint8_t[]){ 0x01, MSI, 0x23, 0x48 }, 4);
    memcpy(ret + MSI, (uint8_t[]){ 0x05, EXPRESS, 0x80, 0x00 }, 4);
    memcpy(ret + EXPRESS, (uint8_t[]){ 0x10, 0x00, 0x02, 0x00 }, 4);
    /* Link: capabilities (speed, width) and status. */
    put32(ret + EXPRESS + 0x0c, gpu->max_pcie_generation | gpu->max_pcie_width << 4);
    put16(ret + EXPRESS + 0x12, gpu->pcie_generation | gpu->pcie_width << 4);
}

/* Six base addresses, the ROM, six of virtual functions. */
static void write_resource(struct tree *tree, const char *path, const struct sim_gpu *gpu)
{
    const uint64_t registers = 0x90000000ull + gpu->minor * MIB(64), register_bytes = MIB(16);
    const uint64_t memory = 0x200000000000ull + ((uint64_t)gpu->minor << 40);
    const uint64_t io = memory + (1ull << 39), io_bytes = MIB(32);
    const struct {
        uint64_t start, bytes, flags;
    } lines[13] = {
        [0] = { registers, register_bytes, 0x40200 },
        [1] = { memory, MAX(gpu->bar1_bytes, 1u), 0x14220c },
        [3] = { io, io_bytes, 0x14220c },
    };
    char text[13 * 57 + 1];
    int n = 0;

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        n +=
            snprintf(text + n, sizeof(text) - (size_t)n, "0x%016llx 0x%016llx 0x%016llx\n",
                     (unsigned long long)lines[i].start,
                     (unsigned long long)(lines[i].bytes ? lines[i].start + lines[i].bytes - 1 : 0),
                     (unsigned long long)lines[i].flags);
    tree_bytes(tree, path, 0444, text, (size_t)n);
}

/* GPUs behind one switch hang on one bridge: the first of them gives it its name. */
static void bridge_path(const struct sim_state *state, uint32_t index, char ret[static 64])
{
    uint32_t first = 0;

    while (first < index && (state->topology.level[index][first] == 0 ||
                             state->topology.level[index][first] > TOPOLOGY_SWITCH))
        first++;

    const struct sim_gpu *gpu = &state->gpus[first];
    uint32_t bus = gpu->pci_bus > 0 ? gpu->pci_bus - 1 : 0;

    snprintf(ret, 64, "pci%04x:%02x/%04x:%02x:01.0", gpu->pci_domain, bus, gpu->pci_domain, bus);
}

/* Register 0: the chip. Of an architecture with several data-centre chips, the usual one. */
static uint32_t chip_of(const struct sim_gpu *gpu)
{
    enum { VOLTA = 5, TURING = 6, AMPERE = 7, ADA = 8, HOPPER = 9 };

    switch (gpu->architecture) {
    case VOLTA:
        return 0x140000a1;
    case TURING:
        return 0x164000a1;
    case AMPERE:
        return gpu->cc_minor == 0 ? 0x170000a1 : 0x172000a1;
    case ADA:
        return 0x192000a1;
    case HOPPER:
        return 0x180000a1;
    default:
        return 0x1a0000a1;
    }
}

static void write_registers(struct tree *tree, const char *path, const struct sim_gpu *gpu)
{
    enum { GA100 = 0x170000a1, BOOT_COMPLETE = 0x3ff, MIG_ENABLED = 1 << 15 };
    const struct tree_word words[] = {
        { 0, chip_of(gpu) },
        { 0x118234, BOOT_COMPLETE },
        { 0x1404, gpu->mig_current ? MIG_ENABLED : 0 },
    };

    tree_words(tree, path, 0600, MIB(16), words, words[0].value == GA100 ? ARRAY_LEN(words) : 1);
}

static void device_path(const struct sim_state *state, uint32_t index, char ret[static 160])
{
    char bdf[BDF_SIZE], bridge[64];

    gpu_bdf(&state->gpus[index], bdf);
    bridge_path(state, index, bridge);
    snprintf(ret, 160, "sys/devices/%s/%s", bridge, bdf);
}

/* What comes and goes with the node's settings. */
static void write_pci_of_node(struct tree *tree, const struct sim_state *state, uint32_t index)
{
    char at[160], path[200];

    device_path(state, index, at);
    snprintf(path, sizeof(path), "%s/resource0", at);
    if (!state->pci_registers) {
        tree_remove(tree, path);
        tree_remove(tree, tree_at(tree, "%s/reset", at));
    } else if (!tree_has(tree, path)) {
        write_registers(tree, path, &state->gpus[index]);
        tree_bytes(tree, tree_at(tree, "%s/reset", at), 0200, "", 0);
    }
    snprintf(path, sizeof(path), "%s/driver", at);
    if (state->driver_loaded)
        tree_link(tree, path, "../../../../bus/pci/drivers/nvidia");
    else
        tree_remove(tree, path);
}

static void write_pci(struct tree *tree, const struct sim_state *state, uint32_t index)
{
    const struct sim_gpu *gpu = &state->gpus[index];
    char bdf[BDF_SIZE], bridge[64], at[160], link[200];
    uint8_t config[256];

    gpu_bdf(gpu, bdf);
    bridge_path(state, index, bridge);
    device_path(state, index, at);

    tree_file(tree, tree_at(tree, "%s/vendor", at), 0444, "0x%04x\n", VENDOR_NVIDIA);
    tree_file(tree, tree_at(tree, "%s/device", at), 0444, "0x%04x\n", gpu->pci_device_id >> 16);
    tree_file(tree, tree_at(tree, "%s/class", at), 0444, "0x%06x\n", gpu->pci_class);
    tree_file(tree, tree_at(tree, "%s/revision", at), 0444, "0xa1\n");
    tree_file(tree, tree_at(tree, "%s/subsystem_vendor", at), 0444, "0x%04x\n",
              gpu->pci_subsystem_id & 0xffff);
    tree_file(tree, tree_at(tree, "%s/subsystem_device", at), 0444, "0x%04x\n",
              gpu->pci_subsystem_id >> 16);
    tree_file(tree, tree_at(tree, "%s/numa_node", at), 0644, "%d\n", gpu->numa_node);
    pci_config(gpu, config);
    tree_bytes(tree, tree_at(tree, "%s/config", at), 0644, config, sizeof(config));
    write_resource(tree, tree_at(tree, "%s/resource", at), gpu);

    snprintf(link, sizeof(link), "../../../devices/%s/%s", bridge, bdf);
    tree_link(tree, tree_at(tree, "sys/bus/pci/devices/%s", bdf), link);
    write_pci_of_node(tree, state, index);
    if (!state->driver_loaded)
        return;
    snprintf(link, sizeof(link), "../../../../devices/%s/%s", bridge, bdf);
    tree_link(tree, tree_at(tree, "sys/bus/pci/drivers/nvidia/%s", bdf), link);
}

static void write_sys(struct tree *tree, const struct sim_state *state)
{
    tree_dir(tree, "sys/bus/pci/devices");
    for (uint32_t i = 0; i < state->n_gpus; i++)
        write_pci(tree, state, i);
    tree_file(tree, "sys/class/dmi/id/product_name", 0444, "%s\n", state->machine);
    if (!state->driver_loaded)
        return;
    tree_file(tree, "sys/module/nvidia/version", 0444, "%s\n", state->driver_version);
    tree_file(tree, "sys/module/nvidia/initstate", 0444, "live\n");
    tree_file(tree, "sys/module/nvidia/refcnt", 0444, "%u\n", 2 * state->n_gpus);
}

/* --- proc ------------------------------------------------------------------------------------ */

static void write_mig_minors(struct tree *tree)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(256));

    buf_add_text(&text, "config 1\nmonitor 2\n");
    for (uint32_t gpu = 0; gpu < SIM_CAP_GPUS; gpu++) {
        for (uint32_t gi = 0; gi < SIM_CAP_INSTANCES; gi++) {
            buf_printf(&text, "gpu%u/gi%u/access %u\n", gpu, gi,
                       sim_cap_minor(gpu, gi, SIM_NO_INSTANCE));
            for (uint32_t ci = 0; ci < SIM_MAX_COMPUTE_INSTANCES; ci++)
                buf_printf(&text, "gpu%u/gi%u/ci%u/access %u\n", gpu, gi, ci,
                           sim_cap_minor(gpu, gi, ci));
        }
    }
    if (text.failed && tree->r >= 0)
        tree->r = -ENOMEM;
    tree_bytes(tree, "proc/driver/nvidia-caps/mig-minors", 0444, buf_text(&text), text.len);
}

static void write_capability(struct tree *tree, const char *name, uint32_t minor, unsigned mode)
{
    tree_file(tree, tree_at(tree, "proc/driver/nvidia/capabilities/mig/%s", name), mode,
              "DeviceFileMinor: %u\nDeviceFileMode: %u\nDeviceFileModify: 1\n", minor, mode);
    tree_device(tree, tree_at(tree, "dev/nvidia-caps/nvidia-cap%u", minor), mode, SIM_MAJOR_CAPS,
                minor);
}

static void write_capabilities(struct tree *tree, const struct sim_state *state)
{
    write_capability(tree, "config", 1, 0400);
    write_capability(tree, "monitor", 2, 0444);
    for (uint32_t i = 0; i < state->n_gpus; i++)
        tree_dir(tree, tree_at(tree, "proc/driver/nvidia/capabilities/gpu%u%s",
                               state->gpus[i].minor, state->gpus[i].mig_capable ? "/mig" : ""));
}

static void write_gpu_information(struct tree *tree, const struct sim_gpu *gpu)
{
    char bdf[BDF_SIZE];

    gpu_bdf(gpu, bdf);
    tree_file(tree, tree_at(tree, "proc/driver/nvidia/gpus/%s/information", bdf), 0444,
              "Model: \t\t %s\nIRQ:   \t\t %u\nGPU UUID: \t %s\nVideo BIOS: \t %s\n"
              "Bus Type: \t PCIe\nDMA Size: \t 52 bits\nDMA Mask: \t 0xfffffffffffff\n"
              "Bus Location: \t %s\nDevice Minor: \t %u\nGPU Excluded:\t No\n",
              gpu->name, 64 + gpu->minor, gpu->uuid, gpu->vbios, bdf, gpu->minor);
}

static void write_driver_proc(struct tree *tree, const struct sim_state *state)
{
    tree_file(tree, "proc/driver/nvidia/version", 0444,
              "NVRM version: NVIDIA UNIX x86_64 Kernel Module  %s  (simulated by tranche)\n"
              "GCC version:  gcc version 12.2.0\n",
              state->driver_version);
    tree_file(tree, "proc/driver/nvidia/params", 0444,
              "DeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\nModifyDeviceFiles: 1\n"
              "EnableMSI: 1\nDynamicPowerManagement: 3\n");
    for (uint32_t i = 0; i < state->n_gpus; i++)
        write_gpu_information(tree, &state->gpus[i]);
    write_capabilities(tree, state);
    write_mig_minors(tree);
}

static void write_modules(struct tree *tree, const struct sim_state *state)
{
    tree_file(tree, "proc/modules", 0444,
              state->driver_loaded
                  ? "nvidia_uvm 1953792 0 - Live 0x0000000000000000 (OE)\n"
                    "nvidia_modeset 1740800 0 - Live 0x0000000000000000 (OE)\n"
                    "nvidia 97120256 2 nvidia_uvm,nvidia_modeset, Live 0x0000000000000000 (OE)\n"
                    "overlay 217088 0 - Live 0x0000000000000000\n"
                  : "overlay 217088 0 - Live 0x0000000000000000\n");
}

static void write_proc(struct tree *tree, const struct sim_state *state)
{
    char majors[160] = "";

    write_modules(tree, state);
    if (state->driver_loaded)
        snprintf(majors, sizeof(majors),
                 "%3d nvidia\n%3d nvidia-modeset\n%3d nvidiactl\n%3d nvidia-caps\n%3d nvidia-uvm\n",
                 SIM_MAJOR_NVIDIA, SIM_MAJOR_NVIDIA, SIM_MAJOR_NVIDIA, SIM_MAJOR_CAPS,
                 SIM_MAJOR_UVM);
    tree_file(tree, "proc/devices", 0444,
              "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n"
              " 10 misc\n136 pts\n%s\nBlock devices:\n  7 loop\n259 blkext\n",
              majors);
    if (state->driver_loaded)
        write_driver_proc(tree, state);
}

/* --- device nodes ---------------------------------------------------------------------------- */

static void write_dev(struct tree *tree, const struct sim_state *state)
{
    tree_dir(tree, "dev");
    if (!state->driver_loaded)
        return;
    for (uint32_t i = 0; i < state->n_gpus; i++)
        tree_device(tree, tree_at(tree, "dev/nvidia%u", state->gpus[i].minor), 0666,
                    SIM_MAJOR_NVIDIA, state->gpus[i].minor);
    tree_device(tree, "dev/nvidiactl", 0666, SIM_MAJOR_NVIDIA, 255);
    tree_device(tree, "dev/nvidia-modeset", 0666, SIM_MAJOR_NVIDIA, 254);
    tree_device(tree, "dev/nvidia-uvm", 0666, SIM_MAJOR_UVM, 0);
    tree_device(tree, "dev/nvidia-uvm-tools", 0666, SIM_MAJOR_UVM, 1);
}

/* --- libraries, programs, firmware ----------------------------------------------------------- */

/* What the driver's package installs, with the name that programs link against. */
static const struct {
    const char *name, *soname;
} libraries[] = {
    { "libcuda.so", "libcuda.so.1" },
    { "libcudadebugger.so", "libcudadebugger.so.1" },
    { "libnvcuvid.so", "libnvcuvid.so.1" },
    { "libnvidia-allocator.so", "libnvidia-allocator.so.1" },
    { "libnvidia-cfg.so", "libnvidia-cfg.so.1" },
    { "libnvidia-encode.so", "libnvidia-encode.so.1" },
    { "libnvidia-fbc.so", "libnvidia-fbc.so.1" },
    { "libnvidia-ngx.so", "libnvidia-ngx.so.1" },
    { "libnvidia-nvvm.so", "libnvidia-nvvm.so.4" },
    { "libnvidia-opencl.so", "libnvidia-opencl.so.1" },
    { "libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1" },
    { "libnvidia-ptxjitcompiler.so", "libnvidia-ptxjitcompiler.so.1" },
    { "libnvidia-sandboxutils.so", "libnvidia-sandboxutils.so.1" },
    { "libnvoptix.so", "libnvoptix.so.1" },
    { "libEGL_nvidia.so", "libEGL_nvidia.so.0" },
    { "libGLESv1_CM_nvidia.so", "libGLESv1_CM_nvidia.so.1" },
    { "libGLESv2_nvidia.so", "libGLESv2_nvidia.so.2" },
    { "libGLX_nvidia.so", "libGLX_nvidia.so.0" },
    { "libnvidia-eglcore.so", NULL },
    { "libnvidia-glcore.so", NULL },
    { "libnvidia-glsi.so", NULL },
    { "libnvidia-glvkspirv.so", NULL },
    { "libnvidia-gpucomp.so", NULL },
    { "libnvidia-rtcore.so", NULL },
    { "libnvidia-tls.so", NULL },
};

static void write_libraries(struct tree *tree, const struct sim_state *state)
{
    const char *version = state->driver_version;
    char target[160];

    for (size_t i = 0; i < ARRAY_LEN(libraries); i++) {
        snprintf(target, sizeof(target), "%s.%s", libraries[i].name, version);
        tree_file(tree, tree_at(tree, SIM_ROOT_LIBRARIES "/%s", target), 0644,
                  "%s, simulated by tranche: there is nothing in it\n", target);
        if (libraries[i].soname)
            tree_link(tree, tree_at(tree, SIM_ROOT_LIBRARIES "/%s", libraries[i].soname), target);
    }
    tree_link(tree, SIM_ROOT_LIBRARIES "/libcuda.so", "libcuda.so.1");
    snprintf(target, sizeof(target), "libnvidia-ml.so.%s", version);
    tree_link(tree, SIM_ROOT_LIBRARIES "/libnvidia-ml.so.1", target);
    tree_link(tree, SIM_ROOT_LIBRARIES "/libnvidia-ml.so", "libnvidia-ml.so.1");
}

/*
 * nvidia-smi does what other programs run it for: to see whether a driver is there, and (partition
 * tools, on Ampere) to reset GPUs. sim_run says where our own program is. The rest refuse.
 */
static const char nvidia_smi[] =
    "#!/bin/sh\n"
    "case \"$1\" in\n"
    "'') echo 'NVIDIA-SMI %s, a driver simulated by tranche with %u GPUs' ;;\n"
    "-r | --gpu-reset)\n"
    "    case \"$2\" in -i | --id) gpus=$3 ;; *) gpus=all ;; esac\n"
    "    for gpu in $(echo \"$gpus\" | tr , ' '); do\n"
    "        \"${TRANCHE_SIM_PROGRAM:-tranche}\" sim reset \"$gpu\" || exit\n"
    "    done ;;\n"
    "*)\n"
    "    echo \"nvidia-smi $*: not a part of the simulated driver\" >&2\n"
    "    exit 1 ;;\n"
    "esac\n";

static void write_programs(struct tree *tree, const struct sim_state *state)
{
    static const char *const names[] = { "nvidia-debugdump", "nvidia-persistenced",
                                         "nvidia-cuda-mps-control", "nvidia-cuda-mps-server" };

    tree_file(tree, "usr/bin/nvidia-smi", 0755, nvidia_smi, state->driver_version, state->n_gpus);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        tree_file(tree, tree_at(tree, "usr/bin/%s", names[i]), 0755,
                  "#!/bin/sh\necho '%s: not a part of the simulated driver' >&2\nexit 1\n",
                  names[i]);
    tree_file(tree, tree_at(tree, "lib/firmware/nvidia/%s/gsp_ga10x.bin", state->driver_version),
              0644, "simulated by tranche\n");
    tree_file(tree, tree_at(tree, "lib/firmware/nvidia/%s/gsp_tu10x.bin", state->driver_version),
              0644, "simulated by tranche\n");
}

static int copy_file(const char *from, int dir, const char *to, struct err *err)
{
    auto_close int in = open(from, O_RDONLY | O_CLOEXEC);
    auto_close int out = openat(dir, to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    ssize_t n;

    if (in < 0)
        return err_set(err, errno, "%s: %s", from, strerror(errno));
    if (out < 0)
        return err_set(err, errno, "%s: %s", to, strerror(errno));
    do
        n = sendfile(out, in, NULL, MIB(16));
    while (n > 0);
    if (n < 0)
        return err_set(err, errno, "cannot copy %s: %s", from, strerror(errno));
    return 0;
}

/* A link costs nothing, but crosses no file system and needs a file that one may link to. */
static int install_library(struct tree *tree, const struct sim_state *state,
                           const char *library_path, struct err *err)
{
    const char *to = tree_at(tree, SIM_ROOT_LIBRARIES "/libnvidia-ml.so.%s", state->driver_version);

    if (linkat(AT_FDCWD, library_path, tree->fd, to, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    return copy_file(library_path, tree->fd, to, err);
}

/* --- all together ---------------------------------------------------------------------------- */

static int write_root(const char *root, const struct sim_state *state, const char *library_path,
                      struct err *err)
{
    auto_(tree_done) struct tree tree = TREE_NONE;
    int r = tree_open(&tree, root, err);

    if (r < 0)
        return r;
    write_sys(&tree, state);
    write_proc(&tree, state);
    write_dev(&tree, state);
    write_libraries(&tree, state);
    write_programs(&tree, state);
    r = tree_result(&tree, err);
    return r < 0 ? r : install_library(&tree, state, library_path, err);
}

static int put_in_place(const char *fresh, const char *root, struct err *err)
{
    int r = file_remove_tree(root, err);

    if (r < 0)
        return r;
    if (rename(fresh, root) < 0)
        return err_set(err, errno, "%s: %s", root, strerror(errno));
    return 0;
}

int sim_root_create(const char *dir, const struct sim_state *state, const char *library_path,
                    struct err *err)
{
    char root[PATH_MAX], fresh[PATH_MAX];

    if (snprintf(root, sizeof(root), "%s/root", dir) >= (int)sizeof(root) ||
        snprintf(fresh, sizeof(fresh), "%s/root.new.%d", dir, (int)getpid()) >= (int)sizeof(fresh))
        return err_set(err, ENAMETOOLONG, "%.200s…: the path is too long", dir);
    if (mkdir(fresh, 0755) < 0)
        return err_set(err, errno, "%s: %s", fresh, strerror(errno));

    int r = write_root(fresh, state, library_path, err);
    if (r >= 0)
        r = put_in_place(fresh, root, err);
    if (r < 0) {
        (void)!file_remove_tree(fresh, NULL);
        return r;
    }
    if (snprintf(fresh, sizeof(fresh), "%s/spare", dir) < (int)sizeof(fresh))
        (void)!file_remove_tree(fresh, NULL); /* what was put away belongs to the older root */
    for (uint32_t i = 0; r >= 0 && i < state->n_gpus; i++)
        r = sim_root_update(dir, state, i, SIM_NO_INSTANCE, err);
    return r;
}

int sim_root_update_node(const char *dir, const struct sim_state *state, struct err *err)
{
    auto_(tree_done) struct tree tree = TREE_NONE;
    char root[PATH_MAX];

    if (snprintf(root, sizeof(root), "%s/root", dir) >= (int)sizeof(root))
        return err_set(err, ENAMETOOLONG, "%.200s…: the path is too long", dir);
    if (!file_exists(root))
        return 0;
    int r = tree_open(&tree, root, err);
    if (r < 0)
        return r;
    write_modules(&tree, state);
    for (uint32_t i = 0; i < state->n_gpus; i++)
        write_pci_of_node(&tree, state, i);
    return tree_result(&tree, err);
}
