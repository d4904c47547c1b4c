"""`trilane forget SUB`: deletes what the log holds of one user, on every engine, while gateways run.

Their keys are revoked first and their runs stopped; they leave the chats of others; then topics go, chats and their
runs first. The usage rows come last, and stay under a pseudonym. A command that was broken off is run again and
finishes. What it cannot delete it names.
"""

import asyncio
import contextlib
import time

import click
import msgspec

from events.log.port import NO_EVENTS, Append, EventLog, TopicInfo
from gateway.access.keys import key_statuses, revoke_key
from gateway.chat.abandoned import end_run
from gateway.chat.ending import Aborted
from gateway.chat.forgotten_member import leave_chats
from gateway.chat.records.chat_record import RunInfo, StopCommand, encode_event
from gateway.chat.records.record import RUN
from gateway.chat.topics import CHATS, RUNS, run_id_of, topic_of
from gateway.core.engines import opened_log
from gateway.core.personal import give_usage_to_pseudonym, personal_topics
from gateway.core.usage import usage_topic
from gateway.core.usage_outbox import cursor_topic
from gateway.errors import LogConflict, LogDamaged
from gateway.settings import Settings

ROUNDS = 10
"""Maximum rounds of deletion: a user whose credentials still work may make topics as fast as they go."""
STOP_S = 1.0
"""Seconds that a run has to end by itself; then it is ended from here."""
STOP_POLL_S = 0.02
PROGRESS_S = 2.0
AUDIO = ("audio/", "event/audio/")
REMAINS = (
    "Not deleted, because it has no owner: what they published to topics that are not the gateway's, and transcripts "
    "of sessions that named such a topic; and what they said in chats of others, where it stands under a random name. "
    "What workers were given and posted at processes that had not the run goes by itself, two minutes later at most "
    "while a gateway runs. "
    "Their name alone stays in presence for TRILANE_RETENTION_S, in tickets for five minutes, in the record of keys, "
    "where they had one, among the last 1,000 changes of members, and, shown to nobody, in what is stored of chats "
    "with others, until those are deleted. Backups are yours to delete."
)


class ForgetTally(msgspec.Struct):
    """What was deleted."""

    keys: int = 0
    """Number of keys that were revoked."""
    topics: set[str] = set()
    stopped: int = 0
    left: int = 0
    """Number of chats of others that they had a part in."""
    rows: int = 0
    pseudonym: str = ""
    is_done: bool = False
    """Whether the user had nothing any more when it was looked for last."""

    def count(self, *prefixes: str) -> int:
        return sum(topic.startswith(prefixes) for topic in self.topics)


async def forget(settings: Settings, sub: str) -> int:
    """Deletes what is there of a user, tells how far it is and what is left; returns the exit status."""
    async with opened_log(settings) as log:
        tally = await forget_all(log, sub)
        remains = await log.scrub()
    _report(tally, sub, remains)
    return 0 if tally.is_done else 1


async def forget_all(log: EventLog, sub: str) -> ForgetTally:
    """Deletes what is there of a user, round after round, until nothing is."""
    tally = ForgetTally()
    for status in await key_statuses(log):
        if status.key.sub == sub and status.revoked_at is None:
            await revoke_key(log, status.key.id)
            tally.keys += 1
    for _ in range(ROUNDS):
        topics = await personal_topics(log, sub)
        if not topics:
            tally.is_done = True
            break
        running = [info for info in topics if info.topic.startswith(RUNS) and not info.closed]
        await asyncio.gather(*[_stop(log, run) for run in running])
        tally.stopped += len(running)
        tally.left = max(tally.left, await leave_chats(log, sub))
        books = (usage_topic(sub), cursor_topic(sub))
        await _delete(log, [info.topic for info in topics if info.topic not in books], tally)
        pseudonym, rows = await give_usage_to_pseudonym(log, sub)
        tally.pseudonym, tally.rows = pseudonym or tally.pseudonym, tally.rows + rows
    return tally


async def _stop(log: EventLog, run: TopicInfo) -> None:
    """Stops a run: by the command that its process obeys, and else by ending it from here."""
    chat = await _chat_of(log, run.topic)
    if chat:
        name, data = encode_event(StopCommand(run_id_of(run.topic)))
        with contextlib.suppress(LogConflict):
            await log.append(Append(topic=chat, data=[data], name=name))
    deadline = time.monotonic() + (STOP_S if chat else 0)
    while time.monotonic() < deadline:
        if (await log.read(run.topic, run.head, max_events=1)).closed:
            return
        await asyncio.sleep(STOP_POLL_S)
    await end_run(log, run_id_of(run.topic), Aborted("forgotten"))


async def _chat_of(log: EventLog, topic: str) -> str:
    """Returns the topic of the chat that a run belongs to; nothing when it has none, or that cannot be known."""
    try:
        part = await log.read(topic, 0, max_events=1)
    except LogDamaged:
        return ""
    if not part.blocks or part.blocks[0].name != RUN:
        return ""
    info = msgspec.json.decode(part.blocks[0].data[0], type=RunInfo)
    topic = topic_of(info) if info.chat_id else ""
    return topic if topic and (await log.read(topic, NO_EVENTS, max_events=1)).epoch else ""


async def _delete(log: EventLog, topics: list[str], tally: ForgetTally) -> None:
    shown_at = time.monotonic()
    for number, topic in enumerate(
        sorted(topics), 1
    ):  # chats come before runs, so that no chat lists a run that is gone
        if await log.delete(topic):
            tally.topics.add(topic)
        if time.monotonic() - shown_at > PROGRESS_S:
            shown_at = time.monotonic()
            click.echo(f"  {number:,} of {len(topics):,} topics ...", err=True)


def _report(tally: ForgetTally, sub: str, remains: str) -> None:
    sessions = len({topic.rpartition("/")[2] for topic in tally.topics if topic.startswith(AUDIO)})
    parts = {
        "chats": tally.count(CHATS),
        f"runs ({tally.stopped} were stopped)" if tally.stopped else "runs": tally.count(RUNS),
        "audio sessions": sessions,
        "topics of their own": len(tally.topics) - tally.count(CHATS, RUNS, *AUDIO),
    }
    click.echo(f"Deleted of {sub!r}: {', '.join(f'{count:,} {what}' for what, count in parts.items())}.")
    if tally.keys:
        click.echo(f"{tally.keys:,} API keys are revoked.")
    if tally.left:
        click.echo(f"They have left {tally.left:,} chats of others.")
    if tally.pseudonym:
        click.echo(f"{tally.rows:,} usage rows are now those of {tally.pseudonym!r}; nothing says who that was.")
    click.echo(REMAINS)
    if remains:
        click.echo(f"{remains[0].upper()}{remains[1:]}.")
    if not tally.is_done:
        click.echo(f"{sub!r} is still at work: take away their keys and tokens, then run this again.", err=True)
