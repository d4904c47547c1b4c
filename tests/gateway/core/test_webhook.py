"""A webhook is signed as the specification has it, and takes nothing but a 2xx for a yes; a real one gets every row."""

import base64
import hmac
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from gateway.core.process import check_webhook
from gateway.core.usage_outbox import DeliveryError
from gateway.core.webhook import UsageWebhook
from gateway.errors import ConfigurationError
from gateway.settings import load
from loadtests.ports import free_port
from tests.conftest import UpstreamThread, eventually, serving
from tests.gateway.test_settings import refusal
from tests.support.sse_client import chat_body, send

KEY = b"\x01" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


class Billing:
    """A receiver that checks signatures as its library would, and answers what a test says."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ids: list[str] = []
        self.faults: list[str] = []
        self.answers: list[int | Callable[[], int]] = []
        """The next statuses, or calls that return one; 200 when there is none."""
        billing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                billing.check(dict(self.headers.items()), body)
                answer = billing.answers.pop(0) if billing.answers else 200
                status = answer if isinstance(answer, int) else answer()
                self.send_response(status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def check(self, headers: dict[str, str], body: bytes) -> None:
        message_id, at, signature = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
        expected = base64.b64encode(hmac.digest(KEY, f"{message_id}.{at}.".encode() + body, "sha256")).decode()
        if signature != f"v1,{expected}" or abs(time.time() - int(at)) > 300:
            self.faults.append(signature)
        self.bodies.append(body)
        self.ids.append(message_id)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/usage"

    def rows(self) -> list[str]:
        return [row["id"] for body in self.bodies for row in msgspec.json.decode(body)["data"]["rows"]]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def billing() -> Iterator[Billing]:
    receiver = Billing()
    yield receiver
    receiver.close()
    assert receiver.faults == []


def post(url: str, body: bytes = b"{}") -> None:
    async def run() -> None:
        webhook = UsageWebhook(url, KEY)
        try:
            await webhook.post(body)
        finally:
            await webhook.aclose()

    anyio.run(run)


def test_id_time_and_body_are_signed() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    webhook = UsageWebhook("http://x", key, lambda: 1614265330)
    headers = webhook.headers(b'{"test": 2432232314}')
    signed = f"{headers['webhook-id']}.1614265330.".encode() + b'{"test": 2432232314}'
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def test_the_same_body_has_the_same_id(billing: Billing) -> None:
    for body in (b"{}", b"{}", b"[]"):
        post(billing.url, body)
    assert len(set(billing.ids)) == 2
    assert billing.bodies == [b"{}", b"{}", b"[]"]


@pytest.mark.parametrize("status", [301, 304, 307, 400, 404, 410, 500, 503])
def test_anything_but_success_is_to_be_sent_again_and_nothing_is_followed(billing: Billing, status: int) -> None:
    billing.answers = [status]
    with pytest.raises(DeliveryError):
        post(billing.url)
    assert len(billing.bodies) == 1


def test_a_receiver_that_is_not_there_is_to_be_asked_again_and_its_address_is_not_said() -> None:
    with pytest.raises(DeliveryError) as error:
        post(f"http://user:secret@127.0.0.1:{free_port()}/token")
    assert "secret" not in str(error.value)
    assert "token" not in str(error.value)


def test_address_and_secret_go_together() -> None:
    for env in ({"TRILANE_USAGE_WEBHOOK_URL": "https://x"}, {"TRILANE_USAGE_WEBHOOK_SECRET": SECRET}):
        with pytest.raises(ConfigurationError, match="go together"):
            check_webhook(load(env))
    check_webhook(load({"TRILANE_USAGE_WEBHOOK_URL": "https://x", "TRILANE_USAGE_WEBHOOK_SECRET": SECRET}))


@pytest.mark.parametrize("secret", ["x" * 40, "whsec_", "whsec_!!!", SECRET[6:], "whsec_AAAA", f"whsec_{'AAAA' * 22}"])
def test_a_weak_secret_is_refused_and_not_repeated(secret: str) -> None:
    said = refusal(TRILANE_USAGE_WEBHOOK_SECRET=secret)
    assert "openssl rand" in said
    assert secret not in said or secret == "whsec_"
    assert "https://" in refusal(TRILANE_USAGE_WEBHOOK_URL="ftp://x")


def test_a_gateway_delivers_past_failures_and_a_kill_between_delivery_and_cursor(
    billing: Billing, upstream: UpstreamThread, tmp_path: Path
) -> None:
    env = {"TRILANE_USAGE_WEBHOOK_URL": billing.url, "TRILANE_USAGE_WEBHOOK_SECRET": SECRET}
    first = serving(tmp_path, upstream.url, **env).start()

    def kill() -> int:
        first.process.kill()  # type: ignore[union-attr]
        return 200

    billing.answers = [500, kill]
    send(first.url, chat_body("one", "T=2 I=0"))
    first.wait()
    second = serving(tmp_path, upstream.url, **env).start()
    try:
        send(second.url, chat_body("two", "T=2 I=0"))
        eventually(lambda: len(set(billing.rows())) == 2, 30, "both rows")
        ids = [row["id"] for row in second.usage()]
        assert list(dict.fromkeys(billing.rows())) == ids
        assert billing.rows().count(ids[0]) >= 3
        assert "secret" not in second.stderr()
        assert SECRET not in second.stderr() + first.stderr()
    finally:
        second.stop()
        first.stop()
