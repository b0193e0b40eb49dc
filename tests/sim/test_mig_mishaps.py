#!/usr/bin/env python3
"""`tranche mig` and nvidia-mig-parted where the world is not as it should be: outputs that are no
files, disks that are full, changes that are interrupted or under way.

usage: test_mig_mishaps.py TRANCHE
"""
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_mig import PARTED, SEVEN, TMP, TRANCHE, Case, entry  # noqa: E402


def plain_environment(node):
    """A test that has no library must not find the one of the build."""
    return {**{k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}, "TRANCHE_SIM": node}


class Outputs(Case):
    """Where results are written to."""

    def commands(self):
        """Each command that writes a file, up to the name."""
        return [[TRANCHE, "mig", "export", "-f"], [TRANCHE, "mig", "checkpoint"],
                [TRANCHE, "mig", "generate-config", "-f"],
                [PARTED, "checkpoint", "-f"], [PARTED, "generate-config", "-f"]]

    def test_a_pipe_that_is_named_as_output_is_written_to_and_not_replaced(self):
        self.create("h100-80gb", "1g.10gb:7")
        for command in self.commands():
            pipe = os.path.join(self.dir, "pipe")
            os.mkfifo(pipe)
            got = []
            fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(fd, True)
            keeper = os.open(pipe, os.O_WRONLY)
            reader = threading.Thread(target=lambda: got.append(os.read(fd, 1 << 16)))
            reader.start()
            done = self.run_program(*command, pipe)
            os.close(keeper)
            reader.join(10)
            os.close(fd)
            self.assertEqual(done.status, 0, done)
            self.assertFalse(os.path.isfile(pipe), f"{command} put a file in the place of a pipe")
            self.assertIn(b"ersion", got[0])
            os.unlink(pipe)

    def test_the_file_behind_a_link_is_written(self):
        self.create("h100-80gb", "1g.10gb:7")
        os.mkdir(os.path.join(self.dir, "elsewhere"))
        for command in self.commands():
            link, real = os.path.join(self.dir, "link"), os.path.join(self.dir, "elsewhere", "real")
            with open(real, "w") as file:
                file.write("old")
            os.symlink(real, link)
            done = self.run_program(*command, link)
            self.assertEqual(done.status, 0, done)
            self.assertTrue(os.path.islink(link), f"{command} put a file in the place of a link")
            with open(real) as file:
                self.assertIn("ersion", file.read())
            os.unlink(link)

    def test_standard_output_by_its_name(self):
        self.create("h100-80gb", "1g.10gb:7")
        link = os.path.join(self.dir, "stdout")
        os.symlink("/proc/self/fd/1", link)
        for command in self.commands():
            self.assertIn("ersion", self.run_program(*command, link).out)

    def test_a_full_disk_is_told(self):
        self.create("h100-80gb", "1g.10gb:7")
        config = self.config(entry(counts={"7g.80gb": 1}))
        for args in (["list"], ["list", "-o", "json"], ["export"], ["checkpoint", "-"], ["generate-config"],
                     ["plan", "-f", config], ["plan", "-f", config, "-o", "json"], ["apply", "-f", config]):
            with open("/dev/full", "w") as full:
                done = subprocess.run([TRANCHE, "mig", *args], stdout=full, stderr=subprocess.PIPE, text=True,
                                      env=plain_environment(self.node), timeout=60)
            self.assertEqual(done.returncode, 1, args)
            self.assertRegex(done.stderr, "No space left on device|cannot write")
            self.assertNotIn("File exists", done.stderr)
        self.assertEqual(self.counts(), {"7g.80gb": 1})

    def test_steps_are_counted_from_one_to_the_last(self):
        self.create("h100-80gb", "on")
        done = self.parted("-d", "apply", "-f", self.config(entry(counts=SEVEN)))
        self.assertIn("step 1 of 14", done.err)
        self.assertIn("step 14 of 14", done.err)
        self.assertNotIn("step 15", done.err)


class Interrupted(Case):
    """Drivers that hide profiles while MIG is off: the mode is turned on to be able to plan."""

    def setUp(self):
        super().setUp()
        self.create("h100-80gb")
        self.sim("set", "node", "mig-profiles-hidden=on")
        self.state = os.path.join(self.node, "root/var/lib/tranche/mig")

    def interrupt(self, *args):
        """SIGINT as soon as there is a journal."""
        child = subprocess.Popen(args, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, env=plain_environment(self.node))
        while not os.path.exists(os.path.join(self.state, "journal.json")) and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        child.wait(30)

    def test_a_signal_while_profiles_are_revealed_leaves_no_mode_behind(self):
        self.sim("fault", "add", "nvmlDeviceSetMigMode", "--hang", "1000", "--times", "1")
        self.interrupt(TRANCHE, "mig", "apply", "all-1g.10gb")
        self.assertIn((self.mode(), self.counts()), [((False, False), {}), ((True, True), SEVEN)])

    def test_the_last_hook_runs_though_a_signal_came_during_the_change(self):
        self.sim("set", "node", "mig-profiles-hidden=off")
        self.sim("fault", "add", "nvmlDeviceSetMigMode", "--hang", "1000", "--times", "1")
        ran = os.path.join(self.dir, "ran")
        hooks = self.write("version: v1\nhooks:\n  apply-exit:\n  - command: /usr/bin/touch\n"
                           f"    args: [{ran}]\n", "hooks.yaml")
        config = self.config(entry(counts=SEVEN))
        for program in ([TRANCHE, "mig"], [PARTED]):
            self.interrupt(*program, "apply", "-f", config, "-k", hooks)
            self.assertEqual(self.counts(), SEVEN, program)
            self.assertTrue(os.path.exists(ran), program)
            os.unlink(ran)
            self.sim("mig", "0", "off")
            self.sim("fault", "add", "nvmlDeviceSetMigMode", "--hang", "1000", "--times", "1")

    def test_a_gpu_that_hangs_once_profiles_are_revealed_is_asked_nothing_more(self):
        self.sim("fault", "add", "nvmlDeviceGetGpuInstancePossiblePlacements*", "--hang", "forever")
        self.sim("fault", "add", "nvmlDeviceSetMigMode", "--after", "1", "--hang", "forever")
        done = self.mig("apply", "all-1g.10gb", status=1)
        self.assertSays(done.err, "NVML has not answered for 10 s", "MIG mode stays on")


class Misused(Case):
    def test_the_option_is_named_and_not_its_value(self):
        for args in (["checkpoint", "-o", "json"], ["checkpoint", "-ojson"]):
            self.assertSays(self.mig(*args, status=2).err, "no such option here: -o")
        self.assertSays(self.mig("list", "--devices", "1g.10gb", status=2).err, "no such option here: --devices")
        self.assertSays(self.mig("list", "-z", status=2).err, "no such option here: -z")
        self.assertSays(self.mig("list", "--gpu", status=2).err, "--gpu wants a value")

    def test_wide_is_refused_where_nothing_would_be_wider(self):
        for args in (["apply", "all-balanced"], ["restore"], ["export"], ["generate-config"]):
            self.assertSays(self.mig(*args, "-o", "wide", status=2).err, "-o wide is for")

    def test_a_checkpoint_from_standard_input_has_a_name(self):
        self.create("h100-80gb")
        self.assertSays(self.mig("restore", "-", status=1, stdin="[").err, "<stdin>:1:")


class UnderWay(Case):
    """Another process changes the node."""

    def test_no_layout_is_noted_in_the_middle_of_a_change(self):
        self.create("h100-80gb")
        self.mig("apply", "all-1g.10gb")
        state = os.path.join(self.node, "root/var/lib/tranche/mig")
        with open(os.path.join(state, "last.json")) as file:
            noted = file.read()
        self.sim("mig", "0", "7g.80gb:1")
        with open(os.path.join(state, "lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = self.mig("checkpoint", status=1)
        self.assertSays(done.err, "another change of MIG is under way")
        with open(os.path.join(state, "last.json")) as file:
            self.assertEqual(file.read(), noted)
        self.mig("checkpoint")

    def test_a_change_that_was_killed_as_a_gpu_hung_waits_for_it_no_longer_than_a_look(self):
        self.create("2xh100-80gb")
        journal = os.path.join(self.node, "root/var/lib/tranche/mig/journal.json")
        self.sim("fault", "add", "nvmlDeviceCreateGpuInstanceWithPlacement", "--gpu", "1", "--hang", "forever")
        child = subprocess.Popen([TRANCHE, "mig", "apply", "all-7g.80gb"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, env=plain_environment(self.node))
        while not os.path.exists(journal) and child.poll() is None:
            time.sleep(0.01)
        child.kill()
        child.wait()
        self.sim("set", "1", "hung=on")
        config = self.config(entry(counts=SEVEN))
        for done in (self.mig("recover", status=1), self.parted("apply", "-f", config, status=1)):
            self.assertSays(done.err, "NVML has not answered for 10 s")
        self.assertTrue(os.path.exists(journal))
        self.sim("fault", "clear")
        self.sim("return", "1")
        self.assertSays(self.mig("recover").err, "has been finished")
        self.assertEqual([self.counts(i) for i in (0, 1)], [{"7g.80gb": 1}] * 2)

    def test_a_checkpoint_of_a_change_that_was_interrupted_says_so(self):
        self.create("h100-80gb")
        self.mig("apply", "all-1g.10gb")
        journal = os.path.join(self.node, "root/var/lib/tranche/mig/journal.json")
        with open(journal, "w") as file:
            file.write("{}")
        for args in ([], ["-"]):
            self.assertSays(self.mig("checkpoint", *args).err, "was interrupted")

    def test_a_state_folder_that_is_none_is_no_reason_to_forget_a_change(self):
        self.create("h100-80gb")
        os.makedirs(os.path.join(self.node, "root/var/lib/tranche"))
        with open(os.path.join(self.node, "root/var/lib/tranche/mig"), "w"):
            pass
        for args in (["apply", "all-1g.10gb"], ["recover"], ["checkpoint"]):
            self.assertSays(self.mig(*args, status=1).err, "not a directory")
        self.assertEqual(self.mode(), (False, False))


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
