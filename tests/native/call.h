/*
 * What every call goes through before it answers: one lock, the configuration as it is now, the clock,
 * latency, initialisation, validity of the handle, faults.
 */
#ifndef FAKE_NVML_CALL_H
#define FAKE_NVML_CALL_H

#include <time.h>

#include "abi.h"
#include "config.h"

enum { NOT_MIG = -1 };

/* A call in progress. It holds the lock until it goes out of scope. */
struct call {
    nvmlReturn_t status; /* what to answer at once, unless NVML_SUCCESS */
    const struct config *config;
    double now_s;
    const struct gpu *gpu; /* NULL in a call that names no GPU */
    int gpu_index;
    int mig; /* slice of a MIG handle, else NOT_MIG */
};

struct call call_for_library(const char *symbol, bool needs_init);
struct call call_for_gpu(const char *symbol, unsigned int index);
struct call call_for_handle(const char *symbol, nvmlDevice_t device);
void call_end(struct call *call);

#define OPEN_CALL(opened)                                              \
    struct call call __attribute__((cleanup(call_end))) = (opened);    \
    if (call.status != NVML_SUCCESS) return call.status

/* For functions of the library, of any handle, and of handles of whole GPUs only. */
#define LIBRARY_CALL() OPEN_CALL(call_for_library(__func__, true))
#define HANDLE_CALL(device) OPEN_CALL(call_for_handle(__func__, device))
#define GPU_CALL(device)  \
    HANDLE_CALL(device);  \
    if (call.mig != NOT_MIG) return NVML_ERROR_NOT_SUPPORTED

/* The rest needs the lock, that is, an open call. */
nvmlReturn_t call_init(void);
nvmlReturn_t call_shutdown(void);

/* The fault configured for `symbol` on this GPU, for functions that learn late which GPU it is. */
nvmlReturn_t call_fault(const struct call *call, const char *symbol, int gpu_index);
nvmlDevice_t call_handle(int gpu_index, int mig);

/* CLOCK_REALTIME microseconds of a moment of the configured clock, the same for the same moment. */
unsigned long long call_wall_us(double at_s);
/* Seconds of a clock of the kernel. */
double call_clock_s(clockid_t clock);

#endif
