"""What users do with a chat whose end they judge: they ask, look at it, and delete it; a refusal is a fault."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from gevent.pool import Group
from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.fault import Fault
from loadtests.users.origin import CutOff, Origin, Reply, Unreachable
from loadtests.users.question import Question
from loadtests.users.sse import Event, SseParser
from loadtests.users.verdict import fault

SILENCE_S = 30.0
"""Twice the seconds after which a gateway pings."""
TICK_S = 0.1


class JudgedChat:
    """One chat, from its first question to its end."""

    def __init__(self, environment: Environment, origin: Origin, chat_id: str, model: str = "") -> None:
        self.environment = environment
        self.origin = origin
        self.chat_id = chat_id
        self.devices = Group()
        """Whoever else acts in it; none of them is left when it is over, and would find it deleted."""
        self._model = model
        self.path = f"/api/chat/{chat_id}"

    def run(self) -> None:
        """Lives through it, and notes every fault on the way."""
        try:
            self.live()
        except Unreachable as err:
            self.note(Fault.UNREACHABLE, str(err))
        except (CutOff, TimeoutError) as err:
            self.note(Fault.NO_END, str(err))
        finally:
            self.devices.kill()
            self._delete()

    def live(self) -> None:
        """What happens in it. Raises Unreachable, CutOff, TimeoutError."""
        raise NotImplementedError

    def say(self, message_id: str, text: str, **more: Any) -> list[dict[str, Any]]:
        return self.read(Question(self.chat_id, message_id, text, model=self._model), **more)

    def read(self, question: Question, **more: Any) -> list[dict[str, Any]]:
        """Asks a question, and returns the chunks of its whole answer. Raises CutOff for a refusal, too.

        `more` are further fields of the body.
        """
        parser, chunks = SseParser(), list[dict[str, Any]]()
        with self.origin.open("POST", "/api/chat", question.body() | more) as stream:
            if not stream.streams:
                reply = stream.reply()
                blame(self.environment, "a question", reply)
                raise CutOff(f"{reply.status} to a question")
            stream.wait(SILENCE_S)
            while data := stream.read():
                events = [item.data for item in parser.feed(data) if isinstance(item, Event)]
                chunks += [json.loads(text) for text in events if text.startswith("{")]
        return chunks

    def chat(self) -> dict[str, Any]:
        """Returns the chat as it stands."""
        return self.expect_200("to look at a chat", self.origin.ask("GET", self.path)).json()

    def expect_200(self, doing: str, reply: Reply) -> Reply:
        if reply.status != 200:
            blame(self.environment, doing, reply)
            raise CutOff(f"{doing}: {reply.status}")
        return reply

    def note(self, kind: Fault, detail: str) -> None:
        fault(self.environment, kind, f"chat {self.chat_id}: {detail}")

    def _delete(self) -> None:
        try:
            self.origin.ask("DELETE", self.path)
        except Unreachable as err:
            self.note(Fault.UNREACHABLE, str(err))


def places_of(messages: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Returns how often each message of a user is in a chat: as one of its own, or in an answer that has taken it."""
    places = Counter[str]()
    for message in messages:
        if message["role"] == "user":
            places[message["id"]] += 1
        places.update(part["id"] for part in message["parts"] if part["type"] == "data-steer")
    return places
