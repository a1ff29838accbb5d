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

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t slice, struct device_attributes *attributes) {
    HANDLE_CALL(slice);
    if (!attributes) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.mig == NOT_MIG) return NVML_ERROR_NOT_SUPPORTED;
    const struct mig_slice *told = &call.gpu->slices[call.mig];
    *attributes = (struct device_attributes){
        .gpu_slices = told->gpu_slices,
        .compute_slices = told->compute_slices,
        .memory_mib = told->memory_bytes >> 20,
    };
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int profile,
                                                        struct profile_info *info) {
    static const unsigned int slices[] = {1, 2, 3, 4, 7, 8, 6}; /* NVML_GPU_INSTANCE_PROFILE_* */
    GPU_CALL(device);
    if (!info || profile >= sizeof slices / sizeof *slices) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.gpu->mig == 0 || slices[profile] > call.gpu->largest_profile) return NVML_ERROR_NOT_SUPPORTED;
    *info = (struct profile_info){.id = profile, .slices = slices[profile]};
    return NVML_SUCCESS;
}
