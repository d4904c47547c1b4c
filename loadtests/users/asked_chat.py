"""A chat that asks whether a tool may be called, what people do then, and whether it comes to what they decided.

The tool counts its calls (`loadtests.counting_server`), so an effect that a call had twice, or that nobody allowed, is
seen. `ACTS` says what people do; the first that decides counts, and whoever is late is told so.
"""

import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gevent
from gevent.pool import Group
from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.fault import Fault
from loadtests.users.origin import CutOff, Origin, Reply, Unreachable
from loadtests.users.question import Question
from loadtests.users.sse import Event, SseParser
from loadtests.users.verdict import fault, note_measure

TOOL, TIMES = "desk__count", "desk__times"
STUCK_S = 20.0
"""Seconds after an answer in which a chat has come to its end."""
SILENCE_S = 30.0
TICK_S = 0.1
DEVICES = (1, 2, 3)


class Said(NamedTuple):
    """What one device said of the ask, and the reply."""

    approved: bool
    reply: Reply

    @property
    def told(self) -> dict[str, Any]:
        return self.reply.json()


class AskedChat:
    """One chat, from its question to its end. Notes every fault on the way."""

    def __init__(self, environment: Environment, origin: Origin, chat_id: str) -> None:
        self.environment = environment
        self.origin = origin
        self.chat_id = chat_id
        self._path = f"/api/chat/{chat_id}"
        self._said: list[Said] = []

    def run(self) -> None:
        """Asks, has people act, and judges what became of it."""
        try:
            self._say("u1", f"{self.chat_id} B=tools C={TOOL} T=3 I=1000")
            asks = self._chat()["pending"]
            if asks and asks[0].get("kind") == "input":
                return  # the server of tools is not there yet: the model's call is taken for a client's
            if not asks:
                self._note(Fault.STUCK, "asked for a call, and nothing is asked of anybody")
                return
            acted_s = time.monotonic()
            random.choices(list(ACTS), list(ACTS.values()))[0](self, asks[0])
            if self._await_end():
                note_measure(self.environment, "chat", "ask", (time.monotonic() - acted_s) * 1000)
                self._judge(asks[0])
        except Unreachable as err:
            self._note(Fault.UNREACHABLE, str(err))
        except (CutOff, TimeoutError) as err:
            self._note(Fault.NO_END, str(err))
        finally:
            self._delete()

    # What people do

    def answer(self, ask: dict[str, Any]) -> None:
        """Answers from one device or several at once, which need not agree."""
        devices = Group()
        for _ in range(random.choice(DEVICES)):
            devices.spawn(self._answer, ask["approvalId"], random.random() < 0.5)
        devices.join()

    def _answer(self, approval_id: str, approved: bool) -> None:
        with self.origin.open("POST", f"{self._path}/approvals/{approval_id}", {"approved": approved}) as stream:
            self._said.append(Said(approved, stream.reply()))

    def stop(self, ask: dict[str, Any]) -> None:
        """Ends what waits."""
        self._expect_200("to stop what waits", self.origin.ask("POST", f"{self._path}/stop", {}))

    def say_something_else(self, ask: dict[str, Any]) -> None:
        """Sends another message instead of an answer."""
        self._say("u2", f"{self.chat_id} T=3 I=1000")

    # What becomes of it

    def _await_end(self) -> bool:
        end = time.monotonic() + STUCK_S
        while (chat := self._chat())["activeRun"] is not None or chat["pending"]:
            if time.monotonic() > end:
                self._note(Fault.STUCK, f"{STUCK_S:g} s after an answer it has {chat['activeRun']}, {chat['pending']}")
                return False
            gevent.sleep(TICK_S)
        return True

    def _judge(self, ask: dict[str, Any]) -> None:
        parts = [part for message in self._chat()["messages"] for part in message["parts"]]
        [call] = [part for part in parts if part.get("toolCallId") == ask["toolCallId"]]
        is_made = call["state"] == "output-available"
        if (times := self._times()) != int(is_made):
            self._note(Fault.DOUBLE_EFFECT, f"the call is {call['state']}, and was made {times} times")
        for said in self._said:
            self._judge_said(said, is_made)
        if sum(not said.told.get("duplicate", True) for said in self._said if said.reply.status == 200) > 1:
            self._note(Fault.DIFFERENT, "two devices were told that theirs was the first answer")

    def _judge_said(self, said: Said, is_made: bool) -> None:
        if said.reply.status not in (200, 409):
            blame(self.environment, "to answer an ask", said.reply)
        elif said.told.get("approved") is not is_made or (said.reply.status == 200) is not (said.approved is is_made):
            self._note(Fault.DIFFERENT, f"said {said.approved}, was told {said.told}, and it is {is_made}")

    def _times(self) -> int:
        """Asks in another chat how often the call was made."""
        other = f"{self.chat_id}-times"
        chunks = self._read(Question(other, "u1", f"{self.chat_id} B=tools C={TIMES} T=1 I=0"))
        outputs = [chunk["output"] for chunk in chunks if chunk["type"] == "tool-output-available"]
        self.origin.ask("DELETE", f"/api/chat/{other}")
        return int(outputs[0]) if outputs else -1

    # Requests

    def _say(self, message_id: str, text: str) -> None:
        self._read(Question(self.chat_id, message_id, text))

    def _read(self, question: Question) -> list[dict[str, Any]]:
        """Asks a question, and returns the chunks of its whole answer. Raises CutOff for a refusal, too."""
        parser, chunks = SseParser(), list[dict[str, Any]]()
        with self.origin.open("POST", "/api/chat", question.body()) as stream:
            if not stream.streams:
                reply = stream.reply()
                blame(self.environment, "a question with a tool", reply)
                raise CutOff(f"{reply.status} to a question")
            stream.wait(SILENCE_S)
            while data := stream.read():
                events = [item.data for item in parser.feed(data) if isinstance(item, Event)]
                chunks += [json.loads(text) for text in events if text.startswith("{")]
        return chunks

    def _chat(self) -> dict[str, Any]:
        return self._expect_200("to look at a chat", self.origin.ask("GET", self._path)).json()

    def _expect_200(self, doing: str, reply: Reply) -> Reply:
        if reply.status != 200:
            blame(self.environment, doing, reply)
            raise CutOff(f"{doing}: {reply.status}")
        return reply

    def _delete(self) -> None:
        try:
            self.origin.ask("DELETE", self._path)
        except Unreachable as err:
            self._note(Fault.UNREACHABLE, str(err))

    def _note(self, kind: Fault, detail: str) -> None:
        fault(self.environment, kind, f"chat {self.chat_id}: {detail}")


Act = Callable[[AskedChat, dict[str, Any]], None]
ACTS: Mapping[Act, float] = {AskedChat.answer: 8, AskedChat.stop: 1, AskedChat.say_something_else: 1}
"""What people do with an ask, and how often."""
