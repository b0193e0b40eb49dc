"""Where the programs of the cluster come from.

A folder of the user's comes first (TRANCHE_KUBE_BIN, KUBEBUILDER_ASSETS), then this machine's own
programs where those will do, and what is still missing is built with Go from the modules beside this
file. What was built is kept outside the tree and built again only when something that it depends on
changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from trouble import Missing, Trouble, say

HERE = Path(__file__).resolve().parent
NOT_BEFORE = {
    "kube-apiserver": (1, 34, 2),
    "kubelet": (1, 34, 2),
    "containerd": (1, 7, 0),  # the first that heeds CDI devices in the CRI
}
HELPERS = ("unshare", "nsenter", "ip", "ss", "mount", "pivot_root", "openssl")
CNI_PLUGINS = ("bridge", "host-local", "loopback")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
MEND_DEBIAN = "run `tools/install-packages cluster`"
MEND_GO = "install Go 1.24 or newer, or name a folder with the programs in TRANCHE_KUBE_BIN"


@dataclass(frozen=True)
class Module:
    """A Go module beside this file, and the commands that it pins."""

    folder: str
    package: str  # commands are PACKAGE/cmd/NAME
    commands: tuple[str, ...]
    flags: tuple[str, ...]
    minutes: int  # how long the first build takes on two cores


def kubernetes_module() -> Module:
    """Without its version in the linker flags the API server calls itself v0.0.0-master, and
    clients refuse features that it has."""
    text = (HERE / "kubernetes" / "go.mod").read_text()
    found = re.search(r"^require k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", text, re.M)
    assert found, "tests/cluster/kubernetes/go.mod does not require k8s.io/kubernetes"
    major, minor, patch = found.groups()
    at = "k8s.io/component-base/version"
    version = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    ldflags = " ".join(["-s -w"] + [f"-X {at}.{name}={value}" for name, value in version.items()])
    commands = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    return Module("kubernetes", "k8s.io/kubernetes", commands, ("-ldflags", ldflags), minutes=10)


def containerd_module() -> Module:
    commands = ("containerd", "containerd-shim-runc-v2", "ctr")
    tags = "no_btrfs no_zfs no_aufs no_devmapper"  # snapshotters that want C libraries or devices
    flags = ("-ldflags", "-s -w", "-tags", tags)
    return Module("containerd", "github.com/containerd/containerd/v2", commands, flags, minutes=2)


@dataclass(frozen=True)
class Parts:
    """Where each program lies; `folders` has to be seen by whoever runs them."""

    programs: dict[str, Path]
    cni: Path

    def __getitem__(self, name: str) -> Path:
        return self.programs[name]

    @property
    def folders(self) -> list[Path]:
        return sorted({path.parent for path in self.programs.values()} | {self.cni})


def find_parts() -> Parts:
    """Finds or builds everything. Raises Missing for what has to be installed by somebody."""
    programs = {name: find_on_debian(name) for name in ("etcd", "runc")}
    for name in HELPERS:
        find_on_debian(name)
    cni = find_cni()
    modules = (kubernetes_module(), containerd_module())
    given = {name: found for module in modules for name in module.commands if (found := find_given(name))}
    for name in given:
        if name in NOT_BEFORE:
            check_version(given[name], NOT_BEFORE[name])
    for module in modules:
        absent = [name for name in module.commands if name not in given]
        if absent:
            built = build(module, absent)
            programs |= {name: built / name for name in absent}
    return Parts(programs | given, cni)


def given_folders() -> list[Path]:
    """The folders that the user names, TRANCHE_KUBE_BIN first."""
    folders = []
    for variable in ("TRANCHE_KUBE_BIN", "KUBEBUILDER_ASSETS"):
        value = os.environ.get(variable)
        if not value:
            continue
        if not Path(value).is_dir():
            raise Trouble(f"{variable} names {value}, which is no folder; correct it or unset it")
        folders.append(Path(value).resolve())
    return folders


def find_given(name: str) -> Path | None:
    for folder in given_folders():
        if os.access(folder / name, os.X_OK):
            return folder / name
    return None


def find_on_debian(name: str) -> Path:
    found = find_given(name) or shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not found:
        raise Missing(f"{name} is missing; {MEND_DEBIAN}")
    return Path(found).resolve()


def find_cni() -> Path:
    for folder in [*given_folders(), *CNI_FOLDERS]:
        if all(os.access(folder / plugin, os.X_OK) for plugin in CNI_PLUGINS):
            return folder
    raise Missing(f"the CNI plugins {', '.join(CNI_PLUGINS)} are missing; {MEND_DEBIAN}")


def check_version(program: Path, least: tuple[int, ...]) -> None:
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", said)
    if not found:
        raise Trouble(f"{program} --version prints no version but {said.strip()!r}; name another folder")
    if tuple(map(int, found.groups())) < least:
        wanted = ".".join(map(str, least))
        raise Trouble(f"{program} is {found.group(0)}, and the tests need {wanted} or newer; "
                      "name a folder with newer programs, or none to have them built")


def build(module: Module, absent: list[str]) -> Path:
    """Builds a module's commands unless they are there. Returns the folder they lie in.

    The folder gets its name when everything in it is whole, so an interrupted build leaves nothing
    that looks like a finished one.
    """
    go = shutil.which("go")
    if not go:
        raise Missing(f"{', '.join(absent)} would have to be built, and there is no Go; {MEND_GO}")
    home = cache_folder(module, go)
    if (home / "bin").is_dir():
        return home / "bin"
    say(f"cluster: building {', '.join(module.commands)} with Go; "
        f"up to {module.minutes} minutes the first time")
    began = time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as partial:
        out = Path(partial) / "bin"
        log = home / "build.log"
        packages = [f"{module.package}/cmd/{name}" for name in module.commands]
        with log.open("w") as stream:
            done = subprocess.run([go, "build", "-trimpath", *module.flags, "-o", f"{out}/", *packages],
                                  cwd=HERE / module.folder, stdout=stream, stderr=stream)
        if done.returncode != 0:
            last = (log.read_text().strip().splitlines() or ["it printed nothing"])[-1]
            raise Trouble(f"go build in tests/cluster/{module.folder} failed: {last} (all of it: {log})")
        try:
            out.rename(home / "bin")
        except OSError:  # somebody else finished the same build first
            assert (home / "bin").is_dir()
    say(f"cluster: built in {time.monotonic() - began:.0f} s, kept in {home}")
    return home / "bin"


def cache_folder(module: Module, go: str) -> Path:
    """The name of the folder covers everything that the result depends on."""
    source = HERE / module.folder
    said = subprocess.run([go, "env", "GOVERSION", "GOARCH", "CGO_ENABLED"], cwd=source,
                          capture_output=True, text=True)
    if said.returncode != 0:
        raise Trouble(f"go env fails: {said.stderr.strip()}; {MEND_GO}")
    sum_ = hashlib.sha256(said.stdout.encode())
    for name in ("go.mod", "go.sum"):
        sum_.update((source / name).read_bytes())
    sum_.update(repr((module.commands, module.flags)).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tranche" / "cluster" / f"{module.folder}-{sum_.hexdigest()[:16]}"
