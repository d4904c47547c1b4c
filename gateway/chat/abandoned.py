"""Ends a run in place of the process that owns it: because that one died, is too slow to stop, or must not go on.

The end is fenced by the run's head. Of several that end a run one wins, and its owner can append nothing more. Its
usage is what the log tells: a token for each delta in it, the prompt only once an answer had begun, and who answered.
"""

import contextlib

import msgspec
import structlog

from events.log.port import Append, EventLog, read_past_damage
from gateway.chat.ending import RunEnding, RunOutcome
from gateway.chat.history import read_history
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import RECORD, RUN
from gateway.chat.records.recorder import Recorder, replayed
from gateway.chat.topics import run_topic
from gateway.core.usage import now_ms, usage_of
from gateway.errors import LogConflict

log = structlog.get_logger("runs")


class StartedCall(msgspec.Struct, frozen=True, rename="camel"):
    """The hidden event that a call of a tool was about to leave."""

    tool_call_id: str
    attempt: int = 1
    effect: Effect = "once"


class RunSoFar(msgspec.Struct):
    """A run as its topic tells it."""

    head: int = 0
    info: RunInfo | None = None
    records: list[bytes] = []
    request: ParkedRequest | None = None
    """What another process can go on with; None when none can."""
    started_calls: dict[str, StartedCall] = {}
    """The last try of each call that may have left, by the call's id."""
    is_closed: bool = False
    lost: list[int] = []
    """Offsets at which events begin that cannot be read."""


async def read_run(event_log: EventLog, run_id: str) -> RunSoFar:
    """Returns a run up to its head, and its records up to the first that cannot be read."""
    run = RunSoFar()
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
    has_begun = recorder.model is not None or recorder.emitted > 0
    ending = RunEnding(
        info,
        outcome,
        recorder,
        usage_of(None, info.prompt_bytes if has_begun else 0, recorder.emitted),
        model=recorder.model or "",
        upstream=_upstream(recorder),
        ended_ms=now_ms(),
    )
    try:
        await event_log.append(*ending.appends(head + 1))
    except LogConflict:
        return False
    log.info("ended a run of another process", run=run_id)
    return True


def _upstream(recorder: Recorder) -> str:
    """Returns the upstream that answered, which the log knows by what it said of its answer; empty when nothing."""
    said = recorder.facts.get("providerMetadata")
    return next(iter(msgspec.json.decode(said, type=dict[str, Raw])), "") if isinstance(said, Raw) else ""


async def _base(event_log: EventLog, info: RunInfo) -> list[Raw]:
    """Returns the parts that the answer had before this run continued it."""
    if not info.chat_id:
        return []
    history = await read_history(event_log, info.sub, info.chat_id)
    answer = history.answer(info.message_id)
    return answer.parts if answer else []
