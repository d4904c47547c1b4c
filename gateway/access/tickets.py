"""One-time tickets: a credential for a URL, where a browser's EventSource and WebSocket can send no header.

A ticket is good for TICKET_S, once, on one route, for the principal who requested it. It lives in the log, so any
process can redeem what another has issued; the log's idempotency keys make the first use the only one.
"""

import re
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from math import inf

import msgspec

from events.log.port import Append, EventLog
from gateway.access.grants import Grants, Principal
from gateway.errors import LogError, Unauthorized

TICKET_S = 30
"""Seconds in which a ticket must be used, unless its issuer says otherwise."""
ISSUED = "ticket/issued"
"""Topic of the tickets that were issued."""
USED = "ticket/used"
"""Topic of the tickets that were redeemed."""
MAX_TICKET_S = 240
"""Maximum seconds for which a ticket can be valid: after 300 the log forgets which tickets were used."""
ROUTE = r"^(/api/events|/api/audio|/v1/realtime|/api/chat/[A-Za-z0-9._:@~+=-]{1,128}/live)\Z"
"""The paths that take tickets: browsers open them with an object that can send no header."""
MAX_LENGTH = 64
"""Maximum characters of a ticket."""
_ROUTE = re.compile(ROUTE, re.ASCII)
NUMBER = re.compile("[1-9][0-9]{0,14}", re.ASCII)


class TicketRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket as the log keeps it: its digest, never its secret."""

    digest: str
    route: str
    until: float
    sub: str
    grants: Grants
    expires_at: float | None = None
    key_id: str = ""
    note: str = ""


class Tickets:
    """Issues and redeems the tickets of one log. `clock` gives seconds since 1970."""

    def __init__(
        self,
        log: EventLog,
        clock: Callable[[], float] = time.time,
        is_revoked: Callable[[str], bool] = lambda key_id: False,
    ) -> None:
        self._log = log
        self._clock = clock
        self._is_revoked = is_revoked

    async def issue(self, who: Principal, route: str, *, lasts_s: int = TICKET_S, note: str = "") -> str:
        """Returns a ticket of letters, digits, `-`, `_` and one `.`; the principal that it redeems to carries `note`.

        It is good for `lasts_s`, and no longer than the credential that its issuer signed in with.
        The caller must keep `lasts_s` at or below MAX_TICKET_S: an older one could be used twice.
        """
        secret = secrets.token_urlsafe(24)
        record = TicketRecord(
            digest=_digest(secret),
            route=route,
            until=min(self._clock() + lasts_s, inf if who.expires_at is None else who.expires_at),
            sub=who.sub,
            grants=who.grants,
            expires_at=who.expires_at,
            key_id=who.key_id,
            note=note,
        )
        [receipt] = await self._log.append(Append(topic=ISSUED, name="ticket", data=[msgspec.json.encode(record)]))
        return f"{receipt.first}.{secret}"

    async def redeem(self, ticket: str, route: str) -> Principal:
        """Returns whom a ticket stands for. Raises Unauthorized if it is unknown, too old, used or of another route."""
        number, _, secret = ticket.partition(".")
        refusal = Unauthorized("this ticket is not valid: ask for a new one", code="bad_ticket")
        if len(ticket) > MAX_LENGTH or not NUMBER.fullmatch(number):
            raise refusal
        part = await self._log.read(ISSUED, int(number) - 1, max_events=1)
        if not part.blocks or part.blocks[0].first != int(number):
            raise refusal
        record = msgspec.json.decode(part.blocks[0].data[0], type=TicketRecord)
        if not secrets.compare_digest(record.digest, _digest(secret)) or record.route != route:
            raise refusal
        if self._clock() > record.until:
            raise Unauthorized("this ticket is too old: ask for a new one", code="ticket_expired")
        await self._use(record)
        if self._is_revoked(record.key_id):  # after the log has answered: it may have been revoked meanwhile
            raise Unauthorized("the key that this ticket was issued to was revoked", code="key_revoked")
        return Principal(
            sub=record.sub,
            grants=record.grants,
            expires_at=record.expires_at,
            key_id=record.key_id,
            note=record.note,
        )

    async def _use(self, record: TicketRecord) -> None:
        """Marks the ticket as used; of any number of calls at once only the first succeeds."""
        mark = secrets.token_hex(8)
        try:
            [receipt] = await self._log.append(
                Append(topic=USED, name="use", key=record.digest, data=[msgspec.json.encode(mark)])
            )
        except LogError as err:
            raise Unauthorized("this ticket could not be used: ask for a new one", code="bad_ticket") from err
        if receipt.duplicate:
            raise Unauthorized("this ticket was used already: ask for a new one", code="ticket_used")


def takes_tickets(path: str) -> bool:
    """Returns whether a request to this path may carry a ticket."""
    return _ROUTE.search(path) is not None


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
