import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.engines import Engine
from tests.support.postgres_server import PostgresServer
from tests.support.redis_servers import RedisServer


@pytest.fixture(params=["memory", "sealed", "sqlite", "redis", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine in turn."""
    return engine_of(request, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres"])
def plain_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine that keeps events as they were appended, and so at their size."""
    return engine_of(request, tmp_path)


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def shared_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Returns each engine that several processes may have open."""
    return engine_of(request, tmp_path)


def engine_of(request: pytest.FixtureRequest, folder: Path) -> Engine:
    """Returns the engine of the fixture's parameter, with the server that it needs."""
    engine = Engine(request.param, folder)
    if engine.name == "redis":
        engine.server_url = request.getfixturevalue("redis_url")
    if engine.name == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        engine.server_url = server.empty_database()
    return engine


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Returns the URL of a server for all tests of this process; each has its own prefix there."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "yes").start()
    yield server.url
    server.kill()


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
