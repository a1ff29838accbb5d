/* The other readings of a device: utilisation, memory, temperature, clocks, modes. */
#include "call.h"
#include "sensor.h"

#define READING(name, type, reading)                               \
    EXPORT nvmlReturn_t name(nvmlDevice_t device, type *value) {   \
        GPU_CALL(device);                                          \
        if (!value) return NVML_ERROR_INVALID_ARGUMENT;            \
        *value = (type)(reading);                                  \
        return NVML_SUCCESS;                                       \
    }

READING(nvmlDeviceGetArchitecture, unsigned int, call.gpu->arch)
READING(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, call.gpu->reasons)
READING(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, call.gpu->reasons)
READING(nvmlDeviceGetPersistenceMode, unsigned int, 1)
READING(nvmlDeviceGetComputeMode, unsigned int, 0)
READING(nvmlDeviceGetPowerManagementMode, unsigned int, 1)
READING(nvmlDeviceGetPowerState, unsigned int, 0)
READING(nvmlDeviceGetPerformanceState, unsigned int, 0)

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *utilization) {
    GPU_CALL(device);
    if (!utilization) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.gpu->mig != 0) return NVML_ERROR_NOT_SUPPORTED;
    utilization->gpu_percent = (unsigned int)call.gpu->utilization;
    utilization->memory_percent = (unsigned int)call.gpu->utilization / 2;
    return NVML_SUCCESS;
}

static void memory_of(const struct call *call, unsigned long long *total_bytes,
                      unsigned long long *used_bytes) {
    bool whole = call->mig == NOT_MIG;
    double size = call->gpu->memory_total_bytes;
    *total_bytes = whole ? (unsigned long long)size : call->gpu->slices[call->mig].memory_bytes;
    *used_bytes = whole ? (unsigned long long)call->gpu->memory_used_bytes : 0;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct memory_info *memory) {
    HANDLE_CALL(device);
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    memory_of(&call, &memory->total_bytes, &memory->used_bytes);
    memory->free_bytes = memory->total_bytes - memory->used_bytes;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory_info_v2 *memory) {
    HANDLE_CALL(device);
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != MEMORY_INFO_VERSION_2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memory_of(&call, &memory->total_bytes, &memory->used_bytes);
    memory->reserved_bytes = 0;
    memory->free_bytes = memory->total_bytes - memory->used_bytes;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned int *celsius) {
    GPU_CALL(device);
    if (!celsius || sensor != 0) return NVML_ERROR_INVALID_ARGUMENT;
    *celsius = (unsigned int)call.gpu->temperature_c;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct temperature *temperature) {
    GPU_CALL(device);
    if (!temperature || temperature->sensor != 0) return NVML_ERROR_INVALID_ARGUMENT;
    if (temperature->version != TEMPERATURE_VERSION_1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    temperature->celsius = (int)call.gpu->temperature_c;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    HANDLE_CALL(device);
    if (!major || !minor) return NVML_ERROR_INVALID_ARGUMENT;
    int arch = (int)call.gpu->arch;
    *major = arch <= ARCH_TURING ? arch + (arch < ARCH_TURING ? 2 : 1) : arch <= ARCH_ADA ? 8 : arch;
    *minor = arch == ARCH_TURING ? 5 : arch == ARCH_ADA ? 9 : 0;
    return NVML_SUCCESS;
}

/* Zeus asks this to know a Grace Hopper. */
EXPORT nvmlReturn_t nvmlDeviceGetC2cModeInfoV(nvmlDevice_t device, unsigned int *enabled) {
    GPU_CALL(device);
    if (!enabled) return NVML_ERROR_INVALID_ARGUMENT;
    if (!sensor_has_scope(call.gpu, SCOPE_MODULE)) return NVML_ERROR_NOT_SUPPORTED;
    *enabled = 1;
    return NVML_SUCCESS;
}

static nvmlReturn_t put_clocks(const unsigned int *mhz, unsigned int available, unsigned int *count,
                               unsigned int *out) {
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned int room = out ? *count : 0;
    *count = available;
    if (room < available) return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned int at = 0; at < available; at++) out[at] = mhz[at];
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedMemoryClocks(nvmlDevice_t device, unsigned int *count,
                                                       unsigned int *mhz) {
    static const unsigned int clocks[] = {2619, 1593};
    GPU_CALL(device);
    return put_clocks(clocks, 2, count, mhz);
}

EXPORT nvmlReturn_t nvmlDeviceGetSupportedGraphicsClocks(nvmlDevice_t device, unsigned int memory_mhz,
                                                         unsigned int *count, unsigned int *mhz) {
    static const unsigned int clocks[] = {1980, 1695, 1410, 1125};
    (void)memory_mhz;
    GPU_CALL(device);
    return put_clocks(clocks, 4, count, mhz);
}
