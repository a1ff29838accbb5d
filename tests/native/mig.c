/* MIG: how a GPU is cut into slices, and which handle stands for what. */
#include "call.h"

EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending) {
    GPU_CALL(device);
    if (!current || !pending) return NVML_ERROR_INVALID_ARGUMENT;
    *current = *pending = call.gpu->mig != 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count) {
    GPU_CALL(device);
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = MAX_MIG;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                        nvmlDevice_t *slice) {
    GPU_CALL(device);
    if (!slice || index >= MAX_MIG) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.gpu->mig == 0 || !call.gpu->slices[index].present) return NVML_ERROR_NOT_FOUND;
    *slice = call_handle(call.gpu_index, (int)index);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig) {
    HANDLE_CALL(device);
    if (!is_mig) return NVML_ERROR_INVALID_ARGUMENT;
    *is_mig = call.mig != NOT_MIG;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t slice, nvmlDevice_t *device) {
    HANDLE_CALL(slice);
    if (!device || call.mig == NOT_MIG) return NVML_ERROR_INVALID_ARGUMENT;
    *device = call_handle(call.gpu_index, NOT_MIG);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t slice, unsigned int *id) {
    HANDLE_CALL(slice);
    if (!id) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.mig == NOT_MIG) return NVML_ERROR_NOT_SUPPORTED;
    *id = call.gpu->slices[call.mig].gpu_instance;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t slice, unsigned int *id) {
    HANDLE_CALL(slice);
    if (!id) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.mig == NOT_MIG) return NVML_ERROR_NOT_SUPPORTED;
    *id = call.gpu->slices[call.mig].compute_instance;
    return NVML_SUCCESS;
}
