/*
 * As much of NVML's binary interface as this room calls: handles, structs, numbers.
 *
 * Written from the public facts of spec/nvml §5 and §6 for 64-bit Linux; sizes are asserted. The
 * structs keep NVML's field names so that its documentation can be laid beside them. This header
 * stays inside gpu/: what other rooms get are the structs of share/inventory.h.
 */
#pragma once

#include <assert.h>
#include <stdint.h>

typedef uint32_t nvmlReturn_t;
typedef struct nvml_device_opaque *nvmlDevice_t; /* a GPU or a MIG device */
typedef struct nvml_gi_opaque *nvmlGpuInstance_t;
typedef struct nvml_ci_opaque *nvmlComputeInstance_t;
typedef struct nvml_event_set_opaque *nvmlEventSet_t;

enum {
    NVML_SUCCESS = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_LIBRARY_NOT_FOUND = 12,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_LIB_RM_VERSION_MISMATCH = 18,
    NVML_IN_USE = 19,
    NVML_MEMORY = 20,
    NVML_INSUFFICIENT_RESOURCES = 23,
    NVML_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_GPU_NOT_FOUND = 28,
    NVML_UNKNOWN = 999,
};

enum {
    NVML_EVENT_SINGLE_BIT_ECC = 1,
    NVML_EVENT_DOUBLE_BIT_ECC = 2,
    NVML_EVENT_XID = 8,
    NVML_EVENT_MIG_CONFIG = 0x100,
    NVML_EVENT_GPU_UNAVAILABLE = 0x4000,
    NVML_EVENT_RECOVERY_ACTION = 0x8000,

    NVML_FABRIC_COMPLETED = 3,
    NVML_MIG_ENABLED = 1,

    NVML_MAX_NVLINKS = 36,
    NVML_STRING_SIZE = 96, /* of names, UUIDs and versions: none needs more */
};

#define NVML_NO_INSTANCE 0xffffffffu /* a GI or CI id where there is none */

/* The version word in the first u32 of a versioned struct. */
#define NVML_VERSION(type, generation) ((uint32_t)sizeof(type) | (uint32_t)(generation) << 24)

struct nvml_pci_info {
    char busIdLegacy[16];
    uint32_t domain, bus, device;
    uint32_t pciDeviceId, pciSubSystemId; /* device << 16 | vendor */
    char busId[32];
};
static_assert(sizeof(struct nvml_pci_info) == 68);

struct nvml_memory {
    uint64_t total, free, used; /* bytes */
};
static_assert(sizeof(struct nvml_memory) == 24);

struct nvml_device_attributes {
    uint32_t multiprocessorCount;
    uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    uint32_t sharedJpegCount, sharedOfaCount;
    uint32_t gpuInstanceSliceCount, computeInstanceSliceCount;
    uint64_t memorySizeMB;
};
static_assert(sizeof(struct nvml_device_attributes) == 40);

struct nvml_placement {
    uint32_t start, size;
};

struct nvml_gi_profile_info {
    uint32_t id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    uint64_t memorySizeMB;
};
static_assert(sizeof(struct nvml_gi_profile_info) == 48);

struct nvml_gi_profile_info_v2 {
    uint32_t version;
    uint32_t id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    uint64_t memorySizeMB;
    char name[96]; /* "MIG 1g.10gb" */
};
static_assert(sizeof(struct nvml_gi_profile_info_v2) == 152);

struct nvml_gi_info {
    nvmlDevice_t device;
    uint32_t id, profileId; /* the driver's number, not the enum */
    struct nvml_placement placement;
};
static_assert(sizeof(struct nvml_gi_info) == 24);

struct nvml_ci_profile_info {
    uint32_t id, sliceCount, instanceCount, multiprocessorCount;
    uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    uint32_t sharedJpegCount, sharedOfaCount;
};
static_assert(sizeof(struct nvml_ci_profile_info) == 36);

struct nvml_ci_info {
    nvmlDevice_t device; /* the MIG device */
    nvmlGpuInstance_t gpuInstance;
    uint32_t id, profileId;
    struct nvml_placement placement; /* not written by the call without _v2 */
};
static_assert(sizeof(struct nvml_ci_info) == 32);

struct nvml_process_info {
    uint32_t pid;
    uint64_t usedGpuMemory;
    uint32_t gpuInstanceId, computeInstanceId; /* NVML_NO_INSTANCE: the whole GPU, or not told */
};
static_assert(sizeof(struct nvml_process_info) == 24);

struct nvml_event_data {
    nvmlDevice_t device; /* the physical GPU */
    uint64_t eventType, eventData;
    uint32_t gpuInstanceId, computeInstanceId; /* not written by the call without _v2 */
};
static_assert(sizeof(struct nvml_event_data) == 32);

struct nvml_fabric_info {
    uint8_t clusterUuid[16];
    uint32_t status, cliqueId;
    uint8_t state;
};
static_assert(sizeof(struct nvml_fabric_info) == 28);

struct nvml_fabric_info_v2 {
    uint32_t version;
    uint8_t clusterUuid[16];
    uint32_t status, cliqueId;
    uint8_t state;
    uint32_t healthMask;
};
static_assert(sizeof(struct nvml_fabric_info_v2) == 36);
