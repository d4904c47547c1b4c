"""Lines are bounded however they arrive, and a message that is too long still says what it answers."""

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.tools.attempt import MESSAGES_PER_S, Hearing
from gateway.chat.tools.lines import SIZE_META, TAIL_BYTES, BoundedLines, Overlong, cut_result


def lines_of(data: bytes, sizes: list[int], max_bytes: int = 1000, head_bytes: int = 10) -> list[bytes | Overlong]:
    """Returns the lines of `data`, which comes in pieces of these sizes, over and over."""
    lines, found, start, step = BoundedLines(max_bytes, head_bytes), [], 0, 0
    while start < len(data):
        end = start + sizes[step % len(sizes)]
        found += lines.feed(data[start:end])
        start, step = end, step + 1
    return [*found, lines.rest()]


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_lines_are_those_of_the_whole_whatever_the_pieces(data: bytes, sizes: list[int]) -> None:
    assert lines_of(data, sizes) == data.split(b"\n")


@given(st.integers(0, 3000), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_of_a_line_that_is_too_long_the_head_the_tail_and_the_size_are_kept(size: int, sizes: list[int]) -> None:
    long = random.Random(size).randbytes(size).replace(b"\n", b"-")
    first, second, rest = lines_of(b"%b\nshort\n" % long, sizes)
    assert (second, rest) == (b"short", b"")
    assert first == (long if size <= 1000 else Overlong(long[:10], long[-TAIL_BYTES:], size))


LONG = "é" * 4000


def overlong(message: str, head_bytes: int = 1000) -> Overlong:
    line = message.encode()
    return Overlong(line[:head_bytes], line[-TAIL_BYTES:], len(line))


@pytest.mark.parametrize(
    "message",
    [
        f'{{"jsonrpc":"2.0","id":7,"result":{{"content":[{{"type":"text","text":"{LONG}"}}]}}}}',
        f'{{"result":{{"content":[{{"type":"text","text":"{LONG}"}}]}},"jsonrpc":"2.0","id":7}}',
        f'{{"result":{{"content":[{{"type":"text","text":"{LONG}\\"id\\": 9"}}],"x":{{"id":8}}}} , "id" : 7 }} ',
    ],
    ids=["python", "typescript", "ids within"],
)
def test_an_over_long_answer_becomes_a_result_with_the_text_it_begins_with(message: str) -> None:
    cut = cut_result(overlong(message))
    assert cut is not None
    answer = json.loads(cut)
    [content] = answer["result"]["content"]
    assert (answer["id"], set(content["text"])) == (7, {"é"})
    assert answer["result"]["_meta"] == {SIZE_META: len(message.encode())}


@pytest.mark.parametrize("cut_at", range(60, 90))
def test_a_text_is_cut_within_no_escape(cut_at: int) -> None:
    message = (
        '{"jsonrpc":"2.0","id":"a","result":{"content":[{"type":"text","text":"\\u00e9\\n\\"ü' + "x" * 900 + '"}]}}'
    )
    cut = cut_result(overlong(message, cut_at))
    assert cut is not None
    assert json.loads(cut)["id"] == "a"


@pytest.mark.parametrize(
    "message",
    [
        f'{{"jsonrpc":"2.0","method":"notifications/message","params":{{"id":1,"data":"{LONG}"}}}}',
        f'{{"method":"sampling/createMessage","id":1,"params":{{"data":"{LONG}"}}}}',
    ],
)
def test_an_over_long_message_that_is_no_answer_is_not_heard(message: str) -> None:
    assert cut_result(overlong(message)) is None
    assert cut_result(overlong(message), b"1") is None


def test_what_is_no_message_is_not_heard() -> None:
    hearing = Hearing(1000)
    lines = [b"not JSON", b"[1]", b'"text"', b"3", b"{}", b'{"jsonrpc":', b"\xff\xfe", b"\x00"]
    assert [line for line in lines if hearing.heard(line, 0)] == []
    assert hearing.dropped == len(lines)
    assert hearing.heard(b"", 0) is None
    assert hearing.dropped == len(lines)


def test_a_server_is_heard_a_bounded_number_of_times_a_second_and_its_answers_always() -> None:
    hearing = Hearing(1000)
    news = msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/progress"})
    assert sum(hearing.heard(news, 5.1) is not None for _ in range(1000)) == MESSAGES_PER_S
    assert hearing.heard(b'{"id":3,"result":{"method":"x"}}', 5.2)
    assert hearing.heard(news, 6.0)
