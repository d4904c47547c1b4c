"""A cursor that we wrote decodes to itself, and nothing else is taken for a cursor."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.log.cursor import MAX_CURSOR_BYTES, NO_EPOCH, NOWHERE, cursor_prefix, decode_cursor, encode_cursor
from events.log.port import Position
from gateway.errors import BadRequest

ALPHANUMERIC = st.characters(codec="ascii", categories=["L", "Nd"])
NAMES = st.text(ALPHANUMERIC | st.sampled_from("_~-"), min_size=1, max_size=64)
EPOCHS = st.text(ALPHANUMERIC, min_size=1, max_size=16).filter(lambda epoch: epoch != NO_EPOCH)
OFFSETS = st.integers(0, 10**15 - 1)


@given(NAMES, EPOCHS, OFFSETS)
@example("r" * 64, "e" * 16, 10**15 - 1)
def test_what_was_encoded_comes_back(name: str, epoch: str, offset: int) -> None:
    position = Position(epoch=epoch, offset=offset)
    text = encode_cursor(name, position)
    assert len(text.encode()) <= MAX_CURSOR_BYTES
    assert decode_cursor(text) == (name, position)


@given(NAMES, EPOCHS, OFFSETS)
def test_a_prefix_and_an_offset_are_a_cursor(name: str, epoch: str, offset: int) -> None:
    assert b"%b%d" % (cursor_prefix(name, epoch), offset) == encode_cursor(name, Position(epoch, offset)).encode()


def test_before_the_first_event_no_epoch_is_known() -> None:
    assert encode_cursor("run", NOWHERE) == "run.0.0"
    assert cursor_prefix("run", "") == b"run.0."
    assert decode_cursor("run.0.0") == ("run", NOWHERE)


@given(st.text(max_size=200))
@example("run.e.1")
@example("run.0.5")
def test_no_text_means_two_things(text: str) -> None:
    """What decodes at all encodes to the same text again, so a cursor has one spelling."""
    try:
        name, position = decode_cursor(text)
    except BadRequest:
        return
    assert encode_cursor(name, position) == text


HOSTILE = {
    "empty": "",
    "no parts": "run",
    "two parts": "run.epoch",
    "four parts": "run.e.1.2",
    "empty name": ".e.1",
    "empty epoch": "run..1",
    "empty offset": "run.e.",
    "leading zero": "run.e.01",
    "sign": "run.e.-1",
    "plus": "run.e.+1",
    "hexadecimal": "run.e.0x1",
    "float": "run.e.1e3",
    "underscore in the number": "run.e.1_0",
    "offset too long": "run.e." + "9" * 16,
    "epoch too long": "run." + "e" * 17 + ".1",
    "epoch with a dash": "run.e-1.1",
    "name too long": "r" * 65 + ".e.1",
    "path": "../../etc/passwd.e.1",
    "slash": "chat/run.e.1",
    "percent": "run%2e.e.1",
    "star": "*.e.1",
    "space before": " run.e.1",
    "space after": "run.e.1 ",
    "newline after": "run.e.1\n",
    "CR LF and a header": "run.e.1\r\nset-cookie: a=b",
    "NUL": "run.e.1\0",
    "NUL inside": "r\0un.e.1",
    "arabic digits": "run.e.\u0661\u0662",
    "fullwidth digits": "run.e.\uff11",
    "superscript": "run.e.\u00b2",
    "letter beyond ASCII": "r\u00fcn.e.1",
    "lone surrogate": "run\ud800.e.1",
    "4 kB": "r" * 4096,
    "4 kB of dots": "." * 4096,
    "4 kB of digits": "run.e." + "1" * 4096,
    "an id of another server": "1700000000000-0",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode_cursor(text)
    assert (error.value.status, error.value.code) == (400, "bad_cursor")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_refusal_is_short_and_printable(text: str) -> None:
    """What it repeats of the cursor goes into a header-less JSON text and into logs."""
    with pytest.raises(BadRequest) as error:
        decode_cursor(text)
    detail = error.value.detail
    assert detail.isascii()
    assert detail.isprintable()
    assert len(detail) < 600


@given(NAMES, EPOCHS, OFFSETS, st.data())
def test_a_changed_byte_gives_another_cursor_or_none(name: str, epoch: str, offset: int, data: st.DataObject) -> None:
    """A cursor is not signed: tampering is allowed to make it point elsewhere, never to make it mean the same."""
    text = encode_cursor(name, Position(epoch=epoch, offset=offset))
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[at]))
    try:
        result = decode_cursor(text[:at] + new + text[at + 1 :])
    except BadRequest:
        return
    assert result != (name, Position(epoch=epoch, offset=offset))
