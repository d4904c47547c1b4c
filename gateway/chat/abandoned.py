"""Ends a run in place of the process that owns it: because that one died, is too slow to stop, or must not go on.

The end is fenced by the run's head. Of several that end a run one wins, and its owner can append nothing more.
"""

import contextlib

import msgspec
import structlog
from msgspec import Raw

from events.log.port import Append, EventLog, read_past_damage
from gateway.chat.ending import RunEnding, RunOutcome
from gateway.chat.history import read_history
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import RECORD, RUN
from gateway.chat.records.recorder import replayed
from gateway.chat.topics import run_topic
from gateway.core.usage import now_ms, usage_of
from gateway.errors import LogConflict

log = structlog.get_logger("runs")


async def end_run(event_log: EventLog, run_id: str, outcome: RunOutcome) -> bool:
    """Ends a run that another process owns; returns False when that one, or a third, was first."""
    head, info, records, is_closed = 0, None, list[bytes](), False
    lost_offsets: list[int] = []
    topic = run_topic(run_id)
    async for part in read_past_damage(event_log, topic, lambda first, last: lost_offsets.append(first)):
        is_closed, head = part.closed, part.head
        for block in part.blocks:
            if block.name == RUN:
                info = msgspec.json.decode(block.data[0], type=RunInfo)
            elif block.name == RECORD and not lost_offsets:
                records += block.data
    if info is None and lost_offsets and not is_closed:
        # Nobody can know whose it was: it is over, and no more is said.
        with contextlib.suppress(LogConflict):  # another process was first
            await event_log.append(Append(topic=topic, data=[], close=True, expect=head + 1))
            log.error("ended a run whose beginning is damaged", run=run_id)
    if info is None or is_closed:
        return False
    recorder = replayed(records, await _base(event_log, info))
    usage = usage_of(None, info.prompt_bytes, recorder.emitted)
    try:
        await event_log.append(*RunEnding(info, outcome, recorder, usage, ended_ms=now_ms()).appends(head + 1))
    except LogConflict:
        return False
    log.info("ended a run of another process", run=run_id)
    return True


async def _base(event_log: EventLog, info: RunInfo) -> list[Raw]:
    """Returns the parts that the answer had before this run continued it."""
    if not info.chat_id:
        return []
    history = await read_history(event_log, info.sub, info.chat_id)
    answer = history.answer(info.message_id)
    return answer.parts if answer else []
