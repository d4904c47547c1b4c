"""`trilane publish`: appends one event to the log itself; no server needs to run."""

import json
import time

import click
from msgspec import Raw

from events.publish import Publication
from events.publish import publish as append
from gateway.access.grants import LOCAL_USER, OPERATOR, Principal
from gateway.core.engines import opened_log
from gateway.settings import Settings


async def publish(settings: Settings, topic: str, text: str, event: str, ttl_s: float | None) -> None:
    """Publishes one event, as `POST /api/events` does. `text` is JSON, or else taken as a string."""
    async with opened_log(settings) as log:
        operator = Principal(sub=LOCAL_USER, grants=OPERATOR)
        publication = Publication(topic=topic, data=Raw(_json(text)), event=event, ttl=ttl_s)
        receipt = await append(log, operator, [publication], lambda: int(time.time() * 1000))
        click.echo(f"{topic} {receipt.events[0].offset}")


def _json(text: str) -> bytes:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
