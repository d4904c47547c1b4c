"""Bounds what a connection may leave in the air, the time and size of a request's head, the pace of its body, and where
a request ends.

uvicorn waits for ever for a request that comes in part, or not at all, and keeps all of its head, however large it
grows. Each such connection holds a file descriptor, and when they run out nobody can connect any more. So here a
connection has HEAD_S for a head, a body must keep up MIN_BYTES_PER_S, and the last KEPT_DESCRIPTORS are left to the
log and to upstreams. Only a client's own delay counts: not the time in which nothing is read from it.

Of a request whose end a proxy may see elsewhere than we, the rest would be taken for another request, of somebody else
(RFC 9112 §11.2). The parser refuses most of them; here are those that it takes.
"""

import asyncio
import re
import resource
import sys
import time
from functools import cache
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import BadRequest, TrilaneError, problem
from gateway.serving.addresses import AddressCounts

HEAD_S = 10.0
"""Seconds from the beginning of a connection, or from the first byte of a further request, until its head is there."""
MAX_HEAD_BYTES = 65_536
"""Maximum bytes of a request's head that came in parts; in one piece it is at most what is read at once (256 KiB)."""
LOOK_S = 10.0
"""Seconds between two looks at a body that is on its way."""
MIN_BYTES_PER_S = 256
"""Minimum pace of a body from one look to the next: the slowest telephone network carries ten times that."""
MAX_FRAMING_BYTES = 16_384
"""Maximum bytes around the chunks of a body, extensions and trailers, beyond as many as the chunks hold themselves."""
CHUNK_LINES_BYTES = 16
"""Bytes granted around each chunk, for its size and two line breaks."""
OTHER_PROTOCOLS = (b" RTSP/", b" ICE/")
"""What the parser reads in a first line as if it were HTTP, and does not tell apart."""
MAX_LOOKS = 16
"""Heads of one read in which other protocols are looked for; more are refused, where some is named in it."""
KEPT_DESCRIPTORS = 100
"""File descriptors that no connection of a client gets."""
LINGER_S = 1.0
"""Seconds for which a client that is refused may still send."""
WARNING_S = 10.0
"""Seconds between two warnings that connections are turned away."""

NOTHING = memoryview(b"")
HEAD_END = b"\r\n\r\n"

log = structlog.get_logger("server")


class _Nowhere(list[Any]):
    """Takes the trailers of a body, which nobody reads, and keeps nothing."""

    def append(self, _: Any) -> None:
        pass


class ArrivalProtocol(HttpToolsProtocol):
    """The protocol of a connection that is bounded while a request arrives."""

    addresses: AddressCounts | None = None
    """The connections of each address, where they are limited."""
    current: RequestResponseCycle | None = None
    """The request that was started last; uvicorn's `cycle` is the one whose head was read last."""
    refused: ClassVar[dict[str, int]] = dict.fromkeys(
        ("no_descriptors", "head_too_large", "too_slow", "bad_request"), 0
    )
    """Number of connections of this process that were ended before their request had come, by the reason."""
    _next_warning_s = 0.0

    _is_whole = False
    """Whether all of a request is there, and nothing of the next."""
    _is_in_head = True
    _has_first_byte = False
    """Whether the head that is waited for has begun."""
    _bytes = 0.0
    """Bytes of the head so far, or of the body since the last look, and what is granted to it."""
    _framing_bytes = 0
    """Bytes of the body so far that are not of its content, beyond what is granted to it."""
    _head: bytearray | None = None
    """The beginning of a head that did not come whole, up to its first field."""
    _named: tuple[bytes, ...] | None = None
    """Those of OTHER_PROTOCOLS that what is being parsed names anywhere; None until they are looked for."""
    _looks = 0
    """Heads in what is being parsed whose first line was looked for among those."""
    _has_begun = False
    """Whether a request began in the last read, which then does not count: it may hold the end of another."""
    _is_refused = False
    _being_parsed = NOTHING
    """What was read, while it is parsed."""
    _unparsed: memoryview | None = None
    """The part of it behind a request that is read anew."""
    _fault = ""
    """What is wrong with a request that the parser would take; empty for one that is right."""
    _arrival_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - as uvicorn's own
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= max_descriptor():
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._turn_away("no file descriptors left: raise the limit (ulimit -n)", limit=limit)
        elif self.addresses is not None and self.client and not self.addresses.admits(self.client[0], transport):
            self._turn_away("an address has as many connections as it may", address=self.client[0])
        else:
            self._wait(HEAD_S)

    def _turn_away(self, reason: str, **facts: object) -> None:
        """Closes without an answer, so that a browser's EventSource tries again: a status would be the end of it."""
        self.refused["no_descriptors"] += 1
        now = time.monotonic()
        if now >= ArrivalProtocol._next_warning_s:
            ArrivalProtocol._next_warning_s = now + WARNING_S
            log.warning("new connections are turned away", reason=reason, connections=len(self.connections), **facts)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        has_head_end = HEAD_END in data
        is_one_head = (self._is_in_head or self._is_whole) and not has_head_end
        end = data.find(HEAD_END) + len(HEAD_END) if self._is_in_head and has_head_end else len(data)
        self._parse(memoryview(data)[:end])
        if end < len(data) and not self._is_refused and self.transport.get_protocol() is self:
            self._parse(memoryview(data)[end:])  # by itself: what comes of a body is counted
        size = len(self._being_parsed)
        self._being_parsed = NOTHING
        if self._is_whole and not self.is_idle:
            self.stop_waiting()
        elif self.transport.get_protocol() is not self:
            return  # it speaks WebSocket now
        elif self._is_whole:  # behind an answer, and no request: line breaks, or the end of a body that nobody read
            self._is_in_head, self._has_first_byte, self._is_whole, self._bytes = True, False, False, 0
            self._take_note(0)
        else:
            is_counted = not self._has_begun or (is_one_head and self._is_in_head)
            self._take_note(size if is_counted else 0)

    def _parse(self, data: memoryview) -> None:
        self._has_begun, self._named, self._looks = False, None, 0
        self._unparsed = data
        while self._unparsed is not None and not self._is_refused:
            self._being_parsed, self._unparsed = self._unparsed, None
            super().data_received(self._being_parsed)  # pyright: ignore[reportArgumentType] - the parser takes any buffer
        if self._is_in_head and self._has_first_byte and not self.headers:
            self._head = self._head or bytearray()
            self._head += data

    @property
    def is_idle(self) -> bool:
        """Returns whether no request is being answered; one may be under way."""
        return self.current is None or self.cycle.response_complete

    def _take_note(self, size: int) -> None:
        """Counts what came of a request that is not whole yet."""
        self._bytes += size
        self._framing_bytes = max(0, self._framing_bytes + size)
        if self._is_in_head and self._bytes > MAX_HEAD_BYTES:
            detail = f"the head of this request is larger than {MAX_HEAD_BYTES} bytes"
            self._refuse(BadRequest(detail, status=431, code="head_too_large"))
        elif not self._is_in_head and self._framing_bytes > MAX_FRAMING_BYTES:
            detail = f"the extensions and trailers of this body are more than {MAX_FRAMING_BYTES} bytes"
            self._refuse(BadRequest(f"{detail} beyond its content: leave them out"))
        elif self._arrival_timer is None and self._is_in_head:
            self._wait(HEAD_S)
        elif self._arrival_timer is None:
            self._bytes += MIN_BYTES_PER_S * LOOK_S if self.cycle.waiting_for_100_continue else 0
            self._wait(LOOK_S)

    def _wait(self, seconds: float) -> None:
        self._arrival_timer = self.loop.call_later(seconds, self._look, seconds)

    def stop_waiting(self) -> None:
        """Bounds no longer what was on its way."""
        self._bytes = 0
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
            self._arrival_timer = None

    def _look(self, seconds: float) -> None:
        """Ends a connection whose client is late; one that answers, or reads nothing just now, is looked at later."""
        self._arrival_timer = None
        if self.transport.is_closing():
            return
        is_answering = self.current is not None and not self.current.response_complete
        is_for_later = is_answering and (self._is_in_head or self.current is not self.cycle)
        is_unasked = not self._is_in_head and self.cycle.waiting_for_100_continue
        if self.flow.read_paused or is_for_later or is_unasked:
            self._bytes = 0 if self._is_in_head else MIN_BYTES_PER_S * seconds  # so that the next look is not the last
            self._wait(seconds)
        elif self._is_in_head and not self._has_first_byte:
            self.transport.close()  # without a word, which would be taken for the answer to a request just sent
        elif not self._is_in_head and self.is_idle:
            self.transport.close()  # the end of a body that was answered already: more words would answer the next one
        elif self._is_in_head:
            self._refuse(BadRequest(f"no request came within {HEAD_S:g} s", status=408, code="too_slow"))
        elif self._bytes < MIN_BYTES_PER_S * seconds:
            detail = f"the body comes too slowly: {self._bytes:.0f} bytes in {seconds:g} s"
            self._refuse(BadRequest(detail, status=408, code="too_slow"))
        else:
            self._bytes = 0
            self._wait(seconds)

    def _refuse(self, error: TrilaneError) -> None:
        """Says why and closes, unless an answer has begun, which is cut.

        What the client still sends is thrown away for a moment: else the system resets the connection, and the client
        loses what it was told.
        """
        self.stop_waiting()
        self.refused[error.code] += 1
        if self.is_idle or self.current is not self.cycle or not self.cycle.response_started:
            status, body, headers = problem(error, "")
            fields = {**headers, "content-type": "application/problem+json", "content-length": str(len(body))}
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *[f"{name}: {fields[name]}" for name in fields]]
            self.transport.write("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)
            if self.transport.can_write_eof():
                self._is_refused = True
                self.transport.write_eof()
                if not self.is_idle:  # the application is told, and what it still says goes nowhere
                    self.cycle.disconnected = True
                    self.cycle.message_event.set()
                self.flow.resume_reading()
                self.loop.call_later(LINGER_S, self.transport.close)
                return
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest(self._fault or f"this is no HTTP request: {msg}"))

    def _unsupported_upgrade_warning(self) -> None:
        """Reads a request anew that would speak another protocol, as if it did not ask (RFC 9110 §7.8).

        The parser ends such a request with its head, and would read its body as the next request. Clients that would
        rather speak HTTP/2 ask with every one.
        """
        error, parser = sys.exception(), self.parser
        assert isinstance(error, httptools.HttpParserUpgrade)
        assert parser is not None
        behind = self._being_parsed[error.args[0] :]
        fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        first_line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), self.url, parser.get_http_version().encode())
        super().data_received(b"".join([first_line, *fields, b"\r\n"]))
        self._unparsed = behind or None

    # Called by the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head, self._has_first_byte, self._is_whole = True, True, False
        self._has_begun, self._bytes = True, 0

    def on_headers_complete(self) -> None:
        self._check_framing()
        if self._is_read_anew:
            return
        super().on_headers_complete()
        self._is_in_head = False
        self._framing_bytes, self._head = 0, None
        self.stop_waiting()
        if self.cycle and self.cycle.scope is self.scope:  # else it becomes a WebSocket
            self.headers = _Nowhere()

    def on_chunk_header(self) -> None:
        self._framing_bytes -= CHUNK_LINES_BYTES

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_read_anew:
            return
        super().on_message_complete()
        self._is_whole = True

    @property
    def _is_read_anew(self) -> bool:
        """Returns whether a request asks for a protocol that is not spoken here."""
        return self.parser is not None and self.parser.should_upgrade() and not self._should_upgrade()

    def _check_framing(self) -> None:
        """Refuses a body in a coding that nobody would undo, versions of which we know nothing, and tunnels.

        Of a target with a fragment proxies disagree which part is its path.
        """
        assert self.parser is not None
        version = self.parser.get_http_version()
        if self._is_of_another_protocol():
            self._fault = "only HTTP is spoken here"
        elif version not in ("1.1", "1.0"):
            self._fault = f"HTTP/{version} is not spoken here: use HTTP/1.1"
        elif self.parser.get_method() == b"CONNECT":
            self._fault = "this is no proxy: CONNECT is not spoken here"
        elif b"#" in self.url:
            self._fault = "the first line has a `#`: send the address without its fragment"
        elif not self.url.startswith(b"/") and not self._names_its_host():
            self._fault = "the first line names another host than `Host` does"
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                self._fault = "a body comes plain or in chunks (`transfer-encoding: chunked`), and in no other coding"
        if self._fault:
            raise httptools.HttpParserError(self._fault)

    def _is_of_another_protocol(self) -> bool:
        """Returns whether the first line names one of OTHER_PROTOCOLS.

        Where several requests came in one read, the same line in the body of another counts, too.
        """
        assert self.parser is not None
        if self._named == ():
            return False
        text = b"%b%b" % (self._head or b"", self._being_parsed)
        self._named = tuple([name for name in OTHER_PROTOCOLS if name in text])
        if not self._named:
            return False
        self._looks += 1
        first_line = b"%b %b" % (self.parser.get_method(), self.url)
        return self._looks > MAX_LOOKS or any(first_line + name in text for name in self._named)

    def _names_its_host(self) -> bool:
        """Returns whether a target that is no path is `*`, or an address whose host is that of the field `Host`."""
        host = next((value for name, value in self.headers if name == b"host"), None)
        _, separator, address = self.url.partition(b"://")
        authority = re.split(rb"[/?#]", address, maxsplit=1)[0]
        return self.url == b"*" or (bool(separator) and host is not None and authority.lower() == host.lower())

    def handle_websocket_upgrade(self) -> None:
        self.stop_waiting()
        super().handle_websocket_upgrade()
        self.parser = None  # pyright: ignore - as uvicorn does where a connection ends: the two hold each other

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.stop_waiting()


@cache
def max_descriptor() -> int:
    """Returns the number that the descriptor of a client's connection must be below: the lowest free one is taken."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - KEPT_DESCRIPTORS, soft // 2) if soft >= 0 else 1 << 30
