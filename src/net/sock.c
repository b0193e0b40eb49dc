#include "net/sock.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static_assert(SOCK_MAX_PATH == sizeof(((struct sockaddr_un *)0)->sun_path) - 1);

enum { DEFAULT_MODE = 0600, DEFAULT_BACKLOG = 64 };

static int address(const char *path, struct sockaddr_un *ret, struct err *err)
{
    size_t len = strlen(path);

    if (len == 0)
        return err_set(err, EINVAL, "the path of a socket is empty");
    if (len > SOCK_MAX_PATH)
        return err_set(err, ENAMETOOLONG,
                       "%s: a socket's path can be %d bytes long, this one has %zu; choose a "
                       "shorter directory or name",
                       path, SOCK_MAX_PATH, len);
    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    memcpy(ret->sun_path, path, len);
    return 0;
}

static int new_socket(const char *path, int *ret, struct err *err)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return err_set(err, errno, "%s: cannot make a socket: %s", path, strerror(errno));
    *ret = fd;
    return 0;
}

int sock_connect(const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un addr;
    auto_close int fd = -1;
    int r = address(path, &addr, err);

    if (r == 0)
        r = new_socket(path, &fd, err);
    if (r < 0)
        return r;
    do {
        r = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
    } while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_set(err, errno, "%s: cannot connect: %s", path, strerror(errno));
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int identify(const char *path, struct sock_id *ret, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ENOTSOCK, "%s: is not a socket", path);
    *ret = (struct sock_id){
        .dev = st.st_dev,
        .ino = st.st_ino,
        .made_ns = st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec,
    };
    return 0;
}

int sock_identify(const char *path, struct sock_id *ret, struct err *err)
{
    return identify(path, ret, err);
}

/* 1 when somebody listens there, 0 when nobody does. */
static int somebody_listens(const char *path, struct err *err)
{
    auto_close int fd = -1;
    int r = sock_connect(path, &fd, err);

    if (r == 0 || r == -EAGAIN)
        return 1;
    return r == -ECONNREFUSED || r == -ENOENT ? 0 : r;
}

/* Makes way for a new socket file, but only where that hurts nobody. */
static int clear_path(const char *path, bool replace_live, struct err *err)
{
    struct sock_id id;
    int r = identify(path, &id, err);

    if (r == -ENOENT)
        return 0;
    if (r == -ENOTSOCK)
        return err_set(err, EEXIST, "%s: is in the way and is not a socket; it stays", path);
    if (r < 0)
        return r;
    if (!replace_live) {
        r = somebody_listens(path, err);
        if (r < 0)
            return r;
        if (r > 0)
            return err_set(err, EADDRINUSE, "%s: another process listens there", path);
    }
    if (unlink(path) < 0 && errno != ENOENT)
        return err_set(err, errno, "%s: cannot remove the old socket: %s", path, strerror(errno));
    return 0;
}

/* Linux gives the file the mode of the unbound socket, less the umask; chmod then adds what the
 * umask took. Nobody can connect before listen(). */
static int bind_and_listen(int fd, const char *path, mode_t mode, int backlog)
{
    struct sockaddr_un addr;

    if (address(path, &addr, NULL) < 0 || fchmod(fd, mode) < 0 ||
        bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    if (chmod(path, mode) < 0 || listen(fd, backlog) < 0) {
        int r = -errno;
        unlink(path);
        return r;
    }
    return 0;
}

int sock_listen(const char *path, const struct sock_listen *how, int *ret_fd,
                struct sock_id *ret_id, struct err *err)
{
    const struct sock_listen plain = {};
    struct sockaddr_un addr;
    struct sock_id id;
    auto_close int fd = -1;
    int r = address(path, &addr, err);

    how = how ? how : &plain;
    if (r == 0)
        r = clear_path(path, how->replace_live, err);
    if (r == 0)
        r = new_socket(path, &fd, err);
    if (r < 0)
        return r;

    r = bind_and_listen(fd, path, how->mode ? how->mode : DEFAULT_MODE,
                        how->backlog ? how->backlog : DEFAULT_BACKLOG);
    if (r < 0)
        return err_set(err, -r, "%s: cannot listen there: %s", path, strerror(-r));
    r = identify(path, &id, err);
    if (r < 0)
        return r;
    if (ret_id)
        *ret_id = id;
    *ret_fd = fd;
    fd = -1;
    return 0;
}

void sock_unlisten(const char *path, const struct sock_id *id)
{
    struct sock_id now;

    if (identify(path, &now, NULL) == 0 && sock_same(id, &now))
        unlink(path);
}

int sock_accept(int listener, int *ret_fd, struct err *err)
{
    int fd;

    do {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0 && errno == ECONNABORTED)
        return -EAGAIN;
    if (fd < 0)
        return err_set(err, errno, "cannot accept a connection: %s", strerror(errno));
    *ret_fd = fd;
    return 0;
}

int sock_peer(int fd, struct sock_peer *ret, struct err *err)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return err_set(err, errno, "cannot tell who connected: %s", strerror(errno));
    *ret = (struct sock_peer){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
    return 0;
}
