/*
 * Checkpoints and hooks files from outside. The first byte says which: a checkpoint (c) or hooks
 * (h).
 *
 * Besides not falling over: what is read keeps the promises of its struct, the checker finds an
 * error in a file exactly when reading it fails, and what was read of a checkpoint fits what a
 * journal or a plan may hold.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "share/mig_documents.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_layout(const struct mig_layout *layout)
{
    assert(layout->n_gis <= MIG_MAX_GPU_INSTANCES);
    assert(layout->enabled || layout->n_gis == 0);
    for (size_t i = 0; i < layout->n_gis; i++) {
        const struct mig_placed *gi = &layout->gis[i];
        assert(gi->gi_profile < MIG_MAX_GI_PROFILES && gi->n_cis <= MIG_MAX_COMPUTE_INSTANCES);
        assert(gi->placement.size > 0 && gi->placement.size <= MIG_MAX_MEMORY_SLICES);
        assert(gi->placement.start < MIG_MAX_MEMORY_SLICES);
        assert(i == 0 || layout->gis[i - 1].placement.start <= gi->placement.start);
        for (size_t k = 0; k < gi->n_cis; k++)
            assert(gi->cis[k].ci_profile < MIG_CI_PROFILES && gi->cis[k].placement.size == 0);
    }
}

static void check_checkpoint(const struct mig_checkpoint *checkpoint)
{
    assert(checkpoint->n_gpus <= MIG_MAX_GPUS);
    for (size_t i = 0; i < checkpoint->n_gpus; i++) {
        assert(checkpoint->gpus[i].uuid[0]);
        for (size_t k = 0; k < i; k++)
            assert(strcmp(checkpoint->gpus[k].uuid, checkpoint->gpus[i].uuid) != 0);
        check_layout(&checkpoint->gpus[i].layout);
    }
}

static void check_hook(const struct mig_hook *hook)
{
    size_t n = 0;

    assert(hook->command && (!hook->workdir || hook->workdir[0]));
    while (hook->args[n])
        n++;
    assert(n <= MIG_HOOKS_MAX_TEXTS);
    for (n = 0; hook->envs[n]; n++)
        assert(strchr(hook->envs[n], '='));
    assert(n <= MIG_HOOKS_MAX_TEXTS);
}

static void check_hooks(const struct mig_hooks *hooks)
{
    for (int point = 0; point < MIG_HOOK_N; point++) {
        assert(hooks->n[point] <= MIG_HOOKS_MAX_HOOKS);
        for (size_t i = 0; i < hooks->n[point]; i++)
            check_hook(&hooks->hooks[point][i]);
    }
}

static void try_checkpoint(struct span text)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct findings findings = { .arena = &arena };
    struct mig_checkpoint *checkpoint;
    struct err err = {};
    int r = mig_checkpoint_parse(text, "f", &arena, &checkpoint, &err);
    int n = mig_checkpoint_check(text, &findings, &err);

    assert(r == 0 || err.text[0]);
    if (r == 0)
        check_checkpoint(checkpoint);
    if (r != -ENOMEM && n != -ENOMEM)
        assert((r == 0) == (n == 0));
}

static void try_hooks(struct span text)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct findings findings = { .arena = &arena };
    struct mig_hooks *hooks;
    struct err err = {};
    int r = mig_hooks_parse(text, "f", &arena, &hooks, &err);
    int n = mig_hooks_check(text, &findings, &err);

    assert(r == 0 || err.text[0]);
    if (r == 0)
        check_hooks(hooks);
    if (r != -ENOMEM && n != -ENOMEM)
        assert((r == 0) == (n == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = { (const char *)data + 1, size - 1 };

    if (size == 0)
        return 0;
    if (data[0] == 'c')
        try_checkpoint(text);
    else if (data[0] == 'h')
        try_hooks(text);
    return 0;
}
