/*
 * Programs that run on a simulated node and find it where a machine's GPUs are. Needs namespaces:
 * skipped where the kernel allows none.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nvml_bench.h"

#include "sim/gpu/root.h"
#include "sim/gpu/run.h"

enum { SKIPPED = 77, NOBODY = 65534 };

static struct bench *site(void)
{
    struct bench *bench = bench_new("2xh100-80gb");
    static const struct sim_mig_want want = { "3g.40gb", 2 };
    struct err err = {};

    sim_state_lock(bench->node);
    if (sim_mig_partition(bench->node, &bench->node->gpus[0], &want, 1, &err) < 0 ||
        sim_root_create(bench->dir, bench->node, getenv("TRANCHE_NVML"), &err) < 0)
        fail_msg("%s", err.text);
    sim_state_unlock(bench->node);
    return bench;
}

static int run(struct bench *bench, const char *script)
{
    const char *argv[] = { "sh", "-c", script, NULL };
    struct err err = {};
    int r = sim_run(bench->dir, (char *const *)argv, &err);

    if (r < 0)
        fail_msg("%s", err.text);
    return r;
}

/* Each line must hold in the shell of a program on the node. */
static const char *const facts[] = {
    "test \"$(ls /sys/bus/pci/devices | tr '\\n' ' ')\" = '0000:1b:00.0 0000:43:00.0 '",
    "test $(cat /sys/bus/pci/devices/0000:1b:00.0/device) = 0x2330",
    ("test $(readlink -f /sys/bus/pci/devices/0000:1b:00.0) = "
     "/sys/devices/pci0000:1a/0000:1a:01.0/0000:1b:00.0"),
    "test $(basename $(readlink -f /sys/bus/pci/devices/0000:1b:00.0/driver)) = nvidia",
    "test \"$(cat /sys/class/dmi/id/product_name)\" = 'tranche simulated node'",
    "test $(wc -l < /proc/driver/nvidia-caps/mig-minors) = 4322",
    "grep -q NVRM /proc/driver/nvidia/version",
    "test -e /proc/driver/nvidia/capabilities/gpu0/mig/gi2/ci0/access",
    "grep -q '^237 nvidia-caps' /proc/devices",
    "test \"$(echo /dev/nvidia[0-9]*)\" = '/dev/nvidia0 /dev/nvidia1'",
    "test -e /dev/nvidiactl && test -e /dev/nvidia-caps/nvidia-cap2",
    "echo x > /dev/null && test -c /dev/null && test -d /dev/shm",
    "test -e /run/tranche/sim/state",
    "test $(id -u) = 0",
    "nvidia-smi | grep -q '570.124.06, a driver simulated'",
    "! nvidia-smi --query-gpu=name 2> /dev/null",
    ("test \"$(TRANCHE_SIM_PROGRAM=echo nvidia-smi -r -i 0,1 | tr '\\n' ,)\" = "
     "'sim reset 0,sim reset 1,'"),
    "test -e ${LD_LIBRARY_PATH%%:*}/libnvidia-ml.so.1",
    "test \"$(cat /proc/self/comm)\" = cat", /* the rest of /proc is the machine's */
};

static void program_sees_the_node_as_its_machine(void **test)
{
    auto_(bench_freep) struct bench *bench = site();

    for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
        if (run(bench, facts[i]) != 0)
            fail_msg("%s", facts[i]);
    }
}

static void nothing_of_it_is_left_on_the_machine(void **test)
{
    auto_(bench_freep) struct bench *bench = site();
    bool had_gpu = file_exists("/dev/nvidia0"), had_run = file_exists("/run/tranche");

    assert_int_equal(run(bench, "touch /dev/new-file /run/new-file"), 0);
    assert_int_equal(file_exists("/dev/nvidia0"), had_gpu);
    assert_int_equal(file_exists("/run/tranche"), had_run);
    assert_false(file_exists("/dev/new-file"));
    assert_false(file_exists("/run/new-file"));
}

static void what_it_changes_of_the_node_is_changed_for_all(void **test)
{
    auto_(bench_freep) struct bench *bench = site();
    char path[128];

    assert_int_equal(run(bench, "touch /run/tranche/sim/mark"), 0);
    snprintf(path, sizeof(path), "%s/mark", bench->dir);
    assert_true(file_exists(path));
}

static void exit_status_and_signal_are_passed_on(void **test)
{
    auto_(bench_freep) struct bench *bench = site();

    assert_int_equal(run(bench, "exit 7"), 7);
    assert_int_equal(run(bench, "kill -KILL $$"), 128 + SIGKILL);
    /* What is sent to us goes to the program. */
    assert_int_equal(
        run(bench, "trap 'exit 33' TERM; kill -TERM $PPID; while :; do sleep 0.01; done"), 33);
}

static void failure_to_start_is_told(void **test)
{
    auto_(bench_freep) struct bench *bench = site();
    const char *argv[] = { "/nowhere/program", NULL };
    struct err err = {};

    assert_int_equal(sim_run(bench->dir, (char *const *)argv, &err), -ENOENT);
    assert_string_equal(err.text, "cannot run /nowhere/program: No such file or directory");
    assert_int_equal(sim_run("/nowhere", (char *const *)argv, &err), -ENOENT);
    assert_string_equal(err.text, "/nowhere: No such file or directory");
}

/* The child's work: run a program as a user who is nobody, which makes him root of a small world.
 */
[[gnu::noreturn]] static void run_as_nobody(struct bench *bench)
{
    static const char *const argv[] = {
        "sh", "-c",
        "test $(id -u) = 0 && test -e /dev/nvidia1 && test -c /dev/null && "
        "test -e /proc/driver/nvidia/version && test -e /run/tranche/sim/state",
        NULL
    };

    /* A process that changed its user may not touch its own maps until it says so. */
    if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0 ||
        chdir("/") < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
        _exit(1);
    int r = sim_run(bench->dir, (char *const *)argv, NULL);
    _exit(r == -EPERM || r == -ENOSPC ? SKIPPED : r < 0 ? 2 : r);
}

static void user_without_rights_can_do_it_too(void **test)
{
    int status = 0;

    if (geteuid() == 0) { /* else all of the above was this already */
        auto_(bench_freep) struct bench *bench = site();

        pid_t pid = fork();
        if (pid == 0)
            run_as_nobody(bench);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
    }
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* 0, or 77 where there are no namespaces for us (EINVAL: a chroot, whose root is no mount). */
static int try_namespaces(void)
{
    struct bench *bench = site();
    const char *argv[] = { "true", NULL };
    struct err err = {};
    int r = sim_run(bench->dir, (char *const *)argv, &err);

    bench_free(bench);
    if (r == 0)
        return 0;
    fprintf(stderr, "no private view of the machine: %s\n", err.text);
    return r == -EPERM || r == -ENOSPC || r == -EINVAL ? SKIPPED : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_sees_the_node_as_its_machine),
        cmocka_unit_test(nothing_of_it_is_left_on_the_machine),
        cmocka_unit_test(what_it_changes_of_the_node_is_changed_for_all),
        cmocka_unit_test(exit_status_and_signal_are_passed_on),
        cmocka_unit_test(failure_to_start_is_told),
        cmocka_unit_test(user_without_rights_can_do_it_too),
    };
    int r = try_namespaces();

    return r ? r : cmocka_run_group_tests(tests, NULL, NULL);
}
