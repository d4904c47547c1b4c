"""The wire of an agent whose process the gateway itself looks after: lines of JSON on stdin and stdout.

What the agent prints goes to stderr, and it has no stdin, so that it cannot disturb the lines.
"""

import asyncio
import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trilane_agent.worker import Command, Fenced, Job


class Pipes:
    """A Wire; make it within the event loop, before anything is printed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._in = os.fdopen(os.dup(0), "rb", 1 << 20)
        self._out = os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, "writer")
        self._jobs: asyncio.Queue[Job] = asyncio.Queue()
        self._commands: dict[str, asyncio.Queue[list[Command] | None]] = {}
        self.closed = asyncio.Event()
        """Set when the gateway has gone."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()

    async def claim(self) -> Job | None:
        await self._write(b'{"type":"claim"}')
        return await self._jobs.get()

    async def post(self, job: Job, expect: int, chunks: Sequence[str]) -> None:
        if str(job["runId"]) not in self._commands:
            raise Fenced
        await self._write(_post(job, expect, chunks))

    async def commands(self, job: Job, after: int) -> Sequence[Command]:
        queue = self._commands.get(str(job["runId"]))
        told = await queue.get() if queue is not None else None
        if told is None:
            raise Fenced
        return told

    def beat(self, job: Job) -> None:
        self._write_now(_post(job, 1, []))

    async def _write(self, line: bytes) -> None:
        await self._loop.run_in_executor(self._writer, self._write_now, line)

    def _write_now(self, data: bytes) -> None:
        rest = memoryview(data + b"\n")
        with self._lock:
            while rest:
                rest = rest[os.write(self._out, rest) :]

    def _read(self) -> None:
        for line in self._in:
            self._loop.call_soon_threadsafe(self._take, json.loads(line))
        self._loop.call_soon_threadsafe(self.closed.set)

    def _take(self, line: Mapping[str, Any]) -> None:
        kind, run_id = line["type"], str(line["runId"])
        if kind == "job":
            self._commands[run_id] = asyncio.Queue()
            self._jobs.put_nowait(line)
        elif run_id in self._commands:
            if kind == "commands":
                self._commands[run_id].put_nowait(list(line["commands"]))
            elif kind == "fenced":
                self._commands.pop(run_id).put_nowait(None)


def _post(job: Job, expect: int, chunks: Sequence[str]) -> bytes:
    head = json.dumps({"type": "post", "runId": job["runId"], "lease": job["lease"], "expect": expect})
    return f'{head[:-1]},"chunks":[{",".join(chunks)}]}}'.encode()
