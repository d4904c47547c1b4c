"""The embedded model's process starts once, is replaced when it is killed, and never outlives its parent."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest
import uvloop

from gateway.chat.upstreams.local import LocalModel, LocalModelError
from tests.conftest import eventually
from tests.gateway.chat.upstreams.conftest import runner
from tests.support.embedded_model import Run, ask, is_installed, linux, servers, started, until

pytestmark = is_installed


@pytest.fixture
def run() -> Run:
    """Runs a test on the gateway's event loop only: each starts real processes."""
    return runner(uvloop.new_event_loop)


PROBE = str(Path(__file__).parents[3] / "support" / "lifecycle_probe.py")


def gone(pid: int) -> bool:
    """Returns whether it is dead, reaped or not: a container's first process may leave the reaping for later."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_callers_at_the_same_time_share_one_start(run: Run) -> None:
    async def test() -> None:
        model = LocalModel()
        try:
            first, *others = await asyncio.gather(*[model.endpoint() for _ in range(8)])
            assert all(other == first for other in others)
            assert [server.pid for server in servers()] == [model.pid]
        finally:
            await model.aclose()

    run(test)


def test_a_caller_that_leaves_during_the_start_does_not_stop_it(run: Run) -> None:
    async def test() -> None:
        model = LocalModel()
        try:
            caller = asyncio.create_task(model.endpoint())
            await until(lambda: model.pid is not None)
            pid = model.pid
            caller.cancel()
            await asyncio.wait((caller,))
            await model.endpoint()
            assert caller.cancelled()
            assert model.pid == pid
        finally:
            await model.aclose()

    run(test)


@pytest.mark.parametrize("told", [False, True])
def test_a_killed_child_is_replaced_when_its_end_is_known_or_a_caller_tells(run: Run, told: bool) -> None:
    async def test() -> None:
        model = LocalModel()
        try:
            first, pid = await model.endpoint(), model.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            if told:
                second = await model.endpoint(unreachable=first)
            else:
                await until(lambda: model.pid is None)
                second = await model.endpoint()
            assert second.api_key != first.api_key
            assert model.pid != pid
            async with openai.AsyncOpenAI(base_url=second.base_url, api_key=second.api_key) as client:
                assert (await ask(client)).choices[0].message.content
        finally:
            await model.aclose()

    run(test)


def test_closing_leaves_no_process_and_no_descriptor(run: Run) -> None:
    async def test() -> None:
        open_fds: list[int] = []
        for _ in range(3):
            async with started() as (model, _):
                pid = model.pid
            assert pid
            assert not psutil.pid_exists(pid)
            open_fds.append(psutil.Process().num_fds())
        # The first subprocess of an event loop opens what it needs to hear of the end of any.
        assert open_fds[1] == open_fds[2]
        assert servers() == []

    run(test)


def test_closing_during_the_start_ends_it(run: Run) -> None:
    async def test() -> None:
        model = LocalModel()
        starting = asyncio.ensure_future(model.endpoint())
        await until(lambda: model.pid is not None)
        await model.aclose()
        assert servers() == []
        with contextlib.suppress(LocalModelError):  # it may have been ready at that moment
            await starting
        with pytest.raises(LocalModelError, match="shutting down"):
            await model.endpoint()

    run(test)


def test_signals_to_the_whole_service_do_not_cut_answers_short(run: Run) -> None:
    async def test() -> None:
        async with started() as (model, client):
            assert model.pid
            assert os.getsid(model.pid) != os.getsid(0)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                os.kill(model.pid, number)
            assert (await ask(client)).choices[0].message.content

    run(test)


@contextlib.contextmanager
def probe(mode: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yields a parent process in `mode`, and the pid of its model's process."""
    parent = subprocess.Popen([sys.executable, PROBE, mode], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout
        yield parent, int(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout
        parent.stdout.close()


@pytest.mark.parametrize("mode", ["wait", "early", pytest.param("share", marks=linux)])
def test_a_killed_parent_takes_the_child_with_it(mode: str) -> None:
    with probe(mode) as (parent, pid):
        if mode == "share":
            assert parent.stdout
            parent.stdout.readline()
        assert not gone(pid)
        parent.kill()
        eventually(lambda: gone(pid), 2, "the child of a killed parent is gone")


@linux
def test_the_end_of_the_event_loops_thread_ends_the_child() -> None:
    with probe("thread") as (parent, pid):
        assert parent.stdout
        parent.stdout.readline()
        eventually(lambda: gone(pid), 2, "the child of an ended thread is gone")


def test_nothing_listens_after_the_end() -> None:
    async def test() -> int:
        async with started() as (_, client):
            return client.base_url.port or 0

    port = asyncio.run(test())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1).close()
