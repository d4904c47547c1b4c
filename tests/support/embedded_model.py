"""The embedded model is started in a real process and asked, on each event loop."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import openai
import psutil
import pytest

from gateway.chat.upstreams.local import LocalModel

is_installed = pytest.mark.skipif(LocalModel.available() is not None, reason=str(LocalModel.available()))
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or uses what only Linux has")
QUESTION = "What is gravity?"
Run = Callable[[Callable[[], Awaitable[None]]], None]


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
