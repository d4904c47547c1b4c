"""`trilane doctor URL`: asks a deployment, from outside, whether what stands before it lets its streams through.

It knows of the proxies only what a client sees: when bytes come, which headers arrive at the gateway, what is answered
to whom. It reads one stream for a ping, publishes nothing, and starts a run only when it is told to.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
import msgspec

from gateway.access.hosts import is_loopback
from gateway.commands.findings import DoctorReport, Finding
from gateway.commands.proxy_lines import Mistake, line_of, proxy_of

ANSWER_S = 10.0
"""Seconds that an answer may take."""
FIRST_BYTES_S = 3.0
"""Seconds in which a stream's first event is there, unless something holds it back: the gateway sends it at once."""
GRACE_S = 3.0
"""Seconds by which a ping may be later than the gateway says."""
CLOCK_S = 5.0
"""Seconds by which two clocks may differ; a token that is made on the one is not good yet on the other."""
WEBSOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
NO_CURSOR = "sent-by-trilane-doctor"
"""A cursor that is none: `hello` says so when it has reached the gateway."""
PROBE = "/api/events/topics/doctor"
"""A route that every deployment with events has, and that is answered at once."""


class HelloFacts(msgspec.Struct):
    """The part of a stream's `hello` that says how it will be kept alive, and what became of a cursor."""

    ping: float
    recovered: bool
    reason: str = ""


class Deployment:
    """A gateway at a URL, as one client sees it."""

    def __init__(self, url: str, key: str | None, client: httpx2.AsyncClient) -> None:
        self.url = url.rstrip("/")
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.url))
        self.is_local = is_loopback(urlsplit(self.url).hostname or "")
        self.headers = {"authorization": f"Bearer {key}"} if key else {}
        self.proxy = ""
        """The name of the proxy before it, once an answer has told."""
        self._client = client

    def line(self, mistake: Mistake) -> str:
        """Returns the line of the proxy's configuration that mends a mistake."""
        return line_of(mistake, self.proxy)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        """Returns an answer whose body is not read beyond what is at hand. Raises httpx2.HTTPError."""
        async with self._client.stream("GET", self.url + path, headers=headers) as answer:
            is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
            if not is_stream and answer.status_code != 101:
                await answer.aread()
            self.proxy = self.proxy or proxy_of(answer.headers)
            return answer

    @asynccontextmanager
    async def stream(self, headers: dict[str, str]) -> AsyncGenerator[httpx2.Response]:
        async with self._client.stream("GET", f"{self.url}/api/events", headers=self.headers | headers) as answer:
            yield answer

    async def ask(self, text: str) -> AsyncIterator[bytes]:
        """Yields the bytes of the answer to a message, in a chat of its own, which is deleted after."""
        chat_id = f"doctor-{time.time_ns()}"
        message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
        body = {"id": chat_id, "message": message, "maxOutputTokens": 16}
        async with self._client.stream("POST", f"{self.url}/api/chat", json=body, headers=self.headers) as answer:
            if answer.status_code != 200:
                raise httpx2.HTTPError(f"it is answered {answer.status_code}: {(await answer.aread())[:200]!r}")
            async for data in answer.aiter_bytes():
                yield data
        await self._client.delete(f"{self.url}/api/chat/{chat_id}", headers=self.headers)


async def examine(url: str, key: str | None, *, chat: bool) -> int:
    """Prints one line for each finding, with what to do; returns the exit code, 0 when nothing has failed."""
    timeout = httpx2.Timeout(ANSWER_S, read=None)
    async with httpx2.AsyncClient(timeout=timeout, follow_redirects=False) as client:
        report = DoctorReport()
        async for finding in findings(Deployment(url, key, client), chat=chat):
            report.add(finding)
    return report.conclude()


async def findings(place: Deployment, *, chat: bool) -> AsyncIterator[Finding]:
    """Yields what is found, as it is found; nothing more once nothing answers."""
    try:
        first = await _in_time(place.get(PROBE, {"cookie": "__Secure-trilane=x", "origin": place.origin}))
    except (httpx2.HTTPError, TimeoutError, httpx2.InvalidURL) as err:
        yield Finding(
            "FAIL", f"{place.url} does not answer: {str(err) or 'no answer in time'}", "Is the address right?"
        )
        return
    yield _name(place, first)
    yield _tls(place, first)
    yield _clock(first)
    checks: list[Callable[[], Awaitable[list[Finding]]]] = [lambda: _private(place), lambda: _upgrade(place)]
    if first.status_code == 401 and not place.headers:
        checks.append(_no_key)
    else:
        checks += [lambda: _cursor(place), lambda: _pace(place)]
        checks += [lambda: _chat(place)] if chat else []
    for check in checks:
        try:
            for finding in await check():
                yield finding
        except (httpx2.HTTPError, TimeoutError) as err:
            yield Finding("FAIL", f"a request was not answered: {str(err) or 'no answer in time'}")


async def _in_time(answer: Awaitable[httpx2.Response]) -> httpx2.Response:
    async with asyncio.timeout(ANSWER_S):
        return await answer


def _name(place: Deployment, answer: httpx2.Response) -> Finding:
    """Looks at the first answer, which tells whether the gateway is called by the name that the browser uses."""
    try:
        code = str(msgspec.json.decode(answer.content).get("code", "")) if answer.status_code >= 400 else ""
    except (msgspec.DecodeError, AttributeError, httpx2.ResponseNotRead):
        return Finding(
            "FAIL", f"no gateway answers, but something else with {answer.status_code}", "Where do you route?"
        )
    if code == "bad_host":
        advice = "List the public name in TRILANE_ALLOWED_HOSTS."
        return Finding("FAIL", "the gateway does not answer to this name", advice)
    if code == "bad_origin":
        advice = (
            "Pass on the browser's `Host` (or X-Forwarded-Host, and list the proxy in TRILANE_TRUSTED_PROXIES):"
            f"{place.line('renames')}"
        )
        if urlsplit(place.url).scheme == "https":
            advice += f"\nand, where TLS ends before the gateway, the scheme:{place.line('hides the scheme')}"
        failure = "the gateway refuses the sockets and cookies of its own pages: it is called by another name or scheme"
        return Finding("FAIL", failure, advice)
    if not answer.headers.get("x-request-id"):
        return Finding(
            "FAIL", f"an answer ({answer.status_code}) without x-request-id: no gateway's", "Where do you route?"
        )
    return Finding("ok", f"a gateway answers, under its public name ({answer.status_code})")


def _tls(place: Deployment, answer: httpx2.Response) -> Finding:
    if urlsplit(place.url).scheme != "https":
        if place.is_local:
            return Finding("ok", "no TLS, on this machine alone")
        return Finding("FAIL", "no TLS: every credential can be read on the way", "See deploy/proxies for TLS.")
    if place.is_local:
        return Finding("ok", "TLS, under a name of this machine")
    if "strict-transport-security" not in answer.headers:
        advice = "List the proxy in TRILANE_TRUSTED_PROXIES: the gateway says it to whoever came by TLS."
        return Finding("warn", "TLS without HSTS: a first visit by http:// can be intercepted", advice)
    return Finding("ok", "TLS, and HSTS")


def _clock(answer: httpx2.Response) -> Finding:
    try:
        skew_s = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
    except (KeyError, ValueError, TypeError):
        return Finding("skip", "clock: the answer has no date")
    if abs(skew_s) > CLOCK_S:
        advice = "Let both machines keep the time (chrony, systemd-timesyncd): tokens are good from and until a time."
        return Finding("FAIL", f"its clock and this one differ by {abs(skew_s):.0f} s", advice)
    return Finding("ok", "its clock and this one agree")


async def _private(place: Deployment) -> list[Finding]:
    """Looks at what only operators need."""
    metrics = await _in_time(place.get("/metrics", {"x-forwarded-for": "192.0.2.1"}))
    docs = await _in_time(place.get("/openapi.json"))
    result: list[Finding] = []
    if metrics.status_code == 200 and b"trilane_" in metrics.content:
        result.append(Finding("FAIL", "/metrics is open to everyone", "Do not route it: deploy/proxies show how."))
    else:
        result.append(Finding("ok", "/metrics is not open"))
    if docs.status_code == 200:
        result.append(Finding("ok", "/docs and /openapi.json are public: they describe the routes, and hold no data"))
    return result


async def _upgrade(place: Deployment) -> list[Finding]:
    """Compares a WebSocket's handshake with the same request without one: a proxy that strips it makes them alike."""
    try:
        shake = await _in_time(place.get("/api/audio", {**WEBSOCKET, "origin": place.origin, **place.headers}))
    except TimeoutError:
        return [Finding("warn", "a WebSocket's handshake is not answered", f"Is it held back?{place.line('buffers')}")]
    plain = await _in_time(place.get("/api/audio", place.headers))
    if shake.status_code in (101, 401, 403) and shake.status_code != plain.status_code:
        return [Finding("ok", f"a WebSocket reaches the audio lane ({shake.status_code})")]
    if shake.status_code in (502, 504):
        return [Finding("FAIL", f"the audio lane is not there ({shake.status_code})", "Does its unit run?")]
    advice = f"Pass `Upgrade` and `Connection` on by HTTP/1.1, if there is audio.{place.line('strips the upgrade')}"
    return [Finding("warn", f"a WebSocket's handshake is answered {shake.status_code}, as if it were none", advice)]


async def _no_key() -> list[Finding]:
    return [Finding("skip", "streams: to read one takes a key", "Give a key or token with --key.")]


async def _cursor(place: Deployment) -> list[Finding]:
    """Sends a cursor that is none, and sees whether the gateway was told."""
    hello = await _hello(place, {"last-event-id": NO_CURSOR})
    if isinstance(hello, Finding):
        return [hello]
    if hello.recovered:
        advice = f"Pass it on: every reconnect loses what came meanwhile.{place.line('strips the cursor')}"
        return [Finding("FAIL", "Last-Event-ID does not reach the gateway", advice)]
    return [Finding("ok", "Last-Event-ID reaches the gateway")]


async def _hello(place: Deployment, headers: dict[str, str]) -> HelloFacts | Finding:
    """Returns what a stream says first, or what is wrong with that."""
    try:
        async with asyncio.timeout(FIRST_BYTES_S), place.stream(headers) as answer:
            if answer.status_code != 200:
                return Finding("FAIL", f"a stream is refused with {answer.status_code}", "Is the key right?")
            if coding := answer.headers.get("content-encoding"):
                advice = f"Leave event streams as they are.{place.line('compresses')}"
                return Finding("FAIL", f"event streams are compressed ({coding}), so they come late", advice)
            async for line in answer.aiter_lines():
                if line.startswith("event: ") and line != "event: hello":
                    return Finding("FAIL", f"a stream begins with `{line}`: this process drains, or is full")
                if line.startswith("data: "):
                    return msgspec.json.decode(line.removeprefix("data: "), type=HelloFacts)
    except TimeoutError:
        pass
    text = f"the first event of a stream is not there after {FIRST_BYTES_S:g} s: it is buffered"
    return Finding("FAIL", text, f"Send on at once what comes.{place.line('buffers')}")


async def _pace(place: Deployment) -> list[Finding]:
    """Reads a silent stream until its first ping."""
    hello = await _hello(place, {})
    if isinstance(hello, Finding):
        return []  # it was told already
    began, wait_s = time.monotonic(), hello.ping * 1.1 + GRACE_S
    try:
        async with asyncio.timeout(wait_s), place.stream({}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith(": ping"):
                    return [
                        Finding("ok", f"a silent stream stays open, with a ping after {time.monotonic() - began:.0f} s")
                    ]
    except TimeoutError:
        advice = f"Something holds small pieces back.{place.line('buffers')}"
        return [Finding("FAIL", f"no ping came within {wait_s:.0f} s", advice)]
    except httpx2.HTTPError:
        pass
    lasted_s = time.monotonic() - began
    advice = f"Make its timeout longer than {hello.ping:g} s (TRILANE_PING_S), four times is good.{place.line('cuts')}"
    return [Finding("FAIL", f"a silent stream is cut after {lasted_s:.0f} s, before the ping", advice)]


async def _chat(place: Deployment) -> list[Finding]:
    """Asks the model for a few words."""
    began, first_s, text = time.monotonic(), 0.0, b""
    async for data in place.ask("Say hello."):
        text += data
        if not first_s and b'"text-delta"' in text:
            first_s = time.monotonic() - began
    if b"data: [DONE]" not in text or b'"type":"error"' in text:
        return [Finding("FAIL", f"an answer did not come to its end: {text[-200:].decode(errors='replace')!r}")]
    return [
        Finding(
            "ok",
            f"a model answers: the first token after {first_s:.1f} s, the end after {time.monotonic() - began:.1f} s",
        )
    ]
