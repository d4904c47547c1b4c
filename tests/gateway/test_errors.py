"""The tree of errors has one table of what a client sees of each."""

import importlib
from pathlib import Path

import msgspec
import pytest

from gateway.errors import (
    CLOSE_OF_CODE,
    TABLE,
    BadRequest,
    CloseCode,
    Gone,
    LogConflict,
    Overloaded,
    TooLarge,
    TrilaneError,
    Unauthorized,
    UpstreamError,
    UpstreamRefused,
    close_code,
    problem,
)


def tree(root: type[TrilaneError]) -> list[type[TrilaneError]]:
    return [root, *(error for child in root.__subclasses__() for error in tree(child))]


def new_error(kind: type[TrilaneError]) -> TrilaneError:
    return LogConflict("t", 1, 2) if kind is LogConflict else kind()


def document(error: TrilaneError, request_id: str = "r") -> dict[str, object]:
    return msgspec.json.decode(problem(error, request_id)[1])


def headers(error: TrilaneError) -> dict[str, str]:
    return problem(error, "r")[2]


def test_every_class_has_its_row() -> None:
    for module in ("gateway.units", "gateway.cli", "gateway.chat.upstreams.embedded", "routes.chat", "routes.openai"):
        importlib.import_module(module)
    assert set(tree(TrilaneError)) == set(TABLE)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_a_row_can_be_shown(kind: type[TrilaneError]) -> None:
    row = TABLE[kind]
    assert 400 <= row.status < 600
    assert row.title
    assert row.code == row.code.lower().replace(" ", "_")
    assert row.ws_close is CloseCode(row.ws_close)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_every_class_is_a_problem_document(kind: type[TrilaneError]) -> None:
    error, row = new_error(kind), TABLE[kind]
    status, _, _ = problem(error, "req-1")
    fields = document(error, "req-1")
    assert status == fields["status"] == row.status
    assert (fields["title"], fields["code"], fields["retryable"]) == (row.title, row.code, row.retryable)
    assert (fields["type"], fields["request_id"]) == ("about:blank", "req-1")
    assert fields["detail"]


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.__name__)
def test_an_error_without_a_detail_says_its_docstring(kind: type[TrilaneError]) -> None:
    if kind is not LogConflict:
        assert kind().detail == (kind.__doc__ or "").strip() == str(kind())


@pytest.mark.parametrize("kind", [kind for kind in TABLE if TABLE[kind].ws_close >= 4500], ids=lambda k: k.__name__)
def test_a_socket_is_told_to_stay_away_only_when_it_is_no_use_to_come_back(kind: type[TrilaneError]) -> None:
    """It is also told so when the newer connection of the same session is the one to keep."""
    assert not TABLE[kind].retryable or kind is LogConflict


def test_a_close_code_is_one_that_an_application_may_send() -> None:
    """RFC 6455 keeps 1006 for a connection that is lost, and leaves 4000 to 4999 to applications."""
    codes = set(CloseCode) - {CloseCode.CONNECTION_LOST}
    assert codes <= {1000, 1008, 1009, 1011, 1012, 1013} | set(range(4000, 5000))


@pytest.mark.parametrize(("code", "close"), CLOSE_OF_CODE.items())
def test_some_errors_close_a_socket_with_a_code_of_their_own(code: str, close: CloseCode) -> None:
    assert close_code(BadRequest("no", code=code)) is close
    assert close_code(TooLarge("no", code=code)) is close


def test_any_other_error_closes_a_socket_as_its_class_does() -> None:
    assert close_code(BadRequest("no", code="bad_start")) is CloseCode.BAD_REQUEST
    assert close_code(TooLarge("a frame")) is CloseCode.TOO_LARGE
    assert close_code(Overloaded("full")) is CloseCode.TRY_LATER


def test_an_error_may_be_more_exact_than_its_row() -> None:
    error = BadRequest("no", code="bad_body", status=422, retryable=True)
    fields = document(error)
    assert (fields["status"], fields["code"], fields["retryable"], fields["detail"]) == (422, "bad_body", True, "no")
    assert fields["title"] == TABLE[BadRequest].title


def test_an_error_may_say_that_it_is_not_retryable() -> None:
    assert document(UpstreamError("no", retryable=False))["retryable"] is False


def test_an_error_may_carry_more_fields() -> None:
    fields = document(Gone("old", extra={"snapshot": "/api/chat/c"}))
    assert fields["snapshot"] == "/api/chat/c"


def test_a_conflict_says_what_was_expected_and_what_is() -> None:
    fields = document(LogConflict("t", 3, 5))
    assert (fields["expected"], fields["actual"]) == (3, 5)
    assert "next offset 5, not 3" in str(fields["detail"])


def test_a_conflict_with_a_closed_topic_says_so() -> None:
    error = LogConflict("t", None, 5, closed=True)
    assert error.closed
    assert "is closed" in error.detail


def test_full_and_unavailable_say_when_to_come_back() -> None:
    assert headers(Overloaded())["retry-after"] == "2"
    assert headers(Overloaded(retry_after="9"))["retry-after"] == "9"
    assert headers(UpstreamRefused(status=429, retry_after="7"))["retry-after"] == "7"


def test_too_many_requests_always_says_when_to_come_back() -> None:
    assert headers(UpstreamRefused(status=429))["retry-after"]


def test_other_errors_do_not_say_when_to_come_back() -> None:
    assert "retry-after" not in headers(BadRequest())


def test_a_caller_that_is_not_signed_in_is_told_how() -> None:
    assert headers(Unauthorized())["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in headers(BadRequest())


@pytest.mark.parametrize("text", ["\n", "\r\nset-cookie: a=b", "\0", '"', "\u00fc", "\U0001f600", "\x1b[31m"])
def test_any_detail_stays_inside_its_document(text: str) -> None:
    _, body, fields = problem(BadRequest(f"bad {text}"), text)
    assert msgspec.json.decode(body)["detail"] == f"bad {text}"
    assert b"\n" not in body
    assert not [value for value in fields.values() if text in value]


def test_the_page_knows_the_title_of_what_an_upstream_refused() -> None:
    page = (Path(__file__).parents[2] / "routes/static/problems.js").read_text()
    assert f'"{TABLE[UpstreamRefused].title}"' in page
