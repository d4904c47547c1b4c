"""Prepares the answer to the message that waits first in a chat: what it is asked with, and the run that gives it.

A process that leaves opens that run for another one to write. Limits may refuse it, as they may refuse any run; then
the queue waits until somebody goes on with it.
"""

from collections.abc import Callable, Iterable, Sequence

import structlog

from events.log.port import EventLog
from gateway.access.grants import Principal
from gateway.chat.change import Posting, reconcile_in_slices, request_key, turns_in_slices
from gateway.chat.closing import Successor
from gateway.chat.ending import RunEnding
from gateway.chat.history import History, read_history
from gateway.chat.inbox import Inbox
from gateway.chat.notices import queue_notices
from gateway.chat.queue import ChatQueue
from gateway.chat.records.chat_record import Actor, ParkedRequest, Queued, RunInfo, RunStarted, Unqueued
from gateway.chat.records.messages import UIMessage, bytes_of_parts
from gateway.chat.run_start import Remainder, RunPlan, RunStarter, chat_appends
from gateway.chat.runs import DRAINING, Runs
from gateway.chat.topics import new_run_id
from gateway.core.usage import now_ms
from gateway.errors import LogError, TrilaneError

log = structlog.get_logger("runs")


class NextTurns:
    """Says what follows the ends of runs, and follows those of one process."""

    def __init__(self, event_log: EventLog, runs: Runs, starter: RunStarter, is_revoked: Callable[[str], bool]) -> None:
        """`is_revoked` says whether an API key was revoked, by its id."""
        self._log = event_log
        self._is_revoked = is_revoked
        self._runs = runs
        self.starter = starter

    def first_of(self, queue: ChatQueue) -> tuple[Queued | None, list[Unqueued]]:
        """Returns what is answered next, and the removal of all before it that was sent with a key that is revoked."""
        refused: list[Unqueued] = []
        for queued in queue.waiting.values():
            if not queued.key_id or not self._is_revoked(queued.key_id):
                return queued, refused
            refused.append(Unqueued(id=queued.id, actor=Actor(via="revoked")))
        return None, refused

    async def after(self, ending: RunEnding, inbox: Inbox) -> Successor | None:
        """Returns the run that follows an end; None when nothing waits, or it cannot be begun. Raises LogError."""
        info = ending.info
        history = await read_history(self._log, info.sub, info.chat_id, topic=info.topic)
        inbox.adopt(history)
        queued, refused = self.first_of(history.queue)
        if not history.epoch or not (queued or refused):
            return None
        history.finish(ending.finished)
        if queued is None:
            told = queue_notices(history, info.sub, refused)
            return Remainder([*chat_appends(Principal(sub=info.sub), history, refused), *told])
        self._runs.leave_limits(info.run_id)
        try:
            asked = ending.parking.request if ending.parking is not None else ParkedRequest(model=info.model)
            sub = queued.actor.sub or info.sub
            plan = await plan_of_queued(sub, history, queued, asked)
            plan.change.events = [*refused, *plan.change.events]
            give = self.starter.leave if self._runs.draining else self.starter.prepare
            return await give(Principal(sub=sub, key_id=queued.key_id), history, plan)
        except LogError:
            raise
        except TrilaneError as err:
            if err.code == DRAINING:  # since it was looked at
                return await self.after(ending, inbox)
            log.warning("what is queued cannot be answered now", run=info.run_id, code=err.code, reason=err.detail)
            return None


async def plan_of_queued(sub: str, history: History, queued: Queued, default: ParkedRequest) -> RunPlan:
    """Returns the run that answers a message that waits.

    `default` is what the answer before it was asked with. Raises BadRequest.
    """
    asked = queued.request or default
    posting = Posting(messages=[queued.message], is_excerpt=True)
    change = await reconcile_in_slices(history, posting)
    change.conversation = _shown(change.conversation, asked.shown)
    run_id = new_run_id()
    message_id = f"msg-{run_id}"
    info = RunInfo(
        run_id=run_id,
        sub=sub,
        message_id=message_id,
        chat_id=history.chat_id,
        model=asked.model,
        prompt_bytes=bytes_of_parts(change.conversation) + len(asked.system.encode()),
        started_ms=now_ms(),
        key=queued.key_id,
        background=queued.background,
    )
    started = RunStarted(
        run_id=run_id,
        message_id=message_id,
        key=queued.key or request_key(posting),
        background=queued.background,
        extra=queued.extra,
    )
    turns = await turns_in_slices(change.conversation)
    return RunPlan(
        info=info,
        change=change,
        request=asked.asking(turns),
        started=started,
        on_disconnect="continue" if queued.background else queued.on_disconnect,
        has_stream=False,
    )


def _shown(conversation: Sequence[UIMessage], shown: Iterable[str]) -> list[UIMessage]:
    """Returns a conversation without the messages that were left out when it was last shown as `shown`."""
    ids = set(shown)
    seen = max((place for place, message in enumerate(conversation, 1) if message.id in ids), default=0)
    return [message for place, message in enumerate(conversation) if place >= seen or message.id in ids]
