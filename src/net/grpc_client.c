#include "net/grpc_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "net/grpc_client_conn.h"
#include "net/pump.h"

enum {
    DEFAULT_CONNECT_MS = 10000,
    DEFAULT_BACKOFF_MIN_MS = 200,
    DEFAULT_BACKOFF_MAX_MS = 30000,
    MAX_OPEN_CALLS = 1000,
    MAX_LINKS = 4, /* the current one and some that finish their calls after a GOAWAY */
};

/* One connection with its socket. */
struct link {
    struct grpc_client *client;
    struct grpc_client_conn *conn; /* owned */
    struct pump *pump;             /* owned */
    struct link *next;
};

struct grpc_client {
    struct loop *loop;
    char *path, *authority, *user_agent; /* owned */
    struct grpc_client_options options;
    struct backoff backoff;
    enum grpc_client_state state;
    struct link *links;   /* owned; newest first */
    struct link *current; /* the one for new calls, or NULL */
    struct request_list waiting;
    struct timer step;   /* IDLE: connect now; CONNECTING: too late; BACKOFF: try again */
    struct timer refuse; /* in BACKOFF: tell the callers that do not want to wait */
    bool wanted;         /* connect even if no call waits */
    bool freed;
    unsigned busy;
    char why[200]; /* of the last failure */
};

static void free_memory(struct grpc_client *client)
{
    mem_free(client->path);
    mem_free(client->authority);
    mem_free(client->user_agent);
    mem_free(client);
}

/* Callbacks may free the client: whoever goes on after one enters before and leaves behind it. */
static void leave(struct grpc_client *client)
{
    if (--client->busy == 0 && client->freed)
        free_memory(client);
}

static void set_state(struct grpc_client *client, enum grpc_client_state state, const char *why)
{
    if (client->state == state)
        return;
    client->state = state;
    if (client->options.on_state)
        client->options.on_state(client, state, why, client->options.user);
}

static void link_free(struct link *link)
{
    struct link **at = &link->client->links;

    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    if (link->client->current == link)
        link->client->current = NULL;
    pump_free(link->pump, false);
    grpc_client_conn_free(link->conn);
    mem_free(link);
}

/* ---- the life of a connection ---- */

static void refuse_impatient(struct grpc_client *client)
{
    struct grpc_request *request = client->waiting.first;

    client->busy++;
    while (!client->freed && client->state == GRPC_CLIENT_BACKOFF && request) {
        if (request->wait_for_ready) {
            request = request->next;
            continue;
        }
        request_finish(request, GRPC_UNAVAILABLE, client->why);
        request = client->waiting.first; /* callbacks may have changed the list */
    }
    leave(client);
}

static void on_refuse(struct timer *timer, void *user)
{
    refuse_impatient(user);
}

static void on_step(struct timer *timer, void *user);

static void back_off(struct grpc_client *client)
{
    uint32_t delay_ms = backoff_next_ms(&client->backoff, loop_random(client->loop));

    timer_start(&client->step, client->loop, delay_ms, on_step, client);
    client->busy++;
    set_state(client, GRPC_CLIENT_BACKOFF, client->why);
    if (!client->freed)
        refuse_impatient(client);
    leave(client);
}

PRINTF(2, 3) static void remember_why(struct grpc_client *client, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(client->why, sizeof(client->why), format, args);
    va_end(args);
}

/* What becomes of a client whose current connection is no more. */
static void after_loss(struct grpc_client *client)
{
    timer_stop(&client->step);
    if (client->state == GRPC_CLIENT_CONNECTING || client->options.keep_connected ||
        client->waiting.n > 0) {
        back_off(client);
        return;
    }
    set_state(client, GRPC_CLIENT_IDLE, client->why);
}

static void on_pump_closed(void *user, const char *why)
{
    struct link *link = user;
    struct grpc_client *client = link->client;

    client->busy++;
    remember_why(client, "%s: %s", client->path, why[0] ? why : "the server closed the connection");
    pump_free(steal(link->pump), false);
    if (client->current == link) {
        client->current = NULL;
        after_loss(client);
    }
    if (!client->freed)
        grpc_client_conn_lost(link->conn, client->why);
    if (!client->freed)
        link_free(link);
    leave(client);
}

static void start_waiting(struct grpc_client *client)
{
    struct err err;

    client->busy++;
    while (!client->freed && client->current && client->waiting.first) {
        struct grpc_request *request = client->waiting.first;
        if (request_start(request, client->current->conn, &err) < 0)
            request_finish(request, GRPC_UNAVAILABLE, err.text);
    }
    leave(client);
}

static void on_ready(void *user)
{
    struct link *link = user;
    struct grpc_client *client = link->client;

    if (client->current != link || client->state != GRPC_CLIENT_CONNECTING)
        return; /* a later SETTINGS frame */
    timer_stop(&client->step);
    backoff_reset(&client->backoff);
    client->busy++;
    set_state(client, GRPC_CLIENT_READY, "");
    if (!client->freed)
        start_waiting(client);
    leave(client);
}

/* The server takes no new calls here. Those that are open go on; the pump sees the end. */
static void on_goaway(void *user)
{
    struct link *link = user;
    struct grpc_client *client = link->client;

    if (client->current != link)
        return;
    client->current = NULL;
    remember_why(client, "%s: the server is going away", client->path);
    after_loss(client);
}

static int link_new(struct grpc_client *client, int fd, struct err *err)
{
    struct link *link = mem_alloc(sizeof(*link));

    if (!link) {
        close(fd);
        return err_no_memory(err);
    }
    link->client = client;
    link->next = client->links;
    client->links = link;
    int r = grpc_client_conn_new(client->loop, &client->options, &link->conn, err);
    if (r < 0)
        close(fd);
    else
        r = pump_new(client->loop, fd, link->conn->h2, on_pump_closed, link, &link->pump, err);
    if (r < 0) {
        link_free(link);
        return r;
    }
    link->conn->on_ready = on_ready;
    link->conn->on_goaway = on_goaway;
    link->conn->user = link;
    client->current = link;
    return 0;
}

/* The oldest connection that only finishes calls is let go when there are too many. */
static void limit_links(struct grpc_client *client)
{
    struct link *oldest = client->links;
    size_t n = 0;

    for (struct link *link = client->links; link; link = link->next, n++)
        oldest = link;
    if (n < MAX_LINKS)
        return;
    client->busy++;
    grpc_client_conn_lost(oldest->conn, "the server went away and did not finish this call");
    if (!client->freed)
        link_free(oldest);
    leave(client);
}

static void try_connect(struct grpc_client *client)
{
    struct err err;
    int fd = -1;

    client->busy++;
    client->wanted = false;
    limit_links(client);
    if (!client->freed) {
        int r = sock_connect(client->path, &fd, &err);
        if (r == 0)
            r = link_new(client, fd, &err);
        if (r == 0) {
            uint32_t timeout_ms = client->options.connect_timeout_ms;
            timer_start(&client->step, client->loop, timeout_ms, on_step, client);
            set_state(client, GRPC_CLIENT_CONNECTING, "");
        } else {
            remember_why(client, "%s", err.text);
            back_off(client);
        }
    }
    leave(client);
}

static void give_up_connecting(struct grpc_client *client)
{
    link_free(client->current);
    remember_why(client, "%s: the server has not greeted within %u ms", client->path,
                 client->options.connect_timeout_ms);
    back_off(client);
}

static void on_step(struct timer *timer, void *user)
{
    struct grpc_client *client = user;

    switch (client->state) {
    case GRPC_CLIENT_IDLE:
        try_connect(client);
        break;
    case GRPC_CLIENT_CONNECTING:
        give_up_connecting(client);
        break;
    case GRPC_CLIENT_BACKOFF:
        if (client->wanted || client->options.keep_connected || client->waiting.n > 0)
            try_connect(client);
        else
            set_state(client, GRPC_CLIENT_IDLE, client->why);
        break;
    case GRPC_CLIENT_READY:
    case GRPC_CLIENT_N_STATES:
        break;
    }
}

/* ---- calls ---- */

static void wait_for_connection(struct grpc_client *client, struct grpc_request *request)
{
    request_list_add(&client->waiting, request);
    if (client->state == GRPC_CLIENT_IDLE)
        loop_defer(client->loop, &client->step, on_step, client);
    else if (client->state == GRPC_CLIENT_BACKOFF)
        loop_defer(client->loop, &client->refuse, on_refuse, client);
}

static int start(struct grpc_client *client, const struct grpc_call_options *options,
                 struct span message, struct grpc_request **ret, struct err *err)
{
    size_t n_open = client->waiting.n;

    for (struct link *link = client->links; link; link = link->next)
        n_open += link->conn->requests.n;
    if (n_open >= MAX_OPEN_CALLS)
        return err_set(err, EAGAIN, "%s: %zu calls are open already", client->path, n_open);
    int r = request_new(client->loop, options, message, client->options.max_message, ret, err);
    if (r < 0)
        return r;
    if (!client->current || client->state != GRPC_CLIENT_READY) {
        wait_for_connection(client, *ret);
        return 0;
    }
    r = request_start(*ret, client->current->conn, err);
    if (r < 0)
        request_free(*ret);
    return r;
}

int grpc_client_unary(struct grpc_client *client, const struct grpc_call_options *options,
                      struct span message, grpc_done_fn *done, void *user,
                      struct grpc_request **ret, struct err *err)
{
    struct grpc_request *request = NULL;
    int r = start(client, options, message, &request, err);

    if (r < 0)
        return r;
    request->done = done;
    request->user = user;
    if (ret)
        *ret = request;
    return 0;
}

int grpc_client_stream(struct grpc_client *client, const struct grpc_call_options *options,
                       struct span message, grpc_message_fn *on_message, grpc_end_fn *on_end,
                       void *user, struct grpc_request **ret, struct err *err)
{
    struct grpc_request *request = NULL;
    int r = start(client, options, message, &request, err);

    if (r < 0)
        return r;
    request->on_message = on_message;
    request->on_end = on_end;
    request->user = user;
    if (ret)
        *ret = request;
    return 0;
}

/* ---- life ---- */

static int copy(const char *text, char **ret)
{
    *ret = mem_alloc(strlen(text) + 1);
    if (!*ret)
        return -ENOMEM;
    strcpy(*ret, text);
    return 0;
}

static int copy_options(struct grpc_client *client, const char *path,
                        const struct grpc_client_options *options)
{
    const char *authority = options->authority ? options->authority : "localhost";
    const char *agent = options->user_agent ? options->user_agent : "tranche/" TRANCHE_VERSION;

    client->options = *options;
    if (copy(path, &client->path) < 0 || copy(authority, &client->authority) < 0 ||
        copy(agent, &client->user_agent) < 0)
        return -ENOMEM;
    client->options.authority = client->authority;
    client->options.user_agent = client->user_agent;
    if (!client->options.max_message)
        client->options.max_message = GRPC_MAX_MESSAGE;
    if (!client->options.connect_timeout_ms)
        client->options.connect_timeout_ms = DEFAULT_CONNECT_MS;
    client->backoff = options->backoff;
    if (!client->backoff.min_ms)
        client->backoff.min_ms = DEFAULT_BACKOFF_MIN_MS;
    if (!client->backoff.max_ms)
        client->backoff.max_ms = DEFAULT_BACKOFF_MAX_MS;
    return 0;
}

int grpc_client_new(struct loop *loop, const char *path, const struct grpc_client_options *options,
                    struct grpc_client **ret, struct err *err)
{
    const struct grpc_client_options none = {};
    struct grpc_client *client = mem_alloc(sizeof(*client));

    if (!client)
        return err_no_memory(err);
    client->loop = loop;
    if (copy_options(client, path, options ? options : &none) < 0) {
        free_memory(client);
        return err_no_memory(err);
    }
    if (client->options.keep_connected)
        loop_defer(loop, &client->step, on_step, client);
    *ret = client;
    return 0;
}

/* Tells the server that its answers are not wanted, without anyone here being called back. */
static void say_goodbye(struct link *link)
{
    while (link->conn->requests.first)
        grpc_request_cancel(link->conn->requests.first);
    h2_goaway(link->conn->h2, H2_NO_ERROR, "the client is leaving");
    pump_free(steal(link->pump), true);
}

void grpc_client_free(struct grpc_client *client)
{
    if (!client || client->freed)
        return;
    client->freed = true;
    client->busy++;
    timer_stop(&client->step);
    timer_stop(&client->refuse);
    while (client->waiting.first)
        request_free(client->waiting.first);
    while (client->links) {
        if (client->links->pump)
            say_goodbye(client->links);
        link_free(client->links);
    }
    leave(client);
}

enum grpc_client_state grpc_client_state(const struct grpc_client *client)
{
    return client->state;
}

bool grpc_client_peer(const struct grpc_client *client, struct sock_peer *ret)
{
    return client->state == GRPC_CLIENT_READY && client->current &&
           sock_peer(pump_fd(client->current->pump), ret, NULL) == 0;
}

void grpc_client_connect(struct grpc_client *client)
{
    if (client->state != GRPC_CLIENT_IDLE && client->state != GRPC_CLIENT_BACKOFF)
        return;
    client->wanted = true;
    backoff_reset(&client->backoff);
    timer_start(&client->step, client->loop, 0, on_step, client);
}
