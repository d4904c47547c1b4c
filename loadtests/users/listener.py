"""A Listener reads one topic for as long as the test goes: it listens, loses its connection, and comes back."""

import random
import time
from urllib.parse import quote

import gevent
from locust.env import Environment

from loadtests.users.access import blame, options
from loadtests.users.fault import Fault, Finding
from loadtests.users.origin import CutOff, Origin, Stream, Unanswered, Unreachable
from loadtests.users.sse import Event, SseParser
from loadtests.users.topic_record import TopicRecord
from loadtests.users.verdict import fault, late_since, note_measure

HELLO_S = 5.0
"""Seconds in which `hello` must come; when not a byte came, something holds it."""
PROMPT_S = 1.0
"""Seconds within which a gateway says where a topic stands, if it is not the one that holds its stream."""
PINGS_LATE = 1.2
SPARE_S = 2.0
"""Seconds granted on top of the latest ping: 20 s of silence where the gateway pings after 15."""
CUT_EVERY_S = 10.0
"""Seconds in which a share of `--cut` of all streams is cut."""
AWAY_S = 2.0
"""Seconds within which a listener that lost the connection comes back."""
BUSY_S = (5, 15)
LATE_S = 1.0
"""Seconds of its own lateness from which a client blames nobody for silence."""
LIVES = 0.9
"""Share of `maxAge` before which it was not the gateway that ended a stream."""


class Listener:
    """Runs in a greenlet of its own until that is killed."""

    def __init__(self, environment: Environment, origin: Origin, topic: str) -> None:
        self.environment = environment
        self.origin = origin
        self.topic = topic
        self.record = TopicRecord()
        self.since_s = 0.0
        """Time at which its newest connection began."""
        self._unanswered_count = 0
        """Number of requests in a row that a gateway that is well did not answer."""
        self._has_begun = False
        """Whether a byte of the body has come over this connection."""
        self._silence_s = HELLO_S
        """Seconds of silence that are not too long yet."""

    def run(self) -> None:
        """Reads and reconnects for ever; every fault is noted, none ends it."""
        while True:
            self.since_s, self._has_begun = time.monotonic(), False
            self.record.connect()
            self._connect()
            busy = self.record.leaving == "busy"
            gevent.sleep(random.uniform(*BUSY_S) if busy else random.uniform(0, AWAY_S))

    def has_all(self, epoch: str, head: int) -> bool | None:
        """Returns whether it got the event with the offset `head` of its topic; None when it is not connected, or
        elsewhere.
        """
        stands = self.record
        if stands.hello is None or stands.offset is None or f".{epoch}." not in stands.cursor:
            return None
        return stands.offset >= head

    def _connect(self) -> None:
        path = f"/api/events?topic={quote(self.topic)}"
        try:
            with self.origin.follow(path, self.record.cursor, HELLO_S) as stream:
                self._unanswered_count = 0
                if stream.streams:
                    self._follow(stream)
                else:
                    blame(self.environment, f"to follow {self.topic}", stream.reply())
        except Unanswered as err:
            self._note_hold(str(err))
        except Unreachable as err:
            self._note(Finding(Fault.UNREACHABLE, str(err)))
        except TimeoutError:
            self._silent()
        except CutOff as err:
            self._note_break(str(err))
        except ValueError as err:
            self._note(Finding(Fault.ERROR, str(err)))

    def _follow(self, stream: Stream) -> None:
        self._wait(stream, HELLO_S)
        share = options(self.environment).cut
        cut_due_s = self.since_s + random.expovariate(share / CUT_EVERY_S) if share else float("inf")
        parser = SseParser()
        while data := stream.read():
            self._has_begun = True
            cut = time.monotonic() > cut_due_s
            for item in parser.feed(data[: random.randint(0, len(data))] if cut else data):
                if isinstance(item, Event):
                    self._take(item, stream)
            if cut:
                stream.cut()
                return
        hello = self.record.hello
        if hello is None or time.monotonic() - self.since_s < LIVES * hello.max_age_s:
            self._note_break("the body ended")

    def _take(self, event: Event, stream: Stream) -> None:
        came_back, age_ms = bool(self.record.cursor), (time.monotonic() - self.since_s) * 1000
        try:
            self._note(*self.record.take(event))
        except (ValueError, KeyError, TypeError) as err:
            self._note(Finding(Fault.ERROR, f"`{event.name}` with {event.data[:200]!r}: {err!r}"))
            return
        if event.name == "hello" and self.record.hello is not None:
            note_measure(self.environment, "events", "resume gap" if came_back else "hello", age_ms)
            self._wait(stream, self.record.hello.ping_s * PINGS_LATE + SPARE_S)
        delay_ms = self.record.delay_ms
        if delay_ms is not None and delay_ms < age_ms:  # else it is older than this connection
            note_measure(self.environment, "events", "publish to receive", delay_ms)

    def _wait(self, stream: Stream, silence_s: float) -> None:
        self._silence_s = silence_s
        stream.wait(silence_s)

    def _silent(self) -> None:
        """Notes that nothing came for too long."""
        if late_since(self.environment, time.monotonic() - self._silence_s) > LATE_S:
            return
        if self.record.hello is not None:
            self._note(Finding(Fault.NO_PING, f"{self._silence_s:.1f} s without a byte"))
        elif self._has_begun:  # the gateway says `ok` at once, and `hello` when its log has answered
            self._note(Finding(Fault.ERROR, f"no `hello` within {HELLO_S:g} s of `ok`: the log is slow"))
        else:
            self._note(Finding(Fault.BUFFERED, f"a head and not a byte more within {HELLO_S:g} s"))

    def _note_hold(self, how: str) -> None:
        """Notes that no head came: the gateway is slow, unless it says at once where the topic stands, twice."""
        if late_since(self.environment, self.since_s) > LATE_S:
            return
        asked_s = time.monotonic()
        try:
            self.origin.ask("GET", f"/api/events/topics/{self.topic}")
        except Unreachable as err:
            self._note(Finding(Fault.UNREACHABLE, str(err)))
            return
        took_s = time.monotonic() - asked_s
        self._unanswered_count += took_s < PROMPT_S
        if took_s >= PROMPT_S:
            self._note(Finding(Fault.UNREACHABLE, how))
        elif self._unanswered_count > 1:
            self._note(Finding(Fault.BUFFERED, f"{how}, twice, though a short request took {took_s * 1000:.0f} ms"))

    def _note_break(self, how: str) -> None:
        """Notes that the connection ended; a gateway that leaves says so first."""
        if not self.record.leaving:
            age_s = time.monotonic() - self.since_s
            self._note(Finding(Fault.NO_END, f"{how}, {age_s:.1f} s after it began and after {self.record.cursor}"))

    def _note(self, *findings: Finding) -> None:
        for kind, detail in findings:
            fault(self.environment, kind, f"{self.topic}: {detail}")
