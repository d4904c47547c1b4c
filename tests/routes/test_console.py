"""The console page is what ships in the package, and says whether the small model answers."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.chat.upstreams.failover import open_upstreams
from gateway.settings import load
from routes.console import index


@pytest.mark.parametrize(
    ("env", "is_small"), [({}, True), ({"OPENAI_API_KEY": "sk"}, False), ({"OPENAI_BASE_URL": "http://x/v1"}, False)]
)
def test_the_page_says_so_when_the_small_model_answers(env: dict[str, str], is_small: bool) -> None:
    async def content() -> bytes:
        upstreams = open_upstreams(load(env))
        lane: Any = SimpleNamespace(upstreams=upstreams)
        try:
            return (await index.fn(lane)).content
        finally:
            await upstreams.aclose()

    assert (b'<body data-model="embedded">' in asyncio.run(content())) == is_small
