"""Prepares the answer to the message that waits first in a chat: what it is asked with, and the run that gives it.

Limits may refuse it, as they may refuse any run; then the queue waits until somebody goes on with it.
"""

from collections.abc import Iterable, Sequence

import structlog

from events.log.port import EventLog
from gateway.access.grants import Principal
from gateway.chat.change import Posting, reconcile_in_slices, request_key, turns_in_slices
from gateway.chat.closing import Successor
from gateway.chat.ending import RunEnding
from gateway.chat.history import History, read_history
from gateway.chat.inbox import Inbox
from gateway.chat.records.chat_record import ParkedRequest, Queued, RunInfo, RunStarted
from gateway.chat.records.messages import UIMessage, bytes_of_parts
from gateway.chat.run_start import RunPlan, RunStarter
from gateway.chat.runs import Runs
from gateway.chat.topics import new_run_id
from gateway.core.usage import now_ms
from gateway.errors import LogError, TrilaneError

log = structlog.get_logger("runs")


class NextTurns:
    """Follows the ends of runs of one process."""

    def __init__(self, event_log: EventLog, runs: Runs, starter: RunStarter) -> None:
        self._log = event_log
        self._runs = runs
        self._starter = starter

    async def after(self, ending: RunEnding, inbox: Inbox) -> Successor | None:
        """Returns the run that follows an end; None when nothing waits, or it cannot be begun. Raises LogError."""
        info = ending.info
        history = await read_history(self._log, info.sub, info.chat_id, topic=info.topic)
        inbox.adopt(history)
        queued = next(iter(history.queue.waiting.values()), None)
        if queued is None or not history.epoch:
            return None
        history.finish(ending.finished)
        self._runs.leave_limits(info.run_id)
        try:
            asked = ending.parking.request if ending.parking is not None else ParkedRequest(model=info.model)
            sub = queued.actor.sub or info.sub
            plan = await plan_of_queued(sub, history, queued, asked)
            return await self._starter.prepare(Principal(sub=sub, key_id=queued.key_id), history, plan)
        except LogError:
            raise
        except TrilaneError as err:
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
    )
    started = RunStarted(
        run_id=run_id, message_id=message_id, key=queued.key or request_key(posting), extra=queued.extra
    )
    turns = await turns_in_slices(change.conversation)
    return RunPlan(info=info, change=change, request=asked.asking(turns), started=started, has_stream=False)


def _shown(conversation: Sequence[UIMessage], shown: Iterable[str]) -> list[UIMessage]:
    """Returns a conversation without the messages that were left out when it was last shown as `shown`."""
    ids = set(shown)
    seen = max((place for place, message in enumerate(conversation, 1) if message.id in ids), default=0)
    return [message for place, message in enumerate(conversation) if place >= seen or message.id in ids]
