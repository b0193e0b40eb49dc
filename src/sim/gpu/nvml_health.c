/* What went wrong: ECC, retired pages, remapped rows; and how busy the PCIe link is. */
#include "sim/gpu/nvml_door.h"

#include <time.h>

enum { CORRECTED, UNCORRECTED, N_ERROR_TYPES };
enum { VOLATILE, AGGREGATE, N_COUNTERS };
enum {
    L1_CACHE,
    L2_CACHE,
    DRAM,
    REGISTER_FILE,
    TEXTURE_MEMORY,
    TEXTURE_SHM,
    CBU,
    SRAM,
    N_LOCATIONS
};

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, uint32_t *current, uint32_t *pending)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!current || !pending)
        return NVML_INVALID_ARGUMENT;
    if (!door.gpu->ecc_capable)
        return NVML_NOT_SUPPORTED;
    *current = door.gpu->ecc_enabled;
    *pending = door.gpu->ecc_pending;
    return NVML_SUCCESS;
}

/* --- counters -------------------------------------------------------------------------------- */

static nvmlReturn_t enter_for_ecc(struct door *door, const char *call, nvmlDevice_t device,
                                  uint32_t type, uint32_t counter)
{
    nvmlReturn_t r = door_device(door, call, device, DOOR_BOARD);

    if (r)
        return r;
    if (type >= N_ERROR_TYPES || counter >= N_COUNTERS)
        return NVML_INVALID_ARGUMENT;
    return door->gpu->ecc_enabled ? NVML_SUCCESS : NVML_NOT_SUPPORTED;
}

static uint64_t dram_errors(const struct sim_gpu *gpu, uint32_t type, uint32_t counter)
{
    return type == CORRECTED ? gpu->ecc_corrected[counter] : gpu->ecc_uncorrected[counter];
}

static uint64_t sram_errors(const struct sim_gpu *gpu, uint32_t type, uint32_t counter)
{
    return type == CORRECTED ? gpu->sram_ecc_corrected[counter]
                             : gpu->sram_ecc_uncorrected[counter];
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, uint32_t errorType,
                                         uint32_t counterType, uint64_t *eccCounts)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = enter_for_ecc(&door, __func__, device, errorType, counterType);

    if (r)
        return r;
    if (!eccCounts)
        return NVML_INVALID_ARGUMENT;
    *eccCounts = dram_errors(door.gpu, errorType, counterType) +
                 sram_errors(door.gpu, errorType, counterType);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, uint32_t errorType,
                                            uint32_t counterType, struct nvml_ecc_counts *eccCounts)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = enter_for_ecc(&door, __func__, device, errorType, counterType);

    if (r)
        return r;
    if (!eccCounts)
        return NVML_INVALID_ARGUMENT;
    *eccCounts = (struct nvml_ecc_counts){
        .l2Cache = sram_errors(door.gpu, errorType, counterType),
        .deviceMemory = dram_errors(door.gpu, errorType, counterType),
    };
    return NVML_SUCCESS;
}

/* From Ampere on errors are told apart as DRAM or SRAM only. */
nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, uint32_t errorType,
                                             uint32_t counterType, uint32_t locationType,
                                             uint64_t *count)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = enter_for_ecc(&door, __func__, device, errorType, counterType);

    if (r)
        return r;
    if (!count || locationType >= N_LOCATIONS)
        return NVML_INVALID_ARGUMENT;
    if (locationType == DRAM)
        *count = dram_errors(door.gpu, errorType, counterType);
    else if (locationType == SRAM && door.gpu->architecture >= NVML_ARCH_AMPERE)
        *count = sram_errors(door.gpu, errorType, counterType);
    else if (locationType == L2_CACHE && door.gpu->architecture < NVML_ARCH_AMPERE)
        *count = sram_errors(door.gpu, errorType, counterType);
    else if (locationType < TEXTURE_MEMORY && door.gpu->architecture < NVML_ARCH_AMPERE)
        *count = 0;
    else
        return NVML_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device,
                                             struct nvml_sram_ecc_status *status)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = enter_for_ecc(&door, __func__, device, 0, 0);

    if (r)
        return r;
    if (!status)
        return NVML_INVALID_ARGUMENT;
    if (status->version != NVML_VERSION(struct nvml_sram_ecc_status, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (door.gpu->architecture < NVML_ARCH_AMPERE)
        return NVML_NOT_SUPPORTED;
    *status = (struct nvml_sram_ecc_status){
        .version = status->version,
        .aggregateUncSecDed = door.gpu->sram_ecc_uncorrected[AGGREGATE],
        .aggregateCor = door.gpu->sram_ecc_corrected[AGGREGATE],
        .volatileUncSecDed = door.gpu->sram_ecc_uncorrected[VOLATILE],
        .volatileCor = door.gpu->sram_ecc_corrected[VOLATILE],
        .aggregateUncBucketL2 = door.gpu->sram_ecc_uncorrected[AGGREGATE],
    };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceClearEccErrorCounts(nvmlDevice_t device, uint32_t counterType)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD | DOOR_LOCK | DOOR_ROOT);

    if (r)
        return r;
    if (counterType >= N_COUNTERS)
        return NVML_INVALID_ARGUMENT;
    if (!door.gpu->ecc_enabled)
        return NVML_NOT_SUPPORTED;
    door.gpu->ecc_corrected[counterType] = door.gpu->ecc_uncorrected[counterType] = 0;
    door.gpu->sram_ecc_corrected[counterType] = door.gpu->sram_ecc_uncorrected[counterType] = 0;
    sim_state_changed(door.state);
    return NVML_SUCCESS;
}

/* --- retired and remapped -------------------------------------------------------------------- */

/* Pages were retired before Ampere; the addresses are made up but stay the same. */
static nvmlReturn_t retired_pages(const char *call, nvmlDevice_t device, uint32_t cause,
                                  uint32_t *count, uint64_t *addresses, uint64_t *timestamps)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, call, device, DOOR_BOARD);

    if (r)
        return r;
    if (!count || cause > 1)
        return NVML_INVALID_ARGUMENT;
    if (door.gpu->architecture >= NVML_ARCH_AMPERE)
        return NVML_NOT_SUPPORTED;

    uint32_t n = door.gpu->retired_pages[cause], room = addresses ? *count : 0;
    *count = n;
    if (room < n)
        return NVML_INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < n; i++) {
        addresses[i] = (uint64_t)(i + 1) << 16 | cause << 12;
        if (timestamps)
            timestamps[i] = 1700000000ull + i;
    }
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, uint32_t cause, uint32_t *pageCount,
                                       uint64_t *addresses)
{
    return retired_pages(__func__, device, cause, pageCount, addresses, NULL);
}

nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, uint32_t cause, uint32_t *pageCount,
                                          uint64_t *addresses, uint64_t *timestamps)
{
    return retired_pages(__func__, device, cause, pageCount, addresses, timestamps);
}

static bool remaps_rows(const struct sim_gpu *gpu)
{
    return gpu->architecture >= NVML_ARCH_AMPERE;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, uint32_t *corrRows, uint32_t *uncRows,
                                       uint32_t *isPending, uint32_t *failureOccurred)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!corrRows || !uncRows || !isPending || !failureOccurred)
        return NVML_INVALID_ARGUMENT;
    if (!remaps_rows(door.gpu))
        return NVML_NOT_SUPPORTED;
    *corrRows = door.gpu->remapped_correctable;
    *uncRows = door.gpu->remapped_uncorrectable;
    *isPending = door.gpu->remap_pending;
    *failureOccurred = door.gpu->remap_failed;
    return NVML_SUCCESS;
}

/* Banks by how many of their spare rows are left: all of them, minus one bank per remapped row. */
nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device,
                                               struct nvml_row_remapper_histogram *values)
{
    enum { BANKS = 640 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!values)
        return NVML_INVALID_ARGUMENT;
    if (!remaps_rows(door.gpu))
        return NVML_NOT_SUPPORTED;

    uint64_t rows = (uint64_t)door.gpu->remapped_correctable + door.gpu->remapped_uncorrectable;
    uint32_t touched = (uint32_t)MIN(rows, (uint64_t)BANKS);
    *values = (struct nvml_row_remapper_histogram){
        .max = BANKS - touched,
        .high = door.gpu->remap_failed && touched > 0 ? touched - 1 : touched,
        .none = door.gpu->remap_failed && touched > 0,
    };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, struct nvml_repair_status *repairStatus)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!repairStatus)
        return NVML_INVALID_ARGUMENT;
    if (repairStatus->version != NVML_VERSION(struct nvml_repair_status, 1))
        return NVML_ARGUMENT_VERSION_MISMATCH;
    if (door.gpu->architecture < NVML_ARCH_BLACKWELL)
        return NVML_NOT_SUPPORTED;
    repairStatus->bChannelRepairPending = repairStatus->bTpcRepairPending = 0;
    return NVML_SUCCESS;
}

/* --- PCIe ------------------------------------------------------------------------------------ */

/* The driver watches the link for 20 ms before it answers, and so does this. */
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, uint32_t counter, uint32_t *value)
{
    static const struct timespec sample = { .tv_nsec = 20000000 };
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_device(&door, __func__, device, DOOR_BOARD);

    if (r)
        return r;
    if (!value || counter > 1)
        return NVML_INVALID_ARGUMENT;
    nanosleep(&sample, NULL);
    *value = counter == 0 ? door.gpu->pcie_tx_kibps : door.gpu->pcie_rx_kibps;
    return NVML_SUCCESS;
}
