"""One-time tickets: a credential for a URL, where a browser's EventSource and WebSocket can send no header.

A ticket is good for TICKET_S, once, on one route, for the one who asked for it. It lives in the log, so that any
process redeems what another has issued; the log's idempotency keys make the first use the only one.
"""

import re
import secrets
import time
from collections.abc import Callable
from hashlib import sha256

import msgspec

from events.log.port import Append, EventLog
from gateway.access.auth import Grants, Principal
from gateway.errors import LogError, Unauthorized

TICKET_S = 30
ISSUED = "ticket/issued"
USED = "ticket/used"
MAX_TICKET_S = 240
"""The log forgets after five minutes which were used."""
ROUTES = ("/api/events", "/api/audio", "/v1/realtime")
"""What browsers open with an object that can send no header."""
MAX_LENGTH = 64
NUMBER = re.compile("[1-9][0-9]{0,14}", re.ASCII)


class TicketRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the log keeps of a ticket; the ticket itself it does not."""

    digest: str
    route: str
    until: float
    sub: str
    grants: Grants
    expires_at: float | None = None
    note: str = ""


class Tickets:
    def __init__(self, log: EventLog, clock: Callable[[], float] = time.time) -> None:
        self._log = log
        self._clock = clock

    async def issue(self, who: Principal, route: str, *, lasts_s: int = TICKET_S, note: str = "") -> str:
        """A ticket of letters, digits, `-`, `_` and one `.`; whoever redeems it finds `note` with the principal.

        The caller must keep `lasts_s` at or below MAX_TICKET_S: an older one could be used twice.
        """
        secret = secrets.token_urlsafe(24)
        kept = TicketRecord(
            digest=_digest(secret),
            route=route,
            until=self._clock() + lasts_s,
            sub=who.sub,
            grants=who.grants,
            expires_at=who.expires_at,
            note=note,
        )
        [done] = await self._log.append(Append(topic=ISSUED, name="ticket", data=[msgspec.json.encode(kept)]))
        return f"{done.first}.{secret}"

    async def redeem(self, ticket: str, route: str) -> Principal:
        """Who it stands for. Raises Unauthorized when it is not good, or no longer, or not here."""
        number, _, secret = ticket.partition(".")
        refusal = Unauthorized("this ticket is not valid: ask for a new one", code="bad_ticket")
        if len(ticket) > MAX_LENGTH or not NUMBER.fullmatch(number):
            raise refusal
        found = await self._log.read(ISSUED, int(number) - 1, max_events=1)
        if not found.blocks or found.blocks[0].first != int(number):
            raise refusal
        kept = msgspec.json.decode(found.blocks[0].data[0], type=TicketRecord)
        if not secrets.compare_digest(kept.digest, _digest(secret)) or kept.route != route:
            raise refusal
        if self._clock() > kept.until:
            raise Unauthorized("this ticket is too old: ask for a new one", code="ticket_expired")
        await self._use(kept)
        return Principal(sub=kept.sub, grants=kept.grants, expires_at=kept.expires_at, note=kept.note)

    async def _use(self, kept: TicketRecord) -> None:
        """The first of any number that try at once wins."""
        mark = secrets.token_hex(8)
        try:
            [used] = await self._log.append(
                Append(topic=USED, name="use", key=kept.digest, data=[msgspec.json.encode(mark)])
            )
        except LogError as err:
            raise Unauthorized("this ticket could not be used: ask for a new one", code="bad_ticket") from err
        if used.duplicate:
            raise Unauthorized("this ticket was used already: ask for a new one", code="ticket_used")


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
