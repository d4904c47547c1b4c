"""OpenAI's Python SDK, unmodified and without its own retries, is asked the same by its sync and its async client.

Owns what a stream said and how it ended: an `APIError` inside a stream is kept, one before it is raised.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

DEFAULT = "T=20 I=200"


def messages(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


class StreamRecord:
    """Holds the chunks of one stream, and the error that ended it."""

    def __init__(self) -> None:
        self.chunks: list[ChatCompletionChunk] = []
        self.error: openai.APIError | None = None

    def read(self, chunks: Iterator[ChatCompletionChunk]) -> "StreamRecord":
        try:
            self.chunks.extend(chunks)
        except openai.APIError as err:
            self.error = err
        return self

    async def aread(self, chunks: AsyncIterator[ChatCompletionChunk]) -> "StreamRecord":
        try:
            async for chunk in chunks:
                self.chunks.append(chunk)
        except openai.APIError as err:
            self.error = err
        return self

    @property
    def deltas(self) -> list[Any]:
        return [choice.delta for chunk in self.chunks for choice in chunk.choices]

    @property
    def text(self) -> str:
        return "".join(delta.content or "" for delta in self.deltas)

    @property
    def reasoning(self) -> str:
        return "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in self.deltas)

    @property
    def finish_reasons(self) -> list[str]:
        return [choice.finish_reason for chunk in self.chunks for choice in chunk.choices if choice.finish_reason]

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        """Returns (id, name, arguments) of each tool call, put together from its pieces."""
        calls: dict[int, tuple[str, str, str]] = {}
        for call in (call for delta in self.deltas for call in delta.tool_calls or []):
            parts = calls.get(call.index, ("", "", ""))
            piece = (call.id, call.function.name, call.function.arguments)
            calls[call.index] = (parts[0] + (piece[0] or ""), parts[1] + (piece[1] or ""), parts[2] + (piece[2] or ""))
        return [calls[index] for index in sorted(calls)]


class SyncAsker:
    """Asks through `openai.OpenAI`."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = openai.OpenAI(**_options(url, options))

    def whole(self, model: str, text: str = DEFAULT, **more: Any) -> ChatCompletion:
        return self._client.chat.completions.create(model=model, messages=messages(text), **more)

    def stream(self, model: str, text: str = DEFAULT, **more: Any) -> StreamRecord:
        stream = self._client.chat.completions.create(model=model, messages=messages(text), stream=True, **more)
        return StreamRecord().read(stream)

    def models(self) -> list[str]:
        return [model.id for model in self._client.models.list()]

    def close(self) -> None:
        self._client.close()


class AsyncAsker:
    """Asks through `openai.AsyncOpenAI`, on an event loop of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.Runner()
        self._client = openai.AsyncOpenAI(**_options(url, options))

    def whole(self, model: str, text: str = DEFAULT, **more: Any) -> ChatCompletion:
        return self._loop.run(self._client.chat.completions.create(model=model, messages=messages(text), **more))

    def stream(self, model: str, text: str = DEFAULT, **more: Any) -> StreamRecord:
        async def ask() -> StreamRecord:
            create = self._client.chat.completions.create
            return await StreamRecord().aread(await create(model=model, messages=messages(text), stream=True, **more))

        return self._loop.run(ask())

    def models(self) -> list[str]:
        async def ask() -> list[str]:
            return [model.id async for model in self._client.models.list()]

        return self._loop.run(ask())

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.close()


Asker = SyncAsker | AsyncAsker


def _options(url: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"base_url": f"{url}/v1", "api_key": "local", "max_retries": 0, "timeout": 20, **options}
