"""A TopicRecord is what one listener was told of one topic, over all its connections, and what is wrong with it.

Two witnesses, as for answers: ids count the events of the topic without holes, and each publisher of `PublisherUser`
numbers what it says. A publisher's clock is believed only by listeners on its own machine.
"""

import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import getnode

from loadtests.users.fault import Fault, Finding
from loadtests.users.sse import Event

NAME = "load"
"""Name of the events that our publishers send."""
LEAVING = {"drain": None, "auth": None, "busy": Fault.REFUSED, "bye": Fault.ERROR}
"""Events after which the gateway ends a stream by itself: as it may, or as a fault."""
_CURSOR = re.compile(r"e[0-9a-f]{8}\.(\w+)\.([0-9a-z]+)")
"""A cursor of a stream of one topic: its epoch, and the offset with 36 digits."""


def clock() -> str:
    """Returns the name of the clock behind `time.monotonic_ns`: processes of a machine share it, no two machines do."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else f"{getnode():x}"


CLOCK = clock()


class Hello(NamedTuple):
    """Holds the first event of a connection."""

    recovered: bool
    reason: str
    missed: int | None
    ping_s: float
    max_age_s: float

    @classmethod
    def read(cls, data: str) -> "Hello":
        """Reads a hello. Raises ValueError, KeyError or TypeError when it is none."""
        body = json.loads(data)
        recovered, ping_s, max_age_s = body["recovered"], float(body["ping"]), float(body["maxAge"])
        return cls(recovered, body.get("reason", ""), body.get("missed"), ping_s, max_age_s)


def _offset(cursor: str) -> int | None:
    match = _CURSOR.fullmatch(cursor)
    return int(match[2], 36) if match else None


@dataclass
class TopicRecord:
    """Takes events in the order in which they came, and returns findings."""

    cursor: str = ""
    hello: Hello | None = None
    """The hello of the newest connection; None until it has come."""
    leaving: str = ""
    """The event with which the gateway said that it ends this connection."""
    newest: dict[str, int] = field(default_factory=dict)
    """The last number of each publisher."""
    delay_ms: float | None = None
    """Delay of the newest event from its publisher to here; None where it cannot be known."""
    offset: int | None = None
    """Offset of the newest event, or where the stream began."""

    def connect(self) -> None:
        """Begins a new connection, which is asked for what follows `cursor`."""
        self.hello, self.leaving = None, ""

    def take(self, event: Event) -> list[Finding]:
        """Takes one event, and returns what is wrong with it. Raises ValueError or KeyError when its data is not what
        its name says.
        """
        self.delay_ms = None
        findings = self._say(event)
        if event.id and not any(finding.fault is Fault.DOUBLED for finding in findings):
            self.cursor = event.id
        return findings

    def _say(self, event: Event) -> list[Finding]:
        if event.name == "hello":
            return self._hello(event)
        if event.name in LEAVING:
            self.leaving = event.name
            return [Finding(LEAVING[event.name], f"`{event.name}`: {event.data}")] if LEAVING[event.name] else []
        if self.hello is None:
            return [Finding(Fault.OUT_OF_ORDER, f"`{event.name}` came before `hello`")]
        if event.name == "gap":
            self._forget(event.id)
            return [Finding(Fault.GONE, f"a gap: {event.data}")]
        if not event.id:
            return [Finding(Fault.ERROR, f"an event without an id: {event.data[:80]!r}")]
        return self._place(event)

    def _hello(self, event: Event) -> list[Finding]:
        hello = self.hello = Hello.read(event.data)
        if hello.recovered and self.cursor == event.id:
            return []
        self._forget(event.id)
        if not hello.recovered:
            kind = Fault.GONE if hello.reason in ("evicted", "replay_limit") else Fault.NO_RESUME
            return [Finding(kind, f"came back with {self.cursor}: {hello.reason}, {hello.missed} events missed")]
        if self.cursor:
            return [Finding(Fault.NO_RESUME, f"came back with {self.cursor} and was told to begin at {event.id}")]
        return []

    def _forget(self, cursor: str) -> None:
        """Forgets the position: what comes next need not follow what came before."""
        self.offset = _offset(cursor)
        self.newest.clear()

    def _place(self, event: Event) -> list[Finding]:
        offset = _offset(event.id)
        step = 1 if offset is None or self.offset is None else offset - self.offset
        if step <= 0:
            return [Finding(Fault.DOUBLED, f"{event.id} came after {self.cursor}")]
        self.offset = offset
        findings = self._number(event) if event.name == NAME else []
        if step > 1 and not findings:
            return [Finding(Fault.LOST, f"{event.id} came right after {self.cursor}")]
        return findings

    def _number(self, event: Event) -> list[Finding]:
        body = json.loads(event.data)
        by, number = body["by"], body["n"]
        if body["clock"] == CLOCK:
            self.delay_ms = (time.monotonic_ns() - body["at"]) / 1e6
        due = self.newest[by] + 1 if by in self.newest else number
        self.newest[by] = max(number, due - 1)
        if number == due:
            return []
        kind = Fault.LOST if number > due else Fault.DOUBLED
        return [
            Finding(kind, f"number {number} of publisher {by} came where {due} was due, {event.id} after {self.cursor}")
        ]
