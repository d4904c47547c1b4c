"""A webhook is signed as the specification has it, and takes nothing but a 2xx for a yes; a real one gets every row."""

import base64
import contextlib
import hmac
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from gateway.core.process import check_webhook
from gateway.core.webhook import DeliveryError, Webhook
from gateway.errors import ConfigurationError
from gateway.settings import load
from loadtests.ports import free_port
from tests.conftest import UpstreamThread, eventually, serving
from tests.gateway.test_settings import refusal
from tests.support.hook_receiver import KEY, SECRET, HookReceiver
from tests.support.sse_client import chat_body, send


def rows(billing: HookReceiver) -> list[str]:
    return [row["id"] for message in billing.messages for row in message["data"]["rows"]]


@pytest.fixture
def billing() -> Iterator[HookReceiver]:
    receiver = HookReceiver()
    yield receiver
    receiver.close()
    assert receiver.faults == []


def post(url: str, body: bytes = b"{}") -> None:
    async def run() -> None:
        webhook = Webhook(url, KEY)
        try:
            await webhook.post(body)
        finally:
            await webhook.aclose()

    anyio.run(run)


def test_id_time_and_body_are_signed() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    webhook = Webhook("http://x", key, lambda: 1614265330)
    headers = webhook.headers(b'{"test": 2432232314}')
    signed = f"{headers['webhook-id']}.1614265330.".encode() + b'{"test": 2432232314}'
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"


def test_the_same_body_has_the_same_id(billing: HookReceiver) -> None:
    for body in (b"{}", b"{}", b"[]"):
        post(billing.url, body)
    assert len(set(billing.ids)) == 2
    assert billing.bodies == [b"{}", b"{}", b"[]"]


@pytest.mark.parametrize("status", [301, 304, 307, 400, 404, 410, 500, 503])
def test_anything_but_success_is_to_be_sent_again_and_nothing_is_followed(billing: HookReceiver, status: int) -> None:
    billing.answers = [status]
    with pytest.raises(DeliveryError):
        post(billing.url)
    assert len(billing.bodies) == 1


def test_a_receiver_that_is_not_there_is_to_be_asked_again_and_its_address_is_not_said() -> None:
    with pytest.raises(DeliveryError) as error:
        post(f"http://user:secret@127.0.0.1:{free_port()}/token")
    assert "secret" not in str(error.value)
    assert "token" not in str(error.value)


@pytest.mark.parametrize("name", ["USAGE", "RUN"])
def test_address_and_secret_go_together(name: str) -> None:
    url, secret = f"TRILANE_{name}_WEBHOOK_URL", f"TRILANE_{name}_WEBHOOK_SECRET"
    for env in ({url: "https://x"}, {secret: SECRET}):
        with pytest.raises(ConfigurationError, match=f"{url} and {secret} go together"):
            check_webhook(load(env))
    check_webhook(load({url: "https://x", secret: SECRET}))


@pytest.mark.parametrize("secret", ["x" * 40, "whsec_", "whsec_!!!", SECRET[6:], "whsec_AAAA", f"whsec_{'AAAA' * 22}"])
def test_a_weak_secret_is_refused_and_not_repeated(secret: str) -> None:
    said = refusal(TRILANE_USAGE_WEBHOOK_SECRET=secret)
    assert "openssl rand" in said
    assert secret not in said or secret == "whsec_"
    assert "https://" in refusal(TRILANE_USAGE_WEBHOOK_URL="ftp://x")
    assert "https://" in refusal(TRILANE_RUN_WEBHOOK_URL="ftp://x")


def test_a_receiver_that_drips_its_answer_is_to_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.core.webhook.TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for byte in b"HTTP/1.1 200 OK" * 10:
                    connection.send(bytes([byte]))
                    time.sleep(0.05)

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(DeliveryError):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


def test_a_gateway_delivers_past_failures_and_a_kill_between_delivery_and_cursor(
    billing: HookReceiver, upstream: UpstreamThread, tmp_path: Path
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
        eventually(lambda: len(set(rows(billing))) == 2, 30, "both rows")
        ids = [row["id"] for row in second.usage()]
        assert list(dict.fromkeys(rows(billing))) == ids
        assert rows(billing).count(ids[0]) >= 3
        assert "secret" not in second.stderr()
        assert SECRET not in second.stderr() + first.stderr()
    finally:
        second.stop()
        first.stop()
