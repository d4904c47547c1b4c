"""The events lane: parse, call the domain, answer with a stream or a receipt."""

from litestar import get, post, route
from litestar.types import ASGIApp

from events import frames
from events.lane import EventsLane, TopicState
from events.publish import Publication, Receipt
from events.start import Ask
from events.vector import decode as decode_cursor
from gateway.errors import BadRequest, LogUnavailable, Overloaded
from gateway.sse import EventStream
from routes.requests import AnyRequest, body_of, cursor, decode, header
from routes.streams import head_of, nothing, outside, whole


@route("/api/events", http_method=["GET", "HEAD"], summary="Follow topics; continue strictly after a cursor")
async def subscribe(request: AnyRequest, events: EventsLane) -> ASGIApp:
    accept = header(request, b"accept")
    if accept is not None and not any(kind in accept for kind in ("text/event-stream", "text/*", "*/*")):
        raise BadRequest(f"this is an event stream, not {accept[:60]!r}", status=406, code="not_acceptable")
    if request.method == "HEAD":
        return head_of()
    patient = "status" in (header(request, b"prefer") or "")
    try:
        events.streams.admit()
        source = await events.subscribe(request.user, _asked(request), patient=patient)
    except (Overloaded, LogUnavailable) as err:
        if patient:
            raise
        return whole(frames.busy(err.code, _own(cursor(request))))
    if source is None:
        return nothing()
    stream = EventStream(
        source,
        ping_s=events.settings.ping_s,
        open_streams=events.streams,
        farewell=source.farewell,
        leaves_cleanly=True,
    )
    return outside(stream)


@post("/api/events", status_code=200, summary="Publish one event or a list: all of them, or none")
async def publish(request: AnyRequest, events: EventsLane) -> Receipt:
    body = await body_of(request, events.settings.limits.body_bytes)
    is_list = body.lstrip()[:1] == b"["
    return await events.publish(
        request.user, decode(body, list[Publication]) if is_list else [decode(body, Publication)]
    )


@get("/api/events/topics/{topic:path}", summary="A topic as it stands, and how many follow it")
async def topic(request: AnyRequest, topic: str, events: EventsLane) -> TopicState:
    return await events.topic(request.user, topic.removeprefix("/"))


def _asked(request: AnyRequest) -> Ask:
    query = request.query_params
    topics = tuple(query.getall("topic", []))
    return Ask(topics, cursor(request), query.get("from") == "earliest", query.get("partial") == "1")


def _own(told: str | None) -> str:
    """The cursor that a request came with, when it is one of ours: nothing else is ever sent back."""
    return told if told is not None and decode_cursor(told) is not None else ""


ROUTES = [subscribe, publish, topic]
