import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.engines import Engine
from tests.support.postgres_server import PostgresServer


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine in turn."""
    return engine_of(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def shared_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine that several processes may have open."""
    return engine_of(request, tmp_path)


def engine_of(request: pytest.FixtureRequest, folder: Path) -> Engine:
    """Returns the engine of the fixture's parameter, with the server that it needs."""
    engine = Engine(request.param, folder)
    if engine.name == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        engine.server_url = server.empty_database()
    return engine


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Returns a server for all tests of this process; each finds its database empty."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def root() -> Path:
    """Returns the folder that holds the packages."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def python_path(root: Path) -> dict[str, str]:
    """Returns the environment of a separate Python process."""
    return {**os.environ, "PYTHONPATH": str(root)}
