"""Finds the tests, runs them, prints a line for each and keeps what explains a failure.

A test is a function `test_…` in a file tests/cluster/test_*.py. If it takes an argument, that is the
running ring; without one it needs no cluster, and runs before there is one.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType

from ring import Ring
from trouble import Skip, Trouble, complain, say

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Test:
    module: str
    name: str
    needs_ring: bool

    @property
    def sentence(self) -> str:
        return self.name.removeprefix("test_").replace("_", " ")


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def line(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def discover(wanted: list[str]) -> list[Test]:
    """All tests in the order of files and lines, or those that a wanted word is part of."""
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        functions = [value for name, value in vars(module).items() if name.startswith("test_")
                     and inspect.isfunction(value) and value.__module__ == path.stem]
        for function in sorted(functions, key=lambda f: f.__code__.co_firstlineno):
            needs_ring = bool(inspect.signature(function).parameters)
            found.append(Test(path.stem, function.__name__, needs_ring))
    if wanted:
        found = [test for test in found if any(word in f"{test.module}.{test.name}" for word in wanted)]
    return found


def run(tests: list[Test], ring: Ring | None, logs: Path, tally: Tally) -> None:
    """Runs tests, each file's between its set_up(ring) and the deletion of what that applied."""
    for name in dict.fromkeys(test.module for test in tests):
        module = sys.modules[name]
        mine = [test for test in tests if test.module == name]
        say(f"-- {name.removeprefix('test_').replace('_', ' ')}")
        with ring.borrowed() if ring else nullcontext():
            if prepare(module, mine, ring, logs, tally):
                for test in mine:
                    run_one(module, test, ring, logs, tally)
            if ring and (clear := getattr(module, "tear_down", None)):
                judge("tear_down", lambda: clear(ring), ring, logs / name, tally, count=False)


def prepare(module: ModuleType, mine: list[Test], ring: Ring | None, logs: Path, tally: Tally) -> bool:
    """A file's set_up. When it fails none of its tests can be run, which fails them all."""
    set_up = getattr(module, "set_up", None)
    if not set_up or not ring:
        return True
    outcome = judge("set_up", lambda: set_up(ring), ring, logs / module.__name__, tally, count=False)
    if outcome == "skip":
        tally.skipped += len(mine)
    elif outcome == "FAIL":
        tally.failed += len(mine)
        tally.failures += [f"{module.__name__}.{test.name}" for test in mine]
    return outcome == "ok"


def run_one(module: ModuleType, test: Test, ring: Ring | None, logs: Path, tally: Tally) -> None:
    function = getattr(module, test.name)

    def body() -> None:
        with ring.borrowed() if ring else nullcontext():
            function(*([ring] if test.needs_ring else []))

    judge(test.sentence, body, ring, logs / f"{module.__name__}.{test.name}", tally)


def judge(sentence: str, body: Callable[[], None], ring: Ring | None, logs: Path, tally: Tally,
          count: bool = True) -> str:
    """Runs a body and says how it ended: ok, skip or FAIL. Of those that do not count only the
    exceptions are told."""
    began = time.monotonic()
    outcome, remark = "ok", ""
    try:
        body()
    except Skip as reason:
        outcome, remark = "skip", f": {reason}"
    except Exception as error:
        outcome, remark = "FAIL", ""
        explain(error, ring, logs)
    if count or outcome != "ok":
        say(f"{outcome:<5} {sentence}{remark}  ({time.monotonic() - began:.1f} s)")
    if count:
        tally.passed += outcome == "ok"
        tally.skipped += outcome == "skip"
        tally.failed += outcome == "FAIL"
        tally.failures += [logs.name] if outcome == "FAIL" else []
    return outcome


def below_us(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this file, which say nothing."""
    while frames and frames.tb_next and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return frames


def explain(error: Exception, ring: Ring | None, logs: Path) -> None:
    """The error where it can be read, and the ring's logs of this moment beside it."""
    text = "".join(traceback.format_exception(type(error), error, below_us(error.__traceback__)))
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "error.txt").write_text(text)
    say(re.sub(r"^", "    | ", text.rstrip(), flags=re.M))
    if ring:
        try:
            ring.keep_logs(logs)
        except (OSError, Trouble) as trouble:
            complain(f"not all logs could be kept: {trouble}")
    say(f"    | logs: {logs}")
