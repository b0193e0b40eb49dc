/* How the agent begins and ends: what stops it, what it waits for, what it leaves behind. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/file.h"
#include "support/agent_process.h"

#define GPU      "nvidia.com/gpu"
#define SHARE(n) "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: " #n "}]}}\n"
#define MPS(n)   "sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: " #n "}]}}\n"

static int set_up(void **state)
{
    *state = agent_process_new("2xh100-80gb");
    return 0;
}

static int tear_down(void **state)
{
    agent_process_free(*state);
    return 0;
}

static void assert_said(const struct agent_process *agent, const char *text)
{
    if (!strstr(agent->errors, text))
        fail_msg("\"%s\" is not in: %s", text, agent->errors);
}

static void assert_fails(struct agent_process *agent, const char *const *args, const char *text)
{
    agent_process_start(agent, args);
    assert_int_equal(agent_process_wait(agent), 1);
    assert_said(agent, text);
}

struct ending {
    const struct scripted_plugin *plugin;
};

static bool has_ended(void *user)
{
    return ((struct ending *)user)->plugin->ended;
}

/* ---- what stops it ---- */

static void a_wrong_file_ends_it_with_upstreams_sentence_and_the_place(void **state)
{
    struct agent_process *agent = *state;

    agent_process_config(agent, "version: v1\nsharing:\n  timeSlicing:\n    resources:\n"
                                "    - name: nvidia.com/gpu\n      replicas: 1\n");
    assert_fails(agent, NULL,
                 "error starting plugins: unable to load config: unable to finalize config: unable "
                 "to parse config file: error parsing config file: unmarshal error: error "
                 "unmarshaling JSON: while decoding JSON: ");
    assert_said(agent, "config.yaml:6:17: number of replicas must be >= 2");
    assert_int_equal(agent->kubelet.n_asked, 0);
}

static void a_missing_file_ends_it(void **state)
{
    struct agent_process *agent = *state;
    const char *const args[] = { "--config-file", "/nonexistent/config.yaml", NULL };

    assert_fails(
        agent, args,
        "error starting plugins: unable to load config: unable to finalize config: unable "
        "to parse config file: error opening config file: open /nonexistent/config.yaml: ");
}

static void wrong_flags_and_variables_are_answered_with_help(void **state)
{
    static const struct {
        const char *arg, *variable, *message;
    } cases[] = {
        { "--nonsense", NULL, "flag provided but not defined: -nonsense" },
        { "--root", NULL, "flag provided but not defined: -root" }, /* ours, not under this name */
        { NULL, "FAIL_ON_INIT_ERROR=yes",
          "could not parse \"yes\" as bool value from environment variable "
          "\"FAIL_ON_INIT_ERROR\" for flag fail-on-init-error" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct agent_process *agent = *state;
        const char *const args[] = { cases[i].arg, NULL };
        char usage[256];

        if (cases[i].variable)
            agent_process_env(agent, "%s", cases[i].variable);
        assert_fails(agent, args, cases[i].message);
        snprintf(usage, sizeof(usage), "Incorrect Usage: %s", cases[i].message);
        assert_memory_equal(agent->out, usage, strlen(usage));
        assert_non_null(strstr(agent->out, "--mig-strategy"));
    }
}

static void values_that_do_not_go_are_refused_in_upstreams_words(void **state)
{
    static const struct {
        const char *variable, *message;
    } cases[] = {
        { "MIG_STRATEGY=triple", "error starting plugins: unable to validate flags: unknown MIG "
                                 "strategy: triple" },
        { "DEVICE_ID_STRATEGY=name", "unable to validate flags: invalid --device-id-strategy "
                                     "option: name" },
        { "IMEX_CHANNEL_IDS=1", "channelIDs must be [] or [0]; found [1]" },
        { "DEVICE_DISCOVERY_STRATEGY=vfio", "invalid --device-discovery-strategy option vfio" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct agent_process *agent = agent_process_new(NULL);

        agent_process_env(agent, "%s", cases[i].variable);
        assert_fails(agent, NULL, cases[i].message);
        agent_process_free(agent);
    }
}

/* D22 of spec/device-plugin §12: the path that is missing, not the default one. */
static void a_missing_directory_is_named(void **state)
{
    struct agent_process *agent = *state;

    agent_process_env(agent, "KUBELET_SOCKET=/nonexistent/plugins/kubelet.sock");
    assert_fails(agent, NULL,
                 "failed to create FS watcher for /nonexistent/plugins/: no such file "
                 "or directory");
}

static void gpus_that_do_not_go_with_the_strategy_end_it(void **state)
{
    struct agent_process *agent = *state;

    agent_process_sim(agent, "mig 0 1g.10gb:7");
    agent_process_env(agent, "MIG_STRATEGY=single");
    assert_fails(agent, NULL,
                 "error starting plugins: error getting plugins: unable to create plugins: failed "
                 "to construct resource managers: ");
    assert_said(agent, "all devices on the node must be configured with the same migEnabled value");
}

static void a_required_imex_channel_that_is_missing_ends_it(void **state)
{
    struct agent_process *agent = *state;

    agent_process_env(agent, "IMEX_CHANNEL_IDS=0");
    agent_process_env(agent, "IMEX_REQUIRED=true");
    assert_fails(agent, NULL,
                 "error starting plugins: error querying IMEX channels: requested "
                 "IMEX channel channel0 does not exist");
}

static void a_driver_that_is_not_loaded_ends_it_or_is_waited_for(void **state)
{
    struct agent_process *agent = *state;

    agent_process_sim(agent, "fault add nvmlInit_v2 --code DRIVER_NOT_LOADED");
    assert_fails(agent, NULL,
                 "error starting plugins: error getting plugins: unable to create plugins: failed "
                 "to construct resource managers: nvml init failed: Driver Not Loaded");

    agent_process_env(agent, "MIG_STRATEGY=mixed");
    assert_fails(agent, NULL,
                 "error starting plugins: unable to add default resources to config: "
                 "failed to initialize NVML: Driver Not Loaded");

    agent_process_env(agent, "MIG_STRATEGY=none");
    agent_process_env(agent, "FAIL_ON_INIT_ERROR=false");
    agent_process_begin(agent);
    agent_process_idle(agent, 500);
    assert_int_equal(agent->kubelet.n_asked, 0);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "No devices found. Waiting indefinitely.");
}

static void without_any_driver_it_ends_or_waits(void **state)
{
    struct agent_process *agent = agent_process_new(NULL); /* no simulated node either */
    char root[128];

    snprintf(root, sizeof(root), "%s/root", agent->dir);
    assert_int_equal(mkdir(root, 0700), 0);
    agent_process_env(agent, "TRANCHE_SIM=");
    agent_process_env(agent, "TRANCHE_ROOT=%s", root);
    assert_fails(agent, NULL, "nvml init failed: ERROR_LIBRARY_NOT_FOUND");
    assert_said(agent, "Unsupported platform detected; defaulting to nvml");

    agent_process_env(agent, "FAIL_ON_INIT_ERROR=false");
    agent_process_begin(agent);
    agent_process_idle(agent, 300);
    assert_false(agent->over);
    agent_process_signal(agent, SIGINT);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "No devices found. Waiting indefinitely.");
    agent_process_free(agent);
}

static void cdi_without_the_drivers_files_ends_it(void **state)
{
    struct agent_process *agent = *state;
    char path[192];

    agent_process_env(agent, "DEVICE_LIST_STRATEGY=cdi-annotations");
    snprintf(path, sizeof(path), "%s/root/usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06",
             agent->sim);
    assert_int_equal(unlink(path), 0);
    assert_fails(agent, NULL,
                 "error starting plugins: error getting plugins: unable to create cdi spec file: "
                 "failed to get CDI spec: libcuda.so.570.124.06: not found");
}

static void cdi_without_nvml_is_refused(void **state)
{
    struct agent_process *agent = agent_process_new(NULL);
    char root[128];

    snprintf(root, sizeof(root), "%s/root", agent->dir);
    assert_int_equal(mkdir(root, 0700), 0);
    agent_process_env(agent, "TRANCHE_SIM=");
    agent_process_env(agent, "TRANCHE_ROOT=%s", root);
    agent_process_env(agent, "DEVICE_LIST_STRATEGY=cdi-cri");
    assert_fails(agent, NULL,
                 "error starting plugins: unable to validate flags: CDI "
                 "--device-list-strategy options are only supported on NVML-based "
                 "systems");
    agent_process_free(agent);
}

/* ---- what it waits for ---- */

static void write_script(const struct agent_process *agent, const char *body)
{
    char path[160];

    snprintf(path, sizeof(path), "%s/bin", agent->dir);
    assert_int_equal(file_make_dirs(path, 0700, NULL), 0);
    snprintf(path, sizeof(path), "%s/bin/nvidia-cuda-mps-control", agent->dir);
    assert_int_equal(file_replace(AT_FDCWD, path, span_of(body), 0755, NULL), 0);
}

static void an_mps_resource_is_registered_when_its_daemon_answers(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const char *message;

    agent_process_env(agent, "MPS_ROOT=/run/nvidia/mps");
    agent_process_config(agent, MPS(4));
    write_script(agent, "#!/bin/sh\nexit 1\n");
    agent_process_begin(agent);
    agent_process_idle(agent, 600);
    assert_int_equal(agent->kubelet.n_asked, 0);

    write_script(agent,
                 "#!/bin/sh\n"
                 "case $CUDA_MPS_PIPE_DIRECTORY in */mps/nvidia.com/gpu/pipe) ;; *) exit 2;; "
                 "esac\nread -r word\n"
                 "[ \"$word\" = get_default_active_thread_percentage ] && echo 25.0\n");
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 8, 8);
    const struct allocation *got =
        scripted_allocate(plugin, &plugin->list.items[0].id, 1, &arena, &message);
    assert_non_null(got);
    assert_string_equal(allocation_env(got, "CUDA_MPS_PIPE_DIRECTORY"), "/mps/nvidia.com/gpu/pipe");
    assert_int_equal(got->n_mounts, 2);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "error waiting for MPS daemon: error checking MPS daemon health");
    assert_said(agent, "failed to send command to MPS daemon: exit status 1");
}

static void going_over_to_mps_withdraws_the_resource_until_the_daemon_answers(void **state)
{
    struct agent_process *agent = *state;

    agent_process_env(agent, "MPS_ROOT=/run/nvidia/mps");
    write_script(agent, "#!/bin/sh\n[ -e ${0%/bin/*}/up ]\n");
    agent_process_config(agent, SHARE(4));
    agent_process_begin(agent);
    struct scripted_plugin *before = scripted_kubelet_expect(&agent->kubelet, GPU, 8, 8);
    agent_process_config(agent, MPS(4));
    struct ending ending = { before };
    assert_true(scripted_wait(agent->loop, has_ended, &ending));
    agent_process_idle(agent, 500);
    assert_int_equal(agent->kubelet.n_asked, 1);

    char path[160];
    snprintf(path, sizeof(path), "%s/up", agent->dir);
    assert_int_equal(file_replace(AT_FDCWD, path, SPAN(""), 0600, NULL), 0);
    while (agent->kubelet.n_asked < 2)
        loop_wait(agent->loop, 50);
    scripted_kubelet_expect(&agent->kubelet, GPU, 8, 8);
}

/* systemd's protocol. */
static void a_service_manager_is_told_when_all_is_registered(void **state)
{
    struct agent_process *agent = *state;
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    char text[64] = "";

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", agent->dir);
    auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    agent_process_env(agent, "NOTIFY_SOCKET=%s", address.sun_path);
    agent_process_begin(agent);
    while (recv(fd, text, sizeof(text) - 1, 0) < 0 && !agent->over)
        loop_wait(agent->loop, 20);
    assert_string_equal(text, "READY=1");
    assert_non_null(scripted_kubelet_plugin(&agent->kubelet, GPU));
}

/* ---- how it ends ---- */

static void each_stop_signal_ends_it_well(void **state)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGQUIT };
    struct agent_process *agent = *state;
    char path[160];

    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
        agent_process_start(agent, NULL);
        while (agent->kubelet.n_asked <= i)
            loop_wait(agent->loop, 50);
        struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
        struct ending ending = { plugin };

        agent_process_signal(agent, signals[i]);
        assert_int_equal(agent_process_wait(agent), 0);
        assert_true(scripted_wait(agent->loop, has_ended, &ending));
        assert_int_equal(plugin->ended_with, GRPC_OK);
        snprintf(path, sizeof(path), "%s/nvidia-gpu.sock", agent->plugins);
        assert_int_equal(access(path, F_OK), -1);
    }
}

static void a_killed_one_is_replaced_over_its_stale_socket(void **state)
{
    struct agent_process *agent = *state;

    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    agent_process_signal(agent, SIGKILL);
    assert_int_equal(agent_process_wait(agent), -SIGKILL);
    agent_process_start(agent, NULL);
    while (agent->kubelet.n_asked < 2)
        loop_wait(agent->loop, 50);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
}

static void help_and_version_are_answered(void **state)
{
    struct agent_process *agent = *state;

    agent_process_start(agent, (const char *const[]){ "--help", NULL });
    assert_int_equal(agent_process_wait(agent), 0);
    assert_non_null(strstr(agent->out, "--kubelet-socket"));
    assert_non_null(strstr(agent->out, "[$KUBELET_SOCKET]"));
    agent_process_start(agent, (const char *const[]){ "--version", NULL });
    assert_int_equal(agent_process_wait(agent), 0);
    assert_memory_equal(agent->out, "nvidia-device-plugin version ", 29);
}

static void an_unknown_verb_is_answered_with_the_nearest(void **state)
{
    struct agent_process *agent = *state;

    agent->name = "tranche";
    agent_process_start(agent, (const char *const[]){ "agnet", NULL });
    assert_int_equal(agent_process_wait(agent), 2);
    assert_said(agent, "there is no verb \"agnet\"; did you mean \"agent\"?");
    agent_process_start(agent, (const char *const[]){ "help", NULL });
    assert_int_equal(agent_process_wait(agent), 0);
    assert_non_null(strstr(agent->out, "agent"));
    agent_process_start(agent, (const char *const[]){ "agent", "--help", NULL });
    assert_int_equal(agent_process_wait(agent), 0);
    assert_non_null(strstr(agent->out, "--log-format"));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_wrong_file_ends_it_with_upstreams_sentence_and_the_place),
        CASE(a_missing_file_ends_it),
        CASE(wrong_flags_and_variables_are_answered_with_help),
        CASE(values_that_do_not_go_are_refused_in_upstreams_words),
        CASE(a_missing_directory_is_named),
        CASE(gpus_that_do_not_go_with_the_strategy_end_it),
        CASE(a_required_imex_channel_that_is_missing_ends_it),
        CASE(a_driver_that_is_not_loaded_ends_it_or_is_waited_for),
        CASE(without_any_driver_it_ends_or_waits),
        CASE(cdi_without_the_drivers_files_ends_it),
        CASE(cdi_without_nvml_is_refused),
        CASE(an_mps_resource_is_registered_when_its_daemon_answers),
        CASE(going_over_to_mps_withdraws_the_resource_until_the_daemon_answers),
        CASE(a_service_manager_is_told_when_all_is_registered),
        CASE(each_stop_signal_ends_it_well),
        CASE(a_killed_one_is_replaced_over_its_stale_socket),
        CASE(help_and_version_are_answered),
        CASE(an_unknown_verb_is_answered_with_the_nearest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
