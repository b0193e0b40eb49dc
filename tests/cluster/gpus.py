"""Simulated GPUs on the ring's node, the agent that offers them, and pods that say what they got.

A Setting is all that decides what a node offers. start() makes it so and stop() is what the ring does
with everything that a test applies; the next start() waits until the last agent has left.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images import build as images
from ring import WORKLOAD, Ring
from trouble import Skip, Trouble

SOURCE = Path(__file__).resolve().parent.parent.parent
TRANCHE = SOURCE / "build" / "release" / "tranche"
ARCHIVE = SOURCE / "build" / "image" / "tranche.tar"
MANIFEST = Path(__file__).resolve().parent / "manifests" / "agent-sim.yaml"
SHARED = Path(os.environ.get("TRANCHE_SHARED") or SOURCE.parent / "shared")
SIM = "/var/lib/tranche-sim"  # on the node; /var is what a reboot keeps
SIM_ROOT = f"{SIM}/root"
MPS_ROOT = f"{SIM_ROOT}/mps"
NAMESPACE = "tranche"
GPU = "nvidia.com/gpu"
PLUGIN_SOCKETS = "/var/lib/kubelet/device-plugins"
SAMPLES = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda11.7.1-ubuntu20.04", "docker.io/nvidia/samples:vectoradd-cuda11.2.1"

Object = dict[str, Any]
loaded: list[int] = []  # rings that have our images


@dataclass(frozen=True)
class Setting:
    gpus: str  # as `tranche sim create --gpus` takes it
    config: str  # the device plugin's configuration file
    mig: str = ""  # the name of a MIG configuration
    mps: str = ""  # the resource whose control daemon runs
    percent: int = 10  # … and what it says of its clients' share


def plugin_config(strategy: str = "none", lists: str = "envvar", specs: bool = False, sharing: str = "") -> str:
    return (f"version: v1\nflags:\n  migStrategy: {strategy}\n  plugin:\n    deviceListStrategy: [{lists}]\n"
            f"    passDeviceSpecs: {str(specs).lower()}\n{sharing}")


def time_slicing(replicas: int, resource: str = GPU, extra: str = "") -> str:
    return (f"sharing:\n  timeSlicing:\n{extra}    resources:\n"
            f"    - name: {resource}\n      replicas: {replicas}\n")


def case(name: str) -> str:
    """A file of the users' own, unchanged."""
    path = SHARED / "cases" / name
    if not path.exists():
        raise Skip(f"there is no {path}; set TRANCHE_SHARED")
    return path.read_text()


def config_in(config_map: str) -> str:
    """The one configuration in a ConfigMap's YAML: what stands, indented, below `  KEY: |-`."""
    _, block = re.split(r"\|-?\n", config_map, maxsplit=1)
    return "".join(line.removeprefix("    ") for line in block.splitlines(keepends=True))


# --- the node ---


def start(ring: Ring, setting: Setting) -> None:
    """Returns when the agent's pod runs and its resources are in the node's status."""
    load_images(ring)
    wait_until_nothing_is_offered(ring)
    make_gpus(ring, setting)
    ring.kubectl("create", "namespace", NAMESPACE, check=False)
    ring.apply([config_map(setting)])
    ring.apply(daemon_set())
    ring.wait_for("the node to offer GPUs", lambda: any(offered(ring).values()))


def load_images(ring: Ring) -> None:
    if id(ring) in loaded:
        return
    if not ARCHIVE.exists() or not TRANCHE.exists():
        raise Trouble(f"{ARCHIVE} is missing; run `make image`")
    ring.load_image(ARCHIVE)
    for name in SAMPLES:
        ring.load_image(sample_image(name))
    loaded.append(id(ring))


def wait_until_nothing_is_offered(ring: Ring) -> None:
    clear_pods(ring)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    ring.wait_for("the last agent to leave", lambda: not ring.api.get(path)["items"])
    ring.wait_for("the kubelet to notice", lambda: not any(offered(ring).values()))


def clear_pods(ring: Ring) -> None:
    """A Deployment that is deleted leaves its pods to the garbage collector, and a bash that is the first
    process of a container does not heed SIGTERM: half a minute, in which they keep their devices."""
    if not ring.pods():
        return
    ring.kubectl("delete", "pods", "--all", "--wait=false")
    for pod in ring.pods():
        for status in pod["status"].get("containerStatuses", []):
            name = status.get("containerID", "").removeprefix("containerd://")
            ring.node.ctr("tasks", "kill", "-s", "SIGKILL", name, check=False)
    ring.wait_for("the last test's pods to be gone", lambda: not ring.pods())


def make_gpus(ring: Ring, setting: Setting) -> None:
    node_tranche(ring, "sim", "create", "--force", "--gpus", setting.gpus)
    if setting.mig:
        node_tranche(ring, "mig", "apply", setting.mig, "--take-from-pods")
    # NVIDIA's control program is asked through a pipe; the simulated one is the product itself.
    ring.node_exec(f"mkdir -p {SIM}/bin {MPS_ROOT}/shm && "
                   f"ln -sfn /usr/bin/tranche {SIM}/bin/nvidia-cuda-mps-control")
    if setting.mps:
        pipe = f"{MPS_ROOT}/{setting.mps}/pipe"
        ring.node_exec(f"mkdir -p {pipe} && echo {setting.percent}.0 > {pipe}/control")


def show_kubelet_to_simulated_root(ring: Ring) -> None:
    """Below the simulated root `tranche mig` looks for the kubelet's pod resources, too."""
    ring.node_exec(f"mkdir -p {SIM_ROOT}/var/lib/kubelet && "
                   f"ln -sfn /var/lib/kubelet/pod-resources {SIM_ROOT}/var/lib/kubelet/pod-resources")


def node_tranche(ring: Ring, *argv: str) -> str:
    """The program on the node itself, beside the agent's pod."""
    return ring.node_exec(["env", f"TRANCHE_SIM={SIM}", str(TRANCHE), *argv])


def config_map(setting: Setting) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tranche", "namespace": NAMESPACE},
            "data": {"config.yaml": setting.config}}


def daemon_set() -> str:
    """The manifest's own, on this node's simulated GPUs and with the simulated MPS."""
    text = MANIFEST.read_text().replace("/run/tranche/sim", SIM)
    found = [part for part in text.split("\n---\n") if "kind: DaemonSet" in part]
    assert len(found) == 1, f"{MANIFEST} has {len(found)} DaemonSets"
    env = "          env:\n"
    assert found[0].count(env) == 1
    more = {"PATH": f"{SIM}/bin:/usr/bin", "MPS_ROOT": MPS_ROOT, "TRANCHE_MPS_ROOT": MPS_ROOT}
    lines = "".join(f"            - {{name: {name}, value: {value}}}\n" for name, value in more.items())
    return found[0].replace(env, env + lines)


def offered(ring: Ring) -> dict[str, int]:
    """How much of each GPU resource the node would give away."""
    allocatable = ring.node_object()["status"].get("allocatable", {})
    return {name: int(count) for name, count in allocatable.items() if name.startswith("nvidia.com/")}


def wait_offered(ring: Ring, wanted: dict[str, int], seconds: float = 60) -> None:
    def same() -> bool:
        now = {name: count for name, count in offered(ring).items() if count}
        assert now == wanted, f"it offers {now}"
        return True
    ring.wait_for(f"the node to offer {wanted}", same, seconds)


def indices(ring: Ring) -> dict[str, int]:
    """UUID → index, which is the minor number as well."""
    shown = json.loads(node_tranche(ring, "sim", "show", "-o", "json"))
    return {gpu["uuid"]: gpu["index"] for gpu in shown["gpus"]}


def agent_pod(ring: Ring) -> Object | None:
    items = ring.api.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return items[0] if items else None


# --- pods ---


def workload(name: str, limits: Object | None = None, more: list[tuple[str, Object]] | None = None,
             init: list[tuple[str, Object]] | None = None, node: str = "") -> Object:
    """A pod of workloads that stay; its first container is called as the pod."""
    def container(called: str, wants: Object, args: list[str]) -> Object:
        return {"name": called, "image": WORKLOAD, "imagePullPolicy": "Never", "args": args,
                "resources": {"limits": wants}}

    spec: Object = {
        "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1, "restartPolicy": "Always",
        "containers": [container(called, wants, ["--stay"])
                       for called, wants in [(name, limits or {GPU: 1}), *(more or [])]],
    }
    if init:
        spec["initContainers"] = [container(called, wants, []) for called, wants in init]
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def report(ring: Ring, pod: str, container: str = "") -> Object:
    """What a workload says it was given."""
    def said() -> Object | None:
        text = ring.pod_logs(pod, container=container or pod)
        return json.loads(text.splitlines()[0]) if text.strip() else None
    return ring.wait_for(f"{pod} to say what it was given", said)


def visible(ring: Ring, pod: str, container: str = "") -> list[str]:
    return str(report(ring, pod, container)["environment"]["NVIDIA_VISIBLE_DEVICES"]).split(",")


def sample_image(name: str) -> Path:
    """NVIDIA's sample under NVIDIA's name: bash, and a vectorAdd that says what it was given and takes
    its time, since the users' own YAML runs it in an endless loop."""
    container = images.container
    tree = container.Tree()
    container.add_skeleton(tree)
    images.make_workload(tree)
    images.make_busybox(tree)
    bash = Path("/bin/bash").resolve()
    libraries, _ = container.closure(bash)
    tree.file("/usr/bin/bash", bash.read_bytes(), 0o755)
    for called, path in libraries.items():
        container.add_library(tree, called, path)
    tree.file("/cuda-samples/vectorAdd", "#!/bin/bash\ngpu-workload && exec sleep 5\n", 0o755)
    archive = SOURCE / "build" / "cluster-images" / f"{name.split(':')[-1]}.tar"
    config = {"Entrypoint": ["/usr/bin/gpu-workload"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/"}
    container.make_image((name,), [tree], config).write_archive(archive)
    return archive
