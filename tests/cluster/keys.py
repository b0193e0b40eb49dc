"""Who may talk to whom in the cluster: one authority, one certificate, a token for each client."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trouble import Trouble

# user, groups: as the API server knows them. Only the first is above RBAC.
ADMIN = ("admin", "system:masters")
CONTROLLER_MANAGER = ("system:kube-controller-manager", "")
SCHEDULER = ("system:kube-scheduler", "")


def node_user(node: str) -> tuple[str, str]:
    return (f"system:node:{node}", "system:nodes")


@dataclass
class Keys:
    """The files, all in one folder that only root may read."""

    folder: Path
    server: str  # https://ADDRESS[:PORT]

    @property
    def authority(self) -> Path:
        return self.folder / "ca.crt"

    def make(self, names: list[str], clients: list[tuple[str, str]]) -> None:
        """A certificate for the API server under these names, and a kubeconfig for each client."""
        self.folder.mkdir(mode=0o700)
        self._make_certificates(names)
        rows = []
        for user, groups in clients:
            token = secrets.token_hex(16)
            rows.append(f'{token},{user},{user},"{groups}"\n')
            self.kubeconfig(user).write_text(json.dumps(self._kubeconfig(user, token)))
        (self.folder / "tokens.csv").write_text("".join(rows))

    def kubeconfig(self, user: str) -> Path:
        return self.folder / f"{user.replace(':', '-')}.kubeconfig"

    def token(self, user: str) -> str:
        config = json.loads(self.kubeconfig(user).read_text())
        return str(config["users"][0]["user"]["token"])

    def _make_certificates(self, names: list[str]) -> None:
        """The API server's certificate is its word as a client of the kubelets, too."""
        for name in ("ca", "apiserver", "service-account"):
            self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        self._openssl("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=tranche-cluster-ca",
                      "-days", "365", "-out", "ca.crt")
        kinds = [f"IP:{name}" if name[0].isdigit() else f"DNS:{name}" for name in names]
        (self.folder / "apiserver.ext").write_text(
            f"subjectAltName={','.join(kinds)}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl("req", "-new", "-key", "apiserver.key", "-subj", "/O=system:masters/CN=kube-apiserver",
                      "-out", "apiserver.csr")
        self._openssl("x509", "-req", "-in", "apiserver.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "365", "-extfile", "apiserver.ext", "-out", "apiserver.crt")

    def _openssl(self, *argv: str) -> None:
        done = subprocess.run(["openssl", *argv], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise Trouble(f"openssl {argv[0]} failed: {done.stderr.strip().splitlines()[-1]}")

    def _kubeconfig(self, user: str, token: str) -> dict[str, object]:
        return {
            "apiVersion": "v1", "kind": "Config", "current-context": "ring",
            "clusters": [{"name": "ring", "cluster": {
                "server": self.server,
                "certificate-authority-data": base64.b64encode(self.authority.read_bytes()).decode()}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "ring", "context": {"cluster": "ring", "user": user}}],
        }
