/*
 * The `sharing:` part of a config file (spec/device-plugin §2.4 – §2.6), for the files of config
 * only. Reading it follows upstream's decoder key by key, so that the first complaint is upstream's
 * first complaint; settling it decides what is in force.
 */
#pragma once

#include "share/config.h"
#include "share/finding.h"

/* One item of `resources:` as the file has it. */
struct sharing_item {
    struct shared_resource resource; /* rename: as given, with the prefix; NULL: not given */
    struct place devices, rename;    /* of the values; 0:0: not given */
};

/* `timeSlicing:` or `mps:`. */
struct sharing_list {
    bool present;
    struct place place;
    bool rename_by_default;
    bool fail_given, fail; /* failRequestsGreaterThanOne */
    size_t n_items;
    struct sharing_item *items;
};

struct sharing_file {
    struct sharing_list time_slicing, mps;
    bool per_device;
    struct place per_device_place;
};

/* Reads the value of `sharing:`, which must be a map. */
void config_sharing_read(struct findings *findings, const struct value *map,
                         struct sharing_file *ret);

/* In config_settle.c. What is in force: mps before timeSlicing, renames and devices stripped or
 * honoured, one entry for each resource unless sharing.perDevice. Entries without a proper name
 * are left out. */
void config_sharing_settle(struct findings *findings, const struct sharing_file *file,
                           struct sharing *ret);

/* A resource name with its prefix and upstream's checks; NULL (and a finding) when it is none. */
const char *config_resource_name(struct findings *findings, const struct value *value);
