"""Runs of no chat, which dialects open alike: named, admitted, begun, and told as a stream or in one piece.

Their streams do not resume by a cursor of ours, and their clients take a cut for an end: a drain lets them read on.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from events.log.hub import Hub, TopicReader
from events.log.port import Append
from events.log.ring import Encode
from events.log.source import Source
from gateway.access.grants import Principal
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.chat.topics import new_run_id
from gateway.chat.whole_answer import Told, WholeAnswer
from gateway.core.leases import Lease
from gateway.core.limits import wants_of_run
from gateway.core.process import Core
from gateway.core.usage import BYTES_PER_TOKEN, now_ms
from gateway.errors import TrilaneError
from gateway.serving.open_streams import LaneStreams, TokenEnd
from gateway.serving.sse import EventStream


class LoneRuns:
    """The runs of no chat that one process opens."""

    def __init__(self, core: Core, streams: LaneStreams, runs: Runs) -> None:
        self._settings = core.settings
        self._limiter = core.limiter
        self._callers = core.callers
        self._hub: Hub = core.hub
        self._streams = streams
        self._runs = runs

    @staticmethod
    def info(who: Principal, model: str, prompt_bytes: int) -> RunInfo:
        """Returns what a new run is known by."""
        run_id = new_run_id()
        return RunInfo(
            run_id=run_id,
            sub=who.sub,
            message_id=f"msg-{run_id}",
            model=model,
            prompt_bytes=prompt_bytes,
            started_ms=now_ms(),
            key=who.key_id,
        )

    @asynccontextmanager
    async def admitted(
        self, who: Principal, info: RunInfo, asked: Mapping[str, object], *, has_stream: bool, stored_bytes: int = 0
    ) -> AsyncGenerator[Lease]:
        """Asks the limits for a run that is begun in the block, and gives all back when that raises.

        `asked` bounds the answer; `stored_bytes` are kept beside the run. Raises Overloaded, RateLimited.
        """
        await self._limiter.keep(who, topics=0, stored_bytes=stored_bytes)
        wants = wants_of_run(info.prompt_bytes // BYTES_PER_TOKEN, asked, has_stream=has_stream)
        lease = await self._limiter.admit(who, wants)
        try:
            self._streams.admit()
            yield lease
        except BaseException:
            lease.cancel()
            raise

    async def begin(self, run: Run, encode: Encode, *opening: Append) -> TopicReader:
        """Begins a run, with what becomes durable with it, and returns a reader of it from its start."""
        reader = self._hub.open_new(run.topic, encode)
        try:
            await self._runs.begin(run, *opening)
        except BaseException:
            reader.close()
            raise
        return reader

    def stream(
        self,
        who: Principal,
        source: Source,
        run: Run | None,
        lease: Lease,
        *,
        apology: Callable[[TrilaneError], bytes],
        verdict: "asyncio.Future[None] | None" = None,
        end: bytes = b"",
    ) -> EventStream:
        """Returns the stream of a run, which is None where another process writes it.

        `verdict` holds back the first answer to a request, which may be a refusal; `apology` and `end` are what an
        EventStream takes.
        """
        return EventStream(
            source,
            ping_s=self._settings.ping_s,
            open_streams=self._streams,
            headers=lease.headers,
            verdict=verdict,
            resumable=False,
            prime_s=self._settings.prime_s,
            end=end,
            apology=apology,
            leaves_cleanly=True,
            on_close=lease.end_of_stream(self._runs.attached(run) if run is not None else _nothing),
            token_end=TokenEnd(who.remaining_s()),
            key_id=who.key_id,
        )

    def whole(self, who: Principal, run: Run, lease: Lease, told: Told) -> WholeAnswer:
        """Returns the answer with a run that has begun, in one piece."""
        return WholeAnswer(self._runs, run, who, self._callers, told, lease.headers)


def _nothing() -> None:
    """Does nothing: this process does not write the run."""
