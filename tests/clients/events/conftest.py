"""Every client of the events lane follows each scene, which is played once before them all."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.events.stage import CLIENTS, Seat, Stage


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return request.param


def _fixture_of(name: str) -> Any:
    """Returns a fixture, named after the scene, with what this test's client saw of it."""

    @pytest.fixture(name=name)
    def seat(stage: Stage, client: str) -> Seat:
        return stage.seat(name, client)

    return seat


quiet = _fixture_of("quiet")
cut_inside_event = _fixture_of("cut_inside_event")
old_connections = _fixture_of("old_connections")
drain = _fixture_of("drain")
kill = _fixture_of("kill")
late = _fixture_of("late")
busy = _fixture_of("busy")
closing = _fixture_of("closing")


@pytest.fixture(scope="package")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Plays, several at once, the scenes that the tests of this session look at."""
    names = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    new = Stage(tmp_path_factory.mktemp("events"), names)
    yield new
    new.close()
