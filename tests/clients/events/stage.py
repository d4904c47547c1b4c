"""The clients of the table are opened once for all scenes, and the scenes are played in front of them."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from tests.clients.events.application import Application
from tests.clients.events.browser import Chromium
from tests.clients.events.node import NodeClients
from tests.clients.events.python import PythonClients
from tests.clients.events.scene import Follow, Scene
from tests.clients.events.scenes import ALONE, EAGER, PLANS
from tests.clients.events.wire import Wire

CLIENTS = ("chromium", "eventsource", "eventsource-client", "fetch-event-source", "undici", "httpx-sse", "sseclient-py")


class Home(Protocol):
    """A home is where clients live: a browser, a process, threads."""

    def follow(self, kind: str, url: str, application: Application) -> Callable[[], None]: ...
    def close(self) -> None: ...


MAKERS: dict[Callable[[], Home], tuple[str, ...]] = {
    Chromium: ("chromium",),
    NodeClients: ("eventsource", "eventsource-client", "fetch-event-source", ALONE, EAGER, "undici"),
    PythonClients: ("httpx-sse", "sseclient-py"),
}
"""The home of each client."""
AT_ONCE = 4
"""Scenes played at once: each begins with the start of a gateway, which takes a second of one core."""


class Seat(NamedTuple):
    """The seat of one client at one scene."""

    saw: Application
    wire: Wire | None
    """The client's proxy; None where the scene was played without."""
    scene: Scene


class Stage:
    def __init__(self, folder: Path, scenes: Iterable[str]) -> None:
        self.clients: dict[str, Follow] = {}
        self.missing: dict[str, str] = {}
        """Client → why it is not here."""
        self._folder = folder
        self._homes = [home for maker, kinds in MAKERS.items() if (home := self._home(maker, kinds))]
        self._actors = ThreadPoolExecutor(AT_ONCE)
        self._scenes = {name: self._actors.submit(self._play, name) for name in PLANS if name in scenes}

    def close(self) -> None:
        self._actors.shutdown(cancel_futures=True)
        for home in self._homes:
            home.close()

    def seat(self, name: str, client: str) -> Seat:
        """Returns what one client saw of a scene, once it is over."""
        if client in self.missing:
            pytest.skip(self.missing[client])
        if name not in self._scenes:
            self._scenes[name] = self._actors.submit(self._play, name)
        scene = self._scenes[name].result()
        return Seat(scene.applications[client], scene.wires.get(client), scene)

    def _home(self, maker: Callable[[], Home], kinds: tuple[str, ...]) -> Home | None:
        try:
            home = maker()
        except pytest.skip.Exception as skipped:
            self.missing |= dict.fromkeys(kinds, str(skipped))
            return None
        self.clients |= dict.fromkeys(kinds, home.follow)
        return home

    def _play(self, name: str) -> Scene:
        plan = PLANS[name]
        clients = {kind: follow for kind, follow in self.clients.items() if kind in (*CLIENTS, *plan.also)}
        scene = Scene(self._folder / name, clients, dict(plan.env))
        try:
            scene.start()
            plan.play(scene)
        finally:
            scene.close()
        return scene
