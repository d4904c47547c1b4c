from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.engines import Engine
from tests.support.redis_servers import RedisServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Returns a server that a module's tests may pause, kill and start again: what it acknowledged is on disk."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.kill()


@pytest.fixture
def engine(server: RedisServer, tmp_path: Path) -> Engine:
    """Returns the engine on that server, with a prefix of the test's own."""
    return Engine("redis", tmp_path, server_url=server.url)
