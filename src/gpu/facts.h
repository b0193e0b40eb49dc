/*
 * What NVML and the file system said in one look, before it becomes an inventory. Private to gpu/.
 *
 *     facts_read_node ──► struct node_facts ─┐
 *     facts_read_gpu  ──► struct gpu_facts  ─┼─► inventory_assemble ──► struct inventory
 *     topology_read   ──► struct topology   ─┘      (assemble.h)
 *
 * Each function that reads may run on a thread of its own and touches nothing shared, so that a
 * call that hangs holds up its own answer alone. All need an NVML that is initialised.
 *
 * A call that fails for once (a MIG device that goes away while it is looked at) is no fact: the
 * GPU is read again, up to FACTS_TRIES times.
 */
#pragma once

#include "gpu/nvml.h"
#include "gpu/nvml_abi.h"
#include "gpu/scan.h"
#include "share/inventory.h"

enum {
    FACTS_TRIES = 3,
    FACTS_MAX_LINKS = 36,          /* NVLinks of one GPU, spec/nvml §6 */
    FACTS_ARENA_BYTES = 256 << 10, /* a GPU with 64 MIG devices and all profiles takes 20 KiB */
};

/* ---- one GPU ---- */

enum facts_depth {
    FACTS_NOTHING,  /* not even who it is */
    FACTS_IDENTITY, /* UUID, name, minor and PCI address; the rest of `gpu` says nothing */
    FACTS_COMPLETE,
};

struct gpu_facts {
    struct arena arena; /* owns all below */
    uint32_t index;
    enum facts_depth depth;
    const char *problem;  /* a sentence; NULL when complete */
    bool display;         /* a "DGX Display" board: not for computing, left out of inventories */
    struct gpu gpu;       /* links, paths of capability nodes and health are not filled */
    size_t n_nvlinks;     /* active ones */
    const char **nvlinks; /* the PCI name of the other end of each */
};

/* -ENOMEM only: everything else is in the facts. */
[[nodiscard]] int facts_read_gpu(const struct nvml *nvml, int root, uint32_t index, bool links,
                                 struct gpu_facts **ret, struct err *err);
void gpu_facts_free(struct gpu_facts *facts); /* NULL is fine */
DEFINE_FREEP(struct gpu_facts, gpu_facts_free)

/* ---- MIG, a chapter of its own (facts_mig.c) ---- */

/* Set while a GPU is read. */
struct facts_reader {
    const struct nvml *nvml;
    int root;
    nvmlDevice_t device;
    struct gpu_facts *facts;
    bool stumbled; /* a call failed in a way that it need not fail again */
    bool lost;     /* a call said that the GPU is lost or needs a reset */
};

/* Whether the same call may well answer when it is made again. */
bool facts_may_retry(nvmlReturn_t code);
/* Takes note of a call's code: whether it was a success. NOT_SUPPORTED is an answer, too ("no"). */
bool facts_note(struct facts_reader *reader, nvmlReturn_t code);
/* A NUL-terminated text that is valid UTF-8, in the facts' arena; NULL without memory. */
const char *facts_text(struct facts_reader *reader, const char *text);

/* Mode, profiles and devices. Fails when any of them cannot be told for sure. */
[[nodiscard]] int facts_read_mig(struct facts_reader *reader, struct err *err);

/* ---- the node ---- */

struct node_facts {
    uint32_t n_gpus;             /* as NVML counts; at most INVENTORY_MAX_GPUS */
    struct inventory *inventory; /* owned; everything but GPUs and problems */
};

/* nvml may be NULL: a node without the library. -ENOENT with NVML_NO_LIBRARY_TEXT when the options
 * insist on NVML; NVML's own words, bare, when it cannot say how many GPUs there are. */
[[nodiscard]] int facts_read_node(const struct nvml *nvml, int root,
                                  const struct scan_options *options, struct node_facts **ret,
                                  struct err *err);
void node_facts_free(struct node_facts *facts); /* NULL is fine */
DEFINE_FREEP(struct node_facts, node_facts_free)

/* Jetson and its like, which NVML names in a way of their own (spec/device-plugin §2.8). */
bool facts_is_tegra_name(const char *gpu_name);

/* A board that drives a screen beside the GPUs that compute: spec/device-plugin §2.8. */
bool facts_is_display_name(const char *gpu_name);

/* ---- how GPUs reach each other ---- */

enum { TOPOLOGY_UNKNOWN = 0xffff };

struct topology {
    uint16_t level[INVENTORY_MAX_GPUS][INVENTORY_MAX_GPUS]; /* by NVML index, symmetric */
};

/* Asks about each pair of the GPUs whose index is set in `indices` (bit i: GPU i). */
void topology_read(const struct nvml *nvml, uint64_t indices, struct topology *ret);
