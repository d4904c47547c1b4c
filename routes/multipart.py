"""A form with one file, as it comes: the file goes to disk, the fields stay.

Departs from Litestar's own way, which parses a form when all of it is in memory, and allows every body as much as this
one. Parsing and writing run on a thread, a quarter of a megabyte at a time; what comes next waits for it, and the
connection's flow control holds the client back.
"""

import asyncio
from typing import Any, BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import BadRequest, Overloaded, TooLarge

WRITE_BYTES = 262_144
"""Gathered before it is parsed and written."""
MAX_FIELD_BYTES = 65_536
MAX_PARTS = 100
RECEIVE_S = 60.0
"""How long a client may send nothing."""


class UploadForm:
    """The fields by name, and what is known of the file, which was called `file`."""

    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self.file_name: str | None = None
        """None: no file came."""


async def receive_form(scope: Any, receive: Any, file: BinaryIO, max_bytes: int) -> UploadForm:
    """Reads the request's body; its file is in `file` then.

    Raises BadRequest, TooLarge and, when there is no room on the disk, Overloaded.
    """
    parts = _Parts(_boundary(scope), file)
    if _length(scope) > max_bytes:
        raise _too_large(max_bytes)
    size, held, gathered, more = 0, 0, list[bytes](), True
    while more:
        piece, more = await _piece(receive)
        size, held = size + len(piece), held + len(piece)
        if size > max_bytes:
            raise _too_large(max_bytes)
        gathered.append(piece)
        if held >= WRITE_BYTES or not more:
            await _finished(parts, b"".join(gathered), is_last=not more)
            held, gathered = 0, []
    return parts.form


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the upload is larger than {max_bytes} bytes (TRILANE_LIMIT_UPLOAD_BYTES)")


def _header(scope: Any, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _length(scope: Any) -> int:
    told = _header(scope, b"content-length")
    return int(told) if told.isdecimal() else 0


def _boundary(scope: Any) -> bytes:
    told = _header(scope, b"content-type")
    kind, options = parse_options_header(told)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest(
            f"the body must be multipart/form-data with a boundary and a part `file`; content-type is {told[:80]!r}",
            code="bad_body",
        )
    return boundary


async def _piece(receive: Any) -> tuple[bytes, bool]:
    """What came of the body, and whether more follows."""
    try:
        async with asyncio.timeout(RECEIVE_S):
            message: Any = await receive()
    except TimeoutError:
        raise BadRequest(f"nothing more of the body came within {RECEIVE_S:g} s", code="bad_body", status=408) from None
    if message["type"] == "http.disconnect":
        raise BadRequest("the body was cut", code="bad_body")
    return message.get("body", b""), message.get("more_body", False)


async def _finished(parts: "_Parts", data: bytes, *, is_last: bool) -> None:
    """On a thread, and over when this returns, also by a cancellation: the file is closed next."""
    writing = asyncio.ensure_future(asyncio.to_thread(parts.write, data, is_last=is_last))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,))
        raise
    except FormParserError as err:
        raise BadRequest(f"the body is no valid multipart/form-data: {err}", code="bad_body") from err
    except OSError as err:
        raise Overloaded(f"there is no room for the upload here: {err.strerror}", code="no_room") from err


class _Parts:
    """What the parser calls: one part after the other, headers first."""

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        self.form = UploadForm()
        self._file = file
        self._count = 0
        self._header = [b"", b""]
        self._name = ""
        self._field = bytearray()
        self._is_file = self._is_whole = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._gather(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._gather(1, data[start:end]),
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._all,
                },
            )
        except FormParserError as err:
            raise BadRequest(f"the body is no valid multipart/form-data: {err}", code="bad_body") from err

    def write(self, data: bytes, *, is_last: bool) -> None:
        self._parser.write(data)
        if is_last:
            if not self._is_whole:
                raise BadRequest("the multipart body ends before its last boundary", code="bad_body")
            self._file.flush()

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise BadRequest(f"the form has more than {MAX_PARTS} parts", code="bad_body")
        self._name, self._field, self._is_file = "", bytearray(), False

    def _gather(self, at: int, data: bytes) -> None:
        self._header[at] += data

    def _header_end(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() != b"content-disposition":
            return
        _, options = parse_options_header(value)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name == "file":
            if self.form.file_name is not None:
                raise BadRequest("`file` came twice; send one file a request", extra={"param": "file"})
            self._is_file = True
            self.form.file_name = options.get(b"filename", b"").decode("utf-8", "replace")

    def _headers_finished(self) -> None:
        if not self._name:
            raise BadRequest(f"part {self._count} of the form has no name", code="bad_body")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file.write(memoryview(data)[start:end])
        elif len(self._field) + end - start > MAX_FIELD_BYTES:
            raise BadRequest(
                f"the field {self._name[:40]!r} is larger than {MAX_FIELD_BYTES} bytes",
                extra={"param": self._name[:40]},
            )
        else:
            self._field += data[start:end]

    def _end(self) -> None:
        if not self._is_file:
            self.form.fields.setdefault(self._name, []).append(self._field.decode("utf-8", "replace"))

    def _all(self) -> None:
        self._is_whole = True
