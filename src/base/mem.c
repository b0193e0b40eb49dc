#include "base/mem.h"

#include <stdlib.h>

static unsigned long fail_from, asked; /* atomic: workers ask for memory, too */

static int refused(void)
{
    unsigned long n = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    unsigned long from = __atomic_load_n(&fail_from, __ATOMIC_RELAXED);

    return from && n >= from;
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
    __atomic_store_n(&fail_from, n, __ATOMIC_RELAXED);
    __atomic_store_n(&asked, 0, __ATOMIC_RELAXED);
}

unsigned long mem_count(void)
{
    return __atomic_load_n(&asked, __ATOMIC_RELAXED);
}
