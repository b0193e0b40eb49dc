"""The control plane: etcd, the API server and the two that act on what it holds."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import keys
from kube import Api
from parts import Parts
from server import Server

ADDRESS = "10.89.0.1"  # the switch's own
# Pods find the API server at the first address of the services' range, port 443. The ring's own
# network has that address and the server that port, so nobody has to translate one into the other
# and no kube-proxy is needed.
SERVICES = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
PORT = 443
NAMES = ["localhost", "127.0.0.1", ADDRESS, SERVICE_ADDRESS, "kubernetes", "kubernetes.default",
         "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]


class Control:
    """Four servers in the ring's own namespaces. Their state is etcd's folder alone."""

    def __init__(self, parts: Parts, folder: Path, logs: Path, nodes: list[str]) -> None:
        self.parts, self.folder, self.logs = parts, folder, logs
        self.gates: dict[str, bool] = {}
        self.keys = keys.Keys(folder / "keys", f"https://{ADDRESS}:{PORT}")
        clients = [keys.ADMIN, keys.CONTROLLER_MANAGER, keys.SCHEDULER, *map(keys.node_user, nodes)]
        self.keys.make(NAMES, clients)
        self.api = Api(ADDRESS, PORT, self.keys.authority, self.keys.token("admin"))
        self.servers: list[Server] = []

    def start(self) -> None:
        """Starts all four. Returns when the API server answers; the others find it by themselves."""
        self.servers = [self._etcd(), self._apiserver(), self._controller_manager(), self._scheduler()]
        etcd, apiserver, *others = self.servers
        etcd.start()
        etcd.wait()
        apiserver.start()
        apiserver.wait()
        for server in others:
            server.start()

    def wait(self) -> None:
        for server in self.servers:
            server.wait()

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()

    def _etcd(self) -> Server:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        argv = [self.parts["etcd"], f"--data-dir={self.folder}/etcd", "--name=ring",
                f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=ring={peer}",
                "--unsafe-no-fsync"]  # our reboots kill processes; the kernel keeps what was written
        return self._server("etcd", argv, "http://127.0.0.1:2379/health", [2379, 2380])

    def _apiserver(self) -> Server:
        at = self.keys.folder
        argv = [
            self.parts["kube-apiserver"], "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={ADDRESS}", "--bind-address=0.0.0.0", f"--secure-port={PORT}",
            f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
            f"--token-auth-file={at}/tokens.csv", f"--client-ca-file={self.keys.authority}",
            f"--tls-cert-file={at}/apiserver.crt", f"--tls-private-key-file={at}/apiserver.key",
            f"--kubelet-client-certificate={at}/apiserver.crt",
            f"--kubelet-client-key={at}/apiserver.key",
            "--kubelet-preferred-address-types=InternalIP",  # there is no name server
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={at}/service-account.key",
            f"--service-account-signing-key-file={at}/service-account.key",
            *self._gates(),
        ]
        server = self._server("kube-apiserver", argv, "", [PORT])
        server.ready = self.api.answers
        return server

    def _controller_manager(self) -> Server:
        at = self.keys.folder
        config = self.keys.kubeconfig(keys.CONTROLLER_MANAGER[0])
        argv = [self.parts["kube-controller-manager"], f"--kubeconfig={config}", "--leader-elect=false",
                "--use-service-account-credentials=true", f"--root-ca-file={self.keys.authority}",
                f"--service-account-private-key-file={at}/service-account.key",
                "--bind-address=127.0.0.1", *self._gates()]
        return self._server("kube-controller-manager", argv, "https://127.0.0.1:10257/healthz", [10257])

    def _scheduler(self) -> Server:
        config = self.keys.kubeconfig(keys.SCHEDULER[0])
        argv = [self.parts["kube-scheduler"], f"--kubeconfig={config}", "--leader-elect=false",
                "--bind-address=127.0.0.1", *self._gates()]
        return self._server("kube-scheduler", argv, "https://127.0.0.1:10259/healthz", [10259])

    def _gates(self) -> list[str]:
        return [gates_flag(self.gates)] if self.gates else []

    def _server(self, name: str, argv: list[object], url: str, ports: list[int]) -> Server:
        return Server(name, [str(word) for word in argv], self.logs / f"{name}.log",
                      ready=lambda: answers(url), ports=ports)


def gates_flag(gates: dict[str, bool]) -> str:
    return "--feature-gates=" + ",".join(f"{name}={str(on).lower()}" for name, on in sorted(gates.items()))


def answers(url: str) -> bool:
    """Whether a health page says 200. Who signed the page's certificate is not the question here."""
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    context = blind if url.startswith("https") else None
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
