"""What an agent of AG-UI asks becomes a question about its call, or one that is a call of its own."""

import json
from typing import Any

import pytest

from tests.gateway.chat.agents.streams import DONE, RUN_ID, agui, called, result, said


def interrupted(*interrupts: dict[str, Any]) -> dict[str, Any]:
    return {**DONE, "outcome": {"type": "interrupt", "interrupts": list(interrupts)}}


def test_a_question_about_a_call_goes_with_the_agents_id_of_it() -> None:
    play = agui(
        *called("c1", "pay", '{"n":1}'), done=interrupted({"id": "i1", "reason": "tool_call", "toolCallId": "c1"})
    )
    assert play.end == "finish tool-calls"
    asked = f"ap-{RUN_ID}-1"
    told = {"type": "data-approval", "id": asked, "data": {"toolCallId": "c1", "state": "requested"}}
    assert play.records[-2:] == [{"type": "tool-approval-request", "approvalId": asked, "toolCallId": "c1"}, told]
    [part, shown] = play.parts
    assert shown == told
    assert (part["state"], part["callProviderMetadata"]) == ("approval-requested", {"agent": {"interruptId": "i1"}})


def test_a_question_about_no_call_is_a_call_of_its_own() -> None:
    schema = {"type": "object"}
    question = {"id": "i1", "reason": "input", "message": "Which?", "responseSchema": schema, "metadata": {"a": 1}}
    play = agui(*said("m1", "a"), done=interrupted(question, {"id": "i2", "reason": "x", "toolCallId": "unknown"}))
    first, second = play.writer.asks
    assert (first.kind, first.message, json.loads(bytes(first.response_schema))) == ("input", "Which?", schema)  # pyright: ignore[reportArgumentType]
    assert (second.approval_id, second.interrupt_id) == (f"ap-{RUN_ID}-2", "i2")
    part = play.parts[1]
    assert (part["type"], part["input"]) == ("tool-interrupt", {"message": "Which?", "metadata": {"a": 1}})


@pytest.mark.parametrize(
    ("came", "expected"),
    [
        ([], ["dynamic-tool", "step-start", "tool-interrupt", "tool-interrupt"]),
        ([result("c1", "paid")], ["dynamic-tool", "step-start", "tool-interrupt", "tool-interrupt"]),
        (said("m1", "a"), ["dynamic-tool", "text", "step-start", "tool-interrupt", "tool-interrupt"]),
    ],
)
def test_questions_about_no_call_stand_in_a_step_without_calls_that_wait(
    came: list[dict[str, Any]], expected: list[str]
) -> None:
    """Clients of the AI SDK post the answer only when every call of the last step has its own."""
    asked = interrupted({"id": "i1", "reason": "x"}, {"id": "i2", "reason": "x"})
    play = agui(*called("c1", "pay", "{}"), *came, done=asked)
    assert [part["type"] for part in play.parts if part["type"] != "data-approval"] == expected
