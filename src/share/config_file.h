/*
 * The config file as a whole (spec/device-plugin §2.4): sections of ordinary Go structs, whose keys
 * match in any letter case and are visited in byte order, and the parts with rules of their own.
 * For the files of config only.
 */
#pragma once

#include "share/config_options.h"
#include "share/config_sharing.h"

/* Reads a tree (null: an empty file): options that no flag or variable has set go to *settings. */
void config_file_read(struct findings *findings, const struct value *root,
                      struct settings *settings, struct sharing_file *ret_sharing);

/* The section that a misplaced key belongs in, such as "flags.plugin"; NULL: in none. */
const char *config_file_section_of(const char *key);
