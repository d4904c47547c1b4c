"""FastAPI's users write this: sse-starlette around the SDK's stream objects, with nothing kept.

    python -m loadtests.bench.chat.peer_fastapi PORT

As sse-starlette's documentation has it: a generator of events, a ping every 15 s, and the upstream left when the reader
leaves. There is no resume, no stop and no usage: what a reader did not get is gone.
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from openai import AsyncOpenAI
from sse_starlette import EventSourceResponse

app = FastAPI()
client = AsyncOpenAI()


@app.post("/v1/chat/completions")
async def completions(data: dict[str, Any]) -> EventSourceResponse:
    chunks = await client.chat.completions.create(**{**data, "stream": True})

    async def events() -> AsyncIterator[dict[str, str]]:
        async for chunk in chunks:
            yield {"data": chunk.model_dump_json(exclude_unset=True)}
        yield {"data": "[DONE]"}

    return EventSourceResponse(events())


@app.get("/readyz")
async def readyz() -> None:
    """Answers that it can serve."""


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
