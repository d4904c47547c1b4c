"""People write this first: a Litestar route that relays the SDK's stream objects, with nothing kept.

python -m loadtests.bench.chat.peer_litestar PORT
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from litestar import Litestar, get, post
from litestar.response import Stream
from openai import AsyncOpenAI

client = AsyncOpenAI()


@post("/v1/chat/completions", status_code=200)
async def completions(data: dict[str, Any]) -> Stream:
    chunks = await client.chat.completions.create(**{**data, "stream": True})

    async def frames() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield b"data: %b\n\n" % chunk.model_dump_json(exclude_unset=True).encode()
        yield b"data: [DONE]\n\n"

    return Stream(frames(), media_type="text/event-stream")


@get("/readyz")
async def readyz() -> None:
    """Answers that it can serve."""


app = Litestar([completions, readyz])

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
