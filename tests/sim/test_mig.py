#!/usr/bin/env python3
"""`tranche mig` and nvidia-mig-parted as a user runs them, on simulated nodes.

The numbers T1 to T39 are those of the partition tool's vectors; U is what nvidia-mig-parted does, W
what `tranche mig` does. What a GPU looks like is asked of the simulator, not of the tool under test.

usage: test_mig.py TRANCHE
"""
import ctypes
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

TRANCHE = sys.argv[1]
TMP = tempfile.mkdtemp(prefix="mig-test-", dir="/tmp")
PARTED = os.path.join(TMP, "nvidia-mig-parted")
os.symlink(TRANCHE, PARTED)

SEVEN = {"1g.10gb": 7}
# Registers of a GA100 board, and what Linux calls the right to pass over a file's mode.
MODE, BOOT, WANTED = 0x1404, 0x118234, 0x118f78
PR_CAPBSET_READ, PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 23, 24, 1
MIXED = {"1g.10gb": 2, "2g.20gb": 1, "3g.40gb": 1}


class Done:
    def __init__(self, args, done):
        self.args, self.status = args, done.returncode
        self.out, self.err = done.stdout, done.stderr

    def __repr__(self):
        return f"{self.args} -> {self.status}\nout: {self.out}\nerr: {self.err}"


def entry(devices="all", enabled=True, counts=None, device_filter=None):
    fields = {"devices": devices, "mig-enabled": enabled}
    if device_filter is not None:
        fields["device-filter"] = device_filter
    if counts is not None:
        fields["mig-devices"] = counts
    return fields


def document(**configs):
    return json.dumps({"version": "v1", "mig-configs": configs})


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(dir=TMP)
        self.node = os.path.join(self.dir, "node")
        self.before_exec = None

    def tearDown(self):
        shutil.rmtree(self.dir)

    def run_program(self, *args, env=None, stdin=None):
        clean = {k: v for k, v in os.environ.items()
                 if not k.startswith(("NVIDIA_", "MIG_", "LD_LIBRARY_PATH", "TRANCHE_SIM"))}
        clean.update({"TRANCHE_SIM": self.node, "TZ": "UTC"}, **(env or {}))
        return Done(args, subprocess.run(args, capture_output=True, text=True, timeout=60, env=clean,
                                         input=stdin or "", cwd=self.dir, preexec_fn=self.before_exec))

    def sim(self, *args):
        done = self.run_program(TRANCHE, "sim", *args)
        self.assertEqual(done.status, 0, done)
        return done.out

    def create(self, gpus, *layouts):
        self.sim("create", "--gpus", gpus)
        for i, layout in enumerate(layouts):
            if layout:
                self.sim("mig", str(i), layout)

    def show(self):
        return json.loads(self.sim("show", "-o", "json"))

    def devices(self, gpu=0):
        """{"1g.10gb@3": uuid}; devices that share an instance are told apart by a number."""
        found = {}
        for device in self.show()["gpus"][gpu]["migDevices"]:
            key, n = f"{device['profile']}@{device['start']}", 1
            while key in found:
                n += 1
                key = f"{device['profile']}@{device['start']}#{n}"
            found[key] = device["uuid"]
        return found

    def counts(self, gpu=0):
        counts = {}
        for key in self.devices(gpu):
            profile = key.split("@")[0]
            counts[profile] = counts.get(profile, 0) + 1
        return counts

    def mode(self, gpu=0):
        shown = self.show()["gpus"][gpu]
        return shown["migEnabled"], shown["migPending"]

    def hold(self, start, gpu=0, pid=4711, name="python3"):
        """A process on the instance at this start."""
        for device in self.show()["gpus"][gpu]["migDevices"]:
            if device["start"] == start:
                self.sim("process", "add", str(gpu), "--gi", str(device["gpuInstance"]), "--pid", str(pid),
                         "--name", name)
                return
        self.fail(f"nothing at {start}")

    def calls(self):
        return self.show()["calls"]

    def write(self, text, name="config.yaml"):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def config(self, *entries, **more):
        return self.write(document(wanted=list(entries), **more))

    def mig(self, *args, status=0, env=None, stdin=None):
        done = self.run_program(TRANCHE, "mig", *args, env=env, stdin=stdin)
        self.assertEqual(done.status, status, done)
        return done

    def parted(self, *args, status=0, env=None, stdin=None):
        done = self.run_program(PARTED, *args, env=env, stdin=stdin)
        self.assertEqual(done.status, status, done)
        return done

    def nvml(self, code):
        """Runs Python with `nvml` and `gpu` (a handle of GPU 0) on the node."""
        library = os.path.join(self.node, "root/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1")
        head = ("import ctypes\n"
                f"nvml = ctypes.CDLL({library!r})\n"
                "assert nvml.nvmlInit_v2() == 0\n"
                "gpu = ctypes.c_void_p()\n"
                "assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(gpu)) == 0\n")
        done = self.run_program(sys.executable, "-c", head + code)
        self.assertEqual(done.status, 0, done)

    def assertSays(self, text, *wanted):
        for words in wanted:
            self.assertIn(words, text)

    def assertFatal(self, done, sentence):
        self.assertRegex(done.err, r'(?m)^time="[0-9T:-]+Z" level=fatal msg="' + sentence)


class Vectors(Case):
    """T1 to T39."""

    def test_t1_seven_of_an_empty_gpu(self):
        self.create("h100-80gb", "on")
        config = self.config(entry(counts=SEVEN))
        done = self.parted("apply", "-f", config)
        self.assertEqual(done.out, "MIG configuration applied successfully\n")
        self.assertEqual(self.counts(), SEVEN)
        self.assertEqual(self.parted("assert", "-f", config).out, "Selected MIG configuration currently applied\n")
        self.mig("assert", "all-1g.10gb")

    def test_t1_w_by_name_without_a_file(self):
        self.create("h100-80gb", "on")
        self.assertSays(self.mig("apply", "all-1g.10gb").out, "7 made")
        self.assertEqual(self.counts(), SEVEN)

    def test_t2_what_is_there_already_is_not_touched(self):
        self.create("h100-80gb", "1g.10gb:7")
        before = self.devices()
        self.parted("apply", "-f", self.config(entry(counts=SEVEN)))
        self.assertEqual(self.devices(), before)
        self.assertSays(self.mig("apply", "all-1g.10gb").out, "Nothing to do")
        self.assertEqual(self.devices(), before)

    def both(self):
        yield "U", lambda status=0: self.parted("apply", "-f", self.config(entry(counts=MIXED)), status=status)
        yield "W", lambda status=0: self.mig("apply", "--devices", "1g.10gb=2,2g.20gb,3g.40gb", status=status)

    def test_t3_two_of_seven_stay(self):
        for name, apply in self.both():
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb", "1g.10gb:7")
                before = self.devices()
                apply()
                after = self.devices()
                self.assertEqual(self.counts(), MIXED)
                kept = {k for k in after if before.get(k) == after[k]}
                self.assertIn(kept, [{"1g.10gb@2", "1g.10gb@3"}, {"1g.10gb@0", "1g.10gb@1"}])

    def test_t4_a_process_in_the_way_leaves_all_as_it_was(self):
        for name, apply in self.both():
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb", "1g.10gb:7")
                self.hold(5)
                before = self.devices()
                done = apply(status=1)
                self.assertSays(done.err, "4711", "1g.10gb")
                self.assertEqual(self.devices(), before)
                if name == "U":
                    self.assertFatal(done, "Error applying MIG configuration with hooks: error setting MIGConfig: "
                                           "error attempting multiple config orderings: all orderings failed: ")
                else:
                    self.assertSays(done.err, "Nothing was touched.")

    def test_t5_a_process_that_can_stay_stays(self):
        for name, apply in self.both():
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb", "1g.10gb:7")
                self.hold(3)
                before = self.devices()
                apply()
                after = self.devices()
                self.assertEqual(set(after), {"2g.20gb@0", "1g.10gb@2", "1g.10gb@3", "3g.40gb@4"})
                self.assertEqual(after["1g.10gb@3"], before["1g.10gb@3"])
                self.assertEqual(after["1g.10gb@2"], before["1g.10gb@2"])

    def test_t6_what_only_explicit_places_reach(self):
        self.create("a100-40gb", "on")
        self.mig("apply", "--devices", "1g.5gb=2,1g.10gb=3")
        self.assertEqual(set(self.devices()), {"1g.10gb@6", "1g.10gb@0", "1g.10gb@2", "1g.5gb@4", "1g.5gb@5"})

    def test_t6_u_the_same(self):
        self.create("a100-40gb", "on")
        self.parted("apply", "-f", self.config(entry(counts={"1g.5gb": 2, "1g.10gb": 3})))
        self.assertEqual(self.counts(), {"1g.5gb": 2, "1g.10gb": 3})

    def test_t7_a_profile_that_no_gpu_knows(self):
        self.create("a100-40gb", "1g.5gb:2")
        config = self.config(entry(counts={"1g.10gb": 5, "2g.20gb": 1}))
        before = self.devices()
        done = self.mig("apply", "-f", config, status=1)
        self.assertSays(done.err, "2g.20gb")
        self.assertEqual(self.devices(), before)
        done = self.parted("apply", "-f", config)
        self.assertEqual(done.out, "MIG configuration applied successfully\n")
        self.assertSays(done.err, "level=warning", "2g.20gb")
        self.assertEqual(self.devices(), {})

    def test_t7_u_but_not_what_somebody_uses(self):
        self.create("a100-40gb", "1g.5gb:2")
        self.hold(int(next(iter(self.devices())).split("@")[1]))
        before = self.devices()
        self.parted("apply", "-f", self.config(entry(counts={"2g.20gb": 1})), status=1)
        self.assertEqual(self.devices(), before)

    def test_t8_what_never_fits_is_refused_up_front(self):
        self.create("h100-80gb", "1g.10gb:7")
        config = self.config(entry(counts={"1g.10gb": 8}))
        before = self.devices()
        done = self.parted("apply", "-f", config, status=1)
        self.assertFatal(done, "Error applying MIG configuration with hooks: error setting MIGConfig: "
                               "error attempting multiple config orderings: all orderings failed: ")
        self.assertEqual(self.devices(), before)
        self.mig("apply", "-f", config, status=1)
        self.assertEqual(self.devices(), before)

    def test_t8_the_mode_is_not_touched_either(self):
        self.create("h100-80gb")
        self.parted("apply", "-f", self.config(entry(counts={"1g.10gb": 8})), status=1)
        self.assertEqual(self.mode(), (False, False))
        self.mig("apply", "--devices", "1g.10gb=8", status=1)
        self.assertEqual(self.mode(), (False, False))

    def test_t9_an_instance_without_a_device_is_seen(self):
        bare = "gi = ctypes.c_void_p()\nassert nvml.nvmlDeviceCreateGpuInstance(gpu, 9, ctypes.byref(gi)) == 0\n"
        for name, apply in (("U", lambda: self.parted("apply", "-f", self.config(entry(counts=SEVEN)))),
                            ("W", lambda: self.mig("apply", "all-1g.10gb"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb", "on")
                self.nvml(bare)
                self.assertSays(self.mig("list").out, "3g.40gb", "no compute instance")
                apply()
                self.assertEqual(self.counts(), SEVEN)

    def test_t10_eight_gpus_from_mode_off(self):
        for name, apply in (("U", lambda: self.parted("apply", "-f", self.config(entry(counts=SEVEN)))),
                            ("W", lambda: self.mig("apply", "all-1g.10gb"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("8xh100-80gb")
                apply()
                self.assertEqual([self.counts(i) for i in range(8)], [SEVEN] * 8)

    def test_t11_ampere_mode_with_a_reset(self):
        for name, apply in (("U", lambda: self.parted("apply", "--mode-only", "-f", self.config(entry(counts={})))),
                            ("W", lambda: self.mig("apply", "--mode-only", "all-enabled"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("a100-40gb")
                apply()
                self.assertEqual(self.mode(), (True, True))

    def test_t11_ampere_in_one_go(self):
        self.create("2xa100-40gb")
        self.mig("apply", "all-1g.5gb")
        self.assertEqual([self.counts(i) for i in range(2)], [{"1g.5gb": 7}] * 2)

    def test_t12_ampere_mode_without_a_reset_is_pending(self):
        config = self.config(entry(counts={}))
        self.create("a100-40gb")
        self.parted("apply", "--mode-only", "--skip-reset", "-f", config)
        self.assertEqual(self.mode(), (False, True))
        self.parted("assert", "-m", "-f", config, status=1)
        self.mig("assert", "-m", "all-enabled", status=1)

    def test_t12_a_mode_that_waits_disturbs_nobody(self):
        for name, apply in (("U", lambda: self.parted("apply", "-ms", "-f", self.config(entry(counts={})))),
                            ("W", lambda: self.mig("apply", "-ms", "all-enabled"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("a100-40gb")
                self.sim("process", "add", "0", "--pid", "4711")
                apply()
                self.assertEqual(self.mode(), (False, True))

    def test_t12_w_says_what_waits(self):
        self.create("a100-40gb")
        self.assertSays(self.mig("apply", "-ms", "all-enabled").out, "1 GPU waits for a reset")
        self.assertEqual(self.mode(), (False, True))

    def test_t13_gpus_that_are_right_are_left_alone(self):
        for name, apply in (("U", lambda: self.parted("apply", "-f", self.config(entry(counts=SEVEN)))),
                            ("W", lambda: self.mig("apply", "all-1g.10gb"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("8xh100-80gb", *["1g.10gb:7"] * 4)
                before = [self.devices(i) for i in range(4)]
                apply()
                self.assertEqual([self.devices(i) for i in range(4)], before)
                self.assertEqual([self.counts(i) for i in range(8)], [SEVEN] * 8)

    def test_t14_a_gpu_that_cannot_is_skipped(self):
        self.create("2xh100-80gb,t4")
        config = self.config(entry(counts=SEVEN))
        self.parted("apply", "-f", config)
        before = [self.devices(i) for i in range(2)]
        self.assertEqual([self.counts(i) for i in range(2)], [SEVEN] * 2)
        self.parted("assert", "-f", config, status=1)
        self.mig("assert", "-f", config)
        self.parted("apply", "-f", config)
        self.assertEqual([self.devices(i) for i in range(2)], before)

    def test_t15_a_gpu_that_cannot_is_named(self):
        self.create("2xh100-80gb,t4")
        config = self.config(entry(devices=[0, 1, 2], counts={}))
        done = self.parted("apply", "-f", config, status=1)
        self.assertFatal(done, "Error applying MIG configuration with hooks: .*config.yaml:1:[0-9]+: "
                               "cannot set MIG mode on non MIG-capable GPU")
        self.mig("apply", "-f", config, status=1)
        self.assertEqual([self.mode(i) for i in range(2)], [(False, False)] * 2)

    def test_t16_a_filter_that_matches_nothing(self):
        self.create("h100-80gb", "1g.10gb:2")
        config = self.config(entry(counts=SEVEN, device_filter="0x233510DE"))
        before = self.devices()
        done = self.parted("apply", "-f", config)
        self.assertEqual(done.out, "MIG configuration applied successfully\n")
        self.assertSays(done.err, "level=warning")
        self.parted("assert", "-f", config, status=1)
        self.mig("apply", "-f", config, status=1)
        self.mig("plan", "-f", config, status=1)
        self.assertEqual(self.devices(), before)

    def refused(self, text, sentence):
        """By both, wherever it is read, and with the place."""
        self.create("h100-80gb")
        config = self.write(text)
        for args in (("apply",), ("assert",), ("assert", "-a")):
            done = self.parted(*args, "-f", config, status=1)
            self.assertSays(done.err, sentence, "level=fatal", "config.yaml:")
        self.assertSays(self.mig("apply", "-f", config, "wanted", status=1).err, sentence, "config.yaml:")
        self.assertEqual(self.mode(), (False, False))

    def test_t17_a_bare_index(self):
        self.refused(document(wanted=[{"devices": 0, "mig-enabled": False}]), "cannot unmarshal number")

    def test_t18_another_word_than_all(self):
        self.refused(document(wanted=[{"devices": "some", "mig-enabled": False}]),
                     "invalid string input for 'devices': some")

    def test_t19_enabled_without_devices(self):
        self.refused(document(wanted=[entry()]),
                     "missing required field 'mig-devices' when 'mig-enabled' is true")

    def test_t20_devices_without_the_mode(self):
        self.refused(document(wanted=[entry(enabled=False, counts={"1g.5gb": 1})]),
                     "MIG devices included when 'mig-enabled' is false")

    def test_t21_versions_and_keys(self):
        for text, sentence in (
                ("version: v2\nmig-configs: {wanted: [{devices: all, mig-enabled: false}]}", "unknown version: v2"),
                ("mig-configs: {wanted: [{devices: all, mig-enabled: false}]}",
                 "unable to parse with missing 'version' field"),
                ("version: v1\nfoo: 1\nmig-configs: {wanted: [{devices: all, mig-enabled: false}]}",
                 "unexpected field: foo")):
            with self.subTest(sentence):
                shutil.rmtree(self.node, ignore_errors=True)
                self.refused(text, sentence)

    def test_t22_counts_of_nothing(self):
        self.refused(document(wanted=[entry(counts={"1g.5gb": 0})]), "all counts for all MigProfiles are 0")

    def test_t23_a_count_of_zero_is_no_wish(self):
        self.create("a100-40gb", "1g.5gb:1")
        config = self.config(entry(counts={"1g.5gb": 1, "2g.10gb": 0}))
        before = self.devices()
        self.mig("assert", "-f", config)
        self.mig("apply", "-f", config)
        self.parted("apply", "-f", config)
        self.assertEqual(self.devices(), before)

    def test_t24_three_devices_in_one_instance(self):
        self.create("a100-40gb", "on")
        self.parted("apply", "-f", self.config(entry(counts={"1c.3g.20gb": 3})))
        self.assertEqual(self.counts(), {"1c.3g.20gb": 3})
        self.assertEqual(len({k.split("#")[0] for k in self.devices()}), 1)
        self.assertSays(self.parted("export").out, "1c.3g.20gb: 3")
        self.assertSays(self.mig("export").out, "1c.3g.20gb: 3")

    def test_t25_two_names_for_one_thing(self):
        self.create("a100-40gb", "on")
        config = self.config(entry(counts={"1c.1g.5gb": 7}))
        self.parted("apply", "-f", config)
        self.assertEqual(self.counts(), {"1g.5gb": 7})
        self.mig("assert", "-f", config)

    def test_t26_two_configurations_and_none_chosen(self):
        self.create("h100-80gb")
        config = self.config(entry(counts=SEVEN), other=[entry(enabled=False)])
        done = self.parted("apply", "-f", config, status=1)
        self.assertFatal(done, "Error selecting MIG config: missing required flag 'selected-config' when more "
                               "than one config available")
        self.assertSays(self.mig("apply", "-f", config, status=1).err, "wanted", "other")

    def test_t27_one_name_on_two_kinds_of_gpus(self):
        for name, apply in (("U", lambda: self.parted("apply", "-f", self.config(entry(counts={"1g.10gb": 4})))),
                            ("W", lambda: self.mig("apply", "--devices", "1g.10gb=4"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("a100-40gb,a100-80gb", "on", "on")
                apply()
                self.assertEqual([self.counts(i) for i in range(2)], [{"1g.10gb": 4}] * 2)
                sizes = [{d["size"] for d in gpu["migDevices"]} for gpu in self.show()["gpus"]]
                self.assertEqual(sizes, [{2}, {1}])

    def test_t28_export_of_one_kind(self):
        self.create("h100-80gb", "1g.10gb:7")
        wanted = ("version: v1\nmig-configs:\n  current:\n  - devices: all\n    mig-enabled: true\n"
                  "    mig-devices:\n      1g.10gb: 7\n")
        self.assertEqual(self.parted("export").out, wanted)
        self.assertEqual(self.mig("export").out, wanted)

    def test_t29_export_of_two_halves(self):
        self.create("4xh100-80gb", "1g.10gb:7", "1g.10gb:7")
        got = self.parted("export", "-o", "json").out
        self.assertFalse(got.endswith("\n"))
        entries = json.loads(got)["mig-configs"]["current"]
        self.assertEqual(entries, [entry(devices=[0, 1], counts=SEVEN), entry(devices=[2, 3], enabled=False, counts={})])
        self.assertSays(self.parted("export").out, "devices: [0, 1]", "devices: [2, 3]")

    def places(self):
        return set(self.devices())

    def test_t30_hopper_forgets_and_is_reminded(self):
        for name, save, back in (
                ("U", lambda: self.parted("checkpoint", "-f", "saved.json"),
                 lambda: self.parted("restore", "-f", "saved.json")),
                ("W", lambda: self.mig("checkpoint", "saved.json"), lambda: self.mig("restore", "saved.json")),
                ("last", lambda: self.mig("checkpoint"), lambda: self.mig("restore"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb")
                self.nvml("a = ctypes.c_uint()\nassert nvml.nvmlDeviceSetMigMode(gpu, 1, ctypes.byref(a)) == 0\n"
                          "class P(ctypes.Structure): _fields_ = [('s', ctypes.c_uint), ('z', ctypes.c_uint)]\n"
                          "for i, s, z, c in ((14, 4, 2, 1), (19, 6, 1, 0), (19, 0, 1, 0)):\n"
                          "    gi = ctypes.c_void_p(); ci = ctypes.c_void_p()\n"
                          "    assert nvml.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, i, ctypes.byref(P(s, z)),"
                          " ctypes.byref(gi)) == 0\n"
                          "    assert nvml.nvmlGpuInstanceCreateComputeInstance(gi, c, ctypes.byref(ci)) == 0\n")
                before = self.devices()
                self.assertEqual(set(before), {"2g.20gb@4", "1g.10gb@6", "1g.10gb@0"})
                save()
                self.sim("reboot")
                self.assertEqual(self.mode(), (False, False))
                back()
                after = self.devices()
                self.assertEqual(set(after), set(before))
                self.assertFalse(set(after.values()) & set(before.values()))

    def test_t30_an_apply_is_remembered(self):
        self.create("h100-80gb")
        self.mig("apply", "all-balanced")
        before = self.places()
        self.sim("reboot")
        self.mig("restore")
        self.assertEqual(self.places(), before)

    def test_profiles_that_are_hidden_while_mig_is_off_are_seen_once_it_is_on(self):
        """R535: nothing can be planned before the mode is on."""
        self.create("h100-80gb")
        self.sim("set", "node", "mig-profiles-hidden=on")
        self.assertSays(self.mig("plan", "all-1g.10gb", status=1).err, "`apply` turns it on and plans then")
        self.assertEqual(self.mode(), (False, False))
        for devices in ("4g.40gb=2", "1g.11gb=1"):
            self.mig("apply", "--devices", devices, status=1)
            self.assertEqual(self.mode(), (False, False))
        self.mig("apply", "all-balanced")
        before = self.places()
        self.sim("reboot")
        self.assertEqual(self.mode(), (False, False))
        self.mig("restore")
        self.assertEqual(self.places(), before)

    def test_hooks_come_before_the_mode_that_shows_hidden_profiles(self):
        self.create("h100-80gb")
        self.sim("set", "node", "mig-profiles-hidden=on")
        self.mig("apply", "all-1g.10gb", "-k", self.hooks())
        self.assertEqual(self.hooks_run(), ["apply-start", "pre-apply-mode", "pre-apply-config", "apply-exit"])
        self.assertEqual(self.counts(), {"1g.10gb": 7})
        self.sim("mig", "0", "off")
        self.mig("apply", "all-1g.10gb", "-k", self.hooks(**{"pre-apply-config": 1}), status=1)
        self.assertEqual(self.mode(), (False, False))

    def test_t31_ampere_with_somebody_on_it(self):
        for name, back in (("U", lambda: self.parted("restore", "-f", "saved.json", status=1)),
                           ("W", lambda: self.mig("restore", "saved.json", status=1))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("a100-40gb", "1g.5gb:7")
                self.mig("checkpoint", "saved.json")
                self.sim("mig", "0", "off")
                self.sim("process", "add", "0", "--pid", "4711", "--name", "python3")
                done = back()
                self.assertSays(done.err, "4711")
                self.assertEqual(self.mode(), (False, False))

    def test_t31_ampere_without_anybody_is_reset(self):
        for name, back in (("U", lambda: self.parted("restore", "-f", "saved.json")),
                           ("W", lambda: self.mig("restore", "saved.json"))):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("a100-40gb", "1g.5gb:7")
                self.mig("checkpoint", "saved.json")
                self.sim("mig", "0", "off")
                back()
                self.assertEqual(self.counts(), {"1g.5gb": 7})

    def hooks(self, **failing):
        """Each hook writes its name into a file; those that are named fail."""
        log = os.path.join(self.dir, "hooks.log")
        names = ("apply-start", "pre-apply-mode", "pre-apply-config", "apply-exit")
        hooks = {n: [{"command": "/bin/sh", "args": ["-c", f"echo {n} >> {log}; exit {failing.get(n, 0)}"]}]
                 for n in names}
        if os.path.exists(log):
            os.unlink(log)
        return self.write(json.dumps({"version": "v1", "hooks": hooks}), "hooks.yaml")

    def hooks_run(self):
        path = os.path.join(self.dir, "hooks.log")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            return file.read().split()

    def with_hooks(self, hooks, status):
        config = self.config(entry(counts=SEVEN))
        yield "U", lambda: self.parted("apply", "-f", config, "-k", hooks, status=status)
        yield "W", lambda: self.mig("apply", "-f", config, "-k", hooks, status=status)

    def test_standard_input_is_read_once_though_hooks_make_for_two_plans(self):
        for name, program in (("U", self.parted), ("W", self.mig)):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb")
                with open(self.config(entry(counts=SEVEN)), encoding="utf-8") as file:
                    program("apply", "-f", "-", "-k", self.hooks(), stdin=file.read())
                self.assertEqual(self.counts(), {"1g.10gb": 7})

    def test_t32_a_first_hook_that_fails_stops_everything(self):
        for name, apply in self.with_hooks(self.hooks(**{"apply-start": 1}), 1):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb")
                self.hooks(**{"apply-start": 1})
                self.assertSays(apply().err, "rror running apply-start hook: exit status 1")
                self.assertEqual(self.hooks_run(), ["apply-start"])
                self.assertEqual(self.mode(), (False, False))

    def test_t33_the_last_hook_runs_after_a_failure(self):
        for name, apply in self.with_hooks(self.hooks(**{"pre-apply-config": 1}), 1):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb")
                self.hooks(**{"pre-apply-config": 1})
                self.assertSays(apply().err, "rror running pre-apply-config hook: exit status 1")
                self.assertEqual(self.hooks_run(), ["apply-start", "pre-apply-mode", "pre-apply-config", "apply-exit"])
                self.assertEqual(self.counts(), {})

    def test_t33_hooks_of_a_run_that_succeeds(self):
        for name, apply in self.with_hooks(self.hooks(), 0):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb")
                self.hooks()
                apply()
                self.assertEqual(self.hooks_run(), ["apply-start", "pre-apply-mode", "pre-apply-config", "apply-exit"])
                self.assertEqual(self.counts(), SEVEN)
                self.hooks()
                apply()
                self.assertEqual(self.hooks_run(), ["apply-start", "apply-exit"])

    def test_t33_a_hook_may_stop_who_is_in_the_way(self):
        for name in ("U", "W"):
            with self.subTest(name):
                self.node = os.path.join(self.dir, name)
                self.create("h100-80gb", "1g.10gb:7")
                self.hold(5)
                hooks = self.write(json.dumps({"version": "v1", "hooks": {"pre-apply-config": [
                    {"command": TRANCHE, "args": ["sim", "process", "remove", "4711"],
                     "envs": {"TRANCHE_SIM": self.node}}]}}), "hooks.yaml")
                config = self.config(entry(counts=MIXED))
                if name == "U":
                    self.parted("apply", "-f", config, "-k", hooks)
                else:
                    self.mig("apply", "-f", config, "-k", hooks)
                self.assertEqual(self.counts(), MIXED)

    def test_t34_the_environment_of_a_hook(self):
        self.create("h100-80gb")
        out = os.path.join(self.dir, "env")
        work = os.path.join(self.dir, "work")
        os.mkdir(work)
        hooks = self.write(json.dumps({"version": "v1", "hooks": {"apply-start": [
            {"command": "env", "envs": {"MINE": "1", "MIG_PARTED_SKIP_RESET": "maybe"}},
            {"command": "/bin/sh", "args": ["-c", f"env > {out}; pwd > {out}.pwd"], "workdir": work,
             "envs": {"MINE": "1"}}]}}), "hooks.yaml")
        config = self.config(entry(counts=SEVEN))
        want = {f"MIG_PARTED_CONFIG_FILE={config}", "MIG_PARTED_SELECTED_CONFIG=wanted",
                f"MIG_PARTED_HOOKS_FILE={hooks}", "MIG_PARTED_SKIP_RESET=false",
                "MIG_PARTED_MODE_CHANGE_ONLY=true", "MINE=1"}
        done = self.parted("-d", "apply", "-m", "-f", config, "-k", hooks)
        self.assertEqual({line for line in done.out.splitlines() if "=" in line}, want)
        with open(out, encoding="utf-8") as file:
            got = {line for line in file.read().splitlines() if not re.match("(PWD|SHLVL|_|OLDPWD|PATH)=", line)}
        self.assertEqual(got, want)
        with open(out + ".pwd", encoding="utf-8") as file:
            self.assertEqual(file.read().strip(), work)
        done = self.parted("apply", "-m", "-f", config, "-k", hooks)
        self.assertEqual(done.out, "MIG configuration applied successfully\n")

    def bare(self, gpus):
        """A node without a driver whose boards show their registers."""
        self.create(gpus)
        self.sim("set", "node", "driver-loaded=off", "pci-registers=on")

    def pci(self, gpu, name):
        """The path of a file of the GPU's PCI device."""
        devices = os.path.join(self.node, "root/sys/bus/pci/devices")
        return os.path.join(devices, sorted(os.listdir(devices))[gpu], name)

    def register(self, gpu, at, value=None):
        """Reads it, or writes it as the hardware would."""
        with open(self.pci(gpu, "resource0"), "rb" if value is None else "r+b") as file:
            file.seek(at)
            if value is None:
                return struct.unpack("<I", file.read(4))[0]
            file.write(struct.pack("<I", value))
            return value

    def registers(self, gpu):
        with open(self.pci(gpu, "resource0"), "rb") as file:
            return file.read()

    def was_reset(self, gpu):
        """Whether that was asked for since the last time; if so, what was wanted is in force."""
        path = self.pci(gpu, "reset")
        os.chmod(path, 0o600)
        with open(path, encoding="ascii") as file:
            asked = file.read()
        os.truncate(path, 0)
        self.assertIn(asked, ("", "1"))
        if asked and self.register(gpu, WANTED) & 0x8000:
            self.register(gpu, MODE, self.register(gpu, MODE) & ~0x8000 | (self.register(gpu, WANTED) & 0x4000) << 1)
        return asked == "1"

    def modes(self, enabled=True, devices="all", **more):
        return self.config(entry(devices, enabled, {} if enabled else None), **more)

    def test_t35_without_the_kernel_module(self):
        self.bare("a100-40gb")
        self.register(0, WANTED, 0x12340001)
        self.register(0, MODE, 0x00000410)
        on, off = self.modes(), self.write(document(off=[entry(enabled=False)]), "off.yaml")
        self.parted("assert", "-m", "-f", on, status=1)
        done = self.parted("apply", "--mode-only", "-f", on)
        self.assertEqual(done.out, "MIG configuration applied successfully\n")
        self.assertEqual(done.err, "")
        self.assertEqual(self.register(0, WANTED), 0x1234c001)
        self.assertEqual(self.register(0, MODE), 0x00000410)
        self.parted("assert", "-m", "-f", on, status=1)
        self.assertTrue(self.was_reset(0))
        self.assertEqual(self.parted("assert", "-m", "-f", on).out,
                         "Selected MIG mode settings from configuration currently applied\n")
        before = self.registers(0)
        self.parted("apply", "-m", "-f", on)
        self.assertFalse(self.was_reset(0))
        self.assertEqual(self.registers(0), before)
        self.parted("assert", "-m", "-f", off, status=1)
        self.parted("apply", "-m", "-f", off)
        self.assertEqual(self.register(0, WANTED), 0x12348001)
        self.assertTrue(self.was_reset(0))
        self.parted("assert", "-m", "-f", off)

    def test_t35_a_mode_may_wait_for_its_reset(self):
        self.bare("a100-40gb")
        on, off = self.modes(), self.write(document(off=[entry(enabled=False)]), "off.yaml")
        self.parted("apply", "-ms", "-f", on)
        self.assertEqual(self.register(0, WANTED), 0xc000)
        self.assertFalse(self.was_reset(0))
        self.parted("apply", "-m", "-f", off)
        self.assertEqual(self.register(0, WANTED), 0xc000, "what waits is not looked at, as upstream")
        self.parted("apply", "-m", "-f", on)
        self.assertTrue(self.was_reset(0))
        self.parted("assert", "-m", "-f", on)

    def test_t35_only_gpus_that_wait_are_reset(self):
        self.bare("3xa100-40gb")
        self.register(1, MODE, 0x8000)
        self.parted("apply", "-m", "-f", self.modes(devices=[0, 1]))
        self.assertEqual([self.register(i, WANTED) for i in range(3)], [0xc000, 0, 0])
        self.assertEqual([self.was_reset(i) for i in range(3)], [True, False, False])

    def test_t35_other_chips_are_never_written(self):
        self.bare("2xh100-80gb,t4")
        before = [self.registers(i) for i in range(3)]
        done = self.parted("apply", "-m", "-f", self.modes())
        self.assertEqual(done.out, "MIG configuration applied successfully\n")
        self.assertSays(done.err, "level=warning", "A100 and A30")
        self.parted("assert", "-m", "-f", self.modes(), status=1)
        self.parted("assert", "-m", "-f", self.modes(False))
        done = self.parted("apply", "-m", "-f", self.modes(devices=[1]), status=1)
        self.assertSays(done.err, "cannot set MIG mode on non MIG-capable GPU: GPU 1 is a 10de:2330 board")
        self.assertEqual([self.registers(i) for i in range(3)], before)
        self.assertEqual([self.was_reset(i) for i in range(3)], [False] * 3)

    def test_t35_two_kinds_on_one_node(self):
        self.bare("a100-40gb,h100-80gb,a30-24gb")
        before = self.registers(1)
        self.parted("apply", "-m", "-f", self.modes())
        self.assertEqual([self.register(i, WANTED) for i in (0, 2)], [0xc000, 0xc000])
        self.assertEqual([self.was_reset(i) for i in range(3)], [True, False, True])
        self.assertEqual(self.registers(1), before)
        a100 = self.config(entry(enabled=False, device_filter="0x20B010DE"))
        self.parted("apply", "-m", "-f", a100)
        self.assertEqual([self.register(i, WANTED) for i in (0, 2)], [0x8000, 0xc000])
        self.assertEqual([self.was_reset(i) for i in range(3)], [True, False, False])

    def nothing_is_written(self, *words, devices="all"):
        """And the words say why."""
        before = {i: self.registers(i) for i in range(2) if os.path.exists(self.pci(i, "resource0"))}
        done = self.parted("apply", "-m", "-f", self.modes(devices=devices), status=1)
        self.assertFatal(done, "Error applying MIG configuration with hooks: GPU 1 ")
        self.assertSays(done.err, *words)
        self.assertEqual(len(done.err.splitlines()), 1, done.err)
        self.assertEqual({i: self.registers(i) for i in before}, before)
        for i in range(2):
            if os.path.exists(self.pci(i, "reset")):
                self.assertFalse(self.was_reset(i))

    def test_t35_a_board_that_never_boots(self):
        self.bare("2xa100-40gb")
        self.register(1, BOOT, 0x1ff)
        self.nothing_is_written("has not finished booting")
        self.parted("assert", "-m", "-f", self.modes(), status=1)
        self.parted("apply", "-m", "-f", self.modes(devices=[0]))
        self.assertTrue(self.was_reset(0))

    def test_t35_files_that_are_missing(self):
        self.bare("2xa100-40gb")
        os.truncate(self.pci(1, "resource0"), 0x118f78)
        self.nothing_is_written("resource0 has only 1150840 of the ")
        os.unlink(self.pci(1, "resource0"))
        self.nothing_is_written("has no file resource0")
        self.sim("set", "node", "pci-registers=off")
        self.sim("set", "node", "pci-registers=on")
        os.unlink(self.pci(1, "reset"))
        self.nothing_is_written("has no file reset")
        self.parted("apply", "-ms", "-f", self.modes())
        self.assertEqual([self.register(i, WANTED) for i in range(2)], [0xc000] * 2)

    def test_t35_registers_that_cannot_be_written(self):
        self.bare("2xa100-40gb")
        os.chmod(self.pci(1, "resource0"), 0o400)
        libc = ctypes.CDLL(None)
        if os.geteuid() == 0 and libc.prctl(PR_CAPBSET_READ, CAP_DAC_OVERRIDE, 0, 0, 0) == 1:
            def drop():
                libc.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
            self.before_exec = drop
        self.nothing_is_written("cannot open resource0 for writing: Permission denied")
        self.register(0, MODE, 0x8000)
        self.parted("assert", "-m", "-f", self.modes(devices=[0]))
        self.parted("assert", "-m", "-f", self.modes(False, devices=[1]))
        self.parted("apply", "-m", "-f", self.modes(False, devices=[1]))

    def test_t35_a_board_that_another_driver_has(self):
        self.bare("2xa100-40gb")
        os.symlink("../../../../bus/pci/drivers/vfio-pci", self.pci(1, "driver"))
        self.nothing_is_written("the driver vfio-pci has it")

    def test_t35_hooks_come_before_the_mode(self):
        self.bare("a100-40gb")
        log = os.path.join(self.dir, "log")
        hooks = self.write(json.dumps({"version": "v1", "hooks": {
            point: [{"command": "/bin/sh", "args": ["-c", f"echo {point} >> {log}"]}]
            for point in ("apply-start", "pre-apply-mode", "pre-apply-config", "apply-exit")}}), "hooks.yaml")
        for _ in range(2):
            self.parted("apply", "-m", "-f", self.modes(), "-k", hooks)
            self.was_reset(0)
        with open(log, encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["apply-start", "pre-apply-mode", "apply-exit"] +
                             ["apply-start", "apply-exit"])

    def test_t35_devices_need_the_driver(self):
        self.bare("a100-40gb")
        before = self.registers(0)
        config = self.config(entry(counts={"1g.5gb": 7}))
        why = "nvidia module not loaded"
        done = self.parted("apply", "-f", config, status=1)
        self.assertFatal(done, f"Error applying MIG configuration with hooks: error creating MIG config Manager: {why}")
        self.assertFatal(self.parted("export", status=1), f"Error creating MIG Config Manager: {why}")
        self.parted("assert", "-f", config, status=1)
        self.assertSays(self.parted("checkpoint", "-f", "c.json", status=1).err, "the nvidia module is not loaded",
                        "Error initializing NVML: Driver Not Loaded")
        self.assertSays(self.mig("apply", "-m", "all-enabled", status=1).err, "Driver Not Loaded")
        self.assertEqual(self.registers(0), before)
        self.assertFalse(self.was_reset(0))

    def test_t35_a_driver_from_before_mig(self):
        self.sim("create", "--gpus", "a100-40gb", "--driver", "440.118.02", "--cuda", "10.2")
        self.sim("set", "node", "pci-registers=on")
        self.assertFatal(self.parted("export", status=1), "Error creating MIG Config Manager: NVML version "
                                                          "unsupported for performing MIG operations")
        done = self.parted("apply", "-m", "-f", self.modes(), status=1)
        self.assertSays(done.err, "the driver nvidia has it")
        os.unlink(self.pci(0, "driver"))
        self.parted("apply", "-m", "-f", self.modes())
        self.assertTrue(self.was_reset(0))
        self.parted("assert", "-m", "-f", self.modes())

    def test_t35_a_kernel_that_does_not_list_its_modules(self):
        self.bare("a100-40gb")
        os.unlink(os.path.join(self.node, "root/proc/modules"))
        done = self.parted("apply", "--mode-only", "-f", self.modes(), status=1)
        self.assertFatal(done, "Error applying MIG configuration with hooks: error initializing NVML: "
                               "Driver Not Loaded")
        self.assertEqual(self.register(0, WANTED), 0)

    def test_t36_filters_that_are_none(self):
        for text in ("0x2330", "foo"):
            with self.subTest(text):
                shutil.rmtree(self.node, ignore_errors=True)
                self.create("h100-80gb")
                config = self.config(entry(counts=SEVEN, device_filter=text))
                self.assertEqual(self.parted("assert", "-a", "-f", config).out, "Selected MIG configuration is valid\n")
                self.parted("apply", "-f", config)
                self.mig("apply", "-f", config, status=1)
                self.assertEqual(self.mode(), (False, False))

    def generated(self, *args):
        got = self.parted("generate-config", "-o", "json", *args).out
        self.assertEqual(json.loads(self.mig("generate-config", "-o", "json", *args).out), json.loads(got))
        return {name: [(e.get("device-filter"), e["mig-devices"]) for e in entries]
                for name, entries in json.loads(got)["mig-configs"].items()}

    def test_t37_configurations_of_an_a30(self):
        self.create("a30,t4")
        self.assertEqual(self.generated(), {
            "all-disabled": [(None, None)], "all-enabled": [(None, {})],
            "all-1g.6gb": [(None, {"1g.6gb": 4})], "all-1g.6gb.me": [(None, {"1g.6gb+me": 1})],
            "all-2g.12gb": [(None, {"2g.12gb": 2})], "all-2g.12gb.me": [(None, {"2g.12gb+me": 1})],
            "all-4g.24gb": [(None, {"4g.24gb": 1})],
            "all-balanced": [(None, {"1g.6gb": 2, "2g.12gb": 1})]})

    def test_t38_two_kinds_share_a_name(self):
        self.create("a100-40gb,h100-80gb")
        got = self.generated()["all-1g.10gb"]
        self.assertEqual(sorted((str(f), c["1g.10gb"]) for f, c in got),
                         [("['0x20B010DE']", 4), ("['0x233010DE']", 7)])

    def test_t39_a_board_with_twelve_slices(self):
        self.create("rtx-pro-6000")
        got = self.generated()
        self.assertEqual(got["all-balanced"], [(None, {"1g.24gb": 2, "2g.48gb": 1})])
        for name, counts in (("all-1g.24gb", {"1g.24gb": 4}), ("all-1g.24gb.gfx", {"1g.24gb+gfx": 4}),
                             ("all-1g.24gb.me", {"1g.24gb+me": 1}), ("all-1g.24gb.me.all", {"1g.24gb+me.all": 1}),
                             ("all-1g.24gb-me", {"1g.24gb-me": 4}), ("all-2g.48gb", {"2g.48gb": 2})):
            self.assertEqual(got[name], [(None, counts)])
        self.mig("apply", "all-balanced")
        self.assertEqual(self.counts(), {"1g.24gb": 2, "2g.48gb": 1})


class Parted(Case):
    """What nvidia-mig-parted says, beyond the vectors."""

    def test_flags_and_exit_codes(self):
        self.create("h100-80gb", "1g.10gb:7")
        config = self.config(entry(counts=SEVEN))
        valid = "Selected MIG configuration is valid\n"
        for args, status, out, err in (
                ((), 0, "USAGE:", None), (("help",), 0, "USAGE:", None), (("apply", "-h"), 0, "--hooks-file", None),
                (("nope",), 3, None, "No help topic for 'nope'\n"), (("help", "nope"), 3, None, "No help topic"),
                (("apply",), 1, "--config-file", "\"Missing required flags 'config-file'\""),
                (("restore",), 1, "--checkpoint-file", "Missing required flags 'checkpoint-file'"),
                (("apply", "--bogus"), 1, "USAGE", "Incorrect Usage: flag provided but not defined: -bogus\n"),
                (("apply", "-f"), 1, "USAGE", "Incorrect Usage: flag needs an argument: -f"),
                (("assert", "-af"), 1, "USAGE", "flag needs an argument: f"),
                (("export", "-o", "xml"), 1, "USAGE", "Unrecognized 'output-format': xml"),
                (("assert", "-af", config), 0, valid, None), (("assert", "-maf", config), 0, valid, None),
                (("-d", "assert", "-a", "-f", config), 0, valid, "level=debug"),
                (("assert", "-da", "-f", config), 0, valid, "level=debug"),
                (("assert", "-f=" + config), 0, "Selected MIG configuration currently applied\n", None),
                (("assert", "surplus", "-mf", config, "words"), 0,
                 "Selected MIG mode settings from configuration currently applied\n", None),
                (("assert", "-a", "-f", config, "-c", "none"), 1, None,
                 "Error selecting MIG config: selected mig-config not present: none"),
                (("assert", "-a", "-f", "none.yaml"), 1, None,
                 "Error parsing config file: read error: open none.yaml: no such file or directory"),
                (("apply", "-f", config, "-k", "none.yaml"), 1, None,
                 "Error parsing hooks file: read error: open none.yaml: no such file or directory"),
                (("restore", "-f", "none.json"), 1, None,
                 "Error parsing checkpoint file: read error: open none.json: no such file or directory"),
                (("assert", "--valid-config=maybe", "-f", config), 1, "USAGE",
                 "invalid value \"maybe\" for flag -valid-config: parse error")):
            with self.subTest(args):
                done = self.parted(*args, status=status)
                self.assertIn(out or "", done.out)
                self.assertIn((err or "").replace('\\"', '"'), done.err.replace('\\"', '"'))
                if err is None:
                    self.assertEqual(done.err, "")

    def test_the_environment(self):
        self.create("h100-80gb")
        config = self.config(entry(counts=SEVEN), other=[entry(enabled=False)])
        env = {"MIG_PARTED_CONFIG_FILE": config, "MIG_PARTED_SELECTED_CONFIG": "other"}
        self.parted("assert", env=env)
        self.parted("assert", "-c", "wanted", env=env, status=1)
        self.parted("assert", env={**env, "MIG_PARTED_SELECTED_CONFIG": "wanted", "MIG_PARTED_VALID_CONFIG": "True"})
        self.parted("assert", env={**env, "MIG_PARTED_VALID_CONFIG": ""})
        done = self.parted("assert", env={**env, "MIG_PARTED_VALID_CONFIG": "yes"}, status=1)
        self.assertEqual(done.out, "")
        self.assertFatal(done, re.escape(r'Could not parse \"yes\" as bool value from environment variable '
                                         r'\"MIG_PARTED_VALID_CONFIG\" for flag valid-config: parse error'))
        self.parted("assert", env={"MIG_PARTED_CONFIG_FILE": ""}, status=1)

    def test_a_file_from_standard_input(self):
        self.create("h100-80gb")
        self.parted("apply", "-f", "-", stdin=document(wanted=[entry(counts=SEVEN)]))
        self.assertEqual(self.counts(), SEVEN)

    def test_the_reason_of_an_assertion_is_told_with_d(self):
        self.create("h100-80gb")
        config = self.config(entry(counts=SEVEN))
        done = self.parted("assert", "-f", config, status=1)
        self.assertFatal(done, "Assertion failure: selected configuration not currently applied")
        self.assertEqual(len(done.err.splitlines()), 1)
        self.assertSays(self.parted("assert", "-d", "-f", config, status=1).err,
                        "Current mode different than mode being asserted")

    def test_a_reset_that_fails(self):
        self.create("a100-40gb")
        self.write("#!/bin/sh\necho no reset today >&2\nexit 7\n", "smi")
        smi = os.path.join(self.node, "root/usr/bin/nvidia-smi")
        os.unlink(smi)
        shutil.copy(os.path.join(self.dir, "smi"), smi)
        os.chmod(smi, 0o755)
        done = self.parted("apply", "-f", self.config(entry(counts={"1g.5gb": 7})), status=1)
        self.assertFatal(done, "Error applying MIG configuration with hooks: error resetting all GPUs: exit status 7")
        self.assertSays(done.err, "no reset today")
        self.assertSays(self.mig("apply", "all-1g.5gb", status=1).err, "exit status 7", "no reset today")
        self.assertEqual(self.counts(), {})

    def test_only_gpus_that_wait_are_reset_by_lower_case_bus_ids(self):
        self.create("3xa100-40gb", None, "1g.5gb:7")
        log = os.path.join(self.dir, "smi.log")
        smi = os.path.join(self.node, "root/usr/bin/nvidia-smi")
        with open(smi, encoding="utf-8") as file:
            script = file.read()
        os.unlink(smi)
        with open(smi, "w", encoding="utf-8") as file:
            file.write(script.replace("#!/bin/sh\n", f"#!/bin/sh\necho \"$@\" >> {log}\n"))
        os.chmod(smi, 0o755)
        before = self.devices(1)
        self.parted("apply", "-f", self.config(entry(counts={"1g.5gb": 7})))
        with open(log, encoding="utf-8") as file:
            self.assertRegex(file.read(), r"^-r -i (0000:[0-9a-f]{2}:00\.0),(0000:[0-9a-f]{2}:00\.0)\n$")
        self.assertEqual(self.devices(1), before)

    def test_a_checkpoint_is_upstreams(self):
        self.create("h100-80gb,t4", "2g.20gb:1")
        self.assertEqual(self.parted("checkpoint", "-f", "saved.json").out, "MIG configuration checkpointed successfully\n")
        with open(os.path.join(self.dir, "saved.json"), encoding="utf-8") as file:
            text = file.read()
        uuid = self.show()["gpus"][0]["uuid"]
        start = next(iter(self.devices())).split("@")[1]
        self.assertEqual(text, '{"Version":"v1","MigState":{"Devices":[{"UUID":"%s","MigMode":1,"GpuInstances":['
                               '{"ProfileID":1,"Placement":{"Start":%s,"Size":2},"ComputeInstances":['
                               '{"ProfileID":1,"EngProfileID":0}]}]}]}}' % (uuid, start))

    def test_a_checkpoint_of_another_node_is_refused(self):
        self.create("h100-80gb", "1g.10gb:7")
        before = self.devices()
        path = self.write('{"Version":"v1","MigState":{"Devices":[{"UUID":"GPU-none","MigMode":0,"GpuInstances":null}]}}')
        self.assertSays(self.parted("restore", "-f", path, status=1).err, "rror getting device handle: Not Found")
        self.assertSays(self.mig("restore", path, status=1).err, "GPU-none")
        self.assertEqual(self.devices(), before)
        for text in ("{", '{"MigState":{"Devices":5}}', "[]", ""):
            with self.subTest(text):
                path = self.write(text)
                self.assertFatal(self.parted("restore", "-f", path, status=1), "Error parsing checkpoint file: ")
                self.mig("restore", path, status=1)

    def test_nothing_is_restored_from_nothing(self):
        self.create("h100-80gb", "1g.10gb:7")
        before = self.devices()
        self.assertEqual(self.parted("restore", "-f", self.write("{}")).out, "MIG configuration restored successfully\n")
        self.assertEqual(self.devices(), before)

    def test_a_node_without_mig(self):
        self.create("t4")
        done = self.parted("generate-config", status=1)
        self.assertFatal(done, "Error generating MIG config: failed to discover MIG profiles: "
                               "no MIG-capable devices found on the system")
        self.parted("apply", "-f", self.config(entry(counts={})))
        self.parted("apply", "-f", self.config(entry(devices=[0], counts={})), status=1)
        self.assertSays(self.mig("apply", "all-balanced", status=1).err, "no GPU of this node can do MIG")

    def test_a_gpu_that_is_divided_otherwise_is_named(self):
        self.create("2xh100-80gb", "1g.10gb:7", "3g.40gb:2")
        self.assertSays(self.mig("assert", "all-1g.10gb", status=1).err, "GPU 1 is not divided that way")
        self.mig("assert", "all-1g.10gb", "--gpu", "0")

    def test_an_old_file_survives_a_failure(self):
        self.create("t4")
        path = self.write("old")
        self.parted("generate-config", "-f", path, status=1)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "old")

    def test_a_lost_gpu_is_left_alone(self):
        self.create("2xh100-80gb")
        self.sim("lose", "1")
        done = self.parted("apply", "-f", self.config(entry(counts=SEVEN)))
        self.assertSays(done.err, "level=warning")
        self.assertEqual(self.counts(), SEVEN)


class Mig(Case):
    """tranche mig, beyond the vectors."""

    def test_list_of_an_empty_and_a_divided_gpu(self):
        self.create("2xh100-80gb,t4", "1g.10gb:2,3g.40gb")
        self.hold(4)
        got = self.mig("list").out
        self.assertEqual(got, """\
GPU 0  NVIDIA H100 80GB HBM3  MIG on
+--------+--------+-----------------+-----------------------------------+
| 1g.10gb| 1g.10gb| free            | 3g.40gb                           |
| -      | -      |                 | process 4711 (python3)            |
+--------+--------+-----------------+-----------------------------------+
Room for 2 x 1g.10gb or 1 x 2g.20gb or 1 x 1g.10gb+me or 1 x 1g.20gb
GPU 1  NVIDIA H100 80GB HBM3  MIG off
+-----------------------------------------------------------------------+
| whole GPU                                                             |
| -                                                                     |
+-----------------------------------------------------------------------+
GPU 2  Tesla T4  without MIG

GPU   DEVICE    SLICES   INSTANCE   HELD BY
0     1g.10gb   0        7/0        -
0     1g.10gb   1        8/0        -
0     3g.40gb   4-7      2/0        process 4711 (python3)
""")

    def test_list_for_programs(self):
        self.create("h100-80gb", "1g.10gb:2,3g.40gb")
        self.hold(4)
        got = json.loads(self.mig("list", "-o", "json").out)
        gpu = got["gpus"][0]
        self.assertEqual(got["pods"], "no kubelet")
        self.assertEqual((gpu["enabled"], gpu["memorySlices"], gpu["computeSlices"]), (True, 8, 7))
        self.assertEqual([(i["profile"], i["start"], i["devices"][0]["holder"]) for i in gpu["instances"]],
                         [("1g.10gb", 0, None), ("1g.10gb", 1, None), ("3g.40gb", 4, "process 4711 (python3)")])
        self.assertEqual({f["profile"]: (f["count"], f["starts"]) for f in gpu["free"]},
                         {"1g.10gb": (2, [2, 3]), "1g.10gb+me": (1, [2, 3]), "1g.20gb": (1, [2]), "2g.20gb": (1, [2])})
        for uuid in self.devices().values():
            self.assertIn(uuid, self.mig("list", "-o", "wide").out)
        self.assertSays(self.mig("list", "-o", "yaml").out, "memorySlices: 8")

    def test_room_knows_of_engines(self):
        self.create("rtx-pro-6000", "1g.24gb+me.all,1g.24gb-me:2")
        gpu = json.loads(self.mig("list", "-o", "json").out)["gpus"][0]
        self.assertEqual([(f["profile"], f["starts"]) for f in gpu["free"]], [("1g.24gb-me", [9])])
        self.create_again("h100-80gb", "1g.10gb+me:1,1g.10gb:3,3g.40gb")
        self.assertNotIn("Room", self.mig("list").out)

    def create_again(self, *args):
        shutil.rmtree(self.node)
        self.create(*args)

    def test_plan_is_a_difference(self):
        self.create("h100-80gb", "1g.10gb:7")
        self.hold(3)
        before = self.devices()
        got = re.sub(r"MIG-[0-9a-f-]{36}", "MIG-x", self.mig("plan", "all-balanced", status=3).out)
        self.assertEqual(got, """\
GPU 0  NVIDIA H100 80GB HBM3  MIG on
+--------+--------+--------+--------+--------+--------+--------+--------+
| 1g.10gb| 1g.10gb| 1g.10gb| 1g.10gb| 1g.10gb| 1g.10gb| 1g.10gb|        |
| -      | -      | -      | python3| -      | -      | -      |        |
+--------+--------+--------+--------+--------+--------+--------+--------+
  - 1g.10gb@0  MIG-x
  + 2g.20gb@0
  - 1g.10gb@1  MIG-x
    1g.10gb@2  stays
    1g.10gb@3  stays, held by process 4711 (python3)
  - 1g.10gb@4  MIG-x
  + 3g.40gb@4
  - 1g.10gb@5  MIG-x
  - 1g.10gb@6  MIG-x
+-----------------+--------+--------+-----------------------------------+
| 2g.20gb         | 1g.10gb| 1g.10gb| 3g.40gb                           |
| new             | -      | python3| new                               |
+-----------------+--------+--------+-----------------------------------+
2 GPU instances stay, 5 go, 2 come.
""")
        for line in got.splitlines():
            self.assertLessEqual(len(line), 80)
        wide = self.mig("plan", "all-balanced", "-o", "wide", status=3).out
        for uuid in before.values():
            self.assertIn(uuid, wide)
        self.assertEqual(self.devices(), before)
        self.assertEqual(self.mig("apply", "--dry-run", "all-balanced", status=3).out.count("\n"), 19)
        self.assertEqual(self.devices(), before)

    def test_plan_of_equal_gpus_is_told_once(self):
        self.create("8xh100-80gb")
        got = self.mig("plan", "all-1g.10gb", status=3).out
        self.assertSays(got, "GPU 0-7  NVIDIA H100 80GB HBM3  MIG off", "  + MIG mode", "MIG mode on: 8 GPUs.", "56 come")
        self.assertEqual(got.count("  + 1g.10gb@0"), 1)

    def test_plan_of_nothing(self):
        self.create("h100-80gb", "1g.10gb:7")
        self.assertSays(self.mig("plan", "all-1g.10gb").out, "Nothing to do.")

    def test_plan_for_programs(self):
        self.create("h100-80gb", "1g.10gb:7")
        got = json.loads(self.mig("plan", "all-balanced", "-o", "json", status=3).out)
        self.assertTrue(got["changes"])
        fates = {}
        for instance in got["gpus"][0]["instances"]:
            fates.setdefault(instance["fate"], []).append(instance["profile"])
        self.assertEqual({k: len(v) for k, v in fates.items()}, {"stays": 2, "goes": 5, "comes": 2})
        self.hold(5)
        self.hold(1, pid=4712)
        got = json.loads(self.mig("plan", "--devices", "3g.40gb=2", "-o", "json", status=1).out)
        self.assertTrue(got["refused"])
        self.assertSays(got["gpus"][0]["refused"], "4712")

    def test_one_gpu_of_several(self):
        self.create("3xh100-80gb", "1g.10gb:7", "1g.10gb:7", "1g.10gb:7")
        before = [self.devices(i) for i in range(3)]
        uuid = self.show()["gpus"][2]["uuid"]
        self.mig("apply", "--gpu", f"1,{uuid}", "--devices", "3g.40gb=2")
        self.assertEqual(self.devices(0), before[0])
        self.assertEqual([self.counts(i) for i in (1, 2)], [{"3g.40gb": 2}] * 2)
        self.mig("apply", "--gpu", "0", "all-disabled")
        self.assertEqual(self.mode(0), (False, False))
        self.mig("assert", "--gpu", "0", "all-disabled")
        self.mig("assert", "all-disabled", status=1)
        self.assertSays(self.mig("apply", "--gpu", "7", "all-disabled", status=1).err, 'there is no GPU "7"')

    def test_uuids_that_change_are_told(self):
        self.create("h100-80gb", "1g.10gb:7")
        before = self.devices()
        got = self.mig("apply", "all-balanced").out
        after = self.devices()
        for uuid in set(before.values()) ^ set(after.values()):
            self.assertIn(uuid, got)
        self.assertSays(got, "2 GPU instances kept, 5 removed, 2 made.")
        got = json.loads(self.mig("apply", "all-1g.10gb", "-o", "json").out)
        self.assertTrue(got["applied"])
        self.assertEqual({d["newUuid"] for d in got["devices"] if d["newUuid"]},
                         set(self.devices().values()) - set(after.values()))

    def test_a_name_that_is_not_there(self):
        self.create("h100-80gb")
        self.assertSays(self.mig("apply", "all-balancd", status=1).err, "did you mean all-balanced?", "all-1g.10gb")
        self.assertSays(self.mig("apply", "--devices", "1g.99gb", status=1).err, "1g.99gb")
        self.assertEqual(self.mode(), (False, False))

    def test_what_fails_on_the_way_is_taken_back(self):
        self.create("2xh100-80gb", "1g.10gb:7")
        before = [set(self.devices(i)) for i in range(2)]
        self.sim("fault", "add", "nvmlDeviceCreateGpuInstanceWithPlacement", "--after", "3", "--times", "1",
                 "--code", "INSUFFICIENT_RESOURCES")
        done = self.mig("apply", "all-balanced", status=1)
        self.assertSays(done.err, "everything is as it was")
        self.sim("fault", "clear")
        self.assertEqual([set(self.devices(i)) for i in range(2)], before)
        self.assertEqual(self.mode(1), (False, False))
        self.mig("apply", "all-balanced")

    def test_a_change_that_was_killed_is_finished(self):
        self.create("h100-80gb", "1g.10gb:7")
        self.sim("fault", "add", "nvmlDeviceCreateGpuInstanceWithPlacement", "--after", "1", "--hang", "forever")
        env = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
        child = subprocess.Popen([TRANCHE, "mig", "apply", "all-balanced"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, env={**env, "TRANCHE_SIM": self.node})
        while len(self.devices()) > 4:
            self.assertIsNone(child.poll())
        try:
            busy = self.mig("apply", "all-1g.10gb", status=1)
        finally:
            child.kill()
            child.wait()
        self.assertSays(busy.err, str(child.pid))
        self.sim("fault", "clear")
        done = self.mig("recover")
        self.assertSays(done.err, "A change that was interrupted has been finished.")
        self.assertEqual(self.counts(), MIXED)
        self.assertSays(self.mig("recover").out, "Nothing to do")

    def test_a_lost_gpu_does_not_keep_the_others_from_it(self):
        self.create("2xh100-80gb")
        self.sim("lose", "1")
        self.assertSays(self.mig("list").out, "GPU 1  cannot reach it: GPU is lost")
        self.assertSays(self.mig("apply", "all-balanced", status=1).err, "GPU is lost")
        self.mig("apply", "all-balanced", "--gpu", "0")
        self.assertEqual(self.counts(), MIXED)
        places = set(self.devices())
        self.sim("reboot")
        self.mig("restore")
        self.assertEqual(set(self.devices()), places)

    def test_what_takes_long_says_how_far_it_is(self):
        self.create("h100-80gb", "on")
        self.assertEqual(self.mig("apply", "--devices", "1g.10gb=1").err, "")
        self.sim("fault", "add", "nvmlDeviceCreateGpuInstanceWithPlacement", "--hang", "400")
        done = self.mig("apply", "all-1g.10gb")
        self.assertRegex(done.err, r"(?m)^step [0-9]+ of 12: GPU 0: create .*1g\.10gb")
        self.assertLess(len(done.err.splitlines()), 5)

    def test_a_reader_that_goes_away_stops_no_change(self):
        self.create("8xh100-80gb")
        env = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
        child = subprocess.Popen([TRANCHE, "mig", "apply", "all-1g.10gb"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, env={**env, "TRANCHE_SIM": self.node})
        child.stdout.close()
        child.stderr.close()
        child.wait()
        self.assertEqual([self.counts(i) for i in range(8)], [SEVEN] * 8)
        self.assertSays(self.mig("recover").out, "Nothing to do")

    def test_a_gpu_that_hangs_is_no_reason_to_hang(self):
        self.create("2xh100-80gb")
        self.sim("set", "1", "hung=on")
        self.assertSays(self.mig("list", status=1).err, "NVML has not answered for 10 s")

    def test_misuse_is_told_apart_from_failure(self):
        self.create("h100-80gb")
        for args in ((), ("lst",), ("list", "extra"), ("list", "-o", "xml"), ("list", "--devices", "1g.10gb"),
                     ("plan",), ("apply",), ("apply", "a", "b"), ("apply", "a", "-c", "b"), ("apply", "-f"),
                     ("apply", "--devices", "1g.10gb=x"), ("apply", "--devices", "nonsense"),
                     ("apply", "--devices", "1g.10gb=1,1g.10gb=2"), ("apply", "--devices", "1g.10gb", "all-balanced"),
                     ("apply", "all-balanced", "--skip-reset"), ("restore", "a", "-f", "b"), ("apply", "--bogus"),
                     ("recover", "now"), ("export", "word")):
            with self.subTest(args):
                done = self.mig(*args, status=2)
                self.assertNotEqual(done.err, "")
        self.assertSays(self.mig("lst", status=2).err, 'did you mean "list"?')
        self.mig("apply", "-f", "none.yaml", "x", status=1)

    def test_help_fits_a_terminal(self):
        for command in (None, "list", "plan", "apply", "assert", "export", "checkpoint", "restore", "recover",
                        "generate-config"):
            done = self.mig(*([command, "--help"] if command else ["--help"]))
            self.assertSays(done.out, "Examples:")
            for line in done.out.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_the_list_fits_a_terminal(self):
        self.create("h100-80gb,a30,rtx-pro-6000", "1g.10gb:5,1g.10gb+me", "1g.6gb:4", "1g.24gb:4")
        for line in self.mig("list").out.splitlines():
            self.assertLessEqual(len(line), 80, line)
        self.assertSays(self.mig("list").out, "1g+me")


def field(number, payload):
    """A length-delimited field of protobuf, or a text."""
    data = payload.encode() if isinstance(payload, str) else payload
    length, n = b"", len(data)
    while n > 127:
        length += bytes([n & 127 | 128])
        n >>= 7
    return bytes([number << 3 | 2]) + length + bytes([n]) + data


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name, value):
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Kubelet:
    """Answers the one call of the pod resources API, whatever is asked. `pods`: [(namespace, name, [ids])];
    None: is silent."""

    def __init__(self, path, pods):
        os.makedirs(os.path.dirname(path))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.pods = pods
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def answer(self):
        devices = lambda ids: field(1, "nvidia.com/mig") + b"".join(field(2, i) for i in ids)
        message = b"".join(field(1, field(1, name) + field(2, namespace) +
                                 field(3, field(1, "main") + field(2, devices(ids))))
                           for namespace, name, ids in self.pods)
        return (frame(1, 4, 1, b"\x88" + header("content-type", "application/grpc")) +
                frame(0, 0, 1, b"\0" + struct.pack(">I", len(message)) + message) +
                frame(1, 5, 1, header("grpc-status", "0")))

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(frame(4, 0, 0, b""))
                got = b""
                while self.pods is None or not self.asked(got):
                    more = connection.recv(65536)
                    if not more:
                        break
                    got += more
                else:
                    connection.sendall(frame(4, 1, 0, b"") + self.answer())
                    while connection.recv(65536):
                        pass

    @staticmethod
    def asked(got):
        """A frame of headers has come (its text may be compressed)."""
        at = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        while at + 9 <= len(got):
            length = int.from_bytes(got[at:at + 3], "big")
            if got[at + 3] == 0 and got[at + 4] & 1:
                return at + 9 + length <= len(got)
            at += 9 + length
        return False

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Pods(Case):
    """Who holds what, according to a kubelet of a few lines."""

    def kubelet(self, pods):
        kubelet = Kubelet(os.path.join(self.node, "root/var/lib/kubelet/pod-resources/kubelet.sock"), pods)
        self.addCleanup(kubelet.stop)

    def test_what_a_pod_holds_stays(self):
        self.create("h100-80gb", "1g.10gb:7")
        before = self.devices()
        self.kubelet([("team-a", "train", [before["1g.10gb@5"]]), ("team-a", "shared", [before["1g.10gb@6"] + "::3"])])
        got = self.mig("list").out
        self.assertSays(got, "pod team-a/train", "pod team-a/shared", "| train  |")
        self.assertSays(self.mig("plan", "all-balanced", status=1).err, "pod team-a/")
        self.mig("apply", "all-balanced", status=1)
        self.assertEqual(self.devices(), before)
        self.mig("apply", "--devices", "3g.40gb,1g.10gb=3")
        after = self.devices()
        self.assertEqual({k: before[k] for k in ("1g.10gb@5", "1g.10gb@6")},
                         {k: after[k] for k in ("1g.10gb@5", "1g.10gb@6")})

    def test_unless_it_is_told_to_take_it(self):
        self.create("h100-80gb", "1g.10gb:7")
        self.kubelet([("team-a", "train", [self.devices()["1g.10gb@5"]])])
        self.assertSays(self.mig("plan", "all-7g.80gb", "--take-from-pods", status=3).out,
                        "taken from pod team-a/train")
        self.mig("apply", "all-7g.80gb", "--take-from-pods")
        self.assertEqual(self.counts(), {"7g.80gb": 1})

    def test_what_a_process_uses_is_never_taken(self):
        self.create("h100-80gb", "1g.10gb:7")
        self.kubelet([("team-a", "train", [self.devices()["1g.10gb@5"]])])
        self.hold(5)
        before = self.devices()
        self.assertSays(self.mig("apply", "all-7g.80gb", "--take-from-pods", status=1).err, "4711")
        self.assertEqual(self.devices(), before)

    def test_a_whole_gpu_that_a_pod_holds_stays_whole(self):
        self.create("2xh100-80gb")
        self.kubelet([("team-a", "train", [self.show()["gpus"][1]["uuid"] + "::0"])])
        self.assertSays(self.mig("apply", "all-1g.10gb", status=1).err, "pod team-a/train")
        self.assertEqual(self.mode(0), (False, False))
        self.mig("apply", "all-1g.10gb", "--gpu", "0")
        self.assertEqual((self.mode(0), self.mode(1)), ((True, True), (False, False)))
        self.assertSays(self.mig("plan", "all-1g.10gb", "--take-from-pods", status=3).out,
                        "  - the whole GPU  taken from pod team-a/train")
        self.mig("apply", "all-1g.10gb", "--take-from-pods")
        self.assertEqual(self.counts(1), SEVEN)

    def test_a_kubelet_that_is_silent_makes_careful(self):
        self.create("h100-80gb", "1g.10gb:2")
        self.kubelet(None)
        before = self.devices()
        done = self.mig("apply", "--devices", "1g.10gb=3")
        self.assertSays(done.err, "which pods hold what is not known", "no answer within 2 s")
        self.assertSays(self.mig("apply", "all-7g.80gb", status=1).err, "--take-from-pods")
        self.assertEqual({k: v for k, v in self.devices().items() if k in before}, before)
        self.mig("apply", "all-7g.80gb", "--take-from-pods")
        self.assertEqual(self.counts(), {"7g.80gb": 1})

    def test_nvidias_tool_looks_at_processes_only(self):
        self.create("h100-80gb", "1g.10gb:7")
        self.kubelet([("team-a", "train", [self.devices()["1g.10gb@5"]])])
        self.parted("apply", "-f", self.config(entry(counts={"7g.80gb": 1})))
        self.assertEqual(self.counts(), {"7g.80gb": 1})


class Served(Case):
    """A node of `tranche try --serve`, divided anew from outside."""

    def test_pods_keep_their_parts_and_the_kubelet_hears_of_the_rest(self):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "small"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"nvidia.com/mig-1g.10gb": 2}}}]}}
        path = self.write(json.dumps(pod))
        env = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "TRANCHE_SIM")}
        served = subprocess.Popen([TRANCHE, "try", "--serve", "--gpus", "h100-80gb", "--mig", "all-1g.10gb",
                                   "--mig-strategy", "mixed", "-f", path],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
        try:
            for line in served.stderr:
                if "TRANCHE_SIM=" in line:
                    self.node = line.split("=")[1].strip()
                if "tranche get" in line:
                    break
            before = self.devices()
            got = json.loads(self.mig("list", "-o", "json").out)
            holders = [i["devices"][0]["holder"] for i in got["gpus"][0]["instances"]]
            self.assertEqual(holders.count("pod default/small"), 2)
            self.mig("apply", "all-7g.80gb", status=1)
            self.assertEqual(self.devices(), before)
            self.mig("apply", "all-balanced")
            kept = {k: v for k, v in self.devices().items() if k.startswith("1g")}
            self.assertEqual(len(kept), 2)
            self.assertLessEqual(set(kept.values()), set(before.values()))
            for line in served.stderr:
                if "nvidia.com/mig-3g.40gb: 1 of 1 healthy" in line:
                    self.assertIn("nvidia.com/mig-1g.10gb: 2 of 2 healthy", line)
                    break
            else:
                self.fail("the kubelet never heard of it")
        finally:
            served.terminate()
            served.wait()
            served.stderr.close()


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
