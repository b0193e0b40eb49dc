#include "share/label.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/text.h"
#include "share/mig_profile.h"
#include "share/offer.h"
#include "share/sharing.h"

#define PREFIX  "nvidia.com/"
#define LABELER "error creating labeler: "

enum { LABEL_VALUE_MAX = 63, WARNING_MAX_BYTES = 16 << 10 };

/* One set of labels while it grows. */
struct labeler {
    const struct inventory *inventory;
    const struct config *config;
    struct arena *arena;
    struct label_set *set;
    size_t n_offers;
    struct offer *offers; /* with their sharing entries */
    bool failed;          /* no memory: looked at once, at the end */
};

/* ---- single labels ---- */

static struct label *find_label(const struct labeler *labeler, const char *key)
{
    for (size_t i = 0; i < labeler->set->n; i++)
        if (text_equal(labeler->set->items[i].key, key))
            return &labeler->set->items[i];
    return NULL;
}

/* Takes key and value, of which NULL means that memory ran out. A later value replaces one. */
static void put(struct labeler *labeler, const char *key, const char *value)
{
    struct label *label = NULL;

    if (key && value) {
        label = find_label(labeler, key);
        if (!label)
            label = arena_push(labeler->arena, &labeler->set->items, &labeler->set->n);
    }
    if (label)
        *label = (struct label){ .key = key, .value = value };
    else
        labeler->failed = true;
}

/* `group` is what stands between the prefix and the name: "gpu." or "mig-1g.10gb.". */
static void put_text(struct labeler *labeler, const char *group, const char *name,
                     const char *value)
{
    put(labeler, arena_printf(labeler->arena, PREFIX "%s%s", group, name), value);
}

static void put_number(struct labeler *labeler, const char *group, const char *name, int64_t number)
{
    put_text(labeler, group, name, arena_printf(labeler->arena, "%lld", (long long)number));
}

static void put_bool(struct labeler *labeler, const char *group, const char *name, bool value)
{
    put_text(labeler, group, name, value ? "true" : "false");
}

static void put_span(struct labeler *labeler, const char *group, const char *name,
                     struct span value)
{
    put_text(labeler, group, name, arena_spandup(labeler->arena, value));
}

/* Takes `text`, of which NULL means that memory ran out. */
static void warn(struct labeler *labeler, const char *text)
{
    const char **warning =
        text ? arena_push(labeler->arena, &labeler->set->warnings, &labeler->set->n_warnings)
             : NULL;

    if (warning)
        *warning = text;
    else
        labeler->failed = true;
}

/* ---- values that are legal ---- */

static bool is_alphanumeric(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* At most `max` bytes of the text, that end in a letter or digit. */
static void cut(char *text, size_t max)
{
    size_t len = MIN(strlen(text), max);

    while (len > 0 && !is_alphanumeric(text[len - 1]))
        len--;
    text[len] = '\0';
}

char *label_sanitise(struct arena *arena, const char *text)
{
    char *clean = arena_alloc(arena, strlen(text) + 1);
    size_t len = 0;
    bool gap = false;

    if (!clean)
        return NULL;
    for (; *text; text++) {
        if (*text == ' ')
            gap = true;
        if (!is_alphanumeric(*text) && *text != '-' && *text != '_' && *text != '.')
            continue;
        if (len == 0 && !is_alphanumeric(*text))
            continue;
        if (gap && len > 0)
            clean[len++] = '-';
        gap = false;
        clean[len++] = *text;
    }
    cut(clean, LABEL_VALUE_MAX);
    return clean;
}

/* "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED". When all of it is too long, the model gives way: the
 * rest is what people select by. */
static const char *product_name(struct labeler *labeler, const char *model, const char *part,
                                bool shared)
{
    const char *rest = arena_printf(labeler->arena, "%s%s%s", part ? "-MIG-" : "", part ? part : "",
                                    shared ? "-SHARED" : "");
    char *clean = label_sanitise(labeler->arena, model);

    if (!rest || !clean)
        return NULL;
    cut(clean, LABEL_VALUE_MAX - MIN(strlen(rest), (size_t)LABEL_VALUE_MAX));
    if (!clean[0] && rest[0])
        rest++; /* no name, no hyphen */
    return arena_printf(labeler->arena, "%s%s", clean, rest);
}

/* ---- versions, machine ---- */

static int put_driver_version(struct labeler *labeler, struct err *err)
{
    /* Tegra's driver does not tell; neither do upstream's labels. */
    const char *version = labeler->inventory->driver_version;
    struct span rest = span_of(version ? version : "unknown.unknown.unknown");
    struct span parts[3] = { [2] = SPAN("") };
    size_t n = 0;
    bool more = true;

    put_span(labeler, "cuda.", "driver-version.full", rest);
    while (n < ARRAY_LEN(parts) && span_split(&rest, '.', &more, &parts[n]))
        n++;
    if (n < 2 || more)
        return err_set(err, EINVAL,
                       LABELER "failed to construct version labeler: error getting driver "
                               "version: Version \"%s\" does not match format \"X.Y[.Z]\"",
                       version);
    put_span(labeler, "cuda.", "driver.major", parts[0]);
    put_span(labeler, "cuda.", "driver.minor", parts[1]);
    put_span(labeler, "cuda.", "driver.rev", parts[2]);
    put_span(labeler, "cuda.", "driver-version.major", parts[0]);
    put_span(labeler, "cuda.", "driver-version.minor", parts[1]);
    put_span(labeler, "cuda.", "driver-version.revision", parts[2]);
    return 0;
}

static void put_cuda_version(struct labeler *labeler)
{
    struct reading version = labeler->inventory->cuda_version;
    int64_t major = (int64_t)(version.value / 1000), minor = (int64_t)(version.value % 1000 / 10);

    if (!version.known)
        return;
    put_number(labeler, "cuda.", "runtime.major", major);
    put_number(labeler, "cuda.", "runtime.minor", minor);
    put_number(labeler, "cuda.", "runtime-version.major", major);
    put_number(labeler, "cuda.", "runtime-version.minor", minor);
    put_text(labeler, "cuda.", "runtime-version.full",
             arena_printf(labeler->arena, "%lld.%lld", (long long)major, (long long)minor));
}

static void put_machine(struct labeler *labeler)
{
    const char *machine = labeler->inventory->machine;

    put_text(labeler, "gpu.", "machine",
             label_sanitise(labeler->arena, machine ? machine : "unknown"));
}

/* ---- what the node can do ---- */

static void put_mig_capable(struct labeler *labeler)
{
    bool capable = false;

    for (size_t i = 0; i < labeler->inventory->n_gpus; i++)
        capable |= labeler->inventory->gpus[i].mig_capable;
    put_bool(labeler, "mig.", "capable", capable);
}

/* Is a GPU with MIG enabled to be shared through MPS? With selectors, those they leave out are
 * fine. */
static bool mps_meets_mig(const struct labeler *labeler)
{
    const struct inventory *inventory = labeler->inventory;

    for (size_t i = 0; !labeler->config->sharing.per_device && i < inventory->n_gpus; i++)
        if (inventory->gpus[i].mig_enabled)
            return true;
    for (size_t i = 0; i < labeler->n_offers; i++) {
        const struct offer *offer = &labeler->offers[i];
        if (offer->entry && offer->gpu && offer->gpu->mig_enabled)
            return true;
    }
    return false;
}

static int put_mps_capable(struct labeler *labeler, struct err *err)
{
    bool wanted = labeler->config->sharing.strategy == SHARING_MPS;

    if (wanted && mps_meets_mig(labeler))
        return err_set(err, EINVAL,
                       LABELER "error creating sharing labeler: failed to check MPS-capable: MPS "
                               "sharing is not supported for mig devices");
    put_bool(labeler, "mps.", "capable", wanted);
    return 0;
}

static void put_mode(struct labeler *labeler)
{
    enum { PCI_CLASS_VGA = 0x030000, PCI_CLASS_3D = 0x030200 };
    const struct inventory *inventory = labeler->inventory;
    struct reading class = inventory->gpus[0].pci_class;
    bool same = class.known;

    for (size_t i = 1; i < inventory->n_gpus; i++)
        same &=
            inventory->gpus[i].pci_class.known && inventory->gpus[i].pci_class.value == class.value;
    put_text(labeler, "gpu.", "mode",
             same && class.value == PCI_CLASS_VGA  ? "graphics"
             : same && class.value == PCI_CLASS_3D ? "compute"
                                                   : "unknown");
}

static void put_clique(struct labeler *labeler)
{
    const struct gpu_fabric *first = NULL;

    for (size_t i = 0; i < labeler->inventory->n_gpus; i++) {
        const struct gpu_fabric *fabric = &labeler->inventory->gpus[i].fabric;
        if (!fabric->attached)
            continue;
        if (!first)
            first = fabric;
        if (!text_equal(first->cluster_uuid, fabric->cluster_uuid) ||
            first->clique_id != fabric->clique_id) {
            warn(labeler, "the GPUs belong to several NVLink cliques: no label gpu.clique");
            return;
        }
    }
    if (first)
        put_text(labeler, "gpu.", "clique",
                 arena_printf(labeler->arena, "%s.%u", first->cluster_uuid, first->clique_id));
}

static void put_vgpu(struct labeler *labeler)
{
    const struct vgpu_info *vgpu = &labeler->inventory->vgpu;

    if (vgpu->problem)
        warn(labeler, vgpu->problem);
    if (!vgpu->scanned)
        return;
    put_bool(labeler, "vgpu.", "present", vgpu->present);
    if (vgpu->present && vgpu->host_driver_version)
        put_text(labeler, "vgpu.", "host-driver-version", vgpu->host_driver_version);
    if (vgpu->present && vgpu->host_driver_branch)
        put_text(labeler, "vgpu.", "host-driver-branch", vgpu->host_driver_branch);
}

/* ---- resources ---- */

static const struct offer *offer_of(const struct labeler *labeler, const struct gpu *gpu,
                                    const struct mig_device *mig)
{
    for (size_t i = 0; i < labeler->n_offers; i++) {
        const struct offer *offer = &labeler->offers[i];
        if (!offer->gpu || (offer->gpu == gpu && offer->mig == mig))
            return offer; /* without a GPU struct: the one device of WSL or Tegra */
    }
    return NULL;
}

/* product, count, replicas, sharing-strategy. Without an offer the device is not one that could be
 * shared; `replicas` is what is said of it then. */
static void put_base(struct labeler *labeler, const char *group, const char *model,
                     const char *part, size_t count, const struct offer *offer, int64_t replicas)
{
    bool shared = offer && offer->entry;

    put_text(labeler, group, "product",
             product_name(labeler, model, part, shared && !offer->entry->rename));
    put_number(labeler, group, "count", (int64_t)count);
    put_number(labeler, group, "replicas", shared ? offer->entry->replicas : replicas);
    put_text(labeler, group, "sharing-strategy",
             sharing_strategy_names[shared ? labeler->config->sharing.strategy : SHARING_NONE]);
}

static const char *family(int major, int minor)
{
    switch (major) {
    case 1:
        return "tesla";
    case 2:
        return "fermi";
    case 3:
        return "kepler";
    case 5:
        return "maxwell";
    case 6:
        return "pascal";
    case 7:
        return minor < 5 ? "volta" : "turing";
    case 8:
        return minor < 9 ? "ampere" : "ada-lovelace";
    case 9:
        return "hopper";
    case 10:
    case 12:
        return "blackwell";
    case 13:
        return "rubin";
    default:
        return "undefined";
    }
}

/* The GPU that speaks for the node: among those that are whole, or else among those with MIG, the
 * one with the lowest index. */
static const struct gpu *speaker(const struct inventory *inventory)
{
    for (size_t i = 0; i < inventory->n_gpus; i++)
        if (!inventory->gpus[i].mig_enabled)
            return &inventory->gpus[i];
    return &inventory->gpus[0];
}

/* Is this the first GPU of its model? */
static bool is_new_model(const struct inventory *inventory, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (text_equal(inventory->gpus[i].name, inventory->gpus[at].name))
            return false;
    return true;
}

static void warn_about_models(struct labeler *labeler)
{
    auto_(buf_done) struct buf names = BUF_MAX(WARNING_MAX_BYTES);
    const struct inventory *inventory = labeler->inventory;
    size_t n = 0;

    for (size_t i = 0; i < inventory->n_gpus; i++)
        if (is_new_model(inventory, i))
            buf_printf(&names, "%s%s", n++ ? " " : "", inventory->gpus[i].name);
    if (n > 1)
        warn(labeler, arena_printf(labeler->arena, "Multiple device types detected: [%s]",
                                   buf_text(&names)));
}

static void put_gpu(struct labeler *labeler)
{
    const struct inventory *inventory = labeler->inventory;
    const struct gpu *gpu = speaker(inventory);
    uint64_t memory_mib = gpu->memory_bytes.known ? gpu->memory_bytes.value / MIB(1) : 0;
    size_t count = 0;

    warn_about_models(labeler);
    for (size_t i = 0; i < inventory->n_gpus; i++)
        count += text_equal(inventory->gpus[i].name, gpu->name);
    if (gpu->mig_enabled) /* not a device of any resource, whatever the strategy makes of it */
        put_base(labeler, "gpu.", gpu->name, NULL, count, NULL, 0);
    else
        put_base(labeler, "gpu.", gpu->name, NULL, count, offer_of(labeler, gpu, NULL), 1);
    if (memory_mib > 0)
        put_number(labeler, "gpu.", "memory", (int64_t)memory_mib);
    if (gpu->cc_major != 0) {
        put_text(labeler, "gpu.", "family", family(gpu->cc_major, gpu->cc_minor));
        put_number(labeler, "gpu.", "compute.major", gpu->cc_major);
        put_number(labeler, "gpu.", "compute.minor", gpu->cc_minor);
    }
}

/* ---- MIG devices ---- */

/* A MIG device and the GPU it is on, for walks over all of them. */
struct mig_at {
    const struct gpu *gpu;
    const struct mig_device *mig;
};

/* for (struct mig_at at = {}; next_mig(inventory, &at);) */
static bool next_mig(const struct inventory *inventory, struct mig_at *at)
{
    const struct gpu *gpu = at->gpu ? at->gpu : inventory->gpus;
    size_t next = at->gpu ? (size_t)(at->mig - gpu->mig_devices) + 1 : 0;

    for (; gpu < inventory->gpus + inventory->n_gpus; gpu++, next = 0) {
        if (!gpu->mig_enabled || next >= gpu->n_mig_devices)
            continue;
        *at = (struct mig_at){ .gpu = gpu, .mig = &gpu->mig_devices[next] };
        return true;
    }
    return false;
}

static void put_mig(struct labeler *labeler, const char *group, struct mig_at at, size_t count)
{
    const struct mig_attributes *attributes = &at.mig->attributes;
    char form[MIG_PROFILE_NAME_MAX];

    mig_profile_resource_form(at.mig->profile, form);
    put_base(labeler, group, at.gpu->name, form, count, offer_of(labeler, at.gpu, at.mig), 1);
    put_number(labeler, group, "memory", (int64_t)attributes->memory_mib);
    put_number(labeler, group, "multiprocessors", attributes->multiprocessors);
    put_number(labeler, group, "slices.gi", attributes->gpu_instance_slices);
    put_number(labeler, group, "slices.ci", attributes->compute_instance_slices);
    put_number(labeler, group, "engines.copy", attributes->copy_engines);
    put_number(labeler, group, "engines.decoder", attributes->decoders);
    put_number(labeler, group, "engines.encoder", attributes->encoders);
    put_number(labeler, group, "engines.jpeg", attributes->jpegs);
    put_number(labeler, group, "engines.ofa", attributes->ofas);
}

/* What is wrong with the node under `single`, in upstream's order and words; NULL: nothing. Lost
 * GPUs show no MIG devices and do not count, as in resource.c. */
static const char *single_problem(const struct inventory *inventory)
{
    struct mig_at first = {};
    bool any = next_mig(inventory, &first), empty = !any, whole = false;

    for (size_t i = 0; i < inventory->n_gpus; i++) {
        const struct gpu *gpu = &inventory->gpus[i];
        whole |= !gpu->mig_enabled;
        empty |= gpu->mig_enabled && gpu->healthy && gpu->n_mig_devices == 0;
    }
    if (empty)
        return "at least one MIG device is enabled but empty";
    if (whole)
        return "devices with MIG enabled and disable detected";
    for (struct mig_at at = {}; next_mig(inventory, &at);)
        if (!mig_attributes_equal(&at.mig->attributes, &first.mig->attributes))
            return "more than one MIG device type present on node";
    return NULL;
}

static void put_invalid(struct labeler *labeler, const struct gpu *gpu, const char *problem)
{
    warn(labeler,
         arena_printf(labeler->arena, "Invalid configuration detected for mig-strategy=single: %s",
                      problem));
    put_text(labeler, "gpu.", "product", product_name(labeler, gpu->name, "INVALID", false));
    put_number(labeler, "gpu.", "count", 0);
    put_number(labeler, "gpu.", "replicas", 0);
    put_text(labeler, "gpu.", "sharing-strategy", "");
    put_number(labeler, "gpu.", "memory", 0);
}

static void put_single(struct labeler *labeler)
{
    const struct inventory *inventory = labeler->inventory;
    const struct gpu *cut_gpu = NULL;
    size_t count = 0;

    for (size_t i = inventory->n_gpus; i-- > 0;)
        if (inventory->gpus[i].mig_enabled)
            cut_gpu = &inventory->gpus[i];
    if (!cut_gpu)
        return; /* as with strategy none */
    const char *problem = single_problem(inventory);
    if (problem) {
        put_invalid(labeler, cut_gpu, problem);
        return;
    }
    for (struct mig_at at = {}; next_mig(inventory, &at);)
        count++;
    struct mig_at first = {};
    if (next_mig(inventory, &first))
        put_mig(labeler, "gpu.", first, count);
}

static size_t count_profile(const struct inventory *inventory, const char *profile)
{
    size_t count = 0;

    for (struct mig_at at = {}; next_mig(inventory, &at);)
        count += text_equal(at.mig->profile, profile);
    return count;
}

static void put_mixed(struct labeler *labeler)
{
    for (struct mig_at at = {}; next_mig(labeler->inventory, &at) && !labeler->failed;) {
        char form[MIG_PROFILE_NAME_MAX];
        mig_profile_resource_form(at.mig->profile, form);
        const char *group = arena_printf(labeler->arena, "mig-%s.", form);
        const char *key = group ? arena_printf(labeler->arena, PREFIX "%sproduct", group) : NULL;
        if (!key)
            labeler->failed = true;
        else if (!find_label(labeler, key)) /* the first device of its profile */
            put_mig(labeler, group, at, count_profile(labeler->inventory, at.mig->profile));
    }
}

static int put_mig_strategy(struct labeler *labeler, struct err *err)
{
    const char *name = mig_strategy_names[labeler->config->mig_strategy];
    const char *given = labeler->config->mig_strategy_text;

    if (given && !text_equal(given, name))
        return err_set(err, EINVAL,
                       LABELER "error creating resource labeler: failed to construct MIG resource "
                               "labeler: unknown strategy: %s",
                       given);
    if (labeler->config->mig_strategy == MIG_STRATEGY_NONE)
        return 0;
    put_text(labeler, "mig.", "strategy", name);
    if (labeler->config->mig_strategy == MIG_STRATEGY_SINGLE)
        put_single(labeler);
    else
        put_mixed(labeler);
    return 0;
}

/* ---- all of them ---- */

static int share(struct labeler *labeler, struct err *err)
{
    struct sharing_notes notes; /* resource_build passes them on */
    int r = offer_list(labeler->inventory, labeler->config, labeler->arena, &labeler->offers,
                       &labeler->n_offers, err);

    if (r == 0)
        r = sharing_assign(&labeler->config->sharing, labeler->offers, labeler->n_offers,
                           labeler->arena, &notes, err);
    if (r == -EINVAL)
        return err_wrap(err, r, LABELER "error creating sharing labeler");
    return r;
}

static int put_devices(struct labeler *labeler, struct err *err)
{
    int r = share(labeler, err);

    if (r < 0)
        return r;
    put_machine(labeler);
    r = put_driver_version(labeler, err);
    if (r < 0)
        return r;
    put_cuda_version(labeler);
    put_mig_capable(labeler);
    r = put_mps_capable(labeler, err);
    if (r < 0)
        return r;
    put_gpu(labeler);
    r = put_mig_strategy(labeler, err);
    if (r < 0)
        return r;
    put_mode(labeler);
    put_clique(labeler);
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct label *)a)->key, ((const struct label *)b)->key);
}

int label_build(const struct inventory *inventory, const struct config *config, int64_t timestamp,
                struct arena *arena, struct label_set **ret, struct err *err)
{
    struct labeler labeler = { .inventory = inventory, .config = config, .arena = arena };

    labeler.set = arena_new(arena, struct label_set);
    if (!labeler.set)
        return err_no_memory(err);
    if (timestamp >= 0 && !config->gfd.no_timestamp)
        put_number(&labeler, "gfd.", "timestamp", timestamp);
    if (inventory->platform != PLATFORM_NONE && inventory->n_gpus > 0) {
        int r = put_devices(&labeler, err);
        if (r < 0)
            return r;
    }
    put_vgpu(&labeler);
    if (labeler.failed)
        return err_no_memory(err);
    if (labeler.set->n > 1)
        qsort(labeler.set->items, labeler.set->n, sizeof(*labeler.set->items), compare_keys);
    *ret = labeler.set;
    return 0;
}
