/*
 * References to devices, as `devices:` of a shared resource lists them (spec/device-plugin §2.4):
 * `0`, `"0:1"`, `GPU-<uuid>`, `MIG-<uuid>`, `MIG-GPU-<uuid>/<gi>/<ci>`. For the files of config.
 */
#pragma once

#include "share/config.h"

/* -EINVAL when the text is none, -ENOMEM. The place is left alone. */
[[nodiscard]] int device_ref_read(struct span text, struct arena *arena, struct device_ref *ret);

/* Whether both name the same device in the same way; a UUID and an index cannot be compared. */
bool device_ref_equal(const struct device_ref *a, const struct device_ref *b);
