"""Where the programs of the cluster come from.

A folder of the user's comes first (TRANCHE_KUBE_BIN, KUBEBUILDER_ASSETS), then this machine's own
programs where those will do, and what is still missing is built with Go from the modules beside this
file. What was built is kept outside the tree and built again only when something that it depends on
changed.
"""

from __future__ import annotations

import fcntl
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
    "etcd": (3, 5, 13),  # the first that tells the API server how far a watch has come
    "containerd": (1, 7, 0),  # the first that heeds CDI devices in the CRI
}
ALSO_LOOK_IN = ("/usr/sbin", "/sbin", "/usr/local/go/bin")  # where sudo does not look, or not everybody
HELPERS = ("unshare", "nsenter", "ip", "ss", "mount", "pivot_root", "openssl")
CNI_PLUGINS = ("bridge", "host-local", "loopback")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
MEND_DEBIAN = "run `tools/install-packages cluster`"
MEND_GO = "install Go 1.24 or newer, or name a folder with the programs in TRANCHE_KUBE_BIN"


@dataclass(frozen=True)
class Module:
    """A Go module beside this file, and the commands that it pins."""

    folder: str
    commands: dict[str, str]  # what we call it, and its import path
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
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet")
    commands = {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}
    return Module("kubernetes", commands, ("-ldflags", ldflags), minutes=10)


def containerd_module() -> Module:
    names = ("containerd", "containerd-shim-runc-v2", "ctr")
    commands = {name: f"github.com/containerd/containerd/v2/cmd/{name}" for name in names}
    tags = "no_btrfs no_zfs no_aufs no_devmapper"  # snapshotters that want C libraries or devices
    return Module("containerd", commands, ("-ldflags", "-s -w", "-tags", tags), minutes=2)


def etcd_module() -> Module:
    return Module("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, ("-ldflags", "-s -w"), minutes=1)


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
    for name in HELPERS:
        find_on_debian(name)
    cni = find_cni()
    programs = {"runc": find_on_debian("runc")}
    for module in (kubernetes_module(), etcd_module(), containerd_module()):
        found = {name: path for name in module.commands if (path := find_given(name))}
        absent = [name for name in module.commands if name not in found]
        if absent:
            found |= installed(module) or build(module, absent)
        programs |= {name: find_given(name) or path for name, path in found.items()}
    return Parts(programs, cni)


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
        program = folder / name
        if os.access(program, os.X_OK):
            if not is_new_enough(program):
                least = ".".join(map(str, NOT_BEFORE[name]))
                raise Trouble(f"{program} is older than {least}; name a folder with newer programs, "
                              "or none to have them built")
            return program
    return None


def installed(module: Module) -> dict[str, Path] | None:
    """etcd and containerd as this machine has them, for those without Go. Kubernetes never: its parts
    have to be of one version."""
    if which("go") or module.folder == "kubernetes":
        return None
    found = {name: Path(path) for name in module.commands if (path := which(name))}
    whole = len(found) == len(module.commands) and all(map(is_new_enough, found.values()))
    return found if whole else None


def which(name: str) -> str | None:
    return shutil.which(name, path=":".join([os.environ.get("PATH", ""), *ALSO_LOOK_IN]))


def find_on_debian(name: str) -> Path:
    found = find_given(name) or which(name)
    if not found:
        raise Missing(f"{name} is missing; {MEND_DEBIAN}")
    return Path(found).resolve()


def find_cni() -> Path:
    for folder in [*given_folders(), *CNI_FOLDERS]:
        if all(os.access(folder / plugin, os.X_OK) for plugin in CNI_PLUGINS):
            return folder
    raise Missing(f"the CNI plugins {', '.join(CNI_PLUGINS)} are missing; {MEND_DEBIAN}")


def is_new_enough(program: Path) -> bool:
    least = NOT_BEFORE.get(program.name)
    if not least:
        return True
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if not found:
        raise Trouble(f"{program} --version prints no version but {said.strip()!r}; name another folder")
    return tuple(map(int, found.groups())) >= least


def build(module: Module, absent: list[str]) -> dict[str, Path]:
    """Builds a module's commands unless they are there.

    The folder gets its name when everything in it is whole, so an interrupted build leaves nothing
    that looks like a finished one.
    """
    go = which("go")
    if not go:
        raise Missing(f"{', '.join(absent)} would have to be built, and there is no Go; {MEND_GO}")
    home = cache_folder(module, go)
    home.mkdir(parents=True, exist_ok=True)
    programs = {name: home / "bin" / name for name in module.commands}
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody else may be building the same
        if not (home / "bin").is_dir():
            build_into(home, module, go)
    return programs


def build_into(home: Path, module: Module, go: str) -> None:
    say(f"cluster: building {', '.join(module.commands)} with Go; "
        f"the first time it may take {module.minutes} min")
    began = time.monotonic()
    for killed in home.glob("partial-*"):
        shutil.rmtree(killed)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=home) as partial:
        out = Path(partial) / "bin"
        log = home / "build.log"
        with log.open("w") as stream:
            done = subprocess.run([go, "build", "-trimpath", *module.flags, "-o", f"{out}/",
                                   *module.commands.values()],
                                  cwd=HERE / module.folder, stdout=stream, stderr=stream)
        if done.returncode != 0:
            last = (log.read_text().strip().splitlines() or ["it printed nothing"])[-1]
            raise Trouble(f"go build in tests/cluster/{module.folder} failed: {last} (all of it: {log})")
        for name, path in module.commands.items():  # etcd's would be called server
            (out / re.sub(r"/v\d+$", "", path).rsplit("/", 1)[1]).rename(out / name)
        out.rename(home / "bin")
    say(f"cluster: built in {time.monotonic() - began:.0f} s, kept in {home}")


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
