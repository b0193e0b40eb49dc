/*
 * The parts of `tranche mig`: what was asked for (verb_mig.c), the configuration it means
 * (verb_mig_wanted.c), plans and what becomes of them (verb_mig_change.c), pictures and lists
 * (verb_mig_show.c, verb_mig_list.c), files (verb_mig_files.c).
 *
 * A command returns 0, an exit status of its own, or what failed.
 */
#pragma once

#include <stdio.h>

#include "cli/mig.h"
#include "cli/output.h"

enum { MIG_EXIT_FAILED = 1, MIG_EXIT_MISUSED = 2, MIG_EXIT_DIFFERS = 3 };

struct mig_request {
    const char *command; /* "plan" */
    const char *name;    /* the word: a configuration's name, or a checkpoint's file */
    const char *file, *config, *devices, *gpus, *hooks, *root, *label;
    bool dry_run, take_from_pods, skip_reset, mode_only, defaults;
    enum output_format format;
    bool wide;
};

typedef int mig_command(struct mig_site *site, const struct mig_request *request, struct err *err);
mig_command mig_list, mig_change, mig_assert, mig_export, mig_checkpoint, mig_generate,
    mig_recover_left;

/* ---- what is wanted ---- */

/* Which GPUs, by their place in the node; all of them without --gpu. */
struct mig_choice {
    bool chosen[MIG_MAX_GPUS];
};

[[nodiscard]] int mig_choose(const struct mig_node *node, const char *words, struct mig_choice *ret,
                             struct err *err);

/* Whether the words of --devices are PROFILE=COUNT,… -EINVAL. */
[[nodiscard]] int mig_check_devices(const char *words, struct err *err);
/* The configuration that the request means: --devices, one of a file, or one of those that this
 * node's profiles make up. */
[[nodiscard]] int mig_wanted_config(struct mig_site *site, const struct mig_request *request,
                                    const struct mig_choice *choice, const struct mig_config **ret,
                                    struct err *err);
/* The driver tells what this GPU could be divided into only once MIG mode is on (R535). */
bool mig_hides_profiles(const struct mig_gpu *gpu);
bool mig_node_hides_profiles(const struct mig_node *node); /* any of its GPUs */
/* What that, or a checkpoint (`restore`), wants of each GPU of the node. */
[[nodiscard]] int mig_wanted(struct mig_site *site, const struct mig_request *request,
                             const struct mig_wish **ret, struct err *err);

/* ---- plans ---- */

bool mig_plan_has(const struct mig_gpu_plan *plan, enum mig_step_kind kind);

/* ---- what it looks like ---- */

struct mig_look_style {
    bool boxes, colour;
    unsigned width;
};

struct mig_look_style mig_style_of(FILE *to);
void mig_draw_gpu(FILE *to, const struct mig_gpu *gpu, const struct mig_look_style *style);
/* What the GPU will be: new instances are marked. */
void mig_draw_after(FILE *to, const struct mig_gpu_plan *plan, const struct mig_look_style *style);
/* Instances that go, stay and come, one in a line, with the UUIDs of which MIG devices? */
enum mig_uuids { MIG_UUIDS_NONE, MIG_UUIDS_TOUCHED, MIG_UUIDS_ALL };
void mig_print_fates(FILE *to, const struct mig_gpu_plan *plan, enum mig_uuids uuids,
                     const struct mig_look_style *style);

/* "GPU 0  NVIDIA H100 80GB HBM3  MIG on" */
void mig_heading(const struct mig_gpu *gpu, char text[static 256]);

/* Where one more of a profile could be put now, by start; how many places. `ret_more`: how many
 * instances of this profile alone still fit. */
size_t mig_free_places(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                       struct mig_placement ret[static MIG_MAX_PLACEMENTS], uint32_t *ret_more);

json_t *mig_gpu_json(const struct mig_gpu *gpu);
json_t *mig_plan_json(const struct mig_gpu_plan *plan);
