/*
 * The stand-in kubelet's memory across restarts: kubelet_internal_checkpoint in its directory, in
 * the kubelet's own form (spec/kubelet-device-manager §3.1), so that either can read the other's.
 * The checksum is FNV-32a over the data as Go's spew library prints them, types included; seen to
 * be that of a kubelet 1.34.4.
 */
#pragma once

#include "base/err.h"
#include "sim/node/devices.h"

/* Mode 0600, replaced atomically. */
[[nodiscard]] int checkpoint_save(const char *dir, const struct device_books *books,
                                  struct err *err);
/* Adds what the file says to empty books: grants, and resources whose plugins must come again.
 * -ENOENT when there is none, -EBADMSG when it is damaged; the books are then untouched. */
[[nodiscard]] int checkpoint_load(const char *dir, struct device_books *books, struct err *err);
