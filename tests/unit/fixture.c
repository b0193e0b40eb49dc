#include "fixture.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "share/mig_profile.h"

static const struct model {
    const char *word, *name;
    uint64_t memory_mib;
    int cc_major, cc_minor;
    bool mig_capable;
} models[] = {
    { "t4", "Tesla T4", 15360, 7, 5, false },
    { "v100", "Tesla V100-SXM2-16GB", 16384, 7, 0, false },
    { "a10", "NVIDIA A10", 23028, 8, 6, false },
    { "l4", "NVIDIA L4", 23034, 8, 9, false },
    { "quadro", "Quadro RTX 6000/8000", 24576, 7, 5, false },
    { "a100", "NVIDIA A100-SXM4-40GB", 40960, 8, 0, true },
    { "h100", "NVIDIA H100 80GB HBM3", 81559, 9, 0, true },
    { "h200", "NVIDIA H200", 143771, 9, 0, true },
    { "b300", "NVIDIA B300 SXM6 AC", 275040, 10, 3, true },
    { "rtxpro", "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, 12, 0, true },
};

/* Numbers as in spec/device-plugin §9.7 where it has them. */
static const struct profile {
    const char *name;
    uint32_t gi_profile, ci_profile;
    struct mig_attributes attributes;
} profiles[] = {
    { "1g.10gb", 0, 0, { 16, 1, 1, 0, 1, 0, 1, 1, 9984 } },
    { "1g.10gb+me", 7, 0, { 16, 1, 1, 0, 1, 1, 1, 1, 9984 } },
    { "1g.18gb", 0, 0, { 16, 1, 1, 0, 1, 0, 1, 1, 16384 } },
    { "2g.20gb", 1, 1, { 32, 2, 2, 0, 2, 0, 2, 2, 20096 } },
    { "3g.40gb", 2, 2, { 60, 3, 3, 0, 3, 0, 3, 3, 40448 } },
    { "1c.3g.40gb", 2, 0, { 16, 3, 3, 0, 3, 0, 3, 1, 40448 } },
    { "4g.40gb", 3, 3, { 64, 4, 4, 0, 4, 0, 4, 4, 40448 } },
    { "3g.71gb", 2, 2, { 60, 3, 3, 0, 3, 0, 3, 3, 71168 } },
    { "1g.24gb", 0, 0, { 46, 1, 1, 1, 1, 0, 1, 1, 24187 } },
    { "1g.24gb-me", 13, 0, { 46, 1, 0, 0, 0, 0, 1, 1, 24187 } },
    { "1g.24gb+me.all", 15, 0, { 46, 1, 4, 4, 4, 1, 1, 1, 24187 } },
};

static const char *const control_nodes[] = { "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
                                             "/dev/nvidiactl", "/dev/nvidia-modeset" };

static const struct model *find_model(struct span word)
{
    for (size_t i = 0; i < ARRAY_LEN(models); i++)
        if (span_equal(word, span_of(models[i].word)))
            return &models[i];
    assert(!"no such model");
    return NULL;
}

static const struct profile *find_profile(struct span name)
{
    for (size_t i = 0; i < ARRAY_LEN(profiles); i++)
        if (span_equal(name, span_of(profiles[i].name)))
            return &profiles[i];
    assert(!"no such profile");
    return NULL;
}

static void add_mig_device(struct arena *arena, struct gpu *gpu, const struct profile *profile)
{
    struct mig_device *mig = arena_push(arena, &gpu->mig_devices, &gpu->n_mig_devices);
    uint32_t i = (uint32_t)gpu->n_mig_devices - 1;

    assert(mig);
    *mig = (struct mig_device){
        .uuid = arena_printf(arena, "MIG-%u-%u", gpu->index, i),
        .index = i,
        .gi_id = i + 1,
        .gi_profile = profile->gi_profile,
        .ci_profile = profile->ci_profile,
        .profile = profile->name,
        .whole = mig_gi_profile_slices(profile->gi_profile) ==
                 mig_ci_profile_slices(profile->ci_profile),
        .attributes = profile->attributes,
        .gi_cap_path =
            arena_printf(arena, "/dev/nvidia-caps/nvidia-cap%u", 100 * (gpu->minor + 1) + 2 * i),
        .ci_cap_path = arena_printf(arena, "/dev/nvidia-caps/nvidia-cap%u",
                                    100 * (gpu->minor + 1) + 2 * i + 1),
        .healthy = true,
    };
}

/* "7x1g.10gb,1x2g.20gb" */
static void add_mig_devices(struct arena *arena, struct gpu *gpu, struct span list)
{
    struct span part, count;
    bool more = list.len > 0;

    gpu->mig_enabled = gpu->mig_pending = true;
    while (span_split(&list, ',', &more, &part)) {
        bool has_name = true;
        uint64_t n = 0;
        span_split(&part, 'x', &has_name, &count);
        if (!has_name || text_to_u64(count, &n) < 0)
            abort();
        for (; n > 0; n--)
            add_mig_device(arena, gpu, find_profile(part));
    }
}

static void add_gpu(struct inventory *inventory, struct span word)
{
    struct gpu *gpu = arena_push(&inventory->arena, &inventory->gpus, &inventory->n_gpus);
    uint32_t i = (uint32_t)inventory->n_gpus - 1;
    struct span model;
    bool more = true;

    assert(gpu);
    span_split(&word, ':', &more, &model);
    const struct model *m = find_model(model);
    *gpu = (struct gpu){
        .uuid = arena_printf(&inventory->arena, "GPU-%u", i),
        .index = i,
        .minor = i,
        .name = m->name,
        .bus_id = arena_printf(&inventory->arena, "0000:%02x:00.0", 0x3b + i),
        .pci_class = READING(0x030200),
        .memory_bytes = READING(m->memory_mib << 20),
        .cc_major = m->cc_major,
        .cc_minor = m->cc_minor,
        .mig_capable = m->mig_capable,
        .healthy = true,
    };
    if (more)
        add_mig_devices(&inventory->arena, gpu, word);
}

void fixture_init(struct fixture *f, const char *layout)
{
    struct span rest = span_of(layout), word;
    bool more = rest.len > 0;

    *f = (struct fixture){ .arena = ARENA_MAX(RESOURCE_ARENA_BYTES) };
    f->config = (struct config){
        .mig_strategy_text = NULL,
        .fail_on_init_error = true,
        .driver_root = "/",
        .dev_root = "/",
        .container_driver_root = "/driver-root",
        .mps_root = "/run/nvidia/mps",
        .device_list = LIST_ENVVAR,
        .cdi_annotation_prefix = "cdi.k8s.io/",
        .sharing.resources = f->shared,
    };
    if (inventory_new(&f->inventory, &f->err) < 0)
        abort();
    f->inventory->platform = PLATFORM_NVML;
    f->inventory->driver_version = "550.90.07";
    f->inventory->cuda_version = READING(12040);
    f->inventory->machine = "PowerEdge R750xa";
    f->inventory->vgpu.scanned = true;
    f->inventory->control_nodes = control_nodes;
    f->inventory->n_control_nodes = ARRAY_LEN(control_nodes);
    while (span_split(&rest, ' ', &more, &word))
        add_gpu(f->inventory, word);
}

void fixture_done(struct fixture *f)
{
    inventory_unref(f->inventory);
    arena_done(&f->arena);
}

/* ---- hardware ---- */

void fixture_connect(struct fixture *f, uint32_t level)
{
    for (size_t i = 0; i < f->inventory->n_gpus; i++) {
        struct gpu *gpu = &f->inventory->gpus[i];
        gpu->links = arena_new_array(&f->inventory->arena, struct gpu_link, f->inventory->n_gpus);
        assert(gpu->links);
        for (size_t j = 0; j < f->inventory->n_gpus; j++)
            gpu->links[j] = (struct gpu_link){ .known = true, .level = level };
    }
}

void fixture_group(struct fixture *f, size_t first, size_t last, uint32_t level)
{
    for (size_t i = first; i <= last; i++)
        for (size_t j = first; j <= last; j++)
            f->inventory->gpus[i].links[j].level = level;
}

void fixture_nvlink(struct fixture *f, size_t a, size_t b, uint32_t n)
{
    f->inventory->gpus[a].links[b].n_nvlinks = n;
    f->inventory->gpus[b].links[a].n_nvlinks = n;
}

/* ---- config ---- */

struct shared_resource *fixture_share(struct fixture *f, enum sharing_strategy strategy,
                                      const char *name, uint32_t replicas)
{
    struct shared_resource *entry = &f->shared[f->config.sharing.n_resources++];

    assert(f->config.sharing.n_resources <= FIXTURE_MAX_SHARED);
    f->config.sharing.resources = f->shared; /* f may have moved since fixture_init */
    f->config.sharing.strategy = strategy;
    *entry = (struct shared_resource){ .name = name, .replicas = replicas };
    return entry;
}

static struct device_ref parse_ref(struct fixture *f, struct span word)
{
    struct span gpu, rest = word;
    uint64_t gpu_index = 0, mig_index = 0;
    bool more = true;

    span_split(&rest, ':', &more, &gpu);
    if (text_to_u64(gpu, &gpu_index) < 0)
        return (struct device_ref){ .kind = DEVICE_REF_UUID,
                                    .uuid = arena_spandup(&f->arena, word) };
    if (!more)
        return (struct device_ref){ .kind = DEVICE_REF_GPU_INDEX,
                                    .gpu_index = (uint32_t)gpu_index };
    if (text_to_u64(rest, &mig_index) < 0)
        abort();
    return (struct device_ref){ .kind = DEVICE_REF_MIG_INDEX,
                                .gpu_index = (uint32_t)gpu_index,
                                .mig_index = (uint32_t)mig_index };
}

void fixture_select(struct fixture *f, const char *refs)
{
    size_t last = f->config.sharing.n_resources - 1;
    struct device_selector *devices = &f->shared[last].devices;
    struct span rest = span_of(refs), word;
    bool more = true;

    f->config.sharing.per_device = true;
    *devices = (struct device_selector){ .kind = SELECT_LIST, .refs = f->refs[last] };
    while (span_split(&rest, ' ', &more, &word)) {
        assert(devices->n_refs < FIXTURE_MAX_REFS);
        devices->refs[devices->n_refs++] = parse_ref(f, word);
    }
}

void fixture_select_count(struct fixture *f, uint32_t n)
{
    f->config.sharing.per_device = true;
    f->shared[f->config.sharing.n_resources - 1].devices =
        (struct device_selector){ .kind = SELECT_COUNT, .count = n };
}

/* ---- results ---- */

void fixture_resources(struct fixture *f)
{
    if (resource_build(f->inventory, &f->config, &f->arena, &f->set, &f->err) < 0) {
        fprintf(stderr, "%s\n", f->err.text);
        abort();
    }
}

const struct resource *fixture_resource(const struct fixture *f, const char *name)
{
    const struct resource *resource = resource_find(f->set, name);

    if (!resource)
        abort();
    return resource;
}

const char *fixture_summary(struct fixture *f)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64));

    if (resource_build(f->inventory, &f->config, &f->arena, &f->set, &f->err) < 0)
        return f->err.text;
    for (size_t i = 0; i < f->set->n_resources; i++)
        buf_printf(&text, "%s%s=%zu", i ? " " : "", f->set->resources[i].name,
                   f->set->resources[i].n_devices);
    return arena_strdup(&f->arena, buf_text(&text));
}

const char *fixture_ids(struct fixture *f, const char *name)
{
    auto_(buf_done) struct buf text = BUF_MAX(KIB(64));
    const struct resource *resource = fixture_resource(f, name);

    for (size_t i = 0; i < resource->n_devices; i++)
        buf_printf(&text, "%s%s", i ? " " : "", resource->devices[i].id);
    return arena_strdup(&f->arena, buf_text(&text));
}

const char **fixture_words(struct fixture *f, const char *words, size_t *ret_n)
{
    struct span rest = span_of(words), word;
    bool more = rest.len > 0;
    const char **items = NULL;

    *ret_n = 0;
    while (span_split(&rest, ' ', &more, &word)) {
        const char **item = arena_push(&f->arena, &items, ret_n);
        assert(item);
        *item = arena_spandup(&f->arena, word);
    }
    return items;
}
