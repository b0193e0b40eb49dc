#include "share/prefer.h"

#include <assert.h>
#include <errno.h>

#include "base/text.h"
#include "share/partition.h"

/* Where one request's answer grows. */
struct choice {
    const struct resource *resource;
    const struct inventory *inventory;
    const struct prefer_request *request;
    struct arena *arena;
    struct arena *scratch; /* for what is forgotten with the answer */
    const char **ids;
    size_t n_ids;
};

enum { SCRATCH_BYTES = 16 << 20 };

static bool is_replica(const char *id)
{
    return strstr(id, "::") != NULL;
}

static int make_room(struct choice *choice, size_t n_ids, struct err *err)
{
    choice->ids = arena_new_array(choice->arena, const char *, n_ids);
    return choice->ids ? 0 : err_no_memory(err);
}

/* ---- whole GPUs: those that are best connected ---- */

struct gpu_list {
    size_t n;
    const struct gpu *items[INVENTORY_MAX_GPUS]; /* each once, in order of the request */
};

static bool has_gpu(const struct gpu_list *list, const struct gpu *gpu)
{
    for (size_t i = 0; i < list->n; i++)
        if (list->items[i] == gpu)
            return true;
    return false;
}

static int find_gpus(const struct inventory *inventory, const char *const *ids, size_t n_ids,
                     struct gpu_list *list, const char *what, struct err *err)
{
    for (size_t i = 0; i < n_ids; i++) {
        const struct gpu *gpu = inventory_gpu_by_uuid(inventory, ids[i]);
        if (!gpu)
            return err_set(err, EINVAL,
                           "unable to retrieve list of %s devices: no device with uuid: %s", what,
                           ids[i]);
        if (has_gpu(list, gpu))
            continue;
        assert(list->n < INVENTORY_MAX_GPUS);
        list->items[list->n++] = gpu;
    }
    return 0;
}

/* spec/device-plugin §5.2: the nearer the common ancestor, and the more NVLinks, the better. */
static int32_t pair_score(const struct inventory *inventory, const struct gpu *from,
                          const struct gpu *to)
{
    enum { PER_NVLINK = 100, MAX_NVLINKS = 18 };
    static const struct {
        uint32_t level;
        int32_t score;
    } levels[] = {
        { TOPOLOGY_INTERNAL, 60 },   { TOPOLOGY_SINGLE, 50 }, { TOPOLOGY_MULTIPLE, 40 },
        { TOPOLOGY_HOSTBRIDGE, 30 }, { TOPOLOGY_NODE, 20 },   { TOPOLOGY_SYSTEM, 10 },
    };

    if (!from->links)
        return 0;
    const struct gpu_link *link = &from->links[to - inventory->gpus];
    int32_t score = PER_NVLINK * (int32_t)MIN(link->n_nvlinks, (uint32_t)MAX_NVLINKS);
    for (size_t i = 0; i < ARRAY_LEN(levels); i++)
        if (link->known && link->level == levels[i].level)
            score += levels[i].score;
    return score;
}

static uint64_t mask_of(const struct gpu_list *all, const struct gpu_list *some)
{
    uint64_t mask = 0;

    for (size_t i = 0; i < all->n; i++)
        if (has_gpu(some, all->items[i]))
            mask |= UINT64_C(1) << i;
    return mask;
}

static int search_set(const struct choice *choice, const struct gpu_list *available,
                      uint64_t required, uint32_t size, uint64_t *ret_set, struct err *err)
{
    struct partition_problem problem = {
        .n_gpus = (uint32_t)available->n,
        .size = size,
        .required = (uint32_t)required,
    };
    uint32_t set = 0;

    for (size_t i = 0; i < available->n; i++)
        for (size_t j = i + 1; j < available->n; j++)
            problem.score[i][j] = problem.score[j][i] =
                pair_score(choice->inventory, available->items[i], available->items[j]);
    int r = partition_best(&problem, &set, err);
    *ret_set = set;
    return r;
}

/* ---- more GPUs than can be searched ---- */

/* Adds, again and again, the GPU that is best connected to those that are in. */
static int32_t grow_set(const struct choice *choice, const struct gpu_list *available,
                        uint32_t size, uint64_t *set)
{
    int32_t gain[INVENTORY_MAX_GPUS] = {}, score = 0;
    uint64_t counted = 0;

    for (;;) {
        for (size_t i = 0; i < available->n; i++) { /* those who came in since last time */
            if (!((*set & ~counted) >> i & 1))
                continue;
            score += gain[i];
            counted |= UINT64_C(1) << i;
            for (size_t j = 0; j < available->n; j++)
                if (j != i)
                    gain[j] += pair_score(choice->inventory, available->items[MIN(i, j)],
                                          available->items[MAX(i, j)]);
        }
        if ((uint32_t)__builtin_popcountll(*set) == size)
            return score;
        size_t best = available->n;
        for (size_t i = 0; i < available->n; i++)
            if (!(*set >> i & 1) && (best == available->n || gain[i] > gain[best]))
                best = i;
        *set |= UINT64_C(1) << best;
    }
}

/* The best of the sets that grow from each GPU, or from those that are required. */
static uint64_t grow_best_set(const struct choice *choice, const struct gpu_list *available,
                              uint64_t required, uint32_t size)
{
    uint64_t best = 0;
    int32_t best_score = -1;

    for (size_t i = 0; i < available->n; i++) {
        uint64_t set = required ? required : UINT64_C(1) << i;
        int32_t score = grow_set(choice, available, size, &set);
        if (score > best_score) {
            best_score = score;
            best = set;
        }
        if (required)
            break;
    }
    return best;
}

static int align(struct choice *choice, struct err *err)
{
    const struct prefer_request *request = choice->request;
    struct gpu_list available = {}, required = {};
    uint64_t set = 0;

    int r = find_gpus(choice->inventory, request->available, request->n_available, &available,
                      "available", err);
    if (r == 0)
        r = find_gpus(choice->inventory, request->must_include, request->n_must_include, &required,
                      "required", err);
    if (r < 0)
        return r;
    uint64_t must = mask_of(&available, &required);
    if (request->size <= 0 || available.n < (size_t)request->size ||
        required.n > (size_t)request->size || (size_t)__builtin_popcountll(must) < required.n)
        return 0; /* nothing to prefer, which is an answer */

    uint32_t size = (uint32_t)request->size;
    if (available.n <= PARTITION_MAX_GPUS)
        r = search_set(choice, &available, must, size, &set, err);
    else
        set = grow_best_set(choice, &available, must, size);
    if (r == 0)
        r = make_room(choice, size, err);
    for (size_t i = 0; i < available.n && r == 0; i++)
        if (set >> i & 1)
            choice->ids[choice->n_ids++] = available.items[i]->uuid;
    return r;
}

/* ---- everything else: by how much of a device is taken ---- */

/* A physical device with replicas that can be picked. */
struct stock {
    const struct device_group *group;
    uint32_t n_free, n_taken, n_picked;
    uint32_t next; /* no free replica comes before this one */
};

struct pool {
    enum allocation_policy policy;
    struct stock *stocks; /* by group */
    bool *is_free;        /* by device */
    struct stock **heap;  /* of those with a free replica, the next to pick from first */
    size_t n_heap;
    size_t n_free;
};

/* Would one rather pick from a than from b? */
static bool is_better(const struct pool *pool, const struct stock *a, const struct stock *b)
{
    if (a->n_taken != b->n_taken)
        return (a->n_taken < b->n_taken) == (pool->policy == POLICY_DISTRIBUTED);
    if (a->n_picked != b->n_picked)
        return a->n_picked < b->n_picked;
    return a < b;
}

static void sift_down(struct pool *pool, size_t at)
{
    for (;;) {
        size_t best = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < pool->n_heap; child++)
            if (is_better(pool, pool->heap[child], pool->heap[best]))
                best = child;
        if (best == at)
            return;
        struct stock *moved = pool->heap[at];
        pool->heap[at] = pool->heap[best];
        pool->heap[best] = moved;
        at = best;
    }
}

static void set_free(const struct choice *choice, struct pool *pool, const char *id, bool is_free)
{
    const struct device *device = resource_device(choice->resource, id);

    if (device)
        pool->is_free[device - choice->resource->devices] = is_free;
}

static int fill_pool(const struct choice *choice, struct pool *pool, struct err *err)
{
    const struct resource *resource = choice->resource;
    const struct prefer_request *request = choice->request;

    pool->is_free = arena_new_array(choice->scratch, bool, resource->n_devices);
    pool->stocks = arena_new_array(choice->scratch, struct stock, resource->n_groups);
    pool->heap = arena_new_array(choice->scratch, struct stock *, resource->n_groups);
    if (!pool->is_free || !pool->stocks || !pool->heap)
        return err_no_memory(err);
    for (size_t i = 0; i < request->n_available; i++)
        set_free(choice, pool, request->available[i], true);
    for (size_t i = 0; i < request->n_must_include; i++)
        set_free(choice, pool, request->must_include[i], false);

    for (size_t i = 0; i < resource->n_groups; i++) {
        struct stock *stock = &pool->stocks[i];
        stock->group = &resource->groups[i];
        for (uint32_t j = 0; j < stock->group->n; j++)
            stock->n_free += pool->is_free[stock->group->first + j];
        stock->n_taken = stock->group->n - stock->n_free;
        pool->n_free += stock->n_free;
        if (stock->n_free > 0)
            pool->heap[pool->n_heap++] = stock;
    }
    for (size_t i = pool->n_heap / 2; i-- > 0;)
        sift_down(pool, i);
    return 0;
}

static const char *pick(const struct choice *choice, struct pool *pool)
{
    struct stock *stock = pool->heap[0];

    while (!pool->is_free[stock->group->first + stock->next])
        stock->next++;
    const char *id = choice->resource->devices[stock->group->first + stock->next++].id;
    stock->n_picked++;
    stock->n_taken++;
    if (--stock->n_free == 0)
        pool->heap[0] = pool->heap[--pool->n_heap];
    sift_down(pool, 0);
    return id;
}

static int spread(struct choice *choice, enum allocation_policy policy, struct err *err)
{
    const struct prefer_request *request = choice->request;
    int64_t need = (int64_t)request->size - (int64_t)request->n_must_include;
    struct pool pool = { .policy = policy };

    int r = fill_pool(choice, &pool, err);
    if (r < 0)
        return r;
    if (need > (int64_t)pool.n_free)
        return err_set(err, EINVAL, "not enough available devices to satisfy allocation");
    need = MAX(need, (int64_t)0);
    r = make_room(choice, request->n_must_include + (size_t)need, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < request->n_must_include; i++)
        choice->ids[choice->n_ids++] = request->must_include[i];
    for (; need > 0; need--)
        choice->ids[choice->n_ids++] = pick(choice, &pool);
    return 0;
}

/* ---- which of the two ---- */

static bool can_align(const struct choice *choice)
{
    if (choice->inventory->platform != PLATFORM_NVML)
        return false;
    for (size_t i = 0; i < choice->resource->n_groups; i++)
        if (choice->resource->devices[choice->resource->groups[i].first].mig)
            return false;
    for (size_t i = 0; i < choice->request->n_available; i++)
        if (is_replica(choice->request->available[i]))
            return false;
    return true;
}

int prefer(const struct resource *resource, const struct inventory *inventory,
           const struct config *config, const struct prefer_request *request, struct arena *arena,
           const char ***ret, size_t *ret_n, struct err *err)
{
    auto_(arena_done) struct arena scratch = ARENA_MAX(SCRATCH_BYTES);
    struct choice choice = { .resource = resource,
                             .inventory = inventory,
                             .request = request,
                             .arena = arena,
                             .scratch = &scratch };
    int r;

    if (can_align(&choice))
        r = align(&choice, err);
    else if (inventory->platform == PLATFORM_NVML)
        r = spread(&choice, config->allocation_policy, err);
    else
        r = spread(&choice, POLICY_DISTRIBUTED, err);
    if (r < 0)
        return r == -EINVAL ? err_wrap(err, r, "error getting list of preferred allocation devices")
                            : r;
    *ret = choice.ids;
    *ret_n = choice.n_ids;
    return 0;
}
