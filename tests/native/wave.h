/* The true power of a GPU over time, in closed form. tests/drivers/waveform.py does the same arithmetic. */
#ifndef FAKE_NVML_WAVE_H
#define FAKE_NVML_WAVE_H

#include <stddef.h>

enum wave_kind { WAVE_CONST, WAVE_SQUARE, WAVE_RAMP };

/*
 * One piece, in force from start_s to the start of the next.
 * const: first_w. square: first_w for `duty` of every span_s, then second_w. ramp: from first_w to
 * second_w over span_s, then second_w.
 */
struct wave {
    enum wave_kind kind;
    double start_s;
    double first_w;
    double second_w;
    double span_s;
    double duty;
};

double wave_power_w(const struct wave *waves, size_t count, double idle_w, double at_s);

/* Joules from begin_s to end_s; 0 when end_s is not later. */
double wave_energy_j(const struct wave *waves, size_t count, double idle_w, double begin_s, double end_s);

#endif
