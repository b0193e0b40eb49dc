/*
 * The minors of MIG's capability nodes: /proc/driver/nvidia-caps/mig-minors (spec/mig §1.11).
 *
 * GPUs are named by their minor number there, not by NVML's index. 0 is "no entry": 1 and 2 are
 * taken by `config` and `monitor`, and the file lists thousands of instances that may not exist.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"

enum { MIG_MINORS_GPUS = 64, MIG_MINORS_GIS = 16, MIG_MINORS_CIS = 8 };

struct mig_minors {
    uint16_t gi[MIG_MINORS_GPUS][MIG_MINORS_GIS];
    uint16_t ci[MIG_MINORS_GPUS][MIG_MINORS_GIS][MIG_MINORS_CIS];
};

/* Lines of another shape, and entries beyond the table, are skipped. */
void mig_minors_parse(struct span text, struct mig_minors *ret);

/* `root`: devnode_root's. No file: no entries. -EFBIG above a mebibyte (the driver's has 110 KiB),
 * or a read's errno. */
[[nodiscard]] int mig_minors_read(int root, struct mig_minors *ret, struct err *err);

uint32_t mig_minors_gi(const struct mig_minors *minors, uint32_t gpu_minor, uint32_t gi);
uint32_t mig_minors_ci(const struct mig_minors *minors, uint32_t gpu_minor, uint32_t gi,
                       uint32_t ci);
