"""That the ring itself is a cluster: what every other test here stands on."""

from __future__ import annotations

import signal
from typing import Any

from ring import BUSYBOX, Ring


def sleeper(name: str, command: str = "sleep 1000") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "restartPolicy": "Always",
                     "containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", command]}]}}


def test_a_pod_reaches_the_api_server_where_clients_look_for_it(ring: Ring) -> None:
    ring.apply(sleeper("caller"))
    ring.wait_pod("caller")
    said = ring.pod_exec("caller", ["sh", "-c", "wget -q -O- --no-check-certificate "
                                    "https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version"])
    assert '"gitVersion"' in said


def test_running_pods_survive_a_restart_of_the_kubelet(ring: Ring) -> None:
    ring.apply(sleeper("steady"))
    before = container(ring.wait_pod("steady"))
    ring.kubelet.restart(number=signal.SIGKILL)
    ring.apply(sleeper("later"))
    ring.wait_pod("later")
    assert container(ring.wait_pod("steady")) == before


def test_a_reboot_keeps_var_and_objects_and_starts_pods_anew(ring: Ring) -> None:
    ring.apply(sleeper("survivor"))
    before = container(ring.wait_pod("survivor"))
    ring.node_exec("echo kept > /var/lib/mark && echo gone > /run/mark")
    ring.reboot()
    assert ring.node_exec("cat /var/lib/mark; test -e /run/mark || echo gone") == "kept\ngone\n"
    after = ring.wait_for("the pod's new container", lambda: changed(ring, before), seconds=120)
    assert after["restartCount"] == 1


def container(pod: dict[str, Any]) -> dict[str, Any]:
    status = pod["status"]["containerStatuses"][0]
    return {"containerID": status["containerID"], "restartCount": status["restartCount"]}


def changed(ring: Ring, before: dict[str, Any]) -> dict[str, Any] | None:
    pod = ring.pod("survivor") or {}
    statuses = pod.get("status", {}).get("containerStatuses", [])
    if not statuses or "running" not in statuses[0]["state"]:
        return None
    now = container(pod)
    return now if now["containerID"] != before["containerID"] else None
