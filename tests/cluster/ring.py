"""The ring: a whole cluster, and what a test may do with it.

Everything here runs inside the ring's namespaces (host.py). README.md beside this file is the page
for those who write tests.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import host
import kube
import machine
from control import ADDRESS, SERVICE_ADDRESS, Control
from images import build as local_images
from node import Kubelet, Node
from parts import Parts
from trouble import Missing, Trouble

T = TypeVar("T")
Manifest = str | dict[str, Any] | list[dict[str, Any]]
HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
BUSYBOX = local_images.name_of("busybox")
WORKLOAD = local_images.name_of("gpu-workload")


class Ring:
    """One running cluster. Tests get it as their argument."""

    def __init__(self, parts: Parts, gates: dict[str, bool], n_nodes: int = 1) -> None:
        self.parts = parts
        self.folder = host.scratch()
        self.logs = self.folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        memory = self.folder / "memory"
        memory.mkdir()
        machine.run("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", str(memory))
        names = [f"node-{number}" for number in range(n_nodes)]
        self.control = Control(parts, self.folder, self.logs, names)
        self.control.gates = gates
        # They may lie in a /tmp or on a disk that is not the root's, and the tree changes while it is
        # worked on, which an overlay would not like.
        shown = [SOURCE, *(path for path in parts.folders if path.parts[1] != "usr")]
        self.nodes = [Node(number, parts, self.control, memory, shown, self.logs)
                      for number in range(n_nodes)]
        self.api = self.control.api
        self.applied: list[str] = []  # manifests to delete, newest last

    # --- power ---

    def up(self) -> None:
        """Everything on for the first time: network, servers, images. Returns with Ready nodes."""
        lay_network(self.nodes)
        self._start()
        for archive in images().values():
            self.load_image(archive)
        self._settle()

    def down(self) -> None:
        """Everything off. What is left then are files and empty cgroups, which host.py removes."""
        for node in self.nodes:
            node.machine.stop()
        self.control.stop()

    def reboot(self) -> None:
        """As if the power had failed on every machine: all containers, both sides of every socket and
        /run are gone; /var, /etc and what the API server knew are kept. Returns with Ready nodes."""
        for node in self.nodes:
            node.machine.stop()
        for server in self.control.servers:
            server.kill()
        self._start()
        self._settle()

    def _start(self) -> None:
        self.control.start()
        for node in self.nodes:
            node.start()

    def _settle(self) -> None:
        self.control.wait()
        for node in self.nodes:
            node.kubelet.wait()
            self.wait_for(f"{node.name} to be Ready", lambda: self.node_is_ready(node.name), seconds=90)
        self.wait_for("the default service account",
                      lambda: self.api.find("/api/v1/namespaces/default/serviceaccounts/default"))

    # --- the one node that most tests mean ---

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def kubelet(self) -> Kubelet:
        return self.node.kubelet

    def node_exec(self, argv: list[str] | str, check: bool = True, seconds: float = 60,
                  input: str | None = None) -> str:
        """Runs a command on the node (a string: by its shell) and returns what it printed."""
        words = ["sh", "-c", argv] if isinstance(argv, str) else argv
        return self.node.machine.run(words, seconds=seconds, input=input, check=check).stdout

    def load_image(self, image: Path | bytes) -> None:
        """Gives every node an image: an OCI layout, as a folder or packed with tar. Its name is the
        annotation io.containerd.image.name in index.json and has to say localhost/…"""
        if isinstance(image, Path):
            image = pack(image) if image.is_dir() else image.read_bytes()
        for node in self.nodes:
            name = f"lib/image-{time.monotonic_ns()}.tar"
            (node.machine.var / name).write_bytes(image)
            node.ctr("images", "import", f"/var/{name}")
            (node.machine.var / name).unlink()

    # --- the cluster ---

    def kubectl(self, *argv: str, input: str | None = None, check: bool = True, seconds: float = 60) -> str:
        """What kubectl prints, run as the administrator."""
        done = subprocess.run([self.parts["kubectl"], f"--kubeconfig={self.kubeconfig}", *argv], input=input,
                              capture_output=True, text=True, timeout=seconds)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(argv)} exited with {done.returncode}: "
                                 f"{done.stderr.strip()}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    @property
    def kubeconfig(self) -> Path:
        return self.control.keys.kubeconfig("admin")

    def apply(self, manifest: Manifest) -> None:
        """kubectl apply of YAML, of an object or of a list of them. Deleted after the test."""
        text = as_text(manifest)
        self.applied.append(text)
        self.kubectl("apply", "-f", "-", input=text)

    def delete(self, manifest: Manifest) -> None:
        """Deletes what a manifest names and waits until it is gone; a pod's containers have a second."""
        text = as_text(manifest)
        self.kubectl("delete", "-f", "-", "--ignore-not-found", "--grace-period=1", "--timeout=60s",
                     input=text)
        if text in self.applied:
            self.applied.remove(text)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """What is applied in this block is deleted at its end, newest first, and daemons end. Not so
        when it was interrupted: then the ring goes as a whole."""
        n_applied = len(self.applied)
        n_daemons = [len(node.daemons) for node in self.nodes]
        try:
            yield
        except Exception:
            self._give_back(n_applied, n_daemons)
            raise
        self._give_back(n_applied, n_daemons)

    def _give_back(self, n_applied: int, n_daemons: list[int]) -> None:
        for text in reversed(self.applied[n_applied:]):
            self.delete(text)
        for node, count in zip(self.nodes, n_daemons):
            while len(node.daemons) > count:
                node.daemons.pop().stop()

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.api.find(f"/api/v1/namespaces/{namespace}/pods/{name}")
        return found

    def pods(self, namespace: str = "default") -> list[dict[str, Any]]:
        return list(self.api.get(f"/api/v1/namespaces/{namespace}/pods")["items"])

    def node_object(self, name: str = "node-0") -> dict[str, Any]:
        return dict(self.api.get(f"/api/v1/nodes/{name}"))

    def node_is_ready(self, name: str = "node-0") -> bool:
        found = self.api.find(f"/api/v1/nodes/{name}") or {}
        conditions = found.get("status", {}).get("conditions", [])
        tainted = found.get("spec", {}).get("taints")
        return not tainted and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def wait_for(self, what: str, probe: Callable[[], T | None], seconds: float = 60) -> T:
        """Asks the probe until its answer is neither None nor False, and returns that. After the
        deadline: AssertionError with `what`, a noun phrase."""
        return kube.wait_for(what, probe, seconds)

    def wait_pod(self, name: str, phase: str = "Running", namespace: str = "default",
                 seconds: float = 60) -> dict[str, Any]:
        """Waits for a pod's phase and returns the pod. A phase it cannot leave ends the wait."""
        def reached() -> dict[str, Any] | None:
            pod = self.pod(name, namespace) or {}
            status = pod.get("status", {})
            if status.get("phase") == phase:
                return pod
            if status.get("phase") in ("Failed", "Succeeded"):
                raise Hopeless(f"{name} is {status['phase']} and was to be {phase}: "
                               f"{status.get('reason', '')} {status.get('message', '')}")
            raise AssertionError(f"it is {status.get('phase', 'absent')}, {explain(status)}")
        try:
            return kube.wait_for(f"pod {name} to be {phase}", reached, seconds)
        except Hopeless as hopeless:
            raise AssertionError(str(hopeless)) from None

    def pod_logs(self, name: str, namespace: str = "default", container: str | None = None) -> str:
        return self.kubectl("logs", "-n", namespace, name, *(["-c", container] if container else []))

    def pod_exec(self, name: str, argv: list[str], namespace: str = "default") -> str:
        return self.kubectl("exec", "-n", namespace, name, "--", *argv)

    # --- when something went wrong ---

    def keep_logs(self, to: Path) -> None:
        """Copies every log and writes down what the API server and containerd think."""
        shutil.copytree(self.logs, to, dirs_exist_ok=True)
        pages = {"objects.txt": ["get", "nodes,pods,daemonsets,deployments,events", "-A", "-o", "wide"],
                 "pods.yaml": ["get", "pods,nodes", "-A", "-o", "yaml"]}
        for name, argv in pages.items():
            try:
                (to / name).write_text(self.kubectl(*argv, "--request-timeout=5s", check=False, seconds=20))
            except subprocess.TimeoutExpired:
                (to / name).write_text("the API server does not answer\n")
        for node in self.nodes:
            pods = node.machine.var / "log" / "pods"
            if pods.exists():
                shutil.copytree(pods, to / f"{node.name}-pods", dirs_exist_ok=True,
                                ignore_dangling_symlinks=True)


class Hopeless(Exception):
    """A wait that cannot end well."""


def lay_network(nodes: list[Node]) -> None:
    """The switch that all machines hang on; the control plane has its address."""
    run = machine.run
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", f"{SERVICE_ADDRESS}/32", "dev", "lo")
    run("ip", "link", "add", "switch", "type", "bridge")
    run("ip", "address", "add", f"{ADDRESS}/24", "dev", "switch")
    run("ip", "link", "set", "switch", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for node in nodes:
        run("ip", "route", "add", node.pods_network, "via", node.machine.address)


def images() -> dict[str, Path]:
    """The archives of the tests' own images, made when they are not there yet."""
    try:
        return local_images.build_all(SOURCE / "build" / "cluster-images")
    except local_images.Missing as missing:
        raise Missing(str(missing)) from None
    except local_images.Trouble as trouble:
        raise Trouble(str(trouble)) from None


def pack(layout: Path) -> bytes:
    """An OCI layout in a folder as the tar file that containerd imports."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as stream:
        stream.add(layout, arcname=".")
    return out.getvalue()


def as_text(manifest: Manifest) -> str:
    if isinstance(manifest, str):
        return manifest
    if isinstance(manifest, list):
        manifest = {"apiVersion": "v1", "kind": "List", "items": manifest}
    return json.dumps(manifest)


def explain(status: dict[str, Any]) -> str:
    """Why a pod is not running: its containers' reasons, or its own conditions."""
    reasons = [f"{c['name']} {kind['reason']}: {kind.get('message', '')}".strip(": ")
               for c in status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
               for kind in c.get("state", {}).values() if "reason" in kind]
    reasons += [f"{c['reason']}: {c.get('message', '')}" for c in status.get("conditions", [])
                if c["status"] == "False" and "reason" in c]
    return "; ".join(reasons) or "and says no reason"
