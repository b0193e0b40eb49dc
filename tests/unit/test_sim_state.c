#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/file.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/state.h"

/* A folder of its own and a node of two boards that can do MIG, for each test. */
struct bench {
    char dir[64];
    struct sim_state *content; /* owned */
};

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    struct sim_machine_options options = { .seed = 1 };
    struct sim_spec spec;

    assert_non_null(bench);
    *state = bench;
    snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-sim-state-XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    bench->content = malloc(sizeof(*bench->content));
    assert_non_null(bench->content);
    assert_int_equal(sim_spec_parse("2xh100", &spec, NULL), 0);
    return sim_machine_build(&spec, &options, bench->content, NULL);
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    int r = file_remove_tree(bench->dir, NULL);

    free(bench->content);
    free(bench);
    return r;
}

static void what_was_published_is_what_is_opened(void **state)
{
    struct bench *bench = *state;
    auto_(sim_state_closep) struct sim_state *node = NULL;
    struct err err = {};

    assert_int_equal(sim_state_publish(bench->dir, bench->content, &err), 0);
    assert_int_equal(sim_state_open(bench->dir, &node, &err), 0);
    assert_int_equal(node->n_gpus, 2);
    assert_memory_equal(node->gpus, bench->content->gpus, sizeof(node->gpus));
}

static void a_change_is_seen_through_every_mapping(void **state)
{
    struct bench *bench = *state;
    auto_(sim_state_closep) struct sim_state *one = NULL, *other = NULL;

    assert_int_equal(sim_state_publish(bench->dir, bench->content, NULL), 0);
    assert_int_equal(sim_state_open(bench->dir, &one, NULL), 0);
    assert_int_equal(sim_state_open(bench->dir, &other, NULL), 0);
    sim_state_lock(one);
    one->gpus[1].temperature_c = 88;
    sim_state_changed(one);
    sim_state_unlock(one);
    assert_int_equal(other->gpus[1].temperature_c, 88);
    assert_int_equal(other->generation, 1);
    assert_int_equal(other->wake, 1);
}

static void a_folder_without_a_node_is_an_error_that_names_it(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = NULL;
    struct err err = {};

    assert_int_equal(sim_state_open(bench->dir, &node, &err), -ENOENT);
    assert_non_null(strstr(err.text, bench->dir));
    assert_null(node);
}

/* --- damage ---------------------------------------------------------------------------------- */

#define AT(member) offsetof(struct sim_state, member)

static const struct {
    const char *what;
    size_t offset, size;
    uint64_t value;
} damages[] = {
    { "magic", AT(magic), 8, 1 },
    { "version", AT(version), 4, 99 },
    { "size", AT(size), 4, 5 },
    { "too many GPUs", AT(n_gpus), 4, 17 },
    { "endless driver version", AT(driver_version), 80, 0x41 },
    { "endless GPU name", AT(gpus[1].name), 96, 0x41 },
    { "endless bus id of a link", AT(gpus[0].links[3].remote_bus_id), 32, 0x41 },
    { "a flag of a GPU", AT(gpus[0].lost), 1, 7 },
    { "a flag of the node", AT(driver_loaded), 1, 2 },
    { "a flag of a fault", AT(faults[5].armed), 1, 2 },
    { "too many links", AT(gpus[0].n_links), 4, 19 },
    { "more reserved than there is", AT(gpus[0].memory_reserved_bytes), 8, 1ull << 50 },
    { "more BAR1 in use than there is", AT(gpus[0].bar1_used_bytes), 8, 1ull << 60 },
    { "too many placements", AT(gpus[0].profiles[4].n_starts), 4, 9 },
    { "a profile without instances", AT(gpus[0].profiles[4].max_instances), 4, 0 },
    { "profile of an instance", AT(gpus[0].instances[2].profile), 4, 18 },
    { "endless MIG UUID", AT(gpus[0].instances[2].compute[1].uuid), 48, 0x41 },
    { "id of a compute instance", AT(gpus[0].instances[0].compute[0].id), 4, 8 },
    { "MIG mode", AT(gpus[0].mig_current), 4, 2 },
    { "CPUs of a node", AT(cpus_per_node), 4, 5000 },
};

static void a_damaged_file_is_an_error_and_never_a_crash(void **state)
{
    struct bench *bench = *state;

    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        struct sim_state *node = NULL;
        struct err err = {};
        char path[128];

        assert_int_equal(sim_state_publish(bench->dir, bench->content, &err), 0);
        snprintf(path, sizeof(path), "%s/state", bench->dir);
        auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        if (damages[i].size > 8) {
            char filler[96];

            memset(filler, (int)damages[i].value, sizeof(filler));
            assert_int_equal(pwrite(fd, filler, damages[i].size, (off_t)damages[i].offset),
                             (ssize_t)damages[i].size);
        } else {
            assert_int_equal(
                pwrite(fd, &damages[i].value, damages[i].size, (off_t)damages[i].offset),
                (ssize_t)damages[i].size);
        }
        if (sim_state_open(bench->dir, &node, &err) != -EBADMSG)
            fail_msg("%s was accepted", damages[i].what);
        assert_non_null(strstr(err.text, "not a simulated node"));
    }
}

static void a_process_on_a_gpu_that_is_not_there_is_damage(void **state)
{
    struct bench *bench = *state;

    bench->content->processes[9] = (struct sim_process){ .exists = true, .pid = 1, .gpu = 2 };
    assert_int_equal(sim_state_check(bench->content, sizeof(*bench->content), NULL), -EBADMSG);
    bench->content->processes[9].gpu = 1;
    assert_int_equal(sim_state_check(bench->content, sizeof(*bench->content), NULL), 0);
}

static void a_file_of_another_length_is_not_a_node(void **state)
{
    struct bench *bench = *state;
    static const long lengths[] = { 0, 1, 4096, sizeof(struct sim_state) - 1,
                                    sizeof(struct sim_state) + 1 };
    char path[128];

    snprintf(path, sizeof(path), "%s/state", bench->dir);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct sim_state *node = NULL;

        assert_int_equal(sim_state_publish(bench->dir, bench->content, NULL), 0);
        assert_int_equal(truncate(path, lengths[i]), 0);
        assert_int_equal(sim_state_open(bench->dir, &node, NULL), -EBADMSG);
    }
}

/* --- life and death -------------------------------------------------------------------------- */

static void a_process_killed_with_the_lock_leaves_it_to_the_others(void **state)
{
    struct bench *bench = *state;
    auto_(sim_state_closep) struct sim_state *node = NULL;

    assert_int_equal(sim_state_publish(bench->dir, bench->content, NULL), 0);
    assert_int_equal(sim_state_open(bench->dir, &node, NULL), 0);
    for (int i = 0; i < 3; i++) {
        int status = 0;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            sim_state_lock(node);
            node->faults[0].armed = true; /* a change cut short: n_armed does not know of it */
            raise(SIGKILL);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        sim_state_lock(node);
        assert_int_equal(node->n_armed, 1);
        node->faults[0].armed = false;
        node->n_armed = 0;
        sim_state_unlock(node);
    }
}

static void a_new_node_ends_the_old_one_for_its_clients(void **state)
{
    struct bench *bench = *state;
    auto_(sim_state_closep) struct sim_state *old = NULL, *new = NULL;

    assert_int_equal(sim_state_publish(bench->dir, bench->content, NULL), 0);
    assert_int_equal(sim_state_open(bench->dir, &old, NULL), 0);
    old->gpus[0].hung = true;
    assert_int_equal(sim_state_publish(bench->dir, bench->content, NULL), 0);
    assert_int_equal(sim_state_open(bench->dir, &new, NULL), 0);
    assert_false(old->driver_loaded);
    assert_false(old->gpus[0].hung); /* nobody hangs in a node that is gone */
    assert_true(old->wake > 0);
    assert_true(new->driver_loaded);
}

/* --- counters -------------------------------------------------------------------------------- */

static void counters_grow_with_their_rate_and_the_time(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = bench->content;
    struct sim_gpu *gpu = &node->gpus[0];

    gpu->power_mw = 300000;
    gpu->pcie_tx_kibps = 1024;
    gpu->nvlink_rx_kibps = 2048;
    gpu->utilization_pct = 30;
    gpu->clock_event_reasons = 0x4;
    node->processes[0] = (struct sim_process){
        .exists = true, .pid = 1, .gpu = 0, .gi_id = SIM_NO_INSTANCE, .sm_pct = 20
    };
    gpu->advanced_ns = sim_now_ns() - 10000000000ull;
    sim_gpu_advance(node, 0);
    /* Ten seconds, and the little that the test itself took. */
    assert_in_range(gpu->energy_uj, 3000000000ull, 3300000000ull);
    assert_in_range(gpu->pcie_tx_bytes, 10ull << 20, 11ull << 20);
    assert_in_range(gpu->nvlink_rx_bytes, 20ull << 20, 22ull << 20);
    assert_in_range(gpu->activity_pct_ns[2], 500000000000ull, 550000000000ull);
    assert_in_range(gpu->violation_ns[0], 10000000000ull, 11000000000ull);
    assert_int_equal(gpu->violation_ns[1], 0);
}

static void counters_stand_still_after_a_restart_of_the_machine(void **state)
{
    struct bench *bench = *state;
    struct sim_gpu *gpu = &bench->content->gpus[0];

    gpu->advanced_ns = sim_now_ns() + 1000000000000ull;
    sim_gpu_advance(bench->content, 0);
    assert_int_equal(gpu->energy_uj, 0);
    assert_true(gpu->advanced_ns <= sim_now_ns());
}

static void asking_all_the_time_loses_no_time(void **state)
{
    struct bench *bench = *state;
    struct sim_gpu *gpu = &bench->content->gpus[0];
    uint64_t before = sim_now_ns() - 999000;

    gpu->advanced_ns = before;
    sim_gpu_advance(bench->content, 0);
    /* Either nothing was counted and the stamp is as old as it was, or a whole step was. */
    assert_true(gpu->advanced_ns == before ? gpu->energy_uj == 0 : gpu->energy_uj > 0);
}

static void load_is_the_sum_of_processes_and_at_most_full(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = bench->content;
    struct sim_load load;

    node->gpus[0].utilization_pct = 10;
    node->processes[3] = (struct sim_process){ .exists = true, .pid = 1, .gi_id = 7, .sm_pct = 60 };
    node->processes[4] = (struct sim_process){ .exists = true, .pid = 2, .gi_id = 8, .sm_pct = 50 };
    node->processes[5] = (struct sim_process){ .exists = true, .pid = 3, .gpu = 1, .sm_pct = 50 };
    sim_gpu_load(node, 0, SIM_NO_INSTANCE, &load);
    assert_int_equal(load.sm_pct, 100);
    sim_gpu_load(node, 0, 7, &load);
    assert_int_equal(load.sm_pct, 60);
    sim_gpu_load(node, 1, SIM_NO_INSTANCE, &load);
    assert_int_equal(load.sm_pct, 50);
}

static uint32_t links_up(const struct sim_state *node, uint32_t gpu)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < SIM_MAX_LINKS; i++)
        n += sim_link_is_up(node, &node->gpus[gpu], i);
    return n;
}

static void a_link_that_is_down_at_one_end_is_down_at_the_other(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = bench->content;
    uint32_t n = links_up(node, 0);

    assert_int_equal(n, node->gpus[0].n_links); /* two boards are wired to each other */
    assert_int_equal(links_up(node, 1), n);
    node->gpus[0].links[3].active = false;
    assert_int_equal(links_up(node, 0), n - 1);
    assert_int_equal(links_up(node, 1), n - 1);
    node->gpus[0].links[3].active = true;
    node->gpus[1].mig_current = true;
    assert_int_equal(links_up(node, 0), 0);
    assert_int_equal(links_up(node, 1), 0);
    node->gpus[1].mig_current = false;
    node->gpus[1].lost = true;
    assert_int_equal(links_up(node, 0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_published_is_what_is_opened),
        TEST(a_change_is_seen_through_every_mapping),
        TEST(a_folder_without_a_node_is_an_error_that_names_it),
        TEST(a_damaged_file_is_an_error_and_never_a_crash),
        TEST(a_process_on_a_gpu_that_is_not_there_is_damage),
        TEST(a_file_of_another_length_is_not_a_node),
        TEST(a_process_killed_with_the_lock_leaves_it_to_the_others),
        TEST(a_new_node_ends_the_old_one_for_its_clients),
        TEST(counters_grow_with_their_rate_and_the_time),
        TEST(counters_stand_still_after_a_restart_of_the_machine),
        TEST(asking_all_the_time_loses_no_time),
        TEST(load_is_the_sum_of_processes_and_at_most_full),
        TEST(a_link_that_is_down_at_one_end_is_down_at_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
