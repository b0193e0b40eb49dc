/*
 * Paths of keys in a file: "flags.plugin.passDeviceSpecs". The empty path is the file itself.
 */
#pragma once

#include <string.h>

/* The last part of `path` when the rest of it is `parent`, else NULL. */
static inline const char *key_leaf_under(const char *path, const char *parent)
{
    size_t len = strlen(parent);

    if (strncmp(path, parent, len) != 0 || (len > 0 && path[len] != '.'))
        return NULL;
    const char *leaf = path + len + (len > 0);
    return *leaf && !strchr(leaf, '.') ? leaf : NULL;
}
