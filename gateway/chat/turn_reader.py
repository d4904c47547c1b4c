"""Reads the answer to a message that waits: nothing until its run begins, then that run.

It watches the chat's topic, so the run may begin in any process. Whoever is cut meanwhile sends the same request again.
"""

from collections.abc import Callable

from events.log.hub import Hub, TopicReader
from events.log.port import Block, Position
from events.log.source import NEVER, LentConnection, Source
from gateway.chat.history import History
from gateway.chat.records.chat_record import RunStarted, Unqueued, decode_event
from gateway.chat.run_start import EncoderOf
from gateway.chat.topics import run_topic

NAMES = (RunStarted.event, Unqueued.event)


class TurnReader(Source):
    """A Source for one request whose message waits in a chat."""

    def __init__(
        self,
        hub: Hub,
        topic: str,
        history: History,
        key: str,
        message_id: str,
        encoder_of: EncoderOf,
        attached: Callable[[str], Callable[[], None]],
    ) -> None:
        """Waits in the chat with this `topic`, read as `history`, for the run that is started by a request's `key`.

        The wait ends, too, when the message is removed. `attached` counts a reader of a run in, by the run's id, and
        returns what counts it out.
        """
        self.on_wake: Callable[[], object] = _nobody
        self._hub = hub
        self._key = key
        self._message_id = message_id
        self._encoder_of = encoder_of
        self._attached = attached
        self._detach: Callable[[], None] = _nobody
        self._run_id = ""
        self._is_removed = False
        self._reader: TopicReader | None = None
        after = Position(epoch=history.epoch, offset=history.head)
        self._unwatch = hub.watch(topic, after, self._see)
        hub.refresh(topic)  # it may have begun since the chat was read

    def _see(self, block: Block) -> None:
        for data in block.data if block.name in NAMES else ():
            event = decode_event(block.name, data)
            if isinstance(event, RunStarted) and event.key == self._key and not self._run_id:
                self._run_id = event.run_id
            elif isinstance(event, Unqueued) and event.id == self._message_id:
                self._is_removed = True
        if self._run_id or self._is_removed:
            self.on_wake()

    @property
    def ended(self) -> bool:
        return self._reader.ended if self._reader is not None else self._is_removed and not self._run_id

    @property
    def complete(self) -> bool:
        return self._reader.complete if self._reader is not None else self.ended

    def poll(self) -> bytes | None:
        if self._reader is not None:
            return self._reader.poll()
        return None if self._run_id else b""

    async def catch_up(self) -> None:
        if self._reader is not None:
            await self._reader.catch_up()
            return
        self._reader = await self._hub.open(run_topic(self._run_id), self._encoder_of(self._run_id), None)
        self._reader.on_wake = self._wake
        self._detach = self._attached(self._run_id)
        self._end_watch()

    def _wake(self) -> None:
        self.on_wake()

    def follow(self, connection: LentConnection | None) -> None:
        if self._reader is not None:
            self._reader.follow(connection)

    @property
    def written_s(self) -> float:
        return self._reader.written_s if self._reader is not None else 0.0

    def due_at(self, now: float) -> float:
        return self._reader.due_at(now) if self._reader is not None else NEVER

    def close(self) -> None:
        self.on_wake = _nobody
        self._end_watch()
        if self._reader is not None:
            self._reader.close()
        self._detach()
        self._detach = _nobody

    def _end_watch(self) -> None:
        self._unwatch()
        self._unwatch = _nobody


def _nobody() -> None:
    """Does nothing: nobody waits, or watches."""
