#include "agent/plugins.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "agent/ledger.h"
#include "base/log.h"
#include "base/mem.h"
#include "kubelet/device_plugin.h"
#include "mps/mps_control.h"
#include "share/allocate.h"
#include "share/prefer.h"

enum { MPS_RETRY_MIN_MS = 250, MPS_RETRY_MAX_MS = 10000 };

/* The first two belong to MPS: a daemon is asked, or will be asked again. */
enum slot_state { SLOT_ASKING, SLOT_WAITING, SLOT_SERVING, SLOT_LEAVING, SLOT_N_STATES };

/* One resource. */
struct slot {
    struct plugins *plugins;
    struct slot *next;
    char *resource; /* owned */
    bool mps;       /* shared by MPS: a resource that changes this is another one */
    enum slot_state state;
    struct device_plugin *plugin; /* owned */
    struct mps_control *control;  /* owned; while asking */
    struct timer timer;           /* asks again; or frees a slot that has left */
    struct backoff backoff;
    char trouble[1024]; /* what was last complained about, so that it is said once */
};

struct plugins {
    struct loop *loop;
    struct arena arena; /* owns the strings */
    struct plugins_options options;
    struct view *view;  /* owned */
    struct slot *slots; /* owned */
    struct ledger ledger;
    void (*stopped)(void *user);
    void *stopped_user;
    struct timer stop; /* tells that everything has stopped */
};

static void tell_changed(struct plugins *plugins)
{
    if (plugins->options.changed)
        plugins->options.changed(plugins->options.user);
}

/* ---- answering the kubelet ---- */

static const struct resource *find_resource(const struct plugins *plugins, const char *name,
                                            struct err *err)
{
    const struct resource *resource =
        plugins->view ? resource_find(plugins->view->set, name) : NULL;

    if (!resource)
        err_set(err, ENOENT, "%s is not offered on this node any more", name);
    return resource;
}

static int on_prefer(void *user, const char *name, const struct prefer_request *request,
                     struct arena *arena, struct id_list *ret, struct err *err)
{
    struct slot *slot = user;
    const struct view *view = slot->plugins->view;
    const struct resource *resource = find_resource(slot->plugins, name, err);

    if (!resource)
        return -ENOENT;
    return prefer(resource, view->inventory, view->loaded->config, request, arena, &ret->items,
                  &ret->n, err);
}

/* A random UUID (RFC 9562, version 4) for the key of a CDI annotation. */
static int make_uuid(char uuid[static 37], struct err *err)
{
    uint8_t b[16];

    if (getrandom(b, sizeof(b), 0) != sizeof(b))
        return err_set(err, errno, "no random bytes for a UUID: %s", strerror(errno));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(uuid, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
    return 0;
}

static void note_allocation(struct plugins *plugins, const char *resource,
                            const struct id_list *ids)
{
    uint64_t now = loop_now_ns(plugins->loop), n_before = 0;

    for (size_t i = 0; i < ids->n; i++) {
        const struct ledger_entry *entry = ledger_find(&plugins->ledger, ids->items[i]);

        n_before = MAX(n_before, entry ? entry->n : 0);
        ledger_note(&plugins->ledger, ids->items[i], now);
    }
    log_info("devices allocated", F_STR("resource", resource), F_INT("n", ids->n),
             F_STR("first", ids->n ? ids->items[0] : ""), F_INT("times_before", n_before));
}

static int on_allocate(void *user, const char *name, const struct id_list *ids, struct arena *arena,
                       struct allocation **ret, struct err *err)
{
    struct slot *slot = user;
    const struct view *view = slot->plugins->view;
    const struct resource *resource = find_resource(slot->plugins, name, err);
    char uuid[37] = "";
    int r = resource ? 0 : -ENOENT;

    if (r == 0 && view->loaded->config->device_list & LIST_CDI_ANNOTATIONS)
        r = make_uuid(uuid, err);
    if (r == 0)
        r = allocate(resource, view->inventory, view->loaded->config, ids->items, ids->n, uuid,
                     arena, ret, err);
    if (r < 0) {
        log_warn("allocation refused", F_STR("resource", name), F_STR("why", err->text));
        return r;
    }
    note_allocation(slot->plugins, name, ids);
    return 0;
}

/* ---- telling what the kubelet does ---- */

/* True when this is not what was complained about last time. */
static bool is_new_trouble(struct slot *slot, const char *why)
{
    if (text_equal(slot->trouble, why))
        return false;
    snprintf(slot->trouble, sizeof(slot->trouble), "%s", why);
    return true;
}

static void on_registration(void *user, const char *resource, enum registration_state from,
                            enum registration_state to, const char *why, uint32_t next_try_ms)
{
    struct slot *slot = user;

    if (to == REGISTRATION_REGISTERED) {
        slot->trouble[0] = '\0';
        log_info("registered with the kubelet", F_STR("resource", resource),
                 F_STR("socket", device_plugin_socket(slot->plugin)));
    } else if (to == REGISTRATION_ALONE) {
        log_info("serving without registration", F_STR("resource", resource),
                 F_STR("socket", device_plugin_socket(slot->plugin)));
    } else if ((to == REGISTRATION_WAITING || to == REGISTRATION_UNBOUND) &&
               is_new_trouble(slot, why)) {
        log_warn("not registered with the kubelet, trying again", F_STR("resource", resource),
                 F_STR("why", why), F_MS("delay", next_try_ms));
    }
    tell_changed(slot->plugins);
}

static const struct device_plugin_ops plugin_ops = { on_prefer, on_allocate, on_registration };

/* ---- the life of a slot ---- */

static void slot_free(struct slot *slot)
{
    timer_stop(&slot->timer);
    mps_control_free(slot->control);
    device_plugin_free(slot->plugin);
    mem_free(slot->resource);
    mem_free(slot);
}

static void unlink_slot(struct slot *slot)
{
    struct slot **at = &slot->plugins->slots;

    while (*at != slot)
        at = &(*at)->next;
    *at = slot->next;
}

static void on_all_stopped(struct timer *timer, void *user)
{
    struct plugins *plugins = user;

    plugins->stopped(plugins->stopped_user);
}

static void maybe_stopped(struct plugins *plugins)
{
    if (plugins->stopped && !plugins->slots)
        loop_defer(plugins->loop, &plugins->stop, on_all_stopped, plugins);
}

static void free_left_slot(struct timer *timer, void *user)
{
    struct slot *slot = user;
    struct plugins *plugins = slot->plugins;

    unlink_slot(slot);
    slot_free(slot);
    maybe_stopped(plugins);
}

/* The server's own callback is no place to free the server in. */
static void on_plugin_stopped(void *user)
{
    struct slot *slot = user;

    loop_defer(slot->plugins->loop, &slot->timer, free_left_slot, slot);
}

static void slot_leave(struct slot *slot)
{
    if (slot->state == SLOT_LEAVING)
        return;
    log_info("resource withdrawn", F_STR("resource", slot->resource));
    slot->state = SLOT_LEAVING;
    timer_stop(&slot->timer);
    mps_control_free(steal(slot->control));
    device_plugin_stop(slot->plugin, on_plugin_stopped, slot);
}

static void slot_serve(struct slot *slot)
{
    slot->state = SLOT_SERVING;
    slot->trouble[0] = '\0';
    device_plugin_start(slot->plugin);
}

static void ask_mps(struct slot *slot);

static void on_ask_again(struct timer *timer, void *user)
{
    ask_mps(user);
}

static void on_mps_answer(void *user, int r, struct span answer, const struct err *why)
{
    struct slot *slot = user;
    uint32_t delay_ms;

    mps_control_free(steal(slot->control));
    if (r >= 0) {
        log_info("mps daemon answers", F_STR("resource", slot->resource));
        slot_serve(slot);
        tell_changed(slot->plugins);
        return;
    }
    slot->state = SLOT_WAITING;
    delay_ms = backoff_next_ms(&slot->backoff, loop_random(slot->plugins->loop));
    timer_start(&slot->timer, slot->plugins->loop, delay_ms, on_ask_again, slot);
    if (is_new_trouble(slot, why->text))
        log_warn("error waiting for MPS daemon: error checking MPS daemon health, trying again",
                 F_STR("resource", slot->resource), F_STR("why", why->text),
                 F_MS("delay", delay_ms));
    tell_changed(slot->plugins);
}

static void ask_mps(struct slot *slot)
{
    const struct plugins *plugins = slot->plugins;
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    const char *root = plugins->options.mps_root;
    const char *pipe_dir = arena_printf(&arena, "%s/%s/pipe", root, slot->resource);
    const char *log_dir = arena_printf(&arena, "%s/%s/log", root, slot->resource);
    struct err err = {};
    int r = pipe_dir && log_dir ? 0 : err_no_memory(&err);

    slot->state = SLOT_ASKING;
    if (r == 0)
        r = mps_control_send(plugins->loop, pipe_dir, log_dir, MPS_COMMAND_CHECK, on_mps_answer,
                             slot, &slot->control, &err);
    if (r < 0)
        on_mps_answer(slot, r, (struct span){}, &err);
}

static bool is_mps(const struct resource *resource)
{
    return resource->shared && resource->sharing == SHARING_MPS;
}

static int slot_new(struct plugins *plugins, const struct resource *resource, struct slot **ret,
                    struct err *err)
{
    const struct device_plugin_spec spec = {
        .resource = resource->name,
        .endpoint = resource->endpoint,
        .dir = plugins->options.dir,
        .kubelet_socket = plugins->options.kubelet_socket,
    };
    struct slot *slot = mem_alloc(sizeof(*slot));

    if (!slot)
        return err_no_memory(err);
    *slot = (struct slot){
        .plugins = plugins,
        .mps = is_mps(resource),
        .resource = mem_alloc(strlen(resource->name) + 1),
        .backoff = { .min_ms = MPS_RETRY_MIN_MS, .max_ms = MPS_RETRY_MAX_MS },
    };
    int r = slot->resource ? 0 : err_no_memory(err);
    if (r == 0) {
        strcpy(slot->resource, resource->name);
        r = device_plugin_new(plugins->loop, &spec, &plugin_ops, slot, &slot->plugin, err);
    }
    if (r < 0) {
        slot_free(slot);
        return r;
    }
    *ret = slot;
    return 0;
}

/* ---- making the slots equal to the view ---- */

static struct slot *find_slot(const struct plugins *plugins, const char *resource)
{
    for (struct slot *slot = plugins->slots; slot; slot = slot->next)
        if (slot->state != SLOT_LEAVING && text_equal(slot->resource, resource))
            return slot;
    return NULL;
}

static int update_list(struct slot *slot, const struct view *view, const struct resource *resource,
                       struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MESSAGE_ARENA_BYTES);
    struct device_list list;
    int r = view_list(view, resource, &arena, &list, err);

    return r < 0 ? r : device_plugin_update(slot->plugin, &list, err);
}

static size_t count_healthy(const struct resource *resource)
{
    size_t n = 0;

    for (size_t i = 0; i < resource->n_devices; i++)
        n += resource->devices[i].healthy;
    return n;
}

static int add_slot(struct plugins *plugins, const struct resource *resource, struct err *err)
{
    struct slot *slot = NULL;
    int r = slot_new(plugins, resource, &slot, err);

    if (r < 0)
        return r;
    r = update_list(slot, plugins->view, resource, err);
    if (r < 0) {
        slot_free(slot);
        return r;
    }
    log_info("resource offered", F_STR("resource", resource->name),
             F_INT("devices", resource->n_devices), F_INT("healthy", count_healthy(resource)));
    slot->next = plugins->slots;
    plugins->slots = slot;
    if (slot->mps)
        ask_mps(slot);
    else
        slot_serve(slot);
    return 0;
}

/* A resource with nothing in it is not offered at all (spec/device-plugin §1.2). */
static const struct resource *wanted_for(const struct plugins *plugins, const struct slot *slot)
{
    const struct resource *resource = resource_find(plugins->view->set, slot->resource);

    return resource && resource->n_devices > 0 && is_mps(resource) == slot->mps ? resource : NULL;
}

static void show_resource(struct plugins *plugins, const struct resource *resource)
{
    struct slot *slot = find_slot(plugins, resource->name);
    struct err err = {};
    int r;

    if (resource->n_devices == 0)
        return;
    if (!slot) {
        r = add_slot(plugins, resource, &err);
    } else {
        r = update_list(slot, plugins->view, resource, &err);
        if (r > 0)
            log_info("device list changed", F_STR("resource", resource->name),
                     F_INT("devices", resource->n_devices),
                     F_INT("healthy", count_healthy(resource)));
    }
    if (r < 0)
        log_error("resource cannot be offered", F_STR("resource", resource->name), F_ERR(&err));
}

void plugins_refresh(struct plugins *plugins)
{
    const struct resource_set *set = plugins->view->set;

    for (struct slot *slot = plugins->slots; slot; slot = slot->next)
        if (!wanted_for(plugins, slot))
            slot_leave(slot);
    for (size_t i = 0; i < set->n_resources; i++)
        show_resource(plugins, &set->resources[i]);
    tell_changed(plugins);
}

static bool is_offered(void *user, const char *id)
{
    const struct resource_set *set = user;

    for (size_t i = 0; i < set->n_resources; i++)
        if (resource_device(&set->resources[i], id))
            return true;
    return false;
}

void plugins_show(struct plugins *plugins, struct view *view)
{
    struct view *old = plugins->view;

    plugins->view = view;
    plugins_refresh(plugins);
    ledger_keep(&plugins->ledger, is_offered, view->set);
    view_free(old);
}

struct view *plugins_view(const struct plugins *plugins)
{
    return plugins->view;
}

/* ---- life ---- */

int plugins_new(struct loop *loop, const struct plugins_options *options, struct plugins **ret,
                struct err *err)
{
    auto_(plugins_freep) struct plugins *plugins = mem_alloc(sizeof(*plugins));

    if (!plugins)
        return err_no_memory(err);
    *plugins = (struct plugins){ .loop = loop, .arena = ARENA_MAX(KIB(64)), .options = *options };
    plugins->options.dir = arena_strdup(&plugins->arena, options->dir);
    plugins->options.kubelet_socket = arena_strdup(&plugins->arena, options->kubelet_socket);
    plugins->options.mps_root = arena_strdup(&plugins->arena, options->mps_root);
    if (!plugins->options.dir || !plugins->options.kubelet_socket || !plugins->options.mps_root)
        return err_no_memory(err);
    *ret = steal(plugins);
    return 0;
}

void plugins_free(struct plugins *plugins)
{
    if (!plugins)
        return;
    timer_stop(&plugins->stop);
    while (plugins->slots) {
        struct slot *slot = plugins->slots;

        plugins->slots = slot->next;
        slot_free(slot);
    }
    view_free(plugins->view);
    ledger_done(&plugins->ledger);
    arena_done(&plugins->arena);
    mem_free(plugins);
}

void plugins_stop(struct plugins *plugins, void (*stopped)(void *user), void *user)
{
    plugins->stopped = stopped;
    plugins->stopped_user = user;
    for (struct slot *slot = plugins->slots; slot; slot = slot->next)
        slot_leave(slot);
    maybe_stopped(plugins);
}

void plugins_kubelet_created(struct plugins *plugins)
{
    for (struct slot *slot = plugins->slots; slot; slot = slot->next)
        if (slot->state == SLOT_SERVING)
            device_plugin_kubelet_created(slot->plugin);
}

void plugins_check_sockets(struct plugins *plugins)
{
    for (struct slot *slot = plugins->slots; slot; slot = slot->next)
        if (slot->state == SLOT_SERVING)
            device_plugin_check_socket(slot->plugin);
}

static bool slot_settled(const struct slot *slot)
{
    if (slot->state != SLOT_SERVING)
        return slot->state == SLOT_WAITING;
    switch (device_plugin_state(slot->plugin)) {
    case REGISTRATION_REGISTERED:
    case REGISTRATION_ALONE:
    case REGISTRATION_WAITING:
    case REGISTRATION_UNBOUND:
        return true;
    default:
        return false;
    }
}

bool plugins_settled(const struct plugins *plugins)
{
    for (const struct slot *slot = plugins->slots; slot; slot = slot->next)
        if (!slot_settled(slot))
            return false;
    return true;
}

const char *plugins_state(const struct plugins *plugins, const char *resource)
{
    const struct slot *slot = find_slot(plugins, resource);

    if (!slot)
        return NULL;
    if (slot->state != SLOT_SERVING)
        return "waiting for MPS";
    return registration_state_names[device_plugin_state(slot->plugin)];
}
