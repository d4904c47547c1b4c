"""The routes of the events lane: they parse, call the lane, and answer with a stream or a receipt."""

import re
from urllib.parse import unquote

from litestar import Response, get, post, route
from litestar.types import ASGIApp

from events.feed.start import SubscribeRequest
from events.lane import EventsLane, TopicSummary
from events.log.topics import MAX_TOPICS
from events.publish import Publication, Receipt, check_key
from gateway.errors import BadRequest
from routes.operation import CURSOR_INPUTS, IDEMPOTENCY_KEY, Input, described
from routes.requests import AnyRequest, body_of, check_event_stream, cursor, decode, header
from routes.streams import after_the_request, headers_only, is_head, nothing, whole

TOPICS = "/api/events/topics"
PLACE = re.compile(r"`\$\[(\d+)\]")
"""The place of a bad event in its list, in the decoder's own words."""
METHODS = "GET, HEAD, OPTIONS, POST"
INPUTS = (
    Input(
        "topic",
        "Topics and patterns (`team/*`) to follow; none: the caller's own `user/<sub>`",
        schema={"type": "array", "items": {"type": "string"}, "maxItems": MAX_TOPICS},
    ),
    *CURSOR_INPUTS,
    Input("from", "`earliest`: begin at the oldest kept event, not at the head", schema={"enum": ["earliest"]}),
    Input("partial", "`1`: after a loss, send what is left", schema={"enum": ["1"]}),
    Input("envelope", "`1`: the data is `{topic, offset, event, data}`", schema={"enum": ["1"]}),
    Input("Prefer", "`status`: answer an overload with 503, not with the event `busy`", "header"),
)
STREAM_EXAMPLE = """: ok
event: hello
retry: 2214
data: {"recovered":true,"replay":1,"ping":15,"maxAge":571,"topics":["team/a"]}
id: e41f0c5b2.x7Kq2mPw.8

event: note
data: {"text":"Hello"}
id: e41f0c5b2.x7Kq2mPw.9

"""
EXAMPLE = {"topic": "team/a", "event": "note", "data": {"text": "Hello"}, "idempotencyKey": "note-17", "ttl": 3600}


@route("/api/events", http_method=["OPTIONS"], status_code=204, include_in_schema=False, opt={"open": True})
async def options() -> Response[None]:
    """Names all methods: Litestar's own answer knows only those of the path's first handler."""
    return Response(None, headers={"allow": METHODS})


@get(
    "/api/events",
    summary="Follow topics; continue strictly after a cursor",
    opt=described(
        stream=STREAM_EXAMPLE,
        inputs=INPUTS,
        statuses={204: "This reader has all that there will ever be: do not come back"},
        errors=(406,),
    ),
)
async def subscribe(request: AnyRequest, events: EventsLane) -> ASGIApp:
    check_event_stream(request)
    subscription = _subscription(request)
    if is_head(request.scope):
        await events.check_topics(request.user, subscription.topics)
        return headers_only()
    is_patient = "status" in (header(request, b"prefer") or "")
    stream = await events.stream(request.user, subscription, patient=is_patient)
    if stream is None:
        return nothing()
    return whole(stream) if isinstance(stream, bytes) else after_the_request(stream)


@post(
    "/api/events",
    status_code=200,
    summary="Publish one event or a list: all of them, or none",
    opt=described(
        body=Publication | list[Publication],
        examples={"one": EXAMPLE, "a list": [EXAMPLE, {"topics": ["team/a", "team/b"], "data": "done"}]},
        inputs=(IDEMPOTENCY_KEY,),
        errors=(409,),
    ),
)
async def publish(request: AnyRequest, events: EventsLane) -> Receipt:
    body = await body_of(request, events.bodies)
    key = header(request, b"idempotency-key")
    return await events.publish(request.user, _publications(body), check_key(key) if key else None)


@get(TOPICS, include_in_schema=False)
async def slashed_topic(request: AnyRequest, events: EventsLane) -> TopicSummary:
    """Answers for topics of slashes alone, in which the router sees no name."""
    return await events.topic(request.user, _topic(request))


@get(f"{TOPICS}/{{topic:path}}", summary="The state of a topic, and the number of its readers")
async def topic(request: AnyRequest, events: EventsLane) -> TopicSummary:
    return await events.topic(request.user, _topic(request))


def _topic(request: AnyRequest) -> str:
    """Returns the topic's name from the raw path, because the router takes `a//b` for `a/b`."""
    path = unquote(request.scope["raw_path"].decode("latin-1"))
    return path.partition(f"{TOPICS}/")[2]


def _publications(body: bytes) -> list[Publication]:
    """Returns the events of a body; the error about one of a list has its place there as `index`."""
    if body.lstrip()[:1] != b"[":
        return [decode(body, Publication)]
    try:
        return decode(body, list[Publication])
    except BadRequest as err:
        if place := PLACE.search(err.detail):
            err.extra["index"] = int(place[1])
        raise


def _subscription(request: AnyRequest) -> SubscribeRequest:
    query = request.query_params
    topics = tuple(query.getall("topic", []))
    return SubscribeRequest(
        topics,
        cursor(request),
        earliest=query.get("from") == "earliest",
        partial=query.get("partial") == "1",
        envelope=query.get("envelope") == "1",
    )


ROUTES = [options, subscribe, publish, slashed_topic, topic]
