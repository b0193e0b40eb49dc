/* The agent on a simulated node: what the kubelet sees of it while kubelet, files and GPUs change.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "net/sock.h"
#include "support/agent_process.h"

#define GPU      "nvidia.com/gpu"
#define SHARED   "nvidia.com/gpu.shared"
#define MIG_1G   "nvidia.com/mig-1g.10gb"
#define SHARE(n) "sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: " #n "}]}}\n"

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

static void plugin_path(const struct agent_process *agent, const char *name, char *path,
                        size_t size)
{
    snprintf(path, size, "%s/%s", agent->plugins, name);
}

struct wait_for {
    struct agent_process *agent;
    const struct scripted_plugin *plugin;
    const char *path;
    unsigned n;
};

static bool has_ended(void *user)
{
    return ((struct wait_for *)user)->plugin->ended;
}

static bool has_asked(void *user)
{
    struct wait_for *wait = user;

    return wait->agent->kubelet.n_asked >= wait->n;
}

static bool is_gone(void *user)
{
    return access(((struct wait_for *)user)->path, F_OK) < 0;
}

static void await_asked(struct agent_process *agent, unsigned n)
{
    struct wait_for wait = { .agent = agent, .n = n };

    assert_true(scripted_wait(agent->loop, has_asked, &wait));
}

static const char *visible_devices(struct scripted_plugin *plugin, const char *id,
                                   struct arena *arena)
{
    const char *message = "";
    const struct allocation *got = scripted_allocate(plugin, &id, 1, arena, &message);

    if (!got)
        fail_msg("%s: %s", id, message);
    return allocation_env(got, "NVIDIA_VISIBLE_DEVICES");
}

static void assert_said(const struct agent_process *agent, const char *text)
{
    if (!strstr(agent->errors, text))
        fail_msg("\"%s\" is not in: %s", text, agent->errors);
}

/* ---- from nothing to a registered resource ---- */

static void every_gpu_is_listed_and_given(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    assert_string_equal(plugin->request.endpoint, "nvidia-gpu.sock");
    assert_true(plugin->list.items[0].has_topology);
    for (size_t i = 0; i < 2; i++) {
        const char *id = plugin->list.items[i].id;
        assert_memory_equal(id, "GPU-", 4);
        assert_string_equal(visible_devices(plugin, id, &arena), id);
    }
}

static void time_slicing_lists_each_gpu_as_often_as_the_file_says(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    char physical[64];

    agent_process_config(agent, "version: v1\n" SHARE(4));
    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 8, 8);
    const char *id = plugin->list.items[5].id;
    assert_non_null(strstr(id, "::"));
    snprintf(physical, sizeof(physical), "%.*s", (int)(strstr(id, "::") - id), id);
    assert_string_equal(visible_devices(plugin, id, &arena), physical);
}

static void an_unknown_device_is_refused_in_upstreams_words(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const char *message = "";

    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    assert_null(scripted_allocate(plugin, (const char *[]){ "GPU-zzz" }, 1, &arena, &message));
    assert_string_equal(message, "invalid allocation request for \"nvidia.com/gpu\": invalid "
                                 "request: unknown device: GPU-zzz");
}

/* ---- the kubelet comes and goes ---- */

static void a_kubelet_that_comes_late_is_found_at_once(void **state)
{
    struct agent_process *agent = *state;

    agent_process_start(agent, NULL);
    agent_process_idle(agent, 300);
    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
}

static void a_restarted_kubelet_sees_everything_again(void **state)
{
    struct agent_process *agent = *state;

    agent_process_config(agent, SHARE(10));
    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 20, 20);
    for (int i = 0; i < 3; i++) {
        scripted_kubelet_stop(&agent->kubelet, i % 2);
        agent_process_idle(agent, 50);
        scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
        scripted_kubelet_expect(&agent->kubelet, GPU, 20, 20);
    }
}

static void a_removed_socket_is_made_again_and_registered(void **state)
{
    struct agent_process *agent = *state;
    char path[160];
    struct stat st;

    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    plugin_path(agent, "nvidia-gpu.sock", path, sizeof(path));
    assert_int_equal(unlink(path), 0);
    await_asked(agent, 2);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    assert_int_equal(stat(path, &st), 0);
}

static void a_broken_stream_leads_to_a_new_registration(void **state)
{
    struct agent_process *agent = *state;

    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    grpc_request_cancel(steal(plugin->watching));
    await_asked(agent, 2);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
}

static void a_removed_directory_is_served_again_when_it_is_back(void **state)
{
    struct agent_process *agent = *state;
    char aside[300];

    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    scripted_kubelet_stop(&agent->kubelet, false);
    /* Aside in one step first: the agent would fill again what is being emptied. */
    snprintf(aside, sizeof(aside), "%s.gone", agent->plugins);
    assert_int_equal(rename(agent->plugins, aside), 0);
    assert_int_equal(file_remove_tree(aside, NULL), 0);
    agent_process_idle(agent, 200);
    assert_int_equal(mkdir(agent->plugins, 0700), 0);
    scripted_kubelet_start(&agent->kubelet, agent->loop, agent->plugins);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
}

static void a_kubelet_that_refuses_is_asked_again(void **state)
{
    struct agent_process *agent = *state;

    agent->kubelet.refuse = "requested API version \"v1beta1\" is not supported by kubelet";
    agent_process_begin(agent);
    await_asked(agent, 3);
    agent->kubelet.refuse = NULL;
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "is not supported by kubelet");
}

/* ---- a configuration is edited ---- */

static void a_new_configuration_changes_the_list_and_nothing_else(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    agent_process_config(agent, SHARE(2));
    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 4, 4);
    visible_devices(plugin, plugin->list.items[0].id, &arena);
    agent_process_config(agent, SHARE(5));
    agent_process_signal(agent, SIGHUP);
    scripted_kubelet_expect(&agent->kubelet, GPU, 10, 10);
    assert_int_equal(agent->kubelet.n_asked, 1);
    assert_false(plugin->ended);
    visible_devices(plugin, plugin->list.items[9].id, &arena);
}

static void an_edited_file_takes_effect_without_a_signal(void **state)
{
    struct agent_process *agent = *state;

    agent_process_config(agent, SHARE(2));
    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 4, 4);
    agent_process_config(agent, SHARE(3));
    scripted_kubelet_expect(&agent->kubelet, GPU, 6, 6);
}

/* As config maps are mounted: config.yaml -> ..data/config.yaml, ..data -> a folder, swapped. */
static void a_swapped_config_map_takes_effect(void **state)
{
    static const char *const texts[] = { SHARE(2), SHARE(7) };
    struct agent_process *agent = *state;
    char path[256];

    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/config/..v%d", agent->dir, i);
        assert_int_equal(file_make_dirs(path, 0700, NULL), 0);
        snprintf(path, sizeof(path), "%s/config/..v%d/config.yaml", agent->dir, i);
        assert_int_equal(file_replace(AT_FDCWD, path, span_of(texts[i]), 0600, NULL), 0);
    }
    snprintf(path, sizeof(path), "%s/config/..data", agent->dir);
    assert_int_equal(symlink("..v0", path), 0);
    assert_int_equal(symlink("..data/config.yaml", agent->config), 0);
    agent_process_env(agent, "CONFIG_FILE=%s", agent->config);
    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 4, 4);

    char next[256];
    snprintf(next, sizeof(next), "%s/config/..data_tmp", agent->dir);
    assert_int_equal(symlink("..v1", next), 0);
    assert_int_equal(rename(next, path), 0);
    scripted_kubelet_expect(&agent->kubelet, GPU, 14, 14);
}

static void a_wrong_configuration_changes_nothing(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

    agent_process_config(agent, SHARE(2));
    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 4, 4);
    agent_process_config(agent, SHARE(1));
    agent_process_signal(agent, SIGHUP);
    agent_process_idle(agent, 500);
    assert_int_equal(plugin->n_lists, 1);
    assert_int_equal(agent->kubelet.n_asked, 1);
    visible_devices(plugin, plugin->list.items[3].id, &arena);

    agent_process_config(agent, SHARE(3)); /* and it can be made good */
    scripted_kubelet_expect(&agent->kubelet, GPU, 6, 6);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "number of replicas must be >= 2");
    assert_said(agent, "the last good one stays in force");
}

static void a_configuration_that_does_not_fit_the_gpus_changes_nothing(void **state)
{
    struct agent_process *agent = *state;

    agent_process_sim(agent, "mig 0 1g.10gb:7");
    agent_process_config(agent, "flags: {migStrategy: none}\n");
    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    agent_process_config(agent, "flags: {migStrategy: single}\n");
    agent_process_signal(agent, SIGHUP);
    agent_process_idle(agent, 500);
    assert_int_equal(plugin->n_lists, 1);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "all devices on the node must be configured with the same migEnabled value");
}

static void a_renamed_resource_is_withdrawn_and_the_new_one_registered(void **state)
{
    struct agent_process *agent = *state;
    char path[160];

    agent_process_config(agent, SHARE(2));
    agent_process_begin(agent);
    struct scripted_plugin *old = scripted_kubelet_expect(&agent->kubelet, GPU, 4, 4);
    agent_process_config(agent, "sharing: {timeSlicing: {renameByDefault: true, resources: "
                                "[{name: nvidia.com/gpu, replicas: 2}]}}\n");
    scripted_kubelet_expect(&agent->kubelet, SHARED, 4, 4);
    struct wait_for wait = { .plugin = old };
    assert_true(scripted_wait(agent->loop, has_ended, &wait));
    assert_int_equal(old->ended_with, GRPC_OK);
    plugin_path(agent, "nvidia-gpu.sock", path, sizeof(path));
    wait.path = path;
    assert_true(scripted_wait(agent->loop, is_gone, &wait));
}

/* ---- GPUs change ---- */

static void mig_devices_appear_and_disappear_while_the_rest_stays(void **state)
{
    struct agent_process *agent = *state;

    agent_process_env(agent, "MIG_STRATEGY=mixed");
    agent_process_begin(agent);
    struct scripted_plugin *whole = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    agent_process_sim(agent, "mig 0 1g.10gb:7");
    struct scripted_plugin *mig = scripted_kubelet_expect(&agent->kubelet, MIG_1G, 7, 7);
    assert_string_equal(mig->request.endpoint, "nvidia-mig-1g.10gb.sock");
    scripted_kubelet_expect(&agent->kubelet, GPU, 1, 1);
    assert_false(whole->ended);

    agent_process_sim(agent, "mig 0 off");
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    struct wait_for wait = { .plugin = mig };
    assert_true(scripted_wait(agent->loop, has_ended, &wait));
    assert_int_equal(mig->ended_with, GRPC_OK);
    assert_false(whole->ended);
    assert_int_equal(agent->kubelet.n_asked, 2);
}

static void in_the_middle_of_a_change_what_is_gone_is_unhealthy(void **state)
{
    struct agent_process *agent = *state;

    agent_process_sim(agent, "mig all 1g.10gb:7");
    agent_process_env(agent, "MIG_STRATEGY=single");
    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 14, 14);
    agent_process_sim(agent, "mig 0 3g.40gb:2"); /* two profiles on one node do not go */
    scripted_kubelet_expect(&agent->kubelet, GPU, 14, 7);
    agent_process_sim(agent, "mig 1 3g.40gb:2");
    scripted_kubelet_expect(&agent->kubelet, GPU, 4, 4);
    assert_false(plugin->ended);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_said(agent, "more than one MIG device type present on node");
}

static void an_xid_makes_every_replica_unhealthy_until_hup(void **state)
{
    struct agent_process *agent = *state;

    agent_process_config(agent, SHARE(4));
    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 8, 8);
    agent_process_sim(agent, "xid 1 48");
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 8, 4);
    agent_process_signal(agent, SIGHUP);
    scripted_kubelet_expect(&agent->kubelet, GPU, 8, 8);
    assert_false(plugin->ended);
    assert_int_equal(agent->kubelet.n_asked, 1);
}

static void a_harmless_xid_changes_nothing(void **state)
{
    struct agent_process *agent = *state;

    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    agent_process_sim(agent, "xid 1 31");
    agent_process_idle(agent, 500);
    assert_int_equal(plugin->n_lists, 1);
}

/* ---- CDI ---- */

static bool spec_names(const struct agent_process *agent, const char *id)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
    struct span json;
    char path[256], name[128];

    snprintf(path, sizeof(path), "%s/cdi/k8s.device-plugin.nvidia.com-gpu.json", agent->dir);
    snprintf(name, sizeof(name), "\"name\":\"%s\"", id);
    return file_read(AT_FDCWD, path, MIB(4), &arena, &json, NULL) == 0 && strstr(json.ptr, name);
}

static void whatever_is_listed_can_be_resolved_by_its_cdi_name(void **state)
{
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    const char *message = "";
    char name[160];

    agent_process_env(agent, "DEVICE_LIST_STRATEGY=cdi-cri");
    agent_process_env(agent, "MIG_STRATEGY=mixed");
    agent_process_env(agent, "TRANCHE_CDI_ROOT=%s/cdi", agent->dir);
    agent_process_begin(agent);
    struct scripted_plugin *whole = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    for (size_t i = 0; i < 2; i++)
        assert_true(spec_names(agent, whole->list.items[i].id));
    agent_process_sim(agent, "mig 0 1g.10gb:7");
    struct scripted_plugin *mig = scripted_kubelet_expect(&agent->kubelet, MIG_1G, 7, 7);
    for (size_t i = 0; i < 7; i++)
        assert_true(spec_names(agent, mig->list.items[i].id));

    const char *id = mig->list.items[3].id;
    const struct allocation *got = scripted_allocate(mig, &id, 1, &arena, &message);
    assert_non_null(got);
    assert_int_equal(got->n_envs, 0);
    assert_int_equal(got->n_cdi_devices, 1);
    snprintf(name, sizeof(name), "k8s.device-plugin.nvidia.com/gpu=%s", id);
    assert_string_equal(got->cdi_devices[0], name);
}

static void devices_whose_cdi_cannot_be_written_wait_until_it_can(void **state)
{
    struct agent_process *agent = *state;
    char dir[96], aside[104];

    snprintf(dir, sizeof(dir), "%s/cdi", agent->dir);
    snprintf(aside, sizeof(aside), "%s.aside", dir);
    agent_process_env(agent, "DEVICE_LIST_STRATEGY=cdi-cri");
    agent_process_env(agent, "MIG_STRATEGY=mixed");
    agent_process_env(agent, "TRANCHE_CDI_ROOT=%s", dir);
    agent_process_begin(agent);
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    assert_int_equal(rename(dir, aside), 0);
    assert_int_equal(symlink("/dev/null", dir), 0);

    agent_process_sim(agent, "mig 0 1g.10gb:7");
    scripted_kubelet_expect(&agent->kubelet, GPU, 2, 1);
    assert_null(scripted_kubelet_plugin(&agent->kubelet, MIG_1G));

    assert_int_equal(unlink(dir), 0);
    assert_int_equal(rename(aside, dir), 0);
    agent_process_sim(agent, "xid 1 31"); /* harmless, and a reason to look */
    scripted_kubelet_expect(&agent->kubelet, MIG_1G, 7, 7);
    agent_process_signal(agent, SIGTERM);
    assert_int_equal(agent_process_wait(agent), 0);
    assert_non_null(strstr(agent->errors, "until its CDI specifications can be written"));
}

/* ---- strangers ---- */

static void garbage_on_the_sockets_disturbs_nobody(void **state)
{
    static const char *const words[] = { "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02",
                                         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense", "" };
    struct agent_process *agent = *state;
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));
    char path[160];

    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 2, 2);
    plugin_path(agent, "nvidia-gpu.sock", path, sizeof(path));
    for (int i = 0; i < 200; i++) {
        auto_close int fd = -1;

        assert_int_equal(sock_connect(path, &fd, NULL), 0);
        (void)!write(fd, words[i % 4], strlen(words[i % 4]));
        if (i % 10 == 0)
            visible_devices(plugin, plugin->list.items[0].id, &arena);
    }
    visible_devices(plugin, plugin->list.items[1].id, &arena);
    assert_false(plugin->ended);
}

static void ten_thousand_allocations_leave_nothing_behind(void **state)
{
    struct agent_process *agent = *state;
    size_t before = 0;

    /* What a sanitizer keeps of freed memory looks like a leak from outside. */
    agent_process_env(agent, "ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=1");
    agent_process_config(agent, SHARE(10));
    agent_process_begin(agent);
    struct scripted_plugin *plugin = scripted_kubelet_expect(&agent->kubelet, GPU, 20, 20);
    for (int i = 0; i < 10000; i++) {
        auto_(arena_done) struct arena arena = ARENA_MAX(MIB(1));

        visible_devices(plugin, plugin->list.items[i % 20].id, &arena);
        if (i == 2000)
            before = agent_process_memory(agent);
    }
    assert_true(agent_process_memory(agent) < before + MIB(2));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(every_gpu_is_listed_and_given),
        CASE(time_slicing_lists_each_gpu_as_often_as_the_file_says),
        CASE(an_unknown_device_is_refused_in_upstreams_words),
        CASE(a_kubelet_that_comes_late_is_found_at_once),
        CASE(a_restarted_kubelet_sees_everything_again),
        CASE(a_removed_socket_is_made_again_and_registered),
        CASE(a_broken_stream_leads_to_a_new_registration),
        CASE(a_removed_directory_is_served_again_when_it_is_back),
        CASE(a_kubelet_that_refuses_is_asked_again),
        CASE(a_new_configuration_changes_the_list_and_nothing_else),
        CASE(an_edited_file_takes_effect_without_a_signal),
        CASE(a_swapped_config_map_takes_effect),
        CASE(a_wrong_configuration_changes_nothing),
        CASE(a_configuration_that_does_not_fit_the_gpus_changes_nothing),
        CASE(a_renamed_resource_is_withdrawn_and_the_new_one_registered),
        CASE(mig_devices_appear_and_disappear_while_the_rest_stays),
        CASE(in_the_middle_of_a_change_what_is_gone_is_unhealthy),
        CASE(an_xid_makes_every_replica_unhealthy_until_hup),
        CASE(a_harmless_xid_changes_nothing),
        CASE(whatever_is_listed_can_be_resolved_by_its_cdi_name),
        CASE(devices_whose_cdi_cannot_be_written_wait_until_it_can),
        CASE(garbage_on_the_sockets_disturbs_nobody),
        CASE(ten_thousand_allocations_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
