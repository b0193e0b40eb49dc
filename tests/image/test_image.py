#!/usr/bin/env python3
"""The product's images and those of the cluster tests, read back by umoci and started without a runtime.

usage: test_image.py BUILD-FOLDER SOURCE-ROOT NAME…

NAME are the programs that tranche answers to. Exit 77 without umoci, a static busybox or root.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

if len(sys.argv) < 4:
    sys.exit(__doc__)
BUILD, SOURCE, NAMES = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
sys.path.insert(0, str(SOURCE / "tests" / "cluster"))

from images.build import Missing, build_all  # noqa: E402

MAX_BYTES = 25_000_000
LIBC = ("ld-linux", "libc.so", "libdl.so", "libm.so", "libpthread.so", "librt.so")
TMP = Path(tempfile.mkdtemp(prefix="tranche-image-test-"))


def image_tool(*args):
    return subprocess.run([SOURCE / "tools" / "image", *args], capture_output=True, text=True, timeout=120)


def unpack(layout, name):
    bundle = TMP / f"bundle-{name.split('/')[-1].split(':')[0]}"
    done = subprocess.run(["umoci", "unpack", "--image", f"{layout}:{name}", bundle], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return bundle / "rootfs"


def command(root, *argv, **variables):
    """argv as the first process of a container with that root, without network and environment."""
    pairs = ["PATH=/usr/bin:/usr/sbin:/bin:/sbin", *(f"{name}={value}" for name, value in variables.items())]
    return ["env", "-i", *pairs, "unshare", "--mount", "--pid", "--ipc", "--net", "--fork", "--kill-child", "sh", "-c",
            'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"', str(root), *argv]


def answer(root, *argv, **variables):
    done = subprocess.run(command(root, *argv, **variables), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv} exited with {done.returncode}: {done.stderr}{done.stdout}"
    return done.stdout


def files_of(root):
    return {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def ends_when_told(test, root, *argv, ready="", **variables):
    """SIGTERM to a first process, which has no default actions, after it said `ready` on a line."""
    process = subprocess.Popen(command(root, *argv, **variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True)
    try:
        while ready and ready not in (line := process.stdout.readline()):
            test.assertTrue(line, f"{argv} ended before it said {ready}")
        deadline = time.monotonic() + 20
        while not (pid := sleeping_child(process.pid)) and time.monotonic() < deadline:
            pass
        test.assertTrue(pid, f"{argv} did not start")
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        test.assertEqual(process.wait(timeout=20), 0)
        test.assertLess(time.monotonic() - began, 5)
    finally:
        process.kill()
        process.communicate()


def sleeping_child(pid):
    """The one program of ours that a process has started, once it waits: before that it may not have
    said yet which signals it wants."""
    try:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "S" and os.readlink(f"/proc/{child}/root") != "/":
                return int(child)
    except OSError:
        pass
    return None


class ProductImage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.out = TMP / "out"
        done = image_tool(BUILD, cls.out)
        assert done.returncode == 0, done.stderr
        cls.root = unpack(cls.out / "tranche", "localhost/tranche:latest")
        cls.sim = unpack(cls.out / "tranche-sim", "localhost/tranche-sim:latest")
        cls.product, cls.twin = files_of(cls.root), files_of(cls.sim)
        (cls.sim / "var/lib/kubelet/device-plugins").mkdir(parents=True)
        cls.config = json.loads((cls.root.parent / "config.json").read_text())["process"]

    def test_is_small(self):
        size = sum(path.stat().st_size for path in self.product.values() if not path.name.startswith(LIBC))
        self.assertLess(size, MAX_BYTES)

    def test_has_no_simulator_in_it_and_its_twin_has_nothing_but_the_simulator_more(self):
        product, twin = set(self.product), set(self.twin)
        self.assertFalse([name for name in product if "nvidia-ml" in name or "/sim/" in name])
        self.assertEqual([Path(name).name for name in twin - product], ["libnvidia-ml.so.1"])
        self.assertFalse(product - twin)

    def test_has_each_name_where_manifests_call_it(self):
        for name in NAMES:
            self.assertEqual(os.readlink(self.root / "usr/bin" / name), "tranche")
            self.assertRegex(answer(self.root, f"/usr/bin/{name}", "--version"), f"^{name} version ")
        self.assertRegex(answer(self.root, "/usr/bin/tranche", "--version"), "^tranche ")

    def test_has_every_library(self):
        loader = next((self.root / "lib64").glob("ld-*")).name
        for name in ["/usr/bin/tranche", *("/" + name for name in self.product if ".so" in name and "ld-" not in name)]:
            self.assertNotIn("not found", answer(self.root, f"/lib64/{loader}", "--list", name))

    def test_has_what_a_drivers_library_was_linked_with(self):
        for name in ("libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"):
            self.assertTrue(list(self.root.glob(f"usr/lib/*/{name}")), name)

    def test_has_the_licence_of_what_is_in_it(self):
        self.assertTrue((self.root / "usr/share/doc/tranche/copyright").exists())
        texts = "".join(path.read_text() for path in self.root.glob("usr/share/doc/*/copyright"))
        for word in ("libuv", "nghttp2", "libfyaml", "jansson", "protobuf", "GNU C Library"):
            self.assertIn(word, texts)
        for name in ("GPL-3", "LGPL-2.1"):
            self.assertTrue((self.root / "usr/share/common-licenses" / name).exists(), name)

    def test_starts_tranche(self):
        self.assertEqual(self.config["args"], ["/usr/bin/tranche"])
        self.assertEqual(self.config["user"], {"uid": 0, "gid": 0})
        self.assertIn("NVIDIA_VISIBLE_DEVICES=all", self.config["env"])

    def test_needs_root_for_no_verb_that_only_looks(self):
        (self.root / "tmp/config.yaml").write_text("version: v1\n")
        for argv in (["tranche", "check", "/tmp/config.yaml"], ["tranche", "--version"]):
            done = subprocess.run(["chroot", "--userspec=65532:65532", self.root, *argv], capture_output=True,
                                  text=True, env={"PATH": "/usr/bin:/usr/sbin"})
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_starts_and_ends_as_an_operator_starts_and_ends_the_plugin(self):
        """A script beside the programs, run by a shell, that waits with sleep, prints with cat and
        becomes the plugin, which has to be the first process then: the shell would keep SIGTERM."""
        script = self.sim / "usr/bin/entrypoint.sh"
        script.write_text("#!/bin/sh\nuntil [ -f /tmp/ready ]; do echo A=1 >/tmp/ready; sleep 0; done\ncat /tmp/ready\n"
                          "set -o allexport\n. /tmp/ready\nexec nvidia-device-plugin --kubelet-socket=\n")
        script.chmod(0o700)
        answer(self.sim, "/usr/bin/tranche", "sim", "--dir", "/tmp/operated", "create", "--gpus", "t4")
        ends_when_told(self, self.sim, "/bin/sh", "-c", "/bin/entrypoint.sh", ready=" ready ",
                       TRANCHE_SIM="/tmp/operated")

    def test_twin_offers_simulated_gpus_and_ends_when_told(self):
        answer(self.sim, "/usr/bin/tranche", "sim", "--dir", "/tmp/node", "create", "--gpus", "2xt4")
        said = answer(self.sim, "/usr/bin/tranche", "get", "gpus", "-o", "json", TRANCHE_SIM="/tmp/node")
        self.assertEqual(len(json.loads(said)["gpus"]), 2)
        ends_when_told(self, self.sim, "/usr/bin/tranche", "agent", "--kubelet-socket=", ready=" ready ",
                       TRANCHE_SIM="/tmp/node")

    def test_same_build_has_the_same_digest(self):
        again = TMP / "again"
        self.assertEqual(image_tool(BUILD, again).returncode, 0)
        for name in ("tranche.tar", "tranche-sim.tar"):
            self.assertEqual((again / name).read_bytes(), (self.out / name).read_bytes())

    def test_says_in_one_sentence_that_there_is_no_build(self):
        done = image_tool(TMP, TMP / "never")
        self.assertEqual((done.returncode, done.stderr), (1, f"image: there is no finished build in {TMP}; run `make`\n"))
        self.assertFalse((TMP / "never").exists())


class ImagesOfTheTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = TMP / "tests"
        cls.roots = {}
        for name, archive in build_all(cls.folder).items():
            layout = TMP / ("layout-" + archive.stem)
            layout.mkdir()
            subprocess.run(["tar", "-xf", archive, "-C", layout], check=True)
            cls.roots[archive.stem] = unpack(layout, name)

    def test_nothing_is_built_twice(self):
        before = {path: path.stat().st_mtime_ns for path in self.folder.iterdir()}
        build_all(self.folder)
        self.assertEqual(before, {path: path.stat().st_mtime_ns for path in self.folder.iterdir()})

    def test_what_was_lost_is_built_again_and_is_the_same(self):
        archive = self.folder / "pause.tar"
        before = archive.read_bytes()
        archive.unlink()
        build_all(self.folder)
        self.assertEqual(archive.read_bytes(), before)

    def test_pause_ends_when_told(self):
        ends_when_told(self, self.roots["pause"], "/usr/bin/pause")

    def test_busybox_is_a_shell(self):
        self.assertEqual(answer(self.roots["busybox"], "/bin/sh", "-c", "echo one two | cut -d' ' -f2"), "two\n")

    def test_workload_says_what_it_was_given(self):
        root = self.roots["gpu-workload"]
        said = json.loads(answer(root, "/usr/bin/gpu-workload"))
        self.assertEqual((said["environment"], said["devices"], said["visible"], said["gpus"]), ({}, [], [], []))
        self.assertIn("libnvidia-ml.so.1", said["library"]["error"])

        node = root / "run/tranche/sim"
        node.parent.mkdir(parents=True)
        for argv in (["create", "--gpus", "2xa100-40gb"], ["mig", "0", "3g.20gb:2"]):
            subprocess.run([f"{BUILD}/tranche", "sim", "--dir", node, *argv], check=True, capture_output=True)
        shutil.copytree(node / "root/usr/lib", root / "usr/lib", dirs_exist_ok=True, symlinks=True)
        os.mknod(root / "dev/nvidia1", 0o020666, os.makedev(195, 1))
        said = json.loads(answer(root, "/usr/bin/gpu-workload", CUDA_THING="1"))
        self.assertEqual(said["environment"], {"CUDA_THING": "1"})
        self.assertEqual([len(gpu["migDevices"]) for gpu in said["gpus"]], [2, 0])
        self.assertTrue(all(gpu["uuid"].startswith("GPU-") for gpu in said["gpus"]))
        self.assertIsNone(said["library"]["error"])
        [device] = said["devices"]
        self.assertEqual((device["path"], device["type"], device["major"], device["minor"]),
                         ("/dev/nvidia1", "character", 195, 1))
        # There is no driver behind it, and perhaps a file system that has no devices before it.
        self.assertIn(device["open"], ("ENXIO", "EACCES"))

    def test_workload_stays_until_told(self):
        ends_when_told(self, self.roots["gpu-workload"], "/usr/bin/gpu-workload", "--stay", ready="{")


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("umoci"):
        print("skipped: this needs root and umoci")
        sys.exit(77)
    try:
        build_all(TMP / "tests")
        unittest.main(argv=sys.argv[:1], verbosity=2)
    except Missing as missing:
        print(f"skipped: {missing}")
        sys.exit(77)
    finally:
        shutil.rmtree(TMP, ignore_errors=True)
