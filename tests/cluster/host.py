"""What the ring leaves on this machine while it runs, and how it goes away.

The ring lives in pid, mount, network, uts and ipc namespaces of its own: when its first process
ends, however it ends, every process, mount and network of it ends as well. What a namespace does not
take with it are a folder and cgroups. Both have one fixed place per ring, so that the next start, or
`run clean`, finds what a killed ring left. A lock tells a running ring from a stale one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from trouble import Missing, Trouble

CGROUP_MOUNT = Path("/sys/fs/cgroup")
CAP_SYS_RESOURCE = 24
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAMESPACES = ("--pid", "--mount", "--net", "--uts", "--ipc", "--mount-proc", "--propagation", "private")
UNFIT_FILESYSTEMS = ("overlay", "tmpfs")  # overlays cannot lie on the one, should not on the other


def home() -> Path:
    """The ring's folder. It holds a hundred megabytes of images and logs, and wants a real disk."""
    return Path(os.environ.get("TRANCHE_CLUSTER_DIR") or "/var/tmp/tranche-cluster").absolute()


def scratch() -> Path:
    """What belongs to one run, below home(): removed as a whole."""
    return home() / "ring"


def need_root() -> None:
    if os.geteuid() != 0:
        raise Missing("namespaces and cgroups of a cluster need root; run it with sudo")


def has_capability(number: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


# --- one ring at a time ---


@contextlib.contextmanager
def locked() -> Iterator[int]:
    """Holds home()'s lock and gives its descriptor. Children that inherit it hold the lock, too, so
    it is free only when nothing of the ring runs any more."""
    home().mkdir(parents=True, exist_ok=True)
    path = home() / "lock"
    deadline = time.monotonic() + 3  # a killed ring's last processes need a moment to end
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_same_file(fd, path):
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(fd, 32, 0).decode().strip() or "?"
                os.close(fd)
                raise Trouble(f"another ring runs in {home()} (process {holder}); wait for it, stop it, "
                              "or set TRANCHE_CLUSTER_DIR to another folder") from None
            time.sleep(0.05)
        os.close(fd)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    try:
        yield fd
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)
        with contextlib.suppress(OSError):
            home().rmdir()  # only if nobody put something there


def is_same_file(fd: int, path: Path) -> bool:
    """False when the holder before us removed the file between our open and our lock."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


# --- cgroups ---


def hierarchies() -> list[Path]:
    """Where cgroup file systems are mounted: one under v2, one per controller or so under v1."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        if after.split()[0] in ("cgroup", "cgroup2") and before.split()[4].startswith(str(CGROUP_MOUNT)):
            found.append(Path(before.split()[4]))
    if not found:
        raise Missing(f"there are no cgroups below {CGROUP_MOUNT}; the tests need a machine that has them")
    return found


def is_v2(hierarchy: Path) -> bool:
    return (hierarchy / "cgroup.controllers").exists()


def ring_cgroup() -> str:
    """The one cgroup that all others of the ring lie below, in every hierarchy."""
    return "tranche-cluster-" + hashlib.sha256(str(home()).encode()).hexdigest()[:8]


def make_cgroup(relative: str) -> list[Path]:
    """Makes a cgroup below the ring's in every hierarchy, with its parents, and gives them."""
    made = []
    for hierarchy in hierarchies():
        at = hierarchy
        for part in Path(ring_cgroup(), relative).parts:
            if is_v2(hierarchy):
                enable_controllers(at)
            at = at / part
            try:
                at.mkdir(exist_ok=True)
            except OSError as error:
                raise Missing(f"{at} cannot be made ({error.strerror}); "
                              "the tests need a machine that lets root make cgroups") from None
            inherit_cpuset(at)
        made.append(at)
    return made


def enable_controllers(cgroup: Path) -> None:
    """v2 hands a controller to children only when told to."""
    for controller in (cgroup / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):
            (cgroup / "cgroup.subtree_control").write_text(f"+{controller}")


def inherit_cpuset(cgroup: Path) -> None:
    """v1 makes a cpuset empty, and an empty one takes no process."""
    for name in ("cpuset.mems", "cpuset.cpus"):
        file = cgroup / name
        if file.exists() and not is_v2(cgroup) and not file.read_text().strip():
            file.write_text((cgroup.parent / name).read_text())


def remove_cgroups(relative: str = "") -> None:
    """Kills what is in a cgroup of the ring, in every hierarchy, and removes it, deepest first."""
    for hierarchy in hierarchies():
        top = hierarchy / ring_cgroup() / relative
        deadline = time.monotonic() + 10
        while top.exists():
            for folder, _, _ in os.walk(top, topdown=False):
                remove_cgroup(Path(folder))
            if top.exists() and time.monotonic() > deadline:
                raise Trouble(f"{top} cannot be removed; see who is in its cgroup.procs files and "
                              "run `tests/cluster/run clean`")


def remove_cgroup(cgroup: Path) -> None:
    try:
        for pid in (cgroup / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        cgroup.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        time.sleep(0.01)  # the processes are ending; the caller comes back


# --- the folder ---


def make_scratch() -> None:
    scratch().mkdir(parents=True)
    asked = subprocess.run(["stat", "-f", "-c", "%T", scratch()], capture_output=True, text=True)
    kind = asked.stdout.strip()
    if kind.startswith(UNFIT_FILESYSTEMS):
        raise Trouble(f"{home()} lies on {kind}, where containerd cannot unpack images; "
                      "set TRANCHE_CLUSTER_DIR to a folder on a disk")


def remove_scratch() -> None:
    """Removes the folder. The mounts below it live in a namespace that is gone; should one be here
    after all, what it shows is not ours to remove."""
    if not scratch().exists():
        return
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{scratch()}/"):
            raise Trouble(f"{line.split()[4]} is still mounted; run `umount -R {line.split()[4]}`, "
                          "then `tests/cluster/run clean`")
    subprocess.run(["rm", "-rf", "--one-file-system", scratch()], check=True)


def clean() -> None:
    """Removes what a ring left that is no longer there. Needs the lock."""
    remove_cgroups()
    remove_scratch()


# --- into the namespaces ---


def live(argv: list[str], interactive: bool = False) -> int:
    """The whole life of a ring: lock, folder, argv in new namespaces, and nothing left. Returns the
    exit status of argv. Interactive programs stay on the terminal, which tells them of interrupts
    itself."""
    with locked() as lock:
        clean()
        try:
            make_scratch()
            return enter(argv, lock, interactive)
        finally:
            for number in ENDINGS:  # too late for them: removing takes a second and is what they want
                signal.signal(number, signal.SIG_IGN)
            clean()


def enter(argv: list[str], lock: int, interactive: bool) -> int:
    """Waits for argv, and passes requests to end on to it. If it is still there ten seconds after
    one, or at the second, everything is killed: the end of unshare is the end of the namespaces."""
    command = ["unshare", "--fork", "--kill-child", *NAMESPACES, sys.executable, str(Path(__file__)), *argv]
    child = subprocess.Popen(command, pass_fds=[lock], preexec_fn=end_with_parent,
                             start_new_session=not interactive)
    for number in ENDINGS:
        signal.signal(number, lambda number, _: pass_on(child, number))
    if interactive:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = child.wait()
        return code if code >= 0 else 128 - code
    finally:
        signal.alarm(0)
        child.kill()
        child.wait()


def end_with_parent() -> None:
    """Between fork and exec: be killed when the parent ends, even by SIGKILL."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def pass_on(child: subprocess.Popen[bytes], number: int) -> None:
    """unshare has one child, the namespaces' first process, which passes the signal on."""
    if signal.alarm(10):  # not the first request
        child.kill()
        return
    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    for pid in children_of(child.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)


def children_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def first_process(argv: list[str]) -> int:
    """The first process of the namespaces: runs argv, and reaps what is left to it."""
    child = subprocess.Popen(argv, close_fds=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: child.send_signal(number))
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    code = first_process(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
