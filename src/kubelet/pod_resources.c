#include "kubelet/pod_resources.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "net/grpc_client.h"

struct pod_resources {
    struct grpc_client *client; /* owned */
    struct question *questions; /* owned; open calls */
};

/* One call under way. */
struct question {
    struct pod_resources *owner;
    struct question *next;
    bool is_get;
    pod_resources_fn *fn;
    void *user;
};

int pod_resources_new(struct loop *loop, const char *socket_path, struct pod_resources **ret,
                      struct err *err)
{
    const struct grpc_client_options options = { .max_message = POD_MESSAGE_MAX_BYTES };
    struct pod_resources *client = mem_alloc(sizeof(*client));

    if (!client)
        return err_no_memory(err);
    int r = grpc_client_new(loop, socket_path, &options, &client->client, err);
    if (r < 0) {
        mem_free(client);
        return r;
    }
    *ret = client;
    return 0;
}

void pod_resources_free(struct pod_resources *client)
{
    if (!client)
        return;
    grpc_client_free(client->client);
    while (client->questions) {
        struct question *question = client->questions;

        client->questions = question->next;
        mem_free(question);
    }
    mem_free(client);
}

static void forget(struct question *question)
{
    struct question **at = &question->owner->questions;

    while (*at != question)
        at = &(*at)->next;
    *at = question->next;
    mem_free(question);
}

/* A kubelet's Get has plain errors: it is UNKNOWN that a pod is not there, or that the gate is off.
 */
static int errno_of(bool is_get, const struct grpc_status *status)
{
    if (is_get && status->code == GRPC_UNKNOWN && strstr(status->message, " not found"))
        return ENOENT;
    if (is_get && status->code == GRPC_UNKNOWN && strstr(status->message, "Get method disabled"))
        return ENOSYS;
    return grpc_code_to_errno(status->code);
}

static int read_answer(bool is_get, const struct grpc_status *status, struct span response,
                       struct arena *arena, struct pod_list *ret, struct err *err)
{
    if (status->code != GRPC_OK)
        return err_set(err, errno_of(is_get, status), "%s", status->message);
    if (!is_get)
        return pod_list_decode(response, arena, ret, err);

    struct pod *pod = arena_new(arena, struct pod);
    if (!pod)
        return err_no_memory(err);
    int r = pod_get_response_decode(response, arena, pod, err);
    if (r < 0)
        return r;
    *ret = (struct pod_list){ .n = 1, .items = pod };
    return 0;
}

static void on_done(void *user, const struct grpc_status *status, struct span response)
{
    struct question question = *(struct question *)user;
    auto_(arena_done) struct arena arena = ARENA_MAX(POD_ARENA_BYTES);
    struct pod_list pods = {};
    struct err err = {};

    forget(user);
    int r = read_answer(question.is_get, status, response, &arena, &pods, &err);
    if (r < 0)
        err_wrap(&err, r, "pod resources of the kubelet");
    question.fn(question.user, r, &pods, &err);
}

static int ask(struct pod_resources *client, const char *path, struct span request, bool is_get,
               pod_resources_fn *fn, void *user, struct err *err)
{
    const struct grpc_call_options options = { .path = path,
                                               .timeout_ms = POD_RESOURCES_TIMEOUT_MS };
    struct question *question = mem_alloc(sizeof(*question));

    if (!question)
        return err_no_memory(err);
    *question = (struct question){
        .owner = client, .next = client->questions, .is_get = is_get, .fn = fn, .user = user
    };
    client->questions = question;
    int r = grpc_client_unary(client->client, &options, request, on_done, question, NULL, err);
    if (r < 0)
        forget(question);
    return r;
}

int pod_resources_list(struct pod_resources *client, pod_resources_fn *fn, void *user,
                       struct err *err)
{
    return ask(client, POD_PATH_LIST, (struct span){}, false, fn, user, err);
}

int pod_resources_get(struct pod_resources *client, const char *namespace, const char *name,
                      pod_resources_fn *fn, void *user, struct err *err)
{
    auto_(buf_done) struct buf request = BUF_MAX(KIB(4));

    pod_get_request_encode(namespace, name, &request);
    if (request.failed)
        return err_no_memory(err);
    return ask(client, POD_PATH_GET, buf_span(&request), true, fn, user, err);
}
