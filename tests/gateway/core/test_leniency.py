"""A `null` is a field that is not there, and 16000.0 is 16000; all else is decoded as strictly as msgspec does."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Raw, UnsetType

from audio.dialects.realtime.messages import RealtimeEvent
from audio.dialects.trilane import ClientMessage
from events.publish import Publication
from gateway.core.leniency import MAX_MENDED, lenient_decoder, mend
from routes.chat import StopRequest


class Leaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    size: Annotated[int, Meta(ge=1, le=9)] = 5
    choice: Literal[1, 2] = 1
    name: str = "x"
    ratio: float = 0.5
    either: int | str = 0
    nothing: int | None = 3
    left_out: bool | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    whatever: Any = 0


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    leaf: Leaf = Leaf()
    leaves: list[Leaf] = []
    named: dict[str, Leaf] = {}
    counts: list[int] = []
    inner: "Tree | None" = None


class Walk(msgspec.Struct, frozen=True, tag="walk"):
    steps: int = 1


class Wait(msgspec.Struct, frozen=True, tag="wait"):
    seconds: int = 2
    reason: str = ""


MENDED = [
    ('{"size": 4.0}', Leaf, Leaf(size=4)),
    ('{"size": 4e0, "choice": 2.0}', Leaf, Leaf(size=4, choice=2)),
    ('{"size": null, "name": null, "ratio": null}', Leaf, Leaf()),
    ('{"nothing": null, "size": null}', Leaf, Leaf(nothing=None)),
    ('{"leftOut": null}', Leaf, Leaf()),
    ('{"either": -7.0}', Leaf, Leaf(either=-7)),
    ('{"unknown": null}', Leaf, Leaf()),
    ('{"ratio": 1.0, "size": 2.0}', Leaf, Leaf(ratio=1.0, size=2)),
    (
        ' {"leaf": {"size": 2.0}, "leaves": [{"size": null}, {"size": 3.0}]} ',
        Tree,
        Tree(leaf=Leaf(size=2), leaves=[Leaf(), Leaf(size=3)]),
    ),
    ('{"named": {"a": {"size": 2.0}}, "counts": [1.0, 2]}', Tree, Tree(named={"a": Leaf(size=2)}, counts=[1, 2])),
    ('{"inner": {"inner": {"leaf": {"size": 9.0}}}}', Tree, Tree(inner=Tree(inner=Tree(leaf=Leaf(size=9))))),
    ('{"leaf": null, "leaves": null, "inner": null}', Tree, Tree()),
    ('{"type": "wait", "seconds": 7.0, "reason": null}', Walk | Wait, Wait(7)),
    ('{"steps": null, "type": "walk"}', Walk | Wait, Walk()),
    ("[3.0]", list[int], [3]),
    (r'{"size": 2.0, "name": "\ud83d \ud83d\ude00"}', Leaf, Leaf(size=2, name="\ufffd \U0001f600")),
    (r'{"name": "\\ud83d \ude00", "size": null}', Leaf, Leaf(name="\\ud83d \ufffd")),
]


@pytest.mark.parametrize(("text", "kind", "value"), MENDED)
def test_what_can_only_mean_one_thing_is_taken(text: str, kind: Any, value: Any) -> None:
    decode = lenient_decoder(kind)
    assert decode(text) == decode(text.encode()) == value


REFUSED = [
    ('{"size": 4.5}', Leaf, "int"),
    ('{"size": 10.0}', Leaf, "<= 9"),
    ('{"size": "4"}', Leaf, "int"),
    ('{"size": 1e999}', Leaf, "range"),
    ('{"choice": 3.0}', Leaf, "Invalid enum"),
    ('{"unknown": 0}', Leaf, "unknown"),
    ('{"counts": [null]}', Tree, r"\$.counts\[0\]"),
    ("null", Leaf, "object"),
    ('{"type": "fly", "seconds": null}', Walk | Wait, "fly"),
    ('{"seconds": null}', Walk | Wait, "type"),
]


@pytest.mark.parametrize(("text", "kind", "says"), REFUSED)
def test_all_else_is_refused_and_named(text: str, kind: Any, says: str) -> None:
    with pytest.raises(msgspec.DecodeError, match=says):
        lenient_decoder(kind)(text)


def test_what_is_kept_as_it_came_is_not_touched() -> None:
    text = '{"size": 2.0, "data": {"a": null, "b": [1.0, null]}, "whatever": {"c": 3.0, "d": null}}'
    leaf = lenient_decoder(Leaf)(text)
    assert (leaf.size, bytes(leaf.data)) == (2, b'{"a": null, "b": [1.0, null]}')
    assert leaf.whatever == {"c": 3.0, "d": None}


def test_null_is_data_that_can_be_published() -> None:
    event = lenient_decoder(Publication)(
        '{"topic": "a", "data": null, "event": null, "ttl": null, "expectedOffset": 2.0}'
    )
    assert (bytes(event.data), event.event, event.ttl, event.expected_offset) == (b"null", "message", None, 2)


def test_every_kind_of_message_is_read_so() -> None:
    start: Any = lenient_decoder(ClientMessage)('{"type":"start","sampleRate":48000.0,"channels":1.0,"prompt":null}')
    assert (start.sample_rate, start.channels, start.prompt) == (48_000, 1, "")
    update: Any = lenient_decoder(RealtimeEvent)(
        '{"type":"session.update","event_id":null,"session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":24000.0}}}}}'
    )
    assert update.session.audio.input.format.rate == 24_000
    assert lenient_decoder(StopRequest)('{"activeStreamId":null,"anything":null}').active_stream_id is None


def test_what_needs_no_mending_is_decoded_once() -> None:
    assert mend('{"size":4,"nothing":null}', Leaf) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 15) | st.integers(-5, 15).map(float) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["size", "leaf", "leaves", "inner", "counts", "named", "z"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_is_decoded_or_refused(value: Any) -> None:
    text = msgspec.json.encode(value)
    try:
        tree = lenient_decoder(Tree)(text)
    except msgspec.DecodeError:
        return
    assert lenient_decoder(Tree)(msgspec.json.encode(tree)) == tree


def test_a_long_text_is_mended_as_far_as_it_is_cheap() -> None:
    kinds = (Tree, '{"leaves":[%s]}', '{"size":null}'), (Tree, '{"counts":[%s]}', "4.0"), (list[Leaf], "[%s]", "{}")
    for kind, text, item in kinds:
        assert lenient_decoder(kind)(text % ",".join([item] * 4000))
    for kind, text, item in kinds[:2]:
        with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `(null|float)`"):
            lenient_decoder(kind)(text % ",".join([item] * (MAX_MENDED + 1)))
