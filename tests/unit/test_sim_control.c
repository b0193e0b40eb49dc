#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/gpu/control.h"
#include "sim/gpu/event.h"
#include "sim/gpu/machine.h"
#include "sim/gpu/mig.h"

static int set_up(void **state)
{
    struct sim_machine_options options = { .seed = 3 };
    struct sim_state *node = malloc(sizeof(*node));
    struct sim_spec spec;

    assert_non_null(node);
    *state = node;
    assert_int_equal(sim_spec_parse("2xh100,t4,a100", &spec, NULL), 0);
    return sim_machine_build(&spec, &options, node, NULL);
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define WHOLE      .gi_id = SIM_NO_INSTANCE, .ci_id = SIM_NO_INSTANCE

/* --- GPUs ------------------------------------------------------------------------------------ */

static void a_gpu_is_found_by_index_uuid_or_bus_id(void **state)
{
    struct sim_state *node = *state;
    static const struct {
        const char *word;
        uint32_t gpu;
    } cases[] = {
        { "0", 0 },
        { "3", 3 },
        { "00000000:43:00.0", 1 },
        { "0000:43:00.0", 1 },
        { "0000:9d:00", 2 },
        { "0000:9D:00.0", 2 },
    };
    uint32_t gpu;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(sim_gpu_find(node, cases[i].word, &gpu, NULL), 0);
        assert_int_equal(gpu, cases[i].gpu);
    }
    assert_int_equal(sim_gpu_find(node, node->gpus[2].uuid, &gpu, NULL), 0);
    assert_int_equal(gpu, 2);
}

static void a_gpu_that_is_not_there_is_named(void **state)
{
    static const char *const words[] = {
        "4", "-1", "", "GPU-1", "0000:44:00.0", "0000:43:00.1", "x"
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct err err = {};
        uint32_t gpu;

        assert_int_equal(sim_gpu_find(*state, words[i], &gpu, &err), -EINVAL);
        assert_non_null(strstr(err.text, "an index from 0 to 3"));
    }
}

/* --- settings -------------------------------------------------------------------------------- */

static void a_setting_reaches_the_word_behind_it(void **state)
{
    struct sim_state *node = *state;
    struct sim_gpu *gpu = &node->gpus[0];
    static const struct {
        const char *key, *value;
        size_t offset;
        uint32_t want;
    } cases[] = {
        { "temperature", "71", offsetof(struct sim_gpu, temperature_c), 71 },
        { "power", "350.5", offsetof(struct sim_gpu, power_mw), 350500 },
        { "power", "99W", offsetof(struct sim_gpu, power_mw), 99000 },
        { "power-limit", "500", offsetof(struct sim_gpu, power_limit_mw), 500000 },
        { "utilization", "100", offsetof(struct sim_gpu, utilization_pct), 100 },
        { "clock-graphics", "1200", offsetof(struct sim_gpu, clock_mhz[1]), 1200 },
        { "compute-mode", "exclusive-process", offsetof(struct sim_gpu, compute_mode), 3 },
        { "persistence", "off", offsetof(struct sim_gpu, persistence), 0 },
        { "mig-mode", "on", offsetof(struct sim_gpu, mig_current), 1 },
        { "clock-reasons", "0x40", offsetof(struct sim_gpu, clock_event_reasons), 0x40 },
        { "tensor-active", "44", offsetof(struct sim_gpu, activity_pct[5]), 44 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        uint32_t generation = node->generation, got;
        struct err err = {};

        if (sim_set(node, 0, cases[i].key, cases[i].value, &err) < 0)
            fail_msg("%s", err.text);
        memcpy(&got, (char *)gpu + cases[i].offset, sizeof(got));
        assert_int_equal(got, cases[i].want);
        assert_true(node->generation > generation);
    }
    assert_int_equal(sim_set(node, 0, "ecc", "off", NULL), 0);
    assert_false(gpu->ecc_enabled);
    assert_int_equal(sim_set(node, 0, "nvlink", "3:down", NULL), 0);
    assert_false(gpu->links[3].active);
    assert_int_equal(
        sim_set(node, 0, "fabric-cluster", "00112233-4455-6677-8899-aabbccddeeff", NULL), 0);
    assert_int_equal(gpu->fabric_cluster[15], 0xff);
    assert_int_equal(sim_set(node, 0, "ecc-uncorrected", "5", NULL), 0);
    assert_int_equal(gpu->ecc_uncorrected[1], 5);
}

static void a_setting_that_is_wrong_says_why_and_changes_nothing(void **state)
{
    static const struct {
        uint32_t gpu;
        const char *key, *value, *says;
    } cases[] = {
        { 0, "temprature", "71", "did you mean \"temperature\"?" },
        { 0, "driver-loaded", "off", "a GPU has no setting \"driver-loaded\"" },
        { 0, "temperature", "hot", "temperature: \"hot\" is not a number" },
        { 0, "temperature", "201", "not between 0 and 200" },
        { 0, "utilization", "-1", "is not a number" },
        { 0, "power-limit", "900", "not between 200 and 700 W" },
        { 0, "lost", "perhaps", "neither on nor off" },
        { 0, "memory-used", "10GiBs", "amount of memory" },
        { 0, "memory-used", "80Gi", "MiB that are free" },
        { 0, "nvlink", "18:up", "has 18 NVLinks" },
        { 0, "nvlink", "up", "such as 3:down" },
        { 0, "fabric-cluster", "00112233", "not a UUID" },
        { 2, "mig-mode", "on", "cannot do MIG" },
        { 0, "compute-mode", "shared", "no compute mode" },
    };
    struct sim_state *node = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_free struct sim_gpu *before = malloc(sizeof(*before));
        struct err err = {};

        sim_gpu_advance(node, cases[i].gpu);
        node->gpus[cases[i].gpu].advanced_ns = UINT64_MAX; /* keeps the counters where they are */
        memcpy(before, &node->gpus[cases[i].gpu], sizeof(*before));
        assert_true(sim_set(node, cases[i].gpu, cases[i].key, cases[i].value, &err) < 0);
        if (!strstr(err.text, cases[i].says))
            fail_msg("wanted \"%s\": %s", cases[i].says, err.text);
        before->advanced_ns = node->gpus[cases[i].gpu].advanced_ns;
        assert_memory_equal(before, &node->gpus[cases[i].gpu], sizeof(*before));
    }
}

static void memory_in_use_belongs_to_a_process(void **state)
{
    struct sim_state *node = *state;

    assert_int_equal(sim_set(node, 1, "memory-used", "10Gi", NULL), 0);
    assert_int_equal(sim_gpu_memory_held(node, 1, SIM_NO_INSTANCE), 10ull << 30);
    assert_int_equal(sim_set(node, 1, "memory-used", "4GiB", NULL), 0);
    assert_int_equal(sim_gpu_memory_held(node, 1, SIM_NO_INSTANCE), 4ull << 30);
    assert_int_equal(sim_set(node, 1, "memory-used", "0", NULL), 0);
    assert_int_equal(sim_set(node, 1, "memory-used", "0", NULL), 0);
    assert_int_equal(sim_gpu_memory_held(node, 1, SIM_NO_INSTANCE), 0);
}

static void every_key_has_a_name_a_unit_and_no_twin(void **state)
{
    const struct sim_key *key;

    for (size_t i = 0; (key = sim_key_at(i)); i++) {
        assert_true(key->name && key->unit && key->help);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(key->name, sim_key_at(j)->name);
    }
}

/* --- Xids ------------------------------------------------------------------------------------ */

static void an_xid_is_an_event_and_leaves_its_traces(void **state)
{
    struct sim_state *node = *state;

    assert_int_equal(sim_xid(node, 1, 48, SIM_NO_INSTANCE, SIM_NO_INSTANCE, NULL), 0);
    const struct sim_event *event = sim_event_next(node, 0);
    assert_non_null(event);
    assert_int_equal(event->gpu, 1);
    assert_int_equal(event->type, SIM_EVENT_XID);
    assert_int_equal(event->data, 48);
    assert_int_equal(node->gpus[1].last_xid, 48);
    assert_int_equal(node->gpus[1].ecc_uncorrected[0], 1);
    assert_int_equal(node->gpus[1].recovery_action, 1);
    assert_int_equal(sim_xid(node, 1, 63, SIM_NO_INSTANCE, SIM_NO_INSTANCE, NULL), 0);
    assert_true(node->gpus[1].remap_pending);
}

static void xid_79_takes_the_gpu_off_the_bus_until_it_returns(void **state)
{
    struct sim_state *node = *state;

    assert_int_equal(sim_xid(node, 0, 79, SIM_NO_INSTANCE, SIM_NO_INSTANCE, NULL), 0);
    assert_true(node->gpus[0].lost);
    assert_int_equal(node->n_events, 1);
    sim_lose(node, 0); /* it cannot fall twice */
    assert_int_equal(node->n_events, 1);
    sim_return(node, 0);
    assert_false(node->gpus[0].lost);
}

static void an_xid_needs_an_instance_that_exists(void **state)
{
    struct sim_state *node = *state;
    struct sim_mig_want want = { "1g.10gb", 1 };
    struct sim_mig_device device;
    struct err err = {};

    assert_int_equal(sim_xid(node, 0, 13, 9, 0, &err), -EINVAL);
    assert_non_null(strstr(err.text, "no GPU instance 9"));
    assert_int_equal(sim_xid(node, 0, 13, SIM_NO_INSTANCE, 0, &err), -EINVAL);
    assert_int_equal(sim_mig_partition(node, &node->gpus[0], &want, 1, NULL), 0);
    assert_int_equal(sim_mig_device_at(&node->gpus[0], 0, &device), 0);
    assert_int_equal(sim_xid(node, 0, 13, device.gi->id, 7, &err), -EINVAL);
    assert_int_equal(sim_xid(node, 0, 13, device.gi->id, 0, NULL), 0);
}

/* --- processes ------------------------------------------------------------------------------- */

static void a_process_is_added_changed_and_removed(void **state)
{
    struct sim_state *node = *state;
    struct sim_process process = { .pid = 42, .gpu = 0, WHOLE, .memory_bytes = 1 << 30 };

    assert_int_equal(sim_process_add(node, &process, NULL), 0);
    process.memory_bytes = 2ull << 30;
    assert_int_equal(sim_process_add(node, &process, NULL), 0);
    assert_int_equal(sim_gpu_memory_held(node, 0, SIM_NO_INSTANCE), 2ull << 30);
    process.gpu = 1;
    assert_int_equal(sim_process_add(node, &process, NULL), 0);
    assert_int_equal(sim_process_remove(node, 42, 1, NULL), 0);
    assert_int_equal(sim_process_remove(node, 42, 1, NULL), -ENOENT);
    assert_int_equal(sim_process_remove(node, 42, SIM_MAX_GPUS, NULL), 0);
    assert_int_equal(sim_gpu_memory_held(node, 0, SIM_NO_INSTANCE), 0);
}

static void a_process_that_could_not_be_is_refused(void **state)
{
    struct sim_state *node = *state;
    struct sim_mig_want want = { "1g.10gb", 1 };
    static const struct {
        struct sim_process process;
        const char *says;
    } cases[] = {
        { { .pid = 0, .gpu = 0, WHOLE }, "at least 1" },
        { { .pid = 1, .gpu = 9, WHOLE }, "no GPU 9" },
        { { .pid = 1, .gpu = 0, WHOLE, .memory_bytes = 1ull << 40 }, "more than the" },
        { { .pid = 1, .gpu = 0, WHOLE, .sm_pct = 101 }, "above 100" },
        { { .pid = 1, .gpu = 0, WHOLE, .kind = 3 }, "compute, graphics or mps" },
        { { .pid = 1, .gpu = 0, .gi_id = 3, .ci_id = 0 }, "no GPU instance 3" },
        { { .pid = 1, .gpu = 1, WHOLE }, "is partitioned" },
    };

    assert_int_equal(sim_mig_partition(node, &node->gpus[1], &want, 1, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};

        assert_true(sim_process_add(node, &cases[i].process, &err) < 0);
        if (!strstr(err.text, cases[i].says))
            fail_msg("wanted \"%s\": %s", cases[i].says, err.text);
    }
}

static void a_process_of_an_instance_has_the_instances_memory(void **state)
{
    struct sim_state *node = *state;
    struct sim_mig_want want = { "1g.10gb", 1 };
    struct sim_mig_device device;
    struct sim_process process = { .pid = 5, .gpu = 0, .memory_bytes = 11ull << 30 };

    assert_int_equal(sim_mig_partition(node, &node->gpus[0], &want, 1, NULL), 0);
    assert_int_equal(sim_mig_device_at(&node->gpus[0], 0, &device), 0);
    process.gi_id = device.gi->id;
    process.ci_id = device.ci->id;
    assert_int_equal(sim_process_add(node, &process, NULL), -ENOMEM);
    process.memory_bytes = 9ull << 30;
    assert_int_equal(sim_process_add(node, &process, NULL), 0);
}

/* --- faults ---------------------------------------------------------------------------------- */

static void a_fault_needs_a_call_that_exists_and_something_to_do(void **state)
{
    static const struct {
        struct sim_fault fault;
        const char *says;
    } cases[] = {
        { { .call = "nvmlDeviceGetNames", .gpu = -1, .code = 15 },
          "did you mean \"nvmlDeviceGetName" },
        { { .call = "cuda*", .gpu = -1, .code = 15 }, "no NVML call matches" },
        { { .call = "*", .gpu = 7, .code = 15 }, "there is no GPU 7" },
        { { .call = "*", .gpu = -1 }, "neither fails nor hangs" },
    };
    struct sim_state *node = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};

        assert_int_equal(sim_fault_add(node, &cases[i].fault, &err), -EINVAL);
        if (!strstr(err.text, cases[i].says))
            fail_msg("wanted \"%s\": %s", cases[i].says, err.text);
    }
    assert_int_equal(node->n_armed, 0);
}

static void faults_are_counted_and_cleared(void **state)
{
    struct sim_state *node = *state;
    struct sim_fault fault = { .call = "nvmlDeviceGet*", .gpu = -1, .code = 999 };
    struct err err = {};

    for (int i = 0; i < SIM_MAX_FAULTS; i++)
        assert_int_equal(sim_fault_add(node, &fault, NULL), 0);
    assert_int_equal(node->n_armed, SIM_MAX_FAULTS);
    assert_int_equal(sim_fault_add(node, &fault, &err), -ENOSPC);
    assert_int_equal(sim_fault_clear(node), SIM_MAX_FAULTS);
    assert_int_equal(node->n_armed, 0);
    assert_int_equal(sim_fault_add(node, &fault, NULL), 0);
}

static void codes_have_names(void **state)
{
    static const struct {
        const char *word;
        uint32_t code;
    } cases[] = {
        { "15", 15 },
        { "GPU_IS_LOST", 15 },
        { "gpu_is_lost", 15 },
        { "ERROR_IN_USE", 19 },
        { "UNKNOWN", 999 },
        { "999", 999 },
        { "NVML_ERROR_TIMEOUT", 10 },
        { "NVML_SUCCESS", 0 },
    };
    struct err err = {};
    uint32_t code;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(sim_code_parse(cases[i].word, &code, NULL), 0);
        assert_int_equal(code, cases[i].code);
    }
    assert_int_equal(sim_code_parse("GPU_IS_LOSD", &code, &err), -EINVAL);
    assert_non_null(strstr(err.text, "did you mean GPU_IS_LOST"));
    assert_int_equal(sim_code_parse("31", &code, &err), -EINVAL);
    assert_string_equal(sim_code_name(15), "GPU_IS_LOST");
    assert_string_equal(sim_code_name(31), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_gpu_is_found_by_index_uuid_or_bus_id),
        TEST(a_gpu_that_is_not_there_is_named),
        TEST(a_setting_reaches_the_word_behind_it),
        TEST(a_setting_that_is_wrong_says_why_and_changes_nothing),
        TEST(memory_in_use_belongs_to_a_process),
        TEST(every_key_has_a_name_a_unit_and_no_twin),
        TEST(an_xid_is_an_event_and_leaves_its_traces),
        TEST(xid_79_takes_the_gpu_off_the_bus_until_it_returns),
        TEST(an_xid_needs_an_instance_that_exists),
        TEST(a_process_is_added_changed_and_removed),
        TEST(a_process_that_could_not_be_is_refused),
        TEST(a_process_of_an_instance_has_the_instances_memory),
        TEST(a_fault_needs_a_call_that_exists_and_something_to_do),
        TEST(faults_are_counted_and_cleared),
        TEST(codes_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
