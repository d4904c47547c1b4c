"""`trilane copy FROM TO`: copies a log into another one, of any engine, with its epochs and offsets.

Every cursor is as good there as it was. What is closed is copied for good while gateways run; what is still open, as
far as it has come: run the same command again after they were stopped, and it copies what was added since.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click
import msgspec

from events.log.port import NO_EVENTS, EventLog, read_to_head
from gateway.core.engines import opened_log
from gateway.errors import BadRequest, LogConflict, LogDamaged
from gateway.settings import Settings

PAGE = 1000
"""Number of names that are read at once."""
AT_ONCE = 16
"""Number of topics that are copied at once."""
PROGRESS_S = 2.0
SQLITE = "sqlite:///"
SHOWN = 5
"""Maximum topics that a sentence names."""
OWN = ("health/", "log/")
"""Prefixes of what each log has for itself."""


class CopyTally(msgspec.Struct):
    """What was copied, and what was not."""

    topics: int = 0
    events: int = 0
    open: int = 0
    """Number of topics that may still grow."""
    others: list[str] = []
    """Topics that are other ones in the target."""
    damaged: list[str] = []


async def copy(settings: Settings, source_url: str, target_url: str) -> int:
    """Copies all topics, tells how far it is and what came of it; returns the exit status."""
    _check(source_url, target_url)
    there, here = (msgspec.structs.replace(settings, log=url) for url in (source_url, target_url))
    async with opened_log(there) as source, opened_log(here) as target:
        tally = await _copy_all(source, target)
    _report(tally)
    return 1 if tally.others or tally.damaged else 0


def _check(source_url: str, target_url: str) -> None:
    """Raises BadRequest for two logs of which one cannot be copied to the other."""
    if source_url == target_url:
        raise BadRequest(f"both are {source_url.split('@')[-1]!r}: name two logs")
    for url in (source_url, target_url):
        if url == "memory:":
            raise BadRequest("memory: ends with its process, so nothing can be copied from or to it")
    if source_url.startswith(SQLITE) and not Path(source_url.removeprefix(SQLITE)).exists():
        raise BadRequest(f"there is no log at {source_url!r}")


async def _copy_all(source: EventLog, target: EventLog) -> CopyTally:
    tally, told_at = CopyTally(), time.monotonic()
    async for names in _pages(source):
        for at in range(0, len(names), AT_ONCE):
            await asyncio.gather(*[_copy_topic(source, target, name, tally) for name in names[at : at + AT_ONCE]])
            if time.monotonic() - told_at > PROGRESS_S:
                told_at = time.monotonic()
                click.echo(f"  {tally.topics:,} topics, {tally.events:,} events ...", err=True)
    return tally


async def _pages(source: EventLog) -> AsyncIterator[list[str]]:
    names = [""]
    while names := await source.names(names[-1], PAGE):
        yield names


async def _copy_topic(source: EventLog, target: EventLog, name: str, tally: CopyTally) -> None:
    there, here = [await log.read(name, NO_EVENTS, max_events=1) for log in (target, source)]
    if not here.epoch:
        return  # it was deleted since the names were read
    if there.epoch not in ("", here.epoch):
        if not name.startswith(OWN):
            tally.others.append(name)
        return
    if there.epoch and there.head + 1 < here.oldest:
        await target.delete(name)  # a copy that ends before what the source still has
        there = await target.read(name, NO_EVENTS, max_events=1)
    try:
        async for part in read_to_head(source, name, there.head):
            await target.adopt(name, part)
            tally.events += sum(len(block.data) for block in part.blocks)
            here = part
    except LogDamaged:
        tally.damaged.append(name)
        return
    except LogConflict:  # deleted, made anew or trimmed while it was copied
        tally.others.append(name)
        return
    tally.topics += 1
    tally.open += not here.closed


def _report(tally: CopyTally) -> None:
    click.echo(f"Copied {tally.topics:,} topics, {tally.events:,} events.")
    if tally.open:
        click.echo(
            f"{tally.open:,} topics are open. What gateways write to them from now on is not in the copy: "
            "stop the gateways and run this again, it copies what was added."
        )
    if tally.others:
        click.echo(
            f"{len(tally.others):,} topics were not copied, because the target has others of their name, or they were "
            f"changed meanwhile: {_shown(tally.others)}. Copy into an empty log."
        )
    if tally.damaged:
        click.echo(f"{len(tally.damaged):,} topics are damaged, and copied up to the damage: {_shown(tally.damaged)}.")


def _shown(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
