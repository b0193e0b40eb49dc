"""A GPU is divided anew while pods run on its other instances, and on other GPUs."""

from __future__ import annotations

import json

import gpus
import podresources
from gpus import Setting, workload
from ring import Ring
from test_gpu_restarts import registrations, state

SMALL, MEDIUM, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb", "nvidia.com/mig-3g.40gb"
SETTING = Setting("2xh100-80gb", gpus.plugin_config("mixed", lists="cdi-cri"), mig="all-balanced")
PODS = {"large-a": LARGE, "large-b": LARGE, "small-a": SMALL, "small-b": SMALL}


def set_up(ring: Ring) -> None:
    gpus.start(ring, SETTING)
    gpus.show_kubelet_to_simulated_root(ring)
    gpus.wait_offered(ring, {SMALL: 4, MEDIUM: 2, LARGE: 2})
    ring.apply([workload(name, {resource: 1}) for name, resource in PODS.items()])
    for name in PODS:
        ring.wait_pod(name)


def test_a_gpu_is_divided_anew_and_no_pod_on_it_notices(ring: Ring) -> None:
    before, agent = state(ring, list(PODS)), gpus.agent_pod(ring)
    n = registrations(ring, SMALL)
    # On the node itself: the simulated driver makes device nodes, and the pod may not.
    said = gpus.node_tranche(ring, "mig", "apply", "--devices", "1g.10gb=4,3g.40gb=1", "--gpu", "0")
    assert "- 2g.20gb@0" in said and said.count("+ 1g.10gb") == 2, said
    gpus.wait_offered(ring, {SMALL: 6, MEDIUM: 1, LARGE: 2})
    assert state(ring, list(PODS)) == before
    ring.apply(workload("new", {SMALL: 4}))
    ring.wait_pod("new")
    held = podresources.holders(ring)["new"]["new"][SMALL]
    assert len({node["path"] for node in gpus.report(ring, "new")["devices"] if "nvidia-cap" in node["path"]}) == 8
    assert not set(held) & {one for name in PODS for mine in before[name]["held"].values() for ids in mine.values() for one in ids}
    # The agent followed without a restart, and the kubelet never lost sight of what stayed.
    assert agent and gpus.agent_pod(ring)["metadata"]["uid"] == agent["metadata"]["uid"]
    assert registrations(ring, SMALL) == n
    assert all(one["restarts"] == 0 for one in state(ring, list(PODS)).values())


def test_an_instance_that_a_pod_holds_is_not_taken_away(ring: Ring) -> None:
    before = state(ring, list(PODS))
    shown = json.loads(mig(ring, "list", "-o", "json"))
    done = mig(ring, "apply", "--devices", "7g.80gb=1", "--gpu", "0", check=False)
    assert any(f"default/{name}" in done for name in PODS), done
    assert json.loads(mig(ring, "list", "-o", "json")) == shown
    assert state(ring, list(PODS)) == before


def mig(ring: Ring, *argv: str, check: bool = True) -> str:
    """In the agent's pod, as an administrator would."""
    return ring.kubectl("exec", "-n", gpus.NAMESPACE, "daemonset/tranche", "--", "tranche", "mig", *argv, check=check)
