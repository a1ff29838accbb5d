/*
 * A stand-in for libnvidia-ml.so.1: the functions of the library itself, and how handles are come by.
 * Follows the file named in TRAINWATT_FAKE_NVML (grammar: config.c) while it runs. Built by
 * tests/drivers/nvml.py.
 */
#include <string.h>
#include <strings.h>

#include "call.h"

static nvmlReturn_t put_text(const char *text, char *target, unsigned int size) {
    if (!target) return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= size) return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(target, text);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlInit_v2(void) {
    OPEN_CALL(call_for_library(__func__, false));
    return call_init();
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    OPEN_CALL(call_for_library(__func__, false));
    return call_init();
}

EXPORT nvmlReturn_t nvmlShutdown(void) {
    OPEN_CALL(call_for_library(__func__, false));
    return call_shutdown();
}

EXPORT const char *nvmlErrorString(nvmlReturn_t code) {
    static const char *const texts[] = {
        [0] = "Success", [1] = "Uninitialized", [2] = "Invalid Argument", [3] = "Not Supported",
        [4] = "Insufficient Permissions", [5] = "Already Initialized", [6] = "Not Found",
        [7] = "Insufficient Size", [8] = "Insufficient External Power", [9] = "Driver Not Loaded",
        [10] = "Timeout", [11] = "Interrupt Request Issue", [12] = "NVML Shared Library Not Found",
        [13] = "Function Not Found", [14] = "Corrupted infoROM", [15] = "GPU is lost",
        [16] = "GPU requires restart", [17] = "The operating system has blocked the request.",
        [18] = "RM has detected an NVML/RM version mismatch.", [19] = "GPU is currently in use",
        [20] = "Insufficient Memory", [21] = "No data", [25] = "Version mismatch", [26] = "Deprecated",
        [27] = "System is not ready for the request", [28] = "No GPUs were found", [29] = "Invalid state",
    };
    bool known = code >= 0 && code < (int)(sizeof texts / sizeof *texts) && texts[code];
    return known ? texts[code] : "Unknown Error";
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    LIBRARY_CALL();
    return put_text(call.config->driver_version, version, length);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    LIBRARY_CALL();
    return put_text(call.config->nvml_version, version, length);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    LIBRARY_CALL();
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    *version = (int)call.config->cuda_version;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    LIBRARY_CALL();
    if (!version) return NVML_ERROR_INVALID_ARGUMENT;
    *version = (int)call.config->cuda_version;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count) {
    LIBRARY_CALL();
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = (unsigned int)call.config->gpu_count; /* forbidden ones too, as the real one */
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    OPEN_CALL(call_for_gpu(__func__, index));
    if (!device) return NVML_ERROR_INVALID_ARGUMENT;
    *device = call_handle(call.gpu_index, NOT_MIG);
    return NVML_SUCCESS;
}

/* The end of a look-up by something else than the index. */
static nvmlReturn_t give_handle(const struct call *call, const char *symbol, int index, int mig,
                                nvmlDevice_t *device) {
    if (call->config->gpus[index].forbidden) return NVML_ERROR_NO_PERMISSION;
    nvmlReturn_t fault = call_fault(call, symbol, index);
    if (!fault) *device = call_handle(index, mig);
    return fault;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    LIBRARY_CALL();
    if (!uuid || !device) return NVML_ERROR_INVALID_ARGUMENT;
    for (int index = 0; index < call.config->gpu_count; index++) {
        const struct gpu *gpu = &call.config->gpus[index];
        if (!strcmp(gpu->uuid, uuid)) return give_handle(&call, __func__, index, NOT_MIG, device);
        for (int slice = 0; slice < MAX_MIG; slice++)
            if (gpu->slices[slice].present && !strcmp(gpu->slices[slice].uuid, uuid))
                return give_handle(&call, __func__, index, slice, device);
    }
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device) {
    LIBRARY_CALL();
    if (!bus || !device) return NVML_ERROR_INVALID_ARGUMENT;
    for (int index = 0; index < call.config->gpu_count; index++)
        if (!strcasecmp(call.config->gpus[index].bus, bus))
            return give_handle(&call, __func__, index, NOT_MIG, device);
    return NVML_ERROR_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    HANDLE_CALL(device);
    return put_text(call.mig == NOT_MIG ? call.gpu->uuid : call.gpu->slices[call.mig].uuid, uuid, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    HANDLE_CALL(device);
    return put_text(call.gpu->name, name, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    HANDLE_CALL(device);
    if (!index) return NVML_ERROR_INVALID_ARGUMENT;
    *index = (unsigned int)(call.mig == NOT_MIG ? call.gpu_index : call.mig);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor) {
    GPU_CALL(device);
    if (!minor) return NVML_ERROR_INVALID_ARGUMENT;
    *minor = (unsigned int)call.gpu_index;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, struct pci_info *info) {
    GPU_CALL(device);
    if (!info) return NVML_ERROR_INVALID_ARGUMENT;
    memset(info, 0, sizeof *info);
    snprintf(info->bus_id, sizeof info->bus_id, "%s", call.gpu->bus);
    sscanf(call.gpu->bus, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    snprintf(info->bus_id_legacy, sizeof info->bus_id_legacy, "%04X:%02X:%02X.0", info->domain & 0xFFFF,
             info->bus & 0xFF, info->device & 0xFF);
    info->device_id = 0x233010DE; /* an H100 SXM5 */
    info->subsystem_id = 0x16C110DE;
    return NVML_SUCCESS;
}
