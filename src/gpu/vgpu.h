/*
 * Whether this node is the guest of a vGPU host, and of which driver: a record that the host puts
 * into the PCI configuration space of the virtual GPU (spec/device-plugin §9.6).
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "share/inventory.h"

/* What a PCI configuration space says about being a vGPU guest. */
struct vgpu_record {
    char driver_version[11], driver_branch[11];
};

/* 0: not a vGPU; 1: one, *ret filled; -EINVAL: one without a version record; -ENODATA: fewer than
 * 256 bytes, as an unprivileged reader gets them. */
[[nodiscard]] int vgpu_parse(struct span config, struct vgpu_record *ret, struct err *err);

/* `root`: devnode_root's. Looks at every NVIDIA device on the PCI bus; of several vGPUs the one
 * with the highest address counts. What went wrong is in ret->problem; fails with -ENOMEM only. */
[[nodiscard]] int vgpu_scan(int root, struct arena *arena, struct vgpu_info *ret, struct err *err);
