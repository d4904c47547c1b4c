"""Ends a run in place of the process that owns it: because that one died, is too slow to stop, or must not go on.

The end is fenced by the run's head. Of several that end a run one wins, and its owner can append nothing more. Its
usage is what the log tells: a token for each delta in it, the prompt for each time that a model began to answer it, and
who did so last.
"""

import contextlib
from collections.abc import Iterable

import msgspec
import structlog

from events.log.port import Append, EventLog, read_past_damage
from gateway.chat.ending import RunEnding, RunOutcome
from gateway.chat.history import read_history
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import RECORD, RUN, Metadata, decode_record
from gateway.chat.records.recorder import replayed
from gateway.chat.topics import run_topic
from gateway.core.usage import now_ms, total_of, usage_of
from gateway.errors import LogConflict

log = structlog.get_logger("runs")


class Speaker(msgspec.Struct, rename="camel"):
    """Who begins to answer, as the log has it."""

    model: str = ""
    provider_metadata: dict[str, Raw] = {}
    """What the upstream says of its answer, by its name; empty when it says nothing."""


async def end_run(event_log: EventLog, run_id: str, outcome: RunOutcome) -> bool:
    """Ends a run that another process owns; returns False when that one, or a third, was first."""
    head, info, records, is_closed = 0, None, list[bytes](), False
    lost_offsets: list[int] = []
    topic = run_topic(run_id)
    async for part in read_past_damage(event_log, topic, lambda first, last: run.lost.append(first)):
        run.is_closed, run.head = part.closed, part.head
        for block in part.blocks:
            if block.name == RUN:
                run.info = msgspec.json.decode(block.data[0], type=RunInfo)
            elif block.name == RECORD and not run.lost:
                run.records += block.data
            elif block.name == REQUEST:
                run.request = msgspec.json.decode(block.data[0], type=ParkedRequest)
            elif block.name == EFFECT_STARTED:
                for data in block.data:
                    call = msgspec.json.decode(data, type=StartedCall)
                    run.started_calls[call.tool_call_id] = call
    return run


async def end_run(event_log: EventLog, run_id: str, outcome: RunOutcome) -> bool:
    """Ends a run that another process owns; returns False when that one, or a third, was first."""
    run = await read_run(event_log, run_id)
    info = run.info
    if info is None and run.lost and not run.is_closed:
        # Nobody can know whose it was: it is over, and no more is said.
        with contextlib.suppress(LogConflict):  # another process was first
            await event_log.append(Append(topic=run_topic(run_id), data=[], close=True, expect=run.head + 1))
            log.error("ended a run whose beginning is damaged", run=run_id)
    if info is None or run.is_closed:
        return False
    recorder = replayed(records, await _base(event_log, info))
    speakers = _speakers(records)
    begun = max(len(speakers), 1 if recorder.emitted else 0)
    newest = speakers[-1] if speakers else Speaker()
    ending = RunEnding(
        info,
        outcome,
        recorder,
        total_of([*[usage_of(None, info.prompt_bytes, 0)] * begun, usage_of(None, 0, recorder.emitted)]),
        model=newest.model,
        upstream=next(iter(newest.provider_metadata), ""),
        ended_ms=now_ms(),
    )
    try:
        await event_log.append(*ending.appends(head + 1))
    except LogConflict:
        return False
    log.info("ended a run of another process", run=run_id)
    return True


def _speakers(records: Iterable[bytes]) -> list[Speaker]:
    """Returns who began to answer, one for each time that a model did."""
    metadata = [record for data in records if isinstance(record := decode_record(data), Metadata)]
    facts = [msgspec.json.decode(record.message_metadata, type=Speaker) for record in metadata]
    return [fact for fact in facts if fact.model]


async def _base(event_log: EventLog, info: RunInfo) -> list[Raw]:
    """Returns the parts that the answer had before this run continued it."""
    if not info.chat_id:
        return []
    history = await read_history(event_log, info.sub, info.chat_id)
    answer = history.answer(info.message_id)
    return answer.parts if answer else []
