/*
 * Where arenas, buffers and maps get their memory. One place, so that a test can make the nth
 * allocation fail and prove that no path forgets to look.
 *
 * mem_alloc and mem_resize return NULL when there is no memory; mem_alloc'd bytes are zero.
 */
#pragma once

#include <stddef.h>

[[nodiscard]] void *mem_alloc(size_t size);
[[nodiscard]] void *mem_resize(void *old, size_t size);
void mem_free(void *pointer);

/* For tests: allocation number n from now (1 is the next) and all after it fail; 0 ends that. */
void mem_fail_from(unsigned long n);
/* For tests: how many allocations have been asked for since the last mem_fail_from. */
unsigned long mem_count(void);
