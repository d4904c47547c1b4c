"""A log line is one line, whatever a client wrote into it, and says which request it is about."""

import io
import json
import logging
from typing import Any

import pytest
import structlog

from gateway.core.logs import printable, processors_for
from gateway.core.request_context import CURRENT, NO_REQUEST, context_of

EVIL = "a\r\n2026-01-01T00:00:00Z [error    ] the log has failed\x1b[2J\x1b]0;title\x07\x9b31m\u2028\u202e\x00"
UNSAFE = ("\r", "\n", "\x1b", "\x9b", "\u2028", "\u202e", "\x00", "\x07")


def written(*, is_terminal: bool, **fields: Any) -> str:
    """Returns what one call writes, without the end of its last line."""
    output = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(output),
        processors=processors_for(is_terminal=is_terminal),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    log.error("request failed", **fields)
    return output.getvalue().removesuffix("\n")


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("value", [EVIL, [EVIL], {"topic": EVIL}, EVIL.encode(), ValueError(EVIL)])
def test_no_value_can_forge_a_line_or_steer_a_terminal(is_terminal: bool, value: object) -> None:
    line = written(is_terminal=is_terminal, path=value if is_terminal else str(value))
    shown = line
    if is_terminal:  # its own colours begin with an escape
        shown = line.replace("\x1b[", "")
    assert not any(character in shown for character in UNSAFE)
    assert "the log has failed" in shown


def test_a_traceback_on_a_terminal_forges_no_line() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as err:
        text = written(is_terminal=True, exc_info=err)
    first, *rest = text.split("\n")
    assert "request failed" in first
    assert len(rest) > 2
    assert all(line.startswith("    ") or not line for line in rest)
    assert not any(character in "\n".join(rest) for character in UNSAFE if character != "\n")


def test_a_traceback_elsewhere_is_part_of_its_line() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError as err:
        line = json.loads(written(is_terminal=False, exc_info=err))
    assert "ValueError" in line["exception"]


def test_a_line_names_the_request_for_which_the_task_works() -> None:
    token = CURRENT.set(context_of("r-17", []))
    try:
        assert json.loads(written(is_terminal=False))["request_id"] == "r-17"
        assert json.loads(written(is_terminal=False, request_id="its own"))["request_id"] == "its own"
    finally:
        CURRENT.reset(token)
    assert CURRENT.get() is NO_REQUEST
    assert "request_id" not in json.loads(written(is_terminal=False))


def test_what_is_printable_stays() -> None:
    text = "Grüße, 世界 🚀 a\u00a0b"
    assert printable(text) == text
    assert printable("a\tb\u200b") == "a\\tb\\u200b"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (TRACE, True),
        (TRACE.replace("00-", "01-", 1) + "-what comes later".replace(" ", ""), True),
        (TRACE.upper(), False),
        (TRACE.replace("00-", "ff-", 1), False),
        (TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), False),
        (TRACE.replace("00f067aa0ba902b7", "0" * 16), False),
        (TRACE + "\n", False),
        ("", False),
    ],
)
def test_only_a_valid_traceparent_is_passed_on(value: str, is_valid: bool) -> None:
    context = context_of("r", [(b"traceparent", value.encode()), (b"tracestate", b"vendor=1")])
    assert context.traceparent == (value if is_valid else "")
    assert context.trace_headers == ({"traceparent": value, "tracestate": "vendor=1"} if is_valid else {})
