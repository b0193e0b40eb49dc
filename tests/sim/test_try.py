#!/usr/bin/env python3
"""`tranche try` as a user runs it: manifests in, Kubernetes objects and exit status out.

usage: test_try.py TRANCHE SOURCE-ROOT
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TRANCHE, SOURCE = sys.argv[1], sys.argv[2]
SHARED = os.environ.get("TRANCHE_SHARED", os.path.join(SOURCE, "..", "shared"))
CASES = os.path.join(SHARED, "cases")
TMP = tempfile.mkdtemp(prefix="tt-", dir="/tmp")


def run(*args, stdin=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NVIDIA_", "MIG_", "MPS_"))}
    env["TMPDIR"] = TMP
    done = subprocess.run([TRANCHE, "try", *args], input=stdin, capture_output=True, text=True, env=env,
                          timeout=60)
    left = os.listdir(TMP)
    assert not left, f"left behind: {left}"
    return done


def answer(*args, status=0, stdin=None):
    done = run("-o", "json", *args, stdin=stdin)
    assert done.returncode == status, f"exit {done.returncode}, wanted {status}: {done.stderr}"
    return json.loads(done.stdout)


def manifest(*objects):
    return "\n---\n".join(json.dumps(o) for o in objects)


def pod(name, **limits):
    resources = {k.replace("__", "/").replace("_", "-"): v for k, v in limits.items()}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "resources": {"limits": resources}}]}}


def gpu_pod(name, n=1, resource="nvidia.com/gpu"):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {resource: n}}}]}}


def config(text, **policy):
    maps = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cfg"}, "data": {"any": text}}
    spec = {"devicePlugin": {"config": {"name": "cfg", "default": "any"}}}
    spec.update(policy)
    return maps, {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy",
                  "metadata": {"name": "cluster-policy"}, "spec": spec}


def shared_gpus(kind="timeSlicing", replicas=4, extra="", more=""):
    return (f"version: v1\n{more}sharing:\n  {kind}:\n{extra}    resources:\n"
            f"    - name: nvidia.com/gpu\n      replicas: {replicas}\n")


def allocation(got, index=0, container="c"):
    return json.loads(got["pods"][index]["metadata"]["annotations"]["tranche.dev/allocation"])[container]


def phases(got):
    return [p["status"]["phase"] for p in got["pods"]]


class Cases(unittest.TestCase):
    """The users' own files, unchanged."""

    def setUp(self):
        if not os.path.isdir(CASES):
            self.skipTest("no shared cases here")

    def case(self, name):
        return os.path.join(CASES, name)

    def test_time_slicing_offers_sixteen_of_four(self):
        got = answer("--gpus", "4xt4", "-f", self.case("time-slicing-config.yaml"))
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu"], "16")
        labels = got["node"]["metadata"]["labels"]
        self.assertEqual(labels["nvidia.com/gpu.product"], "Tesla-T4-SHARED")
        self.assertEqual(labels["nvidia.com/gpu.replicas"], "4")
        self.assertEqual(labels["nvidia.com/gpu.count"], "4")
        self.assertEqual(labels["nvidia.com/gpu.sharing-strategy"], "time-slicing")

    def test_five_replicas_need_more_than_one_gpu_shared_four_times(self):
        args = ["--gpus", "t4", "-f", self.case("time-slicing-config.yaml"),
                "-f", self.case("time-slicing-verification.yaml")]
        got = answer(*args, status=1)
        self.assertEqual(sorted(phases(got)), ["Pending"] + ["Running"] * 4)
        self.assertIn("1 Insufficient nvidia.com/gpu", json.dumps(got["events"]))

    def test_five_replicas_run_on_one_gpu_shared_ten_times(self):
        got = answer("--gpus", "a100-40gb", "-f", self.case("mps-config.yaml"),
                     "-f", self.case("time-slicing-verification.yaml"))
        self.assertEqual(phases(got), ["Running"] * 5)
        one = {json.dumps(json.loads(p["metadata"]["annotations"]["tranche.dev/allocation"])
                          ["cuda-sample-vector-add"]["envs"]) for p in got["pods"]}
        self.assertEqual(len(one), 1)
        self.assertIn("CUDA_MPS_PIPE_DIRECTORY", one.pop())

    def test_mps_label_and_capacity(self):
        got = answer("--gpus", "a100-40gb", "-f", self.case("mps-config.yaml"))
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu"], "10")
        labels = got["node"]["metadata"]["labels"]
        self.assertEqual(labels["nvidia.com/mps.capable"], "true")
        self.assertEqual(labels["nvidia.com/gpu.sharing-strategy"], "mps")

    def test_mig_pod_runs_with_one_mig_device(self):
        got = answer("--gpus", "h100-80gb", "--mig", "all-1g.10gb", "-f", self.case("mig-inference-pod.yaml"))
        self.assertEqual(phases(got), ["Running"])
        device = allocation(got, container="inference")["envs"]["NVIDIA_VISIBLE_DEVICES"]
        self.assertIn(device, [d["uuid"] for d in got["gpus"][0]["migDevices"]])
        self.assertNotIn("nvidia.com/gpu", got["node"]["status"]["capacity"])

    def test_cluster_policy_single_makes_each_mig_device_a_gpu(self):
        got = answer("--gpus", "8xh100-80gb", "--label", "nvidia.com/mig.config=all-1g.10gb",
                     "-f", self.case("cluster-policy.yaml"))
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu"], "56")
        labels = got["node"]["metadata"]["labels"]
        self.assertEqual(labels["nvidia.com/mig.strategy"], "single")
        self.assertEqual(labels["nvidia.com/gpu.product"], "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb")
        self.assertEqual(labels["nvidia.com/gpu.count"], "56")

    def test_custom_mig_config_gives_five_and_one(self):
        got = answer("--gpus", "h100-80gb", "--mig", "five-1g-one-2g", "-f", self.case("custom-mig-config.yaml"))
        capacity = got["node"]["status"]["capacity"]
        self.assertEqual(capacity["nvidia.com/mig-1g.10gb"], "5")
        self.assertEqual(capacity["nvidia.com/mig-2g.20gb"], "1")
        self.assertEqual(got["node"]["metadata"]["labels"]["nvidia.com/mig.config.state"], "success")


class Rules(unittest.TestCase):
    def test_an_empty_node_offers_its_gpus(self):
        got = answer("--gpus", "2xl40s,t4")
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu"], "3")
        self.assertEqual([g["model"] for g in got["gpus"]], ["l40s", "l40s", "t4"])
        self.assertEqual(got["pods"], [])

    def test_a_pod_gets_just_the_environment_of_its_gpu(self):
        got = answer("--gpus", "2xt4", "-f", "-", stdin=manifest(gpu_pod("p")))
        self.assertEqual(allocation(got), {"envs": {"NVIDIA_VISIBLE_DEVICES": got["gpus"][0]["uuid"]}})
        self.assertEqual(got["pods"][0]["spec"]["nodeName"], got["node"]["metadata"]["name"])

    def test_mixed_has_no_gpu_resource_on_a_mig_node(self):
        got = answer("--gpus", "h100-80gb", "--mig", "all-balanced", "-f", "-", status=1,
                     stdin=manifest(gpu_pod("whole"), gpu_pod("slice", 1, "nvidia.com/mig-3g.40gb")))
        self.assertEqual(phases(got), ["Pending", "Running"])
        self.assertEqual(got["pods"][0]["status"]["conditions"][0]["message"],
                         "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
                         "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.")

    def test_renamed_by_default(self):
        text = shared_gpus(extra="    renameByDefault: true\n")
        got = answer("--gpus", "t4", "-f", "-", stdin=manifest(
            *config(text), gpu_pod("p", 1, "nvidia.com/gpu.shared")))
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu.shared"], "4")
        self.assertNotIn("nvidia.com/gpu", got["node"]["status"]["capacity"])
        self.assertEqual(got["node"]["metadata"]["labels"]["nvidia.com/gpu.product"], "Tesla-T4")

    def test_two_of_a_shared_resource_are_refused_with_the_reason(self):
        text = shared_gpus(extra="    failRequestsGreaterThanOne: true\n")
        got = answer("--gpus", "2xt4", "-f", "-", status=1, stdin=manifest(*config(text), gpu_pod("p", 2)))
        status = got["pods"][0]["status"]
        self.assertEqual((status["phase"], status["reason"]), ("Failed", "UnexpectedAdmissionError"))
        self.assertIn('invalid allocation request for "nvidia.com/gpu": invalid request: maximum request '
                      'size for shared resources is 1; found 2', status["message"])
        self.assertEqual(got["events"][0]["reason"], "UnexpectedAdmissionError")

    def test_a_label_chooses_the_configuration(self):
        maps, policy = config(shared_gpus())
        maps["data"]["two"] = shared_gpus(replicas=2)
        text = manifest(maps, policy)
        for label, capacity in (([], "4"), (["--label", "nvidia.com/device-plugin.config=two"], "2")):
            got = answer("--gpus", "t4", *label, "-f", "-", stdin=text)
            self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu"], capacity)
        done = run("--gpus", "t4", "--label", "nvidia.com/device-plugin.config=zz", "-f", "-", stdin=text)
        self.assertEqual(done.returncode, 2)
        self.assertIn("specified config zz does not exist", done.stderr)

    def test_a_policy_without_a_default_shares_nothing(self):
        maps, policy = config(shared_gpus())
        policy["spec"]["devicePlugin"]["config"]["default"] = ""
        got = answer("--gpus", "t4", "-f", "-", stdin=manifest(maps, policy))
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/gpu"], "1")

    def test_taints_and_tolerations(self):
        tolerant = gpu_pod("tolerant")
        tolerant["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
        got = answer("--gpus", "2xt4", "--taint", "nvidia.com/gpu=present:NoSchedule", "-f", "-", status=1,
                     stdin=manifest(gpu_pod("plain"), tolerant))
        self.assertEqual(phases(got), ["Pending", "Running"])
        self.assertIn("untolerated taint {nvidia.com/gpu: present}", json.dumps(got["events"]))

    def test_init_containers_hand_their_devices_on(self):
        both = gpu_pod("p")
        both["spec"]["initContainers"] = [{"name": "i", "resources": {"limits": {"nvidia.com/gpu": 1}}}]
        got = answer("--gpus", "t4", "-f", "-", stdin=manifest(both))
        held = json.loads(got["pods"][0]["metadata"]["annotations"]["tranche.dev/devices"])
        self.assertEqual(held["i"], held["c"])

    def test_four_nvlinked_gpus_are_the_ones_that_belong_together(self):
        got = answer("--gpus", "4xa100-40gb", "--nvlink", "0-2,1-3", "-f", "-",
                     stdin=manifest(gpu_pod("pair", 2)))
        uuids = allocation(got)["envs"]["NVIDIA_VISIBLE_DEVICES"].split(",")
        self.assertEqual(set(uuids), {got["gpus"][0]["uuid"], got["gpus"][2]["uuid"]})

    def test_time_slicing_and_mig_together(self):
        text = ("version: v1\nsharing:\n  timeSlicing:\n    resources:\n"
                "    - name: nvidia.com/mig-1g.10gb\n      replicas: 3\n")
        got = answer("--gpus", "h100-80gb", "--mig", "all-1g.10gb", "-f", "-",
                     stdin=manifest(*config(text, mig={"strategy": "mixed"})))
        self.assertEqual(got["node"]["status"]["capacity"]["nvidia.com/mig-1g.10gb"], "21")

    def test_each_way_to_tell_the_runtime(self):
        """Vectors 40 to 45 of spec/device-plugin §10.3, and 39."""
        def flags(text):
            got = answer("--gpus", "2xt4", "-f", "-", stdin=manifest(
                *config("version: v1\nflags:\n  plugin:\n" + text), gpu_pod("p", 2)))
            return allocation(got), [g["uuid"] for g in got["gpus"]]

        names = lambda ids: [{"name": f"k8s.device-plugin.nvidia.com/gpu={i}"} for i in ids]
        got, ids = flags("    deviceListStrategy: volume-mounts\n")
        self.assertEqual(got["envs"], {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"})
        self.assertEqual([m["container_path"] for m in got["mounts"]],
                         [f"/var/run/nvidia-container-devices/{i}" for i in ids])
        got, ids = flags("    deviceListStrategy: cdi-annotations\n")
        (key, value), = got["annotations"].items()
        self.assertRegex(key, r"^cdi\.k8s\.io/nvidia-device-plugin_[0-9a-f-]{36}$")
        self.assertEqual(value, ",".join(n["name"] for n in names(ids)))
        self.assertNotIn("envs", got)
        got, ids = flags("    deviceListStrategy: [envvar, cdi-cri]\n")
        self.assertEqual(got["cdi_devices"], names(ids))
        self.assertEqual(got["envs"], {"NVIDIA_VISIBLE_DEVICES": ",".join(ids)})
        got, ids = flags("    deviceListStrategy: cdi-cri\n    deviceIDStrategy: index\n")
        self.assertEqual(got["cdi_devices"], names("01"))
        self.assertNotIn("envs", got)
        got, ids = flags("    deviceIDStrategy: index\n    passDeviceSpecs: true\n")
        self.assertEqual(got["envs"], {"NVIDIA_VISIBLE_DEVICES": "0,1"})
        self.assertEqual([d["container_path"] for d in got["devices"]][-2:], ["/dev/nvidia0", "/dev/nvidia1"])

    def test_one_gpu_shared_and_the_other_whole(self):
        text = ("version: v1\nsharing:\n  perDevice: true\n  timeSlicing:\n    resources:\n"
                "    - name: nvidia.com/gpu\n      rename: nvidia.com/gpu.small\n      devices: [1]\n      replicas: 8\n")
        got = answer("--gpus", "2xl40s", "-f", "-", stdin=manifest(
            *config(text), gpu_pod("small", 1, "nvidia.com/gpu.small"), gpu_pod("whole")))
        capacity = got["node"]["status"]["capacity"]
        self.assertEqual((capacity["nvidia.com/gpu"], capacity["nvidia.com/gpu.small"]), ("1", "8"))
        ids = [g["uuid"] for g in got["gpus"]]
        self.assertEqual(allocation(got, 0)["envs"]["NVIDIA_VISIBLE_DEVICES"], ids[1])
        self.assertEqual(allocation(got, 1)["envs"]["NVIDIA_VISIBLE_DEVICES"], ids[0])

    def test_mps_on_one_gpu_under_a_name_of_its_own(self):
        text = ("version: v1\nsharing:\n  perDevice: true\n  mps:\n    resources:\n"
                "    - name: nvidia.com/gpu\n      rename: nvidia.com/gpu.small\n      devices: [1]\n      replicas: 8\n")
        got = answer("--gpus", "2xa30", "-f", "-", stdin=manifest(
            *config(text), gpu_pod("small", 1, "nvidia.com/gpu.small"), gpu_pod("whole")))
        self.assertEqual(phases(got), ["Running"] * 2)
        self.assertEqual(allocation(got, 0)["envs"]["NVIDIA_VISIBLE_DEVICES"], got["gpus"][1]["uuid"])
        self.assertIn("gpu.small", allocation(got, 0)["envs"]["CUDA_MPS_PIPE_DIRECTORY"])

    def test_what_a_configuration_says_in_vain_is_noted(self):
        done = run("--gpus", "t4", "-f", "-", stdin=manifest(*config(
            "version: v1\nsharing:\n  timeSlicing:\n    resources:\n"
            "    - name: nvidia.com/gpus\n      replicas: 4\n")))
        self.assertEqual(done.returncode, 0)
        self.assertIn("note: ConfigMap cfg, key any:5:7: nothing is named nvidia.com/gpus", done.stderr)

    def test_yaml_is_the_same_answer(self):
        done = run("-o", "yaml", "--gpus", "t4")
        self.assertEqual(done.returncode, 0)
        self.assertIn('nvidia.com/gpu: "1"', done.stdout)

    def test_text_names_each_refusal(self):
        done = run("--gpus", "t4", "-f", "-", stdin=manifest(gpu_pod("a"), gpu_pod("b")))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"b: Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu\.\n")
        self.assertNotIn("\x1b", done.stdout)
        self.assertTrue(done.stdout.isascii())

    def test_a_reader_that_goes_away_leaves_nothing_behind(self):
        env = dict(os.environ, TMPDIR=TMP)
        done = subprocess.run(f"{TRANCHE} try --gpus 16xh100-80gb -o json | head -c 10", shell=True, env=env,
                              capture_output=True, timeout=60)
        self.assertEqual(len(done.stdout), 10)
        for _ in range(100):
            if not os.listdir(TMP):
                break
            time.sleep(0.05)
        self.assertEqual(os.listdir(TMP), [])

    def test_serve_stays_until_it_is_told_to_go(self):
        env = dict(os.environ, TMPDIR=TMP)
        child = subprocess.Popen([TRANCHE, "try", "--gpus", "t4", "--serve"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=env)
        line = ""
        while "TRANCHE_SIM=" not in line:
            line = child.stderr.readline()
            self.assertTrue(line)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, 0)
        self.assertEqual(os.listdir(TMP), [])

    def test_serve_says_what_changes_in_the_eyes_of_the_kubelet(self):
        env = dict(os.environ, TMPDIR=TMP)
        child = subprocess.Popen([TRANCHE, "try", "--gpus", "2xt4", "--serve"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True, env=env)
        line = ""
        while "TRANCHE_SIM=" not in line:
            line = child.stderr.readline()
            self.assertTrue(line)
        child.stderr.readline()
        env["TRANCHE_SIM"] = line.strip().partition("TRANCHE_SIM=")[2]
        subprocess.run([TRANCHE, "sim", "lose", "1"], env=env, check=True, timeout=20)
        self.assertEqual(child.stderr.readline(), "nvidia.com/gpu: 1 of 2 healthy\n")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, 0)

    def test_the_agent_ends_with_the_one_that_was_killed(self):
        env = dict(os.environ, TMPDIR=TMP)
        child = subprocess.Popen([TRANCHE, "try", "--gpus", "t4", "--serve"], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True, env=env)
        line = ""
        while "TRANCHE_SIM=" not in line:
            line = child.stderr.readline()
            self.assertTrue(line)
        home = os.path.dirname(line.strip().partition("TRANCHE_SIM=")[2])
        child.kill()
        child.communicate(timeout=20)
        socket = os.path.join(home, "plugins", "nvidia-gpu.sock")
        for _ in range(200):
            if not os.path.exists(socket):
                break
            time.sleep(0.05)
        self.assertFalse(os.path.exists(socket))
        shutil.rmtree(home)

    def test_a_signal_at_any_time_leaves_nothing_behind(self):
        env = dict(os.environ, TMPDIR=TMP)

        def hear():
            """Whoever runs these tests in the background had signals ignored."""
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for delay in (0.01, 0.03, 0.09):
                child = subprocess.Popen([TRANCHE, "try", "--gpus", "16xh100-80gb", "--serve"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env,
                                         preexec_fn=hear)
                time.sleep(delay)
                child.send_signal(number)
                self.assertIn(child.wait(timeout=20), (0, 130, -number))
                self.assertEqual(os.listdir(TMP), [])

    def test_without_a_standard_output_it_says_so(self):
        for where, sentence in ((">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")):
            for args, status in (("try --gpus t4", 2), ("try --gpus t4 -o json", 2), ("try --help", 1),
                                 ("--version", 1), ("sim --help", 1)):
                with self.subTest(args=args, where=where):
                    done = subprocess.run(f"{TRANCHE} {args} {where}", shell=True, text=True, timeout=60,
                                          stderr=subprocess.PIPE, env=dict(os.environ, TMPDIR=TMP))
                    self.assertEqual(done.returncode, status)
                    self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                    self.assertIn(sentence, done.stderr)
                    self.assertEqual(os.listdir(TMP), [])

    def test_each_config_map_that_is_not_in_use_is_named(self):
        maps, policy = config(shared_gpus())
        others = [dict(maps, metadata={"name": name}) for name in ("one", "two")]
        done = run("--gpus", "t4", "-f", "-", stdin=manifest(maps, policy, *others))
        self.assertEqual(done.returncode, 0)
        policy["spec"]["devicePlugin"]["config"]["name"] = ""
        done = run("--gpus", "t4", "-f", "-", stdin=manifest(maps, policy, *others))
        for name in ("cfg", "one", "two"):
            self.assertIn(f"ConfigMap {name} is not in use", done.stderr)


BAD = [
    (["--gpus", "h100-80gbb"], None, "did you mean"),
    (["--gpus", "0xt4"], None, "0xt4"),
    (["--gpus", "17xt4"], None, "16"),
    (["--gpus", ""], None, ""),
    (["--nonsense"], None, "unknown option --nonsense"),
    (["word"], None, "unexpected word"),
    (["-f"], None, "-f wants a value"),
    (["-f", "/nonexistent.yaml"], None, "/nonexistent.yaml"),
    (["-f", ""], None, "the name of a file"),
    (["-o", "xml"], None, "xml"),
    (["--label", "novalue"], None, "want KEY=VALUE"),
    (["--taint", "a:Maybe"], None, "NoSchedule"),
    (["--mig-strategy", "some"], None, "want none, single or mixed"),
    (["--gpus", "t4", "--mig", "all-1g.10gb"], None, "no GPU of this node can do MIG"),
    (["--gpus", "h100-80gb", "--mig", "all-9g.90gb"], None, "all-3g.40gb"),
    (["-f", "-"], "a: [1, 2\n", "<stdin>:"),
    (["-f", "-"], "a: &a [*a]\n", "<stdin>:"),
    (["-f", "-"], "x\0y", "<stdin>"),
    (["-f", "-"], "[" * 100000, "<stdin>"),
    (["-f", "-"], "a: &a [" + ",".join(["x"] * 500) + "]\n" +
     "\n".join(f"b{i}: &b{i} [" + ",".join([f"*{'a' if i == 0 else 'b%d' % (i - 1)}"] * 10) + "]" for i in range(9)), "<stdin>"),
    (["-f", "-"], "kind: Pod\n", "apiVersion is missing"),
    (["-f", "-"], manifest(gpu_pod("p", "1.5")), "must be an integer"),
    (["-f", "-"], manifest(*config("version: v2\n")), "unknown version: v2"),
    (["-f", "-"], manifest(*config(shared_gpus(replicas=1))), "number of replicas must be >= 2"),
    (["-f", "-"], manifest(*config(shared_gpus("mps"), mig={"strategy": "mixed"})),
     "using --mig-strategy=mixed is not supported with MPS"),
    (["--gpus", "h100-80gb", "--mig", "all-1g.10gb", "-f", "-"],
     manifest(*config(shared_gpus("mps"), mig={"strategy": "single"})),
     "the device plugin refuses"),
    (["-f", "-"], manifest(config("")[1]), "names ConfigMap cfg"),
]


class BadInput(unittest.TestCase):
    def test_gets_one_sentence_and_exit_status_2(self):
        for args, stdin, sentence in BAD:
            with self.subTest(args=args, stdin=(stdin or "")[:60]):
                done = run(*args, stdin=stdin)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(sentence, done.stderr)
                self.assertEqual(done.stdout, "")
                lines = [x for x in done.stderr.splitlines() if not x.startswith("note: ")]
                self.assertEqual(len(lines), 1, done.stderr)
                self.assertTrue(lines[0].startswith("tranche try: "))
                self.assertNotIn(TMP, lines[0])

    def test_a_file_of_a_hundred_megabytes_is_refused_without_reading_it_all(self):
        with tempfile.NamedTemporaryFile(suffix=".yaml", dir="/tmp") as big:
            big.truncate(100 << 20)
            done = run("-f", big.name)
        self.assertEqual(done.returncode, 2)
        self.assertIn("4194304", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], verbosity=1)
