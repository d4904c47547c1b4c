"""The tests of PostgreSQL share one server, even those that kill it."""

from collections.abc import Iterator

import pytest

from tests.contract.conftest import postgres_server, python_path, root
from tests.support.postgres_server import PostgresServer

__all__ = ["postgres_server", "python_path", "root"]


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """Returns the URL of an empty database of that server."""
    return postgres_server.empty_database()


@pytest.fixture
def own_server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Returns the server for a test that kills or pauses it, and has it run again afterwards."""
    yield postgres_server
    postgres_server.ensure()
