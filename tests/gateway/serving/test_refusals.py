"""Refusals are counted by words of ours; a refused sign-in is logged with its address, never with its credential."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import (
    BadRequest,
    Forbidden,
    TrilaneError,
    Unauthorized,
    UpstreamRefused,
)
from gateway.serving.refusals import MAX_LINES, REFUSALS, WINDOW_S, Refusals, note_refusal

SCOPE: dict[str, Any] = {"client": ("192.0.2.7", 4711), "method": "GET", "path": "/api/chats", "request_id": "r1"}


class RefusalStage:
    def __init__(self) -> None:
        self.now = 0.0
        self.reasons: list[str] = []
        self.refusals = Refusals(self.reasons.append, lambda: self.now)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BadRequest(), "bad_request"),
        (BadRequest(code="bad_cursor"), "bad_cursor"),
        (UpstreamRefused(code="any word at all", status=400), "upstream_refused"),
    ],
)
def test_a_refusal_is_counted_by_a_word_of_ours(error: TrilaneError, reason: str) -> None:
    stage = RefusalStage()
    with capture_logs() as lines:
        note_refusal(error, {**SCOPE, REFUSALS: stage.refusals})
        note_refusal(error, SCOPE)
    assert (stage.reasons, lines) == ([reason], [])


@pytest.mark.parametrize("error", [Unauthorized(), Unauthorized(code="ticket_used"), Forbidden(code="bad_origin")])
def test_a_refused_sign_in_leaves_a_line(error: TrilaneError) -> None:
    with capture_logs() as lines:
        RefusalStage().refusals.note(error, SCOPE)
        RefusalStage().refusals.note(error, {"path": "/api/audio"})
    assert [(line["code"], line["address"], line["method"]) for line in lines] == [
        (error.code, "192.0.2.7", "GET"),
        (error.code, "-", "WEBSOCKET"),
    ]


def test_a_right_that_is_lacking_is_no_sign_in() -> None:
    with capture_logs() as lines:
        RefusalStage().refusals.note(Forbidden(code="topic_forbidden"), SCOPE)
    assert lines == []


def test_lines_about_sign_ins_are_bounded_and_the_rest_is_counted() -> None:
    stage = RefusalStage()
    with capture_logs() as lines:
        for _ in range(MAX_LINES + 30):
            stage.refusals.note(Unauthorized(), SCOPE)
        assert len(lines) == MAX_LINES
        stage.now = WINDOW_S - 0.01
        stage.refusals.note(Unauthorized(), SCOPE)
        assert len(lines) == MAX_LINES
        stage.now = WINDOW_S
        stage.refusals.note(Unauthorized(), SCOPE)
    assert [line["event"] for line in lines[MAX_LINES:]] == [
        "more sign-ins were refused than are logged one by one",
        "a sign-in was refused",
    ]
    assert lines[MAX_LINES]["count"] == 31
    assert len(stage.reasons) == MAX_LINES + 32
