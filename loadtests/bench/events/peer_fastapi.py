"""A broadcast is written as sse-starlette's example has it: a bounded queue per reader, one event object put into
all.

    python -m loadtests.bench.events.peer_fastapi PORT

Events have ids and topics, and readers a ping every 15 s. Nothing is kept: a reader that comes back has missed what
came meanwhile. One that falls behind by a whole queue is sent away, so that it knows.
"""

import asyncio
import itertools
import sys
from collections import defaultdict
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

MOST_UNREAD = 10_000
Queue = asyncio.Queue[ServerSentEvent | None]

app = FastAPI()
readers: defaultdict[str, set[Queue]] = defaultdict(set)
numbers = itertools.count(1)


@app.get("/events")
async def events(topic: str) -> EventSourceResponse:
    return EventSourceResponse(queue_events(topic))


async def queue_events(topic: str) -> AsyncIterator[ServerSentEvent]:
    queue = Queue(MOST_UNREAD)
    readers[topic].add(queue)
    try:
        while (event := await queue.get()) is not None:
            yield event
    finally:
        readers[topic].discard(queue)


@app.post("/publish")
async def publish(topic: str, request: Request) -> None:
    event = ServerSentEvent((await request.body()).decode(), id=str(next(numbers)))
    for queue in list(readers[topic]):
        try:
            queue.put_nowait(event)
        except asyncio.QueueFull:
            readers[topic].discard(queue)
            send_away(queue)


def send_away(queue: Queue) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)


@app.get("/readyz")
async def readyz() -> None:
    """Answers that it can serve."""


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
