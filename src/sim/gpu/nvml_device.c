/* Which GPUs there are, and who each of them is. */
#include "base/text.h"
#include "sim/gpu/mig.h"
#include "sim/gpu/nvml_door.h"

#include <stdio.h>
#include <strings.h>

/* --- finding --------------------------------------------------------------------------------- */

static nvmlReturn_t device_count(const char *call, uint32_t *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, call, 0);

    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;
    *ret = door.state->n_gpus;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(uint32_t *deviceCount)
{
    return device_count(__func__, deviceCount);
}

nvmlReturn_t nvmlDeviceGetCount(uint32_t *deviceCount)
{
    return device_count(__func__, deviceCount);
}

static nvmlReturn_t device_at(const char *call, uint32_t index, nvmlDevice_t *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_index(&door, call, index);

    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;
    *ret = door_gpu_handle(index);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, nvmlDevice_t *device)
{
    return device_at(__func__, index, device);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(uint32_t index, nvmlDevice_t *device)
{
    return device_at(__func__, index, device);
}

/* What a GPU is looked for by. */
typedef bool gpu_test(const struct sim_gpu *gpu, const void *key);

static bool has_uuid(const struct sim_gpu *gpu, const void *key)
{
    return strcasecmp(gpu->uuid, key) == 0;
}

static bool has_serial(const struct sim_gpu *gpu, const void *key)
{
    return text_equal(gpu->serial, key);
}

struct place {
    unsigned domain, bus, device;
};

static bool has_place(const struct sim_gpu *gpu, const void *key)
{
    const struct place *place = key;

    return gpu->pci_domain == place->domain && gpu->pci_bus == place->bus &&
           gpu->pci_device == place->device;
}

/* The first GPU that passes, or SIM_MAX_GPUS. Nothing that is tested here ever changes. */
static uint32_t find_gpu(const struct sim_state *state, gpu_test *test, const void *key)
{
    for (uint32_t i = 0; i < MIN(state->n_gpus, (uint32_t)SIM_MAX_GPUS); i++) {
        if (test(&state->gpus[i], key))
            return i;
    }
    return SIM_MAX_GPUS;
}

static nvmlReturn_t device_by(const char *call, gpu_test *test, const void *key, nvmlDevice_t *ret)
{
    auto_(door_leave) struct door door = {};
    struct sim_state *state = door_state();
    uint32_t index = state && key ? find_gpu(state, test, key) : SIM_MAX_GPUS;
    bool found = index < SIM_MAX_GPUS;

    nvmlReturn_t r = found ? door_index(&door, call, index) : door_system(&door, call, 0);
    if (r)
        return r;
    if (!key || !ret)
        return NVML_INVALID_ARGUMENT;
    if (!found)
        return NVML_NOT_FOUND;
    *ret = door_gpu_handle(index);
    return NVML_SUCCESS;
}

static nvmlReturn_t mig_device_by_uuid(const char *call, const char *uuid, nvmlDevice_t *ret)
{
    auto_(door_leave) struct door door = {};
    struct sim_mig_device device;

    nvmlReturn_t r = door_system(&door, call, DOOR_LOCK);
    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;
    if (sim_mig_device_by_uuid(door.state, uuid, &device) < 0)
        return NVML_NOT_FOUND;
    if (device.gpu->lost)
        return NVML_GPU_IS_LOST;
    *ret = door_mig_handle((uint32_t)(device.gpu - door.state->gpus), device.gi, device.ci);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    if (uuid && strncasecmp(uuid, "MIG-", 4) == 0)
        return mig_device_by_uuid(__func__, uuid, device);
    return device_by(__func__, has_uuid, uuid, device);
}

/* The text forms of a UUID in nvmlUUID_t: ASCII as it is, binary without a prefix, so both kinds of
 * device are tried. */
static void uuid_text(const uint8_t bytes[16], const char *prefix, char ret[static 48])
{
    int n = snprintf(ret, 48, "%s", prefix);

    for (size_t i = 0; i < 16; i++)
        n += snprintf(ret + n, (size_t)(48 - n), "%s%02x",
                      i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const struct nvml_uuid *uuid, nvmlDevice_t *device)
{
    char text[48];

    if (!uuid)
        return device_by(__func__, has_uuid, NULL, device);
    if (uuid->version != NVML_VERSION(struct nvml_uuid, 1) || uuid->type < 1 || uuid->type > 2) {
        auto_(door_leave) struct door door = {};
        nvmlReturn_t r = door_system(&door, __func__, 0);

        return r                                                    ? r
               : uuid->version != NVML_VERSION(struct nvml_uuid, 1) ? NVML_ARGUMENT_VERSION_MISMATCH
                                                                    : NVML_INVALID_ARGUMENT;
    }
    if (uuid->type == 1) {
        snprintf(text, sizeof(text), "%.*s", (int)sizeof(uuid->value.str), uuid->value.str);
    } else {
        uuid_text(uuid->value.bytes, "GPU-", text);
        if (door_state() && find_gpu(door_state(), has_uuid, text) == SIM_MAX_GPUS)
            uuid_text(uuid->value.bytes, "MIG-", text);
    }
    if (strncasecmp(text, "MIG-", 4) == 0)
        return mig_device_by_uuid(__func__, text, device);
    return device_by(__func__, has_uuid, text, device);
}

/* "00000000:1B:00.0", "0000:1b:00.0", "0000:1b:00": domain of four or eight digits, any case. */
static bool read_place(const char *text, struct place *ret)
{
    unsigned function = 0;
    int end = -1;

    if (sscanf(text, "%8x:%2x:%2x%n", &ret->domain, &ret->bus, &ret->device, &end) != 3 || end < 0)
        return false;
    if (text[end] == '\0')
        return true;
    return sscanf(text + end, ".%1x%n", &function, &end) == 1 && function == 0;
}

static nvmlReturn_t device_by_bus_id(const char *call, const char *text, nvmlDevice_t *ret)
{
    struct place place = { .domain = 0xffffffff };

    if (text && !read_place(text, &place))
        place.domain = 0xffffffff;
    return device_by(call, has_place, text ? &place : NULL, ret);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device)
{
    return device_by_bus_id(__func__, pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *pciBusId, nvmlDevice_t *device)
{
    return device_by_bus_id(__func__, pciBusId, device);
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device)
{
    return device_by(__func__, has_serial, serial, device);
}

/* --- names ----------------------------------------------------------------------------------- */

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    char text[160];

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);
    if (r)
        return r;
    if (!door.ci)
        return door_text(name, length, door.gpu->name);

    struct sim_mig_device mig = { door.gpu, door.gi, door.ci };
    char profile[32];

    sim_mig_device_profile(&mig, profile);
    snprintf(text, sizeof(text), "%s MIG %s", door.gpu->name, profile);
    return door_text(name, length, text);
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    return r ? r : door_text(uuid, length, door.ci ? door.ci->uuid : door.gpu->uuid);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, uint32_t *index)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!index)
        return NVML_INVALID_ARGUMENT;
    *index = door.ci ? sim_mig_device_index(door.gpu, door.gi, door.ci) : door.gpu_index;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, uint32_t *isMigDevice)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!isMigDevice)
        return NVML_INVALID_ARGUMENT;
    *isMigDevice = door.handle.kind == HANDLE_MIG;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t migDevice,
                                                          nvmlDevice_t *device)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, migDevice, DOOR_MIG_ONLY);

    if (r)
        return r;
    if (!device)
        return NVML_INVALID_ARGUMENT;
    *device = door_gpu_handle(door.gpu_index);
    return NVML_SUCCESS;
}

/* Texts of the board; a MIG device has its parent's. */
static nvmlReturn_t board_text(const char *call, nvmlDevice_t device, size_t offset, char *buffer,
                               uint32_t length)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, call, device, DOOR_ANY_DEVICE);

    return r ? r : door_text(buffer, length, (const char *)door.gpu + offset);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, uint32_t length)
{
    return board_text(__func__, device, offsetof(struct sim_gpu, serial), serial, length);
}

nvmlReturn_t nvmlDeviceGetBoardPartNumber(nvmlDevice_t device, char *partNumber, uint32_t length)
{
    return board_text(__func__, device, offsetof(struct sim_gpu, part_number), partNumber, length);
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, uint32_t length)
{
    return board_text(__func__, device, offsetof(struct sim_gpu, vbios), version, length);
}

/* "G520.0200.00.05" from part number "692-2G520-0200-000". */
nvmlReturn_t nvmlDeviceGetInforomImageVersion(nvmlDevice_t device, char *version, uint32_t length)
{
    auto_(door_leave) struct door door = {};
    char text[32];

    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);
    if (r)
        return r;
    snprintf(text, sizeof(text), "%.4s.%.4s.00.05", door.gpu->part_number + 5,
             door.gpu->part_number + 10);
    return door_text(version, length, text);
}

nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, uint32_t object, char *version,
                                         uint32_t length)
{
    static const char *const versions[] = { "2.1", "6.16", NULL, NULL }; /* OEM, ECC, power, DEN */
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (object >= ARRAY_LEN(versions))
        return NVML_INVALID_ARGUMENT;
    return versions[object] ? door_text(version, length, versions[object]) : NVML_NOT_SUPPORTED;
}

/* The GSP runs the driver's own firmware. The caller's buffer is 64 bytes by definition. */
nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    return door.gpu->has_gsp ? door_text(version, 64, door.state->driver_version)
                             : NVML_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetGspFirmwareMode(nvmlDevice_t device, uint32_t *isEnabled,
                                          uint32_t *defaultMode)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!isEnabled || !defaultMode)
        return NVML_INVALID_ARGUMENT;
    *isEnabled = *defaultMode = door.gpu->has_gsp;
    return NVML_SUCCESS;
}

/* --- PCI ------------------------------------------------------------------------------------- */

static nvmlReturn_t pci_info(const char *call, nvmlDevice_t device, struct nvml_pci_info *ret)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, call, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!ret)
        return NVML_INVALID_ARGUMENT;

    const struct sim_gpu *gpu = door.gpu;
    *ret = (struct nvml_pci_info){
        .domain = gpu->pci_domain,
        .bus = gpu->pci_bus,
        .device = gpu->pci_device,
        .pciDeviceId = gpu->pci_device_id,
        .pciSubSystemId = gpu->pci_subsystem_id,
    };
    snprintf(ret->busId, sizeof(ret->busId), "%08X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus,
             gpu->pci_device);
    snprintf(ret->busIdLegacy, sizeof(ret->busIdLegacy), "%04X:%02X:%02X.0",
             gpu->pci_domain & 0xffff, gpu->pci_bus & 0xff, gpu->pci_device & 0xff);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct nvml_pci_info *pci)
{
    return pci_info(__func__, device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, struct nvml_pci_info *pci)
{
    return pci_info(__func__, device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, struct nvml_pci_info *pci)
{
    return pci_info(__func__, device, pci);
}

nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, struct nvml_pci_info_ext *pci)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!pci)
        return NVML_INVALID_ARGUMENT;
    if (pci->version != NVML_VERSION(struct nvml_pci_info_ext, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;

    const struct sim_gpu *gpu = door.gpu;
    *pci = (struct nvml_pci_info_ext){
        .version = pci->version,
        .domain = gpu->pci_domain,
        .bus = gpu->pci_bus,
        .device = gpu->pci_device,
        .pciDeviceId = gpu->pci_device_id,
        .pciSubSystemId = gpu->pci_subsystem_id,
        .baseClass = gpu->pci_class >> 16 & 0xff,
        .subClass = gpu->pci_class >> 8 & 0xff,
    };
    snprintf(pci->busId, sizeof(pci->busId), "%08X:%02X:%02X.0", gpu->pci_domain, gpu->pci_bus,
             gpu->pci_device);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int32_t *major, int32_t *minor)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!major || !minor)
        return NVML_INVALID_ARGUMENT;
    *major = door.gpu->cc_major;
    *minor = door.gpu->cc_minor;
    return NVML_SUCCESS;
}

/* --- racks ----------------------------------------------------------------------------------- */

/* Only boards of rack systems know where they stand: the GB200's compute tray. */
static bool in_a_rack(const struct sim_gpu *gpu)
{
    return gpu->c2c && gpu->architecture >= NVML_ARCH_BLACKWELL;
}

nvmlReturn_t nvmlDeviceGetPlatformInfo(nvmlDevice_t device, void *platformInfo)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!platformInfo)
        return NVML_INVALID_ARGUMENT;

    uint32_t version = *(uint32_t *)platformInfo;
    if (version != NVML_VERSION(struct nvml_platform_info_v1, 1) &&
        version != NVML_VERSION(struct nvml_platform_info_v2, 2))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (!in_a_rack(door.gpu))
        return NVML_NOT_SUPPORTED;

    /* Both generations lay out the same bytes; only the names of the fields differ. */
    struct nvml_platform_info_v2 *info = platformInfo;
    *info = (struct nvml_platform_info_v2){
        .version = version,
        .slotNumber = 1,
        .peerType = 1, /* joined by a switch */
        .moduleId = (uint8_t)(door.gpu_index + 1),
    };
    memcpy(info->chassisSerialNumber, door.gpu->serial, 13);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetC2cModeInfoV(nvmlDevice_t device, struct nvml_c2c_mode_info *c2cModeInfo)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!c2cModeInfo)
        return NVML_INVALID_ARGUMENT;
    if (!door.gpu->c2c)
        return NVML_NOT_SUPPORTED;
    c2cModeInfo->isC2cEnabled = 1;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCapabilities(nvmlDevice_t device, struct nvml_device_capabilities *caps)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!caps)
        return NVML_INVALID_ARGUMENT;
    if (caps->version != NVML_VERSION(struct nvml_device_capabilities, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    caps->capMask = 0; /* no extended GPU memory */
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetAddressingMode(nvmlDevice_t device, struct nvml_addressing_mode *mode)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_ANY_DEVICE);

    if (r)
        return r;
    if (!mode)
        return NVML_INVALID_ARGUMENT;
    if (mode->version != NVML_VERSION(struct nvml_addressing_mode, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (door.gpu->addressing_mode > 2)
        return NVML_NOT_SUPPORTED;
    mode->value = door.gpu->addressing_mode;
    return NVML_SUCCESS;
}
