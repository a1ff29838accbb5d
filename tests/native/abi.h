/*
 * The part of the NVML binary interface the stand-in answers: return codes, field ids and structs, laid
 * out as the ctypes definitions of nvidia-ml-py 13.615.71 (pynvml.py) expect them.
 */
#ifndef FAKE_NVML_ABI_H
#define FAKE_NVML_ABI_H

#include <stdint.h>

/* Only these symbols leave the library (it is built with hidden visibility). */
#define EXPORT __attribute__((visibility("default")))

typedef int nvmlReturn_t;
typedef void *nvmlDevice_t;

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
};

enum {
    FIELD_THROTTLED = 74, /* and five more: power, thermal, sync boost, board limit, low utilization, reliability */
    FIELD_THROTTLED_END = 80,
    FIELD_MEMORY_TEMPERATURE = 82,
    FIELD_TOTAL_ENERGY = 83,
    FIELD_POWER_AVERAGE = 185,
    FIELD_POWER_INSTANT = 186,
    FIELD_POWER_MIN_LIMIT = 187,
    FIELD_POWER_MAX_LIMIT = 188,
    FIELD_POWER_DEFAULT_LIMIT = 189,
    FIELD_POWER_CURRENT_LIMIT = 190,
    FIELD_ENERGY = 191,
    FIELD_POWER_REQUESTED_LIMIT = 192,
};

enum { SCOPE_GPU = 0, SCOPE_MODULE = 1, SCOPE_MEMORY = 2, SCOPE_GPU_BASE = 3, SCOPE_COUNT = 4 };
enum { SAMPLES_POWER = 0, SAMPLES_UTILIZATION = 1, SAMPLES_MODULE_POWER = 7 };
enum { VALUE_UINT = 1, VALUE_ULONGLONG = 3 };
enum { ARCH_VOLTA = 5, ARCH_TURING = 6, ARCH_AMPERE = 7, ARCH_ADA = 8 };

#define MEMORY_INFO_VERSION_2 0x02000028u
#define TEMPERATURE_VERSION_1 0x0100000Cu
#define NO_INSTANCE 0xFFFFFFFFu

union value {
    double real;
    unsigned int uint;
    unsigned long long ulonglong;
};

struct field_value {
    uint32_t field_id;
    uint32_t scope_id;
    int64_t timestamp_us;
    int64_t latency_us;
    int value_type;
    nvmlReturn_t status;
    union value value;
};

struct sample {
    unsigned long long timestamp_us;
    union value value;
};

struct pci_info {
    char bus_id_legacy[16];
    unsigned int domain;
    unsigned int bus;
    unsigned int device;
    unsigned int device_id;
    unsigned int subsystem_id;
    char bus_id[32];
};

struct memory_info {
    unsigned long long total_bytes;
    unsigned long long free_bytes;
    unsigned long long used_bytes;
};

struct memory_info_v2 {
    unsigned int version;
    unsigned long long total_bytes;
    unsigned long long reserved_bytes;
    unsigned long long free_bytes;
    unsigned long long used_bytes;
};

struct utilization {
    unsigned int gpu_percent;
    unsigned int memory_percent;
};

struct temperature {
    unsigned int version;
    unsigned int sensor;
    int celsius;
};

/* 24 bytes; some 535-era drivers answer the same symbol with eight bytes more. */
struct process_info {
    unsigned int pid;
    unsigned long long memory_bytes;
    unsigned int gpu_instance;
    unsigned int compute_instance;
#ifdef PROCESS_ABI_32
    unsigned long long protected_memory_bytes;
#endif
};

struct process_utilization {
    unsigned int pid;
    unsigned long long timestamp_us;
    unsigned int sm_percent;
    unsigned int memory_percent;
    unsigned int encoder_percent;
    unsigned int decoder_percent;
};

/* Of a MIG device: what it shares with others, and the slices of its GPU and compute instance. */
struct device_attributes {
    unsigned int multiprocessors;
    unsigned int shared_engines[5];
    unsigned int gpu_slices;
    unsigned int compute_slices;
    unsigned long long memory_mib;
};

struct profile_info {
    unsigned int id;
    unsigned int is_p2p_supported;
    unsigned int slices;
    unsigned int instances;
    unsigned int multiprocessors;
    unsigned int engines[5];
    unsigned long long memory_mib;
};

struct protected_memory {
    unsigned long long protected_kib;
    unsigned long long unprotected_kib;
};

_Static_assert(sizeof(struct field_value) == 40, "c_nvmlFieldValue_t");
_Static_assert(sizeof(struct sample) == 16, "c_nvmlSample_t");
_Static_assert(sizeof(struct pci_info) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(struct memory_info_v2) == (MEMORY_INFO_VERSION_2 & 0xFFFF), "c_nvmlMemory_v2_t");
_Static_assert(sizeof(struct temperature) == (TEMPERATURE_VERSION_1 & 0xFFFF), "c_nvmlTemperature_v1_t");
_Static_assert(sizeof(struct process_utilization) == 32, "c_nvmlProcessUtilizationSample_t");
_Static_assert(sizeof(struct device_attributes) == 40, "c_nvmlDeviceAttributes");
_Static_assert(sizeof(struct profile_info) == 48, "c_nvmlGpuInstanceProfileInfo_t");
#ifdef PROCESS_ABI_32
_Static_assert(sizeof(struct process_info) == 32, "535-era nvmlProcessInfo_t");
#else
_Static_assert(sizeof(struct process_info) == 24, "c_nvmlProcessInfo_v3_t");
#endif

#endif
