"""A gateway for whatever no document describes, of which nothing is left behind afterwards."""

from collections.abc import Iterator

import httpx2
import psutil
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.properties.breaking import SECRET, check_at_rest, upload

MAX_GROWTH = 96 << 20
"""Bytes by which the gateway may grow: it remembers topics and pages of its log, up to a bound."""


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_JWT_SECRET": SECRET, "TRILANE_MAX_AGE_S": "1", "TRILANE_SESSION_KEPT_S": "1"}
    server = serving(tmp_path_factory.mktemp("wire"), upstream.url, **env)
    server.unit = "all"
    try:
        server.start()
        upload(server, b"no sound")  # has the model loaded
        yield server
    finally:
        server.stop()


@pytest.fixture
def nothing_is_left(request: pytest.FixtureRequest, place: Gateway) -> Iterator[None]:
    server = place
    gateway = psutil.Process(server.pid)
    tasks, descriptors, before = server.gauge("trilane_gateway_tasks"), server.fds(), gateway.memory_info().rss
    yield
    eventually(lambda: server.gauge("trilane_audio_open_uploads") == 0, 20, "no upload is left")
    eventually(lambda: attached(server) == 0, 20, "no session has a client")
    check_at_rest(server, tasks, descriptors)
    after = gateway.memory_info().rss
    print(f"{request.node.name}: {before >> 20} to {after >> 20} MiB, {descriptors} to {server.fds()} descriptors")
    assert after < before + MAX_GROWTH


def attached(server: Gateway) -> float:
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if 'open_sessions{state="attached"}' in line)
