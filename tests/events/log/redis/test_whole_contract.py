"""The contract of every engine holds on a cluster of three nodes; between processes behind sentinels; on Redis 6.2."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.contract import (
    test_log_contract,
    test_log_copy,
    test_log_counts,
    test_log_listener,
    test_log_retention,
    test_log_shared,
)
from tests.contract.engines import Engine
from tests.support.redis_servers import RedisServer, Replicated, start_cluster

MODULES = (test_log_contract, test_log_copy, test_log_counts, test_log_listener, test_log_retention, test_log_shared)
CONTRACT: dict[str, Callable[..., Any]] = {
    name: test
    for module in MODULES
    for name, test in vars(module).items()
    if name.startswith("test_") and {*inspect.signature(test).parameters} <= {"engine", "shared_engine"}
}


def those_of(*modules: ModuleType) -> list[str]:
    names = {module.__name__ for module in modules}
    return [name for name, test in CONTRACT.items() if test.__module__ in names]


def run_on(url: str, folder: Path, test: Callable[..., Any]) -> None:
    (parameter,) = inspect.signature(test).parameters
    test(**{parameter: Engine("redis", folder, server_url=url)})


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    servers = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in servers)}"
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def oldest_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(tmp_path_factory.mktemp("oldest"), version="6.2").start()
    yield server.url
    server.kill()


@pytest.mark.parametrize("name", CONTRACT)
def test_on_a_cluster(name: str, cluster_url: str, tmp_path: Path) -> None:
    run_on(cluster_url, tmp_path, CONTRACT[name])


@pytest.fixture(scope="module")
def sentinels_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    servers = Replicated(tmp_path_factory.mktemp("sentinels"))
    yield servers.url
    servers.end()


@pytest.mark.parametrize("name", those_of(test_log_shared))
def test_behind_sentinels(name: str, sentinels_url: str, tmp_path: Path) -> None:
    run_on(sentinels_url, tmp_path, CONTRACT[name])


@pytest.mark.parametrize("name", those_of(test_log_contract, test_log_retention))
def test_on_the_oldest_redis(name: str, oldest_url: str, tmp_path: Path) -> None:
    run_on(oldest_url, tmp_path, CONTRACT[name])
