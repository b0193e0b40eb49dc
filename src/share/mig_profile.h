/*
 * Names of MIG profiles (spec/mig §1.2, §1.5 – §1.8): what `1c.3g.40gb`, `1g.10gb+me` and
 * `1g.24gb-me` mean, and how a name is computed from what NVML reports. Bit-exact with NVIDIA's
 * tools, since resource names and labels are made of them.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/text.h"

enum { MIG_PROFILE_NAME_MAX = 64, MIG_GI_PROFILES = 18, MIG_CI_PROFILES = 9 };

/* Attribute bits of a name's suffix. */
enum mig_attribute {
    MIG_ATTR_ME = 1,
    MIG_ATTR_ME_ALL = 2,
    MIG_ATTR_GFX = 4,
    MIG_ATTR_NO_ME = 8,
};

struct mig_profile {
    uint32_t c, g; /* compute slices of the compute and of the GPU instance */
    uint32_t gb;
    unsigned attributes; /* enum mig_attribute bits */
};

/* Slices of an enum, 0 for an unknown one. */
uint32_t mig_gi_profile_slices(uint32_t gi_profile);
uint32_t mig_ci_profile_slices(uint32_t ci_profile);

/* From NVML's numbers; memory_mib is the GPU instance profile's, total_bytes the physical GPU's.
 * -EINVAL for an unknown enum. Enum 17 is 3g+gfx. */
[[nodiscard]] int mig_profile_make(uint32_t gi_profile, uint32_t ci_profile, uint64_t memory_mib,
                                   uint64_t total_bytes, struct mig_profile *ret, struct err *err);

/* Writes the canonical name. */
void mig_profile_name(const struct mig_profile *profile, char name[static MIG_PROFILE_NAME_MAX]);

/* The rules of spec/mig §1.7: -EINVAL. A name in proper form that no GPU can have (an unknown
 * attribute, an absurd number) is an error of resolution, not of format: -ENOENT. */
[[nodiscard]] int mig_profile_parse(struct span name, struct mig_profile *ret, struct err *err);

bool mig_profile_equal(const struct mig_profile *a, const struct mig_profile *b);

/* `+` becomes `.`: the form of labels and resource names. */
void mig_profile_resource_form(const char *name, char form[static MIG_PROFILE_NAME_MAX]);
