/* Power, energy and their limits: single values, field values, ring buffers. None exists per MIG slice. */
#include <math.h>

#include "call.h"
#include "sensor.h"

enum { POWER_RING = 120 };

static unsigned int milliwatts(double power_w) { return (unsigned int)floor(1000 * power_w + 0.5); }

static double max_limit_w(const struct gpu *gpu) {
    return gpu->max_limit_w > 0 ? gpu->max_limit_w : gpu->limit_w;
}

static double min_limit_w(const struct gpu *gpu) { return floor(max_limit_w(gpu) / 3.5); }

#define MILLIWATT_FUNCTION(name, value_mw)                           \
    EXPORT nvmlReturn_t name(nvmlDevice_t device, unsigned int *mw) { \
        GPU_CALL(device);                                            \
        if (!mw) return NVML_ERROR_INVALID_ARGUMENT;                 \
        *mw = (value_mw);                                            \
        return NVML_SUCCESS;                                         \
    }

MILLIWATT_FUNCTION(nvmlDeviceGetEnforcedPowerLimit, milliwatts(call.gpu->limit_w))
MILLIWATT_FUNCTION(nvmlDeviceGetPowerManagementLimit, milliwatts(call.gpu->limit_w))
MILLIWATT_FUNCTION(nvmlDeviceGetPowerManagementDefaultLimit, milliwatts(max_limit_w(call.gpu)))
MILLIWATT_FUNCTION(nvmlDeviceGetPowerUsage, sensor_has_average(call.gpu)
                                                ? sensor_average_mw(call.gpu, SCOPE_GPU, call.now_s)
                                                : sensor_instant_mw(call.gpu, SCOPE_GPU, call.now_s))

EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t device, unsigned int *min_mw,
                                                                 unsigned int *max_mw) {
    GPU_CALL(device);
    if (!min_mw || !max_mw) return NVML_ERROR_INVALID_ARGUMENT;
    *min_mw = milliwatts(min_limit_w(call.gpu));
    *max_mw = milliwatts(max_limit_w(call.gpu));
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *mj) {
    GPU_CALL(device);
    if (!mj) return NVML_ERROR_INVALID_ARGUMENT;
    if (!sensor_has_counter(call.gpu)) return NVML_ERROR_NOT_SUPPORTED;
    *mj = sensor_counter_mj(call.gpu, SCOPE_GPU, call.now_s);
    return NVML_SUCCESS;
}

static nvmlReturn_t put_uint(struct field_value *field, bool supported, unsigned int value) {
    if (!supported) return NVML_ERROR_NOT_SUPPORTED;
    field->value_type = VALUE_UINT;
    field->value.uint = value;
    return NVML_SUCCESS;
}

static nvmlReturn_t put_counter(struct field_value *field, bool supported, unsigned long long count) {
    if (!supported) return NVML_ERROR_NOT_SUPPORTED;
    field->value_type = VALUE_ULONGLONG;
    field->value.ulonglong = count;
    return NVML_SUCCESS;
}

static nvmlReturn_t answer_field(const struct call *call, struct field_value *field) {
    const struct gpu *gpu = call->gpu;
    char id[16];
    snprintf(id, sizeof id, "%u", field->field_id);
    double fault = config_rule(call->config, RULE_FIELD_FAULT, id, call->gpu_index, call->now_s);
    if (fault != 0) return (nvmlReturn_t)fault;

    unsigned int scope = field->scope_id;
    bool scoped = sensor_has_scope(gpu, scope);
    bool counted = sensor_has_counter(gpu), averaged = sensor_has_average(gpu);
    if (field->field_id >= FIELD_THROTTLED && field->field_id < FIELD_THROTTLED_END) {
        unsigned int reason = field->field_id - FIELD_THROTTLED;
        bool offered = gpu->throttled[reason] >= 0;
        return put_counter(field, offered, offered ? sensor_throttled_ns(gpu, reason, call->now_s) : 0);
    }
    switch (field->field_id) {
    case FIELD_MEMORY_TEMPERATURE:
        return put_uint(field, true, (unsigned int)gpu->temperature_c);
    case FIELD_TOTAL_ENERGY:
        return put_counter(field, counted, sensor_counter_mj(gpu, SCOPE_GPU, call->now_s));
    case FIELD_ENERGY:
        return put_counter(field, scoped && counted, sensor_counter_mj(gpu, scope, call->now_s));
    case FIELD_POWER_AVERAGE:
        return put_uint(field, scoped && averaged, sensor_average_mw(gpu, scope, call->now_s));
    case FIELD_POWER_INSTANT:
        return put_uint(field, scoped, sensor_instant_mw(gpu, scope, call->now_s));
    case FIELD_POWER_MIN_LIMIT:
        return put_uint(field, scoped, milliwatts(min_limit_w(gpu)));
    case FIELD_POWER_MAX_LIMIT:
    case FIELD_POWER_DEFAULT_LIMIT:
        return put_uint(field, scoped, milliwatts(max_limit_w(gpu)));
    case FIELD_POWER_CURRENT_LIMIT:
    case FIELD_POWER_REQUESTED_LIMIT:
        return put_uint(field, scoped, milliwatts(gpu->limit_w));
    default:
        return NVML_ERROR_NOT_SUPPORTED;
    }
}

EXPORT nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, struct field_value *fields) {
    GPU_CALL(device);
    if (!fields || count <= 0) return NVML_ERROR_INVALID_ARGUMENT;
    for (int at = 0; at < count; at++) {
        fields[at].timestamp_us = (int64_t)(1e6 * call_clock_s(CLOCK_REALTIME));
        fields[at].latency_us = 0;
        fields[at].value.ulonglong = 0;
        fields[at].status = answer_field(&call, &fields[at]);
    }
    return NVML_SUCCESS;
}

static nvmlReturn_t one_sample(const struct gpu *gpu, int type, double at_s, unsigned int *value) {
    bool has_module = sensor_has_scope(gpu, SCOPE_MODULE);
    if (type == SAMPLES_POWER) *value = sensor_instant_mw(gpu, SCOPE_GPU, at_s);
    else if (type == SAMPLES_MODULE_POWER && has_module) *value = sensor_instant_mw(gpu, SCOPE_MODULE, at_s);
    else if (type == SAMPLES_UTILIZATION && gpu->mig == 0) *value = (unsigned int)gpu->utilization;
    else return NVML_ERROR_NOT_SUPPORTED;
    return NVML_SUCCESS;
}

/* The ring holds one value per update of the instantaneous sensor; without room the call tells its size. */
EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, int type, unsigned long long last_seen_us,
                                         int *value_type, unsigned int *count, struct sample *samples) {
    GPU_CALL(device);
    if (!value_type || !count) return NVML_ERROR_INVALID_ARGUMENT;
    unsigned int value, written = 0, room = samples ? *count : POWER_RING;
    double period_s = call.gpu->instant_period_s > 0 ? call.gpu->instant_period_s : 0.1;
    double newest = floor(sensor_last_tick_s(call.now_s, 0, period_s) / period_s + 0.5);
    *value_type = VALUE_UINT;
    for (int age = POWER_RING - 1; age >= 0 && written < room; age--) {
        double at_s = (newest - age) * period_s; /* by its number: the same sample, the same time */
        nvmlReturn_t status = one_sample(call.gpu, type, at_s, &value);
        if (status) return status;
        unsigned long long at_us = call_wall_us(at_s);
        if (at_s < 0 || at_us <= last_seen_us) continue;
        if (samples) samples[written] = (struct sample){.timestamp_us = at_us, .value.uint = value};
        written++;
    }
    if (!written) return NVML_ERROR_NOT_FOUND;
    *count = samples ? written : POWER_RING;
    return NVML_SUCCESS;
}

/* What needs root. The settings after the device are not looked at, so they are not declared. */
#define ROOT_FUNCTION(name)                          \
    EXPORT nvmlReturn_t name(nvmlDevice_t device) {  \
        GPU_CALL(device);                            \
        return NVML_ERROR_NO_PERMISSION;             \
    }

ROOT_FUNCTION(nvmlDeviceSetPersistenceMode)
ROOT_FUNCTION(nvmlDeviceSetPowerManagementLimit)
ROOT_FUNCTION(nvmlDeviceSetGpuLockedClocks)
ROOT_FUNCTION(nvmlDeviceSetMemoryLockedClocks)
ROOT_FUNCTION(nvmlDeviceResetGpuLockedClocks)
ROOT_FUNCTION(nvmlDeviceResetMemoryLockedClocks)
