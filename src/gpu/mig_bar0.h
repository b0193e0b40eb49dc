/*
 * MIG mode without a driver: on boards with the GA100 chip (A100, A30, A800) it can be read and
 * asked for in registers, which the kernel shows in the PCI device's file resource0 (BAR0). A new
 * mode takes effect with the next reset (spec/mig §4.5).
 *
 *     mig_bar0_look ──► struct mig_node ──► wishes (share/mig_wish.h) ──► mig_bar0_apply
 *
 * A board whose register 0 reads anything but GA100 is not capable here, and nothing but that
 * register is ever read of it. resource0 is opened for reading until a write is due, and a write
 * changes two bits.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "base/text.h"
#include "share/mig_geometry.h"
#include "share/mig_plan.h"

/* Whether the kernel has loaded the module `nvidia`, from the content of /proc/modules. */
bool mig_bar0_lists_nvidia(struct span modules);

/* ---- what the registers say: pure ---- */

struct mig_bar0_registers {
    uint32_t chip;
    uint32_t boot;   /* the rest only of GA100 */
    uint32_t mode;   /* now */
    uint32_t wanted; /* from the next reset on, where it says anything */
};

/* A board that has been powered on, or reset, takes a moment until its registers count. */
struct mig_bar0_patience {
    unsigned limit_ms, poll_ms;
};
#define MIG_BAR0_PATIENCE ((struct mig_bar0_patience){ .limit_ms = 5000, .poll_ms = 100 })

enum mig_bar0_stage {
    MIG_BAR0_OTHER,   /* another chip */
    MIG_BAR0_BOOTING, /* look again later */
    MIG_BAR0_STUCK,   /* waited long enough */
    MIG_BAR0_READY,
};

enum mig_bar0_stage mig_bar0_stage(const struct mig_bar0_registers *registers, unsigned waited_ms,
                                   struct mig_bar0_patience patience);

/* MIG mode now, and after the next reset. Of a board that is ready. */
bool mig_bar0_enabled(const struct mig_bar0_registers *registers);
bool mig_bar0_pending(const struct mig_bar0_registers *registers);

struct mig_bar0_change {
    bool write;     /* `value` to the register of the wanted mode */
    uint32_t value; /* that register with two bits changed */
    bool reset;     /* the mode waits for it then */
};

/* Nothing to do for a board that is not ready, or is what is wanted now and after a reset. */
struct mig_bar0_change mig_bar0_decide(const struct mig_bar0_registers *registers, bool enabled);

/* ---- the boards of this machine ---- */

/*
 * The NVIDIA GPUs below `root`, an open directory, by PCI address: display and 3D controllers that
 * are no virtual functions. Their mode is known, of all else only the PCI ids; uuid is "". A board
 * whose registers cannot be read, or that does not finish booting, is in it with its problem.
 * All together wait at most patience.limit_ms. -ENOMEM; other errors when the PCI bus cannot be
 * listed.
 */
[[nodiscard]] int mig_bar0_look(int root, struct mig_bar0_patience patience, struct arena *arena,
                                struct mig_node **ret, struct err *err);

/*
 * Asks for the mode of each wish of kind MIG_WISH_MODE (one for each GPU of the node) and resets
 * the GPUs that wait for it then, unless skip_reset. Each file is opened before the first register
 * is written, and a register that does not keep its value takes back what was written before.
 * -EBUSY for a GPU that a driver has; -ENOENT without a file resource0 or reset; whatever open,
 * mmap and write say. The sentence names the GPU.
 */
[[nodiscard]] int mig_bar0_apply(int root, const struct mig_node *node,
                                 const struct mig_wish *wishes, bool skip_reset, struct err *err);
