#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gpu/devnode.h"
#include "gpu/facts.h"
#include "gpu/nvml_table.h"

/* Boards that drive a screen beside the GPUs that compute: spec/device-plugin §2.8. */
static const char *const display_names[] = { "DGX Display", "NVIDIA DGX Display" };

bool facts_is_display_name(const char *gpu_name)
{
    for (size_t i = 0; i < ARRAY_LEN(display_names); i++)
        if (text_equal(gpu_name, display_names[i]))
            return true;
    return false;
}

bool facts_may_retry(nvmlReturn_t code)
{
    switch (code) {
    case NVML_SUCCESS:
    case NVML_NOT_SUPPORTED:
    case NVML_FUNCTION_NOT_FOUND:
    case NVML_NO_PERMISSION:
    case NVML_GPU_IS_LOST:
    case NVML_RESET_REQUIRED:
        return false;
    default:
        return true;
    }
}

bool facts_note(struct facts_reader *reader, nvmlReturn_t code)
{
    reader->lost |= code == NVML_GPU_IS_LOST || code == NVML_RESET_REQUIRED;
    reader->stumbled |= facts_may_retry(code);
    return code == NVML_SUCCESS;
}

const char *facts_text(struct facts_reader *reader, const char *text)
{
    struct span span = span_of(text);

    span.len = text_utf8_prefix(span);
    return arena_spandup(&reader->facts->arena, span);
}

/* ---- who it is ---- */

static int read_text(struct facts_reader *reader,
                     nvmlReturn_t (*call)(nvmlDevice_t device, char *text, uint32_t length),
                     const char *what, const char **ret, struct err *err)
{
    char text[NVML_STRING_SIZE] = "";
    nvmlReturn_t code = call(reader->device, text, sizeof(text));

    if (!facts_note(reader, code))
        return nvml_fail(reader->nvml, code, err, "cannot read its %s", what);
    text[sizeof(text) - 1] = '\0';
    *ret = facts_text(reader, text);
    return *ret ? 0 : err_no_memory(err);
}

static int read_pci(struct facts_reader *reader, struct err *err)
{
    struct gpu *gpu = &reader->facts->gpu;
    struct nvml_pci_info pci = {};
    char name[PCI_NAME_SIZE];

    nvmlReturn_t code = reader->nvml->pci_info(reader->device, &pci);
    if (!facts_note(reader, code))
        return nvml_fail(reader->nvml, code, err, "cannot read its PCI address");
    pci.busId[sizeof(pci.busId) - 1] = '\0';
    if (!pci_name_from_nvml(pci.busId, name))
        return err_set(err, EPROTO, "its PCI address \"%s\" is none", pci.busId);
    gpu->pci_device_id = pci.pciDeviceId;
    gpu->pci_subsystem_id = pci.pciSubSystemId;
    gpu->bus_id = facts_text(reader, name);
    return gpu->bus_id ? 0 : err_no_memory(err);
}

static int read_identity(struct facts_reader *reader, struct err *err)
{
    const struct nvml *nvml = reader->nvml;
    struct gpu *gpu = &reader->facts->gpu;
    nvmlDevice_t device;

    nvmlReturn_t code = nvml->device_by_index(gpu->index, &device);
    if (!facts_note(reader, code))
        return nvml_fail(nvml, code, err, "cannot reach it");
    reader->device = device;

    int r = read_text(reader, nvml->name, "name", &gpu->name, err);
    if (r < 0)
        return r;
    reader->facts->display = facts_is_display_name(gpu->name);
    r = read_text(reader, nvml->uuid, "UUID", &gpu->uuid, err);
    if (r < 0)
        return r;
    code = nvml->minor(device, &gpu->minor);
    if (!facts_note(reader, code))
        return nvml_fail(nvml, code, err, "cannot read its minor number");
    return read_pci(reader, err);
}

/* ---- what it can ---- */

/* "8-4-4-4-12" hexadecimal digits. */
static void uuid_text(const uint8_t bytes[static 16], char text[static 40])
{
    char *at = text;

    for (size_t i = 0; i < 16; i++)
        at += sprintf(at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

static void keep_fabric(struct gpu *gpu, uint8_t state, uint32_t status, uint32_t clique,
                        const uint8_t cluster[static 16])
{
    static const uint8_t none[16];

    if (state != NVML_FABRIC_COMPLETED || status != NVML_SUCCESS || memcmp(cluster, none, 16) == 0)
        return;
    gpu->fabric.attached = true;
    gpu->fabric.clique_id = clique;
    uuid_text(cluster, gpu->fabric.cluster_uuid);
}

/* The call with a version word came with driver 535, the one without with 525. */
static void read_fabric(struct facts_reader *reader)
{
    const struct nvml *nvml = reader->nvml;
    struct nvml_fabric_info_v2 v2 = { .version = NVML_VERSION(v2, 2) };
    struct nvml_fabric_info v1 = {};

    nvmlReturn_t code = nvml->fabric_v(reader->device, &v2);
    if (code == NVML_NOT_SUPPORTED || code == NVML_ARGUMENT_VERSION_MISMATCH) {
        if (facts_note(reader, nvml->fabric(reader->device, &v1)))
            keep_fabric(&reader->facts->gpu, v1.state, v1.status, v1.cliqueId, v1.clusterUuid);
    } else if (facts_note(reader, code)) {
        keep_fabric(&reader->facts->gpu, v2.state, v2.status, v2.cliqueId, v2.clusterUuid);
    }
}

static void read_abilities(struct facts_reader *reader)
{
    const struct nvml *nvml = reader->nvml;
    struct gpu *gpu = &reader->facts->gpu;
    struct nvml_memory memory = {};
    int32_t major, minor;

    if (facts_note(reader, nvml->memory(reader->device, &memory)))
        gpu->memory_bytes = READING(memory.total);
    if (facts_note(reader, nvml->compute_capability(reader->device, &major, &minor))) {
        gpu->cc_major = major;
        gpu->cc_minor = minor;
    }
    read_fabric(reader);
    gpu->pci_class = devnode_pci_class(reader->root, gpu->bus_id);
    gpu->numa_node = devnode_numa_node(reader->root, gpu->bus_id);
}

/* INVALID_ARGUMENT is the answer for a link beyond the last one; a board may have gaps before it,
 * which are NOT_SUPPORTED (spec/nvml §2). */
static int read_nvlinks(struct facts_reader *reader, struct err *err)
{
    const struct nvml *nvml = reader->nvml;
    struct gpu_facts *facts = reader->facts;

    for (uint32_t link = 0; link < NVML_MAX_NVLINKS; link++) {
        uint32_t active = 0;
        nvmlReturn_t code = nvml->nvlink_state(reader->device, link, &active);
        if (code == NVML_INVALID_ARGUMENT)
            break;
        if (!facts_note(reader, code) || !active)
            continue;

        struct nvml_pci_info pci = {};
        char name[PCI_NAME_SIZE];
        if (!facts_note(reader, nvml->nvlink_remote(reader->device, link, &pci)))
            continue;
        pci.busId[sizeof(pci.busId) - 1] = '\0';
        if (!pci_name_from_nvml(pci.busId, name))
            continue;
        const char **other = arena_push(&facts->arena, &facts->nvlinks, &facts->n_nvlinks);
        if (!other || !(*other = facts_text(reader, name)))
            return err_no_memory(err);
    }
    return 0;
}

/* ---- all of it ---- */

static int read_all(struct facts_reader *reader, bool links, struct err *err)
{
    struct gpu_facts *facts = reader->facts;

    int r = read_identity(reader, err);
    if (r < 0)
        return r;
    facts->depth = FACTS_IDENTITY;
    if (facts->display)
        return facts->depth = FACTS_COMPLETE, 0;

    read_abilities(reader);
    r = facts_read_mig(reader, err);
    if (r == 0 && links)
        r = read_nvlinks(reader, err);
    if (r < 0)
        return r;
    if (reader->lost)
        return err_set(err, ENODEV, "%s", nvml_words(reader->nvml, NVML_GPU_IS_LOST));
    facts->depth = FACTS_COMPLETE;
    return 0;
}

static struct gpu_facts *facts_new(uint32_t index)
{
    struct gpu_facts *facts = mem_alloc(sizeof(*facts));

    if (facts)
        *facts = (struct gpu_facts){
            .arena = ARENA_MAX(FACTS_ARENA_BYTES),
            .index = index,
            .gpu.index = index,
        };
    return facts;
}

void gpu_facts_free(struct gpu_facts *facts)
{
    if (!facts)
        return;
    arena_done(&facts->arena);
    mem_free(facts);
}

int facts_read_gpu(const struct nvml *nvml, int root, uint32_t index, bool links,
                   struct gpu_facts **ret, struct err *err)
{
    for (unsigned tries = 1;; tries++) {
        auto_(gpu_facts_freep) struct gpu_facts *facts = facts_new(index);
        struct facts_reader reader = { .nvml = nvml, .root = root, .facts = facts };
        struct err why = {};

        if (!facts)
            return err_no_memory(err);
        int r = read_all(&reader, links, &why);
        if (r == -ENOMEM)
            return err_no_memory(err);
        if (reader.stumbled && !reader.lost && tries < FACTS_TRIES)
            continue;
        if (r < 0 && !(facts->problem = facts_text(&reader, why.text)))
            return err_no_memory(err);
        *ret = steal(facts);
        return 0;
    }
}
