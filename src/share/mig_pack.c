#include "share/mig_pack.h"

struct pack {
    uint32_t slices;
    struct mig_sizes left;
    uint8_t free[MIG_MAX_BINS];
    size_t n_bins;
    uint32_t *budget;
    struct mig_packing done;
};

static uint8_t slice_mask(uint32_t start, uint32_t size)
{
    return (uint8_t)(((1u << size) - 1) << start);
}

static void put(struct pack *pack, size_t bin, uint32_t start, uint32_t size)
{
    pack->free[bin] &= (uint8_t)~slice_mask(start, size);
    pack->left.n[size]--;
    pack->done.items[pack->done.n++] = (struct mig_packed){
        .bin = (uint8_t)bin,
        .start = (uint8_t)start,
        .size = (uint8_t)size,
    };
}

static void take_back(struct pack *pack)
{
    const struct mig_packed *last = &pack->done.items[--pack->done.n];

    pack->free[last->bin] |= slice_mask(last->start, last->size);
    pack->left.n[last->size]++;
}

static bool is_free(const struct pack *pack, size_t bin, uint32_t start, uint32_t size)
{
    uint8_t mask = slice_mask(start, size);

    return mig_ci_start_legal(pack->slices, start, size) && (pack->free[bin] & mask) == mask;
}

/* Puts one where the first place for it is. */
static bool put_first(struct pack *pack, uint32_t size)
{
    for (size_t bin = 0; bin < pack->n_bins; bin++)
        for (uint32_t start = 0; start + size <= pack->slices; start++)
            if (is_free(pack, bin, start, size)) {
                put(pack, bin, start, size);
                return true;
            }
    return false;
}

static bool put_all(struct pack *pack, uint32_t size)
{
    while (pack->left.n[size] > 0)
        if (!put_first(pack, size))
            return false;
    return true;
}

static bool put_small(struct pack *pack)
{
    size_t n = pack->done.n;

    if (put_all(pack, 2) && put_all(pack, 1))
        return true;
    while (pack->done.n > n)
        take_back(pack);
    return false;
}

static bool seen_before(const struct pack *pack, size_t bin)
{
    for (size_t i = 0; i < bin; i++)
        if (pack->free[i] == pack->free[bin])
            return true;
    return false;
}

/* The largest that is left at all its places, and then the rest. */
static bool put_rest(struct pack *pack)
{
    uint32_t size = pack->slices - 1;

    if (*pack->budget == 0)
        return false;
    --*pack->budget;
    while (size > 2 && pack->left.n[size] == 0)
        size--;
    if (size <= 2)
        return put_small(pack);
    for (size_t bin = 0; bin < pack->n_bins; bin++)
        for (uint32_t start = 0; start + size <= pack->slices && !seen_before(pack, bin); start++) {
            if (!is_free(pack, bin, start, size))
                continue;
            put(pack, bin, start, size);
            if (put_rest(pack))
                return true;
            take_back(pack);
        }
    return false;
}

static bool may_fit(const struct pack *pack)
{
    uint64_t wanted = 0, there = 0;

    for (uint32_t size = 1; size <= MIG_MAX_SLICES; size++) {
        if (size > pack->slices && pack->left.n[size] > 0)
            return false;
        wanted += (uint64_t)pack->left.n[size] * size;
    }
    for (size_t i = 0; i < pack->n_bins; i++)
        there += (uint32_t)__builtin_popcount(pack->free[i]);
    return wanted <= there;
}

bool mig_pack(uint32_t slices, const struct mig_sizes *sizes, const uint8_t *free, size_t n_bins,
              uint32_t *budget, struct mig_packing *ret)
{
    struct pack pack = { .slices = slices, .left = *sizes, .n_bins = n_bins, .budget = budget };

    if (slices == 0 || slices > MIG_MAX_SLICES || n_bins > MIG_MAX_BINS)
        return false;
    memcpy(pack.free, free, n_bins);
    /* An empty bin is as good as the next for what fills it. */
    if (!may_fit(&pack) || !put_all(&pack, slices) || !put_rest(&pack))
        return false;
    if (ret)
        *ret = pack.done;
    return true;
}
