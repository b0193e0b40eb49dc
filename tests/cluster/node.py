"""A node: a machine with containerd and a kubelet, and what they are told."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host
from control import Control
from images.build import name_of
from machine import Machine
from parts import Parts
from server import Server

PAUSE = name_of("pause")
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


class Node:
    """One node of the ring, number 0 and up. What tests touch: kubelet, containerd, machine."""

    def __init__(self, number: int, parts: Parts, control: Control, memory: Path, shown: list[Path],
                 logs: Path) -> None:
        self.number, self.parts, self.control = number, parts, control
        self.name = f"node-{number}"
        self.machine = Machine(self.name, f"10.89.0.{10 + number}", memory, logs / f"{self.name}.log", shown)
        self.containerd = Server("containerd", self._containerd_argv(),
                                 logs / f"{self.name}-containerd.log", ready=self._containerd_answers,
                                 machine=self.machine)
        self.kubelet = Kubelet(self, logs / f"{self.name}-kubelet.log")
        self.logs = logs
        self.daemons: list[Server] = []  # of the test that runs now

    @property
    def pods_network(self) -> str:
        return f"10.244.{self.number}.0/24"

    def start(self) -> None:
        """Switches the machine on and starts both. Returns when containerd serves."""
        self.machine.start()
        self.write("/etc/containerd/config.toml", containerd_config(self.parts))
        self.write("/etc/cni/net.d/10-pods.conflist", json.dumps(self._cni(), indent=2))
        self.write("/etc/kubernetes/kubelet.kubeconfig",
                   self.control.keys.kubeconfig(f"system:node:{self.name}").read_text())
        self.write("/etc/kubernetes/ca.crt", self.control.keys.authority.read_text())
        self.containerd.start()
        self.containerd.wait()
        self.kubelet.start()

    @property
    def var(self) -> Path:
        """The node's /var, as the ring sees it."""
        return self.machine.var

    def start_daemon(self, name: str, argv: list[str],
                     ready: Callable[[], bool] = lambda: True) -> Server:
        """A program of a test's own on the node, which is ended after the test or the file that
        started it. Waits until ready says yes. Its log is kept with the others."""
        daemon = Server(name, argv, self.logs / f"{self.name}-{name}.log", ready, self.machine)
        daemon.start()
        self.daemons.append(daemon)
        daemon.wait()
        return daemon

    def write(self, path: str, text: str) -> None:
        """Writes a file on the node, with its folders."""
        self.machine.run(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "write", path], input=text)

    def _containerd_argv(self) -> list[str]:
        # Its shims are looked for beside it only when PATH says so.
        folders = ":".join(map(str, self.parts.folders))
        return ["env", f"PATH={folders}:/usr/sbin:/usr/bin:/sbin:/bin", str(self.parts["containerd"])]

    def _containerd_answers(self) -> bool:
        return self.machine.reaches(CONTAINERD_SOCKET)

    def ctr(self, *argv: str, input: str | None = None, check: bool = True) -> Any:
        return self.machine.run([str(self.parts["ctr"]), "-n", "k8s.io", *argv], input=input, check=check)

    def _cni(self) -> dict[str, object]:
        bridge = {"type": "bridge", "bridge": "pods", "isGateway": True,
                  "ipam": {"type": "host-local", "ranges": [[{"subnet": self.pods_network}]],
                           "routes": [{"dst": "0.0.0.0/0"}]}}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


class Kubelet(Server):
    """The kubelet, which can be started anew with other settings."""

    def __init__(self, node: Node, log: Path) -> None:
        self.node = node
        self.settings: dict[str, Any] = {}  # fields of KubeletConfiguration that replace ours
        self.heartbeat: str | None = None  # of the node object when it was last started
        super().__init__("kubelet", [], log, ready=self._serves, machine=node.machine)

    def start(self) -> None:
        """The API server knows the last sign of life of the kubelet before this one."""
        self.heartbeat = self._heartbeat()
        self.node.write("/etc/kubernetes/kubelet.json", json.dumps(self._config(), indent=2))
        self.argv = [str(self.node.parts["kubelet"]), "--config=/etc/kubernetes/kubelet.json",
                     "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
                     f"--hostname-override={self.node.name}",
                     f"--node-ip={self.node.machine.address}", "--v=2"]
        super().start()

    def restart(self, settings: dict[str, Any] | None = None, number: int | None = None) -> None:
        """Ends it (SIGTERM, or the signal given) and starts it again; returns when it has told the
        API server of its node. New settings stay until the next restart that names some; {} goes back
        to the ring's own."""
        self.stop(*([number] if number else []))
        if settings is not None:
            self.settings = settings
        self.start()
        self.wait()

    def _serves(self) -> bool:
        return self._heartbeat() not in (None, self.heartbeat)

    def _heartbeat(self) -> str | None:
        """When the node last told its state. It has a resolution of a second and is good for one
        question: is it another one?"""
        try:
            found = self.node.control.api.find(f"/api/v1/nodes/{self.node.name}") or {}
        except (OSError, http.client.HTTPException):
            return None
        for condition in found.get("status", {}).get("conditions", []):
            if condition["type"] == "Ready":
                return str(condition["lastHeartbeatTime"])
        return None

    def _config(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                               "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"}},
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "failSwapOn": False,
            "resolvConf": "",  # there is no name server
            # The disk is the developer's: that it is nearly full is no reason to evict a test.
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%",
                             "nodefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100,
            # What a node offers reaches the API server with its status; ten seconds, the default,
            # would be most of each test.
            "nodeStatusUpdateFrequency": "1s",
            "featureGates": self.node.control.gates,
        } | self.settings


def containerd_config(parts: Parts) -> str:
    """Without CAP_SYS_RESOURCE nobody may lower an oom_score_adj, and sandboxes would die trying."""
    restrict = str(not host.has_capability(host.CAP_SYS_RESOURCE)).lower()
    # Version 2 of the file, which containerd 1.7 reads and 2.x understands.
    return f"""\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = {restrict}
  enable_cdi = true
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{parts.cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{parts["runc"]}"
        SystemdCgroup = false
"""
