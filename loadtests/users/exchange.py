"""An Exchange is one question and its answer, over as many connections as that takes."""

import random
import time

import gevent
from gevent.pool import Group
from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.answer import StreamedAnswer
from loadtests.users.device import Device
from loadtests.users.fault import Fault, Finding
from loadtests.users.origin import CutOff, Origin, Stream, Unreachable
from loadtests.users.question import Plan, Question
from loadtests.users.sse import Event, SseParser
from loadtests.users.verdict import fault, note_measure

SILENCE_S = 30.0
"""Twice the seconds after which a gateway pings."""
AWAY_S = 1.0
"""Seconds within which a user who lost the connection comes back."""
MAX_CONNECTIONS = 20
"""Connections after which the answer is given up."""


class Exchange:
    """Asks, reads, comes back until the answer is here or cannot be had, and notes every fault on the way."""

    def __init__(self, environment: Environment, origin: Origin, question: Question, plan: Plan) -> None:
        self.environment = environment
        self.origin = origin
        self.question = question
        self.plan = plan
        self.answer = StreamedAnswer(question.tokens)
        self.asked_s = time.monotonic()
        self.waited_s = 0.0
        """Seconds from the question to the head of its answer."""
        self.received_bytes = 0
        self.tokens_at_first = 0
        """Number of tokens that came over the first connection: the rest may be a replay."""
        self.connections = 0
        self.given_up = False
        self._since_s = self.asked_s
        self._fresh = 0
        """Events that this connection brought."""
        self._device = Device(environment, origin, question, self.answer)
        self._others = Group()

    @property
    def whole(self) -> bool:
        """Returns whether it came over one connection, to the end that the model gave it."""
        return self.connections == 1 and self.answer.terminal == "finish" and self.answer.is_done

    def run(self) -> None:
        try:
            while not (self.answer.is_done or self.given_up):
                self._connect()
                if self.connections == MAX_CONNECTIONS and not self.answer.is_done:
                    self._give_up(Fault.NO_END, f"no end after {MAX_CONNECTIONS} connections")
            if self.whole:
                self._measure("whole answer", self.asked_s)
            self._others.join(timeout=SILENCE_S)
        finally:
            self._others.kill()

    def _connect(self) -> None:
        self.connections += 1
        self._since_s, self._fresh = time.monotonic(), 0
        try:
            with self._open() as stream:
                if stream.streams:
                    self._follow(stream)
                else:
                    self._note_refusal(stream)
        except Unreachable as err:
            self._give_up(Fault.UNREACHABLE, str(err))
        except TimeoutError:
            self._note(Finding(Fault.NO_PING, f"{SILENCE_S:g} s of silence after {self.answer.cursor or 'the head'}"))
        except CutOff as err:
            self._note_break(str(err))
        except ValueError as err:
            self._give_up(Fault.ERROR, str(err))
        if self.connections == 1:
            self.tokens_at_first = len(self.answer.tokens)

    def _open(self) -> Stream:
        cursor = self.answer.cursor
        if not cursor:
            return self.origin.open("POST", "/api/chat", self.question.body())
        self.answer.come_back()
        return self.origin.follow(f"{self.question.path}/stream", cursor)

    def _follow(self, stream: Stream) -> None:
        if self.connections == 1:
            self.waited_s = time.monotonic() - self.asked_s
        stream.wait(SILENCE_S)
        parser, bytes_left = SseParser(), self.plan.cut_after()
        while data := stream.read():
            self.received_bytes += len(data)
            if bytes_left is not None:
                data, bytes_left = data[:bytes_left], bytes_left - len(data)
            for item in parser.feed(data):
                if isinstance(item, Event):
                    self._take(item)
            if self.answer.is_done or self.given_up:
                return
            if bytes_left is not None and bytes_left <= 0:
                stream.cut()
                gevent.sleep(random.uniform(0, AWAY_S))
                return
        self._note_break("the body ended")

    def _take(self, event: Event) -> None:
        now_s, events, tokens = time.monotonic(), len(self.answer.events), len(self.answer.tokens)
        try:
            self._note(*self.answer.take(event, now_s))
        except (ValueError, KeyError, TypeError) as err:
            self._give_up(Fault.ERROR, f"{event.data[:200]!r} is no chunk: {err!r}")
        if len(self.answer.events) > events:
            self._fresh += 1
            if self._fresh == 1 and self.connections > 1:
                self._measure("resume gap", self._since_s)
        if len(self.answer.tokens) > tokens:
            self._token(tokens)

    def _token(self, before: int) -> None:
        """Notes the first token of a chunk; `before` came before it."""
        tokens = self.answer.tokens
        if self.connections == 1:  # a later one begins with a replay
            name, since_s = (
                ("between tokens", tokens[before - 1].arrived_s) if before else ("first token", self.asked_s)
            )
            self._measure(name, since_s)
        if before < self.plan.stop_after <= len(tokens):
            self._others.spawn(self._device.stop)
        if before < self.plan.second_after <= len(tokens):
            self._others.spawn(self._device.read_along)

    def _note_refusal(self, stream: Stream) -> None:
        """Notes an answer that is no stream."""
        reply = stream.reply()
        if reply.status == 204 and self.answer.cursor:
            self._give_up(Fault.NO_RESUME, f"204 to the cursor {self.answer.cursor}, after which there is more")
        elif reply.status == 410:
            self._give_up(Fault.GONE, f"410 to the cursor {self.answer.cursor}")
        else:
            self.given_up = True
            blame(self.environment, "a question" if self.connections == 1 else "coming back to an answer", reply)

    def _note_break(self, how: str) -> None:
        """Notes that the connection ended before the answer did; a gateway that leaves says so first."""
        if not self.answer.leaving:
            after = self.answer.cursor or "the head"
            self._note(Finding(Fault.NO_END, f"{how}, after {after} and {time.monotonic() - self._since_s:.1f} s"))
        gevent.sleep(random.uniform(0, AWAY_S))

    def _give_up(self, kind: Fault, detail: str) -> None:
        self.given_up = True
        self._note(Finding(kind, detail))

    def _note(self, *findings: Finding) -> None:
        for kind, detail in findings:
            fault(self.environment, kind, f"chat {self.question.chat_id}: {detail}")

    def _measure(self, name: str, since_s: float) -> None:
        note_measure(self.environment, "chat", name, (time.monotonic() - since_s) * 1000)
