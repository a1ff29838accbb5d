/* What the configuration file says, parsed. The grammar is in config.c. */
#ifndef FAKE_NVML_CONFIG_H
#define FAKE_NVML_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "wave.h"

enum { MAX_GPUS = 64, MAX_MIG = 7, THROTTLED_COUNT = 6, EVERY_GPU = -1, NO_GPU = -2 };

enum event_kind { EVENT_RESTART, EVENT_FREEZE, EVENT_JUMP };

struct event {
    enum event_kind kind;
    double start_s;
    double end_s;
    double jump_mj;
};

struct process {
    unsigned int pid;
    unsigned long long memory_bytes;
    unsigned int sm_percent;
    double start_s;
    double end_s;
    unsigned int gpu_instance;
    unsigned int compute_instance;
};

struct mig_slice {
    bool present;
    unsigned int gpu_instance;
    unsigned int compute_instance;
    unsigned long long memory_bytes;
    unsigned int gpu_slices; /* 0: not told */
    unsigned int compute_slices;
    char uuid[96];
};

/* Numbers are doubles throughout: one table parses them all, and each is cast where it is used. */
struct gpu {
    char uuid[96];
    char name[96];
    char bus[32];
    bool usage_is_instant;
    bool forbidden;
    double arch;
    double limit_w;
    double max_limit_w; /* 0: as limit_w */
    double idle_w;
    double memory_total_bytes;
    double memory_used_bytes;
    double counter_period_s;
    double counter_phase_s;
    double counter_gain;
    double base_mj;
    double power_gain;
    double average_window_s;
    double average_period_s;
    double instant_window_s;
    double instant_period_s;
    double scopes;
    double memory_share;
    double module_extra_w;
    double mig;
    double largest_profile; /* slices of the largest MIG profile; 0: not told */
    double utilization;
    double temperature_c;
    double reasons;
    double throttled[THROTTLED_COUNT]; /* part of the time, in the order of the field ids; below 0: not offered */
    struct wave *waves;
    size_t wave_count;
    struct event *events;
    size_t event_count;
    struct process *processes;
    size_t process_count;
    struct mig_slice slices[MAX_MIG];
};

enum rule_kind { RULE_FAULT, RULE_FIELD_FAULT, RULE_LATENCY };

/* "From start_s until end_s, `target` (a symbol, or a field id) of this GPU answers with `value`." */
struct rule {
    enum rule_kind kind;
    char target[64];
    int gpu;
    double value;
    double start_s;
    double end_s;
};

struct config {
    char driver_version[80];
    char nvml_version[80];
    double cuda_version;
    bool clock_is_virtual;
    double virtual_s;
    int generation;
    int gpu_count;
    struct gpu gpus[MAX_GPUS];
    struct rule *rules;
    size_t rule_count;
};

/* Never NULL; a line it does not understand is reported on stderr and skipped. */
struct config *config_read(FILE *file);
void config_free(struct config *config);

/* The value of the first rule that covers the call at now_s, else 0. */
double config_rule(const struct config *config, enum rule_kind kind, const char *target, int gpu,
                   double now_s);

#endif
