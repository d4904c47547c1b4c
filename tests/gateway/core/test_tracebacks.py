"""A traceback says where and of which type; what an error says is a user's, and is not logged."""

import asyncio
import io
import logging
import sys

import pytest
import structlog

from gateway.core.logs import configure_logging
from gateway.core.tracebacks import ExceptionInfo, shown_traceback
from gateway.errors import UpstreamRefused

CANARY = "canary-77d1"


def info_of(error: BaseException) -> ExceptionInfo:
    try:
        raise error
    except BaseException as raised:
        return type(raised), raised, raised.__traceback__


@pytest.mark.parametrize("error", [ValueError, KeyError, LookupError, UpstreamRefused, RuntimeError])
def test_the_words_of_an_error_are_left_out(error: type[Exception]) -> None:
    shown = shown_traceback(info_of(error(CANARY)))
    assert CANARY not in shown
    assert error.__name__ in shown
    assert "in info_of" in shown


def test_the_words_of_errors_about_the_program_are_shown() -> None:
    assert "No such file" in shown_traceback(info_of(FileNotFoundError(2, "No such file", "x")))
    assert "has no attribute" in shown_traceback(info_of(AttributeError("'X' has no attribute 'y'")))
    assert "upstream_refused" in shown_traceback(info_of(UpstreamRefused(CANARY)))


def test_causes_contexts_and_groups_are_shown_in_the_same_way() -> None:
    try:
        try:
            try:
                raise ValueError(CANARY)
            except ValueError as first:
                raise KeyError(CANARY) from first
        except KeyError:
            raise ExceptionGroup(CANARY, [TypeError("an int is not callable"), ValueError(CANARY)])  # noqa: B904
    except ExceptionGroup as group:
        shown = shown_traceback((type(group), group, group.__traceback__))
    assert CANARY not in shown
    assert [name in shown for name in ("ValueError", "KeyError", "ExceptionGroup", "not callable")] == [True] * 4
    assert shown.index("KeyError") < shown.index("ExceptionGroup")


def test_a_chain_that_is_a_circle_has_an_end() -> None:
    one, other = ValueError("1"), KeyError("2")
    one.__context__, other.__context__ = other, one
    assert "KeyError" in shown_traceback(info_of(one))


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_log_line_holds_what_a_failed_task_held(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging()

        async def fail(prompt: str) -> None:
            local = prompt * 2
            raise ValueError(local)

        async def run() -> None:
            try:
                await fail(CANARY)
            except ValueError:
                structlog.get_logger("test").exception("run failed", run="r1")
            loop = asyncio.get_running_loop()
            context = {"message": "a task failed", "task": CANARY, "exception": ValueError(CANARY)}
            loop.call_exception_handler(context)

        asyncio.run(run())
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    assert CANARY not in stderr.getvalue()
    for words in ("run failed", "a task failed", "in fail", "ValueError"):
        assert words in stderr.getvalue()
