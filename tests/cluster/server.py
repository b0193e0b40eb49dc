"""One process that is meant to go on running: start it, know that it serves, say why it does not."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import host
from machine import Machine
from trouble import Trouble


@dataclass
class Server:
    name: str
    argv: Sequence[str]
    log: Path
    ready: Callable[[], bool]  # cheap; asked many times a second
    machine: Machine | None = None  # None: in the ring's own namespaces
    ports: Sequence[int] = ()  # what it will listen on
    seconds: float = 60  # how long it may take until it serves, on a busy machine
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Starts it and does not wait. Its log goes on where an earlier process stopped."""
        for port in self.ports:
            check_port(port, self.name)
        argv = self.machine.inside(list(self.argv)) if self.machine else list(self.argv)
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                                            start_new_session=True)

    def wait(self) -> None:
        """Waits until it serves."""
        deadline = time.monotonic() + self.seconds
        while not self.ready():
            if not self.running:
                raise Trouble(f"{self.name} ended before it served; its last line was: "
                              f"{self.last_line()} (all of it: {self.log})")
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name} does not serve after {self.seconds:.0f} s; its last line was: "
                              f"{self.last_line()} (all of it: {self.log})")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """Its id in the ring's namespaces. On a machine, ours is the child of what led it there."""
        assert self.process, f"{self.name} was never started"
        if not self.machine:
            return self.process.pid
        deadline = time.monotonic() + 5
        while self.running and time.monotonic() < deadline:
            if found := host.children_of(self.process.pid):
                return found[0]
            time.sleep(0.01)
        raise Trouble(f"{self.name} is not running: {self.last_line()}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10) -> None:
        """Asks it to end, and kills it when it does not in time."""
        if not self.process:
            return
        for sent in (number, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, Trouble):
                if self.running:
                    os.kill(self.pid, sent)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=seconds)
                return
        raise Trouble(f"{self.name} does not end, not even when killed")

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it logged nothing"


def check_port(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            return
        except OSError:
            pass
    who = holder_of(port)
    mend = f"stop it with `kill {who[1]}`" if who else "stop who listens there"
    by = f"by {who[0]} (process {who[1]})" if who else "by somebody"
    raise Trouble(f"port {port}, which {name} needs, is in use {by}; {mend}")


def holder_of(port: int) -> tuple[str, int] | None:
    listing = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True).stdout
    found = re.search(r'\("([^"]*)",pid=(\d+)', listing)
    return (found.group(1), int(found.group(2))) if found else None
