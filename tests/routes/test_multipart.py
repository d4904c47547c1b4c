"""A form with a file is read while it arrives."""

import asyncio
import tempfile
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, TooLarge, TrilaneError
from routes import multipart
from routes.multipart import MAX_RECEIVE_S, MIN_BYTES_PER_S, RECEIVE_S, UploadForm, receive_form
from tests.audio.feeding import cut
from tests.support.virtual_time import simulated

BOUNDARY = "----edge"
LIMIT = 100_000
DATA = bytes(range(256)) * 40 + b"\r\n--" + b"\r\n----edg" + b"\r\n" * 50


def part(disposition: str, value: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n"
    return head.encode() + b"Content-Type: text/plain\r\n\r\n" + value + b"\r\n"


FILE = part('name="file"; filename="t\u00e4lk.wav"', DATA)
END = f"--{BOUNDARY}--\r\n".encode()


def read_form(
    pieces: Sequence[bytes], *, content_type: str | None = None, length: int | None = None, ends: bool = True
) -> tuple[UploadForm, bytes]:
    async def run() -> tuple[UploadForm, bytes]:
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1 or not ends}
            for at, piece in enumerate(pieces)
        ]
        messages.append({"type": "http.disconnect"})

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        header = content_type or f"multipart/form-data; boundary={BOUNDARY}"
        headers = [(b"content-type", header.encode())]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        with tempfile.TemporaryFile() as file:
            form = await receive_form({"headers": headers}, receive, file, LIMIT)
            file.seek(0)
            return form, file.read()

    return asyncio.run(run())


def refusal(pieces: Sequence[bytes], **how: Any) -> TrilaneError:
    with pytest.raises(TrilaneError) as error:
        read_form(pieces, **how)
    return error.value


@pytest.mark.parametrize("first", [True, False], ids=["the file first", "the file last"])
def test_fields_and_the_file_come_in_any_order(first: bool) -> None:
    fields = part('name="a"', b"1") + part('name="b[]"', b"x") + part('name="b[]"', "ü".encode())
    form, data = read_form([FILE + fields + END if first else fields + FILE + END])
    assert (form.fields, form.file_name, data) == ({"a": ["1"], "b[]": ["x", "ü"]}, "tälk.wav", DATA)


@given(st.lists(st.integers(0, 2**16), max_size=12))
def test_where_a_form_is_cut_changes_nothing(places: list[int]) -> None:
    whole = part('name="a"', b"--\r\n") + FILE + part('name="c"', b"") + END
    form, data = read_form(cut(whole, places))
    assert (form.fields, form.file_name, data) == ({"a": ["--\r\n"], "c": [""]}, "tälk.wav", DATA)


def test_a_large_file_is_written_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "WRITE_BYTES", 1000)
    whole = FILE + END
    form, data = read_form([whole[at : at + 300] for at in range(0, len(whole), 300)])
    assert (form.file_name, data) == ("tälk.wav", DATA)


def test_a_form_without_a_file_says_so() -> None:
    form, data = read_form([part('name="a"', b"1") + END])
    assert (form.file_name, data) == (None, b"")


def test_an_upload_that_says_that_it_is_too_large_is_not_read() -> None:
    error = refusal([], length=LIMIT + 1)
    assert isinstance(error, TooLarge)
    assert "TRILANE_LIMIT_UPLOAD_BYTES" in error.detail


def test_an_upload_that_is_too_large_without_saying_so_is_refused_on_the_way() -> None:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"\r\n\r\n'.encode()
    assert isinstance(refusal([head, *[bytes(60_000)] * 2]), TooLarge)


REFUSED = {
    "cut by the client": ([FILE], {"ends": False}, "the body was cut"),
    "without an end": ([FILE], {}, "ends before its last boundary"),
    "of nothing": ([b""], {}, "ends before its last boundary"),
    "json": ([b"{}"], {"content_type": "application/json"}, "content-type is 'application/json'"),
    "without a boundary": ([FILE + END], {"content_type": "multipart/form-data"}, "with a boundary"),
    "with a long boundary": ([FILE], {"content_type": f"multipart/form-data; boundary={'x' * 300}"}, "no valid"),
    "with another boundary": ([FILE + END], {"content_type": "multipart/form-data; boundary=y"}, "no valid"),
    "with a nameless part": ([part('filename="x"', b"1") + END], {}, "part 1 of the form has no name"),
    "with two files": ([FILE + FILE + END], {}, "`file` came twice"),
    "with a huge field": ([part('name="prompt"', bytes(70_000)) + END], {}, "'prompt' is larger than 65536"),
    "of many parts": ([part('name="a"', b"") * 101 + END], {}, "more than 100 parts"),
    "with a huge header": ([part('name="' + "x" * 9000 + '"', b"") + END], {}, "no valid"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_body_is_refused_that_is(what: str) -> None:
    pieces, how, reason = REFUSED[what]
    error = refusal(pieces, **how)
    assert isinstance(error, BadRequest)
    assert reason in error.detail


def test_a_client_that_sends_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "RECEIVE_S", 0.01)

    async def run() -> None:
        headers = [(b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())]
        with tempfile.TemporaryFile() as file:
            await receive_form({"headers": headers}, asyncio.Event().wait, file, LIMIT)  # type: ignore[arg-type]

    with pytest.raises(BadRequest) as error:
        asyncio.run(run())
    assert error.value.status == 408


@simulated
@pytest.mark.parametrize(
    ("pace", "every_s", "after_s"),
    [(1, 10.0, 70), (MIN_BYTES_PER_S // 2, 1.0, 2 * RECEIVE_S), (100 * MIN_BYTES_PER_S, 59.0, MAX_RECEIVE_S)],
)
async def test_an_upload_that_trickles_is_ended(
    pace: int, every_s: float, after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "WRITE_BYTES", 1 << 40)  # the time of its thread is not this loop's

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(every_s)
        return {"type": "http.request", "body": bytes(pace), "more_body": True}

    loop = asyncio.get_running_loop()
    began = loop.time()
    headers = [(b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())]
    with tempfile.TemporaryFile() as file, pytest.raises(TrilaneError) as error:
        await receive_form({"headers": headers}, receive, file, 1 << 30)
    assert (error.value.status, error.value.code) == (408, "too_slow")
    assert loop.time() - began == pytest.approx(after_s, abs=every_s + 1)


def test_a_full_disk_is_no_fault_of_the_client() -> None:
    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

    async def run() -> None:
        messages = [{"type": "http.request", "body": FILE + END, "more_body": False}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        headers = [(b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())]
        await receive_form({"headers": headers}, receive, Full(), LIMIT)  # type: ignore[arg-type]

    with pytest.raises(TrilaneError) as error:
        asyncio.run(run())
    assert (error.value.status, error.value.code) == (503, "no_room")
