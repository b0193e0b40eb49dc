#include "share/offer.h"

#include "share/mig_profile.h"

struct list {
    const struct config *config;
    struct arena *arena;
    size_t n;
    struct offer *items;
};

bool offer_is_cut(const struct config *config, const struct gpu *gpu)
{
    return config->mig_strategy != MIG_STRATEGY_NONE && gpu->mig_enabled;
}

bool offer_has_name(const struct config *config, const struct mig_device *mig)
{
    return config->mig_strategy != MIG_STRATEGY_MIXED || mig->whole;
}

static int add(struct list *list, struct offer offer, struct err *err)
{
    struct offer *item = arena_push(list->arena, &list->items, &list->n);

    if (!item || !offer.resource || !offer.index)
        return err_no_memory(err);
    *item = offer;
    return 0;
}

static int add_gpu(struct list *list, const struct gpu *gpu, struct err *err)
{
    return add(list,
               (struct offer){ .resource = OFFER_GPU_RESOURCE,
                               .id = gpu->uuid,
                               .index = arena_printf(list->arena, "%u", gpu->index),
                               .gpu = gpu },
               err);
}

static const char *mig_resource(struct list *list, const struct mig_device *mig)
{
    char form[MIG_PROFILE_NAME_MAX];

    if (list->config->mig_strategy == MIG_STRATEGY_SINGLE)
        return OFFER_GPU_RESOURCE;
    mig_profile_resource_form(mig->profile, form);
    return arena_printf(list->arena, OFFER_MIG_RESOURCE "%s", form);
}

static int add_mig(struct list *list, const struct gpu *gpu, const struct mig_device *mig,
                   struct err *err)
{
    if (!offer_has_name(list->config, mig))
        return 0;
    return add(list,
               (struct offer){ .resource = mig_resource(list, mig),
                               .id = mig->uuid,
                               .index = arena_printf(list->arena, "%u:%u", gpu->index, mig->index),
                               .gpu = gpu,
                               .mig = mig },
               err);
}

static int add_gpus(struct list *list, const struct inventory *inventory, struct err *err)
{
    int r = 0;

    for (size_t i = 0; i < inventory->n_gpus && r == 0; i++) {
        const struct gpu *gpu = &inventory->gpus[i];
        if (!offer_is_cut(list->config, gpu))
            r = add_gpu(list, gpu, err);
        else
            for (size_t j = 0; j < gpu->n_mig_devices && r == 0; j++)
                r = add_mig(list, gpu, &gpu->mig_devices[j], err);
    }
    return r;
}

int offer_list(const struct inventory *inventory, const struct config *config, struct arena *arena,
               struct offer **ret, size_t *ret_n, struct err *err)
{
    /* One door for all GPUs, and one chip that is all there is. */
    static const struct offer wsl = { .resource = OFFER_GPU_RESOURCE, .id = "all", .index = "all" };
    static const struct offer tegra = { .resource = OFFER_GPU_RESOURCE,
                                        .id = "tegra",
                                        .index = "0" };
    struct list list = { .config = config, .arena = arena };
    int r = 0;

    if (inventory->platform == PLATFORM_WSL)
        r = add(&list, wsl, err);
    else if (inventory->platform == PLATFORM_TEGRA)
        r = add(&list, tegra, err);
    else if (inventory->platform == PLATFORM_NVML)
        r = add_gpus(&list, inventory, err);
    if (r < 0)
        return r;
    *ret = list.items;
    *ret_n = list.n;
    return 0;
}
