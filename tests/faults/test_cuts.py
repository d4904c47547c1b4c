"""A client that was cut anywhere and comes back with its last id loses nothing, repeats nothing, and starts no second
run.

The client here is as small as a client can be: it keeps whole events only, and knows no more than their ids. Its
connections are cut by a proxy, at every byte of a finished answer and at many of answers that are still being written.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2

from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread
from tests.faults.cutting_proxy import Cut, CuttingProxy
from tests.support.sse_client import chat_body

TOKENS = 40
FEW_TOKENS = 10
AT_ONCE = 12
END = b"\r\n0\r\n\r\n"


@dataclass
class PartialAnswer:
    """Holds what a client has of one answer, over all its connections."""

    events: list[tuple[str, str]] = field(default_factory=list)
    is_done: bool = False
    status: int = 0
    """Status of the newest response; 0 when its head was cut."""
    connections: int = 0

    @property
    def cursor(self) -> str:
        return self.events[-1][0] if self.events else ""

    @property
    def text(self) -> str:
        chunks = [json.loads(data) for _, data in self.events]
        return "".join(c["delta"] for c in chunks if c["type"] == "text-delta")

    def take(self, response: bytes) -> None:
        """Adds the whole events of a response, of which only a beginning may have come."""
        self.connections += 1
        head, separator, rest = response.partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1]) if separator else 0
        if self.status != 200:
            return
        assert b"content-type: text/event-stream; charset=utf-8" in head
        *whole, _ = unchunk(rest).removeprefix(b": ok\n").split(b"\n\n")
        for event in whole:
            self._event(event.decode())

    def _event(self, event: str) -> None:
        assert not self.is_done, f"{event!r} came after [DONE]"
        if event == "data: [DONE]":
            self.is_done = True
            return
        first, second = event.split("\n")
        assert first.startswith("data: "), event
        assert second.startswith("id: "), event
        self.events.append((second[4:], first[6:]))


def unchunk(data: bytes) -> bytes:
    """Returns the bytes of a chunked body, as far as they arrived."""
    body = b""
    while data:
        size, separator, data = data.partition(b"\r\n")
        if not separator or size == b"0":
            break
        length = int(size, 16)
        body += data[:length]
        data = data[length + 2 :]
    return body


class Client:
    """Sends requests to one gateway, through the proxy when they are to be cut."""

    def __init__(self, gateway: Gateway, proxy: CuttingProxy) -> None:
        self.gateway = gateway
        self.proxy = proxy

    async def post(self, body: dict[str, object], cursor: str = "", cut: Cut | None = None) -> bytes:
        content = json.dumps(body).encode()
        head = f"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n{_resume(cursor)}\r\n"
        return await self._ask(head.encode() + content, cut)

    async def follow(self, chat_id: str, cursor: str = "", cut: Cut | None = None) -> bytes:
        head = f"GET /api/chat/{chat_id}/stream HTTP/1.1\r\nhost: localhost\r\n{_resume(cursor)}\r\n"
        return await self._ask(head.encode(), cut)

    async def _ask(self, request: bytes, cut: Cut | None) -> bytes:
        if cut is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        else:
            reader, writer = await self.proxy.connect(cut)
        writer.write(request)
        answer = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while data := await reader.read(65_536):
                    answer += data
        writer.close()
        return answer


def _resume(cursor: str) -> str:
    return f"connection: close\r\nlast-event-id: {cursor}\r\n" if cursor else "connection: close\r\n"


def run(gateway: Gateway, work: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with CuttingProxy(gateway.port) as proxy:
            await work(Client(gateway, proxy))

    asyncio.run(main())


async def at_once(work: list[Callable[[], Awaitable[None]]]) -> None:
    """Runs all jobs, AT_ONCE at a time."""
    waiting = iter(work)

    async def worker() -> None:
        for task in waiting:
            await task()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


def upstream_requests(upstream: UpstreamThread, chat_id: str) -> int:
    return sum(f"<{chat_id}>" in json.dumps(request.body) for request in upstream.fake.requests)


def question(chat_id: str, interval_us: int, tokens: int = TOKENS) -> dict[str, object]:
    return chat_body(chat_id, f"T={tokens} I={interval_us} <{chat_id}>")


async def uncut(client: Client, body: dict[str, object], tokens: int = TOKENS) -> PartialAnswer:
    """Returns the whole answer in one piece; a request that was made before is the same run again."""
    whole = PartialAnswer()
    whole.take(await client.post(body))
    assert whole.is_done
    assert whole.text == words(tokens)
    assert len({event_id for event_id, _ in whole.events}) == len(whole.events) >= tokens
    return whole


async def come_back(
    client: Client, body: dict[str, object], partial: PartialAnswer, cut: Cut | None, *, post: bool
) -> None:
    """Opens one more connection, with what a client knows after the ones before."""
    chat_id = str(body["id"])
    if not partial.cursor:
        partial.take(await client.follow(chat_id, cut=cut))
    elif post:
        partial.take(await client.post(body, partial.cursor, cut))
    else:
        partial.take(await client.follow(chat_id, partial.cursor, cut))


def test_a_finished_answer_cut_at_every_byte_arrives_whole(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = question("finished", 0, FEW_TOKENS)

    async def work(client: Client) -> None:
        whole = await uncut(client, body, FEW_TOKENS)
        answer = await client.post(body)
        assert answer.endswith(END)
        counts: list[int] = []

        async def cut_at(offset: int) -> None:
            partial = PartialAnswer()
            first = await client.post(body, cut=Cut(offset))
            assert first[:12] == answer[: min(offset, 12)]
            assert len(first) == offset
            partial.take(first)
            if not partial.cursor:
                await nothing_was_received(client, partial)
                return
            if not partial.is_done:
                await come_back(client, body, partial, None, post=bool(offset % 2))
                counts.append(offset)
            assert (partial.status, partial.is_done) == (200, True)
            assert partial.events == whole.events

        await at_once([lambda offset=offset: cut_at(offset) for offset in range(len(answer))])
        print(f"\n{len(answer)} cuts of a finished answer, {len(counts)} continued with a cursor")
        assert len(counts) > len(answer) * 0.7

    run(gateway, work)
    assert upstream_requests(upstream, "finished") == 1


async def nothing_was_received(client: Client, partial: PartialAnswer) -> None:
    """Expects 204, because without an id there is nothing to continue; the snapshot has the text."""
    partial.take(await client.follow("finished"))
    assert partial.status == 204
    async with httpx2.AsyncClient(verify=False) as http:  # a TLS context would cost more than all the rest
        snapshot = (await http.get(f"{client.gateway.url}/api/chat/finished")).json()
    assert snapshot["activeRun"] is None
    assert snapshot["messages"][-1]["parts"][0]["text"] == words(FEW_TOKENS)


def test_an_answer_cut_while_it_is_written_arrives_whole(gateway: Gateway, upstream: UpstreamThread) -> None:
    """Each cut at another byte, half of them as resets, and the client comes back until it is told the end."""
    offsets = [*range(0, 240, 40), *range(240, 6000, 80)]

    async def work(client: Client) -> None:
        async def cut_at(offset: int) -> None:
            body = question(f"live-{offset}", 4000)
            partial = PartialAnswer()
            partial.take(await client.post(body, cut=Cut(offset, reset=offset % 160 == 0)))
            while not partial.is_done:
                await come_back(client, body, partial, None, post=bool(offset % 3))
                assert partial.status == 200
            assert partial.connections <= 2
            assert partial.events == (await uncut(client, body)).events

        await at_once([lambda offset=offset: cut_at(offset) for offset in offsets])

    run(gateway, work)
    assert {upstream_requests(upstream, f"live-{offset}") for offset in offsets} == {1}


def test_an_answer_cut_again_and_again_arrives_whole(gateway: Gateway, upstream: UpstreamThread) -> None:
    """Every connection lives for a few hundred bytes: the head of the response and an event or two."""
    sizes = [900, 957, 1100, 1403]

    async def work(client: Client) -> None:
        async def cut_all(size: int) -> None:
            body = question(f"often-{size}", 4000)
            partial = PartialAnswer()
            partial.take(await client.post(body, cut=Cut(size)))
            while not partial.is_done and partial.connections < 200:
                await come_back(client, body, partial, Cut(size), post=bool(partial.connections % 2))
            assert partial.is_done
            assert partial.events == (await uncut(client, body)).events
            print(f"\n{size} bytes a connection: {partial.connections} connections")

        await at_once([lambda size=size: cut_all(size) for size in sizes])

    run(gateway, work)
    assert {upstream_requests(upstream, f"often-{size}") for size in sizes} == {1}


def test_a_post_with_a_cursor_never_generates(gateway: Gateway, upstream: UpstreamThread) -> None:
    """With a cursor the question is the old one, even beside a message that the chat has not seen."""
    body = question("attach", 0)
    before = len(upstream.fake.requests)

    async def work(client: Client) -> None:
        whole = await uncut(client, body)
        new = chat_body("attach", "T=1 I=0", message_id="unseen")
        partial = PartialAnswer()
        partial.take(await client.post(new, whole.events[2][0]))
        assert partial.is_done
        assert partial.events == whole.events[3:]

    run(gateway, work)
    assert len(upstream.fake.requests) == before + 1
    assert len(httpx2.get(f"{gateway.url}/api/chat/attach").json()["messages"]) == 2
