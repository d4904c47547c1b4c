"""The events lane: parse, call the domain, answer with a stream or a receipt."""

from urllib.parse import unquote

from litestar import Response, get, post, route
from litestar.types import ASGIApp

from events.feed import frames
from events.feed.deferred import DeferredStream
from events.feed.start import SubscribeRequest
from events.feed.subscription import Subscription
from events.lane import EventsLane, TopicState
from events.publish import Publication, Receipt
from gateway.errors import BadRequest, LogUnavailable, Overloaded
from gateway.serving.sse import EventStream
from routes.requests import AnyRequest, body_of, cursor, decode, header
from routes.streams import after_the_request, head_of, nothing, whole

TOPICS = "/api/events/topics"
METHODS = "GET, HEAD, OPTIONS, POST"


@route("/api/events", http_method=["OPTIONS"], status_code=204, include_in_schema=False, opt={"open": True})
async def options() -> Response[None]:
    """Litestar's own answer knows only the first handler of a path."""
    return Response(None, headers={"allow": METHODS})


@route("/api/events", http_method=["GET", "HEAD"], summary="Follow topics; continue strictly after a cursor")
async def subscribe(request: AnyRequest, events: EventsLane) -> ASGIApp:
    accept = header(request, b"accept")
    if accept is not None and not any(kind in accept for kind in ("text/event-stream", "text/*", "*/*")):
        raise BadRequest(f"this is an event stream, not {accept[:60]!r}", status=406, code="not_acceptable")
    asked = _asked(request)
    if request.method == "HEAD":
        events.allowed(request.user, asked.topics)
        return head_of()
    patient = "status" in (header(request, b"prefer") or "")
    try:
        events.streams.admit()
        source = await events.subscribe(request.user, asked, patient=patient)
    except (Overloaded, LogUnavailable) as err:
        if patient:
            raise
        return whole(frames.busy(err.code, asked.own_cursor))
    if source is None:
        return nothing()
    try:
        events.streams.admit()  # others came while the log was asked
    except Overloaded as err:
        source.close()
        return whole(frames.busy(err.code, asked.own_cursor))
    return after_the_request(_stream(events, source))


def _stream(events: EventsLane, source: Subscription | DeferredStream) -> EventStream:
    return EventStream(
        source,
        ping_s=events.settings.ping_s,
        open_streams=events.streams,
        farewell=source.farewell,
        leaves_cleanly=True,
    )


@post("/api/events", status_code=200, summary="Publish one event or a list: all of them, or none")
async def publish(request: AnyRequest, events: EventsLane) -> Receipt:
    body = await body_of(request, events.settings.limits.body_bytes)
    is_list = body.lstrip()[:1] == b"["
    return await events.publish(
        request.user, decode(body, list[Publication]) if is_list else [decode(body, Publication)]
    )


@get([TOPICS, f"{TOPICS}/{{topic:path}}"], summary="A topic as it stands, and how many follow it")
async def topic(request: AnyRequest, events: EventsLane) -> TopicState:
    """Its name as it came: the router takes `a//b` for `a/b`."""
    path = unquote(request.scope["raw_path"].decode("latin-1"))
    return await events.topic(request.user, path.partition(f"{TOPICS}/")[2])


def _asked(request: AnyRequest) -> SubscribeRequest:
    query = request.query_params
    topics = tuple(query.getall("topic", []))
    return SubscribeRequest(topics, cursor(request), query.get("from") == "earliest", query.get("partial") == "1")


ROUTES = [options, subscribe, publish, topic]
