#include "net/grpc_server.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "net/grpc_server_conn.h"

enum {
    ACCEPTS_PER_TURN = 16,
    ACCEPT_PAUSE_MS = 1000, /* when the process has run out of descriptors */
    LAST_WORDS_MS = 500,    /* to write what was said when the grace was over */
    MAX_ROUTES = 256,
};

static const struct grpc_limits default_limits = {
    .max_message = GRPC_MAX_MESSAGE,
    .max_pending = MIB(16),
    .max_streams = 100,
    .max_header_bytes = KIB(16),
    .max_connections = 64,
    .preface_timeout_ms = 10000,
    .request_timeout_ms = 60000,
};

struct listener {
    struct grpc_server *server;
    char *path; /* owned */
    struct sock_id id;
    int fd; /* owned */
    struct loop_fd *ready;
    struct timer pause;
    struct listener *next;
};

struct grpc_server {
    struct loop *loop;
    struct grpc_limits limits;
    struct grpc_route *routes; /* owned */
    size_t n_routes;
    struct listener *listeners;     /* owned */
    struct grpc_server_conn *conns; /* owned */
    size_t n_conns;
    struct timer stop; /* the grace, then the last words, then the report */
    void (*stopped)(void *user);
    void *stopped_user;
    bool stopping, freed;
    unsigned busy;
};

struct loop *grpc_server_loop(const struct grpc_server *server)
{
    return server->loop;
}

const struct grpc_limits *grpc_server_limits(const struct grpc_server *server)
{
    return &server->limits;
}

static void leave(struct grpc_server *server)
{
    if (--server->busy > 0 || !server->freed)
        return;
    mem_free(server->routes);
    mem_free(server);
}

/* ---- routes ---- */

static struct span service_of(const char *path)
{
    struct span service = {}, method;

    (void)grpc_path_split(span_of(path), &service, &method);
    return service;
}

const struct grpc_route *grpc_server_find(const struct grpc_server *server, struct span path,
                                          bool *ret_known)
{
    struct span service = {}, method;
    bool split = grpc_path_split(path, &service, &method);

    *ret_known = false;
    for (size_t i = 0; i < server->n_routes; i++) {
        const char *known = server->routes[i].method->path;
        if (span_equal(span_of(known), path))
            return &server->routes[i];
        *ret_known |= split && span_equal(service_of(known), service);
    }
    return NULL;
}

int grpc_server_add(struct grpc_server *server, const struct grpc_method *methods, size_t n_methods,
                    void *user, struct err *err)
{
    bool known;

    if (n_methods > MAX_ROUTES - server->n_routes)
        return err_set(err, ENOSPC, "a server has at most %d methods", MAX_ROUTES);
    for (size_t i = 0; i < n_methods; i++)
        if (grpc_server_find(server, span_of(methods[i].path), &known))
            return err_set(err, EEXIST, "%s is served already", methods[i].path);
    struct grpc_route *routes =
        mem_resize(server->routes, (server->n_routes + n_methods) * sizeof(*routes));
    if (!routes)
        return err_no_memory(err);
    server->routes = routes;
    for (size_t i = 0; i < n_methods; i++)
        routes[server->n_routes++] = (struct grpc_route){ .method = &methods[i], .user = user };
    return 0;
}

/* ---- connections ---- */

static void report_stopped(struct timer *timer, void *user)
{
    struct grpc_server *server = user;

    server->stopped(server->stopped_user);
}

static void maybe_stopped(struct grpc_server *server)
{
    if (!server->stopping || server->conns || server->freed || !server->stopped)
        return;
    timer_stop(&server->stop);
    loop_defer(server->loop, &server->stop, report_stopped, server);
}

static void drop(struct grpc_server_conn *conn, bool flush)
{
    struct grpc_server *server = conn->server;

    server->busy++;
    *(conn->prev ? &conn->prev->next : &server->conns) = conn->next;
    if (conn->next)
        conn->next->prev = conn->prev;
    server->n_conns--;
    pump_free(steal(conn->pump), flush);
    grpc_server_conn_free(conn);
    maybe_stopped(server);
    leave(server);
}

static void on_pump_closed(void *user, const char *why)
{
    drop(user, false);
}

static void on_preface_missing(struct timer *timer, void *user)
{
    drop(user, false);
}

/* The connection that has been without calls for the longest time makes room. */
static bool make_room(struct grpc_server *server)
{
    struct grpc_server_conn *idlest = NULL;

    if (server->n_conns < server->limits.max_connections)
        return true;
    for (struct grpc_server_conn *conn = server->conns; conn; conn = conn->next)
        if (conn->n_calls == 0 && (!idlest || conn->quiet_ns < idlest->quiet_ns))
            idlest = conn;
    if (!idlest)
        return false;
    h2_goaway(idlest->h2, H2_NO_ERROR, "making room for another connection");
    drop(idlest, true);
    return true;
}

static void welcome(struct grpc_server *server, int fd)
{
    struct grpc_server_conn *conn = NULL;
    struct sock_peer peer;

    bool known = sock_peer(fd, &peer, NULL) == 0;
    if (!make_room(server) || grpc_server_conn_new(server, known ? &peer : NULL, &conn, NULL) < 0) {
        close(fd);
        return;
    }
    if (pump_new(server->loop, fd, conn->h2, on_pump_closed, conn, &conn->pump, NULL) < 0) {
        grpc_server_conn_free(conn);
        return;
    }
    conn->next = server->conns;
    if (conn->next)
        conn->next->prev = conn;
    server->conns = conn;
    server->n_conns++;
    timer_start(&conn->preface, server->loop, server->limits.preface_timeout_ms, on_preface_missing,
                conn);
}

/* ---- listening ---- */

static void resume_accepting(struct timer *timer, void *user)
{
    struct listener *listener = user;

    (void)loop_fd_set(listener->ready, LOOP_READABLE);
}

static void on_listener_ready(struct loop_fd *ready, unsigned events, void *user)
{
    struct listener *listener = user;

    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd;
        int r = sock_accept(listener->fd, &fd, NULL);
        if (r == -EAGAIN)
            return;
        if (r < 0) {
            /* Without descriptors the queue stays as it is, and the loop must not spin on it. */
            (void)loop_fd_set(listener->ready, 0);
            timer_start(&listener->pause, listener->server->loop, ACCEPT_PAUSE_MS, resume_accepting,
                        listener);
            return;
        }
        welcome(listener->server, fd);
    }
}

static void listener_free(struct listener *listener)
{
    timer_stop(&listener->pause);
    loop_fd_free(listener->ready);
    if (listener->fd >= 0) {
        sock_unlisten(listener->path, &listener->id);
        close(listener->fd);
    }
    mem_free(listener->path);
    mem_free(listener);
}

static struct listener **find_listener(struct grpc_server *server, const char *path)
{
    struct listener **at = &server->listeners;

    while (*at && !text_equal((*at)->path, path))
        at = &(*at)->next;
    return at;
}

static int listener_new(struct grpc_server *server, const char *path, const struct sock_listen *how,
                        struct listener **ret, struct err *err)
{
    struct listener *listener = mem_alloc(sizeof(*listener));

    if (!listener)
        return err_no_memory(err);
    listener->server = server;
    listener->fd = -1;
    listener->path = mem_alloc(strlen(path) + 1);
    int r = listener->path ? 0 : err_no_memory(err);
    if (r == 0) {
        strcpy(listener->path, path);
        r = sock_listen(path, how, &listener->fd, &listener->id, err);
    }
    if (r == 0)
        r = loop_fd_new(server->loop, listener->fd, LOOP_READABLE, on_listener_ready, listener,
                        &listener->ready, err);
    if (r < 0) {
        listener_free(listener);
        return r;
    }
    *ret = listener;
    return 0;
}

int grpc_server_listen(struct grpc_server *server, const char *path, const struct sock_listen *how,
                       struct err *err)
{
    struct listener **at = find_listener(server, path), *old = *at, *listener = NULL;

    if (old) {
        *at = old->next;
        listener_free(old);
    }
    int r = listener_new(server, path, how, &listener, err);
    if (r < 0)
        return r;
    listener->next = server->listeners;
    server->listeners = listener;
    return 0;
}

bool grpc_server_owns(const struct grpc_server *server, const char *path)
{
    struct sock_id now;

    for (const struct listener *listener = server->listeners; listener; listener = listener->next)
        if (text_equal(listener->path, path))
            return sock_identify(path, &now, NULL) == 0 && sock_same(&now, &listener->id);
    return false;
}

static void stop_listening(struct grpc_server *server)
{
    while (server->listeners) {
        struct listener *listener = server->listeners;
        server->listeners = listener->next;
        listener_free(listener);
    }
}

/* ---- stopping ---- */

static void drop_all(struct grpc_server *server)
{
    server->busy++;
    while (server->conns)
        drop(server->conns, true);
    leave(server);
}

static void on_last_words_over(struct timer *timer, void *user)
{
    drop_all(user);
}

static void on_grace_over(struct timer *timer, void *user)
{
    struct grpc_server *server = user;
    struct grpc_server_conn *next;

    timer_start(timer, server->loop, LAST_WORDS_MS, on_last_words_over, server);
    server->busy++;
    for (struct grpc_server_conn *conn = server->conns; conn && !server->freed; conn = next) {
        next = conn->next;
        grpc_server_conn_cancel(conn);
    }
    leave(server);
}

static struct grpc_server_conn *find_undrained(const struct grpc_server *server)
{
    struct grpc_server_conn *conn = server->conns;

    while (conn && conn->draining)
        conn = conn->next;
    return conn;
}

void grpc_server_stop(struct grpc_server *server, uint64_t grace_ms, void (*stopped)(void *user),
                      void *user)
{
    struct grpc_server_conn *conn;

    server->stopping = true;
    server->stopped = stopped;
    server->stopped_user = user;
    stop_listening(server);
    timer_start(&server->stop, server->loop, grace_ms, on_grace_over, server);
    server->busy++;
    while (!server->freed && (conn = find_undrained(server)))
        grpc_server_conn_drain(conn);
    maybe_stopped(server);
    leave(server);
}

/* ---- life ---- */

#define DEFAULT(limits, field)                                                                     \
    do {                                                                                           \
        if (!(limits)->field)                                                                      \
            (limits)->field = default_limits.field;                                                \
    } while (0)

static void fill_in(struct grpc_limits *limits)
{
    DEFAULT(limits, max_message);
    DEFAULT(limits, max_pending);
    DEFAULT(limits, max_streams);
    DEFAULT(limits, max_header_bytes);
    DEFAULT(limits, max_connections);
    DEFAULT(limits, preface_timeout_ms);
    DEFAULT(limits, request_timeout_ms);
}

int grpc_server_new(struct loop *loop, const struct grpc_limits *limits, struct grpc_server **ret,
                    struct err *err)
{
    struct grpc_server *server = mem_alloc(sizeof(*server));

    if (!server)
        return err_no_memory(err);
    server->loop = loop;
    if (limits)
        server->limits = *limits;
    fill_in(&server->limits);
    *ret = server;
    return 0;
}

void grpc_server_free(struct grpc_server *server)
{
    if (!server || server->freed)
        return;
    server->freed = true;
    server->busy++;
    timer_stop(&server->stop);
    stop_listening(server);
    drop_all(server);
    leave(server);
}

size_t grpc_server_n_connections(const struct grpc_server *server)
{
    return server->n_conns;
}

size_t grpc_server_n_calls(const struct grpc_server *server)
{
    size_t n = 0;

    for (const struct grpc_server_conn *conn = server->conns; conn; conn = conn->next)
        n += conn->n_calls;
    return n;
}
