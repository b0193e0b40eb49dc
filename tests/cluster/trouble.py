"""The two things that can be said instead of a result, and the few words everybody prints with."""

from __future__ import annotations

import sys


class Trouble(Exception):
    """The machine or the ring is not as it has to be: one sentence, and what mends it."""


class Missing(Trouble):
    """Something that the ring cannot bring itself is not here: the ring is skipped."""


class Skip(Exception):
    """Raised by a test that cannot prove its sentence here, with the reason."""


def say(text: str) -> None:
    """Prints a line of progress, at once also into a pipe."""
    print(text, flush=True)


def complain(text: str) -> None:
    sys.stdout.flush()
    print(f"cluster: {text}", file=sys.stderr, flush=True)
