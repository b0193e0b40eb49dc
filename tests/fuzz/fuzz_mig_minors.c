/* The driver's list of capability minors: what the table says must have stood in the file. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/mig_minors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *text, uint32_t minor)
{
    char digits[16];

    if (minor == 0)
        return;
    snprintf(digits, sizeof(digits), "%u", minor);
    assert(strstr(text, digits));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mig_minors minors;
    char *text = malloc(size + 1); /* exactly as long, so that one byte too far is seen */

    if (!text)
        return 0;
    for (size_t i = 0; i < size; i++) /* a NUL would hide the rest from strstr */
        text[i] = data[i] ? (char)data[i] : ' ';
    mig_minors_parse((struct span){ .ptr = text, .len = size }, &minors);
    text[size] = '\0';
    for (uint32_t gpu = 0; gpu < MIG_MINORS_GPUS; gpu++) {
        for (uint32_t gi = 0; gi < MIG_MINORS_GIS; gi++) {
            check(text, mig_minors_gi(&minors, gpu, gi));
            for (uint32_t ci = 0; ci < MIG_MINORS_CIS; ci++)
                check(text, mig_minors_ci(&minors, gpu, gi, ci));
        }
    }
    free(text);
    return 0;
}
