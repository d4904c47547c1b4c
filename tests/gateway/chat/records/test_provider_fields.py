"""What a provider added to an answer goes back to it with the next request, and nothing that is not its own."""

from typing import Any

import msgspec
import pytest

from gateway.chat.records.messages import to_upstream
from gateway.chat.records.provider_fields import SIGNED, by_provider
from tests.support.chats import answer, message, tool


def said(**fields: Any) -> dict[str, Any]:
    return {"up": fields}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], {}),
        (
            [said(reasoning_details=[1]), said(reasoning_details=[2], signature="s")],
            said(reasoning_details=[1, 2], signature="s"),
        ),
        ([said(a=1), {"other": {"b": 2}}], {"up": {"a": 1}, "other": {"b": 2}}),
        ([said(choice={"logprobs": 1}, content_parts=[1], refusal=True)], {}),
        ([{"openai": {"itemId": "i", "reasoningEncryptedContent": "e"}}], {}),
        ([said(audio={"id": "au", "data": "AAAA", "transcript": "Hi"})], said(audio={"id": "au"})),
        ([{"up": 7}], {}),
        ([{}], {}),
    ],
)
def test_fields_of_a_message_are_kept_by_provider(pieces: list[Any], expected: dict[str, Any]) -> None:
    assert by_provider([msgspec.Raw(msgspec.json.encode(piece)) for piece in pieces]) == expected


def test_each_step_of_an_answer_has_the_fields_that_came_in_it() -> None:
    parts = [
        {"type": "step-start"},
        {"type": "reasoning", "text": "hm", "providerMetadata": said(reasoning_details=["first"])},
        tool("c1", "f", "output-available", input={}, output=1),
        {"type": "step-start"},
        {"type": "text", "text": "done", "providerMetadata": said(annotations=["second"])},
        {"type": "data-provider", "data": said(reasoning_details=["third"])},
    ]
    called, _, spoken = to_upstream([message("m", "assistant", *parts)])
    assert called[SIGNED] == said(reasoning_details=["first"])
    assert spoken[SIGNED] == said(annotations=["second"], reasoning_details=["third"])


def test_an_answer_to_which_nothing_was_added_is_sent_as_before() -> None:
    [spoken] = to_upstream([answer("m", "a")])
    assert spoken == {"role": "assistant", "content": "a"}
