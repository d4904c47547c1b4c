"""A chunk of an unusual shape says what a usual one would; what is not known in it is kept."""

import json
from typing import Any

import msgspec
import pytest

from tests.support.completions import END, HELLO, Read, chunk, frames


def raw(text: str) -> bytes:
    return frames(b'{"choices":[{"delta":' + text.encode() + b"}]}")


def spoken(*deltas: object) -> tuple[str, str, str]:
    """Returns what is said, thought and refused."""
    read = Read(*(raw(json.dumps(delta)) for delta in deltas), END)
    assert read.parser.error is None
    said = read.deltas
    return read.text, "".join(d.reasoning_content or "" for d in said), "".join(getattr(d, "refused", "") for d in said)


TEXTS: dict[str, tuple[object, tuple[str, str, str]]] = {
    "Mistral: thinking": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "a"},
            ]
        },
        ("a", "hm", ""),
    ),
    "a list of strings": ({"content": ["a", "b"]}, ("ab", "", "")),
    "one part without a list": ({"content": {"type": "output_text", "text": "a"}}, ("a", "", "")),
    "a text in an object": ({"content": {"text": {"value": "a"}}}, ("a", "", "")),
    "a number": ({"content": 42}, ("42", "", "")),
    "reasoning as an object": ({"reasoning": {"text": "x"}}, ("", "x", "")),
    "reasoning as a list": ({"reasoning_content": [{"type": "reasoning.text", "text": "x"}]}, ("", "x", "")),
    "a refusal beside a text": ({"content": "a", "refusal": "no"}, ("a", "", "no")),
    "a refusal as a part": ({"content": [{"type": "refusal", "refusal": "no"}]}, ("", "", "no")),
    "a delta that is a text": ("a", ("a", "", "")),
    "nothing": ({"content": False, "reasoning": [], "tool_calls": {}, "role": 7}, ("", "", "")),
}


@pytest.mark.parametrize(("delta", "texts"), TEXTS.values(), ids=TEXTS)
def test_a_text_is_read_from_any_type(delta: object, texts: tuple[str, str, str]) -> None:
    assert spoken(delta) == texts


HALVES: dict[str, tuple[list[str], str]] = {
    "joined": (['{"content":"a\\ud83d"}', '{"content":"\\ude00b"}'], "a\U0001f600b"),
    "joined over a chunk that says nothing": (
        ['{"content":"\\ud83d"}', '{"role":"assistant"}', '{"content":"\\ude00"}'],
        "\U0001f600",
    ),
    "joined letter by letter": (
        ['{"content":"\\ud83d"}', '{"content":"\\ude00\\ud83d"}', '{"content":"\\ude00"}'],
        "😀😀",
    ),
    "the second half alone": (['{"content":"\\ude00b"}'], "\ufffdb"),
    "followed by another text": (['{"content":"a\\ud83d"}', '{"content":"b"}'], "a\ufffdb"),
    "never joined": (['{"content":"a\\ud83d"}'], "a\ufffd"),
    "two first halves": (['{"content":"\\ud83d"}', '{"content":"\\ud83d\\ude00"}'], "\ufffd😀"),
}


@pytest.mark.parametrize(
    "end", [END, frames(chunk(finish="stop")), b"data: [DONE]", b""], ids=["both", "word", "mark", "cut"]
)
@pytest.mark.parametrize(("deltas", "text"), HALVES.values(), ids=HALVES)
def test_halves_of_a_pair_are_joined_or_replaced(deltas: list[str], text: str, end: bytes) -> None:
    read = Read(*map(raw, deltas), end)
    assert read.text == text
    assert read.parser.complete == bool(end)


def test_halves_are_joined_in_arguments_and_thoughts_too() -> None:
    pieces = ['{"a":"\ud83d', '\ude00"}']
    calls = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    read = Read(*(raw(json.dumps(call)) for call in calls), END)
    assert (
        "".join(d.tool_calls[0].function.arguments or "" for d in read.deltas if d.tool_calls) == '{"a":"\U0001f600"}'
    )
    assert spoken({"reasoning": "\ud83d"}, {"content": "x"}, {"reasoning": "\ude00"})[1] == "\U0001f600"


USAGE: dict[str, tuple[object, tuple[int, int] | None]] = {
    "floats": ({"prompt_tokens": 11.0, "completion_tokens": 7.0}, (11, 7)),
    "texts": ({"prompt_tokens": "11", "completion_tokens": "7"}, (11, 7)),
    "Anthropic's names": ({"input_tokens": 11, "output_tokens": 7, "total_tokens": "x"}, (11, 7)),
    "odd details": ({"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": [1]}, (11, 7)),
    "a fraction": ({"prompt_tokens": 11.5, "completion_tokens": 7}, None),
    "less than nothing": ({"prompt_tokens": -1, "completion_tokens": 7}, None),
    "more than can be": ({"prompt_tokens": 1e300, "completion_tokens": 7}, None),
    "one of two": ({"prompt_tokens": 11}, None),
    "booleans": ({"prompt_tokens": True, "completion_tokens": True}, None),
    "a list": ([], None),
    "a text": ("11", None),
}


@pytest.mark.parametrize(("usage", "figures"), USAGE.values(), ids=USAGE)
def test_usage_is_read_from_any_shape_or_left_out(usage: object, figures: tuple[int, int] | None) -> None:
    read = Read(HELLO, frames(chunk(finish="stop", usage=usage)))
    assert (read.text, read.parser.error) == ("Hello", None)
    got = read.parser.usage
    assert (got and (got.prompt_tokens, got.completion_tokens)) == figures


@pytest.mark.parametrize(
    "last",
    [
        b'{"choices":[{"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":1,"completion_tokens":2}}]}',
        b'{"choices":[],"x_groq":{"usage":{"prompt_tokens":1,"completion_tokens":2}}}',
    ],
    ids=["Moonshot: in the choice", "Groq: in x_groq"],
)
def test_usage_is_found_where_providers_put_it(last: bytes) -> None:
    usage = Read(HELLO + frames(last) + END).parser.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (1, 2)


def test_figures_that_came_are_kept_when_later_ones_are_empty() -> None:
    read = Read(HELLO, frames(chunk(usage={"prompt_tokens": 1, "completion_tokens": 2}), chunk(usage={})), END)
    assert read.parser.usage is not None
    assert read.parser.usage.prompt_tokens == 1


CALLS: dict[str, tuple[Any, tuple[int | None, str | None, str | None, str | None]]] = {
    "no index": ({"id": "c", "function": {"name": "f", "arguments": "{}"}}, (None, "c", "f", "{}")),
    "an index of null": ({"index": None, "function": {"name": "f"}}, (None, None, "f", None)),
    "an index as text": ({"index": "1", "function": {"name": "f"}}, (1, None, "f", None)),
    "an index as a float": ({"index": 1.0, "function": {"name": "f"}}, (1, None, "f", None)),
    "an id as a number": ({"id": 7, "function": {"name": "f"}}, (None, "7", "f", None)),
    "an object": ({"function": {"name": "f", "arguments": {"a": 1}}}, (None, None, "f", '{"a":1}')),
    "no function": ({"name": "f", "arguments": "{}"}, (None, None, "f", "{}")),
    "Anthropic's input": ({"id": "c", "name": "f", "input": {"a": 1}}, (None, "c", "f", '{"a":1}')),
    "a name that is none": ({"function": {"name": 7, "arguments": "{}"}}, (None, None, None, "{}")),
}


@pytest.mark.parametrize(("call", "fields"), CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_call_is_read_from_any_shape(call: object, fields: tuple[object, ...], is_listed: bool) -> None:
    [delta] = Read(raw(json.dumps({"tool_calls": [call] if is_listed else call}))).deltas
    [piece] = delta.tool_calls
    assert (piece.index, piece.id, piece.function.name, piece.function.arguments) == fields


def test_what_is_not_known_is_kept_at_its_place() -> None:
    read = Read(
        frames(
            b'{"choices":[{"delta":{"content":"x","images":[1]},"logprobs":{"content":[{"token":"x"}]}}],"citations":["u"]}'
        ),
        END,
    )
    unknown = msgspec.json.decode(read.deltas[0].unknown)
    assert unknown == {"images": [1], "choice": {"logprobs": {"content": [{"token": "x"}]}}}
    assert json.loads(bytes(read.parser.facts["citations"])) == ["u"]


@pytest.mark.parametrize("bad", [b'"\\ud83d"', b'"\xff"', b"NaN", b"[NaN,1e999]", b"123456789012345678901234567890"])
def test_what_no_client_could_read_is_made_readable(bad: bytes) -> None:
    read = Read(frames(b'{"choices":[{"delta":{"content":"x","y":%b},"z":%b}],"w":%b}' % (bad, bad, bad)), END)
    assert (read.text, read.parser.error) == ("x", None)
    for text in (bytes(read.deltas[0].unknown), msgspec.json.encode(read.parser.facts)):
        json.loads(text.decode(), parse_constant=pytest.fail)
