"""Each scene is played once, in front of all clients; every test looks at what one client saw of one scene.

Several are played at the same time, since most of a scene is the wait of 1 to 15 s that `retry:` tells clients to keep;
the longest comes first.
"""

import signal
from collections.abc import Callable
from typing import NamedTuple

import httpx2

from tests.clients.events.scene import TOPIC, Scene
from tests.conftest import eventually

AWKWARD = {
    "text": "one\ntwo\r\nthree\rfour\n\n",
    "forged": "\ndata: x\nevent: bye\nid: 0\n\n",
    "others": "\u2028\u0085\x0b é 🚃",
}
PRETTY = {"a": [1, {"b": "c\nd"}], "e": None}
PRETTY_JSON = b'{\n\n  "a": [\r\n    1,\r\t{"b": "c\\nd"}\n  ],\n\n\n  "e":\nnull\n}\n'
CUT_IN = 7
MISSED = 40
KEPT = 4
ALONE = "fetch-event-source alone"
"""The client without the handlers that its README adds."""
EAGER = "fetch-event-source eager"
"""The client with those handlers, and no more."""


class Plan(NamedTuple):
    play: Callable[[Scene], None]
    env: dict[str, str]
    also: tuple[str, ...]
    """Clients beyond those of the table, for its footnotes."""


PLANS: dict[str, Plan] = {}


def scene(*also: str, **env: str) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Names a scene after its function; `env` are the gateway's settings in it."""

    def note(play: Callable[[Scene], None]) -> Callable[[Scene], None]:
        PLANS[play.__name__] = Plan(play, env, also)
        return play

    return note


@scene()
def busy(on: Scene) -> None:
    """Clients come back to a gateway without room, and later to one with room."""
    on.open()
    on.number(1, 1)
    on.each(lambda application: application.numbers)
    on.leave(signal.SIGKILL)
    on.start(TRILANE_LIMIT_STREAMS="0")
    on.each(lambda application: application.bodies("busy"))
    on.leave(signal.SIGKILL)
    on.append({"n": 2})
    on.start(TRILANE_LIMIT_STREAMS="100")
    on.each(lambda application: len(application.hellos) == 2, 20)
    on.number(3, 3)
    on.each(lambda application: application.numbers[-1:] == [3])


@scene(TRILANE_PING_S="0.2")
def quiet(on: Scene) -> None:
    """Sends events of every shape, with silence and at least three pings before each of them."""
    on.open(with_wires=True)
    for name, body in (
        ("message", {"n": 1}),
        ("order.paid", {"n": 2}),
        ("chat:typing", {"n": 3}),
        ("message", AWKWARD),
    ):
        before = {kind: wire.pings for kind, wire in on.wires.items()}
        on.until(lambda before=before: all(wire.pings >= before[kind] + 3 for kind, wire in on.wires.items()))
        on.publish(body, event=name)
    on.post(b'{"topic":"%b","data":%b}' % (TOPIC.encode(), PRETTY_JSON))
    on.publish({"n": 6})
    on.each(lambda application: len(application.published) == 6)


@scene()
def cut_inside_event(on: Scene) -> None:
    """Ends each connection in the middle of the seventh event."""
    on.open(with_wires=True)
    on.number(1, CUT_IN - 1)
    on.each(lambda application: len(application.numbers) == CUT_IN - 1)  # Chromium drops what it has not read of a cut
    for wire in on.wires.values():
        wire.cut_in = b'{"n":%d' % CUT_IN
    on.number(CUT_IN, 20)
    on.each(lambda application: application.numbers[-1:] == [20])


@scene(ALONE, TRILANE_MAX_AGE_S="1")
def old_connections(on: Scene) -> None:
    """Connections end by themselves, all the time, while events go on."""
    on.open()
    n = 0
    while n < 300 and not on.each(lambda application: len(application.hellos) > 1 or application.ending, 0.05):
        n += 1
        on.number(n, n)
    on.number(n + 1, n + 1)
    on.each(lambda application: application.numbers[-1:] == [n + 1] or application.ending)


def restart(on: Scene, number: signal.Signals) -> None:
    """Ends the gateway; something happens meanwhile; it comes back."""
    on.open()
    on.number(1, 5)
    on.each(lambda application: application.numbers[-1:] == [5])
    on.leave(number)
    on.append(*({"n": n} for n in range(6, 11)))
    on.start()
    on.number(11, 15)
    on.each(lambda application: application.numbers[-1:] == [15])


@scene(TRILANE_DRAIN_WINDOW_S="0.2")
def drain(on: Scene) -> None:
    restart(on, signal.SIGTERM)


@scene()
def kill(on: Scene) -> None:
    restart(on, signal.SIGKILL)


@scene(TRILANE_RETENTION_EVENTS=str(KEPT))
def late(on: Scene) -> None:
    """Clients are away until what they missed is no longer kept."""
    on.open(with_wires=True)
    on.number(1, 1)
    on.each(lambda application: application.numbers)
    for wire in on.wires.values():
        wire.refuse()
    on.number(2, 1 + MISSED)
    state = f"{on.gateway.url}/api/events/topics/{TOPIC}"
    eventually(lambda: httpx2.get(state).json()["oldest"] > 2, 10, "the second event is forgotten")
    for wire in on.wires.values():
        wire.refusing = False
    on.each(lambda application: len(application.hellos) == 2)
    on.number(100, 100)
    on.each(lambda application: application.numbers[-1:] == [100])


@scene(EAGER)
def closing(on: Scene) -> None:
    """Closes one topic of two, then the other; what clients do after `bye` is waited for."""
    on.open("first", "second", with_wires=True)
    on.publish({"n": 1}, topic="first")
    on.append(topic="first", close=True)
    on.publish({"n": 2}, topic="second")
    on.append({"n": 3}, topic="second", close=True)
    on.until(
        lambda: all(
            application.ending or on.wires[kind].statuses.count(204) > 1
            for kind, application in on.applications.items()
        )
    )
