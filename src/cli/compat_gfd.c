/*
 * gpu-feature-discovery: labels for the node, as upstream's program of that name gives them
 * (spec/device-plugin §9.1, §9.2): to a file that node-feature-discovery reads, or to stdout.
 *
 *     load config ─► what node is this? ─► first scan ─► labels ─► write ─► sleep ─┐
 *          ▲                                    ▲                                  │
 *          └──────────── SIGHUP ────────────────┴──────────────────────────────────┘
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/command_line.h"
#include "cli/compat.h"
#include "gpu/observe.h"
#include "net/loop.h"
#include "share/go_text.h"
#include "share/label.h"

enum { LABELS_MAX_BYTES = 1 << 20 };

#define SERVICE_ACCOUNT_TOKEN "/var/run/secrets/kubernetes.io/serviceaccount/token"

/* What outlives a configuration: a signal may come at any time. */
struct process {
    struct loop *loop;
    bool reload, quit;
};

/* One configuration's life, from its load to a signal or the end. */
struct gfd {
    struct loop *loop; /* borrowed */
    struct arena arena;
    const struct config *config;
    struct scan_options scan;
    struct nvml *nvml; /* NULL: no library, or given up */
    struct observer *observer;
    int64_t timestamp;
    struct timer next, turn_empty;
    struct err scan_error; /* of the scan under way */
    struct err error;      /* what ends the run; code 0: a signal, or the end of a oneshot run */
    size_t n_told;         /* GPUs that were said to be unreadable */
};

static void gfd_done(struct gfd *gfd)
{
    timer_stop(&gfd->next);
    timer_stop(&gfd->turn_empty);
    observer_stop(gfd->observer);
    nvml_unref(gfd->nvml);
    arena_done(&gfd->arena);
}

/* ---- output ---- */

static int write_failed(const char *path, const char *what, const char *beside, struct err *err)
{
    int code = errno;
    char text[128];

    return err_set(err, code, "error atomically writing file '%s': %s %s: %s", path, what, beside,
                   go_error(code, text));
}

/* A device, a pipe, /dev/stdout: a file in its place would rob everybody of it. */
static bool is_no_file(const char *path)
{
    struct stat st;

    /* /dev/stdout is a link, perhaps to a file; /dev/shm holds ordinary files. */
    return (text_starts(path, "/dev/") && !text_starts(path, "/dev/shm/")) ||
           (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode));
}

static int write_through(const char *path, struct span content, struct err *err)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return write_failed(path, "open", path, err);
    if (write(fd, content.ptr, content.len) != (ssize_t)content.len)
        return write_failed(path, "write", path, err);
    return 0;
}

/* Without fsync: after a crash of the node the file is made again before anyone asks for it. */
static int replace_file(const char *path, struct span content, struct err *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char beside[PATH_MAX];

    int n = snprintf(beside, sizeof(beside), "%.*s.%sXXXXXX", (int)(name - path), path, name);
    if (n < 0 || (size_t)n >= sizeof(beside)) {
        errno = ENAMETOOLONG;
        return write_failed(path, "open", path, err);
    }
    auto_close int fd = mkostemp(beside, O_CLOEXEC);
    if (fd < 0)
        return write_failed(path, "open", beside, err);
    int r = 0;
    if (write(fd, content.ptr, content.len) != (ssize_t)content.len)
        r = write_failed(path, "write", beside, err);
    else if (fchmod(fd, 0644) < 0)
        r = write_failed(path, "chmod", beside, err);
    else if (rename(beside, path) < 0)
        r = write_failed(path, "rename", beside, err);
    if (r < 0)
        unlink(beside);
    return r;
}

static int write_labels(const struct gfd *gfd, const struct label_set *labels, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(LABELS_MAX_BYTES);
    const char *path = gfd->config->gfd.output_file;

    for (size_t i = 0; i < labels->n; i++)
        buf_printf(&text, "%s=%s\n", labels->items[i].key, labels->items[i].value);
    if (text.failed)
        return err_no_memory(err);
    if (*path && is_no_file(path))
        return write_through(path, buf_span(&text), err);
    if (*path)
        return replace_file(path, buf_span(&text), err);
    if (fwrite(buf_text(&text), 1, text.len, stdout) != text.len || fflush(stdout) != 0)
        return err_set(err, errno, "error writing to stdout: %s", strerror(errno));
    return 0;
}

/* What is left when the loop is left: nothing, where the labels would be taken for fresh. */
static void remove_output(const struct gfd *gfd)
{
    const char *path = gfd->config->gfd.output_file, *slash = strrchr(path, '/');
    char directory[PATH_MAX];
    struct err err = {};

    if (gfd->config->gfd.use_node_feature_api || gfd->config->gfd.oneshot ||
        gfd->config->gfd.sleep_interval_ns == INT64_MAX || !*path || is_no_file(path))
        return;
    if (unlink(path) < 0 && errno != ENOENT)
        log_warn("cannot remove the output file", F_STR("file", path),
                 F_STR("error", strerror(errno)));
    snprintf(directory, sizeof(directory), "%.*sgfd-tmp", slash ? (int)(slash + 1 - path) : 0,
             path);
    if (file_remove_tree(directory, &err) < 0)
        log_warn("cannot remove the temporary directory", F_ERR(&err));
}

/* ---- labels ---- */

static void tell_problems(struct gfd *gfd, const struct inventory *inventory)
{
    for (size_t i = gfd->n_told; i < inventory->n_problems; i++)
        log_warn("cannot read GPU, leaving it out", F_INT("gpu", inventory->problems[i].index),
                 F_STR("error", inventory->problems[i].text));
    if (!inventory->vgpu.scanned && inventory->vgpu.problem && gfd->n_told == 0)
        log_error("cannot look for vGPUs, leaving their labels out",
                  F_STR("error", inventory->vgpu.problem));
    gfd->n_told = inventory->n_problems;
}

static int make_labels(struct gfd *gfd, struct arena *arena, struct label_set **ret,
                       struct err *err)
{
    static const char prefix[] = "error creating labeler";
    const struct inventory *inventory = observer_inventory(gfd->observer);

    tell_problems(gfd, inventory);
    if (inventory->n_gpus == 0 && inventory->n_problems > 0)
        return err_set(err, EIO, "%s: GPU %u: %s", prefix, inventory->problems[0].index,
                       inventory->problems[0].text);
    if (inventory->vgpu.scanned && inventory->vgpu.problem)
        return err_set(err, EINVAL, "%s: %s", prefix, inventory->vgpu.problem);
    return label_build(inventory, gfd->config, gfd->timestamp, arena, ret, err);
}

static int make_and_write(struct gfd *gfd, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(LABELS_MAX_BYTES);
    struct label_set *labels;

    int r = make_labels(gfd, &arena, &labels, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < labels->n_warnings; i++)
        log_warn(labels->warnings[i]);
    if (labels->n <= 1)
        log_warn("No labels generated from any source");
    return write_labels(gfd, labels, err);
}

/* ---- the loop ---- */

static void end_run(struct gfd *gfd, const struct err *err)
{
    if (err)
        gfd->error = *err;
    loop_stop(gfd->loop);
}

static void on_next(struct timer *timer, void *user)
{
    observer_rescan(((struct gfd *)user)->observer);
}

static int start_observer(struct gfd *gfd, struct err *err);

/* For the rest of this configuration the node has no devices: upstream's failOnInitError=false. */
static void on_turn_empty(struct timer *timer, void *user)
{
    struct gfd *gfd = user;
    struct err err = {};

    observer_stop(steal(gfd->observer));
    nvml_unref(steal(gfd->nvml));
    gfd->scan.discovery = DISCOVERY_AUTO;
    if (start_observer(gfd, &err) < 0)
        end_run(gfd, &err);
}

static void on_scan_failed(struct gfd *gfd)
{
    struct err err = {};

    err_set(&err, gfd->scan_error.code,
            "error creating labeler: failed to initialize resource manager: %s",
            gfd->scan_error.text);
    /* With nothing left to leave out the node has failed for another reason. */
    if (gfd->config->fail_on_init_error || (!gfd->nvml && gfd->scan.discovery == DISCOVERY_AUTO)) {
        end_run(gfd, &err);
        return;
    }
    log_warn("failed to initialize resource manager, going on without devices",
             F_STR("error", gfd->scan_error.text));
    loop_defer(gfd->loop, &gfd->turn_empty, on_turn_empty, gfd);
}

static void on_failed(void *user, const struct err *err)
{
    ((struct gfd *)user)->scan_error = *err;
}

static void on_scanned(void *user)
{
    struct gfd *gfd = user;
    struct err err = {};

    if (gfd->scan_error.code) {
        on_scan_failed(gfd);
        gfd->scan_error.code = 0;
        return;
    }
    if (make_and_write(gfd, &err) < 0)
        end_run(gfd, &err);
    else if (gfd->config->gfd.oneshot)
        end_run(gfd, NULL);
    else if (gfd->config->gfd.sleep_interval_ns != INT64_MAX)
        timer_start_ns(&gfd->next, gfd->loop, (uint64_t)MAX(gfd->config->gfd.sleep_interval_ns, 0),
                       on_next, gfd);
}

static int start_observer(struct gfd *gfd, struct err *err)
{
    static const struct observer_calls calls = { .failed = on_failed, .scanned = on_scanned };
    const struct observer_options options = {
        .scan = gfd->scan,
        .interval_ms = OBSERVER_NEVER,
    };

    return observer_start(gfd->loop, gfd->nvml, &options, &calls, gfd, &gfd->observer, err);
}

/* ---- before the loop ---- */

/* What upstream would need to write NodeFeature objects, in the order in which it asks for it. */
static int check_node_feature_api(const struct config *config, struct err *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    static const char prefix[] = "failed to create clientsets: create client configuration";
    char text[128];
    struct stat status;

    if (*config->gfd.kubeconfig) {
        if (stat(config->gfd.kubeconfig, &status) < 0)
            return err_set(err, errno,
                           "%s: create out-of-cluster client configuration: stat %s: %s", prefix,
                           config->gfd.kubeconfig, go_error(errno, text));
    } else if (!host || !*host || !port || !*port) {
        return err_set(err, ENOENT,
                       "%s: create in-cluster client configuration: unable to load in-cluster "
                       "configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be "
                       "defined",
                       prefix);
    } else if (access(SERVICE_ACCOUNT_TOKEN, R_OK) < 0) {
        return err_set(err, errno,
                       "%s: create in-cluster client configuration: open " SERVICE_ACCOUNT_TOKEN
                       ": %s",
                       prefix, go_error(errno, text));
    }
    if (!*config->gfd.node_name)
        return err_set(err, EINVAL,
                       "failed to create label outputer: required flag node-name not set");
    if (!*config->gfd.namespace)
        return err_set(err, EINVAL,
                       "failed to create label outputer: required flag namespace not set");
    return err_set(err, ENOTSUP,
                   "failed to create label outputer: this version does not write NodeFeature "
                   "objects");
}

/* Upstream's resource manager: is there anything here that it could manage? */
static int check_platform(struct gfd *gfd, struct err *err)
{
    bool insists = gfd->config->discovery == DISCOVERY_NVML;
    enum platform platform = PLATFORM_NONE;

    /* no library is found out about later then, as upstream does */
    int r = insists ? 0 : gpu_platform(gfd->nvml, &gfd->scan, &platform, err);
    if (r == 0 && !insists && platform == PLATFORM_NONE)
        r = err_set(err, ENOTSUP, "unsupported strategy auto");
    if (r == 0)
        return 0;
    if (gfd->config->fail_on_init_error || r != -ENOTSUP ||
        gfd->config->discovery == DISCOVERY_VFIO)
        return err_wrap(err, r, "failed to create resource manager");
    log_warn("using empty manager", F_ERR(err));
    *err = (struct err){};
    return 0;
}

static void tell_warnings(const struct config_warnings *warnings)
{
    for (size_t i = 0; i < warnings->n; i++)
        log_warn(warnings->items[i].text, F_INT("line", warnings->items[i].place.line));
}

/* From the load to the first scan. 1: there was only something to print. */
static int prepare(struct gfd *gfd, int argc, const char *const *argv, struct err *err)
{
    struct command_line line = {};
    bool usage;

    int r = command_line_load(PROGRAM_FEATURE_DISCOVERY, argc, argv, true, &gfd->arena, &line,
                              &usage, err);
    if (r < 0 && usage)
        compat_print_usage(PROGRAM_FEATURE_DISCOVERY, "gpu-feature-discovery", err->text);
    if (r < 0)
        return r;
    if (line.request != CONFIG_RUN)
        return compat_answer(PROGRAM_FEATURE_DISCOVERY, "gpu-feature-discovery", line.request);
    gfd->config = line.config;
    tell_warnings(&line.warnings);
    gfd->timestamp = gfd->config->gfd.no_timestamp ? -1 : (int64_t)time(NULL);

    r = scan_options_make(gfd->config, NULL, NULL, &gfd->arena, &gfd->scan, err);
    if (r < 0)
        return r;
    gfd->scan.vgpu = true;
    if (nvml_open(gfd->scan.driver_root, &gfd->nvml, NULL) == -ENOMEM)
        return err_no_memory(err);
    r = check_platform(gfd, err);
    if (r == 0 && gfd->config->gfd.use_node_feature_api)
        r = check_node_feature_api(gfd->config, err);
    return r;
}

/* One configuration, until a signal or the end. Returns the exit code. */
static int run(struct process *process, int argc, const char *const *argv)
{
    auto_(gfd_done) struct gfd gfd = { .loop = process->loop,
                                       .arena = ARENA_MAX(CONFIG_ARENA_BYTES) };
    struct err err = {};

    int r = prepare(&gfd, argc, argv, &err);
    if (r > 0)
        return 0;
    if (r < 0) {
        log_error(err.text);
        if (gfd.config && gfd.config->gfd.use_node_feature_api)
            log_info("to write the labels to a file that node-feature-discovery reads, set "
                     "--use-node-feature-api=false (GFD_USE_NODE_FEATURE_API=false)");
        return 1;
    }
    if (start_observer(&gfd, &gfd.error) == 0) {
        log_info("Start running");
        loop_run(process->loop);
    }
    remove_output(&gfd);
    if (gfd.error.code)
        log_error(gfd.error.text);
    return gfd.error.code ? 1 : 0;
}

static void on_signal(int signum, void *user)
{
    struct process *process = user;

    if (signum == SIGHUP) {
        process->reload = true;
        log_info("Received SIGHUP, restarting.");
    } else {
        process->quit = true;
        log_info("Received signal, shutting down.", F_INT("signal", signum));
    }
    loop_stop(process->loop);
}

static int take_signals(struct process *process, struct err *err)
{
    static const int signals[] = { SIGHUP, SIGINT, SIGTERM, SIGQUIT };

    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        int r = loop_on_signal(process->loop, signals[i], on_signal, process, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int compat_gpu_feature_discovery(int argc, char **argv)
{
    auto_(loop_freep) struct loop *loop = NULL;
    struct process process = {};
    struct err err = {};

    int r = loop_new(&loop, &err);
    process.loop = loop;
    if (r == 0)
        r = take_signals(&process, &err);
    if (r < 0) {
        log_error(err.text);
        return 1;
    }
    do {
        process.reload = false;
        r = run(&process, argc - 1, (const char *const *)argv + 1);
    } while (r == 0 && process.reload && !process.quit);
    return r;
}
