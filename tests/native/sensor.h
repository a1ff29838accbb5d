/* What the instruments of a GPU show of its true power: counter, averages, ring buffers. */
#ifndef FAKE_NVML_SENSOR_H
#define FAKE_NVML_SENSOR_H

#include <stdbool.h>

#include "config.h"

bool sensor_has_scope(const struct gpu *gpu, unsigned int scope);
bool sensor_has_counter(const struct gpu *gpu);
bool sensor_has_average(const struct gpu *gpu);

/* Millijoules of the energy counter as last refreshed at or before now_s. */
unsigned long long sensor_counter_mj(const struct gpu *gpu, unsigned int scope, double now_s);

/* Milliwatts as last updated at or before now_s. */
unsigned int sensor_average_mw(const struct gpu *gpu, unsigned int scope, double now_s);
unsigned int sensor_instant_mw(const struct gpu *gpu, unsigned int scope, double now_s);

/* Nanoseconds since the last restart of the counters in which it was throttled for the reason of this number. */
unsigned long long sensor_throttled_ns(const struct gpu *gpu, unsigned int reason, double now_s);

/* Latest phase_s + k * period_s not later than at_s; at_s itself when period_s is 0. */
double sensor_last_tick_s(double at_s, double phase_s, double period_s);

#endif
