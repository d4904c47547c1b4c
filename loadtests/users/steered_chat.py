"""A chat in which people go on talking while it answers, and whether each of their messages is answered once.

`WAYS` says how they do: by a steer that the answer takes at a step or at once, or that waits for its turn, or by a post
that says what to do when the chat is busy. Some take a message back, some stop the answer, and some send two, which
must be answered in their order.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.fault import Fault
from loadtests.users.judged_chat import TICK_S, JudgedChat, places_of
from loadtests.users.origin import CutOff, Origin
from loadtests.users.question import Question
from loadtests.users.verdict import note_measure

TOKENS, INTERVAL_US = range(20, 61), 20_000
REMOVED, STOPPED = 0.15, 0.1
"""Share of messages that are taken back, and of chats whose answer is stopped."""
DEVICES = (1, 2, 3)
STUCK_S = 30.0
"""Seconds in which something goes on in a chat that is busy, or in which messages wait."""
AWAIT_S = 10.0


class SteeredChat(JudgedChat):
    """One chat, from its first question until nothing waits in it."""

    def __init__(self, environment: Environment, origin: Origin, chat_id: str, model: str = "") -> None:
        super().__init__(environment, origin, chat_id, model)
        self._tokens = random.choice(TOKENS)
        self._acknowledged: set[str] = set()
        self._removed: set[str] = set()
        self._pairs: list[tuple[str, str]] = []
        """Ids of two messages of one device, in the order in which both were to wait for their turn."""

    def live(self) -> None:
        """Asks, has people talk on, and judges what became of it."""
        first = self.devices.spawn(self._tell, self.say, "u0", f"{self.chat_id} T={self._tokens} I={INTERVAL_US}")
        if not self._has_begun(first):
            return
        for number in range(random.choice(DEVICES)):
            self.devices.spawn(self._tell, self._talk, f"d{number}")
        if random.random() < STOPPED:
            self.devices.spawn(self._tell, self._stop)
        self.devices.join()
        if self._await_end():
            self._judge()

    def _has_begun(self, first: gevent.Greenlet) -> bool:
        end = time.monotonic() + AWAIT_S
        while not first.dead and time.monotonic() < end:
            reply = self.origin.ask("GET", self.path)
            if reply.status == 200:
                return True
            gevent.sleep(TICK_S)
        return False

    def _tell(self, act: Callable[..., object], *how: Any) -> None:
        """Lets one device act; what goes wrong is a fault, and no end of the others."""
        try:
            act(*how)
        except CutOff as err:
            self.note(Fault.NO_END, str(err))
        except TimeoutError as err:
            self.note(Fault.NO_PING, str(err))
        except OSError as err:
            self.note(Fault.UNREACHABLE, str(err))

    # What people do

    def _talk(self, device: str) -> None:
        gevent.sleep(random.uniform(0, 1.2 * self._tokens * INTERVAL_US / 1e6))
        way = random.choices(list(WAYS), list(WAYS.values()))[0]
        way(self, f"{device}-1")
        if random.random() < REMOVED:
            self._take_back(f"{device}-1")

    def steer(self, message_id: str, at: str = "step") -> None:
        """Sends a message to the answer that is being written."""
        began_s = time.monotonic()
        message = Question(self.chat_id, message_id, f"{message_id} T=3 I=1000").message
        reply = self.origin.ask("POST", f"{self.path}/steer", {"message": message, "at": at})
        if reply.status != 202:
            blame(self.environment, "to steer", reply)
            return
        self._acknowledged.add(message_id)
        note_measure(self.environment, "chat", "steer", (time.monotonic() - began_s) * 1000)

    def steer_now(self, message_id: str) -> None:
        self.steer(message_id, "now")

    def wait_turn(self, message_id: str) -> None:
        """Sends two messages that are to be answered after the answer."""
        other = f"{message_id}b"
        self.steer(message_id, "turn")
        self.steer(other, "turn")
        if {message_id, other} <= self._acknowledged:
            self._pairs.append((message_id, other))

    def post_to_wait(self, message_id: str) -> None:
        """Posts a message whose response waits until it is answered."""
        self.say(message_id, f"{message_id} T=3 I=1000", whenBusy="queue")
        self._acknowledged.add(message_id)

    def post_to_steer(self, message_id: str) -> None:
        self.say(message_id, f"{message_id} T=3 I=1000", whenBusy="steer")
        self._acknowledged.add(message_id)

    def _take_back(self, message_id: str) -> None:
        reply = self.origin.ask("DELETE", f"{self.path}/queue/{message_id}")
        if reply.status in (200, 204):
            self._removed.add(message_id)
        elif reply.status not in (404, 409):
            blame(self.environment, "to take a message back", reply)

    def _stop(self) -> None:
        gevent.sleep(random.uniform(0, self._tokens * INTERVAL_US / 1e6))
        self.expect_200("to stop an answer", self.origin.ask("POST", f"{self.path}/stop", {}))

    # What becomes of it

    def _await_end(self) -> bool:
        """Waits until nothing waits; an answer that did not finish has made what waits wait for somebody."""
        seen, since_s = None, time.monotonic()
        while True:
            chat = self.chat()
            active, waiting = chat["activeRun"], [item["id"] for item in chat["queue"]]
            if active is None and not waiting:
                return True
            state = (active and active["runId"], waiting)
            if state != seen:
                seen, since_s = state, time.monotonic()
            if active is None and _has_finished(chat["messages"]):
                self.note(Fault.STUCK, f"an answer has finished, and {waiting} still wait")
                return False
            if active is None:
                self.expect_200("to go on with what waits", self.origin.ask("POST", f"{self.path}/queue/resume", {}))
            if time.monotonic() - since_s > STUCK_S:
                self.note(Fault.STUCK, f"for {STUCK_S:g} s it has had the run {state[0]}, and {waiting} wait")
                return False
            gevent.sleep(TICK_S)

    def _judge(self) -> None:
        messages = self.chat()["messages"]
        places = places_of(messages)
        for message_id in sorted(self._acknowledged):
            count, due = places[message_id], 0 if message_id in self._removed else 1
            if count != due:
                what = "was taken back" if due == 0 else "was taken"
                self.note(Fault.LOST_STEER, f"{message_id} {what}, and is there {count} times")
        order = [message["id"] for message in messages]
        for one, other in self._pairs:
            if one in order and other in order and order.index(one) > order.index(other):
                self.note(Fault.OUT_OF_ORDER, f"{other} is answered before {one}")


def _has_finished(messages: list[dict[str, Any]]) -> bool:
    return bool(messages) and messages[-1].get("metadata", {}).get("outcome") == "finish"


Way = Callable[[SteeredChat, str], None]
WAYS: Mapping[Way, float] = {
    SteeredChat.steer: 3,
    SteeredChat.steer_now: 2,
    SteeredChat.wait_turn: 2,
    SteeredChat.post_to_wait: 2,
    SteeredChat.post_to_steer: 1,
}
"""How people talk on, and how often."""
