"""A server that speaks OpenAI's format: what it is asked, and what its refusals become; without sockets."""

import asyncio
import gzip
import json
from typing import Any

import httpx2
import pytest

from gateway.chat.upstreams.connection import UpstreamConnection
from gateway.chat.upstreams.exchange import CONNECT_S, MAX_REFUSAL_BYTES, REFUSAL_S
from gateway.chat.upstreams.openai import OpenAIUpstream
from gateway.chat.upstreams.proxies import Proxy
from gateway.chat.upstreams.transport import HttptoolsTransport, Target
from gateway.chat.upstreams.way_out import WayOutError
from gateway.errors import TrilaneError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream_settings import UpstreamSettings
from tests.support.completions import END, HELLO, text_of
from tests.support.scripted_upstream import SECRET
from tests.support.virtual_time import simulated
from tests.support.wires import answered, connect


class Exchange:
    """Stands in for the transport: gives what a test wrote, after a look at what was asked."""

    def __init__(self, answer: bytes | Exception, more: bytes = b"") -> None:
        self.answer, self.more = answer, more
        self.sent: list[dict[str, Any]] = []
        self.connection, self.wire = connect()

    async def exchange(self, target: Target, content: bytes, connect_s: float | None) -> UpstreamConnection:
        assert connect_s == CONNECT_S
        self.target = target
        self.sent.append(json.loads(content))
        if isinstance(self.answer, Exception):
            raise self.answer
        await answered(self.connection, self.answer)
        self.connection.data_received(self.more) if self.more else None
        return self.connection


def server(exchange: Exchange, **settings: Any) -> OpenAIUpstream:
    transport = HttptoolsTransport()
    transport.exchange = exchange.exchange  # type: ignore[method-assign]
    fields = {"name": "one", "base_url": "http://one/v1", "api_key": SECRET, "model": "m", **settings}
    return OpenAIUpstream(UpstreamSettings(**fields), transport)


def head(status: int, content_type: str = "text/event-stream", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "transfer-encoding: chunked", *more, "", ""]
    return "\r\n".join(lines).encode()


def chunked(data: bytes, *, is_last: bool = True) -> bytes:
    return b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if is_last else b"")


@simulated
async def test_a_request_names_the_model_and_asks_for_a_stream_with_its_usage() -> None:
    for requested_model, model in (("", "m"), ("other", "other")):
        exchange = Exchange(head(200))
        one = server(exchange)
        opened = await one.open({"messages": []}, requested_model)
        assert exchange.sent == [
            {"messages": [], "stream": True, "stream_options": {"include_usage": True}, "model": model}
        ]
        assert exchange.target.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert f"Bearer {SECRET}".encode() in exchange.target.head
        assert (opened.model, opened.upstream) == (model, "one")
        opened.abort()
        await one.aclose()


@simulated
async def test_a_full_upstream_is_busy_until_a_generation_is_closed() -> None:
    one = server(Exchange(head(200)), max_concurrency=1)
    opened = await one.open({}, "")
    assert one.busy
    opened.abort()
    opened.abort()
    assert (one.busy, one.in_flight) == (False, 0)
    await one.aclose()


TROUBLE: dict[str, tuple[bytes | Exception, type[TrilaneError], str]] = {
    "no connection in time": (httpx2.ConnectTimeout("late"), UpstreamTimeout, "upstream_timeout"),
    "no connection": (httpx2.ConnectError("no"), UpstreamUnreachable, "upstream_unreachable"),
    "closed without an answer": (httpx2.ReadError("no"), UpstreamUnreachable, "upstream_unreachable"),
    "a page": (head(200, "text/html"), UpstreamRefused, "upstream_invalid"),
    "a page, in capitals": (head(200, "TEXT/HTML; charset=utf-8"), UpstreamRefused, "upstream_invalid"),
    "a picture": (head(200, "image/png"), UpstreamRefused, "upstream_invalid"),
    "sound": (head(200, "Audio/mpeg"), UpstreamRefused, "upstream_invalid"),
    "no way there": (WayOutError("why", is_final=True), UpstreamUnreachable, "upstream_unreachable"),
    "no room": (head(429), UpstreamRefused, "upstream_rate_limited"),
}


@pytest.mark.parametrize(("answer", "error", "code"), TROUBLE.values(), ids=TROUBLE)
@simulated
async def test_what_is_no_stream_is_refused_and_nothing_is_left_open(
    answer: bytes | Exception, error: type[TrilaneError], code: str
) -> None:
    exchange = Exchange(answer, more=b"" if isinstance(answer, Exception) else chunked(b"x" * MAX_REFUSAL_BYTES))
    one = server(exchange)
    with pytest.raises(error) as failure:
        await one.open({}, "")
    assert (failure.value.code, one.in_flight) == (code, 0)
    await one.aclose()


NAMES = {
    "none": b"",
    "an empty one": b"content-type:\r\n",
    **{
        name: b"Content-Type: %b\r\n" % name.encode()
        for name in (
            "Text/Event-Stream",
            "text/event-stream;charset=UTF-8",
            "text/plain",
            "application/json",
            "application/x-ndjson",
            "application/stream+json",
            "binary/octet-stream",
            "no type at all",
        )
    },
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@simulated
async def test_an_answer_is_heard_by_whatever_name_its_content_goes(name: bytes) -> None:
    answer = head(200).replace(b"content-type: text/event-stream\r\n", name)
    one = server(Exchange(answer, chunked(HELLO + END)))
    opened = await one.open({}, "")
    assert text_of(await opened.next()) == "Hello"
    assert (opened.complete, opened.error) == (True, None)
    await opened.aclose()
    await one.aclose()


REDIRECTS = {
    301: "https://elsewhere.example/v1",
    302: "/login",
    303: "?page=2",
    307: "http://up/v2/chat",
    308: "//up/v1",
    300: "",
}


@pytest.mark.parametrize(("status", "place"), REDIRECTS.items())
@simulated
async def test_a_redirect_is_named_and_not_followed(status: int, place: str) -> None:
    exchange = Exchange(head(status, "text/html", *([f"Location: {place}"] if place else [])))
    one = server(exchange)
    with pytest.raises(UpstreamRefused) as failure:
        await one.open({}, "")
    assert (failure.value.code, failure.value.status) == ("upstream_redirect", 502)
    assert f"answered {status} and sends us to {place or 'nowhere'!r}" in failure.value.detail
    assert (len(exchange.sent), exchange.wire.aborted) == (1, True)
    await one.aclose()


REFUSALS: dict[str, tuple[bytes, bytes, str]] = {
    "JSON": (head(400, "application/json"), chunked(b'{"error": {"message": "too long"}}'), "too long"),
    "our key in it": (head(400, "application/json"), chunked(f'{{"message": "{SECRET}?"}}'.encode()), "…?"),
    "a page": (head(503, "text/html"), chunked(b"<html>"), "the upstream answered 503"),
    "a body that does not end": (
        head(400, "application/json"),
        chunked(b'{"message": "half"}', is_last=False),
        "half",
    ),
}


@pytest.mark.parametrize(("answer", "body", "detail"), REFUSALS.values(), ids=REFUSALS)
@simulated
async def test_a_refusal_says_what_its_body_says_within_a_bounded_time(answer: bytes, body: bytes, detail: str) -> None:
    loop, one = asyncio.get_running_loop(), server(Exchange(answer, body))
    began = loop.time()
    with pytest.raises(UpstreamRefused) as failure:
        await one.open({}, "")
    assert failure.value.detail == detail
    assert loop.time() - began == (REFUSAL_S if not body.endswith(b"0\r\n\r\n") else 0)
    await one.aclose()


@pytest.mark.parametrize("is_final", [True, False])
@simulated
async def test_a_way_out_that_fails_is_told_with_its_reason(is_final: bool) -> None:
    one = server(Exchange(WayOutError("set SSL_CERT_FILE", is_final=is_final)))
    with pytest.raises(UpstreamUnreachable) as failure:
        await one.open({}, "")
    assert failure.value.detail == "upstream 'one' cannot be reached: set SSL_CERT_FILE"
    assert failure.value.retryable is not is_final
    await one.aclose()


@simulated
async def test_a_proxy_that_refuses_a_request_is_named() -> None:
    exchange = Exchange(head(407))
    one = server(exchange)
    one._transport.way_out.proxy = Proxy(variable="HTTP_PROXY", scheme="http", host="p", port=3128, authorization=b"x")
    with pytest.raises(UpstreamUnreachable, match=r"the proxy p:3128 \(HTTP_PROXY\) wants a user and a password"):
        await one.open({}, "")
    assert exchange.wire.aborted
    await one.aclose()


@simulated
async def test_a_refusal_repeats_no_secret_of_a_header() -> None:
    secrets = {"x-token": "another-secret-1", "authorization": "Token third-secret-22"}
    told = '{"message": "no another-secret-1, third-secret-22 or blue"}'
    one = server(Exchange(head(400, "application/json"), chunked(told.encode())), headers={**secrets, "x-team": "blue"})
    with pytest.raises(UpstreamRefused) as failure:
        await one.open({}, "")
    assert failure.value.detail == "no …, … or blue"
    await one.aclose()


@simulated
async def test_a_refusal_in_gzip_is_read() -> None:
    body = gzip.compress(b'{"error": {"message": "too long"}}')
    one = server(Exchange(head(400, "application/json", "content-encoding: gzip"), chunked(body)))
    with pytest.raises(UpstreamRefused, match="too long"):
        await one.open({}, "")
    await one.aclose()


@simulated
async def test_a_bomb_as_a_refusal_is_read_in_bounded_size() -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    exchange = Exchange(head(400, "application/json", "content-encoding: gzip"), chunked(bomb))
    one = server(exchange)
    with pytest.raises(UpstreamRefused):
        await one.open({}, "")
    assert exchange.wire.aborted
    assert not exchange.connection.decoder
    await one.aclose()


@simulated
async def test_a_refusal_is_read_in_bounded_size() -> None:
    exchange = Exchange(head(400, "application/json"), chunked(b" " * MAX_REFUSAL_BYTES, is_last=False))
    one, loop = server(exchange), asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(UpstreamRefused):
        await one.open({}, "")
    assert (loop.time() - began, exchange.wire.aborted) == (0, True)
    await one.aclose()


@simulated
async def test_models_are_as_configured_and_the_default_is_one_of_them() -> None:
    for settings, models in (({"models": ["a", "b"]}, ["a", "b"]), ({}, ["m"])):
        one = server(Exchange(b""), **settings)
        assert await one.models() == models
        await one.aclose()
