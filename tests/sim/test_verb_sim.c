/* The words of `tranche sim` and its scenarios, on a node without files beside it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/selfpath.h"
#include "cli/verb_sim.h"
#include "cli/verbs.h"
#include "sim/gpu/machine.h"

/* No test here makes a node with files, so that no library is needed. */
int sim_library_path(char *ret, size_t size, struct err *err)
{
    return -ENOENT;
}

struct bench {
    char dir[64], script[96];
    struct sim_node node;
};

static int set_up(void **state)
{
    struct sim_machine_options options = { .seed = 2 };
    struct bench *bench = calloc(1, sizeof(*bench));
    struct sim_spec spec;

    assert_non_null(bench);
    *state = bench;
    snprintf(bench->dir, sizeof(bench->dir), "/tmp/test-verb-sim-XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    snprintf(bench->script, sizeof(bench->script), "%s/script.yaml", bench->dir);
    bench->node = (struct sim_node){ bench->dir, malloc(sizeof(*bench->node.state)) };
    assert_non_null(bench->node.state);
    assert_int_equal(sim_spec_parse("2xh100,t4", &spec, NULL), 0);
    return sim_machine_build(&spec, &options, bench->node.state, NULL);
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    int r = file_remove_tree(bench->dir, NULL);

    free(bench->node.state);
    free(bench);
    return r;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* A line of words, as the shell would cut it. */
static int say(struct bench *bench, const char *line, struct err *err)
{
    char text[512], *argv[SIM_MAX_WORDS + 1], *save = NULL;
    int argc = 0;

    snprintf(text, sizeof(text), "%s", line);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    argv[argc] = NULL;

    const struct sim_command *command = sim_command_find(argv[0]);
    assert_non_null(command);
    return command->act(&bench->node, argc, argv, err);
}

static int play(struct bench *bench, const char *script, struct err *err)
{
    assert_int_equal(file_replace(AT_FDCWD, bench->script, span_of(script), 0600, NULL), 0);
    return sim_play(&bench->node, bench->script, err);
}

/* --- words ----------------------------------------------------------------------------------- */

static void commands_change_what_they_say(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = bench->node.state;
    static const char *const lines[] = {
        "set all temperature=70 power=300",
        "set 1 utilization=40",
        "mig 0 1g.10gb:2,3g.40gb",
        "set node three-slice-at-zero=on",
        "set node mig-profiles-hidden=on",
        "process add 1 --pid 77 --memory 10GiB --sm=30 --name trainer --kind mps",
        "process add 0 --gi 7 --memory 1Gi",
        "fault add nvmlDeviceGet* --gpu 2 --after 3 --times 1 --code GPU_IS_LOST",
        "fault add nvmlInit_v2 --hang 150ms",
        "xid 1 63",
        "lose 2",
    };

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct err err = {};

        if (say(bench, lines[i], &err) < 0)
            fail_msg("%s: %s", lines[i], err.text);
    }
    assert_int_equal(node->gpus[2].temperature_c, 70);
    assert_int_equal(node->gpus[1].power_mw, 300000);
    assert_int_equal(node->gpus[1].utilization_pct, 40);
    assert_true(node->placement_three_slice_at_zero);
    assert_true(node->mig_profiles_hidden);
    assert_int_equal(node->gpus[0].mig_current, 1);
    assert_int_equal(node->processes[0].pid, 77);
    assert_int_equal(node->processes[0].kind, 2);
    assert_int_equal(node->processes[0].memory_bytes, 10ull << 30);
    assert_string_equal(node->processes[0].name, "trainer");
    assert_int_equal(node->processes[1].gi_id, 7);
    assert_int_equal(node->processes[1].ci_id, 0);
    assert_int_equal(node->processes[1].pid, 1000);
    assert_int_equal(node->faults[0].code, 15);
    assert_int_equal(node->faults[0].gpu, 2);
    assert_int_equal(node->faults[0].after, 3);
    assert_int_equal(node->faults[1].code, 0);
    assert_int_equal(node->faults[1].hang_ms, 150);
    assert_int_equal(node->gpus[1].last_xid, 63);
    assert_true(node->gpus[2].lost);

    assert_int_equal(say(bench, "fault clear", NULL), 0);
    assert_int_equal(say(bench, "return all", NULL), 0);
    assert_int_equal(say(bench, "reboot", NULL), 0);
    assert_int_equal(node->n_armed, 0);
    assert_false(node->gpus[2].lost);
    assert_int_equal(node->gpus[0].mig_current, 0);
    assert_false(node->processes[0].exists);
}

static void a_mig_device_can_be_named_by_its_uuid(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = bench->node.state;
    char line[128];

    assert_int_equal(say(bench, "mig 1 1g.10gb", NULL), 0);
    snprintf(line, sizeof(line), "process add %s --memory 1Gi",
             node->gpus[1].instances[0].compute[0].uuid);
    assert_int_equal(say(bench, line, NULL), 0);
    assert_int_equal(node->processes[0].gpu, 1);
    assert_int_equal(node->processes[0].gi_id, node->gpus[1].instances[0].id);
}

static void a_layout_for_all_gpus_is_set_on_all_or_on_none(void **state)
{
    struct bench *bench = *state;
    struct err err = {};

    assert_int_equal(say(bench, "mig all 1g.10gb:7", &err), -ENOTSUP);
    assert_int_equal(bench->node.state->gpus[0].mig_current, 0);
    assert_int_equal(say(bench, "mig 1 1g.10gb:7", &err), 0);
    assert_int_equal(say(bench, "mig all off", &err), 0); /* it never was on at the T4 */
    assert_int_equal(bench->node.state->gpus[1].mig_current, 0);
}

static void wrong_words_are_misuse_and_refusals_are_not(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *line;
        int code;
        const char *says;
    } cases[] = {
        { "set 0", -EINVAL, "words are missing: tranche sim set GPU KEY=VALUE" },
        { "set 0 hot", -EINVAL, "\"hot\" is not KEY=VALUE" },
        { "set 9 temperature=1", -EINVAL, "there is no GPU \"9\"" },
        { "set node temperature=1", -EINVAL, "a node has no setting" },
        { "xid 0 79x", -EINVAL, "Xid \"79x\" is not a number" },
        { "xid all 79", -EINVAL, "not all" },
        { "xid 0 79 --gpu 1", -EINVAL, "there is no option --gpu here" },
        { "lose", -EINVAL, "words are missing" },
        { "lose 0 1", -EINVAL, "too many words" },
        { "mig 0 1g.10gb:x", -EINVAL, "count \"x\" is not a number" },
        { "mig 0 1g.10gb,,", -EINVAL, "PROFILE[:COUNT]" },
        { "mig 0 2g.10gb", -EINVAL, "no MIG profile \"2g.10gb\"" },
        { "mig 0 1g.10gb:8", -ENOSPC, "" },
        { "mig 2 on", -ENOTSUP, "cannot do MIG" },
        { "process", -EINVAL, "process add, process remove or process list" },
        { "process ad 0", -EINVAL, "did you mean \"process add\"?" },
        { "process add 0 --pdi 1", -EINVAL, "did you mean --pid?" },
        { "process add 0 --pid", -EINVAL, "--pid needs a value" },
        { "process add 0 --memory much", -EINVAL, "--memory \"much\"" },
        { "process add 0 --memory 900Gi", -ENOMEM, "are free" },
        { "process remove 5", -ENOENT, "no process 5" },
        { "fault add nvmlDeviceGetNam", -EINVAL, "did you mean \"nvmlDeviceGetName\"?" },
        { "fault add nvmlInit_v2 --code LOST", -EINVAL, "NVML has no code" },
        { "fault add nvmlInit_v2 --hang soon", -EINVAL, "--hang \"soon\"" },
        { "show -o table", -EINVAL, "no output format" },
        { "process list -o table", -EINVAL, "no output format" },
        { "fault list all", -EINVAL, "too many words" },
        { "fault clear 1", -EINVAL, "too many words" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};
        int r = say(bench, cases[i].line, &err);

        if (r != cases[i].code || !strstr(err.text, cases[i].says))
            fail_msg("%s: %d %s", cases[i].line, r, err.text);
    }
}

/* --- scenarios ------------------------------------------------------------------------------- */

static void a_scenario_takes_its_steps_in_order(void **state)
{
    struct bench *bench = *state;
    struct sim_state *node = bench->node.state;
    struct err err = {};

    if (play(bench,
             "# a day in the life\n"
             "- set: 0 temperature=50 utilization=10\n"
             "- after: 1ms\n"
             "  set: [0, temperature=60]\n"
             "- process: [add, 0, --name, two words]\n"
             "- lose 1\n"
             "- return: 1\n"
             "- lose: 2\n"
             "- after: 1ms\n"
             "- reboot:\n"
             "- xid: 0 13\n",
             &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(node->gpus[0].temperature_c, 60);
    assert_int_equal(node->gpus[0].utilization_pct, 10);
    assert_string_equal(node->processes[0].name, "two words");
    assert_false(node->processes[0].exists); /* the reboot came after it */
    assert_false(node->gpus[2].lost);
    assert_int_equal(node->gpus[0].last_xid, 13);
}

static void a_scenario_that_is_wrong_says_where_before_it_begins(void **state)
{
    struct bench *bench = *state;
    static const struct {
        const char *script, *says;
    } cases[] = {
        { "set: 0\n", "script.yaml:1:1: a scenario is a list of steps, not a map" },
        { "- set: 0 temperature=99\n- sett: 0\n", "script.yaml:2:3: there is no command \"sett\"" },
        { "- set: 0 temperature=99\n- list\n", "script.yaml:2:3: list cannot be a step" },
        { "- set: 0 temperature=99\n- after: soon\n", "script.yaml:2:10: after is a time" },
        { "- set: 0 temperature=99\n- after: 10\n", "after is a time such as 100ms" },
        { "- set: 0 temperature=99\n  xid: 0 1\n", "a step is one command; \"xid\" is a second" },
        { "- set: 0 temperature=99\n- [1]\n", "a step is a command, not a list" },
        { "- set: {a: b}\n", "words are a string or a list, not a map" },
        { "- set: [[0]]\n", "a word is a string or a number, not a list" },
        { "- set: 0 temperature=99\n- \"\n", "script.yaml:" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err err = {};

        assert_int_equal(play(bench, cases[i].script, &err), -EINVAL);
        if (!strstr(err.text, cases[i].says))
            fail_msg("wanted \"%s\": %s", cases[i].says, err.text);
        assert_int_equal(bench->node.state->gpus[0].temperature_c, 32);
    }
}

static void a_step_that_fails_ends_the_scenario_with_its_place(void **state)
{
    struct bench *bench = *state;
    struct err err = {};

    assert_int_equal(
        play(bench, "- set: 0 temperature=50\n- mig: 2 on\n- set: 0 temperature=60\n", &err),
        -ENOTSUP);
    assert_non_null(strstr(err.text, "script.yaml:2:3: mig: "));
    assert_int_equal(bench->node.state->gpus[0].temperature_c, 50);
}

static void a_scenario_that_is_not_there_is_named(void **state)
{
    struct bench *bench = *state;
    struct err err = {};

    assert_int_equal(sim_play(&bench->node, "/nonexistent.yaml", &err), -ENOENT);
    assert_non_null(strstr(err.text, "/nonexistent.yaml"));
}

static void a_folder_among_the_words_adds_none_to_the_command(void **state)
{
    char text[] = "sim --dir /nowhere run -- echo a", *argv[8] = {}, *save = NULL;
    int argc = 0;

    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    assert_int_not_equal(verb_sim(argc, argv), 0);
    assert_string_equal(argv[3], "echo");
    assert_string_equal(argv[4], "a");
    assert_null(argv[5]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commands_change_what_they_say),
        TEST(a_mig_device_can_be_named_by_its_uuid),
        TEST(a_layout_for_all_gpus_is_set_on_all_or_on_none),
        TEST(wrong_words_are_misuse_and_refusals_are_not),
        TEST(a_folder_among_the_words_adds_none_to_the_command),
        TEST(a_scenario_takes_its_steps_in_order),
        TEST(a_scenario_that_is_wrong_says_where_before_it_begins),
        TEST(a_step_that_fails_ends_the_scenario_with_its_place),
        TEST(a_scenario_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
