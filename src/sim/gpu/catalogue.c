#include "sim/gpu/catalogue.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/buf.h"

enum { BRAND_TESLA = 2, BRAND_NVIDIA_RTX = 13, BRAND_NVIDIA = 14 };
enum { VOLTA = 5, TURING = 6, AMPERE = 7, ADA = 8, HOPPER = 9, BLACKWELL = 10 };

/* --- MIG: where ------------------------------------------------------------------------------ */

static const struct sim_family f8 = {
    .memory_slices = 8, .compute_slices = 7, .max_devices = 7,
    .n_rows = 7,
    .rows = {
        { 0, 19, 1, 7, "", 1, 7, { 0, 1, 2, 3, 4, 5, 6 } },
        { 7, 20, 1, 1, "+me", 1, 7, { 0, 1, 2, 3, 4, 5, 6 } },
        { 9, 15, 1, 4, "", 2, 4, { 0, 2, 4, 6 } },
        { 1, 14, 2, 3, "", 2, 3, { 0, 2, 4 } },
        { 2, 9, 3, 2, "", 4, 2, { 0, 4 } },
        { 3, 5, 4, 1, "", 4, 1, { 0 } },
        { 4, 0, 7, 1, "", 8, 1, { 0 } },
    },
};

static const struct sim_family f4 = {
    .memory_slices = 4, .compute_slices = 4, .max_devices = 4,
    .n_rows = 5,
    .rows = {
        { 0, 14, 1, 4, "", 1, 4, { 0, 1, 2, 3 } },
        { 7, 21, 1, 1, "+me", 1, 4, { 0, 1, 2, 3 } },
        { 1, 5, 2, 2, "", 2, 2, { 0, 2 } },
        { 8, 6, 2, 1, "+me", 2, 2, { 0, 2 } },
        { 3, 0, 4, 1, "", 4, 1, { 0 } },
    },
};

static const struct sim_family f12 = {
    .memory_slices = 12, .compute_slices = 4, .max_devices = 4,
    .n_rows = 11,
    .rows = {
        { 0, 14, 1, 4, "", 3, 4, { 0, 3, 6, 9 } },
        { 7, 21, 1, 1, "+me", 3, 4, { 0, 3, 6, 9 } },
        { 10, 47, 1, 4, "+gfx", 3, 4, { 0, 3, 6, 9 } },
        { 15, 65, 1, 1, "+me.all", 3, 4, { 0, 3, 6, 9 } },
        { 13, 67, 1, 4, "-me", 3, 4, { 0, 3, 6, 9 } },
        { 1, 5, 2, 2, "", 6, 2, { 0, 6 } },
        { 11, 35, 2, 2, "+gfx", 6, 2, { 0, 6 } },
        { 16, 64, 2, 1, "+me.all", 6, 2, { 0, 6 } },
        { 14, 66, 2, 2, "-me", 6, 2, { 0, 6 } },
        { 3, 0, 4, 1, "", 12, 1, { 0 } },
        { 12, 32, 4, 1, "+gfx", 12, 1, { 0 } },
    },
};

/* --- MIG: how much --------------------------------------------------------------------------- */

#define A100_ENGINES                                                                               \
    {                                                                                              \
        { 1, 0, 0, 0, 0 }, { 1, 1, 0, 1, 1 }, { 1, 1, 0, 0, 0 }, { 2, 1, 0, 0, 0 },                \
            { 3, 2, 0, 0, 0 }, { 4, 2, 0, 0, 0 }, { 7, 5, 0, 1, 1 },                               \
    }
#define HOPPER_ENGINES                                                                             \
    {                                                                                              \
        { 1, 1, 0, 1, 0 }, { 1, 1, 0, 1, 1 }, { 1, 1, 0, 1, 0 }, { 2, 2, 0, 2, 0 },                \
            { 3, 3, 0, 3, 0 }, { 4, 4, 0, 4, 0 }, { 8, 7, 0, 7, 1 },                               \
    }
#define BLACKWELL_ENGINES                                                                          \
    {                                                                                              \
        { 2, 1, 0, 1, 0 }, { 2, 1, 0, 1, 1 }, { 2, 1, 0, 1, 0 }, { 4, 2, 0, 2, 0 },                \
            { 6, 3, 0, 3, 0 }, { 8, 4, 0, 4, 0 }, { 16, 7, 0, 7, 1 },                              \
    }

static const struct sim_mig_table a30_mig = {
    .family = &f4,
    .memory_mib = { 5952, 5952, 11968, 11968, 24000 },
    .multiprocessors = { 14, 14, 28, 28, 56 },
    .engines = { { 1, 1, 0, 0, 0 },
                 { 1, 1, 0, 1, 1 },
                 { 2, 2, 0, 0, 0 },
                 { 2, 2, 0, 1, 1 },
                 { 4, 4, 0, 1, 1 } },
};

static const struct sim_mig_table a100_40_mig = {
    .family = &f8,
    .memory_mib = { 4864, 4864, 9856, 9856, 19968, 19968, 40192 },
    .multiprocessors = { 14, 14, 14, 28, 42, 56, 98 },
    .engines = A100_ENGINES,
};

static const struct sim_mig_table a100_80_mig = {
    .family = &f8,
    .memory_mib = { 9728, 9728, 19968, 19968, 40192, 40192, 80640 },
    .multiprocessors = { 14, 14, 14, 28, 42, 56, 98 },
    .engines = A100_ENGINES,
};

static const struct sim_mig_table h100_mig = {
    .family = &f8,
    .memory_mib = { 9984, 9984, 20096, 20096, 40448, 40448, 81152 },
    .multiprocessors = { 16, 16, 26, 32, 60, 64, 132 },
    .engines = HOPPER_ENGINES,
};

/* Of the 114 multiprocessors nobody published how the larger profiles share them: assumed. */
static const struct sim_mig_table h100_pcie_mig = {
    .family = &f8,
    .memory_mib = { 9984, 9984, 20096, 20096, 40448, 40448, 81152 },
    .multiprocessors = { 16, 16, 26, 32, 50, 64, 114 },
    .engines = HOPPER_ENGINES,
};

static const struct sim_mig_table h100_nvl_mig = {
    .family = &f8,
    .memory_mib = { 11008, 11008, 22144, 22144, 47488, 47488, 95360 },
    .multiprocessors = { 16, 16, 26, 32, 60, 64, 132 },
    .engines = HOPPER_ENGINES,
};

static const struct sim_mig_table h200_mig = {
    .family = &f8,
    .memory_mib = { 16384, 16384, 33280, 33280, 71168, 71168, 143360 },
    .multiprocessors = { 16, 16, 26, 32, 60, 64, 132 },
    .engines = HOPPER_ENGINES,
};

static const struct sim_mig_table gh200_mig = {
    .family = &f8,
    .memory_mib = { 11264, 11264, 23552, 23552, 47616, 47616, 95232 },
    .multiprocessors = { 16, 16, 26, 32, 60, 64, 132 },
    .engines = HOPPER_ENGINES,
};

/* Memory and multiprocessors of 3g, 4g and 7g are assumed: spec/mig §2.8 has only the names. */
static const struct sim_mig_table b200_mig = {
    .family = &f8,
    .memory_mib = { 22528, 22528, 45312, 45312, 91136, 91136, 182272 },
    .multiprocessors = { 18, 18, 30, 36, 70, 72, 148 },
    .engines = BLACKWELL_ENGINES,
};

static const struct sim_mig_table gb200_mig = {
    .family = &f8,
    .memory_mib = { 22528, 22528, 46592, 46592, 94208, 94208, 188416 },
    .multiprocessors = { 18, 18, 32, 38, 74, 76, 152 },
    .engines = BLACKWELL_ENGINES,
};

static const struct sim_mig_table rtx_pro_6000_mig = {
    .family = &f12,
    .memory_mib = { 24192, 24192, 24192, 24192, 24192, 48512, 48512, 48512, 48512, 97408, 97408 },
    .multiprocessors = { 46, 46, 46, 46, 46, 94, 94, 94, 94, 188, 188 },
    .engines = { { 1, 1, 1, 1, 0 },
                 { 1, 1, 1, 1, 1 },
                 { 1, 1, 1, 1, 0 },
                 { 1, 4, 4, 4, 1 },
                 { 1, 0, 0, 0, 0 },
                 { 2, 2, 2, 2, 0 },
                 { 2, 2, 2, 2, 0 },
                 { 2, 4, 4, 4, 1 },
                 { 2, 0, 0, 0, 0 },
                 { 4, 4, 4, 4, 1 },
                 { 4, 4, 4, 4, 1 } },
};

/* --- the boards ------------------------------------------------------------------------------ */

static const struct sim_model models[] = {
    {
        .name = "v100",
        .aliases = { "tesla-v100", "v100-16gb", "v100-sxm2" },
        .product = "Tesla V100-SXM2-16GB",
        .part_number = "900-2G503-0000-000",
        .vbios = "88.00.41.00.02",
        .device_id = 0x1db1,
        .subsystem_id = 0x1212,
        .brand = BRAND_TESLA,
        .architecture = VOLTA,
        .cc_major = 7,
        .cc_minor = 0,
        .memory_mib = 16384,
        .reserved_mib = 227,
        .bar1_mib = 16384,
        .bus_bits = 4096,
        .multiprocessors = 80,
        .cores_per_multiprocessor = 64,
        .power = { 38, 150, 300 },
        .clock = { 1530, 877, 1372, 135 },
        .slowdown_c = 87,
        .shutdown_c = 90,
        .ecc = true,
        .hbm = true,
        .pcie_generation = 3,
        .pcie_width = 16,
        .n_links = 6,
        .link_version = 2,
        .link_mbps = 25781,
        .wiring = SIM_WIRED_MESH,
    },
    {
        .name = "t4",
        .aliases = { "tesla-t4" },
        .product = "Tesla T4",
        .part_number = "900-2G183-0000-001",
        .vbios = "90.04.96.00.02",
        .device_id = 0x1eb8,
        .subsystem_id = 0x12a2,
        .brand = BRAND_NVIDIA,
        .architecture = TURING,
        .cc_major = 7,
        .cc_minor = 5,
        .memory_mib = 15360,
        .reserved_mib = 449,
        .bar1_mib = 256,
        .bus_bits = 256,
        .multiprocessors = 40,
        .cores_per_multiprocessor = 64,
        .power = { 9, 60, 70 },
        .clock = { 1590, 5001, 1470, 300 },
        .slowdown_c = 93,
        .shutdown_c = 96,
        .ecc = true,
        .gsp = true,
        .pcie_generation = 3,
        .pcie_width = 16,
    },
    {
        .name = "a30",
        .aliases = { "a30-24gb" },
        .product = "NVIDIA A30",
        .part_number = "900-21001-0040-000",
        .vbios = "92.00.66.00.02",
        .device_id = 0x20b7,
        .subsystem_id = 0x1532,
        .brand = BRAND_NVIDIA,
        .architecture = AMPERE,
        .cc_major = 8,
        .cc_minor = 0,
        .memory_mib = 24576,
        .reserved_mib = 506,
        .bar1_mib = 32768,
        .bus_bits = 3072,
        .multiprocessors = 56,
        .cores_per_multiprocessor = 64,
        .power = { 28, 100, 165 },
        .clock = { 1440, 1215, 1305, 210 },
        .slowdown_c = 92,
        .shutdown_c = 95,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .pcie_generation = 4,
        .pcie_width = 16,
        .n_links = 4,
        .link_version = 4,
        .link_mbps = 25781,
        .mig = &a30_mig,
    },
    {
        .name = "a100-40gb",
        .aliases = { "a100-40", "a100", "a100-sxm4-40gb" },
        .product = "NVIDIA A100-SXM4-40GB",
        .part_number = "692-2G506-0200-002",
        .vbios = "92.00.45.00.03",
        .device_id = 0x20b0,
        .subsystem_id = 0x134f,
        .brand = BRAND_NVIDIA,
        .architecture = AMPERE,
        .cc_major = 8,
        .cc_minor = 0,
        .memory_mib = 40960,
        .reserved_mib = 623,
        .bar1_mib = 65536,
        .bus_bits = 5120,
        .multiprocessors = 108,
        .cores_per_multiprocessor = 64,
        .power = { 52, 100, 400 },
        .clock = { 1410, 1215, 1275, 210 },
        .slowdown_c = 89,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .pcie_generation = 4,
        .pcie_width = 16,
        .n_links = 12,
        .link_version = 4,
        .link_mbps = 25781,
        .n_switches = 6,
        .wiring = SIM_WIRED_BOX,
        .mig = &a100_40_mig,
    },
    {
        .name = "a100-80gb",
        .aliases = { "a100-80", "a100-sxm4-80gb" },
        .product = "NVIDIA A100-SXM4-80GB",
        .part_number = "692-2G506-0210-002",
        .vbios = "92.00.45.00.05",
        .device_id = 0x20b2,
        .subsystem_id = 0x1463,
        .brand = BRAND_NVIDIA,
        .architecture = AMPERE,
        .cc_major = 8,
        .cc_minor = 0,
        .memory_mib = 81920,
        .reserved_mib = 695,
        .bar1_mib = 131072,
        .bus_bits = 5120,
        .multiprocessors = 108,
        .cores_per_multiprocessor = 64,
        .power = { 60, 100, 400 },
        .clock = { 1410, 1593, 1275, 210 },
        .slowdown_c = 89,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .pcie_generation = 4,
        .pcie_width = 16,
        .n_links = 12,
        .link_version = 4,
        .link_mbps = 25781,
        .n_switches = 6,
        .wiring = SIM_WIRED_BOX,
        .mig = &a100_80_mig,
    },
    {
        .name = "l4",
        .aliases = { "l4-24gb" },
        .product = "NVIDIA L4",
        .part_number = "900-2G193-0000-001",
        .vbios = "95.04.29.00.06",
        .device_id = 0x27b8,
        .subsystem_id = 0x16ca,
        .brand = BRAND_NVIDIA,
        .architecture = ADA,
        .cc_major = 8,
        .cc_minor = 9,
        .memory_mib = 23034,
        .reserved_mib = 457,
        .bar1_mib = 32768,
        .bus_bits = 192,
        .multiprocessors = 58,
        .cores_per_multiprocessor = 128,
        .power = { 16, 40, 72 },
        .clock = { 2040, 6251, 1770, 210 },
        .slowdown_c = 91,
        .shutdown_c = 94,
        .ecc = true,
        .gsp = true,
        .pcie_generation = 4,
        .pcie_width = 16,
    },
    {
        .name = "l40s",
        .aliases = { "l40s-48gb" },
        .product = "NVIDIA L40S",
        .part_number = "900-2G133-0080-000",
        .vbios = "95.02.66.00.02",
        .device_id = 0x26b9,
        .subsystem_id = 0x1851,
        .brand = BRAND_NVIDIA,
        .architecture = ADA,
        .cc_major = 8,
        .cc_minor = 9,
        .memory_mib = 46068,
        .reserved_mib = 598,
        .bar1_mib = 65536,
        .bus_bits = 384,
        .multiprocessors = 142,
        .cores_per_multiprocessor = 128,
        .power = { 35, 100, 350 },
        .clock = { 2520, 9001, 1965, 210 },
        .slowdown_c = 91,
        .shutdown_c = 94,
        .ecc = true,
        .gsp = true,
        .pcie_generation = 4,
        .pcie_width = 16,
    },
    {
        .name = "h100-80gb",
        .aliases = { "h100", "h100-80", "h100-sxm", "h100-sxm5" },
        .product = "NVIDIA H100 80GB HBM3",
        .part_number = "692-2G520-0200-000",
        .vbios = "96.00.74.00.01",
        .device_id = 0x2330,
        .subsystem_id = 0x16c1,
        .brand = BRAND_NVIDIA,
        .architecture = HOPPER,
        .cc_major = 9,
        .cc_minor = 0,
        .memory_mib = 81559,
        .reserved_mib = 551,
        .bar1_mib = 131072,
        .bus_bits = 5120,
        .multiprocessors = 132,
        .cores_per_multiprocessor = 128,
        .power = { 72, 200, 700 },
        .clock = { 1980, 2619, 1545, 345 },
        .slowdown_c = 87,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 18,
        .link_version = 6,
        .link_mbps = 26562,
        .n_switches = 4,
        .wiring = SIM_WIRED_BOX,
        .mig = &h100_mig,
    },
    {
        .name = "h100-pcie",
        .aliases = { "h100-80gb-pcie", "h100-pcie-80gb" },
        .product = "NVIDIA H100 PCIe",
        .part_number = "900-21010-0000-000",
        .vbios = "96.00.30.00.01",
        .device_id = 0x2331,
        .subsystem_id = 0x1626,
        .brand = BRAND_NVIDIA,
        .architecture = HOPPER,
        .cc_major = 9,
        .cc_minor = 0,
        .memory_mib = 81559,
        .reserved_mib = 551,
        .bar1_mib = 131072,
        .bus_bits = 5120,
        .multiprocessors = 114,
        .cores_per_multiprocessor = 128,
        .power = { 48, 200, 350 },
        .clock = { 1755, 1593, 1395, 345 },
        .slowdown_c = 90,
        .shutdown_c = 95,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 12,
        .link_version = 6,
        .link_mbps = 26562,
        .mig = &h100_pcie_mig,
    },
    {
        .name = "h100-nvl",
        .aliases = { "h100-nvl-94gb", "h100-94gb" },
        .product = "NVIDIA H100 NVL",
        .part_number = "900-21010-0020-000",
        .vbios = "96.00.88.00.11",
        .device_id = 0x2321,
        .subsystem_id = 0x1839,
        .brand = BRAND_NVIDIA,
        .architecture = HOPPER,
        .cc_major = 9,
        .cc_minor = 0,
        .memory_mib = 95830,
        .reserved_mib = 594,
        .bar1_mib = 131072,
        .bus_bits = 6016,
        .multiprocessors = 132,
        .cores_per_multiprocessor = 128,
        .power = { 62, 200, 400 },
        .clock = { 1785, 2619, 1425, 345 },
        .slowdown_c = 90,
        .shutdown_c = 95,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 12,
        .link_version = 6,
        .link_mbps = 26562,
        .mig = &h100_nvl_mig,
    },
    {
        .name = "h200",
        .aliases = { "h200-141gb", "h200-sxm" },
        .product = "NVIDIA H200",
        .part_number = "692-2G520-0280-000",
        .vbios = "96.00.B7.00.02",
        .device_id = 0x2335,
        .subsystem_id = 0x18be,
        .brand = BRAND_NVIDIA,
        .architecture = HOPPER,
        .cc_major = 9,
        .cc_minor = 0,
        .memory_mib = 143771,
        .reserved_mib = 613,
        .bar1_mib = 262144,
        .bus_bits = 6144,
        .multiprocessors = 132,
        .cores_per_multiprocessor = 128,
        .power = { 76, 200, 700 },
        .clock = { 1980, 3201, 1545, 345 },
        .slowdown_c = 87,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 18,
        .link_version = 6,
        .link_mbps = 26562,
        .n_switches = 4,
        .wiring = SIM_WIRED_BOX,
        .mig = &h200_mig,
    },
    {
        .name = "gh200",
        .aliases = { "gh200-96gb", "gh200-480gb" },
        .product = "NVIDIA GH200 480GB",
        .part_number = "900-2G530-0060-000",
        .vbios = "96.00.84.00.02",
        .device_id = 0x2342,
        .subsystem_id = 0x16eb,
        .brand = BRAND_NVIDIA,
        .architecture = HOPPER,
        .cc_major = 9,
        .cc_minor = 0,
        .memory_mib = 97871,
        .reserved_mib = 611,
        .bar1_mib = 131072,
        .bus_bits = 6144,
        .multiprocessors = 132,
        .cores_per_multiprocessor = 128,
        .power = { 88, 100, 900 },
        .clock = { 1980, 2619, 1545, 345 },
        .slowdown_c = 87,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .c2c = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 18,
        .link_version = 6,
        .link_mbps = 26562,
        .n_switches = 4,
        .mig = &gh200_mig,
    },
    {
        .name = "b200",
        .aliases = { "b200-180gb", "b200-sxm" },
        .product = "NVIDIA B200",
        .part_number = "692-2G525-0220-002",
        .vbios = "97.00.82.00.14",
        .device_id = 0x2901,
        .subsystem_id = 0x1999,
        .brand = BRAND_NVIDIA,
        .architecture = BLACKWELL,
        .cc_major = 10,
        .cc_minor = 0,
        .memory_mib = 183359,
        .reserved_mib = 728,
        .bar1_mib = 262144,
        .bus_bits = 8192,
        .multiprocessors = 148,
        .cores_per_multiprocessor = 128,
        .power = { 140, 200, 1000 },
        .clock = { 1965, 3996, 1530, 120 },
        .slowdown_c = 87,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 18,
        .link_version = 7,
        .link_mbps = 53125,
        .n_switches = 2,
        .wiring = SIM_WIRED_BOX,
        .mig = &b200_mig,
    },
    {
        .name = "gb200",
        .aliases = { "gb200-186gb" },
        .product = "NVIDIA GB200",
        .part_number = "699-2G548-1201-800",
        .vbios = "97.00.B9.00.22",
        .device_id = 0x2941,
        .subsystem_id = 0x2046,
        .brand = BRAND_NVIDIA,
        .architecture = BLACKWELL,
        .cc_major = 10,
        .cc_minor = 0,
        .memory_mib = 189471,
        .reserved_mib = 760,
        .bar1_mib = 262144,
        .bus_bits = 8192,
        .multiprocessors = 152,
        .cores_per_multiprocessor = 128,
        .power = { 160, 200, 1200 },
        .clock = { 2062, 3996, 1597, 120 },
        .slowdown_c = 87,
        .shutdown_c = 92,
        .ecc = true,
        .hbm = true,
        .gsp = true,
        .gpm = true,
        .c2c = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .n_links = 18,
        .link_version = 7,
        .link_mbps = 53125,
        .n_switches = 9,
        .wiring = SIM_WIRED_SWITCH,
        .mig = &gb200_mig,
    },
    {
        .name = "rtx-pro-6000",
        .aliases = { "rtx-pro-6000-blackwell", "rtx-pro-6000-server" },
        .product = "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        .part_number = "900-2G153-0000-000",
        .vbios = "98.02.6A.00.03",
        .device_id = 0x2bb5,
        .subsystem_id = 0x204e,
        .brand = BRAND_NVIDIA,
        .architecture = BLACKWELL,
        .cc_major = 12,
        .cc_minor = 0,
        .memory_mib = 97887,
        .reserved_mib = 638,
        .bar1_mib = 131072,
        .bus_bits = 512,
        .multiprocessors = 188,
        .cores_per_multiprocessor = 128,
        .power = { 32, 150, 600 },
        .clock = { 2430, 12481, 2010, 180 },
        .slowdown_c = 92,
        .shutdown_c = 95,
        .ecc = true,
        .gsp = true,
        .gpm = true,
        .pcie_generation = 5,
        .pcie_width = 16,
        .mig = &rtx_pro_6000_mig,
    },
};

const struct sim_model *sim_models(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(models);
    return models;
}

static bool named(struct span name, const char *candidate)
{
    return candidate && strlen(candidate) == name.len &&
           strncasecmp(candidate, name.ptr, name.len) == 0;
}

const struct sim_model *sim_model_find(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        if (named(name, models[i].name))
            return &models[i];
        for (size_t j = 0; j < SIM_MAX_ALIASES; j++) {
            if (named(name, models[i].aliases[j]))
                return &models[i];
        }
    }
    return NULL;
}

/* --- "4xt4,2xa100-80gb" ---------------------------------------------------------------------- */

static int unknown_model(struct span name, struct err *err)
{
    const char *words[ARRAY_LEN(models) * (SIM_MAX_ALIASES + 1)];
    auto_(buf_done) struct buf known = BUF_MAX(KIB(1));
    char word[64] = "", guess[96] = "";
    size_t n_words = 0;

    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        words[n_words++] = models[i].name;
        buf_printf(&known, "%s%s", i ? ", " : "", models[i].name);
        for (size_t j = 0; j < SIM_MAX_ALIASES && models[i].aliases[j]; j++)
            words[n_words++] = models[i].aliases[j];
    }
    snprintf(word, sizeof(word), SPAN_FMT, (int)MIN(name.len, sizeof(word) - 1), name.ptr);
    const char *near = text_nearest(word, words, n_words);
    if (near)
        snprintf(guess, sizeof(guess), "; did you mean \"%s\"?", near);
    return err_set(err, EINVAL, "there is no GPU model \"%s\" to simulate%s Known models: %s", word,
                   near ? guess : ".", buf_text(&known));
}

/* Cuts "4x" off "4xt4"; a part without digits before an x has no count. */
static int cut_count(struct span *part, uint64_t *ret_count, struct err *err)
{
    size_t digits = 0;

    *ret_count = 1;
    while (digits < part->len && part->ptr[digits] >= '0' && part->ptr[digits] <= '9')
        digits++;
    if (digits == 0 || digits == part->len || (part->ptr[digits] | 0x20) != 'x')
        return 0;
    if (text_to_u64((struct span){ part->ptr, digits }, ret_count) < 0 || *ret_count == 0 ||
        *ret_count > SIM_MAX_GPUS)
        return err_set(err, EINVAL, "\"" SPAN_FMT "\": a node has 1 to %d GPUs",
                       (int)MIN(part->len, (size_t)64), part->ptr, SIM_MAX_GPUS);
    part->ptr += digits + 1;
    part->len -= digits + 1;
    *part = span_trim(*part);
    return 0;
}

int sim_spec_parse(const char *text, struct sim_spec *ret, struct err *err)
{
    struct span rest = span_trim(span_of(text)), part;
    struct sim_spec spec = {};
    bool more = true;

    if (rest.len == 0)
        return err_set(err, EINVAL,
                       "no GPUs are named; write for example \"8xh100-80gb\" or "
                       "\"4xt4,2xa100-80gb\"");
    while (span_split(&rest, ',', &more, &part)) {
        uint64_t count;

        part = span_trim(part);
        if (part.len == 0)
            return err_set(err, EINVAL, "\"%.64s\": there is nothing between two commas", text);
        int r = cut_count(&part, &count, err);
        if (r < 0)
            return r;
        const struct sim_model *model = sim_model_find(part);
        if (!model)
            return unknown_model(part, err);
        if (spec.n_gpus + count > SIM_MAX_GPUS)
            return err_set(err, EINVAL, "\"%.64s\": a node has at most %d GPUs", text,
                           SIM_MAX_GPUS);
        while (count-- > 0)
            spec.gpus[spec.n_gpus++] = model;
    }
    *ret = spec;
    return 0;
}

/* --- from a row to a GPU --------------------------------------------------------------------- */

uint32_t sim_profile_gb(uint64_t profile_bytes, uint64_t total_bytes)
{
    double exact = (double)profile_bytes / (double)total_bytes * 8;
    uint64_t eighths = (uint64_t)exact;
    uint64_t gib = (total_bytes + (1ull << 30) - 1) >> 30;

    if ((double)eighths < exact)
        eighths++;
    return (uint32_t)((eighths * gib + 4) / 8); /* halves away from zero */
}

static void fill_profile(const struct sim_mig_table *mig, size_t row, struct sim_gpu *gpu)
{
    const struct sim_family_row *place = &mig->family->rows[row];
    const struct sim_engines *engines = &mig->engines[row];
    struct sim_profile *profile = &gpu->profiles[place->profile];

    *profile = (struct sim_profile){
        .supported = true,
        .id = place->id,
        .slices = place->slices,
        .max_instances = place->max,
        .multiprocessors = mig->multiprocessors[row],
        .copy_engines = engines->copy,
        .decoders = engines->decoder,
        .encoders = engines->encoder,
        .jpegs = engines->jpeg,
        .ofas = engines->ofa,
        .memory_mib = mig->memory_mib[row],
        .n_starts = place->n_starts,
        .size = place->size,
    };
    memcpy(profile->starts, place->starts, sizeof(profile->starts));
    snprintf(profile->name, sizeof(profile->name), "%ug.%ugb%s", place->slices,
             sim_profile_gb(profile->memory_mib << 20, gpu->memory_bytes), place->suffix);
}

static void fill_mig(const struct sim_model *model, struct sim_gpu *gpu)
{
    if (!model->mig)
        return;
    gpu->mig_capable = true;
    /* Ampere stores the mode in its InfoROM; Hopper and later forget it with the driver. */
    gpu->mig_needs_reset = model->architecture == AMPERE;
    gpu->mig_survives_reboot = model->architecture == AMPERE;
    gpu->max_mig_devices = model->mig->family->max_devices;
    gpu->memory_slices = model->mig->family->memory_slices;
    gpu->compute_slices = model->mig->family->compute_slices;
    for (size_t row = 0; row < model->mig->family->n_rows; row++)
        fill_profile(model->mig, row, gpu);
}

static void fill_clocks(const struct sim_model *model, struct sim_gpu *gpu)
{
    uint32_t max[4] = { model->clock.graphics, model->clock.graphics, model->clock.memory,
                        model->clock.video };

    memcpy(gpu->max_clock_mhz, max, sizeof(max));
    memcpy(gpu->application_clock_mhz, max, sizeof(max));
    gpu->clock_mhz[0] = gpu->clock_mhz[1] = model->clock.idle;
    gpu->clock_mhz[2] = model->clock.memory;
    gpu->clock_mhz[3] = model->clock.idle * 3 / 2;
    gpu->idle_clock_mhz = gpu->min_clock_mhz = model->clock.idle;
    gpu->clock_event_reasons = 1; /* idle */
}

void sim_model_fill(const struct sim_model *model, struct sim_gpu *gpu)
{
    *gpu = (struct sim_gpu){
        .pci_device_id = (uint32_t)model->device_id << 16 | 0x10de,
        .pci_subsystem_id = (uint32_t)model->subsystem_id << 16 | 0x10de,
        .pci_class = 0x030200,
        .numa_node = -1,
        .brand = model->brand,
        .architecture = model->architecture,
        .cc_major = model->cc_major,
        .cc_minor = model->cc_minor,
        .memory_bytes = (uint64_t)model->memory_mib << 20,
        .memory_reserved_bytes = (uint64_t)model->reserved_mib << 20,
        .bar1_bytes = (uint64_t)model->bar1_mib << 20,
        .bar1_used_bytes = 1 << 20,
        .multiprocessors = model->multiprocessors,
        .cores_per_multiprocessor = model->cores_per_multiprocessor,
        .memory_bus_bits = model->bus_bits,
        .has_gsp = model->gsp,
        .has_gpm = model->gpm,
        .c2c = model->c2c,
        .power_mw = model->power.idle * 1000,
        .power_limit_mw = model->power.max * 1000,
        .power_min_mw = model->power.min * 1000,
        .power_max_mw = model->power.max * 1000,
        .power_default_mw = model->power.max * 1000,
        .temperature_c = 32,
        .memory_temperature_c = model->hbm ? 38 : 0,
        .slowdown_c = model->slowdown_c,
        .shutdown_c = model->shutdown_c,
        .persistence = 1,
        .ecc_capable = model->ecc,
        .ecc_enabled = model->ecc,
        .ecc_pending = model->ecc,
        .pcie_generation = model->pcie_generation,
        .pcie_width = model->pcie_width,
        .max_pcie_generation = model->pcie_generation,
        .max_pcie_width = model->pcie_width,
        .n_links = model->n_links,
        .nvlink_version = model->link_version,
        .nvlink_mbps = model->link_mbps,
        .addressing_mode = model->c2c                      ? 2
                           : model->architecture >= TURING ? 1
                                                           : 0xffffffff,
    };
    snprintf(gpu->model, sizeof(gpu->model), "%s", model->name);
    snprintf(gpu->name, sizeof(gpu->name), "%s", model->product);
    snprintf(gpu->part_number, sizeof(gpu->part_number), "%s", model->part_number);
    snprintf(gpu->vbios, sizeof(gpu->vbios), "%s", model->vbios);
    fill_clocks(model, gpu);
    fill_mig(model, gpu);
}
