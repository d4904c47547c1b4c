"""JSON as careless servers write it is read, and what is written again is readable for every client."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.loose_json import (
    UNREADABLE,
    is_json,
    json_on_one_line,
    loose_json,
    split_half,
    strict_json,
    whole_text,
    with_whole_pairs,
    with_whole_pairs_in_slices,
)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("plain", "plain"),
        ("a\ud83d", "a\ufffd"),
        ("\ude00b", "\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ud83d\ud83d\ude00\ude00", "\ufffd\U0001f600\ufffd"),
        ("é\U0001f600\ud83dx", "é\U0001f600\ufffdx"),
    ],
)
def test_halves_of_pairs_are_joined_or_replaced(text: str, whole: str) -> None:
    assert whole_text(text) == whole
    assert json.loads(with_whole_pairs(json.dumps({"a": text}).encode())) == {"a": whole}
    assert json.loads(strict_json({text: [text]}).decode()) == {whole: [whole]}


@pytest.mark.parametrize(
    "body", [b'"\\\\ud83d"', b'"\\\\\\\\ud83d"', b'"\\ud83d\\ude00"', b'"\\u00e9\\n\\"ud83d"', b"\\"]
)
def test_what_is_no_half_stays_as_it_is(body: bytes) -> None:
    assert with_whole_pairs(body) == body


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (b'"\\\\ud83d\\ude00"', b'"\\\\ud83d\\ufffd"'),
        (b'"\\\\\\ud83d"', b'"\\\\\\ufffd"'),
        (b'"\\ud83d\\ude00\\ud83d\\ude00\\ud83d"', b'"\\ud83d\\ude00\\ud83d\\ude00\\ufffd"'),
        (b'"\\\\ud83d\\ude00\\ud83d\\ude00\\ude00"', b'"\\\\ud83d\\ufffd\\ud83d\\ude00\\ufffd"'),
        (b'"\\uD83D\\n\\uDE00"', b'"\\ufffd\\n\\ufffd"'),
    ],
)
def test_only_what_is_half_an_escape_is_replaced(body: bytes, whole: bytes) -> None:
    assert with_whole_pairs(body) == whole


TOKENS = (rb"\\ud83d", rb"\\uDE00", rb"\\\\", rb"\\n", b"ud83d", rb"\\u00e9", "é".encode(), b"a" * 7)


@settings(deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=60), st.integers(13, 40))
def test_halves_are_replaced_alike_in_slices_and_as_a_decoder_does(tokens: list[bytes], size: int) -> None:
    body = b'"' + b"".join(tokens) + b'"'
    whole = with_whole_pairs(body)
    assert json.loads(whole) == whole_text(json.loads(body))
    assert asyncio.run(with_whole_pairs_in_slices(body, size)) == whole


def test_a_half_at_the_end_is_kept_for_the_next_text() -> None:
    assert split_half("a\ud83d") == ("a", "\ud83d")
    assert split_half("a\ude00") == ("a\ude00", "")
    assert split_half("") == ("", "")


@pytest.mark.parametrize(
    "text", [b'{"a":NaN}', b'{"a":"\xff"}', b'"\\ud83d"', b'"\n"', b'"\xed\xa0\xbd"', b"[" + b"9" * 99 + b"]"]
)
def test_what_is_nearly_json_is_read_and_written_as_json(text: bytes) -> None:
    line = strict_json(loose_json(text)).decode()
    assert "\n" not in line
    json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("text", [b"ping", b'{"a":', b"", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json_is_not(text: bytes) -> None:
    with pytest.raises(UNREADABLE):
        loose_json(text)


@pytest.mark.parametrize(
    ("text", "line"), [('{\n"a": 1.10}', b'{"a": 1.10}'), ("NaN", b""), ('{"a"', b""), ("[" * 9999, b"")]
)
def test_arguments_are_put_on_one_line_as_they_are(text: str, line: bytes) -> None:
    assert json_on_one_line(text).replace(b" ", b"") == line.replace(b" ", b"")
    assert is_json(text) == bool(line)


@pytest.mark.parametrize(
    "text", ["1e999", '{"a":-1e999}', '{"a":[1e400],"b":"\\ud800"}', '{"a":NaN}', '{"a":-Infinity}']
)
def test_a_number_that_no_client_could_read_is_no_json(text: str) -> None:
    """As null it would be another argument than the model gave."""
    assert json_on_one_line(text) == b""
