"""Answers OpenAI's Responses: each is a run, whose log a connection only reads, and which can be asked for later.

Like `gateway.chat.lane` it knows both the domain and a dialect. A response in the background goes on when its client
leaves; any other ends with its connection, as a completion does.
"""

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import msgspec
from msgspec import Raw, UnsetType

from events.log.hub import TopicReader
from events.log.port import read_to_head
from gateway.access.grants import Principal
from gateway.chat.dialects.response_items import REFERENCE, ResponseItem, posted_items, refused
from gateway.chat.dialects.response_request import ResponseRequest
from gateway.chat.dialects.responses import ResponseEvents, error_frame
from gateway.chat.ending import Aborted
from gateway.chat.fetches import check_fetches
from gateway.chat.lone_runs import LoneRuns
from gateway.chat.record_source import PLAIN_RECORDS, RecordSource
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.records.record import RECORD
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.response_record import StoredResponse
from gateway.chat.responses import Responses, run_of_item, run_of_response
from gateway.chat.run import Run
from gateway.chat.runs import Runs
from gateway.chat.topics import new_run_id, run_topic
from gateway.chat.whole_answer import AsgiAnswer
from gateway.core.leases import NO_LEASE, Lease
from gateway.core.limits import STREAM
from gateway.core.process import Core
from gateway.core.usage import now_ms
from gateway.errors import Gone, NotFound, TrilaneError
from gateway.serving.bodies import Bodies, HeldBody
from gateway.serving.open_streams import LaneStreams
from gateway.serving.sse import EventStream
from gateway.serving.whole import send_json

STOP_S = 3.0
"""Seconds in which the process that writes a run stops it; then it is ended from here."""
NO_FRAMES = sys.maxsize
"""Number of an event past all others: of those before it no frame is made."""
_json = msgspec.json.Encoder().encode


class ItemPage(msgspec.Struct):
    """A page of the items of a response's input, as OpenAI lists things."""

    data: list[Raw]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"


class DeletedResponse(msgspec.Struct):
    id: str
    object: str = "response"
    deleted: bool = True


class ResponseLane:
    """The part of the chat lane that answers OpenAI's Responses."""

    def __init__(self, core: Core, streams: LaneStreams, lone_runs: LoneRuns, runs: Runs, in_memory: Bodies) -> None:
        """`in_memory` counts the bytes of earlier responses that are being read."""
        self._settings = core.settings
        self._limiter = core.limiter
        self._log, self._hub = core.log, core.hub
        self._lone_runs = lone_runs
        self._streams = streams
        self._runs = runs
        self._in_memory = in_memory
        self._responses = Responses(core.log, core.hub)

    # Creating

    async def create(
        self, who: Principal, request: ResponseRequest, fields: dict[str, Raw], body: HeldBody
    ) -> AsgiAnswer:
        """Answers a request, of whose body `fields` are all fields. Raises TrilaneError."""
        run_id, limits = new_run_id(), self._settings.limits
        request.check(fields, limits.output_tokens)
        posted = None if isinstance(request.input, UnsetType) else msgspec.json.decode(request.input)
        own = posted_items([] if posted is None else posted, run_id)
        before = ""
        with self._in_memory.hold() as held:
            earlier: list[ResponseItem] = []
            if request.previous_response_id:
                before = run_of_response(request.previous_response_id, PREVIOUS, PREVIOUS_CODE)
                earlier = await self._conversation(who, before, held)
            own = await self._dereferenced(who, own, held)
            asked = request.for_upstream(fields, [*earlier, *own], limits.messages)
            check_fetches(cast("list[object]", asked["messages"]), self._settings.allowed_fetches)
            stored = StoredResponse(
                run_id=run_id,
                sub=who.sub,
                created_at=now_ms() // 1000,
                model=request.model,
                echo=request.echo(fields),
                input=[Raw(_json(item)) for item in own],
                before=before,
                has_summaries=request.has_summaries,
            )
            run, reader, lease = await self._begin(who, request, asked, stored)
            held.keep_until(run.verdict)
        body.keep_until(run.verdict)
        if reader is not None:
            return self._stream(who, reader, ResponseEvents(stored), run, lease, run.verdict)
        if request.background:
            return partial(_send, _json(ResponseEvents(stored).response()))
        return self._lone_runs.whole(who, run, lease, partial(self._whole, stored))

    async def _whole(self, stored: StoredResponse, finished: RunFinished) -> bytes:
        """Returns a response whose run is over."""
        with self._in_memory.hold() as held:
            return _json((await self._told(stored, held)).response())

    async def _begin(
        self, who: Principal, request: ResponseRequest, asked: dict[str, object], stored: StoredResponse
    ) -> tuple[Run, TopicReader | None, Lease]:
        """Begins the run; returns it with what it holds of limits, and with a reader where it is to be streamed."""
        info = msgspec.structs.replace(
            self._lone_runs.info(who, request.model, len(_json(asked["messages"]))),
            run_id=stored.run_id,
            message_id=f"msg-{stored.run_id}",
            background=request.background,
            is_stored=request.store,
            posts_end=request.background and bool(self._settings.run_webhook_url),
        )
        opening = [self._responses.opening(stored)] if request.store else []
        size = sum(len(append.data[0]) for append in opening)
        admitted = self._lone_runs.admitted(who, info, asked, has_stream=request.stream, stored_bytes=size)
        async with admitted as lease:
            policy = "continue" if request.background else "cancel"
            run = self._runs.make(info, asked, Recorder(), policy, lease)
            if request.store:
                self._responses.watch(run)
            if request.stream:
                return run, await self._lone_runs.begin(run, PLAIN_RECORDS, *opening), lease
            await self._runs.begin(run, *opening)
        return run, None, lease

    def _stream(
        self,
        who: Principal,
        reader: TopicReader,
        events: ResponseEvents,
        run: Run | None,
        lease: Lease,
        verdict: "asyncio.Future[None] | None" = None,
    ) -> EventStream:
        """Returns a stream of events; `verdict` holds back the first answer to a request, which may be a refusal."""
        return self._lone_runs.stream(
            who,
            RecordSource(reader, events),
            run,
            lease,
            apology=lambda error: error_frame(error.detail, error.code, events.number),
            verdict=verdict,
        )

    # What was said before

    async def _conversation(self, who: Principal, run_id: str, held: HeldBody) -> list[ResponseItem]:
        """Returns the items of a response and of all those before it. Raises NotFound, TooLarge, Overloaded."""
        turns: list[list[ResponseItem]] = []
        while run_id and len(turns) < self._settings.limits.messages:
            stored = await self._responses.find(who, run_id, PREVIOUS, PREVIOUS_CODE)
            events = await self._told(stored, held)
            if not events.is_over:
                raise TrilaneError(
                    f"the response {stored.id!r} is not over yet",
                    code="response_in_progress",
                    status=409,
                    retryable=True,
                    extra={"param": PREVIOUS},
                )
            turns.append([*map(_decoded, stored.input), *_said(events)])
            run_id = stored.before
        return [item for turn in reversed(turns) for item in turn]

    async def _dereferenced(self, who: Principal, items: list[ResponseItem], held: HeldBody) -> list[ResponseItem]:
        """Returns the items with those in the place of references that they refer to. Raises NotFound."""
        known: dict[str, dict[str, ResponseItem]] = {}
        out: list[ResponseItem] = []
        for place, item in enumerate(items):
            if item["type"] != REFERENCE:
                out.append(item)
                continue
            item_id = str(item.get("id", ""))
            run_id = run_of_item(item_id)
            if run_id and run_id not in known:
                stored = await self._responses.find(who, run_id, f"input[{place}].id", ITEM_CODE)
                events = await self._told(stored, held)
                known[run_id] = {one["id"]: one for one in [*map(_decoded, stored.input), *_said(events)]}
            if (found := known.get(run_id, {}).get(item_id)) is None:
                raise NotFound(
                    f"there is no item {item_id[:64]!r}", code=ITEM_CODE, extra={"param": f"input[{place}].id"}
                )
            out.append(found)
        return out

    async def _told(self, stored: StoredResponse, held: HeldBody) -> ResponseEvents:
        """Returns a response as far as the log has it. Raises Gone when its run is kept no more."""
        events, head = ResponseEvents(stored, NO_FRAMES), 0
        held.count(sum(len(memoryview(item)) for item in stored.input))
        async for part in read_to_head(self._log, run_topic(stored.run_id)):
            head = part.head
            for block in part.blocks:
                if block.name == RECORD:
                    held.count(sum(map(len, block.data)))
                    events.feed(block.data)
        if not head and (finished := await self._responses.end_of(stored.run_id)) is not None:
            events.retell(finished)
        elif not head:
            raise Gone(f"the answer of {stored.id!r} is no longer kept")
        return events

    # Asking for one later

    async def read(self, who: Principal, response_id: str) -> bytes:
        """Returns a response as it stands. Raises NotFound, Gone."""
        stored = await self._responses.find(who, run_of_response(response_id))
        with self._in_memory.hold() as held:
            return _json((await self._told(stored, held)).response())

    async def follow(self, who: Principal, response_id: str, after: int) -> EventStream:
        """Returns the events of a response with numbers above `after`, to its end. Raises NotFound, Gone."""
        stored = await self._responses.find(who, run_of_response(response_id))
        reader = await self._hub.open(run_topic(stored.run_id), PLAIN_RECORDS, None)
        lease = NO_LEASE
        try:
            self._streams.admit()
            lease = await self._limiter.admit(who, STREAM)
            return self._stream(who, reader, ResponseEvents(stored, after), self._runs.get(stored.run_id), lease)
        except BaseException:
            reader.close()
            lease.leave_stream()
            raise

    async def cancel(self, who: Principal, response_id: str) -> bytes:
        """Stops a response, and returns it as it ended; one that is over stays as it is. Raises NotFound, Gone."""
        stored = await self._responses.find(who, run_of_response(response_id))
        await self._stop(stored)
        with self._in_memory.hold() as held:
            return _json((await self._told(stored, held)).response())

    async def _stop(self, stored: StoredResponse) -> None:
        if await self._responses.is_over(stored.run_id):
            return
        reader = await self._hub.open(run_topic(stored.run_id), PLAIN_RECORDS, None)
        try:
            await self._responses.stop(stored.run_id)
            async with asyncio.timeout(STOP_S):
                while not reader.ended:
                    await reader.next()
        except TimeoutError:
            await self._runs.end_other(stored.run_id, Aborted("stopped"))
        finally:
            reader.close()

    async def delete(self, who: Principal, response_id: str) -> DeletedResponse:
        """Removes a response for good; one that is being written is stopped first. Raises NotFound."""
        stored = await self._responses.find(who, run_of_response(response_id))
        await self._stop(stored)
        await self._responses.delete(stored.run_id)
        return DeletedResponse(stored.id)

    async def input_items(self, who: Principal, response_id: str, limit: int, order: str, after: str) -> ItemPage:
        """Returns a page of the items that were posted, newest first unless `order` is `asc`."""
        stored = await self._responses.find(who, run_of_response(response_id))
        items = stored.input if order == "asc" else stored.input[::-1]
        ids = [str(_decoded(item).get("id", "")) for item in items]
        if after and after not in ids:
            raise refused("after", f"{after[:64]!r} is no item of this response", "invalid_value")
        start = ids.index(after) + 1 if after else 0
        page, names = items[start : start + limit], ids[start : start + limit]
        first, last = (names[0], names[-1]) if names else (None, None)
        return ItemPage(page, first, last, start + limit < len(items))


PREVIOUS, PREVIOUS_CODE = "previous_response_id", "previous_response_not_found"
ITEM_CODE = "item_not_found"


def _decoded(item: Raw) -> ResponseItem:
    return msgspec.json.decode(item, type=dict[str, Any])


def _said(events: ResponseEvents) -> list[ResponseItem]:
    """Returns the items of an answer that can be gone on from: of a call that was cut nobody has a result."""
    output = msgspec.json.decode(_json(events.response()["output"]), type=list[dict[str, Any]])
    return [item for item in output if item["status"] == "completed" or item["type"] == "message"]


async def _send(body: bytes, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
    await send_json(body, send)
