"""The routes of the events lane: they parse, call the lane, and answer with a stream or a receipt."""

from urllib.parse import unquote

from litestar import Response, get, post, route
from litestar.types import ASGIApp

from events.feed.start import SubscribeRequest
from events.lane import EventsLane, TopicSummary
from events.publish import Publication, Receipt
from gateway.errors import BadRequest
from routes.requests import AnyRequest, body_of, cursor, decode, header
from routes.streams import after_the_request, headers_only, nothing, whole

TOPICS = "/api/events/topics"
METHODS = "GET, HEAD, OPTIONS, POST"
EVENT_STREAM = ("text/event-stream", "text/*", "*/*")
"""Media ranges in `Accept` that an event stream satisfies."""


@route("/api/events", http_method=["OPTIONS"], status_code=204, include_in_schema=False, opt={"open": True})
async def options() -> Response[None]:
    """Names all methods: Litestar's own answer knows only those of the path's first handler."""
    return Response(None, headers={"allow": METHODS})


@route("/api/events", http_method=["GET", "HEAD"], summary="Follow topics; continue strictly after a cursor")
async def subscribe(request: AnyRequest, events: EventsLane) -> ASGIApp:
    _check_accept(request)
    subscription = _subscription(request)
    if request.method == "HEAD":
        events.check_topics(request.user, subscription.topics)
        return headers_only()
    is_patient = "status" in (header(request, b"prefer") or "")
    stream = await events.stream(request.user, subscription, patient=is_patient)
    if stream is None:
        return nothing()
    return whole(stream) if isinstance(stream, bytes) else after_the_request(stream)


@post("/api/events", status_code=200, summary="Publish one event or a list: all of them, or none")
async def publish(request: AnyRequest, events: EventsLane) -> Receipt:
    body = await body_of(request, events.bodies)
    is_list = body.lstrip()[:1] == b"["
    publications = decode(body, list[Publication]) if is_list else [decode(body, Publication)]
    return await events.publish(request.user, publications)


@get([TOPICS, f"{TOPICS}/{{topic:path}}"], summary="The state of a topic, and the number of its readers")
async def topic(request: AnyRequest, events: EventsLane) -> TopicSummary:
    """Reads the topic's name from the raw path, because the router takes `a//b` for `a/b`."""
    path = unquote(request.scope["raw_path"].decode("latin-1"))
    return await events.topic(request.user, path.partition(f"{TOPICS}/")[2])


def _check_accept(request: AnyRequest) -> None:
    accept = header(request, b"accept")
    if accept is not None and not any(media_range in accept for media_range in EVENT_STREAM):
        raise BadRequest(f"this is an event stream, not {accept[:60]!r}", status=406, code="not_acceptable")


def _subscription(request: AnyRequest) -> SubscribeRequest:
    query = request.query_params
    topics = tuple(query.getall("topic", []))
    return SubscribeRequest(topics, cursor(request), query.get("from") == "earliest", query.get("partial") == "1")


ROUTES = [options, subscribe, publish, topic]
