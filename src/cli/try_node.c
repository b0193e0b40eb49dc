#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/selfpath.h"
#include "cli/try.h"
#include "net/sock.h"
#include "sim/gpu/root.h"
#include "sim/node/mps_control.h"

enum { READY_TIMEOUT_MS = 20000, STOP_TIMEOUT_MS = 5000, OUTPUT_MAX = 256 << 10, MAX_ENV = 64 };

#define NODE_NAME "try"

const char *const try_phase_names[TRY_N_PHASES] = {
    [TRY_PENDING] = "Pending",
    [TRY_RUNNING] = "Running",
    [TRY_FAILED] = "Failed",
};

/* Once there is a directory to remove, these come through the loop or not at all. */
static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static void hold_signals(int how)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaddset(&set, signals[i]);
    sigprocmask(how, &set, NULL);
}

/* ---- the directory ---- */

static int make_dir(struct try_node *node, const char *name, struct err *err)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", node->dir, name);
    return mkdir(path, 0700) < 0 ? err_set(err, errno, "%s: %s", path, strerror(errno)) : 0;
}

int try_node_create(struct try_node *node, const struct try_options *options, struct arena *arena,
                    struct err *err)
{
    node->arena = arena;
    node->notify_fd = -1;
    node->built = calloc(1, sizeof(*node->built));
    if (!node->built)
        return err_no_memory(err);
    return sim_machine_build(&options->gpus, &options->machine, node->built, err);
}

static int make_dirs(struct try_node *node, struct err *err)
{
    static const char *const dirs[] = { "sim", "bin", "plugins" };
    const char *base = getenv("TMPDIR");
    int r = 0;

    /* A socket's path has 107 bytes: a deep TMPDIR would not leave room for the sockets' names. */
    if (!base || !*base || strlen(base) > 40)
        base = "/tmp";
    snprintf(node->dir, sizeof(node->dir), "%s/tranche-try-XXXXXX", base);
    if (!mkdtemp(node->dir)) {
        r = err_set(err, errno, "cannot make a private directory %s: %s", node->dir,
                    strerror(errno));
        node->dir[0] = '\0';
        return r;
    }
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(dirs); i++)
        r = make_dir(node, dirs[i], err);
    return r;
}

/* The program under another of its names, as a container image has it. */
static int link_self(struct try_node *node, const char *name, struct err *err)
{
    char self[PATH_MAX], path[256];
    int r = self_path(self, sizeof(self), err);

    snprintf(path, sizeof(path), "%s/bin/%s", node->dir, name);
    if (r == 0 && symlink(self, path) < 0)
        r = err_set(err, errno, "%s: %s", path, strerror(errno));
    return r;
}

static int partition(struct try_node *node, const struct try_plan *plan, struct err *err)
{
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < node->built->n_gpus; i++) {
        struct sim_gpu *gpu = &node->built->gpus[i];
        const struct try_mig *mig = &plan->mig[i];

        if (mig->wanted && mig->enabled)
            r = sim_mig_partition(node->built, gpu, mig->wants, mig->n_wants, err);
        if (r < 0)
            err_wrap(err, r, "MIG config %s on GPU %u", plan->mig_config, i);
    }
    return r;
}

/* The simulated driver and the files beside it, with the MPS control daemons that would run. */
static int publish(struct try_node *node, const struct try_plan *plan, struct err *err)
{
    char library[PATH_MAX], sim[256], pipe_dir[512];
    int r = sim_library_path(library, sizeof(library), err);

    snprintf(sim, sizeof(sim), "%s/sim", node->dir);
    if (r == 0)
        r = sim_root_create(sim, node->built, library, err);
    if (r == 0)
        r = sim_state_publish(sim, node->built, err);
    if (r == 0)
        r = sim_state_open(sim, &node->state, err);
    for (size_t i = 0; r == 0 && i < plan->n_mps; i++) {
        snprintf(pipe_dir, sizeof(pipe_dir), "%s/root/mps/%s/pipe", sim, plan->mps[i].resource);
        r = sim_mps_daemon_make(pipe_dir, plan->mps[i].active_thread_pct, err);
    }
    return r;
}

static int write_config(struct try_node *node, const struct try_plan *plan, struct err *err)
{
    char path[256];

    if (!plan->config_text)
        return 0;
    snprintf(path, sizeof(path), "%s/config.yaml", node->dir);
    return file_replace(AT_FDCWD, path, span_of(plan->config_text), 0600, err);
}

/* ---- children ---- */

/* The environment of a container of the DaemonSet: nothing of ours leaks in. */
struct environment {
    struct arena *arena;
    size_t n;
    const char *items[MAX_ENV + 1];
    bool failed;
};

PRINTF(2, 3) static void env_add(struct environment *env, const char *format, ...)
{
    char text[PATH_MAX + 64];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (env->n == MAX_ENV || !(env->items[env->n] = arena_strdup(env->arena, text)))
        env->failed = true;
    else
        env->n++;
}

static void env_fill(struct environment *env, const struct try_node *node,
                     const struct try_plan *plan)
{
    const char *path = getenv("PATH"), *sanitizer = getenv("ASAN_OPTIONS");

    env_add(env, "PATH=%s/bin:%s", node->dir, path ? path : "/usr/bin:/bin");
    env_add(env, "TRANCHE_SIM=%s/sim", node->dir);
    env_add(env, "TRANCHE_ROOT=%s/sim/root", node->dir);
    env_add(env, "TRANCHE_MPS_ROOT=%s/sim/root/mps", node->dir);
    env_add(env, "DRIVER_ROOT_CTR_PATH=%s/sim/root", node->dir);
    env_add(env, "KUBELET_SOCKET=%s", sim_kubelet_socket(node->kubelet));
    env_add(env, "NOTIFY_SOCKET=%s/notify", node->dir);
    env_add(env, "MPS_ROOT=%s", plan->mps_root);
    env_add(env, "NODE_NAME=" NODE_NAME);
    env_add(env, "TRANCHE_PARENT=%d", (int)getpid());
    if (plan->mig_strategy)
        env_add(env, "MIG_STRATEGY=%s", plan->mig_strategy);
    if (plan->config_text)
        env_add(env, "CONFIG_FILE=%s/config.yaml", node->dir);
    if (sanitizer)
        env_add(env, "ASAN_OPTIONS=%s", sanitizer);
    for (size_t i = 0; i < plan->n_env; i++)
        env_add(env, "%s=%s", plan->env[i].key, plan->env[i].value);
}

/* A log line without its time and level: "2026-11-24T08:15:13.042Z error …". */
static struct span without_stamp(struct span line)
{
    struct span rest = line, time, level;
    bool more = true;

    if (span_split(&rest, ' ', &more, &time) && time.len > 10 && time.ptr[10] == 'T' &&
        span_split(&rest, ' ', &more, &level) && more)
        return rest;
    return line;
}

/* What a child said last, in one line, with the user's name for the file that we made of it. */
static void last_words(const struct try_node *node, struct span text, struct buf *ret)
{
    const struct try_plan *plan = node->plan;
    struct span best = {}, line;
    bool more = true;
    char file[256];

    while (span_split(&text, '\n', &more, &line))
        if (span_trim(line).len > 0)
            best = without_stamp(span_trim(line));
    snprintf(file, sizeof(file), "%s/config.yaml", node->dir);
    const char *found = memmem(best.ptr, best.len, file, strlen(file));
    if (found && plan->config_map)
        buf_printf(ret, "%.*sConfigMap %s, key %s%.*s", (int)(found - best.ptr), best.ptr,
                   plan->config_map, plan->config_key,
                   (int)(best.ptr + best.len - found - strlen(file)), found + strlen(file));
    else
        buf_add(ret, best.ptr, best.len);
}

static void child_problem(const struct try_node *node, const char *name,
                          const struct child_exit *exit, struct err *ret)
{
    auto_(buf_done) struct buf words = BUF_MAX(KIB(4));

    last_words(node, exit->err.len ? exit->err : exit->out, &words);
    if (exit->signum)
        err_set(ret, ECHILD, "the %s was ended by signal %d", name, exit->signum);
    else
        err_set(ret, ECHILD, "the %s refuses: %s", name, buf_text(&words));
}

static void on_agent_exit(struct child *child, const struct child_exit *exit, void *user)
{
    struct try_node *node = user;

    node->agent_over = true;
    if (!node->interrupted && !node->problem.code)
        child_problem(node, "device plugin", exit, &node->problem);
    loop_stop(node->loop);
}

static int add_label(struct try_node *node, const char *key, const char *value)
{
    struct key_value *slot;

    for (size_t i = 0; i < node->n_labels; i++)
        if (text_equal(node->labels[i].key, key)) {
            node->labels[i].value = arena_strdup(node->arena, value);
            return node->labels[i].value ? 0 : -ENOMEM;
        }
    slot = arena_push(node->arena, &node->labels, &node->n_labels);
    if (!slot)
        return -ENOMEM;
    *slot = (struct key_value){ arena_strdup(node->arena, key), arena_strdup(node->arena, value) };
    return slot->key && slot->value ? 0 : -ENOMEM;
}

/* Feature discovery printed key=value lines. */
static void on_discovery_exit(struct child *child, const struct child_exit *exit, void *user)
{
    struct try_node *node = user;
    struct span rest = exit->out, line;
    bool more = true;

    node->discovery_over = true;
    if (exit->status != 0 || exit->signum)
        child_problem(node, "feature discovery", exit, &node->discovery_problem);
    while (span_split(&rest, '\n', &more, &line)) {
        const char *equals = memchr(line.ptr, '=', line.len);
        char *key;

        if (!equals)
            continue;
        struct span name = { line.ptr, (size_t)(equals - line.ptr) };
        struct span value = { equals + 1, line.len - name.len - 1 };
        key = arena_spandup(node->arena, name);
        char *text = arena_spandup(node->arena, value);
        if (!key || !text || add_label(node, key, text) < 0)
            err_no_memory(&node->problem);
    }
    loop_stop(node->loop);
}

static void on_notify(struct loop_fd *watch, unsigned events, void *user)
{
    struct try_node *node = user;
    char text[256];
    ssize_t n = recv(node->notify_fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    if (n <= 0)
        return;
    text[n] = '\0';
    if (strstr(text, "READY=1")) {
        node->agent_ready = true;
        loop_stop(node->loop);
    }
}

/* systemd's notification protocol: a datagram READY=1 when the agent has done all it could do. */
static int listen_notify(struct try_node *node, struct err *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", node->dir);
    node->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (node->notify_fd < 0 ||
        bind(node->notify_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return err_set(err, errno, "%s: %s", address.sun_path, strerror(errno));
    return loop_fd_new(node->loop, node->notify_fd, LOOP_READABLE, on_notify, node, &node->notify,
                       err);
}

static int start_children(struct try_node *node, const struct try_plan *plan, struct err *err)
{
    struct environment env = { .arena = node->arena };
    char agent_path[256], discovery_path[256];
    const char *agent[] = { agent_path, NULL };
    const char *discovery[] = { discovery_path, "--oneshot", "--use-node-feature-api=false",
                                "--output-file=", NULL };
    int r = 0;

    env_fill(&env, node, plan);
    if (env.failed)
        return err_set(err, E2BIG, "spec.devicePlugin.env: more than %d variables", MAX_ENV);
    snprintf(agent_path, sizeof(agent_path), "%s/bin/nvidia-device-plugin", node->dir);
    snprintf(discovery_path, sizeof(discovery_path), "%s/bin/gpu-feature-discovery", node->dir);
    struct child_spec spec = { .argv = agent, .env = env.items, .output_max = OUTPUT_MAX };
    if (plan->plugin)
        r = child_spawn(node->loop, &spec, on_agent_exit, node, &node->agent, err);
    spec.argv = discovery;
    spec.deadline_ms = READY_TIMEOUT_MS;
    if (r == 0 && plan->discovery)
        r = child_spawn(node->loop, &spec, on_discovery_exit, node, &node->discovery, err);
    return r;
}

static void on_timeout(struct timer *timer, void *user)
{
    struct try_node *node = user;

    err_set(&node->problem, ETIMEDOUT, "the agent was not ready after %d s",
            READY_TIMEOUT_MS / 1000);
    loop_stop(node->loop);
}

static void on_interrupt(int signum, void *user)
{
    struct try_node *node = user;

    node->interrupted = true;
    loop_stop(node->loop);
}

static bool is_ready(const struct try_node *node, const struct try_plan *plan)
{
    return (node->agent_ready || !plan->plugin) && (node->discovery_over || !plan->discovery) &&
           sim_kubelet_settled(node->kubelet);
}

/* What both refuse is told in the words of the device plugin, whichever of the two was faster. */
static bool discovery_failed(const struct try_node *node, const struct try_plan *plan)
{
    return node->discovery_problem.code && (node->agent_ready || !plan->plugin);
}

static int wait_ready(struct try_node *node, const struct try_plan *plan, struct err *err)
{
    struct timer timeout = {};

    timer_start(&timeout, node->loop, READY_TIMEOUT_MS, on_timeout, node);
    while (!is_ready(node, plan) && !node->problem.code && !discovery_failed(node, plan) &&
           !node->interrupted) {
        loop_run(node->loop);
    }
    timer_stop(&timeout);
    if (node->interrupted)
        return err_set(err, EINTR, "interrupted");
    const struct err *problem = node->discovery_problem.code && !node->agent_over
                                    ? &node->discovery_problem
                                    : &node->problem;
    if (problem->code) {
        *err = *problem;
        return -problem->code;
    }
    return 0;
}

static void on_kubelet_change(void *user)
{
    loop_stop(((struct try_node *)user)->loop);
}

/* What the operator and node feature discovery put on a GPU node beside feature discovery. */
static int label_node(struct try_node *node, const struct try_options *options,
                      const struct try_plan *plan, struct err *err)
{
    int r = add_label(node, "kubernetes.io/hostname", NODE_NAME);

    if (r == 0)
        r = add_label(node, "kubernetes.io/os", "linux");
    if (r == 0)
        r = add_label(node, "nvidia.com/gpu.present", "true");
    if (r == 0 && plan->mig_config) {
        r = add_label(node, "nvidia.com/mig.config", plan->mig_config);
        if (r == 0)
            r = add_label(node, "nvidia.com/mig.config.state", "success");
    }
    for (size_t i = 0; r == 0 && i < options->n_labels; i++)
        r = add_label(node, options->labels[i].key, options->labels[i].value);
    return r < 0 ? err_no_memory(err) : 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct key_value *)a)->key, ((const struct key_value *)b)->key);
}

int try_node_start(struct try_node *node, const struct try_options *options,
                   const struct try_plan *plan, struct err *err)
{
    char plugins[256];
    int r = partition(node, plan, err);

    node->plan = plan;
    hold_signals(SIG_BLOCK);
    if (r == 0)
        r = make_dirs(node, err);
    if (r == 0)
        r = publish(node, plan, err);
    if (r == 0)
        r = write_config(node, plan, err);
    for (size_t i = 0; r == 0 && i < 3; i++)
        r = link_self(node,
                      (const char *const[]){ "nvidia-device-plugin", "gpu-feature-discovery",
                                             SIM_MPS_CONTROL_NAME }[i],
                      err);
    if (r == 0)
        r = loop_new(&node->loop, err);
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(signals); i++)
        r = loop_on_signal(node->loop, signals[i], on_interrupt, node, err);
    if (r == 0)
        hold_signals(SIG_UNBLOCK);
    if (r == 0)
        r = listen_notify(node, err);
    snprintf(plugins, sizeof(plugins), "%s/plugins", node->dir);
    struct sim_kubelet_options how = {
        .dir = plugins, .node_name = NODE_NAME, .on_change = on_kubelet_change, .user = node
    };
    if (r == 0)
        r = sim_kubelet_new(node->loop, &how, &node->kubelet, err);
    if (r == 0)
        r = start_children(node, plan, err);
    if (r == 0)
        r = wait_ready(node, plan, err);
    if (r == 0)
        r = label_node(node, options, plan, err);
    if (r == 0)
        qsort(node->labels, node->n_labels, sizeof(node->labels[0]), by_key);
    return r;
}

/* ---- pods ---- */

struct admission_wait {
    struct try_node *node;
    struct try_pod *pod;
    bool answered;
};

static void on_admitted(void *user, const char *reason, const char *message)
{
    struct admission_wait *wait = user;
    struct try_pod *pod = wait->pod;

    wait->answered = true;
    pod->phase = reason ? TRY_FAILED : TRY_RUNNING;
    if (reason) {
        pod->reason = arena_strdup(wait->node->arena, reason);
        /* The kubelet's words in the status of a pod that it turned away. */
        pod->message = arena_printf(wait->node->arena, "Pod was rejected: %s", message);
    }
    loop_stop(wait->node->loop);
}

static int admit(struct try_node *node, struct try_pod *pod, struct err *err)
{
    struct admission_wait wait = { .node = node, .pod = pod };
    struct timer timeout = {};
    int r = sim_kubelet_admit(node->kubelet, &pod->object->sim, on_admitted, &wait, err);

    if (r < 0)
        return r;
    timer_start(&timeout, node->loop, READY_TIMEOUT_MS, on_timeout, node);
    while (!wait.answered && !node->problem.code && !node->interrupted)
        loop_run(node->loop);
    timer_stop(&timeout);
    if (wait.answered)
        return 0;
    if (node->interrupted)
        return err_set(err, EINTR, "interrupted");
    *err = node->problem;
    return -node->problem.code;
}

int try_node_run_pods(struct try_node *node, const struct try_options *options,
                      struct try_pod *pods, size_t n_pods, struct err *err)
{
    const struct pod_object **running =
        arena_new_array(node->arena, const struct pod_object *, MAX(n_pods, 1));
    size_t n_running = 0;

    if (!running)
        return err_no_memory(err);
    for (size_t i = 0; i < n_pods; i++) {
        struct node_view view = { .n_labels = node->n_labels,
                                  .labels = node->labels,
                                  .n_taints = options->n_taints,
                                  .taints = options->taints };
        auto_(buf_done) struct buf why = BUF_MAX(KIB(64));
        const char *bound = pods[i].object->node_name;

        view.capacity = sim_kubelet_capacity(node->kubelet, &view.n_capacity);
        if (*bound && !text_equal(bound, NODE_NAME)) {
            pods[i].message =
                arena_printf(node->arena, "the only node is %s, not %s", NODE_NAME, bound);
            continue;
        }
        if (!*bound && !scheduler_fits(&view, pods[i].object, running, n_running, &why)) {
            char *words = arena_strdup(node->arena, buf_text(&why));

            if (!words)
                return err_no_memory(err);
            text_make_harmless(words); /* resources have the names that a manifest gives them */
            pods[i].reason = "Unschedulable";
            pods[i].message = words;
            continue;
        }
        int r = admit(node, &pods[i], err);
        if (r < 0)
            return r;
        if (pods[i].phase == TRY_RUNNING)
            running[n_running++] = pods[i].object;
    }
    return 0;
}

/* "nvidia.com/gpu: 2 of 3 healthy, …" */
static void say_capacity(struct try_node *node, struct buf *ret)
{
    size_t n;
    const struct sim_capacity *lines = sim_kubelet_capacity(node->kubelet, &n);

    ret->len = 0;
    for (size_t i = 0; i < n; i++)
        buf_printf(ret, "%s%s: %u of %u healthy", i > 0 ? ", " : "", lines[i].resource,
                   lines[i].allocatable, lines[i].capacity);
    if (n == 0)
        buf_add_text(ret, "no GPU resources");
}

int try_node_serve(struct try_node *node, struct err *err)
{
    auto_(buf_done) struct buf before = BUF_MAX(KIB(64)), now = BUF_MAX(KIB(64));

    say_capacity(node, &before);
    while (!node->interrupted && !node->problem.code) {
        loop_run(node->loop);
        say_capacity(node, &now);
        if (!node->interrupted && !text_equal(buf_text(&before), buf_text(&now)))
            fprintf(stderr, "%s\n", buf_text(&now));
        say_capacity(node, &before);
    }
    if (node->interrupted)
        return 0;
    *err = node->problem;
    return -node->problem.code;
}

/* ---- the end ---- */

static void on_stop_timeout(struct timer *timer, void *user)
{
    struct try_node *node = user;

    child_signal(node->agent, SIGKILL);
}

void try_node_stop(struct try_node *node)
{
    struct timer timeout = {};
    struct err ignored;

    if (node->agent && !node->agent_over) {
        node->interrupted = true;
        child_signal(node->agent, SIGTERM);
        timer_start(&timeout, node->loop, STOP_TIMEOUT_MS, on_stop_timeout, node);
        while (!node->agent_over)
            loop_run(node->loop);
        timer_stop(&timeout);
    }
    hold_signals(SIG_BLOCK);
    child_free(node->agent);
    child_free(node->discovery);
    grpc_server_free(node->pod_server);
    sim_kubelet_free(node->kubelet);
    loop_fd_free(node->notify);
    if (node->notify_fd >= 0)
        close(node->notify_fd);
    loop_free(node->loop);
    sim_state_close(node->state);
    free(node->built);
    if (node->dir[0])
        file_remove_tree(node->dir, &ignored);
    node->dir[0] = '\0';
}
