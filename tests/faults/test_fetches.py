"""An address that a model's server must not fetch is refused over every route, and nothing else of the chat is lost."""

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.problems import check_problem
from tests.support.sse_client import send, user_message

METADATA = "http://169.254.169.254/latest/meta-data"
PICTURE = "https://example.com/cat.png"


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = serving(tmp_path_factory.mktemp("fetches"), upstream.url)
    try:
        yield server.start()
    finally:
        server.stop()


def shown(chat_id: str, url: str, number: int = 1) -> dict[str, Any]:
    """Returns a request that posts one message, with a picture at an address."""
    message = user_message(f"look {number}", f"m{number}")
    message["parts"].append({"type": "file", "mediaType": "image/png", "url": url})
    return {"id": chat_id, "messages": [message], "trigger": "submit-message"}


def test_a_chat_takes_no_such_picture_and_goes_on(gateway: Gateway) -> None:
    with httpx2.Client(base_url=gateway.url) as http:
        check_problem(http.post("/api/chat", json=shown("c1", METADATA)), 400, "address_refused", METADATA)
        assert http.get("/api/chat/c1").status_code == 404
        for number, url in enumerate((PICTURE, "data:image/png;base64,AA=="), 1):
            assert send(gateway.url, shown("c1", url, number))[1].done
        check_problem(http.post("/api/chat", json=shown("c1", "file:///etc/passwd", 3)), 400)
        messages = http.get("/api/chat/c1").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2


def test_a_completion_takes_no_such_picture(gateway: Gateway) -> None:
    def ask(url: str, *, stream: bool) -> Any:
        content: Any = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
        messages: Any = [{"role": "user", "content": content}]
        return client.chat.completions.create(model="ok", messages=messages, stream=stream)

    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0) as client:
        for stream in (True, False):
            with pytest.raises(openai.BadRequestError, match=r"169\.254\.169\.254") as error:
                ask(METADATA, stream=stream)
            assert error.value.code == "address_refused"
        assert ask(PICTURE, stream=False).choices[0].message.content


def test_what_was_taken_once_stays_in_its_chat(upstream: UpstreamThread, tmp_path: Path) -> None:
    """An operator who allows less from now on takes nobody's chat away."""
    generous = serving(tmp_path, upstream.url, TRILANE_ALLOWED_FETCHES="https,http://169.254.169.254/latest/")
    try:
        assert send(generous.start().url, shown("old", METADATA))[1].done
    finally:
        generous.stop()
    strict = serving(tmp_path, upstream.url)
    try:
        url = strict.start().url
        assert send(url, shown("old", PICTURE, 2))[1].done
        check_problem(httpx2.post(f"{url}/api/chat", json=shown("old", METADATA, 3)), 400, "address_refused")
    finally:
        strict.stop()
