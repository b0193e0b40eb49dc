/*
 * What a container needs of the driver besides device nodes, as it lies below a driver root: the
 * libraries of this version, the links that belong to them, programs, firmware, sockets
 * (spec/device-plugin §4.7, spec/cdi §2.5, §2.6).
 *
 * Paths are resolved inside the root, so that an absolute link in a driver container's file system
 * stays in it. Everything found is told by the path it has in the root, which is the path it is to
 * have in the container. Lists are sorted.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"

enum { CDI_MAX_FILES = 4096 }; /* of one kind; a driver has a few hundred */

struct cdi_paths_list {
    size_t n;
    const char **items;
};

struct cdi_driver {
    struct cdi_paths_list files;        /* libraries, programs, firmware, configuration */
    struct cdi_paths_list sockets;      /* of daemons that programs in the container talk to */
    struct cdi_paths_list library_dirs; /* folders that hold some of the libraries */
    struct cdi_paths_list links;        /* "libcuda.so.570.124.06::/usr/lib64/libcuda.so.1" */
};

/* -ENOENT with upstream's sentence (`…libcuda.so.570.124.06: not found`) when the driver's library
 * is not there; -E2BIG above CDI_MAX_FILES; -ENOMEM. */
[[nodiscard]] int cdi_driver_look(const char *driver_root, const char *version, struct arena *arena,
                                  struct cdi_driver *ret, struct err *err);

/* A device node below a root; numbers are known when it is a character device there. */
struct cdi_node {
    const char *path; /* "/dev/nvidia0" */
    bool exists, known;
    unsigned major, minor, mode; /* mode: permission bits */
    gid_t gid;
};

/* `path` is borrowed. */
void cdi_node_look(int root, const char *path, struct cdi_node *ret);
/* The nodes in a folder whose names begin with a prefix, as paths, sorted. */
[[nodiscard]] int cdi_nodes_list(int root, const char *dir, const char *prefix, struct arena *arena,
                                 struct cdi_paths_list *ret, struct err *err);
/* Resolved inside the root; -1 with errno. */
int cdi_open_in(int root, const char *path, int flags);
