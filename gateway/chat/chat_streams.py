"""Opens the streams of chats: each dialect tells the run, and every stream is counted, limited and ended alike."""

from collections.abc import Callable, Sequence
from typing import Any

from events.log.source import Source
from gateway.access.grants import Principal
from gateway.chat.run_start import AttachedReader
from gateway.chat.runs import Runs
from gateway.chat.sending import WaitingReader
from gateway.core.leases import NO_LEASE
from gateway.core.limits import STREAM
from gateway.core.process import Core
from gateway.serving.open_streams import Audience, LaneStreams, TokenEnd
from gateway.serving.sse import EventStream


class ChatStreams:
    """The streams of chats that one process opens."""

    def __init__(self, core: Core, streams: LaneStreams, runs: Runs) -> None:
        self._settings = core.settings
        self._limiter = core.limiter
        self._streams = streams
        self._runs = runs

    async def open(
        self,
        who: Principal,
        attached: AttachedReader | WaitingReader,
        source: Source,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        notice: Callable[[int], bytes] = lambda seconds: b"",
        **dialect: Any,
    ) -> EventStream:
        """Returns the stream of a run, as `source`, which reads by the reader, tells it; its client counts as attached.

        `notice` and `dialect` are what a `TokenEnd` and an `EventStream` take. Raises Overloaded, RateLimited.
        """
        run, lease = attached.run, attached.lease or NO_LEASE
        try:
            self._streams.admit()
            if attached.lease is None:
                lease = await self._limiter.admit(who, STREAM)
        except BaseException:
            attached.reader.close()
            lease.leave_stream()
            raise
        detach = self._runs.attached(run) if run else lambda: None
        return EventStream(
            source,
            ping_s=self._settings.ping_s,
            open_streams=self._streams,
            headers=[*headers, *lease.headers] if lease.headers else headers,
            prime_s=self._settings.prime_s,
            on_close=lease.end_of_stream(detach),
            token_end=TokenEnd(who.remaining_s(), notice),
            key_id=who.key_id,
            audience=Audience(who.sub, (attached.chat,)) if self._settings.requires_sign_in else None,
            **dialect,
        )
