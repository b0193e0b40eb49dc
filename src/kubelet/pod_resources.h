/*
 * Asks the kubelet which pod holds which device (pod resources API v1).
 *
 * One connection, made with the first question. Answers come from the loop; the structs in them
 * are borrowed for the callback. After pod_resources_free no callback comes any more; a callback
 * may call it.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "kubelet/pod_messages.h"
#include "net/loop.h"

#define POD_RESOURCES_SOCKET "/var/lib/kubelet/pod-resources/kubelet.sock"

enum { POD_RESOURCES_TIMEOUT_MS = 10000 };

struct pod_resources;

/* The socket need not exist yet. */
[[nodiscard]] int pod_resources_new(struct loop *loop, const char *socket_path,
                                    struct pod_resources **ret, struct err *err);
void pod_resources_free(struct pod_resources *client);
DEFINE_FREEP(struct pod_resources, pod_resources_free)

/* r: 0, or a negative errno with the sentence in err and an empty list. -ENOSYS from a kubelet
 * that does not serve the call (Get is behind a gate), -ETIMEDOUT, -EAGAIN when nobody listens. */
typedef void pod_resources_fn(void *user, int r, const struct pod_list *pods,
                              const struct err *err);

[[nodiscard]] int pod_resources_list(struct pod_resources *client, pod_resources_fn *fn, void *user,
                                     struct err *err);
/* The list has the one pod; -ENOENT where there is none of that name. */
[[nodiscard]] int pod_resources_get(struct pod_resources *client, const char *namespace,
                                    const char *name, pod_resources_fn *fn, void *user,
                                    struct err *err);
