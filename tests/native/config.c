/*
 * Reads the configuration file. '#' starts a comment, "..." quotes a word with blanks; N is a GPU index,
 * N|* a GPU index or every call; times T are seconds on the file's clock; a window holds for T0 <= t < T1.
 *
 *   driver VERSION | nvml VERSION | cuda NUMBER
 *   clock boottime | clock virtual T
 *   generation G
 *   gpu N KEY VALUE ...            keys: the table below, and uuid name bus usage (average|instant)
 *   wave N T const W
 *   wave N T square PERIOD_S DUTY HIGH_W LOW_W
 *   wave N T ramp FROM_W TO_W DURATION_S
 *   restart N T | freeze N T0 T1 | jump N T MJ | forbid N
 *   fault SYMBOL|* N|* CODE [T0 T1]
 *   field_fault FIELD_ID N|* CODE [T0 T1]
 *   latency SYMBOL|* N|* SECONDS [T0 T1]
 *   process N PID MEMORY_BYTES [SM_PERCENT [T0 T1 [GI CI]]]
 *   mig N SLICE GI CI UUID MEMORY_BYTES [GPU_SLICES COMPUTE_SLICES]
 */
#include "config.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

enum { MAX_WORDS = 96 };

struct line {
    int count;
    char *words[MAX_WORDS];
    bool bad;
};

static const struct {
    const char *key;
    size_t offset;
} gpu_numbers[] = {
#define NUMBER(key) {#key, offsetof(struct gpu, key)}
    NUMBER(arch), NUMBER(limit_w), NUMBER(max_limit_w), NUMBER(idle_w),
    NUMBER(memory_total_bytes), NUMBER(memory_used_bytes),
    NUMBER(counter_period_s), NUMBER(counter_phase_s), NUMBER(counter_gain), NUMBER(base_mj),
    NUMBER(power_gain), NUMBER(average_window_s), NUMBER(average_period_s),
    NUMBER(instant_window_s), NUMBER(instant_period_s),
    NUMBER(scopes), NUMBER(memory_share), NUMBER(module_extra_w), NUMBER(mig), NUMBER(largest_profile),
    NUMBER(utilization), NUMBER(temperature_c), NUMBER(reasons),
#undef NUMBER
#define THROTTLED(reason, at) {"throttled_" #reason, offsetof(struct gpu, throttled[at])}
    THROTTLED(power, 0), THROTTLED(thermal, 1), THROTTLED(sync_boost, 2),
    THROTTLED(board_limit, 3), THROTTLED(low_utilization, 4), THROTTLED(reliability, 5),
#undef THROTTLED
};

static void gpu_defaults(struct gpu *gpu, int index) {
    memset(gpu, 0, sizeof *gpu);
    snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-00000000-0000-4000-8000-%012d", index);
    snprintf(gpu->name, sizeof gpu->name, "NVIDIA H100 80GB HBM3");
    snprintf(gpu->bus, sizeof gpu->bus, "00000000:%02X:00.0", index + 1);
    gpu->arch = 9;
    gpu->limit_w = 700;
    gpu->idle_w = 70;
    gpu->memory_total_bytes = 85899345920.0;
    gpu->counter_period_s = 0.1;
    gpu->counter_gain = 1;
    gpu->power_gain = 1;
    gpu->average_window_s = 1;
    gpu->average_period_s = 0.1;
    gpu->instant_window_s = 0.025;
    gpu->instant_period_s = 0.1;
    gpu->scopes = 1 << SCOPE_GPU;
    gpu->memory_share = 0.25;
    gpu->temperature_c = 40;
    gpu->largest_profile = 7;
}

/* Room for one more zeroed item. The array doubles when its length is a power of two. */
static void *append(void **items, size_t *count, size_t size) {
    if ((*count & (*count - 1)) == 0) {
        void *grown = realloc(*items, (*count ? 2 * *count : 1) * size);
        if (!grown) abort();
        *items = grown;
    }
    void *item = (char *)*items + (*count)++ * size;
    memset(item, 0, size);
    return item;
}

static void split(char *text, struct line *line) {
    line->count = 0;
    line->bad = false;
    for (;;) {
        while (isspace((unsigned char)*text)) text++;
        if (!*text || *text == '#') return;
        if (line->count == MAX_WORDS) {
            line->bad = true;
            return;
        }
        bool quoted = *text == '"';
        char *word = text += quoted;
        while (*text && (quoted ? *text != '"' : !isspace((unsigned char)*text))) text++;
        if (quoted && !*text) line->bad = true;
        if (*text) *text++ = '\0';
        line->words[line->count++] = word;
    }
}

static const char *word(struct line *line, int at) {
    if (at < line->count) return line->words[at];
    line->bad = true;
    return "";
}

static double number(struct line *line, int at) {
    const char *text = word(line, at);
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end) line->bad = true;
    return value;
}

static double number_or(struct line *line, int at, double otherwise) {
    return at < line->count ? number(line, at) : otherwise;
}

/* Index of the GPU a line speaks of; a GPU exists as soon as any line names it. */
static int gpu_index(struct config *config, struct line *line, int at) {
    double index = number(line, at);
    if (!(index >= 0 && index < MAX_GPUS)) line->bad = true;
    if (line->bad) return 0;
    if (config->gpu_count <= (int)index) config->gpu_count = (int)index + 1;
    return (int)index;
}

static void copy(char *target, size_t size, const char *text, struct line *line) {
    if ((size_t)snprintf(target, size, "%s", text) >= size) line->bad = true;
}

static void parse_gpu(struct config *config, struct line *line) {
    struct gpu *gpu = &config->gpus[gpu_index(config, line, 1)];
    for (int at = 2; at < line->count && !line->bad; at += 2) {
        const char *key = line->words[at], *text = word(line, at + 1);
        size_t row = 0, rows = sizeof gpu_numbers / sizeof *gpu_numbers;
        while (row < rows && strcmp(gpu_numbers[row].key, key)) row++;
        if (row < rows) *(double *)((char *)gpu + gpu_numbers[row].offset) = number(line, at + 1);
        else if (!strcmp(key, "uuid")) copy(gpu->uuid, sizeof gpu->uuid, text, line);
        else if (!strcmp(key, "name")) copy(gpu->name, sizeof gpu->name, text, line);
        else if (!strcmp(key, "bus")) copy(gpu->bus, sizeof gpu->bus, text, line);
        else if (!strcmp(key, "usage") && !strcmp(text, "instant")) gpu->usage_is_instant = true;
        else if (!strcmp(key, "usage") && !strcmp(text, "average")) gpu->usage_is_instant = false;
        else line->bad = true;
    }
}

static void parse_wave(struct config *config, struct line *line) {
    struct gpu *gpu = &config->gpus[gpu_index(config, line, 1)];
    struct wave wave = {.start_s = number(line, 2)};
    const char *kind = word(line, 3);
    if (!strcmp(kind, "const")) {
        wave.kind = WAVE_CONST;
        wave.first_w = number(line, 4);
    } else if (!strcmp(kind, "square")) {
        wave.kind = WAVE_SQUARE;
        wave.span_s = number(line, 4);
        wave.duty = number(line, 5);
        wave.first_w = number(line, 6);
        wave.second_w = number(line, 7);
        if (!(wave.span_s > 0)) line->bad = true;
    } else if (!strcmp(kind, "ramp")) {
        wave.kind = WAVE_RAMP;
        wave.first_w = number(line, 4);
        wave.second_w = number(line, 5);
        wave.span_s = number(line, 6);
    } else {
        line->bad = true;
    }
    if (gpu->wave_count && gpu->waves[gpu->wave_count - 1].start_s > wave.start_s) line->bad = true;
    if (!line->bad) *(struct wave *)append((void **)&gpu->waves, &gpu->wave_count, sizeof wave) = wave;
}

static void parse_event(struct config *config, struct line *line, enum event_kind kind) {
    struct gpu *gpu = &config->gpus[gpu_index(config, line, 1)];
    struct event event = {.kind = kind, .start_s = number(line, 2)};
    if (kind == EVENT_FREEZE) event.end_s = number(line, 3);
    if (kind == EVENT_JUMP) event.jump_mj = number(line, 3);
    if (!line->bad) *(struct event *)append((void **)&gpu->events, &gpu->event_count, sizeof event) = event;
}

static void parse_rule(struct config *config, struct line *line, enum rule_kind kind) {
    struct rule rule = {.kind = kind};
    copy(rule.target, sizeof rule.target, word(line, 1), line);
    rule.gpu = strcmp(word(line, 2), "*") ? gpu_index(config, line, 2) : EVERY_GPU;
    rule.value = number(line, 3);
    rule.start_s = number_or(line, 4, -INFINITY);
    rule.end_s = line->count > 4 ? number(line, 5) : INFINITY;
    if (!line->bad) *(struct rule *)append((void **)&config->rules, &config->rule_count, sizeof rule) = rule;
}

static void parse_process(struct config *config, struct line *line) {
    struct gpu *gpu = &config->gpus[gpu_index(config, line, 1)];
    struct process process = {
        .pid = (unsigned int)number(line, 2),
        .memory_bytes = strtoull(word(line, 3), NULL, 0), /* 64 bits: ULLONG_MAX means "not available" */
        .sm_percent = (unsigned int)number_or(line, 4, 0),
        .start_s = number_or(line, 5, -INFINITY),
        .end_s = line->count > 5 ? number(line, 6) : INFINITY,
        .gpu_instance = (unsigned int)number_or(line, 7, NO_INSTANCE),
        .compute_instance = (unsigned int)(line->count > 7 ? number(line, 8) : NO_INSTANCE),
    };
    if (line->bad) return;
    *(struct process *)append((void **)&gpu->processes, &gpu->process_count, sizeof process) = process;
}

static void parse_mig(struct config *config, struct line *line) {
    struct gpu *gpu = &config->gpus[gpu_index(config, line, 1)];
    double slice = number(line, 2);
    struct mig_slice parsed = {
        .present = true,
        .gpu_instance = (unsigned int)number(line, 3),
        .compute_instance = (unsigned int)number(line, 4),
        .memory_bytes = (unsigned long long)number(line, 6),
        .gpu_slices = (unsigned int)number_or(line, 7, 0),
        .compute_slices = (unsigned int)(line->count > 7 ? number(line, 8) : 0),
    };
    copy(parsed.uuid, sizeof parsed.uuid, word(line, 5), line);
    if (!(slice >= 0 && slice < MAX_MIG)) line->bad = true;
    if (!line->bad) gpu->slices[(int)slice] = parsed;
}

static void parse_clock(struct config *config, struct line *line) {
    config->clock_is_virtual = !strcmp(word(line, 1), "virtual");
    if (config->clock_is_virtual) config->virtual_s = number(line, 2);
    else if (strcmp(word(line, 1), "boottime")) line->bad = true;
}

static void parse(struct config *config, struct line *line) {
    const char *verb = line->words[0];
    char *driver = config->driver_version, *nvml = config->nvml_version;
    if (!strcmp(verb, "driver")) copy(driver, sizeof config->driver_version, word(line, 1), line);
    else if (!strcmp(verb, "nvml")) copy(nvml, sizeof config->nvml_version, word(line, 1), line);
    else if (!strcmp(verb, "cuda")) config->cuda_version = number(line, 1);
    else if (!strcmp(verb, "clock")) parse_clock(config, line);
    else if (!strcmp(verb, "generation")) config->generation = (int)number(line, 1);
    else if (!strcmp(verb, "gpu")) parse_gpu(config, line);
    else if (!strcmp(verb, "wave")) parse_wave(config, line);
    else if (!strcmp(verb, "restart")) parse_event(config, line, EVENT_RESTART);
    else if (!strcmp(verb, "freeze")) parse_event(config, line, EVENT_FREEZE);
    else if (!strcmp(verb, "jump")) parse_event(config, line, EVENT_JUMP);
    else if (!strcmp(verb, "forbid")) config->gpus[gpu_index(config, line, 1)].forbidden = !line->bad;
    else if (!strcmp(verb, "fault")) parse_rule(config, line, RULE_FAULT);
    else if (!strcmp(verb, "field_fault")) parse_rule(config, line, RULE_FIELD_FAULT);
    else if (!strcmp(verb, "latency")) parse_rule(config, line, RULE_LATENCY);
    else if (!strcmp(verb, "process")) parse_process(config, line);
    else if (!strcmp(verb, "mig")) parse_mig(config, line);
    else line->bad = true;
}

struct config *config_read(FILE *file) {
    struct config *config = calloc(1, sizeof *config);
    if (!config) abort();
    strcpy(config->driver_version, "575.57.08");
    strcpy(config->nvml_version, "13.575.57");
    config->cuda_version = 12090;
    for (int index = 0; index < MAX_GPUS; index++) gpu_defaults(&config->gpus[index], index);

    char *text = NULL;
    size_t size = 0;
    for (int at = 1; getline(&text, &size, file) >= 0; at++) {
        struct line line;
        split(text, &line);
        if (line.count && !line.bad) parse(config, &line);
        if (line.bad) {
            const char *verb = line.count ? line.words[0] : "";
            fprintf(stderr, "fake nvml: line %d ('%s ...') not understood, ignored\n", at, verb);
        }
    }
    free(text);
    return config;
}

void config_free(struct config *config) {
    if (!config) return;
    for (int index = 0; index < MAX_GPUS; index++) {
        free(config->gpus[index].waves);
        free(config->gpus[index].events);
        free(config->gpus[index].processes);
    }
    free(config->rules);
    free(config);
}

double config_rule(const struct config *config, enum rule_kind kind, const char *target, int gpu,
                   double now_s) {
    for (size_t at = 0; at < config->rule_count; at++) {
        const struct rule *rule = &config->rules[at];
        if (rule->kind != kind || (rule->gpu != EVERY_GPU && rule->gpu != gpu)) continue;
        if (strcmp(rule->target, "*") && strcmp(rule->target, target)) continue;
        if (rule->start_s <= now_s && now_s < rule->end_s) return rule->value;
    }
    return 0;
}
