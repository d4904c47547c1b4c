"""A Publisher sends events that are numbered for each topic and carry the time at which they were sent."""

import secrets
import time
from itertools import cycle

from locust.env import Environment

from loadtests.users.access import blame
from loadtests.users.fault import Fault
from loadtests.users.origin import Origin, Unreachable
from loadtests.users.topic_record import CLOCK, NAME
from loadtests.users.verdict import fault, note_measure


class Publisher:
    """Publishes one event at a time, to its topics in turn."""

    def __init__(self, environment: Environment, origin: Origin, topics: list[str]) -> None:
        self.environment = environment
        self.origin = origin
        self.name = secrets.token_hex(6)
        self._numbers = dict.fromkeys(topics, 0)
        self._turns = cycle(topics)

    def publish(self) -> None:
        """Publishes the next event; one whose fate is unknown is sent again at its topic's next turn, under the same
        key.
        """
        topic = next(self._turns)
        number, at_ns = self._numbers[topic], time.monotonic_ns()
        event = {
            "topic": topic,
            "event": NAME,
            "data": {"by": self.name, "n": number, "at": at_ns, "clock": CLOCK},
            "idempotencyKey": f"{self.name}-{topic.replace('/', '-')}-{number}",
        }
        try:
            reply = self.origin.ask("POST", "/api/events", event)
        except Unreachable as err:
            fault(self.environment, Fault.UNREACHABLE, str(err))
            return
        if reply.status == 200:
            self._numbers[topic] += 1
            note_measure(self.environment, "events", "publish", (time.monotonic_ns() - at_ns) / 1e6)
        else:
            blame(self.environment, f"to publish to {topic}", reply)
