/*
 * A picture of GPUs and their slices for a terminal:
 *
 *     GPU 0  NVIDIA H100 80GB HBM3  79.6 GiB
 *     ┌─────────┬─────────┬───────────────────┬───────────────────────────────────────┐
 *     │ 1g.10gb │ 1g.10gb │ 2g.20gb           │ 3g.40gb                               │
 *     │ pod-a   │ -       │ pod-b             │ pod-c                                 │
 *     └─────────┴─────────┴───────────────────┴───────────────────────────────────────┘
 *
 * Box drawing and colour are for terminals; otherwise plain ASCII.
 */
#pragma once

#include <stdio.h>

#include "base/base.h"

struct picture_cell {
    uint32_t start, span; /* in units of the row */
    const char *title;    /* "1g.10gb", "replica 3" */
    const char *holder;   /* a pod's name; NULL: free */
    bool usable;          /* false: nothing can be there (a gap between MIG instances) */
    bool healthy;
};

struct picture_gpu {
    const char *heading; /* the line above the box */
    uint32_t units;      /* how many the row is wide; 8 memory slices, or the replicas */
    size_t n_cells;
    const struct picture_cell *cells; /* by start; may leave gaps */
};

struct picture_style {
    bool boxes; /* Unicode box drawing */
    bool colour;
    unsigned width; /* columns of the terminal; rows of cells are wrapped to it */
};

void picture_print(FILE *to, const struct picture_gpu *gpu, const struct picture_style *style);
