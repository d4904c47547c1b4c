"""The tool `publish`: one event to a topic that the caller may publish to."""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from events.lane import EventsLane
from events.publish import Publication
from gateway.access.grants import Principal
from gateway.mcp.protocol import text_result
from gateway.mcp.tool import OfferedTool, RpcAnswer, ToolRequest, json_answer


class PublishArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The arguments of `publish`."""

    topic: Annotated[str, Meta(description="Name of the topic: 1 to 128 of A-Z a-z 0-9 . _ : / -")]
    data: Annotated[Raw, Meta(description="Any JSON, at most 64 KiB")]
    event: Annotated[str, Meta(description="Name of the event")] = "message"
    expected_offset: (
        Annotated[int, Meta(ge=1, description="Offset that the event must get, one more than the topic's head")] | None
    ) = None
    ttl: (
        Annotated[float, Meta(ge=1, le=31_536_000, description="Seconds after which late readers are not told")] | None
    ) = None


class PublishTool(OfferedTool):
    name = "publish"
    description = "Publishes one event to a topic, whose followers get it at once."
    arguments = PublishArguments

    def __init__(self, events: EventsLane) -> None:
        self._events = events

    def is_for(self, who: Principal) -> bool:
        return bool(who.grants.publish)

    async def call(self, request: ToolRequest) -> RpcAnswer:
        given = request.decode(PublishArguments)
        publication = Publication(
            topic=given.topic,
            data=given.data,
            event=given.event,
            expected_offset=given.expected_offset,
            ttl=given.ttl,
        )
        receipt = await self._events.publish(
            request.who, [publication], f"mcp-{request.name}" if request.name else None
        )
        [published] = receipt.events
        told = f"{published.topic} has it at offset {published.offset}"
        structured = msgspec.to_builtins(published)
        return json_answer(request.result(text_result(told, structured=structured)))
