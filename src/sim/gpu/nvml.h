/*
 * NVML's binary interface as the simulator serves it: codes, handles, structs, entry points.
 *
 * Written from the public facts of spec/nvml §5 and §6 (sizes and offsets for x86-64); every
 * size is asserted below. The structs carry NVML's own field names, so that a reader can lay the
 * public documentation beside them. Handles are opaque: nvml_door.h makes and reads them.
 *
 * The entry points come from nvml_calls.def, the one list of what the library exports.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t nvmlReturn_t;
typedef struct nvml_device_handle *nvmlDevice_t; /* a GPU or a MIG device */
typedef struct nvml_gpu_instance_handle *nvmlGpuInstance_t;
typedef struct nvml_compute_instance_handle *nvmlComputeInstance_t;
typedef struct nvml_event_set_handle *nvmlEventSet_t;
typedef struct nvml_system_event_set_handle *nvmlSystemEventSet_t;
typedef struct nvml_gpm_sample_handle *nvmlGpmSample_t;

enum {
    NVML_SUCCESS = 0,
    NVML_UNINITIALIZED = 1,
    NVML_INVALID_ARGUMENT = 2,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_ALREADY_INITIALIZED = 5,
    NVML_NOT_FOUND = 6,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_INSUFFICIENT_POWER = 8,
    NVML_DRIVER_NOT_LOADED = 9,
    NVML_TIMEOUT = 10,
    NVML_IRQ_ISSUE = 11,
    NVML_LIBRARY_NOT_FOUND = 12,
    NVML_FUNCTION_NOT_FOUND = 13,
    NVML_CORRUPTED_INFOROM = 14,
    NVML_GPU_IS_LOST = 15,
    NVML_RESET_REQUIRED = 16,
    NVML_OPERATING_SYSTEM = 17,
    NVML_LIB_RM_VERSION_MISMATCH = 18,
    NVML_IN_USE = 19,
    NVML_MEMORY = 20,
    NVML_NO_DATA = 21,
    NVML_VGPU_ECC_NOT_SUPPORTED = 22,
    NVML_INSUFFICIENT_RESOURCES = 23,
    NVML_FREQ_NOT_SUPPORTED = 24,
    NVML_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_DEPRECATED = 26,
    NVML_NOT_READY = 27,
    NVML_GPU_NOT_FOUND = 28,
    NVML_INVALID_STATE = 29,
    NVML_RESET_TYPE_NOT_SUPPORTED = 30,
    NVML_UNKNOWN = 999,
};

enum {
    NVML_BRAND_TESLA = 2,
    NVML_BRAND_NVIDIA_RTX = 13,
    NVML_BRAND_NVIDIA = 14,

    NVML_ARCH_VOLTA = 5,
    NVML_ARCH_TURING = 6,
    NVML_ARCH_AMPERE = 7,
    NVML_ARCH_ADA = 8,
    NVML_ARCH_HOPPER = 9,
    NVML_ARCH_BLACKWELL = 10,

    NVML_TOPOLOGY_INTERNAL = 0,
    NVML_TOPOLOGY_SINGLE = 10, /* one PCI switch */
    NVML_TOPOLOGY_MULTIPLE = 20,
    NVML_TOPOLOGY_HOSTBRIDGE = 30,
    NVML_TOPOLOGY_NODE = 40, /* one NUMA node */
    NVML_TOPOLOGY_SYSTEM = 50,

    NVML_CLOCK_GRAPHICS = 0,
    NVML_CLOCK_SM = 1,
    NVML_CLOCK_MEM = 2,
    NVML_CLOCK_VIDEO = 3,
    NVML_N_CLOCKS = 4,

    NVML_EVENT_SINGLE_BIT_ECC = 1,
    NVML_EVENT_DOUBLE_BIT_ECC = 2,
    NVML_EVENT_PSTATE = 4,
    NVML_EVENT_XID = 8,
    NVML_EVENT_CLOCK = 0x10,
    NVML_EVENT_MIG_CONFIG = 0x100,
    NVML_EVENT_GPU_UNAVAILABLE = 0x4000,
    NVML_EVENT_RECOVERY_ACTION = 0x8000,

    NVML_SYSTEM_EVENT_UNBIND = 1,
    NVML_SYSTEM_EVENT_BIND = 2,

    NVML_PROCESS_COMPUTE = 0,
    NVML_PROCESS_GRAPHICS = 1,
    NVML_PROCESS_MPS = 2,

    NVML_VALUE_DOUBLE = 0,
    NVML_VALUE_U32 = 1,
    NVML_VALUE_ULONG = 2,
    NVML_VALUE_U64 = 3,
    NVML_VALUE_I64 = 4,
    NVML_VALUE_I32 = 5,

    NVML_INIT_NO_GPUS = 1,
    NVML_INIT_NO_ATTACH = 2,
    NVML_INIT_FORCE = 4,

    NVML_N_GI_PROFILES = 18,
    NVML_N_CI_PROFILES = 9,

    NVML_NAME_SIZE = 96,
    NVML_UUID_SIZE = 96,
    NVML_GPM_VERSION = 1,
};

#define NVML_NO_INSTANCE   0xffffffffu           /* a GI or CI id where there is none */
#define NVML_VALUE_UNKNOWN 0xffffffffffffffffull /* usedGpuMemory that nobody can tell */

/* The version word in the first u32 of a versioned struct. */
#define NVML_VERSION(type, generation) ((uint32_t)sizeof(type) | (uint32_t)(generation) << 24)

struct nvml_pci_info {
    char busIdLegacy[16];
    uint32_t domain, bus, device;
    uint32_t pciDeviceId, pciSubSystemId;
    char busId[32];
};

struct nvml_pci_info_ext {
    uint32_t version;
    uint32_t domain, bus, device;
    uint32_t pciDeviceId, pciSubSystemId;
    uint32_t baseClass, subClass;
    char busId[32];
};

struct nvml_memory {
    uint64_t total, free, used;
};

struct nvml_memory_v2 {
    uint32_t version;
    uint64_t total, reserved, free, used;
};

struct nvml_bar1_memory {
    uint64_t bar1Total, bar1Free, bar1Used;
};

struct nvml_utilization {
    uint32_t gpu, memory;
};

struct nvml_device_attributes {
    uint32_t multiprocessorCount;
    uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    uint32_t sharedJpegCount, sharedOfaCount;
    uint32_t gpuInstanceSliceCount, computeInstanceSliceCount;
    uint64_t memorySizeMB;
};

struct nvml_placement {
    uint32_t start, size;
};

struct nvml_gi_profile_info {
    uint32_t id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    uint64_t memorySizeMB;
};

struct nvml_gi_profile_info_v2 {
    uint32_t version;
    uint32_t id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount;
    uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    uint64_t memorySizeMB;
    char name[96];
};

struct nvml_gi_profile_info_v3 {
    uint32_t version;
    uint32_t id, sliceCount, instanceCount, multiprocessorCount;
    uint32_t copyEngineCount, decoderCount, encoderCount, jpegCount, ofaCount;
    uint64_t memorySizeMB;
    char name[96];
    uint32_t capabilities; /* 1 P2P, 2 graphics */
};

struct nvml_gi_info {
    nvmlDevice_t device;
    uint32_t id, profileId;
    struct nvml_placement placement;
};

struct nvml_ci_profile_info {
    uint32_t id, sliceCount, instanceCount, multiprocessorCount;
    uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    uint32_t sharedJpegCount, sharedOfaCount;
};

struct nvml_ci_profile_info_v2 {
    uint32_t version;
    uint32_t id, sliceCount, instanceCount, multiprocessorCount;
    uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    uint32_t sharedJpegCount, sharedOfaCount;
    char name[96];
};

struct nvml_ci_profile_info_v3 {
    uint32_t version;
    uint32_t id, sliceCount, instanceCount, multiprocessorCount;
    uint32_t sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    uint32_t sharedJpegCount, sharedOfaCount;
    char name[96];
    uint32_t capabilities;
};

struct nvml_ci_info {
    nvmlDevice_t device; /* the MIG device */
    nvmlGpuInstance_t gpuInstance;
    uint32_t id, profileId;
    struct nvml_placement placement; /* absent from the unversioned call's 24 bytes */
};

struct nvml_event_data {
    nvmlDevice_t device;
    uint64_t eventType, eventData;
    uint32_t gpuInstanceId, computeInstanceId; /* absent from the unversioned call's 24 bytes */
};

struct nvml_fabric_info {
    uint8_t clusterUuid[16];
    uint32_t status, cliqueId;
    uint8_t state;
};

struct nvml_fabric_info_v2 {
    uint32_t version;
    uint8_t clusterUuid[16];
    uint32_t status, cliqueId;
    uint8_t state;
    uint32_t healthMask;
};

struct nvml_fabric_info_v3 {
    uint32_t version;
    uint8_t clusterUuid[16];
    uint32_t status, cliqueId;
    uint8_t state;
    uint32_t healthMask;
    uint8_t healthSummary;
};

struct nvml_addressing_mode {
    uint32_t version, value;
};

struct nvml_uuid {
    uint32_t version, type; /* 1 ASCII, 2 binary */
    union {
        char str[41];
        uint8_t bytes[16];
    } value;
};

struct nvml_process_info_v1 {
    uint32_t pid;
    uint64_t usedGpuMemory;
};

struct nvml_process_info {
    uint32_t pid;
    uint64_t usedGpuMemory;
    uint32_t gpuInstanceId, computeInstanceId;
};

struct nvml_process_detail {
    uint32_t pid;
    uint64_t usedGpuMemory;
    uint32_t gpuInstanceId, computeInstanceId;
    uint64_t usedGpuCcProtectedMemory;
};

struct nvml_process_detail_list {
    uint32_t version, mode, numProcArrayEntries;
    struct nvml_process_detail *procArray;
};

struct nvml_process_utilization {
    uint32_t pid;
    uint64_t timeStamp;
    uint32_t smUtil, memUtil, encUtil, decUtil;
};

struct nvml_process_utilization_info {
    uint64_t timeStamp;
    uint32_t pid, smUtil, memUtil, encUtil, decUtil, jpgUtil, ofaUtil;
};

struct nvml_processes_utilization_info {
    uint32_t version, processSamplesCount;
    uint64_t lastSeenTimeStamp;
    struct nvml_process_utilization_info *procUtilArray;
};

union nvml_value {
    double dVal;
    int32_t siVal;
    uint32_t uiVal;
    unsigned long ulVal;
    uint64_t ullVal;
    int64_t sllVal;
    uint16_t usVal;
};

struct nvml_sample {
    uint64_t timeStamp;
    union nvml_value sampleValue;
};

struct nvml_field_value {
    uint32_t fieldId, scopeId;
    int64_t timestamp, latencyUsec;
    uint32_t valueType, nvmlReturn;
    union nvml_value value;
};

struct nvml_ecc_counts {
    uint64_t l1Cache, l2Cache, deviceMemory, registerFile;
};

struct nvml_sram_ecc_status {
    uint32_t version;
    uint64_t aggregateUncParity, aggregateUncSecDed, aggregateCor;
    uint64_t volatileUncParity, volatileUncSecDed, volatileCor;
    uint64_t aggregateUncBucketL2, aggregateUncBucketSm, aggregateUncBucketPcie;
    uint64_t aggregateUncBucketMcu, aggregateUncBucketOther;
    uint32_t bThresholdExceeded;
};

struct nvml_row_remapper_histogram {
    uint32_t max, high, partial, low, none;
};

struct nvml_repair_status {
    uint32_t version, bChannelRepairPending, bTpcRepairPending;
};

struct nvml_violation_time {
    uint64_t referenceTime, violationTime;
};

struct nvml_temperature {
    uint32_t version, sensorType;
    int32_t temperature;
};

struct nvml_margin_temperature {
    uint32_t version;
    int32_t marginTemperature;
};

struct nvml_thermal_sensor {
    int32_t controller, defaultMinTemp, defaultMaxTemp, currentTemp, target;
};

struct nvml_thermal_settings {
    uint32_t count;
    struct nvml_thermal_sensor sensor[3];
};

struct nvml_dynamic_pstate_domain {
    uint32_t bIsPresent; /* bit 0 */
    uint32_t percentage, incThreshold, decThreshold;
};

struct nvml_dynamic_pstates_info {
    uint32_t flags;
    struct nvml_dynamic_pstate_domain utilization[8]; /* 0 GPU, 1 frame buffer, 2 video, 3 bus */
};

struct nvml_platform_info_v1 {
    uint32_t version;
    uint8_t ibGuid[16], rackGuid[16];
    uint8_t chassisPhysicalSlotNumber, computeSlotIndex, nodeIndex, peerType, moduleId;
};

struct nvml_platform_info_v2 {
    uint32_t version;
    uint8_t ibGuid[16], chassisSerialNumber[16];
    uint8_t slotNumber, trayIndex, hostId, peerType, moduleId;
};

struct nvml_c2c_mode_info {
    uint32_t isC2cEnabled;
};

struct nvml_device_capabilities {
    uint32_t version, capMask;
};

struct nvml_driver_branch_info {
    uint32_t version;
    char branch[80];
};

struct nvml_conf_compute_state {
    uint32_t environment, ccFeature, devToolsMode;
};

struct nvml_conf_compute_settings {
    uint32_t version, environment, ccFeature, devToolsMode, multiGpuMode;
};

struct nvml_system_event_set_create {
    uint32_t version;
    nvmlSystemEventSet_t set;
};

struct nvml_system_event_set_free {
    uint32_t version;
    nvmlSystemEventSet_t set;
};

struct nvml_system_event_data {
    uint64_t eventType;
    uint32_t gpuId;
};

struct nvml_system_event_set_wait {
    uint32_t version, timeoutms;
    nvmlSystemEventSet_t set;
    struct nvml_system_event_data *data;
    uint32_t dataSize, numEvent;
};

struct nvml_system_register_event {
    uint32_t version;
    uint64_t eventTypes;
    nvmlSystemEventSet_t set;
};

struct nvml_gpm_support {
    uint32_t version, isSupportedDevice;
};

struct nvml_gpm_metric {
    uint32_t metricId, nvmlReturn;
    double value;
    struct {
        const char *shortName, *longName, *unit;
    } metricInfo;
};

/* The metrics array is as long as the caller's header says (210 or 333 entries): only the first
 * numMetrics entries are touched. */
struct nvml_gpm_metrics_get {
    uint32_t version, numMetrics;
    nvmlGpmSample_t sample1, sample2;
    struct nvml_gpm_metric metrics[333];
};

struct nvml_fbc_stats {
    uint32_t sessionsCount, averageFPS, averageLatency;
};

#define NVML_CALL(name, parameters) [[gnu::visibility("default")]] nvmlReturn_t name parameters;
#define NVML_REFUSED(name)          [[gnu::visibility("default")]] nvmlReturn_t name(void);
#include "sim/gpu/nvml_calls.def"
#undef NVML_CALL
#undef NVML_REFUSED

/* The only entry point that does not answer with a code. */
[[gnu::visibility("default")]] const char *nvmlErrorString(nvmlReturn_t result);

static_assert(sizeof(struct nvml_pci_info) == 68);
static_assert(sizeof(struct nvml_pci_info_ext) == 64);
static_assert(sizeof(struct nvml_memory_v2) == 40);
static_assert(sizeof(struct nvml_device_attributes) == 40);
static_assert(sizeof(struct nvml_gi_profile_info) == 48);
static_assert(sizeof(struct nvml_gi_profile_info_v2) == 152);
static_assert(offsetof(struct nvml_gi_profile_info_v2, memorySizeMB) == 48);
static_assert(sizeof(struct nvml_gi_profile_info_v3) == 152);
static_assert(offsetof(struct nvml_gi_profile_info_v3, memorySizeMB) == 40);
static_assert(sizeof(struct nvml_gi_info) == 24);
static_assert(sizeof(struct nvml_ci_profile_info) == 36);
static_assert(sizeof(struct nvml_ci_profile_info_v2) == 136);
static_assert(sizeof(struct nvml_ci_profile_info_v3) == 140);
static_assert(sizeof(struct nvml_ci_info) == 32);
static_assert(offsetof(struct nvml_ci_info, placement) == 24);
static_assert(sizeof(struct nvml_event_data) == 32);
static_assert(sizeof(struct nvml_fabric_info) == 28);
static_assert(sizeof(struct nvml_fabric_info_v2) == 36);
static_assert(sizeof(struct nvml_fabric_info_v3) == 40);
static_assert(sizeof(struct nvml_uuid) == 52);
static_assert(sizeof(struct nvml_process_info_v1) == 16);
static_assert(sizeof(struct nvml_process_info) == 24);
static_assert(sizeof(struct nvml_process_detail) == 32);
static_assert(sizeof(struct nvml_process_detail_list) == 24);
static_assert(sizeof(struct nvml_process_utilization) == 32);
static_assert(sizeof(struct nvml_process_utilization_info) == 40);
static_assert(sizeof(struct nvml_processes_utilization_info) == 24);
static_assert(sizeof(struct nvml_sample) == 16);
static_assert(sizeof(struct nvml_field_value) == 40);
static_assert(sizeof(struct nvml_ecc_counts) == 32);
static_assert(sizeof(struct nvml_sram_ecc_status) == 104);
static_assert(sizeof(struct nvml_row_remapper_histogram) == 20);
static_assert(sizeof(struct nvml_repair_status) == 12);
static_assert(sizeof(struct nvml_thermal_settings) == 64);
static_assert(sizeof(struct nvml_dynamic_pstates_info) == 132);
static_assert(sizeof(struct nvml_platform_info_v1) == 44);
static_assert(sizeof(struct nvml_platform_info_v2) == 44);
static_assert(sizeof(struct nvml_driver_branch_info) == 84);
static_assert(sizeof(struct nvml_conf_compute_settings) == 20);
static_assert(sizeof(struct nvml_system_event_set_create) == 16);
static_assert(sizeof(struct nvml_system_event_set_wait) == 32);
static_assert(sizeof(struct nvml_system_register_event) == 24);
static_assert(sizeof(struct nvml_system_event_data) == 16);
static_assert(sizeof(struct nvml_gpm_metric) == 40);
static_assert(sizeof(struct nvml_gpm_metrics_get) == 13344);
