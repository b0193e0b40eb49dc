#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "mps/mps_control.h"

struct world {
    struct loop *loop;
    char dir[64], *old_path;
    struct mps_control *control;
    bool answered;
    int r;
    char answer[1024], text[1024];
};

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    strcpy(world->dir, "/tmp/tranche-mps-XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_int_equal(loop_new(&world->loop, NULL), 0);
    world->old_path = strdup(getenv("PATH"));
    setenv("PATH", world->dir, 1);
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;

    mps_control_free(world->control);
    loop_free(world->loop);
    file_remove_tree(world->dir, NULL);
    setenv("PATH", world->old_path, 1);
    free(world->old_path);
    free(world);
    return 0;
}

/* The program as this test wants it. */
static void install(struct world *world, const char *script)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/" MPS_CONTROL_PROGRAM, world->dir);
    assert_int_equal(file_replace(AT_FDCWD, path, span_of(script), 0755, NULL), 0);
}

static void on_answer(void *user, int r, struct span answer, const struct err *err)
{
    struct world *world = user;

    world->answered = true;
    world->r = r;
    snprintf(world->answer, sizeof(world->answer), SPAN_FMT, SPAN_ARG(answer));
    snprintf(world->text, sizeof(world->text), "%s", err->text);
    mps_control_free(steal(world->control));
}

static int send(struct world *world, const char *command)
{
    struct err err = {};
    int r = mps_control_send(world->loop, "/mps/nvidia.com/gpu/pipe", "/mps/nvidia.com/gpu/log",
                             command, on_answer, world, &world->control, &err);

    if (r < 0) {
        snprintf(world->text, sizeof(world->text), "%s", err.text);
        return r;
    }
    for (int i = 0; i < 100 && !world->answered; i++)
        loop_wait(world->loop, 100);
    assert_true(world->answered);
    return 0;
}

static void the_command_goes_to_stdin_and_the_answer_comes_from_stdout(void **state)
{
    struct world *world = *state;

    install(world, "#!/bin/sh\nIFS= read -r line; echo \"got $line.\"; echo\n");
    assert_int_equal(send(world, MPS_COMMAND_CHECK), 0);
    assert_int_equal(world->r, 0);
    assert_string_equal(world->answer, "got get_default_active_thread_percentage.");
}

static void nothing_but_the_two_folders_is_in_its_environment(void **state)
{
    struct world *world = *state;

    install(world, "#!/bin/sh\n/usr/bin/env | /usr/bin/sort | /bin/grep -v -e ^PWD= -e ^_= "
                   "-e ^OLDPWD= -e ^SHLVL=\n");
    assert_int_equal(send(world, "x"), 0);
    assert_int_equal(world->r, 0);
    assert_string_equal(world->answer, "CUDA_MPS_LOG_DIRECTORY=/mps/nvidia.com/gpu/log\n"
                                       "CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe");
}

static void a_failure_tells_status_and_last_words(void **state)
{
    struct world *world = *state;

    install(world, "#!/bin/sh\nexit 1\n");
    assert_int_equal(send(world, "x"), 0);
    assert_int_equal(world->r, -EIO);
    assert_string_equal(world->text, "failed to send command to MPS daemon: exit status 1");

    world->answered = false;
    install(world, "#!/bin/sh\necho Cannot find MPS control daemon process >&2; exit 3\n");
    assert_int_equal(send(world, "x"), 0);
    assert_string_equal(world->text, "failed to send command to MPS daemon: exit status 3 "
                                     "(Cannot find MPS control daemon process)");
}

static void a_missing_program_is_told_in_the_known_words(void **state)
{
    struct world *world = *state;

    assert_int_equal(send(world, "x"), -ENOENT);
    assert_string_equal(world->text,
                        "failed to start NVIDIA MPS command: exec: \"nvidia-cuda-mps-control\": "
                        "executable file not found in $PATH");
}

static void one_that_hangs_can_be_let_go(void **state)
{
    struct world *world = *state;

    install(world, "#!/bin/sh\nexec /bin/sleep 1000\n");
    assert_int_equal(
        mps_control_send(world->loop, "/p", "/l", "x", on_answer, world, &world->control, NULL), 0);
    loop_wait(world->loop, 10);
    mps_control_free(steal(world->control));
    loop_wait(world->loop, 10);
    assert_false(world->answered);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(the_command_goes_to_stdin_and_the_answer_comes_from_stdout),
        CASE(nothing_but_the_two_folders_is_in_its_environment),
        CASE(a_failure_tells_status_and_last_words),
        CASE(a_missing_program_is_told_in_the_known_words),
        CASE(one_that_hangs_can_be_let_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
