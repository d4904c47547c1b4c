"""Chromium loads the page for these tests, through a proxy that can cut its connections to the gateway."""

import contextlib
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gateway, UpstreamThread, serving

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of the program; the first is the same engine without windows, for two thirds of the time."""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Can reset all its TCP connections at once, and refuse new ones for a while."""

    def __init__(self, port: int) -> None:
        self.refusing = False
        self._target = port
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            victims, self._sockets = self._sockets, set()
        for one in victims:
            _reset(one)

    def close(self) -> None:
        # Closing a socket does not wake the thread that accepts on it; shutting it down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                _reset(client)
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            both = {client, server}
            with self._lock:
                self._sockets |= both
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()
            with self._lock:
                self._sockets -= both


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Passes bytes on until either side ends; then both do."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _reset(one: socket.socket) -> None:
    """Ends a connection at once, in both directions; whoever reads it closes it."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Launches Chromium; tests are skipped, and say how to install it, where it or its driver is missing.

    For one module: Playwright keeps an event loop running in this thread, in which no other test could run its own.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: `make install` brings it")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("no Chromium: `apt-get install chromium-headless-shell` brings the browser tests")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def gateway(browser: Any, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs every lane and the page; its model repeats the user's words, unless `B=` asks for another behaviour.

    Its upstream may take long to refuse: after that time a refusal no longer says when to try again.
    """
    yield from gateway_with(tmp_path_factory.mktemp("page"), upstream, TRILANE_PRIME_S="15")


def gateway_with(folder: Path, upstream: UpstreamThread, **env: str) -> Iterator[Gateway]:
    server = serving(folder, upstream.url, TRILANE_MODEL="ok+echo", **env)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[CuttingProxy]:
    new = CuttingProxy(gateway.port)
    yield new
    new.close()


@pytest.fixture
def new_tab(browser: Any) -> Iterator[Callable[[], Any]]:
    from tests.e2e.console import tabs

    with tabs(browser) as open_tab:
        yield open_tab


@pytest.fixture
def console(new_tab: Callable[[], Any], gateway: Gateway) -> Any:
    """Opens a new chat on the gateway, as `tests.e2e.console.Console`."""
    from tests.e2e.console import Console

    return Console(new_tab(), gateway.url)
