"""The fake toolbox remembers calls, and counts effects as a server would that honours keys."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from msgspec import Raw

from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.chat.tools.toolbox import ToolResult, tool_digest
from gateway.errors import ToolError, ToolUnreachable

REFUND = fake_tool("shop__refund", effect="idempotent")
ORDER = fake_tool("shop__order")
FIND = fake_tool("shop__find", effect="read", approve="auto")


async def echo(call: FakeCall) -> object:
    return {"echo": call.argument("text")}


async def fail_after_the_effect(call: FakeCall) -> object:
    call.act()
    raise ToolError


async def call(toolbox: FakeToolbox, name: str, key: str = "r1:k1", told: Callable[[Raw], None] = print) -> ToolResult:
    tool = next(tool for tool in (REFUND, ORDER, FIND) if tool.name == name)
    return await toolbox.call(tool, Raw(b'{"text":"hi"}'), key=key, sub="alice", on_progress=told)


def test_a_call_is_answered_and_remembered() -> None:
    toolbox = FakeToolbox((FIND, echo))
    result = asyncio.run(call(toolbox, "shop__find"))
    assert (bytes(result.output), result.error_text) == (b'{"echo":"hi"}', "")
    assert toolbox.keys == ["r1:k1"]
    assert toolbox.calls[0].sub == "alice"


@pytest.mark.parametrize(("name", "effects"), [("shop__refund", 1), ("shop__order", 2), ("shop__find", 0)])
def test_a_call_made_again_with_its_key_has_the_effects_that_it_says(name: str, effects: int) -> None:
    async def twice() -> int:
        toolbox = FakeToolbox((REFUND, fail_after_the_effect), (ORDER, fail_after_the_effect), (FIND, echo))
        for _ in range(2):
            await asyncio.gather(call(toolbox, name), return_exceptions=True)
        return toolbox.effects["r1:k1"]

    assert asyncio.run(twice()) == effects


def test_a_tool_that_is_withdrawn_or_changed_is_seen_to_be() -> None:
    toolbox = FakeToolbox((ORDER, echo), (FIND, echo))
    toolbox.offer(fake_tool("shop__order", parameters={"type": "object", "required": ["text"]}))
    toolbox.withdraw("shop__find")
    (changed,) = toolbox.offered()
    assert changed.digest != ORDER.digest
    with pytest.raises(ToolUnreachable):
        asyncio.run(call(toolbox, "shop__find"))
    assert toolbox.calls == []


def test_progress_is_told() -> None:
    async def work(call: FakeCall) -> ToolResult:
        call.progress(1, 2, "half")
        return ToolResult(output=Raw(b'"no"'), error_text="not today")

    told: list[Raw] = []
    result = asyncio.run(call(FakeToolbox((FIND, work)), "shop__find", told=told.append))
    assert [msgspec.json.decode(one) for one in told] == [{"progress": 1, "total": 2, "message": "half"}]
    assert result.error_text == "not today"


def test_a_call_made_twice_at_once_is_found_out() -> None:
    async def both(work: Callable[[FakeCall], Awaitable[object]]) -> None:
        toolbox = FakeToolbox((ORDER, work))
        async with asyncio.timeout(5):
            await asyncio.gather(call(toolbox, "shop__order"), call(toolbox, "shop__order"))

    with pytest.raises(AssertionError, match="two calls at once"):
        asyncio.run(both(echo))


def test_a_digest_is_of_what_a_schema_says_and_not_of_how_it_is_written() -> None:
    schema, spaced = Raw(b'{"type":"object","properties":{}}'), Raw(b'{"properties": {}, "type": "object"}')
    assert tool_digest("a", "b", schema) == tool_digest("a", "b", spaced)
    others = [tool_digest(*one) for one in (("b", "b", schema), ("a", "", schema), ("a", "b", Raw(b"{}")))]
    assert len({tool_digest("a", "b", schema), *others}) == 4
