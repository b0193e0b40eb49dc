"""Time-slicing and MPS, with the users' own files. Each answer of the real kubelet is also the
stand-in's, or the test fails."""

from __future__ import annotations

import json
import re

import gpus
import outcome
import podresources
from gpus import GPU, MPS_ROOT, Setting, workload
from ring import Ring

VERIFICATION = "time-slicing-verification"
ONE_AT_A_TIME = "    failRequestsGreaterThanOne: true\n"


def test_time_slicing_offers_sixteen_of_four(ring: Ring) -> None:
    setting = Setting("4xt4", gpus.config_in(gpus.case("time-slicing-config.yaml")))
    gpus.start(ring, setting)
    gpus.wait_offered(ring, {GPU: 16})
    assert re.search(rf"{GPU}: +16", ring.kubectl("describe", "node", "node-0"))
    got = outcome.both(ring, setting, [workload("tenant"), workload("pair", {GPU: 2})])
    # One at a time while there are unused GPUs: two replicas are of two GPUs.
    devices = [one.split("::")[0] for pod in ("tenant", "pair") for one in got["pods"][pod]["devices"][pod][GPU]]
    assert len(set(devices)) == 3, got


def test_five_replicas_of_the_users_own_deployment_run_on_one_gpu(ring: Ring) -> None:
    setting = Setting("t4", gpus.plugin_config(sharing=gpus.time_slicing(10)))
    text = gpus.case("time-slicing-verification.yaml")
    gpus.start(ring, setting)
    deployment = parsed(ring, text)
    ring.apply(text)
    pods = outcome.await_fates(ring, deployment, ["Running"] * 5)
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 5, pods
    outcome.same(outcome.on_node(ring, [deployment]), outcome.on_stand_in(setting, [deployment]))
    holders = podresources.holders(ring)
    ids = [one for pod in pods for one in holders[pod["metadata"]["name"]]["cuda-sample-vector-add"][GPU]]
    assert len(set(ids)) == 5 and len({one.split("::")[0] for one in ids}) == 1, ids
    said = ring.wait_for("a sample to say what it was given", lambda: ring.pod_logs(pods[0]["metadata"]["name"]))
    assert json.loads(said.splitlines()[0])["environment"]["NVIDIA_VISIBLE_DEVICES"] == ids[0].split("::")[0]


def test_more_than_one_replica_is_refused_where_that_is_asked_for(ring: Ring) -> None:
    setting = Setting("t4", gpus.plugin_config(sharing=gpus.time_slicing(4, extra=ONE_AT_A_TIME)))
    gpus.start(ring, setting)
    got = outcome.both(ring, setting, [workload("two", {GPU: 2}), workload("one")])
    two = got["pods"]["two"]
    assert (two["phase"], two["reason"]) == ("Failed", "UnexpectedAdmissionError")
    assert two["message"] == (
        "Pod was rejected: Allocate failed due to rpc error: code = Unknown desc = invalid allocation request for "
        '"nvidia.com/gpu": invalid request: maximum request size for shared resources is 1; found 2, '
        "which is unexpected")
    assert two["event"] == two["message"].removeprefix("Pod was rejected: ")
    assert got["pods"]["one"]["phase"] == "Running"


def test_shared_devices_have_a_name_of_their_own_where_that_is_asked_for(ring: Ring) -> None:
    shared = f"{GPU}.shared"
    setting = Setting("t4", gpus.plugin_config(sharing=gpus.time_slicing(4, extra="    renameByDefault: true\n")))
    gpus.start(ring, setting)
    gpus.wait_offered(ring, {shared: 4})
    got = outcome.both(ring, setting, [workload("sharer", {shared: 1}), workload("owner", {GPU: 1})])
    assert [got["pods"][name]["phase"] for name in ("sharer", "owner")] == ["Running", "Pending"]


def test_mps_replicas_come_with_the_pipe_and_the_memory_of_their_daemon(ring: Ring) -> None:
    setting = Setting("a100-40gb", gpus.config_in(gpus.case("mps-config.yaml")), mps=GPU)
    gpus.start(ring, setting)
    gpus.wait_offered(ring, {GPU: 10})
    outcome.both(ring, setting, [workload("client")])
    said = gpus.report(ring, "client")
    assert said["environment"]["CUDA_MPS_PIPE_DIRECTORY"] == f"/mps/{GPU}/pipe"
    mounts = {mount["path"]: mount["source"] for mount in said["mounts"]}
    assert mounts[f"/mps/{GPU}/pipe"].endswith(f"{MPS_ROOT.removeprefix('/var')}/{GPU}/pipe"), mounts
    assert mounts["/dev/shm"].endswith(f"{MPS_ROOT.removeprefix('/var')}/shm"), mounts


def parsed(ring: Ring, text: str) -> gpus.Object:
    """A file of the users' as an object, without creating it."""
    return dict(json.loads(ring.kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", input=text)))
