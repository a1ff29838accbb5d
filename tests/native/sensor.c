/* tests/drivers/nvml.py repeats the arithmetic of the counter, in the same order, to the same bits. */
#include "sensor.h"

#include <math.h>

#include "abi.h"

bool sensor_has_scope(const struct gpu *gpu, unsigned int scope) {
    return scope < SCOPE_COUNT && ((unsigned int)gpu->scopes >> scope & 1);
}

bool sensor_has_counter(const struct gpu *gpu) { return gpu->arch >= ARCH_VOLTA; }

/* GA100, of the Ampere generation, has none: it is configured with `usage instant`. */
bool sensor_has_average(const struct gpu *gpu) { return gpu->arch >= ARCH_AMPERE && !gpu->usage_is_instant; }

/* The power of a scope is share * (power of the GPU) + extra_w. */
static void scope_terms(const struct gpu *gpu, unsigned int scope, double *share, double *extra_w) {
    *share = scope == SCOPE_MEMORY ? gpu->memory_share : 1;
    *extra_w = scope == SCOPE_MODULE ? gpu->module_extra_w : 0;
}

static double scope_energy_j(const struct gpu *gpu, unsigned int scope, double begin_s, double end_s) {
    double share, extra_w;
    scope_terms(gpu, scope, &share, &extra_w);
    double energy_j = wave_energy_j(gpu->waves, gpu->wave_count, gpu->idle_w, begin_s, end_s);
    return share * energy_j + extra_w * (end_s - begin_s);
}

double sensor_last_tick_s(double at_s, double phase_s, double period_s) {
    if (!(period_s > 0)) return at_s;
    double ticks = floor((at_s - phase_s) / period_s);
    /* The division may round over a tick in either direction. */
    if (phase_s + (ticks + 1) * period_s <= at_s) ticks += 1;
    if (phase_s + ticks * period_s > at_s) ticks -= 1;
    return phase_s + ticks * period_s;
}

/* A frozen counter shows what it showed when it froze. */
static double shown_at_s(const struct gpu *gpu, double now_s) {
    for (size_t at = 0; at < gpu->event_count; at++) {
        const struct event *event = &gpu->events[at];
        if (event->kind == EVENT_FREEZE && event->start_s < now_s && now_s < event->end_s)
            return shown_at_s(gpu, event->start_s);
    }
    return now_s;
}

unsigned long long sensor_counter_mj(const struct gpu *gpu, unsigned int scope, double now_s) {
    double shown_s = shown_at_s(gpu, now_s), begin_s = 0, base_mj = gpu->base_mj;
    for (size_t at = 0; at < gpu->event_count; at++) {
        const struct event *event = &gpu->events[at];
        if (event->kind == EVENT_RESTART && event->start_s <= shown_s && event->start_s >= begin_s) {
            begin_s = event->start_s;
            base_mj = 0;
        }
    }
    double refreshed_s = sensor_last_tick_s(shown_s, gpu->counter_phase_s, gpu->counter_period_s);
    refreshed_s = fmax(refreshed_s, begin_s);
    double counter_mj = base_mj + 1000 * gpu->counter_gain * scope_energy_j(gpu, scope, begin_s, refreshed_s);
    for (size_t at = 0; at < gpu->event_count; at++) {
        const struct event *event = &gpu->events[at];
        if (event->kind == EVENT_JUMP && event->start_s <= shown_s && event->start_s >= begin_s)
            counter_mj += event->jump_mj;
    }
    /* A microjoule more, so that rounding does not take a millijoule off a round sum. */
    return counter_mj > 0 ? (unsigned long long)(counter_mj + 1e-3) : 0;
}

/* Mean power over window_s up to at_s in milliwatts, or the power at at_s for an empty window. */
static unsigned int mean_mw(const struct gpu *gpu, unsigned int scope, double at_s, double window_s) {
    double power_w;
    if (window_s > 0) {
        power_w = scope_energy_j(gpu, scope, at_s - window_s, at_s) / window_s;
    } else {
        double share, extra_w;
        scope_terms(gpu, scope, &share, &extra_w);
        power_w = share * wave_power_w(gpu->waves, gpu->wave_count, gpu->idle_w, at_s) + extra_w;
    }
    return (unsigned int)floor(1000 * gpu->power_gain * power_w + 0.5);
}

unsigned int sensor_average_mw(const struct gpu *gpu, unsigned int scope, double now_s) {
    return mean_mw(gpu, scope, sensor_last_tick_s(now_s, 0, gpu->average_period_s), gpu->average_window_s);
}

unsigned int sensor_instant_mw(const struct gpu *gpu, unsigned int scope, double now_s) {
    return mean_mw(gpu, scope, sensor_last_tick_s(now_s, 0, gpu->instant_period_s), gpu->instant_window_s);
}

unsigned long long sensor_throttled_ns(const struct gpu *gpu, unsigned int reason, double now_s) {
    double begin_s = 0;
    for (size_t at = 0; at < gpu->event_count; at++) {
        const struct event *event = &gpu->events[at];
        if (event->kind == EVENT_RESTART && event->start_s <= now_s) begin_s = fmax(begin_s, event->start_s);
    }
    return (unsigned long long)(1e9 * gpu->throttled[reason] * (now_s - begin_s));
}
