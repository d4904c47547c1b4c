"""Bytes of an event stream become the data of its events, in whatever pieces they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.upstreams.event_frames import MAX_EVENT_BYTES, EventFrames
from gateway.errors import UpstreamError


def cut(*pieces: bytes) -> list[bytes]:
    frames = EventFrames()
    return [event for piece in pieces for event in frames.feed(piece)] + frames.end()


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": ping\n\ndata: a\n\n: ping\n\n", [b"a"]),
        (b"event: x\nid: 1\ndata: a\nretry: 5\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\ndata: b", [b"a", b"b"]),
        (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b"", []),
    ],
)
def test_events_are_cut_as_the_standard_says(stream: bytes, events: list[bytes]) -> None:
    assert cut(stream) == events
    assert cut(*[stream[place : place + 1] for place in range(len(stream))]) == events


@given(st.lists(st.sampled_from([b"data: a\n\n", b"data: b\r\n\r\n", b": c\n\n", b"data: d\ndata: e\n\n"])), st.data())
def test_no_cut_changes_what_is_read(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    pieces = [stream[start:stop] for start, stop in zip([0, *places], [*places, len(stream)], strict=True)]
    assert cut(*pieces) == cut(stream)


def test_an_event_that_does_not_end_is_refused_with_the_limit() -> None:
    frames = EventFrames()
    assert frames.feed(b"data: " + b"x" * (MAX_EVENT_BYTES - 6)) == []
    with pytest.raises(UpstreamError, match=str(MAX_EVENT_BYTES)) as refused:
        frames.feed(b"x")
    assert refused.value.code == "upstream_event_too_large"
