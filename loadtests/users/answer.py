"""A StreamedAnswer is what a client holds of one answer, over all its connections, and what is wrong with it.

Two witnesses check the same stream. Ids count the events of a run, so they work with any model; one may lack where a
step has begun, because a gateway with tools keeps there what another process would go on with. Marks (`~s7~t123~`, of
`loadtests.upstream` with a model named `...+marks`) count the tokens where they are made, so they also
see what is lost before the gateway numbers it; and they tell when each token was made.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loadtests.users.fault import Fault, Finding
from loadtests.users.sse import Event

DONE = "[DONE]"
TERMINAL = ("finish", "error", "abort")
MAX_EVENTS = 50_000
"""Events after which an answer is given up: it would fill the memory of the client."""
_MARK = re.compile(r"~s(\d+)~t(\d+)~")
_CURSOR = re.compile(r"(.+)\.(\d+)")


class Token(NamedTuple):
    """Says when a piece of text arrived, and when its model made it (on the model's own clock) where that is known."""

    arrived_s: float
    made_s: float | None


@dataclass
class StreamedAnswer:
    """Takes events in the order in which they came, and returns findings.

    `asked`: how many tokens the model was asked for; counts only when they carry marks.
    """

    expected_tokens: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    terminal: str = ""
    ended_s: float = 0.0
    """Time at which the terminal event came."""
    is_done: bool = False
    leaving: bool = False
    """Whether the gateway has said that it drains: an end without an end is no fault then."""
    _offset: int = 0
    _run: str = ""
    _kind: str = ""
    """The type of the newest chunk."""
    _marks: int = 0
    _has_returned: bool = False
    _has_replayed: bool = False
    """Whether this connection brings what was here before; reported once."""

    @property
    def cursor(self) -> str:
        """Returns the cursor to come back with; empty when nothing has come."""
        return self.events[-1][0] if self.events else ""

    def come_back(self) -> None:
        """Notes that the next event is the first of a new connection."""
        self._has_returned, self._has_replayed, self.leaving = True, False, False

    def take(self, event: Event, now_s: float) -> list[Finding]:
        """Takes one event, and returns what is wrong with it. Raises ValueError when its data is no JSON object."""
        if self.is_done:
            return [Finding(Fault.DOUBLED, f"{event.data[:80]!r} after {DONE}")]
        if event.data == DONE:
            self.is_done = True
            finding = Finding(Fault.NO_END, f"{DONE} came without any of {', '.join(TERMINAL)}")
            return [] if self.terminal else [finding]
        chunk = json.loads(event.data)
        if not isinstance(chunk, dict):
            raise ValueError(f"a chunk is a JSON object, and this is {event.data[:80]!r}")
        if chunk.get("transient"):
            self.leaving |= chunk["type"] == "data-drain"
            return []
        findings, fresh = self._place(event)
        self._has_returned = False
        if fresh:
            self.events.append((event.id, event.data))
            findings += self._read(chunk, now_s)
        return findings

    def _place(self, event: Event) -> tuple[list[Finding], bool]:
        """Returns whether its id is the next one; False when it was here before, or has no place."""
        match = _CURSOR.fullmatch(event.id)
        if match is None:
            return [
                Finding(Fault.ERROR, f"an event without a cursor as its id: {event.id!r}, {event.data[:80]!r}")
            ], False
        run, offset = match[1], int(match[2])
        if self._run and run != self._run:
            return [Finding(Fault.OUT_OF_ORDER, f"{event.id} after {self.cursor}: another run")], False
        if self._run and offset <= self._offset:
            return self._repeated(event.id), False
        findings: list[Finding] = []
        if self._run and offset > self._offset + (2 if self._kind == "start-step" else 1):
            findings.append(Finding(Fault.LOST, f"{event.id} came right after {self.cursor}"))
        self._run, self._offset, self._has_replayed = run, offset, False
        return findings, True

    def _repeated(self, cursor: str) -> list[Finding]:
        if self._has_replayed:
            return []
        self._has_replayed = self._has_returned
        kind = Fault.NO_RESUME if self._has_returned else Fault.DOUBLED
        return [Finding(kind, f"{cursor} came after {self.cursor}")]

    def _read(self, chunk: dict[str, Any], now_s: float) -> list[Finding]:
        kind = self._kind = chunk["type"]
        if self.terminal:
            return [Finding(Fault.DOUBLED, f"{kind!r} came after the end, which was {self.terminal!r}")]
        if kind == "text-delta":
            return list(self._tokens(chunk["delta"], now_s))
        if kind not in TERMINAL:
            return []
        self.terminal, self.ended_s = kind, now_s
        if kind == "error":
            return [Finding(Fault.ERROR, f"an answer ended in an error: {chunk.get('errorText')!r}")]
        if kind == "finish" and self._marks and self._marks < self.expected_tokens:
            return [Finding(Fault.LOST, f"an answer finished after {self._marks} of {self.expected_tokens} tokens")]
        return []

    def _tokens(self, delta: str, now_s: float) -> Iterator[Finding]:
        marks = [(int(number), int(time_ms)) for number, time_ms in _MARK.findall(delta)]
        for number, made_ns in marks:
            self.tokens.append(Token(now_s, made_ns / 1e9))
            if number > self._marks:
                yield Finding(Fault.LOST, f"token {number} came where {self._marks} was due, in {self.cursor}")
            elif number < self._marks:
                yield Finding(Fault.DOUBLED, f"token {number} came where {self._marks} was due, in {self.cursor}")
            self._marks = max(self._marks, number + 1)
        if not marks:
            self.tokens.append(Token(now_s, None))


def compare(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> list[Finding]:
    """Returns what differs between two whole readings of one answer, each a list of (id, data)."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return [Finding(Fault.DIFFERENT, f"event {at + 1} was {one} to one reader and {other} to another")]
    if len(first) != len(second):
        return [Finding(Fault.DIFFERENT, f"one reader was given {len(first)} events, another {len(second)}")]
    return []
