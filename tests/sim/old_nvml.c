/*
 * An NVML that knows only what every driver has known for long: no MIG, no events, no error words,
 * and PCI data by an older entry point. One GPU. For test_nvml.c.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT [[gnu::visibility("default")]]

enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

struct pci_info {
    char busIdLegacy[16];
    uint32_t domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
};

EXPORT uint32_t nvmlInit_v2(void);
EXPORT uint32_t nvmlShutdown(void);
EXPORT uint32_t nvmlSystemGetDriverVersion(char *version, uint32_t length);
EXPORT uint32_t nvmlDeviceGetCount_v2(uint32_t *count);
EXPORT uint32_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, void **device);
EXPORT uint32_t nvmlDeviceGetUUID(void *device, char *uuid, uint32_t length);
EXPORT uint32_t nvmlDeviceGetName(void *device, char *name, uint32_t length);
EXPORT uint32_t nvmlDeviceGetMinorNumber(void *device, uint32_t *minor);
EXPORT uint32_t nvmlDeviceGetPciInfo_v2(void *device, struct pci_info *pci);

static char gpu;

uint32_t nvmlInit_v2(void)
{
    return SUCCESS;
}

uint32_t nvmlShutdown(void)
{
    return SUCCESS;
}

uint32_t nvmlSystemGetDriverVersion(char *version, uint32_t length)
{
    snprintf(version, length, "%s", "390.157");
    return SUCCESS;
}

uint32_t nvmlDeviceGetCount_v2(uint32_t *count)
{
    *count = 1;
    return SUCCESS;
}

uint32_t nvmlDeviceGetHandleByIndex_v2(uint32_t index, void **device)
{
    *device = &gpu;
    return index == 0 ? SUCCESS : INVALID_ARGUMENT;
}

uint32_t nvmlDeviceGetUUID(void *device, char *uuid, uint32_t length)
{
    snprintf(uuid, length, "%s", "GPU-00000000-1111-2222-3333-444444444444");
    return SUCCESS;
}

uint32_t nvmlDeviceGetName(void *device, char *name, uint32_t length)
{
    snprintf(name, length, "%s", "Tesla K80");
    return SUCCESS;
}

uint32_t nvmlDeviceGetMinorNumber(void *device, uint32_t *minor)
{
    *minor = 3;
    return SUCCESS;
}

uint32_t nvmlDeviceGetPciInfo_v2(void *device, struct pci_info *pci)
{
    *pci = (struct pci_info){ .bus = 4, .pciDeviceId = 0x102d10de };
    strcpy(pci->busId, "00000000:04:00.0");
    return SUCCESS;
}
