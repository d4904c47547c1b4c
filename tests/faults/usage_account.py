"""The account of a log: its usage rows beside what its runs and sessions hold, what the model's server sent, and what
clients were told.

What a row must say is decided here, once:

1. Every reserved row is settled once, and what clients saw begin has one.
2. A finished answer has the figures of the model's server; where that gave none, and at any other end, an estimate: a
   token for each delta that is in the log, and a quarter of the prompt's bytes once an answer had begun. A run that
   another process ended is counted by the same rule, and names the model that answered as well.
3. A session has the audio up to the sample at which its log says that all is settled: all that was sent when it came to
   its `done`, and never less than what its client was acknowledged.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from audio.session_state import SessionState, audio_ms
from events.log.port import read_to_head
from events.log.sqlite.engine import SqliteLog
from events.log.topics import SESSION
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import RECORD, RUN
from gateway.chat.topics import RUNS
from gateway.core.engines import retention_policy
from gateway.core.usage import BYTES_PER_TOKEN, RESERVED, SETTLED, USAGE, UsageRow, decode_row
from gateway.settings import Settings
from loadtests.upstream import PROMPT_TOKENS, RequestRecord
from tests.faults.usage_load import MODEL, AskedRun, HeldSession

EVERY = 1_000_000
MAX_UNCOUNTED = 6
"""Deltas that the fake server sends and does not count: five of reasoning, and one whose sending was cut short."""
SUB = "local"
ENDS = {"finish": {"finish"}, "abort": {"abort"}, "error": {"error", "interrupted"}}
"""Outcomes in a row, by the last chunk of what its client was sent."""


@dataclass
class LoggedRun:
    """A run as its topic in the log has it."""

    info: RunInfo
    is_closed: bool
    records: list[dict[str, Any]]

    @property
    def tag(self) -> str:
        return self.info.chat_id or self.info.model.removeprefix(MODEL)

    @property
    def deltas(self) -> int:
        """Returns how many deltas a user could see."""
        return sum(r["type"].endswith("-delta") and bool(r.get("delta", r.get("inputTextDelta"))) for r in self.records)

    @property
    def speaker(self) -> dict[str, Any] | None:
        """Returns what the log says of the model that answers; None when none had begun to."""
        metadata = (r["messageMetadata"] for r in self.records if r["type"] == "message-metadata")
        first = next(metadata, {"usage": None})
        return None if "usage" in first else first


@dataclass
class LoggedSession:
    """A session, or a file, as its topic in the log has it."""

    state: SessionState
    is_closed: bool


@dataclass
class UsageAccount:
    """All that a log holds of usage."""

    reserved: Counter[str] = field(default_factory=Counter[str])
    settled: Counter[str] = field(default_factory=Counter[str])
    rows: dict[str, UsageRow] = field(default_factory=dict[str, UsageRow])
    runs: dict[str, LoggedRun] = field(default_factory=dict[str, LoggedRun])
    sessions: dict[str, LoggedSession] = field(default_factory=dict[str, LoggedSession])

    @property
    def open(self) -> Counter[str]:
        """Returns the ids that are reserved and not settled."""
        return self.reserved - self.settled

    def outcomes(self) -> Counter[str]:
        return Counter(f"{row.kind} {row.outcome}" for row in self.rows.values())


async def read_rows(path: Path) -> UsageAccount:
    """Returns an account of the usage rows alone."""
    log = SqliteLog(str(path), retention_policy(Settings()))
    await log.open()
    try:
        return await _rows(log)
    finally:
        await log.close()


async def read_account(path: Path) -> UsageAccount:
    log = SqliteLog(str(path), retention_policy(Settings()))
    await log.open()
    try:
        account = await _rows(log)
        for info in await log.topics(RUNS, limit=EVERY):
            named = [event async for event in _events(log, info.topic)]
            run = msgspec.json.decode(named[0][1], type=RunInfo)
            assert named[0][0] == RUN
            records = [msgspec.json.decode(data) for name, data in named if name == RECORD]
            account.runs[run.run_id] = LoggedRun(run, info.closed, records)
        for info in await log.topics(SESSION, limit=EVERY):
            *_, (_, last) = [event async for event in _events(log, info.topic)]
            state = msgspec.json.decode(last, type=SessionState)
            account.sessions[info.topic.removeprefix(SESSION)] = LoggedSession(state, info.closed)
        return account
    finally:
        await log.close()


async def _events(log: SqliteLog, topic: str) -> AsyncIterator[tuple[str, bytes]]:
    async for part in read_to_head(log, topic):
        for block in part.blocks:
            for data in block.data:
                yield block.name, data


async def _rows(log: SqliteLog) -> UsageAccount:
    account = UsageAccount()
    async for name, data in _events(log, USAGE + SUB):
        if name == RESERVED:
            account.reserved[msgspec.json.decode(data)["id"]] += 1
        elif name == SETTLED:
            row = decode_row(data, 0)
            account.settled[row.id] += 1
            account.rows[row.id] = row
    return account


# What is wrong


def faults(
    account: UsageAccount, runs: Iterable[AskedRun], sessions: Iterable[HeldSession], requests: Iterable[RequestRecord]
) -> list[str]:
    """Returns a sentence for each thing that is not as the rules above say."""
    asked = {run.tag: run for run in runs}
    sent = _by_tag(requests)
    found = _id_faults(account, asked, sessions)
    for run_id, run in account.runs.items():
        if run_id in account.rows:
            wrong = [*_run_faults(account.rows[run_id], run, sent.get(run.tag, ())), *_told(run, account, asked)]
            found += [f"run {run_id} ({asked[run.tag].case}): {fault}" for fault in wrong]
    held = {one.session: one for one in sessions if one.session}
    for name, session in account.sessions.items():
        if name in account.rows:
            wrong = _session_faults(account.rows[name], session, held.get(name))
            found += [f"session {name} ({held.get(name)}): {fault}" for fault in wrong]
    return found


def _by_tag(requests: Iterable[RequestRecord]) -> Mapping[str, list[RequestRecord]]:
    by_tag: dict[str, list[RequestRecord]] = {}
    for request in requests:
        if request.ask is not None:
            by_tag.setdefault(request.ask.text.split(" ")[0], []).append(request)
    return by_tag


def _id_faults(account: UsageAccount, asked: Mapping[str, AskedRun], sessions: Iterable[HeldSession]) -> list[str]:
    found = [f"{row_id} was reserved {count} times" for row_id, count in account.reserved.items() if count > 1]
    found += [f"{row_id} was settled {count} times" for row_id, count in account.settled.items() if count > 1]
    found += [f"{row_id} has no settled row" for row_id in account.open]
    found += [f"{row_id} was never reserved" for row_id in account.settled - account.reserved]
    work = account.runs.keys() | account.sessions.keys()
    found += [f"{row_id} is no run and no session" for row_id in account.rows.keys() - work]
    found += [f"{work_id} has no row" for work_id in work - account.rows.keys()]
    tags = Counter(run.tag for run in account.runs.values())
    found += [f"{tag} has {count} runs" for tag, count in tags.items() if count > 1]
    found += [f"{tag} was answered, and is no run" for tag, run in asked.items() if run.is_admitted and not tags[tag]]
    found += [f"{one} is no session" for one in sessions if one.session and one.session not in account.sessions]
    topics = [*account.runs.items(), *account.sessions.items()]
    return found + [f"{work_id} is open" for work_id, topic in topics if not topic.is_closed]


def _run_faults(row: UsageRow, run: LoggedRun, sent: Iterable[RequestRecord]) -> Iterable[str]:
    figures = row.quantities["inputTokens"], row.quantities["outputTokens"]
    tokens_sent = sum(request.tokens_sent for request in sent)
    has_begun = run.speaker is not None
    if row.estimated:
        prompt = -(-run.info.prompt_bytes // BYTES_PER_TOKEN) if has_begun else 0
        if figures != (prompt, run.deltas):
            yield f"an estimate of {figures} tokens, while the log has {prompt} and {run.deltas}"
        if row.outcome == "finish" and not any(r.ask and r.ask.behaviour == "no-usage" for r in sent):
            yield "an estimate, though the model's server gave figures"
    elif row.outcome == "finish" and figures != (PROMPT_TOKENS, tokens_sent):
        yield f"{figures} tokens, while the model's server sent {tokens_sent}"
    elif not 0 <= figures[1] <= tokens_sent:
        yield f"{figures} tokens, more than the {tokens_sent} of the model's server"
    if run.deltas > tokens_sent + MAX_UNCOUNTED:
        yield f"{run.deltas} deltas in the log, while the model's server sent {tokens_sent}"
    speaker = run.speaker or {}
    model = speaker.get("model", run.info.model)
    upstream = next(iter(speaker.get("providerMetadata", {})), "")
    if (row.model, row.upstream) != (model, upstream):
        yield f"the model {row.model!r} of {row.upstream!r}, while {model!r} of {upstream!r} answered"
    if (row.chat_id, row.started_ms, row.lane) != (run.info.chat_id, run.info.started_ms, "chat"):
        yield f"{row} is not of {run.info}"


def _told(run: LoggedRun, account: UsageAccount, asked: Mapping[str, AskedRun]) -> Iterable[str]:
    """Compares a row with what the client was told."""
    row, client = account.rows[run.info.run_id], asked[run.tag]
    if client.end and row.outcome not in ENDS[client.end]:
        yield f"{row.outcome}, but its client was told {client.end}"
    told = client.usage.get("outputTokens", client.usage.get("completion_tokens"))
    if told is not None and told != row.quantities["outputTokens"]:
        yield f"{row.quantities} while its client was told {client.usage}"


def _session_faults(row: UsageRow, session: LoggedSession, held: HeldSession | None) -> Iterable[str]:
    heard_ms = row.quantities["audioMs"]
    if heard_ms != audio_ms(session.state.audio):
        yield f"{heard_ms} ms, while the log has {audio_ms(session.state.audio)}"
    if row.kind != session.state.kind or row.lane != "audio" or not row.model:
        yield f"{row} is not of {session.state}"
    if held is None:
        return
    if not held.acked_ms <= heard_ms <= held.sent_ms:
        yield f"{heard_ms} ms, of {held.sent_ms} sent and {held.acked_ms} acknowledged"
    # Who comes back to a session that was ended meanwhile is told what was heard, too.
    ends = {"finish", "abort", "interrupted"} if held.act == "cut and return" else {"finish"}
    if held.done_ms is not None and (row.outcome not in ends or heard_ms != held.done_ms):
        yield f"{row.outcome} after {heard_ms} ms, but its client was told {held.done_ms}"
