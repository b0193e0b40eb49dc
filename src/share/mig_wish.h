/*
 * From a named MIG configuration (mig_config.h) to what is wanted of each GPU of a node. This is
 * where filters and indices meet hardware, and where NVIDIA's tool is lenient and ours is not.
 *
 *     config entries ──► per GPU: the last entry that is about it ──► struct mig_wish
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "share/mig_config.h"
#include "share/mig_documents.h"
#include "share/mig_geometry.h"
#include "share/mig_plan.h"

enum mig_manners {
    /* tranche's own: a configuration that is about no GPU, that names an index which is not there,
     * a profile that no GPU of those it is about knows, or entries that disagree about a GPU's
     * mode, is an error before anything is touched. */
    MIG_STRICT,
    /* NVIDIA's: no GPU is no error, an unknown profile empties the GPU (spec/mig §4.6, T7, T16). */
    MIG_LENIENT,
};

enum mig_scope { MIG_SCOPE_ALL, MIG_SCOPE_MODE_ONLY };

struct mig_wishes {
    struct mig_wish *wishes; /* one for each GPU of the node, MIG_WISH_NOTHING where none matches */
    size_t n_matched;
    size_t n_warnings;
    const char **warnings; /* sentences: what a lenient reading overlooked */
};

/*
 * All lives in the arena; borrows config and node. Each sentence begins with its place in the file:
 *
 *     -ENODEV   an index that is not there, or no GPU at all matches (strict)
 *     -ENOENT   a profile that no GPU knows of those that the entry is about (strict)
 *     -ENOTSUP  a list of indices wants MIG on a GPU without, in both manners; `devices: all`
 *               passes such a GPU over, unless none is left (strict)
 *     -EINVAL   two entries disagree about a GPU's mode; too many profiles
 *     -ENOMEM
 *
 * Counts of 0 are no wish, and 1c.1g.5gb is 1g.5gb. Whether what is wanted fits, and whether each
 * single GPU knows it, is the planner's question. A GPU that cannot be read is wished for as if it
 * could, so that the planner names its problem.
 */
[[nodiscard]] int mig_wishes_make(const struct mig_config *config, const struct mig_node *node,
                                  enum mig_manners manners, enum mig_scope scope,
                                  struct arena *arena, struct mig_wishes *ret, struct err *err);

/* What a checkpoint wants of each GPU of the node; of those that it does not name, nothing. -ENODEV
 * with the UUID, and nothing else, of a GPU that the node does not have; -ENOMEM. */
[[nodiscard]] int mig_wishes_of_checkpoint(const struct mig_checkpoint *checkpoint,
                                           const struct mig_node *node, enum mig_scope scope,
                                           struct arena *arena, struct mig_wish **ret,
                                           struct err *err);

enum mig_assertion {
    MIG_ASSERT_NVIDIAS, /* every GPU of the node must match the configuration (spec/mig §4.4) */
    MIG_ASSERT_OURS,    /* every GPU that the configuration is about and that is capable of MIG, and
                           there must be a GPU that it is about */
};

/* 0: the node already is what the configuration says; -ENODATA with the reason as upstream words
 * it with -d, in lower case; -ENOMEM. Names are compared by what they mean on that GPU. */
[[nodiscard]] int mig_config_assert(const struct mig_config *config, const struct mig_node *node,
                                    enum mig_assertion rule, enum mig_scope scope,
                                    struct arena *arena, struct err *err);
