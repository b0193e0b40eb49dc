"""The API server, asked directly: a test polls often, and starting kubectl takes a tenth of a second."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Object = dict[str, Any]


class ApiError(Exception):
    """The API server's refusal."""

    def __init__(self, method: str, path: str, status: int, message: str) -> None:
        super().__init__(f"{method} {path}: {status} {message}")
        self.status = status


class Api:
    """A client with one token. Its connection is made anew whenever it broke."""

    def __init__(self, address: str, port: int, authority: Path, token: str) -> None:
        self.address, self.port, self.token = address, port, token
        self.tls = ssl.create_default_context(cafile=str(authority))
        self.connection: http.client.HTTPSConnection | None = None

    def __call__(self, method: str, path: str, body: Object | list[Object] | None = None,
                 kind: str = "application/json", seconds: float = 30) -> Any:
        """Returns the parsed answer, or its text where it is not JSON. Raises ApiError, or OSError
        when nobody answers."""
        status, text = self._send(method, path, None if body is None else json.dumps(body), kind, seconds)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        if status >= 400:
            message = answer.get("message", text) if isinstance(answer, dict) else text
            raise ApiError(method, path, status, message)
        return answer

    def get(self, path: str) -> Any:
        return self("GET", path)

    def find(self, path: str) -> Any:
        """get(), with None for what is not there."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def answers(self) -> bool:
        try:
            return bool(self("GET", "/readyz", seconds=2) == "ok")
        except (OSError, http.client.HTTPException, ApiError):
            return False

    def _send(self, method: str, path: str, body: str | None, kind: str, seconds: float) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        for attempt in (1, 2):
            fresh = self.connection is None
            if self.connection is None:
                self.connection = http.client.HTTPSConnection(self.address, self.port, context=self.tls)
            self.connection.timeout = seconds
            try:
                self.connection.request(method, path, body, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException):
                self.connection.close()
                self.connection = None
                if fresh or attempt == 2:  # an old connection may have been closed while it was idle
                    raise
        raise AssertionError("not reached")


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = 60, every: float = 0.05) -> T:
    """Asks until the probe's answer is neither None nor False, and returns it. AssertionErrors and
    refusals of the API server count as "not yet" and are told when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        last: object = None
        try:
            found = probe()
            if found is not None and found is not False:
                return found
            last = found
        except (AssertionError, ApiError, OSError, http.client.HTTPException) as error:
            last = error or type(error).__name__
        if time.monotonic() > deadline:
            hint = f"; at last: {last}" if last else ""
            raise AssertionError(f"waited {seconds:.0f} s for {what}, in vain{hint}")
        time.sleep(every)
