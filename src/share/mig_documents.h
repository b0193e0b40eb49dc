/*
 * The files that describe a node's MIG state, as NVIDIA's partition tool writes and reads them:
 * export (spec/mig §4.8), checkpoint (§4.9) and generated configurations (§4.10), and the default
 * configurations (§4.11). Pure: geometry in, text out, and back.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "share/finding.h"
#include "share/mig_geometry.h"
#include "share/mig_plan.h"

enum {
    MIG_CHECKPOINT_MAX_BYTES = 1 << 20, /* 64 GPUs with all that they can hold are 150 KiB */
    MIG_HOOKS_MAX_BYTES = 1 << 20,
    MIG_HOOKS_MAX_HOOKS = 256, /* of one point */
    MIG_HOOKS_MAX_TEXTS = 256, /* arguments or variables of one hook */
};

enum mig_document_format { MIG_YAML, MIG_JSON };

/*
 * `label`: the configuration's name, usually "current". Byte for byte as upstream. A GPU that
 * cannot be read has no entry, and nothing says `all` that would include it. -EFBIG past the buf's
 * ceiling, here and below.
 */
[[nodiscard]] int mig_export_write(const struct mig_node *node, const char *label,
                                   enum mig_document_format format, struct buf *out,
                                   struct err *err);

/* -ENODEV "no MIG-capable devices found on the system", -ENODATA "no MIG profiles discovered for
 * MIG-capable GPUs": upstream's words from `error generating MIG config: ` on. -EIO when a GPU
 * cannot be read: whoever keeps an older file then keeps one that knows all GPUs. */
[[nodiscard]] int mig_generate_write(const struct mig_node *node, enum mig_document_format format,
                                     struct buf *out, struct err *err);

/* The file of §4.11; as YAML it is deploy/mig/config-default.yaml. */
[[nodiscard]] int mig_defaults_write(enum mig_document_format format, struct buf *out,
                                     struct err *err);

/* A checkpoint: one layout for each MIG-capable GPU, by UUID. */
struct mig_checkpoint_gpu {
    const char *uuid;
    struct mig_layout layout;
};

struct mig_checkpoint {
    size_t n_gpus;
    struct mig_checkpoint_gpu *gpus;
};

/* GPU instances by enum, then start. -EIO `error fetching MIG state: …` when a GPU cannot be read:
 * a checkpoint without it would not bring it back. */
[[nodiscard]] int mig_checkpoint_write(const struct mig_node *node, struct buf *out,
                                       struct err *err);
/* -EINVAL with upstream's words from `error parsing checkpoint file: ` on, and the place; unknown
 * keys are ignored and the case of keys, too. Layouts are by start, as mig_layout_of makes them. */
[[nodiscard]] int mig_checkpoint_parse(struct span text, const char *name, struct arena *arena,
                                       struct mig_checkpoint **ret, struct err *err);
/* For `tranche check`, as config_check. */
[[nodiscard]] int mig_checkpoint_check(struct span text, struct findings *findings,
                                       struct err *err);

/* ---- hooks (§4.7) ---- */

enum mig_hook_point {
    MIG_HOOK_APPLY_START,
    MIG_HOOK_PRE_APPLY_MODE,
    MIG_HOOK_PRE_APPLY_CONFIG,
    MIG_HOOK_APPLY_EXIT,
    MIG_HOOK_N,
};

const char *mig_hook_name(enum mig_hook_point point); /* "apply-start" */

struct mig_hook {
    const char *command, *workdir; /* command "": none, which fails when run; workdir NULL: here */
    const char **args;             /* NULL-terminated, without the command */
    const char **envs;             /* NULL-terminated NAME=VALUE */
};

struct mig_hooks {
    size_t n[MIG_HOOK_N];
    struct mig_hook *hooks[MIG_HOOK_N];
};

/* -EINVAL: upstream's `error parsing hooks file: …`. */
[[nodiscard]] int mig_hooks_parse(struct span text, const char *name, struct arena *arena,
                                  struct mig_hooks **ret, struct err *err);
/* For `tranche check`, as config_check. */
[[nodiscard]] int mig_hooks_check(struct span text, struct findings *findings, struct err *err);
