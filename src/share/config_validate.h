/*
 * The rules about option values, in upstream's order (spec/device-plugin §2.7), and the words that
 * option values may be. For the files of config only.
 */
#pragma once

#include "share/config_options.h"

struct validation {
    struct findings *findings;
    const struct settings *settings;
    const struct sharing *sharing;
    enum program program;
    bool nvml_found;
    bool file_only; /* nothing is known of flags and variables: skip what they may set right */
};

void config_validate(const struct validation *validation);

/* The index of a word among the names of an enum, or -1. */
int config_word(const char *word, const char *const *names, size_t n_names);

extern const char *const device_id_strategy_names[DEVICE_ID_N];
extern const char *const allocation_policy_names[POLICY_N];

/* The bit of a strategy; 0: none. */
unsigned config_list_strategy(const char *word);
