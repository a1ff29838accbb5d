/*
 * Closed-form integrals. The order of operations is the same as in tests/drivers/waveform.py, and the
 * build forbids fused multiply-add, so that both give the same bits and counters can be compared exactly.
 */
#include "wave.h"

#include <math.h>

static double piece_power_w(const struct wave *wave, double x_s) {
    switch (wave->kind) {
    case WAVE_SQUARE: {
        double in_cycle_s = x_s - floor(x_s / wave->span_s) * wave->span_s;
        return in_cycle_s < wave->duty * wave->span_s ? wave->first_w : wave->second_w;
    }
    case WAVE_RAMP:
        if (x_s >= wave->span_s) return wave->second_w;
        return wave->first_w + (wave->second_w - wave->first_w) * (x_s / wave->span_s);
    default:
        return wave->first_w;
    }
}

/* Joules over the first x_s seconds of the piece. */
static double piece_energy_j(const struct wave *wave, double x_s) {
    switch (wave->kind) {
    case WAVE_SQUARE: {
        double high_s = wave->duty * wave->span_s;
        double cycles = floor(x_s / wave->span_s);
        double rest_s = x_s - cycles * wave->span_s;
        double cycle_j = high_s * wave->first_w + (wave->span_s - high_s) * wave->second_w;
        double rest_j = fmin(rest_s, high_s) * wave->first_w + fmax(rest_s - high_s, 0) * wave->second_w;
        return cycles * cycle_j + rest_j;
    }
    case WAVE_RAMP: {
        double rising_s = fmin(x_s, wave->span_s);
        double rise_w = wave->span_s > 0 ? (wave->second_w - wave->first_w) * (rising_s / wave->span_s) : 0;
        return rising_s * (wave->first_w + rise_w / 2) + (x_s - rising_s) * wave->second_w;
    }
    default:
        return x_s * wave->first_w;
    }
}

double wave_power_w(const struct wave *waves, size_t count, double idle_w, double at_s) {
    for (size_t at = count; at-- > 0;)
        if (waves[at].start_s <= at_s) return piece_power_w(&waves[at], at_s - waves[at].start_s);
    return idle_w;
}

double wave_energy_j(const struct wave *waves, size_t count, double idle_w, double begin_s, double end_s) {
    double total_j = 0;
    double idle_end_s = fmin(end_s, count ? waves[0].start_s : INFINITY);
    if (idle_end_s > begin_s) total_j += idle_w * (idle_end_s - begin_s);
    for (size_t at = 0; at < count; at++) {
        const struct wave *wave = &waves[at];
        double low_s = fmax(begin_s, wave->start_s);
        double high_s = fmin(end_s, at + 1 < count ? waves[at + 1].start_s : INFINITY);
        if (high_s > low_s)
            total_j +=
                piece_energy_j(wave, high_s - wave->start_s) - piece_energy_j(wave, low_s - wave->start_s);
    }
    return total_j;
}
