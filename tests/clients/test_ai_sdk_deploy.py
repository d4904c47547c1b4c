"""A process that is told to leave sends the AI SDK's client away in a way that it notices; another one takes over."""

import signal
from collections.abc import Callable

from loadtests.upstream.shapes import words
from tests.clients.ai_sdk import AISDK
from tests.clients.conftest import Open, StoredChat
from tests.conftest import Gateway, UpstreamThread, serving


def test_an_answer_outlives_the_process_that_its_reader_was_on(
    sdk: AISDK,
    gateway: Gateway,
    upstream: UpstreamThread,
    chat_id: str,
    device: Open,
    snapshot: Callable[[], StoredChat],
) -> None:
    leaving = serving(gateway.folder, upstream.url, TRILANE_DRAIN_WINDOW_S="0.2")
    try:
        phone = sdk.open(leaving.start().url, chat_id)
        sending = phone.begin_send("T=60 I=40000")
        phone.until(chars=20)
        leaving.signal(signal.SIGTERM)
        view_before = sending.view()
        assert view_before.status == "error", "a quiet end would pass for a whole answer"
        assert len(view_before.errors) == 1
        assert 0 < len(view_before.answer.text) < len(words(60))
        view = device(view_before.messages).resume()
        assert (view.status, view.answer.text) == ("ready", words(60))
        snapshot().agrees_with(view)
        assert leaving.wait() == 0
        phone.close()
    finally:
        leaving.stop()
