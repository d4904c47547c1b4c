"""An address on which nobody can listen is told in one sentence, with what to do, before anything is loaded."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import ConfigurationError
from gateway.serving.server import check_address, server_config
from gateway.settings import Settings
from tests.support.streams import SERVERS, Uvicorn


@pytest.fixture(params=["127.0.0.1", "::1", "0.0.0.0"])
def taken(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Yields an address on which somebody listens."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip(f"this machine has no {request.param}")
        listener.listen()
        yield request.param, listener.getsockname()[1]


def test_a_port_that_is_taken_is_named(taken: tuple[str, int]) -> None:
    host, port = taken
    with pytest.raises(ConfigurationError, match=rf"port {port} of {host} is taken .* --port"):
        check_address(host, port)


def test_a_port_that_is_taken_on_all_addresses_is_taken_on_each() -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener, pytest.raises(ConfigurationError, match="is taken"):
        check_address("127.0.0.1", listener.getsockname()[1])


def test_a_port_of_which_a_connection_lingers_is_free() -> None:
    """A server that restarts finds connections of the one before."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address):
            server_side, _ = listener.accept()
            server_side.close()  # first, so that its side is the one that lingers
    check_address(*address)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "this machine has no address 192.0.2.1: .* --host"),
        ("nowhere.invalid", "--host 'nowhere.invalid' is not the name of an address"),
        ("127.0.0.1:8000", "--host '127.0.0.1:8000' is not the name of an address"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_host_that_is_not_this_machine_is_named(host: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        check_address(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_any_free_port_will_do(host: str) -> None:
    check_address(host, 0)


def test_the_command_says_it_before_its_banner(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        process = subprocess.run(
            [sys.executable, "-m", "gateway", "serve", "--port", port],
            env={**os.environ, "TRILANE_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert process.returncode == 1
    assert process.stdout == ""
    [sentence] = process.stderr.splitlines()
    assert f"port {port} of 127.0.0.1 is taken" in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("http", SERVERS)
def test_an_answer_that_is_cut_on_purpose_is_no_error_of_the_server(
    http: str, caplog: pytest.LogCaptureFixture
) -> None:
    unit: Any = SimpleNamespace(has_websockets=False)
    server_config(unit, Settings(), "127.0.0.1", 0)

    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def check() -> None:
        async with Uvicorn(cut, http) as server, await server.call() as call:
            assert await call.read() == b"half"
            assert not call.complete

    asyncio.run(check())
    assert caplog.messages == []
