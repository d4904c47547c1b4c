"""Writes log lines: for people on a terminal, as JSON elsewhere, each with the request that it is about.

No line holds a prompt, an answer or a credential, nor the words of an error, which may quote one. Whatever a client
wrote (a path, a header, a topic) stays inside its own field: JSON escapes control characters, and on a terminal they
are shown as escapes, too, so that nobody can forge a line or steer a terminal (CWE-117).
"""

import logging
import os
import re
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor

from gateway.core.request_context import CURRENT
from gateway.core.tracebacks import keep_first_line, shown_traceback

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Characters that begin a line, steer a terminal, or reorder what is shown of others."""
CONTROL_BUT_LF = re.compile(f"(?!\n){CONTROL.pattern}")


def configure_logging(*, has_pid: bool = False) -> None:
    """Has every log line written to stderr, uvicorn's and asyncio's own warnings in the same form.

    `has_pid`: each line says which process wrote it, where several write to one place.
    """
    processors = processors_for(is_terminal=sys.stderr.isatty(), has_pid=has_pid)
    structlog.configure(
        processors=processors,
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[keep_first_line],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *processors],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def processors_for(*, is_terminal: bool, has_pid: bool = False) -> list[Processor]:
    """Returns the steps from an event to its line, in order."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
        *([_add_pid] if has_pid else []),
    ]
    if is_terminal:
        return [*shared, _make_printable, structlog.dev.ConsoleRenderer(exception_formatter=_write_exception)]
    return [*shared, structlog.processors.ExceptionRenderer(shown_traceback), structlog.processors.JSONRenderer()]


def printable(text: str) -> str:
    r"""Returns a text with its control characters as escapes, such as `\x1b` and `\n`."""
    return CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _add_request_id(logger: object, method: str, event: EventDict) -> EventDict:
    request_id = CURRENT.get().request_id
    if request_id:
        event.setdefault("request_id", request_id)
    return event


def _add_pid(logger: object, method: str, event: EventDict) -> EventDict:
    event.setdefault("pid", os.getpid())
    return event


def _make_printable(logger: object, method: str, event: EventDict) -> EventDict:
    """Escapes what is shown; an exception is written by `_write_exception`."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value)
        elif name != "exc_info":
            event[name] = value if isinstance(value, int | float) else printable(str(value))
    return event


def _write_exception(output: TextIO, exc_info: ExcInfo) -> None:
    """Writes a traceback, every line of it indented: a log line begins at the margin, so none can be forged."""
    text = CONTROL_BUT_LF.sub(_escape, shown_traceback(exc_info))
    output.write("\n" + "\n".join(f"    {line}" for line in text.split("\n")))
