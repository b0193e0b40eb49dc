#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/dir_watch.h"
#include "agent/notify.h"
#include "agent/plugins.h"
#include "agent/reload.h"
#include "agent/view.h"
#include "base/log.h"
#include "gpu/nvml.h"
#include "gpu/observe.h"
#include "gpu/scan.h"
#include "kubelet/cdi.h"
#include "net/loop.h"

enum {
    RELOAD_DELAY_MS = 200,    /* a file is often swapped in several steps */
    LIBRARY_RETRY_MS = 10000, /* a driver container may still be installing */
    SENTENCE_BYTES = sizeof(((struct err *)0)->text),
};

struct agent {
    const struct agent_options *options;
    struct loop *loop;
    struct arena arena; /* owns paths */
    const char *plugin_dir, *kubelet_name, *config_dir, *config_name;

    struct loaded *wanted;   /* the newest configuration that could be read */
    struct loaded *in_force; /* the one the view is made of; NULL before the first view */
    struct inventory *inventory;
    struct nvml *nvml; /* NULL: no library */
    struct observer *observer;
    struct plugins *plugins;

    struct dir_watch kubelet_watch, config_watch;
    struct timer reload, library;
    bool said_ready, said_nothing, stopping;
    bool cdi_failed; /* the newest view could not be shown because of its specifications */
    char trouble[SENTENCE_BYTES]; /* what was last complained about, so that it is said once */
    char refused[SENTENCE_BYTES]; /* the same for configurations */
    int status;                   /* of the run */
    struct err *err;              /* the caller's */
};

static void decide(struct agent *agent);

/* ---- saying things once ---- */

static bool is_new_trouble(struct agent *agent, const char *text)
{
    if (text_equal(agent->trouble, text))
        return false;
    snprintf(agent->trouble, sizeof(agent->trouble), "%s", text);
    return true;
}

/* The run is over before it began; the whole sentence is what people search for. */
static void give_up(struct agent *agent, struct err *why)
{
    char sentence[SENTENCE_BYTES + 64];

    snprintf(sentence, sizeof(sentence), "error starting plugins: %s", why->text);
    agent->status = err_set(agent->err, why->code ? why->code : EIO, "%s", sentence);
    loop_stop(agent->loop);
}

static void log_warnings(const struct loaded *loaded)
{
    char at[32];

    for (size_t i = 0; i < loaded->warnings.n; i++) {
        const struct config_warning *warning = &loaded->warnings.items[i];

        snprintf(at, sizeof(at), "%u:%u", warning->place.line, warning->place.column);
        if (warning->place.line)
            log_warn("config", F_STR("at", at), F_STR("why", warning->text));
        else
            log_warn("config", F_STR("why", warning->text));
    }
}

/* Those that the view before did not have, too. */
static void log_new_warnings(const struct view *view, const struct view *before)
{
    for (size_t i = 0; i < view->set->n_warnings; i++) {
        bool known = false;

        for (size_t k = 0; before && k < before->set->n_warnings; k++)
            known |= text_equal(before->set->warnings[k].text, view->set->warnings[i].text);
        if (!known)
            log_warn("node", F_STR("why", view->set->warnings[i].text));
    }
}

/* Upstream's word for a node with nothing to offer; it waits all the same, and so do we. */
static void say_nothing_found(struct agent *agent)
{
    if (!agent->said_nothing)
        log_event(LOG_INFO, "No devices found. Waiting indefinitely.", NULL, 0);
    agent->said_nothing = true;
}

static void maybe_say_ready(struct agent *agent)
{
    bool looked = agent->in_force || agent->said_nothing;

    if (agent->said_ready || agent->stopping || !looked || !plugins_settled(agent->plugins))
        return;
    agent->said_ready = true;
    notify_send(agent->options->notify_socket, "READY=1");
    log_info("ready", F_BOOL("devices", !agent->said_nothing));
}

static void on_plugins_changed(void *user)
{
    maybe_say_ready(user);
}

/* ---- deciding ---- */

static void show(struct agent *agent, struct view *view)
{
    log_new_warnings(view, plugins_view(agent->plugins));
    if (view->set->n_resources == 0)
        say_nothing_found(agent);
    else
        agent->said_nothing = false;
    agent->trouble[0] = '\0';
    agent->cdi_failed = false;
    loaded_unref(agent->in_force);
    agent->in_force = loaded_ref(view->loaded);
    plugins_show(agent->plugins, view);
    maybe_say_ready(agent);
}

/* What is wrong with the node or the wish for it has been found out after things were offered. */
static void hold_on(struct agent *agent, const struct err *why)
{
    struct view *view = plugins_view(agent->plugins);

    if (is_new_trouble(agent, why->text))
        log_error(agent->cdi_failed
                      ? "what is new on the node is not offered until its CDI specifications can "
                        "be written; what is gone counts as unhealthy"
                      : "the node fits no configuration now; what is gone counts as unhealthy",
                  F_ERR(why));
    view_outdate(view, agent->inventory);
    plugins_refresh(agent->plugins);
}

/* The specifications that the names in coming allocations will be looked up in. */
static int write_cdi(struct agent *agent, const struct view *view, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(CDI_ARENA_BYTES);
    const struct config *config = view->loaded->config;
    const char *dir = agent->options->cdi_dir;
    struct scan_options scan;
    struct cdi_set set;
    int r = scan_options_make(config, agent->options->root, config->container_driver_root, &arena,
                              &scan, err);

    if (r < 0)
        return r;
    const struct cdi_places places = { .root = scan.root, .driver_root = scan.driver_root };
    if (!dir)
        dir = arena_printf(&arena, "%s%s",
                           scan.root && !text_equal(scan.root, "/") ? scan.root : "", CDI_DIR);
    if (!dir)
        return err_no_memory(err);
    r = cdi_make(view->inventory, config, &places, &arena, &set, err);
    if (r == 0)
        r = cdi_write(&set, dir, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < set.n_empty && !agent->in_force; i++)
        log_warn("Ignoring empty CDI specs", F_STR("class", set.empty[i]));
    return 0;
}

static int make_view(struct agent *agent, struct loaded *loaded, struct view **ret, struct err *err)
{
    auto_(view_freep) struct view *view = NULL;
    int r = view_new(loaded, agent->inventory, &view, err);

    agent->cdi_failed = false;
    if (r == 0 && loaded->config->device_list & LIST_ANY_CDI && view->set->n_resources > 0) {
        r = write_cdi(agent, view, err);
        agent->cdi_failed = r < 0;
    }
    if (r == 0)
        *ret = steal(view);
    return r;
}

/* Upstream looks these up before it comes to its plugins, and words them accordingly. */
static void add_upstream_prefix(struct err *err)
{
    if (text_starts(err->text, "unable to create cdi spec file"))
        err_wrap(err, -err->code, "error getting plugins");
    else if (!text_starts(err->text, "error querying IMEX channels"))
        err_wrap(err, -err->code, "error getting plugins: unable to create plugins");
}

static void decide(struct agent *agent)
{
    struct err err = {}, old_err = {};
    struct view *view = NULL;

    if (!agent->inventory || agent->stopping)
        return;
    if (make_view(agent, agent->wanted, &view, &err) == 0) {
        show(agent, view);
        return;
    }
    add_upstream_prefix(&err);
    if (!agent->in_force) {
        give_up(agent, &err);
        return;
    }
    if (agent->in_force != agent->wanted &&
        make_view(agent, agent->in_force, &view, &old_err) == 0) {
        char trouble[SENTENCE_BYTES];

        if (is_new_trouble(agent, err.text))
            log_error("the configuration does not fit this node; the last good one stays in force",
                      F_ERR(&err));
        memcpy(trouble, agent->trouble, sizeof(trouble));
        show(agent, view);
        memcpy(agent->trouble, trouble, sizeof(trouble));
        return;
    }
    hold_on(agent, &err);
}

/* ---- looking ---- */

/* NVML's own words, in the sentence that upstream makes of them. */
static void cannot_look(struct agent *agent, const char *words)
{
    const struct config *config = agent->wanted->config;
    struct err err = {};

    if (config->mig_strategy == MIG_STRATEGY_MIXED)
        err_set(&err, ENXIO,
                "unable to add default resources to config: failed to initialize NVML: %s", words);
    else
        err_set(&err, ENXIO,
                "error getting plugins: unable to create plugins: failed to construct resource "
                "managers: nvml init failed: %s",
                words);
    if (agent->in_force) {
        if (is_new_trouble(agent, err.text))
            log_error("the GPUs cannot be read", F_ERR(&err));
        return;
    }
    if (config->fail_on_init_error) {
        give_up(agent, &err);
        return;
    }
    if (is_new_trouble(agent, err.text))
        log_warn("the GPUs cannot be read, trying again", F_ERR(&err));
    say_nothing_found(agent);
    maybe_say_ready(agent);
}

static void on_inventory(void *user, struct inventory *inventory)
{
    struct agent *agent = user;
    struct inventory *old = agent->inventory;

    if (inventory->platform == PLATFORM_NONE) {
        if (!agent->in_force && !agent->said_nothing)
            log_event(LOG_WARN, "Unsupported platform detected; defaulting to nvml", NULL, 0);
        cannot_look(agent, NVML_NO_LIBRARY_TEXT);
        return;
    }
    agent->inventory = inventory_ref(inventory);
    inventory_unref(old);
    for (size_t i = 0; i < inventory->n_problems; i++)
        log_warn("GPU cannot be read", F_INT("gpu", inventory->problems[i].index),
                 F_STR("why", inventory->problems[i].text));
    decide(agent);
}

static void on_look_failed(void *user, const struct err *err)
{
    cannot_look(user, err->text);
}

static void on_notice(void *user, const struct observer_notice *notice)
{
    const char *gpu = notice->gpu ? notice->gpu : "";

    switch (notice->kind) {
    case NOTICE_XID:
        if (notice->fatal)
            log_warn("critical XID, marking the device unhealthy", F_STR("gpu", gpu),
                     F_INT("xid", notice->xid));
        else
            log_info("XID ignored", F_STR("gpu", gpu), F_INT("xid", notice->xid));
        break;
    case NOTICE_ECC:
        log_info("ECC event", F_STR("gpu", gpu));
        break;
    case NOTICE_NOT_WATCHED:
        log_warn("the GPU cannot be watched for errors", F_STR("gpu", gpu),
                 F_STR("why", notice->text ? notice->text : ""));
        break;
    case NOTICE_WATCH_FAILED:
        log_warn("errors of GPUs cannot be watched",
                 F_STR("why", notice->text ? notice->text : ""));
        break;
    case NOTICE_WATCH_WORKS:
        log_info("errors of GPUs are watched again");
        break;
    default:
        break;
    }
}

/* A full disk or a folder that was not there may be mended without the GPUs changing. */
static void on_scanned(void *user)
{
    struct agent *agent = user;

    if (agent->cdi_failed && agent->in_force)
        decide(agent);
}

static const struct observer_calls observer_calls = {
    .inventory = on_inventory,
    .failed = on_look_failed,
    .scanned = on_scanned,
    .notice = on_notice,
};

static const char *environment(const struct agent *agent, const char *name)
{
    const char *const *item = agent->options->input.environ;
    size_t len = strlen(name);

    for (; item && *item; item++)
        if (strncmp(*item, name, len) == 0 && (*item)[len] == '=')
            return *item + len + 1;
    return NULL;
}

static void read_xid_filter(const struct agent *agent, struct xid_filter *ret)
{
    xid_filter_parse(environment(agent, "DP_DISABLE_HEALTHCHECKS"),
                     environment(agent, "DP_ENABLE_HEALTHCHECKS"), ret);
    for (size_t i = 0; i < ret->n_ignored; i++) {
        char word[64];

        snprintf(word, sizeof(word), SPAN_FMT, SPAN_ARG(ret->ignored[i]));
        log_warn("neither an XID nor a known word in DP_DISABLE_HEALTHCHECKS or "
                 "DP_ENABLE_HEALTHCHECKS",
                 F_STR("word", word));
    }
}

/* A driver that was installed after us. */
static void try_library(struct timer *timer, void *user);

/* Begins looking, or begins anew where the driver is elsewhere now. */
static int start_looking(struct agent *agent, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    const struct config *config = agent->wanted->config;
    struct observer_options options = {};
    struct err why = {};
    int r = scan_options_make(config, agent->options->root, config->container_driver_root, &arena,
                              &options.scan, err);

    if (r < 0)
        return r;
    options.scan.links = true;
    read_xid_filter(agent, &options.xids);
    options.watch_events = xid_filter_watches(&options.xids);

    observer_stop(steal(agent->observer));
    nvml_unref(steal(agent->nvml));
    if (nvml_open(options.scan.driver_root, &agent->nvml, &why) < 0) {
        log_debug("no NVML library", F_ERR(&why));
        timer_start(&agent->library, agent->loop, LIBRARY_RETRY_MS, try_library, agent);
    }
    return observer_start(agent->loop, agent->nvml, &options, &observer_calls, agent,
                          &agent->observer, err);
}

static bool library_is_there(const struct agent *agent)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    auto_(nvml_unrefp) struct nvml *nvml = NULL;
    const struct config *config = agent->wanted->config;
    struct scan_options scan;

    return scan_options_make(config, agent->options->root, config->container_driver_root, &arena,
                             &scan, NULL) == 0 &&
           nvml_open(scan.driver_root, &nvml, NULL) == 0;
}

static void try_library(struct timer *timer, void *user)
{
    struct agent *agent = user;
    struct err err = {};

    if (!library_is_there(agent))
        timer_start(&agent->library, agent->loop, LIBRARY_RETRY_MS, try_library, agent);
    else if (start_looking(agent, &err) < 0)
        log_error("cannot look for GPUs", F_ERR(&err));
}

/* ---- the configuration ---- */

/* Whether a CDI strategy is possible depends on the driver, and where the driver is on the
 * configuration: read as if it were there, and once more when it was needed and is not. */
static int read_config(struct agent *agent, struct loaded **ret, struct err *err)
{
    auto_(loaded_unrefp) struct loaded *loaded = NULL;
    int r = loaded_read(&agent->options->input, true, &loaded, err);

    if (r < 0)
        return r;
    if (loaded->config->device_list & LIST_ANY_CDI) {
        auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
        auto_(nvml_unrefp) struct nvml *nvml = NULL;
        struct scan_options scan;

        r = scan_options_make(loaded->config, agent->options->root,
                              loaded->config->container_driver_root, &arena, &scan, err);
        if (r < 0)
            return r;
        if (nvml_open(scan.driver_root, &nvml, NULL) < 0)
            return loaded_read(&agent->options->input, false, ret, err);
    }
    *ret = steal(loaded);
    return 0;
}

static bool looks_elsewhere(const struct config *a, const struct config *b)
{
    return a->discovery != b->discovery ||
           !text_equal(a->container_driver_root, b->container_driver_root);
}

static void accept_config(struct agent *agent, struct loaded *loaded)
{
    struct loaded *old = agent->wanted;
    struct err err = {};

    agent->wanted = loaded;
    log_warnings(loaded);
    if (looks_elsewhere(old->config, loaded->config) && start_looking(agent, &err) < 0)
        log_error("cannot look for GPUs", F_ERR(&err));
    loaded_unref(old);
    decide(agent);
}

/* A configuration that stays wrong is complained about once, unless somebody asks again. */
static void reload(struct agent *agent, const char *because, bool asked)
{
    struct loaded *loaded = NULL;
    struct err err = {};

    if (read_config(agent, &loaded, &err) < 0) {
        if (asked || !text_equal(err.text, agent->refused))
            log_error("the configuration cannot be used; the last good one stays in force",
                      F_ERR(&err));
        snprintf(agent->refused, sizeof(agent->refused), "%s", err.text);
        return;
    }
    agent->refused[0] = '\0';
    log_info("configuration read again", F_STR("because", because),
             F_BOOL("changed", !loaded_same(loaded, agent->wanted)));
    accept_config(agent, loaded);
}

static void on_hangup(int signum, void *user)
{
    struct agent *agent = user;

    reload(agent, "SIGHUP", true);
    if (!agent->observer)
        return;
    observer_clear_health(agent->observer);
    observer_rescan(agent->observer);
}

/* A file that is as it was is none of our business, however often it was touched. */
static void on_reload_due(struct timer *timer, void *user)
{
    struct agent *agent = user;
    auto_(loaded_unrefp) struct loaded *loaded = NULL;

    if (loaded_read(&agent->options->input, true, &loaded, NULL) < 0 ||
        !loaded_same(loaded, agent->wanted))
        reload(agent, "the file changed", false);
}

/* Names with two dots are the way in which mounted config maps are swapped (`..data`). */
static void on_config_event(void *user, enum watch_event event, const char *name)
{
    struct agent *agent = user;
    bool ours =
        event == WATCH_LOST || text_equal(name, agent->config_name) || text_starts(name, "..");

    if (ours && !timer_running(&agent->reload))
        timer_start(&agent->reload, agent->loop, RELOAD_DELAY_MS, on_reload_due, agent);
}

/* ---- the kubelet's directory ---- */

static void on_plugin_dir_event(void *user, enum watch_event event, const char *name)
{
    struct agent *agent = user;
    bool kubelet_is_new = event == WATCH_CREATED && text_equal(name, agent->kubelet_name);

    if (event != WATCH_WRITTEN)
        plugins_check_sockets(agent->plugins);
    if (kubelet_is_new || event == WATCH_LOST)
        plugins_kubelet_created(agent->plugins);
}

/* "/a/b" is "/a" and "b"; a name alone is in ".". Both are copies: configurations come and go. */
static int split_path(struct arena *arena, const char *path, const char **ret_dir,
                      const char **ret_name, struct err *err)
{
    const char *slash = strrchr(path, '/');
    struct span dir = { path, slash ? (size_t)(slash - path) : 0 };

    if (dir.len == 0)
        dir = slash ? SPAN("/") : SPAN(".");
    *ret_dir = arena_spandup(arena, dir);
    *ret_name = arena_strdup(arena, slash ? slash + 1 : path);
    return *ret_dir && *ret_name ? 0 : err_no_memory(err);
}

/* Sockets go beside the kubelet's, and not always to its default folder as upstream's do: a kubelet
 * looks for them there. */
static int watch_plugin_dir(struct agent *agent, struct err *err)
{
    const char *socket = agent->wanted->config->kubelet_socket;
    struct err why = {};
    int r = 0;

    agent->plugin_dir = AGENT_PLUGIN_DIR;
    agent->kubelet_name = "";
    if (socket[0])
        r = split_path(&agent->arena, socket, &agent->plugin_dir, &agent->kubelet_name, err);
    if (r < 0)
        return r;
    r = dir_watch_start(&agent->kubelet_watch, agent->loop, agent->plugin_dir, on_plugin_dir_event,
                        agent, &why);
    if (r == -ENOENT || r == -ENOTDIR)
        return err_set(err, -r, "failed to create FS watcher for %s/: %s", agent->plugin_dir,
                       r == -ENOENT ? "no such file or directory" : "not a directory");
    if (r < 0)
        return err_set(err, -r, "failed to create FS watcher for %s/: %s", agent->plugin_dir,
                       why.text);
    return 0;
}

/* Without a watch the file is read at SIGHUP only. */
static void watch_config(struct agent *agent)
{
    const char *path = agent->wanted->config->config_file;
    struct stat st;
    struct err err = {};

    /* /dev/null, say, does not change, but is written to all the time. */
    if (!path[0] || (lstat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) ||
        split_path(&agent->arena, path, &agent->config_dir, &agent->config_name, NULL) < 0)
        return;
    if (dir_watch_start(&agent->config_watch, agent->loop, agent->config_dir, on_config_event,
                        agent, &err) < 0)
        log_warn("changes of the config file will be seen at SIGHUP only", F_ERR(&err));
}

/* ---- life ---- */

static void on_plugins_stopped(void *user)
{
    struct agent *agent = user;

    loop_stop(agent->loop);
}

static void on_stop_signal(int signum, void *user)
{
    struct agent *agent = user;

    if (agent->stopping) { /* the second time means it */
        loop_stop(agent->loop);
        return;
    }
    log_info("stopping", F_STR("signal", strsignal(signum)));
    agent->stopping = true;
    plugins_stop(agent->plugins, on_plugins_stopped, agent);
}

static int catch_signals(struct agent *agent, struct err *err)
{
    static const int stops[] = { SIGINT, SIGTERM, SIGQUIT };
    int r = loop_on_signal(agent->loop, SIGHUP, on_hangup, agent, err);

    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < ARRAY_LEN(stops) && r >= 0; i++)
        r = loop_on_signal(agent->loop, stops[i], on_stop_signal, agent, err);
    return r;
}

static int start_plugins(struct agent *agent, struct err *err)
{
    const struct plugins_options options = {
        .dir = agent->plugin_dir,
        .kubelet_socket = agent->wanted->config->kubelet_socket,
        .mps_root = agent->options->mps_root ? agent->options->mps_root : AGENT_MPS_ROOT,
        .changed = on_plugins_changed,
        .user = agent,
    };

    return plugins_new(agent->loop, &options, &agent->plugins, err);
}

static int start(struct agent *agent, struct err *err)
{
    int r = loop_new(&agent->loop, err);

    if (r < 0)
        return r;
    r = read_config(agent, &agent->wanted, err);
    if (r < 0)
        return err_wrap(err, r, "error starting plugins");
    log_warnings(agent->wanted);
    r = catch_signals(agent, err);
    if (r == 0)
        r = watch_plugin_dir(agent, err);
    if (r == 0)
        r = start_plugins(agent, err);
    if (r < 0)
        return r;
    watch_config(agent);
    r = start_looking(agent, err);
    return r < 0 ? err_wrap(err, r, "error starting plugins") : 0;
}

static void done(struct agent *agent)
{
    timer_stop(&agent->reload);
    timer_stop(&agent->library);
    dir_watch_stop(&agent->config_watch);
    dir_watch_stop(&agent->kubelet_watch);
    observer_stop(agent->observer);
    plugins_free(agent->plugins);
    inventory_unref(agent->inventory);
    nvml_unref(agent->nvml);
    loaded_unref(agent->in_force);
    loaded_unref(agent->wanted);
    loop_free(agent->loop);
    arena_done(&agent->arena);
}

int agent_run(const struct agent_options *options, struct err *err)
{
    auto_(
        done) struct agent agent = { .options = options, .arena = ARENA_MAX(KIB(64)), .err = err };
    int r = start(&agent, err);

    if (r < 0)
        return r;
    loop_run(agent.loop);
    return agent.status;
}
