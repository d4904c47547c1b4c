"""People follow topics, each over many connections, and one publishes to them."""

import random
import time
from argparse import ArgumentParser

import gevent
from gevent.pool import Group
from locust import User, between, constant_throughput, events, task

from loadtests.users.access import options, origin_of
from loadtests.users.fault import Fault
from loadtests.users.listener import LATE_S, Listener
from loadtests.users.origin import Unreachable
from loadtests.users.publisher import Publisher
from loadtests.users.verdict import fault, late_since

TOPICS = [f"load/{number}" for number in range(10)]
QUIET = "load/quiet"
"""A topic that nobody publishes to: whoever follows it hears pings."""
BETWEEN_CONNECTS_S = 0.01
TICK_S = 0.1
CATCH_UP_S = 5.0
"""Seconds after which a reader that has not got what the log had has lost it."""


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--rate", type=float, default=10.0, help="events published a second (10)", env_var="LOCUST_RATE"
    )


class EventsUser(User):
    """Holds `--listeners` streams, one of them on the quiet topic; now and then checks that one has all there is."""

    wait_time = between(2, 5)

    def on_start(self) -> None:
        self.origin = origin_of(self.environment)
        self.streams = Group()
        arguments = options(self.environment)
        topics = [QUIET, *(random.choice(TOPICS) for _ in range(arguments.listeners - 1))]
        self.listeners = [Listener(self.environment, self.origin, topic) for topic in topics]
        for listener in self.listeners:
            self.streams.spawn(listener.run)
            gevent.sleep(BETWEEN_CONNECTS_S)

    def on_stop(self) -> None:
        self.streams.kill()
        self.origin.close()

    @task
    def check_one(self) -> None:
        """Checks one reader against the log: a stream that pings and brings nothing else would pass every other
        check.
        """
        listener = random.choice(self.listeners)
        began_s, asked_s = listener.since_s, time.monotonic()
        try:
            reply = self.origin.ask("GET", f"/api/events/topics/{listener.topic}")
            stands = reply.json() if reply.status == 200 else {}
        except (Unreachable, ValueError):
            return  # the listeners find that out too
        while listener.has_all(str(stands.get("epoch")), int(stands.get("head", 0))) is False:
            if listener.since_s != began_s or late_since(self.environment, asked_s) > LATE_S:
                return
            if time.monotonic() > asked_s + CATCH_UP_S:
                evidence = f"{CATCH_UP_S:g} s after {listener.topic} had {stands} a reader of it was still at"
                fault(self.environment, Fault.LOST, f"{evidence} {listener.record.cursor}")
                return
            gevent.sleep(TICK_S)


class PublisherUser(User):
    """Publishes for the whole test: `--rate` events a second, over all topics in turn."""

    fixed_count = 1

    def on_start(self) -> None:
        self.publisher = Publisher(self.environment, origin_of(self.environment), TOPICS)
        self._pace = constant_throughput(options(self.environment).rate)

    def on_stop(self) -> None:
        self.publisher.origin.close()

    def wait_time(self) -> float:
        return self._pace(self)

    @task
    def publish(self) -> None:
        self.publisher.publish()
