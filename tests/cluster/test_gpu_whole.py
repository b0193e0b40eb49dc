"""Whole GPUs: what is offered, who gets what, and who is turned away. Each answer of the real kubelet
is also the stand-in's, or the test fails."""

from __future__ import annotations

import json

import gpus
import outcome
import podresources
from gpus import GPU, Setting, workload
from ring import Ring

SETTING = Setting("4xt4", gpus.plugin_config(lists="envvar", specs=True))
SHARED_NODES = {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"}


def set_up(ring: Ring) -> None:
    gpus.start(ring, SETTING)


def test_the_agent_registers_and_kubectl_describe_node_shows_each_gpu(ring: Ring) -> None:
    said = ring.kubectl("describe", "node", "node-0")
    lines = [line.split() for line in said.splitlines() if line.strip().startswith(f"{GPU}:")]
    assert lines == [[f"{GPU}:", "4"], [f"{GPU}:", "4"]], said  # capacity, allocatable


def test_a_pod_runs_with_exactly_the_gpu_of_its_allocation(ring: Ring) -> None:
    got = outcome.both(ring, SETTING, [workload("other", {GPU: 2}), workload("single")])
    assert got["pods"]["single"]["phase"] == "Running", got
    said = gpus.report(ring, "single")
    held = podresources.holders(ring)["single"]["single"][GPU]
    assert said["environment"]["NVIDIA_VISIBLE_DEVICES"] == held[0] and len(held) == 1
    minor = gpus.indices(ring)[held[0]]
    nodes = {node["path"]: node for node in said["devices"]}
    assert set(nodes) == SHARED_NODES | {f"/dev/nvidia{minor}"}
    # It was given to the container, and no driver is behind it.
    assert nodes[f"/dev/nvidia{minor}"]["open"] == "ENXIO", nodes
    assert (nodes[f"/dev/nvidia{minor}"]["major"], nodes[f"/dev/nvidia{minor}"]["minor"]) == (195, minor)


def test_containers_of_a_pod_get_different_gpus_and_init_containers_hand_theirs_on(ring: Ring) -> None:
    pod = workload("team", {GPU: 1}, more=[("mate", {GPU: 2})], init=[("first", {GPU: 1})])
    got = outcome.both(ring, SETTING, [pod])
    told = got["pods"]["team"]
    mine, mates = told["devices"]["team"][GPU], told["devices"]["mate"][GPU]
    assert len(set(mine) | set(mates)) == 3
    assert gpus.visible(ring, "team", "first") == gpus.visible(ring, "team")
    assert told["given"]["first"] == told["given"]["team"]
    assert sorted(gpus.visible(ring, "team", "mate")) == podresources.holders(ring)["team"]["mate"][GPU]


def test_more_than_the_node_has_stays_pending(ring: Ring) -> None:
    got = outcome.both(ring, SETTING, [workload("greedy", {GPU: 5})])
    assert got["pods"]["greedy"]["phase"] == "Pending"
    assert "1 Insufficient nvidia.com/gpu" in got["pods"]["greedy"]["message"]


def test_too_many_bound_directly_are_an_unexpected_admission_error(ring: Ring) -> None:
    got = outcome.both(ring, SETTING, [workload("three", {GPU: 3}), workload("forced", {GPU: 2}, node="node-0")])
    forced = got["pods"]["forced"]
    assert (forced["phase"], forced["reason"]) == ("Failed", "UnexpectedAdmissionError")
    assert forced["message"] == (
        "Pod was rejected: Allocate failed due to requested number of devices unavailable for nvidia.com/gpu. "
        "Requested: 2, Available: 1, which is unexpected")
    assert forced["event"] == forced["message"].removeprefix("Pod was rejected: ")


def test_devices_of_a_pod_that_ended_are_given_to_the_next(ring: Ring) -> None:
    pod = workload("all", {GPU: 4})
    ring.apply(pod)
    ring.wait_pod("all")
    ring.delete(pod)
    got = outcome.both(ring, SETTING, [workload("next", {GPU: 4})])
    assert len(got["pods"]["next"]["devices"]["next"][GPU]) == 4


def test_the_kubelet_says_who_holds_what_in_a_list_and_by_name(ring: Ring) -> None:
    ring.apply(workload("holder", {GPU: 2}))
    ring.wait_pod("holder")
    held = podresources.holders(ring)["holder"]
    assert podresources.holder(ring, "holder") == held
    assert podresources.holder(ring, "nobody") is None
    assert len(held["holder"][GPU]) == 2


def test_the_stand_in_writes_the_checkpoint_that_the_kubelet_writes(ring: Ring) -> None:
    pod = workload("noted", {GPU: 2})
    ring.apply(pod)
    ring.wait_pod("noted")
    real = podresources.checkpoint(ring)
    with outcome.serving(SETTING, [pod]) as home:
        stand_in = json.loads((home / "plugins" / "kubelet_internal_checkpoint").read_text())
    for one in (real, stand_in):
        assert list(one) == ["Data", "Checksum"] and list(one["Data"]) == ["PodDeviceEntries", "RegisteredDevices"]
        assert one["Checksum"] == podresources.checksum(one["Data"]), one
        one["Data"]["RegisteredDevices"] = {name: len(ids) for name, ids in one["Data"]["RegisteredDevices"].items()}
    mine = [one for one in real["Data"]["PodDeviceEntries"] if one["ContainerName"] == "noted"]
    assert [list(one) for one in mine] == [list(one) for one in stand_in["Data"]["PodDeviceEntries"]]
    assert real["Data"]["RegisteredDevices"][GPU] == stand_in["Data"]["RegisteredDevices"][GPU] == 4
    for one in (mine[0], stand_in["Data"]["PodDeviceEntries"][0]):
        assert all(node in ("0", "1") for node in one["DeviceIDs"]), one  # by NUMA node
        assert sum(map(len, one["DeviceIDs"].values())) == 2


def test_feature_discovery_writes_the_labels_to_a_file(ring: Ring) -> None:
    """NodeFeature objects are not written so far; node feature discovery reads this file."""
    folder = "/etc/kubernetes/node-feature-discovery/features.d"
    ring.node_exec(f"mkdir -p {folder} && ln -sfn {gpus.TRANCHE} /run/gpu-feature-discovery")
    ring.node_exec(["env", f"TRANCHE_SIM={gpus.SIM}", "NODE_NAME=node-0", "/run/gpu-feature-discovery", "--oneshot",
                    "--use-node-feature-api=false", f"--output-file={folder}/gfd"])
    labels = dict(line.split("=", 1) for line in ring.node_exec(f"cat {folder}/gfd").splitlines())
    assert labels["nvidia.com/gpu.count"] == "4" and labels["nvidia.com/gpu.product"] == "Tesla-T4", labels
