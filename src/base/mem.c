#include "base/mem.h"

#include <stdlib.h>

static unsigned long fail_from, asked;

static int refused(void)
{
    asked++;
    return fail_from && asked >= fail_from;
}

void *mem_alloc(size_t size)
{
    return refused() ? NULL : calloc(1, size);
}

void *mem_resize(void *old, size_t size)
{
    return refused() ? NULL : realloc(old, size);
}

void mem_free(void *pointer)
{
    free(pointer);
}

void mem_fail_from(unsigned long n)
{
    fail_from = n;
    asked = 0;
}

unsigned long mem_count(void)
{
    return asked;
}
