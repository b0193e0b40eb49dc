/*
 * Unix stream sockets and the files that stand for them.
 *
 * Every descriptor is non-blocking and close-on-exec and belongs to the caller. A path may be at
 * most SOCK_MAX_PATH bytes long, which the kernel's struct sockaddr_un dictates; a longer one
 * fails with -ENAMETOOLONG and a sentence that names both lengths.
 */
#pragma once

#include <sys/types.h>

#include "base/base.h"
#include "base/err.h"

#define SOCK_MAX_PATH 107

/* Which file it is, so that a socket that somebody replaced under the same name can be told. */
struct sock_id {
    dev_t dev;
    ino_t ino;
    int64_t made_ns; /* change time: file systems give inode numbers out again */
};

struct sock_listen {
    unsigned mode;     /* of the file; 0 means 0600 */
    int backlog;       /* 0 means 64 */
    bool replace_live; /* take the path over even from somebody who still listens on it */
};

/*
 * Listens on path. A socket file that nobody listens on is removed first; anything else in the
 * way is left alone: -EEXIST for a file that is not a socket, -EADDRINUSE for a live socket. The
 * file has its mode before the first peer can connect. `how` may be NULL. *ret_id is optional.
 */
[[nodiscard]] int sock_listen(const char *path, const struct sock_listen *how, int *ret_fd,
                              struct sock_id *ret_id, struct err *err);

/* Removes the file if it is still the one of this id; success also when it is not. */
void sock_unlisten(const char *path, const struct sock_id *id);

/* A peer on a waiting queue: -EAGAIN when there is none (or it went away again). */
[[nodiscard]] int sock_accept(int listener, int *ret_fd, struct err *err);

/* Never waits: -ENOENT, -ECONNREFUSED, -EACCES, -EAGAIN (its backlog is full), … */
[[nodiscard]] int sock_connect(const char *path, int *ret_fd, struct err *err);

/* -ENOENT; -ENOTSOCK when the file is something else. */
[[nodiscard]] int sock_identify(const char *path, struct sock_id *ret, struct err *err);
static inline bool sock_same(const struct sock_id *a, const struct sock_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->made_ns == b->made_ns;
}

/* Who connected, as the kernel knows it (SO_PEERCRED). */
struct sock_peer {
    pid_t pid; /* 0 when it is outside our pid namespace */
    uid_t uid;
    gid_t gid;
};
[[nodiscard]] int sock_peer(int fd, struct sock_peer *ret, struct err *err);
