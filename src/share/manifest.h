/*
 * A file for `tranche check`: what it is, and everything that is wrong with it. It may be
 *
 *     a configuration of the device plugin and feature discovery   share/config.h
 *     a file of MIG configurations                                 share/mig_config.h
 *     hooks or a checkpoint of the MIG partition tool              share/mig_documents.h
 *     Kubernetes objects, in one document or several, also in a List:
 *         ConfigMap      each entry that looks like one of those above is checked as such, and
 *                        places are those in the outer file where its text stands there as it is
 *         ClusterPolicy  share/policy_check.h; and that the ConfigMaps it names have the keys it
 *                        names, when they are in the same file
 *         others         nothing but that they are objects
 *
 * All lives in the arena of the findings.
 */
#pragma once

#include "share/finding.h"

enum {
    MANIFEST_MAX_BYTES = 4 << 20,
    MANIFEST_MAX_NODES = 300000,      /* a dump of a small cluster */
    MANIFEST_ARENA_BYTES = 256 << 20, /* two readings of that, and of the texts inside */
    MANIFEST_MAX_DEPTH = 8,           /* Lists inside Lists */
    MANIFEST_MAX_SUBJECTS = 100       /* as many as anyone reads */
};

/* One thing that was recognised. */
struct manifest_subject {
    struct place place;
    const char *what; /* "ConfigMap time-slicing-config, entry any: device plugin configuration" */
};

struct manifest {
    struct manifest_subject *subjects;
    size_t n_subjects;
};

/* The number of errors among the findings, which are in order of place; or -ENOMEM. */
[[nodiscard]] int manifest_check(struct span text, struct findings *findings, struct manifest *ret,
                                 struct err *err);
