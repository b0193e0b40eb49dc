/*
 * A change of MIG on paper: what the GPUs concerned were divided into, and what they are to be
 * divided into. One file, `journal.json` in the state folder (mode 0600), which is there while a
 * change is under way and at no other time.
 *
 *     {"version": 1, "pid": 4711, "skipReset": false, "gpus": [{"uuid": "GPU-…", "index": 0,
 *       "before": {"mig": false, "instances": []},
 *       "after":  {"mig": true, "instances": [{"profile": 0, "start": 6, "size": 1,
 *                  "compute": [{"profile": 0, "start": 0, "size": 1}]}]}}]}
 *
 * Profiles are NVML's enums. Whoever reads or writes it holds the folder's lock (mig_apply.h).
 * The reader takes nothing for granted: what it returns is a set of layouts that could be.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "base/err.h"
#include "share/mig_plan.h"

#define MIG_JOURNAL_FILE "journal.json"
#define MIG_JOURNAL_BAD  "journal.json.bad" /* where one is kept that cannot be followed */

enum { MIG_JOURNAL_MAX_BYTES = 1 << 20 };

struct mig_journal_gpu {
    const char *uuid;
    uint32_t index; /* NVML's, when it was written: for people */
    struct mig_layout before, after;
};

struct mig_journal {
    uint32_t pid; /* who wrote it */
    bool skip_reset;
    size_t n_gpus;
    struct mig_journal_gpu *gpus;
};

/* `dir` is the open state folder in all of these. */

/* What writers left that were killed while they wrote. mig_journal_write does so, too. */
void mig_journal_clear_away(int dir);
/* On disk when it returns. */
[[nodiscard]] int mig_journal_write(int dir, const struct mig_journal *journal, struct err *err);
bool mig_journal_exists(int dir);
/* *ret lives in the arena. -ENOENT: there is none; -EINVAL, -EFBIG: it makes no sense, with
 * `journal.json: …`; others as file_read. */
[[nodiscard]] int mig_journal_read(int dir, struct arena *arena, struct mig_journal **ret,
                                   struct err *err);
[[nodiscard]] int mig_journal_remove(int dir, struct err *err);
/* Renames it to MIG_JOURNAL_BAD, over one that is there already. */
[[nodiscard]] int mig_journal_set_aside(int dir, struct err *err);

/* The two halves without a file. */
[[nodiscard]] int mig_journal_to_text(const struct mig_journal *journal, struct buf *ret);
[[nodiscard]] int mig_journal_parse(struct span text, struct arena *arena, struct mig_journal **ret,
                                    struct err *err);
