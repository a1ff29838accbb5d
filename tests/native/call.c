#include "call.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* All below is written under the lock. */
static struct config *config;
static struct stat config_seen;
static int config_fd = -1;
static int init_count;
static int init_generation;
static double wall_offset_s;

double call_clock_s(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Follows the file; false when there is none now (what was read last then stays in force). */
static bool follow_config(void) {
    const char *path = getenv("TRAINWATT_FAKE_NVML");
    struct stat now;
    if (!path || stat(path, &now)) return false;
    if (config && same_file(&now, &config_seen)) return true;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 0), "r");
    if (!file) {
        if (fd >= 0) close(fd);
        return false;
    }
    fstat(fd, &config_seen);
    struct config *fresh = config_read(file);
    fclose(file);
    config_free(config);
    config = fresh;
    /* The descriptor stays open so that the next file cannot get the inode number of this one: two files
     * written within one tick of the file system's clock would otherwise look the same. */
    if (config_fd >= 0) close(config_fd);
    config_fd = fd;
    return true;
}

static double now_s(void) {
    return config && config->clock_is_virtual ? config->virtual_s : call_clock_s(CLOCK_BOOTTIME);
}

/* Locks, and waits out the latency before anything is looked at: an answer tells of the time it is given. */
static struct call begin(const char *symbol, int gpu_index) {
    pthread_mutex_lock(&lock);
    follow_config();
    double wait_s = config ? config_rule(config, RULE_LATENCY, symbol, gpu_index, now_s()) : 0;
    if (wait_s > 0) {
        /* Unlocked, so that calls of other threads are not held up. */
        pthread_mutex_unlock(&lock);
        struct timespec wait = {.tv_sec = (time_t)wait_s, .tv_nsec = (long)(1e9 * (wait_s - floor(wait_s)))};
        while (nanosleep(&wait, &wait)) {
        }
        pthread_mutex_lock(&lock);
        follow_config();
    }
    return (struct call){.config = config, .now_s = now_s(), .gpu_index = gpu_index, .mig = NOT_MIG};
}

void call_end(struct call *call) {
    (void)call;
    pthread_mutex_unlock(&lock);
}

nvmlReturn_t call_fault(const struct call *call, const char *symbol, int gpu_index) {
    if (!call->config) return NVML_SUCCESS;
    return (nvmlReturn_t)config_rule(call->config, RULE_FAULT, symbol, gpu_index, call->now_s);
}

static bool is_stale(void) { return config->generation != init_generation; }

struct call call_for_library(const char *symbol, bool needs_init) {
    struct call call = begin(symbol, NO_GPU);
    call.status = call_fault(&call, symbol, NO_GPU);
    if (!call.status && needs_init && (!init_count || is_stale())) call.status = NVML_ERROR_UNINITIALIZED;
    return call;
}

struct call call_for_gpu(const char *symbol, unsigned int index) {
    int gpu_index = index < MAX_GPUS ? (int)index : NO_GPU;
    struct call call = begin(symbol, gpu_index);
    if (!init_count || is_stale()) call.status = NVML_ERROR_UNINITIALIZED;
    else if ((int)index < 0 || (int)index >= config->gpu_count) call.status = NVML_ERROR_INVALID_ARGUMENT;
    else if (config->gpus[index].forbidden) call.status = NVML_ERROR_NO_PERMISSION;
    else call.status = call_fault(&call, symbol, gpu_index);
    if (!call.status) call.gpu = &config->gpus[index];
    return call;
}

/* A handle is a number, never followed as a pointer: mark, generation, GPU, slice + 1. */
static const uintptr_t handle_mark = (uintptr_t)0x7A77 << 32;

nvmlDevice_t call_handle(int gpu_index, int mig) {
    uintptr_t generation = (uintptr_t)(init_generation & 0xFFFF);
    return (nvmlDevice_t)(handle_mark | generation << 16 | (uintptr_t)gpu_index << 8 | (uintptr_t)(mig + 1));
}

static bool slice_exists(int gpu_index, int mig) {
    return mig == NOT_MIG || (mig < MAX_MIG && config->gpus[gpu_index].slices[mig].present);
}

struct call call_for_handle(const char *symbol, nvmlDevice_t device) {
    uintptr_t bits = (uintptr_t)device;
    bool marked = bits >> 32 == handle_mark >> 32;
    int generation = (int)(bits >> 16 & 0xFFFF);
    int gpu_index = marked ? (int)(bits >> 8 & 0xFF) : NO_GPU;
    struct call call = begin(symbol, gpu_index);
    call.mig = marked ? (int)(bits & 0xFF) - 1 : NOT_MIG;
    if (!init_count) call.status = NVML_ERROR_UNINITIALIZED;
    else if (!marked) call.status = NVML_ERROR_INVALID_ARGUMENT;
    else if (is_stale() || generation != (init_generation & 0xFFFF)) call.status = NVML_ERROR_GPU_IS_LOST;
    else if (gpu_index >= config->gpu_count) call.status = NVML_ERROR_GPU_IS_LOST;
    else if (!slice_exists(gpu_index, call.mig)) call.status = NVML_ERROR_INVALID_ARGUMENT;
    else call.status = call_fault(&call, symbol, gpu_index);
    if (!call.status) call.gpu = &config->gpus[gpu_index];
    return call;
}

nvmlReturn_t call_init(void) {
    if (!follow_config()) return NVML_ERROR_DRIVER_NOT_LOADED;
    if (init_count++ == 0) {
        init_generation = config->generation;
        /* Fixed here: measured at every call, it would date the same sample differently each time. */
        wall_offset_s = call_clock_s(CLOCK_REALTIME) - call_clock_s(CLOCK_BOOTTIME);
    }
    return NVML_SUCCESS;
}

nvmlReturn_t call_shutdown(void) {
    if (!init_count) return NVML_ERROR_UNINITIALIZED;
    init_count--;
    return NVML_SUCCESS;
}

unsigned long long call_wall_us(double at_s) {
    return (unsigned long long)floor(1e6 * (at_s + wall_offset_s));
}
