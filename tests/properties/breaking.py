"""Breaks what is good, and sends it to a gateway that takes tokens."""

import base64
import hmac
import json
import os
from hashlib import sha256
from typing import Any

import httpx2
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.conftest import Gateway, eventually

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))
"""Requests made up for each operation."""
LATER = 4_000_000_000
SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"


def fuzz(times: int) -> settings:
    return settings(
        max_examples=times * EXAMPLES,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def token(sub: str = "ann") -> str:
    return signed({"alg": "HS256"}, {"sub": sub, "exp": LATER})


def signed(header: Any, claims: Any) -> str:
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.digest(SECRET.encode(), text.encode(), sha256))}"


def part(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def auth() -> dict[str, str]:
    return {"authorization": f"Bearer {token()}"}


@st.composite
def broken(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Draws a sample with a few places changed, more often near its beginning."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, min(len(data), 120)) | st.integers(0, len(data)))
        size = draw(st.sampled_from([1, 2, 4, 8, 64]))
        match draw(st.sampled_from(["set", "put", "drop", "end", "extreme", "again"])):
            case "set":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "put":
                data[at:at] = draw(st.binary(max_size=64))
            case "drop":
                del data[at : at + size]
            case "end":
                del data[at:]
            case "extreme":
                data[at : at + size] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"])) * size
            case _:
                data[at:at] = data[max(0, at - 200) : at]
    return bytes(data)


def talk(place: Gateway, path: str, sent: list[str | bytes], end: str = "") -> int:
    """Sends messages and reads until the gateway closes, or has nothing more to say; returns its code."""
    url = f"ws://127.0.0.1:{place.port}{path}"
    with connect(url, additional_headers=auth(), compression=None, open_timeout=20) as client:
        try:
            for message in sent:
                client.send(message)
            if end:
                client.send(end)
            while True:
                client.recv(20 if end else 0.05)
        except TimeoutError:
            return 1000
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006


def upload(place: Gateway, data: bytes) -> None:
    with httpx2.Client(base_url=place.url, timeout=60, verify=False) as client:
        send(client, "POST", "/v1/audio/transcriptions", headers=auth(), files={"file": ("a", data)})


def send(client: httpx2.Client, method: str, path: str, **parts: Any) -> None:
    """Sends one request, reads the beginning of its answer, and checks that it is one of ours."""
    try:
        with client.stream(method, path, **parts) as answer:
            begun = next(answer.iter_raw(), b"")
    except (httpx2.LocalProtocolError, httpx2.InvalidURL, UnicodeEncodeError):
        return  # no client can send it
    assert answer.status_code < 500 or answer.status_code in (502, 503, 504), (method, path, parts, begun)
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/problem+json", (method, path, parts, begun)


def check_at_rest(place: Gateway, tasks: float, descriptors: int) -> None:
    for gauge in ("trilane_chat_open_runs", "trilane_gateway_open_streams"):
        eventually(lambda gauge=gauge: place.gauge(gauge) == 0, 20, f"{gauge} is 0")
    eventually(lambda: place.gauge("trilane_gateway_tasks") <= tasks, 20, "no task is left")
    eventually(lambda: place.fds() <= descriptors + 4, 20, f"descriptors: {descriptors} before, {place.fds()} now")
    assert "Traceback" not in place.stderr(), place.stderr()[-3000:]
    assert "request failed" not in place.stderr(), place.stderr()[-3000:]
