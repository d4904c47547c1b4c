"""A damaged page of the log costs one chat a part of itself: it says so, goes on, and no other chat is hurt."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.damage import damage_where
from tests.support.problems import check_problem
from tests.support.sse_client import Frames, read_frames, user_message

PAD = " pad" * 600
"""More than a page: a message with it shares its pages with no other."""
CHATS = ["first", "asked", "ended", "told", "last"]


def say(place: Gateway, chat_id: str, message_id: str, text: str) -> Frames:
    body = {"id": chat_id, "message": user_message(text, message_id)}
    with httpx2.stream("POST", f"{place.url}/api/chat", json=body, timeout=30) as response:
        assert response.status_code == 200, response.read()
        return read_frames(response.iter_lines())


def snapshot(place: Gateway, chat_id: str) -> dict[str, Any]:
    response = httpx2.get(f"{place.url}/api/chat/{chat_id}")
    assert response.status_code == 200, response.text
    return response.json()


def run_of(cursor: str) -> str:
    return cursor.partition(".")[0]


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """The cursor of each chat's first answer."""
    return {}


@pytest.fixture(scope="module")
def place(
    upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory, answers: dict[str, str]
) -> Iterator[Gateway]:
    """Yields a gateway over a log in which parts of two chats are damaged, and of what users are told of runs."""
    server = serving(tmp_path_factory.mktemp("place"), upstream.url)
    try:
        server.start()
        for chat_id in CHATS:
            frames = say(server, chat_id, f"m1-{chat_id}", f"q1-{chat_id}{PAD}")
            answers[chat_id] = frames.events[0][0]
            say(server, chat_id, f"m2-{chat_id}", f"q2-{chat_id}{PAD}")
        server.stop()
        path = server.folder / "trilane.db"
        damage_where(path, b'"text":"q2-asked')
        damage_where(path, f'"runId":"{run_of(answers["ended"])}","chatId"'.encode())
        damage_where(path, f'{{"runId":"{run_of(answers["told"])}","sub"'.encode())
        yield server.start()
    finally:
        server.stop()


@pytest.mark.parametrize("chat_id", ["first", "last"])
def test_other_chats_are_whole(place: Gateway, chat_id: str) -> None:
    chat = snapshot(place, chat_id)
    assert [message["role"] for message in chat["messages"]] == ["user", "assistant"] * 2
    assert "lost" not in chat


def test_a_chat_says_what_is_lost_and_goes_on(place: Gateway) -> None:
    chat = snapshot(place, "asked")
    assert chat["lost"] >= 1
    assert f"q1-asked{PAD}" in str(chat["messages"])
    assert "q2-asked" not in str(chat["messages"])
    assert chat["activeRun"] is None
    frames = say(place, "asked", "m3", "and now?")
    assert [end["type"] for end in frames.terminals] == ["finish"]
    assert snapshot(place, "asked")["messages"][-2]["id"] == "m3"
    assert "the log is damaged" in place.stderr()
    assert 'trilane_log_lost_events_total{reason="damaged"}' in httpx2.get(f"{place.url}/metrics").text


def test_an_answer_that_is_damaged_is_gone_with_the_url_of_what_is_left(
    place: Gateway, answers: dict[str, str]
) -> None:
    run_id, epoch, _ = answers["told"].split(".")
    for _ in range(2):
        response = httpx2.get(f"{place.url}/api/chat/told/stream", headers={"last-event-id": f"{run_id}.{epoch}.0"})
        problem = check_problem(response, 410)
        assert problem["code"] in {"damaged", "unknown_cursor"}  # by what else was on its page
        assert problem["snapshot"] == "/api/chat/told"
    assert snapshot(place, "told")["messages"]


def test_the_others_are_listed_and_a_damaged_one_can_be_deleted(place: Gateway) -> None:
    listed = {chat["id"] for chat in httpx2.get(f"{place.url}/api/chats").json()["chats"]}
    assert listed >= {"first", "asked", "last"}
    assert httpx2.delete(f"{place.url}/api/chat/ended").status_code == 204
    check_problem(httpx2.get(f"{place.url}/api/chat/ended"), 404, "chat_not_found")
    assert [end["type"] for end in say(place, "ended", "m9", "anew").terminals] == ["finish"]
    assert httpx2.get(f"{place.url}/readyz").status_code == 200
