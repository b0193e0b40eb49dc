"""That the ring goes away whatever happens to it, and that bad input gets one sentence and its cure.

Nothing here needs Kubernetes: the rings are empty ones, inside this one. Run as a program, this file
is such a ring.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import host
import kube
import machine
import parts
import server
from trouble import Missing, Trouble

HERE = Path(__file__).resolve().parent


# --- it goes away ---


def test_an_interrupt_leaves_nothing() -> None:
    with folder() as home, ring_in(home) as runner:
        runner.send_signal(signal.SIGINT)
        runner.wait(timeout=30)
        assert left_in(home) == []


def test_a_request_to_end_leaves_nothing() -> None:
    with folder() as home, ring_in(home) as runner:
        runner.send_signal(signal.SIGTERM)
        runner.wait(timeout=30)
        assert left_in(home) == []


def test_a_killed_runner_takes_every_process_along() -> None:
    with folder() as home, ring_in(home) as runner:
        kube.wait_for("a process that says whose it is", lambda: "process" in left_in(home), seconds=20)
        runner.kill()
        kube.wait_for("the end of the ring's processes", lambda: "process" not in left_in(home), seconds=20)
        assert left_in(home) == ["cgroup", "folder"]


def test_what_a_killed_ring_left_is_removed_by_the_next_start() -> None:
    with folder() as home, ring_in(home) as runner:
        runner.kill()
        with ring_in(home) as second:
            second.send_signal(signal.SIGINT)
            second.wait(timeout=30)
        assert left_in(home) == []


def test_what_a_killed_ring_left_is_removed_by_clean() -> None:
    with folder() as home, ring_in(home) as runner:
        runner.kill()
        done = run_run("clean", TRANCHE_CLUSTER_DIR=str(home))
        assert done.returncode == 0, done.stderr
        assert left_in(home) == []


def test_a_second_ring_is_refused_and_told_who_runs() -> None:
    with folder() as home, ring_in(home) as runner:
        done = run_run("clean", TRANCHE_CLUSTER_DIR=str(home))
        assert done.returncode == 2
        assert f"another ring runs in {home} (process {runner.pid}); " in done.stderr
        assert done.stderr.count("\n") == 1


# --- bad input ---


def test_a_port_in_use_is_named_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        said = sentence_of(lambda: server.check_port(port, "etcd"))
    name = Path("/proc/self/comm").read_text().strip()
    assert said == (f"port {port}, which etcd needs, is in use by {name} (process {os.getpid()}); "
                    f"stop it with `kill {os.getpid()}`")


def test_a_server_that_ends_early_is_told_with_its_last_line() -> None:
    with folder() as home:
        log = home / "log"
        words = ["sh", "-c", "echo one; echo no space left; exit 1"]
        dying = server.Server("etcd", words, log, lambda: False)
        dying.start()
        said = sentence_of(dying.wait)
    assert said == f"etcd ended before it served; its last line was: no space left (all of it: {log})"


def test_a_missing_tool_is_named_with_what_installs_it_and_counts_as_skipped() -> None:
    with folder() as home, programs_without(home, "openssl") as path:
        done = run_run("test", PATH=str(path))
    assert done.stderr == "cluster: openssl is missing; run `tools/install-packages cluster`\n"
    assert done.stdout.endswith("\n0 passed, 0 failed, 1 skipped\n")
    assert done.returncode == 0


def test_without_go_and_without_a_folder_it_is_said_what_would_do() -> None:
    env = {"TRANCHE_KUBE_BIN": "", "KUBEBUILDER_ASSETS": ""}
    with folder() as home, programs_without(home, "go") as path, environment(env | {"PATH": str(path)}):
        with mock.patch.object(parts, "ALSO_LOOK_IN", ()):
            said = sentence_of(parts.find_parts, Missing)
    assert said.endswith("there is no Go; install Go 1.24 or newer, or name a folder with the programs in "
                         "TRANCHE_KUBE_BIN")


def test_a_folder_with_an_old_kubernetes_is_refused() -> None:
    with folder() as home:
        old = script(home / "kubelet", "echo Kubernetes v1.33.9")
        done = run_run("test", TRANCHE_KUBE_BIN=str(home))
    assert f"{old} is older than 1.34.2; name a folder with newer programs" in done.stderr
    assert done.stdout.endswith("0 passed, 1 failed, 0 skipped\n")
    assert done.returncode == 2


def test_an_unfinished_build_is_not_taken_for_a_finished_one() -> None:
    """A go that leaves half a program behind and dies, and then one that does its work."""
    out = 'while [ "$1" != -o ]; do shift; done; mkdir -p "$2"; echo half >"$2/kubelet"'
    module = parts.Module("kubernetes", {"kubelet": "example.com/kubelet"}, (), minutes=1)
    with folder() as home, contextlib.redirect_stdout(io.StringIO()):
        env = {"XDG_CACHE_HOME": str(home / "cache"), "PATH": f"{home}:{os.environ['PATH']}"}
        with environment(env):
            script(home / "go", f'[ "$1" = env ] && exit; {out}; echo disk full >&2; exit 1')
            assert "failed: disk full" in sentence_of(lambda: parts.build(module, ["kubelet"]))
            script(home / "go", f'[ "$1" = env ] && exit; {out}; echo whole >"$2/kubelet"')
            assert parts.build(module, ["kubelet"])["kubelet"].read_text() == "whole\n"


# --- helpers ---


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    path = host.home() / f"harness-{time.monotonic_ns()}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def ring_in(home: Path) -> Iterator[subprocess.Popen[str]]:
    """An empty ring with one machine, up. Whatever is left of it at the end is removed."""
    env = os.environ | {"TRANCHE_CLUSTER_DIR": str(home)}
    runner = subprocess.Popen([sys.executable, __file__, "outside"], env=env, stdout=subprocess.PIPE,
                              text=True)
    try:
        assert runner.stdout and runner.stdout.readline() == "up\n"
        yield runner
    finally:
        runner.kill()
        runner.communicate()
        run_run("clean", TRANCHE_CLUSTER_DIR=str(home))


def left_in(home: Path) -> list[str]:
    """What kinds of things are left of a ring. Its processes all carry its folder's name."""
    with environment({"TRANCHE_CLUSTER_DIR": str(home)}):
        left = ["cgroup"] if any((at / host.ring_cgroup()).exists() for at in host.hierarchies()) else []
        left += ["folder"] if host.scratch().exists() else []
    if str(home) in Path("/proc/self/mountinfo").read_text():
        left.append("mount")
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"mark={home}".encode() in path.read_bytes():
                return [*left, "process"]
    return left


def run_run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, HERE / "run", *argv], env=os.environ | env, capture_output=True,
                          text=True, timeout=60)


def sentence_of(action: Callable[[], object], kind: type[Trouble] = Trouble) -> str:
    try:
        action()
    except kind as trouble:
        return str(trouble)
    raise AssertionError("nothing was said")


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def programs_without(home: Path, absent: str) -> Iterator[Path]:
    """A folder for PATH with everything the ring looks for but one."""
    path = home / "programs"
    path.mkdir()
    for name in {"runc", "go", "cc", "busybox", *parts.HELPERS} - {absent}:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if found:
            (path / name).symlink_to(found)
    yield path


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def outside() -> int:
    return host.live([sys.executable, __file__, "inside"])


def inside() -> int:
    """As little of a ring as needs taking down: a switch, a machine, a daemon that will not listen."""
    machine.run("ip", "link", "add", "switch", "type", "bridge")
    memory = host.scratch() / "memory"
    memory.mkdir()
    machine.run("mount", "-t", "tmpfs", "tmpfs", str(memory))
    node = machine.Machine("node-0", "10.89.0.10", memory, host.scratch() / "log", [])
    node.start()
    deaf = f"trap '' INT TERM; while :; do sleep 1; done # mark={host.home()}"
    subprocess.Popen(node.inside(["sh", "-c", deaf]), start_new_session=True)
    with contextlib.suppress(KeyboardInterrupt):
        print("up", flush=True)
        signal.pause()
    return 130


if __name__ == "__main__":
    sys.exit({"outside": outside, "inside": inside}[sys.argv[1]]())
