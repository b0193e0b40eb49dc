"""What came of a setting and some pods: on the real node, and on the stand-in's (`tranche try`).

Both are put into the same words, so that they can be compared: devices are called by their place and
not by UUIDs, paths are those below the simulated root, and names that chance gave are left out.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpus
import podresources
from gpus import SIM_ROOT, TRANCHE, Setting
from ring import Ring

Object = dict[str, Any]
Outcome = dict[str, Any]  # resources, pods
STAND_IN = "try"


def both(ring: Ring, setting: Setting, pods: list[Object]) -> Outcome:
    """Applies the pods one after the other where the setting is in force, waits for their fate, and
    asserts that it is what the stand-in says. Gives the real node's answer."""
    expected = on_stand_in(setting, pods)
    for pod in pods:
        ring.apply(pod)
        told = expected["pods"][pod["metadata"]["name"]]
        await_fates(ring, pod, [one["phase"] for one in (told if isinstance(told, list) else [told])])
    real = on_node(ring, pods)
    same(real, expected)
    return real


def same(real: Outcome, stand_in: Outcome) -> None:
    left, right = (json.dumps(one, indent=1, sort_keys=True).splitlines() for one in (real, stand_in))
    told = "\n".join(difflib.unified_diff(left, right, "the node", "the stand-in", n=4, lineterm=""))
    assert not told, f"the stand-in answers differently:\n{told}"


# --- the real one ---


def await_fates(ring: Ring, manifest: Object, expected: list[str]) -> list[Object]:
    """A manifest's pods, once it is settled what becomes of each. A pod for which there is no room may
    only have come too early, so it counts as settled where that is expected."""
    def settled() -> list[Object] | None:
        mine = pods_of(ring, manifest)
        waiting = [unschedulable(pod) for pod in mine if pod["status"]["phase"] == "Pending"]
        assert len(mine) == len(expected) and all(waiting), f"{len(mine)} pods, of which wait {waiting}"
        assert len(waiting) <= expected.count("Pending"), f"there is no room: {waiting}"
        return mine
    return ring.wait_for(f"the fate of {manifest['metadata']['name']}", settled)


def pods_of(ring: Ring, manifest: Object) -> list[Object]:
    name = manifest["metadata"]["name"]
    if manifest["kind"] == "Deployment":
        return [pod for pod in ring.pods() if pod["metadata"]["name"].startswith(f"{name}-")]
    pod = ring.pod(name)
    return [pod] if pod else []


def unschedulable(pod: Object) -> str | None:
    for condition in pod["status"].get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return None


def on_node(ring: Ring, manifests: list[Object]) -> Outcome:
    pods = [pod for manifest in manifests for pod in pods_of(ring, manifest)]
    holders = podresources.holders(ring)
    told = {pod["metadata"]["name"]: one_pod(ring, pod, holders) for pod in pods}
    status = ring.node_object()["status"]
    return plain(grouped(told, pods), resources(status), device_names(gpus.node_tranche(ring, "sim", "show", "-o", "json")))


def one_pod(ring: Ring, pod: Object, holders: dict[str, podresources.Held]) -> Object:
    name, status = pod["metadata"]["name"], pod["status"]
    runs = status["phase"] == "Running"
    given = podresources.given(ring, pod["metadata"]["uid"]) if runs else {}
    held = {container: mine for container, mine in holders.get(name, {}).items() if mine} if runs else {}
    return fate(status, event_of(ring, name, status.get("reason")), held,
                {container: merged(list(answers.values())) for container, answers in given.items()})


def event_of(ring: Ring, name: str, reason: str | None) -> str | None:
    """What the kubelet says in an event of this reason."""
    if not reason:
        return None
    path = f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={name},reason={reason}"
    found = ring.wait_for(f"an event {reason}", lambda: ring.api.get(path)["items"])
    return str(found[0]["message"])


def merged(answers: list[Object]) -> Object:
    """One container's answers in one. Where two resources set the same variable, chance decides."""
    into: Object = {}
    for answer in answers:
        for kind, value in answer.items():
            if isinstance(value, list):
                into[kind] = into.get(kind, []) + [one for one in value if one not in into.get(kind, [])]
            elif len(answers) == 1 or kind != "envs":
                into[kind] = into.get(kind, {}) | value
    return into


# --- the stand-in ---


def on_stand_in(setting: Setting, manifests: list[Object]) -> Outcome:
    said = run_try(setting, manifests)
    pods = said["pods"]
    events = {event["involvedObject"]["name"]: event["message"] for event in said["events"]}
    told = {}
    for pod in pods:
        notes = pod["metadata"].get("annotations", {})
        held = json.loads(notes.get("tranche.dev/devices", "{}"))
        given = json.loads(notes.get("tranche.dev/allocation", "{}"))
        for container, mine in held.items():
            if len(mine) > 1:
                given[container].pop("envs", None)
        name = pod["metadata"]["name"]
        event = events.get(name) if pod["status"].get("reason") else None
        mains = {one["name"] for one in pod["spec"]["containers"]}
        told[name] = fate(pod["status"], event, {c: m for c, m in held.items() if c in mains}, given)
    return plain(grouped(told, pods), resources(said["node"]["status"]), device_names(json.dumps(said)))


def run_try(setting: Setting, manifests: list[Object]) -> Object:
    objects = [*policy(setting), *(at_home(manifest) for manifest in manifests)]
    argv = [str(TRANCHE), "try", "--gpus", setting.gpus, "-f", "-", "-o", "json"]
    if setting.mig:
        argv += ["--mig", setting.mig]
    text = "\n---\n".join(json.dumps(one) for one in objects)
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), f"tranche try exits with {done.returncode}: {done.stderr}"
    return dict(json.loads(done.stdout))


@contextmanager
def serving(setting: Setting, manifests: list[Object]) -> Iterator[Path]:
    """The stand-in's node while it stays: the folder in which it lies."""
    text = "\n---\n".join(json.dumps(one) for one in [*policy(setting), *map(at_home, manifests)])
    argv = [str(TRANCHE), "try", "--gpus", setting.gpus, *(["--mig", setting.mig] if setting.mig else []),
            "-f", "-", "--serve"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as node:
        assert node.stdin and node.stderr
        node.stdin.write(text)
        node.stdin.close()
        said = ""
        for line in node.stderr:
            said += line
            if "TRANCHE_SIM=" in line:
                break
        assert "TRANCHE_SIM=" in said, said
        try:
            yield Path(said.rpartition("TRANCHE_SIM=")[2].strip()).parent
        finally:
            node.terminate()


def policy(setting: Setting) -> list[Object]:
    """The configuration as an operator would be told it."""
    spec: Object = {"devicePlugin": {"config": {"name": "config", "default": "any"},
                                     "env": [{"name": "CDI_DISABLE_HOOKS", "value": "all"}]}}
    found = re.search(r"migStrategy: (\w+)", setting.config)
    if found:
        spec["mig"] = {"strategy": found.group(1)}
    if setting.mps:
        spec["devicePlugin"]["mps"] = {"root": gpus.MPS_ROOT}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"any": setting.config}},
            {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "metadata": {"name": "cluster-policy"},
             "spec": spec}]


def at_home(manifest: Object) -> Object:
    """A pod that is bound to the ring's node is bound to the stand-in's only one."""
    if not manifest["spec"].get("nodeName"):
        return manifest
    return manifest | {"spec": manifest["spec"] | {"nodeName": STAND_IN}}


# --- the same words ---


def fate(status: Object, event: str | None, held: Object, given: Object) -> Object:
    """A pod's, without what is empty."""
    message = status.get("message")
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition["message"]
    all_of_it = {"phase": status["phase"], "reason": status.get("reason"), "message": message, "event": event,
                 "devices": {container: {resource: sorted(ids) for resource, ids in mine.items()}
                             for container, mine in held.items()},
                 "given": given}
    return {key: value for key, value in all_of_it.items() if value}


def grouped(told: dict[str, Object], pods: list[Object]) -> Object:
    """By name; those of a Deployment, whose names are chance, in a list."""
    found: Object = {}
    for pod in pods:
        name = pod["metadata"]["name"]
        if pod["metadata"].get("ownerReferences"):
            owner = re.sub(r"(-[a-z0-9]+){2}$", "", name)
            found[owner] = sorted([*found.get(owner, []), told[name]], key=json.dumps)
        else:
            found[name] = told[name]
    return found


def resources(status: Object) -> Object:
    """What is offered. A resource that an earlier setting left behind has nothing allocatable."""
    left = {name: count for name, count in status["allocatable"].items() if name.startswith("nvidia.com/") and int(count)}
    return {"capacity": {name: status["capacity"][name] for name in left}, "allocatable": left}


def device_names(text: str) -> dict[str, str]:
    """UUID → GPU0, or GPU0/1g.10gb@2: the place of its GPU instance."""
    names = {}
    for gpu in json.loads(text)["gpus"]:
        names[gpu["uuid"]] = f"GPU{gpu['index']}"
        for mig in gpu["migDevices"]:
            start = mig["placement"]["start"] if "placement" in mig else mig["start"]
            names[mig["uuid"]] = f"GPU{gpu['index']}/{mig['profile']}@{start}"
    return names


def plain(pods: Object, offered: Object, names: dict[str, str]) -> Outcome:
    text = json.dumps({"pods": pods} | offered)
    for uuid, name in names.items():
        text = text.replace(uuid, name)
    text = text.replace(SIM_ROOT, "")
    text = re.sub(r"(nvidia-device-plugin_)[0-9a-f-]{36}", r"\1UUID", text)
    outcome: Outcome = json.loads(in_order_of_use(text))
    return dict(in_order(outcome))


def in_order_of_use(text: str) -> str:
    """Of equal GPUs chance chooses, since the kubelet shuffles what it offers: the first one in use is
    called 0, the next one 1. Minor numbers are indices on these nodes."""
    found = re.findall(r"\bGPU(\d+)\b", text)
    new = {old: str(number) for number, old in enumerate(dict.fromkeys(found))}
    return re.sub(r"(\bGPU|/dev/nvidia)(\d+)\b", lambda m: m[1] + new.get(m[2], m[2]), text)


def in_order(value: Any) -> Any:
    """Lists in the order of their text, and so the names in a variable."""
    if isinstance(value, dict):
        return {key: in_order(one) for key, one in value.items()}
    if isinstance(value, list):
        return sorted((in_order(one) for one in value), key=json.dumps)
    if isinstance(value, str) and "," in value and " " not in value:
        return ",".join(sorted(value.split(",")))
    return value
