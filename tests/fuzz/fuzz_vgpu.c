/* PCI configuration space, in which a vGPU host may have left a record. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vgpu.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *config = malloc(size > 0 ? size : 1);
    struct vgpu_record record;
    struct err err = {};

    if (!config)
        return 0;
    memcpy(config, data, size);
    int r = vgpu_parse((struct span){ .ptr = config, .len = size }, &record, &err);
    assert(r == 0 || r == 1 || r == -EINVAL || r == -ENODATA);
    assert((r == -ENODATA) == (size < 256));
    assert((r < 0) == (err.code != 0));
    if (r == 1) {
        assert(strlen(record.driver_version) <= 10 && strlen(record.driver_branch) <= 10);
        assert(text_utf8_prefix(span_of(record.driver_version)) == strlen(record.driver_version));
        assert(text_utf8_prefix(span_of(record.driver_branch)) == strlen(record.driver_branch));
    }
    free(config);
    return 0;
}
