"""The route that issues one-time tickets, for clients that cannot send a header."""

from typing import Annotated

import msgspec
from litestar import post
from msgspec import Meta

from gateway.access.tickets import ROUTE, TICKET_S
from gateway.core.limits import TICKET
from gateway.core.process import Core
from routes.operation import described
from routes.requests import AnyRequest, body_of, decode


class TicketRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /api/tickets`."""

    route: Annotated[str, Meta(pattern=ROUTE)]


class Ticket(msgspec.Struct, frozen=True):
    """The answer to `POST /api/tickets`."""

    ticket: str
    expires_in: int
    """Seconds for which the ticket can be used."""


@post(
    "/api/tickets",
    status_code=200,
    summary="A ticket for one connection, sent as `?ticket=`",
    opt=described(body=TicketRequest, examples={"events": {"route": "/api/events"}}),
)
async def issue(request: AnyRequest, core: Core) -> Ticket:
    body = await body_of(request, core.bodies)
    ticket = decode(body, TicketRequest)
    await core.limiter.admit(request.user, TICKET)
    return Ticket(await core.tickets.issue(request.user, ticket.route), TICKET_S)


ROUTES = [issue]
