"""A chat that asks whether a tool may be called, what people do then, and whether it comes to what they decided.

The tool counts its calls (`loadtests.counting_server`), so an effect that a call had twice, or that nobody allowed, is
seen. `ACTS` says what people do; the first that decides counts, and whoever is late is told so.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gevent
from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.fault import Fault
from loadtests.users.judged_chat import TICK_S, JudgedChat, places_of
from loadtests.users.origin import Origin, Reply
from loadtests.users.question import Question
from loadtests.users.verdict import note_measure

TOOL, TIMES = "desk__count", "desk__times"
STUCK_S = 20.0
"""Seconds after an answer in which a chat has come to its end."""
DEVICES = (1, 2, 3)


class Said(NamedTuple):
    """What one device said of the ask, and the reply."""

    approved: bool
    reply: Reply

    @property
    def told(self) -> dict[str, Any]:
        return self.reply.json()


class AskedChat(JudgedChat):
    """One chat, from its question to its end."""

    def __init__(self, environment: Environment, origin: Origin, chat_id: str) -> None:
        super().__init__(environment, origin, chat_id)
        self._said: list[Said] = []
        self._steers: list[str] = []

    def live(self) -> None:
        """Asks, has people act, and judges what became of it."""
        self.say("u1", f"{self.chat_id} B=tools C={TOOL} T=3 I=1000")
        asks = self.chat()["pending"]
        if asks and asks[0].get("kind") == "input":
            return  # the server of tools is not there yet: the model's call is taken for a client's
        if not asks:
            self.note(Fault.STUCK, "asked for a call, and nothing is asked of anybody")
            return
        acted_s = time.monotonic()
        random.choices(list(ACTS), list(ACTS.values()))[0](self, asks[0])
        if self._await_end():
            note_measure(self.environment, "chat", "ask", (time.monotonic() - acted_s) * 1000)
            self._judge(asks[0])

    # What people do

    def answer(self, ask: dict[str, Any]) -> None:
        """Answers from one device or several at once, which need not agree."""
        for _ in range(random.choice(DEVICES)):
            self.devices.spawn(self._answer, ask["approvalId"], random.random() < 0.5)
        self.devices.join()

    def _answer(self, approval_id: str, approved: bool) -> None:
        with self.origin.open("POST", f"{self.path}/approvals/{approval_id}", {"approved": approved}) as stream:
            self._said.append(Said(approved, stream.reply()))

    def stop(self, ask: dict[str, Any]) -> None:
        """Ends what waits."""
        self.expect_200("to stop what waits", self.origin.ask("POST", f"{self.path}/stop", {}))

    def say_something_else(self, ask: dict[str, Any]) -> None:
        """Sends another message instead of an answer."""
        self.say("u2", f"{self.chat_id} T=3 I=1000")

    def steer_and_answer(self, ask: dict[str, Any]) -> None:
        """Says more before the answer, which goes on with it then."""
        message = Question(self.chat_id, "s1", f"{self.chat_id} T=3 I=1000").message
        reply = self.origin.ask("POST", f"{self.path}/steer", {"message": message})
        if reply.status != 202:
            blame(self.environment, "to steer what waits", reply)
            return
        self._steers.append("s1")
        self.answer(ask)

    # What becomes of it

    def _await_end(self) -> bool:
        end = time.monotonic() + STUCK_S
        while (chat := self.chat())["activeRun"] is not None or chat["pending"] or chat["queue"]:
            if time.monotonic() > end:
                self.note(Fault.STUCK, f"{STUCK_S:g} s after an answer it has {chat['activeRun']}, {chat['pending']}")
                return False
            gevent.sleep(TICK_S)
        return True

    def _judge(self, ask: dict[str, Any]) -> None:
        messages = self.chat()["messages"]
        places = places_of(messages)
        for message_id in self._steers:
            if places[message_id] != 1:
                self.note(Fault.LOST_STEER, f"{message_id} was taken, and is there {places[message_id]} times")
        parts = [part for message in messages for part in message["parts"]]
        [call] = [part for part in parts if part.get("toolCallId") == ask["toolCallId"]]
        is_made = call["state"] == "output-available"
        if (times := self._times()) != int(is_made):
            self.note(Fault.DOUBLE_EFFECT, f"the call is {call['state']}, and was made {times} times")
        for said in self._said:
            self._judge_said(said, is_made)
        if sum(not said.told.get("duplicate", True) for said in self._said if said.reply.status == 200) > 1:
            self.note(Fault.DIFFERENT, "two devices were told that theirs was the first answer")

    def _judge_said(self, said: Said, is_made: bool) -> None:
        if said.reply.status not in (200, 409):
            blame(self.environment, "to answer an ask", said.reply)
        elif said.told.get("approved") is not is_made or (said.reply.status == 200) is not (said.approved is is_made):
            self.note(Fault.DIFFERENT, f"said {said.approved}, was told {said.told}, and it is {is_made}")

    def _times(self) -> int:
        """Asks in another chat how often the call was made."""
        other = f"{self.chat_id}-times"
        chunks = self.read(Question(other, "u1", f"{self.chat_id} B=tools C={TIMES} T=1 I=0"))
        outputs = [chunk["output"] for chunk in chunks if chunk["type"] == "tool-output-available"]
        self.origin.ask("DELETE", f"/api/chat/{other}")
        return int(outputs[0]) if outputs else -1


Act = Callable[[AskedChat, dict[str, Any]], None]
ACTS: Mapping[Act, float] = {
    AskedChat.answer: 7,
    AskedChat.steer_and_answer: 2,
    AskedChat.stop: 1,
    AskedChat.say_something_else: 1,
}
"""What people do with an ask, and how often."""
