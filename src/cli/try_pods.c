/*
 * The kubelet's pod resources socket of a node that is being served: who else looks at the node, as
 * `tranche mig` does before it takes anything away, learns which pod holds what.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/try.h"
#include "kubelet/pod_resources.h"

static int add_grant(struct pod_container **containers, size_t *n, const struct sim_grant *grant,
                     struct arena *arena)
{
    struct pod_container *container = NULL;

    for (size_t i = 0; i < *n; i++)
        if (text_equal((*containers)[i].name, grant->container))
            container = &(*containers)[i];
    if (!container && (container = arena_push(arena, containers, n)))
        container->name = grant->container;
    struct pod_devices *devices =
        container ? arena_push(arena, &container->devices, &container->n_devices) : NULL;
    if (!devices)
        return -ENOMEM;
    *devices = (struct pod_devices){ grant->resource, { grant->n_ids, (const char **)grant->ids } };
    return 0;
}

static int add_pod(const struct try_node *node, const struct try_pod *pod, struct arena *arena,
                   struct pod_list *list)
{
    struct pod *item = arena_push(arena, &list->items, &list->n);

    if (!item)
        return -ENOMEM;
    item->namespace = pod->object->sim.namespace;
    item->name = pod->object->sim.name;
    for (const struct sim_grant *g = sim_kubelet_next_grant(node->kubelet, NULL); g;
         g = sim_kubelet_next_grant(node->kubelet, g))
        if (text_equal(g->pod_uid, pod->object->sim.uid) &&
            add_grant(&item->containers, &item->n_containers, g, arena) < 0)
            return -ENOMEM;
    return 0;
}

static void on_list(struct grpc_call *call, struct span request, void *user)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(POD_ARENA_BYTES);
    auto_(buf_done) struct buf text = BUF_MAX(POD_MESSAGE_MAX_BYTES);
    const struct try_node *node = user;
    struct pod_list list = {};
    int r = 0;

    for (size_t i = 0; r == 0 && i < node->n_pods; i++)
        if (node->pods[i].phase == TRY_RUNNING)
            r = add_pod(node, &node->pods[i], &arena, &list);
    pod_list_encode(&list, &text);
    if (r < 0 || text.failed)
        grpc_call_end(call, GRPC_RESOURCE_EXHAUSTED, "no memory");
    else
        grpc_call_reply(call, buf_span(&text));
}

int try_pods_serve(struct try_node *node, const struct try_pod *pods, size_t n_pods,
                   struct err *err)
{
    static const struct grpc_method methods[] = { { POD_PATH_LIST, GRPC_UNARY, on_list } };
    char path[256];

    node->pods = pods;
    node->n_pods = n_pods;
    snprintf(path, sizeof(path), "%s/sim/root%s", node->dir, POD_RESOURCES_SOCKET);
    *strrchr(path, '/') = '\0';
    int r = file_make_dirs(path, 0755, err);
    path[strlen(path)] = '/';
    if (r == 0)
        r = grpc_server_new(node->loop, NULL, &node->pod_server, err);
    if (r == 0)
        r = grpc_server_add(node->pod_server, methods, ARRAY_LEN(methods), node, err);
    return r < 0 ? r : grpc_server_listen(node->pod_server, path, NULL, err);
}
