"""Processes that are killed, or stopped for long, end only their own runs, and append nothing to them when they wake.

On every engine, all at once: what takes time is the silence after which another process ends their runs.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from events.log.port import EventLog, read_to_head
from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, serving
from tests.contract.engines import opened
from tests.deploy.crowd import Asker, Ledger
from tests.deploy.estate import ENGINES, log_server
from tests.deploy.load import seen
from tests.deploy.wire import Road

TOKENS = 300
QUESTION = f"T={TOKENS} I=100000"
"""An answer that takes half a minute: longer than the silence after which a process counts as gone."""
pytestmark = [pytest.mark.paced, pytest.mark.timeout(180)]


@contextmanager
def processes(engine: str, folder: Path, upstream: UpstreamThread) -> Iterator[tuple[str, list[Gateway]]]:
    """Yields the log's URL, and three processes that are not started yet."""
    with ExitStack() as stack:
        if engine == "sqlite":
            url = f"sqlite:///{folder / 'trilane.db'}"
        else:
            server, pattern = stack.enter_context(log_server(engine, folder))
            url = pattern.replace("PORT", str(server.port))
        made = [serving(folder, upstream.url, TRILANE_LOG=url) for _ in range(3)]
        for gateway in made:
            stack.callback(gateway.stop)
        yield url, made


async def blocks_of(log: EventLog, topic: str) -> list[tuple[int, str, bytes]]:
    return [
        (block.first + at, block.name, data)
        async for part in read_to_head(log, topic)
        for block in part.blocks
        for at, data in enumerate(block.data)
    ]


async def lose_two(engine: str, url: str, gateways: list[Gateway]) -> None:
    """Kills one of three processes and stops another; then wakes that one."""
    await asyncio.gather(*[asyncio.to_thread(gateway.start) for gateway in gateways])
    killed, stopped, staying = gateways
    ledger = Ledger()
    here = Road(staying.port)
    askers = {
        gateway.port: [Asker(here, f"{engine}-{gateway.port}-{n}", QUESTION, ledger) for n in range(2)]
        for gateway in gateways
    }
    reading = [asyncio.ensure_future(a.run(first=Road(port))) for port, some in askers.items() for a in some]
    await seen(lambda: all(asker.text for some in askers.values() for asker in some), "all answers begin")
    assert not ledger.faults
    killed.signal(signal.SIGKILL)
    stopped.signal(signal.SIGSTOP)
    followers = [Asker(here, asker.chat_id, QUESTION, ledger) for asker in askers[stopped.port]]
    for follower, asker in zip(followers, askers[stopped.port], strict=True):
        follower.cursor = asker.cursor
    await asyncio.gather(*[follower.run() for follower in followers])
    runs = [f"run/{follower.cursor.split('.')[0]}" for follower in followers]
    async with opened(url) as log:
        before = [await blocks_of(log, run) for run in runs]
        stopped.signal(signal.SIGCONT)
        await seen(lambda: stopped.gauge("trilane_chat_open_runs") == 0, "the process that woke gives up")
        assert [await blocks_of(log, run) for run in runs] == before
    await asyncio.gather(*reading)
    for asker in [*askers[killed.port], *followers]:
        assert (asker.ends, asker.code) == (["error"], "interrupted"), engine
        assert words(TOKENS).startswith(asker.text) or asker in followers
    for asker in askers[staying.port]:
        assert (asker.ends, asker.text, asker.connections) == (["finish"], words(TOKENS), 1), engine
    assert not ledger.faults


def test_a_lost_process_takes_only_its_own_runs_along(upstream: UpstreamThread, tmp_path: Path) -> None:
    async def on_all() -> None:
        async with asyncio.TaskGroup() as group:
            for url, gateways, engine in estates:
                group.create_task(lose_two(engine, url, gateways))

    with ExitStack() as stack:
        estates: list[tuple[str, list[Gateway], str]] = []
        for engine in ("sqlite", *ENGINES):
            (folder := tmp_path / engine).mkdir()
            estates.append((*stack.enter_context(processes(engine, folder, upstream)), engine))
        asyncio.run(on_all())
