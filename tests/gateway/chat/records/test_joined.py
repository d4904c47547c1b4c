"""Turns of one role are one, as they would be if each were added to the one before it."""

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.records.messages import joined


def both(first: Any, second: Any) -> Any:
    if not first or not second:
        return first or second
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    lists = [[{"type": "text", "text": each}] if isinstance(each, str) else each for each in (first, second)]
    return [*lists[0], *lists[1]]


def one_by_one(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    conversation: list[dict[str, object]] = []
    for message in messages:
        last = conversation[-1] if conversation else {}
        if message["role"] != last.get("role") or message["role"] == "tool" or "tool_calls" in last:
            conversation.append(message)
        else:
            conversation[-1] = {**last, **message, "content": both(last["content"], message["content"])}
    return conversation


contents = st.sampled_from(["", "a", "b", None]) | st.lists(st.sampled_from([{"type": "file"}, {"type": "image"}]))
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]), "content": contents},
    optional={"tool_calls": st.just([1]), "signed": st.integers(0, 2)},
)


@given(st.lists(messages, max_size=8))
def test_many_turns_are_joined_as_two_are(turns: list[dict[str, object]]) -> None:
    assert joined(cast("list[dict[str, object]]", turns)) == one_by_one(turns)


def test_a_long_row_of_turns_is_joined_in_one_go() -> None:
    text = "x" * 1000
    [one] = joined([{"role": "user", "content": text} for _ in range(20_000)])
    assert len(cast("str", one["content"])) == 20_000 * 1002 - 2
