"""Records a session's states with the finals and gaps until there, and confirms to its connection what the log has.

A final is queued for the connection when it is put out, so that it has its place among the messages, and goes out once
the append that holds it is durable. Appends are in flight side by side; the log keeps their order.
"""

import asyncio
from collections.abc import Callable

from audio.attachment import Attachment, QueuedMessage
from audio.messages import Final, FromServer, Gap, with_cursor
from audio.session_log import SessionLog
from audio.session_state import SessionState
from events.log.port import Appended


class Recording:
    """The appends of one session that this process has."""

    def __init__(
        self,
        session_log: SessionLog,
        clock: Callable[[], float],
        *,
        on_failure: Callable[[BaseException | None], None],
        on_end: Callable[[], None],
    ) -> None:
        """`on_failure` is called when an append fails, `on_end` when the session's last one is durable."""
        self.recorded_at = clock()
        """The time at which a state was last appended."""
        self._session_log = session_log
        self._clock = clock
        self._on_failure = on_failure
        self._on_end = on_end
        self._unrecorded: list[tuple[QueuedMessage | None, Final | Gap]] = []
        self._newest_append: asyncio.Future[list[Appended]] | None = None

    def hold(self, queued: QueuedMessage | None, message: Final | Gap) -> None:
        """Takes a final or a gap, which is recorded with the next state; `queued`: as it waits for the connection."""
        self._unrecorded.append((queued, message))

    def append(
        self,
        state: SessionState,
        attachment: Attachment | None,
        *receipts: FromServer,
        close: bool = False,
    ) -> None:
        """Records a state with all that is unrecorded, and sends `receipts` when that is durable."""
        self.recorded_at = self._clock()
        unrecorded, self._unrecorded = self._unrecorded, []
        queued_receipts = [attachment.put(receipt, is_ready=False) for receipt in receipts] if attachment else []
        messages = [message for _, message in unrecorded]
        append = self._session_log.append(
            state, [(message, queued.seq if queued else 0) for queued, message in unrecorded], close=close
        )

        def confirm(append: asyncio.Future[list[Appended]]) -> None:
            failure = None if append.cancelled() else append.exception()
            if append.cancelled() or failure is not None:
                self._on_failure(failure)
                return
            if close:
                self._on_end()
            if attachment is None:
                return
            cursors = self._session_log.cursors(messages, append.result())
            for (queued, message), cursor in zip(unrecorded, cursors, strict=True):
                if queued is not None:
                    attachment.confirm(queued, with_cursor(message, cursor))
            for queued, receipt in zip(queued_receipts, receipts, strict=True):
                attachment.confirm(queued, receipt)

        self._newest_append = append
        append.add_done_callback(confirm)

    def close(self) -> None:
        """Lets go of the session, which holds this."""
        self._on_failure, self._on_end = _ignored, _nobody

    async def wait(self) -> None:
        """Waits until the log has taken or refused all that was appended so far."""
        if self._newest_append is not None:
            await asyncio.wait((self._newest_append,))


def _ignored(failure: BaseException | None) -> None:
    """Does nothing: the session is over."""


def _nobody() -> None:
    """Does nothing: nobody is told."""
