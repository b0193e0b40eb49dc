/*
 * The best set of GPUs of a given size, by NVIDIA's definition of best (spec/device-plugin §5.2):
 * all available GPUs are divided into sets of that size so that the scores within the sets add up
 * to the most, and of that division the best set is the answer. What is left over when the size
 * does not divide the number of GPUs forms one smaller set, which is never the answer.
 *
 * The division found is the true optimum; of several optima it is the one that comes first when
 * sets are tried in order of their members, as NVIDIA's enumeration does. It is found without that
 * enumeration (2.6 million divisions for four out of sixteen): see partition.c.
 *
 * Pure; GPUs are numbered in the order in which they are available.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

enum { PARTITION_MAX_GPUS = 16 };

struct partition_problem {
    uint32_t n_gpus;   /* 1 … PARTITION_MAX_GPUS */
    uint32_t size;     /* 1 … n_gpus */
    uint32_t required; /* a mask: the answer contains them all; no more than `size` */
    int32_t score[PARTITION_MAX_GPUS][PARTITION_MAX_GPUS]; /* of a pair, symmetric, >= 0 */
};

/* *ret_set is a mask of `size` GPUs. -ENOMEM. Microseconds for eight GPUs, some tens of them for
 * four of sixteen on real machines; below a tenth of a second for the worst sizes (about six of
 * sixteen) and connections without any pattern. */
[[nodiscard]] int partition_best(const struct partition_problem *problem, uint32_t *ret_set,
                                 struct err *err);
