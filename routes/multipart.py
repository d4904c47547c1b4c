"""Receives a form with one file as a stream: the file goes to disk, the fields to memory.

Departs from Litestar, which parses a form once all of it is in memory, and would allow every other body as much.
Parsing and writing run on a thread, 256 KiB at a time; what comes next waits for it, and the connection's flow control
holds the client back.
"""

import asyncio
import logging
from typing import Any, BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.errors import BadRequest, Overloaded, TooLarge
from routes.requests import check_coding, content_length

WRITE_BYTES = 262_144
"""Bytes gathered before they are parsed and written together."""
MAX_FIELD_BYTES = 65_536
"""Maximum bytes of one field that is not the file."""
MAX_PARTS = 100
"""Maximum parts of one form."""
RECEIVE_S = 60.0
"""Seconds for which a client may send nothing, and at whose end its pace begins to count."""
MIN_BYTES_PER_S = 4096
"""Minimum pace of a whole upload: each holds a place that others wait for."""
MAX_RECEIVE_S = 3600.0
"""Maximum seconds that a whole upload may take."""

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each form that is not valid


class UploadForm:
    """The fields of a form by name, and the name of the file that its part `file` carried."""

    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self.file_name: str | None = None
        """The file's own name; None when no file came."""


async def receive_form(scope: Any, receive: Any, file: BinaryIO, max_bytes: int) -> UploadForm:
    """Reads the request's body, writes its file to `file`, and returns the rest.

    Raises BadRequest, TooLarge and, when the disk is full, Overloaded.
    """
    check_coding(scope)
    if content_length(scope) > max_bytes:
        raise _too_large(max_bytes)
    parts = _Parts(_boundary(scope), file)
    try:
        await _receive(receive, parts, max_bytes)
    finally:
        parts.close()
    return parts.form


async def _receive(receive: Any, parts: "_Parts", max_bytes: int) -> None:
    size, pending_size, pending, has_more = 0, 0, list[bytes](), True
    began_s = asyncio.get_running_loop().time()
    while has_more:
        piece, has_more = await _piece(receive)
        size, pending_size = size + len(piece), pending_size + len(piece)
        _check_pace(size, asyncio.get_running_loop().time() - began_s)
        if size > max_bytes:
            raise _too_large(max_bytes)
        pending.append(piece)
        if pending_size >= WRITE_BYTES or not has_more:
            await _write(parts, b"".join(pending), is_last=not has_more)
            pending_size, pending = 0, []


def _check_pace(size: int, elapsed_s: float) -> None:
    if elapsed_s > min(MAX_RECEIVE_S, RECEIVE_S + size / MIN_BYTES_PER_S):
        raise BadRequest(
            f"the upload comes too slowly: {size} bytes in {elapsed_s:.0f} s; {MIN_BYTES_PER_S} a second are wanted, "
            f"and all of it within {MAX_RECEIVE_S:g} s",
            code="too_slow",
            status=408,
        )


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the upload is larger than {max_bytes} bytes (TRILANE_LIMIT_UPLOAD_BYTES)")


def _header(scope: Any, header_name: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == header_name), "")


def _boundary(scope: Any) -> bytes:
    content_type = _header(scope, b"content-type")
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest(
            "the body must be multipart/form-data with a boundary and a part `file`; "
            f"content-type is {content_type[:80]!r}",
            code="bad_body",
        )
    return boundary


async def _piece(receive: Any) -> tuple[bytes, bool]:
    """Returns the next piece of the body, and whether more follows."""
    try:
        async with asyncio.timeout(RECEIVE_S):
            message: Any = await receive()
    except TimeoutError:
        raise BadRequest(f"nothing more of the body came within {RECEIVE_S:g} s", code="bad_body", status=408) from None
    if message["type"] == "http.disconnect":
        raise BadRequest("the body was cut", code="bad_body")
    return message.get("body", b""), message.get("more_body", False)


async def _write(parts: "_Parts", data: bytes, *, is_last: bool) -> None:
    """Writes on a thread, which is done with the file when this returns, even by a cancellation."""
    write = asyncio.ensure_future(asyncio.to_thread(parts.write, data, is_last=is_last))
    try:
        await asyncio.shield(write)
    except asyncio.CancelledError:
        await asyncio.wait((write,))
        raise
    except FormParserError as err:
        raise BadRequest(f"the body is no valid multipart/form-data: {err}", code="bad_body") from err
    except OSError as err:
        raise Overloaded(f"there is no room for the upload here: {err.strerror}", code="no_room") from err


class _Parts:
    """Takes the parser's callbacks: one part after the other, headers first."""

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

    def close(self) -> None:
        """Parses no more."""
        del self._parser  # it holds these parts

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
