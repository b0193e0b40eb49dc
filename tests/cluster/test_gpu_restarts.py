"""What is running goes on, and keeps what it has, whoever else ends and comes again."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import gpus
import podresources
from gpus import GPU, Setting, workload
from ring import Ring
from server import Server
from trouble import say

SETTING = Setting("4xt4", gpus.plugin_config(lists="envvar", specs=True))
ALL = 4
MAX_SECONDS = 2.0  # from the agent's start, or the kubelet's, to the node's right capacity
BOOT_CLOCK = time.CLOCK_BOOTTIME


def set_up(ring: Ring) -> None:
    gpus.start(ring, SETTING)
    gpus.wait_offered(ring, {GPU: ALL})


def test_a_restarted_kubelet_finds_the_agent_and_every_pod_as_it_was(ring: Ring) -> None:
    pods = two_pods(ring)
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = state(ring, pods)
        ring.kubelet.restart(number=number)
        took = seconds_until_known(ring)
        say(f"      {took:.2f} s from the new kubelet's socket ({number.name}) until it knew all devices")
        assert took < MAX_SECONDS
        gpus.wait_offered(ring, {GPU: ALL})
        ring.wait_for("the kubelet to know its pods", lambda: set(pods) <= set(podresources.holders(ring)) or None)
        assert state(ring, pods) == before
    the_last_device_goes_once(ring, pods)


def test_a_killed_agent_comes_again_and_no_pod_notices(ring: Ring) -> None:
    pods = two_pods(ring)
    before = state(ring, pods)
    old = agent_process()
    os.kill(old, signal.SIGKILL)
    new = ring.wait_for("a new agent", lambda: agent_process(besides=old))
    took = seconds_until_offered(ring, started(new))
    say(f"      {took:.2f} s from the agent's start to the right capacity")
    assert took < MAX_SECONDS
    assert state(ring, pods) == before
    the_last_device_goes_once(ring, pods)


def test_a_plugin_whose_socket_is_taken_away_is_soon_asked_again(ring: Ring) -> None:
    pods = two_pods(ring)
    before = state(ring, pods)
    ring.node_exec(f"rm {gpus.PLUGIN_SOCKETS}/nvidia-gpu.sock")
    ring.wait_for("the socket to come again", lambda: "nvidia-gpu.sock" in ring.node_exec(f"ls {gpus.PLUGIN_SOCKETS}"))
    ring.wait_for("a second registration", lambda: registrations(ring) >= 2 or None)
    the_last_device_goes_once(ring, pods)
    assert state(ring, pods) == before


def test_a_second_agent_takes_over_when_the_first_one_ends(ring: Ring) -> None:
    """The kubelet then drops the newest registration with the oldest, and has to be told again."""
    pods = two_pods(ring)
    before = state(ring, pods)
    first = agent_process()
    n = registrations(ring)
    second = agent_on_node(ring, "second")
    ring.wait_for("the second agent's registration", lambda: registrations(ring) > n or None)
    ring.kubectl("delete", "daemonset", "-n", gpus.NAMESPACE, "tranche")
    ring.wait_for("the first agent's end", lambda: not Path(f"/proc/{first}").exists())
    ring.wait_for("the second agent to be asked once more", lambda: registrations(ring) > n + 1 or None)
    gpus.wait_offered(ring, {GPU: ALL})
    the_last_device_goes_once(ring, pods)
    assert state(ring, pods) == before
    second.stop()
    ring.wait_for("the kubelet to notice", lambda: not any(gpus.offered(ring).values()))
    ring.kubectl("apply", "-f", "-", input=gpus.daemon_set())  # it is the file's, not this test's
    gpus.wait_offered(ring, {GPU: ALL})


def test_after_a_reboot_each_device_is_given_to_one_pod(ring: Ring) -> None:
    """A kubelet turns away a pod whose devices no plugin has listed since it started, and after a reboot
    the plugin is a pod like any other. Who has a controller is replaced then; a bare pod stays Failed.
    """
    ring.apply(workload("bare"))
    ring.apply(deployment("replaced", 3))
    ring.wait_pod("bare")
    old = ring.wait_for("three replicas", lambda: three_of(ring, set()))
    held_before = podresources.holders(ring)["bare"]
    old |= containers(ring, "bare")
    ring.reboot()
    agent = ring.wait_for("the agent", agent_process)
    took = seconds_until_offered(ring, started(agent))
    say(f"      {took:.2f} s from the agent's start to the right capacity")
    ring.wait_for("three new containers", lambda: three_of(ring, old), seconds=120)
    bare: Any = ring.wait_for("the bare pod's fate", lambda: settled(ring, "bare", old), seconds=120)
    say(f"      the bare pod is {bare['status']['phase']}: {bare['status'].get('message', 'as before')}")
    holders = podresources.holders(ring)
    if bare["status"]["phase"] == "Running":
        assert holders["bare"] == held_before
    else:
        assert bare["status"]["reason"] == "UnexpectedAdmissionError"
        assert bare["status"]["message"] == ("Pod was rejected: Allocate failed due to no healthy devices present; "
                                             "cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected")
    alive = [pod["metadata"]["name"] for pod in ring.pods() if pod["status"]["phase"] == "Running"]
    ids = [one for name in alive for mine in holders[name].values() for one in mine.get(GPU, [])]
    assert len(ids) == len(set(ids)) == len(alive), holders
    assert took < MAX_SECONDS


def test_an_agent_outside_of_pods_is_back_before_the_pods_are_and_none_is_turned_away(ring: Ring) -> None:
    """A service of the node need not wait for the kubelet to start it."""
    ring.kubectl("delete", "daemonset", "-n", gpus.NAMESPACE, "tranche")
    ring.wait_for("the kubelet to notice", lambda: not any(gpus.offered(ring).values()))
    agent_on_node(ring, "service")
    gpus.wait_offered(ring, {GPU: ALL})
    pods = two_pods(ring)
    held = {name: one["held"] for name, one in state(ring, pods).items()}
    old = containers(ring, "")
    ring.kubelet.kill()
    for one in ring.node.ctr("tasks", "ls", "-q").stdout.split():
        ring.node.ctr("tasks", "kill", "-s", "SIGKILL", one, check=False)
    ring.kubelet.start()
    ring.kubelet.wait()
    for name in pods:
        pod: Any = ring.wait_for(f"the fate of {name}", lambda name=name: settled(ring, name, old))
        assert pod["status"]["phase"] == "Running", pod["status"]
    assert {name: one["held"] for name, one in state(ring, pods).items()} == held


# --- helpers ---


def agent_on_node(ring: Ring, name: str) -> Server:
    """One that is no pod."""
    ring.node.write(f"/run/{name}.yaml", SETTING.config)
    return ring.node.start_daemon(f"{name}-agent", [
        "env", f"TRANCHE_SIM={gpus.SIM}", f"NVIDIA_DRIVER_ROOT={gpus.SIM_ROOT}", str(gpus.TRANCHE), "agent",
        f"--config-file=/run/{name}.yaml"])


def two_pods(ring: Ring) -> list[str]:
    """Three of the four GPUs are in use."""
    ring.apply([workload("one"), workload("two", {GPU: 2})])
    for name in ("one", "two"):
        ring.wait_pod(name)
    return ["one", "two"]


def state(ring: Ring, names: list[str]) -> dict[str, Any]:
    """What must not change for a running pod: its containers, and what they hold by each account."""
    holders = podresources.holders(ring)
    found = {}
    for name in names:
        pod: Any = ring.pod(name)
        status = pod["status"]["containerStatuses"][0]
        found[name] = {"phase": pod["status"]["phase"], "restarts": status["restartCount"], "held": holders[name],
                       "container": status["containerID"], "given": podresources.given(ring, pod["metadata"]["uid"])}
    return found


def the_last_device_goes_once(ring: Ring, names: list[str]) -> None:
    """One more pod gets the device that nobody has, and yet another one nothing."""
    with ring.borrowed():
        ring.apply(workload("last"))
        ring.wait_pod("last")
        holders = podresources.holders(ring)
        ids = [one for name in [*names, "last"] for mine in holders[name].values() for one in mine[GPU]]
        assert len(ids) == len(set(ids)) == ALL, holders
        late = workload("late", node="node-0")
        ring.apply(late)
        message = ring.wait_pod("late", "Failed")["status"]["message"]
        assert "Requested: 1, Available: 0" in message, message


def seconds_until_known(ring: Ring) -> float:
    """From the moment when a kubelet can be registered with to the note it makes of all devices."""
    folder = ring.node.var / "lib/kubelet/device-plugins"
    since = (folder / "kubelet.sock").stat().st_mtime

    def noted() -> float | None:
        note = folder / "kubelet_internal_checkpoint"
        known = podresources.checkpoint(ring)["Data"]["RegisteredDevices"].get(GPU, [])
        return note.stat().st_mtime if note.stat().st_mtime >= since and len(known) == ALL else None
    return ring.wait_for("the kubelet to know all devices", noted) - since


def seconds_until_offered(ring: Ring, since: float) -> float:
    gpus.wait_offered(ring, {GPU: ALL})
    return time.clock_gettime(BOOT_CLOCK) - since


def agent_process(besides: int = 0) -> int | None:
    """The agent in its pod, as the ring's processes are numbered."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            argv = (folder / "cmdline").read_bytes().split(b"\0")
            if argv[:2] == [b"/usr/bin/tranche", b"agent"] and int(folder.name) != besides:
                return int(folder.name)
    return None


def started(pid: int) -> float:
    """When a process began, on the boot clock."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")


def registrations(ring: Ring, resource: str = GPU) -> int:
    """How often the kubelet was asked to register a resource since the ring began."""
    log = (ring.logs / "node-0-kubelet.log").read_text(errors="replace")
    return log.count(f'"Got registration request from device plugin with resource" resourceName="{resource}"')


def deployment(name: str, replicas: int) -> gpus.Object:
    pod = workload(name)
    labels = {"app": name}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": pod["spec"]}}}


def containers(ring: Ring, prefix: str) -> set[str]:
    """The containers that run in pods so called."""
    return {status["containerID"] for pod in ring.pods()
            if pod["metadata"]["name"].startswith(prefix) and "deletionTimestamp" not in pod["metadata"]
            for status in pod["status"].get("containerStatuses", []) if "running" in status["state"]}


def three_of(ring: Ring, old: set[str]) -> set[str] | None:
    found = containers(ring, "replaced-") - old
    return found if len(found) == 3 else None


def settled(ring: Ring, name: str, old: set[str]) -> gpus.Object | None:
    """The pod, when it was turned away or runs anew. What the API server says of the time before does
    not count."""
    pod = ring.pod(name)
    return pod if pod and (pod["status"]["phase"] == "Failed" or containers(ring, name) - old) else None
