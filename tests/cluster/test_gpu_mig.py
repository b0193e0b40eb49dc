"""MIG devices as the resources of a node: under one name, and under their own."""

from __future__ import annotations

import json

import gpus
import outcome
import podresources
from gpus import GPU, Setting, workload
from ring import Ring
from test_gpu_sharing import parsed

SMALL, MEDIUM, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb", "nvidia.com/mig-3g.40gb"
MIXED = Setting("h100-80gb", gpus.plugin_config("mixed", lists="cdi-cri"), mig="all-balanced")
SEVEN = Setting("h100-80gb", gpus.plugin_config("mixed", specs=True), mig="all-1g.10gb")


def test_single_makes_each_mig_device_a_gpu(ring: Ring) -> None:
    setting = Setting("2xh100-80gb", gpus.plugin_config("single", specs=True), mig="all-1g.10gb")
    gpus.start(ring, setting)
    gpus.wait_offered(ring, {GPU: 14})
    got = outcome.both(ring, setting, [workload("other", {GPU: 3}), workload("tenant")])
    assert "1g.10gb@" in got["pods"]["tenant"]["devices"]["tenant"][GPU][0]
    nodes = [node["path"] for node in gpus.report(ring, "tenant")["devices"]]
    assert sum(path.startswith("/dev/nvidia-caps/") for path in nodes) == 2, nodes  # GPU and compute instance


def test_mixed_gives_each_profile_a_name_and_nobody_a_whole_gpu(ring: Ring) -> None:
    gpus.start(ring, MIXED)
    gpus.wait_offered(ring, {SMALL: 2, MEDIUM: 1, LARGE: 1})
    team = workload("team", {SMALL: 1}, more=[("large", {LARGE: 1})])
    both = workload("both", {SMALL: 1, MEDIUM: 1})
    got = outcome.both(ring, MIXED, [team, both, workload("whole", {GPU: 1})])
    assert got["pods"]["whole"]["phase"] == "Pending"
    assert "1 Insufficient nvidia.com/gpu" in got["pods"]["whole"]["message"]
    # A container with two resources has the devices of both.
    nodes = {node["path"] for node in gpus.report(ring, "both")["devices"] if "/nvidia-caps/" in node["path"]}
    assert len(nodes) == 4, nodes
    others = {node["path"] for name in ("team", "large") for node in gpus.report(ring, "team", name)["devices"]
              if "/nvidia-caps/" in node["path"]}
    assert len(others) == 4 and not others & nodes, (nodes, others)


def test_the_users_own_mig_pod_runs_to_its_end(ring: Ring) -> None:
    text = gpus.case("mig-inference-pod.yaml")
    gpus.start(ring, SEVEN)
    gpus.wait_offered(ring, {SMALL: 7})
    pod = parsed(ring, text)
    ring.apply(workload("other", {SMALL: 3}))
    ring.wait_pod("other")
    taken = podresources.holders(ring)["other"]["other"][SMALL]
    ring.apply(text)
    pending = ring.wait_for("its refusal", lambda: outcome.unschedulable(ring.pod("mig-inference-pod") or {"status": {}}))
    stand_in = outcome.on_stand_in(Setting(SEVEN.gpus, SEVEN.config), [pod])
    assert pending == stand_in["pods"]["mig-inference-pod"]["message"], pending
    ring.kubectl("label", "node", "node-0", "nvidia.com/mig.config=all-1g.10gb")
    try:
        ring.wait_pod("mig-inference-pod", "Succeeded")
        said = json.loads(ring.pod_logs("mig-inference-pod"))
    finally:
        ring.kubectl("label", "node", "node-0", "nvidia.com/mig.config-")
    shown = json.loads(gpus.node_tranche(ring, "sim", "show", "-o", "json"))
    known = {mig["uuid"] for mig in shown["gpus"][0]["migDevices"]} - set(taken)
    assert said["environment"]["NVIDIA_VISIBLE_DEVICES"] in known


def test_the_users_own_mig_configuration_divides_a_node_that_is_being_served(ring: Ring) -> None:
    text = gpus.case("custom-mig-config.yaml")
    gpus.start(ring, Setting("h100-80gb", gpus.plugin_config("mixed", lists="cdi-cri")))
    gpus.wait_offered(ring, {GPU: 1})
    gpus.show_kubelet_to_simulated_root(ring)
    ring.node.write("/run/mig.yaml", gpus.config_in(text))
    gpus.node_tranche(ring, "mig", "apply", "-f", "/run/mig.yaml", "-c", "five-1g-one-2g")
    gpus.wait_offered(ring, {SMALL: 5, MEDIUM: 1})
    ring.apply(workload("all", {SMALL: 5, MEDIUM: 1}))
    ring.wait_pod("all")


def test_the_product_reads_from_the_kubelet_who_holds_which_instance(ring: Ring) -> None:
    gpus.start(ring, SEVEN)
    ring.apply(workload("holder", {SMALL: 2}))
    ring.wait_pod("holder")
    held = podresources.holders(ring)["holder"]["holder"][SMALL]
    gpus.show_kubelet_to_simulated_root(ring)
    listed = json.loads(gpus.node_tranche(ring, "mig", "list", "-o", "json"))
    text = json.dumps(listed)
    assert all(one in text for one in held) and text.count("default/holder") == 2, listed
