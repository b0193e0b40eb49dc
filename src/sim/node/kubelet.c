#include "sim/node/kubelet.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "net/grpc_client.h"
#include "net/grpc_server.h"
#include "sim/node/checkpoint.h"
#include "sim/node/devices.h"

/* One registration: a connection to a plugin. A newer registration of the same resource takes its
 * place, but the connection stays until the plugin lets go, as with the real kubelet. */
struct endpoint {
    struct sim_kubelet *kubelet; /* borrowed, outlives us */
    char *resource;              /* owned */
    struct plugin_options options;
    struct grpc_client *client; /* owned; NULL once we let go */
    struct grpc_call *call;     /* the Register that waits for its answer */
    bool connected;             /* the plugin told its options: the registration counts */
    bool stopped;               /* … and its list has ended */
    struct timer gone;
    struct timer bury; /* frees the endpoint from the loop, not from inside its own callback */
    struct endpoint *next;
};

/* One pod at the door. */
struct admission {
    const struct sim_pod *pod; /* borrowed until answered */
    sim_admit_fn *answer;
    void *user;
    size_t container, request; /* where we are */
    struct arena arena;
    struct device_choice choice;
    struct id_list ids;
    struct endpoint *endpoint; /* of the request we are at */
    bool asking;               /* it has a call of ours */
    bool starting;             /* all is allocated; PreStartContainer is being called */
    struct admission *next;
};

struct sim_kubelet {
    struct loop *loop; /* borrowed */
    char *dir, *socket, *node_name;
    bool shuffle;
    void (*on_change)(void *user);
    void *user;
    struct grpc_server *server;
    struct device_books books;
    struct endpoint *endpoints; /* owned; newest first */
    struct admission *queue;    /* owned; the first is under way */
    struct timer step;
    bool busy;
    uint32_t n_registrations;
    struct map claimed; /* pods that said they are running; after a restart */
    bool restarted;
};

static void changed(struct sim_kubelet *kubelet)
{
    if (kubelet->on_change)
        kubelet->on_change(kubelet->user);
}

static void save(struct sim_kubelet *kubelet)
{
    struct err err = {};

    if (checkpoint_save(kubelet->dir, &kubelet->books, &err) < 0)
        log_error("cannot write the stand-in kubelet's checkpoint", F_ERR(&err));
}

/* ---- plugins ---- */

static void admission_lost(struct sim_kubelet *kubelet, const struct endpoint *endpoint);

/* The endpoint that answers for a resource: the newest registration. */
static struct endpoint *endpoint_of(struct sim_kubelet *kubelet, const char *resource)
{
    for (struct endpoint *e = kubelet->endpoints; e; e = e->next)
        if (e->connected && text_equal(e->resource, resource))
            return e;
    return NULL;
}

static void endpoint_free(struct endpoint *endpoint)
{
    timer_stop(&endpoint->gone);
    timer_stop(&endpoint->bury);
    grpc_client_free(endpoint->client);
    free(endpoint->resource);
    free(endpoint);
}

static void endpoint_unlink(struct endpoint *endpoint)
{
    struct endpoint **link = &endpoint->kubelet->endpoints;

    while (*link != endpoint)
        link = &(*link)->next;
    *link = endpoint->next;
}

static void on_bury(struct timer *timer, void *user)
{
    endpoint_unlink(user);
    endpoint_free(user);
}

static void endpoint_bury(struct endpoint *endpoint)
{
    loop_defer(endpoint->kubelet->loop, &endpoint->bury, on_bury, endpoint);
}

static void on_gone(struct timer *timer, void *user)
{
    struct endpoint *endpoint = user;
    struct device_book *book = device_book_find(&endpoint->kubelet->books, endpoint->resource);

    if (endpoint_of(endpoint->kubelet, endpoint->resource) != endpoint || !book)
        return;
    device_book_forget(book);
    changed(endpoint->kubelet);
}

static void on_list(void *user, struct span message)
{
    struct endpoint *endpoint = user;
    struct sim_kubelet *kubelet = endpoint->kubelet;
    struct device_book *book = device_book_find(&kubelet->books, endpoint->resource);
    struct err err = {};

    if (endpoint_of(kubelet, endpoint->resource) != endpoint || !book)
        return;
    book->alive = true;
    if (device_book_update(book, message, &err) < 0) {
        log_warn("a plugin sent a device list that cannot be read", F_ERR(&err));
        return;
    }
    save(kubelet);
    changed(kubelet);
}

/* The newest registration counts no more: its devices are unhealthy, and later forgotten. */
static void endpoint_stop(struct endpoint *endpoint)
{
    struct sim_kubelet *kubelet = endpoint->kubelet;
    struct device_book *book = device_book_find(&kubelet->books, endpoint->resource);

    endpoint->stopped = true;
    if (book)
        device_book_lost(book);
    timer_start(&endpoint->gone, kubelet->loop, SIM_KUBELET_GONE_MS, on_gone, endpoint);
    changed(kubelet);
}

/*
 * The kubelet keeps its plugins by resource. When a stream ends it lets go of whoever is on record
 * for that resource, and after a second registration that is not the one whose stream ended: the
 * new plugin is dropped with the old one, and has to register once more.
 */
static void on_list_end(void *user, const struct grpc_status *status)
{
    struct endpoint *endpoint = user;
    struct sim_kubelet *kubelet = endpoint->kubelet;
    struct endpoint *newest = endpoint_of(kubelet, endpoint->resource);

    if (newest && newest != endpoint && !newest->stopped) {
        grpc_client_free(steal(newest->client));
        admission_lost(kubelet, newest);
    }
    if (newest && !newest->stopped)
        endpoint_stop(newest);
    if (newest != endpoint)
        endpoint_bury(endpoint);
}

static void on_call_cancelled(struct grpc_call *call, void *user)
{
    ((struct endpoint *)user)->call = NULL;
}

static void endpoint_refuse(struct endpoint *endpoint, const char *sentence)
{
    if (endpoint->call)
        grpc_call_end(steal(endpoint->call), GRPC_UNKNOWN, sentence);
    endpoint_bury(endpoint);
}

/* The plugin answers, so the registration counts and its list is asked for. */
static void on_options(void *user, const struct grpc_status *status, struct span response)
{
    static const struct grpc_call_options watch = { .path = PLUGIN_PATH_LIST };
    struct endpoint *endpoint = user;
    struct sim_kubelet *kubelet = endpoint->kubelet;
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(4));
    struct device_book *book;
    struct err err = {};
    char text[512];

    if (status->code == GRPC_DEADLINE_EXCEEDED || status->code == GRPC_UNAVAILABLE) {
        endpoint_refuse(endpoint, "failed to dial device plugin: context deadline exceeded");
        return;
    }
    if (status->code != GRPC_OK) {
        snprintf(text, sizeof(text),
                 "failed to get device plugin options: rpc error: code = %s desc = %s",
                 grpc_code_name(status->code), status->message);
        endpoint_refuse(endpoint, text);
        return;
    }
    if (plugin_options_decode(response, &arena, &endpoint->options, &err) < 0 ||
        device_book_open(&kubelet->books, endpoint->resource, &book, &err) < 0 ||
        grpc_client_stream(endpoint->client, &watch, SPAN(""), on_list, on_list_end, endpoint, NULL,
                           &err) < 0) {
        endpoint_refuse(endpoint, err.text);
        return;
    }
    endpoint_unlink(endpoint);
    endpoint->next = kubelet->endpoints;
    kubelet->endpoints = endpoint;
    endpoint->connected = true;
    book->listed = false;
    kubelet->n_registrations++;
    if (endpoint->call)
        grpc_call_reply(steal(endpoint->call), SPAN(""));
}

/* Dials before it answers. */
static int endpoint_new(struct sim_kubelet *kubelet, const struct register_request *request,
                        struct grpc_call *call, struct err *err)
{
    static const struct grpc_call_options options = { .path = PLUGIN_PATH_OPTIONS,
                                                      .timeout_ms = SIM_KUBELET_DIAL_MS,
                                                      .wait_for_ready = true };
    struct grpc_client_options how = { .connect_timeout_ms = SIM_KUBELET_DIAL_MS };
    struct endpoint *endpoint = calloc(1, sizeof(*endpoint));
    char path[512];

    if (!endpoint)
        return err_no_memory(err);
    snprintf(path, sizeof(path), "%s/%s", kubelet->dir, request->endpoint);
    endpoint->kubelet = kubelet;
    endpoint->resource = strdup(request->resource_name);
    int r = endpoint->resource ? grpc_client_new(kubelet->loop, path, &how, &endpoint->client, err)
                               : err_no_memory(err);
    if (r == 0)
        r = grpc_client_unary(endpoint->client, &options, SPAN(""), on_options, endpoint, NULL,
                              err);
    if (r < 0) {
        endpoint_free(endpoint);
        return r;
    }
    endpoint->call = call;
    grpc_call_on_cancel(call, on_call_cancelled, endpoint);
    endpoint->next = kubelet->endpoints;
    kubelet->endpoints = endpoint;
    return 0;
}

/* The kubelet wants a domain, and none of Kubernetes' own. */
static bool is_extended_resource(const char *name)
{
    const char *slash = strchr(name, '/');

    return slash && slash != name && slash[1] && strlen(name) <= 253 &&
           !text_starts(name, "kubernetes.io/") && !strstr(name, ".kubernetes.io/") &&
           !text_starts(name, "requests.");
}

static void on_register(struct grpc_call *call, struct span bytes, void *user)
{
    struct sim_kubelet *kubelet = user;
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    struct register_request request;
    struct err err = {};
    char text[512];

    if (register_request_decode(bytes, &arena, &request, &err) < 0) {
        grpc_call_end(call, GRPC_INTERNAL, err.text);
        return;
    }
    if (!text_equal(request.version, PLUGIN_API_VERSION)) {
        snprintf(text, sizeof(text),
                 "requested API version \"%s\" is not supported by kubelet. Supported version is "
                 "[\"%s\"]",
                 request.version, PLUGIN_API_VERSION);
        grpc_call_end(call, GRPC_UNKNOWN, text);
        return;
    }
    if (!is_extended_resource(request.resource_name)) {
        snprintf(text, sizeof(text), "the ResourceName \"%s\" is invalid", request.resource_name);
        grpc_call_end(call, GRPC_UNKNOWN, text);
        return;
    }
    if (strchr(request.endpoint, '/') || endpoint_new(kubelet, &request, call, &err) < 0)
        grpc_call_end(call, GRPC_UNKNOWN, err.code ? err.text : "the endpoint must be a file name");
}

/* ---- pods ---- */

static void admission_step(struct timer *timer, void *user);

static void admission_next(struct sim_kubelet *kubelet)
{
    loop_defer(kubelet->loop, &kubelet->step, admission_step, kubelet);
}

static void admission_free(struct admission *admission)
{
    arena_done(&admission->arena);
    free(admission);
}

/* Answers the first pod in the queue and turns to the next. */
static void admission_finish(struct sim_kubelet *kubelet, const char *reason, const char *message)
{
    struct admission *admission = kubelet->queue;

    kubelet->queue = admission->next;
    if (reason)
        sim_kubelet_pod_ended(kubelet, admission->pod->uid);
    save(kubelet);
    changed(kubelet);
    kubelet->busy = false;
    admission->answer(admission->user, reason, message);
    admission_free(admission);
    admission_next(kubelet);
}

PRINTF(2, 3) static void admission_refuse(struct sim_kubelet *kubelet, const char *format, ...)
{
    char cause[4096], message[4200];
    va_list args;

    va_start(args, format);
    vsnprintf(cause, sizeof(cause), format, args);
    va_end(args);
    snprintf(message, sizeof(message), "Allocate failed due to %s, which is unexpected", cause);
    admission_finish(kubelet, "UnexpectedAdmissionError", message);
}

/* We let go of a plugin that was being asked. */
static void admission_lost(struct sim_kubelet *kubelet, const struct endpoint *endpoint)
{
    if (kubelet->queue && kubelet->queue->asking && kubelet->queue->endpoint == endpoint)
        admission_refuse(
            kubelet, "rpc error: code = Canceled desc = grpc: the client connection is closing");
}

static const struct sim_container *container_of_admission(const struct admission *admission)
{
    return &admission->pod->containers[admission->container];
}

static const struct sim_request *request_of_admission(const struct admission *admission)
{
    return &container_of_admission(admission)->requests[admission->request];
}

static void on_allocated(void *user, const struct grpc_status *status, struct span response)
{
    struct sim_kubelet *kubelet = user;
    struct admission *admission = kubelet->queue;
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);
    struct allocate_response answer;
    struct err err = {};

    admission->asking = false;
    if (status->code != GRPC_OK) {
        admission_refuse(kubelet, "rpc error: code = %s desc = %s", grpc_code_name(status->code),
                         status->message);
        return;
    }
    if (allocate_response_decode(response, &arena, &answer, &err) < 0) {
        admission_refuse(kubelet,
                         "rpc error: code = Internal desc = grpc: failed to unmarshal the "
                         "received message: %s",
                         err.text);
        return;
    }
    if (answer.n == 0) {
        admission_refuse(kubelet,
                         "no containers return in allocation response &AllocateResponse{}");
        return;
    }
    allocation_encode(answer.items[0], &bytes);
    if (bytes.failed ||
        device_books_grant(&kubelet->books, admission->pod->uid, container_of_admission(admission),
                           request_of_admission(admission)->resource, &admission->ids,
                           buf_span(&bytes), &err) < 0) {
        admission_refuse(kubelet, "%s", err.code ? err.text : "an answer that is too large");
        return;
    }
    admission->request++;
    admission_next(kubelet);
}

static void admission_allocate(struct sim_kubelet *kubelet, struct admission *admission,
                               const struct id_list *preferred)
{
    static const struct grpc_call_options call = { .path = PLUGIN_PATH_ALLOCATE };
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);
    struct err err = {};

    if (device_choice_finish(&admission->choice, preferred, &admission->arena, &admission->ids,
                             &err) < 0) {
        admission_refuse(kubelet, "%s", err.text);
        return;
    }
    struct allocate_request request = { .n = 1, .items = &admission->ids };
    allocate_request_encode(&request, &bytes);
    admission->asking = true;
    if (bytes.failed || grpc_client_unary(admission->endpoint->client, &call, buf_span(&bytes),
                                          on_allocated, kubelet, NULL, &err) < 0)
        admission_refuse(kubelet, "%s", err.code ? err.text : "a request that is too large");
}

static void on_preferred(void *user, const struct grpc_status *status, struct span response)
{
    struct sim_kubelet *kubelet = user;
    struct admission *admission = kubelet->queue;
    struct preferred_response answer;
    struct err err = {};

    admission->asking = false;
    if (status->code != GRPC_OK) {
        admission_refuse(
            kubelet,
            "device plugin GetPreferredAllocation rpc failed with err: rpc error: code "
            "= %s desc = %s",
            grpc_code_name(status->code), status->message);
        return;
    }
    if (preferred_response_decode(response, &admission->arena, &answer, &err) < 0) {
        admission_refuse(kubelet, "device plugin GetPreferredAllocation rpc failed with err: %s",
                         err.text);
        return;
    }
    admission_allocate(kubelet, admission, answer.n > 0 ? &answer.items[0] : NULL);
}

static void admission_prefer(struct sim_kubelet *kubelet, struct admission *admission)
{
    static const struct grpc_call_options call = { .path = PLUGIN_PATH_PREFER };
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);
    struct prefer_request item = {
        .available = admission->choice.available.items,
        .n_available = admission->choice.available.n,
        .must_include = admission->choice.must.items,
        .n_must_include = admission->choice.must.n,
        .size = (int32_t)admission->choice.size,
    };
    struct preferred_request request = { .n = 1, .items = &item };
    struct err err = {};

    preferred_request_encode(&request, &bytes);
    admission->asking = true;
    if (bytes.failed || grpc_client_unary(admission->endpoint->client, &call, buf_span(&bytes),
                                          on_preferred, kubelet, NULL, &err) < 0)
        admission_refuse(kubelet, "%s", err.code ? err.text : "a request that is too large");
}

static void on_prestarted(void *user, const struct grpc_status *status, struct span response)
{
    struct sim_kubelet *kubelet = user;

    kubelet->queue->asking = false;
    if (status->code != GRPC_OK) {
        char text[4096];

        snprintf(text, sizeof(text), "rpc error: code = %s desc = %s", grpc_code_name(status->code),
                 status->message);
        admission_finish(kubelet, "PreStartHookError", text);
        return;
    }
    kubelet->queue->request++;
    admission_next(kubelet);
}

/* PreStartContainer for plugins that asked for it; true when a call is under way. */
static bool admission_prestart(struct sim_kubelet *kubelet, struct admission *admission)
{
    static const struct grpc_call_options call = { .path = PLUGIN_PATH_PRESTART,
                                                   .timeout_ms = SIM_KUBELET_PRESTART_MS };
    const struct sim_request *request = request_of_admission(admission);
    struct endpoint *endpoint = endpoint_of(kubelet, request->resource);
    auto_(buf_done) struct buf bytes = BUF_MAX(MESSAGE_MAX_BYTES);
    struct err err = {};

    if (!endpoint || endpoint->stopped || !endpoint->options.pre_start_required)
        return false;
    for (const struct device_grant *grant = kubelet->books.grants; grant; grant = grant->next) {
        struct id_list ids = { .n = grant->grant.n_ids, .items = (const char **)grant->grant.ids };

        if (!text_equal(grant->grant.pod_uid, admission->pod->uid) ||
            !text_equal(grant->grant.container, container_of_admission(admission)->name) ||
            !text_equal(grant->grant.resource, request->resource))
            continue;
        prestart_request_encode(&ids, &bytes);
        admission->endpoint = endpoint;
        admission->asking = true;
        return grpc_client_unary(endpoint->client, &call, buf_span(&bytes), on_prestarted, kubelet,
                                 NULL, &err) == 0;
    }
    return false;
}

/* The kubelet's last look: what all pods hold against what the node has. */
static bool admission_fits(struct sim_kubelet *kubelet, struct admission *admission, char *message,
                           size_t size)
{
    size_t n;
    const struct sim_capacity *capacity = sim_kubelet_capacity(kubelet, &n);

    for (size_t i = 0; i < n; i++) {
        uint32_t wanted = 0, held = device_books_held(&kubelet->books, capacity[i].resource);

        for (size_t c = 0; c < admission->pod->n_containers; c++)
            for (size_t q = 0; q < admission->pod->containers[c].n_requests; q++)
                if (text_equal(admission->pod->containers[c].requests[q].resource,
                               capacity[i].resource))
                    wanted += admission->pod->containers[c].requests[q].count;
        if (wanted == 0 || held <= capacity[i].allocatable)
            continue;
        snprintf(message, size,
                 "Node didn't have enough resource: %s, requested: %u, used: %u, capacity: %u",
                 capacity[i].resource, wanted, held > wanted ? held - wanted : 0,
                 capacity[i].allocatable);
        return false;
    }
    return true;
}

/* Free what nobody claims: pods that ended, and after a restart pods that are no longer there. */
static void collect(struct sim_kubelet *kubelet)
{
    for (struct device_grant *g = kubelet->books.grants; kubelet->restarted && g; g = g->next)
        if (!map_has(&kubelet->claimed, g->grant.pod_uid))
            sim_kubelet_pod_ended(kubelet, g->grant.pod_uid);
    kubelet->restarted = false;
    device_books_collect(&kubelet->books);
}

/* One step of the pod at the head of the queue: the next request of the next container. */
static void admission_step(struct timer *timer, void *user)
{
    struct sim_kubelet *kubelet = user;
    struct admission *admission = kubelet->queue;
    struct err err = {};
    char message[512];

    if (!admission)
        return;
    if (!kubelet->busy) {
        kubelet->busy = true;
        collect(kubelet);
    }
    while (admission->container < admission->pod->n_containers) {
        const struct sim_container *container = container_of_admission(admission);

        if (admission->request == container->n_requests) {
            admission->container++;
            admission->request = 0;
            continue;
        }
        if (admission->starting) {
            if (admission_prestart(kubelet, admission))
                return;
            admission->request++;
            continue;
        }
        const struct sim_request *request = request_of_admission(admission);
        admission->choice = (struct device_choice){};
        if (device_books_choose(&kubelet->books, admission->pod, container, request,
                                &admission->arena, &admission->choice, &err) < 0) {
            admission_refuse(kubelet, "%s", err.text);
            return;
        }
        admission->endpoint = endpoint_of(kubelet, request->resource);
        if (admission->choice.nothing_to_do || !admission->endpoint) {
            admission->request++;
            continue;
        }
        for (size_t i = admission->choice.available.n; kubelet->shuffle && i > 1; i--) {
            size_t j = loop_random(kubelet->loop) % i;
            const char **items = admission->choice.available.items, *kept = items[i - 1];

            items[i - 1] = items[j];
            items[j] = kept;
        }
        if (!admission->choice.settled &&
            admission->endpoint->options.preferred_allocation_available)
            admission_prefer(kubelet, admission);
        else
            admission_allocate(kubelet, admission, NULL);
        return;
    }
    if (!admission->starting) {
        char reason[128];

        if (!admission_fits(kubelet, admission, message, sizeof(message))) {
            const char *resource = strchr(message, ':') + 2;

            snprintf(reason, sizeof(reason), "OutOf%.*s", (int)strcspn(resource, ","), resource);
            admission_finish(kubelet, reason, message);
            return;
        }
        admission->starting = true;
        admission->container = admission->request = 0;
        admission_next(kubelet);
        return;
    }
    admission_finish(kubelet, NULL, NULL);
}

int sim_kubelet_admit(struct sim_kubelet *kubelet, const struct sim_pod *pod, sim_admit_fn *answer,
                      void *user, struct err *err)
{
    struct admission *admission = calloc(1, sizeof(*admission)), **last = &kubelet->queue;

    if (!admission)
        return err_no_memory(err);
    *admission = (struct admission){
        .pod = pod, .answer = answer, .user = user, .arena = ARENA_MAX(MESSAGE_ARENA_BYTES)
    };
    while (*last)
        last = &(*last)->next;
    *last = admission;
    if (!kubelet->busy)
        admission_next(kubelet);
    return 0;
}

void sim_kubelet_pod_ended(struct sim_kubelet *kubelet, const char *uid)
{
    if (map_set(&kubelet->books.ended, uid, kubelet) < 0)
        log_error("out of memory: a pod's devices stay taken");
}

void sim_kubelet_pod_running(struct sim_kubelet *kubelet, const char *uid)
{
    if (map_set(&kubelet->claimed, uid, kubelet) < 0)
        log_error("out of memory: a running pod's devices count as free");
}

/* ---- life ---- */

static const struct grpc_method registration[] = {
    { PLUGIN_PATH_REGISTER, GRPC_UNARY, on_register },
};

/* A kubelet that starts throws out every socket in its directory: plugins have to come again. */
static int remove_sockets(const char *dir, struct err *err)
{
    DIR *stream = opendir(dir);
    struct dirent *entry;

    if (!stream)
        return err_set(err, errno, "%s: %s", dir, strerror(errno));
    while ((entry = readdir(stream))) {
        struct stat st;

        if (fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISSOCK(st.st_mode))
            unlinkat(dirfd(stream), entry->d_name, 0);
    }
    closedir(stream);
    return 0;
}

int sim_kubelet_new(struct loop *loop, const struct sim_kubelet_options *options,
                    struct sim_kubelet **ret, struct err *err)
{
    auto_(sim_kubelet_freep) struct sim_kubelet *kubelet = calloc(1, sizeof(*kubelet));

    if (!kubelet)
        return err_no_memory(err);
    kubelet->loop = loop;
    kubelet->shuffle = options->shuffle;
    kubelet->on_change = options->on_change;
    kubelet->user = options->user;
    kubelet->dir = strdup(options->dir);
    kubelet->node_name = strdup(options->node_name ? options->node_name : "");
    if (!kubelet->dir || !kubelet->node_name ||
        asprintf(&kubelet->socket, "%s/kubelet.sock", options->dir) < 0)
        return err_no_memory(err);

    int r = remove_sockets(kubelet->dir, err);
    if (r < 0)
        return r;
    struct err damage = {};
    r = checkpoint_load(kubelet->dir, &kubelet->books, &damage);
    if (r < 0 && r != -ENOENT)
        log_warn("the checkpoint cannot be read, starting empty", F_ERR(&damage));
    kubelet->restarted = r >= 0;

    r = grpc_server_new(loop, NULL, &kubelet->server, err);
    if (r == 0)
        r = grpc_server_add(kubelet->server, registration, ARRAY_LEN(registration), kubelet, err);
    if (r == 0)
        r = grpc_server_listen(kubelet->server, kubelet->socket, NULL, err);
    if (r < 0)
        return r;
    *ret = steal(kubelet);
    return 0;
}

void sim_kubelet_free(struct sim_kubelet *kubelet)
{
    if (!kubelet)
        return;
    timer_stop(&kubelet->step);
    grpc_server_free(kubelet->server);
    while (kubelet->endpoints) {
        struct endpoint *next = kubelet->endpoints->next;

        endpoint_free(kubelet->endpoints);
        kubelet->endpoints = next;
    }
    while (kubelet->queue) {
        struct admission *next = kubelet->queue->next;

        admission_free(kubelet->queue);
        kubelet->queue = next;
    }
    device_books_done(&kubelet->books);
    map_done(&kubelet->claimed);
    free(kubelet->dir);
    free(kubelet->socket);
    free(kubelet->node_name);
    free(kubelet);
}

const char *sim_kubelet_socket(const struct sim_kubelet *kubelet)
{
    return kubelet->socket;
}

const struct sim_capacity *sim_kubelet_capacity(struct sim_kubelet *kubelet, size_t *ret_n)
{
    return device_books_capacity(&kubelet->books, ret_n);
}

uint32_t sim_kubelet_n_replicas(struct sim_kubelet *kubelet, const char *physical_id)
{
    size_t len = strlen(physical_id);
    uint32_t n = 0;

    for (size_t b = 0; b < kubelet->books.n_books; b++)
        for (size_t i = 0; i < kubelet->books.books[b].list.n; i++) {
            const char *id = kubelet->books.books[b].list.items[i].id;

            n += strncmp(id, physical_id, len) == 0 && text_starts(id + len, "::");
        }
    return n;
}

uint32_t sim_kubelet_n_registrations(const struct sim_kubelet *kubelet)
{
    return kubelet->n_registrations;
}

bool sim_kubelet_settled(const struct sim_kubelet *kubelet)
{
    for (const struct endpoint *e = kubelet->endpoints; e; e = e->next) {
        if (!e->connected)
            continue;
        const struct device_book *book =
            device_book_find((struct device_books *)&kubelet->books, e->resource);

        if (!book || !book->listed)
            return false;
    }
    return true;
}

const struct sim_grant *sim_kubelet_next_grant(const struct sim_kubelet *kubelet,
                                               const struct sim_grant *after)
{
    const struct device_grant *grant =
        after ? container_of(after, struct device_grant, grant)->next : kubelet->books.grants;

    return grant ? &grant->grant : NULL;
}
