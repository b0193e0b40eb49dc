/*
 * A kubelet that does what a test tells it: serves Registration on DIR/kubelet.sock, dials back
 * (or not), and follows the lists of those who registered. For the other side's tests: unlike the
 * stand-in kubelet it has no books and no manners of its own.
 *
 * Functions that wait turn the loop for at most WAIT_MS and fail the test when nothing comes of it.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "kubelet/messages.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"
#include "net/loop.h"

enum { SCRIPTED_WAIT_MS = 10000, SCRIPTED_MAX_PLUGINS = 64, SCRIPTED_ARENA_BYTES = 16 << 20 };

struct scripted_kubelet;

/* One registration, the newest last. */
struct scripted_plugin {
    struct scripted_kubelet *kubelet;
    struct arena arena; /* owns the strings */
    struct register_request request;
    struct grpc_client *client;    /* owned; NULL when not dialled */
    struct grpc_request *watching; /* ListAndWatch; NULL when it is over */
    struct arena list_arena;
    struct device_list list; /* the newest */
    unsigned n_lists;
    bool ended; /* the plugin ended ListAndWatch, or it broke */
    enum grpc_code ended_with;
};

struct scripted_kubelet {
    struct loop *loop; /* borrowed */
    char dir[108], socket[108];
    struct grpc_server *server; /* owned; NULL while it is stopped */
    bool ignore;                /* accept registrations, do not dial */
    const char *refuse;         /* answer Register with this error */
    bool hang;                  /* do not answer Register at all */
    const char *authority;      /* for dialling; NULL: localhost */
    unsigned n_asked;           /* Register calls, refused ones too */
    size_t n_plugins;
    struct scripted_plugin *plugins[SCRIPTED_MAX_PLUGINS]; /* owned */
};

/* Like a kubelet: removes all sockets in the directory, makes its own. */
void scripted_kubelet_start(struct scripted_kubelet *kubelet, struct loop *loop, const char *dir);
/* Like a killed kubelet: every connection breaks, the socket file stays when `leave_file`. */
void scripted_kubelet_stop(struct scripted_kubelet *kubelet, bool leave_file);

/* The newest registration of a resource, NULL when there is none. */
struct scripted_plugin *scripted_kubelet_plugin(struct scripted_kubelet *kubelet,
                                                const char *resource);
/* Forgets what registered so far (and hangs up). */
void scripted_kubelet_forget(struct scripted_kubelet *kubelet);

/* Turns the loop until `true_now(user)`; false when the time is over. */
bool scripted_wait(struct loop *loop, bool (*true_now)(void *user), void *user);

/* Waits until the resource has registered and sent a list of n devices, all as healthy as said. */
struct scripted_plugin *scripted_kubelet_expect(struct scripted_kubelet *kubelet,
                                                const char *resource, size_t n_devices,
                                                size_t n_healthy);

/* One call with the answer's bytes in the arena: the status code; message is "" when OK. */
enum grpc_code scripted_call(struct scripted_plugin *plugin, const char *path, struct span request,
                             struct arena *arena, struct span *ret_response,
                             const char **ret_message);
/* Allocate for one container; NULL with *ret_message when it failed. */
const struct allocation *scripted_allocate(struct scripted_plugin *plugin, const char *const *ids,
                                           size_t n_ids, struct arena *arena,
                                           const char **ret_message);
/* The value of a variable, NULL when absent. */
const char *allocation_env(const struct allocation *allocation, const char *name);
