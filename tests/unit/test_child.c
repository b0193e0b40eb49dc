#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/child.h"

struct rig {
    struct loop *loop;
    struct child *child;
    int exits;
    struct child_exit last;
    char out[256], err[256];
};

static int set_up(void **state)
{
    static struct rig rig;

    rig = (struct rig){};
    *state = &rig;
    return loop_new_manual(&rig.loop, NULL);
}

static int tear_down(void **state)
{
    struct rig *rig = *state;

    child_free(rig->child);
    loop_free(rig->loop);
    return 0;
}

static void on_exit_(struct child *child, const struct child_exit *exit, void *user)
{
    struct rig *rig = user;

    rig->exits++;
    rig->last = *exit;
    snprintf(rig->out, sizeof(rig->out), SPAN_FMT, SPAN_ARG(exit->out));
    snprintf(rig->err, sizeof(rig->err), SPAN_FMT, SPAN_ARG(exit->err));
}

static int start(struct rig *rig, struct child_spec *spec, const char *script)
{
    const char *argv[] = { "sh", "-c", script, NULL };

    spec->argv = argv;
    return child_spawn(rig->loop, spec, on_exit_, rig, &rig->child, NULL);
}

static void wait_for_exit(struct rig *rig)
{
    while (rig->exits == 0)
        loop_wait(rig->loop, 1000);
}

static void output_and_exit_code_come_back(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = { .input = SPAN("get_server_list\n") };

    assert_int_equal(start(rig, &spec, "read line; echo \"got $line\"; echo oops >&2; exit 3"), 0);
    assert_true(child_pid(rig->child) > 0);
    wait_for_exit(rig);
    assert_int_equal(rig->last.status, 3);
    assert_int_equal(rig->last.signum, 0);
    assert_false(rig->last.timed_out);
    assert_false(rig->last.cut);
    assert_string_equal(rig->out, "got get_server_list\n");
    assert_string_equal(rig->err, "oops\n");
    assert_int_equal(child_pid(rig->child), 0);
}

static void the_environment_is_ours_or_the_given_one(void **state)
{
    struct rig *rig = *state;
    const char *env[] = { "CUDA_MPS_PIPE_DIRECTORY=/x", "PATH=/usr/bin:/bin", NULL };
    struct child_spec spec = { .env = env };

    setenv("TRANCHE_TEST", "1", 1);
    assert_int_equal(start(rig, &spec, "echo $CUDA_MPS_PIPE_DIRECTORY:$TRANCHE_TEST"), 0);
    wait_for_exit(rig);
    assert_string_equal(rig->out, "/x:\n");
    child_free(rig->child);
    rig->exits = 0;
    spec.env = NULL;
    assert_int_equal(start(rig, &spec, "echo $TRANCHE_TEST"), 0);
    wait_for_exit(rig);
    assert_string_equal(rig->out, "1\n");
}

static void it_starts_in_the_folder_that_it_is_given(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = { .dir = "/proc/self" }; /* each process has another one */
    struct child_spec nowhere = { .dir = "/nonexistent" };

    assert_int_equal(start(rig, &spec, "pwd -P"), 0);
    wait_for_exit(rig);
    assert_true(strncmp(rig->out, "/proc/", 6) == 0);
    child_free(rig->child);
    rig->child = NULL;
    assert_int_equal(start(rig, &nowhere, "true"), -ENOENT);
}

static void a_talkative_child_is_cut_but_never_blocked(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = { .output_max = 10 };

    assert_int_equal(start(rig, &spec, "head -c 300000 /dev/zero | tr '\\0' x; echo done >&2"), 0);
    wait_for_exit(rig);
    assert_int_equal(rig->last.status, 0);
    assert_true(rig->last.cut);
    assert_string_equal(rig->out, "xxxxxxxxxx");
    assert_string_equal(rig->err, "done\n");
}

static void at_the_deadline_it_is_asked_to_end_and_then_made_to(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = { .deadline_ms = 100, .grace_ms = 50 };

    assert_int_equal(start(rig, &spec, "sleep 600 & echo up; wait"), 0);
    loop_advance_ms(rig->loop, 99);
    assert_int_equal(rig->exits, 0);
    loop_advance_ms(rig->loop, 1);
    wait_for_exit(rig);
    assert_int_equal(rig->last.signum, SIGTERM);
    assert_true(rig->last.timed_out);
    child_free(rig->child);

    rig->child = NULL;
    rig->exits = 0;
    assert_int_equal(start(rig, &spec, "trap '' TERM; echo deaf >&2; while :; do sleep 600; done"),
                     0);
    while (rig->exits == 0) { /* it may be killed before it has become deaf, too */
        loop_advance_ms(rig->loop, 50);
        loop_wait(rig->loop, 20);
    }
    assert_true(rig->last.signum == SIGKILL || rig->last.signum == SIGTERM);
    assert_true(rig->last.timed_out);
}

static void a_signal_reaches_the_whole_group(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = {};

    assert_int_equal(start(rig, &spec, "sleep 600"), 0);
    child_signal(rig->child, SIGUSR1);
    wait_for_exit(rig);
    assert_int_equal(rig->last.signum, SIGUSR1);
    child_signal(rig->child, SIGUSR1); /* over: nothing */
}

static void a_grandchild_that_holds_the_pipes_does_not_hold_the_exit(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = {};

    assert_int_equal(start(rig, &spec, "setsid sleep 600 & echo $!; exit 0"), 0);
    wait_for_exit(rig);
    assert_int_equal(rig->last.status, 0);
    int daemon = atoi(rig->out);
    assert_true(daemon > 1);
    kill(daemon, SIGKILL);
}

static void a_program_that_is_not_there_fails_at_once(void **state)
{
    struct rig *rig = *state;
    const char *argv[] = { "/nonexistent/nvidia-cuda-mps-control", NULL };
    struct child_spec spec = { .argv = argv };
    struct err err;

    assert_int_equal(child_spawn(rig->loop, &spec, on_exit_, rig, &rig->child, &err), -ENOENT);
    assert_non_null(strstr(err.text, argv[0]));
    while (loop_poll(rig->loop)) {
    }
    assert_int_equal(rig->exits, 0);
}

static void freeing_a_running_child_kills_it_silently(void **state)
{
    struct rig *rig = *state;
    struct child_spec spec = { .deadline_ms = 1000 };

    assert_int_equal(start(rig, &spec, "sleep 600"), 0);
    pid_t pid = child_pid(rig->child);
    child_free(rig->child);
    rig->child = NULL;
    while (kill(pid, 0) == 0)
        loop_wait(rig->loop, 100);
    assert_int_equal(rig->exits, 0);

    assert_int_equal(start(rig, &spec, "sleep 600"), 0);
    child_free(rig->child); /* and the loop goes before the kernel has told */
    rig->child = NULL;
}

static void free_inside(struct child *child, const struct child_exit *exit, void *user)
{
    struct rig *rig = user;

    rig->exits++;
    child_free(child);
    rig->child = NULL;
}

static void the_callback_may_free_the_child(void **state)
{
    struct rig *rig = *state;
    const char *argv[] = { "true", NULL };
    struct child_spec spec = { .argv = argv };

    assert_int_equal(child_spawn(rig->loop, &spec, free_inside, rig, &rig->child, NULL), 0);
    wait_for_exit(rig);
    assert_null(rig->child);
}

#define CHILD_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHILD_TEST(output_and_exit_code_come_back),
        CHILD_TEST(the_environment_is_ours_or_the_given_one),
        CHILD_TEST(it_starts_in_the_folder_that_it_is_given),
        CHILD_TEST(a_talkative_child_is_cut_but_never_blocked),
        CHILD_TEST(at_the_deadline_it_is_asked_to_end_and_then_made_to),
        CHILD_TEST(a_signal_reaches_the_whole_group),
        CHILD_TEST(a_grandchild_that_holds_the_pipes_does_not_hold_the_exit),
        CHILD_TEST(a_program_that_is_not_there_fails_at_once),
        CHILD_TEST(freeing_a_running_child_kills_it_silently),
        CHILD_TEST(the_callback_may_free_the_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
