/* Which processes hold a device, and how much of its multiprocessors each kept busy. */
#include <math.h>

#include "call.h"

enum { UTILIZATION_RING = 72, SAMPLES_PER_SECOND = 6 };

static bool is_alive(const struct process *process, double at_s) {
    return process->start_s <= at_s && at_s < process->end_s;
}

static bool is_listed(const struct call *call, const struct process *process) {
    if (!is_alive(process, call->now_s)) return false;
    if (call->mig == NOT_MIG) return true;
    const struct mig_slice *slice = &call->gpu->slices[call->mig];
    return process->gpu_instance == slice->gpu_instance &&
           process->compute_instance == slice->compute_instance;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                            struct process_info *infos) {
    HANDLE_CALL(device);
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned int room = infos ? *count : 0, found = 0;
    for (size_t at = 0; at < call.gpu->process_count; at++) {
        const struct process *process = &call.gpu->processes[at];
        if (!is_listed(&call, process)) continue;
        if (found < room)
            infos[found] = (struct process_info){
                .pid = process->pid,
                .memory_bytes = process->memory_bytes,
                .gpu_instance = process->gpu_instance,
                .compute_instance = process->compute_instance,
            };
        found++;
    }
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned int *count,
                                                             struct process_info *infos) {
    (void)infos;
    HANDLE_CALL(device);
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

/*
 * The ring of the driver: at every sixth of a second one entry for each process that was busy, the newest
 * 72 entries in all, newest first. Returns how many of them are later than last_seen_us.
 */
static unsigned int read_ring(const struct call *call, unsigned long long last_seen_us,
                              struct process_utilization ring[UTILIZATION_RING]) {
    const struct gpu *gpu = call->gpu;
    unsigned int found = 0;
    double tick = floor(call->now_s * SAMPLES_PER_SECOND);
    for (int age = 0; age < UTILIZATION_RING; age++, tick--) {
        double at_s = tick / SAMPLES_PER_SECOND;
        unsigned long long at_us = call_wall_us(at_s);
        if (at_s < 0 || at_us <= last_seen_us) break;
        for (size_t at = 0; at < gpu->process_count; at++) {
            const struct process *process = &gpu->processes[at];
            if (!process->sm_percent || !is_alive(process, at_s)) continue;
            if (found == UTILIZATION_RING) return found;
            ring[found++] = (struct process_utilization){
                .pid = process->pid, .timestamp_us = at_us, .sm_percent = process->sm_percent};
        }
    }
    return found;
}

/* Without a buffer the call tells the size of the ring, so that samples which arrive in between still fit. */
EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, struct process_utilization *samples,
                                                    unsigned int *count, unsigned long long last_seen_us) {
    GPU_CALL(device);
    if (!count) return NVML_ERROR_INVALID_ARGUMENT;
    if (call.gpu->mig != 0) return NVML_ERROR_NOT_SUPPORTED;
    struct process_utilization ring[UTILIZATION_RING];
    unsigned int found = read_ring(&call, last_seen_us, ring);
    if (!found) return NVML_ERROR_NOT_FOUND;
    if (!samples || *count < found) {
        *count = UTILIZATION_RING;
        return NVML_ERROR_INSUFFICIENT_SIZE;
    }
    for (unsigned int at = 0; at < found; at++) samples[at] = ring[found - 1 - at]; /* oldest first */
    *count = found;
    return NVML_SUCCESS;
}

#ifdef PROCESS_ABI_32
/* nvitop takes it without nvmlDeviceGetRunningProcessDetailList as the mark of the 32-byte struct. */
EXPORT nvmlReturn_t nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t device,
                                                        struct protected_memory *memory) {
    GPU_CALL(device);
    if (!memory) return NVML_ERROR_INVALID_ARGUMENT;
    memory->protected_kib = 0;
    memory->unprotected_kib = (unsigned long long)(call.gpu->memory_total_bytes / 1024);
    return NVML_SUCCESS;
}
#endif
