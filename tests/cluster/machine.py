"""A machine: namespaces in which the real paths can be used without touching the real ones.

Its root is an overlay of this machine's, with what is written kept in memory; /var is a folder of the
ring's scratch; /run, /tmp, /dev, /proc and /sys are its own; its cgroups are all there are. A reboot
ends every process and mount of it and keeps /var and the overlay.

Run as a program, this file is the first process of such a machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import host
from trouble import Trouble

# Settings of the whole kernel that the kubelet insists on. Inside a machine it finds them as it
# likes them, in files that hide the real ones, and leaves the kernel alone.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
DEVICES = {
    "null": (1, 3, 0o666), "zero": (1, 5, 0o666), "full": (1, 7, 0o666), "random": (1, 8, 0o666),
    "urandom": (1, 9, 0o666), "tty": (5, 0, 0o666), "kmsg": (1, 11, 0o644), "fuse": (10, 229, 0o666),
}
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
                "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}


@dataclass
class Machine:
    """One machine, seen from the ring's namespaces. start() and stop() are its power switch."""

    name: str
    address: str  # inside the ring's network
    memory: Path  # a file system in memory, for what the overlay keeps
    log: Path
    shown: list[Path]  # folders to show from this machine as they are
    init: subprocess.Popen[str] | None = field(default=None, init=False)
    cgroups: list[Path] = field(default_factory=list, init=False)

    @property
    def var(self) -> Path:
        return host.scratch() / "machines" / self.name / "var"

    @property
    def pid(self) -> int:
        """The machine's first process."""
        assert self.init, f"{self.name} is not running"
        found = host.children_of(self.init.pid)
        if not found:
            raise Trouble(f"the machine {self.name} has ended")
        return found[0]

    def start(self) -> None:
        top = host.make_cgroup(self.name)
        plan = {"name": self.name, "memory": str(self.memory / self.name), "var": str(self.var),
                "shown": [str(path) for path in self.shown]}
        # The cgroup it is in when its namespace is made is the root that it sees.
        command = join(top, ["unshare", "--fork", "--kill-child", "--cgroup", *host.NAMESPACES,
                             sys.executable, str(Path(__file__)), json.dumps(plan)])
        with self.log.open("a") as log:
            self.init = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=log, start_new_session=True, text=True)
        assert self.init.stdout
        if self.init.stdout.readline() != "ready\n":
            last = (self.log.read_text().strip().splitlines() or ["it said nothing"])[-1]
            raise Trouble(f"the machine {self.name} did not start: {last} (all of it: {self.log})")
        # Under v2 a cgroup with processes of its own hands no controller down: they move to a leaf.
        self.cgroups = host.make_cgroup(f"{self.name}/daemons")
        for cgroup in self.cgroups:
            for pid in (self.init.pid, self.pid):
                (cgroup / "cgroup.procs").write_text(str(pid))
        host.make_cgroup(f"{self.name}/daemons")  # once more, now that controllers can be handed down
        self.plug_in()

    def plug_in(self) -> None:
        """A cable from the machine to the ring's switch."""
        cable = f"to-{self.name}"[:15]
        run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        run("ip", "link", "set", cable, "master", "switch", "up")
        self.run(["ip", "address", "add", f"{self.address}/24", "dev", "eth0"])
        self.run(["ip", "link", "set", "lo", "up"])
        self.run(["ip", "link", "set", "eth0", "up"])
        self.run(["ip", "route", "add", "default", "via", gateway(self.address)])
        self.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])

    def stop(self) -> None:
        """Pulls the plug: every process of the machine is killed and every mount of it goes."""
        if not self.init:
            return
        for pid in host.children_of(self.init.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.init.wait(timeout=30)
        if self.init.stdout:
            self.init.stdout.close()
        self.init = None
        host.remove_cgroups(self.name)

    def reaches(self, socket_path: str) -> bool:
        """Whether somebody accepts connections to a socket of the machine's."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(Path("/proc", str(self.pid), "root", socket_path.lstrip("/"))))
                return True
            except OSError:
                return False

    def inside(self, argv: list[str]) -> list[str]:
        """The command that runs argv in the machine. It has one child, which is argv."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv]
        return join(self.cgroups, enter)

    def run(self, argv: list[str], seconds: float = 60, input: str | None = None,
            check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.inside(argv), capture_output=True, text=True, timeout=seconds,
                              input=input)
        if check and done.returncode != 0:
            raise Trouble(f"on {self.name}, {' '.join(argv)} exited with {done.returncode}: "
                          f"{(done.stderr or done.stdout).strip()}")
        return done


def join(cgroups: list[Path], argv: list[str]) -> list[str]:
    """The command that puts itself into cgroups and becomes argv."""
    script = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"'
    return ["/bin/sh", "-c", script, "join", *map(str, cgroups), "--", *argv]


def gateway(address: str) -> str:
    return address.rsplit(".", 1)[0] + ".1"


def run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(argv)} exited with {done.returncode}: {done.stderr.strip()}")


# --- inside: the machine's first process ---


def boot(name: str, memory: Path, var: Path, shown: list[Path]) -> None:
    """Puts the machine's file system together and makes it the root."""
    root = memory / "root"
    for layer in (root, memory / "upper", memory / "work"):
        layer.mkdir(parents=True, exist_ok=True)
    layers = f"lowerdir=/,upperdir={memory}/upper,workdir={memory}/work"
    run("mount", "-t", "overlay", "overlay", "-o", layers, str(root))
    mount_var(var, root / "var")
    for folder, mode in (("run", "755"), ("tmp", "1777")):
        run("mount", "-t", "tmpfs", "-o", f"mode={mode}", "tmpfs", str(root / folder))
    for path in shown:  # late, for those that lie in a /tmp or /var which is hidden now
        (root / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", str(path), str(root / path.relative_to("/")))
    mount_dev(root / "dev")
    run("mount", "-t", "proc", "proc", str(root / "proc"))
    hide_kernel_settings(root, memory)
    run("mount", "-t", "sysfs", "sysfs", str(root / "sys"))
    mount_cgroups(root, f"{host.ring_cgroup()}/{name}")
    change_root(root)
    run("mount", "--make-rshared", "/")  # mounts in pods may ask to be seen by others
    Path("/proc/sys/kernel/hostname").write_text(name)


def mount_var(var: Path, at: Path) -> None:
    for folder in ("lib", "log", "cache"):
        (var / folder).mkdir(parents=True, exist_ok=True)
    (var / "tmp").mkdir(mode=0o1777, exist_ok=True)
    if not (var / "run").is_symlink():
        (var / "run").symlink_to("/run")
    run("mount", "--bind", str(var), str(at))


def mount_dev(dev: Path) -> None:
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(dev))
    os.umask(0)
    for name, (major, minor, mode) in DEVICES.items():
        os.mknod(dev / name, 0o020000 | mode, os.makedev(major, minor))
    for link, target in DEVICE_LINKS.items():
        (dev / link).symlink_to(target)
    for folder, kind, options in (("pts", "devpts", "newinstance,ptmxmode=0666,mode=620,gid=5"),
                                  ("shm", "tmpfs", "mode=1777"), ("mqueue", "mqueue", "rw")):
        (dev / folder).mkdir()
        run("mount", "-t", kind, "-o", options, kind, str(dev / folder))
    os.umask(0o022)


def hide_kernel_settings(root: Path, memory: Path) -> None:
    for name, value in KERNEL_SETTINGS.items():
        file = memory / "settings" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
        run("mount", "--bind", str(file), str(root / "proc" / "sys" / name))


def mount_cgroups(root: Path, cgroup: str) -> None:
    """Shows the machine's own cgroups where the whole machine's would be."""
    at = root / host.CGROUP_MOUNT.relative_to("/")
    found = host.hierarchies()
    if found != [host.CGROUP_MOUNT]:
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(at))
        for link in host.CGROUP_MOUNT.iterdir():  # cpu -> cpu,cpuacct
            if link.is_symlink():
                (at / link.name).symlink_to(os.readlink(link))
    for hierarchy in found:
        target = root / hierarchy.relative_to("/")
        target.mkdir(exist_ok=True)
        run("mount", "--bind", str(hierarchy / cgroup), str(target))


def change_root(root: Path) -> None:
    os.chdir(root)
    (root / "mnt").mkdir(exist_ok=True)
    run("pivot_root", ".", "mnt")
    os.chdir("/")
    run("umount", "-l", "/mnt")


def reap() -> None:
    """The duty of a first process: to see off the orphans."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        signal.sigwait({signal.SIGCHLD})


def main() -> None:
    plan = json.loads(sys.argv[1])
    boot(plan["name"], Path(plan["memory"]), Path(plan["var"]), [Path(path) for path in plan["shown"]])
    print("ready", flush=True)
    os.close(1)
    reap()


if __name__ == "__main__":
    main()
