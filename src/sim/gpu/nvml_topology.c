/* How GPUs reach each other, their CPUs and their memory: topology, NVLink, fabric, NUMA. */
#include "sim/gpu/nvml_door.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* --- PCI topology ---------------------------------------------------------------------------- */

/* Both ends of a question about two GPUs; a MIG device stands where its parent stands. */
struct pair {
    struct door first, second;
};

static void pair_leave(struct pair *pair)
{
    door_leave(&pair->second);
    door_leave(&pair->first);
}

static nvmlReturn_t pair_enter(struct pair *pair, const char *call, nvmlDevice_t one,
                               nvmlDevice_t other)
{
    nvmlReturn_t r = door_device(&pair->first, call, one, DOOR_ANY_DEVICE);
    if (r)
        return r;
    /* Only the boards matter from here on, so that the lock need not be held twice. */
    door_leave(&pair->first);
    return door_beside(&pair->second, &pair->first, other);
}

static uint32_t level_between(const struct pair *pair)
{
    return pair->first.state->topology.level[pair->first.gpu_index][pair->second.gpu_index];
}

nvmlReturn_t nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t device1, nvmlDevice_t device2,
                                                 uint32_t *pathInfo)
{
    auto_(pair_leave) struct pair pair = {};
    nvmlReturn_t r = pair_enter(&pair, __func__, device1, device2);

    if (r)
        return r;
    if (!pathInfo)
        return NVML_INVALID_ARGUMENT;
    *pathInfo = level_between(&pair);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceOnSameBoard(nvmlDevice_t device1, nvmlDevice_t device2, int32_t *onSameBoard)
{
    auto_(pair_leave) struct pair pair = {};
    nvmlReturn_t r = pair_enter(&pair, __func__, device1, device2);

    if (r)
        return r;
    if (!onSameBoard)
        return NVML_INVALID_ARGUMENT;
    *onSameBoard = level_between(&pair) == NVML_TOPOLOGY_INTERNAL;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, uint32_t level, uint32_t *count,
                                              nvmlDevice_t *deviceArray)
{
    auto_(door_leave) struct door door = {};
    uint32_t n = 0;

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);
    if (r)
        return r;
    if (!count)
        return NVML_INVALID_ARGUMENT;
    for (uint32_t i = 0; i < MIN(door.state->n_gpus, (uint32_t)SIM_MAX_GPUS); i++) {
        if (i == door.gpu_index || door.state->topology.level[door.gpu_index][i] != level)
            continue;
        if (deviceArray && n < *count)
            deviceArray[n] = door_gpu_handle(i);
        n++;
    }
    *count = deviceArray ? MIN(n, *count) : n;
    return NVML_SUCCESS;
}

/* --- NVLink ---------------------------------------------------------------------------------- */

/* Enters for one link: 3 on a board without any, 2 above its last. */
static nvmlReturn_t link_enter(struct door *door, const char *call, nvmlDevice_t device,
                               uint32_t link)
{
    nvmlReturn_t r = door_device(door, call, device, DOOR_BOARD);

    if (r)
        return r;
    if (door->gpu->n_links == 0)
        return NVML_NOT_SUPPORTED;
    return link < MIN(door->gpu->n_links, (uint32_t)SIM_MAX_LINKS) ? NVML_SUCCESS
                                                                   : NVML_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, uint32_t link, uint32_t *isActive)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = link_enter(&door, __func__, device, link);

    if (r)
        return r;
    if (!isActive)
        return NVML_INVALID_ARGUMENT;
    *isActive = sim_link_is_up(door.state, door.gpu, link);
    return NVML_SUCCESS;
}

static nvmlReturn_t link_remote(const char *call, nvmlDevice_t device, uint32_t link,
                                struct nvml_pci_info *ret)
{
    auto_(door_leave) struct door door = {};
    unsigned domain = 0, bus = 0, slot = 0;

    nvmlReturn_t r = link_enter(&door, call, device, link);
    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;
    if (!sim_link_is_up(door.state, door.gpu, link))
        return NVML_NOT_SUPPORTED;

    const struct sim_link *end = &door.gpu->links[link];
    sscanf(end->remote_bus_id, "%8x:%2x:%2x", &domain, &bus, &slot);
    *ret = (struct nvml_pci_info){
        .domain = domain,
        .bus = bus,
        .device = slot,
        .pciDeviceId = end->remote_is_switch ? 0x22a310de : door.gpu->pci_device_id,
        .pciSubSystemId = end->remote_is_switch ? 0x179610de : door.gpu->pci_subsystem_id,
    };
    snprintf(ret->busId, sizeof(ret->busId), "%s", end->remote_bus_id);
    snprintf(ret->busIdLegacy, sizeof(ret->busIdLegacy), "%04X:%02X:%02X.0", domain & 0xffff,
             bus & 0xff, slot & 0xff);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, uint32_t link,
                                                 struct nvml_pci_info *pci)
{
    return link_remote(__func__, device, link, pci);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t device, uint32_t link,
                                              struct nvml_pci_info *pci)
{
    return link_remote(__func__, device, link, pci);
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, uint32_t link, uint32_t *version)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = link_enter(&door, __func__, device, link);

    if (r)
        return r;
    if (!version)
        return NVML_INVALID_ARGUMENT;
    *version = door.gpu->nvlink_version;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkCapability(nvmlDevice_t device, uint32_t link, uint32_t capability,
                                           uint32_t *capResult)
{
    enum { P2P, SYSMEM_ACCESS, P2P_ATOMICS, SYSMEM_ATOMICS, SLI_BRIDGE, VALID, N_CAPABILITIES };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = link_enter(&door, __func__, device, link);

    if (r)
        return r;
    if (!capResult || capability >= N_CAPABILITIES)
        return NVML_INVALID_ARGUMENT;
    *capResult = capability != SLI_BRIDGE && sim_link_is_up(door.state, door.gpu, link);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, uint32_t link,
                                                 uint32_t *pNvLinkDeviceType)
{
    enum { A_GPU = 0, A_SWITCH = 2, UNKNOWN = 255 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = link_enter(&door, __func__, device, link);

    if (r)
        return r;
    if (!pNvLinkDeviceType)
        return NVML_INVALID_ARGUMENT;
    *pNvLinkDeviceType = !sim_link_is_up(door.state, door.gpu, link) ? UNKNOWN
                         : door.gpu->links[link].remote_is_switch    ? A_SWITCH
                                                                     : A_GPU;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, uint32_t link, uint32_t counter,
                                             uint64_t *counterValue)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = link_enter(&door, __func__, device, link);

    if (r)
        return r;
    if (!counterValue || counter >= SIM_N_LINK_ERRORS)
        return NVML_INVALID_ARGUMENT;
    *counterValue = door.gpu->links[link].errors[counter];
    return NVML_SUCCESS;
}

/* Is there a way over NVLink: directly, or because both hang on switches? */
static bool linked(const struct sim_state *state, const struct sim_gpu *a, const struct sim_gpu *b)
{
    char bus_id[32];

    snprintf(bus_id, sizeof(bus_id), "%08X:%02X:%02X.0", b->pci_domain, b->pci_bus, b->pci_device);
    for (uint32_t i = 0; i < MIN(a->n_links, (uint32_t)SIM_MAX_LINKS); i++) {
        if (!sim_link_is_up(state, a, i))
            continue;
        if (a->links[i].remote_is_switch && b->links[0].remote_is_switch &&
            sim_link_is_up(state, b, 0))
            return true;
        if (strcmp(a->links[i].remote_bus_id, bus_id) == 0)
            return true;
    }
    return false;
}

nvmlReturn_t nvmlDeviceGetP2PStatus(nvmlDevice_t device1, nvmlDevice_t device2, uint32_t p2pIndex,
                                    uint32_t *p2pStatus)
{
    enum { READ, WRITE, NVLINK, ATOMICS, PCI, N_INDICES };
    enum { OK = 0, GPU_NOT_SUPPORTED = 2, NOT_SUPPORTED = 5 };
    auto_(pair_leave) struct pair pair = {};
    nvmlReturn_t r = pair_enter(&pair, __func__, device1, device2);

    if (r)
        return r;
    if (!p2pStatus || p2pIndex >= N_INDICES || pair.first.gpu_index == pair.second.gpu_index)
        return NVML_INVALID_ARGUMENT;

    const struct sim_gpu *a = pair.first.gpu, *b = pair.second.gpu;
    if (a->mig_current || b->mig_current)
        *p2pStatus = GPU_NOT_SUPPORTED;
    else if (p2pIndex == NVLINK || p2pIndex == ATOMICS)
        *p2pStatus = linked(pair.first.state, a, b) ? OK : NOT_SUPPORTED;
    else
        *p2pStatus = OK;
    return NVML_SUCCESS;
}

/* --- fabric ---------------------------------------------------------------------------------- */

/* Before Hopper no GPU joins a fabric, so there is nothing to report. */
static bool has_fabric(const struct sim_gpu *gpu)
{
    return gpu->architecture >= NVML_ARCH_HOPPER;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, struct nvml_fabric_info *gpuFabricInfo)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);

    if (r)
        return r;
    if (!gpuFabricInfo)
        return NVML_INVALID_ARGUMENT;
    if (!has_fabric(door.gpu))
        return NVML_NOT_SUPPORTED;
    *gpuFabricInfo = (struct nvml_fabric_info){
        .status = door.gpu->fabric_status,
        .cliqueId = door.gpu->fabric_clique,
        .state = (uint8_t)door.gpu->fabric_state,
    };
    memcpy(gpuFabricInfo->clusterUuid, door.gpu->fabric_cluster, 16);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, void *gpuFabricInfo)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE | DOOR_LOCK);

    if (r)
        return r;
    if (!gpuFabricInfo)
        return NVML_INVALID_ARGUMENT;

    uint32_t version = *(uint32_t *)gpuFabricInfo;
    bool v2 = version == NVML_VERSION(struct nvml_fabric_info_v2, 2);
    bool v3 = version == NVML_VERSION(struct nvml_fabric_info_v3, 3);
    if (!v2 && !v3)
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (!has_fabric(door.gpu))
        return NVML_NOT_SUPPORTED;

    struct nvml_fabric_info_v3 info = {
        .version = version,
        .status = door.gpu->fabric_status,
        .cliqueId = door.gpu->fabric_clique,
        .state = (uint8_t)door.gpu->fabric_state,
        .healthMask = 0,    /* no field of it is reported */
        .healthSummary = 0, /* not supported */
    };
    memcpy(info.clusterUuid, door.gpu->fabric_cluster, 16);
    /* The third generation only adds a tail. */
    memcpy(gpuFabricInfo, &info,
           v3 ? sizeof(struct nvml_fabric_info_v3) : sizeof(struct nvml_fabric_info_v2));
    return NVML_SUCCESS;
}

/* --- NUMA ------------------------------------------------------------------------------------ */

enum { BITS = sizeof(unsigned long) * CHAR_BIT };

static void set_bits(unsigned long *set, uint32_t size, uint32_t first, uint32_t n)
{
    for (uint32_t bit = first; bit < first + n && bit / BITS < size; bit++)
        set[bit / BITS] |= 1ul << bit % BITS;
}

nvmlReturn_t nvmlDeviceGetCpuAffinity(nvmlDevice_t device, uint32_t cpuSetSize,
                                      unsigned long *cpuSet)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!cpuSet || cpuSetSize == 0)
        return NVML_INVALID_ARGUMENT;

    uint32_t per_node = door.state->cpus_per_node;
    memset(cpuSet, 0, cpuSetSize * sizeof(*cpuSet));
    if (door.gpu->numa_node >= 0)
        set_bits(cpuSet, cpuSetSize, (uint32_t)door.gpu->numa_node * per_node, per_node);
    else
        set_bits(cpuSet, cpuSetSize, 0, door.state->n_numa_nodes * per_node);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, uint32_t nodeSetSize,
                                         unsigned long *nodeSet, uint32_t scope)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!nodeSet || nodeSetSize == 0 || scope > 1)
        return NVML_INVALID_ARGUMENT;
    memset(nodeSet, 0, nodeSetSize * sizeof(*nodeSet));
    if (door.gpu->numa_node >= 0)
        set_bits(nodeSet, nodeSetSize, (uint32_t)door.gpu->numa_node, 1);
    else
        set_bits(nodeSet, nodeSetSize, 0, door.state->n_numa_nodes);
    return NVML_SUCCESS;
}
