"""One run on a stage of its own: a log in memory that may be slow, and an upstream that does what a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append, Appended
from gateway.chat.ending import RunLimit
from gateway.chat.history import History
from gateway.chat.producers.completion import CompletionProducer
from gateway.chat.producers.producer import Producer
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.recorder import Recorder
from gateway.chat.run import Run
from gateway.chat.topics import chat_topic
from gateway.chat.upstreams.failover import Upstreams
from gateway.errors import UpstreamRefused
from gateway.settings import Settings
from tests.support.readers import settle
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream

ENOUGH_S = 60.0


class SlowLog(MemoryLog):
    """A log that acknowledges, or fails, when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_slow = False
        self.waiting: list[tuple[asyncio.Future[list[Appended]], list[Appended]]] = []
        self.append_failure: Exception | None = None

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        if self.append_failure is None and not self.is_slow:
            return super().append(*appends, patient=patient)
        answer: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        if self.append_failure is not None:
            answer.set_exception(self.append_failure)
        else:
            asyncio.ensure_future(super().append(*appends)).add_done_callback(
                lambda done: self.waiting.append((answer, done.result()))
            )
        return answer

    async def acknowledge(self, count: int) -> None:
        for answer, done in self.waiting[:count]:
            answer.set_result(done)
        del self.waiting[:count]
        await settle()


class Stage:
    """One run of user `me` in chat `c`, with its log and its upstream."""

    def __init__(
        self,
        *pieces: bytes,
        refusal: UpstreamRefused | None = None,
        producers: Iterable[Producer] | None = None,
        **settings: float,
    ) -> None:
        self.chat = chat_topic("me", "c")
        self.log = SlowLog()
        self.hub = Hub(self.log)
        self.body = ScriptedBody(*pieces)
        self.upstream = ScriptedUpstream(refusal or self.body)
        info = RunInfo(run_id="r", sub="me", message_id="a", chat_id="c", prompt_bytes=40)
        limits = Settings(**settings)  # type: ignore[arg-type]
        completion = CompletionProducer(
            Upstreams([self.upstream], first_token_s=60.0),
            {"messages": []},
            "",
            prompt_bytes=info.prompt_bytes,
            between_tokens_s=limits.between_tokens_s,
        )
        steps = producers if producers is not None else [completion]
        self.run = Run(info, steps, Recorder(), self.log, limit=RunLimit(limits.run_s))
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.log.open()
        await super(SlowLog, self.log).append(Append(topic=self.chat, owner="me", data=[]))
        self.run.watch(self.hub, History(chat_id="c"))
        self.task = self.run.start(self.log.append(*self.run.opening()))
        await settle()

    async def over(self, *, within_s: float = ENOUGH_S) -> Any:
        """Waits for its end; what the chat was told of it."""
        async with asyncio.timeout(within_s):
            assert self.task is not None
            await self.task
        return self.run.finished.result()

    async def events(self, topic: str = "run/r") -> list[tuple[str, Any]]:
        part = await self.log.read(topic, 0)
        return [(block.name, json.loads(data)) for block in part.blocks for data in block.data]

    async def text(self) -> str:
        return "".join(data.get("delta", "") for name, data in await self.events() if name == "chunk")

    async def heartbeats(self) -> int:
        return [name for name, _ in await self.events()].count("heartbeat")


@asynccontextmanager
async def running(*pieces: bytes, **settings: float) -> AsyncIterator[Stage]:
    """Yields a run that has begun; it must be over at the end of the block."""
    stage = Stage(*pieces, **settings)
    await stage.start()
    yield stage
    assert stage.task is not None
    assert stage.task.done()
    assert not len(stage.hub), "it follows its chat though it is over"
    assert stage.body.is_over
    assert stage.upstream.released == 1
