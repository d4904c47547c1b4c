"""Shows a traceback without what an error says, because that may be a user's own words: a bad value, a prompt.

What is left finds the fault all the same: where it was raised, by which code, and of which type. Of errors that can
only speak of the program or of the machine the words are shown too.
"""

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import cast

import structlog

from gateway.errors import TrilaneError

OF_THE_PROGRAM = (OSError, TypeError, AttributeError, NameError, ImportError, MemoryError)
"""Errors whose words name code, files and system calls, and no value that came from outside."""
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def shown_traceback(exc_info: ExceptionInfo) -> str:
    """Returns the traceback of an error, and of those that it came from, oldest first, as Python prints it."""
    return "\n".join(_lines(exc_info[1]))


def _lines(error: BaseException) -> Iterator[str]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    for part in reversed(chain):
        if part is not chain[-1]:
            yield "\nThen, while that was handled or because of it:\n"
        yield "Traceback (most recent call last):"
        yield from (line.rstrip("\n") for line in traceback.format_tb(part.__traceback__))
        yield _summary(part)
        if isinstance(part, BaseExceptionGroup):
            for member in cast("BaseExceptionGroup[BaseException]", part).exceptions:
                yield from (f"  | {line}" for text in _lines(member) for line in text.splitlines())


def _summary(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, TrilaneError):
        return f"{name}: {error.code}"
    return f"{name}: {error}" if isinstance(error, OF_THE_PROGRAM) else f"{name} (its words are not logged)"


def keep_first_line(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Keeps the first line of what a library logs: asyncio adds the objects at hand below, with all that they hold."""
    event["event"] = str(event.get("event", "")).partition("\n")[0]
    return event
