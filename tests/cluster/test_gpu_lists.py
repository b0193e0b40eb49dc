"""How a container is told its devices: each device-list strategy, as the container sees it."""

from __future__ import annotations

import gpus
import outcome
import podresources
from gpus import GPU, SIM_ROOT, Setting, workload
from ring import Ring

COMMON = {"/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}


def told(ring: Ring, lists: str) -> tuple[gpus.Object, gpus.Object, list[str]]:
    """What a container with two GPUs sees, what the kubelet was answered, and the ids that it holds."""
    setting = Setting("3xt4", gpus.plugin_config(lists=lists))
    gpus.start(ring, setting)
    got = outcome.both(ring, setting, [workload("reader", {GPU: 2})])
    held = podresources.holders(ring)["reader"]["reader"][GPU]
    return gpus.report(ring, "reader"), got["pods"]["reader"]["given"]["reader"], held


def test_envvar_sets_a_variable_and_nothing_else(ring: Ring) -> None:
    said, given, held = told(ring, "envvar")
    assert sorted(said["environment"]["NVIDIA_VISIBLE_DEVICES"].split(",")) == held
    assert list(given) == ["envs"] and not said["devices"] and not said["visible"]


def test_volume_mounts_names_each_device_by_a_mount(ring: Ring) -> None:
    said, given, held = told(ring, "volume-mounts")
    assert said["environment"]["NVIDIA_VISIBLE_DEVICES"] == "/var/run/nvidia-container-devices"
    assert sorted(said["visible"]) == held
    assert len(given["mounts"]) == 2 and not said["devices"]


def test_cdi_annotations_bring_the_devices_and_the_driver(ring: Ring) -> None:
    said, given, held = told(ring, "cdi-annotations")
    assert list(given) == ["annotations"]
    sees_the_driver(ring, said, held)


def test_cdi_cri_brings_the_devices_and_the_driver(ring: Ring) -> None:
    said, given, held = told(ring, "cdi-cri")
    assert list(given) == ["cdi_devices"] and len(given["cdi_devices"]) == 2
    sees_the_driver(ring, said, held)


def sees_the_driver(ring: Ring, said: gpus.Object, held: list[str]) -> None:
    nodes = {node["path"]: node["open"] for node in said["devices"]}
    assert set(nodes) == COMMON | {f"/dev/nvidia{gpus.indices(ring)[one]}" for one in held}, nodes
    assert set(nodes.values()) == {"ENXIO"}, nodes  # given to the container; a driver behind them there is none
    assert said["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void", said["environment"]
    library = [mount for mount in said["mounts"] if "libnvidia-ml.so" in mount["path"]]
    assert library and all(SIM_ROOT.removeprefix("/var") in mount["source"] for mount in library), said["mounts"]
    assert said["library"]["error"] is None, said["library"]
