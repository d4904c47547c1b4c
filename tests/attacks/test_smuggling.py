"""Request smuggling: nothing is read as a request that a proxy before the gateway may have taken for part of another.

The hidden request stands behind each attack; it would be answered 404, and is only where it is a request to everybody.
"""

import contextlib
import socket
import time

import pytest

from tests.attacks.attacker import HANDSHAKE, QUIET_S, Attacker, head

pytestmark = pytest.mark.quiet

BODY = b'{"route":"/api/events"}'
LENGTH = f"content-length: {len(BODY)}"
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
CHUNKED = "transfer-encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def post(*lines: str) -> bytes:
    return head("POST /api/tickets", *lines)


AMBIGUOUS: dict[str, bytes] = {
    "length and chunks": post(LENGTH, CHUNKED) + CHUNKS,
    "chunks and length": post(CHUNKED, "content-length: 4") + CHUNKS,
    "two lengths": post(LENGTH, "content-length: 5") + BODY,
    "one length twice": post(LENGTH, LENGTH) + BODY,
    "a list of lengths": post(f"content-length: {len(BODY)}, {len(BODY)}") + BODY,
    **{
        f"length {value!r}": post(f"content-length: {value}") + BODY
        for value in ("+23", "-1", "0x17", "2 3", "23.0", "1e1", "2_3", "23;", "", "9" * 23, "\xb2\xb3")
    },
    **{
        f"coding {value!r}": post(f"transfer-encoding: {value}") + CHUNKS
        for value in (
            *("chunked, identity", "identity", "xchunked", "chunked\x0b", "\x0bchunked", "gzip, chunked"),
            *("identity, chunked", "chunked, chunked", ",chunked", "chunked,", "chunked;q=1", '"chunked"', "", "\x00"),
        )
    },
    **{
        f"length and coding {value!r}": post(LENGTH, f"transfer-encoding: {value}") + BODY
        for value in ("chunked", "CHUNKED", "identity", "x", "chunked\x0b", "")
    },
    **{
        f"line {line!r}": post(LENGTH, line) + BODY
        for line in (
            *("transfer-encoding : chunked", " transfer-encoding: chunked", "transfer-encoding\t: chunked"),
            *("transfer-encoding:\r\n chunked", "x: y\ntransfer-encoding: chunked", "x: y\rtransfer-encoding: chunked"),
            *("x:\r\n folded", "x: y\r\n\tfolded", "x\0y: z", "x: \0", "x: \x01", "x: \x7f", ": empty", "no colon"),
            *("x y: z", "x(y): z", "\xffx: y", "x: y\n"),
        )
    },
    **{
        f"chunk {chunk[:12]!r}": post(CHUNKED) + chunk + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
        for chunk in (
            *(b"0x17", b"+17", b"-1", b"17 ", b" 17", b"", b"f" * 18, b"1_7", b"17;\n", b"17;a\rb", b"17;\0"),
            *(b'17;a="b\r\n"', b"17\n", b"17\r"),
        )
    },
    "a chunk that is longer than it says": post(CHUNKED) + b"17\r\n" + BODY + b"XX\r\n0\r\n\r\n",
    "chunks that end with bare LF": post(CHUNKED) + b"17\n" + BODY + b"\n0\n\n",
    "a trailer that is folded": post(CHUNKED) + b"17\r\n" + BODY + b"\r\n0\r\n x\r\n\r\n",
    "a trailer that is a length": post(CHUNKED) + CHUNKS.removesuffix(b"\r\n") + b"content-length: 5\r\n\r\n",
    "two targets": b"GET /healthz /hidden HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "a tab for a space": b"GET\t/healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "NUL in the target": b"GET /healthz\0 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
    "another version": b"GET /healthz HTTP/2.0\r\nhost: 127.0.0.1\r\n\r\n",
    "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    **{
        f"{line!r}": f"{line}\r\nhost: 127.0.0.1\r\n\r\n".encode()
        for line in (
            *("GET /healthz RTSP/1.0", "GET /healthz RTSP/1.1", "POST /healthz RTSP/1.0", "OPTIONS * RTSP/1.0"),
            *("DESCRIBE /healthz RTSP/1.0", "GET /healthz ICE/1.0", "SOURCE /healthz ICE/1.0", "\r\nGET / RTSP/1.0"),
            *("GET /healthz http/1.1", "GET /healthz HTTP/0.9", "GET /healthz HTTPS/1.1", "GET /healthz SIP/2.0"),
            *("GET /healthz HTTP/1.1.1", "GET /healthz HTTP/11", "GET /healthz HTTP/1.2", "GET /healthz#a HTTP/1.1"),
        )
    },
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: 127.0.0.1:22\r\n\r\n",
    "a socket with a body": head("GET /api/audio", *HANDSHAKE, "content-length: 50") + BODY,
    "a socket by POST": head("POST /api/audio", *HANDSHAKE, LENGTH) + BODY,
    "a socket of another version": head("GET /api/audio", *HANDSHAKE[:2], "sec-websocket-version: 7", HANDSHAKE[3]),
}


def test_request_smuggling_ends_the_connection_before_the_hidden_request(attacker: Attacker) -> None:
    answered: dict[str, object] = {}
    for name, request in AMBIGUOUS.items():
        statuses, answer, was_closed = attacker.exchange(request + HIDDEN, quiet_s=1)
        is_socket = statuses == [101]
        if not (was_closed or is_socket) or statuses not in ([400], [426], [101]) or b"/hidden" in answer:
            answered[name] = statuses, was_closed, answer[-200:]
    assert not answered


PLAIN: dict[str, bytes] = {
    "a length": post(LENGTH) + BODY,
    "chunks": post("Transfer-Encoding: Chunked") + CHUNKS,
    "an extension of a chunk": post(CHUNKED) + CHUNKS.replace(b"\r\n", b";a=b\r\n", 1),
    "a trailer": post(CHUNKED) + CHUNKS.removesuffix(b"\r\n") + b"x: y\r\nhost: b\r\n\r\n",
    "a field that is only like one": post(LENGTH, "transfer_encoding: chunked") + BODY,
    "HTTP/2 instead": post(LENGTH, "connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AA") + BODY,
    "HTTP/2 instead, in chunks": post(CHUNKED, "connection: upgrade", "upgrade: h2c") + CHUNKS,
    "another protocol": post(LENGTH, "connection: upgrade", "upgrade: foo/2") + BODY,
    "a socket that is not asked for": post(LENGTH, "upgrade: websocket") + BODY,
}


def test_a_plain_request_is_answered_and_the_next_one_after_it(attacker: Attacker) -> None:
    for name, request in PLAIN.items():
        for cut in (len(request), len(request) - len(BODY) // 2, request.index(b"\r\n\r\n") + 4):
            got = attacker.exchange(request[:cut], request[cut:] + HIDDEN)
            assert got.statuses == [200, 404], (name, cut, got)


def test_a_request_hidden_in_the_body_of_another_protocols_is_none(attacker: Attacker) -> None:
    """A proxy that passes `Upgrade` on sees one request with a body: read apart, it would be two of two people."""
    for upgrade in ("h2c", "foo", "websocket, h2c", "WebSocket2"):
        lines = f"content-length: {len(HIDDEN)}", "connection: upgrade", f"upgrade: {upgrade}"
        got = attacker.exchange(head("POST /api/tickets", *lines), HIDDEN)
        assert got.statuses == [400], (upgrade, got)
        assert b"bad_body" in got.answer


def test_four_thousand_upgrades_in_one_read_are_four_thousand_requests(attacker: Attacker) -> None:
    one = b"GET /x HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: y\r\nconnection: upgrade\r\n\r\n"
    assert attacker.exchange(one * 3000, quiet_s=2).statuses == [404] * 3000


def test_a_protocol_that_is_only_like_http_is_refused_wherever_its_name_stands(attacker: Attacker) -> None:
    line = b"GET /healthz RTSP/1.0\r\nhost: a\r\n\r\n"
    for cut in range(1, len(line)):
        assert attacker.exchange(line[:cut], line[cut:]).statuses == [400], cut
    for first in (head("GET /healthz"), post(LENGTH) + BODY, post(CHUNKED) + CHUNKS, head("GET /healthz") * 40):
        assert attacker.exchange(first + line).statuses[-1] == 400
        assert attacker.exchange(first, line).statuses[-1] == 400
    harmless = b"GET /x RTSP/1.0\r\nPOST /api/ticket RTSP/1.0\r\n"
    got = attacker.exchange(post(f"content-length: {len(harmless)}") + harmless + head("GET /healthz"))
    assert got.statuses == [400, 200], "a body may speak of it"
    assert b"bad_body" in got.answer


ENDLESS: dict[str, bytes] = {
    "an extension": b"17;a=" + b"b" * 100_000,
    "extensions": b"17" + b";a=b" * 25_000,
    "a quoted extension": b'17;a="' + b"b" * 100_000,
    "the size of a chunk": b"0" * 100_000,
    "a trailer's name": b"0\r\n" + b"a" * 100_000,
    "a trailer": b"0\r\na: " + b"b" * 100_000,
    "trailers": b"0\r\n" + b"a: b\r\n" * 20_000,
    "an extension to each byte": (b"1;" + b"a" * 200 + b"\r\n \r\n") * 500,
}


def test_what_stands_around_a_body_is_bounded(attacker: Attacker) -> None:
    for name, endless in ENDLESS.items():
        for path in ("/api/tickets", "/api/chat", "/nothing"):
            began = time.monotonic()
            got = attacker.exchange(head(f"POST {path}", CHUNKED), endless[:100], endless[100:])
            assert got.statuses[-1] == 400, (name, path, got)
            assert got.was_closed, (name, path)
            assert time.monotonic() - began < 5, name


def test_pipelining_over_a_stream_waits_for_its_end(attacker: Attacker) -> None:
    """Whatever is sent while an event stream is open, it is no part of it, and ends nothing but this connection."""
    for more in (HIDDEN, b"\r\n0\r\n\r\n", b"data: forged\n\n", HIDDEN[:20], b"\0" * 70_000):
        with attacker.connect() as client:
            client.sendall(head("GET /api/events?topic=a"))
            answer = b""
            while b"event: hello" not in answer:
                answer += client.recv(65_536)
            client.sendall(more)
            late = read_until_quiet(client)
        assert b"forged" not in late
        assert b"HTTP/1.1" not in late


def read_until_quiet(client: socket.socket) -> bytes:
    client.settimeout(QUIET_S)
    output = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := client.recv(65_536):
            output += piece
    return output


def test_a_socket_behind_a_request_that_is_answered_harms_nobody(attacker: Attacker) -> None:
    slow = b'{"messages":[{"role":"user","content":"T=5 I=20000 B=ok"}]}'
    request = head("POST /v1/chat/completions", f"content-length: {len(slow)}") + slow
    attacker.exchange(request + head("GET /api/audio", *HANDSHAKE), quiet_s=0.5)
