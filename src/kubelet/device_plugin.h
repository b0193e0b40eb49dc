/*
 * One resource offered to the kubelet: a DevicePlugin server on its own socket beside the
 * kubelet's, and the registration that makes the kubelet come and watch it.
 *
 * The list is given as a whole, and goes as a whole to every ListAndWatch stream, at once and on
 * every change (spec/device-plugin §1.2). Several streams are normal: a kubelet keeps the old one
 * after each registration, and ending one would make it believe that the plugin has left. A reader
 * who is slow gets the newest list, not all lists.
 *
 * What a device is and what an allocation gives is the owner's business (device_plugin_ops). All
 * happens on the loop's thread; ops may not free the plugin.
 */
#pragma once

#include "base/arena.h"
#include "base/base.h"
#include "base/err.h"
#include "kubelet/messages.h"
#include "kubelet/registration.h"
#include "net/loop.h"

enum {
    DEVICE_PLUGIN_CALL_MS = 5000,  /* for Register, as upstream */
    DEVICE_PLUGIN_GRACE_MS = 2000, /* for calls under way when it stops */
};

struct device_plugin;

/* Answers come at once; a failure becomes gRPC's UNKNOWN with the sentence as its message, as
 * a Go plugin's plain errors do. What they return lives in the arena. */
struct device_plugin_ops {
    int (*prefer)(void *user, const char *resource, const struct prefer_request *request,
                  struct arena *arena, struct id_list *ret, struct err *err);
    int (*allocate)(void *user, const char *resource, const struct id_list *ids,
                    struct arena *arena, struct allocation **ret, struct err *err);
    /* Registration went from one state to another. `why` is the sentence of the last failure, ""
     * when there was none; next_try_ms is set in states that wait. */
    void (*changed)(void *user, const char *resource, enum registration_state from,
                    enum registration_state to, const char *why, uint32_t next_try_ms);
};

struct device_plugin_spec {
    const char *resource;       /* "nvidia.com/gpu" */
    const char *endpoint;       /* "nvidia-gpu.sock" */
    const char *dir;            /* where its socket goes */
    const char *kubelet_socket; /* "": do not register */
};

/* Copies the spec's strings; ops outlive the plugin. Nothing listens before device_plugin_start.
 * -ENAMETOOLONG for a socket path that the kernel cannot take. */
[[nodiscard]] int device_plugin_new(struct loop *loop, const struct device_plugin_spec *spec,
                                    const struct device_plugin_ops *ops, void *user,
                                    struct device_plugin **ret, struct err *err);
/* At once: streams break, the socket file is removed. */
void device_plugin_free(struct device_plugin *plugin);
DEFINE_FREEP(struct device_plugin, device_plugin_free)

/* The list that is shown from now on; 1 when it is another one than before, 0 when not. -EMSGSIZE
 * when it is larger than a kubelet reads; the old list stays. */
[[nodiscard]] int device_plugin_update(struct device_plugin *plugin, const struct device_list *list,
                                       struct err *err);

/* Listens and registers; goes on trying for ever. A socket in the way is taken over, live or
 * not, as the newest plugin of a resource wins; later losses are not fought about. */
void device_plugin_start(struct device_plugin *plugin);
/* Ends the streams with OK, lets calls finish, removes the socket; `stopped` comes from the loop.
 */
void device_plugin_stop(struct device_plugin *plugin, void (*stopped)(void *user), void *user);

/* For whoever watches the directory. */
void device_plugin_kubelet_created(struct device_plugin *plugin);
/* Looks whether the socket file is still its own. */
void device_plugin_check_socket(struct device_plugin *plugin);

const char *device_plugin_socket(const struct device_plugin *plugin);
enum registration_state device_plugin_state(const struct device_plugin *plugin);
size_t device_plugin_n_streams(const struct device_plugin *plugin);
