"""All clients from npm run in all scenes, in one Node process, which `js/event_driver.mjs` is.

Owns the process and who is told what; the clients themselves are in `js/event_clients.mjs`.
"""

import functools
import itertools
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from tests.clients.events.application import NAMES, Application, Event
from tests.clients.node import install, tool


class DriverReport(msgspec.Struct, frozen=True):
    """One line from the driver: an event, a failure, or why a client gave up."""

    client: int
    event: Event | None = None
    failure: str = ""
    ending: str = ""


class NodeClients:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [tool("node"), "--no-warnings", str(install() / "event_driver.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._applications: dict[int, Application] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def follow(self, kind: str, url: str, application: Application) -> Callable[[], None]:
        client = next(self._numbers)
        self._applications[client] = application
        self._say({"client": client, "open": kind, "url": url, "names": NAMES})
        return functools.partial(self._say, {"client": client})

    def close(self) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.close()
        self._process.wait(10)
        self._listener.join(5)
        stdout.close()

    def _say(self, command: dict[str, Any]) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            stdin.write(msgspec.json.encode(command) + b"\n")
            stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = msgspec.json.decode(line, type=DriverReport)
            application = self._applications[report.client]
            if report.event is not None:
                application.tell(report.event)
            elif report.failure:
                application.fail(report.failure)
            else:
                application.end(report.ending)
        for application in self._applications.values():
            application.end("the driver has ended")
