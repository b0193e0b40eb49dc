/* The journal of a MIG change: what is accepted could be, and reads the same once it is written. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "gpu/mig_journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_layout(const struct mig_layout *layout)
{
    uint64_t taken = 0;

    assert(layout->n_gis <= MIG_MAX_GPU_INSTANCES);
    assert(layout->enabled || layout->n_gis == 0);
    for (size_t i = 0; i < layout->n_gis; i++) {
        const struct mig_placed *gi = &layout->gis[i];

        assert(gi->gi_profile < MIG_MAX_GI_PROFILES);
        assert(gi->n_cis <= MIG_MAX_COMPUTE_INSTANCES);
        assert(gi->placement.size > 0);
        assert(gi->placement.start + gi->placement.size <= MIG_MAX_MEMORY_SLICES);
        uint64_t mask = ((UINT64_C(1) << gi->placement.size) - 1) << gi->placement.start;
        assert(!(taken & mask));
        taken |= mask;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(4)), again_arena = ARENA_MAX(MIB(4));
    auto_(buf_done) struct buf text = BUF_MAX(MIB(4)), again_text = BUF_MAX(MIB(4));
    struct mig_journal *journal, *again;
    struct err err = {};

    if (mig_journal_parse((struct span){ .ptr = (const char *)data, .len = size }, &arena, &journal,
                          &err) < 0) {
        assert(err.text[0]);
        return 0;
    }
    assert(journal->n_gpus > 0 && journal->n_gpus <= MIG_MAX_GPUS);
    for (size_t i = 0; i < journal->n_gpus; i++) {
        check_layout(&journal->gpus[i].before);
        check_layout(&journal->gpus[i].after);
    }
    assert(mig_journal_to_text(journal, &text) == 0);
    assert(mig_journal_parse(buf_span(&text), &again_arena, &again, NULL) == 0);
    assert(mig_journal_to_text(again, &again_text) == 0);
    assert(span_equal(buf_span(&text), buf_span(&again_text)));
    return 0;
}
