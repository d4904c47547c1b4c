"""A Device is another device of the same person: it reads the same answer from its start, or stops it."""

import time

import gevent
from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.answer import DONE, StreamedAnswer, compare
from loadtests.users.fault import Fault
from loadtests.users.origin import CutOff, Origin, Stream, Unreachable
from loadtests.users.pulse import LATE_S
from loadtests.users.question import Question
from loadtests.users.sse import Event, SseParser
from loadtests.users.verdict import fault, late_since, note_measure

STOP_S = 1.0
"""Seconds within which the readers of a stopped answer must see its end."""
PATIENCE_S = 10.0
"""Seconds that the first reader is given to come to the end as well; a stop needs a longer answer."""
SILENCE_S = 30.0
"""Twice the seconds after which a gateway pings."""
TICK_S = 0.05


class Device:
    """Runs in a greenlet beside the one that reads `answer`."""

    def __init__(self, environment: Environment, origin: Origin, question: Question, answer: StreamedAnswer) -> None:
        self.environment = environment
        self.origin = origin
        self.question = question
        self.answer = answer

    def read_along(self) -> None:
        """Reads the whole answer; it must be, event by event, the one that the first reader gets."""
        asked_s = time.monotonic()
        try:
            with self.origin.open("GET", f"{self.question.path}/stream") as stream:
                if stream.streams:
                    self._compare(stream, asked_s)
                elif stream.status != 204:  # 204: it was over when we came
                    blame(self.environment, "a second reader", stream.reply())
        except Unreachable as err:
            self._note(Fault.UNREACHABLE, str(err))
        except (CutOff, TimeoutError) as err:
            self._note(Fault.NO_END, f"a second reader: {err}")

    def _compare(self, stream: Stream, asked_s: float) -> None:
        stream.wait(SILENCE_S)
        parser, events = SseParser(), list[tuple[str, str]]()
        while data := stream.read():
            for event in parser.feed(data):
                if not isinstance(event, Event) or event.data == DONE:
                    continue
                if not event.id:  # the gateway says that it leaves
                    return
                if not events:
                    note_measure(self.environment, "chat", "second reader", (time.monotonic() - asked_s) * 1000)
                events.append((event.id, event.data))
        if self._await_end():
            for kind, detail in compare(self.answer.events, events):
                self._note(kind, detail)

    def stop(self) -> None:
        """Stops the answer; its reader must see an end within STOP_S."""
        asked_s = time.monotonic()
        try:
            reply = self.origin.ask("POST", f"{self.question.path}/stop", {})
        except Unreachable as err:
            self._note(Fault.UNREACHABLE, str(err))
            return
        if reply.status in (404, 405) or (reply.status == 200 and b'"stopped"' not in reply.body):
            self._note(Fault.STOP_IGNORED, f"{reply.status} to POST {self.question.path}/stop: {reply.body[:80]!r}")
        elif reply.status != 200:
            blame(self.environment, "to stop an answer", reply)
        else:
            self._judge(asked_s)

    def _judge(self, asked_s: float) -> None:
        """Judges a stopped answer; one that came to its own end soon after the stop may have been over before it."""
        if not self._await_end():
            self._note(Fault.STOP_IGNORED, f"no end within {PATIENCE_S:g} s of a stop")
        elif self.answer.terminal == "abort":
            took_s = self.answer.ended_s - asked_s
            note_measure(self.environment, "chat", "stop", took_s * 1000)
            if took_s > STOP_S and late_since(self.environment, asked_s) < LATE_S:
                self._note(Fault.SLOW_STOP, f"`abort` came {took_s:.2f} s after the stop")

    def _await_end(self) -> bool:
        """Waits for the first reader to come to the end."""
        until_s = time.monotonic() + PATIENCE_S
        while not self.answer.terminal and time.monotonic() < until_s:
            gevent.sleep(TICK_S)
        return bool(self.answer.terminal)

    def _note(self, kind: Fault, detail: str) -> None:
        fault(self.environment, kind, f"chat {self.question.chat_id}: {detail}")
