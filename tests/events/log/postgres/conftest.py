"""The tests of PostgreSQL share one server, except those that kill it."""

from collections.abc import Iterator

import pytest

from tests.contract.conftest import postgres_server, python_path, root
from tests.support.postgres_server import PostgresServer

__all__ = ["postgres_server", "python_path", "root"]


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """Returns the URL of an empty database of that server."""
    return postgres_server.empty_database()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """Returns a server that the tests of a module may kill, start and pause."""
    with PostgresServer() as server:
        yield server
