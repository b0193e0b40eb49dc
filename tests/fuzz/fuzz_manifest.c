/* Manifests as `tranche try` reads them: whatever the bytes are, the answer is objects or a
 * sentence that begins with the place. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/node/objects.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(64));
    struct objects objects = { .arena = &arena };
    struct err err = {};
    int r = objects_read(&objects, (struct span){ (const char *)data, size }, "f", &err);

    if (r < 0 && err.code != ENOMEM && !text_starts(err.text, "f:"))
        abort();
    for (size_t i = 0; r == 0 && i < objects.n_pods; i++)
        if (!objects.pods[i].sim.name || !objects.pods[i].sim.n_containers)
            abort();
    return 0;
}
