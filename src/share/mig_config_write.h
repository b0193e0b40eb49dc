/*
 * A file of MIG configurations as text, byte for byte as NVIDIA's partition tool prints one
 * (spec/mig §4.8, §4.10): keys in YAML's natural order or in JSON's byte order, filters and device
 * lists on one line in YAML, two spaces for each level, and no newline at the end of JSON.
 *
 * Of a filter only its text counts, of a count only name and number. The order in which
 * configurations and counts are given does not matter; that of entries does.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "share/mig_config.h"
#include "share/mig_documents.h"

/* The two commands that print such a file do it in slightly different ways. */
enum mig_config_hand {
    MIG_HAND_EXPORT,   /* a filter that is alone is no list */
    MIG_HAND_GENERATE, /* filters are a list; in JSON, MIG off has `mig-devices: null` */
};

/* -ENOMEM, -EFBIG. */
[[nodiscard]] int mig_config_write(const struct mig_config_file *file,
                                   enum mig_document_format format, enum mig_config_hand hand,
                                   struct buf *out, struct err *err);

/* One configuration below `mig-configs:`, for who prints the lines around it. -ENOMEM. */
[[nodiscard]] int mig_config_write_yaml(const struct mig_config *config, enum mig_config_hand hand,
                                        struct buf *out, struct err *err);

/* The order of keys in YAML as Go's yaml library has it: numbers by value, 1g.5gb before 1g.10gb,
 * letters after anything else. As strcmp. */
int mig_config_key_order(const char *a, const char *b);
